//! The open interests, in the bytes that stand in blocks: each is held once, and a block is matched without spelling what is in
//! it.

use std::collections::BTreeSet;

use h402_watch_engine::changes::Interest;
use h402_watch_engine::numbers::Numbers;
use h402_watch_engine::request::Expiry;

use super::packed::Packed;

/// An identifier in the bytes that stand in blocks.
type Bytes = Box<[u8]>;

/// An interest in the bytes of its chain's blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A transaction.
    Tx(Vec<u8>),
    /// Transfers of an asset to an address.
    Recipient {
        /// In what; empty: the chain's own coin.
        asset: Vec<u8>,
        /// To whom.
        address: Vec<u8>,
    },
    /// An authorization, with its contract and who signed it.
    Authorization(Vec<u8>),
    /// A spend key.
    Spend {
        /// The key.
        key: Vec<u8>,
        /// How many of its first bytes name who can use it up, where blocks are matched with that; 0: they are not.
        holder: usize,
    },
    /// A transaction, and what ends its validity.
    Expiry {
        /// Which.
        tx: Vec<u8>,
        /// What ends it.
        end: End,
    },
    /// Inclusion proofs.
    Proofs,
}

impl Key {
    /// That of an interest of a chain whose blocks hold identifiers as they are spelled.
    pub fn of_text(interest: &Interest) -> Option<Self> {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Some(match interest {
            Interest::Tx(tx) => Self::Tx(bytes(tx.as_str())),
            Interest::Recipient { asset, address } => {
                let asset = if asset.is_native() { Vec::new() } else { bytes(asset.as_str()) };
                Self::Recipient { asset, address: bytes(address.as_str()) }
            }
            Interest::Authorization { asset, authorizer, nonce } => {
                Self::Authorization(bytes(&[asset.as_str(), authorizer.as_str(), nonce].join(" ")))
            }
            Interest::Spend(key) => Self::Spend { key: bytes(key.as_str()), holder: 0 },
            Interest::Expiry { tx, expiry } => {
                let end = match expiry {
                    Expiry::Height(height) => End::Height(*height),
                    Expiry::Nonce { account, value } => End::Nonce(bytes(&[account.as_str(), value].join(" ")).into()),
                };
                Self::Expiry { tx: bytes(tx.as_str()), end }
            }
            Interest::Proofs => Self::Proofs,
        })
    }
}

/// What ends the validity of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The last height of a block that may include it.
    Height(u64),
    /// An account that has to hold a value: both.
    Nonce(Bytes),
}

/// Spells an interest in bytes; `None`: its chain knows nothing of the kind, or it is not spelled as a request of its family is.
pub type Spell = fn(&Interest) -> Option<Key>;

/// The open interests, by what a block is matched with.
#[derive(Debug, Default)]
pub struct Interests {
    /// Transactions.
    pub txs: Txs,
    /// Recipients, and in which assets.
    pub recipients: Recipients,
    /// Authorizations: contract, authorizer, nonce.
    pub authorizations: Packed<0>,
    /// Spend keys.
    pub spends: Spends,
    /// What ends the validity of transactions.
    pub expiries: Expiries,
    /// Whether what is reported of blocks is to carry inclusion proofs.
    pub proofs: bool,
    changes: u64,
}

impl Interests {
    /// Whether nothing of a transaction can be of interest.
    pub fn is_empty(&self) -> bool {
        self.txs.is_empty()
            && self.recipients.is_empty()
            && self.authorizations.is_empty()
            && self.spends.keys.is_empty()
    }

    /// A number that is another one after each change.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn open(&mut self, key: Key) {
        self.changes += 1;
        match key {
            Key::Tx(tx) => self.txs.open(&tx),
            Key::Recipient { asset, address } => self.recipients.open(&address, asset),
            Key::Authorization(key) => {
                self.authorizations.insert(&key, []);
            }
            Key::Spend { key, holder } => self.spends.open(&key, holder),
            Key::Expiry { tx, end } => self.expiries.open(tx.into(), end),
            Key::Proofs => self.proofs = true,
        }
    }

    pub(super) fn close(&mut self, key: Key) {
        self.changes += 1;
        match key {
            Key::Tx(tx) => self.txs.close(&tx),
            Key::Recipient { asset, address } => self.recipients.close(&address, &asset),
            Key::Authorization(key) => {
                self.authorizations.remove(&key);
            }
            Key::Spend { key, holder } => self.spends.close(&key, holder),
            Key::Expiry { tx, end } => self.expiries.close(tx.into(), end),
            Key::Proofs => self.proofs = false,
        }
    }
}

/// Watched transactions. A source may set those aside that it need not look for, because it has found them.
#[derive(Debug, Default)]
pub struct Txs {
    sought: Packed<0>,
    found: Packed<0>,
}

impl Txs {
    /// Whether none is watched.
    pub fn is_empty(&self) -> bool {
        self.sought.is_empty() && self.found.is_empty()
    }

    /// How many are watched.
    pub fn len(&self) -> usize {
        self.sought.len() + self.found.len()
    }

    /// Whether one is watched.
    pub fn contains(&self, tx: &[u8]) -> bool {
        self.sought.contains(tx) || self.found.contains(tx)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.sought.iter().chain(self.found.iter()).map(|(tx, [])| tx)
    }

    /// Those that are not set aside.
    pub fn sought(&self) -> &Packed<0> {
        &self.sought
    }

    fn open(&mut self, tx: &[u8]) {
        if !self.found.contains(tx) {
            self.sought.insert(tx, []);
        }
    }

    fn close(&mut self, tx: &[u8]) {
        if !self.sought.remove(tx) {
            self.found.remove(tx);
        }
    }

    pub(super) fn set_aside(&mut self, tx: &[u8]) {
        if self.sought.remove(tx) {
            self.found.insert(tx, []);
        }
    }

    pub(super) fn seek_again(&mut self, tx: &[u8]) {
        if self.found.remove(tx) {
            self.sought.insert(tx, []);
        }
    }
}

/// Spend keys.
#[derive(Debug, Default)]
pub struct Spends {
    keys: Packed<0>,
    /// How many keys somebody has that are watched.
    holders: Packed<4>,
}

impl Spends {
    /// Whether none is watched.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether one is watched.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.keys.contains(key)
    }

    /// Whether one of somebody's is watched.
    pub fn has_of(&self, holder: &[u8]) -> bool {
        self.holders.contains(holder)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().map(|(key, [])| key)
    }

    fn open(&mut self, key: &[u8], holder: usize) {
        if self.keys.insert(key, [])
            && let Some(holder) = key.get(..holder)
        {
            let count = self.holders.get(holder).map_or(0, u32::from_le_bytes);
            self.holders.insert(holder, count.saturating_add(1).to_le_bytes());
        }
    }

    fn close(&mut self, key: &[u8], holder: usize) {
        if self.keys.remove(key)
            && let Some(holder) = key.get(..holder)
        {
            match self.holders.get(holder).map_or(0, u32::from_le_bytes) {
                0 | 1 => {
                    self.holders.remove(holder);
                }
                count => {
                    self.holders.insert(holder, (count - 1).to_le_bytes());
                }
            }
        }
    }
}

/// Set in what stands beside an address that has waited for several assets at once: the rest is how many it waits for.
const SEVERAL: u32 = 1 << 31;

/// Who is paid, and in what. Most are paid in one asset, and most in the same: it is a number, and stands beside the address.
#[derive(Debug, Default)]
pub struct Recipients {
    holders: Packed<4>,
    /// Addresses that wait for several, each with the number of one of them.
    pairs: Packed<0>,
    /// What they are paid in.
    assets: Numbers,
}

impl Recipients {
    /// Whether nobody is watched.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// How many addresses are watched.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Whether an address is watched, in whichever asset.
    pub fn contains(&self, address: &[u8]) -> bool {
        self.holders.contains(address)
    }

    /// Whether an address is watched in an asset; an empty one is the chain's own coin.
    pub fn wants(&self, address: &[u8], asset: &[u8]) -> bool {
        let Some(beside) = self.holders.get(address).map(u32::from_le_bytes) else { return false };
        self.assets.get(asset).is_some_and(|number| self.is_wanted(address, beside, number))
    }

    fn is_wanted(&self, address: &[u8], beside: u32, number: u32) -> bool {
        if beside & SEVERAL == 0 { beside == number } else { self.pairs.contains(&pair(address, number)) }
    }

    /// Whether anybody is watched in an asset.
    pub fn has_asset(&self, asset: &[u8]) -> bool {
        self.assets.get(asset).is_some()
    }

    /// Who is watched in an asset.
    pub fn in_asset(&self, asset: &[u8]) -> impl Iterator<Item = &[u8]> {
        let number = self.assets.get(asset);
        let all = number.into_iter().flat_map(|number| self.holders.iter().map(move |holder| (holder, number)));
        let wanted =
            all.filter(|((address, beside), number)| self.is_wanted(address, u32::from_le_bytes(*beside), *number));
        wanted.map(|((address, _), _)| address)
    }

    /// All addresses that are watched.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.holders.iter().map(|(address, _)| address)
    }

    fn open(&mut self, address: &[u8], asset: Vec<u8>) {
        if address.is_empty() || self.wants(address, &asset) {
            return;
        }
        let number = self.assets.take(&asset);
        let beside = match self.holders.get(address).map(u32::from_le_bytes) {
            None => number,
            Some(several) if several & SEVERAL != 0 => {
                self.pairs.insert(&pair(address, number), []);
                several + 1
            }
            Some(one) => {
                self.pairs.insert(&pair(address, one), []);
                self.pairs.insert(&pair(address, number), []);
                SEVERAL | 2
            }
        };
        self.holders.insert(address, beside.to_le_bytes());
    }

    fn close(&mut self, address: &[u8], asset: &[u8]) {
        let Some(number) = self.assets.get(asset).filter(|_| self.wants(address, asset)) else { return };
        self.assets.release(number);
        self.pairs.remove(&pair(address, number));
        match self.holders.get(address).map(u32::from_le_bytes) {
            Some(several) if several > SEVERAL | 1 => {
                self.holders.insert(address, (several - 1).to_le_bytes());
            }
            _ => {
                self.holders.remove(address);
            }
        }
    }
}

fn pair(address: &[u8], number: u32) -> Vec<u8> {
    [address, &number.to_le_bytes()].concat()
}

/// What ends the validity of transactions. What a source has told is set aside until it is asked for again.
#[derive(Debug, Default)]
pub struct Expiries {
    heights: BTreeSet<(u64, Bytes)>,
    nonces: BTreeSet<(Bytes, Bytes)>,
    told: BTreeSet<(Bytes, End)>,
}

impl Expiries {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.heights.is_empty() && self.nonces.is_empty() && self.told.is_empty()
    }

    /// The transactions that no block above a height may include, each with that height, by height: from one up to another that
    /// is left out. Those that were told are not among them.
    pub fn between(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let heights = (from < to).then(|| self.heights.range((from, Box::default())..(to, Box::default())));
        heights.into_iter().flatten().map(|(height, tx)| (*height, &tx[..]))
    }

    /// The transactions that an account's value ends, each with both. Those that were told are not among them.
    pub fn nonces(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.nonces.iter().map(|(tx, nonce)| (&tx[..], &nonce[..]))
    }

    /// Whether one of a transaction's was told.
    pub fn has_told(&self, tx: &[u8]) -> bool {
        let first = (tx.into(), End::Height(0));
        self.told.range(first..).next().is_some_and(|(other, _)| **other == *tx)
    }

    /// Whether one is open, told or not.
    pub fn contains(&self, tx: &[u8], end: &End) -> bool {
        let waits = match end {
            End::Height(height) => self.heights.contains(&(*height, tx.into())),
            End::Nonce(nonce) => self.nonces.contains(&(tx.into(), nonce.clone())),
        };
        waits || self.told.contains(&(tx.into(), end.clone()))
    }

    fn open(&mut self, tx: Bytes, end: End) {
        let named = (tx, end);
        if !self.told.contains(&named) {
            self.wait(named);
        }
    }

    fn wait(&mut self, (tx, end): (Bytes, End)) {
        match end {
            End::Height(height) => self.heights.insert((height, tx)),
            End::Nonce(nonce) => self.nonces.insert((tx, nonce)),
        };
    }

    fn stop_waiting(&mut self, tx: &[u8], end: &End) -> bool {
        match end {
            End::Height(height) => self.heights.remove(&(*height, tx.into())),
            End::Nonce(nonce) => self.nonces.remove(&(tx.into(), nonce.clone())),
        }
    }

    fn close(&mut self, tx: Bytes, end: End) {
        if !self.stop_waiting(&tx, &end) {
            self.told.remove(&(tx, end));
        }
    }

    pub(super) fn set_aside(&mut self, tx: &[u8], end: End) {
        if self.stop_waiting(tx, &end) {
            self.told.insert((tx.into(), end));
        }
    }

    pub(super) fn seek_again(&mut self, tx: &[u8]) {
        let first = (tx.into(), End::Height(0));
        let again: Vec<_> = self.told.range(first..).take_while(|(other, _)| **other == *tx).cloned().collect();
        for named in again {
            self.told.remove(&named);
            self.wait(named);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient(asset: &str, address: &str) -> Key {
        Key::Recipient { asset: asset.into(), address: address.into() }
    }

    fn sorted<'a>(all: impl Iterator<Item = &'a [u8]>) -> Vec<&'a str> {
        let mut all: Vec<_> = all.map(|key| std::str::from_utf8(key).expect("as it was opened")).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn what_was_opened_is_found_until_it_is_closed() {
        let mut open = Interests::default();
        let keys = [
            Key::Tx(b"tx".to_vec()),
            recipient("token", "shop"),
            Key::Authorization(b"authorization".to_vec()),
            Key::Spend { key: b"payer/7".to_vec(), holder: 5 },
            Key::Expiry { tx: b"tx".to_vec(), end: End::Height(7) },
            Key::Proofs,
        ];
        for key in &keys {
            let before = open.changes();
            open.open(key.clone());
            assert_ne!(open.changes(), before);
        }
        assert!(open.txs.contains(b"tx") && !open.txs.contains(b"t"));
        assert!(open.recipients.wants(b"shop", b"token") && !open.recipients.wants(b"shop", b""));
        assert!(open.authorizations.contains(b"authorization"));
        assert!(open.spends.contains(b"payer/7") && !open.spends.contains(b"payer"));
        assert!(open.expiries.contains(b"tx", &End::Height(7)) && !open.expiries.contains(b"tx", &End::Height(8)));
        assert!(open.proofs && !open.is_empty());
        for key in keys {
            open.close(key);
        }
        assert!(open.is_empty() && open.expiries.is_empty() && !open.proofs);
    }

    #[test]
    fn what_is_not_open_can_be_closed() {
        let mut open = Interests::default();
        open.open(recipient("token", "shop"));
        for key in [recipient("other", "shop"), recipient("token", "other"), Key::Tx(b"tx".to_vec())] {
            open.close(key);
        }
        open.close(Key::Spend { key: b"payer/7".to_vec(), holder: 5 });
        open.close(Key::Expiry { tx: b"tx".to_vec(), end: End::Height(7) });
        assert!(open.recipients.wants(b"shop", b"token"));
    }

    #[test]
    fn an_address_is_paid_in_one_asset_or_in_several() {
        let mut open = Interests::default();
        for (asset, address) in [("usd", "a"), ("usd", "b"), ("", "b"), ("eur", "b"), ("eur", "b"), ("usd", "c")] {
            open.open(recipient(asset, address));
        }
        let all = &open.recipients;
        assert_eq!((all.len(), sorted(all.iter())), (3, vec!["a", "b", "c"]));
        assert_eq!(sorted(all.in_asset(b"usd")), ["a", "b", "c"]);
        assert_eq!((sorted(all.in_asset(b"")), sorted(all.in_asset(b"eur"))), (vec!["b"], vec!["b"]));
        assert!(all.has_asset(b"") && !all.has_asset(b"chf") && all.in_asset(b"chf").next().is_none());
        open.close(recipient("usd", "b"));
        assert!(open.recipients.wants(b"b", b"") && !open.recipients.wants(b"b", b"usd"));
        open.close(recipient("", "b"));
        assert!(!open.recipients.has_asset(b""), "nobody waits for it");
        assert!(open.recipients.wants(b"b", b"eur") && !open.recipients.wants(b"b", b""));
        // The number that became free stands for another asset.
        open.open(recipient("chf", "d"));
        assert!(open.recipients.wants(b"d", b"chf") && !open.recipients.wants(b"d", b""));
        for (asset, address) in [("eur", "b"), ("usd", "a"), ("usd", "c"), ("chf", "d")] {
            assert!(open.recipients.contains(address.as_bytes()));
            open.close(recipient(asset, address));
            assert!(!open.recipients.contains(address.as_bytes()));
        }
        assert!(open.recipients.is_empty() && open.recipients.pairs.is_empty() && open.recipients.assets.is_empty());
    }

    #[test]
    fn somebody_has_spend_keys_until_the_last_is_closed() {
        let mut open = Interests::default();
        let key = |n: u8, holder| Key::Spend { key: vec![1, 2, n], holder };
        for n in [7, 7, 8] {
            open.open(key(n, 2));
        }
        assert!(open.spends.has_of(&[1, 2]) && !open.spends.has_of(&[1]) && !open.spends.has_of(&[1, 3]));
        open.close(key(7, 2));
        assert!(open.spends.has_of(&[1, 2]), "one is left");
        open.close(key(7, 2));
        assert!(open.spends.has_of(&[1, 2]), "it was closed already");
        open.close(key(8, 2));
        assert!(!open.spends.has_of(&[1, 2]) && open.spends.is_empty());
        open.open(key(9, 0));
        assert!(open.spends.contains(&[1, 2, 9]) && !open.spends.has_of(&[]), "nobody is named");
        assert_eq!(open.spends.iter().collect::<Vec<_>>(), [[1, 2, 9]]);
        open.close(key(9, 0));
        assert!(open.spends.is_empty());
    }

    #[test]
    fn transactions_are_set_aside_and_watched_all_the_same() {
        let mut open = Interests::default();
        let tx = |text: &str| Key::Tx(text.into());
        for text in ["a", "b", "c"] {
            open.open(tx(text));
        }
        for text in ["a", "b", "x"] {
            open.txs.set_aside(text.as_bytes());
        }
        open.open(tx("a"));
        assert_eq!((open.txs.len(), open.txs.sought().len()), (3, 1));
        assert_eq!(sorted(open.txs.iter()), ["a", "b", "c"]);
        open.close(tx("a"));
        for text in ["a", "b"] {
            open.txs.seek_again(text.as_bytes());
        }
        assert_eq!(sorted(open.txs.sought().iter().map(|(tx, [])| tx)), ["b", "c"]);
        open.close(tx("b"));
        open.close(tx("c"));
        assert!(open.txs.is_empty());
    }

    #[test]
    fn an_expiry_is_told_once_until_somebody_asks_again() {
        let mut open = Interests::default();
        let expiry = |tx: &str, end: End| Key::Expiry { tx: tx.into(), end };
        let nonce = || End::Nonce(b"nonce".as_slice().into());
        for (tx, end) in [("a", End::Height(5)), ("b", End::Height(6)), ("a", nonce()), ("ab", End::Height(4))] {
            open.open(expiry(tx, end));
        }
        let past = |open: &Interests, from, to| {
            let past = open.expiries.between(from, to);
            past.map(|(height, tx)| (height, String::from_utf8_lossy(tx).into_owned())).collect::<Vec<_>>()
        };
        let named = |height, tx: &str| (height, tx.to_owned());
        assert_eq!(past(&open, 0, 6), [named(4, "ab"), named(5, "a")]);
        assert_eq!(past(&open, 5, 7), [named(5, "a"), named(6, "b")]);
        assert!(past(&open, 7, 7).is_empty() && past(&open, 7, 0).is_empty());
        for (tx, end) in [("a", End::Height(5)), ("a", nonce()), ("ab", End::Height(4)), ("x", nonce())] {
            open.expiries.set_aside(tx.as_bytes(), end);
        }
        assert_eq!((past(&open, 0, 9), open.expiries.nonces().count()), (vec![named(6, "b")], 0));
        open.open(expiry("a", End::Height(5)));
        assert!(
            open.expiries.contains(b"a", &nonce()) && open.expiries.has_told(b"a") && !open.expiries.has_told(b"b")
        );
        open.expiries.seek_again(b"a");
        assert_eq!(past(&open, 0, 9), [named(5, "a"), named(6, "b")], "the other's stays aside");
        assert_eq!(open.expiries.nonces().collect::<Vec<_>>(), [(&b"a"[..], &b"nonce"[..])]);
        for (tx, end) in [("a", End::Height(5)), ("b", End::Height(6)), ("a", nonce()), ("ab", End::Height(4))] {
            open.close(expiry(tx, end));
        }
        assert!(open.expiries.is_empty());
    }

    #[test]
    fn keys_of_text_are_told_apart() {
        let authorization = |nonce: &str| Interest::Authorization {
            asset: "token".into(),
            authorizer: "payer".into(),
            nonce: nonce.to_owned(),
        };
        assert_ne!(Key::of_text(&authorization("1")), Key::of_text(&authorization("2")));
        let native = Interest::Recipient { asset: "native".into(), address: "shop".into() };
        assert_eq!(Key::of_text(&native), Some(recipient("", "shop")));
    }
}
