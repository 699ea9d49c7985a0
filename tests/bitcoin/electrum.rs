//! The same payments through Electrum servers, without a node of one's own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use h402_watch_proto::v1;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::bitcoind::{Bitcoind, SHOP};
use crate::support::client::{Client, PATIENCE, Seen, address, now_ms, spec, tx, with};
use crate::support::electrum::ElectrumServer;
use crate::support::service::{Service, Setup};
use crate::{BINARY, spend};

async fn world() -> (Bitcoind, ElectrumServer, Service, Client) {
    let node = Bitcoind::with(&["-txindex=1"]).await;
    let server = ElectrumServer::start(&node).await;
    let service = Service::start(BINARY, Setup::electrum(&[&server])).await;
    let client = service.client().await;
    (node, server, service, client)
}

#[tokio::test]
async fn a_payment_is_found_by_address_and_by_txid() {
    let (node, _server, service, mut client) = world().await;
    let shop = node.address().await;
    let before = client.create(spec(address(), &shop, 50_000, 2)).await;
    let txid = node.pay(&shop, 50_000).await;
    let named = client.create(spec(tx(&txid), &shop, 50_000, 2)).await;
    for id in [&before, &named] {
        client.until(id, "seen").await;
    }
    node.mine(1).await;
    for id in [&before, &named] {
        client.until(id, "included").await;
    }
    node.mine(1).await;
    let story = client.until(&before, "settled:success").await;
    assert_eq!(story, ["seen", "included", "settled:success"], "{}", service.log());
    // Another watch finds what lies below.
    let late = spec(tx(&txid), &shop, 40_000, 1);
    let late = client.create(late).await;
    client.until(&late, "settled:failed:already_claimed").await;
}

#[tokio::test]
async fn a_bump_still_pays_or_does_not() {
    let (node, _server, service, mut client) = world().await;
    let (kept, lost) = (node.address().await, node.address().await);
    let (first, second) = (node.pay(&kept, 50_000).await, node.pay(&lost, 60_000).await);
    let pays = client.create(spec(tx(&first), &kept, 50_000, 1)).await;
    let fails = client.create(spec(tx(&second), &lost, 60_000, 1)).await;
    for id in [&pays, &fails] {
        client.until(id, "seen").await;
    }
    node.bump(&first).await;
    let (_, hex) = node.double_spend(&second, &node.payer_address().await, 1_000, true).await;
    node.send_raw(&hex).await.expect("a replacement");
    client.has(&pays, "replaced").await;
    node.mine(1).await;
    let story = client.until(&pays, "settled:success").await;
    assert!(story.contains(&"replaced".to_owned()), "{story:?}\n{}", service.log());
    client.until(&fails, "settled:failed:replaced").await;
}

#[tokio::test]
async fn a_double_spend_that_is_mined_directly_is_found() {
    let (node, _server, _service, mut client) = world().await;
    let shop = node.address().await;
    let (paid, hex) = node.raw_payment(&shop, 50_000, false).await;
    node.send_raw(&hex).await.expect("a payment");
    let id = client.create(spec(tx(&paid), &shop, 50_000, 1)).await;
    client.until(&id, "seen").await;
    // The engine has to have said what the payment uses up.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (_, conflict) = node.double_spend(&paid, &node.payer_address().await, 1_000, false).await;
    node.mine_with(&[&conflict]).await;
    client.until(&id, "settled:failed:conflicted").await;
}

#[tokio::test]
async fn a_transaction_moves_to_another_block_of_the_same_height() {
    let (node, server, service, mut client) = world().await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 50_000, 4)).await;
    let txid = node.pay(&shop, 50_000).await;
    client.until(&id, "seen").await;
    let left = node.mine(1).await.remove(0);
    client.until(&id, "included").await;
    node.invalidate(&left).await;
    let hex = node.raw(&txid).await;
    node.mine_with(&[&hex]).await;
    node.mine(1).await;
    server.wait_for_height(node.height().await).await;
    node.mine(2).await;
    let story = client.until(&id, "settled:success").await;
    assert_eq!(story, ["seen", "included", "orphaned", "included", "settled:success"], "{}", service.log());
    let settled = client.receipts(&id).await.pop().expect("a settlement");
    let text = String::from_utf8(settled.bytes).expect("UTF-8");
    assert!(!text.contains(&left), "the block that left the chain: {text}");
}

#[tokio::test]
async fn a_transaction_vanishes_in_a_reorg() {
    let (node, _server, service, mut client) = world().await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 50_000, 3)).await;
    let txid = node.pay(&shop, 50_000).await;
    client.until(&id, "seen").await;
    let (_, conflict) = node.double_spend(&txid, &node.payer_address().await, 1_000, true).await;
    let left = node.mine(1).await.remove(0);
    client.until(&id, "included").await;
    node.invalidate(&left).await;
    node.mine_with(&[&conflict]).await;
    node.mine(1).await;
    let story = client.until(&id, "orphaned").await;
    assert_eq!(story, ["seen", "included", "orphaned"], "{}", service.log());
}

#[tokio::test]
async fn a_server_dies_and_another_one_carries_on() {
    let node = Bitcoind::with(&["-txindex=1"]).await;
    let first = ElectrumServer::start(&node).await;
    let second = ElectrumServer::start(&node).await;
    let service = Service::start(BINARY, Setup::electrum(&[&first, &second])).await;
    let mut client = service.client().await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 50_000, 2)).await;
    node.pay(&shop, 50_000).await;
    let other = node.address().await;
    let txid = node.pay(&other, 50_000).await;
    let named = client.create(spec(tx(&txid), &other, 50_000, 2)).await;
    client.until(&id, "seen").await;
    drop(first);
    node.mine(2).await;
    for id in [&id, &named] {
        client.until(id, "settled:success").await;
    }
    let started = tokio::time::Instant::now();
    loop {
        let network = client.health("following").await;
        if network.endpoints[0].errors > 0 && !network.endpoints[0].detail.is_empty() {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{network:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_server_that_comes_back_is_subscribed_to_again() {
    let (node, mut server, service, mut client) = world().await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 50_000, 2)).await;
    node.pay(&shop, 50_000).await;
    client.until(&id, "seen").await;
    server.stop();
    client.health("degraded").await;
    node.mine(1).await;
    server.start_again(&node).await;
    client.until(&id, "included").await;
    let other = node.address().await;
    let later = client.create(spec(address(), &other, 60_000, 1)).await;
    node.pay(&other, 60_000).await;
    client.until(&later, "seen").await;
    node.mine(1).await;
    for id in [&id, &later] {
        client.until(id, "settled:success").await;
    }
    drop(service);
}

#[tokio::test]
async fn a_server_of_another_chain_is_not_used() {
    let node = Bitcoind::with(&["-txindex=1"]).await;
    let server = ElectrumServer::start(&node).await;
    let id = "bip122:00000000da84f2bafbbc53dee25a72ae".to_owned();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let setup = Setup { id, ..Setup::electrum(&[&server]) };
    let mut service = Service::in_folder(BINARY, setup, folder.path().to_owned());
    service.spawn();
    service.wait_until_listening().await;
    let mut client = service.client().await;
    let network = client.health("degraded").await;
    assert!(!network.endpoints[0].up);
    assert!(network.endpoints[0].detail.contains("does not begin as testnet4 does"), "{:?}", network.endpoints[0]);
    assert!(network.head.is_none());
}

/// What a client asks, of either service.
fn requests(now: u64, paid: &[(String, String)], by_address: &[String]) -> Vec<v1::WatchSpec> {
    let timed = |spec, ahead: u64| with(spec, |terms| terms.deadline_ms = now + ahead);
    let named = paid.iter().map(|(txid, shop)| timed(spec(tx(txid), shop, 50_000, 2), 300_000));
    let short = by_address.iter().map(|shop| timed(spec(address(), shop, 90_000, 1), 15_000));
    named.chain(short).collect()
}

#[tokio::test]
async fn the_same_scenario_gives_the_same_settlements_over_both() {
    let node = Bitcoind::with(&["-txindex=1"]).await;
    let server = ElectrumServer::start(&node).await;
    let services = [
        Service::start(BINARY, Setup::bitcoin(&node, Some(node.zmq()))).await,
        Service::start(BINARY, Setup::electrum(&[&server])).await,
    ];
    let mut paid = Vec::new();
    for kind in ["bech32", "bech32m", "legacy", "bech32"] {
        let shop = node.address_of(kind).await;
        paid.push((node.pay(&shop, 50_000).await, shop));
    }
    let partial = node.address().await;
    let requests = requests(now_ms(), &paid, std::slice::from_ref(&partial));
    let mut clients = Vec::new();
    let mut ids = Vec::new();
    for service in &services {
        let mut client = service.client().await;
        let mut own = Vec::new();
        for request in &requests {
            own.push(client.create(request.clone()).await);
        }
        for id in &own[..paid.len()] {
            client.until(id, "seen").await;
        }
        clients.push(client);
        ids.push(own);
    }
    node.pay(&partial, 30_000).await;
    // The second is bumped, the third replaced, the fourth double-spent in a block.
    node.bump(&paid[1].0).await;
    let (_, replacement) = node.double_spend(&paid[2].0, &node.payer_address().await, 1_000, true).await;
    node.send_raw(&replacement).await.expect("a replacement");
    let (_, conflict) = node.double_spend(&paid[3].0, &node.payer_address().await, 1_000, true).await;
    for (client, ids) in clients.iter_mut().zip(&ids) {
        client.has(&ids[1], "replaced").await;
        client.until(&ids[4], "seen").await;
    }
    let mut all = node.mempool().await;
    all.retain(|txid| *txid != paid[3].0);
    let all: Vec<_> = all.iter().map(String::as_str).chain([conflict.as_str()]).collect();
    let left = node.mine_with(&all).await;
    for (client, ids) in clients.iter_mut().zip(&ids) {
        client.until(&ids[0], "included").await;
    }
    node.invalidate(&left).await;
    let raw: Vec<_> = node.mempool().await;
    node.mine_with(&raw.iter().map(String::as_str).collect::<Vec<_>>()).await;
    node.mine(2).await;
    let expected = [
        "settled:success",
        "settled:success",
        "settled:failed:replaced",
        "settled:failed:replaced",
        "settled:partial:underpaid",
    ];
    for (client, ids) in clients.iter_mut().zip(&ids) {
        for (id, expected) in ids.iter().zip(expected) {
            client.until(id, expected).await;
        }
    }
    for place in 0..requests.len() {
        let (mut settled, mut stories) = (Vec::new(), Vec::new());
        for (client, ids) in clients.iter_mut().zip(&ids) {
            let receipts = client.receipts(&ids[place]).await;
            stories.push(receipts.iter().map(Seen::short).collect::<Vec<_>>());
            settled.push(receipts.last().map(|last| String::from_utf8_lossy(&last.bytes).into_owned()));
        }
        assert_eq!(settled[0], settled[1], "watch {place}: {stories:?}");
    }
}

/// A server has an index: what was paid before is found however far back, a wallet's addresses too, and an address can be asked
/// about. A restart in the middle changes nothing.
#[tokio::test]
async fn what_was_paid_before_is_found_in_the_servers_index() {
    let node = Bitcoind::with(&["-txindex=1"]).await;
    let server = ElectrumServer::start(&node).await;
    let (shop, spent) = (node.address().await, node.address().await);
    let first = node.height().await + 1;
    node.pay(&shop, 7_000).await;
    let (txid, raw) = node.raw_payment(&spent, 600_000, true).await;
    node.send_raw(&raw).await.expect("accepted");
    node.mine(1).await;
    let (_, child) = spend(&node, SHOP, (&txid, 0), &[(&node.payer_address().await, 500_000)]).await;
    node.send_raw(&child).await.expect("accepted");
    node.mine(20).await;
    let height = node.height().await;
    server.wait_for_height(height).await;
    let setup = Setup { horizon_blocks: 8, ..Setup::electrum(&[&server]) };
    let mut service = Service::start(BINARY, setup).await;
    let mut client = service.client().await;
    let early = with(spec(address(), &shop, 7_000, 3), |terms| terms.from_height = Some(first));
    let early = client.create(early).await;
    client.has(&early, "settled:success").await;
    let by_tx = client.create(spec(tx(&txid), &spent, 600_000, 3)).await;
    client.has(&by_tx, "settled:success").await;
    let id = client.create(spec(address(), &shop, 8_000, 2)).await;
    node.pay(&shop, 8_000).await;
    client.until(&id, "seen").await;
    service.kill();
    node.mine(1).await;
    service.restart().await;
    let mut client = service.client().await;
    client.until(&id, "included").await;
    node.mine(1).await;
    client.has(&id, "settled:success").await;
    assert_eq!(client.get(&id).await.received, "8000", "what was paid before the watch does not count");
    let ask = v1::CheckAddressRequest { network: "dev".into(), address: shop.clone(), ..Default::default() };
    let report = client.inner.check_address(ask).await.expect("answers").into_inner();
    assert_eq!((report.total.as_str(), report.transfers[0].depth), ("8000", 2), "as far as blocks are kept");
}

/// Changes what a server says, line by line.
struct Liar {
    port: u16,
    lie: Arc<Mutex<Lie>>,
}

type Lie = Box<dyn Fn(String) -> String + Send>;

impl Liar {
    /// In front of a server, honest at first.
    async fn before(server: &ElectrumServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let lie: Arc<Mutex<Lie>> = Arc::new(Mutex::new(Box::new(|line| line)));
        let (shared, upstream) = (Arc::clone(&lie), server.port);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else { continue };
                let ((mut asks, mut told), (says, mut asked)) = (client.into_split(), server.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut asks, &mut asked).await });
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let mut lines = BufReader::new(says).lines();
                    while let Ok(Some(line)) = lines.next_line().await {
                        let line = (shared.lock().expect("no panic"))(line) + "\n";
                        if told.write_all(line.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, lie }
    }

    fn lie(&self, lie: impl Fn(String) -> String + Send + 'static) {
        *self.lie.lock().expect("no panic") = Box::new(lie);
    }
}

/// A transaction that pays more than was mined, and a proof that leads elsewhere: neither is believed, and the truth is taken
/// when it comes.
#[tokio::test]
async fn a_server_that_lies_delays_and_never_pays() {
    let node = Bitcoind::with(&["-txindex=1"]).await;
    let server = ElectrumServer::start(&node).await;
    let liar = Liar::before(&server).await;
    let mut setup = Setup::electrum(&[&server]);
    setup.endpoints[0].1 = format!("tcp://127.0.0.1:{}", liar.port);
    let service = Service::start(BINARY, setup).await;
    let mut client = service.client().await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 5_000, 1)).await;
    // 4000 satoshi become 5000.
    liar.lie(|line| line.replacen("a00f000000000000", "8813000000000000", 1));
    let (_, raw) = node.raw_payment(&shop, 4_000, true).await;
    node.mine_with(&[&raw]).await;
    client.mentions("another transaction than was asked for").await;
    assert_eq!(client.receipts(&id).await.len(), 0);
    // A branch of its own making.
    liar.lie(|line| match line.split_once("\"merkle\": [\"").or_else(|| line.split_once("\"merkle\":[\"")) {
        Some((before, rest)) => format!("{before}\"merkle\":[\"{}{}", "ab".repeat(32), &rest[64..]),
        None => line,
    });
    client.mentions("leads to another block").await;
    assert_eq!(client.receipts(&id).await.len(), 0);
    liar.lie(|line| line);
    client.until(&id, "included").await;
    assert_eq!(client.get(&id).await.received, "4000");
}
