//! The transactional producer of a lane, or of [`super::KafkaLog`]'s `append`.
//!
//! Invariants: one transaction at a time; it begins with the first record or offset (trap 15);
//! after a fault that leaves its end unknown the producer is of no use until
//! [`TxnProducer::init`] has made a new one (trap 5); group metadata is never kept (trap 2).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Message, TopicPartitionList,
    client::Client,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};
use semel_schemas::{
    partition::partition_for_key,
    record::OutRecord,
    topic::{Offset, Partition, TopicName},
};

use super::{
    Noting, Shared,
    classify::{Call, classify},
    ffi::{self, GroupMetadata, NativeError},
    note,
    settings::{Deadlines, Reports},
};
use crate::log::{OutParts, ProduceError, TxnError, TxnFault};

/// Bytes that Kafka adds to a record that is alone in its batch: 61 for the batch, up to 26 for
/// the record's own numbers, up to 10 for each header; rounded up generously.
const ENVELOPE: usize = 512;

/// librdkafka's default of `message.max.bytes` and `batch.size`.
const CLIENT_MAX: u64 = 1_000_000;

/// How long a full queue waits for a delivery before it is tried again: long enough not to spin,
/// short against a request to a broker.
const ROOM_WAIT: Duration = Duration::from_millis(5);

/// What became of the records of the open transaction.
#[derive(Debug, Default)]
struct Deliveries {
    failures: AtomicUsize,
    first_failure: Mutex<Option<String>>,
    /// (number of the record, where it is): only if all reports are wanted.
    places: Mutex<Vec<(usize, Partition, Offset)>>,
}

impl Deliveries {
    fn reset(&self) {
        self.failures.store(0, Ordering::Relaxed);
        *self.first_failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.places.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn failure(&self) -> Option<String> {
        if self.failures.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
        Some(first.clone().unwrap_or_default())
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        note(level as i32, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Noting.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(message) => {
                let partition = Partition(u32::try_from(message.partition()).unwrap_or(0));
                let offset = Offset(u64::try_from(message.offset()).unwrap_or(0));
                let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
                places.push((number, partition, offset));
            }
            Err((error, message)) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                let mut first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert_with(|| format!("{}: {error}", message.topic()));
            }
        }
    }
}

/// Where the producer is in its life.
#[derive(Debug)]
enum State {
    /// Not initialised, or of no use since this fault.
    Unusable(TxnFault),
    /// No transaction is open.
    Idle,
    /// A transaction is open.
    Open,
}

/// What a producer must know of a topic.
#[derive(Clone, Copy, Debug)]
struct Rules {
    partitions: u32,
    /// Most bytes of a record.
    limit: usize,
}

/// A transactional producer.
pub(super) struct TxnProducer {
    shared: Arc<Shared>,
    id: String,
    deadlines: Deadlines,
    reports: Reports,
    client: Option<BaseProducer<Deliveries>>,
    state: State,
    /// Records produced in the open transaction.
    produced: usize,
    /// By topic; few.
    rules: Vec<(TopicName, Rules)>,
}

fn fault(fault: TxnFault, text: impl Into<String>) -> TxnError {
    TxnError { fault, text: text.into() }
}

impl TxnProducer {
    /// A producer that is not initialised yet.
    pub(super) fn new(
        shared: Arc<Shared>,
        id: String,
        deadlines: Deadlines,
        reports: Reports,
    ) -> Self {
        let state = State::Unusable(TxnFault::Fatal);
        Self { shared, id, deadlines, reports, client: None, state, produced: 0, rules: Vec::new() }
    }

    /// Replaces the client and initialises it: whoever bears the same id is fenced, and its open
    /// transaction aborted.
    pub(super) fn init(&mut self) -> Result<(), TxnError> {
        self.state = State::Unusable(TxnFault::Rebuild);
        self.produced = 0;
        self.rules.clear();
        self.client = None;
        let unstable = (!self.shared.settings.guards.stable_id).then(super::unique);
        let id = unstable.map_or_else(|| self.id.clone(), |suffix| format!("{}.{suffix}", self.id));
        let config = self.shared.settings.producer(&id, self.deadlines, self.reports);
        let client: BaseProducer<Deliveries> = config
            .create_with_context(Deliveries::default())
            .map_err(|e| fault(TxnFault::Fatal, super::client_error(&e).to_string()))?;
        let began = Instant::now();
        let answer = client.init_transactions(self.deadlines.init);
        self.client = Some(client);
        self.answered(Call::Init, began, answer)?;
        self.state = State::Idle;
        Ok(())
    }

    /// The client of a usable producer.
    fn usable(&self) -> Result<&BaseProducer<Deliveries>, TxnError> {
        match (&self.client, &self.state) {
            (_, State::Unusable(known)) => Err(fault(
                *known,
                format!("the producer `{}` is not initialised: call init first", self.id),
            )),
            (Some(client), _) => Ok(client),
            (None, _) => Err(fault(TxnFault::Rebuild, "the producer has no client")),
        }
    }

    /// Serves delivery reports and log lines without waiting.
    pub(super) fn serve(&self) {
        if let Some(client) = &self.client {
            client.poll(Duration::ZERO);
        }
    }

    /// Waits a moment for deliveries: what was delivered keeps its place in the queue until its
    /// report is served (Kafka trap 20).
    pub(super) fn make_room(&self) -> Result<(), TxnError> {
        self.usable()?.poll(ROOM_WAIT);
        Ok(())
    }

    /// Gives the answer of a call its meaning, and remembers if the producer is of no use now.
    fn answered(
        &mut self,
        call: Call,
        began: Instant,
        answer: Result<(), KafkaError>,
    ) -> Result<(), TxnError> {
        let native = answer.map_err(|e| match e {
            KafkaError::Transaction(e) => NativeError {
                code: e.code(),
                text: e.string(),
                fatal: e.is_fatal(),
                retriable: e.is_retriable(),
                requires_abort: e.txn_requires_abort(),
            },
            // Not an error of the transaction itself, so nothing is known (trap 7).
            other => NativeError {
                code: other.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown),
                text: other.to_string(),
                fatal: false,
                retriable: false,
                requires_abort: false,
            },
        });
        self.judged(call, began, native)
    }

    fn judged(
        &mut self,
        call: Call,
        began: Instant,
        answer: Result<(), NativeError>,
    ) -> Result<(), TxnError> {
        metrics::histogram!("semel_kafka_transaction_call_seconds", "call" => call.name())
            .record(began.elapsed());
        let Err(error) = answer else { return Ok(()) };
        let known = classify(call, &error, &self.shared.settings.guards);
        if matches!(known, TxnFault::Unknown | TxnFault::Rebuild | TxnFault::Fatal) {
            self.state = State::Unusable(known);
        }
        let took = began.elapsed();
        let text =
            format!("{} of `{}` failed after {took:.1?}: {}", call.name(), self.id, error.text);
        Err(fault(known, text))
    }

    fn begin(&mut self) -> Result<(), TxnError> {
        let client = self.usable()?;
        if matches!(self.state, State::Open) && self.shared.settings.guards.one_transaction {
            return Ok(());
        }
        client.context_deliveries().reset();
        let answer = client.begin_transaction();
        self.answered(Call::Begin, Instant::now(), answer)?;
        self.state = State::Open;
        self.produced = 0;
        Ok(())
    }

    /// Adds a record to the transaction; librdkafka copies its bytes.
    pub(super) fn produce(&mut self, record: OutParts<'_>) -> Result<(), ProduceError> {
        self.usable()?;
        let partition = self.place(record)?;
        self.begin()?;
        let mut message =
            BaseRecord::<[u8], [u8], usize>::with_opaque_to(record.topic.as_str(), self.produced);
        // Explicit always: librdkafka's own partitioner is not Java's (trap 30).
        message.partition = partition;
        message.key = record.key;
        message.payload = record.value;
        message.headers = record.headers.iter().fold(None, |list, (key, value)| {
            let header = Header { key, value: Some(value) };
            Some(list.unwrap_or_else(OwnedHeaders::new).insert(header))
        });
        let answer = self.usable()?.send(message).map_err(|(error, _)| error);
        match answer {
            Ok(()) => {
                self.produced += 1;
                Ok(())
            }
            Err(error) => Err(self.not_taken(record.topic, &error)),
        }
    }

    /// What this producer must know of a topic: asked once in its life, since it is needed for
    /// each record.
    fn rules(&mut self, topic: &TopicName) -> Result<Rules, ProduceError> {
        if let Some((_, rules)) = self.rules.iter().find(|(known, _)| known == topic) {
            return Ok(*rules);
        }
        let facts =
            self.shared.topics.known(topic).map_err(|e| fault(TxnFault::Fatal, e.to_string()))?;
        let settings = &self.shared.settings;
        let of_client = settings.number("message.max.bytes").unwrap_or(CLIENT_MAX);
        let batch = settings.number("batch.size").unwrap_or(CLIENT_MAX).min(of_client);
        // A batch that the broker refuses is refused for ever (trap 39).
        if settings.guards.sizes && u64::try_from(facts.max_batch).unwrap_or(u64::MAX) < batch {
            return Err(ProduceError::Txn(fault(
                TxnFault::Fatal,
                format!(
                    "topic `{topic}` takes batches of {} bytes, but the client makes batches of \
                     {batch}: set batch.size to at most that, or raise max.message.bytes",
                    facts.max_batch
                ),
            )));
        }
        let most = facts.max_batch.min(usize::try_from(of_client).unwrap_or(usize::MAX));
        let limit = if settings.guards.sizes { most.saturating_sub(ENVELOPE) } else { usize::MAX };
        let rules = Rules { partitions: facts.partitions, limit };
        self.rules.push((topic.clone(), rules));
        Ok(rules)
    }

    /// Where the record goes, after a look at its size.
    fn place(&mut self, record: OutParts<'_>) -> Result<Option<i32>, ProduceError> {
        let rules = self.rules(record.topic)?;
        let (size, limit) = (record.size(), rules.limit);
        if size > limit {
            return Err(ProduceError::TooLarge { topic: record.topic.clone(), size, limit });
        }
        let partition = match record.partition {
            Some(partition) if partition.0 < rules.partitions => partition,
            Some(partition) => {
                let checked = self.shared.topics.check(record.topic, partition);
                checked.map_err(|e| fault(TxnFault::Fatal, e.to_string()))?;
                partition
            }
            None if !self.shared.settings.guards.murmur2 => return Ok(None),
            None => partition_for_key(record.key.unwrap_or_default(), rules.partitions),
        };
        Ok(Some(i32::try_from(partition.0).unwrap_or(i32::MAX)))
    }

    /// Why librdkafka did not take a record.
    fn not_taken(&mut self, topic: &TopicName, error: &KafkaError) -> ProduceError {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        if code == RDKafkaErrorCode::QueueFull && self.shared.settings.guards.full_is_pressure {
            return ProduceError::Full;
        }
        if let Err(fenced) = self.alive() {
            return ProduceError::Txn(fenced);
        }
        let known = match code {
            // The transaction failed meanwhile and is to be aborted.
            RDKafkaErrorCode::State => TxnFault::Abort,
            // Nothing was sent, so what is there can be taken back.
            RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::QueueFull => TxnFault::Abort,
            _ => TxnFault::Fatal,
        };
        let text = format!("a record for topic `{topic}` was not taken: {error}");
        ProduceError::Txn(fault(known, text))
    }

    /// Fails if librdkafka has given this client up (fenced, out of sequence).
    fn alive(&mut self) -> Result<(), TxnError> {
        let Some((code, text)) = self.usable()?.client().fatal_error() else { return Ok(()) };
        let error =
            NativeError { code, text, fatal: true, retriable: false, requires_abort: false };
        self.judged(Call::Flush, Instant::now(), Err(error))
    }

    /// Waits until everything produced is acknowledged.
    fn flush(&mut self) -> Result<(), TxnError> {
        let client = self.usable()?;
        let began = Instant::now();
        // Records fail by themselves before this; it is only reached if reports get lost.
        let deadline = began + self.deadlines.transaction;
        let mut done = ffi::flush(client.client(), Duration::ZERO);
        while !done && Instant::now() < deadline {
            // librdkafka waits inside, and returns as soon as the last record is acknowledged;
            // failures need to be served in between.
            done = ffi::flush(client.client(), Duration::from_millis(20));
            client.poll(Duration::ZERO);
        }
        let failure = client.context_deliveries().failure();
        self.alive()?;
        if let Some(failure) = failure
            && self.shared.settings.guards.count_failures
        {
            let text = format!("a record of `{}` could not be written: {failure}", self.id);
            return Err(fault(TxnFault::Abort, text));
        }
        let timeout = NativeError {
            code: RDKafkaErrorCode::OperationTimedOut,
            text: "records are still unacknowledged".into(),
            fatal: false,
            retriable: true,
            requires_abort: false,
        };
        self.judged(Call::Flush, began, if done { Ok(()) } else { Err(timeout) })
    }

    /// Commits records and offsets, with `metadata` as it was read for this commit.
    pub(super) fn commit(
        &mut self,
        offsets: &TopicPartitionList,
        metadata: &GroupMetadata,
    ) -> Result<(), TxnError> {
        self.begin()?;
        if self.shared.settings.guards.own_flush {
            self.flush()?;
        } else {
            let (began, client) = (Instant::now(), self.usable()?);
            let answer = client.flush(self.deadlines.transaction);
            self.answered(Call::Flush, began, answer)?;
        }
        let began = Instant::now();
        let client = self.usable()?;
        let wait = self.deadlines.transaction;
        let answer = ffi::send_offsets(client.client(), offsets, metadata, wait);
        self.judged(Call::SendOffsets, began, answer)?;
        self.end()
    }

    /// Makes a failing record the answer first; then asks `metadata` for whom to commit.
    pub(super) fn prepare(&mut self) -> Result<(), TxnError> {
        self.begin()?;
        self.alive()
    }

    /// Ends the transaction by a commit; everything is flushed.
    fn end(&mut self) -> Result<(), TxnError> {
        let began = Instant::now();
        let answer = self.usable()?.commit_transaction(self.deadlines.transaction);
        self.answered(Call::Commit, began, answer)?;
        self.state = State::Idle;
        Ok(())
    }

    /// Takes the open transaction back, if there is one.
    pub(super) fn abort(&mut self) -> Result<(), TxnError> {
        let client = self.usable()?;
        if matches!(self.state, State::Idle) {
            return Ok(());
        }
        let began = Instant::now();
        // Not purged but finished: an abort that overtakes the registration of a partition
        // (AddPartitionsToTxn, still repeated because of CONCURRENT_TRANSACTIONS) meets
        // INVALID_TXN_STATE, which is fatal. And librdkafka's abort would wait for reports that
        // nobody serves while it waits. Records that cannot be written expire before the deadline.
        let deadline = began + self.deadlines.transaction;
        while !ffi::flush(client.client(), Duration::from_millis(20)) && Instant::now() < deadline {
            client.poll(Duration::ZERO);
        }
        let answer = client.abort_transaction(self.deadlines.transaction);
        client.context_deliveries().reset();
        self.answered(Call::Abort, began, answer)?;
        self.state = State::Idle;
        Ok(())
    }

    /// Writes records in a transaction of their own and tells where they are.
    pub(super) fn append(
        &mut self,
        records: Vec<OutRecord>,
    ) -> Result<Vec<(Partition, Offset)>, ProduceError> {
        let count = records.len();
        let deadline = Instant::now() + self.deadlines.transaction;
        for record in records {
            loop {
                match self.produce(OutParts::of(&record)) {
                    Err(ProduceError::Full) if Instant::now() < deadline => self.make_room()?,
                    answer => break answer?,
                }
            }
        }
        self.flush()?;
        // The reports of what was acknowledged are served by now or wait in the queue.
        while self.places().len() < count && Instant::now() < deadline {
            self.make_room()?;
        }
        self.end()?;
        let mut places = self.places();
        places.sort_by_key(|(number, ..)| *number);
        Ok(places.into_iter().map(|(_, partition, offset)| (partition, offset)).collect())
    }

    fn places(&self) -> Vec<(usize, Partition, Offset)> {
        let Some(client) = &self.client else { return Vec::new() };
        let places = &client.context_deliveries().places;
        places.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Shorthand for the context of a client.
trait Context {
    fn context_deliveries(&self) -> &Deliveries;
}

impl Context for BaseProducer<Deliveries> {
    fn context_deliveries(&self) -> &Deliveries {
        let client: &Client<Deliveries> = self.client();
        client.context()
    }
}
