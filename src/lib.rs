//! h402-watch: validates payments that the payer broadcasts. This page is the architecture.
//!
//! # Bird's eye
//!
//! ```text
//!  callers ── gRPC ──▶ api ──▶ driver ◀── reports ── chain (one source per network) ◀── nodes
//!                       │        │  ▲                   ▲
//!              reads    │        ▼  │ changes           │ asks
//!                       │      engine (pure)            │
//!                       ▼        │                      │
//!                     store ◀────┴── one commit ── then act
//! ```
//!
//! A client asks for a *watch*. The [driver] is the only writer: it drains a bounded batch of commands and reports, hands
//! them to the engine, commits what changed once (what nobody waits for goes with the next commit), and only then answers callers, asks sources and wakes subscribers. The
//! *engine* (`src/engine`, package `h402_watch_engine`) is a pure state machine: it has no clock, socket or task, and is told
//! facts and the time. A *source* ([chain]) follows one network and reports facts, never opinions. Subscribers read the log
//! from the [store], each from its own place.
//!
//! # Map
//!
//! | where | what |
//! |---|---|
//! | `engine/request`, `input`, `changes` | what the engine is asked, told, and returns |
//! | `engine/create`, `observe`, `settle` | commands; facts and reorgs; outcomes and aftercare |
//! | `engine/judge` | all verdicts: which transfer counts, which outcome follows, what a deadline decides |
//! | `engine/claims`, `heads`, `network` | who owns which transfer; the chain of headers; who waits for what |
//! | `engine/shelf`, `record`, `pages`, `numbers`, `text`, `index` | watches at rest, in the bytes that the store has; what finds them |
//! | `engine/receipt`, `canonical`, `proof` | the artefacts, and RFC 8785; inclusion proofs, opaque and bounded |
//! | `engine/descriptor`, `timeouts`, `expiry` | addresses that a descriptor derives; what time decides; what can be included no more |
//! | [`chain`] | the source trait, families, health |
//! | `chain/mailbox`, `look_ups`, `interests`, `packed` | what the driver wants of a source: questions; what is watched, in the bytes that stand in blocks |
//! | `chain/walk`, `mirror` | from the chain that the engine holds to a tip: blocks that join, forks, halts; the same for all families |
//! | `chain/endpoint`, `pool`, `query` | one URL; all of them; what an address has received |
//! | `chain/evm/follow`, `finality` | heads, gaps, forks; what the chain says of its own finality |
//! | `chain/evm/block`, `fetch`, `facts` | what moved in a block; fetched, checked and kept; what of it is watched |
//! | `chain/evm/expected`, `ahead` | what is asked for with a head that was announced; several parts of a block in one request |
//! | `chain/evm/verify`, `proof` | headers, roots and signers, recomputed; the branches under those roots |
//! | `chain/evm/lookup`, `balance` | questions about what is there already; payments that leave no log |
//! | `chain/evm/pool`, `wake` | blocks by JSON-RPC; WebSocket hints |
//! | `chain/bitcoin/follow`, `node`, `block` | blocks, one request each, decoded once and held against their header |
//! | `chain/bitcoin/mempool`, `wake` | what enters and leaves the mempools; ZeroMQ hints |
//! | `chain/bitcoin/header`, `proof` | headers in their bytes; merkle branches |
//! | `chain/bitcoin/facts`, `text`, `descriptor` | what a transaction means for what is watched; addresses; descriptors |
//! | `chain/bitcoin/lookup`, `scan` | questions about what is there already; searching old blocks |
//! | `chain/bitcoin/electrum` | the same through Electrum servers: scripts, histories, merkle proofs |
//! | `chain/solana/follow`, `node` | slots and their blocks; headers and statuses, or blocks read whole, whichever costs less |
//! | `chain/solana/facts`, `text`, `wire` | payments as changes of balances; identifiers; what nodes answer |
//! | `chain/solana/statuses`, `lookup`, `history` | single signatures; questions about what is there already; what an account was named in |
//! | `chain/solana/expiry`, `wake` | what can land no more; WebSocket hints |
//! | [`store`] | tables, records, the atomic commit, retention |
//! | [`driver`] | the loop; what callers hold of it (`handle`); how it goes on after a restart (`restore`) |
//! | [`sign`] | the keys: read, made, published; signatures of artefacts |
//! | [`api`] | gRPC, tokens, subscriptions; HTTP: probes, public keys, schemas |
//! | `verify` (package `h402_watch_verify`) | artefacts checked offline: form, signature, hash chain, proofs, terms; the hashes that bind a watch to a quote |
//! | `proto/artefacts` | the format of artefacts, field by field; JSON Schemas; test vectors |
//! | [`run`], [`config`], [`cli`] | composition and shutdown; the configuration; the command line |
//!
//! # Invariants, and the tests that hold them
//!
//! 1. *Nothing leaves the process before the commit that makes it true.* `Driver::commit` is the only place that answers,
//!    asks or wakes, and reads of the store wait for a commit to be whole and on the disk. Held by `recovery::kill_9_thirty_times_under_load_fjall`: no acknowledged watch is ever missing.
//! 2. *One atomic commit holds watches, claims, events and cursor.* [`store::Store::commit`]. Held by
//!    `a_killed_process_loses_nothing_that_was_acknowledged_and_leaves_nothing_half` (tests/store.rs), for both engines.
//! 3. *A failed commit stops the process.* Held by `after_a_failed_commit_nothing_more_is_written_invariant_3` (tests/store.rs)
//!    and `a_failed_commit_ends_the_driver` (tests/driver.rs).
//! 4. *Same inputs in the same order give the same bytes.* Held by `ten_thousand_seeds_agree_with_the_naive_model`
//!    (tests/engine/simulation.rs), where one of two engines is restored at random points, by
//!    `one_report_or_many_give_the_same_log` (tests/engine/properties.rs), by tests/engine/golden.rs, and over the whole service by
//!    `two_services_and_one_that_was_killed_write_the_same_bytes` (tests/merchant/replicas.rs).
//! 5. *The event log has one gap-free sequence.* Held by `events_that_leave_a_gap_are_refused_invariant_5`,
//!    `pruning_keeps_the_log_gap_free_and_the_artefacts_of_watches_that_stay` (tests/store.rs) and
//!    `a_subscriber_that_reconnects_misses_and_repeats_nothing` (tests/nodes/service.rs).
//! 6. *A block is height and hash; depth is counted along parent hashes.* `engine/heads`, `chain/mirror`. Held by
//!    `same_height_reorg_is_never_reported_settled` and `rollback_freezes_then_orphans_and_never_settles` (tests/nodes/reorgs.rs), and by tests/bitcoin/reorgs.rs and tests/solana/slots.rs.
//! 7. *An included watch whose block leaves the chain gets an event saying so before any other.* Held by
//!    `reorged_into_another_block_is_included_again_with_the_new_block` and `reorg_while_the_service_is_down`.
//! 8. *A settlement is written once and never changed.* Held by the simulation and by
//!    `reversed_when_a_settled_payment_is_gone_for_good` (tests/nodes/outcomes.rs).
//! 9. *A lagging, lying or broken endpoint may delay an outcome and can't produce a wrong one.* Held by tests/nodes/faults.rs and
//!    tests/bitcoin/faults.rs, tests/solana/faults.rs.
//! 10. *Not found is not a fact.* `engine/judge`: absence leads to an outcome at the deadline only, by a block's time, or by a final
//!     block that proves an expiry. Held by
//!     `evicted_from_the_mempool_goes_back_to_pending_and_can_return`, `an_authorization_past_its_valid_before_is_expired` and
//!     `it_counts_only_with_a_final_block_of_the_chain_that_has_reached_it` (tests/engine/expiries.rs).
//! 11. *Everything has a bound.* Named constants beside what they bound; tests/engine/proofs.rs, `pages_are_bounded_in_bytes`, `many_watches_in_one_stream_answered_in_order`,
//!     `a_message_of_10_mb_is_refused_and_the_connection_lives`, `a_subscriber_that_stops_reading_slows_nobody_and_loses_nothing`.
//! 12. *Node calls per block do not grow with the number of watches.* Held by `requests_per_block_do_not_grow_with_watches`, for
//!     each family; Electrum servers are asked for each script, and say so.
//!
//! Who may use whom is held by tests/architecture.rs.

pub mod api;
pub mod chain;
pub mod cli;
pub mod clock;
pub mod config;
pub mod driver;
pub mod metrics;
pub mod run;
pub mod sign;
pub mod store;
pub mod telemetry;
