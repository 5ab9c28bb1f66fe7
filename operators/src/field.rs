//! Fields of JSON values by path, for operators that work on any record type.
//!
//! Invariants: two values have the same text only if they are the same to a person (`5` and `"5"`
//! are); a number that JSON readers round is refused, never rounded.

use std::fmt;

use semel_schemas::{
    codec,
    fault::{Fault, FaultCode},
    time::Slot,
};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::operator::Envelope;

/// A path to a field: names (of objects) and numbers (of arrays), joined by dots.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FieldPath(String);

impl TryFrom<String> for FieldPath {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text.split('.').any(str::is_empty) {
            return Err(format!(
                "`{text}` is no field path: write names joined by dots, as in `a.b`"
            ));
        }
        Ok(Self(text))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FieldPath {
    /// The name of the object's member that the path begins with.
    fn head(&self) -> &str {
        self.0.split_once('.').map_or(self.0.as_str(), |(head, _)| head)
    }

    fn find<'v>(&self, value: &'v Value) -> Result<&'v Value, Fault> {
        self.0
            .split('.')
            .try_fold(value, |value, part| match value {
                Value::Array(items) => part.parse().ok().and_then(|i: usize| items.get(i)),
                _ => value.get(part),
            })
            .filter(|value| !value.is_null())
            .ok_or_else(|| {
                Fault::new(FaultCode::MissingField, format!("field `{self}` is missing: add it"))
            })
    }

    /// The field as text: strings, whole numbers and booleans have one.
    ///
    /// # Errors
    /// [`FaultCode::MissingField`], [`FaultCode::WrongType`].
    pub fn text(&self, value: &Value) -> Result<String, Fault> {
        match self.find(value)? {
            Value::String(text) => Ok(text.clone()),
            Value::Bool(yes) => Ok(yes.to_string()),
            Value::Number(number) if number.is_u64() || number.is_i64() => Ok(number.to_string()),
            _ => Err(Fault::new(
                FaultCode::WrongType,
                format!("field `{self}` is neither text nor a whole number of 64 bits"),
            )),
        }
    }

    /// The field as a whole number: a JSON integer or a decimal string.
    ///
    /// # Errors
    /// [`FaultCode::MissingField`], [`FaultCode::WrongType`].
    pub fn number(&self, value: &Value) -> Result<u64, Fault> {
        let field = self.find(value)?;
        let number = match field {
            Value::Number(number) => number.as_u64(),
            Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| {
            Fault::new(
                FaultCode::WrongType,
                format!("field `{self}` is no whole number from 0 to 18446744073709551615"),
            )
        })
    }

    /// The field as a slot.
    ///
    /// # Errors
    /// As [`FieldPath::number`].
    pub fn slot(&self, value: &Value) -> Result<Slot, Fault> {
        self.number(value).map(Slot)
    }
}

/// The texts of several fields, in order.
///
/// # Errors
/// As [`FieldPath::text`].
pub fn texts(paths: &[FieldPath], value: &Value) -> Result<Vec<String>, Fault> {
    paths.iter().map(|path| path.text(value)).collect()
}

/// A record's value as JSON.
///
/// # Errors
/// [`FaultCode::UnexpectedTombstone`], [`FaultCode::Undecodable`].
pub fn json(record: &Envelope) -> Result<Value, Fault> {
    codec::decode(&record.kind, bytes(record)?)
}

/// A record's value as JSON, without the members of the outermost object that none of `paths` begins
/// with: they are checked to be JSON, and not kept.
///
/// # Errors
/// As [`json`].
pub fn json_at(record: &Envelope, paths: &[&[FieldPath]]) -> Result<Value, Fault> {
    let value = bytes(record)?;
    let wanted = |name: &str| paths.iter().copied().flatten().any(|path| path.head() == name);
    // Whatever is wrong with the value, the plain way finds the words for it.
    match std::str::from_utf8(value).ok().and_then(|text| picked(text, &wanted)) {
        Some(object) => Ok(Value::Object(object)),
        None => codec::decode(&record.kind, value),
    }
}

/// The wanted members of an object; `None` if the text is no object, or no JSON.
fn picked(text: &str, wanted: &dyn Fn(&str) -> bool) -> Option<Map<String, Value>> {
    let mut json = serde_json::Deserializer::from_str(text);
    let object = json.deserialize_map(Pick(wanted)).ok()?;
    json.end().ok()?;
    Some(object)
}

/// Reads an object, and keeps what is wanted.
struct Pick<'w>(&'w dyn Fn(&str) -> bool);

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut kept = Map::new();
        while let Some(name) = members.next_key_seed(Wanted(self.0))? {
            match name {
                Some(name) => {
                    kept.insert(name, members.next_value()?);
                }
                None => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(kept)
    }
}

/// Reads a member's name, and keeps it if it is wanted.
struct Wanted<'w>(&'w dyn Fn(&str) -> bool);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Wanted<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok((self.0)(name).then(|| name.to_owned()))
    }
}

/// A record's value, which must not be a tombstone.
///
/// # Errors
/// [`FaultCode::UnexpectedTombstone`].
pub fn bytes(record: &Envelope) -> Result<&[u8], Fault> {
    record.value.as_deref().ok_or_else(|| {
        Fault::new(
            FaultCode::UnexpectedTombstone,
            format!("the value is null, and a `{}` cannot be deleted: send a value", record.kind),
        )
    })
}

/// 128 bits that stand for a list of texts in a store's key: of a cryptographic hash, so that
/// nobody can make two lists collide, over lengths and texts, so that no list passes for another.
#[must_use]
pub fn digest<T: AsRef<[u8]>>(parts: &[T]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let full: [u8; 32] = hash.finalize().into();
    let (short, _) = full.split_at(16);
    std::array::from_fn(|i| short[i])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(text: &str) -> FieldPath {
        FieldPath::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn texts_and_numbers_are_read_or_refused() {
        let value = json!({
            "a": {"b": "x"}, "n": 7, "s": "18446744073709551615", "neg": -1, "f": 1.5,
            "big": 1e30, "list": [1, {"c": true}], "none": null, "empty": "",
        });
        for (at, text, number) in [
            ("a.b", Ok("x"), Err(FaultCode::WrongType)),
            ("n", Ok("7"), Ok(7)),
            ("s", Ok("18446744073709551615"), Ok(u64::MAX)),
            ("neg", Ok("-1"), Err(FaultCode::WrongType)),
            ("f", Err(FaultCode::WrongType), Err(FaultCode::WrongType)),
            ("big", Err(FaultCode::WrongType), Err(FaultCode::WrongType)),
            ("a", Err(FaultCode::WrongType), Err(FaultCode::WrongType)),
            ("list.0", Ok("1"), Ok(1)),
            ("list.1.c", Ok("true"), Err(FaultCode::WrongType)),
            ("list.2", Err(FaultCode::MissingField), Err(FaultCode::MissingField)),
            ("none", Err(FaultCode::MissingField), Err(FaultCode::MissingField)),
            ("empty", Ok(""), Err(FaultCode::WrongType)),
            ("n.x", Err(FaultCode::MissingField), Err(FaultCode::MissingField)),
        ] {
            assert_eq!(path(at).text(&value).map_err(|f| f.code), text.map(str::to_owned), "{at}");
            assert_eq!(path(at).number(&value).map_err(|f| f.code), number, "{at}");
        }
    }

    #[test]
    fn what_is_picked_is_what_the_whole_value_holds() {
        let paths = [path("a.b"), path("n"), path("s")];
        for value in [
            r#"{"a":{"b":1},"x":[{"y":null}],"n":2}"#,
            r#"{"n":1,"n":2,"\u0061":{"b":"escaped"}}"#,
            r#" {} "#,
            r#"{"a":5,"n":1e999}"#,
            r#"[1,2]"#,
            "7",
            "",
            r#"{"n":1"#,
            r#"{"n":1} x"#,
            r#"{"x":tru}"#,
            "{\"x\":\"\u{1}\"}",
        ] {
            let record = Envelope {
                id: "i".into(),
                kind: "r".into(),
                key: vec![1],
                value: Some(value.into()),
                headers: semel_schemas::header::Headers::new(),
            };
            let (whole, part) = (json(&record), json_at(&record, &[&paths[..1], &paths[1..]]));
            match (whole, part) {
                (Ok(whole), Ok(part)) => {
                    for path in &paths {
                        assert_eq!(path.text(&whole), path.text(&part), "{path} of {value}");
                    }
                }
                (whole, part) => assert_eq!(whole, part, "{value}"),
            }
        }
    }

    #[test]
    fn paths_have_no_empty_part() {
        for bad in ["", ".", "a.", ".a", "a..b"] {
            assert!(FieldPath::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_list_passes_for_another() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_ne!(digest(&["a"]), digest(&["a", ""]));
    }
}
