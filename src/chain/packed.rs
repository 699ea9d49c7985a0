//! A million keys of a few bytes each, held close: in buckets of some eight, which are split and joined one at a time as keys
//! come and go (linear hashing, Litwin 1980). No step moves more than a bucket or two, where an ordinary hash table moves all
//! that it holds, and is half empty afterwards.

use std::hash::{BuildHasher, RandomState};

/// Keys in a bucket on average, before another bucket is opened.
const FULL: usize = 8;
/// The same, below which the last bucket is joined to the one that it was split from.
const SPARSE: usize = 4;
/// Entries that a bucket may have room for beyond those that it holds, after some left it.
const SPARE: usize = 4;

/// A map from keys of any length but none to `V` bytes each; with `V` = 0 a set. In no order. Keyed anew in each process, so that
/// nobody can choose keys that share a bucket.
#[derive(Debug, Default)]
pub struct Packed<const V: usize> {
    state: RandomState,
    /// One for each length of keys that was ever held: a few.
    tables: Vec<Table<V>>,
}

impl<const V: usize> Packed<V> {
    /// How many keys it holds.
    pub fn len(&self) -> usize {
        self.tables.iter().map(|table| table.len).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|table| table.len == 0)
    }

    /// What stands beside a key.
    pub fn get(&self, key: &[u8]) -> Option<[u8; V]> {
        let table = self.tables.iter().find(|table| table.key == key.len() && table.len > 0)?;
        table.get(key, self.state.hash_one(key))
    }

    /// Whether it holds a key.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.get(key).is_some()
    }

    /// Puts a value beside a key. Whether the key is new; an empty one is not held.
    pub fn insert(&mut self, key: &[u8], value: [u8; V]) -> bool {
        if key.is_empty() {
            return false;
        }
        let at = self.tables.iter().position(|table| table.key == key.len()).unwrap_or_else(|| {
            self.tables.push(Table::new(key.len()));
            self.tables.len() - 1
        });
        self.tables[at].insert(key, value, &self.state)
    }

    /// Removes a key. Whether it was held.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let table = self.tables.iter_mut().find(|table| table.key == key.len());
        table.is_some_and(|table| table.remove(key, &self.state))
    }

    /// All keys, each with what stands beside it.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], [u8; V])> {
        self.tables.iter().flat_map(|table| {
            let entries = table.buckets.iter().flat_map(|bucket| bucket.entries.chunks_exact(table.width()));
            entries.map(|entry| (&entry[..table.key], value(entry)))
        })
    }
}

/// Keys of one length.
#[derive(Debug)]
struct Table<const V: usize> {
    key: usize,
    len: usize,
    /// There is always one.
    buckets: Vec<Bucket>,
}

/// Some entries, one after the other: each a key and its value.
#[derive(Debug, Default)]
struct Bucket {
    /// One of 64 bits for each key, by its hash: most keys that are not here are told without a look at the entries.
    marks: u64,
    entries: Vec<u8>,
}

impl<const V: usize> Table<V> {
    fn new(key: usize) -> Self {
        Self { key, len: 0, buckets: vec![Bucket::default()] }
    }

    fn width(&self) -> usize {
        self.key + V
    }

    /// Where a key belongs: with 2ⁿ to 2ⁿ⁺¹ buckets, by the last n + 1 bits of its hash, or by n where that bucket is not open
    /// yet.
    fn bucket(&self, hash: u64) -> usize {
        let low = |bits: usize| usize::try_from(hash & (bits as u64)).unwrap_or(0);
        let mask = self.buckets.len().next_power_of_two() - 1;
        let bucket = low(mask);
        if bucket < self.buckets.len() { bucket } else { low(mask >> 1) }
    }

    fn get(&self, key: &[u8], hash: u64) -> Option<[u8; V]> {
        let bucket = &self.buckets[self.bucket(hash)];
        if bucket.marks & mark(hash) == 0 {
            return None;
        }
        bucket.entries.chunks_exact(self.width()).find(|entry| entry.starts_with(key)).map(value)
    }

    fn insert(&mut self, key: &[u8], value: [u8; V], state: &RandomState) -> bool {
        let (width, hash) = (self.width(), state.hash_one(key));
        let at = self.bucket(hash);
        let bucket = &mut self.buckets[at];
        if let Some(entry) = bucket.entries.chunks_exact_mut(width).find(|entry| entry.starts_with(key)) {
            entry[key.len()..].copy_from_slice(&value);
            return false;
        }
        if bucket.entries.capacity() - bucket.entries.len() < width {
            // For this one alone: a bucket is some hundred bytes, and room for a second in each would be a tenth of all.
            bucket.entries.reserve_exact(width);
        }
        bucket.entries.extend_from_slice(key);
        bucket.entries.extend_from_slice(&value);
        bucket.marks |= mark(hash);
        self.len += 1;
        if self.len > FULL * self.buckets.len() {
            self.split(state);
        }
        true
    }

    fn remove(&mut self, key: &[u8], state: &RandomState) -> bool {
        let (width, at) = (self.width(), self.bucket(state.hash_one(key)));
        let entries = &mut self.buckets[at].entries;
        let Some(place) = entries.chunks_exact(width).position(|entry| entry.starts_with(key)) else { return false };
        let last = entries.len() - width;
        entries.copy_within(last.., place * width);
        entries.truncate(last);
        if entries.capacity() - last > SPARE * width {
            entries.shrink_to(last + SPARE / 2 * width);
        }
        self.buckets[at].marks = self.marks(at, state);
        self.len -= 1;
        if self.buckets.len() > 1 && self.len < SPARSE * self.buckets.len() {
            self.join();
        }
        true
    }

    /// Opens one more bucket, and moves there what belongs there now.
    fn split(&mut self, state: &RandomState) {
        let (width, key, next) = (self.width(), self.key, self.buckets.len());
        let from = split_from(next);
        self.buckets.push(Bucket::default());
        let whole = std::mem::take(&mut self.buckets[from].entries);
        let goes = |entry: &&[u8]| self.bucket(state.hash_one(&entry[..key])) == next;
        let (gone, stays): (Vec<&[u8]>, Vec<_>) = whole.chunks_exact(width).partition(goes);
        (self.buckets[next].entries, self.buckets[from].entries) = (gone.concat(), stays.concat());
        (self.buckets[next].marks, self.buckets[from].marks) = (self.marks(next, state), self.marks(from, state));
    }

    /// Joins the last bucket to the one that it was split from.
    fn join(&mut self) {
        let Some(last) = self.buckets.pop() else { return };
        let open = self.buckets.len();
        let target = &mut self.buckets[split_from(open)];
        target.entries.reserve_exact(last.entries.len());
        target.entries.extend_from_slice(&last.entries);
        target.marks |= last.marks;
        if self.buckets.capacity() > 4 * open {
            self.buckets.shrink_to(2 * open);
        }
    }

    fn marks(&self, bucket: usize, state: &RandomState) -> u64 {
        let entries = self.buckets[bucket].entries.chunks_exact(self.width());
        entries.fold(0, |marks, entry| marks | mark(state.hash_one(&entry[..self.key])))
    }
}

/// The bit of a key, by bits of its hash that don't choose its bucket.
fn mark(hash: u64) -> u64 {
    1 << (hash >> 58)
}

/// The bucket that one was split from: its number without the highest bit. The first was not.
fn split_from(bucket: usize) -> usize {
    bucket.checked_ilog2().map_or(0, |bit| bucket ^ (1 << bit))
}

fn value<const V: usize>(entry: &[u8]) -> [u8; V] {
    entry.last_chunk().copied().unwrap_or([0; V])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn key(n: u32) -> Vec<u8> {
        // Three lengths side by side.
        let longer = [0, 14, 28][usize::try_from(n % 3).expect("fits")];
        [&n.to_be_bytes()[..], &[7; 28][..longer]].concat()
    }

    #[test]
    fn it_holds_what_an_ordinary_map_holds() {
        let (mut packed, mut model) = (Packed::<4>::default(), HashMap::new());
        let mut random = 1_u32;
        for step in 0..60_000_u32 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // More come than go, then more go than come.
            let key = key((random >> 8) % 4_000);
            if (random >> 20) % 100 < if step < 30_000 { 70 } else { 20 } {
                assert_eq!(packed.insert(&key, step.to_le_bytes()), model.insert(key, step).is_none());
            } else {
                assert_eq!(packed.remove(&key), model.remove(&key).is_some());
            }
            assert_eq!(packed.len(), model.len());
        }
        let mut all: Vec<_> = packed.iter().map(|(key, at)| (key.to_vec(), u32::from_le_bytes(at))).collect();
        let mut expected: Vec<_> = model.clone().into_iter().collect();
        all.sort_unstable();
        expected.sort_unstable();
        assert_eq!(all, expected);
        for n in 0..4_000 {
            assert_eq!(packed.get(&key(n)).map(u32::from_le_bytes), model.get(&key(n)).copied());
        }
        for key in model.keys() {
            assert!(packed.remove(key));
        }
        assert!(packed.is_empty());
        assert!(packed.tables.iter().all(|table| table.buckets.len() == 1), "what was opened is closed again");
    }

    #[test]
    fn a_key_is_found_whole() {
        let mut packed = Packed::<0>::default();
        assert!(packed.insert(b"abc", []));
        assert!(!packed.insert(b"abc", []), "held already");
        for other in [&b"ab"[..], b"abcd", b"abd", b""] {
            assert!(!packed.contains(other));
            assert!(!packed.remove(other));
        }
        assert!(!packed.insert(b"", []), "an empty key is none");
        assert_eq!(packed.iter().map(|(key, [])| key).collect::<Vec<_>>(), [b"abc"]);
    }

    #[test]
    fn buckets_stay_short() {
        let mut packed = Packed::<0>::default();
        for n in 0..100_000_u32 {
            packed.insert(&n.to_be_bytes(), []);
        }
        let longest = packed.tables[0].buckets.iter().map(|bucket| bucket.entries.len() / 4).max();
        assert!(longest < Some(64), "{longest:?}");
    }
}
