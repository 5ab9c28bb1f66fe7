//! A log that fails when it is told to: transaction calls of members answer with a fault, before
//! or after the real call was made.
//!
//! May not live here: what the engine makes of it. Invariant: a log that was told nothing changes
//! nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use semel_schemas::{
    record::OutRecord,
    topic::{NextOffset, Offset, Partition, TopicName},
};

use crate::log::{
    Event, Isolation, Log, LogError, Member, MemberSpec, OutParts, ProduceError, Reader, TopicInfo,
    TopicSpec, TxnError, TxnFault,
};

/// A call of a member that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Member::init`].
    Init,
    /// [`Member::commit`].
    Commit,
    /// [`Member::abort`].
    Abort,
    /// [`Member::poll`]; it fails with [`LogError::Unavailable`].
    Poll,
}

/// Whether the real call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The fault comes in its place.
    Before,
    /// It is made, and its answer is lost.
    After,
}

type Poison = Box<dyn Fn(&OutRecord) -> bool + Send>;

#[derive(Default)]
struct Inner {
    planned: VecDeque<(Call, When, TxnFault)>,
    down: bool,
    twice: bool,
    poison: Option<Poison>,
    full: u32,
    outdated: Option<(NextOffset, u32)>,
    commits: Vec<Vec<(Partition, NextOffset)>>,
    calls: Vec<&'static str>,
}

/// What is to fail. Clones are handles of the same plan.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Inner>>);

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("planned", &self.lock().planned).finish_non_exhaustive()
    }
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next call of this kind fails. Faults of one kind of call come in the order planned.
    pub fn next(&self, call: Call, when: When, fault: TxnFault) {
        self.lock().planned.push_back((call, when, fault));
    }

    /// Every commit is refused ([`TxnFault::Abort`]) from now on.
    pub fn down(&self) {
        self.lock().down = true;
    }

    /// Commits are taken again.
    pub fn up(&self) {
        self.lock().down = false;
    }

    /// Commits with a record of this kind among theirs are refused ([`TxnFault::Abort`]).
    pub fn poison(&self, is: impl Fn(&OutRecord) -> bool + Send + 'static) {
        self.lock().poison = Some(Box::new(is));
    }

    /// Records are handed out twice, as a client could that had fetched them before a seek.
    pub fn hand_out_twice(&self) {
        self.lock().twice = true;
    }

    /// The next `count` records find the producer's queue full.
    pub fn full(&self, count: u32) {
        self.lock().full = count;
    }

    /// The next `looks` at the group's offsets find this one, as it was before somebody moved on.
    pub fn outdated(&self, offset: NextOffset, looks: u32) {
        self.lock().outdated = Some((offset, looks));
    }

    /// The offsets of every commit that was asked for, in order.
    #[must_use]
    pub fn commits(&self) -> Vec<Vec<(Partition, NextOffset)>> {
        self.lock().commits.clone()
    }

    /// The names of the calls made to members and readers so far, in order; records left out.
    #[must_use]
    pub fn calls(&self) -> Vec<&'static str> {
        self.lock().calls.clone()
    }

    fn note(&self, call: &'static str) {
        self.lock().calls.push(call);
    }

    fn take(&self, call: Call) -> Option<(When, TxnError)> {
        let mut inner = self.lock();
        let at = inner.planned.iter().position(|(planned, ..)| *planned == call)?;
        let (_, when, fault) = inner.planned.remove(at)?;
        Some((when, TxnError { fault, text: format!("injected: {fault:?} {when:?} {call:?}") }))
    }
}

/// A log over another one.
#[derive(Clone, Debug)]
pub struct FaultyLog {
    log: Arc<dyn Log>,
    faults: Faults,
}

impl FaultyLog {
    /// `log`, with faults on top.
    #[must_use]
    pub fn new(log: Arc<dyn Log>, faults: Faults) -> Self {
        Self { log, faults }
    }
}

impl Log for FaultyLog {
    fn describe(&self) -> String {
        self.log.describe()
    }
    fn topic(&self, name: &TopicName) -> Result<Option<TopicInfo>, LogError> {
        self.log.topic(name)
    }
    fn topics(&self) -> Result<Vec<TopicName>, LogError> {
        self.log.topics()
    }
    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, LogError> {
        self.log.create_topic(spec)
    }
    fn join(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, LogError> {
        let member = self.log.join(spec)?;
        Ok(Box::new(FaultyMember { member, faults: self.faults.clone(), poisoned: false }))
    }
    fn reader(&self, isolation: Isolation) -> Result<Box<dyn Reader>, LogError> {
        self.faults.note(match isolation {
            Isolation::Committed => "reader committed",
            Isolation::Uncommitted => "reader uncommitted",
        });
        self.log.reader(isolation)
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
        self.faults.note("fence");
        self.log.fence(instance)
    }
}

struct FaultyMember {
    member: Box<dyn Member>,
    faults: Faults,
    poisoned: bool,
}

impl FaultyMember {
    /// Makes a call, or fails in its place or after it.
    fn call(
        &mut self,
        call: Call,
        name: &'static str,
        make: impl FnOnce(&mut dyn Member) -> Result<(), TxnError>,
    ) -> Result<(), TxnError> {
        self.faults.note(name);
        match self.faults.take(call) {
            None => make(&mut *self.member),
            Some((When::Before, error)) => Err(error),
            Some((When::After, error)) => make(&mut *self.member).and(Err(error)),
        }
    }
}

impl Member for FaultyMember {
    fn init(&mut self) -> Result<(), TxnError> {
        self.poisoned = false;
        self.call(Call::Init, "init", |member| member.init())
    }

    fn poll(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Event>, LogError> {
        if let Some((_, error)) = self.faults.take(Call::Poll) {
            return Err(LogError::Unavailable(error.text));
        }
        let mut events = self.member.poll(records_max, wait)?;
        if self.faults.lock().twice {
            events = events
                .into_iter()
                .flat_map(|event| match event {
                    Event::Record(_) => vec![event.clone(), event],
                    event => vec![event],
                })
                .collect();
        }
        Ok(events)
    }

    fn committed(
        &mut self,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, NextOffset>, LogError> {
        self.faults.note("committed");
        let mut found = self.member.committed(partitions)?;
        if let Some((offset, looks)) = &mut self.faults.lock().outdated
            && *looks > 0
        {
            *looks -= 1;
            found.values_mut().for_each(|found| *found = *offset);
        }
        Ok(found)
    }

    fn start(&mut self, partition: Partition, from: NextOffset) -> Result<(), LogError> {
        self.faults.note("start");
        self.member.start(partition, from)
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.faults.note("pause");
        self.member.pause(partitions)
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.faults.note("resume");
        self.member.resume(partitions)
    }

    fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.member.release(partitions)
    }

    fn produce(&mut self, record: OutRecord) -> Result<(), ProduceError> {
        {
            let mut inner = self.faults.lock();
            if inner.full > 0 {
                inner.full -= 1;
                return Err(ProduceError::Full);
            }
            self.poisoned |= inner.poison.as_ref().is_some_and(|poison| poison(&record));
        }
        self.member.produce(record)
    }

    fn produce_parts(&mut self, record: OutParts<'_>) -> Result<(), ProduceError> {
        self.produce(record.to_owned())
    }

    fn make_room(&mut self) -> Result<(), TxnError> {
        self.faults.note("make_room");
        self.member.make_room()
    }

    fn commit(&mut self, offsets: &[(Partition, NextOffset)]) -> Result<(), TxnError> {
        let refused = {
            let mut inner = self.faults.lock();
            inner.commits.push(offsets.to_vec());
            inner.down || self.poisoned
        };
        if refused {
            self.faults.note("commit");
            let text = "injected: the log refuses the transaction".to_owned();
            return Err(TxnError { fault: TxnFault::Abort, text });
        }
        self.call(Call::Commit, "commit", |member| member.commit(offsets))
    }

    fn abort(&mut self) -> Result<(), TxnError> {
        self.poisoned = false;
        self.call(Call::Abort, "abort", |member| member.abort())
    }

    fn leave(&mut self) -> Result<(), LogError> {
        self.member.leave()
    }
}
