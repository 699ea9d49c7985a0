//! The gRPC service: reads from the store, writes through the driver.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use h402_watch_engine::amount::Amount;
use h402_watch_engine::changes::ClaimKey;
use h402_watch_engine::id::{Timestamp, WatchId};
use h402_watch_engine::watch::Watch;
use h402_watch_proto::v1;
use h402_watch_proto::v1::watch_service_server::{WatchService, WatchServiceServer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use super::auth::Tokens;
use super::connections::counted;
use super::oversize::{OversizeLayer, translate};
use super::recent::Recent;
use super::subscribe::{Filter, Subscription};
use super::{convert, errors};
use crate::chain::Received;
use crate::driver::{Created, Handle, Refusal};
use crate::store::Store;

/// What `Wait` waits when it is not told, ms.
const WAIT_DEFAULT_MS: u32 = 12_000;
/// The longest that `Wait` waits, ms.
const WAIT_MAX_MS: u32 = 300_000;
/// Entries of a page when no number is given.
const PAGE_DEFAULT: u32 = 100;
/// The most entries of a page.
const PAGE_MAX: u32 = 1_000;
/// Requests of one bulk stream that are under way at once: they share commits.
const BULK_WINDOW: usize = 256;

/// The bounds of the transport (invariant 11).
#[derive(Clone, Copy, Debug)]
pub struct GrpcLimits {
    /// The largest request, bytes.
    pub message_max_bytes: usize,
    /// Connections at once; further ones are closed.
    pub connections_max: usize,
    /// Calls of one connection at once.
    pub streams_max: u32,
    /// Subscriptions and waits at once; further ones get RESOURCE_EXHAUSTED.
    pub waiting_max: usize,
    /// How often a quiet connection is asked whether it still lives.
    pub keepalive: Duration,
}

impl Default for GrpcLimits {
    fn default() -> Self {
        Self {
            message_max_bytes: 1024 * 1024,
            connections_max: 4096,
            streams_max: 1024,
            waiting_max: 16_384,
            keepalive: Duration::from_secs(30),
        }
    }
}

/// The service.
#[derive(Clone)]
pub struct Api {
    driver: Handle,
    store: Arc<Store>,
    recent: Arc<Recent>,
    shutdown: CancellationToken,
    limits: GrpcLimits,
    waiting: Arc<Semaphore>,
}

impl Api {
    /// A service that ends its streams at `shutdown`.
    pub fn new(driver: Handle, store: Arc<Store>, shutdown: CancellationToken, limits: GrpcLimits) -> Self {
        let waiting = Arc::new(Semaphore::new(limits.waiting_max));
        let recent = Arc::new(Recent::new(Arc::clone(&store)));
        Self { driver, store, recent, shutdown, limits, waiting }
    }

    /// One of the places for those who wait.
    fn place(&self) -> Result<OwnedSemaphorePermit, Status> {
        let full = |_| {
            let max = self.limits.waiting_max;
            Status::resource_exhausted(format!("{max} subscriptions and waits are open, the maximum"))
        };
        Arc::clone(&self.waiting).try_acquire_owned().map_err(full)
    }

    fn message(&self, watch: &Watch) -> v1::Watch {
        let head = self.driver.network(&watch.request.network).and_then(|view| view.head);
        convert::watch(watch, head.as_ref())
    }

    fn read(&self, id: &str) -> Result<Watch, Status> {
        let id = watch_id("watch_id", id)?;
        let found = self.store.watch(&id).map_err(|error| errors::unreadable(&error))?;
        found.ok_or_else(|| errors::not_found(id.as_str()))
    }

    /// A watch and, once there is an outcome, its settled.json and the signature over that.
    fn read_settled(&self, id: &str) -> Result<(Watch, Vec<u8>, String), Status> {
        let id = watch_id("watch_id", id)?;
        let found = self.store.watch_with_settlement(&id).map_err(|error| errors::unreadable(&error))?;
        let (watch, settled) = found.ok_or_else(|| errors::not_found(id.as_str()))?;
        let (settlement, signature) = settled.map(|event| (event.artefact, event.signature)).unwrap_or_default();
        Ok((watch, settlement, signature))
    }

    async fn create(&self, request: v1::CreateWatchRequest) -> Result<Created, Refusal> {
        let spec = request.watch.ok_or_else(|| Refusal::invalid("", "a watch"))?;
        self.driver.create(convert::request_of(spec)?).await
    }

    fn created(&self, created: &Created) -> v1::CreateWatchResponse {
        v1::CreateWatchResponse { watch: Some(self.message(&created.watch)), created: created.new }
    }

    async fn create_of_bulk(self, request: Result<v1::CreateWatchRequest, Status>) -> BulkResult {
        let request = request.map_err(|status| translate(status, self.limits.message_max_bytes))?;
        let result = match self.create(request).await {
            Ok(created) => v1::create_watches_response::Result::Ok(self.created(&created)),
            Err(refusal) => v1::create_watches_response::Result::Error(create_error(&refusal)),
        };
        Ok(v1::CreateWatchesResponse { result: Some(result) })
    }

    fn claimed_by(&self, network: &h402_watch_engine::id::NetworkId, received: &Received) -> Result<String, Status> {
        let claims = self.store.claims_of(network, &received.tx).map_err(|error| errors::unreadable(&error))?;
        let holds = |(key, _): &(ClaimKey, _)| key.index == received.transfer.index;
        Ok(claims.into_iter().find(holds).map(|(_, claim)| claim.watch.to_string()).unwrap_or_default())
    }
}

type BulkResult = Result<v1::CreateWatchesResponse, Status>;

const IN_WATCH: &str = "watch.";

fn create_error(refusal: &Refusal) -> v1::CreateError {
    let field = match refusal {
        Refusal::Invalid { field, .. } => errors::field_name(field, IN_WATCH),
        Refusal::KeyTaken { .. } => errors::field_name("idempotency_key", IN_WATCH),
        _ => String::new(),
    };
    let first_watch_id = match refusal {
        Refusal::KeyTaken { first } => first.to_string(),
        _ => String::new(),
    };
    let status = errors::status(refusal, IN_WATCH);
    v1::CreateError { code: status.code().into(), message: status.message().into(), field, first_watch_id }
}

/// A watch's name as callers give it: nothing else becomes a key of the store.
fn watch_id(field: &str, text: &str) -> Result<WatchId, Status> {
    let digits = text.strip_prefix('w').filter(|digits| digits.len() == 32);
    if digits.is_some_and(|digits| digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))) {
        return Ok(WatchId::from(text));
    }
    Err(errors::invalid(field, "w and 32 hex digits, as CreateWatch returned it"))
}

fn page_size(asked: u32) -> Result<usize, Status> {
    let size = match asked {
        0 => PAGE_DEFAULT,
        size if size > PAGE_MAX => return Err(errors::invalid("page_size", &format!("at most {PAGE_MAX}"))),
        size => size,
    };
    Ok(size as usize)
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl WatchService for Api {
    type CreateWatchesStream = Responses<v1::CreateWatchesResponse>;
    type SubscribeStream = Responses<v1::SubscribeResponse>;

    async fn create_watch(
        &self,
        request: Request<v1::CreateWatchRequest>,
    ) -> Result<Response<v1::CreateWatchResponse>, Status> {
        let created = self.create(request.into_inner()).await;
        let created = created.map_err(|refusal| errors::status(&refusal, IN_WATCH))?;
        Ok(Response::new(self.created(&created)))
    }

    async fn create_watches(
        &self,
        request: Request<tonic::Streaming<v1::CreateWatchRequest>>,
    ) -> Result<Response<Self::CreateWatchesStream>, Status> {
        let api = self.clone();
        let shutdown = self.shutdown.clone();
        let requests = request.into_inner().take_until(shutdown.cancelled_owned());
        let responses = requests.map(move |request| api.clone().create_of_bulk(request)).buffered(BULK_WINDOW);
        // Requests that were not taken in any more must not look as if they had been answered.
        let stopped = self.shutdown.clone();
        let end = futures_util::stream::once(async move {
            let stopping = Refusal::Unavailable("the service is stopping".into());
            stopped.is_cancelled().then(|| Err(errors::status(&stopping, "")))
        });
        Ok(Response::new(Box::pin(responses.chain(end.filter_map(std::future::ready)))))
    }

    async fn get_watch(&self, request: Request<v1::GetWatchRequest>) -> Result<Response<v1::GetWatchResponse>, Status> {
        let (watch, settlement, settlement_signature) = self.read_settled(&request.into_inner().watch_id)?;
        Ok(Response::new(v1::GetWatchResponse { watch: Some(self.message(&watch)), settlement, settlement_signature }))
    }

    async fn list_watches(
        &self,
        request: Request<v1::ListWatchesRequest>,
    ) -> Result<Response<v1::ListWatchesResponse>, Status> {
        let v1::ListWatchesRequest { page_size: size, page_token, open_only } = request.into_inner();
        let size = page_size(size)?;
        let after = match page_token.as_str() {
            "" => None,
            token => Some(watch_id("page_token", token)?),
        };
        let watches =
            self.store.watches(after.as_ref(), size, open_only).map_err(|error| errors::unreadable(&error))?;
        let next_page_token = match watches.last() {
            Some(last) if watches.len() == size => last.id.to_string(),
            _ => String::new(),
        };
        let watches = watches.iter().map(|watch| self.message(watch)).collect();
        Ok(Response::new(v1::ListWatchesResponse { watches, next_page_token }))
    }

    async fn cancel_watch(
        &self,
        request: Request<v1::CancelWatchRequest>,
    ) -> Result<Response<v1::CancelWatchResponse>, Status> {
        let id = watch_id("watch_id", &request.into_inner().watch_id)?;
        let cancelled = self.driver.cancel(id).await;
        let watch = cancelled.map_err(|refusal| errors::status(&refusal, ""))?;
        Ok(Response::new(v1::CancelWatchResponse { watch: Some(self.message(&watch)) }))
    }

    async fn next_address(
        &self,
        request: Request<v1::NextAddressRequest>,
    ) -> Result<Response<v1::NextAddressResponse>, Status> {
        let v1::NextAddressRequest { watch_id: id, reserve } = request.into_inner();
        let next = self.driver.next_address(watch_id("watch_id", &id)?, reserve).await;
        let next = next.map_err(|refusal| errors::status(&refusal, ""))?;
        Ok(Response::new(v1::NextAddressResponse { address: next.address.to_string(), path: next.path() }))
    }

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let request = request.into_inner();
        let after = request.after_sequence;
        let filter = Filter::new(request, &self.driver)?;
        let (log, shutdown) = ((Arc::clone(&self.store), Arc::clone(&self.recent)), self.shutdown.clone());
        let place = self.place()?;
        let subscription = Subscription::new(log, self.driver.committed(), shutdown, filter, after)?;
        let responses = subscription.into_stream().inspect(move |_| {
            // Kept as long as the subscription is.
            let _ = &place;
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn wait(&self, request: Request<v1::WaitRequest>) -> Result<Response<v1::WaitResponse>, Status> {
        let v1::WaitRequest { watch_id: id, until, timeout_ms } = request.into_inner();
        let until = convert::state_of("until", until).map_err(|refusal| errors::status(&refusal, ""))?;
        let timeout_ms = match timeout_ms {
            0 => WAIT_DEFAULT_MS,
            ms if ms > WAIT_MAX_MS => return Err(errors::invalid("timeout_ms", &format!("at most {WAIT_MAX_MS}"))),
            ms => ms,
        };
        let _place = self.place()?;
        let time_limit = tokio::time::sleep(Duration::from_millis(timeout_ms.into()));
        tokio::pin!(time_limit);
        let mut committed = self.driver.committed();
        let (watch, reached) = loop {
            committed.borrow_and_update();
            let watch = self.read(&id)?;
            if watch.state() >= until {
                break (watch, true);
            }
            tokio::select! {
                changed = committed.changed() => if changed.is_err() { break (watch, false) },
                () = &mut time_limit => break (watch, false),
                () = self.shutdown.cancelled() => break (watch, false),
            }
        };
        let (watch, settlement, settlement_signature) = match watch.outcome {
            Some(_) => self.read_settled(&id)?,
            None => (watch, Vec::new(), String::new()),
        };
        let watch = Some(self.message(&watch));
        Ok(Response::new(v1::WaitResponse { watch, reached, settlement, settlement_signature }))
    }

    async fn check_address(
        &self,
        request: Request<v1::CheckAddressRequest>,
    ) -> Result<Response<v1::CheckAddressResponse>, Status> {
        let v1::CheckAddressRequest { network, address, asset, since_ms, depth_min } = request.into_inner();
        let asset = if asset.is_empty() { "native" } else { &asset };
        let since = (since_ms != 0).then_some(Timestamp(since_ms));
        let report = self.driver.check_address(&network, &address, asset, since).await;
        let (network, report) = report.map_err(|refusal| errors::status(&refusal, ""))?;
        let (mut total, mut transfers) = (Amount::ZERO, Vec::new());
        for received in report.transfers {
            let depth = convert::depth(&received.block, Some(&report.head));
            if depth < u64::from(depth_min.max(1)) {
                continue;
            }
            total = total.saturating_add(received.transfer.amount);
            transfers.push(v1::ReceivedTransfer {
                tx: received.tx.to_string(),
                index: received.transfer.index,
                block: Some(convert::block(&received.block, Some(received.time))),
                depth,
                from: received.transfer.from.as_ref().map(ToString::to_string).unwrap_or_default(),
                amount: received.transfer.amount.to_string(),
                via: received.transfer.via.as_str().into(),
                claimed_by: self.claimed_by(&network, &received)?,
            });
        }
        Ok(Response::new(v1::CheckAddressResponse {
            head: Some(convert::block(&report.head, None)),
            searched_from: Some(convert::block(&report.searched_from, None)),
            total: total.to_string(),
            transfers,
        }))
    }

    async fn list_receipts(
        &self,
        request: Request<v1::ListReceiptsRequest>,
    ) -> Result<Response<v1::ListReceiptsResponse>, Status> {
        let v1::ListReceiptsRequest { watch_id: id, after_index, page_size: size } = request.into_inner();
        let size = page_size(size)?;
        let watch = self.read(&id)?;
        let events = self.store.artefacts(&watch.id, after_index, size).map_err(|error| errors::unreadable(&error))?;
        let more = events.last().is_some_and(|last| last.index < watch.artefacts);
        let receipts = events.into_iter().map(convert::event).collect();
        Ok(Response::new(v1::ListReceiptsResponse { receipts, more }))
    }

    async fn list_networks(
        &self,
        _request: Request<v1::ListNetworksRequest>,
    ) -> Result<Response<v1::ListNetworksResponse>, Status> {
        let networks = self.driver.networks().into_iter().map(convert::network).collect();
        Ok(Response::new(v1::ListNetworksResponse { networks }))
    }
}

/// How the server listens.
pub struct Listen {
    /// Where.
    pub listener: tokio::net::TcpListener,
    /// Who may call.
    pub tokens: Tokens,
    /// With which certificate, if any.
    pub tls: Option<ServerTlsConfig>,
}

/// Serves until the service's shutdown; calls that are under way then are answered.
///
/// The service and reflection stand behind the tokens, health in front of them.
///
/// # Errors
/// If the certificate can't be used, or the listener fails.
pub async fn serve(api: Api, listen: Listen) -> anyhow::Result<()> {
    let (limits, shutdown) = (api.limits, api.shutdown.clone());
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(limits.keepalive))
        .http2_keepalive_timeout(Some(limits.keepalive))
        .max_concurrent_streams(Some(limits.streams_max));
    if let Some(tls) = listen.tls {
        server = server.tls_config(tls)?;
    }
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<WatchServiceServer<Api>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(h402_watch_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let service = WatchServiceServer::new(api).max_decoding_message_size(limits.message_max_bytes);
    let stopping = async move {
        shutdown.cancelled().await;
        reporter.set_not_serving::<WatchServiceServer<Api>>().await;
    };
    let incoming = TcpIncoming::from(listen.listener).with_nodelay(Some(true));
    server
        .layer(OversizeLayer { max_bytes: limits.message_max_bytes })
        .add_service(health)
        .add_service(InterceptedService::new(reflection, listen.tokens.clone()))
        .add_service(InterceptedService::new(service, listen.tokens))
        .serve_with_incoming_shutdown(counted(incoming, limits.connections_max), stopping)
        .await?;
    Ok(())
}
