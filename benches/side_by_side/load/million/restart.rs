//! From the start of the process to readiness, with all that is open; and to the tip, with blocks that came meanwhile.

use std::time::{Duration, Instant};

use super::blocks::until_head;
use super::world::{PATIENCE, World};
use crate::progress;
use crate::report::{Report, Row};
use crate::samples::ms;

/// Blocks that come while it is down.
const MISSED: u64 = 1_000;

pub async fn run(world: &mut World, report: &mut Report) {
    for (how, killed) in [("SIGKILL", true), ("SIGTERM", false)] {
        progress(&format!("restart: after {how}"));
        if killed {
            world.service.kill();
        } else {
            assert!(world.service.stop().await, "it ends well");
        }
        let time = start(world).await;
        let open = open(world).await;
        world.rest().await;
        let memory = world.memory();
        let row = Row::of(
            format!("restart with {open} open watches after {how}, until it is ready"),
            "s",
            time.as_secs_f64(),
        );
        let note = format!("then {} MiB in memory, {} at most", memory.resident >> 20, memory.peak >> 20);
        report.rows.push(row.bar("≤ 10 s", time <= Duration::from_secs(10)).note(note));
    }
    for node in 0..world.nodes.len() {
        catch_up(world, node, report).await;
    }
}

async fn catch_up(world: &mut World, node: usize, report: &mut Report) {
    let family = world.nodes[node].family().name();
    progress(&format!("restart: {family}, {MISSED} blocks missed"));
    assert!(world.service.stop().await, "it ends well");
    let height = world.nodes[node].mine(MISSED).await;
    let ready = start(world).await;
    let started = Instant::now();
    until_head(&mut world.service.client().await, &world.nodes[node], height).await;
    let what = format!("{family}: {MISSED} blocks while it was down, from ready to following at the tip");
    report
        .rows
        .push(Row::of(what, "ms", ms(started.elapsed())).note(format!("ready after {:.1} s", ready.as_secs_f64())));
}

/// Starts it; how long it took until it said that it is ready.
async fn start(world: &mut World) -> Duration {
    let client = reqwest::Client::new();
    let announced = world.service.store().join("listen.json");
    let started = Instant::now();
    world.service.spawn();
    loop {
        if announced.exists() {
            let answer = client.get(world.service.url("/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return started.elapsed();
            }
        }
        assert!(started.elapsed() < PATIENCE, "it is not ready:\n{}", world.service.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn open(world: &World) -> u64 {
    let text = world.service.metrics().await;
    let line = text.lines().find_map(|line| line.strip_prefix("h402_watch_driver_watches_open "));
    line.and_then(|count| count.trim().parse().ok()).expect("it counts them")
}
