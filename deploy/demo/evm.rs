//! Payments on an EVM chain.

use serde_json::json;

use crate::DEPTH;
use crate::show::Show;
use crate::support::anvil::{Anvil, OTHER, PAYER, THIRD, shop};
use crate::support::client::{Client, address, now_ms, spec, tx, with};

/// The chain, and what the story has to come back to.
pub struct Evm {
    pub anvil: Anvil,
    token: String,
    slow: String,
    lost: String,
}

impl Evm {
    pub async fn start() -> Self {
        let anvil = Anvil::manual().await;
        let token = anvil.token("TestERC20").await;
        Self { anvil, token, slow: String::new(), lost: String::new() }
    }

    /// What is paid and watched before the first block.
    pub async fn open(&mut self, client: &mut Client, show: &mut Show) {
        let anvil = &self.anvil;
        let native = anvil.pay(&shop(1), 1_000).await;
        let erc20 = anvil.pay_token(&self.token, &shop(2), 2_500_000).await;
        let short = anvil.pay(&shop(4), 900).await;
        let twice = anvil.pay(&shop(5), 500).await;
        self.slow = anvil.send(json!({ "from": OTHER, "to": shop(6), "value": "0x258", "gas": "0x5208" })).await;
        let never = format!("0x{}", "e1".repeat(32));
        let in_token = with(spec(tx(&erc20), &shop(2), 2_500_000, DEPTH), |terms| terms.asset.clone_from(&self.token));
        let soon = with(spec(tx(&never), &shop(8), 800, DEPTH), |terms| terms.deadline_ms = now_ms() + 9_000);
        let paid: &[&str] = &["settled:success"];
        let watches = [
            ("native payment", "1000 wei by hash", paid, spec(tx(&native), &shop(1), 1_000, DEPTH)),
            ("ERC-20 payment", "2.5 TST by hash", paid, in_token),
            ("to an address only", "300 wei to a fresh address", paid, spec(address(), &shop(3), 300, DEPTH)),
            (
                "underpaid",
                "1000 wei, 900 sent",
                &["settled:partial:underpaid"],
                spec(tx(&short), &shop(4), 1_000, DEPTH),
            ),
            ("one hash, first use", "500 wei by hash", paid, spec(tx(&twice), &shop(5), 500, DEPTH)),
            (
                "one hash, second use",
                "the same transfer",
                &["settled:failed:already_claimed"],
                spec(tx(&twice), &shop(5), 499, DEPTH),
            ),
            (
                "replaced",
                "600 wei, then sent elsewhere",
                &["settled:failed:replaced"],
                spec(tx(&self.slow), &shop(6), 600, DEPTH),
            ),
            ("never comes", "800 wei within 9 s", &["settled:failed:deadline_passed"], soon),
        ];
        for (title, asks, expected, asked) in watches {
            show.open(client, (title, asks), expected, asked).await;
        }
    }

    /// The sender changes its mind.
    pub async fn replace(&self) {
        self.anvil.replace(&self.slow, THIRD, 600).await;
    }

    /// What happens in this second, and the block at its end.
    pub async fn second(&mut self, second: u32, client: &mut Client, show: &mut Show) {
        let anvil = &self.anvil;
        match second {
            2 => drop(anvil.pay(&shop(3), 100).await),
            3 => drop(anvil.pay(&shop(3), 200).await),
            6 => {
                let hash = anvil.send(json!({ "from": PAYER, "to": shop(7), "value": "0x2bc", "gas": "0x5208" })).await;
                self.lost = anvil.raw(&hash).await;
                let asked = spec(tx(&hash), &shop(7), 700, DEPTH);
                let expected = &["orphaned", "settled:success"];
                show.open(client, ("reorged out and back", "700 wei by hash"), expected, asked).await;
            }
            // The last two blocks are mined anew, without the payment; it comes back two blocks later.
            8 => drop(anvil.call("anvil_reorg", json!([2, []])).await),
            10 => drop(anvil.call("eth_sendRawTransaction", json!([self.lost])).await),
            _ => {}
        }
        anvil.mine(1).await;
    }
}
