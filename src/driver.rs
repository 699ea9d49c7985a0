//! The one loop and the one writer: inputs → engine → commit → act.
//!
//! Invariant 1: callers are answered, sources are asked and subscribers are woken only after [`Store::commit`] returned.
//! Invariant 3: a commit that fails ends the loop, and with it the process.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use h402_watch_engine::changes::{Ask, Changes, Event, EventKind, FinalityMarks};
use h402_watch_engine::descriptor::Derived;
use h402_watch_engine::id::{Address, BlockRef, NetworkId, Timestamp, WatchId};
use h402_watch_engine::request::WatchRequest;
use h402_watch_engine::rules::{Limits, NetworkRules};
use h402_watch_engine::watch::{Outcome, Watch};
use h402_watch_engine::{Engine, Refused, Rejected, RestoreError, same_or_taken, watch_id};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chain::{AddressQuery, AddressReport, BadField, Family, Health, HealthState, Mailbox, Report, Start};
use crate::clock::Clock;
use crate::metrics::{DriverMetrics, KindLabel, OutcomeLabels};
use crate::sign::Signer;
use crate::store::{Retention, Store, StoreError};

/// Inputs that share one commit; also how many commands may wait before callers are made to (invariant 11).
pub const BATCH_MAX: usize = 1024;

/// Reports that may wait before sources are made to.
pub const REPORTS_MAX: usize = 256;

/// Records that are forgotten in one go, so that a commit of that stays short.
const PRUNE_BATCH: usize = 2048;

/// Watches that are taken in at once at a start: what the sources are asked for all of them takes more room than they do.
const RESTORE_BATCH: usize = 4096;

/// How long what nobody waits for may wait for a commit to go with. Each watch has a look-up whose answer alters it: by itself that
/// would take as many commits as creating them.
const UNHURRIED: Duration = Duration::from_millis(20);

/// Events for which it is worth it to have another thread sign them.
const SIGNED_AT_ONCE: usize = 16;

/// How long an address query may take.
const QUERY_LIMIT: Duration = Duration::from_secs(30);

/// How often the store is looked through for what may be forgotten.
const PRUNE_PERIOD: Duration = Duration::from_secs(60);

/// What clients see of one network.
#[derive(Clone, Debug)]
pub struct NetworkView {
    /// Its name, CAIP-2.
    pub network: NetworkId,
    /// Other names that it answers to.
    pub aliases: Vec<String>,
    /// How many headers are kept: the deepest reorg that is followed.
    pub horizon: u32,
    /// The newest block that the engine accepted.
    pub head: Option<BlockRef>,
    /// The time that it states.
    pub head_time: Option<Timestamp>,
    /// What the chain says of its own finality.
    pub finality: FinalityMarks,
    /// How its source fares.
    pub health: Health,
}

/// A watch as it was committed, and whether this request made it.
#[derive(Clone, Debug)]
pub struct Created {
    /// The watch.
    pub watch: Watch,
    /// False when it existed already.
    pub new: bool,
}

/// Why a command was refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A field does not hold what it must.
    #[error("{field}: expected {expected}")]
    Invalid {
        /// The field's path in a watch request: `terms.amount`.
        field: String,
        /// What it must hold.
        expected: String,
    },
    /// The idempotency key names a watch with other content.
    #[error("idempotency_key: already names watch {first} with other content")]
    KeyTaken {
        /// That watch.
        first: WatchId,
    },
    /// There is no such watch.
    #[error("no watch {0}")]
    NotFound(WatchId),
    /// The watch has an outcome already.
    #[error("watch {0} is settled already")]
    Settled(WatchId),
    /// No more watches can be held.
    #[error("the service holds {max} open watches, its configured maximum")]
    Full {
        /// The limit.
        max: usize,
    },
    /// All addresses of a descriptor watch's window are used or reserved.
    #[error(
        "watch {watch} has no address left: expected one of its reserved addresses to be paid, or a watch with a \
         gap_limit above {gap_limit}"
    )]
    Exhausted {
        /// The watch.
        watch: WatchId,
        /// Its gap limit.
        gap_limit: u32,
    },
    /// Too many requests wait, or the service is stopping; the same request may be tried again.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

impl Refusal {
    /// A field that does not hold what it must.
    pub fn invalid(field: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), expected: expected.into() }
    }
}

impl From<BadField> for Refusal {
    fn from(BadField { field, expected }: BadField) -> Self {
        Self::Invalid { field, expected }
    }
}

/// One network, as the driver is given it.
pub struct NetworkSetup {
    /// What the engine goes by.
    pub rules: NetworkRules,
    /// Other names that it answers to.
    pub aliases: Vec<String>,
    /// How its identifiers are spelled.
    pub family: Family,
}

/// How long records are kept.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Events of the log, ms.
    pub events_ms: u64,
    /// Watches after they were archived, with their claims, ms.
    pub archived_ms: u64,
}

/// What callers hold of the driver.
#[derive(Clone)]
pub struct Handle {
    inputs: mpsc::Sender<Command>,
    networks: Arc<BTreeMap<NetworkId, NetworkSlot>>,
    committed: watch::Receiver<u64>,
}

struct NetworkSlot {
    family: Family,
    mailbox: Arc<Mailbox>,
    view: watch::Receiver<NetworkView>,
}

enum Command {
    Create { request: Box<WatchRequest>, reply: oneshot::Sender<Result<Created, Refusal>> },
    Cancel { watch: WatchId, reply: oneshot::Sender<Result<Watch, Refusal>> },
    NextAddress { watch: WatchId, reserve: bool, reply: oneshot::Sender<Result<Derived, Refusal>> },
}

impl Handle {
    /// Makes the watch, or finds the one that the same request made before. Returns after it is on the disk.
    pub async fn create(&self, mut request: WatchRequest) -> Result<Created, Refusal> {
        let slot = self.slot(&mut request.network)?;
        (slot.family.request)(&mut request)?;
        let lowest = slot.view.borrow().health.searched_from;
        if request.terms.from_height.is_some_and(|from| from < lowest) {
            let expected =
                format!("at least {lowest}: the blocks below are pruned on the nodes of {}", request.network);
            return Err(Refusal::invalid("terms.from_height", expected));
        }
        self.call(|reply| Command::Create { request: Box::new(request), reply }).await
    }

    /// Ends a watch with `failed(cancelled)`. Returns after that is on the disk.
    pub async fn cancel(&self, watch: WatchId) -> Result<Watch, Refusal> {
        self.call(|reply| Command::Cancel { watch, reply }).await
    }

    /// The next address of a descriptor watch that is neither used nor reserved. Returns after a reservation is on the disk.
    pub async fn next_address(&self, watch: WatchId, reserve: bool) -> Result<Derived, Refusal> {
        self.call(|reply| Command::NextAddress { watch, reserve, reply }).await
    }

    /// The sequence of the newest committed event; changes wake the receiver.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.committed.clone()
    }

    /// The configured networks, in order of their names.
    pub fn networks(&self) -> Vec<NetworkView> {
        self.networks.values().map(|slot| slot.view.borrow().clone()).collect()
    }

    /// One network as it is now.
    pub fn network(&self, network: &NetworkId) -> Option<NetworkView> {
        self.networks.get(network).map(|slot| slot.view.borrow().clone())
    }

    /// The network that a name or an alias means.
    pub fn resolve(&self, name: &str) -> Result<NetworkId, Refusal> {
        let mut network = NetworkId::from(name);
        self.slot(&mut network)?;
        Ok(network)
    }

    /// The canonical spellings of an address on the networks where it is one.
    pub fn spell_address(&self, text: &str) -> Vec<Address> {
        let spelled = self.networks.values().filter_map(|slot| (slot.family.address)(text).ok());
        let mut spelled: Vec<_> = spelled.collect();
        spelled.sort();
        spelled.dedup();
        spelled
    }

    /// What an address has received in the blocks that the network's source holds.
    pub async fn check_address(
        &self,
        network: &str,
        address: &str,
        asset: &str,
        since: Option<Timestamp>,
    ) -> Result<(NetworkId, AddressReport), Refusal> {
        let mut network = NetworkId::from(network);
        let slot = self.slot(&mut network)?;
        let address = (slot.family.address)(address).map_err(|expected| Refusal::invalid("address", expected))?;
        let asset = (slot.family.asset)(asset).map_err(|expected| Refusal::invalid("asset", expected))?;
        let (reply, answer) = oneshot::channel();
        let query = AddressQuery { address, asset, since, reply };
        let busy = |_| Refusal::Unavailable(format!("too many address queries wait on {network}"));
        slot.mailbox.query(query).map_err(busy)?;
        let in_time = tokio::time::timeout(QUERY_LIMIT, answer).await;
        let late = |_| Refusal::Unavailable(format!("no answer from {network} in time"));
        let report = in_time.map_err(late)?.map_err(|_| stopping())?;
        report.map(|report| (network, report)).map_err(Refusal::Unavailable)
    }

    fn slot(&self, network: &mut NetworkId) -> Result<&NetworkSlot, Refusal> {
        if let Some(slot) = self.networks.get(network) {
            return Ok(slot);
        }
        let named = |slot: &NetworkSlot| slot.view.borrow().aliases.iter().any(|alias| alias == network.as_str());
        if let Some((name, slot)) = self.networks.iter().find(|(_, slot)| named(slot)) {
            *network = name.clone();
            return Ok(slot);
        }
        let known: Vec<_> = self.networks.keys().map(NetworkId::as_str).collect();
        Err(Refusal::invalid("network", format!("one of the configured networks ({})", known.join(", "))))
    }

    async fn call<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Command,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.inputs.send(command(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

fn stopping() -> Refusal {
    Refusal::Unavailable("the service is stopping".into())
}

/// Why the loop ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// What memory holds is no longer what the disk holds (invariant 3).
    #[error(transparent)]
    Store(#[from] StoreError),
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
    /// When what nobody waits for is committed at the latest, while there is something.
    unhurried: Option<Instant>,
}

/// A driver that is ready to run, and what the others hold of it.
pub struct Ready {
    /// The loop.
    pub driver: Driver,
    /// For callers.
    pub handle: Handle,
    /// For sources.
    pub reports: mpsc::Sender<(NetworkId, Report)>,
    /// What each source starts with.
    pub sources: Vec<(NetworkId, Start, Arc<Mailbox>)>,
}

impl Driver {
    /// Goes on from what the store holds.
    ///
    /// # Errors
    /// If the store can't be read, or holds open watches on a network that is not configured.
    pub fn restore(
        store: Arc<Store>,
        signer: Signer,
        clock: Arc<dyn Clock>,
        setups: Vec<NetworkSetup>,
        (limits, keep): (Limits, Keep),
        metrics: DriverMetrics,
    ) -> Result<Ready, DriverError> {
        let mut snapshot = store.snapshot()?;
        let mut watches = std::mem::take(&mut snapshot.watches).into_iter().peekable();
        let chains: BTreeMap<_, _> = snapshot.chains.iter().cloned().collect();
        let rules = setups.iter().map(|setup| setup.rules.clone()).collect();
        let engine = Engine::restore(limits, rules, snapshot)?;
        let (inputs, commands) = mpsc::channel(BATCH_MAX);
        let (report_sender, reports) = mpsc::channel(REPORTS_MAX);
        let (committed, committed_receiver) = watch::channel(store.newest_sequence());
        let (mut networks, mut slots, mut sources) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for setup in setups {
            let network = setup.rules.network.clone();
            let mailbox = Arc::new(Mailbox::new(&setup.family));
            let (view, receiver) = watch::channel(first_view(&engine, &setup));
            let headers = chains.get(&network).cloned().unwrap_or_default();
            let finality = engine.marks(&network).cloned().unwrap_or_default();
            sources.push((network.clone(), Start { headers, finality }, Arc::clone(&mailbox)));
            slots.insert(
                network.clone(),
                NetworkSlot { family: setup.family, mailbox: Arc::clone(&mailbox), view: receiver },
            );
            networks.insert(network, DriverNetwork { mailbox, view });
        }
        let handle = Handle { inputs, networks: Arc::new(slots), committed: committed_receiver };
        let mut driver = Self {
            engine,
            store,
            signer,
            clock,
            keep,
            metrics,
            networks,
            commands,
            reports,
            committed,
            replies: Vec::new(),
            unhurried: None,
        };
        while watches.peek().is_some() {
            driver.engine.adopt_all(watches.by_ref().take(RESTORE_BATCH))?;
            // What the sources have to be asked for the watches that were open.
            driver.commit(driver.clock.now())?;
        }
        driver.count(&Changes::default());
        Ok(Ready { driver, handle, reports: report_sender, sources })
    }

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
                    () = tokio::time::sleep_until(self.unhurried.unwrap_or_else(Instant::now)), if self.unhurried.is_some() => {}
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
        if self.replies.is_empty() && !self.engine.is_urgent() && self.engine.has_changes() {
            let until = *self.unhurried.get_or_insert_with(|| Instant::now() + UNHURRIED);
            if Instant::now() < until {
                return Ok(());
            }
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
            Command::Create { request, reply } => {
                let created = self.create(now, *request)?;
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

    fn create(&mut self, now: Timestamp, request: WatchRequest) -> Result<Result<Created, Refusal>, StoreError> {
        let id = watch_id(&request);
        let key = request.key().unwrap_or(id.as_str());
        if self.engine.watch_by_key(key).is_none()
            && let Some(first) = self.store.watch_by_key(key)?
            && let Some(first) = self.store.watch(&first)?
        {
            // Archived, by this batch at the latest.
            let same = same_or_taken(&first, &request).map_err(refusal);
            return Ok(same.map(|_| Created { watch: first, new: false }));
        }
        let created = self.engine.create(now, request).map_err(refusal);
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
        self.unhurried = None;
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
        let mut asks = BTreeMap::<NetworkId, Vec<Ask>>::new();
        for (network, ask) in changes.asks {
            asks.entry(network).or_default().push(ask);
        }
        for (network, asks) in asks {
            if let Some(net) = self.networks.get(&network) {
                net.mailbox.post(asks);
            }
        }
        for reply in self.replies.drain(..) {
            reply();
        }
        Ok(())
    }

    fn count(&self, changes: &Changes) {
        let watches: HashMap<_, _> = changes.watches.iter().map(|watch| (&watch.id, watch)).collect();
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

fn first_view(engine: &Engine, setup: &NetworkSetup) -> NetworkView {
    let network = setup.rules.network.clone();
    let head = engine.head(&network);
    NetworkView {
        aliases: setup.aliases.clone(),
        horizon: setup.rules.horizon,
        head: head.map(|header| header.block.clone()),
        head_time: head.map(|header| header.time),
        finality: engine.marks(&network).cloned().unwrap_or_default(),
        health: Health {
            state: HealthState::Syncing,
            tip: None,
            endpoints: Vec::new(),
            search: None,
            searched_from: 0,
        },
        network,
    }
}

fn refusal(refused: Refused) -> Refusal {
    match refused {
        Refused::Invalid { field, expected } => Refusal::Invalid { field: field.into(), expected },
        Refused::KeyTaken { first } => Refusal::KeyTaken { first },
        Refused::NotFound(watch) => Refusal::NotFound(watch),
        Refused::Settled(watch) => Refusal::Settled(watch),
        Refused::NotReady(network) => Refusal::Unavailable(format!("network {network} has no head yet")),
        Refused::Full { max } => Refusal::Full { max },
        Refused::Exhausted { watch, gap_limit } => Refusal::Exhausted { watch, gap_limit },
    }
}
