//! What can happen to one call of a process, and what is going to.
//!
//! Lives here: the kinds of calls, what can happen to each, and the plan of a process, which the
//! schedule fills. May not live here: the calls themselves. Invariant: what happens to a call that
//! says it of itself is true: `Retry`, `Abort` and `Full` did not happen.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use semel_schemas::record::OutRecord;

use super::super::world;
use crate::{
    engine::{effects, timers},
    log::{LogError, TxnError, TxnFault},
    state::StoreError,
};
#[cfg(doc)]
use crate::{
    engine::{effects::EffectPort, sink_lane::SinkPort},
    log::{Log, Member, Reader},
    state::TaskStore,
};

/// A call that a process makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// [`Log::topic`].
    Topic,
    /// [`Log::join`].
    Join,
    /// [`Log::fence`].
    Fence,
    /// [`Member::init`].
    Init,
    /// [`Member::poll`].
    Poll,
    /// [`Member::committed`].
    Committed,
    /// [`Member::start`].
    Start,
    /// [`Member::pause`] and [`Member::resume`].
    Pause,
    /// [`Member::release`].
    Release,
    /// [`Member::leave`].
    Leave,
    /// [`Member::produce`].
    Produce,
    /// [`Member::commit`].
    Commit,
    /// [`Member::abort`].
    Abort,
    /// [`Reader::seek`].
    Seek,
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
    /// [`SinkPort::ask`], but to write.
    Ask,
    /// [`SinkPort::ask`] to write.
    Write,
    /// [`SinkPort::answers`].
    Answers,
}

/// Every call.
pub(in crate::sim) const CALLS: &[Call] = &[
    Call::Topic,
    Call::Join,
    Call::Fence,
    Call::Init,
    Call::Poll,
    Call::Committed,
    Call::Start,
    Call::Pause,
    Call::Release,
    Call::Leave,
    Call::Produce,
    Call::Commit,
    Call::Abort,
    Call::Seek,
    Call::Read,
    Call::Bounds,
    Call::Promote,
    Call::Wipe,
    Call::Dispatch,
    Call::Outcomes,
    Call::Ask,
    Call::Write,
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
pub(in crate::sim) const CARRIES: &[Carries] =
    &[Carries::Effect, Carries::Outcome, Carries::Timer, Carries::Signed];

impl Carries {
    /// What a record of a changelog makes of its transaction.
    pub(super) fn of(record: &OutRecord) -> Option<Self> {
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
pub(in crate::sim) struct Crashed;

#[derive(Debug, Default)]
struct Inner {
    armed: Vec<Armed>,
    calls: u64,
}

/// What is to happen to the calls of one process. Clones are handles of the same plan.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Fate {
    process: usize,
    inner: Arc<Mutex<Inner>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fate {
    pub(in crate::sim) fn new(process: usize) -> Self {
        Self { process, inner: Arc::default() }
    }

    pub(in crate::sim) fn arm(&self, armed: Armed) {
        lock(&self.inner).armed.push(armed);
    }

    /// Nothing is to happen any more.
    pub(in crate::sim) fn clear(&self) {
        lock(&self.inner).armed.clear();
    }

    /// How many calls were made.
    pub(in crate::sim) fn calls(&self) -> u64 {
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
    pub(super) fn at(&self, call: Call, when: When) -> Option<What> {
        self.at_carrying(call, when, &BTreeSet::new())
    }

    pub(super) fn at_carrying(
        &self,
        call: Call,
        when: When,
        carried: &BTreeSet<Carries>,
    ) -> Option<What> {
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
    pub(super) fn plain<T>(&self, call: Call, make: impl FnOnce() -> T) -> T {
        self.at(call, When::Before);
        let answer = make();
        self.at(call, When::After);
        answer
    }

    pub(super) fn logged<T>(
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

    pub(super) fn stored<T>(
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

/// Calls that an unreachable log fails, and that say so.
pub(in crate::sim) const AWAY: &[Call] = &[
    Call::Topic,
    Call::Join,
    Call::Fence,
    Call::Poll,
    Call::Committed,
    Call::Seek,
    Call::Read,
    Call::Bounds,
];

/// Whether this can happen to such a call.
fn fit(call: Call, what: What) -> bool {
    match what {
        What::Crash | What::Freeze(_) => true,
        What::Fault(_) => matches!(call, Call::Init | Call::Commit | Call::Abort),
        What::Late(_) => call == Call::Commit,
        What::Away => AWAY.contains(&call),
        What::Full => call == Call::Produce,
        What::Broken => matches!(call, Call::Promote | Call::Wipe),
    }
}

pub(super) fn injected(fault: TxnFault, call: Call) -> TxnError {
    TxnError { fault, text: format!("injected: {fault:?} at {call:?}") }
}
