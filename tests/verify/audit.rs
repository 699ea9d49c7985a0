//! What artefacts say for each other: proofs, replacements, claims.

use h402_watch_verify::evidence::Evidence;
use h402_watch_verify::{Audit, Code, Inclusion, NoteCode, Report, audit};
use serde_json::{Value, json};

use crate::support::bitcoin::Block;
use crate::support::{good, joined, keys, left, linked, refused, signed, unsigned, with, without};

const OTHER: &str = "w22222222222222222222222222222222";

/// The payment of a block as receipts tell it: `included`, proven.
pub fn included(block: &Block) -> Value {
    let settled = block.settled(1);
    let mut moved = settled["transfers"][0].clone();
    for name in ["/tx", "/verification", "/block"] {
        moved = without(&moved, name);
    }
    let mut envelope = settled;
    for name in ["/outcome", "/evidence", "/transfers"] {
        envelope = without(&envelope, name);
    }
    let told = json!({
        "artefact": "receipt", "event": "included", "state": "included",
        "transaction": {
            "tx": block.tx(1), "block": block.block(), "execution": "succeeded", "verification": "trie",
            "transfers": [moved],
        },
    });
    joined(envelope, told)
}

/// The same as another event, without a proof.
fn told(block: &Block, event: &str, more: Value) -> Value {
    let bare = without(&included(block), "/proofs");
    joined(with(&bare, "/event", json!(event)), more)
}

#[track_caller]
fn reports(audit: &Audit) -> Vec<&Report> {
    assert_eq!(audit.wrongs().count(), 0, "{:?}", audit.wrongs().next());
    audit.artefacts.iter().flatten().collect()
}

fn codes(audit: &Audit) -> Vec<Option<Code>> {
    audit.artefacts.iter().map(|one| one.as_ref().err().map(|wrong| wrong.code)).collect()
}

/// A whole folder is shown, though many events hold no proofs; alone they are not.
#[test]
fn events_without_proofs_are_shown_by_the_receipts_before() {
    let block = Block::new(4, 500);
    let seen = without(&told(&block, "seen", json!({"state": "seen"})), "/transaction/block");
    let orphaned = without(&told(&block, "orphaned", json!({"leftBlock": block.block()})), "/transaction/block");
    let all = [
        seen,
        included(&block),
        told(&block, "depth", json!({"depth": 2})),
        orphaned,
        included(&block),
        block.settled(1),
        told(&block, "finalized", json!({"state": "settled"})),
    ];
    let found = audit(&linked(&all, unsigned), None);
    for report in reports(&found) {
        assert!(report.is_fully_shown(), "{report}");
        assert_eq!(matches!(report.inclusion, Inclusion::Proven { .. }), report.event != "seen", "{report}");
    }
    assert!(found.watches[0].as_ref().is_ok_and(h402_watch_verify::history::History::is_complete));
    for (value, event) in all.iter().zip(["seen", "", "depth", "orphaned", "", "", "finalized"]) {
        let report = good(value);
        let alone = matches!(event, "depth" | "orphaned" | "finalized");
        assert_eq!(matches!(report.inclusion, Inclusion::NotProven { .. }), alone, "{report}");
        assert_eq!(report.is_fully_shown(), !alone, "{report}");
        assert_eq!(left(&report).contains(&NoteCode::EventUnproven), !event.is_empty(), "{report}");
    }
    // What the receipt before shows is held against what the event says.
    let mut more = all.clone();
    for pointer in ["/transaction/transfers/0/amount", "/received"] {
        more[2] = with(&more[2], pointer, json!("1002"));
    }
    assert_eq!(codes(&audit(&linked(&more, unsigned), None))[2], Some(Code::Transfer));
    // Another block is not shown by it.
    let mut other = all.clone();
    other[2]["transaction"]["block"] = Block::new(7, 501).block();
    let found = audit(&linked(&other, unsigned), None);
    assert!(matches!(found.artefacts[2].as_ref().map(|report| &report.inclusion), Ok(Inclusion::NotProven { .. })));
}

/// Late money may be told without its proof, where the receipt of its inclusion holds it.
#[test]
fn late_receipts_may_omit_their_proof() {
    let block = Block::new(4, 500);
    let omitted = json!([{"tx": block.tx(1), "kind": "omitted"}]);
    let late = told(&block, "late", json!({"state": "settled", "received": "0", "proofs": omitted}));
    assert!(matches!(good(&late).inclusion, Inclusion::NotProven { .. }));
    let bare = with(&included(&block), "/state", json!("settled"));
    let before = with(&with(&bare, "/transaction/transfers", json!([])), "/received", json!("0"));
    let found = audit(&linked(&[before, late.clone()], unsigned)[..], None);
    let report = found.artefacts[1].as_ref().expect("in order");
    assert!(matches!(report.inclusion, Inclusion::Proven { .. }), "{report}");
    refused(&with(&included(&block), "/proofs", omitted), Code::ProofKind);
}

/// Whoever adds a file to a folder can't take the proof away that another one holds.
#[test]
fn receipts_that_are_not_in_order_say_nothing_for_others() {
    let block = Block::new(4, 500);
    let settled = with(&block.settled(1), "/proofs", json!([{"tx": block.tx(1), "kind": "omitted"}]));
    let genuine = linked(&[included(&block), settled], signed);
    let mut broken = included(&block);
    broken["proofs"][0]["branch"] = json!([]);
    let forged = |value: &Value| with(value, "/binding", json!({"resource": "forged"}));
    // One with a proof that does not hold, one that nobody signed, one with another's signature.
    let unvouched = unsigned(&forged(&included(&block)));
    let stolen = Evidence { signature: genuine[0].signature.clone(), ..unvouched.clone() };
    for poison in [unsigned(&broken), signed(&broken), unvouched.clone(), stolen] {
        for folder in [
            vec![poison.clone(), genuine[0].clone(), genuine[1].clone()],
            vec![genuine[0].clone(), genuine[1].clone(), poison.clone()],
        ] {
            let place = folder.iter().position(|one| *one == genuine[1]).expect("there");
            let found = audit(&folder, Some(&keys()));
            let report = found.artefacts[place].as_ref().expect("in order");
            assert!(matches!(report.inclusion, Inclusion::Proven { .. }), "{report}");
        }
    }
    let found = audit(&[unvouched, genuine[1].clone()], Some(&keys()));
    let report = found.artefacts[1].as_ref().expect("in order");
    assert!(matches!(report.inclusion, Inclusion::NotProven { .. }), "{report}");
}

#[test]
fn one_transfer_pays_one_watch() {
    let block = Block::new(4, 500);
    let one = block.settled(1);
    let other = with(&one, "/watch", json!(OTHER));
    let found = audit(&[signed(&one), signed(&other), signed(&block.settled(2))], Some(&keys()));
    assert_eq!(codes(&found), [Some(Code::DoubleClaim), Some(Code::DoubleClaim), None]);
    let said = &found.artefacts[0].as_ref().expect_err("twice").said;
    assert!(said.contains(OTHER) && said.contains(crate::support::WATCH) && said.contains(&block.tx(1)), "{said}");
    // A copy is the same watch; another output is another transfer; a forgery counts nothing.
    assert_eq!(codes(&audit(&[signed(&one), signed(&one)], None)), [None, None]);
    assert_eq!(codes(&audit(&[signed(&one), unsigned(&other)], Some(&keys()))), [None, None]);
    let wrong = with(&other, "/received", json!("1"));
    assert_eq!(codes(&audit(&[signed(&one), signed(&wrong)], Some(&keys()))), [None, Some(Code::Amount)]);
    let failed = included(&block);
    assert_eq!(codes(&audit(&[signed(&one), signed(&with(&failed, "/watch", json!(OTHER)))], None)), [None, None]);
}

/// Who took the place of the transaction that is followed is told by a receipt of its own.
#[test]
fn replacements_are_told_by_a_receipt() {
    let block = Block::new(4, 500);
    let followed = |value: &Value| with(value, "/subject/tx", json!(block.tx(2)));
    let replaced = followed(&told(&block, "replaced", json!({"replaces": block.tx(2)})));
    let all = [replaced.clone(), followed(&included(&block)), followed(&block.settled(1))];
    let found = audit(&linked(&all, unsigned), None);
    for report in reports(&found) {
        assert_eq!(left(report), [NoteCode::ReplacementTold], "{report}");
        assert!(report.is_fully_shown(), "{report}");
    }
    for (value, code) in
        all.iter().zip([NoteCode::ReplacementTold, NoteCode::SubjectUnproven, NoteCode::SubjectUnproven])
    {
        assert_eq!(left(&good(value)), [code]);
    }
    assert!(!good(&all[2]).is_fully_shown());
    // One that comes later, or is about another, tells nothing of it.
    let after = [all[1].clone(), all[0].clone(), all[2].clone()];
    let found = audit(&linked(&after, unsigned), None);
    assert_eq!(left(reports(&found)[0]), [NoteCode::SubjectUnproven]);
    refused(&with(&replaced, "/replaces", json!(block.tx(3))), Code::Inconsistent);
    refused(&with(&replaced, "/replaces", json!(block.tx(1))), Code::Inconsistent);
    refused(&with(&replaced, "/subject", json!({"kind": "address"})), Code::Inconsistent);
    let itself = with(&with(&replaced, "/replaces", json!(block.tx(1))), "/subject/tx", json!(block.tx(1)));
    refused(&itself, Code::Inconsistent);
}

/// A file of many transfers of many transactions takes no more time than its size.
#[test]
fn large_artefacts_are_checked_in_time() {
    let template = Block::new(3, 500).settled(1);
    let count: u64 = 20_000;
    let tx = |n: u64| format!("{n:064x}");
    let transfer = |n: u64| with(&template["transfers"][0], "/tx", json!(tx(n)));
    let proof = |n: u64| json!({"tx": tx(n), "kind": "none", "statement": format!("none {n}")});
    let amount = 1001 * count;
    let mut large = with(&template, "/subject", json!({"kind": "address"}));
    large["transfers"] = (0..count).map(transfer).collect();
    large["proofs"] = (0..count).map(proof).collect();
    large["received"] = json!(amount.to_string());
    large["terms"]["amount"] = large["received"].clone();
    let one = unsigned(&large);
    let started = std::time::Instant::now();
    assert!(h402_watch_verify::verify(&one, None).is_ok());
    // Squared, it would take minutes in a build for tests.
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}
