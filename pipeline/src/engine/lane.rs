//! A lane: one member of a stage's group with its producer, and the tasks of its partitions.
//!
//! One cycle: poll → operators (writes go to overlays) → fire timers → when it is time: produce
//! outputs and changelog, commit with the next offset of every task touched → promote → hand out
//! effects. A lane never blocks but in `poll` and in the log's transaction calls, and never waits
//! on a channel. It reads no clock: `now` is handed in, so that the simulator runs the same code.
//!
//! Invariants: one transaction at a time; effects are handed out from committed state only; a task
//! is never run before it is restored, nor after its partition is gone.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use semel_schemas::{
    time::WallTime,
    topic::{NextOffset, Partition, TopicId},
};

use super::{
    counts::{Board, Counts},
    decide::{Decision, Failure, decide},
    effects::{self, EffectPort, Job},
    overlay::Overlay,
    pace::{Open, Pace},
    restore::{Restore, RestoreError},
    status::{Status, TaskStatus},
    task::{Task, TaskInput},
    topology::Stage,
};
use crate::{
    log::{Event, Isolation, Log, LogError, Member, MemberSpec, ProduceError, TxnError, TxnFault},
    state::{Checkpoint, StoreError, TaskStore},
};

/// Milliseconds in which being fenced twice means that another process bears our id.
const FENCED_WINDOW_MS: u64 = 60_000;
/// Milliseconds between two tries to initialise the producer.
const INIT_AGAIN_MS: u64 = 200;
/// Milliseconds between two looks at the changelog's end, see [`Slot::mark`].
const MARK_EVERY_MS: u64 = 2_000;
/// Records taken by one poll.
const POLL_MAX: usize = 5_000;

/// Opens the local stores of tasks.
pub trait Stores: Send + Sync {
    /// The store of one task.
    ///
    /// # Errors
    /// [`StoreError`].
    fn open(&self, stage: &str, partition: Partition) -> Result<Box<dyn TaskStore>, StoreError>;
}

/// Why a lane stopped.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The log: unavailable ones are tried again with a new lane.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The local store: a new lane restores.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A person has to change something.
    #[error("{0}")]
    Fatal(String),
}

impl From<RestoreError> for LaneError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Log(error) => Self::Log(error),
            RestoreError::Store(error) => Self::Store(error),
        }
    }
}

/// What a lane is made of.
pub struct LaneParts {
    /// The stage.
    pub stage: Arc<Stage>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Local stores.
    pub stores: Arc<dyn Stores>,
    /// Where effects go.
    pub effects: Box<dyn EffectPort>,
    /// Where counts go.
    pub board: Arc<Board>,
    /// What others may see of the lane.
    pub status: Arc<Status>,
    /// When to commit.
    pub pace: Pace,
    /// How the lane joins.
    pub member: MemberSpec,
}

impl std::fmt::Debug for LaneParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneParts").field("member", &self.member).finish_non_exhaustive()
    }
}

struct Active {
    task: Task,
    checkpoint: Checkpoint,
    /// The changelog's end as asked after our last commit. It becomes the checkpoint with the
    /// *next* commit that succeeds: that one proves that nobody else owned the task in between, so
    /// that everything up to the mark is ours and is in the local store.
    mark: Option<NextOffset>,
    marked_at: WallTime,
    effects_waiting: bool,
    paused: bool,
}

enum Slot {
    /// Waits for the producer.
    New,
    Restoring(Box<Restore>, Option<NextOffset>),
    Active(Box<Active>),
}

/// See the module.
pub struct Lane {
    parts: LaneParts,
    member: Box<dyn Member>,
    topic_id: TopicId,
    slots: BTreeMap<Partition, Slot>,
    lives: BTreeMap<Partition, u64>,
    life: u64,
    ready: VecDeque<(Partition, TaskInput)>,
    taken: Vec<(Partition, TaskInput)>,
    open_since: Option<WallTime>,
    inputs_max: Option<usize>,
    in_a_row: u32,
    probing: bool,
    probed: bool,
    fenced_at: VecDeque<WallTime>,
    init_at: Option<WallTime>,
    more_timers: bool,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("group", &self.parts.member.group)
            .field("tasks", &self.slots.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Lane {
    /// Joins the group.
    ///
    /// # Errors
    /// [`LaneError`].
    pub fn join(parts: LaneParts) -> Result<Self, LaneError> {
        let input = &parts.stage.input.name;
        let info = parts.log.topic(input)?.ok_or_else(|| LogError::NoTopic(input.clone()))?;
        let member = parts.log.join(&parts.member)?;
        Ok(Self {
            member,
            topic_id: info.id,
            parts,
            slots: BTreeMap::new(),
            lives: BTreeMap::new(),
            life: 0,
            ready: VecDeque::new(),
            taken: Vec::new(),
            open_since: None,
            inputs_max: None,
            in_a_row: 0,
            probing: false,
            probed: false,
            fenced_at: VecDeque::new(),
            init_at: Some(WallTime(0)),
            more_timers: false,
        })
    }

    /// One cycle; waits at most `wait` if there is nothing to do. `true` if something was done.
    ///
    /// # Errors
    /// [`LaneError`]: the lane must be dropped.
    pub fn step(&mut self, now: WallTime, wait: Duration) -> Result<bool, LaneError> {
        let wait = if self.is_busy() { Duration::ZERO } else { self.wait(now, wait) };
        let events = self.member.poll(POLL_MAX, wait)?;
        let mut busy = false;
        for event in events {
            busy |= !matches!(event, Event::End(_));
            self.event(event, now)?;
        }
        if !self.initialised(now)? {
            return Ok(busy);
        }
        busy |= self.restore(now)?;
        self.take_outcomes();
        busy |= self.work(now)?;
        self.fire(now);
        let dry = self.ready.is_empty() && !busy;
        if self.is_due(now, dry) {
            busy = true;
            self.commit(now)?;
        }
        if self.open_since.is_none() {
            self.hand_out();
            self.press()?;
        }
        self.report();
        Ok(busy)
    }

    /// Finishes: commits what is done, gives the partitions back at once, and leaves the group.
    ///
    /// # Errors
    /// [`LaneError`]; what is not committed will be done by the next owner.
    pub fn drain(mut self, now: WallTime) -> Result<(), LaneError> {
        self.ready.clear();
        let committed = if self.open_since.is_some() { self.commit(now) } else { Ok(()) };
        self.slots.clear();
        self.report();
        self.member.leave()?;
        committed
    }

    fn is_busy(&self) -> bool {
        !self.ready.is_empty()
            || self.open_since.is_some()
            || self.more_timers
            || self.slots.values().any(|slot| !matches!(slot, Slot::Active(_)))
    }

    /// How long a poll may wait without keeping a timer or an outcome waiting.
    fn wait(&mut self, now: WallTime, wait: Duration) -> Duration {
        let mut wait = wait;
        for slot in self.slots.values_mut() {
            let Slot::Active(active) = slot else { continue };
            if !active.task.under_way.is_empty() || active.effects_waiting {
                wait = wait.min(Duration::from_millis(2));
            }
            if let Some(at) = active.task.next_wall_timer() {
                wait = wait.min(Duration::from_millis(at.0.saturating_sub(now.0)));
            }
        }
        wait
    }

    fn event(&mut self, event: Event, now: WallTime) -> Result<(), LaneError> {
        match event {
            Event::Assigned(partitions) => {
                tracing::info!(group = %self.parts.member.group, ?partitions, "assigned");
                for partition in partitions {
                    self.slots.insert(partition, Slot::New);
                }
            }
            Event::Revoked(partitions) => {
                tracing::info!(group = %self.parts.member.group, ?partitions, "handing over");
                if self.open_since.is_some() {
                    self.commit(now)?;
                }
                self.let_go(&partitions)?;
            }
            Event::Lost(partitions) => {
                tracing::warn!(group = %self.parts.member.group, ?partitions, "lost");
                if self.open_since.is_some() {
                    self.rewind(now)?;
                }
                self.let_go(&partitions)?;
            }
            Event::Record(record) => {
                let partition = record.partition;
                if matches!(self.slots.get(&partition), Some(Slot::Active(_))) {
                    self.ready.push_back((partition, TaskInput::Record(record)));
                }
            }
            // Its place among the records matters: what came before it is worked up first.
            Event::End(partition) => {
                if let Some(Slot::Active(active)) = self.slots.get(&partition)
                    && !active.task.caught_up
                {
                    self.ready.push_back((partition, TaskInput::CaughtUp));
                }
            }
        }
        Ok(())
    }

    fn let_go(&mut self, partitions: &[Partition]) -> Result<(), LaneError> {
        for partition in partitions {
            self.slots.remove(partition);
            self.lives.remove(partition);
        }
        self.ready.retain(|(partition, _)| !partitions.contains(partition));
        self.member.release(partitions)?;
        Ok(())
    }

    /// Sees to it that the producer is initialised; `false` if that must wait.
    fn initialised(&mut self, now: WallTime) -> Result<bool, LaneError> {
        let Some(at) = self.init_at else { return Ok(true) };
        if now < at {
            return Ok(false);
        }
        match self.member.init() {
            Ok(()) => {
                self.init_at = None;
                Ok(true)
            }
            Err(TxnError { fault: TxnFault::Fatal, text }) => Err(LaneError::Fatal(text)),
            Err(error) => {
                tracing::warn!(group = %self.parts.member.group, %error, "init failed; trying again");
                self.init_at = Some(now.plus_ms(INIT_AGAIN_MS));
                Ok(false)
            }
        }
    }

    fn restore(&mut self, now: WallTime) -> Result<bool, LaneError> {
        let mut busy = false;
        let partitions: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| !matches!(slot, Slot::Active(_)))
            .map(|(partition, _)| *partition)
            .collect();
        for partition in partitions {
            busy = true;
            let slot = match self.slots.remove(&partition) {
                Some(Slot::New) => self.begin_restore(partition, now)?,
                Some(Slot::Restoring(mut restore, committed)) => {
                    if restore.step(now)? {
                        self.activate(partition, *restore, committed, now)?
                    } else {
                        Slot::Restoring(restore, committed)
                    }
                }
                Some(active) => active,
                None => continue,
            };
            self.slots.insert(partition, slot);
        }
        Ok(busy)
    }

    fn begin_restore(&mut self, partition: Partition, now: WallTime) -> Result<Slot, LaneError> {
        let committed = self.member.committed(&[partition])?.get(&partition).copied();
        let stage = &self.parts.stage;
        let store = self.parts.stores.open(&stage.name, partition)?;
        let log = &*self.parts.log;
        let restore = Restore::begin(log, &stage.changelog, partition, store, now)?;
        Ok(Slot::Restoring(Box::new(restore), committed))
    }

    fn activate(
        &mut self,
        partition: Partition,
        restore: Restore,
        committed: Option<NextOffset>,
        now: WallTime,
    ) -> Result<Slot, LaneError> {
        let restored = restore.finish();
        let stage = self.parts.stage.clone();
        let mut reader = self.parts.log.reader(Isolation::Committed)?;
        let (first, _) = reader.bounds(&stage.input.name, partition)?;
        let overlay = Overlay::new(restored.store);
        let mut task = Task::new(stage.clone(), partition, overlay, &self.topic_id, first)
            .map_err(LaneError::Fatal)?;
        task.check()?;
        if let Some(committed) = committed
            && committed != task.next()
        {
            return Err(LaneError::Fatal(format!(
                "stage `{}`, partition {partition}: the group stands at offset {committed}, the \
                 state at {}: they are committed together, so somebody moved one of them; reset \
                 the stage, or set the group's offset back",
                stage.name,
                task.next()
            )));
        }
        tracing::debug!(stage = %stage.name, %partition, records = restored.records,
            next = %task.next(), "restored");
        self.life += 1;
        self.lives.insert(partition, self.life);
        self.member.start(partition, task.next())?;
        task.begin(now);
        if task.touched() {
            self.open_since.get_or_insert(now);
        }
        Ok(Slot::Active(Box::new(Active {
            task,
            checkpoint: restored.checkpoint,
            mark: None,
            marked_at: WallTime(0),
            effects_waiting: true,
            paused: false,
        })))
    }

    fn take_outcomes(&mut self) {
        for done in self.parts.effects.outcomes() {
            let (partition, life) = done.task;
            if self.lives.get(&partition) == Some(&life) {
                let input = TaskInput::Outcome { attempt: done.attempt, outcome: done.outcome };
                self.ready.push_back((partition, input));
            }
        }
    }

    /// Processes inputs up to the bounds of a transaction.
    fn work(&mut self, now: WallTime) -> Result<bool, LaneError> {
        let bound = self.inputs_max.unwrap_or(self.parts.pace.inputs_max);
        let mut busy = false;
        while self.taken.len() < bound && !self.probing {
            let Some((partition, input)) = self.ready.pop_front() else { break };
            let Some(Slot::Active(active)) = self.slots.get_mut(&partition) else { continue };
            if matches!(input, TaskInput::CaughtUp) {
                active.task.caught_up = true;
                continue;
            }
            busy = true;
            active.task.process(input.clone(), now);
            active.effects_waiting = true;
            self.open_since.get_or_insert(now);
            self.taken.push((partition, input));
            if self.taken.len() % 256 == 0 && self.writes() >= self.parts.pace.writes_max {
                break;
            }
        }
        for slot in self.slots.values() {
            if let Slot::Active(active) = slot {
                active.task.check()?;
            }
        }
        Ok(busy)
    }

    fn fire(&mut self, now: WallTime) {
        self.more_timers = false;
        for slot in self.slots.values_mut() {
            let Slot::Active(active) = slot else { continue };
            self.more_timers |= active.task.fire(now);
            if active.task.touched() {
                active.effects_waiting = true;
                self.open_since.get_or_insert(now);
            }
        }
    }

    fn writes(&self) -> usize {
        self.slots
            .values()
            .map(|slot| match slot {
                Slot::Active(active) => active.task.uncommitted(),
                _ => 0,
            })
            .sum()
    }

    fn is_due(&self, now: WallTime, dry: bool) -> bool {
        let bound = self.inputs_max.is_some_and(|max| self.taken.len() >= max);
        let open = Open {
            inputs: self.taken.len(),
            writes: self.writes(),
            since: self.open_since,
            dry: dry || bound || self.probing,
        };
        self.parts.pace.due(&open, now)
    }

    fn commit(&mut self, now: WallTime) -> Result<(), LaneError> {
        let mut in_a_row = 0;
        let mut offsets = None;
        loop {
            let result = match &offsets {
                None => self.produce_all(),
                Some(offsets) => Ok(Vec::clone(offsets)),
            };
            let result = result.and_then(|ready| {
                self.member.commit(&ready)?;
                offsets = Some(ready);
                Ok(())
            });
            let Err(error) = result else { return self.promote(now) };
            in_a_row += 1;
            if error.fault == TxnFault::Retry && offsets.is_none() {
                // Records may be half produced: only an abort makes that whole again.
                return self.failed(&TxnError { fault: TxnFault::Abort, ..error }, now);
            }
            let failure = self.facts(&error, in_a_row, now);
            if decide(&failure) != Decision::Again {
                return self.failed(&error, now);
            }
        }
    }

    fn produce_all(&mut self) -> Result<Vec<(Partition, NextOffset)>, TxnError> {
        let mut offsets = Vec::new();
        let changelog = self.parts.stage.changelog.name.clone();
        for (partition, slot) in &mut self.slots {
            let Slot::Active(active) = slot else { continue };
            if !active.task.touched() {
                continue;
            }
            let cut = active.task.cut();
            offsets.push((*partition, cut.next));
            for record in cut.outputs {
                produce(&mut *self.member, record)?;
            }
            for (key, value) in active.task.changelog() {
                let record = semel_schemas::record::OutRecord {
                    topic: changelog.clone(),
                    partition: Some(*partition),
                    key: Some(key.clone()),
                    value: value.clone(),
                    headers: semel_schemas::header::Headers::new(),
                };
                produce(&mut *self.member, record)?;
            }
        }
        Ok(offsets)
    }

    fn promote(&mut self, now: WallTime) -> Result<(), LaneError> {
        let stage = self.parts.stage.clone();
        let mut sums = Counts { commits: 1, ..Counts::default() };
        for (partition, slot) in &mut self.slots {
            let Slot::Active(active) = slot else { continue };
            if !active.task.touched() {
                continue;
            }
            if let Some(mark) = active.mark.take() {
                active.checkpoint.changelog_next = mark;
            }
            active.checkpoint.promoted_at = now;
            sums.add(&active.task.promote(&active.checkpoint)?);
            if now.0.saturating_sub(active.marked_at.0) >= MARK_EVERY_MS {
                active.marked_at = now;
                let mut reader = self.parts.log.reader(Isolation::Uncommitted)?;
                active.mark = Some(reader.bounds(&stage.changelog.name, *partition)?.1);
            }
        }
        self.parts.board.add(&stage.name, &sums);
        self.taken.clear();
        self.open_since = None;
        self.in_a_row = 0;
        if self.probing {
            self.probing = false;
            self.probed = true;
        } else {
            self.probed = false;
            self.inputs_max = self.inputs_max.map(|n| n * 2).filter(|n| *n < 1_000);
        }
        Ok(())
    }

    fn facts(&mut self, error: &TxnError, in_a_row: u32, now: WallTime) -> Failure {
        if error.fault == TxnFault::Rebuild {
            self.fenced_at.push_back(now);
        }
        self.fenced_at.retain(|at| now.0.saturating_sub(at.0) < FENCED_WINDOW_MS);
        Failure {
            fault: error.fault,
            inputs: self.taken.len(),
            in_a_row,
            probed: self.probed,
            fenced: u32::try_from(self.fenced_at.len()).unwrap_or(u32::MAX),
        }
    }

    fn failed(&mut self, error: &TxnError, now: WallTime) -> Result<(), LaneError> {
        self.in_a_row += 1;
        let failure = match error.fault {
            // Counted when the commit failed; looked at again, not counted twice.
            TxnFault::Rebuild => Failure { in_a_row: self.in_a_row, ..self.seen(error) },
            _ => self.facts(error, self.in_a_row, now),
        };
        let decision = decide(&failure);
        tracing::warn!(group = %self.parts.member.group, %error, fault = ?error.fault, ?decision,
            inputs = failure.inputs, "commit failed");
        match decision {
            Decision::Stop => Err(LaneError::Fatal(if failure.fenced >= 2 {
                format!(
                    "another process bears the id `{}` (twice fenced within a minute): was the \
                     data folder copied? Give each process an instance id of its own ({error})",
                    self.parts.member.instance
                )
            } else {
                error.text.clone()
            })),
            Decision::Rebuild => {
                self.rebuild(now);
                Ok(())
            }
            Decision::Again | Decision::Rewind { inputs_max: None } => self.rewind(now),
            Decision::Rewind { inputs_max } => {
                self.inputs_max = inputs_max;
                self.rewind(now)
            }
            Decision::Probe => {
                self.rewind(now)?;
                self.inputs_max = Some(1);
                self.probe(now);
                Ok(())
            }
            Decision::Condemn => {
                self.rewind(now)?;
                if let Some((partition, TaskInput::Record(record))) = self.ready.pop_front() {
                    self.ready.push_front((partition, TaskInput::Poison(record)));
                }
                Ok(())
            }
        }
    }

    fn seen(&self, error: &TxnError) -> Failure {
        Failure {
            fault: error.fault,
            inputs: self.taken.len(),
            in_a_row: self.in_a_row,
            probed: self.probed,
            fenced: u32::try_from(self.fenced_at.len()).unwrap_or(u32::MAX),
        }
    }

    /// Commits once without any input, to see whether the log takes commits at all.
    fn probe(&mut self, now: WallTime) {
        let Some((partition, _)) = self.ready.front() else { return };
        if let Some(Slot::Active(active)) = self.slots.get_mut(partition) {
            active.task.touch();
            self.probing = true;
            self.open_since = Some(now);
        }
    }

    /// A known abort gives everything back, in order.
    fn rewind(&mut self, now: WallTime) -> Result<(), LaneError> {
        if let Err(error) = self.member.abort() {
            tracing::warn!(group = %self.parts.member.group, %error, "abort failed; rebuilding");
            self.rebuild(now);
            return Ok(());
        }
        for slot in self.slots.values_mut() {
            if let Slot::Active(active) = slot {
                active.task.roll_back();
                active.effects_waiting = true;
                active.task.begin(now);
            }
        }
        for (partition, input) in self.taken.drain(..).rev() {
            let input = match input {
                TaskInput::Poison(record) => TaskInput::Record(record),
                input => input,
            };
            self.ready.push_front((partition, input));
        }
        self.probing = false;
        let begun_again = self
            .slots
            .values()
            .any(|slot| matches!(slot, Slot::Active(active) if active.task.touched()));
        self.open_since = begun_again.then_some(now);
        self.parts.board.add(&self.parts.stage.name, &Counts { aborts: 1, ..Counts::default() });
        Ok(())
    }

    /// An unknown end: everything in memory is dropped; every task starts as after an assignment.
    fn rebuild(&mut self, now: WallTime) {
        for slot in self.slots.values_mut() {
            *slot = Slot::New;
        }
        self.lives.clear();
        self.ready.clear();
        self.taken.clear();
        self.open_since = None;
        self.probing = false;
        self.probed = false;
        self.init_at = Some(now);
        let partitions: Vec<_> = self.slots.keys().copied().collect();
        if let Err(error) = self.member.pause(&partitions) {
            tracing::warn!(%error, "pausing failed");
        }
    }

    fn hand_out(&mut self) {
        let limit = self.parts.stage.limits.effects_max;
        for (partition, slot) in &mut self.slots {
            let Slot::Active(active) = slot else { continue };
            let Some(life) = self.lives.get(partition) else { continue };
            if !active.effects_waiting {
                continue;
            }
            let task = &mut active.task;
            let room = limit.saturating_sub(task.under_way.len());
            active.effects_waiting = false;
            for (attempt, pending) in effects::ready(task.state(), &task.under_way, room) {
                let job =
                    Job { task: (*partition, *life), attempt, effect: pending.request.effect };
                if !self.parts.effects.dispatch(job) {
                    active.effects_waiting = true;
                    break;
                }
                task.under_way.insert(attempt);
            }
        }
    }

    /// Pauses partitions whose quarantine is full, and lets them go on when it is not.
    fn press(&mut self) -> Result<(), LaneError> {
        for (partition, slot) in &mut self.slots {
            let Slot::Active(active) = slot else { continue };
            let full = active.task.is_full();
            if full != active.paused {
                active.paused = full;
                if full {
                    self.member.pause(&[*partition])?;
                } else {
                    self.member.resume(&[*partition])?;
                }
            }
        }
        Ok(())
    }

    fn report(&self) {
        let tasks: BTreeMap<Partition, TaskStatus> = self
            .slots
            .iter()
            .map(|(partition, slot)| {
                let status = match slot {
                    Slot::Active(active) => TaskStatus {
                        restoring: false,
                        next: active.task.committed_next(),
                        caught_up: active.task.caught_up,
                        effects: active.task.under_way.len(),
                        paused: active.paused,
                        event_time: active.task.event_time(),
                    },
                    _ => TaskStatus::restoring(),
                };
                (*partition, status)
            })
            .collect();
        self.parts.status.set(&self.parts.member.instance, &self.parts.stage.name, tasks);
    }

    /// The partitions that the lane owns.
    #[must_use]
    pub fn partitions(&self) -> BTreeSet<Partition> {
        self.slots.keys().copied().collect()
    }

    /// The state of one of its tasks, for looking at.
    #[must_use]
    pub fn task(&self, partition: Partition) -> Option<&Task> {
        match self.slots.get(&partition) {
            Some(Slot::Active(active)) => Some(&active.task),
            _ => None,
        }
    }
}

/// Produces; a full queue is waited out by polling for nothing (trap 20).
pub(super) fn produce(
    member: &mut dyn Member,
    record: semel_schemas::record::OutRecord,
) -> Result<(), TxnError> {
    let mut record = record;
    loop {
        match member.produce(record.clone()) {
            Ok(()) => return Ok(()),
            Err(ProduceError::Full) => {
                member.make_room()?;
                record = record.clone();
            }
            Err(ProduceError::Txn(error)) => return Err(error),
            Err(error @ ProduceError::TooLarge { .. }) => {
                return Err(TxnError { fault: TxnFault::Abort, text: error.to_string() });
            }
        }
    }
}
