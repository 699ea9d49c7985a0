//! Headers below those that are kept. Work alone would not do: a header that claims little work is free to make. Each is linked,
//! by its hash, to the lowest that is kept.

use std::collections::VecDeque;

use bitcoin::BlockHash;

use super::super::header::Placed;
use super::follow::Follower;
use crate::chain::walk::{At, Chain as _};

/// How far below the kept headers payments are looked for, blocks: 139 days, more than a watch may look back by default.
pub const DEEPEST: u64 = 20_000;
/// Headers that are asked for at once; servers give 2,016.
const AT_ONCE: u64 = 2_000;

/// Headers below the lowest that is kept, the highest first, each the parent of the one before it.
#[derive(Default)]
pub struct Below {
    headers: VecDeque<Placed>,
}

impl Below {
    fn lowest(&self) -> Option<&Placed> {
        self.headers.back()
    }

    fn at(&self, height: u64) -> Option<Placed> {
        let top = self.headers.front()?.link.height;
        self.headers.get(usize::try_from(top.checked_sub(height)?).ok()?).copied()
    }
}

impl Follower {
    /// The lowest height at which payments are looked for.
    pub(super) fn deepest(&self) -> u64 {
        self.walk.mirror.bottom().map_or(0, |bottom| bottom.height.saturating_sub(DEEPEST))
    }

    /// The header at a height below those that are kept.
    pub(super) async fn header_below(&mut self, server: usize, height: u64) -> Result<Placed, String> {
        let Some(bottom) = self.walk.mirror.bottom().copied() else { return Err("no chain yet".into()) };
        if height < self.deepest() {
            return Err(format!("block {height} lies deeper than is looked"));
        }
        self.close_gap(server, bottom.height, bottom.parent).await?;
        loop {
            let (lowest, parent) =
                self.below.lowest().map_or((bottom.height, bottom.parent), |it| (it.link.height, it.link.parent));
            if lowest <= height {
                break;
            }
            let from = height.max(lowest.saturating_sub(AT_ONCE));
            let above = self.below.lowest().copied();
            let linked = self.linked(server, from, lowest, parent).await?;
            let network = self.servers.network();
            let mut above = above;
            for placed in linked.iter().rev() {
                if above.is_some_and(|above| !above.may_follow(&placed.header, network)) {
                    return Err(self.servers.at(server).blame("a block of a difficulty that can't be"));
                }
                above = Some(*placed);
            }
            self.below.headers.extend(linked.into_iter().rev());
        }
        self.below.at(height).ok_or_else(|| format!("no header at {height}"))
    }

    /// The kept headers move up: what fell out below them comes on top.
    async fn close_gap(&mut self, server: usize, bottom: u64, parent: BlockHash) -> Result<(), String> {
        let Some(top) = self.below.headers.front().copied() else { return Ok(()) };
        if top.link.hash == parent {
            return Ok(());
        }
        let from = top.link.height + 1;
        if from < bottom && bottom - from <= AT_ONCE {
            let linked = self.linked(server, from, bottom, parent).await?;
            if linked.first().is_some_and(|lowest| lowest.link.parent == top.link.hash) {
                linked.into_iter().for_each(|placed| self.below.headers.push_front(placed));
                return Ok(());
            }
        }
        self.below = Below::default();
        Ok(())
    }

    /// Consecutive headers from a height up to another, the last of which has this hash.
    async fn linked(&mut self, server: usize, from: u64, to: u64, last: BlockHash) -> Result<Vec<Placed>, String> {
        let linked = self.servers.range(server, At::height(from), to - from).await.found("headers")?;
        let whole = u64::try_from(linked.len()).is_ok_and(|count| count == to - from);
        if whole && linked.last().is_some_and(|placed| placed.link.hash == last) {
            Ok(linked)
        } else {
            Err("headers that don't lead to ours".into())
        }
    }
}
