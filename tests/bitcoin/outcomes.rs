//! What becomes of payments, from the mempool to the settlement.

use crate::support::client::{address, spec, tx};
use crate::world;

/// Edge cases 1 and 2: unconfirmed, then confirmed, each told once.
#[tokio::test]
async fn a_payment_is_seen_included_and_settled() {
    let (node, service, mut client) = world().await;
    let shop = node.address().await;
    let to_address = client.create(spec(address(), &shop, 50_000, 2)).await;
    let txid = node.pay(&shop, 50_000).await;
    let to_tx = client.create(spec(tx(&txid), &shop, 50_000, 2)).await;
    for id in [&to_address, &to_tx] {
        client.until(id, "seen").await;
    }
    node.mine(1).await;
    for id in [&to_address, &to_tx] {
        client.until(id, "included").await;
    }
    node.mine(1).await;
    assert_eq!(
        client.until(&to_address, "settled:success").await,
        ["seen", "included", "settled:success"],
        "{}",
        service.log()
    );
}
