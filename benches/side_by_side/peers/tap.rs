//! What passes between a client and a node, counted and timed: a TCP relay that takes part in nothing.
//!
//! It reads along, HTTP/1.1 and WebSockets alike, so that it costs a client as little as a hop on the loopback interface does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What a client asked so far.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// HTTP requests and WebSocket messages.
    pub requests: u64,
    /// JSON-RPC calls, by method: each of a batch counts.
    pub methods: BTreeMap<String, u64>,
}

impl Counts {
    /// JSON-RPC calls.
    pub fn calls(&self) -> u64 {
        self.methods.values().sum()
    }

    pub fn of(&self, method: &str) -> u64 {
        self.methods.get(method).copied().unwrap_or_default()
    }

    /// What was asked since an earlier count.
    pub fn since(&self, before: &Self) -> Self {
        let methods = self.methods.iter().map(|(method, count)| (method.clone(), count - before.of(method)));
        let methods = methods.filter(|(_, count)| *count > 0).collect();
        Self { requests: self.requests - before.requests, methods }
    }

    fn add(&mut self, body: &[u8]) {
        self.requests += 1;
        let calls = match serde_json::from_slice(body) {
            Ok(Value::Array(calls)) => calls,
            Ok(call) => vec![call],
            Err(_) => Vec::new(),
        };
        for call in calls {
            *self.methods.entry(call["method"].as_str().unwrap_or("?").to_owned()).or_default() += 1;
        }
    }
}

/// A notification of a node.
pub struct Notice {
    /// When it came from the node.
    pub at: Instant,
    pub text: String,
}

/// Notices that are held until somebody asks for them; those that nobody asks for are dropped.
const HELD: usize = 4_096;

struct Shared {
    counts: Mutex<Counts>,
    notices: mpsc::Sender<Notice>,
}

/// Stops on drop.
pub struct Tap {
    port: u16,
    shared: Arc<Shared>,
    notices: tokio::sync::Mutex<mpsc::Receiver<Notice>>,
    task: JoinHandle<()>,
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tap {
    pub async fn before(node: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        // Not bounded: it holds no more than one run's notifications.
        let (said, notices) = mpsc::channel(HELD);
        let shared = Arc::new(Shared { counts: Mutex::default(), notices: said });
        let relay = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                let relay = Arc::clone(&relay);
                tokio::spawn(async move {
                    if let Ok(node) = TcpStream::connect(("127.0.0.1", node)).await {
                        carry(client, node, relay).await;
                    }
                });
            }
        });
        Self { port, shared, notices: tokio::sync::Mutex::new(notices), task }
    }

    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn ws(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// `127.0.0.1:port`, for a URL with something before it.
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn counts(&self) -> Counts {
        self.shared.counts.lock().expect("no panic").clone()
    }

    /// Forgets the notifications that came so far.
    pub async fn forget_notices(&self) {
        let mut notices = self.notices.lock().await;
        while notices.try_recv().is_ok() {}
    }

    /// When the next notification came that contains this text.
    pub async fn noticed(&self, text: &str) -> Instant {
        let mut notices = self.notices.lock().await;
        loop {
            let notice = notices.recv().await.expect("the relay runs");
            if notice.text.contains(text) {
                return notice.at;
            }
        }
    }
}

async fn carry(client: TcpStream, node: TcpStream, shared: Arc<Shared>) {
    for stream in [&client, &node] {
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_node, to_node) = node.into_split();
    let upgraded = Arc::new(AtomicBool::new(false));
    let there = asked(from_client, to_node, Arc::clone(&shared), Arc::clone(&upgraded));
    let back = told(from_node, to_client, shared, upgraded);
    tokio::select! {
        _ = there => {}
        _ = back => {}
    }
}

/// From the client to the node.
async fn asked(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: Arc<Shared>,
    upgraded: Arc<AtomicBool>,
) -> std::io::Result<()> {
    let (mut chunk, mut held) = (vec![0; 65536], Vec::new());
    loop {
        let count = from.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        held.extend_from_slice(&chunk[..count]);
        // Counted before it is passed on: whoever has an answer finds its question counted.
        loop {
            if upgraded.load(Ordering::SeqCst) {
                let Some(frame) = take_frame(&mut held) else { break };
                if frame.is_text {
                    shared.counts.lock().expect("no panic").add(&frame.payload);
                }
            } else {
                let Some(request) = take_request(&mut held) else { break };
                if request.upgrades {
                    upgraded.store(true, Ordering::SeqCst);
                } else {
                    shared.counts.lock().expect("no panic").add(&request.body);
                }
            }
        }
        to.write_all(&chunk[..count]).await?;
    }
}

/// From the node to the client. Only what it says unasked is of interest.
async fn told(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: Arc<Shared>,
    upgraded: Arc<AtomicBool>,
) -> std::io::Result<()> {
    let (mut chunk, mut held, mut greeted) = (vec![0; 65536], Vec::new(), false);
    loop {
        let count = from.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        let at = Instant::now();
        to.write_all(&chunk[..count]).await?;
        if !upgraded.load(Ordering::SeqCst) {
            continue;
        }
        held.extend_from_slice(&chunk[..count]);
        if !greeted {
            let Some(end) = end_of_head(&held) else { continue };
            held.drain(..end);
            greeted = true;
        }
        while let Some(frame) = take_frame(&mut held) {
            let text = String::from_utf8_lossy(&frame.payload);
            if frame.is_text && text.contains("\"subscription\"") {
                // Nobody may listen any more.
                let _ = shared.notices.try_send(Notice { at, text: text.into_owned() });
            }
        }
    }
}

struct Request {
    upgrades: bool,
    body: Vec<u8>,
}

/// Takes a request off the front, once all of it is there.
fn take_request(held: &mut Vec<u8>) -> Option<Request> {
    let end = end_of_head(held)?;
    let head = String::from_utf8_lossy(&held[..end]).to_ascii_lowercase();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(other, _)| *other == name).map(|(_, value)| value.trim().to_owned())
    };
    assert!(header("transfer-encoding").is_none(), "requests of JSON-RPC clients state their length");
    let length: usize = header("content-length").map_or(0, |length| length.parse().expect("a length"));
    if held.len() < end + length {
        return None;
    }
    let body = held[end..end + length].to_vec();
    held.drain(..end + length);
    Some(Request { upgrades: header("upgrade").is_some(), body })
}

fn end_of_head(held: &[u8]) -> Option<usize> {
    held.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

struct Frame {
    is_text: bool,
    payload: Vec<u8>,
}

/// Takes a WebSocket frame off the front, once all of it is there (RFC 6455, section 5.2).
fn take_frame(held: &mut Vec<u8>) -> Option<Frame> {
    let (first, second) = (*held.first()?, *held.get(1)?);
    let (length, mut at) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(held.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(held.get(2..10)?.try_into().ok()?), 10),
        short => (u64::from(short), 2),
    };
    let mask: [u8; 4] = if second & 0x80 == 0 {
        [0; 4]
    } else {
        at += 4;
        held.get(at - 4..at)?.try_into().ok()?
    };
    let end = at + usize::try_from(length).ok()?;
    let payload = held.get(at..end)?.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    held.drain(..end);
    Some(Frame { is_text: first & 0x0f == 1, payload })
}
