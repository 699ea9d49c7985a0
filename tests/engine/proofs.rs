//! Inclusion proofs as artefacts carry them: bounded, and never silently absent.

mod support;

use h402_watch_engine::changes::{Ask, EventKind, Interest};
use h402_watch_engine::input::TxFact;
use h402_watch_engine::proof::{PROOF_MAX, PROOFS_MAX, Part, Proof};
use h402_watch_engine::request::WatchRequest;
use serde_json::Value;
use support::{World, block, pays, watch_address, watch_tx, with};

fn proving(request: WatchRequest) -> WatchRequest {
    with(request, |asked| asked.proofs = Some(true))
}

fn of_size(bytes: usize) -> Option<Box<Proof>> {
    Some(Box::new(Proof::new("test", [("header", Part::Bytes(vec![0xab; bytes]))])))
}

/// The proofs of the artefacts of one kind.
fn told(world: &World, kind: EventKind) -> Vec<Vec<Value>> {
    let events = world.log.iter().filter(|event| event.kind == kind);
    let artefacts = events.map(|event| serde_json::from_slice::<Value>(&event.artefact).expect("JSON"));
    artefacts.map(|mut json| json["proofs"].as_array_mut().map(std::mem::take).unwrap_or_default()).collect()
}

fn kinds(proofs: &[Value]) -> Vec<&str> {
    proofs.iter().map(|proof| proof["kind"].as_str().expect("a kind")).collect()
}

/// Whoever pays decides how large the transaction is, and its receipt.
#[test]
fn a_proof_that_is_too_large_is_replaced_by_a_statement() {
    for (bytes, kind) in [(PROOF_MAX, "test"), (PROOF_MAX + 1, "none")] {
        let mut world = World::new();
        world.create(proving(watch_tx("t", 100, 2)));
        world.blocks(vec![block(6, "a", "a", vec![TxFact { proof: of_size(bytes), ..pays("t", "shop", 100) }])]);
        world.blocks(vec![block(7, "a", "a", Vec::new())]);
        assert_eq!(world.told(), ["w0 included 6a", "w0 success"]);
        let (included, settled) = (told(&world, EventKind::Included), told(&world, EventKind::Settled));
        assert_eq!((kinds(&included[0]), kinds(&settled[0])), (vec![kind], vec![kind]));
        // Headers say nothing where nothing is proven.
        assert_eq!(settled[0][0]["headers"].is_array(), kind == "test");
        assert_eq!(settled[0][0]["statement"].is_string(), kind == "none");
    }
}

#[test]
fn a_proof_that_is_not_known_is_said_to_be_so() {
    let mut world = World::new();
    world.create(proving(watch_tx("t", 100, 1)));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    for kind in [EventKind::Included, EventKind::Settled] {
        assert_eq!(kinds(&told(&world, kind)[0]), ["none"]);
    }
}

/// A watch holds so much and no more; what its receipts have told is not lost, and the settlement names it.
#[test]
fn many_proofs_of_one_watch_stand_in_its_receipts() {
    let mut world = World::new();
    world.create(proving(watch_address(1000, 1)));
    let size = PROOF_MAX / 2;
    for (height, n) in (6..).zip(0..10) {
        let paid = TxFact { proof: of_size(size), ..pays(&format!("t{n}"), "shop", 100) };
        world.blocks(vec![block(height, "a", "a", vec![paid])]);
    }
    let included = told(&world, EventKind::Included);
    assert_eq!(included.len(), 10);
    assert!(included.iter().all(|proofs| kinds(proofs) == ["test"]), "each receipt has its own");
    let held: usize = world.watches.values().flat_map(|watch| &watch.candidates).count();
    assert_eq!(held, 10);
    let settled = &told(&world, EventKind::Settled)[0];
    let shown = settled.iter().filter(|proof| proof["kind"] == "test").count();
    assert_eq!((settled.len(), shown), (10, PROOFS_MAX / 2 / size), "as many as there is room for, first ones first");
    assert!(settled[shown..].iter().all(|proof| proof["kind"] == "omitted"));
    let text = world.log.last().expect("settled").artefact.len();
    assert!(text < PROOFS_MAX + PROOFS_MAX / 8, "{text}");
}

/// The proof is worth more than the headers on top of it.
#[test]
fn headers_give_way_before_the_proof_does() {
    for (header, headers) in [(PROOFS_MAX / 8, 2), (PROOFS_MAX / 2, 0)] {
        let mut world = World::new();
        world.create(proving(watch_tx("t", 100, 3)));
        let large = |height, facts| {
            let mut block = block(height, "a", "a", facts);
            block.header.bytes = vec![1; header].into();
            block
        };
        world.blocks(vec![large(6, vec![TxFact { proof: of_size(100), ..pays("t", "shop", 100) }])]);
        world.blocks(vec![large(7, Vec::new()), large(8, Vec::new())]);
        let settled = &told(&world, EventKind::Settled)[0];
        assert_eq!(kinds(settled), ["test"]);
        assert_eq!(settled[0]["headers"].as_array().map_or(0, Vec::len), headers);
    }
}

/// Sources are told once that somebody wants proofs, before they are told of what; and once when nobody does any more.
#[test]
fn sources_make_proofs_while_somebody_wants_them() {
    let mut world = World::new();
    let (first, second) = (world.create(proving(watch_tx("t", 100, 1))), world.create(proving(watch_tx("u", 100, 1))));
    world.create(watch_tx("v", 100, 1));
    let about = |world: &World| {
        let asks = world.asks.iter().filter(|ask| match ask {
            Ask::Open(interest) | Ask::Close(interest) => *interest == Interest::Proofs,
            _ => false,
        });
        asks.cloned().collect::<Vec<_>>()
    };
    assert_eq!(about(&world), [Ask::Open(Interest::Proofs)]);
    let opened = |interest: &Interest| world.asks.iter().position(|ask| *ask == Ask::Open(interest.clone()));
    assert!(opened(&Interest::Proofs) < opened(&Interest::Tx("t".into())));
    for id in [first, second] {
        assert_eq!(about(&world).len(), 1);
        world.engine.cancel(world.now, &id).expect("it is open");
        world.commit();
        world.wait_until(world.now.plus_ms(support::rules().late_window_ms + 1));
    }
    assert_eq!(about(&world), [Ask::Open(Interest::Proofs), Ask::Close(Interest::Proofs)]);
}
