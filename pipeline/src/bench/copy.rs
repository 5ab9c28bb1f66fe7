//! The baseline: a bare transactional copy loop over rdkafka. No parsing, no state: for each record
//! read it writes so many records of so many bytes, and commits with its offsets.
//!
//! It knows every trick that the engine knows (Kafka traps 2, 40, 41, 42), and none of its work.
//! Runs in a process of its own, so that its CPU time and memory are its own.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde::{Deserialize, Serialize};

use super::broker::{config, consumer_config, send_record};
use crate::log::kafka::flush;

/// Inputs in one transaction at most, as the engine's default.
const INPUTS_MAX: usize = 10_000;
/// How long a transaction stays open at most, as the engine's default.
const OPEN_MAX: Duration = Duration::from_millis(100);
const DEADLINE: Duration = Duration::from_secs(10);

/// What is written for each record read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shape {
    /// To this topic,
    pub topic: String,
    /// so many records for each record read, on average,
    pub per_input: f64,
    /// of so many bytes each, key included; `None`: the record as it was read.
    pub bytes: Option<usize>,
}

/// What a copy loop does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Copy {
    /// Bootstrap servers.
    pub brokers: String,
    /// Consumer group; the transactional id is the same.
    pub group: String,
    /// Topic read.
    pub input: String,
    /// Ends after so many records; 0: never.
    pub records: u64,
    /// What it writes.
    pub shapes: Vec<Shape>,
    /// Whether it commits as soon as the input runs dry.
    pub when_dry: bool,
}

struct Loop {
    copy: Copy,
    consumer: BaseConsumer,
    producer: BaseProducer,
    /// How many records of each shape are due, in fractions.
    due: Vec<f64>,
    next: BTreeMap<i32, i64>,
    open: Option<Instant>,
    inputs: usize,
    /// What records are cut from that are longer than the one that was read.
    filler: Vec<u8>,
}

fn said(what: &str, error: &KafkaError) -> String {
    format!("copy loop: {what}: {error}")
}

/// Runs a copy loop to its end.
///
/// # Errors
/// A sentence.
pub fn run(copy: Copy) -> Result<(), String> {
    let mut reading = consumer_config(&copy.brokers);
    reading
        .set("group.id", &copy.group)
        .set("group.instance.id", &copy.group)
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "2000")
        .set("fetch.wait.max.ms", "100")
        .set("queued.max.messages.kbytes", "16384")
        .set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = reading.create().map_err(|e| said("a consumer", &e))?;
    consumer.subscribe(&[&copy.input]).map_err(|e| said("joining", &e))?;
    let mut writing = config(&copy.brokers);
    writing
        .set("transactional.id", &copy.group)
        .set("transaction.timeout.ms", "10000")
        .set("message.timeout.ms", "7500")
        .set("queue.buffering.max.kbytes", "65536")
        .set("delivery.report.only.error", "true");
    let producer: BaseProducer = writing.create().map_err(|e| said("a producer", &e))?;
    producer.init_transactions(DEADLINE).map_err(|e| said("init", &e))?;
    let longest = copy.shapes.iter().filter_map(|s| s.bytes).max().unwrap_or(0);
    let mut work = Loop {
        due: vec![0.0; copy.shapes.len()],
        consumer,
        producer,
        next: BTreeMap::new(),
        open: None,
        inputs: 0,
        filler: (0..longest).map(|i| b'a' + u8::try_from(i % 26).unwrap_or(0)).collect(),
        copy,
    };
    work.run()
}

impl Loop {
    fn run(&mut self) -> Result<(), String> {
        let mut read = 0;
        loop {
            let wait = match (self.open.is_some(), self.copy.when_dry) {
                (true, true) => Duration::ZERO,
                (true, false) => Duration::from_millis(5),
                (false, _) => Duration::from_millis(100),
            };
            let found = self.take(wait)?;
            read += u64::from(found);
            let ended = self.copy.records > 0 && read >= self.copy.records;
            let Some(since) = self.open else { continue };
            let dry = self.copy.when_dry && !found;
            if ended || dry || self.inputs >= INPUTS_MAX || since.elapsed() >= OPEN_MAX {
                self.commit()?;
            }
            if ended {
                self.consumer.unsubscribe();
                return Ok(());
            }
        }
    }

    /// Copies one record; false if there is none.
    fn take(&mut self, wait: Duration) -> Result<bool, String> {
        let message = match self.consumer.poll(wait) {
            None => return Ok(false),
            Some(message) => message.map_err(|e| said("reading", &e))?,
        };
        if self.open.is_none() {
            self.producer.begin_transaction().map_err(|e| said("begin", &e))?;
            self.open = Some(Instant::now());
        }
        self.inputs += 1;
        self.next.insert(message.partition(), message.offset() + 1);
        let (key, value) =
            (message.key().unwrap_or_default(), message.payload().unwrap_or_default());
        for (shape, due) in self.copy.shapes.iter().zip(&mut self.due) {
            *due += shape.per_input;
            while *due >= 1.0 {
                *due -= 1.0;
                let value = match shape.bytes.map(|bytes| bytes.saturating_sub(key.len())) {
                    Some(bytes) if bytes <= value.len() => value.get(..bytes).unwrap_or(value),
                    Some(bytes) => self.filler.get(..bytes).unwrap_or(&self.filler),
                    None => value,
                };
                let record = BaseRecord::to(&shape.topic)
                    .key(key)
                    .payload(value)
                    .partition(message.partition());
                send_record(&self.producer, record)?;
            }
        }
        Ok(true)
    }

    fn commit(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + DEADLINE;
        while !flush(&self.producer, Duration::from_millis(20)) && Instant::now() < deadline {
            self.producer.poll(Duration::ZERO);
        }
        let mut offsets = TopicPartitionList::new();
        for (partition, next) in &self.next {
            offsets
                .add_partition_offset(&self.copy.input, *partition, Offset::Offset(*next))
                .map_err(|e| said("an offset", &e))?;
        }
        let metadata = self.consumer.group_metadata().ok_or("copy loop: no group")?;
        self.producer
            .send_offsets_to_transaction(&offsets, &metadata, DEADLINE)
            .map_err(|e| said("offsets", &e))?;
        self.producer.commit_transaction(DEADLINE).map_err(|e| said("commit", &e))?;
        self.next.clear();
        self.open = None;
        self.inputs = 0;
        Ok(())
    }
}
