//! Nodes that lag, stand still, refuse, fall silent and lie: what comes of it is late at most.

use std::time::Duration;

use h402_watch_proto::v1::FinalityTag;
use serde_json::json;

use crate::support::agave::Agave;
use crate::support::agave::account::{Mint, key};
use crate::support::agave::faults::{Fail, Level, Socket};
use crate::support::client::{Client, address, spec, tx, with};
use crate::support::service::{Service, Setup};
use crate::{BINARY, scripted, tagged};

/// Two nodes of one cluster, the service on both, and a client.
async fn pair(quorum: usize) -> (Agave, Agave, Service, Client) {
    let first = Agave::start().await;
    first.produce(40);
    let second = first.beside().await;
    let endpoints = [(first.http(), None), (second.http(), None)];
    let setup = Setup::solana(&first.network(), &endpoints);
    let service = Service::start(BINARY, Setup { network: format!("quorum = {quorum}"), ..setup }).await;
    let client = service.client().await;
    (first, second, service, client)
}

/// Pays a shop by address and by signature while a node fails in some way, and sees both settle.
async fn pays_through(node: &Agave, client: &mut Client, fail: impl FnOnce(), recover: impl FnOnce()) {
    let (payer, shop) = (key("payer"), key("shop"));
    let payment = node.tx(&payer).sol(&payer, &shop, 1_000);
    let by_address = client.create(spec(address(), &shop, 1_000, 2)).await;
    let by_tx = client.create(spec(tx(&payment.signature), &shop, 1_001, 2)).await;
    fail();
    node.land(payment);
    node.produce(3);
    tokio::time::sleep(Duration::from_millis(300)).await;
    recover();
    assert_eq!(client.until(&by_address, "settled:success").await, ["included", "settled:success"]);
    let story = client.until(&by_tx, "settled:failed:already_claimed").await;
    assert_eq!(story.iter().filter(|short| *short == "included").count(), 1, "{story:?}");
}

/// Edge case 37: each way in which a request can fail.
#[tokio::test]
async fn failing_requests_delay_and_lose_nothing() {
    for fail in [
        Fail::Limited(None),
        Fail::Limited(Some(1)),
        Fail::Status(503),
        Fail::Html(502),
        Fail::Html(200),
        Fail::Truncated,
        Fail::Behind(5_000),
        Fail::Rpc(-32603, "Internal error"),
    ] {
        let (node, _service, mut client) = scripted().await;
        pays_through(&node, &mut client, || node.fail(fail.clone()), || node.succeed()).await;
    }
}

/// Retry-After is kept to: nothing is asked before.
#[tokio::test]
async fn a_node_that_names_a_time_is_left_alone_until_then() {
    let (node, _service, mut client) = scripted().await;
    client.head(node.produce(2) - 1).await;
    node.fail_next(1, Fail::Limited(Some(2)));
    client.health("degraded").await;
    let requests = node.requests();
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    assert_eq!(node.requests(), requests);
    client.health("following").await;
}

/// Edge case 38: a node that is behind the other, and one that stands still, hold nothing up.
#[tokio::test]
async fn a_node_that_lags_or_stands_still_is_passed_over() {
    let (first, second, _service, mut client) = pair(1).await;
    pays_through(&second, &mut client, || first.lag(30), || {}).await;
    first.recover();
    let (first, second, _service, mut client) = pair(1).await;
    pays_through(&second, &mut client, || first.stall(), || {}).await;
}

/// A load balancer whose methods are answered by nodes that are not equally far.
#[tokio::test]
async fn methods_that_lag_behind_each_other_lose_nothing() {
    for method in ["getBlock", "getBlocks", "getSignatureStatuses", "getTransaction"] {
        let (node, _service, mut client) = scripted().await;
        pays_through(&node, &mut client, || node.lag_on(method, 3), || node.recover()).await;
    }
}

/// Edge case 40: while the cluster stands still no deadline passes, and it is said.
#[tokio::test]
async fn no_deadline_passes_while_the_cluster_stands_still() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop) = (key("payer"), key("shop"));
    let soon = crate::support::client::now_ms() + 1_500;
    let id = client.create(with(spec(address(), &shop, 1_000, 1), |terms| terms.deadline_ms = soon)).await;
    let time = i64::try_from(soon / 1_000).expect("a time") - 1;
    node.chain().time(Some(time));
    client.head(node.produce(2) - 1).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(client.receipts(&id).await.is_empty(), "the chain's clock stands");
    // What it makes when it goes on states the time at which it stood still.
    node.pay_sol(&payer, &shop, 1_000);
    node.produce(2);
    client.until(&id, "settled:success").await;
    let id = client.create(with(spec(address(), &shop, 999, 1), |terms| terms.deadline_ms = soon + 2_000)).await;
    node.chain().time(None);
    // Blocks state whole seconds.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    node.produce(3);
    client.until(&id, "settled:failed:deadline_passed").await;
}

/// Edge cases 33 and 34: whatever the WebSocket does, polls go on beneath.
#[tokio::test]
async fn a_web_socket_that_is_silent_dead_or_wrong_costs_nothing() {
    for socket in [Socket::Silent, Socket::Shut, Socket::Full, Socket::Twice, Socket::Swapped, Socket::Off(-7)] {
        let node = Agave::start().await;
        node.produce(40);
        let setup = Setup::solana(&node.network(), &[(node.http(), Some(node.ws()))]);
        let service = Service::start(BINARY, setup).await;
        let mut client = service.client().await;
        pays_through(&node, &mut client, || node.socket(socket), || {}).await;
    }
}

/// Announced slots are read at once; a connection that died or fell silent is made anew.
#[tokio::test]
async fn announced_slots_are_read_at_once() {
    let node = Agave::start().await;
    node.produce(40);
    let mut setup = Setup::solana(&node.network(), &[(node.http(), Some(node.ws()))]);
    setup.poll_interval_ms = 20_000;
    let service = Service::start(BINARY, setup).await;
    let mut client = service.client().await;
    for _ in 0..3 {
        for _ in 0..200 {
            if node.connections() > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let started = tokio::time::Instant::now();
        client.head(node.produce(2) - 1).await;
        assert!(started.elapsed() < Duration::from_secs(15), "not by polling");
        let connections = node.connections();
        node.cut_sockets();
        for _ in 0..500 {
            if node.connections() > connections {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(node.connections() > connections, "connects anew");
    }
}

/// Edge case 49: a node of another cluster is not listened to.
#[tokio::test]
async fn a_node_of_another_cluster_is_refused() {
    let first = Agave::start().await;
    let tip = first.produce(40);
    let network = first.network();
    first.genesis(Some("5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d"));
    let second = first.beside().await;
    let setup = Setup::solana(&network, &[(first.http(), None), (second.http(), None)]);
    let service = Service::start(BINARY, setup).await;
    let mut client = service.client().await;
    client.head(tip - 1).await;
    let network = client.health("following").await;
    let stranger = network.endpoints.iter().find(|endpoint| endpoint.name == "node-1").expect("listed");
    assert!(stranger.detail.contains("the cluster with genesis 5eykt"), "{}", stranger.detail);
}

/// Edge case 54: with a quorum neither inclusion nor finality is one node's word.
#[tokio::test]
async fn with_a_quorum_one_node_decides_nothing() {
    let (first, second, _service, mut client) = pair(2).await;
    let (payer, shop, mint) = (key("payer"), key("shop"), Mint::token("usd"));
    let mut asked = tagged(address(), &shop, 1_000, FinalityTag::Finalized);
    asked.terms.as_mut().expect("terms").asset = mint.address.clone();
    let id = client.create(asked.clone()).await;
    second.hold(Level::Confirmed);
    let signature = first.pay_token(&mint, &payer, &shop, 1_000);
    first.produce(2);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(client.receipts(&id).await.is_empty(), "the second does not have the block");
    second.let_go(Level::Confirmed);
    client.until(&id, "included").await;
    second.hold(Level::Finalized);
    first.produce(32);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(client.receipts(&id).await.len(), 1, "to the second it is not final");
    second.let_go(Level::Finalized);
    client.has(&id, "settled:success").await;
    let receipts = client.receipts(&id).await;
    let settled = receipts.iter().find(|receipt| receipt.kind == "settled").expect("settled");
    let transfer = &settled.artefact["transfers"][0];
    assert_eq!((transfer["tx"].as_str(), transfer["verification"].as_str()), (Some(&*signature), Some("quorum:2/2")));
}

/// A node that makes a payment larger than it was is not believed where two have to agree.
#[tokio::test]
async fn with_a_quorum_a_forged_amount_is_not_believed() {
    let (first, _second, _service, mut client) = pair(2).await;
    let (payer, shop, mint) = (key("payer"), key("shop"), Mint::token("usd"));
    let mut asked = spec(address(), &shop, 1_000_000, 1);
    asked.terms.as_mut().expect("terms").asset = mint.address.clone();
    let id = client.create(asked).await;
    first.falsify("getBlock", |_, block| {
        for tx in block["transactions"].as_array_mut().into_iter().flatten() {
            for held in tx["meta"]["postTokenBalances"].as_array_mut().into_iter().flatten() {
                held["uiTokenAmount"]["amount"] = json!("1000000");
            }
        }
    });
    first.pay_token(&mint, &payer, &shop, 10);
    first.produce(3);
    client.complains("agree").await;
    assert!(client.receipts(&id).await.is_empty());
    first.honest("getBlock");
    client.head(first.slot_of(Level::Confirmed)).await;
    assert!(client.receipts(&id).await.iter().all(|receipt| receipt.kind != "settled"));
}

/// With a quorum a block must be the same in place, parent and time, too: its hash alone proves nothing about what was left out.
#[tokio::test]
async fn with_a_quorum_a_block_is_not_hidden_by_its_child() {
    let (first, second, _service, mut client) = pair(2).await;
    let (payer, shop) = (key("payer"), key("shop"));
    let id = client.create(spec(address(), &shop, 1_000, 1)).await;
    let below = first.chain().below(u64::MAX).clone();
    client.head(first.slot_of(Level::Confirmed)).await;
    // The payment's block is left out, and the one above it said to follow on the one below.
    let hidden = first.chain().tip() + 1;
    first.omit(hidden);
    first.falsify("getBlock", move |params, block| {
        if params[0] == hidden + 1 {
            block["previousBlockhash"] = json!(below.hash);
            (block["parentSlot"], block["blockHeight"]) = (json!(below.slot), json!(below.height + 1));
        }
    });
    second.pay_sol(&payer, &shop, 1_000);
    second.produce(3);
    client.until(&id, "settled:success").await;
    client.complains("agree").await;
    first.recover();
    client.health("following").await;
}

/// What one node has forgotten another is asked for.
#[tokio::test]
async fn what_one_node_has_pruned_another_tells() {
    let (first, _second, _service, mut client) = pair(1).await;
    let (payer, shop) = (key("payer"), key("shop"));
    let signature = first.pay_sol(&payer, &shop, 1_000);
    let tip = first.produce(400);
    first.prune_below(tip - 100);
    client.head(tip - 1).await;
    let id = client.create(tagged(tx(&signature), &shop, 1_000, FinalityTag::Finalized)).await;
    client.has(&id, "settled:success").await;
}
