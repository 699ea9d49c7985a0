//! Bitcoin through Electrum servers, for those who have no node of their own.
//!
//! What is watched becomes scripts: a recipient is one; a transaction is followed by one of its outputs, and an output that a
//! payment uses up by its own script, whose history names whoever spends it. At each new tip the status of every script is
//! asked for again, the histories that changed are read, and each entry of a new block is proven against that block's header
//! before the block is reported with it. In between servers announce what changes.
//!
//! What this can't do as a node can, and where it ends:
//! - Requests grow with what is watched: one status for each script and block. At most [`book::SCRIPTS_MAX`] scripts are
//!   followed. Further ones wait, and the look-ups of watches that are made then, so that no deadline passes over those; health
//!   and log say how many. A transaction that comes up only after all room was taken is not followed until there is some.
//! - Headers are recomputed, linked and held to their own work, and `quorum` servers must have them. That a transaction is in
//!   a block is proven. That there is none can't be: a server that is asked can hide transactions, and those in its mempool
//!   are its word.
//! - Below the headers that are kept payments are looked for in [`below::DEEPEST`] blocks; their headers are linked to those.
//! - What is too large for a server to give (ElectrumX: a transaction of more than some 500 kB) is not followed.
//! - Witnesses are the server's word, and with them the wtxid that receipts note: no proof covers them.
//! - A payment is learned of when the server announces it, or at the next poll.
//! - A transaction of which the server gives no history, because it is too long, is not followed by that script.
//! - A server with a certificate of its own making is refused: it is reached through a tunnel, by `tcp://`.

mod below;
mod book;
mod entries;
mod follow;
mod header;
mod lookup;
mod pending;
mod proof;
mod read;
mod server;
mod servers;
mod wire;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bitcoin::Network;
use tokio_util::sync::CancellationToken;

use crate::chain::{Mailbox, Reporter, Settings, Source, Start, until_stopped};

/// The source of one Bitcoin network, through Electrum servers.
pub struct ElectrumSource {
    network: Network,
    settings: Settings,
}

impl ElectrumSource {
    /// The source of a network.
    pub fn new(network: Network, settings: Settings) -> Self {
        Self { network, settings }
    }
}

impl Source for ElectrumSource {
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
