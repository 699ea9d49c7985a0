//! How one endpoint has fared, in whichever protocol it is asked: what it was asked, how often it failed, how long it rests.

use std::time::Duration;

use h402_watch_engine::id::BlockRef;
use tokio::time::Instant;

use super::EndpointHealth;

/// How long a failing endpoint rests: doubled with each failure in a row.
const REST: Duration = Duration::from_millis(500);
/// The longest rest, failures and 429 without `Retry-After` alike.
pub const REST_MAX: Duration = Duration::from_secs(30);
/// How long an endpoint of another chain rests.
pub const QUARANTINE: Duration = Duration::from_secs(60);

/// How it has fared.
#[derive(Default)]
pub struct Standing {
    pub requests: u64,
    errors: u64,
    failures_in_row: u32,
    rests_until: Option<Instant>,
    detail: String,
    /// The block that it claims as its tip.
    pub tip: Option<BlockRef>,
}

impl Standing {
    /// Whether it may be asked now.
    pub fn is_up(&self) -> bool {
        self.rests_until.is_none_or(|until| until <= Instant::now())
    }

    /// It answered.
    pub fn succeed(&mut self) {
        self.failures_in_row = 0;
        self.detail.clear();
    }

    /// It failed: it rests for a time that is named, or longer each time.
    pub fn fail(&mut self, name: &str, what: String, rest: Option<Duration>) {
        if self.failures_in_row == 0 {
            tracing::warn!(endpoint = name, error = what, "endpoint failed");
        }
        self.errors += 1;
        self.failures_in_row = self.failures_in_row.saturating_add(1);
        let doubled = REST.saturating_mul(1 << self.failures_in_row.min(8).saturating_sub(1)).min(REST_MAX);
        self.rests_until = Some(Instant::now() + rest.unwrap_or(doubled));
        self.detail = what;
    }

    /// What is reported of it.
    pub fn health(&self, name: &str) -> EndpointHealth {
        EndpointHealth {
            name: name.to_owned(),
            up: self.is_up(),
            detail: self.detail.clone(),
            tip: self.tip.clone(),
            requests: self.requests,
            errors: self.errors,
        }
    }
}
