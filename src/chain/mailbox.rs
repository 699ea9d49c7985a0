//! What the driver wants of one source: the open interests, and questions in the order they were asked.

use std::collections::VecDeque;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use h402_watch_engine::changes::{Ask, Interest, LookUp};
use h402_watch_engine::id::TxId;
use tokio::sync::Notify;

use super::interests::{End, Interests, Key, Spell};
use super::look_ups::{LookUps, pack};
use super::{AddressQuery, Family};

/// Address queries that may wait at once; the next one is refused (invariant 11).
const ADDRESS_QUERIES_MAX: usize = 256;
/// Asks that are taken in at once: a source that matches a block waits no longer than that takes.
const ASKS_AT_ONCE: usize = 512;

/// What the driver wants of one source.
///
/// Never blocks the driver: it holds at most one look-up per open watch and one location per orphaned transaction,
/// which the engine's own limits bound, and 256 address queries.
#[derive(Default)]
pub struct Mailbox {
    spell: Option<Spell>,
    wants: RwLock<Wants>,
    wake: Notify,
}

/// What is open now.
#[derive(Default)]
pub struct Wants {
    /// What each block is matched against.
    pub interests: Interests,
    look_ups: LookUps,
    locates: VecDeque<TxId>,
    queries: VecDeque<AddressQuery>,
    closed: bool,
}

/// An ask, read.
enum Read {
    Open(Key),
    Close(Key),
    LookUp(Vec<u8>),
    Locate(TxId),
    Nothing,
}

impl Mailbox {
    /// One for the source of a network of this family.
    pub fn new(family: &Family) -> Self {
        Self { spell: Some(family.spell), ..Self::default() }
    }

    /// Does what the engine asks, in order, and wakes the source.
    pub fn post(&self, asks: impl IntoIterator<Item = Ask>) {
        // What can be done beforehand does not keep a source waiting.
        let mut asks = asks.into_iter().map(|ask| self.read(ask));
        loop {
            let some: Vec<_> = asks.by_ref().take(ASKS_AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            let mut wants = self.write();
            for ask in some {
                match ask {
                    Read::Open(key) => wants.interests.open(key),
                    Read::Close(key) => wants.interests.close(key),
                    Read::LookUp(look_up) => wants.look_ups.push(&look_up),
                    Read::Locate(tx) => wants.locates.push_back(tx),
                    Read::Nothing => {}
                }
            }
        }
        self.wake.notify_one();
    }

    fn read(&self, ask: Ask) -> Read {
        match ask {
            Ask::Open(interest) => self.key(&interest).map_or(Read::Nothing, Read::Open),
            Ask::Close(interest) => self.key(&interest).map_or(Read::Nothing, Read::Close),
            Ask::LookUp(look_up) => pack(&look_up).map_or(Read::Nothing, Read::LookUp),
            Ask::Locate { tx } => Read::Locate(tx),
        }
    }

    fn key(&self, interest: &Interest) -> Option<Key> {
        match self.spell {
            Some(spell) => spell(interest),
            None => Key::of_text(interest),
        }
    }

    /// Asks about an address. Gives the query back when too many wait already.
    pub fn query(&self, query: AddressQuery) -> Result<(), AddressQuery> {
        let mut wants = self.write();
        if wants.closed || wants.queries.len() >= ADDRESS_QUERIES_MAX {
            return Err(query);
        }
        wants.queries.push_back(query);
        drop(wants);
        self.wake.notify_one();
        Ok(())
    }

    /// Nobody answers any more: whoever waits is told so.
    pub fn close(&self) {
        let mut wants = self.write();
        wants.closed = true;
        wants.queries.clear();
    }

    /// The open interests, to match one block with; not to be held across an await.
    pub fn interests(&self) -> RwLockReadGuard<'_, Wants> {
        self.wants.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Watched transactions that a source has found need not be looked for, until it asks for that again.
    pub fn set_aside<'a>(&self, txs: impl IntoIterator<Item = &'a [u8]>) {
        let mut wants = self.write();
        txs.into_iter().for_each(|tx| wants.interests.txs.set_aside(tx));
    }

    /// Transactions that were set aside have to be looked for again.
    pub fn seek_again<'a>(&self, txs: impl IntoIterator<Item = &'a [u8]>) {
        let mut wants = self.write();
        txs.into_iter().for_each(|tx| wants.interests.txs.seek_again(tx));
    }

    /// A source has told that a transaction can be included no more: it need not tell it again.
    pub fn set_expiry_aside(&self, tx: &[u8], end: End) {
        self.write().interests.expiries.set_aside(tx, end);
    }

    /// Whoever asks about a transaction has not heard that it can be included no more.
    pub fn seek_expiry_again(&self, tx: &[u8]) {
        if self.interests().interests.expiries.has_told(tx) {
            self.write().interests.expiries.seek_again(tx);
        }
    }

    /// Whether a look-up waits, one of the other questions.
    pub fn has_questions(&self) -> (bool, bool) {
        let wants = self.interests();
        (!wants.look_ups.is_empty(), !wants.locates.is_empty() || !wants.queries.is_empty())
    }

    /// Takes up to `max` look-ups, oldest first.
    pub fn take_look_ups(&self, max: usize) -> Vec<LookUp> {
        if max == 0 { Vec::new() } else { self.write().look_ups.take(max) }
    }

    /// Takes up to `max` transactions to locate, oldest first.
    pub fn take_locates(&self, max: usize) -> Vec<TxId> {
        take(&mut self.write().locates, max)
    }

    /// Takes up to `max` address queries, oldest first.
    pub fn take_queries(&self, max: usize) -> Vec<AddressQuery> {
        take(&mut self.write().queries, max)
    }

    /// Waits until something is posted. One that was posted since the last wait counts.
    pub async fn posted(&self) {
        self.wake.notified().await;
    }

    fn write(&self) -> RwLockWriteGuard<'_, Wants> {
        self.wants.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn take<T>(queue: &mut VecDeque<T>, max: usize) -> Vec<T> {
    let count = queue.len().min(max);
    let taken = queue.drain(..count).collect();
    if queue.is_empty() {
        // A million may have waited.
        queue.shrink_to(ADDRESS_QUERIES_MAX);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_are_done_in_order_however_many() {
        let mailbox = Mailbox::default();
        let tx = |n: usize| Interest::Tx(n.to_string().into());
        let opened = (0..3 * ASKS_AT_ONCE).map(|n| Ask::Open(tx(n)));
        let reopened = [Ask::Close(tx(1)), Ask::Close(tx(2)), Ask::Open(tx(2)), Ask::Locate { tx: "1".into() }];
        mailbox.post(opened.chain(reopened));
        let wants = mailbox.interests();
        assert_eq!(wants.interests.txs.len(), 3 * ASKS_AT_ONCE - 1);
        assert!(!wants.interests.txs.contains(b"1") && wants.interests.txs.contains(b"2"));
        drop(wants);
        assert_eq!(mailbox.has_questions(), (false, true));
        assert_eq!(mailbox.take_locates(7), ["1".into()]);
        assert_eq!(mailbox.has_questions(), (false, false));
    }

    #[test]
    fn what_a_source_has_found_stays_watched() {
        let mailbox = Mailbox::default();
        let tx = Interest::Tx("tx".into());
        mailbox.post([Ask::Open(tx.clone())]);
        mailbox.set_aside([&b"tx"[..], b"other"]);
        assert_eq!(mailbox.interests().interests.txs.sought().len(), 0);
        assert!(mailbox.interests().interests.txs.contains(b"tx"));
        mailbox.seek_again([&b"tx"[..], b"other"]);
        assert_eq!(mailbox.interests().interests.txs.sought().len(), 1);
        mailbox.set_aside([&b"tx"[..]]);
        mailbox.post([Ask::Close(tx)]);
        assert!(mailbox.interests().interests.is_empty());
    }
}
