//! What an account was named in: `getSignaturesForAddress`, newest first. A payment to a token account does not name its
//! owner, so the owner's token accounts are asked for; the blocks of the last seconds may be missing from a node's index.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use h402_watch_engine::id::{Address, AssetId, Timestamp, TxId};
use h402_watch_engine::input::TxFact;
use serde_json::json;
use solana_pubkey::Pubkey;

use super::follow::Follower;
use super::node::{Detail, READ_AT_ONCE, confirmed};
use super::text::{self, Link};
use super::wire::{Keyed, Signed, Under};
use crate::chain::endpoint::CallError;

const TOKEN: Pubkey = Pubkey::from_str_const("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");
const TOKEN_2022: Pubkey = Pubkey::from_str_const("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");
const ASSOCIATED_TOKEN: Pubkey = Pubkey::from_str_const("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL");

/// Transactions in a page (agave: `MAX_GET_CONFIRMED_SIGNATURES_FOR_ADDRESS2_LIMIT`).
const PAGE: usize = 1000;
/// Pages of one account, whatever is in them: failed transactions may fill some.
const PAGES_MAX: usize = 100;
/// Token accounts of one owner that are searched beside the associated ones.
const ACCOUNTS_MAX: usize = 14;

/// How far down a search goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Floor {
    /// Blocks below this height do not count.
    pub height: Option<u64>,
    /// Blocks that state an earlier time do not count.
    pub time: Option<Timestamp>,
}

impl Floor {
    /// Whether a block counts.
    pub fn admits(&self, link: &Link) -> bool {
        self.height.is_none_or(|height| link.height >= height) && self.time.is_none_or(|time| link.timestamp() >= time)
    }
}

impl Follower {
    /// The transactions in our chain that paid an address, down to a floor, in the order of their blocks; and the slot from which
    /// on that is all. At most `most` are read, the newest.
    ///
    /// # Errors
    /// If fewer endpoints than the quorum answer, or one of the transactions can't be read.
    pub(super) async fn history(
        &self,
        owner: &Address,
        asset: &AssetId,
        floor: Floor,
        most: usize,
    ) -> Result<(Vec<(Link, TxFact)>, u64), String> {
        let mut named: BTreeMap<TxId, u64> = BTreeMap::new();
        let mut told = 0;
        for index in self.those_that_reach(floor).await {
            if told < self.settings.quorum
                && let Ok(all) = self.named(index, owner, asset, floor, most).await
            {
                told += 1;
                named.extend(all);
            }
        }
        if told < self.settings.quorum {
            return Err(format!("fewer than {} endpoints tell what an account was named in", self.settings.quorum));
        }
        let mut named: Vec<_> = named.into_iter().collect();
        named.sort_by_key(|(_, slot)| Reverse(*slot));
        let whole_from = named.get(most).map_or(0, |(_, slot)| slot + 1);
        named.retain(|(_, slot)| *slot >= whole_from);
        let mut found = Vec::new();
        for chunk in named.chunks(READ_AT_ONCE) {
            let ours = |link: &Link| self.is_ours(link);
            for landed in self.node.landed(chunk, self.settings.quorum, ours).await {
                let (executed, link, word) = landed.ok_or("a transaction of its history can't be read")?;
                if floor.admits(&link) {
                    found.push((link, executed.fact(&link, word)));
                }
            }
        }
        found.retain(|(_, fact)| fact.transfers.iter().any(|moved| moved.to == *owner && moved.asset == *asset));
        found.sort_by_key(|(link, _)| link.height);
        Ok((found, whole_from))
    }

    /// The endpoints that have all blocks down to a floor; if none has, which a watch can outlive, all that may be asked.
    async fn those_that_reach(&self, floor: Floor) -> Vec<usize> {
        let kept = || self.walk.mirror.iter().find(|link| floor.admits(link)).map(|link| link.height);
        let lowest = floor.height.or_else(kept).unwrap_or(0).max(1);
        let (mut reach, mut usable) = (Vec::new(), Vec::new());
        for index in 0..self.node.len() {
            if self.node.is_usable(index).await {
                usable.push(index);
                if self.node.first_height(index).await.is_ok_and(|first| first <= lowest) {
                    reach.push(index);
                }
            }
        }
        if reach.is_empty() {
            tracing::warn!(network = %self.settings.network, lowest, "no endpoint has the blocks from there on; the older ones don't count");
            return usable;
        }
        reach
    }

    /// The transactions that succeeded and name one of an owner's accounts, as one endpoint has them.
    async fn named(
        &self,
        index: usize,
        owner: &Address,
        asset: &AssetId,
        floor: Floor,
        most: usize,
    ) -> Result<Vec<(TxId, u64)>, CallError> {
        let head = self.walk.mirror.head().map_or(0, |head| head.slot);
        let mut found = Vec::new();
        for account in self.accounts_of(index, owner, asset).await? {
            let mut before: Option<String> = None;
            let of_others = found.len();
            for _ in 0..PAGES_MAX {
                let mut options = confirmed();
                options["limit"] = json!(PAGE);
                // What one that lags has not heard of may have been paid.
                options["minContextSlot"] = json!(head);
                if let Some(before) = &before {
                    options["before"] = json!(before);
                }
                let signed: Vec<Signed> =
                    self.node.at(index).call("getSignaturesForAddress", json!([account, options])).await?;
                let Some(last) = signed.last() else { break };
                let (full, done) = (signed.len() >= PAGE, self.is_below(index, last, floor).await?);
                before = Some(last.signature.clone());
                let succeeded = signed.into_iter().filter(|signed| signed.err.is_none());
                found.extend(succeeded.map(|signed| (TxId::new(signed.signature), signed.slot)));
                if !full || done || found.len() - of_others > most {
                    break;
                }
            }
        }
        // What is above our head is matched when its block joins.
        found.retain(|(_, slot)| *slot <= head && self.slot_may_count(*slot, floor));
        Ok(found)
    }

    /// Whether a block at a slot may lie above the floor, as far as the kept blocks tell.
    fn slot_may_count(&self, slot: u64, floor: Floor) -> bool {
        let lowest = self.walk.mirror.iter().find(|link| floor.admits(link));
        let bottom = self.walk.mirror.bottom().is_none_or(|bottom| floor.admits(bottom));
        bottom || lowest.is_some_and(|lowest| slot >= lowest.slot)
    }

    /// Whether all that comes below a transaction lies below the floor.
    async fn is_below(&self, index: usize, signed: &Signed, floor: Floor) -> Result<bool, CallError> {
        if !self.slot_may_count(signed.slot, floor) {
            return Ok(true);
        }
        if let (Some(floor), Some(time)) = (floor.time, signed.block_time) {
            return Ok(time.saturating_mul(1000) < floor.0);
        }
        let Some(height) = floor.height else { return Ok(floor.time.is_none()) };
        let block = self.node.block(index, signed.slot, Detail::Header).await;
        block.found("a block of a transaction").map(|block| block.link.height < height).map_err(CallError::Endpoint)
    }

    /// Where an owner is paid in an asset: the wallet itself, or its token accounts of both programs, other than the
    /// associated ones too where an endpoint lists them.
    async fn accounts_of(&self, index: usize, owner: &Address, asset: &AssetId) -> Result<Vec<String>, CallError> {
        if asset.is_native() {
            return Ok(vec![owner.to_string()]);
        }
        let parsed = (text::parse_account(owner.as_str()), text::parse_account(asset.as_str()));
        let (Ok(wallet), Ok(mint)) = parsed else { return Ok(Vec::new()) };
        let associated = |program: Pubkey| {
            let seeds = [wallet.as_ref(), program.as_ref(), mint.as_ref()];
            Pubkey::find_program_address(&seeds, &ASSOCIATED_TOKEN).0.to_string()
        };
        let mut accounts = vec![associated(TOKEN), associated(TOKEN_2022)];
        let options = json!({"encoding": "base64", "dataSlice": {"offset": 0, "length": 0}, "commitment": "confirmed"});
        let params = json!([owner.as_str(), {"mint": asset.as_str()}, options]);
        match self.node.at(index).call::<Under<Vec<Keyed>>>("getTokenAccountsByOwner", params).await {
            Ok(held) => {
                let others = held.value.into_iter().map(|account| account.pubkey);
                let others: BTreeSet<_> = others.filter(|account| !accounts.contains(account)).collect();
                // Anybody may open some for somebody; the associated ones always come along.
                accounts.extend(others.into_iter().take(ACCOUNTS_MAX));
            }
            // Not every node has the index; and one that knows no such mint says so.
            Err(CallError::Unsupported(_) | CallError::Node { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(accounts)
    }
}
