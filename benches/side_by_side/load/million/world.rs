//! The service over nodes of its families, and watches of each kind.

use std::time::{Duration, Instant};

use alloy_primitives::{U256, keccak256};
use h402_watch_proto::v1;
use sha2::{Digest as _, Sha256};

use crate::BINARY;
use crate::load::connections;
use crate::process::{Cpu, Memory, memory};
use crate::samples::figure;
use crate::support::agave::Agave;
use crate::support::agave::account::key;
use crate::support::anvil::{Anvil, sprayCall};
use crate::support::bitcoind::{Bitcoind, anybody};
use crate::support::client::{address, now_ms, spec, tx, with};
use crate::support::service::{Service, Setup};

/// Streams that make watches at once.
const STREAMS: u64 = 4;
/// Transactions of a block that pays: anvil's receipts take time that is quadratic in them, and bitcoind's payer has 200 coins.
const EVM_TXS: u64 = 1_000;
const BITCOIN_TXS: u64 = 100;
/// Watches that are to be paid have numbers of their own, so many to a block.
const PER_BLOCK: u64 = 100_000;
/// The service rests once it uses less of a core than this.
const RESTING: f64 = 0.15;
/// The longest that is waited for something to happen.
pub const PATIENCE: Duration = Duration::from_secs(900);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Evm,
    Bitcoin,
    Solana,
}

pub const FAMILIES: [Family; 3] = [Family::Evm, Family::Bitcoin, Family::Solana];

impl Family {
    pub fn name(self) -> &'static str {
        match self {
            Self::Evm => "EVM",
            Self::Bitcoin => "Bitcoin",
            Self::Solana => "Solana",
        }
    }

    /// What watches call its network.
    fn alias(self) -> &'static str {
        match self {
            Self::Evm => "evm",
            Self::Bitcoin => "bitcoin",
            Self::Solana => "solana",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Transactions,
    Addresses,
    /// Half of them each.
    Mixed,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Transactions => "transactions",
            Self::Addresses => "addresses",
            Self::Mixed => "transactions and addresses",
        }
    }
}

pub enum Node {
    /// With a token.
    Evm(Anvil, String),
    Bitcoin(Bitcoind),
    /// Scripted: a block of a real one does not hold ten thousand payments.
    Solana(Agave),
}

impl Node {
    async fn start(family: Family) -> Self {
        match family {
            Family::Evm => {
                let anvil = Anvil::start(&["--no-mining", "--gas-limit", "1000000000"]).await;
                let token = anvil.token("TestERC20").await;
                Self::Evm(anvil, token)
            }
            Family::Bitcoin => Self::Bitcoin(Bitcoind::start().await),
            Family::Solana => {
                let agave = Agave::start().await;
                agave.produce(40);
                Self::Solana(agave)
            }
        }
    }

    pub fn family(&self) -> Family {
        match self {
            Self::Evm(..) => Family::Evm,
            Self::Bitcoin(_) => Family::Bitcoin,
            Self::Solana(_) => Family::Solana,
        }
    }

    /// The transactions of a block with so many payments.
    pub fn txs(&self, count: u64) -> u64 {
        match self {
            Self::Evm(..) => count.min(EVM_TXS),
            Self::Bitcoin(_) => count.min(BITCOIN_TXS),
            Self::Solana(_) => count,
        }
    }

    fn setup(&self) -> Setup {
        let setup = match self {
            Self::Evm(anvil, _) => Setup { horizon_blocks: 128, ..Setup::of(anvil) },
            Self::Bitcoin(node) => Setup::bitcoin(node, Some(node.zmq())),
            Self::Solana(node) => Setup::solana(&node.network(), &[(node.http(), Some(node.ws()))]),
        };
        Setup { alias: self.family().alias(), ..setup }
    }

    /// So many blocks without anything in them; the height of the last.
    pub async fn mine(&self, blocks: u64) -> u64 {
        match self {
            Self::Evm(anvil, _) => {
                anvil.call("anvil_mine", serde_json::json!([format!("{blocks:#x}"), "0x1"])).await;
                anvil.height().await
            }
            Self::Bitcoin(node) => {
                node.mine_empty(blocks).await;
                node.height().await
            }
            Self::Solana(node) => {
                node.produce(blocks);
                // The newest is not confirmed yet.
                node.chain().below(u64::MAX).height - 1
            }
        }
    }

    /// Sends payments to so many watches of a block, not yet mined.
    async fn send(&self, block: u64, count: u64, txs: u64) {
        let each = count.div_ceil(txs);
        match self {
            Self::Evm(anvil, token) => {
                for part in 0..count.div_ceil(each.max(1)) {
                    let call = sprayCall { n: U256::from(each + 1), seed: seed(block, part) };
                    anvil.invoke(token, call, 0).await;
                }
            }
            Self::Bitcoin(node) => {
                let addresses: Vec<_> = (0..count).map(|n| anybody(block * PER_BLOCK + n)).collect();
                for part in addresses.chunks(usize::try_from(each.max(1)).expect("few")) {
                    let payments: Vec<_> = part.iter().map(|address| (address.as_str(), 1_000)).collect();
                    node.pay_many(&payments).await;
                }
            }
            Self::Solana(_) => {}
        }
    }

    /// The block that holds them; when it was there.
    async fn settle(&self, block: u64, count: u64) -> Instant {
        match self {
            Self::Evm(anvil, _) => anvil.mine(1).await,
            Self::Bitcoin(node) => {
                // Named, since a template of the node's own may leave some out.
                let ids = node.mempool().await;
                node.mine_with(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
            }
            Self::Solana(node) => {
                let payer = key("payer");
                let mut chain = node.chain();
                let pays = |n| (solana_address(block * PER_BLOCK + n), 1_000);
                let payments: Vec<_> = (0..count).map(pays).collect();
                let transactions = payments.iter().map(|(to, lamports)| chain.tx(&payer).sol(&payer, to, *lamports));
                let transactions = transactions.collect();
                chain.block(transactions);
                // It is confirmed by the next.
                chain.produce(1);
            }
        }
        Instant::now()
    }

    /// The n-th watch that a block pays.
    fn payable(&self, block: u64, n: u64, each: u64) -> v1::WatchSpec {
        let alias = self.family().alias();
        let (pay_to, asset) = match self {
            Self::Evm(_, token) => {
                // The first of those that are sprayed at gets nothing.
                let word = [seed(block, n / each), U256::from(n % each + 1)].map(|word| word.to_be_bytes::<32>());
                (format!("0x{}", hex::encode(&keccak256(word.concat())[12..])), token.clone())
            }
            Self::Bitcoin(_) => (anybody(block * PER_BLOCK + n), String::new()),
            Self::Solana(_) => (solana_address(block * PER_BLOCK + n), String::new()),
        };
        let asked = with(spec(address(), &pay_to, 1, 1), |terms| {
            terms.asset = asset;
            terms.deadline_ms = now_ms() + 3_600_000;
        });
        v1::WatchSpec { network: alias.into(), ..asked }
    }
}

fn seed(block: u64, part: u64) -> U256 {
    U256::from(block * PER_BLOCK + part)
}

fn digest(of: &str, n: u64) -> [u8; 32] {
    Sha256::digest(format!("{of}{n}")).into()
}

fn solana_address(n: u64) -> String {
    bs58::encode(digest("address", n)).into_string()
}

/// The n-th watch that nobody pays.
pub fn unpaid(families: &[Family], kind: Kind, n: u64, deadline_ms: u64) -> v1::WatchSpec {
    let count = u64::try_from(families.len()).expect("few");
    let at = usize::try_from(n % count).expect("few");
    let family = families[at];
    let of_tx = match kind {
        Kind::Transactions => true,
        Kind::Addresses => false,
        Kind::Mixed => (n / count).is_multiple_of(2),
    };
    let (id, pay_to) = match family {
        Family::Evm => {
            (format!("0x{}", hex::encode(digest("tx", n))), format!("0x{}", hex::encode(&digest("shop", n)[12..])))
        }
        Family::Bitcoin => (hex::encode(digest("tx", n)), anybody(1_000_000_000 + n)),
        Family::Solana => {
            let signature = [digest("tx", n), digest("more", n)].concat();
            (bs58::encode(signature).into_string(), bs58::encode(digest("shop", n)).into_string())
        }
    };
    let subject = if of_tx { tx(&id) } else { address() };
    let asked = with(spec(subject, &pay_to, 1_000_000, 1), |terms| terms.deadline_ms = deadline_ms);
    let binding = v1::Binding { quote_hash: format!("0x{}", hex::encode(digest("quote", n))), ..Default::default() };
    v1::WatchSpec { network: family.alias().into(), binding: Some(binding), ..asked }
}

pub struct World {
    pub service: Service,
    pub nodes: Vec<Node>,
    /// Blocks that were asked to be paid.
    paid: u64,
}

impl World {
    pub async fn start(families: &[Family]) -> Self {
        let mut nodes = Vec::new();
        for family in families {
            nodes.push(Node::start(*family).await);
        }
        let mut setups = nodes.iter().map(Node::setup);
        let first = setups.next().expect("a family");
        let setup = Setup { beside: setups.collect(), ..first };
        let service = Service::start(BINARY, setup).await;
        Self { service, nodes, paid: 0 }
    }

    pub fn memory(&self) -> Memory {
        memory(self.service.pid().expect("it runs"))
    }

    /// Makes the watches from the n-th to before the m-th, some streams at once; how many per second.
    pub async fn open(
        &self,
        numbers: std::ops::Range<u64>,
        asked: impl Fn(u64) -> v1::WatchSpec + Clone + Send + 'static,
    ) -> f64 {
        let (started, count) = (Instant::now(), numbers.end - numbers.start);
        let clients = connections(&self.service.grpc(), usize::try_from(STREAMS).expect("few")).await;
        let streams = (0..STREAMS).zip(clients).map(|(first, mut client)| {
            let (numbers, asked) = (numbers.clone(), asked.clone());
            tokio::spawn(async move {
                let mine = (numbers.start + first..numbers.end).step_by(usize::try_from(STREAMS).expect("few"));
                let requests = mine.map(move |n| v1::CreateWatchRequest { watch: Some(asked(n)) });
                let answers = client.inner.create_watches(futures_util::stream::iter(requests)).await;
                let mut answers = answers.expect("streams").into_inner();
                while let Some(answer) = answers.message().await.expect("goes on") {
                    let made = matches!(answer.result, Some(v1::create_watches_response::Result::Ok(_)));
                    assert!(made, "{answer:?}");
                }
            })
        });
        for ended in futures_util::future::join_all(streams).await {
            ended.expect("no panic");
        }
        figure(count) / started.elapsed().as_secs_f64()
    }

    /// A block where blocks come all the time: a node that has none for seconds is taken for one that stands still, and under
    /// that no deadline passes.
    pub async fn tick(&self) {
        for node in &self.nodes {
            if node.family() == Family::Solana {
                node.mine(1).await;
            }
        }
    }

    /// Waits until the service has nothing to do any more: look-ups of new watches, what its store puts in order.
    pub async fn rest(&self) {
        let (pid, started) = (self.service.pid().expect("it runs"), Instant::now());
        loop {
            let (before, since) = (Cpu::of(pid), Instant::now());
            tokio::time::sleep(Duration::from_secs(1)).await;
            let used = Cpu::of(pid).since(before).all.as_secs_f64() / since.elapsed().as_secs_f64();
            if used < RESTING || started.elapsed() > PATIENCE {
                return;
            }
        }
    }

    /// Opens as many watches as a block is to pay on the n-th node, in so many transactions; which block that is.
    pub async fn ask(&mut self, node: usize, count: u64, txs: u64) -> u64 {
        self.paid += 1;
        let (block, each) = (self.paid, count.div_ceil(txs).max(1));
        let asked: Vec<_> = (0..count).map(|n| self.nodes[node].payable(block, n, each)).collect();
        let asked = std::sync::Arc::new(asked);
        if count > 0 {
            self.open(0..count, move |n| asked[usize::try_from(n).expect("few")].clone()).await;
        }
        self.nodes[node].send(block, count, txs).await;
        block
    }

    /// The block that pays them; when it was there.
    pub async fn pay(&self, node: usize, block: u64, count: u64) -> Instant {
        self.nodes[node].settle(block, count).await
    }
}
