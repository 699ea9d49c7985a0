//! That a transaction is in a block: a branch of the tree whose root the header holds.

use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256d};
use bitcoin::{Transaction, TxMerkleNode, Txid};
use h402_watch_verify::proof::NODE_BYTES;
use serde::Deserialize;

use super::super::proof::Leaf;

/// The longest branch: a block has room for 16,666 transactions, as each takes at least 60 of 1,000,000 bytes.
const BRANCH_MAX: usize = 15;

/// A server's answer to `blockchain.transaction.get_merkle`.
#[derive(Debug, Deserialize)]
pub struct Branch {
    merkle: Vec<String>,
    /// Its place in the block.
    pub pos: u32,
}

/// A server's answer to `blockchain.transaction.id_from_pos`.
#[derive(Debug, Deserialize)]
pub struct At {
    /// The transaction at that place. electrs of before 2026 says `tx_id`.
    #[serde(alias = "tx_id")]
    pub tx_hash: Txid,
    merkle: Vec<String>,
}

impl At {
    /// The branch of the first transaction of a block.
    pub fn first(self) -> (Txid, Branch) {
        (self.tx_hash, Branch { merkle: self.merkle, pos: 0 })
    }
}

impl Branch {
    /// The same as part of a proof; of a branch that was checked.
    pub fn leaf<'a>(&self, tx: &'a Transaction) -> Leaf<'a> {
        let branch = self.merkle.iter().filter_map(|sibling| sibling.parse().ok()).collect();
        Leaf { tx, index: usize::try_from(self.pos).unwrap_or(usize::MAX), branch }
    }

    /// Whether it leads from a transaction to the root of a block.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, txid: &Txid, tx: &Transaction, root: TxMerkleNode) -> Result<(), String> {
        if tx.base_size() == NODE_BYTES {
            return Err("a transaction that may be an inner node of a block's tree".into());
        }
        if self.merkle.len() > BRANCH_MAX || self.pos >> self.merkle.len() != 0 {
            return Err("a proof that fits no block".into());
        }
        let mut node = txid.to_raw_hash();
        for (level, sibling) in self.merkle.iter().enumerate() {
            let sibling: sha256d::Hash = sibling.parse().map_err(|_| "a proof that can't be read".to_owned())?;
            let mut engine = sha256d::Hash::engine();
            let pair = if (self.pos >> level) & 1 == 0 { [node, sibling] } else { [sibling, node] };
            let bytes = [pair[0].to_byte_array(), pair[1].to_byte_array()].concat();
            // A transaction whose bytes are two hashes would let a branch lead on below it.
            if deserialize::<Transaction>(&bytes).is_ok() {
                return Err("a proof through what may be a transaction".into());
            }
            engine.input(&bytes);
            node = sha256d::Hash::from_engine(engine);
        }
        if node == root.to_raw_hash() { Ok(()) } else { Err("a proof that leads to another block".into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tx(n: u32) -> Transaction {
        let mut tx = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin).txdata.remove(0);
        tx.lock_time = bitcoin::absolute::LockTime::from_consensus(n);
        tx
    }

    fn pair(left: sha256d::Hash, right: sha256d::Hash) -> sha256d::Hash {
        sha256d::Hash::hash(&[left.to_byte_array(), right.to_byte_array()].concat())
    }

    #[test]
    fn only_the_branch_of_the_transaction_is_taken() {
        let txs: Vec<_> = (0..4).map(tx).collect();
        let ids: Vec<_> = txs.iter().map(|tx| tx.compute_txid().to_raw_hash()).collect();
        let (left, right) = (pair(ids[0], ids[1]), pair(ids[2], ids[3]));
        let root = TxMerkleNode::from_raw_hash(pair(left, right));
        let of =
            |pos, merkle: &[sha256d::Hash]| Branch { merkle: merkle.iter().map(ToString::to_string).collect(), pos };
        let check = |branch: &Branch, n: usize| branch.check(&txs[n].compute_txid(), &txs[n], root).is_ok();
        assert!(check(&of(2, &[ids[3], left]), 2));
        assert!(!check(&of(2, &[ids[3], left]), 1), "another transaction");
        assert!(!check(&of(3, &[ids[3], left]), 2), "another place");
        assert!(!check(&of(6, &[ids[3], left]), 2), "a place that the branch does not reach");
        assert!(!check(&of(2, &[ids[3]]), 2), "a shorter branch");
        assert!(!check(&of(2, &[ids[3]; 16]), 2), "a branch longer than fits");
        let only = TxMerkleNode::from_raw_hash(ids[0]);
        assert!(of(0, &[]).check(&txs[0].compute_txid(), &txs[0], only).is_ok(), "the only one of its block");
    }

    /// CVE-2017-12842, from the other side: a transaction of 64 bytes, the second half of which is the id of another that was
    /// never mined.
    #[test]
    fn a_branch_below_a_transaction_is_refused() {
        let forged = tx(7);
        let mut small = tx(0);
        small.input[0].script_sig = bitcoin::ScriptBuf::new();
        small.output[0].script_pubkey = bitcoin::ScriptBuf::from_bytes(vec![0x51; 4]);
        let mined = bitcoin::consensus::encode::serialize(&small);
        assert_eq!(mined.len(), NODE_BYTES);
        let half = |bytes: &[u8]| sha256d::Hash::from_slice(bytes).expect("32 bytes");
        let root = TxMerkleNode::from_raw_hash(small.compute_txid().to_raw_hash());
        let merkle = vec![half(&mined[..32]).to_string()];
        let branch = Branch { merkle, pos: 1 };
        let right = Txid::from_raw_hash(half(&mined[32..]));
        let error = branch.check(&right, &forged, root).expect_err("is refused");
        assert!(error.contains("may be a transaction"), "{error}");
    }

    #[test]
    fn what_may_be_an_inner_node_is_refused() {
        let mut small = tx(0);
        small.input[0].script_sig = bitcoin::ScriptBuf::new();
        small.output[0].script_pubkey = bitcoin::ScriptBuf::from_bytes(vec![0x51; 4]);
        assert_eq!(small.base_size(), NODE_BYTES);
        let root = TxMerkleNode::from_raw_hash(small.compute_txid().to_raw_hash());
        let branch = Branch { merkle: Vec::new(), pos: 0 };
        assert!(branch.check(&small.compute_txid(), &small, root).is_err());
    }
}
