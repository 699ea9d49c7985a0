//! What is forgotten, and when: events that consumers no longer need, watches that are long over, and their claims.

use h402_watch_engine::id::{Timestamp, WatchId};
use h402_watch_engine::record::WatchRecord;

use super::records::{Artefact, Counters, decode, encode, key, read_watch};
use super::{Batch, Store, StoreError, Table};

/// Up to when records may be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Events of the log that were observed before this instant. The artefacts stay with their watches.
    pub events_before: Timestamp,
    /// Watches that were archived before this instant, with their artefacts, claims and idempotency keys.
    pub archived_before: Timestamp,
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Events of the log.
    pub events: usize,
    /// Watches.
    pub watches: usize,
}

impl Store {
    /// Forgets up to `limit` events and as many watches, oldest first, in one commit. The log stays without a gap from
    /// [`Store::oldest_sequence`] on.
    ///
    /// Runs on the thread that commits.
    pub fn prune(&self, retention: Retention, limit: usize) -> Result<Pruned, StoreError> {
        let mut counters = self.counters().clone();
        let mut batch = Batch::default();
        let events = self.prune_events(retention.events_before, limit, &mut counters, &mut batch)?;
        let to = key::sequence(retention.archived_before.0);
        let expired = self.tables.scan(Table::ArchivedAt, &[], Some(&to), limit)?;
        let watches = expired.len();
        for (at, _) in expired {
            let id = std::str::from_utf8(at.get(8..).unwrap_or_default())
                .map_err(|error| StoreError::Damaged { table: Table::ArchivedAt, detail: error.to_string() })?;
            self.prune_watch(&WatchId::from(id), &mut batch)?;
            batch.delete(Table::ArchivedAt, at);
        }
        if events + watches > 0 {
            self.write(batch, counters)?;
        }
        Ok(Pruned { events, watches })
    }

    fn prune_events(
        &self,
        before: Timestamp,
        limit: usize,
        counters: &mut Counters,
        batch: &mut Batch,
    ) -> Result<usize, StoreError> {
        let mut pruned = 0;
        for event in self.events(counters.oldest_sequence - 1, limit)? {
            if event.observed_at >= before {
                break;
            }
            let at = key::artefact(&event.watch, event.index);
            batch.delete(Table::Events, key::sequence(event.sequence));
            counters.oldest_sequence = event.sequence + 1;
            // The watch may have been forgotten before its events.
            let stands =
                self.tables.get(Table::Artefacts, &at)?.map(|value| decode(Table::Artefacts, &value)).transpose()?;
            if matches!(stands, Some(Artefact::InLog(sequence)) if sequence == event.sequence) {
                batch.put(Table::Artefacts, at, encode(&Artefact::Moved(event)));
            }
            pruned += 1;
        }
        Ok(pruned)
    }

    fn prune_watch(&self, id: &WatchId, batch: &mut Batch) -> Result<(), StoreError> {
        let Some(value) = self.tables.get(Table::Archived, id.as_str().as_bytes())? else { return Ok(()) };
        let watch = read_watch(Table::Archived, &WatchRecord::from_bytes(value))?;
        batch.delete(Table::Archived, id.as_str().into());
        batch.delete(Table::Keys, key::idempotency(watch.key()));
        for candidate in &watch.candidates {
            for (claim_key, claim) in self.claims_of(&watch.request.network, &candidate.fact.tx)? {
                if claim.watch == *id {
                    batch.delete(Table::Claims, key::claim(&claim_key));
                }
            }
        }
        let from = key::artefacts_of(id);
        for (at, _) in self.tables.scan(Table::Artefacts, &from, Some(&key::end_of(&from)), usize::MAX)? {
            batch.delete(Table::Artefacts, at);
        }
        Ok(())
    }
}
