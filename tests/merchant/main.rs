//! One merchant's script on three networks: what is asked, and what is told, is the same on each.

#[path = "../support/mod.rs"]
mod support;

mod merchant;
mod payers;
mod python;
mod replicas;

use futures_util::future::join_all;
use merchant::{Invoice, Story, sell};
use payers::{Customer, Town};

const BINARY: &str = env!("CARGO_BIN_EXE_h402-watch");
/// Wei, satoshi, lamports, parts of a token; more than what an account on Solana must have to exist.
const AMOUNT: u64 = 2_000_000;

async fn invoice(customer: &Customer<'_>) -> Invoice {
    let (network, asset) = (customer.network().to_owned(), customer.asset());
    Invoice { network, asset, pay_to: customer.shop().await, amount: AMOUNT }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_script_is_told_the_same_on_each_network() {
    let town = Town::build().await;
    let client = town.service.client().await;
    let customers = town.customers();
    let sales = join_all(customers.iter().map(async |customer| {
        let invoice = invoice(customer).await;
        let pays = async || customer.pay(&invoice.pay_to, invoice.amount).await;
        let stories = sell(client.clone(), &invoice, pays).await;
        (invoice, stories)
    }));
    for (invoice, stories) in town.during(sales).await {
        let (paid, nothing) = (AMOUNT.to_string(), "0".to_owned());
        let story = |events: &[&str], outcome: &str, received: &String| Story {
            events: events.iter().map(|&event| event.into()).collect(),
            outcome: outcome.into(),
            received: received.clone(),
            credited: received.clone(),
        };
        let expected = [
            story(&["included", "settled:success"], "success", &paid),
            story(&["included", "settled:success"], "success", &paid),
            story(&["included", "settled:failed:already_claimed"], "failed already_claimed", &nothing),
            story(&["settled:failed:deadline_passed"], "failed deadline_passed", &nothing),
        ];
        assert_eq!(stories, expected, "{} in {}", invoice.network, invoice.asset);
    }
}
