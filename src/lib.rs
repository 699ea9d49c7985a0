//! h402-watch.

pub mod chain;
pub mod driver;
pub mod store;
