//! What differs between what a case expects and what is there, for people.
//!
//! Pure functions of JSON. Invariant: what is not named is not compared.

use semel_schemas::{header, record::Record};
use serde_json::{Map, Value, json};

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
}
