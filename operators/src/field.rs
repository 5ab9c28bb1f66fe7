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
use serde::Deserialize;
use serde_json::Value;
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
