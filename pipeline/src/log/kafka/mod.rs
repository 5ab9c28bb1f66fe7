//! The log on Apache Kafka, by librdkafka.
//!
//! Lives here: [`KafkaLog`] and what it makes: members (`member`: a `consumer` of a group and a
//! transactional `producer`) and readers (`reader`); topics (`topics`), client settings
//! (`settings`), the meaning of errors (`classify`), the few calls that rust-rdkafka lacks (`ffi`),
//! and what tools ask beside (`operate`, `feeder`). May not live here: anything that knows tasks, state or operators.
//!
//! Numbers of traps refer to the table "Exactly-once on Kafka with librdkafka: the recipe and its
//! traps"; each has a test `trap_NN_…` here or in `tests/kafka/traps.rs` that fails when its guard
//! is off.
//!
//! Invariants: nothing here is async, and nothing runs on a tokio worker (trap 8); a lane's
//! transactions, polls and rebalances all happen on the thread that calls, inside the call.

mod classify;
mod consumer;
mod feeder;
mod ffi;
mod member;
mod operate;
mod producer;
mod reader;
mod settings;
mod topics;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext},
    error::KafkaError,
};
use semel_schemas::{
    record::OutRecord,
    topic::{NextOffset, Offset, Partition, TopicName},
};

pub use self::{feeder::Feeder, operate::KafkaTools, settings::KafkaConfig};
use self::{
    member::KafkaMember,
    producer::TxnProducer,
    reader::KafkaReader,
    settings::{Deadlines, Reports, Settings, client_error},
    topics::Topics,
};
use super::{
    Isolation, Log, LogError, Member, MemberSpec, ProduceError, Reader, TopicInfo, TopicSpec,
};

/// The guards against the traps, each of which a test switches off to see the failure. All are on.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Guards {
    /// 2: group metadata is read at every commit.
    pub fresh_metadata: bool,
    /// 2: offsets are committed for owned partitions only.
    pub ownership: bool,
    /// 3: a transaction ends before the next begins.
    pub one_transaction: bool,
    /// 4: the transactional id is the same after every restart.
    pub stable_id: bool,
    /// 5: a timeout of a transactional call poisons the producer.
    pub poison_after_timeout: bool,
    /// 6: what is not classified means rebuild.
    pub unclassified_is_rebuild: bool,
    /// 7: failed deliveries are counted.
    pub count_failures: bool,
    /// 11: lost partitions are told from revoked ones.
    pub tell_lost: bool,
    /// Partitions are assigned at an absolute offset, never at a logical one.
    pub absolute_start: bool,
    /// 12: cooperative-sticky, and only deltas are (un)assigned.
    pub cooperative: bool,
    /// 20: a full queue is back-pressure.
    pub full_is_pressure: bool,
    /// 25: a commit without offsets is refused.
    pub refuse_empty: bool,
    /// 27: an offset out of range is an error.
    pub no_reset: bool,
    /// 30: keys are hashed by murmur2.
    pub murmur2: bool,
    /// 31, 43: static membership.
    pub static_membership: bool,
    /// A new member sees to it that no partition is nobody's.
    pub claim_orphans: bool,
    /// 31: `leave` unsubscribes.
    pub unsubscribe: bool,
    /// 33: a poll only notes what is revoked; it goes when it is released.
    pub hand_over: bool,
    /// 34: generation and member id are checked.
    pub identity: bool,
    /// 36: the client's queues are bounded.
    pub bounded_queues: bool,
    /// 39: sizes are checked before producing.
    pub sizes: bool,
    /// 40: the flush before the commit is our own.
    pub own_flush: bool,
    /// 41: a full fetch queue is looked at again soon.
    pub short_fetch_backoff: bool,
    /// 42: a refused request is repeated soon.
    pub short_backoff: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            fresh_metadata: true,
            ownership: true,
            one_transaction: true,
            stable_id: true,
            poison_after_timeout: true,
            unclassified_is_rebuild: true,
            count_failures: true,
            tell_lost: true,
            absolute_start: true,
            cooperative: true,
            full_is_pressure: true,
            refuse_empty: true,
            no_reset: true,
            murmur2: true,
            static_membership: true,
            claim_orphans: true,
            unsubscribe: true,
            hand_over: true,
            identity: true,
            bounded_queues: true,
            sizes: true,
            own_flush: true,
            short_fetch_backoff: true,
            short_backoff: true,
        }
    }
}

/// How long a transaction of [`Log::append`] may take.
const APPEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Half of what [`Log::fence`] may take: a lane waits for it.
const FENCE_TIMEOUT: Duration = Duration::from_secs(2);

/// What everything made by one [`KafkaLog`] shares.
struct Shared {
    brokers: String,
    patience: Duration,
    settings: Settings,
    topics: Topics,
}

/// A Kafka cluster.
pub struct KafkaLog {
    shared: Arc<Shared>,
    /// Made at the first [`Log::append`], dropped after an error.
    appender: Mutex<Option<TxnProducer>>,
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLog").field("brokers", &self.shared.brokers).finish_non_exhaustive()
    }
}

impl KafkaLog {
    /// Connects to a cluster.
    ///
    /// # Errors
    /// [`LogError::Refused`] if a setting is wrong, [`LogError::Unavailable`] if no broker answers
    /// within [`KafkaConfig::patience`].
    pub fn connect(config: &KafkaConfig) -> Result<Self, LogError> {
        let settings = Settings::new(config)?;
        let topics = Topics::connect(&settings, &config.brokers, config.patience)?;
        Ok(Self {
            shared: Arc::new(Shared {
                brokers: config.brokers.clone(),
                patience: config.patience,
                settings,
                topics,
            }),
            appender: Mutex::new(None),
        })
    }

    /// A producer under an id that nobody else bears.
    fn appender(&self) -> Result<TxnProducer, LogError> {
        let deadlines = Deadlines::new(APPEND_TIMEOUT)?;
        let id = format!("semel.append.{}", unique());
        let mut producer = TxnProducer::new(Arc::clone(&self.shared), id, deadlines, Reports::All);
        producer.init().map_err(|e| LogError::Unavailable(e.text))?;
        Ok(producer)
    }
}

/// Waits at most `wait` until nothing of a producer is unsent; true if so (Kafka trap 40). For the
/// benchmarks' baseline.
pub(crate) fn flush<C: rdkafka::producer::ProducerContext>(
    producer: &rdkafka::producer::BaseProducer<C>,
    wait: Duration,
) -> bool {
    ffi::flush(rdkafka::producer::Producer::client(producer), wait)
}

/// A text that no other call, in any process, returns.
fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{}.{nanos}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Log for KafkaLog {
    fn describe(&self) -> String {
        format!("kafka at {}", self.shared.brokers)
    }

    fn topic(&self, name: &TopicName) -> Result<Option<TopicInfo>, LogError> {
        self.shared.topics.describe(name)
    }

    fn topics(&self) -> Result<Vec<TopicName>, LogError> {
        self.shared.topics.names()
    }

    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, LogError> {
        self.shared.topics.create(spec)
    }

    fn join(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, LogError> {
        Ok(Box::new(KafkaMember::join(Arc::clone(&self.shared), spec)?))
    }

    fn reader(&self, isolation: Isolation) -> Result<Box<dyn Reader>, LogError> {
        Ok(Box::new(KafkaReader::new(Arc::clone(&self.shared), isolation)?))
    }

    fn committed(
        &self,
        group: &str,
        topic: &TopicName,
    ) -> Result<BTreeMap<Partition, NextOffset>, LogError> {
        let count = self.shared.topics.known(topic)?.partitions;
        let partitions: Vec<_> = (0..count).map(Partition).collect();
        let config = self.shared.settings.observer(group);
        let consumer: BaseConsumer<Noting> =
            config.create_with_context(Noting).map_err(|e| client_error(&e))?;
        consumer::committed(&self.shared, &consumer, topic, &partitions, self.shared.patience)
    }

    fn append(&self, records: Vec<OutRecord>) -> Result<Vec<(Partition, Offset)>, LogError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let mut slot = self.appender.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out: after an error it is dropped, and the next call makes a new one.
        let mut producer = match slot.take() {
            Some(producer) => producer,
            None => self.appender()?,
        };
        let places = producer.append(records).map_err(|e| match e {
            ProduceError::Txn(e) => LogError::Unavailable(e.text),
            other => LogError::Refused(other.to_string()),
        })?;
        *slot = Some(producer);
        Ok(places)
    }

    fn fence(&self, instance: &str) -> Result<(), LogError> {
        let deadlines = Deadlines::new(FENCE_TIMEOUT)?;
        let (shared, id) = (Arc::clone(&self.shared), instance.to_owned());
        let mut heir = TxnProducer::new(shared, id, deadlines, Reports::Errors);
        heir.init().map_err(|e| LogError::Unavailable(e.text))
    }
}

/// The context of every client: takes its log lines and errors down, and decides nothing.
///
/// Rebalances never reach rust-rdkafka's hook while a member works: it reads its queue itself
/// (`ffi`). They do only in `BaseConsumer::drop`, which polls until the group is closed, and there
/// the default hook (assign and unassign as told) is right (trap 33).
#[derive(Debug)]
struct Noting;

impl ClientContext for Noting {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        note(level as i32, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "semel::kafka", "{error}: {reason}");
    }
}

impl ConsumerContext for Noting {}

/// Takes a log line of librdkafka down. `level` is syslog's, 0 to 7.
fn note(level: i32, facility: &str, line: &str) {
    // "Configuration property X is a producer property and will be ignored": we pass the same
    // settings to all clients.
    if facility == "CONFWARN" {
        return;
    }
    match level {
        0..=3 => tracing::warn!(target: "semel::kafka", "{facility}: {line}"),
        4 => tracing::info!(target: "semel::kafka", "{facility}: {line}"),
        _ => tracing::debug!(target: "semel::kafka", "{facility}: {line}"),
    }
}
