//! When a source says how it fares: at each change, and now and then without one.

use std::time::Duration;

use h402_watch_engine::id::NetworkId;
use tokio::time::Instant;

use super::HealthState;

/// How often health is reported when nothing changes.
const PERIOD: Duration = Duration::from_secs(2);

/// What was said last.
#[derive(Default)]
pub struct Pulse {
    /// The state, whether there was a search, and when.
    last: Option<(HealthState, bool, Instant)>,
}

impl Pulse {
    /// Whether health is to be reported now; from then on it was. A network that halts does so loudly.
    pub fn beats(&mut self, network: &NetworkId, state: &HealthState, searches: bool) -> bool {
        if let HealthState::Halted(why) = state
            && !matches!(&self.last, Some((HealthState::Halted(_), ..)))
        {
            tracing::error!(%network, why, "network halted");
        }
        let news = |(last, searched, at): &(HealthState, bool, Instant)| {
            last != state || *searched != searches || at.elapsed() >= PERIOD
        };
        let due = self.last.as_ref().is_none_or(news);
        if due {
            self.last = Some((state.clone(), searches, Instant::now()));
        }
        due
    }
}
