//! EVM chains, over JSON-RPC.
//!
//! A head costs one request, and one more while something is watched that only receipts can tell, unless a WebSocket announced
//! it: then both travel in one. What is expected to match is asked for beside it. Everything is fetched by block hash and
//! checked against the header's roots. alloy is the transport and the types; its pending-transaction heartbeat and its
//! fallback layer are not used: the first reports orphaned transactions as confirmed, the second takes the first answer that
//! comes, `null` included.

mod ahead;
mod balance;
mod block;
mod expected;
mod facts;
mod fetch;
mod finality;
mod follow;
mod lookup;
mod pool;
pub mod proof;
mod text;
mod verify;
mod wake;
pub mod wire;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Mailbox, Reporter, Settings, Source, Start, until_stopped};

pub use block::{Executed, InternalTransfer, check_receipts, from_flat, from_frames};
pub use pool::Fetched;
pub use text::FAMILY;

/// The source of one EVM chain.
pub struct EvmSource {
    chain_id: u64,
    settings: Settings,
}

impl EvmSource {
    /// The source of the chain with this id (EIP-155).
    pub fn new(chain_id: u64, settings: Settings) -> Self {
        Self { chain_id, settings }
    }
}

impl Source for EvmSource {
    fn run(
        self: Box<Self>,
        start: Start,
        mailbox: Arc<Mailbox>,
        reports: Reporter,
        shutdown: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let follower = follow::Follower::new(self.chain_id, self.settings, &start, Arc::clone(&mailbox), reports);
        until_stopped(mailbox, shutdown, follower.run())
    }
}
