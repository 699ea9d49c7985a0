//! What the engine is told: facts that sources report, each under the chain it was seen under.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::id::{Address, AssetId, BlockRef, Header, SpendKey, Timestamp, TxId, WatchId};
use crate::proof::Proof;
use crate::request::{Expiry, Tag};

/// How much of what an endpoint said was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verification {
    /// Recomputed against the roots in the block's header.
    Trie,
    /// The same from at least `agreed` of `asked` endpoints.
    Quorum {
        /// Endpoints that have to give the same answer.
        agreed: u32,
        /// Endpoints that there are.
        asked: u32,
    },
    /// One endpoint's word.
    Endpoint,
}

/// How a movement of value was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Via {
    /// The transaction's own value or output.
    Value,
    /// An event that a token contract logged.
    Log,
    /// A call inside the transaction, read from the node's trace.
    Trace,
    /// A difference of balances: around the transaction where the chain states it, else around a block.
    Balance,
}

impl Via {
    /// The word that stands in artefacts and interfaces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Log => "log",
            Self::Trace => "trace",
            Self::Balance => "balance",
        }
    }
}

/// One movement of value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Which of its transaction's transfers; stable when the transaction moves to another block.
    pub index: u32,
    /// What moved.
    pub asset: AssetId,
    /// From whom, where the chain says so.
    pub from: Option<Address>,
    /// To whom.
    pub to: Address,
    /// How much.
    pub amount: Amount,
    /// How it was found.
    pub via: Via,
}

/// Where a transaction is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// Known to a node, in no block yet.
    Mempool,
    /// In a block.
    Block {
        /// Which.
        block: BlockRef,
        /// The time that the block states.
        time: Timestamp,
    },
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Execution {
    /// Not executed yet.
    Unknown,
    /// It did what it says.
    Succeeded,
    /// It is in a block, and moved nothing.
    Reverted,
}

/// An authorization that a transaction used up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationUse {
    /// The contract that logged it.
    pub asset: AssetId,
    /// Who had signed it.
    pub authorizer: Address,
    /// Its single-use number.
    #[serde(with = "crate::text")]
    pub nonce: String,
    /// Whether it was cancelled instead of used.
    pub cancelled: bool,
}

/// What is known of one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxFact {
    /// Which.
    pub tx: TxId,
    /// Where it is.
    pub place: Place,
    /// Who sent it.
    pub sender: Option<Address>,
    /// How it ended.
    pub execution: Execution,
    /// What it uses up, so far as the source looked.
    pub spends: Vec<SpendKey>,
    /// Its transfers to recipients that are watched, in any asset. Empty while unknown (see `transfers_known`).
    pub transfers: Vec<Transfer>,
    /// Whether `transfers` can be relied on; before execution it often can't.
    pub transfers_known: bool,
    /// Authorizations that it used or cancelled.
    pub authorizations: Vec<AuthorizationUse>,
    /// Whether it lets itself be replaced by the chain's own rules: what takes its place then is a replacement, otherwise a
    /// double spend.
    pub replaceable: bool,
    /// The depth below which nobody can use what it moved; 0 where there is no such rule.
    pub matures: u32,
    /// Those among its recipients, and among the watched, whose own money it uses. What one pays oneself is no payment.
    pub funded_by: Vec<Address>,
    /// The texts that it carries for whoever is paid.
    pub memos: Vec<String>,
    /// The addresses that it names, whether they are paid or not: a payment may be bound to one.
    pub references: Vec<Address>,
    /// Further facts that its receipts repeat, by name.
    pub notes: BTreeMap<String, String>,
    /// How much of this was checked.
    pub verification: Verification,
    /// What shows that it is in its block, while [`crate::changes::Interest::Proofs`] is open.
    pub proof: Option<Box<Proof>>,
}

impl TxFact {
    /// A transaction outside of the chain of which nothing else is known.
    pub fn of(tx: TxId) -> Self {
        Self {
            tx,
            place: Place::Mempool,
            sender: None,
            execution: Execution::Unknown,
            spends: Vec::new(),
            transfers: Vec::new(),
            transfers_known: false,
            authorizations: Vec::new(),
            replaceable: false,
            matures: 0,
            funded_by: Vec::new(),
            memos: Vec::new(),
            references: Vec::new(),
            notes: BTreeMap::new(),
            verification: Verification::Endpoint,
            proof: None,
        }
    }

    /// The same with other transfers. Its own, of which there may be thousands, are not copied.
    #[must_use]
    pub fn with_transfers(&self, transfers: Vec<Transfer>) -> Self {
        Self {
            tx: self.tx.clone(),
            place: self.place.clone(),
            sender: self.sender.clone(),
            execution: self.execution,
            spends: self.spends.clone(),
            transfers,
            transfers_known: self.transfers_known,
            authorizations: self.authorizations.clone(),
            replaceable: self.replaceable,
            matures: self.matures,
            funded_by: self.funded_by.clone(),
            memos: self.memos.clone(),
            references: self.references.clone(),
            notes: self.notes.clone(),
            verification: self.verification.clone(),
            proof: self.proof.clone(),
        }
    }
}

/// One block that extends the chain, and what it holds of what is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Its header.
    pub header: Header,
    /// The lowest time that it, or a block above it, may state: deadlines before that have passed. Its own time where times
    /// only rise; some chains let a block state an earlier time than the one below it.
    pub floor: Timestamp,
    /// The transactions in it that concern an open interest, in block order.
    pub facts: Vec<TxFact>,
}

/// A fact that a source reports about its network; never an opinion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Observation {
    /// The chain grew: consecutive blocks, the first one's parent in the chain that the engine knows (the fork point),
    /// or any block at all while it knows none. Whatever lay above the fork point has left the chain.
    Blocks(Vec<Block>),
    /// A transaction is in a mempool.
    Seen(TxFact),
    /// A transaction in a block that the engine has already, found after the block was reported.
    Found(TxFact),
    /// A transaction is in no block of the chain up to `under`, and no endpoint has it in its mempool.
    Missing {
        /// Which.
        tx: TxId,
        /// The head under which it was looked for.
        under: BlockRef,
    },
    /// A transaction can be included no more: the chain up to `block`, which is final, does not hold it, and no block above
    /// can. To be told after the finality of `block`; telling it again changes nothing.
    Expired {
        /// Which.
        tx: TxId,
        /// What has come: of several that watches state for one transaction, this one is proven.
        expiry: Expiry,
        /// The block that proves it.
        block: BlockRef,
    },
    /// The answer to `Ask::LookUp`: all that the chain up to `under` and the mempools hold of the watch's subject.
    LookedUp {
        /// The watch that it was asked for.
        watch: WatchId,
        /// The head under which it was looked up.
        under: BlockRef,
        /// What was found; empty when nothing was.
        facts: Vec<TxFact>,
    },
    /// The chain gives a block this tag.
    Finality {
        /// The tag.
        tag: Tag,
        /// The highest block that has it.
        block: BlockRef,
    },
    /// At `at`, the endpoints had no block that the engine was not told of.
    Synced {
        /// When they were asked.
        at: Timestamp,
    },
}
