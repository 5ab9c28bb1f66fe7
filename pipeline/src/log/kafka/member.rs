//! A member of a group with its producer: what a lane holds.
//!
//! Invariants: every commit carries offsets, of owned partitions only, under group metadata that
//! was read and checked for this very commit (traps 2, 25, 34).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rdkafka::{TopicPartitionList, topic_partition_list::Offset as RdOffset};
use semel_schemas::{
    record::OutRecord,
    topic::{NextOffset, Partition},
};

use super::{
    Shared,
    consumer::GroupConsumer,
    ffi::GroupMetadata,
    producer::TxnProducer,
    settings::{Deadlines, Reports},
};
use crate::log::{Event, LogError, Member, MemberSpec, OutParts, ProduceError, TxnError, TxnFault};

/// A member on Kafka.
pub(super) struct KafkaMember {
    shared: Arc<Shared>,
    /// `None` after [`Member::leave`].
    consumer: Option<GroupConsumer>,
    producer: TxnProducer,
    /// Only with the guard against trap 2 switched off.
    stale: Option<GroupMetadata>,
}

fn fault(fault: TxnFault, text: impl Into<String>) -> TxnError {
    TxnError { fault, text: text.into() }
}

impl KafkaMember {
    /// Joins.
    pub(super) fn join(shared: Arc<Shared>, spec: &MemberSpec) -> Result<Self, LogError> {
        let deadlines = Deadlines::new(spec.transaction_timeout)?;
        let consumer = GroupConsumer::subscribe(Arc::clone(&shared), spec)?;
        let id = spec.instance.clone();
        let producer = TxnProducer::new(Arc::clone(&shared), id, deadlines, Reports::Errors);
        Ok(Self { shared, consumer: Some(consumer), producer, stale: None })
    }

    fn consumer(&mut self) -> Result<&mut GroupConsumer, LogError> {
        self.consumer
            .as_mut()
            .ok_or_else(|| LogError::Refused("the member has left its group: join again".into()))
    }

    /// The group's metadata, if it is such that a broker can fence by it. A generation of −1 or an
    /// empty member id is *accepted* by brokers, whoever owns the partition (trap 34).
    fn checked_metadata(&mut self) -> Result<GroupMetadata, TxnError> {
        let guards = self.shared.settings.guards;
        let consumer = self.consumer().map_err(|e| fault(TxnFault::Fatal, e.to_string()))?;
        let metadata = consumer
            .metadata()
            .ok_or_else(|| fault(TxnFault::Abort, "the consumer has no group"))?;
        let (generation, member) = (metadata.generation(), metadata.member());
        if guards.identity && !can_fence(generation, &member) {
            return Err(fault(
                TxnFault::Abort,
                format!("not a member of the group now (generation {generation})"),
            ));
        }
        if guards.fresh_metadata {
            return Ok(metadata);
        }
        Ok(self.stale.take().unwrap_or(metadata))
    }

    /// The offsets as librdkafka takes them, of partitions that are ours.
    fn offsets(
        &mut self,
        offsets: &[(Partition, NextOffset)],
    ) -> Result<TopicPartitionList, TxnError> {
        let guards = self.shared.settings.guards;
        let consumer = self.consumer().map_err(|e| fault(TxnFault::Fatal, e.to_string()))?;
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, next) in offsets {
            // Brokers fence members, not partitions: fresh metadata of a living member commits
            // for partitions that are another's by now.
            if guards.ownership && !consumer.owns(*partition) {
                return Err(fault(
                    TxnFault::Abort,
                    format!("{}/{partition} is not this member's (any more)", consumer.topic()),
                ));
            }
            let number = i32::try_from(partition.0).unwrap_or(i32::MAX);
            let offset = RdOffset::Offset(i64::try_from(next.0).unwrap_or(i64::MAX));
            list.add_partition_offset(consumer.topic().as_str(), number, offset)
                .map_err(|e| fault(TxnFault::Fatal, e.to_string()))?;
        }
        Ok(list)
    }
}

/// Whether a broker can fence by this metadata.
fn can_fence(generation: i32, member: &str) -> bool {
    generation >= 0 && !member.is_empty()
}

impl Member for KafkaMember {
    fn init(&mut self) -> Result<(), TxnError> {
        self.producer.init()
    }

    fn poll(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Event>, LogError> {
        self.producer.serve();
        self.consumer()?.poll(records_max, wait)
    }

    fn committed(
        &mut self,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, NextOffset>, LogError> {
        self.consumer()?.committed(partitions)
    }

    fn start(&mut self, partition: Partition, from: NextOffset) -> Result<(), LogError> {
        self.consumer()?.start(partition, from)
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.consumer()?.pause(partitions)
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.consumer()?.resume(partitions)
    }

    fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.consumer()?.release(partitions)
    }

    fn produce(&mut self, record: OutRecord) -> Result<(), ProduceError> {
        self.producer.produce(OutParts::of(&record))
    }

    fn produce_parts(&mut self, record: OutParts<'_>) -> Result<(), ProduceError> {
        self.producer.produce(record)
    }

    fn make_room(&mut self) -> Result<(), TxnError> {
        self.producer.make_room()
    }

    fn commit(&mut self, offsets: &[(Partition, NextOffset)]) -> Result<(), TxnError> {
        if offsets.is_empty() && self.shared.settings.guards.refuse_empty {
            return Err(fault(
                TxnFault::Fatal,
                "a commit without offsets is fenced by nothing: send the offset of every task \
                 that was touched",
            ));
        }
        self.producer.prepare()?;
        let list = self.offsets(offsets)?;
        let metadata = self.checked_metadata()?;
        let answer = self.producer.commit(&list, &metadata);
        if !self.shared.settings.guards.fresh_metadata {
            self.stale = Some(metadata);
        }
        answer
    }

    fn abort(&mut self) -> Result<(), TxnError> {
        self.producer.abort()
    }

    fn leave(&mut self) -> Result<(), LogError> {
        // If this fails, whoever initialises the id next ends the transaction.
        if let Err(e) = self.producer.abort() {
            tracing::debug!(target: "semel::kafka", "{e}");
        }
        match self.consumer.take() {
            Some(consumer) => consumer.leave(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::can_fence;

    #[test]
    fn nobody_and_no_generation_are_not_sent() {
        assert!(can_fence(0, "member"));
        assert!(!can_fence(-1, "member"));
        assert!(!can_fence(3, ""));
        assert!(!can_fence(-1, ""));
    }
}
