//! Sources: one adapter per chain family, behind one trait.
//!
//! A source follows its network's chain block by block, matches each block against the open interests, and reports
//! facts; it decides nothing. The [`Mailbox`] holds what the driver wants of it, [`Report`]s are what it says back.

pub mod bitcoin;
mod endpoint;
pub mod evm;
mod interests;
mod look_ups;
mod mailbox;
mod mirror;
mod packed;
mod pool;
mod pulse;
mod query;
pub mod solana;
mod standing;
mod walk;

use std::convert::Infallible;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use h402_watch_engine::changes::FinalityMarks;
use h402_watch_engine::descriptor::Derive;
use h402_watch_engine::id::{Address, AssetId, BlockRef, Header, NetworkId, Timestamp, TxId};
use h402_watch_engine::input::{Observation, Transfer, Verification};
use h402_watch_engine::request::{Expiry, Subject, Tag, WatchRequest};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

pub use interests::{End, Expiries, Interests, Key, Recipients, Spell, Spends, Txs};
pub use mailbox::{Mailbox, Wants};
pub use packed::Packed;

/// A network's adapter.
pub trait Source: Send + 'static {
    /// Follows the network until `shutdown`, from where the engine stands.
    ///
    /// Each report is sent in the order it was observed; a full channel is waited for. Endpoint failures are the source's
    /// own business: it retries, fails over and says how it fares with [`Report::Health`]. It returns at shutdown, or
    /// when nobody takes its reports any more.
    fn run(
        self: Box<Self>,
        start: Start,
        mailbox: Arc<Mailbox>,
        reports: Reporter,
        shutdown: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// A source's life: it follows until shutdown, whatever it is about then, or until nobody takes its reports any more, which is
/// the same; then nobody answers what waits in its mailbox.
fn until_stopped(
    mailbox: Arc<Mailbox>,
    shutdown: CancellationToken,
    follows: impl Future<Output = Result<Infallible, Stopping>> + Send + 'static,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            _ = follows => {}
        }
        mailbox.close();
    })
}

/// A field of a request that its chain has no meaning for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadField {
    /// Its path in a watch request: `terms.pay_to`.
    pub field: String,
    /// What it must hold.
    pub expected: String,
}

/// What the engine and the API have to know of a chain family. Its functions on texts check one and give its canonical
/// spelling, or say what is expected.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The identifiers of a whole request, in place.
    pub request: fn(&mut WatchRequest) -> Result<(), BadField>,
    /// An address.
    pub address: fn(&str) -> Result<Address, String>,
    /// An asset.
    pub asset: fn(&str) -> Result<AssetId, String>,
    /// An interest in the bytes of its chain's blocks.
    pub spell: Spell,
    /// Whether its source can search below the headers that are kept.
    pub searches_below: bool,
    /// The finality tags that its chains may know.
    pub tags: &'static [Tag],
    /// How its descriptors derive addresses, if it has descriptors. `request` spells a descriptor, and repeats it in
    /// `terms.pay_to`.
    pub derive: Option<Derive>,
}

/// For families without memos, without references, and whose transactions don't expire: a request must not ask for one.
///
/// # Errors
/// Names the field that does.
pub fn without_marks(request: &WatchRequest, family: &str) -> Result<(), BadField> {
    let nothing =
        |field: &str, why: &str| BadField { field: field.into(), expected: format!("nothing: {family} {why}") };
    if request.terms.memo.is_some() {
        return Err(nothing("terms.memo", "payments carry no memo"));
    }
    if !request.terms.references.is_empty() {
        return Err(nothing("terms.references", "payments name nobody whom they don't pay"));
    }
    match &request.subject {
        Subject::Transaction { expiry: Some(Expiry::Height(_)), .. } => {
            Err(nothing("transaction.last_valid_height", "transactions don't expire"))
        }
        Subject::Transaction { expiry: Some(Expiry::Nonce { .. }), .. } => {
            Err(nothing("transaction.nonce_account", "transactions don't expire"))
        }
        _ => Ok(()),
    }
}

/// Where the requests to an endpoint go, and in which protocol. A URL may hold a secret.
#[derive(Clone)]
pub enum Access {
    /// JSON-RPC over HTTP: `http://` or `https://`.
    Http(String),
    /// The Electrum protocol: `tcp://host:port` or `ssl://host:port`.
    Electrum(String),
}

impl Access {
    /// The URL, of whichever protocol.
    pub fn url(&self) -> &str {
        match self {
            Self::Http(url) | Self::Electrum(url) => url,
        }
    }
}

/// One URL of a network.
#[derive(Clone)]
pub struct EndpointSettings {
    /// Its name in logs and health reports.
    pub name: String,
    /// Where requests go.
    pub access: Access,
    /// Where new heads are announced over WebSocket, if it does that. May hold a secret.
    pub ws_url: Option<String>,
    /// Where blocks and transactions are announced over ZeroMQ.
    pub zmq_urls: Vec<String>,
    /// The file that holds `user:password` for it, read anew for each request: the node writes another one at each start.
    pub cookie_file: Option<PathBuf>,
    /// The most requests that are sent in a second; more of them wait.
    pub requests_per_second: u32,
}

/// How payments that a contract makes in the native coin are found; they leave no log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InternalTransfers {
    /// By trace, where an endpoint offers it.
    #[default]
    Auto,
    /// By trace, and not at all without.
    Trace,
    /// From the difference of balances of watched addresses, in turn.
    Balance,
    /// Not at all.
    Off,
}

/// What a source is made from.
#[derive(Clone)]
pub struct Settings {
    /// The network.
    pub network: NetworkId,
    /// The time between two blocks.
    pub block_time: Duration,
    /// How often the tip is asked for, when nothing announces it.
    pub poll_interval: Duration,
    /// How many headers the engine keeps.
    pub horizon: u32,
    /// How far below the tip the very first start begins, blocks.
    pub look_back: u32,
    /// The tags that the network knows.
    pub tags: Vec<Tag>,
    /// How contract payments in the native coin are found.
    pub internal_transfers: InternalTransfers,
    /// How many endpoints must have a block before it counts.
    pub quorum: usize,
    /// Whether what can be recomputed from a block's header is.
    pub recompute: bool,
    /// Its endpoints, the preferred one first.
    pub endpoints: Vec<EndpointSettings>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// The source of a network, and how that spells its identifiers. The one place that tells chain families apart.
///
/// # Errors
/// If no family has such a network, or it has no use for a setting; says which, and what is expected.
pub fn source(settings: Settings) -> Result<(Box<dyn Source>, Family), BadField> {
    let bad = |field: &str, expected: String| BadField { field: field.to_owned(), expected };
    let name = settings.network.clone();
    let electrum = settings.endpoints.iter().any(|endpoint| matches!(endpoint.access, Access::Electrum(_)));
    match name.as_str().split_once(':') {
        Some(("eip155", chain_id)) => {
            let chain_id = chain_id.parse().map_err(|_| bad("id", "eip155:<chain id in decimal>".into()))?;
            if electrum {
                return Err(bad("endpoint.electrum_url", "nothing: EVM nodes are asked over http_url".into()));
            }
            if settings.endpoints.iter().any(|endpoint| !endpoint.zmq_urls.is_empty()) {
                return Err(bad("endpoint.zmq_urls", "nothing: EVM nodes announce over ws_url".into()));
            }
            Ok((Box::new(evm::EvmSource::new(chain_id, settings)), evm::FAMILY))
        }
        Some((bitcoin::NAMESPACE, reference)) => {
            let network = bitcoin::network(reference).map_err(|expected| bad("id", expected))?;
            if settings.endpoints.iter().any(|endpoint| endpoint.ws_url.is_some()) {
                return Err(bad("endpoint.ws_url", "nothing: Bitcoin nodes announce over zmq_urls".into()));
            }
            // The configuration has seen to it that all endpoints are of one kind.
            let source: Box<dyn Source> = if electrum {
                Box::new(bitcoin::ElectrumSource::new(network, settings))
            } else {
                Box::new(bitcoin::BitcoinSource::new(network, settings))
            };
            Ok((source, bitcoin::family(network)))
        }
        Some((solana::NAMESPACE, reference)) => {
            solana::check_reference(reference).map_err(|expected| bad("id", expected))?;
            if electrum {
                return Err(bad("endpoint.electrum_url", "nothing: Solana nodes are asked over http_url".into()));
            }
            if settings.endpoints.iter().any(|endpoint| !endpoint.zmq_urls.is_empty()) {
                return Err(bad("endpoint.zmq_urls", "nothing: Solana nodes announce over ws_url".into()));
            }
            Ok((Box::new(solana::SolanaSource::new(settings)), solana::FAMILY))
        }
        _ => Err(bad("id", format!("a CAIP-2 name in the namespace eip155, bip122 or solana, not {name}"))),
    }
}

/// What the engine holds of a network when its source starts.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The chain, lowest header first, linked; empty on the very first start.
    pub headers: Vec<Header>,
    /// What the chain said of its own finality.
    pub finality: FinalityMarks,
}

/// Where a source's reports go.
#[derive(Clone, Debug)]
pub struct Reporter {
    network: NetworkId,
    sender: mpsc::Sender<(NetworkId, Report)>,
}

/// Nobody takes reports any more: the service is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the service is stopping")]
pub struct Stopping;

impl Reporter {
    /// Reports of one network, into a channel that all share.
    pub fn new(network: NetworkId, sender: mpsc::Sender<(NetworkId, Report)>) -> Self {
        Self { network, sender }
    }

    /// Reports a fact; waits while the channel is full.
    ///
    /// # Errors
    /// When the service is stopping.
    pub async fn observe(&self, observation: Observation) -> Result<(), Stopping> {
        self.send(Report::Observation(observation)).await
    }

    /// Reports how the source fares; waits while the channel is full.
    ///
    /// # Errors
    /// When the service is stopping.
    pub async fn health(&self, health: Health) -> Result<(), Stopping> {
        self.send(Report::Health(health)).await
    }

    async fn send(&self, report: Report) -> Result<(), Stopping> {
        self.sender.send((self.network.clone(), report)).await.map_err(|_| Stopping)
    }
}

/// What a source says.
#[derive(Debug)]
pub enum Report {
    /// A fact for the engine.
    Observation(Observation),
    /// How the source fares; replaces the report before it.
    Health(Health),
}

/// How a source fares.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Whether outcomes can be drawn.
    pub state: HealthState,
    /// The highest block that an endpoint claims, if any answered.
    pub tip: Option<BlockRef>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointHealth>,
    /// The search of blocks below those that are kept, while there is one.
    pub search: Option<Search>,
    /// The lowest block that can be searched; 0: all can.
    pub searched_from: u64,
}

/// A search of blocks that are long gone by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// The height that it began at.
    pub from: u64,
    /// The height that it has come to; it ends at the head.
    pub next: u64,
    /// How many watches wait for it.
    pub watches: usize,
}

/// Whether outcomes can be drawn on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// Not connected yet, or catching up.
    Syncing,
    /// Head and tip agree.
    Following,
    /// No endpoint answers, or they disagree. Outcomes wait.
    Degraded(String),
    /// The chain contradicts what was final. Outcomes wait for the chain to come back, or for the operator.
    Halted(String),
}

/// How one endpoint fares.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointHealth {
    /// Its name in the configuration; never its URL, which may hold a secret.
    pub name: String,
    /// Whether it is used.
    pub up: bool,
    /// What is wrong, if anything.
    pub detail: String,
    /// The block it claims as its tip.
    pub tip: Option<BlockRef>,
    /// Requests sent, and those that failed.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
}

/// A question that an API caller has about an address, watched or not.
#[derive(Debug)]
pub struct AddressQuery {
    /// Who is paid.
    pub address: Address,
    /// In what.
    pub asset: AssetId,
    /// Blocks that state an earlier time are left out; bounded by the blocks that the source holds.
    pub since: Option<Timestamp>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<AddressReport, String>>,
}

/// What an address has received.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressReport {
    /// The head that this was seen under.
    pub head: BlockRef,
    /// The lowest block that was searched.
    pub searched_from: BlockRef,
    /// What was found, oldest first.
    pub transfers: Vec<Received>,
}

/// A transfer in the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// Its transaction.
    pub tx: TxId,
    /// Its block.
    pub block: BlockRef,
    /// The time that the block states.
    pub time: Timestamp,
    /// The movement itself.
    pub transfer: Transfer,
    /// How much of it was checked.
    pub verification: Verification,
}
