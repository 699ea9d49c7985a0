//! From a new head to whoever waits for it: ours to an event at a subscriber, the commit to disk on the way; alloy's to the
//! future that resolves. The same transactions, in the same blocks.

use std::time::{Duration, Instant};

use alloy_primitives::B256;
use h402_watch_proto::v1;
use serde_json::{Value, json};

use super::{World, hash, stranger};
use crate::peers::OPEN;
use crate::peers::alloy::{Alloy, Kind, Waiting};
use crate::peers::events::Events;
use crate::peers::open::{for_long, open, quiet};
use crate::peers::tap::Tap;
use crate::progress;
use crate::report::{Report, Row};
use crate::samples::Samples;
use crate::support::anvil::shop;
use crate::support::client::{spec, tx, with};
use crate::support::service::Setup;

/// Blocks that are not counted, and blocks that are.
const WARM_UP: u32 = 10;
const BLOCKS: u32 = 60;
/// The interval at which alloy polls nodes on this machine.
const POLL_MS: u64 = 250;

/// How one figure is taken.
#[derive(Clone, Copy)]
struct Case {
    /// Watched transactions in each block.
    matches: u64,
    subscribes: bool,
    /// In the native coin, where calls inside of contracts are looked for; else in a token.
    native: bool,
}

pub async fn run(report: &mut Report) {
    let (subscribes, native) = (true, false);
    let token = [Case { matches: 1, subscribes, native }, Case { matches: 100, subscribes, native }];
    let others = [Case { matches: 1, subscribes, native: true }, Case { matches: 1, subscribes: false, native }];
    for case in token.into_iter().chain(others) {
        let times = measure(case).await;
        report.rows.extend(times.rows(case));
    }
}

#[derive(Default)]
struct Times {
    ours: Samples,
    alloy: Samples,
    /// What such a block is asked for, by a bare client: one after the other, and as we ask it where it was announced.
    bare: Samples,
    bare_at_once: Samples,
    /// Of the service's own commits.
    commit: f64,
    methods: String,
}

impl Times {
    fn rows(&self, case: Case) -> Vec<Row> {
        let Case { matches, subscribes, native } = case;
        let from = if subscribes { "head notification" } else { "block, polled each 250 ms," };
        let asset = if native { "native" } else { "token" };
        let what = format!("EVM, {from} → event, 10,000 open watches, {matches} matching, {asset}");
        let peer = if subscribes { Kind::WatchWs.name() } else { Kind::WatchHttp.name() };
        let bare = "bare fetches, one by one";
        let median = Row::of(format!("{what}, median"), "ms", self.ours.median())
            .peer(peer, self.alloy.median())
            .limit(bare, self.bare.median())
            .note(format!("mean commit {:.2} ms; {}", self.commit, self.methods));
        let p99 = Row::of(format!("{what}, p99"), "ms", self.ours.p99())
            .peer(peer, self.alloy.p99())
            .limit(bare, self.bare.p99());
        if !subscribes {
            return vec![median, p99];
        }
        let met = self.ours.median() <= 2.0 * self.alloy.median() && self.ours.median() <= 2.0 * self.bare.median();
        let at_once = Row::of(format!("{what}, median, beside what we ask of the node"), "ms", self.ours.median())
            .limit("the same requests, at once", self.bare_at_once.median());
        vec![median.bar("≤ 2 × alloy, ≤ 2 × bare fetches", met), p99, at_once]
    }
}

async fn measure(case: Case) -> Times {
    let mut world = World::start(&[], case.subscribes, |setup| poll(setup, case)).await;
    let token = world.token.clone();
    open(&mut world.client, 0..OPEN, |n| stranger_of(n, &token, case)).await;
    let (anvil, client) = (&world.anvil, &mut world.client);
    quiet(&world.tap, &["eth_getTransactionByHash"], async || {
        anvil.mine(1).await;
        client.head(anvil.height().await).await;
    })
    .await;
    let kind = if case.subscribes { Kind::WatchWs } else { Kind::WatchHttp };
    let peer_tap = Tap::before(world.anvil.port).await;
    let url = if case.subscribes { peer_tap.ws() } else { peer_tap.http() };
    let mut peer = Peer { alloy: Alloy::connect(kind, &url).await, tap: peer_tap };
    let mut events = Events::of(&mut world.client).await;
    let bare = Bare { client: reqwest::Client::new(), url: world.anvil.http() };
    let mut times = Times::default();
    let (mut before, mut commits) = (world.tap.counts(), (0.0, 0.0));
    for block in 0..WARM_UP + BLOCKS {
        if block == WARM_UP {
            times = Times::default();
            (before, commits) = (world.tap.counts(), spent_on_commits(&world).await);
        }
        one_block(&mut world, &mut peer, &mut events, &mut times, (case, block)).await;
        times.bare.add(bare.one_by_one().await);
        times.bare_at_once.add(bare.at_once().await);
    }
    let after = spent_on_commits(&world).await;
    times.commit = (after.0 - commits.0) / (after.1 - commits.1) * 1000.0;
    times.methods = crate::peers::open::in_words(&world.tap.counts().since(&before), BLOCKS.into());
    progress(&format!("EVM: {} matching: ours {:.2} ms", case.matches, times.ours.median()));
    times
}

fn poll(setup: &mut Setup, case: Case) {
    if !case.subscribes {
        (setup.block_time_ms, setup.poll_interval_ms) = (POLL_MS, POLL_MS);
    }
}

/// With native coin watched or not.
fn stranger_of(n: u64, token: &str, case: Case) -> v1::WatchSpec {
    let asset = if case.native { "native" } else { token };
    with(stranger(n, token), |terms| terms.asset = asset.into())
}

struct Peer {
    alloy: Alloy,
    tap: Tap,
}

/// Pays, waits until all know of it, mines, and takes the times.
async fn one_block(
    world: &mut World,
    peer: &mut Peer,
    events: &mut Events,
    times: &mut Times,
    (case, block): (Case, u32),
) {
    let Case { matches, subscribes, native } = case;
    let mut hashes: Vec<B256> = Vec::new();
    let first = 1_000_000 + u64::from(block) * matches;
    for n in first..first + matches {
        let paid = match native {
            true => world.anvil.pay(&shop(n), 5).await,
            false => world.anvil.pay_token(&world.token, &shop(n), 5).await,
        };
        hashes.push(hash(&paid));
    }
    let asset = if native { "native" } else { &world.token };
    let watch = |(n, hash): (u64, &B256)| {
        for_long(with(spec(tx(&hash.to_string()), &shop(n), 5, 1), |terms| terms.asset = asset.into()))
    };
    let ids = world.client.create_all((first..).zip(&hashes).map(watch).collect()).await;
    let waiting = peer.alloy.wait_for(&hashes).await;
    events.until("seen", &ids).await;
    // What belongs to the making of watches is over.
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.tap.forget_notices().await;
    peer.tap.forget_notices().await;
    world.anvil.call("evm_mine", json!([])).await;
    let mined = Instant::now();
    let known = events.until("settled", &ids).await;
    let (ours, theirs) = match subscribes {
        true => (world.tap.noticed("parentHash").await, peer.tap.noticed("parentHash").await),
        false => (mined, mined),
    };
    times.ours.extend(known.into_iter().map(|at| at.saturating_duration_since(ours)));
    times.alloy.extend(resolved(waiting).await.into_iter().map(|at| at.saturating_duration_since(theirs)));
}

async fn resolved(waiting: Waiting) -> Vec<Instant> {
    waiting.join_all().await.into_iter().map(|(_, at)| at).collect()
}

/// A method and its parameters.
type Asked = (&'static str, Value);

fn latest() -> Asked {
    ("eth_getBlockByNumber", json!(["latest", false]))
}

/// A client that does nothing but fetch.
struct Bare {
    client: reqwest::Client,
    url: String,
}

impl Bare {
    /// What a block that matches is asked for, one request after the other: the next one depends on what the one before told.
    async fn one_by_one(&self) -> Duration {
        let started = Instant::now();
        let (receipts, bodies, trace) = self.calls().await;
        for call in [receipts, bodies, trace] {
            self.post(&[call]).await;
        }
        started.elapsed()
    }

    /// The same where the block was announced, as we ask it: at once, with the tags of finality.
    async fn at_once(&self) -> Duration {
        let (receipts, bodies, trace) = self.calls().await;
        let [safe, finalized] = ["safe", "finalized"].map(|tag| ("eth_getBlockByNumber", json!([tag, false])));
        let (with_tip, beside) = ([latest(), receipts, safe, finalized], [bodies, trace]);
        let started = Instant::now();
        tokio::join!(self.post(&with_tip), self.post(&beside));
        started.elapsed()
    }

    /// For the receipts, the bodies and the traces of the tip, which is asked for and read.
    async fn calls(&self) -> (Asked, Asked, Asked) {
        let tip: Value = serde_json::from_str(&self.post(&[latest()]).await).expect("JSON");
        let (hash, number) = (&tip["result"]["hash"], &tip["result"]["number"]);
        (
            ("eth_getBlockReceipts", json!([hash])),
            ("eth_getBlockByHash", json!([hash, true])),
            ("trace_block", json!([number])),
        )
    }

    /// Alone, or in a batch; the body that comes back.
    async fn post(&self, calls: &[Asked]) -> String {
        let call = |(id, (method, params)): (usize, &Asked)| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let mut calls: Vec<_> = calls.iter().enumerate().map(call).collect();
        let body = if calls.len() == 1 { calls.remove(0) } else { json!(calls) };
        let post = self.client.post(&self.url).header("content-type", "application/json").body(body.to_string());
        post.send().await.expect("answers").text().await.expect("a body")
    }
}

/// Seconds that the service spent on commits, and their number.
async fn spent_on_commits(world: &World) -> (f64, f64) {
    let metrics = world.service.metrics().await;
    let of = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).expect("is counted");
        line.trim().parse::<f64>().expect("a number")
    };
    (of("h402_watch_driver_commit_seconds_sum"), of("h402_watch_driver_commit_seconds_count"))
}
