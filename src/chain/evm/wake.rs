//! WebSocket subscriptions: hints that something is new, never facts. Each leads to a read over HTTP, and polling goes on
//! beneath, so that a hint which is lost costs time and nothing else.

use std::time::Duration;

use alloy_primitives::B256;
use alloy_provider::{Provider, RootProvider};
use alloy_rpc_client::{RpcClient, WsConnect};
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures_util::stream::{BoxStream, StreamExt, unfold};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire::Quantity;
use crate::chain::pool::NUMBER_MAX;

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The pause after a failed connection, doubled up to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What a subscription says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Connected: heads are announced from now on.
    Up,
    /// There is a new head: its hash and its height, where they could be read.
    Head(Option<(B256, u64)>),
    /// A transaction entered the mempool.
    Pending(B256),
    /// Not connected any more.
    Down,
}

enum State {
    Apart { pauses: ExponentialBackoff, attempts: usize },
    Together { _provider: RootProvider, hints: BoxStream<'static, Hint> },
}

/// Hints from the first of the URLs that can be reached; without end, and none at all if there is no URL.
pub fn hints(urls: Vec<String>) -> BoxStream<'static, Hint> {
    if urls.is_empty() {
        return futures_util::stream::pending().boxed();
    }
    unfold(apart(), move |state| {
        let urls = urls.clone();
        async move {
            match state {
                State::Together { _provider, mut hints } => match hints.next().await {
                    Some(hint) => Some((hint, State::Together { _provider, hints })),
                    None => Some((Hint::Down, apart())),
                },
                State::Apart { mut pauses, mut attempts } => loop {
                    let url = &urls[attempts % urls.len()];
                    match tokio::time::timeout(CONNECT_LIMIT, connect(url)).await {
                        Ok(Some((provider, hints))) => {
                            return Some((Hint::Up, State::Together { _provider: provider, hints }));
                        }
                        _ => tracing::debug!(attempts, "websocket not connected"),
                    }
                    attempts = attempts.wrapping_add(1);
                    tokio::time::sleep(pauses.next().unwrap_or(PAUSE_MAX)).await;
                },
            }
        }
    })
    .boxed()
}

fn apart() -> State {
    let pauses = ExponentialBuilder::default().with_min_delay(PAUSE).with_max_delay(PAUSE_MAX).with_jitter();
    State::Apart { pauses: pauses.without_max_times().build(), attempts: 0 }
}

/// Connects and subscribes. Errors are not told: they repeat the URL, which may hold a secret.
async fn connect(url: &str) -> Option<(RootProvider, BoxStream<'static, Hint>)> {
    // Reconnecting is this module's business: alloy's own would hide that hints were lost.
    let connection = WsConnect::new(url).with_max_retries(0);
    let client = RpcClient::connect_pubsub(connection).await.ok()?;
    let provider: RootProvider = RootProvider::new(client);
    let heads = provider.subscribe::<_, Box<RawValue>>(("newHeads",)).await.ok()?;
    let heads = heads.into_stream().map(|head| Hint::Head(announced(&head))).chain(end());
    let pending = match provider.subscribe::<_, B256>(("newPendingTransactions",)).await {
        Ok(pending) => pending.into_stream().map(Hint::Pending).chain(end()).boxed(),
        // Not every node tells its mempool.
        Err(_) => futures_util::stream::pending().boxed(),
    };
    let merged = futures_util::stream::select(heads, pending);
    let until_down = merged.take_while(|hint| std::future::ready(*hint != Hint::Down));
    Some((provider, until_down.boxed()))
}

/// What a notification says of a head.
fn announced(head: &RawValue) -> Option<(B256, u64)> {
    #[derive(Deserialize)]
    struct Head {
        hash: B256,
        number: Quantity,
    }
    let Head { hash, number } = serde_json::from_str(head.get()).ok()?;
    (number.0 <= NUMBER_MAX).then_some((hash, number.0))
}

/// Says that a subscription ended.
fn end() -> futures_util::stream::Once<std::future::Ready<Hint>> {
    futures_util::stream::once(std::future::ready(Hint::Down))
}
