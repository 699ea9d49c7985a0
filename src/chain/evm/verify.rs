//! Nothing is believed that a hash can refute: headers, receipts, transactions and their signers are recomputed
//! (research/evm.md §2.4). A receipt commits to what was logged and whether it succeeded, not to who called whom: that stands
//! in the transaction, under another root.

use alloy_consensus::constants::EMPTY_ROOT_HASH;
use alloy_consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy_consensus::transaction::SignerRecoverable as _;
use alloy_consensus::{ReceiptEnvelope, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, Signature, keccak256};
use alloy_rpc_types_eth::{Header, Transaction, TransactionReceipt};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::pool::Fetched;
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

/// Whether receipts have the root that the block's header names.
pub fn receipts_match(block: &Fetched, raw: &RawValue) -> bool {
    let Some(header) = header(&block.raw, block.block.hash) else { return false };
    let Ok(receipts) = serde_json::from_str::<Vec<TransactionReceipt>>(raw.get()) else { return false };
    let encoded: Vec<ReceiptEnvelope> = receipts.into_iter().map(|one| one.into_primitives_receipt().inner).collect();
    calculate_receipt_root(&encoded) == header.inner.receipts_root
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
        self.signature.recover_address_from_prehash(&self.hash).ok()
    }
}

/// The signatures of a block's transactions, if those have the root that its header names.
pub fn transactions_match(block: &Fetched, raw: &RawValue) -> Option<Vec<Signed>> {
    #[derive(Deserialize)]
    struct Transactions {
        transactions: Vec<Transaction>,
    }
    let header = header(&block.raw, block.block.hash)?;
    let full: Transactions = serde_json::from_str(raw.get()).ok()?;
    let txs: Vec<TxEnvelope> = full.transactions.into_iter().map(|tx| tx.inner.into_inner()).collect();
    let same = txs.iter().zip(&block.block.transactions).all(|(tx, hash)| keccak256(tx.encoded_2718()) == *hash);
    if !same || calculate_transaction_root(&txs) != header.inner.transactions_root {
        return None;
    }
    Some(txs.iter().map(|tx| Signed { hash: tx.signature_hash(), signature: *tx.signature() }).collect())
}

/// Whether a transaction hashes to what it is called, and was signed by whom it says.
pub fn transaction_is_genuine(tx: &RpcTx, raw: &RawValue) -> bool {
    let Ok(full) = serde_json::from_str::<Transaction>(raw.get()) else { return false };
    let envelope: TxEnvelope = full.inner.into_inner();
    keccak256(envelope.encoded_2718()) == tx.hash && envelope.recover_signer().is_ok_and(|signer| signer == tx.from)
}
