//! Transactions that can be included no more: what the source must prove, and what follows.

mod support;

use h402_watch_engine::Refused;
use h402_watch_engine::changes::{Ask, Interest};
use h402_watch_engine::id::WatchId;
use h402_watch_engine::input::{Observation, TxFact};
use h402_watch_engine::request::{Depth, Expiry, WatchRequest};
use support::{World, block, block_ref, empty, pays, watch_expiring, watch_tx, with};

const LAST: Expiry = Expiry::Height(7);

fn nonce() -> Expiry {
    Expiry::Nonce { account: "account".into(), value: "value".into() }
}

/// A world whose chain is final up to block 8.
fn world_with(requests: impl IntoIterator<Item = WatchRequest>) -> World {
    let mut world = World::new();
    for request in requests {
        world.create(request);
    }
    world.blocks(empty(6, 9, "a"));
    world.finalize(8);
    world
}

/// Makes a watch, and leaves its look-up unanswered.
fn create_unanswered(world: &mut World, request: WatchRequest) -> WatchId {
    let id = world.engine.create(world.now, request).expect("a good request").id;
    world.commit();
    id
}

fn settled(world: &World) -> serde_json::Value {
    serde_json::from_slice(&world.log.last().expect("an event").artefact).expect("JSON")
}

#[test]
fn an_expired_transaction_settles_with_the_block_that_proves_it() {
    for (expiry, stated) in [
        (LAST, serde_json::json!({"height": 7})),
        (nonce(), serde_json::json!({"nonceAccount": "account", "nonce": "value"})),
    ] {
        let mut world = world_with([watch_expiring("t", expiry.clone())]);
        world.expire("t", &expiry, 8);
        assert_eq!(world.told(), ["w0 failed expired"]);
        let artefact = settled(&world);
        let block = serde_json::json!({"height": 8, "hash": "8a"});
        assert_eq!(artefact["evidence"], serde_json::json!({"kind": "expired", "block": block}));
        assert_eq!(artefact["subject"]["expiry"], stated);
        world.expire("t", &expiry, 8);
        assert_eq!(world.told(), [""; 0]);
    }
}

#[test]
fn a_source_is_asked_for_each_expiry_once_and_told_when_nobody_waits() {
    let mut world = World::new();
    let opened = |world: &World, expiry: Expiry| {
        let interest = Interest::Expiry { tx: "t".into(), expiry };
        let count = |wanted: Ask| world.asks.iter().filter(|ask| **ask == wanted).count();
        (count(Ask::Open(interest.clone())), count(Ask::Close(interest)))
    };
    world.create(watch_expiring("t", LAST));
    world.create(with(watch_expiring("t", LAST), |it| it.idempotency_key = Some("again".into())));
    world.create(watch_expiring("t", nonce()));
    world.create(watch_tx("t", 100, 1));
    assert_eq!((opened(&world, LAST), opened(&world, nonce())), ((1, 0), (1, 0)));
    world.blocks(empty(6, 9, "a"));
    world.finalize(8);
    world.expire("t", &LAST, 8);
    assert_eq!(opened(&world, LAST), (1, 0), "it stays open for what comes late");
    let end = world.now.plus_ms(support::rules().late_window_ms);
    world.wait_until(end);
    assert_eq!((opened(&world, LAST), opened(&world, nonce())), ((1, 1), (1, 0)));
}

#[test]
fn only_the_watches_that_state_this_expiry_end() {
    let mut world = world_with([
        watch_tx("t", 100, 1),
        watch_expiring("t", Expiry::Height(5)),
        watch_expiring("t", nonce()),
        watch_expiring("u", Expiry::Height(5)),
    ]);
    world.expire("t", &Expiry::Height(5), 8);
    assert_eq!(world.told(), ["w1 failed expired"]);
}

#[test]
fn it_counts_only_with_a_final_block_of_the_chain_that_has_reached_it() {
    let mut world = world_with([watch_expiring("t", LAST)]);
    world.expire("t", &LAST, 9);
    world.expire("t", &LAST, 10);
    world.expire("t", &LAST, 6);
    let elsewhere = block_ref(8, "z");
    world.observe(Observation::Expired { tx: "t".into(), expiry: LAST, block: elsewhere });
    assert_eq!(world.told(), [""; 0]);
    world.finalize(9);
    assert_eq!(world.told(), [""; 0], "what was told too early is forgotten");
    world.expire("t", &LAST, 7);
    assert_eq!(world.told(), ["w0 failed expired"]);
}

#[test]
fn a_transaction_that_only_a_mempool_holds_expires() {
    let mut world = World::new();
    let id = world.create(watch_expiring("t", LAST));
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    world.blocks(empty(6, 9, "a"));
    world.finalize(8);
    world.expire("t", &LAST, 8);
    assert_eq!(world.told(), ["w0 seen", "w0 failed expired"]);
    assert_eq!((world.claim_state("t"), &settled(&world)["received"]), (vec![], &serde_json::json!("0")));
    world.restart();
    world.observe(Observation::Missing { tx: "t".into(), under: block_ref(9, "a") });
    assert_eq!(world.told(), ["w0 evicted"]);
    assert!(world.watches[&id].outcome.is_some());
}

#[test]
fn a_transaction_that_lands_after_all_is_late() {
    let mut world = world_with([watch_expiring("t", LAST)]);
    world.expire("t", &LAST, 8);
    world.restart();
    world.blocks(vec![block(10, "a", "a", vec![pays("t", "shop", 100)])]);
    assert_eq!(world.told(), ["w0 failed expired", "w0 included 10a", "w0 late 10a"]);
}

/// Nothing is decided by an expiry while a block of the chain holds the transaction, however shallow.
#[test]
fn an_included_transaction_does_not_expire() {
    let mut world = World::new();
    world.create(with(watch_expiring("t", LAST), |it| it.terms.depth = Depth::Blocks(5)));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    world.blocks(empty(7, 9, "a"));
    world.finalize(8);
    world.expire("t", &LAST, 8);
    assert_eq!(world.told(), ["w0 included 6a"]);
    world.blocks(empty(10, 10, "a"));
    assert_eq!(world.told(), ["w0 success", "w0 finalized 6a"]);
}

#[test]
fn what_was_told_while_a_block_held_it_is_not_kept_for_when_that_block_has_left() {
    let mut world = world_with([watch_expiring("t", nonce())]);
    world.blocks(vec![block(10, "a", "a", vec![TxFact { transfers_known: false, ..pays("t", "shop", 100) }])]);
    world.expire("t", &nonce(), 8);
    world.blocks(vec![block(10, "b", "a", vec![]), block(11, "b", "b", vec![])]);
    assert_eq!(world.told(), ["w0 included 10a", "w0 orphaned 10a"]);
    assert!(world.asks.contains(&Ask::Locate { tx: "t".into() }), "the source is asked, and tells it again");
    world.expire("t", &nonce(), 8);
    assert_eq!(world.told(), ["w0 failed expired"]);
}

#[test]
fn told_before_the_look_up_is_answered_it_waits_for_the_answer() {
    for restarts in [false, true] {
        let mut world = world_with([]);
        let id = create_unanswered(&mut world, watch_expiring("t", LAST));
        world.expire("t", &LAST, 8);
        assert_eq!(world.told(), [""; 0]);
        if restarts {
            world.restart();
        }
        world.observe(Observation::LookedUp { watch: id, under: block_ref(9, "a"), facts: Vec::new() });
        assert_eq!(world.told(), ["w0 failed expired"]);
    }
}

#[test]
fn told_before_the_look_up_finds_it_in_a_block_it_is_forgotten() {
    let mut world = world_with([]);
    let id = create_unanswered(&mut world, watch_expiring("t", LAST));
    world.expire("t", &LAST, 8);
    let facts = block(7, "a", "a", vec![pays("t", "shop", 100)]).facts;
    world.observe(Observation::LookedUp { watch: id.clone(), under: block_ref(9, "a"), facts });
    assert_eq!(world.told(), ["w0 included 7a", "w0 success", "w0 finalized 7a"]);
    assert_eq!(world.watches[&id].expired, None);
}

/// The source is not asked twice for one expiry: what it said is known to whoever states the same.
#[test]
fn a_watch_that_is_made_after_it_was_told_ends_too() {
    for restarts in [false, true] {
        let mut world = world_with([watch_expiring("t", LAST)]);
        world.expire("t", &LAST, 8);
        if restarts {
            world.restart();
        }
        let again = |expiry| with(watch_expiring("t", expiry), |it| it.idempotency_key = Some("again".into()));
        world.create(again(LAST));
        world.create(watch_expiring("t", nonce()));
        assert_eq!(world.told(), ["w0 failed expired", "w1 failed expired"]);
    }
}

/// What took its place decides, once it is deep.
#[test]
fn a_replacement_in_a_block_comes_before_the_expiry() {
    let mut world = World::new();
    world.create(with(watch_expiring("t", nonce()), |it| it.terms.depth = Depth::Blocks(5)));
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    let instead = TxFact { spends: pays("t", "shop", 0).spends, ..pays("r", "thief", 100) };
    world.blocks(vec![block(6, "a", "a", vec![instead])]);
    world.blocks(empty(7, 9, "a"));
    world.finalize(8);
    world.expire("t", &nonce(), 8);
    assert_eq!(world.told(), ["w0 seen"]);
    world.blocks(empty(10, 10, "a"));
    assert_eq!(world.told(), ["w0 failed replaced r 6a"]);
}

#[test]
fn a_height_that_no_artefact_can_hold_is_refused() {
    let mut world = World::new();
    let refused = world.engine.create(world.now, watch_expiring("t", Expiry::Height(1 << 53)));
    let field = "transaction.last_valid_height";
    assert_eq!(refused, Err(Refused::Invalid { field, expected: "a block height".into() }));
}
