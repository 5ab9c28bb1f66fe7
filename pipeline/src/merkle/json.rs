//! JSON: a list of objects, or an object a line.
//!
//! Invariants: a number keeps every digit that it is written with; a key that stands twice, a nested
//! value and `true` are refused, `null` is as if the key were not there.

use std::{
    fmt,
    io::{BufRead, BufReader, Read},
};

use semel_operators::merkle::explain::Record;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Place, Take};

/// An object's keys and values, as they are written.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the fields of a leaf")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Object(pairs))
            }
        }
        from.deserialize_map(Pairs)
    }
}

impl Object<'_> {
    fn record(self) -> Result<Record, String> {
        let mut record = Record::new();
        for (key, value) in self.0 {
            let text = value.get();
            let text = match text.as_bytes().first() {
                Some(b'"') => serde_json::from_str(text).map_err(|why| why.to_string())?,
                Some(b'-' | b'0'..=b'9') => text.to_owned(),
                Some(b'n') => continue,
                _ => {
                    return Err(format!(
                        "field `{key}`: a leaf holds text and numbers, and this is neither"
                    ));
                }
            };
            if record.contains_key(&key) {
                return Err(format!("field `{key}`: it is there twice"));
            }
            record.insert(key, text);
        }
        Ok(record)
    }
}

/// Every record of a list.
pub(super) fn list(mut file: impl Read, take: &mut Take<'_>) -> Result<(), String> {
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|why| format!("it cannot be read: {why}"))?;
    let items: Vec<&RawValue> = serde_json::from_str(&text)
        .map_err(|why| format!("line {}: it is no list of objects: {why}", why.line()))?;
    let (mut line, mut counted) = (1, 0);
    for item in items {
        // Each item is a piece of the text; the lines before it are counted once.
        let at = item.get().as_ptr() as usize - text.as_ptr() as usize;
        line += text.as_bytes()[counted..at].iter().filter(|byte| **byte == b'\n').count() as u64;
        counted = at;
        one(line, item.get(), take)?;
    }
    Ok(())
}

/// Every record of a file with an object a line. Empty lines are passed over.
pub(super) fn lines(file: impl Read, take: &mut Take<'_>) -> Result<(), String> {
    for (text, line) in BufReader::new(file).lines().zip(1_u64..) {
        let text = text.map_err(|why| format!("line {line}: it cannot be read: {why}"))?;
        if !text.trim().is_empty() {
            one(line, &text, take)?;
        }
    }
    Ok(())
}

fn one(line: u64, text: &str, take: &mut Take<'_>) -> Result<(), String> {
    let object: Object<'_> = serde_json::from_str(text)
        .map_err(|why| format!("line {}: {why}", line + why.line().saturating_sub(1) as u64))?;
    let record = object.record().map_err(|why| format!("line {line}, {why}"))?;
    take(Place::Line(line), record)
}
