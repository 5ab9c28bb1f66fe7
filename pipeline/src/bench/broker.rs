//! What the benchmarks ask of a Kafka cluster beside the engine: topics filled, counted, deleted.
//!
//! May not live here: anything that is measured.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::Headers,
    producer::{BaseProducer, BaseRecord, Producer},
};
use semel_schemas::topic::TopicName;

use super::{
    probe::{Receiver, Sender},
    records::Transfer,
};
use crate::log::{
    Cleanup, Log, TopicSpec,
    kafka::{KafkaConfig, KafkaLog},
};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Partitions of every topic.
pub(super) const PARTITIONS: u32 = 4;

/// A cluster.
pub(super) struct Broker {
    /// Its address.
    pub(super) address: String,
    log: KafkaLog,
    probe: BaseConsumer,
    admin: AdminClient<DefaultClientContext>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Broker").field(&self.address).finish()
    }
}

/// What a topic holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Held {
    /// Records.
    pub(super) records: u64,
    /// Bytes of their keys, values and headers.
    pub(super) bytes: u64,
}

fn said(what: &str, error: &KafkaError) -> String {
    format!("Kafka: {what}: {error}")
}

impl Broker {
    /// Connects.
    ///
    /// # Errors
    /// A sentence if no broker answers.
    pub(super) fn connect(address: &str) -> Result<Self, String> {
        let log = KafkaLog::connect(&KafkaConfig::new(address)).map_err(|e| e.to_string())?;
        let client = config(address);
        Ok(Self {
            address: address.to_owned(),
            log,
            probe: client.create().map_err(|e| said("a client", &e))?,
            admin: client.create().map_err(|e| said("a client", &e))?,
        })
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn create(&self, name: &str) -> Result<(), String> {
        let name = TopicName::new(name).map_err(|e| e.to_string())?;
        let cleanup = Cleanup::Delete { retention_ms: None };
        let (partitions, replication) = (PARTITIONS, Some(1));
        let spec = TopicSpec { name, partitions, cleanup, replication, allow_one_broker: true };
        let topic = spec.name.clone();
        self.log.create_topic(&spec).map_err(|e| e.to_string())?;
        // What is created is not known to every client at once.
        self.await_topic(topic.as_str())
    }

    /// Deletes every topic whose name begins with `prefix`.
    pub(super) fn delete(&self, prefix: &str) {
        let Ok(names) = self.log.topics() else { return };
        let ours: Vec<&str> =
            names.iter().map(TopicName::as_str).filter(|name| name.starts_with(prefix)).collect();
        let deleting = self.admin.delete_topics(&ours, &AdminOptions::new());
        if let Err(error) = block_on(deleting) {
            tracing::warn!(%error, prefix, "the bench's topics could not be deleted");
        }
    }

    /// Writes records into a topic, as fast as it goes.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn fill(
        &self,
        topic: &str,
        records: impl Iterator<Item = Transfer>,
    ) -> Result<(), String> {
        let mut client = config(&self.address);
        client.set("linger.ms", "20").set("delivery.report.only.error", "true");
        let producer: BaseProducer = client.create().map_err(|e| said("a producer", &e))?;
        for transfer in records {
            send(&producer, topic, &transfer)?;
        }
        producer.flush(PATIENCE).map_err(|e| said("records were not written", &e))
    }

    /// Where each partition of a topic ends.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn ends(&self, topic: &str) -> Result<BTreeMap<i32, i64>, String> {
        (0..i32::try_from(PARTITIONS).unwrap_or(0))
            .map(|partition| {
                let bounds = self.probe.fetch_watermarks(topic, partition, PATIENCE);
                Ok((partition, bounds.map_err(|e| said("the ends", &e))?.1))
            })
            .collect()
    }

    /// Waits until somebody has created a topic.
    ///
    /// # Errors
    /// A sentence if nobody does.
    pub(super) fn await_topic(&self, topic: &str) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.ends(topic) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// A writer that sends each record at once.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn sender(&self, topic: &str) -> Result<Sender, String> {
        let mut client = config(&self.address);
        client.set("linger.ms", "0");
        let producer: BaseProducer = client.create().map_err(|e| said("a producer", &e))?;
        let topic = topic.to_owned();
        Ok(Box::new(move |transfer| {
            producer.poll(Duration::ZERO);
            send(&producer, &topic, transfer)
        }))
    }

    /// A reader of what is committed from here on: it is at the end of every partition when this
    /// returns.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn receiver(&self, topic: &str) -> Result<Receiver, String> {
        let consumer = self.reader(topic, Offset::End)?;
        let deadline = Instant::now() + PATIENCE;
        let mut open = PARTITIONS;
        while open > 0 {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Err(error)) => return Err(said("a topic could not be read", &error)),
                _ if Instant::now() > deadline => return Err(format!("{topic} has no end")),
                _ => {}
            }
        }
        Ok(Box::new(move |note| match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                note(message.payload().unwrap_or_default());
                Ok(())
            }
            None | Some(Err(KafkaError::PartitionEOF(_))) => Ok(()),
            // A reader outlives what happens to the broker; what is lost does not come.
            Some(Err(error)) => {
                tracing::debug!(%error, "reading");
                Ok(())
            }
        }))
    }

    /// Members of a group, if it is settled.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn members(&self, group: &str) -> Result<usize, String> {
        let list = self.probe.fetch_group_list(Some(group), PATIENCE);
        let list = list.map_err(|e| said("a group", &e))?;
        let stable = list.groups().iter().find(|found| found.state() == "Stable");
        Ok(stable.map_or(0, |found| found.members().len()))
    }

    /// Someone who asks how far a group has come in a topic.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn watcher(&self, group: &str, topic: &str) -> Result<Watcher, String> {
        let mut client = consumer_config(&self.address);
        client.set("group.id", group);
        let consumer = client.create().map_err(|e| said("a client", &e))?;
        Ok(Watcher { consumer, topic: topic.to_owned() })
    }

    /// Reads a whole topic, committed records only.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn held(&self, topic: &str) -> Result<Held, String> {
        let consumer = self.reader(topic, Offset::Beginning)?;
        let ends = self.ends(topic)?;
        let mut held = Held::default();
        let mut open = ends.iter().filter(|(_, end)| **end > 0).count();
        let deadline = Instant::now() + 20 * PATIENCE;
        while open > 0 {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let headers = message.headers().map_or(0, |headers| {
                        headers.iter().map(|h| h.key.len() + h.value.map_or(0, <[u8]>::len)).sum()
                    });
                    held.records += 1;
                    held.bytes += (message.key_len() + message.payload_len() + headers) as u64;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Err(error)) => return Err(said("a topic could not be read", &error)),
                None if Instant::now() > deadline => {
                    return Err(format!("topic {topic} could not be read to its end in time"));
                }
                None => {}
            }
        }
        Ok(held)
    }

    /// A reader of all partitions of a topic, committed records only.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn reader(&self, topic: &str, from: Offset) -> Result<BaseConsumer, String> {
        let mut client = consumer_config(&self.address);
        client.set("group.id", "semel.bench.reader").set("enable.partition.eof", "true");
        let consumer: BaseConsumer = client.create().map_err(|e| said("a client", &e))?;
        let mut all = TopicPartitionList::new();
        for partition in 0..i32::try_from(PARTITIONS).unwrap_or(0) {
            all.add_partition_offset(topic, partition, from).map_err(|e| said("an offset", &e))?;
        }
        consumer.assign(&all).map_err(|e| said("a reader", &e))?;
        Ok(consumer)
    }
}

/// Settings of every client of the benchmarks (Kafka trap 42).
#[must_use]
pub(super) fn config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("client.id", "semel-bench")
        .set("retry.backoff.ms", "5");
    config
}

/// Settings of every consumer of the benchmarks (Kafka trap 41).
#[must_use]
pub(super) fn consumer_config(address: &str) -> ClientConfig {
    let mut config = config(address);
    config
        .set("fetch.queue.backoff.ms", "5")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false");
    config
}

/// Sends a record; a full queue is waited out.
///
/// # Errors
/// A sentence.
pub(super) fn send(
    producer: &BaseProducer,
    topic: &str,
    transfer: &Transfer,
) -> Result<(), String> {
    let partition = i32::try_from(transfer.partition(PARTITIONS).0).unwrap_or(0);
    let record = BaseRecord::to(topic)
        .key(transfer.key.as_bytes())
        .payload(transfer.value.as_bytes())
        .partition(partition);
    send_record(producer, record)
}

/// Sends a record as it stands; a full queue is waited out.
///
/// # Errors
/// A sentence.
pub(super) fn send_record(
    producer: &BaseProducer,
    mut record: BaseRecord<'_, [u8], [u8]>,
) -> Result<(), String> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(2));
            }
            Err((error, _)) => return Err(said("a record was not taken", &error)),
        }
    }
}

/// See [`Broker::watcher`].
pub(super) struct Watcher {
    consumer: BaseConsumer,
    topic: String,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watcher").field(&self.topic).finish()
    }
}

impl Watcher {
    /// Records that the group has not committed yet.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn lag(&self, ends: &BTreeMap<i32, i64>) -> Result<i64, String> {
        let mut asked = TopicPartitionList::new();
        for partition in ends.keys() {
            asked.add_partition(&self.topic, *partition);
        }
        let answer = match self.consumer.committed_offsets(asked, PATIENCE) {
            Ok(answer) => answer,
            // A group that nobody has joined yet may have no coordinator yet.
            Err(e) if is_early(&e) => return Ok(ends.values().sum()),
            Err(e) => return Err(said("committed offsets", &e)),
        };
        let committed = |partition: i32| match answer.find_partition(&self.topic, partition) {
            Some(found) => match found.offset() {
                Offset::Offset(offset) => offset,
                _ => 0,
            },
            None => 0,
        };
        Ok(ends.iter().map(|(partition, end)| end - committed(*partition)).sum())
    }
}

/// Does the coordinator of a group only just come into being?
fn is_early(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::WaitingForCoordinator
        )
    )
}

/// Waits for a future of the admin client, whose work is done by a thread of its own.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut context) {
            return answer;
        }
        thread::park_timeout(Duration::from_millis(50));
    }
}
