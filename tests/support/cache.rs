//! Where development nodes and environments are kept.

use std::path::PathBuf;

/// Outside of `target`, so that they survive a clean.
pub fn devnet() -> PathBuf {
    let cache = || {
        let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        home.join(".cache/h402-watch/devnet")
    };
    std::env::var_os("H402_DEVNET").map_or_else(cache, PathBuf::from)
}
