//! The table of states and outcomes (DESIGN §3), row by row, on a real node.

use std::time::Duration;

use h402_watch_proto::v1;
use serde_json::json;

use crate::support::anvil::{Anvil, OTHER, PAYER, THIRD, quantity, shop};
use crate::support::client::{Client, address, now_ms, spec, tx, with};
use crate::{world, world_with};

async fn mined(anvil: &Anvil, client: &mut Client, n: u64) {
    anvil.mine(n).await;
    client.head(anvil.height().await).await;
}

#[tokio::test]
async fn required_depth_and_terms_met_is_success() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 3)).await;
    assert_eq!(client.until(&id, "seen").await, ["seen"]);
    mined(&anvil, &mut client, 2).await;
    client.until(&id, "included").await;
    mined(&anvil, &mut client, 1).await;
    assert_eq!(client.until(&id, "settled:success").await, ["seen", "included", "settled:success"]);
    let watch = client.get(&id).await;
    assert_eq!((watch.received.as_str(), watch.state()), ("100", v1::State::Settled));
    let receipts = client.receipts(&id).await;
    assert_eq!(receipts[2].artefact["transfers"][0]["verification"], "trie", "checked against the header's roots");
}

#[tokio::test]
async fn depth_0_is_accepted_when_seen_and_settles_when_included() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 0)).await;
    assert_eq!(client.until(&id, "accepted").await, ["seen", "accepted"]);
    anvil.mine(1).await;
    let story = client.until(&id, "settled:success").await;
    assert_eq!(story, ["seen", "accepted", "included", "settled:success"]);
}

#[tokio::test]
async fn depth_0_falls_back_to_pessimism_at_the_deadline() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let asked = with(spec(tx(&hash), &shop(1), 100, 0), |terms| terms.deadline_ms = now_ms() + 2_000);
    let id = client.create(asked).await;
    client.until(&id, "accepted").await;
    let story = client.until(&id, "settled:failed:deadline_passed").await;
    assert_eq!(story, ["seen", "accepted", "settled:failed:deadline_passed"]);
}

#[tokio::test]
async fn deadline_with_nothing_received_fails() {
    let (_anvil, _service, mut client) = world().await;
    let never = format!("0x{}", "ab".repeat(32));
    let asked = with(spec(tx(&never), &shop(1), 100, 1), |terms| terms.deadline_ms = now_ms() + 1_500);
    let id = client.create(asked).await;
    assert_eq!(client.until(&id, "settled:failed:deadline_passed").await, ["settled:failed:deadline_passed"]);
}

#[tokio::test]
async fn deadline_with_less_than_asked_is_partial_with_the_amount() {
    let (anvil, _service, mut client) = world().await;
    let asked = with(spec(address(), &shop(1), 100, 1), |terms| terms.deadline_ms = now_ms() + 3_000);
    let id = client.create(asked).await;
    anvil.call("evm_setNextBlockTimestamp", json!([now_ms() / 1000])).await;
    anvil.pay(&shop(1), 40).await;
    anvil.mine(1).await;
    assert_eq!(client.until(&id, "settled:partial:underpaid").await, ["included", "settled:partial:underpaid"]);
    assert_eq!(client.get(&id).await.received, "40");
}

#[tokio::test]
async fn deadline_while_included_too_shallow_fails_or_extends_as_asked() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let due = now_ms() + 5_000;
    let fails = with(spec(tx(&hash), &shop(1), 60, 5), |terms| terms.deadline_ms = due);
    let extends = with(spec(tx(&hash), &shop(1), 100, 5), |terms| {
        terms.deadline_ms = due;
        terms.set_at_deadline(v1::AtDeadline::Extend);
    });
    let (extends, fails) = (client.create(extends).await, client.create(fails).await);
    for id in [&extends, &fails] {
        client.until(id, "seen").await;
    }
    mined(&anvil, &mut client, 2).await;
    let story = client.until(&fails, "settled:failed:deadline_passed").await;
    assert_eq!(story, ["seen", "included", "settled:failed:deadline_passed"]);
    assert_eq!(client.get(&extends).await.state(), v1::State::Included);
    anvil.mine(3).await;
    assert_eq!(client.until(&extends, "settled:success").await, ["seen", "included", "settled:success"]);
}

#[tokio::test]
async fn a_reverted_transaction_fails_once_deep_enough() {
    let (anvil, _service, mut client) = world().await;
    let reverter = anvil.deploy("Reverter").await;
    let hash = anvil.send(json!({ "from": PAYER, "to": reverter, "value": "0x64", "gas": "0x30d40" })).await;
    let id = client.create(spec(tx(&hash), &reverter, 100, 2)).await;
    mined(&anvil, &mut client, 1).await;
    client.until(&id, "included").await;
    assert_eq!(client.get(&id).await.state(), v1::State::Included, "not before it is deep enough");
    anvil.mine(1).await;
    client.until(&id, "settled:failed:reverted").await;
}

#[tokio::test]
async fn a_payment_that_misses_the_terms_fails_with_what_is_wrong() {
    let (anvil, _service, mut client) = world().await;
    let token = anvil.token("TestERC20").await;
    let other_token = anvil.token("TestERC20").await;
    let plain = anvil.pay(&shop(1), 100).await;
    let in_token = anvil.pay_token(&token, &shop(1), 100).await;
    let by = |hash: &str| spec(tx(hash), &shop(1), 100, 2);
    let in_asset = |asset: &str| asset.to_owned();
    let cases = [
        (spec(tx(&plain), &shop(2), 100, 2), "settled:failed:wrong_recipient"),
        (with(by(&in_token), |terms| terms.asset = in_asset(&other_token)), "settled:failed:wrong_asset"),
        (with(by(&plain), |terms| terms.payer = OTHER.into()), "settled:failed:payer_mismatch"),
        (with(by(&plain), |terms| terms.not_before_ms = now_ms() + 100_000), "settled:failed:too_early"),
        (
            with(spec(tx(&plain), &shop(1), 70, 2), |terms| terms.set_amount_rule(v1::AmountRule::UpTo)),
            "settled:failed:overpaid",
        ),
    ];
    let mut ids = Vec::new();
    for (asked, outcome) in cases {
        ids.push((client.create(asked).await, outcome));
    }
    anvil.mine(2).await;
    for (id, outcome) in ids {
        client.until(&id, outcome).await;
    }
}

#[tokio::test]
async fn underpaid_with_more_than_zero_is_partial() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 99).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 1)).await;
    anvil.mine(1).await;
    client.until(&id, "settled:partial:underpaid").await;
    assert_eq!(client.get(&id).await.received, "99");
}

#[tokio::test]
async fn replaced_by_one_that_still_pays_is_followed() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 2)).await;
    client.until(&id, "seen").await;
    let faster = anvil.replace(&hash, &shop(1), 100).await;
    anvil.mine(2).await;
    let story = client.until(&id, "settled:success").await;
    assert!(story.contains(&"replaced".to_owned()), "{story:?}");
    let receipts = client.receipts(&id).await;
    let replaced = receipts.iter().find(|receipt| receipt.kind == "replaced").expect("a replaced receipt");
    assert_eq!(replaced.artefact["replaces"], json!(hash));
    assert_eq!(replaced.artefact["transaction"]["tx"], json!(faster));
}

#[tokio::test]
async fn replaced_by_one_that_does_not_pay_fails_once_that_is_deep_enough() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 3)).await;
    client.until(&id, "seen").await;
    let away = anvil.replace(&hash, THIRD, 100).await;
    mined(&anvil, &mut client, 2).await;
    assert_ne!(client.get(&id).await.state(), v1::State::Settled, "not before it is deep enough");
    anvil.mine(1).await;
    client.until(&id, "settled:failed:replaced").await;
    assert_eq!(client.get(&id).await.reason_by, away);
}

#[tokio::test]
async fn evicted_from_the_mempool_goes_back_to_pending_and_can_return() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let raw = anvil.raw(&hash).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 1)).await;
    client.until(&id, "seen").await;
    anvil.call("anvil_dropTransaction", json!([hash])).await;
    client.until(&id, "evicted").await;
    assert_eq!(client.get(&id).await.state(), v1::State::Pending);
    anvil.call("eth_sendRawTransaction", json!([raw])).await;
    anvil.mine(1).await;
    let story = client.until(&id, "settled:success").await;
    assert_eq!(story.first().map(String::as_str), Some("seen"));
}

#[tokio::test]
async fn late_after_a_failed_outcome() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let asked = with(spec(tx(&hash), &shop(1), 100, 2), |terms| terms.deadline_ms = now_ms() + 1_500);
    let id = client.create(asked).await;
    client.until(&id, "settled:failed:deadline_passed").await;
    anvil.call("evm_setNextBlockTimestamp", json!([now_ms() / 1000 + 1])).await;
    anvil.mine(2).await;
    let story = client.until(&id, "late").await;
    assert_eq!(&story[story.len() - 2..], ["included", "late"]);
}

#[tokio::test]
async fn late_after_a_partial_outcome() {
    let (anvil, _service, mut client) = world().await;
    let asked = with(spec(address(), &shop(1), 100, 1), |terms| terms.deadline_ms = now_ms() + 2_500);
    let id = client.create(asked).await;
    anvil.call("evm_setNextBlockTimestamp", json!([now_ms() / 1000])).await;
    anvil.pay(&shop(1), 40).await;
    anvil.mine(1).await;
    client.until(&id, "settled:partial:underpaid").await;
    anvil.pay(&shop(1), 60).await;
    anvil.call("evm_setNextBlockTimestamp", json!([now_ms() / 1000 + 2])).await;
    anvil.mine(1).await;
    client.until(&id, "late").await;
}

#[tokio::test]
async fn reversed_when_a_settled_payment_is_gone_for_good() {
    let (anvil, _service, mut client) = world_with(|setup| {
        setup.horizon_blocks = 4;
        setup.network = "finality_tags = []".into();
    })
    .await;
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 1)).await;
    mined(&anvil, &mut client, 1).await;
    client.until(&id, "settled:success").await;
    anvil.call("anvil_reorg", json!([1, []])).await;
    client.until(&id, "orphaned").await;
    anvil.mine(6).await;
    let story = client.until(&id, "reversed").await;
    assert_eq!(story.iter().filter(|kind| kind.starts_with("settled")).count(), 1, "never rewritten: {story:?}");
}

#[tokio::test]
async fn finalized_past_the_horizon_and_archived() {
    let (anvil, _service, mut client) = world_with(|setup| {
        setup.horizon_blocks = 4;
        setup.late_window_ms = 1;
        setup.network = "finality_tags = []".into();
    })
    .await;
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 1)).await;
    anvil.mine(8).await;
    assert!(client.until(&id, "finalized").await.contains(&"settled:success".to_owned()));
    assert!(client.get(&id).await.archived);
}

#[tokio::test]
async fn finality_tags_settle_and_finalize() {
    let anvil = Anvil::start(&["--no-mining", "--slots-in-an-epoch", "2"]).await;
    anvil.mine(3).await;
    let setup = crate::Setup::of(&anvil);
    let service = crate::Service::start(crate::BINARY, setup).await;
    let mut client = service.client().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let asked = |tag: v1::FinalityTag, amount| {
        with(spec(tx(&hash), &shop(1), amount, 1), |terms| {
            terms.depth = Some(v1::terms::Depth::DepthTag(tag.into()));
        })
    };
    let safe = client.create(asked(v1::FinalityTag::Safe, 100)).await;
    mined(&anvil, &mut client, 1).await;
    client.until(&safe, "included").await;
    mined(&anvil, &mut client, 2).await;
    client.until(&safe, "settled:success").await;
    mined(&anvil, &mut client, 2).await;
    client.until(&safe, "finalized").await;
}

/// The service is down while a payment becomes final and its deadline passes: it was paid.
#[tokio::test]
async fn a_payment_that_became_final_in_an_absence_is_paid() {
    let anvil = Anvil::start(&["--no-mining", "--slots-in-an-epoch", "2"]).await;
    anvil.mine(3).await;
    let mut service = crate::Service::start(crate::BINARY, crate::Setup::of(&anvil)).await;
    let mut client = service.client().await;
    let deadline = now_ms() + 3_000;
    let asked = with(spec(address(), &shop(1), 100, 1), |terms| {
        terms.depth = Some(v1::terms::Depth::DepthTag(v1::FinalityTag::Finalized.into()));
        terms.deadline_ms = deadline;
    });
    let id = client.create(asked).await;
    assert!(service.stop().await);
    anvil.pay(&shop(1), 100).await;
    mine_until_final(&anvil, deadline).await;
    service.restart().await;
    let mut client = service.client().await;
    let story = client.until(&id, "finalized").await;
    assert!(story.contains(&"settled:success".to_owned()), "{story:?}");
}

/// The payment's block in time, final by the deadline, and the chain far beyond that.
async fn mine_until_final(anvil: &Anvil, deadline_ms: u64) {
    anvil.mine(6).await;
    tokio::time::sleep(Duration::from_millis(deadline_ms.saturating_sub(now_ms()) + 1_500)).await;
    anvil.call("evm_setNextBlockTimestamp", json!([deadline_ms / 1000 + 1])).await;
    anvil.mine(6).await;
}

#[tokio::test]
async fn cancelled_by_the_client() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 3)).await;
    client.until(&id, "seen").await;
    let request = v1::CancelWatchRequest { watch_id: id.clone() };
    client.inner.cancel_watch(request.clone()).await.expect("is cancelled");
    client.until(&id, "settled:failed:cancelled").await;
    let again = client.inner.cancel_watch(request).await.expect_err("is settled");
    assert_eq!(again.code(), tonic::Code::FailedPrecondition);
    // What it had reserved is free again.
    let second = client.create(spec(tx(&hash), &shop(1), 100, 1)).await;
    anvil.mine(1).await;
    client.until(&second, "settled:success").await;
}

#[tokio::test]
async fn every_depth_is_reported_on_request() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let mut asked = spec(tx(&hash), &shop(1), 100, 4);
    asked.set_report(v1::Report::EveryDepth);
    let id = client.create(asked).await;
    client.until(&id, "seen").await;
    for _ in 0..4 {
        mined(&anvil, &mut client, 1).await;
    }
    let story = client.until(&id, "settled:success").await;
    assert_eq!(story.iter().filter(|kind| *kind == "depth").count(), 3, "{story:?}");
}

#[tokio::test]
async fn a_watch_made_after_its_transaction_was_mined_has_the_same_result() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    mined(&anvil, &mut client, 5).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 3)).await;
    assert_eq!(client.until(&id, "settled:success").await, ["included", "settled:success"]);
    // Older than all blocks that are kept: by number and hash.
    mined(&anvil, &mut client, 40).await;
    let id = client.create(spec(tx(&hash), &shop(1), 50, 3)).await;
    client.until(&id, "settled:failed:already_claimed").await;
    let old = anvil.block("0x1").await;
    assert!(quantity(&old["number"]) == 1);
    tokio::time::sleep(Duration::from_millis(1)).await;
}
