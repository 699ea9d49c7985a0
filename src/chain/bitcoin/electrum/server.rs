//! One Electrum server: a thread of its own, as electrum-client blocks; and what its answers say of its health.
//!
//! The client never reconnects by itself: it would lose all subscriptions without a word. Whoever asks sees by the connection's
//! number that they are gone.

use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use electrum_client::raw_client::RawClient;
use electrum_client::{Batch, ElectrumApi as _, Param};
use h402_watch_engine::id::BlockRef;
use serde_json::Value;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::wire::{Announced, REFUSAL, Shared, Wire};
use crate::chain::standing::{QUARANTINE, Standing};
use crate::chain::{EndpointHealth, EndpointSettings};

/// How long one batch may take; servers answer a client that asks much slowly on purpose.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// The largest answer to one batch, bytes.
const BODY_MAX: usize = 64 * 1024 * 1024;
/// Calls that are sent at once.
const BATCH_MAX: usize = 500;
/// Batches that may wait for the thread.
const JOBS_MAX: usize = 64;
/// How often it is seen whether something was announced.
const LISTEN: Duration = Duration::from_millis(100);
/// How often a silent connection is tried.
const PING_PERIOD: Duration = Duration::from_secs(5);
/// A method and its parameters.
pub type Call = (&'static str, Vec<Param>);
/// An answer, or why the server refuses one.
pub type Said = Result<Value, String>;

struct Job {
    calls: Vec<Call>,
    reply: oneshot::Sender<Result<Vec<Said>, String>>,
}

/// One server.
pub struct Server {
    settings: EndpointSettings,
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
    connection: Arc<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    standing: Standing,
    /// The connection on which its chain was checked.
    checked: Option<u64>,
    /// When the next call may be sent.
    next: Option<Instant>,
}

impl Server {
    /// Starts its thread, which ends with it. `wake` is told of announcements.
    pub fn new(settings: EndpointSettings, wake: Arc<Notify>) -> Self {
        let (jobs, waiting) = sync_channel(JOBS_MAX);
        let shared = Arc::new(Shared::new(wake));
        let connection = Arc::new(AtomicU64::new(0));
        let url = settings.access.url().to_owned();
        let line = Line { url, shared: Arc::clone(&shared), connection: Arc::clone(&connection), open: None };
        std::thread::spawn(move || line.serve(&waiting));
        Self { settings, jobs, shared, connection, state: Mutex::default() }
    }

    /// The number of its connection; another one has none of the subscriptions.
    pub fn connection(&self) -> u64 {
        self.connection.load(Ordering::SeqCst)
    }

    /// Takes what it announced.
    pub fn announced(&self) -> Announced {
        self.shared.take()
    }

    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whether it may be asked now.
    pub fn is_up(&self) -> bool {
        self.state().standing.is_up()
    }

    /// Whether its chain was checked on this connection.
    pub fn is_checked(&self) -> bool {
        self.state().checked == Some(self.connection())
    }

    pub fn set_checked(&self) {
        self.state().checked = Some(self.connection());
    }

    pub fn set_tip(&self, tip: BlockRef) {
        self.state().standing.tip = Some(tip);
    }

    pub fn tip(&self) -> Option<BlockRef> {
        self.state().standing.tip.clone()
    }

    pub fn health(&self) -> EndpointHealth {
        self.state().standing.health(&self.settings.name)
    }

    /// It is of another chain: nothing it says is used.
    pub fn quarantine(&self, what: String) {
        self.fail(what, Some(QUARANTINE));
    }

    /// It failed, or answered what can't be: it rests. Gives the error back.
    pub fn blame(&self, what: &str) -> String {
        self.fail(what.to_owned(), None);
        format!("{}: {what}", self.name())
    }

    /// Any number of calls, pipelined; their answers in the same order.
    pub async fn ask(&self, calls: Vec<Call>) -> Result<Vec<Said>, String> {
        let mut answers = Vec::with_capacity(calls.len());
        let mut calls = calls.into_iter().peekable();
        while calls.peek().is_some() {
            let batch: Vec<_> = calls.by_ref().take(BATCH_MAX).collect();
            self.wait_for_rate(batch.len()).await;
            let (reply, answer) = oneshot::channel();
            match self.jobs.try_send(Job { calls: batch, reply }) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return Err(self.blame("it is too slow for what is asked of it")),
                Err(TrySendError::Disconnected(_)) => return Err(self.blame("its thread has ended")),
            }
            match tokio::time::timeout(2 * TIME_LIMIT, answer).await {
                Ok(Ok(Ok(said))) => answers.extend(said),
                Ok(Ok(Err(error))) => return Err(self.blame(&error)),
                Ok(Err(_)) => return Err(self.blame("its thread has ended")),
                Err(_) => return Err(self.blame("no answer in time")),
            }
        }
        self.state().standing.succeed();
        Ok(answers)
    }

    async fn wait_for_rate(&self, calls: usize) {
        let count = u32::try_from(calls).unwrap_or(u32::MAX);
        let until = {
            let mut state = self.state();
            state.standing.requests += u64::from(count);
            let now = Instant::now();
            let from = state.next.filter(|next| *next > now).unwrap_or(now);
            let each = Duration::from_secs(1) / self.settings.requests_per_second.max(1);
            state.next = Some(from + each.saturating_mul(count));
            from
        };
        tokio::time::sleep_until(until).await;
    }

    fn fail(&self, detail: String, rest: Option<Duration>) {
        let mut state = self.state();
        state.checked = None;
        state.standing.fail(&self.settings.name, detail, rest);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's side of it.
struct Line {
    url: String,
    shared: Arc<Shared>,
    connection: Arc<AtomicU64>,
    open: Option<Open>,
}

struct Open {
    client: RawClient<Wire>,
    socket: TcpStream,
    pinged: std::time::Instant,
}

impl Line {
    fn serve(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(LISTEN) {
                Ok(job) => {
                    let said = self.ask(&job.calls);
                    // Whoever asked may have gone.
                    let _ = job.reply.send(said);
                }
                Err(RecvTimeoutError::Timeout) => self.listen(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn ask(&mut self, calls: &[Call]) -> Result<Vec<Said>, String> {
        let said = self.try_ask(calls);
        if said.is_err() {
            self.close();
        }
        said.map_err(|error| error.to_string())
    }

    fn try_ask(&mut self, calls: &[Call]) -> Result<Vec<Said>, electrum_client::Error> {
        self.shared.allow(TIME_LIMIT, BODY_MAX);
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let (wire, socket) = Wire::connect(&self.url, Arc::clone(&self.shared))?;
                let client = RawClient::from(wire);
                // Servers want to hear the version first.
                client.protocol_version()?;
                self.connection.fetch_add(1, Ordering::SeqCst);
                self.open.insert(Open { client, socket, pinged: std::time::Instant::now() })
            }
        };
        let mut batch = Batch::default();
        for (method, params) in calls {
            batch.raw((*method).to_owned(), params.clone());
        }
        let results = open.client.batch_call(&batch)?;
        open.pinged = std::time::Instant::now();
        if results.len() != calls.len() {
            return Err(electrum_client::Error::Message("fewer answers than questions".into()));
        }
        let said = |result: Value| match result.get(REFUSAL) {
            Some(why) => Err(why.as_str().unwrap_or_default().chars().take(200).collect()),
            None => Ok(result),
        };
        Ok(results.into_iter().map(said).collect())
    }

    /// Reads what was announced, if anything came; and sees that the connection lives.
    fn listen(&mut self) {
        let Some(open) = &self.open else { return };
        let came = open.socket.set_nonblocking(true).and_then(|()| open.socket.peek(&mut [0]));
        // The socket is the one that the client reads from.
        if open.socket.set_nonblocking(false).is_err() {
            return self.close();
        }
        let silent = came.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) && !self.shared.has_left();
        if (!silent || open.pinged.elapsed() >= PING_PERIOD) && self.ask(&[("server.ping", Vec::new())]).is_err() {
            // Somebody has to notice that the subscriptions are gone.
            self.shared.lost();
        }
    }

    fn close(&mut self) {
        self.open = None;
        self.connection.fetch_add(1, Ordering::SeqCst);
    }
}

/// A header by its height.
pub fn header_call(height: u64) -> Call {
    ("blockchain.block.header", vec![number(height)])
}

/// Consecutive headers.
pub fn headers_call(from: u64, count: u64) -> Call {
    ("blockchain.block.headers", vec![number(from), number(count)])
}

/// A transaction by its id.
pub fn transaction_call(txid: &bitcoin::Txid) -> Call {
    ("blockchain.transaction.get", vec![Param::String(txid.to_string())])
}

/// Where a transaction is in its block.
pub fn merkle_call(txid: &bitcoin::Txid, height: u64) -> Call {
    ("blockchain.transaction.get_merkle", vec![Param::String(txid.to_string()), number(height)])
}

/// Which transaction is at a place in a block, and what shows it.
pub fn place_call(height: u64, place: u64) -> Call {
    ("blockchain.transaction.id_from_pos", vec![number(height), number(place), Param::Bool(true)])
}

/// What has happened to a script, in short; and word of each change from now on.
pub fn status_call(script_hash: &str) -> Call {
    ("blockchain.scripthash.subscribe", vec![Param::String(script_hash.to_owned())])
}

/// What has happened to a script.
pub fn history_call(script_hash: &str) -> Call {
    ("blockchain.scripthash.get_history", vec![Param::String(script_hash.to_owned())])
}

fn number(height: u64) -> Param {
    Param::Usize(usize::try_from(height).unwrap_or(usize::MAX))
}
