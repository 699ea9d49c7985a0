//! The deciding part of h402-watch: pure, sans-IO.

pub mod amount;
pub mod changes;
pub mod id;
pub mod input;
pub mod request;
pub mod watch;
