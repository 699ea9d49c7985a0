//! A real Electrum server in front of a node.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::bitcoind::{Bitcoind, PASSWORD, USER};

/// The server pads what it sends and holds small answers back for a second, which no setting turns off.
const START: &str = "from electrumx.server.transport import PaddedRSTransport as T
T.WAIT_FOR_BUFFER_GROWTH_SECONDS = 0.0
from electrumx.cli.electrumx_server import main
main()";

/// Stops on drop.
pub struct ElectrumServer {
    child: Child,
    pub port: u16,
    folder: tempfile::TempDir,
}

impl Drop for ElectrumServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl ElectrumServer {
    /// Before a node that was started with `-txindex=1`; waits until it is at the node's height.
    pub async fn start(node: &Bitcoind) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let port = super::free_port();
        let mut server = Self { child: spawn(node, folder.path(), port), port, folder };
        server.wait_until_ready(node).await;
        server
    }

    /// SIGKILL.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it after a stop: same port, same folder.
    pub async fn start_again(&mut self, node: &Bitcoind) {
        self.child = spawn(node, self.folder.path(), self.port);
        self.wait_until_ready(node).await;
    }

    async fn wait_until_ready(&mut self, node: &Bitcoind) {
        for _ in 0..600 {
            if self.try_call("blockchain.headers.subscribe", json!([])).await.is_ok() {
                self.wait_for_height(node.height().await).await;
                return;
            }
            let ended = self.child.try_wait().expect("a status");
            assert!(ended.is_none(), "the Electrum server ended:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the Electrum server does not answer:\n{}", self.log());
    }

    pub fn url(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until it knows as many blocks. It does not go back when the node does so without a longer branch.
    pub async fn wait_for_height(&self, height: u64) {
        for _ in 0..600 {
            if self.call("blockchain.headers.subscribe", json!([])).await["height"] == height {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the Electrum server does not reach {height}:\n{}", self.log());
    }

    pub async fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// One request over a connection of its own.
    pub async fn try_call(&self, method: &str, params: Value) -> Result<Value, String> {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).await.map_err(|e| e.to_string())?);
        let mut answer = Value::Null;
        // It wants to hear the version first.
        for (id, (method, params)) in
            [("server.version", json!(["test", "1.4"])), (method, params)].into_iter().enumerate()
        {
            let line = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string() + "\n";
            stream.write_all(line.as_bytes()).await.map_err(|e| e.to_string())?;
            let mut line = String::new();
            stream.read_line(&mut line).await.map_err(|e| e.to_string())?;
            answer = serde_json::from_str(&line).map_err(|e| format!("{e}: {line}"))?;
        }
        if answer["error"].is_null() { Ok(answer["result"].take()) } else { Err(answer["error"].to_string()) }
    }
}

fn spawn(node: &Bitcoind, folder: &Path, port: u16) -> Child {
    let python = super::devnet().join("electrum/bin/python");
    assert!(python.exists(), "no Electrum server in {}: run `make devnet` first", python.display());
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).expect("a log");
    Command::new(python)
        .args(["-c", START])
        .envs([("COIN", "Bitcoin"), ("NET", "regtest"), ("DB_ENGINE", "leveldb"), ("CACHE_MB", "16")])
        .env("DB_DIRECTORY", folder)
        .env("SERVICES", format!("tcp://127.0.0.1:{port}"))
        .env("DAEMON_URL", format!("http://{USER}:{PASSWORD}@127.0.0.1:{}", node.port))
        .envs([("ALLOW_ROOT", "1"), ("PEER_DISCOVERY", "off"), ("PEER_ANNOUNCE", "")])
        // Milliseconds between its looks at the node.
        .envs([("DAEMON_POLL_INTERVAL_BLOCKS", "100"), ("DAEMON_POLL_INTERVAL_MEMPOOL", "100")])
        // No limit on what one client may ask.
        .envs([("COST_SOFT_LIMIT", "0"), ("COST_HARD_LIMIT", "0"), ("REQUEST_SLEEP", "0")])
        .envs([("INITIAL_CONCURRENT", "1000"), ("MAX_SEND", "20000000")])
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .stdin(Stdio::null())
        .spawn()
        .expect("the Electrum server starts")
}
