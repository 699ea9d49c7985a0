//! The source's copy of the chain that the engine holds, and what a tip means for it.
//!
//! Only what links to this chain by parent hash is ever reported, so the engine is never told of a block that it can't place.

use std::collections::VecDeque;
use std::sync::Arc;

use h402_watch_engine::id::{BlockHash, BlockRef, Header, Timestamp};

use crate::chain::Start;

/// A block hash in the bytes of its chain family.
pub trait Hash: Copy + Eq {
    /// Reads its canonical spelling.
    fn parse(text: &BlockHash) -> Option<Self>;
    /// Spells it.
    fn spell(self) -> BlockHash;
}

/// A header as the mirror keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<H> {
    pub height: u64,
    pub hash: H,
    pub parent: H,
    /// Seconds.
    pub time: u64,
    /// The number under which nodes find it ([`Header::slot`]).
    pub slot: u64,
}

impl<H: Hash> Link<H> {
    pub fn block_ref(&self) -> BlockRef {
        BlockRef { height: self.height, hash: self.hash.spell() }
    }

    pub fn header(&self) -> Header {
        self.header_of(Arc::default())
    }

    /// The same, with the bytes that its hash is the hash of.
    pub fn header_of(&self, bytes: Arc<[u8]>) -> Header {
        let (block, parent) = (self.block_ref(), self.parent.spell());
        Header { block, parent, time: self.timestamp(), slot: self.slot, bytes }
    }

    pub fn timestamp(&self) -> Timestamp {
        Timestamp(self.time.saturating_mul(1000))
    }
}

/// What a tip is for the chain that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tip {
    /// No chain is kept yet.
    First,
    /// The head itself.
    Same,
    /// A lower block of the chain: the endpoint lags, or has rolled back and has nothing new yet.
    Below,
    /// The next block.
    Next,
    /// Blocks in between are missing, or it is on another branch.
    Beyond,
}

/// The newest links, lowest first.
pub struct Mirror<H> {
    ring: VecDeque<Link<H>>,
    horizon: usize,
    finalized: Option<u64>,
}

impl<H: Hash> Mirror<H> {
    /// As the engine has it.
    pub fn new(start: &Start, horizon: u32) -> Self {
        let link = |header: &Header| {
            let (hash, parent) = (H::parse(&header.block.hash)?, H::parse(&header.parent)?);
            Some(Link { height: header.block.height, hash, parent, time: header.time.0 / 1000, slot: header.slot })
        };
        Self {
            ring: start.headers.iter().filter_map(link).collect(),
            horizon: usize::try_from(horizon.max(1)).unwrap_or(usize::MAX),
            finalized: start.finality.finalized,
        }
    }

    pub fn head(&self) -> Option<&Link<H>> {
        self.ring.back()
    }

    pub fn bottom(&self) -> Option<&Link<H>> {
        self.ring.front()
    }

    pub fn at(&self, height: u64) -> Option<&Link<H>> {
        let index = height.checked_sub(self.bottom()?.height)?;
        self.ring.get(usize::try_from(index).ok()?)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Link<H>> {
        self.ring.iter()
    }

    /// Whether a block is one of those kept.
    pub fn holds(&self, height: u64, hash: H) -> bool {
        self.at(height).is_some_and(|link| link.hash == hash)
    }

    /// Notes the finalized height: no fork below it is taken.
    pub fn finalize(&mut self, height: u64) {
        self.finalized = self.finalized.max(Some(height));
    }

    pub fn finalized(&self) -> Option<u64> {
        self.finalized
    }

    pub fn judge(&self, tip: &Link<H>) -> Tip {
        let Some(head) = self.head() else { return Tip::First };
        if tip.hash == head.hash {
            Tip::Same
        } else if self.holds(tip.height, tip.hash) {
            Tip::Below
        } else if tip.parent == head.hash && tip.height == head.height + 1 {
            Tip::Next
        } else {
            Tip::Beyond
        }
    }

    /// Whether a branch that builds on `parent` at `height` may be taken; says why not.
    pub fn fork_allowed(&self, height: u64) -> Result<(), String> {
        let bottom = self.bottom().map_or(0, |link| link.height);
        if height < bottom {
            return Err(format!("the chain forked below block {bottom}, the lowest that is kept"));
        }
        match self.finalized {
            Some(finalized) if height < finalized => {
                Err(format!("the chain forked at block {height}, below block {finalized}, which was final"))
            }
            _ => Ok(()),
        }
    }

    /// Takes linked blocks, as the engine will.
    pub fn extend(&mut self, links: &[Link<H>]) {
        let Some(first) = links.first() else { return };
        while self.ring.back().is_some_and(|head| head.height >= first.height) {
            self.ring.pop_back();
        }
        for link in links {
            self.ring.push_back(*link);
            if self.ring.len() > self.horizon {
                self.ring.pop_front();
            }
        }
    }
}
