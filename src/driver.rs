//! The one loop and the one writer: inputs → engine → commit → act.
//!
//! Invariant 1: callers are answered, sources are asked and subscribers are woken only after [`Store::commit`] returned.
//! Invariant 3: a commit that fails ends the loop, and with it the process.

mod handle;
mod restore;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use h402_watch_engine::changes::{Ask, Changes, Event, EventKind};
use h402_watch_engine::id::{NetworkId, Timestamp, WatchId};
use h402_watch_engine::record::{NoWatch, Recorded};
use h402_watch_engine::watch::Outcome;
use h402_watch_engine::{Engine, Named, Refused, Rejected, RestoreError, same_or_taken};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chain::{Mailbox, Report};
use crate::clock::Clock;
use crate::metrics::{DriverMetrics, KindLabel, OutcomeLabels};
use crate::sign::Signer;
use crate::store::{Retention, Store, StoreError};

use handle::{Command, refusal};

pub use handle::{Created, Handle, NetworkView, Refusal};
pub use restore::{NetworkSetup, Ready};

/// Inputs that share one commit; also how many commands may wait before callers are made to (invariant 11).
pub const BATCH_MAX: usize = 1024;

/// Reports that may wait before sources are made to.
pub const REPORTS_MAX: usize = 256;

/// Records that are forgotten in one go, so that a commit of that stays short.
const PRUNE_BATCH: usize = 2048;

/// Events for which it is worth it to have another thread sign them.
const SIGNED_AT_ONCE: usize = 16;

/// How often the store is looked through for what may be forgotten.
const PRUNE_PERIOD: Duration = Duration::from_secs(60);

/// How long records are kept.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Events of the log, ms.
    pub events_ms: u64,
    /// Watches after they were archived, with their claims, ms.
    pub archived_ms: u64,
}

/// Why the loop ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// What memory holds is no longer what the disk holds (invariant 3).
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A watch that was open can't be read back.
    #[error("store: a record of table open is damaged: {0}")]
    Damaged(#[from] NoWatch),
    /// The store holds watches that the configuration has no place for.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A source reported what contradicts the chain that it was given.
    #[error("a report of network {network} contradicts what was committed: {rejected}")]
    Rejected {
        /// The network.
        network: NetworkId,
        /// What is wrong with it.
        #[source]
        rejected: Rejected,
    },
}

struct DriverNetwork {
    mailbox: Arc<Mailbox>,
    view: watch::Sender<NetworkView>,
}

/// An answer that waits for the commit.
type Reply = Box<dyn FnOnce() + Send>;

/// The loop's state.
pub struct Driver {
    engine: Engine,
    store: Arc<Store>,
    signer: Signer,
    clock: Arc<dyn Clock>,
    keep: Keep,
    metrics: DriverMetrics,
    networks: BTreeMap<NetworkId, DriverNetwork>,
    commands: mpsc::Receiver<Command>,
    reports: mpsc::Receiver<(NetworkId, Report)>,
    committed: watch::Sender<u64>,
    replies: Vec<Reply>,
}

impl Driver {
    /// Runs until `shutdown`; then handles what was taken in already, and ends.
    ///
    /// Blocks its thread while it commits, so it wants a thread and a runtime of its own.
    ///
    /// # Errors
    /// When a commit fails, or a source contradicts it; nothing may go on after that.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), DriverError> {
        let mut prune = tokio::time::interval(PRUNE_PERIOD);
        let (mut commands, mut reports) = (Vec::with_capacity(BATCH_MAX), Vec::with_capacity(REPORTS_MAX));
        loop {
            if !self.engine.has_timeouts() {
                // In no fixed order: what is to be forgotten must not hold up what is to be done.
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    _ = prune.tick() => {
                        if self.prune()? {
                            prune.reset_immediately();
                        }
                    }
                    _ = self.reports.recv_many(&mut reports, REPORTS_MAX), if !self.reports.is_closed() => {}
                    _ = self.commands.recv_many(&mut commands, BATCH_MAX) => {}
                }
            } else if shutdown.is_cancelled() {
                break;
            }
            while commands.len() < BATCH_MAX
                && let Ok(command) = self.commands.try_recv()
            {
                commands.push(command);
            }
            self.step(&mut commands, &mut reports)?;
        }
        // Callers that are in already get their answer; later ones are told that the service is stopping.
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            commands.push(command);
        }
        self.step(&mut commands, &mut reports)?;
        self.commit(self.clock.now())
    }

    /// One batch: handle everything, commit once, act.
    fn step(&mut self, commands: &mut Vec<Command>, reports: &mut Vec<(NetworkId, Report)>) -> Result<(), DriverError> {
        let now = self.clock.now();
        let inputs = commands.len() + reports.len();
        for (network, report) in reports.drain(..) {
            self.handle_report(now, network, report)?;
        }
        for command in commands.drain(..) {
            self.handle_command(now, command)?;
        }
        if self.engine.has_timeouts() {
            self.engine.handle_timeout(now);
        }
        if inputs > 0 {
            self.metrics.commit_inputs.0.observe(f64::from(u32::try_from(inputs).unwrap_or(u32::MAX)));
        }
        self.commit(now)
    }

    fn handle_report(&mut self, now: Timestamp, network: NetworkId, report: Report) -> Result<(), DriverError> {
        let observation = match report {
            Report::Observation(observation) => observation,
            Report::Health(health) => {
                if let Some(net) = self.networks.get(&network) {
                    net.view.send_modify(|view| view.health = health);
                }
                return Ok(());
            }
        };
        self.metrics.observations.inc();
        let mut claims = Vec::new();
        for tx in observation.transactions() {
            claims.extend(self.store.claims_of(&network, tx)?);
        }
        let handled = self.engine.handle_observation(now, &network, observation, claims);
        handled.map_err(|rejected| DriverError::Rejected { network, rejected })
    }

    fn handle_command(&mut self, now: Timestamp, command: Command) -> Result<(), DriverError> {
        self.metrics.commands.inc();
        match command {
            Command::Create { named, reply } => {
                let created = self.create(now, *named)?;
                // A caller that has gone away will ask again.
                self.replies.push(Box::new(move || drop(reply.send(created))));
            }
            Command::Cancel { watch, reply } => {
                let cancelled = self.cancel(now, &watch)?;
                let store = Arc::clone(&self.store);
                // It may have been archived at once, so it is read back.
                let read = move || match store.watch(&watch) {
                    Ok(found) => found.ok_or(Refusal::NotFound(watch)),
                    Err(error) => Err(Refusal::Unavailable(error.to_string())),
                };
                self.replies.push(Box::new(move || drop(reply.send(cancelled.and_then(|()| read())))));
            }
            Command::NextAddress { watch, reserve, reply } => {
                let next = self.engine.next_address(&watch, reserve);
                let next = self.settled_if_archived(&watch, next)?;
                self.replies.push(Box::new(move || drop(reply.send(next))));
            }
        }
        Ok(())
    }

    fn create(&mut self, now: Timestamp, named: Named) -> Result<Result<Created, Refusal>, StoreError> {
        let found = self.engine.find(&named);
        if found.is_none()
            && let Some(first) = self.store.watch_by_key(named.key())?
            && let Some(first) = self.store.watch(&first)?
        {
            // Archived, by this batch at the latest.
            let same = same_or_taken(&first, named.request()).map_err(refusal);
            return Ok(same.map(|_| Created { watch: first, new: false }));
        }
        let created = found.unwrap_or_else(|| self.engine.make(now, named)).map_err(refusal);
        Ok(created.and_then(|created| {
            let watch = self.engine.watch(&created.id).cloned().ok_or(Refusal::NotFound(created.id))?;
            Ok(Created { watch, new: created.new })
        }))
    }

    fn cancel(&mut self, now: Timestamp, id: &WatchId) -> Result<Result<(), Refusal>, StoreError> {
        let cancelled = self.engine.cancel(now, id);
        self.settled_if_archived(id, cancelled)
    }

    /// What the engine said of a watch; one that it no longer holds is settled.
    fn settled_if_archived<T>(&self, id: &WatchId, said: Result<T, Refused>) -> Result<Result<T, Refusal>, StoreError> {
        if matches!(said, Err(Refused::NotFound(_))) && self.store.watch(id)?.is_some() {
            return Ok(Err(Refusal::Settled(id.clone())));
        }
        Ok(said.map_err(refusal))
    }

    /// Commits what the engine changed, and only then acts on it.
    fn commit(&mut self, now: Timestamp) -> Result<(), DriverError> {
        let mut changes = self.engine.drain();
        sign(&self.signer, &mut changes.events);
        if !changes.is_empty() {
            let started = Instant::now();
            self.store.commit(now, &changes)?;
            self.metrics.commit_seconds.0.observe(started.elapsed().as_secs_f64());
            self.count(&changes);
            self.show_heads(&changes);
            if !changes.events.is_empty() {
                self.committed.send_replace(self.store.newest_sequence());
            }
        }
        post(&self.networks, changes.asks);
        for reply in self.replies.drain(..) {
            reply();
        }
        Ok(())
    }

    fn count(&self, changes: &Changes) {
        let watches: HashMap<_, _> = changes.watches.iter().map(|Recorded { watch, .. }| (&watch.id, watch)).collect();
        for event in &changes.events {
            self.metrics.events.get_or_create(&KindLabel { kind: event.kind.as_str().into() }).inc();
            if event.kind == EventKind::Settled
                && let Some(watch) = watches.get(&event.watch)
                && let Some(outcome) = &watch.outcome
            {
                let reason = if let Outcome::Failed(reason) = outcome { reason.as_str() } else { "" };
                let labels = OutcomeLabels { outcome: outcome.as_str().into(), reason: reason.into() };
                self.metrics.outcomes.get_or_create(&labels).inc();
            }
        }
        self.metrics.watches_open.set(i64::try_from(self.engine.watches_len()).unwrap_or(i64::MAX));
    }

    fn show_heads(&self, changes: &Changes) {
        for (name, net) in &self.networks {
            let moved = changes.headers.iter().any(|(network, _)| network == name)
                || changes.finality.iter().any(|(network, _)| network == name);
            if !moved {
                continue;
            }
            let (head, marks) = (self.engine.head(name), self.engine.marks(name));
            net.view.send_modify(|view| {
                view.head = head.map(|header| header.block.clone());
                view.head_time = head.map(|header| header.time);
                view.finality = marks.cloned().unwrap_or_default();
            });
        }
    }

    /// Forgets one batch of what is past its retention. Returns whether there may be more.
    fn prune(&self) -> Result<bool, StoreError> {
        let now = self.clock.now().0;
        let retention = Retention {
            events_before: Timestamp(now.saturating_sub(self.keep.events_ms)),
            archived_before: Timestamp(now.saturating_sub(self.keep.archived_ms)),
        };
        let pruned = self.store.prune(retention, PRUNE_BATCH)?;
        if pruned.events + pruned.watches > 0 {
            tracing::info!(events = pruned.events, watches = pruned.watches, "forgot what is past its retention");
        }
        Ok(pruned.events == PRUNE_BATCH || pruned.watches == PRUNE_BATCH)
    }
}

/// Asks each source what is for it.
fn post(networks: &BTreeMap<NetworkId, DriverNetwork>, asks: Vec<(NetworkId, Ask)>) {
    let mut of_each = BTreeMap::<NetworkId, Vec<Ask>>::new();
    for (network, ask) in asks {
        of_each.entry(network).or_default().push(ask);
    }
    for (network, asks) in of_each {
        if let Some(net) = networks.get(&network) {
            net.mailbox.post(asks);
        }
    }
}

/// Signs events; many of them on as many threads as there are cores: one takes longer than all else that is done about it.
fn sign(signer: &Signer, events: &mut [Event]) {
    let sign = |events: &mut [Event]| {
        for event in events {
            event.signature = signer.sign(&event.artefact);
        }
    };
    if events.len() < 2 * SIGNED_AT_ONCE {
        return sign(events);
    }
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = events.len().div_ceil(threads).max(SIGNED_AT_ONCE);
    std::thread::scope(|scope| {
        let (own, others) = events.split_at_mut(share);
        for others in others.chunks_mut(share) {
            scope.spawn(|| sign(others));
        }
        sign(own);
    });
}
