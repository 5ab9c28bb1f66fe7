//! Records as they cross the admin socket: nothing of them is lost, whatever their bytes are.

use semel_schemas::{
    header::{self, Headers},
    record::Record,
    solana::Base64,
    topic::{Offset, Partition, TopicName},
};
use serde::{Deserialize, Serialize};

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRow {
    /// Topic.
    pub topic: TopicName,
    /// Partition.
    pub partition: Partition,
    /// Offset.
    pub offset: Offset,
    /// Log timestamp, milliseconds since 1970.
    pub timestamp_ms: u64,
    /// Key.
    pub key: Option<Base64>,
    /// Value.
    pub value: Option<Base64>,
    /// Headers in order.
    pub headers: Vec<(String, Base64)>,
}

impl From<Record> for RecordRow {
    fn from(record: Record) -> Self {
        let headers = record.headers.iter();
        Self {
            headers: headers.map(|(n, v)| (n.to_owned(), Base64(v.to_vec()))).collect(),
            topic: record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(Base64),
            value: record.value.map(Base64),
        }
    }
}

impl From<RecordRow> for Record {
    fn from(row: RecordRow) -> Self {
        let headers: Headers = row.headers.into_iter().map(|(n, v)| (n, v.0)).collect();
        Self {
            topic: row.topic,
            partition: row.partition,
            offset: row.offset,
            timestamp_ms: row.timestamp_ms,
            key: row.key.map(|key| key.0),
            value: row.value.map(|value| value.0),
            headers,
        }
    }
}

/// The type that a record says it has.
#[must_use]
pub fn kind(record: &Record) -> Option<&str> {
    record.headers.get_str(header::TYPE)
}
