//! A plain producer of many records, as any other program on the cluster would be one: idempotent,
//! without transactions, with the partition that it is told or by librdkafka's own partitioner
//! (which is not Java's: Kafka trap 30).
//!
//! Invariant: a record that was taken is in the topic once, in the order of its partition, or
//! [`Feeder::finish`] says so. An outage of the brokers is waited out.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};
use semel_schemas::record::OutRecord;

use super::{
    Noting, note,
    settings::{Settings, client_error},
};
use crate::log::LogError;

/// What became of the records.
#[derive(Debug, Default)]
struct Acks {
    done: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl ClientContext for Acks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        note(level as i32, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Noting.error(error, reason);
    }
}

impl ProducerContext for Acks {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.done.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// See the module.
pub struct Feeder {
    client: BaseProducer<Acks>,
    taken: u64,
}

impl std::fmt::Debug for Feeder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeder").field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl Feeder {
    pub(super) fn new(settings: &Settings) -> Result<Self, LogError> {
        let client =
            settings.feeder().create_with_context(Acks::default()).map_err(|e| client_error(&e))?;
        Ok(Self { client, taken: 0 })
    }

    /// Takes a record; `false` if the queue is full: then it has waited a moment for room, and the
    /// same record may be offered again.
    ///
    /// # Errors
    /// [`LogError`] if a record can never be produced, or an earlier one was not.
    pub fn offer(&mut self, record: &OutRecord) -> Result<bool, LogError> {
        let mut message = BaseRecord::<[u8], [u8]>::to(record.topic.as_str());
        if record.headers.iter().next().is_some() {
            let headers =
                record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(Header { key, value: Some(value) })
                });
            message = message.headers(headers);
        }
        message.partition = record.partition.map(|p| p.0.cast_signed());
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        let full = match self.client.send(message) {
            Ok(()) => false,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => true,
            Err((error, _)) => {
                return Err(LogError::Refused(format!(
                    "a record for `{}` was not taken: {error}",
                    record.topic
                )));
            }
        };
        if full {
            self.client.poll(Duration::from_millis(50));
        } else {
            self.taken += 1;
            if self.taken.is_multiple_of(256) {
                self.client.poll(Duration::ZERO);
            }
        }
        self.failure().map_or(Ok(!full), Err)
    }

    /// Serves acknowledgements for a moment; how many records are in the topic for sure.
    pub fn serve(&self, wait: Duration) -> u64 {
        self.client.poll(wait);
        self.client.context().done.load(Ordering::Relaxed)
    }

    fn failure(&self) -> Option<LogError> {
        let failure = self.client.context().failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().map(|text| {
            LogError::Unavailable(format!("a record could not be fed into Kafka: {text}"))
        })
    }

    /// Waits until everything that was taken is in the topic, at most for `patience`, or until
    /// `stop` says so.
    ///
    /// # Errors
    /// [`LogError`] if it is not known to be.
    pub fn finish(self, patience: Duration, stop: &dyn Fn() -> bool) -> Result<(), LogError> {
        let deadline = Instant::now() + patience;
        loop {
            let done = self.serve(Duration::from_millis(50));
            if let Some(error) = self.failure() {
                return Err(error);
            }
            if done == self.taken {
                return Ok(());
            }
            if Instant::now() > deadline || stop() {
                return Err(LogError::Unavailable(format!(
                    "{} of the records that were fed are not acknowledged: check that the brokers \
                     run",
                    self.taken - done
                )));
            }
        }
    }
}
