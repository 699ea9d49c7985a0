//! The newest events of the log, read from the store once for all who follow it.
//!
//! A subscriber that keeps up finds here what the first of them read; one that is behind reads the store by itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use h402_watch_proto::v1;

use super::convert;
use crate::store::{PAGE_BYTES_MAX, Store, StoreError};

/// Events that are read from the store, or returned, at a time.
pub(super) const PAGE: usize = 128;
/// Events that are kept for subscribers who are a little behind.
const KEPT_MAX: usize = 1024;
/// Bytes of artefacts that are kept; the newest page stays in any case.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// The newest events.
pub(super) struct Recent {
    store: Arc<Store>,
    kept: Mutex<Kept>,
}

/// In order of their sequences, without a gap.
#[derive(Default)]
struct Kept {
    events: VecDeque<Arc<v1::Event>>,
    bytes: usize,
}

impl Recent {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, kept: Mutex::default() }
    }

    /// Up to [`PAGE`] events after a sequence, bounded in bytes as [`Store::page`]; none only where there are none. Only what is
    /// committed is read from the store, and nothing else is kept here (invariant 1).
    pub(super) fn page(&self, after: u64) -> Result<Vec<Arc<v1::Event>>, StoreError> {
        if self.store.newest_sequence() <= after {
            return Ok(Vec::new());
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.first().is_some_and(|first| after + 1 < first) {
            drop(kept);
            return self.read(after);
        }
        let found = kept.after(after);
        if !found.is_empty() {
            return Ok(found);
        }
        // Those who come for the same meanwhile wait, and find it.
        let read = self.read(after)?;
        kept.push(&read);
        Ok(read)
    }

    fn read(&self, after: u64) -> Result<Vec<Arc<v1::Event>>, StoreError> {
        let events = self.store.page(after, PAGE)?;
        Ok(events.into_iter().map(|event| Arc::new(convert::event(event))).collect())
    }
}

impl Kept {
    fn first(&self) -> Option<u64> {
        self.events.front().map(|event| event.sequence)
    }

    fn after(&self, sequence: u64) -> Vec<Arc<v1::Event>> {
        let Some(first) = self.first() else { return Vec::new() };
        let known = usize::try_from((sequence + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let (mut page, mut bytes) = (Vec::new(), 0);
        for event in self.events.iter().skip(known).take(PAGE) {
            bytes += event.artefact.len();
            if bytes > PAGE_BYTES_MAX && !page.is_empty() {
                break;
            }
            page.push(Arc::clone(event));
        }
        page
    }

    fn push(&mut self, page: &[Arc<v1::Event>]) {
        let Some(next) = page.first() else { return };
        if self.events.back().is_some_and(|last| last.sequence + 1 != next.sequence) {
            *self = Self::default();
        }
        for event in page {
            self.bytes += event.artefact.len();
            self.events.push_back(Arc::clone(event));
        }
        while self.events.len() > page.len() && (self.events.len() > KEPT_MAX || self.bytes > KEPT_BYTES_MAX) {
            let oldest = self.events.pop_front();
            self.bytes -= oldest.map_or(0, |event| event.artefact.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use h402_watch_engine::changes::{Changes, Event, EventKind};
    use h402_watch_engine::id::Timestamp;

    use super::*;
    use crate::store::{Retention, StoreEngine};

    fn store(folder: &tempfile::TempDir) -> Arc<Store> {
        Arc::new(Store::open(StoreEngine::Fjall, folder.path()).expect("a new store"))
    }

    fn log(store: &Store, sequences: std::ops::RangeInclusive<u64>, bytes: usize) {
        let event = |sequence| Event {
            sequence,
            watch: "w".into(),
            network: "dev".into(),
            index: u32::try_from(sequence).expect("few"),
            kind: EventKind::Depth,
            observed_at: Timestamp(sequence),
            artefact: vec![b'7'; bytes],
            receipt_hash: [7; 32],
            signature: "header..signature".into(),
        };
        store
            .commit(Timestamp(1), &Changes { events: sequences.map(event).collect(), ..Changes::default() })
            .expect("commits");
    }

    fn sequences(page: &[Arc<v1::Event>]) -> Vec<u64> {
        page.iter().map(|event| event.sequence).collect()
    }

    #[test]
    fn followers_share_what_one_of_them_read() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let store = store(&folder);
        let recent = Recent::new(Arc::clone(&store));
        assert!(recent.page(0).expect("reads").is_empty());
        log(&store, 1..=3, 10);
        let [one, other] = [0, 0].map(|after| recent.page(after).expect("reads"));
        assert_eq!(sequences(&one), [1, 2, 3]);
        assert!(one.iter().zip(&other).all(|(one, other)| Arc::ptr_eq(one, other)));
        assert!(recent.page(3).expect("reads").is_empty(), "nothing is told that is not committed");
        log(&store, 4..=4, 10);
        assert_eq!(sequences(&recent.page(3).expect("reads")), [4]);
        assert_eq!(sequences(&recent.page(1).expect("reads")), [2, 3, 4], "one that is a little behind");
        assert!(Arc::ptr_eq(&recent.page(1).expect("reads")[0], &one[1]));
    }

    #[test]
    fn one_that_is_far_behind_gets_all_and_takes_nothing_from_the_others() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let store = store(&folder);
        let recent = Recent::new(Arc::clone(&store));
        log(&store, 1..=2_000, 10);
        let newest = recent.page(1_990).expect("reads");
        let (mut place, mut seen) = (0, Vec::new());
        loop {
            let page = recent.page(place).expect("reads");
            assert!(page.len() <= PAGE);
            let Some(last) = page.last() else { break };
            place = last.sequence;
            seen.extend(sequences(&page));
        }
        assert_eq!(seen, (1..=2_000).collect::<Vec<_>>());
        assert!(Arc::ptr_eq(&recent.page(1_990).expect("reads")[0], &newest[0]));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let store = store(&folder);
        let recent = Recent::new(Arc::clone(&store));
        let kept = || {
            let kept = recent.kept.lock().expect("no panic");
            assert_eq!(kept.bytes, kept.events.iter().map(|event| event.artefact.len()).sum::<usize>());
            (kept.first(), kept.events.len())
        };
        let follow = |mut place| {
            while let Some(last) = recent.page(place).expect("reads").last() {
                place = last.sequence;
            }
        };
        log(&store, 1..=2_000, 10);
        follow(0);
        assert_eq!(kept(), (Some(977), KEPT_MAX));
        log(&store, 2_001..=2_040, 1 << 20);
        follow(2_000);
        let (first, count) = kept();
        assert!(first > Some(2_000) && count <= 8, "{count} from {first:?}");
        assert_eq!(recent.page(2_036).expect("reads").len(), 2, "a page is bounded too");
    }

    #[test]
    fn what_was_forgotten_before_it_was_read_leaves_no_gap_here() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let store = store(&folder);
        let recent = Recent::new(Arc::clone(&store));
        log(&store, 1..=5, 10);
        assert_eq!(sequences(&recent.page(3).expect("reads")), [4, 5]);
        log(&store, 6..=9, 10);
        store.prune(Retention { events_before: Timestamp(8), archived_before: Timestamp(0) }, 100).expect("prunes");
        assert_eq!(sequences(&recent.page(5).expect("reads")), [8, 9], "the subscriber sees the gap");
        assert_eq!(recent.kept.lock().expect("no panic").first(), Some(8));
    }
}
