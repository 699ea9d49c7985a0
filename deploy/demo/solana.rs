//! Payments on Solana.

use h402_watch_proto::v1;
use h402_watch_proto::v1::FinalityTag;
use h402_watch_proto::v1::watch_spec::Subject;
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer as _;

use crate::DEPTH;
use crate::show::Show;
use crate::support::client::{Client, address, spec, tx, with};
use crate::support::solana::draft::{Draft, Mint};
use crate::support::solana::{SOL, Signed, Solnode, shop};

/// The network's name in the demo's configuration.
pub const NAME: &str = "solana-dev";
/// How many slots a second has: one is final after some ten seconds.
pub const SLOTS: u64 = 3;
/// How many slots pass before the story begins. What was signed first is good for some more, out of 150.
const BEFORE: u64 = 140;

/// The chain, and what the story has to come back to.
pub struct Solana {
    pub node: Solnode,
    usd: Mint,
    eur: Mint,
    /// Withholds a hundredth of each transfer.
    withholding: Mint,
    /// Can't pay what it promises.
    poor: Keypair,
    dropped: Signed,
    customer: Address,
    orders: Address,
    forked: Option<Signed>,
}

impl Solana {
    pub async fn start() -> Self {
        let node = Solnode::manual().await;
        let (usd, eur, withholding) = (node.mint(6).await, node.mint(6).await, node.fee_mint(6, 100).await);
        let poor = Keypair::new();
        node.pay(&poor.pubkey(), SOL / 10).await;
        node.slot(1).await;
        let dropped = node.sign(&node.draft().sol(&shop(), SOL / 2)).await;
        node.slot(BEFORE).await;
        let (customer, orders) = (shop(), shop());
        Self { node, usd, eur, withholding, poor, dropped, customer, orders, forked: None }
    }

    /// What is paid and watched before the first slot.
    pub async fn open(&mut self, client: &mut Client, show: &mut Show) {
        let node = &self.node;
        let to = [shop(), shop(), shop(), shop()];
        let sol = node.pay(&to[0], SOL).await;
        let short = node.pay_token(&self.withholding, &to[1], 5_000_000).await;
        let failed = node.send_unchecked(Draft::by(&self.poor).sol(&to[2], SOL)).await;
        let wrong = node.pay_token(&self.eur, &to[3], 7_000_000).await;
        let settles = with(spec(tx(&sol), &to[0].to_string(), SOL, 0), |terms| {
            terms.depth = Some(v1::terms::Depth::DepthTag(FinalityTag::Confirmed.into()));
        });
        let first = spec(address(), &self.customer.to_string(), 25_000_000, DEPTH);
        let expires = v1::TransactionSubject {
            tx: self.dropped.signature.clone(),
            last_valid_height: self.dropped.last_valid_block_height,
            ..Default::default()
        };
        let dropped = spec(Subject::Transaction(expires), &shop().to_string(), SOL / 2, DEPTH);
        let by_signature = |signature: &str, to: &Address, amount| spec(tx(signature), &to.to_string(), amount, DEPTH);
        let underpaid = by_signature(&short, &to[1], 5_000_000);
        let reverted = by_signature(&failed, &to[2], SOL);
        let other_token = by_signature(&wrong, &to[3], 7_000_000);
        let order = with(spec(address(), &self.orders.to_string(), SOL / 4, DEPTH), |terms| {
            terms.memo = "order 42".into();
        });
        let steps: &[&str] = &["included", "settled:success", "finalized"];
        let watches = [
            ("SOL", "1 SOL, confirmed will do", steps, settles),
            ("token, first payment", "25 USD to an address", &["settled:success"], of(&self.usd, first)),
            (
                "token with a fee",
                "5 of a token, 1 % withheld",
                &["settled:partial:underpaid"],
                of(&self.withholding, underpaid),
            ),
            ("landed and failed", "1 SOL by signature", &["settled:failed:reverted"], reverted),
            ("wrong mint", "7 USD, 7 EUR sent", &["settled:failed:wrong_asset"], of(&self.usd, other_token)),
            ("dropped", "0.5 SOL, never sent", &["settled:failed:expired"], dropped),
            ("bound by a memo", "0.25 SOL for order 42", &["settled:success"], order),
        ];
        for (title, asks, expected, asked) in watches {
            show.open(client, (title, asks), expected, on(asked)).await;
        }
    }

    /// What happens in this second, and its slots.
    pub async fn second(&mut self, second: u32, client: &mut Client, show: &mut Show) {
        let node = &self.node;
        match second {
            // Opens the customer's token account, too.
            2 => drop(node.pay_token(&self.usd, &self.customer, 25_000_000).await),
            3 => {
                // As much for nothing in particular, and what is meant.
                node.pay(&self.orders, SOL / 4).await;
                let meant = node.send(node.draft().sol(&self.orders, SOL / 4).memo("order 42")).await;
                let asked = with(spec(tx(&meant), &self.orders.to_string(), SOL / 4, DEPTH), |terms| {
                    terms.memo = "order 41".into();
                });
                let expected = &["settled:failed:memo_mismatch"];
                show.open(client, ("memo of another order", "the same for order 41"), expected, on(asked)).await;
            }
            6 => {
                node.mark().await;
                let to = shop();
                let signed = node.sign(&node.draft().sol(&to, 2 * SOL)).await;
                let signature = node.send_raw(&signed).await.expect("it is good");
                // Deep enough only after the fork.
                let asked = spec(tx(&signature), &to.to_string(), 2 * SOL, 4 * DEPTH);
                let expected = &["included", "orphaned", "settled:success"];
                show.open(client, ("solana, forked", "2 SOL by signature"), expected, on(asked)).await;
                self.forked = Some(signed);
            }
            // These slots come anew, without the payment; it lands again in a later one.
            8 => node.back().await,
            10 => {
                let signed = self.forked.as_ref().expect("it was sent");
                node.send_raw(signed).await.expect("it is good again");
            }
            _ => {}
        }
        node.slot(SLOTS).await;
    }
}

fn of(mint: &Mint, asked: v1::WatchSpec) -> v1::WatchSpec {
    with(asked, |terms| terms.asset = mint.address.to_string())
}

fn on(spec: v1::WatchSpec) -> v1::WatchSpec {
    v1::WatchSpec { network: NAME.into(), ..spec }
}
