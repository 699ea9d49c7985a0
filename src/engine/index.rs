//! Which watches go with what: sets of ordinals by a fingerprint of whatever they are found by.
//!
//! A million watches are found by three names each; as texts those would take more room than the watches.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::network::Ordinal;

/// Half a SHA-256. Nobody can make two texts with the same: that would take 2^64 attempts, for texts of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 16]);

/// As one number, in the same order: byte by byte, comparing took most of a search.
impl Ord for Fingerprint {
    fn cmp(&self, other: &Self) -> Ordering {
        u128::from_be_bytes(self.0).cmp(&u128::from_be_bytes(other.0))
    }
}

impl PartialOrd for Fingerprint {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Fingerprint {
    /// Of a kind of name, and of the texts that it is made of; where one ends and the next begins counts.
    pub(crate) fn of(kind: u8, parts: &[&str]) -> Self {
        let mut hash = Sha256::new_with_prefix([kind]);
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut half = [0; 16];
        half.copy_from_slice(&hash.finalize()[..16]);
        Self(half)
    }
}

/// An ordinal in the order of its bytes, in as many as leave a node of the tree in 256 bytes: with eight it would take 320.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Short([u8; 6]);

impl Short {
    const MIN: Self = Self([0; 6]);

    fn of(ordinal: Ordinal) -> Self {
        let [0, 0, short @ ..] = ordinal.to_be_bytes() else {
            unreachable!("a million watches a second make 2^48 of them in nine years");
        };
        Self(short)
    }

    fn ordinal(self) -> Ordinal {
        let [a, b, c, d, e, f] = self.0;
        Ordinal::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

/// Sets of watches. A tree, which never has to grow all at once, and has an order of its own.
#[derive(Default)]
pub(crate) struct Index(BTreeSet<(Fingerprint, Short)>);

impl Index {
    /// Adds a watch. Returns whether it is the first.
    pub(crate) fn insert(&mut self, at: Fingerprint, watch: Ordinal) -> bool {
        let first = self.at(at).next().is_none();
        self.0.insert((at, Short::of(watch)));
        first
    }

    /// Takes a watch out. Returns whether it was the last.
    pub(crate) fn remove(&mut self, at: Fingerprint, watch: Ordinal) -> bool {
        self.0.remove(&(at, Short::of(watch))) && self.at(at).next().is_none()
    }

    /// The watches, oldest first.
    pub(crate) fn at(&self, at: Fingerprint) -> impl Iterator<Item = Ordinal> {
        let from = self.0.range((at, Short::MIN)..);
        from.take_while(move |(found, _)| *found == at).map(|(_, watch)| watch.ordinal())
    }

    /// How many entries it has.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_are_found_oldest_first() {
        let mut index = Index::default();
        let (one, other) = (Fingerprint::of(0, &["one"]), Fingerprint::of(0, &["other"]));
        let watches = [0, 1, 255, 256, 65_535, 65_536, 1 << 32, (1 << 48) - 1];
        assert!(watches.iter().rev().map(|watch| index.insert(one, *watch)).eq([true].into_iter().chain([false; 7])));
        assert!(index.insert(other, 300));
        assert!(index.at(one).eq(watches));
        assert!(!index.remove(one, 300), "it has another name");
        assert!(watches.iter().map(|watch| index.remove(one, *watch)).eq([false; 7].into_iter().chain([true])));
        assert!(index.at(one).next().is_none() && index.at(other).eq([300]));
    }
}
