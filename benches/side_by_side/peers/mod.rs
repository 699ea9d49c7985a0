//! What following costs beside what people use today, on the same nodes in the same run: requests, and the time from a block to
//! whoever waits for it.
//!
//! - EVM: alloy's `PendingTransactionBuilder`; Bitcoin: asking for each transaction by its id; Solana: a subscription to each
//!   signature, and asking for their statuses.
//! - Requests are counted by a relay in front of the node, one for each who asks.

mod alloy;
mod bitcoin;
mod events;
mod evm;
mod open;
mod solana;
mod tap;

use crate::report::{Plot, Report};

/// How many are open where nothing else is said.
const OPEN: u64 = 10_000;

/// Measures one section.
pub async fn run(section: &str, report: &mut Report) {
    let curve = match section {
        "evm-requests" => evm::requests::run(report).await,
        "evm-in-flight" => return evm::in_flight::run(report).await,
        "evm-latency" => return evm::latency::run(report).await,
        "evm-memory" => return evm::memory::run(report).await,
        "bitcoin-requests" => bitcoin::requests(report).await,
        "bitcoin-waiting" => return bitcoin::waiting(report).await,
        "solana-requests" => solana::requests(report).await,
        "solana-waiting" => return solana::waiting(report).await,
        "solana-memory" => return solana::memory(report).await,
        other => panic!("no section {other}"),
    };
    report.plots.push(Plot {
        name: "requests",
        title: "Node requests per block, by open watches",
        figure: "requests per block",
        curves: vec![curve],
    });
}

/// The arguments of a process of this binary that is a peer and nothing else, if these are.
pub fn as_peer(arguments: &[String]) -> Option<&[String]> {
    arguments.split_first().filter(|(first, _)| *first == "as-peer").map(|(_, rest)| rest)
}

/// Is a peer in a process of its own, so that its memory is: holds pending transactions, and says what all of them take.
pub async fn act(arguments: &[String]) {
    match arguments {
        [peer, url, count] => {
            let count = count.parse().expect("a number");
            let bytes = match peer.as_str() {
                "solana" => solana::hold(url, count).await,
                kind => alloy::hold(kind.parse().expect("a kind"), url, count).await,
            };
            use std::io::Write as _;
            writeln!(std::io::stdout(), "{bytes}").expect("says it");
        }
        other => panic!("not a peer: {other:?}"),
    }
}

/// What a peer takes for each of so many pending transactions, bytes.
async fn memory_of(peer: &str, url: &str, count: u64) -> f64 {
    let binary = std::env::current_exe().expect("this binary");
    let arguments = ["as-peer".to_owned(), peer.to_owned(), url.to_owned(), count.to_string()];
    let mut command = std::process::Command::new(binary);
    command.args(arguments);
    // The node that it asks may run in this process.
    let ended = tokio::task::spawn_blocking(move || command.output()).await.expect("waits").expect("starts");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let bytes: u64 = String::from_utf8_lossy(&ended.stdout).trim().parse().expect("a number");
    crate::samples::each(bytes, count)
}
