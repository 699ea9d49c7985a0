//! The composition root: opens, starts, and stops everything, in order.
//!
//! Order of shutdown: sources stop reporting; calls that are under way are answered and streams end; the driver handles what
//! it was given, commits and ends; the store closes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use h402_watch_engine::id::NetworkId;
use h402_watch_engine::receipt::tag_word;
use h402_watch_engine::rules::NetworkRules;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Identity, ServerTlsConfig};

use crate::api::{Api, GrpcLimits, Listen, Tokens, http_router, serve};
use crate::chain::{self, Reporter, Settings, Source};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Grpc, Network, Secret};
use crate::driver::{Driver, NetworkSetup, Ready};
use crate::metrics::Metrics;
use crate::sign::Signer;
use crate::store::Store;

/// How long calls that are under way may take at shutdown.
const GRACE: Duration = Duration::from_secs(10);

/// Runs the service until `shutdown`, or until something fails that it can't go on after.
///
/// # Errors
/// If it can't start, or the driver fails: a commit that did not reach the disk ends the process (invariant 3).
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Arc::new(Metrics::new());
    let store = Arc::new(Store::open(config.store.engine, &config.store.path)?);
    let signer = Signer::open(&config.key_sources(), store.newest_sequence() == 0)?;
    let (kid, key_set) = (signer.kid().to_owned(), signer.key_set());
    let (setups, adapters) = networks(&config, &clock)?;
    let bounds = (config.engine_limits(), config.keep());
    let driver_metrics = metrics.driver.clone();
    let Ready { driver, handle, reports, sources } =
        Driver::restore(Arc::clone(&store), signer, Arc::clone(&clock), setups, bounds, driver_metrics)?;

    let grpc =
        TcpListener::bind(config.grpc.listen).await.with_context(|| format!("grpc.listen {}", config.grpc.listen))?;
    let http =
        TcpListener::bind(config.http.listen).await.with_context(|| format!("http.listen {}", config.http.listen))?;
    let (grpc_at, http_at) = (grpc.local_addr()?, http.local_addr()?);
    let listen = Listen { listener: grpc, tokens: tokens(&config.grpc), tls: tls(&config.grpc)? };

    let (stop_sources, stop_api, stop_driver) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let mut driver = spawn_driver(driver, stop_driver.clone())?;
    let mut followers = JoinSet::new();
    for ((network, source), (name, start, mailbox)) in adapters.into_iter().zip(sources) {
        debug_assert_eq!(network, name);
        followers.spawn(source.run(start, mailbox, Reporter::new(network, reports.clone()), stop_sources.clone()));
    }
    drop(reports);
    let api = Api::new(handle.clone(), Arc::clone(&store), stop_api.clone(), limits(&config.grpc));
    let mut servers = JoinSet::new();
    servers.spawn(serve(api, listen));
    let stop_http = stop_api.clone();
    servers.spawn(async move {
        let routes = http_router(handle, metrics, clock, &key_set);
        let served = axum::serve(http, routes).with_graceful_shutdown(async move { stop_http.cancelled().await });
        Ok(served.await?)
    });
    announce(&config.store.path, grpc_at, http_at)?;
    tracing::info!(grpc = %grpc_at, http = %http_at, store = config.store.engine.as_str(), kid, "serving");

    let failed = tokio::select! {
        () = shutdown.cancelled() => None,
        ended = &mut driver => Some(driver_end(ended)),
        Some(ended) = servers.join_next() => Some(server_end(ended)),
        Some(ended) = followers.join_next() => Some(anyhow::anyhow!("a source ended by itself: {ended:?}")),
    };
    if let Some(error) = &failed {
        tracing::error!(%error, "stopping");
    } else {
        tracing::info!("stopping");
    }
    stop_sources.cancel();
    while followers.join_next().await.is_some() {}
    stop_api.cancel();
    let answered = async { while servers.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, answered).await.is_err() {
        tracing::warn!("some calls did not end in time");
        servers.abort_all();
    }
    stop_driver.cancel();
    let error = match failed {
        Some(error) => Some(error),
        None => match driver.await {
            Ok(Ok(())) => None,
            ended => Some(driver_end(ended)),
        },
    };
    error.map_or(Ok(()), Err)
}

/// Whether each network is one that can be followed, and each key one that can be used. Makes and opens nothing.
///
/// # Errors
/// If one is not; says which key and what is expected.
pub fn check(config: &Config) -> anyhow::Result<()> {
    Signer::check(&config.key_sources())?;
    networks(config, &(Arc::new(SystemClock) as Arc<dyn Clock>)).map(|_| ())
}

type Adapters = Vec<(NetworkId, Box<dyn Source>)>;

/// What the driver is told of each network, and the source that follows it.
fn networks(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<(Vec<NetworkSetup>, Adapters)> {
    let (mut setups, mut adapters) = (Vec::new(), Vec::new());
    for network in &config.networks {
        let made = chain::source(settings(network, clock));
        let (source, family) =
            made.map_err(|bad| anyhow::anyhow!("network {}: {}: expected {}", network.id, bad.field, bad.expected))?;
        let mut rules =
            NetworkRules { searches_below: family.searches_below, derive: family.derive, ..network.rules() };
        if network.finality_tags.is_some() && rules.tags.iter().any(|tag| !family.tags.contains(tag)) {
            let known: Vec<_> = family.tags.iter().map(|tag| tag_word(*tag)).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            anyhow::bail!("network {}: finality_tags: expected tags that its chain knows ({known})", network.id);
        }
        rules.tags.retain(|tag| family.tags.contains(tag));
        adapters.push((rules.network.clone(), source));
        setups.push(NetworkSetup { rules, aliases: network.aliases.clone(), family });
    }
    Ok((setups, adapters))
}

type DriverEnd = Result<anyhow::Result<()>, tokio::sync::oneshot::error::RecvError>;

/// The driver has a thread and a runtime of its own, since it blocks while it commits.
fn spawn_driver(
    driver: Driver,
    shutdown: CancellationToken,
) -> anyhow::Result<tokio::sync::oneshot::Receiver<anyhow::Result<()>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("driver".into()).spawn(move || {
        let ended = runtime.block_on(driver.run(shutdown)).map_err(anyhow::Error::from);
        // Nobody waits for it any more once the process is on its way out.
        let _ = sender.send(ended);
    })?;
    Ok(receiver)
}

fn driver_end(ended: DriverEnd) -> anyhow::Error {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) => anyhow::anyhow!("the driver ended by itself"),
        Err(_) => anyhow::anyhow!("the driver panicked"),
    }
}

fn server_end(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Err(error)) => error.context("a server failed"),
        Ok(Ok(())) => anyhow::anyhow!("a server ended by itself"),
        Err(error) => anyhow::Error::from(error).context("a server panicked"),
    }
}

fn settings(network: &Network, clock: &Arc<dyn Clock>) -> Settings {
    Settings {
        network: network.rules().network,
        block_time: Duration::from_millis(network.block_time_ms),
        poll_interval: network.poll_interval(),
        horizon: network.horizon_blocks,
        look_back: network.look_back_blocks,
        tags: network.tags(),
        internal_transfers: network.internal_transfers,
        quorum: network.quorum,
        recompute: network.recompute,
        endpoints: network.endpoint_settings(),
        clock: Arc::clone(clock),
    }
}

fn limits(grpc: &Grpc) -> GrpcLimits {
    GrpcLimits {
        message_max_bytes: grpc.message_max_bytes,
        connections_max: grpc.connections_max,
        waiting_max: grpc.waiting_max,
        ..GrpcLimits::default()
    }
}

fn tokens(grpc: &Grpc) -> Tokens {
    Tokens::new(grpc.tokens.iter().map(Secret::expose))
}

fn tls(grpc: &Grpc) -> anyhow::Result<Option<ServerTlsConfig>> {
    let (Some(cert), Some(key)) = (&grpc.tls_cert, &grpc.tls_key) else { return Ok(None) };
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("grpc TLS file {}", path.display()));
    Ok(Some(ServerTlsConfig::new().identity(Identity::from_pem(read(cert)?, read(key)?))))
}

/// Writes where the service listens, for those who started it with port 0.
fn announce(store: &Path, grpc: std::net::SocketAddr, http: std::net::SocketAddr) -> anyhow::Result<()> {
    let text = serde_json::json!({ "grpc": grpc.to_string(), "http": http.to_string() }).to_string();
    let (path, fresh) = (store.join("listen.json"), store.join("listen.json.new"));
    std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, &path))?;
    Ok(())
}
