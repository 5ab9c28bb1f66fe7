//! A member of a group, as its process knows it: what it believes to own may be another's already.
//!
//! A dropped member says nothing to anyone, as a killed process does: its transaction stays open
//! until its timeout or the next `init`, its partitions are held until its session ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use semel_schemas::{
    record::OutRecord,
    sabotage::{Sabotage, sabotaged},
    topic::{NextOffset, Partition},
};

use super::{
    Generations, Shared,
    cluster::{Cluster, GroupNo, ProducerNo, fault},
    group::{MemberId, Membership, Stranger, TopicNo},
    millis,
    producer::Producer,
};
use crate::log::{
    Event, Isolation, LogError, Member, MemberSpec, OutParts, ProduceError, TxnError, TxnFault,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Assigned, not started.
    Waiting,
    Running,
    Paused,
    /// To be handed over: nothing is read any more.
    Revoked,
}

#[derive(Debug)]
struct Owned {
    state: State,
    position: u64,
    /// The end that was last told.
    told: Option<u64>,
}

/// One member with its producer.
#[derive(Debug)]
pub struct SimMember {
    shared: Shared,
    spec: MemberSpec,
    instance: Option<String>,
    topic: TopicNo,
    group: GroupNo,
    id: Option<MemberId>,
    /// The generation it has heard of.
    generation: u32,
    owned: BTreeMap<u32, Owned>,
    /// Lost, and not yet released: it joins again after that.
    lost: BTreeSet<u32>,
    /// The partition that a poll looks at first, so that none starves.
    turn: u32,
    gone: bool,
    producer: Producer,
}

impl SimMember {
    pub(super) fn new(shared: Shared, spec: &MemberSpec) -> Result<Self, LogError> {
        let mut cluster = shared.lock();
        let topic = cluster.topic_no(&spec.topic)?;
        let group = cluster.group_no(&spec.group);
        let instance = match cluster.membership {
            Membership::Static => Some(spec.instance.clone()),
            Membership::Dynamic => None,
        };
        drop(cluster);
        Ok(Self {
            shared,
            spec: spec.clone(),
            instance,
            topic,
            group,
            id: None,
            generation: 0,
            owned: BTreeMap::new(),
            lost: BTreeSet::new(),
            turn: 0,
            gone: false,
            producer: Producer::default(),
        })
    }

    fn check_here(&self) -> Result<(), LogError> {
        if self.gone {
            return Err(LogError::Refused(format!(
                "member `{}` has left group `{}`: join again",
                self.spec.instance, self.spec.group
            )));
        }
        Ok(())
    }

    fn not_ours(&self, partition: Partition) -> LogError {
        LogError::Refused(format!(
            "member `{}` does not own {}/{partition}",
            self.spec.instance, self.spec.topic
        ))
    }

    /// Talks to the coordinator: joins, hears of losses, revocations and assignments.
    fn meet(&mut self, cluster: &mut Cluster, events: &mut Vec<Event>) -> Result<(), LogError> {
        let now_ms = cluster.now_ms;
        if let Some(id) = self.id {
            match cluster.group(self.group).check(id, self.instance.as_deref(), None) {
                Ok(()) => {}
                Err(Stranger::Fenced) => return Err(self.replaced()),
                Err(Stranger::Unknown | Stranger::Generation) => {
                    self.id = None;
                    self.lost.extend(std::mem::take(&mut self.owned).into_keys());
                    if !self.lost.is_empty() {
                        events.push(Event::Lost(named(self.lost.iter().copied())));
                    }
                }
            }
        }
        if self.id.is_none() {
            if !self.lost.is_empty() {
                return Ok(());
            }
            let id = cluster.new_member();
            let topic = (self.topic, cluster.partitions(self.topic));
            let session_ms = millis(self.spec.session_timeout);
            let instance = self.instance.as_deref();
            cluster.group(self.group).join(id, instance, topic, session_ms, now_ms);
            if !cluster.leave_orphans {
                cluster.group(self.group).claim_orphans(topic.0, topic.1);
            }
            self.id = Some(id);
        }
        let group = cluster.group(self.group);
        let news = group.heartbeat(self.id.unwrap_or_default(), now_ms);
        self.generation = group.generation();
        let mut revoked = Vec::new();
        for partition in news.revoked {
            if let Some(owned) = self.owned.get_mut(&partition)
                && owned.state != State::Revoked
            {
                owned.state = State::Revoked;
                revoked.push(partition);
            }
        }
        if !revoked.is_empty() {
            events.push(Event::Revoked(named(revoked)));
        }
        for &partition in &news.assigned {
            self.owned.insert(partition, Owned { state: State::Waiting, position: 0, told: None });
        }
        if !news.assigned.is_empty() {
            events.push(Event::Assigned(named(news.assigned)));
        }
        Ok(())
    }

    fn replaced(&self) -> LogError {
        LogError::Replaced { group: self.spec.group.clone(), instance: self.spec.instance.clone() }
    }

    fn fetch(
        &mut self,
        cluster: &Cluster,
        mut left: usize,
        events: &mut Vec<Event>,
    ) -> Result<(), LogError> {
        let turn = self.turn;
        let (before, after): (Vec<_>, Vec<_>) = self
            .owned
            .iter_mut()
            .filter(|(_, owned)| owned.state == State::Running)
            .partition(|(p, _)| **p < turn);
        for (&number, owned) in after.into_iter().chain(before) {
            let partition = Partition(number);
            let name = &self.spec.topic;
            let log = cluster.partition(self.topic, partition, name)?;
            if owned.position < log.first() {
                return Err(LogError::OutOfRange {
                    topic: name.clone(),
                    partition,
                    asked: NextOffset(owned.position),
                    first: NextOffset(log.first()),
                    end: NextOffset(log.end()),
                });
            }
            let known = events.len();
            let committed = Isolation::Committed;
            owned.position = log.read((name, partition), owned.position, committed, left, |r| {
                events.push(Event::Record(r));
            });
            left -= events.len() - known;
            let stable = log.stable();
            if owned.position >= stable && owned.told != Some(stable) {
                owned.told = Some(stable);
                events.push(Event::End(partition));
            }
            self.turn = number + 1;
        }
        Ok(())
    }

    fn set(&mut self, partitions: &[Partition], from: State, to: State) -> Result<(), LogError> {
        self.check_here()?;
        for partition in partitions {
            let owned = self.owned.get_mut(&partition.0);
            match owned {
                None => return Err(self.not_ours(*partition)),
                Some(owned) if owned.state == from => owned.state = to,
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// What the member itself refuses before it asks anyone: Kafka checks no ownership.
    fn check_offsets(&self, offsets: &[(Partition, NextOffset)]) -> Result<(), TxnError> {
        if offsets.is_empty() {
            return Err(fault(
                TxnFault::Fatal,
                "a commit without offsets is fenced by nothing: give the next offset of every task \
                 it touched",
            ));
        }
        match offsets.iter().find(|(p, _)| !self.owned.contains_key(&p.0)) {
            None => Ok(()),
            Some((p, _)) => Err(fault(TxnFault::Abort, self.not_ours(*p).to_string())),
        }
    }

    fn send(
        &self,
        cluster: &mut Cluster,
        offsets: &[(Partition, NextOffset)],
    ) -> Result<(), TxnError> {
        let session = self.producer.session()?;
        let offsets: Vec<_> = offsets.iter().map(|&(p, next)| (p.0, next)).collect();
        let generation = match self.shared.generations() {
            // The client's own thread follows rebalances; only a member that was given up is late.
            Generations::Followed => None,
            Generations::AtPoll => Some(self.generation),
        };
        cluster.send_offsets(session, (self.group, self.topic), &offsets, |group| {
            if sabotaged(Sabotage::OffsetsOfNoGeneration) {
                return Ok(());
            }
            let id = self.id.unwrap_or_default();
            group.check(id, self.instance.as_deref(), generation).map_err(|stranger| {
                let text = match stranger {
                    Stranger::Unknown => "the group has given this member up",
                    Stranger::Fenced => "another process joined as this instance",
                    Stranger::Generation => "the group has a newer generation",
                };
                fault(TxnFault::Abort, format!("{text}: its offsets are refused"))
            })
        })
    }
}

/// A commit whose last request is still on its way (Kafka trap 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateCommit {
    pub(super) producer: ProducerNo,
    pub(super) epoch: u32,
}

impl SimMember {
    /// The oldest marker on its way of this member's last transaction arrives: a producer that may
    /// not begin another one waits for just that, and for nobody else's.
    pub fn deliver_own(&self) {
        if let Ok((producer, _)) = self.producer.session() {
            self.shared.lock().deliver_of(producer);
        }
    }

    /// As [`Member::commit`], but the request that ends the transaction is on its way until
    /// [`super::SimLog::deliver_late`]; the caller hears nothing of it. The transaction stays open
    /// meanwhile.
    ///
    /// # Errors
    /// [`TxnError`] as for a commit.
    pub fn commit_late(
        &mut self,
        offsets: &[(Partition, NextOffset)],
    ) -> Result<LateCommit, TxnError> {
        self.check_offsets(offsets)?;
        let shared = self.shared.clone();
        let sent = self.send(&mut shared.lock(), offsets);
        self.producer.note(sent)?;
        let (producer, epoch) = self.producer.session()?;
        Ok(LateCommit { producer, epoch })
    }
}

fn named(partitions: impl IntoIterator<Item = u32>) -> Vec<Partition> {
    partitions.into_iter().map(Partition).collect()
}

impl Member for SimMember {
    fn init(&mut self) -> Result<(), TxnError> {
        self.check_here().map_err(|e| fault(TxnFault::Fatal, e.to_string()))?;
        let timeout_ms = millis(self.spec.transaction_timeout);
        self.producer.init(&mut self.shared.lock(), &self.spec.instance, timeout_ms)
    }

    fn poll(&mut self, records_max: usize, _wait: Duration) -> Result<Vec<Event>, LogError> {
        self.check_here()?;
        let shared = self.shared.clone();
        let mut cluster = shared.lock();
        let mut events = Vec::new();
        self.meet(&mut cluster, &mut events)?;
        self.fetch(&cluster, records_max, &mut events)?;
        Ok(events)
    }

    fn committed(
        &mut self,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, NextOffset>, LogError> {
        self.check_here()?;
        let mut cluster = self.shared.lock();
        let group = cluster.group(self.group);
        let mut found = BTreeMap::new();
        for &partition in partitions {
            if group.unstable(self.topic, partition.0) {
                return Err(LogError::Unavailable(format!(
                    "the offset of group `{}` for {}/{partition} is part of a transaction that is \
                     not decided yet: ask again",
                    self.spec.group, self.spec.topic
                )));
            }
            if let Some(next) = group.offset(self.topic, partition.0) {
                found.insert(partition, next);
            }
        }
        Ok(found)
    }

    fn start(&mut self, partition: Partition, from: NextOffset) -> Result<(), LogError> {
        self.check_here()?;
        let refused = self.not_ours(partition);
        let name = &self.spec.topic;
        let Some(owned) = self.owned.get_mut(&partition.0) else { return Err(refused) };
        let cluster = self.shared.lock();
        let log = cluster.partition(self.topic, partition, name)?;
        super::in_range(log, (name, partition), from)?;
        if owned.state != State::Revoked {
            *owned = Owned { state: State::Running, position: from.0, told: None };
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.set(partitions, State::Running, State::Paused)
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.set(partitions, State::Paused, State::Running)
    }

    fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.check_here()?;
        let numbers: Vec<u32> = partitions.iter().map(|p| p.0).collect();
        for number in &numbers {
            self.lost.remove(number);
            self.owned.remove(number);
        }
        if let Some(id) = self.id {
            self.shared.lock().group(self.group).release(id, &numbers);
        }
        Ok(())
    }

    fn produce(&mut self, record: OutRecord) -> Result<(), ProduceError> {
        self.producer.produce(&mut self.shared.lock(), record)
    }

    fn produce_parts(&mut self, record: OutParts<'_>) -> Result<(), ProduceError> {
        self.produce(record.to_owned())
    }

    fn make_room(&mut self) -> Result<(), TxnError> {
        Ok(())
    }

    fn commit(&mut self, offsets: &[(Partition, NextOffset)]) -> Result<(), TxnError> {
        let shared = self.shared.clone();
        let mut cluster = shared.lock();
        if offsets.is_empty() {
            if sabotaged(Sabotage::CommitWithoutOffsets) {
                return self.producer.commit(&mut cluster);
            }
            return self.check_offsets(offsets);
        }
        let sent = self
            .producer
            .session()
            .and_then(|_| self.check_offsets(offsets))
            .and_then(|()| self.send(&mut cluster, offsets));
        self.producer.note(sent)?;
        self.producer.commit(&mut cluster)
    }

    fn abort(&mut self) -> Result<(), TxnError> {
        self.producer.abort(&mut self.shared.lock())
    }

    fn leave(&mut self) -> Result<(), LogError> {
        self.check_here()?;
        self.gone = true;
        self.owned.clear();
        let mut cluster = self.shared.lock();
        // A fenced producer has nothing of its own to abort, and leaves all the same.
        let _ = self.producer.abort(&mut cluster);
        if let Some(id) = self.id.take() {
            let (partitions, now_ms) = (cluster.partitions(self.topic), cluster.now_ms);
            cluster.group(self.group).leave(id, partitions, now_ms);
        }
        Ok(())
    }
}
