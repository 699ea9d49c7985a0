//! Inclusion proofs: that a transaction and its receipt are under the roots of a header (`proto/artefacts/README.md`).
//!
//! A receipt does not name its transaction, so both are proven, under the same index. What roots can't be recomputed prove nothing:
//! then the proof says that there is none.

use std::collections::VecDeque;
use std::sync::Arc;

use alloy_primitives::B256;
use alloy_trie::proof::ProofRetainer;
use alloy_trie::root::adjust_index_for_rlp;
use alloy_trie::{HashBuilder, Nibbles};
use h402_watch_engine::proof::{Part, Proof};

use super::pool::Fetched;

/// Blocks of which encodings are kept: that which is told, and a few that look-ups ask for right after. Some megabytes each.
const KEPT_MAX: usize = 4;

const NO_ROOTS: &str =
    "the roots of this chain's headers can't be recomputed from what its nodes answer: see verification";
/// Why a difference of balances has no proof.
pub const NO_TRANSACTION: &str = "a difference of balances is in no transaction, and under no root that is checked";

/// What a block's roots are the roots of: EIP-2718 encodings, in order.
pub type Encodings = Arc<Vec<Vec<u8>>>;

/// The encodings of one block.
#[derive(Clone, Default)]
pub struct Leaves {
    pub receipts: Option<Encodings>,
    pub transactions: Option<Encodings>,
}

/// The encodings of the blocks that were fetched last.
#[derive(Default)]
pub struct Kept(VecDeque<(B256, Leaves)>);

impl Kept {
    /// Those of a block, to be read or added to.
    pub fn of(&mut self, block: B256) -> &mut Leaves {
        let at = self.0.iter().position(|(hash, _)| *hash == block).unwrap_or_else(|| {
            if self.0.len() == KEPT_MAX {
                self.0.pop_front();
            }
            self.0.push_back((block, Leaves::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

/// The proofs of transactions of a block, in the order of `positions`.
pub fn prove(block: &Fetched, leaves: &Leaves, positions: &[usize]) -> Vec<Proof> {
    let (Some(receipts), Some(transactions), false) = (&leaves.receipts, &leaves.transactions, block.header.is_empty())
    else {
        return positions.iter().map(|_| Proof::none(NO_ROOTS)).collect();
    };
    let (receipts, transactions) = (branches(receipts, positions), branches(transactions, positions));
    let pairs = positions.iter().zip(receipts.into_iter().zip(transactions));
    let proof = |(position, (receipt, transaction)): (&usize, (Vec<Vec<u8>>, Vec<Vec<u8>>))| {
        Proof::new(
            "ethereum",
            [
                ("header", Part::Bytes(block.header.to_vec())),
                ("index", Part::Number(u64::try_from(*position).unwrap_or(u64::MAX))),
                ("transactionProof", Part::List(transaction)),
                ("receiptProof", Part::List(receipt)),
            ],
        )
    };
    pairs.map(proof).collect()
}

/// The nodes from the root to some leaves of the trie over a block's items, whose keys are their places.
fn branches(items: &[Vec<u8>], positions: &[usize]) -> Vec<Vec<Vec<u8>>> {
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
