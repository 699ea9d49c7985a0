//! Black-box tests of Solana, against a real node with blocks of its own.

#[path = "../support/mod.rs"]
mod support;

mod harness;
