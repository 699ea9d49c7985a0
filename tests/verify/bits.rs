//! A signed artefact with a proof stands or falls as a whole: not one bit of it can change.

use h402_watch_verify::evidence::Evidence;
use h402_watch_verify::{Code, verify};
use serde_json::Value;

use crate::support::{bitcoin, ethereum, keys, signed, unsigned};

fn artefacts() -> [Value; 2] {
    [ethereum::Block::new(3).settled(1), bitcoin::Block::new(5, 500).settled(3)]
}

#[test]
fn no_bit_of_a_signed_artefact_can_change() {
    for value in artefacts() {
        let one = signed(&value);
        assert!(verify(&one, Some(&keys())).is_ok());
        for place in 0..one.artefact.len() {
            for bit in 0..8 {
                let mut changed = one.clone();
                changed.artefact[place] ^= 1 << bit;
                assert!(verify(&changed, Some(&keys())).is_err(), "byte {place}, bit {bit}");
            }
        }
    }
}

#[test]
fn no_bit_of_a_signature_can_change() {
    let one = signed(&artefacts()[1]);
    let text = one.signature.clone().expect("signed").into_bytes();
    for place in 0..text.len() {
        for bit in 0..8 {
            let mut bytes = text.clone();
            bytes[place] ^= 1 << bit;
            let changed = Evidence::from_files(&one.artefact, Some(&bytes));
            let checked = changed.and_then(|changed| verify(&changed, Some(&keys())));
            let expected = [Code::SignatureFormat, Code::UnknownKey, Code::Signature];
            assert!(checked.as_ref().is_err_and(|wrong| expected.contains(&wrong.code)), "byte {place}, bit {bit}");
        }
    }
}

/// Nor, signed or not, a bit of a proof: all of it is under the block's hash.
#[test]
fn no_bit_of_a_proof_can_change() {
    for value in artefacts() {
        let one = unsigned(&value);
        let text = String::from_utf8(one.artefact.clone()).expect("text");
        let mut tried = 0;
        for found in hexes(&value["proofs"][0]) {
            let at = text.find(&format!("\"{found}\"")).expect("it stands there") + 1;
            for place in at..at + found.len() {
                for bit in 0..4 {
                    let mut changed = one.clone();
                    let digit = char::from(changed.artefact[place]).to_digit(16).expect("hex");
                    let other = char::from_digit(digit ^ (1 << bit), 16).expect("hex");
                    changed.artefact[place] = u8::try_from(other).expect("ASCII");
                    let checked = verify(&changed, None);
                    assert!(checked.is_err(), "{other} at {place}: {}", checked.expect("is_err"));
                    tried += 1;
                }
            }
        }
        assert!(tried > 2000, "{tried}");
    }
}

/// The bytes of a proof, each text once.
fn hexes(proof: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for (name, member) in proof.as_object().expect("an object") {
        match member {
            Value::String(text) if name != "tx" && name != "kind" => all.push(text.clone()),
            Value::Array(list) => all.extend(list.iter().map(|text| text.as_str().expect("hex").to_owned())),
            _ => {}
        }
    }
    all
}
