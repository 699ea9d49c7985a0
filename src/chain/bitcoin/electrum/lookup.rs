//! Questions about what the chain and the mempools hold already. A server has an index, so that a look-up is a history: blocks
//! need not be searched, however far below they lie.
//!
//! A server is asked only when it has our head: what lies in blocks up to there is found here; what comes after is told with
//! its block, because the interest was opened before the look-up.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bitcoin::{ScriptBuf, Txid};
use h402_watch_engine::changes::LookUp;
use h402_watch_engine::input::{Observation, TxFact};

use super::super::lookup::{recipients, watched};
use super::super::text::{self, Link};
use super::book::{Item, read_history, script_hash};
use super::follow::Follower;
use super::pending::Whereabouts;
use super::server::history_call;
use crate::chain::query::received;
use crate::chain::{AddressQuery, AddressReport, Stopping};

/// Look-ups that are answered together.
const LOOK_UPS_MAX: usize = 100;
/// Transactions that are located together.
const LOCATES_MAX: usize = 100;
/// Transactions that one look-up is answered with; what it finds beyond that is reported before.
const FOUND_MAX: usize = 2000;
/// Transactions that one query looks at at most, the newest ones.
const QUERY_MAX: usize = 1000;

/// What a look-up found, before it is proven: by height, 0 for mempools.
type Found = BTreeMap<u64, BTreeSet<Txid>>;

impl Follower {
    /// Answers what was asked since the last time, as far as it can be told now.
    pub(super) async fn answer(&mut self) -> Result<(), Stopping> {
        if self.walk.mirror.head().is_none() {
            return Ok(());
        }
        let room = LOOK_UPS_MAX.saturating_sub(self.look_ups.len());
        self.look_ups.extend(self.mailbox.take_look_ups(room));
        let orphans = self.mailbox.take_locates(LOCATES_MAX);
        self.lost.extend(orphans);
        self.query = self.query.take().or_else(|| self.mailbox.take_queries(1).pop());
        let nothing = self.look_ups.is_empty() && self.waiting.is_empty();
        if nothing && self.lost.is_empty() && self.query.is_none() {
            return Ok(());
        }
        let server = self.preferred;
        if let Err(error) = self.is_at_head(server).await {
            tracing::debug!(network = %self.settings.network, error, "questions wait");
            return Ok(());
        }
        self.locate(server).await?;
        self.answer_look_ups(server).await?;
        if let Some(query) = self.query.take() {
            let answer = self.answer_query(server, &query).await;
            // The caller may have gone away.
            let _ = query.reply.send(answer);
        }
        Ok(())
    }

    /// Whether more was asked than is answered at once.
    pub(super) fn has_more_questions(&self) -> bool {
        let room = self.look_ups.len() < LOOK_UPS_MAX;
        self.walk.mirror.head().is_some() && room && self.mailbox.has_questions().0
    }

    /// Whether a server has our head, and all that lies below it in its histories.
    async fn is_at_head(&mut self, server: usize) -> Result<(), String> {
        let Some(head) = self.walk.mirror.head().copied() else { return Err("no chain yet".into()) };
        if !self.servers.is_usable(server).await {
            return Err("no endpoint is up".into());
        }
        // The tip is what its histories are complete up to; its headers may be further already.
        let tip = self.servers.tip_of(server).await?;
        if tip.link.height < head.height {
            return Err(format!("the server is at block {} only", tip.link.height));
        }
        let theirs = if tip.link.height == head.height {
            Some(tip)
        } else {
            self.servers.header_of(server, head.height).await?
        };
        match theirs {
            Some(placed) if placed.link == head => Ok(()),
            _ => Err("the server is on another branch".into()),
        }
    }

    async fn answer_look_ups(&mut self, server: usize) -> Result<(), Stopping> {
        let look_ups: Vec<_> = self.look_ups.drain(..).collect();
        self.book.sync(&self.mailbox.interests().interests);
        let again = self.waiting.len().min(LOOK_UPS_MAX);
        let look_ups = look_ups.into_iter().chain(self.waiting.drain(..again).collect::<Vec<_>>());
        let (waiting, look_ups): (Vec<_>, Vec<_>) = look_ups.partition(|look_up| self.must_wait(look_up));
        self.waiting.extend(waiting);
        let histories = match self.histories_for(server, &look_ups).await {
            Ok(histories) => histories,
            Err(error) => {
                tracing::debug!(network = %self.settings.network, error, "look-ups wait");
                self.look_ups.extend(look_ups);
                return Ok(());
            }
        };
        for (look_up, found) in look_ups.into_iter().zip(histories) {
            let told = match found {
                Some(found) => self.facts_for(server, &look_up, found).await?,
                None => Err("a history is refused".to_owned()),
            };
            match told {
                Ok(facts) => {
                    let Some(under) = self.walk.mirror.head().map(Link::block_ref) else { return Ok(()) };
                    self.reports.observe(Observation::LookedUp { watch: look_up.watch, under, facts }).await?;
                }
                Err(error) => {
                    tracing::debug!(network = %self.settings.network, error, "a look-up waits");
                    self.waiting.push_back(look_up);
                }
            }
        }
        Ok(())
    }

    /// Whether what it asks about is not followed yet: an answer now would have the watch decided without what comes after.
    fn must_wait(&self, look_up: &LookUp) -> bool {
        if let Some(txid) = watched(look_up) {
            return self.book.has_no_room_for(&txid);
        }
        self.scripts_of(look_up).iter().any(|script| self.book.keeps_waiting(script))
    }

    fn scripts_of(&self, look_up: &LookUp) -> Vec<ScriptBuf> {
        let network = self.servers.network();
        recipients(look_up).filter_map(|address| text::parse_address(address.as_str(), network).ok()).collect()
    }

    /// What look-ups find, in as few round trips as for one; nothing where a history is refused.
    async fn histories_for(&mut self, server: usize, look_ups: &[LookUp]) -> Result<Vec<Option<Found>>, String> {
        let txids: Vec<_> = look_ups.iter().filter_map(watched).collect();
        let places = self.whereabouts(server, &txids).await?;
        let by_address = look_ups.iter().filter(|look_up| watched(look_up).is_none());
        let hashes: BTreeSet<_> =
            by_address.flat_map(|look_up| self.scripts_of(look_up)).map(|script| script_hash(&script)).collect();
        let said = self.servers.at(server).ask(hashes.iter().map(|hash| history_call(hash)).collect()).await?;
        let mut histories: HashMap<String, Vec<Item>> = HashMap::new();
        for (hash, said) in hashes.into_iter().zip(said) {
            histories.extend(said.and_then(read_history).ok().map(|history| (hash, history)));
        }
        let head = self.walk.mirror.head().map_or(0, |head| head.height);
        let found = |look_up: &LookUp| {
            let mut found = Found::new();
            if let Some(txid) = watched(look_up) {
                match places.get(&txid) {
                    Some(Whereabouts::Pending) => found.insert(0, BTreeSet::from([txid])),
                    // One above the head is told with its block.
                    Some(Whereabouts::Block(height)) if *height <= head && *height >= self.deepest() => {
                        found.insert(*height, BTreeSet::from([txid]))
                    }
                    Some(Whereabouts::Unknown) => return None,
                    _ => None,
                };
                return Some(found);
            }
            let scripts = self.scripts_of(look_up);
            let histories: Option<Vec<_>> = scripts.iter().map(|script| histories.get(&script_hash(script))).collect();
            for item in histories?.into_iter().flatten().filter(|item| self.is_asked_for(look_up, item, head)) {
                found.entry(item.height).or_default().insert(item.txid);
            }
            Some(found)
        };
        Ok(look_ups.iter().map(found).collect())
    }

    fn is_asked_for(&self, look_up: &LookUp, item: &Item, head: u64) -> bool {
        if item.height == 0 || item.height > head {
            return item.height == 0;
        }
        match look_up.from_height {
            Some(from) => item.height >= from.max(self.deepest()),
            None => {
                let time = self.walk.mirror.at(item.height).map(Link::timestamp);
                time.zip(look_up.since).is_some_and(|(time, since)| time >= since)
            }
        }
    }

    /// The facts that a look-up asks for. Of very many the older ones are reported at once.
    async fn facts_for(
        &mut self,
        server: usize,
        look_up: &LookUp,
        mut found: Found,
    ) -> Result<Result<Vec<TxFact>, String>, Stopping> {
        while found.values().map(BTreeSet::len).sum::<usize>() > FOUND_MAX {
            let Some((height, txids)) = found.iter().find(|(height, _)| **height > 0) else { break };
            let (height, txids) = (*height, txids.clone());
            match self.facts_at(server, look_up, Found::from([(height, txids)])).await {
                Ok(facts) => {
                    for fact in facts {
                        self.reports.observe(Observation::Found(fact)).await?;
                    }
                }
                Err(error) => return Ok(Err(error)),
            }
            found.remove(&height);
        }
        Ok(self.facts_at(server, look_up, found).await)
    }

    async fn facts_at(&mut self, server: usize, look_up: &LookUp, found: Found) -> Result<Vec<TxFact>, String> {
        let named = watched(look_up).is_some();
        let mut facts: BTreeMap<_, TxFact> = BTreeMap::new();
        let mut seen = Vec::new();
        for (height, txids) in found {
            if height == 0 {
                let txs = self.transactions(server, txids).await?;
                for (txid, tx) in txs {
                    if let Some(fact) = self.pending_fact(server, (&txid, &tx), named).await? {
                        seen.push(txid);
                        facts.insert(fact.tx.clone(), fact);
                    }
                }
                continue;
            }
            let block = self.header_at(server, height).await?;
            let more = self.facts_in(server, &block, &txids, true).await?;
            // The later ones know better: a server lists some in both places for a moment.
            facts.extend(more.into_iter().map(|fact| (fact.tx.clone(), fact)));
        }
        let pays = |fact: &TxFact| {
            named || fact.transfers.iter().any(|moved| recipients(look_up).any(|address| moved.to == *address))
        };
        self.seen.extend(seen);
        Ok(facts.into_values().filter(pays).collect())
    }

    /// Where transactions went that left the chain.
    async fn locate(&mut self, server: usize) -> Result<(), Stopping> {
        let orphans = std::mem::take(&mut self.lost);
        let known = orphans.into_iter().filter_map(|tx| Some((text::parse_txid(tx.as_str())?, tx)));
        let known: Vec<_> = known.collect();
        let txids: Vec<_> = known.iter().map(|(txid, _)| *txid).collect();
        let Some(under) = self.walk.mirror.head().copied() else { return Ok(()) };
        let located = async {
            let places = self.whereabouts_anywhere(server, &txids).await?;
            let txs = self.transactions(server, txids.iter().copied()).await?;
            let mut facts = HashMap::new();
            for (txid, tx) in txs.iter().filter(|(txid, _)| places.get(*txid) == Some(&Whereabouts::Pending)) {
                facts.extend(self.pending_fact(server, (txid, tx), true).await?.map(|fact| (*txid, fact)));
            }
            Ok::<_, String>((places, facts))
        };
        let (places, facts) = match located.await {
            Ok(located) => located,
            Err(error) => {
                tracing::debug!(network = %self.settings.network, error, "transactions wait to be located");
                self.lost = known.into_iter().map(|(_, tx)| tx).collect();
                return Ok(());
            }
        };
        for (txid, tx) in known {
            match (places.get(&txid), facts.get(&txid)) {
                (Some(Whereabouts::Pending), Some(fact)) => {
                    self.seen.insert(txid);
                    self.reports.observe(Observation::Seen(fact.clone())).await?;
                }
                // Told with its block, or to be told.
                (Some(_), _) => {}
                (None, _) => {
                    self.seen.remove(&txid);
                    self.reports.observe(Observation::Missing { tx, under: under.block_ref() }).await?;
                }
            }
        }
        Ok(())
    }

    /// What an address received in the blocks that are kept.
    async fn answer_query(&mut self, server: usize, query: &AddressQuery) -> Result<AddressReport, String> {
        let head = self.walk.mirror.head().copied().ok_or("no chain yet")?;
        let since = query.since.unwrap_or_default();
        let links = self.walk.mirror.iter().rev().take_while(|link| link.timestamp() >= since);
        let mut searched_from = links.last().copied().unwrap_or(head);
        let script = text::parse_address(query.address.as_str(), self.servers.network())?;
        let said = self.servers.at(server).ask(vec![history_call(&script_hash(&script))]).await?.pop();
        let history = said.unwrap_or_else(|| Err("no history".into())).and_then(read_history)?;
        let asked = searched_from.height.max(1)..=head.height;
        let mut items: Vec<_> = history.iter().filter(|item| asked.contains(&item.height)).collect();
        items.sort_unstable_by_key(|item| std::cmp::Reverse(item.height));
        if let Some(cut) = items.get(QUERY_MAX).map(|item| item.height) {
            items.retain(|item| item.height > cut);
            searched_from = self.walk.mirror.at(cut + 1).copied().unwrap_or(head);
        }
        let mut by_height = Found::new();
        for item in items {
            by_height.entry(item.height).or_default().insert(item.txid);
        }
        let mut transfers = Vec::new();
        for (height, txids) in by_height {
            let block = self.header_at(server, height).await?;
            let facts = self.facts_in(server, &block, &txids, true).await?;
            transfers.extend(received(query, &block.link, &facts));
        }
        Ok(AddressReport { head: head.block_ref(), searched_from: searched_from.block_ref(), transfers })
    }
}
