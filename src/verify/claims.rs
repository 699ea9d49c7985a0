//! One transfer pays one watch.

use std::collections::BTreeMap;

use crate::artefact::Artefact;
use crate::jwks::Keys;
use crate::report::Report;
use crate::wrong::{Code, Wrong};

/// Replaces the verdict on settlements that count what the settlement of another watch counts. Those that are not in order, or not
/// signed though keys are given, count nothing: they can't put others in the wrong.
pub(crate) fn check(read: &[Result<Artefact, Wrong>], verdicts: &mut [Result<Report, Wrong>], keys: Option<&Keys>) {
    let mut counted: BTreeMap<(&str, &str, u32), BTreeMap<&str, Vec<usize>>> = BTreeMap::new();
    for (place, (artefact, verdict)) in read.iter().zip(verdicts.iter()).enumerate() {
        let (Ok(artefact), Ok(report)) = (artefact, verdict) else { continue };
        if !crate::is_vouched(report, keys) {
            continue;
        }
        for one in artefact.settlement().into_iter().flat_map(|settlement| &settlement.transfers) {
            let transfer = (artefact.network.as_str(), one.tx.as_str(), one.moved.transfer.index);
            counted.entry(transfer).or_default().entry(artefact.watch.as_str()).or_default().push(place);
        }
    }
    for ((_, tx, index), watches) in counted.into_iter().filter(|(_, watches)| watches.len() > 1) {
        let names = watches.keys().copied().collect::<Vec<_>>().join(" and ");
        let wrong =
            Wrong::new(Code::DoubleClaim, format!("transfer {index} of {tx} is counted by the watches {names}"));
        for place in watches.into_values().flatten() {
            if let Some(verdict) = verdicts.get_mut(place) {
                *verdict = Err(wrong.clone());
            }
        }
    }
}
