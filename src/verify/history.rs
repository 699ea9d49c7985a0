//! The artefacts of a watch as a hash chain.

use std::collections::BTreeMap;
use std::fmt;

use h402_watch_engine::receipt;
use h402_watch_engine::watch::State;
use serde::Serialize;

use crate::artefact::Artefact;
use crate::report::plain;
use crate::wrong::{Code, Wrong, ensure};

/// What a set of artefacts says of one watch, as a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// The watch.
    pub watch: String,
    /// The first artefact of it that is there.
    pub from: u64,
    /// The last.
    pub to: u64,
    /// The digest of the last: it stands for all those before it.
    pub receipt_hash: String,
    /// Those between that are not there: first and last of each gap. What comes behind a gap is not linked to what comes
    /// before it.
    pub missing: Vec<(u64, u64)>,
    /// The settlement, if it is there.
    pub settled: Option<u64>,
    /// Its outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

impl History {
    /// Whether all its artefacts are there, from the first to its settlement, or beyond. Nobody can tell whether there are more
    /// behind the last.
    pub fn is_complete(&self) -> bool {
        self.from == 1 && self.missing.is_empty() && self.settled.is_some()
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_complete() { "complete" } else { "incomplete" };
        write!(f, "{word} {}: artefacts {} to {}", plain(&self.watch), self.from, self.to)?;
        let before = (self.from > 1).then(|| (1, self.from - 1));
        for (n, (first, last)) in before.iter().chain(&self.missing).enumerate() {
            f.write_str(if n == 0 { ", missing " } else { " and " })?;
            if first == last { write!(f, "{first}")? } else { write!(f, "{first} to {last}")? }
        }
        match (self.settled, self.outcome) {
            (Some(index), Some(outcome)) => write!(f, ", settled by {index}: {outcome}")?,
            _ => f.write_str(", not settled by any of them")?,
        }
        if let Some(reason) = self.reason {
            write!(f, " ({reason})")?;
        }
        write!(f, ", the last is {}", self.receipt_hash)
    }
}

/// Checks the chains of the watches whose artefacts these are, in the order of the watches' names. The same artefact may be
/// there more than once.
pub fn check<'a>(artefacts: impl IntoIterator<Item = &'a Artefact>) -> Vec<Result<History, Wrong>> {
    let mut watches: BTreeMap<&str, Vec<&Artefact>> = BTreeMap::new();
    for artefact in artefacts {
        watches.entry(artefact.watch.as_str()).or_default().push(artefact);
    }
    watches.into_values().map(|mut artefacts| one(&mut artefacts)).collect()
}

fn one(artefacts: &mut Vec<&Artefact>) -> Result<History, Wrong> {
    artefacts.sort_by(|a, b| (a.index, &a.receipt_hash).cmp(&(b.index, &b.receipt_hash)));
    artefacts.dedup_by(|a, b| (a.index, &a.receipt_hash) == (b.index, &b.receipt_hash));
    let (Some(first), Some(last)) = (artefacts.first(), artefacts.last()) else {
        return Err(Wrong::new(Code::HashChain, "a chain of nothing"));
    };
    let asked =
        |one: &Artefact| receipt::request(&one.network, (&one.subject, &one.terms), &one.binding).to_canonical();
    let terms = asked(first);
    let mut missing = Vec::new();
    for pair in artefacts.windows(2) {
        let [before, after] = pair else { continue };
        missing.extend(link(before, after)?);
        ensure(asked(after) == terms, Code::ChainTerms, || {
            format!("artefact {} of watch {} tells other terms than artefact {}", after.index, after.watch, first.index)
        })?;
    }
    let settled = settled(artefacts)?;
    let settlement = artefacts.iter().find(|artefact| settled == Some(artefact.index));
    Ok(History {
        watch: first.watch.to_string(),
        from: first.index,
        to: last.index,
        receipt_hash: last.receipt_hash.clone(),
        missing,
        settled,
        outcome: settlement.and_then(|settlement| settlement.outcome()),
        reason: settlement.and_then(|settlement| settlement.reason()),
    })
}

/// Whether one artefact follows another; the gap between them, if there is one.
fn link(before: &Artefact, after: &Artefact) -> Result<Option<(u64, u64)>, Wrong> {
    let (watch, index) = (&after.watch, after.index);
    ensure(before.index < index, Code::Fork, || {
        format!("two different artefacts {index} of watch {watch}: {} and {}", before.receipt_hash, after.receipt_hash)
    })?;
    if before.index + 1 < index {
        return Ok(Some((before.index + 1, index - 1)));
    }
    ensure(after.previous.as_ref() == Some(&before.receipt_hash), Code::HashChain, || {
        format!("artefact {index} of watch {watch} does not name the artefact before it, {}", before.receipt_hash)
    })?;
    Ok(None)
}

/// The place of the one settlement: nothing before it is of a settled watch, all behind it is.
fn settled(artefacts: &[&Artefact]) -> Result<Option<u64>, Wrong> {
    let (mut settled, mut is_settled, mut last) = (None, false, 0);
    for artefact in artefacts {
        let (watch, index) = (&artefact.watch, artefact.index);
        let wrong = |said: &str| Wrong::new(Code::ChainSettlement, format!("artefact {index} of watch {watch} {said}"));
        let says_so = artefact.state == State::Settled;
        if artefact.settlement().is_some() {
            if is_settled {
                return Err(wrong("settles it once more"));
            }
            settled = Some(index);
        } else if is_settled && !says_so {
            return Err(wrong("takes back that it is settled"));
        } else if says_so && !is_settled && last + 1 == index {
            // The settlement is not in a gap either.
            return Err(wrong("says that it is settled, and nothing settled it"));
        }
        (is_settled, last) = (is_settled || says_so, index);
    }
    Ok(settled)
}
