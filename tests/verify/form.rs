//! The form of artefacts: canonical JSON, and nothing but the members of the version.

use std::path::{Path, PathBuf};

use h402_watch_verify::artefact::Artefact;
use h402_watch_verify::evidence::{self, Evidence};
use h402_watch_verify::{Code, Inclusion, Signed, json as strict, verify};
use serde_json::{Value, json};

use crate::support::bitcoin::Block;
use crate::support::{canonical, check, good, keys, refused, signed, unsigned, with, without};

/// The golden artefacts of the engine, by folder and name. The proofs in one of the folders have the shapes of proofs, and are of
/// no chain.
pub fn golden() -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let mut files = Vec::new();
    for folder in std::fs::read_dir(root).expect("the golden artefacts") {
        let folder = folder.expect("a folder").path();
        if folder.ends_with("proofs") {
            continue;
        }
        for file in std::fs::read_dir(folder).expect("a folder") {
            let path = file.expect("a file").path();
            let bytes = std::fs::read(&path).expect("bytes");
            files.push((path, bytes.strip_suffix(b"\n").map_or(bytes.clone(), <[u8]>::to_vec)));
        }
    }
    files.sort();
    assert!(files.len() > 30, "{}", files.len());
    files
}

fn code(bytes: &[u8]) -> Option<Code> {
    Artefact::parse(bytes).err().map(|wrong| wrong.code)
}

#[test]
fn golden_artefacts_are_in_order() {
    for (path, bytes) in golden() {
        let evidence = Evidence { artefact: bytes, signature: None };
        let report = verify(&evidence, None).unwrap_or_else(|wrong| panic!("{}: {wrong}", path.display()));
        assert_eq!(report.signature, Signed::Absent);
        assert!(matches!(report.inclusion, Inclusion::NotProven { .. } | Inclusion::Nothing), "{report}");
        assert!(report.to_string().contains("not signed"), "{report}");
    }
}

/// No member is passed over: it can't be left out, be of another type, or have one more beside it, and nobody notice.
#[test]
fn every_member_of_golden_artefacts_is_read() {
    let mut changed = 0;
    for (path, bytes) in golden() {
        let value: Value = serde_json::from_slice(&bytes).expect("JSON");
        for pointer in pointers(&value, "") {
            let place = format!("{} {pointer}", path.display());
            let open = ["/labels", "/notes", "/fx"].iter().any(|name| pointer.ends_with(name));
            let found = value.pointer(&pointer).expect("a member");
            if found.is_object() && !open {
                let more = with(&value, &format!("{pointer}/other"), json!("x"));
                assert_eq!(code(canonical(&more).as_bytes()), Some(Code::UnknownMember), "{place}");
            }
            if pointer.is_empty() {
                continue;
            }
            for other in [json!(7), json!("x"), json!(true), json!([]), json!({}), json!({"a": 1}), json!([1])] {
                if std::mem::discriminant(&other) == std::mem::discriminant(found) {
                    continue;
                }
                // Depths are numbers and words.
                let other = with(&value, &pointer, other);
                let depth = pointer == "/terms/depth" && other["terms"]["depth"] == 7;
                assert_eq!(check(&other).is_err(), !depth, "{place}");
                changed += 1;
            }
        }
    }
    assert!(changed > 5000, "{changed}");
}

fn pointers(value: &Value, at: &str) -> Vec<String> {
    let mut all = vec![at.to_owned()];
    match value {
        Value::Object(members) => {
            all.extend(members.iter().flat_map(|(name, value)| pointers(value, &format!("{at}/{name}"))));
        }
        Value::Array(list) => {
            all.extend(list.iter().enumerate().flat_map(|(n, value)| pointers(value, &format!("{at}/{n}"))));
        }
        _ => {}
    }
    all
}

#[test]
fn members_that_are_needed_are_needed() {
    let optional = [
        "/previous",
        "/binding/quoteHash",
        "/binding/authHash",
        "/binding/resource",
        "/binding/labels",
        "/terms/payer",
        "/terms/notBeforeMs",
        "/terms/fromHeight",
        "/terms/memo",
        "/terms/references",
        "/fx",
        "/transfers/0/from",
        "/transaction/sender",
        "/transaction/notes",
        "/subject/expiry",
        "/subject/validBeforeMs",
    ];
    for (path, bytes) in golden() {
        let value: Value = serde_json::from_slice(&bytes).expect("JSON");
        for pointer in pointers(&value, "").into_iter().filter(|pointer| !pointer.is_empty()) {
            let in_list = pointer.rsplit('/').next().is_some_and(|name| name.parse::<usize>().is_ok());
            let free = ["/labels/", "/notes/", "/fx/", "/from", "/notes"].iter().any(|name| pointer.contains(name));
            if in_list || free || optional.contains(&pointer.as_str()) {
                continue;
            }
            assert!(check(&without(&value, &pointer)).is_err(), "{} {pointer}", path.display());
        }
    }
}

#[test]
fn what_is_not_canonical_is_refused() {
    let good = r#"{"a":[0,9007199254740991,true,"\u000f\n\"\\é😀"],"b":{}}"#;
    assert!(strict::parse(good.as_bytes()).is_ok());
    let not_json: [&[u8]; 17] = [
        b"",
        b"{",
        br#"{"a":1}x"#,
        br#"{"a":01}"#,
        br#"{"a":1,}"#,
        br#"{"a":null}"#,
        br#"{"a":-1}"#,
        br#"{"a":-0}"#,
        br#"{"a":1.0}"#,
        br#"{"a":1e2}"#,
        br#"{"a":9007199254740992}"#,
        br#"{"a":1,"a":1}"#,
        br#"{"a":{"b":1,"b":2}}"#,
        b"\xef\xbb\xbf{}",
        b"{\"a\":\"\xff\"}",
        br#"{"a":"\ud800"}"#,
        b"{\"a\":\"\n\"}",
    ];
    for bytes in not_json {
        let found = strict::parse(bytes).map_err(|wrong| wrong.code);
        assert_eq!(found, Err(Code::NotJson), "{}", String::from_utf8_lossy(bytes));
    }
    let not_canonical = [
        "{\"a\":1}\n",
        " {\"a\":1}",
        "{\"a\": 1}",
        "{\"b\":1,\"a\":2}",
        "{\"a\":\"\\u0061\"}",
        "{\"a\":\"\\/\"}",
        "{\"a\":\"\\u000a\"}",
        "{\"a\":\"\\u000F\"}",
        "{\"\u{fb33}\":1,\"\u{1f600}\":2}",
        "{\"a\":\"\\u00e9\"}",
    ];
    for text in not_canonical {
        let found = strict::parse(text.as_bytes()).map_err(|wrong| wrong.code);
        assert_eq!(found, Err(Code::NotCanonical), "{text}");
    }
    // Deeper than anything is.
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(strict::parse(deep.as_bytes()).map_err(|wrong| wrong.code), Err(Code::NotJson));
}

#[test]
fn other_artefacts_are_not_known() {
    let settled = Block::new(3, 500).settled(1);
    refused(&with(&settled, "/version", json!(2)), Code::Version);
    refused(&with(&settled, "/version", json!(0)), Code::Version);
    refused(&with(&settled, "/artefact", json!("invoice")), Code::Version);
    refused(&with(&settled, "/artefact", json!("receipt")), Code::Inconsistent);
    refused(&with(&settled, "/event", json!("refunded")), Code::Shape);
    refused(&with(&settled, "/event", json!("included")), Code::Inconsistent);
    refused(&with(&settled, "/state", json!("included")), Code::Inconsistent);
    for network in
        ["bitcoin", "a:b", "abc:", ":abc", "UPPER:1", "toolongspace:1", "test:a b", "test:1:2", "test:\u{202e}"]
    {
        refused(&with(&settled, "/network", json!(network)), Code::Shape);
    }
    let long = format!("test:{}", "1".repeat(33));
    refused(&with(&settled, "/network", json!(long)), Code::Shape);
    for watch in ["", "w1", "x11111111111111111111111111111111", "w1111111111111111111111111111111G", "w\n"] {
        refused(&with(&settled, "/watch", json!(watch)), Code::Shape);
    }
    for pointer in
        ["/transfers/0/tx", "/subject/tx", "/proofs/0/tx", "/transfers/0/block/hash", "/transfers/0/to", "/terms/payTo"]
    {
        refused(&with(&settled, pointer, json!("")), Code::Shape);
    }
    for pointer in ["/transfers/0/tx", "/subject/tx", "/proofs/0/tx", "/transfers/0/block/hash"] {
        refused(&with(&settled, pointer, json!("AB".repeat(32))), Code::Shape);
    }
    refused(&with(&settled, "/binding/quoteHash", json!("")), Code::Shape);
    refused(&with(&settled, "/proofs/0/headers", json!([])), Code::Shape);
    refused(&with(&settled, "/index", json!((1_u64 << 32) + 1)), Code::Shape);
    refused(&with(&settled, "/index", json!(0)), Code::Inconsistent);
    refused(&with(&settled, "/index", json!(2)), Code::Inconsistent);
    refused(&with(&settled, "/previous", json!("ab".repeat(32))), Code::Inconsistent);
    let second = with(&settled, "/index", json!(2));
    good(&with(&second, "/previous", json!("ab".repeat(32))));
    for previous in ["AB".repeat(32), "ab".repeat(31), "zz".repeat(32)] {
        refused(&with(&second, "/previous", json!(previous)), Code::Shape);
    }
    for amount in ["", "01", "+1", "1.0", "0x1", " 1", &"9".repeat(78)] {
        refused(&with(&settled, "/received", json!(amount)), Code::Shape);
        refused(&with(&settled, "/terms/amount", json!(amount)), Code::Shape);
    }
    for words in ["trust", "quorum:1", "quorum:01/2", "quorum:1/2/3", "quorum:0/0", "quorum:0/1", "quorum:3/2"] {
        refused(&with(&settled, "/transfers/0/verification", json!(words)), Code::Shape);
    }
    good(&with(&settled, "/transfers/0/verification", json!("quorum:2/3")));
    // What artefacts leave out where it is empty.
    for (pointer, empty) in [("/binding/labels", json!({})), ("/terms/references", json!([])), ("/fx", json!({}))] {
        refused(&with(&settled, pointer, empty), Code::Shape);
    }
    refused(&with(&settled, "/binding/fx", json!({"USD": "1"})), Code::UnknownMember);
    good(&with(&settled, "/fx", json!({"USD": "1"})));
}

#[test]
fn proofs_stand_where_they_may() {
    let block = Block::new(3, 500);
    let settled = block.settled(1);
    let proof = settled["proofs"][0].clone();
    refused(&with(&settled, "/proofs", json!([])), Code::Shape);
    for proofs in [json!([proof, proof]), json!([proof, block.proof(2)]), json!([block.proof(2), proof])] {
        refused(&with(&settled, "/proofs", proofs), Code::ProofTransaction);
    }
    let report = good(&without(&settled, "/proofs"));
    assert!(report.to_string().contains("not proven, "), "{report}");
    refused(&with(&settled, "/proofs/0/kind", json!("solana")), Code::ProofKind);
    refused(&with(&settled, "/proofs/0/kind", json!("none")), Code::Shape);
    refused(&with(&settled, "/proofs/0/more", json!("x")), Code::UnknownMember);
    let none = json!({"tx": block.tx(1), "kind": "none", "statement": "the node is pruned"});
    let report = good(&with(&settled, "/proofs/0", none.clone()));
    assert!(report.to_string().contains("the node is pruned"), "{report}");
    let said = [("slot", json!(7)), ("blockhash", json!("4".repeat(44))), ("commitment", json!("finalized"))];
    let mut more = none.clone();
    for (name, value) in said.clone() {
        more[name] = value;
    }
    refused(&with(&settled, "/proofs/0", more.clone()), Code::ProofKind);
    for (name, _) in &said {
        refused(&without(&with(&settled, "/proofs/0", more.clone()), &format!("/proofs/0/{name}")), Code::Shape);
    }
    refused(&with(&settled, "/proofs/0", with(&more, "/commitment", json!("processed"))), Code::Shape);
    refused(&with(&settled, "/proofs/0", with(&more, "/blockhash", json!("x"))), Code::Shape);
    let mut solana = with(&settled, "/network", json!("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"));
    solana["proofs"][0] = more;
    for pointer in ["/transfers/0/tx", "/proofs/0/tx", "/subject/tx"] {
        solana = with(&solana, pointer, json!("5".repeat(88)));
    }
    solana = with(&solana, "/transfers/0/block/hash", json!("4".repeat(44)));
    assert!(matches!(good(&solana).inclusion, Inclusion::NotProven { .. }));
    refused(&with(&solana, "/proofs/0/blockhash", json!("5".repeat(44))), Code::ProofHeader);
}

#[test]
fn evidence_is_read_from_lines_and_files() {
    let one = signed(&Block::new(3, 500).settled(1));
    let line = one.to_line().expect("canonical");
    assert_eq!(Evidence::from_line(line.as_bytes()), Ok(one.clone()));
    let text = one.signature.clone().expect("signed");
    assert_eq!(Evidence::from_files(&one.artefact, Some(text.as_bytes())), Ok(one.clone()));
    assert!(matches!(verify(&one, Some(&keys())).map(|report| report.signature), Ok(Signed::Signed { .. })));
    assert!(matches!(verify(&one, None).map(|report| report.signature), Ok(Signed::NotChecked { .. })));
    let newline = Evidence::from_files(&one.artefact, Some(format!("{text}\n").as_bytes())).expect("text");
    assert_eq!(verify(&newline, None).map_err(|wrong| wrong.code), Err(Code::SignatureFormat));

    let bare = unsigned(&Block::new(2, 500).settled(1));
    let stream = line.clone() + &bare.to_line().expect("canonical");
    assert!(evidence::is_lines(stream.as_bytes()) && !evidence::is_lines(&one.artefact));
    let all: Vec<_> = evidence::lines(stream.as_bytes()).collect();
    assert_eq!(all, [Ok(one), Ok(bare)]);
    let wrong = [
        line.trim_end().to_owned(),
        line.clone() + "\n",
        format!("\n{line}"),
        line.replace('\n', "\r\n"),
        format!(" {line}"),
        line.replacen("\"artefact\":{", "\"artefact\": {", 1),
        "{}\n".into(),
    ];
    for text in wrong {
        let found = evidence::lines(text.as_bytes()).find_map(|line| line.err()).map(|wrong| wrong.code);
        assert_eq!(found, Some(Code::EvidenceLine), "{text}");
    }
    let more = line.replacen("{\"artefact\"", "{\"a\":1,\"artefact\"", 1);
    assert_eq!(Evidence::from_line(more.as_bytes()).map_err(|wrong| wrong.code), Err(Code::UnknownMember));
}

/// Programs tell errors apart by these.
#[test]
fn codes_are_words_of_their_own() {
    let words: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(words.len(), Code::ALL.len());
    for code in Code::ALL {
        assert_eq!(serde_json::to_value(code).expect("a text"), json!(code.as_str()));
    }
}
