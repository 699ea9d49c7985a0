//! What can be included no more: authorizations, by the time that blocks state; transactions, by their source's proof.

use crate::Engine;
use crate::changes::Interest;
use crate::id::{BlockRef, NetworkId, Timestamp, TxId};
use crate::network::Network;
use crate::request::{Depth, Expiry, Subject, WatchRequest};
use crate::watch::{Candidate, Watch};

impl Engine {
    /// Watches whose authorization the new block is too late for are judged now, and again once that block is deep.
    pub(crate) fn pass_expiries(&mut self, network: &NetworkId, time: Timestamp) {
        let Some(net) = self.networks.get_mut(network) else { return };
        let later = net.expiries.split_off(&(time.plus_ms(1), 0));
        let passed = std::mem::replace(&mut net.expiries, later);
        self.queue.extend(passed.into_iter().map(|(_, ordinal)| ordinal));
    }

    /// A transaction has expired for the watches that state this expiry. It counts only with what proves it: a final block of
    /// the chain, and where the expiry is a height, one that has reached it.
    ///
    /// Each watch keeps it, since it is told once: one whose look-up is not answered yet is judged when it is, and one that is
    /// made later has it from those before.
    pub(crate) fn note_expired(&mut self, network: &NetworkId, tx: TxId, expiry: Expiry, block: &BlockRef) {
        let Some(net) = self.networks.get(network) else { return };
        let is_final = net.marks.finalized.is_some_and(|mark| block.height <= mark) && net.heads.holds(block);
        let is_reached = !matches!(expiry, Expiry::Height(last) if block.height < last);
        if !is_final || !is_reached {
            return;
        }
        for ordinal in net.interested(&Interest::Expiry { tx: tx.clone(), expiry }) {
            let Some(watch) = self.watches.get_mut(&ordinal) else { continue };
            let in_block = |it: &Candidate| it.fact.tx == tx && it.block().is_some();
            if watch.expired.is_some() || watch.candidates.iter().any(in_block) {
                continue;
            }
            watch.expired = Some(block.clone());
            self.dirty.insert(ordinal);
            self.queue.insert(ordinal);
        }
    }

    /// What is known already of the expiry that a new watch states.
    pub(crate) fn known_expired(&self, request: &WatchRequest) -> Option<BlockRef> {
        let Subject::Transaction { tx, expiry: Some(expiry) } = &request.subject else { return None };
        let net = self.networks.get(&request.network)?;
        let stated = Interest::Expiry { tx: tx.clone(), expiry: expiry.clone() };
        net.interested(&stated).iter().find_map(|other| self.watches.get(other)?.expired.clone())
    }
}

impl Network {
    /// Judges a watch again once the block that voids its authorization is deep.
    pub(crate) fn wait_for_expiry(&mut self, watch: &Watch) {
        let Subject::Authorization { valid_before: Some(time), .. } = watch.request.subject else {
            return;
        };
        let proof = self.heads.first_at_or_after(time).map(|header| header.block.height);
        match (proof, watch.request.terms.depth) {
            (None, _) => {
                self.expiries.insert((time, watch.ordinal));
            }
            (Some(height), Depth::Blocks(blocks)) => {
                self.due.insert((height + u64::from(blocks.max(1)) - 1, watch.ordinal));
            }
            (Some(height), Depth::Tag(_)) => self.tag_waits.insert(height, watch.ordinal),
        }
    }
}
