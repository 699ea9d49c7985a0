//! One event to many subscribers: from a cancellation, or from deadlines that fall together, to the last of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use h402_watch_proto::v1;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::bare::Bare;
use super::{CALLERS, connections, creates};
use crate::process::Stopwatch;
use crate::report::{Report, Row};
use crate::samples::{figure, ms, quantile};
use crate::support::anvil::Anvil;
use crate::support::client::{Client, now_ms};
use crate::support::service::{Service, Setup};
use crate::{BINARY, progress};

const SUBSCRIBERS: u64 = 1_000;
/// Connections that they share.
const CONNECTIONS: usize = 8;
/// Events one by one, each after the one before has come to all.
const SINGLE: u64 = 100;
/// Events of callers that each cancel one watch after the other.
const MANY: u64 = 2_000;
/// Events at once.
const TOGETHER: u64 = 1_000;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(300);

pub async fn run(report: &mut Report) {
    let anvil = Anvil::manual().await;
    let service = Service::start(BINARY, Setup::of(&anvil)).await;
    let mut client = service.client().await;
    let ids = client.create_all((0..SINGLE + MANY).map(creates::asked).collect()).await;
    let watch = client.get(&ids[0]).await;
    let (single, many) = ids.split_at(usize::try_from(SINGLE).expect("few"));

    progress("streams: the service");
    let audience = Audience::gather(&service.grpc()).await;
    let ours_single = one_by_one(&mut client, single, &audience).await;
    let stopwatch = Stopwatch::start(&service).await;
    let ours_many = by_callers(&service.grpc(), many, &audience).await;
    let stretch_many = stopwatch.stop(&service).await;
    let deadline = now_ms() + 3_000;
    let falls = |n| crate::support::client::with(creates::asked(1_000_000 + n), |terms| terms.deadline_ms = deadline);
    client.create_all((0..TOGETHER).map(falls).collect()).await;
    let stopwatch = Stopwatch::start(&service).await;
    let ours_together = audience.next(TOGETHER).await;
    let stretch_together = stopwatch.stop(&service).await;
    let events = log(&mut client).await;
    drop((audience, service));

    progress("streams: bare tonic");
    let bare = Bare::new(watch, events);
    let url = bare.serve();
    let audience = Audience::gather(&url).await;
    let bare_single = one_by_one(&mut Client::connect(&url).await, single, &audience).await;
    let bare_many = by_callers(&url, many, &audience).await;
    let told = audience.expect(TOGETHER);
    bare.tell(usize::try_from(TOGETHER).expect("few"));
    let bare_together = audience.reached(told, TOGETHER).await;

    let least = "≥ 50 % of the bare stream";
    let row = |what: &str, ours: f64, bare: f64| {
        Row::of(format!("{SUBSCRIBERS} subscribers, {what}"), "events delivered per second", ours)
            .limit("bare tonic stream, same messages", bare)
            .bar(least, ours >= bare / 2.0)
    };
    let callers = format!("{MANY} events by {CALLERS} callers that cancel watches");
    report.rows.push(row(&callers, ours_many, bare_many).note(stretch_many.told()));
    let together = format!("{TOGETHER} events of one deadline");
    report.rows.push(row(&together, ours_together, bare_together).note(stretch_together.told()));
    for (of, percent) in [("median", 50), ("99 of 100", 99)] {
        let what = format!("{SUBSCRIBERS} subscribers, one event: from the cancellation to the last of them, {of}");
        let row = Row::of(what, "ms", quantile(&ours_single, percent));
        report.rows.push(row.limit("bare tonic stream, same messages", quantile(&bare_single, percent)));
    }
}

/// All who listen, and how many events have come to them in sum.
struct Audience {
    tally: Arc<Tally>,
    _listeners: JoinSet<()>,
}

#[derive(Default)]
struct Tally {
    arrived: AtomicU64,
    /// Where whoever waits for it is told.
    target: AtomicU64,
    reached: Notify,
}

impl Audience {
    /// Subscribers that have been told their place: what happens from now on comes to all of them.
    async fn gather(url: &str) -> Self {
        let tally = Arc::new(Tally::default());
        let mut listeners = JoinSet::new();
        let clients = connections(url, CONNECTIONS).await;
        for (_, client) in (0..SUBSCRIBERS).zip(clients.iter().cycle()) {
            let mut stream = client.clone().subscribe(v1::SubscribeRequest::default()).await;
            let place = stream.message().await.expect("goes on").expect("its place");
            assert!(place.event.is_none());
            let tally = Arc::clone(&tally);
            listeners.spawn(async move {
                // Until the server goes.
                while let Ok(Some(response)) = stream.message().await {
                    if response.event.is_some() {
                        tally.count();
                    }
                }
            });
        }
        Self { tally, _listeners: listeners }
    }

    /// From now on somebody waits for so many more events to come to all; where the tally stands.
    fn expect(&self, events: u64) -> u64 {
        let now = self.tally.arrived.load(Ordering::SeqCst);
        self.tally.target.store(now + events * SUBSCRIBERS, Ordering::SeqCst);
        now
    }

    /// Waits until those have come; how many were delivered per second, from the first on.
    async fn reached(&self, before: u64, events: u64) -> f64 {
        while self.tally.arrived.load(Ordering::SeqCst) == before {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let started = Instant::now();
        self.wait().await;
        figure(events * SUBSCRIBERS) / started.elapsed().as_secs_f64()
    }

    async fn next(&self, events: u64) -> f64 {
        let before = self.expect(events);
        self.reached(before, events).await
    }

    async fn wait(&self) {
        let all = async {
            while self.tally.arrived.load(Ordering::SeqCst) < self.tally.target.load(Ordering::SeqCst) {
                self.tally.reached.notified().await;
            }
        };
        let came = || (self.tally.arrived.load(Ordering::SeqCst), self.tally.target.load(Ordering::SeqCst));
        tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("of events in sum, came {:?}", came()));
    }
}

impl Tally {
    fn count(&self) {
        let arrived = self.arrived.fetch_add(1, Ordering::SeqCst) + 1;
        if arrived == self.target.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }
}

/// From the call to the last subscriber, ms, in order.
async fn one_by_one(client: &mut Client, ids: &[String], audience: &Audience) -> Vec<f64> {
    let mut times = Vec::with_capacity(ids.len());
    for id in ids {
        audience.expect(1);
        let started = Instant::now();
        cancel(client, id).await;
        audience.wait().await;
        times.push(ms(started.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    times
}

/// Events that come to subscribers in a second, from the first call to the last arrival.
async fn by_callers(url: &str, ids: &[String], audience: &Audience) -> f64 {
    let clients = connections(url, CONNECTIONS).await;
    audience.expect(u64::try_from(ids.len()).expect("few"));
    let started = Instant::now();
    let shares = ids.chunks(ids.len().div_ceil(CALLERS)).zip(clients.iter().cycle());
    let callers: Vec<_> = shares
        .map(|(share, client)| {
            let (mut client, share) = (client.clone(), share.to_vec());
            tokio::spawn(async move {
                for id in share {
                    cancel(&mut client, &id).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no panic");
    }
    audience.wait().await;
    figure(ids.len()) * figure(SUBSCRIBERS) / started.elapsed().as_secs_f64()
}

async fn cancel(client: &mut Client, id: &str) {
    let request = v1::CancelWatchRequest { watch_id: id.into() };
    client.inner.cancel_watch(request).await.expect("is open");
}

/// All that subscribers were sent.
async fn log(client: &mut Client) -> Vec<v1::SubscribeResponse> {
    let request = v1::SubscribeRequest { after_sequence: Some(0), ..Default::default() };
    let mut stream = client.subscribe(request).await;
    let mut events = Vec::new();
    while events.len() < usize::try_from(SINGLE + MANY + TOGETHER).expect("few") {
        let response = stream.message().await.expect("goes on").expect("without end");
        if response.event.is_some() {
            events.push(response);
        }
    }
    events
}
