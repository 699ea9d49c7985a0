//! A watch and the single place where it moves.

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::id::{BlockRef, Timestamp, TxId, WatchId};
use crate::input::{Execution, Place, Transfer, TxFact};
use crate::request::WatchRequest;

/// Where a watch stands on its way to an outcome (DESIGN §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    /// Nothing known.
    Pending,
    /// In a mempool.
    Seen,
    /// In a block of the chain.
    Included,
    /// The outcome is written.
    Settled,
}

impl State {
    /// The word that stands in artefacts and interfaces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Seen => "seen",
            Self::Included => "included",
            Self::Settled => "settled",
        }
    }
}

/// How a watch ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The terms are met.
    Success,
    /// Something came, and less than asked.
    Partial,
    /// Nothing that counts came.
    Failed(Reason),
}

impl Outcome {
    /// The word that stands in artefacts and interfaces.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Partial => "partial",
            Self::Failed(_) => "failed",
        }
    }
}

/// Why a watch failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The deadline passed.
    DeadlinePassed,
    /// The transaction is in the chain, and moved nothing.
    Reverted,
    /// It pays someone else.
    WrongRecipient,
    /// It pays in something else.
    WrongAsset,
    /// It pays nothing.
    Underpaid,
    /// It pays more than the rule allows.
    Overpaid,
    /// Someone else paid.
    PayerMismatch,
    /// It is older than `not_before`.
    TooEarly,
    /// Another transaction took its place, and does not meet the terms.
    Replaced {
        /// That transaction.
        by: TxId,
    },
    /// The transfer paid another watch.
    AlreadyClaimed {
        /// That watch.
        by: WatchId,
    },
    /// It can never land any more.
    Expired,
    /// The client ended the watch.
    Cancelled,
}

impl Reason {
    /// The word that stands in artefacts and interfaces.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::DeadlinePassed => "deadline_passed",
            Self::Reverted => "reverted",
            Self::WrongRecipient => "wrong_recipient",
            Self::WrongAsset => "wrong_asset",
            Self::Underpaid => "underpaid",
            Self::Overpaid => "overpaid",
            Self::PayerMismatch => "payer_mismatch",
            Self::TooEarly => "too_early",
            Self::Replaced { .. } => "replaced",
            Self::AlreadyClaimed { .. } => "already_claimed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}
