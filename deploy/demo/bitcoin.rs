//! Payments in bitcoin.

use h402_watch_proto::v1;
use h402_watch_proto::v1::watch_spec::Subject;
use serde_json::json;

use crate::DEPTH;
use crate::show::Show;
use crate::support::bitcoind::{Bitcoind, SHOP};
use crate::support::client::{Client, address, spec, tx};

/// The network's name in the demo's configuration.
pub const NAME: &str = "bitcoin-dev";

/// The chain, and what the story has to come back to.
pub struct Bitcoin {
    pub node: Bitcoind,
    bumped: String,
    doubled: String,
    wallet: Vec<String>,
    reorged: String,
}

impl Bitcoin {
    pub async fn start() -> Self {
        let node = Bitcoind::start().await;
        let (bumped, doubled, reorged) = Default::default();
        Self { node, bumped, doubled, wallet: Vec::new(), reorged }
    }

    /// What is paid and watched before the first block.
    pub async fn open(&mut self, client: &mut Client, show: &mut Show) {
        let node = &self.node;
        let shops = [node.address().await, node.address().await, node.address().await];
        let at_once = spec(address(), &shops[0], 50_000, 0);
        show.open(
            client,
            ("bitcoin at once", "50000 sat, unconfirmed will do"),
            &["accepted", "settled:success"],
            on(at_once),
        )
        .await;
        node.pay(&shops[0], 50_000).await;
        self.bumped = node.pay(&shops[1], 60_000).await;
        let bumped = spec(tx(&self.bumped), &shops[1], 60_000, DEPTH);
        show.open(client, ("bitcoin, fee bumped", "60000 sat by txid"), &["replaced", "settled:success"], on(bumped))
            .await;
        let (doubled, raw) = node.raw_payment(&shops[2], 70_000, false).await;
        node.send_raw(&raw).await.expect("accepted");
        let asked = spec(tx(&doubled), &shops[2], 70_000, DEPTH);
        self.doubled = doubled;
        let expected = &["settled:failed:conflicted"];
        show.open(client, ("bitcoin, double-spent", "70000 sat by txid"), expected, on(asked)).await;
        self.watch_wallet(client, show).await;
    }

    /// A wallet's descriptor, and two of its addresses.
    async fn watch_wallet(&mut self, client: &mut Client, show: &mut Show) {
        let listed = self.node.wallet_call(SHOP, "listdescriptors", json!([])).await;
        let all = listed["descriptors"].as_array().expect("descriptors");
        let taproot = |it: &&serde_json::Value| it["desc"].as_str().is_some_and(|it| it.starts_with("tr("));
        let text = all.iter().filter(taproot).find(|it| it["internal"] == false).expect("one")["desc"].clone();
        let addresses = self.node.call("deriveaddresses", json!([text, [0, 9]])).await;
        self.wallet = [3, 8].map(|n| addresses[n].as_str().expect("an address").to_owned()).to_vec();
        let subject = v1::DescriptorSubject { text: text.as_str().expect("text").into(), gap_limit: 6 };
        let asked = spec(Subject::OutputDescriptor(subject), "", 90_000, 1);
        show.open(client, ("bitcoin to a wallet", "90000 sat to its descriptor"), &["settled:success"], on(asked))
            .await;
    }

    /// What happens in this second, and the block at its end.
    pub async fn second(&mut self, second: u32, client: &mut Client, show: &mut Show) {
        let node = &self.node;
        match second {
            1 => {
                // One pays more for the same, the other sends the money back to itself.
                node.bump(&self.bumped).await;
                let (_, raw) = node.double_spend(&self.doubled, &node.payer_address().await, 70_000, true).await;
                node.send_raw(&raw).await.expect("accepted");
                // So that the mempool is looked at before a block takes them.
                tokio::time::sleep(std::time::Duration::from_millis(400)).await;
            }
            3 => drop(node.pay(&self.wallet[0], 40_000).await),
            5 => drop(node.pay(&self.wallet[1], 50_000).await),
            6 => {
                let shop = node.address().await;
                let txid = node.pay(&shop, 80_000).await;
                let asked = spec(tx(&txid), &shop, 80_000, DEPTH);
                let expected = &["orphaned", "settled:success"];
                show.open(client, ("bitcoin, reorged", "80000 sat by txid"), expected, on(asked)).await;
                self.reorged = node.mine(1).await.remove(0);
                return;
            }
            8 => {
                // Two blocks go, three come without the payment, which waits in the mempool.
                node.invalidate(&self.reorged).await;
                node.mine_empty(3).await;
                return;
            }
            _ => {}
        }
        node.mine(1).await;
    }
}

fn on(spec: v1::WatchSpec) -> v1::WatchSpec {
    v1::WatchSpec { network: NAME.into(), ..spec }
}
