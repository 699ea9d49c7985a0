//! What the first transaction of a Bitcoin block says of the block's height (BIP 34).

use bitcoin::{Network, Script};

/// From which height on blocks must state theirs. Test networks have it from the start.
pub fn states_height_from(network: Network) -> u64 {
    match network {
        Network::Bitcoin => 227_931,
        Network::Testnet => 21_111,
        _ => 1,
    }
}

/// Whether a coinbase begins with a height, spelled as nodes demand it: the shortest push of the number. 1 to 16 have an
/// opcode each; BIP 34 itself spells them as pushes of a byte, which is taken as well.
pub fn states(script: &Script, height: u64) -> bool {
    let bytes = script.as_bytes();
    let opcode = u8::try_from(height).ok().filter(|height| (1..=16).contains(height)).map(|height| 0x50 + height);
    if opcode.is_some() && bytes.first() == opcode.as_ref() {
        return true;
    }
    let number = number(height);
    let Ok(length) = u8::try_from(number.len()) else { return false };
    bytes.split_first().is_some_and(|(first, rest)| *first == length && rest.starts_with(&number))
}

/// A number as scripts spell it: little-endian, and the highest bit is the sign.
fn number(value: u64) -> Vec<u8> {
    let mut bytes = value.to_le_bytes().to_vec();
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    if bytes.last().is_some_and(|last| last & 0x80 != 0) {
        bytes.push(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use bitcoin::ScriptBuf;

    use super::*;

    #[test]
    fn heights_are_spelled_as_nodes_spell_them() {
        let cases: [(u64, &[u8]); 13] = [
            (1, &[0x51, 0x00]),
            (1, &[0x01, 0x01]),
            (16, &[0x60, 0x00]),
            (16, &[0x01, 0x10]),
            (17, &[0x01, 0x11, 0x00]),
            (127, &[0x01, 0x7f]),
            (128, &[0x02, 0x80, 0x00]),
            (255, &[0x02, 0xff, 0x00]),
            (256, &[0x02, 0x00, 0x01]),
            (32_767, &[0x02, 0xff, 0x7f]),
            (32_768, &[0x03, 0x00, 0x80, 0x00]),
            (227_931, &[0x03, 0x5b, 0x7a, 0x03, 0xde, 0xad]),
            (840_000, &[0x03, 0x40, 0xd1, 0x0c]),
        ];
        for (height, bytes) in cases {
            assert!(states(&ScriptBuf::from_bytes(bytes.to_vec()), height), "{height}");
            for other in [height - 1, height + 1, height + 256, height << 8] {
                assert!(!states(&ScriptBuf::from_bytes(bytes.to_vec()), other), "{height} is not {other}");
            }
        }
        for bytes in [&[][..], &[0x01], &[0x03, 0x40, 0xd1], &[0x04, 0x40, 0xd1, 0x0c, 0x00], &[0x61]] {
            assert!(!states(&ScriptBuf::from_bytes(bytes.to_vec()), 840_000), "{bytes:?}");
            assert!(!states(&ScriptBuf::from_bytes(bytes.to_vec()), 17), "{bytes:?}");
        }
    }

    /// The constructor of rust-bitcoin pushes numbers as Bitcoin Core does.
    #[test]
    fn any_height_is_read_as_it_is_written() {
        for height in (0..5000).map(|n| n * 167 + 1) {
            let script = bitcoin::script::Builder::new().push_int(height).into_script();
            assert!(states(&script, u64::try_from(height).expect("positive")), "{height}");
        }
    }
}
