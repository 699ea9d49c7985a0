//! Watches that are made after the fact, or on many addresses at once; without an index of transactions.

use std::time::Duration;

use h402_watch_proto::v1;
use serde_json::json;

use crate::support::bitcoind::{Bitcoind, SHOP};
use crate::support::client::{Client, address, spec, tx, with};
use crate::support::proxy::{Proxy, Reply};
use crate::support::service::{Service, Setup};
use crate::{BINARY, output_to, spend, world, world_with};

/// A service that asks a node through a proxy, by polling alone.
async fn behind(change: impl FnOnce(&mut Setup)) -> (Bitcoind, Proxy, Service, Client) {
    let node = Bitcoind::start().await;
    let proxy = Proxy::before(&node.url()).await;
    let mut setup = Setup::bitcoin(&node, None);
    setup.endpoints = vec![("node".into(), proxy.http(), None)];
    change(&mut setup);
    let service = Service::start(BINARY, setup).await;
    let client = service.client().await;
    (node, proxy, service, client)
}

fn from(spec: v1::WatchSpec, height: u64) -> v1::WatchSpec {
    with(spec, |terms| terms.from_height = Some(height))
}

/// Edge case 33: mined long since, and unspent: the node proves where.
#[tokio::test]
async fn a_transaction_that_is_deep_is_found_while_an_output_is_unspent() {
    let (node, _service, mut client) = world_with(&[], |setup| setup.horizon_blocks = 8).await;
    let shop = node.address().await;
    let txid = node.pay(&shop, 5000).await;
    node.mine(20).await;
    client.head(node.height().await).await;
    let id = client.create(spec(tx(&txid), &shop, 5000, 6)).await;
    client.has(&id, "settled:success").await;
}

/// Edge case 33: mined and spent whole: found from the height that the watch names, and pending without one.
#[tokio::test]
async fn a_spent_transaction_is_found_from_the_height_that_is_named() {
    let (node, _service, mut client) = world_with(&[], |setup| setup.horizon_blocks = 8).await;
    let shop = node.address().await;
    let (txid, raw) = node.raw_payment(&shop, 5000, true).await;
    node.send_raw(&raw).await.expect("accepted");
    node.mine(1).await;
    let height = node.height().await;
    // Every output of it is spent.
    let change = node.call("decoderawtransaction", json!([raw])).await["vout"][1].clone();
    let change = (change["scriptPubKey"]["address"].as_str().expect("an address").to_owned(), 1);
    let elsewhere = node.payer_address().await;
    let (_, child) = spend(&node, SHOP, (&txid, 0), &[(&elsewhere, 4000)]).await;
    node.send_raw(&child).await.expect("accepted");
    let sats = crate::support::bitcoind::satoshis(&node.call("gettxout", json!([txid, change.1])).await["value"]);
    let (_, child) =
        spend(&node, crate::support::bitcoind::PAYER, (&txid, change.1), &[(&elsewhere, sats - 1000)]).await;
    node.send_raw(&child).await.expect("accepted");
    node.mine(20).await;
    client.head(node.height().await).await;
    let without = client.create(spec(tx(&txid), &shop, 5000, 6)).await;
    node.mine(1).await;
    client.head(node.height().await).await;
    assert_eq!(client.get(&without).await.state(), v1::State::Pending, "nobody says where to look");
    let named = with(spec(tx(&txid), &shop, 5000, 6), |terms| terms.set_amount_rule(v1::AmountRule::Exact));
    let named = client.create(from(named, height - 30)).await;
    client.has(&named, "settled:failed:already_claimed").await;
    client.has(&without, "settled:success").await;
}

/// Edge case 31: what an address got before counts only where the watch says from which height on, by filters or without.
#[tokio::test]
async fn earlier_payments_count_from_the_height_that_is_named() {
    for arguments in [&[][..], &["-blockfilterindex=1"][..]] {
        let (node, _service, mut client) = world_with(arguments, |setup| setup.horizon_blocks = 8).await;
        let shop = node.address().await;
        let first = node.height().await + 1;
        for sats in [1000, 2000, 4000] {
            node.pay(&shop, sats).await;
            node.mine(10).await;
        }
        client.head(node.height().await).await;
        let new = client.create(spec(address(), &shop, 8000, 1)).await;
        let early = client.create(from(spec(address(), &shop, 3000, 1), first)).await;
        let late = client.create(from(spec(address(), &shop, 4000, 1), first + 1)).await;
        client.has(&early, "settled:success").await;
        assert_eq!(client.get(&early).await.received, "3000", "the oldest are taken first");
        client.has(&late, "settled:success").await;
        assert_eq!(client.get(&new).await.received, "0");
        node.pay(&shop, 8000).await;
        node.mine(1).await;
        client.has(&new, "settled:success").await;
        assert_eq!(client.get(&new).await.received, "8000");
    }
}

/// A search is told of while it goes on.
#[tokio::test]
async fn a_search_shows_how_far_it_has_come() {
    let (node, _service, mut client) = world_with(&[], |setup| setup.horizon_blocks = 8).await;
    node.mine(400).await;
    client.head(node.height().await).await;
    client.create(from(spec(address(), &node.address().await, 3000, 1), 1)).await;
    let mut seen = false;
    for _ in 0..500 {
        let networks = client.inner.list_networks(v1::ListNetworksRequest {}).await.expect("answers").into_inner();
        if let Some(search) = &networks.networks[0].search {
            assert_eq!((search.from_height, search.watches), (1, 1));
            assert!(search.next_height >= 1);
            seen = true;
        } else if seen {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("no search was told of, or it did not end");
}

/// A pruned node says what it can't look up.
#[tokio::test]
async fn what_is_pruned_is_refused_with_the_height() {
    let (node, service, mut client) =
        world_with(&["-prune=1", "-fastprune", "-blockfilterindex=0"], |setup| setup.horizon_blocks = 8).await;
    node.mine(900).await;
    client.head(node.height().await).await;
    let pruned = node.call("pruneblockchain", json!([600])).await;
    assert!(pruned.as_i64().is_some_and(|height| height > 0), "{pruned}");
    let refused = loop {
        let asked = from(spec(address(), &node.address().await, 3000, 1), 5);
        match client.try_create(asked).await {
            Err(refused) => break refused,
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
        assert!(!service.log().contains("panicked"));
    };
    assert!(refused.message().contains("watch.terms.from_height"), "{refused}");
    assert!(refused.message().contains("pruned"), "{refused}");
    let shop = node.address().await;
    let id = client.create(from(spec(address(), &shop, 3000, 1), node.height().await - 5)).await;
    node.pay(&shop, 3000).await;
    node.mine(1).await;
    client.until(&id, "settled:success").await;
}

/// Edge case 32: paid in the very block during which the watch is made.
#[tokio::test]
async fn a_payment_in_the_block_of_the_registration_is_found() {
    let (node, _service, mut client) = world().await;
    for n in 0..10 {
        let (shop, other) = (node.address().await, node.address().await);
        let (_, raw) = node.raw_payment(&shop, 5000, true).await;
        let (txid, other_raw) = node.raw_payment(&other, 6000, true).await;
        let mut second = client.clone();
        let (mined, to_address, to_tx) = tokio::join!(
            async {
                tokio::time::sleep(std::time::Duration::from_millis(n)).await;
                node.mine_with(&[&raw, &other_raw]).await
            },
            client.create(from(spec(address(), &shop, 5000, 1), 1)),
            second.create(spec(tx(&txid), &other, 6000, 1)),
        );
        client.until(&to_address, "settled:success").await;
        client.until(&to_tx, "settled:success").await;
        let settled = client.receipts(&to_tx).await.pop().expect("a settlement").artefact;
        assert_eq!(settled["transfers"][0]["block"]["hash"], mined);
    }
}

/// A payment that waits in the mempool when the watch is made is seen.
#[tokio::test]
async fn a_payment_that_is_pending_already_is_seen() {
    let (node, _service, mut client) = world().await;
    let shop = node.address().await;
    node.pay(&shop, 5000).await;
    let txid = node.pay(&node.address().await, 7000).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let id = client.create(spec(address(), &shop, 5000, 1)).await;
    client.until(&id, "seen").await;
    let id = client.create(spec(tx(&txid), &shop, 5000, 1)).await;
    client.until(&id, "seen").await;
}

/// A chain whose blocks come faster than a batch of look-ups takes: the look-ups end, and so does the wait for blocks.
#[tokio::test]
async fn look_ups_end_however_fast_blocks_come() {
    let (node, proxy, _service, mut client) = behind(|setup| setup.horizon_blocks = 256).await;
    let shop = node.address().await;
    let mut paid = Vec::new();
    for _ in 0..3 {
        paid.push(node.pay(&shop, 5000).await);
    }
    node.mine(1).await;
    client.head(node.height().await).await;
    // A hundred of them take longer than a block.
    proxy.behave(|method, _, result| match method {
        "gettxout" => Reply::Later(Duration::from_millis(1), Box::new(Reply::Result(result))),
        _ => Reply::Result(result),
    });
    let mut watcher = client.clone();
    let watched = async {
        let mut ids = Vec::new();
        for (batch, txid) in (0..).zip(&paid) {
            let strangers = (0..150).map(|n| spec(tx(&format!("{batch:08x}{n:056x}")), &shop, 5000, 1));
            watcher.create_all(strangers.collect()).await;
            ids.push(watcher.create(spec(tx(txid), &shop, 5000, 1)).await);
        }
        for id in &ids {
            watcher.has(id, "settled:success").await;
        }
    };
    let blocks = async {
        loop {
            node.mine_empty(1).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = watched => {}
        () = blocks => {}
    }
    client.head(node.height().await).await;
}

/// While the node has blocks that the service has not heard of, look-ups are answered under the head that it knows.
#[tokio::test]
async fn look_ups_are_answered_by_a_node_that_is_ahead() {
    let (node, proxy, _service, mut client) = behind(|_| {}).await;
    let shops = [node.address().await, node.address().await, node.address().await];
    let mined = node.pay(&shops[0], 5000).await;
    node.mine(1).await;
    client.head(node.height().await).await;
    let head = json!(node.best().await);
    proxy.behave(move |method, _, result| match method {
        "getbestblockhash" => Reply::Result(head.clone()),
        _ => Reply::Result(result),
    });
    let above = node.pay(&shops[1], 5000).await;
    node.mine(2).await;
    let pending = node.pay(&shops[2], 5000).await;
    let above = client.create(spec(tx(&above), &shops[1], 5000, 1)).await;
    let mined = client.create(spec(tx(&mined), &shops[0], 5000, 1)).await;
    let pending = client.create(spec(tx(&pending), &shops[2], 5000, 1)).await;
    client.has(&mined, "settled:success").await;
    client.until(&pending, "seen").await;
    assert_eq!(client.receipts(&above).await.len(), 0, "its block is not known yet");
    proxy.behave(|_, _, result| Reply::Result(result));
    client.has(&above, "settled:success").await;
    node.mine(1).await;
    client.has(&pending, "settled:success").await;
}

/// "Has this address been paid?", with or without a watch.
#[tokio::test]
async fn an_address_is_asked_about() {
    let (node, _service, mut client) = world().await;
    let shop = node.address().await;
    let paid = node.pay(&shop, 1_000_000).await;
    node.mine(1).await;
    let output = output_to(&node, &paid, &shop).await;
    let elsewhere = node.payer_address().await;
    let (_, change) = spend(&node, SHOP, (&paid, output), &[(&elsewhere, 300_000), (&shop, 690_000)]).await;
    node.send_raw(&change).await.expect("accepted");
    node.mine(2).await;
    client.head(node.height().await).await;
    let ask = v1::CheckAddressRequest { network: "dev".into(), address: shop.clone(), ..Default::default() };
    let report = client.inner.check_address(ask).await.expect("answers").into_inner();
    assert_eq!((report.total.as_str(), report.transfers.len()), ("1000000", 1), "change to oneself is no payment");
    assert_eq!((report.transfers[0].tx.as_str(), report.transfers[0].depth), (paid.as_str(), 3));
}

async fn descriptor(node: &Bitcoind) -> String {
    let listed = node.wallet_call(SHOP, "listdescriptors", json!([])).await;
    let all = listed["descriptors"].as_array().expect("descriptors");
    let receive =
        all.iter().find(|it| it["desc"].as_str().is_some_and(|it| it.starts_with("wpkh")) && it["internal"] == false);
    receive.expect("one")["desc"].as_str().expect("text").to_owned()
}

fn on_descriptor(text: &str, amount: u64, gap_limit: u32) -> v1::WatchSpec {
    let subject = v1::DescriptorSubject { text: text.into(), gap_limit };
    spec(v1::watch_spec::Subject::OutputDescriptor(subject), "", amount, 1)
}

async fn next(client: &mut Client, watch: &str, reserve: bool) -> v1::NextAddressResponse {
    let request = v1::NextAddressRequest { watch_id: watch.into(), reserve };
    client.inner.next_address(request).await.expect("one").into_inner()
}

/// Edge case 44, and more: a wallet's own descriptor, its addresses in turn, found within the gap and not beyond it, with the
/// path in each receipt.
#[tokio::test]
async fn a_descriptor_is_watched_within_its_gap() {
    let (node, mut service, mut client) = world().await;
    let text = descriptor(&node).await;
    let addresses = node.call("deriveaddresses", json!([text, [0, 40]])).await;
    let nth = |n: usize| addresses[n].as_str().expect("an address").to_owned();
    let id = client.create(on_descriptor(&text, 100_000, 5)).await;
    assert_eq!(next(&mut client, &id, true).await, v1::NextAddressResponse { address: nth(0), path: "0/0".into() });
    assert_eq!(next(&mut client, &id, true).await.address, nth(1), "one that was handed out is not handed out again");
    // Beyond the gap: not seen, until one below is used.
    node.pay(&nth(8), 40_000).await;
    node.pay(&nth(4), 30_000).await;
    client.at_least(&id, 2).await;
    node.mine(1).await;
    client.at_least(&id, 4).await;
    service.kill();
    service.restart().await;
    let mut client = service.client().await;
    node.pay(&nth(13), 30_000).await;
    node.mine(1).await;
    client.until(&id, "settled:success").await;
    let settled = client.receipts(&id).await.pop().expect("a settlement").artefact;
    let paths: Vec<_> =
        settled["transfers"].as_array().expect("transfers").iter().map(|it| it["path"].clone()).collect();
    assert_eq!(paths.len(), 3);
    for path in ["0/4", "0/8", "0/13"] {
        assert!(paths.contains(&path.into()), "{path}: {paths:?}");
    }
    assert_eq!(settled["received"], "100000");
    let far = client.create(on_descriptor(&text, 100_001, 2)).await;
    node.pay(&nth(40), 100_001).await;
    node.mine(1).await;
    client.head(node.height().await).await;
    assert_eq!(client.get(&far).await.received, "0", "beyond the gap");
}

/// A descriptor that was used before the watch: found from the height that is named, as far as its gap goes on.
#[tokio::test]
async fn a_descriptor_that_was_used_before_is_caught_up_with() {
    let (node, _service, mut client) = world_with(&[], |setup| setup.horizon_blocks = 8).await;
    let text = descriptor(&node).await;
    let addresses = node.call("deriveaddresses", json!([text, [0, 40]])).await;
    let first = node.height().await + 1;
    for n in [2, 5, 9, 12] {
        node.pay(addresses[n].as_str().expect("an address"), 10_000).await;
        node.mine(5).await;
    }
    client.head(node.height().await).await;
    let id = client.create(from(on_descriptor(&text, 40_000, 4), first)).await;
    client.until(&id, "settled:success").await;
    let next_address = client.create(on_descriptor(&text, 50_000, 4)).await;
    assert_eq!(next(&mut client, &next_address, false).await.path, "0/0");
}

/// Private keys are refused, and stand in no answer and no log.
#[tokio::test]
async fn a_private_descriptor_is_refused_and_never_told() {
    let (node, service, mut client) = world().await;
    let listed = node.wallet_call(SHOP, "listdescriptors", json!([true])).await;
    let private = listed["descriptors"][0]["desc"].as_str().expect("text").to_owned();
    let key: String = private.chars().skip_while(|c| *c != 't').take(111).collect();
    assert!(key.starts_with("tprv"), "a private key");
    let refused = client.try_create(on_descriptor(&private, 1, 0)).await.expect_err("is refused");
    assert!(refused.message().contains("output_descriptor.text"), "{refused}");
    assert!(refused.message().contains("private"), "{refused}");
    let secret = &key[10..40];
    assert!(!format!("{refused:?}").contains(secret));
    assert!(!service.log().contains(secret));
}
