//! The endpoints of a network, asked in turn until one has an answer.

use std::time::Duration;

use alloy_primitives::B256;
use serde_json::json;
use serde_json::value::RawValue;

use super::endpoint::{Call, CallError, Endpoint};
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
}

/// The answers to a batch of calls, in order.
pub type Answers = Vec<Result<Box<RawValue>, CallError>>;

/// The endpoints, the preferred one first.
pub struct Pool {
    chain_id: u64,
    endpoints: Vec<Endpoint>,
}

impl Pool {
    pub fn new(chain_id: u64, endpoints: Vec<Endpoint>) -> Self {
        Self { chain_id, endpoints }
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
            let answered = endpoint.batch(calls).await.and_then(|answers| read(endpoint, answers));
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
            let block = read_block(endpoint, answers)?;
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
            let block = read_block(endpoint, answers)?;
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
                let Some(block) = read_block(endpoint, vec![answer])? else { break };
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
}

/// A block, and the bytes that it was read from.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The block.
    pub block: RpcBlock,
    /// The bytes.
    pub raw: Box<RawValue>,
}

/// Reads the first answer as a block; `null` is none.
fn read_block(endpoint: &Endpoint, answers: Answers) -> Result<Option<Fetched>, CallError> {
    let raw = match answers.into_iter().next() {
        // Nodes say so of blocks that they don't have.
        Some(Err(CallError::Node { .. })) | None => return Ok(None),
        Some(answer) => answer?,
    };
    if raw.get() == "null" {
        return Ok(None);
    }
    Ok(Some(Fetched { block: endpoint.read(&raw)?, raw }))
}

/// What an endpoint said can't be: it rests.
pub fn blame(endpoint: &Endpoint, what: &str) -> CallError {
    endpoint.blame(what);
    CallError::Endpoint(what.to_owned())
}

/// The pause between two tries of something that no endpoint could give.
pub const RETRY: Duration = Duration::from_millis(500);
