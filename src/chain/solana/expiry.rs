//! When a transaction can land no more: its blockhash is too old for every block above a final one, or its durable nonce was
//! used by another. Never by the clock, and never by `isBlockhashValid`, which a node that lags answers with no
//! (research/solana.md §3.4).

use std::ops::Range;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use h402_watch_engine::id::{BlockRef, TxId};
use h402_watch_engine::input::Observation;
use h402_watch_engine::request::Expiry;
use serde_json::json;
use solana_hash::Hash;
use solana_pubkey::Pubkey;
use tokio::time::Instant;

use super::follow::Follower;
use super::statuses::STATUSES_AT_ONCE;
use super::text::{Link, bytes, end, spell_nonce, spell_tx};
use super::wire::{RpcAccount, Under};
use crate::chain::Stopping;
use crate::chain::endpoint::Endpoint;
use crate::chain::pool::value;

/// Accounts that are read in one call (agave: `MAX_MULTIPLE_ACCOUNTS`).
const ACCOUNTS_AT_ONCE: usize = 100;
/// Blocks for which a blockhash may be used (agave: `MAX_PROCESSING_AGE`).
const BLOCKHASH_AGE: u64 = 150;
/// How often it is looked what has expired: that may cost calls each time, where history is missing that would prove it.
const PERIOD: Duration = Duration::from_secs(1);
/// How often nonce accounts are read.
const NONCE_PERIOD: Duration = Duration::from_secs(5);
/// Where the value of a nonce stands in its account: behind version, state and authority (solana-nonce `Versions`).
const NONCE_AT: Range<usize> = 40..72;

/// A transaction, and what ends it.
pub type Expiring = (TxId, Expiry);

impl Follower {
    /// Reports the transactions that can land no more, once a final block shows it.
    pub(super) async fn expire(&mut self) -> Result<(), Stopping> {
        let Some(last) = self.walk.mirror.finalized().and_then(|height| self.walk.mirror.at(height)).copied() else {
            return Ok(());
        };
        if self.expired_at.is_some_and(|at| at.elapsed() < PERIOD) {
            return Ok(());
        }
        self.expired_at = Some(Instant::now());
        self.expire_by_height(&last).await?;
        self.expire_by_nonce(&last).await
    }

    async fn expire_by_height(&mut self, last: &Link) -> Result<(), Stopping> {
        if self.past(0, last.height, 1).is_empty() {
            return Ok(());
        }
        // What an endpoint does not have may hold the transaction.
        let Some(first) = self.history_from().await else { return Ok(()) };
        let lowest = if first > 1 { first.saturating_add(BLOCKHASH_AGE) } else { 0 };
        // The first block above it proves it best.
        let above = |height: u64| self.walk.mirror.at(height + 1).copied();
        let proof = |height: u64| above(height).unwrap_or(*last).block_ref();
        let due = self.past(lowest, last.height, STATUSES_AT_ONCE).into_iter();
        let due = due.map(|(height, tx)| (proof(height), (tx, Expiry::Height(height)))).collect();
        self.report_expired(due, last).await
    }

    /// Some of the transactions that no block above a height between these may include, and that are in none.
    fn past(&self, from: u64, to: u64, most: usize) -> Vec<(u64, TxId)> {
        let wants = self.mailbox.interests();
        let past = wants.interests.expiries.between(from, to).filter(|(_, id)| !self.has_landed(id));
        let mut past: Vec<_> = past.take(most).filter_map(|(height, id)| Some((height, spell_tx(id)?))).collect();
        past.sort_unstable_by(|(_, one), (_, other)| one.cmp(other));
        past
    }

    fn has_landed(&self, id: &[u8]) -> bool {
        id.try_into().is_ok_and(|id| self.landed.contains(&id))
    }

    async fn expire_by_nonce(&mut self, last: &Link) -> Result<(), Stopping> {
        if self.nonces_at.is_some_and(|at| at.elapsed() < NONCE_PERIOD) {
            return Ok(());
        }
        let nonces: Vec<Expiring> = {
            let wants = self.mailbox.interests();
            let expiries = &wants.interests.expiries;
            let open = |(tx, expiry): &Expiring| {
                bytes::tx(tx.as_str()).zip(end(expiry)).is_some_and(|(id, end)| expiries.contains(&id, &end))
            };
            self.nonces_held.retain(|expiring, _| open(expiring));
            let nonces = expiries.nonces().filter(|(id, _)| !self.has_landed(id));
            nonces.filter_map(|(id, nonce)| Some((spell_tx(id)?, spell_nonce(nonce)?))).collect()
        };
        if nonces.is_empty() {
            return Ok(());
        }
        self.nonces_at = Some(Instant::now());
        let mut used = self.used_nonces(&nonces, last).await;
        if !used.is_empty() {
            let first = self.history_from().await;
            let held = |nonce: &Expiring| self.nonces_held.get(nonce).copied();
            used.retain(|nonce| first.is_some_and(|first| held(nonce).is_some_and(|held| first <= held)));
        }
        self.report_expired(used.into_iter().map(|nonce| (last.block_ref(), nonce)).collect(), last).await
    }

    /// Reports those of these transactions that are nowhere, up to a final block.
    async fn report_expired(&mut self, due: Vec<(BlockRef, Expiring)>, last: &Link) -> Result<(), Stopping> {
        let head = self.walk.mirror.head().map_or(last.slot, |head| head.slot);
        for chunk in due.chunks(STATUSES_AT_ONCE) {
            let txs: Vec<_> = chunk.iter().map(|(_, (tx, _))| tx.clone()).collect();
            // Asked of all that answer: one that has it is enough to wait.
            let quorum = self.settings.quorum.max(self.usable().await);
            let Ok(statuses) = self.node.statuses(&txs, head, quorum).await else { continue };
            for (block, expiring) in chunk {
                let (tx, expiry) = expiring.clone();
                if !statuses.found.contains_key(&tx) {
                    if let Some((id, end)) = bytes::tx(tx.as_str()).zip(end(&expiry)) {
                        self.mailbox.set_expiry_aside(&id, end);
                    }
                    self.reports.observe(Observation::Expired { tx, expiry, block: block.clone() }).await?;
                }
            }
        }
        Ok(())
    }

    async fn usable(&self) -> usize {
        let mut count = 0;
        for index in 0..self.node.len() {
            count += usize::from(self.node.is_usable(index).await);
        }
        count
    }

    /// Whoever asks about a transaction has not heard that it expired.
    pub(super) fn seek_expiry_again(&self, tx: &TxId) {
        if let Some(id) = bytes::tx(tx.as_str()) {
            self.mailbox.seek_expiry_again(&id);
        }
    }

    /// The height from which on every endpoint has its blocks; `None` if one does not say, or none can be asked.
    async fn history_from(&self) -> Option<u64> {
        let mut highest = None;
        for index in 0..self.node.len() {
            if self.node.is_usable(index).await {
                highest = highest.max(Some(self.node.first_height(index).await.ok()?));
            }
        }
        highest
    }

    /// The transactions whose nonce account was seen to hold their nonce, and holds another value now, at final blocks both. One
    /// that was never seen so may have been used by the transaction itself, long ago.
    async fn used_nonces(&mut self, nonces: &[Expiring], last: &Link) -> Vec<Expiring> {
        let mut used = Vec::new();
        for chunk in nonces.chunks(ACCOUNTS_AT_ONCE) {
            let accounts: Vec<_> = chunk.iter().filter_map(|(_, expiry)| account_of(expiry)).collect();
            let params = json!([accounts, {"encoding": "base64", "commitment": "finalized"}]);
            let read = |endpoint: &Endpoint, answers| {
                let Some(raw) = value(answers)? else { return Ok(None) };
                let under: Under<Vec<Option<RpcAccount>>> = endpoint.read(&raw)?;
                let values: Vec<_> = under.value.iter().map(|account| account.as_ref().and_then(nonce_in)).collect();
                // One that lags has an older value.
                let recent = under.context.slot >= last.slot;
                Ok((values.len() == accounts.len() && recent).then_some(values))
            };
            let calls = [("getMultipleAccounts", params)];
            let told = self.node.on_their_word(self.settings.quorum, &calls, read, "the nonce accounts").await;
            let Ok((values, _)) = told else { continue };
            for (expiring, value) in chunk.iter().zip(values) {
                // Of an account that is not there, or is no nonce, nothing is concluded.
                let (Expiry::Nonce { value: wanted, .. }, Some(value)) = (&expiring.1, value) else { continue };
                if value == *wanted {
                    self.nonces_held.entry(expiring.clone()).or_insert(last.height);
                } else if self.nonces_held.contains_key(expiring) {
                    used.push(expiring.clone());
                }
            }
        }
        used
    }
}

fn account_of(expiry: &Expiry) -> Option<&str> {
    match expiry {
        Expiry::Nonce { account, .. } => Some(account.as_str()),
        Expiry::Height(_) => None,
    }
}

/// The value of a nonce account; none of one that is something else.
fn nonce_in(account: &RpcAccount) -> Option<String> {
    if account.owner != Pubkey::default().to_string() {
        return None;
    }
    let data = BASE64_STANDARD.decode(&account.data.0).ok()?;
    let value: [u8; 32] = data.get(NONCE_AT)?.try_into().ok()?;
    Some(Hash::new_from_array(value).to_string())
}
