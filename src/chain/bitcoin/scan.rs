//! Searching blocks that are long gone by, for watches that look back: a few at a time between two looks at the chain, in one
//! pass for all watches that wait, and by the node's index of block filters where it has one. How far it has come is told with
//! the source's health.

use std::collections::{BTreeSet, HashSet, VecDeque};

use bitcoin::{BlockHash, ScriptBuf};
use h402_watch_engine::changes::LookUp;
use h402_watch_engine::id::Address;
use h402_watch_engine::input::{Place, TxFact};
use h402_watch_engine::request::Subject;

use super::facts::Hit;
use super::follow::Follower;
use super::lookup::{pays, recipients};
use super::text::{self, Link};
use crate::chain::pool::Answer;
use crate::chain::walk::Chain as _;
use crate::chain::{Search, Stopping};

/// Blocks that are searched between two looks at the chain.
const BLOCKS_AT_ONCE: u64 = 8;
/// Blocks whose filters are searched in one request.
const FILTERS_AT_ONCE: u64 = 500;
/// Scripts that are searched for by filter; with more of them too many blocks match by chance.
const FILTER_SCRIPTS_MAX: usize = 2000;
/// Transactions that one pass finds at most, the oldest ones.
const FOUND_MAX: usize = 20_000;

/// What is searched, and what waits to be.
#[derive(Default)]
pub struct Scan {
    waiting: VecDeque<LookUp>,
    pass: Option<Pass>,
    /// It failed, and waits for the next poll.
    rests: bool,
}

struct Pass {
    look_ups: Vec<LookUp>,
    /// What is paid to, of a pass for addresses.
    scripts: HashSet<ScriptBuf>,
    start: u64,
    next: u64,
    /// The hash of the block below the next.
    below: Option<BlockHash>,
    found: Vec<TxFact>,
    /// Whether a node may have filters.
    filters: bool,
}

impl Scan {
    /// Has look-ups wait for the next pass.
    pub fn add(&mut self, look_ups: Vec<LookUp>) {
        self.waiting.extend(look_ups);
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
        let watches = pass.look_ups.len() + self.waiting.len();
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
        let head = self.walk.mirror.head().map_or(0, |head| head.height);
        if pass.next <= head {
            if let Err(error) = self.search(&mut pass, head).await {
                tracing::debug!(network = %self.settings.network, error, "a search waits");
                self.scan.rests = true;
            }
            self.scan.pass = Some(pass);
            return Ok(());
        }
        let found: Vec<_> = pass.found.iter().filter(|fact| self.is_in_chain(fact)).cloned().collect();
        pass.look_ups = self.answer_now(std::mem::take(&mut pass.look_ups), Some(&found)).await?;
        if pass.look_ups.is_empty() {
            tracing::info!(network = %self.settings.network, from = pass.start, found = found.len(), "searched");
        } else {
            self.scan.rests = true;
            self.scan.pass = Some(pass);
        }
        Ok(())
    }

    /// The look-ups that wait, of one kind: a transaction is found by its id in each block, an address by filters.
    fn next_pass(&mut self) -> Option<Pass> {
        let is_tx = |look_up: &LookUp| matches!(look_up.subject, Subject::Transaction { .. });
        let txs = is_tx(self.scan.waiting.front()?);
        let (look_ups, later): (Vec<_>, Vec<_>) =
            self.scan.waiting.drain(..).partition(|look_up| is_tx(look_up) == txs);
        self.scan.waiting = later.into();
        let bottom = self.walk.mirror.bottom().map_or(0, |bottom| bottom.height);
        let from = |look_up: &LookUp| look_up.from_height.unwrap_or(bottom);
        let start = look_ups.iter().map(from).min()?;
        let network = self.node.network();
        let script = |address: &Address| text::parse_address(address.as_str(), network).ok();
        let scripts =
            if txs { HashSet::new() } else { look_ups.iter().flat_map(recipients).filter_map(script).collect() };
        tracing::info!(network = %self.settings.network, from = start, watches = look_ups.len(), "searching");
        Some(Pass { look_ups, scripts, start, next: start, below: None, found: Vec::new(), filters: true })
    }

    async fn search(&mut self, pass: &mut Pass, head: u64) -> Result<(), String> {
        if pass.next < self.pruned_below {
            tracing::warn!(
                network = %self.settings.network, from = pass.next, to = self.pruned_below,
                "blocks are pruned: what was paid there can't be found"
            );
            (pass.next, pass.below) = (self.pruned_below, None);
        }
        if pass.filters && !pass.scripts.is_empty() && pass.scripts.len() <= FILTER_SCRIPTS_MAX {
            let to = head.min(pass.next + FILTERS_AT_ONCE - 1);
            match self.node.scan(&pass.scripts, pass.next, to).await {
                Answer::Found(_, relevant) => return self.search_relevant(pass, relevant, to).await,
                // No node has the index, or one that has it is not up.
                Answer::Absent | Answer::Failed(_) => pass.filters = false,
            }
        }
        let count = BLOCKS_AT_ONCE.min(head + 1 - pass.next);
        let links = self.node.range(0, pass.next, count).await.found("blocks of its chain")?;
        for link in links {
            if pass.below.is_some_and(|below| below != link.parent) {
                // The chain changed under the search.
                (pass.next, pass.below) = (pass.start, None);
                pass.found.clear();
                return Ok(());
            }
            self.search_block(pass, &link).await?;
            (pass.next, pass.below) = (link.height + 1, Some(link.hash));
        }
        Ok(())
    }

    /// Searches the blocks that filters named.
    async fn search_relevant(&mut self, pass: &mut Pass, relevant: Vec<BlockHash>, to: u64) -> Result<(), String> {
        let mut links = Vec::with_capacity(relevant.len());
        for hash in relevant.into_iter().collect::<BTreeSet<_>>() {
            links.push(self.node.block(hash).await.found("a block of its chain")?);
        }
        links.sort_unstable_by_key(|link: &Link| link.height);
        for link in links {
            self.search_block(pass, &link).await?;
        }
        (pass.next, pass.below) = (to + 1, None);
        Ok(())
    }

    async fn search_block(&mut self, pass: &mut Pass, link: &Link) -> Result<(), String> {
        let block = self.node.whole(link).await.found("a block of its chain")?;
        let named = |txid: &bitcoin::Txid| {
            let id = text::tx(*txid);
            pass.look_ups.iter().any(|look_up| matches!(&look_up.subject, Subject::Transaction { tx } if *tx == id))
        };
        let wanted = |(txid, tx)| if pass.scripts.is_empty() { named(txid) } else { pays(tx, &pass.scripts) };
        let txs = block.txids.iter().zip(&block.block.txdata).enumerate();
        let hits: Vec<_> = txs.filter(|(_, tx)| wanted(*tx)).map(|(place, _)| (place, Hit::Whole)).collect();
        if hits.is_empty() {
            return Ok(());
        }
        let quorum = self.settings.quorum;
        if quorum > 1 && self.node.agreed_prefix(None, &[*link], quorum).await == 0 {
            return Err(format!("fewer than {quorum} endpoints have block {}", link.height));
        }
        let facts = self.facts_of(&block, hits).await;
        let room = FOUND_MAX.saturating_sub(pass.found.len());
        if facts.len() > room {
            tracing::warn!(network = %self.settings.network, "a search found more than it keeps: {FOUND_MAX}");
        }
        pass.found.extend(facts.into_iter().take(room));
        Ok(())
    }

    /// Whether what a search found is in our chain still.
    fn is_in_chain(&self, fact: &TxFact) -> bool {
        let Place::Block { block, .. } = &fact.place else { return false };
        let bottom = self.walk.mirror.bottom().map_or(0, |bottom| bottom.height);
        let holds = |hash| self.walk.mirror.holds(block.height, hash);
        block.height < bottom || block.hash.as_str().parse().is_ok_and(holds)
    }
}
