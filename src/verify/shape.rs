//! Reads an artefact member by member. What version 1 does not have is refused, so that nothing stands there unchecked.

use std::collections::BTreeMap;

use h402_watch_engine::canonical::Json;
use h402_watch_engine::changes::EventKind;
use h402_watch_engine::id::{Address, AssetId, BlockHash, BlockRef, Timestamp, TxId, WatchId};
use h402_watch_engine::input::{Execution, Transfer, Verification, Via};
use h402_watch_engine::receipt::{self, ARTEFACT_VERSION, Evidence};
use h402_watch_engine::request::{AmountRule, AtDeadline, Binding, Depth, Expiry, Subject, Tag, Terms};
use h402_watch_engine::watch::{Outcome, Reason, State};

use crate::artefact::{Artefact, Counted, Moved, Receipt, Settlement, Told, Tx};
use crate::json::{Object, bytes};
use crate::proof::Proof;
use crate::spelling;
use crate::wrong::{Code, Wrong, ensure};

const EVENTS: [EventKind; 11] = [
    EventKind::Seen,
    EventKind::Accepted,
    EventKind::Included,
    EventKind::Depth,
    EventKind::Orphaned,
    EventKind::Evicted,
    EventKind::Replaced,
    EventKind::Settled,
    EventKind::Late,
    EventKind::Reversed,
    EventKind::Finalized,
];

/// The last place that a watch counts to.
const INDEX_MAX: u64 = 1 << 32;

/// Reads what a JSON value says.
pub(crate) fn read(json: &Json, receipt_hash: String) -> Result<Artefact, Wrong> {
    let mut root = Object::new(json, "")?;
    let is_settlement = kind(&mut root)?;
    let index = root.int("index")?;
    let previous = root.maybe_text("previous")?.map(hash).transpose()?;
    ensure(index <= INDEX_MAX, Code::Shape, || format!("no watch has {index} artefacts"))?;
    ensure(index > 0 && previous.is_some() == (index > 1), Code::Inconsistent, || {
        "artefacts are numbered from 1, and all but the first name the one before".into()
    })?;
    let watch = watch(root.text("watch")?, "watch")?;
    let network = root.text("network")?.to_owned();
    ensure(spelling::is_network(&network), Code::Shape, || "network is not in CAIP-2 form".into())?;
    let asked = (root.take("subject"), root.take("terms"), root.take("binding"));
    let (subject, terms, binding) = request(&network, asked)?;
    let states = [State::Pending, State::Seen, State::Included, State::Settled];
    let state = root.word("state", &states.map(|state| (state.as_str(), state)))?;
    let received = root.amount("received")?;
    let event = root.word("event", &EVENTS.map(|event| (event.as_str(), event)))?;
    let told = if is_settlement {
        ensure(event == EventKind::Settled, Code::Inconsistent, || "a settlement of another event".into())?;
        Told::Settlement(settlement(&mut root)?)
    } else {
        ensure(event != EventKind::Settled, Code::Inconsistent, || "a receipt of a settlement".into())?;
        Told::Receipt(receipt(&mut root, event)?)
    };
    let proofs = match root.maybe_objects("proofs")? {
        None => None,
        Some(proofs) if proofs.is_empty() => {
            return Err(Wrong::new(Code::Shape, "proofs is left out where there are none"));
        }
        Some(proofs) => Some(proofs.into_iter().map(Proof::read).collect::<Result<_, _>>()?),
    };
    root.end()?;
    Ok(Artefact {
        receipt_hash,
        watch,
        index,
        previous,
        network,
        subject,
        terms,
        binding,
        state,
        received,
        told,
        proofs,
    })
}

/// Which artefact this is: whether it is a settlement.
fn kind(root: &mut Object<'_>) -> Result<bool, Wrong> {
    let artefact = root.text("artefact")?;
    let version = root.int("version")?;
    ensure(version == ARTEFACT_VERSION, Code::Version, || format!("version {version} is not known here"))?;
    match artefact {
        "receipt" => Ok(false),
        "settlement" => Ok(true),
        other => Err(Wrong::new(Code::Version, format!("an artefact {other:?} is not known here"))),
    }
}

fn watch(text: &str, name: &str) -> Result<WatchId, Wrong> {
    ensure(spelling::is_watch(text), Code::Shape, || format!("{name} is not w and 32 digits of lower-case hex"))?;
    Ok(WatchId::new(text))
}

fn hash(text: &str) -> Result<String, Wrong> {
    let good = text.len() == 64 && bytes(text).is_some();
    ensure(good, Code::Shape, || "previous is not a SHA-256 digest in lower-case hex".into())?;
    Ok(text.to_owned())
}

type Asked<'a> = (Option<&'a Json>, Option<&'a Json>, Option<&'a Json>);

/// Reads the request that artefacts repeat, and spells it again: what was passed over would differ.
fn request(network: &str, (subject, terms, binding): Asked<'_>) -> Result<(Subject, Terms, Binding), Wrong> {
    let there = |json: Option<&'_ Json>, name: &str| {
        json.cloned().ok_or_else(|| Wrong::new(Code::Shape, format!("{name} is missing")))
    };
    let given = Json::object([
        ("network", Json::text(network)),
        ("subject", there(subject, "subject")?),
        ("terms", there(terms, "terms")?),
        ("binding", there(binding, "binding")?),
    ]);
    let mut root = Object::new(&given, "")?;
    let subject = read_subject(root.object("subject")?)?;
    let terms = read_terms(root.object("terms")?)?;
    let binding = read_binding(root.object("binding")?)?;
    let again = receipt::request(network, (&subject, &terms), &binding);
    ensure(again.to_canonical() == given.to_canonical(), Code::Shape, || {
        "subject, terms and binding hold what artefacts leave out".into()
    })?;
    Ok((subject, terms, binding))
}

fn read_subject(mut object: Object<'_>) -> Result<Subject, Wrong> {
    let subject = match object.text("kind")? {
        "transaction" => {
            let tx = TxId::new(object.name("tx")?);
            Subject::Transaction { tx, expiry: object.maybe_object("expiry")?.map(expiry).transpose()? }
        }
        "address" => Subject::Address,
        "descriptor" => Subject::Descriptor {
            descriptor: object.name("descriptor")?.to_owned(),
            gap_limit: object.small("gapLimit")?,
        },
        "authorization" => Subject::Authorization {
            authorizer: Address::new(object.name("authorizer")?),
            nonce: object.name("nonce")?.to_owned(),
            valid_before: object.maybe_int("validBeforeMs")?.map(Timestamp),
        },
        other => return Err(Wrong::new(Code::Shape, format!("a subject {other:?} is not known here"))),
    };
    object.end()?;
    Ok(subject)
}

fn expiry(mut object: Object<'_>) -> Result<Expiry, Wrong> {
    let expiry = match object.maybe_int("height")? {
        Some(height) => Expiry::Height(height),
        None => Expiry::Nonce {
            account: Address::new(object.name("nonceAccount")?),
            value: object.name("nonce")?.to_owned(),
        },
    };
    object.end()?;
    Ok(expiry)
}

fn read_terms(mut object: Object<'_>) -> Result<Terms, Wrong> {
    let rules = [("exact", AmountRule::Exact), ("at_least", AmountRule::AtLeast), ("up_to", AmountRule::UpTo)];
    let at_deadline = [("fail", AtDeadline::Fail), ("extend", AtDeadline::Extend)];
    let terms = Terms {
        pay_to: Address::new(object.name("payTo")?),
        asset: AssetId::new(object.name("asset")?),
        amount: object.amount("amount")?,
        amount_rule: object.word("amountRule", &rules)?,
        payer: object.maybe_name("payer")?.map(Address::new),
        depth: depth(object.take("depth"))?,
        not_before: object.maybe_int("notBeforeMs")?.map(Timestamp),
        from_height: object.maybe_int("fromHeight")?,
        deadline: Timestamp(object.int("deadlineMs")?),
        at_deadline: object.word("atDeadline", &at_deadline)?,
        memo: object.maybe_text("memo")?.map(str::to_owned),
        references: match object.take("references") {
            None => Vec::new(),
            Some(Json::List(list)) => list.iter().map(reference).collect::<Result<_, _>>()?,
            Some(_) => return Err(Wrong::new(Code::Shape, "terms.references is not a list")),
        },
    };
    object.end()?;
    Ok(terms)
}

fn reference(json: &Json) -> Result<Address, Wrong> {
    match json {
        Json::Text(text) if !text.is_empty() => Ok(Address::new(text.as_str())),
        _ => Err(Wrong::new(Code::Shape, "terms.references holds something else than names")),
    }
}

fn depth(json: Option<&Json>) -> Result<Depth, Wrong> {
    let blocks = |blocks: u64| u32::try_from(blocks).ok().map(Depth::Blocks);
    let tag = |text: &str| {
        let tags = [Tag::Confirmed, Tag::Safe, Tag::Finalized];
        tags.into_iter().find(|tag| receipt::tag_word(*tag) == text).map(Depth::Tag)
    };
    let depth = match json {
        Some(Json::Int(value)) => blocks(*value),
        Some(Json::Text(text)) => tag(text),
        _ => None,
    };
    depth.ok_or_else(|| Wrong::new(Code::Shape, "terms.depth is neither blocks nor one of confirmed, safe, finalized"))
}

fn read_binding(mut object: Object<'_>) -> Result<Binding, Wrong> {
    let binding = Binding {
        quote_hash: object.maybe_name("quoteHash")?.map(str::to_owned),
        auth_hash: object.maybe_name("authHash")?.map(str::to_owned),
        resource: object.maybe_name("resource")?.map(str::to_owned),
        labels: words(&mut object, "labels")?,
        fx: BTreeMap::new(),
    };
    object.end()?;
    Ok(binding)
}

/// An object of texts; left out where it is empty.
fn words(object: &mut Object<'_>, name: &str) -> Result<BTreeMap<String, String>, Wrong> {
    let members = match object.take(name) {
        None => return Ok(BTreeMap::new()),
        Some(Json::Object(members)) if !members.is_empty() => members,
        Some(_) => return Err(Wrong::new(Code::Shape, format!("{name} is no object with members"))),
    };
    let text = |(name, value): &(String, Json)| match value {
        Json::Text(text) => Ok((name.clone(), text.clone())),
        _ => Err(Wrong::new(Code::Shape, format!("{name} is not a text"))),
    };
    members.iter().map(text).collect()
}

fn block(mut object: Object<'_>) -> Result<BlockRef, Wrong> {
    let block = BlockRef { height: object.int("height")?, hash: BlockHash::new(object.name("hash")?) };
    object.end()?;
    Ok(block)
}

fn receipt(root: &mut Object<'_>, event: EventKind) -> Result<Receipt, Wrong> {
    Ok(Receipt {
        event,
        transaction: root.maybe_object("transaction")?.map(transaction).transpose()?,
        depth: root.maybe_int("depth")?,
        left_block: root.maybe_object("leftBlock")?.map(block).transpose()?,
        replaces: root.maybe_name("replaces")?.map(str::to_owned),
    })
}

fn settlement(root: &mut Object<'_>) -> Result<Settlement, Wrong> {
    let outcome = outcome(root)?;
    let transfers = match root.maybe_objects("transfers")? {
        None => Vec::new(),
        Some(_) if matches!(outcome, Outcome::Failed(_)) => {
            return Err(Wrong::new(Code::Inconsistent, "a failure with transfers that counted"));
        }
        Some(transfers) => transfers.into_iter().map(counted).collect::<Result<_, _>>()?,
    };
    let settlement = Settlement {
        outcome,
        transfers,
        transaction: root.maybe_object("transaction")?.map(transaction).transpose()?,
        evidence: evidence(root.object("evidence")?)?,
    };
    words(root, "fx")?;
    Ok(settlement)
}

fn outcome(root: &mut Object<'_>) -> Result<Outcome, Wrong> {
    let outcome = root.text("outcome")?;
    let reason = root.maybe_text("reason")?;
    let by = root.maybe_object("by")?;
    let read = match (outcome, reason, by) {
        ("success", None, None) => Some(Outcome::Success),
        ("partial", Some("underpaid"), None) => Some(Outcome::Partial),
        ("failed", Some(word), Some(by)) => named_reason(word, by)?.map(Outcome::Failed),
        ("failed", Some(word), None) => plain_reason(word).map(Outcome::Failed),
        _ => None,
    };
    read.ok_or_else(|| {
        let reason = reason.unwrap_or("none");
        Wrong::new(Code::Inconsistent, format!("an outcome {outcome:?} has no reason {reason:?}, or not so"))
    })
}

fn plain_reason(word: &str) -> Option<Reason> {
    let all = [
        Reason::DeadlinePassed,
        Reason::Reverted,
        Reason::WrongRecipient,
        Reason::WrongAsset,
        Reason::Underpaid,
        Reason::Overpaid,
        Reason::PayerMismatch,
        Reason::MemoMismatch,
        Reason::ReferenceMissing,
        Reason::TooEarly,
        Reason::Expired,
        Reason::Cancelled,
    ];
    all.into_iter().find(|reason| reason.as_str() == word)
}

/// A reason that names who is to blame.
fn named_reason(word: &str, mut by: Object<'_>) -> Result<Option<Reason>, Wrong> {
    let reason = match word {
        "replaced" => Reason::Replaced { by: TxId::new(by.name("tx")?) },
        "conflicted" => Reason::Conflicted { by: TxId::new(by.name("tx")?) },
        "already_claimed" => Reason::AlreadyClaimed { by: watch(by.text("watch")?, "by.watch")? },
        _ => return Ok(None),
    };
    by.end()?;
    Ok(Some(reason))
}

fn evidence(mut object: Object<'_>) -> Result<Evidence, Wrong> {
    let evidence = match object.text("kind")? {
        "block_time" => Evidence::BlockTime { block: block(object.object("block")?)?, time_ms: object.int("timeMs")? },
        "expired" => Evidence::Expired { block: block(object.object("block")?)? },
        "transaction" => Evidence::Transaction,
        "deadline" => Evidence::Deadline,
        "request" => Evidence::Request,
        other => return Err(Wrong::new(Code::Shape, format!("evidence {other:?} is not known here"))),
    };
    object.end()?;
    Ok(evidence)
}

fn transaction(mut object: Object<'_>) -> Result<Tx, Wrong> {
    let executions =
        [("unknown", Execution::Unknown), ("succeeded", Execution::Succeeded), ("reverted", Execution::Reverted)];
    let mut transfers = Vec::new();
    for mut transfer in
        object.maybe_objects("transfers")?.ok_or_else(|| Wrong::new(Code::Shape, "transaction.transfers is missing"))?
    {
        transfers.push(moved(&mut transfer)?);
        transfer.end()?;
    }
    let tx = Tx {
        tx: object.name("tx")?.to_owned(),
        sender: object.maybe_name("sender")?.map(str::to_owned),
        block: object.maybe_object("block")?.map(block).transpose()?,
        execution: object.word("execution", &executions)?,
        verification: verification(&mut object)?,
        transfers,
        notes: words(&mut object, "notes")?,
    };
    object.end()?;
    Ok(tx)
}

fn verification(object: &mut Object<'_>) -> Result<Verification, Wrong> {
    let text = object.text("verification")?;
    let quorum = || {
        let (agreed, asked) = text.strip_prefix("quorum:")?.split_once('/')?;
        let (agreed, asked) = (number(agreed)?, number(asked)?);
        (1 <= agreed && agreed <= asked).then_some(Verification::Quorum { agreed, asked })
    };
    let read = match text {
        "trie" => Some(Verification::Trie),
        "endpoint" => Some(Verification::Endpoint),
        _ => quorum(),
    };
    read.ok_or_else(|| Wrong::new(Code::Shape, "verification is not one of trie, endpoint, quorum:agreed/asked"))
}

/// A number as it is spelled in texts.
fn number(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().filter(|value| value.to_string() == text)
}

fn counted(mut object: Object<'_>) -> Result<Counted, Wrong> {
    let counted = Counted {
        moved: moved(&mut object)?,
        tx: object.name("tx")?.to_owned(),
        block: block(object.object("block")?)?,
        verification: verification(&mut object)?,
        notes: words(&mut object, "notes")?,
    };
    object.end()?;
    Ok(counted)
}

fn moved(object: &mut Object<'_>) -> Result<Moved, Wrong> {
    let ways = [Via::Value, Via::Log, Via::Trace, Via::Balance];
    let transfer = Transfer {
        index: object.small("index")?,
        asset: AssetId::new(object.name("asset")?),
        from: object.maybe_name("from")?.map(Address::new),
        to: Address::new(object.name("to")?),
        amount: object.amount("amount")?,
        via: object.word("via", &ways.map(|via| (via.as_str(), via)))?,
    };
    let path = match object.maybe_text("path")? {
        None => None,
        Some(text) => {
            let path = text.split_once('/').and_then(|(branch, index)| Some((number(branch)?, number(index)?)));
            Some(path.ok_or_else(|| Wrong::new(Code::Shape, "path is not branch/index"))?)
        }
    };
    Ok(Moved { transfer, path })
}
