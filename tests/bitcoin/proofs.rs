//! Inclusion proofs of real blocks, from a bitcoind and from an Electrum server, verified without the service.

use h402_watch_proto::v1;
use serde_json::json;

use crate::BINARY;
use crate::support::bitcoind::Bitcoind;
use crate::support::client::{Client, Seen, address, spec, tx};
use crate::support::electrum::ElectrumServer;
use crate::support::proofs::{keys, proofs, proven};
use crate::support::service::{Service, Setup};

async fn settled(client: &mut Client, id: &str) -> Vec<Seen> {
    client.until(id, "settled:success").await;
    client.receipts(id).await
}

fn proving(setup: Setup) -> Setup {
    Setup { network: "proofs = true\n".into(), ..setup }
}

/// A bitcoind with an Electrum server on it, and a service on each.
struct Pair {
    node: Bitcoind,
    server: ElectrumServer,
    services: [Service; 2],
}

impl Pair {
    async fn start() -> Self {
        let node = Bitcoind::with(&["-txindex=1"]).await;
        let server = ElectrumServer::start(&node).await;
        let setup = Setup::bitcoin(&node, Some(node.zmq()));
        let over_rpc = Service::start(BINARY, proving(setup)).await;
        let over_electrum = Service::start(BINARY, proving(Setup::electrum(&[&server]))).await;
        Self { node, server, services: [over_rpc, over_electrum] }
    }

    async fn mine(&self, n: u64) {
        self.node.mine(n).await;
        let height = self.node.height().await;
        self.server.wait_for_height(height).await;
        for service in &self.services {
            service.client().await.head(height).await;
        }
    }
}

/// Every shape of tree: with a level that has no partner for its last node, at each height of it.
#[tokio::test]
async fn payments_anywhere_in_a_block_are_proven() {
    let pair = Pair::start().await;
    let node = &pair.node;
    // Coins of their own, so that no payment waits for the change of another.
    let coins: Vec<_> = std::iter::repeat_with(|| 1_000_000_u64).take(60).collect();
    let mut own = Vec::new();
    for amount in coins {
        own.push((node.payer_address().await, amount));
    }
    let own: Vec<(&str, u64)> = own.iter().map(|(address, amount)| (address.as_str(), *amount)).collect();
    node.pay_many(&own).await;
    pair.mine(1).await;
    for payments in [1_usize, 2, 4, 6, 10, 16] {
        let shop = node.address().await;
        for n in 0..payments {
            node.pay(&shop, 10_000 + u64::try_from(n).expect("few")).await;
        }
        pair.mine(1).await;
        let block = node.call("getblock", json!([node.best().await, 2])).await;
        let txs = block["tx"].as_array().expect("a list");
        assert_eq!(txs.len(), payments + 1, "with the coinbase");
        let mut asked = Vec::new();
        for (place, paid) in txs.iter().enumerate().skip(1) {
            let txid = paid["txid"].as_str().expect("an id").to_owned();
            asked.push((place, spec(tx(&txid), &shop, 10_000, 3)));
        }
        let mut ids = Vec::new();
        for service in &pair.services {
            let mut client = service.client().await;
            let specs = asked.iter().map(|(_, spec)| spec.clone()).collect();
            ids.push(client.create_all(specs).await);
        }
        pair.mine(2).await;
        for (service, ids) in pair.services.iter().zip(ids) {
            let keys = keys(service).await;
            let mut client = service.client().await;
            for ((place, _), id) in asked.iter().zip(ids) {
                let receipts = settled(&mut client, &id).await;
                assert_eq!(proven(&receipts, &keys), [2], "place {place} of {payments}");
                assert_eq!(proofs(receipts.last().expect("settled"))[0]["index"], *place);
            }
        }
    }
}

/// The same request of both services: what is found by a whole block and by a branch is the same evidence, byte for byte.
#[tokio::test]
async fn a_node_and_an_electrum_server_give_the_same_bytes() {
    let pair = Pair::start().await;
    let shop = pair.node.address().await;
    let deadline_ms = crate::support::client::now_ms() + 600_000;
    let mut spec = spec(address(), &shop, 50_000, 3);
    spec.terms.as_mut().expect("terms").deadline_ms = deadline_ms;
    let mut all = Vec::new();
    let mut ids = Vec::new();
    for service in &pair.services {
        ids.push(service.client().await.create(v1::WatchSpec { network: "dev".into(), ..spec.clone() }).await);
    }
    pair.node.pay(&shop, 50_000).await;
    for (service, id) in pair.services.iter().zip(&ids) {
        service.client().await.until(id, "seen").await;
    }
    pair.mine(3).await;
    for (service, id) in pair.services.iter().zip(&ids) {
        let keys = keys(service).await;
        let receipts = settled(&mut service.client().await, id).await;
        assert_eq!(proven(&receipts, &keys), [2]);
        all.push(receipts.into_iter().map(|seen| seen.artefact).collect::<Vec<_>>());
    }
    assert_eq!(all[0], all[1]);
}

/// The first transaction of a block is its coinbase: it proves itself, and waits until it may be spent.
#[tokio::test]
async fn a_coinbase_is_proven_at_index_0() {
    let node = Bitcoind::start().await;
    let service = Service::start(BINARY, proving(Setup::bitcoin(&node, None))).await;
    let mut client = service.client().await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 1_000, 2)).await;
    node.mine_to(&shop, 1).await;
    client.until(&id, "included").await;
    node.mine(100).await;
    let receipts = settled(&mut client, &id).await;
    assert_eq!(proven(&receipts, &keys(&service).await), [1]);
    let proof = &proofs(receipts.last().expect("settled"))[0];
    assert_eq!((proof["index"].as_u64(), &proof["transaction"]), (Some(0), &proof["coinbase"]));
}
