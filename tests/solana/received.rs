//! What counts as received: by whom, in what, and how much, whatever the transaction looks like.

use h402_watch_proto::v1;
use serde_json::json;
use solana_keypair::Keypair;
use solana_signer::Signer as _;

use crate::support::client::{address, tx, with};
use crate::support::solana::draft::{Draft, Mint};
use crate::support::solana::{FEE, SOL, shop};
use crate::{asks, exactly, in_token, included, seal, settlement, world};

/// Edge case 16: the account is made by the payment, and had no balance before it.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_payment_to_a_token_account_counts() {
    let (node, _service, mut client) = world().await;
    for mint in [node.mint(6).await, node.mint_2022(9).await] {
        let (to, other) = (shop(), shop());
        let by_address = client.create(in_token(&mint, exactly(asks(address(), &to, 2_000_000)))).await;
        node.pay_token(&mint, &to, 2_000_000).await;
        let signature = node.pay_token(&mint, &other, 2_000_000).await;
        let by_tx = client.create(in_token(&mint, exactly(asks(tx(&signature), &other, 2_000_000)))).await;
        node.slot(1).await;
        for id in [&by_address, &by_tx] {
            client.until(id, "settled:success").await;
            assert_eq!(client.get(id).await.received, "2000000");
        }
        let transfer = settlement(&mut client, &by_tx).await["transfers"][0].clone();
        assert_eq!((&transfer["asset"], &transfer["via"]), (&json!(mint.address.to_string()), &json!("balance")));
        assert_eq!(transfer["from"], node.payer.pubkey().to_string());
    }
}

/// Edge case 17: a token that withholds a hundredth. What arrives counts, what was sent is noted.
#[tokio::test(flavor = "multi_thread")]
async fn a_withheld_fee_is_not_received() {
    let (node, _service, mut client) = world().await;
    let mint = node.fee_mint(6, 100).await;
    let (gross, net) = (shop(), shop());
    let by_address = client.create(in_token(&mint, exactly(asks(address(), &net, 1_980_000)))).await;
    node.pay_token(&mint, &net, 2_000_000).await;
    let signature = node.pay_token(&mint, &gross, 2_000_000).await;
    let by_tx = client.create(in_token(&mint, asks(tx(&signature), &gross, 2_000_000))).await;
    node.slot(1).await;
    client.until(&by_address, "settled:success").await;
    client.until(&by_tx, "settled:partial:underpaid").await;
    let sent = format!("sent:{}", mint.address);
    for id in [&by_address, &by_tx] {
        assert_eq!(client.get(id).await.received, "1980000");
        assert_eq!(included(&mut client, id).await["notes"][&sent], "2000000");
    }
}

/// Edge case 18: another token than the one that is asked for, or SOL, is no payment.
#[tokio::test(flavor = "multi_thread")]
async fn another_asset_is_no_payment() {
    let (node, _service, mut client) = world().await;
    let (right, wrong) = (node.mint(6).await, node.mint(6).await);
    let to = shop();
    let by_address = client.create(in_token(&right, asks(address(), &to, 5))).await;
    let in_wrong = node.pay_token(&wrong, &to, 5).await;
    let in_sol = node.pay(&to, SOL).await;
    let mut ids = vec![client.create(asks(tx(&in_wrong), &to, 5)).await];
    for signature in [&in_wrong, &in_sol] {
        ids.push(client.create(in_token(&right, asks(tx(signature), &to, 5))).await);
    }
    node.slot(1).await;
    for id in &ids {
        client.until(id, "settled:failed:wrong_asset").await;
    }
    node.pay_token(&right, &to, 5).await;
    node.slot(1).await;
    assert_eq!(client.until(&by_address, "settled:success").await, ["included", "settled:success"]);
}

/// Edge cases 19 and 20: to an account of the owner that is not the associated one; and to the associated one, once it is
/// there: in neither case does the transaction name the owner.
#[tokio::test(flavor = "multi_thread")]
async fn whose_account_it_is_counts_and_not_which() {
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let to = shop();
    let other = node.other_account(&mint, &to).await;
    node.pay_token(&mint, &to, 1).await;
    seal(&node, &mut client, 1).await;
    for (account, amount) in [(other, 700), (mint.account(&to), 800)] {
        let by_address = client.create(in_token(&mint, exactly(asks(address(), &to, amount)))).await;
        let signature = node.send(node.draft().token_to(&mint, &account, amount)).await;
        seal(&node, &mut client, 1).await;
        client.until(&by_address, "settled:success").await;
        let transaction = node.transaction(&signature).await;
        let keys = transaction["transaction"]["message"]["accountKeys"].as_array().expect("keys");
        assert!(!keys.contains(&json!(to.to_string())), "{keys:?}");
        assert_eq!(settlement(&mut client, &by_address).await["transfers"][0]["tx"], signature);
    }
}

/// Edge case 21: transfers of one transaction to one payee are one sum; to two, each pays its own watch.
#[tokio::test(flavor = "multi_thread")]
async fn transfers_of_one_transaction_are_summed_for_each_payee() {
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let (to, other) = (shop(), shop());
    let ids = [
        client.create(exactly(asks(address(), &to, 2 * SOL))).await,
        client.create(in_token(&mint, exactly(asks(address(), &to, 12)))).await,
        client.create(exactly(asks(address(), &other, SOL))).await,
        client.create(in_token(&mint, exactly(asks(address(), &other, 3)))).await,
    ];
    let draft = node.draft().token(&mint, &to, 5).token(&mint, &to, 7).token(&mint, &other, 3);
    let signature = node.send(draft.sol(&to, SOL).sol(&to, SOL).sol(&other, SOL)).await;
    node.slot(1).await;
    for (id, amount) in ids.iter().zip(["2000000000", "12", "1000000000", "3"]) {
        assert_eq!(client.until(id, "settled:success").await, ["included", "settled:success"]);
        let settled = settlement(&mut client, id).await;
        assert_eq!((&settled["received"], &settled["transfers"][0]["tx"]), (&json!(amount), &json!(signature)));
    }
}

/// Edge case 22: a program makes the transfer.
#[tokio::test(flavor = "multi_thread")]
async fn an_inner_transfer_counts() {
    let (node, _service, mut client) = world().await;
    let (outer, inner) = (node.mint(6).await, node.mint(6).await);
    let owner = Keypair::new();
    let middle = outer.account(&owner.pubkey());
    let draft = node.draft().associated(&outer, &owner.pubkey()).token(&inner, &middle, 8);
    node.send(draft.associated(&inner, &owner.pubkey())).await;
    seal(&node, &mut client, 1).await;
    let by_address = client.create(in_token(&inner, exactly(asks(address(), &owner.pubkey(), 8)))).await;
    let signature = node.send(node.draft().then_from(&owner).recover(&outer, &inner)).await;
    node.slot(1).await;
    client.until(&by_address, "settled:success").await;
    assert_eq!(settlement(&mut client, &by_address).await["transfers"][0]["tx"], signature);
}

/// Edge case 23: what is sent on in the same transaction was not received.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_forwarded_at_once_is_not_received() {
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let (through, end) = (Keypair::new(), shop());
    let middle = through.pubkey();
    let passed = [
        client.create(asks(address(), &middle, 1)).await,
        client.create(in_token(&mint, asks(address(), &middle, 1))).await,
    ];
    let paid = [
        client.create(exactly(asks(address(), &end, SOL))).await,
        client.create(in_token(&mint, exactly(asks(address(), &end, 10)))).await,
    ];
    let draft = node.draft().token(&mint, &middle, 10).sol(&middle, SOL).associated(&mint, &end);
    let draft = draft.then_from(&through).token_to(&mint, &mint.account(&end), 10).sol(&end, SOL);
    let signature = node.send(draft).await;
    let by_tx = client.create(asks(tx(&signature), &middle, 1)).await;
    node.slot(1).await;
    for id in &paid {
        client.until(id, "settled:success").await;
    }
    client.until(&by_tx, "settled:failed:wrong_recipient").await;
    for id in &passed {
        assert!(client.receipts(id).await.is_empty());
    }
}

/// Edge case 24: who is paid pays the fee, which lessens nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_payee_that_pays_the_fee_receives_all() {
    let (node, _service, mut client) = world().await;
    let payee = Keypair::new();
    node.pay(&payee.pubkey(), SOL).await;
    seal(&node, &mut client, 1).await;
    let by_address = client.create(exactly(asks(address(), &payee.pubkey(), 2 * SOL))).await;
    node.send(Draft::by(&payee).then_from(&node.payer).sol(&payee.pubkey(), 2 * SOL)).await;
    node.slot(1).await;
    client.until(&by_address, "settled:success").await;
    assert_eq!(included(&mut client, &by_address).await["notes"]["fee"], (2 * FEE).to_string());
    // The fee alone moves nothing to it.
    let itself = node.send(Draft::by(&payee).sol(&payee.pubkey(), SOL)).await;
    let to_itself = client.create(asks(tx(&itself), &payee.pubkey(), 1)).await;
    node.slot(1).await;
    client.until(&to_itself, "settled:failed:wrong_recipient").await;
}

/// Edge case 25: wrapped SOL is a token, and SOL is none.
#[tokio::test(flavor = "multi_thread")]
async fn wrapped_sol_and_sol_are_kept_apart() {
    let (node, _service, mut client) = world().await;
    let wrapped = Mint::WRAPPED_SOL;
    let (to, other) = (shop(), shop());
    node.send(node.draft().wrap(5 * SOL)).await;
    let in_sol = client.create(exactly(asks(address(), &to, 2 * SOL))).await;
    let in_wrapped = client.create(in_token(&wrapped, exactly(asks(address(), &other, 2 * SOL)))).await;
    let wrong_ways = [node.pay_token(&wrapped, &to, 2 * SOL).await, node.pay(&other, 2 * SOL).await];
    let wrong = [
        client.create(asks(tx(&wrong_ways[0]), &to, 2 * SOL)).await,
        client.create(in_token(&wrapped, asks(tx(&wrong_ways[1]), &other, 2 * SOL))).await,
    ];
    node.slot(1).await;
    for id in &wrong {
        client.until(id, "settled:failed:wrong_asset").await;
    }
    let right = [node.pay(&to, 2 * SOL).await, node.pay_token(&wrapped, &other, 2 * SOL).await];
    node.slot(1).await;
    for (id, signature) in [in_sol, in_wrapped].iter().zip(right) {
        assert_eq!(client.until(id, "settled:success").await, ["included", "settled:success"]);
        assert_eq!(settlement(&mut client, id).await["transfers"][0]["tx"], signature);
    }
}

/// Edge case 28: version 0 with the payee and its account out of a look-up table, and version 1.
#[tokio::test(flavor = "multi_thread")]
async fn all_versions_of_transactions_are_read() {
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let (loaded, newest) = (shop(), shop());
    let table = node.table(&[loaded, mint.account(&loaded), mint.address]).await;
    let mut ids = Vec::new();
    for to in [&loaded, &newest] {
        ids.push(client.create(exactly(asks(address(), to, SOL))).await);
        ids.push(client.create(in_token(&mint, exactly(asks(address(), to, 3)))).await);
    }
    let pays = |to| node.draft().sol(to, SOL).token(&mint, to, 3);
    let signatures = [node.send(pays(&loaded).loading(&table)).await, node.send(pays(&newest).v1()).await];
    node.slot(1).await;
    for id in &ids {
        client.until(id, "settled:success").await;
    }
    for (signature, version) in signatures.iter().zip([0, 1]) {
        assert_eq!(node.transaction(signature).await["version"], version);
    }
    // By their signatures, too, whose facts come from another call.
    let again = node.send(pays(&loaded).loading(&table)).await;
    let by_tx = client.create(in_token(&mint, exactly(asks(tx(&again), &loaded, 3)))).await;
    node.slot(1).await;
    client.until(&by_tx, "settled:success").await;
}

/// Edge case 43: payments in one slot and in several are all taken.
#[tokio::test(flavor = "multi_thread")]
async fn payments_add_up_within_a_slot_and_over_slots() {
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let to = shop();
    let in_sol = client.create(exactly(asks(address(), &to, 15 * SOL))).await;
    let in_tokens = client.create(in_token(&mint, exactly(asks(address(), &to, 15)))).await;
    let mut slots = Vec::new();
    for amounts in [&[1, 2, 4][..], &[8]] {
        slots.push(node.open_slot().await.to_string());
        for amount in amounts {
            node.pay(&to, amount * SOL).await;
            node.pay_token(&mint, &to, *amount).await;
        }
        node.slot(2).await;
    }
    for id in [&in_sol, &in_tokens] {
        let story = client.until(id, "settled:success").await;
        assert_eq!(story, ["included", "included", "included", "included", "settled:success"]);
        let settled = settlement(&mut client, id).await;
        let transfers = settled["transfers"].as_array().expect("transfers");
        let at = |slot: &str| transfers.iter().filter(|transfer| transfer["notes"]["slot"] == slot).count();
        assert_eq!((transfers.len(), at(&slots[0]), at(&slots[1])), (4, 3, 1), "{settled}");
    }
}

/// Exactly, at least, at most.
#[tokio::test(flavor = "multi_thread")]
async fn how_much_decides_by_the_rule() {
    use v1::AmountRule::{AtLeast, Exact, UpTo};
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let mut ids = Vec::new();
    for (rule, paid, outcome) in [
        (Exact, 500, "settled:success"),
        (Exact, 499, "settled:partial:underpaid"),
        (Exact, 501, "settled:failed:overpaid"),
        (AtLeast, 500, "settled:success"),
        (AtLeast, 499, "settled:partial:underpaid"),
        (AtLeast, 501, "settled:success"),
        (UpTo, 500, "settled:success"),
        (UpTo, 499, "settled:success"),
        (UpTo, 501, "settled:failed:overpaid"),
    ] {
        let to = shop();
        let signature = node.pay_token(&mint, &to, paid).await;
        let asked = with(asks(tx(&signature), &to, 500), |terms| terms.set_amount_rule(rule));
        ids.push((client.create(in_token(&mint, asked)).await, outcome));
    }
    node.slot(1).await;
    for (id, outcome) in &ids {
        client.until(id, outcome).await;
    }
}

/// Who must pay: whose tokens they were, or who paid the fee.
#[tokio::test(flavor = "multi_thread")]
async fn a_payer_is_whose_tokens_they_were_or_who_paid_the_fee() {
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let buyer = Keypair::new();
    node.pay_token(&mint, &buyer.pubkey(), 100).await;
    for (payer, outcome) in [
        (buyer.pubkey(), "settled:success"),
        (node.payer.pubkey(), "settled:success"),
        (shop(), "settled:failed:payer_mismatch"),
    ] {
        let to = shop();
        let draft = node.draft().associated(&mint, &to).then_from(&buyer).token_to(&mint, &mint.account(&to), 5);
        let signature = node.send(draft).await;
        let asked = with(asks(tx(&signature), &to, 5), |terms| terms.payer = payer.to_string());
        let id = client.create(in_token(&mint, asked)).await;
        node.slot(1).await;
        client.until(&id, outcome).await;
    }
}
