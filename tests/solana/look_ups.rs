//! Watches that are made after the fact, questions about addresses, and what is refused.

use h402_watch_proto::v1;
use solana_address::Address;
use solana_keypair::Keypair;

use crate::support::client::{Client, address, tx, with};
use crate::support::solana::{FINAL_SLOTS, SOL, Solnode, shop};
use crate::{asks, but_seen, exactly, in_token, included, seal, settlement, tagged, world};

/// Edge case 2: out of what the node keeps at hand, and below all blocks that the service has.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_final_long_since_is_found_at_once() {
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let (to, other) = (shop(), shop());
    let slot = node.open_slot().await;
    let signatures = [node.pay_token(&mint, &to, 7).await, node.pay(&other, SOL).await];
    seal(&node, &mut client, 400).await;
    let ids = [
        client.create(in_token(&mint, asks(tx(&signatures[0]), &to, 7))).await,
        client.create(asks(tx(&signatures[1]), &other, SOL)).await,
    ];
    for id in &ids {
        assert_eq!(client.until(id, "finalized").await, ["included", "settled:success", "finalized"]);
        assert_eq!(included(&mut client, id).await["notes"]["slot"], slot.to_string());
    }
}

async fn time_of(node: &Solnode, slot: u64) -> u64 {
    node.block(slot).await["blockTime"].as_u64().expect("a time") * 1000
}

/// What was paid before the watch counts from the time that it names: in SOL, to the associated account and to another, with a
/// memo; below the newest blocks and in them.
#[tokio::test(flavor = "multi_thread")]
async fn earlier_payments_count_from_the_time_that_is_named() {
    for deep in [2, 2 * FINAL_SLOTS] {
        let (node, _service, mut client) = world().await;
        let mint = node.mint(6).await;
        let to = shop();
        let other = node.other_account(&mint, &to).await;
        let first = node.open_slot().await;
        node.pay(&to, SOL).await;
        node.pay_token(&mint, &to, 10).await;
        // A second or more lies between.
        node.slot(5).await;
        let second = node.open_slot().await;
        node.pay(&to, 2 * SOL).await;
        node.send(node.draft().token_to(&mint, &other, 20)).await;
        node.slot(5).await;
        let bound = node.send(node.draft().token_to(&mint, &mint.account(&to), 40).memo("order 1")).await;
        seal(&node, &mut client, deep).await;
        let since = async |slot, spec| {
            let time = time_of(&node, slot).await;
            with(spec, |terms| terms.not_before_ms = time)
        };
        let token = |amount| in_token(&mint, asks(address(), &to, amount));
        let memo = with(token(40), |terms| terms.memo = "order 1".into());
        let by_memo = client.create(since(first, memo).await).await;
        client.until(&by_memo, "settled:success").await;
        assert_eq!(settlement(&mut client, &by_memo).await["transfers"][0]["tx"], bound, "{deep} deep");
        let later = client.create(since(second, exactly(asks(address(), &to, 2 * SOL))).await).await;
        let all = client.create(since(first, token(30)).await).await;
        let new = client.create(token(1)).await;
        client.until(&later, "settled:success").await;
        client.until(&all, "settled:success").await;
        assert_eq!(
            (client.get(&all).await.received, client.get(&later).await.received),
            ("30".into(), "2000000000".into())
        );
        seal(&node, &mut client, 1).await;
        assert!(client.receipts(&new).await.is_empty(), "without a time the past does not count");
    }
}

/// The same from a height, which may lie below all blocks that the service has.
#[tokio::test(flavor = "multi_thread")]
async fn earlier_payments_count_from_the_height_that_is_named() {
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let to = shop();
    let mut heights = Vec::new();
    for amount in [1, 2, 4] {
        node.pay_token(&mint, &to, amount).await;
        node.slot(1).await;
        heights.push(node.height().await);
        node.slot(10).await;
    }
    seal(&node, &mut client, 300).await;
    let from = |height, amount| {
        with(exactly(in_token(&mint, asks(address(), &to, amount))), |terms| terms.from_height = Some(height))
    };
    let late = client.create(from(heights[1] + 1, 4)).await;
    client.has(&late, "settled:success").await;
    let early = client.create(from(heights[0], 3)).await;
    client.has(&early, "settled:success").await;
    let settled = settlement(&mut client, &early).await;
    let paid: Vec<_> =
        settled["transfers"].as_array().expect("transfers").iter().map(|it| &it["block"]["height"]).collect();
    assert_eq!(paid, [&heights[0].into(), &heights[1].into()] as [&serde_json::Value; 2]);
}

/// Paid in the very slot in which the watch is made, or next to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_in_the_slot_of_the_registration_is_found() {
    let (node, _service, mut client) = world().await;
    for n in 0..10 {
        let (to, other) = (shop(), shop());
        let from = node.height().await;
        node.pay(&to, SOL).await;
        let signature = node.pay(&other, SOL).await;
        let mut second = client.clone();
        let ((), by_address, by_tx) = tokio::join!(
            async {
                tokio::time::sleep(std::time::Duration::from_millis(n)).await;
                node.slot(1).await;
            },
            client.create(with(asks(address(), &to, SOL), |terms| terms.from_height = Some(from))),
            second.create(asks(tx(&signature), &other, SOL)),
        );
        assert_eq!(client.until(&by_address, "settled:success").await, ["included", "settled:success"]);
        assert_eq!(but_seen(client.until(&by_tx, "settled:success").await), ["included", "settled:success"]);
    }
}

async fn check(client: &mut Client, to: &Address, asset: &str, depth_min: u32) -> v1::CheckAddressResponse {
    let (network, address, asset) = ("dev".into(), to.to_string(), asset.to_owned());
    let ask = v1::CheckAddressRequest { network, address, asset, depth_min, since_ms: 0 };
    client.inner.check_address(ask).await.expect("answers").into_inner()
}

/// "Has this address been paid?", in SOL and in a token, with or without a watch.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_asked_about() {
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let to = shop();
    let other = node.other_account(&mint, &to).await;
    let watch = client.create(in_token(&mint, asks(address(), &to, 5))).await;
    let first = node.pay_token(&mint, &to, 5).await;
    seal(&node, &mut client, 2).await;
    node.send(node.draft().token_to(&mint, &other, 7)).await;
    let sol = node.pay(&to, SOL).await;
    seal(&node, &mut client, 1).await;
    client.until(&watch, "settled:success").await;
    let tokens = check(&mut client, &to, &mint.address.to_string(), 0).await;
    assert_eq!((tokens.total.as_str(), tokens.transfers.len()), ("12", 2));
    let claimed = tokens.transfers.iter().find(|transfer| transfer.tx == first).expect("it is told");
    assert_eq!((claimed.claimed_by.as_str(), claimed.depth, claimed.via.as_str()), (watch.as_str(), 3, "balance"));
    let deep = check(&mut client, &to, &mint.address.to_string(), 2).await;
    assert_eq!((deep.total.as_str(), deep.transfers.len()), ("5", 1));
    let native = check(&mut client, &to, "", 0).await;
    assert_eq!((native.total, native.transfers.len()), (SOL.to_string(), 1));
    assert_eq!(native.transfers[0].tx, sol);
    let nobody = check(&mut client, &shop(), "native", 0).await;
    assert_eq!((nobody.total.as_str(), nobody.transfers.len()), ("0", 0));
}

/// Edge case 47: what has no meaning on Solana is refused when it is asked for, with the field named.
#[tokio::test(flavor = "multi_thread")]
async fn what_solana_has_no_meaning_for_is_refused() {
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let (to, signed) = (shop(), node.sign(&node.draft().sol(&shop(), SOL)).await);
    let signature = signed.signature.as_str();
    let good = || asks(address(), &to, SOL);
    let change = |change: &dyn Fn(&mut v1::Terms)| with(good(), change);
    let by_tx = |text: &str| asks(tx(text), &to, SOL);
    let short = bs58::encode([7; 63]).into_string();
    let long = bs58::encode([7; 65]).into_string();
    let nonce = |account: &str, value: &str| {
        let (tx, nonce_account, nonce) = (signature.into(), account.into(), value.into());
        let subject = v1::TransactionSubject { tx, last_valid_height: None, nonce_account, nonce };
        asks(v1::watch_spec::Subject::Transaction(subject), &to, SOL)
    };
    let descriptor = v1::DescriptorSubject { text: "wpkh(xpub)".into(), gap_limit: 0 };
    let authorization = v1::AuthorizationSubject { authorizer: to.to_string(), nonce: "1".into(), valid_before_ms: 0 };
    let nothing = |subject| with(asks(subject, &to, SOL), |terms| terms.asset = mint.address.to_string());
    let wrong = [
        ("watch.transaction.tx", by_tx(&short)),
        ("watch.transaction.tx", by_tx(&long)),
        ("watch.transaction.tx", by_tx(&"1".repeat(64))),
        ("watch.transaction.tx", by_tx(&signature.replacen(|c: char| c != '0', "0", 1))),
        ("watch.transaction.tx", by_tx(&to.to_string())),
        ("watch.transaction.nonce_account", nonce("abc", &to.to_string())),
        ("watch.transaction.nonce", nonce(&to.to_string(), "abc")),
        ("watch.transaction.nonce", nonce(&to.to_string(), "")),
        ("watch.terms.pay_to", change(&|terms| terms.pay_to = to.to_string()[1..].into())),
        ("watch.terms.pay_to", change(&|terms| terms.pay_to = "0x12".into())),
        ("watch.terms.pay_to", change(&|terms| terms.pay_to = "1".repeat(32))),
        ("watch.terms.pay_to", change(&|terms| terms.pay_to = signature.into())),
        ("watch.terms.pay_to", in_token(&mint, asks(address(), &mint.address, SOL))),
        ("watch.terms.asset", change(&|terms| terms.asset = "USDC".into())),
        ("watch.terms.payer", change(&|terms| terms.payer = "somebody".into())),
        ("watch.terms.references", change(&|terms| terms.references = vec!["order-1".into()])),
        ("watch.terms.references", change(&|terms| terms.references = vec![to.to_string(); 9])),
        ("watch.terms.memo", change(&|terms| terms.memo = "m".repeat(567))),
        ("watch.terms.amount", change(&|terms| terms.amount = "0.5".into())),
        ("watch.terms.depth", tagged(address(), &to.to_string(), SOL, v1::FinalityTag::Safe)),
        ("watch.output_descriptor", nothing(v1::watch_spec::Subject::OutputDescriptor(descriptor))),
        ("watch.authorization", nothing(v1::watch_spec::Subject::Authorization(authorization))),
    ];
    for (field, spec) in wrong {
        let status = client.try_create(spec).await.expect_err(field);
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{field}: {status}");
        assert!(status.message().contains(field), "{field}: {status}");
    }
    let most = |terms: &mut v1::Terms| {
        terms.memo = "m".repeat(566);
        terms.references = (0..8).map(|_| shop().to_string()).collect();
        terms.payer = solana_signer::Signer::pubkey(&Keypair::new()).to_string();
    };
    client.create(with(good(), most)).await;
    client.create(by_tx(signature)).await;
}
