//! Tables in sled 0.34: one tree, the table's number in front of each key, so that a batch is atomic over all of them.
//!
//! sled's own flush ends in `sync_file_range`, which is no barrier against a power cut; acknowledged commits were lost in 27
//! of 30 simulated cuts. Each commit here is followed by an fsync of sled's log file, and of the files that it puts large values in.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Record, StoreError, Table, Tables, Write};

/// How often, and after which pause, a lock is tried for.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

pub(super) struct SledTables {
    database: sled::Db,
    /// The file that sled appends its log to.
    log: File,
    /// Where sled puts what is too large for its log, without an fsync of its own.
    blobs: PathBuf,
    /// The files there that were synced already.
    synced: Mutex<HashSet<OsString>>,
}

impl SledTables {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let path = path.join("sled");
        // A flush on a timer would only add writes: each commit flushes.
        let config = sled::Config::new().path(&path).flush_every_ms(None);
        // A store that was just closed in this process keeps its lock until sled's threads have ended.
        let mut tries = LOCK_TRIES;
        let database = loop {
            match config.open() {
                Err(sled::Error::Io(error)) if tries > 0 && error.to_string().contains("could not acquire lock") => {
                    tries -= 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                opened => break opened.map_err(failed("open"))?,
            }
        };
        // sled 0.34's `Config::db_path`.
        let log = File::options().read(true).write(true).open(path.join("db"));
        let log = log.map_err(|error| StoreError::Engine { action: "open", source: Box::new(error) })?;
        let tables = Self { database, log, blobs: path.join("blobs"), synced: Mutex::default() };
        tables.sync()?;
        Ok(tables)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.database.flush().map_err(failed("commit"))?;
        let synced = self.sync_blobs().and_then(|()| self.log.sync_all());
        synced.map_err(|error| StoreError::Engine { action: "commit", source: Box::new(error) })
    }

    fn sync_blobs(&self) -> std::io::Result<()> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        let mut present = HashSet::new();
        for entry in std::fs::read_dir(&self.blobs)? {
            let entry = entry?;
            let name = entry.file_name();
            if !synced.contains(&name) {
                match File::open(entry.path()) {
                    Ok(blob) => blob.sync_all()?,
                    // Rewritten elsewhere meanwhile.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
            }
            present.insert(name);
        }
        if *synced != present {
            File::open(&self.blobs)?.sync_all()?;
            *synced = present;
        }
        Ok(())
    }
}

impl Tables for SledTables {
    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for write in writes {
            match write {
                Write::Put(table, key, value) => batch.insert(tree_key(table, &key), value),
                Write::Delete(table, key) => batch.remove(tree_key(table, &key)),
            }
        }
        self.database.apply_batch(batch).map_err(failed("commit"))?;
        self.sync()
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.database.get(tree_key(table, key)).map_err(failed("read"))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let end = to.map_or_else(|| vec![number(table) + 1], |to| tree_key(table, to));
        let start = tree_key(table, from);
        if start >= end {
            return Ok(Vec::new());
        }
        let read = |record: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, value) = record.map_err(failed("read"))?;
            Ok((key[1..].to_vec(), value.to_vec()))
        };
        self.database.range(start..end).take(limit).map(read).collect()
    }
}

/// The number of a table on disk; never given to another.
fn number(table: Table) -> u8 {
    match table {
        Table::Meta => 0,
        Table::Open => 1,
        Table::Archived => 2,
        Table::ArchivedAt => 3,
        Table::Claims => 4,
        Table::Events => 5,
        Table::Artefacts => 6,
        Table::Keys => 7,
        Table::Headers => 8,
        Table::Finality => 9,
        Table::LookedUp => 10,
    }
}

fn tree_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(key.len() + 1);
    whole.push(number(table));
    whole.extend_from_slice(key);
    whole
}

fn failed(action: &'static str) -> impl Fn(sled::Error) -> StoreError {
    move |error| StoreError::Engine { action, source: Box::new(error) }
}
