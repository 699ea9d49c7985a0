//! Canonical JSON, read so that nothing is passed over: not a byte, not a member.

use std::fmt;

use h402_watch_engine::amount::Amount;
use h402_watch_engine::canonical::{INTEGER_MAX, Json};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::wrong::{Code, Wrong, ensure};

/// Reads canonical JSON.
///
/// # Errors
/// If the bytes are anything else than the one spelling of what they say.
pub fn parse(bytes: &[u8]) -> Result<Json, Wrong> {
    let Strict(json) =
        serde_json::from_slice(bytes).map_err(|error| Wrong::new(Code::NotJson, format!("not read: {error}")))?;
    let spelled = json.to_canonical();
    ensure(spelled.as_bytes() == bytes, Code::NotCanonical, || {
        let same = spelled.bytes().zip(bytes).take_while(|(expected, found)| expected == *found).count();
        format!("canonical JSON is spelled otherwise from byte {same} on")
    })?;
    Ok(json)
}

/// A value without `null`, names that stand twice, and numbers other than whole ones.
struct Strict(Json);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object, a list, a text, true, false or a whole number up to {INTEGER_MAX}")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        if value > INTEGER_MAX {
            return Err(E::custom(format_args!("the number {value} is more than {INTEGER_MAX}")));
        }
        Ok(Json::Int(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(value)) = values.next_element()? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        let mut names = std::collections::BTreeSet::new();
        while let Some((name, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("the name {name:?} stands twice")));
            }
            members.push((name, value));
        }
        Ok(Json::Object(members))
    }
}

/// An object whose members are taken one by one; [`Object::end`] refuses those that are left.
pub(crate) struct Object<'a> {
    /// Where it stands, for errors.
    at: String,
    left: Vec<(&'a str, &'a Json)>,
}

impl<'a> Object<'a> {
    /// The object that a value is.
    pub fn new(json: &'a Json, at: impl Into<String>) -> Result<Self, Wrong> {
        let at = at.into();
        match json {
            Json::Object(members) => {
                let left = members.iter().map(|(name, value)| (name.as_str(), value)).collect();
                Ok(Self { at, left })
            }
            _ => Err(Wrong::new(Code::Shape, format!("{at} is no object"))),
        }
    }

    /// Takes a member, if there is one of that name.
    pub fn take(&mut self, name: &str) -> Option<&'a Json> {
        let at = self.left.iter().position(|(found, _)| *found == name)?;
        Some(self.left.remove(at).1)
    }

    fn place(&self, name: &str) -> String {
        if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) }
    }

    fn wrong<T>(&self, name: &str, expected: &str) -> Result<T, Wrong> {
        Err(Wrong::new(Code::Shape, format!("{} is not {expected}", self.place(name))))
    }

    /// The error that a member is not there.
    fn need<T>(&self, name: &str, found: Option<T>) -> Result<T, Wrong> {
        found.ok_or_else(|| Wrong::new(Code::Shape, format!("{} is missing", self.place(name))))
    }

    pub fn maybe_text(&mut self, name: &str) -> Result<Option<&'a str>, Wrong> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(_) => self.wrong(name, "a text"),
        }
    }

    pub fn text(&mut self, name: &str) -> Result<&'a str, Wrong> {
        let found = self.maybe_text(name)?;
        self.need(name, found)
    }

    /// A text that names something: it is not empty.
    pub fn maybe_name(&mut self, name: &str) -> Result<Option<&'a str>, Wrong> {
        match self.maybe_text(name)? {
            Some("") => self.wrong(name, "a text that holds something"),
            text => Ok(text),
        }
    }

    pub fn name(&mut self, name: &str) -> Result<&'a str, Wrong> {
        let found = self.maybe_name(name)?;
        self.need(name, found)
    }

    pub fn maybe_int(&mut self, name: &str) -> Result<Option<u64>, Wrong> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::Int(value)) => Ok(Some(*value)),
            Some(_) => self.wrong(name, "a number"),
        }
    }

    pub fn int(&mut self, name: &str) -> Result<u64, Wrong> {
        let found = self.maybe_int(name)?;
        self.need(name, found)
    }

    /// A number that fits 32 bits.
    pub fn small(&mut self, name: &str) -> Result<u32, Wrong> {
        let value = self.int(name)?;
        u32::try_from(value).or_else(|_| self.wrong(name, "a number below 2^32"))
    }

    pub fn amount(&mut self, name: &str) -> Result<Amount, Wrong> {
        let text = self.text(name)?;
        text.parse().or_else(|_| self.wrong(name, "an amount: digits without leading zeros, at most 2^256 - 1"))
    }

    pub fn maybe_object(&mut self, name: &str) -> Result<Option<Object<'a>>, Wrong> {
        let place = self.place(name);
        self.take(name).map(|json| Object::new(json, place)).transpose()
    }

    pub fn object(&mut self, name: &str) -> Result<Object<'a>, Wrong> {
        let found = self.maybe_object(name)?;
        self.need(name, found)
    }

    pub fn maybe_list(&mut self, name: &str) -> Result<Option<&'a [Json]>, Wrong> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::List(values)) => Ok(Some(values)),
            Some(_) => self.wrong(name, "a list"),
        }
    }

    pub fn list(&mut self, name: &str) -> Result<&'a [Json], Wrong> {
        let found = self.maybe_list(name)?;
        self.need(name, found)
    }

    /// A list of objects, if there is one.
    pub fn maybe_objects(&mut self, name: &str) -> Result<Option<Vec<Object<'a>>>, Wrong> {
        let place = self.place(name);
        let Some(list) = self.maybe_list(name)? else { return Ok(None) };
        let objects = list.iter().enumerate().map(|(n, json)| Object::new(json, format!("{place}[{n}]")));
        objects.collect::<Result<_, _>>().map(Some)
    }

    /// A list of texts.
    pub fn texts(&mut self, name: &str) -> Result<Vec<&'a str>, Wrong> {
        let list = self.list(name)?;
        let texts = list.iter().map(|json| match json {
            Json::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect::<Option<_>>().map_or_else(|| self.wrong(name, "a list of texts"), Ok)
    }

    /// What one of a few words means.
    pub fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
        let text = self.text(name)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        found.map_or_else(
            || {
                let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                self.wrong(name, &format!("one of {}", known.join(", ")))
            },
            Ok,
        )
    }

    /// Bytes in lower-case hex.
    pub fn hex(&mut self, name: &str) -> Result<Vec<u8>, Wrong> {
        let text = self.text(name)?;
        bytes(text).map_or_else(|| self.wrong(name, "in lower-case hex"), Ok)
    }

    /// A list of bytes in lower-case hex.
    pub fn hexes(&mut self, name: &str) -> Result<Vec<Vec<u8>>, Wrong> {
        let texts = self.texts(name)?;
        let all: Option<Vec<_>> = texts.into_iter().map(bytes).collect();
        all.map_or_else(|| self.wrong(name, "a list of lower-case hex"), Ok)
    }

    /// A list of bytes in lower-case hex, which is left out where it is empty.
    pub fn maybe_hexes(&mut self, name: &str) -> Result<Vec<Vec<u8>>, Wrong> {
        if !self.left.iter().any(|(found, _)| *found == name) {
            return Ok(Vec::new());
        }
        let list = self.hexes(name)?;
        if list.is_empty() { self.wrong(name, "a list that holds something") } else { Ok(list) }
    }

    /// Refuses what nothing was read from: it would stand there unchecked.
    pub fn end(self) -> Result<(), Wrong> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => {
                Err(Wrong::new(Code::UnknownMember, format!("{} is no member that this version has", self.place(name))))
            }
        }
    }
}

/// Reads lower-case hex.
pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    lower.then(|| hex::decode(text).ok()).flatten()
}
