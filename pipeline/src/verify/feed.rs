//! Feeding: the records of a script into one topic, at a steady pace, from a thread of its own.
//!
//! Most records go where Java's partitioner would put them, one in four goes where librdkafka's own
//! does (Kafka trap 30). May not live here: what the records say (`events`, `claims`). Invariant:
//! what the script counts as given was acknowledged, or the feed failed and said so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use semel_schemas::{
    header::Headers, partition::partition_for_key, record::OutRecord, topic::TopicName,
};

use super::{VerifyError, chance::Chance};
use crate::log::{LogError, kafka::Feeder};

/// How long the last records may take.
const FINISH_MAX: Duration = Duration::from_secs(300);

/// A record to feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fed {
    /// Key.
    pub(super) key: Option<Vec<u8>>,
    /// Value.
    pub(super) value: Option<Vec<u8>>,
    /// Headers.
    pub(super) headers: Headers,
}

/// Known content: the records in their order, and what was given so far.
pub(super) trait Script: Send + 'static {
    /// The next record; `None` at the end.
    fn next(&mut self) -> Option<Fed>;
    /// How many records it has in all.
    fn total(&self) -> u64;
}

/// Where and how fast.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Topic.
    pub(super) topic: TopicName,
    /// Its number of partitions.
    pub(super) partitions: u32,
    /// The time to feed in.
    pub(super) time: Duration,
    /// Seed of who goes which way.
    pub(super) seed: u64,
}

/// A feed under way.
#[derive(Debug)]
pub(super) struct Feed<S> {
    thread: Option<thread::JoinHandle<Result<S, LogError>>>,
    sent: Arc<AtomicU64>,
}

impl<S: Script> Feed<S> {
    /// Starts feeding.
    ///
    /// # Errors
    /// [`VerifyError::Failed`] if there can be no thread.
    pub(super) fn start(
        feeder: Feeder,
        script: S,
        target: Target,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, VerifyError> {
        let sent = Arc::new(AtomicU64::new(0));
        let counter = sent.clone();
        let thread = thread::Builder::new()
            .name("feed".to_owned())
            .spawn(move || feed(feeder, script, &target, &stop, &counter))
            .map_err(|e| VerifyError::Failed(format!("a thread cannot be started: {e}")))?;
        Ok(Self { thread: Some(thread), sent })
    }

    /// Records handed to the client so far.
    #[must_use]
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The script, once all of it is in the topic; `None` before.
    ///
    /// # Errors
    /// [`VerifyError::Failed`] if a record could not be fed.
    pub(super) fn ended(&mut self) -> Result<Option<S>, VerifyError> {
        let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) else {
            return Ok(None);
        };
        match thread.join() {
            Ok(Ok(script)) => Ok(Some(script)),
            Ok(Err(error)) => Err(VerifyError::Failed(error.to_string())),
            Err(_) => Err(VerifyError::Failed("the feeding thread panicked: see above".to_owned())),
        }
    }
}

fn feed<S: Script>(
    mut feeder: Feeder,
    mut script: S,
    target: &Target,
    stop: &AtomicBool,
    counter: &AtomicU64,
) -> Result<S, LogError> {
    let stopped = || stop.load(Ordering::SeqCst);
    let began = Instant::now();
    let mut chance = Chance::new(target.seed);
    let (total, mut sent) = (script.total(), 0_u64);
    while let Some(fed) = script.next() {
        // Looked at once in a while: a clock's reading costs as much as a record.
        if sent.is_multiple_of(64) {
            let due = target.time.mul_f64(sent as f64 / total.max(1) as f64);
            while began.elapsed() < due && !stopped() {
                feeder.serve(Duration::from_millis(2));
            }
        }
        let key = fed.key.as_deref().unwrap_or_default();
        let ours = !chance.happens(1, 4);
        let record = OutRecord {
            topic: target.topic.clone(),
            partition: ours.then(|| partition_for_key(key, target.partitions)),
            key: fed.key,
            value: fed.value,
            headers: fed.headers,
        };
        while !feeder.offer(&record)? {
            if stopped() {
                break;
            }
        }
        if stopped() {
            return Err(LogError::Unavailable("feeding was interrupted".to_owned()));
        }
        sent += 1;
        counter.store(sent, Ordering::Relaxed);
    }
    feeder.finish(FINISH_MAX, &stopped)?;
    Ok(script)
}
