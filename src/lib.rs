//! h402-watch.

pub mod api;
pub mod chain;
pub mod cli;
pub mod clock;
pub mod config;
pub mod driver;
pub mod metrics;
pub mod run;
pub mod store;
pub mod telemetry;
