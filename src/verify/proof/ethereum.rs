//! That a transaction and its receipt are in a block of an EVM chain: paths to them in the tries whose roots the header holds.

use alloy_consensus::transaction::SignerRecoverable as _;
use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::eip2718::Decodable2718 as _;
use alloy_primitives::{Address, B256, keccak256};
use alloy_rlp::Decodable as _;
use h402_watch_engine::id::AssetId;
use h402_watch_engine::input::{Transfer, Via};

use super::receipts::{self, amount, spelled};
use super::{Shown, trie};
use crate::artefact::Named;
use crate::json::Object;
use crate::wrong::{Code, Wrong, ensure};

/// A proof of the kind `ethereum`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    header: Vec<u8>,
    index: u64,
    transaction: Vec<Vec<u8>>,
    receipt: Vec<Vec<u8>>,
    headers: Vec<Vec<u8>>,
}

/// What is read of a header. Forks append to headers; what they append is hashed with the rest, and not read.
struct Header {
    hash: B256,
    parent: B256,
    transactions_root: B256,
    receipts_root: B256,
    number: u64,
    timestamp: u64,
}

impl Paths {
    pub(crate) fn read(object: &mut Object<'_>) -> Result<Self, Wrong> {
        Ok(Self {
            header: object.hex("header")?,
            index: object.int("index")?,
            transaction: object.hexes("transactionProof")?,
            receipt: object.hexes("receiptProof")?,
            headers: object.maybe_hexes("headers")?,
        })
    }

    /// What it shows of a transaction.
    pub(crate) fn check(&self, chain: &str, one: &Named<'_>) -> Result<Shown, Wrong> {
        let header = header(&self.header)?;
        ensure(format!("{:#x}", header.hash) == one.block.hash.as_str(), Code::ProofHeader, || {
            format!("the header is not that of block {}", one.block.hash)
        })?;
        ensure(header.number == one.block.height, Code::ProofHeight, || {
            format!("the block is at height {}, not {}", header.number, one.block.height)
        })?;
        let leaf = |root, nodes, what: &str| {
            let wrong = |said| Wrong::new(Code::ProofTrie, format!("the proof of the {what}: {said}"));
            trie::leaf(root, self.index, nodes).map_err(wrong)
        };
        let tx = leaf(header.transactions_root, &self.transaction, "transaction")?;
        let hash = keccak256(&tx);
        ensure(format!("{hash:#x}") == one.tx, Code::ProofTransaction, || {
            format!("the transaction at place {} is {hash:#x}, not {}", self.index, one.tx)
        })?;
        let receipt = leaf(header.receipts_root, &self.receipt, "receipt")?;
        let told = receipts::read(&receipt)
            .ok_or_else(|| Wrong::new(Code::ProofEncoding, format!("the receipt of {} can't be read", one.tx)))?;
        let tx = TxEnvelope::decode_2718_exact(&tx).ok();
        let sender = tx.as_ref().map(|tx| signer(tx, chain)).transpose()?;
        let mut transfers = told.transfers;
        if told.succeeded == Some(true) {
            transfers.extend(tx.as_ref().zip(sender).and_then(|(tx, sender)| value(tx, sender)));
        }
        on_top(&header, &self.headers)?;
        Ok(Shown {
            tx: one.tx.to_owned(),
            block: one.block.clone(),
            time_ms: header.timestamp.saturating_mul(1000),
            states_height: true,
            succeeded: told.succeeded,
            is_read: tx.is_some(),
            sender: sender.map(|sender| spelled(sender).to_string()),
            transfers,
            authorizations: told.authorizations,
            headers: self.headers.len(),
            work_bits: None,
            weak_work: None,
            is_coinbase: false,
        })
    }
}

/// Who signed a transaction, if it was signed for this chain or, as of old, for any.
fn signer(tx: &TxEnvelope, chain: &str) -> Result<Address, Wrong> {
    ensure(tx.chain_id().is_none_or(|id| id.to_string() == chain), Code::Network, || {
        format!("a transaction of another chain than eip155:{chain}")
    })?;
    tx.recover_signer().map_err(|_| Wrong::new(Code::ProofTransaction, "a transaction that nobody signed"))
}

/// What a transaction itself carries.
fn value(tx: &TxEnvelope, sender: Address) -> Option<Transfer> {
    Some(Transfer {
        index: 0,
        asset: AssetId::native(),
        from: Some(spelled(sender)),
        to: spelled(tx.to()?),
        amount: amount(tx.value()),
        via: Via::Value,
    })
}

fn header(bytes: &[u8]) -> Result<Header, Wrong> {
    let read = || {
        let items = trie::items(bytes)?;
        let item = |at: usize| items.get(at).copied();
        let word = |at: usize| B256::decode(&mut item(at)?).ok();
        let number = |at: usize| u64::decode(&mut item(at)?).ok();
        Some(Header {
            hash: keccak256(bytes),
            parent: word(0)?,
            transactions_root: word(4)?,
            receipts_root: word(5)?,
            number: number(8)?,
            timestamp: number(11)?,
        })
    };
    read().ok_or_else(|| Wrong::new(Code::ProofEncoding, "a header that can't be read"))
}

/// Whether each header names the one below.
fn on_top(block: &Header, headers: &[Vec<u8>]) -> Result<(), Wrong> {
    let (mut below, mut number) = (block.hash, block.number);
    for (n, bytes) in headers.iter().enumerate() {
        let next = header(bytes)?;
        ensure(next.parent == below && number.checked_add(1) == Some(next.number), Code::ProofHeaders, || {
            format!("header {} on top does not name the block below", n + 1)
        })?;
        (below, number) = (next.hash, next.number);
    }
    Ok(())
}
