//! Black-box tests: the service as its own process, against a real anvil; behind a falsifying proxy only where anvil can't do it.
//!
//! Edge cases of EVM chains (numbers as in the project's research notes), and the test that holds each:
//!
//! | # | case | test |
//! |---|---|---|
//! | 1 | same-height reorg, not mined again | `reorgs::same_height_reorg_is_never_reported_settled` |
//! | 2 | same-height reorg, mined again later | `reorgs::reorged_into_another_block_is_included_again_with_the_new_block` |
//! | 3 | rollback, then growth without the transaction | `reorgs::rollback_freezes_then_orphans_and_never_settles` |
//! | 4 | reorg after the outcome | `reorgs::reorg_after_the_settlement_is_told_and_recovers` |
//! | 5 | the fork flips back | `faults::a_fork_that_flips_back_ends_where_it_began` |
//! | 6 | deeper than what is kept; below finalized | `reorgs::reorg_deeper_than_the_horizon_halts_the_network`, `reorgs::reorg_below_the_finalized_block_halts_the_network` |
//! | 7 | success on one branch, reverted on the other | `reorgs::a_status_that_flips_in_a_reorg_counts_as_it_is_at_the_depth` |
//! | 8 | repriced, cancelled, replaced | `outcomes::replaced_by_one_that_still_pays_is_followed`, `outcomes::replaced_by_one_that_does_not_pay_fails_once_that_is_deep_enough` |
//! | 9 | replacement mined, reorged, original mined | `faults::a_replacement_that_is_reorged_away_is_withdrawn` |
//! | 10 | dropped from the pool, broadcast again | `outcomes::evicted_from_the_mempool_goes_back_to_pending_and_can_return` |
//! | 11 | never broadcast | `outcomes::deadline_with_nothing_received_fails` |
//! | 12 | unknown to one node, known to another | `faults::a_transaction_that_only_one_node_knows_is_seen` |
//! | 13 | several watches on one hash | `reorgs::several_watches_on_one_hash_all_resolve` |
//! | 14 | watch made after inclusion, after finality | `outcomes::a_watch_made_after_its_transaction_was_mined_has_the_same_result` |
//! | 15 | deadline while the depth is awaited | `outcomes::deadline_while_included_too_shallow_fails_or_extends_as_asked`, and late money: `outcomes::late_after_a_failed_outcome` |
//! | 16 | head from one node, receipts missing at it | `faults::receipts_that_a_node_does_not_have_are_asked_of_another`, `faults::receipts_that_come_later_delay_the_outcome_and_not_the_inclusion` |
//! | 17 | tampered receipts and bodies | `faults::tampered_receipts_are_refused`, `faults::a_lone_liar_delays_and_never_pays`, `faults::a_falsified_value_is_refused` |
//! | 18 | two endpoints on different forks for ever | `faults::endpoints_on_different_forks_hold_the_network` |
//! | 19 | stuck, or ahead by a fake 10^9 | `faults::stuck_and_boastful_endpoints_are_passed_over` |
//! | 20 | another chain after failover | `faults::an_endpoint_of_another_chain_is_quarantined` |
//! | 21 | WebSocket cut for a second | `faults::a_lost_websocket_second_loses_no_log` |
//! | 22 | WebSocket alive and silent | `faults::a_silent_websocket_is_noticed` |
//! | 23 | frames that are no JSON-RPC | `faults::garbage_on_the_websocket_does_not_matter` |
//! | 24 | 429, 403 on one method, HTML | `faults::limits_refusals_and_html_are_passed_over`, `faults::block_receipts_that_are_not_offered_are_fetched_one_by_one` |
//! | 25 | slow receipts | `faults::slow_receipts_do_not_hold_back_inclusion` |
//! | 26 | empty block, very many logs | `faults::a_block_of_20_000_logs`. Not 10,000 transactions: anvil 1.7.1 gives no answer for their receipts (quadratic) |
//! | 27 | odd tokens | `transfers::erc20_with_and_without_return_value`, `a_token_that_takes_a_fee_credits_what_arrived`, `a_fake_token_pays_nobody_who_did_not_ask_for_it`, `logs_of_another_shape_are_no_transfers`, `a_transfer_of_zero_is_no_payment`. A fee that the token hides in its own log is not found: only balances would tell, and the README says so |
//! | 28 | EIP-3009: relayed, replayed, expired | `transfers::an_authorization_is_followed_whoever_submits_it`, `transfers::an_authorization_past_its_valid_before_is_expired` |
//! | 29 | one pays several, several pay one | `transfers::one_transaction_may_pay_several`, `transfers::several_transactions_add_up` |
//! | 30 | native coin from contracts | `transfers::contract_payments_are_found_by_trace`, `transfers::contract_payments_are_found_by_balance_where_nothing_traces` |
//! | 31 | paid and spent in one block | `transfers::what_an_address_spends_in_the_same_block_does_not_lessen_what_it_received` |
//! | 32 | a receipt of a block to come | `faults::a_transaction_in_a_block_to_come_is_not_included_yet` |
//! | 33 | `finalized` null, moving back | `faults::finality_only_moves_up` |
//! | 34 | kill −9 in each step | `recovery::kill_9_thirty_times_under_load_fjall`, `recovery::kill_9_ten_times_under_load_sled` |
//! | 35 | reorg while down | `reorgs::reorg_while_the_service_is_down` |
//! | 36 | corrupted tail, full disk | `a_damaged_tail_is_cut_or_refused`, `after_a_failed_commit_nothing_more_is_written_invariant_3` (tests/store.rs), `a_failed_commit_ends_the_driver` (tests/driver.rs) |
//! | 37 | requests constant in the number of watches | `faults::requests_per_block_do_not_grow_with_watches`, with 10,000. A million, and memory, belong to the benchmarks |
//! | 38 | odd numbers, missing fields, unknown kinds | `answers_are_read_tolerantly` (tests/parsers.rs) |

#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod faults;
mod heads;
mod outcomes;
mod proofs;
mod recovery;
mod reorgs;
mod service;
mod signatures;
mod transfers;
mod verifies;

use support::anvil::Anvil;
use support::client::Client;
use support::service::{Service, Setup};

const BINARY: &str = env!("CARGO_BIN_EXE_h402-watch");

/// An anvil that mines when it is told to, the service on it, and a client.
async fn world() -> (Anvil, Service, Client) {
    let anvil = Anvil::manual().await;
    anvil.mine(3).await;
    let service = Service::start(BINARY, Setup::of(&anvil)).await;
    let client = service.client().await;
    (anvil, service, client)
}

/// The same with another configuration.
async fn world_with(change: impl FnOnce(&mut Setup)) -> (Anvil, Service, Client) {
    let anvil = Anvil::manual().await;
    anvil.mine(3).await;
    let mut setup = Setup::of(&anvil);
    change(&mut setup);
    let service = Service::start(BINARY, setup).await;
    let client = service.client().await;
    (anvil, service, client)
}
