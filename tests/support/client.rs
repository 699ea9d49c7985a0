//! A client as a merchant would write it.

use std::time::Duration;

use h402_watch::clock::{Clock as _, SystemClock};
use h402_watch_proto::v1;
use h402_watch_proto::v1::watch_service_client::WatchServiceClient;
use serde_json::Value;
use tonic::Status;
use tonic::transport::Channel;

/// The longest that a test waits for something to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Client {
    pub inner: WatchServiceClient<Channel>,
}

/// An event, its artefact read.
#[derive(Clone, Debug)]
pub struct Seen {
    pub sequence: u64,
    pub watch: String,
    pub kind: String,
    pub index: u32,
    pub bytes: Vec<u8>,
    pub artefact: Value,
    pub receipt_hash: String,
    pub signature: String,
}

impl From<v1::Event> for Seen {
    fn from(event: v1::Event) -> Self {
        Self {
            sequence: event.sequence,
            watch: event.watch_id,
            kind: event.kind,
            index: event.index,
            artefact: serde_json::from_slice(&event.artefact).expect("JSON"),
            bytes: event.artefact,
            receipt_hash: event.receipt_hash,
            signature: event.signature,
        }
    }
}

impl Seen {
    /// In short: `included@7`, `settled:success`, `settled:failed:reverted`.
    pub fn short(&self) -> String {
        match self.kind.as_str() {
            "settled" => {
                let reason = self.artefact["reason"].as_str().map(|reason| format!(":{reason}")).unwrap_or_default();
                format!("settled:{}{reason}", self.artefact["outcome"].as_str().unwrap_or_default())
            }
            kind => kind.to_owned(),
        }
    }
}

/// A watch, built step by step from what most of them have in common.
pub fn spec(subject: v1::watch_spec::Subject, pay_to: &str, amount: impl ToString, depth: u32) -> v1::WatchSpec {
    v1::WatchSpec {
        network: "dev".into(),
        subject: Some(subject),
        terms: Some(v1::Terms {
            pay_to: pay_to.into(),
            amount: amount.to_string(),
            depth: Some(v1::terms::Depth::DepthBlocks(depth)),
            deadline_ms: now_ms() + 300_000,
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub fn tx(hash: &str) -> v1::watch_spec::Subject {
    v1::watch_spec::Subject::Transaction(v1::TransactionSubject { tx: hash.into(), ..Default::default() })
}

pub fn address() -> v1::watch_spec::Subject {
    v1::watch_spec::Subject::Address(v1::AddressSubject {})
}

/// Changes the terms of a watch.
pub fn with(mut spec: v1::WatchSpec, change: impl FnOnce(&mut v1::Terms)) -> v1::WatchSpec {
    change(spec.terms.as_mut().expect("terms"));
    spec
}

pub fn now_ms() -> u64 {
    SystemClock.now().0
}

impl Client {
    pub async fn connect(url: &str) -> Self {
        let channel = Channel::from_shared(url.to_owned()).expect("a URL").connect().await.expect("connects");
        Self { inner: WatchServiceClient::new(channel) }
    }

    pub async fn create(&mut self, spec: v1::WatchSpec) -> String {
        self.try_create(spec).await.expect("is made").watch.expect("a watch").id
    }

    pub async fn try_create(&mut self, spec: v1::WatchSpec) -> Result<v1::CreateWatchResponse, Status> {
        let request = v1::CreateWatchRequest { watch: Some(spec) };
        self.inner.create_watch(request).await.map(tonic::Response::into_inner)
    }

    /// Makes many, in one stream; their ids.
    pub async fn create_all(&mut self, specs: Vec<v1::WatchSpec>) -> Vec<String> {
        let requests: Vec<_> = specs.into_iter().map(|spec| v1::CreateWatchRequest { watch: Some(spec) }).collect();
        let (count, requests) = (requests.len(), futures_util::stream::iter(requests));
        let mut answers = self.inner.create_watches(requests).await.expect("streams").into_inner();
        let mut made = Vec::with_capacity(count);
        while let Some(answer) = answers.message().await.expect("goes on") {
            let Some(v1::create_watches_response::Result::Ok(ok)) = answer.result else { panic!("{answer:?}") };
            made.push(ok.watch.expect("a watch").id);
        }
        assert_eq!(made.len(), count);
        made
    }

    pub async fn get(&mut self, id: &str) -> v1::Watch {
        let request = v1::GetWatchRequest { watch_id: id.into() };
        self.inner.get_watch(request).await.expect("is there").into_inner().watch.expect("a watch")
    }

    pub async fn receipts(&mut self, id: &str) -> Vec<Seen> {
        let request = v1::ListReceiptsRequest { watch_id: id.into(), page_size: 1000, after_index: 0 };
        let response = self.inner.list_receipts(request).await.expect("is there").into_inner();
        response.receipts.into_iter().map(Seen::from).collect()
    }

    /// Waits until the last receipt of a watch is the one that is expected; all of them in short.
    pub async fn until(&mut self, id: &str, short: &str) -> Vec<String> {
        let started = tokio::time::Instant::now();
        loop {
            let story: Vec<_> = self.receipts(id).await.iter().map(Seen::short).collect();
            if story.last().is_some_and(|last| last == short) {
                return story;
            }
            assert!(started.elapsed() < PATIENCE, "waiting for {short}, got {story:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a watch has `n` receipts; all of them.
    pub async fn at_least(&mut self, id: &str, n: usize) -> Vec<Seen> {
        let started = tokio::time::Instant::now();
        loop {
            let receipts = self.receipts(id).await;
            if receipts.len() >= n {
                return receipts;
            }
            let story: Vec<_> = receipts.iter().map(Seen::short).collect();
            assert!(started.elapsed() < PATIENCE, "waiting for {n} receipts, got {story:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a watch has a receipt of this kind, whatever came after it.
    pub async fn has(&mut self, id: &str, kind: &str) {
        let started = tokio::time::Instant::now();
        loop {
            let story: Vec<_> = self.receipts(id).await.iter().map(Seen::short).collect();
            if story.iter().any(|short| short == kind) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "waiting for {kind}, got {story:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the service's head is at a height, or above.
    pub async fn head(&mut self, height: u64) {
        let head = |network: &v1::Network| network.head.as_ref().map_or(0, |head| head.height);
        self.network_until(&format!("head {height}"), |network| head(network) >= height).await;
    }

    /// Waits until a network's health is as expected.
    pub async fn health(&mut self, expected: &str) -> v1::Network {
        self.network_until(expected, |network| network.health == expected).await
    }

    /// Waits until a network that does not follow, or an endpoint of it, says this of itself. What it says may change while it
    /// rests.
    pub async fn complains(&mut self, about: &str) {
        self.network_until(about, |network| network.health != "following" && says(network, about)).await;
    }

    /// The same, whether it follows or not.
    pub async fn mentions(&mut self, what: &str) -> v1::Network {
        self.network_until(what, |network| says(network, what)).await
    }

    /// Waits until the service has tried an endpoint of the first network again.
    pub async fn tries_again(&mut self) {
        let tried = |network: &v1::Network| network.endpoints.iter().map(|endpoint| endpoint.requests).sum::<u64>();
        let before = tried(&self.network_until("a network", |_| true).await);
        self.network_until("another request", |network| tried(network) > before).await;
    }

    /// Waits until the first network is as it should be.
    async fn network_until(&mut self, what: &str, is_so: impl Fn(&v1::Network) -> bool) -> v1::Network {
        let started = tokio::time::Instant::now();
        loop {
            let networks = self.inner.list_networks(v1::ListNetworksRequest {}).await.expect("answers").into_inner();
            let network = networks.networks.into_iter().next().expect("one network");
            if is_so(&network) {
                return network;
            }
            assert!(started.elapsed() < PATIENCE, "waiting for {what}, at {network:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn subscribe(&mut self, request: v1::SubscribeRequest) -> tonic::Streaming<v1::SubscribeResponse> {
        self.inner.subscribe(request).await.expect("subscribes").into_inner()
    }
}

/// Whether a network, or an endpoint of it, says something of itself.
fn says(network: &v1::Network, what: &str) -> bool {
    let mut said = network.endpoints.iter().map(|endpoint| &endpoint.detail).chain([&network.detail]);
    said.any(|said| said.contains(what))
}
