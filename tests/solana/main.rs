//! Black-box tests of Solana: the service as its own process, against a real node with blocks of its own, and against a scripted
//! one for what a real one won't do.

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod faults;
mod harness;
mod requests;
mod slots;
mod statuses;

use h402_watch_proto::v1;
use support::agave::Agave;
use support::client::{Client, spec};
use support::service::{Service, Setup};

const BINARY: &str = env!("CARGO_BIN_EXE_h402-watch");

/// A scripted node with some blocks, the service on it, and a client.
async fn scripted() -> (Agave, Service, Client) {
    scripted_with(|_| {}).await
}

/// The same with another configuration.
async fn scripted_with(change: impl FnOnce(&mut Setup)) -> (Agave, Service, Client) {
    let node = Agave::start().await;
    node.produce(40);
    let mut setup = Setup::solana(&node.network(), &[(node.http(), None)]);
    change(&mut setup);
    let service = Service::start(BINARY, setup).await;
    let client = service.client().await;
    (node, service, client)
}

/// A watch that settles at a tag.
fn tagged(subject: v1::watch_spec::Subject, pay_to: &str, amount: u64, tag: v1::FinalityTag) -> v1::WatchSpec {
    support::client::with(spec(subject, pay_to, amount, 0), |terms| {
        terms.depth = Some(v1::terms::Depth::DepthTag(tag.into()));
    })
}
