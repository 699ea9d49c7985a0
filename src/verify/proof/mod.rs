//! Inclusion proofs: what they show of the transactions that an artefact names.

use std::collections::BTreeMap;

use h402_watch_engine::changes::EventKind;
use h402_watch_engine::id::BlockRef;
use h402_watch_engine::input::{AuthorizationUse, Transfer, Via};

use crate::artefact::{Artefact, Moved, Named};
use crate::json::Object;
use crate::spelling;
use crate::wrong::{Code, Wrong, ensure};

pub(crate) mod bitcoin;
pub(crate) mod coinbase;
pub(crate) mod ethereum;
pub(crate) mod merkle;
pub(crate) mod receipts;
pub(crate) mod trie;
pub mod work;

pub use bitcoin::NODE_BYTES;
pub use receipts::{AUTHORIZATION_CANCELED, AUTHORIZATION_USED, TRANSFER};

/// A proof, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The transaction.
    pub tx: String,
    /// What shows it.
    pub kind: Kind,
}

/// The kinds of proofs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A branch of a block's tree.
    Bitcoin(Box<bitcoin::Branch>),
    /// Paths in a block's tries.
    Ethereum(Box<ethereum::Paths>),
    /// There is none.
    None {
        /// Why.
        statement: String,
        /// On Solana: the slot.
        slot: Option<u64>,
        /// On Solana: the block's hash.
        blockhash: Option<String>,
        /// On Solana: the level at which the block was read.
        commitment: Option<String>,
    },
    /// There was no room for it here; it stands in a receipt before.
    Omitted,
}

impl Proof {
    pub(crate) fn read(mut object: Object<'_>) -> Result<Self, Wrong> {
        let tx = object.name("tx")?.to_owned();
        let kind = match object.text("kind")? {
            "bitcoin" => Kind::Bitcoin(Box::new(bitcoin::Branch::read(&mut object)?)),
            "ethereum" => Kind::Ethereum(Box::new(ethereum::Paths::read(&mut object)?)),
            "none" => none(&mut object)?,
            "omitted" => Kind::Omitted,
            other => {
                return Err(Wrong::new(Code::ProofKind, format!("a proof of the kind {other:?} is not known here")));
            }
        };
        object.end()?;
        Ok(Self { tx, kind })
    }
}

/// Why there is no proof; on Solana, all or nothing of where the transaction was read.
fn none(object: &mut Object<'_>) -> Result<Kind, Wrong> {
    let (statement, slot) = (object.name("statement")?.to_owned(), object.maybe_int("slot")?);
    let blockhash = object.maybe_text("blockhash")?.map(str::to_owned);
    let commitment = object.maybe_text("commitment")?.map(str::to_owned);
    let together = slot.is_some() == blockhash.is_some() && slot.is_some() == commitment.is_some();
    ensure(together, Code::Shape, || "a slot, a blockhash and a commitment stand together".into())?;
    let spelled = blockhash.as_deref().is_none_or(spelling::is_solana_hash);
    ensure(spelled, Code::Shape, || "blockhash names no block of Solana".into())?;
    let level = commitment.as_deref().is_none_or(|level| matches!(level, "confirmed" | "finalized"));
    ensure(level, Code::Shape, || "commitment is neither confirmed nor finalized".into())?;
    Ok(Kind::None { statement, slot, blockhash, commitment })
}

/// What a proof shows of a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub tx: String,
    pub block: BlockRef,
    /// The time that the block states.
    pub time_ms: u64,
    /// Whether the block says itself how high it is.
    pub states_height: bool,
    /// Whether the transaction did what it says; `None` where the chain does not say.
    pub succeeded: Option<bool>,
    /// Whether its type is known here, so that what it carries and who signed it can be told.
    pub is_read: bool,
    /// Who signed it, where that can be told.
    pub sender: Option<String>,
    /// All that it moved, but for what calls inside it did.
    pub transfers: Vec<Transfer>,
    pub authorizations: Vec<AuthorizationUse>,
    /// How many headers stand on the block's.
    pub headers: usize,
    /// The work of its header and those: at least 2^this hashes.
    pub work_bits: Option<u32>,
    /// Why that work proves little, if it does.
    pub weak_work: Option<&'static str>,
    /// Whether its coin is new, and can't be spent before a hundred blocks are on top.
    pub is_coinbase: bool,
}

/// What is not shown of a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Unshown {
    pub tx: String,
    /// The transfer, if it is not the whole transaction.
    pub index: Option<u32>,
    pub why: String,
}

/// What an artefact's proofs come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checked {
    pub shown: Vec<Shown>,
    pub unshown: Vec<Unshown>,
    /// The places of what is shown, by transaction.
    places: BTreeMap<String, usize>,
}

impl Checked {
    pub fn find(&self, tx: &str) -> Option<&Shown> {
        self.places.get(tx).and_then(|place| self.shown.get(*place))
    }

    fn add(&mut self, shown: Shown) {
        self.places.insert(shown.tx.clone(), self.shown.len());
        self.shown.push(shown);
    }
}

/// Where proofs stand that an artefact omits or may not hold: a transaction's, in that block.
pub(crate) type Elsewhere<'a> = &'a dyn Fn(&str, &BlockRef) -> Option<&'a Proof>;

/// Checks the proofs of an artefact.
pub(crate) fn check(artefact: &Artefact, elsewhere: Elsewhere<'_>) -> Result<Checked, Wrong> {
    let named = artefact.named();
    if let Some(proofs) = &artefact.proofs {
        let alike = named.len() == proofs.len() && named.iter().zip(proofs).all(|(one, proof)| one.tx == proof.tx);
        ensure(alike, Code::ProofTransaction, || {
            "the proofs are not of the transactions that are in blocks, each once and in their order".into()
        })?;
    }
    let mut checked = Checked::default();
    for (place, one) in named.iter().enumerate() {
        let proof = artefact.proofs.as_ref().and_then(|proofs| proofs.get(place));
        match shown(artefact, one, proof, elsewhere)? {
            Ok(shown) => {
                checked.unshown.extend(transfers(one, &shown)?);
                checked.add(shown);
            }
            Err(why) => checked.unshown.push(Unshown { tx: one.tx.to_owned(), index: None, why }),
        }
    }
    Ok(checked)
}

/// What is shown of one transaction, or why nothing is.
fn shown(
    artefact: &Artefact,
    one: &Named<'_>,
    proof: Option<&Proof>,
    elsewhere: Elsewhere<'_>,
) -> Result<Result<Shown, String>, Wrong> {
    let found = |why: &str| match elsewhere(one.tx, one.block) {
        Some(found) => Ok(one_proof(artefact, one, found)?.ok_or_else(|| "the proof before shows nothing".to_owned())),
        None => Ok(Err(why.to_owned())),
    };
    let Some(proof) = proof else {
        if may_prove(artefact.event()) {
            return Ok(Err("the artefact holds no proofs".into()));
        }
        return found("artefacts of this event hold no proofs, and no receipt that does is here");
    };
    let shown = match &proof.kind {
        Kind::None { statement, slot, blockhash, commitment } => {
            let says_more = slot.is_some() || blockhash.is_some() || commitment.is_some();
            ensure(!says_more || artefact.network.starts_with("solana:"), Code::ProofKind, || {
                "a slot, a blockhash or a commitment, on another network than Solana".into()
            })?;
            let same = blockhash.as_deref().is_none_or(|hash| hash == one.block.hash.as_str());
            ensure(same, Code::ProofHeader, || format!("another block's hash is stated for {}", one.tx))?;
            return Ok(Err(statement.clone()));
        }
        Kind::Omitted => {
            ensure(artefact.event() != EventKind::Included, Code::ProofKind, || {
                "receipts of inclusion omit no proofs: they are where the others' stand".into()
            })?;
            return found("its proof is omitted here; it stands in a receipt before");
        }
        _ => one_proof(artefact, one, proof)?.ok_or_else(String::new),
    };
    if let Ok(shown) = &shown {
        ensure(artefact.settlement().is_some() || shown.headers == 0, Code::ProofKind, || {
            "receipts have no headers on top".into()
        })?;
    }
    Ok(shown)
}

/// Whether artefacts of an event hold proofs, where the watch asks for them.
fn may_prove(event: EventKind) -> bool {
    matches!(event, EventKind::Included | EventKind::Late | EventKind::Settled)
}

/// Checks one proof of a kind that shows something.
fn one_proof(artefact: &Artefact, one: &Named<'_>, proof: &Proof) -> Result<Option<Shown>, Wrong> {
    let (space, reference) = artefact.network.split_once(':').unwrap_or_default();
    let kind = |expected: &str| {
        ensure(space == expected, Code::ProofKind, || {
            format!("a proof of a kind that the network {} does not have", artefact.network)
        })
    };
    match &proof.kind {
        Kind::Bitcoin(branch) => {
            kind("bip122")?;
            branch.check(reference, one).map(Some)
        }
        Kind::Ethereum(paths) => {
            kind("eip155")?;
            paths.check(reference, one).map(Some)
        }
        Kind::None { .. } | Kind::Omitted => Ok(None),
    }
}

/// Whether a transaction ended and moved as is said; what of that the proof can't show.
fn transfers(one: &Named<'_>, shown: &Shown) -> Result<Vec<Unshown>, Wrong> {
    if let (Some(said), Some(is)) = (one.succeeded, shown.succeeded) {
        let how = |succeeded| if succeeded { "succeeded" } else { "reverted" };
        ensure(said == is, Code::Execution, || format!("{} {}, it did not {}", one.tx, how(is), how(said)))?;
    }
    if let (Some(said), Some(is)) = (one.sender, shown.sender.as_deref()) {
        ensure(said == is, Code::Sender, || format!("{is} sent {}, not {said}", one.tx))?;
    }
    let mut unshown = Vec::new();
    // A place among the transfers is either of the transaction's own value or of its log.
    let is: BTreeMap<u32, &Transfer> = shown.transfers.iter().map(|transfer| (transfer.index, transfer)).collect();
    for moved in &one.transfers {
        let transfer = &moved.transfer;
        let unseen = match transfer.via {
            Via::Trace => Some("was made by a call inside the transaction, which blocks don't commit to"),
            Via::Balance => Some("was seen as a difference of balances, which blocks don't commit to"),
            Via::Value if !shown.is_read => Some("is of a transaction of a type that is not known here"),
            Via::Value | Via::Log => None,
        };
        match unseen {
            Some(why) => {
                let why = why.to_owned();
                unshown.push(Unshown { tx: one.tx.to_owned(), index: Some(transfer.index), why });
            }
            None => made(one.tx, moved, is.get(&transfer.index).copied())?,
        }
    }
    Ok(unshown)
}

/// Whether a transaction made a transfer.
fn made(tx: &str, moved: &Moved, shown: Option<&Transfer>) -> Result<(), Wrong> {
    let said = &moved.transfer;
    let index = said.index;
    let Some(is) = shown.filter(|shown| shown.via == said.via) else {
        let via = said.via.as_str();
        return Err(Wrong::new(Code::Transfer, format!("{tx} made no transfer {index} by {via}")));
    };
    let differs = [
        ("asset", is.asset != said.asset),
        ("sender", is.from != said.from),
        ("recipient", is.to != said.to),
        ("amount", is.amount != said.amount),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        None => Ok(()),
        Some((what, _)) => Err(Wrong::new(Code::Transfer, format!("transfer {index} of {tx} has another {what}"))),
    }
}
