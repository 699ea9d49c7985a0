//! A real node whose chain is torn about at random, payments bumped and double-spent, and a service that is killed now and
//! then: in the end each watch says what is true of the chain.

use std::collections::BTreeMap;
use std::time::Duration;

use h402_watch_proto::v1;
use serde_json::{Value, json};

use crate::BINARY;
use crate::support::bitcoind::Bitcoind;
use crate::support::client::{Client, spec, tx};
use crate::support::random::Random;
use crate::support::service::{Service, Setup};

const STEPS: u64 = 150;
const HORIZON: u32 = 16;
/// How many blocks leave the chain at once, at most.
const FORK_MAX: u64 = 5;

/// A payment: its watch, and its transaction.
struct Payment {
    watch: String,
    txid: String,
}

#[tokio::test]
async fn in_the_end_each_watch_says_what_is_true_of_the_chain() {
    let mut random = Random::fresh();
    let node = Bitcoind::with(&["-txindex=1"]).await;
    let announced = (random.below(2) == 0).then(|| node.zmq());
    let setup = Setup { horizon_blocks: HORIZON, ..Setup::bitcoin(&node, announced) };
    // The chain never gets shorter, so no fork reaches the block that the payer's coins are in.
    node.mine(FORK_MAX).await;
    let mut service = Service::start(BINARY, setup).await;
    let mut client = service.client().await;
    let mut payments: Vec<Payment> = Vec::new();
    for _ in 0..STEPS {
        let some = usize::try_from(random.below(payments.len().max(1) as u64)).expect("small");
        match (random.below(100), payments.get(some)) {
            (0..=44, _) => payments.push(pay(&node, &mut client, &mut random).await),
            (45..=64, _) => drop(node.mine(1 + random.below(2)).await),
            // It may be mined already, or be gone: then the node says no.
            (65..=71, Some(payment)) => {
                let bump = json!([payment.txid]);
                let _ = node.try_wallet_call(crate::support::bitcoind::PAYER, "bumpfee", bump).await;
            }
            (72..=79, Some(payment)) => {
                let elsewhere = node.payer_address().await;
                let (_, raw) = node.double_spend(&payment.txid, &elsewhere, 1000, random.below(2) == 0).await;
                let _ = node.send_raw(&raw).await;
            }
            (80..=92, _) => fork(&node, &mut random).await,
            (93..=96, _) => {
                service.kill();
                service.restart().await;
                client = service.client().await;
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(random.below(40))).await;
    }
    // Past all that a reorg can reach.
    node.mine(u64::from(HORIZON) + 8).await;
    client.head(node.height().await).await;
    let mut ends = BTreeMap::new();
    for payment in &payments {
        *ends.entry(check(&node, &mut client, payment).await).or_insert(0) += 1;
    }
    assert!(ends.get("success").is_some_and(|count| *count > 3), "it came to something: {ends:?}");
}

async fn pay(node: &Bitcoind, client: &mut Client, random: &mut Random) -> Payment {
    let shop = node.address().await;
    let (txid, raw) = node.raw_payment(&shop, 5000, random.below(2) == 0).await;
    node.send_raw(&raw).await.expect("accepted");
    let depth = u32::try_from(random.below(5)).expect("small");
    Payment { watch: client.create(spec(tx(&txid), &shop, 5000, depth)).await, txid }
}

/// The last blocks leave the chain; the other branch takes their transactions in again, or leaves them in the mempool.
async fn fork(node: &Bitcoind, random: &mut Random) {
    let deep = random.below(FORK_MAX);
    let left = node.block_hash(node.height().await - deep).await;
    node.invalidate(&left).await;
    if random.below(2) == 0 {
        node.mine(deep + 1 + random.below(2)).await;
    } else {
        node.mine_empty(deep + 2).await;
    }
}

/// Compares what the service says of a payment with what the node says. The outcome in a word.
async fn check(node: &Bitcoind, client: &mut Client, payment: &Payment) -> String {
    let started = tokio::time::Instant::now();
    loop {
        let truth = node.try_call("getrawtransaction", json!([payment.txid, 1])).await.unwrap_or_default();
        let in_chain = truth["confirmations"].as_u64().is_some_and(|confirmations| confirmations > 0);
        let watch = client.get(&payment.watch).await;
        let receipts = client.receipts(&payment.watch).await;
        let story: Vec<_> = receipts.iter().map(|receipt| receipt.short()).collect();
        let settled = story.iter().filter(|step| step.starts_with("settled")).count();
        let last_block = receipts.iter().rev().find(|receipt| receipt.kind == "included");
        let last_block = last_block.map_or(&Value::Null, |receipt| &receipt.artefact["transaction"]["block"]["hash"]);
        let followed = story.contains(&"replaced".to_owned());
        let agrees = match watch.outcome() {
            // A bump that still pays was followed to its own block.
            v1::Outcome::Success if followed => {
                story.last().is_some_and(|last| last == "finalized" || last == "reversed")
            }
            // Paid and still there, in the block that was told last; or taken back, and said so.
            v1::Outcome::Success if in_chain => {
                *last_block == truth["blockhash"] && story.last().is_some_and(|last| last == "finalized")
            }
            v1::Outcome::Success => story.contains(&"reversed".to_owned()),
            // What it spends from went elsewhere, as deep as the terms ask. A deeper fork may undo even that: then the payment is
            // told of as late.
            v1::Outcome::Failed => {
                let late = story.contains(&"late".to_owned()) && *last_block == truth["blockhash"];
                ["replaced", "conflicted"].contains(&watch.reason.as_str()) && (!in_chain || late)
            }
            v1::Outcome::Unspecified => !in_chain && watch.state() != v1::State::Included,
            v1::Outcome::Partial => false,
        };
        if agrees {
            assert!(settled <= 1, "{story:?}");
            return watch.outcome().as_str_name().trim_start_matches("OUTCOME_").to_ascii_lowercase();
        }
        assert!(started.elapsed() < Duration::from_secs(20), "the chain says {truth}, we say {story:?}: {watch:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
