//! Answering what an address has received lately: the blocks that are kept, the newest first, a few between two looks at the
//! chain.

use std::collections::VecDeque;

use h402_watch_engine::input::{Transfer, TxFact};

use super::mirror::{Hash, Link, Mirror};
use super::{AddressQuery, AddressReport, Received};

/// Blocks that one query searches at most, the newest ones.
const BLOCKS_MAX: usize = 1024;
/// Transfers after which a query stops at the end of a block.
const TRANSFERS_MAX: usize = 5000;

/// An address query that is being answered.
pub struct Searching<H> {
    query: AddressQuery,
    head: Link<H>,
    /// What is still to be searched, the newest first.
    links: VecDeque<Link<H>>,
    searched_from: Link<H>,
    transfers: Vec<Received>,
}

impl<H: Hash> Searching<H> {
    /// Begins at the head; `None` before there is one.
    pub fn new(query: AddressQuery, mirror: &Mirror<H>) -> Option<Self> {
        let head = *mirror.head()?;
        let since = query.since.unwrap_or_default();
        let links = mirror.iter().rev().take(BLOCKS_MAX).filter(|link| link.timestamp() >= since);
        Some(Self { links: links.copied().collect(), query, head, searched_from: head, transfers: Vec::new() })
    }

    /// What was asked.
    pub fn query(&self) -> &AddressQuery {
        &self.query
    }

    /// The next block to search, if there is one.
    pub fn next_block(&mut self) -> Option<Link<H>> {
        if self.transfers.len() >= TRANSFERS_MAX {
            return None;
        }
        let link = self.links.pop_front()?;
        self.searched_from = link;
        Some(link)
    }

    /// Takes in what a block holds.
    pub fn add(&mut self, link: &Link<H>, facts: &[TxFact]) {
        let received = received(&self.query, link, facts);
        self.transfers.extend(received.into_iter().rev());
    }

    /// Whether somebody still waits for the answer.
    pub fn is_wanted(&self) -> bool {
        !self.query.reply.is_closed()
    }

    /// Gives the answer, oldest transfer first.
    pub fn finish(self) {
        let (head, searched_from) = (self.head.block_ref(), self.searched_from.block_ref());
        let transfers = self.transfers.into_iter().rev().collect();
        // The caller may have gone away.
        let _ = self.query.reply.send(Ok(AddressReport { head, searched_from, transfers }));
    }

    /// Says why there is none.
    pub fn fail(self, error: String) {
        let _ = self.query.reply.send(Err(error));
    }
}

/// What of a block's facts is an answer to a query. What one pays oneself is no payment.
pub fn received<H: Hash>(query: &AddressQuery, link: &Link<H>, facts: &[TxFact]) -> Vec<Received> {
    let AddressQuery { address, asset, .. } = query;
    let others = facts.iter().filter(|fact| !fact.funded_by.contains(address));
    let counts = |moved: &&Transfer| {
        moved.to == *address && moved.asset == *asset && !moved.amount.is_zero() && moved.from.as_ref() != Some(address)
    };
    let of = |fact: &TxFact, moved: &Transfer| Received {
        tx: fact.tx.clone(),
        block: link.block_ref(),
        time: link.timestamp(),
        transfer: moved.clone(),
        verification: fact.verification.clone(),
    };
    others.flat_map(|fact| fact.transfers.iter().filter(counts).map(|moved| of(fact, moved))).collect()
}
