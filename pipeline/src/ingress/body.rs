//! What a request says: one record or many, as JSON.
//!
//! May not live here: what a record's value must look like (`admin::produce::Form`). Invariant: a
//! value is passed on byte for byte as it was sent, so numbers keep their digits.

use std::collections::BTreeMap;

use semel_schemas::{header, solana::Base64};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::admin::produce::NewRecord;

/// Headers of one record.
const HEADERS_MAX: usize = 32;

/// Records of one type.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Records {
    /// Their type; without it, the one that the topic's reader expects.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    /// One or more; either all are written, or none.
    #[schema(min_items = 1)]
    pub(super) records: Vec<Record>,
}

/// One record.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Its key: records of one key stay in order.
    #[schema(min_length = 1)]
    key: String,
    /// Its value, as the topic's JSON Schema has it (`schemas/json` in Semel's repository).
    #[schema(value_type = Object)]
    value: Box<RawValue>,
    /// Headers of its own; names that begin with `semel-` are Semel's.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// A request with one record, written without a list.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct One {
    /// Its type; without it, the one that the topic's reader expects.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Its key: records of one key stay in order.
    #[schema(min_length = 1)]
    key: String,
    /// Its value, as the topic's JSON Schema has it.
    #[schema(value_type = Object)]
    value: Box<RawValue>,
    /// Headers of its own.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// What is wrong with a body: one sentence, and the record's number if it is one record's fault.
pub(super) type Wrong = (Option<usize>, String);

/// Reads a body: `{"records": […]}`, or one record without the list.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<Records, Wrong> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| (None, format!("the body is not UTF-8 from byte {} on", e.valid_up_to())))?;
    // Which of the two it is, by its own words: an untagged choice could not say what is wrong.
    let names: BTreeMap<String, &RawValue> = serde_json::from_str(text)
        .map_err(|e| (None, format!("the body is not a JSON object: {e}")))?;
    let wrong = |e: serde_json::Error| (None, format!("the body is not what is asked for: {e}"));
    if names.contains_key("records") {
        let records: Records = serde_json::from_str(text).map_err(wrong)?;
        if records.records.is_empty() {
            return Err((None, "`records` is empty: send at least one".to_owned()));
        }
        return Ok(records);
    }
    let One { kind, key, value, headers } = serde_json::from_str(text).map_err(wrong)?;
    Ok(Records { kind, records: vec![Record { key, value, headers }] })
}

impl Record {
    /// The record to be written. `trace`: the request's own trace context, for a record without one.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn new_record(self, trace: Option<&str>) -> Result<NewRecord, String> {
        let own = self.headers.len();
        if own > HEADERS_MAX {
            return Err(format!("the record has {own} headers; the limit is {HEADERS_MAX}"));
        }
        if let Some(name) = self.headers.keys().find(|n| n.starts_with("semel-") || n.is_empty()) {
            return Err(format!("the header `{name}` is Semel's own: leave it out"));
        }
        let mut headers: Vec<(String, String)> = self.headers.into_iter().collect();
        if let Some(trace) = trace
            && !headers.iter().any(|(name, _)| name == header::TRACEPARENT)
        {
            headers.push((header::TRACEPARENT.to_owned(), trace.to_owned()));
        }
        Ok(NewRecord {
            key: Base64(self.key.into_bytes()),
            value: Some(Base64(self.value.get().as_bytes().to_vec())),
            headers,
        })
    }
}
