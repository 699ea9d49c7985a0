//! A scripted Solana node, for what a real one won't do: it answers as Agave 4.2 does, and lies, lags, forks, stalls and
//! fails when told to.
//!
//! Nothing happens by itself: blocks are made by the test. Several nodes may stand over one chain.

pub mod account;
mod answers;
pub mod chain;
mod encode;
pub mod faults;
pub mod tx;
mod ws;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use account::{Account, Mint};
use answers::Refusal;
use chain::Chain;
use faults::{Fail, Faults, Level};
use tx::Tx;

/// How long a node remembers statuses without its history, in slots.
pub const CACHE: u64 = 300;

/// The largest request, in bytes: anything above is 413.
const REQUEST_SIZE: usize = 50 * 1024;

/// The longest that a test waits for a call.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a node is made of. Faults are locked before the chain.
struct Shared {
    chain: Arc<Mutex<Chain>>,
    faults: Mutex<Faults>,
    requests: AtomicU64,
    connections: AtomicU64,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    by_method: BTreeMap<String, u64>,
    signatures: Vec<usize>,
    blocks: BTreeMap<String, u64>,
}

impl Shared {
    fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().expect("no panic")
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().expect("no panic")
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().expect("no panic")
    }

    fn count(&self, method: &str, params: &Value) {
        let mut calls = self.calls();
        *calls.by_method.entry(method.into()).or_default() += 1;
        match method {
            "getSignatureStatuses" => calls.signatures.push(params[0].as_array().map_or(0, Vec::len)),
            "getBlock" => {
                let detail = params[1]["transactionDetails"].as_str().unwrap_or("full");
                *calls.blocks.entry(detail.into()).or_default() += 1;
            }
            _ => {}
        }
    }

    fn answer(&self, call: &Value) -> Value {
        let method = call["method"].as_str().unwrap_or_default();
        let mut faults = self.faults();
        faults.answered += 1;
        let failed = faults.failure(&[method], false).and_then(|fail| fail.refusal());
        let chain = self.chain();
        let answered = match failed {
            Some(refusal) => Err(refusal),
            None => faults.view(&chain, method).answer(method, &call["params"]),
        };
        match answered {
            Ok(mut result) => {
                if let Some(rule) = faults.rules.get(method) {
                    rule(&call["params"], &mut result);
                }
                json!({ "jsonrpc": "2.0", "result": result, "id": call["id"] })
            }
            Err(refusal) => json!({ "jsonrpc": "2.0", "error": refusal.json(), "id": call["id"] }),
        }
    }
}

pub struct Agave {
    shared: Arc<Shared>,
    cut: watch::Sender<()>,
    pub port: u16,
    pub ws_port: u16,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Agave {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Agave {
    /// With a chain of its own, which has a genesis.
    pub async fn start() -> Self {
        Self::over(Chain::default()).await
    }

    /// With this chain.
    pub async fn over(chain: Chain) -> Self {
        Self::sharing(Arc::new(Mutex::new(chain))).await
    }

    /// Another node of the same chain, honest at first.
    pub async fn beside(&self) -> Self {
        Self::sharing(Arc::clone(&self.shared.chain)).await
    }

    async fn sharing(chain: Arc<Mutex<Chain>>) -> Self {
        let shared = Arc::new(Shared {
            chain,
            faults: Mutex::default(),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            calls: Mutex::default(),
        });
        let (http, sockets) = (listener().await, listener().await);
        let ports = [&http, &sockets].map(|listener| listener.local_addr().expect("its address").port());
        let (cut, cuts) = watch::channel(());
        let limit = DefaultBodyLimit::max(REQUEST_SIZE);
        let router = Router::new().fallback(serve).layer(limit).with_state(Arc::clone(&shared));
        let tasks = [
            tokio::spawn(async move { axum::serve(http, router).await.expect("serves") }),
            tokio::spawn(ws::serve(sockets, Arc::clone(&shared), cuts)),
        ];
        Self { shared, cut, port: ports[0], ws_port: ports[1], tasks }
    }

    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The CAIP-2 name of its cluster.
    pub fn network(&self) -> String {
        format!("solana:{}", &self.chain().below(0).hash[..32])
    }

    pub fn ws(&self) -> String {
        format!("ws://127.0.0.1:{}", self.ws_port)
    }

    /// The chain, which nobody else sees while this is held: for changes that have to come at once.
    pub fn chain(&self) -> MutexGuard<'_, Chain> {
        self.shared.chain()
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.shared.faults()
    }

    /// So many empty blocks; the last slot.
    pub fn produce(&self, n: u64) -> u64 {
        self.chain().produce(n)
    }

    /// So many slots without a block.
    pub fn skip(&self, n: u64) {
        self.chain().skip(n);
    }

    /// A block with these; its slot.
    pub fn block(&self, transactions: Vec<Tx>) -> u64 {
        self.chain().block(transactions)
    }

    /// Drops all above this slot, and returns the chain as it was.
    pub fn fork_at(&self, slot: u64) -> Chain {
        let mut chain = self.chain();
        let left = chain.branch();
        chain.fork_at(slot);
        left
    }

    /// The chain as it is, on which another future is built.
    pub fn branch(&self) -> Chain {
        self.chain().branch()
    }

    /// A transaction that only pays its fee, to be told what else it does.
    pub fn tx(&self, payer: &str) -> Tx {
        self.chain().tx(payer)
    }

    /// In a block of its own; its signature.
    pub fn land(&self, tx: Tx) -> String {
        self.chain().land(tx)
    }

    /// In a block of its own; its signature.
    pub fn pay_sol(&self, from: &str, to: &str, lamports: u64) -> String {
        self.chain().pay_sol(from, to, lamports)
    }

    /// In a block of its own; its signature.
    pub fn pay_token(&self, mint: &Mint, from: &str, to: &str, amount: u64) -> String {
        self.chain().pay_token(mint, from, to, amount)
    }

    /// Makes a nonce account in the newest block, or advances it; its value.
    pub fn nonce(&self, key: &str, authority: &str) -> String {
        self.chain().nonce(key, authority)
    }

    /// Puts an account into the newest block.
    pub fn put(&self, key: &str, account: Account) {
        self.chain().put(key, account);
    }

    /// The newest slot of a level, as this node tells it.
    pub fn slot_of(&self, level: Level) -> u64 {
        let faults = self.faults();
        let chain = self.chain();
        let view = faults.view(&chain, "getSlot");
        match level {
            Level::Processed => view.processed,
            Level::Confirmed => view.confirmed,
            Level::Finalized => view.finalized,
        }
    }

    /// Where a transaction landed.
    pub fn landed(&self, signature: &str) -> Option<u64> {
        self.chain().place(signature).map(|(slot, _)| slot)
    }

    /// HTTP requests so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Calls so far, by method.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        self.shared.calls().by_method.clone()
    }

    /// Waits until a method is called so many times more; how often it was in all.
    pub async fn called(&self, method: &str, more: u64) -> u64 {
        let count = || self.calls().get(method).copied().unwrap_or_default();
        let wanted = count() + more;
        let started = tokio::time::Instant::now();
        while count() < wanted {
            assert!(started.elapsed() < PATIENCE, "waiting for {wanted} {method}, at {}", count());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        count()
    }

    /// Signatures in each `getSignatureStatuses` so far.
    pub fn signatures_asked(&self) -> Vec<usize> {
        self.shared.calls().signatures.clone()
    }

    /// `getBlock` so far, by detail: "none", "signatures", "accounts", "full".
    pub fn blocks_asked(&self) -> BTreeMap<String, u64> {
        self.shared.calls().blocks.clone()
    }

    /// WebSocket connections so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

async fn serve(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let request = serde_json::from_slice::<Value>(&body);
    let batch = matches!(request, Ok(Value::Array(_)));
    let calls = match request {
        Ok(Value::Array(calls)) if !calls.is_empty() => calls,
        Ok(call @ Value::Object(_)) => vec![call],
        strange => {
            let (code, message) = if strange.is_ok() { (-32600, "Invalid request") } else { (-32700, "Parse error") };
            let error = Refusal::new(code, message).json();
            return answer(json!({ "jsonrpc": "2.0", "error": error, "id": null }).to_string());
        }
    };
    for call in &calls {
        shared.count(call["method"].as_str().unwrap_or_default(), &call["params"]);
    }
    let methods: Vec<_> = calls.iter().filter_map(|call| call["method"].as_str()).collect();
    let failed = shared.faults().failure(&methods, true);
    let text = || {
        let mut answers: Vec<_> = calls.iter().map(|call| shared.answer(call)).collect();
        if batch { json!(answers) } else { answers.remove(0) }.to_string()
    };
    match failed {
        None => answer(text()),
        Some(Fail::Truncated) => {
            let text = text();
            answer(text[..text.len() / 2].to_owned())
        }
        Some(Fail::Silence) => std::future::pending().await,
        Some(Fail::Limited(after)) => {
            let mut response = (StatusCode::TOO_MANY_REQUESTS, "Too many requests").into_response();
            if let Some(after) = after {
                response.headers_mut().insert("retry-after", after.into());
            }
            response
        }
        Some(Fail::Status(status)) => (code(status), "").into_response(),
        Some(Fail::Html(status)) => {
            let page = "<html><body><h1>Service Temporarily Unavailable</h1></body></html>";
            (code(status), [("content-type", "text/html")], page).into_response()
        }
        Some(Fail::Behind(_) | Fail::Rpc(..)) => unreachable!("answered call by call"),
    }
}

fn answer(body: String) -> Response {
    ([("content-type", "application/json; charset=utf-8")], body).into_response()
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("a status")
}
