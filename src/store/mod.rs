//! The store: watches, claims, events and cursors on disk, in one atomic commit a step.
//!
//! [`Tables`] is the narrow trait of an embedded engine: ordered tables of bytes, and one durable atomic batch.
//! [`Store`] is what the rest of the service uses; it alone knows which record stands in which table.

/// An ordered table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Format version, engine name, counters.
    Meta,
    /// Watches that the engine holds in memory, by id.
    Open,
    /// Watches that are past any reorg, by id.
    Archived,
    /// Claims, by network, transaction and index.
    Claims,
    /// The event log, by sequence.
    Events,
    /// Sequence of each artefact, by watch and index.
    Artefacts,
    /// Watch id by idempotency key.
    Keys,
    /// Headers, by network and height.
    Headers,
    /// Finality marks, by network.
    Finality,
}

/// A change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Set it.
    Put(Table, Vec<u8>, Vec<u8>),
    /// Remove it, if it is there.
    Delete(Table, Vec<u8>),
}

/// An embedded storage engine: ordered tables of bytes.
pub trait Tables: Send + Sync + 'static {
    /// Applies all of `writes`, or none, and returns once they are on the disk (fsync), not sooner.
    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError>;

    /// The record, if there is one.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Up to `limit` records from `from` (inclusive) up to `to` (exclusive; `None`: the end), in order of their keys.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError>;

    /// The record with the highest key, if there is one.
    fn last(&self, table: Table) -> Result<Option<(Vec<u8>, Vec<u8>)>, StoreError>;
}

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine or the disk said no.
    #[error("store: {action}")]
    Engine {
        /// What was being done.
        action: &'static str,
        /// What the engine said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A record can't be read back.
    #[error("store: a record of table {table:?} is damaged: {detail}")]
    Damaged {
        /// Its table.
        table: Table,
        /// What is wrong with it.
        detail: String,
    },
    /// The store was written by another version of h402-watch, or is no store of ours.
    #[error("store: format {found}, this version reads format {expected}")]
    Format {
        /// The version in the store.
        found: String,
        /// The one that is understood.
        expected: u32,
    },
}
