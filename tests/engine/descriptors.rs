//! Watches on descriptors: sums over many addresses, and a window that moves up with use.

mod support;

use h402_watch_engine::changes::{Ask, ClaimState, Interest, LookUp};
use h402_watch_engine::descriptor::{DERIVED_MAX, GAP_LIMIT_MAX};
use h402_watch_engine::id::{AssetId, WatchId};
use h402_watch_engine::input::{Observation, TxFact};
use h402_watch_engine::request::{AmountRule, Subject};
use h402_watch_engine::{Engine, Refused, Snapshot};
use support::*;

/// The addresses of the look-ups asked since the last call.
fn looked_up(world: &mut World) -> Vec<Vec<String>> {
    let asks = std::mem::take(&mut world.asks);
    let look_ups = asks.into_iter().filter_map(|ask| match ask {
        Ask::LookUp(LookUp { pay_to, .. }) => Some(pay_to.iter().map(ToString::to_string).collect()),
        _ => None,
    });
    look_ups.collect()
}

fn answer(world: &mut World, watch: &WatchId, facts: Vec<TxFact>) {
    let under = world.engine.head(&network()).expect("a head").block.clone();
    world.observe(Observation::LookedUp { watch: watch.clone(), under, facts });
}

fn next(world: &mut World, id: &WatchId, reserve: bool) -> Result<String, Refused> {
    let next = world.engine.next_address(id, reserve);
    world.commit();
    next.map(|derived| {
        assert_eq!(derived.address.as_str(), format!("keys/{}", derived.path()));
        derived.path()
    })
}

/// A fact in a block that the chain has already.
fn in_block(height: u64, fact: TxFact) -> TxFact {
    block(height, "a", "a", vec![fact]).facts.remove(0)
}

fn artefact(world: &World, kind: &str) -> serde_json::Value {
    let event = world.log.iter().rev().find(|event| event.kind.as_str() == kind).expect("such an event");
    serde_json::from_slice(&event.artefact).expect("JSON")
}

#[test]
fn payments_to_several_addresses_add_up() {
    let mut world = World::new();
    world.create(watch_descriptor(100, 3));
    world.blocks(vec![block(6, "a", "a", vec![pays("t1", "keys/0/0", 30), pays("t2", "keys/0/2", 20)])]);
    world.blocks(vec![block(7, "a", "a", vec![pays("t3", "keys/0/1", 50), pays("t4", "elsewhere", 50)])]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 included 6a", "w0 included 7a", "w0 success"]);
    assert_eq!(artefact(&world, "settled")["received"], "100");
}

#[test]
fn transaction_that_moves_the_window_is_judged_by_the_moved_one() {
    let mut world = World::new();
    world.create(watch_descriptor(100, 2));
    let mut several = pays("t", "keys/0/4", 60);
    several.transfers.push(transfer(1, "keys/0/2", 20));
    several.transfers.push(transfer(2, "keys/0/1", 20));
    several.transfers.push(transfer(3, "keys/0/7", 1));
    world.blocks(vec![block(6, "a", "a", vec![several])]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 success"]);
    let paths = artefact(&world, "settled")["transfers"].clone();
    let paths: Vec<_> = paths.as_array().expect("a list").iter().map(|moved| moved["path"].clone()).collect();
    assert_eq!(paths, ["0/4", "0/2", "0/1"], "0/7 is beyond the gap");
}

#[test]
fn receipts_name_the_path_of_each_address() {
    let mut world = World::new();
    world.create(watch_descriptor(100, 6));
    world.create(with(watch_address(1, 1), |it| it.terms.pay_to = "shop".into()));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "keys/0/5", 100), pays("u", "shop", 1)])]);
    let settled: Vec<serde_json::Value> = world
        .log
        .iter()
        .filter(|event| event.kind.as_str() == "settled")
        .map(|event| serde_json::from_slice(&event.artefact).expect("JSON"))
        .collect();
    assert_eq!(settled[0]["transfers"][0]["path"], "0/5");
    assert_eq!(settled[0]["subject"]["gapLimit"], 6);
    assert!(settled[1]["transfers"][0].get("path").is_none(), "of other subjects nothing changes");
}

#[test]
fn use_moves_the_window_and_what_came_to_the_new_addresses_is_looked_up() {
    let mut world = World::new();
    let id = world.create(watch_descriptor(100, 2));
    assert_eq!(looked_up(&mut world), [["keys/0/0", "keys/0/1", "keys/1/0", "keys/1/1"]]);
    // Block 6 holds a payment beyond the window: nobody looks for it.
    world.blocks(vec![block(6, "a", "a", vec![pays("t2", "keys/0/3", 60)])]);
    assert_eq!(world.told(), [""; 0]);
    world.blocks(vec![block(7, "a", "a", vec![pays("t1", "keys/0/1", 40)])]);
    assert_eq!(world.told(), ["w0 included 7a"]);
    let opened = |address: &str| {
        let interest = Interest::Recipient { asset: AssetId::native(), address: address.into() };
        Ask::Open(interest)
    };
    assert_eq!(world.asks[..2], [opened("keys/0/2"), opened("keys/0/3")], "opened before they are looked up");
    assert_eq!(looked_up(&mut world), [["keys/0/2", "keys/0/3"]], "only those");
    answer(&mut world, &id, vec![in_block(6, pays("t2", "keys/0/3", 60))]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 success"]);
}

#[test]
fn addresses_beyond_the_gap_are_not_looked_for() {
    let mut world = World::new();
    world.create(watch_descriptor(100, 2));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "keys/0/2", 100)])]);
    world.observe(Observation::Seen(pays("u", "keys/1/2", 100)));
    assert_eq!(world.told(), [""; 0]);
}

#[test]
fn one_look_up_is_under_way_and_the_deadline_waits_for_the_last() {
    let mut world = World::new();
    let request = with(watch_descriptor(100, 1), |it| it.terms.deadline = time_of(8));
    let id = world.create(request);
    looked_up(&mut world);
    world.blocks(vec![block(6, "a", "a", vec![pays("t0", "keys/0/0", 1), pays("t1", "keys/0/1", 1)])]);
    assert_eq!(looked_up(&mut world), [["keys/0/1"]], "the second use waits for the answer to the first");
    world.restart();
    assert_eq!(
        looked_up(&mut world),
        [["keys/0/0", "keys/0/1", "keys/0/2", "keys/1/0"]],
        "nobody knows what was answered"
    );
    world.blocks(empty(7, 9, "a"));
    assert_eq!(world.told(), ["w0 included 6a", "w0 included 6a"], "what was paid in time may still be found");
    answer(&mut world, &id, vec![in_block(6, pays("t3", "keys/1/0", 1)), in_block(6, pays("t2", "keys/0/2", 98))]);
    assert_eq!(looked_up(&mut world), [["keys/0/3", "keys/1/1"]]);
    answer(&mut world, &id, vec![]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 success"]);
}

#[test]
fn reorg_asks_for_all_addresses_again() {
    let mut world = World::new();
    let id = world.create(watch_descriptor(100, 1));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "keys/0/0", 60)])]);
    looked_up(&mut world);
    // The look-up of keys/0/1 is under way.
    world.blocks(vec![block(6, "b", "a", vec![]), block(7, "b", "b", vec![])]);
    assert_eq!(looked_up(&mut world), [[""; 0]; 0]);
    answer(&mut world, &id, vec![]);
    assert_eq!(looked_up(&mut world), [["keys/0/0", "keys/0/1", "keys/1/0"]]);
    answer(&mut world, &id, vec![]);
    assert_eq!(looked_up(&mut world), [[""; 0]; 0]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 orphaned 6a"]);
    assert_eq!(next(&mut world, &id, false).as_deref(), Ok("0/1"), "a use is never undone");
}

#[test]
fn change_to_oneself_is_no_payment_and_moves_the_window() {
    let mut world = World::new();
    world.create(watch_descriptor(100, 2));
    let change = TxFact { funded_by: vec!["keys/0/0".into()], ..pays("t", "keys/1/1", 100) };
    let mut moved = pays("u", "keys/1/0", 100);
    moved.transfers[0].from = Some("keys/0/1".into());
    world.blocks(vec![block(6, "a", "a", vec![change, moved])]);
    assert_eq!(world.told(), [""; 0]);
    // From an address that was used before all those that are watched.
    world.blocks(vec![block(7, "a", "a", vec![pays("v", "keys/1/3", 100)])]);
    assert_eq!(world.told(), [""; 0]);
    world.blocks(vec![block(8, "a", "a", vec![pays("w", "keys/0/1", 100)])]);
    assert_eq!(world.told(), ["w0 included 8a", "w0 success"]);
}

#[test]
fn payment_that_turns_out_to_be_change_is_given_back() {
    let mut world = World::new();
    world.create(with(watch_descriptor(100, 1), |it| it.terms.depth = h402_watch_engine::request::Depth::Blocks(2)));
    // The address that it spends from is beyond the window at first.
    world.observe(Observation::Seen(pays("t", "keys/0/0", 100)));
    assert_eq!(world.claim_state("t"), [(0, ClaimState::Reserved)]);
    world.observe(Observation::Seen(TxFact { funded_by: vec!["keys/0/1".into()], ..pays("t", "keys/0/0", 100) }));
    assert_eq!(world.claim_state("t"), []);
}

#[test]
fn address_and_descriptor_share_transfers_by_age() {
    let mut world = World::new();
    world.create(with(watch_address(100, 1), |it| it.terms.pay_to = "keys/0/0".into()));
    world.create(watch_descriptor(100, 2));
    world.create(watch_descriptor(60, 2));
    let facts = vec![pays("t1", "keys/0/0", 60), pays("t2", "keys/0/0", 100), pays("t3", "keys/0/1", 100)];
    world.blocks(vec![block(6, "a", "a", facts)]);
    let state = |tx: &str| world.claim_state(tx);
    assert_eq!(state("t1"), [(2, ClaimState::Consumed)], "exact first");
    assert_eq!(state("t2"), [(0, ClaimState::Consumed)], "then the oldest");
    assert_eq!(state("t3"), [(1, ClaimState::Consumed)]);
}

#[test]
fn use_before_the_watch_is_found_from_the_height_on_and_does_not_count() {
    let mut world = World::new();
    let request = with(watch_descriptor(100, 2), |it| {
        it.terms.from_height = Some(1);
        it.terms.not_before = Some(time_of(5).plus_ms(1));
    });
    let id = world.engine.create(world.now, request).expect("a good request").id;
    world.commit();
    let since = world.asks.iter().find_map(|ask| match ask {
        Ask::LookUp(look_up) => Some((look_up.since, look_up.from_height)),
        _ => None,
    });
    assert_eq!(since, Some((Some(h402_watch_engine::id::Timestamp(0)), Some(1))));
    answer(&mut world, &id, vec![in_block(2, pays("t", "keys/0/1", 100))]);
    assert_eq!(world.told(), [""; 0]);
    assert_eq!(next(&mut world, &id, false).as_deref(), Ok("0/0"), "not used, though below the highest used one");
    assert_eq!(next(&mut world, &id, true).as_deref(), Ok("0/0"));
    assert_eq!(next(&mut world, &id, false).as_deref(), Ok("0/2"));
}

#[test]
fn next_address_skips_what_is_used_or_reserved() {
    let mut world = World::new();
    let id = world.create(watch_descriptor(100, 3));
    assert_eq!(next(&mut world, &id, false).as_deref(), Ok("0/0"));
    assert_eq!(next(&mut world, &id, true).as_deref(), Ok("0/0"));
    world.observe(Observation::Seen(pays("t", "keys/0/1", 1)));
    world.restart();
    assert_eq!(next(&mut world, &id, true).as_deref(), Ok("0/2"));
    assert_eq!(next(&mut world, &id, true).as_deref(), Ok("0/3"));
    assert_eq!(next(&mut world, &id, true).as_deref(), Ok("0/4"));
    let refused = next(&mut world, &id, true).expect_err("all are taken");
    assert_eq!(refused, Refused::Exhausted { watch: id.clone(), gap_limit: 3 });
    assert!(refused.to_string().contains("gap_limit above 3"), "{refused}");
    world.observe(Observation::Seen(pays("u", "keys/0/4", 1)));
    assert_eq!(next(&mut world, &id, true).as_deref(), Ok("0/5"), "a payment makes room");
    world.engine.cancel(world.now, &id).expect("is open");
    world.commit();
    assert_eq!(next(&mut world, &id, true), Err(Refused::Settled(id)));
    let other = world.create(watch_address(100, 1));
    assert!(matches!(next(&mut world, &other, true), Err(Refused::Invalid { field: "watch_id", .. })));
    let unknown = WatchId::from("w0");
    assert_eq!(next(&mut world, &unknown, true), Err(Refused::NotFound(unknown)));
}

#[test]
fn restart_changes_nothing() {
    let facts = |n: u64| vec![pays(&format!("t{n}"), &format!("keys/{}/{}", n % 2, n / 2), 10)];
    let run = |restarts: bool| {
        let mut world = World::new();
        let id = world.create(with(watch_descriptor(100, 3), |it| it.terms.amount_rule = AmountRule::Exact));
        for height in 6..=27 {
            world.blocks(vec![block(height, "a", "a", facts(height - 6))]);
            if restarts {
                world.restart();
            }
            answer(&mut world, &id, vec![]);
            answer(&mut world, &id, vec![]);
        }
        (world.story(), world.log, world.watches, world.engine.index_len())
    };
    let steady = run(false);
    assert!(steady.0.iter().any(|line| line.contains("success")), "{:?}", steady.0);
    assert_eq!(steady, run(true));
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let bad = |descriptor: &str, gap_limit: u32| {
        let mut world = World::new();
        let subject = Subject::Descriptor { descriptor: descriptor.into(), gap_limit };
        world.engine.create(world.now, request(subject, 100, 1)).expect_err("no good request")
    };
    for gap_limit in [0, GAP_LIMIT_MAX + 1] {
        assert_eq!(bad("keys", gap_limit).to_string(), "output_descriptor.gap_limit: expected 1 to 1000");
    }
    assert!(matches!(bad("no keys", 20), Refused::Invalid { field: "output_descriptor.text", .. }));
    let without = h402_watch_engine::rules::NetworkRules { derive: None, ..rules() };
    let mut engine = Engine::restore(Default::default(), vec![without], Snapshot::default());
    let blocks = Observation::Blocks(empty(0, 5, "a"));
    engine.handle_observation(time_of(5), &network(), blocks, Vec::new()).expect("it links");
    let refused = engine.create(time_of(5), watch_descriptor(100, 20)).expect_err("no descriptors here");
    assert!(matches!(refused, Refused::Invalid { field: "output_descriptor", .. }), "{refused}");
}

/// Invariant 11.
#[test]
fn window_stops_at_its_bound() {
    let mut world = World::new();
    let id = world.create(watch_descriptor(1_000_000, GAP_LIMIT_MAX));
    for n in 1..=120 {
        world.observe(Observation::Seen(pays(&format!("t{n}"), &format!("keys/0/{}", n * GAP_LIMIT_MAX - 1), 1)));
    }
    let window = world.watches[&id].window.as_ref().expect("a window");
    assert_eq!(window.addresses().count(), DERIVED_MAX);
    assert_eq!(world.log.len(), 99, "the last 1,000 of the bound are change");
}

#[test]
fn archived_watch_leaves_nothing_behind() {
    let mut world = World::new();
    let before = world.engine.index_len();
    world.create(watch_descriptor(100, 5));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "keys/0/4", 100)])]);
    assert_eq!(world.told(), ["w0 included 6a", "w0 success"]);
    world.blocks(empty(7, 30, "a"));
    assert_eq!(world.engine.watches_len(), 0);
    assert_eq!(world.engine.index_len(), before);
    let opened = world.asks.iter().filter(|ask| matches!(ask, Ask::Open(_))).count();
    let closed = world.asks.iter().filter(|ask| matches!(ask, Ask::Close(_))).count();
    assert_eq!(opened, closed);
}
