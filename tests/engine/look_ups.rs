//! Look-ups: what is written of them, and which of them a restart asks for again.

mod support;

use h402_watch_engine::changes::Changes;
use h402_watch_engine::id::WatchId;
use h402_watch_engine::input::Observation;
use support::{World, block, block_ref, empty, network, pays, watch_address, watch_tx};

/// The watches that a restart asks to have looked up.
fn asked_after_restart(world: &mut World) -> Vec<WatchId> {
    world.restart().into_iter().map(|look_up| look_up.watch).collect()
}

#[test]
fn a_look_up_that_finds_nothing_is_nothing_to_commit() {
    let mut world = World::new();
    let id = world.engine.create(world.now, watch_tx("t", 100, 3)).expect("a good request").id;
    world.commit();
    let answer = Observation::LookedUp { watch: id, under: block_ref(5, "a"), facts: Vec::new() };
    world.engine.handle_observation(world.now, &network(), answer, Vec::new()).expect("it is known");
    assert_eq!(world.engine.drain(), Changes::default());

    let blocks = Observation::Blocks(empty(6, 6, "a"));
    world.engine.handle_observation(world.now, &network(), blocks, Vec::new()).expect("it links");
    let changes = world.engine.drain();
    assert!(changes.watches.is_empty(), "its record is what it was");
    assert!(changes.looked_up.iter().all(|(of, looked_up)| *of == network() && looked_up.holds(0)));
    assert_eq!(changes.looked_up.len(), 1, "it goes along with the block");
}

#[test]
fn what_was_looked_up_is_not_asked_for_again_once_something_was_committed() {
    let mut world = World::new();
    let first = world.create(watch_tx("t", 100, 3));
    assert_eq!(asked_after_restart(&mut world), std::slice::from_ref(&first), "nothing was committed since");
    world.observe(Observation::LookedUp { watch: first, under: block_ref(5, "a"), facts: Vec::new() });
    let second = world.engine.create(world.now, watch_tx("u", 100, 3)).expect("a good request").id;
    world.commit();
    assert_eq!(asked_after_restart(&mut world), std::slice::from_ref(&second));
    world.blocks(empty(6, 6, "a"));
    assert_eq!(asked_after_restart(&mut world), std::slice::from_ref(&second), "it was not answered yet");
    world.observe(Observation::LookedUp { watch: second, under: block_ref(6, "a"), facts: Vec::new() });
    world.blocks(empty(7, 7, "a"));
    assert!(asked_after_restart(&mut world).is_empty());
}

#[test]
fn what_is_looked_up_again_is_asked_for_after_a_restart_too() {
    let mut world = World::new();
    let id = world.create(watch_address(100, 3));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 40)])]);
    assert!(asked_after_restart(&mut world).is_empty());
    // What the address received leaves the chain: what it may have received instead is looked up.
    world.blocks(vec![block(6, "b", "a", Vec::new()), block(7, "b", "b", Vec::new())]);
    assert_eq!(asked_after_restart(&mut world), std::slice::from_ref(&id));
    world.observe(Observation::LookedUp { watch: id, under: block_ref(7, "b"), facts: Vec::new() });
    world.blocks(empty(8, 8, "b"));
    assert!(asked_after_restart(&mut world).is_empty());
}
