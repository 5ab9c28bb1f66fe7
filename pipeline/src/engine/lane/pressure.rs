//! When partitions pause: while too much waits in memory, and while a task's quarantine is full.
//!
//! A full quarantine needs a command, and the command lies in the very partition that is paused.
//! So a reader goes on ahead and hands commands, and nothing else, to the task; in their turn they
//! are passed over. Invariants: polls go on whatever is paused (Kafka trap 23); a command counts
//! once, however it was found.

use semel_schemas::{header, request::QUARANTINE, time::WallTime, topic::Partition};

use super::{super::task::TaskInput, Active, Lane, LaneError, POLL_MAX, READY_MAX, Slot};
use crate::log::{Isolation, Log, LogError};

/// Milliseconds between two searches.
const SEARCH_EVERY_MS: u64 = 200;

impl Lane {
    /// Pauses and lets go on; searches for commands.
    pub(super) fn press(&mut self, now: WallTime) -> Result<(), LaneError> {
        self.flooded = match self.ready.len() {
            waiting if waiting >= READY_MAX => true,
            waiting if waiting < POLL_MAX => false,
            _ => self.flooded,
        };
        let topic = &self.parts.stage.input.name;
        for (partition, slot) in &mut self.slots {
            let Slot::Active(active) = slot else { continue };
            let full = active.task.is_full();
            let pause = self.flooded || full;
            if pause != active.paused {
                active.paused = pause;
                if pause {
                    self.member.pause(&[*partition])?;
                } else {
                    self.member.resume(&[*partition])?;
                }
            }
            if !full {
                active.search = None;
                continue;
            }
            // What was taken from the log already comes first.
            if !self.ready.iter().any(|(p, _)| p == partition) && !active.task.touched() {
                let found = search(&*self.parts.log, topic, *partition, active, now)?;
                self.ready.extend(found.into_iter().map(|input| (*partition, input)));
            }
        }
        Ok(())
    }
}

fn search(
    log: &dyn Log,
    topic: &semel_schemas::topic::TopicName,
    partition: Partition,
    active: &mut Active,
    now: WallTime,
) -> Result<Vec<TaskInput>, LogError> {
    let (mut reader, at) = match active.search.take() {
        Some(search) => search,
        None => {
            let mut reader = log.reader(Isolation::Committed)?;
            reader.seek(topic, partition, active.task.next())?;
            (reader, now)
        }
    };
    if now < at {
        active.search = Some((reader, at));
        return Ok(Vec::new());
    }
    let records = reader.read(POLL_MAX, std::time::Duration::ZERO)?;
    let again = if records.is_empty() { now.plus_ms(SEARCH_EVERY_MS) } else { now };
    active.search = Some((reader, again));
    Ok(records
        .into_iter()
        .filter(|record| record.headers.get_str(header::TYPE) == Some(QUARANTINE))
        .map(TaskInput::Command)
        .collect())
}
