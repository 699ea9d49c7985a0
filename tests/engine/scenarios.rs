//! Each row of DESIGN §3's table as a story told to the engine, and the log that it must give.

mod support;

use h402_watch_engine::amount::Amount;
use h402_watch_engine::changes::{Ask, ClaimState, LookUp};
use h402_watch_engine::id::Timestamp;
use h402_watch_engine::input::{AuthorizationUse, Execution, Observation, TxFact};
use h402_watch_engine::request::{AmountRule, AtDeadline, Depth, Report, Subject, Tag, WatchRequest};
use h402_watch_engine::rules::NetworkRules;
use h402_watch_engine::{Refused, Rejected};
use support::{
    BLOCK_MS, World, block, block_ref, empty, network, pays, time_of, transfer, watch_address, watch_tx, with,
};

#[test]
fn success_at_the_depth_and_not_before() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 3));
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    assert_eq!(world.told(), ["w0 seen"]);
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    assert_eq!(world.told(), ["w0 included 6a"]);
    world.blocks(empty(7, 7, "a"));
    assert_eq!(world.told(), [""; 0]);
    world.blocks(empty(8, 8, "a"));
    assert_eq!(world.told(), ["w0 success"]);
    assert_eq!(world.claim_state("t"), [(0, ClaimState::Consumed)]);
    world.blocks(empty(9, 15, "a"));
    assert_eq!(world.told(), [""; 0]);
    world.blocks(empty(16, 16, "a"));
    assert_eq!(world.told(), ["w0 finalized 6a"]);
    assert_eq!(world.engine.watches_len(), 0, "a finalized watch leaves memory");
}

#[test]
fn depth_0_is_accepted_in_the_mempool_and_settles_in_a_block() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 0));
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    assert_eq!(world.told(), ["w0 seen", "w0 accepted"]);
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 success"]);
}

#[test]
fn depth_0_falls_back_to_failure_at_the_deadline() {
    let mut world = World::new();
    world.create(with(watch_tx("t", 100, 0), |it| it.terms.deadline = time_of(7)));
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    world.wait_until(time_of(7).plus_ms(1));
    assert_eq!(world.told(), ["w0 seen", "w0 accepted", "w0 failed deadline_passed"]);
    assert_eq!(world.claim_state("t"), []);
}

#[test]
fn depth_0_that_pays_too_little_is_not_accepted() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 0));
    world.observe(Observation::Seen(pays("t", "shop", 99)));
    assert_eq!(world.told(), ["w0 seen"]);
}

#[test]
fn deadline_with_nothing_received() {
    let mut world = World::new();
    world.create(with(watch_tx("t", 100, 1), |it| it.terms.deadline = time_of(7)));
    world.wait_until(Timestamp(time_of(7).0 - 1));
    assert_eq!(world.told(), [""; 0]);
    world.wait_until(time_of(7));
    assert_eq!(world.told(), ["w0 failed deadline_passed"]);
}

#[test]
fn deadline_waits_for_a_source_that_is_silent() {
    let mut world = World::new();
    world.create(with(watch_tx("t", 100, 1), |it| it.terms.deadline = time_of(8)));
    world.now = time_of(20);
    world.engine.handle_timeout(world.now);
    world.commit();
    assert_eq!(world.told(), [""; 0], "nobody said that the chain has nothing");
    // The node comes back with a block from before the deadline.
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 success"]);
}

#[test]
fn deadline_by_the_time_of_the_next_block() {
    let mut world = World::new();
    world.create(with(watch_tx("t", 100, 1), |it| it.terms.deadline = Timestamp(time_of(7).0 - 1)));
    world.blocks(vec![block(6, "a", "a", vec![]), block(7, "a", "a", vec![pays("t", "shop", 100)])]);
    assert_eq!(world.told(), ["w0 failed deadline_passed", "w0 included 7a", "w0 late 7a"]);
}

/// What a watch comes to does not depend on when it is told: a clock that runs ahead is no reason to take or to leave a payment.
#[test]
fn a_block_counts_by_the_time_it_states_whenever_it_is_told() {
    let artefacts = |told_late: bool| {
        let mut world = World::new();
        world.create(with(watch_tx("t", 100, 1), |it| it.terms.deadline = Timestamp(time_of(9).0 - 1)));
        world.create(with(watch_address(50, 1), |it| it.terms.deadline = time_of(9)));
        let mut ahead = block(6, "a", "a", vec![pays("t", "shop", 100), pays("u", "shop", 50)]);
        ahead.header.time = time_of(9);
        let lower = time_of(6);
        ahead.floor = lower;
        if told_late {
            world.now = time_of(20);
        }
        world.observe(Observation::Blocks(vec![ahead]));
        world.wait_until(time_of(20));
        let by_watch: std::collections::BTreeSet<_> =
            world.log.iter().map(|event| (event.watch.clone(), event.index, event.artefact.clone())).collect();
        (world.told(), by_watch)
    };
    let (told, early) = artefacts(false);
    assert_eq!(told, ["w0 included 6a", "w1 included 6a", "w0 failed deadline_passed 6a", "w1 success"]);
    assert_eq!(early, artefacts(true).1);
}

#[test]
fn deadline_waits_for_the_look_up() {
    let mut world = World::new();
    let request = with(watch_tx("t", 100, 1), |it| it.terms.deadline = time_of(6));
    let id = world.engine.create(world.now, request).expect("a good request").id;
    world.commit();
    world.wait_until(time_of(9));
    assert_eq!(world.told(), [""; 0]);
    let mut fact = block(5, "a", "a", vec![pays("t", "shop", 100)]).facts;
    world.observe(Observation::LookedUp { watch: id, under: block_ref(5, "a"), facts: vec![fact.remove(0)] });
    assert_eq!(world.told(), ["w0 included 5a", "w0 success"]);
}

#[test]
fn deadline_with_part_of_it_received_is_partial() {
    let mut world = World::new();
    world.create(with(watch_address(100, 1), |it| it.terms.deadline = time_of(7)));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 40)])]);
    world.wait_until(time_of(8));
    assert_eq!(world.told(), ["w0 included 6a", "w0 partial underpaid"]);
    let watch = world.watches.values().next().expect("one watch");
    assert_eq!(watch.received, Amount::from(40u64));
    assert_eq!(world.claim_state("t"), [(0, ClaimState::Consumed)]);
}

#[test]
fn deadline_while_shallow_fails_and_comes_late() {
    let mut world = World::new();
    world.create(with(watch_tx("t", 100, 5), |it| it.terms.deadline = time_of(7)));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    world.wait_until(time_of(7));
    assert_eq!(world.told(), ["w0 included 6a", "w0 failed deadline_passed"]);
    assert_eq!(world.claim_state("t"), []);
    world.blocks(empty(7, 10, "a"));
    assert_eq!(world.told(), ["w0 late 6a"]);
    assert_eq!(world.claim_state("t"), [(0, ClaimState::Late)]);
}

#[test]
fn deadline_while_shallow_may_extend_until_deep() {
    let mut world = World::new();
    world.create(with(watch_tx("t", 100, 5), |it| {
        it.terms.deadline = time_of(7);
        it.terms.at_deadline = AtDeadline::Extend;
    }));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    world.wait_until(time_of(8));
    world.blocks(empty(7, 10, "a"));
    assert_eq!(world.told(), ["w0 included 6a", "w0 success"]);
}

#[test]
fn deadline_extended_ends_when_the_transfer_is_gone() {
    let mut world = World::new();
    world.create(with(watch_tx("t", 100, 5), |it| {
        it.terms.deadline = time_of(7);
        it.terms.at_deadline = AtDeadline::Extend;
    }));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    world.wait_until(time_of(8));
    world.blocks(vec![block(6, "b", "a", vec![]), block(7, "b", "b", vec![])]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 orphaned 6a"], "nobody has looked yet where it went");
    world.observe(Observation::Missing { tx: "t".into(), under: block_ref(7, "a") });
    assert_eq!(world.told(), [""; 0], "that was said of the other branch");
    world.observe(Observation::Missing { tx: "t".into(), under: block_ref(7, "b") });
    assert_eq!(world.told(), ["w0 failed deadline_passed"]);
}

#[test]
fn each_way_of_not_meeting_the_terms() {
    let token: fn(&mut TxFact) = |fact| fact.transfers[0].asset = "token".into();
    type Case = (&'static str, fn(&mut WatchRequest), fn(&mut TxFact), &'static str);
    let cases: [Case; 9] = [
        ("reverted", |_| {}, |fact| fact.execution = Execution::Reverted, "failed reverted"),
        ("someone else", |_| {}, |fact| fact.transfers[0].to = "other".into(), "failed wrong_recipient"),
        ("nothing at all", |_| {}, |fact| fact.transfers.clear(), "failed wrong_recipient"),
        ("another asset", |_| {}, token, "failed wrong_asset"),
        ("nothing of it", |_| {}, |fact| fact.transfers[0].amount = Amount::ZERO, "failed underpaid"),
        ("too little", |_| {}, |fact| fact.transfers[0].amount = Amount::from(1u64), "partial underpaid"),
        (
            "too much",
            |it| it.terms.amount_rule = AmountRule::Exact,
            |f| f.transfers[0].amount = 101u64.into(),
            "failed overpaid",
        ),
        ("another payer", |it| it.terms.payer = Some("alice".into()), |_| {}, "failed payer_mismatch"),
        ("too early", |it| it.terms.not_before = Some(time_of(8)), |_| {}, "failed too_early"),
    ];
    for (name, ask, pay, expected) in cases {
        let mut world = World::new();
        world.create(with(watch_tx("t", 100, 2), ask));
        let mut fact = pays("t", "shop", 100);
        pay(&mut fact);
        world.blocks(vec![block(6, "a", "a", vec![fact])]);
        assert_eq!(world.told(), ["w0 included 6a"], "{name}: not before the depth");
        world.blocks(empty(7, 7, "a"));
        assert_eq!(
            world.told(),
            [format!("w0 {expected} 6a").trim_end_matches(if expected.starts_with("partial") { " 6a" } else { "" })],
            "{name}"
        );
    }
}

#[test]
fn payer_may_be_the_sender_or_the_from_of_the_transfer() {
    for (from, sender) in [("alice", "relayer"), ("router", "alice")] {
        let mut world = World::new();
        world.create(with(watch_tx("t", 100, 1), |it| it.terms.payer = Some("alice".into())));
        let mut fact = pays("t", "shop", 100);
        fact.sender = Some(sender.into());
        fact.transfers[0].from = Some(from.into());
        world.blocks(vec![block(6, "a", "a", vec![fact])]);
        assert_eq!(world.told(), ["w0 included 6a", "w0 success"]);
    }
}

/// A transaction that takes the place of `t`.
fn instead_of_t(tx: &str, to: &str, amount: u64) -> TxFact {
    TxFact { spends: pays("t", "shop", 0).spends, ..pays(tx, to, amount) }
}

#[test]
fn replaced_by_one_that_meets_the_terms_is_followed() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 2));
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    world.blocks(vec![block(6, "a", "a", vec![instead_of_t("r", "shop", 100)])]);
    world.blocks(empty(7, 7, "a"));
    assert_eq!(world.told(), ["w0 seen", "w0 replaced 6a", "w0 included 6a", "w0 success"]);
}

#[test]
fn replaced_by_one_that_does_not_fails_at_the_depth_only() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 2));
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    world.blocks(vec![block(6, "a", "a", vec![instead_of_t("r", "payer", 0)])]);
    assert_eq!(world.told(), ["w0 seen"]);
    world.blocks(empty(7, 7, "a"));
    assert_eq!(world.told(), ["w0 failed replaced r 6a"]);
}

#[test]
fn replacement_that_is_reorged_out_gives_way_to_the_original() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 3));
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    world.blocks(vec![block(6, "a", "a", vec![instead_of_t("r", "payer", 0)])]);
    world.blocks(vec![
        block(6, "b", "a", vec![]),
        block(7, "b", "b", vec![pays("t", "shop", 100)]),
        block(8, "b", "b", vec![]),
        block(9, "b", "b", vec![]),
    ]);
    assert_eq!(world.told(), ["w0 seen", "w0 included 7b", "w0 success"]);
}

#[test]
fn evicted_goes_back_to_pending_and_may_return() {
    let mut world = World::new();
    let id = world.create(watch_tx("t", 100, 1));
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    world.observe(Observation::Missing { tx: "t".into(), under: block_ref(5, "a") });
    assert_eq!(world.told(), ["w0 seen", "w0 evicted"]);
    assert_eq!(world.watches[&id].state().as_str(), "pending");
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    assert_eq!(world.told(), ["w0 seen", "w0 included 6a", "w0 success"]);
}

#[test]
fn orphaned_then_included_elsewhere() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 2));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    world.blocks(vec![block(6, "b", "a", vec![]), block(7, "b", "b", vec![pays("t", "shop", 100)])]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 orphaned 6a", "w0 included 7b"]);
    world.blocks(empty(8, 8, "b"));
    assert_eq!(world.told(), ["w0 success"]);
}

#[test]
fn same_height_reorg_never_settles_what_is_gone() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 3));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)]), block(7, "a", "a", vec![])]);
    world.blocks(vec![block(6, "b", "a", vec![]), block(7, "b", "b", vec![])]);
    world.blocks(empty(8, 12, "b"));
    assert_eq!(world.told(), ["w0 included 6a", "w0 orphaned 6a"]);
    assert!(world.asks.contains(&Ask::Locate { tx: "t".into() }), "somebody has to look where it went");
}

#[test]
fn shorter_branch_never_settles_what_is_gone() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 5));
    world.blocks(vec![
        block(6, "a", "a", vec![pays("t", "shop", 100)]),
        block(7, "a", "a", vec![]),
        block(8, "a", "a", vec![]),
    ]);
    world.blocks(vec![block(6, "b", "a", vec![])]);
    world.blocks(empty(7, 14, "b"));
    assert_eq!(world.told(), ["w0 included 6a", "w0 orphaned 6a"]);
}

#[test]
fn fork_that_flips_back() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 2));
    let with_t = || block(6, "a", "a", vec![pays("t", "shop", 100)]);
    world.blocks(vec![with_t()]);
    world.blocks(vec![block(6, "b", "a", vec![])]);
    world.blocks(vec![with_t(), block(7, "a", "a", vec![])]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 orphaned 6a", "w0 included 6a", "w0 success"]);
}

#[test]
fn success_reverted_on_the_other_branch_counts_as_reverted() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 2));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    let reverted = TxFact { execution: Execution::Reverted, transfers: vec![], ..pays("t", "shop", 100) };
    world.blocks(vec![block(6, "b", "a", vec![reverted]), block(7, "b", "b", vec![])]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 orphaned 6a", "w0 included 6b", "w0 failed reverted 6b"]);
}

#[test]
fn settled_then_orphaned_then_back_keeps_its_settlement() {
    let mut world = World::new();
    let id = world.create(watch_tx("t", 100, 1));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    world.blocks(vec![block(6, "b", "a", vec![]), block(7, "b", "b", vec![pays("t", "shop", 100)])]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 success", "w0 orphaned 6a", "w0 included 7b"]);
    world.blocks(empty(8, 17, "b"));
    assert_eq!(world.told(), ["w0 finalized 7b"]);
    let settlements = world.log.iter().filter(|event| event.watch == id && event.kind.as_str() == "settled").count();
    assert_eq!(settlements, 1, "a settlement is written once (invariant 8)");
}

#[test]
fn settled_then_gone_for_good_is_reversed() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 1));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    world.blocks(vec![block(6, "b", "a", vec![]), block(7, "b", "b", vec![])]);
    world.blocks(empty(8, 15, "b"));
    assert_eq!(world.told(), ["w0 included 6a", "w0 success", "w0 orphaned 6a"]);
    world.blocks(empty(16, 16, "b"));
    assert_eq!(world.told(), ["w0 reversed 6a"]);
    assert_eq!(world.engine.watches_len(), 0);
}

#[test]
fn cancelled_by_the_client() {
    let mut world = World::new();
    let id = world.create(watch_tx("t", 100, 3));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    world.engine.cancel(world.now, &id).expect("it is open");
    world.commit();
    assert_eq!(world.told(), ["w0 included 6a", "w0 failed cancelled"]);
    assert_eq!(world.claim_state("t"), []);
    assert_eq!(world.engine.cancel(world.now, &id), Err(Refused::Settled(id)));
}

#[test]
fn finality_tag_decides_where_it_is_asked() {
    let mut world = World::new();
    world.create(with(watch_tx("t", 100, 0), |it| it.terms.depth = Depth::Tag(Tag::Safe)));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)]), block(7, "a", "a", vec![])]);
    world.observe(Observation::Finality { tag: Tag::Safe, block: block_ref(5, "a") });
    assert_eq!(world.told(), ["w0 included 6a"]);
    world.observe(Observation::Finality { tag: Tag::Safe, block: block_ref(6, "b") });
    assert_eq!(world.told(), [""; 0], "a tag on a block of another branch is no fact about this one");
    world.observe(Observation::Finality { tag: Tag::Safe, block: block_ref(6, "a") });
    assert_eq!(world.told(), ["w0 success"]);
    world.observe(Observation::Finality { tag: Tag::Finalized, block: block_ref(7, "a") });
    assert_eq!(world.told(), ["w0 finalized 6a"]);
}

/// Each tag moves on its own; a fork takes `confirmed` back as it does `safe`.
#[test]
fn confirmed_is_a_tag_of_its_own() {
    let confirmed = |height, branch| Observation::Finality { tag: Tag::Confirmed, block: block_ref(height, branch) };
    let mut world = World::under(NetworkRules { tags: vec![Tag::Confirmed, Tag::Finalized], ..support::rules() });
    world.create(with(watch_tx("t", 100, 0), |it| it.terms.depth = Depth::Tag(Tag::Confirmed)));
    world.create(with(watch_tx("u", 100, 0), |it| it.terms.depth = Depth::Tag(Tag::Finalized)));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)]), block(7, "a", "a", vec![])]);
    world.observe(confirmed(5, "a"));
    world.blocks(vec![block(6, "b", "a", vec![]), block(7, "b", "b", vec![pays("t", "shop", 100)])]);
    world.restart();
    world.observe(confirmed(6, "b"));
    assert_eq!(world.told(), ["w0 included 6a", "w0 orphaned 6a", "w0 included 7b"]);
    world.blocks(vec![block(8, "b", "b", vec![pays("u", "shop", 100)])]);
    world.observe(confirmed(8, "b"));
    assert_eq!(world.told(), ["w1 included 8b", "w0 success"]);
    world.observe(Observation::Finality { tag: Tag::Finalized, block: block_ref(8, "b") });
    assert_eq!(world.told(), ["w0 finalized 7b", "w1 success", "w1 finalized 8b"]);
}

#[test]
fn a_fork_below_finalized_or_the_horizon_changes_nothing() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 9));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)]), block(7, "a", "a", vec![])]);
    world.observe(Observation::Finality { tag: Tag::Finalized, block: block_ref(6, "a") });
    world.told();
    let fork = Observation::Blocks(vec![block(6, "b", "a", vec![]), block(7, "b", "b", vec![])]);
    let answer = world.engine.handle_observation(world.now, &network(), fork, vec![]);
    assert!(matches!(answer, Err(Rejected::Unlinked(_))), "{answer:?}");
    let gap = Observation::Blocks(empty(9, 9, "a"));
    assert!(world.engine.handle_observation(world.now, &network(), gap, vec![]).is_err());
    world.commit();
    assert_eq!(world.told(), [""; 0]);
}

#[test]
fn fifty_watches_one_transfer_one_success() {
    let mut world = World::new();
    for i in 0..50 {
        world.create(with(watch_tx("t", 100, 2), |it| it.idempotency_key = Some(i.to_string())));
    }
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)]), block(7, "a", "a", vec![])]);
    let told = world.told();
    assert_eq!(told.iter().filter(|line| line.ends_with("success")).collect::<Vec<_>>(), ["w0 success"]);
    assert_eq!(told.iter().filter(|line| line.contains("already_claimed")).count(), 49);
}

#[test]
fn the_loser_waits_while_the_winner_may_still_give_back() {
    let mut world = World::new();
    let first = world.create(with(watch_tx("t", 100, 9), |it| it.idempotency_key = Some("a".into())));
    world.create(with(watch_tx("t", 100, 1), |it| it.idempotency_key = Some("b".into())));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)]), block(7, "a", "a", vec![])]);
    assert_eq!(world.told(), ["w0 included 6a", "w1 included 6a"]);
    world.engine.cancel(world.now, &first).expect("it is open");
    world.commit();
    assert_eq!(world.told(), ["w0 failed cancelled", "w1 success"]);
}

#[test]
fn one_transaction_pays_three_watches_transfer_by_transfer() {
    let mut world = World::new();
    for (i, amount) in [70, 30, 50].into_iter().enumerate() {
        world.create(with(watch_tx("t", amount, 1), |it| it.idempotency_key = Some(i.to_string())));
    }
    let transfers = vec![transfer(1, "shop", 30), transfer(2, "shop", 50), transfer(3, "shop", 70)];
    world.blocks(vec![block(6, "a", "a", vec![TxFact { transfers, ..pays("t", "shop", 0) }])]);
    let told = world.told();
    for line in ["w0 success", "w1 success", "w2 success"] {
        assert!(told.contains(&line.to_owned()), "{told:?}");
    }
}

#[test]
fn address_adds_up_transfers_oldest_watch_first_exact_match_before_that() {
    let mut world = World::new();
    world.create(with(watch_address(100, 1), |it| it.idempotency_key = Some("a".into())));
    world.create(with(watch_address(50, 1), |it| it.idempotency_key = Some("b".into())));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 50)])]);
    assert_eq!(world.told(), ["w1 included 6a", "w1 success"]);
    world.blocks(vec![block(7, "a", "a", vec![pays("u", "shop", 60), pays("v", "shop", 60)])]);
    assert_eq!(world.told(), ["w0 included 7a", "w0 included 7a", "w0 success"]);
    assert_eq!(world.claim_state("v"), [(0, ClaimState::Consumed)]);
}

#[test]
fn address_counts_only_what_comes_after_it_was_asked_for() {
    let mut world = World::new();
    let id = world.engine.create(world.now, watch_address(100, 1)).expect("a good request").id;
    world.commit();
    let facts = block(5, "a", "a", vec![pays("t", "shop", 100)]).facts;
    world.observe(Observation::LookedUp { watch: id, under: block_ref(5, "a"), facts });
    assert_eq!(world.told(), [""; 0]);
    let asked = with(watch_address(100, 1), |it| it.terms.not_before = Some(time_of(5)));
    let id = world.engine.create(world.now, asked).expect("a good request").id;
    world.commit();
    let facts = block(5, "a", "a", vec![pays("t", "shop", 100)]).facts;
    world.observe(Observation::LookedUp { watch: id, under: block_ref(5, "a"), facts });
    assert_eq!(world.told(), ["w1 included 5a", "w1 success"]);
}

#[test]
fn address_that_lost_a_transfer_takes_one_that_it_passed_over() {
    let mut world = World::new();
    let id = world.create(watch_address(100, 3));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    world.asks.clear();
    // Paid twice, once in a branch that goes away.
    world.blocks(vec![block(6, "b", "a", vec![pays("u", "shop", 100)]), block(7, "b", "b", vec![])]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 orphaned 6a", "w0 included 6b"]);
    assert!(world.asks.iter().any(|ask| matches!(ask, Ask::LookUp(it) if it.watch == id)));
}

#[test]
fn a_late_transfer_is_reported_to_one_watch_only_and_may_pay_an_open_one() {
    let mut world = World::new();
    for key in ["a", "b"] {
        world.create(with(watch_address(100, 1), |it| {
            it.idempotency_key = Some(key.into());
            it.terms.deadline = time_of(6);
        }));
    }
    world.wait_until(time_of(8));
    assert_eq!(world.told(), ["w0 failed deadline_passed", "w1 failed deadline_passed"]);
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 late 6a"]);
    let id = world.create(watch_tx("t", 100, 1));
    let facts = block(6, "a", "a", vec![pays("t", "shop", 100)]).facts;
    world.observe(Observation::LookedUp { watch: id, under: block_ref(6, "a"), facts: facts.clone() });
    world.observe(Observation::Found(facts[0].clone()));
    assert_eq!(world.told(), ["w2 included 6a", "w2 success"]);
}

fn authorization(valid_before: Option<Timestamp>) -> WatchRequest {
    let subject = Subject::Authorization { authorizer: "alice".into(), nonce: "0x01".into(), valid_before };
    with(support::request(subject, 100, 2), |it| it.terms.asset = "token".into())
}

fn uses_authorization(tx: &str, cancelled: bool) -> TxFact {
    let mut fact = pays(tx, "shop", 100);
    fact.sender = Some("relayer".into());
    fact.transfers[0].asset = "token".into();
    fact.transfers[0].from = Some("alice".into());
    let (asset, authorizer, nonce) = ("token".into(), "alice".into(), "0x01".to_owned());
    fact.authorizations = vec![AuthorizationUse { asset, authorizer, nonce, cancelled }];
    fact
}

#[test]
fn authorization_is_followed_into_whichever_transaction() {
    let mut world = World::new();
    world.create(authorization(None));
    world.blocks(vec![block(6, "a", "a", vec![uses_authorization("x", false)])]);
    world.blocks(vec![block(6, "b", "a", vec![uses_authorization("y", false)]), block(7, "b", "b", vec![])]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 orphaned 6a", "w0 included 6b", "w0 success"]);
}

#[test]
fn authorization_that_is_cancelled_or_void_has_expired() {
    let mut world = World::new();
    world.create(authorization(None));
    let mut fact = uses_authorization("x", true);
    fact.transfers.clear();
    world.blocks(vec![block(6, "a", "a", vec![fact]), block(7, "a", "a", vec![])]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 failed expired 6a"]);
    let mut world = World::new();
    world.create(authorization(Some(time_of(7))));
    world.blocks(empty(6, 7, "a"));
    assert_eq!(world.told(), [""; 0], "the block that voids it is not deep yet");
    world.blocks(empty(8, 8, "a"));
    assert_eq!(world.told(), ["w0 failed expired"]);
}

#[test]
fn every_depth_is_reported_on_request() {
    let mut world = World::new();
    world.create(with(watch_tx("t", 100, 4), |it| it.report = Report::EveryDepth));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    world.blocks(empty(7, 9, "a"));
    assert_eq!(world.told(), ["w0 included 6a", "w0 depth 6a", "w0 depth 6a", "w0 depth 6a", "w0 success"]);
}

#[test]
fn inclusion_may_be_known_before_what_the_transaction_did() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 1));
    let unknown =
        TxFact { execution: Execution::Unknown, transfers: vec![], transfers_known: false, ..pays("t", "shop", 100) };
    world.blocks(vec![block(6, "a", "a", vec![unknown])]);
    assert_eq!(world.told(), ["w0 included 6a"]);
    world.observe(Observation::Found(block(6, "a", "a", vec![pays("t", "shop", 100)]).facts.remove(0)));
    assert_eq!(world.told(), ["w0 success"]);
}

#[test]
fn same_request_same_watch_other_content_refused() {
    let mut world = World::new();
    let first = world.create(with(watch_tx("t", 100, 1), |it| it.idempotency_key = Some("k".into())));
    let again = with(watch_tx("t", 100, 1), |it| it.idempotency_key = Some("k".into()));
    let answer = world.engine.create(world.now, again).expect("the same");
    assert_eq!((answer.id, answer.new), (first.clone(), false));
    let other = with(watch_tx("t", 101, 1), |it| it.idempotency_key = Some("k".into()));
    assert_eq!(world.engine.create(world.now, other), Err(Refused::KeyTaken { first }));
    let quoted = |amount| with(watch_tx("u", amount, 1), |it| it.binding.quote_hash = Some("q".into()));
    let first = world.create(quoted(1));
    assert_eq!(world.engine.create(world.now, quoted(2)), Err(Refused::KeyTaken { first }));
}

#[test]
fn bad_requests_are_refused_naming_the_field() {
    type Case = (&'static str, fn(&mut WatchRequest));
    let cases: [Case; 7] = [
        ("network", |it| it.network = "test:2".into()),
        ("terms.amount", |it| it.terms.amount = Amount::ZERO),
        ("terms.depth", |it| it.terms.depth = Depth::Blocks(11)),
        ("terms.depth", |it| it.terms.depth = Depth::Tag(Tag::Confirmed)),
        ("terms.deadline", |it| it.terms.deadline = time_of(5)),
        ("terms.deadline", |it| it.terms.deadline = Timestamp(u64::MAX)),
        ("terms.not_before", |it| it.terms.not_before = Some(it.terms.deadline)),
    ];
    for (expected, spoil) in cases {
        let mut world = World::new();
        match world.engine.create(world.now, with(watch_tx("t", 1, 1), spoil)) {
            Err(Refused::Invalid { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
        assert_eq!(world.engine.watches_len(), 0);
    }
}

#[test]
fn a_restart_at_any_point_changes_no_byte_of_the_log() {
    let story = |restart_after: Option<usize>| {
        let mut world = World::new();
        let mut step = 0;
        let mut tick = |world: &mut World| {
            if restart_after == Some(step) {
                // What was looked up since the last commit is asked for again.
                for LookUp { watch, .. } in world.restart() {
                    world.observe(Observation::LookedUp { watch, under: block_ref(5, "a"), facts: Vec::new() });
                }
            }
            step += 1;
        };
        world.create(watch_tx("t", 100, 3));
        tick(&mut world);
        world.create(with(watch_address(100, 2), |it| it.terms.deadline = Timestamp(time_of(9).0 + BLOCK_MS / 2)));
        tick(&mut world);
        world.observe(Observation::Seen(pays("t", "shop", 100)));
        tick(&mut world);
        world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100), pays("u", "shop", 40)])]);
        tick(&mut world);
        world.blocks(vec![
            block(6, "b", "a", vec![pays("u", "shop", 40)]),
            block(7, "b", "b", vec![pays("t", "shop", 100)]),
        ]);
        tick(&mut world);
        world.blocks(empty(8, 9, "b"));
        tick(&mut world);
        world.blocks(empty(10, 17, "b"));
        tick(&mut world);
        (world.log, world.claims)
    };
    let (log, claims) = story(None);
    assert!(log.len() > 8, "{}", log.len());
    for step in 0..7 {
        let (other, other_claims) = story(Some(step));
        assert_eq!(other, log, "restarted after step {step}");
        assert_eq!(other_claims, claims, "restarted after step {step}");
    }
}

#[test]
fn what_was_claimed_in_the_mempool_is_given_back_when_its_block_does_not_count() {
    // Its block is too early for the first, and just right for the second.
    let mut world = World::new();
    world.create(with(watch_tx("t", 100, 2), |it| it.terms.not_before = Some(time_of(7))));
    world.create(watch_tx("t", 90, 2));
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    world.blocks(empty(7, 7, "a"));
    let told = world.told();
    assert!(told.contains(&"w0 failed too_early 6a".to_owned()), "{told:?}");
    assert!(told.contains(&"w1 success".to_owned()), "{told:?}");
    // It is reverted in its block.
    let mut world = World::new();
    world.create(watch_tx("t", 100, 1));
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    let reverted = TxFact { execution: Execution::Reverted, ..pays("t", "shop", 100) };
    world.blocks(vec![block(6, "a", "a", vec![reverted])]);
    assert_eq!(world.told(), ["w0 seen", "w0 included 6a", "w0 failed reverted 6a"]);
    assert_eq!(world.claim_state("t"), []);
}

/// A watch on `t` that is extended: it is in block 6a, and the deadline has passed.
fn extended() -> World {
    let mut world = World::new();
    world.create(with(watch_tx("t", 100, 5), |it| {
        it.terms.deadline = time_of(7);
        it.terms.at_deadline = AtDeadline::Extend;
    }));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    world.wait_until(time_of(8));
    assert_eq!(world.told(), ["w0 included 6a"]);
    world
}

/// A transaction of which only the block is known.
fn header_only(tx: &str) -> TxFact {
    TxFact { execution: Execution::Unknown, transfers: vec![], transfers_known: false, ..pays(tx, "shop", 100) }
}

#[test]
fn deadline_extended_waits_for_the_rest_of_a_branch_that_is_told_in_pieces() {
    for restarts in [false, true] {
        let mut world = extended();
        world.blocks(vec![block(6, "b", "a", vec![])]);
        assert_eq!(world.told(), ["w0 orphaned 6a"]);
        if restarts {
            world.asks.clear();
            world.restart();
            assert!(world.asks.contains(&Ask::Locate { tx: "t".into() }), "what was asked is asked again");
        }
        world.blocks(vec![block(7, "b", "b", vec![pays("t", "shop", 100)])]);
        world.blocks(empty(8, 11, "b"));
        assert_eq!(world.told(), ["w0 included 7b", "w0 success"], "restarts: {restarts}");
    }
}

#[test]
fn deadline_extended_ends_when_the_transfer_is_back_in_a_mempool() {
    let mut world = extended();
    world.blocks(vec![block(6, "b", "a", vec![])]);
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    assert_eq!(world.told(), ["w0 orphaned 6a", "w0 seen", "w0 failed deadline_passed"]);
}

#[test]
fn deadline_extended_waits_no_longer_than_the_horizon_for_a_transfer_that_nobody_locates() {
    for restarts in [false, true] {
        let mut world = extended();
        world.blocks(vec![block(6, "b", "a", vec![])]);
        world.blocks(empty(7, 15, "b"));
        if restarts {
            world.restart();
        }
        assert_eq!(world.told(), ["w0 orphaned 6a"]);
        world.blocks(empty(16, 16, "b"));
        assert_eq!(world.told(), ["w0 failed deadline_passed"], "restarts: {restarts}");
    }
}

#[test]
fn deadline_extended_waits_for_a_block_that_is_known_by_its_header_alone() {
    let mut world = extended();
    world.blocks(vec![block(6, "b", "a", vec![header_only("t")])]);
    world.blocks(empty(7, 12, "b"));
    assert_eq!(world.told(), ["w0 orphaned 6a", "w0 included 6b"], "what is deep may not be told yet either");
    world.observe(Observation::Found(block(6, "b", "a", vec![pays("t", "shop", 100)]).facts.remove(0)));
    assert_eq!(world.told(), ["w0 success"]);
    // It is so at the deadline, too; and what is told then may be nothing that counts.
    let mut world = World::new();
    world.create(with(watch_tx("t", 100, 5), |it| {
        it.terms.deadline = time_of(7);
        it.terms.at_deadline = AtDeadline::Extend;
    }));
    world.blocks(vec![block(6, "a", "a", vec![header_only("t")])]);
    world.wait_until(time_of(8));
    assert_eq!(world.told(), ["w0 included 6a"]);
    let reverted = TxFact { execution: Execution::Reverted, ..header_only("t") };
    world.observe(Observation::Found(block(6, "a", "a", vec![reverted]).facts.remove(0)));
    assert_eq!(world.told(), ["w0 failed deadline_passed"]);
}

#[test]
fn deadline_does_not_extend_for_a_block_that_is_too_late_whatever_it_holds() {
    let mut world = World::new();
    world.create(with(watch_tx("t", 100, 5), |it| {
        it.terms.deadline = time_of(7);
        it.terms.at_deadline = AtDeadline::Extend;
    }));
    world.blocks(vec![block(6, "a", "a", vec![]), block(7, "a", "a", vec![])]);
    world.blocks(vec![block(8, "a", "a", vec![header_only("t")])]);
    assert_eq!(world.told(), ["w0 failed deadline_passed", "w0 included 8a"]);
}

#[test]
fn deadline_extended_of_an_address_waits_for_the_look_up_after_a_reorg() {
    let mut world = World::new();
    let id = world.create(with(watch_address(100, 5), |it| {
        it.terms.deadline = time_of(7);
        it.terms.at_deadline = AtDeadline::Extend;
    }));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    world.wait_until(time_of(8));
    world.blocks(vec![block(6, "b", "a", vec![])]);
    world.observe(Observation::Missing { tx: "t".into(), under: block_ref(6, "b") });
    assert_eq!(world.told(), ["w0 included 6a", "w0 orphaned 6a"]);
    let facts = block(6, "b", "a", vec![pays("u", "shop", 100)]).facts;
    world.observe(Observation::LookedUp { watch: id, under: block_ref(6, "b"), facts });
    world.blocks(empty(7, 10, "b"));
    assert_eq!(world.told(), ["w0 included 6b", "w0 success"]);
}

#[test]
fn finality_tag_says_nothing_of_what_a_reorg_puts_at_its_height() {
    for restarts in [false, true] {
        let mut world = World::new();
        world.create(with(watch_tx("t", 100, 0), |it| it.terms.depth = Depth::Tag(Tag::Safe)));
        world.blocks(empty(6, 9, "a"));
        world.observe(Observation::Finality { tag: Tag::Finalized, block: block_ref(6, "a") });
        world.observe(Observation::Finality { tag: Tag::Safe, block: block_ref(9, "a") });
        world.blocks(vec![block(8, "b", "a", vec![pays("t", "shop", 100)]), block(9, "b", "b", vec![])]);
        if restarts {
            world.restart();
        }
        world.blocks(empty(10, 11, "b"));
        assert_eq!(world.told(), ["w0 included 8b"], "nobody called 8b safe; restarts: {restarts}");
        let marks = world.engine.marks(&network()).expect("configured");
        assert_eq!((marks.safe, marks.finalized), (Some(7), Some(6)));
        world.observe(Observation::Finality { tag: Tag::Safe, block: block_ref(8, "b") });
        assert_eq!(world.told(), ["w0 success"], "restarts: {restarts}");
    }
}

#[test]
fn authorization_has_not_expired_before_the_look_up_says_that_it_was_not_used() {
    for (used, restarts) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut world = World::new();
        let request = authorization(Some(time_of(6)));
        let id = world.engine.create(world.now, request).expect("a good request").id;
        world.commit();
        world.blocks(empty(6, 9, "a"));
        if restarts {
            world.restart();
        }
        world.blocks(empty(10, 10, "a"));
        assert_eq!(world.told(), [""; 0], "it may have been used before the watch was made");
        let facts = block(4, "a", "a", vec![uses_authorization("x", false)]).facts;
        let facts = if used { facts } else { Vec::new() };
        world.observe(Observation::LookedUp { watch: id, under: block_ref(10, "a"), facts });
        let expected = if used { vec!["w0 included 4a", "w0 success"] } else { vec!["w0 failed expired"] };
        assert_eq!(world.told(), expected, "used: {used}, restarts: {restarts}");
    }
}

#[test]
fn authorization_that_was_looked_up_before_it_is_void_expires_at_the_depth() {
    let mut world = World::new();
    let id = world.engine.create(world.now, authorization(Some(time_of(7)))).expect("a good request").id;
    world.commit();
    world.blocks(empty(6, 7, "a"));
    world.observe(Observation::LookedUp { watch: id, under: block_ref(7, "a"), facts: Vec::new() });
    assert_eq!(world.told(), [""; 0], "the block that voids it is not deep yet");
    world.blocks(empty(8, 8, "a"));
    assert_eq!(world.told(), ["w0 failed expired"]);
}

#[test]
fn authorization_expires_when_a_tag_reaches_the_block_that_voids_it() {
    for restarts in [false, true] {
        let mut world = World::new();
        world.create(with(authorization(Some(time_of(7))), |it| it.terms.depth = Depth::Tag(Tag::Safe)));
        world.blocks(empty(6, 8, "a"));
        if restarts {
            world.restart();
        }
        assert_eq!(world.told(), [""; 0]);
        world.observe(Observation::Finality { tag: Tag::Safe, block: block_ref(7, "a") });
        assert_eq!(world.told(), ["w0 failed expired"], "restarts: {restarts}");
    }
}

#[test]
fn an_archived_watch_leaves_nothing_behind() {
    let mut world = World::new();
    let before = world.engine.index_len();
    // One by depth, one by a tag that never comes, one whose authorization is void long after.
    world.create(watch_tx("t", 100, 2));
    let tagged = world.create(with(watch_tx("u", 100, 0), |it| it.terms.depth = Depth::Tag(Tag::Safe)));
    let void_late = with(authorization(Some(time_of(500))), |it| it.terms.deadline = time_of(8));
    world.create(void_late);
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100), pays("u", "shop", 100)])]);
    world.blocks(vec![block(6, "b", "a", vec![]), block(7, "b", "b", vec![pays("u", "shop", 100)])]);
    world.blocks(vec![block(8, "b", "b", vec![pays("t", "shop", 100)]), block(9, "b", "b", vec![])]);
    world.wait_until(time_of(9));
    world.engine.cancel(world.now, &tagged).expect("it is open");
    world.commit();
    world.blocks(empty(10, 30, "b"));
    world.wait_until(time_of(200));
    assert_eq!(world.engine.watches_len(), 0, "{:?}", world.told());
    assert_eq!(world.engine.index_len(), before);
}

#[test]
fn claims_that_come_with_a_fact_that_concerns_nobody_are_forgotten() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 1));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    world.blocks(empty(7, 16, "a"));
    assert_eq!(world.engine.watches_len(), 0, "the store alone keeps its claim");
    let empty_len = world.engine.index_len();
    let elsewhere = |height| Observation::Found(block(height, "z", "z", vec![pays("t", "shop", 100)]).facts.remove(0));
    world.observe(elsewhere(10));
    world.observe(elsewhere(99));
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    assert_eq!(world.engine.index_len(), empty_len);
    // A watch on the same transaction that never has it as a candidate.
    let id = world.create(watch_tx("t", 50, 1));
    world.observe(elsewhere(10));
    world.engine.cancel(world.now, &id).expect("it is open");
    world.commit();
    world.wait_until(time_of(500));
    assert_eq!((world.engine.watches_len(), world.engine.index_len()), (0, empty_len));
}
