//! Whether what is said, and what is proven of it, meets the terms.

use h402_watch_engine::amount::Amount;
use h402_watch_engine::input::AuthorizationUse;
use h402_watch_engine::judge::satisfies;
use h402_watch_engine::request::{AmountRule, Depth, Subject, Terms};
use h402_watch_engine::watch::{Outcome, Reason};

use crate::artefact::{Artefact, Moved, Named, Settlement};
use crate::proof::{Checked, Shown};
use crate::wrong::{Code, Wrong, ensure};
use crate::{reason, script};

/// Checks an artefact against its terms; returns what it leaves to its author's word.
pub(crate) fn check(artefact: &Artefact, checked: &Checked) -> Result<Vec<String>, Wrong> {
    let mut notes = Vec::new();
    if let Some(tx) = artefact.transaction() {
        for moved in &tx.transfers {
            transfer(artefact, moved, Payer::of(artefact, moved, tx.sender.as_deref(), true), &mut notes)?;
        }
    }
    let Some(settlement) = artefact.settlement() else { return Ok(notes) };
    for one in artefact.named() {
        let shown = checked.find(one.tx);
        if !matches!(settlement.outcome, Outcome::Failed(_)) {
            paid(artefact, &one, shown, &mut notes)?;
        }
        if let Some(shown) = shown {
            depth(&artefact.terms, shown, &mut notes)?;
        }
    }
    words(artefact, settlement, &mut notes);
    match &settlement.outcome {
        Outcome::Failed(reason) => reason::check(artefact, settlement, reason, checked)?,
        outcome => sum(artefact, settlement, outcome)?,
    }
    authorization(artefact, settlement, checked)?;
    Ok(notes)
}

/// Whether those who paid are those who should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payer {
    Fits,
    Differs,
    /// Who sent the transaction is not said.
    Unsaid,
}

impl Payer {
    /// The payer is the transfer's `from`, or who sent the transaction.
    fn of(artefact: &Artefact, moved: &Moved, sender: Option<&str>, is_said: bool) -> Self {
        let Some(payer) = &artefact.terms.payer else { return Self::Fits };
        match sender {
            _ if moved.transfer.from.as_ref() == Some(payer) => Self::Fits,
            Some(sender) if sender == payer.as_str() => Self::Fits,
            None if !is_said => Self::Unsaid,
            _ => Self::Differs,
        }
    }
}

/// A transfer that is claimed counts: it is of the asset, to the payee, by the payer.
fn transfer(artefact: &Artefact, moved: &Moved, payer: Payer, notes: &mut Vec<String>) -> Result<(), Wrong> {
    let (terms, transfer) = (&artefact.terms, &moved.transfer);
    let index = transfer.index;
    recipient(artefact, moved, notes)?;
    ensure(transfer.asset == terms.asset, Code::Asset, || {
        format!("transfer {index} is of {}, not of {}", transfer.asset, terms.asset)
    })?;
    ensure(!transfer.amount.is_zero(), Code::Amount, || format!("transfer {index} is of nothing"))?;
    ensure(transfer.from.as_ref() != Some(&transfer.to), Code::Payer, || {
        format!("transfer {index} is to the one that it is from")
    })?;
    if let Subject::Authorization { authorizer, .. } = &artefact.subject {
        ensure(transfer.from.as_ref() == Some(authorizer), Code::Payer, || {
            format!("transfer {index} is not from {authorizer}, who signed the authorization")
        })?;
    }
    match payer {
        Payer::Fits => Ok(()),
        Payer::Unsaid => {
            notes.push(format!("who sent the transaction of transfer {index} is not shown"));
            Ok(())
        }
        Payer::Differs => Err(Wrong::new(Code::Payer, format!("transfer {index} is not from the payer of the terms"))),
    }
}

fn recipient(artefact: &Artefact, moved: &Moved, notes: &mut Vec<String>) -> Result<(), Wrong> {
    let to = moved.transfer.to.as_str();
    let wrong = |said: String| Err(Wrong::new(Code::Recipient, said));
    let Subject::Descriptor { descriptor, .. } = &artefact.subject else {
        if to != artefact.terms.pay_to.as_str() || moved.path.is_some() {
            return wrong(format!("{to} is not who the terms say is paid"));
        }
        return Ok(());
    };
    let Some((branch, index)) = moved.path else {
        return wrong(format!("it is not said where the descriptor derives {to}"));
    };
    if branch != 0 {
        return wrong(format!("{branch}/{index} is for change: whoever pays there pays themselves"));
    }
    let Some(network) = artefact.network.strip_prefix("bip122:").and_then(script::network) else {
        notes.push(format!("that the descriptor derives {to} is not checked on this network"));
        return Ok(());
    };
    match script::derive(descriptor, (branch, index), network) {
        Some(derived) if derived == to => Ok(()),
        _ => wrong(format!("the descriptor does not derive {to} at {branch}/{index}")),
    }
}

/// What counted towards an outcome.
fn paid(artefact: &Artefact, one: &Named<'_>, shown: Option<&Shown>, notes: &mut Vec<String>) -> Result<(), Wrong> {
    for moved in &one.transfers {
        let is_said = shown.is_some_and(|shown| shown.is_read);
        let sender = shown.and_then(|shown| shown.sender.as_deref());
        transfer(artefact, moved, Payer::of(artefact, moved, sender, is_said), notes)?;
    }
    let terms = &artefact.terms;
    let height = one.block.height;
    ensure(terms.from_height.is_none_or(|from| from <= height), Code::TooEarly, || {
        format!("{} is at height {height}, below the one that the terms say", one.tx)
    })?;
    let Some(shown) = shown else { return Ok(()) };
    let time = shown.time_ms;
    ensure(terms.not_before.is_none_or(|from| from.0 <= time), Code::TooEarly, || {
        format!("the block of {} states {time} ms, which is before the time that the terms say", one.tx)
    })?;
    ensure(time <= terms.deadline.0, Code::Deadline, || {
        format!("the block of {} states {time} ms, which is after the deadline", one.tx)
    })?;
    if !shown.states_height {
        notes.push(format!("no block states its height before {height}; that of {} is not shown", one.tx));
    }
    Ok(())
}

/// A settlement comes of blocks that are as deep as the terms ask.
fn depth(terms: &Terms, shown: &Shown, notes: &mut Vec<String>) -> Result<(), Wrong> {
    let needed = match terms.depth {
        Depth::Blocks(blocks) => usize::try_from(blocks.saturating_sub(1)).unwrap_or(usize::MAX),
        Depth::Tag(_) => {
            notes.push(format!("how final the block of {} is, no proof shows", shown.tx));
            return Ok(());
        }
    };
    let found = shown.headers;
    if found == 0 && needed > 0 {
        notes.push(format!("no headers show how deep the block of {} is", shown.tx));
        return Ok(());
    }
    ensure(found >= needed, Code::Depth, || {
        format!("{found} headers stand on the block of {}, where the terms ask {needed}", shown.tx)
    })
}

/// Memos and references stand in the terms alone.
fn words(artefact: &Artefact, settlement: &Settlement, notes: &mut Vec<String>) {
    let terms = &artefact.terms;
    if terms.bind() && !settlement.transfers.is_empty() {
        notes.push("that the payment carries the memo and names the references, no proof shows".into());
    }
    if let Subject::Transaction { tx, .. } = &artefact.subject
        && let Some(counted) = settlement.transfers.iter().find(|counted| counted.tx != tx.as_str())
    {
        notes.push(format!("that {} took the place of {tx}, no proof shows", counted.tx));
    }
}

fn sum(artefact: &Artefact, settlement: &Settlement, outcome: &Outcome) -> Result<(), Wrong> {
    let (terms, received) = (&artefact.terms, artefact.received);
    let amounts = settlement.transfers.iter().map(|counted| counted.moved.transfer.amount);
    let sum = amounts.fold(Amount::ZERO, Amount::saturating_add);
    ensure(sum == received, Code::Amount, || format!("the transfers add up to {sum}, not to {received}"))?;
    let met = satisfies(terms, received);
    match outcome {
        Outcome::Success => ensure(met, Code::Amount, || {
            format!("{received} was received, which does not meet the terms: {}", asked(terms))
        }),
        _ => ensure(!met && received < terms.amount, Code::Amount, || {
            format!("{received} was received, which is not less than the terms ask: {}", asked(terms))
        }),
    }
}

fn asked(terms: &Terms) -> String {
    let rule = match terms.amount_rule {
        AmountRule::Exact => "exactly",
        AmountRule::AtLeast => "at least",
        AmountRule::UpTo => "up to",
    };
    format!("{rule} {}", terms.amount)
}

/// What a proven transaction did to a watched authorization.
fn authorization(artefact: &Artefact, settlement: &Settlement, checked: &Checked) -> Result<(), Wrong> {
    let Subject::Authorization { authorizer, nonce, .. } = &artefact.subject else { return Ok(()) };
    let cancelled = match &settlement.outcome {
        Outcome::Failed(Reason::Expired) => true,
        Outcome::Failed(_) => return Ok(()),
        _ => false,
    };
    for shown in &checked.shown {
        let wanted = AuthorizationUse {
            asset: artefact.terms.asset.clone(),
            authorizer: authorizer.clone(),
            nonce: nonce.clone(),
            cancelled,
        };
        let did = if cancelled { "cancel" } else { "use" };
        ensure(shown.authorizations.contains(&wanted), Code::Authorization, || {
            format!("{} did not {did} the authorization {nonce} of {authorizer}", shown.tx)
        })?;
    }
    Ok(())
}
