//! Blocks of an EVM chain: signed transactions, receipts, tries and their proofs.

use alloy_consensus::transaction::{SignerRecoverable as _, TxLegacy};
use alloy_consensus::{
    Eip658Value, Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, SignableTransaction as _, TxEip1559, TxEnvelope,
};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, Log, LogData, Signature, TxKind, U256, b256, keccak256};
use alloy_trie::proof::ProofRetainer;
use alloy_trie::root::adjust_index_for_rlp;
use alloy_trie::{HashBuilder, Nibbles};
use serde_json::{Value, json};

use super::{DEADLINE_MS, TIME, envelope, success};

pub const CHAIN: u64 = 31_337;
pub const HEIGHT: u64 = 1000;
pub const TRANSFER: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");

pub fn token() -> Address {
    Address::repeat_byte(0xc7)
}

pub fn shop() -> Address {
    Address::repeat_byte(0x5a)
}

pub fn payer() -> Address {
    Address::repeat_byte(0xab)
}

pub fn spelled(address: Address) -> String {
    address.to_checksum(None)
}

pub fn transfer_log(token: Address, from: Address, to: Address, amount: u64) -> Log {
    let data = U256::from(amount).to_be_bytes::<32>().to_vec();
    let topics = vec![TRANSFER, from.into_word(), to.into_word()];
    Log { address: token, data: LogData::new_unchecked(topics, data.into()) }
}

/// A block, and what is in it.
pub struct Block {
    pub header: Header,
    pub txs: Vec<TxEnvelope>,
    pub receipts: Vec<Vec<u8>>,
}

impl Block {
    /// A block of so many transactions. Each sends `index + 1` wei to the shop, and logs two tokens: `index + 1000` of them go
    /// to the shop by log entry 1. Legacy ones and typed ones take turns.
    pub fn new(count: usize) -> Self {
        let txs: Vec<_> = (0..count).map(|index| tx(u64::try_from(index).expect("small"), CHAIN)).collect();
        let receipts = (0..count).map(|index| receipt(u64::try_from(index).expect("small"), true, &[])).collect();
        Self::of(txs, receipts)
    }

    pub fn of(txs: Vec<TxEnvelope>, receipts: Vec<Vec<u8>>) -> Self {
        let header = Header {
            number: HEIGHT,
            timestamp: u64::from(TIME),
            transactions_root: trie(&encoded(&txs), 0).0,
            receipts_root: trie(&receipts, 0).0,
            base_fee_per_gas: Some(7),
            withdrawals_root: Some(B256::repeat_byte(1)),
            ..Header::default()
        };
        Self { header, txs, receipts }
    }

    pub fn hash(&self) -> String {
        format!("{:#x}", self.header.hash_slow())
    }

    pub fn tx(&self, index: usize) -> String {
        format!("{:#x}", keccak256(self.txs[index].encoded_2718()))
    }

    pub fn sender(&self, index: usize) -> String {
        spelled(self.txs[index].recover_signer().expect("signed"))
    }

    pub fn proof(&self, index: usize) -> Value {
        let hex = |nodes: Vec<Bytes>| nodes.iter().map(hex::encode).collect::<Vec<_>>();
        json!({
            "tx": self.tx(index), "kind": "ethereum", "header": hex::encode(alloy_rlp::encode(&self.header)),
            "index": index, "transactionProof": hex(trie(&encoded(&self.txs), index).1),
            "receiptProof": hex(trie(&self.receipts, index).1),
        })
    }

    pub fn block(&self) -> Value {
        json!({"height": self.header.number, "hash": self.hash()})
    }

    /// So many headers on top, in RLP.
    pub fn headers(&self, count: u64) -> Vec<String> {
        let mut parent = self.header.hash_slow();
        let header = |n: u64| {
            let header = Header { parent_hash: parent, number: HEIGHT + n, ..Header::default() };
            parent = header.hash_slow();
            hex::encode(alloy_rlp::encode(&header))
        };
        (1..=count).map(header).collect()
    }

    /// A settled watch of the transaction at `index`: its first log entry paid the shop.
    pub fn settled(&self, index: usize) -> Value {
        let amount = (index + 1000).to_string();
        let transfer = json!({
            "index": 1, "asset": spelled(token()), "from": spelled(payer()), "to": spelled(shop()), "amount": amount,
            "via": "log", "tx": self.tx(index), "verification": "trie", "block": self.block(),
        });
        let subject = json!({"kind": "transaction", "tx": self.tx(index)});
        let envelope = envelope("settlement", &network(), &subject, &terms(&spelled(token()), &amount));
        success(envelope, &amount, json!([transfer]), json!([self.proof(index)]))
    }

    /// A settled watch of the transaction at `index`: its own value paid the shop.
    pub fn settled_by_value(&self, index: usize) -> Value {
        let amount = (index + 1).to_string();
        let transfer = json!({
            "index": 0, "asset": "native", "from": self.sender(index), "to": spelled(shop()), "amount": amount,
            "via": "value", "tx": self.tx(index), "verification": "trie", "block": self.block(),
        });
        let subject = json!({"kind": "transaction", "tx": self.tx(index)});
        let envelope = envelope("settlement", &network(), &subject, &terms("native", &amount));
        success(envelope, &amount, json!([transfer]), json!([self.proof(index)]))
    }
}

pub fn network() -> String {
    format!("eip155:{CHAIN}")
}

pub fn terms(asset: &str, amount: &str) -> Value {
    json!({
        "payTo": spelled(shop()), "asset": asset, "amount": amount, "amountRule": "exact", "depth": 1,
        "deadlineMs": DEADLINE_MS, "atDeadline": "fail",
    })
}

/// A transaction of whoever the signature makes its sender.
pub fn tx(nonce: u64, chain_id: u64) -> TxEnvelope {
    let (to, value) = (TxKind::Call(shop()), U256::from(nonce + 1));
    if nonce.is_multiple_of(2) {
        let tx = TxEip1559 { chain_id, nonce, to, value, gas_limit: 21_000, ..TxEip1559::default() };
        tx.into_signed(Signature::test_signature()).into()
    } else {
        let tx = TxLegacy { chain_id: Some(chain_id), nonce, to, value, gas_limit: 21_000, ..TxLegacy::default() };
        tx.into_signed(Signature::test_signature()).into()
    }
}

/// The receipt of the transaction of that nonce, and what else it logs.
pub fn receipt(nonce: u64, succeeded: bool, more: &[Log]) -> Vec<u8> {
    let mut logs =
        vec![transfer_log(token(), payer(), shop(), nonce + 1000), transfer_log(shop(), payer(), payer(), 5)];
    logs.extend_from_slice(more);
    if !succeeded {
        logs.clear();
    }
    let receipt = Receipt { status: Eip658Value::Eip658(succeeded), cumulative_gas_used: 21_000 * (nonce + 1), logs };
    let receipt = ReceiptWithBloom { logs_bloom: receipt.bloom_slow(), receipt };
    let envelope: ReceiptEnvelope =
        if nonce.is_multiple_of(2) { ReceiptEnvelope::Eip1559(receipt) } else { ReceiptEnvelope::Legacy(receipt) };
    envelope.encoded_2718()
}

fn encoded(txs: &[TxEnvelope]) -> Vec<Vec<u8>> {
    txs.iter().map(|tx| tx.encoded_2718()).collect()
}

/// The root of the trie of a list, and the nodes that lead to an item.
pub fn trie(items: &[Vec<u8>], target: usize) -> (B256, Vec<Bytes>) {
    let key = |index: usize| Nibbles::unpack(alloy_rlp::encode_fixed_size(&index));
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(vec![key(target)]));
    for n in 0..items.len() {
        let index = adjust_index_for_rlp(n, items.len());
        builder.add_leaf(key(index), &items[index]);
    }
    let root = builder.root();
    let nodes = builder.take_proof_nodes().matching_nodes_sorted(&key(target));
    (root, nodes.into_iter().map(|(_, node)| node).collect())
}
