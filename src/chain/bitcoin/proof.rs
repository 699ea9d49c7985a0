//! Inclusion proofs: a transaction's branch of the tree whose root the header holds, beside that of the block's coinbase
//! (`proto/artefacts/README.md` says why).

use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::{Transaction, Witness};
use h402_watch_engine::proof::{Part, Proof};
use h402_watch_verify::proof::NODE_BYTES;

use super::block::Decoded;

const AMBIGUOUS: &str = "a transaction of 64 bytes may be an inner node of its block's tree: no branch proves it";

/// A transaction's place in its block, and what shows it.
pub struct Leaf<'a> {
    /// The transaction.
    pub tx: &'a Transaction,
    /// Its place, from 0.
    pub index: usize,
    /// Its siblings, from the leaf up.
    pub branch: Vec<sha256d::Hash>,
}

/// The proof of a leaf, beside the coinbase of its block.
pub fn prove(header: &Header, leaf: &Leaf<'_>, coinbase: &Leaf<'_>) -> Proof {
    if leaf.tx.base_size() == NODE_BYTES || coinbase.tx.base_size() == NODE_BYTES {
        return Proof::none(AMBIGUOUS);
    }
    let nodes = |leaf: &Leaf<'_>| Part::List(leaf.branch.iter().map(|node| node.to_byte_array().to_vec()).collect());
    Proof::new(
        "bitcoin",
        [
            ("header", Part::Bytes(serialize(header))),
            ("index", Part::Number(u64::try_from(leaf.index).unwrap_or(u64::MAX))),
            ("branch", nodes(leaf)),
            ("transaction", Part::Bytes(stripped(leaf.tx))),
            ("coinbase", Part::Bytes(stripped(coinbase.tx))),
            ("coinbaseBranch", nodes(coinbase)),
        ],
    )
}

/// The tree over a block's transactions.
pub struct Tree<'a> {
    block: &'a Decoded,
    /// Its levels, leaves first, without the root.
    levels: Vec<Vec<sha256d::Hash>>,
}

impl<'a> Tree<'a> {
    /// The tree of a block.
    pub fn of(block: &'a Decoded) -> Self {
        let mut level: Vec<_> = block.txids.iter().map(|txid| txid.to_raw_hash()).collect();
        let mut levels = Vec::new();
        while level.len() > 1 {
            // What has no sibling is its own.
            let pair = |pair: &[sha256d::Hash]| {
                sha256d::Hash::hash(&[pair[0].to_byte_array(), pair[pair.len() - 1].to_byte_array()].concat())
            };
            let above = level.chunks(2).map(pair).collect();
            levels.push(std::mem::replace(&mut level, above));
        }
        Self { block, levels }
    }

    /// The proof of one of its transactions.
    pub fn prove(&self, index: usize) -> Proof {
        prove(&self.block.block.header, &self.leaf(index), &self.leaf(0))
    }

    fn leaf(&self, index: usize) -> Leaf<'a> {
        let sibling = |(level, nodes): (usize, &Vec<sha256d::Hash>)| {
            let place = index >> level;
            nodes.get(place ^ 1).or_else(|| nodes.get(place)).copied()
        };
        let branch = self.levels.iter().enumerate().filter_map(sibling).collect();
        Leaf { tx: &self.block.block.txdata[index], index, branch }
    }
}

/// A transaction without its witnesses: what its txid is the hash of.
fn stripped(tx: &Transaction) -> Vec<u8> {
    let mut tx = tx.clone();
    for input in &mut tx.input {
        input.witness = Witness::new();
    }
    serialize(&tx)
}
