//! Artefacts to spoil: JSON that is written canonically, and blocks with proofs.

use ed25519_dalek::{Signer as _, SigningKey};
use h402_watch_engine::canonical::{Json, digest};
use h402_watch_verify::evidence::Evidence;
use h402_watch_verify::jwks::{Jwk, Keys};
use h402_watch_verify::{Code, NoteCode, Report, Wrong, jws, verify};
use serde_json::{Value, json};

pub mod bitcoin;
pub mod ethereum;
pub mod vectors;

/// After all blocks that are made here.
pub const DEADLINE_MS: u64 = 1_800_000_000_000;
/// The time of those blocks, seconds.
pub const TIME: u32 = 1_700_000_000;

/// The watch of all artefacts that are made here.
pub const WATCH: &str = "w11111111111111111111111111111111";

/// JSON in its canonical spelling.
pub fn canonical(value: &Value) -> String {
    fn convert(value: &Value) -> Json {
        match value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(number) => Json::Int(number.as_u64().expect("a whole number")),
            Value::String(text) => Json::text(text.as_str()),
            Value::Array(list) => Json::List(list.iter().map(convert).collect()),
            Value::Object(members) => {
                Json::Object(members.iter().map(|(name, value)| (name.clone(), convert(value))).collect())
            }
        }
    }
    convert(value).to_canonical()
}

pub fn unsigned(value: &Value) -> Evidence {
    Evidence { artefact: canonical(value).into_bytes(), signature: None }
}

pub fn key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

pub fn keys() -> Keys {
    Keys::new([Jwk::from_ed25519(key().verifying_key().as_bytes())])
}

pub fn signed(value: &Value) -> Evidence {
    let artefact = canonical(value).into_bytes();
    let signature = Some(signature_by(&key(), &artefact));
    Evidence { artefact, signature }
}

/// The signature of a key over any bytes.
pub fn signature_by(key: &SigningKey, bytes: &[u8]) -> String {
    let kid = Jwk::from_ed25519(key.verifying_key().as_bytes()).kid().to_owned();
    let signature = key.sign(jws::signing_input(&kid, bytes).as_bytes());
    jws::detached(&kid, &signature.to_bytes())
}

pub fn check(value: &Value) -> Result<Report, Wrong> {
    verify(&unsigned(value), None)
}

/// The report on an artefact in which nothing is wrong.
#[track_caller]
pub fn good(value: &Value) -> Report {
    match check(value) {
        Ok(report) => {
            vectors::record(value, Ok(()));
            report
        }
        Err(wrong) => panic!("{wrong}\n{}", canonical(value)),
    }
}

/// The artefact with one member changed must be refused for just that.
#[track_caller]
pub fn refused(value: &Value, code: Code) {
    match check(value) {
        Ok(report) => panic!("expected {code:?}, found: {report}"),
        Err(wrong) => assert_eq!(wrong.code, code, "{wrong}"),
    }
    vectors::record(value, Err(code));
}

/// A member by its JSON pointer; made if it is not there.
#[track_caller]
pub fn with(value: &Value, pointer: &str, new: Value) -> Value {
    let mut changed = value.clone();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    match changed.pointer_mut(parent).expect(pointer) {
        Value::Object(members) => {
            members.insert(name.into(), new);
        }
        Value::Array(list) => list[name.parse::<usize>().expect("a place")] = new,
        _ => panic!("{pointer} leads nowhere"),
    }
    assert!(changed != *value, "{pointer} is so already");
    changed
}

#[track_caller]
pub fn without(value: &Value, pointer: &str) -> Value {
    let mut changed = value.clone();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = changed.pointer_mut(parent).expect(pointer).as_object_mut().expect("an object");
    assert!(parent.remove(name).is_some(), "{pointer} is not there");
    changed
}

/// What an artefact leaves to its author's word, but for what all of them do.
pub fn left(report: &Report) -> Vec<NoteCode> {
    let codes = report.notes.iter().map(|note| note.code);
    codes.filter(|code| *code != NoteCode::BlockNotAnchored).collect()
}

/// Artefacts of one watch, numbered and linked anew, each signed or not.
pub fn linked(values: &[Value], sign: fn(&Value) -> Evidence) -> Vec<Evidence> {
    let mut all: Vec<Evidence> = Vec::new();
    for (value, index) in values.iter().zip(1..) {
        let mut value = value.clone();
        value["index"] = json!(index);
        if let Some(last) = all.last() {
            value["previous"] = json!(hex::encode(digest(&last.artefact)));
        }
        all.push(sign(&value));
    }
    all
}

/// What all artefacts of a watch have, of its first artefact.
pub fn envelope(artefact: &str, network: &str, subject: &Value, terms: &Value) -> Value {
    json!({
        "artefact": artefact, "version": 1, "watch": WATCH, "index": 1, "network": network, "subject": subject,
        "terms": terms, "binding": {},
    })
}

/// Members put together.
pub fn joined(mut first: Value, second: Value) -> Value {
    let (Some(members), Value::Object(others)) = (first.as_object_mut(), second) else { panic!("objects") };
    members.extend(others);
    first
}

/// A settlement that succeeded, by these transfers.
pub fn success(envelope: Value, received: &str, transfers: Value, proofs: Value) -> Value {
    joined(
        envelope,
        json!({
            "event": "settled", "state": "settled", "outcome": "success", "received": received,
            "evidence": {"kind": "transaction"}, "transfers": transfers, "proofs": proofs,
        }),
    )
}
