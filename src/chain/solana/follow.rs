//! Following a cluster: the slots above our head are asked for on a poll that always runs, their blocks are read, and each that
//! joins is reported with what it holds of what is watched (research/solana.md §3.3, §3.5).

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use h402_watch_engine::changes::LookUp;
use h402_watch_engine::id::{BlockRef, TxId};
use h402_watch_engine::input::{Block, Observation, TxFact, Verification};
use h402_watch_engine::request::Tag;
use solana_hash::Hash;
use tokio::time::Instant;

use super::expiry::Expiring;
use super::landed::Landed;
use super::lookup::Whereabouts;
use super::node::{ByTx, Detail, Fetched, Node, View};
use super::statuses::STATUSES_AT_ONCE;
use super::text::{self, Link, bytes};
use super::wake::Hints;
use super::wire::Status;
use crate::chain::pool::{Answer, RETRY};
use crate::chain::pulse::Pulse;
use crate::chain::walk::{Hold, Step, Walk};
use crate::chain::{Health, HealthState, Mailbox, Reporter, Settings, Start, Stopping};

/// Blocks that are read in one request while catching up.
const CHUNK: usize = 50;
/// The same where they are read whole: some megabytes each on a busy cluster.
const WHOLE_CHUNK: usize = 4;
/// Slots above our head beyond which nodes are asked for older statuses too: without that they look back some 300 blocks at most.
const RECENT: u64 = 100;
/// Transactions of which a poll looks whether they are watched still.
const FORGET_AT_ONCE: usize = 1024;
/// How long announcements of slots are gathered.
const GATHER: Duration = Duration::from_millis(20);
/// How often endpoints are asked how far down they have blocks.
const SURVEY_PERIOD: Duration = Duration::from_secs(60);
/// How long a cluster may be without a new block before it is said to stand still.
const STANDSTILL: Duration = Duration::from_secs(30);

/// One cluster's follower.
pub(super) struct Follower {
    pub(super) settings: Settings,
    pub(super) node: Node,
    pub(super) walk: Walk<Hash>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) reports: Reporter,
    /// Look-ups that are to be answered at the next poll: they could not be before.
    pub(super) look_ups: Vec<LookUp>,
    /// Transactions that left the chain, and are to be located.
    pub(super) lost: Vec<TxId>,
    /// Watched transactions that a node has processed, and no confirmed block holds yet.
    pub(super) seen: BTreeSet<TxId>,
    /// The last of those that were asked for.
    asked_last: Option<TxId>,
    /// Watched transactions that were reported in a block; they are not looked for among the open interests.
    pub(super) landed: Landed,
    /// The highest block with a fact in it: finality is asked for only up to there.
    pub(super) highest_fact: Option<u64>,
    /// When it was looked for those that can land no more.
    pub(super) expired_at: Option<Instant>,
    /// When nonce accounts were read, and the final height at which each was seen to hold what it must.
    pub(super) nonces_at: Option<Instant>,
    pub(super) nonces_held: HashMap<Expiring, u64>,
    /// The endpoint that is asked first.
    preferred: usize,
    /// How many blocks the last poll found: what reading them whole costs.
    blocks_per_poll: usize,
    /// Whether statuses of older blocks are needed.
    deep: bool,
    behind: bool,
    /// The lowest block that an endpoint has, and when that was asked.
    pub(super) searched_from: u64,
    surveyed_at: Option<Instant>,
    advanced_at: Instant,
    compared_at: Option<Instant>,
    /// The head up to which nothing was left to tell.
    synced: Option<Hash>,
    state: HealthState,
    pulse: Pulse,
}

impl Follower {
    pub(super) fn new(settings: Settings, start: &Start, mailbox: Arc<Mailbox>, reports: Reporter) -> Self {
        let reference = settings.network.as_str().split_once(':').map_or("", |(_, reference)| reference);
        Self {
            node: Node::new(reference, &settings.endpoints, Arc::clone(&mailbox)),
            walk: Walk::new(start, settings.horizon, settings.look_back, settings.quorum),
            settings,
            mailbox,
            reports,
            look_ups: Vec::new(),
            lost: Vec::new(),
            seen: BTreeSet::new(),
            asked_last: None,
            landed: Landed::default(),
            // What was settled before the restart still waits for its finality.
            highest_fact: start.headers.last().map(|header| header.block.height),
            expired_at: None,
            nonces_at: None,
            nonces_held: HashMap::new(),
            preferred: 0,
            blocks_per_poll: 1,
            deep: true,
            behind: false,
            searched_from: 0,
            surveyed_at: None,
            advanced_at: Instant::now(),
            compared_at: None,
            synced: None,
            state: HealthState::Syncing,
            pulse: Pulse::default(),
        }
    }

    /// Follows for ever.
    pub(super) async fn run(mut self) -> Result<Infallible, Stopping> {
        let urls = (0..self.node.len()).filter_map(|index| self.node.at(index).ws_url().map(str::to_owned));
        let mut hints = Hints::from(urls.collect());
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
                () = hints.next() => {
                    next_poll = next_poll.min(Instant::now() + GATHER);
                    continue;
                }
                () = std::future::ready(()), if more => answer = true,
            }
            self.work(poll, poll || answer).await?;
            if poll {
                next_poll = Instant::now() + self.pause();
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
        self.report_health().await
    }

    /// How long until the slots above our head are asked for again.
    fn pause(&self) -> Duration {
        if self.behind {
            Duration::ZERO
        } else if self.walk.is_undecided() || !self.look_ups.is_empty() || !self.lost.is_empty() {
            RETRY.min(self.settings.poll_interval)
        } else {
            self.settings.poll_interval
        }
    }

    async fn poll(&mut self) -> Result<(), Stopping> {
        self.survey().await;
        // One that is behind, or on a branch that can't be followed, must not hold up the others.
        for _ in 0..self.node.len() {
            self.behind = false;
            self.state = self.poll_preferred().await?;
            if matches!(self.state, HealthState::Following | HealthState::Syncing) {
                break;
            }
            self.preferred = (self.preferred + 1) % self.node.len();
        }
        Ok(())
    }

    /// Asks the preferred endpoint what is above our head, and follows it.
    async fn poll_preferred(&mut self) -> Result<HealthState, Stopping> {
        let head = self.walk.mirror.head().copied();
        let scans = self.scans();
        let asked = self.asked(scans);
        let looked =
            self.node.look(self.preferred, head.map(|head| head.slot), &asked, self.deep, self.settings.quorum);
        let (source, view) = match looked.await {
            Ok(looked) => looked,
            Err(why) => return Ok(HealthState::Degraded(why)),
        };
        self.preferred = source;
        let Some(head) = head else { return self.begin(source, view.confirmed).await };
        if view.confirmed < head.slot {
            return Ok(HealthState::Degraded(format!("the tip is slot {}, below the head", view.confirmed)));
        }
        let was_deep = std::mem::replace(&mut self.deep, view.confirmed > head.slot + RECENT);
        if self.deep && !was_deep && !scans {
            // What these statuses don't show may have landed below what they look back on.
            self.behind = true;
            return Ok(HealthState::Syncing);
        }
        let landed = self.landed_in(&view, &asked);
        let followed = self.follow(source, &view, scans, &landed).await?;
        self.tell_statuses(&view, &asked, landed).await?;
        if followed.is_ok() {
            self.tell_finality(view.finalized).await?;
            self.expire().await?;
        }
        match followed {
            Ok(true) => self.rest(&view).await,
            Ok(false) => Ok(HealthState::Syncing),
            Err(Hold::Wait(why)) => Ok(HealthState::Degraded(why)),
            Err(Hold::Halt(why)) => Ok(HealthState::Halted(why)),
        }
    }

    /// Whether blocks are read whole: always where somebody may be paid by whichever transaction; else once that takes fewer
    /// calls than asking for the status of each (research/solana.md §3.3).
    fn scans(&self) -> bool {
        let wants = self.mailbox.interests();
        if !wants.interests.recipients.is_empty() {
            return true;
        }
        wants.interests.txs.sought().len().div_ceil(STATUSES_AT_ONCE) > self.blocks_per_poll.max(1)
    }

    /// The transactions whose statuses this poll asks for: all that have not landed, or, where blocks are read whole, those that
    /// may fall back out of sight.
    fn asked(&mut self, scans: bool) -> Vec<TxId> {
        let wants = self.mailbox.interests();
        let open = &wants.interests.txs;
        self.landed.forget_some(FORGET_AT_ONCE, |id| open.contains(id));
        self.seen.retain(|tx| bytes::tx(tx.as_str()).is_some_and(|id| open.contains(&id)));
        if scans {
            // In turn, where they are many.
            let from = self.asked_last.take().map_or(Bound::Unbounded, Bound::Excluded);
            let asked: Vec<_> = self.seen.range((from, Bound::Unbounded)).take(STATUSES_AT_ONCE).cloned().collect();
            self.asked_last = asked.last().filter(|_| asked.len() == STATUSES_AT_ONCE).cloned();
            return asked;
        }
        open.sought().iter().filter_map(|(id, [])| text::spell_tx(id)).collect()
    }

    /// The transactions that statuses show in confirmed blocks, by slot.
    fn landed_in(&self, view: &View, asked: &[TxId]) -> HashMap<u64, Vec<TxId>> {
        let mut by_slot: HashMap<u64, Vec<TxId>> = HashMap::new();
        for tx in asked {
            if let Some(status) = view.statuses.found.get(tx).filter(|status| Status::is_confirmed(status)) {
                by_slot.entry(status.slot).or_default().push(tx.clone());
            }
        }
        by_slot
    }

    /// The very first blocks.
    async fn begin(&mut self, source: usize, tip: u64) -> Result<HealthState, Stopping> {
        let (supplier, tip) = match self.node.block(source, tip, Detail::Header).await {
            Answer::Found(supplier, tip) => (supplier, tip),
            other => return Ok(HealthState::Degraded(other.why_not("the tip"))),
        };
        match self.join(supplier, vec![tip], false, &HashMap::new(), 0).await? {
            Ok(_all) => {
                self.behind = true;
                Ok(HealthState::Syncing)
            }
            Err(Hold::Wait(why) | Hold::Halt(why)) => Ok(HealthState::Degraded(why)),
        }
    }

    /// Reads the blocks above our head, as far as statuses tell what they hold. `Ok(true)`: up to the tip.
    async fn follow(
        &mut self,
        source: usize,
        view: &View,
        scans: bool,
        landed: &HashMap<u64, Vec<TxId>>,
    ) -> Result<Result<bool, Hold>, Stopping> {
        let Some(head) = self.walk.mirror.head().map(|head| head.slot) else { return Ok(Ok(true)) };
        let mut above = view.above.clone();
        if above.is_empty() && view.confirmed > head {
            // More slots are empty than are listed at once, or the list is not that of the tip.
            if let Answer::Found(_, slots) = self.node.listed(source, head + 1, view.confirmed).await {
                above = slots;
            }
            if above.is_empty() {
                let why = format!("no block is listed above slot {head}, though slot {} has one", view.confirmed);
                return Ok(Err(Hold::Wait(why)));
            }
        }
        let covered = if scans { u64::MAX } else { view.statuses.surely_cover() };
        let whole = scans && self.settings.quorum < 2;
        let (detail, most) = if whole { (Detail::Whole, WHOLE_CHUNK) } else { (Detail::Header, CHUNK) };
        let slots: Vec<_> = above.iter().copied().filter(|slot| *slot <= covered).take(most).collect();
        let Some(last) = slots.last().copied() else {
            return Ok(match above.first() {
                None => Ok(true),
                Some(slot) => Err(Hold::Wait(format!("statuses are known to slot {covered}, and not to {slot}"))),
            });
        };
        let (supplier, blocks) = match self.node.blocks(source, &slots, detail).await {
            Answer::Found(supplier, blocks) => (supplier, blocks),
            other => return Ok(Err(Hold::Wait(other.why_not(&format!("the block at slot {}", slots[0]))))),
        };
        let whole_chunk = blocks.last().is_some_and(|block| block.link.slot == last);
        self.blocks_per_poll = blocks.len();
        let joined = self.join(supplier, blocks, scans, landed, view.finalized).await?;
        let more = whole_chunk && view.confirmed > last && (slots.len() == most || above.last() > Some(&last));
        Ok(joined.map(|all| {
            self.behind = more || !all;
            !self.behind
        }))
    }

    /// Joins blocks to our chain, and reports them with what they hold, as far as that can be had. `Ok(false)`: not yet, what
    /// they hold has to be asked for anew.
    async fn join(
        &mut self,
        supplier: usize,
        blocks: Vec<Fetched>,
        scans: bool,
        landed: &HashMap<u64, Vec<TxId>>,
        finalized: u64,
    ) -> Result<Result<bool, Hold>, Stopping> {
        let blocks = match self.walk.step(&self.node, supplier, blocks, false).await {
            Step::Same => return Ok(Ok(true)),
            Step::Hold(hold) => return Ok(Err(hold)),
            Step::Take { blocks, .. } => blocks,
        };
        let head = self.walk.mirror.head().copied();
        let forks = head.is_some_and(|head| blocks[0].link.parent != head.hash);
        if forks && !scans && self.forget_landed(blocks[0].link.height) {
            // Where transactions are on this branch that were in blocks of the other was not asked.
            return Ok(Ok(false));
        }
        let (mut report, mut hold) = (Vec::with_capacity(blocks.len()), None);
        let mut last_time = self.walk.mirror.at(blocks[0].link.height.wrapping_sub(1)).map_or(0, |below| below.time);
        for block in blocks {
            let mut link = block.link;
            // Deadlines go by it: whatever a node says, it is not before that of the block below.
            link.time = link.time.max(last_time);
            last_time = link.time;
            let named = landed.get(&link.slot).map_or(&[][..], Vec::as_slice);
            match self.facts_of(&Fetched { link, ..block }, scans, named).await {
                Ok(facts) => report.push((link, facts)),
                Err(why) => {
                    hold = Some(Hold::Wait(why));
                    break;
                }
            }
        }
        if forks {
            // As far as it is known it is told in one: what moved to a higher block was never gone.
            self.report(report, finalized).await?;
        } else {
            for one in report {
                self.report(vec![one], finalized).await?;
            }
        }
        Ok(hold.map_or(Ok(true), Err))
    }

    /// Remembers that a transaction is in a block that is told.
    pub(super) fn note_landed(&mut self, tx: &TxId, height: u64) {
        self.seen.remove(tx);
        if let Some(id) = bytes::tx(tx.as_str()) {
            self.landed.note(id, height);
            self.mailbox.set_aside([&id[..]]);
        }
        self.highest_fact = self.highest_fact.max(Some(height));
    }

    /// Forgets what landed at a height or above. Whether there was any.
    fn forget_landed(&mut self, height: u64) -> bool {
        let gone = self.landed.forget_from(height);
        if !gone.is_empty() {
            self.mailbox.seek_again(gone.iter().map(|id| &id[..]));
        }
        !gone.is_empty()
    }

    /// What a block holds of what is watched.
    async fn facts_of(&self, block: &Fetched, scans: bool, named: &[TxId]) -> Result<Vec<TxFact>, String> {
        let link = &block.link;
        if scans {
            return match &block.hits {
                Some(hits) => self.facts_from(link, hits.clone(), Verification::Endpoint).await,
                None => self.facts_in(link).await,
            };
        }
        if named.is_empty() {
            return Ok(Vec::new());
        }
        let txs: Vec<_> = named.iter().map(|tx| (tx.clone(), link.slot)).collect();
        let read = self.node.landed(&txs, self.settings.quorum, |at| at.hash == link.hash).await.into_iter().flatten();
        let facts: Vec<_> = read.map(|(executed, _, word)| executed.fact(link, word)).collect();
        if facts.len() < txs.len() {
            // The block itself knows whether it holds them.
            return self.facts_in(link).await;
        }
        Ok(facts)
    }

    /// Reports linked blocks, and how firmly they stand.
    async fn report(&mut self, report: Vec<(Link, Vec<TxFact>)>, finalized: u64) -> Result<(), Stopping> {
        let (Some((first, _)), Some((last, _))) = (report.first().cloned(), report.last().cloned()) else {
            return Ok(());
        };
        let links: Vec<_> = report.iter().map(|(link, _)| *link).collect();
        self.forget_landed(first.height);
        for (link, facts) in &report {
            for fact in facts {
                self.note_landed(&fact.tx, link.height);
            }
        }
        // Each block states a time that is not before its parent's (agave: `bank::update_clock`).
        let block = |(link, facts): (Link, _)| Block { header: link.header(), floor: link.timestamp(), facts };
        let blocks = report.into_iter().map(block).collect();
        self.reports.observe(Observation::Blocks(blocks)).await?;
        self.walk.mirror.extend(&links);
        self.advanced_at = Instant::now();
        self.node.at(self.preferred).set_tip(last.block_ref());
        // All that is followed is confirmed. A deadline must not pass between a payment and the news that it was final.
        self.reports.observe(Observation::Finality { tag: Tag::Confirmed, block: last.block_ref() }).await?;
        if last.slot <= finalized {
            self.finalize(&last).await?;
        }
        Ok(())
    }

    /// Reports the highest of our blocks that is final, while somebody waits for a higher one than before. A slot alone says
    /// nothing of a block: it must be ours that is final there (invariant 6).
    async fn tell_finality(&mut self, finalized: u64) -> Result<(), Stopping> {
        let link = self.walk.mirror.iter().rev().find(|link| link.slot <= finalized).copied();
        let known = self.walk.mirror.finalized();
        let Some(link) = link.filter(|link| known.is_none_or(|known| known < link.height)) else { return Ok(()) };
        let expiring = || !self.mailbox.interests().interests.expiries.is_empty();
        let waits = self.highest_fact.is_some_and(|height| known.is_none_or(|known| known < height)) || expiring();
        if waits && self.node.is_final(self.preferred, &link, self.settings.quorum).await {
            self.finalize(&link).await?;
        }
        Ok(())
    }

    async fn finalize(&mut self, link: &Link) -> Result<(), Stopping> {
        self.walk.mirror.finalize(link.height);
        let observation = Observation::Finality { tag: Tag::Finalized, block: link.block_ref() };
        self.reports.observe(observation).await
    }

    /// Tells what statuses show of transactions that are in no block that was just told.
    async fn tell_statuses(
        &mut self,
        view: &View,
        asked: &[TxId],
        landed: HashMap<u64, Vec<TxId>>,
    ) -> Result<(), Stopping> {
        let Some(head) = self.walk.mirror.head().copied() else { return Ok(()) };
        // Where a status comes after its block was told.
        let missed = landed.into_iter().filter(|(slot, _)| *slot <= head.slot);
        let missed: Vec<_> = missed.flat_map(|(slot, txs)| txs.into_iter().map(move |tx| (tx, slot))).collect();
        let landed = |tx: &TxId| bytes::tx(tx.as_str()).is_some_and(|id| self.landed.contains(&id));
        let missed: Vec<_> = missed.into_iter().filter(|(tx, _)| !landed(tx)).collect();
        for (link, fact) in self.read_landed(&missed).await {
            self.note_landed(&fact.tx, link.height);
            self.reports.observe(Observation::Found(fact)).await?;
        }
        for tx in asked {
            match view.statuses.found.get(tx) {
                Some(status) if !status.is_confirmed() || status.slot > head.slot => self.see(tx).await?,
                // An endpoint that has come to our head, and does not have it any more.
                None if self.seen.contains(tx) && view.statuses.covers >= head.slot => {
                    self.fall_back(tx, &head.block_ref()).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A node has processed a transaction.
    async fn see(&mut self, tx: &TxId) -> Result<(), Stopping> {
        if self.seen.insert(tx.clone()) {
            self.reports.observe(Observation::Seen(TxFact::of(tx.clone()))).await?;
        }
        Ok(())
    }

    /// A transaction that was processed, and is so no more, unless another endpoint has it.
    async fn fall_back(&mut self, tx: &TxId, under: &BlockRef) -> Result<(), Stopping> {
        let found: Result<ByTx<Whereabouts>, _> = self.find(std::slice::from_ref(tx)).await;
        if let Ok(Some(Whereabouts::Nowhere)) = found.map(|found| found.get(tx).cloned()) {
            self.seen.remove(tx);
            self.reports.observe(Observation::Missing { tx: tx.clone(), under: under.clone() }).await?;
        }
        Ok(())
    }

    /// Nothing is above our head. That may be because an endpoint stands still, or all of them.
    async fn rest(&mut self, view: &View) -> Result<HealthState, Stopping> {
        let Some(head) = self.walk.mirror.head().copied() else { return Ok(HealthState::Syncing) };
        if view.above.is_empty() && self.is_passed_by(head.slot).await {
            self.behind = true;
            return Ok(HealthState::Syncing);
        }
        if self.synced != Some(head.hash) {
            // By the chain's own clock: while it stands still no deadline passes.
            self.synced = Some(head.hash);
            self.reports.observe(Observation::Synced { at: head.timestamp() }).await?;
        }
        let still = self.advanced_at.elapsed();
        if still >= STANDSTILL {
            return Ok(HealthState::Degraded(format!("no new block for {} s", still.as_secs())));
        }
        Ok(HealthState::Following)
    }

    /// Whether another endpoint has come further. All are asked, if only now and then.
    async fn is_passed_by(&mut self, slot: u64) -> bool {
        let period = 4 * self.settings.block_time.max(RETRY);
        if self.advanced_at.elapsed() < period || self.compared_at.is_some_and(|at| at.elapsed() < period) {
            return false;
        }
        self.compared_at = Some(Instant::now());
        for index in (0..self.node.len()).filter(|index| *index != self.preferred) {
            if !self.node.is_usable(index).await {
                continue;
            }
            let tip = self.node.at(index).call::<u64>("getSlot", [super::node::confirmed()]).await;
            if tip.is_ok_and(|tip| tip > slot) {
                let name = self.node.at(index).name();
                tracing::info!(network = %self.settings.network, endpoint = name, "asking another endpoint first");
                self.preferred = index;
                return true;
            }
        }
        false
    }

    /// How far down endpoints have blocks; asked now and then.
    async fn survey(&mut self) {
        if self.surveyed_at.is_some_and(|at| at.elapsed() < SURVEY_PERIOD) {
            return;
        }
        let mut lowest: Option<u64> = None;
        for index in 0..self.node.len() {
            if self.node.is_usable(index).await
                && let Ok(first) = self.node.first_height(index).await
            {
                lowest = Some(lowest.map_or(first, |lowest| lowest.min(first)));
            }
        }
        if let Some(lowest) = lowest {
            self.searched_from = lowest;
            self.surveyed_at = Some(Instant::now());
        }
    }

    async fn report_health(&mut self) -> Result<(), Stopping> {
        if !self.pulse.beats(&self.settings.network, &self.state, false) {
            return Ok(());
        }
        let health = Health {
            state: self.state.clone(),
            tip: self.node.tip_claimed(),
            endpoints: self.node.health(),
            search: None,
            searched_from: self.searched_from,
        };
        self.reports.health(health).await
    }
}
