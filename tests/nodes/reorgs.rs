//! Reorgs and rollbacks, on a real node; the peers' failures among them (research: alloy and viem report orphaned
//! transactions as confirmed).

use h402_watch_proto::v1;
use serde_json::json;

use crate::support::anvil::{Anvil, shop};
use crate::support::client::{spec, tx, with};
use crate::support::service::Service;
use crate::{BINARY, Setup, world, world_with};

/// Edge case 1: a reorg at the same height in which the transaction is not mined again.
#[tokio::test]
async fn same_height_reorg_is_never_reported_settled() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 3)).await;
    anvil.mine(1).await;
    client.until(&id, "included").await;
    anvil.call("anvil_reorg", json!([1, []])).await;
    client.until(&id, "orphaned").await;
    anvil.mine(6).await;
    client.head(anvil.height().await).await;
    let watch = client.get(&id).await;
    assert_ne!(watch.state(), v1::State::Settled, "its receipt is null on the chain: {watch:?}");
    assert_eq!(watch.received, "0");
}

/// Edge case 2: mined again in a later block; the depth starts anew.
#[tokio::test]
async fn reorged_into_another_block_is_included_again_with_the_new_block() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let raw = anvil.raw(&hash).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 5)).await;
    client.until(&id, "seen").await;
    anvil.mine(3).await;
    client.until(&id, "included").await;
    client.head(anvil.height().await).await;
    // Two blocks higher than before.
    anvil.call("anvil_reorg", json!([3, [[raw, 2]]])).await;
    let receipts = loop {
        let receipts = client.receipts(&id).await;
        if receipts.len() >= 4 {
            break receipts;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let kinds: Vec<_> = receipts.iter().map(|receipt| receipt.kind.as_str()).collect();
    assert_eq!(kinds, ["seen", "included", "orphaned", "included"]);
    let (before, after) =
        (&receipts[1].artefact["transaction"]["block"], &receipts[3].artefact["transaction"]["block"]);
    assert_eq!(after["height"].as_u64(), before["height"].as_u64().map(|height| height + 2));
    assert_eq!(receipts[2].artefact["leftBlock"], *before);
    anvil.mine(3).await;
    client.head(anvil.height().await).await;
    assert_ne!(client.get(&id).await.state(), v1::State::Settled, "four blocks deep since the reorg");
    anvil.mine(1).await;
    client.until(&id, "settled:success").await;
}

/// Edge case 3: the chain gets shorter, then grows without the transaction.
#[tokio::test]
async fn rollback_freezes_then_orphans_and_never_settles() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 5)).await;
    anvil.mine(2).await;
    client.until(&id, "included").await;
    client.head(anvil.height().await).await;
    anvil.call("anvil_rollback", json!([2])).await;
    anvil.call("anvil_dropTransaction", json!([hash])).await;
    client.health("degraded").await;
    let watch = client.get(&id).await;
    assert_eq!(watch.state(), v1::State::Included, "a shorter chain alone orphans nothing");
    anvil.mine(8).await;
    client.until(&id, "orphaned").await;
    client.head(anvil.height().await).await;
    assert_eq!(client.get(&id).await.state(), v1::State::Pending);
}

/// Edge case 4: a reorg after the outcome; the settlement stays, aftercare tells.
#[tokio::test]
async fn reorg_after_the_settlement_is_told_and_recovers() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let raw = anvil.raw(&hash).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 3)).await;
    anvil.mine(4).await;
    client.until(&id, "settled:success").await;
    client.head(anvil.height().await).await;
    anvil.call("anvil_reorg", json!([4, [[raw, 1]]])).await;
    let story = client.until(&id, "included").await;
    assert_eq!(&story[story.len() - 3..], ["settled:success", "orphaned", "included"]);
}

/// Edge case 6: deeper than what is kept. The network halts loudly, nothing false is told, nothing is lost.
#[tokio::test]
async fn reorg_deeper_than_the_horizon_halts_the_network() {
    let (anvil, service, mut client) = world_with(|setup| setup.horizon_blocks = 4).await;
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 4)).await;
    anvil.mine(2).await;
    client.until(&id, "included").await;
    client.head(anvil.height().await).await;
    let snapshot = client.receipts(&id).await.len();
    anvil.call("anvil_reorg", json!([5, []])).await;
    anvil.mine(2).await;
    let network = client.health("halted").await;
    assert!(network.detail.contains("forked below"), "{}", network.detail);
    assert_eq!(client.receipts(&id).await.len(), snapshot, "nothing was drawn from it");
    assert!(service.log().contains("network halted"));
}

/// Edge case 6: below what the chain itself called final.
#[tokio::test]
async fn reorg_below_the_finalized_block_halts_the_network() {
    let anvil = Anvil::start(&["--no-mining", "--slots-in-an-epoch", "1"]).await;
    anvil.mine(3).await;
    let service = Service::start(BINARY, Setup::of(&anvil)).await;
    let mut client = service.client().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let asked = with(spec(tx(&hash), &shop(1), 100, 1), |terms| {
        terms.depth = Some(v1::terms::Depth::DepthTag(v1::FinalityTag::Finalized.into()));
    });
    let id = client.create(asked).await;
    anvil.mine(4).await;
    client.until(&id, "finalized").await;
    anvil.call("anvil_reorg", json!([4, []])).await;
    anvil.mine(1).await;
    let network = client.health("halted").await;
    assert!(network.detail.contains("was final"), "{}", network.detail);
    let story = client.until(&id, "finalized").await;
    assert!(!story.contains(&"orphaned".to_owned()), "{story:?}");
}

/// Edge case 7: success on one branch, reverted on the other; only the final branch counts.
#[tokio::test]
async fn a_status_that_flips_in_a_reorg_counts_as_it_is_at_the_depth() {
    let (anvil, _service, mut client) = world().await;
    let token = anvil.deploy("TestERC20").await;
    // Minted in the block before the transfer, and gone with it in the reorg.
    let payer = crate::support::anvil::PAYER.parse().expect("an address");
    let mint = crate::support::anvil::mintCall { to: payer, v: alloy_primitives::U256::from(100) };
    anvil.invoke(&token, mint, 0).await;
    anvil.mine(1).await;
    let hash = anvil.pay_token(&token, &shop(1), 100).await;
    let raw = anvil.raw(&hash).await;
    let filler = anvil.call("eth_getTransactionByHash", json!([hash])).await["nonce"].clone();
    let asked = with(spec(tx(&hash), &shop(1), 100, 3), |terms| terms.asset = token.clone());
    let id = client.create(asked).await;
    anvil.mine(1).await;
    client.until(&id, "included").await;
    client.head(anvil.height().await).await;
    let nonce = crate::support::anvil::quantity(&filler) - 1;
    let in_place_of_the_mint = json!({
        "from": crate::support::anvil::PAYER, "to": shop(9), "value": "0x1", "nonce": format!("{nonce:#x}"),
        "gas": "0x5208", "gasPrice": "0x12a05f2000",
    });
    anvil.call("anvil_reorg", json!([2, [[in_place_of_the_mint, 0], [raw, 1]]])).await;
    anvil.mine(4).await;
    let story = client.until(&id, "settled:failed:reverted").await;
    assert!(story.contains(&"orphaned".to_owned()), "{story:?}");
}

/// Edge case 35: a reorg while the service is down.
#[tokio::test]
async fn reorg_while_the_service_is_down() {
    let (anvil, mut service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let raw = anvil.raw(&hash).await;
    let stays = client.create(spec(tx(&hash), &shop(1), 100, 6)).await;
    client.until(&stays, "seen").await;
    anvil.mine(3).await;
    client.until(&stays, "included").await;
    client.head(anvil.height().await).await;
    assert!(service.stop().await, "{}", service.log());
    anvil.call("anvil_reorg", json!([3, [[raw, 1]]])).await;
    anvil.mine(5).await;
    service.restart().await;
    let mut client = service.client().await;
    let story = client.until(&stays, "settled:success").await;
    assert_eq!(story, ["seen", "included", "orphaned", "included", "settled:success"]);
}

/// The service is down for longer than all blocks that are kept: it goes on from where it was.
#[tokio::test]
async fn a_long_absence_is_caught_up_block_by_block() {
    let (anvil, mut service, mut client) = world_with(|setup| setup.horizon_blocks = 8).await;
    let id = client.create(spec(crate::support::client::address(), &shop(1), 100, 2)).await;
    service.kill();
    anvil.mine(30).await;
    anvil.pay(&shop(1), 100).await;
    anvil.mine(150).await;
    service.restart().await;
    let mut client = service.client().await;
    let story = client.until(&id, "finalized").await;
    assert_eq!(story, ["included", "settled:success", "finalized"]);
}

/// Edge case 13: several watches on one transaction, each with its own depth; one transfer pays one of them.
#[tokio::test]
async fn several_watches_on_one_hash_all_resolve() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let mut ids = Vec::new();
    for depth in [3, 1, 2] {
        ids.push(client.create(spec(tx(&hash), &shop(1), 100, depth)).await);
    }
    anvil.mine(10).await;
    client.until(&ids[0], "settled:success").await;
    for id in &ids[1..] {
        client.until(id, "settled:failed:already_claimed").await;
        assert_eq!(client.get(id).await.reason_by, ids[0]);
    }
}
