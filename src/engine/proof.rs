//! Inclusion proofs: opaque here, made by sources, carried by artefacts (`proto/artefacts/README.md`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::canonical::Json;
use crate::heads::Heads;
use crate::id::BlockRef;
use crate::request::Depth;
use crate::watch::{Candidate, Watch};

/// The largest proof, bytes. One that is larger is not kept (invariant 11): whoever pays decides how large it is.
pub const PROOF_MAX: usize = 256 << 10;
/// The text that the proofs of one settlement may take together, bytes. Headers on top are left out first; a proof that has no
/// room is named without it, and stands in an earlier receipt.
pub const PROOFS_MAX: usize = 1 << 20;
/// The bytes of proofs that one watch holds; as text they take twice that. What is beyond stands in its receipt alone.
const HELD_MAX: usize = PROOFS_MAX / 2;

const NONE: &str = "none";
const OMITTED: &str = "omitted";
const TOO_LARGE: &str = "its proof would take more than 256 KiB";
const UNKNOWN: &str = "its proof was not known when this was written";

/// What shows, to someone who trusts a block's hash, that a transaction is in the block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Which kind it is.
    pub kind: String,
    /// What it consists of, by name.
    pub parts: BTreeMap<String, Part>,
}

/// A part of a proof. Bytes are written as lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Pieces of bytes, in order.
    List(Vec<Vec<u8>>),
}

impl Proof {
    /// A proof of a kind.
    pub fn new<const N: usize>(kind: &str, parts: [(&str, Part); N]) -> Self {
        let parts = parts.into_iter().map(|(name, part)| (name.to_owned(), part)).collect();
        Self { kind: kind.to_owned(), parts }
    }

    /// The statement that there is no proof, and why.
    pub fn none(statement: &str) -> Self {
        Self::new(NONE, [("statement", Part::Text(statement.to_owned()))])
    }

    /// Whether it proves anything.
    fn shows(&self) -> bool {
        self.kind != NONE && self.kind != OMITTED
    }

    fn size(&self) -> usize {
        let size = |part: &Part| match part {
            Part::Number(_) => 8,
            Part::Text(text) => text.len(),
            Part::Bytes(bytes) => bytes.len(),
            Part::List(list) => list.iter().map(Vec::len).sum(),
        };
        self.parts.values().map(size).sum()
    }

    /// The same, unless it is too large to be kept.
    pub(crate) fn bounded(self) -> Self {
        if self.size() > PROOF_MAX { Self::none(TOO_LARGE) } else { self }
    }
}

/// Lets go of the proof of a candidate that a receipt has just told, where a watch holds too many.
pub(crate) fn hold_less(watch: &mut Watch, candidate: usize) {
    let held = watch.candidates.iter().filter_map(|candidate| candidate.fact.proof.as_ref());
    if held.map(|proof| proof.size()).sum::<usize>() > HELD_MAX
        && let Some(proof) = watch.candidates.get_mut(candidate).and_then(|it| it.fact.proof.as_deref_mut())
        && proof.shows()
    {
        *proof = Proof::new(OMITTED, []);
    }
}

/// The proof of a candidate that is in a block, as artefacts of a watch that asks for proofs carry it.
pub(crate) fn of(watch: &Watch, candidate: &Candidate) -> Option<Json> {
    asked(watch, candidate).map(|proof| written(candidate, &proof, &[]))
}

fn asked<'a>(watch: &Watch, candidate: &'a Candidate) -> Option<Cow<'a, Proof>> {
    if !watch.proofs || candidate.block().is_none() {
        return None;
    }
    Some(candidate.fact.proof.as_deref().map_or_else(|| Cow::Owned(Proof::none(UNKNOWN)), Cow::Borrowed))
}

/// A proof, with the headers on top of its block, lowest first.
fn written(candidate: &Candidate, proof: &Proof, headers: &[&[u8]]) -> Json {
    let mut members: Vec<_> = proof.parts.iter().map(|(name, part)| (name.clone(), json(part))).collect();
    members.push(("tx".to_owned(), Json::text(candidate.fact.tx.as_str())));
    members.push(("kind".to_owned(), Json::text(proof.kind.as_str())));
    if !headers.is_empty() {
        members.push(("headers".to_owned(), pieces(headers.iter())));
    }
    Json::Object(members)
}

/// The proofs of the candidates that a settlement is drawn from, with the headers on top as far as the depth asks for, and as
/// far as there is room.
pub(crate) fn of_settlement<'a>(
    watch: &Watch,
    candidates: impl Iterator<Item = &'a Candidate>,
    heads: &Heads,
) -> Option<Json> {
    let (mut all, mut room) = (Vec::new(), PROOFS_MAX / 2);
    for candidate in candidates {
        let (Some(proof), Some(block)) = (asked(watch, candidate), candidate.block()) else { continue };
        if proof.size() > room {
            all.push(written(candidate, &Proof::new(OMITTED, []), &[]));
            continue;
        }
        room -= proof.size();
        let headers = if proof.shows() { on_top(heads, block, watch.request.terms.depth) } else { Vec::new() };
        let size: usize = headers.iter().map(|header| header.len()).sum();
        // Without room for all of them there is none for some: a depth is shown whole.
        let (headers, size) = if size > room { (Vec::new(), 0) } else { (headers, size) };
        room -= size;
        all.push(written(candidate, &proof, &headers));
    }
    (!all.is_empty()).then_some(Json::List(all))
}

/// The headers above a block up to a depth, all or none: those of a block that was found below what is kept are gone. What a chain
/// says of its own finality is in no header.
fn on_top<'a>(heads: &'a Heads, block: &BlockRef, depth: Depth) -> Vec<&'a [u8]> {
    let Depth::Blocks(blocks) = depth else { return Vec::new() };
    let above = block.height + 1..block.height + u64::from(blocks.max(1));
    let bytes = |height| heads.at(height).map(|header| &header.bytes[..]).filter(|bytes| !bytes.is_empty());
    above.map(bytes).collect::<Option<_>>().unwrap_or_default()
}

fn json(part: &Part) -> Json {
    match part {
        Part::Number(number) => Json::Int(*number),
        Part::Text(text) => Json::text(text.as_str()),
        Part::Bytes(bytes) => Json::text(hex::encode(bytes)),
        Part::List(list) => pieces(list.iter()),
    }
}

fn pieces(pieces: impl Iterator<Item = impl AsRef<[u8]>>) -> Json {
    Json::List(pieces.map(|piece| Json::text(hex::encode(piece))).collect())
}
