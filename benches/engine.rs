//! The engine's own operations, without a store and without nodes. What a million open watches take is measured of the whole
//! service, by `side_by_side`. `cargo bench --bench engine`

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use h402_watch_engine::id::{Address, AssetId, BlockRef, Header, Timestamp};
use h402_watch_engine::input::{Block, Execution, Observation, Place, Transfer, TxFact, Via};
use h402_watch_engine::record::{Recorded, WatchRecord};
use h402_watch_engine::request::{AmountRule, AtDeadline, Binding, Depth, Report, Subject, Terms, WatchRequest};
use h402_watch_engine::rules::{Limits, NetworkRules};
use h402_watch_engine::{Engine, Snapshot};

const NETWORK: &str = "eip155:8453";
const ASSET: &str = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";
const NOW: Timestamp = Timestamp(1_700_000_000_000);
const DEADLINE: Timestamp = Timestamp(NOW.0 + 3_600_000);
/// Watches that are open.
const OPEN: u64 = 10_000;
/// Payments of a block, or deadlines.
const MANY: u64 = 1_000;

criterion_group!(engine, create, blocks, deadlines, records, restore);
criterion_main!(engine);

fn create(c: &mut Criterion) {
    let mut group = c.benchmark_group("create");
    group.throughput(Throughput::Elements(MANY));
    let requests: Vec<_> = (OPEN..OPEN + MANY).map(request).collect();
    group.bench_function("1,000 beside 10,000 open", |b| {
        let make = |(mut engine, requests): (Engine, Vec<WatchRequest>)| {
            for request in requests {
                engine.create(NOW, request).expect("a good request");
            }
            engine.drain();
            engine
        };
        b.iter_batched(|| (opened(OPEN), requests.clone()), make, BatchSize::LargeInput);
    });
}

fn blocks(c: &mut Criterion) {
    let mut group = c.benchmark_group("block");
    let step = OPEN / MANY;
    let paid: Vec<_> = (0..MANY).map(|n| payment(n * step)).collect();
    for (name, facts) in [("that concerns nobody, 10,000 open", Vec::new()), ("with 1,000 matches", paid)] {
        let facts = Observation::Blocks(vec![block(2, facts)]);
        group.bench_function(name, |b| {
            // Returned, so that what it costs to drop it is not measured.
            let join = |(mut engine, facts)| {
                observed(&mut engine, NOW, facts);
                engine
            };
            b.iter_batched(|| (opened(OPEN), facts.clone()), join, BatchSize::LargeInput);
        });
    }
}

fn deadlines(c: &mut Criterion) {
    let mut group = c.benchmark_group("deadlines");
    group.throughput(Throughput::Elements(MANY));
    let late = Timestamp(DEADLINE.0 + 60_000);
    group.bench_function("1,000 that fall together", |b| {
        let fall = |mut engine| {
            observed(&mut engine, late, Observation::Synced { at: late });
            while engine.has_timeouts() {
                engine.handle_timeout(late);
                engine.drain();
            }
            engine
        };
        b.iter_batched(|| opened(MANY), fall, BatchSize::LargeInput);
    });
}

/// As the store writes a watch, and reads it.
fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("record of a watch");
    let record = records_of(&opened(1), 1).remove(0);
    let watch = record.read().expect("a watch");
    group.bench_function("encode", |b| b.iter(|| WatchRecord::of(black_box(&watch))));
    group.bench_function("decode", |b| b.iter(|| black_box(&record).read().expect("a watch")));
}

fn restore(c: &mut Criterion) {
    let mut group = c.benchmark_group("restore");
    group.throughput(Throughput::Elements(OPEN));
    let records = records_of(&opened(OPEN), OPEN);
    group.bench_function("10,000 open", |b| b.iter_batched(|| records.clone(), restored, BatchSize::LargeInput));
}

/// An engine that goes on from what a store holds.
fn restored(watches: Vec<WatchRecord>) -> Engine {
    let next_ordinal = watches.len() as u64;
    let chains = vec![(NETWORK.into(), vec![block(1, Vec::new()).header])];
    let snapshot = Snapshot { chains, next_sequence: 1, next_ordinal, ..Snapshot::default() };
    let rules = NetworkRules {
        network: NETWORK.into(),
        horizon: 256,
        tags: Vec::new(),
        searches_below: false,
        derive: None,
        proofs: false,
        deadline_grace_ms: 1,
        late_window_ms: 86_400_000,
    };
    let mut engine = Engine::restore(Limits::default(), vec![rules], snapshot);
    let watches = watches.into_iter().map(|record| Recorded::read(record).expect("a watch"));
    engine.adopt_all(watches).expect("what was committed");
    engine
}

/// An engine with so many watches, that have been looked up.
fn opened(count: u64) -> Engine {
    let mut engine = restored(Vec::new());
    for n in 0..count {
        let watch = engine.create(NOW, request(n)).expect("a good request").id;
        let under = block(1, Vec::new()).header.block;
        observed(&mut engine, NOW, Observation::LookedUp { watch, under, facts: Vec::new() });
    }
    engine
}

fn records_of(engine: &Engine, count: u64) -> Vec<WatchRecord> {
    let id = |n| h402_watch_engine::watch_id(&request(n));
    (0..count).map(|n| WatchRecord::of(engine.watch(&id(n)).expect("it is open"))).collect()
}

fn observed(engine: &mut Engine, now: Timestamp, observation: Observation) {
    engine.handle_observation(now, &NETWORK.into(), observation, Vec::new()).expect("it links");
    engine.drain();
}

fn hash(of: &str, n: u64) -> String {
    use sha2::Digest as _;
    format!("0x{}", hex::encode(sha2::Sha256::digest(format!("{of}{n}"))))
}

fn account(of: &str, n: u64) -> Address {
    Address::new(&hash(of, n)[..42])
}

/// Each other one for a transaction.
fn request(n: u64) -> WatchRequest {
    let subject = match n % 2 {
        0 => Subject::Transaction { tx: hash("tx", n).into(), expiry: None },
        _ => Subject::Address,
    };
    WatchRequest {
        network: NETWORK.into(),
        subject,
        terms: Terms {
            pay_to: account("shop", n),
            asset: AssetId::new(ASSET),
            amount: 1_000_000_u64.into(),
            amount_rule: AmountRule::AtLeast,
            payer: None,
            depth: Depth::Blocks(1),
            not_before: None,
            from_height: None,
            deadline: DEADLINE,
            at_deadline: AtDeadline::Fail,
            memo: None,
            references: Vec::new(),
        },
        binding: Binding { quote_hash: Some(hash("quote", n)), ..Binding::default() },
        idempotency_key: None,
        report: Report::Milestones,
        proofs: None,
    }
}

fn block_ref(height: u64) -> BlockRef {
    BlockRef { height, hash: hash("block", height).into() }
}

fn block(height: u64, facts: Vec<TxFact>) -> Block {
    let time = Timestamp(NOW.0 - 10_000 + height);
    let parent = hash("block", height - 1).into();
    let header = Header { block: block_ref(height), parent, time, slot: height, bytes: Vec::new().into() };
    Block { header, floor: time, facts }
}

/// What the n-th watch waits for, in the second block.
fn payment(n: u64) -> TxFact {
    let transfer = Transfer {
        index: 1,
        asset: AssetId::new(ASSET),
        from: Some(account("payer", n)),
        to: account("shop", n),
        amount: 1_000_000_u64.into(),
        via: Via::Log,
    };
    TxFact {
        place: Place::Block { block: block_ref(2), time: NOW },
        sender: transfer.from.clone(),
        execution: Execution::Succeeded,
        transfers: vec![transfer],
        transfers_known: true,
        ..TxFact::of(hash("tx", n).into())
    }
}
