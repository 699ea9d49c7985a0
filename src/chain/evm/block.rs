//! What a block holds: receipts, bodies of transactions, calls inside them; each checked before it is believed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use alloy_consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy_consensus::{ReceiptEnvelope, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, U256, b256, keccak256};
use alloy_rpc_types_eth::{Header, TransactionReceipt};
use h402_watch_engine::input::{Execution, Verification};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::endpoint::{CallError, Endpoint};
use super::mirror::Link;
use super::pool::{Answer, Answers, Fetched, Pool, blame};
use super::wire::{CallFrame, FlatTrace, RpcLog, RpcReceipt, RpcTx, TxTrace};

/// `Transfer(address,address,uint256)` of ERC-20.
pub const TRANSFER: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");
/// `AuthorizationUsed(address,bytes32)` of EIP-3009.
pub const AUTHORIZATION_USED: B256 = b256!("98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5");
/// `AuthorizationCanceled(address,bytes32)` of EIP-3009.
pub const AUTHORIZATION_CANCELED: B256 = b256!("1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81");

/// The first index of a call inside a transaction; below are its value (0) and its log entries (1 + place).
pub const INTERNAL_BASE: u32 = 0x8000_0000;

/// Transactions whose details are kept at once, so that a look-up does not fetch a block again.
const CACHED_TXS_MAX: usize = 100_000;
/// Calls inside one transaction that are looked at.
const CALLS_MAX: usize = 4096;

/// One movement of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTransfer {
    /// Its place among the transaction's log entries, from 1.
    pub index: u32,
    /// The contract.
    pub token: Address,
    /// From whom.
    pub from: Address,
    /// To whom.
    pub to: Address,
    /// How much.
    pub amount: U256,
}

/// One use of an authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationLog {
    /// The contract.
    pub token: Address,
    /// Who signed it.
    pub authorizer: Address,
    /// Its single-use number.
    pub nonce: B256,
    /// Whether it was cancelled instead of used.
    pub cancelled: bool,
}

/// One movement of native coin by a call inside a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalTransfer {
    /// [`INTERNAL_BASE`] and its place among the transaction's calls that carry coin.
    pub index: u32,
    /// From whom.
    pub from: Address,
    /// To whom.
    pub to: Address,
    /// How much.
    pub amount: U256,
}

/// What the receipts tell of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Which.
    pub hash: B256,
    /// Who sent it.
    pub from: Address,
    /// Whom it calls.
    pub to: Option<Address>,
    /// How it ended.
    pub execution: Execution,
    /// What its sender paid for it, in native coin, as far as the receipt tells.
    pub fee: U256,
    /// Tokens that moved.
    pub transfers: Vec<LogTransfer>,
    /// Authorizations that it used up.
    pub authorizations: Vec<AuthorizationLog>,
}

/// What the body of a transaction tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    pub value: U256,
    pub nonce: u64,
    /// Whether it calls a contract, or makes one.
    pub calls: bool,
}

/// Receipts of a block, and how much of them was checked.
#[derive(Debug)]
pub struct Receipts {
    pub txs: Vec<Executed>,
    pub verification: Verification,
}

/// Bodies of a block's transactions, and how much of them was checked.
#[derive(Debug)]
pub struct Bodies {
    pub txs: Vec<Body>,
    pub verification: Verification,
}

/// What was fetched of a block so far.
#[derive(Clone, Default)]
struct Parts {
    block: Option<Fetched>,
    receipts: Option<Arc<Receipts>>,
    bodies: Option<Arc<Bodies>>,
    internal: Option<Arc<Vec<Vec<InternalTransfer>>>>,
}

/// Whether the roots of this chain's headers can be recomputed from what nodes answer (research/evm.md §2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Roots {
    /// Not tried yet.
    Untried,
    /// They could once: what doesn't match is a lie.
    Match,
    /// They can't: system transactions, or another way of hashing.
    Differ,
}

/// Fetches and keeps what blocks hold.
pub struct Blocks {
    cache: HashMap<B256, Parts>,
    order: VecDeque<(B256, usize)>,
    cached_txs: usize,
    roots: Roots,
    transaction_roots: Roots,
    /// How often in a row no endpoint that offers traces had one.
    untraced: u32,
    /// How often in a row receipts and traces could not be had together.
    prefetch_failures: u32,
}

impl Blocks {
    pub fn new() -> Self {
        Self {
            cache: HashMap::new(),
            order: VecDeque::new(),
            cached_txs: 0,
            roots: Roots::Untried,
            transaction_roots: Roots::Untried,
            untraced: 0,
            prefetch_failures: 0,
        }
    }

    fn parts(&mut self, block: &Fetched) -> &mut Parts {
        // An empty block takes room too.
        let (hash, txs) = (block.block.hash, block.block.transactions.len() + 1);
        if !self.cache.contains_key(&hash) {
            self.order.push_back((hash, txs));
            self.cached_txs += txs;
            while self.cached_txs > CACHED_TXS_MAX
                && self.order.len() > 1
                && let Some((oldest, txs)) = self.order.pop_front()
            {
                self.cache.remove(&oldest);
                self.cached_txs -= txs;
            }
        }
        self.cache.entry(hash).or_default()
    }

    /// A block that is kept.
    pub fn fetched(&self, hash: B256) -> Option<Fetched> {
        self.cache.get(&hash)?.block.clone()
    }

    /// Keeps a block.
    pub fn keep(&mut self, block: &Fetched) {
        self.parts(block).block = Some(block.clone());
    }

    /// The receipts of a block.
    pub async fn receipts(&mut self, pool: &Pool, block: &Fetched) -> Result<Arc<Receipts>, String> {
        if let Some(receipts) = &self.parts(block).receipts {
            return Ok(Arc::clone(receipts));
        }
        let receipts = if block.block.transactions.is_empty() {
            Receipts { txs: Vec::new(), verification: Verification::Trie }
        } else {
            self.fetch_receipts(pool, block).await?
        };
        let receipts = Arc::new(receipts);
        self.parts(block).receipts = Some(Arc::clone(&receipts));
        Ok(receipts)
    }

    async fn fetch_receipts(&mut self, pool: &Pool, block: &Fetched) -> Result<Receipts, String> {
        let whole = [("eth_getBlockReceipts", json!([block.block.hash]))];
        let offered = |pool: &Pool| (0..pool.len()).any(|index| pool.at(index).offers("eth_getBlockReceipts"));
        if offered(pool) {
            let receipts = self.read_checked(pool, &whole, block).await;
            if receipts.is_ok() || offered(pool) {
                return receipts;
            }
        }
        // One by one, in batches that providers accept.
        let calls: Vec<_> =
            block.block.transactions.iter().map(|hash| ("eth_getTransactionReceipt", json!([hash]))).collect();
        let mut raw = Vec::with_capacity(calls.len());
        for batch in calls.chunks(BATCH_MAX) {
            let read = |_: &Endpoint, answers: Answers| answers.into_iter().collect::<Result<Vec<_>, _>>().map(Some);
            raw.extend(pool.first(0, batch, read).await.found("the transactions' receipts")?);
        }
        let joined = raw.iter().map(|one| one.get()).collect::<Vec<_>>().join(",");
        let joined = RawValue::from_string(format!("[{joined}]")).map_err(|error| error.to_string())?;
        let txs = check_receipts(&joined, block)?;
        let matches = receipts_match(block, &joined);
        if !matches && self.roots == Roots::Match {
            return Err("receipts that don't match the block's root".into());
        }
        Ok(Receipts { txs, verification: if matches { Verification::Trie } else { Verification::Endpoint } })
    }

    async fn read_checked(
        &mut self,
        pool: &Pool,
        calls: &[(&'static str, serde_json::Value)],
        block: &Fetched,
    ) -> Result<Receipts, String> {
        let roots = self.roots;
        let strict = pool.first(0, calls, |endpoint, answers| {
            let Some((raw, txs)) = read_receipts(endpoint, answers, block)? else { return Ok(None) };
            match (receipts_match(block, &raw), roots) {
                (true, _) => Ok(Some((txs, Verification::Trie))),
                (false, Roots::Differ) => Ok(Some((txs, Verification::Endpoint))),
                (false, Roots::Match) => Err(blame(endpoint, "receipts that don't match the block's root")),
                (false, Roots::Untried) => Err(CallError::Node { code: 0, message: UNMATCHED.into() }),
            }
        });
        match strict.await {
            Answer::Found(_, (txs, verification)) => {
                if verification == Verification::Trie {
                    self.roots = Roots::Match;
                }
                Ok(Receipts { txs, verification })
            }
            Answer::Failed(error) if error.contains(UNMATCHED) => {
                tracing::warn!("receipts can't be recomputed on this chain: they are taken at the endpoint's word");
                self.roots = Roots::Differ;
                let read = |endpoint: &Endpoint, answers: Answers| {
                    Ok(read_receipts(endpoint, answers, block)?.map(|(_, txs)| txs))
                };
                let txs = pool.first(0, calls, read).await.found("the block's receipts")?;
                Ok(Receipts { txs, verification: Verification::Endpoint })
            }
            other => Err(other.found("the block's receipts").err().unwrap_or_default()),
        }
    }

    /// Receipts and traces of a block in one request, where an endpoint offers both.
    ///
    /// What can't be had so is left to [`Blocks::receipts`] and [`Blocks::internal`].
    pub async fn prefetch(&mut self, pool: &Pool, block: &Fetched) {
        let parts = self.parts(block);
        let known = parts.receipts.is_some() || parts.internal.is_some();
        if known || self.roots != Roots::Match || self.prefetch_failures >= PREFETCH_FAILURES_MAX {
            return;
        }
        let height = format!("{:#x}", block.block.number.0);
        let calls = [("eth_getBlockReceipts", json!([block.block.hash])), ("trace_block", json!([height]))];
        let read = |endpoint: &Endpoint, mut answers: Answers| {
            let traces = answers.pop();
            let Some((raw, txs)) = read_receipts(endpoint, answers, block)? else { return Ok(None) };
            if !receipts_match(block, &raw) {
                return Err(blame(endpoint, "receipts that don't match the block's root"));
            }
            let traced = match traces {
                Some(Ok(raw)) if raw.get() != "null" => from_flat(block, endpoint.read(&raw)?),
                _ => None,
            };
            Ok(Some((txs, traced)))
        };
        let answer = pool.first(0, &calls, read).await;
        self.prefetch_failures = if let Answer::Failed(_) = answer { self.prefetch_failures + 1 } else { 0 };
        if let Answer::Found(_, (txs, traced)) = answer {
            let parts = self.parts(block);
            parts.receipts = Some(Arc::new(Receipts { txs, verification: Verification::Trie }));
            parts.internal = traced.map(Arc::new);
        }
    }

    /// The values and nonces of a block's transactions.
    pub async fn bodies(&mut self, pool: &Pool, block: &Fetched) -> Result<Arc<Bodies>, String> {
        if let Some(bodies) = &self.parts(block).bodies {
            return Ok(Arc::clone(bodies));
        }
        let strict = self.transaction_roots == Roots::Match;
        let calls = [("eth_getBlockByHash", json!([block.block.hash, true]))];
        let read = |endpoint: &Endpoint, answers: Answers| {
            let Some(raw) = value(answers)? else { return Ok(None) };
            let full: FullBlock = endpoint.read(&raw)?;
            let same = full.transactions.len() == block.block.transactions.len()
                && full.transactions.iter().zip(&block.block.transactions).all(|(tx, hash)| tx.hash == *hash);
            if full.hash != block.block.hash || !same {
                return Err(blame(endpoint, "other transactions than the block's"));
            }
            match (transactions_match(block, &raw), strict) {
                (true, _) => Ok(Some((full.transactions, Verification::Trie))),
                (false, true) => Err(blame(endpoint, "transactions that don't match the block's root")),
                // A kind of transaction that can't be encoded here, or a chain that hashes otherwise.
                (false, false) => Ok(Some((full.transactions, Verification::Endpoint))),
            }
        };
        let (txs, verification) = pool.first(0, &calls, read).await.found("the block's transactions")?;
        if self.transaction_roots == Roots::Untried {
            let matches = verification == Verification::Trie;
            self.transaction_roots = if matches { Roots::Match } else { Roots::Differ };
        }
        let body = |tx: RpcTx| Body { value: tx.value.0, nonce: tx.nonce.0, calls: !tx.input.is_empty() };
        let txs = txs.into_iter().map(body).collect();
        let bodies = Arc::new(Bodies { txs, verification });
        self.parts(block).bodies = Some(Arc::clone(&bodies));
        Ok(bodies)
    }

    /// The movements of native coin by calls inside a block's transactions, per transaction; `None` where no endpoint
    /// traces.
    pub async fn internal(
        &mut self,
        pool: &Pool,
        block: &Fetched,
    ) -> Result<Option<Arc<Vec<Vec<InternalTransfer>>>>, String> {
        if let Some(internal) = &self.parts(block).internal {
            return Ok(Some(Arc::clone(internal)));
        }
        let link = Link::from(&block.block);
        let flat = [("trace_block", json!([format!("{:#x}", link.height)]))];
        let frames = [("debug_traceBlockByHash", json!([link.hash, { "tracer": "callTracer" }]))];
        let mut failure = None;
        for calls in [&flat, &frames] {
            if !(0..pool.len()).any(|index| pool.at(index).offers(calls[0].0)) {
                continue;
            }
            let read = |endpoint: &Endpoint, answers: Answers| {
                let Some(raw) = value(answers)? else { return Ok(None) };
                let traced = if calls[0].0 == "trace_block" {
                    from_flat(block, endpoint.read(&raw)?)
                } else {
                    from_frames(block, read_deep(&raw).map_err(CallError::Endpoint)?)
                };
                traced.map(Some).ok_or_else(|| blame(endpoint, "a trace of another block"))
            };
            match pool.first(0, calls, read).await {
                Answer::Found(_, internal) => {
                    self.untraced = 0;
                    let internal = Arc::new(internal);
                    self.parts(block).internal = Some(Arc::clone(&internal));
                    return Ok(Some(internal));
                }
                other => failure = other.found("the block's trace").err(),
            }
        }
        let methods = ["trace_block", "debug_traceBlockByHash"];
        let offered = |method| (0..pool.len()).any(|index| pool.at(index).offers(method));
        let Some(error) = failure.filter(|_| methods.into_iter().any(offered)) else { return Ok(None) };
        self.untraced += 1;
        if self.untraced < UNTRACED_MAX {
            return Err(error);
        }
        // Nodes that say they trace, and don't: going without traces for good is better than standing still.
        self.untraced = 0;
        tracing::warn!(error, "no endpoint traces: payments that contracts make are looked for by balance from now on");
        for index in 0..pool.len() {
            methods.into_iter().for_each(|method| pool.at(index).refuse(method));
        }
        Ok(None)
    }
}

/// Failures in a row after which receipts and traces are no longer asked for together.
const PREFETCH_FAILURES_MAX: u32 = 3;

/// Tries to trace a block after which traces are given up.
const UNTRACED_MAX: u32 = 8;

/// Reads JSON that may be nested as deeply as the EVM allows calls (1,024, two levels each), which is more than
/// `serde_json` does by itself.
fn read_deep<T: serde::de::DeserializeOwned>(raw: &RawValue) -> Result<T, String> {
    const DEPTH_MAX: usize = 2 * 1024 + 64;
    let mut depth = 0_usize;
    for byte in raw.get().bytes() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err("an answer that is nested too deeply".into());
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    deserializer.disable_recursion_limit();
    let deserializer = serde_stacker::Deserializer::new(&mut deserializer);
    T::deserialize(deserializer).map_err(|error| format!("an answer that can't be read: {error}"))
}

/// Calls of one batch that every provider accepts (research/evm.md §6: Tron takes 100).
pub const BATCH_MAX: usize = 100;

const UNMATCHED: &str = "receipts can't be recomputed";

#[derive(Deserialize)]
struct FullBlock {
    hash: B256,
    transactions: Vec<RpcTx>,
}

/// The first answer, unless it is `null` or the node does not know what was asked for.
fn value(answers: Answers) -> Result<Option<Box<RawValue>>, CallError> {
    match answers.into_iter().next() {
        Some(Err(CallError::Node { .. })) | None => Ok(None),
        Some(Ok(raw)) if raw.get() == "null" => Ok(None),
        Some(answer) => answer.map(Some),
    }
}

type Checked = (Box<RawValue>, Vec<Executed>);

fn read_receipts(endpoint: &Endpoint, answers: Answers, block: &Fetched) -> Result<Option<Checked>, CallError> {
    let Some(raw) = value(answers)? else { return Ok(None) };
    let txs = check_receipts(&raw, block).map_err(|error| blame(endpoint, &error))?;
    Ok(Some((raw, txs)))
}

/// The checks that cost nothing and always apply: one receipt for each transaction, in order, of this block, with log
/// entries numbered without a gap (research/evm.md §2.4).
///
/// # Errors
/// Says what can't be.
pub fn check_receipts(raw: &RawValue, block: &Fetched) -> Result<Vec<Executed>, String> {
    let receipts: Vec<RpcReceipt> = serde_json::from_str(raw.get()).map_err(|error| format!("receipts: {error}"))?;
    let hashes = &block.block.transactions;
    if receipts.len() != hashes.len() {
        return Err(format!("{} receipts for {} transactions", receipts.len(), hashes.len()));
    }
    let mut next_log = None;
    for ((receipt, hash), index) in receipts.iter().zip(hashes).zip(0_u64..) {
        if receipt.block_hash != block.block.hash {
            return Err("a receipt of another block".into());
        }
        if receipt.transaction_hash != *hash || receipt.transaction_index.0 != index {
            return Err("receipts in another order than the transactions".into());
        }
        if receipt.status.is_some_and(|status| status.0 > 1) {
            return Err("a receipt with a status other than 0 and 1".into());
        }
        for log in &receipt.logs {
            let Some(at) = log.log_index else { continue };
            if next_log.is_some_and(|next| next != at.0) || log.removed {
                return Err("log entries that are not numbered without a gap".into());
            }
            next_log = Some(at.0 + 1);
        }
    }
    Ok(receipts.iter().map(executed).collect())
}

fn executed(receipt: &RpcReceipt) -> Executed {
    let execution = match receipt.status {
        Some(status) if status.0 == 1 => Execution::Succeeded,
        Some(_) => Execution::Reverted,
        None => Execution::Unknown,
    };
    // Some chains keep the log of what was reverted; it moved nothing.
    let logs: &[RpcLog] = if execution == Execution::Succeeded { &receipt.logs } else { &[] };
    let (mut transfers, mut authorizations) = (Vec::new(), Vec::new());
    for (log, index) in logs.iter().zip(1_u32..INTERNAL_BASE) {
        match log.topics.as_slice() {
            // Three topics and one word: ERC-721 has four topics, unindexed tokens of old have one.
            [TRANSFER, from, to] if log.data.len() == 32 => transfers.push(LogTransfer {
                index,
                token: log.address,
                from: Address::from_word(*from),
                to: Address::from_word(*to),
                amount: U256::from_be_slice(&log.data),
            }),
            [kind @ (AUTHORIZATION_USED | AUTHORIZATION_CANCELED), authorizer, nonce] => {
                authorizations.push(AuthorizationLog {
                    token: log.address,
                    authorizer: Address::from_word(*authorizer),
                    nonce: *nonce,
                    cancelled: *kind == AUTHORIZATION_CANCELED,
                });
            }
            _ => {}
        }
    }
    let (hash, from, to) = (receipt.transaction_hash, receipt.from, receipt.to);
    let price = receipt.effective_gas_price.map_or(U256::ZERO, |price| price.0);
    let fee = price.saturating_mul(U256::from(receipt.gas_used.map_or(0, |gas| gas.0)));
    Executed { hash, from, to, execution, fee, transfers, authorizations }
}

/// The header of a block, if its hash is the hash of what it says.
fn verified_header(block: &Fetched) -> Option<Header> {
    let header: Header = serde_json::from_str(block.raw.get()).ok()?;
    (header.inner.hash_slow() == block.block.hash).then_some(header)
}

/// Whether receipts have the root that the header names.
fn receipts_match(block: &Fetched, raw: &RawValue) -> bool {
    let Some(header) = verified_header(block) else { return false };
    let Ok(receipts) = serde_json::from_str::<Vec<TransactionReceipt>>(raw.get()) else { return false };
    let encoded: Vec<ReceiptEnvelope> = receipts.into_iter().map(|one| one.into_primitives_receipt().inner).collect();
    calculate_receipt_root(&encoded) == header.inner.receipts_root
}

/// Whether transactions have the root that the header names.
fn transactions_match(block: &Fetched, raw: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Transactions {
        transactions: Vec<alloy_rpc_types_eth::Transaction>,
    }
    let Some(header) = verified_header(block) else { return false };
    let Ok(full) = serde_json::from_str::<Transactions>(raw.get()) else { return false };
    let txs: Vec<TxEnvelope> = full.transactions.into_iter().map(|tx| tx.inner.into_inner()).collect();
    let hashes_match =
        txs.iter().zip(&block.block.transactions).all(|(tx, hash)| keccak256(tx.encoded_2718()) == *hash);
    hashes_match && calculate_transaction_root(&txs) == header.inner.transactions_root
}

/// Collects movements per transaction; the order of the calls gives each its index.
struct Movements {
    by_tx: Vec<Vec<InternalTransfer>>,
}

impl Movements {
    fn add(&mut self, tx: usize, from: Address, to: Address, amount: U256) {
        let moved = &mut self.by_tx[tx];
        if amount.is_zero() || moved.len() >= CALLS_MAX {
            return;
        }
        let index = INTERNAL_BASE + u32::try_from(moved.len()).unwrap_or(0);
        moved.push(InternalTransfer { index, from, to, amount });
    }
}

/// Reads `trace_block`; `None` if it is of another block.
pub fn from_flat(block: &Fetched, traces: Vec<FlatTrace>) -> Option<Vec<Vec<InternalTransfer>>> {
    let positions: HashMap<_, _> = block.block.transactions.iter().zip(0_usize..).collect();
    let mut movements = Movements { by_tx: vec![Vec::new(); positions.len()] };
    // Calls of the current transaction that failed; the traces of one stand together.
    let (mut current, mut failed) = (None, Vec::<Vec<u32>>::new());
    for trace in traces {
        let Some(hash) = trace.transaction_hash else { continue };
        if current.replace(hash) != Some(hash) {
            failed.clear();
        }
        if trace.block_hash.is_some_and(|of| of != block.block.hash) {
            return None;
        }
        let &position = positions.get(&hash)?;
        // What a failed call did, and what those did that it made, was undone.
        let undone = failed.iter().any(|call| trace.trace_address.starts_with(call));
        if trace.error.is_some() {
            // One within another failed call says nothing new.
            if !undone {
                failed.push(trace.trace_address);
            }
            continue;
        }
        // The outermost call is the transaction's own value.
        if undone || (trace.trace_address.is_empty() && trace.kind == "call") {
            continue;
        }
        let action = trace.action;
        let amount = action.value.map_or(U256::ZERO, |value| value.0);
        match trace.kind.as_str() {
            "call" if action.call_type.as_deref() == Some("call") => {
                if let (Some(from), Some(to)) = (action.from, action.to) {
                    movements.add(position, from, to, amount);
                }
            }
            "create" => {
                if let (Some(from), Some(to)) = (action.from, trace.result.and_then(|result| result.address)) {
                    movements.add(position, from, to, amount);
                }
            }
            "suicide" => {
                if let (Some(from), Some(to), Some(balance)) = (action.address, action.refund_address, action.balance) {
                    movements.add(position, from, to, balance.0);
                }
            }
            _ => {}
        }
    }
    Some(movements.by_tx)
}

/// Reads `debug_traceBlockByHash` with `callTracer`; `None` if it is of another block.
pub fn from_frames(block: &Fetched, traces: Vec<TxTrace>) -> Option<Vec<Vec<InternalTransfer>>> {
    let hashes = &block.block.transactions;
    if traces.len() != hashes.len() {
        return None;
    }
    let mut movements = Movements { by_tx: vec![Vec::new(); hashes.len()] };
    for ((trace, hash), position) in traces.iter().zip(hashes).zip(0..) {
        if trace.tx_hash.is_some_and(|of| of != *hash) {
            return None;
        }
        if trace.result.error.is_none() {
            for call in &trace.result.calls {
                walk(&mut movements, position, call);
            }
        }
    }
    Some(movements.by_tx)
}

/// A call, then those that it made; a failed one undid them all.
fn walk(movements: &mut Movements, position: usize, call: &CallFrame) {
    if call.error.is_some() {
        return;
    }
    if let ("CALL" | "CREATE" | "CREATE2" | "SELFDESTRUCT", Some(to), Some(value)) =
        (call.kind.as_str(), call.to, call.value)
    {
        movements.add(position, call.from, to, value.0);
    }
    for inner in &call.calls {
        walk(movements, position, inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Box<RawValue> {
        let frame = r#"{"type":"CALL","from":"0x00000000000000000000000000000000000000aa","calls":["#;
        let text = format!("[{{\"result\":{}{}}}]", frame.repeat(depth), "]}".repeat(depth));
        RawValue::from_string(text).expect("JSON")
    }

    #[test]
    fn traces_may_be_as_deep_as_calls_and_no_deeper() {
        assert_eq!(read_deep::<Vec<TxTrace>>(&nested(1024)).expect("the EVM's own limit").len(), 1);
        assert!(read_deep::<Vec<TxTrace>>(&nested(5000)).is_err());
    }

    #[test]
    fn what_a_failed_call_did_was_undone_with_all_that_it_made() {
        let hash = B256::repeat_byte(3);
        let block: super::super::wire::RpcBlock = serde_json::from_value(json!({
            "hash": B256::repeat_byte(1), "parentHash": B256::repeat_byte(2), "number": "0x1", "timestamp": "0x1",
            "transactions": [hash],
        }))
        .expect("a block");
        let raw = RawValue::from_string("{}".into()).expect("JSON");
        let call = |address: &[u32], error: Option<&str>| {
            json!({
                "type": "call", "transactionHash": hash, "traceAddress": address, "error": error,
                "action": {
                    "callType": "call", "from": Address::repeat_byte(0xaa), "to": Address::repeat_byte(0xbb), "value": "0x5",
                },
            })
        };
        let traces = json!([
            call(&[], None),
            call(&[0], Some("Reverted")),
            call(&[0, 0], None),
            call(&[1], None),
            call(&[1, 0], None),
        ]);
        let traces = serde_json::from_value(traces).expect("traces");
        let moved = from_flat(&Fetched { block, raw }, traces).expect("of this block");
        assert_eq!(moved[0].len(), 2, "{moved:?}");
        assert_eq!(moved[0][1].index, INTERNAL_BASE + 1);
    }
}
