//! Black-box tests of Bitcoin: the service as its own process, against a real bitcoind on regtest; behind a falsifying proxy
//! only where bitcoind can't do it.
//!
//! Edge cases of Bitcoin (numbers as in the project's research notes), and the test that holds each:
//!
//! | # | case | test |
//! |---|---|---|
//! | 1, 2 | paid, unconfirmed; confirmed once | `outcomes::a_payment_is_seen_included_and_settled` |
//! | 3 | first seen in a block | `outcomes::a_payment_first_seen_in_a_block_is_included_straight` |
//! | 4 | a bump that still pays | `outcomes::a_bump_that_still_pays_is_followed` |
//! | 5, 6 | replaced by one that pays somebody else, with and without the signal | `outcomes::a_double_spend_fails_once_it_is_deep_enough` |
//! | 7 | the child of what was replaced | `outcomes::a_child_falls_with_its_replaced_parent` |
//! | 8 | a double spend that was in no mempool | `outcomes::a_double_spend_straight_into_a_block_is_found` |
//! | 9, 10 | a child pays for its parent; the receiver spends at once | `outcomes::what_the_receiver_spends_on_is_a_payment_still` |
//! | 11 | a full mempool drops it | `outcomes::a_payment_that_a_full_mempool_drops_is_evicted` |
//! | 12 | forgotten, and broadcast again | `outcomes::what_a_mempool_forgot_may_return`. Not by waiting 336 hours: to us it is the same |
//! | 13 | broadcasting again ourselves | not offered: this service sends nothing to a chain |
//! | 14 | coinbase | `outcomes::a_coinbase_ripens_before_it_counts`, `reorgs::a_reorged_coinbase_is_gone` |
//! | 15, 24 | reorged into another block, 1, 3 and 10 deep | `reorgs::a_payment_that_moves_starts_anew` |
//! | 16 | the same at its height | `reorgs::a_payment_that_moves_at_its_height_is_told_of` |
//! | 17, 19 | back to the mempool | `reorgs::a_payment_that_returns_to_the_mempool_is_mined_again` |
//! | 18 | double-spent on the other branch | `reorgs::a_payment_that_vanishes_is_never_settled` |
//! | 20 | after the outcome; deeper than what is kept | `reorgs::a_reorg_after_the_settlement_is_told_and_reversed_in_the_end`, `reorgs::a_reorg_deeper_than_the_horizon_halts_the_network` |
//! | 21 | twice while we are down | `reorgs::reorgs_while_the_service_is_down_are_caught_up_with` |
//! | 22 | there and back | `reorgs::a_fork_that_flips_back_ends_where_it_began` |
//! | 23 | the tip goes back | `reorgs::a_tip_that_goes_back_freezes_the_network`: what it held is orphaned by the next block, not by its absence |
//! | 25, 50 | wtxid; amounts | noted, and whole satoshis: `outcomes::a_payment_is_seen_included_and_settled` |
//! | 26, 27, 28 | several transactions, outputs, watches | `outcomes::outputs_and_transactions_add_up` |
//! | 29 | more than asked | `outcomes::more_than_asked_is_enough_unless_it_must_be_exact`. A tolerance below the amount is the client's arithmetic |
//! | 30 | dust | `outcomes::dust_counts`. It is not flagged: the receipt has the amount |
//! | 31 | used before | `look_ups::earlier_payments_count_from_the_height_that_is_named` |
//! | 32 | paid while the watch is made | `look_ups::a_payment_in_the_block_of_the_registration_is_found` |
//! | 33 | deep, without an index | `look_ups::a_transaction_that_is_deep_is_found_while_an_output_is_unspent`, `look_ups::a_spent_transaction_is_found_from_the_height_that_is_named` |
//! | 34, 35, 36 | deadlines, and late money | `outcomes::deadlines_decide_and_late_money_is_told` |
//! | 37 | the deadline passes while the node is down | `faults::a_deadline_is_not_decided_blindly` |
//! | 38 | restarts, warm-up, 401, 503, timeouts | `faults::bitcoind_restarted_in_the_middle`, `faults::timeouts_and_503_delay_and_lose_nothing`, `faults::strangers_and_locked_doors_are_passed_over` |
//! | 39 | two nodes disagree | `faults::two_nodes_have_to_agree_where_a_quorum_is_asked_for`, `faults::a_node_that_lags_holds_nothing_up` |
//! | 40 | ZeroMQ off, silent, with gaps, doubled, out of order | `faults::polling_alone_has_the_same_outcomes` and the four below it |
//! | 41 | the same request twice | tests/nodes/service.rs: no family has a part in it |
//! | 42 | wrong addresses | `outcomes::what_bitcoin_has_no_meaning_for_is_refused`, and src/chain/bitcoin/text.rs |
//! | 43 | scripts without an address | `outcomes::a_bare_script_is_watched_by_its_bytes` |
//! | 44 | descriptors and their gap | `look_ups::a_descriptor_is_watched_within_its_gap` |
//! | 45 | a package with a free parent | not told apart: each of its transactions is seen when the mempool has it |
//! | 46 | 100,000 addresses and 10,000 transactions | `faults::requests_per_block_do_not_grow_with_watches` |
//! | 47 | a block with 500 hits | `faults::a_block_with_500_payments_is_taken_whole` |
//! | 48 | odd block times | a time to come counts as now (tests/engine); receipts name the block, whose header has the time |
//! | 49 | the same coinbase on both branches | `reorgs::the_same_coinbase_in_both_branches_moves` |

#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod electrum;
mod faults;
mod look_ups;
mod outcomes;
mod proofs;
mod reorgs;

use serde_json::json;
use support::bitcoind::{Bitcoind, coins};
use support::client::Client;
use support::service::{Service, Setup};

const BINARY: &str = env!("CARGO_BIN_EXE_h402-watch");

/// A bitcoind that mines when it is told to, the service on it, and a client.
async fn world() -> (Bitcoind, Service, Client) {
    world_with(&[], |_| {}).await
}

/// The same with more arguments for bitcoind, and another configuration.
async fn world_with(arguments: &[&str], change: impl FnOnce(&mut Setup)) -> (Bitcoind, Service, Client) {
    let node = Bitcoind::with(arguments).await;
    let mut setup = Setup::bitcoin(&node, Some(node.zmq()));
    change(&mut setup);
    let service = Service::start(BINARY, setup).await;
    let client = service.client().await;
    (node, service, client)
}

/// A signed transaction of one wallet that spends an output of another transaction; its id and its hex.
async fn spend(node: &Bitcoind, wallet: &str, input: (&str, u64), outputs: &[(&str, u64)]) -> (String, String) {
    let outputs: serde_json::Map<_, _> =
        outputs.iter().map(|(to, sats)| ((*to).to_owned(), json!(coins(*sats)))).collect();
    let inputs = json!([{ "txid": input.0, "vout": input.1 }]);
    let raw = node.call("createrawtransaction", json!([inputs, outputs])).await;
    sign(node, wallet, raw.as_str().expect("hex")).await
}

/// Signs a transaction; its id and its hex.
async fn sign(node: &Bitcoind, wallet: &str, raw: &str) -> (String, String) {
    let signed = node.wallet_call(wallet, "signrawtransactionwithwallet", json!([raw])).await;
    assert_eq!(signed["complete"], true, "{signed}");
    let hex = signed["hex"].as_str().expect("hex").to_owned();
    let txid = node.call("decoderawtransaction", json!([hex])).await["txid"].as_str().expect("an id").to_owned();
    (txid, hex)
}

/// Which output of a transaction pays an address.
async fn output_to(node: &Bitcoind, txid: &str, address: &str) -> u64 {
    let raw = node.raw(txid).await;
    let decoded = node.call("decoderawtransaction", json!([raw])).await;
    let outputs = decoded["vout"].as_array().expect("outputs");
    let found = outputs.iter().find(|output| output["scriptPubKey"]["address"] == address);
    found.expect("it pays the address")["n"].as_u64().expect("a number")
}
