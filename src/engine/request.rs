//! What a client asks for: subject, terms, binding.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::id::{Address, AssetId, NetworkId, Timestamp, TxId};

/// What a watch follows (DESIGN §2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// One transaction, whoever replaces it included.
    Transaction {
        /// Its id.
        tx: TxId,
        /// When it can be included no more, if the client knows.
        expiry: Option<Expiry>,
    },
    /// Whatever reaches `terms.pay_to`.
    Address,
    /// Whatever reaches an address that a descriptor derives.
    Descriptor {
        /// The descriptor in the network's canonical spelling; `terms.pay_to` repeats it.
        descriptor: String,
        /// How many unused addresses above the highest used one are looked for, on each branch.
        gap_limit: u32,
    },
    /// A signed authorization that anyone may submit, in whichever transaction.
    Authorization {
        /// Who signed it.
        authorizer: Address,
        /// Its single-use number, 32 bytes in hex.
        #[serde(with = "crate::text")]
        nonce: String,
        /// When it can no longer be submitted, by block time.
        valid_before: Option<Timestamp>,
    },
}

/// What ends a transaction that no block has included yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Expiry {
    /// The last height of a block that may include it.
    Height(u64),
    /// It can be included only while an account holds a value.
    Nonce {
        /// The account.
        account: Address,
        /// The value that the transaction was signed with.
        #[serde(with = "crate::text")]
        value: String,
    },
}

/// How the amount received compares with the amount asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum AmountRule {
    /// Neither more nor less.
    Exact,
    /// As much or more.
    #[default]
    AtLeast,
    /// More than nothing, and no more than asked.
    UpTo,
}

/// A level of finality that a chain itself announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tag {
    /// Voted for by most of the network, and not yet irreversible.
    Confirmed,
    /// Unlikely to be reorganised, in the network's own judgement.
    Safe,
    /// Irreversible, in the network's own judgement.
    Finalized,
}

/// How deep a transfer must lie before it settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Depth {
    /// Blocks, the transfer's own included; 0 asks for an optimistic `accepted` before that.
    Blocks(u32),
    /// At or below the block that the chain gives this tag.
    Tag(Tag),
}

/// What the deadline does to a transfer that is included, at less than the depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum AtDeadline {
    /// It does not count.
    #[default]
    Fail,
    /// The watch waits until it is deep enough, or gone.
    Extend,
}

/// What a payment must meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// In which asset. First, as records of watches begin.
    pub asset: AssetId,
    /// Who must receive it: an address, or the descriptor that derives it.
    pub pay_to: Address,
    /// How much, in the asset's smallest unit.
    pub amount: Amount,
    /// How the amount is compared.
    pub amount_rule: AmountRule,
    /// Who must pay it, if that matters: the transfer's `from`, or the sender of the transaction.
    pub payer: Option<Address>,
    /// How deep.
    pub depth: Depth,
    /// Blocks that state an earlier time do not count.
    pub not_before: Option<Timestamp>,
    /// Blocks below do not count; for an address the blocks from here on are searched for what was paid before the watch
    /// was made.
    pub from_height: Option<u64>,
    /// Blocks that state a later time do not count.
    pub deadline: Timestamp,
    /// What the deadline does to a shallow transfer.
    pub at_deadline: AtDeadline,
    /// A memo that the payment's transaction must carry, exactly.
    pub memo: Option<String>,
    /// Addresses that it must all name.
    pub references: Vec<Address>,
}

impl Terms {
    /// Whether they name what only a payment of this one order carries.
    pub fn bind(&self) -> bool {
        self.memo.is_some() || !self.references.is_empty()
    }
}

/// What the payment is for: opaque to the engine, repeated in each artefact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Binding {
    /// Hash of the quote.
    #[serde(with = "crate::text::maybe")]
    pub quote_hash: Option<String>,
    /// Hash of the authorisation.
    #[serde(with = "crate::text::maybe")]
    pub auth_hash: Option<String>,
    /// What is bought.
    pub resource: Option<String>,
    /// The client's own words.
    pub labels: BTreeMap<String, String>,
    /// The exchange rate that the quote was made with; repeated in the settlement only.
    pub fx: BTreeMap<String, String>,
}

/// Which receipts a watch emits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Report {
    /// Each change of state.
    #[default]
    Milestones,
    /// Each further block of depth, too, until the settlement.
    EveryDepth,
}

/// One client's request to follow one subject, to an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRequest {
    /// The network, CAIP-2. First, and then the terms, as records of watches begin.
    pub network: NetworkId,
    /// What it must meet.
    pub terms: Terms,
    /// What to follow.
    pub subject: Subject,
    /// What it is for.
    pub binding: Binding,
    /// Names the request: the same key again is the same watch. Default: the quote hash, else the digest of the request.
    #[serde(with = "crate::text::maybe")]
    pub idempotency_key: Option<String>,
    /// Which receipts.
    pub report: Report,
    /// Whether artefacts carry inclusion proofs. Default: as the network is configured.
    pub proofs: Option<bool>,
}
