//! The loop that follows one network: asks for the tip, links headers to the chain, reads what happened to what is watched, and
//! reports each block together with it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{BlockHash, Network, Txid};
use h402_watch_engine::changes::LookUp;
use h402_watch_engine::id::TxId;
use h402_watch_engine::input::{Block, Observation};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::follow::floors;
use super::super::header::Placed;
use super::below::Below;
use super::book::{Book, SCRIPTS_MAX};
use super::entries::Transactions;
use super::header::Headers;
use super::read::ReadAt;
use super::servers::Servers;
use crate::chain::pool::{Answer, RETRY};
use crate::chain::pulse::Pulse;
use crate::chain::walk::{Chain as _, Hold, Step, Walk};
use crate::chain::{AddressQuery, Health, HealthState, Mailbox, Reporter, Settings, Start, Stopping};

/// How often all servers are asked for their tip, while no block comes: deadlines wait for that.
const SYNCED_PERIOD: Duration = Duration::from_secs(30);

/// One network's follower.
pub(super) struct Follower {
    pub(super) settings: Settings,
    pub(super) servers: Servers,
    pub(super) walk: Walk<BlockHash>,
    pub(super) headers: Headers,
    pub(super) below: Below,
    pub(super) txs: Transactions,
    pub(super) book: Book,
    pub(super) read_at: Option<ReadAt>,
    /// What was reported as pending, and is as far as is known.
    pub(super) seen: HashSet<Txid>,
    /// What of that is listed nowhere any more, and since when.
    pub(super) doubtful: HashMap<Txid, Instant>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) reports: Reporter,
    /// Look-ups that are to be answered.
    pub(super) look_ups: VecDeque<LookUp>,
    /// Those of them that could not be answered, each for a reason of its own.
    pub(super) waiting: VecDeque<LookUp>,
    /// Transactions that left the chain, and are to be located.
    pub(super) lost: Vec<TxId>,
    /// The address query that is to be answered.
    pub(super) query: Option<AddressQuery>,
    /// The server that is asked first.
    pub(super) preferred: usize,
    wake: Arc<Notify>,
    synced_at: Option<Instant>,
    state: HealthState,
    pulse: Pulse,
    behind: bool,
    waited: usize,
}

impl Follower {
    pub(super) fn new(
        network: Network,
        settings: Settings,
        start: &Start,
        mailbox: Arc<Mailbox>,
        reports: Reporter,
    ) -> Self {
        let wake = Arc::new(Notify::new());
        Self {
            servers: Servers::new(network, &settings.endpoints, &wake),
            walk: Walk::new(start, settings.horizon, settings.look_back, settings.quorum),
            headers: Headers::default(),
            below: Below::default(),
            txs: Transactions::default(),
            book: Book::default(),
            read_at: None,
            seen: HashSet::new(),
            doubtful: HashMap::new(),
            settings,
            mailbox,
            reports,
            look_ups: VecDeque::new(),
            waiting: VecDeque::new(),
            lost: Vec::new(),
            query: None,
            preferred: 0,
            wake,
            synced_at: None,
            state: HealthState::Syncing,
            pulse: Pulse::default(),
            behind: false,
            waited: 0,
        }
    }

    /// Follows for ever.
    pub(super) async fn run(mut self) -> Result<Infallible, Stopping> {
        let mailbox = Arc::clone(&self.mailbox);
        let wake = Arc::clone(&self.wake);
        let mut next_poll = Instant::now();
        loop {
            let mut poll = false;
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(next_poll) => poll = true,
                () = wake.notified() => poll = true,
                () = mailbox.posted() => {}
                () = std::future::ready(()), if self.has_more_questions() => {}
            }
            self.work(poll).await?;
            if poll {
                next_poll = Instant::now() + self.pause();
            }
        }
    }

    async fn work(&mut self, poll: bool) -> Result<(), Stopping> {
        if poll {
            self.poll().await?;
        }
        self.answer().await?;
        self.report_health().await
    }

    /// How long until the tip is asked for again.
    fn pause(&self) -> Duration {
        if self.behind {
            Duration::ZERO
        } else if self.walk.is_undecided()
            || !(self.look_ups.is_empty()
                && self.waiting.is_empty()
                && self.lost.is_empty()
                && self.doubtful.is_empty())
        {
            RETRY.min(self.settings.poll_interval)
        } else {
            self.settings.poll_interval
        }
    }

    /// Asks for the tip, and follows.
    async fn poll(&mut self) -> Result<(), Stopping> {
        self.behind = false;
        // One that is behind, or on a branch that can't be followed, must not hold up the others.
        for _ in 0..self.servers.len() {
            self.state = self.poll_preferred().await?;
            if matches!(self.state, HealthState::Following | HealthState::Syncing) {
                break;
            }
            self.preferred = (self.preferred + 1) % self.servers.len();
        }
        let waiting = self.book.waiting();
        if waiting > 0 && self.waited == 0 {
            tracing::warn!(network = %self.settings.network, waiting, most = SCRIPTS_MAX, "more is watched than is followed");
        }
        self.waited = waiting;
        Ok(())
    }

    /// Asks the preferred server for the tip, and follows it.
    async fn poll_preferred(&mut self) -> Result<HealthState, Stopping> {
        let asked_at = self.settings.clock.now();
        let (server, tip) = match self.servers.tip(self.preferred).await {
            Answer::Found(server, tip) => (server, tip),
            other => return Ok(HealthState::Degraded(other.why_not("a tip"))),
        };
        self.preferred = server;
        let tip_hash = tip.link.hash;
        Ok(match self.walk.step(&self.servers, server, vec![tip], false).await {
            Step::Hold(Hold::Wait(why)) => HealthState::Degraded(why),
            Step::Hold(Hold::Halt(why)) => HealthState::Halted(why),
            Step::Take { blocks, tip, .. } => match self.take(server, tip_hash, blocks).await? {
                Ok(last) if last < tip => {
                    self.behind = true;
                    HealthState::Syncing
                }
                Ok(_) => match self.tell(server).await? {
                    Ok(()) => HealthState::Following,
                    Err(why) => HealthState::Degraded(why),
                },
                Err(why) => HealthState::Degraded(why),
            },
            Step::Same => {
                if let Err(why) = self.read(server, tip_hash).await {
                    return Ok(HealthState::Degraded(why));
                }
                if let Err(why) = self.tell(server).await? {
                    return Ok(HealthState::Degraded(why));
                }
                if self.is_synced().await {
                    self.reports.observe(Observation::Synced { at: asked_at }).await?;
                }
                if self.behind { HealthState::Syncing } else { HealthState::Following }
            }
        })
    }

    /// Reports linked blocks with what they hold. The height of the last, or why there is none.
    ///
    /// Whatever the server had in its histories when it named this tip is read before any of the blocks is reported, so that no
    /// deadline passes over a payment; and it must still have them afterwards, or it was asked in the middle of a reorg.
    async fn take(
        &mut self,
        server: usize,
        tip: BlockHash,
        blocks: Vec<Placed>,
    ) -> Result<Result<u64, String>, Stopping> {
        let (Some(first), Some(last)) = (blocks.first().copied(), blocks.last().copied()) else {
            return Ok(Err("no block".into()));
        };
        let report = match self.gather(server, tip, &first, &last, &blocks).await {
            Ok(report) => report,
            Err(why) => return Ok(Err(why)),
        };
        self.reports.observe(Observation::Blocks(report)).await?;
        let links: Vec<_> = blocks.iter().map(|block| block.link).collect();
        self.walk.mirror.extend(&links);
        Ok(Ok(last.link.height))
    }

    async fn gather(
        &mut self,
        server: usize,
        tip: BlockHash,
        first: &Placed,
        last: &Placed,
        blocks: &[Placed],
    ) -> Result<Vec<Block>, String> {
        self.check_difficulty(server, blocks).await?;
        let head = self.walk.mirror.head().copied();
        if head.is_some_and(|head| first.link.height <= head.height) {
            // A transaction that moved to another block of the same height has the same status.
            self.book.doubt();
        }
        self.read(server, tip).await?;
        let mut held = self.book.between(first.link.height, last.link.height);
        let links: Vec<_> = blocks.iter().map(|block| block.link).collect();
        let mut report = Vec::with_capacity(blocks.len());
        for (block, floor) in blocks.iter().zip(floors(&self.walk.mirror, &links)) {
            self.headers.keep(block);
            let txids = held.remove(&block.link.height).unwrap_or_default();
            let facts = if txids.is_empty() { Vec::new() } else { self.facts_in(server, block, &txids, false).await? };
            report.push(Block { header: block.link.header_of(block.bytes()), floor, facts });
        }
        let still = self.servers.header_of(server, last.link.height).await?;
        if still.is_none_or(|still| still.link != last.link) {
            return Err("the chain changed while it was asked".into());
        }
        Ok(report)
    }

    /// On the main network each header must have the difficulty that the one below it allows.
    async fn check_difficulty(&mut self, server: usize, blocks: &[Placed]) -> Result<(), String> {
        let network = self.servers.network();
        if network != Network::Bitcoin {
            return Ok(());
        }
        let mut below = match blocks.first() {
            Some(first) if self.walk.mirror.head().is_some() => {
                let parent = match self.headers.get(first.link.parent) {
                    Some(header) => header,
                    None => self.servers.parent(first).await.found("the parent of a block")?.header,
                };
                Some(parent)
            }
            _ => None,
        };
        if below.is_none() && blocks.iter().any(|block| !block.is_recent()) {
            return Err(self.servers.at(server).blame("a block of a difficulty that can't be"));
        }
        for block in blocks {
            if below.is_some_and(|below| !block.may_follow(&below, network)) {
                return Err(self.servers.at(server).blame("a block of a difficulty that can't be"));
            }
            below = Some(block.header);
        }
        Ok(())
    }

    /// Tells what the histories hold beside the blocks that were just reported.
    async fn tell(&mut self, server: usize) -> Result<Result<(), String>, Stopping> {
        let (Some(bottom), Some(head)) = (self.walk.mirror.bottom(), self.walk.mirror.head()) else {
            return Ok(Ok(()));
        };
        let (bottom, head) = (bottom.height, head.height);
        for (height, txids) in self.book.look_back(bottom, head) {
            let found = async {
                let block = self.header_at(server, height).await?;
                self.facts_in(server, &block, &txids, false).await
            };
            match found.await {
                Ok(facts) => {
                    for fact in facts {
                        self.reports.observe(Observation::Found(fact)).await?;
                    }
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        self.book.looked_back();
        self.tell_pending(server).await
    }

    /// Whether nothing is known to any server that the engine was not told of. Deadlines are decided on this word, so all are
    /// asked, if only now and then; while the chain grows, its blocks decide.
    async fn is_synced(&mut self) -> bool {
        let period = SYNCED_PERIOD.min(2 * self.settings.block_time);
        if self.synced_at.is_some_and(|at| at.elapsed() < period) {
            return false;
        }
        self.synced_at = Some(Instant::now());
        let Some(head) = self.walk.mirror.head().copied() else { return false };
        for index in (0..self.servers.len()).filter(|index| *index != self.preferred) {
            if !self.servers.is_usable(index).await {
                continue;
            }
            let Ok(tip) = self.servers.tip_of(index).await else { continue };
            if tip.link.height > head.height {
                let name = self.servers.at(index).name();
                tracing::info!(network = %self.settings.network, endpoint = name, "asking another endpoint first");
                self.preferred = index;
                self.behind = true;
                return false;
            }
        }
        true
    }

    async fn report_health(&mut self) -> Result<(), Stopping> {
        if !self.pulse.beats(&self.settings.network, &self.state, false) {
            return Ok(());
        }
        let mut endpoints = self.servers.health();
        if self.waited > 0
            && let Some(endpoint) = endpoints.get_mut(self.preferred).filter(|endpoint| endpoint.detail.is_empty())
        {
            endpoint.detail = format!("{} more are watched than are followed, which {SCRIPTS_MAX} may be", self.waited);
        }
        let tip = self.servers.tip_claimed();
        let health = Health { state: self.state.clone(), tip, endpoints, search: None, searched_from: self.deepest() };
        self.reports.health(health).await
    }
}
