//! Keys and values as they stand on disk. Whole numbers in keys are big-endian, so that their order is the order of keys.

use h402_watch_engine::changes::Event;
use h402_watch_engine::record::{NoWatch, WatchRecord};
use h402_watch_engine::watch::Watch;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{StoreError, Table};

/// What has to outlive the records that it was counted from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Counters {
    pub(super) next_sequence: u64,
    pub(super) oldest_sequence: u64,
    pub(super) next_ordinal: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self { next_sequence: 1, oldest_sequence: 1, next_ordinal: 0 }
    }
}

/// Where an artefact stands.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Artefact {
    /// In the event log.
    InLog(u64),
    /// Here, since the log no longer goes back so far.
    Moved(Event),
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("the types of the store have a length that is known before they are written")
}

pub(super) fn decode<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|error| StoreError::Damaged { table, detail: error.to_string() })
}

pub(super) fn read_watch(table: Table, record: &WatchRecord) -> Result<Watch, StoreError> {
    record.read().map_err(|error| damaged(table, &error))
}

pub(super) fn damaged(table: Table, error: &NoWatch) -> StoreError {
    StoreError::Damaged { table, detail: error.to_string() }
}

pub(super) mod key {
    use h402_watch_engine::changes::ClaimKey;
    use h402_watch_engine::id::{NetworkId, Timestamp, TxId, WatchId};
    use sha2::{Digest, Sha256};

    pub(in super::super) const FORMAT: &[u8] = b"format";
    pub(in super::super) const COUNTERS: &[u8] = b"counters";

    /// Texts are ended with a zero byte, which none of them contains.
    fn texts(parts: &[&str]) -> Vec<u8> {
        let mut key = Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum::<usize>() + 8);
        for part in parts {
            key.extend_from_slice(part.as_bytes());
            key.push(0);
        }
        key
    }

    pub(in super::super) fn claims_of(network: &NetworkId, tx: &TxId) -> Vec<u8> {
        texts(&[network.as_str(), tx.as_str()])
    }

    pub(in super::super) fn claim(claim: &ClaimKey) -> Vec<u8> {
        let mut key = claims_of(&claim.network, &claim.tx);
        key.extend_from_slice(&claim.index.to_be_bytes());
        key
    }

    pub(in super::super) fn sequence(sequence: u64) -> Vec<u8> {
        sequence.to_be_bytes().to_vec()
    }

    pub(in super::super) fn artefacts_of(watch: &WatchId) -> Vec<u8> {
        texts(&[watch.as_str()])
    }

    pub(in super::super) fn artefact(watch: &WatchId, index: u32) -> Vec<u8> {
        let mut key = artefacts_of(watch);
        key.extend_from_slice(&index.to_be_bytes());
        key
    }

    pub(in super::super) fn header(network: &NetworkId, height: u64) -> Vec<u8> {
        let mut key = texts(&[network.as_str()]);
        key.extend_from_slice(&height.to_be_bytes());
        key
    }

    pub(in super::super) fn archived_at(at: Timestamp, watch: &WatchId) -> Vec<u8> {
        let mut key = at.0.to_be_bytes().to_vec();
        key.extend_from_slice(watch.as_str().as_bytes());
        key
    }

    /// Clients choose idempotency keys; hashed, they take the same room, and may hold any byte.
    pub(in super::super) fn idempotency(key: &str) -> Vec<u8> {
        Sha256::digest(key.as_bytes()).to_vec()
    }

    /// The first key after `key`.
    pub(in super::super) fn after(key: &[u8]) -> Vec<u8> {
        let mut next = key.to_vec();
        next.push(0);
        next
    }

    /// The first key after all that start with `prefix`, which ends with a zero byte.
    pub(in super::super) fn end_of(prefix: &[u8]) -> Vec<u8> {
        let mut end = prefix.to_vec();
        if let Some(last) = end.last_mut() {
            *last = 1;
        }
        end
    }
}
