//! Bitcoin, over bitcoind's JSON-RPC, or through Electrum servers (`electrum`).
//!
//! A block costs two requests, whatever is watched: its hash, and its header with its raw bytes; it is decoded once and
//! matched by scripts, txids and outpoints. The mempool is compared now and then, and heard of by ZeroMQ. An index of
//! transactions is not needed. The endpoints, their limits and their health are those of every JSON-RPC family
//! (`chain/endpoint.rs`): corepc-client has no batches, no bound on an answer and a fixed time limit.

pub mod block;
pub mod descriptor;
mod electrum;
pub mod facts;
mod follow;
mod header;
mod lookup;
mod mempool;
mod node;
pub mod proof;
mod scan;
mod text;
pub mod wake;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bitcoin::Network;
use tokio_util::sync::CancellationToken;

use super::{Mailbox, Reporter, Settings, Source, Start, until_stopped};

pub use electrum::ElectrumSource;
pub use text::{NAMESPACE, family, network};

/// The source of one Bitcoin network.
pub struct BitcoinSource {
    network: Network,
    settings: Settings,
}

impl BitcoinSource {
    /// The source of a network.
    pub fn new(network: Network, settings: Settings) -> Self {
        Self { network, settings }
    }
}

impl Source for BitcoinSource {
    fn run(
        self: Box<Self>,
        start: Start,
        mailbox: Arc<Mailbox>,
        reports: Reporter,
        shutdown: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let follower = follow::Follower::new(self.network, self.settings, &start, Arc::clone(&mailbox), reports);
        until_stopped(mailbox, shutdown, follower.run())
    }
}
