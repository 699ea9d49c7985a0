//! Tables in fjall 3: a keyspace each, and one fsynced batch per commit.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Record, StoreError, Table, Tables, Write};

/// What a table holds in memory before it is written to a file of its own, bytes. By default each of eleven tables would take 64 MiB,
/// more than a hundred thousand open watches do.
const MEMTABLE_BYTES_MAX: u64 = 8 << 20;
/// The same of tables in which the same few keys are written again and again.
const SMALL_MEMTABLE_BYTES_MAX: u64 = 1 << 20;

/// What is kept of the files' blocks, bytes. What is read often is in memory anyway: open watches in the engine, new events beside
/// their subscribers.
const CACHE_BYTES: u64 = 8 << 20;

/// What of the journal is kept until tables that are seldom written reach their files, bytes: all of it is read at a start.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

pub(super) struct FjallTables {
    database: Database,
    keyspaces: BTreeMap<Table, Keyspace>,
}

impl FjallTables {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::builder(path.join("fjall")).cache_size(CACHE_BYTES);
        let database = database.max_journaling_size(JOURNAL_BYTES_MAX).open().map_err(failed("open"))?;
        let mut keyspaces = BTreeMap::new();
        for table in Table::ALL {
            let is_small = matches!(table, Table::Meta | Table::Headers | Table::Finality | Table::LookedUp);
            let memtable = if is_small { SMALL_MEMTABLE_BYTES_MAX } else { MEMTABLE_BYTES_MAX };
            let options = || KeyspaceCreateOptions::default().max_memtable_size(memtable);
            let keyspace = database.keyspace(table.name(), options).map_err(failed("open"))?;
            keyspaces.insert(table, keyspace);
        }
        Ok(Self { database, keyspaces })
    }
}

impl Tables for FjallTables {
    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for write in writes {
            match write {
                Write::Put(table, key, value) => batch.insert(&self.keyspaces[&table], key, value),
                Write::Delete(table, key) => batch.remove(&self.keyspaces[&table], key),
            }
        }
        batch.commit().map_err(failed("commit"))
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.keyspaces[&table].get(key).map_err(failed("read"))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        if to.is_some_and(|to| from >= to) {
            return Ok(Vec::new());
        }
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.keyspaces[&table].range::<&[u8], _>((Bound::Included(from), end));
        let read = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(failed("read"))?;
            Ok((key.to_vec(), value.to_vec()))
        };
        range.take(limit).map(read).collect()
    }
}

fn failed(action: &'static str) -> impl Fn(fjall::Error) -> StoreError {
    move |error| StoreError::Engine { action, source: Box::new(error) }
}
