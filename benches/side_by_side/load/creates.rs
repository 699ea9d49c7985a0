//! Durable creates: each is answered after the fsync of the commit that holds it.

use std::time::{Duration, Instant};

use h402_watch::store::StoreEngine;
use h402_watch_proto::v1;

use super::bare::{Bare, Records};
use super::{CALLERS, connections};
use crate::process::{Stopwatch, Stretch};
use crate::report::{Report, Row};
use crate::samples::figure;
use crate::support::anvil::{Anvil, shop};
use crate::support::client::{Client, address, spec};
use crate::support::service::{Service, Setup};
use crate::{BINARY, progress};

/// How long each way is measured.
const TIME: Duration = Duration::from_secs(10);
/// Records of the service that the bare store is given: more than it commits in that time.
const RECORDS_MAX: usize = 400_000;
/// Connections that callers share.
const FEW: usize = 4;

pub async fn run(report: &mut Report) {
    for engine in [StoreEngine::Fjall, StoreEngine::Sled] {
        of_engine(engine, report).await;
    }
}

async fn of_engine(engine: StoreEngine, report: &mut Report) {
    let name = engine.as_str();
    let anvil = Anvil::manual().await;
    let mut service = Service::start(BINARY, Setup { engine: name, ..Setup::of(&anvil) }).await;
    let url = service.grpc();
    let mut first = 0;
    let mut measured = Vec::new();
    for (how, connections_count) in [("a connection each", CALLERS), ("on 4 connections", FEW)] {
        progress(&format!("creates: {name}, {CALLERS} callers, {how}"));
        let clients = connections(&url, connections_count).await;
        let watch = Stopwatch::start(&service).await;
        let Made { count, next, rate } = unary(&clients, first).await;
        measured.push((how, count, rate, watch.stop(&service).await));
        first = next;
    }
    progress(&format!("creates: {name}, one bulk stream"));
    let watch = Stopwatch::start(&service).await;
    let Made { count: streamed_count, rate: streamed, .. } = bulk(service.client().await, first).await;
    let bulk_stretch = watch.stop(&service).await;
    let made = service.client().await.try_create(asked(0)).await.expect("is there").watch.expect("a watch");
    assert!(service.stop().await, "it ends well");

    progress(&format!("creates: {name}, the bare store"));
    let records = Records::of(engine, &service.store(), RECORDS_MAX);
    for (how, count, rate, stretch) in measured {
        let group = creates(count, &stretch);
        let bare = records.replay(engine, group, TIME);
        let what = format!("{name}: durable creates, {CALLERS} callers, {how}");
        let row = Row::of(what, "per second", rate).limit("bare store, same records and groups", bare);
        let note = format!("{count} of {:.0} bytes, in groups of {group}; {}", records.bytes(), stretch.told());
        report.rows.push(row.bar("≥ 50 % of the bare store", rate >= bare / 2.0).note(note));
    }
    let group = creates(streamed_count, &bulk_stretch);
    let bare = records.replay(engine, group, TIME);
    let row = Row::of(format!("{name}: durable creates, one bulk stream"), "per second", streamed);
    let row = row.limit("bare store, same records and groups", bare);
    report.rows.push(row.note(format!("groups of {group}; {}", bulk_stretch.told())));
    if engine == StoreEngine::Fjall {
        transport(made, report).await;
    }
}

/// What the transport alone does with the same messages.
async fn transport(watch: v1::Watch, report: &mut Report) {
    let url = Bare::new(watch, Vec::new()).serve();
    for (how, count) in [("a connection each", CALLERS), ("on 4 connections", FEW)] {
        progress(&format!("creates: bare tonic, {how}"));
        let clients = connections(&url, count).await;
        let bare = unary(&clients, 0).await.rate;
        let what = format!("fjall: durable creates, {CALLERS} callers, {how}");
        let ours = report.rows.iter().find(|row| row.what == what).map_or(f64::NAN, |row| row.ours);
        report.rows.push(
            Row::of(what, "per second", ours)
                .limit("bare tonic, same messages, no fsync", bare)
                .note("client and server share the machine's cores"),
        );
    }
    let bare = bulk(Client::connect(&url).await, 0).await.rate;
    let what = "fjall: durable creates, one bulk stream";
    let ours = report.rows.iter().find(|row| row.what == what).map_or(f64::NAN, |row| row.ours);
    report.rows.push(Row::of(what, "per second", ours).limit("bare tonic, same messages, no fsync", bare));
}

/// Creates of a commit, at the mean.
fn creates(count: u64, stretch: &Stretch) -> usize {
    let mean = figure(count) / stretch.counted.commits.max(1.0);
    format!("{:.0}", mean.ceil()).parse().unwrap_or(1_usize).clamp(1, 1024)
}

/// The n-th watch.
pub fn asked(n: u64) -> v1::WatchSpec {
    spec(address(), &shop(n), 1_000_000, 3)
}

struct Made {
    count: u64,
    /// From here on, no number has been used: callers are not equally fast.
    next: u64,
    /// Per second.
    rate: f64,
}

/// Callers that each make one watch after the other.
async fn unary(clients: &[Client], first: u64) -> Made {
    let step = u64::try_from(CALLERS).expect("few");
    let started = Instant::now();
    let callers = (0..step).zip(clients.iter().cycle()).map(|(caller, client)| {
        let mut client = client.clone();
        tokio::spawn(async move {
            let mut made = 0;
            while started.elapsed() < TIME {
                client.create(asked(first + made * step + caller)).await;
                made += 1;
            }
            made
        })
    });
    let made = futures_util::future::join_all(callers).await.into_iter().map(|made| made.expect("no panic"));
    let (count, most) = made.fold((0, 0), |(sum, most), made: u64| (sum + made, most.max(made)));
    Made { count, next: first + most * step, rate: figure(count) / started.elapsed().as_secs_f64() }
}

/// One stream of requests, as fast as it is taken.
async fn bulk(mut client: Client, first: u64) -> Made {
    let started = Instant::now();
    let requests = futures_util::stream::iter((first..).map(|n| v1::CreateWatchRequest { watch: Some(asked(n)) }));
    let requests = futures_util::StreamExt::take_while(requests, move |_| std::future::ready(started.elapsed() < TIME));
    let mut answers = client.inner.create_watches(requests).await.expect("streams").into_inner();
    let mut made = 0_u64;
    while let Some(answer) = answers.message().await.expect("goes on") {
        assert!(matches!(answer.result, Some(v1::create_watches_response::Result::Ok(_))), "{answer:?}");
        made += 1;
    }
    Made { count: made, next: first + made, rate: figure(made) / started.elapsed().as_secs_f64() }
}
