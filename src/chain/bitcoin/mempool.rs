//! The nodes' mempools: what enters them and concerns somebody is reported, and what leaves them other than into a block.
//!
//! The mempools are compared whole now and then, at each poll where nothing announces transactions; what the preferred
//! endpoint's holds is told in the same request as its tip, so that this costs none of its own. The body of a transaction is
//! fetched once. What a notification brings is believed when a mempool is found to hold it: bitcoind announces the
//! transactions of a block, and of one that leaves the chain, in the same words (research/bitcoin.md §2.2).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, OutPoint, Transaction, Txid};
use h402_watch_engine::input::{Observation, Place, TxFact};
use tokio::time::Instant;

use super::block::{Decoded, short};
use super::facts::{self, Hit, Known};
use super::follow::Follower;
use super::node::{Listing, PRESENCE_MAX, Stands};
use super::text;
use super::wake::Hint;
use crate::chain::Stopping;
use crate::chain::endpoint::BATCH_MAX;
use crate::chain::pool::Answer;

/// How often the mempools are compared while their transactions are announced.
const COMPARE_PERIOD: Duration = Duration::from_secs(60);
/// How long announced transactions are collected: those of a block are announced before it is.
const LISTEN: Duration = Duration::from_millis(150);
/// Transactions whose outputs are remembered; of further ones a watch that is made later learns from their block.
const KNOWN_MAX: usize = 2_000_000;
/// Announced transactions that wait to be checked; when more come, the mempools are compared instead.
const HEARD_MAX: usize = 10_000;
/// Transactions that are fetched between two looks at the chain.
const EXAMINED_AT_ONCE: usize = 10 * BATCH_MAX;

/// What is known of the mempools.
#[derive(Default)]
pub struct Mempool {
    /// What was examined, and what its outputs pay to, in short.
    known: HashMap<Txid, Box<[u64]>>,
    by_output: BTreeSet<(u64, Txid)>,
    /// What is still to be examined, and the endpoint that has it.
    backlog: Vec<(Txid, usize)>,
    /// What was reported, and what it uses up.
    seen: HashMap<Txid, Vec<OutPoint>>,
    spent: HashMap<OutPoint, Txid>,
    /// What was announced and concerns somebody, since when.
    heard: HashMap<Txid, Transaction>,
    heard_since: Option<Instant>,
    /// What may have left.
    doubtful: HashSet<Txid>,
    compared_at: Option<Instant>,
    gap: bool,
    /// What an endpoint's holds, as it said with its tip.
    told: Option<(usize, Listing)>,
    /// Endpoints that are asked for the two apart: together they failed, and a tip must not depend on what a mempool holds.
    apart: HashSet<usize>,
}

impl Mempool {
    /// Whether there is more to do at once.
    pub fn is_behind(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// When announced transactions have to be checked.
    pub fn listens_until(&self) -> Option<Instant> {
        self.heard_since.map(|since| since + LISTEN)
    }

    /// Something may have been missed: the mempools have to be compared.
    pub fn doubt(&mut self) {
        self.gap = true;
    }

    /// Whether the mempools have to be compared at the next poll.
    pub fn is_due(&self, hints_up: bool) -> bool {
        let period = if hints_up { COMPARE_PERIOD } else { Duration::ZERO };
        self.gap || self.compared_at.is_none_or(|at| at.elapsed() >= period)
    }

    /// Whether a transaction was reported, and is in a mempool still as far as is known.
    pub fn has_seen(&self, txid: &Txid) -> bool {
        self.seen.contains_key(txid)
    }

    /// The transactions that may pay one of these scripts.
    pub fn paying(&self, scripts: &[u64]) -> Vec<Txid> {
        let first = Txid::from_byte_array([0; 32]);
        let last = Txid::from_byte_array([0xff; 32]);
        let paying = |script: &u64| self.by_output.range((*script, first)..=(*script, last)).map(|(_, txid)| *txid);
        let all: BTreeSet<_> = scripts.iter().flat_map(paying).collect();
        all.into_iter().collect()
    }

    fn remember(&mut self, txid: Txid, tx: &Transaction) {
        if self.known.len() >= KNOWN_MAX || self.known.contains_key(&txid) {
            return;
        }
        let scripts = tx.output.iter().map(|output| &output.script_pubkey).filter(|script| !script.is_op_return());
        let outputs: BTreeSet<_> = scripts.map(|script| short(script.as_bytes())).collect();
        self.by_output.extend(outputs.iter().map(|output| (*output, txid)));
        let outputs: Vec<_> = outputs.into_iter().collect();
        self.known.insert(txid, outputs.into());
    }

    fn forget(&mut self, txid: &Txid) {
        for output in self.known.remove(txid).unwrap_or_default() {
            self.by_output.remove(&(output, *txid));
        }
        self.heard.remove(txid);
    }

    pub fn note_seen(&mut self, txid: Txid, tx: &Transaction) {
        let outpoints: Vec<_> = facts::outpoints(tx).copied().collect();
        self.spent.extend(outpoints.iter().map(|outpoint| (*outpoint, txid)));
        self.seen.insert(txid, outpoints);
    }

    fn unsee(&mut self, txid: &Txid) {
        for outpoint in self.seen.remove(txid).unwrap_or_default() {
            if self.spent.get(&outpoint) == Some(txid) {
                self.spent.remove(&outpoint);
            }
        }
        self.doubtful.remove(txid);
    }

    /// What was seen and uses what this transaction uses.
    fn conflicts(&self, txid: &Txid, tx: &Transaction) -> Vec<Txid> {
        if self.spent.is_empty() {
            return Vec::new();
        }
        let used = tx.input.iter().filter_map(|input| self.spent.get(&input.previous_output));
        used.filter(|other| *other != txid).copied().collect()
    }

    /// A block joined the chain: its transactions are in no mempool any more, nor is what they exclude.
    pub fn leave_for(&mut self, block: &Decoded) {
        for (txid, tx) in block.txids.iter().zip(&block.block.txdata) {
            let excluded = self.conflicts(txid, tx);
            self.doubtful.extend(excluded);
            self.unsee(txid);
            self.forget(txid);
        }
    }
}

impl Follower {
    /// Takes in what was announced.
    pub(super) fn hear(&mut self, hint: Hint) {
        match hint {
            Hint::Gap => self.mempool.doubt(),
            Hint::Block | Hint::Down => {}
            Hint::Removed(txid) => {
                self.mempool.forget(&txid);
                if self.mempool.has_seen(&txid) {
                    self.mempool.doubtful.insert(txid);
                    self.mempool.heard_since.get_or_insert_with(Instant::now);
                }
            }
            Hint::Tx(tx) => {
                let txid = tx.compute_txid();
                if self.mempool.known.contains_key(&txid) {
                    return;
                }
                let hit = facts::hit(&self.mailbox.interests().interests, &txid, &tx);
                if hit.is_none() && self.mempool.conflicts(&txid, &tx).is_empty() {
                    self.mempool.remember(txid, &tx);
                } else if self.mempool.heard.len() < HEARD_MAX {
                    self.mempool.heard.insert(txid, *tx);
                    self.mempool.heard_since.get_or_insert_with(Instant::now);
                } else {
                    self.mempool.doubt();
                }
            }
        }
    }

    /// Compares, examines and checks, as far as it is time to.
    pub(super) async fn watch_mempools(&mut self, poll: bool) -> Result<(), Stopping> {
        if self.walk.mirror.head().is_none() {
            return Ok(());
        }
        if poll && self.mempool.is_due(self.hints_up) {
            self.compare().await;
        }
        self.examine().await?;
        if self.mempool.listens_until().is_some_and(|until| until > Instant::now()) {
            // What was announced to be gone may be replaced by what is announced next.
            return Ok(());
        }
        self.check_heard().await?;
        self.check_doubtful().await
    }

    /// An endpoint's tip. Where the mempools are to be compared (not before there are `no_more` blocks to catch up with), what
    /// its own holds comes in the same request.
    pub(super) async fn ask_tip(&mut self, index: usize, no_more: bool) -> Answer<BlockHash> {
        self.mempool.told = None;
        let mut why = None;
        let together = no_more && self.mempool.is_due(self.hints_up) && !self.mempool.apart.contains(&index);
        if together && self.node.is_usable(index).await {
            match self.node.standing(index).await {
                Ok(said) => {
                    if said.mempool.is_none() {
                        self.mempool.apart.insert(index);
                    }
                    self.mempool.told = said.mempool.map(|listing| (index, listing));
                    return Answer::Found(index, said.best);
                }
                Err(error) => {
                    self.mempool.apart.insert(index);
                    why = Some(format!("{}: {error}", self.node.at(index).name()));
                }
            }
        }
        match (self.node.best(index).await, why) {
            (Answer::Failed(_), Some(why)) => Answer::Failed(why),
            (answer, _) => answer,
        }
    }

    /// What an endpoint's mempool holds: what was told with its tip if that is our head now, or else asked for.
    async fn listing(&mut self, index: usize) -> Option<Listing> {
        let told = self.mempool.told.take_if(|(at, _)| *at == index);
        if let Some((_, told)) = told.filter(|(_, told)| self.stands(told.under) == Stands::AtHead) {
            return Some(told);
        }
        let listing = self.node.standing(index).await.ok()?.mempool?;
        self.mempool.apart.remove(&index);
        Some(listing)
    }

    /// Compares the mempools with what is known of them.
    async fn compare(&mut self) {
        let mut held: HashMap<Txid, usize> = HashMap::new();
        let mut views = Views::default();
        for index in 0..self.node.len() {
            if !self.node.is_usable(index).await {
                continue;
            }
            let Some(listing) = self.listing(index).await else { continue };
            if views.add(self.stands(listing.under)) {
                held.extend(listing.txids.into_iter().map(|txid| (txid, index)));
            }
        }
        // What is known stays until somebody knows better.
        self.mempool.gap = !views.are_sure();
        if !views.any() {
            return;
        }
        self.mempool.compared_at = Some(Instant::now());
        let gone: Vec<_> = self.mempool.known.keys().filter(|txid| !held.contains_key(*txid)).copied().collect();
        for txid in gone {
            self.mempool.forget(&txid);
        }
        let lost: Vec<_> = self.mempool.seen.keys().filter(|txid| !held.contains_key(*txid)).copied().collect();
        self.mempool.doubtful.extend(lost);
        self.mempool.backlog.retain(|(txid, _)| held.contains_key(txid));
        let waiting: HashSet<_> = self.mempool.backlog.iter().map(|(txid, _)| *txid).collect();
        let known = &self.mempool.known;
        let full = known.len() >= KNOWN_MAX;
        // The newest come first: they are at the end.
        let fresh = held.into_iter().filter(|(txid, _)| !known.contains_key(txid) && !waiting.contains(txid) && !full);
        self.mempool.backlog.extend(fresh);
    }

    /// Fetches transactions that are not known yet, a bounded number.
    async fn examine(&mut self) -> Result<(), Stopping> {
        let from = self.mempool.backlog.len().saturating_sub(EXAMINED_AT_ONCE);
        let mut by_endpoint: HashMap<usize, Vec<Txid>> = HashMap::new();
        for (txid, index) in self.mempool.backlog.drain(from..) {
            by_endpoint.entry(index).or_default().push(txid);
        }
        for (index, txids) in by_endpoint {
            let Ok(txs) = self.node.transactions(index, &txids).await else {
                self.mempool.gap = true;
                continue;
            };
            let found: Vec<_> = txids.into_iter().zip(txs).filter_map(|(txid, tx)| Some((txid, tx?))).collect();
            self.enter(found).await?;
        }
        Ok(())
    }

    /// Checks whether what was announced is in a mempool.
    async fn check_heard(&mut self) -> Result<(), Stopping> {
        self.mempool.heard_since = None;
        let heard: Vec<_> = self.mempool.heard.drain().collect();
        let txids: Vec<_> = heard.iter().map(|(txid, _)| *txid).collect();
        let mut found = Vec::with_capacity(heard.len());
        let mut heard = heard.into_iter();
        for some in txids.chunks(PRESENCE_MAX) {
            let Some((present, _)) = self.presence(some).await else {
                self.mempool.doubt();
                break;
            };
            let present = heard.by_ref().take(some.len()).zip(present);
            found.extend(present.filter(|(_, at)| at.is_some()).map(|(heard, _)| heard));
        }
        self.enter(found).await
    }

    /// Transactions that a mempool holds: what concerns somebody is reported.
    async fn enter(&mut self, found: Vec<(Txid, Transaction)>) -> Result<(), Stopping> {
        for (txid, tx) in found {
            let conflicts = self.mempool.conflicts(&txid, &tx);
            self.mempool.remember(txid, &tx);
            if let Some(fact) = self.pending(&txid, &tx, false).await {
                if fact.transfers_known {
                    self.mempool.note_seen(txid, &tx);
                } else {
                    // Whom it pays may be known the next time.
                    self.mempool.forget(&txid);
                }
                self.reports.observe(Observation::Seen(fact)).await?;
            }
            self.mempool.doubtful.extend(conflicts);
        }
        Ok(())
    }

    /// The fact about a transaction in a mempool, if it concerns somebody, or is asked for (`named`). Whom it pays is left open
    /// while it may be the payee's own money.
    pub(super) async fn pending(&self, txid: &Txid, tx: &Transaction, named: bool) -> Option<TxFact> {
        let (hit, hidden): (_, Vec<_>) = {
            let wants = self.mailbox.interests();
            let hit = facts::hit(&wants.interests, txid, tx);
            let hit = if named { Hit::Whole } else { hit? };
            let hidden = facts::hidden_inputs(&wants.interests, tx, hit).into_iter();
            (hit, hidden.map(|index| tx.input[index].previous_output).collect())
        };
        let known = if hidden.is_empty() { Ok(Vec::new()) } else { self.node.spent_in_mempool(&hidden).await };
        let wants = self.mailbox.interests();
        let scripts = known.as_deref().unwrap_or_default();
        let mut fact =
            facts::fact((txid, tx), hit, Place::Mempool, &wants.interests, self.node.network(), Known::Beside(scripts));
        if known.is_err() {
            (fact.transfers_known, fact.transfers) = (false, Vec::new());
        }
        Some(fact)
    }

    /// Reports what is in no mempool any more, and in no block.
    async fn check_doubtful(&mut self) -> Result<(), Stopping> {
        let doubtful: Vec<_> =
            self.mempool.doubtful.drain().filter(|txid| self.mempool.seen.contains_key(txid)).collect();
        let Some(under) = self.walk.mirror.head().map(text::Link::block_ref) else { return Ok(()) };
        if doubtful.is_empty() {
            return Ok(());
        }
        let mut left = doubtful.chunks(PRESENCE_MAX);
        while let Some(some) = left.next() {
            let Some((present, sure)) = self.presence(some).await else {
                self.mempool.doubtful.extend(some.iter().chain(left.flatten()));
                return Ok(());
            };
            for (txid, present) in some.iter().zip(present) {
                match present {
                    Some(_) => {}
                    // Asked while the chain moved: it may be in a block that was not told yet.
                    None if !sure => {
                        self.mempool.doubtful.insert(*txid);
                    }
                    None => {
                        self.mempool.unsee(txid);
                        self.mempool.forget(txid);
                        let missing = Observation::Missing { tx: text::tx(*txid), under: under.clone() };
                        self.reports.observe(missing).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Which endpoint's mempool holds each of these transactions, up to [`PRESENCE_MAX`]; and whether absence is sure. `None`
    /// if no endpoint that has our head answered.
    pub(super) async fn presence(&self, txids: &[Txid]) -> Option<(Vec<Option<usize>>, bool)> {
        let head = self.walk.mirror.head()?;
        let mut present = vec![None; txids.len()];
        let mut views = Views::default();
        for index in 0..self.node.len() {
            if !self.node.is_usable(index).await {
                continue;
            }
            let Ok((held, stands)) = self.node.in_mempool(index, txids, head).await else { continue };
            if !views.add(stands) {
                continue;
            }
            for (slot, has) in present.iter_mut().zip(held) {
                if slot.is_none() && has {
                    *slot = Some(index);
                }
            }
        }
        views.any().then_some((present, views.are_sure()))
    }

    /// How an endpoint's tip stands to our head. Whether one that is not below it has it is not told.
    fn stands(&self, tip: Option<(BlockHash, u64)>) -> Stands {
        match (tip, self.walk.mirror.head()) {
            (Some((hash, _)), Some(head)) if hash == head.hash => Stands::AtHead,
            (Some((_, height)), Some(head)) if height < head.height => Stands::Behind,
            _ => Stands::Elsewhere,
        }
    }
}

/// What endpoints said under their tips. Only what is said by one that has our head is believed.
#[derive(Default)]
struct Views {
    with_head: usize,
    unsure: usize,
}

impl Views {
    /// Counts one; whether it is believed.
    fn add(&mut self, stands: Stands) -> bool {
        let has_head = matches!(stands, Stands::AtHead | Stands::Above);
        self.with_head += usize::from(has_head);
        self.unsure += usize::from(matches!(stands, Stands::Above | Stands::Elsewhere));
        has_head
    }

    fn any(&self) -> bool {
        self.with_head > 0
    }

    /// Whether what nobody that has our head holds is nowhere: nobody knows of blocks that we don't.
    fn are_sure(&self) -> bool {
        self.any() && self.unsure == 0
    }
}
