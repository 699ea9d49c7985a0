//! What becomes of payments, from the mempool to the settlement.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{ScriptBuf, Transaction};
use h402_watch_proto::v1;

use crate::support::bitcoind::{PAYER, SHOP};
use crate::support::client::{address, now_ms, spec, tx, with};
use crate::{output_to, sign, spend, world, world_with};

/// Edge cases 1, 2, 25 and 50: unconfirmed, then confirmed, each told once; the txid names it, the wtxid is noted.
#[tokio::test]
async fn a_payment_is_seen_included_and_settled() {
    let (node, _service, mut client) = world().await;
    let (shop, other) = (node.address().await, node.address().await);
    // The sum that floating point gets wrong.
    let asked = 10_000_000 + 20_000_000;
    let to_address = client.create(spec(address(), &shop, asked, 2)).await;
    let txids = [node.pay(&shop, asked).await, node.pay(&other, asked).await];
    let to_tx = client.create(spec(tx(&txids[1]), &other, asked, 2)).await;
    for id in [&to_address, &to_tx] {
        client.until(id, "seen").await;
    }
    let block = node.mine(1).await.remove(0);
    for id in [&to_address, &to_tx] {
        client.until(id, "included").await;
    }
    node.mine(1).await;
    for (id, txid) in [&to_address, &to_tx].into_iter().zip(txids) {
        assert_eq!(client.until(id, "settled:success").await, ["seen", "included", "settled:success"]);
        let receipts = client.receipts(id).await;
        let included = &receipts[1].artefact["transaction"];
        assert_eq!((&included["tx"], &included["block"]["hash"]), (&txid.into(), &block.clone().into()));
        assert_eq!(included["verification"], "trie");
        assert_eq!(included["notes"]["wtxid"].as_str().map(str::len), Some(64));
        assert_eq!(receipts[2].artefact["received"], asked.to_string());
    }
}

/// Edge case 3: nothing heard of it before its block.
#[tokio::test]
async fn a_payment_first_seen_in_a_block_is_included_straight() {
    let (node, _service, mut client) = world().await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 5000, 1)).await;
    let (_, raw) = node.raw_payment(&shop, 5000, true).await;
    node.mine_with(&[&raw]).await;
    assert_eq!(client.until(&id, "settled:success").await, ["included", "settled:success"]);
}

/// Edge case 4: a dearer one takes its place and pays as well.
#[tokio::test]
async fn a_bump_that_still_pays_is_followed() {
    let (node, _service, mut client) = world().await;
    let (shop, other) = (node.address().await, node.address().await);
    let to_address = client.create(spec(address(), &shop, 5000, 1)).await;
    let txids = [node.pay(&shop, 5000).await, node.pay(&other, 5000).await];
    let to_tx = client.create(spec(tx(&txids[1]), &other, 5000, 1)).await;
    for id in [&to_address, &to_tx] {
        client.until(id, "seen").await;
    }
    let bumped = [node.bump(&txids[0]).await, node.bump(&txids[1]).await];
    for id in [&to_address, &to_tx] {
        client.at_least(id, 3).await;
    }
    node.mine(1).await;
    let story = client.until(&to_tx, "settled:success").await;
    assert_eq!(story, ["seen", "replaced", "seen", "included", "settled:success"]);
    let story = client.until(&to_address, "settled:success").await;
    assert_eq!(story, ["seen", "evicted", "seen", "included", "settled:success"]);
    for (id, bumped) in [&to_address, &to_tx].into_iter().zip(bumped) {
        let settled = client.receipts(id).await.pop().expect("a settlement").artefact;
        assert_eq!((&settled["transfers"][0]["tx"], &settled["received"]), (&bumped.into(), &"5000".into()));
    }
}

/// Edge cases 5 and 6: the money goes elsewhere. One that let itself be replaced was replaced; one that did not was double-spent.
#[tokio::test]
async fn a_double_spend_fails_once_it_is_deep_enough() {
    for (replaceable, outcome) in [(true, "settled:failed:replaced"), (false, "settled:failed:conflicted")] {
        let (node, _service, mut client) = world().await;
        let shop = node.address().await;
        let to_address = client.create(spec(address(), &shop, 5000, 2)).await;
        let (txid, raw) = node.raw_payment(&shop, 5000, replaceable).await;
        node.send_raw(&raw).await.expect("accepted");
        let to_tx = client.create(spec(tx(&txid), &shop, 5000, 2)).await;
        for id in [&to_address, &to_tx] {
            client.until(id, "seen").await;
        }
        let (other, raw) = node.double_spend(&txid, &node.payer_address().await, 5000, true).await;
        node.send_raw(&raw).await.expect("full RBF");
        client.until(&to_address, "evicted").await;
        assert_eq!(client.get(&to_address).await.received, "0");
        node.mine(1).await;
        client.head(node.height().await).await;
        assert_ne!(client.get(&to_tx).await.state(), v1::State::Settled, "one block is not the depth");
        node.mine(1).await;
        client.until(&to_tx, outcome).await;
        assert_eq!(client.get(&to_tx).await.reason_by, other);
        assert_eq!(client.get(&to_address).await.state(), v1::State::Pending);
    }
}

/// Edge case 8: the conflict was in no mempool.
#[tokio::test]
async fn a_double_spend_straight_into_a_block_is_found() {
    let (node, _service, mut client) = world().await;
    let shop = node.address().await;
    let to_address = client.create(spec(address(), &shop, 5000, 1)).await;
    let txid = node.pay(&shop, 5000).await;
    let to_tx = client.create(spec(tx(&txid), &shop, 5000, 1)).await;
    for id in [&to_address, &to_tx] {
        client.until(id, "seen").await;
    }
    let (_, raw) = node.double_spend(&txid, &node.payer_address().await, 5000, true).await;
    node.mine_with(&[&raw]).await;
    client.until(&to_tx, "settled:failed:replaced").await;
    client.until(&to_address, "evicted").await;
}

/// Edge case 7: what a payment spends from was replaced, and it falls with that.
#[tokio::test]
async fn a_child_falls_with_its_replaced_parent() {
    let (node, _service, mut client) = world().await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 990_000, 1)).await;
    let (parent, raw) = node.raw_payment(&node.payer_address().await, 1_000_000, true).await;
    node.send_raw(&raw).await.expect("accepted");
    let (_, raw) = spend(&node, PAYER, (&parent, 0), &[(&shop, 990_000)]).await;
    node.send_raw(&raw).await.expect("accepted");
    client.until(&id, "seen").await;
    let (_, raw) = node.double_spend(&parent, &node.payer_address().await, 5000, true).await;
    node.send_raw(&raw).await.expect("full RBF");
    client.until(&id, "evicted").await;
    assert_eq!(client.get(&id).await.received, "0");
}

/// Edge cases 9 and 10: the receiver spends what it got at once, before it is mined and after.
#[tokio::test]
async fn what_the_receiver_spends_on_is_a_payment_still() {
    let (node, _service, mut client) = world().await;
    let (first, second) = (node.address().await, node.address().await);
    let ids = [
        client.create(spec(address(), &first, 1_000_000, 3)).await,
        client.create(spec(address(), &second, 1_000_000, 3)).await,
    ];
    let paid = [node.pay(&first, 1_000_000).await, node.pay(&second, 1_000_000).await];
    let elsewhere = node.payer_address().await;
    // A child that pays for its parent: an output that only the mempool has spent looks like none at all.
    let output = output_to(&node, &paid[0], &first).await;
    let (_, child) = spend(&node, SHOP, (&paid[0], output), &[(&elsewhere, 900_000)]).await;
    node.send_raw(&child).await.expect("accepted");
    for id in &ids {
        client.until(id, "seen").await;
    }
    node.mine(1).await;
    let output = output_to(&node, &paid[1], &second).await;
    let (_, child) = spend(&node, SHOP, (&paid[1], output), &[(&elsewhere, 900_000)]).await;
    node.send_raw(&child).await.expect("accepted");
    node.mine(2).await;
    for id in &ids {
        assert_eq!(client.until(id, "settled:success").await, ["seen", "included", "settled:success"]);
    }
}

/// Edge case 12, and 13 by hand: the mempool forgot it; it is broadcast again.
#[tokio::test]
async fn what_a_mempool_forgot_may_return() {
    let (mut node, _service, mut client) = world_with(&["-walletbroadcast=0"], |_| {}).await;
    let (shop, other) = (node.address().await, node.address().await);
    let to_address = client.create(spec(address(), &shop, 5000, 1)).await;
    let (_, first) = node.raw_payment(&shop, 5000, true).await;
    node.send_raw(&first).await.expect("accepted");
    let (txid, second) = node.raw_payment(&other, 5000, true).await;
    node.send_raw(&second).await.expect("accepted");
    let to_tx = client.create(spec(tx(&txid), &other, 5000, 1)).await;
    for id in [&to_address, &to_tx] {
        client.until(id, "seen").await;
    }
    node.kill();
    node.start_again().await;
    for id in [&to_address, &to_tx] {
        client.until(id, "evicted").await;
        assert_eq!(client.get(id).await.state(), v1::State::Pending, "it can return");
    }
    for raw in [&first, &second] {
        node.send_raw(raw).await.expect("accepted");
    }
    for id in [&to_address, &to_tx] {
        client.until(id, "seen").await;
    }
    node.mine(1).await;
    for id in [&to_address, &to_tx] {
        let story = client.until(id, "settled:success").await;
        assert_eq!(story, ["seen", "evicted", "seen", "included", "settled:success"]);
    }
}

/// Edge case 11: the mempool is full, and the cheapest has to go.
#[tokio::test]
async fn a_payment_that_a_full_mempool_drops_is_evicted() {
    let (node, _service, mut client) = world_with(&["-maxmempool=5", "-minrelaytxfee=0.00000100"], |_| {}).await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 5000, 1)).await;
    let (_, raw) = node.raw_payment(&shop, 5000, true).await;
    node.send_raw(&raw).await.expect("accepted");
    client.until(&id, "seen").await;
    let others: Vec<_> = (0..2000).map(|n| (crate::support::bitcoind::anybody(n), 1000)).collect();
    let others: Vec<_> = others.iter().map(|(address, sats)| (address.as_str(), *sats)).collect();
    for _ in 0..60 {
        if client.receipts(&id).await.len() > 1 {
            break;
        }
        node.pay_many_dearly(&others).await;
    }
    assert_eq!(client.until(&id, "evicted").await, ["seen", "evicted"]);
}

/// Edge cases 26, 27 and 28: sums over transactions and outputs; two watches on one address.
#[tokio::test]
async fn outputs_and_transactions_add_up() {
    let (node, _service, mut client) = world().await;
    let (shop, other) = (node.address().await, node.address().await);
    let first = client.create(spec(address(), &shop, 10_000, 1)).await;
    let second = client.create(spec(address(), &shop, 4000, 1)).await;
    let third = client.create(spec(address(), &other, 1000, 1)).await;
    node.pay_many(&[(&shop, 6000), (&other, 1000)]).await;
    // Twice to the same address, which bitcoind's own calls refuse to make.
    let (_, raw) = node.raw_payment(&shop, 4000, true).await;
    let mut twice: Transaction = deserialize_hex(&raw).expect("a transaction");
    let again = twice.output[0].clone();
    twice.output[1].value -= again.value;
    twice.output.push(again);
    let (txid, raw) = sign(&node, PAYER, &serialize_hex(&twice)).await;
    node.send_raw(&raw).await.expect("accepted");
    let whole = client.create(spec(tx(&txid), &shop, 8000, 1)).await;
    for id in [&first, &second, &third] {
        client.until(id, "seen").await;
    }
    node.mine(1).await;
    for id in [&first, &second, &third] {
        client.until(id, "settled:success").await;
    }
    let settled = client.receipts(&first).await.pop().expect("a settlement").artefact;
    assert_eq!((&settled["received"], settled["transfers"].as_array().map(Vec::len)), (&"10000".into(), Some(2)));
    // Each output pays one watch: the two addresses have taken both.
    client.until(&whole, "settled:failed:already_claimed").await;
}

/// Edge case 29: more than asked, and more than allowed.
#[tokio::test]
async fn more_than_asked_is_enough_unless_it_must_be_exact() {
    let (node, _service, mut client) = world().await;
    let (shop, strict) = (node.address().await, node.address().await);
    let id = client.create(spec(address(), &shop, 5000, 1)).await;
    node.pay(&shop, 7000).await;
    let txid = node.pay(&strict, 7000).await;
    let exact = with(spec(tx(&txid), &strict, 5000, 1), |terms| terms.set_amount_rule(v1::AmountRule::Exact));
    let exact = client.create(exact).await;
    node.mine(1).await;
    client.until(&id, "settled:success").await;
    assert_eq!(client.get(&id).await.received, "7000");
    client.until(&exact, "settled:failed:overpaid").await;
}

/// Edge case 30: dust counts like any other satoshi.
#[tokio::test]
async fn dust_counts() {
    let (node, _service, mut client) = world().await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 5294, 1)).await;
    node.pay(&shop, 294).await;
    node.pay(&shop, 5000).await;
    node.mine(1).await;
    client.until(&id, "settled:success").await;
    assert_eq!(client.get(&id).await.received, "5294");
}

/// Change back to the watched address is no payment, of whichever kind the address is: taproot's key path does not show
/// whose coins are spent.
#[tokio::test]
async fn change_back_to_oneself_is_no_payment() {
    let (node, _service, mut client) = world().await;
    for kind in ["legacy", "p2sh-segwit", "bech32", "bech32m"] {
        let shop = node.address_of(kind).await;
        let funding = node.pay(&shop, 1_000_000).await;
        node.mine(1).await;
        client.head(node.height().await).await;
        let id = client.create(spec(address(), &shop, 500_000, 1)).await;
        let output = output_to(&node, &funding, &shop).await;
        let elsewhere = node.payer_address().await;
        let (change, raw) = spend(&node, SHOP, (&funding, output), &[(&elsewhere, 300_000), (&shop, 690_000)]).await;
        let by_tx = client.create(spec(tx(&change), &shop, 500_000, 1)).await;
        node.send_raw(&raw).await.expect("accepted");
        client.until(&by_tx, "seen").await;
        node.mine(1).await;
        client.until(&by_tx, "settled:failed:payer_mismatch").await;
        assert_eq!(client.receipts(&id).await.len(), 0, "{kind}: what one pays oneself is no payment");
        node.pay(&shop, 500_000).await;
        node.mine(1).await;
        client.until(&id, "settled:success").await;
        assert_eq!(client.get(&id).await.received, "500000", "{kind}");
    }
}

/// Edge case 14: a coinbase can be spent, and counts, at depth 100.
#[tokio::test]
async fn a_coinbase_ripens_before_it_counts() {
    let (node, _service, mut client) = world().await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 1, 1)).await;
    node.mine_to(&shop, 1).await;
    client.until(&id, "included").await;
    node.mine(98).await;
    client.head(node.height().await).await;
    assert_eq!(client.get(&id).await.state(), v1::State::Included, "99 deep");
    node.mine(1).await;
    client.until(&id, "settled:success").await;
    assert_eq!(client.receipts(&id).await[0].artefact["transaction"]["notes"]["coinbase"], "true");
}

/// Depth 0: accepted as soon as it is seen; the settlement waits for a block.
#[tokio::test]
async fn optimism_accepts_at_once_and_settles_in_a_block() {
    let (node, _service, mut client) = world().await;
    let shop = node.address().await;
    let id = client.create(spec(address(), &shop, 5000, 0)).await;
    node.pay(&shop, 5000).await;
    client.until(&id, "accepted").await;
    node.mine(1).await;
    let story = client.until(&id, "settled:success").await;
    assert_eq!(story, ["seen", "accepted", "included", "settled:success"]);
}

/// Edge cases 34, 35 and 36: nothing, too little or too shallow at the deadline; and what comes later.
#[tokio::test]
async fn deadlines_decide_and_late_money_is_told() {
    let (node, _service, mut client) = world().await;
    let (nothing, some, shallow) = (node.address().await, node.address().await, node.address().await);
    let soon = now_ms() + 3000;
    let until = |spec| with(spec, |terms| terms.deadline_ms = soon);
    let nothing_id = client.create(until(spec(address(), &nothing, 5000, 1))).await;
    let some_id = client.create(until(spec(address(), &some, 5000, 1))).await;
    let shallow_id = client.create(until(spec(address(), &shallow, 5000, 3))).await;
    node.pay(&some, 2000).await;
    node.pay(&shallow, 5000).await;
    node.mine(1).await;
    client.until(&some_id, "included").await;
    client.until(&nothing_id, "settled:failed:deadline_passed").await;
    client.until(&some_id, "settled:partial:underpaid").await;
    client.until(&shallow_id, "settled:failed:deadline_passed").await;
    node.pay(&nothing, 5000).await;
    node.mine(1).await;
    let story = client.until(&nothing_id, "late").await;
    assert_eq!(story, ["settled:failed:deadline_passed", "included", "late"]);
    node.mine(1).await;
    client.until(&shallow_id, "late").await;
}

/// Edge case 43: a script that has no address.
#[tokio::test]
async fn a_bare_script_is_watched_by_its_bytes() {
    let (node, _service, mut client) = world().await;
    let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let script = format!("21{key}ac");
    let id = client.create(spec(address(), &format!("script:{script}"), 5000, 1)).await;
    let (_, raw) = node.raw_payment(&node.payer_address().await, 5000, true).await;
    let mut bare: Transaction = deserialize_hex(&raw).expect("a transaction");
    bare.output[0].script_pubkey = ScriptBuf::from_hex(&script).expect("hex");
    let (_, raw) = sign(&node, PAYER, &serialize_hex(&bare)).await;
    node.mine_with(&[&raw]).await;
    client.until(&id, "settled:success").await;
}

/// Edge cases 42 and 25, and what Bitcoin has no meaning for: refused, with the field named.
#[tokio::test]
async fn what_bitcoin_has_no_meaning_for_is_refused() {
    let (node, _service, mut client) = world().await;
    let shop = node.address().await;
    let good = || spec(address(), &shop, 5000, 1);
    let to = |pay_to: &str| with(good(), |terms| terms.pay_to = pay_to.into());
    let authorization = v1::watch_spec::Subject::Authorization(v1::AuthorizationSubject::default());
    let expiring = |last_valid_height, nonce_account: &str, nonce: &str| {
        let (tx, nonce_account, nonce) = ("ab".repeat(32), nonce_account.into(), nonce.into());
        v1::watch_spec::Subject::Transaction(v1::TransactionSubject { tx, last_valid_height, nonce_account, nonce })
    };
    let wrong = [
        ("watch.terms.pay_to", to("bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu")),
        ("watch.terms.pay_to", to(&shop[..shop.len() - 1])),
        ("watch.terms.pay_to", to(&shop.replacen("bcrt1q", "bcrt1Q", 1))),
        ("watch.terms.asset", with(good(), |terms| terms.asset = shop.clone())),
        ("watch.terms.payer", with(good(), |terms| terms.payer = shop.clone())),
        ("watch.terms.memo", with(good(), |terms| terms.memo = "order 7".into())),
        ("watch.terms.references", with(good(), |terms| terms.references = vec![shop.clone()])),
        ("watch.transaction.last_valid_height", spec(expiring(Some(7), "", ""), &shop, 5000, 1)),
        ("watch.transaction.nonce_account", spec(expiring(None, "account", "nonce"), &shop, 5000, 1)),
        (
            "watch.terms.depth",
            with(good(), |terms| {
                terms.depth = Some(v1::terms::Depth::DepthTag(v1::FinalityTag::Finalized.into()));
            }),
        ),
        ("watch.terms.amount", with(good(), |terms| terms.amount = "0.5".into())),
        ("watch.transaction.tx", spec(tx("abc"), &shop, 5000, 1)),
        ("watch.authorization.authorizer", spec(authorization, &shop, 5000, 1)),
    ];
    for (field, spec) in wrong {
        let status = client.try_create(spec).await.expect_err(field);
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
        assert!(status.message().contains(field), "{field}: {status}");
    }
    client.create(to(&shop.to_uppercase())).await;
}
