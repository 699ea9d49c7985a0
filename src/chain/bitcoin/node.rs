//! What bitcoind is asked over JSON-RPC, and how its answers are read. Only the fields that are used are looked at: they
//! change from version to version (research/bitcoin.md §4). Amounts are read from raw transactions, never from JSON.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;

use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Transaction, TxMerkleNode, Txid};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;

use super::block::{self, Decoded};
use super::header::Placed;
use super::text::{self, Link};
use crate::chain::EndpointSettings;
use crate::chain::endpoint::{BATCH_MAX, Call, CallError, Endpoint};
use crate::chain::pool::{Answer, Answers, Endpoints, Identity, blame};
use crate::chain::walk::{At, Chain};

/// Methods that can be done without: not every node has an index of block filters.
const OPTIONAL: [&str; 1] = ["scanblocks"];
/// Outputs by which a mined transaction is looked for, the first ones.
const OUTPUTS_TRIED: usize = 8;
/// Calls that are made beside those about the mempool, in the same request.
const FRAME: usize = 4;
/// Transactions that a mempool is asked for in one request.
pub const PRESENCE_MAX: usize = BATCH_MAX - FRAME;
/// The largest height that is believed.
const HEIGHT_MAX: u64 = 1 << 32;

/// bitcoind's answer to `getblockheader`.
#[derive(Debug, Deserialize)]
struct RpcHeader {
    hash: BlockHash,
    height: u64,
    /// −1: not in the node's chain.
    confirmations: i64,
    version: i32,
    previousblockhash: Option<BlockHash>,
    merkleroot: TxMerkleNode,
    time: u32,
    bits: String,
    nonce: u32,
}

impl RpcHeader {
    /// The header itself: what it is called has to be its hash.
    fn placed(&self) -> Result<Placed, String> {
        let header = Header {
            version: Version::from_consensus(self.version),
            prev_blockhash: self.previousblockhash.unwrap_or_else(no_block),
            merkle_root: self.merkleroot,
            time: self.time,
            bits: CompactTarget::from_unprefixed_hex(&self.bits)
                .map_err(|_| "a header that can't be read".to_owned())?,
            nonce: self.nonce,
        };
        let placed = Placed::new(header, self.height)?;
        if placed.link.hash != self.hash {
            return Err("a header that does not hash to what it is called".into());
        }
        Ok(placed)
    }
}

fn no_block() -> BlockHash {
    use bitcoin::hashes::Hash as _;
    BlockHash::all_zeros()
}

/// bitcoind's answer to `getblockheader`, as to where the block is.
#[derive(Debug, Deserialize)]
struct RpcDepth {
    confirmations: i64,
}

/// bitcoind's answer to `getblockchaininfo`.
#[derive(Debug, Deserialize)]
pub struct ChainInfo {
    pub blocks: u64,
    pub headers: u64,
    pub bestblockhash: BlockHash,
    pub initialblockdownload: bool,
    /// The lowest block that is still there, of a pruned node.
    pub pruneheight: Option<u64>,
}

/// bitcoind's answer to `getmempoolinfo`.
#[derive(Debug, Deserialize)]
struct MempoolInfo {
    loaded: bool,
}

/// bitcoind's answer to `gettxout`.
#[derive(Debug, Deserialize)]
struct TxOut {
    #[serde(rename = "scriptPubKey")]
    script: Script,
}

/// bitcoind's answer to `gettxout`, as to where the output is.
#[derive(Debug, Deserialize)]
struct Unspent {
    bestblock: BlockHash,
    confirmations: u64,
}

/// bitcoind's answer to `getrawtransaction`, as to where the transaction is.
#[derive(Debug, Deserialize)]
struct Indexed {
    blockhash: Option<BlockHash>,
}

/// Where a transaction was mined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mined {
    /// In this block, which may have left the chain.
    In(BlockHash),
    /// So deep under this tip.
    Deep {
        /// The tip.
        under: BlockHash,
        /// 1 is the tip itself.
        depth: u64,
    },
}

#[derive(Debug, Deserialize)]
struct Script {
    hex: String,
}

/// bitcoind's answer to `getrawtransaction` with what its inputs spend.
#[derive(Debug, Deserialize)]
struct Spending {
    vin: Vec<Vin>,
}

#[derive(Debug, Deserialize)]
struct Vin {
    prevout: Option<TxOut>,
}

/// bitcoind's answer to `scanblocks`.
#[derive(Debug, Deserialize)]
struct Scanned {
    relevant_blocks: Vec<BlockHash>,
    completed: bool,
}

/// bitcoind's answer to `getindexinfo`, for one index.
#[derive(Debug, Deserialize)]
struct IndexInfo {
    synced: bool,
    best_block_height: u64,
}

/// What bitcoind calls its index of block filters.
const FILTERS: &str = "basic block filter index";

/// What an endpoint's mempool holds, and under which tip.
pub struct Listing {
    /// What it holds.
    pub txids: Vec<Txid>,
    /// Its tip and the height of that, if they did not move while it was asked, and its mempool is loaded.
    pub under: Option<(BlockHash, u64)>,
}

/// What an endpoint says of its tip and its mempool in one request.
pub struct Standing {
    /// Its tip, at the end.
    pub best: BlockHash,
    /// What its mempool holds, unless that is what it did not answer.
    pub mempool: Option<Listing>,
}

/// How an endpoint's chain stands to our head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    AtHead,
    /// It has more blocks on top of our head: what it has in its mempool is in no block that we know.
    Above,
    /// What it has in its mempool may be in a block long since.
    Behind,
    /// On another branch, or on the move.
    Elsewhere,
}

/// The bitcoinds of a network.
pub struct Node {
    endpoints: Endpoints,
    network: Network,
}

impl Deref for Node {
    type Target = Endpoints;

    fn deref(&self) -> &Endpoints {
        &self.endpoints
    }
}

impl Node {
    pub fn new(network: Network, settings: &[EndpointSettings]) -> Self {
        let genesis = text::genesis(network);
        let judge = move |said: &RawValue| match serde_json::from_str::<BlockHash>(said.get()) {
            Ok(first) if first == genesis => Ok(()),
            Ok(_) => Err(format!("a chain that does not begin as {network} does")),
            Err(_) => Err("an answer that can't be read".into()),
        };
        let identity = Identity { question: ("getblockhash", json!([0])), judge: Box::new(judge) };
        Self { endpoints: Endpoints::new(identity, settings, &OPTIONAL), network }
    }

    pub fn network(&self) -> Network {
        self.network
    }

    /// The hash of the tip.
    pub async fn best(&self, start: usize) -> Answer<BlockHash> {
        self.first(start, &[("getbestblockhash", json!([]))], one).await
    }

    /// A header and, with `whole`, its block, in one request. The block is absent where it can't be had.
    pub async fn tip(&self, start: usize, hash: BlockHash, whole: bool) -> Answer<(Placed, Option<Decoded>)> {
        let mut calls = vec![header_call(hash)];
        if whole {
            calls.push(block_call(hash));
        }
        self.first(start, &calls, |endpoint, mut answers| {
            let raw = if whole { answers.pop() } else { None };
            let Some(tip) = read_header(endpoint, answers)? else { return Ok(None) };
            if tip.link.hash != hash {
                return Err(blame(endpoint, "another block than was asked for"));
            }
            endpoint.set_tip(tip.link.block_ref());
            let block = match raw {
                Some(Ok(raw)) => Some(read_block(endpoint, &raw, &tip.link)?),
                _ => None,
            };
            Ok(Some((tip, block)))
        })
        .await
    }

    /// Where a block is in the chain.
    pub async fn block(&self, hash: BlockHash) -> Answer<Placed> {
        self.first(0, &[header_call(hash)], |endpoint, answers| match read_header(endpoint, answers)? {
            Some(block) if block.link.hash != hash => Err(blame(endpoint, "another block than was asked for")),
            block => Ok(block),
        })
        .await
    }

    /// A block of which the place is known.
    pub async fn whole(&self, link: &Link) -> Answer<Decoded> {
        self.first(0, &[block_call(link.hash)], |endpoint, answers| match one_raw(answers)? {
            Some(raw) => read_block(endpoint, &raw, link).map(Some),
            None => Ok(None),
        })
        .await
    }

    /// What the node says of itself.
    pub async fn info(&self, index: usize) -> Result<ChainInfo, CallError> {
        self.at(index).call("getblockchaininfo", json!([])).await
    }

    /// An endpoint's tip and what its mempool holds, in one request.
    pub async fn standing(&self, index: usize) -> Result<Standing, CallError> {
        let endpoint = self.at(index);
        let best = ("getbestblockhash", json!([]));
        let listing = ("getrawmempool", json!([false]));
        let calls = [best.clone(), ("getblockcount", json!([])), ("getmempoolinfo", json!([])), listing, best];
        let answers = endpoint.batches(&calls).await?;
        let [before, height, info, txids, after] = <[_; 5]>::try_from(answers).map_err(|_| no_answer())?;
        let best: BlockHash = endpoint.read(&after?)?;
        let steady = before.ok().map(|raw| endpoint.read::<BlockHash>(&raw)).transpose()? == Some(best);
        let height = height.ok().map(|raw| endpoint.read(&raw)).transpose()?;
        let loaded = info.ok().map(|raw| endpoint.read::<MempoolInfo>(&raw)).transpose()?.is_some_and(|it| it.loaded);
        let under = height.filter(|_| steady && loaded).map(|height| (best, height));
        let txids = txids.ok().map(|raw| endpoint.read(&raw)).transpose()?;
        Ok(Standing { best, mempool: txids.map(|txids| Listing { txids, under }) })
    }

    /// Transactions by id, from one endpoint: each as far as it has them. Without an index that is its mempool.
    pub async fn transactions(&self, index: usize, txids: &[Txid]) -> Result<Vec<Option<Transaction>>, CallError> {
        let calls: Vec<_> = txids.iter().map(|txid| ("getrawtransaction", json!([txid]))).collect();
        let endpoint = self.at(index);
        let answers = endpoint.batches(&calls).await?;
        let read = |(answer, txid): (Result<Box<RawValue>, CallError>, &Txid)| match answer {
            Ok(raw) => read_transaction(endpoint, &raw, txid).map(Some),
            Err(CallError::Node { .. }) => Ok(None),
            Err(error) => Err(error),
        };
        answers.into_iter().zip(txids).map(read).collect()
    }

    /// Which of these transactions an endpoint's mempool has, and how its chain stood to our head meanwhile. Up to
    /// [`PRESENCE_MAX`] are asked for in one request: a chain that grows fast leaves time for one.
    pub async fn in_mempool(
        &self,
        index: usize,
        txids: &[Txid],
        head: &Link,
    ) -> Result<(Vec<bool>, Stands), CallError> {
        let endpoint = self.at(index);
        let our_head = header_call(head.hash);
        let mut calls = vec![our_head.clone(), ("getblockcount", json!([])), ("getmempoolinfo", json!([]))];
        calls.extend(txids.iter().map(|txid| ("getmempoolentry", json!([txid]))));
        calls.push(our_head);
        let mut answers = endpoint.batches(&calls).await?;
        let after = depth(endpoint, answers.pop())?;
        let mut frame = answers.drain(..3.min(answers.len()));
        let before = depth(endpoint, frame.next())?;
        let height = frame.next().and_then(Result::ok).map(|raw| endpoint.read::<u64>(&raw)).transpose()?;
        let info = frame.next().and_then(Result::ok).map(|raw| endpoint.read::<MempoolInfo>(&raw)).transpose()?;
        drop(frame);
        let stands = match (before, after) {
            _ if !info.is_some_and(|info| info.loaded) => Stands::Elsewhere,
            (Some(1), Some(1)) => Stands::AtHead,
            (Some(_), Some(_)) => Stands::Above,
            (None, None) if height.is_some_and(|height| height < head.height) => Stands::Behind,
            _ => Stands::Elsewhere,
        };
        Ok((answers.iter().map(Result::is_ok).collect(), stands))
    }

    /// Where transactions were mined, as far as an endpoint tells: by its index of transactions, or by an output that is still
    /// unspent. (`gettxoutproof` would try all outputs that a block can hold: 66 ms for an unknown transaction, measured.)
    pub async fn mined(&self, index: usize, txids: &[Txid]) -> Result<Vec<Option<Mined>>, CallError> {
        let mut calls = Vec::with_capacity(txids.len() * (1 + OUTPUTS_TRIED));
        for txid in txids {
            calls.push(("getrawtransaction", json!([txid, 1])));
            calls.extend((0..OUTPUTS_TRIED).map(|output| ("gettxout", json!([txid, output, false]))));
        }
        let endpoint = self.at(index);
        let mut answers = endpoint.batches(&calls).await?.into_iter();
        let mut found = Vec::with_capacity(txids.len());
        for _ in txids {
            let indexed = match answers.next() {
                Some(Ok(raw)) => endpoint.read::<Indexed>(&raw)?.blockhash.map(Mined::In),
                _ => None,
            };
            let outputs: Vec<_> = answers.by_ref().take(OUTPUTS_TRIED).flatten().collect();
            let unspent = outputs.iter().find(|raw| raw.get() != "null");
            let unspent = unspent.map(|raw| endpoint.read::<Unspent>(raw)).transpose()?;
            let deep = |it: Unspent| Mined::Deep { under: it.bestblock, depth: it.confirmations };
            found.push(indexed.or(unspent.filter(|it| it.confirmations > 0).map(deep)));
        }
        Ok(found)
    }

    /// The scripts that inputs of transactions in a block spend from, in the words of `quorum` endpoints. One that is not known
    /// is an error: whose money it is decides whether it is a payment.
    pub async fn spent_in_block(
        &self,
        txs: &[(Txid, Vec<usize>)],
        block: BlockHash,
        quorum: usize,
    ) -> Result<Vec<Vec<ScriptBuf>>, String> {
        let call = |(txid, _): &(Txid, Vec<usize>)| ("getrawtransaction", json!([txid, 2, block]));
        let calls: Vec<_> = txs.iter().map(call).collect();
        let read = |endpoint: &Endpoint, answers: Answers| {
            let mut all = Vec::with_capacity(txs.len());
            for (answer, (_, inputs)) in answers.into_iter().zip(txs) {
                let vin = match answer {
                    Ok(raw) => endpoint.read::<Spending>(&raw)?.vin,
                    Err(CallError::Node { .. }) => return Ok(None),
                    Err(error) => return Err(error),
                };
                let prevout = |input: &usize| script_of(vin.get(*input)?.prevout.as_ref()?);
                let Some(scripts) = inputs.iter().map(prevout).collect::<Option<Vec<_>>>() else { return Ok(None) };
                all.push(scripts);
            }
            Ok(Some(all))
        };
        self.on_their_word(quorum, &calls, read, "what inputs spend").await.map(|(scripts, _)| scripts)
    }

    /// The scripts of outputs that are spent by a mempool transaction only: of blocks, or of other mempool transactions.
    pub async fn spent_in_mempool(&self, outpoints: &[OutPoint]) -> Result<Vec<ScriptBuf>, String> {
        let mut calls = Vec::with_capacity(2 * outpoints.len());
        for outpoint in outpoints {
            calls.push(("gettxout", json!([outpoint.txid, outpoint.vout, false])));
            calls.push(("getrawtransaction", json!([outpoint.txid])));
        }
        let read = |endpoint: &Endpoint, answers: Answers| {
            let mut scripts = Vec::with_capacity(outpoints.len());
            let mut answers = answers.into_iter();
            for outpoint in outpoints {
                let (output, parent) = (answers.next(), answers.next());
                let known = output.and_then(Result::ok).filter(|raw| raw.get() != "null");
                let script = match (known, parent) {
                    (Some(raw), _) => script_of(&endpoint.read::<TxOut>(&raw)?),
                    (None, Some(Ok(raw))) => {
                        let parent = read_transaction(endpoint, &raw, &outpoint.txid)?;
                        let index = usize::try_from(outpoint.vout).unwrap_or(usize::MAX);
                        parent.output.get(index).map(|output| output.script_pubkey.clone())
                    }
                    _ => None,
                };
                let Some(script) = script else { return Ok(None) };
                scripts.push(script);
            }
            Ok(Some(scripts))
        };
        self.first(0, &calls, read).await.found("what inputs spend")
    }

    /// The blocks between two heights that may pay one of these scripts, by the node's index of block filters. Absent where it
    /// has none, or one that is still being built: what that lacks is passed over in silence.
    pub async fn scan(&self, scripts: &HashSet<ScriptBuf>, from: u64, to: u64) -> Answer<Vec<BlockHash>> {
        let descriptors: Vec<_> = scripts.iter().map(|script| format!("raw({script:x})")).collect();
        let calls =
            [("getindexinfo", json!([FILTERS])), ("scanblocks", json!(["start", descriptors, from, to, "basic"]))];
        let read = |endpoint: &Endpoint, mut answers: Answers| {
            let (Some(Ok(scanned)), Some(Ok(index))) = (answers.pop(), answers.pop()) else { return Ok(None) };
            let index = endpoint.read::<HashMap<String, IndexInfo>>(&index)?.remove(FILTERS);
            let whole = index.is_some_and(|index| index.synced && index.best_block_height >= to);
            let scanned: Scanned = endpoint.read(&scanned)?;
            Ok((whole && scanned.completed).then_some(scanned.relevant_blocks))
        };
        self.first(0, &calls, read).await
    }
}

impl Chain for Node {
    type Hash = BlockHash;
    type Block = Placed;

    fn link(block: &Placed) -> Link {
        block.link
    }

    async fn parent(&self, of: &Placed) -> Answer<Placed> {
        self.block(of.link.parent).await
    }

    async fn range(&self, start: usize, from: At, count: u64) -> Answer<Vec<Placed>> {
        let calls: Vec<_> =
            (from.height..from.height + count).map(|height| ("getblockhash", json!([height]))).collect();
        let hashes = self
            .first(start, &calls, |endpoint, answers| {
                let known: Vec<_> = answers.into_iter().map_while(Result::ok).collect();
                let hashes = known.iter().map(|raw| endpoint.read(raw)).collect::<Result<Vec<BlockHash>, _>>()?;
                Ok((!hashes.is_empty()).then_some(hashes))
            })
            .await;
        let (supplier, hashes) = match hashes {
            Answer::Found(supplier, hashes) => (supplier, hashes),
            Answer::Absent => return Answer::Absent,
            Answer::Failed(error) => return Answer::Failed(error),
        };
        let calls: Vec<_> = hashes.iter().map(|hash| header_call(*hash)).collect();
        self.first(supplier, &calls, |endpoint, answers| {
            let mut blocks: Vec<Placed> = Vec::with_capacity(answers.len());
            for ((answer, height), hash) in answers.into_iter().zip(from.height..).zip(&hashes) {
                let Some(block) = read_header(endpoint, vec![answer])? else { break };
                if block.link.hash != *hash || block.link.height != height {
                    return Err(blame(endpoint, "another block than was asked for"));
                }
                if blocks.last().is_some_and(|below| below.link.hash != block.link.parent) {
                    // A reorg while it was answering.
                    break;
                }
                blocks.push(block);
            }
            Ok((!blocks.is_empty()).then_some(blocks))
        })
        .await
    }

    async fn agreeing(&self, beside: usize, link: &Link) -> usize {
        let mut agreeing = 0;
        for index in (0..self.len()).filter(|index| *index != beside) {
            agreeing += self.has(index, &[*link]).await;
        }
        agreeing
    }

    async fn agreed_prefix(&self, supplier: Option<usize>, blocks: &[Placed], quorum: usize) -> usize {
        let links: Vec<_> = blocks.iter().map(|block| block.link).collect();
        self.agreed_links(supplier, &links, quorum).await
    }
}

impl Node {
    /// How many of these blocks, from the lowest on, `quorum` endpoints have ([`Chain::agreed_prefix`]).
    pub async fn agreed_links(&self, supplier: Option<usize>, links: &[Link], quorum: usize) -> usize {
        let mut prefixes = Vec::new();
        for index in 0..self.len() {
            prefixes.push(if supplier == Some(index) { links.len() } else { self.has(index, links).await });
        }
        prefixes.sort_unstable_by_key(|length| std::cmp::Reverse(*length));
        prefixes.get(quorum.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// How many of these blocks, from the lowest on, an endpoint has in its chain.
    async fn has(&self, index: usize, links: &[Link]) -> usize {
        if !self.is_usable(index).await {
            return 0;
        }
        let calls: Vec<_> = links.iter().map(|link| header_call(link.hash)).collect();
        let Ok(answers) = self.at(index).batches(&calls).await else { return 0 };
        let in_chain = |answer: &Result<Box<RawValue>, CallError>, link: &Link| {
            let header = answer.as_ref().ok().and_then(|raw| serde_json::from_str::<RpcHeader>(raw.get()).ok());
            header.is_some_and(|it| it.confirmations > 0 && it.placed().is_ok_and(|block| block.link == *link))
        };
        answers.iter().zip(links).take_while(|(answer, link)| in_chain(answer, link)).count()
    }
}

fn no_answer() -> CallError {
    CallError::Endpoint("no answer".into())
}

/// How deep a block is in the endpoint's chain, 1 being the tip. `None` where it is not in it.
fn depth(endpoint: &Endpoint, answer: Option<Result<Box<RawValue>, CallError>>) -> Result<Option<u64>, CallError> {
    let Some(Ok(raw)) = answer else { return Ok(None) };
    let RpcDepth { confirmations } = endpoint.read(&raw)?;
    Ok(u64::try_from(confirmations).ok().filter(|depth| *depth > 0))
}

fn header_call(hash: BlockHash) -> Call {
    ("getblockheader", json!([hash]))
}

fn block_call(hash: BlockHash) -> Call {
    ("getblock", json!([hash, 0]))
}

/// The first answer, unless the node does not know what was asked for.
fn one_raw(answers: Answers) -> Result<Option<Box<RawValue>>, CallError> {
    match answers.into_iter().next() {
        Some(Err(CallError::Node { .. })) | None => Ok(None),
        Some(answer) => answer.map(Some),
    }
}

fn one<T: DeserializeOwned>(endpoint: &Endpoint, answers: Answers) -> Result<Option<T>, CallError> {
    one_raw(answers)?.map(|raw| endpoint.read(&raw)).transpose()
}

/// A header of the endpoint's own chain: those of stale branches it knows as well (research/bitcoin.md §6.1).
fn read_header(endpoint: &Endpoint, answers: Answers) -> Result<Option<Placed>, CallError> {
    let Some(header) = one::<RpcHeader>(endpoint, answers)? else { return Ok(None) };
    if header.height > HEIGHT_MAX {
        return Err(blame(endpoint, "a block beyond all numbers"));
    }
    if header.confirmations <= 0 {
        return Ok(None);
    }
    header.placed().map(Some).map_err(|what| blame(endpoint, &what))
}

fn read_block(endpoint: &Endpoint, raw: &RawValue, link: &Link) -> Result<Decoded, CallError> {
    let hex: String = endpoint.read(raw)?;
    let decoded = block::decode(&hex, link.hash, link.height).map_err(|what| blame(endpoint, &what))?;
    if decoded.link != *link {
        return Err(blame(endpoint, "a header that is not that of its block"));
    }
    Ok(decoded)
}

fn read_transaction(endpoint: &Endpoint, raw: &RawValue, txid: &Txid) -> Result<Transaction, CallError> {
    let hex: String = endpoint.read(raw)?;
    match deserialize_hex::<Transaction>(&hex) {
        Ok(tx) if tx.compute_txid() == *txid => Ok(tx),
        _ => Err(blame(endpoint, "another transaction than was asked for")),
    }
}

fn script_of(output: &TxOut) -> Option<ScriptBuf> {
    ScriptBuf::from_hex(&output.script.hex).ok()
}
