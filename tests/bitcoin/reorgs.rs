//! Reorgs, made with `invalidateblock` and blocks of the test's own on the other branch.

use h402_watch_proto::v1;
use serde_json::json;

use crate::support::bitcoind::Bitcoind;
use crate::support::client::{Client, address, spec, tx};
use crate::support::service::Service;
use crate::{world, world_with};

/// A payment in the lowest of `n` blocks: the watch on its transaction, the txid, its hex, and that block.
async fn paid_under(node: &Bitcoind, client: &mut Client, n: u64, depth: u32) -> (String, String, String, String) {
    let shop = node.address().await;
    let txid = node.pay(&shop, 5000).await;
    let id = client.create(spec(tx(&txid), &shop, 5000, depth)).await;
    client.until(&id, "seen").await;
    let block = node.mine(n).await.remove(0);
    client.has(&id, "included").await;
    client.head(node.height().await).await;
    let raw = node.raw(&txid).await;
    (id, txid, raw, block)
}

async fn depth_of(client: &mut Client, id: &str) -> u64 {
    client.get(id).await.transactions[0].depth
}

/// Edge cases 15, 20 and 24: the transaction moves to a higher block, in reorgs of 1, 3 and 10 blocks.
#[tokio::test]
async fn a_payment_that_moves_starts_anew() {
    for n in [1, 3, 10] {
        let (node, _service, mut client) = world().await;
        let (id, _, raw, block) = paid_under(&node, &mut client, n, 12).await;
        node.invalidate(&block).await;
        node.mine_empty(1).await;
        let moved = node.mine_with(&[&raw]).await;
        node.mine_empty(n.saturating_sub(1)).await;
        client.has(&id, "orphaned").await;
        client.until(&id, "included").await;
        client.head(node.height().await).await;
        // It may have been seen in the mempool between the branches.
        let kinds: Vec<_> = client.receipts(&id).await.iter().map(|receipt| receipt.kind.clone()).collect();
        assert_eq!((kinds[2].as_str(), kinds.last().map(String::as_str)), ("orphaned", Some("included")), "{kinds:?}");
        let receipts = client.receipts(&id).await;
        assert_eq!(receipts[2].artefact["leftBlock"]["hash"], block);
        let last = receipts.last().expect("one");
        assert_eq!(last.artefact["transaction"]["block"]["hash"], moved);
        assert_eq!(depth_of(&mut client, &id).await, n.max(1), "{n}");
        node.mine(12).await;
        client.until(&id, "settled:success").await;
    }
}

/// Edge case 18: the other branch holds a double spend, in reorgs of 1, 3 and 10 blocks. bitcoind still gives the transaction
/// out under its old block, and says nothing of its removal.
#[tokio::test]
async fn a_payment_that_vanishes_is_never_settled() {
    for n in [1, 3, 10] {
        let (node, _service, mut client) = world().await;
        let (id, txid, _, block) = paid_under(&node, &mut client, n, 12).await;
        let (other, conflict) = node.double_spend(&txid, &node.payer_address().await, 5000, true).await;
        node.invalidate(&block).await;
        node.mine_with(&[&conflict]).await;
        node.mine_empty(n).await;
        client.head(node.height().await).await;
        client.has(&id, "orphaned").await;
        assert_ne!(client.get(&id).await.state(), v1::State::Settled);
        assert_eq!(client.get(&id).await.received, "0");
        node.mine_empty(12).await;
        client.until(&id, "settled:failed:replaced").await;
        assert_eq!(client.get(&id).await.reason_by, other);
    }
}

/// Edge cases 17 and 19: back to the mempool, and mined again, in reorgs of 1, 3 and 10 blocks.
#[tokio::test]
async fn a_payment_that_returns_to_the_mempool_is_mined_again() {
    for n in [1, 3, 10] {
        let (node, _service, mut client) = world().await;
        let (id, _, _, block) = paid_under(&node, &mut client, n, 12).await;
        node.invalidate(&block).await;
        node.mine_empty(n + 1).await;
        let story = client.until(&id, "seen").await;
        assert_eq!(story, ["seen", "included", "orphaned", "seen"], "{n}");
        node.mine(1).await;
        client.until(&id, "included").await;
        node.mine(11).await;
        client.until(&id, "settled:success").await;
    }
}

/// Edge case 16: the same height, another block.
#[tokio::test]
async fn a_payment_that_moves_at_its_height_is_told_of() {
    let (node, _service, mut client) = world().await;
    let (id, _, raw, block) = paid_under(&node, &mut client, 1, 3).await;
    node.invalidate(&block).await;
    let other = node.mine_with(&[&raw]).await;
    client.has(&id, "orphaned").await;
    client.until(&id, "included").await;
    let receipts = client.receipts(&id).await;
    assert_eq!(receipts[2].kind, "orphaned");
    let height = |i: usize| receipts[i].artefact["transaction"]["block"]["height"].as_u64();
    assert_eq!(height(1), height(receipts.len() - 1));
    assert_eq!(receipts[receipts.len() - 1].artefact["transaction"]["block"]["hash"], other);
    node.mine(2).await;
    client.until(&id, "settled:success").await;
}

/// Edge case 23: the tip goes back, and nothing follows yet. Nothing is drawn from that until there is another block.
#[tokio::test]
async fn a_tip_that_goes_back_freezes_the_network() {
    let (node, _service, mut client) = world().await;
    let (id, _, _, block) = paid_under(&node, &mut client, 2, 3).await;
    node.invalidate(&block).await;
    client.health("degraded").await;
    assert_eq!(client.get(&id).await.state(), v1::State::Included, "a shorter chain alone orphans nothing");
    node.mine_empty(1).await;
    client.until(&id, "seen").await;
    client.health("following").await;
}

/// Edge case 22: there and back again.
#[tokio::test]
async fn a_fork_that_flips_back_ends_where_it_began() {
    let (node, _service, mut client) = world().await;
    let (id, _, _, block) = paid_under(&node, &mut client, 2, 4).await;
    node.invalidate(&block).await;
    let other = node.mine_empty(3).await;
    client.until(&id, "seen").await;
    node.invalidate(&other[0]).await;
    node.reconsider(&block).await;
    node.mine_empty(2).await;
    client.until(&id, "settled:success").await;
    let receipts = client.receipts(&id).await;
    assert_eq!(receipts.last().expect("one").artefact["transfers"][0]["block"]["hash"], block);
    let sequences: Vec<_> = receipts.iter().map(|receipt| receipt.sequence).collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
}

/// Edge case 21: a reorg, and another one, while the service is down.
#[tokio::test]
async fn reorgs_while_the_service_is_down_are_caught_up_with() {
    let (node, mut service, mut client) = world().await;
    let (id, _, _, block) = paid_under(&node, &mut client, 3, 6).await;
    assert!(service.stop().await, "ends well");
    node.invalidate(&block).await;
    let second = node.mine_empty(4).await;
    node.invalidate(&second[0]).await;
    node.mine_empty(5).await;
    service.restart().await;
    let mut client = service.client().await;
    assert_eq!(client.until(&id, "seen").await, ["seen", "included", "orphaned", "seen"]);
    node.mine(6).await;
    client.until(&id, "settled:success").await;
}

/// Deeper than what is kept: the network halts loudly, and nothing false is told.
#[tokio::test]
async fn a_reorg_deeper_than_the_horizon_halts_the_network() {
    let (node, service, mut client) = world_with(&[], |setup| setup.horizon_blocks = 6).await;
    let (id, _, _, block) = paid_under(&node, &mut client, 5, 6).await;
    let told = client.receipts(&id).await.len();
    let deeper = node.block_hash(node.height().await - 7).await;
    node.invalidate(&block).await;
    node.invalidate(&deeper).await;
    node.mine_empty(12).await;
    let network = client.health("halted").await;
    assert!(network.detail.contains("forked below"), "{}", network.detail);
    assert!(service.log().contains("network halted"));
    assert_eq!(client.receipts(&id).await.len(), told, "nothing was drawn from it");
    node.invalidate(&node.block_hash(node.height().await - 11).await).await;
    node.reconsider(&deeper).await;
    node.reconsider(&block).await;
    node.mine_empty(1).await;
    client.until(&id, "settled:success").await;
}

/// Edge case 20: after the outcome. The settlement stays; what becomes of the money is told.
#[tokio::test]
async fn a_reorg_after_the_settlement_is_told_and_reversed_in_the_end() {
    let (node, _service, mut client) = world_with(&[], |setup| setup.horizon_blocks = 8).await;
    let (id, txid, _, block) = paid_under(&node, &mut client, 3, 3).await;
    client.until(&id, "settled:success").await;
    let (_, conflict) = node.double_spend(&txid, &node.payer_address().await, 5000, true).await;
    node.invalidate(&block).await;
    node.mine_with(&[&conflict]).await;
    node.mine_empty(3).await;
    client.until(&id, "orphaned").await;
    assert_eq!(client.get(&id).await.outcome(), v1::Outcome::Success, "a settlement is never rewritten");
    node.mine_empty(8).await;
    client.until(&id, "reversed").await;
}

/// Edge case 14: a coinbase whose block leaves the chain is gone at once.
#[tokio::test]
async fn a_reorged_coinbase_is_gone() {
    let (node, _service, mut client) = world().await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 1, 1)).await;
    let block = node.mine_to(&shop, 1).await.remove(0);
    client.until(&id, "included").await;
    node.invalidate(&block).await;
    node.mine_empty(2).await;
    client.until(&id, "orphaned").await;
    client.head(node.height().await).await;
    assert_eq!(client.get(&id).await.state(), v1::State::Pending);
}

/// Edge case 49: both branches hold the same coinbase.
#[tokio::test]
async fn the_same_coinbase_in_both_branches_moves() {
    let (node, _service, mut client) = world().await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 1, 1)).await;
    let block = node.mine_to(&shop, 1).await.remove(0);
    client.until(&id, "included").await;
    let first = client.receipts(&id).await[0].artefact["transaction"].clone();
    node.invalidate(&block).await;
    // A second later the block is another one, and its coinbase the same.
    let later = node.call("getblockheader", json!([block])).await["time"].as_u64().expect("a time") + 10;
    node.call("setmocktime", json!([later])).await;
    let other = node.mine_to(&shop, 1).await.remove(0);
    assert_ne!(block, other);
    let story = client.at_least(&id, 3).await;
    let kinds: Vec<_> = story.iter().map(|receipt| receipt.kind.as_str()).collect();
    assert_eq!(kinds, ["included", "orphaned", "included"]);
    let second = &story[2].artefact["transaction"];
    assert_eq!(first["tx"], second["tx"]);
    assert_eq!((&first["block"]["hash"], &second["block"]["hash"]), (&block.into(), &other.into()));
}

/// As on every path: the service is killed in the middle of it.
#[tokio::test]
async fn a_killed_service_tells_the_same_story() {
    let (node, mut service, mut client) = world().await;
    let (id, _, _, block) = paid_under(&node, &mut client, 2, 5).await;
    kill(&mut service).await;
    node.invalidate(&block).await;
    node.mine_empty(3).await;
    let mut client = service.client().await;
    client.until(&id, "seen").await;
    kill(&mut service).await;
    node.mine(5).await;
    let mut client = service.client().await;
    let story = client.until(&id, "settled:success").await;
    assert_eq!(story, ["seen", "included", "orphaned", "seen", "included", "settled:success"]);
}

async fn kill(service: &mut Service) {
    service.kill();
    service.restart().await;
}
