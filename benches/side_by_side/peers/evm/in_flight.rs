//! 2,000 transactions in flight, from the mempool to their outcomes: what each way to wait for them asks of the node.

use std::time::Duration;

use alloy_primitives::B256;
use serde_json::json;

use super::{World, hash};
use crate::peers::alloy::{Alloy, Kind};
use crate::peers::open::for_long;
use crate::peers::tap::{Counts, Tap};
use crate::progress;
use crate::report::{Report, Row};
use crate::samples::figure;
use crate::support::anvil::{PAYER, shop};
use crate::support::client::{Client, spec, tx};

const TRANSACTIONS: u64 = 2_000;
/// anvil takes a time that is quadratic in a block's transactions to answer for their receipts: four blocks of 500.
const BLOCKS: u64 = 4;
const GAS_LIMIT: &str = "10500000";
/// As on chains that have two seconds.
const BLOCK_TIME: Duration = Duration::from_secs(2);
/// More than any base fee gets to here.
const FEE: &str = "0xe8d4a51000";

pub async fn run(report: &mut Report) {
    let mut world = World::start(&["--gas-limit", GAS_LIMIT], true, |setup| setup.block_time_ms = 2_000).await;
    let (ours, watched) = together(&mut world).await;
    for (kind, counts) in watched {
        let bar = (kind == Kind::WatchWs).then_some(("≤ its WebSocket watch", 1.0));
        report.rows.extend(rows(&ours, kind, &counts, bar));
    }
    for kind in [Kind::ReceiptHttp, Kind::ReceiptWs] {
        let counts = alone(&world, kind).await;
        report.rows.extend(rows(&ours, kind, &counts, Some(("≥ 100 × fewer", 0.01))));
    }
}

/// We and alloy's `watch`, the same transactions in the same blocks.
async fn together(world: &mut World) -> (Counts, Vec<(Kind, Counts)>) {
    let hashes = send(world).await;
    let before = world.tap.counts();
    let mut peers = Vec::new();
    for kind in [Kind::WatchHttp, Kind::WatchWs] {
        let tap = Tap::before(world.anvil.port).await;
        let alloy = Alloy::connect(kind, &if kind.is_ws() { tap.ws() } else { tap.http() }).await;
        let waiting = alloy.wait_for(&hashes).await;
        peers.push((kind, tap, alloy, waiting));
    }
    let numbered = (0..).zip(&hashes);
    let specs = numbered.map(|(n, hash)| for_long(spec(tx(&hash.to_string()), &shop(n), 1, 1))).collect();
    let ids = world.client.create_all(specs).await;
    mine(world).await;
    let mut counted = Vec::new();
    for (kind, tap, _alloy, waiting) in peers {
        assert_eq!(waiting.join_all().await.len(), hashes.len());
        counted.push((kind, tap.counts()));
    }
    all_settled(&mut world.client, &ids).await;
    let ours = world.tap.counts().since(&before);
    progress(&format!("EVM: in flight: {ours:?}"));
    (ours, counted)
}

/// alloy's `get_receipt` keeps the node too busy to have another beside it.
async fn alone(world: &World, kind: Kind) -> Counts {
    let hashes = send(world).await;
    let tap = Tap::before(world.anvil.port).await;
    let alloy = Alloy::connect(kind, &if kind.is_ws() { tap.ws() } else { tap.http() }).await;
    let waiting = alloy.wait_for(&hashes).await;
    mine(world).await;
    assert_eq!(waiting.join_all().await.len(), hashes.len());
    let counts = tap.counts();
    progress(&format!("EVM: in flight: {}: {counts:?}", kind.name()));
    counts
}

/// Fills the mempool.
async fn send(world: &World) -> Vec<B256> {
    let mut hashes = Vec::new();
    for n in 0..TRANSACTIONS {
        let payment = json!({
            "from": PAYER, "to": shop(n), "value": "0x1", "gas": "0x5208", "maxFeePerGas": FEE,
            "maxPriorityFeePerGas": "0x1",
        });
        hashes.push(hash(&world.anvil.send(payment).await));
    }
    hashes
}

/// Mines them, a block each block time.
async fn mine(world: &World) {
    for _ in 0..BLOCKS {
        tokio::time::sleep(BLOCK_TIME).await;
        world.anvil.mine(1).await;
    }
    let left = world.anvil.call("txpool_status", json!([])).await;
    assert_eq!(left["pending"], "0x0", "all are mined");
}

async fn all_settled(client: &mut Client, ids: &[String]) {
    for id in ids {
        client.has(id, "settled:success").await;
    }
}

/// In requests, and in the calls that they carry.
fn rows(ours: &Counts, kind: Kind, theirs: &Counts, bar: Option<(&'static str, f64)>) -> [Row; 2] {
    let row = |unit: &'static str, of: fn(&Counts) -> u64| {
        let (ours, theirs) = (figure(of(ours)), figure(of(theirs)));
        let row = Row::of("EVM, 2,000 transactions from mempool to outcome, 4 blocks, 2 s each", unit, ours);
        let row = row.peer(kind.name(), theirs);
        match bar {
            Some((asks, share)) => row.bar(asks, ours <= theirs * share),
            None => row,
        }
    };
    let of = |(method, count): (&String, &u64)| format!("{method} {count}");
    let methods: Vec<_> = ours.methods.iter().map(of).collect();
    let note = if kind == Kind::WatchWs { methods.join(", ") } else { String::new() };
    [row("requests", |counts| counts.requests), row("calls", Counts::calls).note(note)]
}
