//! What an artefact says: `receipt.json` and `settled.json` of version 1.

use std::collections::BTreeMap;

use h402_watch_engine::amount::Amount;
use h402_watch_engine::canonical::digest;
use h402_watch_engine::changes::EventKind;
use h402_watch_engine::id::{BlockRef, WatchId};
use h402_watch_engine::input::{Execution, Transfer, Verification};
use h402_watch_engine::receipt::Evidence;
use h402_watch_engine::request::{Binding, Subject, Terms};
use h402_watch_engine::watch::{Outcome, State};

use crate::proof::Proof;
use crate::wrong::Wrong;
use crate::{consistency, json, shape, spelling};

/// An artefact that was read.
#[derive(Clone, Debug)]
pub struct Artefact {
    /// The digest of its bytes.
    pub receipt_hash: String,
    /// The watch.
    pub watch: WatchId,
    /// Its place among the watch's artefacts, from 1.
    pub index: u64,
    /// The digest of the one before.
    pub previous: Option<String>,
    /// The network, CAIP-2.
    pub network: String,
    /// What is followed.
    pub subject: Subject,
    /// What a payment must meet.
    pub terms: Terms,
    /// What it is for. `fx` stands in settlements only.
    pub binding: Binding,
    /// Where the watch stands.
    pub state: State,
    /// What has come.
    pub received: Amount,
    /// What it tells.
    pub told: Told,
    /// That its transactions are in their blocks.
    pub proofs: Option<Vec<Proof>>,
}

/// What an artefact tells.
#[derive(Clone, Debug)]
pub enum Told {
    /// A transition.
    Receipt(Receipt),
    /// The outcome.
    Settlement(Settlement),
}

/// A transition of a watch.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// What happened.
    pub event: EventKind,
    /// To which transaction.
    pub transaction: Option<Tx>,
    /// The depth that it reached.
    pub depth: Option<u64>,
    /// The block that it left.
    pub left_block: Option<BlockRef>,
    /// The transaction that it replaced.
    pub replaces: Option<String>,
}

/// How a watch ended.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The outcome, and the reason of a failure.
    pub outcome: Outcome,
    /// What counted.
    pub transfers: Vec<Counted>,
    /// The transaction that decided a failure.
    pub transaction: Option<Tx>,
    /// What the outcome was drawn from.
    pub evidence: Evidence,
}

/// A transaction.
#[derive(Clone, Debug)]
pub struct Tx {
    /// Which.
    pub tx: String,
    /// Who sent it.
    pub sender: Option<String>,
    /// The block that it is in.
    pub block: Option<BlockRef>,
    /// How it ended.
    pub execution: Execution,
    /// How much of it was checked.
    pub verification: Verification,
    /// What it moved for the watch.
    pub transfers: Vec<Moved>,
    /// Further facts.
    pub notes: BTreeMap<String, String>,
}

/// A transfer, and where a descriptor derives its recipient.
#[derive(Clone, Debug)]
pub struct Moved {
    /// The transfer.
    pub transfer: Transfer,
    /// Branch and index of its recipient, for a descriptor.
    pub path: Option<(u32, u32)>,
}

/// A transfer that counted, and its transaction.
#[derive(Clone, Debug)]
pub struct Counted {
    /// The transfer.
    pub moved: Moved,
    /// Its transaction.
    pub tx: String,
    /// The block that that is in.
    pub block: BlockRef,
    /// How much of it was checked.
    pub verification: Verification,
    /// Further facts.
    pub notes: BTreeMap<String, String>,
}

/// A transaction that an artefact says to be in a block.
#[derive(Clone, Debug)]
pub(crate) struct Named<'a> {
    pub tx: &'a str,
    pub block: &'a BlockRef,
    /// Whether it ended well; `None` where that is not said.
    pub succeeded: Option<bool>,
    pub sender: Option<&'a str>,
    pub transfers: Vec<&'a Moved>,
}

impl Artefact {
    /// Reads an artefact, and checks that its members go together.
    ///
    /// # Errors
    /// If the bytes are no artefact, or one that contradicts itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, Wrong> {
        let json = json::parse(bytes)?;
        let artefact = shape::read(&json, hex::encode(digest(bytes)))?;
        spelling::check(&artefact)?;
        consistency::check(&artefact)?;
        Ok(artefact)
    }

    /// What happened.
    pub fn event(&self) -> EventKind {
        match &self.told {
            Told::Receipt(receipt) => receipt.event,
            Told::Settlement(_) => EventKind::Settled,
        }
    }

    /// The settlement, if it is one.
    pub fn settlement(&self) -> Option<&Settlement> {
        match &self.told {
            Told::Receipt(_) => None,
            Told::Settlement(settlement) => Some(settlement),
        }
    }

    /// The outcome, of a settlement.
    pub(crate) fn outcome(&self) -> Option<&'static str> {
        self.settlement().map(|settlement| settlement.outcome.as_str())
    }

    /// Why it was no success.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match &self.settlement()?.outcome {
            Outcome::Failed(reason) => Some(reason.as_str()),
            Outcome::Partial => Some("underpaid"),
            Outcome::Success => None,
        }
    }

    /// The file that it stands in, by convention.
    pub fn file_name(&self) -> &'static str {
        match self.told {
            Told::Receipt(_) => "receipt.json",
            Told::Settlement(_) => "settled.json",
        }
    }

    /// The transaction that it is about, other than by what counted.
    pub(crate) fn transaction(&self) -> Option<&Tx> {
        match &self.told {
            Told::Receipt(receipt) => receipt.transaction.as_ref(),
            Told::Settlement(settlement) => settlement.transaction.as_ref(),
        }
    }

    /// The block that its transaction left, if it is about that.
    pub(crate) fn left_block(&self) -> Option<&BlockRef> {
        match &self.told {
            Told::Receipt(receipt) => receipt.left_block.as_ref(),
            Told::Settlement(_) => None,
        }
    }

    /// The transaction that its transaction replaced, if it tells that.
    pub(crate) fn replaces(&self) -> Option<&str> {
        match &self.told {
            Told::Receipt(receipt) => receipt.replaces.as_deref(),
            Told::Settlement(_) => None,
        }
    }

    /// What the transfers that it tells add up to.
    pub(crate) fn moved(&self) -> Amount {
        let told = self.transaction().into_iter().flat_map(|tx| &tx.transfers);
        let counted = self.settlement().into_iter().flat_map(|settlement| &settlement.transfers);
        let all = told.chain(counted.map(|counted| &counted.moved));
        all.fold(Amount::ZERO, |sum, moved| sum.saturating_add(moved.transfer.amount))
    }

    /// The transactions that it says to be in blocks, or to have been in one that left the chain, in its order. Transfers of one transaction stand together.
    pub(crate) fn named(&self) -> Vec<Named<'_>> {
        let mut all: Vec<Named<'_>> = Vec::new();
        if let Some(tx) = self.transaction()
            && let Some(block) = tx.block.as_ref().or(self.left_block())
        {
            all.push(Named {
                tx: &tx.tx,
                block,
                succeeded: match tx.execution {
                    Execution::Succeeded => Some(true),
                    Execution::Reverted => Some(false),
                    Execution::Unknown => None,
                },
                sender: tx.sender.as_deref(),
                transfers: tx.transfers.iter().collect(),
            });
        }
        for counted in self.settlement().into_iter().flat_map(|settlement| &settlement.transfers) {
            match all.last_mut() {
                Some(last) if last.tx == counted.tx => last.transfers.push(&counted.moved),
                _ => all.push(Named {
                    tx: &counted.tx,
                    block: &counted.block,
                    succeeded: Some(true),
                    sender: None,
                    transfers: vec![&counted.moved],
                }),
            }
        }
        all
    }
}
