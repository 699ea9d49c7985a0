//! `slotSubscribe`: hints that there is a new slot, never facts. Each leads to a read over HTTP, and polling goes on beneath,
//! so that a hint which is lost costs time and nothing else.
//!
//! solana-pubsub-client does not connect anew, and never notices that a connection is half open: here it lives as long as it
//! talks, and is dropped whole.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::StreamExt;
use solana_pubsub_client::nonblocking::pubsub_client::PubsubClient;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How long a connection and its subscription may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long no slot may be announced: leaders that skip their turn take a second or two.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// The pause after a failed connection, doubled up to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Hints that wait to be taken; one is as good as many.
const WAITING_MAX: usize = 1;

/// Announcements of slots, while it lives.
pub struct Hints {
    receiver: mpsc::Receiver<()>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Hints {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Hints {
    /// From all of these URLs.
    pub fn from(urls: Vec<String>) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let tasks = urls.into_iter().map(|url| tokio::spawn(listen(url, sender.clone()))).collect();
        Self { receiver, tasks }
    }

    /// Waits for the next one; for ever, where there is no URL.
    pub async fn next(&mut self) {
        if self.receiver.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

async fn listen(url: String, hints: mpsc::Sender<()>) {
    let pauses = ExponentialBuilder::default().with_min_delay(PAUSE).with_max_delay(PAUSE_MAX).with_jitter();
    let pauses = pauses.without_max_times();
    let mut waits = pauses.build();
    while !hints.is_closed() {
        if hear(&url, &hints).await {
            waits = pauses.build();
        }
        // Errors are not told: they repeat the URL, which may hold a secret.
        tracing::debug!("websocket not connected");
        tokio::time::sleep(waits.next().unwrap_or(PAUSE_MAX)).await;
    }
}

/// Passes on what one connection announces, until it fails or falls silent. Whether it announced anything.
async fn hear(url: &str, hints: &mpsc::Sender<()>) -> bool {
    let Ok(Ok(client)) = tokio::time::timeout(CONNECT_LIMIT, PubsubClient::new(url)).await else { return false };
    let Ok(Ok((mut slots, _unsubscribe))) = tokio::time::timeout(CONNECT_LIMIT, client.slot_subscribe()).await else {
        return false;
    };
    let mut any = false;
    while let Ok(Some(_)) = tokio::time::timeout(SILENCE_MAX, slots.next()).await {
        any = true;
        // One that waits already will do.
        let _ = hints.try_send(());
    }
    any
}
