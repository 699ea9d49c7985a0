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
use super::text::Link;
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
        self.forget_expired();
        let (heights, nonces): (Vec<Expiring>, Vec<_>) = {
            let wants = self.mailbox.interests();
            let open = wants.interests.expiries.iter();
            let open = open.filter(|it| !self.expired.contains(*it) && !self.landed.contains_key(&it.0));
            open.cloned().partition(|(_, expiry)| matches!(expiry, Expiry::Height(_)))
        };
        let height_of = |(_, expiry): &Expiring| match expiry {
            Expiry::Height(height) => Some(*height).filter(|height| *height < last.height),
            Expiry::Nonce { .. } => None,
        };
        let mut due: Vec<_> = heights.into_iter().filter(|expiring| height_of(expiring).is_some()).collect();
        if !due.is_empty() {
            // What an endpoint does not have may hold the transaction.
            let first = self.history_from().await;
            let reached = |height: u64| first.is_some_and(|first| first <= height.saturating_sub(BLOCKHASH_AGE).max(1));
            due.retain(|due| height_of(due).is_some_and(reached));
            due.truncate(STATUSES_AT_ONCE);
            // The first block above it proves it best.
            let above = |height: u64| self.walk.mirror.at(height + 1).copied();
            let proof = |expiring: &Expiring| height_of(expiring).and_then(above).unwrap_or(last).block_ref();
            let due = due.into_iter().map(|expiring| (proof(&expiring), expiring)).collect();
            self.report_expired(due, &last).await?;
        }
        if !nonces.is_empty() && self.nonces_at.is_none_or(|at| at.elapsed() >= NONCE_PERIOD) {
            self.nonces_at = Some(Instant::now());
            let mut used = self.used_nonces(&nonces, &last).await;
            if !used.is_empty() {
                let first = self.history_from().await;
                let held = |nonce: &Expiring| self.nonces_held.get(nonce).copied();
                used.retain(|nonce| first.is_some_and(|first| held(nonce).is_some_and(|held| first <= held)));
            }
            self.report_expired(used.into_iter().map(|nonce| (last.block_ref(), nonce)).collect(), &last).await?;
        }
        Ok(())
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
                    self.reports.observe(Observation::Expired { tx, expiry, block: block.clone() }).await?;
                    self.expired.insert(expiring.clone());
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

    fn forget_expired(&mut self) {
        let wants = self.mailbox.interests();
        self.expired.retain(|expiring| wants.interests.expiries.contains(expiring));
        self.nonces_held.retain(|expiring, _| wants.interests.expiries.contains(expiring));
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
