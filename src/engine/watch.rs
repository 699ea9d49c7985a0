//! A watch and the single place where it moves.

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::descriptor::Window;
use crate::id::{BlockRef, Timestamp, TxId, WatchId};
use crate::input::{Place, Transfer, TxFact};
use crate::request::{Subject, WatchRequest};

/// What a watch knows of one transaction that concerns it. The state machine moves per candidate, so that an address,
/// which many transactions may pay, is no special case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// What was last reported of it, `place` and all; `place` is meaningless while `placed` is false.
    pub fact: TxFact,
    /// Whether it is in a mempool or a block now.
    pub placed: bool,
    /// Whether it took the place of the watch's subject.
    pub replacement: bool,
    /// Whether a `replaced` receipt named it.
    pub followed: bool,
    /// Whether an `accepted` receipt named it since it was last seen.
    pub accepted: bool,
    /// The indices of its transfers that are claimed for this watch.
    pub claimed: Vec<u32>,
    /// Whether a `late` receipt named it.
    pub late: bool,
    /// While it is out of the chain: the block that it was in last. Of a watch without an outcome, only until the source has
    /// said where it went.
    pub orphaned_from: Option<BlockRef>,
}

/// One client's request, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The order of creation; the oldest watch takes a transfer first. Its record begins with this, and goes on with the request.
    pub ordinal: u64,
    /// What was asked.
    pub request: WatchRequest,
    /// Its name.
    pub id: WatchId,
    /// When.
    pub created_at: Timestamp,
    /// The head when it was made; an address counts what lies above, unless `not_before` says otherwise.
    pub created_height: Option<u64>,
    /// Whether its artefacts carry inclusion proofs.
    pub proofs: bool,
    /// The transactions that concern it, in the order they were first reported.
    pub candidates: Vec<Candidate>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What counted towards the outcome.
    pub received: Amount,
    /// Whether the deadline passed while a transfer was on its way to the depth (`AtDeadline::Extend`).
    pub extended: bool,
    /// Until when it is kept for late transfers.
    pub late_until: Option<Timestamp>,
    /// Whether a `finalized` receipt said that no reorg can reach what it received.
    pub finalized: bool,
    /// Whether it has left the engine's memory: no reorg and no late transfer can concern it any more.
    pub archived: bool,
    /// How many artefacts it has.
    pub artefacts: u32,
    /// The hash of the last one.
    pub last_hash: Option<[u8; 32]>,
    /// The final block under which its transaction was told to have expired. Forgotten when a block holds it all the same.
    pub expired: Option<BlockRef>,
    /// The addresses that its descriptor derives; of no other subject. Dropped when it is archived.
    pub window: Option<Box<Window>>,
}

impl Watch {
    /// Where it stands (DESIGN §3).
    pub fn state(&self) -> State {
        if self.outcome.is_some() {
            return State::Settled;
        }
        let placed = || self.candidates.iter().filter(|c| c.placed);
        if placed().any(|c| matches!(c.fact.place, Place::Block { .. })) {
            State::Included
        } else if placed().next().is_some() {
            State::Seen
        } else {
            State::Pending
        }
    }

    /// The transfers that are claimed for this watch and in a mempool or the chain now.
    pub fn claimed(&self) -> impl Iterator<Item = (&Candidate, &Transfer)> {
        let placed = self.candidates.iter().filter(|candidate| candidate.placed);
        placed.flat_map(|candidate| candidate.claimed_transfers().map(move |transfer| (candidate, transfer)))
    }

    /// Their sum.
    pub fn claimed_total(&self) -> Amount {
        self.claimed().fold(Amount::ZERO, |sum, (_, transfer)| sum.saturating_add(transfer.amount))
    }

    /// What is still to come before the amount is reached. What only a mempool holds may never come: for a transfer in a
    /// block (`in_block`) only what lies in blocks counts.
    pub fn needed(&self, in_block: bool) -> Amount {
        let claimed = self.claimed().filter(|(candidate, _)| !in_block || candidate.block().is_some());
        let sum = claimed.fold(Amount::ZERO, |sum, (_, transfer)| sum.saturating_add(transfer.amount));
        self.request.terms.amount.saturating_sub(sum)
    }

    /// Forgets the proofs of its candidates.
    pub(crate) fn drop_proofs(&mut self) {
        for candidate in &mut self.candidates {
            candidate.fact.proof = None;
        }
    }

    /// The idempotency key that names it: the request's, or else its id.
    pub fn key(&self) -> &str {
        self.request.key().unwrap_or(self.id.as_str())
    }

    /// Whether it follows one transaction to its end, rather than adding up what comes.
    pub fn is_one_shot(&self) -> bool {
        !matches!(self.request.subject, Subject::Address | Subject::Descriptor { .. })
    }
}

impl Candidate {
    /// The block that it is in now.
    pub fn block(&self) -> Option<&BlockRef> {
        match &self.fact.place {
            Place::Block { block, .. } if self.placed => Some(block),
            _ => None,
        }
    }

    /// Its transfers that are claimed for the watch.
    pub fn claimed_transfers(&self) -> impl Iterator<Item = &Transfer> {
        self.fact.transfers.iter().filter(|transfer| self.claimed.contains(&transfer.index))
    }
}

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
    /// It does not carry the memo.
    MemoMismatch,
    /// It does not name all references.
    ReferenceMissing,
    /// It is older than `not_before`.
    TooEarly,
    /// Another transaction took its place, and does not meet the terms.
    Replaced {
        /// That transaction.
        by: TxId,
    },
    /// Another transaction used what it needs, although it did not let itself be replaced.
    Conflicted {
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
            Self::MemoMismatch => "memo_mismatch",
            Self::ReferenceMissing => "reference_missing",
            Self::TooEarly => "too_early",
            Self::Replaced { .. } => "replaced",
            Self::Conflicted { .. } => "conflicted",
            Self::AlreadyClaimed { .. } => "already_claimed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}
