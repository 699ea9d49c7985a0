//! JSON as it arrives, and its canonical form (RFC 8785, JCS).
//!
//! Reading is strict where parsers differ, since what two of them read differently has two hashes: a member that
//! occurs twice, half a surrogate pair, an integer that a double can't hold are refused, each by name. `serde_json` on
//! its own keeps the last of two members, and reads integers up to 2^64 exactly, which JCS then rounds in silence.
//!
//! Writing is `serde_json_canonicalizer`'s. It and `serde_jcs` 0.2.0 were held against the `rfc8785` package of PyPI
//! on 240,000 values: the samples of RFC 8785 appendix B, random bit patterns, short and long decimals, names and
//! texts from all planes. All three agree. The two crates print an integer beyond 2^53 as the nearest double, where
//! `rfc8785` refuses it; and of one name twice, where a serializer gives it so, `serde_json_canonicalizer` makes an
//! error and `serde_jcs` keeps the last. The former was taken for that, and for the newer `ryu-js`.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::BadObject;

/// How deep lists and objects may be nested.
const DEPTH_MAX: usize = 64;

/// A JSON value. Numbers are doubles, as they are for JCS.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Value>),
    /// Each name once.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// The member of an object.
    pub(super) fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// Its one spelling.
    pub(super) fn to_canonical(&self) -> Result<Vec<u8>, BadObject> {
        serde_json_canonicalizer::to_vec(self)
            .map_err(|error| BadObject::new(Place::Whole, format!("I-JSON ({error})")))
    }
}

/// As a serializer of JCS wants it: numbers as doubles, whatever other crates have made of `serde_json`'s own.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => serializer.serialize_f64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                values.iter().try_for_each(|value| list.serialize_element(value))?;
                list.end()
            }
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                members.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
                map.end()
            }
        }
    }
}

/// Where a value stands, for errors.
pub(super) enum Place<'a> {
    Whole,
    Member(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match self {
            Self::Whole => f.write_str("input"),
            Self::Member(Self::Whole, name) if is_plain(name) => f.write_str(name),
            Self::Member(of, name) if is_plain(name) => write!(f, "{of}.{name}"),
            Self::Member(of, name) => write!(f, "{of}[{name:?}]"),
            Self::Item(of, index) => write!(f, "{of}[{index}]"),
        }
    }
}

/// Reads one JSON value and nothing after it.
pub(super) fn read(json: &[u8]) -> Result<Value, BadObject> {
    let text = std::str::from_utf8(json).map_err(|_| BadObject::new(Place::Whole, "UTF-8"))?;
    let whole: &RawValue = serde_json::from_str(text).map_err(|error| not_json(&Place::Whole, &error))?;
    value(whole.get(), &Place::Whole, DEPTH_MAX)
}

fn not_json(at: &Place<'_>, error: &serde_json::Error) -> BadObject {
    BadObject::new(at, format!("JSON ({error})"))
}

/// A value of which only the grammar was checked: its texts and numbers are read here, where it is known whose they
/// are.
fn value(text: &str, at: &Place<'_>, room: usize) -> Result<Value, BadObject> {
    match text.bytes().next() {
        Some(b'{' | b'[') if room == 0 => Err(BadObject::new(at, format!("at most {DEPTH_MAX} levels of nesting"))),
        Some(b'{') => object(text, at, room - 1),
        Some(b'[') => list(text, at, room - 1),
        Some(b'"') => {
            let expected = |_| BadObject::new(at, "a text without halves of surrogate pairs");
            serde_json::from_str(text).map(Value::Text).map_err(expected)
        }
        Some(b't') => Ok(Value::Bool(true)),
        Some(b'f') => Ok(Value::Bool(false)),
        Some(b'n') => Ok(Value::Null),
        _ => number(text, at).map(Value::Number),
    }
}

fn object(text: &str, at: &Place<'_>, room: usize) -> Result<Value, BadObject> {
    let Members(members) = serde_json::from_str(text).map_err(|error| not_json(at, &error))?;
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(BadObject::new(Place::Member(at, twice[0]), "once"));
    }
    let mut read = Vec::with_capacity(members.len());
    for (name, raw) in members {
        let member = value(raw.get(), &Place::Member(at, &name), room)?;
        read.push((name, member));
    }
    Ok(Value::Object(read))
}

fn list(text: &str, at: &Place<'_>, room: usize) -> Result<Value, BadObject> {
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| not_json(at, &error))?;
    let item = |(i, raw): (usize, &&RawValue)| value(raw.get(), &Place::Item(at, i), room);
    items.iter().enumerate().map(item).collect::<Result<_, _>>().map(Value::List)
}

/// Decimals are rounded to the nearest double, as JavaScript and JCS have it: nobody counts on their last digits. An
/// integer is an amount or an identifier, and must be held exactly.
fn number(text: &str, at: &Place<'_>) -> Result<f64, BadObject> {
    let read = text.parse::<f64>().ok().filter(|number| number.is_finite());
    let number = read.ok_or_else(|| BadObject::new(at, "a number in the range of a double"))?;
    let is_integer = !text.contains(['.', 'e', 'E']);
    if is_integer && format!("{number:.0}") != text {
        let expected = "an integer that a double holds exactly, as all do up to 2^53; larger ones as text";
        return Err(BadObject::new(at, expected));
    }
    Ok(number)
}

/// The members of an object as they stand, repetitions included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AsTheyStand).map(Self)
    }
}

struct AsTheyStand;

impl<'de> Visitor<'de> for AsTheyStand {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(json: &str) -> Result<String, String> {
        let canonical =
            read(json.as_bytes()).and_then(|value| value.to_canonical()).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(canonical).expect("UTF-8"))
    }

    /// RFC 8785, appendix B, and the integers around 2^53 and 2^60 that it leaves out.
    const NUMBERS: [(u64, &str); 26] = [
        (0x0000_0000_0000_0000, "0"),
        (0x8000_0000_0000_0000, "0"),
        (0x0000_0000_0000_0001, "5e-324"),
        (0x8000_0000_0000_0001, "-5e-324"),
        (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
        (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
        (0x4340_0000_0000_0000, "9007199254740992"),
        (0xc340_0000_0000_0000, "-9007199254740992"),
        (0x4430_0000_0000_0000, "295147905179352830000"),
        (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
        (0x44b5_2d02_c7e1_4af6, "1e+23"),
        (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
        (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
        (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
        (0x444b_1ae4_d6e2_ef50, "1e+21"),
        (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
        (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
        (0x41b3_de43_5555_5553, "333333333.3333332"),
        (0x41b3_de43_5555_5554, "333333333.33333325"),
        (0x41b3_de43_5555_5555, "333333333.3333333"),
        (0x41b3_de43_5555_5556, "333333333.3333334"),
        (0x41b3_de43_5555_5557, "333333333.33333343"),
        (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
        (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        (0x433f_ffff_ffff_ffff, "9007199254740991"),
        (0x43b0_0000_0000_0000, "1152921504606847000"),
    ];

    #[test]
    fn numbers_are_those_of_rfc_8785_appendix_b() {
        for (bits, expected) in NUMBERS {
            let number = f64::from_bits(bits);
            assert_eq!(canonical(&format!("{number:e}")).as_deref(), Ok(expected), "from {number:e}");
        }
    }

    #[test]
    fn an_integer_that_a_double_cannot_hold_is_refused_by_name() {
        for held in ["9007199254740993", "-9007199254740993", "18446744073709551615", "100000000000000000001"] {
            let error = canonical(&format!(r#"{{"extra":{{"fees":[1,{held}]}}}}"#)).expect_err(held);
            assert!(error.starts_with("extra.fees[1]: expected an integer that a double holds exactly"), "{error}");
        }
        // 2^53 + 2, 2^60, 2^64, 10^20: exact, and written as RFC 8785 writes doubles.
        let exact = "[9007199254740994,1152921504606846976,18446744073709551616,100000000000000000000,-0,7]";
        let written = "[9007199254740994,1152921504606847000,18446744073709552000,100000000000000000000,0,7]";
        assert_eq!(canonical(exact).as_deref(), Ok(written));
        assert!(canonical("[1e400]").is_err_and(|error| error.starts_with("input[0]: expected a number in the range")));
    }

    #[test]
    fn the_example_of_rfc_8785() {
        let given = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let expected = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
                        \"string\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(canonical(given).as_deref(), Ok(expected));
    }

    #[test]
    fn members_are_sorted_by_utf16_code_units() {
        // RFC 8785 §3.2.3, and the same names spelled as escapes.
        let given = "{\"\u{20ac}\":1,\"\\r\":2,\"\u{fb33}\":3,\"1\":4,\"\u{1f600}\":5,\"\u{80}\":6,\"\u{f6}\":7}";
        let expected = "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}";
        assert_eq!(canonical(given).as_deref(), Ok(expected));
        let escaped = r#"{"\u20ac":1,"\u000d":2,"\ufb33":3,"\u0031":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#;
        assert_eq!(canonical(escaped).as_deref(), Ok(expected));
    }

    #[test]
    fn only_what_json_demands_is_escaped() {
        let given = r#"["\b\t\n\f\r\u001f\u007f\u2028\u2029\u0000\/\"\\"]"#;
        let expected = "[\"\\b\\t\\n\\f\\r\\u001f\u{7f}\u{2028}\u{2029}\\u0000/\\\"\\\\\"]";
        assert_eq!(canonical(given).as_deref(), Ok(expected));
    }

    #[test]
    fn what_parsers_read_differently_is_refused_by_name() {
        let cases = [
            (r#"{"a":1,"a":1}"#, "a: expected once"),
            (r#"{"b":[{"a":1,"\u0061":2}]}"#, "b[0].a: expected once"),
            (r#"{"b":{"x.y":1,"x.y":2}}"#, r#"b["x.y"]: expected once"#),
            (r#"{"b":["\ud800"]}"#, "b[0]: expected a text without halves of surrogate pairs"),
            (r#"{"\ud800":1}"#, "input: expected JSON (unexpected end of hex escape at line 1 column 9)"),
            ("\u{feff}{}", "input: expected JSON (expected value at line 1 column 1)"),
            ("{} {}", "input: expected JSON (trailing characters at line 1 column 4)"),
            ("[01]", "input: expected JSON (invalid number at line 1 column 3)"),
            ("[NaN]", "input: expected JSON (expected value at line 1 column 2)"),
            ("", "input: expected JSON (EOF while parsing a value at line 1 column 0)"),
        ];
        for (given, expected) in cases {
            assert_eq!(canonical(given).expect_err(expected), expected);
        }
        assert_eq!(read(b"\"\xff\"").expect_err("bytes").to_string(), "input: expected UTF-8");
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(canonical(&nested(DEPTH_MAX)).is_ok());
        let error = canonical(&nested(DEPTH_MAX + 1)).expect_err("too deep");
        assert!(error.ends_with("expected at most 64 levels of nesting"), "{error}");
        assert!(canonical(&nested(100_000)).is_err(), "without a stack overflow");
    }
}
