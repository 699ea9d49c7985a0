//! What chains bring along whose transactions use up outputs: double spends, displaced payments, change, money that ripens,
//! and looking back by height.

mod support;

use h402_watch_engine::Refused;
use h402_watch_engine::changes::Ask;
use h402_watch_engine::input::{Observation, TxFact};
use support::*;

/// A transaction that uses what `t` uses.
fn instead_of_t(tx: &str, to: &str, amount: u64) -> TxFact {
    TxFact { spends: pays("t", "shop", 0).spends, ..pays(tx, to, amount) }
}

#[test]
fn double_spend_of_what_is_not_replaceable_is_a_conflict() {
    for (replaceable, reason) in [(false, "conflicted"), (true, "replaced")] {
        let mut world = World::new();
        world.create(watch_tx("t", 100, 2));
        world.observe(Observation::Seen(TxFact { replaceable, ..pays("t", "shop", 100) }));
        world.blocks(vec![block(6, "a", "a", vec![instead_of_t("d", "payer", 100)])]);
        assert_eq!(world.told(), ["w0 seen"], "not before it is deep");
        world.blocks(empty(7, 7, "a"));
        assert_eq!(world.told(), [format!("w0 failed {reason} d 6a")]);
    }
}

#[test]
fn double_spend_that_is_reorged_out_gives_way_to_the_payment() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 2));
    world.observe(Observation::Seen(TxFact { replaceable: false, ..pays("t", "shop", 100) }));
    world.blocks(vec![block(6, "a", "a", vec![instead_of_t("d", "payer", 100)])]);
    world.blocks(vec![block(6, "b", "a", vec![pays("t", "shop", 100)]), block(7, "b", "b", vec![])]);
    assert_eq!(world.told(), ["w0 seen", "w0 included 6b", "w0 success"]);
}

#[test]
fn replacement_that_pays_an_address_displaces_what_it_waited_for() {
    let mut world = World::new();
    world.create(watch_address(100, 1));
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    world.observe(Observation::Seen(instead_of_t("r", "shop", 100)));
    assert_eq!(world.told(), ["w0 seen", "w0 evicted", "w0 seen"]);
    world.blocks(vec![block(6, "a", "a", vec![instead_of_t("r", "shop", 100)])]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 success"]);
}

#[test]
fn change_to_oneself_is_no_payment() {
    let change = TxFact { funded_by: vec!["shop".into()], ..pays("t", "shop", 100) };
    let mut world = World::new();
    world.create(watch_address(100, 1));
    world.create(watch_tx("t", 100, 1));
    world.observe(Observation::Seen(change.clone()));
    world.blocks(vec![block(6, "a", "a", vec![change])]);
    assert_eq!(world.told(), ["w1 seen", "w1 included 6a", "w1 failed payer_mismatch 6a"]);
    world.blocks(vec![block(7, "a", "a", vec![pays("u", "shop", 100)])]);
    assert_eq!(world.told(), ["w0 included 7a", "w0 success"]);
}

#[test]
fn money_that_ripens_settles_when_it_is_ripe() {
    for request in [watch_tx("t", 100, 2), watch_address(100, 2)] {
        let mut world = World::new();
        world.create(request);
        let fact = TxFact { matures: 5, ..pays("t", "shop", 100) };
        world.blocks(vec![block(6, "a", "a", vec![fact])]);
        world.blocks(empty(7, 9, "a"));
        assert_eq!(world.told(), ["w0 included 6a"]);
        world.restart();
        world.blocks(empty(10, 10, "a"));
        assert_eq!(world.told(), ["w0 success"]);
    }
}

/// Bitcoin lets a block state an earlier time than the one below it.
#[test]
fn a_deadline_waits_for_blocks_that_may_still_state_an_earlier_time() {
    let mut world = World::new();
    world.create(with(watch_address(100, 1), |it| it.terms.deadline = time_of(7)));
    let mut late = block(6, "a", "a", vec![]);
    (late.header.time, late.floor) = (time_of(9), time_of(3));
    world.now = time_of(9);
    world.blocks(vec![late]);
    assert_eq!(world.told(), [""; 0], "the next one may state time 7");
    let mut early = block(7, "a", "a", vec![pays("t", "shop", 100)]);
    early.floor = time_of(4);
    world.blocks(vec![early]);
    assert_eq!(world.told(), ["w0 included 7a", "w0 success"]);
    world.create(with(watch_address(50, 1), |it| it.terms.deadline = time_of(10)));
    let mut last = block(8, "a", "a", vec![]);
    (last.header.time, last.floor) = (time_of(12), time_of(11));
    world.blocks(vec![last]);
    assert_eq!(world.told(), ["w1 failed deadline_passed"], "no block can state so early a time any more");
}

/// What waits in a mempool is located after a restart: it may have left while nobody looked.
#[test]
fn pending_payments_are_located_after_a_restart() {
    let mut world = World::new();
    world.create(watch_address(100, 1));
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    world.asks.clear();
    world.restart();
    assert!(world.asks.contains(&Ask::Locate { tx: "t".into() }));
}

#[test]
fn height_to_look_back_to_counts_what_lies_above_it() {
    let mut world = World::new();
    let request = with(watch_address(100, 1), |it| it.terms.from_height = Some(3));
    let id = world.engine.create(world.now, request).expect("a good request").id;
    world.commit();
    let asked = world.asks.iter().find_map(|ask| match ask {
        Ask::LookUp(look_up) => Some((look_up.from_height, look_up.since)),
        _ => None,
    });
    assert_eq!(asked, Some((Some(3), Some(h402_watch_engine::id::Timestamp(0)))));
    let place = |tx: &str, height: u64| {
        let fact = pays(tx, "shop", 100);
        block(height, "a", "a", vec![fact]).facts.remove(0)
    };
    let facts = vec![place("early", 2), place("t", 3)];
    world.observe(Observation::LookedUp { watch: id, under: block_ref(5, "a"), facts });
    assert_eq!(world.told(), ["w0 included 3a", "w0 success"]);
}

#[test]
fn height_below_what_is_kept_is_refused_where_the_source_cannot_search_there() {
    let mut world = World::new();
    world.blocks(empty(6, 40, "a"));
    let request = with(watch_address(100, 1), |it| it.terms.from_height = Some(1));
    let refused = world.engine.create(world.now, request).expect_err("too low");
    assert!(matches!(refused, Refused::Invalid { field: "terms.from_height", .. }), "{refused}");
}
