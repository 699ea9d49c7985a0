//! Signatures and the keys that make them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use h402_watch_verify::jwks::{self, Jwk, Keys};
use h402_watch_verify::jws::{self, Detached};
use h402_watch_verify::wrong::{Code, Wrong};
use serde_json::json;

const ARTEFACT: &[u8] = br#"{"artefact":"receipt"}"#;

/// The key of RFC 8037, appendix A.
fn key() -> SigningKey {
    let secret = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").expect("base64url");
    SigningKey::from_bytes(&secret.try_into().expect("32 bytes"))
}

fn jwk() -> Jwk {
    Jwk::from_ed25519(key().verifying_key().as_bytes())
}

fn sign(artefact: &[u8]) -> String {
    let kid = jwk().kid().to_owned();
    let signature = key().sign(jws::signing_input(&kid, artefact).as_bytes());
    jws::detached(&kid, &signature.to_bytes())
}

fn verify(text: &str, artefact: &[u8], keys: &Keys) -> Result<(), Wrong> {
    Detached::parse(text)?.verify(artefact, keys)
}

fn code(checked: Result<(), Wrong>) -> Option<Code> {
    checked.err().map(|wrong| wrong.code)
}

#[test]
fn a_key_is_named_as_rfc_8037_names_it() {
    assert_eq!(jwk().kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let set = jwks::to_json(&[jwk()]);
    assert_eq!(
        set,
        r#"{"keys":[{"alg":"EdDSA","crv":"Ed25519","kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k","kty":"OKP","use":"sig","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#
    );
    assert_eq!(Keys::parse(set.as_bytes()), Ok(Keys::new([jwk()])));
}

#[test]
fn what_is_signed_is_the_header_and_the_payload() {
    let kid = jwk().kid().to_owned();
    assert_eq!(jws::header(&kid), format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"h402-artefact+jws"}}"#));
    let text = sign(ARTEFACT);
    let whole = text.replace("..", &format!(".{}.", URL_SAFE_NO_PAD.encode(ARTEFACT)));
    let (input, _) = whole.rsplit_once('.').expect("a compact JWS once the payload is put between the dots");
    assert_eq!(input, jws::signing_input(&kid, ARTEFACT));
    assert_eq!(verify(&text, ARTEFACT, &Keys::new([jwk()])), Ok(()));
}

#[test]
fn a_changed_signature_key_or_artefact_is_refused() {
    let (keys, text) = (Keys::new([jwk()]), sign(ARTEFACT));
    assert_eq!(code(verify(&text, br#"{"artefact":"settled"}"#, &keys)), Some(Code::Signature));
    assert_eq!(code(verify(&text, ARTEFACT, &Keys::default())), Some(Code::UnknownKey));
    let other = Jwk::from_ed25519(SigningKey::from_bytes(&[7; 32]).verifying_key().as_bytes());
    assert_eq!(code(verify(&text, ARTEFACT, &Keys::new([other.clone()]))), Some(Code::UnknownKey));
    let renamed = jws::detached(other.kid(), &Detached::parse(&text).expect("a signature").signature);
    assert_eq!(code(verify(&renamed, ARTEFACT, &Keys::new([jwk(), other]))), Some(Code::Signature));
    for place in 0..text.len() {
        for bit in 0..8 {
            let mut bytes = text.clone().into_bytes();
            bytes[place] ^= 1 << bit;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            assert!(verify(&changed, ARTEFACT, &keys).is_err(), "byte {place}, bit {bit}: {changed}");
        }
    }
}

#[test]
fn a_signature_has_one_spelling() {
    let (kid, text) = (jwk().kid().to_owned(), sign(ARTEFACT));
    let (head, signature) = text.split_once("..").expect("detached");
    let spelled = |head: &str| format!("{}..{signature}", URL_SAFE_NO_PAD.encode(head));
    // 64 bytes are 85 characters and two bits: the last character has four bits that say nothing.
    let (but_last, last) = signature.split_at(signature.len() - 1);
    let next = neighbour(last);
    let cases = [
        format!("{text}\n"),
        format!("{text}="),
        format!("{text}=="),
        format!(" {text}"),
        format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(ARTEFACT)),
        format!("{head}.{signature}"),
        format!("{head}...{signature}"),
        format!("{head}..{but_last}{next}"),
        format!("{head}..{}", URL_SAFE_NO_PAD.encode([0; 63])),
        format!("{head}.."),
        format!("..{signature}"),
        spelled(&format!(r#"{{"alg":"EdDSA", "kid":"{kid}","typ":"h402-artefact+jws"}}"#)),
        spelled(&format!(r#"{{"kid":"{kid}","alg":"EdDSA","typ":"h402-artefact+jws"}}"#)),
        spelled(&format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#)),
        spelled(&format!(r#"{{"alg":"none","kid":"{kid}","typ":"h402-artefact+jws"}}"#)),
        spelled(&format!(r#"{{"alg":"EdDSA","b64":false,"kid":"{kid}","typ":"h402-artefact+jws"}}"#)),
        spelled(&format!(r#"{{"alg":"EdDSA","kid":"{kid}","kid":"{kid}","typ":"h402-artefact+jws"}}"#)),
        spelled("null"),
        String::new(),
    ];
    for case in cases {
        let found = code(verify(&case, ARTEFACT, &Keys::new([jwk()])));
        assert_eq!(found, Some(Code::SignatureFormat), "{case}");
    }
}

/// The character that differs from this one in its lowest bit only.
fn neighbour(character: &str) -> char {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = ALPHABET.iter().position(|c| character.as_bytes() == [*c]).expect("of the alphabet");
    char::from(ALPHABET[at ^ 1])
}

/// Which key made a signature must be sure: one of small order verifies a signature over anything.
#[test]
fn a_key_of_small_order_signs_nothing() {
    let mut identity = [0; 32];
    identity[0] = 1;
    let weak = Jwk::from_ed25519(&identity);
    let mut signature = [0; 64];
    signature[0] = 1;
    let text = jws::detached(weak.kid(), &signature);
    assert_eq!(code(verify(&text, ARTEFACT, &Keys::new([weak]))), Some(Code::Signature));
}

#[test]
fn sets_of_keys_are_read_with_care() {
    let good = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(key().verifying_key().as_bytes())});
    let with = |name: &str, value: serde_json::Value| {
        let mut key = good.clone();
        key[name] = value;
        key
    };
    let read = |keys: serde_json::Value| Keys::parse(json!({ "keys": keys }).to_string().as_bytes());
    let one = Ok(Keys::new([jwk()]));
    assert_eq!(read(json!([good])), one, "a name is not needed");
    let rsa = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"});
    let agreement = json!({"kty": "OKP", "crv": "X25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let kindless = json!([{"crv": "Ed25519"}, {"kty": "OKP"}, {"kty": 7}, {}, good]);
    assert_eq!(read(kindless), one, "RFC 7517, section 5: what lacks its kind is passed over");
    assert_eq!(read(json!([rsa, agreement, with("use", json!("enc")), good])), one, "others are passed over");
    assert_eq!(read(json!([with("alg", json!("Ed25519"))])), one);
    assert_eq!(read(json!([with("alg", json!("RS256"))])), Ok(Keys::default()));
    let wrong = [
        (json!([with("kid", json!("key-1"))]), "thumbprint"),
        (json!([with("d", json!("AAAA"))]), "private"),
        (json!([with("x", json!("AAAA"))]), "32 bytes"),
        (json!([with("x", json!(URL_SAFE_NO_PAD.encode([2; 32])))]), "no point"),
        (json!(["key"]), "object"),
        (json!({}), "list"),
    ];
    for (set, expected) in wrong {
        let wrong = read(set).expect_err(expected);
        assert_eq!(wrong.code, Code::KeySet);
        assert!(wrong.said.contains(expected), "{wrong}");
    }
    assert_eq!(Keys::parse(b"[").expect_err("no JSON").code, Code::KeySet);
}
