//! Which watches wait for the answer to a look-up (`Ask::LookUp`): what the chain held before them is not known yet.
//!
//! Each watch is looked up once, and most of the time nothing is found. Were that written into its record, each watch would be
//! written twice; so it is written of all of a network at once, along with whatever is committed next.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::network::Ordinal;

/// Watches without an answer that a [`LookedUp`] names; it is a part of many commits. Should there be more, those made after
/// the first so many are looked up again after a restart, which costs requests and alters nothing.
const NAMED_MAX: usize = 1024;

/// Which watches of a network were looked up: all whose ordinals lie below a bound, but for some.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedUp {
    below: Ordinal,
    /// In order.
    but: Vec<Ordinal>,
}

impl LookedUp {
    /// All whose ordinals lie below `below`, but for these.
    pub fn new(below: u64, but: impl IntoIterator<Item = u64>) -> Self {
        let mut but: Vec<_> = but.into_iter().collect();
        but.sort_unstable();
        Self { below, but }
    }

    /// Whether the watch with this ordinal was.
    pub fn holds(&self, watch: u64) -> bool {
        watch < self.below && self.but.binary_search(&watch).is_err()
    }
}

/// The look-ups of one network that are under way.
#[derive(Debug, Default)]
pub(crate) struct LookUps {
    waiting: BTreeSet<Ordinal>,
    committed: LookedUp,
    /// Whether that is no longer so.
    has_moved: bool,
}

impl LookUps {
    /// To go on from what was committed.
    pub(crate) fn new(committed: LookedUp) -> Self {
        Self { committed, ..Self::default() }
    }

    /// Whether what was committed says that a watch has its answer.
    pub(crate) fn was_answered(&self, watch: Ordinal) -> bool {
        self.committed.holds(watch)
    }

    /// Notes that a watch is looked up, for the first time or again.
    pub(crate) fn begin(&mut self, watch: Ordinal) {
        self.waiting.insert(watch);
        // One that was made since is none of those that are said to have an answer.
        self.has_moved |= self.committed.holds(watch);
    }

    /// Notes that it no longer is: it was answered, or the watch is gone. Returns whether it was.
    pub(crate) fn end(&mut self, watch: Ordinal) -> bool {
        let waited = self.waiting.remove(&watch);
        self.has_moved |= waited;
        waited
    }

    /// Whether the answer for a watch is outstanding.
    pub(crate) fn awaits(&self, watch: Ordinal) -> bool {
        self.waiting.contains(&watch)
    }

    /// How many are under way.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// What is to be committed, if it is not what was committed last; `next` is the ordinal of the next watch.
    pub(crate) fn drain(&mut self, next: Ordinal) -> Option<LookedUp> {
        if !std::mem::take(&mut self.has_moved) {
            return None;
        }
        let below = self.waiting.iter().nth(NAMED_MAX).copied().unwrap_or(next);
        self.committed = LookedUp::new(below, self.waiting.range(..below).copied());
        Some(self.committed.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_that_were_given_survive_a_restart() {
        let mut look_ups = LookUps::default();
        (0..6).for_each(|watch| look_ups.begin(watch));
        assert_eq!(look_ups.drain(6), None, "watches from the bound on were not looked up, whoever they are");
        assert!(look_ups.end(1) && look_ups.end(4) && !look_ups.end(4));
        let committed = look_ups.drain(6).expect("something was answered");
        assert!((0..8).filter(|watch| committed.holds(*watch)).eq([1, 4]));
        assert_eq!(look_ups.drain(6), None);

        let mut restored = LookUps::new(committed);
        assert!((0..8).filter(|watch| restored.was_answered(*watch)).eq([1, 4]));
        assert!((0..8).filter(|watch| LookedUp::new(6, [5, 2, 3, 0]).holds(*watch)).eq([1, 4]));
        restored.begin(0);
        assert_eq!(restored.drain(6), None, "it was not said to be answered");
        restored.begin(4);
        let committed = restored.drain(6).expect("it is looked up again");
        assert!(!committed.holds(4) && committed.holds(1));
    }

    #[test]
    fn what_is_committed_is_bounded_and_never_says_too_much() {
        let count = 4 * NAMED_MAX as u64;
        let mut look_ups = LookUps::default();
        (0..count).for_each(|watch| look_ups.begin(watch));
        assert!((0..count).step_by(2).all(|watch| look_ups.end(watch)));
        let committed = look_ups.drain(count).expect("half were answered");
        assert_eq!(committed.but.len(), NAMED_MAX);
        assert!((0..count).filter(|watch| committed.holds(*watch)).all(|watch| !look_ups.awaits(watch)));
        assert_eq!((0..count).filter(|watch| committed.holds(*watch)).count(), NAMED_MAX + 1);
    }
}
