//! Slots over a WebSocket.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::agave::Agave;
use crate::agave::faults::Socket;
use crate::{PATIENCE, QUIET};

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A connection that asked for slots.
async fn subscribe(node: &Agave) -> Stream {
    let (mut stream, _) = connect_async(node.ws()).await.expect("connects");
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "slotSubscribe" });
    stream.send(Message::text(request.to_string())).await.expect("sends");
    stream
}

async fn next(stream: &mut Stream) -> Value {
    let message = tokio::time::timeout(PATIENCE, stream.next()).await.expect("in time").expect("open").expect("sound");
    serde_json::from_str(message.to_text().expect("text")).expect("JSON")
}

async fn is_quiet(stream: &mut Stream) -> bool {
    tokio::time::timeout(QUIET, stream.next()).await.is_err()
}

/// So many slots are told, and no more.
async fn told(stream: &mut Stream, n: usize) -> Vec<u64> {
    let mut slots = Vec::new();
    for _ in 0..n {
        slots.push(next(stream).await["params"]["result"]["slot"].as_u64().expect("a slot"));
    }
    assert!(is_quiet(stream).await, "after {slots:?}");
    slots
}

#[tokio::test]
async fn slots_are_notified() {
    let node = Agave::start().await;
    node.produce(40);
    let mut stream = subscribe(&node).await;
    assert_eq!(next(&mut stream).await, json!({ "jsonrpc": "2.0", "id": 1, "result": 0 }));
    node.skip(1);
    node.produce(1);
    let result = json!({ "parent": 40, "root": 11, "slot": 42 });
    let params = json!({ "result": result, "subscription": 0 });
    let note = json!({ "jsonrpc": "2.0", "method": "slotNotification", "params": params });
    assert_eq!(next(&mut stream).await, note);
    node.produce(2);
    assert_eq!(told(&mut stream, 2).await, [43, 44]);
    node.lag(1);
    node.produce(2);
    assert_eq!(told(&mut stream, 2).await, [44, 45]);
    node.lag(0);
    node.stall();
    node.produce(2);
    assert!(is_quiet(&mut stream).await);
    node.resume();
    node.produce(1);
    assert_eq!(told(&mut stream, 1).await, [49]);
}

#[tokio::test]
async fn sockets_misbehave() {
    let node = Agave::start().await;
    let mut stream = subscribe(&node).await;
    next(&mut stream).await;
    node.socket(Socket::Twice);
    node.produce(2);
    assert_eq!(told(&mut stream, 4).await, [1, 1, 2, 2]);
    node.socket(Socket::Swapped);
    node.produce(4);
    assert_eq!(told(&mut stream, 4).await, [4, 3, 6, 5]);
    node.socket(Socket::Off(-2));
    node.produce(1);
    assert_eq!(told(&mut stream, 1).await, [5]);
    node.socket(Socket::Silent);
    node.produce(1);
    assert!(is_quiet(&mut stream).await);
    let mut another = subscribe(&node).await;
    assert!(is_quiet(&mut another).await, "it is taken and nothing is said");
    node.socket(Socket::Full);
    let mut refused = subscribe(&node).await;
    assert_eq!(next(&mut refused).await["error"]["code"], -32603);
    node.socket(Socket::Honest);
    node.produce(1);
    assert_eq!(told(&mut stream, 1).await, [9]);
    assert_eq!(node.connections(), 3);
    node.cut_sockets();
    let ended = tokio::time::timeout(PATIENCE, stream.next()).await.expect("in time");
    assert!(ended.is_none_or(|message| message.is_err()), "it died");
    let mut stream = subscribe(&node).await;
    assert!(next(&mut stream).await["result"].is_u64(), "and another may be made");
    stream.send(Message::text("x".repeat(4097))).await.expect("sends");
    let ended = tokio::time::timeout(PATIENCE, stream.next()).await.expect("in time");
    assert!(ended.is_none_or(|message| message.is_err()), "who asks for too much is dropped");
    node.socket(Socket::Shut);
    assert!(connect_async(node.ws()).await.is_err());
}
