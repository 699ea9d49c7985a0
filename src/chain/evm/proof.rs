//! Inclusion proofs: that a transaction and its receipt are under the roots of a header (`proto/artefacts/README.md`).
//!
//! A receipt does not name its transaction, so both are proven, under the same index. What roots can't be recomputed prove nothing:
//! then the proof says that there is none.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use alloy_primitives::B256;
use alloy_trie::proof::ProofRetainer;
use alloy_trie::root::adjust_index_for_rlp;
use alloy_trie::{HashBuilder, Nibbles};
use h402_watch_engine::proof::{Part, Proof};

/// Bytes of encodings that are kept, of the blocks that were fetched last: a look-up goes over many.
const KEPT_BYTES_MAX: usize = 64 << 20;

const NO_ROOTS: &str =
    "the roots of this chain's headers can't be recomputed from what its nodes answer: see verification";
/// Why a difference of balances has no proof.
pub const NO_TRANSACTION: &str = "a difference of balances is in no transaction, and under no root that is checked";

/// The nodes of a trie from its root to a leaf.
type Branch = Vec<Vec<u8>>;

/// What a block's roots are the roots of: EIP-2718 encodings, in order.
pub type Encodings = Arc<Vec<Vec<u8>>>;

/// The encodings of one block.
#[derive(Clone, Default)]
pub struct Leaves {
    /// Of its receipts.
    pub receipts: Option<Encodings>,
    /// Of its transactions.
    pub transactions: Option<Encodings>,
}

impl Leaves {
    fn bytes(&self) -> usize {
        let both = [&self.receipts, &self.transactions].into_iter().flatten();
        both.flat_map(|encodings| encodings.iter()).map(|one| one.len() + size_of::<Vec<u8>>()).sum()
    }
}

/// The encodings of the blocks that were fetched last, while somebody wants proofs.
#[derive(Default)]
pub struct Kept {
    blocks: HashMap<B256, Leaves>,
    order: VecDeque<B256>,
    bytes: usize,
    /// Whether somebody wants proofs.
    wanted: bool,
}

impl Kept {
    /// Begins to keep encodings, or lets go of them.
    pub fn want(&mut self, wanted: bool) {
        if self.wanted && !wanted {
            *self = Self::default();
        }
        self.wanted = wanted;
    }

    /// Keeps more of a block.
    pub fn add(&mut self, block: B256, more: Leaves) {
        if !self.wanted {
            return;
        }
        let known = self.blocks.remove(&block);
        if known.is_none() {
            self.order.push_back(block);
        }
        let known = known.unwrap_or_default();
        self.bytes -= known.bytes();
        let leaves = Leaves {
            receipts: more.receipts.or(known.receipts),
            transactions: more.transactions.or(known.transactions),
        };
        self.bytes += leaves.bytes();
        self.blocks.insert(block, leaves);
        while self.bytes > KEPT_BYTES_MAX && self.order.len() > 1 {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.blocks.remove(&oldest).map_or(0, |leaves| leaves.bytes());
        }
    }

    /// Those of a block.
    pub fn of(&self, block: B256) -> Leaves {
        self.blocks.get(&block).cloned().unwrap_or_default()
    }
}

/// The proofs of transactions of a block, in the order of `positions`; by its header, in the bytes that its hash is the hash of.
pub fn prove(header: &[u8], leaves: &Leaves, positions: &[usize]) -> Vec<Proof> {
    let (Some(receipts), Some(transactions), false) = (&leaves.receipts, &leaves.transactions, header.is_empty())
    else {
        return positions.iter().map(|_| Proof::none(NO_ROOTS)).collect();
    };
    let (receipts, transactions) = (branches(receipts, positions), branches(transactions, positions));
    let pairs = positions.iter().zip(receipts.into_iter().zip(transactions));
    let proof = |(position, (receipt, transaction)): (&usize, (Branch, Branch))| {
        Proof::new(
            "ethereum",
            [
                ("header", Part::Bytes(header.to_vec())),
                ("index", Part::Number(u64::try_from(*position).unwrap_or(u64::MAX))),
                ("transactionProof", Part::List(transaction)),
                ("receiptProof", Part::List(receipt)),
            ],
        )
    };
    pairs.map(proof).collect()
}

/// The nodes from the root to some leaves of the trie over a block's items, whose keys are their places.
fn branches(items: &[Vec<u8>], positions: &[usize]) -> Vec<Branch> {
    let key = |index: usize| Nibbles::unpack(alloy_rlp::encode_fixed_size(&index));
    let targets: Vec<_> = positions.iter().map(|position| key(*position)).collect();
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(targets.clone()));
    for i in 0..items.len() {
        // Keys have to come in their own order, which is not that of numbers.
        let index = adjust_index_for_rlp(i, items.len());
        builder.add_leaf(key(index), &items[index]);
    }
    builder.root();
    let nodes = builder.take_proof_nodes();
    let branch = |target: &Nibbles| {
        let nodes = nodes.matching_nodes_sorted(target);
        nodes.into_iter().map(|(_, node)| node.to_vec()).collect()
    };
    targets.iter().map(branch).collect()
}
