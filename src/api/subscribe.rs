//! A subscription: a place in the log that moves at the subscriber's own speed.
//!
//! Nothing is pushed into a queue for a subscriber: each reads the log from its own place, page by page, when the transport
//! asks for more. One that stops reading costs its place, slows nobody, and loses nothing that is still kept.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use h402_watch_proto::v1;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::errors::{invalid, unreadable};
use super::recent::Recent;
use crate::driver::{Handle, Refusal};
use crate::store::Store;

/// The most watches or addresses of one filter.
const FILTER_MAX: usize = 10_000;
/// How often a subscriber to whom nothing happens is told its place.
const PROGRESS_PERIOD: Duration = Duration::from_secs(15);

/// Which events a subscriber wants.
#[derive(Debug, Default)]
pub(super) struct Filter {
    watches: HashSet<String>,
    networks: HashSet<String>,
    kinds: HashSet<String>,
    pay_to: HashSet<String>,
    labels: BTreeMap<String, String>,
}

const KINDS: [&str; 11] = [
    "seen",
    "accepted",
    "included",
    "depth",
    "orphaned",
    "evicted",
    "replaced",
    "settled",
    "late",
    "reversed",
    "finalized",
];

impl Filter {
    pub(super) fn new(request: v1::SubscribeRequest, driver: &Handle) -> Result<Self, Status> {
        for (field, count) in [("watch_ids", request.watch_ids.len()), ("pay_to", request.pay_to.len())] {
            if count > FILTER_MAX {
                return Err(invalid(field, &format!("at most {FILTER_MAX} entries")));
            }
        }
        if let Some(kind) = request.kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
            return Err(invalid("kinds", &format!("words out of {}, not {:?}", KINDS.join(", "), short(kind))));
        }
        let mut networks = HashSet::new();
        for name in &request.networks {
            let network = driver.resolve(name).map_err(|refusal| match refusal {
                Refusal::Invalid { expected, .. } => invalid("networks", &expected),
                other => super::errors::status(&other, ""),
            })?;
            networks.insert(network.to_string());
        }
        let mut pay_to = HashSet::new();
        for text in &request.pay_to {
            let spelled = driver.spell_address(text);
            if spelled.is_empty() {
                return Err(invalid("pay_to", &format!("addresses of a configured network, not {:?}", short(text))));
            }
            pay_to.extend(spelled.into_iter().map(|address| address.to_string()));
        }
        Ok(Self {
            watches: request.watch_ids.into_iter().collect(),
            networks,
            kinds: request.kinds.into_iter().collect(),
            pay_to,
            labels: request.labels.into_iter().collect(),
        })
    }

    fn matches(&self, event: &v1::Event) -> bool {
        let any = |set: &HashSet<String>, word: &str| set.is_empty() || set.contains(word);
        any(&self.watches, &event.watch_id)
            && any(&self.networks, &event.network)
            && any(&self.kinds, &event.kind)
            && self.matches_artefact(event)
    }

    /// What only the artefact tells.
    fn matches_artefact(&self, event: &v1::Event) -> bool {
        if self.pay_to.is_empty() && self.labels.is_empty() {
            return true;
        }
        let Ok(artefact) = serde_json::from_slice::<serde_json::Value>(&event.artefact) else { return false };
        let paid = artefact.pointer("/terms/payTo").and_then(|value| value.as_str()).unwrap_or_default();
        let labels = artefact.pointer("/binding/labels");
        let has = |(name, value): (&String, &String)| {
            labels.and_then(|labels| labels.get(name)).and_then(|label| label.as_str()) == Some(value)
        };
        (self.pay_to.is_empty() || self.pay_to.contains(paid)) && self.labels.iter().all(has)
    }
}

/// One subscriber's place in the log.
pub(super) struct Subscription {
    store: Arc<Store>,
    recent: Arc<Recent>,
    committed: watch::Receiver<u64>,
    shutdown: CancellationToken,
    filter: Filter,
    /// Everything up to here was sent, or left out.
    place: u64,
    page: VecDeque<Arc<v1::Event>>,
    started: bool,
}

impl Subscription {
    pub(super) fn new(
        (store, recent): (Arc<Store>, Arc<Recent>),
        committed: watch::Receiver<u64>,
        shutdown: CancellationToken,
        filter: Filter,
        after: Option<u64>,
    ) -> Result<Self, Status> {
        let newest = store.newest_sequence();
        let oldest = store.oldest_sequence();
        let place = match after {
            None => newest,
            Some(0) => oldest - 1,
            Some(after) if after > newest => {
                return Err(invalid("after_sequence", &format!("at most {newest}, the newest event")));
            }
            Some(after) => after,
        };
        let subscription =
            Self { store, recent, committed, shutdown, filter, place, page: VecDeque::new(), started: false };
        subscription.check_kept()?;
        Ok(subscription)
    }

    fn check_kept(&self) -> Result<(), Status> {
        let oldest = self.store.oldest_sequence();
        if self.page.is_empty() && self.place + 1 < oldest {
            return Err(Status::out_of_range(format!(
                "after_sequence: events after {} are no longer kept; the oldest is {oldest}",
                self.place
            )));
        }
        Ok(())
    }

    /// The responses, without end until the service stops or the subscriber goes.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<v1::SubscribeResponse, Status>> + Send {
        futures_util::stream::unfold(Some(self), |subscription| async {
            let mut subscription = subscription?;
            match subscription.next().await {
                Ok(response) => Some((Ok(response), Some(subscription))),
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<v1::SubscribeResponse, Status> {
        if !self.started {
            self.started = true;
            return Ok(self.progress());
        }
        let idle = tokio::time::sleep(PROGRESS_PERIOD);
        tokio::pin!(idle);
        loop {
            while let Some(event) = self.page.pop_front() {
                if event.sequence != self.place + 1 {
                    // Forgotten between two reads.
                    self.page.clear();
                    self.check_kept()?;
                    break;
                }
                self.place = event.sequence;
                if self.filter.matches(&event) {
                    let sequence = event.sequence;
                    return Ok(v1::SubscribeResponse { sequence, event: Some(Arc::unwrap_or_clone(event)) });
                }
            }
            if self.shutdown.is_cancelled() {
                return Err(stopping());
            }
            if idle.is_elapsed() {
                return Ok(self.progress());
            }
            self.committed.borrow_and_update();
            self.check_kept()?;
            self.page = self.recent.page(self.place).map_err(|error| unreadable(&error))?.into();
            if !self.page.is_empty() {
                // A long stretch that the filter leaves out must not hold the thread.
                tokio::task::consume_budget().await;
                continue;
            }
            tokio::select! {
                changed = self.committed.changed() => changed.map_err(|_| stopping())?,
                () = self.shutdown.cancelled() => return Err(stopping()),
                () = &mut idle => return Ok(self.progress()),
            }
        }
    }

    fn progress(&self) -> v1::SubscribeResponse {
        v1::SubscribeResponse { sequence: self.place, event: None }
    }
}

/// As much of a caller's text as fits into an answer.
fn short(text: &str) -> &str {
    text.char_indices().nth(64).map_or(text, |(end, _)| &text[..end])
}

fn stopping() -> Status {
    super::errors::status(&Refusal::Unavailable("the service is stopping".into()), "")
}
