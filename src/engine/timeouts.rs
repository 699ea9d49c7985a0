//! What time decides: deadlines and late windows, a bounded number in each step.

use crate::Engine;
use crate::id::{NetworkId, Timestamp};
use crate::network::{Network, Ordinal};

/// Deadlines and late windows that are worked off in one step; the rest follow in further steps, with whatever else came in
/// before each. A step of 4,096 held callers up for half a second.
const TIMEOUTS_PER_STEP: usize = 512;

impl Engine {
    /// Goes on with deadlines that one step left over. Spurious calls change nothing.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let networks: Vec<_> = self.networks.keys().cloned().collect();
        for network in networks {
            if self.networks.get(&network).is_none_or(|net| net.marks.timing_out.is_none()) {
                continue;
            }
            self.time_out(now, &network, true);
        }
        self.work(now);
    }

    /// Whether [`Engine::handle_timeout`] has something to do now.
    pub fn has_timeouts(&self) -> bool {
        self.networks.values().any(|net| net.marks.timing_out.is_some())
    }

    /// Decides the deadlines and late windows that have passed and that the source has told all of, a bounded number.
    pub(crate) fn time_out(&mut self, now: Timestamp, network: &NetworkId, was_left_over: bool) {
        for _ in 0..TIMEOUTS_PER_STEP {
            let Some(net) = self.networks.get_mut(network) else { return };
            let Some(timeout) = net.next_timeout() else { break };
            match timeout {
                Timeout::Deadline(entry) => {
                    net.deadlines.remove(&entry);
                    self.pass_deadline(now, entry.1);
                }
                Timeout::LateWindow(entry) => {
                    net.late_windows.remove(&entry);
                    if let Some(watch) = self.watches.get_mut(&entry.1) {
                        watch.late_until = None;
                    }
                    self.dirty.insert(entry.1);
                    self.queue.insert(entry.1);
                }
            }
            self.work(now);
        }
        let Some(net) = self.networks.get_mut(network) else { return };
        let over = net.next_timeout().is_none();
        if over {
            net.marks.timing_out = None;
        }
        // Only what is left over has to survive a restart.
        if was_left_over || !over {
            self.save_marks(network);
        }
    }

    pub(crate) fn save_marks(&mut self, network: &NetworkId) {
        let Some(net) = self.networks.get(network) else { return };
        self.out.finality.retain(|(other, _)| other != network);
        self.out.finality.push((network.clone(), net.marks.clone()));
    }
}

/// Something that time decides.
enum Timeout {
    Deadline((Timestamp, Ordinal)),
    LateWindow((Timestamp, Ordinal)),
}

impl Network {
    fn next_timeout(&self) -> Option<Timeout> {
        let (grace, until) = (self.rules.deadline_grace_ms, self.marks.timing_out?);
        let deadline = self.deadlines.first().filter(|(time, _)| time.plus_ms(grace) <= until);
        let window = self.late_windows.first().filter(|(time, _)| *time <= until);
        deadline.map(|entry| Timeout::Deadline(*entry)).or_else(|| window.map(|entry| Timeout::LateWindow(*entry)))
    }
}
