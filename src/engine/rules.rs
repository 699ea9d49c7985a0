//! What the operator sets: how a network is judged, and how much the engine holds.

use crate::descriptor::Derive;
use crate::id::NetworkId;
use crate::request::Tag;

/// How one network is followed and judged.
#[derive(Clone, Debug)]
pub struct NetworkRules {
    /// The network.
    pub network: NetworkId,
    /// How many headers are kept: the deepest reorg that is followed, the largest depth that can be asked, and when a
    /// receipt is final.
    pub horizon: u32,
    /// The tags that this network knows.
    pub tags: Vec<Tag>,
    /// Whether its source can search for payments below the headers that are kept.
    pub searches_below: bool,
    /// How its descriptors derive addresses, if it has descriptors.
    pub derive: Option<Derive>,
    /// Whether artefacts carry inclusion proofs where a request does not say.
    pub proofs: bool,
    /// How long after a deadline blocks that state an earlier time are waited for, ms.
    pub deadline_grace_ms: u64,
    /// How long after a failed or partial outcome late transfers are reported, ms.
    pub late_window_ms: u64,
}

/// How much the engine holds and accepts (invariant 11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Watches in memory at once; the next one is refused.
    pub watches_max: usize,
    /// How far ahead a deadline may lie, ms.
    pub lifetime_max_ms: u64,
    /// How old a payment may be when its watch is made, ms. Claims are kept at least as long, or one transfer could pay
    /// twice.
    pub proof_age_max_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        Self { watches_max: 2_000_000, lifetime_max_ms: 90 * DAY_MS, proof_age_max_ms: 30 * DAY_MS }
    }
}
