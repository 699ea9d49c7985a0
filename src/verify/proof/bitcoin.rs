//! That a transaction is in a Bitcoin block: a branch to the root in the header, beside that of the coinbase.

use bitcoin::block::Header;
use bitcoin::consensus::{Params, deserialize};
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::pow::Work;
use bitcoin::{Network, Target, Transaction, Txid};
use h402_watch_engine::amount::Amount;
use h402_watch_engine::id::{Address, AssetId};
use h402_watch_engine::input::{Transfer, Via};

use super::{Shown, coinbase, merkle, work};
use crate::artefact::Named;
use crate::json::Object;
use crate::script;
use crate::wrong::{Code, Wrong, ensure};

/// Transactions of this size may be inner nodes of the tree, as those are two hashes (CVE-2017-12842).
pub const NODE_BYTES: usize = 64;

/// A proof of the kind `bitcoin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    header: Vec<u8>,
    index: u64,
    branch: Vec<Vec<u8>>,
    transaction: Vec<u8>,
    coinbase: Vec<u8>,
    coinbase_branch: Vec<Vec<u8>>,
    headers: Vec<Vec<u8>>,
}

impl Branch {
    pub(crate) fn read(object: &mut Object<'_>) -> Result<Self, Wrong> {
        Ok(Self {
            header: object.hex("header")?,
            index: object.int("index")?,
            branch: object.hexes("branch")?,
            transaction: object.hex("transaction")?,
            coinbase: object.hex("coinbase")?,
            coinbase_branch: object.hexes("coinbaseBranch")?,
            headers: object.maybe_hexes("headers")?,
        })
    }

    /// What it shows of a transaction.
    pub(crate) fn check(&self, reference: &str, one: &Named<'_>) -> Result<Shown, Wrong> {
        let network = script::network(reference)
            .ok_or_else(|| Wrong::new(Code::Network, format!("bip122:{reference} is no network that is known here")))?;
        let header = parse(&self.header)?;
        worked(&header, network)?;
        ensure(header.block_hash().to_string() == one.block.hash.as_str(), Code::ProofHeader, || {
            format!("the header is not that of block {}", one.block.hash)
        })?;
        let tx = self.transaction(&header, one)?;
        let coinbase = self.coinbase(&header, &tx)?;
        let states_height = height(&coinbase, one.block.height, network)?;
        let work = on_top((&header, one.block.height), &self.headers, network)?;
        Ok(Shown {
            tx: one.tx.to_owned(),
            block: one.block.clone(),
            time_ms: u64::from(header.time).saturating_mul(1000),
            states_height,
            succeeded: Some(true),
            is_read: true,
            sender: None,
            transfers: transfers(&tx, network),
            authorizations: Vec::new(),
            headers: self.headers.len(),
            work_bits: Some(bits(work)),
            weak_work: work::proves_little(network),
            is_coinbase: tx.is_coinbase(),
        })
    }

    /// The transaction, if it is the one named and the branch leads from it to the header.
    fn transaction(&self, header: &Header, one: &Named<'_>) -> Result<Transaction, Wrong> {
        let (tx, txid) = stripped(&self.transaction, "transaction")?;
        ensure(txid.to_string() == one.tx, Code::ProofTransaction, || format!("the transaction is not {}", one.tx))?;
        ensure(tx.is_coinbase() == (self.index == 0), Code::ProofCoinbase, || {
            "a coinbase, and no other transaction, is the first of its block".into()
        })?;
        let root = merkle::root(txid.to_raw_hash(), self.index, &hashes(&self.branch, "branch")?)?;
        ensure(root == header.merkle_root.to_raw_hash(), Code::ProofBranch, || {
            format!("the branch leads from {} to another block", one.tx)
        })?;
        Ok(tx)
    }

    /// The coinbase, if it stands first in the block, at the height of the transaction in the tree. That shows how high the
    /// tree is, so that the transaction is a leaf.
    fn coinbase(&self, header: &Header, tx: &Transaction) -> Result<Transaction, Wrong> {
        let wrong = |said: &str| Wrong::new(Code::ProofCoinbase, said);
        let (coinbase, txid) = stripped(&self.coinbase, "coinbase")?;
        ensure(coinbase.is_coinbase(), Code::ProofCoinbase, || "the coinbase is an ordinary transaction".into())?;
        ensure(self.coinbase_branch.len() == self.branch.len(), Code::ProofCoinbase, || {
            "the coinbase is at another height of the tree than the transaction".into()
        })?;
        let root = merkle::root(txid.to_raw_hash(), 0, &hashes(&self.coinbase_branch, "coinbaseBranch")?)?;
        if root != header.merkle_root.to_raw_hash() {
            return Err(wrong("the coinbase is of another block"));
        }
        ensure(self.index > 0 || coinbase == *tx, Code::ProofCoinbase, || {
            "a block with two first transactions".into()
        })?;
        Ok(coinbase)
    }
}

/// A transaction without its witnesses, and what it is called.
fn stripped(bytes: &[u8], what: &str) -> Result<(Transaction, Txid), Wrong> {
    ensure(bytes.len() != NODE_BYTES, Code::ProofNode, || {
        format!("the {what} is 64 bytes long: it may be an inner node of the tree")
    })?;
    let tx: Transaction = deserialize(bytes)
        .map_err(|error| Wrong::new(Code::ProofEncoding, format!("the {what} can't be read: {error}")))?;
    let txid = Txid::from_raw_hash(sha256d::Hash::hash(bytes));
    ensure(tx.compute_txid() == txid, Code::ProofEncoding, || format!("the {what} has its witnesses with it"))?;
    Ok((tx, txid))
}

fn hashes(list: &[Vec<u8>], what: &str) -> Result<Vec<sha256d::Hash>, Wrong> {
    let hashes: Result<_, _> = list.iter().map(|bytes| sha256d::Hash::from_slice(bytes)).collect();
    hashes.map_err(|_| Wrong::new(Code::ProofEncoding, format!("{what} holds something else than 32 bytes")))
}

fn parse(bytes: &[u8]) -> Result<Header, Wrong> {
    deserialize(bytes).map_err(|_| Wrong::new(Code::ProofEncoding, "a header is not 80 bytes long"))
}

/// Whether a header was worked for as it says itself, and that is not less than its network ever asked.
fn worked(header: &Header, network: Network) -> Result<(), Wrong> {
    let (target, hash) = (header.target(), header.block_hash());
    // Bits that are spelled otherwise are of no block: nodes compare them.
    let genuine = target != Target::ZERO && target.to_compact_lossy() == header.bits;
    let easiest = Params::new(network).max_attainable_target;
    ensure(genuine && target <= easiest && target.is_met_by(hash), Code::ProofWork, || {
        format!("the header {hash} is not worked for as {network} asks")
    })
}

/// The work of a block's header, at a height, and of those on top of it. None of them may be easier than the rules allow, so that
/// their sum tells of each.
fn on_top((block, height): (&Header, u64), headers: &[Vec<u8>], network: Network) -> Result<Work, Wrong> {
    ensure(work::is_of_its_age(block, height, network), Code::ProofWork, || {
        format!("the header {} has less work than any block of height {height} or of its time", block.block_hash())
    })?;
    let (mut below, mut at, mut work) = (*block, height, block.work());
    for (n, bytes) in headers.iter().enumerate() {
        let next = parse(bytes)?;
        ensure(next.prev_blockhash == below.block_hash(), Code::ProofHeaders, || {
            format!("header {} on top does not name the block below", n + 1)
        })?;
        at = at.saturating_add(1);
        ensure(work::may_follow(&next, at, &below, network), Code::ProofWork, || {
            format!("header {} on top has another difficulty than the block below allows", n + 1)
        })?;
        worked(&next, network)?;
        work = work + next.work();
        below = next;
    }
    Ok(work)
}

/// The largest power of two that is not above a number.
fn bits(work: Work) -> u32 {
    let bytes = work.to_be_bytes();
    let leading = bytes.iter().take_while(|byte| **byte == 0).count();
    let first = bytes.get(leading).map_or(0, |byte| 7_u32.saturating_sub(byte.leading_zeros()));
    let rest = bytes.len().saturating_sub(leading + 1);
    u32::try_from(rest * 8).unwrap_or_default() + first
}

/// Whether the block is at a height: as its coinbase says, where coinbases say so.
fn height(coinbase: &Transaction, height: u64, network: Network) -> Result<bool, Wrong> {
    if height < coinbase::states_height_from(network) {
        return Ok(false);
    }
    let script = coinbase.input.first().map(|input| &input.script_sig);
    ensure(script.is_some_and(|script| coinbase::states(script, height)), Code::ProofHeight, || {
        format!("the block is not at height {height}, as its coinbase says")
    })?;
    Ok(true)
}

fn transfers(tx: &Transaction, network: Network) -> Vec<Transfer> {
    let outputs = tx.output.iter().zip(0_u32..);
    let transfer = |(output, index): (&bitcoin::TxOut, u32)| Transfer {
        index,
        asset: AssetId::native(),
        from: None,
        to: Address::new(script::address(&output.script_pubkey, network)),
        amount: Amount::from(output.value.to_sat()),
        via: Via::Value,
    };
    outputs.map(transfer).collect()
}

#[cfg(test)]
mod tests {
    use bitcoin::constants::genesis_block;

    use super::*;

    /// The second header of the main network.
    const SECOND: &str = "010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4ba744bbbe680e1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299";

    /// Headers of the first days are good where they are, and show no depth at a height of today.
    #[test]
    fn easy_headers_show_nothing_of_a_recent_height() {
        let first = genesis_block(Network::Bitcoin).header;
        let second = vec![hex::decode(SECOND).expect("hex")];
        let work = on_top((&first, 0), &second, Network::Bitcoin).expect("the main network's");
        assert_eq!(bits(work), 33);
        for height in [100_000, 227_931, 700_000, 900_000] {
            let found = on_top((&first, height), &second, Network::Bitcoin).map_err(|wrong| wrong.code);
            assert_eq!(found, Err(Code::ProofWork), "{height}");
        }
    }
}
