//! Canonical JSON (RFC 8785) and its digest.
//!
//! Artefacts hold objects, arrays, strings, whole numbers up to 2^53 − 1, `true`, `false` and `null`; no floats, so that
//! the number rules of RFC 8785 §3.2.2.3 come down to decimal digits.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The largest whole number that JSON carries safely between implementations (RFC 7493 §2.2).
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A whole number; more than [`INTEGER_MAX`] is written as that.
    Int(u64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object, in any order and with each name once.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// A string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// An object of those members that are not [`Json::Null`].
    pub fn object<const N: usize>(members: [(&str, Json); N]) -> Self {
        let present = members.into_iter().filter(|(_, value)| *value != Self::Null);
        Self::Object(present.map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// A string, or [`Json::Null`].
    pub fn maybe<T: ToString>(text: Option<T>) -> Self {
        text.map_or(Self::Null, |text| Self::Text(text.to_string()))
    }

    /// The one spelling of this value.
    pub fn to_canonical(&self) -> String {
        let mut out = String::with_capacity(1024);
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => {
                let _ = write!(out, "{}", value.min(&INTEGER_MAX));
            }
            Self::Text(text) => write_text(text, out),
            Self::List(values) => {
                out.push('[');
                for (i, value) in values.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    value.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => write_object(members, out),
        }
    }
}

/// Members sorted by the UTF-16 code units of their names (RFC 8785 §3.2.3).
fn write_object(members: &[(String, Json)], out: &mut String) {
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    out.push('{');
    for (i, (name, value)) in sorted.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_text(name, out);
        out.push(':');
        value.write(out);
    }
    out.push('}');
}

/// Only what JSON demands is escaped, in the short form where there is one (RFC 8785 §3.2.2.2).
fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// SHA-256.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_sorted_by_utf16_code_units() {
        // RFC 8785 §3.2.3: U+1F600 is a surrogate pair that begins with D83D and so comes before U+FB33.
        let value = Json::Object(vec![
            ("\u{fb33}".into(), Json::Int(1)),
            ("\u{1f600}".into(), Json::Int(2)),
            ("\r".into(), Json::Int(3)),
            ("1".into(), Json::Int(4)),
        ]);
        assert_eq!(value.to_canonical(), "{\"\\r\":3,\"1\":4,\"\u{1f600}\":2,\"\u{fb33}\":1}");
    }

    #[test]
    fn strings_are_escaped_as_rfc_8785_says() {
        let text = Json::text("\u{20ac}$\u{f}\u{a}A'\u{42}\u{22}\u{5c}\\\"/\u{7f}");
        assert_eq!(text.to_canonical(), "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\u{7f}\"");
    }
}
