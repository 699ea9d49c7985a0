//! Nodes that lie, lag, fail and fork (invariant 9): an outcome may be delayed, and is never wrong. A real anvil behind a proxy
//! that falsifies on demand.

use std::sync::atomic::Ordering;
use std::time::Duration;

use h402_watch_proto::v1;
use serde_json::{Value, json};

use crate::BINARY;
use crate::support::anvil::{Anvil, OTHER, THIRD, quantity, shop, unix_time};
use crate::support::client::{Client, address, now_ms, spec, tx, with};
use crate::support::proxy::{Proxy, Reply, Wire};
use crate::support::service::{Service, Setup};

/// An honest node, one that misbehaves and is asked first, and the service on both.
async fn two_endpoints(quorum: usize) -> (Anvil, Proxy, Service, Client) {
    let anvil = Anvil::manual().await;
    anvil.mine(3).await;
    let proxy = Proxy::before(&anvil.http()).await;
    let endpoints = vec![("bad".into(), proxy.http(), None), ("good".into(), anvil.http(), None)];
    let setup = Setup { endpoints, network: format!("quorum = {quorum}"), ..Setup::default() };
    let service = Service::start(BINARY, setup).await;
    let client = service.client().await;
    (anvil, proxy, service, client)
}

/// Only one endpoint, and it misbehaves.
async fn one_endpoint() -> (Anvil, Proxy, Service, Client) {
    let anvil = Anvil::manual().await;
    anvil.mine(3).await;
    let proxy = Proxy::before(&anvil.http()).await;
    let service = Service::start(BINARY, Setup::http(proxy.http())).await;
    let client = service.client().await;
    (anvil, proxy, service, client)
}

/// Pays by hash and waits for success at depth 2.
async fn pay_and_settle(anvil: &Anvil, client: &mut Client) {
    let hash = anvil.pay(&shop(1), 100).await;
    let by_hash = client.create(spec(tx(&hash), &shop(1), 100, 2)).await;
    let by_address = client.create(spec(address(), &shop(2), 7, 2)).await;
    anvil.pay(&shop(2), 7).await;
    anvil.mine(2).await;
    client.until(&by_hash, "settled:success").await;
    client.until(&by_address, "settled:success").await;
}

/// Edge case 16: the head comes from one node, its receipts are not there yet.
#[tokio::test]
async fn receipts_that_a_node_does_not_have_are_asked_of_another() {
    let (anvil, proxy, _service, mut client) = two_endpoints(1).await;
    proxy.behave(|method, _, result| match method {
        "eth_getBlockReceipts" => Reply::Result(Value::Null),
        _ => Reply::Result(result),
    });
    pay_and_settle(&anvil, &mut client).await;
}

/// Edge case 16, with nobody else to ask: inclusion is told by the header, the outcome waits.
#[tokio::test]
async fn receipts_that_come_later_delay_the_outcome_and_not_the_inclusion() {
    let (anvil, proxy, _service, mut client) = one_endpoint().await;
    proxy.behave(|method, _, result| match method {
        "eth_getBlockReceipts" => Reply::Result(Value::Null),
        _ => Reply::Result(result),
    });
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 1)).await;
    anvil.mine(1).await;
    client.until(&id, "included").await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(client.get(&id).await.state(), v1::State::Included, "what it did is not known yet");
    proxy.behave(|_, _, result| Reply::Result(result));
    client.until(&id, "settled:success").await;
}

/// Edge case 17: receipts that were tampered with. The honest endpoint is asked, the other one rests.
#[tokio::test]
async fn tampered_receipts_are_refused() {
    type Falsehood = (&'static str, fn(&mut Value));
    let falsify: [Falsehood; 6] = [
        ("empty", |receipts| *receipts = json!([])),
        ("one less", |receipts| drop(receipts.as_array_mut().map(Vec::pop))),
        ("of another block", |receipts| receipts[0]["blockHash"] = json!(format!("0x{}", "11".repeat(32)))),
        ("log index", |receipts| receipts[0]["logs"][0]["logIndex"] = json!("0x7")),
        ("status", |receipts| receipts[0]["status"] = json!("0x0")),
        ("amount", |receipts| receipts[0]["logs"][0]["data"] = json!(format!("0x{:064x}", 1_000_000))),
    ];
    for (what, change) in falsify {
        let anvil = Anvil::manual().await;
        let token = anvil.token("TestERC20").await;
        let proxy = Proxy::before(&anvil.http()).await;
        proxy.behave(move |method, _, mut result| {
            if method == "eth_getBlockReceipts" && result.as_array().is_some_and(|all| !all.is_empty()) {
                change(&mut result);
            }
            Reply::Result(result)
        });
        let endpoints = vec![("bad".into(), proxy.http(), None), ("good".into(), anvil.http(), None)];
        let service = Service::start(BINARY, Setup { endpoints, ..Setup::default() }).await;
        let mut client = service.client().await;
        let id = client.create(with(spec(address(), &shop(1), 100, 2), |terms| terms.asset = token.clone())).await;
        anvil.pay_token(&token, &shop(1), 100).await;
        anvil.pay_token(&token, &shop(9), 1).await;
        anvil.mine(2).await;
        client.until(&id, "settled:success").await;
        assert_eq!(client.get(&id).await.received, "100", "{what}");
    }
}

/// Edge case 17: a lone endpoint that once gave receipts which match the header's root can't lie about a later block.
#[tokio::test]
async fn a_lone_liar_delays_and_never_pays() {
    let (anvil, proxy, _service, mut client) = one_endpoint().await;
    pay_and_settle(&anvil, &mut client).await;
    let token = anvil.token("TestERC20").await;
    client.head(anvil.height().await).await;
    proxy.behave(|method, _, mut result| {
        if method == "eth_getBlockReceipts" && !result[0]["logs"][0].is_null() {
            result[0]["logs"][0]["data"] = json!(format!("0x{:064x}", 1_000_000));
        }
        Reply::Result(result)
    });
    let asked = with(spec(address(), &shop(5), 1_000_000, 1), |terms| terms.asset = token.clone());
    let id = client.create(asked).await;
    anvil.pay_token(&token, &shop(5), 1).await;
    anvil.mine(3).await;
    client.health("degraded").await;
    assert_eq!(client.get(&id).await.received, "0");
    proxy.behave(|_, _, result| Reply::Result(result));
    client.until(&id, "included").await;
    assert_eq!(client.get(&id).await.received, "1", "the truth, once it is told");
}

/// Edge case 17: a value that is not the transaction's. The transactions' root tells.
#[tokio::test]
async fn a_falsified_value_is_refused() {
    let (anvil, proxy, _service, mut client) = two_endpoints(1).await;
    pay_and_settle(&anvil, &mut client).await;
    proxy.behave(|method, params, mut result| {
        if method == "eth_getBlockByHash" && params[1] == json!(true) {
            for tx in result["transactions"].as_array_mut().into_iter().flatten() {
                tx["value"] = json!("0xffffff");
            }
        }
        Reply::Result(result)
    });
    let id = client.create(spec(address(), &shop(5), 1_000, 1)).await;
    anvil.pay(&shop(5), 1).await;
    anvil.mine(2).await;
    client.until(&id, "included").await;
    assert_eq!(client.get(&id).await.received, "1");
}

/// A receipt that names another recipient: no root covers that, but the transaction says otherwise. With a quorum of two a
/// stranger's payment can't be made ours, and ours can't be hidden.
#[tokio::test]
async fn a_receipt_that_names_another_recipient_is_refused() {
    let (anvil, proxy, _service, mut client) = two_endpoints(2).await;
    pay_and_settle(&anvil, &mut client).await;
    let (victim, hidden) = (shop(5), shop(6));
    let (to_victim, to_nobody) = (victim.clone(), shop(77));
    let hidden_to = hidden.to_lowercase();
    proxy.behave(move |method, _, mut result| {
        if method == "eth_getBlockReceipts" {
            for receipt in result.as_array_mut().into_iter().flatten() {
                let ours = receipt["to"].as_str().is_some_and(|to| to.to_lowercase() == hidden_to);
                receipt["to"] = json!(if ours { &to_nobody } else { &to_victim });
            }
        }
        Reply::Result(result)
    });
    let forged = client.create(spec(address(), &victim, 100, 1)).await;
    let paid = client.create(spec(address(), &hidden, 50, 1)).await;
    anvil.pay(&shop(9), 100).await;
    anvil.pay(&hidden, 50).await;
    anvil.mine(1).await;
    client.health("degraded").await;
    assert_eq!(client.get(&forged).await.received, "0");
    proxy.behave(|_, _, result| Reply::Result(result));
    client.until(&paid, "settled:success").await;
    assert_eq!(client.get(&forged).await.received, "0");
}

/// Headers that don't hash to what they are called, and lists without the transactions that the header speaks of.
#[tokio::test]
async fn falsified_headers_are_refused() {
    let falsify: [fn(&mut Value); 3] = [
        |block| block["transactions"] = json!([]),
        |block| block["parentHash"] = json!(format!("0x{}", "44".repeat(32))),
        |block| block["timestamp"] = json!("0x1"),
    ];
    for change in falsify {
        let (anvil, proxy, _service, mut client) = two_endpoints(1).await;
        pay_and_settle(&anvil, &mut client).await;
        proxy.behave(move |method, _, mut result| {
            if method.starts_with("eth_getBlockBy") && !result["transactions"][0].is_null() {
                change(&mut result);
            }
            Reply::Result(result)
        });
        let id = client.create(spec(address(), &shop(5), 9, 1)).await;
        anvil.pay(&shop(5), 9).await;
        anvil.mine(2).await;
        client.until(&id, "settled:success").await;
    }
}

/// A deadline is not decided on the word of a node that is behind: the payment is in a block that another one has.
#[tokio::test]
async fn a_node_that_is_behind_does_not_decide_deadlines() {
    let (anvil, proxy, _service, mut client) = two_endpoints(1).await;
    let stuck = anvil.block("latest").await;
    proxy.behave(move |method, params, result| match method {
        "eth_getBlockByNumber" if params[0] == "latest" => Reply::Result(stuck.clone()),
        _ => Reply::Result(result),
    });
    anvil.pay(&shop(1), 100).await;
    anvil.mine(1).await;
    let soon = crate::support::client::now_ms() + 1_200;
    let not_before = quantity(&anvil.block("0x1").await["timestamp"]) * 1000;
    let asked = with(spec(address(), &shop(1), 100, 1), |terms| {
        terms.deadline_ms = soon;
        terms.not_before_ms = not_before;
    });
    let id = client.create(asked).await;
    client.until(&id, "settled:success").await;
}

/// Edge case 19: an endpoint that was restored from an old snapshot does not halt the network while others are well.
#[tokio::test]
async fn an_endpoint_that_is_far_behind_is_passed_over() {
    let (anvil, proxy, _service, mut client) = two_endpoints(1).await;
    anvil.mine(60).await;
    client.head(anvil.height().await).await;
    let genesis = anvil.block("0x0").await;
    proxy.behave(move |method, params, result| match method {
        "eth_getBlockByNumber" if params[0] == "latest" => Reply::Result(genesis.clone()),
        _ => Reply::Result(result),
    });
    pay_and_settle(&anvil, &mut client).await;
    client.health("following").await;
}

/// A pending transaction is believed only as far as its hash and its signature go: a false nonce would make a stranger's
/// transaction its replacement.
#[tokio::test]
async fn a_pending_transaction_with_a_false_nonce_is_not_replaced() {
    let (anvil, proxy, _service, mut client) = one_endpoint().await;
    let others_nonce = anvil.call("eth_getTransactionCount", json!([OTHER, "latest"])).await;
    proxy.behave(move |method, _, mut result| {
        if method == "eth_getTransactionByHash" && result["blockNumber"].is_null() && !result.is_null() {
            result["from"] = json!(OTHER);
            result["nonce"] = others_nonce.clone();
        }
        Reply::Result(result)
    });
    let hash = anvil.pay(&shop(1), 100).await;
    let raw = anvil.raw(&hash).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 2)).await;
    client.until(&id, "seen").await;
    anvil.call("anvil_dropTransaction", json!([hash])).await;
    anvil.send(json!({ "from": OTHER, "to": THIRD, "value": "0x1", "gas": "0x5208" })).await;
    anvil.mine(3).await;
    client.head(anvil.height().await).await;
    assert_ne!(client.get(&id).await.state(), v1::State::Settled);
    anvil.call("eth_sendRawTransaction", json!([raw])).await;
    anvil.mine(2).await;
    client.until(&id, "settled:success").await;
}

/// Both ways of tracing number the same call alike, or one payment could be claimed twice.
#[tokio::test]
async fn both_tracers_give_the_same_transfers() {
    use crate::support::anvil::{payCall, tryPayCall};
    let anvil = Anvil::manual().await;
    let splitter = anvil.deploy("Splitter").await;
    let proxy = Proxy::before(&anvil.http()).await;
    proxy.behave(|method, _, result| match method {
        "trace_block" => Reply::Error(-32601, "no such method"),
        _ => Reply::Result(result),
    });
    let evm = |n| shop(n).parse().expect("an address");
    let paid = anvil.invoke(&splitter, payCall { a: evm(1), b: evm(2) }, 1000).await;
    anvil.invoke(&splitter, tryPayCall { t: evm(2) }, 50).await;
    anvil.mine(1).await;
    let mut told = Vec::new();
    for url in [anvil.http(), proxy.http()] {
        let service = Service::start(BINARY, Setup::http(url)).await;
        let mut client = service.client().await;
        let id = client.create(spec(tx(&paid), &shop(2), 500, 1)).await;
        client.until(&id, "settled:success").await;
        told.push(client.receipts(&id).await.last().expect("settled").artefact["transfers"].clone());
    }
    assert!(proxy.calls()["debug_traceBlockByHash"] > 0);
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0][0]["via"], "trace");
}

/// Edge case 18: two endpoints on different forks for ever. With a quorum of two nothing is drawn from either.
#[tokio::test]
async fn endpoints_on_different_forks_hold_the_network() {
    let (anvil, other) = twins().await;
    let endpoints = vec![("one".into(), anvil.http(), None), ("two".into(), other.http(), None)];
    let setup = Setup { endpoints, network: "quorum = 2".into(), ..Setup::default() };
    let service = Service::start(BINARY, setup).await;
    let mut client = service.client().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 1)).await;
    client.until(&id, "seen").await;
    for _ in 0..4 {
        anvil.mine(1).await;
        // The same height with another time: another block.
        other.call("evm_setNextBlockTimestamp", json!([unix_time() + 50 + other.height().await])).await;
        other.mine(1).await;
    }
    client.complains("fewer than 2 endpoints agree").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(client.receipts(&id).await.len(), 1, "no flip-flop");
}

/// Two nodes that agree so far.
async fn twins() -> (Anvil, Anvil) {
    let time = unix_time() - 600;
    let (one, two) = (Anvil::start_at(time, &["--no-mining"]).await, Anvil::start_at(time, &["--no-mining"]).await);
    for height in 1..=3 {
        let next = json!([unix_time() - 590 + height]);
        for anvil in [&one, &two] {
            anvil.call("evm_setNextBlockTimestamp", next.clone()).await;
            anvil.mine(1).await;
        }
    }
    assert_eq!(one.block("latest").await["hash"], two.block("latest").await["hash"]);
    (one, two)
}

/// Edge case 5: the chain forks, and flips back to the first branch.
#[tokio::test]
async fn a_fork_that_flips_back_ends_where_it_began() {
    let (anvil, other) = twins().await;
    let proxy = Proxy::before(&anvil.http()).await;
    let service = Service::start(BINARY, Setup::http(proxy.http())).await;
    let mut client = service.client().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 7)).await;
    client.until(&id, "seen").await;
    anvil.mine(2).await;
    client.until(&id, "included").await;
    client.head(5).await;
    other.mine(4).await;
    proxy.switch(&other.http());
    client.head(7).await;
    anvil.mine(3).await;
    proxy.switch(&anvil.http());
    client.head(8).await;
    let receipts = client.receipts(&id).await;
    let included: Vec<_> = receipts.iter().filter(|receipt| receipt.kind == "included").collect();
    assert_eq!(included.len(), 2, "{receipts:?}");
    assert_eq!(included[0].artefact["transaction"]["block"], included[1].artefact["transaction"]["block"]);
    anvil.mine(2).await;
    client.until(&id, "settled:success").await;
}

/// Edge case 9: the replacement is mined, reorged away, and the original is mined after all.
#[tokio::test]
async fn a_replacement_that_is_reorged_away_is_withdrawn() {
    let (anvil, other) = twins().await;
    let proxy = Proxy::before(&anvil.http()).await;
    let service = Service::start(BINARY, Setup::http(proxy.http())).await;
    let mut client = service.client().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let raw = anvil.raw(&hash).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 4)).await;
    client.until(&id, "seen").await;
    anvil.replace(&hash, THIRD, 1).await;
    anvil.mine(2).await;
    client.head(5).await;
    assert_ne!(client.get(&id).await.state(), v1::State::Settled);
    other.call("eth_sendRawTransaction", json!([raw])).await;
    other.mine(6).await;
    proxy.switch(&other.http());
    let story = client.until(&id, "settled:success").await;
    assert!(!story.contains(&"replaced".to_owned()), "never spoken of: {story:?}");
}

/// A watch that was extended waits until the source has said where its transaction went, and no longer: also where the source
/// was not told that at first.
#[tokio::test]
async fn what_left_the_chain_is_looked_for_until_that_is_answered() {
    let (anvil, other) = twins().await;
    let proxy = Proxy::before(&anvil.http()).await;
    let service = Service::start(BINARY, Setup::http(proxy.http())).await;
    let mut client = service.client().await;
    let due = now_ms() + 5_000;
    let hash = anvil.pay(&shop(1), 100).await;
    let asked = with(spec(tx(&hash), &shop(1), 100, 5), |terms| {
        terms.deadline_ms = due;
        terms.set_at_deadline(v1::AtDeadline::Extend);
    });
    let id = client.create(asked).await;
    client.until(&id, "seen").await;
    anvil.mine(1).await;
    client.until(&id, "included").await;
    proxy.behave(|method, _, result| match method {
        "eth_getTransactionByHash" => Reply::Error(-32000, "busy"),
        _ => Reply::Result(result),
    });
    other.mine(3).await;
    proxy.switch(&other.http());
    client.until(&id, "orphaned").await;
    while now_ms() <= due {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    other.mine(1).await;
    client.head(other.height().await).await;
    assert_ne!(client.get(&id).await.state(), v1::State::Settled, "it may be anywhere");
    proxy.behave(|_, _, result| Reply::Result(result));
    let story = client.until(&id, "settled:failed:deadline_passed").await;
    assert_eq!(story, ["seen", "included", "orphaned", "settled:failed:deadline_passed"]);
}

/// Edge case 12: one node does not know the transaction, another one does.
#[tokio::test]
async fn a_transaction_that_only_one_node_knows_is_seen() {
    let (anvil, proxy, _service, mut client) = two_endpoints(1).await;
    proxy.behave(|method, _, result| match method {
        "eth_getTransactionByHash" => Reply::Result(Value::Null),
        _ => Reply::Result(result),
    });
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 1)).await;
    client.until(&id, "seen").await;
}

/// A node that is behind says "pending" of what was mined long since; that must not be taken for the truth.
#[tokio::test]
async fn a_node_that_is_behind_is_not_believed_about_a_transaction() {
    let (anvil, proxy, _service, mut client) = two_endpoints(1).await;
    let hash = anvil.pay(&shop(1), 100).await;
    anvil.mine(3).await;
    client.head(anvil.height().await).await;
    proxy.behave(|method, _, mut result| match method {
        "eth_getTransactionByHash" => {
            result["blockHash"] = Value::Null;
            result["blockNumber"] = Value::Null;
            Reply::Result(result)
        }
        "eth_getBlockTransactionCountByHash" => Reply::Result(Value::Null),
        _ => Reply::Result(result),
    });
    let id = client.create(spec(tx(&hash), &shop(1), 100, 2)).await;
    assert_eq!(client.until(&id, "settled:success").await, ["included", "settled:success"]);
}

/// A node that offers traces and never gives one does not bring the network to a halt.
#[tokio::test]
async fn a_node_that_can_not_trace_after_all_is_done_without() {
    let (anvil, proxy, _service, mut client) = one_endpoint().await;
    proxy.behave(|method, _, result| match method {
        "trace_block" | "debug_traceBlockByHash" => Reply::Error(-32000, "missing trie node"),
        _ => Reply::Result(result),
    });
    pay_and_settle(&anvil, &mut client).await;
}

/// Edge case 19: an endpoint that is stuck, and one that claims a tip beyond all reason.
#[tokio::test]
async fn stuck_and_boastful_endpoints_are_passed_over() {
    let (anvil, proxy, _service, mut client) = two_endpoints(1).await;
    let stuck = anvil.block("latest").await;
    proxy.behave(move |method, params, result| match method {
        "eth_getBlockByNumber" if params[0] == "latest" => Reply::Result(stuck.clone()),
        _ => Reply::Result(result),
    });
    pay_and_settle(&anvil, &mut client).await;
    proxy.behave(|method, params, mut result| {
        if method == "eth_getBlockByNumber" && params[0] == "latest" {
            result["number"] = json!("0x3b9aca00");
            result["hash"] = json!(format!("0x{}", "77".repeat(32)));
        }
        Reply::Result(result)
    });
    let id = client.create(spec(address(), &shop(3), 9, 2)).await;
    anvil.pay(&shop(3), 9).await;
    anvil.mine(3).await;
    client.until(&id, "settled:success").await;
}

/// Edge case 20: after a failure the chain id is asked for again; another chain's node is not used.
#[tokio::test]
async fn an_endpoint_of_another_chain_is_quarantined() {
    let (anvil, proxy, _service, mut client) = two_endpoints(1).await;
    proxy.behave(|_, _, _| Reply::Http(503, None, "down"));
    anvil.mine(1).await;
    client.head(4).await;
    proxy.behave(|method, _, result| match method {
        "eth_chainId" => Reply::Result(json!("0x5")),
        _ => Reply::Result(result),
    });
    let started = tokio::time::Instant::now();
    loop {
        let network = client.health("following").await;
        if network.endpoints[0].detail.contains("chain id 5, expected 31337") {
            assert!(!network.endpoints[0].up);
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{network:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pay_and_settle(&anvil, &mut client).await;
}

/// Edge case 21: a WebSocket is cut for a second with payments in between. alloy loses them all.
#[tokio::test]
async fn a_lost_websocket_second_loses_no_log() {
    let anvil = Anvil::manual().await;
    let token = anvil.token("TestERC20").await;
    let wire = Wire::before(anvil.port).await;
    let endpoints = vec![("anvil".into(), anvil.http(), Some(wire.ws()))];
    let service = Service::start(BINARY, Setup { endpoints, ..Setup::default() }).await;
    let mut client = service.client().await;
    let asked = with(spec(address(), &shop(1), 6, 1), |terms| terms.asset = token.clone());
    let id = client.create(asked).await;
    wire.cut.store(true, Ordering::SeqCst);
    for amount in [1, 2, 3] {
        anvil.pay_token(&token, &shop(1), amount).await;
        anvil.mine(1).await;
        tokio::time::sleep(Duration::from_millis(350)).await;
    }
    wire.cut.store(false, Ordering::SeqCst);
    client.until(&id, "settled:success").await;
    assert_eq!(client.get(&id).await.received, "6");
}

/// Edge case 22: a WebSocket that lives and says nothing. Polling goes on beneath, and it is connected anew.
#[tokio::test]
async fn a_silent_websocket_is_noticed() {
    let anvil = Anvil::manual().await;
    anvil.mine(3).await;
    let wire = Wire::before(anvil.port).await;
    let endpoints = vec![("anvil".into(), anvil.http(), Some(wire.ws()))];
    let service = Service::start(BINARY, Setup { endpoints, ..Setup::default() }).await;
    let mut client = service.client().await;
    pay_and_settle(&anvil, &mut client).await;
    let before = wire.connections.load(Ordering::SeqCst);
    wire.silent.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        anvil.mine(1).await;
        client.head(anvil.height().await).await;
    }
    assert!(wire.connections.load(Ordering::SeqCst) > before, "{}", service.log());
}

/// Edge case 23: frames that are no JSON-RPC.
#[tokio::test]
async fn garbage_on_the_websocket_does_not_matter() {
    use futures_util::SinkExt as _;
    let anvil = Anvil::manual().await;
    anvil.mine(3).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let ws = format!("ws://{}", listener.local_addr().expect("its address"));
    let garbage = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { continue };
            for text in ["{\"jsonrpc\":\"2.0\",\"error\":{\"code\":1}}", "<html>", "null"] {
                let _ = socket.send(tokio_tungstenite::tungstenite::Message::text(text)).await;
            }
        }
    });
    let endpoints = vec![("anvil".into(), anvil.http(), Some(ws))];
    let service = Service::start(BINARY, Setup { endpoints, ..Setup::default() }).await;
    let mut client = service.client().await;
    pay_and_settle(&anvil, &mut client).await;
    garbage.abort();
}

/// Edge case 24: limits and refusals.
#[tokio::test]
async fn limits_refusals_and_html_are_passed_over() {
    for (status, retry_after, body) in [(429, Some("1"), ""), (429, None, ""), (503, None, ""), (200, None, "<html>")] {
        let (anvil, proxy, _service, mut client) = two_endpoints(1).await;
        proxy.behave(move |_, _, _| Reply::Http(status, retry_after, body));
        pay_and_settle(&anvil, &mut client).await;
    }
    let (anvil, proxy, _service, mut client) = one_endpoint().await;
    proxy.behave(|_, _, _| Reply::Http(429, Some("1"), ""));
    anvil.mine(1).await;
    client.health("degraded").await;
    proxy.behave(|_, _, result| Reply::Result(result));
    pay_and_settle(&anvil, &mut client).await;
}

/// Edge case 24: a method that an endpoint does not offer is done without; the others go on working.
#[tokio::test]
async fn block_receipts_that_are_not_offered_are_fetched_one_by_one() {
    for refuse in [|| Reply::Http(403, None, "forbidden"), || Reply::Error(-32601, "no such method")] {
        let (anvil, proxy, _service, mut client) = one_endpoint().await;
        proxy.behave(move |method, _, result| match method {
            "eth_getBlockReceipts" => refuse(),
            _ => Reply::Result(result),
        });
        pay_and_settle(&anvil, &mut client).await;
        assert!(proxy.calls()["eth_getTransactionReceipt"] > 0);
    }
}

/// Edge case 25: receipts that take longer than a block. Inclusion is told by the header, and everything comes in order.
#[tokio::test]
async fn slow_receipts_do_not_hold_back_inclusion() {
    let (anvil, proxy, _service, mut client) = one_endpoint().await;
    proxy.behave(|method, _, result| match method {
        "eth_getBlockReceipts" => Reply::Later(Duration::from_secs(3), Box::new(Reply::Result(result))),
        _ => Reply::Result(result),
    });
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 3)).await;
    client.until(&id, "seen").await;
    anvil.mine(4).await;
    let story = client.until(&id, "included").await;
    assert_eq!(story, ["seen", "included"]);
    assert_eq!(client.get(&id).await.transactions[0].execution, "unknown", "told by the header");
    client.until(&id, "settled:success").await;
}

/// Edge case 26: an empty block, and one with very many logs.
#[tokio::test]
async fn a_block_of_20_000_logs() {
    let anvil = Anvil::start(&["--no-mining", "--gas-limit", "1000000000"]).await;
    let token = anvil.token("TestERC20").await;
    let service = Service::start(BINARY, Setup::of(&anvil)).await;
    let mut client = service.client().await;
    let asked = with(spec(address(), &shop(1), 5, 1), |terms| terms.asset = token.clone());
    let id = client.create(asked).await;
    anvil.mine(1).await;
    for seed in 0..20_u64 {
        let call = crate::support::anvil::sprayCall {
            n: alloy_primitives::U256::from(1000),
            seed: alloy_primitives::U256::from(seed),
        };
        anvil.invoke(&token, call, 0).await;
    }
    anvil.pay_token(&token, &shop(1), 5).await;
    anvil.mine(1).await;
    client.until(&id, "settled:success").await;
}

/// Edge case 32: an endpoint that speaks of blocks to come (flashblocks). Included only once its block is in the chain.
#[tokio::test]
async fn a_transaction_in_a_block_to_come_is_not_included_yet() {
    let (anvil, proxy, _service, mut client) = one_endpoint().await;
    proxy.behave(|method, _, mut result| {
        if method == "eth_getTransactionByHash" && result["blockNumber"].is_null() {
            result["blockNumber"] = json!("0x99");
            result["blockHash"] = json!(format!("0x{}", "55".repeat(32)));
        }
        Reply::Result(result)
    });
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 1)).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(client.get(&id).await.state(), v1::State::Pending);
    anvil.mine(1).await;
    client.until(&id, "settled:success").await;
}

/// Edge case 33: `finalized` is null, then jumps, then moves back on a node that lags.
#[tokio::test]
async fn finality_only_moves_up() {
    let anvil = Anvil::start(&["--no-mining", "--slots-in-an-epoch", "1"]).await;
    anvil.mine(3).await;
    let proxy = Proxy::before(&anvil.http()).await;
    let service = Service::start(BINARY, Setup::http(proxy.http())).await;
    let mut client = service.client().await;
    proxy.behave(|method, params, result| match method {
        "eth_getBlockByNumber" if params[0] == "finalized" => Reply::Result(Value::Null),
        _ => Reply::Result(result),
    });
    let finalized = |amount: u64| {
        with(spec(address(), &shop(1), amount, 1), |terms| {
            terms.depth = Some(v1::terms::Depth::DepthTag(v1::FinalityTag::Finalized.into()));
        })
    };
    let id = client.create(finalized(100)).await;
    anvil.pay(&shop(1), 100).await;
    anvil.mine(4).await;
    client.until(&id, "included").await;
    client.head(7).await;
    assert_eq!(client.get(&id).await.state(), v1::State::Included, "nothing is final while nobody says so");
    proxy.behave(|_, _, result| Reply::Result(result));
    anvil.mine(1).await;
    client.until(&id, "finalized").await;
    let first = anvil.block("0x2").await;
    proxy.behave(move |method, params, result| match method {
        "eth_getBlockByNumber" if params[0] == "finalized" => Reply::Result(first.clone()),
        _ => Reply::Result(result),
    });
    let second = client.create(with(finalized(50), |terms| terms.pay_to = shop(2))).await;
    anvil.pay(&shop(2), 50).await;
    anvil.mine(1).await;
    client.until(&second, "included").await;
    let network = client.health("following").await;
    assert!(network.finalized_height > 2, "{network:?}");
}

/// 10,000 open watches of all kinds, none of which matches: at most two requests for each new block, counted at the
/// endpoint (invariant 12). Blocks are not empty.
#[tokio::test]
async fn requests_per_block_do_not_grow_with_watches() {
    // Receipts and traces of a block travel in one request; without traces there are two calls as well.
    let (requests, _) = cost_of_a_block("auto").await;
    assert!(requests <= 2.0, "{requests} requests for each block");
    let (requests, calls) = cost_of_a_block("off").await;
    assert!(requests <= 2.0 && calls <= 2.0, "{requests} requests, {calls} calls for each block");
}

/// Requests and calls for each new block, with 10,000 watches open.
async fn cost_of_a_block(internal_transfers: &str) -> (f64, f64) {
    const BLOCKS: u32 = 20;
    let anvil = Anvil::manual().await;
    let token = anvil.token("TestERC20").await;
    let proxy = Proxy::before(&anvil.http()).await;
    let endpoints = vec![("anvil".into(), proxy.http(), Some(anvil.ws()))];
    let network = format!("internal_transfers = \"{internal_transfers}\"");
    // A real chain's pace: polling beneath the WebSocket does not fire while heads are announced.
    let service = Service::start(BINARY, Setup { endpoints, network, block_time_ms: 2_000, ..Setup::default() }).await;
    let mut client = service.client().await;
    open_10_000(&mut client, &token).await;
    // Until the look-ups of the new watches are answered, and those that repeat are through.
    for _ in 0..10 {
        new_block(&anvil, &mut client, &token).await;
    }
    let mut quiet = false;
    while !quiet {
        let before = proxy.requests();
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        new_block(&anvil, &mut client, &token).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        quiet = proxy.requests() - before <= 3;
    }
    let sum = |proxy: &Proxy| proxy.calls().values().sum::<u64>();
    let (requests, calls) = (proxy.requests(), sum(&proxy));
    for _ in 0..BLOCKS {
        new_block(&anvil, &mut client, &token).await;
    }
    let per_block = |count: u64| f64::from(u32::try_from(count).expect("few")) / f64::from(BLOCKS);
    let cost = (per_block(proxy.requests() - requests), per_block(sum(&proxy) - calls));
    assert!(service.metrics().await.contains("h402_watch_driver_watches_open 10000"));
    cost
}

/// A block with a native payment and a token payment to nobody who is watched.
async fn new_block(anvil: &Anvil, client: &mut Client, token: &str) {
    anvil.pay(&format!("0x{}", "99".repeat(20)), 1).await;
    anvil.pay_token(token, &format!("0x{}", "98".repeat(20)), 1).await;
    anvil.mine(1).await;
    client.head(anvil.height().await).await;
}

/// Watches on hashes, on addresses for native coin and for a token, and on authorizations.
async fn open_10_000(client: &mut Client, token: &str) {
    let request = |n: u64| {
        let subject = match n % 4 {
            0 => tx(&format!("0x{n:064x}")),
            1 | 2 => address(),
            _ => v1::watch_spec::Subject::Authorization(v1::AuthorizationSubject {
                authorizer: OTHER.into(),
                nonce: format!("0x{n:064x}"),
                valid_before_ms: 0,
            }),
        };
        let asset = if n % 4 < 2 { "native" } else { token };
        v1::CreateWatchRequest {
            watch: Some(with(spec(subject, &shop(n), 100, 3), |terms| terms.asset = asset.into())),
        }
    };
    let requests: Vec<_> = (0..10_000).map(request).collect();
    let answers = client.inner.create_watches(futures_util::stream::iter(requests)).await.expect("streams");
    let mut answers = answers.into_inner();
    while let Some(answer) = answers.message().await.expect("goes on") {
        assert!(matches!(answer.result, Some(v1::create_watches_response::Result::Ok(_))), "{answer:?}");
    }
}
