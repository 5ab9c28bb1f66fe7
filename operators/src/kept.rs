//! A record kept in state until it may go on.
//!
//! Invariant: what is taken out is what was put in, to the byte: id, type, key, value and headers.

use semel_schemas::{header::Headers, solana::Base64};
use serde::{Deserialize, Serialize};

use crate::operator::Envelope;

/// A record's state form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    id: String,
    kind: String,
    key: Base64,
    value: Option<Base64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, Base64)>,
}

/// A record as bytes: each part as its length, u32 BE, and the part. In this order: id, type, key,
/// value (a length of `u32::MAX`: none), then name and value of each header.
///
/// For records that wait in large numbers; [`Kept`] is for those that wait within another value.
pub(crate) fn to_bytes(record: &Envelope) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(record.value.as_ref().map_or(0, Vec::len) + 128);
    let mut part = |part: Option<&[u8]>| {
        let length = part.map_or(u32::MAX, |part| u32::try_from(part.len()).unwrap_or(u32::MAX));
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(part.unwrap_or_default());
    };
    part(Some(record.id.as_bytes()));
    part(Some(record.kind.as_bytes()));
    part(Some(&record.key));
    part(record.value.as_deref());
    for (name, value) in record.headers.iter() {
        part(Some(name.as_bytes()));
        part(Some(value));
    }
    bytes
}

/// The record that [`to_bytes`] wrote.
///
/// # Panics
/// If `bytes` are something else: state is only ever written by the same version.
pub(crate) fn from_bytes(bytes: &[u8]) -> Envelope {
    let mut rest = bytes;
    let (id, kind) = (text(&mut rest), text(&mut rest));
    let (key, value) = (part(&mut rest).unwrap_or_default(), part(&mut rest));
    let mut headers = Headers::new();
    while !rest.is_empty() {
        headers.push(text(&mut rest), part(&mut rest).unwrap_or_default());
    }
    Envelope { id, kind, key, value, headers }
}

fn part(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (length, after) = rest.split_first_chunk().expect("a part begins with its length");
    let length = u32::from_be_bytes(*length);
    *rest = after;
    if length == u32::MAX {
        return None;
    }
    let length = usize::try_from(length).expect("a part fits into memory");
    let (part, after) = rest.split_at_checked(length).expect("a part has its length");
    *rest = after;
    Some(part.to_vec())
}

fn text(rest: &mut &[u8]) -> String {
    String::from_utf8(part(rest).unwrap_or_default()).expect("a text is UTF-8")
}

impl From<Envelope> for Kept {
    fn from(record: Envelope) -> Self {
        Self {
            id: record.id,
            kind: record.kind,
            key: Base64(record.key),
            value: record.value.map(Base64),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| (name.to_owned(), Base64(value.to_vec())))
                .collect(),
        }
    }
}

impl From<Kept> for Envelope {
    fn from(kept: Kept) -> Self {
        Self {
            id: kept.id,
            kind: kept.kind,
            key: kept.key.0,
            value: kept.value.map(|value| value.0),
            headers: kept
                .headers
                .into_iter()
                .map(|(name, value)| (name, value.0))
                .collect::<Headers>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_record_comes_back_to_the_byte() {
        for value in [None, Some(vec![]), Some(vec![0, 255])] {
            let record = Envelope {
                id: "i".into(),
                kind: "k".into(),
                key: vec![0, 200],
                value,
                headers: [("h".to_owned(), vec![1]), ("h".to_owned(), vec![2])]
                    .into_iter()
                    .collect(),
            };
            assert_eq!(from_bytes(&to_bytes(&record)), record);
            let bytes = semel_schemas::codec::encode(&Kept::from(record.clone()));
            let back: Kept = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(Envelope::from(back), record);
        }
    }
}
