//! What a block holds of what is watched, as facts for the engine.

use std::collections::BTreeMap;

use alloy_primitives::{Address as EvmAddress, B256, U256};
use h402_watch_engine::amount::Amount;
use h402_watch_engine::id::{AssetId, TxId};
use h402_watch_engine::input::{AuthorizationUse, Execution, Place, Transfer, TxFact, Verification, Via};
use h402_watch_engine::proof::Proof;

use super::block::{Executed, InternalTransfer};
use super::fetch::{Bodies, Body, Receipts};
use super::proof::NO_TRANSACTION;
use super::text::{self, Link, bytes};
use super::wire::RpcTx;
use crate::chain::Interests;

/// Why a transaction is reported, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// It is watched itself, or uses a watched authorization: everything it moved.
    Whole,
    /// Its sender has a watched nonce: everything, if it uses that nonce.
    Sender,
    /// It pays someone who is watched: those transfers.
    Recipient,
}

/// What a block is matched with beside the open interests.
pub struct Matcher<'a> {
    pub interests: &'a Interests,
    pub receipts: &'a Receipts,
    pub internal: Option<&'a [Vec<InternalTransfer>]>,
}

impl Matcher<'_> {
    /// The transactions that concern an open interest, by their place in the block.
    pub fn hits(&self) -> BTreeMap<usize, Hit> {
        let mut hits = BTreeMap::new();
        for (position, tx) in self.receipts.txs.iter().enumerate() {
            let hit = if self.is_watched(tx) {
                Hit::Whole
            } else if self.has_watched_nonce(tx.from) {
                Hit::Sender
            } else if self.pays_watched(position, tx) {
                Hit::Recipient
            } else {
                continue;
            };
            hits.insert(position, hit);
        }
        hits
    }

    fn is_watched(&self, tx: &Executed) -> bool {
        let uses = |log: &super::block::AuthorizationLog| {
            let key = bytes::authorization(log.token, log.authorizer, log.nonce);
            self.interests.authorizations.contains(&key)
        };
        names(self.interests, tx.hash) || tx.authorizations.iter().any(uses)
    }

    fn has_watched_nonce(&self, sender: EvmAddress) -> bool {
        self.interests.spends.has_of(sender.as_slice())
    }

    fn pays_watched(&self, position: usize, tx: &Executed) -> bool {
        if self.interests.recipients.is_empty() || tx.execution == Execution::Reverted {
            return false;
        }
        let native = self.interests.recipients.has_asset(bytes::NATIVE);
        let pays = |to: EvmAddress, asset: &[u8]| self.interests.recipients.wants(to.as_slice(), asset);
        tx.transfers.iter().any(|moved| pays(moved.to, moved.token.as_slice()))
            || (native && tx.to.is_some_and(|to| pays(to, bytes::NATIVE)))
            || (native
                && self
                    .internal
                    .and_then(|all| all.get(position))
                    .is_some_and(|all| all.iter().any(|moved| pays(moved.to, bytes::NATIVE))))
    }

    /// The fact about one hit; `None` if it turns out not to concern anyone.
    pub fn fact(&self, link: &Link, position: usize, hit: Hit, bodies: &Bodies) -> Option<TxFact> {
        let (tx, body) = (self.receipts.txs.get(position)?, bodies.txs.get(position)?);
        let spends = || self.interests.spends.contains(&bytes::spend(tx.from, body.nonce));
        let whole = hit == Hit::Whole || (hit == Hit::Sender && spends());
        if hit == Hit::Sender && !whole && !self.pays_watched(position, tx) {
            return None;
        }
        let internal = self.internal.and_then(|all| all.get(position)).map_or(&[][..], Vec::as_slice);
        let of_interest = |to: EvmAddress| whole || self.interests.recipients.contains(to.as_slice());
        let transfers = transfers(tx, body, internal, of_interest);
        if !whole && transfers.is_empty() {
            return None;
        }
        Some(TxFact {
            place: place(link),
            sender: Some(text::address(tx.from)),
            execution: tx.execution,
            spends: vec![text::spend(tx.from, body.nonce)],
            transfers,
            transfers_known: tx.execution != Execution::Unknown,
            authorizations: tx.authorizations.iter().map(authorization).collect(),
            verification: weaker(&self.receipts.verification, &bodies.verification),
            ..bare(text::tx(tx.hash))
        })
    }
}

/// Whether a transaction is watched by its hash.
pub fn names(interests: &Interests, hash: B256) -> bool {
    interests.txs.contains(hash.as_slice())
}

/// A fact is as well checked as the weaker of what it was drawn from.
fn weaker(one: &Verification, other: &Verification) -> Verification {
    match (one, other) {
        (Verification::Trie, other) => other.clone(),
        (one, Verification::Trie) => one.clone(),
        (Verification::Quorum { agreed: a, .. }, Verification::Quorum { agreed: b, .. }) => {
            if a <= b {
                one.clone()
            } else {
                other.clone()
            }
        }
        _ => Verification::Endpoint,
    }
}

/// What a transaction moved to whom it matters: its own value, then what contracts logged, then what calls inside it carried.
fn transfers(
    tx: &Executed,
    body: &Body,
    internal: &[InternalTransfer],
    of_interest: impl Fn(EvmAddress) -> bool,
) -> Vec<Transfer> {
    let mut moved = Vec::new();
    if tx.execution != Execution::Succeeded {
        return moved;
    }
    if let Some(to) = tx.to.filter(|to| !body.value.is_zero() && of_interest(*to)) {
        moved.push(native(0, tx.from, to, body.value, Via::Value));
    }
    moved.extend(tx.transfers.iter().filter(|log| of_interest(log.to)).map(|log| Transfer {
        index: log.index,
        asset: text::asset(log.token),
        from: Some(text::address(log.from)),
        to: text::address(log.to),
        amount: amount(log.amount),
        via: Via::Log,
    }));
    let calls = internal.iter().filter(|call| of_interest(call.to));
    moved.extend(calls.map(|call| native(call.index, call.from, call.to, call.amount, Via::Trace)));
    moved
}

fn native(index: u32, from: EvmAddress, to: EvmAddress, value: U256, via: Via) -> Transfer {
    Transfer {
        index,
        asset: AssetId::native(),
        from: Some(text::address(from)),
        to: text::address(to),
        amount: amount(value),
        via,
    }
}

fn authorization(log: &super::block::AuthorizationLog) -> AuthorizationUse {
    AuthorizationUse {
        asset: text::asset(log.token),
        authorizer: text::address(log.authorizer),
        nonce: text::word(log.nonce),
        cancelled: log.cancelled,
    }
}

pub fn amount(value: U256) -> Amount {
    Amount::from_be_bytes(value.to_be_bytes())
}

fn place(link: &Link) -> Place {
    Place::Block { block: link.block_ref(), time: link.timestamp() }
}

/// A transaction that is in a block, before its receipt is known (two-step inclusion).
pub fn included(link: &Link, hash: B256) -> TxFact {
    TxFact { place: place(link), ..bare(text::tx(hash)) }
}

/// A transaction in a mempool. Native coin that it sends to an address is known before it is mined, unless that is a
/// contract which may refuse; what tokens do is never judged by calldata. Of one that was not proved genuine nothing is
/// believed but that it is there: a false nonce would make a stranger's transaction its replacement.
pub fn pending(tx: &RpcTx, genuine: bool) -> TxFact {
    if !genuine {
        return bare(text::tx(tx.hash));
    }
    let plain = tx.input.is_empty();
    let transfers = match tx.to {
        Some(to) if plain && !tx.value.0.is_zero() => vec![native(0, tx.from, to, tx.value.0, Via::Value)],
        _ => Vec::new(),
    };
    TxFact {
        sender: Some(text::address(tx.from)),
        spends: vec![text::spend(tx.from, tx.nonce.0)],
        transfers_known: plain,
        transfers,
        ..bare(text::tx(tx.hash))
    }
}

/// Native coin that arrived by a call which no trace showed: the balance grew by more than was seen to come.
pub fn by_balance(link: &Link, to: EvmAddress, surplus: U256) -> TxFact {
    let transfer = Transfer {
        index: 0,
        asset: AssetId::native(),
        from: None,
        to: text::address(to),
        amount: amount(surplus),
        via: Via::Balance,
    };
    TxFact {
        place: place(link),
        execution: Execution::Succeeded,
        transfers: vec![transfer],
        transfers_known: true,
        proof: Some(Box::new(Proof::none(NO_TRANSACTION))),
        ..bare(TxId::new(format!("balance:{}:{}", text::word(link.hash), to.to_checksum(None))))
    }
}

/// A nonce is there to be used again, dearer, until it is mined.
fn bare(tx: TxId) -> TxFact {
    TxFact { replaceable: true, ..TxFact::of(tx) }
}
