//! Bitcoin: bitcoind, and beside us a loop that asks for each transaction by its id, as a payment server without an index of
//! its own does. The loop needs a node with an index of transactions; we don't.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::OPEN;
use super::events::Events;
use super::open::{cost, for_long, in_words, open, quiet};
use super::tap::{Counts, Tap};
use crate::report::{Curve, Report, Row};
use crate::samples::{Samples, each};
use crate::support::bitcoind::{Bitcoind, PASSWORD, USER, anybody};
use crate::support::client::{Client, address, spec, tx};
use crate::support::service::{Service, Setup};
use crate::{BINARY, progress, sizes};

/// Blocks of each figure of requests, and the time between two.
const BLOCKS: u64 = 20;
const PACE: Duration = Duration::from_millis(500);
/// Transactions that are waited for, and those of each block.
const TRANSACTIONS: usize = 1_000;
const PER_BLOCK: usize = 50;
/// The time between two of their blocks, of which the loop asks that often.
const LOOP_PACE: Duration = Duration::from_secs(2);
const LOOP_EVERY: Duration = Duration::from_secs(1);
/// Calls of one batch of the loop.
const BATCH: usize = 100;

/// The service on a node, through a relay of its own.
async fn service(node: &Bitcoind, zmq: bool, poll: Duration) -> (Tap, Service, Client) {
    let tap = Tap::before(node.port).await;
    let url = format!("http://{USER}:{PASSWORD}@{}", tap.authority());
    let zmq = if zmq { format!("zmq_urls = [\"{}\"]\n", node.zmq()) } else { String::new() };
    let poll_interval_ms = u64::try_from(poll.as_millis()).expect("short");
    let setup = Setup {
        endpoints: vec![("bitcoind".into(), url, None)],
        endpoint: format!("{zmq}requests_per_second = 100000\n"),
        poll_interval_ms,
        block_time_ms: 500,
        ..Setup::regtest()
    };
    let service = Service::start(BINARY, setup).await;
    let client = service.client().await;
    (tap, service, client)
}

/// What a new block costs while nothing matches.
pub async fn requests(report: &mut Report) -> Curve {
    let node = Bitcoind::start().await;
    // Announced blocks, and as good as no polls: those are counted below.
    let (tap, service, mut client) = service(&node, true, Duration::from_secs(600)).await;
    let (mut points, mut made) = (Vec::new(), 0);
    for watches in sizes() {
        let counts = measure(&node, &tap, &mut client, made..watches).await;
        if watches == OPEN {
            report.rows.push(row("blocks by ZMQ", &counts));
        }
        points.push((watches, each(counts.requests, BLOCKS)));
        made = watches;
    }
    drop(service);
    let (tap, _service, mut client) = self::service(&node, false, PACE).await;
    report.rows.push(row("polling each block time", &measure(&node, &tap, &mut client, 0..OPEN).await));
    Curve { name: "Bitcoin".into(), points }
}

/// Opens these watches, one of four on a transaction and the others on addresses, and counts once they are looked up.
async fn measure(node: &Bitcoind, tap: &Tap, client: &mut Client, numbers: std::ops::Range<u64>) -> Counts {
    let watches = numbers.end;
    let started = Instant::now();
    let stranger = |n: u64| match n % 4 {
        0 => spec(tx(&format!("{n:064x}")), &anybody(n), 5_000, 1),
        _ => spec(address(), &anybody(n), 5_000, 1),
    };
    open(client, numbers, stranger).await;
    let opened = started.elapsed();
    let mut next = tokio::time::Instant::now();
    let mut block = async || {
        tokio::time::sleep_until(next).await;
        next = next.max(tokio::time::Instant::now() - Duration::from_millis(50)) + PACE;
        node.mine_empty(1).await;
        client.head(node.height().await).await;
    };
    let look_ups = ["getrawtransaction", "gettxout", "getmempoolentry"];
    let looked = quiet(tap, &look_ups, &mut block).await;
    progress(&format!("Bitcoin: {watches} watches made in {opened:.1?}, looked up after {looked:.1?}"));
    cost(tap, BLOCKS, &mut block).await
}

fn row(how: &str, counts: &Counts) -> Row {
    let requests = each(counts.requests, BLOCKS);
    Row::of(format!("Bitcoin, 10,000 open watches, a block that matches none, {how}"), "requests per block", requests)
        .bar("≤ 2", requests <= 2.0)
        .note(in_words(counts, BLOCKS))
}

/// 1,000 transactions from the mempool to their blocks: ours, and the loop.
pub async fn waiting(report: &mut Report) {
    let node = Bitcoind::with(&["-txindex=1"]).await;
    let (tap, _service, mut client) = service(&node, true, Duration::from_secs(600)).await;
    let ours = ours(&node, &tap, &mut client).await;
    for batched in [false, true] {
        let theirs = looped(&node, batched).await;
        report.rows.extend(rows(&ours, &theirs, batched));
    }
}

struct Waited {
    counts: Counts,
    times: Samples,
    bare: Samples,
}

fn rows(ours: &Waited, theirs: &Waited, batched: bool) -> [Row; 4] {
    let peer = if batched { "getrawtransaction loop, 1 s, batched" } else { "getrawtransaction loop, 1 s" };
    let blocks = u64::try_from(TRANSACTIONS / PER_BLOCK).expect("few");
    let count = |what: &str, of: fn(&Counts) -> u64| {
        let what = format!("Bitcoin, 1,000 transactions watched, 50 mined in each block, {what} per block");
        Row::of(what, "count", each(of(&ours.counts), blocks)).peer(peer, each(of(&theirs.counts), blocks))
    };
    let what = "Bitcoin, block → known, 1,000 transactions watched";
    [
        count("requests", |counts| counts.requests).note("without the look-ups when watches are made"),
        count("calls", Counts::calls).note(in_words(&ours.counts, blocks)),
        Row::of(format!("{what}, median"), "ms", ours.times.median())
            .peer(peer, theirs.times.median())
            .limit("bare fetches", ours.bare.median()),
        Row::of(format!("{what}, p99"), "ms", ours.times.p99())
            .peer(peer, theirs.times.p99())
            .limit("bare fetches", ours.bare.p99()),
    ]
}

/// Payments that are in the mempool, each of coins of its own.
async fn pay(node: &Bitcoind) -> Vec<String> {
    // Twice as many coins as payments: the wallet takes more than one for some of them.
    for _ in 0..TRANSACTIONS / 125 {
        let mut addresses = Vec::new();
        for _ in 0..250 {
            addresses.push(node.payer_address().await);
        }
        let payments: Vec<_> = addresses.iter().map(|address| (address.as_str(), 50_000)).collect();
        node.pay_many(&payments).await;
    }
    node.mine(1).await;
    let mut txids = Vec::new();
    for n in 0..TRANSACTIONS {
        txids.push(node.pay(&anybody(u64::try_from(n).expect("few")), 5_000).await);
    }
    txids
}

async fn ours(node: &Bitcoind, tap: &Tap, client: &mut Client) -> Waited {
    let txids = pay(node).await;
    let specs = (0..).zip(&txids).map(|(n, txid)| for_long(spec(tx(txid), &anybody(n), 5_000, 1))).collect();
    let ids = client.create_all(specs).await;
    let mut events = Events::of(client).await;
    for id in &ids {
        client.at_least(id, 1).await;
    }
    progress("Bitcoin: 1,000 transactions are watched");
    let (mut times, mut bare) = (Samples::default(), Samples::default());
    let (before, rpc) = (tap.counts(), Rpc::new(&node.http()));
    for (mined, watches) in txids.chunks(PER_BLOCK).zip(ids.chunks(PER_BLOCK)) {
        let started = Instant::now();
        let at = mine(node, mined).await;
        let known = events.until("settled", watches).await;
        times.extend(known.into_iter().map(|known| known.saturating_duration_since(at)));
        bare.add(fetch(&rpc).await);
        tokio::time::sleep(LOOP_PACE.saturating_sub(started.elapsed())).await;
    }
    Waited { counts: tap.counts().since(&before), times, bare }
}

/// Mines a block; when it was there.
async fn mine(node: &Bitcoind, txids: &[String]) -> Instant {
    let txids: Vec<_> = txids.iter().map(String::as_str).collect();
    node.mine_with(&txids).await;
    Instant::now()
}

/// What we ask for a block, one request after the other.
async fn fetch(rpc: &Rpc) -> Duration {
    let started = Instant::now();
    let best = rpc.batch(&[("getbestblockhash", json!([]))]).await[0]["result"].take();
    rpc.batch(&[("getblockheader", json!([best])), ("getblock", json!([best, 0]))]).await;
    started.elapsed()
}

/// Asks for each transaction, each second, until it has a confirmation.
async fn looped(node: &Bitcoind, batched: bool) -> Waited {
    let txids = pay(node).await;
    progress(&format!("Bitcoin: the loop begins, batched: {batched}"));
    let tap = Tap::before(node.port).await;
    let url = tap.http();
    let open: BTreeSet<_> = txids.iter().cloned().collect();
    let loops = tokio::spawn(async move { ask(&Rpc::new(&url), open, batched).await });
    let mut mined = BTreeMap::new();
    for chunk in txids.chunks(PER_BLOCK) {
        tokio::time::sleep(LOOP_PACE).await;
        let at = mine(node, chunk).await;
        mined.extend(chunk.iter().map(|txid| (txid.clone(), at)));
    }
    let mut times = Samples::default();
    let known = loops.await.expect("no panic");
    times.extend(known.iter().map(|(txid, known)| known.saturating_duration_since(mined[txid])));
    Waited { counts: tap.counts(), times, bare: Samples::default() }
}

/// Until all are confirmed; when that was known of each.
async fn ask(rpc: &Rpc, mut open: BTreeSet<String>, batched: bool) -> Vec<(String, Instant)> {
    let mut known = Vec::new();
    let mut ticks = tokio::time::interval(LOOP_EVERY);
    while !open.is_empty() {
        ticks.tick().await;
        let asked: Vec<_> = open.iter().cloned().collect();
        for txids in asked.chunks(if batched { BATCH } else { 1 }) {
            let calls: Vec<_> = txids.iter().map(|txid| ("getrawtransaction", json!([txid, true]))).collect();
            let answers = rpc.batch(&calls).await;
            let at = Instant::now();
            for (txid, answer) in txids.iter().zip(answers) {
                if answer["result"]["confirmations"].as_u64().is_some_and(|depth| depth >= 1) {
                    open.remove(txid);
                    known.push((txid.clone(), at));
                }
            }
        }
    }
    known
}

/// A client as one writes it for a few calls.
struct Rpc {
    client: reqwest::Client,
    url: String,
}

impl Rpc {
    fn new(url: &str) -> Self {
        Self { client: reqwest::Client::new(), url: url.into() }
    }

    /// One call alone, several in a batch.
    async fn batch(&self, calls: &[(&str, Value)]) -> Vec<Value> {
        let call = |(id, (method, params)): (usize, &(&str, Value))| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let mut calls: Vec<_> = calls.iter().enumerate().map(call).collect();
        let alone = calls.len() == 1;
        let body = if alone { calls.remove(0) } else { json!(calls) };
        let post = self.client.post(&self.url).basic_auth(USER, Some(PASSWORD)).body(body.to_string());
        let text = post.send().await.expect("answers").text().await.expect("a body");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        match answer {
            Value::Array(mut answers) => {
                answers.sort_by_key(|answer| answer["id"].as_u64());
                answers
            }
            answer => vec![answer],
        }
    }
}
