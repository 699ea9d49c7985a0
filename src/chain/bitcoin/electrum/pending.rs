//! What the histories list in no block: what appears is reported, and what is gone from every server.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use bitcoin::Txid;
use h402_watch_engine::input::Observation;
use tokio::time::Instant;

use super::super::text::{self, Link};
use super::book::{Need, read_history, script_hash};
use super::follow::Follower;
use super::server::history_call;
use crate::chain::Stopping;

/// How long a transaction is listed nowhere before it counts as gone: servers take out what left the mempool before they put in
/// what took its place, and answer in between.
const GONE_AFTER: Duration = Duration::from_millis(400);

/// Where a server says that a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// In its mempool.
    Pending,
    /// In a block of this height.
    Block(u64),
    /// The server knows it, and does not tell where it is.
    Unknown,
}

impl Follower {
    /// Reports what entered the mempool, and then what left it other than into a block: what takes the place of something is
    /// known before that is gone. The histories were read under our head.
    pub(super) async fn tell_pending(&mut self, server: usize) -> Result<Result<(), String>, Stopping> {
        let (heights, pending) = self.book.places();
        let fresh: Vec<_> = pending.iter().filter(|txid| !self.seen.contains(*txid)).copied().collect();
        let txs = match self.transactions(server, fresh.iter().copied()).await {
            Ok(txs) => txs,
            Err(error) => return Ok(Err(error)),
        };
        for txid in fresh {
            // One that is gone again since is not listed the next time.
            let Some(tx) = txs.get(&txid) else { continue };
            match self.pending_fact(server, (&txid, tx), false).await {
                Ok(Some(fact)) => {
                    self.seen.insert(txid);
                    self.reports.observe(Observation::Seen(fact)).await?;
                }
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        let head = self.walk.mirror.head().map_or(0, |head| head.height);
        // One above the head is told with its block.
        self.seen.retain(|txid| heights.get(txid).is_none_or(|height| *height > head));
        let gone = self.seen.iter().filter(|txid| !pending.contains(*txid) && !heights.contains_key(*txid));
        let gone: HashSet<_> = gone.copied().collect();
        self.doubtful.retain(|txid, _| gone.contains(txid));
        let mut sure = Vec::new();
        for txid in gone {
            let since = self.doubtful.entry(txid).or_insert_with(|| {
                // What took its place may be in histories that were not read this time.
                self.read_at = None;
                Instant::now()
            });
            if since.elapsed() >= GONE_AFTER {
                sure.push(txid);
            }
        }
        self.tell_gone(server, sure).await
    }

    async fn tell_gone(&mut self, server: usize, gone: Vec<Txid>) -> Result<Result<(), String>, Stopping> {
        let Some(under) = self.walk.mirror.head().map(Link::block_ref) else { return Ok(Ok(())) };
        if gone.is_empty() {
            return Ok(Ok(()));
        }
        let places = match self.whereabouts_anywhere(server, &gone).await {
            Ok(places) => places,
            Err(error) => return Ok(Err(error)),
        };
        for txid in gone {
            // What is somewhere still is followed no more, or is listed again: then it is told again.
            self.seen.remove(&txid);
            self.doubtful.remove(&txid);
            if !places.contains_key(&txid) {
                let missing = Observation::Missing { tx: text::tx(txid), under: under.clone() };
                self.reports.observe(missing).await?;
            }
        }
        Ok(Ok(()))
    }

    /// Where transactions are by the word of any server: those that none knows are left out. The server that is asked first
    /// has to answer.
    pub(super) async fn whereabouts_anywhere(
        &mut self,
        server: usize,
        txids: &[Txid],
    ) -> Result<HashMap<Txid, Whereabouts>, String> {
        let mut places = self.whereabouts(server, txids).await?;
        for index in (0..self.servers.len()).filter(|index| *index != server) {
            let missing: Vec<_> = txids.iter().filter(|txid| !places.contains_key(*txid)).copied().collect();
            if missing.is_empty() {
                break;
            }
            if self.servers.is_usable(index).await
                && let Ok(more) = self.whereabouts(index, &missing).await
            {
                // In a block of theirs it may be on another branch: only their mempool counts.
                places.extend(more.into_iter().filter(|(_, place)| *place == Whereabouts::Pending));
            }
        }
        Ok(places)
    }

    /// Where transactions are by the word of one server, which does not tell by their ids alone: by the history of a script
    /// that they pay, or use.
    pub(super) async fn whereabouts(
        &mut self,
        server: usize,
        txids: &[Txid],
    ) -> Result<HashMap<Txid, Whereabouts>, String> {
        let txs = self.transactions(server, txids.iter().copied()).await?;
        let mut scripts = BTreeMap::new();
        for (txid, tx) in &txs {
            let mut script = self.book.script_for(Need::Tx(*txid), tx);
            if script.is_none()
                && let Some(input) = tx.input.first().filter(|_| !tx.is_coinbase())
            {
                // It pays nobody: what it uses tells of it.
                let parents = self.transactions(server, [input.previous_output.txid]).await?;
                let parent = parents.get(&input.previous_output.txid);
                script = parent.and_then(|parent| self.book.script_for(Need::Output(input.previous_output), parent));
            }
            if let Some(script) = script {
                scripts.insert(*txid, script_hash(&script));
            }
        }
        let hashes: BTreeSet<_> = scripts.values().cloned().collect();
        let said = self.servers.at(server).ask(hashes.iter().map(|hash| history_call(hash)).collect()).await?;
        let mut histories = HashMap::new();
        for (hash, said) in hashes.into_iter().zip(said) {
            // One that is refused must not hold up the others.
            histories.insert(hash, said.and_then(read_history).ok());
        }
        let place = |txid: &Txid| {
            let Some(Some(history)) = scripts.get(txid).and_then(|hash| histories.get(hash)) else {
                return Some(Whereabouts::Unknown);
            };
            let height = history.iter().filter(|item| item.txid == *txid).map(|item| item.height).max()?;
            Some(if height == 0 { Whereabouts::Pending } else { Whereabouts::Block(height) })
        };
        Ok(txs.keys().filter_map(|txid| Some((*txid, place(txid)?))).collect())
    }
}
