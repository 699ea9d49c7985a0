//! Chance that can be repeated: a test that fails says its seed, and `H402_SEED` runs it again.

use std::io::Write as _;

pub struct Random {
    seed: u64,
    state: u64,
}

impl Drop for Random {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "run it again with H402_SEED={}", self.seed);
        }
    }
}

impl Random {
    /// Of the seed that the environment names, or of a new one.
    pub fn fresh() -> Self {
        let seed = std::env::var("H402_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| super::client::now_ms() | 1);
        Self { seed, state: seed }
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        // xorshift64 (Marsaglia 2003)
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % bound
    }
}
