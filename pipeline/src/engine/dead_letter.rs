//! Dead letters: what could not be processed, as it came, with its origin and the reason. And the
//! first look at a record: its type, version and size.
//!
//! The dead-letter topic is a record of events: the key is the original key, the value the
//! original bytes, everything else is in headers.

use semel_operators::operator::Envelope;
use semel_schemas::{
    codec,
    fault::{Fault, FaultCode},
    header::{self, Headers},
    record::{OutRecord, Record, derived_id},
    sabotage::{Sabotage, sabotaged},
    topic::Partition,
};

use super::topology::{Stage, TopicRef};
/// Bytes that a letter may have beyond the largest record that a stage takes: for our headers.
const HEADERS_MAX: usize = 40_000;
/// Bytes of a reason; some quote the input.
const TEXT_MAX: usize = 2_000;
/// Header of a letter that would be too large for the log with its value: the value's size. The
/// original record is where `semel-origin` says.
pub(crate) const OMITTED: &str = "semel-omitted-bytes";

/// Whether a record is meant for one reader of its topic, and `name` is another one.
#[must_use]
pub fn is_for_another(record: &Record, name: &str) -> bool {
    record.headers.get(header::TO).is_some_and(|to| to != name.as_bytes())
}

/// The record as the sink `name` takes it: one that is meant for another reader has neither type nor
/// value, so that it makes no row, and its offset counts all the same.
pub(in crate::engine) fn for_sink(record: Record, name: &str) -> Record {
    if is_for_another(&record, name) {
        return Record { headers: Headers::new(), value: None, ..record };
    }
    record
}

/// What an operator sees of a record.
///
/// # Errors
/// [`FaultCode::Oversized`], [`FaultCode::UnknownVersion`] or [`FaultCode::UnknownType`].
pub fn envelope(stage: &Stage, record: &Record) -> Result<Envelope, Fault> {
    let size = record.key.as_ref().map_or(0, Vec::len)
        + record.value.as_ref().map_or(0, Vec::len)
        + record.headers.size();
    if size > stage.limits.record_bytes_max {
        return Err(Fault::new(
            FaultCode::Oversized,
            format!("the record has {size} bytes; the limit is {}", stage.limits.record_bytes_max),
        ));
    }
    if !sabotaged(Sabotage::UnknownVersionTaken) {
        codec::check_version(record.headers.get_str(header::VERSION))?;
    }
    let kind = match record.headers.get(header::TYPE) {
        Some(kind) => String::from_utf8(kind.to_vec()).ok(),
        None => stage.input_type.clone(),
    };
    let Some(kind) = kind else {
        return Err(Fault::new(
            FaultCode::UnknownType,
            format!(
                "the record has no `{}` header, and topic `{}` has no type of its own",
                header::TYPE,
                stage.input.name
            ),
        ));
    };
    Ok(Envelope {
        id: record.id(),
        kind,
        key: record.key.clone().unwrap_or_default(),
        value: record.value.clone(),
        headers: carried(&record.headers),
    })
}

/// The headers that travel with a record: tracing, and those that are not ours.
fn carried(headers: &Headers) -> Headers {
    headers
        .iter()
        .filter(|(name, _)| !name.starts_with("semel-"))
        .map(|(name, value)| (name.to_owned(), value.to_vec()))
        .collect()
}

/// The dead letter of a record that `stage` refused. One that is much larger than `record_max`
/// bytes leaves its value out, and if need be its headers and key: the log would never take it,
/// and the origin says where the record is.
#[must_use]
pub fn letter(
    stage: &str,
    to: &TopicRef,
    record: &Record,
    fault: &Fault,
    record_max: usize,
) -> OutRecord {
    let mut headers = record.headers.clone();
    let origin = record.origin();
    headers.set(header::ID, derived_id(&origin, stage, 0));
    headers.set(header::CAUSE, short(&record.id()));
    headers.set(header::ORIGIN, origin.clone());
    let mut letter = OutRecord {
        topic: to.name.clone(),
        partition: Some(partition(to, record.key.as_deref())),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: reason(stage, headers, fault),
    };
    let limit = record_max.saturating_add(HEADERS_MAX);
    let size = letter.size();
    if size > limit {
        letter.value = None;
        letter.headers.set(OMITTED, size.to_string());
    }
    if letter.size() > limit {
        letter.key = None;
        let mut headers = Headers::new();
        headers.set(header::ID, derived_id(&origin, stage, 0));
        headers.set(header::ORIGIN, origin);
        headers.set(OMITTED, size.to_string());
        letter.headers = reason(stage, headers, fault);
    }
    letter
}

/// The dead letter of something that was no record.
#[must_use]
pub fn notice(stage: &Stage, at: Partition, what: &str, fault: &Fault) -> OutRecord {
    let mut headers = Headers::new();
    headers.set(header::TYPE, semel_schemas::fault::FAULT);
    headers.set(header::ORIGIN, format!("{}/{at}: {what}", stage.name));
    OutRecord {
        topic: stage.dead_letter.name.clone(),
        partition: Some(partition(&stage.dead_letter, None)),
        key: None,
        value: Some(codec::encode(&Fault::new(fault.code, short(&fault.text)))),
        headers: reason(&stage.name, headers, fault),
    }
}

fn reason(stage: &str, mut headers: Headers, fault: &Fault) -> Headers {
    headers.set(header::STAGE, stage.as_bytes());
    if sabotaged(Sabotage::LetterWithoutReason) {
        return headers;
    }
    headers.set(header::FAULT, fault.code.text());
    headers.set(header::FAULT_TEXT, short(&fault.text));
    headers
}

/// The beginning of a text.
fn short(text: &str) -> String {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn partition(to: &TopicRef, key: Option<&[u8]>) -> Partition {
    semel_schemas::partition::partition_for_key(key.unwrap_or_default(), to.partitions)
}
