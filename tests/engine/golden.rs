//! Artefacts, byte for byte. `H402_WRITE_GOLDEN=1` writes them anew, which is a change of the format.

mod support;

use std::path::Path;

use h402_watch_engine::canonical::digest;
use h402_watch_engine::id::Timestamp;
use h402_watch_engine::input::{AuthorizationUse, Observation, TxFact, Verification};
use h402_watch_engine::proof::{Part, Proof};
use h402_watch_engine::request::{AmountRule, AtDeadline, Binding, Expiry, Report, Subject, WatchRequest};
use support::{
    BLOCK_MS, START_MS, World, block, carries, pays, request, time_of, transfer, watch_address, watch_descriptor,
    watch_expiring, watch_tx, with,
};

/// All artefacts of a story, each in a file of its own.
fn check(name: &str, world: &World) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name);
    let write = std::env::var_os("H402_WRITE_GOLDEN").is_some();
    if write {
        std::fs::create_dir_all(&folder).expect("a folder");
    }
    for event in &world.log {
        let path = folder.join(format!("{:02}-{}.json", event.sequence, event.kind.as_str()));
        if write {
            std::fs::write(&path, &event.artefact).expect("writes");
        }
        let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (golden, ours) = (String::from_utf8_lossy(&golden), String::from_utf8_lossy(&event.artefact));
        assert_eq!(ours, golden, "{}", path.display());
        assert_eq!(event.receipt_hash, digest(golden.as_bytes()));
    }
    let files = std::fs::read_dir(&folder).expect("a folder").count();
    assert_eq!(files, world.log.len(), "no file in {} without an event", folder.display());
}

#[test]
fn a_payment_with_every_field_through_a_reorg_to_success() {
    let mut world = World::new();
    let mut asked = watch_tx("t", 100, 2);
    asked.report = Report::EveryDepth;
    asked.terms.amount_rule = AmountRule::Exact;
    asked.terms.payer = Some("payer".into());
    asked.terms.not_before = Some(Timestamp(START_MS));
    asked.terms.at_deadline = AtDeadline::Extend;
    asked.binding = Binding {
        quote_hash: Some("q\u{e9}\"\\\n".into()),
        auth_hash: Some("a".into()),
        resource: Some("https://shop.example/\u{1f600}".into()),
        labels: [("order".into(), "7".into()), ("\u{fb33}".into(), "\u{7}".into())].into(),
        fx: [("USD".into(), "0.01".into())].into(),
    };
    world.create(asked);
    world.observe(Observation::Seen(pays("t", "shop", 100)));
    let verified = TxFact { verification: Verification::Trie, ..pays("t", "shop", 100) };
    world.blocks(vec![block(6, "a", "a", vec![verified.clone()])]);
    world.blocks(vec![block(6, "b", "a", vec![]), block(7, "b", "b", vec![verified])]);
    world.blocks(vec![block(8, "b", "b", vec![])]);
    world.blocks((9..=17).map(|height| block(height, "b", "b", vec![])).collect());
    check("reorg-to-success", &world);
}

#[test]
fn several_transfers_to_an_address() {
    let mut world = World::new();
    world.create(watch_address(100, 1));
    let mut several = pays("t1", "shop", 30);
    several.transfers.push(transfer(7, "shop", 20));
    world.blocks(vec![block(6, "a", "a", vec![several, pays("t2", "shop", 50)])]);
    check("address", &world);
}

#[test]
fn several_addresses_of_a_descriptor() {
    let mut world = World::new();
    world.create(watch_descriptor(100, 20));
    world.blocks(vec![block(6, "a", "a", vec![pays("t1", "keys/0/0", 30), pays("t2", "keys/0/7", 70)])]);
    check("descriptor", &world);
}

#[test]
fn partial_and_late() {
    let mut world = World::new();
    let mut asked = watch_address(100, 1);
    asked.terms.deadline = time_of(7);
    world.create(asked);
    world.blocks(vec![block(6, "a", "a", vec![pays("t1", "shop", 30)])]);
    world.wait_until(time_of(7).plus_ms(1));
    world.blocks(vec![block(7, "a", "a", vec![]), block(8, "a", "a", vec![pays("t2", "shop", 70)])]);
    check("partial-and-late", &world);
}

#[test]
fn failures() {
    let mut world = World::new();
    world.create(watch_tx("t", 100, 1));
    world.create(watch_tx("t", 90, 1));
    world.create(watch_tx("r", 100, 1));
    world.observe(Observation::Seen(pays("r", "shop", 100)));
    let mut instead = pays("r2", "thief", 100);
    instead.spends = pays("r", "shop", 100).spends;
    world.blocks(vec![block(6, "a", "a", vec![pays("t", "shop", 100), instead])]);
    let mut never = watch_tx("never", 5, 1);
    never.terms.deadline = Timestamp(time_of(6).0 + BLOCK_MS / 2);
    world.create(never);
    world.wait_until(time_of(7));
    let cancelled = world.create(watch_tx("c", 5, 1));
    world.engine.cancel(world.now, &cancelled).expect("is open");
    world.commit();
    check("failures", &world);
}

#[test]
fn authorization_used_by_a_relayer_and_expired() {
    let mut world = World::new();
    let subject = |nonce: &str| Subject::Authorization {
        authorizer: "payer".into(),
        nonce: nonce.into(),
        valid_before: Some(time_of(7)),
    };
    let in_token = |nonce: &str| {
        let mut asked = request(subject(nonce), 100, 1);
        asked.terms.asset = "token".into();
        asked
    };
    world.create(in_token("n1"));
    world.create(in_token("n2"));
    let mut used = pays("t", "shop", 100);
    used.sender = Some("relayer".into());
    used.transfers[0].asset = "token".into();
    used.authorizations = vec![AuthorizationUse {
        asset: "token".into(),
        authorizer: "payer".into(),
        nonce: "n1".into(),
        cancelled: false,
    }];
    world.blocks(vec![block(6, "a", "a", vec![used])]);
    world.blocks(vec![block(7, "a", "a", vec![])]);
    check("authorization", &world);
}

#[test]
fn a_bound_payment_and_transactions_that_expire() {
    let mut world = World::new();
    let bound = |request| {
        with(request, |it: &mut WatchRequest| {
            it.terms.memo = Some("order \u{1f600} 7".into());
            it.terms.references = vec!["one".into(), "two".into()];
        })
    };
    world.create(bound(watch_address(100, 1)));
    world.create(bound(watch_tx("u", 100, 1)));
    world.create(watch_expiring("v", Expiry::Height(7)));
    world.create(watch_expiring("v", Expiry::Nonce { account: "account".into(), value: "value".into() }));
    let mut paid = carries("t", &["order \u{1f600} 7", "thanks"], 100);
    paid.references = vec!["two".into(), "one".into(), "shop".into()];
    paid.notes = [("slot".into(), "9".into())].into();
    let mut unnamed = paid.clone();
    (unnamed.tx, unnamed.references) = ("u".into(), Vec::new());
    world.blocks(vec![block(6, "a", "a", vec![paid, unnamed]), block(7, "a", "a", vec![])]);
    world.finalize(7);
    world.expire("v", &Expiry::Height(7), 7);
    world.expire("v", &Expiry::Nonce { account: "account".into(), value: "value".into() }, 7);
    check("bound-and-expired", &world);
}

#[test]
fn inclusion_proofs_and_the_headers_on_top() {
    let mut world = World::new();
    let nodes = |of: u8| Part::List(vec![vec![1, of], vec![0xfe]]);
    let in_tries = Proof::new(
        "ethereum",
        [
            ("header", Part::Bytes(vec![0xaa; 4])),
            ("index", Part::Number(7)),
            ("transactionProof", nodes(2)),
            ("receiptProof", nodes(3)),
        ],
    );
    let stated = Proof::new(
        "none",
        [
            ("statement", Part::Text("there is none".into())),
            ("slot", Part::Number(9)),
            ("blockhash", Part::Text("4".repeat(44))),
            ("commitment", Part::Text("confirmed".into())),
        ],
    );
    world.create(with(watch_tx("t", 100, 3), |asked| asked.proofs = Some(true)));
    world.create(with(watch_address(200, 1), |asked| asked.proofs = Some(true)));
    world.create(watch_tx("u", 100, 1));
    let told = |tx: &str, proof: &Proof| TxFact { proof: Some(Box::new(proof.clone())), ..pays(tx, "shop", 100) };
    world.blocks(vec![block(6, "a", "a", vec![told("t", &in_tries), told("u", &in_tries)])]);
    world.blocks(vec![block(7, "a", "a", vec![told("v", &stated)])]);
    world.blocks(vec![block(8, "a", "a", vec![])]);
    check("proofs", &world);
}
