//! Deadlines that fall within one minute: until all are settled and on the disk, and what callers wait meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::world::{FAMILIES, Kind, PATIENCE, World, unpaid};
use crate::load::creates;
use crate::process::{Counted, Stopwatch};
use crate::progress;
use crate::report::{Report, Row};
use crate::samples::{figure, ms, quantile};
use crate::support::client::{Client, now_ms};

/// Within which they fall.
const SPAN_MS: u64 = 60_000;
/// How many are made in a second at the least.
const RATE: u64 = 4_000;
/// How often somebody asks meanwhile.
const PROBE: Duration = Duration::from_millis(20);

pub async fn run(watches: u64, report: &mut Report) {
    progress(&format!("deadlines: making {watches} watches"));
    let world = World::start(&FAMILIES).await;
    let first = now_ms() + watches * 1_000 / RATE + 10_000;
    let made = world.open(0..watches, move |n| unpaid(&FAMILIES, Kind::Mixed, n, first + n * SPAN_MS / watches));
    let rate = made.await;
    world.rest().await;
    assert!(now_ms() < first, "{rate:.0} per second is too slow for the deadlines");
    let calm = probe(world.service.client().await, Duration::from_secs(5), &AtomicBool::default()).await;
    tokio::time::sleep(Duration::from_millis(first.saturating_sub(now_ms()))).await;

    progress("deadlines: they fall");
    world.tick().await;
    let stopwatch = Stopwatch::start(&world.service).await;
    let (started, over) = (Instant::now(), Arc::new(AtomicBool::default()));
    let meanwhile = {
        let (client, over) = (world.service.client().await, Arc::clone(&over));
        tokio::spawn(async move { probe(client, PATIENCE, &over).await })
    };
    let all = figure(watches);
    while Counted::of(&world.service).await.settled < all {
        assert!(started.elapsed() < PATIENCE, "{:?}", Counted::of(&world.service).await);
        world.tick().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let after = started.elapsed().saturating_sub(Duration::from_millis(SPAN_MS));
    let stretch = stopwatch.stop(&world.service).await;
    over.store(true, Ordering::SeqCst);
    let busy = meanwhile.await.expect("no panic");
    let memory = world.memory();

    let what =
        format!("{watches} deadlines within a minute: from the last of them until all are settled and on the disk");
    let note = format!("{}; {} MiB in memory at most", stretch.told(), memory.peak >> 20);
    report.rows.push(Row::of(what, "s", after.as_secs_f64()).note(note));
    for (call, busy, calm) in [("CreateWatch", busy.creates, calm.creates), ("GetWatch", busy.gets, calm.gets)] {
        let what = format!("{call} meanwhile, 99 of 100");
        let row = Row::of(what, "ms", quantile(&busy, 99)).peer("before the first", quantile(&calm, 99));
        let longest = busy.last().copied().unwrap_or(f64::NAN);
        report.rows.push(row.note(format!("median {:.1} ms, longest {longest:.1} ms", quantile(&busy, 50))));
    }
}

/// How long calls took, ms, in order.
struct Probed {
    creates: Vec<f64>,
    gets: Vec<f64>,
}

/// Makes a watch and reads it, again and again.
async fn probe(mut client: Client, time: Duration, over: &AtomicBool) -> Probed {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let mut probed = Probed { creates: Vec::new(), gets: Vec::new() };
    let started = Instant::now();
    while started.elapsed() < time && !over.load(Ordering::SeqCst) {
        let mut asked = creates::asked(NEXT.fetch_add(1, Ordering::SeqCst));
        asked.network = "evm".into();
        if let Some(terms) = &mut asked.terms {
            terms.deadline_ms = now_ms() + 24 * 3_600_000;
        }
        let called = Instant::now();
        let id = client.create(asked).await;
        probed.creates.push(ms(called.elapsed()));
        let called = Instant::now();
        client.get(&id).await;
        probed.gets.push(ms(called.elapsed()));
        tokio::time::sleep(PROBE).await;
    }
    probed.creates.sort_by(f64::total_cmp);
    probed.gets.sort_by(f64::total_cmp);
    probed
}
