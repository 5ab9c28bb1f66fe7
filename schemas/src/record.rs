//! Records: what is read from the log, and what is to be written to it.

use sha2::{Digest, Sha256};

use crate::{
    header::{self, Headers},
    topic::{NextOffset, Offset, Partition, TopicName},
};

/// A record as it was read.
///
/// Nobody gets at a value without saying what a tombstone is (Kafka trap 22):
/// ```
/// # use semel_schemas::record::Record;
/// fn size(record: &Record) -> usize {
///     record.value.as_ref().map_or(0, |value| value.len())
/// }
/// ```
/// ```compile_fail
/// # use semel_schemas::record::Record;
/// fn size(record: &Record) -> usize {
///     record.value.len()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Topic it was read from.
    pub topic: TopicName,
    /// Partition it was read from.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// Log timestamp, milliseconds since 1970; 0 if the log has none. Never decides anything.
    pub timestamp_ms: u64,
    /// Key; `None` and empty both mean "no key".
    pub key: Option<Vec<u8>>,
    /// Value; `None` is a tombstone (Kafka trap 22).
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Headers,
}

impl Record {
    /// `topic/partition/offset`.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}/{}/{}", self.topic, self.partition, self.offset)
    }

    /// The offset to commit once this record is processed.
    #[must_use]
    pub fn next(&self) -> NextOffset {
        self.offset.next()
    }

    /// The record's id: its `semel-id` header, or else `topic/partition/offset`, which is as
    /// stable as the log.
    #[must_use]
    pub fn id(&self) -> String {
        self.headers.get_str(header::ID).map_or_else(|| self.origin(), str::to_owned)
    }
}

/// A record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutRecord {
    /// Topic to write to.
    pub topic: TopicName,
    /// Partition to write to; `None`: by the key's murmur2 hash.
    pub partition: Option<Partition>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Headers,
}

impl OutRecord {
    /// Bytes of key, value and headers: what a broker's size limit is about.
    #[must_use]
    pub fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len)
            + self.value.as_ref().map_or(0, Vec::len)
            + self.headers.size()
    }
}

/// The id of the `ordinal`-th record that `place` (stage and operator) makes of the record with id
/// `cause`: 32 hex digits of SHA-256, the same after every retry.
#[must_use]
pub fn derived_id(cause: &str, place: &str, ordinal: u32) -> String {
    let mut hash = Sha256::new();
    hash.update(cause.as_bytes());
    hash.update([0]);
    hash.update(place.as_bytes());
    hash.update([0]);
    hash.update(ordinal.to_be_bytes());
    hex::encode(&hash.finalize()[..16])
}
