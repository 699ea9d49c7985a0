//! A chain that grows, skips and forks when it is told to.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use h402_watch::clock::{Clock as _, SystemClock};
use tokio::sync::broadcast;

use super::account::{Account, Holding, Mint, RENT, base58, durable, sha256};
use super::tx::{Placed, Tx};

/// Blocks that a socket may be behind with: more than a test makes at once.
const NOTICES: usize = 16_384;

/// What accounts hold after a block.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub lamports: BTreeMap<String, u64>,
    pub holdings: BTreeMap<String, Holding>,
    pub accounts: BTreeMap<String, Account>,
}

impl Ledger {
    fn apply(&mut self, placed: &Placed) {
        for (entry, (_, after)) in placed.tx.entries.iter().zip(&placed.lamports) {
            self.lamports.insert(entry.key.clone(), *after);
        }
        for (key, _, after) in &placed.holdings {
            match after {
                Some(holding) => self.holdings.insert(key.clone(), holding.clone()),
                None => self.holdings.remove(key),
            };
        }
        self.accounts.extend(placed.nonce.clone());
    }

    fn put(&mut self, key: &str, account: &Account) {
        self.accounts.insert(key.into(), account.clone());
        self.lamports.entry(key.into()).or_insert(RENT);
    }
}

#[derive(Clone, Debug)]
pub struct Block {
    pub slot: u64,
    pub hash: String,
    pub parent: u64,
    pub parent_hash: String,
    pub height: u64,
    pub time: Option<i64>,
    pub transactions: Vec<Placed>,
    /// Accounts as a test put them, after its transactions.
    pub accounts: Vec<(String, Account)>,
}

pub struct Chain {
    /// Tells branches apart.
    id: Vec<u8>,
    blocks: BTreeMap<u64, Arc<Block>>,
    next: u64,
    forks: u64,
    signatures: u64,
    branches: u8,
    time: Option<i64>,
    ledger: Ledger,
    places: BTreeMap<String, (u64, usize)>,
    notices: broadcast::Sender<(u64, u64)>,
}

impl Default for Chain {
    /// With a genesis, in slot 0.
    fn default() -> Self {
        let mut chain = Self::empty(Vec::new());
        chain.produce(1);
        chain
    }
}

impl Chain {
    fn empty(id: Vec<u8>) -> Self {
        Self {
            id,
            blocks: BTreeMap::new(),
            next: 0,
            forks: 0,
            signatures: 0,
            branches: 0,
            time: None,
            ledger: Ledger::default(),
            places: BTreeMap::new(),
            notices: broadcast::channel(NOTICES).0,
        }
    }

    /// The same blocks, on which another future is built.
    pub fn branch(&mut self) -> Self {
        self.branches += 1;
        let mut branch = Self::empty([&self.id[..], &[self.branches]].concat());
        branch.blocks.clone_from(&self.blocks);
        branch.next = self.next;
        branch.time = self.time;
        branch.ledger = self.ledger.clone();
        branch.places.clone_from(&self.places);
        branch
    }

    /// So many empty blocks; the last slot.
    pub fn produce(&mut self, n: u64) -> u64 {
        for _ in 0..n {
            self.block(Vec::new());
        }
        self.tip()
    }

    /// So many slots without a block.
    pub fn skip(&mut self, n: u64) {
        self.next += n;
    }

    /// A block with these; its slot.
    pub fn block(&mut self, transactions: Vec<Tx>) -> u64 {
        let slot = self.next;
        self.next += 1;
        // A genesis has itself for a parent.
        let parent = self.blocks.last_key_value().map(|(_, block)| Arc::clone(block));
        let (parent_slot, parent_hash, height) = match &parent {
            Some(block) => (block.slot, block.hash.clone(), block.height + 1),
            None => (0, base58(&[0; 32]), 0),
        };
        let number = |n: u64| n.to_le_bytes();
        let hash = sha256(&[&self.id, &number(self.forks), &number(slot), parent_hash.as_bytes()]);
        let mut placed = Vec::with_capacity(transactions.len());
        for tx in transactions {
            let tx = Placed::new(tx, &self.ledger, &parent_hash);
            self.ledger.apply(&tx);
            self.places.insert(tx.tx.signature.clone(), (slot, placed.len()));
            placed.push(tx);
        }
        let time = self.time.or_else(|| i64::try_from(SystemClock.now().0 / 1000).ok());
        let block = Block {
            slot,
            hash: base58(&hash),
            parent: parent_slot,
            parent_hash,
            height,
            time,
            transactions: placed,
            accounts: Vec::new(),
        };
        self.blocks.insert(slot, Arc::new(block));
        // Nobody may listen.
        let _ = self.notices.send((slot, parent_slot));
        slot
    }

    /// Drops all above this slot; what is made next has other hashes.
    pub fn fork_at(&mut self, slot: u64) {
        self.blocks.split_off(&(slot + 1));
        self.next = slot + 1;
        self.forks += 1;
        self.ledger = self.replay(slot);
        self.places.clear();
        for block in self.blocks.values() {
            for (n, placed) in block.transactions.iter().enumerate() {
                self.places.insert(placed.tx.signature.clone(), (block.slot, n));
            }
        }
    }

    /// When blocks are made from now on, in seconds; or by the clock again.
    pub fn time(&mut self, time: Option<i64>) {
        self.time = time;
    }

    /// A transaction that only pays its fee, to be told what else it does.
    pub fn tx(&mut self, payer: &str) -> Tx {
        self.signatures += 1;
        let half = |n: u8| sha256(&[&self.id, payer.as_bytes(), &self.signatures.to_le_bytes(), &[n]]);
        Tx::new(base58(&[half(0), half(1)].concat()), payer)
    }

    /// In a block of its own; its signature.
    pub fn pay_sol(&mut self, from: &str, to: &str, lamports: u64) -> String {
        let tx = self.tx(from).sol(from, to, lamports);
        self.land(tx)
    }

    /// In a block of its own; its signature.
    pub fn pay_token(&mut self, mint: &Mint, from: &str, to: &str, amount: u64) -> String {
        let tx = self.tx(from).token(mint, from, to, amount);
        self.land(tx)
    }

    /// In a block of its own; its signature.
    pub fn land(&mut self, tx: Tx) -> String {
        let signature = tx.signature.clone();
        self.block(vec![tx]);
        signature
    }

    /// Puts an account into the newest block.
    pub fn put(&mut self, key: &str, account: Account) {
        self.ledger.put(key, &account);
        let (_, block) = self.blocks.iter_mut().next_back().expect("a genesis");
        Arc::make_mut(block).accounts.push((key.into(), account));
    }

    /// Makes a nonce account, or advances it as somebody else's transaction would; its value.
    pub fn nonce(&mut self, key: &str, authority: &str) -> String {
        let value = durable(&self.blockhash());
        self.put(key, Account::Nonce { authority: authority.into(), value: value.clone() });
        value
    }

    /// The newest block's slot.
    pub fn tip(&self) -> u64 {
        self.below(u64::MAX).slot
    }

    pub fn blockhash(&self) -> String {
        self.below(u64::MAX).hash.clone()
    }

    /// Where a transaction is: slot, and place in its block.
    pub fn place(&self, signature: &str) -> Option<(u64, usize)> {
        self.places.get(signature).copied()
    }

    pub fn get(&self, slot: u64) -> Option<&Arc<Block>> {
        self.blocks.get(&slot)
    }

    /// The newest block that is not above a slot.
    pub fn below(&self, slot: u64) -> &Arc<Block> {
        self.blocks.range(..=slot).next_back().map(|(_, block)| block).expect("a genesis")
    }

    pub fn range(&self, slots: std::ops::RangeInclusive<u64>) -> impl DoubleEndedIterator<Item = &Arc<Block>> {
        self.blocks.range(slots).map(|(_, block)| block)
    }

    /// What accounts held after a slot.
    pub fn ledger_at(&self, slot: u64) -> Cow<'_, Ledger> {
        if slot >= self.tip() { Cow::Borrowed(&self.ledger) } else { Cow::Owned(self.replay(slot)) }
    }

    fn replay(&self, slot: u64) -> Ledger {
        let mut ledger = Ledger::default();
        for block in self.range(0..=slot) {
            block.transactions.iter().for_each(|placed| ledger.apply(placed));
            block.accounts.iter().for_each(|(key, account)| ledger.put(key, account));
        }
        ledger
    }

    pub(super) fn listen(&self) -> broadcast::Receiver<(u64, u64)> {
        self.notices.subscribe()
    }
}
