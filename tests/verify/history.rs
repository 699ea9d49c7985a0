//! Hash chains, and proofs that stand in other artefacts of the same watch.

use h402_watch_engine::canonical::digest;
use h402_watch_verify::evidence::Evidence;
use h402_watch_verify::history::History;
use h402_watch_verify::{Audit, Code, Inclusion, NoteCode, audit};
use serde_json::{Value, json};

use crate::form::golden;
use crate::support::bitcoin::Block;
use crate::support::{self, joined, left, unsigned, with, without};

fn story(name: &str) -> Vec<Evidence> {
    let files = golden().into_iter().filter(|(path, _)| path.parent().is_some_and(|folder| folder.ends_with(name)));
    files.map(|(_, artefact)| Evidence { artefact, signature: None }).collect()
}

fn values(evidence: &[Evidence]) -> Vec<Value> {
    evidence.iter().map(|one| serde_json::from_slice(&one.artefact).expect("JSON")).collect()
}

fn histories(evidence: &[Evidence]) -> Vec<Result<History, Code>> {
    audit(evidence, None).watches.into_iter().map(|one| one.map_err(|wrong| wrong.code)).collect()
}

fn hash(evidence: &Evidence) -> String {
    hex::encode(digest(&evidence.artefact))
}

/// Artefacts of one watch, linked anew.
fn linked(values: &[Value]) -> Vec<Evidence> {
    support::linked(values, unsigned)
}

#[test]
fn golden_stories_are_hash_chains() {
    let mut watches = 0;
    for name in ["address", "authorization", "bound-and-expired", "descriptor", "failures", "partial-and-late"] {
        let audit = audit(&story(name), None);
        assert_eq!(audit.wrongs().count(), 0, "{name}: {:?}", audit.wrongs().next());
        watches += audit.watches.len();
        for history in audit.watches.iter().flatten() {
            assert!(history.from == 1 && history.missing.is_empty() && history.settled.is_some(), "{history:?}");
        }
    }
    assert_eq!(watches, 14);
    let [Ok(one)] = &histories(&story("reorg-to-success"))[..] else { panic!("one watch") };
    assert_eq!((one.from, one.to, one.settled), (1, 7, Some(6)));
    assert_eq!(one.receipt_hash, hash(&story("reorg-to-success")[6]));
}

#[test]
fn the_order_and_copies_do_not_matter() {
    let mut all = story("reorg-to-success");
    let before = histories(&all);
    all.reverse();
    all.push(all[2].clone());
    assert_eq!(histories(&all), before);
}

#[test]
fn what_is_missing_is_told() {
    let all = story("reorg-to-success");
    let some = [all[2].clone(), all[3].clone(), all[6].clone()];
    let [Ok(one)] = &histories(&some)[..] else { panic!("one watch") };
    assert_eq!((one.from, one.to, &one.missing[..], one.settled), (3, 7, &[(5, 6)][..], None));
    assert!(!one.is_complete());
    let line = format!(
        "incomplete {}: artefacts 3 to 7, missing 1 to 2 and 5 to 6, not settled by any of them, the last is {}",
        one.watch,
        hash(&all[6])
    );
    assert_eq!(one.to_string(), line);
    // What comes behind the settlement may be missing: nobody can tell.
    for (count, complete) in [(7, true), (6, true), (5, false), (1, false)] {
        let [Ok(one)] = &histories(&all[..count])[..] else { panic!("one watch") };
        assert_eq!(one.is_complete(), complete, "{one}");
    }
    let [Ok(whole)] = &histories(&all)[..] else { panic!("one watch") };
    let line =
        format!("complete {}: artefacts 1 to 7, settled by 6: success, the last is {}", whole.watch, hash(&all[6]));
    assert_eq!(whole.to_string(), line);
    let written = json!({
        "watch": whole.watch, "from": 1, "to": 7, "receiptHash": hash(&all[6]), "missing": [], "settled": 6,
        "outcome": "success",
    });
    assert_eq!(serde_json::to_value(whole).expect("JSON"), written);
    let failures = histories(&story("failures"));
    let failed = failures.iter().flatten().find(|one| one.outcome == Some("failed")).expect("one that failed");
    assert!(failed.to_string().contains(&format!(": failed ({})", failed.reason.expect("why"))), "{failed}");
}

#[test]
fn a_chain_that_is_broken_is_refused() {
    let all = values(&story("reorg-to-success"));
    assert!(histories(&linked(&all))[0].is_ok());
    // One artefact changed: it is the next that does not name it.
    let mut changed = linked(&all);
    changed[2] = unsigned(&with(&values(&changed)[2], "/received", json!("1")));
    assert_eq!(histories(&changed), [Err(Code::HashChain)]);
    let mut twice = linked(&all);
    twice.push(unsigned(&with(&values(&twice)[2], "/received", json!("1"))));
    assert_eq!(histories(&twice), [Err(Code::Fork)]);
    let mut other = linked(&all);
    other[4] = unsigned(&with(&values(&other)[4], "/previous", json!("00".repeat(32))));
    assert_eq!(histories(&other[..5]), [Err(Code::HashChain)]);
}

#[test]
fn all_artefacts_of_a_watch_tell_the_same_terms() {
    let all = values(&story("reorg-to-success"));
    let changes = [
        ("/terms/deadlineMs", json!(1)),
        ("/terms/depth", json!("finalized")),
        ("/network", json!("test:2")),
        ("/binding/quoteHash", json!("other")),
        ("/subject/tx", json!("other")),
    ];
    for (pointer, value) in changes {
        for place in 0..all.len() {
            let mut other = all.clone();
            other[place] = with(&other[place], pointer, value.clone());
            assert_eq!(histories(&linked(&other)), [Err(Code::ChainTerms)], "{pointer} in {place}");
        }
    }
}

#[test]
fn a_watch_settles_once() {
    let all = values(&story("reorg-to-success"));
    let twice = [&all[..6], &all[5..]].concat();
    assert_eq!(histories(&linked(&twice)), [Err(Code::ChainSettlement)]);
    // And stays settled.
    let mut back = all[..6].to_vec();
    back.push(all[1].clone());
    assert_eq!(histories(&linked(&back)), [Err(Code::ChainSettlement)]);
    let mut early = all.clone();
    early[1] = with(&early[1], "/state", json!("settled"));
    assert_eq!(histories(&linked(&early)), [Err(Code::ChainSettlement)]);
    assert_eq!(histories(&linked(&early)[..2]), [Err(Code::ChainSettlement)]);
}

#[test]
fn watches_are_told_apart() {
    let mut all = story("failures");
    let count = histories(&all).len();
    all.extend(story("address"));
    assert_eq!(histories(&all).len(), count + 1);
    // What can't be read is told as such, and hides nothing else.
    all.push(Evidence { artefact: b"{}".to_vec(), signature: None });
    let Audit { artefacts, watches } = audit(&all, None);
    assert_eq!(artefacts.iter().filter(|one| one.is_err()).count(), 1);
    assert!(artefacts.last().is_some_and(Result::is_err) && watches.len() == count + 1);
}

/// A settlement may omit what stands in the receipts before.
#[test]
fn omitted_proofs_are_found_in_the_receipts() {
    let block = Block::new(6, 500);
    let mut settled = with(&block.settled(3), "/terms/depth", json!(2));
    let proof = settled["proofs"][0].clone();
    settled["proofs"] = json!([{"tx": block.tx(3), "kind": "omitted"}]);
    let transfer = &settled["transfers"][0];
    let mut moved = transfer.clone();
    for name in ["tx", "verification", "block"] {
        moved = without(&moved, &format!("/{name}"));
    }
    let mut envelope = settled.clone();
    for name in ["outcome", "evidence", "transfers"] {
        envelope = without(&envelope, &format!("/{name}"));
    }
    let included = joined(
        envelope,
        json!({
            "artefact": "receipt", "event": "included", "state": "included", "proofs": [proof],
            "transaction": {
                "tx": block.tx(3), "block": block.block(), "execution": "succeeded", "verification": "trie",
                "transfers": [moved],
            },
        }),
    );
    let both = linked(&[included.clone(), settled.clone()]);
    let found = audit(&both, None);
    assert_eq!(found.wrongs().count(), 0, "{:?}", found.wrongs().next());
    let report = found.artefacts[1].as_ref().expect("in order");
    assert!(matches!(report.inclusion, Inclusion::Proven { .. }), "{report}");
    assert_eq!(left(report), [NoteCode::DepthUnproven], "{report}");
    let alone = audit(&both[1..], None);
    let report = alone.artefacts[0].as_ref().expect("in order");
    assert!(matches!(report.inclusion, Inclusion::NotProven { .. }), "{report}");
    // A proof that is found there is checked as if it stood here.
    let other = with(&settled, "/transfers/0/block/height", json!(501));
    let report = audit(&linked(&[included.clone(), other]), None);
    assert!(matches!(report.artefacts[1].as_ref().map(|one| &one.inclusion), Ok(Inclusion::NotProven { .. })));
    let mut more = settled;
    for pointer in ["/transfers/0/amount", "/received"] {
        more = with(&more, pointer, json!("1004"));
    }
    let exact = |value: &Value| with(value, "/terms/amount", json!("1004"));
    let told = audit(&linked(&[exact(&included), exact(&more)]), None);
    assert_eq!(told.artefacts[1].as_ref().map_err(|wrong| wrong.code), Err(Code::Transfer));
    // Receipts themselves omit nothing, and have no headers on top.
    let omitted = with(&included, "/proofs/0", json!({"tx": block.tx(3), "kind": "omitted"}));
    crate::support::refused(&omitted, Code::ProofKind);
    crate::support::refused(&with(&included, "/proofs/0/headers", json!(block.headers(1))), Code::ProofKind);
    crate::support::refused(&with(&included, "/event", json!("finalized")), Code::Inconsistent);
}
