//! Nothing is believed that a hash can refute: headers, receipts, transactions and their signers are recomputed
//! (research/evm.md §2.4). A receipt commits to what was logged and whether it succeeded, not to who called whom: that stands
//! in the transaction, under another root.

use std::sync::Arc;

use alloy_consensus::constants::EMPTY_ROOT_HASH;
use alloy_consensus::crypto::secp256k1::recover_signer_unchecked;
use alloy_consensus::transaction::SignerRecoverable as _;
use alloy_consensus::{self as consensus, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, Signature, keccak256};
use alloy_rlp::Decodable as _;
use alloy_rpc_types_eth::{Header, Transaction, TransactionReceipt};
use alloy_trie::root::ordered_trie_root_encoded;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::pool::Fetched;
use super::proof::Encodings;
use super::wire::RpcTx;

/// The header in a block's bytes, if the hash that they state is the hash of what they say.
pub fn header(raw: &RawValue, hash: B256) -> Option<Header> {
    let header: Header = serde_json::from_str(raw.get()).ok()?;
    (header.inner.hash_slow() == hash).then_some(header)
}

/// Whether a list of transactions is empty where the header says so, and only there.
pub fn emptiness_matches(header: &Header, transactions: &[B256]) -> bool {
    transactions.is_empty() == (header.inner.transactions_root == EMPTY_ROOT_HASH)
}

/// The header of a block, where its hash is known to be the hash of it: nothing else commits to what the block holds.
fn committed(block: &Fetched) -> Option<consensus::Header> {
    consensus::Header::decode(&mut &block.header[..]).ok()
}

/// Receipts as the block's header commits to them, if they have the root that it names.
pub fn receipts(block: &Fetched, raw: &RawValue) -> Option<Encodings> {
    let header = committed(block)?;
    let receipts: Vec<TransactionReceipt> = serde_json::from_str(raw.get()).ok()?;
    let encoded = |one: TransactionReceipt| one.into_primitives_receipt().inner.encoded_2718();
    let encoded: Vec<_> = receipts.into_iter().map(encoded).collect();
    (ordered_trie_root_encoded(&encoded) == header.receipts_root).then(|| Arc::new(encoded))
}

/// What signed a transaction: enough to tell who, later, if anyone asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    hash: B256,
    signature: Signature,
}

impl Signed {
    /// Who signed it.
    pub fn signer(&self) -> Option<Address> {
        // Whatever its `s`, of which some chains accept both.
        recover_signer_unchecked(&self.signature, self.hash).ok()
    }
}

/// The signatures of a block's transactions, and those as the header commits to them, if they have the root that it names.
pub fn transactions(block: &Fetched, raw: &RawValue) -> Option<(Vec<Signed>, Encodings)> {
    #[derive(Deserialize)]
    struct Transactions {
        transactions: Vec<Transaction>,
    }
    let header = committed(block)?;
    let full: Transactions = serde_json::from_str(raw.get()).ok()?;
    let txs: Vec<TxEnvelope> = full.transactions.into_iter().map(|tx| tx.inner.into_inner()).collect();
    let encoded: Vec<_> = txs.iter().map(TxEnvelope::encoded_2718).collect();
    let same = encoded.iter().zip(&block.block.transactions).all(|(tx, hash)| keccak256(tx) == *hash);
    if !same || ordered_trie_root_encoded(&encoded) != header.transactions_root {
        return None;
    }
    let signed = txs.iter().map(|tx| Signed { hash: tx.signature_hash(), signature: *tx.signature() });
    Some((signed.collect(), Arc::new(encoded)))
}

/// Whether a transaction hashes to what it is called, and was signed by whom it says.
pub fn transaction_is_genuine(tx: &RpcTx, raw: &RawValue) -> bool {
    let Ok(full) = serde_json::from_str::<Transaction>(raw.get()) else { return false };
    let envelope: TxEnvelope = full.inner.into_inner();
    keccak256(envelope.encoded_2718()) == tx.hash && envelope.recover_signer().is_ok_and(|signer| signer == tx.from)
}
