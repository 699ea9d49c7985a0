//! Searching blocks that are long gone by, for watches that look back: a few at a time between two looks at the chain, in one
//! pass for all watches that wait, and by the node's index of block filters where it has one. What is found is reported at
//! once; the look-ups are answered, some at a time, when the pass has come to where the head was when it began. How far it has come is told with the source's health.

use std::collections::{BTreeSet, HashSet, VecDeque};

use bitcoin::{BlockHash, ScriptBuf, Txid};
use h402_watch_engine::changes::LookUp;
use h402_watch_engine::id::Address;
use h402_watch_engine::input::Observation;

use super::facts::Hit;
use super::follow::Follower;
use super::lookup::{Unanswered, pays, recipients, watched};
use super::node::PRESENCE_MAX;
use super::text::{self, Link};
use crate::chain::pool::Answer;
use crate::chain::walk::{At, Chain as _};
use crate::chain::{Search, Stopping};

/// Blocks that are searched between two looks at the chain.
const BLOCKS_AT_ONCE: u64 = 8;
/// Look-ups of addresses that are answered together when their blocks were searched.
const ANSWERED_AT_ONCE: usize = 1000;
/// Blocks whose filters are searched in one request.
const FILTERS_AT_ONCE: u64 = 500;
/// Scripts that are searched for by filter; with more of them too many blocks match by chance.
const FILTER_SCRIPTS_MAX: usize = 2000;

/// What is searched, and what waits to be.
#[derive(Default)]
pub struct Scan {
    waiting: VecDeque<LookUp>,
    pass: Option<Pass>,
    /// It failed, and waits for the next poll.
    rests: bool,
}

struct Pass {
    look_ups: VecDeque<LookUp>,
    /// Those that could not be answered when it had come to its end.
    waiting: VecDeque<LookUp>,
    /// What is paid to, of a pass for addresses.
    scripts: HashSet<ScriptBuf>,
    /// What is looked for, of a pass for transactions.
    txids: HashSet<Txid>,
    start: u64,
    next: u64,
    /// The head when it began: what joins above it is matched then.
    end: u64,
    /// The hash of the block below the next, where that was searched.
    below: Option<BlockHash>,
    found: usize,
    /// Whether a node may have filters.
    filters: bool,
}

/// Why a search does not go on.
enum Ended {
    /// For now.
    Waits(String),
    /// For good.
    Stops,
}

impl From<String> for Ended {
    fn from(why: String) -> Self {
        Self::Waits(why)
    }
}

impl From<Stopping> for Ended {
    fn from(_: Stopping) -> Self {
        Self::Stops
    }
}

impl Scan {
    /// Has a look-up wait for the next pass.
    pub fn add(&mut self, look_up: LookUp) {
        self.waiting.push_back(look_up);
    }

    /// Whether there is something to search.
    pub fn is_under_way(&self) -> bool {
        !self.rests && (self.pass.is_some() || !self.waiting.is_empty())
    }

    /// Tries again what failed.
    pub fn wake(&mut self) {
        self.rests = false;
    }

    /// How far it has come.
    pub fn progress(&self) -> Option<Search> {
        let pass = self.pass.as_ref()?;
        let watches = pass.look_ups.len() + pass.waiting.len() + self.waiting.len();
        Some(Search { from: pass.start, next: pass.next, watches })
    }
}

impl Follower {
    /// Searches a few blocks more.
    pub(super) async fn go_on_with_scan(&mut self) -> Result<(), Stopping> {
        if !self.scan.is_under_way() {
            return Ok(());
        }
        let Some(mut pass) = self.scan.pass.take().or_else(|| self.next_pass()) else { return Ok(()) };
        let end = self.walk.mirror.head().map_or(0, |head| head.height).min(pass.end);
        if pass.next <= end {
            match self.search(&mut pass, end).await {
                Ok(()) => {}
                Err(Ended::Waits(why)) => {
                    tracing::debug!(network = %self.settings.network, why, "a search waits");
                    self.scan.rests = true;
                }
                Err(Ended::Stops) => return Err(Stopping),
            }
            self.scan.pass = Some(pass);
            return Ok(());
        }
        let some = if pass.txids.is_empty() { ANSWERED_AT_ONCE } else { PRESENCE_MAX };
        let some = pass.look_ups.drain(..some.min(pass.look_ups.len())).collect();
        let Unanswered { waiting, rest } = self.answer_now(some, true).await?;
        rest.into_iter().rev().for_each(|look_up| pass.look_ups.push_front(look_up));
        pass.waiting.extend(waiting);
        if pass.look_ups.is_empty() && pass.waiting.is_empty() {
            tracing::info!(network = %self.settings.network, from = pass.start, found = pass.found, "searched");
            return Ok(());
        }
        if pass.look_ups.is_empty() {
            std::mem::swap(&mut pass.look_ups, &mut pass.waiting);
            self.scan.rests = true;
        }
        self.scan.pass = Some(pass);
        Ok(())
    }

    /// The look-ups that wait, of one kind: a transaction is found by its id in each block, an address by filters.
    fn next_pass(&mut self) -> Option<Pass> {
        let for_txs = watched(self.scan.waiting.front()?).is_some();
        let (look_ups, later): (VecDeque<_>, VecDeque<_>) =
            self.scan.waiting.drain(..).partition(|look_up| watched(look_up).is_some() == for_txs);
        self.scan.waiting = later;
        let bottom = self.walk.mirror.bottom().map_or(0, |bottom| bottom.height);
        let from = |look_up: &LookUp| look_up.from_height.unwrap_or(bottom);
        let start = look_ups.iter().map(from).min()?;
        let end = self.walk.mirror.head()?.height;
        let network = self.node.network();
        let script = |address: &Address| text::parse_address(address.as_str(), network).ok();
        let txids: HashSet<_> = look_ups.iter().filter_map(watched).collect();
        let pay_to = look_ups.iter().filter(|_| !for_txs).flat_map(recipients);
        let scripts: HashSet<_> = pay_to.filter_map(script).collect();
        tracing::info!(network = %self.settings.network, from = start, watches = look_ups.len(), "searching");
        let filters = !for_txs && scripts.len() <= FILTER_SCRIPTS_MAX;
        let (waiting, next, below, found) = (VecDeque::new(), start, None, 0);
        Some(Pass { look_ups, waiting, scripts, txids, start, next, end, below, found, filters })
    }

    async fn search(&mut self, pass: &mut Pass, end: u64) -> Result<(), Ended> {
        if pass.next < self.pruned_below {
            tracing::warn!(
                network = %self.settings.network, from = pass.next, to = self.pruned_below,
                "blocks are pruned: what was paid there can't be found"
            );
            (pass.next, pass.below) = (self.pruned_below, None);
        }
        let bottom = self.walk.mirror.bottom().map_or(0, |bottom| bottom.height);
        if pass.next >= bottom {
            return self.search_kept(pass, end).await;
        }
        if pass.filters {
            let to = (bottom - 1).min(pass.next + FILTERS_AT_ONCE - 1);
            match self.node.scan(&pass.scripts, pass.next, to).await {
                Answer::Found(_, relevant) => return self.search_relevant(pass, relevant, to).await,
                // No node has the index, or one that has it is not up.
                Answer::Absent | Answer::Failed(_) => pass.filters = false,
            }
        }
        let count = BLOCKS_AT_ONCE.min(bottom - pass.next);
        for block in self.node.range(0, At::height(pass.next), count).await.found("blocks of its chain")? {
            self.search_next(pass, &block.link).await?;
        }
        Ok(())
    }

    /// Searches blocks that are kept: our chain, whatever the endpoints are at. One that joins it from now on is matched then.
    async fn search_kept(&mut self, pass: &mut Pass, end: u64) -> Result<(), Ended> {
        for _ in 0..BLOCKS_AT_ONCE.min(end + 1 - pass.next) {
            let Some(link) = self.walk.mirror.at(pass.next).copied() else { break };
            self.search_next(pass, &link).await?;
        }
        Ok(())
    }

    /// Searches the block that follows, or begins anew where it does not follow: the chain has changed under the search.
    async fn search_next(&mut self, pass: &mut Pass, link: &Link) -> Result<(), Ended> {
        if pass.below.is_some_and(|below| below != link.parent) {
            (pass.next, pass.below) = (pass.start, None);
            return Err(Ended::Waits("the chain changed".into()));
        }
        self.search_block(pass, link).await?;
        (pass.next, pass.below) = (link.height + 1, Some(link.hash));
        Ok(())
    }

    /// Searches the blocks that filters named.
    async fn search_relevant(&mut self, pass: &mut Pass, relevant: Vec<BlockHash>, to: u64) -> Result<(), Ended> {
        let mut links = Vec::with_capacity(relevant.len());
        for hash in relevant.into_iter().collect::<BTreeSet<_>>() {
            links.push(self.node.block(hash).await.found("a block of its chain")?.link);
        }
        links.sort_unstable_by_key(|link: &Link| link.height);
        for link in links {
            self.search_block(pass, &link).await?;
        }
        (pass.next, pass.below) = (to + 1, None);
        Ok(())
    }

    /// Reports what a block holds of what is searched.
    async fn search_block(&mut self, pass: &mut Pass, link: &Link) -> Result<(), Ended> {
        let block = self.node.whole(link).await.found("a block of its chain")?;
        let txs = block.txids.iter().zip(&block.block.txdata).enumerate();
        let wanted = |(txid, tx)| pass.txids.contains(txid) || pays(tx, &pass.scripts);
        let hits: Vec<_> = txs.filter(|(_, tx)| wanted(*tx)).map(|(place, _)| (place, Hit::Whole)).collect();
        if hits.is_empty() || !self.is_ours(link).await? {
            return Ok(());
        }
        let found = self.facts_of(&block, hits).await?;
        pass.found += found.len();
        for fact in found {
            self.reports.observe(Observation::Found(fact)).await?;
        }
        Ok(())
    }
}
