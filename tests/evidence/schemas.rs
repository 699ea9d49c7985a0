//! What the schemas take and what they refuse, beyond the golden artefacts.

use std::path::Path;

use serde_json::Value;

use crate::{ROOT, accepted, by_python, refused, story};

/// (story, file, from, to): artefacts that no service may write.
const BAD: [(&str, &str, &str, &str); 32] = [
    // Members that the format does not name, at each level.
    ("address", "01-included.json", r#""version":1"#, r#""version":1,"wallet":"x""#),
    ("address", "01-included.json", r#""kind":"address""#, r#""kind":"address","tx":"t""#),
    ("address", "01-included.json", r#""payTo":"shop""#, r#""payTo":"shop","tip":"1""#),
    ("address", "01-included.json", r#""binding":{}"#, r#""binding":{"fx":{"USD":"1"}}"#),
    ("address", "01-included.json", r#""via":"value""#, r#""via":"value","when":1"#),
    ("address", "01-included.json", r#""height":6"#, r#""height":6,"timeMs":1"#),
    // Members that are missing.
    ("address", "01-included.json", r#","version":1"#, ""),
    ("address", "01-included.json", r#""binding":{},"#, ""),
    ("address", "02-included.json", r#""received":"100","#, ""),
    ("address", "03-settled.json", r#""evidence":{"kind":"transaction"},"#, ""),
    // Values.
    ("address", "01-included.json", r#""version":1"#, r#""version":2"#),
    ("address", "01-included.json", r#""watch":"wf"#, r#""watch":"wF"#),
    ("address", "01-included.json", r#""event":"included""#, r#""event":"confirmed""#),
    ("address", "01-included.json", r#""state":"included""#, r#""state":"done""#),
    ("address", "01-included.json", r#""received":"50""#, r#""received":"050""#),
    ("address", "01-included.json", r#""received":"50""#, r#""received":50"#),
    ("address", "01-included.json", r#""amount":"30""#, r#""amount":"-30""#),
    ("address", "01-included.json", r#""deadlineMs":1700010000000"#, r#""deadlineMs":"1700010000000""#),
    ("address", "01-included.json", r#""verification":"endpoint""#, r#""verification":"quorum:0/3""#),
    ("address", "01-included.json", r#""network":"test:1""#, r#""network":"eip155:1""#),
    // What does not go together.
    ("address", "01-included.json", r#""index":1"#, r#""index":2"#),
    ("address", "01-included.json", r#""block":{"hash":"6a","height":6},"#, ""),
    ("address", "01-included.json", r#""event":"included""#, r#""event":"seen""#),
    ("address", "01-included.json", r#""event":"included""#, r#""depth":2,"event":"included""#),
    ("address", "01-included.json", r#""event":"included""#, r#""event":"late""#),
    ("reorg-to-success", "03-orphaned.json", r#""leftBlock":{"hash":"6a","height":6},"#, ""),
    ("address", "03-settled.json", r#""received":"100""#, r#""reason":"underpaid","received":"100""#),
    ("address", "03-settled.json", r#""outcome":"success""#, r#""outcome":"partial""#),
    ("failures", "05-settled.json", r#""by":{"watch":"w022a6c872d63958e6757e682fe2b3624"},"#, ""),
    ("failures", "05-settled.json", r#""reason":"already_claimed""#, r#""reason":"replaced""#),
    ("bound-and-expired", "06-settled.json", r#""reason":"expired""#, r#""reason":"deadline_passed""#),
    ("authorization", "03-settled.json", r#""kind":"block_time","timeMs":1700000070000"#, r#""kind":"block_time""#),
];

/// A header of Bitcoin, so far as a schema can tell.
fn header() -> String {
    "0b".repeat(80)
}

/// The proofs of README.md, of a settlement and of a receipt.
fn proofs(headers: &str) -> [String; 4] {
    let (leaf, header) = ("ab".repeat(32), header());
    let bitcoin = format!(
        r#"{{"branch":["{leaf}"],"coinbase":"01","coinbaseBranch":["{leaf}"],"header":"{header}",{headers}"index":1,"kind":"bitcoin","transaction":"02","tx":"t1"}}"#
    );
    let ethereum = format!(
        r#"{{"header":"f9",{headers}"index":0,"kind":"ethereum","receiptProof":["f8"],"transactionProof":["f8"],"tx":"t1"}}"#
    );
    let none = r#"{"blockhash":"EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG","commitment":"finalized","kind":"none","slot":9,"statement":"Solana has none","tx":"t1"}"#;
    [bitcoin, ethereum, none.into(), r#"{"kind":"none","statement":"pruned","tx":"t1"}"#.into()]
}

fn with_proof(story_and_file: (&str, &str), proof: &str) -> std::process::Output {
    let (name, file) = story_and_file;
    let (_below, folder) = story(name);
    folder.alter_and_sign(file, r#""received""#, &format!(r#""proofs":[{proof}],"received""#));
    by_python(&[&folder.path])
}

#[test]
fn artefacts_that_no_service_may_write_are_refused() {
    for (name, file, from, to) in BAD {
        let (_below, folder) = story(name);
        folder.alter_and_sign(file, from, to);
        refused(&by_python(&[&folder.path]), &[file, "schema: $"]);
    }
}

#[test]
fn the_proofs_of_the_readme_are_taken() {
    let settled = ("address", "03-settled.json");
    // Another artefact follows it, whose `previous` is another hash now: the schema comes before that.
    let included = ("failures", "02-included.json");
    for proof in proofs(&format!(r#""headers":["{}"],"#, header())) {
        accepted(&with_proof(settled, &proof));
    }
    for proof in proofs("") {
        accepted(&with_proof(settled, &proof));
        let output = with_proof(included, &proof);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(complained.contains("hash chain"), "that much is right: {complained}");
    }
    accepted(&with_proof(settled, r#"{"kind":"omitted","tx":"t1"}"#));
}

#[test]
fn proofs_that_are_not_whole_are_refused() {
    let settled = ("address", "03-settled.json");
    let [bitcoin, ethereum, none, _] = proofs("");
    let bad = [
        bitcoin.replace(&header(), &header()[2..]),
        bitcoin.replace(r#""coinbase":"01","#, ""),
        bitcoin.replace(r#""kind":"bitcoin""#, r#""kind":"litecoin""#),
        ethereum.replace(r#""receiptProof":["f8"]"#, r#""receiptProof":[]"#),
        ethereum.replace(r#""header":"f9""#, r#""header":"0xf9""#),
        none.replace(r#","slot":9"#, ""),
        none.replace("finalized", "processed"),
    ];
    for proof in bad {
        refused(&with_proof(settled, &proof), &["03-settled.json", "schema: $.proofs[0]"]);
    }
    let [bitcoin, ..] = proofs(&format!(r#""headers":["{}"],"#, header()));
    let not_of_receipts = [bitcoin, r#"{"kind":"omitted","tx":"t1"}"#.into()];
    for proof in not_of_receipts {
        refused(&with_proof(("address", "01-included.json"), &proof), &["01-included.json", "schema: $.proofs[0]"]);
    }
}

#[test]
fn hashes_are_spelled_as_the_network_spells_them() {
    let networks = [
        ("eip155:8453", format!("0x{}", "ab".repeat(32)), format!("0x{}", "AB".repeat(32))),
        ("bip122:0f9188f13cb7b2c71f2a335e3a4fc328", "ab".repeat(32), format!("0x{}", "ab".repeat(32))),
        ("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "A".repeat(43), "ab".repeat(32)),
    ];
    for (network, good, bad) in networks {
        for (hash, is_good) in [(good, true), (bad, false)] {
            let (_below, folder) = story("address");
            let tx = if is_good && network.starts_with("solana") { hash.repeat(2) } else { hash.clone() };
            let altered = folder.read("01-included.json").replace("test:1", network);
            let altered = altered.replace(r#""hash":"6a""#, &format!(r#""hash":"{hash}""#));
            let altered = altered.replace(r#""tx":"t1""#, &format!(r#""tx":"{tx}""#));
            folder.write("01-included.json", altered.as_bytes());
            let expected = if is_good { "hash chain" } else { "schema: $.transaction" };
            refused(&by_python(&[&folder.path]), &[expected]);
        }
    }
}

#[test]
fn what_both_schemas_define_they_define_alike() {
    let read = |name: &str| -> Value {
        let path = Path::new(ROOT).join("proto/artefacts").join(name);
        serde_json::from_slice(&std::fs::read(path).expect("reads")).expect("JSON")
    };
    let (receipt, settled) = (read("receipt.schema.json"), read("settled.schema.json"));
    let own = ["proof", "countedTransfer"];
    let definitions = settled["$defs"].as_object().expect("an object");
    for (name, definition) in definitions.iter().filter(|(name, _)| !own.contains(&name.as_str())) {
        assert_eq!(receipt["$defs"][name], *definition, "{name}");
    }
}
