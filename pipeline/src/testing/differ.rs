//! What differs between what a case expects and what is there, for people.
//!
//! Pure functions of JSON. Invariant: what is not named is not compared, and is not shown where it
//! would only hide what differs.

use semel_schemas::{header, record::Record};
use serde_json::{Map, Value, json};
use similar::TextDiff;

/// Equal lines around what differs.
const CONTEXT: usize = 3;

/// A record as a case names its parts.
pub(super) fn record_json(record: &Record) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let bytes = record.value.as_deref();
    let value = bytes.map(|b| serde_json::from_slice(b).unwrap_or_else(|_| text(b).into()));
    let mut shown = Map::new();
    shown.insert("key".to_owned(), record.key.as_deref().map(text).into());
    for (name, from) in [("type", header::TYPE), ("fault", header::FAULT), ("stage", header::STAGE)]
    {
        if let Some(value) = record.headers.get_str(from) {
            shown.insert(name.to_owned(), value.into());
        }
    }
    shown.insert("value".to_owned(), value.unwrap_or(Value::Null));
    if let Some(why) = record.headers.get_str(header::FAULT_TEXT) {
        shown.insert("why".to_owned(), why.into());
    }
    Value::Object(shown)
}

/// Adds a line for each part of `want` that `have` has otherwise.
pub(super) fn differs(path: &str, want: &Value, have: &Value, faults: &mut Vec<String>) {
    match (want, have) {
        (Value::Object(want), Value::Object(_)) => {
            for (name, value) in want {
                let have = have.get(name).unwrap_or(&Value::Null);
                differs(&format!("{path}: {name}"), value, have, faults);
            }
        }
        (Value::Array(want), Value::Array(have)) if want.len() == have.len() => {
            for (index, (want, have)) in want.iter().zip(have).enumerate() {
                differs(&format!("{path}[{index}]"), want, have, faults);
            }
        }
        (want, have) if want == have => {}
        (want, have) => faults.push(format!("{path}: expected {want}, found {have}")),
    }
}

/// Everything that differs between two lists, in order: one sentence for each part, and the lists
/// side by side as a unified diff; `None`: nothing.
pub(super) fn difference(what: &str, want: &[Value], have: &[Value]) -> Option<String> {
    let mut faults = Vec::new();
    for (index, (want, have)) in want.iter().zip(have).enumerate() {
        differs(&format!("{what}, {}", index + 1), want, have, &mut faults);
    }
    if want.len() != have.len() {
        faults.push(format!("{what}: expected {}, found {}", want.len(), have.len()));
    }
    if faults.is_empty() {
        return None;
    }
    let shown: Vec<Value> =
        have.iter().enumerate().map(|(at, have)| beside(want, at, have)).collect();
    let (want, have) = (pretty(want), pretty(&shown));
    let diff = TextDiff::from_lines(&want, &have);
    let mut unified = diff.unified_diff();
    let unified = unified.context_radius(CONTEXT).header("expected", "found");
    Some(format!("{}\n{unified}", faults.join("\n")))
}

/// What is there, cut to what is named of the value that it equals, or else of the one in its
/// place.
fn beside(want: &[Value], at: usize, have: &Value) -> Value {
    let equal = want.iter().find(|want| {
        let mut faults = Vec::new();
        differs("", want, have, &mut faults);
        faults.is_empty()
    });
    match (equal, want.get(at)) {
        (Some(equal), _) => equal.clone(),
        (None, Some(want)) => named(want, have),
        (None, None) => have.clone(),
    }
}

fn named(want: &Value, have: &Value) -> Value {
    match (want, have) {
        (Value::Object(want), Value::Object(have)) => {
            let both = want.iter().filter_map(|(name, want)| {
                have.get(name).map(|have| (name.clone(), named(want, have)))
            });
            // Why a record is a dead letter is worth a line that nobody asked for.
            let why = have.get("why").map(|why| ("why".to_owned(), why.clone()));
            Value::Object(both.chain(why).collect())
        }
        (Value::Array(want), Value::Array(have)) if want.len() == have.len() => {
            want.iter().zip(have).map(|(want, have)| named(want, have)).collect()
        }
        _ => have.clone(),
    }
}

fn pretty(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value:#}\n")).collect()
}

/// Values, one a line.
pub(super) fn listed(values: &[Value]) -> String {
    if values.is_empty() {
        return "  nothing".to_owned();
    }
    let lines: Vec<String> = values.iter().map(|value| format!("  {}", json!(value))).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_compared_and_the_rest_is_not() {
        let have = json!({"key": "a", "value": {"n": 1, "list": [1, 2], "more": true}});
        let cases = [
            (json!({"key": "a"}), vec![]),
            (json!({"value": {"n": 1, "list": [1, 2]}}), vec![]),
            (json!({"key": "b"}), vec!["x: key: expected \"b\", found \"a\""]),
            (json!({"value": {"n": 2}}), vec!["x: value: n: expected 2, found 1"]),
            (json!({"value": {"list": [1, 3]}}), vec!["x: value: list[1]: expected 3, found 2"]),
            (json!({"value": {"list": [1]}}), vec!["x: value: list: expected [1], found [1,2]"]),
            (json!({"fault": "SEM-0001"}), vec!["x: fault: expected \"SEM-0001\", found null"]),
        ];
        for (want, lines) in cases {
            let mut faults = Vec::new();
            differs("x", &want, &have, &mut faults);
            assert_eq!(faults, lines, "{want}");
        }
    }

    #[test]
    fn a_difference_shows_both_sides_and_only_what_is_named() {
        let want = [json!({"key": "a"}), json!({"key": "b", "value": {"n": 1}})];
        let have = [
            json!({"key": "x", "value": {"n": 7}, "why": "too old"}),
            json!({"key": "a", "value": {"n": 7}}),
            json!({"key": "b", "value": {"n": 1, "m": 2}}),
        ];
        assert_eq!(difference("t", &want, &have[1..]), None);
        let text = difference("t", &want, &have).unwrap();
        assert!(text.starts_with("t, 1: key: expected \"a\", found \"x\"\n"), "{text}");
        assert!(text.contains("t: expected 2, found 3\n--- expected\n+++ found\n"), "{text}");
        let changed: Vec<&str> = text.lines().filter(|line| line.starts_with('+')).collect();
        for line in ["+  \"key\": \"x\",", "+  \"why\": \"too old\""] {
            assert!(changed.contains(&line), "{text}");
        }
        assert_eq!(changed.len(), 5, "{text}");
        assert!(!text.contains("\"m\""), "{text}");
    }
}
