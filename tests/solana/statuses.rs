//! Single transactions, from the first node that has one to their outcome; on the scripted node, where the development node
//! knows no `processed`, and no answer that comes late.

use h402_watch_proto::v1::FinalityTag;
use serde_json::json;

use crate::support::agave::account::{Mint, key};
use crate::support::agave::faults::Level;
use crate::support::client::{spec, tx};
use crate::{scripted, tagged};

/// Processed is seen, confirmed included, and each tag settles at its own time.
#[tokio::test]
async fn processed_is_seen_confirmed_is_included_and_finalized_is_final() {
    let (node, _service, mut client) = scripted().await;
    let shop = key("shop");
    let payment = node.tx(&key("payer")).sol(&key("payer"), &shop, 1_000);
    let signature = payment.signature.clone();
    let confirmed = client.create(tagged(tx(&signature), &shop, 1_000, FinalityTag::Confirmed)).await;
    let finalized = client.create(tagged(tx(&signature), &shop, 1_001, FinalityTag::Finalized)).await;
    let slot = node.block(vec![payment]);
    assert_eq!(client.until(&confirmed, "seen").await, ["seen"]);
    node.produce(1);
    assert_eq!(client.until(&confirmed, "settled:success").await, ["seen", "included", "settled:success"]);
    assert_eq!(client.until(&finalized, "included").await, ["seen", "included"]);
    node.produce(29);
    client.head(node.slot_of(Level::Confirmed)).await;
    assert_eq!(client.receipts(&finalized).await.len(), 2, "not before it is final");
    node.produce(1);
    // The transfer paid the first watch; this one asked for more besides.
    client.until(&finalized, "settled:failed:already_claimed").await;
    client.until(&confirmed, "finalized").await;
    let receipts = client.receipts(&confirmed).await;
    for receipt in &receipts[1..2] {
        let notes = &receipt.artefact["transaction"]["notes"];
        assert_eq!(notes["slot"], slot.to_string(), "{notes}");
        assert_eq!(notes["depthUnit"], "blocks");
    }
}

/// Edge case 2: the watch is made long after the transaction was final, and out of what nodes remember of statuses.
#[tokio::test]
async fn a_transaction_that_is_final_long_since_is_found() {
    let (node, _service, mut client) = scripted().await;
    let (shop, mint) = (key("shop"), Mint::token("usd"));
    let signature = node.pay_token(&mint, &key("payer"), &shop, 2_000_000);
    let slot = node.landed(&signature).expect("landed");
    client.head(node.produce(400) - 1).await;
    let mut asked = tagged(tx(&signature), &shop, 2_000_000, FinalityTag::Finalized);
    asked.terms.as_mut().expect("terms").asset = mint.address.clone();
    let id = client.create(asked).await;
    assert_eq!(client.until(&id, "finalized").await, ["included", "settled:success", "finalized"]);
    let receipts = client.receipts(&id).await;
    assert_eq!(receipts[0].artefact["transaction"]["notes"]["slot"], slot.to_string());
}

/// Edge case 5: it failed, whatever the balances seem to say.
#[tokio::test]
async fn what_failed_pays_nothing_whatever_its_balances_say() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop) = (key("payer"), key("shop"));
    let forged = node.tx(&payer).sol(&payer, &shop, 1_000).forged(json!({"InstructionError": [0, {"Custom": 1}]}));
    let by_tx = client.create(spec(tx(&forged.signature), &shop, 1_000, 1)).await;
    let by_address = client.create(spec(crate::support::client::address(), &shop, 1_000, 1)).await;
    node.land(forged);
    node.produce(2);
    client.until(&by_tx, "settled:failed:reverted").await;
    let receipts = client.receipts(&by_tx).await;
    let included = receipts.iter().find(|receipt| receipt.kind == "included").expect("included");
    assert_eq!(included.artefact["transaction"]["notes"]["error"], r#"{"InstructionError":[0,{"Custom":1}]}"#);
    client.head(node.slot_of(Level::Confirmed)).await;
    assert!(client.receipts(&by_address).await.is_empty());
}

/// Edge case 14: the status is there, the transaction comes later.
#[tokio::test]
async fn a_transaction_that_can_not_be_read_yet_is_late_and_not_lost() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop) = (key("payer"), key("shop"));
    // Its block tells what it paid, but not what it says.
    let plain = node.tx(&payer).sol(&payer, &shop, 999);
    let payment = node.tx(&payer).sol(&payer, &shop, 1_000).memo("order 7");
    let (unread, signature) = (plain.signature.clone(), payment.signature.clone());
    let by_block = client.create(spec(tx(&unread), &shop, 999, 1)).await;
    let id = client.create(spec(tx(&signature), &shop, 1_000, 1)).await;
    node.hide_transaction(&unread);
    node.hide_transaction(&signature);
    node.land(plain);
    client.head(node.produce(1) - 1).await;
    client.until(&by_block, "settled:success").await;
    node.land(payment);
    node.produce(3);
    // Edge case 15, too: for ever, it is an alarm and no success.
    client.complains("can't be read").await;
    assert!(client.receipts(&id).await.iter().all(|receipt| receipt.kind == "seen"));
    node.show(&signature);
    client.until(&id, "settled:success").await;
    client.health("following").await;
}

/// Edge case 11: confirmed, then no status, then confirmed again: the chain still has its block.
#[tokio::test]
async fn a_status_that_goes_and_comes_changes_nothing() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop) = (key("payer"), key("shop"));
    let payment = node.tx(&payer).sol(&payer, &shop, 1_000);
    let signature = payment.signature.clone();
    let id = client.create(tagged(tx(&signature), &shop, 1_000, FinalityTag::Finalized)).await;
    node.land(payment);
    node.produce(1);
    client.until(&id, "included").await;
    node.hide_status(&signature);
    client.head(node.produce(5) - 1).await;
    node.show(&signature);
    node.produce(31);
    let story = client.until(&id, "finalized").await;
    assert!(!story.iter().any(|short| short == "orphaned" || short == "evicted"), "{story:?}");
}

/// Edge case 13: processed on a fork that is dropped.
#[tokio::test]
async fn what_was_only_processed_is_evicted_when_its_fork_is_dropped() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop) = (key("payer"), key("shop"));
    let payment = node.tx(&payer).sol(&payer, &shop, 1_000);
    let signature = payment.signature.clone();
    let id = client.create(spec(tx(&signature), &shop, 1_000, 1)).await;
    let slot = node.block(vec![payment.clone()]);
    client.until(&id, "seen").await;
    node.fork_at(slot - 1);
    node.produce(3);
    assert_eq!(client.until(&id, "evicted").await, ["seen", "evicted"]);
    node.land(payment);
    node.produce(1);
    let story = client.until(&id, "settled:success").await;
    assert!(story.starts_with(&["seen".into(), "evicted".into()]), "{story:?}");
}

/// Edge case 48: 257 signatures are two questions, none of which is lost.
#[tokio::test]
async fn more_than_256_signatures_are_asked_for_in_several_calls() {
    let (node, _service, mut client) = crate::scripted_with(|setup| setup.poll_interval_ms = 200).await;
    let (payer, shop) = (key("payer"), key("shop"));
    let payments: Vec<_> = (0..300).map(|n| node.tx(&payer).sol(&payer, &shop, 1_000 + n)).collect();
    let mut ids = Vec::new();
    for (payment, amount) in payments.iter().zip(1_000..) {
        ids.push(client.create(spec(tx(&payment.signature), &shop, amount, 1)).await);
    }
    node.block(payments);
    node.produce(2);
    for id in &ids {
        client.until(id, "settled:success").await;
    }
    let most = node.signatures_asked().into_iter().max();
    assert!(most.is_some_and(|most| most <= 256), "{most:?}");
}
