//! The driver at a start: it goes on from what the store holds.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};

use h402_watch_engine::Engine;
use h402_watch_engine::changes::Changes;
use h402_watch_engine::id::NetworkId;
use h402_watch_engine::record::{NoWatch, Recorded, WatchRecord};
use h402_watch_engine::rules::{Limits, NetworkRules};
use tokio::sync::watch;

use super::handle::NetworkSlot;
use super::{BATCH_MAX, Driver, DriverError, DriverNetwork, Handle, Keep, NetworkView, REPORTS_MAX, post};
use crate::chain::{Family, Health, HealthState, Mailbox, Report, Start};
use crate::clock::Clock;
use crate::metrics::DriverMetrics;
use crate::sign::Signer;
use crate::store::Store;

/// Watches that are taken in at once at a start: what the sources are asked for all of them takes more room than they do.
const RESTORE_BATCH: usize = 4096;

/// Batches of those that are read before they are taken in, and of questions that wait to be asked.
const RESTORE_AHEAD: usize = 4;

/// One network, as the driver is given it.
pub struct NetworkSetup {
    /// What the engine goes by.
    pub rules: NetworkRules,
    /// Other names that it answers to.
    pub aliases: Vec<String>,
    /// How its identifiers are spelled.
    pub family: Family,
}

/// A driver that is ready to run, and what the others hold of it.
pub struct Ready {
    /// The loop.
    pub driver: Driver,
    /// For callers.
    pub handle: Handle,
    /// For sources.
    pub reports: tokio::sync::mpsc::Sender<(NetworkId, Report)>,
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
        let snapshot = store.snapshot()?;
        let open = store.open_watches()?;
        let chains: BTreeMap<_, _> = snapshot.chains.iter().cloned().collect();
        let rules = setups.iter().map(|setup| setup.rules.clone()).collect();
        let engine = Engine::restore(limits, rules, snapshot);
        let (inputs, commands) = tokio::sync::mpsc::channel(BATCH_MAX);
        let (report_sender, reports) = tokio::sync::mpsc::channel(REPORTS_MAX);
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
        };
        driver.adopt(open)?;
        driver.count(&Changes::default());
        Ok(Ready { driver, handle, reports: report_sender, sources })
    }

    /// Takes in the watches that were open, and asks the sources what they have to be asked for them. A million are read, taken
    /// in and asked for side by side: each of the three takes seconds.
    fn adopt(&mut self, records: Vec<WatchRecord>) -> Result<(), DriverError> {
        let Self { engine, store, networks, .. } = self;
        std::thread::scope(|scope| {
            let (to_read, read) = mpsc::sync_channel(RESTORE_AHEAD);
            scope.spawn(move || {
                let mut records = records.into_iter().peekable();
                while records.peek().is_some() {
                    let batch: Result<Vec<_>, NoWatch> =
                        records.by_ref().take(RESTORE_BATCH).map(Recorded::read).collect();
                    // Nobody listens after an error.
                    if to_read.send(batch).is_err() {
                        break;
                    }
                }
            });
            let (to_ask, asked) = mpsc::sync_channel(RESTORE_AHEAD);
            scope.spawn(move || asked.iter().for_each(|asks| post(networks, asks)));
            for batch in read {
                for (network, tx) in engine.adopt_all(batch?)? {
                    engine.learn(store.claims_of(&network, &tx)?);
                }
                let changes = engine.drain();
                debug_assert!(changes.is_empty(), "what was committed is taken in as it is");
                // The other thread takes all that comes.
                let _ = to_ask.send(changes.asks);
            }
            Ok(())
        })
    }
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
