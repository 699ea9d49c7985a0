//! What becomes of transactions and of payments, from their slot to their outcome.

use h402_watch_proto::v1;
use h402_watch_proto::v1::FinalityTag;
use serde_json::json;
use solana_keypair::Keypair;
use solana_signer::Signer as _;

use crate::support::client::{Client, address, now_ms, spec, tx, with};
use crate::support::solana::draft::Draft;
use crate::support::solana::{FINAL_SLOTS, SOL, Solnode, shop};
use crate::{asks, but_seen, exactly, in_token, included, seal, settlement, tagged, world, world_on};

/// Heights are slots less this, on the development node.
const FIRST_SLOTS: u64 = 10;

/// Edge case 1: included once, settled once, final once, each with the slot.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_included_settled_and_final() {
    let (node, _service, mut client) = world().await;
    let (one, other) = (shop(), shop());
    let slot = node.open_slot().await;
    let by_address = client.create(exactly(asks(address(), &one, SOL))).await;
    let signatures = [node.pay(&one, SOL).await, node.pay(&other, SOL).await];
    let by_tx = client.create(exactly(asks(tx(&signatures[1]), &other, SOL))).await;
    polled(&mut client).await;
    for id in [&by_address, &by_tx] {
        assert!(client.receipts(id).await.is_empty(), "it was sent and executed, and is in no block");
    }
    node.slot(1).await;
    for id in [&by_address, &by_tx] {
        assert_eq!(but_seen(client.until(id, "settled:success").await), ["included", "settled:success"]);
    }
    seal(&node, &mut client, FINAL_SLOTS - 2).await;
    for id in [&by_address, &by_tx] {
        assert!(client.receipts(id).await.iter().all(|receipt| receipt.kind != "finalized"), "30 slots");
    }
    node.slot(1).await;
    let hash = node.block(slot).await["blockhash"].clone();
    for (id, signature) in [&by_address, &by_tx].into_iter().zip(&signatures) {
        let story = client.until(id, "finalized").await;
        assert_eq!(but_seen(story), ["included", "settled:success", "finalized"]);
        let told = included(&mut client, id).await;
        assert_eq!((&told["tx"], &told["block"]["hash"]), (&json!(signature), &hash));
        assert_eq!(told["block"]["height"], slot - FIRST_SLOTS);
        let settled = settlement(&mut client, id).await;
        let transfer = &settled["transfers"][0];
        assert_eq!((&settled["received"], &transfer["tx"]), (&json!(SOL.to_string()), &json!(signature)));
        for notes in [&told["notes"], &transfer["notes"]] {
            assert_eq!((&notes["slot"], &notes["depthUnit"]), (&json!(slot.to_string()), &json!("blocks")));
        }
    }
}

/// A depth is counted in blocks, the payment's own included.
#[tokio::test(flavor = "multi_thread")]
async fn a_depth_counts_blocks() {
    let (node, _service, mut client) = world().await;
    let to = shop();
    let id = client.create(spec(address(), &to.to_string(), SOL, 3)).await;
    node.pay(&to, SOL).await;
    seal(&node, &mut client, 2).await;
    polled(&mut client).await;
    assert_eq!(client.until(&id, "included").await, ["included"]);
    assert_eq!(client.get(&id).await.transactions[0].depth, 2);
    node.slot(1).await;
    assert_eq!(client.until(&id, "settled:success").await, ["included", "settled:success"]);
}

/// Edge case 4: it landed, and failed: that is an outcome, with the error.
#[tokio::test(flavor = "multi_thread")]
async fn what_failed_on_the_chain_is_told_with_its_error() {
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let (poor, to) = (Keypair::new(), shop());
    node.pay(&poor.pubkey(), SOL).await;
    node.pay_token(&mint, &poor.pubkey(), 1).await;
    node.pay_token(&mint, &to, 1).await;
    seal(&node, &mut client, 1).await;
    let by_address =
        [client.create(asks(address(), &to, 1)).await, client.create(in_token(&mint, asks(address(), &to, 1))).await];
    let tokens = node.send_unchecked(Draft::by(&poor).token_to(&mint, &mint.account(&to), 2)).await;
    // Its first transfer is taken back with the second.
    let half = node.send_unchecked(Draft::by(&poor).sol(&to, SOL / 10).sol(&to, 2 * SOL)).await;
    let by_tx = [
        client.create(in_token(&mint, asks(tx(&tokens), &to, 1))).await,
        client.create(asks(tx(&half), &to, SOL / 10)).await,
    ];
    node.slot(1).await;
    for (id, signature) in by_tx.iter().zip([&tokens, &half]) {
        client.until(id, "settled:failed:reverted").await;
        let error = node.status(signature).await["err"].to_string();
        assert!(error.contains("InstructionError"), "{error}");
        for told in [included(&mut client, id).await, settlement(&mut client, id).await["transaction"].clone()] {
            assert_eq!((&told["execution"], &told["notes"]["error"]), (&json!("reverted"), &json!(error)));
        }
    }
    for id in &by_address {
        assert!(client.receipts(id).await.is_empty(), "it pays nobody");
    }
}

/// Edge case 21: a transfer pays one watch; the other is told which.
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_pays_one_watch() {
    let (node, _service, mut client) = world().await;
    let mint = node.mint(6).await;
    let to = shop();
    let signature = node.pay_token(&mint, &to, 1_000).await;
    let first = client.create(in_token(&mint, asks(tx(&signature), &to, 1_000))).await;
    let second = client.create(in_token(&mint, asks(tx(&signature), &to, 999))).await;
    node.slot(1).await;
    client.until(&first, "settled:success").await;
    client.until(&second, "settled:failed:already_claimed").await;
    assert_eq!(client.get(&second).await.reason_by, first);
    // However late it is shown again.
    seal(&node, &mut client, FINAL_SLOTS).await;
    let third = client.create(in_token(&mint, asks(tx(&signature), &to, 998))).await;
    client.until(&third, "settled:failed:already_claimed").await;
    assert_eq!(settlement(&mut client, &third).await["by"]["watch"], first);
}

/// Edge case 44: sent twice, asked for twice: one payment, one watch.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_transaction_twice_is_one_payment() {
    let (node, _service, mut client) = world().await;
    let to = shop();
    let by_address = client.create(asks(address(), &to, 2 * SOL)).await;
    let signed = node.sign(&node.draft().sol(&to, SOL)).await;
    let spec = asks(tx(&signed.signature), &shop(), SOL);
    let made = client.try_create(spec.clone()).await.expect("is made");
    let again = client.try_create(spec).await.expect("is the same");
    assert_eq!((again.created, again.watch.map(|watch| watch.id)), (false, made.watch.map(|watch| watch.id)));
    node.send_raw(&signed).await.expect("it is good");
    assert!(node.send_raw(&signed).await.is_err(), "it is known");
    node.slot(1).await;
    client.until(&by_address, "included").await;
    assert!(node.send_raw_unchecked(&signed).await.is_err(), "it is known still");
    seal(&node, &mut client, 3).await;
    assert_eq!(client.receipts(&by_address).await.len(), 1);
    assert_eq!(client.get(&by_address).await.received, SOL.to_string());
}

/// Edge case 12: confirmed on a branch that is left, and again in another slot; by its address and by its signature.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_lands_again_after_a_fork_is_told_anew() {
    let (node, _service, mut client) = world().await;
    let (one, other) = (shop(), shop());
    node.slot(1).await;
    node.mark().await;
    let first = node.open_slot().await;
    let moved = [node.sign(&node.draft().sol(&one, SOL)).await, node.sign(&node.draft().sol(&other, SOL)).await];
    let ids = [
        client.create(tagged(address(), &one.to_string(), SOL, FinalityTag::Finalized)).await,
        client.create(tagged(tx(&moved[1].signature), &other.to_string(), SOL, FinalityTag::Finalized)).await,
    ];
    send_all(&node, &moved).await;
    node.slot(3).await;
    for id in &ids {
        client.until(id, "included").await;
        assert_eq!(included(&mut client, id).await["notes"]["slot"], first.to_string());
    }
    node.back().await;
    node.slot(2).await;
    let second = node.open_slot().await;
    send_all(&node, &moved).await;
    node.slot(3).await;
    node.finalize().await;
    for id in &ids {
        let story = but_seen(client.until(id, "finalized").await);
        assert_eq!(story.iter().filter(|short| *short == "settled:success").count(), 1, "{story:?}");
        let left = story.iter().position(|short| short == "orphaned").expect("it left its block");
        assert!(story[left..].contains(&"included".to_owned()), "{story:?}");
        assert_eq!(included(&mut client, id).await["notes"]["slot"], second.to_string());
    }
}

async fn send_all(node: &Solnode, signed: &[crate::support::solana::Signed]) {
    for one in signed {
        node.send_raw(one).await.expect("it is good");
    }
}

/// Edge case 12: what a fork took, and no block has again, is pending; and where it had settled already, that is reversed once
/// no fork can bring it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_a_fork_took_is_gone() {
    let (node, _service, mut client) = world().await;
    let (open, settled) = (shop(), shop());
    node.slot(1).await;
    node.mark().await;
    let signatures = [node.pay(&open, SOL).await, node.pay(&settled, SOL).await];
    let open = client.create(tagged(tx(&signatures[0]), &open.to_string(), SOL, FinalityTag::Finalized)).await;
    let settled = client.create(asks(tx(&signatures[1]), &settled, SOL)).await;
    node.slot(2).await;
    client.until(&open, "included").await;
    client.until(&settled, "settled:success").await;
    node.back().await;
    node.slot(40).await;
    client.has(&open, "orphaned").await;
    client.until(&settled, "orphaned").await;
    assert_eq!(client.get(&open).await.state(), v1::State::Pending);
    node.slot(256).await;
    client.until(&settled, "reversed").await;
    assert_eq!(client.get(&open).await.state(), v1::State::Pending, "it may land yet");
}

fn expiring(signature: &str, last_valid_height: u64) -> v1::watch_spec::Subject {
    v1::watch_spec::Subject::Transaction(v1::TransactionSubject {
        tx: signature.into(),
        last_valid_height: Some(last_valid_height),
        ..Default::default()
    })
}

/// Waits until the service knows a height to be final.
async fn final_at(client: &mut Client, height: u64) {
    for _ in 0..3_000 {
        let networks = client.inner.list_networks(v1::ListNetworksRequest {}).await.expect("answers").into_inner();
        if networks.networks[0].finalized_height >= height {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{height} does not get final");
}

/// Edge case 6: it never lands. It has expired as soon as a final block is too high for it, long before the deadline, and not
/// earlier.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_transaction_expires_with_the_first_final_block_above_its_last() {
    let (node, _service, mut client) = world().await;
    let to = shop();
    let dropped = node.sign(&node.draft().sol(&to, SOL)).await;
    let last = dropped.last_valid_block_height.expect("no nonce");
    let id = client.create(asks(expiring(&dropped.signature, last), &to, SOL)).await;
    node.slot(last + FIRST_SLOTS - node.finalized().await).await;
    assert_eq!(node.finalized().await, last + FIRST_SLOTS);
    final_at(&mut client, last).await;
    polled(&mut client).await;
    assert!(client.receipts(&id).await.is_empty(), "no final block is above it");
    node.slot(1).await;
    assert_eq!(client.until(&id, "settled:failed:expired").await, ["settled:failed:expired"]);
    let evidence = settlement(&mut client, &id).await["evidence"].clone();
    let block = node.block(last + 1 + FIRST_SLOTS).await;
    assert_eq!(evidence["kind"], "expired");
    assert_eq!(evidence["block"], json!({ "height": last + 1, "hash": block["blockhash"] }));
}

/// Waits until the service has asked the node a few times more: it has done all that followed from before.
async fn polled(client: &mut Client) {
    let mut from = None;
    for _ in 0..3_000 {
        let networks = client.inner.list_networks(v1::ListNetworksRequest {}).await.expect("answers").into_inner();
        let requests = networks.networks[0].endpoints[0].requests;
        if requests >= *from.get_or_insert(requests) + 8 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the service asks for nothing");
}

/// Edge case 7: it lands in the last block that could take it.
#[tokio::test(flavor = "multi_thread")]
async fn what_lands_in_its_last_block_has_not_expired() {
    let (node, _service, mut client) = world().await;
    let to = shop();
    let late = node.sign(&node.draft().sol(&to, SOL)).await;
    // On this node the last block is that below.
    let last = late.last_valid_block_height.expect("no nonce") - 1;
    let terms = tagged(expiring(&late.signature, last), &to.to_string(), SOL, FinalityTag::Finalized);
    let id = client.create(terms).await;
    node.slot(last - 1 - node.height().await).await;
    node.send_raw(&late).await.expect("it is good");
    node.slot(1).await;
    client.until(&id, "included").await;
    assert_eq!(included(&mut client, &id).await["block"]["height"], last);
    node.slot(2 * FINAL_SLOTS).await;
    let story = but_seen(client.until(&id, "finalized").await);
    assert_eq!(story, ["included", "settled:success", "finalized"]);
}

/// Edge case 8: expired by the word of a client that was wrong, and landed after all: told as late, and the outcome stands.
#[tokio::test(flavor = "multi_thread")]
async fn what_lands_after_it_was_said_to_expire_is_late() {
    let (node, _service, mut client) = world().await;
    let to = shop();
    // What could hold it lies in blocks that the node has.
    node.slot(180).await;
    let signed = node.sign(&node.draft().sol(&to, SOL)).await;
    let id = client.create(asks(expiring(&signed.signature, node.height().await), &to, SOL)).await;
    node.slot(FINAL_SLOTS + 1).await;
    client.until(&id, "settled:failed:expired").await;
    node.send_raw(&signed).await.expect("it is good");
    node.slot(1).await;
    let story = but_seen(client.until(&id, "late").await);
    assert_eq!(story, ["settled:failed:expired", "included", "late"]);
    assert_eq!(client.get(&id).await.reason, "expired");
}

async fn nonced(node: &Solnode, signature: &str, account: &solana_address::Address) -> v1::watch_spec::Subject {
    v1::watch_spec::Subject::Transaction(v1::TransactionSubject {
        tx: signature.into(),
        nonce_account: account.to_string(),
        nonce: node.nonce(account).await.to_string(),
        ..Default::default()
    })
}

/// Edge case 9: a durable nonce keeps a transaction good, whatever the height; until somebody uses the nonce.
#[tokio::test(flavor = "multi_thread")]
async fn a_durable_nonce_expires_by_use_and_not_by_height() {
    let (node, _service, mut client) = world().await;
    let accounts = [node.nonce_account().await, node.nonce_account().await];
    let to = shop();
    node.slot(1).await;
    let patient = node.sign(&node.draft().sol(&to, SOL).with_nonce(&accounts[0])).await;
    let overtaken = node.sign(&node.draft().sol(&to, 2 * SOL).with_nonce(&accounts[1])).await;
    let expires = asks(nonced(&node, &overtaken.signature, &accounts[1]).await, &to, 2 * SOL);
    let expires = client.create(expires).await;
    // What an account holds counts as used only once it was seen to hold the nonce; here each change is final at once.
    polled(&mut client).await;
    let lands = client.create(asks(nonced(&node, &patient.signature, &accounts[0]).await, &to, SOL)).await;
    node.advance_nonce(&accounts[1]).await;
    // A blockhash of then is long useless when this is final.
    seal(&node, &mut client, 151 + FINAL_SLOTS).await;
    assert_eq!(client.until(&expires, "settled:failed:expired").await, ["settled:failed:expired"]);
    let evidence = settlement(&mut client, &expires).await["evidence"].clone();
    assert_eq!(evidence["kind"], "expired");
    assert!(evidence["block"]["height"].as_u64() <= Some(node.finalized().await - FIRST_SLOTS), "{evidence}");
    assert!(client.receipts(&lands).await.is_empty());
    node.send_raw(&patient).await.expect("it is good");
    node.slot(1).await;
    client.until(&lands, "settled:success").await;
}

/// Waits until the clock and the chain are past a time.
async fn pass(node: &Solnode, time_ms: u64) {
    while now_ms() <= time_ms {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    while node.block(node.tip().await).await["blockTime"].as_u64().expect("a time") * 1000 <= time_ms {
        node.slot(1).await;
    }
}

/// Edge case 10: at the deadline nothing is known, or too little is final; what lands later is told as late.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_decides_and_what_lands_later_is_late() {
    let (node, _service, mut client) = world().await;
    let (nobody, slow, patient) = (shop(), shop(), shop());
    let signed = node.sign(&node.draft().sol(&nobody, SOL)).await;
    let soon = now_ms() + 2_000;
    let until = |spec| with(spec, |terms| terms.deadline_ms = soon);
    let height = signed.last_valid_block_height.expect("no nonce");
    let unseen = client.create(until(asks(expiring(&signed.signature, height), &nobody, SOL))).await;
    let shallow = tagged(address(), &slow.to_string(), SOL, FinalityTag::Finalized);
    let shallow = client.create(until(shallow)).await;
    let extended = tagged(address(), &patient.to_string(), SOL, FinalityTag::Finalized);
    let extended = client.create(with(until(extended), |terms| terms.set_at_deadline(v1::AtDeadline::Extend))).await;
    node.pay(&slow, SOL).await;
    node.pay(&patient, SOL).await;
    node.slot(1).await;
    client.until(&shallow, "included").await;
    pass(&node, soon).await;
    client.until(&unseen, "settled:failed:deadline_passed").await;
    client.until(&shallow, "settled:failed:deadline_passed").await;
    node.send_raw(&signed).await.expect("it can land still");
    node.finalize().await;
    let story = but_seen(client.until(&unseen, "late").await);
    assert_eq!(story, ["settled:failed:deadline_passed", "included", "late"]);
    client.until(&shallow, "late").await;
    client.has(&extended, "settled:success").await;
}

/// A payment from before the time that the watch accepts.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_paid_too_early_fails() {
    let (node, _service, mut client) = world().await;
    let to = shop();
    let slot = node.open_slot().await;
    let signature = node.pay(&to, SOL).await;
    node.slot(1).await;
    let paid = node.block(slot).await["blockTime"].as_u64().expect("a time") * 1000;
    let early = with(asks(tx(&signature), &to, SOL), |terms| terms.not_before_ms = paid + 1);
    let early = client.create(early).await;
    client.until(&early, "settled:failed:too_early").await;
    let just = with(asks(tx(&signature), &to, SOL), |terms| terms.not_before_ms = paid);
    let just = client.create(just).await;
    client.until(&just, "settled:success").await;
}

/// Edge case 40: while the clock of the chain stands still no deadline passes; it goes on where it stood.
#[tokio::test(flavor = "multi_thread")]
async fn no_deadline_passes_while_the_clock_of_the_chain_is_stopped() {
    let (node, _service, mut client) = world_on(Solnode::start().await).await;
    let (to, other) = (shop(), shop());
    let soon = now_ms() + 2_500;
    let until = |spec| with(spec, |terms| terms.deadline_ms = soon);
    let paid = client.create(until(asks(address(), &to, SOL))).await;
    let unpaid = client.create(until(asks(address(), &other, SOL))).await;
    node.pause().await;
    while now_ms() < soon + 1_000 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for id in [&paid, &unpaid] {
        assert!(client.receipts(id).await.is_empty(), "the chain's clock stands");
    }
    node.pay(&to, SOL).await;
    node.resume().await;
    client.until(&paid, "settled:success").await;
    client.until(&unpaid, "settled:failed:deadline_passed").await;
}

/// Killed between the payment and its finality, and while another is paid.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_nothing_and_repeats_nothing() {
    let (node, mut service, mut client) = world().await;
    let mint = node.mint(6).await;
    let (to, other) = (shop(), shop());
    let tag = FinalityTag::Finalized;
    let before = client.create(in_token(&mint, tagged(address(), &to.to_string(), 7, tag))).await;
    let meanwhile = client.create(in_token(&mint, tagged(address(), &other.to_string(), 8, tag))).await;
    node.pay_token(&mint, &to, 7).await;
    node.slot(1).await;
    client.until(&before, "included").await;
    service.kill();
    let signature = node.pay_token(&mint, &other, 8).await;
    let by_tx = in_token(&mint, tagged(tx(&signature), &other.to_string(), 9, tag));
    node.slot(2 * FINAL_SLOTS).await;
    service.restart().await;
    let mut client = service.client().await;
    for id in [&before, &meanwhile] {
        let story = client.until(id, "finalized").await;
        assert_eq!(story, ["included", "settled:success", "finalized"]);
    }
    let by_tx = client.create(by_tx).await;
    client.until(&by_tx, "settled:failed:already_claimed").await;
}
