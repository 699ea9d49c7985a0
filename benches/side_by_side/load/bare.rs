//! What nobody can go above: the store alone, with the records that the service wrote; tonic alone, with its messages.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::Stream;
use h402_watch::store::{Record, StoreEngine, Table, Write, open_tables};
use h402_watch_proto::v1;
use h402_watch_proto::v1::watch_service_server::{WatchService, WatchServiceServer};
use tokio::sync::broadcast;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::samples::figure;

/// What a store holds after creates: the records of open watches, of their keys, and the counters.
pub struct Records {
    open: Vec<Record>,
    keys: Vec<Record>,
    meta: Vec<Record>,
}

impl Records {
    /// Those of a store that nobody has open, at most so many.
    pub fn of(engine: StoreEngine, path: &Path, max: usize) -> Self {
        let tables = open_tables(engine, path).expect("it is closed");
        let all = |table| tables.scan(table, &[], None, max).expect("reads");
        let meta = all(Table::Meta).into_iter().filter(|(key, _)| key == b"counters").collect();
        Self { open: all(Table::Open), keys: all(Table::Keys), meta }
    }

    /// Bytes of one create, its share of the counters left out.
    pub fn bytes(&self) -> f64 {
        let sizes = self.open.iter().chain(&self.keys).map(|(key, value)| key.len() + value.len());
        figure(sizes.sum::<usize>()) / figure(self.open.len())
    }

    /// Commits them to a new store, in groups, for as long as this or until there are no more; creates per second.
    pub fn replay(&self, engine: StoreEngine, group: usize, time: Duration) -> f64 {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let tables = open_tables(engine, folder.path()).expect("a new one");
        let count = self.open.len().min(self.keys.len());
        // They were read in the order of their keys, and were not made in it.
        let mut order: Vec<_> = (0..count).collect();
        order.sort_by_key(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % count.max(1));
        let put = |table, (key, value): &Record| Write::Put(table, key.clone(), value.clone());
        let (mut done, started) = (0, Instant::now());
        for numbers in order.chunks(group) {
            let watches =
                numbers.iter().flat_map(|n| [put(Table::Open, &self.open[*n]), put(Table::Keys, &self.keys[*n])]);
            tables
                .commit(watches.chain(self.meta.iter().map(|meta| put(Table::Meta, meta))).collect())
                .expect("commits");
            done += numbers.len();
            if started.elapsed() >= time {
                break;
            }
        }
        figure(done) / started.elapsed().as_secs_f64()
    }
}

/// tonic with the service's own schema, and nothing behind it: the same answer to each create, and each cancellation tells
/// all subscribers the next of the events that it was given.
pub struct Bare {
    created: v1::CreateWatchResponse,
    cancelled: v1::CancelWatchResponse,
    events: Mutex<std::vec::IntoIter<v1::SubscribeResponse>>,
    told: broadcast::Sender<Arc<v1::SubscribeResponse>>,
}

impl Bare {
    pub fn new(watch: v1::Watch, events: Vec<v1::SubscribeResponse>) -> Arc<Self> {
        let told = broadcast::channel((events.len() + 1).next_power_of_two()).0;
        Arc::new(Self {
            created: v1::CreateWatchResponse { watch: Some(watch.clone()), created: true },
            cancelled: v1::CancelWatchResponse { watch: Some(watch) },
            events: Mutex::new(events.into_iter()),
            told,
        })
    }

    /// Tells so many of its events at once.
    pub fn tell(&self, count: usize) {
        for event in self.events.lock().expect("no panic").by_ref().take(count) {
            // Nobody may listen.
            let _ = self.told.send(Arc::new(event));
        }
    }

    /// Serves on a runtime of its own, as the service does; its URL. It ends with this process.
    pub fn serve(self: &Arc<Self>) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let service = WatchServiceServer::from_arc(Arc::clone(self));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                let server = Server::builder().max_concurrent_streams(Some(1024)).add_service(service);
                server.serve_with_incoming(incoming).await.expect("serves");
            });
        });
        url
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not measured"))
}

#[tonic::async_trait]
impl WatchService for Bare {
    type CreateWatchesStream = Responses<v1::CreateWatchesResponse>;
    type SubscribeStream = Responses<v1::SubscribeResponse>;

    async fn create_watch(
        &self,
        _: Request<v1::CreateWatchRequest>,
    ) -> Result<Response<v1::CreateWatchResponse>, Status> {
        Ok(Response::new(self.created.clone()))
    }

    async fn create_watches(
        &self,
        request: Request<tonic::Streaming<v1::CreateWatchRequest>>,
    ) -> Result<Response<Self::CreateWatchesStream>, Status> {
        use futures_util::StreamExt as _;
        let result = v1::create_watches_response::Result::Ok(self.created.clone());
        let answer = v1::CreateWatchesResponse { result: Some(result) };
        Ok(Response::new(Box::pin(request.into_inner().map(move |request| request.map(|_| answer.clone())))))
    }

    async fn cancel_watch(
        &self,
        _: Request<v1::CancelWatchRequest>,
    ) -> Result<Response<v1::CancelWatchResponse>, Status> {
        self.tell(1);
        Ok(Response::new(self.cancelled.clone()))
    }

    async fn subscribe(&self, _: Request<v1::SubscribeRequest>) -> Result<Response<Self::SubscribeStream>, Status> {
        let place = v1::SubscribeResponse { sequence: 0, event: None };
        let told = futures_util::stream::unfold(self.told.subscribe(), |mut told| async {
            let event = told.recv().await.ok()?;
            Some((Ok(v1::SubscribeResponse::clone(&event)), told))
        });
        let first = futures_util::stream::once(std::future::ready(Ok(place)));
        Ok(Response::new(Box::pin(futures_util::StreamExt::chain(first, told))))
    }

    async fn get_watch(&self, _: Request<v1::GetWatchRequest>) -> Result<Response<v1::GetWatchResponse>, Status> {
        not_here()
    }

    async fn list_watches(
        &self,
        _: Request<v1::ListWatchesRequest>,
    ) -> Result<Response<v1::ListWatchesResponse>, Status> {
        not_here()
    }

    async fn next_address(
        &self,
        _: Request<v1::NextAddressRequest>,
    ) -> Result<Response<v1::NextAddressResponse>, Status> {
        not_here()
    }

    async fn wait(&self, _: Request<v1::WaitRequest>) -> Result<Response<v1::WaitResponse>, Status> {
        not_here()
    }

    async fn check_address(
        &self,
        _: Request<v1::CheckAddressRequest>,
    ) -> Result<Response<v1::CheckAddressResponse>, Status> {
        not_here()
    }

    async fn list_receipts(
        &self,
        _: Request<v1::ListReceiptsRequest>,
    ) -> Result<Response<v1::ListReceiptsResponse>, Status> {
        not_here()
    }

    async fn list_networks(
        &self,
        _: Request<v1::ListNetworksRequest>,
    ) -> Result<Response<v1::ListNetworksResponse>, Status> {
        not_here()
    }
}
