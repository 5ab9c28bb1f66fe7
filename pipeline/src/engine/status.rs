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
    /// Event time.
    pub event_time: EventTime,
}

impl TaskStatus {
    /// A task that is being restored.
    #[must_use]
    pub fn restoring() -> Self {
        Self {
            restoring: true,
            next: NextOffset::ZERO,
            caught_up: false,
            effects: 0,
            paused: false,
            event_time: EventTime::default(),
        }
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

    /// Everything, by lane instance.
    #[must_use]
    pub fn read(&self) -> Tasks {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
