//! Solana, over the JSON-RPC of Agave and what behaves like it (research/solana.md).
//!
//! The chain is that of produced blocks: a block's height is how many were produced below it, its parent the block whose hash
//! it names, its slot what nodes find it by. The head is the highest *confirmed* block; what is only processed is `seen`,
//! where it was asked for. Slots
//! without a block are passed over only where the next block names the last one as its parent.
//!
//! What blocks hold is learned in the way that costs less. While nothing but signatures is watched, and few of them, a poll
//! asks for the headers of the new blocks and the statuses of those signatures, 256 in a call; otherwise for the new blocks
//! with the accounts and balances of their transactions, whatever is watched. Value is the change of balances that a block
//! states: of an owner in a mint, or of an account in lamports.
//!
//! The endpoints are those of every JSON-RPC family (`chain/endpoint.rs`): solana-rpc-client's sender sleeps through 429s, has
//! no batches and no bound on an answer, and its types can't read an answer with an error or a version that they don't know.

mod expiry;
mod facts;
mod follow;
mod history;
mod landed;
mod lookup;
mod node;
mod statuses;
mod text;
mod wake;
mod wire;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Mailbox, Reporter, Settings, Source, Start, until_stopped};

pub use facts::read;
pub use text::{FAMILY, NAMESPACE, check_reference};

/// The source of one Solana cluster.
pub struct SolanaSource {
    settings: Settings,
}

impl SolanaSource {
    /// The source of a cluster.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }
}

impl Source for SolanaSource {
    fn run(
        self: Box<Self>,
        start: Start,
        mailbox: Arc<Mailbox>,
        reports: Reporter,
        shutdown: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let follower = follow::Follower::new(self.settings, &start, Arc::clone(&mailbox), reports);
        until_stopped(mailbox, shutdown, follower.run())
    }
}
