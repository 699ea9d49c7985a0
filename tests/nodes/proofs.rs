//! Inclusion proofs of a real chain, made by the service and verified without it.

use std::collections::BTreeSet;

use h402_watch_proto::v1;
use h402_watch_verify::Inclusion;
use serde_json::{Value, json};

use crate::support::anvil::{Anvil, payCall, shop};
use crate::support::client::{Client, Seen, address, spec, tx, with};
use crate::support::proofs::{audited, keys, proofs, proven};
use crate::support::service::{Service, Setup};
use crate::{BINARY, world, world_with};

fn asking(spec: v1::WatchSpec) -> v1::WatchSpec {
    v1::WatchSpec { proofs: Some(true), ..spec }
}

async fn settled(client: &mut Client, id: &str) -> Vec<Seen> {
    client.until(id, "settled:success").await;
    client.receipts(id).await
}

/// A block of so many payments; their transactions, in its order.
async fn block_of(anvil: &Anvil, payments: usize) -> Vec<String> {
    for n in 0..payments {
        // Nonces of one account are in order.
        anvil.pay(&shop(1), 100 + u64::try_from(n).expect("few")).await;
    }
    anvil.mine(1).await;
    let block = anvil.block("latest").await;
    let txs: Vec<_> = block["transactions"].as_array().expect("a list").iter().map(hash).collect();
    assert_eq!(txs.len(), payments);
    txs
}

fn hash(value: &Value) -> String {
    value.as_str().expect("a hash").to_owned()
}

/// Edge case 39, on real blocks: keys of one byte and of two, the last one, and the only one.
#[tokio::test]
async fn payments_anywhere_in_a_block_are_proven() {
    let (anvil, service, mut client) = world_with(|setup| setup.network = "proofs = true\n".into()).await;
    let keys = keys(&service).await;
    for payments in [1, 2, 17, 130, 200] {
        let txs = block_of(&anvil, payments).await;
        let places = BTreeSet::from([0, 1, 16, 127, 128, payments - 1]);
        let mut ids = Vec::new();
        for place in places.into_iter().filter(|place| *place < payments) {
            let amount = 100 + u64::try_from(place).expect("few");
            ids.push((place, client.create(spec(tx(&txs[place]), &shop(1), amount, 3)).await));
        }
        anvil.mine(2).await;
        for (place, id) in ids {
            let receipts = settled(&mut client, &id).await;
            assert_eq!(proven(&receipts, &keys), [2], "place {place} of {payments}");
            let (included, settlement) = (&receipts[0], &receipts[1]);
            assert_eq!(proofs(settlement)[0]["index"], place);
            assert_eq!(proofs(included)[0]["receiptProof"], proofs(settlement)[0]["receiptProof"]);
            assert!(proofs(included)[0]["headers"].is_null(), "at the settlement only");
        }
    }
}

/// Found when it is mined, found later by look-up, and found again after a reorg: one proof each, of the block that it is in.
#[tokio::test]
async fn whatever_way_a_payment_is_found_it_is_proven() {
    let (anvil, service, mut client) = world_with(|setup| setup.network = "proofs = true\n".into()).await;
    let keys = keys(&service).await;
    let token = anvil.token("TestERC20").await;
    let in_token = |request: v1::WatchSpec| with(request, |terms| terms.asset.clone_from(&token));
    let before = anvil.call("evm_snapshot", json!([])).await;
    let hash = anvil.pay_token(&token, &shop(1), 100).await;
    let raw = anvil.raw(&hash).await;
    let followed = client.create(in_token(spec(tx(&hash), &shop(1), 100, 4))).await;
    anvil.mine(1).await;
    client.until(&followed, "included").await;
    // Another branch, with the payment one block later.
    anvil.call("evm_revert", json!([before])).await;
    anvil.mine(1).await;
    anvil.call("eth_sendRawTransaction", json!([raw])).await;
    anvil.mine(2).await;
    client.has(&followed, "orphaned").await;
    let looked_up = client.create(in_token(spec(tx(&hash), &shop(1), 90, 4))).await;
    anvil.mine(3).await;
    let of_followed = settled(&mut client, &followed).await;
    assert_eq!(proven(&of_followed, &keys), [3]);
    let included: Vec<_> = of_followed.iter().filter(|seen| seen.kind == "included").collect();
    assert_eq!(included.len(), 2);
    assert_ne!(proofs(included[0])[0]["header"], proofs(included[1])[0]["header"], "of its own block each");
    client.until(&looked_up, "settled:failed:already_claimed").await;
    let of_looked_up = client.receipts(&looked_up).await;
    assert_eq!(proven(&of_looked_up, &keys), [3]);
    assert_eq!(proofs(included[1])[0], proofs(&of_looked_up[0])[0], "the same bytes, found otherwise");
}

/// An address that is paid in two blocks, and one that a contract pays: what a trace tells is under no root, and verification
/// says so.
#[tokio::test]
async fn what_is_under_no_root_is_said_not_to_be_proven() {
    let (anvil, service, mut client) = world_with(|setup| setup.network = "proofs = true\n".into()).await;
    let keys = keys(&service).await;
    let splitter = anvil.deploy("Splitter").await;
    client.head(anvil.height().await).await;
    let twice = client.create(spec(address(), &shop(3), 150, 1)).await;
    let inside = client.create(spec(address(), &shop(1), 500, 1)).await;
    let call = payCall { a: shop(1).parse().expect("an address"), b: shop(2).parse().expect("an address") };
    anvil.invoke(&splitter, call, 1000).await;
    anvil.pay(&shop(3), 50).await;
    anvil.mine(1).await;
    client.until(&twice, "included").await;
    anvil.pay(&shop(3), 100).await;
    anvil.mine(1).await;
    let receipts = settled(&mut client, &twice).await;
    assert_eq!(proven(&receipts, &keys), [0, 0], "two blocks, one transfer of each");
    let receipts = settled(&mut client, &inside).await;
    let reports = audited(&receipts, &keys);
    let settlement = reports.iter().find(|report| report.event == "settled").expect("settled");
    let Inclusion::Partly { transactions, unproven } = &settlement.inclusion else { panic!("{settlement}") };
    assert_eq!((transactions.len(), unproven.len()), (1, 1), "the transaction is proven, what it moved is not");
    assert!(unproven[0].why.contains("call inside"), "{settlement}");
}

/// Proofs are asked for by the watch, or for all of a network; without them nothing is fetched for them.
#[tokio::test]
async fn proofs_come_when_they_are_asked_for() {
    let (anvil, service, mut client) = world().await;
    let keys = keys(&service).await;
    let (plain, proved) = (anvil.pay(&shop(1), 100).await, anvil.pay(&shop(2), 100).await);
    let without = client.create(spec(tx(&plain), &shop(1), 100, 1)).await;
    let with_proofs = client.create(asking(spec(tx(&proved), &shop(2), 100, 1))).await;
    anvil.mine(1).await;
    let receipts = settled(&mut client, &without).await;
    assert!(receipts.iter().all(|seen| seen.artefact["proofs"].is_null()), "{receipts:?}");
    audited(&receipts, &keys);
    let receipts = settled(&mut client, &with_proofs).await;
    assert_eq!(proven(&receipts, &keys), [0]);
    let spec = client.get(&with_proofs).await.spec.expect("a request");
    assert_eq!(spec.proofs, Some(true), "as it was asked");
}

/// Roots that can't be recomputed prove nothing: the artefacts say so, and on whose word the facts stand.
#[tokio::test]
async fn a_chain_without_roots_says_that_it_has_no_proof() {
    let anvil = Anvil::manual().await;
    anvil.mine(3).await;
    let setup = Setup { network: "proofs = true\nrecompute = false\n".into(), ..Setup::of(&anvil) };
    let service = Service::start(BINARY, setup).await;
    let keys = keys(&service).await;
    let mut client = service.client().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 2)).await;
    anvil.mine(2).await;
    let receipts = settled(&mut client, &id).await;
    let settlement = receipts.last().expect("settled");
    assert_eq!(proofs(settlement)[0]["kind"], "none");
    assert_eq!(settlement.artefact["transfers"][0]["verification"], "endpoint");
    let reports = audited(&receipts, &keys);
    assert!(reports.iter().any(|report| report.to_string().contains("not proven")), "{reports:?}");
}
