//! Black-box tests: the service as its own process, against a real anvil; a scripted node only where anvil can't do it.

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod outcomes;
mod python;
mod recovery;
mod reorgs;
mod service;
mod transfers;

use support::anvil::Anvil;
use support::client::Client;
use support::service::{Service, Setup};

const BINARY: &str = env!("CARGO_BIN_EXE_h402-watch");

/// An anvil that mines when it is told to, the service on it, and a client.
async fn world() -> (Anvil, Service, Client) {
    let anvil = Anvil::manual().await;
    anvil.mine(3).await;
    let service = Service::start(BINARY, Setup::of(&anvil)).await;
    let client = service.client().await;
    (anvil, service, client)
}

/// The same with another configuration.
async fn world_with(change: impl FnOnce(&mut Setup)) -> (Anvil, Service, Client) {
    let anvil = Anvil::manual().await;
    anvil.mine(3).await;
    let mut setup = Setup::of(&anvil);
    change(&mut setup);
    let service = Service::start(BINARY, setup).await;
    let client = service.client().await;
    (anvil, service, client)
}
