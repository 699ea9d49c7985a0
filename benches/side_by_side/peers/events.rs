//! A subscriber, and when it hears what.

use std::collections::HashMap;
use std::time::Instant;

use h402_watch_proto::v1;
use tokio::sync::mpsc;

use crate::support::client::Client;

/// Events that are held until somebody asks for them.
const HELD: usize = 65_536;

/// What a subscriber hears, and when.
pub struct Events {
    heard: mpsc::Receiver<(String, String, Instant)>,
    kept: HashMap<(String, String), Instant>,
}

impl Events {
    pub async fn of(client: &mut Client) -> Self {
        let mut stream = client.subscribe(v1::SubscribeRequest::default()).await;
        // The place that it starts from.
        stream.message().await.expect("goes on");
        let (hears, heard) = mpsc::channel(HELD);
        tokio::spawn(async move {
            while let Ok(Some(said)) = stream.message().await {
                let at = Instant::now();
                let Some(event) = said.event else { continue };
                if hears.send((event.watch_id, event.kind, at)).await.is_err() {
                    return;
                }
            }
        });
        Self { heard, kept: HashMap::new() }
    }

    /// Waits until each of these watches had such an event; when that came.
    pub async fn until(&mut self, kind: &str, ids: &[String]) -> Vec<Instant> {
        let mut times = Vec::new();
        for id in ids {
            let wanted = (id.clone(), kind.to_owned());
            while !self.kept.contains_key(&wanted) {
                let (id, kind, at) = self.heard.recv().await.expect("the subscription goes on");
                self.kept.insert((id, kind), at);
            }
            times.extend(self.kept.remove(&wanted));
        }
        times
    }
}
