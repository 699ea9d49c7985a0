//! What an auditor finds in artefacts.

use std::collections::{BTreeMap, BTreeSet};

use h402_watch_verify::evidence::Evidence;
use h402_watch_verify::jwks::Keys;
use h402_watch_verify::{Inclusion, Report, Signed, audit, verify};
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

/// Changes each byte of each artefact and of each signature, one at a time and in two ways; how many changes that were, and of
/// what verification spoke. Each has to be refused.
pub fn tamper(evidence: &[Evidence], keys: &Keys) -> (usize, BTreeMap<&'static str, usize>) {
    let half = evidence.len().div_ceil(2);
    let counts: Vec<_> = std::thread::scope(|scope| {
        let parts = evidence.chunks(half.max(1));
        let threads: Vec<_> =
            parts.map(|part| scope.spawn(|| part.iter().map(|one| spoil(one, keys)).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("each change is refused")).collect()
    });
    let mut codes = BTreeMap::new();
    for (code, count) in counts.into_iter().flatten() {
        *codes.entry(code).or_default() += count;
    }
    (codes.values().sum(), codes)
}

fn spoil(good: &Evidence, keys: &Keys) -> BTreeMap<&'static str, usize> {
    let mut codes = BTreeMap::new();
    let signature = good.signature.clone().expect("signed").into_bytes();
    let mut refuse = |artefact: &[u8], signature: &[u8], what: &str, at: usize| {
        let changed = Evidence::from_files(artefact, Some(signature));
        match changed.and_then(|changed| verify(&changed, Some(keys))) {
            Ok(report) => panic!("byte {at} of {what} changed, and still: {report}"),
            Err(wrong) => *codes.entry(wrong.code.as_str()).or_default() += 1,
        }
    };
    let ways = |at: usize| [1_u8 << (at % 8), 0x20].into_iter().collect::<BTreeSet<_>>();
    for at in 0..good.artefact.len() {
        for way in ways(at) {
            let mut artefact = good.artefact.clone();
            artefact[at] ^= way;
            refuse(&artefact, &signature, "an artefact", at);
        }
    }
    for at in 0..signature.len() {
        for way in ways(at) {
            let mut signature = signature.clone();
            signature[at] ^= way;
            refuse(&good.artefact, &signature, "a signature", at);
        }
    }
    codes
}
