//! What the service counts, in Prometheus' text format. Names are `h402_watch_<component>_<what>_<unit>`.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::chain::HealthState;
use crate::driver::NetworkView;

/// An event's kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// The word of the log.
    pub kind: String,
}

/// An outcome and its reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// `success`, `partial`, `failed`.
    pub outcome: String,
    /// Why, where there is a reason.
    pub reason: String,
}

/// What the driver counts.
#[derive(Clone, Default)]
pub struct DriverMetrics {
    /// Commands handled.
    pub commands: Counter<u64, AtomicU64>,
    /// Observations handled.
    pub observations: Counter<u64, AtomicU64>,
    /// Events written to the log, by kind.
    pub events: Family<KindLabel, Counter<u64, AtomicU64>>,
    /// Outcomes written, by outcome and reason.
    pub outcomes: Family<OutcomeLabels, Counter<u64, AtomicU64>>,
    /// Watches that are not archived.
    pub watches_open: Gauge<i64, AtomicI64>,
    /// Time of a commit to disk.
    pub commit_seconds: CommitSeconds,
    /// Inputs of one commit.
    pub commit_inputs: CommitInputs,
}

/// A histogram of seconds from 0.1 ms to 3 s.
#[derive(Clone)]
pub struct CommitSeconds(pub Histogram);

impl Default for CommitSeconds {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(0.0001, 2.0, 16)))
    }
}

/// A histogram of counts from 1 to 1,024.
#[derive(Clone)]
pub struct CommitInputs(pub Histogram);

impl Default for CommitInputs {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(1.0, 2.0, 11)))
    }
}

/// Everything that is counted.
#[derive(Default)]
pub struct Metrics {
    registry: Mutex<Registry>,
    /// The driver's.
    pub driver: DriverMetrics,
}

impl Metrics {
    /// Counters at zero, registered.
    pub fn new() -> Self {
        let driver = DriverMetrics::default();
        let mut registry = Registry::with_prefix("h402_watch");
        let sub = registry.sub_registry_with_prefix("driver");
        sub.register("commands", "Commands handled", driver.commands.clone());
        sub.register("observations", "Facts from sources handled", driver.observations.clone());
        sub.register("events", "Events written to the log", driver.events.clone());
        sub.register("outcomes", "Outcomes written", driver.outcomes.clone());
        sub.register("watches_open", "Watches that are not archived", driver.watches_open.clone());
        let commit = driver.commit_seconds.0.clone();
        sub.register_with_unit("commit", "Time of a commit to disk", Unit::Seconds, commit);
        sub.register("commit_inputs", "Inputs of one commit", driver.commit_inputs.0.clone());
        Self { registry: Mutex::new(registry), driver }
    }

    /// All metrics as text, those of the networks as they are now.
    pub fn render(&self, networks: &[NetworkView], now_ms: u64) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Writing into a String can't fail.
        let _ = encode(&mut text, &registry);
        let end = text.strip_suffix("# EOF\n").map_or(text.len(), str::len);
        text.truncate(end);
        render_networks(&mut text, networks, now_ms);
        text.push_str("# EOF\n");
        text
    }
}

/// One gauge of each network or endpoint.
type Series<'a> = (&'a str, &'a str, &'a dyn Fn(&NetworkView) -> Vec<(String, u64)>);

fn render_networks(out: &mut String, networks: &[NetworkView], now_ms: u64) {
    let plain = |value: Option<u64>| value.map(|value| (String::new(), value)).into_iter().collect::<Vec<_>>();
    let endpoint = |name: &str, value: u64| (format!(",endpoint=\"{}\"", escaped(name)), value);
    let gauges: [Series<'_>; 9] = [
        ("source_head_height", "Newest block accepted", &|n| plain(n.head.as_ref().map(|b| b.height))),
        ("source_tip_height", "Newest block that an endpoint claims", &|n| {
            plain(n.health.tip.as_ref().map(|b| b.height))
        }),
        ("source_head_lag_blocks", "Blocks that the head is behind the tip", &|n| {
            let (head, tip) = (n.head.as_ref(), n.health.tip.as_ref());
            plain(tip.zip(head).map(|(tip, head)| tip.height.saturating_sub(head.height)))
        }),
        ("source_head_age_seconds", "Time since the time that the head states", &|n| {
            plain(n.head_time.map(|time| now_ms.saturating_sub(time.0) / 1000))
        }),
        ("source_finalized_height", "Newest finalized block", &|n| plain(n.finality.finalized)),
        ("source_following", "1 while outcomes can be drawn", &|n| {
            plain(Some(u64::from(n.health.state == HealthState::Following)))
        }),
        ("endpoint_up", "1 while the endpoint is used", &|n| {
            n.health.endpoints.iter().map(|e| endpoint(&e.name, u64::from(e.up))).collect()
        }),
        ("endpoint_requests", "Requests sent since the start", &|n| {
            n.health.endpoints.iter().map(|e| endpoint(&e.name, e.requests)).collect()
        }),
        ("endpoint_errors", "Requests that failed since the start", &|n| {
            n.health.endpoints.iter().map(|e| endpoint(&e.name, e.errors)).collect()
        }),
    ];
    for (name, help, series) in gauges {
        let _ = writeln!(out, "# HELP h402_watch_{name} {help}.\n# TYPE h402_watch_{name} gauge");
        for network in networks {
            for (labels, value) in series(network) {
                let _ = writeln!(out, "h402_watch_{name}{{network=\"{}\"{labels}}} {value}", network.network);
            }
        }
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
