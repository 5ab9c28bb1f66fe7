//! A lane: one member of a stage's group with its producer, and the tasks of its partitions.
//!
//! One cycle: poll → operators (writes go to overlays) → fire timers → when it is time: produce
//! outputs and changelog, commit with the next offset of every task touched → promote → hand out
//! effects. A lane never blocks but in `poll` and in the log's transaction calls, and never waits
//! on a channel. It reads no clock: `now` is handed in, so that the simulator runs the same code.
//!
//! Invariants: one transaction at a time; effects are handed out from committed state only; a task
//! is never run before it is restored, nor after its partition is gone; what waits in memory is
//! bounded: beyond it partitions pause, and polls go on (Kafka trap 23).
//!
//! `mod` the cycle · `tasks` how tasks come and go · `takeover` from whom they come · `commit` the
//! end of a transaction · `pressure` pauses · `slice` how much is worked between two polls.

mod commit;
mod pressure;
mod slice;
mod takeover;
mod tasks;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use semel_operators::operator::TimerKey;
use semel_schemas::{
    sabotage::{Sabotage, sabotaged},
    time::WallTime,
    topic::{NextOffset, Partition, TopicId},
};

pub(super) use self::commit::produce;
use self::{slice::Slice, takeover::Arrival};
use super::{
    counts::{Board, Counts},
    effects::{EffectPort, Job},
    pace::{Open, Pace},
    restore::{Restore, RestoreError},
    status::{Status, TaskStatus},
    task::{Task, TaskInput},
    topology::Stage,
};
use crate::{
    log::{Event, Log, LogError, Member, MemberSpec, Reader},
    state::{Checkpoint, StoreError, TaskStore},
};

/// Milliseconds in which being fenced twice means that another process bears our id.
const FENCED_WINDOW_MS: u64 = 60_000;
/// Milliseconds between two tries to initialise the producer.
const INIT_AGAIN_MS: u64 = 200;
/// Milliseconds between two looks at the changelog's end, see [`Slot::mark`].
const MARK_EVERY_MS: u64 = 2_000;
/// Milliseconds between two looks at an offset that is part of an undecided transaction.
const RESTORE_AGAIN_MS: u64 = 100;
/// Milliseconds before a log that refused a commit without input is tried again.
const HOLD_MS: u64 = 200;
/// Records taken by one poll.
const POLL_MAX: usize = 5_000;
/// Inputs that wait in memory; beyond it partitions pause until few are left.
const READY_MAX: usize = 2 * POLL_MAX;

/// Opens the local stores of tasks.
pub trait Stores: Send + Sync {
    /// The store of one task.
    ///
    /// # Errors
    /// [`StoreError`].
    fn open(&self, stage: &str, partition: Partition) -> Result<Box<dyn TaskStore>, StoreError>;

    /// Bytes that a task may hold in memory before it writes to its store, see [`crate::state::Held`];
    /// 0: each commit is written at once.
    fn held_max(&self) -> usize {
        0
    }
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
    /// Beyond the last record that was taken from the log.
    fetched: NextOffset,
    /// The input that was there at the start ends here.
    until: NextOffset,
    /// While the quarantine is full: where the search for commands goes on, and when.
    search: Option<(Box<dyn Reader>, WallTime)>,
    paused: bool,
    /// It is being handed over: its next commit says so.
    leaving: bool,
}

/// A timer of a task: operator and name.
type Suspect = (Partition, (u8, TimerKey));

enum Slot {
    /// Waits for the producer, or for the log, until then.
    New(WallTime),
    Restoring(Box<Restore>, Option<NextOffset>),
    Active(Box<Active>),
}

impl Slot {
    fn is_active(&self) -> bool {
        matches!(self, Self::Active(_))
    }
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
    /// Timers that fired since the last commit, and the last of them.
    fired: (usize, Option<Suspect>),
    open_since: Option<WallTime>,
    inputs_max: Option<usize>,
    in_a_row: u32,
    probing: bool,
    probed: bool,
    fenced_at: VecDeque<WallTime>,
    /// When partitions came or went last.
    rebalanced_at: Option<WallTime>,
    /// How our partitions came to us.
    arrivals: BTreeMap<Partition, Arrival>,
    /// Whom we fenced, and when.
    fenced: BTreeMap<String, WallTime>,
    init_at: Option<WallTime>,
    more_timers: bool,
    /// Looks at the end of changelogs; kept, since a new one is a new connection.
    mark_reader: Option<Box<dyn Reader>>,
    /// Nothing is worked before this time: the log refuses commits that hold no input.
    hold_until: WallTime,
    /// Whether a restore got further in the last cycle.
    restoring: bool,
    /// Whether too much waits in memory.
    flooded: bool,
    /// How many inputs are worked between two polls.
    slice: Slice,
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
            fired: (0, None),
            open_since: None,
            inputs_max: None,
            in_a_row: 0,
            probing: false,
            probed: false,
            fenced_at: VecDeque::new(),
            rebalanced_at: None,
            arrivals: BTreeMap::new(),
            fenced: BTreeMap::new(),
            init_at: Some(WallTime(0)),
            more_timers: false,
            mark_reader: None,
            hold_until: WallTime(0),
            restoring: false,
            flooded: false,
            slice: Slice::default(),
        })
    }

    /// One cycle; waits at most `wait` if there is nothing to do. `true` if something was done.
    ///
    /// # Errors
    /// [`LaneError`]: the lane must be dropped.
    pub fn step(&mut self, now: WallTime, wait: Duration) -> Result<bool, LaneError> {
        self.slice.measure(now);
        let wait = self.wait(now, wait);
        // What waits is worked first; one record, so that the group's events are heard all the same.
        let max = if self.ready.len() < POLL_MAX { POLL_MAX } else { 1 };
        let events = if self.polls() { self.member.poll(max, wait)? } else { Vec::new() };
        let mut busy = false;
        for event in events {
            busy |= !matches!(event, Event::End(_));
            self.event(event, now)?;
        }
        if !self.initialised(now)? {
            return Ok(busy);
        }
        self.restoring = self.restore(now)?;
        busy |= self.restoring;
        if sabotaged(Sabotage::RestoreStopsLane) && self.slots.values().any(|s| !s.is_active()) {
            return Ok(busy);
        }
        if now < self.hold_until {
            self.press(now)?;
            self.report();
            return Ok(busy);
        }
        self.take_outcomes();
        // While a cycle is narrowed down timers come first, so that records cannot hide one of them.
        if self.inputs_max.is_some() {
            self.fire(now);
            busy |= self.work(now);
        } else {
            busy |= self.work(now);
            self.fire(now);
        }
        if sabotaged(Sabotage::ActBeforeCommit) {
            self.hand_out()?;
        }
        let dry = self.ready.is_empty() && !busy;
        if self.is_due(now, dry) {
            busy = true;
            self.commit(now)?;
            self.slice.forget();
        }
        self.catch_up();
        if self.open_since.is_none() {
            self.hand_out()?;
        }
        self.press(now)?;
        self.report();
        Ok(busy)
    }

    /// Finishes: commits what is done, gives the partitions back at once, and leaves the group.
    ///
    /// # Errors
    /// [`LaneError`]; what is not committed will be done by the next owner.
    pub fn drain(mut self, now: WallTime) -> Result<(), LaneError> {
        self.ready.clear();
        self.say_farewell(&self.slots.keys().copied().collect::<Vec<_>>(), now);
        let committed = if self.open_since.is_some() { self.commit(now) } else { Ok(()) };
        self.slots.clear();
        self.report();
        self.member.leave()?;
        committed
    }

    /// Whether the log is polled: always, whatever is paused (Kafka trap 23).
    fn polls(&self) -> bool {
        let paused = |slot: &Slot| matches!(slot, Slot::Active(active) if active.paused);
        !sabotaged(Sabotage::PressureStopsPolls) || !self.slots.values().any(paused)
    }

    fn is_busy(&self) -> bool {
        !self.ready.is_empty() || self.open_since.is_some() || self.more_timers || self.restoring
    }

    fn any_touched(&self) -> bool {
        let touched = |slot: &Slot| matches!(slot, Slot::Active(active) if active.task.touched());
        self.slots.values().any(touched)
    }

    /// How long a poll may wait without keeping a timer or an outcome waiting.
    fn wait(&mut self, now: WallTime, wait: Duration) -> Duration {
        let held = self.hold_until.0.saturating_sub(now.0);
        if held > 0 {
            return wait.min(Duration::from_millis(held));
        }
        if self.is_busy() {
            return Duration::ZERO;
        }
        let mut wait = wait;
        for slot in self.slots.values_mut() {
            let Slot::Active(active) = slot else {
                wait = wait.min(Duration::from_millis(5));
                continue;
            };
            if !active.task.under_way.is_empty() || active.effects_waiting {
                wait = wait.min(Duration::from_millis(2));
            }
            if let Some(at) = active.task.next_timer() {
                wait = wait.min(Duration::from_millis(at.0.saturating_sub(now.0)));
            }
        }
        wait
    }

    fn take_outcomes(&mut self) {
        for done in self.parts.effects.outcomes() {
            let (partition, life) = done.task;
            let stale = sabotaged(Sabotage::StaleAttemptCounts);
            if self.lives.get(&partition) == Some(&life) || stale {
                let input = TaskInput::Outcome { attempt: done.attempt, outcome: done.outcome };
                self.ready.push_back((partition, input));
            }
        }
    }

    /// Processes inputs up to the bounds of a transaction, and of a slice.
    fn work(&mut self, now: WallTime) -> bool {
        let narrow = self.inputs_max.map(|max| max.saturating_sub(self.fired.0));
        let bound = narrow.unwrap_or(self.parts.pace.inputs_max);
        let before = self.taken.len();
        let mut busy = false;
        while self.taken.len() < bound && !self.probing {
            if self.taken.len() - before >= self.slice.inputs() {
                self.slice.filled(now);
                break;
            }
            let Some((partition, input)) = self.ready.pop_front() else { break };
            let Some(Slot::Active(active)) = self.slots.get_mut(&partition) else { continue };
            if active.task.is_past(&input) {
                continue;
            }
            busy = true;
            active.task.process(&input, now);
            active.effects_waiting = true;
            self.open_since.get_or_insert(now);
            self.taken.push((partition, input));
            if self.taken.len().is_multiple_of(256) && self.writes() >= self.parts.pace.writes_max {
                break;
            }
        }
        busy
    }

    fn fire(&mut self, now: WallTime) {
        self.more_timers = false;
        if self.probing {
            return;
        }
        for (partition, slot) in &mut self.slots {
            let Slot::Active(active) = slot else { continue };
            let used = self.taken.len() + self.fired.0;
            let room = self.inputs_max.map_or(usize::MAX, |max| max.saturating_sub(used));
            let fired = active.task.fire(now, room);
            self.more_timers |= fired.more;
            self.fired.0 += fired.count;
            if let Some(timer) = fired.last {
                self.fired.1 = Some((*partition, timer));
            }
            if active.task.touched() {
                active.effects_waiting = true;
                self.open_since.get_or_insert(now);
            }
        }
    }

    /// Records, outcomes, commands and timers of the present cycle.
    fn inputs(&self) -> usize {
        self.taken.len() + self.fired.0
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
        let bound = self.inputs_max.is_some_and(|max| self.inputs() >= max);
        let open = Open {
            inputs: self.taken.len(),
            writes: self.writes(),
            since: self.open_since,
            dry: dry || bound || self.probing,
        };
        self.parts.pace.due(&open, now)
    }

    fn hand_out(&mut self) -> Result<(), LaneError> {
        let limit = self.parts.stage.limits.effects_max;
        let mut handed_out = 0;
        for (partition, slot) in &mut self.slots {
            let Slot::Active(active) = slot else { continue };
            let Some(life) = self.lives.get(partition) else { continue };
            if !active.effects_waiting {
                continue;
            }
            let task = &mut active.task;
            active.effects_waiting = false;
            for (attempt, pending) in task.effects_ready(limit) {
                let order = pending.request.ordering_key;
                let job =
                    Job { task: (*partition, *life), attempt, effect: pending.request.effect };
                if !self.parts.effects.dispatch(job) {
                    active.effects_waiting = true;
                    break;
                }
                task.under_way.insert(attempt, order);
                handed_out += 1;
            }
            task.check()?;
        }
        if handed_out > 0 {
            self.parts
                .board
                .add(&self.parts.stage.name, &Counts { handed_out, ..Counts::default() });
        }
        Ok(())
    }

    fn report(&self) {
        let tasks: BTreeMap<Partition, TaskStatus> = self
            .slots
            .iter()
            .map(|(partition, slot)| {
                let status = match slot {
                    Slot::Active(active) => status_of(&active.task),
                    Slot::Restoring(restore, _) => {
                        TaskStatus::restoring(restore.position(), restore.target())
                    }
                    Slot::New(_) => TaskStatus::restoring(NextOffset::ZERO, NextOffset::ZERO),
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

fn status_of(task: &Task) -> TaskStatus {
    TaskStatus {
        caught_up: task.caught_up,
        effects: task.under_way.len(),
        paused: task.is_full(),
        held_keys: task.held_keys(),
        held_records: task.held_records(),
        event_time: task.event_time(),
        ..TaskStatus::at(task.committed_next())
    }
}
