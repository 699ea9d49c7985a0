//! What blocks hold, fetched, checked and kept: receipts, bodies of transactions, calls inside them.
//!
//! What can be recomputed is recomputed, so that agreement is needed on block hashes only. What can't be has to come from as
//! many endpoints as the quorum asks for, in the same words.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};
use h402_watch_engine::input::Verification;
use h402_watch_engine::proof::Proof;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::ahead::Together;
use super::block::{Executed, InternalTransfer, check_receipts, from_flat, from_frames, read_deep};
use super::pool::{Fetched, Pool};
use super::proof::{self, Leaves};
use super::text::Link;
use super::verify::{self, Signed};
use super::wire::RpcTx;
use crate::chain::endpoint::{Call, CallError, Endpoint};
use crate::chain::pool::{Answer, Answers, blame, value};

/// Transactions whose details are kept at once, so that a look-up does not fetch a block again.
const CACHED_TXS_MAX: usize = 100_000;
/// Tries to trace a block after which it is done without.
const UNTRACED_MAX: u32 = 8;

/// What the body of a transaction tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    pub from: Address,
    pub to: Option<Address>,
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
    /// Their signatures, where the transactions have the root that the header names.
    signed: Option<Vec<Signed>>,
}

/// Movements of native coin by calls, for each transaction of a block.
pub type Internal = Arc<Vec<Vec<InternalTransfer>>>;

/// What was fetched of a block so far.
#[derive(Clone, Default)]
pub(super) struct Kept {
    /// The list of transactions that the rest belongs to: positions in it are what the rest goes by.
    list: Vec<B256>,
    block: Option<Fetched>,
    pub(super) receipts: Option<Arc<Receipts>>,
    bodies: Option<Arc<Bodies>>,
    pub(super) internal: Option<Internal>,
    /// Tries to trace it that came to nothing.
    untraced: u32,
}

/// Whether roots of this chain's headers can be recomputed from what nodes answer (research/evm.md §2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Roots {
    /// Not yet, as far as was tried.
    Differ,
    /// They could once: what doesn't match is a lie.
    Match,
}

/// Fetches and keeps what blocks hold.
pub struct Blocks {
    pub(super) quorum: usize,
    cache: HashMap<B256, Kept>,
    order: VecDeque<(B256, usize)>,
    cached_txs: usize,
    pub(super) leaves: proof::Kept,
    pub(super) receipt_roots: Roots,
    pub(super) transaction_roots: Roots,
    pub(super) together: Together,
    /// Bodies of the transactions of a block that came before anybody asked for them, and from whom. They are checked when somebody
    /// does.
    pub(super) unread_bodies: Option<(B256, usize, Box<RawValue>)>,
    warned: bool,
}

impl Blocks {
    pub fn new(quorum: usize) -> Self {
        Self {
            quorum,
            cache: HashMap::new(),
            order: VecDeque::new(),
            cached_txs: 0,
            leaves: proof::Kept::default(),
            receipt_roots: Roots::Differ,
            transaction_roots: Roots::Differ,
            together: Together::default(),
            unread_bodies: None,
            warned: false,
        }
    }

    pub(super) fn parts(&mut self, block: &Fetched) -> &mut Kept {
        let list = &block.block.transactions;
        let fresh = || Kept { list: list.clone(), ..Kept::default() };
        // An empty block takes room too.
        let (hash, txs) = (block.block.hash, list.len() + 1);
        if self.cache.get(&hash).is_some_and(|parts| parts.list != *list) {
            // Another endpoint told of other transactions in it: what one of them said does not fit the other's positions.
            self.cache.insert(hash, fresh());
        }
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
        self.cache.entry(hash).or_insert_with(fresh)
    }

    /// A block that is kept.
    pub fn fetched(&self, hash: B256) -> Option<Fetched> {
        self.cache.get(&hash)?.block.clone()
    }

    /// Keeps a block.
    pub fn keep(&mut self, block: &Fetched) {
        self.parts(block).block = Some(block.clone());
    }

    /// Whether its receipts, the bodies of its transactions, the calls inside of them are still to be fetched.
    pub(super) fn lacks(&mut self, block: &Fetched) -> (bool, bool, bool) {
        let unread = self.unread_bodies.as_ref().is_some_and(|(of, ..)| *of == block.block.hash);
        let parts = self.parts(block);
        (parts.receipts.is_none(), parts.bodies.is_none() && !unread, parts.internal.is_none())
    }

    /// Forgets what was fetched of a block: parts of it contradict each other.
    fn forget(&mut self, block: &Fetched) {
        let parts = self.parts(block);
        *parts = Kept { list: std::mem::take(&mut parts.list), ..Kept::default() };
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
            let receipts = self.checked_receipts(pool, &whole, block).await;
            if receipts.is_ok() || offered(pool) {
                return receipts;
            }
        }
        let hashes = &block.block.transactions;
        let calls: Vec<_> = hashes.iter().map(|hash| ("eth_getTransactionReceipt", json!([hash]))).collect();
        self.checked_receipts(pool, &calls, block).await
    }

    /// Receipts in one answer, or one by one. Recomputed if that can be; else from as many endpoints as agree.
    async fn checked_receipts(&mut self, pool: &Pool, calls: &[Call], block: &Fetched) -> Result<Receipts, String> {
        let strict = pool.recomputes() && self.receipt_roots == Roots::Match;
        if pool.recomputes() {
            let read = |endpoint: &Endpoint, answers: Answers| {
                let Some((raw, txs)) = read_receipts(endpoint, answers, block)? else { return Ok(None) };
                match verify::receipts(block, &raw) {
                    Some(encodings) => Ok(Some((txs, encodings))),
                    None if strict => Err(blame(endpoint, "receipts that don't match the block's root")),
                    None => Err(CallError::Node { code: 0, message: UNMATCHED.into() }),
                }
            };
            match pool.first(0, calls, read).await {
                Answer::Found(_, (txs, encodings)) => {
                    self.receipt_roots = Roots::Match;
                    self.leaves.add(block.block.hash, Leaves { receipts: Some(encodings), transactions: None });
                    return Ok(Receipts { txs, verification: Verification::Trie });
                }
                Answer::Failed(error) if error.contains(UNMATCHED) => self.warn_once(),
                other => return Err(other.why_not("the block's receipts")),
            }
        }
        let read =
            |endpoint: &Endpoint, answers: Answers| Ok(read_receipts(endpoint, answers, block)?.map(|(_, txs)| txs));
        let (txs, verification) = pool.on_their_word(self.quorum, calls, read, "the block's receipts").await?;
        Ok(Receipts { txs, verification })
    }

    fn warn_once(&mut self) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!("what this chain's nodes say can't be recomputed: it is taken at their word");
        }
    }

    /// The bodies of a block's transactions, in agreement with its receipts: who sent what to whom stands here, and a
    /// receipt that says otherwise is a lie, whatever its root.
    pub async fn bodies(&mut self, pool: &Pool, block: &Fetched) -> Result<Arc<Bodies>, String> {
        let receipts = self.receipts(pool, block).await?;
        let bodies = match &self.parts(block).bodies {
            Some(bodies) => Arc::clone(bodies),
            None => Arc::new(self.fetch_bodies(pool, block).await?),
        };
        let agree = receipts.txs.len() == bodies.txs.len()
            && receipts.txs.iter().zip(&bodies.txs).all(|(tx, body)| tx.to == body.to && tx.from == body.from);
        if !agree {
            self.forget(block);
            return Err("receipts and transactions that contradict each other".into());
        }
        self.parts(block).bodies = Some(Arc::clone(&bodies));
        Ok(bodies)
    }

    /// Whether somebody wants proofs: what they are made of is kept then.
    pub fn prove(&mut self, wanted: bool) {
        self.leaves.want(wanted);
    }

    /// The inclusion proofs of some of a block's transactions, in the order of `positions`.
    pub async fn proofs(&mut self, pool: &Pool, block: &Fetched, positions: &[usize]) -> Result<Vec<Proof>, String> {
        self.leaves.want(true);
        let kept = self.leaves.of(block.block.hash);
        let parts = self.parts(block);
        // What was checked, and is not kept in the bytes that roots are made of, is fetched again.
        if kept.receipts.is_none() {
            parts.receipts.take_if(|receipts| receipts.verification == Verification::Trie);
        }
        if kept.transactions.is_none() {
            parts.bodies.take_if(|bodies| bodies.verification == Verification::Trie);
        }
        self.bodies(pool, block).await?;
        Ok(proof::prove(&block.header, &self.leaves.of(block.block.hash), positions))
    }

    async fn fetch_bodies(&mut self, pool: &Pool, block: &Fetched) -> Result<Bodies, String> {
        let calls = [("eth_getBlockByHash", json!([block.block.hash, true]))];
        let strict = pool.recomputes() && self.transaction_roots == Roots::Match;
        let body = |tx: RpcTx| Body {
            from: tx.from,
            to: tx.to,
            value: tx.value.0,
            nonce: tx.nonce.0,
            calls: !tx.input.is_empty(),
        };
        let read_plainly = |endpoint: &Endpoint, answers: Answers| {
            let Some(raw) = value(answers)? else { return Ok(None) };
            let full: FullBlock = endpoint.read(&raw)?;
            let same = full.transactions.iter().map(|tx| &tx.hash).eq(&block.block.transactions);
            if full.hash != block.block.hash || !same {
                return Err(blame(endpoint, "other transactions than the block's"));
            }
            Ok(Some((raw, full.transactions.into_iter().map(body).collect::<Vec<_>>())))
        };
        if pool.recomputes() {
            let read = |endpoint: &Endpoint, answers: Answers| {
                let Some((raw, txs)) = read_plainly(endpoint, answers)? else { return Ok(None) };
                match verify::transactions(block, &raw) {
                    Some((signed, encodings)) => Ok(Some((txs, signed, encodings))),
                    None if strict => Err(blame(endpoint, "transactions that don't match the block's root")),
                    None => Err(CallError::Node { code: 0, message: UNMATCHED.into() }),
                }
            };
            let came = self.unread_bodies.take_if(|(of, ..)| *of == block.block.hash);
            let came = came.and_then(|(_, from, raw)| Some((from, read(pool.at(from), vec![Ok(raw)]).ok()??)));
            let answer = match came {
                Some((from, read)) => Answer::Found(from, read),
                None => pool.first(0, &calls, read).await,
            };
            match answer {
                Answer::Found(_, (txs, signed, encodings)) => {
                    self.transaction_roots = Roots::Match;
                    self.leaves.add(block.block.hash, Leaves { receipts: None, transactions: Some(encodings) });
                    return Ok(Bodies { txs, verification: Verification::Trie, signed: Some(signed) });
                }
                // A kind of transaction that can't be encoded here, or a chain that hashes otherwise.
                Answer::Failed(error) if error.contains(UNMATCHED) => self.warn_once(),
                other => return Err(other.why_not("the block's transactions")),
            }
        }
        let read = |endpoint: &Endpoint, answers: Answers| Ok(read_plainly(endpoint, answers)?.map(|(_, txs)| txs));
        let (txs, verification) = pool.on_their_word(self.quorum, &calls, read, "the block's transactions").await?;
        Ok(Bodies { txs, verification, signed: None })
    }

    /// The movements of native coin by calls inside a block's transactions; `None` where they can't be had.
    ///
    /// A trace is under no root: with a quorum, as many endpoints have to give the same. With `insist` a block that is not
    /// traced is an error, however often it was tried.
    pub async fn internal(&mut self, pool: &Pool, block: &Fetched, insist: bool) -> Result<Option<Internal>, String> {
        if block.block.transactions.is_empty() {
            return Ok(Some(Internal::default()));
        }
        if let Some(internal) = &self.parts(block).internal {
            return Ok(Some(Arc::clone(internal)));
        }
        let link = Link::from(&block.block);
        let flat = [("trace_block", json!([format!("{:#x}", link.height)]))];
        let frames = [("debug_traceBlockByHash", json!([link.hash, { "tracer": "callTracer" }]))];
        let (mut failure, mut answered) = (None, true);
        for calls in [&flat, &frames] {
            let offering = (0..pool.len()).filter(|index| pool.at(*index).offers(calls[0].0)).count();
            if offering < self.quorum.max(1) {
                continue;
            }
            let read = |_: &Endpoint, answers: Answers| {
                let Some(raw) = value(answers)? else { return Ok(None) };
                // What can't be read is not there, as far as this goes.
                Ok(if calls[0].0 == "trace_block" {
                    serde_json::from_str(raw.get()).ok().and_then(|traces| from_flat(block, traces))
                } else {
                    read_deep(&raw).ok().and_then(|traces| from_frames(block, traces))
                })
            };
            let traced = if self.quorum < 2 {
                let answer = pool.first(0, calls, read).await;
                answered &= !matches!(answer, Answer::Failed(_));
                answer.found("the block's trace")
            } else {
                pool.agreed(self.quorum, calls, read).await
            };
            match traced {
                Ok(internal) => {
                    let internal = Arc::new(internal);
                    self.parts(block).internal = Some(Arc::clone(&internal));
                    return Ok(Some(internal));
                }
                Err(error) => failure = Some(error),
            }
        }
        let Some(error) = failure else { return Ok(None) };
        let parts = self.parts(block);
        parts.untraced += u32::from(answered);
        if insist || parts.untraced < UNTRACED_MAX {
            return Err(error);
        }
        // Nodes that trace, and have no trace of this block: going on without is better than standing still.
        tracing::warn!(height = link.height, error, "a block is not traced: what contracts paid in it is not seen");
        let empty = Arc::new(vec![Vec::new(); block.block.transactions.len()]);
        self.parts(block).internal = Some(Arc::clone(&empty));
        Ok(Some(empty))
    }
}

impl Bodies {
    /// Whether a transaction was signed by its sender, where signatures could be checked at all.
    pub fn is_genuine(&self, position: usize) -> bool {
        let Some(signed) = &self.signed else { return true };
        match (signed.get(position), self.txs.get(position)) {
            (Some(signed), Some(body)) => signed.signer() == Some(body.from),
            _ => false,
        }
    }
}

const UNMATCHED: &str = "can't be recomputed";

#[derive(Deserialize)]
struct FullBlock {
    hash: B256,
    transactions: Vec<RpcTx>,
}

pub(super) type Checked = (Box<RawValue>, Vec<Executed>);

/// Receipts in one answer for the block, or in one for each transaction.
pub(super) fn read_receipts(
    endpoint: &Endpoint,
    answers: Answers,
    block: &Fetched,
) -> Result<Option<Checked>, CallError> {
    let one = block.block.transactions.len() == 1;
    let raw = if answers.len() == 1 && !(one && is_object(&answers)) {
        let Some(raw) = value(answers)? else { return Ok(None) };
        raw
    } else {
        let mut joined = String::from("[");
        for answer in answers {
            let Some(raw) = value(vec![answer])? else { return Ok(None) };
            joined.push_str(if joined.len() > 1 { "," } else { "" });
            joined.push_str(raw.get());
        }
        joined.push(']');
        RawValue::from_string(joined).map_err(|error| CallError::Endpoint(error.to_string()))?
    };
    let txs = check_receipts(&raw, block).map_err(|error| blame(endpoint, &error))?;
    Ok(Some((raw, txs)))
}

fn is_object(answers: &Answers) -> bool {
    matches!(answers.first(), Some(Ok(raw)) if raw.get().starts_with('{'))
}
