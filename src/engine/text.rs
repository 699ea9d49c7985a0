//! Texts as they stand in records: most are digits of bytes, and take half the room as those bytes.
//!
//! Only the room differs: each text is packed in one way, and unpacked to what it was, whatever it means.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serializer, de};

/// How a text is packed: the first byte.
mod form {
    /// As it is.
    pub(super) const VERBATIM: u8 = 0;
    /// `0123…`, the digits of whole bytes in lower case.
    pub(super) const HEX: u8 = 1;
    /// `0x0123…`, the same.
    pub(super) const PREFIXED: u8 = 2;
    /// `0x0aB1…`: the bytes, then a bit for each digit, set where it is in upper case. Of a multiple of four bytes, so that the
    /// length tells how many are which.
    pub(super) const MIXED: u8 = 3;
    /// Base58 of 32 bytes.
    pub(super) const BASE58_32: u8 = 4;
    /// Base58 of 64 bytes.
    pub(super) const BASE58_64: u8 = 5;
    /// `w0123…`, as a watch is named.
    pub(super) const NAME: u8 = 6;
}

/// A text in the fewest bytes.
pub(crate) fn pack(text: &str) -> Vec<u8> {
    let packed = |form: u8, payload: &[u8]| [&[form], payload].concat();
    let lower = |digits: &str| if is_lower(digits) { hex::decode(digits).ok() } else { None };
    if let Some(digits) = text.strip_prefix("0x") {
        if let Some(bytes) = lower(digits) {
            return packed(form::PREFIXED, &bytes);
        }
        if let Some(bytes) = pack_mixed(digits) {
            return packed(form::MIXED, &bytes);
        }
    } else if let Some(bytes) = text.strip_prefix('w').and_then(lower) {
        return packed(form::NAME, &bytes);
    } else if let Some(bytes) = lower(text) {
        return packed(form::HEX, &bytes);
    } else if (32..=44).contains(&text.len()) {
        let mut bytes = [0; 32];
        if five8::decode_32(text, &mut bytes).is_ok() {
            return packed(form::BASE58_32, &bytes);
        }
    } else if (64..=88).contains(&text.len()) {
        let mut bytes = [0; 64];
        if five8::decode_64(text, &mut bytes).is_ok() {
            return packed(form::BASE58_64, &bytes);
        }
    }
    packed(form::VERBATIM, text.as_bytes())
}

/// What was packed; `None` if nothing was.
pub(crate) fn unpack(packed: &[u8]) -> Option<String> {
    let (&form, payload) = packed.split_first()?;
    match form {
        form::VERBATIM => std::str::from_utf8(payload).ok().map(str::to_owned),
        form::HEX => Some(hex::encode(payload)),
        form::PREFIXED => Some(format!("0x{}", hex::encode(payload))),
        form::NAME => Some(format!("w{}", hex::encode(payload))),
        form::MIXED => unpack_mixed(payload),
        form::BASE58_32 => {
            let mut text = [0; 44];
            let len = five8::encode_32(payload.try_into().ok()?, &mut text);
            std::str::from_utf8(text.get(..len.into())?).ok().map(str::to_owned)
        }
        form::BASE58_64 => {
            let mut text = [0; 88];
            let len = five8::encode_64(payload.try_into().ok()?, &mut text);
            std::str::from_utf8(text.get(..len.into())?).ok().map(str::to_owned)
        }
        _ => None,
    }
}

fn is_lower(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn pack_mixed(digits: &str) -> Option<Vec<u8>> {
    // It would take another `0x` for none.
    let fits =
        !digits.is_empty() && digits.len().is_multiple_of(8) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut packed = hex::decode(digits).ok().filter(|_| fits)?;
    for eight in digits.as_bytes().chunks(8) {
        packed.push(eight.iter().fold(0, |bits, digit| bits << 1 | u8::from(digit.is_ascii_uppercase())));
    }
    Some(packed)
}

fn unpack_mixed(payload: &[u8]) -> Option<String> {
    // Four bytes are eight digits, whose bits are one byte.
    let (bytes, bits) = payload.split_at_checked(payload.len() / 5 * 4)?;
    let mut digits = hex::encode(bytes).into_bytes();
    for (eight, bits) in digits.chunks_mut(8).zip(bits) {
        for (at, digit) in (0..8).rev().zip(eight) {
            if bits >> at & 1 == 1 {
                digit.make_ascii_uppercase();
            }
        }
    }
    String::from_utf8(digits).ok().map(|digits| format!("0x{digits}"))
}

/// Writes a text: as it is for people, packed otherwise.
///
/// # Errors
/// The serializer's.
pub(crate) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(text)
    } else {
        serializer.serialize_bytes(&pack(text))
    }
}

/// Reads a text that [`serialize`] wrote.
///
/// # Errors
/// If it did not.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    if deserializer.is_human_readable() {
        return String::deserialize(deserializer);
    }
    unpack(&bytes(deserializer)?).ok_or_else(|| de::Error::custom("a text that was not packed"))
}

/// Reads bytes, without a copy where they stand in the input.
///
/// # Errors
/// If there are none.
pub(crate) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, [u8]>, D::Error> {
    deserializer.deserialize_bytes(BytesVisitor)
}

struct BytesVisitor;

impl<'de> de::Visitor<'de> for BytesVisitor {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bytes")
    }

    fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes.to_vec()))
    }
}

/// For fields that are an `Option<String>`.
pub(crate) mod maybe {
    use serde::{Deserialize as _, Deserializer, Serialize, Serializer};

    struct Packed<'a>(&'a str);

    impl Serialize for Packed<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            super::serialize(self.0, serializer)
        }
    }

    struct Unpacked(String);

    impl<'de> serde::Deserialize<'de> for Unpacked {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            super::deserialize(deserializer).map(Self)
        }
    }

    pub(crate) fn serialize<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
        text.as_deref().map(Packed).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
        Ok(Option::<Unpacked>::deserialize(deserializer)?.map(|Unpacked(text)| text))
    }
}
