//! How tasks come to a lane and go: events of the group, the producer's start, restores.
//!
//! Invariants: the producer is initialised before the group's offset is asked for, and that before
//! the changelog's end (Kafka traps 16 and 26); a partition is read only once its task is restored;
//! what belongs to a partition that is gone is forgotten whole.

use semel_schemas::{
    header::Headers,
    record::OutRecord,
    sabotage::{Sabotage, sabotaged},
    time::WallTime,
    topic::{NextOffset, Partition, TopicName},
};

use super::{
    super::{
        overlay::Overlay,
        restore::{Restore, RestoreError},
        task::{Task, TaskInput},
    },
    Active, INIT_AGAIN_MS, Lane, LaneError, RESTORE_AGAIN_MS, Slot,
};
use crate::{
    log::{Event, Isolation, LogError, TxnError, TxnFault},
    state::Held,
};

impl Lane {
    pub(super) fn event(&mut self, event: Event, now: WallTime) -> Result<(), LaneError> {
        match event {
            Event::Assigned(partitions) => {
                tracing::info!(group = %self.parts.member.group, ?partitions, "assigned");
                self.forget(&partitions);
                self.arrived(&partitions, now);
                for partition in partitions {
                    self.slots.insert(partition, Slot::New(now));
                }
            }
            Event::Revoked(partitions) => {
                tracing::info!(group = %self.parts.member.group, ?partitions, "handing over");
                self.rebalanced_at = Some(now);
                self.say_farewell(&partitions, now);
                if self.open_since.is_some() {
                    self.commit(now)?;
                }
                self.let_go(&partitions)?;
            }
            Event::Lost(partitions) => {
                tracing::warn!(group = %self.parts.member.group, ?partitions, "lost");
                self.rebalanced_at = Some(now);
                if self.open_since.is_some() {
                    self.rewind(now)?;
                }
                self.let_go(&partitions)?;
            }
            Event::Record(record) => {
                let partition = record.partition;
                if let Some(Slot::Active(active)) = self.slots.get_mut(&partition) {
                    active.fetched = record.next();
                    self.ready.push_back((partition, TaskInput::Record(record)));
                }
            }
            Event::End(partition) => {
                if let Some(Slot::Active(active)) = self.slots.get_mut(&partition) {
                    // Markers at the end are no records: what was fetched is all there was.
                    active.until = active.until.min(active.fetched);
                }
            }
        }
        Ok(())
    }

    fn let_go(&mut self, partitions: &[Partition]) -> Result<(), LaneError> {
        self.forget(partitions);
        self.member.release(partitions)?;
        Ok(())
    }

    fn forget(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.slots.remove(partition);
            self.lives.remove(partition);
            self.arrivals.remove(partition);
        }
        self.ready.retain(|(partition, _)| !partitions.contains(partition));
        if !self.any_touched() {
            self.open_since = None;
        }
    }

    /// A task is caught up once what the log held when it was started has been committed.
    pub(super) fn catch_up(&mut self) {
        for slot in self.slots.values_mut() {
            if let Slot::Active(active) = slot {
                active.task.caught_up |= active.task.committed_next() >= active.until;
            }
        }
    }

    /// Sees to it that the producer is initialised; `false` if that must wait.
    pub(super) fn initialised(&mut self, now: WallTime) -> Result<bool, LaneError> {
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

    /// Moves every restore on by a slice; `true` if one of them got further.
    pub(super) fn restore(&mut self, now: WallTime) -> Result<bool, LaneError> {
        let mut moved = false;
        let partitions: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| !matches!(slot, Slot::Active(_)))
            .map(|(partition, _)| *partition)
            .collect();
        for partition in partitions {
            let slot = match self.slots.remove(&partition) {
                Some(Slot::New(at)) if at <= now => self.begin_restore(partition, now)?,
                Some(Slot::Restoring(mut restore, committed)) => {
                    let before = restore.position();
                    if restore.step(now)? {
                        self.activate(partition, *restore, committed, now)?
                    } else if restore.position() == before {
                        // It waits for a marker: another's transaction is not decided yet.
                        self.slots.insert(partition, Slot::Restoring(restore, committed));
                        self.end_undecided(partition, now);
                        continue;
                    } else {
                        Slot::Restoring(restore, committed)
                    }
                }
                Some(slot) => {
                    self.slots.insert(partition, slot);
                    continue;
                }
                None => continue,
            };
            moved |= !matches!(slot, Slot::New(_));
            self.slots.insert(partition, slot);
        }
        Ok(moved)
    }

    /// Asks for the group's offset, and only then for the changelog's end.
    fn begin_restore(&mut self, partition: Partition, now: WallTime) -> Result<Slot, LaneError> {
        let begun = self.try_begin_restore(partition, now);
        match begun {
            Err(LaneError::Log(LogError::Unavailable(text))) => {
                tracing::info!(group = %self.parts.member.group, %partition, text,
                    "not to be restored yet");
                self.end_undecided(partition, now);
                Ok(Slot::New(now.plus_ms(RESTORE_AGAIN_MS)))
            }
            begun => begun,
        }
    }

    fn try_begin_restore(
        &mut self,
        partition: Partition,
        now: WallTime,
    ) -> Result<Slot, LaneError> {
        let committed = self.member.committed(&[partition])?.get(&partition).copied();
        let stage = &self.parts.stage;
        let store = self.parts.stores.open(&stage.name, partition)?;
        let log = &*self.parts.log;
        if sabotaged(Sabotage::BeginBeforeRestore) {
            self.member
                .produce(begun(&stage.dead_letter.name))
                .map_err(|error| LaneError::Log(LogError::Unavailable(error.to_string())))?;
        }
        let restore = Restore::begin(log, &stage.changelog, partition, store, now)
            .map_err(|error: RestoreError| LaneError::from(error))?;
        Ok(Slot::Restoring(Box::new(restore), committed))
    }

    /// The group's offset and the state's differ. They are looked at one after the other, and a
    /// member that stood still in between, for longer than its session, finds a state that the next
    /// owner has moved on: it asks again, and begins anew if the group's offset has moved, too.
    fn apart(
        &mut self,
        partition: Partition,
        committed: NextOffset,
        next: NextOffset,
        now: WallTime,
    ) -> Result<Slot, LaneError> {
        let again = match self.member.committed(&[partition]) {
            Ok(found) => found.get(&partition).copied(),
            // A transaction is not decided yet, or nobody answers.
            Err(LogError::Unavailable(_)) => None,
            Err(error) => return Err(error.into()),
        };
        if again != Some(committed) {
            return Ok(Slot::New(now.plus_ms(RESTORE_AGAIN_MS)));
        }
        Err(LaneError::Fatal(format!(
            "stage `{}`, partition {partition}: the group stands at offset {committed}, the state \
             at {next}: they are committed together, so somebody moved one of them; set the \
             group's offset back to {next}, or give the pipeline another name to begin anew",
            self.parts.stage.name
        )))
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
        let (first, end) = reader.bounds(&stage.input.name, partition)?;
        let overlay = Overlay::new(Held::new(restored.store, self.parts.stores.held_max()));
        let mut task = Task::new(stage.clone(), partition, overlay, &self.topic_id, first)
            .map_err(LaneError::Fatal)?;
        task.check()?;
        if let Some(committed) = committed
            && committed != task.next()
            && !sabotaged(Sabotage::RestoreToStableOffset)
            && !sabotaged(Sabotage::RestoreUncommitted)
        {
            return self.apart(partition, committed, task.next(), now);
        }
        tracing::debug!(stage = %stage.name, %partition, records = restored.records,
            next = %task.next(), "restored");
        if let Some(bearer) = task.bearer().map(str::to_owned) {
            self.fence(partition, &bearer, now);
        }
        self.life += 1;
        self.lives.insert(partition, self.life);
        // Not the group's: that one expires (Kafka trap 27).
        let from = task.next();
        let reset = committed.is_none() && sabotaged(Sabotage::ExpiredOffsetSkips);
        self.member.start(partition, if reset { end } else { from })?;
        if sabotaged(Sabotage::EffectsForgottenOnRestart) {
            let forgotten = task.effects_ready(usize::MAX).into_iter();
            task.under_way.extend(forgotten.map(|(a, pending)| (a, pending.request.ordering_key)));
        }
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
            fetched: from,
            until: end,
            search: None,
            paused: false,
            leaving: false,
        })))
    }
}

/// Only for [`Sabotage::BeginBeforeRestore`]: something to begin a transaction with. Not in the
/// changelog, or the restore would wait for this very transaction.
fn begun(topic: &TopicName) -> OutRecord {
    OutRecord {
        topic: topic.clone(),
        partition: None,
        key: Some(b"_begun".to_vec()),
        value: None,
        headers: Headers::new(),
    }
}
