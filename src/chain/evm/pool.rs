//! The endpoints of a network, asked in turn until one has an answer.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy_primitives::B256;
use h402_watch_engine::input::Verification;
use serde_json::json;
use serde_json::value::RawValue;

use super::endpoint::{Call, CallError, Endpoint};
use super::verify;
use super::wire::{Quantity, RpcBlock};
use crate::chain::EndpointHealth;

/// What the endpoints, all told, had to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// One of them has it; its place in the pool comes along.
    Found(usize, T),
    /// All that could be asked don't have it.
    Absent,
    /// None could be asked, or all that were failed.
    Failed(String),
}

impl<T> Answer<T> {
    /// What was found; absence is an error too.
    pub fn found(self, what: &str) -> Result<T, String> {
        match self {
            Self::Found(_, value) => Ok(value),
            Self::Absent => Err(format!("no endpoint has {what}")),
            Self::Failed(error) => Err(error),
        }
    }

    /// Why it was not found.
    pub fn why_not(self, what: &str) -> String {
        self.found(what).err().unwrap_or_default()
    }
}

/// The answers to a batch of calls, in order.
pub type Answers = Vec<Result<Box<RawValue>, CallError>>;

/// The endpoints, the preferred one first.
pub struct Pool {
    chain_id: u64,
    endpoints: Vec<Endpoint>,
    /// Whether what can be recomputed is recomputed.
    recompute: bool,
    /// Whether a header's hash was once the hash of what it says: from then on it has to be.
    hashes_match: AtomicBool,
}

/// The largest height or time that is believed: larger ones don't fit JSON's whole numbers, and overflow sums.
const NUMBER_MAX: u64 = 1 << 53;

impl Pool {
    pub fn new(chain_id: u64, recompute: bool, endpoints: Vec<Endpoint>) -> Self {
        Self { chain_id, endpoints, recompute, hashes_match: AtomicBool::new(false) }
    }

    /// Whether what can be recomputed is recomputed.
    pub fn recomputes(&self) -> bool {
        self.recompute
    }

    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    pub fn at(&self, index: usize) -> &Endpoint {
        &self.endpoints[index]
    }

    pub fn health(&self) -> Vec<EndpointHealth> {
        self.endpoints.iter().map(Endpoint::health).collect()
    }

    /// Whether an endpoint may be asked: not resting, and of the right chain. The chain id is asked for at first, and
    /// again after each failure.
    pub async fn is_usable(&self, index: usize) -> bool {
        let endpoint = &self.endpoints[index];
        if !endpoint.is_up() {
            return false;
        }
        if endpoint.is_checked() {
            return true;
        }
        match endpoint.call::<Quantity>("eth_chainId", json!([])).await {
            Ok(Quantity(id)) if id == self.chain_id => {
                endpoint.set_checked();
                true
            }
            Ok(Quantity(id)) => {
                endpoint.quarantine(format!("chain id {id}, expected {}", self.chain_id));
                false
            }
            Err(_) => false,
        }
    }

    /// Asks from `start` on, one endpoint after the other, until `read` finds something in the answers.
    ///
    /// `null` is not a fact about the chain: the next endpoint is asked (research/evm.md §2.1).
    pub async fn first<T>(
        &self,
        start: usize,
        calls: &[Call],
        read: impl Fn(&Endpoint, Answers) -> Result<Option<T>, CallError>,
    ) -> Answer<T> {
        let mut absent = false;
        let mut failure = String::from("no endpoint is up");
        for offset in 0..self.endpoints.len() {
            let index = (start + offset) % self.endpoints.len();
            let endpoint = &self.endpoints[index];
            if !calls.iter().all(|(method, _)| endpoint.offers(method)) || !self.is_usable(index).await {
                continue;
            }
            let answered = endpoint.batches(calls).await.and_then(|answers| read(endpoint, answers));
            match answered {
                Ok(Some(value)) => return Answer::Found(index, value),
                Ok(None) => absent = true,
                Err(error) => failure = format!("{}: {error}", endpoint.name()),
            }
        }
        if absent { Answer::Absent } else { Answer::Failed(failure) }
    }

    /// The block that an endpoint claims as its tip.
    pub async fn latest(&self, start: usize) -> Answer<Fetched> {
        self.first(start, &[("eth_getBlockByNumber", json!(["latest", false]))], |endpoint, answers| {
            let block = self.read_block(endpoint, answers)?;
            if let Some(block) = &block {
                endpoint.set_tip(super::mirror::Link::from(&block.block).block_ref());
            }
            Ok(block)
        })
        .await
    }

    /// A block by its hash.
    pub async fn block(&self, hash: B256) -> Answer<Fetched> {
        self.first(0, &[("eth_getBlockByHash", json!([hash, false]))], |endpoint, answers| {
            let block = self.read_block(endpoint, answers)?;
            match block {
                Some(block) if block.block.hash != hash => Err(blame(endpoint, "another block than was asked for")),
                block => Ok(block),
            }
        })
        .await
    }

    /// Consecutive blocks by height, as one endpoint has them, linked; fewer where it has no more.
    pub async fn range(&self, start: usize, from: u64, count: u64) -> Answer<Vec<Fetched>> {
        let number = |height: u64| ("eth_getBlockByNumber", json!([format!("{height:#x}"), false]));
        let calls: Vec<_> = (from..from + count).map(number).collect();
        self.first(start, &calls, |endpoint, answers| {
            let mut blocks: Vec<Fetched> = Vec::with_capacity(answers.len());
            for (answer, height) in answers.into_iter().zip(from..) {
                let Some(block) = self.read_block(endpoint, vec![answer])? else { break };
                let linked = blocks.last().is_none_or(|below| below.block.hash == block.block.parent_hash);
                if block.block.number.0 != height {
                    return Err(blame(endpoint, "another block than was asked for"));
                }
                if !linked {
                    // A reorg while it was answering.
                    break;
                }
                blocks.push(block);
            }
            Ok((!blocks.is_empty()).then_some(blocks))
        })
        .await
    }

    /// The same question to each endpoint that may be asked: the answer that at least `quorum` of them gave, how many did,
    /// and how many were asked.
    pub async fn agreed<T: PartialEq>(
        &self,
        quorum: usize,
        calls: &[Call],
        read: impl Fn(&Endpoint, Answers) -> Result<Option<T>, CallError>,
    ) -> Result<(T, usize, usize), String> {
        let mut given: Vec<(T, usize)> = Vec::new();
        let mut asked = 0;
        for index in 0..self.endpoints.len() {
            let endpoint = &self.endpoints[index];
            if !calls.iter().all(|(method, _)| endpoint.offers(method)) || !self.is_usable(index).await {
                continue;
            }
            let Ok(Some(value)) = endpoint.batches(calls).await.and_then(|answers| read(endpoint, answers)) else {
                continue;
            };
            asked += 1;
            match given.iter_mut().find(|(other, _)| *other == value) {
                Some((_, count)) => *count += 1,
                None => given.push((value, 1)),
            }
        }
        let best = given.into_iter().max_by_key(|(_, count)| *count).filter(|(_, count)| *count >= quorum);
        let (value, count) = best.ok_or_else(|| format!("no {quorum} endpoints agree"))?;
        Ok((value, count, asked))
    }

    /// What nothing proves: the word of `quorum` endpoints, or of the first that has it where no quorum is asked for.
    pub async fn on_their_word<T: PartialEq>(
        &self,
        quorum: usize,
        calls: &[Call],
        read: impl Fn(&Endpoint, Answers) -> Result<Option<T>, CallError>,
        what: &str,
    ) -> Result<(T, Verification), String> {
        if quorum < 2 {
            return Ok((self.first(0, calls, read).await.found(what)?, Verification::Endpoint));
        }
        let (value, agreed, asked) = self.agreed(quorum, calls, read).await?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok((value, Verification::Quorum { agreed: count(agreed), asked: count(asked) }))
    }

    /// How many endpoints beside one have a block at its height.
    pub async fn agreeing(&self, beside: usize, height: u64, hash: B256) -> usize {
        let mut agreeing = 0;
        for index in (0..self.endpoints.len()).filter(|index| *index != beside) {
            if !self.is_usable(index).await {
                continue;
            }
            let params = json!([format!("{height:#x}"), false]);
            let block = self.endpoints[index].call::<Option<RpcBlock>>("eth_getBlockByNumber", params).await;
            agreeing += usize::from(block.is_ok_and(|block| block.is_some_and(|block| block.hash == hash)));
        }
        agreeing
    }

    /// How many of these consecutive blocks, from the lowest on, `quorum` endpoints have in all they say: hash, parent and
    /// transactions. `supplier` counts as one, where all of them came from it.
    pub async fn agreed_prefix(&self, supplier: Option<usize>, blocks: &[Fetched], quorum: usize) -> usize {
        let number = |block: &Fetched| ("eth_getBlockByNumber", json!([format!("{:#x}", block.block.number.0), false]));
        let calls: Vec<_> = blocks.iter().map(number).collect();
        let mut prefixes = Vec::new();
        for index in 0..self.endpoints.len() {
            if supplier == Some(index) {
                prefixes.push(blocks.len());
                continue;
            }
            if !self.is_usable(index).await {
                continue;
            }
            let endpoint = &self.endpoints[index];
            let Ok(answers) = endpoint.batch(&calls).await else { continue };
            let same = |(answer, block): &(Result<Box<RawValue>, CallError>, &Fetched)| {
                let read = answer.as_ref().ok().and_then(|raw| serde_json::from_str::<RpcBlock>(raw.get()).ok());
                read.is_some_and(|read| {
                    read.hash == block.block.hash
                        && read.parent_hash == block.block.parent_hash
                        && read.transactions == block.block.transactions
                })
            };
            prefixes.push(answers.into_iter().zip(blocks).take_while(same).count());
        }
        prefixes.sort_unstable_by_key(|length| std::cmp::Reverse(*length));
        prefixes.get(quorum.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// Reads the first answer as a block; `null` is none. What can't be is refused.
    fn read_block(&self, endpoint: &Endpoint, answers: Answers) -> Result<Option<Fetched>, CallError> {
        let Some(raw) = value(answers)? else { return Ok(None) };
        let block: RpcBlock = endpoint.read(&raw)?;
        if block.number.0 > NUMBER_MAX || block.timestamp.0 > NUMBER_MAX / 1000 {
            return Err(blame(endpoint, "a block beyond all numbers"));
        }
        let distinct: HashSet<_> = block.transactions.iter().collect();
        if distinct.len() != block.transactions.len() {
            return Err(blame(endpoint, "a block that holds a transaction twice"));
        }
        match verify::header(&raw, block.hash).filter(|_| self.recompute) {
            Some(header) if verify::emptiness_matches(&header, &block.transactions) => {
                self.hashes_match.store(true, Ordering::Relaxed);
            }
            Some(_) => return Err(blame(endpoint, "a block without the transactions that its header speaks of")),
            None if self.recompute && self.hashes_match.load(Ordering::Relaxed) => {
                return Err(blame(endpoint, "a header that does not hash to what it is called"));
            }
            // A chain that hashes otherwise, as far as is known.
            None => {}
        }
        Ok(Some(Fetched { block, raw }))
    }
}

/// A block, and the bytes that it was read from.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The block.
    pub block: RpcBlock,
    /// The bytes.
    pub raw: Box<RawValue>,
}

/// The first answer, unless it is `null` or the node does not know what was asked for.
pub fn value(answers: Answers) -> Result<Option<Box<RawValue>>, CallError> {
    match answers.into_iter().next() {
        Some(Err(CallError::Node { .. })) | None => Ok(None),
        Some(Ok(raw)) if raw.get() == "null" => Ok(None),
        Some(answer) => answer.map(Some),
    }
}

/// Whether the last answer, taken off, is about something that the endpoint has.
pub fn has_last(answers: &mut Answers) -> bool {
    answers.pop().is_some_and(|answer| answer.is_ok_and(|raw| raw.get() != "null"))
}

/// What an endpoint said can't be: it rests.
pub fn blame(endpoint: &Endpoint, what: &str) -> CallError {
    endpoint.blame(what);
    CallError::Endpoint(what.to_owned())
}

/// The pause between two tries of something that no endpoint could give.
pub const RETRY: Duration = Duration::from_millis(500);
