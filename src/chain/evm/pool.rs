//! What the endpoints of an EVM chain are asked: its blocks.

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy_primitives::B256;
use serde_json::json;
use serde_json::value::RawValue;

use super::text::Link;
use super::verify;
use super::wire::{Quantity, RpcBlock};
use crate::chain::EndpointSettings;
use crate::chain::endpoint::{Call, CallError, Endpoint};
use crate::chain::pool::{Answer, Answers, Endpoints, Identity, NUMBER_MAX, blame, value};
use crate::chain::walk::{At, Chain};

/// Methods that can be done without.
const OPTIONAL: [&str; 3] = ["eth_getBlockReceipts", "trace_block", "debug_traceBlockByHash"];

/// How long what is asked for together with a tip may hold it back.
const FURTHER_LIMIT: Duration = Duration::from_secs(2);

fn latest() -> Call {
    ("eth_getBlockByNumber", json!(["latest", false]))
}

/// The endpoints of an EVM chain.
pub struct Pool {
    endpoints: Endpoints,
    /// Whether what can be recomputed is recomputed.
    recompute: bool,
    /// Whether a header's hash was once the hash of what it says: from then on it has to be.
    hashes_match: AtomicBool,
}

impl Deref for Pool {
    type Target = Endpoints;

    fn deref(&self) -> &Endpoints {
        &self.endpoints
    }
}

impl Pool {
    pub fn new(chain_id: u64, recompute: bool, settings: &[EndpointSettings]) -> Self {
        let judge = move |said: &RawValue| match serde_json::from_str::<Quantity>(said.get()) {
            Ok(Quantity(id)) if id == chain_id => Ok(()),
            Ok(Quantity(id)) => Err(format!("chain id {id}, expected {chain_id}")),
            Err(_) => Err("an answer that can't be read".into()),
        };
        let identity = Identity { question: ("eth_chainId", json!([])), judge: Box::new(judge) };
        let endpoints = Endpoints::new(identity, settings, &OPTIONAL);
        Self { endpoints, recompute, hashes_match: AtomicBool::new(false) }
    }

    /// Whether what can be recomputed is recomputed.
    pub fn recomputes(&self) -> bool {
        self.recompute
    }

    /// The block that an endpoint claims as its tip.
    pub async fn latest(&self, start: usize) -> Answer<Fetched> {
        self.first(start, &[latest()], |endpoint, answers| self.read_tip(endpoint, answers)).await
    }

    /// The same of one endpoint, which is up, and its answers to further calls in the same request. An error may be about the further ones.
    pub async fn latest_with(&self, index: usize, further: &[Call]) -> Result<(Fetched, Answers), CallError> {
        let nothing = || CallError::Endpoint("no tip".into());
        let endpoint = self.at(index);
        let calls: Vec<_> = std::iter::once(latest()).chain(further.iter().cloned()).collect();
        let answered = tokio::time::timeout(FURTHER_LIMIT, endpoint.batch(&calls)).await;
        let late = |_| CallError::Endpoint("a tip with what belongs to it takes too long".into());
        let mut answers = answered.map_err(late)??;
        let further = answers.split_off(1.min(answers.len()));
        let tip = self.read_tip(endpoint, answers)?.ok_or_else(nothing)?;
        Ok((tip, further))
    }

    /// An endpoint's answers to what is asked for beside a tip.
    pub async fn beside(&self, index: usize, calls: &[Call]) -> Result<Answers, CallError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let late = |_| CallError::Endpoint("what belongs to a tip takes too long".into());
        tokio::time::timeout(FURTHER_LIMIT, self.at(index).batch(calls)).await.map_err(late)?
    }

    fn read_tip(&self, endpoint: &Endpoint, answers: Answers) -> Result<Option<Fetched>, CallError> {
        let block = self.read_block(endpoint, answers)?;
        if let Some(block) = &block {
            endpoint.set_tip(Link::from(&block.block).block_ref());
        }
        Ok(block)
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
        let mut header_bytes = Vec::new();
        match verify::header(&raw, block.hash).filter(|_| self.recompute) {
            Some(header) if verify::emptiness_matches(&header, &block.transactions) => {
                self.hashes_match.store(true, Ordering::Relaxed);
                header_bytes = alloy_rlp::encode(&header.inner);
            }
            Some(_) => return Err(blame(endpoint, "a block without the transactions that its header speaks of")),
            None if self.recompute && self.hashes_match.load(Ordering::Relaxed) => {
                return Err(blame(endpoint, "a header that does not hash to what it is called"));
            }
            // A chain that hashes otherwise, as far as is known.
            None => {}
        }
        Ok(Some(Fetched { block, header: header_bytes.into() }))
    }
}

impl Chain for Pool {
    type Hash = B256;
    type Block = Fetched;

    fn link(block: &Fetched) -> Link {
        Link::from(&block.block)
    }

    async fn parent(&self, of: &Fetched) -> Answer<Fetched> {
        self.block(of.block.parent_hash).await
    }

    async fn range(&self, start: usize, from: At, count: u64) -> Answer<Vec<Fetched>> {
        let number = |height: u64| ("eth_getBlockByNumber", json!([format!("{height:#x}"), false]));
        let calls: Vec<_> = (from.height..from.height + count).map(number).collect();
        self.first(start, &calls, |endpoint, answers| {
            let mut blocks: Vec<Fetched> = Vec::with_capacity(answers.len());
            for (answer, height) in answers.into_iter().zip(from.height..) {
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

    async fn agreeing(&self, beside: usize, link: &Link) -> usize {
        let mut agreeing = 0;
        for index in (0..self.len()).filter(|index| *index != beside) {
            if !self.is_usable(index).await {
                continue;
            }
            let params = json!([format!("{:#x}", link.height), false]);
            let block = self.at(index).call::<Option<RpcBlock>>("eth_getBlockByNumber", params).await;
            agreeing += usize::from(block.is_ok_and(|block| block.is_some_and(|block| block.hash == link.hash)));
        }
        agreeing
    }

    async fn agreed_prefix(&self, supplier: Option<usize>, blocks: &[Fetched], quorum: usize) -> usize {
        let number = |block: &Fetched| ("eth_getBlockByNumber", json!([format!("{:#x}", block.block.number.0), false]));
        let calls: Vec<_> = blocks.iter().map(number).collect();
        let mut prefixes = Vec::new();
        for index in 0..self.len() {
            if supplier == Some(index) {
                prefixes.push(blocks.len());
                continue;
            }
            if !self.is_usable(index).await {
                continue;
            }
            let endpoint = self.at(index);
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
}

/// A block, and the bytes of its header.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The block.
    pub block: RpcBlock,
    /// What its hash is the hash of; empty where that can't be recomputed.
    pub header: Arc<[u8]>,
}
