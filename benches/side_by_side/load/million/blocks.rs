//! Blocks that pay none of the open watches, and many of them: from the block's being there to the last event's arrival at a
//! subscriber.

use std::time::Instant;

use h402_watch_proto::v1;

use super::world::{Node, PATIENCE, World};
use crate::process::{Counted, Stopwatch};
use crate::progress;
use crate::report::{Report, Row};
use crate::samples::{ms, quantile};
use crate::support::client::Client;

const MATCHES: [u64; 3] = [0, 1_000, 10_000];
/// Blocks with none, of which the middle one counts.
const EMPTY: usize = 9;

pub async fn run(world: &mut World, report: &mut Report) {
    for node in 0..world.nodes.len() {
        for matches in MATCHES {
            let family = world.nodes[node].family().name();
            progress(&format!("blocks: {family}, {matches} matches"));
            if matches == 0 {
                empty(world, node, report).await;
            } else {
                let txs = world.nodes[node].txs(matches);
                paying(world, node, (matches, txs), report).await;
            }
        }
    }
    // Whoever pays out sends one transaction.
    progress("blocks: one transaction");
    paying(world, 0, (MATCHES[1], 1), report).await;
}

async fn empty(world: &World, node: usize, report: &mut Report) {
    let mut client = world.service.client().await;
    let mut times = Vec::new();
    for _ in 0..EMPTY {
        let height = world.nodes[node].mine(1).await;
        let started = Instant::now();
        until_head(&mut client, &world.nodes[node], height).await;
        times.push(ms(started.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    let what = format!("{}: a block that pays none of the open watches, until it is the head", name(world, node));
    report.rows.push(Row::of(what, "ms", quantile(&times, 50)).note("median"));
}

async fn paying(world: &mut World, node: usize, (matches, txs): (u64, u64), report: &mut Report) {
    let before = Counted::of(&world.service).await;
    let block = world.ask(node, matches, txs).await;
    world.rest().await;
    let seen = Counted::of(&world.service).await.since(before).events;
    let mut client = world.service.client().await;
    let filter = v1::SubscribeRequest { kinds: vec!["settled".into()], ..Default::default() };
    let mut events = client.subscribe(filter).await;
    // Its place.
    events.message().await.expect("goes on");
    let stopwatch = Stopwatch::start(&world.service).await;
    let there = world.pay(node, block, matches).await;
    let mut settled = 0;
    while settled < matches {
        let next = tokio::time::timeout(PATIENCE, events.message()).await;
        let next = next.unwrap_or_else(|_| panic!("{settled} of {matches} settled")).expect("goes on");
        settled += u64::from(next.expect("without end").event.is_some());
    }
    let delivered = ms(there.elapsed());
    let stretch = stopwatch.stop(&world.service).await;
    // What the driver takes to handle it, and what its commits take on top of its own part in them: an upper bound.
    let own = ms(stretch.cpu.driver) + stretch.counted.commit_seconds * 1e3;
    let what = format!("{}: a block with {matches} matches in {txs} transactions", name(world, node));
    let note = format!(
        "{:.0} events in {:.0} commits, {seen:.0} told before it; the driver took {:.0} ms of processor time, the commits {:.0} ms in sum",
        stretch.counted.events,
        stretch.counted.commits,
        ms(stretch.cpu.driver),
        stretch.counted.commit_seconds * 1e3,
    );
    let handled = Row::of(format!("{what}, handled and committed"), "ms", own).note(note);
    let bar = (matches == MATCHES[1]).then_some(own <= 250.0);
    report.rows.push(match bar {
        Some(met) => handled.bar("≤ 250 ms", met),
        None => handled,
    });
    let whole = Row::of(format!("{what}, from the block to the last event at a subscriber"), "ms", delivered);
    report.rows.push(whole.note("with what the node takes to answer"));
}

fn name(world: &World, node: usize) -> &'static str {
    world.nodes[node].family().name()
}

/// Waits until the service's head on a node's network is at a height.
pub async fn until_head(client: &mut Client, node: &Node, height: u64) {
    let started = Instant::now();
    loop {
        let networks = client.inner.list_networks(v1::ListNetworksRequest {}).await.expect("answers").into_inner();
        let alias = node.family().name().to_lowercase();
        let is_it = |network: &&v1::Network| network.aliases.contains(&alias);
        let network = networks.networks.iter().find(is_it).expect("it is configured");
        let head = network.head.as_ref().map_or(0, |head| head.height);
        if head >= height && network.health == "following" {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "waiting for {height}, at {network:?}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}
