//! The test vectors in `proto/artefacts/vectors`: files that another implementation can be held against.
//!
//! `accepted/` and `refused/<code>/` hold artefacts with their signatures, each named after the test here that it comes from;
//! `chains/<code>/` holds folders that are wrong as a whole. `H402_WRITE_VECTORS=1 cargo test -p h402-watch-verify` writes them
//! anew: what the tests of this package build is recorded, once for each test and each code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use h402_watch_verify::evidence::{Evidence, lines};
use h402_watch_verify::jwks::{self, Jwk, Keys};
use h402_watch_verify::{Code, audit, verify};
use serde_json::{Value, json};

use crate::audit::included;
use crate::support::ethereum::Block;
use crate::support::vectors::{folder, record_bytes, record_chain, record_file};
use crate::support::{bitcoin, canonical, key, linked, signature_by, signed, with};

/// Codes that no artefact alone has.
const OF_CHAINS: [Code; 5] = [Code::Fork, Code::HashChain, Code::ChainTerms, Code::ChainSettlement, Code::DoubleClaim];
/// Of key sets; and of evidence lines, which stand in a file of their own.
const OF_NEITHER: [Code; 2] = [Code::KeySet, Code::EvidenceLine];

fn files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(below).unwrap_or_else(|error| panic!("{}: {error}", below.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> Evidence {
    let beside = path.with_added_extension("jws");
    let signature = std::fs::read(&beside).unwrap_or_else(|error| panic!("{}: {error}", beside.display()));
    Evidence::from_files(&std::fs::read(path).expect("reads"), Some(&signature)).expect("text")
}

fn published() -> Keys {
    Keys::parse(&std::fs::read(folder().join("jwks.json")).expect("the keys")).expect("a set of keys")
}

/// The code that a folder stands for.
fn code_of(path: &Path) -> String {
    path.parent().and_then(Path::file_name).expect("a folder").to_string_lossy().into_owned()
}

#[test]
fn each_vector_is_what_it_is_said_to_be() {
    let keys = published();
    let accepted = files(&folder().join("accepted"));
    assert!(accepted.len() > 10, "{}", accepted.len());
    for path in accepted {
        let report = verify(&read(&path), Some(&keys));
        assert!(report.is_ok(), "{}: {}", path.display(), report.expect_err("is wrong"));
    }
    let mut seen = BTreeSet::new();
    for path in files(&folder().join("refused")) {
        let wrong = verify(&read(&path), Some(&keys)).expect_err(&path.display().to_string());
        assert_eq!(wrong.code.as_str(), code_of(&path), "{}: {wrong}", path.display());
        seen.insert(wrong.code);
    }
    let missing = Code::ALL.iter().filter(|code| !seen.contains(code));
    let missing: Vec<_> = missing.filter(|code| !OF_CHAINS.contains(code) && !OF_NEITHER.contains(code)).collect();
    assert!(missing.is_empty(), "no vector for {missing:?}");
}

#[test]
fn each_chain_is_broken_as_it_is_said_to_be() {
    let keys = published();
    for code in OF_CHAINS {
        let all: Vec<_> = files(&folder().join("chains").join(code.as_str())).iter().map(|path| read(path)).collect();
        assert!(!all.is_empty(), "{}", code.as_str());
        let audit = audit(&all, Some(&keys));
        let codes: BTreeSet<_> = audit.wrongs().map(|wrong| wrong.code).collect();
        assert!(codes.contains(&code), "{}: {codes:?}", code.as_str());
    }
    let good: Vec<_> = files(&folder().join("chains/accepted")).iter().map(|path| read(path)).collect();
    assert_eq!(audit(&good, Some(&keys)).wrongs().count(), 0);
}

#[test]
fn evidence_lines_are_read_and_refused() {
    let keys = published();
    let read = |name: &str| std::fs::read(folder().join(name)).expect("reads");
    for line in lines(&read("accepted.jsonl")) {
        verify(&line.expect("a line"), Some(&keys)).expect("in order");
    }
    let wrongs: Vec<_> = lines(&read("refused.jsonl")).map(|line| line.expect_err("refused").code).collect();
    assert_eq!(wrongs, [Code::EvidenceLine; 3]);
}

/// What is wrong with bytes is in no value; and what is wrong with a folder in no file.
#[test]
fn vectors_of_bytes_and_of_chains_are_recorded() {
    let settled = Block::new(3).settled(1);
    let text = canonical(&settled);
    let good = signature_by(&key(), text.as_bytes());
    // Signed as they are, so that their form is all that is wrong.
    for (code, name, bytes) in [
        (Code::NotCanonical, "white_space", text.replacen(':', ": ", 1)),
        (Code::NotCanonical, "a_newline_at_the_end", format!("{text}\n")),
        (Code::NotJson, "a_name_twice", text.replacen('{', "{\"artefact\":\"settlement\",", 1)),
        (Code::NotJson, "cut_short", text[..text.len() - 1].to_owned()),
    ] {
        record_bytes(code, name, bytes.as_bytes(), &signature_by(&key(), bytes.as_bytes()));
    }
    let changed = text.replacen("\"received\":\"1001\"", "\"received\":\"1002\"", 1);
    assert_ne!(changed, text);
    record_bytes(Code::Signature, "a_digit_changed", changed.as_bytes(), &good);
    record_bytes(Code::SignatureFormat, "padded", text.as_bytes(), &format!("{good}=="));
    let other = SigningKey::from_bytes(&[8; 32]);
    record_bytes(Code::UnknownKey, "of_another_key", text.as_bytes(), &signature_by(&other, text.as_bytes()));

    let values = |all: Vec<Evidence>| -> Vec<Value> {
        all.iter().map(|one| serde_json::from_slice(&one.artefact).expect("JSON")).collect()
    };
    let block = bitcoin::Block::new(3, 500);
    let (included, settled) = (included(&block), block.settled(1));
    let story = values(linked(&[included.clone(), settled.clone()], signed));
    record_chain("accepted", &story);
    let bound = with(&story[1], "/binding", json!({ "resource": "https://shop.example/other" }));
    record_chain(Code::ChainTerms.as_str(), &[story[0].clone(), bound]);
    let otherwise = with(&story[0], "/state", json!("settled"));
    record_chain(Code::Fork.as_str(), &[story[0].clone(), otherwise, story[1].clone()]);
    let unlinked = with(&story[1], "/previous", json!("00".repeat(32)));
    record_chain(Code::HashChain.as_str(), &[story[0].clone(), unlinked]);
    record_chain(
        Code::ChainSettlement.as_str(),
        &values(linked(&[included, settled.clone(), settled.clone()], signed)),
    );
    let theirs = with(&settled, "/watch", json!(format!("w{}", "ab".repeat(16))));
    record_chain(Code::DoubleClaim.as_str(), &[settled.clone(), theirs]);

    let line = signed(&settled).to_line().expect("canonical");
    record_file("jwks.json", jwks::to_json(&[Jwk::from_ed25519(key().verifying_key().as_bytes())]).as_bytes());
    record_file("accepted.jsonl", format!("{line}{line}").as_bytes());
    let spaced = line.replacen("\",\"signature", "\", \"signature", 1);
    let spaced = if spaced == line { line.replacen(",\"signature", ", \"signature", 1) } else { spaced };
    let nameless = "{\"signature\":\"a..b\"}\n";
    record_file("refused.jsonl", format!("{spaced}{nameless}{}", line.trim_end()).as_bytes());
}
