//! Transactions, described by what they do.

use serde_json::{Value, json};

use super::account::{self, ATA, Account, Holding, MEMO, Mint, RENT, SYSTEM};
use super::chain::Ledger;

/// What a sender has beyond what it spends, where nobody said.
const WEALTH: u64 = 1_000_000_000;

/// What becomes of a balance.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    By(i128),
    /// Before and after, whatever the chain says. None is no balance at all.
    Given(Option<u64>, Option<u64>),
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub signer: bool,
    pub writable: bool,
    /// By an address lookup table.
    pub loaded: bool,
    pub change: Change,
}

#[derive(Clone, Debug)]
pub struct Tokens {
    pub account: String,
    pub owner: String,
    pub mint: Mint,
    pub change: Change,
}

#[derive(Clone, Debug)]
pub struct Instruction {
    pub program: String,
    pub accounts: Vec<String>,
    pub data: Vec<u8>,
    /// Called by the first one.
    pub inner: bool,
}

/// A transaction that is in no block yet, or may get into another.
#[derive(Clone, Debug)]
pub struct Tx {
    pub signature: String,
    /// None is "legacy".
    pub version: Option<u8>,
    pub fee: u64,
    pub err: Option<Value>,
    /// It failed and shows what it would have moved.
    pub forged: bool,
    pub entries: Vec<Entry>,
    pub tokens: Vec<Tokens>,
    pub instructions: Vec<Instruction>,
    /// The account of its durable nonce.
    pub nonce: Option<String>,
    /// Balances of tokens without owner and program, as nodes once told them.
    pub ownerless: bool,
    /// Balances of tokens and inner instructions are null.
    pub unrecorded: bool,
}

impl Tx {
    /// One that does nothing but pay its fee.
    pub(super) fn new(signature: String, payer: &str) -> Self {
        Self {
            signature,
            version: None,
            fee: 5_000,
            err: None,
            forged: false,
            entries: Vec::new(),
            tokens: Vec::new(),
            instructions: Vec::new(),
            nonce: None,
            ownerless: false,
            unrecorded: false,
        }
        .signed_by(payer)
    }

    pub fn signed_by(mut self, key: &str) -> Self {
        self.entry(key, true, true);
        self
    }

    /// A key that is neither written nor signs, as a reference.
    pub fn reference(mut self, key: &str) -> Self {
        self.entry(key, false, false);
        self
    }

    pub fn sol(mut self, from: &str, to: &str, lamports: u64) -> Self {
        add(&mut self.entry(from, true, true).change, -i128::from(lamports));
        add(&mut self.entry(to, false, true).change, lamports.into());
        let data = [&2_u32.to_le_bytes()[..], &lamports.to_le_bytes()].concat();
        self.instruction(SYSTEM, &[from, to], data, false)
    }

    /// From one wallet to another, in their associated accounts.
    pub fn token(self, mint: &Mint, from: &str, to: &str, amount: u64) -> Self {
        let (source, target) = (account::ata(from, mint), account::ata(to, mint));
        self.tokens(mint, (from, &source), (to, &target), amount)
    }

    /// From an account of one owner to an account of another: (owner, account).
    pub fn tokens(mut self, mint: &Mint, from: (&str, &str), to: (&str, &str), amount: u64) -> Self {
        self.entry(from.0, true, false);
        self.entry(&mint.address, false, false);
        self.holding(mint, from, Change::By(-i128::from(amount)));
        self.holding(mint, to, Change::By((amount - mint.fee_of(amount)).into()));
        let data = [&[12][..], &amount.to_le_bytes(), &[mint.decimals]].concat();
        self.instruction(&mint.program, &[from.1, &mint.address, to.1, from.0], data, false)
    }

    pub fn memo(self, text: &str) -> Self {
        self.instruction(MEMO, &[], text.into(), false)
    }

    pub fn inner_memo(self, text: &str) -> Self {
        self.instruction(MEMO, &[], text.into(), true)
    }

    pub fn version(mut self, version: u8) -> Self {
        self.version = Some(version);
        self
    }

    /// This key comes from a lookup table: the transaction is of version 0.
    pub fn load(mut self, key: &str) -> Self {
        let writable = self.entries.iter().any(|entry| entry.key == key && entry.writable);
        self.entry(key, false, writable).loaded = true;
        self.version(0)
    }

    pub fn fee(mut self, lamports: u64) -> Self {
        self.fee = lamports;
        self
    }

    /// It lands, and moves nothing but its fee.
    pub fn fails(mut self, err: Value) -> Self {
        self.err = Some(err);
        self
    }

    /// It lands and fails, and its balances look as if it had not.
    pub fn forged(mut self, err: Value) -> Self {
        self.forged = true;
        self.fails(err)
    }

    /// Of a durable nonce, which the block that takes it advances.
    pub fn nonced(mut self, account: &str) -> Self {
        self.nonce = Some(account.into());
        self.entry(account, false, true);
        let advance = Instruction {
            program: SYSTEM.into(),
            accounts: vec![account.into()],
            data: vec![4, 0, 0, 0],
            inner: false,
        };
        self.instructions.insert(0, advance);
        self
    }

    /// Lamports before and after, whatever the chain says.
    pub fn lamports(mut self, key: &str, before: u64, after: u64) -> Self {
        self.entry(key, false, true).change = Change::Given(Some(before), Some(after));
        self
    }

    /// Tokens of a wallet before and after, whatever the chain says. None: there is no such account then.
    pub fn amounts(mut self, mint: &Mint, owner: &str, before: Option<u64>, after: Option<u64>) -> Self {
        self.holding(mint, (owner, &account::ata(owner, mint)), Change::Given(before, after));
        self
    }

    pub fn ownerless(mut self) -> Self {
        self.ownerless = true;
        self
    }

    pub fn unrecorded(mut self) -> Self {
        self.unrecorded = true;
        self
    }

    pub fn instruction(mut self, program: &str, accounts: &[&str], data: Vec<u8>, inner: bool) -> Self {
        for key in accounts.iter().chain([&program]) {
            self.entry(key, false, false);
        }
        let accounts = accounts.iter().map(|key| (*key).to_owned()).collect();
        self.instructions.push(Instruction { program: program.into(), accounts, data, inner });
        self
    }

    fn entry(&mut self, key: &str, signer: bool, writable: bool) -> &mut Entry {
        let known = self.entries.iter().position(|entry| entry.key == key);
        let at = known.unwrap_or_else(|| {
            let new = Entry { key: key.into(), signer, writable, loaded: false, change: Change::By(0) };
            self.entries.push(new);
            self.entries.len() - 1
        });
        let entry = &mut self.entries[at];
        entry.signer |= signer;
        entry.writable |= writable;
        entry
    }

    fn holding(&mut self, mint: &Mint, (owner, account): (&str, &str), change: Change) {
        self.entry(account, false, true);
        match (self.tokens.iter_mut().find(|tokens| tokens.account == account), change) {
            (Some(known), Change::By(by)) => add(&mut known.change, by),
            (Some(known), given) => known.change = given,
            (None, change) => {
                self.tokens.push(Tokens { account: account.into(), owner: owner.into(), mint: mint.clone(), change });
            }
        }
    }
}

fn add(change: &mut Change, by: i128) {
    if let Change::By(sum) = change {
        *sum += by;
    }
}

/// A transaction in a block. Balances are in the order of its keys.
#[derive(Clone, Debug)]
pub struct Placed {
    pub tx: Tx,
    pub blockhash: String,
    pub lamports: Vec<(u64, u64)>,
    /// Account, and what it held before and after.
    pub holdings: Vec<(String, Option<Holding>, Option<Holding>)>,
    /// The nonce after it.
    pub nonce: Option<(String, Account)>,
}

impl Placed {
    /// What a transaction does on top of what there is. Whoever spends has what it takes.
    pub(super) fn new(mut tx: Tx, ledger: &Ledger, latest: &str) -> Self {
        let moves = tx.err.is_none() || tx.forged;
        if moves {
            open_accounts(&mut tx, ledger);
        }
        // As a message has them: those that sign, those that are written, and loaded ones last.
        tx.entries.sort_by_key(|entry| (entry.loaded, !entry.signer, !entry.writable));
        let holdings: Vec<_> = tx.tokens.iter().map(|tokens| settle_tokens(tokens, ledger, moves)).collect();
        let lamports = tx.entries.iter().enumerate().map(|(n, entry)| {
            let mut held = ledger.lamports.get(&entry.key).copied().unwrap_or_default();
            if holdings.iter().any(|(key, before, _)| *key == entry.key && before.is_some()) {
                held = held.max(RENT);
            }
            let by = match entry.change {
                Change::Given(before, after) => return (before.unwrap_or_default(), after.unwrap_or_default()),
                Change::By(by) => (if moves { by } else { 0 }) - if n == 0 { i128::from(tx.fee) } else { 0 },
            };
            settle(held, by)
        });
        let lamports = lamports.collect();
        let (blockhash, nonce) = match tx.nonce.as_ref().map(|key| (key, ledger.accounts.get(key))) {
            Some((key, Some(Account::Nonce { authority, value }))) => {
                let next = Account::Nonce { authority: authority.clone(), value: account::durable(latest) };
                (value.clone(), Some((key.clone(), next)))
            }
            Some((key, _)) => panic!("{key} is no nonce account"),
            None => (latest.to_owned(), None),
        };
        Self { tx, blockhash, lamports, holdings, nonce }
    }

    /// Memos as `getSignaturesForAddress` shows them.
    pub fn memo(&self) -> Value {
        let memos = self.tx.instructions.iter().filter(|instruction| instruction.program == MEMO && !instruction.inner);
        let memos: Vec<_> =
            memos.map(|memo| format!("[{}] {}", memo.data.len(), String::from_utf8_lossy(&memo.data))).collect();
        if memos.is_empty() { Value::Null } else { json!(memos.join("; ")) }
    }

    pub fn touches(&self, key: &str) -> bool {
        self.tx.entries.iter().any(|entry| entry.key == key)
    }
}

/// Who receives a token for the first time gets an account, which the fee's payer pays for.
fn open_accounts(tx: &mut Tx, ledger: &Ledger) {
    let payer = tx.entries[0].key.clone();
    for tokens in tx.tokens.clone() {
        let receives = matches!(tokens.change, Change::By(by) if by >= 0);
        if receives && !ledger.holdings.contains_key(&tokens.account) {
            add(&mut tx.entry(&payer, true, true).change, -i128::from(RENT));
            add(&mut tx.entry(&tokens.account, false, true).change, RENT.into());
            for key in [&tokens.owner, SYSTEM, ATA] {
                tx.entry(key, false, false);
            }
        }
    }
}

fn settle(held: u64, by: i128) -> (u64, u64) {
    let before =
        if i128::from(held) + by < 0 { u64::try_from(-by).expect("lamports").saturating_add(WEALTH) } else { held };
    (before, u64::try_from(i128::from(before) + by).expect("a u64 holds it"))
}

fn settle_tokens(tokens: &Tokens, ledger: &Ledger, moves: bool) -> (String, Option<Holding>, Option<Holding>) {
    let held = ledger.holdings.get(&tokens.account).map(|holding| holding.amount);
    let (before, after) = match tokens.change {
        Change::Given(before, after) => (before, after),
        Change::By(by) if moves => {
            let (before, after) = settle(held.unwrap_or_default(), by);
            ((by < 0 || held.is_some()).then_some(before), Some(after))
        }
        Change::By(_) => (held, held),
    };
    let holding = |amount| Holding { owner: tokens.owner.clone(), mint: tokens.mint.clone(), amount };
    (tokens.account.clone(), before.map(holding), after.map(holding))
}
