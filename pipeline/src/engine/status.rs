//! What others may see of lanes while they run: tasks, positions, effects under way.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use semel_operators::operator::EventTime;
use semel_schemas::topic::{NextOffset, Partition};

/// One task, as of its lane's last cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskStatus {
    /// Whether it is still being restored.
    pub restoring: bool,
    /// The committed next offset.
    pub next: NextOffset,
    /// Whether the input that was there at the start is worked up.
    pub caught_up: bool,
    /// Effects under way.
    pub effects: usize,
    /// Whether it waits for a decision about quarantined keys.
    pub paused: bool,
    /// Keys that wait for a decision.
    pub held_keys: u32,
    /// Records that wait behind them, those at fault included.
    pub held_records: u32,
    /// While it is being restored: the changelog offset that it has reached, and the one where the
    /// restore ends.
    pub restored: (NextOffset, NextOffset),
    /// Event time.
    pub event_time: EventTime,
}

impl TaskStatus {
    /// A task at work whose next offset is `next`, with nothing under way and nothing held.
    #[must_use]
    pub fn at(next: NextOffset) -> Self {
        Self {
            restoring: false,
            next,
            caught_up: false,
            effects: 0,
            paused: false,
            held_keys: 0,
            held_records: 0,
            restored: (NextOffset::ZERO, NextOffset::ZERO),
            event_time: EventTime::default(),
        }
    }

    /// A task that is being restored, see [`TaskStatus::restored`].
    #[must_use]
    pub fn restoring(reached: NextOffset, end: NextOffset) -> Self {
        Self { restoring: true, restored: (reached, end), ..Self::at(NextOffset::ZERO) }
    }
}

/// By lane instance: the stage and its tasks.
type Tasks = BTreeMap<String, (String, BTreeMap<Partition, TaskStatus>)>;

/// See the module.
#[derive(Debug, Default)]
pub struct Status(Mutex<Tasks>);

impl Status {
    /// Replaces what is known of a lane.
    pub fn set(&self, instance: &str, stage: &str, tasks: BTreeMap<Partition, TaskStatus>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(instance) {
            Some(known) => known.1 = tasks,
            None => {
                all.insert(instance.to_owned(), (stage.to_owned(), tasks));
            }
        }
    }

    /// Forgets a lane that failed: what it told last holds no more.
    pub fn remove(&self, instance: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(instance);
    }

    /// Everything, by lane instance.
    #[must_use]
    pub fn read(&self) -> Tasks {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
