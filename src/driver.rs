//! The one loop and the one writer: inputs → engine → commit → act.

use std::collections::BTreeMap;
use std::sync::Arc;

use h402_watch_engine::changes::FinalityMarks;
use h402_watch_engine::id::{Address, AssetId, BlockRef, NetworkId, Timestamp, WatchId};
use h402_watch_engine::request::{Tag, WatchRequest};
use h402_watch_engine::watch::Watch;
use tokio::sync::{mpsc, oneshot, watch};

use crate::chain::{AddressReport, Health, Mailbox};

/// What clients see of one network.
#[derive(Clone, Debug)]
pub struct NetworkView {
    /// Its name, CAIP-2.
    pub network: NetworkId,
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
        /// The field, as it is named in the proto file: `terms.amount`.
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
    /// Too many requests wait, or the service is stopping; the same request may be tried again.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

/// Checks and respells the chain-specific texts of a request (addresses, ids) in place; fails naming the field.
/// One per configured network, given by the chain family.
pub type Normalise = fn(&mut WatchRequest) -> Result<(), Refusal>;

/// What callers hold of the driver.
#[derive(Clone)]
pub struct Handle {
    inputs: mpsc::Sender<Command>,
    networks: Arc<BTreeMap<NetworkId, NetworkSlot>>,
    committed: watch::Receiver<u64>,
}

struct NetworkSlot {
    normalise: Normalise,
    mailbox: Arc<Mailbox>,
    view: watch::Receiver<NetworkView>,
    tags: Vec<Tag>,
}

enum Command {
    Create { request: Box<WatchRequest>, reply: oneshot::Sender<Result<Created, Refusal>> },
    Cancel { watch: WatchId, reply: oneshot::Sender<Result<Watch, Refusal>> },
}

impl Handle {
    /// Makes the watch, or finds the one that the same request made before. Returns after it is on the disk.
    pub async fn create(&self, request: WatchRequest) -> Result<Created, Refusal> {
        self.call(|reply| Command::Create { request: Box::new(request), reply }).await
    }

    /// Ends a watch with `failed(cancelled)`. Returns after that is on the disk.
    pub async fn cancel(&self, watch: WatchId) -> Result<Watch, Refusal> {
        self.call(|reply| Command::Cancel { watch, reply }).await
    }

    /// The sequence of the newest committed event; changes wake the receiver.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.committed.clone()
    }

    /// The configured networks, in order of their names.
    pub fn networks(&self) -> Vec<NetworkView> {
        self.networks.values().map(|slot| slot.view.borrow().clone()).collect()
    }

    /// What an address has received in the blocks that the network's source holds.
    pub async fn check_address(
        &self,
        network: &NetworkId,
        address: Address,
        asset: AssetId,
        since: Option<Timestamp>,
    ) -> Result<AddressReport, Refusal> {
        Err(Refusal::Unavailable(format!("{network} {address} {asset} {since:?}")))
    }

    async fn call<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Command,
    ) -> Result<T, Refusal> {
        let gone = || Refusal::Unavailable("the service is stopping".into());
        let (reply, answer) = oneshot::channel();
        self.inputs.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
