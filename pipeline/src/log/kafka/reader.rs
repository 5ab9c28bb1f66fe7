//! A reader without a group: for changelogs, tools and tests.
//!
//! Invariants: it is assigned by hand, never joins and never commits (traps 34, 35); its position
//! is where the broker said the end was, not a count of records (trap 17).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::RDKafkaErrorCode,
    topic_partition_list::Offset as RdOffset,
};
use semel_schemas::{
    record::Record,
    topic::{NextOffset, Partition, TopicName},
};

use super::{
    Noting, Shared,
    ffi::{EventQueue, QueueEvent},
    note,
    settings::client_error,
};
use crate::log::{Isolation, LogError, Reader};

/// What is read, and how far it came.
struct Place {
    topic: TopicName,
    partition: Partition,
    next: NextOffset,
}

/// A reader on Kafka.
pub(super) struct KafkaReader {
    shared: Arc<Shared>,
    /// Before the consumer, so that it is dropped before.
    queue: EventQueue,
    consumer: BaseConsumer<Noting>,
    place: Option<Place>,
}

impl KafkaReader {
    /// A reader that stands nowhere yet.
    pub(super) fn new(shared: Arc<Shared>, isolation: Isolation) -> Result<Self, LogError> {
        let config = shared.settings.reader(isolation);
        let consumer: BaseConsumer<Noting> =
            config.create_with_context(Noting).map_err(|e| client_error(&e))?;
        let queue = EventQueue::of_consumer(consumer.client())
            .ok_or_else(|| LogError::Refused("the Kafka consumer has no queue".into()))?;
        Ok(Self { shared, queue, consumer, place: None })
    }

    fn failed(
        &self,
        place: &Place,
        code: RDKafkaErrorCode,
        text: &str,
        at: Option<(Partition, i64)>,
    ) -> Result<(), LogError> {
        use RDKafkaErrorCode as Code;
        let (topic, partition) = (place.topic.clone(), place.partition);
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange => {
                let offset = at.map_or(0, |(_, offset)| offset);
                let asked = NextOffset(u64::try_from(offset).unwrap_or(0));
                let (first, end) = self.shared.topics.bounds(&topic, partition)?;
                Err(LogError::OutOfRange { topic, partition, asked, first, end })
            }
            Code::UnknownTopic | Code::UnknownTopicOrPartition => Err(LogError::NoTopic(topic)),
            Code::TopicAuthorizationFailed | Code::SaslAuthenticationFailed => {
                Err(LogError::Refused(format!("Kafka refused to let `{topic}` be read: {text}")))
            }
            _ => {
                tracing::debug!(target: "semel::kafka", "{code}: {text}");
                Ok(())
            }
        }
    }
}

impl Reader for KafkaReader {
    fn seek(
        &mut self,
        topic: &TopicName,
        partition: Partition,
        from: NextOffset,
    ) -> Result<(), LogError> {
        self.shared.topics.check_range(topic, partition, from)?;
        let mut list = TopicPartitionList::with_capacity(1);
        let number = i32::try_from(partition.0).unwrap_or(i32::MAX);
        let offset = RdOffset::Offset(i64::try_from(from.0).unwrap_or(i64::MAX));
        let answer = list
            .add_partition_offset(topic.as_str(), number, offset)
            .and_then(|()| self.consumer.unassign())
            .and_then(|()| self.consumer.assign(&list));
        answer.map_err(|e| self.shared.topics.failed(&format!("to seek in `{topic}`"), &e))?;
        self.place = Some(Place { topic: topic.clone(), partition, next: from });
        Ok(())
    }

    fn bounds(
        &mut self,
        topic: &TopicName,
        partition: Partition,
    ) -> Result<(NextOffset, NextOffset), LogError> {
        self.shared.topics.bounds_as_seen_by(&self.consumer, topic, partition)
    }

    fn read(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Record>, LogError> {
        let Some(mut place) = self.place.take() else { return Ok(Vec::new()) };
        let deadline = Instant::now() + wait;
        let mut records = Vec::new();
        let mut outcome = Ok(());
        while records.len() < records_max && outcome.is_ok() {
            let patience = if records.is_empty() {
                deadline.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            match self.queue.poll(&place.topic, patience) {
                Some(QueueEvent::Record(record)) => {
                    // What was fetched before a seek is outdated; this is a second lock.
                    if record.partition == place.partition && record.offset.0 >= place.next.0 {
                        place.next = record.next();
                        records.push(record);
                    }
                }
                Some(QueueEvent::End(partition, end)) if partition == place.partition => {
                    place.next = place.next.max(end);
                    break;
                }
                Some(QueueEvent::Error { code, text, at, .. }) => {
                    outcome = self.failed(&place, code, &text, at);
                }
                Some(QueueEvent::Log(level, facility, line)) => note(level, &facility, &line),
                Some(_) => {}
                None => break,
            }
        }
        self.place = Some(place);
        outcome.map(|()| records)
    }

    fn position(&mut self) -> Result<NextOffset, LogError> {
        self.place
            .as_ref()
            .map(|place| place.next)
            .ok_or_else(|| LogError::Refused("the reader was not told where to read".into()))
    }
}
