//! The store: watches, claims, events and cursors on disk, in one atomic commit a step.
//!
//! [`Tables`] is the narrow trait of an embedded engine: ordered tables of bytes, and one durable atomic batch.
//! [`Store`] is what the rest of the service uses; it alone knows which record stands in which table.

mod fjall;
mod records;
mod retention;
mod sled;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use h402_watch_engine::Snapshot;
use h402_watch_engine::changes::{Changes, Claim, ClaimKey, Event, EventKind};
use h402_watch_engine::id::{NetworkId, Timestamp, TxId, WatchId};
use h402_watch_engine::record::{Recorded, WatchRecord};
use h402_watch_engine::watch::Watch;
use serde::{Deserialize, Serialize};

use records::{Artefact, Counters, damaged, decode, encode, key, read_watch};

pub use retention::{Pruned, Retention};

/// The version of what is written to disk. A store of another version is refused.
pub const FORMAT_VERSION: u32 = 7;

/// An ordered table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Format version, engine name, counters.
    Meta,
    /// Watches that the engine holds in memory, by id.
    Open,
    /// Watches that are past any reorg, by id.
    Archived,
    /// When each archived watch was archived, by that time and id.
    ArchivedAt,
    /// Claims, by network, transaction and index.
    Claims,
    /// The event log, by sequence.
    Events,
    /// Where each artefact stands, by watch and index.
    Artefacts,
    /// Watch id by idempotency key.
    Keys,
    /// Headers, by network and height.
    Headers,
    /// Finality marks, by network.
    Finality,
    /// Which watches were looked up, by network.
    LookedUp,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 11] = [
        Self::Meta,
        Self::Open,
        Self::Archived,
        Self::ArchivedAt,
        Self::Claims,
        Self::Events,
        Self::Artefacts,
        Self::Keys,
        Self::Headers,
        Self::Finality,
        Self::LookedUp,
    ];

    /// Its name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Open => "open",
            Self::Archived => "archived",
            Self::ArchivedAt => "archived_at",
            Self::Claims => "claims",
            Self::Events => "events",
            Self::Artefacts => "artefacts",
            Self::Keys => "keys",
            Self::Headers => "headers",
            Self::Finality => "finality",
            Self::LookedUp => "looked_up",
        }
    }
}

/// A change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Set it.
    Put(Table, Vec<u8>, Vec<u8>),
    /// Remove it, if it is there.
    Delete(Table, Vec<u8>),
}

/// A key and its value.
pub type Record = (Vec<u8>, Vec<u8>);

/// An embedded storage engine: ordered tables of bytes. Keys are never empty.
pub trait Tables: Send + Sync + 'static {
    /// Applies all of `writes`, or none, and returns once they are on the disk (fsync), not sooner. No key occurs twice.
    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError>;

    /// The record, if there is one.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Up to `limit` records from `from` (inclusive) up to `to` (exclusive; `None`: the end), in order of their keys.
    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError>;
}

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine or the disk said no.
    #[error("store: could not {action}: {source}")]
    Engine {
        /// What was being done.
        action: &'static str,
        /// What the engine said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A record can't be read back.
    #[error("store: a record of table {} is damaged: {detail}", .table.name())]
    Damaged {
        /// Its table.
        table: Table,
        /// What is wrong with it.
        detail: String,
    },
    /// The store was written by another version of h402-watch, or with another engine.
    #[error("store: it holds {found}; this version reads {expected}")]
    Format {
        /// What the store holds.
        found: String,
        /// What is understood.
        expected: String,
    },
    /// A commit failed before: what is on disk is no longer known, so nothing more is written (invariant 3).
    #[error("store: a commit failed before, nothing more is written")]
    Poisoned,
    /// The events of a commit don't go on where the log ends (invariant 5).
    #[error("store: event {found} does not follow the log, which goes on with {expected}")]
    Gap {
        /// The sequence that was given.
        found: u64,
        /// The one that was due.
        expected: u64,
    },
}

/// Which embedded engine keeps the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreEngine {
    /// `fjall` 3.
    #[default]
    Fjall,
    /// `sled` 0.34, with a real fsync per commit.
    Sled,
}

impl StoreEngine {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fjall => "fjall",
            Self::Sled => "sled",
        }
    }
}

/// Records that a scan reads at a time.
const PAGE: usize = 4096;

/// Bytes of artefacts that one page of events holds: they fit into a message of gRPC, whose clients take 4 MiB by default.
pub const PAGE_BYTES_MAX: usize = 2 << 20;

/// Events that are read at a time while the bytes of a page are counted.
const PAGE_STEP: usize = 16;

/// Reads step by step, from the last event read on, until there are `limit` events or enough bytes.
fn within_bytes(
    limit: usize,
    mut read: impl FnMut(Option<&Event>, usize) -> Result<Vec<Event>, StoreError>,
) -> Result<Vec<Event>, StoreError> {
    let (mut events, mut bytes) = (Vec::new(), 0);
    while events.len() < limit {
        let count = PAGE_STEP.min(limit - events.len());
        let more = read(events.last(), count)?;
        let last = more.len() < count;
        for event in more {
            bytes += event.artefact.len();
            if bytes > PAGE_BYTES_MAX && !events.is_empty() {
                return Ok(events);
            }
            events.push(event);
        }
        if last {
            break;
        }
    }
    Ok(events)
}

/// All that survives a restart. Reads may come from any thread; [`Store::commit`] from one.
pub struct Store {
    tables: Box<dyn Tables>,
    counters: Mutex<Counters>,
    failed: AtomicBool,
    /// Held by each read, and by a commit until it is on the disk: nobody sees half of one, or one that may yet be lost
    /// (invariants 1 and 2).
    whole: RwLock<()>,
}

impl Store {
    /// Opens the store in a directory, or makes one there.
    ///
    /// # Errors
    /// If it is of another format or engine, held by another process, or can't be read.
    pub fn open(engine: StoreEngine, path: &Path) -> Result<Self, StoreError> {
        Self::over(open_tables(engine, path)?)
    }

    /// A store in tables that are open already; their format is checked.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn over(tables: Box<dyn Tables>) -> Result<Self, StoreError> {
        let counters = match tables.get(Table::Meta, key::FORMAT)? {
            Some(found) => {
                let found: u32 = decode(Table::Meta, &found)?;
                if found != FORMAT_VERSION {
                    let (found, expected) = (format!("format {found}"), format!("format {FORMAT_VERSION}"));
                    return Err(StoreError::Format { found, expected });
                }
                let counters = tables.get(Table::Meta, key::COUNTERS)?;
                let missing = || StoreError::Damaged { table: Table::Meta, detail: "no counters".into() };
                decode(Table::Meta, &counters.ok_or_else(missing)?)?
            }
            None if tables.scan(Table::Meta, &[], None, 1)?.is_empty() => {
                let counters = Counters::default();
                tables.commit(vec![
                    Write::Put(Table::Meta, key::FORMAT.to_vec(), encode(&FORMAT_VERSION)),
                    Write::Put(Table::Meta, key::COUNTERS.to_vec(), encode(&counters)),
                ])?;
                counters
            }
            None => {
                let (found, expected) = ("no format version".into(), format!("format {FORMAT_VERSION}"));
                return Err(StoreError::Format { found, expected });
            }
        };
        Ok(Self { tables, counters: Mutex::new(counters), failed: AtomicBool::new(false), whole: RwLock::new(()) })
    }

    /// Puts what a step changed on the disk: whole, and before it returns, or not at all (invariant 2).
    ///
    /// # Errors
    /// If it could not; from then on each commit fails (invariant 3).
    pub fn commit(&self, now: Timestamp, changes: &Changes) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut counters = self.counters().clone();
        let mut batch = Batch::default();
        for changed in &changes.watches {
            put_watch(&mut batch, &mut counters, now, changed);
        }
        for (claim_key, claim) in &changes.claims {
            let at = key::claim(claim_key);
            match claim {
                Some(claim) => batch.put(Table::Claims, at, encode(&(claim_key, claim))),
                None => batch.delete(Table::Claims, at),
            }
        }
        for event in &changes.events {
            if event.sequence != counters.next_sequence {
                let (found, expected) = (event.sequence, counters.next_sequence);
                return Err(StoreError::Gap { found, expected });
            }
            counters.next_sequence += 1;
            batch.put(Table::Events, key::sequence(event.sequence), encode(event));
            let artefact = Artefact::InLog(event.sequence);
            batch.put(Table::Artefacts, key::artefact(&event.watch, event.index), encode(&artefact));
        }
        for (network, height) in &changes.headers_removed {
            batch.delete(Table::Headers, key::header(network, *height));
        }
        for (network, header) in &changes.headers {
            batch.put(Table::Headers, key::header(network, header.block.height), encode(&(network, header)));
        }
        for (network, marks) in &changes.finality {
            batch.put(Table::Finality, network.as_str().into(), encode(&(network, marks)));
        }
        for (network, looked_up) in &changes.looked_up {
            batch.put(Table::LookedUp, network.as_str().into(), encode(&(network, looked_up)));
        }
        self.write(batch, counters)
    }

    fn write(&self, mut batch: Batch, counters: Counters) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Acquire) {
            return Err(StoreError::Poisoned);
        }
        batch.put(Table::Meta, key::COUNTERS.to_vec(), encode(&counters));
        let _whole = self.whole.write().unwrap_or_else(PoisonError::into_inner);
        self.tables.commit(batch.into_writes()).inspect_err(|_| self.failed.store(true, Ordering::Release))?;
        *self.counters() = counters;
        Ok(())
    }

    /// Keeps commits out while something is read. After one failed nothing is known to be on the disk any more.
    fn reading(&self) -> Result<RwLockReadGuard<'_, ()>, StoreError> {
        let whole = self.whole.read().unwrap_or_else(PoisonError::into_inner);
        if self.failed.load(Ordering::Acquire) { Err(StoreError::Poisoned) } else { Ok(whole) }
    }

    /// The watches that are not archived, oldest first.
    pub fn open_watches(&self) -> Result<Vec<WatchRecord>, StoreError> {
        let mut watches = Vec::new();
        self.for_each(Table::Open, |value| {
            let record = WatchRecord::from_bytes(value);
            let ordinal = record.ordinal().map_err(|error| damaged(Table::Open, &error))?;
            watches.push((ordinal, record));
            Ok(())
        })?;
        watches.sort_unstable_by_key(|(ordinal, _)| *ordinal);
        Ok(watches.into_iter().map(|(_, record)| record).collect())
    }

    /// All that the engine needs to go on, but for the watches and their claims.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot::default();
        let mut chains = BTreeMap::<NetworkId, Vec<_>>::new();
        self.for_each(Table::Headers, |value| {
            let (network, header) = decode(Table::Headers, &value)?;
            chains.entry(network).or_default().push(header);
            Ok(())
        })?;
        snapshot.chains = chains.into_iter().collect();
        self.for_each(Table::Finality, |value| {
            snapshot.finality.push(decode(Table::Finality, &value)?);
            Ok(())
        })?;
        self.for_each(Table::LookedUp, |value| {
            snapshot.looked_up.push(decode(Table::LookedUp, &value)?);
            Ok(())
        })?;
        let counters = self.counters();
        snapshot.next_sequence = counters.next_sequence;
        snapshot.next_ordinal = counters.next_ordinal;
        Ok(snapshot)
    }

    /// A watch, open or archived.
    pub fn watch(&self, id: &WatchId) -> Result<Option<Watch>, StoreError> {
        let _whole = self.reading()?;
        self.find_watch(id)
    }

    /// A watch and, once it has an outcome, its settlement, as of one commit.
    pub fn watch_with_settlement(&self, id: &WatchId) -> Result<Option<(Watch, Option<Event>)>, StoreError> {
        let _whole = self.reading()?;
        let Some(watch) = self.find_watch(id)? else { return Ok(None) };
        let mut settled = None;
        if watch.outcome.is_some() {
            let from = key::artefacts_of(id);
            for (_, value) in self.tables.scan(Table::Artefacts, &from, Some(&key::end_of(&from)), usize::MAX)? {
                let event = self.artefact(&value)?;
                settled = settled.or(event.filter(|event| event.kind == EventKind::Settled));
            }
        }
        Ok(Some((watch, settled)))
    }

    fn find_watch(&self, id: &WatchId) -> Result<Option<Watch>, StoreError> {
        for table in [Table::Open, Table::Archived] {
            if let Some(value) = self.tables.get(table, id.as_str().as_bytes())? {
                return read_watch(table, &WatchRecord::from_bytes(value)).map(Some);
            }
        }
        Ok(None)
    }

    /// Up to `limit` watches whose ids come after `after`, in order of their ids; only those that are not archived if
    /// `open_only`.
    pub fn watches(&self, after: Option<&WatchId>, limit: usize, open_only: bool) -> Result<Vec<Watch>, StoreError> {
        let _whole = self.reading()?;
        let from = after.map_or(Vec::new(), |id| key::after(id.as_str().as_bytes()));
        let tables: &[Table] = if open_only { &[Table::Open] } else { &[Table::Open, Table::Archived] };
        let mut found = BTreeMap::new();
        for &table in tables {
            for (id, value) in self.tables.scan(table, &from, None, limit)? {
                found.insert(id, read_watch(table, &WatchRecord::from_bytes(value))?);
            }
        }
        Ok(found.into_values().take(limit).collect())
    }

    /// The watch that an idempotency key names.
    pub fn watch_by_key(&self, idempotency_key: &str) -> Result<Option<WatchId>, StoreError> {
        let _whole = self.reading()?;
        let value = self.tables.get(Table::Keys, &key::idempotency(idempotency_key))?;
        value.map(|value| decode(Table::Keys, &value)).transpose()
    }

    /// The claims on the transfers of a transaction.
    pub fn claims_of(&self, network: &NetworkId, tx: &TxId) -> Result<Vec<(ClaimKey, Claim)>, StoreError> {
        let _whole = self.reading()?;
        let from = key::claims_of(network, tx);
        let to = key::end_of(&from);
        let records = self.tables.scan(Table::Claims, &from, Some(&to), usize::MAX)?;
        records.iter().map(|(_, value)| decode(Table::Claims, value)).collect()
    }

    /// Up to `limit` entries of the event log after a sequence. Those below [`Store::oldest_sequence`] are gone.
    pub fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let _whole = self.reading()?;
        let from = key::sequence(after.saturating_add(1));
        let records = self.tables.scan(Table::Events, &from, None, limit)?;
        records.iter().map(|(_, value)| decode(Table::Events, value)).collect()
    }

    /// The sequence of the oldest event that is kept; one more than the newest when none is.
    pub fn oldest_sequence(&self) -> u64 {
        self.counters().oldest_sequence
    }

    /// The sequence of the newest event; 0 before the first.
    pub fn newest_sequence(&self) -> u64 {
        self.counters().next_sequence - 1
    }

    /// The same for a reader who goes on: no more bytes than [`PAGE_BYTES_MAX`], but for a single event that is larger. None are
    /// left only where none are returned.
    pub fn page(&self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let _whole = self.reading()?;
        within_bytes(limit, |last, count| {
            let from = key::sequence(last.map_or(after, |event| event.sequence).saturating_add(1));
            let records = self.tables.scan(Table::Events, &from, None, count)?;
            records.iter().map(|(_, value)| decode(Table::Events, value)).collect()
        })
    }

    /// Up to `limit` artefacts of a watch, those with an index above `after`, in order; bounded in bytes as [`Store::page`].
    pub fn artefacts(&self, watch: &WatchId, after: u32, limit: usize) -> Result<Vec<Event>, StoreError> {
        let _whole = self.reading()?;
        let to = key::end_of(&key::artefacts_of(watch));
        within_bytes(limit, |last, count| {
            let from = key::artefact(watch, last.map_or(after, |event| event.index).saturating_add(1));
            let records = self.tables.scan(Table::Artefacts, &from, Some(&to), count)?;
            let artefacts = records.iter().map(|(_, value)| self.artefact(value));
            Ok(artefacts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        })
    }

    fn artefact(&self, value: &[u8]) -> Result<Option<Event>, StoreError> {
        let sequence = match decode(Table::Artefacts, value)? {
            Artefact::Moved(event) => return Ok(Some(event)),
            Artefact::InLog(sequence) => sequence,
        };
        match self.tables.get(Table::Events, &key::sequence(sequence))? {
            Some(event) => decode(Table::Events, &event).map(Some),
            None => Err(StoreError::Damaged { table: Table::Events, detail: format!("event {sequence} is missing") }),
        }
    }

    /// Walks the values of a whole table, page by page.
    fn for_each(
        &self,
        table: Table,
        mut each: impl FnMut(Vec<u8>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut next = Some(Vec::new());
        while let Some(from) = next {
            let page = self.tables.scan(table, &from, None, PAGE)?;
            next = page.last().filter(|_| page.len() == PAGE).map(|(last, _)| key::after(last));
            page.into_iter().try_for_each(|(_, value)| each(value))?;
        }
        Ok(())
    }

    fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens an engine's tables in a directory, or makes them there.
///
/// # Errors
/// As [`Store::open`], the format aside.
pub fn open_tables(engine: StoreEngine, path: &Path) -> Result<Box<dyn Tables>, StoreError> {
    refuse_other_engine(engine, path)?;
    Ok(match engine {
        StoreEngine::Fjall => Box::new(fjall::FjallTables::open(path)?),
        StoreEngine::Sled => Box::new(sled::SledTables::open(path)?),
    })
}

/// The writes of one commit; the last one to a key wins, and no key occurs twice.
#[derive(Default)]
struct Batch(BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>);

impl Batch {
    fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.0.insert((table, key), Some(value));
    }

    fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.0.insert((table, key), None);
    }

    fn into_writes(self) -> Vec<Write> {
        let write = |((table, key), value)| match value {
            Some(value) => Write::Put(table, key, value),
            None => Write::Delete(table, key),
        };
        self.0.into_iter().map(write).collect()
    }
}

fn put_watch(batch: &mut Batch, counters: &mut Counters, now: Timestamp, Recorded { watch, record }: &Recorded) {
    let id = watch.id.as_str().as_bytes();
    let record = record.as_bytes().to_vec();
    if watch.archived {
        batch.delete(Table::Open, id.into());
        batch.put(Table::Archived, id.into(), record);
        batch.put(Table::ArchivedAt, key::archived_at(now, &watch.id), Vec::new());
    } else {
        batch.put(Table::Open, id.into(), record);
    }
    if watch.ordinal >= counters.next_ordinal {
        counters.next_ordinal = watch.ordinal + 1;
        batch.put(Table::Keys, key::idempotency(watch.key()), encode(&watch.id));
    }
}

/// Each engine would make a new store beside the other's; a file that names the engine keeps them apart.
fn refuse_other_engine(engine: StoreEngine, path: &Path) -> Result<(), StoreError> {
    let failed = |action| move |source| StoreError::Engine { action, source: Box::new(source) };
    std::fs::create_dir_all(path).map_err(failed("make its directory"))?;
    let marker = path.join("engine");
    match std::fs::read_to_string(&marker) {
        Ok(found) if found.trim() == engine.as_str() => Ok(()),
        Ok(found) => Err(StoreError::Format {
            found: format!("a {} store", found.trim()),
            expected: format!("one of engine {}, as configured", engine.as_str()),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::write(&marker, format!("{}\n", engine.as_str())).map_err(failed("write its engine's name"))?;
            let synced = std::fs::File::open(&marker).and_then(|file| file.sync_all());
            synced.map_err(failed("write its engine's name"))
        }
        Err(error) => Err(failed("read its engine's name")(error)),
    }
}
