//! The watches in memory, at rest but for those that something happens to.
//!
//! Most watches wait, and take a fifth of the room as records. One is read when it is asked for, and stays open until
//! [`Shelf::rest`].

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use crate::network::Ordinal;
use crate::record::WatchRecord;
use crate::watch::Watch;

/// All watches, by their ordinals.
#[derive(Default)]
pub(crate) struct Shelf {
    slots: BTreeMap<Ordinal, Slot>,
    /// Those that are open.
    open: RefCell<Vec<Ordinal>>,
}

#[derive(Default)]
struct Slot {
    /// Absent while the open one may have changed. One of the two is always there.
    record: Option<WatchRecord>,
    open: OnceCell<Box<Watch>>,
}

impl Slot {
    fn read(&self) -> Box<Watch> {
        let record = self.record.as_ref().expect("a slot without an open watch has a record");
        Box::new(record.read().expect("the engine took it in only after it had read it"))
    }
}

impl Shelf {
    /// Puts a new watch in, open.
    pub(crate) fn insert(&mut self, watch: Watch) {
        let ordinal = watch.ordinal;
        self.open.get_mut().push(ordinal);
        self.slots.insert(ordinal, Slot { record: None, open: OnceCell::from(Box::new(watch)) });
    }

    /// Puts one in that was read from its record, and is still what that says.
    pub(crate) fn insert_at_rest(&mut self, ordinal: Ordinal, record: WatchRecord) {
        self.slots.insert(ordinal, Slot { record: Some(record), open: OnceCell::new() });
    }

    /// Looks at one.
    pub(crate) fn get(&self, ordinal: &Ordinal) -> Option<&Watch> {
        let slot = self.slots.get(ordinal)?;
        Some(slot.open.get_or_init(|| {
            self.open.borrow_mut().push(*ordinal);
            slot.read()
        }))
    }

    /// To change one.
    pub(crate) fn get_mut(&mut self, ordinal: &Ordinal) -> Option<&mut Watch> {
        let slot = self.slots.get_mut(ordinal)?;
        if slot.open.get().is_none() {
            self.open.get_mut().push(*ordinal);
            slot.open = OnceCell::from(slot.read());
        }
        slot.record = None;
        slot.open.get_mut().map(Box::as_mut)
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, ordinal: &Ordinal) -> Option<Watch> {
        let mut slot = self.slots.remove(ordinal)?;
        Some(*slot.open.take().unwrap_or_else(|| slot.read()))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Closes all that are open; hands out those that are `wanted`, in their order.
    pub(crate) fn rest(&mut self, wanted: &BTreeSet<Ordinal>) -> Vec<Watch> {
        for ordinal in wanted {
            self.get(ordinal);
        }
        let mut open = std::mem::take(self.open.get_mut());
        open.sort_unstable();
        // One that left, and came again.
        open.dedup();
        let mut handed_out = Vec::new();
        for ordinal in open {
            let Some(slot) = self.slots.get_mut(&ordinal) else { continue };
            let Some(watch) = slot.open.take() else { continue };
            slot.record.get_or_insert_with(|| WatchRecord::of(&watch));
            if wanted.contains(&ordinal) {
                handed_out.push(*watch);
            }
        }
        handed_out
    }
}
