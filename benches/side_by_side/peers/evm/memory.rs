//! What a pending transaction takes in memory, of many that nobody sends.

use crate::peers::alloy::Kind;
use crate::peers::open::{open, quiet};
use crate::peers::{OPEN, memory_of};
use crate::process::memory;
use crate::progress;
use crate::report::{Report, Row};
use crate::samples::each;
use crate::support::anvil::shop;
use crate::support::client::{spec, tx};

use super::World;

/// Each `get_receipt` asks four times a second: no node answers 40,000 calls in that time.
const RECEIPTS: u64 = 2_000;

pub async fn run(report: &mut Report) {
    let ours = ours().await;
    let anvil = crate::support::anvil::Anvil::manual().await;
    let kinds =
        [(Kind::WatchHttp, OPEN), (Kind::WatchWs, OPEN), (Kind::ReceiptHttp, RECEIPTS), (Kind::ReceiptWs, RECEIPTS)];
    for (kind, count) in kinds {
        progress(&format!("EVM: memory of {}", kind.name()));
        let url = if kind.is_ws() { anvil.ws() } else { anvil.http() };
        let theirs = memory_of(kind.name(), &url, count).await;
        let row = Row::of("EVM, memory for each of 10,000 pending transactions", "bytes", ours);
        let note = if count == OPEN { String::new() } else { format!("the peer's: of {count}") };
        report.rows.push(row.peer(kind.name(), theirs).note(note));
    }
}

/// By how much the service grows, store and all.
async fn ours() -> f64 {
    let mut world = World::start(&[], true, |_| {}).await;
    let pid = world.service.pid().expect("it runs");
    let spec = |n: u64| spec(tx(&format!("0x{n:064x}")), &shop(n), 100, 1);
    open(&mut world.client, 0..1, spec).await;
    let before = memory(pid).resident;
    open(&mut world.client, 1..OPEN + 1, spec).await;
    let (anvil, client) = (&world.anvil, &mut world.client);
    let block = async || {
        anvil.mine(1).await;
        client.head(anvil.height().await).await;
    };
    quiet(&world.tap, &["eth_getTransactionByHash"], block).await;
    each(memory(pid).resident.saturating_sub(before), OPEN)
}
