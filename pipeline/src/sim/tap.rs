//! Between a process and everything outside it: every call to the log, to the local stores and to
//! the ports of effects and databases goes through here, and may be the process's last one, stand
//! still while the others go on, fail, or lose its answer.
//!
//! Lives here: what can happen to one call. May not live here: when it happens (the schedule says
//! so) and what the world looks like meanwhile. Invariants: a process that dies says nothing to
//! anyone any more: the stack is unwound from the very call, and nothing between there and the
//! world's loop may catch it; an injected fault tells the truth: what is answered with `Retry` or
//! `Abort` did not happen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use semel_schemas::{
    record::OutRecord,
    topic::{NextOffset, Offset, Partition, TopicName},
};

use super::world;
use crate::{
    engine::{
        effects::{self, Done, EffectPort, Job},
        lane::Stores,
        sink_lane::{SinkAnswer, SinkAsk, SinkPort},
        timers,
    },
    log::{
        Event, Isolation, Log, LogError, Member, MemberSpec, ProduceError, Reader, TopicInfo,
        TopicSpec, TxnError, TxnFault,
        sim::{SimLog, SimMember},
    },
    state::{Checkpoint, Pairs, StoreError, TaskStore},
};

/// A call that a process makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// [`Member::init`].
    Init,
    /// [`Member::poll`].
    Poll,
    /// [`Member::committed`].
    Committed,
    /// [`Member::start`].
    Start,
    /// [`Member::release`].
    Release,
    /// [`Member::produce`].
    Produce,
    /// [`Member::commit`].
    Commit,
    /// [`Member::abort`].
    Abort,
    /// [`Reader::read`]: a slice of a restore.
    Read,
    /// [`Reader::bounds`]: the changelog's end.
    Bounds,
    /// [`TaskStore::promote`].
    Promote,
    /// [`TaskStore::wipe`].
    Wipe,
    /// [`EffectPort::dispatch`].
    Dispatch,
    /// [`EffectPort::outcomes`].
    Outcomes,
    /// [`SinkPort::ask`].
    Ask,
    /// [`SinkPort::answers`].
    Answers,
}

/// Every call.
pub(super) const CALLS: &[Call] = &[
    Call::Init,
    Call::Poll,
    Call::Committed,
    Call::Start,
    Call::Release,
    Call::Produce,
    Call::Commit,
    Call::Abort,
    Call::Read,
    Call::Bounds,
    Call::Promote,
    Call::Wipe,
    Call::Dispatch,
    Call::Outcomes,
    Call::Ask,
    Call::Answers,
];

/// Before the call is made, or after it was, and before its answer is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It is not made (yet).
    Before,
    /// It is made.
    After,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The process dies.
    Crash,
    /// The process stands still for so many milliseconds; the others go on.
    Freeze(u64),
    /// A transaction call answers with a fault.
    Fault(TxnFault),
    /// A commit's answer is lost, and the commit itself is under way for so many milliseconds.
    Late(u64),
    /// The log cannot be reached.
    Away,
    /// The producer's queue is full.
    Full,
    /// The local store fails.
    Broken,
}

/// What a transaction has in it, as far as it matters to what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carries {
    /// A new effect.
    Effect,
    /// The outcome of one.
    Outcome,
    /// A timer that fired, or was cancelled.
    Timer,
    /// The signed bytes of a transaction.
    Signed,
}

/// Whatever it carries.
pub(super) const CARRIES: &[Carries] =
    &[Carries::Effect, Carries::Outcome, Carries::Timer, Carries::Signed];

impl Carries {
    /// What a record of a changelog makes of its transaction.
    fn of(record: &OutRecord) -> Option<Self> {
        let key = record.key.as_deref()?;
        match &record.value {
            Some(_) if effects::is_pending(key) => Some(Self::Effect),
            None if effects::is_pending(key) => Some(Self::Outcome),
            None if timers::is_timer(key) => Some(Self::Timer),
            Some(value) if key.starts_with(SIGNED.0) => {
                value.windows(SIGNED.1.len()).any(|part| part == SIGNED.1).then_some(Self::Signed)
            }
            _ => None,
        }
    }
}

/// A change of state with signed bytes: how its key begins, and what stands in its value.
const SIGNED: (&[u8], &[u8]) = (b"settle_roots\0", b"\"bytes\":");

/// Something that is to happen to the `skip`-th call of its kind from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armed {
    /// Which call; `None`: any.
    pub call: Option<Call>,
    /// Of a commit: what must be in its transaction; `None`: anything.
    pub carries: Option<Carries>,
    /// So many calls are let through first.
    pub skip: u32,
    /// When.
    pub when: When,
    /// What.
    pub what: What,
}

/// What a process unwinds with when it dies.
#[derive(Debug)]
pub(super) struct Crashed;

#[derive(Debug, Default)]
struct Inner {
    armed: Vec<Armed>,
    calls: u64,
}

/// What is to happen to the calls of one process. Clones are handles of the same plan.
#[derive(Clone, Debug)]
pub(super) struct Fate {
    process: usize,
    inner: Arc<Mutex<Inner>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fate {
    pub(super) fn new(process: usize) -> Self {
        Self { process, inner: Arc::default() }
    }

    pub(super) fn arm(&self, armed: Armed) {
        lock(&self.inner).armed.push(armed);
    }

    /// Nothing is to happen any more.
    pub(super) fn clear(&self) {
        lock(&self.inner).armed.clear();
    }

    /// How many calls were made.
    pub(super) fn calls(&self) -> u64 {
        lock(&self.inner).calls
    }

    fn take(&self, call: Call, when: When, carried: &BTreeSet<Carries>) -> Option<What> {
        let mut inner = lock(&self.inner);
        if when == When::Before {
            inner.calls += 1;
        }
        let mut found = None;
        let mut at = 0;
        while at < inner.armed.len() {
            let armed = &mut inner.armed[at];
            let fits = armed.when == when && armed.call.is_none_or(|c| c == call);
            let fits = fits && armed.carries.is_none_or(|carries| carried.contains(&carries));
            if fits && fit(call, armed.what) && found.is_none() {
                if armed.skip == 0 {
                    found = Some(armed.what);
                    inner.armed.remove(at);
                    continue;
                }
                armed.skip -= 1;
            }
            at += 1;
        }
        found
    }

    /// A call is about to be made, or was made: whatever is not answered by a fault happens here.
    fn at(&self, call: Call, when: When) -> Option<What> {
        self.at_carrying(call, when, &BTreeSet::new())
    }

    fn at_carrying(&self, call: Call, when: When, carried: &BTreeSet<Carries>) -> Option<What> {
        match self.take(call, when, carried) {
            Some(What::Crash) => {
                world::note(|| format!("p{} dies {when:?} {call:?}", self.process));
                std::panic::resume_unwind(Box::new(Crashed))
            }
            Some(What::Freeze(ms)) => {
                world::stand_still(self.process, ms, call);
                None
            }
            Some(what) => {
                world::note(|| format!("p{} {what:?} {when:?} {call:?}", self.process));
                Some(what)
            }
            None => None,
        }
    }

    /// A call that can only be made or be the last one.
    fn plain<T>(&self, call: Call, make: impl FnOnce() -> T) -> T {
        self.at(call, When::Before);
        let answer = make();
        self.at(call, When::After);
        answer
    }

    fn logged<T>(
        &self,
        call: Call,
        make: impl FnOnce() -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let away = || LogError::Unavailable("injected: the log is away".to_owned());
        if self.at(call, When::Before).is_some() {
            return Err(away());
        }
        let answer = make();
        if self.at(call, When::After).is_some() {
            return Err(away());
        }
        answer
    }

    fn stored<T>(
        &self,
        call: Call,
        make: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let broken = || StoreError::Storage("injected: the disk is full".to_owned());
        if self.at(call, When::Before).is_some() {
            return Err(broken());
        }
        let answer = make();
        if self.at(call, When::After).is_some() {
            return Err(broken());
        }
        answer
    }
}

/// Whether this can happen to such a call.
fn fit(call: Call, what: What) -> bool {
    match what {
        What::Crash | What::Freeze(_) => true,
        What::Fault(_) => matches!(call, Call::Init | Call::Commit | Call::Abort),
        What::Late(_) => call == Call::Commit,
        What::Away => {
            matches!(call, Call::Poll | Call::Committed | Call::Read | Call::Bounds)
        }
        What::Full => call == Call::Produce,
        What::Broken => matches!(call, Call::Promote | Call::Wipe),
    }
}

fn injected(fault: TxnFault, call: Call) -> TxnError {
    TxnError { fault, text: format!("injected: {fault:?} at {call:?}") }
}

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
        self.log.topic(name)
    }
    fn topics(&self) -> Result<Vec<TopicName>, LogError> {
        self.log.topics()
    }
    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, LogError> {
        self.log.create_topic(spec)
    }
    fn join(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, LogError> {
        let member = self.log.member(spec)?;
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
        self.log.fence(instance)
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
        self.member.pause(partitions)
    }
    fn resume(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.member.resume(partitions)
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
    fn make_room(&mut self) -> Result<(), TxnError> {
        // While a producer waits, what holds it up arrives: the oldest marker on its way.
        self.log.deliver_marker(0);
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
        self.member.leave()
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
        self.reader.seek(topic, partition, from)
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
        self.fate.plain(Call::Ask, || port.ask(partition, life, ask));
    }
    fn answers(&mut self) -> Vec<(Partition, u64, SinkAnswer)> {
        let port = &mut self.port;
        self.fate.plain(Call::Answers, || port.answers())
    }
}
