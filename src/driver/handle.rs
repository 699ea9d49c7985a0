//! What callers hold of the driver: commands, and what they see of the networks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use h402_watch_engine::changes::FinalityMarks;
use h402_watch_engine::descriptor::Derived;
use h402_watch_engine::id::{Address, BlockRef, NetworkId, Timestamp, WatchId};
use h402_watch_engine::request::WatchRequest;
use h402_watch_engine::watch::Watch;
use h402_watch_engine::{Named, Refused};
use tokio::sync::{mpsc, oneshot, watch};

use crate::chain::{AddressQuery, AddressReport, BadField, Family, Health, Mailbox};

/// How long an address query may take.
const QUERY_LIMIT: Duration = Duration::from_secs(30);

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

/// What callers hold of the driver.
#[derive(Clone)]
pub struct Handle {
    pub(super) inputs: mpsc::Sender<Command>,
    pub(super) networks: Arc<BTreeMap<NetworkId, NetworkSlot>>,
    pub(super) committed: watch::Receiver<u64>,
}

pub(super) struct NetworkSlot {
    pub(super) family: Family,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) view: watch::Receiver<NetworkView>,
}

pub(super) enum Command {
    Create { named: Box<Named>, reply: oneshot::Sender<Result<Created, Refusal>> },
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
        // Here, and not in the loop: it takes as long as the rest of what the loop does.
        let named = Box::new(Named::from(request));
        self.call(|reply| Command::Create { named, reply }).await
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

pub(super) fn refusal(refused: Refused) -> Refusal {
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
