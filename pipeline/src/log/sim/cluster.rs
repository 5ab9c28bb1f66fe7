//! The cluster: topics, transactional producers and their markers, groups, the clock.
//!
//! A transaction ends in two steps, as in Kafka: its end is *decided* at once, and a marker then
//! goes to each partition that it wrote to and to the offsets of each group that it sent offsets
//! for. Markers are delivered at once, or, when they are held, one by one as the test says
//! (KAFKA-10167).

use std::collections::BTreeMap;

use semel_schemas::{
    partition::partition_for_key,
    record::OutRecord,
    topic::{NextOffset, Offset, Partition, TopicId, TopicName},
};

use super::{
    group::{Group, MemberId, Membership, TopicNo},
    partition::{PartitionLog, TxnId, Verdict},
};
use crate::log::{Cleanup, LogError, TopicInfo, TopicSpec, TxnError, TxnFault};

/// Bytes that key, value and headers of one record may have together: librdkafka's default
/// `message.max.bytes`, a little below the broker's.
pub const RECORD_MAX: usize = 1_000_000;

/// The simulated cluster has as many brokers.
const BROKERS: u16 = 3;

/// A group's number in the cluster.
pub(super) type GroupNo = usize;
/// A transactional id's number in the cluster.
pub(super) type ProducerNo = usize;

/// Where a marker goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkerTarget {
    /// To a partition that the transaction wrote to.
    Partition(TopicName, Partition),
    /// To the offsets of a group.
    Offsets(String),
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Partition(TopicNo, u32),
    Offsets(GroupNo),
}

#[derive(Debug)]
struct Marker {
    producer: ProducerNo,
    txn: TxnId,
    verdict: Verdict,
    place: Place,
}

#[derive(Debug)]
struct Topic {
    name: TopicName,
    id: TopicId,
    cleanup: Cleanup,
    partitions: Vec<PartitionLog>,
    /// Where the next record without a key goes.
    keyless: u32,
}

#[derive(Debug)]
struct Txn {
    id: TxnId,
    began_ms: u64,
    partitions: Vec<(TopicNo, u32)>,
    groups: Vec<GroupNo>,
}

#[derive(Debug, Default)]
struct ProducerState {
    epoch: u32,
    timeout_ms: u64,
    open: Option<Txn>,
    /// Markers of its last transaction that are still on their way.
    undelivered: usize,
}

/// Everything that survives the processes.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    pub(super) now_ms: u64,
    pub(super) membership: Membership,
    /// New members do not look for partitions that are nobody's.
    pub(super) leave_orphans: bool,
    pub(super) holding: bool,
    topics: Vec<Option<Topic>>,
    names: BTreeMap<TopicName, TopicNo>,
    producers: Vec<ProducerState>,
    producer_ids: BTreeMap<String, ProducerNo>,
    groups: Vec<Group>,
    group_names: BTreeMap<String, GroupNo>,
    txns: TxnId,
    members: MemberId,
    held: Vec<Marker>,
    /// Markers that have arrived.
    pub(super) arrivals: u64,
}

/// A transaction call failed.
pub(super) fn fault(fault: TxnFault, text: impl Into<String>) -> TxnError {
    TxnError { fault, text: text.into() }
}

impl Cluster {
    /// Time passes: transactions and members that took too long are given up.
    pub(super) fn advance(&mut self, ms: u64) {
        self.now_ms = self.now_ms.saturating_add(ms);
        for producer in 0..self.producers.len() {
            let state = &mut self.producers[producer];
            let late = |t: &Txn| self.now_ms.saturating_sub(t.began_ms) >= state.timeout_ms;
            if state.open.as_ref().is_some_and(late) {
                // The coordinator aborts under a new epoch, so the producer is fenced.
                state.epoch += 1;
                self.decide(producer, Verdict::Abort);
            }
        }
        let topics = &self.topics;
        let partitions = |no: TopicNo| topics.get(no).map_or(0, |t| count(t.as_ref()));
        for group in &mut self.groups {
            group.pass(self.now_ms, partitions);
        }
    }

    // Topics.

    pub(super) fn topic_no(&self, name: &TopicName) -> Result<TopicNo, LogError> {
        self.names.get(name).copied().ok_or_else(|| LogError::NoTopic(name.clone()))
    }

    /// The log of a partition; `name` is for the error.
    pub(super) fn partition(
        &self,
        topic: TopicNo,
        partition: Partition,
        name: &TopicName,
    ) -> Result<&PartitionLog, LogError> {
        let topic = self.topics.get(topic).and_then(Option::as_ref);
        let topic = topic.ok_or_else(|| LogError::NoTopic(name.clone()))?;
        topic.partitions.get(partition.0 as usize).ok_or_else(|| {
            let last = topic.partitions.len() - 1;
            LogError::Refused(format!(
                "topic `{name}` has no partition {partition}, its last one is {last}"
            ))
        })
    }

    pub(super) fn partition_mut(
        &mut self,
        name: &TopicName,
        partition: Partition,
    ) -> Result<(&mut PartitionLog, Cleanup), LogError> {
        let no = self.topic_no(name)?;
        self.partition(no, partition, name)?;
        let topic = self.topics[no].as_mut().ok_or_else(|| LogError::NoTopic(name.clone()))?;
        Ok((&mut topic.partitions[partition.0 as usize], topic.cleanup))
    }

    pub(super) fn partitions(&self, topic: TopicNo) -> u32 {
        count(self.topics.get(topic).and_then(Option::as_ref))
    }

    pub(super) fn info(&self, name: &TopicName) -> Option<TopicInfo> {
        let topic = self.topics[*self.names.get(name)?].as_ref()?;
        let id = topic.id.clone();
        Some(TopicInfo { id, partitions: count(Some(topic)), cleanup: topic.cleanup })
    }

    pub(super) fn names(&self) -> Vec<TopicName> {
        self.names.keys().cloned().collect()
    }

    pub(super) fn create(&mut self, spec: &TopicSpec) -> Result<TopicInfo, LogError> {
        if spec.partitions == 0 {
            return Err(LogError::Refused(format!(
                "topic `{}` needs at least one partition",
                spec.name
            )));
        }
        if spec.replication.is_some_and(|copies| copies == 0 || copies > BROKERS) {
            return Err(LogError::Refused(format!(
                "topic `{}` cannot have {} copies on {BROKERS} brokers",
                spec.name,
                spec.replication.unwrap_or_default()
            )));
        }
        if let Some(found) = self.info(&spec.name) {
            if (found.partitions, found.cleanup) == (spec.partitions, spec.cleanup) {
                return Ok(found);
            }
            let settings = |partitions, cleanup| format!("{partitions} partitions and {cleanup:?}");
            return Err(LogError::TopicDiffers {
                topic: spec.name.clone(),
                found: settings(found.partitions, found.cleanup),
                wanted: settings(spec.partitions, spec.cleanup),
            });
        }
        let no = self.topics.len();
        let id = TopicId(format!("sim-{no:08}"));
        self.topics.push(Some(Topic {
            name: spec.name.clone(),
            id: id.clone(),
            cleanup: spec.cleanup,
            partitions: (0..spec.partitions).map(|_| PartitionLog::default()).collect(),
            keyless: 0,
        }));
        self.names.insert(spec.name.clone(), no);
        Ok(TopicInfo { id, partitions: spec.partitions, cleanup: spec.cleanup })
    }

    pub(super) fn delete(&mut self, name: &TopicName) -> Result<(), LogError> {
        let no = self.topic_no(name)?;
        self.names.remove(name);
        self.topics[no] = None;
        for group in &mut self.groups {
            group.forget(no);
        }
        Ok(())
    }

    /// Retention strikes everywhere, by the records' age.
    pub(super) fn expire_old(&mut self) {
        for topic in self.topics.iter_mut().flatten() {
            if let Cleanup::Delete { retention_ms: Some(kept) } = topic.cleanup {
                for log in &mut topic.partitions {
                    log.expire_older(self.now_ms.saturating_sub(kept));
                }
            }
        }
    }

    // Groups.

    pub(super) fn group_no(&mut self, name: &str) -> GroupNo {
        if let Some(&no) = self.group_names.get(name) {
            return no;
        }
        self.groups.push(Group::new(self.now_ms));
        self.group_names.insert(name.to_owned(), self.groups.len() - 1);
        self.groups.len() - 1
    }

    pub(super) fn known_group(&self, name: &str) -> Option<&Group> {
        self.group_names.get(name).map(|&no| &self.groups[no])
    }

    pub(super) fn group(&mut self, no: GroupNo) -> &mut Group {
        &mut self.groups[no]
    }

    pub(super) fn new_member(&mut self) -> MemberId {
        self.members += 1;
        self.members
    }

    // Producers.

    /// Initialises a transactional id: fences its bearer, ends its open transaction.
    pub(super) fn init(
        &mut self,
        id: &str,
        timeout_ms: u64,
    ) -> Result<(ProducerNo, u32), TxnError> {
        let no = self.producer_ids.get(id).copied().unwrap_or_else(|| {
            self.producers.push(ProducerState::default());
            self.producer_ids.insert(id.to_owned(), self.producers.len() - 1);
            self.producers.len() - 1
        });
        self.producers[no].epoch += 1;
        self.producers[no].timeout_ms = timeout_ms;
        self.decide(no, Verdict::Abort);
        self.settled(no)?;
        Ok((no, self.producers[no].epoch))
    }

    /// Whether the markers of the producer's last transaction have all arrived: before that it
    /// can neither be initialised nor begin another one (`CONCURRENT_TRANSACTIONS`).
    fn settled(&self, producer: ProducerNo) -> Result<(), TxnError> {
        match self.producers[producer].undelivered {
            0 => Ok(()),
            n => Err(fault(
                TxnFault::Retry,
                format!("{n} markers of the last transaction are still on their way: try again"),
            )),
        }
    }

    fn fenced(&self, producer: ProducerNo, epoch: u32) -> Result<(), TxnError> {
        if self.producers[producer].epoch == epoch {
            return Ok(());
        }
        Err(fault(
            TxnFault::Rebuild,
            "the producer is fenced: another one bears its transactional id, or its transaction \
             timed out",
        ))
    }

    fn open(&mut self, producer: ProducerNo, epoch: u32) -> Result<&mut Txn, TxnError> {
        self.fenced(producer, epoch)?;
        self.settled(producer)?;
        let (txns, now_ms) = (&mut self.txns, self.now_ms);
        Ok(self.producers[producer].open.get_or_insert_with(|| {
            *txns += 1;
            Txn { id: *txns, began_ms: now_ms, partitions: Vec::new(), groups: Vec::new() }
        }))
    }

    /// Where a record goes, if it can be written at all.
    fn place(&mut self, record: &OutRecord) -> Result<(TopicNo, u32), LogError> {
        let no = self.topic_no(&record.topic)?;
        let topic = self.topics[no].as_mut().ok_or(LogError::NoTopic(record.topic.clone()))?;
        if record.key.is_none() && matches!(topic.cleanup, Cleanup::Compact { .. }) {
            return Err(LogError::Refused(format!(
                "topic `{}` is compacted: a record without a key cannot be written to it",
                topic.name
            )));
        }
        let partitions = count(Some(topic));
        let partition = match (record.partition, &record.key) {
            (Some(given), _) => given.0,
            (None, Some(key)) => partition_for_key(key, partitions).0,
            (None, None) => {
                topic.keyless = (topic.keyless + 1) % partitions;
                topic.keyless
            }
        };
        self.partition(no, Partition(partition), &record.topic)?;
        Ok((no, partition))
    }

    fn put(&mut self, txn: TxnId, (topic, partition): (TopicNo, u32), record: OutRecord) -> u64 {
        let now_ms = self.now_ms;
        let log = self.topics[topic].as_mut().map(|t| &mut t.partitions[partition as usize]);
        log.map_or(0, |log| log.write(txn, record, now_ms))
    }

    /// Writes a record in the producer's transaction, which begins with it if none is open.
    pub(super) fn produce(
        &mut self,
        producer: ProducerNo,
        epoch: u32,
        record: OutRecord,
    ) -> Result<(), TxnError> {
        self.fenced(producer, epoch)?;
        self.settled(producer)?;
        let place = self.place(&record).map_err(|e| fault(TxnFault::Abort, e.to_string()))?;
        let txn = self.open(producer, epoch)?;
        if !txn.partitions.contains(&place) {
            txn.partitions.push(place);
        }
        let id = txn.id;
        self.put(id, place, record);
        Ok(())
    }

    /// Sends offsets in the producer's transaction. `admit` is the group's check of the sender.
    pub(super) fn send_offsets(
        &mut self,
        (producer, epoch): (ProducerNo, u32),
        (group, topic): (GroupNo, TopicNo),
        offsets: &[(u32, NextOffset)],
        admit: impl FnOnce(&Group) -> Result<(), TxnError>,
    ) -> Result<(), TxnError> {
        self.fenced(producer, epoch)?;
        self.settled(producer)?;
        admit(&self.groups[group])?;
        let txn = self.open(producer, epoch)?;
        if !txn.groups.contains(&group) {
            txn.groups.push(group);
        }
        let id = txn.id;
        self.groups[group].pend(id, topic, offsets);
        Ok(())
    }

    /// Ends the producer's transaction, if one is open.
    pub(super) fn end(
        &mut self,
        producer: ProducerNo,
        epoch: u32,
        verdict: Verdict,
    ) -> Result<(), TxnError> {
        self.fenced(producer, epoch)?;
        self.decide(producer, verdict);
        Ok(())
    }

    fn decide(&mut self, producer: ProducerNo, verdict: Verdict) {
        let Some(txn) = self.producers[producer].open.take() else { return };
        let partitions = txn.partitions.into_iter().map(|(t, p)| Place::Partition(t, p));
        let places = partitions.chain(txn.groups.into_iter().map(Place::Offsets));
        for place in places {
            if self.holding {
                self.producers[producer].undelivered += 1;
                self.held.push(Marker { producer, txn: txn.id, verdict, place });
            } else {
                self.arrive(txn.id, verdict, place);
            }
        }
    }

    fn arrive(&mut self, txn: TxnId, verdict: Verdict, place: Place) {
        self.arrivals += 1;
        match place {
            Place::Partition(topic, partition) => {
                if let Some(topic) = self.topics[topic].as_mut() {
                    topic.partitions[partition as usize].mark(txn, verdict, self.now_ms);
                }
            }
            Place::Offsets(group) => self.groups[group].mark(txn, verdict),
        }
    }

    /// Whether something is decided and not visible.
    pub(super) fn hides(&self) -> bool {
        let topics = self.topics.iter().flatten();
        !self.held.is_empty() || topics.flat_map(|t| &t.partitions).any(PartitionLog::hides)
    }

    /// Where the markers that are held would go, in the order in which they were decided.
    pub(super) fn held(&self) -> Vec<MarkerTarget> {
        let target = |marker: &Marker| match marker.place {
            Place::Partition(topic, partition) => self.topics[topic]
                .as_ref()
                .map(|t| MarkerTarget::Partition(t.name.clone(), Partition(partition))),
            Place::Offsets(group) => self
                .group_names
                .iter()
                .find(|(_, no)| **no == group)
                .map(|(name, _)| MarkerTarget::Offsets(name.clone())),
        };
        self.held.iter().filter_map(target).collect()
    }

    /// Delivers the `at`-th of the held markers; `false` if there are not as many.
    pub(super) fn deliver(&mut self, at: usize) -> bool {
        if at >= self.held.len() {
            return false;
        }
        let marker = self.held.remove(at);
        self.producers[marker.producer].undelivered -= 1;
        self.arrive(marker.txn, marker.verdict, marker.place);
        true
    }

    /// Delivers the oldest marker on its way of this producer's last transaction, if there is one.
    pub(super) fn deliver_of(&mut self, producer: ProducerNo) {
        if let Some(at) = self.held.iter().position(|marker| marker.producer == producer) {
            self.deliver(at);
        }
    }

    /// Writes records in one transaction under an id of its own, whose markers are never held:
    /// the answer to an append is that readers can see it.
    pub(super) fn append(
        &mut self,
        records: Vec<OutRecord>,
    ) -> Result<Vec<(Partition, Offset)>, LogError> {
        let mut places = Vec::with_capacity(records.len());
        for record in &records {
            if record.size() > RECORD_MAX {
                return Err(LogError::Refused(format!(
                    "a record of {} bytes for topic `{}` exceeds the limit of {RECORD_MAX} bytes",
                    record.size(),
                    record.topic
                )));
            }
            places.push(self.place(record)?);
        }
        self.txns += 1;
        let txn = self.txns;
        let mut written = Vec::with_capacity(records.len());
        for (&place, record) in places.iter().zip(records) {
            written.push((Partition(place.1), Offset(self.put(txn, place, record))));
        }
        // A second marker for the same partition finds nothing open, and is none.
        for &(topic, partition) in &places {
            self.arrive(txn, Verdict::Commit, Place::Partition(topic, partition));
        }
        Ok(written)
    }
}

fn count(topic: Option<&Topic>) -> u32 {
    topic.map_or(0, |t| u32::try_from(t.partitions.len()).unwrap_or(u32::MAX))
}
