//! Blocks of a regtest chain: transactions, merkle trees and their branches.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::serialize;
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::opcodes::OP_0;
use bitcoin::script::Builder;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    Address, Amount, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Txid, WPubkeyHash, Witness,
};
use serde_json::{Value, json};

use super::{DEADLINE_MS, TIME, envelope, success};

pub const NETWORK: &str = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328";

pub type Node = sha256d::Hash;

/// A block, and what is in it.
#[derive(Clone)]
pub struct Block {
    pub header: Header,
    pub txs: Vec<Transaction>,
    pub height: u64,
}

impl Block {
    /// A block of so many transactions; each but the coinbase pays `index + 1000` satoshi to the shop by its second output.
    pub fn new(count: usize, height: u64) -> Self {
        let payments = (1..count).map(payment);
        Self::of(std::iter::once(coinbase(height)).chain(payments).collect(), height)
    }

    pub fn of(txs: Vec<Transaction>, height: u64) -> Self {
        let ids: Vec<_> = txs.iter().map(|tx| tx.compute_txid().to_raw_hash()).collect();
        let root = levels(&ids).last().expect("a root")[0];
        Self { header: mined(BlockHash::all_zeros(), root), txs, height }
    }

    pub fn ids(&self) -> Vec<Node> {
        self.txs.iter().map(|tx| tx.compute_txid().to_raw_hash()).collect()
    }

    pub fn tx(&self, index: usize) -> String {
        self.txs[index].compute_txid().to_string()
    }

    pub fn block(&self) -> Value {
        json!({"height": self.height, "hash": self.header.block_hash().to_string()})
    }

    pub fn proof(&self, index: usize) -> Value {
        json!({
            "tx": self.tx(index), "kind": "bitcoin", "header": hex::encode(serialize(&self.header)), "index": index,
            "branch": hexes(&branch(&self.ids(), index)), "transaction": stripped(&self.txs[index]),
            "coinbase": stripped(&self.txs[0]), "coinbaseBranch": hexes(&branch(&self.ids(), 0)),
        })
    }

    /// So many headers on top.
    pub fn headers(&self, count: usize) -> Vec<String> {
        let mut below = self.header.block_hash();
        let header = |_| {
            let header = mined(below, Node::all_zeros());
            below = header.block_hash();
            hex::encode(serialize(&header))
        };
        (0..count).map(header).collect()
    }

    /// A settled watch of the transaction at `index`, that paid the shop.
    pub fn settled(&self, index: usize) -> Value {
        let amount = self.txs[index].output[1].value.to_sat().to_string();
        let transfer = json!({
            "index": 1, "asset": "native", "to": shop(), "amount": amount, "via": "value", "tx": self.tx(index),
            "verification": "trie", "block": self.block(),
        });
        let subject = json!({"kind": "transaction", "tx": self.tx(index)});
        let terms = json!({
            "payTo": shop(), "asset": "native", "amount": amount, "amountRule": "exact", "depth": 1,
            "deadlineMs": DEADLINE_MS, "atDeadline": "fail",
        });
        let envelope = envelope("settlement", NETWORK, &subject, &terms);
        success(envelope, &amount, json!([transfer]), json!([self.proof(index)]))
    }
}

pub fn shop_script() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([0x5a; 20]))
}

pub fn shop() -> String {
    Address::from_script(&shop_script(), Network::Regtest).expect("an address").to_string()
}

pub fn stripped(tx: &Transaction) -> String {
    let mut tx = tx.clone();
    for input in &mut tx.input {
        input.witness = Witness::new();
    }
    hex::encode(serialize(&tx))
}

pub fn hexes(nodes: &[Node]) -> Vec<String> {
    nodes.iter().map(|node| hex::encode(node.to_byte_array())).collect()
}

fn output(value: u64, script_pubkey: ScriptBuf) -> TxOut {
    TxOut { value: Amount::from_sat(value), script_pubkey }
}

pub fn input(previous_output: OutPoint, script_sig: ScriptBuf) -> TxIn {
    TxIn { previous_output, script_sig, sequence: Sequence::MAX, witness: Witness::from_slice(&[[7; 32]]) }
}

fn tx(input: TxIn, output: Vec<TxOut>) -> Transaction {
    Transaction { version: TxVersion::TWO, lock_time: LockTime::ZERO, input: vec![input], output }
}

/// A coinbase as Bitcoin Core makes them: the height, and `OP_0` where that is one byte.
pub fn coinbase(height: u64) -> Transaction {
    let script = Builder::new().push_int(i64::try_from(height).expect("small")).push_opcode(OP_0).into_script();
    coinbase_of(script)
}

pub fn coinbase_of(script: ScriptBuf) -> Transaction {
    tx(input(OutPoint::null(), script), vec![output(50, ScriptBuf::new()), output(49, shop_script())])
}

pub fn payment(index: usize) -> Transaction {
    let index = u32::try_from(index).expect("small");
    let from = OutPoint::new(Txid::from_byte_array([3; 32]), index);
    let change = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([1; 20]));
    tx(input(from, ScriptBuf::new()), vec![output(77, change), output(u64::from(index) + 1000, shop_script())])
}

pub fn pair(left: Node, right: Node) -> Node {
    Node::hash(&[left.to_byte_array(), right.to_byte_array()].concat())
}

/// The levels of a tree, from the leaves to the root; the last of an odd level is paired with itself.
pub fn levels(leaves: &[Node]) -> Vec<Vec<Node>> {
    let mut levels = vec![leaves.to_vec()];
    while levels[levels.len() - 1].len() > 1 {
        let below = &levels[levels.len() - 1];
        let above = below.chunks(2).map(|two| pair(two[0], *two.last().expect("one at least"))).collect();
        levels.push(above);
    }
    levels
}

pub fn branch(leaves: &[Node], index: usize) -> Vec<Node> {
    let levels = levels(leaves);
    let below_root = &levels[..levels.len() - 1];
    let sibling = |(n, level): (usize, &Vec<Node>)| {
        let at = (index >> n) ^ 1;
        *level.get(at).unwrap_or(&level[level.len() - 1])
    };
    below_root.iter().enumerate().map(sibling).collect()
}

/// A header that has the little work that regtest asks.
pub fn mined(below: BlockHash, root: Node) -> Header {
    let mut header = Header {
        version: Version::TWO,
        prev_blockhash: below,
        merkle_root: TxMerkleNode::from_raw_hash(root),
        time: TIME,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    while !header.target().is_met_by(header.block_hash()) {
        header.nonce += 1;
    }
    header
}

/// The same header, without the work.
pub fn unmined(mut header: Header) -> Header {
    while header.target().is_met_by(header.block_hash()) {
        header.nonce += 1;
    }
    header
}
