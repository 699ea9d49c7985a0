//! Following the chain of a bitcoind: the tip is asked for on a poll that always runs, each block is fetched raw and decoded
//! once, and reported with what it holds of what is watched (research/bitcoin.md §2).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{BlockHash, Network, Txid};
use futures_util::StreamExt;
use h402_watch_engine::id::Timestamp;
use h402_watch_engine::input::{Block, Observation, TxFact};
use tokio::time::Instant;

use super::block::{Cache, Decoded};
use super::facts::{self, Hit, Known};
use super::header::Placed;
use super::lookup::LookUps;
use super::mempool::Mempool;
use super::node::{ChainInfo, Node};
use super::proof::Tree;
use super::scan::Scan;
use super::text::Link;
use super::wake;
use crate::chain::mirror::{Mirror, Tip};
use crate::chain::pool::{Answer, RETRY};
use crate::chain::pulse::Pulse;
use crate::chain::query::Searching;
use crate::chain::walk::{Hold, Step, Walk};
use crate::chain::{Health, HealthState, Mailbox, Reporter, Settings, Start, Stopping};

/// Blocks whose times the next one's must lie above the median of.
const MEDIAN_OF: usize = 11;
/// Blocks found by polling, without a hint, after which announcements count as dead.
const SILENT_BLOCKS: u32 = 3;
/// How long announcements of blocks are gathered.
const GATHER: Duration = Duration::from_millis(20);
/// How often the nodes are asked what they know of themselves, while no block comes: deadlines wait for that.
const SYNCED_PERIOD: Duration = Duration::from_secs(30);

/// One network's follower.
pub(super) struct Follower {
    pub(super) settings: Settings,
    pub(super) node: Node,
    pub(super) walk: Walk<BlockHash>,
    pub(super) cache: Cache,
    pub(super) mempool: Mempool,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) reports: Reporter,
    /// Look-ups that are to be answered.
    pub(super) look_ups: LookUps,
    /// Transactions that left the chain, and are to be located.
    pub(super) lost: Vec<Txid>,
    /// Those that search below what is kept.
    pub(super) scan: Scan,
    /// The address query that is being answered.
    pub(super) query: Option<Searching<BlockHash>>,
    /// The lowest block that a node still has; 0 where one is not pruned.
    pub(super) pruned_below: u64,
    /// Whether that is known.
    pub(super) surveyed: bool,
    /// Whether transactions and blocks are announced.
    pub(super) hints_up: bool,
    /// The endpoint that is asked first.
    preferred: usize,
    /// Blocks found by polling since the last one that was announced.
    silent_blocks: u32,
    synced_at: Option<Instant>,
    state: HealthState,
    pulse: Pulse,
    behind: bool,
}

impl Follower {
    pub(super) fn new(
        network: Network,
        settings: Settings,
        start: &Start,
        mailbox: Arc<Mailbox>,
        reports: Reporter,
    ) -> Self {
        Self {
            node: Node::new(network, &settings.endpoints),
            walk: Walk::new(start, settings.horizon, settings.look_back, settings.quorum),
            cache: Cache::default(),
            mempool: Mempool::default(),
            settings,
            mailbox,
            reports,
            look_ups: LookUps::default(),
            lost: Vec::new(),
            scan: Scan::default(),
            query: None,
            pruned_below: 0,
            surveyed: false,
            hints_up: false,
            preferred: 0,
            silent_blocks: 0,
            synced_at: None,
            state: HealthState::Syncing,
            pulse: Pulse::default(),
            behind: false,
        }
    }

    /// Follows for ever.
    pub(super) async fn run(mut self) -> Result<Infallible, Stopping> {
        let urls: Vec<_> = self.settings.endpoints.iter().flat_map(|endpoint| endpoint.zmq_urls.clone()).collect();
        let mut hints = wake::hints(&urls);
        let mailbox = Arc::clone(&self.mailbox);
        let mut next_poll = Instant::now();
        loop {
            let (mut poll, mut answer) = (false, false);
            let more = self.scan.is_under_way() || self.has_more_questions();
            let listen = self.mempool.listens_until().unwrap_or_else(|| next_poll + self.settings.poll_interval);
            tokio::select! {
                // Polls come first: a flood of hints must not hold them back.
                biased;
                () = tokio::time::sleep_until(next_poll) => poll = true,
                () = tokio::time::sleep_until(listen) => {}
                () = mailbox.posted() => answer = true,
                Some(hint) = hints.next() => {
                    self.hints_up = hint != wake::Hint::Down;
                    if matches!(hint, wake::Hint::Block | wake::Hint::Gap) {
                        // A block is announced more than once.
                        next_poll = next_poll.min(Instant::now() + GATHER);
                        self.silent_blocks = 0;
                    }
                    self.hear(hint);
                    continue;
                }
                () = std::future::ready(()), if more => answer = true,
            }
            self.work(poll, poll || answer).await?;
            if poll {
                next_poll = Instant::now() + self.pause();
            } else if self.look_ups.wait() {
                // There may be another tip, under which they can be answered.
                next_poll = next_poll.min(Instant::now() + RETRY);
            }
        }
    }

    async fn work(&mut self, poll: bool, answer: bool) -> Result<(), Stopping> {
        if poll {
            self.poll().await?;
        }
        if answer {
            self.answer(poll).await?;
        }
        // Not before the chain is known as far as it goes: what is in a block has not been lost.
        if !self.behind {
            self.watch_mempools(poll).await?;
        }
        self.report_health().await
    }

    /// How long until the tip is asked for again.
    fn pause(&self) -> Duration {
        if self.behind {
            Duration::ZERO
        } else if self.walk.is_undecided() || self.look_ups.wait() || self.mempool.is_behind() {
            RETRY.min(self.settings.poll_interval)
        } else {
            self.settings.poll_interval
        }
    }

    /// Asks for the tip, and follows.
    async fn poll(&mut self) -> Result<(), Stopping> {
        self.behind = false;
        self.scan.wake();
        self.look_ups.wake();
        if !self.surveyed {
            // Before there is a head: what is pruned has to be known before anybody asks for it.
            self.survey().await;
            self.report_health().await?;
        }
        // One that is behind, or on a branch that can't be followed, must not hold up the others.
        for _ in 0..self.node.len() {
            self.state = self.poll_preferred().await?;
            if matches!(self.state, HealthState::Following | HealthState::Syncing) {
                break;
            }
            self.preferred = (self.preferred + 1) % self.node.len();
        }
        Ok(())
    }

    /// Asks the preferred endpoint for the tip, and follows it.
    async fn poll_preferred(&mut self) -> Result<HealthState, Stopping> {
        let asked_at = self.settings.clock.now();
        let follows = self.state == HealthState::Following;
        let (source, best) = match self.ask_tip(self.preferred, follows).await {
            Answer::Found(source, best) => (source, best),
            other => return Ok(HealthState::Degraded(other.why_not("a tip"))),
        };
        self.preferred = source;
        let head = self.walk.mirror.head().copied();
        if let Some(head) = head.filter(|head| head.hash == best) {
            self.node.at(source).set_tip(head.block_ref());
            if self.is_synced().await {
                self.reports.observe(Observation::Synced { at: asked_at }).await?;
            }
            return Ok(if self.behind { HealthState::Syncing } else { HealthState::Following });
        }
        // While there are blocks to catch up with, the last one is not needed yet.
        let whole = follows && !self.mailbox.interests().interests.is_empty();
        let tip = match self.node.tip(source, best, whole).await {
            Answer::Found(_, (tip, block)) => {
                if let Some(block) = block {
                    self.cache.keep(&Arc::new(block));
                }
                tip
            }
            other => return Ok(HealthState::Degraded(other.why_not("the tip"))),
        };
        let before = self.walk.mirror.judge(&tip.link);
        Ok(match self.walk.step(&self.node, source, vec![tip], false).await {
            Step::Same => HealthState::Following,
            Step::Hold(Hold::Wait(why)) => HealthState::Degraded(why),
            Step::Hold(Hold::Halt(why)) => HealthState::Halted(why),
            Step::Take { blocks, tip, .. } => match self.take(blocks).await? {
                Ok(last) => {
                    if before == Tip::Beyond {
                        // What left the chain may be in the mempools again, or have been excluded for good.
                        self.mempool.doubt();
                    }
                    self.behind = last < tip;
                    if self.behind { HealthState::Syncing } else { HealthState::Following }
                }
                Err(why) => HealthState::Degraded(why),
            },
        })
    }

    /// Whether nothing is known to any endpoint that the engine was not told of. Deadlines are decided on this word, so all
    /// are asked, if only now and then; while the chain grows, its blocks decide.
    async fn is_synced(&mut self) -> bool {
        let period = SYNCED_PERIOD.min(2 * self.settings.block_time);
        if self.synced_at.is_some_and(|at| at.elapsed() < period) {
            return false;
        }
        let Some(head) = self.walk.mirror.head().copied() else { return false };
        self.synced_at = Some(Instant::now());
        let mut at_head = false;
        for (index, info) in self.survey().await {
            // One that knows of headers above has blocks to come. One that catches up says nothing.
            if info.headers > head.height && info.bestblockhash != head.hash {
                if info.blocks > head.height {
                    let name = self.node.at(index).name();
                    tracing::info!(network = %self.settings.network, endpoint = name, "asking another endpoint first");
                    self.preferred = index;
                    self.behind = true;
                }
                return false;
            }
            let all_blocks = info.headers == info.blocks && !info.initialblockdownload;
            at_head |= all_blocks && info.bestblockhash == head.hash;
        }
        at_head
    }

    /// What each node says of itself; and how far down their blocks go.
    async fn survey(&mut self) -> Vec<(usize, ChainInfo)> {
        let mut all = Vec::new();
        for index in 0..self.node.len() {
            if self.node.is_usable(index).await
                && let Ok(info) = self.node.info(index).await
            {
                all.push((index, info));
            }
        }
        let lowest = all.iter().map(|(_, info)| info.pruneheight.unwrap_or(0)).min();
        self.pruned_below = lowest.unwrap_or(self.pruned_below);
        self.surveyed |= lowest.is_some();
        all
    }

    /// Reports linked blocks with what they hold, as far as that can be had. The height of the last, or why there is none.
    async fn take(&mut self, blocks: Vec<Placed>) -> Result<Result<u64, String>, Stopping> {
        let (mut report, mut failed) = (Vec::with_capacity(blocks.len()), None);
        for block in blocks {
            match self.facts_at(&block.link).await {
                Ok(facts) => report.push((block, facts)),
                Err(why) => {
                    failed = Some(why);
                    break;
                }
            }
        }
        let Some(last) = report.last().map(|(block, _)| block.link.height) else {
            return Ok(Err(failed.unwrap_or_else(|| "no block".into())));
        };
        let links: Vec<_> = report.iter().map(|(block, _)| block.link).collect();
        let floors = floors(&self.walk.mirror, &links);
        let block = |((placed, facts), floor): ((Placed, _), _)| {
            let header = placed.link.header_of(placed.bytes());
            Block { header, floor, facts }
        };
        let blocks = report.into_iter().zip(floors).map(block).collect();
        self.reports.observe(Observation::Blocks(blocks)).await?;
        self.walk.mirror.extend(&links);
        self.silent_blocks += 1;
        self.hints_up &= self.silent_blocks <= SILENT_BLOCKS;
        for link in links {
            if let Some(block) = self.cache.get(link.hash) {
                self.mempool.leave_for(&block);
            }
        }
        Ok(failed.map_or(Ok(last), Err))
    }

    /// What a block holds of what is watched. It is fetched only if something is.
    async fn facts_at(&mut self, link: &Link) -> Result<Vec<TxFact>, String> {
        if self.mailbox.interests().interests.is_empty() {
            return Ok(Vec::new());
        }
        let block = self.block_of(link).await?;
        let hits = self.hits(&block);
        self.facts_of(&block, hits).await
    }

    /// A block, fetched unless it is kept.
    pub(super) async fn block_of(&mut self, link: &Link) -> Result<Arc<Decoded>, String> {
        if let Some(kept) = self.cache.get(link.hash) {
            return Ok(kept);
        }
        let block = Arc::new(self.node.whole(link).await.found("a block of its chain")?);
        self.cache.keep(&block);
        Ok(block)
    }

    /// Which transactions of a block concern somebody.
    pub(super) fn hits(&self, block: &Decoded) -> Vec<(usize, Hit)> {
        let wants = self.mailbox.interests();
        let txs = block.txids.iter().zip(&block.block.txdata).enumerate();
        txs.filter_map(|(i, (txid, tx))| Some((i, facts::hit(&wants.interests, txid, tx)?))).collect()
    }

    /// The facts about transactions of a block, in its order. What inputs don't show is asked for, in one request for all.
    ///
    /// # Errors
    /// If that can't be had: whose money it is decides whether it is a payment.
    pub(super) async fn facts_of(&self, block: &Decoded, hits: Vec<(usize, Hit)>) -> Result<Vec<TxFact>, String> {
        let hidden: Vec<(Txid, Vec<usize>)> = {
            let wants = self.mailbox.interests();
            let of = |(i, hit): &(usize, Hit)| {
                (block.txids[*i], facts::hidden_inputs(&wants.interests, &block.block.txdata[*i], *hit))
            };
            hits.iter().map(of).filter(|(_, inputs)| !inputs.is_empty()).collect()
        };
        let spent = match hidden.is_empty() {
            true => Vec::new(),
            false => self.node.spent_in_block(&hidden, block.link.hash, self.settings.quorum).await?,
        };
        let known = |txid: &Txid| {
            let place = hidden.iter().position(|(other, _)| other == txid);
            place.and_then(|place| spent.get(place)).map_or(&[][..], Vec::as_slice)
        };
        let wants = self.mailbox.interests();
        let tree = (wants.interests.proofs && !hits.is_empty()).then(|| Tree::of(block));
        let fact = |(i, hit): (usize, Hit)| {
            let (txid, tx) = (&block.txids[i], &block.block.txdata[i]);
            let place = facts::in_block(&block.link);
            let known = Known::Beside(known(txid));
            let fact = facts::fact((txid, tx), hit, place, &wants.interests, self.node.network(), known);
            TxFact { proof: tree.as_ref().map(|tree| Box::new(tree.prove(i))), ..fact }
        };
        Ok(hits.into_iter().map(fact).collect())
    }

    async fn report_health(&mut self) -> Result<(), Stopping> {
        let search = self.scan.progress();
        if !self.pulse.beats(&self.settings.network, &self.state, search.is_some()) {
            return Ok(());
        }
        let health = Health {
            state: self.state.clone(),
            tip: self.node.tip_claimed(),
            endpoints: self.node.health(),
            search,
            searched_from: self.pruned_below,
        };
        self.reports.health(health).await
    }
}

/// The lowest time that each of these blocks, or one above it, may state: above the median of the eleven below it (consensus:
/// `GetMedianTimePast`). Unknown, and none, where fewer are kept.
pub(super) fn floors(mirror: &Mirror<BlockHash>, links: &[Link]) -> Vec<Timestamp> {
    let lowest = links.first().map_or(0, |link| link.height);
    let below = mirror.iter().filter(|link| link.height < lowest);
    let mut times: Vec<_> = below.rev().take(MEDIAN_OF).map(|link| link.time).collect();
    times.reverse();
    let mut floors = Vec::with_capacity(links.len());
    for link in links {
        let last = &times[times.len().saturating_sub(MEDIAN_OF)..];
        let mut sorted = last.to_vec();
        sorted.sort_unstable();
        let median = if sorted.len() == MEDIAN_OF { sorted[MEDIAN_OF / 2] + 1 } else { 0 };
        floors.push(Timestamp(median.saturating_mul(1000)));
        times.push(link.time);
    }
    floors
}
