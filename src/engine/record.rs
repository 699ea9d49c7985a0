//! A watch at rest: its bytes, as they stand in the store, and in memory while nothing happens to it.

use crate::watch::Watch;

/// The bytes of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRecord(Box<[u8]>);

/// Bytes that are no watch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no watch: {0}")]
pub struct NoWatch(postcard::Error);

impl WatchRecord {
    /// Of a watch.
    pub fn of(watch: &Watch) -> Self {
        let bytes = postcard::to_stdvec(watch).expect("a watch has a length that is known before it is written");
        Self(bytes.into())
    }

    /// From bytes that were stored; they are looked at when the watch is read.
    pub fn from_bytes(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// What is to be stored.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into()
    }

    /// The watch.
    ///
    /// # Errors
    /// If these are not the bytes of one.
    pub fn read(&self) -> Result<Watch, NoWatch> {
        postcard::from_bytes(&self.0).map_err(NoWatch)
    }
}
