//! What open watches cost the engine and a source's interests, by how many there are: memory, creating one, a block that concerns
//! nobody, a block with 1,000 payments, deadlines that fall together, a restart. Without a store and without nodes: what is
//! left is ours. Each line is a process of its own, so that memory is its own. `cargo bench --bench open_watches`

use std::io::Write as _;
use std::process::Command;
use std::time::Instant;

use h402_watch::chain::{Mailbox, evm};
use h402_watch_engine::changes::Changes;
use h402_watch_engine::id::{Address, AssetId, BlockRef, Header, Timestamp};
use h402_watch_engine::input::{Block, Execution, Observation, Place, Transfer, TxFact, Via};
use h402_watch_engine::record::WatchRecord;
use h402_watch_engine::request::{AmountRule, AtDeadline, Binding, Depth, Report, Subject, Terms, WatchRequest};
use h402_watch_engine::rules::{Limits, NetworkRules};
use h402_watch_engine::{Engine, Snapshot};

const NETWORK: &str = "eip155:8453";
const NOW: Timestamp = Timestamp(1_700_000_000_000);
const MATCHES: u64 = 1_000;
/// Deadlines of all, after which they fall together.
const DEADLINE: Timestamp = Timestamp(NOW.0 + 3_600_000);

fn main() -> std::io::Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, kind, watches] = &arguments[..]
        && let Ok(watches) = watches.parse()
    {
        return measure(kind, watches);
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:>12} {:>9} {:>12} {:>11} {:>12} {:>14} {:>14} {:>11}",
        "kind", "watches", "bytes each", "create", "empty block", "1,000 matches", "all deadlines", "restore"
    )?;
    out.flush()?;
    for kind in ["transactions", "addresses"] {
        for watches in [1_000, 10_000, 100_000, 1_000_000] {
            let ended = Command::new(std::env::current_exe()?).args([kind, &watches.to_string()]).output()?;
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
            out.write_all(&ended.stdout)?;
            out.flush()?;
        }
    }
    Ok(())
}

fn measure(kind: &str, watches: u64) -> std::io::Result<()> {
    let mailbox = Mailbox::new(&evm::FAMILY);
    let mut engine = Engine::restore(limits(), vec![rules()], Snapshot::default()).expect("an empty one");
    let mut headers = vec![block(1, Vec::new())];
    observe(&mut engine, &mailbox, Observation::Blocks(headers.clone()));
    let before = resident()?;
    let started = Instant::now();
    for n in 0..watches {
        engine.create(NOW, request(kind, n)).expect("a good request");
        // As many as the driver puts into one commit.
        if n % 1024 == 1023 || n + 1 == watches {
            commit(&mut engine, &mailbox);
            // What looking up finds: nothing.
            for look_up in mailbox.take_look_ups(usize::MAX) {
                let under = headers.last().expect("a block").header.block.clone();
                let nothing = Observation::LookedUp { watch: look_up.watch, under, facts: Vec::new() };
                engine.handle_observation(NOW, &NETWORK.into(), nothing, Vec::new()).expect("it links");
            }
            commit(&mut engine, &mailbox);
        }
    }
    let create = started.elapsed() / u32::try_from(watches).expect("fits");
    let each = resident()?.saturating_sub(before) / watches;
    let snapshot = snapshot(&engine, kind, watches, &headers);
    commit(&mut engine, &mailbox);
    let started = Instant::now();
    let restored = Engine::restore(limits(), vec![rules()], snapshot).expect("what was committed");
    let restore = started.elapsed();
    drop(restored);

    let empty = block(2, Vec::new());
    headers.push(empty.clone());
    let started = Instant::now();
    observe(&mut engine, &mailbox, Observation::Blocks(vec![empty]));
    let empty = started.elapsed();
    let step = (watches / MATCHES).max(1);
    let paid: Vec<_> =
        (0..watches).step_by(usize::try_from(step).expect("fits")).map(|n| payment(kind, n, 3)).collect();
    let started = Instant::now();
    observe(&mut engine, &mailbox, Observation::Blocks(vec![block(3, paid)]));
    let matched = started.elapsed();
    let started = Instant::now();
    observe_at(
        &mut engine,
        &mailbox,
        Timestamp(DEADLINE.0 + 60_000),
        Observation::Synced { at: Timestamp(DEADLINE.0 + 60_000) },
    );
    while engine.has_timeouts() {
        engine.handle_timeout(Timestamp(DEADLINE.0 + 60_000));
        commit(&mut engine, &mailbox);
    }
    let deadlines = started.elapsed();
    writeln!(
        std::io::stdout(),
        "{kind:>12} {watches:>9} {each:>12} {create:>11.1?} {empty:>12.1?} {matched:>14.1?} {deadlines:>14.1?} {restore:>11.1?}"
    )
}

fn limits() -> Limits {
    Limits::default()
}

fn rules() -> NetworkRules {
    NetworkRules {
        network: NETWORK.into(),
        horizon: 256,
        tags: Vec::new(),
        searches_below: false,
        derive: None,
        proofs: false,
        deadline_grace_ms: 1,
        late_window_ms: 86_400_000,
    }
}

fn hash(of: &str, n: u64) -> String {
    use sha2::Digest as _;
    format!("0x{}", hex::encode(sha2::Sha256::digest(format!("{of}{n}"))))
}

fn shop(n: u64) -> Address {
    Address::new(&hash("shop", n)[..42])
}

fn request(kind: &str, n: u64) -> WatchRequest {
    let subject = match kind {
        "transactions" => Subject::Transaction { tx: hash("tx", n).into(), expiry: None },
        _ => Subject::Address,
    };
    WatchRequest {
        network: NETWORK.into(),
        subject,
        terms: Terms {
            pay_to: shop(n),
            asset: AssetId::new("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"),
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

fn payment(kind: &str, n: u64, height: u64) -> TxFact {
    let asset = AssetId::new("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913");
    let tx = hash(if kind == "transactions" { "tx" } else { "payment" }, n);
    let transfer = Transfer {
        index: 1,
        asset,
        from: Some(Address::new(&hash("payer", n)[..42])),
        to: shop(n),
        amount: 1_000_000_u64.into(),
        via: Via::Log,
    };
    TxFact {
        place: Place::Block { block: block_ref(height), time: NOW },
        sender: transfer.from.clone(),
        execution: Execution::Succeeded,
        transfers: vec![transfer],
        transfers_known: true,
        ..TxFact::of(tx.into())
    }
}

fn observe(engine: &mut Engine, mailbox: &Mailbox, observation: Observation) {
    observe_at(engine, mailbox, NOW, observation);
}

fn observe_at(engine: &mut Engine, mailbox: &Mailbox, now: Timestamp, observation: Observation) {
    engine.handle_observation(now, &NETWORK.into(), observation, Vec::new()).expect("it links");
    commit(engine, mailbox);
}

fn commit(engine: &mut Engine, mailbox: &Mailbox) -> Changes {
    let mut changes = engine.drain();
    mailbox.post(std::mem::take(&mut changes.asks).into_iter().map(|(_, ask)| ask));
    changes
}

/// What the store would hold.
fn snapshot(engine: &Engine, kind: &str, watches: u64, headers: &[Block]) -> Snapshot {
    let record = |n| WatchRecord::of(engine.watch(&h402_watch_engine::watch_id(&request(kind, n))).expect("open"));
    let watches: Vec<_> = (0..watches).map(record).collect();
    let chain = headers.iter().map(|block| block.header.clone()).collect();
    let next_ordinal = watches.len() as u64;
    Snapshot { watches, chains: vec![(NETWORK.into(), chain)], next_sequence: 1, next_ordinal, ..Snapshot::default() }
}

/// What the process holds in memory, bytes.
fn resident() -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says so");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
    Ok(kib * 1024)
}
