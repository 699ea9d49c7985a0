//! Whether a proven transaction contradicts the reason of a failure.
//!
//! A reason names what the transfer lacks that comes closest to the terms, so that one which comes closer contradicts it.
//! Calls inside transactions, other watches' claims and what the service knew of the watch's own past don't show, and
//! contradict nothing: they are left to the author's word.

use h402_watch_engine::amount::Amount;
use h402_watch_engine::id::AssetId;
use h402_watch_engine::input::Transfer;
use h402_watch_engine::request::Subject;
use h402_watch_engine::watch::Reason;

use crate::artefact::{Artefact, Settlement};
use crate::note::{Note, NoteCode};
use crate::proof::{Checked, Shown};
use crate::wrong::{Code, Wrong, ensure};

/// Checks the reason of a failure; returns what of it is left to the author's word.
pub(crate) fn check(
    artefact: &Artefact,
    settlement: &Settlement,
    reason: &Reason,
    checked: &Checked,
) -> Result<Option<Note>, Wrong> {
    let name = reason.as_str();
    let Some(tx) = &settlement.transaction else {
        let said = format!("{name}: that nothing came which counts, no proof shows");
        return Ok(Some(Note::new(NoteCode::AbsenceUnproven, said)));
    };
    let shown = checked.find(&tx.tx);
    if let Some(shown) = shown {
        contradiction(artefact, shown, reason)?;
    }
    let follows = shown.is_some_and(|shown| follows(artefact, shown, reason));
    Ok((!follows)
        .then(|| Note::new(NoteCode::ReasonUnproven, format!("the reason {name} does not follow from proofs"))))
}

/// Calls inside a transaction may move native coin, and don't show.
fn calls_may_pay(artefact: &Artefact) -> bool {
    artefact.network.starts_with("eip155:") && artefact.terms.asset.as_str() == AssetId::NATIVE
}

/// Whether a reason follows from what is proven.
fn follows(artefact: &Artefact, shown: &Shown, reason: &Reason) -> bool {
    let terms = &artefact.terms;
    match reason {
        Reason::Reverted => shown.succeeded == Some(false),
        Reason::Overpaid => shown.is_read && !calls_may_pay(artefact),
        Reason::DeadlinePassed => true,
        Reason::WrongRecipient | Reason::WrongAsset | Reason::Underpaid => shown.is_read && !calls_may_pay(artefact),
        Reason::PayerMismatch => shown.sender.is_some() && !calls_may_pay(artefact),
        Reason::TooEarly => {
            terms.not_before.is_some_and(|from| shown.time_ms < from.0)
                || terms.from_height.is_some_and(|from| shown.block.height < from && shown.states_height)
        }
        // Of a use of an authorization: it is checked whether the transaction cancelled it.
        Reason::Expired => true,
        Reason::MemoMismatch
        | Reason::ReferenceMissing
        | Reason::Replaced { .. }
        | Reason::Conflicted { .. }
        | Reason::AlreadyClaimed { .. }
        | Reason::Cancelled => false,
    }
}

fn contradiction(artefact: &Artefact, shown: &Shown, reason: &Reason) -> Result<(), Wrong> {
    let terms = &artefact.terms;
    let transfers = shown.transfers.iter();
    let pays = |one: &&Transfer| one.to == terms.pay_to && one.asset == terms.asset && !one.amount.is_zero();
    let payments: Vec<_> = transfers.filter(pays).collect();
    let contradicts = |holds: bool, said: &str| ensure(!holds, Code::Reason, || format!("{}: {said}", reason.as_str()));
    match reason {
        Reason::WrongRecipient | Reason::WrongAsset | Reason::Underpaid => {
            contradicts(!payments.is_empty(), "the proven transaction pays the payee, in the asset")
        }
        Reason::Overpaid => {
            let sum = payments.iter().map(|one| one.amount).fold(Amount::ZERO, Amount::saturating_add);
            contradicts(
                !calls_may_pay(artefact) && sum <= terms.amount,
                "the proven transaction pays no more than was asked",
            )
        }
        Reason::PayerMismatch => {
            let fits = payments.iter().any(|one| is_of_payer(artefact, shown, one));
            contradicts(fits, "the proven transaction pays, and is of the payer")
        }
        Reason::DeadlinePassed => contradicts(shown.time_ms <= terms.deadline.0, "the proven block is not that late"),
        _ => Ok(()),
    }
}

/// Whether a payment is of the payer that the terms ask, and not of the payee. Bitcoin's inputs don't say who pays.
fn is_of_payer(artefact: &Artefact, shown: &Shown, payment: &Transfer) -> bool {
    let terms = &artefact.terms;
    let Some(from) = payment.from.as_ref().filter(|from| **from != terms.pay_to) else { return false };
    if let Subject::Authorization { authorizer, .. } = &artefact.subject
        && from != authorizer
    {
        return false;
    }
    let Some(payer) = &terms.payer else { return true };
    from == payer || shown.sender.as_deref() == Some(payer.as_str())
}
