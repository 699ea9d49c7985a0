//! The work that the headers of the main network of Bitcoin must show. A target is met by whoever chooses it: what a header may ask
//! follows from the one below, and of the lowest one from its height and its time.

use bitcoin::block::Header;
use bitcoin::{Network, Target};

/// How often the difficulty changes, blocks (consensus: `DifficultyAdjustmentInterval`).
const RETARGET: u64 = 2016;

/// From which height on every block of the main network has had at least which difficulty, as a power of two. They are the
/// difficulties that stand in its headers, rounded down well below what they fell to since: 14,484 in block 100,000; 2.86 million
/// in block 200,000; 8.0 billion in block 300,000; 158 billion in block 401,184; 1.87 trillion in block 500,000; 12.7 trillion in
/// the autumn of 2019; 18.4 trillion in block 699,552. The last is also what [`is_recent`] asks.
const LEAST: [(u64, u32); 7] =
    [(700_000, 44), (600_000, 43), (500_000, 40), (400_000, 37), (300_000, 32), (200_000, 21), (100_000, 13)];
/// October 2021, seconds: by then block 700,000 was three weeks old. A block that states a later time is not of an easier age.
const RECENT: u32 = 1_633_046_400;
const RECENT_BITS: u32 = 44;

/// Whether a header has the work that all blocks of the main network have had since the summer of 2021, wherever it says it stands.
pub fn is_recent(header: &Header) -> bool {
    header.target() <= easiest(RECENT_BITS)
}

/// Whether a header has the work that blocks of its height and its time had; only the main network's is known.
pub fn is_of_its_age(header: &Header, height: u64, network: Network) -> bool {
    if network != Network::Bitcoin {
        return true;
    }
    let at_height = LEAST.iter().find(|(from, _)| *from <= height).map_or(0, |(_, bits)| *bits);
    let bits = if header.time >= RECENT { at_height.max(RECENT_BITS) } else { at_height };
    header.target() <= easiest(bits)
}

/// The target of a difficulty of 2^`bits`: difficulty 1 is a target of 2^224, but for a 65,536th.
fn easiest(bits: u32) -> Target {
    let mut bytes = [0; 32];
    let bit = 224_u32.saturating_sub(bits);
    let at = usize::try_from(31 - bit / 8).unwrap_or_default();
    if let Some(byte) = bytes.get_mut(at) {
        *byte = 1 << (bit % 8);
    }
    Target::from_be_bytes(bytes)
}

/// Whether a header at a height may follow the one below, by its difficulty: the main network changes it at its heights only, and
/// within a factor of 4. The rules of the others are not known here.
pub fn may_follow(header: &Header, height: u64, below: &Header, network: Network) -> bool {
    if network != Network::Bitcoin {
        return true;
    }
    if !height.is_multiple_of(RETARGET) {
        return header.bits == below.bits;
    }
    let before = below.target();
    // What is written down is rounded towards zero.
    let least = Target::from_compact(before.min_transition_threshold().to_compact_lossy());
    let (target, most) = (header.target(), before.max_transition_threshold_unchecked());
    target >= least && target <= most && target <= Target::MAX_ATTAINABLE_MAINNET
}

/// Why work proves little on a network, if it does.
pub fn proves_little(network: Network) -> Option<&'static str> {
    match network {
        Network::Bitcoin => None,
        Network::Signet => {
            Some("work proves little on signet, whose blocks are signed, not mined, and the signature is not shown")
        }
        _ => Some("work proves little on a test network, where anybody can make blocks of so little"),
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::CompactTarget;

    use super::*;

    fn of(bits: u32, time: u32) -> Header {
        let genesis = bitcoin::constants::genesis_block(Network::Bitcoin).header;
        Header { bits: CompactTarget::from_consensus(bits), time, ..genesis }
    }

    #[test]
    fn difficulty_changes_at_its_heights_only_and_within_a_factor_of_four() {
        for (height, bits, fits) in [
            (4031, 0x1b04_04cb, true),
            (4031, 0x1b04_04ca, false),
            (4031, 0x1d00_ffff, false),
            (4033, 0x1d00_ffff, false),
            (4032, 0x1b04_04ca, true),
            (4032, 0x1b01_0132, true),
            (4032, 0x1b01_0131, false),
            (4032, 0x1b10_132c, true),
            (4032, 0x1b10_132d, false),
            (4032, 0x1d00_ffff, false),
        ] {
            let (header, below) = (of(bits, 0), of(0x1b04_04cb, 0));
            assert_eq!(may_follow(&header, height, &below, Network::Bitcoin), fits, "{height} {bits:x}");
            assert!(may_follow(&header, height, &below, Network::Regtest));
        }
        // Nor is it ever easier than at the start.
        assert!(!may_follow(&of(0x1d01_fffe, 0), 2016, &of(0x1d00_ffff, 0), Network::Bitcoin));
    }

    /// The bits are those of the main network's blocks.
    #[test]
    fn blocks_are_as_hard_as_those_of_their_age() {
        let genuine = [
            (0, 0x1d00_ffff),
            (32_256, 0x1d00_d86a),
            (100_000, 0x1b04_864c),
            (300_000, 0x1900_896c),
            (500_000, 0x1800_9645),
            (700_000, 0x170f_48e4),
            (840_000, 0x1703_4219),
        ];
        for (height, bits) in genuine {
            assert!(is_of_its_age(&of(bits, 0), height, Network::Bitcoin), "{height} {bits:x}");
        }
        for (from, bits) in LEAST {
            let easier = of(easiest(bits - 1).to_compact_lossy().to_consensus(), 0);
            assert!(!is_of_its_age(&easier, from, Network::Bitcoin), "{from}");
            assert!(!is_of_its_age(&of(0x1d00_ffff, 0), from + 7, Network::Bitcoin), "{from}");
            assert!(is_of_its_age(&of(0x207f_ffff, 0), from, Network::Regtest));
        }
        // A height of long ago, and a time of today.
        assert!(is_of_its_age(&of(0x1d00_ffff, 1_600_000_000), 5000, Network::Bitcoin));
        assert!(!is_of_its_age(&of(0x1d00_ffff, 1_700_000_000), 5000, Network::Bitcoin));
        assert!(is_of_its_age(&of(0x1703_4219, 1_700_000_000), 840_000, Network::Bitcoin));
    }

    #[test]
    fn easiest_targets_are_powers_of_two() {
        assert_eq!(easiest(44), Target::from_compact(CompactTarget::from_consensus(0x1710_0000)));
        assert_eq!(easiest(0), Target::from_compact(CompactTarget::from_consensus(0x1d01_0000)));
    }
}
