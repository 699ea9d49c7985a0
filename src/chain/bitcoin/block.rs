//! Blocks: decoded once, and held against what their header commits to.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bitcoin::consensus::encode;
use bitcoin::{Block, BlockHash, Txid};

use super::header::Placed;
use super::text::Link;

/// Blocks that are kept decoded, so that a look-up right after a block costs no request. What it takes: some 10 MB each.
const KEPT_MAX: usize = 12;
/// Outputs of blocks that are remembered, 8 bytes each.
const OUTPUTS_MAX: usize = 4_000_000;

/// A block in memory.
pub struct Decoded {
    /// Its place.
    pub link: Link,
    /// What it holds.
    pub block: Block,
    /// The ids of its transactions, in order.
    pub txids: Vec<Txid>,
}

/// Reads a block that was asked for by its hash.
///
/// The hash covers the header, and the header the transactions: a block that passes is the one that was mined under that
/// hash, whoever sent it.
///
/// # Errors
/// What is wrong with it.
pub fn decode(hex: &str, hash: BlockHash, height: u64) -> Result<Decoded, String> {
    let bytes = hex::decode(hex).map_err(|_| "a block that is no hex".to_owned())?;
    let block: Block = encode::deserialize(&bytes).map_err(|error| format!("a block that can't be read: {error}"))?;
    let header = &block.header;
    if header.block_hash() != hash {
        return Err("another block than was asked for".into());
    }
    let link = Placed::new(*header, height).map_err(|_| "a block without the work that it claims".to_owned())?.link;
    let txids: Vec<_> = block.txdata.iter().map(bitcoin::Transaction::compute_txid).collect();
    let root = bitcoin::merkle_tree::calculate_root(txids.iter().map(|txid| txid.to_raw_hash()));
    // A list that repeats its end has the same root (CVE-2012-2459).
    let distinct: HashSet<_> = txids.iter().collect();
    if root != Some(header.merkle_root.to_raw_hash()) || distinct.len() != txids.len() {
        return Err("a block whose transactions are not those of its header".into());
    }
    // BIP 141: where there is a commitment, the coinbase has a witness. Without it all witnesses were taken out.
    let stripped = commits_to_witnesses(&block) && block.txdata[0].input.iter().all(|input| input.witness.is_empty());
    if stripped || !block.check_witness_commitment() {
        return Err("a block whose witnesses are not those that it commits to".into());
    }
    Ok(Decoded { link, block, txids })
}

/// Whether a coinbase commits to the witnesses of its block (BIP 141).
fn commits_to_witnesses(block: &Block) -> bool {
    const MAGIC: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
    let commits = |output: &bitcoin::TxOut| output.script_pubkey.as_bytes().starts_with(&MAGIC);
    block.txdata.first().is_some_and(|coinbase| coinbase.output.iter().any(commits))
}

/// The newest blocks that were fetched, and what their outputs pay to.
#[derive(Default)]
pub struct Cache {
    blocks: VecDeque<Arc<Decoded>>,
    outputs: VecDeque<(BlockHash, Box<[u64]>)>,
    outputs_len: usize,
}

impl Cache {
    /// One of those kept.
    pub fn get(&self, hash: BlockHash) -> Option<Arc<Decoded>> {
        self.blocks.iter().find(|kept| kept.link.hash == hash).cloned()
    }

    /// Keeps one.
    pub fn keep(&mut self, block: &Arc<Decoded>) {
        if self.get(block.link.hash).is_some() {
            return;
        }
        self.blocks.push_back(Arc::clone(block));
        if self.blocks.len() > KEPT_MAX {
            self.blocks.pop_front();
        }
        if self.outputs.iter().any(|(hash, _)| *hash == block.link.hash) {
            return;
        }
        let outputs = block.block.txdata.iter().flat_map(|tx| &tx.output);
        let mut outputs: Vec<_> = outputs.map(|output| short(output.script_pubkey.as_bytes())).collect();
        outputs.sort_unstable();
        outputs.dedup();
        self.outputs_len += outputs.len();
        self.outputs.push_back((block.link.hash, outputs.into()));
        while self.outputs_len > OUTPUTS_MAX {
            let Some((_, oldest)) = self.outputs.pop_front() else { break };
            self.outputs_len -= oldest.len();
        }
    }

    /// Whether a block may pay one of these scripts. It may as far as is known unless it was seen not to.
    pub fn may_pay(&self, hash: BlockHash, scripts: &[u64]) -> bool {
        let known = self.outputs.iter().find(|(kept, _)| *kept == hash);
        known.is_none_or(|(_, outputs)| scripts.iter().any(|script| outputs.binary_search(script).is_ok()))
    }

    /// The block among those kept that holds a transaction.
    pub fn holding(&self, txid: &Txid) -> impl Iterator<Item = &Arc<Decoded>> {
        let txid = *txid;
        self.blocks.iter().filter(move |kept| kept.txids.contains(&txid))
    }
}

/// A script in 8 bytes; two that share them cost a second look, and nothing else. Keyed anew in each process, so that nobody
/// can choose scripts that do.
pub fn short(script: &[u8]) -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    static KEY: std::sync::LazyLock<RandomState> = std::sync::LazyLock::new(RandomState::new);
    KEY.hash_one(script)
}
