//! Verifies the artefacts of h402-watch offline, without the service: what they are is said in `proto/artefacts/README.md`.
//!
//! [`verify`] checks one artefact, [`audit`] a set of them, as hash chains. What is in order comes back as a [`Report`] that
//! says what was shown, and what is left to the word of whoever signed; what is not, as a [`Wrong`] with a stable code.

pub mod artefact;
pub mod binding;
pub mod evidence;
pub mod history;
pub mod json;
pub mod jwks;
pub mod jws;
pub mod note;
pub mod proof;
pub mod report;
pub mod wrong;

mod claims;
mod codes;
mod consistency;
mod reason;
mod script;
mod shape;
mod spelling;
mod subject;
mod terms;

use std::collections::BTreeMap;

use h402_watch_engine::changes::EventKind;
use h402_watch_engine::id::BlockRef;
use serde::{Serialize, Serializer};

use artefact::Artefact;
use evidence::Evidence;
use history::History;
use jwks::Keys;
use jws::Detached;
pub use note::{Note, NoteCode};
use proof::{Kind, Proof};
pub use report::{Inclusion, Report, Signed};
pub use wrong::{Code, Wrong};

/// Checks one artefact: its form, its signature, its proofs, and that it meets its terms. Without `keys` a signature is read,
/// and not checked.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn verify(evidence: &Evidence, keys: Option<&Keys>) -> Result<Report, Wrong> {
    let artefact = Artefact::parse(&evidence.artefact)?;
    one(&artefact, evidence, keys, &Others::default())
}

/// What a set of artefacts came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Each artefact, in the order in which they were given.
    #[serde(serialize_with = "verdicts")]
    pub artefacts: Vec<Result<Report, Wrong>>,
    /// Each watch, by its name, as far as its artefacts could be read.
    #[serde(serialize_with = "verdicts")]
    pub watches: Vec<Result<History, Wrong>>,
}

/// Writes each as `{"ok":…}` or `{"wrong":…}`.
fn verdicts<T: Serialize, S: Serializer>(all: &[Result<T, Wrong>], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Verdict<'a, T> {
        Ok(&'a T),
        Wrong(&'a Wrong),
    }
    serializer.collect_seq(all.iter().map(|one| match one {
        Ok(good) => Verdict::Ok(good),
        Err(wrong) => Verdict::Wrong(wrong),
    }))
}

impl Audit {
    /// What is wrong, if anything is.
    pub fn wrongs(&self) -> impl Iterator<Item = &Wrong> {
        let artefacts = self.artefacts.iter().filter_map(|checked| checked.as_ref().err());
        artefacts.chain(self.watches.iter().filter_map(|checked| checked.as_ref().err()))
    }
}

/// Checks artefacts that belong together. Proofs that one of them omits, or may not hold, are taken from the receipts among them.
pub fn audit(evidence: &[Evidence], keys: Option<&Keys>) -> Audit {
    let read: Vec<_> = evidence.iter().map(|one| Artefact::parse(&one.artefact)).collect();
    let others = Others::among(&read, evidence, keys);
    let each = read.iter().zip(evidence).map(|(read, evidence)| {
        let artefact = read.as_ref().map_err(Clone::clone)?;
        one(artefact, evidence, keys, &others)
    });
    let mut artefacts: Vec<_> = each.collect();
    claims::check(&read, &mut artefacts, keys);
    Audit { artefacts, watches: history::check(read.iter().flatten()) }
}

/// What receipts that are in order say, for other artefacts of their watch.
#[derive(Default)]
struct Others<'a> {
    /// Proofs, by watch, transaction and block.
    proofs: BTreeMap<(&'a str, &'a str, &'a BlockRef), &'a Proof>,
    /// The first receipt that a transaction took the place of the one that is followed: its index, by watch and transaction.
    replaced: BTreeMap<(&'a str, &'a str), u64>,
}

impl<'a> Others<'a> {
    /// Whoever adds a file can't spoil what the others say: a receipt that is not in order says nothing.
    fn among(read: &'a [Result<Artefact, Wrong>], evidence: &[Evidence], keys: Option<&Keys>) -> Self {
        let mut others = Self::default();
        let alone = Self::default();
        for (artefact, evidence) in read.iter().zip(evidence) {
            let Ok(artefact) = artefact else { continue };
            let tells = matches!(artefact.event(), EventKind::Included | EventKind::Late | EventKind::Replaced);
            if tells && one(artefact, evidence, keys, &alone).is_ok_and(|report| is_vouched(&report, keys)) {
                others.learn(artefact);
            }
        }
        others
    }

    fn learn(&mut self, artefact: &'a Artefact) {
        let watch = artefact.watch.as_str();
        for (named, proof) in artefact.named().into_iter().zip(artefact.proofs.iter().flatten()) {
            if !matches!(proof.kind, Kind::Omitted | Kind::None { .. }) {
                self.proofs.entry((watch, named.tx, named.block)).or_insert(proof);
            }
        }
        if let Some(by) = artefact.transaction().filter(|_| artefact.event() == EventKind::Replaced) {
            let first = self.replaced.entry((watch, &by.tx)).or_insert(artefact.index);
            *first = artefact.index.min(*first);
        }
    }
}

/// Whether an artefact has the signature that is asked for.
fn is_vouched(report: &Report, keys: Option<&Keys>) -> bool {
    keys.is_none() || matches!(report.signature, Signed::Signed { .. })
}

fn signature(evidence: &Evidence, keys: Option<&Keys>) -> Result<Signed, Wrong> {
    let Some(text) = &evidence.signature else { return Ok(Signed::Absent) };
    let signature = Detached::parse(text)?;
    let kid = signature.kid.clone();
    let Some(keys) = keys else { return Ok(Signed::NotChecked { kid }) };
    signature.verify(&evidence.artefact, keys)?;
    Ok(Signed::Signed { kid })
}

fn one(artefact: &Artefact, evidence: &Evidence, keys: Option<&Keys>, others: &Others<'_>) -> Result<Report, Wrong> {
    let signature = signature(evidence, keys)?;
    let watch = artefact.watch.as_str();
    let elsewhere = |tx: &str, block: &BlockRef| others.proofs.get(&(watch, tx, block)).copied();
    let replaced = |tx: &str| others.replaced.get(&(watch, tx)).copied().filter(|index| *index < artefact.index);
    let checked = proof::check(artefact, &elsewhere)?;
    let mut notes = terms::check(artefact, &checked)?;
    notes.extend(subject::check(artefact, &checked, &replaced)?);
    Ok(Report::new(artefact, signature, checked, notes))
}
