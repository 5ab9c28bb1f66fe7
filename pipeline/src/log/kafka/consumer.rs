//! The consumer of a group member: what it owns, what it is told, what it reads.
//!
//! Invariants: only deltas are assigned and unassigned (trap 12), on the caller's thread (trap
//! 33); an assigned partition is paused until it is started; a partition that is to be handed over
//! stays assigned until it is released; records of partitions that are not running are never
//! yielded, and never lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    topic_partition_list::Offset as RdOffset,
};
use semel_schemas::topic::{NextOffset, Partition, TopicName};

use super::{
    Noting, Shared,
    ffi::{EventQueue, GroupMetadata, QueueEvent, describe_group},
    note,
    settings::client_error,
};
use crate::log::{Event, LogError, MemberSpec};

/// How long a member waits for offsets that an open transaction holds back, before it answers that
/// it does not know: the lane has other tasks.
const STABLE_WAIT: Duration = Duration::from_secs(2);

/// How long a new member waits to hear who owns what.
const DESCRIBE_WAIT: Duration = Duration::from_secs(2);

/// Whether a partition of ours is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Assigned, not started.
    Waiting,
    /// Started.
    Running,
    /// Paused. If a record came all the same, reading goes on there.
    Paused(Option<NextOffset>),
}

/// A consumer that belongs to a group.
pub(super) struct GroupConsumer {
    shared: Arc<Shared>,
    topic: TopicName,
    group: String,
    instance: String,
    /// Whether the group has given us something, if only nothing.
    placed: bool,
    /// Before the consumer, so that it is dropped before.
    queue: EventQueue,
    consumer: BaseConsumer<Noting>,
    owned: BTreeMap<Partition, Reading>,
    /// A revocation that is not answered yet: all its partitions, and those still unreleased.
    revoking: Option<(Vec<Partition>, BTreeSet<Partition>)>,
}

impl GroupConsumer {
    /// Joins the group.
    pub(super) fn subscribe(shared: Arc<Shared>, spec: &MemberSpec) -> Result<Self, LogError> {
        shared.topics.find(&spec.topic)?;
        let config = shared.settings.member(spec);
        let consumer: BaseConsumer<Noting> =
            config.create_with_context(Noting).map_err(|e| client_error(&e))?;
        let queue = EventQueue::of_consumer(consumer.client())
            .ok_or_else(|| LogError::Refused("the Kafka consumer has no queue".into()))?;
        consumer
            .subscribe(&[spec.topic.as_str()])
            .map_err(|e| shared.topics.failed(&format!("to join group `{}`", spec.group), &e))?;
        Ok(Self {
            shared,
            topic: spec.topic.clone(),
            group: spec.group.clone(),
            instance: spec.instance.clone(),
            placed: false,
            queue,
            consumer,
            owned: BTreeMap::new(),
            revoking: None,
        })
    }

    /// Whether a partition is ours (also while it is to be handed over).
    pub(super) fn owns(&self, partition: Partition) -> bool {
        self.owned.contains_key(&partition)
    }

    /// The group's metadata as of now.
    pub(super) fn metadata(&self) -> Option<GroupMetadata> {
        GroupMetadata::read(self.consumer.client())
    }

    /// The topic that is read.
    pub(super) fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// Looks for events and at most `records_max` records, waiting at most `wait` for the first.
    pub(super) fn poll(
        &mut self,
        records_max: usize,
        wait: Duration,
    ) -> Result<Vec<Event>, LogError> {
        let deadline = Instant::now() + wait;
        let mut events = Vec::new();
        let mut records = 0;
        // One event may be a record, which cannot be put back.
        let held = if records_max == 0 { self.hold()? } else { Vec::new() };
        while records_max == 0 || records < records_max {
            let patience = if events.is_empty() {
                deadline.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            let Some(event) = self.queue.poll(&self.topic, patience) else { break };
            match event {
                QueueEvent::Record(record) => match self.owned.get_mut(&record.partition) {
                    Some(Reading::Running) => {
                        records += 1;
                        events.push(Event::Record(record));
                    }
                    Some(Reading::Paused(stray)) => {
                        stray.get_or_insert(NextOffset(record.offset.0));
                    }
                    Some(Reading::Waiting) | None => {}
                },
                QueueEvent::End(partition, _) => {
                    if self.owned.get(&partition) == Some(&Reading::Running) {
                        events.push(Event::End(partition));
                    }
                }
                QueueEvent::Assign(partitions) => {
                    self.assigned(&partitions)?;
                    if !partitions.is_empty() {
                        events.push(Event::Assigned(partitions));
                        break;
                    }
                }
                QueueEvent::Revoke(partitions) => {
                    if let Some(event) = self.revoked(partitions)? {
                        events.push(event);
                        break;
                    }
                }
                QueueEvent::Error { code, text, fatal, at } => {
                    self.failed(code, &text, fatal, at)?;
                }
                QueueEvent::Log(level, facility, line) => note(level, &facility, &line),
                QueueEvent::Other => {}
            }
        }
        self.resume(&held)?;
        Ok(events)
    }

    /// Pauses what runs, so that a poll yields no record; returns what was paused.
    fn hold(&mut self) -> Result<Vec<Partition>, LogError> {
        let running: Vec<_> = self
            .owned
            .iter()
            .filter(|(_, reading)| **reading == Reading::Running)
            .map(|(partition, _)| *partition)
            .collect();
        self.pause(&running)?;
        Ok(running)
    }

    /// `partitions` with the offset of each.
    fn at(&self, places: impl IntoIterator<Item = (Partition, RdOffset)>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in places {
            let number = i32::try_from(partition.0).unwrap_or(i32::MAX);
            // Fails for offsets that cannot be written only; these can.
            let _ = list.add_partition_offset(self.topic.as_str(), number, offset);
        }
        list
    }

    fn list(&self, partitions: &[Partition]) -> TopicPartitionList {
        self.at(partitions.iter().map(|partition| (*partition, RdOffset::Invalid)))
    }

    fn asked(&self, what: &str, answer: Result<(), KafkaError>) -> Result<(), LogError> {
        answer.map_err(|e| self.shared.topics.failed(&format!("{what} `{}`", self.topic), &e))
    }

    /// Takes what the group gives, and pauses it at once.
    fn assigned(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        // At an absolute offset that is certainly in range, and where nothing is. Were it the
        // committed one, a group without one could not start (there is no reset). Were it a logical
        // one (`End`), librdkafka would look it up meanwhile, and an answer that comes after the
        // seek of `start` makes it look again 500 ms later *and go there*: records are skipped
        // (rdkafka_partition.c, "outdated offset response"; seen with 2.12.1).
        let guards = self.shared.settings.guards;
        if !std::mem::replace(&mut self.placed, true) && guards.claim_orphans {
            self.claim_orphans()?;
        }
        let list = self.at(partitions.iter().map(|partition| {
            let end =
                self.shared.topics.bounds(&self.topic, *partition).map_or(0, |(_, end)| end.0);
            let absolute = RdOffset::Offset(i64::try_from(end).unwrap_or(0));
            (*partition, if guards.absolute_start { absolute } else { RdOffset::End })
        }));
        let answer = if guards.cooperative {
            self.consumer.incremental_assign(&list)
        } else {
            self.consumer.assign(&list)
        };
        self.asked("to take partitions of", answer)?;
        if !partitions.is_empty() {
            self.asked("to pause partitions of", self.consumer.pause(&list))?;
        }
        self.owned.extend(partitions.iter().map(|p| (*p, Reading::Waiting)));
        Ok(())
    }

    /// Joins once more if the group rests while a partition is nobody's. A static member that was
    /// killed between handing a partition over and joining again (the second half of a cooperative
    /// rebalance, KIP-429) gets its place back without a rebalance (KIP-345), and the rebalance in
    /// which the partition would have found its owner never comes.
    ///
    /// Only before the first assignment is taken: what is subscribed while the client rebalances
    /// is put off, and applied by joining again (librdkafka's `rkcg_next_subscription`); the
    /// owned partitions that it then tells differ from those of its first join, so that the
    /// broker begins a rebalance. At any other time the same subscription is no news.
    fn claim_orphans(&self) -> Result<(), LogError> {
        let all = self.shared.topics.find(&self.topic)?.partitions;
        let client = self.consumer.client();
        match describe_group(client, &self.group, &self.topic, DESCRIBE_WAIT) {
            Ok(group) if !group.stable => return Ok(()),
            Ok(group) if (0..all).all(|p| group.owned.contains(&Partition(p))) => return Ok(()),
            Ok(group) => tracing::info!(
                target: "semel::kafka", group = self.group, owned = group.owned.len(), all,
                "partitions have no owner: joining once more"
            ),
            // A rebalance too many costs less than a partition that nobody reads.
            Err(e) => tracing::debug!(target: "semel::kafka", "{}: joining once more", e.text),
        }
        self.consumer.subscribe(&[self.topic.as_str()]).map_err(|e| {
            self.shared.topics.failed(&format!("to join group `{}` again", self.group), &e)
        })
    }

    /// Notes what the group wants back; it goes when it is released.
    fn revoked(&mut self, partitions: Vec<Partition>) -> Result<Option<Event>, LogError> {
        let ours: BTreeSet<_> = partitions.iter().copied().filter(|p| self.owns(*p)).collect();
        if ours.is_empty() {
            self.unassign(&partitions)?;
            return Ok(None);
        }
        let told: Vec<_> = ours.iter().copied().collect();
        if !self.shared.settings.guards.hand_over {
            self.owned.retain(|partition, _| !ours.contains(partition));
            self.unassign(&partitions)?;
            return Ok(Some(Event::Revoked(told)));
        }
        self.revoking = Some((partitions, ours));
        let lost = self.consumer.assignment_lost() && self.shared.settings.guards.tell_lost;
        if lost {
            for partition in &told {
                self.owned.insert(*partition, Reading::Waiting);
            }
            return Ok(Some(Event::Lost(told)));
        }
        Ok(Some(Event::Revoked(told)))
    }

    fn unassign(&self, partitions: &[Partition]) -> Result<(), LogError> {
        let answer = if self.shared.settings.guards.cooperative {
            self.consumer.incremental_unassign(&self.list(partitions))
        } else {
            self.consumer.unassign()
        };
        self.asked("to give up partitions of", answer)
    }

    /// Lets partitions go; the group goes on when all that it wanted are released.
    pub(super) fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        let Some((all, mut left)) = self.revoking.take() else { return Ok(()) };
        for partition in partitions {
            if left.remove(partition) {
                self.owned.remove(partition);
            }
        }
        if left.is_empty() {
            return self.unassign(&all);
        }
        self.revoking = Some((all, left));
        Ok(())
    }

    /// Starts a partition of ours at an offset.
    pub(super) fn start(&mut self, partition: Partition, from: NextOffset) -> Result<(), LogError> {
        self.must_own(partition)?;
        if self.shared.settings.guards.no_reset {
            self.shared.topics.check_range(&self.topic, partition, from)?;
        }
        self.seek(partition, from)?;
        let list = self.list(&[partition]);
        self.asked("to resume partitions of", self.consumer.resume(&list))?;
        self.owned.insert(partition, Reading::Running);
        Ok(())
    }

    fn must_own(&self, partition: Partition) -> Result<(), LogError> {
        if self.owns(partition) {
            return Ok(());
        }
        let text = format!("{}/{partition} is not assigned to this member", self.topic);
        Err(LogError::Refused(text))
    }

    /// Seeks; what was fetched for the old position is outdated from here on (trap 14).
    fn seek(&self, partition: Partition, to: NextOffset) -> Result<(), LogError> {
        let deadline = Instant::now() + self.shared.patience;
        let offset = RdOffset::Offset(i64::try_from(to.0).unwrap_or(i64::MAX));
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let asked = self.at([(partition, offset)]);
            let answer = self
                .consumer
                .seek_partitions(asked, left)
                .and_then(|list| list.elements().iter().try_for_each(|element| element.error()));
            match answer {
                // librdkafka has not begun with a partition that was assigned just now.
                Err(e)
                    if matches!(
                        e.rdkafka_error_code(),
                        Some(RDKafkaErrorCode::State | RDKafkaErrorCode::PreviousInProgress)
                    ) && !left.is_zero() =>
                {
                    thread::sleep(Duration::from_millis(1));
                }
                answer => return self.asked("to seek in", answer),
            }
        }
    }

    /// Stops reading without losing the position.
    pub(super) fn pause(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        let mut running = Vec::new();
        for partition in partitions {
            self.must_own(*partition)?;
            if let Some(reading @ Reading::Running) = self.owned.get_mut(partition) {
                *reading = Reading::Paused(None);
                running.push(*partition);
            }
        }
        if running.is_empty() {
            return Ok(());
        }
        let list = self.list(&running);
        self.asked("to pause partitions of", self.consumer.pause(&list))
    }

    /// Goes on reading.
    pub(super) fn resume(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        let mut paused = Vec::new();
        for partition in partitions {
            if let Some(Reading::Paused(stray)) = self.owned.get(partition) {
                if let Some(to) = *stray {
                    self.seek(*partition, to)?;
                }
                self.owned.insert(*partition, Reading::Running);
                paused.push(*partition);
            }
        }
        if paused.is_empty() {
            return Ok(());
        }
        let list = self.list(&paused);
        self.asked("to resume partitions of", self.consumer.resume(&list))
    }

    /// Committed offsets; those held back by an open transaction are waited for, a little.
    pub(super) fn committed(
        &self,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, NextOffset>, LogError> {
        committed(&self.shared, &self.consumer, &self.topic, partitions, STABLE_WAIT)
    }

    /// What an error of the consumer means. What passes by itself is noted and forgotten:
    /// librdkafka reconnects.
    fn failed(
        &self,
        code: RDKafkaErrorCode,
        text: &str,
        fatal: bool,
        at: Option<(Partition, i64)>,
    ) -> Result<(), LogError> {
        use RDKafkaErrorCode as Code;
        let refused = |why: String| Err(LogError::Refused(why));
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange => match at {
                Some((partition, offset))
                    if self.owned.get(&partition) == Some(&Reading::Running) =>
                {
                    let asked = NextOffset(u64::try_from(offset).unwrap_or(0));
                    let (first, end) = self.shared.topics.bounds(&self.topic, partition)?;
                    let topic = self.topic.clone();
                    Err(LogError::OutOfRange { topic, partition, asked, first, end })
                }
                _ => Ok(()),
            },
            Code::UnknownTopic | Code::UnknownTopicOrPartition => {
                Err(LogError::NoTopic(self.topic.clone()))
            }
            Code::FencedInstanceId => Err(LogError::Replaced {
                group: self.group.clone(),
                instance: self.instance.clone(),
            }),
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::InvalidSessionTimeout
            | Code::InconsistentGroupProtocol
            | Code::SaslAuthenticationFailed => {
                refused(format!("Kafka refused to let `{}` read: {text}", self.instance))
            }
            _ if fatal => refused(format!("the consumer of `{}` ended: {text}", self.instance)),
            _ => {
                tracing::debug!(target: "semel::kafka", "{code}: {text}");
                Ok(())
            }
        }
    }

    /// Leaves the group at once. A plain close would keep a static member's partitions for its
    /// whole session (KIP-345, trap 31).
    pub(super) fn leave(mut self) -> Result<(), LogError> {
        if !self.shared.settings.guards.unsubscribe {
            return Ok(());
        }
        if let Some((all, _)) = self.revoking.take() {
            self.unassign(&all)?;
        }
        self.consumer.unsubscribe();
        let deadline = Instant::now() + self.shared.patience;
        loop {
            match self.queue.poll(&self.topic, Duration::from_millis(10)) {
                Some(QueueEvent::Revoke(partitions)) => self.unassign(&partitions)?,
                Some(QueueEvent::Assign(partitions)) => self.assigned(&partitions)?,
                _ => {}
            }
            let assigned = self.consumer.assignment().map_or(0, |list| list.count());
            if assigned == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(LogError::Unavailable(format!(
                    "`{}` could not leave its group in time; the group will notice its absence",
                    self.instance
                )));
            }
        }
    }
}

impl Drop for GroupConsumer {
    /// `BaseConsumer::drop` polls until the group is closed, and answers what it is told; a
    /// revocation that we were told and did not answer would keep it for ever (trap 33).
    fn drop(&mut self) {
        if let Some((all, _)) = self.revoking.take()
            && let Err(e) = self.unassign(&all)
        {
            tracing::debug!(target: "semel::kafka", "{e}");
        }
    }
}

/// The committed offsets of partitions, as `consumer`'s isolation sees them: a read_committed one
/// is told of transactions that hold offsets back (UNSTABLE_OFFSET_COMMIT) and waits.
pub(super) fn committed(
    shared: &Shared,
    consumer: &BaseConsumer<Noting>,
    topic: &TopicName,
    partitions: &[Partition],
    wait: Duration,
) -> Result<BTreeMap<Partition, NextOffset>, LogError> {
    let deadline = Instant::now() + wait;
    let what = format!("the committed offsets of `{topic}`");
    loop {
        let mut asked = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            asked.add_partition(topic.as_str(), i32::try_from(partition.0).unwrap_or(i32::MAX));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = consumer
            .committed_offsets(asked, left.max(Duration::from_millis(10)))
            .and_then(|list| known(&list));
        match answer {
            Ok(found) => return Ok(found),
            Err(e) if passes(&e) && !left.is_zero() => thread::sleep(Duration::from_millis(10)),
            Err(e) => return Err(shared.topics.failed(&what, &e)),
        }
    }
}

/// The offsets in an answer in which every partition was answered.
fn known(list: &TopicPartitionList) -> Result<BTreeMap<Partition, NextOffset>, KafkaError> {
    let mut found = BTreeMap::new();
    for element in list.elements() {
        element.error()?;
        if let RdOffset::Offset(offset) = element.offset() {
            let partition = Partition(u32::try_from(element.partition()).unwrap_or(0));
            found.insert(partition, NextOffset(u64::try_from(offset).unwrap_or(0)));
        }
    }
    Ok(found)
}

/// Will the answer be another one soon?
fn passes(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::UnstableOffsetCommit
                | Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::NotCoordinator
                | Code::WaitingForCoordinator
                | Code::BrokerTransportFailure
        )
    )
}
