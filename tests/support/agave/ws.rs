//! The WebSocket of a node: `slotSubscribe`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

use super::Shared;
use super::faults::Socket;

/// The largest request, in bytes.
const REQUEST_SIZE: usize = 4096;

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, cut: watch::Receiver<()>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        if shared.faults().socket == Socket::Shut {
            continue;
        }
        shared.connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(connection(stream, Arc::clone(&shared), cut.clone()));
    }
}

/// Until one side ends it.
async fn connection(stream: TcpStream, shared: Arc<Shared>, mut cut: watch::Receiver<()>) {
    cut.mark_unchanged();
    let Ok(mut stream) = accept_async(stream).await else { return };
    let mut notices = shared.chain().listen();
    let mut subscriber = Subscriber { ids: Vec::new(), made: 0, kept: None };
    loop {
        let texts = tokio::select! {
            biased;
            _ = cut.changed() => return,
            message = stream.next() => match message {
                // A node drops whoever asks for so much.
                Some(Ok(Message::Text(text))) if text.len() > REQUEST_SIZE => return,
                Some(Ok(Message::Text(text))) => subscriber.hear(&shared, &text),
                Some(Ok(_)) => continue,
                _ => return,
            },
            notice = notices.recv() => match notice {
                Ok((slot, _)) => subscriber.tell(&shared, slot),
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return,
            },
        };
        if say(&mut stream, texts).await.is_err() {
            return;
        }
    }
}

async fn say(stream: &mut WebSocketStream<TcpStream>, texts: Vec<Value>) -> Result<(), ()> {
    for text in texts {
        stream.send(Message::text(text.to_string())).await.map_err(drop)?;
    }
    Ok(())
}

struct Subscriber {
    ids: Vec<u64>,
    made: u64,
    /// A notification that lets the next one pass.
    kept: Option<Vec<Value>>,
}

impl Subscriber {
    /// The answers to a request.
    fn hear(&mut self, shared: &Shared, text: &str) -> Vec<Value> {
        let socket = shared.faults().socket;
        if socket == Socket::Silent {
            return Vec::new();
        }
        let Ok(call) = serde_json::from_str::<Value>(text) else {
            let error = json!({ "code": -32700, "message": "Parse error" });
            return vec![json!({ "jsonrpc": "2.0", "error": error, "id": null })];
        };
        let answered = match call["method"].as_str().unwrap_or_default() {
            "slotSubscribe" if socket == Socket::Full => {
                Err((-32603, "Internal Error: Subscription refused. Node subscription limit reached"))
            }
            "slotSubscribe" => {
                self.ids.push(self.made);
                self.made += 1;
                Ok(json!(self.made - 1))
            }
            "slotUnsubscribe" => {
                let known = self.ids.iter().position(|id| call["params"][0] == *id);
                known.map(|at| self.ids.remove(at)).map(|_| json!(true)).ok_or((-32602, "Invalid subscription id."))
            }
            _ => Err((-32601, "Method not found")),
        };
        let answer = match answered {
            Ok(result) => json!({ "jsonrpc": "2.0", "result": result, "id": call["id"] }),
            Err((code, message)) => {
                json!({ "jsonrpc": "2.0", "error": { "code": code, "message": message }, "id": call["id"] })
            }
        };
        vec![answer]
    }

    /// What is said of a new slot.
    fn tell(&mut self, shared: &Shared, slot: u64) -> Vec<Value> {
        let faults = shared.faults();
        let chain = shared.chain();
        let stalled = faults.elsewhere.contains_key("") || faults.elsewhere.contains_key("slotSubscribe");
        let Some(seen) = slot.checked_sub(faults.lag("slotSubscribe")) else { return Vec::new() };
        let Some(block) = chain.get(seen).filter(|_| !stalled && faults.socket != Socket::Silent) else {
            return Vec::new();
        };
        let root = chain.below(seen.saturating_sub(faults.behind.finalized)).slot;
        let told = if let Socket::Off(by) = faults.socket { seen.saturating_add_signed(by) } else { seen };
        let result = json!({ "parent": block.parent, "root": root, "slot": told });
        let note = |id| {
            let params = json!({ "result": result, "subscription": id });
            json!({ "jsonrpc": "2.0", "method": "slotNotification", "params": params })
        };
        let notes: Vec<_> = self.ids.iter().map(note).collect();
        match (faults.socket, self.kept.take()) {
            (Socket::Twice, _) => [notes.clone(), notes].concat(),
            (Socket::Swapped, None) => {
                self.kept = Some(notes);
                Vec::new()
            }
            (_, Some(kept)) => [notes, kept].concat(),
            (_, None) => notes,
        }
    }
}
