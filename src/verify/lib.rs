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
pub mod proof;
pub mod report;
pub mod wrong;

mod consistency;
mod reason;
mod script;
mod shape;
mod terms;

use std::collections::BTreeMap;

use h402_watch_engine::id::BlockRef;
use serde::{Serialize, Serializer};

use artefact::Artefact;
use evidence::Evidence;
use history::History;
use jwks::Keys;
use jws::Detached;
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
    one(&artefact, evidence, keys, &BTreeMap::new())
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

/// Checks artefacts that belong together. Proofs that a settlement omits are taken from the receipts among them.
pub fn audit(evidence: &[Evidence], keys: Option<&Keys>) -> Audit {
    let read: Vec<_> = evidence.iter().map(|one| Artefact::parse(&one.artefact)).collect();
    let mut proofs = Proofs::new();
    for artefact in read.iter().flatten().filter(|artefact| artefact.settlement().is_none()) {
        let held = artefact.proofs.iter().flatten().filter(|proof| proof.kind != Kind::Omitted);
        for (named, proof) in artefact.named().into_iter().zip(held) {
            proofs.insert((artefact.watch.to_string(), named.tx.to_owned(), named.block.clone()), proof);
        }
    }
    let each = read.iter().zip(evidence).map(|(read, evidence)| {
        let artefact = read.as_ref().map_err(Clone::clone)?;
        one(artefact, evidence, keys, &proofs)
    });
    Audit { artefacts: each.collect(), watches: history::check(read.iter().flatten()) }
}

/// Proofs of receipts: by watch, transaction and block.
type Proofs<'a> = BTreeMap<(String, String, BlockRef), &'a Proof>;

fn one(artefact: &Artefact, evidence: &Evidence, keys: Option<&Keys>, proofs: &Proofs<'_>) -> Result<Report, Wrong> {
    let signature = match &evidence.signature {
        None => Signed::Absent,
        Some(text) => {
            let signature = Detached::parse(text)?;
            let kid = signature.kid.clone();
            match keys {
                None => Signed::NotChecked { kid },
                Some(keys) => {
                    signature.verify(&evidence.artefact, keys)?;
                    Signed::Signed { kid }
                }
            }
        }
    };
    let elsewhere =
        |tx: &str, block: &BlockRef| proofs.get(&(artefact.watch.to_string(), tx.to_owned(), block.clone())).copied();
    let checked = proof::check(artefact, &elsewhere)?;
    let notes = terms::check(artefact, &checked)?;
    Ok(Report::new(artefact, signature, checked, notes))
}
