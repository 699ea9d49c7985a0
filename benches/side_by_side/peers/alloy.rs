//! alloy's `PendingTransactionBuilder`, over HTTP and over WebSockets.

use std::str::FromStr;
use std::time::{Duration, Instant};

use alloy_network::Ethereum;
use alloy_primitives::{B256, U256};
use alloy_provider::{PendingTransactionBuilder, RootProvider};
use alloy_rpc_client::{RpcClient, WsConnect};
use futures_util::StreamExt as _;
use tokio::task::JoinSet;

use crate::process::memory;

/// Registrations at once. All at once would make a connection for each over HTTP.
const REGISTRATIONS: usize = 64;
/// The time between so many futures of `get_receipt`: each asks for itself, and nodes don't take thousands of connections at once.
const STAGGER: Duration = Duration::from_millis(20);
/// How long a process is left alone before its memory is read.
const REST: Duration = Duration::from_secs(3);

/// How a transaction is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    WatchHttp,
    WatchWs,
    ReceiptHttp,
    ReceiptWs,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::WatchHttp => "alloy watch, HTTP",
            Self::WatchWs => "alloy watch, WebSocket",
            Self::ReceiptHttp => "alloy get_receipt, HTTP",
            Self::ReceiptWs => "alloy get_receipt, WebSocket",
        }
    }

    pub fn is_ws(self) -> bool {
        matches!(self, Self::WatchWs | Self::ReceiptWs)
    }

    fn is_receipt(self) -> bool {
        matches!(self, Self::ReceiptHttp | Self::ReceiptWs)
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::WatchHttp, Self::WatchWs, Self::ReceiptHttp, Self::ReceiptWs];
        all.into_iter().find(|kind| kind.name() == name).ok_or_else(|| format!("no such peer: {name}"))
    }
}

/// A provider as its documentation makes one, with its own poll interval: 250 ms for nodes on this machine.
pub struct Alloy {
    provider: RootProvider,
    kind: Kind,
}

/// When each transaction was known to be in a block.
pub type Waiting = JoinSet<(B256, Instant)>;

impl Alloy {
    pub async fn connect(kind: Kind, url: &str) -> Self {
        let provider = if kind.is_ws() {
            let client = RpcClient::connect_pubsub(WsConnect::new(url)).await.expect("connects");
            RootProvider::new(client)
        } else {
            RootProvider::new_http(url.parse().expect("a URL"))
        };
        Self { provider, kind }
    }

    /// Waits for transactions, one confirmation each. All of `watch` are registered when this returns.
    pub async fn wait_for(&self, hashes: &[B256]) -> Waiting {
        let builder = |hash: &B256| {
            let builder = PendingTransactionBuilder::<Ethereum>::new(self.provider.clone(), *hash);
            builder.with_required_confirmations(1)
        };
        let mut waiting = JoinSet::new();
        if self.kind.is_receipt() {
            for few in hashes.chunks(REGISTRATIONS) {
                for hash in few {
                    let (hash, first, provider) = (*hash, builder(hash), self.provider.clone());
                    waiting.spawn(async move {
                        let mut receipt = first.get_receipt().await;
                        // A lost connection ends it; whoever waits tries again.
                        while receipt.is_err() {
                            let again = PendingTransactionBuilder::<Ethereum>::new(provider.clone(), hash);
                            receipt = again.with_required_confirmations(1).get_receipt().await;
                        }
                        (hash, Instant::now())
                    });
                }
                tokio::time::sleep(STAGGER).await;
            }
            return waiting;
        }
        let mut registered =
            futures_util::stream::iter(hashes).map(|hash| builder(hash).register()).buffer_unordered(REGISTRATIONS);
        while let Some(pending) = registered.next().await {
            let pending = pending.expect("registers");
            waiting.spawn(async move {
                let hash = pending.await.expect("confirmed");
                (hash, Instant::now())
            });
        }
        waiting
    }
}

/// Holds pending transactions that nobody ever sends; the bytes by which this process grew.
pub async fn hold(kind: Kind, url: &str, count: u64) -> u64 {
    let alloy = Alloy::connect(kind, url).await;
    let hashes = |numbers: std::ops::Range<u64>| numbers.map(|n| B256::from(U256::from(n))).collect::<Vec<_>>();
    let first = alloy.wait_for(&hashes(1..2)).await;
    tokio::time::sleep(REST).await;
    let before = memory(std::process::id()).resident;
    let waiting = alloy.wait_for(&hashes(2..count + 2)).await;
    tokio::time::sleep(REST).await;
    let grown = memory(std::process::id()).resident.saturating_sub(before);
    drop((first, waiting));
    grown
}
