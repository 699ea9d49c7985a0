//! Watches at rest: their bytes, and how they are found.

mod support;

use h402_watch_engine::amount::Amount;
use h402_watch_engine::id::TxId;
use h402_watch_engine::input::Observation;
use h402_watch_engine::record::WatchRecord;
use h402_watch_engine::{Refused, watch_id};
use proptest::prelude::*;
use support::{World, block, block_ref, pays, watch_address, watch_tx, with};

/// Digits as chains spell them, and texts that almost are.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9a-f]{0,70}",
        "(0x)?[0-9a-f]{64}",
        "0x[0-9a-fA-F]{40}",
        "0x[0-9a-fA-F]{0,17}",
        "0[xX][0-9A-F]{8}",
        "(0x){0,2}[0-9a-fA-FxX]{16}",
        "w[0-9a-f]{31,33}",
        prop::collection::vec(any::<u8>(), 32).prop_map(|bytes| bs58::encode(bytes).into_string()),
        prop::collection::vec(any::<u8>(), 64).prop_map(|bytes| bs58::encode(bytes).into_string()),
        (0..33_usize, any::<[u8; 32]>()).prop_map(|(zeros, mut bytes)| {
            bytes[..zeros].fill(0);
            bs58::encode(bytes).into_string()
        }),
        "[1-9A-HJ-NP-Za-km-z]{31,45}",
        "[1-9A-HJ-NP-Za-km-z]{63,89}",
        "1{30,90}",
        any::<String>(),
    ]
}

fn size_of(text: &str) -> usize {
    postcard::to_stdvec(&TxId::from(text)).expect("it can be written").len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn texts_are_unpacked_to_what_they_were(text in texts()) {
        let packed = postcard::to_stdvec(&TxId::from(text.as_str())).expect("it can be written");
        prop_assert!(packed.len() <= text.len() + 3);
        let unpacked: TxId = postcard::from_bytes(&packed).expect("it can be read");
        prop_assert_eq!(unpacked.as_str(), text);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        // Whatever comes, it does not panic.
        let _ = postcard::from_bytes::<TxId>(&bytes);
        let _ = postcard::from_bytes::<Amount>(&bytes);
        let _ = WatchRecord::from_bytes(bytes).read();
    }

    #[test]
    fn amounts_are_read_back(high in any::<u128>(), low in any::<u128>(), shift in 0..256_u32) {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&high.to_be_bytes());
        bytes[16..].copy_from_slice(&low.to_be_bytes());
        bytes[..usize::try_from(shift / 8).expect("small")].fill(0);
        let amount = Amount::from_be_bytes(bytes);
        let packed = postcard::to_stdvec(&amount).expect("it can be written");
        prop_assert_eq!(postcard::from_bytes::<Amount>(&packed), Ok(amount));
    }
}

#[test]
fn digits_take_half_the_room() {
    let hash = "5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060";
    // A byte for the length, and one for the form.
    assert_eq!(size_of(hash), 2 + 32);
    assert_eq!(size_of(&format!("0x{hash}")), 2 + 32);
    assert_eq!(size_of("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"), 2 + 25);
    assert_eq!(size_of("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"), 2 + 32);
    assert_eq!(size_of(&bs58::encode([7; 64]).into_string()), 2 + 64);
    assert_eq!(size_of(watch_id(&watch_tx("t", 1, 1)).as_str()), 2 + 16);
    assert_eq!(postcard::to_stdvec(&Amount::from(1_000_000_u64)).expect("it can be written").len(), 1 + 3);
}

#[test]
fn a_watch_is_its_record() {
    let mut world = World::new();
    let id = world.create(watch_tx("t", 100, 3));
    let record = |world: &World| WatchRecord::of(world.engine.watch(&id).expect("open"));
    let pending = record(&world);
    assert_eq!(pending.read().as_ref(), Ok(world.engine.watch(&id).expect("open")));
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100)])]);
    assert_ne!(record(&world), pending);
    assert_eq!(record(&world).read().as_ref(), Ok(world.engine.watch(&id).expect("open")));
    let mut damaged = pending.as_bytes().to_vec();
    damaged.truncate(20);
    assert!(WatchRecord::from_bytes(damaged).read().is_err());
}

#[test]
fn a_watch_at_rest_is_found_by_its_id_and_its_key() {
    let mut world = World::new();
    let keyed = with(watch_address(100, 1), |request| request.idempotency_key = Some("order 7".into()));
    let (id, other) = (world.create(keyed.clone()), world.create(watch_tx("t", 100, 1)));
    for restarted in [false, true] {
        if restarted {
            world.restart();
        }
        let by_key = |key: &str| world.engine.watch_by_key(key).map(|watch| watch.id.clone());
        assert_eq!(by_key("order 7"), Some(id.clone()));
        assert_eq!(by_key(other.as_str()), Some(other.clone()), "without a key of its own the id is its key");
        assert_eq!(by_key(id.as_str()), None, "it has a key of its own");
        assert_eq!(by_key("order 8"), None);
        assert_eq!(world.engine.watch(&id).map(|watch| watch.request.clone()), Some(keyed.clone()));
        assert!(!world.engine.create(world.now, keyed.clone()).expect("the same again").new);
    }
    // A key may be the id of another watch: that is one name for two requests.
    let squatter = with(watch_address(50, 1), |request| request.idempotency_key = Some(other.to_string()));
    assert_eq!(world.engine.create(world.now, squatter), Err(Refused::KeyTaken { first: other }));
}

#[test]
fn what_happens_to_a_watch_between_two_commits_is_not_lost() {
    let mut world = World::new();
    let id = world.create(watch_address(100, 2));
    // Looked at only, and at rest again.
    assert!(world.engine.watch(&id).is_some());
    assert!(world.engine.drain().watches.is_empty(), "looking changes nothing");
    for amount in [30, 30, 40] {
        let tx = format!("t{}", world.now.0);
        let height = world.engine.head(&support::network()).expect("a head").block.height + 1;
        world.blocks(vec![block(height, "a", "a", vec![pays(&tx, "shop", amount)])]);
        world.observe(Observation::Missing { tx: "other".into(), under: block_ref(height, "a") });
    }
    world.blocks(support::empty(9, 9, "a"));
    let watch = world.engine.watch(&id).expect("in memory until it is final");
    assert_eq!((watch.candidates.len(), watch.received), (3, Amount::from(100_u64)));
}
