//! How far single transactions have come: `getSignatureStatuses`, 256 in a call. A status is a hint which block holds a
//! transaction; that none has one counts only up to the slot that the answer was given under.

use std::collections::HashMap;

use h402_watch_engine::id::TxId;
use serde_json::json;
use serde_json::value::RawValue;

use super::node::{Node, parse};
use super::wire::{Status, Under};
use crate::chain::endpoint::{Call, CallError, Endpoint};
use crate::chain::pool::{Answers, blame};

/// Transactions that are asked for in one call (agave: `MAX_GET_SIGNATURE_STATUSES_QUERY_ITEMS`).
pub const STATUSES_AT_ONCE: usize = 256;

/// The statuses of some transactions.
#[derive(Clone, Debug)]
pub struct Statuses {
    pub found: HashMap<TxId, Status>,
    /// The slot up to which the others are known not to have landed; all slots, if none was asked for.
    pub covers: u64,
}

impl Statuses {
    /// The calls that ask for them. Without `history` nodes look back some 300 blocks at most.
    pub fn calls(txs: &[TxId], history: bool) -> impl Iterator<Item = Call> {
        txs.chunks(STATUSES_AT_ONCE).map(move |chunk| {
            let signatures: Vec<_> = chunk.iter().map(TxId::as_str).collect();
            ("getSignatureStatuses", json!([signatures, {"searchTransactionHistory": history}]))
        })
    }

    /// Reads the answers to [`Statuses::calls`].
    pub fn read(endpoint: &Endpoint, txs: &[TxId], answers: &[Box<RawValue>]) -> Result<Self, CallError> {
        let mut all = Self { found: HashMap::new(), covers: u64::MAX };
        for (chunk, raw) in txs.chunks(STATUSES_AT_ONCE).zip(answers) {
            let under: Under<Vec<Option<Status>>> = parse(endpoint, raw)?;
            if under.value.len() != chunk.len() {
                return Err(blame(endpoint, "another number of statuses than were asked for"));
            }
            all.covers = all.covers.min(under.context.slot);
            let found = chunk.iter().zip(under.value).filter_map(|(tx, status)| Some((tx.clone(), status?)));
            all.found.extend(found);
        }
        Ok(all)
    }

    /// The slot up to which blocks may be told without more than these show: what is only processed in a slot may be confirmed
    /// there by the time its block is read.
    pub fn surely_cover(&self) -> u64 {
        let processed = self.found.values().filter(|status| !status.is_confirmed()).map(|status| status.slot);
        processed.min().map_or(self.covers, |lowest| self.covers.min(lowest.saturating_sub(1)))
    }

    /// Adds what another endpoint says: whoever knows more is believed, for it leads to a read.
    pub fn add(&mut self, other: Self) {
        for (tx, status) in other.found {
            match self.found.get(&tx) {
                Some(known) if known.is_confirmed() || !status.is_confirmed() => {}
                _ => {
                    self.found.insert(tx, status);
                }
            }
        }
    }
}

impl Node {
    /// The statuses of transactions, however old, from `quorum` endpoints that have come as far as `slot`, and of all others what
    /// those don't know.
    ///
    /// # Errors
    /// If fewer have.
    pub async fn statuses(&self, txs: &[TxId], slot: u64, quorum: usize) -> Result<Statuses, String> {
        let mut told = Statuses { found: HashMap::new(), covers: slot };
        let mut count = 0;
        for index in 0..self.len() {
            // What one does not know, or has forgotten, another may know.
            let open = |tx: &&TxId| count < quorum || !told.found.contains_key(*tx);
            let asked: Vec<_> = txs.iter().filter(open).cloned().collect();
            if asked.is_empty() || !self.is_usable(index).await {
                continue;
            }
            let calls: Vec<_> = Statuses::calls(&asked, true).collect();
            let Ok(answers) = self.at(index).batches(&calls).await else { continue };
            let Ok(statuses) = read(self.at(index), &asked, answers) else { continue };
            // What one that lags has not seen may have landed.
            count += usize::from(statuses.covers >= slot);
            told.add(statuses);
        }
        if count < quorum {
            return Err(format!("fewer than {quorum} endpoints are at our head"));
        }
        Ok(told)
    }
}

fn read(endpoint: &Endpoint, txs: &[TxId], answers: Answers) -> Result<Statuses, CallError> {
    Statuses::read(endpoint, txs, &answers.into_iter().collect::<Result<Vec<_>, _>>()?)
}
