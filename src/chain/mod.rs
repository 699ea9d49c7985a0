//! Sources: one adapter per chain family, behind one trait.
//!
//! A source follows its network's chain block by block, matches each block against the open interests, and reports
//! facts; it decides nothing. The [`Mailbox`] holds what the driver wants of it, [`Report`]s are what it says back.

pub mod bitcoin;
mod endpoint;
pub mod evm;
mod mirror;
mod pool;
mod pulse;
mod query;
pub mod solana;
mod standing;
mod walk;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::ops::Bound;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use h402_watch_engine::changes::{Ask, FinalityMarks, Interest, LookUp};
use h402_watch_engine::descriptor::Derive;
use h402_watch_engine::id::{Address, AssetId, BlockRef, Header, NetworkId, SpendKey, Timestamp, TxId};
use h402_watch_engine::input::{Observation, Transfer, Verification};
use h402_watch_engine::request::{Expiry, Subject, Tag, WatchRequest};
use serde::Deserialize;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

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

/// Spells an interest in bytes.
pub type Binary = fn(&Interest) -> Option<Box<[u8]>>;

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
    /// What an interest is in the bytes of a block, where blocks are matched by bytes ([`Interests::binary`]).
    pub binary: Binary,
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

/// Address queries that may wait at once; the next one is refused (invariant 11).
const ADDRESS_QUERIES_MAX: usize = 256;

/// What the driver wants of one source: the open interests, and questions in the order they were asked.
///
/// Never blocks the driver: it holds at most one look-up per open watch and one location per orphaned transaction,
/// which the engine's own limits bound, and 256 address queries.
#[derive(Default)]
pub struct Mailbox {
    wants: RwLock<Wants>,
    wake: Notify,
}

/// What is open now.
#[derive(Default)]
pub struct Wants {
    /// What each block is matched against.
    pub interests: Interests,
    look_ups: VecDeque<LookUp>,
    locates: VecDeque<TxId>,
    queries: VecDeque<AddressQuery>,
    closed: bool,
}

/// The open interests, by what a block is matched with.
#[derive(Default, Debug)]
pub struct Interests {
    /// Transactions.
    pub txs: HashSet<TxId>,
    /// Recipients, and in which assets.
    pub recipients: HashMap<Address, HashSet<AssetId>>,
    /// Authorizations: contract, authorizer, nonce.
    pub authorizations: HashSet<(AssetId, Address, String)>,
    /// Spend keys.
    pub spends: BTreeSet<SpendKey>,
    /// Transactions, and what ends their validity.
    pub expiries: BTreeSet<(TxId, Expiry)>,
    /// How many recipients wait for each asset.
    pub assets: HashMap<AssetId, usize>,
    /// Whether what is reported of blocks is to carry inclusion proofs.
    pub proofs: bool,
    /// All of them by what they are in the bytes of a block ([`Family::binary`]).
    pub binary: HashMap<Box<[u8]>, Interest>,
    spell: Option<Binary>,
}

impl Interests {
    /// Whether a spend key that starts with `prefix` is open.
    pub fn spends_of(&self, prefix: &str) -> bool {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.spends.range::<str, _>(from).next().is_some_and(|key| key.as_str().starts_with(prefix))
    }

    fn open(&mut self, interest: Interest) {
        if let Some(bytes) = self.spell.and_then(|spell| spell(&interest)) {
            self.binary.insert(bytes, interest.clone());
        }
        match interest {
            Interest::Tx(tx) => {
                self.txs.insert(tx);
            }
            Interest::Recipient { asset, address } => {
                if self.recipients.entry(address).or_default().insert(asset.clone()) {
                    *self.assets.entry(asset).or_default() += 1;
                }
            }
            Interest::Authorization { asset, authorizer, nonce } => {
                self.authorizations.insert((asset, authorizer, nonce));
            }
            Interest::Spend(key) => {
                self.spends.insert(key);
            }
            Interest::Expiry { tx, expiry } => {
                self.expiries.insert((tx, expiry));
            }
            Interest::Proofs => self.proofs = true,
        }
    }

    fn close(&mut self, interest: Interest) {
        if let Some(bytes) = self.spell.and_then(|spell| spell(&interest)) {
            self.binary.remove(&bytes);
        }
        match interest {
            Interest::Tx(tx) => {
                self.txs.remove(&tx);
            }
            Interest::Recipient { asset, address } => self.close_recipient(&asset, &address),
            Interest::Authorization { asset, authorizer, nonce } => {
                self.authorizations.remove(&(asset, authorizer, nonce));
            }
            Interest::Spend(key) => {
                self.spends.remove(&key);
            }
            Interest::Expiry { tx, expiry } => {
                self.expiries.remove(&(tx, expiry));
            }
            Interest::Proofs => self.proofs = false,
        }
    }

    fn close_recipient(&mut self, asset: &AssetId, address: &Address) {
        let Some(assets) = self.recipients.get_mut(address) else { return };
        if !assets.remove(asset) {
            return;
        }
        if assets.is_empty() {
            self.recipients.remove(address);
        }
        if let Some(count) = self.assets.get_mut(asset) {
            *count -= 1;
            if *count == 0 {
                self.assets.remove(asset);
            }
        }
    }
}

impl Mailbox {
    /// One for the source of a network of this family.
    pub fn new(family: &Family) -> Self {
        let mailbox = Self::default();
        mailbox.write().interests.spell = Some(family.binary);
        mailbox
    }

    /// Does what the engine asks, in order, and wakes the source.
    pub fn post(&self, asks: impl IntoIterator<Item = Ask>) {
        let mut wants = self.write();
        for ask in asks {
            match ask {
                Ask::Open(interest) => wants.interests.open(interest),
                Ask::Close(interest) => wants.interests.close(interest),
                Ask::LookUp(look_up) => wants.look_ups.push_back(look_up),
                Ask::Locate { tx } => wants.locates.push_back(tx),
            }
        }
        drop(wants);
        self.wake.notify_one();
    }

    /// Asks about an address. Gives the query back when too many wait already.
    pub fn query(&self, query: AddressQuery) -> Result<(), AddressQuery> {
        let mut wants = self.write();
        if wants.closed || wants.queries.len() >= ADDRESS_QUERIES_MAX {
            return Err(query);
        }
        wants.queries.push_back(query);
        drop(wants);
        self.wake.notify_one();
        Ok(())
    }

    /// Nobody answers any more: whoever waits is told so.
    pub fn close(&self) {
        let mut wants = self.write();
        wants.closed = true;
        wants.queries.clear();
    }

    /// The open interests, to match one block with; not to be held across an await.
    pub fn interests(&self) -> RwLockReadGuard<'_, Wants> {
        self.wants.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether a look-up waits, one of the other questions.
    pub fn has_questions(&self) -> (bool, bool) {
        let wants = self.interests();
        (!wants.look_ups.is_empty(), !wants.locates.is_empty() || !wants.queries.is_empty())
    }

    /// Takes up to `max` look-ups, oldest first.
    pub fn take_look_ups(&self, max: usize) -> Vec<LookUp> {
        take(&mut self.write().look_ups, max)
    }

    /// Takes up to `max` transactions to locate, oldest first.
    pub fn take_locates(&self, max: usize) -> Vec<TxId> {
        take(&mut self.write().locates, max)
    }

    /// Takes up to `max` address queries, oldest first.
    pub fn take_queries(&self, max: usize) -> Vec<AddressQuery> {
        take(&mut self.write().queries, max)
    }

    /// Waits until something is posted. One that was posted since the last wait counts.
    pub async fn posted(&self) {
        self.wake.notified().await;
    }

    fn write(&self) -> RwLockWriteGuard<'_, Wants> {
        self.wants.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn take<T>(queue: &mut VecDeque<T>, max: usize) -> Vec<T> {
    let count = queue.len().min(max);
    queue.drain(..count).collect()
}
