//! Black-box tests of Bitcoin: the service as its own process, against a real bitcoind on regtest.

#[path = "../support/mod.rs"]
mod support;

mod electrum;
mod outcomes;

use support::bitcoind::Bitcoind;
use support::client::Client;
use support::service::{Service, Setup};

const BINARY: &str = env!("CARGO_BIN_EXE_h402-watch");

/// A bitcoind that mines when it is told to, the service on it, and a client.
async fn world() -> (Bitcoind, Service, Client) {
    let node = Bitcoind::start().await;
    let service = Service::start(BINARY, Setup::bitcoin(&node, Some(node.zmq()))).await;
    let client = service.client().await;
    (node, service, client)
}
