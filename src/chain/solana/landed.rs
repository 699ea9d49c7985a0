//! The transactions that were reported in blocks, as long as they are watched.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

/// A transaction in bytes: its first signature.
pub type Id = [u8; 64];

/// By transaction and by height, so that a block costs what it holds.
#[derive(Default)]
pub struct Landed {
    heights: HashMap<Id, u64>,
    by_height: BTreeSet<(u64, Id)>,
    /// The last one that was passed in turn.
    passed: Option<(u64, Id)>,
}

impl Landed {
    /// Whether a transaction is in a block.
    pub fn contains(&self, id: &Id) -> bool {
        self.heights.contains_key(id)
    }

    /// Notes the height of its block.
    pub fn note(&mut self, id: Id, height: u64) {
        if let Some(before) = self.heights.insert(id, height) {
            self.by_height.remove(&(before, id));
        }
        self.by_height.insert((height, id));
    }

    /// Forgets those at a height or above.
    pub fn forget_from(&mut self, height: u64) -> Vec<Id> {
        let gone: Vec<_> = self.by_height.split_off(&(height, [0; 64])).into_iter().map(|(_, id)| id).collect();
        for id in &gone {
            self.heights.remove(id);
        }
        gone
    }

    /// Forgets of the next few in turn those that nobody wants.
    pub fn forget_some(&mut self, most: usize, wanted: impl Fn(&Id) -> bool) {
        let from = self.passed.take().map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<_> = self.by_height.range((from, Bound::Unbounded)).take(most).copied().collect();
        self.passed = next.last().copied().filter(|_| next.len() == most);
        for place in next.into_iter().filter(|(_, id)| !wanted(id)) {
            self.by_height.remove(&place);
            self.heights.remove(&place.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_takes_what_landed_above_it() {
        let mut landed = Landed::default();
        for n in 0..10 {
            landed.note([n; 64], u64::from(n));
        }
        landed.note([9; 64], 2);
        assert_eq!(landed.forget_from(8), [[8; 64]]);
        assert!(!landed.contains(&[8; 64]) && landed.contains(&[9; 64]), "one moved down");
        assert_eq!(landed.forget_from(2).len(), 7);
        assert!(landed.forget_from(2).is_empty());
        assert_eq!((landed.heights.len(), landed.by_height.len()), (2, 2));
    }

    #[test]
    fn what_nobody_wants_is_forgotten_in_turn() {
        let mut landed = Landed::default();
        for n in 0..10 {
            landed.note([n; 64], 7);
        }
        let even = |id: &Id| id[0].is_multiple_of(2);
        for left in [8, 6, 5] {
            landed.forget_some(4, even);
            assert_eq!((landed.heights.len(), landed.by_height.len()), (left, left));
        }
        landed.forget_some(4, |_| false);
        assert_eq!(landed.heights.len(), 1, "it begins anew");
    }
}
