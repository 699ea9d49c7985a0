//! Random chains, with forks, lag, lies, restarts at any point and clocks that jump, against a naive model.
//!
//! Two engines are told the same: one runs on, the other is restored from what it committed at random points. Their logs have
//! to be the same bytes (invariant 4). After each step the outcomes of all watches on a transaction are compared with the
//! model, which knows the whole chain and recomputes everything; each settlement is held against what is true of the chain.
//!
//! `H402_SEEDS=n` runs other than 10,000 seeds, `H402_SEED=n` one of them.

mod model;
mod support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use h402_watch_engine::amount::Amount;
use h402_watch_engine::changes::{Ask, ClaimState, Event, EventKind, Interest, LookUp};
use h402_watch_engine::id::{AssetId, BlockHash, BlockRef, Header, SpendKey, Timestamp, TxId, WatchId};
use h402_watch_engine::input::{Block, Execution, Observation, Place, TxFact};
use h402_watch_engine::proof::{Part, Proof};
use h402_watch_engine::request::{AmountRule, AtDeadline, Depth, Expiry, Subject, Tag, Terms, WatchRequest};
use h402_watch_engine::watch::{Outcome, Reason, State};

use model::{Model, Told};
use support::{BLOCK_MS, HORIZON, START_MS, World, network, pays, request, transfer};

/// Seeds that once failed.
const REGRESSIONS: [u64; 3] = [2293, 3928, 19501];

/// Steps of one run.
const STEPS: u64 = 60;
/// The deepest fork: below the horizon, so that no network halts.
const FORK_MAX: u64 = 5;

#[test]
fn ten_thousand_seeds_agree_with_the_naive_model() {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    if let Some(seed) = number("H402_SEED") {
        return run(seed);
    }
    let seeds = number("H402_SEEDS").unwrap_or(10_000);
    let mut settled = BTreeMap::new();
    for seed in REGRESSIONS.into_iter().chain(0..seeds) {
        let result = std::panic::catch_unwind(|| simulate(seed));
        let Ok(outcomes) = result else { panic!("seed {seed} failed: run it again with H402_SEED={seed}") };
        for outcome in outcomes {
            *settled.entry(outcome).or_insert(0_u64) += 1;
        }
    }
    // A simulation that never gets anywhere would agree with anything.
    for expected in [
        "success",
        "partial",
        "reverted",
        "deadline_passed",
        "already_claimed",
        "too_early",
        "replaced",
        "expired",
        "memo_mismatch",
        "reference_missing",
    ] {
        assert!(seeds < 1000 || settled.contains_key(expected), "no run came to {expected}: {settled:?}");
    }
}

fn run(seed: u64) {
    simulate(seed);
}

/// xorshift64* (Vigna 2016): small, and the same everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(usize::try_from(self.below(from.len() as u64)).expect("small"))
    }
}

/// A transaction as it is, wherever it is mined.
#[derive(Clone)]
struct Tx {
    fact: TxFact,
    /// Blocks whose hash ends so revert it.
    reverted_on: Option<char>,
    /// The last height of a block that may hold it.
    last: Option<u64>,
}

/// A block of the true chain.
#[derive(Clone)]
struct Mined {
    header: Header,
    txs: Vec<TxFact>,
    /// The step in which the engines were told.
    step: u64,
}

struct Simulation {
    random: Random,
    steady: World,
    restarted: World,
    model: Model,
    /// Whether payments carry marks, transactions expire, and the chain calls blocks final.
    rich: bool,
    finalized: u64,
    /// What the source checks: it tells once what has come.
    expiries: BTreeSet<(TxId, Expiry)>,
    txs: Vec<Tx>,
    chain: Vec<Mined>,
    mempool: BTreeSet<TxId>,
    branches: u64,
    look_ups: VecDeque<LookUp>,
    /// The watches that have one under way.
    awaiting: BTreeSet<WatchId>,
    locates: VecDeque<TxId>,
    interests: BTreeSet<Interest>,
    step: u64,
    asks_seen: usize,
    checked: usize,
    watches: Vec<WatchId>,
}

/// Runs one seed; the outcomes that it came to.
fn simulate(seed: u64) -> Vec<String> {
    let mut simulation = Simulation::new(seed);
    for step in 1..=STEPS {
        simulation.step = step;
        simulation.act();
        simulation.check();
    }
    simulation.settle_down();
    simulation.outcomes()
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // In every other run each shop waits for one payment only: there the model is exact.
        let shared = seed % 2 == 1;
        let rich = seed % 4 >= 2;
        let mut txs: Vec<_> = (0..8).map(|n| make_tx(&mut random, n, shared)).collect();
        if rich {
            txs.iter_mut().for_each(|tx| enrich(&mut random, tx));
        }
        let (steady, restarted) = (World::new(), World::new());
        let mined = |header: &Header| Mined { header: header.clone(), txs: Vec::new(), step: 0 };
        let chain = steady.headers.values().map(mined).collect();
        let asks_seen = steady.asks.len();
        Self {
            random,
            steady,
            restarted,
            model: Model::new(!shared),
            rich,
            finalized: 0,
            expiries: BTreeSet::new(),
            txs,
            chain,
            mempool: BTreeSet::new(),
            branches: 0,
            look_ups: VecDeque::new(),
            awaiting: BTreeSet::new(),
            locates: VecDeque::new(),
            interests: BTreeSet::new(),
            step: 0,
            asks_seen,
            checked: 0,
            watches: Vec::new(),
        }
    }

    fn act(&mut self) {
        if self.rich && self.random.chance(15) {
            return if self.random.chance(40) { self.finalize() } else { self.expire() };
        }
        match self.random.below(100) {
            0..=24 => self.mine(),
            25..=34 => self.fork(),
            35..=49 => self.create(),
            50..=59 => self.show_in_mempool(),
            60..=64 => self.drop_from_mempool(),
            65..=79 => self.answer(),
            80..=84 => self.pass_time(),
            85..=88 => self.lie(),
            89..=90 => self.jump_clock(),
            91..=92 => self.cancel(),
            _ => self.restart(),
        }
    }

    /// Tells both engines, and the model.
    fn observe(&mut self, observation: Observation) {
        for world in [&mut self.steady, &mut self.restarted] {
            world.observe(observation.clone());
        }
        let now = self.steady.now;
        self.model.observe(now, &observation, &self.chain, self.step);
        self.take_asks();
    }

    fn take_asks(&mut self) {
        for ask in self.steady.asks[self.asks_seen..].iter().cloned() {
            match ask {
                Ask::Open(interest) => {
                    if let Interest::Expiry { tx, expiry } = &interest {
                        self.expiries.insert((tx.clone(), expiry.clone()));
                    }
                    assert!(self.interests.insert(interest), "opened once");
                }
                Ask::Close(interest) => {
                    if let Interest::Expiry { tx, expiry } = &interest {
                        self.expiries.remove(&(tx.clone(), expiry.clone()));
                    }
                    assert!(self.interests.remove(&interest), "was open");
                }
                Ask::LookUp(look_up) => {
                    self.awaiting.insert(look_up.watch.clone());
                    self.look_ups.push_back(look_up);
                }
                Ask::Locate { tx } => self.locates.push_back(tx),
            }
        }
        self.asks_seen = self.steady.asks.len();
    }

    fn head(&self) -> &Mined {
        self.chain.last().expect("a chain")
    }

    fn mine(&mut self) {
        let txs = self.choose_txs(self.chain.len(), self.head().header.block.height + 1);
        let block = self.next_block(txs);
        self.tell(vec![block], self.chain.len());
    }

    /// Transactions that may stand in a block of this height, on top of the first `kept` blocks.
    fn choose_txs(&mut self, kept: usize, height: u64) -> Vec<TxFact> {
        let mut used: BTreeSet<SpendKey> =
            self.chain[..kept].iter().flat_map(|block| &block.txs).flat_map(|fact| fact.spends.clone()).collect();
        let mut chosen = Vec::new();
        for n in 0..self.txs.len() {
            let free = self.txs[n].fact.spends.iter().all(|key| !used.contains(key))
                && self.txs[n].last.is_none_or(|last| height <= last);
            if free && self.random.chance(15) {
                used.extend(self.txs[n].fact.spends.clone());
                chosen.push(self.txs[n].fact.clone());
            }
        }
        chosen
    }

    fn next_block(&mut self, txs: Vec<TxFact>) -> (Header, Vec<TxFact>) {
        let parent = self.head().header.clone();
        let header = self.header_on(&parent);
        (header, txs)
    }

    fn header_on(&mut self, parent: &Header) -> Header {
        self.branches += 1;
        let height = parent.block.height + 1;
        let hash = BlockHash::new(format!("{height}.{}", self.branches));
        let hash_bytes = hash.as_str().as_bytes().to_vec();
        // Times mostly grow as they should, and now and then hardly at all.
        let step = if self.random.chance(90) { BLOCK_MS } else { 1 };
        Header {
            block: BlockRef { height, hash },
            parent: parent.block.hash.clone(),
            time: parent.time.plus_ms(step),
            slot: height,
            bytes: hash_bytes.into(),
        }
    }

    /// The chain becomes the first `kept` blocks and these; the engines hear of what is watched.
    fn tell(&mut self, blocks: Vec<(Header, Vec<TxFact>)>, kept: usize) {
        self.chain.truncate(kept);
        let mut told = Vec::new();
        for (header, txs) in blocks {
            let placed: Vec<_> = txs.iter().map(|fact| self.placed(fact, &header)).collect();
            for fact in &placed {
                self.mempool.remove(&fact.tx);
            }
            let facts = placed.iter().filter(|fact| self.is_watched(fact)).cloned().collect();
            self.chain.push(Mined { header: header.clone(), txs: placed, step: self.step });
            told.push(Block { floor: header.time, header, facts });
        }
        let latest = self.head().header.time;
        for world in [&mut self.steady, &mut self.restarted] {
            world.now = world.now.max(latest);
        }
        self.observe(Observation::Blocks(told));
    }

    fn placed(&self, fact: &TxFact, header: &Header) -> TxFact {
        let tx = self.txs.iter().find(|tx| tx.fact.tx == fact.tx).expect("one of ours");
        let reverts = tx.reverted_on.is_some_and(|last| header.block.hash.as_str().ends_with(last));
        let mut fact = tx.fact.clone();
        fact.place = Place::Block { block: header.block.clone(), time: header.time };
        fact.proof = Some(Box::new(Proof::new("test", [("header", Part::Bytes(header.bytes.to_vec()))])));
        if reverts {
            fact.execution = Execution::Reverted;
            fact.transfers.clear();
        }
        fact
    }

    /// What a source would match: the transaction, its recipients, what it spends.
    fn is_watched(&self, fact: &TxFact) -> bool {
        let recipient =
            |to: &h402_watch_engine::id::Address| Interest::Recipient { asset: AssetId::native(), address: to.clone() };
        self.interests.contains(&Interest::Tx(fact.tx.clone()))
            || fact.transfers.iter().any(|moved| self.interests.contains(&recipient(&moved.to)))
            || fact.spends.iter().any(|key| self.interests.contains(&Interest::Spend(key.clone())))
    }

    fn fork(&mut self) {
        let depth = 1 + self.random.below(FORK_MAX);
        // No deeper than the engines keep blocks, nor below a final one: a source would halt.
        let bottom = (*self.steady.headers.keys().next().expect("a chain")).max(self.finalized);
        let deepest = self.chain.iter().take_while(|mined| mined.header.block.height <= bottom).count();
        let kept = self.chain.len().saturating_sub(usize::try_from(depth).expect("small")).max(deepest);
        let length = 1 + self.random.below(depth + 1);
        let lost: Vec<_> = self.chain[kept..].iter().flat_map(|block| &block.txs).map(|f| f.tx.clone()).collect();
        let mut parent = self.chain[kept - 1].header.clone();
        let mut blocks = Vec::new();
        let mut used: BTreeSet<TxId> = BTreeSet::new();
        for _ in 0..length {
            let header = self.header_on(&parent);
            let mut txs = self.choose_txs(kept, header.block.height);
            let spent: BTreeSet<_> = blocks
                .iter()
                .flat_map(|(_, facts): &(Header, Vec<TxFact>)| facts)
                .flat_map(|fact| fact.spends.clone())
                .collect();
            txs.retain(|fact| fact.spends.iter().all(|key| !spent.contains(key)));
            used.extend(txs.iter().map(|fact| fact.tx.clone()));
            parent = header.clone();
            blocks.push((header, txs));
        }
        for tx in lost {
            if !used.contains(&tx) && self.random.chance(50) {
                self.mempool.insert(tx);
            }
        }
        // Each third branch is told in pieces.
        let rest = if self.branches.is_multiple_of(3) { blocks.split_off(1) } else { Vec::new() };
        self.tell(blocks, kept);
        if !rest.is_empty() {
            self.tell(rest, self.chain.len());
        }
    }

    fn create(&mut self) {
        let n = self.random.below(self.txs.len() as u64);
        let tx = self.txs[usize::try_from(n).expect("small")].fact.clone();
        let subject = if self.random.chance(70) {
            Subject::Transaction { tx: tx.tx.clone(), expiry: self.state_expiry(usize::try_from(n).expect("small")) }
        } else {
            Subject::Address
        };
        let amount = *self.random.pick(&[50, 100, 100, 100, 150]).expect("not empty");
        let depth = u32::try_from(self.random.below(5)).expect("small");
        let mut asked = request(subject, amount, depth);
        asked.terms.pay_to = tx.transfers[0].to.clone();
        asked.terms.amount_rule =
            *self.random.pick(&[AmountRule::AtLeast, AmountRule::Exact, AmountRule::UpTo]).expect("not empty");
        if self.random.chance(40) {
            asked.terms.deadline = self.steady.now.plus_ms(1 + self.random.below(12) * BLOCK_MS);
        }
        if self.random.chance(30) {
            asked.terms.at_deadline = AtDeadline::Extend;
        }
        let is_tx = asked.subject != Subject::Address;
        if is_tx && self.random.chance(15) {
            let later = self.steady.now.plus_ms(self.random.below(4) * BLOCK_MS);
            asked.terms.not_before = Some(later).filter(|later| *later < asked.terms.deadline);
        }
        if self.rich && self.random.chance(30) {
            asked.terms.memo = Some((*self.random.pick(&["m0", "m1"]).expect("not empty")).into());
        }
        if self.rich && self.random.chance(20) {
            asked.terms.references =
                self.random.pick(&[vec!["r0".into()], vec!["r0".into(), "r1".into()]]).cloned().expect("not empty");
        }
        asked.proofs = [None, Some(false), Some(true)][usize::try_from(self.step % 3).expect("small")];
        if self.model.exact && self.model.wants_payment_of(&asked) {
            return;
        }
        // The driver finds archived watches in the store.
        if self.steady.watches.contains_key(&h402_watch_engine::watch_id(&asked)) {
            return;
        }
        let now = self.steady.now;
        let made = self.steady.engine.create(now, asked.clone());
        assert_eq!(made, self.restarted.engine.create(now, asked.clone()));
        let Ok(made) = made else { return };
        self.steady.commit();
        self.restarted.commit();
        if made.new {
            self.watches.push(made.id.clone());
            self.model.create(made.id, asked, self.step);
        }
        self.take_asks();
    }

    /// When a client says that a transaction expires: mostly truly, now and then too early.
    fn state_expiry(&mut self, tx: usize) -> Option<Expiry> {
        if !self.rich || self.random.chance(30) {
            return None;
        }
        if self.random.chance(20) {
            return Some(Expiry::Nonce { account: "account".into(), value: tx.to_string() });
        }
        let last = self.txs[tx].last?;
        let stated = if self.random.chance(40) { last.saturating_sub(self.random.below(20)) } else { last };
        Some(Expiry::Height(stated))
    }

    /// The chain calls a block final.
    fn finalize(&mut self) {
        let head = self.head().header.block.height;
        self.finalized += self.random.below(head + 1 - self.finalized.min(head));
        self.tell_finalized();
    }

    fn tell_finalized(&mut self) {
        let Some(last) = self.chain.iter().find(|mined| mined.header.block.height == self.finalized) else { return };
        let block = last.header.block.clone();
        self.observe(Observation::Finality { tag: Tag::Finalized, block });
    }

    /// The source checks one of the expiries that it was asked for, and tells once what has come.
    fn expire(&mut self) {
        let asked: Vec<_> = self.expiries.iter().cloned().collect();
        let Some((tx, expiry)) = self.random.pick(&asked).cloned() else { return };
        let has_come = match &expiry {
            Expiry::Height(last) => *last <= self.finalized,
            // Something else in a final block has used what it needs.
            Expiry::Nonce { .. } => self.is_excluded(&tx),
        };
        let in_chain = self.chain.iter().flat_map(|mined| &mined.txs).any(|fact| fact.tx == tx);
        // A source may be wrong about what the chain holds.
        if !has_come || (in_chain && self.random.chance(50)) {
            return;
        }
        self.expiries.remove(&(tx.clone(), expiry.clone()));
        let last = self.chain.iter().find(|mined| mined.header.block.height == self.finalized).expect("a block");
        let block = last.header.block.clone();
        self.observe(Observation::Expired { tx, expiry, block });
    }

    fn is_excluded(&self, tx: &TxId) -> bool {
        let spends = &self.txs.iter().find(|it| it.fact.tx == *tx).expect("one of ours").fact.spends;
        let is_final = self.chain.iter().filter(|mined| mined.header.block.height <= self.finalized);
        let mut others = is_final.flat_map(|mined| &mined.txs).filter(|fact| fact.tx != *tx);
        others.any(|fact| fact.spends.iter().any(|key| spends.contains(key)))
    }

    fn show_in_mempool(&mut self) {
        let n = usize::try_from(self.random.below(self.txs.len() as u64)).expect("small");
        let fact = self.txs[n].fact.clone();
        let mined = self.chain.iter().flat_map(|block| &block.txs);
        if mined.into_iter().any(|other| other.spends.iter().any(|key| fact.spends.contains(key))) {
            return;
        }
        self.mempool.retain(|tx| self.txs.iter().all(|t| t.fact.tx != *tx || t.fact.spends != fact.spends));
        self.mempool.insert(fact.tx.clone());
        if self.is_watched(&fact) {
            self.observe(Observation::Seen(TxFact { execution: Execution::Unknown, ..fact }));
        }
    }

    fn drop_from_mempool(&mut self) {
        let Some(tx) = self.mempool.pop_first() else { return };
        let under = self.head().header.block.clone();
        self.observe(Observation::Missing { tx, under });
    }

    /// Answers one thing that the engine asked, truly, late and in any order.
    fn answer(&mut self) {
        if self.random.chance(50)
            && let Some(tx) = self.locates.pop_front()
        {
            return self.locate(tx);
        }
        let n = self.random.below(self.look_ups.len() as u64);
        let Some(look_up) = self.look_ups.remove(usize::try_from(n).expect("small")) else { return };
        self.awaiting.remove(&look_up.watch);
        self.observe(self.true_answer(look_up));
    }

    /// What the chain and the mempool hold now.
    fn true_answer(&self, look_up: LookUp) -> Observation {
        let under = self.head().header.block.clone();
        let mined = self.chain.iter().flat_map(|block| &block.txs);
        let concerns = |fact: &&TxFact| match &look_up.subject {
            Subject::Transaction { tx, .. } => fact.tx == *tx,
            _ => {
                let Place::Block { block, time } = &fact.place else { return false };
                look_up.since.is_some_and(|since| *time >= since)
                    && look_up.from_height.is_none_or(|lowest| block.height >= lowest)
                    && fact.transfers.iter().any(|moved| look_up.pay_to.contains(&moved.to))
            }
        };
        let mut facts: Vec<_> = mined.filter(concerns).cloned().collect();
        if let (Subject::Transaction { tx, .. }, true) = (&look_up.subject, facts.is_empty())
            && self.mempool.contains(tx)
        {
            let pending = self.txs.iter().find(|t| t.fact.tx == *tx).expect("one of ours").fact.clone();
            facts.push(TxFact { execution: Execution::Unknown, ..pending });
        }
        Observation::LookedUp { watch: look_up.watch, under, facts }
    }

    /// One engine dies. What was looked up since the last commit it asks for again, and is told again.
    fn restart(&mut self) {
        for look_up in self.restarted.restart() {
            if !self.awaiting.contains(&look_up.watch) {
                self.restarted.observe(self.true_answer(look_up));
            }
        }
    }

    fn locate(&mut self, tx: TxId) {
        let asked = self.interests.iter().filter_map(|interest| match interest {
            Interest::Expiry { tx: other, expiry } if *other == tx => Some((tx.clone(), expiry.clone())),
            _ => None,
        });
        self.expiries.extend(asked.collect::<Vec<_>>());
        if self.chain.iter().flat_map(|block| &block.txs).any(|fact| fact.tx == tx) {
            return;
        }
        let under = self.head().header.block.clone();
        let observation = if self.mempool.contains(&tx) {
            let pending = self.txs.iter().find(|t| t.fact.tx == tx).expect("one of ours").fact.clone();
            Observation::Seen(TxFact { execution: Execution::Unknown, ..pending })
        } else {
            Observation::Missing { tx, under }
        };
        self.observe(observation);
    }

    fn pass_time(&mut self) {
        let later = self.steady.now.plus_ms(self.random.below(3) * BLOCK_MS);
        for world in [&mut self.steady, &mut self.restarted] {
            world.now = later;
        }
        self.observe(Observation::Synced { at: later });
    }

    /// A clock that is set back, or wrongly forward; the chain does not care.
    fn jump_clock(&mut self) {
        let latest = self.head().header.time;
        let now = if self.random.chance(50) { latest } else { self.steady.now.plus_ms(BLOCK_MS) };
        for world in [&mut self.steady, &mut self.restarted] {
            world.now = now;
        }
    }

    fn cancel(&mut self) {
        let Some(id) = self.random.pick(&self.watches).cloned() else { return };
        let now = self.steady.now;
        let cancelled = self.steady.engine.cancel(now, &id);
        assert_eq!(cancelled, self.restarted.engine.cancel(now, &id));
        self.steady.commit();
        self.restarted.commit();
        if cancelled.is_ok() {
            self.model.cancel(&id);
        }
        self.take_asks();
    }

    /// What a broken endpoint might make a source say; none of it is true of the chain, and none of it may count.
    fn lie(&mut self) {
        let head = self.head().header.clone();
        let Some(tx) = self.random.pick(&self.txs).map(|tx| tx.fact.clone()) else { return };
        let elsewhere = BlockRef { height: head.block.height, hash: "elsewhere".into() };
        let kinds = if self.rich { 6 } else { 4 };
        match self.random.below(kinds) {
            4 => {
                let expiry = Expiry::Height(0);
                self.observe(Observation::Expired { tx: tx.tx, expiry, block: elsewhere });
            }
            5 if head.block.height > self.finalized => {
                let asked: Vec<_> = self.expiries.iter().cloned().collect();
                let Some((tx, expiry)) = self.random.pick(&asked).cloned() else { return };
                self.observe(Observation::Expired { tx, expiry, block: head.block });
            }
            0 => {
                let place = Place::Block { block: elsewhere, time: head.time };
                self.observe(Observation::Found(TxFact { place, ..tx }));
            }
            1 => self.observe(Observation::Missing { tx: tx.tx, under: elsewhere }),
            2 => {
                let above = BlockRef { height: head.block.height + 1, hash: "above".into() };
                let place = Place::Block { block: above, time: head.time };
                self.observe(Observation::Found(TxFact { place, ..tx }));
            }
            _ => {
                let block = BlockRef { height: head.block.height + 2, hash: "gap".into() };
                let header =
                    Header { block, parent: "unknown".into(), time: head.time, slot: 0, bytes: Arc::default() };
                let unlinked = Observation::Blocks(vec![Block { floor: header.time, header, facts: vec![tx] }]);
                for world in [&mut self.steady, &mut self.restarted] {
                    let refused = world.engine.handle_observation(world.now, &network(), unlinked.clone(), Vec::new());
                    refused.expect_err("it does not link");
                    world.commit();
                }
            }
        }
    }

    /// Nothing moves any more, everything is answered, the chain grows past all deadlines: each watch has its outcome.
    fn settle_down(&mut self) {
        for round in 0..u64::from(HORIZON) + 20 {
            self.step += 1;
            while !self.look_ups.is_empty() || !self.locates.is_empty() {
                self.answer();
                if let Some(tx) = self.locates.pop_front() {
                    self.locate(tx);
                }
            }
            let block = self.next_block(Vec::new());
            self.tell(vec![block], self.chain.len());
            if round == 12 {
                self.restart();
            }
            self.check();
        }
        let end = Timestamp(START_MS + 2_000 * BLOCK_MS);
        for world in [&mut self.steady, &mut self.restarted] {
            world.now = end;
        }
        self.observe(Observation::Synced { at: end });
        while self.steady.engine.has_timeouts() {
            for world in [&mut self.steady, &mut self.restarted] {
                world.engine.handle_timeout(end);
                world.commit();
            }
        }
        self.check();
        for id in &self.watches {
            let watch = &self.steady.watches[id];
            assert_eq!(watch.state(), State::Settled, "{watch:?}");
        }
        self.check_complete();
        self.leave_memory();
    }

    /// The late windows end, and with them the last watches: the engine keeps nothing but for a watch (invariant 11).
    fn leave_memory(&mut self) {
        let end = self.steady.now.plus_ms(support::rules().late_window_ms);
        for world in [&mut self.steady, &mut self.restarted] {
            world.now = end;
        }
        self.observe(Observation::Synced { at: end });
        for engine in [&self.steady.engine, &self.restarted.engine] {
            assert_eq!((engine.watches_len(), engine.index_len()), (0, 0), "each watch is archived, and left nothing");
        }
    }

    fn check(&mut self) {
        if self.steady.log != self.restarted.log {
            let (ours, theirs) = (self.steady.story(), self.restarted.story());
            let first = ours.iter().zip(&theirs).take_while(|(ours, theirs)| ours == theirs).count();
            let (ours, theirs) = (&ours[first.saturating_sub(3)..], &theirs[first.saturating_sub(3)..]);
            panic!("step {}: not the same bytes, restarted or not (invariant 4):\n{ours:#?}\n{theirs:#?}", self.step);
        }
        self.check_events();
        self.check_claims();
        if self.model.exact {
            for id in self.model.transaction_watches() {
                let told = Told::of(&self.steady.watches[&id]);
                let expected = self.model.outcome(&id);
                assert_eq!(told, expected, "step {}: watch {:?}", self.step, self.steady.watches[&id]);
            }
        }
    }

    /// Each settlement, as it is written, is true of the chain; nothing is told twice, and in the right order.
    fn check_events(&mut self) {
        let new: Vec<_> = self.steady.log[self.checked..].to_vec();
        self.checked = self.steady.log.len();
        for event in new {
            let earlier = self.steady.log.iter().filter(|e| e.watch == event.watch && e.sequence < event.sequence);
            let earlier: Vec<_> = earlier.collect();
            assert_eq!(u64::from(event.index), earlier.len() as u64 + 1, "artefacts are numbered without a gap");
            let json: serde_json::Value = serde_json::from_slice(&event.artefact).expect("JSON");
            let previous = earlier.last().map(|e| hex::encode(e.receipt_hash));
            assert_eq!(json["previous"].as_str(), previous.as_deref(), "a hash chain");
            if event.kind == EventKind::Settled {
                assert!(earlier.iter().all(|e| e.kind != EventKind::Settled), "written once (invariant 8)");
            }
            self.check_proofs(&event, &json);
        }
    }

    /// A watch that asks for proofs has them wherever a block is told, each of its transaction's own block, and at the
    /// settlement with all headers up to the depth.
    fn check_proofs(&self, event: &Event, json: &serde_json::Value) {
        let watch = &self.steady.watches[&event.watch];
        let proofs = json["proofs"].as_array().map_or(&[][..], Vec::as_slice);
        let about: Vec<_> = match event.kind {
            EventKind::Included | EventKind::Late => vec![&json["transaction"]],
            EventKind::Settled if json["transfers"].is_array() => {
                let mut counted: Vec<_> = json["transfers"].as_array().expect("a list").iter().collect();
                counted.dedup_by_key(|moved| &moved["tx"]);
                counted
            }
            EventKind::Settled if json["transaction"].is_object() => vec![&json["transaction"]],
            _ => Vec::new(),
        };
        if watch.request.proofs != Some(true) {
            assert!(proofs.is_empty(), "not asked for: {json}");
            return;
        }
        assert_eq!(proofs.len(), about.len(), "one for each transaction: {json}");
        for (proof, about) in proofs.iter().zip(about) {
            assert_eq!((&proof["tx"], proof["kind"].as_str()), (&about["tx"], Some("test")), "{json}");
            let height = about["block"]["height"].as_u64().expect("a height");
            let above = match (event.kind, watch.request.terms.depth) {
                (EventKind::Settled, Depth::Blocks(depth)) => u64::from(depth.max(1)) - 1,
                _ => 0,
            };
            // The headers on top of what was found below those that are kept are gone.
            let kept = self.steady.headers.keys().next().is_some_and(|bottom| *bottom <= height + 1);
            let on_top = proof["headers"].as_array().map_or(&[][..], Vec::as_slice);
            let all: Vec<_> = std::iter::once(&proof["header"]).chain(on_top).collect();
            let given = all.len() as u64 - 1;
            assert!(given == above || (!kept && given == 0), "up to the depth: {json}");
            for (header, height) in all.into_iter().zip(height..) {
                let hash = hex::decode(header.as_str().expect("hex")).expect("hex");
                let text = String::from_utf8(hash).expect("a test's hash");
                assert!(text.starts_with(&format!("{height}.")) || text == format!("{height}a"), "{height}: {json}");
            }
            let first = hex::decode(proof["header"].as_str().expect("hex")).expect("hex");
            assert_eq!(first, about["block"]["hash"].as_str().expect("a hash").as_bytes(), "of its own block: {json}");
        }
    }

    /// One transfer pays one watch; success is covered by what it consumed.
    fn check_claims(&self) {
        let mut consumed = BTreeMap::<WatchId, Amount>::new();
        for (key, claim) in &self.steady.claims {
            if claim.state != ClaimState::Consumed {
                continue;
            }
            let watch = &self.steady.watches[&claim.watch];
            assert!(matches!(watch.outcome, Some(Outcome::Success | Outcome::Partial)), "consumed by {watch:?}");
            let candidate = watch.candidates.iter().find(|candidate| candidate.fact.tx == key.tx).expect("its own");
            let tx = self.txs.iter().find(|tx| tx.fact.tx == candidate.fact.tx).expect("one of ours");
            let moved = tx.fact.transfers.iter().find(|moved| moved.index == key.index).expect("one of its transfers");
            let sum = consumed.entry(claim.watch.clone()).or_insert(Amount::ZERO);
            *sum = sum.saturating_add(moved.amount);
        }
        for id in &self.watches {
            let watch = &self.steady.watches[id];
            let sum = consumed.get(id).copied().unwrap_or(Amount::ZERO);
            match &watch.outcome {
                Some(Outcome::Success) => {
                    assert!(h402_watch_engine::judge::satisfies(&watch.request.terms, watch.received), "{watch:?}");
                    assert_eq!(sum, watch.received, "paid by what it consumed: {watch:?}");
                }
                Some(Outcome::Partial) => assert_eq!(sum, watch.received, "{watch:?}"),
                Some(Outcome::Failed(_)) | None => assert_eq!(sum, Amount::ZERO, "nothing is consumed: {watch:?}"),
            }
        }
    }

    /// No paid is lost: a transfer that lies final in the chain, and would have paid a watch that failed at its deadline or
    /// waits for ever, is claimed by another one, or was reported as late.
    fn check_complete(&self) {
        for id in &self.watches {
            let watch = &self.steady.watches[id];
            let failed = matches!(&watch.outcome, Some(Outcome::Failed(Reason::DeadlinePassed | Reason::Expired)));
            let unlimited = watch.request.terms.deadline == Timestamp(START_MS + 1_000 * BLOCK_MS);
            if !failed || !unlimited || watch.request.terms.amount_rule != AmountRule::AtLeast {
                continue;
            }
            let terms = &watch.request.terms;
            let after = watch.created_height.unwrap_or(0);
            let is_subject = |fact: &TxFact| match &watch.request.subject {
                Subject::Transaction { tx, .. } => fact.tx == *tx,
                _ => true,
            };
            let free = self
                .chain
                .iter()
                .filter(|block| watch.is_one_shot() || block.header.block.height > after)
                .filter(|block| terms.not_before.is_none_or(|time| block.header.time >= time))
                .flat_map(|block| &block.txs)
                .filter(|fact| is_subject(fact) && objection(terms, fact).is_none())
                .flat_map(|fact| fact.transfers.iter().map(move |moved| (fact, moved)))
                .filter(|(fact, moved)| {
                    let claimed = |index| {
                        self.steady.claims.iter().any(|(key, claim)| {
                            key.tx == fact.tx && key.index == index && claim.state != ClaimState::Reserved
                        })
                    };
                    moved.to == terms.pay_to && !claimed(moved.index)
                });
            let total = free.fold(Amount::ZERO, |sum, (_, moved)| sum.saturating_add(moved.amount));
            assert!(total < terms.amount, "{total} lies there for {watch:?}");
        }
    }

    fn outcomes(&self) -> Vec<String> {
        let word = |id: &WatchId| match self.steady.watches[id].outcome.clone().expect("settled") {
            Outcome::Failed(reason) => reason.as_str().to_owned(),
            outcome => outcome.as_str().to_owned(),
        };
        self.watches.iter().map(word).collect()
    }
}

/// A transaction; in shared runs some pay the same shop, and some exclude each other.
fn make_tx(random: &mut Random, n: u64, shared: bool) -> Tx {
    let shop = if shared { format!("shop{}", random.below(3)) } else { format!("shop{n}") };
    let amount = *random.pick(&[40, 60, 100, 100, 120]).expect("not empty");
    let mut fact = pays(&format!("t{n}"), &shop, amount);
    if shared && random.chance(30) {
        fact.spends = vec![SpendKey::new(format!("nonce-{}", n / 2))];
    }
    if shared && random.chance(30) {
        fact.transfers.push(transfer(1, &format!("shop{}", random.below(3)), 60));
    }
    let reverted_on = random.chance(40).then(|| char::from(b'0' + u8::try_from(random.below(10)).expect("a digit")));
    Tx { fact, reverted_on, last: None }
}

/// Marks, and an end of validity.
fn enrich(random: &mut Random, tx: &mut Tx) {
    let memos = [&[][..], &["m0"], &["m1"], &["m0", "m1"]];
    let references = [&[][..], &["r0"], &["r0", "r1"], &["r1", "r2", "r0"]];
    tx.fact.memos = random.pick(&memos).expect("not empty").iter().map(ToString::to_string).collect();
    tx.fact.references = random.pick(&references).expect("not empty").iter().map(|text| (*text).into()).collect();
    tx.last = random.chance(60).then(|| 6 + random.below(25));
}

/// What binds a payment, worked out on its own.
fn objection(terms: &Terms, fact: &TxFact) -> Option<&'static str> {
    if let Some(memo) = &terms.memo
        && !fact.memos.iter().any(|carried| carried == memo)
    {
        return Some("memo_mismatch");
    }
    let missing = terms.references.iter().filter(|reference| !fact.references.contains(reference)).count();
    (missing > 0).then_some("reference_missing")
}

/// Depths that the model understands.
fn blocks_of(request: &WatchRequest) -> u64 {
    match request.terms.depth {
        Depth::Blocks(blocks) => u64::from(blocks.max(1)),
        Depth::Tag(_) => unreachable!("not asked for here"),
    }
}
