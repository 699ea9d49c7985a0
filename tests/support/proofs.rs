//! What an auditor finds in artefacts.

use h402_watch_verify::evidence::Evidence;
use h402_watch_verify::jwks::Keys;
use h402_watch_verify::{Inclusion, Report, Signed, audit};
use serde_json::Value;

use super::client::Seen;
use super::service::Service;

/// The keys of a service.
pub async fn keys(service: &Service) -> Keys {
    Keys::parse(service.key_set().await.as_bytes()).expect("a set of keys")
}

/// Artefacts with their signatures.
pub fn evidence(receipts: &[Seen]) -> Vec<Evidence> {
    let one = |seen: &Seen| Evidence { artefact: seen.bytes.clone(), signature: Some(seen.signature.clone()) };
    receipts.iter().map(one).collect()
}

/// What is found in all artefacts of a watch, each of which has to be in order.
pub fn audited(receipts: &[Seen], keys: &Keys) -> Vec<Report> {
    let audit = audit(&evidence(receipts), Some(keys));
    let wrongs: Vec<_> = audit.wrongs().collect();
    assert!(wrongs.is_empty(), "{wrongs:?} in {:#?}", receipts.iter().map(|seen| &seen.artefact).collect::<Vec<_>>());
    let reports: Vec<_> = audit.artefacts.into_iter().flatten().collect();
    assert!(reports.iter().all(|report| matches!(report.signature, Signed::Signed { .. })));
    reports
}

/// The settlement's, which has to be proven: by how many transactions, and how many headers lie on top of each.
pub fn proven(receipts: &[Seen], keys: &Keys) -> Vec<usize> {
    let reports = audited(receipts, keys);
    let settled = reports.iter().find(|report| report.event == "settled").expect("settled");
    match &settled.inclusion {
        Inclusion::Proven { transactions } => transactions.iter().map(|one| one.headers).collect(),
        other => panic!("{other} {:#?}", receipts.last().map(|seen| &seen.artefact)),
    }
}

/// The proofs of an artefact.
pub fn proofs(seen: &Seen) -> &[Value] {
    seen.artefact["proofs"].as_array().map_or(&[], Vec::as_slice)
}
