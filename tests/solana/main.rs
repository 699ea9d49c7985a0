//! Black-box tests of Solana: the service as its own process, against a real node with blocks of its own, and against a scripted
//! one for what a real one won't do.
//!
//! Edge cases of Solana (numbers as in the project's research notes), and the tests that hold each:
//!
//! | # | case | test |
//! |---|---|---|
//! | 1 | confirmed, then finalized | `outcomes::a_payment_is_included_settled_and_final` |
//! | 2 | watched when it is long since final | `look_ups::a_transaction_that_is_final_long_since_is_found_at_once`, `statuses::a_transaction_that_is_final_long_since_is_found` |
//! | 3 | subscribed to after it landed | not offered: no signature is subscribed to. New slots are, and each only hastens a poll |
//! | 4 | landed with an error | `outcomes::what_failed_on_the_chain_is_told_with_its_error` |
//! | 5 | an error, and balances that look right | `statuses::what_failed_pays_nothing_whatever_its_balances_say` |
//! | 6 | dropped, its last block passes | `outcomes::a_dropped_transaction_expires_with_the_first_final_block_above_its_last` |
//! | 7 | lands in its last block, statuses lag | `outcomes::what_lands_in_its_last_block_has_not_expired`, `edges::what_lands_last_has_not_expired_though_its_status_lags` |
//! | 8 | expired, and lands after all | `outcomes::what_lands_after_it_was_said_to_expire_is_late` |
//! | 9 | a durable nonce | `outcomes::a_durable_nonce_expires_by_use_and_not_by_height` |
//! | 10 | the deadline before the chain's verdict | `outcomes::a_deadline_decides_and_what_lands_later_is_late` |
//! | 11 | confirmed, unknown, confirmed again | `statuses::a_status_that_goes_and_comes_changes_nothing` |
//! | 12 | confirmed on a fork; in another slot again, or gone | `outcomes::a_payment_that_lands_again_after_a_fork_is_told_anew`, `outcomes::a_payment_that_a_fork_took_is_gone`, `slots::a_payment_that_moves_to_another_slot_is_told_anew` |
//! | 13 | processed on a fork that is dropped | `statuses::what_was_only_processed_is_evicted_when_its_fork_is_dropped` |
//! | 14, 15 | its transaction can't be read, for a while or for ever | `statuses::a_transaction_that_can_not_be_read_yet_is_late_and_not_lost` |
//! | 16 | the payment makes the account | `received::the_first_payment_to_a_token_account_counts` |
//! | 17 | a token withholds a fee | `received::a_withheld_fee_is_not_received` |
//! | 18 | the wrong mint | `received::another_asset_is_no_payment` |
//! | 19, 20 | another account than the associated one; no owner among the keys | `received::whose_account_it_is_counts_and_not_which` |
//! | 21 | several transfers in a transaction, several watches for one | `received::transfers_of_one_transaction_are_summed_for_each_payee`, `outcomes::a_transfer_pays_one_watch` |
//! | 22 | an inner transfer | `received::an_inner_transfer_counts` |
//! | 23 | received and sent on at once | `received::what_is_forwarded_at_once_is_not_received` |
//! | 24 | the payee pays the fee | `received::a_payee_that_pays_the_fee_receives_all` |
//! | 25 | wrapped SOL | `received::wrapped_sol_and_sol_are_kept_apart`, `addresses::ones_own_lamports_out_of_a_closed_token_account_are_no_payment` |
//! | 26 | an account is closed | `addresses::a_token_account_that_is_closed_is_a_loss_to_its_owner` and the one above it; scripted, because the development node leaves the closed account out of the balances before |
//! | 27 | the largest amounts, odd decimals | `edges::amounts_are_exact_whatever_the_decimals` |
//! | 28 | versions of transactions | `received::all_versions_of_transactions_are_read`, `edges::a_version_of_transactions_that_is_yet_to_come_is_read`. There is no ceiling to set: the highest is always asked for |
//! | 29 | one unreadable version in a block | `edges::a_version_of_transactions_that_is_yet_to_come_is_read` |
//! | 30 | skipped slots | `slots::skipped_slots_are_passed_over_and_count_for_no_depth`, `slots::a_thousand_slots_without_a_block_are_passed_over` |
//! | 31 | a block is withheld, or not listed | `slots::a_block_that_is_not_given_out_is_waited_for`, `slots::a_block_that_is_not_listed_is_found_by_its_child` |
//! | 32 | pruned | `slots::blocks_that_were_pruned_are_told_of_and_read_elsewhere`, `faults::what_one_node_has_pruned_another_tells` |
//! | 33, 34 | the WebSocket dies, or is half open | `faults::a_web_socket_that_is_silent_dead_or_wrong_costs_nothing`, `faults::announced_slots_are_read_at_once` |
//! | 35 | notifications twice, out of order, for a wrong slot | `faults::a_web_socket_that_is_silent_dead_or_wrong_costs_nothing`, of slots: nothing else is subscribed to |
//! | 35b | blockSubscribe without its block | not offered: no block is subscribed to |
//! | 35c | a subscription of more than 4,096 bytes | never sent: slotSubscribe has no parameters |
//! | 36 | one of many subscriptions is refused | there is one for each endpoint, and polls go on beneath it: `faults::a_web_socket_that_is_silent_dead_or_wrong_costs_nothing` has it refused |
//! | 37 | 429, 503, HTML, half an answer, errors | `faults::failing_requests_delay_and_lose_nothing`, `faults::a_node_that_names_a_time_is_left_alone_until_then` |
//! | 38 | behind, or going back | `faults::a_node_that_lags_or_stands_still_is_passed_over`, `faults::methods_that_lag_behind_each_other_lose_nothing` |
//! | 39 | slots run ahead of heights | `edges::slots_without_blocks_expire_nothing`. Not by surfnet_timeTravel: blocks that were never made are listed and given out after it, with heights that follow the slots |
//! | 40 | the cluster stands still | `outcomes::no_deadline_passes_while_the_clock_of_the_chain_is_stopped`, `faults::no_deadline_passes_while_the_cluster_stands_still` |
//! | 41 | a cursor that a node does not know | none is kept: histories are read downwards, each page from a signature that the same node told just before, and claims are made once. `addresses::what_was_paid_before_is_found_page_by_page` |
//! | 42 | more signatures than a page holds | `addresses::what_was_paid_before_is_found_page_by_page` |
//! | 43 | several in one slot | `received::payments_add_up_within_a_slot_and_over_slots` |
//! | 44 | sent twice, watched twice | `outcomes::the_same_transaction_twice_is_one_payment`, `outcomes::a_transfer_pays_one_watch` |
//! | 45 | a reference is spammed | `bindings::a_reference_that_is_spammed_finds_its_payment` |
//! | 46 | memos, and references | `bindings::a_memo_must_be_there_as_it_was_asked_for`, `bindings::all_references_must_be_named`, `bindings::a_bound_watch_comes_before_an_older_one_that_is_not`, `edges::a_memo_of_an_inner_instruction_counts` |
//! | 47 | invalid input | `look_ups::what_solana_has_no_meaning_for_is_refused`. A wallet that is another program's account, or another mint, is not told from one: a payment may be made to any address |
//! | 48 | more than 256 signatures | `statuses::more_than_256_signatures_are_asked_for_in_several_calls`. A bad one is refused before it is asked for: 47 |
//! | 49 | another cluster | `faults::a_node_of_another_cluster_is_refused` |
//! | 50 | a crash between writing and telling | `outcomes::a_restart_loses_nothing_and_repeats_nothing`; under load in tests/nodes/recovery.rs: no family has a part in it |
//! | 51 | a great many watches | `requests::ten_thousand_signatures_cost_one_block_per_slot`, `requests::few_signatures_cost_headers_and_one_call_for_their_statuses`: the cost is by blocks and not by watches |
//! | 52 | the slot time changes | nothing is scheduled by it: polls have their own period, and the tests above seal slots at any pace |
//! | 53 | final at once | `edges::what_is_final_at_once_is_told_in_order` |
//! | 54 | endpoints disagree | `faults::with_a_quorum_one_node_decides_nothing` and the two below it |
//!
//! What goes wrong in the projects that the notes compare, by their numbers:
//!
//! | # | defect | test |
//! |---|---|---|
//! | 1 | h402: any mint pays, a first payment does not, and one signature pays every request | `received::another_asset_is_no_payment`, `received::the_first_payment_to_a_token_account_counts`, `bindings::a_payment_for_one_order_is_none_for_another` |
//! | 2 | h402: what was sent is settled | `outcomes::a_payment_is_included_settled_and_final`, `outcomes::a_dropped_transaction_expires_with_the_first_final_block_above_its_last` |
//! | 3 | h402: given up after 25 s; new versions are not read | `look_ups::a_transaction_that_is_final_long_since_is_found_at_once`, `received::all_versions_of_transactions_are_read` |
//! | 4 | x402 and others: the error is not looked at | `outcomes::what_failed_on_the_chain_is_told_with_its_error` |
//! | 5 | x402-rs: waits for ever for what was dropped, or fails with its WebSocket | `outcomes::a_dropped_transaction_expires_with_the_first_final_block_above_its_last`, `faults::a_web_socket_that_is_silent_dead_or_wrong_costs_nothing` |
//! | 6 | Helius: asks without a pause while it is processed | `edges::what_is_only_processed_is_polled_and_no_more` |
//! | 7 | Kora: the gross amount of a token with a fee is credited | `received::a_withheld_fee_is_not_received` |

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod bindings;
mod edges;
mod faults;
mod harness;
mod look_ups;
mod outcomes;
mod received;
mod requests;
mod slots;
mod statuses;

use h402_watch_proto::v1;
use serde_json::Value;
use solana_address::Address;
use support::agave::Agave;
use support::client::{Client, spec, with};
use support::service::{Service, Setup};
use support::solana::Solnode;
use support::solana::draft::Mint;

const BINARY: &str = env!("CARGO_BIN_EXE_h402-watch");

/// A scripted node with some blocks, the service on it, and a client.
async fn scripted() -> (Agave, Service, Client) {
    scripted_with(|_| {}).await
}

/// The same with another configuration.
async fn scripted_with(change: impl FnOnce(&mut Setup)) -> (Agave, Service, Client) {
    let node = Agave::start().await;
    node.produce(40);
    let mut setup = Setup::solana(&node.network(), &[(node.http(), None)]);
    change(&mut setup);
    let service = Service::start(BINARY, setup).await;
    let client = service.client().await;
    (node, service, client)
}

/// A real node that seals slots when it is told to, the service on it, and a client.
async fn world() -> (Solnode, Service, Client) {
    world_on(Solnode::manual().await).await
}

/// The same on this node.
async fn world_on(node: Solnode) -> (Solnode, Service, Client) {
    let service = Service::start(BINARY, Setup::solana(&node.network(), &[(node.http(), Some(node.ws()))])).await;
    let client = service.client().await;
    (node, service, client)
}

/// Seals slots, and waits until the service has read them.
async fn seal(node: &Solnode, client: &mut Client, n: u64) {
    node.slot(n).await;
    client.head(node.height().await).await;
}

/// A watch for SOL that settles once it is confirmed.
fn asks(subject: v1::watch_spec::Subject, pay_to: &Address, amount: u64) -> v1::WatchSpec {
    tagged(subject, &pay_to.to_string(), amount, v1::FinalityTag::Confirmed)
}

/// The same for a token.
fn in_token(mint: &Mint, spec: v1::WatchSpec) -> v1::WatchSpec {
    with(spec, |terms| terms.asset = mint.address.to_string())
}

fn exactly(spec: v1::WatchSpec) -> v1::WatchSpec {
    with(spec, |terms| terms.set_amount_rule(v1::AmountRule::Exact))
}

/// The transaction of the last `included` of a watch.
async fn included(client: &mut Client, id: &str) -> Value {
    let last = client.receipts(id).await.into_iter().rev().find(|receipt| receipt.kind == "included");
    last.expect("it was included").artefact["transaction"].take()
}

/// The settlement of a watch.
async fn settlement(client: &mut Client, id: &str) -> Value {
    let settled = client.receipts(id).await.into_iter().find(|receipt| receipt.kind == "settled");
    settled.expect("it is settled").artefact
}

/// What happened, but for `seen`: a status may be there before its block is read, or not.
fn but_seen(story: Vec<String>) -> Vec<String> {
    story.into_iter().filter(|short| short != "seen").collect()
}

/// A watch that settles at a tag.
fn tagged(subject: v1::watch_spec::Subject, pay_to: &str, amount: u64, tag: v1::FinalityTag) -> v1::WatchSpec {
    with(spec(subject, pay_to, amount, 0), |terms| {
        terms.depth = Some(v1::terms::Depth::DepthTag(tag.into()));
    })
}
