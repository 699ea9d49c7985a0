//! A node that misbehaves on demand: a real anvil behind a proxy that counts, delays, withholds and falsifies.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What becomes of one call.
pub enum Reply {
    /// The result, true or not.
    Result(Value),
    /// A JSON-RPC error.
    Error(i64, &'static str),
    /// Instead of JSON-RPC: status, Retry-After, body.
    Http(u16, Option<&'static str>, &'static str),
    /// This, later.
    Later(Duration, Box<Reply>),
}

/// Method, parameters and the node's true answer.
pub type Rule = Box<dyn Fn(&str, &Value, Value) -> Reply + Send + Sync>;

struct Shared {
    upstream: Mutex<String>,
    rule: Mutex<Arc<Rule>>,
    requests: AtomicU64,
    calls: Mutex<BTreeMap<String, u64>>,
    client: reqwest::Client,
}

pub struct Proxy {
    shared: Arc<Shared>,
    pub port: u16,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// In front of a node, honest at first.
    pub async fn before(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream.into()),
            rule: Mutex::new(Arc::new(Box::new(|_, _, result| Reply::Result(result)))),
            requests: AtomicU64::new(0),
            calls: Mutex::default(),
            client: reqwest::Client::new(),
        });
        let router = Router::new().fallback(serve).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { shared, port, task }
    }

    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on it behaves so.
    pub fn behave(&self, rule: impl Fn(&str, &Value, Value) -> Reply + Send + Sync + 'static) {
        *self.shared.rule.lock().expect("no panic") = Arc::new(Box::new(rule));
    }

    /// From now on it stands in front of another node.
    pub fn switch(&self, upstream: &str) {
        *self.shared.upstream.lock().expect("no panic") = upstream.into();
    }

    /// HTTP requests so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Calls so far, by method.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        self.shared.calls.lock().expect("no panic").clone()
    }
}

async fn serve(State(shared): State<Arc<Shared>>, _headers: HeaderMap, body: Bytes) -> Response {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let request: Value = serde_json::from_slice(&body).expect("JSON-RPC");
    let batch = request.is_array();
    let calls = request.as_array().cloned().unwrap_or_else(|| vec![request]);
    for call in &calls {
        *shared
            .calls
            .lock()
            .expect("no panic")
            .entry(call["method"].as_str().expect("a method").into())
            .or_default() += 1;
    }
    let upstream = shared.upstream.lock().expect("no panic").clone();
    let post = shared.client.post(upstream).header("content-type", "application/json").body(json!(calls).to_string());
    let Ok(answered) = post.send().await else { return StatusCode::BAD_GATEWAY.into_response() };
    let answers: Value = serde_json::from_slice(&answered.bytes().await.expect("a body")).expect("JSON-RPC");
    let mut replies = Vec::with_capacity(calls.len());
    for call in &calls {
        let answer = answers.as_array().and_then(|all| all.iter().find(|a| a["id"] == call["id"])).expect("an answer");
        let rule = Arc::clone(&shared.rule.lock().expect("no panic"));
        let mut reply = if answer["error"].is_null() {
            rule(call["method"].as_str().expect("a method"), &call["params"], answer["result"].clone())
        } else {
            replies.push(answer.clone());
            continue;
        };
        while let Reply::Later(time, then) = reply {
            tokio::time::sleep(time).await;
            reply = *then;
        }
        replies.push(match reply {
            Reply::Result(result) => json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }),
            Reply::Error(code, message) => {
                json!({ "jsonrpc": "2.0", "id": call["id"], "error": { "code": code, "message": message } })
            }
            Reply::Http(status, retry_after, body) => {
                let status = StatusCode::from_u16(status).expect("a status");
                let header = retry_after.map(|after| [("retry-after", after)]);
                return match header {
                    Some(header) => (status, header, body).into_response(),
                    None => (status, body).into_response(),
                };
            }
            Reply::Later(..) => unreachable!("waited for above"),
        });
    }
    let body = if batch { json!(replies) } else { replies.remove(0) };
    ([("content-type", "application/json")], body.to_string()).into_response()
}

/// A TCP proxy for WebSockets, to be cut or silenced.
pub struct Wire {
    pub port: u16,
    /// Connections are refused and those that are open are ended.
    pub cut: Arc<AtomicBool>,
    /// Connections stay, and nothing comes from the node any more.
    pub silent: Arc<AtomicBool>,
    /// Connections made so far.
    pub connections: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("its address").port();
        let (cut, silent): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
        let connections: Arc<AtomicU64> = Default::default();
        let (is_cut, is_silent, made) = (Arc::clone(&cut), Arc::clone(&silent), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(node) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                made.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(carry(client, node, Arc::clone(&is_cut), Arc::clone(&is_silent)));
            }
        });
        Self { port: at, cut, silent, connections, task }
    }

    pub fn ws(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }
}

async fn carry(client: TcpStream, node: TcpStream, cut: Arc<AtomicBool>, silent: Arc<AtomicBool>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_node, mut to_node) = node.into_split();
    let there = async { tokio::io::copy(&mut from_client, &mut to_node).await.map(drop) };
    let back = async {
        let mut buffer = vec![0; 65536];
        loop {
            let count = from_node.read(&mut buffer).await?;
            if count == 0 {
                return Ok::<_, std::io::Error>(());
            }
            if !silent.load(Ordering::SeqCst) {
                to_client.write_all(&buffer[..count]).await?;
            }
        }
    };
    let watch = async {
        while !cut.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        _ = there => {}
        _ = back => {}
        () = watch => {}
    }
}
