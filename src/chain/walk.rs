//! From the chain that is kept to a tip: which blocks join, where a branch leaves, and when a network halts. The same for every
//! family whose blocks name their parents (invariant 6).

use std::collections::VecDeque;
use std::future::Future;

use super::Start;
use super::mirror::{Hash, Link, Mirror, Tip};
use super::pool::Answer;

/// Blocks that are fetched in one request while catching up.
const CHUNK: u64 = 50;
/// Blocks above our head that are fetched one by one, each by its child: where many are missing, the endpoint does not have them.
const PARENTS_MAX: usize = 50;

/// Why the chain is not followed any further for now.
#[derive(Debug)]
pub enum Hold {
    /// Until the next poll.
    Wait(String),
    /// Until the chain comes back, or the operator acts.
    Halt(String),
}

/// Where blocks are asked for from: by height, or by slot where nodes go by that.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub height: u64,
    /// At this slot or above.
    pub slot: u64,
}

impl At {
    /// Where each height has a slot of the same number.
    pub fn height(height: u64) -> Self {
        Self { height, slot: height }
    }
}

/// The blocks of a network, as its endpoints have them.
pub trait Chain: Sync {
    /// What a block is called.
    type Hash: Hash + Send + Sync;
    /// What is fetched of one.
    type Block: Send + Sync;

    /// Its place.
    fn link(block: &Self::Block) -> Link<Self::Hash>;
    /// The block below one.
    fn parent(&self, of: &Self::Block) -> impl Future<Output = Answer<Self::Block>> + Send;
    /// Consecutive blocks, as one endpoint has them, linked; fewer where it has no more.
    fn range(&self, start: usize, from: At, count: u64) -> impl Future<Output = Answer<Vec<Self::Block>>> + Send;
    /// How many endpoints beside one have a block at its height.
    fn agreeing(&self, beside: usize, link: &Link<Self::Hash>) -> impl Future<Output = usize> + Send;
    /// How many of these consecutive blocks, from the lowest on, `quorum` endpoints have. `supplier` counts as one, where all
    /// of them came from it.
    fn agreed_prefix(
        &self,
        supplier: Option<usize>,
        blocks: &[Self::Block],
        quorum: usize,
    ) -> impl Future<Output = usize> + Send;
}

/// What a tip leads to.
pub enum Step<B> {
    /// The head is the tip.
    Same,
    /// Linked blocks, lowest first, that join the chain.
    Take {
        /// Who supplied them, if one endpoint did.
        supplier: Option<usize>,
        /// The blocks.
        blocks: Vec<B>,
        /// The height of the tip.
        tip: u64,
    },
    /// Nothing joins.
    Hold(Hold),
}

/// The chain that is kept, and what was seen of others.
pub struct Walk<H> {
    pub mirror: Mirror<H>,
    look_back: u32,
    quorum: usize,
    /// The tip of a branch that is not longer than ours, seen in the last poll.
    fork_seen: Option<H>,
}

impl<H: Hash + Send + Sync> Walk<H> {
    /// From where the engine stands.
    pub fn new(start: &Start, horizon: u32, look_back: u32, quorum: usize) -> Self {
        Self { mirror: Mirror::new(start, horizon), look_back, quorum, fork_seen: None }
    }

    /// Whether a branch waits to be seen again.
    pub fn is_undecided(&self) -> bool {
        self.fork_seen.is_some()
    }

    /// What the blocks lead to that an endpoint has: its tip, or linked blocks that end with one. While `untold` says that
    /// something of the head is still to be told, only a branch may join.
    pub async fn step<C: Chain<Hash = H>>(
        &mut self,
        chain: &C,
        source: usize,
        above: Vec<C::Block>,
        untold: bool,
    ) -> Step<C::Block> {
        let Some(link) = above.last().map(C::link) else { return Step::Same };
        let judged = self.mirror.judge(&link);
        if !matches!(judged, Tip::Beyond) {
            self.fork_seen = None;
        }
        let taken = match judged {
            Tip::Same => return Step::Same,
            Tip::Below => Err(Hold::Wait(format!("the tip is block {}, below the head", link.height))),
            Tip::First if above.len() > 1 => Ok((Some(source), above)),
            Tip::First => self.anchor(chain, source, &link).await,
            Tip::Next if !untold && above.len() == 1 => Ok((Some(source), above)),
            Tip::Next | Tip::Beyond => self.branch(chain, source, above, untold).await,
        };
        let (supplier, mut blocks) = match taken {
            Ok(taken) => taken,
            Err(hold) => return Step::Hold(hold),
        };
        if self.quorum > 1 {
            let agreed = chain.agreed_prefix(supplier, &blocks, self.quorum).await;
            blocks.truncate(agreed);
        }
        if blocks.is_empty() {
            return Step::Hold(Hold::Wait(format!("fewer than {} endpoints agree on the next block", self.quorum)));
        }
        Step::Take { supplier, blocks, tip: link.height }
    }

    /// The very first blocks.
    async fn anchor<C: Chain<Hash = H>>(
        &self,
        chain: &C,
        source: usize,
        tip: &Link<H>,
    ) -> Result<(Option<usize>, Vec<C::Block>), Hold> {
        let look_back = u64::from(self.look_back);
        let from = At { height: tip.height.saturating_sub(look_back), slot: tip.slot.saturating_sub(look_back) };
        match chain.range(source, from, CHUNK.min(tip.height - from.height + 1)).await {
            Answer::Found(supplier, blocks) => Ok((Some(supplier), blocks)),
            other => Err(Hold::Wait(other.why_not("the first blocks"))),
        }
    }

    /// The blocks that lead from our chain to a tip, as far as one request carries, lowest first; and who supplied them, if
    /// one endpoint did.
    async fn branch<C: Chain<Hash = H>>(
        &mut self,
        chain: &C,
        source: usize,
        above: Vec<C::Block>,
        untold: bool,
    ) -> Result<(Option<usize>, Vec<C::Block>), Hold> {
        let Some(head) = self.mirror.head().copied() else { return Err(Hold::Wait("no chain yet".into())) };
        let tip_height = above.last().map_or(0, |tip| C::link(tip).height);
        let (supplier, above) = if above.len() == 1 && tip_height > head.height + 1 {
            let count = CHUNK.min(tip_height - head.height);
            match chain.range(source, At { height: head.height + 1, slot: head.slot + 1 }, count).await {
                Answer::Found(supplier, above) => (supplier, above),
                other => {
                    let what = format!("block {}, though one claims {tip_height}", head.height + 1);
                    return Err(Hold::Wait(other.why_not(&what)));
                }
            }
        } else {
            (source, above)
        };
        let lowest = C::link(&above[0]);
        let linked = lowest.parent == head.hash && lowest.height == head.height + 1;
        if linked && untold {
            return Err(Hold::Wait(format!("what block {} holds is not known yet", head.height)));
        }
        if linked {
            self.fork_seen = None;
            return Ok((Some(supplier), above));
        }
        // Parents may come from anybody: nobody counts as having supplied them.
        self.fork(chain, supplier, above, &head).await.map(|blocks| (None, blocks))
    }

    /// Walks a branch back, by hash, to the block that it shares with our chain.
    async fn fork<C: Chain<Hash = H>>(
        &mut self,
        chain: &C,
        source: usize,
        mut branch: Vec<C::Block>,
        head: &Link<H>,
    ) -> Result<Vec<C::Block>, Hold> {
        let tip = branch.last().map(C::link).ok_or_else(|| Hold::Wait("no block".into()))?;
        let mut below: VecDeque<C::Block> = VecDeque::new();
        let from = loop {
            let lowest = below.front().unwrap_or(&branch[0]);
            let link = C::link(lowest);
            let parent_height = link.height.saturating_sub(1);
            self.mirror.fork_allowed(parent_height).map_err(Hold::Halt)?;
            if self.mirror.holds(parent_height, link.parent) {
                break link.height;
            }
            if parent_height > head.height && below.len() >= PARENTS_MAX {
                return Err(Hold::Wait(format!("the blocks between {} and {} are missing", head.height, link.height)));
            }
            let parent = chain.parent(lowest).await;
            let parent = parent.found("a parent of its tip").map_err(Hold::Wait)?;
            if C::link(&parent).height != parent_height {
                return Err(Hold::Wait("a parent of another height".into()));
            }
            below.push_front(parent);
        };
        // A branch that is not longer may be one endpoint's opinion of the moment.
        let longer = tip.height > head.height;
        let again = self.fork_seen == Some(tip.hash);
        if !longer && !again && chain.agreeing(source, &tip).await == 0 {
            self.fork_seen = Some(tip.hash);
            return Err(Hold::Wait(format!("a branch to block {} waits to be seen again", tip.height)));
        }
        self.fork_seen = None;
        if from <= head.height {
            tracing::info!(from, to = tip.height, "reorg");
        }
        let mut whole: Vec<_> = below.into();
        whole.append(&mut branch);
        Ok(whole)
    }
}
