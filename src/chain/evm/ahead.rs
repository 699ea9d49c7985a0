//! What is asked for in one request: a tip with what its block holds, where a hint names the block; and the parts of a block
//! that is known.
//!
//! A hint decides what is asked, never what is believed. The tip is what the endpoint calls `latest`; the rest is used only if it
//! is of that block, and is checked like what is asked for by itself. What can't be had so is left to [`Blocks`], which asks
//! for each part alone: where a quorum is asked for, where an endpoint does not offer a method, and until roots are known to be
//! those that the chain's headers name.

use std::sync::Arc;

use alloy_primitives::B256;
use h402_watch_engine::input::Verification;
use serde_json::json;
use serde_json::value::RawValue;

use super::block::{Executed, InternalTransfer, from_flat};
use super::fetch::{Blocks, Receipts, Roots, read_receipts};
use super::pool::{Fetched, Pool};
use super::proof::{Encodings, Leaves};
use super::verify;
use crate::chain::endpoint::{Call, CallError, Endpoint};
use crate::chain::pool::{Answer, Answers, blame, value};

/// Failures in a row after which nothing is asked for together for a while.
const FAILURES_MAX: u32 = 3;
/// How often that is left out then, before it is tried again.
const LEFT_OUT: u32 = 1_000;

/// Parts of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    pub receipts: bool,
    /// The bodies of its transactions.
    pub bodies: bool,
    /// The calls inside of them.
    pub traces: bool,
}

impl Parts {
    /// What is asked, in this order.
    pub fn calls(self, hash: B256, height: u64) -> Vec<Call> {
        let receipts = self.receipts.then(|| ("eth_getBlockReceipts", json!([hash])));
        let bodies = self.bodies.then(|| ("eth_getBlockByHash", json!([hash, true])));
        let traces = self.traces.then(|| ("trace_block", json!([format!("{height:#x}")])));
        [receipts, bodies, traces].into_iter().flatten().collect()
    }
}

/// Whether several things are asked for in one request: not for a while after that came to nothing.
#[derive(Default)]
pub struct Together {
    failures: u32,
    left_out: u32,
}

impl Together {
    fn is_tried(&mut self) -> bool {
        if self.failures < FAILURES_MAX {
            return true;
        }
        self.left_out += 1;
        let again = self.left_out >= LEFT_OUT;
        if again {
            self.left_out = 0;
        }
        again
    }

    fn note(&mut self, answered: bool) {
        self.failures = if answered { 0 } else { self.failures.saturating_add(1) };
    }
}

/// Parts that were read; receipts have the root that the header names.
struct Read {
    receipts: Option<(Vec<Executed>, Encodings)>,
    /// Not looked at yet.
    bodies: Option<Box<RawValue>>,
    traced: Option<Vec<Vec<InternalTransfer>>>,
}

/// Reads the answers to [`Parts::calls`]. What is missing is missing; what can't be is the endpoint's fault.
fn read(endpoint: &Endpoint, block: &Fetched, parts: Parts, answers: Answers) -> Result<Read, CallError> {
    let mut answers = answers.into_iter();
    let mut next = |asked: bool| if asked { answers.next() } else { None };
    let (receipts, bodies, traces) = (next(parts.receipts), next(parts.bodies), next(parts.traces));
    let receipts = receipts.filter(Result::is_ok).map(|answer| read_receipts(endpoint, vec![answer], block));
    let receipts = match receipts.transpose()?.flatten() {
        Some((raw, txs)) => match verify::receipts(block, &raw) {
            Some(encodings) => Some((txs, encodings)),
            None => return Err(blame(endpoint, "receipts that don't match the block's root")),
        },
        None => None,
    };
    let bodies = bodies.and_then(|answer| value(vec![answer]).ok().flatten());
    let traces = traces.and_then(|answer| value(vec![answer]).ok().flatten());
    // What can't be read is not there, as far as this goes.
    let traced = traces.and_then(|raw| from_flat(block, serde_json::from_str(raw.get()).ok()?));
    Ok(Read { receipts, bodies, traced })
}

impl Blocks {
    /// Of these parts, those that may be asked for together now, of an endpoint that offers them.
    pub fn together(&mut self, parts: Parts, endpoint: &Endpoint) -> Parts {
        let known = self.quorum < 2 && self.receipt_roots == Roots::Match;
        if !known || parts == Parts::default() || !self.together.is_tried() {
            return Parts::default();
        }
        Parts {
            receipts: parts.receipts && endpoint.offers("eth_getBlockReceipts"),
            bodies: parts.bodies && self.transaction_roots == Roots::Match,
            traces: parts.traces && endpoint.offers("trace_block"),
        }
    }

    /// Whether what was asked for together was answered.
    pub fn were_together(&mut self, answered: bool) {
        self.together.note(answered);
    }

    /// Takes what came with a tip.
    pub fn admit(&mut self, pool: &Pool, source: usize, block: &Fetched, parts: Parts, answers: Answers) {
        match read(pool.at(source), block, parts, answers) {
            Ok(read) => self.put(block, source, read),
            // It was blamed, and rests: another one is asked, part by part.
            Err(error) => tracing::debug!(%error, "what came with a tip is not used"),
        }
    }

    /// Fetches parts of a block in one request, as far as that can be.
    pub async fn prefetch(&mut self, pool: &Pool, block: &Fetched, parts: Parts) {
        let (receipts, bodies, traces) = self.lacks(block);
        let parts = Parts {
            receipts: parts.receipts && receipts,
            bodies: parts.bodies && bodies,
            traces: parts.traces && traces,
        };
        let offering = (0..pool.len()).find(|index| pool.at(*index).is_up());
        let parts = offering.map_or_else(Parts::default, |index| self.together(parts, pool.at(index)));
        let calls = parts.calls(block.block.hash, block.block.number.0);
        if calls.len() < 2 {
            return;
        }
        let read = |endpoint: &Endpoint, answers: Answers| {
            let read = read(endpoint, block, parts, answers)?;
            Ok((read.receipts.is_some() || !parts.receipts).then_some(read))
        };
        let answer = pool.first(0, &calls, read).await;
        self.were_together(!matches!(answer, Answer::Failed(_)));
        if let Answer::Found(source, read) = answer {
            self.put(block, source, read);
        }
    }

    fn put(&mut self, block: &Fetched, source: usize, read: Read) {
        let hash = block.block.hash;
        if let Some((txs, encodings)) = read.receipts {
            self.leaves.add(hash, Leaves { receipts: Some(encodings), transactions: None });
            let receipts = Receipts { txs, verification: Verification::Trie };
            self.parts(block).receipts = Some(Arc::new(receipts));
        }
        if let Some(traced) = read.traced {
            self.parts(block).internal = Some(Arc::new(traced));
        }
        if let Some(raw) = read.bodies {
            self.unread_bodies = Some((hash, source, raw));
        }
    }
}
