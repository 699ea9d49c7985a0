//! The configuration: one TOML file, overridden by the environment. Unknown keys are refused, secrets are never printed.
//!
//! `H402_WATCH__SECTION__KEY=value` overrides `key` of `[section]`. A text that is `${NAME}` as a whole stands for the
//! environment variable of that name, so that secrets need not stand in the file.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use h402_watch_engine::id::NetworkId;
use h402_watch_engine::request::Tag;
use h402_watch_engine::rules::{Limits, NetworkRules};
use serde::Deserialize;
use toml::{Table, Value};

use crate::chain::{Access, EndpointSettings, InternalTransfers};
use crate::driver::Keep;
use crate::sign::{self, KeySources};
use crate::store::StoreEngine;

const ENV_PREFIX: &str = "H402_WATCH__";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Text that is never printed.
#[derive(Clone, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[grpc]`
    #[serde(default)]
    pub grpc: Grpc,
    /// `[http]`
    #[serde(default)]
    pub http: Http,
    /// `[store]`
    pub store: StoreSection,
    /// `[signing]`
    #[serde(default)]
    pub signing: Signing,
    /// `[limits]`
    #[serde(default)]
    pub limits: LimitsSection,
    /// `[log]`
    #[serde(default)]
    pub log: Log,
    /// `[[network]]`
    #[serde(rename = "network", default)]
    pub networks: Vec<Network>,
}

/// The gRPC server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grpc {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Bearer tokens that are accepted; with none, every caller is.
    pub tokens: Vec<Secret>,
    /// Certificate chain, PEM.
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Allow a public address with neither tokens nor TLS.
    pub allow_insecure: bool,
    /// The largest request, bytes.
    pub message_max_bytes: usize,
    /// Connections at once; further ones are closed.
    pub connections_max: usize,
    /// Subscriptions and waits at once; further ones are refused.
    pub waiting_max: usize,
}

impl Default for Grpc {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4020)),
            tokens: Vec::new(),
            tls_cert: None,
            tls_key: None,
            allow_insecure: false,
            message_max_bytes: 1024 * 1024,
            connections_max: 4096,
            waiting_max: 16_384,
        }
    }
}

/// Probes and metrics.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 4021)) }
    }
}

/// The embedded store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSection {
    /// `fjall` or `sled`.
    #[serde(default)]
    pub engine: StoreEngine,
    /// Its directory.
    pub path: PathBuf,
    /// How long events stay in the log, days.
    #[serde(default = "thirty")]
    pub events_days: u32,
    /// How long a watch is kept after its archival, with its artefacts and claims, days.
    #[serde(default = "year")]
    pub archived_days: u32,
}

fn thirty() -> u32 {
    30
}

fn year() -> u32 {
    400
}

/// The keys that artefacts are signed with. Default: one that is made in the store's directory.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Signing {
    /// The private key that signs, PEM; with it, all of `keys` are published only.
    pub key: Option<Secret>,
    /// Key files, PEM: the first one signs, and is private; the others no longer do, and stay published.
    pub keys: Vec<PathBuf>,
}

/// How much is held and accepted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    /// Watches that are not archived.
    pub watches_max: usize,
    /// How far ahead a deadline may lie, days.
    pub lifetime_max_days: u32,
    /// How old a payment may be when its watch is made, days.
    pub proof_age_max_days: u32,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self { watches_max: 2_000_000, lifetime_max_days: 90, proof_age_max_days: 30 }
    }
}

/// The log.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `text` or `json`.
    pub format: LogFormat,
    /// Which lines: a `tracing` filter such as `info` or `h402_watch=debug`.
    pub filter: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// One network.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// CAIP-2: `eip155:8453`.
    pub id: String,
    /// Other names that requests may use.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The time between two blocks, ms.
    pub block_time_ms: u64,
    /// How often the tip is asked for, ms. Default: the block time, within 250 ms and 12 s.
    pub poll_interval_ms: Option<u64>,
    /// How many headers are kept: the deepest reorg that is followed, and the largest depth that can be asked.
    #[serde(default = "horizon")]
    pub horizon_blocks: u32,
    /// How far below the tip the very first start begins.
    #[serde(default = "look_back")]
    pub look_back_blocks: u32,
    /// How long after a deadline blocks that state an earlier time are waited for, ms. Default: four block times.
    pub deadline_grace_ms: Option<u64>,
    /// How long after a failed or partial outcome late transfers are reported, ms.
    #[serde(default = "day")]
    pub late_window_ms: u64,
    /// Which finality tags the network knows, of those that its chain family has. Default: all of these.
    pub finality_tags: Option<Vec<TagWord>>,
    /// How contract payments in the native coin are found: `auto`, `trace`, `balance`, `off`.
    #[serde(default)]
    pub internal_transfers: InternalTransfers,
    /// Whether artefacts carry inclusion proofs where a request does not say.
    #[serde(default)]
    pub proofs: bool,
    /// How many endpoints must have a block before it counts. 1 trusts whichever answers.
    #[serde(default = "one")]
    pub quorum: usize,
    /// Whether hashes and roots are recomputed, and what doesn't match is refused. Chains where they never match are known by
    /// that; false is for one that changed how it hashes.
    #[serde(default = "yes")]
    pub recompute: bool,
    /// Its endpoints, the preferred one first.
    #[serde(rename = "endpoint", default)]
    pub endpoints: Vec<Endpoint>,
}

fn horizon() -> u32 {
    256
}

fn look_back() -> u32 {
    64
}

fn day() -> u64 {
    DAY_MS
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

/// A finality tag as the file names it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum TagWord {
    /// `confirmed`
    Confirmed,
    /// `safe`
    Safe,
    /// `finalized`
    Finalized,
}

/// One URL of a network.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Its name in logs and health reports.
    pub name: String,
    /// JSON-RPC: `http://` or `https://`. Each endpoint has this or `electrum_url`.
    pub http_url: Option<Secret>,
    /// Bitcoin without a node of one's own: an Electrum server, `tcp://host:port` or `ssl://host:port`. All endpoints of a
    /// network are of one kind.
    pub electrum_url: Option<Secret>,
    /// EVM and Solana: `ws://` or `wss://`: new heads are learned sooner.
    pub ws_url: Option<Secret>,
    /// Bitcoin: `tcp://` of the node's zmqpubhashblock, zmqpubsequence and zmqpubrawtx: blocks and transactions are learned
    /// sooner.
    #[serde(default)]
    pub zmq_urls: Vec<String>,
    /// Bitcoin: the node's .cookie file, where user and password don't stand in the URL.
    pub cookie_file: Option<PathBuf>,
    /// The most requests that are sent in a second; more of them wait.
    #[serde(default = "thousand")]
    pub requests_per_second: u32,
}

impl Endpoint {
    /// Whether it says in one way where requests go; else the key, and what is expected of it.
    fn check_access(&self) -> Result<(), (&'static str, &'static str)> {
        let http = self.http_url.as_ref().map(Secret::expose);
        let electrum = self.electrum_url.as_ref().map(Secret::expose);
        match (http, electrum) {
            (Some(http), None) if !(http.starts_with("http://") || http.starts_with("https://")) => {
                Err(("endpoint.http_url", "http://… or https://…"))
            }
            (Some(_), None) => Ok(()),
            (None, Some(electrum)) => {
                let rest = electrum.strip_prefix("tcp://").or_else(|| electrum.strip_prefix("ssl://"));
                let port = rest.and_then(|rest| rest.rsplit_once(':')).filter(|(host, _)| !host.is_empty());
                if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
                    return Err(("endpoint.electrum_url", "tcp://host:port or ssl://host:port"));
                }
                if self.ws_url.is_some() || !self.zmq_urls.is_empty() || self.cookie_file.is_some() {
                    return Err(("endpoint.electrum_url", "neither ws_url, zmq_urls nor cookie_file beside it"));
                }
                Ok(())
            }
            _ => Err(("endpoint.http_url, electrum_url", "one of the two")),
        }
    }

    fn access(&self) -> Access {
        match (&self.http_url, &self.electrum_url) {
            (None, Some(url)) => Access::Electrum(url.expose().to_owned()),
            (url, _) => Access::Http(url.as_ref().map_or("", Secret::expose).to_owned()),
        }
    }
}

fn thousand() -> u32 {
    1000
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no TOML, or a key is unknown, missing or of another type.
    #[error("{origin}: {message}")]
    Malformed {
        /// The file, or the environment variable.
        origin: String,
        /// What is wrong.
        message: String,
    },
    /// A value does not fit.
    #[error("{key}: expected {expected}")]
    Invalid {
        /// The key's path.
        key: String,
        /// What it must hold.
        expected: String,
    },
}

impl Config {
    /// Reads the file, and the environment over it.
    ///
    /// # Errors
    /// If it can't be used; says which key and what is expected.
    pub fn load(path: &Path, environment: &[(String, String)]) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string(), environment)
    }

    /// Reads a configuration from text.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, origin: &str, environment: &[(String, String)]) -> Result<Self, ConfigError> {
        let malformed = |message: String| ConfigError::Malformed { origin: origin.to_owned(), message };
        let mut table: Table = text.parse().map_err(|error| malformed(without_values(&error, Some(text))))?;
        for (name, value) in environment {
            if let Some(path) = name.strip_prefix(ENV_PREFIX) {
                override_key(&mut table, &path.to_ascii_lowercase(), value)
                    .map_err(|message| ConfigError::Malformed { origin: name.clone(), message })?;
            }
        }
        let mut whole = Value::Table(table);
        expand(&mut whole, "", environment)?;
        let config: Self = whole.try_into().map_err(|error| malformed(without_values(&error, None)))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let grpc = &self.grpc;
        if grpc.tls_cert.is_some() != grpc.tls_key.is_some() {
            return invalid("grpc.tls_key", "both tls_cert and tls_key, or neither");
        }
        let open = grpc.tokens.is_empty() && grpc.tls_cert.is_none() && !grpc.allow_insecure;
        if !grpc.listen.ip().is_loopback() && open {
            return invalid("grpc.listen", "a loopback address, or tokens, or TLS, or allow_insecure = true");
        }
        if grpc.tokens.iter().any(|token| token.expose().len() < 16) {
            return invalid("grpc.tokens", "tokens of at least 16 characters");
        }
        let (kept, limits) = (self.store.archived_days, &self.limits);
        if kept < limits.proof_age_max_days.max(limits.lifetime_max_days).max(self.store.events_days) {
            // Or one transfer could pay twice, and one request make two watches of the same name.
            let least = "at least limits.proof_age_max_days, limits.lifetime_max_days and store.events_days";
            return invalid("store.archived_days", least);
        }
        if self.networks.is_empty() {
            return invalid("network", "at least one [[network]]");
        }
        let mut names = BTreeSet::new();
        for network in &self.networks {
            for name in network.aliases.iter().chain([&network.id]) {
                if !names.insert(name) {
                    return invalid("network.id", &format!("each id and alias once; {name} occurs again"));
                }
            }
            network.check()?;
        }
        Ok(())
    }

    /// Where the keys are that artefacts are signed with.
    pub fn key_sources(&self) -> KeySources<'_> {
        KeySources {
            key: self.signing.key.as_ref().map(Secret::expose),
            files: &self.signing.keys,
            default: self.store.path.join(sign::DEFAULT_FILE),
        }
    }

    /// The engine's limits.
    pub fn engine_limits(&self) -> Limits {
        Limits {
            watches_max: self.limits.watches_max,
            lifetime_max_ms: u64::from(self.limits.lifetime_max_days) * DAY_MS,
            proof_age_max_ms: u64::from(self.limits.proof_age_max_days) * DAY_MS,
        }
    }

    /// How long records are kept.
    pub fn keep(&self) -> Keep {
        Keep {
            events_ms: u64::from(self.store.events_days) * DAY_MS,
            archived_ms: u64::from(self.store.archived_days) * DAY_MS,
        }
    }
}

impl Network {
    fn check(&self) -> Result<(), ConfigError> {
        let key = |key: &str| format!("network {}: {key}", self.id);
        if self.endpoints.is_empty() {
            return invalid(&key("endpoint"), "at least one [[network.endpoint]]");
        }
        if self.block_time_ms == 0 || self.poll_interval_ms == Some(0) {
            return invalid(&key("block_time_ms, poll_interval_ms"), "more than 0");
        }
        if self.horizon_blocks < 2 || self.horizon_blocks > 100_000 {
            return invalid(&key("horizon_blocks"), "2 to 100000");
        }
        if self.look_back_blocks >= self.horizon_blocks {
            return invalid(&key("look_back_blocks"), "less than horizon_blocks");
        }
        if self.quorum == 0 || self.quorum > self.endpoints.len() {
            return invalid(&key("quorum"), "1 up to the number of endpoints");
        }
        let mut names = BTreeSet::new();
        for endpoint in &self.endpoints {
            if endpoint.name.is_empty() || !names.insert(&endpoint.name) {
                return invalid(&key("endpoint.name"), "a name of its own for each endpoint");
            }
            if endpoint.requests_per_second == 0 {
                return invalid(&key("endpoint.requests_per_second"), "more than 0");
            }
            endpoint.check_access().or_else(|(name, expected)| invalid(&key(name), expected))?;
            if endpoint.electrum_url.is_some() != self.endpoints[0].electrum_url.is_some() {
                return invalid(&key("endpoint.electrum_url"), "all endpoints of a network with it, or none");
            }
            if endpoint.zmq_urls.iter().any(|url| !url.starts_with("tcp://")) {
                return invalid(&key("endpoint.zmq_urls"), "tcp://… each");
            }
            let ws = endpoint.ws_url.as_ref().map_or("ws://", Secret::expose);
            if !(ws.starts_with("ws://") || ws.starts_with("wss://")) {
                return invalid(&key("endpoint.ws_url"), "ws://… or wss://…");
            }
        }
        Ok(())
    }

    /// What the engine goes by; the tags are narrowed to those of the chain family, which is not known here.
    pub fn rules(&self) -> NetworkRules {
        NetworkRules {
            network: NetworkId::from(self.id.as_str()),
            horizon: self.horizon_blocks,
            tags: self.tags(),
            searches_below: false,
            derive: None,
            proofs: self.proofs,
            deadline_grace_ms: self.deadline_grace_ms.unwrap_or(self.block_time_ms.saturating_mul(4)),
            late_window_ms: self.late_window_ms,
        }
    }

    /// The tags that it may know.
    pub fn tags(&self) -> Vec<Tag> {
        let tag = |word: &TagWord| match word {
            TagWord::Confirmed => Tag::Confirmed,
            TagWord::Safe => Tag::Safe,
            TagWord::Finalized => Tag::Finalized,
        };
        match &self.finality_tags {
            Some(words) => words.iter().map(tag).collect(),
            None => vec![Tag::Confirmed, Tag::Safe, Tag::Finalized],
        }
    }

    /// How often the tip is asked for.
    pub fn poll_interval(&self) -> Duration {
        let default = self.block_time_ms.clamp(250, 12_000);
        Duration::from_millis(self.poll_interval_ms.unwrap_or(default))
    }

    /// Its endpoints.
    pub fn endpoint_settings(&self) -> Vec<EndpointSettings> {
        let settings = |endpoint: &Endpoint| EndpointSettings {
            name: endpoint.name.clone(),
            access: endpoint.access(),
            ws_url: endpoint.ws_url.as_ref().map(|url| url.expose().to_owned()),
            zmq_urls: endpoint.zmq_urls.clone(),
            cookie_file: endpoint.cookie_file.clone(),
            requests_per_second: endpoint.requests_per_second,
        };
        self.endpoints.iter().map(settings).collect()
    }
}

fn invalid<T>(key: &str, expected: &str) -> Result<T, ConfigError> {
    Err(ConfigError::Invalid { key: key.to_owned(), expected: expected.to_owned() })
}

/// What is wrong, and in which line; not what stands there, which may be a secret.
fn without_values(error: &toml::de::Error, text: Option<&str>) -> String {
    let message = error.message();
    let shown = match (message.find("string \""), message.rfind('"')) {
        (Some(from), Some(to)) if to > from + 7 => format!("{}string{}", &message[..from], &message[to + 1..]),
        _ => message.to_owned(),
    };
    let before = text.zip(error.span()).and_then(|(text, span)| text.get(..span.start));
    before.map_or(shown.clone(), |before| format!("line {}: {shown}", before.matches('\n').count() + 1))
}

/// Sets `section__key` to a TOML value, or to the text itself where it is none.
fn override_key(table: &mut Table, path: &str, value: &str) -> Result<(), String> {
    let Some((section, key)) = path.split_once("__") else {
        return Err(format!("expected {ENV_PREFIX}SECTION__KEY"));
    };
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    let value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    match table.entry(section).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(section) => {
            section.insert(key.to_owned(), value);
            Ok(())
        }
        _ => Err(format!("expected a section with single keys, which [[{section}]] is not")),
    }
}

/// Replaces texts that are `${NAME}`.
fn expand(value: &mut Value, at: &str, environment: &[(String, String)]) -> Result<(), ConfigError> {
    match value {
        Value::String(text) => {
            let Some(name) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else { return Ok(()) };
            match environment.iter().find(|(known, _)| known == name) {
                Some((_, found)) => *text = found.clone(),
                None => return invalid(at, &format!("the environment variable {name}, which is not set")),
            }
            Ok(())
        }
        Value::Array(values) => values.iter_mut().try_for_each(|value| expand(value, at, environment)),
        Value::Table(table) => {
            for (key, value) in table.iter_mut() {
                let at = if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
                expand(value, &at, environment)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
