//! The other side: nodes, and customers who know how to pay on each.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::BINARY;
use crate::support::anvil::{Anvil, shop, unix_time};
use crate::support::bitcoind::Bitcoind;
use crate::support::service::{Service, Setup};
use crate::support::solana;
use crate::support::solana::Solnode;
use crate::support::solana::draft::Mint;

/// How often each chain has a block. All of them state the true time, to the second.
const BLOCK_TIME_MS: u64 = 1_000;

/// Three networks, and one service on them.
pub struct Town {
    anvil: Anvil,
    bitcoind: Bitcoind,
    solnode: Solnode,
    erc20: String,
    spl: Mint,
    pub service: Service,
}

impl Town {
    pub async fn build() -> Self {
        Self::build_with("").await
    }

    /// With more sections of the configuration.
    pub async fn build_with(more: &str) -> Self {
        let (anvil, bitcoind, solnode) = tokio::join!(
            // The token takes two blocks before the story.
            Anvil::start_at(unix_time() - 5, &["--no-mining"]),
            Bitcoind::start(),
            Solnode::manual_of(BLOCK_TIME_MS)
        );
        let (erc20, spl) = (anvil.token("TestERC20").await, solnode.mint(6).await);
        let block_time_ms = BLOCK_TIME_MS;
        let bitcoin = Setup { alias: "bitcoin", block_time_ms, ..Setup::bitcoin(&bitcoind, Some(bitcoind.zmq())) };
        let endpoint = (solnode.http(), Some(solnode.ws()));
        let solana = Setup { alias: "solana", block_time_ms, ..Setup::solana(&solnode.network(), &[endpoint]) };
        let setup = Setup {
            alias: "evm",
            block_time_ms,
            beside: vec![bitcoin, solana],
            more: more.into(),
            ..Setup::of(&anvil)
        };
        let service = Service::start(BINARY, setup).await;
        Self { anvil, bitcoind, solnode, erc20, spl, service }
    }

    /// Who pays in what.
    pub fn customers(&self) -> [Customer<'_>; 5] {
        [
            Customer::Ether(&self.anvil),
            Customer::Erc20(&self.anvil, &self.erc20),
            Customer::Bitcoin(&self.bitcoind),
            Customer::Sol(&self.solnode),
            Customer::Spl(&self.solnode, &self.spl),
        ]
    }

    /// Each chain has so many blocks more.
    pub async fn blocks(&self, n: u64) {
        tokio::join!(self.anvil.mine(n), self.bitcoind.mine(n), self.solnode.slot(n));
    }

    /// The chains go on while something is done.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let blocks = async {
            let mut clock = tokio::time::interval(Duration::from_millis(BLOCK_TIME_MS));
            clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                clock.tick().await;
                self.blocks(1).await;
            }
        };
        tokio::select! {
            done = work => done,
            () = blocks => unreachable!(),
        }
    }
}

/// Somebody who pays in one asset of one chain.
pub enum Customer<'a> {
    Ether(&'a Anvil),
    Erc20(&'a Anvil, &'a str),
    Bitcoin(&'a Bitcoind),
    Sol(&'a Solnode),
    Spl(&'a Solnode, &'a Mint),
}

impl Customer<'_> {
    pub fn network(&self) -> &'static str {
        match self {
            Self::Ether(_) | Self::Erc20(..) => "evm",
            Self::Bitcoin(_) => "bitcoin",
            Self::Sol(_) | Self::Spl(..) => "solana",
        }
    }

    pub fn asset(&self) -> String {
        match self {
            Self::Ether(_) | Self::Bitcoin(_) | Self::Sol(_) => "native".into(),
            Self::Erc20(_, token) => (*token).into(),
            Self::Spl(_, mint) => mint.address.to_string(),
        }
    }

    /// An address that was never used, of a shop.
    pub async fn shop(&self) -> String {
        match self {
            Self::Ether(_) => shop(1),
            Self::Erc20(..) => shop(2),
            Self::Bitcoin(node) => node.address().await,
            Self::Sol(_) | Self::Spl(..) => solana::shop().to_string(),
        }
    }

    /// Another one, of another shop.
    pub async fn other_shop(&self) -> String {
        match self {
            Self::Ether(_) => shop(3),
            Self::Erc20(..) => shop(4),
            _ => self.shop().await,
        }
    }

    /// Pays; the transaction's name.
    pub async fn pay(&self, to: &str, amount: u64) -> String {
        let wallet = || to.parse().expect("an address");
        match self {
            Self::Ether(anvil) => anvil.pay(to, amount).await,
            Self::Erc20(anvil, token) => anvil.pay_token(token, to, amount).await,
            Self::Bitcoin(node) => node.pay(to, amount).await,
            Self::Sol(node) => node.pay(&wallet(), amount).await,
            Self::Spl(node, mint) => node.pay_token(mint, &wallet(), amount).await,
        }
    }
}
