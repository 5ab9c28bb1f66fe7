//! Records, keys and times as people read them.
//!
//! Invariant: a line stays a line: control characters are escaped, so that what stands in a record
//! moves no cursor and ends no line.

use semel_schemas::{header, record::Record, request::CommandKind, time::WallTime};
use serde::Serialize;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    letters::LetterRow,
    trace::{StepRow, What},
};

/// Characters of a value that a line for people shows.
const VALUE_MAX: usize = 2_000;

/// A time as RFC 3339 in UTC, milliseconds included.
#[must_use]
pub fn time(at: WallTime) -> String {
    let nanos = i128::from(at.0) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    let text = time.and_then(|time| time.format(&Rfc3339).ok());
    let Some(text) = text else { return format!("{} ms", at.0) };
    // `…:05Z`, `…:05.1Z`, `…:05.123Z` → always three digits.
    let (whole, fraction) = match text.trim_end_matches('Z').split_once('.') {
        Some((whole, fraction)) => (whole.to_owned(), fraction.to_owned()),
        None => (text.trim_end_matches('Z').to_owned(), String::new()),
    };
    format!("{whole}.{fraction:0<3}Z")
}

/// Bytes as text if they are UTF-8, otherwise in hex with `0x`.
#[must_use]
pub fn bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("0x{}", hex::encode(bytes)),
    }
}

/// Bytes as JSON: JSON as it is, text as a text, anything else as `{"hex": …}`.
#[must_use]
pub fn value(bytes: &[u8]) -> Value {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return value;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": hex::encode(bytes) }),
    }
}

/// One line: time, place, type, key, value.
#[must_use]
pub fn line(record: &Record) -> String {
    let kind = record.headers.get_str(header::TYPE).unwrap_or("-");
    let key = record.key.as_deref().map_or_else(|| "-".to_owned(), bytes);
    format!(
        "{}  {}  {}  {key}  {}",
        time(WallTime(record.timestamp_ms)),
        record.origin(),
        plain(kind),
        record.value.as_deref().map_or_else(|| "null".to_owned(), short)
    )
}

/// A value on one line, cut if it is long.
fn short(value: &[u8]) -> String {
    let text = bytes(value);
    let cut: String = text.chars().take(VALUE_MAX).collect();
    if cut.len() == text.len() {
        return text;
    }
    format!("{cut}… ({} bytes)", value.len())
}

/// A text without control characters.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

/// A dead letter as a line shows it: texts without control characters, none of them long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LetterLine {
    /// When, by the log.
    pub time: String,
    /// `partition/offset` in the dead-letter topic.
    pub place: String,
    /// The stage or sink that refused.
    pub stage: String,
    /// The record's key.
    pub key: String,
    /// The fault's code.
    pub fault: String,
    /// Why, one sentence.
    pub text: String,
    /// Where the refused record stands.
    pub origin: String,
    /// The refused value.
    pub value: String,
    /// What a person decided; empty: nothing yet.
    pub decided: &'static str,
}

/// A dead letter as a line shows it.
#[must_use]
pub fn letter(row: LetterRow) -> LetterLine {
    let decided = row.decided.map_or("", |command| match command.what {
        CommandKind::Drop => "dropped",
        _ => "replayed",
    });
    let record: Record = row.record.into();
    let says = |name| cut(plain(record.headers.get_str(name).unwrap_or("-")));
    LetterLine {
        time: time(WallTime(record.timestamp_ms)),
        place: format!("{}/{}", record.partition, record.offset),
        stage: says(header::STAGE),
        key: record.key.as_deref().map_or_else(|| "-".to_owned(), short),
        fault: says(header::FAULT),
        text: says(header::FAULT_TEXT),
        origin: says(header::ORIGIN),
        value: record.value.as_deref().map_or_else(|| "null".to_owned(), short),
        decided,
    }
}

/// A step of a record's way as a line shows it: texts without control characters, none of them long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepLine {
    /// When, by the log.
    pub time: String,
    /// The stage that wrote it; empty: it came from outside.
    pub by: String,
    /// What.
    pub what: String,
}

/// A step of a record's way as a line shows it.
#[must_use]
pub fn step(step: StepRow) -> StepLine {
    let what = match step.what {
        What::Record(row) => {
            let record: Record = row.into();
            let kind = record.headers.get_str(header::TYPE).unwrap_or("-").to_owned();
            let fault = record.headers.get_str(header::FAULT_TEXT);
            let fault = fault.map_or_else(String::new, |text| format!("  refused: {text}"));
            let key = record.key.as_deref().map_or_else(|| "-".to_owned(), short);
            format!("record {}  {kind}  {key}{fault}", record.origin())
        }
        What::State { store, key, value } => {
            let done = if value.is_some() { "kept" } else { "forgotten" };
            format!("state {store}  {}  {done}", short(&key.0))
        }
        What::Row { sink, table, key, written } => {
            let done = if written { "written" } else { "waits" };
            format!("row of {table}  {}  {done} by {sink}", cut(key))
        }
    };
    StepLine {
        time: time(WallTime(step.at_ms)),
        by: plain(&step.by.unwrap_or_default()),
        what: plain(&what),
    }
}

/// A text, cut if it is long.
fn cut(text: String) -> String {
    match text.char_indices().nth(VALUE_MAX) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text,
    }
}

/// A record as one JSON object.
#[must_use]
pub fn json(record: &Record) -> Value {
    let headers: Map<String, Value> =
        record.headers.iter().map(|(name, bytes)| (name.to_owned(), text(bytes))).collect();
    json!({
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "time": time(WallTime(record.timestamp_ms)),
        "id": record.id(),
        "type": record.headers.get_str(header::TYPE),
        "key": record.key.as_deref().map(text),
        "value": record.value.as_deref().map(value),
        "headers": headers,
    })
}

/// Bytes as a JSON text, or `{"hex": …}`.
fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": hex::encode(bytes) }),
    }
}

#[cfg(test)]
mod tests {
    use semel_schemas::{
        header::Headers,
        topic::{Offset, Partition, TopicName},
    };

    use super::*;

    fn record(value: &[u8]) -> Record {
        let mut headers = Headers::new();
        headers.push(header::TYPE, "claim");
        headers.push("x", [0xff]);
        Record {
            topic: TopicName::new("p.t").unwrap(),
            partition: Partition(1),
            offset: Offset(7),
            timestamp_ms: 1_700_000_000_120,
            key: Some(b"alpha".to_vec()),
            value: Some(value.to_vec()),
            headers,
        }
    }

    #[test]
    fn a_record_is_one_line() {
        assert_eq!(
            line(&record(b"{\"a\":1}")),
            "2023-11-14T22:13:20.120Z  p.t/1/7  claim  alpha  {\"a\":1}"
        );
        assert!(line(&record(b"a\nb\x1b[2J")).ends_with("0x610a621b5b324a"));
        assert!(line(&record(&[b'x'; 5_000])).ends_with("x… (5000 bytes)"));
    }

    #[test]
    fn a_record_is_one_json_object_whatever_its_bytes_are() {
        let shown = json(&record(b"{\"a\":1}"));
        assert_eq!(shown["value"]["a"], 1);
        assert_eq!((&shown["key"], &shown["id"]), (&json!("alpha"), &json!("p.t/1/7")));
        assert_eq!(shown["headers"]["x"]["hex"], "ff");
        assert_eq!(json(&record(b"\xff"))["value"]["hex"], "ff");
        assert_eq!(json(&record(b"plain"))["value"], "plain");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "é".repeat(VALUE_MAX + 1);
        let shown = cut(text.clone());
        assert!(shown.ends_with(&format!("é… ({} bytes)", text.len())), "{shown}");
        assert_eq!(shown.chars().filter(|c| *c == 'é').count(), VALUE_MAX);
        assert_eq!(cut("é".repeat(VALUE_MAX)), "é".repeat(VALUE_MAX));
    }

    #[test]
    fn times_have_three_digits() {
        assert_eq!(time(WallTime(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(WallTime(1_005)), "1970-01-01T00:00:01.005Z");
        assert_eq!(time(WallTime(u64::MAX)), format!("{} ms", u64::MAX));
    }
}
