//! The deciding part of h402-watch: a pure state machine, sans-IO.
//!
//! It is told commands, observations and the time, and returns [`changes::Changes`]; it has no clock, socket, task,
//! randomness or logging. The same inputs in the same order give the same bytes (invariant 4). The same code runs live
//! and after a restart: [`Engine::restore`] rebuilds what memory held from what was committed.
//!
//! # How a watch moves
//! Facts about a transaction that concerns a watch make it a *candidate* of that watch ([`watch::Candidate`]). A candidate
//! is in a mempool, in a block of the chain, or nowhere for now; each move is an event. After each move transfers are
//! claimed ([`claims`]), then the watch is judged ([`judge`]): the outcome follows from what its candidates are, how deep
//! their blocks lie, and who owns their transfers. Chain families differ in what they observe, not in how a watch moves.
//!
//! # Who gets a transfer
//! Of the watches that wait for it: first those whose terms ask for a mark, a memo or a reference, that its transaction
//! carries; then those for which it is the exact amount; then the oldest. A claim stays where it is, whoever comes later,
//! until its watch gives it back.
//!
//! # Time
//! A block counts towards a watch if the time it states is not after the deadline. A deadline is decided when the chain
//! is past it, or when the source says that it had nothing more to tell some time after it ([`input::Observation::Synced`]):
//! a silent node delays an outcome, and never makes one.
//!
//! A watch that is extended beyond its deadline ([`request::AtDeadline::Extend`]) ends when nothing of it is on its way any
//! more. On its way is what is claimed in a block that is too shallow; what is in a block in time, and was not told yet; and
//! what has left the chain until the source has said where it went, or the chain is so far on that it is gone for good. So
//! it does not matter in how many pieces a branch is told.

pub mod amount;
pub mod canonical;
pub mod changes;
pub mod claims;
mod create;
pub mod descriptor;
mod expiry;
pub mod heads;
pub mod id;
mod index;
pub mod input;
pub mod judge;
pub mod look_ups;
mod network;
pub mod numbers;
mod observe;
mod pages;
pub mod proof;
pub mod receipt;
pub mod record;
pub mod request;
pub mod rules;
mod settle;
mod shelf;
mod text;
mod timeouts;
pub mod watch;

pub use create::{Created, Named, same_or_taken, watch_id};
pub use observe::CANDIDATES_MAX;

use std::collections::{BTreeMap, BTreeSet};

use canonical::Json;
use changes::{Ask, Changes, Claim, ClaimKey, Event, EventKind, FinalityMarks, LookUp};
use claims::Ledger;
use id::{Header, NetworkId, Timestamp, TxId, WatchId};
use index::{Fingerprint, Index};
use judge::View;
use look_ups::LookedUp;
use network::{Network, Ordinal, interests_of};
use record::{Recorded, WatchRecord};
use request::WatchRequest;
use rules::{Limits, NetworkRules};
use shelf::Shelf;
use watch::Watch;

/// What was committed, to start from; the watches come after it ([`Engine::adopt_all`]).
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The headers of each network, lowest first.
    pub chains: Vec<(NetworkId, Vec<Header>)>,
    /// The finality marks of each network.
    pub finality: Vec<(NetworkId, FinalityMarks)>,
    /// Which watches of each network were looked up.
    pub looked_up: Vec<(NetworkId, LookedUp)>,
    /// The sequence of the next event, from 1.
    pub next_sequence: u64,
    /// The ordinal of the next watch.
    pub next_ordinal: u64,
}

/// Why what was committed can't be gone on from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A network with open watches is not configured any more.
    #[error("watch {watch} is open on network {network}, which is not configured")]
    UnknownNetwork {
        /// One of the watches.
        watch: WatchId,
        /// The network.
        network: NetworkId,
    },
}

/// Why a command was refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A field does not hold what it must.
    #[error("{field}: expected {expected}")]
    Invalid {
        /// The field's path in a watch request.
        field: &'static str,
        /// What it must hold.
        expected: String,
    },
    /// The idempotency key names a watch with other content.
    #[error("the idempotency key names watch {first}, which has other content")]
    KeyTaken {
        /// That watch.
        first: WatchId,
    },
    /// There is no such watch in memory.
    #[error("no open watch {0}")]
    NotFound(WatchId),
    /// The watch has its outcome.
    #[error("watch {0} is settled")]
    Settled(WatchId),
    /// The network's chain is not known yet; the same request may be tried again.
    #[error("network {0} has no head yet")]
    NotReady(NetworkId),
    /// No more watches fit.
    #[error("{max} watches are open, the configured maximum")]
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
}

/// An observation that contradicts what the engine knows; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The network is not configured.
    #[error("network {0} is not configured")]
    UnknownNetwork(NetworkId),
    /// Blocks that don't link.
    #[error(transparent)]
    Unlinked(#[from] heads::LinkError),
}

/// All watches that something may still happen to, and the chains that they wait for.
pub struct Engine {
    limits: Limits,
    networks: BTreeMap<NetworkId, Network>,
    watches: Shelf,
    /// The watches by their ids, and by the idempotency keys that are no ids.
    names: Index,
    ledger: Ledger,
    next_sequence: u64,
    next_ordinal: Ordinal,
    /// Watches to judge before the step ends, oldest first. A set, so that a watch that is queued twice, or for
    /// nothing, changes no order: an engine that was restored has fewer of those.
    queue: BTreeSet<Ordinal>,
    dirty: BTreeSet<Ordinal>,
    /// Transactions whose claims may not be needed in memory any more.
    forgettable: BTreeSet<(NetworkId, TxId)>,
    out: Changes,
}

impl Engine {
    /// Goes on from what was committed, or from nothing.
    pub fn restore(limits: Limits, rules: Vec<NetworkRules>, snapshot: Snapshot) -> Self {
        let mut chains: BTreeMap<_, _> = snapshot.chains.into_iter().collect();
        let mut finality: BTreeMap<_, _> = snapshot.finality.into_iter().collect();
        let mut looked_up: BTreeMap<_, _> = snapshot.looked_up.into_iter().collect();
        let mut networks = BTreeMap::new();
        for rules in rules {
            let name = rules.network.clone();
            let headers = chains.remove(&name).unwrap_or_default();
            let marks = finality.remove(&name).unwrap_or_default();
            let looked_up = looked_up.remove(&name).unwrap_or_default();
            networks.insert(name, Network::new(rules, headers, marks, looked_up));
        }
        Self {
            limits,
            networks,
            watches: Shelf::default(),
            names: Index::default(),
            ledger: Ledger::default(),
            next_sequence: snapshot.next_sequence.max(1),
            next_ordinal: snapshot.next_ordinal,
            queue: BTreeSet::new(),
            dirty: BTreeSet::new(),
            forgettable: BTreeSet::new(),
            out: Changes::default(),
        }
    }

    /// What changed since the last call, to be committed at once and whole.
    pub fn drain(&mut self) -> Changes {
        let mut changes = std::mem::take(&mut self.out);
        let dirty = std::mem::take(&mut self.dirty);
        changes.watches.extend(self.watches.rest(&dirty));
        changes.claims = self.ledger.drain();
        for (network, tx) in std::mem::take(&mut self.forgettable) {
            let unused = self.networks.get(&network).is_none_or(|net| net.watching_tx(&tx).is_empty());
            if unused {
                self.ledger.forget(&network, &tx);
            }
        }
        // It goes along, and is nothing to commit for: what is lost of it is found out again.
        if !changes.is_empty() {
            for (network, net) in &mut self.networks {
                let looked_up = net.look_ups.drain(self.next_ordinal);
                changes.looked_up.extend(looked_up.map(|looked_up| (network.clone(), looked_up)));
            }
        }
        changes
    }

    /// A watch in memory.
    pub fn watch(&self, id: &WatchId) -> Option<&Watch> {
        self.watches.get(&self.ordinal_of(id)?)
    }

    /// The watch in memory that an idempotency key names.
    pub fn watch_by_key(&self, key: &str) -> Option<&Watch> {
        let named = self.names.at(of_key(key)).chain(self.names.at(of_id(key)));
        named.filter_map(|ordinal| self.watches.get(&ordinal)).find(|watch| watch.key() == key)
    }

    fn ordinal_of(&self, id: &WatchId) -> Option<Ordinal> {
        self.names.at(of_id(id.as_str())).next()
    }

    /// How many watches are in memory.
    pub fn watches_len(&self) -> usize {
        self.watches.len()
    }

    /// How many entries the engine keeps beside the watches and the chains: nothing once all watches have left memory and
    /// the chains have moved on (invariant 11).
    pub fn index_len(&self) -> usize {
        let networks: usize = self.networks.values().map(Network::index_len).sum();
        self.names.len() + self.watches.shared_len() + self.ledger.len() + networks
    }

    /// The head of a network.
    pub fn head(&self, network: &NetworkId) -> Option<&Header> {
        self.networks.get(network)?.heads.head()
    }

    /// The finality marks of a network.
    pub fn marks(&self, network: &NetworkId) -> Option<&FinalityMarks> {
        self.networks.get(network).map(|net| &net.marks)
    }

    /// Takes in the watches that were committed and are not archived, oldest first. In several parts, one after the other, if what
    /// the sources are to be asked for all of them ([`Engine::drain`]) would be too much at once. Returns the transactions that are
    /// candidates of theirs; nothing else may happen until all watches are there, and the claims on those ([`Engine::learn`]).
    ///
    /// # Errors
    /// If one is on a network that is not configured.
    pub fn adopt_all(
        &mut self,
        watches: impl IntoIterator<Item = Recorded>,
    ) -> Result<BTreeSet<(NetworkId, TxId)>, RestoreError> {
        let mut txs = BTreeSet::new();
        for Recorded { watch, record } in watches {
            let network = watch.request.network.clone();
            if !self.networks.contains_key(&network) {
                return Err(RestoreError::UnknownNetwork { watch: watch.id, network });
            }
            txs.extend(watch.candidates.iter().map(|candidate| (network.clone(), candidate.fact.tx.clone())));
            self.adopt(watch, Some(&record));
        }
        Ok(txs)
    }

    /// Takes in claims that were committed. Of a transfer whose claim is known here, that one is newer, and stays.
    pub fn learn(&mut self, claims: impl IntoIterator<Item = (ClaimKey, Claim)>) {
        for (key, claim) in claims {
            self.ledger.learn(key, claim);
        }
    }

    /// Takes in a watch of a network that there is: one that was just made, or one that was committed before, and its record.
    fn adopt(&mut self, mut watch: Watch, record: Option<&WatchRecord>) {
        let (ordinal, network) = (watch.ordinal, watch.request.network.clone());
        let Some(net) = self.networks.get_mut(&network) else { return };
        let mut asks: Vec<_> = interests_of(&watch).into_iter().filter_map(|it| net.open(it, ordinal)).collect();
        for candidate in &watch.candidates {
            net.add_candidate(&candidate.fact.tx, ordinal, watch.is_one_shot());
            // A block that is no longer kept can't leave the chain, nor take its entry along.
            if let Some(block) = candidate.block().filter(|block| net.heads.at(block.height).is_some()) {
                net.by_height.entry(block.height).or_default().insert(ordinal);
            }
            let pending = candidate.placed && candidate.block().is_none() && watch.outcome.is_none();
            if pending || (candidate.orphaned_from.is_some() && !candidate.placed) {
                asks.push(Ask::Locate { tx: candidate.fact.tx.clone() });
            }
        }
        let is_open = watch.outcome.is_none();
        if is_open && !watch.extended {
            net.deadlines.insert((watch.request.terms.deadline, ordinal));
        }
        if let Some(until) = watch.late_until {
            net.late_windows.insert((until, ordinal));
        }
        // None of those that were just made was.
        if !net.look_ups.was_answered(ordinal) {
            net.look_ups.begin(ordinal);
            if let Some(window) = &mut watch.window {
                // Which part of it was answered before a restart is not known.
                window.ask_anew();
            }
            asks.push(Ask::LookUp(look_up(&mut watch, net)));
        }
        self.out.asks.extend(asks.into_iter().map(|ask| (network.clone(), ask)));
        self.names.insert(of_id(watch.id.as_str()), ordinal);
        if watch.key() != watch.id.as_str() {
            self.names.insert(of_key(watch.key()), ordinal);
        }
        net.schedule(&watch);
        if is_open {
            // The block that voids its authorization may be known already, and wait for its depth only.
            net.wait_for_expiry(&watch);
        }
        match record {
            // A look-up under way has altered its window.
            Some(record) if watch.window.is_none() => self.watches.insert_at_rest(ordinal, record),
            _ => self.watches.insert(watch),
        }
    }

    /// Notes when a watch has to be judged again.
    fn schedule(&mut self, ordinal: Ordinal) {
        let Some(watch) = self.watches.get(&ordinal) else { return };
        if let Some(net) = self.networks.get_mut(&watch.request.network) {
            net.schedule(watch);
        }
    }

    fn view<'a>(&'a self, net: &'a Network) -> View<'a> {
        View {
            network: &net.rules.network,
            heads: &net.heads,
            marks: &net.marks,
            look_ups: &net.look_ups,
            ledger: &self.ledger,
            horizon: u64::from(net.rules.horizon),
            proof_age_max_ms: self.limits.proof_age_max_ms,
        }
    }

    /// The view of a watch's own network.
    fn view_of(&self, watch: &Watch) -> Option<View<'_>> {
        self.networks.get(&watch.request.network).map(|net| self.view(net))
    }

    /// Puts an artefact into the log.
    fn emit(&mut self, now: Timestamp, ordinal: Ordinal, kind: EventKind, artefact: &Json) {
        let Some(watch) = self.watches.get_mut(&ordinal) else { return };
        let artefact = artefact.to_canonical().into_bytes();
        let receipt_hash = canonical::digest(&artefact);
        watch.artefacts += 1;
        watch.last_hash = Some(receipt_hash);
        self.out.events.push(Event {
            sequence: self.next_sequence,
            watch: watch.id.clone(),
            network: watch.request.network.clone(),
            index: watch.artefacts,
            kind,
            observed_at: now,
            artefact,
            receipt_hash,
            signature: String::new(),
        });
        self.next_sequence += 1;
        self.dirty.insert(ordinal);
    }

    fn ask(&mut self, network: &NetworkId, ask: Ask) {
        self.out.asks.push((network.clone(), ask));
    }
}

impl WatchRequest {
    /// The idempotency key that the request carries: its own, or the quote hash.
    pub fn key(&self) -> Option<&str> {
        self.idempotency_key.as_deref().or(self.binding.quote_hash.as_deref())
    }
}

fn of_id(id: &str) -> Fingerprint {
    Fingerprint::of(0, &[id])
}

fn of_key(key: &str) -> Fingerprint {
    Fingerprint::of(1, &[key])
}

/// What has to be looked up for a watch: for an address, everything that may count; for a descriptor, also what shows that
/// an address is used, from the height on that the client names.
fn look_up(watch: &mut Watch, net: &Network) -> LookUp {
    let pay_to = watch.take_unasked();
    let terms = &watch.request.terms;
    let counts_new = terms.not_before.is_none() || watch.is_one_shot();
    let above_creation = watch.created_height.filter(|_| counts_new).map(|height| height + 1);
    // A head of that time that is no longer kept lies below all that can be searched.
    let created_under = watch.created_height.and_then(|height| net.heads.at(height));
    let since_creation = created_under.map_or(Timestamp(0), |header| header.time);
    LookUp {
        watch: watch.id.clone(),
        subject: watch.request.subject.clone(),
        pay_to,
        asset: terms.asset.clone(),
        since: Some(match (terms.not_before, terms.from_height) {
            (_, Some(_)) if watch.window.is_some() => Timestamp(0),
            (Some(not_before), _) => not_before,
            (None, Some(_)) => Timestamp(0),
            (None, None) => since_creation,
        }),
        from_height: terms.from_height.or(above_creation),
    }
}
