//! A real node whose chain is torn about at random, and a service that is killed now and then: in the end each watch says what
//! is true of the chain.

use std::collections::BTreeMap;
use std::time::Duration;

use h402_watch_proto::v1;
use serde_json::{Value, json};

use crate::BINARY;
use crate::support::anvil::{Anvil, shop};
use crate::support::client::{Client, spec, tx};
use crate::support::random::Random;
use crate::support::service::{Service, Setup};

const STEPS: u64 = 120;
const HORIZON: u32 = 24;

/// A payment: its watch, its transaction, and its bytes, to send it again.
struct Payment {
    watch: String,
    hash: String,
    raw: String,
}

#[tokio::test]
async fn in_the_end_each_watch_says_what_is_true_of_the_chain() {
    let mut random = Random::fresh();
    let anvil = Anvil::manual().await;
    let token = anvil.token("TestERC20").await;
    anvil.mine(HORIZON.into()).await;
    let setup = Setup { horizon_blocks: HORIZON, network: "finality_tags = []".into(), ..Setup::of(&anvil) };
    let mut service = Service::start(BINARY, setup).await;
    let mut client = service.client().await;
    let mut payments: Vec<Payment> = Vec::new();
    for n in 0..STEPS {
        match random.below(100) {
            0..=44 => payments.push(pay(&anvil, &mut client, &token, n, &mut random).await),
            45..=74 => anvil.mine(1 + random.below(2)).await,
            // Forks of up to five blocks; what was in them is gone from the pool as well.
            75..=84 => {
                anvil.call("anvil_reorg", json!([1 + random.below(5), []])).await;
            }
            85..=92 => {
                let lost = random.below(payments.len().max(1) as u64);
                if let Some(payment) = payments.get(usize::try_from(lost).expect("small")) {
                    // It may be in the chain, or its nonce used: then the node says no.
                    let _ = anvil.try_call("eth_sendRawTransaction", json!([payment.raw])).await;
                }
            }
            93..=95 => {
                anvil.call("anvil_rollback", json!([1 + random.below(2)])).await;
                anvil.mine(3).await;
            }
            _ => {
                service.kill();
                service.restart().await;
                client = service.client().await;
            }
        }
        tokio::time::sleep(Duration::from_millis(random.below(40))).await;
    }
    // Past all that a reorg can reach.
    anvil.mine(u64::from(HORIZON) + 8).await;
    client.head(anvil.height().await).await;
    let mut ends = BTreeMap::new();
    for payment in &payments {
        *ends.entry(check(&anvil, &mut client, payment).await).or_insert(0) += 1;
    }
    assert!(ends.get("success").is_some_and(|count| *count > 3), "it came to something: {ends:?}");
}

async fn pay(anvil: &Anvil, client: &mut Client, token: &str, n: u64, random: &mut Random) -> Payment {
    let in_token = random.below(2) == 0;
    let hash = if in_token { anvil.pay_token(token, &shop(n), 100).await } else { anvil.pay(&shop(n), 100).await };
    let depth = u32::try_from(random.below(5)).expect("small");
    let mut asked = spec(tx(&hash), &shop(n), 100, depth);
    if in_token {
        asked.terms.as_mut().expect("terms").asset = token.into();
    }
    Payment { watch: client.create(asked).await, raw: anvil.raw(&hash).await, hash }
}

/// Compares what the service says of a payment with what the node says. The outcome in a word.
async fn check(anvil: &Anvil, client: &mut Client, payment: &Payment) -> String {
    let started = tokio::time::Instant::now();
    loop {
        let truth = anvil.call("eth_getTransactionReceipt", json!([payment.hash])).await;
        let watch = client.get(&payment.watch).await;
        let receipts = client.receipts(&payment.watch).await;
        let story: Vec<_> = receipts.iter().map(|receipt| receipt.short()).collect();
        let settled = story.iter().filter(|step| step.starts_with("settled")).count();
        let last_block = receipts.iter().rev().find(|receipt| receipt.kind == "included");
        let last_block = last_block.map_or(&Value::Null, |receipt| &receipt.artefact["transaction"]["block"]["hash"]);
        let in_chain = !truth.is_null();
        let agrees = match watch.outcome() {
            // Paid and still there, in the block that was told last; or taken back, and said so.
            v1::Outcome::Success if in_chain => {
                *last_block == truth["blockHash"] && story.last().is_some_and(|last| last == "finalized")
            }
            v1::Outcome::Success => story.contains(&"reversed".to_owned()),
            // The sender's nonce went to another transaction, as deep as the terms ask. A deeper fork may undo even that: then the
            // payment is told of as late.
            v1::Outcome::Failed => {
                let late = story.contains(&"late".to_owned()) && *last_block == truth["blockHash"];
                watch.reason == "replaced" && (!in_chain || late)
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
