//! Headers, on the main network held to the difficulty of those below.

use std::collections::{HashMap, VecDeque};

use bitcoin::block::Header;
use bitcoin::{BlockHash, Network};
use h402_watch_verify::proof::work;

use super::super::header::Placed;

/// Headers that are kept beside the chain, to check proofs against; 80 bytes each.
const KEPT_MAX: usize = 8192;

impl Placed {
    /// Whether it has at least the work that the main network asks for since 2021: what a first header is held to, which builds
    /// on none that is known.
    pub fn is_recent(&self) -> bool {
        work::is_recent(&self.header)
    }

    /// Whether its difficulty may follow that of the header below; only the main network's rule is known.
    pub fn may_follow(&self, below: &Header, network: Network) -> bool {
        work::may_follow(&self.header, self.link.height, below, network)
    }
}

/// Headers by hash, the newest that were fetched.
#[derive(Default)]
pub struct Headers {
    by_hash: HashMap<BlockHash, Header>,
    order: VecDeque<BlockHash>,
}

impl Headers {
    /// One of those kept.
    pub fn get(&self, hash: BlockHash) -> Option<Header> {
        self.by_hash.get(&hash).copied()
    }

    /// Keeps one.
    pub fn keep(&mut self, placed: &Placed) {
        let hash = placed.link.hash;
        if self.by_hash.insert(hash, placed.header).is_none() {
            self.order.push_back(hash);
        }
        if self.order.len() > KEPT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_hash.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::text::Link;
    use super::*;

    fn at(height: u64, bits: u32) -> Placed {
        let mut header = bitcoin::constants::genesis_block(Network::Bitcoin).header;
        header.bits = bitcoin::CompactTarget::from_consensus(bits);
        let link = Link { height, hash: header.block_hash(), parent: header.prev_blockhash, time: 0, slot: height };
        Placed { link, header }
    }

    #[test]
    fn difficulty_changes_at_its_heights_only_and_within_a_factor_of_four() {
        let below = at(4031, 0x1b04_04cb);
        for (height, bits, fits) in [
            (4031, 0x1b04_04cb, true),
            (4031, 0x1b04_04ca, false),
            (4032, 0x1b04_04ca, true),
            // A quarter, rounded towards zero; and a little less.
            (4032, 0x1b01_0132, true),
            (4032, 0x1b01_0131, false),
            (4032, 0x1b10_132c, true),
            (4032, 0x1b10_132d, false),
        ] {
            assert_eq!(at(height, bits).may_follow(&below.header, Network::Bitcoin), fits, "{height} {bits:x}");
            assert!(at(height, bits).may_follow(&below.header, Network::Regtest));
        }
    }

    #[test]
    fn a_first_header_is_not_of_the_early_days() {
        assert!(at(1, 0x1702_0000).is_recent());
        assert!(!at(1, 0x1710_0001).is_recent());
        assert!(!at(1, 0x207f_ffff).is_recent());
    }
}
