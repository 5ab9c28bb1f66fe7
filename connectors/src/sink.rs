//! The sink's conversation: rows and offsets in one database transaction.
//!
//! The offset row is advanced first, by compare-and-set: it locks and fences, so a writer that
//! lost its partition changes no row. The offset row, not the group's committed offset, is the
//! truth about what was written. A record that fits no row is kept in the same transaction, in
//! the sink's outbox, until its dead letter is in the log: a crash between the two tells it later,
//! and may tell it twice, with one id.

use async_trait::async_trait;
use semel_schemas::{
    fault::Fault,
    record::Record,
    topic::{NextOffset, Offset, Partition, TopicId, TopicName},
};

/// The records of one partition that are written together.
#[derive(Clone, Debug)]
pub struct SinkBatch {
    /// Topic.
    pub topic: TopicName,
    /// Its incarnation, kept beside the offset (Kafka trap 28).
    pub topic_id: TopicId,
    /// Partition.
    pub partition: Partition,
    /// What the offset row holds, as last read or written by us; `None`: there is no row yet.
    pub expected: Option<NextOffset>,
    /// What it is to hold afterwards.
    pub next: NextOffset,
    /// The records, in order. Records that are no rows (progress, foreign types) are skipped.
    pub records: Vec<Record>,
    /// Refused records whose dead letters are in the log: they leave the outbox in this write.
    pub reported: Vec<Offset>,
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// Committed.
    Done {
        /// Rows changed.
        rows: u64,
        /// Records that wait for a parent row (see the mapping's lookups), now in all.
        delayed: u64,
        /// Records that fit no row: for the dead letters. They are in the outbox, too.
        refused: Vec<(Record, Fault)>,
    },
    /// The offset row does not hold what was expected: another writer has the partition, or a
    /// commit whose answer was lost did happen. Nothing was changed.
    Moved {
        /// What the offset row holds.
        found: Option<NextOffset>,
    },
}

/// Why a sink could not write.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SinkError {
    /// The database is away or busy: try again with back-off.
    #[error("{0}")]
    Unavailable(String),
    /// The commit's answer was lost: read the position and compare.
    #[error("{0}")]
    Unknown(String),
    /// The database's schema or the mapping is wrong: a person has to change something.
    #[error("{0}")]
    Refused(String),
}

/// Writes records to a database.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Connects, brings our own tables up to date, and checks the mapping against the schema.
    ///
    /// # Errors
    /// [`SinkError`].
    async fn prepare(&self) -> Result<(), SinkError>;

    /// What the offset row of a partition holds.
    ///
    /// # Errors
    /// [`SinkError`]; [`SinkError::Refused`] if the row belongs to another topic id.
    async fn position(
        &self,
        topic: &TopicName,
        topic_id: &TopicId,
        partition: Partition,
    ) -> Result<Option<NextOffset>, SinkError>;

    /// The oldest records of the outbox (a bounded number): refused by a committed write, and in
    /// no write since told as [`SinkBatch::reported`]. To be asked again until there is none.
    ///
    /// A sink that never refuses needs no outbox, and keeps this default.
    ///
    /// # Errors
    /// [`SinkError`].
    async fn unreported(
        &self,
        _topic: &TopicName,
        _topic_id: &TopicId,
        _partition: Partition,
    ) -> Result<Vec<(Record, Fault)>, SinkError> {
        Ok(Vec::new())
    }

    /// Writes one batch in one transaction.
    ///
    /// # Errors
    /// [`SinkError`].
    async fn write(&self, batch: &SinkBatch) -> Result<Written, SinkError>;
}
