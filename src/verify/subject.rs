//! Whether a transaction is of the subject: the one that is followed, one that took its place, or the use of an authorization.

use h402_watch_engine::changes::EventKind;
use h402_watch_engine::input::AuthorizationUse;
use h402_watch_engine::request::Subject;
use h402_watch_engine::watch::{Outcome, Reason};

use crate::artefact::Artefact;
use crate::note::{Note, NoteCode};
use crate::proof::Checked;
use crate::wrong::{Code, Wrong, ensure};

/// Which receipt, with a lower index, told that a transaction took the place of the one that is followed.
pub(crate) type Replaced<'a> = &'a dyn Fn(&str) -> Option<u64>;

/// Checks the transactions that an artefact is about; returns what is left to its author's word.
pub(crate) fn check(artefact: &Artefact, checked: &Checked, replaced: Replaced<'_>) -> Result<Vec<Note>, Wrong> {
    match &artefact.subject {
        Subject::Address | Subject::Descriptor { .. } => Ok(Vec::new()),
        Subject::Transaction { tx, .. } => Ok(replacement(artefact, tx.as_str(), replaced).into_iter().collect()),
        Subject::Authorization { .. } => authorization(artefact, checked),
    }
}

/// A transaction that took another's place uses what that needs; the other is not there to compare.
fn replacement(artefact: &Artefact, followed: &str, replaced: Replaced<'_>) -> Option<Note> {
    let counted = artefact.settlement().and_then(|settlement| settlement.transfers.first());
    let told = artefact.transaction().map(|tx| tx.tx.as_str()).or(counted.map(|counted| counted.tx.as_str()));
    let other = told.filter(|told| *told != followed)?;
    if artefact.event() == EventKind::Replaced {
        let said = format!("that {other} took the place of {followed}, no proof shows");
        return Some(Note::new(NoteCode::ReplacementTold, said));
    }
    Some(match replaced(other) {
        Some(index) => Note::new(
            NoteCode::ReplacementTold,
            format!("that {other} took the place of {followed}, receipt {index} told, and no proof shows"),
        ),
        None => Note::new(
            NoteCode::SubjectUnproven,
            format!("that {other} took the place of {followed}, no proof shows, and no receipt that is here"),
        ),
    })
}

/// A transaction is of an authorization by having used it, or cancelled it.
fn authorization(artefact: &Artefact, checked: &Checked) -> Result<Vec<Note>, Wrong> {
    let Subject::Authorization { authorizer, nonce, .. } = &artefact.subject else { return Ok(Vec::new()) };
    let did = |cancelled| AuthorizationUse {
        asset: artefact.terms.asset.clone(),
        authorizer: authorizer.clone(),
        nonce: nonce.clone(),
        cancelled,
    };
    let (what, wanted): (_, &[AuthorizationUse]) = match artefact.settlement().map(|settlement| &settlement.outcome) {
        Some(Outcome::Success | Outcome::Partial) => ("use", &[did(false)]),
        Some(Outcome::Failed(Reason::Expired)) => ("cancel", &[did(true)]),
        _ => ("use or cancel", &[did(false), did(true)]),
    };
    let mut notes = Vec::new();
    for one in artefact.named() {
        let Some(shown) = checked.find(one.tx) else {
            let said = format!("that {} did {what} the authorization {nonce}, no proof shows", one.tx);
            notes.push(Note::new(NoteCode::AuthorizationUnproven, said));
            continue;
        };
        let fits = wanted.iter().any(|wanted| shown.authorizations.contains(wanted));
        ensure(fits, Code::Authorization, || {
            format!("{} did not {what} the authorization {nonce} of {authorizer}", one.tx)
        })?;
    }
    Ok(notes)
}
