//! How a lane ends a transaction: the commit, and what is done when it fails.
//!
//! Invariants: a task with a broken local store reaches no commit; after a known abort every input
//! stands where it stood; after an unknown end nothing in memory counts; a lane whose commits the
//! log refuses without any input in them waits before it tries again.

use semel_schemas::{
    header::Headers,
    sabotage::{Sabotage, sabotaged},
    time::WallTime,
    topic::{NextOffset, Partition},
};

use super::{
    super::{
        counts::Counts,
        decide::{Decision, Failure, decide},
        task::TaskInput,
    },
    Active, FENCED_WINDOW_MS, HOLD_MS, Lane, LaneError, MARK_EVERY_MS, Slot, Suspect,
};
use crate::log::{
    Isolation, Log, LogError, Member, OutParts, ProduceError, Reader, TxnError, TxnFault,
};

/// Milliseconds after a rebalance in which being fenced says nothing of a second process.
const REBALANCE_MS: u64 = 30_000;

impl Lane {
    pub(super) fn commit(&mut self, now: WallTime) -> Result<(), LaneError> {
        for slot in self.slots.values() {
            if let Slot::Active(active) = slot {
                active.task.check()?;
            }
        }
        let mut tries = 0;
        let mut offsets = None;
        loop {
            let result = match &offsets {
                None => self.produce_all(),
                Some(offsets) => Ok(Vec::clone(offsets)),
            };
            let result = result.and_then(|ready| {
                let sent =
                    if sabotaged(Sabotage::CommitWithoutOffsets) { &[] } else { ready.as_slice() };
                let committed = self.member.commit(sent);
                offsets = Some(ready);
                committed
            });
            let Err(error) = result else { return self.promote(now) };
            tries += 1;
            let fault = match error.fault {
                TxnFault::Unknown if sabotaged(Sabotage::UnknownIsCommitted) => {
                    return self.promote(now);
                }
                TxnFault::Unknown if sabotaged(Sabotage::UnknownIsAbort) => TxnFault::Abort,
                // Records may be half produced: only an abort makes that whole again.
                TxnFault::Retry if offsets.is_none() => TxnFault::Abort,
                fault => fault,
            };
            let failure = self.facts(fault, tries, now);
            match decide(&failure) {
                Decision::Again => {}
                decision => return self.failed(&error, &failure, decision, now),
            }
        }
    }

    fn produce_all(&mut self) -> Result<Vec<(Partition, NextOffset)>, TxnError> {
        let mut offsets = Vec::new();
        let mut late = Vec::new();
        let (changelog, no_headers) = (&self.parts.stage.changelog.name, Headers::new());
        for (partition, slot) in &mut self.slots {
            let Slot::Active(active) = slot else { continue };
            if !active.task.touched() {
                continue;
            }
            let bearer = (!active.leaving).then_some(self.parts.member.instance.as_str());
            let cut = active.task.cut(bearer);
            offsets.push((*partition, cut.next));
            if sabotaged(Sabotage::CommitBeforeOutputs) {
                late = cut.outputs;
            } else {
                for record in &cut.outputs {
                    produce(&mut *self.member, OutParts::of(record))?;
                }
            }
            if sabotaged(Sabotage::OutputsBeforeCommit) {
                self.member.commit(&[(*partition, active.task.committed_next())])?;
            }
            for (key, value) in active.task.changelog() {
                if value.is_none() && sabotaged(Sabotage::SkipTombstones) {
                    continue;
                }
                let change = OutParts {
                    topic: changelog,
                    partition: Some(*partition),
                    key: Some(key),
                    value: value.map(Vec::as_slice),
                    headers: &no_headers,
                };
                produce(&mut *self.member, change)?;
            }
            if sabotaged(Sabotage::CommitBeforeOutputs) {
                self.member.commit(&offsets)?;
                for record in std::mem::take(&mut late) {
                    produce(&mut *self.member, OutParts::of(&record))?;
                }
            }
        }
        Ok(offsets)
    }

    fn promote(&mut self, now: WallTime) -> Result<(), LaneError> {
        let stage = self.parts.stage.clone();
        let mut sums = Counts { commits: 1, ..Counts::default() };
        let mut reader = self.mark_reader.take();
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
            if active.leaving {
                active.task.flush()?;
            }
            if now.0.saturating_sub(active.marked_at.0) >= MARK_EVERY_MS {
                let place = (&stage.changelog.name, *partition);
                reader = look_ahead(&*self.parts.log, reader, active, place, now);
            }
        }
        self.mark_reader = reader;
        self.parts.board.add(&stage.name, &sums);
        self.taken.clear();
        self.fired = (0, None);
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

    /// The facts of a failed call; `tries`: how often it was made.
    fn facts(&mut self, fault: TxnFault, tries: u32, now: WallTime) -> Failure {
        // A new owner of partitions that were ours fences us too, once; a second process with our id
        // does so again and again.
        let moving = |at: WallTime| now.0.saturating_sub(at.0) < REBALANCE_MS;
        if fault == TxnFault::Rebuild && !self.rebalanced_at.is_some_and(moving) {
            self.fenced_at.push_back(now);
        }
        self.fenced_at.retain(|at| now.0.saturating_sub(at.0) < FENCED_WINDOW_MS);
        Failure {
            fault,
            inputs: self.inputs(),
            in_a_row: if fault == TxnFault::Retry { tries } else { self.in_a_row + 1 },
            probed: self.probed,
            fenced: u32::try_from(self.fenced_at.len()).unwrap_or(u32::MAX),
        }
    }

    fn failed(
        &mut self,
        error: &TxnError,
        failure: &Failure,
        decision: Decision,
        now: WallTime,
    ) -> Result<(), LaneError> {
        self.in_a_row += 1;
        tracing::warn!(group = %self.parts.member.group, %error, fault = ?error.fault, ?decision,
            inputs = failure.inputs, "commit failed");
        if failure.inputs == 0 && self.in_a_row > 1 {
            self.hold_until = now.plus_ms(HOLD_MS);
        }
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
            Decision::Again => self.rewind(now),
            Decision::Rewind { inputs_max } => {
                self.inputs_max = inputs_max.or(self.inputs_max);
                self.rewind(now)
            }
            Decision::Probe => {
                let timer = self.fired.1.take();
                self.rewind(now)?;
                self.inputs_max = Some(1);
                let of_input = self.ready.front().map(|(partition, _)| *partition);
                if let Some(partition) = timer.map(|(partition, _)| partition).or(of_input) {
                    self.probe(partition, now);
                }
                Ok(())
            }
            Decision::Condemn => {
                let timer = self.fired.1.take();
                self.rewind(now)?;
                self.condemn(timer);
                Ok(())
            }
        }
    }

    /// The one input of the cycle that failed, now at the head of the queue, or else the one timer.
    fn condemn(&mut self, timer: Option<Suspect>) {
        if let Some((partition, timer)) = timer {
            if let Some(Slot::Active(active)) = self.slots.get_mut(&partition) {
                active.task.condemn(timer);
            }
            return;
        }
        let Some((partition, input)) = self.ready.pop_front() else { return };
        if let Some(input) = input.condemned() {
            self.ready.push_front((partition, input));
        }
    }

    /// Commits once without any input, to see whether the log takes commits at all.
    fn probe(&mut self, partition: Partition, now: WallTime) {
        if let Some(Slot::Active(active)) = self.slots.get_mut(&partition) {
            active.task.touch();
            self.probing = true;
            self.open_since = Some(now);
        }
    }

    /// A known abort gives everything back, in order.
    pub(super) fn rewind(&mut self, now: WallTime) -> Result<(), LaneError> {
        if let Err(error) = self.member.abort() {
            tracing::warn!(group = %self.parts.member.group, %error, "abort failed; rebuilding");
            self.rebuild(now);
            return Ok(());
        }
        for slot in self.slots.values_mut() {
            if let Slot::Active(active) = slot {
                if sabotaged(Sabotage::PromoteOnAbort) {
                    active.task.promote(&active.checkpoint)?;
                }
                active.task.roll_back();
                active.effects_waiting = true;
                active.task.begin(now);
            }
        }
        for (partition, input) in given_back(&mut self.taken).into_iter().rev() {
            self.ready.push_front((partition, input.acquitted()));
        }
        self.fired = (0, None);
        self.probing = false;
        self.open_since = self.any_touched().then_some(now);
        self.parts.board.add(&self.parts.stage.name, &Counts { aborts: 1, ..Counts::default() });
        Ok(())
    }

    /// An unknown end: everything in memory is dropped; every task starts as after an assignment.
    fn rebuild(&mut self, now: WallTime) {
        for slot in self.slots.values_mut() {
            *slot = Slot::New(now);
        }
        self.lives.clear();
        self.ready.clear();
        self.taken.clear();
        self.fired = (0, None);
        self.open_since = None;
        self.probing = false;
        self.probed = false;
        if !sabotaged(Sabotage::StaleProducerEpoch) {
            self.init_at = Some(now);
        }
        let partitions: Vec<_> = self.slots.keys().copied().collect();
        if let Err(error) = self.member.pause(&partitions) {
            tracing::warn!(%error, "pausing failed");
        }
    }
}

/// The inputs of an aborted transaction, in the order in which they were taken.
fn given_back(taken: &mut Vec<(Partition, TaskInput)>) -> Vec<(Partition, TaskInput)> {
    let mut taken = std::mem::take(taken);
    if sabotaged(Sabotage::AbortReordersInputs) {
        taken.reverse();
    }
    if sabotaged(Sabotage::DropOutcomeOnAbort) {
        taken.retain(|(_, input)| !matches!(input, TaskInput::Outcome { .. }));
    }
    if sabotaged(Sabotage::DropRecordsOnAbort) {
        taken.retain(|(_, input)| !matches!(input, TaskInput::Record(_)));
    }
    taken
}

/// Notes where the changelog ends after our commit, see [`Active::mark`]. A log that cannot say so
/// now is asked again after the next commit, by a new reader.
fn look_ahead(
    log: &dyn Log,
    reader: Option<Box<dyn Reader>>,
    active: &mut Active,
    (changelog, partition): (&semel_schemas::topic::TopicName, Partition),
    now: WallTime,
) -> Option<Box<dyn Reader>> {
    let end = || -> Result<(Box<dyn Reader>, NextOffset), LogError> {
        let mut reader = reader.map_or_else(|| log.reader(Isolation::Uncommitted), Ok)?;
        let (_, end) = reader.bounds(changelog, partition)?;
        Ok((reader, end))
    };
    match end() {
        Ok((reader, end)) => {
            active.marked_at = now;
            active.mark = Some(end);
            Some(reader)
        }
        Err(error) => {
            tracing::debug!(%error, "the changelog's end is not known");
            None
        }
    }
}

/// Produces; a full queue is waited out by polling for nothing (trap 20).
pub(in crate::engine) fn produce(
    member: &mut dyn Member,
    record: OutParts<'_>,
) -> Result<(), TxnError> {
    loop {
        match member.produce_parts(record) {
            Ok(()) => return Ok(()),
            Err(ProduceError::Full) => member.make_room()?,
            Err(ProduceError::Txn(error)) => return Err(error),
            Err(error @ ProduceError::TooLarge { .. }) => {
                return Err(TxnError { fault: TxnFault::Abort, text: error.to_string() });
            }
        }
    }
}
