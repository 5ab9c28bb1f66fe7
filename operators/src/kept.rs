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
            let bytes = semel_schemas::codec::encode(&Kept::from(record.clone()));
            let back: Kept = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(Envelope::from(back), record);
        }
    }
}
