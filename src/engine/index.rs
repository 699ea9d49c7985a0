//! Which watches go with what: sets of ordinals by a fingerprint of whatever they are found by.
//!
//! A million watches are found by three names each; as texts those would take more room than the watches.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::network::Ordinal;

/// Half a SHA-256. Nobody can make two texts with the same: that would take 2^64 attempts, for texts of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fingerprint([u8; 16]);

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

/// Sets of watches. A tree, which never has to grow all at once, and has an order of its own.
#[derive(Default)]
pub(crate) struct Index(BTreeSet<(Fingerprint, Ordinal)>);

impl Index {
    /// Adds a watch. Returns whether it is the first.
    pub(crate) fn insert(&mut self, at: Fingerprint, watch: Ordinal) -> bool {
        let first = self.at(at).next().is_none();
        self.0.insert((at, watch));
        first
    }

    /// Takes a watch out. Returns whether it was the last.
    pub(crate) fn remove(&mut self, at: Fingerprint, watch: Ordinal) -> bool {
        self.0.remove(&(at, watch)) && self.at(at).next().is_none()
    }

    /// The watches, oldest first.
    pub(crate) fn at(&self, at: Fingerprint) -> impl Iterator<Item = Ordinal> {
        self.0.range((at, Ordinal::MIN)..=(at, Ordinal::MAX)).map(|(_, watch)| *watch)
    }

    /// How many entries it has.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
