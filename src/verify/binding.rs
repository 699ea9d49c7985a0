//! The hashes by which a watch is bound to what is paid for: of the quote, and of the authorisation.
//!
//! A client that states them when it makes a watch (`binding.quoteHash`, `binding.authHash`) has them in each
//! artefact, and whoever holds the quote and the authorisation can tell later that the artefact is about them. The
//! service never looks inside: what is hashed is a matter between client and auditor, and this is the one rule for
//! each protocol:
//!
//! | protocol | quote: SHA-256 of | auth: SHA-256 of |
//! |---|---|---|
//! | h402 | JCS(`paymentRequirements`) | the value of the `X-PAYMENT` header |
//! | x402 v1 | JCS(`paymentRequirements`) | JCS(`paymentPayload`) |
//! | x402 v2 | JCS(`paymentPayload.accepted`) | JCS(`paymentPayload`) |
//! | s402 | JCS(requirements) | JCS(payload) |
//!
//! JCS is RFC 8785. The objects are those that a facilitator is sent: `paymentRequirements` and `paymentPayload` of
//! `POST /verify` and `/settle` (x402: `specs/x402-specification-v1.md`, `-v2.md` §7; h402: `h402Specs.ts`, whose
//! header travels in base64 and is hashed as it travels). s402 has a recipe of its own for both at once,
//! [`tx_binding`] (ADR-007, `spec/canonicalization.md` §3.3); the two hashes are of the two texts that it joins.
//!
//! Members that are not known are hashed like any other: extensions are part of what was quoted.

mod jcs;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use h402_watch_engine::canonical::digest;

use self::jcs::{Place, Value};

/// The largest object that is read, bytes (`spec/canonicalization.md` §6 of s402; the others state none).
pub const OBJECT_MAX: usize = 256 * 1024;

/// A payment protocol of HTTP 402.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// h402, version 1.
    H402,
    /// x402, version 1.
    X402V1,
    /// x402, version 2.
    X402V2,
    /// s402.
    S402,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::H402, Self::X402V1, Self::X402V2, Self::S402];

    /// The word for it in interfaces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::H402 => "h402",
            Self::X402V1 => "x402-v1",
            Self::X402V2 => "x402-v2",
            Self::S402 => "s402",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = BadObject;

    fn from_str(word: &str) -> Result<Self, BadObject> {
        let found = Self::ALL.into_iter().find(|protocol| protocol.as_str() == word);
        found.ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|protocol| protocol.as_str()).collect();
            BadObject::new("protocol", format!("one of {}", all.join(", ")))
        })
    }
}

/// Why there is no hash of an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}")]
pub struct BadObject {
    /// The member that is wrong, by its path: `accepted.extra.fees[0]`; `input` for the whole.
    pub field: String,
    /// What it should be.
    pub expected: String,
}

impl BadObject {
    fn new(field: impl fmt::Display, expected: impl Into<String>) -> Self {
        Self { field: field.to_string(), expected: expected.into() }
    }
}

/// The hash of a quote, 64 lower-case hex digits, from the payment requirements as JSON. For x402 v2 they may also be
/// given inside of the payment payload that accepts them.
///
/// # Errors
/// If it is not JSON, or no such object, or holds what has no canonical form.
pub fn quote_hash(protocol: Protocol, json: &[u8]) -> Result<String, BadObject> {
    Ok(sha256_hex(&requirements(protocol, json)?))
}

/// The hash of an authorisation, 64 lower-case hex digits: from the payment payload as JSON; for h402 from the value
/// of the `X-PAYMENT` header, as it was sent.
///
/// # Errors
/// If it is not what the protocol sends, or holds what has no canonical form.
pub fn auth_hash(protocol: Protocol, bytes: &[u8]) -> Result<String, BadObject> {
    match protocol {
        Protocol::H402 => Ok(sha256_hex(header_value(bytes)?)),
        Protocol::X402V1 | Protocol::X402V2 | Protocol::S402 => Ok(sha256_hex(&payload(protocol, bytes)?)),
    }
}

/// s402's own binding of a request: `sha256-` and base64url of the SHA-256 of `"s402-txbinding-v1\0"`,
/// JCS(requirements), `0x1E`, JCS(payload). The separator occurs in no canonical JSON, so that the two can't be
/// divided otherwise.
///
/// # Errors
/// As [`quote_hash`] and [`auth_hash`].
pub fn tx_binding(requirements_json: &[u8], payload_json: &[u8]) -> Result<String, BadObject> {
    let quoted = requirements(Protocol::S402, requirements_json)?;
    let paid = payload(Protocol::S402, payload_json)?;
    let joined = [&b"s402-txbinding-v1\0"[..], &quoted, b"\x1e", &paid].concat();
    Ok(format!("sha256-{}", URL_SAFE_NO_PAD.encode(digest(&joined))))
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest(bytes))
}

/// What a member must be, enough to tell the object from another one.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    Object,
    /// h402 writes amounts as numbers, and such as JavaScript's numbers can't hold as digits.
    Amount,
    Version(f64),
}

impl Shape {
    fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text | Self::Amount, Value::Text(_))
            | (Self::Object, Value::Object(_))
            | (Self::Amount, Value::Number(_)) => true,
            (Self::Version(wanted), Value::Number(number)) => wanted.total_cmp(number).is_eq(),
            _ => false,
        }
    }

    fn expected(self) -> String {
        match self {
            Self::Text => "a text".into(),
            Self::Object => "an object".into(),
            Self::Amount => "a number, or digits as text".into(),
            Self::Version(version) => format!("{version}"),
        }
    }
}

type Members = &'static [(&'static str, Shape)];

/// What payment requirements always have.
fn requirements_of(protocol: Protocol) -> Members {
    use Shape::{Amount, Text};
    match protocol {
        Protocol::H402 => &[
            ("namespace", Text),
            ("networkId", Text),
            ("scheme", Text),
            ("payToAddress", Text),
            ("amountRequired", Amount),
        ],
        Protocol::X402V1 => {
            &[("scheme", Text), ("network", Text), ("maxAmountRequired", Text), ("asset", Text), ("payTo", Text)]
        }
        Protocol::X402V2 => &[("scheme", Text), ("network", Text), ("amount", Text), ("asset", Text), ("payTo", Text)],
        // Its first wire version lists schemes, its second names one.
        Protocol::S402 => &[("network", Text), ("amount", Text), ("asset", Text), ("payTo", Text)],
    }
}

/// What a payment payload always has.
fn payload_of(protocol: Protocol) -> Members {
    use Shape::{Object, Text, Version};
    match protocol {
        Protocol::X402V1 => &[("x402Version", Version(1.0)), ("scheme", Text), ("network", Text), ("payload", Object)],
        Protocol::X402V2 => &[("x402Version", Version(2.0)), ("accepted", Object), ("payload", Object)],
        Protocol::H402 | Protocol::S402 => &[("scheme", Text), ("payload", Object)],
    }
}

/// The canonical form of payment requirements.
fn requirements(protocol: Protocol, json: &[u8]) -> Result<Vec<u8>, BadObject> {
    let whole = read(json)?;
    let at = Place::Whole;
    if let (Protocol::X402V2, Some(accepted)) = (protocol, whole.member("accepted")) {
        check(&whole, payload_of(protocol), &at)?;
        return canonical_requirements(protocol, accepted, &Place::Member(&at, "accepted"));
    }
    canonical_requirements(protocol, &whole, &at)
}

fn canonical_requirements(protocol: Protocol, value: &Value, at: &Place<'_>) -> Result<Vec<u8>, BadObject> {
    // What a 402 response carries is a list to choose from. s402 has schemes there, in the requirements themselves.
    if protocol != Protocol::S402 && value.member("accepts").is_some() {
        let expected = "nothing: the requirements that were chosen are hashed, one entry of this list";
        return Err(BadObject::new(Place::Member(at, "accepts"), expected));
    }
    check(value, requirements_of(protocol), at)?;
    value.to_canonical()
}

/// The canonical form of a payment payload.
fn payload(protocol: Protocol, json: &[u8]) -> Result<Vec<u8>, BadObject> {
    let whole = read(json)?;
    check(&whole, payload_of(protocol), &Place::Whole)?;
    whole.to_canonical()
}

fn read(json: &[u8]) -> Result<Value, BadObject> {
    check_size(json)?;
    let value = jcs::read(json)?;
    match value {
        Value::Object(_) => Ok(value),
        _ => Err(BadObject::new(Place::Whole, "a JSON object")),
    }
}

fn check(value: &Value, members: Members, at: &Place<'_>) -> Result<(), BadObject> {
    let wrong = members.iter().find(|(name, shape)| !value.member(name).is_some_and(|member| shape.fits(member)));
    match wrong {
        Some((name, shape)) => Err(BadObject::new(Place::Member(at, name), shape.expected())),
        None => Ok(()),
    }
}

fn check_size(bytes: &[u8]) -> Result<(), BadObject> {
    if bytes.len() > OBJECT_MAX {
        return Err(BadObject::new(Place::Whole, format!("at most {OBJECT_MAX} bytes")));
    }
    Ok(())
}

/// The value of a header field: white space around it is no part of it (RFC 9110 §5.5), least of all the newline of a
/// file.
fn header_value(bytes: &[u8]) -> Result<&[u8], BadObject> {
    check_size(bytes)?;
    let value = bytes.trim_ascii();
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte);
    if value.is_empty() || !value.iter().all(is_base64) {
        return Err(BadObject::new(Place::Whole, "the value of the X-PAYMENT header, base64 as it was sent"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTORS: &str = include_str!("../../proto/artefacts/vectors/binding.json");

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Vector {
        name: String,
        protocol: String,
        what: String,
        input: String,
        payload: Option<String>,
        hash: Option<String>,
        error: Option<String>,
    }

    fn hash(vector: &Vector) -> Result<String, BadObject> {
        let protocol: Protocol = vector.protocol.parse()?;
        let input = vector.input.as_bytes();
        match (vector.what.as_str(), &vector.payload) {
            ("quote", None) => quote_hash(protocol, input),
            ("auth", None) => auth_hash(protocol, input),
            ("txBinding", Some(payload)) => tx_binding(input, payload.as_bytes()),
            (what, _) => panic!("{}: no such hash as {what}", vector.name),
        }
    }

    #[test]
    fn the_published_vectors() {
        let vectors: Vec<Vector> = serde_json::from_str(VECTORS).expect("a list of vectors");
        for vector in &vectors {
            match (hash(vector), &vector.hash, &vector.error) {
                (Ok(hash), Some(expected), None) => assert_eq!(hash, *expected, "{}", vector.name),
                (Err(error), None, Some(expected)) => assert_eq!(error.field, *expected, "{}: {error}", vector.name),
                (is, ..) => panic!("{}: {is:?}", vector.name),
            }
        }
        assert!(vectors.len() > 30, "they are there");
    }

    #[test]
    fn protocols_are_read_from_their_words() {
        for protocol in Protocol::ALL {
            assert_eq!(protocol.as_str().parse(), Ok(protocol));
        }
        let error = "x402".parse::<Protocol>().expect_err("of which version?").to_string();
        assert_eq!(error, "protocol: expected one of h402, x402-v1, x402-v2, s402");
    }

    #[test]
    fn the_newline_of_a_file_is_no_part_of_a_header() {
        let bare = auth_hash(Protocol::H402, b"eyJoNDAyVmVyc2lvbiI6MX0=");
        assert!(bare.is_ok());
        assert_eq!(auth_hash(Protocol::H402, b" eyJoNDAyVmVyc2lvbiI6MX0=\r\n"), bare);
    }

    #[test]
    fn what_is_too_large_is_refused_unread() {
        let large = vec![b' '; OBJECT_MAX + 1];
        for protocol in Protocol::ALL {
            let error = auth_hash(protocol, &large).expect_err("too large");
            assert_eq!(error.to_string(), "input: expected at most 262144 bytes");
            assert_eq!(quote_hash(protocol, &large), Err(error));
        }
    }

    #[test]
    fn errors_say_what_is_expected() {
        let cases: [(&[u8], &str); 5] = [
            (b"[]", "input: expected a JSON object"),
            (
                br#"{"accepts":[]}"#,
                "accepts: expected nothing: the requirements that were chosen are hashed, one entry of this list",
            ),
            (br#"{"scheme":"exact"}"#, "network: expected a text"),
            (br#"{"accepted":{},"payload":{},"x402Version":1}"#, "x402Version: expected 2"),
            (br#"{"accepted":{"scheme":7},"payload":{},"x402Version":2}"#, "accepted.scheme: expected a text"),
        ];
        for (json, expected) in cases {
            assert_eq!(quote_hash(Protocol::X402V2, json).expect_err(expected).to_string(), expected);
        }
    }
}
