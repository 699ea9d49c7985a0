//! The chain as it is told to others.

use std::sync::{Arc, Mutex};

use surfpool_core::storage::{Storage, StorageResult};
use surfpool_core::surfnet::BlockHeader;
use surfpool_core::types::SyntheticBlockhash;

/// How far heights stay behind slots, as if so many slots before the first had been skipped.
const SKIPPED: u64 = 10;

/// Blocks by their slots. The node keeps those with transactions only, and makes up the others in a way that does not fit:
/// the chain would break at each block with transactions. So all headers are made up here, from slot and branch.
#[derive(Clone)]
pub struct Blocks {
    pub inner: Box<dyn Storage<u64, BlockHeader>>,
    pub first_slot: u64,
    pub first_ms: u64,
    pub slot_ms: u64,
    /// The first slots of the branches that were made, each of which ended what was there from that slot on.
    pub branches: Arc<Mutex<Vec<u64>>>,
}

pub fn height(slot: u64) -> u64 {
    slot - SKIPPED
}

/// The hash of a block of the first branch: what transactions call recent on all of them.
pub fn recent(slot: u64) -> String {
    SyntheticBlockhash::new(height(slot)).to_string()
}

impl Blocks {
    /// Of the last branch that a slot is on: the highest digit of eight.
    fn hash(&self, slot: u64) -> String {
        let branches = self.branches.lock().expect("no thread panics with it");
        let branch = branches.iter().rposition(|first| *first <= slot).map_or(0, |index| index as u64 + 1);
        SyntheticBlockhash::new((branch % 16) << 28 | height(slot)).to_string()
    }

    fn header(&self, slot: u64, kept: Option<BlockHeader>) -> BlockHeader {
        let time_ms = self.first_ms + (slot - self.first_slot) * self.slot_ms;
        BlockHeader {
            hash: self.hash(slot),
            previous_blockhash: self.hash(slot - 1),
            parent_slot: slot - 1,
            block_time: (time_ms / 1000).cast_signed(),
            block_height: height(slot),
            signatures: kept.map(|header| header.signatures).unwrap_or_default(),
        }
    }
}

impl Storage<u64, BlockHeader> for Blocks {
    fn get(&self, slot: &u64) -> StorageResult<Option<BlockHeader>> {
        let kept = self.inner.get(slot)?;
        Ok((*slot >= self.first_slot).then(|| self.header(*slot, kept)))
    }

    fn store(&mut self, slot: u64, header: BlockHeader) -> StorageResult<()> {
        self.inner.store(slot, header)
    }

    fn clear(&mut self) -> StorageResult<()> {
        self.inner.clear()
    }

    fn take(&mut self, slot: &u64) -> StorageResult<Option<BlockHeader>> {
        self.inner.take(slot)
    }

    fn keys(&self) -> StorageResult<Vec<u64>> {
        self.inner.keys()
    }

    fn into_iter(&self) -> StorageResult<Box<dyn Iterator<Item = (u64, BlockHeader)> + '_>> {
        self.inner.into_iter()
    }

    fn count(&self) -> StorageResult<u64> {
        self.inner.count()
    }

    fn clone_box(&self) -> Box<dyn Storage<u64, BlockHeader>> {
        Box::new(self.clone())
    }
}
