//! Following the chain: the tip is asked for, gaps are filled, forks are walked back by hash, and each block that joins is
//! reported with what it holds of what is watched (research/evm.md §2.2).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use futures_util::StreamExt;
use h402_watch_engine::changes::LookUp;
use h402_watch_engine::input::{Block, Observation, TxFact};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::ahead::Parts;
use super::balance::Balances;
use super::expected::Expected;
use super::facts::{self, Hit, Matcher};
use super::fetch::{Blocks, Internal, Receipts};
use super::pool::{Fetched, Pool};
use super::text::{self, Link, bytes};
use super::wake::{self, Hint};
use super::wire::RpcBlock;
use crate::chain::mirror::Tip;
use crate::chain::pool::{Answer, RETRY};
use crate::chain::pulse::Pulse;
use crate::chain::query::Searching;
use crate::chain::walk::{Hold, Step, Walk};
use crate::chain::{Health, HealthState, InternalTransfers, Mailbox, Reporter, Settings, Start, Stopping};

/// How long receipts may hold back that a watched transaction is in a block.
const HEADER_FIRST: Duration = Duration::from_secs(2);
/// Heads found by polling, without a hint, after which a WebSocket counts as dead.
const SILENT_HEADS: u32 = 3;

/// A block as it is reported.
pub(super) struct Told {
    pub(super) link: Link,
    /// What its hash is the hash of; empty where that is not known.
    pub(super) header: Arc<[u8]>,
    pub(super) facts: Vec<TxFact>,
}

/// One network's follower.
pub(super) struct Follower {
    pub(super) settings: Settings,
    pub(super) pool: Pool,
    pub(super) blocks: Blocks,
    pub(super) walk: Walk<B256>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) reports: Reporter,
    pub(super) balances: Balances,
    /// Look-ups that are to be answered.
    pub(super) look_ups: VecDeque<LookUp>,
    /// The address query that is being answered.
    pub(super) query: Option<Searching<B256>>,
    /// Watched transactions that a mempool had, and no block yet; with who signed them, where that was checked.
    pub(super) seen: BTreeMap<B256, Option<Address>>,
    /// The last of those that was looked for again.
    pub(super) swept_to: Option<B256>,
    /// Transactions that left the chain or a mempool, and could not be told of yet.
    pub(super) lost: BTreeSet<B256>,
    /// Transactions that were not found, by the poll at which to look again, and how often that was done.
    pub(super) retries: BTreeMap<u64, Vec<(u32, B256)>>,
    /// Polls so far.
    pub(super) polls: u64,
    pub(super) swept_at: Option<Instant>,
    /// The endpoint that is asked first.
    pub(super) preferred: usize,
    /// A block that was reported by its header alone; what it holds is still to be told, and nothing after it before.
    pub(super) unfinished: Option<Fetched>,
    /// The highest block with a fact in it: finality is asked for only up to there.
    pub(super) highest_fact: Option<u64>,
    pub(super) finality_at: Option<B256>,
    synced_at: Option<Instant>,
    state: HealthState,
    pulse: Pulse,
    silent_heads: u32,
    ws_up: bool,
    behind: bool,
    /// The head that a WebSocket announced, until the tip is asked for.
    pub(super) announced: Option<(B256, u64)>,
    /// The tip is to be asked for again soon: it was announced, and is not there yet.
    early: bool,
    pub(super) expected: Expected,
    /// The blocks that the endpoint of a tip, which is named, gave its tags to at the same time.
    pub(super) tagged_with: Option<(B256, Vec<Option<RpcBlock>>)>,
}

impl Follower {
    pub(super) fn new(
        chain_id: u64,
        settings: Settings,
        start: &Start,
        mailbox: Arc<Mailbox>,
        reports: Reporter,
    ) -> Self {
        Self {
            pool: Pool::new(chain_id, settings.recompute, &settings.endpoints),
            blocks: Blocks::new(settings.quorum),
            walk: Walk::new(start, settings.horizon, settings.look_back, settings.quorum),
            balances: Balances::default(),
            settings,
            mailbox,
            reports,
            look_ups: VecDeque::new(),
            query: None,
            seen: BTreeMap::new(),
            swept_to: None,
            lost: BTreeSet::new(),
            retries: BTreeMap::new(),
            polls: 0,
            swept_at: None,
            preferred: 0,
            unfinished: None,
            // What was settled before the restart still waits for its finality.
            highest_fact: start.headers.last().map(|header| header.block.height),
            finality_at: None,
            synced_at: None,
            state: HealthState::Syncing,
            pulse: Pulse::default(),
            silent_heads: 0,
            ws_up: false,
            behind: false,
            announced: None,
            early: false,
            expected: Expected::default(),
            tagged_with: None,
        }
    }

    /// Follows for ever.
    pub(super) async fn run(mut self) -> Result<Infallible, Stopping> {
        let urls: Vec<_> = (0..self.pool.len()).filter_map(|i| self.pool.at(i).ws_url().map(str::to_owned)).collect();
        let mut hints = wake::hints(urls.clone());
        let mailbox = Arc::clone(&self.mailbox);
        let mut next_poll = Instant::now();
        loop {
            let (mut poll, mut answer) = (false, false);
            let more = self.has_more_questions();
            tokio::select! {
                // Polls come first: a flood of hints must not hold them back.
                biased;
                () = tokio::time::sleep_until(next_poll) => poll = true,
                () = mailbox.posted() => answer = true,
                () = std::future::ready(()), if more => answer = true,
                Some(hint) = hints.next() => match hint {
                    Hint::Up => self.ws_up = true,
                    Hint::Down => self.ws_up = false,
                    Hint::Head(announced) => {
                        (self.announced, self.silent_heads) = (announced, 0);
                        poll = true;
                    }
                    Hint::Pending(hash) => self.hear(hash).await?,
                },
            }
            if poll {
                self.poll().await?;
                next_poll = Instant::now() + self.pause();
                if self.silent_heads >= SILENT_HEADS {
                    tracing::warn!(network = %self.settings.network, "websocket says nothing, connecting anew");
                    (self.silent_heads, self.ws_up) = (0, false);
                    hints = wake::hints(urls.clone());
                }
            }
            if poll || answer {
                self.answer().await?;
            }
        }
    }

    /// How long until the tip is asked for again. While a WebSocket announces heads, polling is the net beneath.
    fn pause(&self) -> Duration {
        if self.behind {
            return Duration::ZERO;
        }
        let waits = !self.look_ups.is_empty() || !self.lost.is_empty();
        if self.early || self.unfinished.is_some() || self.walk.is_undecided() || waits {
            return RETRY.min(self.settings.poll_interval);
        }
        if self.ws_up { 3 * self.settings.block_time.max(RETRY) } else { self.settings.poll_interval }
    }

    /// Asks for the tip, and follows.
    async fn poll(&mut self) -> Result<(), Stopping> {
        self.polls += 1;
        (self.behind, self.early) = (false, false);
        self.finish().await?;
        // One that is behind, or on a branch that can't be followed, must not hold up the others.
        for _ in 0..self.pool.len() {
            self.state = self.poll_preferred().await?;
            if matches!(self.state, HealthState::Following | HealthState::Syncing) || self.unfinished.is_some() {
                break;
            }
            self.preferred = (self.preferred + 1) % self.pool.len();
        }
        self.ask_finality().await?;
        self.probe_balances().await?;
        self.look_again().await?;
        self.locate_again().await?;
        self.sweep().await?;
        self.report_health().await
    }

    /// Asks the preferred endpoint for the tip, and follows it.
    async fn poll_preferred(&mut self) -> Result<HealthState, Stopping> {
        let asked_at = self.settings.clock.now();
        let announced = self.announced.take();
        let (source, tip) = match self.tip(announced).await {
            Answer::Found(source, tip) => (source, tip),
            Answer::Absent => return Ok(HealthState::Degraded("no endpoint has a tip".into())),
            Answer::Failed(error) => {
                // It may be no more than what was asked for with it.
                self.early = announced.is_some();
                return Ok(HealthState::Degraded(error));
            }
        };
        self.preferred = source;
        // Where several nodes share a URL, one announces what another does not have yet.
        self.early = announced.is_some_and(|(_, height)| height > tip.block.number.0);
        let same = self.walk.mirror.judge(&Link::from(&tip.block)) == Tip::Same;
        Ok(match self.follow(source, tip).await? {
            Ok(true) if self.unfinished.is_some() => HealthState::Degraded("a block's receipts are missing".into()),
            Ok(true) => {
                if same && self.is_synced(source).await {
                    self.reports.observe(Observation::Synced { at: asked_at }).await?;
                }
                HealthState::Following
            }
            Ok(false) => HealthState::Syncing,
            Err(Hold::Wait(why)) => HealthState::Degraded(why),
            Err(Hold::Halt(why)) => HealthState::Halted(why),
        })
    }

    /// Whether nothing is known to any endpoint that the engine was not told of. Deadlines are decided on this word, so all
    /// are asked, if only every few blocks; while the chain grows, its blocks decide.
    async fn is_synced(&mut self, source: usize) -> bool {
        let period = 2 * self.settings.block_time;
        let now = Instant::now();
        if self.synced_at.is_some_and(|at| now.duration_since(at) < period) {
            return false;
        }
        self.synced_at = Some(now);
        let head = self.walk.mirror.head().map_or(0, |head| head.height);
        for index in 0..self.pool.len() {
            if !self.pool.is_usable(index).await {
                continue;
            }
            let endpoint = self.pool.at(index);
            let calls = [("eth_syncing", json!([])), ("eth_getBlockByNumber", json!(["latest", false]))];
            let calls = if index == source { &calls[..1] } else { &calls[..] };
            let Ok(answers) = endpoint.batch(calls).await else { continue };
            // Nodes that don't offer it say nothing about it.
            let says_so = |raw: &RawValue| !matches!(raw.get(), "false" | "null");
            if answers.first().is_some_and(|answer| answer.as_ref().is_ok_and(|raw| says_so(raw))) {
                return false;
            }
            let tip = answers.get(1).and_then(|answer| answer.as_ref().ok());
            let tip = tip.and_then(|raw| serde_json::from_str::<RpcBlock>(raw.get()).ok());
            if tip.is_some_and(|tip| tip.number.0 > head) {
                let name = endpoint.name();
                tracing::info!(network = %self.settings.network, endpoint = name, "asking another endpoint first");
                self.preferred = index;
                self.behind = true;
                return false;
            }
        }
        true
    }

    /// What a tip means. `Ok(true)`: the engine knows all that the tip's endpoint has.
    async fn follow(&mut self, source: usize, tip: Fetched) -> Result<Result<bool, Hold>, Stopping> {
        match self.walk.step(&self.pool, source, vec![tip], self.unfinished.is_some()).await {
            Step::Same => Ok(Ok(true)),
            Step::Take { supplier, blocks, tip } => self.take(supplier, blocks, tip).await,
            Step::Hold(hold) => Ok(Err(hold)),
        }
    }

    /// Reports linked blocks with what they hold. `Ok(true)`: up to the tip.
    async fn take(
        &mut self,
        supplier: Option<usize>,
        blocks: Vec<Fetched>,
        tip: u64,
    ) -> Result<Result<bool, Hold>, Stopping> {
        let last = blocks.last().map_or(tip, |block| block.block.number.0);
        let mut report = Vec::with_capacity(blocks.len());
        let (mut hold, mut unfinished) = (None, None);
        for block in blocks {
            let link = Link::from(&block.block);
            match self.facts_in_time(&block).await {
                Ok(facts) => report.push(Told { link, header: Arc::clone(&block.header), facts }),
                Err((facts, why)) => {
                    hold = Some(why);
                    if !facts.is_empty() {
                        report.push(Told { link, header: Arc::clone(&block.header), facts });
                        unfinished = Some(block);
                    }
                    break;
                }
            }
        }
        if let Some(Told { link: lowest, .. }) = report.first() {
            // What left the chain is of no interest any more; until then nothing of it is forgotten.
            self.unfinished = self.unfinished.take().filter(|block| block.block.number.0 < lowest.height);
        }
        if supplier.is_some() && report.len() > 1 {
            self.report_with_tags(report).await?;
        } else {
            self.report(report).await?;
        }
        self.unfinished = unfinished.or(self.unfinished.take());
        match hold {
            Some(why) => Ok(Err(Hold::Wait(why))),
            None => {
                self.behind = last < tip;
                Ok(Ok(!self.behind))
            }
        }
    }

    pub(super) async fn report(&mut self, report: Vec<Told>) -> Result<(), Stopping> {
        if report.is_empty() {
            return Ok(());
        }
        let links: Vec<_> = report.iter().map(|told| told.link).collect();
        for told in &report {
            self.note(told.link.height, &told.facts);
        }
        // Each block states a later time than its parent (Yellow Paper, block header validity).
        let block = |Told { link, header, facts }| {
            let header = link.header_of(header);
            Block { floor: header.time, header, facts }
        };
        let blocks = report.into_iter().map(block).collect();
        self.reports.observe(Observation::Blocks(blocks)).await?;
        self.walk.mirror.extend(&links);
        self.silent_heads += u32::from(self.ws_up);
        Ok(())
    }

    /// Remembers that something watched is in a block.
    pub(super) fn note(&mut self, height: u64, facts: &[TxFact]) {
        for fact in facts {
            if let Ok(hash) = text::parse_word(fact.tx.as_str()) {
                self.seen.remove(&hash);
            }
        }
        if !facts.is_empty() {
            self.highest_fact = self.highest_fact.max(Some(height));
        }
    }

    /// What a block holds. When that takes too long, or can't be had, the error holds what the header alone tells.
    async fn facts_in_time(&mut self, block: &Fetched) -> Result<Vec<TxFact>, (Vec<TxFact>, String)> {
        let link = Link::from(&block.block);
        let by_header: Vec<_> = {
            let wants = self.mailbox.interests();
            let watched = block.block.transactions.iter().filter(|hash| facts::names(&wants.interests, **hash));
            watched.map(|hash| facts::included(&link, *hash)).collect()
        };
        if by_header.is_empty() {
            return self.facts_of(block).await.map_err(|error| (Vec::new(), error));
        }
        match tokio::time::timeout(HEADER_FIRST, self.facts_of(block)).await {
            Ok(Ok(facts)) => Ok(facts),
            Ok(Err(error)) => Err((by_header, error)),
            Err(_) => Err((by_header, format!("what block {} holds is not known yet", link.height))),
        }
    }

    /// Tells what a block holds that was reported by its header alone.
    async fn finish(&mut self) -> Result<(), Stopping> {
        let Some(block) = self.unfinished.take() else { return Ok(()) };
        match self.facts_of(&block).await {
            Ok(facts) => {
                self.note(block.block.number.0, &facts);
                for fact in facts {
                    self.reports.observe(Observation::Found(fact)).await?;
                }
            }
            Err(error) => {
                tracing::debug!(network = %self.settings.network, error, "a block's receipts are still missing");
                self.unfinished = Some(block);
            }
        }
        Ok(())
    }

    /// What a block holds of what is watched.
    pub(super) async fn facts_of(&mut self, block: &Fetched) -> Result<Vec<TxFact>, String> {
        if block.block.transactions.is_empty() {
            return Ok(Vec::new());
        }
        let (parts, native) = {
            let wants = self.mailbox.interests();
            let open = &wants.interests;
            self.blocks.prove(open.proofs);
            let named = block.block.transactions.iter().any(|hash| facts::names(open, *hash));
            (self.parts_of(open, block.block.number.0, named), open.recipients.has_asset(bytes::NATIVE))
        };
        if !parts.receipts {
            return Ok(Vec::new());
        }
        self.blocks.prefetch(&self.pool, block, parts).await;
        let receipts = self.blocks.receipts(&self.pool, block).await?;
        if native && self.settings.quorum > 1 {
            // Who is paid in native coin stands in the transactions; a receipt's word for it is one endpoint's.
            self.blocks.bodies(&self.pool, block).await?;
        }
        let internal = if native { self.internal(block).await? } else { None };
        let hits = {
            let wants = self.mailbox.interests();
            let internal = internal.as_ref().map(|all| all.as_slice());
            Matcher { interests: &wants.interests, receipts: &receipts, internal }.hits()
        };
        self.facts_at(block, &hits).await
    }

    /// The facts about some transactions of a block.
    pub(super) async fn facts_at(
        &mut self,
        block: &Fetched,
        hits: &BTreeMap<usize, Hit>,
    ) -> Result<Vec<TxFact>, String> {
        if hits.is_empty() {
            return Ok(Vec::new());
        }
        let receipts = self.blocks.receipts(&self.pool, block).await?;
        let traces = self.traces() && hits.iter().any(|(position, hit)| calls_by_receipt(&receipts, *position, *hit));
        self.blocks.prefetch(&self.pool, block, Parts { receipts: false, bodies: true, traces }).await;
        let bodies = self.blocks.bodies(&self.pool, block).await?;
        // A transaction that calls a contract may pay from inside it.
        let calls = |(position, hit): (&usize, &Hit)| {
            *hit != Hit::Recipient && bodies.txs.get(*position).is_some_and(|body| body.calls)
        };
        // The hash of one that was checked in the mempool is the hash of its signature too.
        let signed = |position: usize| {
            let signer = block.block.transactions.get(position).and_then(|hash| self.seen.get(hash)).copied().flatten();
            signer.is_some() && signer == bodies.txs.get(position).map(|body| body.from)
        };
        let genuine = |position: usize| signed(position) || bodies.is_genuine(position);
        if let Some(position) = hits.keys().find(|position| !genuine(**position)) {
            return Err(format!("transaction {position} was not signed by its sender"));
        }
        let (any_calls, native, proofs) = {
            let wants = self.mailbox.interests();
            let open = &wants.interests;
            (hits.iter().any(calls), open.recipients.has_asset(bytes::NATIVE), open.proofs)
        };
        let internal = if any_calls || native { self.internal(block).await? } else { None };
        let positions: Vec<_> = hits.keys().copied().collect();
        let proofs = if proofs { self.blocks.proofs(&self.pool, block, &positions).await? } else { Vec::new() };
        let mut proofs = proofs.into_iter().map(Box::new);
        let link = Link::from(&block.block);
        let wants = self.mailbox.interests();
        let internal = internal.as_ref().map(|all| all.as_slice());
        let matcher = Matcher { interests: &wants.interests, receipts: &receipts, internal };
        let fact = |(position, hit): (&usize, &Hit)| {
            let proof = proofs.next();
            Some(TxFact { proof, ..matcher.fact(&link, *position, *hit, &bodies)? })
        };
        Ok(hits.iter().filter_map(fact).collect())
    }

    /// The calls inside a block's transactions that carry native coin, where they are looked at.
    pub(super) async fn internal(&mut self, block: &Fetched) -> Result<Option<Internal>, String> {
        if !self.traces() {
            return Ok(None);
        }
        let insist = self.settings.internal_transfers == InternalTransfers::Trace;
        self.blocks.internal(&self.pool, block, insist).await
    }

    pub(super) fn traces(&self) -> bool {
        matches!(self.settings.internal_transfers, InternalTransfers::Auto | InternalTransfers::Trace)
    }

    async fn report_health(&mut self) -> Result<(), Stopping> {
        if !self.pulse.beats(&self.settings.network, &self.state, false) {
            return Ok(());
        }
        let tip = self.pool.tip_claimed();
        let endpoints = self.pool.health();
        let health = Health { state: self.state.clone(), tip, endpoints, search: None, searched_from: 0 };
        self.reports.health(health).await
    }
}

/// Whether a receipt shows that a transaction calls a contract, of which the calls are to be looked at.
fn calls_by_receipt(receipts: &Receipts, position: usize, hit: Hit) -> bool {
    hit != Hit::Recipient && receipts.txs.get(position).is_some_and(|tx| tx.to.is_none() || !tx.transfers.is_empty())
}
