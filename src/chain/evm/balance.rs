//! Payments that contracts make in the native coin leave no log. Where no endpoint traces, and the configuration says so, they
//! are found as balances that grew by more than transactions explain (research/evm.md §2.6).
//!
//! One request every few blocks, for some of the watched addresses in turn. What one block's balance does not explain is
//! reported as a transfer of that block, by balance. It is a net, not a ledger: coin that leaves an address in other ways than
//! its own transactions hides as much of what came; what a validator is paid counts as received; and the probe runs after the
//! block, so that what comes in the last blocks before a deadline may be told as late. Where that matters, an endpoint that
//! traces is needed.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, U256};
use h402_watch_engine::input::{Execution, Observation};
use serde_json::json;

use super::facts;
use super::follow::Follower;
use super::text::{Link, bytes};
use super::wire::Wei;
use crate::chain::endpoint::BATCH_MAX;
use crate::chain::endpoint::{Call, Endpoint};
use crate::chain::pool::Answers;
use crate::chain::{InternalTransfers, Stopping};

/// Blocks between two probes.
const PROBE_EVERY: u64 = 4;

/// Balances as they were last seen.
#[derive(Default)]
pub(super) struct Balances {
    known: BTreeMap<Address, (u64, B256, U256)>,
    cursor: Option<Address>,
    probed: u64,
}

impl Follower {
    fn probes(&self) -> bool {
        self.settings.internal_transfers == InternalTransfers::Balance
    }

    /// Looks at the next few balances, now and then.
    pub(super) async fn probe_balances(&mut self) -> Result<(), Stopping> {
        let Some(head) = self.walk.mirror.head().copied().filter(|_| self.probes()) else { return Ok(()) };
        if head.height < self.balances.probed + PROBE_EVERY || self.unfinished.is_some() {
            return Ok(());
        }
        let watched = self.watched_addresses();
        if watched.is_empty() {
            return Ok(());
        }
        let at: Vec<_> = watched.iter().map(|address| (*address, head.hash)).collect();
        let Ok(balances) = self.balances_at(&at).await else { return Ok(()) };
        self.balances.probed = head.height;
        let Some(bottom) = self.walk.mirror.bottom().copied() else { return Ok(()) };
        for (address, balance) in watched.into_iter().zip(balances) {
            let before = self.balances.known.get(&address).copied();
            let before = before.filter(|(height, hash, _)| self.walk.mirror.holds(*height, *hash));
            // After a start, a reorg, or for a new watch: from the lowest block that is kept. What was told before is told
            // again, in the same words.
            let (height, hash, known) = match before {
                Some(before) => before,
                None => {
                    match self.balances_at(&[(address, bottom.hash)]).await.map(|balances| balances.first().copied()) {
                        Ok(Some(known)) => (bottom.height, bottom.hash, known),
                        _ => continue,
                    }
                }
            };
            if balance == known || self.explain(address, height, hash, &head).await? {
                self.balances.known.insert(address, (head.height, head.hash, balance));
            }
        }
        Ok(())
    }

    /// The addresses that are looked at next: those that follow in their order, and the first ones after the last. One pass over
    /// all that are watched, which puts nothing aside but these.
    fn watched_addresses(&mut self) -> Vec<Address> {
        let cursor = self.balances.cursor;
        let mut next = BTreeSet::new();
        {
            let wants = self.mailbox.interests();
            let recipients = &wants.interests.recipients;
            for address in recipients.in_asset(bytes::NATIVE).filter_map(|address| Address::try_from(address).ok()) {
                next.insert((cursor.is_some_and(|cursor| address <= cursor), address));
                if next.len() > BATCH_MAX {
                    next.pop_last();
                }
            }
            // What was known below the blocks that are kept is of no use any more.
            let bottom = self.walk.mirror.bottom().map_or(0, |bottom| bottom.height);
            let known = &mut self.balances.known;
            known.retain(|address, (height, ..)| {
                *height >= bottom && recipients.wants(address.as_slice(), bytes::NATIVE)
            });
        }
        let next: Vec<_> = next.into_iter().map(|(_, address)| address).collect();
        self.balances.cursor = next.last().copied();
        next
    }

    /// Walks the blocks in which a balance changed. Returns whether all of them could be looked at.
    async fn explain(&mut self, address: Address, from: u64, hash: B256, head: &Link) -> Result<bool, Stopping> {
        let mut links: Vec<_> = self.walk.mirror.iter().filter(|link| link.height > from).copied().collect();
        links.retain(|link| link.height <= head.height);
        let mut at = vec![(address, hash)];
        at.extend(links.iter().map(|link| (address, link.hash)));
        let mut balances = Vec::with_capacity(at.len());
        for batch in at.chunks(BATCH_MAX) {
            let Ok(some) = self.balances_at(batch).await else { return Ok(false) };
            balances.extend(some);
        }
        for (link, pair) in links.iter().zip(balances.windows(2)) {
            if pair[0] == pair[1] {
                continue;
            }
            let Ok((came, went)) = self.explained(address, link).await else { return Ok(false) };
            let surplus = pair[1].saturating_add(went).saturating_sub(pair[0]).saturating_sub(came);
            if !surplus.is_zero() {
                let fact = facts::by_balance(link, address, surplus);
                self.note(link.height, std::slice::from_ref(&fact));
                self.reports.observe(Observation::Found(fact)).await?;
            }
        }
        Ok(true)
    }

    /// What transactions of a block brought an address, and what its own took away.
    async fn explained(&mut self, address: Address, link: &Link) -> Result<(U256, U256), String> {
        let block = self.block_of(link).await?;
        let receipts = self.blocks.receipts(&self.pool, &block).await?;
        let (mut came, mut went) = (U256::ZERO, U256::ZERO);
        if receipts.txs.iter().all(|tx| tx.to != Some(address) && tx.from != address) {
            return Ok((came, went));
        }
        let bodies = self.blocks.bodies(&self.pool, &block).await?;
        for (tx, body) in receipts.txs.iter().zip(&bodies.txs) {
            let value = if tx.execution == Execution::Succeeded { body.value } else { U256::ZERO };
            if tx.to == Some(address) {
                came = came.saturating_add(value);
            }
            if tx.from == address {
                went = went.saturating_add(value).saturating_add(tx.fee);
            }
        }
        Ok((came, went))
    }

    async fn balances_at(&self, at: &[(Address, B256)]) -> Result<Vec<U256>, String> {
        // EIP-1898: by hash, so that no other branch is asked.
        let call =
            |(address, hash): &(Address, B256)| -> Call { ("eth_getBalance", json!([address, { "blockHash": hash }])) };
        let calls: Vec<_> = at.iter().map(call).collect();
        let read = |endpoint: &Endpoint, answers: Answers| {
            let balances = answers.into_iter().map(|answer| endpoint.read::<Wei>(&answer?));
            balances.map(|balance| balance.map(|wei| wei.0)).collect::<Result<Vec<_>, _>>().map(Some)
        };
        let said = self.pool.on_their_word(self.settings.quorum, &calls, read, "balances").await;
        said.map(|(balances, _)| balances)
    }
}
