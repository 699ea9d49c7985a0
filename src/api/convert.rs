//! Proto messages ↔ engine types. Nothing else sees proto types.

use std::collections::{BTreeMap, HashMap};

use h402_watch_engine::amount::Amount;
use h402_watch_engine::changes::Event;
use h402_watch_engine::id::{Address, BlockRef, Timestamp, TxId};
use h402_watch_engine::input::{Execution, Place};
use h402_watch_engine::request::{
    AmountRule, AtDeadline, Binding, Depth, Expiry, Report, Subject, Tag, Terms, WatchRequest,
};
use h402_watch_engine::watch::{Candidate, Outcome, Reason, State, Watch};
use h402_watch_proto::v1;
use prost::Message as _;

use crate::chain::HealthState;
use crate::driver::{NetworkView, Refusal};

/// The longest text of a binding or an idempotency key, bytes.
const TEXT_MAX: usize = 256;
/// The longest resource, bytes: a URL.
const RESOURCE_MAX: usize = 2048;
/// The longest identifier of a chain, bytes.
const ID_MAX: usize = 256;
/// The longest memo, bytes: what fits into a transaction of Solana.
const MEMO_MAX: usize = 566;
/// The most references.
const REFERENCES_MAX: usize = 8;
/// The longest descriptor, bytes.
const DESCRIPTOR_MAX: usize = 4096;
/// The gap limit of a descriptor where none is given: that of BIP 44.
const GAP_LIMIT_DEFAULT: u32 = 20;
/// The largest binding, bytes.
const BINDING_MAX: usize = 4096;
/// The most labels or rates.
const LABELS_MAX: usize = 32;

/// The request that a message makes; chain-specific texts are checked later, by the network's own rules.
///
/// # Errors
/// If a field does not hold what it must; it is named by its path below the message.
pub fn request_of(spec: v1::WatchSpec) -> Result<WatchRequest, Refusal> {
    let terms = spec.terms.ok_or_else(|| Refusal::invalid("terms", "what the payment must meet"))?;
    let subject = spec
        .subject
        .ok_or_else(|| Refusal::invalid("subject", "a transaction, an address, an authorization or a descriptor"))?;
    let subject = subject_of(subject)?;
    let report = match enum_of("report", spec.report)? {
        v1::Report::Unspecified | v1::Report::Milestones => Report::Milestones,
        v1::Report::EveryDepth => Report::EveryDepth,
    };
    Ok(WatchRequest {
        network: required("network", spec.network)?.into(),
        terms: terms_of(terms, &subject)?,
        subject,
        binding: binding_of(spec.binding.unwrap_or_default())?,
        idempotency_key: optional("idempotency_key", spec.idempotency_key, TEXT_MAX)?,
        report,
        proofs: spec.proofs,
    })
}

fn subject_of(subject: v1::watch_spec::Subject) -> Result<Subject, Refusal> {
    use v1::watch_spec::Subject as Spec;
    Ok(match subject {
        Spec::Transaction(transaction) => Subject::Transaction {
            tx: required("transaction.tx", transaction.tx.clone())?.into(),
            expiry: expiry_of(transaction)?,
        },
        Spec::Address(_) => Subject::Address,
        Spec::Authorization(authorization) => Subject::Authorization {
            authorizer: required("authorization.authorizer", authorization.authorizer)?.into(),
            nonce: required("authorization.nonce", authorization.nonce)?,
            valid_before: time(authorization.valid_before_ms),
        },
        Spec::OutputDescriptor(v1::DescriptorSubject { text, gap_limit }) => {
            let text = optional("output_descriptor.text", text, DESCRIPTOR_MAX)?;
            let descriptor = text.ok_or_else(|| Refusal::invalid("output_descriptor.text", "a value"))?;
            Subject::Descriptor { descriptor, gap_limit: if gap_limit == 0 { GAP_LIMIT_DEFAULT } else { gap_limit } }
        }
    })
}

fn expiry_of(transaction: v1::TransactionSubject) -> Result<Option<Expiry>, Refusal> {
    let account = optional("transaction.nonce_account", transaction.nonce_account, ID_MAX)?;
    let nonce = optional("transaction.nonce", transaction.nonce, ID_MAX)?;
    match (transaction.last_valid_height, account, nonce) {
        (height, None, None) => Ok(height.map(Expiry::Height)),
        (None, Some(account), Some(value)) => Ok(Some(Expiry::Nonce { account: account.into(), value })),
        (Some(_), ..) => {
            let expected = "nothing: a transaction with a durable nonce does not expire at a height";
            Err(Refusal::invalid("transaction.last_valid_height", expected))
        }
        (None, None, _) => Err(Refusal::invalid("transaction.nonce_account", "the account that holds the nonce")),
        (None, _, None) => Err(Refusal::invalid("transaction.nonce", "the nonce that the transaction was signed with")),
    }
}

fn references_of(references: Vec<String>) -> Result<Vec<Address>, Refusal> {
    if references.len() > REFERENCES_MAX {
        return Err(Refusal::invalid("terms.references", format!("at most {REFERENCES_MAX} addresses")));
    }
    let reference = |text| required("terms.references", text).map(Address::from);
    references.into_iter().map(reference).collect()
}

fn terms_of(terms: v1::Terms, subject: &Subject) -> Result<Terms, Refusal> {
    let depth = match terms.depth {
        None => return Err(Refusal::invalid("terms.depth", "a number of blocks, or a finality tag")),
        Some(v1::terms::Depth::DepthBlocks(blocks)) => Depth::Blocks(blocks),
        Some(v1::terms::Depth::DepthTag(tag)) => Depth::Tag(match enum_of("terms.depth_tag", tag)? {
            v1::FinalityTag::Unspecified => return Err(Refusal::invalid("terms.depth_tag", "a tag")),
            v1::FinalityTag::Confirmed => Tag::Confirmed,
            v1::FinalityTag::Safe => Tag::Safe,
            v1::FinalityTag::Finalized => Tag::Finalized,
        }),
    };
    let amount_rule = match enum_of("terms.amount_rule", terms.amount_rule)? {
        v1::AmountRule::Exact => AmountRule::Exact,
        v1::AmountRule::Unspecified | v1::AmountRule::AtLeast => AmountRule::AtLeast,
        v1::AmountRule::UpTo => AmountRule::UpTo,
    };
    let at_deadline = match enum_of("terms.at_deadline", terms.at_deadline)? {
        v1::AtDeadline::Unspecified | v1::AtDeadline::Fail => AtDeadline::Fail,
        v1::AtDeadline::Extend => AtDeadline::Extend,
    };
    let amount: Amount = terms.amount.parse().map_err(|error: h402_watch_engine::amount::AmountError| {
        let text = error.to_string();
        Refusal::invalid("terms.amount", text.strip_prefix("expected ").unwrap_or(&text))
    })?;
    let deadline =
        time(terms.deadline_ms).ok_or_else(|| Refusal::invalid("terms.deadline_ms", "a time in the future"))?;
    let asset = if terms.asset.is_empty() { "native".into() } else { required("terms.asset", terms.asset)? };
    let pay_to = match subject {
        Subject::Descriptor { .. } if !terms.pay_to.is_empty() => {
            return Err(Refusal::invalid("terms.pay_to", "nothing: the descriptor says who must receive it"));
        }
        // The network's rules repeat the descriptor here, once it is spelled.
        Subject::Descriptor { .. } => String::new(),
        _ => required("terms.pay_to", terms.pay_to)?,
    };
    Ok(Terms {
        pay_to: pay_to.into(),
        asset: asset.into(),
        amount,
        amount_rule,
        payer: optional("terms.payer", terms.payer, ID_MAX)?.map(Into::into),
        depth,
        not_before: time(terms.not_before_ms),
        from_height: terms.from_height,
        deadline,
        at_deadline,
        memo: optional("terms.memo", terms.memo, MEMO_MAX)?,
        references: references_of(terms.references)?,
    })
}

fn binding_of(binding: v1::Binding) -> Result<Binding, Refusal> {
    // It is repeated in each artefact, and a page of those has to fit into a message.
    if binding.encoded_len() > BINDING_MAX {
        return Err(Refusal::invalid("binding", format!("at most {BINDING_MAX} bytes all told")));
    }
    Ok(Binding {
        quote_hash: optional("binding.quote_hash", binding.quote_hash, TEXT_MAX)?,
        auth_hash: optional("binding.auth_hash", binding.auth_hash, TEXT_MAX)?,
        resource: optional("binding.resource", binding.resource, RESOURCE_MAX)?,
        labels: texts("binding.labels", binding.labels)?,
        fx: texts("binding.fx", binding.fx)?,
    })
}

fn texts(field: &str, texts: HashMap<String, String>) -> Result<BTreeMap<String, String>, Refusal> {
    if texts.len() > LABELS_MAX {
        return Err(Refusal::invalid(field, format!("at most {LABELS_MAX} entries")));
    }
    let fits = |text: &String| text.len() <= TEXT_MAX;
    match texts.iter().find(|(name, value)| name.is_empty() || !fits(name) || !fits(value)) {
        Some(_) => {
            Err(Refusal::invalid(field, format!("names of 1 to {TEXT_MAX} bytes and values of at most {TEXT_MAX}")))
        }
        None => Ok(texts.into_iter().collect()),
    }
}

fn required(field: &str, text: String) -> Result<String, Refusal> {
    optional(field, text, ID_MAX)?.ok_or_else(|| Refusal::invalid(field, "a value"))
}

fn optional(field: &str, text: String, max: usize) -> Result<Option<String>, Refusal> {
    if text.len() > max {
        return Err(Refusal::invalid(field, format!("at most {max} bytes")));
    }
    // Texts become keys of the store, which ends them with a zero byte.
    if text.contains('\0') {
        return Err(Refusal::invalid(field, "text without zero bytes"));
    }
    Ok((!text.is_empty()).then_some(text))
}

fn enum_of<T: TryFrom<i32>>(field: &str, value: i32) -> Result<T, Refusal> {
    T::try_from(value).map_err(|_| Refusal::invalid(field, format!("a value that the schema names, not {value}")))
}

fn time(ms: u64) -> Option<Timestamp> {
    (ms != 0).then_some(Timestamp(ms))
}

/// A watch as it stands under a head.
pub(super) fn watch(watch: &Watch, head: Option<&BlockRef>) -> v1::Watch {
    let (outcome, reason, reason_by) = match &watch.outcome {
        None => (v1::Outcome::Unspecified, "", None),
        Some(Outcome::Success) => (v1::Outcome::Success, "", None),
        Some(Outcome::Partial) => (v1::Outcome::Partial, Reason::Underpaid.as_str(), None),
        Some(Outcome::Failed(reason)) => (v1::Outcome::Failed, reason.as_str(), named(reason)),
    };
    let received = if watch.outcome.is_some() { watch.received } else { watch.claimed_total() };
    v1::Watch {
        id: watch.id.to_string(),
        spec: Some(spec(&watch.request)),
        state: state(watch.state()).into(),
        outcome: outcome.into(),
        reason: reason.into(),
        reason_by: reason_by.unwrap_or_default(),
        received: received.to_string(),
        transactions: watch.candidates.iter().map(|candidate| transaction(candidate, head)).collect(),
        created_at_ms: watch.created_at.0,
        artefact_count: watch.artefacts,
        last_receipt_hash: watch.last_hash.map(hex::encode).unwrap_or_default(),
        archived: watch.archived,
    }
}

fn named(reason: &Reason) -> Option<String> {
    match reason {
        Reason::Replaced { by } | Reason::Conflicted { by } => Some(by.to_string()),
        Reason::AlreadyClaimed { by } => Some(by.to_string()),
        _ => None,
    }
}

fn state(state: State) -> v1::State {
    match state {
        State::Pending => v1::State::Pending,
        State::Seen => v1::State::Seen,
        State::Included => v1::State::Included,
        State::Settled => v1::State::Settled,
    }
}

/// The state that a message names.
pub(super) fn state_of(field: &str, value: i32) -> Result<State, Refusal> {
    Ok(match enum_of(field, value)? {
        v1::State::Unspecified | v1::State::Settled => State::Settled,
        v1::State::Pending => State::Pending,
        v1::State::Seen => State::Seen,
        v1::State::Included => State::Included,
    })
}

fn transaction(candidate: &Candidate, head: Option<&BlockRef>) -> v1::Transaction {
    let claimed = candidate.claimed_transfers().fold(Amount::ZERO, |sum, t| sum.saturating_add(t.amount));
    let execution = match candidate.fact.execution {
        Execution::Unknown => "unknown",
        Execution::Succeeded => "succeeded",
        Execution::Reverted => "reverted",
    };
    let time = match &candidate.fact.place {
        Place::Block { time, .. } => Some(*time),
        Place::Mempool => None,
    };
    v1::Transaction {
        tx: candidate.fact.tx.to_string(),
        block: candidate.block().map(|at| block(at, time)),
        depth: candidate.block().map_or(0, |at| depth(at, head)),
        claimed: claimed.to_string(),
        execution: execution.into(),
        present: candidate.placed,
    }
}

/// `head − height + 1` (DESIGN §2).
pub(super) fn depth(at: &BlockRef, head: Option<&BlockRef>) -> u64 {
    head.map_or(0, |head| (head.height + 1).saturating_sub(at.height))
}

pub(super) fn block(at: &BlockRef, time: Option<Timestamp>) -> v1::Block {
    v1::Block { height: at.height, hash: at.hash.to_string(), time_ms: time.unwrap_or_default().0 }
}

fn spec(request: &WatchRequest) -> v1::WatchSpec {
    use v1::watch_spec::Subject as Spec;
    let subject = match &request.subject {
        Subject::Transaction { tx, expiry } => Spec::Transaction(transaction_subject(tx, expiry.as_ref())),
        Subject::Address => Spec::Address(v1::AddressSubject {}),
        Subject::Authorization { authorizer, nonce, valid_before } => Spec::Authorization(v1::AuthorizationSubject {
            authorizer: authorizer.to_string(),
            nonce: nonce.clone(),
            valid_before_ms: valid_before.unwrap_or_default().0,
        }),
        Subject::Descriptor { descriptor, gap_limit } => {
            Spec::OutputDescriptor(v1::DescriptorSubject { text: descriptor.clone(), gap_limit: *gap_limit })
        }
    };
    let pay_to = match &request.subject {
        Subject::Descriptor { .. } => String::new(),
        _ => request.terms.pay_to.to_string(),
    };
    let report = match request.report {
        Report::Milestones => v1::Report::Milestones,
        Report::EveryDepth => v1::Report::EveryDepth,
    };
    let binding = &request.binding;
    v1::WatchSpec {
        network: request.network.to_string(),
        subject: Some(subject),
        terms: Some(v1::Terms { pay_to, ..terms(&request.terms) }),
        binding: Some(v1::Binding {
            quote_hash: binding.quote_hash.clone().unwrap_or_default(),
            auth_hash: binding.auth_hash.clone().unwrap_or_default(),
            resource: binding.resource.clone().unwrap_or_default(),
            labels: binding.labels.clone().into_iter().collect(),
            fx: binding.fx.clone().into_iter().collect(),
        }),
        idempotency_key: request.idempotency_key.clone().unwrap_or_default(),
        report: report.into(),
        proofs: request.proofs,
    }
}

fn transaction_subject(tx: &TxId, expiry: Option<&Expiry>) -> v1::TransactionSubject {
    let tx = tx.to_string();
    match expiry {
        None => v1::TransactionSubject { tx, ..Default::default() },
        Some(Expiry::Height(height)) => {
            v1::TransactionSubject { tx, last_valid_height: Some(*height), ..Default::default() }
        }
        Some(Expiry::Nonce { account, value }) => v1::TransactionSubject {
            tx,
            nonce_account: account.to_string(),
            nonce: value.clone(),
            ..Default::default()
        },
    }
}

fn terms(terms: &Terms) -> v1::Terms {
    let depth = match terms.depth {
        Depth::Blocks(blocks) => v1::terms::Depth::DepthBlocks(blocks),
        Depth::Tag(tag) => v1::terms::Depth::DepthTag(i32::from(match tag {
            Tag::Confirmed => v1::FinalityTag::Confirmed,
            Tag::Safe => v1::FinalityTag::Safe,
            Tag::Finalized => v1::FinalityTag::Finalized,
        })),
    };
    let amount_rule = match terms.amount_rule {
        AmountRule::Exact => v1::AmountRule::Exact,
        AmountRule::AtLeast => v1::AmountRule::AtLeast,
        AmountRule::UpTo => v1::AmountRule::UpTo,
    };
    let at_deadline = match terms.at_deadline {
        AtDeadline::Fail => v1::AtDeadline::Fail,
        AtDeadline::Extend => v1::AtDeadline::Extend,
    };
    v1::Terms {
        asset: terms.asset.to_string(),
        amount: terms.amount.to_string(),
        amount_rule: amount_rule.into(),
        payer: terms.payer.as_ref().map(ToString::to_string).unwrap_or_default(),
        depth: Some(depth),
        not_before_ms: terms.not_before.unwrap_or_default().0,
        from_height: terms.from_height,
        deadline_ms: terms.deadline.0,
        at_deadline: at_deadline.into(),
        memo: terms.memo.clone().unwrap_or_default(),
        references: terms.references.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

pub(super) fn event(event: Event) -> v1::Event {
    v1::Event {
        sequence: event.sequence,
        watch_id: event.watch.to_string(),
        network: event.network.to_string(),
        index: event.index,
        kind: event.kind.as_str().into(),
        observed_at_ms: event.observed_at.0,
        artefact: event.artefact,
        receipt_hash: hex::encode(event.receipt_hash),
        signature: event.signature,
    }
}

pub(super) fn network(view: NetworkView) -> v1::Network {
    let (health, detail) = match view.health.state {
        HealthState::Syncing => ("syncing", String::new()),
        HealthState::Following => ("following", String::new()),
        HealthState::Degraded(detail) => ("degraded", detail),
        HealthState::Halted(detail) => ("halted", detail),
    };
    let endpoints = view.health.endpoints.into_iter().map(|endpoint| v1::Endpoint {
        name: endpoint.name,
        up: endpoint.up,
        detail: endpoint.detail,
        tip: endpoint.tip.map(|tip| block(&tip, None)),
        requests: endpoint.requests,
        errors: endpoint.errors,
    });
    v1::Network {
        id: view.network.to_string(),
        aliases: view.aliases,
        head: view.head.map(|head| block(&head, view.head_time)),
        safe_height: view.finality.safe.unwrap_or_default(),
        finalized_height: view.finality.finalized.unwrap_or_default(),
        confirmed_height: view.finality.confirmed.unwrap_or_default(),
        health: health.into(),
        detail,
        endpoints: endpoints.collect(),
        horizon_blocks: view.horizon,
        search: view.health.search.map(|search| v1::Search {
            from_height: search.from,
            next_height: search.next,
            watches: u32::try_from(search.watches).unwrap_or(u32::MAX),
        }),
        searched_from: view.health.searched_from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> v1::WatchSpec {
        let transaction = v1::TransactionSubject { tx: "t".into(), ..Default::default() };
        v1::WatchSpec {
            network: "solana".into(),
            subject: Some(v1::watch_spec::Subject::Transaction(transaction)),
            terms: Some(v1::Terms {
                pay_to: "shop".into(),
                asset: "native".into(),
                amount: "1".into(),
                amount_rule: v1::AmountRule::AtLeast.into(),
                depth: Some(v1::terms::Depth::DepthTag(v1::FinalityTag::Confirmed.into())),
                deadline_ms: 1,
                at_deadline: v1::AtDeadline::Fail.into(),
                memo: " order \u{1f600} 7 ".into(),
                references: vec!["one".into(), "two".into()],
                ..Default::default()
            }),
            binding: Some(v1::Binding::default()),
            report: v1::Report::Milestones.into(),
            ..Default::default()
        }
    }

    fn expiring(last_valid_height: Option<u64>, nonce_account: &str, nonce: &str) -> v1::WatchSpec {
        let (tx, nonce_account, nonce) = ("t".into(), nonce_account.into(), nonce.into());
        let transaction = v1::TransactionSubject { tx, last_valid_height, nonce_account, nonce };
        v1::WatchSpec { subject: Some(v1::watch_spec::Subject::Transaction(transaction)), ..message() }
    }

    #[test]
    fn what_binds_a_payment_and_when_it_expires_come_back_as_they_were_asked() {
        for asked in
            [message(), expiring(Some(0), "", ""), expiring(Some(7), "", ""), expiring(None, "account", "value")]
        {
            let request = request_of(asked.clone()).expect("is good");
            assert_eq!(spec(&request), asked);
        }
        assert_eq!(request_of(message()).expect("is good").terms.depth, Depth::Tag(Tag::Confirmed));
    }

    #[test]
    fn half_an_expiry_two_of_them_and_marks_without_bounds_are_refused() {
        let terms = |change: fn(&mut v1::Terms)| {
            let mut asked = message();
            asked.terms.iter_mut().for_each(change);
            asked
        };
        let cases = [
            (expiring(None, "account", ""), "transaction.nonce"),
            (expiring(None, "", "value"), "transaction.nonce_account"),
            (expiring(Some(7), "account", "value"), "transaction.last_valid_height"),
            (expiring(Some(7), "", "value"), "transaction.last_valid_height"),
            (expiring(None, &"a".repeat(257), "value"), "transaction.nonce_account"),
            (expiring(None, "account", &"v".repeat(257)), "transaction.nonce"),
            (terms(|it| it.memo = "m".repeat(567)), "terms.memo"),
            (terms(|it| it.references = vec!["r".into(); 9]), "terms.references"),
            (terms(|it| it.references = vec![String::new()]), "terms.references"),
            (terms(|it| it.references = vec!["r".repeat(257)]), "terms.references"),
        ];
        for (asked, expected) in cases {
            let refused = request_of(asked).expect_err(expected);
            let Refusal::Invalid { field, .. } = &refused else { panic!("{refused}") };
            assert_eq!(field, expected, "{refused}");
        }
        request_of(terms(|it| it.memo = "m".repeat(566))).expect("fits");
        request_of(terms(|it| it.references = vec!["r".into(); 8])).expect("fit");
    }
}
