//! Who owns which transfer: one transfer pays one watch (DESIGN §3, claims).

use std::collections::{BTreeMap, BTreeSet};

use crate::changes::{Claim, ClaimKey, ClaimState};
use crate::id::{NetworkId, TxId, WatchId};

/// The claims that the engine has to know: those on the transactions of its watches.
///
/// The store keeps the others; whoever reports a transaction brings along the claims that are on it.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    claims: BTreeMap<ClaimKey, Claim>,
    touched: BTreeSet<ClaimKey>,
}

impl Ledger {
    /// Takes in a claim that the store holds. What the engine knows already is newer, and stays.
    pub fn learn(&mut self, key: ClaimKey, claim: Claim) {
        if !self.touched.contains(&key) {
            self.claims.entry(key).or_insert(claim);
        }
    }

    /// Who has a transfer.
    pub fn holder(&self, key: &ClaimKey) -> Option<&Claim> {
        self.claims.get(key)
    }

    /// Sets who has a transfer.
    pub fn set(&mut self, key: ClaimKey, watch: WatchId, state: ClaimState) {
        self.claims.insert(key.clone(), Claim { watch, state });
        self.touched.insert(key);
    }

    /// Gives a transfer back, if `watch` has it, and has not consumed it. Returns whether it did.
    pub fn release(&mut self, key: &ClaimKey, watch: &WatchId) -> bool {
        let held = self.claims.get(key).is_some_and(|c| c.watch == *watch && c.state == ClaimState::Reserved);
        if held {
            self.claims.remove(key);
            self.touched.insert(key.clone());
        }
        held
    }

    /// Forgets the claims on a transaction that no watch in memory concerns; the store keeps them.
    ///
    /// Only right after [`Ledger::drain`] has handed out what changed.
    pub fn forget(&mut self, network: &NetworkId, tx: &TxId) {
        let from = ClaimKey { network: network.clone(), tx: tx.clone(), index: 0 };
        let to = ClaimKey { index: u32::MAX, ..from.clone() };
        let keys: Vec<_> = self.claims.range(from..=to).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.claims.remove(&key);
        }
    }

    /// How many claims are in memory.
    pub fn len(&self) -> usize {
        self.claims.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// The claims that changed since the last call, as they are now.
    pub fn drain(&mut self) -> Vec<(ClaimKey, Option<Claim>)> {
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().map(|key| (key.clone(), self.claims.get(&key).cloned())).collect()
    }
}
