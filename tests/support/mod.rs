//! What black-box tests and the demo share: real nodes, the service as its own process, and a client.

#![allow(dead_code, reason = "each user needs another part")]

pub mod agave;
pub mod anvil;
pub mod bitcoind;
pub mod cache;
pub mod client;
pub mod electrum;
pub mod proofs;
pub mod proxy;
pub mod random;
pub mod service;
pub mod solana;
pub mod zmq;

pub use cache::devnet;

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}
