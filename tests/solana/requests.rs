//! What following costs, counted at the endpoint.

use crate::support::agave::account::key;
use crate::support::agave::faults::Level;
use crate::support::client::{address, spec, tx};
use crate::{scripted, scripted_with};

/// 10,000 open signatures: a block is read once, and nothing is asked for each of them.
#[tokio::test]
async fn ten_thousand_signatures_cost_one_block_per_slot() {
    let (node, _service, mut client) = scripted_with(|setup| setup.poll_interval_ms = 200).await;
    let (payer, shop) = (key("payer"), key("shop"));
    let payments: Vec<_> = (0..10_000).map(|_| node.tx(&payer).sol(&payer, &shop, 7)).collect();
    let specs = payments.iter().map(|payment| spec(tx(&payment.signature), &shop, 7, 1)).collect::<Vec<_>>();
    client.create_all(specs).await;
    client.head(node.produce(1) - 1).await;
    settle(&node).await;
    let (before, slots, blocks) = (node.calls(), 40, node.blocks_asked());
    let requests = node.requests();
    let started = tokio::time::Instant::now();
    for _ in 0..slots {
        node.produce(1);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    client.head(node.slot_of(Level::Confirmed)).await;
    let after = node.calls();
    let polls = started.elapsed().as_millis() / 200 + 2;
    let of = |method: &str| after.get(method).unwrap_or(&0) - before.get(method).unwrap_or(&0);
    let by_status = polls * 10_000_u128.div_ceil(256);
    let bar = u64::try_from(by_status).expect("small").min(slots);
    assert!(of("getBlock") <= bar, "{} blocks for {slots} slots", of("getBlock"));
    assert_eq!(of("getSignatureStatuses"), 0, "asked for none of them");
    assert!(node.requests() - requests <= 2 * slots, "{} requests", node.requests() - requests);
    let whole = node.blocks_asked().get("accounts").unwrap_or(&0) - blocks.get("accounts").unwrap_or(&0);
    assert_eq!(whole, of("getBlock"), "each of them whole, and once");
}

/// A few signatures: no block is read whole, and a call has room for 256 of them.
#[tokio::test]
async fn few_signatures_cost_headers_and_one_call_for_their_statuses() {
    let (node, _service, mut client) = scripted_with(|setup| setup.poll_interval_ms = 200).await;
    let (payer, shop) = (key("payer"), key("shop"));
    for amount in 1..=200 {
        let payment = node.tx(&payer);
        client.create(spec(tx(&payment.signature), &shop, amount, 1)).await;
    }
    settle(&node).await;
    let (calls, blocks, requests) = (node.calls(), node.blocks_asked(), node.requests());
    for _ in 0..20 {
        node.produce(2);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    client.head(node.slot_of(Level::Confirmed)).await;
    let of = |method: &str| node.calls().get(method).unwrap_or(&0) - calls.get(method).unwrap_or(&0);
    assert_eq!(node.blocks_asked().get("accounts"), blocks.get("accounts"), "none whole");
    assert_eq!(of("getTransaction"), 0);
    let polls = of("getBlocks");
    assert!(of("getSignatureStatuses") <= polls, "one call a poll");
    assert!(node.requests() - requests <= 2 * polls, "at most two requests a poll");
    assert!(of("getBlock") <= 41, "one header a slot");
}

/// Once an address is watched, blocks are read whole; once it is not, they are not.
#[tokio::test]
async fn blocks_are_read_whole_while_an_address_is_watched() {
    let (node, _service, mut client) = scripted().await;
    let shop = key("shop");
    let whole = || node.blocks_asked().get("accounts").copied().unwrap_or(0);
    client.head(node.produce(3) - 1).await;
    assert_eq!(whole(), 0);
    let id = client.create(spec(address(), &shop, 100, 1)).await;
    settle(&node).await;
    node.pay_sol(&key("payer"), &shop, 100);
    client.head(node.produce(3) - 1).await;
    assert!(whole() >= 3);
    client.until(&id, "settled:success").await;
}

/// Waits until the node was asked for nothing but how far it is.
async fn settle(node: &crate::support::agave::Agave) {
    for _ in 0..100 {
        let before = node.calls().get("getSignatureStatuses").copied();
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let looked = node.calls().get("getSignatureStatuses").copied();
        if looked == before || looked.unwrap_or(0) - before.unwrap_or(0) <= 3 {
            return;
        }
    }
    panic!("look-ups don't end");
}
