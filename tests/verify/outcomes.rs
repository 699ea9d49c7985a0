//! Outcomes, and whether they follow from the terms and from what is proven.

use alloy_primitives::{Address, B256, Log, LogData, b256};
use h402_watch_verify::{Code, Inclusion, NoteCode};
use serde_json::{Value, json};

use crate::support::ethereum::{
    Block, CHAIN, HEIGHT, network, payer, receipt, shop, spelled, terms, token, transfer_log, tx,
};
use crate::support::{DEADLINE_MS, WATCH, bitcoin, envelope, good, joined, left, refused, success, with, without};

/// Proven time of all blocks here, ms.
const TIME_MS: u64 = 1_700_000_000_000;
/// Names that nothing here has.
const OTHER: &str = "w22222222222222222222222222222222";
const TX: &str = "0x2222222222222222222222222222222222222222222222222222222222222222";

/// A failure that the transaction at `index` decided.
fn failed(block: &Block, index: usize, reason: &str) -> Value {
    let reverted = reason == "reverted";
    let subject = json!({"kind": "transaction", "tx": block.tx(index)});
    joined(
        envelope("settlement", &network(), &subject, &terms(&spelled(token()), &(index + 1000).to_string())),
        json!({
            "event": "settled", "state": "settled", "outcome": "failed", "reason": reason, "received": "0",
            "evidence": {"kind": "transaction"}, "proofs": [block.proof(index)],
            "transaction": {
                "tx": block.tx(index), "sender": block.sender(index), "block": block.block(),
                "execution": if reverted { "reverted" } else { "succeeded" }, "verification": "trie", "transfers": [],
            },
        }),
    )
}

/// Two transfers of one transaction.
fn in_two(block: &Block, index: usize) -> Value {
    let mut settled = block.settled(index);
    let mut second = settled["transfers"][0].clone();
    second["index"] = json!(3);
    second["amount"] = json!("11");
    settled["transfers"].as_array_mut().expect("a list").push(second);
    let sum = json!((index + 1011).to_string());
    with(&with(&settled, "/received", sum.clone()), "/terms/amount", sum)
}

#[test]
fn amounts_add_up_and_meet_the_terms() {
    let more = transfer_log(token(), payer(), shop(), 11);
    let block = Block::of(vec![tx(0, CHAIN)], vec![receipt(0, true, &[more])]);
    let settled = in_two(&block, 0);
    good(&settled);
    for received in ["1010", "1012", "1000", "0"] {
        refused(&with(&settled, "/received", json!(received)), Code::Amount);
    }
    let asks = |rule: &str, amount: &str| {
        let mut asks = settled.clone();
        asks["terms"]["amountRule"] = json!(rule);
        asks["terms"]["amount"] = json!(amount);
        asks
    };
    for (rule, amount) in
        [("exact", "1011"), ("at_least", "1011"), ("at_least", "1"), ("up_to", "1011"), ("up_to", "9999")]
    {
        good(&asks(rule, amount));
    }
    for (rule, amount) in [("exact", "1010"), ("exact", "1012"), ("at_least", "1012"), ("up_to", "1010")] {
        refused(&asks(rule, amount), Code::Amount);
    }
    refused(&asks("exact", "0"), Code::Inconsistent);
    // The same transfer twice adds up as well.
    let mut twice = settled.clone();
    twice["transfers"][1]["index"] = json!(1);
    refused(&twice, Code::Inconsistent);
    let nothing = with(&without(&block.settled(0), "/proofs"), "/transfers/0/amount", json!("0"));
    refused(&with(&nothing, "/received", json!("0")), Code::Amount);
}

#[test]
fn partial_is_less_than_asked() {
    let block = Block::new(3);
    let mut partial = with(&block.settled(1), "/outcome", json!("partial"));
    partial["reason"] = json!("underpaid");
    refused(&partial, Code::Amount);
    let asks = |rule: &str, amount: &str| {
        let mut asks = partial.clone();
        asks["terms"]["amountRule"] = json!(rule);
        asks["terms"]["amount"] = json!(amount);
        asks
    };
    good(&asks("exact", "1002"));
    good(&asks("at_least", "1002"));
    refused(&asks("at_least", "1001"), Code::Amount);
    refused(&asks("up_to", "1002"), Code::Amount);
    refused(&asks("exact", "1000"), Code::Amount);
    refused(&without(&asks("exact", "1002"), "/reason"), Code::Inconsistent);
    refused(&with(&asks("exact", "1002"), "/reason", json!("overpaid")), Code::Inconsistent);
    refused(&with(&block.settled(1), "/reason", json!("underpaid")), Code::Inconsistent);
    refused(&with(&asks("exact", "1002"), "/evidence/kind", json!("request")), Code::Inconsistent);
    good(&with(&asks("exact", "1002"), "/evidence/kind", json!("deadline")));
    refused(&with(&block.settled(1), "/evidence/kind", json!("deadline")), Code::Inconsistent);
}

#[test]
fn the_payee_the_asset_and_the_payer_are_those_of_the_terms() {
    let block = Block::new(3);
    let settled = block.settled(1);
    refused(&with(&settled, "/terms/payTo", json!(spelled(payer()))), Code::Recipient);
    refused(&with(&settled, "/terms/asset", json!("native")), Code::Asset);
    let payer_is = |who: &str| with(&settled, "/terms/payer", json!(who));
    // The transfer's own, or the transaction's sender, whom the proof shows.
    good(&payer_is(&spelled(payer())));
    good(&payer_is(&block.sender(1)));
    refused(&payer_is(&spelled(token())), Code::Payer);
    refused(&payer_is(&block.sender(0)), Code::Payer);
    // Without a proof nobody says who sent it.
    let unsaid = without(&payer_is(&spelled(token())), "/proofs");
    assert!(left(&good(&unsaid)).contains(&NoteCode::PayerUnproven), "it is said that it is not shown");
    // What one pays oneself is no payment.
    let own = transfer_log(token(), shop(), shop(), 9);
    let block = Block::of(vec![tx(0, CHAIN)], vec![receipt(0, true, &[own])]);
    let mut itself = block.settled(0);
    itself["transfers"][0]["index"] = json!(3);
    itself["transfers"][0]["from"] = json!(spelled(shop()));
    for pointer in ["/transfers/0/amount", "/received", "/terms/amount"] {
        itself = with(&itself, pointer, json!("9"));
    }
    refused(&itself, Code::Payer);
}

#[test]
fn blocks_are_of_the_time_that_the_terms_say() {
    for settled in [Block::new(3).settled(1), bitcoin::Block::new(3, HEIGHT).settled(1)] {
        good(&with(&settled, "/terms/deadlineMs", json!(TIME_MS)));
        refused(&with(&settled, "/terms/deadlineMs", json!(TIME_MS - 1)), Code::Deadline);
        good(&with(&settled, "/terms/notBeforeMs", json!(TIME_MS)));
        refused(&with(&settled, "/terms/notBeforeMs", json!(TIME_MS + 1)), Code::TooEarly);
        good(&with(&settled, "/terms/fromHeight", json!(HEIGHT)));
        refused(&with(&settled, "/terms/fromHeight", json!(HEIGHT + 1)), Code::TooEarly);
        // Heights stand in the artefact, times do not.
        let bare = without(&settled, "/proofs");
        refused(&with(&bare, "/terms/fromHeight", json!(HEIGHT + 1)), Code::TooEarly);
        good(&with(&bare, "/terms/deadlineMs", json!(1)));
    }
}

#[test]
fn finality_is_left_to_the_authors_word() {
    let tagged = with(&Block::new(3).settled(1), "/terms/depth", json!("finalized"));
    assert_eq!(left(&good(&tagged)), [NoteCode::DepthUnproven]);
    refused(&with(&tagged, "/terms/depth", json!("sure")), Code::Shape);
    refused(&with(&tagged, "/terms/depth", json!(1_u64 << 32)), Code::Shape);
    good(&with(&tagged, "/terms/depth", json!(0)));
}

#[test]
fn many_transactions_are_each_proven() {
    let (one, other) = (bitcoin::Block::new(4, 500), bitcoin::Block::new(7, 501));
    let (first, second) = (one.settled(2), other.settled(5));
    let transfers = json!([first["transfers"][0], second["transfers"][0]]);
    let proofs = json!([first["proofs"][0], second["proofs"][0]]);
    let terms = with(&first["terms"], "/amount", json!("2007"));
    let envelope = envelope("settlement", bitcoin::NETWORK, &json!({"kind": "address"}), &terms);
    let settled = success(envelope, "2007", transfers, proofs.clone());
    let report = good(&settled);
    assert!(report.to_string().contains(" and block 501 "), "{report}");
    let Inclusion::Proven { transactions } = report.inclusion else { panic!("proven") };
    assert_eq!(transactions.iter().map(|one| one.height).collect::<Vec<_>>(), [500, 501]);
    refused(&with(&settled, "/proofs", json!([proofs[1], proofs[0]])), Code::ProofTransaction);
    refused(&with(&settled, "/proofs", json!([proofs[0]])), Code::ProofTransaction);
    refused(&with(&settled, "/proofs", json!([proofs[0], proofs[0]])), Code::ProofTransaction);
    let none = json!({"tx": other.tx(5), "kind": "none", "statement": "pruned"});
    let report = good(&with(&settled, "/proofs/1", none));
    assert!(matches!(report.inclusion, Inclusion::Partly { .. }), "{report}");
    // A watch of one transaction comes of one.
    let subject = json!({"kind": "transaction", "tx": one.tx(2)});
    refused(&with(&settled, "/subject", subject), Code::Inconsistent);
    // One transaction in two blocks, or told in two places.
    let mut split = settled.clone();
    split["transfers"][1]["tx"] = json!(one.tx(2));
    refused(&split, Code::Inconsistent);
    let mut apart = settled.clone();
    let again = with(&settled["transfers"][0], "/index", json!(0));
    apart["transfers"].as_array_mut().expect("a list").push(again);
    refused(&apart, Code::Inconsistent);
    // What follows a replacement says so.
    let mut followed = one.settled(2);
    followed["subject"]["tx"] = json!(other.tx(3));
    assert_eq!(left(&good(&followed)), [NoteCode::SubjectUnproven]);
}

#[test]
fn failures_by_a_transaction_are_not_contradicted_by_it() {
    let reverted = Block::of(vec![tx(0, CHAIN), tx(1, CHAIN)], vec![receipt(0, true, &[]), receipt(1, false, &[])]);
    let by_revert = failed(&reverted, 1, "reverted");
    good(&by_revert);
    refused(&with(&by_revert, "/transaction/execution", json!("succeeded")), Code::Reason);
    refused(&with(&by_revert, "/reason", json!("underpaid")), Code::Reason);
    refused(&failed(&reverted, 0, "reverted"), Code::Execution);
    refused(&with(&by_revert, "/transaction/sender", json!(spelled(shop()))), Code::Sender);

    let block = Block::new(3);
    let other = json!(spelled(Address::repeat_byte(0xee)));
    let told = |reason: &str| failed(&block, 1, reason);
    // It pays the shop 1001 of the token.
    for reason in ["wrong_recipient", "wrong_asset", "underpaid", "payer_mismatch", "deadline_passed"] {
        refused(&told(reason), Code::Reason);
    }
    for reason in ["memo_mismatch", "reference_missing", "cancelled"] {
        assert!(crate::support::check(&told(reason)).is_err(), "{reason}");
    }
    good(&with(&told("wrong_recipient"), "/terms/payTo", other.clone()));
    good(&with(&told("wrong_asset"), "/terms/asset", other.clone()));
    good(&with(&told("payer_mismatch"), "/terms/payer", other.clone()));
    refused(&with(&told("payer_mismatch"), "/terms/payer", json!(block.sender(1))), Code::Reason);
    good(&with(&told("deadline_passed"), "/terms/deadlineMs", json!(TIME_MS - 1)));
    good(&told("too_early"));
    refused(&told("overpaid"), Code::Reason);
    good(&with(&told("overpaid"), "/terms/amount", json!("1000")));
    let at_least = with(&told("overpaid"), "/terms/amount", json!("1000"));
    refused(&with(&at_least, "/terms/amountRule", json!("at_least")), Code::Reason);
    // Native coin may have come by calls, which don't show.
    let native = with(&told("overpaid"), "/terms/asset", json!("native"));
    good(&native);
    refused(&with(&told("wrong_recipient"), "/received", json!("1")), Code::Amount);
    refused(
        &with(&with(&told("too_early"), "/terms/depth", json!(3)), "/proofs/0/headers", json!(block.headers(1))),
        Code::Depth,
    );
}

#[test]
fn blame_is_on_who_decided() {
    let block = Block::new(3);
    let mut replaced = failed(&block, 1, "replaced");
    replaced["by"] = json!({"tx": block.tx(1)});
    refused(&replaced, Code::Reason);
    let replaced = with(&replaced, "/subject/tx", json!(block.tx(0)));
    good(&replaced);
    good(&with(&replaced, "/reason", json!("conflicted")));
    refused(&with(&replaced, "/by/tx", json!(block.tx(2))), Code::Reason);
    refused(&without(&replaced, "/by"), Code::Inconsistent);
    refused(&with(&replaced, "/by", json!({"watch": OTHER})), Code::Shape);
    refused(&with(&replaced, "/reason", json!("underpaid")), Code::Inconsistent);
    let mut claimed = failed(&block, 1, "already_claimed");
    claimed["by"] = json!({"watch": OTHER});
    good(&claimed);
    refused(&with(&claimed, "/by/watch", json!(WATCH)), Code::Reason);
    refused(&with(&claimed, "/by", json!({"tx": OTHER})), Code::Shape);
}

#[test]
fn failures_without_a_transaction_have_other_evidence() {
    let subject = json!({"kind": "transaction", "tx": TX, "expiry": {"height": 9}});
    let envelope = envelope("settlement", &network(), &subject, &terms("native", "5"));
    let told = |reason: &str, evidence: Value| {
        let rest = json!({
            "event": "settled", "state": "settled", "outcome": "failed", "reason": reason, "received": "0",
            "evidence": evidence,
        });
        joined(envelope.clone(), rest)
    };
    let block = json!({"height": 9, "hash": TX});
    let expired = told("expired", json!({"kind": "expired", "block": block}));
    assert_eq!(good(&expired).inclusion, Inclusion::Nothing);
    refused(&with(&expired, "/proofs", json!([])), Code::Shape);
    good(&told("deadline_passed", json!({"kind": "deadline"})));
    good(&told("cancelled", json!({"kind": "request"})));
    refused(&without(&expired, "/subject/expiry"), Code::Inconsistent);
    for (reason, kind) in [("cancelled", "deadline"), ("deadline_passed", "request"), ("expired", "deadline")] {
        refused(&told(reason, json!({"kind": kind})), Code::Inconsistent);
    }
    refused(&told("deadline_passed", json!({"kind": "transaction"})), Code::Inconsistent);
    let mut with_tx = told("deadline_passed", json!({"kind": "deadline"}));
    with_tx["transaction"] = failed(&Block::new(1), 0, "too_early")["transaction"].clone();
    refused(&with_tx, Code::Inconsistent);

    let authorization = json!({"kind": "authorization", "authorizer": "a", "nonce": "n", "validBeforeMs": 7000});
    let late = |time: u64| {
        let told = told("expired", json!({"kind": "block_time", "block": block, "timeMs": time}));
        with(&told, "/subject", authorization.clone())
    };
    good(&late(7000));
    refused(&late(6999), Code::Inconsistent);
    refused(&without(&late(7000), "/subject/validBeforeMs"), Code::Inconsistent);
}

const USED: B256 = b256!("98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5");
const CANCELED: B256 = b256!("1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81");

#[test]
fn an_authorization_is_used_by_the_transaction_that_is_proven() {
    let nonce = B256::repeat_byte(0x0e);
    let event = |kind: B256, token: Address| Log {
        address: token,
        data: LogData::new_unchecked(vec![kind, payer().into_word(), nonce], alloy_primitives::Bytes::new()),
    };
    let settled_by = |log: Log| {
        let block = Block::of(vec![tx(0, CHAIN)], vec![receipt(0, true, &[log])]);
        let subject = json!({"kind": "authorization", "authorizer": spelled(payer()), "nonce": format!("{nonce:#x}")});
        (with(&block.settled(0), "/subject", subject.clone()), with(&failed(&block, 0, "expired"), "/subject", subject))
    };
    let (used, not_cancelled) = settled_by(event(USED, token()));
    let (not_used, cancelled) = settled_by(event(CANCELED, token()));
    good(&used);
    good(&cancelled);
    refused(&not_used, Code::Authorization);
    refused(&not_cancelled, Code::Authorization);
    refused(&settled_by(event(USED, shop())).0, Code::Authorization);
    refused(&with(&used, "/subject/nonce", json!(format!("{:#x}", B256::ZERO))), Code::Authorization);
    refused(&with(&used, "/subject/authorizer", json!(spelled(shop()))), Code::Payer);
    // Whatever else comes of a transaction, it is one that used the authorization, or cancelled it.
    for (log, code) in [
        (event(USED, token()), None),
        (event(CANCELED, token()), None),
        (event(USED, shop()), Some(Code::Authorization)),
        (event(B256::ZERO, token()), Some(Code::Authorization)),
    ] {
        let failed = with(&settled_by(log).1, "/reason", json!("wrong_recipient"));
        let failed = with(&failed, "/terms/payTo", json!(spelled(Address::repeat_byte(0xee))));
        assert_eq!(crate::support::check(&failed).err().map(|wrong| wrong.code), code);
        let bare = good(&without(&failed, "/proofs"));
        assert!(left(&bare).contains(&NoteCode::AuthorizationUnproven), "{bare}");
    }
    // A watch of a transaction that expired says so by other evidence.
    let tx = json!({"kind": "transaction", "tx": TX, "expiry": {"height": 9}});
    refused(&with(&cancelled, "/subject", tx), Code::Inconsistent);
}

#[test]
fn receipts_claim_what_counts() {
    let block = Block::new(3);
    let moved = {
        let mut moved = block.settled(1)["transfers"][0].clone();
        for name in ["/tx", "/verification", "/block"] {
            moved = without(&moved, name);
        }
        moved
    };
    let subject = json!({"kind": "transaction", "tx": block.tx(1)});
    let included = joined(
        envelope("receipt", &network(), &subject, &terms(&spelled(token()), "1001")),
        json!({
            "event": "included", "state": "included", "received": "1001", "proofs": [block.proof(1)],
            "transaction": {
                "tx": block.tx(1), "sender": block.sender(1), "block": block.block(), "execution": "succeeded",
                "verification": "trie", "transfers": [moved],
            },
        }),
    );
    let report = good(&included);
    assert!(report.to_string().starts_with("ok receipt.json included 1001 proven in block 1000 "), "{report}");
    refused(&with(&included, "/transaction/sender", json!(block.sender(0))), Code::Sender);
    refused(&with(&included, "/transaction/execution", json!("reverted")), Code::Execution);
    let more = with(&included, "/transaction/transfers/0/amount", json!("1002"));
    // What it moved is among what was received; what else was received is told as the author's word, and not beside a proof.
    refused(&more, Code::Amount);
    refused(&with(&more, "/received", json!("1002")), Code::Transfer);
    let report = good(&with(&included, "/received", json!("9999")));
    assert!(report.to_string().starts_with("ok receipt.json included 1001 proven in block 1000 "), "{report}");
    assert_eq!(
        (&report.received[..], &report.moved[..], left(&report)),
        ("9999", "1001", vec![NoteCode::ReceivedUnproven])
    );
    refused(&with(&included, "/terms/payTo", json!(spelled(payer()))), Code::Recipient);
    refused(&with(&included, "/terms/payer", json!(spelled(shop()))), Code::Payer);
    refused(&without(&included, "/transaction/block"), Code::Inconsistent);
    refused(&with(&included, "/event", json!("seen")), Code::Inconsistent);
    refused(&with(&included, "/event", json!("depth")), Code::Inconsistent);
    refused(&with(&included, "/event", json!("late")), Code::Inconsistent);
    let late = with(&with(&included, "/event", json!("late")), "/state", json!("settled"));
    good(&late);
    let finalized = with(&late, "/event", json!("finalized"));
    refused(&finalized, Code::ProofKind);
    good(&without(&finalized, "/proofs"));
    let bare = without(&included, "/proofs");
    let depth = with(&with(&bare, "/event", json!("depth")), "/depth", json!(2));
    good(&depth);
    for shallow in [0, 1] {
        refused(&with(&depth, "/depth", json!(shallow)), Code::Inconsistent);
    }
    refused(&with(&bare, "/state", json!("seen")), Code::Inconsistent);
    refused(&with(&late, "/transaction/transfers", json!([])), Code::Inconsistent);
    refused(&with(&bare, "/depth", json!(2)), Code::Inconsistent);
    refused(&with(&bare, "/leftBlock", block.block()), Code::Inconsistent);
    refused(&with(&bare, "/replaces", json!(TX)), Code::Inconsistent);
    let seen = with(&without(&bare, "/transaction/block"), "/event", json!("seen"));
    assert_eq!(good(&seen).inclusion, Inclusion::Nothing);
    let orphaned = with(&seen, "/event", json!("orphaned"));
    refused(&orphaned, Code::Inconsistent);
    good(&with(&orphaned, "/leftBlock", block.block()));
    assert_eq!(DEADLINE_MS, included["terms"]["deadlineMs"]);
}

/// What is left to the author's word has a code each.
#[test]
fn what_is_not_shown_is_told_by_codes() {
    use NoteCode as N;
    let block = Block::new(3);
    let settled = block.settled(1);
    assert!(good(&settled).is_fully_shown());
    let bare = without(&settled, "/proofs");
    let address = with(&settled, "/subject", json!({"kind": "address"}));
    let failed = |reason: &str| failed(&block, 1, reason);
    let cases: [(Value, &[NoteCode], bool); 10] = [
        (bare.clone(), &[N::TimeUnproven], false),
        (with(&bare, "/terms/depth", json!(2)), &[N::TimeUnproven, N::DepthUnproven], false),
        (with(&settled, "/terms/depth", json!(2)), &[N::DepthUnproven], false),
        (with(&settled, "/terms/depth", json!("safe")), &[N::DepthUnproven], false),
        (with(&settled, "/terms/memo", json!("order 7")), &[N::MemoUnproven], false),
        (address.clone(), &[N::CreationUnproven], true),
        (with(&address, "/terms/fromHeight", json!(HEIGHT)), &[], true),
        (with(&address, "/terms/notBeforeMs", json!(TIME_MS)), &[], true),
        (failed("too_early"), &[N::ReasonUnproven], false),
        (with(&failed("too_early"), "/terms/fromHeight", json!(HEIGHT + 1)), &[], true),
    ];
    for (value, codes, is_shown) in cases {
        let report = good(&value);
        assert_eq!((&left(&report)[..], report.is_fully_shown()), (codes, is_shown), "{report}");
    }
    let words: std::collections::BTreeSet<_> = NoteCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(words.len(), NoteCode::ALL.len());
}

/// Who sent a transaction is stated by receipts; that alone shows nothing.
#[test]
fn a_payer_who_is_only_stated_is_not_shown() {
    let block = Block::new(3);
    let mut told = failed(&block, 1, "too_early");
    for name in ["/outcome", "/reason", "/evidence"] {
        told = without(&told, name);
    }
    let mut moved = block.settled(1)["transfers"][0].clone();
    for name in ["/tx", "/verification", "/block"] {
        moved = without(&moved, name);
    }
    told = joined(told, json!({"artefact": "receipt", "event": "included", "state": "included", "received": "1001"}));
    told["transaction"]["transfers"] = json!([moved]);
    let told = with(&told, "/terms/payer", json!(block.sender(1)));
    assert_eq!(left(&good(&told)), []);
    let bare = good(&without(&told, "/proofs"));
    assert_eq!(left(&bare), [NoteCode::SenderUnproven, NoteCode::PayerUnproven]);
    // Of a mempool there are no proofs to ask for.
    let seen = with(&without(&without(&told, "/proofs"), "/transaction/block"), "/event", json!("seen"));
    assert!(good(&seen).is_fully_shown(), "{:?}", left(&good(&seen)));
}

/// One line for people, one object for programs.
#[test]
fn reports_say_what_was_checked() {
    let block = Block::new(3);
    let settled = with(&block.settled(1), "/terms/depth", json!(6));
    let settled = with(&settled, "/proofs/0/headers", json!(block.headers(5)));
    let report = h402_watch_verify::verify(&crate::support::signed(&settled), Some(&crate::support::keys()));
    let report = report.expect("in order");
    let kid = crate::support::keys().iter().next().expect("a key").kid().to_owned();
    let hash = block.hash();
    assert_eq!(
        report.to_string(),
        format!(
            "ok settled.json success 1001 proven in block 1000 {hash} with 5 headers on top, signed by {kid}; that the \
             block is on the chain is for a node to say"
        )
    );
    let written = serde_json::to_value(&report).expect("JSON");
    let expected = json!({
        "artefact": "settled.json", "watch": WATCH, "index": 1, "network": network(), "event": "settled",
        "outcome": "success", "received": "1001", "moved": "1001", "receiptHash": report.receipt_hash,
        "signature": {"kind": "signed", "kid": kid},
        "inclusion": {"kind": "proven", "transactions": [{
            "tx": block.tx(1), "height": 1000, "hash": hash, "timeMs": TIME_MS, "headers": 5,
        }]},
        "notes": [{"code": "block_not_anchored", "said": "that the block is on the chain is for a node to say"}],
    });
    assert_eq!(written, expected);
    let one = crate::support::unsigned(&settled);
    let bad = crate::support::unsigned(&with(&settled, "/received", json!("1")));
    let audit = serde_json::to_value(h402_watch_verify::audit(&[one, bad], None)).expect("JSON");
    assert_eq!(audit["artefacts"][0]["ok"]["signature"], json!({"kind": "absent"}));
    assert_eq!(audit["artefacts"][1]["wrong"]["code"], json!("amount"));
    assert_eq!(audit["watches"][0]["wrong"]["code"], json!("fork"));
}
