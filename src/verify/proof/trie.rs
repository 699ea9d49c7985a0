//! Paths in a trie of Ethereum, from its root to a leaf. The nodes come from whoever made the proof: nothing here may fail on
//! what they hold, and all of them must be of use.

use alloy_primitives::{B256, keccak256};
use alloy_rlp::{Header, PayloadView};

/// The leaf of a list's item: its key is the RLP of its place.
///
/// # Errors
/// Why the nodes don't lead there.
pub fn leaf(root: B256, index: u64, nodes: &[Vec<u8>]) -> Result<Vec<u8>, String> {
    let key: Vec<u8> = alloy_rlp::encode(index).into_iter().flat_map(|byte| [byte >> 4, byte & 0xf]).collect();
    let (mut rest, mut expected) = (&key[..], root);
    for (n, node) in nodes.iter().enumerate() {
        if keccak256(node) != expected {
            return Err(format!("node {n} is not the one that the node above names"));
        }
        match step(node, rest).ok_or_else(|| format!("node {n} does not lead to place {index}"))? {
            Step::Down { hash, key } => (expected, rest) = (hash, key),
            Step::Leaf(value) if n + 1 == nodes.len() => return Ok(value),
            Step::Leaf(_) => return Err(format!("nodes behind the leaf of place {index}")),
        }
    }
    Err(format!("the nodes end above the leaf of place {index}"))
}

enum Step<'k> {
    /// On to the node of that hash, with what is left of the key.
    Down { hash: B256, key: &'k [u8] },
    /// The key ends here.
    Leaf(Vec<u8>),
}

/// Follows a key through a node: a branch of 16 children and a value, or a path and what is at its end.
fn step<'k>(node: &[u8], key: &'k [u8]) -> Option<Step<'k>> {
    match &items(node)?[..] {
        [path, end] => {
            let path = text(path)?;
            let (first, others) = path.split_first()?;
            let (flags, odd) = (first >> 4, (first & 0x10 != 0).then_some(first & 0xf));
            let nibbles = odd.into_iter().chain(others.iter().flat_map(|byte| [byte >> 4, byte & 0xf]));
            let nibbles: Vec<u8> = nibbles.collect();
            let rest = key.strip_prefix(&nibbles[..])?;
            match flags {
                0 | 1 if !nibbles.is_empty() => follow(end, rest),
                2 | 3 if rest.is_empty() => Some(Step::Leaf(text(end)?)),
                _ => None,
            }
        }
        branch if branch.len() == 17 => {
            let (next, rest) = key.split_first()?;
            follow(branch.get(usize::from(*next))?, rest)
        }
        _ => None,
    }
}

/// A child is named by its hash, or stands in its parent if it is shorter than one.
fn follow<'k>(child: &[u8], key: &'k [u8]) -> Option<Step<'k>> {
    match text(child) {
        Some(hash) => Some(Step::Down { hash: B256::try_from(&hash[..]).ok()?, key }),
        None if child.len() < 32 => step(child, key),
        None => None,
    }
}

/// The items of an RLP list, each with its own header, if the bytes are one list and nothing else.
pub fn items(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    match Header::decode_raw(&mut bytes).ok()? {
        PayloadView::List(items) if bytes.is_empty() => Some(items),
        _ => None,
    }
}

/// What an RLP item holds, if it is no list.
pub fn text(mut item: &[u8]) -> Option<Vec<u8>> {
    match Header::decode_raw(&mut item).ok()? {
        PayloadView::String(text) if item.is_empty() => Some(text.to_vec()),
        _ => None,
    }
}
