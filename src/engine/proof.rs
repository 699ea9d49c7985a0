//! Inclusion proofs: opaque here, made by sources, carried by artefacts (`proto/artefacts/README.md`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::canonical::Json;
use crate::heads::Heads;
use crate::id::BlockRef;
use crate::request::Depth;
use crate::watch::{Candidate, Watch};

/// The text that the proofs of one settlement may take together, bytes; what is beyond is named without its proof, which stands
/// in an earlier receipt (invariant 11).
pub const PROOFS_MAX: usize = 1 << 20;

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
        Self::new("none", [("statement", Part::Text(statement.to_owned()))])
    }
}

/// The proof of a candidate that is in a block, as artefacts carry it; with the headers on top of the block, lowest first.
pub(crate) fn of(watch: &Watch, candidate: &Candidate, headers: &[&[u8]]) -> Option<Json> {
    let proof = candidate.fact.proof.as_ref().filter(|_| watch.proofs && candidate.block().is_some())?;
    let mut members: Vec<_> = proof.parts.iter().map(|(name, part)| (name.clone(), json(part))).collect();
    members.push(("tx".to_owned(), Json::text(candidate.fact.tx.as_str())));
    members.push(("kind".to_owned(), Json::text(proof.kind.as_str())));
    if !headers.is_empty() {
        members.push(("headers".to_owned(), pieces(headers.iter())));
    }
    Some(Json::Object(members))
}

/// The proofs of the candidates that a settlement is drawn from, with the headers on top as far as the depth asks for.
pub(crate) fn of_settlement<'a>(
    watch: &Watch,
    candidates: impl Iterator<Item = &'a Candidate>,
    heads: &Heads,
) -> Option<Json> {
    let (mut all, mut room) = (Vec::new(), PROOFS_MAX);
    for candidate in candidates {
        let Some(block) = candidate.block() else { continue };
        let Some(proof) = of(watch, candidate, &on_top(heads, block, watch.request.terms.depth)) else { continue };
        let size = proof.to_canonical().len();
        room = room.saturating_sub(size);
        all.push(if room > 0 { proof } else { omitted(candidate) });
    }
    (!all.is_empty()).then_some(Json::List(all))
}

fn omitted(candidate: &Candidate) -> Json {
    Json::object([("tx", Json::text(candidate.fact.tx.as_str())), ("kind", Json::text("omitted"))])
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
