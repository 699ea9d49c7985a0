//! Signatures of artefacts: a detached JWS (RFC 7515, appendix F) with Ed25519 (RFC 8037). Written and read here only.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, VerifyingKey};
use h402_watch_engine::canonical::Json;
use serde_json::Value;

use crate::jwks::Keys;
use crate::wrong::{Code, Wrong};

/// What is signed, for whoever finds a signature alone.
const TYPE: &str = "h402-artefact+jws";

/// The header of a signature by a key.
pub fn header(kid: &str) -> String {
    Json::object([("alg", Json::text("EdDSA")), ("kid", Json::text(kid)), ("typ", Json::text(TYPE))]).to_canonical()
}

/// What a key signs of an artefact.
pub fn signing_input(kid: &str, artefact: &[u8]) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header(kid)), URL_SAFE_NO_PAD.encode(artefact))
}

/// A signature as it stands beside its artefact: `header..signature`.
pub fn detached(kid: &str, signature: &[u8; 64]) -> String {
    format!("{}..{}", URL_SAFE_NO_PAD.encode(header(kid)), URL_SAFE_NO_PAD.encode(signature))
}

/// A signature that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detached {
    /// The name of the key that it says it is of.
    pub kid: String,
    /// Its bytes.
    pub signature: [u8; 64],
}

impl Detached {
    /// Reads a signature. There is one spelling of each, so that nobody can change a file and keep it valid.
    ///
    /// # Errors
    /// If it is spelled otherwise.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = |said: &str| Wrong::new(Code::SignatureFormat, said);
        let parts: Vec<_> = text.split('.').collect();
        let [head, "", signature] = parts[..] else {
            return Err(wrong("expected a detached JWS: a header, two dots, a signature, and nothing else"));
        };
        let decode = |part: &str, name: &str| {
            let said = format!("the {name} is not in base64url without padding");
            URL_SAFE_NO_PAD.decode(part).map_err(|_| wrong(&said))
        };
        let head = decode(head, "header")?;
        let stated: Option<Value> = serde_json::from_slice(&head).ok();
        let kid = stated.as_ref().and_then(|stated| stated.get("kid")).and_then(Value::as_str);
        let Some(kid) = kid.filter(|kid| header(kid).as_bytes() == head) else {
            let expected = header("…");
            return Err(wrong(&format!("the header is not {expected}, byte for byte")));
        };
        let signature = decode(signature, "signature")?;
        let signature = signature.try_into().map_err(|_| wrong("the signature is not 64 bytes long"))?;
        Ok(Self { kid: kid.to_owned(), signature })
    }

    /// Whether the key that it names is one of `keys` and signed these bytes.
    ///
    /// # Errors
    /// If it is not, or did not.
    pub fn verify(&self, artefact: &[u8], keys: &Keys) -> Result<(), Wrong> {
        let key = keys.find(&self.kid).ok_or_else(|| {
            Wrong::new(Code::UnknownKey, format!("the key {} is none of those that are believed", self.kid))
        })?;
        let said = || format!("the key {} did not sign these bytes", self.kid);
        let wrong = |_| Wrong::new(Code::Signature, said());
        let key = VerifyingKey::from_bytes(key.public()).map_err(wrong)?;
        let signature = Signature::from_bytes(&self.signature);
        // Strictly: no key of small order, which would verify the same signature over anything.
        key.verify_strict(signing_input(&self.kid, artefact).as_bytes(), &signature).map_err(wrong)
    }
}
