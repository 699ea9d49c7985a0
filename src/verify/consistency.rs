//! Whether the members of an artefact go together, whatever the chain says.

use std::collections::BTreeSet;

use h402_watch_engine::changes::EventKind;
use h402_watch_engine::input::Execution;
use h402_watch_engine::receipt::Evidence;
use h402_watch_engine::request::{AmountRule, Subject};
use h402_watch_engine::watch::{Outcome, Reason, State};

use crate::artefact::{Artefact, Receipt, Settlement, Told};
use crate::wrong::{Code, Wrong, ensure};

/// Checks what holds for every artefact.
pub(crate) fn check(artefact: &Artefact) -> Result<(), Wrong> {
    let terms = &artefact.terms;
    consistent(!terms.amount.is_zero(), "terms that ask for nothing")?;
    if let Subject::Descriptor { descriptor, .. } = &artefact.subject {
        consistent(terms.pay_to.as_str() == descriptor, "a descriptor that is not who is paid")?;
    }
    transfers(artefact)?;
    match &artefact.told {
        Told::Receipt(told) => receipt(artefact, told),
        Told::Settlement(told) => settlement(artefact, told),
    }
}

fn consistent(holds: bool, said: &str) -> Result<(), Wrong> {
    ensure(holds, Code::Inconsistent, || said.to_owned())
}

/// Each transfer stands once, and each transaction is in one block.
fn transfers(artefact: &Artefact) -> Result<(), Wrong> {
    let mut txs = BTreeSet::new();
    for named in artefact.named() {
        consistent(txs.insert(named.tx.to_owned()), "the transfers of one transaction don't stand together")?;
    }
    let settled = artefact.settlement().into_iter().flat_map(|settlement| &settlement.transfers);
    let mut blocks = std::collections::BTreeMap::new();
    for counted in settled {
        let block = blocks.entry(&counted.tx).or_insert(&counted.block);
        consistent(*block == &counted.block, "one transaction in two blocks")?;
    }
    let told = artefact.transaction().into_iter().flat_map(|tx| tx.transfers.iter().map(|moved| (&tx.tx, moved)));
    let settled = artefact.settlement().into_iter().flat_map(|settlement| &settlement.transfers);
    let mut seen = BTreeSet::new();
    for (tx, moved) in told.chain(settled.map(|counted| (&counted.tx, &counted.moved))) {
        consistent(seen.insert((tx, moved.transfer.index)), "one transfer stands twice")?;
    }
    Ok(())
}

fn receipt(artefact: &Artefact, told: &Receipt) -> Result<(), Wrong> {
    use EventKind as E;
    let event = told.event;
    let in_block = told.transaction.as_ref().map(|tx| tx.block.is_some());
    let placed = match event {
        E::Included | E::Depth | E::Late | E::Finalized => in_block == Some(true),
        E::Seen | E::Accepted | E::Orphaned | E::Evicted => in_block == Some(false),
        E::Replaced | E::Reversed => in_block.is_some(),
        E::Settled => false,
    };
    let name = event.as_str();
    ensure(placed, Code::Inconsistent, || format!("{name}, and a transaction that is elsewhere, or none"))?;
    let state = match event {
        E::Included | E::Depth => matches!(artefact.state, State::Included | State::Settled),
        E::Seen | E::Accepted | E::Replaced => artefact.state != State::Pending,
        E::Late | E::Reversed | E::Finalized => artefact.state == State::Settled,
        E::Orphaned | E::Evicted | E::Settled => true,
    };
    ensure(state, Code::Inconsistent, || format!("{name}, and a watch that is {}", artefact.state.as_str()))?;
    consistent(told.depth.is_none_or(|depth| depth > 1), "a depth that every block has")?;
    consistent(told.depth.is_some() == (event == E::Depth), "a depth that is not what happened, or none that is")?;
    consistent(
        told.left_block.is_some() == (event == E::Orphaned) || event == E::Reversed,
        "a block left, and not what happened",
    )?;
    replaced(artefact, told)?;
    let late = told.transaction.as_ref().filter(|_| event == E::Late);
    consistent(late.is_none_or(|tx| !tx.transfers.is_empty()), "late, and nothing came")?;
    received(artefact, told)?;
    ensure(artefact.proofs.is_none() || matches!(event, E::Included | E::Late), Code::ProofKind, || {
        format!("a receipt of the event {name} has no proofs")
    })
}

/// Who takes the place of the watched transaction is another one, and says whose place that is.
fn replaced(artefact: &Artefact, told: &Receipt) -> Result<(), Wrong> {
    if told.event != EventKind::Replaced {
        return consistent(told.replaces.is_none(), "a transaction replaced, and not what happened");
    }
    let Subject::Transaction { tx, .. } = &artefact.subject else {
        return consistent(false, "a transaction replaced, where none is followed");
    };
    let by = told.transaction.as_ref().map(|tx| tx.tx.as_str());
    let other = told.replaces.as_deref() == Some(tx.as_str()) && by != Some(tx.as_str());
    consistent(other, "a transaction replaced that is not the one that is followed, or by itself")
}

/// What a transaction moved is among what was received, while it has a place. What came late is not, and what else the watch has
/// received (by other transactions, for an address; by another use of an authorization that is in a mempool too) is not told.
fn received(artefact: &Artefact, told: &Receipt) -> Result<(), Wrong> {
    use EventKind as E;
    let counts = match told.event {
        E::Seen | E::Accepted | E::Included | E::Depth | E::Replaced | E::Finalized => true,
        E::Reversed => told.transaction.as_ref().is_some_and(|tx| tx.block.is_some()),
        E::Orphaned | E::Evicted | E::Late | E::Settled => false,
    };
    let (moved, received) = (artefact.moved(), artefact.received);
    ensure(!counts || moved <= received, Code::Amount, || {
        format!("{received} was received, and the transfers alone add up to {moved}")
    })
}

fn settlement(artefact: &Artefact, told: &Settlement) -> Result<(), Wrong> {
    consistent(artefact.state == State::Settled, "a settlement of a watch that is not settled")?;
    let by_transaction = told.evidence == Evidence::Transaction;
    let reason = match &told.outcome {
        Outcome::Failed(reason) => reason,
        paid => {
            consistent(!told.transfers.is_empty(), "an outcome without the transfers that it comes of")?;
            consistent(told.transaction.is_none(), "an outcome that comes of transfers, and of a transaction")?;
            let by_deadline = told.evidence == Evidence::Deadline && *paid == Outcome::Partial;
            consistent(by_transaction || by_deadline, "an outcome that comes of something else than transfers")?;
            let first = told.transfers.first().map(|counted| &counted.tx);
            let adds_up = matches!(artefact.subject, Subject::Address | Subject::Descriptor { .. });
            let one = told.transfers.iter().all(|counted| Some(&counted.tx) == first);
            return consistent(adds_up || one, "transfers of many transactions, where one is followed");
        }
    };
    ensure(artefact.received.is_zero(), Code::Amount, || "a failure that received something".into())?;
    let placed = told.transaction.as_ref().map(|tx| tx.block.is_some());
    consistent(placed == by_transaction.then_some(true), "a failure without what decided it, or with more than that")?;
    let moved = told.transaction.as_ref().is_some_and(|tx| !tx.transfers.is_empty());
    consistent(!moved, "a failure with transfers that counted")?;
    proves(&artefact.subject, &told.evidence, reason)?;
    blames(artefact, told, reason)
}

/// Whether evidence is of the kind that a reason follows from.
fn proves(subject: &Subject, evidence: &Evidence, reason: &Reason) -> Result<(), Wrong> {
    let proves = match (evidence, reason) {
        (Evidence::Request, reason) => *reason == Reason::Cancelled,
        (Evidence::Deadline, reason) => *reason == Reason::DeadlinePassed,
        (Evidence::Expired { .. }, reason) => {
            *reason == Reason::Expired && matches!(subject, Subject::Transaction { expiry: Some(_), .. })
        }
        (Evidence::BlockTime { time_ms, .. }, reason) => {
            let ended = match subject {
                Subject::Authorization { valid_before: Some(valid_before), .. } => valid_before.0 <= *time_ms,
                _ => false,
            };
            *reason == Reason::Expired && ended
        }
        // An authorization that was cancelled by a transaction.
        (Evidence::Transaction, Reason::Expired) => matches!(subject, Subject::Authorization { .. }),
        (Evidence::Transaction, reason) => *reason != Reason::Cancelled,
    };
    ensure(proves, Code::Inconsistent, || format!("evidence that the reason {} does not follow from", reason.as_str()))
}

/// Whether who is blamed is who decided, and for what may have been.
fn blames(artefact: &Artefact, told: &Settlement, reason: &Reason) -> Result<(), Wrong> {
    let terms = &artefact.terms;
    let reverted = told.transaction.as_ref().is_some_and(|tx| tx.execution == Execution::Reverted);
    let possible = match reason {
        Reason::Replaced { .. } | Reason::Conflicted { .. } => true,
        Reason::Reverted => reverted,
        _ if reverted => false,
        Reason::Overpaid => terms.amount_rule != AmountRule::AtLeast,
        Reason::MemoMismatch => terms.memo.is_some(),
        Reason::ReferenceMissing => !terms.references.is_empty(),
        _ => true,
    };
    let name = reason.as_str();
    ensure(possible, Code::Reason, || format!("{name}, which neither the transaction nor the terms allow"))?;
    let decided = told.transaction.as_ref().map(|tx| tx.tx.as_str());
    match reason {
        Reason::Replaced { by } | Reason::Conflicted { by } => {
            let followed = match &artefact.subject {
                Subject::Transaction { tx, .. } => tx != by,
                _ => false,
            };
            ensure(followed && decided == Some(by.as_str()), Code::Reason, || {
                format!("{name} by {by}, which did not decide, or is what was watched")
            })
        }
        Reason::AlreadyClaimed { by } => {
            ensure(*by != artefact.watch, Code::Reason, || "already claimed by the watch itself".into())
        }
        _ => Ok(()),
    }
}
