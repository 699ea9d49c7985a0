//! The artefacts: `receipt.json` for each transition of a watch, `settled.json` for its outcome (DESIGN §4).
//!
//! They hold chain facts, the watch's own terms and binding, and nothing that two engines which know the same facts could
//! disagree about: no wall-clock time but the deadline, no head, no sequence of the log.

use crate::canonical::Json;
use crate::changes::EventKind;
use crate::descriptor::Derived;
use crate::heads::Heads;
use crate::id::{Address, BlockRef};
use crate::input::{Execution, Place, Transfer, TxFact, Verification};
use crate::proof;
use crate::request::{AmountRule, AtDeadline, Binding, Depth, Expiry, Subject, Tag, Terms};
use crate::watch::{Candidate, Outcome, Reason, Watch};

/// The version of both artefact formats; it stands in each artefact.
pub const ARTEFACT_VERSION: u64 = 1;

/// What a receipt tells beside the watch itself.
#[derive(Clone, Debug, Default)]
pub struct Detail<'a> {
    /// The transaction that it is about.
    pub candidate: Option<&'a Candidate>,
    /// The block that the transaction left.
    pub left: Option<BlockRef>,
    /// The depth reached.
    pub depth: Option<u64>,
    /// The transaction that was replaced.
    pub replaces: Option<String>,
    /// The transfers it is about, where those are not the claimed ones.
    pub transfers: Option<Vec<&'a Transfer>>,
}

/// A fact that proves an outcome, where the transfers alone don't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A block of the chain, deep enough, states a later time than the authorization allows.
    BlockTime {
        /// That block.
        block: BlockRef,
        /// The time it states, ms.
        time_ms: u64,
    },
    /// A block of the chain, final, after which the transaction can be included no more.
    Expired {
        /// That block.
        block: BlockRef,
    },
    /// A transaction of the chain, deep enough.
    Transaction,
    /// The deadline itself.
    Deadline,
    /// The client's word.
    Request,
}

/// `receipt.json` for one transition.
pub fn receipt(watch: &Watch, kind: EventKind, detail: &Detail<'_>) -> Json {
    let mut json = envelope(watch, "receipt");
    let Json::Object(members) = &mut json else { return json };
    let transaction = detail.candidate.map(|candidate| transaction(watch, candidate, detail));
    let tells_block = matches!(kind, EventKind::Included | EventKind::Late);
    let proofs = detail.candidate.filter(|_| tells_block).and_then(|candidate| proof::of(watch, candidate));
    let proofs = proofs.map(|proof| Json::List(vec![proof]));
    let extra = Json::object([
        ("event", Json::text(kind.as_str())),
        ("state", Json::text(watch.state().as_str())),
        ("transaction", transaction.unwrap_or(Json::Null)),
        ("depth", detail.depth.map_or(Json::Null, Json::Int)),
        ("leftBlock", detail.left.as_ref().map_or(Json::Null, block)),
        ("replaces", Json::maybe(detail.replaces.as_ref())),
        ("received", Json::text(watch.claimed_total().to_string())),
        ("proofs", proofs.unwrap_or(Json::Null)),
    ]);
    if let Json::Object(extra) = extra {
        members.extend(extra);
    }
    json
}

/// `settled.json`: the outcome, what counted towards it, and what proves it.
pub fn settlement(
    watch: &Watch,
    outcome: &Outcome,
    evidence: &Evidence,
    deciding: Option<&Candidate>,
    heads: &Heads,
) -> Json {
    let mut json = envelope(watch, "settlement");
    let Json::Object(members) = &mut json else { return json };
    let (reason, by) = match outcome {
        Outcome::Failed(reason) => (Json::text(reason.as_str()), named(reason)),
        Outcome::Partial => (Json::text("underpaid"), Json::Null),
        Outcome::Success => (Json::Null, Json::Null),
    };
    let paid = !matches!(outcome, Outcome::Failed(_));
    let transfers = if paid { counted(watch) } else { Json::Null };
    let deciding = deciding.filter(|_| !paid);
    let counted_from =
        watch.candidates.iter().filter(|candidate| paid && candidate.claimed_transfers().next().is_some());
    let proofs = proof::of_settlement(watch, counted_from.chain(deciding), heads);
    let extra = Json::object([
        ("event", Json::text(EventKind::Settled.as_str())),
        ("state", Json::text("settled")),
        ("outcome", Json::text(outcome.as_str())),
        ("reason", reason),
        ("by", by),
        ("received", Json::text(watch.received.to_string())),
        ("transfers", transfers),
        ("transaction", deciding.map_or(Json::Null, |candidate| transaction(watch, candidate, &Detail::default()))),
        ("evidence", evidence_json(evidence)),
        ("fx", texts(&watch.request.binding.fx)),
        ("proofs", proofs.unwrap_or(Json::Null)),
    ]);
    if let Json::Object(extra) = extra {
        members.extend(extra);
    }
    json
}

/// A request, as artefacts repeat it; also what a watch's id is the digest of.
pub fn request(network: &str, subject_and_terms: (&Subject, &Terms), binding_: &Binding) -> Json {
    let (subject_, terms_) = subject_and_terms;
    Json::object([
        ("network", Json::text(network)),
        ("subject", subject(subject_)),
        ("terms", terms(terms_)),
        ("binding", binding(binding_)),
    ])
}

fn envelope(watch: &Watch, artefact: &str) -> Json {
    let asked = &watch.request;
    Json::object([
        ("artefact", Json::text(artefact)),
        ("version", Json::Int(ARTEFACT_VERSION)),
        ("watch", Json::text(watch.id.as_str())),
        ("index", Json::Int(u64::from(watch.artefacts) + 1)),
        ("previous", Json::maybe(watch.last_hash.map(hex::encode))),
        ("network", Json::text(asked.network.as_str())),
        ("subject", subject(&asked.subject)),
        ("terms", terms(&asked.terms)),
        ("binding", binding(&asked.binding)),
    ])
}

fn subject(subject: &Subject) -> Json {
    match subject {
        Subject::Transaction { tx, expiry: ends } => Json::object([
            ("kind", Json::text("transaction")),
            ("tx", Json::text(tx.as_str())),
            ("expiry", ends.as_ref().map_or(Json::Null, expiry)),
        ]),
        Subject::Address => Json::object([("kind", Json::text("address"))]),
        Subject::Descriptor { descriptor, gap_limit } => Json::object([
            ("kind", Json::text("descriptor")),
            ("descriptor", Json::text(descriptor.as_str())),
            ("gapLimit", Json::Int(u64::from(*gap_limit))),
        ]),
        Subject::Authorization { authorizer, nonce, valid_before } => Json::object([
            ("kind", Json::text("authorization")),
            ("authorizer", Json::text(authorizer.as_str())),
            ("nonce", Json::text(nonce.as_str())),
            ("validBeforeMs", valid_before.map_or(Json::Null, |time| Json::Int(time.0))),
        ]),
    }
}

fn expiry(expiry: &Expiry) -> Json {
    match expiry {
        Expiry::Height(height) => Json::object([("height", Json::Int(*height))]),
        Expiry::Nonce { account, value } => {
            Json::object([("nonceAccount", Json::text(account.as_str())), ("nonce", Json::text(value.as_str()))])
        }
    }
}

fn terms(terms: &Terms) -> Json {
    let rule = match terms.amount_rule {
        AmountRule::Exact => "exact",
        AmountRule::AtLeast => "at_least",
        AmountRule::UpTo => "up_to",
    };
    let depth = match terms.depth {
        Depth::Blocks(blocks) => Json::Int(u64::from(blocks)),
        Depth::Tag(tag) => Json::text(tag_word(tag)),
    };
    let at_deadline = match terms.at_deadline {
        AtDeadline::Fail => "fail",
        AtDeadline::Extend => "extend",
    };
    Json::object([
        ("payTo", Json::text(terms.pay_to.as_str())),
        ("asset", Json::text(terms.asset.as_str())),
        ("amount", Json::text(terms.amount.to_string())),
        ("amountRule", Json::text(rule)),
        ("payer", Json::maybe(terms.payer.as_ref())),
        ("depth", depth),
        ("notBeforeMs", terms.not_before.map_or(Json::Null, |time| Json::Int(time.0))),
        ("fromHeight", terms.from_height.map_or(Json::Null, Json::Int)),
        ("deadlineMs", Json::Int(terms.deadline.0)),
        ("atDeadline", Json::text(at_deadline)),
        ("memo", Json::maybe(terms.memo.as_ref())),
        ("references", addresses(&terms.references)),
    ])
}

/// The word for a tag in artefacts and interfaces.
pub fn tag_word(tag: Tag) -> &'static str {
    match tag {
        Tag::Confirmed => "confirmed",
        Tag::Safe => "safe",
        Tag::Finalized => "finalized",
    }
}

fn binding(binding: &Binding) -> Json {
    Json::object([
        ("quoteHash", Json::maybe(binding.quote_hash.as_ref())),
        ("authHash", Json::maybe(binding.auth_hash.as_ref())),
        ("resource", Json::maybe(binding.resource.as_ref())),
        ("labels", texts(&binding.labels)),
    ])
}

fn texts(texts: &std::collections::BTreeMap<String, String>) -> Json {
    if texts.is_empty() {
        return Json::Null;
    }
    Json::Object(texts.iter().map(|(name, value)| (name.clone(), Json::text(value.as_str()))).collect())
}

fn addresses(addresses: &[Address]) -> Json {
    if addresses.is_empty() {
        return Json::Null;
    }
    Json::List(addresses.iter().map(|address| Json::text(address.as_str())).collect())
}

fn block(block: &BlockRef) -> Json {
    Json::object([("height", Json::Int(block.height)), ("hash", Json::text(block.hash.as_str()))])
}

fn transaction(watch: &Watch, candidate: &Candidate, detail: &Detail<'_>) -> Json {
    let fact = &candidate.fact;
    let in_block = match (&fact.place, candidate.placed) {
        (Place::Block { block: b, .. }, true) => block(b),
        _ => Json::Null,
    };
    let moved: Vec<_> = match &detail.transfers {
        Some(transfers) => transfers.iter().map(|moved| transfer(watch, moved)).collect(),
        None => candidate.claimed_transfers().map(|moved| transfer(watch, moved)).collect(),
    };
    Json::object([
        ("tx", Json::text(fact.tx.as_str())),
        ("sender", Json::maybe(fact.sender.as_ref())),
        ("block", in_block),
        ("execution", Json::text(execution(fact))),
        ("verification", verification(&fact.verification)),
        ("transfers", Json::List(moved)),
        ("notes", texts(&fact.notes)),
    ])
}

fn execution(fact: &TxFact) -> &'static str {
    match fact.execution {
        Execution::Unknown => "unknown",
        Execution::Succeeded => "succeeded",
        Execution::Reverted => "reverted",
    }
}

fn verification(verification: &Verification) -> Json {
    match verification {
        Verification::Trie => Json::text("trie"),
        Verification::Quorum { agreed, asked } => Json::text(format!("quorum:{agreed}/{asked}")),
        Verification::Endpoint => Json::text("endpoint"),
    }
}

fn transfer(watch: &Watch, transfer: &Transfer) -> Json {
    let derived = watch.window.as_ref().and_then(|window| window.find(&transfer.to));
    Json::object([
        ("index", Json::Int(u64::from(transfer.index))),
        ("asset", Json::text(transfer.asset.as_str())),
        ("from", Json::maybe(transfer.from.as_ref())),
        ("to", Json::text(transfer.to.as_str())),
        ("path", Json::maybe(derived.map(Derived::path))),
        ("amount", Json::text(transfer.amount.to_string())),
        ("via", Json::text(transfer.via.as_str())),
    ])
}

/// Everything that counted, each transfer with its transaction and its block.
fn counted(watch: &Watch) -> Json {
    let mut all = Vec::new();
    for candidate in &watch.candidates {
        let fact = &candidate.fact;
        let in_block = match &fact.place {
            Place::Block { block: b, .. } => block(b),
            Place::Mempool => Json::Null,
        };
        for moved in candidate.claimed_transfers() {
            let whose = Json::object([
                ("tx", Json::text(fact.tx.as_str())),
                ("verification", verification(&fact.verification)),
                ("block", in_block.clone()),
                ("notes", texts(&fact.notes)),
            ]);
            if let (Json::Object(mut members), Json::Object(whose)) = (transfer(watch, moved), whose) {
                members.extend(whose);
                all.push(Json::Object(members));
            }
        }
    }
    Json::List(all)
}

fn named(reason: &Reason) -> Json {
    match reason {
        Reason::Replaced { by } | Reason::Conflicted { by } => Json::object([("tx", Json::text(by.as_str()))]),
        Reason::AlreadyClaimed { by } => Json::object([("watch", Json::text(by.as_str()))]),
        _ => Json::Null,
    }
}

fn evidence_json(evidence: &Evidence) -> Json {
    match evidence {
        Evidence::BlockTime { block: b, time_ms } => {
            Json::object([("kind", Json::text("block_time")), ("block", block(b)), ("timeMs", Json::Int(*time_ms))])
        }
        Evidence::Expired { block: b } => Json::object([("kind", Json::text("expired")), ("block", block(b))]),
        Evidence::Transaction => Json::object([("kind", Json::text("transaction"))]),
        Evidence::Deadline => Json::object([("kind", Json::text("deadline"))]),
        Evidence::Request => Json::object([("kind", Json::text("request"))]),
    }
}
