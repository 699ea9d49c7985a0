//! The bounded chain of headers of one network: what is canonical, how deep, and where a fork leaves it (invariant 6).

use std::collections::VecDeque;

use crate::id::{BlockRef, Header, Timestamp};

/// The newest headers of the chain that the engine accepted, linked by parent hash, lowest first.
#[derive(Clone, Debug)]
pub struct Heads {
    ring: VecDeque<Header>,
    horizon: usize,
}

/// Why blocks can't join the chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The parent of the first is not among the headers that are kept: a gap, or a reorg deeper than the horizon.
    #[error("block {} {} does not build on the chain kept, {bottom}..={head}", .block.height, .block.hash)]
    Unlinked {
        /// The block.
        block: BlockRef,
        /// The lowest height kept.
        bottom: u64,
        /// The highest.
        head: u64,
    },
    /// Two blocks that follow each other in the report don't in the chain.
    #[error("block {} {} does not name the block below it as its parent", .block.height, .block.hash)]
    Broken {
        /// The upper one.
        block: BlockRef,
    },
    /// The fork would undo a block that the chain itself called final.
    #[error("block {} {} forks below finalized height {finalized}", .block.height, .block.hash)]
    BelowFinalized {
        /// The block.
        block: BlockRef,
        /// The finalized height.
        finalized: u64,
    },
}

impl Heads {
    /// A chain that keeps `horizon` headers, restored from those it had.
    pub fn new(horizon: u32, headers: Vec<Header>) -> Self {
        let horizon = usize::try_from(horizon.max(1)).expect("a u32 fits a usize of 32 bits or more");
        Self { ring: headers.into(), horizon }
    }

    /// The newest block.
    pub fn head(&self) -> Option<&Header> {
        self.ring.back()
    }

    /// The oldest block that is kept. No fork may go below it.
    pub fn bottom(&self) -> Option<&Header> {
        self.ring.front()
    }

    /// The header at a height, if it is kept.
    pub fn at(&self, height: u64) -> Option<&Header> {
        let bottom = self.bottom()?.block.height;
        let index = usize::try_from(height.checked_sub(bottom)?).ok()?;
        self.ring.get(index)
    }

    /// The headers that are kept, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = &Header> {
        self.ring.iter()
    }

    /// The lowest block kept that states `time` or later.
    pub fn first_at_or_after(&self, time: Timestamp) -> Option<&Header> {
        self.iter().find(|header| header.time >= time)
    }

    /// Whether a block is on the chain, as far as can be told: below the bottom each block that a source vouches for is.
    pub fn holds(&self, block: &BlockRef) -> bool {
        match self.bottom() {
            None => false,
            Some(bottom) if block.height < bottom.block.height => true,
            Some(_) => self.at(block.height).is_some_and(|header| header.block.hash == block.hash),
        }
    }

    /// `head − height + 1`: the head has depth 1 (DESIGN §2); 0 above the head.
    pub fn depth_of(&self, height: u64) -> u64 {
        self.head().map_or(0, |head| (head.block.height + 1).saturating_sub(height))
    }

    /// The height up to which the chain stays when `headers` join it; everything above leaves. `None`: the chain is empty.
    ///
    /// # Errors
    /// If they don't link to the chain, or not to each other, or fork below `finalized`.
    pub fn fork_point(&self, headers: &[&Header], finalized: Option<u64>) -> Result<Option<u64>, LinkError> {
        for pair in headers.windows(2) {
            let (lower, upper) = (pair[0], pair[1]);
            if upper.parent != lower.block.hash || upper.block.height != lower.block.height + 1 {
                return Err(LinkError::Broken { block: upper.block.clone() });
            }
        }
        let (Some(first), Some(bottom), Some(head)) = (headers.first(), self.bottom(), self.head()) else {
            return Ok(None);
        };
        let parent = first.block.height.checked_sub(1).and_then(|height| self.at(height));
        let Some(parent) = parent.filter(|parent| parent.block.hash == first.parent) else {
            let (bottom, head) = (bottom.block.height, head.block.height);
            return Err(LinkError::Unlinked { block: first.block.clone(), bottom, head });
        };
        match finalized {
            Some(finalized) if parent.block.height < finalized.min(head.block.height) => {
                Err(LinkError::BelowFinalized { block: first.block.clone(), finalized })
            }
            _ => Ok(Some(parent.block.height)),
        }
    }

    /// Takes the newest block off.
    pub fn pop(&mut self) -> Option<Header> {
        self.ring.pop_back()
    }

    /// Puts a block on top; returns the one that falls out at the bottom.
    pub fn push(&mut self, header: Header) -> Option<Header> {
        self.ring.push_back(header);
        if self.ring.len() > self.horizon { self.ring.pop_front() } else { None }
    }
}
