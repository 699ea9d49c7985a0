//! What binds a payment to its order: memos and references.

use h402_watch_proto::v1;
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer as _;

use crate::support::client::{address, tx, with};
use crate::support::solana::draft::Draft;
use crate::support::solana::{SOL, shop};
use crate::{asks, exactly, in_token, seal, settlement, world};

fn memo(spec: v1::WatchSpec, text: &str) -> v1::WatchSpec {
    with(spec, |terms| terms.memo = text.into())
}

fn naming(spec: v1::WatchSpec, references: &[Address]) -> v1::WatchSpec {
    with(spec, |terms| terms.references = references.iter().map(ToString::to_string).collect())
}

/// Edge case 46: the memo that is asked for must be among those of the transaction, as it is; by address such a payment is no
/// payment, by signature it fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_memo_must_be_there_as_it_was_asked_for() {
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let cases: [(&[&str], bool); 6] = [
        (&["order 7 \u{1f600}"], true),
        (&["order 7"], false),
        (&["order 7 \u{1f600} "], false),
        (&["order 8", "order 7 \u{1f600}"], true),
        (&["order ", "7 \u{1f600}"], false),
        (&[], false),
    ];
    let mut ids = Vec::new();
    for (n, (texts, right)) in (1_000..).zip(cases) {
        let (to, other) = (shop(), shop());
        let pays = |to| texts.iter().fold(node.draft().token(&mint, to, n), |draft, text| draft.memo(text));
        let by_address = memo(in_token(&mint, asks(address(), &to, n)), "order 7 \u{1f600}");
        ids.push((client.create(by_address).await, right, false));
        node.send(pays(&to)).await;
        let by_tx = asks(tx(&node.send(pays(&other)).await), &other, n);
        ids.push((client.create(memo(in_token(&mint, by_tx), "order 7 \u{1f600}")).await, right, true));
    }
    seal(&node, &mut client, 1).await;
    for (id, right, by_tx) in &ids {
        match (right, by_tx) {
            (true, _) => _ = client.until(id, "settled:success").await,
            (false, true) => _ = client.until(id, "settled:failed:memo_mismatch").await,
            (false, false) => assert!(client.receipts(id).await.is_empty()),
        }
    }
}

/// Edge case 46: each reference that is asked for must be named.
#[tokio::test(flavor = "multi_thread")]
async fn all_references_must_be_named() {
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let asked = [shop(), shop()];
    for (named, outcome) in [
        (&[asked[1], shop(), asked[0]][..], "settled:success"),
        (&asked[..1], "settled:failed:reference_missing"),
        (&[], "settled:failed:reference_missing"),
    ] {
        let (to, other) = (shop(), shop());
        let sol = node.send(node.draft().sol(&to, SOL).references(named)).await;
        let token = node.send(node.draft().token(&mint, &other, 5).references(named)).await;
        let ids = [
            client.create(naming(asks(tx(&sol), &to, SOL), &asked)).await,
            client.create(naming(in_token(&mint, asks(tx(&token), &other, 5)), &asked)).await,
        ];
        node.slot(1).await;
        for id in &ids {
            client.until(id, outcome).await;
        }
    }
}

/// Edge case 46: a payment goes to the watch that it names, though an older one waits at the same address for as much.
#[tokio::test(flavor = "multi_thread")]
async fn a_bound_watch_comes_before_an_older_one_that_is_not() {
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let (to, reference) = (shop(), shop());
    let asked = || in_token(&mint, asks(address(), &to, 5));
    let unbound = client.create(asked()).await;
    let by_memo = client.create(memo(asked(), "order 1")).await;
    let by_reference = client.create(naming(asked(), &[reference])).await;
    let signatures = [
        node.send(node.draft().token(&mint, &to, 5).memo("order 1")).await,
        node.send(node.draft().token(&mint, &to, 5).references(&[reference])).await,
    ];
    seal(&node, &mut client, 1).await;
    for (id, signature) in [&by_memo, &by_reference].into_iter().zip(&signatures) {
        client.until(id, "settled:success").await;
        assert_eq!(settlement(&mut client, id).await["transfers"][0]["tx"], signature.as_str());
    }
    assert!(client.receipts(&unbound).await.is_empty());
    let last = node.pay_token(&mint, &to, 5).await;
    node.slot(1).await;
    client.until(&unbound, "settled:success").await;
    assert_eq!(settlement(&mut client, &unbound).await["transfers"][0]["tx"], last);
}

/// Edge case 45: whoever knows a reference may name it: in what fails, pays somebody else, or pays too little. The true payment
/// is found all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_reference_that_is_spammed_finds_its_payment() {
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let (to, reference, poor) = (shop(), shop(), Keypair::new());
    node.pay(&poor.pubkey(), SOL).await;
    node.pay_token(&mint, &poor.pubkey(), 1).await;
    node.pay_token(&mint, &to, 1).await;
    seal(&node, &mut client, 1).await;
    let id = client.create(naming(exactly(in_token(&mint, asks(address(), &to, 5))), &[reference])).await;
    node.send_unchecked(Draft::by(&poor).token_to(&mint, &mint.account(&to), 5).references(&[reference])).await;
    node.send(node.draft().sol(&shop(), SOL).references(&[reference])).await;
    node.send(node.draft().token(&mint, &shop(), 5).references(&[reference])).await;
    node.send(node.draft().sol(&to, 5).references(&[reference])).await;
    node.pay_token(&mint, &to, 5).await;
    seal(&node, &mut client, 1).await;
    assert!(client.receipts(&id).await.is_empty());
    let signature = node.send(node.draft().token(&mint, &to, 5).references(&[reference])).await;
    node.slot(1).await;
    assert_eq!(client.until(&id, "settled:success").await, ["included", "settled:success"]);
    assert_eq!(settlement(&mut client, &id).await["transfers"][0]["tx"], signature);
}

/// Defect 1 of h402: a payment that is bound to one order is shown for another.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_for_one_order_is_none_for_another() {
    let (node, _service, mut client) = world().await;
    let to = shop();
    let signature = node.send(node.draft().sol(&to, SOL).memo("order 1")).await;
    let other = client.create(memo(asks(tx(&signature), &to, SOL), "order 2")).await;
    let right = client.create(memo(asks(tx(&signature), &to, SOL), "order 1")).await;
    let none = client.create(asks(tx(&signature), &to, SOL - 1)).await;
    node.slot(1).await;
    client.until(&other, "settled:failed:memo_mismatch").await;
    client.until(&right, "settled:success").await;
    client.until(&none, "settled:failed:already_claimed").await;
    assert_eq!(client.get(&none).await.reason_by, right);
}
