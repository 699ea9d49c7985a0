//! The stream beneath electrum-client. That reads lines of any length for any time, gives up a whole batch for one refusal in
//! it, swallows a refusal that comes out of turn, and ends when something is announced that it did not subscribe to itself. So
//! lines are read here: bounded in size and time, refusals turned into results, and announcements kept apart.

use std::collections::HashSet;
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Notify;

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Announced scripts that wait to be looked at; when more come, all are.
const ANNOUNCED_MAX: usize = 10_000;
/// What a refusal is called in the result that it is turned into.
pub const REFUSAL: &str = "refused by the server";

/// What a server announced since it was looked at.
#[derive(Default)]
pub struct Announced {
    /// Hashes of scripts whose history changed.
    pub scripts: HashSet<String>,
    /// Whether more changed than are listed.
    pub overflow: bool,
    /// Whether there is a new tip.
    pub tip: bool,
}

/// What the owner of a connection and its stream share.
pub struct Shared {
    bounds: Mutex<(Instant, usize)>,
    announced: Mutex<Announced>,
    wake: Arc<Notify>,
    /// Whether more was received than was read.
    left: AtomicBool,
}

impl Shared {
    /// `wake` is told of announcements.
    pub fn new(wake: Arc<Notify>) -> Self {
        let bounds = Mutex::new((Instant::now(), 0));
        Self { bounds, announced: Mutex::default(), wake, left: AtomicBool::new(false) }
    }

    /// From now on so much may be read, and for so long.
    pub fn allow(&self, time: Duration, bytes: usize) {
        *lock(&self.bounds) = (Instant::now() + time, bytes);
    }

    /// Takes what was announced.
    pub fn take(&self) -> Announced {
        std::mem::take(&mut *lock(&self.announced))
    }

    /// Whether more was received than was read.
    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// The connection is gone: somebody has to look.
    pub fn lost(&self) {
        lock(&self.announced).tip = true;
        self.wake.notify_one();
    }

    fn announce(&self, method: &str, params: &RawValue) {
        let mut announced = lock(&self.announced);
        if method == "blockchain.headers.subscribe" {
            announced.tip = true;
        } else if let Ok((script, _)) = serde_json::from_str::<(String, Option<String>)>(params.get()) {
            announced.overflow |= announced.scripts.len() >= ANNOUNCED_MAX || script.len() != 64;
            if !announced.overflow {
                announced.scripts.insert(script);
            }
        }
        drop(announced);
        self.wake.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

/// A connection, line by line.
pub struct Wire {
    stream: Stream,
    shared: Arc<Shared>,
    /// What was received, and not read into lines yet.
    received: Vec<u8>,
    /// A line for the client, and how much of it was taken.
    line: Vec<u8>,
    taken: usize,
}

#[derive(Deserialize)]
struct Line<'a> {
    id: Option<u64>,
    #[serde(default)]
    method: Option<String>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

impl Wire {
    /// Connects to `tcp://host:port` or `ssl://host:port`. The second socket is the same, to see whether something came.
    ///
    /// # Errors
    /// If that can't be done; never says the URL.
    pub fn connect(url: &str, shared: Arc<Shared>) -> std::io::Result<(Self, TcpStream)> {
        let (scheme, address) = url.split_once("://").ok_or_else(|| other("no URL"))?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let mut failed = other("its name has no address");
        let mut connected = None;
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
                Ok(stream) => {
                    connected = Some(stream);
                    break;
                }
                Err(error) => failed = error,
            }
        }
        let tcp = connected.ok_or(failed)?;
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(CONNECT_LIMIT))?;
        // TLS reads before it writes.
        tcp.set_read_timeout(Some(CONNECT_LIMIT))?;
        let socket = tcp.try_clone()?;
        let stream = if scheme == "ssl" { Stream::Tls(Box::new(secure(host, tcp)?)) } else { Stream::Plain(tcp) };
        Ok((Self { stream, shared, received: Vec::new(), line: Vec::new(), taken: 0 }, socket))
    }

    /// Reads the next line into `line`; it stays empty where the line was not for the client. False at the end.
    fn next_line(&mut self) -> std::io::Result<bool> {
        (self.line, self.taken) = (Vec::new(), 0);
        let mut searched = 0;
        let end = loop {
            if let Some(end) = self.received[searched..].iter().position(|byte| *byte == b'\n') {
                break searched + end;
            }
            searched = self.received.len();
            if !self.receive()? {
                return Ok(false);
            }
        };
        let rest = self.received.split_off(end + 1);
        let line = std::mem::replace(&mut self.received, rest);
        self.shared.left.store(!self.received.is_empty(), Ordering::Relaxed);
        self.line = self.translate(&line)?;
        Ok(true)
    }

    fn receive(&mut self) -> std::io::Result<bool> {
        let (deadline, left) = *lock(&self.shared.bounds);
        let time = deadline.saturating_duration_since(Instant::now());
        if time.is_zero() {
            return Err(Error::new(ErrorKind::TimedOut, "no answer in time"));
        }
        if left == 0 {
            return Err(other("an answer that is too large"));
        }
        self.stream.tcp().set_read_timeout(Some(time))?;
        let mut buffer = [0; 16 * 1024];
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read(&mut buffer)?,
            Stream::Tls(stream) => stream.read(&mut buffer)?,
        };
        lock(&self.shared.bounds).1 = left.saturating_sub(read);
        self.received.extend_from_slice(&buffer[..read]);
        Ok(read > 0)
    }

    fn translate(&self, line: &[u8]) -> std::io::Result<Vec<u8>> {
        let line: Line = serde_json::from_slice(line).map_err(|_| other("an answer that can't be read"))?;
        let Some(id) = line.id else {
            if let (Some(method), Some(params)) = (line.method, line.params) {
                self.shared.announce(&method, params);
            }
            return Ok(Vec::new());
        };
        let translated = match line.error {
            Some(error) if !error.is_null() => {
                let why = error["message"].as_str().map_or_else(|| error.to_string(), str::to_owned);
                serde_json::json!({ "id": id, "result": { REFUSAL: why } }).to_string()
            }
            _ => format!("{{\"id\":{id},\"result\":{}}}", line.result.map_or("null", RawValue::get)),
        };
        Ok((translated + "\n").into_bytes())
    }
}

fn other(what: &str) -> Error {
    Error::other(what.to_owned())
}

fn secure(host: &str, tcp: TcpStream) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(Error::other)?.with_root_certificates(roots).with_no_client_auth();
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|_| other("no name that a certificate could have"))?;
    Ok(StreamOwned::new(ClientConnection::new(Arc::new(config), name).map_err(Error::other)?, tcp))
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.taken == self.line.len() {
            if !self.next_line()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.line.len() - self.taken);
        buffer[..count].copy_from_slice(&self.line[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write(buffer),
            Stream::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}
