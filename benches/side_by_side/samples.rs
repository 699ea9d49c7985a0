//! Times, and what is told of them.

use std::time::Duration;

/// Milliseconds, of many rounds.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn add(&mut self, time: Duration) {
        self.0.push(ms(time));
    }

    pub fn extend(&mut self, times: impl IntoIterator<Item = Duration>) {
        times.into_iter().for_each(|time| self.add(time));
    }

    pub fn median(&self) -> f64 {
        self.quantile(50)
    }

    pub fn p99(&self) -> f64 {
        self.quantile(99)
    }

    /// The smallest time that so many percent of all don't exceed.
    fn quantile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        quantile(&sorted, percent)
    }
}

/// Of figures in order: the smallest that so many percent of them don't exceed.
pub fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A count as a figure. Counts here are far below 2^53.
pub fn figure(count: impl TryInto<u64>) -> f64 {
    let count = count.try_into().unwrap_or(u64::MAX);
    let (high, low) = (count >> 32, count & u64::from(u32::MAX));
    let part = |bits: u64| u32::try_from(bits).map_or(f64::NAN, f64::from);
    part(high) * 4_294_967_296.0 + part(low)
}

/// So many of one for each of the other.
pub fn each(count: u64, of: u64) -> f64 {
    figure(count) / figure(of)
}
