//! What the service does under load, beside what nobody can go below or above: the bare store, the bare transport.
//!
//! Clients, and nodes that are scripted, run on the same machine and share its cores.

mod bare;
pub mod creates;
pub mod million;
pub mod streams;

use crate::support::client::Client;

/// Callers at once.
const CALLERS: usize = 64;

async fn connections(url: &str, count: usize) -> Vec<Client> {
    futures_util::future::join_all((0..count).map(|_| Client::connect(url))).await
}
