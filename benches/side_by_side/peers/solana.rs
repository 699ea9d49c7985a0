//! Solana: a scripted node for requests, a real one for times; beside us a subscription to each signature, and a loop that asks
//! for the statuses of 256 of them at a time.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use h402_watch_proto::v1;
use serde_json::{Value, json};
use solana_pubsub_client::nonblocking::pubsub_client::PubsubClient;
use solana_signature::Signature;
use tokio_tungstenite::tungstenite::Message;

use super::events::Events;
use super::open::{cost, for_long, in_words, open, quiet};
use super::tap::{Counts, Tap};
use super::{OPEN, memory_of};
use crate::process::memory as memory_in;
use crate::report::{Curve, Report, Row};
use crate::samples::{Samples, each, figure};
use crate::support::agave::Agave;
use crate::support::agave::account::key;
use crate::support::client::{Client, spec, tx};
use crate::support::service::{Service, Setup};
use crate::support::solana::{Signed, Solnode, shop};
use crate::{BINARY, progress, sizes};

/// Slots of each figure of requests, and the time between two: that of the cluster.
const SLOTS: u64 = 40;
const PACE: Duration = Duration::from_millis(400);
/// Signatures that are waited for, and those of each slot.
const SIGNATURES: usize = 1_000;
const PER_SLOT: usize = 25;
/// The most signatures of one `getSignatureStatuses`.
const STATUSES: usize = 256;

/// The service before a node, through relays of its own: HTTP, and the WebSocket if it subscribes.
async fn service(network: &str, ports: (u16, u16), subscribes: bool) -> (Tap, Tap, Service, Client) {
    let (tap, sockets) = (Tap::before(ports.0).await, Tap::before(ports.1).await);
    let setup = Setup::solana(network, &[(tap.http(), subscribes.then(|| sockets.ws()))]);
    let setup =
        Setup { endpoint: "requests_per_second = 100000\n".into(), block_time_ms: 400, poll_interval_ms: 400, ..setup };
    let service = Service::start(BINARY, setup).await;
    let client = service.client().await;
    (tap, sockets, service, client)
}

/// What a new slot costs while nothing matches.
pub async fn requests(report: &mut Report) -> Curve {
    let node = Agave::start().await;
    node.produce(40);
    let ports = (node.port, node.ws_port);
    let (tap, _sockets, service, mut client) = service(&node.network(), ports, true).await;
    let (mut points, mut made) = (Vec::new(), 0);
    for watches in sizes() {
        let counts = measure(&node, &tap, &mut client, made..watches).await;
        if watches == OPEN {
            report.rows.push(row("slots by WebSocket", &counts));
        }
        points.push((watches, each(counts.requests, SLOTS)));
        made = watches;
    }
    drop(service);
    let (tap, _sockets, _service, mut client) = self::service(&node.network(), ports, false).await;
    report.rows.push(row("polling each slot time", &measure(&node, &tap, &mut client, 0..OPEN).await));
    Curve { name: "Solana".into(), points }
}

/// Opens these watches on signatures, and counts once they are looked up.
async fn measure(node: &Agave, tap: &Tap, client: &mut Client, numbers: std::ops::Range<u64>) -> Counts {
    let watches = numbers.end;
    let started = Instant::now();
    let shop = key("shop");
    open(client, numbers, |n| spec(tx(&stranger(n).to_string()), &shop, 7, 1)).await;
    let opened = started.elapsed();
    let mut next = tokio::time::Instant::now();
    let mut slot = async || {
        tokio::time::sleep_until(next).await;
        next = next.max(tokio::time::Instant::now() - Duration::from_millis(50)) + PACE;
        // The last one is not confirmed yet.
        client.head(node.produce(1) - 1).await;
    };
    let looked = quiet(tap, &["getSignatureStatuses", "getTransaction"], &mut slot).await;
    progress(&format!("Solana: {watches} watches made in {opened:.1?}, looked up after {looked:.1?}"));
    cost(tap, SLOTS, &mut slot).await
}

/// A signature of nobody.
fn stranger(n: u64) -> Signature {
    let mut bytes = [1; 64];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    Signature::from(bytes)
}

fn row(how: &str, counts: &Counts) -> Row {
    let requests = each(counts.requests, SLOTS);
    Row::of(format!("Solana, 10,000 open signatures, a slot that holds none, {how}"), "requests per slot", requests)
        .bar("≤ 2", requests <= 2.0)
        .note(in_words(counts, SLOTS).replace("block", "slot"))
}

struct Waited {
    counts: Counts,
    times: Samples,
}

/// 1,000 signatures on a real node: we, a subscription to each, and the loop. The same transactions, in the same slots.
pub async fn waiting(report: &mut Report) {
    let node = Solnode::manual().await;
    let (tap, _sockets, _service, mut client) = service(&node.network(), (node.port, node.ws_port), true).await;
    let mut signed = Vec::new();
    for _ in 0..SIGNATURES {
        let to = shop();
        signed.push((node.sign(&node.draft().sol(&to, 10_000_000)).await, to.to_string()));
    }
    let watch = |(signed, to): &(Signed, String)| for_long(confirmed(spec(tx(&signed.signature), to, 10_000_000, 0)));
    let ids = client.create_all(signed.iter().map(watch).collect()).await;
    let mut events = Events::of(&mut client).await;
    let signatures: Vec<_> = signed.iter().map(|(signed, _)| signed.signature.clone()).collect();
    let (subscribed, polled) = (Tap::before(node.ws_port).await, Tap::before(node.port).await);
    let subscriptions = tokio::spawn(subscribe(subscribed.ws(), signatures.clone()));
    let loops = tokio::spawn(poll(polled.http(), signatures.iter().cloned().collect()));
    quiet(&tap, &["getTransaction"], async || node.slot(1).await).await;
    let (before, mut ours, mut sealed, mut bare) =
        (tap.counts(), Samples::default(), HashMap::new(), Samples::default());
    let direct = reqwest::Client::new();
    for (sent, watches) in signed.chunks(PER_SLOT).zip(ids.chunks(PER_SLOT)) {
        let started = Instant::now();
        let sends = sent.iter().map(|(signed, _)| node.send_raw(signed));
        for taken in futures_util::future::join_all(sends).await {
            taken.expect("is taken");
        }
        let slot = node.open_slot().await;
        let at = Instant::now();
        node.slot(1).await;
        sealed.extend(sent.iter().map(|(signed, _)| (signed.signature.clone(), at)));
        let known = events.until("settled", watches).await;
        ours.extend(known.into_iter().map(|known| known.saturating_duration_since(at)));
        bare.add(fetch(&direct, &node, slot).await);
        tokio::time::sleep(PACE.saturating_sub(started.elapsed())).await;
    }
    let ours = Waited { counts: tap.counts().since(&before), times: ours };
    for (peer, known, tap) in [
        ("signatureSubscribe each", subscriptions.await.expect("no panic"), subscribed),
        ("getSignatureStatuses loop, 400 ms", loops.await.expect("no panic"), polled),
    ] {
        let mut times = Samples::default();
        times.extend(known.iter().map(|(signature, known)| known.saturating_duration_since(sealed[signature])));
        report.rows.extend(rows(&ours, peer, &Waited { counts: tap.counts(), times }, &bare));
    }
}

fn confirmed(mut spec: v1::WatchSpec) -> v1::WatchSpec {
    if let Some(terms) = &mut spec.terms {
        terms.depth = Some(v1::terms::Depth::DepthTag(v1::FinalityTag::Confirmed.into()));
    }
    spec
}

fn rows(ours: &Waited, peer: &'static str, theirs: &Waited, bare: &Samples) -> [Row; 4] {
    let slots = u64::try_from(SIGNATURES / PER_SLOT).expect("few");
    let count = |what: &str, of: fn(&Counts) -> u64| {
        let what = format!("Solana, 1,000 signatures watched, 25 in each of 40 slots, {what} in all");
        Row::of(what, "count", figure(of(&ours.counts))).peer(peer, figure(of(&theirs.counts)))
    };
    let what = "Solana, slot sealed → known, 1,000 signatures watched";
    [
        count("requests", |counts| counts.requests),
        count("calls", Counts::calls).note(in_words(&ours.counts, slots).replace("block", "slot")),
        Row::of(format!("{what}, median"), "ms", ours.times.median())
            .peer(peer, theirs.times.median())
            .limit("bare fetches", bare.median()),
        Row::of(format!("{what}, p99"), "ms", ours.times.p99())
            .peer(peer, theirs.times.p99())
            .limit("bare fetches", bare.p99()),
    ]
}

/// What we ask for a slot, one request after the other.
async fn fetch(client: &reqwest::Client, node: &Solnode, slot: u64) -> Duration {
    let started = Instant::now();
    let commitment = |level: &str| json!({ "commitment": level });
    let look = [
        ("getSlot", json!([commitment("confirmed")])),
        ("getSlot", json!([commitment("finalized")])),
        ("getBlocks", json!([slot, slot + 100, commitment("confirmed")])),
    ];
    post(client, &node.http(), &look).await;
    let options = json!({
        "encoding": "json", "transactionDetails": "accounts", "rewards": false, "maxSupportedTransactionVersion": 255,
        "commitment": "confirmed",
    });
    post(client, &node.http(), &[("getBlock", json!([slot, options]))]).await;
    started.elapsed()
}

/// One call alone, several in a batch.
async fn post(client: &reqwest::Client, url: &str, calls: &[(&str, Value)]) -> Value {
    let call = |(id, (method, params)): (usize, &(&str, Value))| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    let mut calls: Vec<_> = calls.iter().enumerate().map(call).collect();
    let body = if calls.len() == 1 { calls.remove(0) } else { json!(calls) };
    let post = client.post(url).header("content-type", "application/json").body(body.to_string());
    let text = post.send().await.expect("answers").text().await.expect("a body");
    serde_json::from_str(&text).expect("JSON")
}

/// Subscribes to each signature on one socket; when each was notified.
async fn subscribe(url: String, signatures: Vec<String>) -> Vec<(String, Instant)> {
    let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.expect("connects");
    let mut waiting = HashMap::new();
    for (id, signature) in signatures.iter().enumerate() {
        let params = json!([signature, { "commitment": "confirmed" }]);
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": "signatureSubscribe", "params": params });
        socket.send(Message::text(call.to_string())).await.expect("sends");
    }
    let mut known = Vec::new();
    while known.len() < signatures.len() {
        let Message::Text(text) = socket.next().await.expect("stays").expect("goes on") else { continue };
        let at = Instant::now();
        let said: Value = serde_json::from_str(&text).expect("JSON");
        if let Some(id) = said["id"].as_u64().and_then(|id| usize::try_from(id).ok()) {
            waiting.insert(said["result"].as_u64().expect("a subscription"), signatures[id].clone());
        } else if let Some(signature) = said["params"]["subscription"].as_u64().and_then(|id| waiting.remove(&id)) {
            known.push((signature, at));
        }
    }
    known
}

/// Asks for the statuses of all that are open; when each was known to be confirmed.
async fn poll(url: String, mut open: BTreeSet<String>) -> Vec<(String, Instant)> {
    let client = reqwest::Client::new();
    let mut known = Vec::new();
    let mut ticks = tokio::time::interval(PACE);
    while !open.is_empty() {
        ticks.tick().await;
        let asked: Vec<_> = open.iter().cloned().collect();
        for signatures in asked.chunks(STATUSES) {
            let answer = post(&client, &url, &[("getSignatureStatuses", json!([signatures]))]).await;
            let at = Instant::now();
            for (n, signature) in signatures.iter().enumerate() {
                if matches!(
                    answer["result"]["value"][n]["confirmationStatus"].as_str(),
                    Some("confirmed" | "finalized")
                ) {
                    open.remove(signature);
                    known.push((signature.clone(), at));
                }
            }
        }
    }
    known
}

/// What a signature takes that is waited for.
pub async fn memory(report: &mut Report) {
    let node = Agave::start().await;
    node.produce(40);
    let (tap, _sockets, service, mut client) = service(&node.network(), (node.port, node.ws_port), true).await;
    let (pid, shop) = (service.pid().expect("it runs"), key("shop"));
    let spec = |n: u64| spec(tx(&stranger(n).to_string()), &shop, 7, 1);
    open(&mut client, 0..1, spec).await;
    let before = memory_in(pid).resident;
    open(&mut client, 1..OPEN + 1, spec).await;
    quiet(&tap, &["getSignatureStatuses"], async || client.head(node.produce(1) - 1).await).await;
    let ours = each(memory_in(pid).resident.saturating_sub(before), OPEN);
    drop(service);
    let real = Solnode::manual().await;
    let theirs = memory_of("solana", &real.ws(), OPEN).await;
    let row = Row::of("Solana, memory for each of 10,000 pending signatures", "bytes", ours);
    report.rows.push(row.peer("solana-pubsub-client", theirs));
}

/// Subscribes to signatures that nobody ever sends; the bytes by which this process grew.
pub async fn hold(url: &str, count: u64) -> u64 {
    let client = PubsubClient::new(url).await.expect("connects");
    let first = client.signature_subscribe(&stranger(0), None).await.expect("subscribes");
    let before = memory_in(std::process::id()).resident;
    let mut held = Vec::new();
    for n in 1..=count {
        held.push(client.signature_subscribe(&stranger(n), None).await.expect("subscribes"));
    }
    let grown = memory_in(std::process::id()).resident.saturating_sub(before);
    drop((first, held));
    grown
}
