//! Black-box tests of Bitcoin: the service as its own process, against a real bitcoind on regtest; behind a falsifying proxy
//! only where bitcoind can't do it.

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod look_ups;
mod outcomes;
mod reorgs;

use serde_json::json;
use support::bitcoind::{Bitcoind, coins};
use support::client::Client;
use support::service::{Service, Setup};

const BINARY: &str = env!("CARGO_BIN_EXE_h402-watch");

/// A bitcoind that mines when it is told to, the service on it, and a client.
async fn world() -> (Bitcoind, Service, Client) {
    world_with(&[], |_| {}).await
}

/// The same with more arguments for bitcoind, and another configuration.
async fn world_with(arguments: &[&str], change: impl FnOnce(&mut Setup)) -> (Bitcoind, Service, Client) {
    let node = Bitcoind::with(arguments).await;
    let mut setup = Setup::bitcoin(&node, Some(node.zmq()));
    change(&mut setup);
    let service = Service::start(BINARY, setup).await;
    let client = service.client().await;
    (node, service, client)
}

/// A signed transaction of one wallet that spends an output of another transaction; its id and its hex.
async fn spend(node: &Bitcoind, wallet: &str, input: (&str, u64), outputs: &[(&str, u64)]) -> (String, String) {
    let outputs: serde_json::Map<_, _> =
        outputs.iter().map(|(to, sats)| ((*to).to_owned(), json!(coins(*sats)))).collect();
    let inputs = json!([{ "txid": input.0, "vout": input.1 }]);
    let raw = node.call("createrawtransaction", json!([inputs, outputs])).await;
    sign(node, wallet, raw.as_str().expect("hex")).await
}

/// Signs a transaction; its id and its hex.
async fn sign(node: &Bitcoind, wallet: &str, raw: &str) -> (String, String) {
    let signed = node.wallet_call(wallet, "signrawtransactionwithwallet", json!([raw])).await;
    assert_eq!(signed["complete"], true, "{signed}");
    let hex = signed["hex"].as_str().expect("hex").to_owned();
    let txid = node.call("decoderawtransaction", json!([hex])).await["txid"].as_str().expect("an id").to_owned();
    (txid, hex)
}

/// Which output of a transaction pays an address.
async fn output_to(node: &Bitcoind, txid: &str, address: &str) -> u64 {
    let raw = node.raw(txid).await;
    let decoded = node.call("decoderawtransaction", json!([raw])).await;
    let outputs = decoded["vout"].as_array().expect("outputs");
    let found = outputs.iter().find(|output| output["scriptPubKey"]["address"] == address);
    found.expect("it pays the address")["n"].as_u64().expect("a number")
}
