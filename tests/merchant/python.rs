//! The same from a client in another language, generated from proto/ alone.

use std::process::Command;

use futures_util::future::join_all;

use crate::payers::{Customer, Town};
use crate::{AMOUNT, invoice};

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_follows_watches_on_each_network() {
    let town = Town::build().await;
    let customers = town.customers();
    let sales = join_all(customers.iter().map(|customer| sell(&town, customer)));
    for said in town.during(sales).await {
        // Not every chain has a mempool.
        let lines: Vec<_> = said.lines().filter(|line| *line != "seen").collect();
        assert_eq!(lines[..lines.len() - 1], ["included", "settled", &format!("success {AMOUNT}")], "{said}");
        let refused = "INVALID_ARGUMENT watch.terms.amount: expected decimal digits";
        assert!(lines[lines.len() - 1].starts_with(refused), "{said}");
    }
}

/// What it printed.
async fn sell(town: &Town, customer: &Customer<'_>) -> String {
    let python = crate::support::devnet().join("python/bin/python");
    assert!(python.exists(), "no Python environment in {}: run `make python` first", python.display());
    let invoice = invoice(customer).await;
    let tx = customer.pay(&invoice.pay_to, invoice.amount).await;
    let root = env!("CARGO_MANIFEST_DIR");
    let grpc = town.service.grpc();
    let mut merchant = Command::new(python);
    merchant
        .arg(format!("{root}/tests/python/merchant.py"))
        .args([&format!("{root}/proto"), grpc.trim_start_matches("http://")])
        .args([&invoice.network, &invoice.asset, &tx, &invoice.pay_to, &AMOUNT.to_string(), "2"]);
    let ended = tokio::task::spawn_blocking(move || merchant.output());
    let output = ended.await.expect("joins").expect("runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}
