//! Black-box tests of Solana: the service as its own process, against a real node with blocks of its own, and against a scripted
//! one for what a real one won't do.

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod bindings;
mod faults;
mod harness;
mod look_ups;
mod outcomes;
mod received;
mod requests;
mod slots;
mod statuses;

use h402_watch_proto::v1;
use serde_json::Value;
use solana_address::Address;
use support::agave::Agave;
use support::client::{Client, spec, with};
use support::service::{Service, Setup};
use support::solana::Solnode;
use support::solana::draft::Mint;

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

/// A real node that seals slots when it is told to, the service on it, and a client.
async fn world() -> (Solnode, Service, Client) {
    world_on(Solnode::manual().await).await
}

/// The same on this node.
async fn world_on(node: Solnode) -> (Solnode, Service, Client) {
    let service = Service::start(BINARY, Setup::solana(&node.network(), &[(node.http(), Some(node.ws()))])).await;
    let client = service.client().await;
    (node, service, client)
}

/// Seals slots, and waits until the service has read them.
async fn seal(node: &Solnode, client: &mut Client, n: u64) {
    node.slot(n).await;
    client.head(node.height().await).await;
}

/// A watch for SOL that settles once it is confirmed.
fn asks(subject: v1::watch_spec::Subject, pay_to: &Address, amount: u64) -> v1::WatchSpec {
    tagged(subject, &pay_to.to_string(), amount, v1::FinalityTag::Confirmed)
}

/// The same for a token.
fn in_token(mint: &Mint, spec: v1::WatchSpec) -> v1::WatchSpec {
    with(spec, |terms| terms.asset = mint.address.to_string())
}

fn exactly(spec: v1::WatchSpec) -> v1::WatchSpec {
    with(spec, |terms| terms.set_amount_rule(v1::AmountRule::Exact))
}

/// The transaction of the last `included` of a watch.
async fn included(client: &mut Client, id: &str) -> Value {
    let last = client.receipts(id).await.into_iter().rev().find(|receipt| receipt.kind == "included");
    last.expect("it was included").artefact["transaction"].take()
}

/// The settlement of a watch.
async fn settlement(client: &mut Client, id: &str) -> Value {
    let settled = client.receipts(id).await.into_iter().find(|receipt| receipt.kind == "settled");
    settled.expect("it is settled").artefact
}

/// What happened, but for `seen`: a status may be there before its block is read, or not.
fn but_seen(story: Vec<String>) -> Vec<String> {
    story.into_iter().filter(|short| short != "seen").collect()
}

/// A watch that settles at a tag.
fn tagged(subject: v1::watch_spec::Subject, pay_to: &str, amount: u64, tag: v1::FinalityTag) -> v1::WatchSpec {
    with(spec(subject, pay_to, amount, 0), |terms| {
        terms.depth = Some(v1::terms::Depth::DepthTag(tag.into()));
    })
}
