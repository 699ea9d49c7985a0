//! Nodes that are away, slow, behind, or of another chain; announcements that are lost, doubled and out of order.

use std::time::Duration;

use h402_watch_proto::v1;
use serde_json::{Value, json};

use crate::support::bitcoind::{Bitcoind, anybody};
use crate::support::client::{Client, PATIENCE, address, now_ms, spec, tx, with};
use crate::support::proxy::{Proxy, Reply};
use crate::support::service::{Service, Setup};
use crate::support::zmq::{Fate, ZmqProxy};
use crate::{BINARY, world, world_with};

/// A service that hears of a node through a ZeroMQ proxy, and polls it seldom: what it misses there it has to find otherwise.
async fn behind(fate: Fate) -> (Bitcoind, ZmqProxy, Service, Client) {
    let node = Bitcoind::start().await;
    let proxy = ZmqProxy::start(&node.zmq()).await;
    proxy.behave(fate).await;
    let setup = Setup { poll_interval_ms: 1000, ..Setup::bitcoin(&node, Some(proxy.url())) };
    let service = Service::start(BINARY, setup).await;
    let client = service.client().await;
    (node, proxy, service, client)
}

/// A service that asks a node through an HTTP proxy, and hears of it directly.
async fn behind_http(change: impl FnOnce(&mut Setup)) -> (Bitcoind, Proxy, Service, Client) {
    let node = Bitcoind::start().await;
    let proxy = Proxy::before(&node.url()).await;
    let mut setup = Setup::bitcoin(&node, Some(node.zmq()));
    setup.endpoints = vec![("node".into(), proxy.http(), None)];
    change(&mut setup);
    let service = Service::start(BINARY, setup).await;
    let client = service.client().await;
    (node, proxy, service, client)
}

/// A payment, a bump, a double spend and a reorg. What was seen in a mempool in between depends on how fast one looks; the
/// outcomes don't.
async fn scenario(node: &Bitcoind, client: &mut Client) -> Vec<String> {
    let shops = [node.address().await, node.address().await, node.address().await];
    let mut ids = Vec::new();
    for shop in &shops {
        ids.push(client.create(spec(address(), shop, 5000, 4)).await);
    }
    let paid = [node.pay(&shops[0], 5000).await, node.pay(&shops[1], 5000).await, node.pay(&shops[2], 5000).await];
    let doubled = client.create(spec(tx(&paid[2]), &shops[2], 5000, 4)).await;
    client.has(&doubled, "seen").await;
    node.bump(&paid[1]).await;
    let (_, conflict) = node.double_spend(&paid[2], &node.payer_address().await, 5000, true).await;
    let block = node.mine(2).await.remove(0);
    client.has(&ids[0], "included").await;
    node.invalidate(&block).await;
    node.mine_with(&[&conflict]).await;
    node.mine(3).await;
    for id in &ids[..2] {
        client.has(id, "included").await;
    }
    node.mine(4).await;
    client.has(&ids[0], "settled:success").await;
    client.has(&ids[1], "settled:success").await;
    client.has(&doubled, "settled:failed:replaced").await;
    let mut outcomes = Vec::new();
    for id in ids.iter().chain([&doubled]) {
        let watch = client.get(id).await;
        let settled = client.receipts(id).await.iter().filter(|receipt| receipt.kind == "settled").count();
        outcomes.push(format!("{settled} {:?} {} {}", watch.outcome(), watch.reason, watch.received));
    }
    outcomes
}

const EXPECTED: [&str; 4] = ["1 Success  5000", "1 Success  5000", "0 Unspecified  0", "1 Failed replaced 0"];

/// Edge case 40: nothing announced at all, and no such thing configured.
#[tokio::test]
async fn polling_alone_has_the_same_outcomes() {
    let node = Bitcoind::start().await;
    let service = Service::start(BINARY, Setup::bitcoin(&node, None)).await;
    assert_eq!(scenario(&node, &mut service.client().await).await, EXPECTED);
}

/// Edge case 40: all announcements lost, on a connection that looks alive.
#[tokio::test]
async fn dropped_announcements_lose_nothing() {
    let (node, _proxy, _service, mut client) = behind(Fate::DropAll).await;
    assert_eq!(scenario(&node, &mut client).await, EXPECTED);
}

/// Edge case 40: every other one lost.
#[tokio::test]
async fn gaps_in_the_announcements_lose_nothing() {
    let (node, _proxy, _service, mut client) = behind(Fate::DropEvery(2)).await;
    assert_eq!(scenario(&node, &mut client).await, EXPECTED);
}

/// Each announced twice.
#[tokio::test]
async fn doubled_announcements_double_nothing() {
    let (node, _proxy, _service, mut client) = behind(Fate::Duplicate).await;
    assert_eq!(scenario(&node, &mut client).await, EXPECTED);
}

/// Held back, and let go in reverse order, long after.
#[tokio::test]
async fn announcements_out_of_order_change_nothing() {
    let (node, proxy, _service, mut client) = behind(Fate::Hold).await;
    let outcomes = scenario(&node, &mut client).await;
    proxy.release().await;
    node.mine(1).await;
    client.head(node.height().await).await;
    assert_eq!(outcomes, EXPECTED);
    let (shop, before) = (node.address().await, node.height().await);
    let id = client.create(spec(address(), &shop, 5000, 1)).await;
    node.pay(&shop, 5000).await;
    node.mine(1).await;
    client.until(&id, "settled:success").await;
    assert_eq!(node.height().await, before + 1);
}

/// An announced payment is seen before the next poll.
#[tokio::test]
async fn announcements_are_quicker_than_polls() {
    let node = Bitcoind::start().await;
    let setup = Setup { poll_interval_ms: 60_000, ..Setup::bitcoin(&node, Some(node.zmq())) };
    let service = Service::start(BINARY, setup).await;
    let mut client = service.client().await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 5000, 1)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    node.pay(&shop, 5000).await;
    client.until(&id, "seen").await;
    node.mine(1).await;
    client.until(&id, "settled:success").await;
}

/// Edge case 38: bitcoind goes away in the middle, with its mempool, and comes back.
#[tokio::test]
async fn bitcoind_restarted_in_the_middle() {
    let (mut node, _service, mut client) = world().await;
    let shops = [node.address().await, node.address().await];
    let first = client.create(spec(address(), &shops[0], 5000, 3)).await;
    let second = client.create(spec(address(), &shops[1], 5000, 1)).await;
    node.pay(&shops[0], 5000).await;
    node.mine(1).await;
    client.until(&first, "included").await;
    node.stop().await;
    client.health("degraded").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    node.start_again().await;
    node.pay(&shops[1], 5000).await;
    client.until(&second, "seen").await;
    node.mine(2).await;
    client.until(&first, "settled:success").await;
    let kinds: Vec<_> = client.receipts(&first).await.into_iter().map(|receipt| receipt.kind).collect();
    assert!(!kinds.contains(&"orphaned".into()), "{kinds:?}");
    client.until(&second, "settled:success").await;
    client.health("following").await;
}

/// What left the mempool while the service was down is told of.
#[tokio::test]
async fn what_left_the_mempool_unseen_is_evicted() {
    let (mut node, mut service, mut client) = world_with(&["-walletbroadcast=0"], |_| {}).await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 5000, 1)).await;
    let (_, raw) = node.raw_payment(&shop, 5000, true).await;
    node.send_raw(&raw).await.expect("accepted");
    client.until(&id, "seen").await;
    assert!(service.stop().await, "ends well");
    node.kill();
    node.start_again().await;
    service.restart().await;
    let mut client = service.client().await;
    assert_eq!(client.until(&id, "evicted").await, ["seen", "evicted"]);
}

/// Edge case 37: the deadline passes while no node answers; nothing is decided until one does.
#[tokio::test]
async fn a_deadline_is_not_decided_blindly() {
    let (mut node, _service, mut client) = world().await;
    let shop = node.address().await;
    let soon = now_ms() + 2500;
    let id = client.create(with(spec(address(), &shop, 5000, 1), |terms| terms.deadline_ms = soon)).await;
    let (_, raw) = node.raw_payment(&shop, 5000, true).await;
    node.stop().await;
    client.health("degraded").await;
    // Until the deadline has passed, and the service has tried to learn of it.
    tokio::time::sleep(Duration::from_millis(soon.saturating_sub(now_ms()))).await;
    client.tries_again().await;
    client.tries_again().await;
    assert_eq!(client.get(&id).await.state(), v1::State::Pending, "absence is no fact");
    node.start_again().await;
    // A block that states a time before the deadline comes all the same.
    node.call("setmocktime", json!([soon / 1000 - 1])).await;
    node.mine_with(&[&raw]).await;
    client.has(&id, "settled:success").await;
}

/// RPC timeouts and full work queues.
#[tokio::test]
async fn timeouts_and_503_delay_and_lose_nothing() {
    let (node, proxy, _service, mut client) = behind_http(|_| {}).await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 5000, 2)).await;
    node.pay(&shop, 5000).await;
    client.until(&id, "seen").await;
    proxy.behave(|_, _, _| Reply::Http(503, None, "Work queue depth exceeded"));
    node.mine(1).await;
    client.health("degraded").await;
    proxy.behave(|method, _, result| match method {
        // Longer than a request may take.
        "getblock" => Reply::Later(Duration::from_secs(16), Box::new(Reply::Result(result))),
        _ => Reply::Result(result),
    });
    client.complains("no answer within").await;
    proxy.behave(|_, _, _| Reply::Error(-28, "Loading block index..."));
    client.complains("starting: ").await;
    assert_eq!(client.receipts(&id).await.len(), 1);
    proxy.behave(|_, _, result| Reply::Result(result));
    node.mine(1).await;
    assert_eq!(client.until(&id, "settled:success").await, ["seen", "included", "settled:success"]);
}

/// A block whose bytes are not those of its hash is not believed; nor is one whose transactions are not those of its header.
#[tokio::test]
async fn a_falsified_block_is_refused() {
    let (node, proxy, _service, mut client) = behind_http(|_| {}).await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 5000, 1)).await;
    node.pay(&shop, 4000).await;
    client.until(&id, "seen").await;
    proxy.behave(|method, _, result| match (method, result.as_str()) {
        ("getblock", Some(hex)) => Reply::Result(hex.replacen("a00f000000000000", "8813000000000000", 1).into()),
        _ => Reply::Result(result),
    });
    node.mine(1).await;
    client.complains("transactions are not those of its header").await;
    assert_eq!(client.receipts(&id).await.len(), 1, "seen, and no more");
    proxy.behave(|_, _, result| Reply::Result(result));
    client.until(&id, "included").await;
    assert_eq!(client.get(&id).await.received, "4000");
}

/// A node of another chain is not listened to, nor one that does not let us in.
#[tokio::test]
async fn strangers_and_locked_doors_are_passed_over() {
    let node = Bitcoind::start().await;
    let proxy = Proxy::before(&node.url()).await;
    proxy.behave(|method, params, result| match (method, params) {
        ("getblockhash", params) if params == &json!([0]) => {
            Reply::Result("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f".into())
        }
        _ => Reply::Result(result),
    });
    let endpoints = vec![
        ("stranger".to_owned(), proxy.http(), None),
        ("locked".to_owned(), format!("http://nobody:nothing@127.0.0.1:{}", node.port), None),
        ("node".to_owned(), node.url(), None),
    ];
    let service = Service::start(BINARY, Setup { endpoints, ..Setup::regtest() }).await;
    let mut client = service.client().await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 5000, 1)).await;
    node.pay(&shop, 5000).await;
    node.mine(1).await;
    client.has(&id, "settled:success").await;
    let network = client.health("following").await;
    let detail = |name: &str| network.endpoints.iter().find(|it| it.name == name).expect("listed").detail.clone();
    assert!(detail("stranger").contains("does not begin as regtest does"), "{}", detail("stranger"));
    assert!(detail("locked").contains("401"), "{}", detail("locked"));
    assert!(!service.log().contains("nothing@"), "credentials stand in no log");
}

/// Two nodes that are not connected, the second with the blocks of the first.
async fn twins() -> (Bitcoind, Bitcoind) {
    let (first, second) = (Bitcoind::start().await, Bitcoind::start().await);
    assert_eq!(first.best().await, second.best().await, "both from the template");
    (first, second)
}

/// Gives a node the blocks of another.
async fn hand_over(from: &Bitcoind, to: &Bitcoind, heights: std::ops::RangeInclusive<u64>) {
    for height in heights {
        let block = from.call("getblock", json!([from.block_hash(height).await, 0])).await;
        to.call("submitblock", json!([block])).await;
    }
}

/// Edge case 39: with a quorum of two, what one node has alone does not count.
#[tokio::test]
async fn two_nodes_have_to_agree_where_a_quorum_is_asked_for() {
    let (first, second) = twins().await;
    let endpoints = vec![("first".to_owned(), first.url(), None), ("second".to_owned(), second.url(), None)];
    let setup = Setup { endpoints, network: "quorum = 2".into(), ..Setup::regtest() };
    let service = Service::start(BINARY, setup).await;
    let mut client = service.client().await;
    let shop = first.address().await;
    let id = client.create(spec(address(), &shop, 5000, 1)).await;
    let (_, raw) = first.raw_payment(&shop, 5000, true).await;
    first.mine_with(&[&raw]).await;
    let height = first.height().await;
    // The service has heard of the block, and has asked the other node.
    claims(&mut client, "first", height).await;
    let asked = requests_of(&mut client, "second").await;
    while requests_of(&mut client, "second").await < asked + 4 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.receipts(&id).await.len(), 0);
    hand_over(&first, &second, height..=height).await;
    client.until(&id, "settled:success").await;
}

/// Waits until an endpoint claims a block as its tip.
async fn claims(client: &mut Client, name: &str, height: u64) {
    let started = tokio::time::Instant::now();
    while endpoint(client, name).await.tip.is_none_or(|tip| tip.height < height) {
        assert!(started.elapsed() < PATIENCE, "waiting for {name} to claim {height}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn requests_of(client: &mut Client, name: &str) -> u64 {
    endpoint(client, name).await.requests
}

async fn endpoint(client: &mut Client, name: &str) -> v1::Endpoint {
    let networks = client.inner.list_networks(v1::ListNetworksRequest {}).await.expect("answers").into_inner();
    let network = networks.networks.into_iter().next().expect("one network");
    network.endpoints.into_iter().find(|endpoint| endpoint.name == name).expect("listed")
}

/// One node lags behind the other, and is asked first.
#[tokio::test]
async fn a_node_that_lags_holds_nothing_up() {
    let (first, second) = twins().await;
    let endpoints = vec![("lags".to_owned(), first.url(), None), ("leads".to_owned(), second.url(), None)];
    let service = Service::start(BINARY, Setup { endpoints, ..Setup::regtest() }).await;
    let mut client = service.client().await;
    let shop = second.address().await;
    let id = client.create(spec(address(), &shop, 5000, 2)).await;
    let (_, raw) = second.raw_payment(&shop, 5000, true).await;
    second.mine_with(&[&raw]).await;
    second.mine(3).await;
    client.has(&id, "settled:success").await;
    // Nor does it hold up look-ups, or the news that something is gone.
    let other = second.address().await;
    let (txid, raw) = second.raw_payment(&other, 6000, true).await;
    second.send_raw(&raw).await.expect("accepted");
    let pending = client.create(spec(tx(&txid), &other, 6000, 2)).await;
    client.until(&pending, "seen").await;
    let (_, conflict) = second.double_spend(&txid, &second.payer_address().await, 5000, true).await;
    second.mine_with(&[&conflict]).await;
    second.mine(1).await;
    client.has(&pending, "settled:failed:replaced").await;
    let (mined, raw) = second.raw_payment(&other, 7000, true).await;
    second.mine_with(&[&raw]).await;
    let late = client.create(spec(tx(&mined), &other, 7000, 1)).await;
    client.has(&late, "settled:success").await;
}

/// What a watch costs the node: a block costs two requests, whatever is watched (DESIGN §9).
#[tokio::test]
async fn requests_per_block_do_not_grow_with_watches() {
    const ADDRESSES: u64 = 100_000;
    const TXS: u64 = 10_000;
    const BLOCKS: u64 = 20;
    // Announced blocks, and as good as no polls.
    let (node, proxy, _service, mut client) = behind_http(|setup| setup.poll_interval_ms = 600_000).await;
    let addresses = (0..ADDRESSES).map(|n| spec(address(), &anybody(n), 5000, 1));
    let txs = (0..TXS).map(|n| spec(tx(&format!("{n:064x}")), &anybody(0), 5000, 1));
    let requests: Vec<_> = addresses.chain(txs).map(|spec| v1::CreateWatchRequest { watch: Some(spec) }).collect();
    let mut answers =
        client.inner.create_watches(futures_util::stream::iter(requests)).await.expect("streams").into_inner();
    let mut made = 0;
    while let Some(answer) = answers.message().await.expect("goes on") {
        assert!(matches!(answer.result, Some(v1::create_watches_response::Result::Ok(_))), "{answer:?}");
        made += 1;
    }
    assert_eq!(made, ADDRESSES + TXS);
    // One more, which only its look-up can settle: it comes last, so all before it are looked up then.
    let shop = node.address().await;
    let (txid, raw) = node.raw_payment(&shop, 5000, true).await;
    node.mine_with(&[&raw]).await;
    client.head(node.height().await).await;
    let last = client.create(spec(tx(&txid), &shop, 5000, 1)).await;
    client.has(&last, "settled:success").await;
    let before = (proxy.requests(), proxy.calls());
    for _ in 0..BLOCKS {
        node.mine_empty(1).await;
        client.head(node.height().await).await;
    }
    let requests = proxy.requests() - before.0;
    let calls: Vec<_> =
        proxy.calls().into_iter().map(|(method, n)| (n - before.1.get(&method).unwrap_or(&0), method)).collect();
    assert!(requests <= 2 * BLOCKS, "{requests} requests for {BLOCKS} blocks: {calls:?}");
}

/// Without announcements too: a poll that finds a block costs two requests, one that finds none costs one (DESIGN §9). The
/// mempool comes along.
#[tokio::test]
async fn polls_ask_for_the_tip_and_the_mempool_at_once() {
    const BLOCKS: u64 = 20;
    let (node, proxy, _service, mut client) = behind_http(|setup| setup.endpoint.clear()).await;
    client.create(spec(address(), &anybody(1), 5000, 1)).await;
    node.mine_empty(1).await;
    client.head(node.height().await).await;
    let before = (proxy.requests(), proxy.calls());
    for _ in 0..BLOCKS {
        node.mine_empty(1).await;
        client.head(node.height().await).await;
    }
    let (requests, calls) = (proxy.requests() - before.0, proxy.calls());
    let of = |method: &str| calls.get(method).unwrap_or(&0) - before.1.get(method).unwrap_or(&0);
    assert!(of("getblock") >= BLOCKS, "{calls:?}");
    // A poll may be under way when one counts; one that a block comes into asks once more.
    let expected = of("getrawmempool") + of("getblock") + of("getblockchaininfo") + 2;
    assert!(requests <= expected, "{requests} requests, {expected} expected: {calls:?}");
    assert!(of("getbestblockhash") <= 2 * (of("getrawmempool") + 1), "the tip is not asked for apart: {calls:?}");
}

/// A node that does not tell what its mempool holds, or breaks on it, is followed all the same.
#[tokio::test]
async fn a_mempool_that_is_not_told_holds_no_block_up() {
    for broken in [false, true] {
        let (node, proxy, _service, mut client) = behind_http(|setup| setup.endpoint.clear()).await;
        proxy.behave(move |method, _, result| match (method, broken) {
            ("getrawmempool", false) => Reply::Error(-1, "no"),
            ("getrawmempool", true) => Reply::Http(503, None, "Work queue depth exceeded"),
            _ => Reply::Result(result),
        });
        let shop = node.address().await;
        let id = client.create(spec(address(), &shop, 5000, 1)).await;
        for _ in 0..2 {
            node.mine(1).await;
            client.head(node.height().await).await;
        }
        let (_, raw) = node.raw_payment(&shop, 5000, true).await;
        node.mine_with(&[&raw]).await;
        client.has(&id, "settled:success").await;
        proxy.behave(|_, _, result| Reply::Result(result));
        let other = node.address().await;
        let id = client.create(spec(address(), &other, 5000, 1)).await;
        node.pay(&other, 5000).await;
        client.until(&id, "seen").await;
    }
}

/// A block with many payments to many watches: each found, in the order of the block, in one commit.
#[tokio::test]
async fn a_block_with_500_payments_is_taken_whole() {
    let (node, _service, mut client) = world_with(&[], |_| {}).await;
    let shops: Vec<_> = (0..500).map(anybody).collect();
    let requests: Vec<_> = shops.iter().map(|shop| spec(address(), shop, 1000, 1)).collect();
    let requests = requests.into_iter().map(|spec| v1::CreateWatchRequest { watch: Some(spec) });
    let mut answers =
        client.inner.create_watches(futures_util::stream::iter(requests)).await.expect("streams").into_inner();
    let mut ids = Vec::new();
    while let Some(answer) = answers.message().await.expect("goes on") {
        let Some(v1::create_watches_response::Result::Ok(ok)) = answer.result else { panic!("refused") };
        ids.push(ok.watch.expect("a watch").id);
    }
    let payments: Vec<_> = shops.iter().map(|shop| (shop.as_str(), 1000)).collect();
    node.pay_many(&payments).await;
    node.mine(1).await;
    for id in &ids {
        client.has(id, "settled:success").await;
    }
    let totals: Value = node.call("getblockstats", json!([node.height().await, ["txs"]])).await;
    assert_eq!(totals["txs"], 2, "the coinbase and one payment of 500 outputs");
}
