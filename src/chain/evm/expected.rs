//! What is asked for together with a tip that a WebSocket announced: all that its block will be asked for, as far as that shows
//! before the block is known (one request instead of four, one after the other).

use std::pin::pin;

use alloy_primitives::B256;

use super::ahead::Parts;
use super::facts;
use super::finality;
use super::follow::Follower;
use super::pool::Fetched;
use super::text::bytes;
use super::wire::RpcTx;
use crate::chain::Interests;
use crate::chain::endpoint::Call;
use crate::chain::pool::{Answer, Answers};

/// Blocks within which a transaction that was just seen in a mempool is expected.
const SOON: u64 = 3;

/// Up to which height watched transactions are expected that were in a mempool just now.
#[derive(Default)]
pub(super) struct Expected {
    any: u64,
    /// Such that call a contract.
    calls: u64,
}

impl Follower {
    /// A watched transaction entered a mempool.
    pub(super) fn expect(&mut self, tx: &RpcTx) {
        let until = self.walk.mirror.head().map_or(0, |head| head.height) + SOON;
        self.expected.any = until;
        if !tx.input.is_empty() {
            self.expected.calls = until;
        }
    }

    /// What a block at a height is asked for at once, which holds a watched transaction or does not.
    pub(super) fn parts_of(&self, open: &Interests, height: u64, holds: bool) -> Parts {
        let bulk = !open.recipients.is_empty() || !open.authorizations.is_empty() || !open.spends.is_empty();
        let native = open.recipients.has_asset(bytes::NATIVE);
        let calls = holds && height <= self.expected.calls;
        Parts { receipts: bulk || holds, bodies: holds, traces: self.traces() && (native || calls) }
    }

    /// The tip; and what its block holds, where that was announced.
    pub(super) async fn tip(&mut self, announced: Option<(B256, u64)>) -> Answer<Fetched> {
        let source = self.preferred;
        match self.tip_with(source, announced).await {
            Some(tip) => Answer::Found(source, tip),
            None => self.pool.latest(source).await,
        }
    }

    /// The tip with what its block holds; nothing where there is nothing to ask for with it, or no answer to all of that.
    ///
    /// What only a match needs is asked for beside it, since nodes answer the calls of a batch one after the other, and is not waited
    /// for where nothing matches.
    async fn tip_with(&mut self, source: usize, announced: Option<(B256, u64)>) -> Option<Fetched> {
        let (hash, height) = announced.filter(|(hash, height)| !self.walk.mirror.holds(*height, *hash))?;
        let wanted = self.wanted(hash, height);
        if wanted.is_nothing() || !self.pool.is_usable(source).await {
            return None;
        }
        let (answered, beside) = {
            let mut beside = pin!(self.pool.beside(source, &wanted.beside));
            let mut came = None;
            let mut tip = pin!(self.pool.latest_with(source, &wanted.with_tip));
            let answered = loop {
                tokio::select! {
                    answered = &mut tip => break answered,
                    answers = &mut beside, if came.is_none() => came = Some(answers),
                }
            };
            let needed = answered.as_ref().is_ok_and(|(tip, _)| {
                let wants = self.mailbox.interests();
                let holds = || tip.block.transactions.iter().any(|tx| facts::names(&wants.interests, *tx));
                tip.block.hash == hash && (wanted.always || holds())
            });
            let beside = match came {
                Some(answers) => Some(answers),
                None if needed => Some(beside.await),
                None => None,
            };
            (answered, beside)
        };
        self.blocks.were_together(answered.is_ok() && !matches!(beside, Some(Err(_))));
        match answered {
            Ok((tip, answers)) => {
                self.take_with(source, &tip, &wanted, hash, (answers, beside.and_then(Result::ok)));
                Some(tip)
            }
            Err(error) => {
                tracing::debug!(network = %self.settings.network, %error, "the tip is asked for by itself");
                None
            }
        }
    }

    /// What to ask for with a head that was announced.
    fn wanted(&mut self, hash: B256, height: u64) -> Wanted {
        let (parts, native) = {
            let wants = self.mailbox.interests();
            let open = &wants.interests;
            let expects = height <= self.expected.any && !open.txs.is_empty();
            (self.parts_of(open, height, expects), open.recipients.has_asset(bytes::NATIVE))
        };
        let parts = self.blocks.together(parts, self.pool.at(self.preferred));
        let apart = Parts { receipts: false, ..parts };
        let (first, second) = if parts.bodies {
            (Parts { receipts: parts.receipts, ..Parts::default() }, apart)
        } else {
            (parts, Parts::default())
        };
        let mut with_tip = first.calls(hash, height);
        if !with_tip.is_empty() && (self.awaits_finality() || height <= self.expected.any) {
            with_tip.extend(self.tag_calls());
        }
        Wanted { first, second, with_tip, beside: second.calls(hash, height), always: native && second.traces }
    }

    /// Takes what came with a tip, and what came beside it.
    fn take_with(
        &mut self,
        source: usize,
        tip: &Fetched,
        wanted: &Wanted,
        hash: B256,
        (mut with_tip, beside): (Answers, Option<Answers>),
    ) {
        let parts = wanted.first.calls(hash, tip.block.number.0).len();
        let tags = with_tip.split_off(parts.min(with_tip.len()));
        if !tags.is_empty() {
            let tags = finality::read_tags(self.pool.at(source), tags).ok();
            self.tagged_with = tags.map(|tags| (tip.block.hash, tags));
        }
        if tip.block.hash == hash {
            self.blocks.admit(&self.pool, source, tip, wanted.first, with_tip);
            if let Some(answers) = beside {
                self.blocks.admit(&self.pool, source, tip, wanted.second, answers);
            }
        }
    }
}

/// What is asked for with a head that was announced: with the tip, and beside it.
struct Wanted {
    first: Parts,
    second: Parts,
    /// For the first parts, then for the tags of finality.
    with_tip: Vec<Call>,
    beside: Vec<Call>,
    /// Whether what is asked for beside it is needed whatever the block holds.
    always: bool,
}

impl Wanted {
    fn is_nothing(&self) -> bool {
        self.with_tip.is_empty() && self.beside.is_empty()
    }
}
