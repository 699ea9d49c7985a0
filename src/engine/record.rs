//! A watch at rest: its bytes, as they stand in the store, and in memory while nothing happens to it.

use crate::network::Ordinal;
use crate::watch::Watch;

/// The bytes of a watch. They begin with its ordinal, its network and its asset: the first is known where records are kept in their
/// order, and the other two most watches share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRecord(Vec<u8>);

/// Bytes that are no watch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no watch: {0}")]
pub struct NoWatch(postcard::Error);

impl WatchRecord {
    /// Of a watch.
    pub fn of(watch: &Watch) -> Self {
        Self(postcard::to_stdvec(watch).expect("a watch has a length that is known before it is written"))
    }

    /// From bytes that were stored; they are looked at when the watch is read.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// What is to be stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The watch.
    ///
    /// # Errors
    /// If these are not the bytes of one.
    pub fn read(&self) -> Result<Watch, NoWatch> {
        postcard::from_bytes(&self.0).map_err(NoWatch)
    }

    /// The watch's place in the order of creation, without a look at the rest.
    ///
    /// # Errors
    /// If these are not the bytes of a watch.
    pub fn ordinal(&self) -> Result<Ordinal, NoWatch> {
        postcard::take_from_bytes(&self.0).map(|(ordinal, _)| ordinal).map_err(NoWatch)
    }

    /// What follows the ordinal: what it shares with many, and what is its own.
    pub(crate) fn parts(&self) -> Result<(&[u8], &[u8]), NoWatch> {
        let (_, after): (Ordinal, _) = postcard::take_from_bytes(&self.0).map_err(NoWatch)?;
        let (_, own): ((&[u8], &[u8]), _) = postcard::take_from_bytes(after).map_err(NoWatch)?;
        Ok((&after[..after.len() - own.len()], own))
    }

    /// Of its ordinal and its parts.
    pub(crate) fn join(ordinal: Ordinal, shared: &[u8], own: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(10 + shared.len() + own.len());
        bytes = postcard::to_extend(&ordinal, bytes).expect("a vector takes all that is written");
        bytes.extend_from_slice(shared);
        bytes.extend_from_slice(own);
        Self(bytes)
    }
}

/// A watch, and its record.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The watch.
    pub watch: Watch,
    /// The same, in bytes.
    pub record: WatchRecord,
}

impl Recorded {
    /// Of a watch.
    pub fn of(watch: Watch) -> Self {
        Self { record: WatchRecord::of(&watch), watch }
    }

    /// Of a record.
    ///
    /// # Errors
    /// If it is not that of a watch.
    pub fn read(record: WatchRecord) -> Result<Self, NoWatch> {
        Ok(Self { watch: record.read()?, record })
    }
}
