//! Tokens with their oddities, authorizations, payments from contracts (research/evm.md §2.6, edge cases 27–31).

use alloy_primitives::{Address, B256, Bytes, U256};
use h402_watch_proto::v1;
use serde_json::json;

use crate::support::anvil::{
    Anvil, OTHER, PAYER, aCall, bCall, boomCall, fakeCall, payCall, setRateCall, shop, transferWithAuthorizationCall,
    tryPayCall, unix_time,
};
use crate::support::client::{Client, address, now_ms, spec, tx, with};
use crate::{world, world_with};

fn evm(text: &str) -> Address {
    text.parse().expect("an address")
}

fn in_token(mut spec: v1::WatchSpec, token: &str) -> v1::WatchSpec {
    spec.terms.as_mut().expect("terms").asset = token.into();
    spec
}

#[tokio::test]
async fn erc20_with_and_without_return_value() {
    let (anvil, _service, mut client) = world().await;
    for name in ["TestERC20", "UsdtLike"] {
        let token = anvil.token(name).await;
        let id = client.create(in_token(spec(address(), &shop(1), 100, 2), &token)).await;
        anvil.pay_token(&token, &shop(1), 100).await;
        anvil.mine(2).await;
        assert_eq!(client.until(&id, "settled:success").await, ["included", "settled:success"], "{name}");
        assert_eq!(client.receipts(&id).await[1].artefact["transfers"][0]["via"], "log");
    }
}

#[tokio::test]
async fn a_token_that_takes_a_fee_credits_what_arrived() {
    let (anvil, _service, mut client) = world().await;
    let token = anvil.token("UsdtLike").await;
    anvil.invoke(&token, setRateCall { r: U256::from(100) }, 0).await;
    anvil.mine(1).await;
    // 1 % goes to the owner, who is the payer here: two transfers in one transaction.
    let hash = anvil.pay_token(&token, &shop(1), 10_000).await;
    let full = client.create(in_token(spec(tx(&hash), &shop(1), 10_000, 1), &token)).await;
    anvil.mine(1).await;
    client.until(&full, "settled:partial:underpaid").await;
    assert_eq!(client.get(&full).await.received, "9900");
}

/// A token that hides its fee logs what it did not move. Only balances tell; a watch names the tokens that it trusts, and
/// what such a token logs is its word (the README says so).
#[tokio::test]
async fn a_fake_token_pays_nobody_who_did_not_ask_for_it() {
    let (anvil, _service, mut client) = world().await;
    let good = anvil.token("TestERC20").await;
    let fake = anvil.deploy("FakeToken").await;
    let id = client.create(in_token(spec(address(), &shop(1), 100, 1), &good)).await;
    let faked = anvil.invoke(&fake, fakeCall { f: evm(PAYER), to: evm(&shop(1)), v: U256::from(100) }, 0).await;
    let by_tx = client.create(in_token(spec(tx(&faked), &shop(1), 100, 1), &good)).await;
    anvil.mine(2).await;
    client.until(&by_tx, "settled:failed:wrong_asset").await;
    assert_eq!(client.get(&id).await.state(), v1::State::Pending);
}

#[tokio::test]
async fn logs_of_another_shape_are_no_transfers() {
    let (anvil, _service, mut client) = world().await;
    let odd = anvil.deploy("OddLogs").await;
    let (payer, to, one) = (evm(PAYER), evm(&shop(1)), U256::from(100));
    let unindexed = anvil.invoke(&odd, aCall { f: payer, t: to, v: one }, 0).await;
    let four_topics = anvil.invoke(&odd, bCall { f: payer, t: to, id: one }, 0).await;
    let first = client.create(in_token(spec(tx(&unindexed), &shop(1), 100, 1), &odd)).await;
    let second = client.create(in_token(spec(tx(&four_topics), &shop(1), 100, 1), &odd)).await;
    anvil.mine(1).await;
    client.until(&first, "settled:failed:wrong_recipient").await;
    client.until(&second, "settled:failed:wrong_recipient").await;
}

#[tokio::test]
async fn a_transfer_of_zero_is_no_payment() {
    let (anvil, _service, mut client) = world().await;
    let token = anvil.token("TestERC20").await;
    let id = client.create(in_token(spec(address(), &shop(1), 100, 1), &token)).await;
    let zero = anvil.pay_token(&token, &shop(1), 0).await;
    let by_tx = client.create(in_token(spec(tx(&zero), &shop(1), 100, 1), &token)).await;
    anvil.mine(1).await;
    client.until(&by_tx, "settled:failed:underpaid").await;
    assert_eq!(client.get(&id).await.received, "0");
}

fn authorization(nonce: B256, valid_before_ms: u64) -> v1::watch_spec::Subject {
    v1::watch_spec::Subject::Authorization(v1::AuthorizationSubject {
        authorizer: PAYER.into(),
        nonce: format!("{nonce:#x}"),
        valid_before_ms,
    })
}

fn use_authorization(to: &str, nonce: B256, valid_before: u64) -> transferWithAuthorizationCall {
    transferWithAuthorizationCall {
        f: evm(PAYER),
        to: evm(to),
        v: U256::from(100),
        va: U256::ZERO,
        vb: U256::from(valid_before),
        n: nonce,
        s: Bytes::new(),
    }
}

/// Edge case 28: in whichever transaction it is used, by whichever relayer; a replay is reverted and pays nobody.
#[tokio::test]
async fn an_authorization_is_followed_whoever_submits_it() {
    let (anvil, _service, mut client) = world().await;
    let token = anvil.token("TestERC20").await;
    let (nonce, valid) = (B256::repeat_byte(7), unix_time() + 3600);
    let watch = |depth| in_token(spec(authorization(nonce, valid * 1000), &shop(1), 100, depth), &token);
    let id = client.create(watch(2)).await;
    let call = alloy_sol_types::SolCall::abi_encode(&use_authorization(&shop(1), nonce, valid));
    let relayed = json!({ "from": OTHER, "to": token, "data": Bytes::from(call), "gas": "0x7a1200" });
    anvil.send(relayed.clone()).await;
    anvil.mine(1).await;
    client.until(&id, "included").await;
    let replay = anvil.send(relayed).await;
    anvil.mine(1).await;
    client.until(&id, "settled:success").await;
    let replayed = client.create(in_token(spec(tx(&replay), &shop(1), 100, 1), &token)).await;
    client.until(&replayed, "settled:failed:reverted").await;
    // One made after it was used finds the use by the contract's log.
    let after = client.create(watch(1)).await;
    client.until(&after, "settled:failed:already_claimed").await;
}

/// One that was used long before its watch was made, and is past its validBefore by now, was paid, and has not expired; also
/// where the provider takes only a few blocks at a time.
#[tokio::test]
async fn an_authorization_that_was_used_is_not_expired() {
    let anvil = Anvil::manual().await;
    let token = anvil.token("TestERC20").await;
    let proxy = crate::support::proxy::Proxy::before(&anvil.http()).await;
    proxy.behave(|method, params, result| {
        use crate::support::anvil::quantity;
        use crate::support::proxy::Reply;
        let blocks = || quantity(&params[0]["toBlock"]) - quantity(&params[0]["fromBlock"]);
        if method == "eth_getLogs" && blocks() > 4 {
            Reply::Error(-32602, "at most 5 blocks")
        } else {
            Reply::Result(result)
        }
    });
    let (nonce, valid) = (B256::repeat_byte(3), now_ms() / 1000 - 500);
    anvil.invoke(&token, use_authorization(&shop(1), nonce, valid), 0).await;
    anvil.mine(1).await;
    anvil.call("evm_setNextBlockTimestamp", json!([valid + 1])).await;
    anvil.mine(6).await;
    for url in [anvil.http(), proxy.http()] {
        let service = crate::Service::start(crate::BINARY, crate::Setup::http(url)).await;
        let mut client = service.client().await;
        let subject = authorization(nonce, valid * 1000);
        let id = client.create(in_token(spec(subject, &shop(1), 100, 2), &token)).await;
        client.until(&id, "settled:success").await;
    }
}

/// Edge case 28: once the chain is past validBefore it can never be used.
#[tokio::test]
async fn an_authorization_past_its_valid_before_is_expired() {
    let (anvil, _service, mut client) = world().await;
    let token = anvil.token("TestERC20").await;
    let valid_before = now_ms() / 1000 - 300;
    let subject = authorization(B256::repeat_byte(9), valid_before * 1000);
    let id = client.create(in_token(spec(subject, &shop(1), 100, 2), &token)).await;
    anvil.call("evm_setNextBlockTimestamp", json!([valid_before + 1])).await;
    anvil.mine(1).await;
    client.head(anvil.height().await).await;
    assert_eq!(client.get(&id).await.state(), v1::State::Pending, "not before that block is deep enough");
    anvil.mine(1).await;
    client.until(&id, "settled:failed:expired").await;
    let settled = &client.receipts(&id).await[0].artefact;
    assert_eq!(settled["evidence"]["kind"], "block_time", "the fact that proves it: {settled}");
}

/// Edge case 29: one transaction pays three shops, each by its own log entry or call.
#[tokio::test]
async fn one_transaction_may_pay_several() {
    let (anvil, _service, mut client) = world().await;
    let splitter = anvil.deploy("Splitter").await;
    let call = payCall { a: evm(&shop(1)), b: evm(&shop(2)) };
    let hash = anvil.invoke(&splitter, call, 1000).await;
    let first = client.create(spec(tx(&hash), &shop(1), 500, 1)).await;
    let second = client.create(spec(tx(&hash), &shop(2), 500, 1)).await;
    let whole = client.create(spec(tx(&hash), &splitter, 1000, 1)).await;
    anvil.mine(1).await;
    for id in [&first, &second, &whole] {
        client.until(id, "settled:success").await;
    }
    assert_eq!(client.receipts(&first).await.last().expect("settled").artefact["transfers"][0]["via"], "trace");
}

/// Edge case 29: three transactions pay one shop.
#[tokio::test]
async fn several_transactions_add_up() {
    let (anvil, _service, mut client) = world().await;
    let token = anvil.token("TestERC20").await;
    let id = client.create(in_token(spec(address(), &shop(1), 100, 2), &token)).await;
    for amount in [30, 30, 40] {
        anvil.pay_token(&token, &shop(1), amount).await;
        anvil.mine(1).await;
    }
    anvil.mine(2).await;
    client.until(&id, "settled:success").await;
    let watch = client.get(&id).await;
    assert_eq!((watch.received.as_str(), watch.transactions.len()), ("100", 3));
}

/// Edge case 30: payments by a call, by a contract that destroys itself, and one that was undone inside.
async fn contract_payments(anvil: &Anvil, client: &mut Client, via: &str) {
    let splitter = anvil.deploy("Splitter").await;
    client.head(anvil.height().await).await;
    let called = client.create(spec(address(), &shop(1), 500, 1)).await;
    let destroyed = client.create(spec(address(), &shop(3), 77, 1)).await;
    let undone = client.create(spec(address(), &shop(4), 50, 1)).await;
    // The balances that a probe starts from are read with the look-up.
    client.head(anvil.height().await).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    anvil.invoke(&splitter, payCall { a: evm(&shop(1)), b: evm(&shop(2)) }, 1000).await;
    anvil.invoke(&splitter, boomCall { t: evm(&shop(3)) }, 77).await;
    anvil.invoke(&splitter, tryPayCall { t: evm(&shop(4)) }, 50).await;
    for _ in 0..10 {
        anvil.mine(1).await;
        client.head(anvil.height().await).await;
    }
    for (id, amount) in [(&called, "500"), (&destroyed, "77")] {
        client.until(id, "settled:success").await;
        let settled = client.receipts(id).await.last().expect("settled").artefact.clone();
        assert_eq!(settled["transfers"][0]["via"], via, "{settled}");
        assert_eq!(settled["received"], amount);
    }
    assert_eq!(client.get(&undone).await.received, "0", "an inner call that was undone pays nothing");
}

#[tokio::test]
async fn contract_payments_are_found_by_trace() {
    let (anvil, _service, mut client) = world().await;
    contract_payments(&anvil, &mut client, "trace").await;
}

#[tokio::test]
async fn contract_payments_are_found_by_balance_where_nothing_traces() {
    let (anvil, _service, mut client) =
        world_with(|setup| setup.network = "internal_transfers = \"balance\"".into()).await;
    contract_payments(&anvil, &mut client, "balance").await;
}

/// Edge case 31: an address that spends in the block in which it is paid is credited with what came, not with the net.
#[tokio::test]
async fn what_an_address_spends_in_the_same_block_does_not_lessen_what_it_received() {
    for mode in ["trace", "balance"] {
        let (anvil, _service, mut client) =
            world_with(|setup| setup.network = format!("internal_transfers = \"{mode}\"")).await;
        let splitter = anvil.deploy("Splitter").await;
        client.head(anvil.height().await).await;
        let id = client.create(spec(address(), OTHER, 700, 1)).await;
        client.head(anvil.height().await).await;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        anvil.pay(OTHER, 200).await;
        anvil.invoke(&splitter, payCall { a: evm(OTHER), b: evm(&shop(2)) }, 1000).await;
        anvil.send(json!({ "from": OTHER, "to": shop(8), "value": "0x2710", "gas": "0x5208" })).await;
        for _ in 0..10 {
            anvil.mine(1).await;
            client.head(anvil.height().await).await;
        }
        client.until(&id, "settled:success").await;
        assert_eq!(client.get(&id).await.received, "700", "{mode}");
    }
}

/// Who calls a token for somebody else is not the payer.
#[tokio::test]
async fn the_payer_is_the_transfers_from_or_the_sender() {
    let (anvil, _service, mut client) = world().await;
    let token = anvil.token("TestERC20").await;
    let hash = anvil.pay_token(&token, &shop(1), 100).await;
    let asked = |payer: &str| {
        let payer = payer.to_owned();
        with(in_token(spec(tx(&hash), &shop(1), 100, 1), &token), |terms| terms.payer = payer)
    };
    let wrong = client.create(asked(OTHER)).await;
    let right = client.create(asked(PAYER)).await;
    anvil.mine(1).await;
    client.until(&wrong, "settled:failed:payer_mismatch").await;
    client.until(&right, "settled:success").await;
}

/// What an address has received lately, with or without a watch.
#[tokio::test]
async fn an_address_is_checked_without_a_watch() {
    let (anvil, _service, mut client) = world().await;
    let token = anvil.token("TestERC20").await;
    anvil.pay(&shop(1), 100).await;
    anvil.pay_token(&token, &shop(1), 5).await;
    anvil.mine(1).await;
    anvil.pay(&shop(1), 11).await;
    anvil.mine(1).await;
    client.head(anvil.height().await).await;
    let check = |asset: &str, depth_min| v1::CheckAddressRequest {
        network: "dev".into(),
        address: shop(1).to_lowercase(),
        asset: asset.into(),
        since_ms: 0,
        depth_min,
    };
    let native = client.inner.check_address(check("", 0)).await.expect("answers").into_inner();
    assert_eq!((native.total.as_str(), native.transfers.len()), ("111", 2));
    let deep = client.inner.check_address(check("native", 2)).await.expect("answers").into_inner();
    assert_eq!(deep.total, "100");
    let tokens = client.inner.check_address(check(&token, 1)).await.expect("answers").into_inner();
    assert_eq!((tokens.total.as_str(), tokens.transfers[0].via.as_str()), ("5", "log"));
    assert_eq!(tokens.transfers[0].claimed_by, "");
}
