//! The service as its own process, to be stopped, killed and started again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// The CAIP-2 name of Bitcoin's regtest: its genesis.
pub const REGTEST: &str = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328";

/// What a test changes of the configuration.
#[derive(Clone)]
pub struct Setup {
    pub engine: &'static str,
    /// CAIP-2.
    pub id: String,
    /// Another name of it.
    pub alias: &'static str,
    /// Name, HTTP or Electrum URL and WebSocket URL of each endpoint.
    pub endpoints: Vec<(String, String, Option<String>)>,
    pub block_time_ms: u64,
    pub poll_interval_ms: u64,
    pub horizon_blocks: u32,
    pub deadline_grace_ms: u64,
    pub late_window_ms: u64,
    /// More keys of the network, as TOML.
    pub network: String,
    /// More keys of each endpoint, as TOML.
    pub endpoint: String,
    /// Further networks.
    pub beside: Vec<Setup>,
    /// More sections, as TOML.
    pub more: String,
    /// More keys of [grpc], as TOML.
    pub grpc: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            engine: "fjall",
            id: "eip155:31337".into(),
            alias: "dev",
            endpoints: Vec::new(),
            block_time_ms: 200,
            poll_interval_ms: 100,
            horizon_blocks: 32,
            deadline_grace_ms: 300,
            late_window_ms: 60_000,
            network: String::new(),
            endpoint: String::new(),
            beside: Vec::new(),
            more: String::new(),
            grpc: String::new(),
        }
    }
}

impl Setup {
    /// One endpoint, over HTTP and WebSocket.
    pub fn of(anvil: &super::anvil::Anvil) -> Self {
        Self { endpoints: vec![("anvil".into(), anvil.http(), Some(anvil.ws()))], ..Self::default() }
    }

    /// One endpoint, over HTTP only.
    pub fn http(url: impl Into<String>) -> Self {
        Self { endpoints: vec![("node".into(), url.into(), None)], ..Self::default() }
    }

    /// A bitcoind: over ZeroMQ too, or by polling alone.
    pub fn bitcoin(node: &super::bitcoind::Bitcoind, zmq: Option<String>) -> Self {
        let endpoint = zmq.map(|url| format!("zmq_urls = [\"{url}\"]\n")).unwrap_or_default();
        Self { endpoints: vec![("bitcoind".into(), node.url(), None)], endpoint, ..Self::regtest() }
    }

    /// Electrum servers, the preferred one first.
    pub fn electrum(servers: &[&super::electrum::ElectrumServer]) -> Self {
        let endpoints = servers.iter().zip(1..).map(|(server, n)| (format!("electrum-{n}"), server.url(), None));
        Self { endpoints: endpoints.collect(), ..Self::regtest() }
    }

    /// A Bitcoin network for development.
    pub fn regtest() -> Self {
        // Coinbases ripen within the horizon.
        Self { id: REGTEST.into(), horizon_blocks: 128, ..Self::default() }
    }

    /// Solana nodes, the preferred one first: HTTP and WebSocket URLs.
    pub fn solana(network: &str, nodes: &[(String, Option<String>)]) -> Self {
        let endpoints = nodes.iter().zip(1..).map(|((http, ws), n)| (format!("node-{n}"), http.clone(), ws.clone()));
        // Finality lags behind by some thirty blocks.
        Self {
            id: network.into(),
            endpoints: endpoints.collect(),
            horizon_blocks: 256,
            poll_interval_ms: 50,
            ..Self::default()
        }
    }

    fn toml(&self, store: &Path) -> String {
        let sections = format!(
            "[grpc]\nlisten = \"127.0.0.1:0\"\n{grpc}\n[http]\nlisten = \"127.0.0.1:0\"\n\
             [store]\nengine = \"{engine}\"\npath = \"{path}\"\n{more}\n",
            grpc = self.grpc,
            engine = self.engine,
            path = store.display(),
            more = self.more,
        );
        let networks = std::iter::once(self).chain(&self.beside).map(Self::network_toml);
        sections + &networks.collect::<String>()
    }

    fn network_toml(&self) -> String {
        let mut text = format!(
            "[[network]]\nid = \"{id}\"\naliases = [\"{alias}\"]\nblock_time_ms = {block}\npoll_interval_ms = {poll}\n\
             horizon_blocks = {horizon}\nlook_back_blocks = {back}\ndeadline_grace_ms = {grace}\nlate_window_ms = {late}\n{network}\n",
            id = self.id,
            alias = self.alias,
            block = self.block_time_ms,
            poll = self.poll_interval_ms,
            horizon = self.horizon_blocks,
            back = self.horizon_blocks / 2,
            grace = self.deadline_grace_ms,
            late = self.late_window_ms,
            network = self.network,
        );
        for (name, url, ws) in &self.endpoints {
            let key = if url.starts_with("http") { "http_url" } else { "electrum_url" };
            text += &format!("[[network.endpoint]]\nname = \"{name}\"\n{key} = \"{url}\"\n");
            if let Some(ws) = ws {
                text += &format!("ws_url = \"{ws}\"\n");
            }
            text += &self.endpoint;
            text.push('\n');
        }
        text
    }
}

pub struct Service {
    child: Option<Child>,
    pub folder: PathBuf,
    binary: PathBuf,
    pub setup: Setup,
    _temporary: Option<tempfile::TempDir>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Service {
    /// Starts with an empty store, and waits until it is ready.
    pub async fn start(binary: impl Into<PathBuf>, setup: Setup) -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let mut service = Self::in_folder(binary, setup, temporary.path().to_owned());
        service._temporary = Some(temporary);
        service.spawn();
        service.wait_until_ready().await;
        service
    }

    /// One that is not started yet, in a folder that stays.
    pub fn in_folder(binary: impl Into<PathBuf>, setup: Setup, folder: PathBuf) -> Self {
        Self { child: None, folder, binary: binary.into(), setup, _temporary: None }
    }

    /// The process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    pub fn spawn(&mut self) {
        let config = self.folder.join("config.toml");
        std::fs::write(&config, self.setup.toml(&self.store())).expect("writes");
        let _ = std::fs::remove_file(self.store().join("listen.json"));
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log")).expect("a log");
        let child = Command::new(&self.binary)
            .args(["serve", "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the service starts");
        self.child = Some(child);
    }

    pub async fn wait_until_ready(&mut self) {
        for _ in 0..600 {
            if let Some(http) = self.listens("http") {
                let ready = reqwest::get(format!("http://{http}/readyz")).await;
                if ready.is_ok_and(|response| response.status().is_success()) {
                    return;
                }
            }
            if let Some(child) = &mut self.child
                && let Ok(Some(status)) = child.try_wait()
            {
                panic!("the service ended with {status}:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the service is not ready:\n{}", self.log());
    }

    /// Waits until it takes requests, which it does before it is ready.
    pub async fn wait_until_listening(&self) {
        for _ in 0..600 {
            if self.listens("http").is_some() && self.listens("grpc").is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the service does not listen:\n{}", self.log());
    }

    fn listens(&self, what: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.store().join("listen.json")).ok()?;
        let announced: Value = serde_json::from_str(&text).ok()?;
        announced[what].as_str().map(str::to_owned)
    }

    pub fn grpc(&self) -> String {
        format!("http://{}", self.listens("grpc").expect("announced"))
    }

    pub async fn metrics(&self) -> String {
        self.http("/metrics").await.text().await.expect("text")
    }

    /// The public keys, as a JWK set.
    pub async fn key_set(&self) -> String {
        self.http("/.well-known/jwks.json").await.text().await.expect("text")
    }

    pub async fn http(&self, path: &str) -> reqwest::Response {
        reqwest::get(self.url(path)).await.expect("answers")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listens("http").expect("announced"))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM; whether it ended well.
    pub async fn stop(&mut self) -> bool {
        let Some(mut child) = self.child.take() else { return false };
        let killed = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status();
        // Not a blocking wait: the test's own clients have to hear that the service goes.
        let ended = tokio::task::spawn_blocking(move || child.wait()).await.expect("waits");
        killed.is_ok_and(|status| status.success()) && ended.is_ok_and(|status| status.success())
    }

    pub async fn restart(&mut self) {
        self.spawn();
        self.wait_until_ready().await;
    }

    pub async fn client(&self) -> super::client::Client {
        super::client::Client::connect(&self.grpc()).await
    }
}
