//! Questions about what the chain holds already: for a watch that was just made, for a transaction that left the chain, for an
//! address that somebody asks about.
//!
//! A look-up is answered under the mirror's head, by endpoints that have come as far, and have the blocks: what lies in blocks up to there is found
//! here, what comes after is matched when its block joins, because the interest was opened before the look-up.

use std::collections::{BTreeMap, HashMap};

use h402_watch_engine::changes::LookUp;
use h402_watch_engine::id::TxId;
use h402_watch_engine::input::{Observation, TxFact, Verification};
use h402_watch_engine::request::Subject;

use super::facts::Executed;
use super::follow::Follower;
use super::history::Floor;
use super::node::{ByTx, READ_AT_ONCE};
use super::statuses::STATUSES_AT_ONCE;
use super::text::Link;
use crate::chain::query::received;
use crate::chain::{AddressQuery, AddressReport, Stopping};

/// Look-ups that are answered together.
const LOOK_UPS_MAX: usize = 1000;
/// Transactions that are read for a look-up of an address, and for a query; the newest.
const HISTORY_MAX: usize = 10_000;
const QUERY_MAX: usize = 1000;
/// The newest blocks are searched themselves: a node's index of what accounts were named in comes after them.
const UNINDEXED: usize = 12;

/// Where a transaction was found.
#[derive(Clone, Debug)]
pub enum Whereabouts {
    /// Nowhere, as far as endpoints know that have come to our head.
    Nowhere,
    /// In no confirmed block up to our head; it will be matched in its block.
    Above,
    /// In a block of our chain.
    Landed(Box<(Link, TxFact)>),
}

impl Follower {
    /// Answers what was asked since the last time, as far as it can be told now.
    /// Those that could not be told the last time are tried again after a poll.
    pub(super) async fn answer(&mut self, polled: bool) -> Result<(), Stopping> {
        if self.walk.mirror.head().is_none() {
            return Ok(());
        }
        let mut look_ups = self.mailbox.take_look_ups(LOOK_UPS_MAX.saturating_sub(self.look_ups.len()));
        if polled {
            look_ups.append(&mut self.look_ups);
        }
        let (txs, addresses): (Vec<_>, Vec<_>) = look_ups.into_iter().partition(|look_up| subject(look_up).is_some());
        for batch in txs.chunks(STATUSES_AT_ONCE) {
            self.answer_transactions(batch).await?;
        }
        self.answer_addresses(addresses).await?;
        self.locate().await?;
        for query in self.mailbox.take_queries(1) {
            self.answer_query(query).await;
        }
        Ok(())
    }

    /// Whether more was asked than is answered at once.
    pub(super) fn has_more_questions(&self) -> bool {
        let (look_ups, others) = self.mailbox.has_questions();
        let able = self.walk.mirror.head().is_some();
        // Those that wait for the next poll leave no room.
        let room = (self.lost.len() < STATUSES_AT_ONCE, self.look_ups.len() < LOOK_UPS_MAX);
        able && ((others && room.0) || (look_ups && room.1))
    }

    async fn looked_up(&mut self, look_up: &LookUp, facts: Vec<TxFact>) -> Result<(), Stopping> {
        let Some(under) = self.walk.mirror.head().map(Link::block_ref) else { return Ok(()) };
        self.reports.observe(Observation::LookedUp { watch: look_up.watch.clone(), under, facts }).await
    }

    async fn answer_transactions(&mut self, look_ups: &[LookUp]) -> Result<(), Stopping> {
        let txs: Vec<_> = look_ups.iter().filter_map(subject).cloned().collect();
        let found = self.find(&txs).await;
        for look_up in look_ups {
            let Some(tx) = subject(look_up) else { continue };
            match found.as_ref().map(|found| found.get(tx)) {
                Ok(Some(Whereabouts::Landed(landed))) => {
                    self.note_landed(tx, landed.0.height);
                    self.looked_up(look_up, vec![landed.1.clone()]).await?;
                }
                Ok(Some(Whereabouts::Above)) => {
                    self.seen.insert(tx.clone());
                    self.looked_up(look_up, vec![TxFact::of(tx.clone())]).await?;
                }
                Ok(Some(Whereabouts::Nowhere)) => {
                    // Whoever asks has not heard that it expired.
                    self.seek_expiry_again(tx);
                    self.looked_up(look_up, Vec::new()).await?;
                }
                // It is there, and can't be read: not found is not a fact.
                Ok(None) | Err(_) => self.look_ups.push(look_up.clone()),
            }
        }
        if let Err(error) = found {
            tracing::debug!(network = %self.settings.network, error, "look-ups wait");
        }
        Ok(())
    }

    /// Where transactions are, however old. Those that can't be read now are left out.
    pub(super) async fn find(&self, txs: &[TxId]) -> Result<ByTx<Whereabouts>, String> {
        let head = self.walk.mirror.head().ok_or("no chain yet")?.slot;
        let statuses = self.node.statuses(txs, head, self.settings.quorum).await?;
        let mut found = HashMap::new();
        let mut landed = Vec::new();
        for tx in txs {
            match statuses.found.get(tx) {
                None => {
                    found.insert(tx.clone(), Whereabouts::Nowhere);
                }
                Some(status) if status.is_confirmed() && status.slot <= head => landed.push((tx.clone(), status.slot)),
                Some(_) => {
                    found.insert(tx.clone(), Whereabouts::Above);
                }
            }
        }
        let read = self.read_landed(&landed).await;
        found.extend(read.into_iter().map(|(link, fact)| {
            let tx = fact.tx.clone();
            (tx, Whereabouts::Landed(Box::new((link, fact))))
        }));
        Ok(found)
    }

    /// The facts about transactions that landed in these slots, each with its block of our chain; those that can't be read, or
    /// are on another branch, are left out.
    pub(super) async fn read_landed(&self, txs: &[(TxId, u64)]) -> Vec<(Link, TxFact)> {
        let mut all = Vec::new();
        for chunk in txs.chunks(READ_AT_ONCE) {
            let ours = |link: &Link| self.is_ours(link);
            let read = self.node.landed(chunk, self.settings.quorum, ours).await;
            for (landed, (tx, slot)) in read.into_iter().zip(chunk) {
                match landed {
                    Some((executed, link, word)) => all.push((link, executed.fact(&link, word))),
                    None => {
                        tracing::debug!(network = %self.settings.network, %tx, slot, "landed, and can't be read yet")
                    }
                }
            }
        }
        all
    }

    /// Whether a block is in our chain; below what is kept, each that endpoints vouch for is.
    pub(super) fn is_ours(&self, link: &Link) -> bool {
        let mirror = &self.walk.mirror;
        mirror.bottom().is_some_and(|bottom| link.height < bottom.height) || mirror.holds(link.height, link.hash)
    }

    /// Addresses are looked for in the newest blocks, each of which is fetched once for all of them, and in the index below.
    async fn answer_addresses(&mut self, look_ups: Vec<LookUp>) -> Result<(), Stopping> {
        let floors: Vec<_> = look_ups.iter().map(floor).collect();
        let newest: Vec<_> = self.walk.mirror.iter().rev().take(UNINDEXED).copied().collect();
        let wanted = newest.iter().filter(|link| floors.iter().flatten().any(|floor| floor.admits(link)));
        let mut held = BTreeMap::new();
        for link in wanted {
            match self.facts_in(link).await {
                Ok(facts) => {
                    held.insert(link.height, (*link, facts));
                }
                Err(error) => tracing::debug!(network = %self.settings.network, error, "look-ups wait"),
            }
        }
        for (look_up, floor) in look_ups.into_iter().zip(floors) {
            match self.paid(&look_up, floor, &newest, &held).await {
                Ok(found) => {
                    for (height, tx) in found.keys() {
                        self.note_landed(tx, *height);
                    }
                    self.looked_up(&look_up, found.into_values().collect()).await?;
                }
                Err(error) => {
                    tracing::debug!(network = %self.settings.network, error, "a look-up waits");
                    self.look_ups.push(look_up);
                }
            }
        }
        Ok(())
    }

    /// What an address was paid, down to a floor, in the order of blocks.
    async fn paid(
        &self,
        look_up: &LookUp,
        floor: Option<Floor>,
        newest: &[Link],
        held: &BTreeMap<u64, (Link, Vec<TxFact>)>,
    ) -> Result<BTreeMap<(u64, TxId), TxFact>, String> {
        // Nothing lies in blocks that counts.
        let Some(floor) = floor else { return Ok(BTreeMap::new()) };
        let within: Vec<_> = newest.iter().filter(|link| floor.admits(link)).collect();
        if within.iter().any(|link| !held.contains_key(&link.height)) {
            return Err("a block of our chain can't be read".into());
        }
        let mut found: BTreeMap<(u64, TxId), TxFact> = BTreeMap::new();
        if within.len() == newest.len() {
            for owner in &look_up.pay_to {
                let (history, whole_from) = self.history(owner, &look_up.asset, floor, HISTORY_MAX).await?;
                if whole_from > 0 {
                    let network = &self.settings.network;
                    tracing::warn!(%network, whole_from, "more transactions than are read; the older ones don't count");
                }
                found.extend(history.into_iter().map(|(link, fact)| ((link.height, fact.tx.clone()), fact)));
            }
        }
        let pays = |fact: &&TxFact| {
            fact.transfers.iter().any(|moved| look_up.pay_to.contains(&moved.to) && moved.asset == look_up.asset)
        };
        for (height, (_, facts)) in held.iter().filter(|(_, (link, _))| floor.admits(link)) {
            found.extend(facts.iter().filter(pays).map(|fact| ((*height, fact.tx.clone()), fact.clone())));
        }
        Ok(found)
    }

    /// What a block of our chain holds of what is watched.
    pub(super) async fn facts_in(&self, link: &Link) -> Result<Vec<TxFact>, String> {
        let (hits, word) = self.node.hits_at(link, self.settings.quorum).await?;
        self.facts_from(link, hits, word).await
    }

    /// The facts about transactions of a block; what they say in memos is asked for.
    pub(super) async fn facts_from(
        &self,
        link: &Link,
        hits: Vec<Executed>,
        word: Verification,
    ) -> Result<Vec<TxFact>, String> {
        let silent = hits.iter().filter(|hit| hit.lacks_memos());
        let silent: Vec<_> = silent.map(|hit| (hit.tx.clone(), link.slot)).collect();
        let mut told: ByTx<Executed> = HashMap::new();
        for chunk in silent.chunks(READ_AT_ONCE) {
            let landed = self.node.landed(chunk, self.settings.quorum, |at| at.hash == link.hash).await;
            told.extend(landed.into_iter().flatten().map(|(executed, _, _)| (executed.tx.clone(), executed)));
        }
        let mut facts = Vec::with_capacity(hits.len());
        for hit in hits {
            let whole = match (hit.lacks_memos(), told.remove(&hit.tx)) {
                (false, _) => hit,
                (true, Some(whole)) => whole,
                (true, None) => return Err(format!("what {} says in its memo can't be read", hit.tx)),
            };
            facts.push(whole.fact(link, word.clone()));
        }
        Ok(facts)
    }

    /// Where transactions went that left the chain.
    async fn locate(&mut self) -> Result<(), Stopping> {
        let mut txs = std::mem::take(&mut self.lost);
        txs.extend(self.mailbox.take_locates(STATUSES_AT_ONCE - txs.len().min(STATUSES_AT_ONCE)));
        if txs.is_empty() {
            return Ok(());
        }
        let Some(under) = self.walk.mirror.head().map(Link::block_ref) else { return Ok(()) };
        let Ok(found) = self.find(&txs).await else {
            self.lost = txs;
            return Ok(());
        };
        for tx in txs {
            match found.get(&tx) {
                Some(Whereabouts::Landed(landed)) => {
                    self.note_landed(&tx, landed.0.height);
                    self.reports.observe(Observation::Found(landed.1.clone())).await?;
                }
                Some(Whereabouts::Above) => {
                    self.seen.insert(tx.clone());
                    self.reports.observe(Observation::Seen(TxFact::of(tx))).await?;
                }
                Some(Whereabouts::Nowhere) => {
                    self.seek_expiry_again(&tx);
                    self.reports.observe(Observation::Missing { tx, under: under.clone() }).await?;
                }
                None => self.lost.push(tx),
            }
        }
        Ok(())
    }

    /// What an address has received in the blocks that are kept, by the endpoints' index, which may be a moment behind.
    async fn answer_query(&self, query: AddressQuery) {
        if query.reply.is_closed() {
            return;
        }
        let since = query.since.unwrap_or_default();
        let links = self.walk.mirror.iter().filter(|link| link.timestamp() >= since);
        let (Some(head), lowest) = (self.walk.mirror.head(), links.copied().next()) else { return };
        let lowest = lowest.unwrap_or(*head);
        let floor = Floor { height: Some(lowest.height), time: None };
        let found = self.history(&query.address, &query.asset, floor, QUERY_MAX).await;
        let from = |slot| self.walk.mirror.iter().find(|link| link.slot >= slot).copied().unwrap_or(*head);
        let answer = found.map(|(found, whole_from)| AddressReport {
            head: head.block_ref(),
            searched_from: from(whole_from.max(lowest.slot)).block_ref(),
            transfers: found
                .iter()
                .filter(|(link, _)| link.timestamp() >= since)
                .flat_map(|(link, fact)| received(&query, link, std::slice::from_ref(fact)))
                .collect(),
        });
        // The caller may have gone away.
        let _ = query.reply.send(answer);
    }
}

/// The transaction that a look-up is about, if it is about one.
fn subject(look_up: &LookUp) -> Option<&TxId> {
    match &look_up.subject {
        Subject::Transaction { tx, .. } => Some(tx),
        _ => None,
    }
}

/// How far down a look-up searches blocks; `None`: not at all.
fn floor(look_up: &LookUp) -> Option<Floor> {
    match (look_up.from_height, look_up.since) {
        (None, None) => None,
        (Some(height), _) => Some(Floor { height: Some(height), time: None }),
        (None, time) => Some(Floor { height: None, time }),
    }
}
