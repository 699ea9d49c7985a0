//! What the service does under load, beside what nobody can go below or above: the bare store, the bare transport.
//!
//! Clients, and nodes that are scripted, run on the same machine and share its cores.

mod bare;
pub mod creates;
pub mod million;
mod process;
pub mod streams;

use crate::support::client::Client;

/// The service, as it is released.
const BINARY: &str = env!("CARGO_BIN_EXE_h402-watch");

/// Callers at once.
const CALLERS: usize = 64;

/// Says how far a run is, on the standard error: it takes minutes.
fn progress(what: &str) {
    use std::io::Write as _;
    // Nobody may listen.
    let _ = writeln!(std::io::stderr(), "… {what}");
}

/// A count as a figure.
fn figure(count: impl TryInto<u32>) -> f64 {
    f64::from(count.try_into().unwrap_or(u32::MAX))
}

fn ms(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Of figures in order: the one that this share of them does not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (figure(sorted.len()) * share).ceil().max(1.0);
    sorted.iter().enumerate().find(|(n, _)| figure(n + 1) >= rank).map_or(f64::NAN, |(_, value)| *value)
}

async fn connections(url: &str, count: usize) -> Vec<Client> {
    futures_util::future::join_all((0..count).map(|_| Client::connect(url))).await
}
