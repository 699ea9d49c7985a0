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
use super::node::Detail;
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
/// How often nonce accounts are read.
const NONCE_PERIOD: Duration = Duration::from_secs(5);
/// How many slots must be final after a nonce was first heard of, before another value counts as a later one: the client may have
/// read it from a node that is ahead of ours.
const NONCE_SETTLES: u64 = 150;
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
        self.forget_expired();
        let (heights, nonces): (Vec<Expiring>, Vec<_>) = {
            let wants = self.mailbox.interests();
            let open = wants.interests.expiries.iter().filter(|expiring| !self.expired.contains(*expiring));
            open.cloned().partition(|(_, expiry)| matches!(expiry, Expiry::Height(_)))
        };
        let height_of = |(_, expiry): &Expiring| match expiry {
            Expiry::Height(height) => Some(*height).filter(|height| *height < last.height),
            Expiry::Nonce { .. } => None,
        };
        let mut due: Vec<_> = heights.into_iter().filter(|expiring| height_of(expiring).is_some()).collect();
        due.truncate(STATUSES_AT_ONCE);
        if let Some(lowest) = due.iter().filter_map(height_of).min()
            && self.reaches_down_to(lowest.saturating_sub(BLOCKHASH_AGE)).await
        {
            // The first block that was too late for it proves it best.
            let first = |height: u64| self.walk.mirror.at(height + 1).copied();
            let proof = |expiring: &Expiring| height_of(expiring).and_then(first).unwrap_or(last).block_ref();
            let due = due.into_iter().map(|expiring| (proof(&expiring), expiring)).collect();
            self.report_expired(due, &last).await?;
        }
        let head = self.walk.mirror.head().map_or(last.slot, |head| head.slot);
        let settled = |expiring: &Expiring| {
            let since = *self.nonces_since.entry(expiring.clone()).or_insert(head);
            last.slot >= since + NONCE_SETTLES
        };
        let nonces: Vec<_> = nonces.into_iter().filter(settled).collect();
        if !nonces.is_empty() && self.nonces_at.is_none_or(|at| at.elapsed() >= NONCE_PERIOD) {
            self.nonces_at = Some(Instant::now());
            let used = self.used_nonces(&nonces).await;
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
        self.nonces_since.retain(|expiring, _| wants.interests.expiries.contains(expiring));
    }

    /// Whether every endpoint that answers has the blocks from a height on: what it does not have may hold the transaction.
    async fn reaches_down_to(&self, height: u64) -> bool {
        let mut any = false;
        for index in 0..self.node.len() {
            if !self.node.is_usable(index).await {
                continue;
            }
            let Ok(first) = self.node.at(index).call::<u64>("getFirstAvailableBlock", json!([])).await else {
                return false;
            };
            // A slot has no higher number than the blocks up to it.
            if first > height {
                let block = self.node.block(index, first, Detail::Header).await.found("its first block");
                if block.is_ok_and(|block| block.link.height > height) {
                    tracing::warn!(first, "a node without the history that would prove an expiry");
                    return false;
                }
            }
            any = true;
        }
        any
    }

    /// The transactions whose nonce account holds another value, at a final block.
    async fn used_nonces(&self, nonces: &[Expiring]) -> Vec<Expiring> {
        let mut used = Vec::new();
        for chunk in nonces.chunks(ACCOUNTS_AT_ONCE) {
            let accounts: Vec<_> = chunk.iter().filter_map(|(_, expiry)| account_of(expiry)).collect();
            let params = json!([accounts, {"encoding": "base64", "commitment": "finalized"}]);
            let read = |endpoint: &Endpoint, answers| {
                let Some(raw) = value(answers)? else { return Ok(None) };
                let under: Under<Vec<Option<RpcAccount>>> = endpoint.read(&raw)?;
                let values: Vec<_> = under.value.iter().map(|account| account.as_ref().and_then(nonce_in)).collect();
                Ok((values.len() == accounts.len()).then_some(values))
            };
            let calls = [("getMultipleAccounts", params)];
            let told = self.node.on_their_word(self.settings.quorum, &calls, read, "the nonce accounts").await;
            let Ok((values, _)) = told else { continue };
            for (expiring, value) in chunk.iter().zip(values) {
                // Of an account that is not there, or is no nonce, nothing is concluded.
                let other = |wanted: &str| value.as_deref().is_some_and(|value| value != wanted);
                if matches!(&expiring.1, Expiry::Nonce { value, .. } if other(value)) {
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
