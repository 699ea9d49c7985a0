//! Addresses: what counts as paid to a wallet, and what it was paid before its watch was made; on the scripted node, where the
//! development node's balances are cut, or its chain too short.

use h402_watch_proto::v1;
use serde_json::json;

use crate::support::agave::account::{Mint, RENT, TOKEN, ata, key};
use crate::support::agave::faults::Level;
use crate::support::client::{address, spec, tx, with};
use crate::{scripted, scripted_with};

fn wrapped_sol() -> Mint {
    let address = "So11111111111111111111111111111111111111112".into();
    Mint { address, program: TOKEN.into(), decimals: 9, fee_basis_points: 0 }
}

/// Edge cases 25 and 26: a wallet that unwraps its own SOL, or gets back the rent of its own token account, was not paid.
#[tokio::test]
async fn ones_own_lamports_out_of_a_closed_token_account_are_no_payment() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop, mint) = (key("payer"), key("shop"), wrapped_sol());
    let account = ata(&shop, &mint);
    let id = client.create(spec(address(), &shop, 1_000, 1)).await;
    let unwrapped = node
        .tx(&shop)
        .amounts(&mint, &shop, Some(5_000), None)
        .lamports(&account, RENT + 5_000, 0)
        .lamports(&shop, 10_000, 10_000 + RENT);
    node.land(unwrapped);
    node.produce(2);
    client.head(node.slot_of(Level::Confirmed)).await;
    assert!(client.receipts(&id).await.is_empty());
    // Somebody else's account that is closed in favour of the shop is a payment.
    let account = ata(&payer, &mint);
    let favour = node
        .tx(&payer)
        .amounts(&mint, &payer, Some(5_000), None)
        .lamports(&account, RENT + 5_000, 0)
        .lamports(&shop, 10_000, 15_000 + RENT);
    node.land(favour);
    node.produce(1);
    client.until(&id, "settled:success").await;
    assert_eq!(client.get(&id).await.received, (RENT + 5_000).to_string());
}

/// Edge case 26: a closed account has no balance afterwards, which is less and nothing else.
#[tokio::test]
async fn a_token_account_that_is_closed_is_a_loss_to_its_owner() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop, mint) = (key("payer"), key("shop"), Mint::token("usd"));
    let asked = with(spec(address(), &shop, 500, 1), |terms| terms.asset = mint.address.clone());
    let id = client.create(asked).await;
    let closed = node.tx(&payer).amounts(&mint, &payer, Some(500), None).amounts(&mint, &shop, None, Some(500));
    node.land(closed);
    node.produce(1);
    client.until(&id, "settled:success").await;
    let receipts = client.receipts(&id).await;
    assert_eq!(receipts[0].artefact["transaction"]["transfers"][0]["from"], payer);
}

/// Edge cases 41 and 42: more payments than a page holds, from before the watch, in many slots and many in one.
#[tokio::test]
async fn what_was_paid_before_is_found_page_by_page() {
    let (node, _service, mut client) = scripted_with(|setup| setup.horizon_blocks = 64).await;
    let (payer, shop, mint) = (key("payer"), key("shop"), Mint::token("usd"));
    let first = node.chain().tip() + 1;
    let pay = || node.tx(&payer).token(&mint, &payer, &shop, 3);
    let batches: Vec<Vec<_>> = (0..12).map(|_| (0..100).map(|_| pay()).collect()).collect();
    for batch in batches {
        node.block(batch);
    }
    let failed = pay().fails(json!({"InstructionError": [0, {"Custom": 1}]}));
    node.land(failed);
    let tip = node.produce(100);
    client.head(tip - 1).await;
    let asked = |from: u64, amount: u64| {
        with(spec(address(), &shop, amount, 1), |terms| {
            (terms.asset, terms.from_height) = (mint.address.clone(), Some(from));
        })
    };
    // Heights and slots are the same on this chain. The first blocks are below those that are kept.
    let half = client.create(asked(first + 6, 1_800)).await;
    client.has(&half, "settled:success").await;
    let rest = client.create(asked(first, 1_801)).await;
    client.at_least(&rest, 600).await;
    assert_eq!(client.get(&rest).await.received, "1800", "the other half, and not the one that failed");
}

/// What an address has received is told without a watch, too.
#[tokio::test]
async fn an_address_is_checked_without_a_watch() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop, mint) = (key("payer"), key("shop"), Mint::token_2022("eur", 100));
    for amount in [1_000, 2_000] {
        node.pay_token(&mint, &payer, &shop, amount);
    }
    node.pay_sol(&payer, &shop, 77);
    let tip = node.produce(1);
    client.head(tip - 1).await;
    let check = |asset: &str| v1::CheckAddressRequest {
        network: "dev".into(),
        address: shop.clone(),
        asset: asset.into(),
        ..Default::default()
    };
    let tokens = client.inner.check_address(check(&mint.address)).await.expect("answers").into_inner();
    assert_eq!((tokens.total.as_str(), tokens.transfers.len()), ("2970", 2), "less a hundredth");
    let lamports = client.inner.check_address(check("native")).await.expect("answers").into_inner();
    assert_eq!(lamports.total, "77");
}

/// A node that did not record the balances of tokens can't say who was paid: that is no payment of nothing.
#[tokio::test]
async fn balances_that_were_not_recorded_say_nothing() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop, mint) = (key("payer"), key("shop"), Mint::token("usd"));
    let payment = node.tx(&payer).token(&mint, &payer, &shop, 1_000).unrecorded();
    let asked = spec(tx(&payment.signature), &shop, 1_000, 1);
    let id = client.create(with(asked, |terms| terms.asset = mint.address.clone())).await;
    node.land(payment);
    let tip = node.produce(5);
    client.until(&id, "included").await;
    client.head(tip - 1).await;
    assert!(client.receipts(&id).await.iter().all(|receipt| receipt.kind != "settled"), "it waits, and does not fail");
}

/// Anybody may open token accounts for somebody: the associated one is searched all the same.
#[tokio::test]
async fn token_accounts_that_others_open_hide_no_payment() {
    let (node, _service, mut client) = scripted().await;
    let (payer, shop, mint) = (key("payer"), key("shop"), Mint::token("usd"));
    let first = node.pay_token(&mint, &payer, &shop, 1_000);
    for n in 0..40 {
        let (other, source) = (key(&format!("other {n}")), ata(&payer, &mint));
        node.land(node.tx(&payer).tokens(&mint, (&payer, &source), (&shop, &other), 1));
    }
    let tip = node.produce(20);
    client.head(tip - 1).await;
    let from = node.landed(&first).expect("landed");
    let asked = with(spec(address(), &shop, 1_000, 1), |terms| {
        (terms.asset, terms.from_height) = (mint.address.clone(), Some(from));
    });
    let id = client.create(asked).await;
    client.has(&id, "settled:success").await;
}
