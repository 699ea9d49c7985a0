//! What the development node can't do, or does otherwise than Agave, with single transactions and accounts; on the scripted
//! node.

use h402_watch_proto::v1;
use h402_watch_proto::v1::FinalityTag;

use crate::support::agave::account::{Mint, key};
use crate::support::agave::faults::Level;
use crate::support::client::{address, spec, tx, with};
use crate::{but_seen, exactly, included, scripted, scripted_with, settlement, tagged};

fn in_mint(mint: &Mint, spec: v1::WatchSpec) -> v1::WatchSpec {
    with(spec, |terms| terms.asset.clone_from(&mint.address))
}

fn expiring(signature: &str, last_valid_height: u64, pay_to: &str) -> v1::WatchSpec {
    let subject = v1::TransactionSubject {
        tx: signature.into(),
        last_valid_height: Some(last_valid_height),
        ..Default::default()
    };
    tagged(v1::watch_spec::Subject::Transaction(subject), pay_to, 1_000, FinalityTag::Finalized)
}

/// Edge case 7: it lands in the last block that could take it, and statuses come later than blocks.
#[tokio::test]
async fn what_lands_last_has_not_expired_though_its_status_lags() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop) = (key("payer"), key("shop"));
    let payment = node.tx(&payer).sol(&payer, &shop, 1_000);
    let last = node.chain().below(u64::MAX).height + 1;
    let id = client.create(expiring(&payment.signature, last, &shop)).await;
    node.produce(160);
    client.head(node.slot_of(Level::Confirmed)).await;
    assert_eq!(client.until(&id, "settled:failed:expired").await.len(), 1, "it never landed");
    let payment = node.tx(&payer).sol(&payer, &shop, 1_000);
    let last = node.chain().below(u64::MAX).height + 1;
    let id = client.create(expiring(&payment.signature, last, &shop)).await;
    node.lag_on("getSignatureStatuses", 60);
    node.land(payment);
    node.produce(50);
    node.called("getSignatureStatuses", 20).await;
    assert!(client.receipts(&id).await.is_empty());
    node.recover();
    client.until(&id, "finalized").await;
    assert_eq!(client.get(&id).await.outcome(), v1::Outcome::Success);
    assert_eq!(included(&mut client, &id).await["block"]["height"], last);
}

/// Edge case 39: slots run ahead of heights, and expire nothing.
#[tokio::test]
async fn slots_without_blocks_expire_nothing() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop) = (key("payer"), key("shop"));
    let payment = node.tx(&payer).sol(&payer, &shop, 1_000);
    let height = node.chain().below(u64::MAX).height;
    let id = client.create(expiring(&payment.signature, height + 40, &shop)).await;
    node.skip(1_000);
    node.produce(40);
    client.head(height + 39).await;
    node.called("getBlocks", 5).await;
    assert!(client.receipts(&id).await.is_empty(), "a thousand slots later");
    let landed = node.block(vec![payment]);
    node.produce(1);
    client.until(&id, "included").await;
    assert_eq!(included(&mut client, &id).await["notes"]["slot"], landed.to_string());
    let late = node.tx(&payer).sol(&payer, &shop, 1_000);
    let height = node.chain().below(u64::MAX).height;
    let id = client.create(expiring(&late.signature, height + 1, &shop)).await;
    node.skip(500);
    node.produce(40);
    client.until(&id, "settled:failed:expired").await;
    assert_eq!(settlement(&mut client, &id).await["evidence"]["block"]["height"], height + 2);
}

/// Edge case 27: the largest amount, and decimals that are none or many: whole numbers all the way.
#[tokio::test]
async fn amounts_are_exact_whatever_the_decimals() {
    for (decimals, amount) in [(0, 1), (0, u64::MAX), (9, u64::MAX), (12, 9_007_199_254_740_993), (6, 123_456_789)] {
        let (node, _service, mut client) = scripted().await;
        let (payer, shop) = (key("payer"), key("shop"));
        let mint = Mint { decimals, ..Mint::token("usd") };
        let tx = node.tx(&payer).amounts(&mint, &payer, Some(amount), Some(0));
        let id = client.create(exactly(in_mint(&mint, spec(address(), &shop, amount, 1)))).await;
        node.land(tx.amounts(&mint, &shop, None, Some(amount)));
        node.produce(1);
        client.until(&id, "settled:success").await;
        assert_eq!(client.get(&id).await.received, amount.to_string());
    }
}

/// Edge case 29, and 28: a version that nobody knows yet hides nothing of its block, and pays like any other.
#[tokio::test]
async fn a_version_of_transactions_that_is_yet_to_come_is_read() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop, other) = (key("payer"), key("shop"), key("other"));
    let beside = client.create(spec(address(), &shop, 1_000, 1)).await;
    let itself = client.create(spec(address(), &other, 2_000, 1)).await;
    let strange = node.tx(&payer).sol(&payer, &other, 2_000).version(200);
    let by_tx = client.create(spec(tx(&strange.signature), &other, 1_999, 1)).await;
    let plain = node.tx(&payer).sol(&payer, &shop, 1_000);
    node.block(vec![strange, plain]);
    node.produce(1);
    client.until(&beside, "settled:success").await;
    client.until(&itself, "settled:success").await;
    client.until(&by_tx, "settled:failed:already_claimed").await;
}

/// Edge case 53: from nothing to finalized in one slot, as after Alpenglow: all is told, in order.
#[tokio::test]
async fn what_is_final_at_once_is_told_in_order() {
    let (node, _service, mut client) = scripted().await;
    node.levels(0, 0);
    let (payer, shop, other) = (key("payer"), key("shop"), key("other"));
    let payment = node.tx(&payer).sol(&payer, &other, 1_000);
    let by_address = client.create(tagged(address(), &shop, 1_000, FinalityTag::Finalized)).await;
    let by_tx = client.create(tagged(tx(&payment.signature), &other, 1_000, FinalityTag::Confirmed)).await;
    let paid = node.tx(&payer).sol(&payer, &shop, 1_000);
    node.block(vec![payment, paid]);
    for id in [&by_address, &by_tx] {
        let story = but_seen(client.until(id, "finalized").await);
        assert_eq!(story, ["included", "settled:success", "finalized"]);
    }
}

/// Edge case 46: a memo counts as well where a program has written it.
#[tokio::test]
async fn a_memo_of_an_inner_instruction_counts() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop) = (key("payer"), key("shop"));
    let ask = |subject, amount| with(spec(subject, &shop, amount, 1), |terms| terms.memo = "order 7".into());
    let by_address = client.create(ask(address(), 1_000)).await;
    let other = node.tx(&payer).sol(&payer, &shop, 2_000).inner_memo("order 7");
    let by_tx = client.create(ask(tx(&other.signature), 2_000)).await;
    let wrong = node.tx(&payer).sol(&payer, &shop, 1_000).inner_memo("order 8");
    let right = node.tx(&payer).sol(&payer, &shop, 1_000).memo("order 8").inner_memo("order 7");
    let paid = right.signature.clone();
    node.block(vec![wrong, other, right]);
    node.produce(1);
    client.until(&by_tx, "settled:success").await;
    client.until(&by_address, "settled:success").await;
    assert_eq!(settlement(&mut client, &by_address).await["transfers"][0]["tx"], paid);
}

/// Defect 6 of the peers: what a node has processed, and no block confirms, is asked for once a poll and not more often.
#[tokio::test]
async fn what_is_only_processed_is_polled_and_no_more() {
    let (node, _service, mut client) = scripted_with(|setup| setup.poll_interval_ms = 200).await;
    let (payer, shop) = (key("payer"), key("shop"));
    node.hold(Level::Confirmed);
    let payment = node.tx(&payer).sol(&payer, &shop, 1_000);
    let id = client.create(spec(tx(&payment.signature), &shop, 1_000, 1)).await;
    node.land(payment);
    client.until(&id, "seen").await;
    let (requests, started) = (node.requests(), tokio::time::Instant::now());
    node.called("getSignatureStatuses", 10).await;
    let polls = started.elapsed().as_millis() / 200 + 2;
    assert!(u128::from(node.requests() - requests) <= 2 * polls, "{} requests", node.requests() - requests);
    assert_eq!(client.receipts(&id).await.len(), 1);
    node.let_go(Level::Confirmed);
    node.produce(1);
    client.until(&id, "settled:success").await;
}
