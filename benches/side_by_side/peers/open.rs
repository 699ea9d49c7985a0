//! Many open watches that nothing matches.

use std::time::Duration;

use h402_watch_proto::v1;

use super::tap::{Counts, Tap};
use crate::support::client::{Client, now_ms};

/// Watches of one stream.
const CHUNK: u64 = 10_000;
/// Blocks in a row that look-ups must be silent for until they count as through: the last that repeats waits for four polls.
const SILENT_BLOCKS: u32 = 6;

/// Gives watches a day, so that none is decided while others are still made.
pub fn for_long(mut spec: v1::WatchSpec) -> v1::WatchSpec {
    if let Some(terms) = &mut spec.terms {
        terms.deadline_ms = now_ms() + 24 * 3_600_000;
    }
    spec
}

/// Makes the watches from the n-th to before the m-th.
pub async fn open(client: &mut Client, numbers: std::ops::Range<u64>, spec: impl Fn(u64) -> v1::WatchSpec) {
    let mut next = numbers.start;
    while next < numbers.end {
        let end = numbers.end.min(next + CHUNK);
        client.create_all((next..end).map(|n| for_long(spec(n))).collect()).await;
        next = end;
    }
}

/// Makes blocks until new watches are looked up no more; how long that took.
pub async fn quiet(tap: &Tap, look_ups: &[&str], mut block: impl AsyncFnMut()) -> Duration {
    let count = |counts: Counts| look_ups.iter().map(|method| counts.of(method)).sum::<u64>();
    let started = std::time::Instant::now();
    let (mut silent, mut before) = (0, count(tap.counts()));
    while silent < SILENT_BLOCKS {
        block().await;
        let now = count(tap.counts());
        silent = if now == before { silent + 1 } else { 0 };
        before = now;
    }
    started.elapsed()
}

/// What is asked for each of so many blocks.
pub async fn cost(tap: &Tap, blocks: u64, mut block: impl AsyncFnMut()) -> Counts {
    let before = tap.counts();
    for _ in 0..blocks {
        block().await;
    }
    tap.counts().since(&before)
}

/// In words: `2.0 calls of eth_getBlockByNumber, 1.0 of trace_block`.
pub fn in_words(counts: &Counts, blocks: u64) -> String {
    let of = |(method, count): (&String, &u64)| {
        format!("{method} {}", crate::report::number(crate::samples::each(*count, blocks)))
    };
    let methods: Vec<_> = counts.methods.iter().map(of).collect();
    format!("calls per block: {}", methods.join(", "))
}
