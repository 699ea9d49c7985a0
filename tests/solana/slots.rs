//! Slots that are skipped, blocks that are missing, and forks.

use h402_watch_proto::v1::FinalityTag;

use crate::support::agave::account::{Mint, key};
use crate::support::agave::faults::Level;
use crate::support::client::{address, spec, tx, with};
use crate::{scripted, tagged};

/// Edge case 30: slots without a block are passed over where the next block says so; depth counts blocks.
#[tokio::test]
async fn skipped_slots_are_passed_over_and_count_for_no_depth() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop) = (key("payer"), key("shop"));
    let id = client.create(spec(address(), &shop, 1_000, 3)).await;
    node.skip(4);
    node.pay_sol(&payer, &shop, 1_000);
    node.skip(20);
    node.produce(2);
    client.until(&id, "included").await;
    let height = node.chain().below(u64::MAX).height;
    client.head(height - 1).await;
    assert_eq!(client.get(&id).await.transactions[0].depth, 2, "though 23 slots have passed");
    node.produce(1);
    client.until(&id, "settled:success").await;
}

/// A cluster that was started anew leaves more slots empty than are listed at once.
#[tokio::test]
async fn a_thousand_slots_without_a_block_are_passed_over() {
    let (node, _service, mut client) = scripted().await;
    let id = client.create(spec(address(), &key("shop"), 1_000, 1)).await;
    node.skip(1_000);
    node.pay_sol(&key("payer"), &key("shop"), 1_000);
    node.produce(1);
    client.until(&id, "settled:success").await;
}

/// Edge case 31: a block that is there, and is not given out: nothing is told that is above it, and nothing is lost.
#[tokio::test]
async fn a_block_that_is_not_given_out_is_waited_for() {
    for code in [Some(-32004), Some(-32007), Some(-32009), None] {
        let (node, _service, mut client) = scripted().await;
        let (payer, shop) = (key("payer"), key("shop"));
        let id = client.create(spec(address(), &shop, 1_000, 1)).await;
        let slot = node.chain().tip() + 1;
        node.withhold(slot, code);
        node.pay_sol(&payer, &shop, 1_000);
        node.produce(5);
        client.health("degraded").await;
        client.head(slot - 1).await;
        assert!(client.receipts(&id).await.is_empty());
        node.give(slot);
        assert_eq!(client.until(&id, "settled:success").await, ["included", "settled:success"], "after {code:?}");
    }
}

/// A block that is left out of the list of slots is found by the one above it, which names it.
#[tokio::test]
async fn a_block_that_is_not_listed_is_found_by_its_child() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop) = (key("payer"), key("shop"));
    let id = client.create(spec(address(), &shop, 1_000, 1)).await;
    node.omit(node.chain().tip() + 1);
    node.omit(node.chain().tip() + 2);
    node.produce(1);
    node.pay_sol(&payer, &shop, 1_000);
    node.produce(3);
    assert_eq!(client.until(&id, "settled:success").await, ["included", "settled:success"]);
}

/// Edge case 32: the ledger begins above what is to be read next.
#[tokio::test]
async fn blocks_that_were_pruned_are_told_of_and_read_elsewhere() {
    let (node, mut service, mut client) = scripted().await;
    let (payer, shop) = (key("payer"), key("shop"));
    let id = client.create(spec(address(), &shop, 1_000, 1)).await;
    client.head(node.slot_of(Level::Confirmed)).await;
    service.kill();
    node.pay_sol(&payer, &shop, 1_000);
    let tip = node.produce(100);
    node.prune_below(tip - 50);
    service.spawn();
    service.wait_until_listening().await;
    let mut client = service.client().await;
    client.complains("cleaned up").await;
    assert!(client.receipts(&id).await.is_empty());
    node.prune_below(0);
    client.until(&id, "finalized").await;
}

/// Edge case 12: confirmed on a fork that is dropped, and again in another slot.
#[tokio::test]
async fn a_payment_that_moves_to_another_slot_is_told_anew() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop, mint) = (key("payer"), key("shop"), Mint::token("usd"));
    let payment = node.tx(&payer).token(&mint, &payer, &shop, 1_000);
    let mut asked = tagged(tx(&payment.signature), &shop, 1_000, FinalityTag::Finalized);
    asked.terms.as_mut().expect("terms").asset = mint.address.clone();
    let by_tx = client.create(asked.clone()).await;
    asked.subject = Some(address());
    asked.terms.as_mut().expect("terms").amount = "999".into();
    let by_address = client.create(asked).await;
    let first = node.block(vec![payment.clone()]);
    node.produce(3);
    client.until(&by_tx, "included").await;
    node.fork_at(first - 1);
    node.produce(2);
    let second = node.block(vec![payment]);
    node.produce(34);
    let story = client.until(&by_tx, "finalized").await;
    let moved = story.iter().position(|short| short == "orphaned").expect("it left its block");
    assert_eq!(story[moved + 1..].iter().filter(|short| *short == "included").count(), 1, "{story:?}");
    let receipts = client.receipts(&by_tx).await;
    let last = receipts.iter().rev().find(|receipt| receipt.kind == "included").expect("included");
    assert_eq!(last.artefact["transaction"]["notes"]["slot"], second.to_string());
    // The older watch has the transfer.
    assert!(client.receipts(&by_address).await.iter().all(|receipt| receipt.kind != "settled"));
}

/// Deeper than what was final: nothing false is said, and the network stands still.
#[tokio::test]
async fn a_fork_below_what_was_final_halts_the_cluster() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop) = (key("payer"), key("shop"));
    let id = client.create(tagged(address(), &shop, 1_000, FinalityTag::Finalized)).await;
    node.pay_sol(&payer, &shop, 1_000);
    let tip = node.produce(40);
    client.until(&id, "finalized").await;
    client.head(tip - 1).await;
    node.fork_at(tip - 39);
    node.produce(60);
    let network = client.health("halted").await;
    assert!(network.detail.contains("final"), "{}", network.detail);
    assert_eq!(client.get(&id).await.state(), h402_watch_proto::v1::State::Settled);
}

/// A fork that happened while the service was down.
#[tokio::test]
async fn a_fork_while_the_service_is_down_is_caught_up_with() {
    let (node, mut service, mut client) = scripted().await;
    let (payer, shop) = (key("payer"), key("shop"));
    let gone = node.tx(&payer).sol(&payer, &shop, 1_000);
    let id = client.create(with(spec(tx(&gone.signature), &shop, 1_000, 5), |terms| terms.deadline_ms += 1)).await;
    let slot = node.block(vec![gone]);
    node.produce(2);
    client.until(&id, "included").await;
    service.kill();
    node.fork_at(slot - 1);
    node.produce(120);
    service.restart().await;
    let mut client = service.client().await;
    client.until(&id, "orphaned").await;
    client.head(node.slot_of(Level::Confirmed)).await;
    assert_eq!(client.get(&id).await.state(), h402_watch_proto::v1::State::Pending);
}
