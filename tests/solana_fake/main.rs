//! The scripted Solana node does what it says.

#![allow(dead_code, reason = "each user needs another part")]

#[path = "../support/agave/mod.rs"]
mod agave;

mod answers;
mod faults;
mod sockets;

use std::time::Duration;

use agave::Agave;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

/// How long nothing has to come for it to be nothing.
const QUIET: Duration = Duration::from_millis(100);

async fn post(node: &Agave, body: &Value) -> reqwest::Response {
    let client = reqwest::Client::new();
    client
        .post(node.http())
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .expect("sends")
}

async fn read(response: reqwest::Response) -> Value {
    serde_json::from_str(&response.text().await.expect("a body")).expect("JSON")
}

/// The whole answer to one call.
async fn answer(node: &Agave, method: &str, params: Value) -> Value {
    read(post(node, &json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params })).await).await
}

async fn call(node: &Agave, method: &str, params: Value) -> Value {
    let answer = answer(node, method, params).await;
    assert!(answer["error"].is_null(), "{method}: {answer}");
    answer["result"].clone()
}

async fn code(node: &Agave, method: &str, params: Value) -> i64 {
    let answer = answer(node, method, params).await;
    answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("{method}: {answer}"))
}

fn at(commitment: &str) -> Value {
    json!({ "commitment": commitment })
}

/// As the service asks: everything that can be confirmed and read.
fn reading() -> Value {
    json!({ "commitment": "confirmed", "encoding": "json", "maxSupportedTransactionVersion": 1 })
}

fn detail(detail: &str) -> Value {
    let mut config = reading();
    config["transactionDetails"] = json!(detail);
    config["rewards"] = json!(false);
    config
}

async fn status(node: &Agave, signature: &str) -> Value {
    call(node, "getSignatureStatuses", json!([[signature]])).await["value"][0].clone()
}

async fn slots(node: &Agave) -> [u64; 3] {
    let mut slots = [0; 3];
    for (slot, commitment) in slots.iter_mut().zip(["processed", "confirmed", "finalized"]) {
        *slot = call(node, "getSlot", json!([at(commitment)])).await.as_u64().expect("a slot");
    }
    slots
}
