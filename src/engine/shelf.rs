//! The watches in memory, at rest but for those that something happens to.
//!
//! Most watches wait, and take a tenth of the room as records. One is read when it is asked for, and stays open until
//! [`Shelf::rest`].

use std::collections::BTreeSet;

use elsa::FrozenBTreeMap;

use crate::network::Ordinal;
use crate::numbers::Numbers;
use crate::pages::Pages;
use crate::record::{Recorded, WatchRecord};
use crate::watch::Watch;

/// All watches, by their ordinals.
#[derive(Default)]
pub(crate) struct Shelf {
    records: Records,
    /// Those that were asked for. Of one that is `changed` the record is an old one, or there is none yet.
    open: FrozenBTreeMap<Ordinal, Box<Watch>>,
    changed: BTreeSet<Ordinal>,
    len: usize,
}

impl Shelf {
    /// Puts a new watch in, open.
    pub(crate) fn insert(&mut self, watch: Watch) {
        self.len += 1;
        self.changed.insert(watch.ordinal);
        self.open.as_mut().insert(watch.ordinal, Box::new(watch));
    }

    /// Puts one in that was read from its record, and is still what that says.
    pub(crate) fn insert_at_rest(&mut self, ordinal: Ordinal, record: &WatchRecord) {
        self.len += 1;
        self.records.put(ordinal, record);
    }

    /// Looks at one.
    pub(crate) fn get(&self, ordinal: &Ordinal) -> Option<&Watch> {
        if let Some(watch) = self.open.get(ordinal) {
            return Some(watch);
        }
        let watch = self.records.get(*ordinal)?.read().expect(READ);
        Some(self.open.insert(*ordinal, Box::new(watch)))
    }

    /// To change one.
    pub(crate) fn get_mut(&mut self, ordinal: &Ordinal) -> Option<&mut Watch> {
        self.get(ordinal)?;
        self.changed.insert(*ordinal);
        self.open.as_mut().get_mut(ordinal).map(Box::as_mut)
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, ordinal: &Ordinal) -> Option<Watch> {
        self.get(ordinal)?;
        self.len -= 1;
        self.records.remove(*ordinal);
        self.changed.remove(ordinal);
        self.open.as_mut().remove(ordinal).map(|watch| *watch)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many networks and assets they share.
    pub(crate) fn shared_len(&self) -> usize {
        self.records.shared.len()
    }

    /// Closes all that are open; hands out those that are `wanted`, in their order.
    pub(crate) fn rest(&mut self, wanted: &BTreeSet<Ordinal>) -> Vec<Recorded> {
        for ordinal in wanted {
            self.get(ordinal);
        }
        let changed = std::mem::take(&mut self.changed);
        let mut handed_out = Vec::new();
        for (ordinal, watch) in std::mem::take(self.open.as_mut()) {
            let (changed, wanted) = (changed.contains(&ordinal), wanted.contains(&ordinal));
            if !changed && !wanted {
                continue;
            }
            let out = Recorded::of(*watch);
            if changed {
                self.records.put(ordinal, &out.record);
            }
            if wanted {
                handed_out.push(out);
            }
        }
        handed_out
    }
}

const READ: &str = "the engine took it in only after it had read it";

/// Watches at rest. What many share, their networks and assets, is held once for all of them.
#[derive(Default)]
struct Records {
    shared: Numbers,
    /// Of each: the number of what it shares, and what is its own.
    pages: Pages,
}

impl Records {
    fn get(&self, ordinal: Ordinal) -> Option<WatchRecord> {
        let (number, own) = split(self.pages.get(ordinal)?);
        Some(WatchRecord::join(ordinal, self.shared.at(number)?, own))
    }

    fn put(&mut self, ordinal: Ordinal, record: &WatchRecord) {
        let (shared, own) = record.parts().expect(READ);
        // What was asked for never changes, so that one that is there has the same.
        let number = self.number_of(ordinal).unwrap_or_else(|| self.shared.take(shared));
        let mut string = Vec::with_capacity(own.len() + 5);
        string = postcard::to_extend(&number, string).expect("a vector takes all that is written");
        string.extend_from_slice(own);
        self.pages.put(ordinal, &string);
    }

    fn remove(&mut self, ordinal: Ordinal) {
        if let Some(number) = self.number_of(ordinal) {
            self.shared.release(number);
            self.pages.remove(ordinal);
        }
    }

    fn number_of(&self, ordinal: Ordinal) -> Option<u32> {
        self.pages.get(ordinal).map(|string| split(string).0)
    }
}

fn split(string: &[u8]) -> (u32, &[u8]) {
    postcard::take_from_bytes(string).expect("a number, as written")
}
