//! The log: partitioned topics, atomic commits, consumer groups. One trait, three implementations:
//! `kafka` (production), `embedded` (one process, durable on local disk, no server) and `sim`
//! (deterministic, and as weak as Kafka). `conformance` holds all three to one suite.
//!
//! The calls block, so they belong on a lane's own thread, never on a tokio worker.
//!
//! What every implementation guarantees:
//! - records of one partition are read in the order of their offsets; offsets only grow, with gaps;
//! - a commit makes its records and its offsets visible together or not at all, over all topics;
//!   readers with [`Isolation::Committed`] never pass the first record of an open transaction;
//! - a producer that was fenced (another one initialised the same transactional id) cannot commit;
//! - a commit whose offsets come from a member that no longer owns the partition is refused.
//!   **A transaction without offsets is fenced by nothing** (Kafka trap 25), so
//!   [`Member::commit`] refuses an empty list.
//!
//! What none guarantees: that a commit which was answered with an error did not happen
//! ([`TxnFault::Unknown`]).

#[doc(hidden)]
pub mod conformance;
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod sim;

use std::{collections::BTreeMap, fmt, time::Duration};

use semel_schemas::{
    header::Headers,
    record::{OutRecord, Record},
    topic::{NextOffset, Offset, Partition, TopicId, TopicName},
};

/// A log, or a cluster of one: makes members and readers.
pub trait Log: Send + Sync + fmt::Debug {
    /// A short text for people: `kafka at localhost:9092`, `embedded in ./data`.
    fn describe(&self) -> String;

    /// What is known of a topic; `None` if there is none of that name.
    ///
    /// # Errors
    /// [`LogError`] if the log cannot be asked.
    fn topic(&self, name: &TopicName) -> Result<Option<TopicInfo>, LogError>;

    /// Every topic, by name.
    ///
    /// # Errors
    /// [`LogError`] if the log cannot be asked.
    fn topics(&self) -> Result<Vec<TopicName>, LogError>;

    /// Creates a topic. One that exists already with the same settings is fine.
    ///
    /// # Errors
    /// [`LogError::TopicDiffers`] if it exists with other settings.
    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, LogError>;

    /// Joins a group: one consumer and one transactional producer.
    ///
    /// # Errors
    /// [`LogError`] if the log cannot be reached or the settings are refused.
    fn join(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, LogError>;

    /// A reader that belongs to no group.
    ///
    /// # Errors
    /// [`LogError`] if the log cannot be reached.
    fn reader(&self, isolation: Isolation) -> Result<Box<dyn Reader>, LogError>;

    /// The group's committed offset of every partition of `topic`; partitions without one are
    /// left out.
    ///
    /// # Errors
    /// [`LogError`] if the log cannot be asked.
    fn committed(
        &self,
        group: &str,
        topic: &TopicName,
    ) -> Result<BTreeMap<Partition, NextOffset>, LogError>;

    /// A plain producer for tools and tests: writes the records in one transaction of its own,
    /// without offsets, under an id nobody else bears, and returns the partitions and offsets.
    ///
    /// # Errors
    /// [`LogError`] if the records could not be written.
    fn append(&self, records: Vec<OutRecord>) -> Result<Vec<(Partition, Offset)>, LogError>;

    /// Ends, by an abort, whatever transaction the bearer of this transactional id left open, and
    /// fences it: what it was about to commit is refused ([`TxnFault::Rebuild`]), and it must
    /// [`Member::init`] before it goes on. For a new owner whose predecessor went without handing
    /// over: waiting for the broker to notice costs the transaction timeout *and* the interval in
    /// which it looks for late ones (10 s by default), and readers stand still meanwhile.
    ///
    /// A log that shows nobody an open transaction has nothing to do here.
    ///
    /// # Errors
    /// [`LogError`] if the log cannot be asked; the transaction then ends by its timeout.
    fn fence(&self, instance: &str) -> Result<(), LogError>;
}

/// What is known of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its incarnation.
    pub id: TopicId,
    /// Number of partitions.
    pub partitions: u32,
    /// Whether and how old records go.
    pub cleanup: Cleanup,
}

/// Settings of a topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name.
    pub name: TopicName,
    /// Number of partitions, at least 1.
    pub partitions: u32,
    /// Whether and how old records go.
    pub cleanup: Cleanup,
    /// Copies; `None`: 3 where the log has three brokers, else refused unless `allow_one_broker`.
    pub replication: Option<u16>,
    /// "One broker is meant."
    pub allow_one_broker: bool,
}

/// Whether and how old records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Records are kept for this many milliseconds; `None`: for ever.
    Delete {
        /// Milliseconds.
        retention_ms: Option<u64>,
    },
    /// The last value of each key is kept; tombstones for at least this many milliseconds.
    Compact {
        /// Milliseconds (`delete.retention.ms`).
        tombstone_ms: u64,
    },
}

/// Who joins a group: of one topic, so that a partition's number names one task (Kafka trap 29).
/// ```
/// # use semel::log::MemberSpec;
/// fn read(spec: &mut MemberSpec, topic: semel_schemas::topic::TopicName) {
///     spec.topic = topic;
/// }
/// ```
/// ```compile_fail
/// # use semel::log::MemberSpec;
/// fn read(spec: &mut MemberSpec, topic: semel_schemas::topic::TopicName) {
///     spec.topic = vec![topic.clone(), topic];
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSpec {
    /// Consumer group, `semel.<pipeline>.<stage>`.
    pub group: String,
    /// The one topic that is read (Kafka trap 29).
    pub topic: TopicName,
    /// `group.instance.id` and `transactional.id`: pipeline.stage.instance.lane, the same after
    /// every restart (Kafka traps 4 and 31).
    pub instance: String,
    /// How long a transaction may stay open; the other deadlines are derived from it.
    pub transaction_timeout: Duration,
    /// How long the group waits for a silent member.
    pub session_timeout: Duration,
}

/// What a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Only what is committed, up to the last stable offset.
    Committed,
    /// Everything; ends are high watermarks (Kafka trap 26).
    Uncommitted,
}

/// What a poll found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// These partitions are ours now, *in addition*. They are paused until [`Member::start`].
    Assigned(Vec<Partition>),
    /// These partitions are to be handed over: commit or abort, then call [`Member::release`].
    /// Until then the group waits.
    Revoked(Vec<Partition>),
    /// These partitions are another member's already: nothing can be committed for them any more.
    /// Abort, then call [`Member::release`].
    Lost(Vec<Partition>),
    /// A record of a started partition.
    Record(Record),
    /// A started partition was read to its present end.
    End(Partition),
}

/// One member of a group with its producer. Owned by one lane thread.
///
/// The order of calls: [`Member::init`] first and after every [`TxnFault::Unknown`] or
/// [`TxnFault::Rebuild`]; then any number of `produce`… followed by one `commit` or `abort`.
/// A transaction begins with the first `produce` (lazily, Kafka trap 15).
///
/// Its calls block, and no task of tokio can wait for them (Kafka trap 8):
/// ```
/// # use semel::log::{Member, TxnError};
/// fn on_a_lanes_thread(member: &mut dyn Member) -> Result<(), TxnError> {
///     member.abort()
/// }
/// ```
/// ```compile_fail
/// # use semel::log::{Member, TxnError};
/// async fn on_a_worker(member: &mut dyn Member) -> Result<(), TxnError> {
///     member.abort().await
/// }
/// ```
pub trait Member: Send {
    /// Initialises the producer: fences whoever bears the same transactional id and ends its open
    /// transaction.
    ///
    /// # Errors
    /// [`TxnFault`].
    fn init(&mut self) -> Result<(), TxnError>;

    /// Looks for events and records, waiting at most `wait` for the first.
    ///
    /// # Errors
    /// [`LogError`]; the member must be dropped and joined anew.
    fn poll(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Event>, LogError>;

    /// The group's committed offsets, waiting out transactions that are still open
    /// (`require_stable`). Partitions without one are left out.
    ///
    /// # Errors
    /// [`LogError`].
    fn committed(
        &mut self,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, NextOffset>, LogError>;

    /// Starts (or restarts) reading a partition of ours at `from`; a pause ends with it.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] if the log does not hold `from` (its end is held).
    fn start(&mut self, partition: Partition, from: NextOffset) -> Result<(), LogError>;

    /// Stops and goes on reading partitions of ours, without losing the position. A paused
    /// partition yields nothing, also nothing that was fetched before.
    ///
    /// # Errors
    /// [`LogError`].
    fn pause(&mut self, partitions: &[Partition]) -> Result<(), LogError>;

    /// See [`Member::pause`].
    ///
    /// # Errors
    /// [`LogError`].
    fn resume(&mut self, partitions: &[Partition]) -> Result<(), LogError>;

    /// Answers [`Event::Revoked`] or [`Event::Lost`]: the partitions may go.
    ///
    /// # Errors
    /// [`LogError`].
    fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError>;

    /// Adds a record to the transaction. `Err(ProduceError::Full)` is back-pressure: call
    /// [`Member::make_room`], then try again (Kafka trap 20).
    ///
    /// # Errors
    /// [`ProduceError`].
    fn produce(&mut self, record: OutRecord) -> Result<(), ProduceError>;

    /// As [`Member::produce`], for what stays the caller's: a log that copies the bytes anyway takes
    /// them from where they are.
    ///
    /// # Errors
    /// [`ProduceError`].
    fn produce_parts(&mut self, record: OutParts<'_>) -> Result<(), ProduceError>;

    /// Waits a moment for room in the producer's queue, without taking events or records. Called
    /// after [`ProduceError::Full`] (Kafka trap 20).
    ///
    /// # Errors
    /// [`TxnError`].
    fn make_room(&mut self) -> Result<(), TxnError>;

    /// Commits records and offsets, with group metadata read now (Kafka trap 2).
    ///
    /// # Errors
    /// [`TxnError`]; see [`TxnFault`] for what is known then. An empty list of offsets is
    /// [`TxnFault::Fatal`].
    fn commit(&mut self, offsets: &[(Partition, NextOffset)]) -> Result<(), TxnError>;

    /// Takes everything since the last commit back.
    ///
    /// # Errors
    /// [`TxnError`]: then the end is not known; init before going on.
    fn abort(&mut self) -> Result<(), TxnError>;

    /// Leaves the group at once (Kafka trap 31): what is not committed is aborted.
    ///
    /// # Errors
    /// [`LogError`]; the group will notice the member's absence by its session timeout.
    fn leave(&mut self) -> Result<(), LogError>;
}

/// A record to be written whose parts are somebody else's.
#[derive(Clone, Copy, Debug)]
pub struct OutParts<'a> {
    /// Topic to write to.
    pub topic: &'a TopicName,
    /// Partition to write to; `None`: by the key's murmur2 hash.
    pub partition: Option<Partition>,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers in order.
    pub headers: &'a Headers,
}

impl<'a> OutParts<'a> {
    /// The parts of a record.
    #[must_use]
    pub fn of(record: &'a OutRecord) -> Self {
        Self {
            topic: &record.topic,
            partition: record.partition,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
        }
    }

    /// Bytes of key, value and headers, see [`OutRecord::size`].
    #[must_use]
    pub fn size(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + self.headers.size()
    }

    /// A record of its own.
    #[must_use]
    pub fn to_owned(self) -> OutRecord {
        OutRecord {
            topic: self.topic.clone(),
            partition: self.partition,
            key: self.key.map(<[u8]>::to_vec),
            value: self.value.map(<[u8]>::to_vec),
            headers: self.headers.clone(),
        }
    }
}

/// Reads partitions without belonging to a group.
pub trait Reader: Send {
    /// Starts reading a partition at `from`; other partitions are forgotten.
    ///
    /// # Errors
    /// [`LogError`].
    fn seek(
        &mut self,
        topic: &TopicName,
        partition: Partition,
        from: NextOffset,
    ) -> Result<(), LogError>;

    /// The partition's first offset and its end as this reader's isolation sees it: the last
    /// stable offset, or the high watermark.
    ///
    /// # Errors
    /// [`LogError`].
    fn bounds(
        &mut self,
        topic: &TopicName,
        partition: Partition,
    ) -> Result<(NextOffset, NextOffset), LogError>;

    /// Up to `records_max` records, waiting at most `wait` for the first.
    ///
    /// # Errors
    /// [`LogError`].
    fn read(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Record>, LogError>;

    /// Where reading goes on: beyond the last record read, and beyond markers and compacted
    /// records after it as far as that is known (Kafka trap 17).
    ///
    /// # Errors
    /// [`LogError`].
    fn position(&mut self) -> Result<NextOffset, LogError>;
}

/// What is known after a failed transaction call, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnFault {
    /// Nothing happened: the same call may be made again.
    Retry,
    /// Nothing was and nothing will be committed: call [`Member::abort`] and take the inputs back.
    Abort,
    /// Nothing is known: it may have been committed, or may be later. Drop what is uncommitted,
    /// [`Member::init`], and start each task as after an assignment (Kafka trap 5).
    Unknown,
    /// The producer is of no use any more (fenced): as [`TxnFault::Unknown`]. Twice in a minute:
    /// another process bears the same id (Kafka trap 38).
    Rebuild,
    /// A mistake in the program or its rights: stop and say so.
    Fatal,
}

/// A failed transaction call.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct TxnError {
    /// What is known and what to do.
    pub fault: TxnFault,
    /// One sentence.
    pub text: String,
}

/// Why a record was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProduceError {
    /// The queue is full: back-pressure, not an error.
    #[error("the producer's queue is full")]
    Full,
    /// The record is larger than the topic or the transaction allows (Kafka trap 39).
    #[error("a record of {size} bytes for topic `{topic}` exceeds the limit of {limit} bytes")]
    TooLarge {
        /// Topic.
        topic: TopicName,
        /// Bytes of the record.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The transaction is broken.
    #[error(transparent)]
    Txn(#[from] TxnError),
}

/// Why the log could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// Not reachable, or not now.
    #[error("{0}")]
    Unavailable(String),
    /// There is no such topic.
    #[error("there is no topic `{0}`: create it, or start the pipeline that does")]
    NoTopic(TopicName),
    /// It exists with other settings.
    #[error(
        "topic `{topic}` exists with {found}, but the pipeline needs {wanted}: change the spec to \
         what is there (`semel repartition` gives a stage's input other partitions), or give the \
         pipeline another name"
    )]
    TopicDiffers {
        /// Topic.
        topic: TopicName,
        /// What is there.
        found: String,
        /// What is needed.
        wanted: String,
    },
    /// The position asked for no longer exists, or does not exist yet (Kafka trap 27).
    #[error(
        "offset {asked} of {topic}/{partition} is outside of what the log holds ({first} to {end}): \
         records were deleted before they were read, or the topic was recreated; to begin anew, \
         give the pipeline another name, and let the topic keep its records for longer"
    )]
    OutOfRange {
        /// Topic.
        topic: TopicName,
        /// Partition.
        partition: Partition,
        /// Where reading was to start.
        asked: NextOffset,
        /// First offset held.
        first: NextOffset,
        /// End of the partition.
        end: NextOffset,
    },
    /// Another process uses the data folder.
    #[error("{0}")]
    Locked(String),
    /// Local storage failed.
    #[error("{0}")]
    Storage(String),
    /// Another member took our place in the group. Once, it may have been ourselves: a join whose
    /// answer was lost, and that was made again. Twice in a minute: another process (Kafka trap 38).
    #[error(
        "another process joined group `{group}` as `{instance}`: two processes bear one instance id \
         (a copied data folder?); stop one of them"
    )]
    Replaced {
        /// Group.
        group: String,
        /// The id that both bear.
        instance: String,
    },
    /// Refused for good: wrong rights, wrong settings.
    #[error("{0}")]
    Refused(String),
}
