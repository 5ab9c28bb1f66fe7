//! Between a process and everything outside it: every call to the log, to the local stores and to
//! the ports of effects and databases goes through here, and may be the process's last one, stand
//! still while the others go on, fail, or lose its answer.
//!
//! Lives here: the calls; `fate` what can happen to one. May not live here: when it happens (the
//! schedule says so) and what the world looks like meanwhile. Invariants: a process that dies says
//! nothing to anyone any more: the stack is unwound from the very call, and nothing between there and
//! the world's loop may catch it; an injected fault tells the truth: what is answered with `Retry` or
//! `Abort` did not happen.

mod fate;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use semel_schemas::{
    record::OutRecord,
    topic::{NextOffset, Offset, Partition, TopicName},
};

pub use self::fate::Armed;
use self::fate::injected;
pub(super) use self::fate::{AWAY, CALLS, CARRIES, Call, Carries, Crashed, Fate, What, When};
use super::world;
use crate::{
    engine::{
        effects::{Done, EffectPort, Job},
        lane::Stores,
        sink_lane::{SinkAnswer, SinkAsk, SinkPort},
    },
    log::{
        Event, Isolation, Log, LogError, Member, MemberSpec, OutParts, ProduceError, Reader,
        TopicInfo, TopicSpec, TxnError, TxnFault,
        sim::{SimLog, SimMember},
    },
    state::{Checkpoint, Pairs, StoreError, TaskStore},
};

/// The log as one process sees it.
#[derive(Clone, Debug)]
pub(super) struct TapLog {
    pub(super) log: SimLog,
    pub(super) fate: Fate,
}

impl Log for TapLog {
    fn describe(&self) -> String {
        self.log.describe()
    }
    fn topic(&self, name: &TopicName) -> Result<Option<TopicInfo>, LogError> {
        self.fate.logged(Call::Topic, || self.log.topic(name))
    }
    fn topics(&self) -> Result<Vec<TopicName>, LogError> {
        self.log.topics()
    }
    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, LogError> {
        self.log.create_topic(spec)
    }
    fn join(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, LogError> {
        let member = self.fate.logged(Call::Join, || self.log.member(spec))?;
        let (log, fate) = (self.log.clone(), self.fate.clone());
        Ok(Box::new(TapMember { member, log, fate, carried: BTreeSet::new() }))
    }
    fn reader(&self, isolation: Isolation) -> Result<Box<dyn Reader>, LogError> {
        let reader = self.log.reader(isolation)?;
        Ok(Box::new(TapReader { reader, fate: self.fate.clone() }))
    }
    fn committed(
        &self,
        group: &str,
        topic: &TopicName,
    ) -> Result<BTreeMap<Partition, NextOffset>, LogError> {
        self.log.committed(group, topic)
    }
    fn append(&self, records: Vec<OutRecord>) -> Result<Vec<(Partition, Offset)>, LogError> {
        self.log.append(records)
    }
    fn fence(&self, instance: &str) -> Result<(), LogError> {
        self.fate.logged(Call::Fence, || self.log.fence(instance))
    }
}

struct TapMember {
    member: SimMember,
    log: SimLog,
    fate: Fate,
    /// What the present transaction has in it.
    carried: BTreeSet<Carries>,
}

impl TapMember {
    fn transactional(
        &mut self,
        call: Call,
        make: impl FnOnce(&mut SimMember) -> Result<(), TxnError>,
    ) -> Result<(), TxnError> {
        if let Some(What::Fault(fault)) = self.fate.at(call, When::Before) {
            return Err(injected(fault, call));
        }
        let answer = make(&mut self.member);
        match self.fate.at(call, When::After) {
            // After the call nothing is known, whatever was drawn.
            Some(What::Fault(_)) => answer.and(Err(injected(TxnFault::Unknown, call))),
            _ => answer,
        }
    }
}

impl Member for TapMember {
    fn init(&mut self) -> Result<(), TxnError> {
        self.transactional(Call::Init, Member::init)
    }
    fn poll(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Event>, LogError> {
        let member = &mut self.member;
        self.fate.logged(Call::Poll, || member.poll(records_max, wait))
    }
    fn committed(
        &mut self,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, NextOffset>, LogError> {
        let member = &mut self.member;
        self.fate.logged(Call::Committed, || member.committed(partitions))
    }
    fn start(&mut self, partition: Partition, from: NextOffset) -> Result<(), LogError> {
        let member = &mut self.member;
        self.fate.plain(Call::Start, || member.start(partition, from))
    }
    fn pause(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        let member = &mut self.member;
        self.fate.plain(Call::Pause, || member.pause(partitions))
    }
    fn resume(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        let member = &mut self.member;
        self.fate.plain(Call::Pause, || member.resume(partitions))
    }
    fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        let member = &mut self.member;
        self.fate.plain(Call::Release, || member.release(partitions))
    }
    fn produce(&mut self, record: OutRecord) -> Result<(), ProduceError> {
        if self.fate.at(Call::Produce, When::Before).is_some() {
            return Err(ProduceError::Full);
        }
        self.carried.extend(Carries::of(&record));
        let answer = self.member.produce(record);
        self.fate.at(Call::Produce, When::After);
        answer
    }

    fn produce_parts(&mut self, record: OutParts<'_>) -> Result<(), ProduceError> {
        self.produce(record.to_owned())
    }
    fn make_room(&mut self) -> Result<(), TxnError> {
        // While a producer waits, what holds it up arrives.
        self.member.deliver_own();
        self.member.make_room()
    }
    fn commit(&mut self, offsets: &[(Partition, NextOffset)]) -> Result<(), TxnError> {
        let carried = std::mem::take(&mut self.carried);
        match self.fate.at_carrying(Call::Commit, When::Before, &carried) {
            Some(What::Fault(fault)) => return Err(injected(fault, Call::Commit)),
            Some(What::Late(ms)) => {
                let late = self.member.commit_late(offsets)?;
                world::deliver_later(&self.log, late, ms);
                return Err(injected(TxnFault::Unknown, Call::Commit));
            }
            _ => {}
        }
        let answer = self.member.commit(offsets);
        match self.fate.at_carrying(Call::Commit, When::After, &carried) {
            Some(What::Fault(_)) => answer.and(Err(injected(TxnFault::Unknown, Call::Commit))),
            _ => answer,
        }
    }
    fn abort(&mut self) -> Result<(), TxnError> {
        self.carried.clear();
        self.transactional(Call::Abort, Member::abort)
    }
    fn leave(&mut self) -> Result<(), LogError> {
        let member = &mut self.member;
        self.fate.plain(Call::Leave, || member.leave())
    }
}

struct TapReader {
    reader: Box<dyn Reader>,
    fate: Fate,
}

impl Reader for TapReader {
    fn seek(
        &mut self,
        topic: &TopicName,
        partition: Partition,
        from: NextOffset,
    ) -> Result<(), LogError> {
        let reader = &mut self.reader;
        self.fate.logged(Call::Seek, || reader.seek(topic, partition, from))
    }
    fn bounds(
        &mut self,
        topic: &TopicName,
        partition: Partition,
    ) -> Result<(NextOffset, NextOffset), LogError> {
        let reader = &mut self.reader;
        self.fate.logged(Call::Bounds, || reader.bounds(topic, partition))
    }
    fn read(
        &mut self,
        records_max: usize,
        wait: Duration,
    ) -> Result<Vec<semel_schemas::record::Record>, LogError> {
        let reader = &mut self.reader;
        // Small slices, so that a restore has a middle in which it can be interrupted.
        self.fate.logged(Call::Read, || reader.read(records_max.min(RESTORE_SLICE), wait))
    }
    fn position(&mut self) -> Result<NextOffset, LogError> {
        self.reader.position()
    }
}

/// Records that one read of a restore gets at most.
const RESTORE_SLICE: usize = 16;

/// Local stores of one process.
#[derive(Clone, Debug)]
pub(super) struct TapStores<S> {
    pub(super) stores: S,
    pub(super) fate: Fate,
}

impl<S: Stores> Stores for TapStores<S> {
    fn open(&self, stage: &str, partition: Partition) -> Result<Box<dyn TaskStore>, StoreError> {
        let store = self.stores.open(stage, partition)?;
        Ok(Box::new(TapStore { store, fate: self.fate.clone() }))
    }

    fn held_max(&self) -> usize {
        self.stores.held_max()
    }
}

struct TapStore {
    store: Box<dyn TaskStore>,
    fate: Fate,
}

impl TaskStore for TapStore {
    // Reads happen within the step of an operator, which catches what unwinds: no process dies here.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(key)
    }
    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Pairs, StoreError> {
        self.store.scan(prefix, from, limit)
    }
    fn promote(
        &mut self,
        writes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>,
        meta: &Checkpoint,
    ) -> Result<(), StoreError> {
        let store = &mut self.store;
        self.fate.stored(Call::Promote, || store.promote(writes, meta))
    }
    fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.store.checkpoint()
    }
    fn wipe(&mut self) -> Result<(), StoreError> {
        let store = &mut self.store;
        self.fate.stored(Call::Wipe, || store.wipe())
    }
}

/// A port of one lane, of either kind.
#[derive(Debug)]
pub(super) struct TapPort<P> {
    pub(super) port: P,
    pub(super) fate: Fate,
}

impl<P: EffectPort> EffectPort for TapPort<P> {
    fn dispatch(&mut self, job: Job) -> bool {
        let port = &mut self.port;
        self.fate.plain(Call::Dispatch, || port.dispatch(job))
    }
    fn outcomes(&mut self) -> Vec<Done> {
        let port = &mut self.port;
        self.fate.plain(Call::Outcomes, || port.outcomes())
    }
}

impl<P: SinkPort> SinkPort for TapPort<P> {
    fn ask(&mut self, partition: Partition, life: u64, ask: SinkAsk) {
        let port = &mut self.port;
        let call = if matches!(ask, SinkAsk::Write(_)) { Call::Write } else { Call::Ask };
        self.fate.plain(call, || port.ask(partition, life, ask));
    }
    fn answers(&mut self) -> Vec<(Partition, u64, SinkAnswer)> {
        let port = &mut self.port;
        self.fate.plain(Call::Answers, || port.answers())
    }
}
