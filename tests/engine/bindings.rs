//! Payments that are bound to one order: by a memo that their transaction carries, by addresses that it names.

mod support;

use h402_watch_engine::changes::ClaimState;
use h402_watch_engine::input::{AuthorizationUse, Execution, Observation, TxFact};
use h402_watch_engine::request::{AmountRule, Subject, WatchRequest};
use support::{
    World, block, block_ref, carries, empty, pays, request, time_of, transfer, watch_address, watch_tx, with,
};

fn with_memo(memo: &str, request: WatchRequest) -> WatchRequest {
    with(request, |it| it.terms.memo = Some(memo.into()))
}

fn with_references(references: &[&str], request: WatchRequest) -> WatchRequest {
    with(request, |it| it.terms.references = references.iter().map(|reference| (*reference).into()).collect())
}

fn names(tx: &str, references: &[&str]) -> TxFact {
    let references = references.iter().map(|reference| (*reference).into()).collect();
    TxFact { references, ..pays(tx, "shop", 100) }
}

/// What a watch comes to when a block holds this transaction.
fn outcome(asked: WatchRequest, fact: TxFact) -> Vec<String> {
    let mut world = World::new();
    world.create(asked);
    world.blocks(vec![block(6, "a", "a", vec![fact])]);
    world.told()
}

#[test]
fn a_memo_has_to_match_exactly() {
    let asked = || with_memo("order 7", watch_tx("t", 100, 1));
    for memos in [&["order 7"][..], &["thanks", "order 7"]] {
        assert_eq!(outcome(asked(), carries("t", memos, 100)), ["w0 included 6a", "w0 success"], "{memos:?}");
    }
    for memos in [&[][..], &["order 8"], &["order 7 "], &["Order 7"], &["order", "7"]] {
        let told = outcome(asked(), carries("t", memos, 100));
        assert_eq!(told, ["w0 included 6a", "w0 failed memo_mismatch 6a"], "{memos:?}");
    }
}

#[test]
fn an_empty_memo_is_a_memo() {
    let asked = || with_memo("", watch_tx("t", 100, 1));
    assert_eq!(outcome(asked(), carries("t", &[""], 100)), ["w0 included 6a", "w0 success"]);
    assert_eq!(outcome(asked(), carries("t", &[], 100)), ["w0 included 6a", "w0 failed memo_mismatch 6a"]);
}

#[test]
fn all_references_have_to_be_named() {
    let asked = || with_references(&["one", "two"], watch_tx("t", 100, 1));
    assert_eq!(outcome(asked(), names("t", &["two", "other", "one"])), ["w0 included 6a", "w0 success"]);
    for references in [&[][..], &["one"], &["one", "one"], &["other", "two"]] {
        let told = outcome(asked(), names("t", references));
        assert_eq!(told, ["w0 included 6a", "w0 failed reference_missing 6a"], "{references:?}");
    }
}

#[test]
fn terms_that_ask_for_no_mark_take_any() {
    let fact = TxFact { memos: vec!["order 7".into()], ..names("t", &["one"]) };
    assert_eq!(outcome(watch_tx("t", 100, 1), fact.clone()), ["w0 included 6a", "w0 success"]);
    assert_eq!(outcome(watch_address(100, 1), fact), ["w0 included 6a", "w0 success"]);
}

/// The reason is the objection of the transfer that comes closest: one to somebody else, in something else or from somebody
/// else lacks more than a mark.
#[test]
fn the_reason_is_what_a_payment_lacks_first() {
    let asked = || with_references(&["one"], with_memo("order 7", watch_tx("t", 100, 1)));
    let reason = |fact| outcome(asked(), fact).pop().expect("an event");
    assert_eq!(reason(carries("t", &["order 7"], 100)), "w0 failed reference_missing 6a");
    assert_eq!(reason(names("t", &["one"])), "w0 failed memo_mismatch 6a");
    assert_eq!(reason(pays("t", "thief", 100)), "w0 failed wrong_recipient 6a");
    let mut in_token = pays("t", "shop", 100);
    in_token.transfers[0].asset = "token".into();
    assert_eq!(reason(in_token.clone()), "w0 failed wrong_asset 6a");
    in_token.transfers.push(transfer(1, "shop", 100));
    assert_eq!(reason(in_token), "w0 failed memo_mismatch 6a");
    assert_eq!(reason(TxFact { execution: Execution::Reverted, ..pays("t", "shop", 100) }), "w0 failed reverted 6a");
    let told = outcome(with(asked(), |it| it.terms.payer = Some("other".into())), pays("t", "shop", 100));
    assert_eq!(told.last().expect("an event"), "w0 failed payer_mismatch 6a");
    let told = outcome(with(asked(), |it| it.terms.not_before = Some(time_of(9))), pays("t", "shop", 100));
    assert_eq!(told.last().expect("an event"), "w0 failed memo_mismatch 6a");
}

#[test]
fn an_authorization_that_lacks_the_memo_fails() {
    let subject = Subject::Authorization { authorizer: "payer".into(), nonce: "n".into(), valid_before: None };
    let asked = with_memo("order 7", with(request(subject, 100, 1), |it| it.terms.asset = "token".into()));
    let (asset, authorizer, nonce) = ("token".into(), "payer".into(), "n".into());
    let mut used = carries("t", &["order 8"], 100);
    used.transfers[0].asset = "token".into();
    used.authorizations = vec![AuthorizationUse { asset, authorizer, nonce, cancelled: false }];
    assert_eq!(outcome(asked, used), ["w0 included 6a", "w0 failed memo_mismatch 6a"]);
}

#[test]
fn what_lacks_the_mark_is_not_a_payment_to_a_bound_address_watch() {
    let mut world = World::new();
    world.create(with_memo("order 7", watch_address(100, 1)));
    world.create(with_memo("order 8", watch_address(100, 1)));
    world.create(watch_address(100, 1));
    world.blocks(vec![block(6, "a", "a", vec![carries("t", &["order 9"], 100)])]);
    assert_eq!(world.told(), ["w2 included 6a", "w2 success"]);
    world.blocks(vec![block(7, "a", "a", vec![carries("u", &["order 8"], 100)])]);
    assert_eq!(world.told(), ["w1 included 7a", "w1 success"]);
    world.blocks(vec![block(8, "a", "a", vec![pays("v", "shop", 100)])]);
    assert_eq!(world.told(), [""; 0]);
    world.blocks(vec![block(9, "a", "a", vec![carries("x", &["order 7"], 100)])]);
    assert_eq!(world.told(), ["w0 included 9a", "w0 success"]);
}

#[test]
fn a_bound_watch_comes_before_an_older_one_and_an_exact_one_that_are_not() {
    for older in [watch_address(70, 1), watch_address(100, 1), watch_tx("t", 100, 1)] {
        for (asked, fact) in [
            (with_memo("order 7", watch_address(300, 1)), carries("t", &["order 7"], 100)),
            (with_references(&["one"], watch_address(300, 1)), names("t", &["one"])),
        ] {
            let mut world = World::new();
            world.create(older.clone());
            world.create(asked);
            world.blocks(vec![block(6, "a", "a", vec![fact])]);
            assert_eq!(world.claim_state("t"), [(1, ClaimState::Reserved)], "before {older:?}");
        }
    }
}

#[test]
fn of_bound_watches_the_exact_one_comes_first_then_the_oldest() {
    let mut world = World::new();
    let keyed = |amount, key: &str| {
        with_memo("order 7", with(watch_address(amount, 1), |it| it.idempotency_key = Some(key.into())))
    };
    for (amount, key) in [(300, "a"), (200, "b"), (100, "c")] {
        world.create(keyed(amount, key));
    }
    world.blocks(vec![block(6, "a", "a", vec![carries("t", &["order 7"], 100)])]);
    assert_eq!(world.told(), ["w2 included 6a", "w2 success"]);
    world.blocks(vec![block(7, "a", "a", vec![carries("u", &["order 7"], 100)])]);
    assert_eq!(world.claim_state("u"), [(0, ClaimState::Reserved)]);
}

#[test]
fn a_late_payment_goes_to_the_failed_watch_that_it_is_bound_to() {
    let mut world = World::new();
    let soon = |request| with(request, |it| it.terms.deadline = time_of(6));
    world.create(soon(watch_address(100, 1)));
    world.create(soon(with_memo("order 7", watch_address(100, 1))));
    world.wait_until(time_of(8));
    world.told();
    world.blocks(vec![block(6, "a", "a", vec![carries("t", &["order 7"], 100)])]);
    assert_eq!(world.told(), ["w1 included 6a", "w1 late 6a"]);
}

/// What a mempool shows may be less than what the block tells, and the other way round.
#[test]
fn a_mark_counts_where_the_transaction_is_now() {
    let mut world = World::new();
    world.create(with_memo("order 7", watch_tx("t", 100, 1)));
    world.observe(Observation::Seen(carries("t", &[], 100)));
    assert_eq!(world.claim_state("t"), []);
    world.observe(Observation::Seen(carries("t", &["order 7"], 100)));
    assert_eq!(world.claim_state("t"), [(0, ClaimState::Reserved)]);
    world.restart();
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    assert_eq!(world.told(), ["w0 seen", "w0 included 6a", "w0 failed memo_mismatch 6a"]);
    assert_eq!(world.claim_state("t"), []);
}

#[test]
fn a_further_report_of_the_same_block_brings_the_marks() {
    let mut world = World::new();
    let id = world.create(with_references(&["one"], with_memo("order 7", watch_tx("t", 100, 3))));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    let told = TxFact { memos: vec!["order 7".into()], ..names("t", &["one"]) };
    world.observe(Observation::Found(block(6, "a", "a", vec![told]).facts.remove(0)));
    assert_eq!(world.watches[&id].candidates[0].fact.memos, ["order 7"]);
    world.restart();
    world.blocks(empty(7, 8, "a"));
    assert_eq!(world.told(), ["w0 included 6a", "w0 success"]);
}

/// A transaction may carry a hundred memos and name as many addresses.
#[test]
fn watches_keep_of_the_marks_only_what_one_of_them_asks_for() {
    let mut world = World::new();
    let first = world.create(with_memo("m7", watch_tx("t", 100, 3)));
    let second = world.create(with_references(&["r7", "elsewhere"], watch_tx("t", 100, 4)));
    world.create(with_memo("m8", watch_tx("u", 100, 4)));
    let fact = TxFact {
        memos: (0..100).map(|n| format!("m{n}")).collect(),
        references: (0..100).map(|n| format!("r{n}").into()).collect(),
        ..pays("t", "shop", 100)
    };
    world.blocks(vec![block(6, "a", "a", vec![fact])]);
    let kept = |id| {
        let fact = &world.watches[id].candidates[0].fact;
        (fact.memos.clone(), fact.references.clone())
    };
    let asked = (vec!["m7".to_owned()], vec!["r7".into()]);
    assert_eq!((kept(&first), kept(&second)), (asked.clone(), asked));
}

/// One watch takes a payment, and fails; what it gives back goes to the one whose mark it carries, made before or after.
#[test]
fn what_a_watch_gives_back_still_carries_the_marks_of_another() {
    for made_after in [false, true] {
        let mut world = World::new();
        let exact = with(watch_tx("t", 50, 3), |it| it.terms.amount_rule = AmountRule::Exact);
        world.create(with_references(&["one"], exact));
        let bound = with_memo("order 7", with(watch_address(90, 1), |it| it.terms.not_before = Some(time_of(5))));
        if !made_after {
            world.create(bound.clone());
        }
        let mined = block(6, "a", "a", vec![TxFact { memos: vec!["order 7".into()], ..names("t", &["one"]) }]);
        let facts = mined.facts.clone();
        world.blocks(vec![mined]);
        if made_after {
            let watch = world.engine.create(world.now, bound).expect("a good request").id;
            world.commit();
            world.observe(Observation::LookedUp { watch, under: block_ref(6, "a"), facts });
        }
        assert_eq!(world.claim_state("t"), [(0, ClaimState::Reserved)]);
        world.restart();
        world.blocks(empty(7, 8, "a"));
        assert_eq!(world.told(), ["w0 included 6a", "w0 failed overpaid 6a", "w1 included 6a", "w1 success"]);
    }
}

#[test]
fn requests_that_ask_for_other_marks_are_other_watches() {
    let mut world = World::new();
    let requests = [
        watch_address(100, 1),
        with_memo("", watch_address(100, 1)),
        with_memo("order 7", watch_address(100, 1)),
        with_references(&["one"], watch_address(100, 1)),
        with_references(&["one", "two"], watch_address(100, 1)),
    ];
    let ids: std::collections::BTreeSet<_> = requests.into_iter().map(|request| world.create(request)).collect();
    assert_eq!(ids.len(), 5);
}

#[test]
fn a_bound_payment_that_was_there_before_is_found_by_the_look_up() {
    let mut world = World::new();
    let asked = with_memo("order 7", with(watch_address(100, 1), |it| it.terms.not_before = Some(time_of(4))));
    let id = world.engine.create(world.now, asked).expect("a good request").id;
    world.commit();
    let facts = block(5, "a", "a", vec![pays("t", "shop", 100), carries("u", &["order 7"], 100)]).facts;
    world.observe(Observation::LookedUp { watch: id, under: block_ref(5, "a"), facts });
    assert_eq!(world.told(), ["w0 included 5a", "w0 success"]);
    assert_eq!(world.claim_state("u"), [(0, ClaimState::Consumed)]);
}
