//! A task: one partition of one stage, with its state. Inputs go in, an overlay and an outbox come
//! out; the lane commits both with the task's next offset.
//!
//! Lives here: the walk of one input through the stage. May not live here: the log, clocks,
//! threads. Invariants: an input either leaves everything it asked for, or nothing but a dead
//! letter; the next offset is part of the state; `now` never goes back.

use std::{collections::BTreeSet, sync::Arc};

use semel_operators::operator::{
    Clock, Context, Emit, Envelope, EventTime, Input, StateView, Step, TimerOp, To,
};
use semel_schemas::{
    effect::Outcome,
    fault::{Fault, FaultCode},
    header::{self, Headers},
    progress::{PROGRESS, Progress},
    record::{OutRecord, Record},
    time::WallTime,
    topic::{NextOffset, Partition, TopicId},
};
use serde::{Deserialize, Serialize};

use super::{
    counts::Counts,
    dead_letter, effects,
    overlay::{Overlay, Writes},
    quarantine, timers,
    topology::{Stage, TopicRef},
};

/// The engine's own store: one key, [`Meta`].
pub(super) const META: &str = "_task";
/// Progress by source.
const PROGRESS_STORE: &str = "_progress";

/// What a task knows of itself: a value of its state like any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Where reading goes on.
    pub next: NextOffset,
    /// The input topic's incarnation that `next` belongs to.
    pub topic_id: TopicId,
    /// The task's clock: never goes back.
    pub now: WallTime,
    /// Counts what needs a name of its own: attempts of effects, fired timers.
    pub sequence: u64,
    /// Whether the operators saw [`Input::Begin`].
    pub begun: bool,
    /// Event time.
    pub event_time: EventTime,
    /// Event time as it was passed on last.
    pub passed_on: EventTime,
    /// Records that wait behind quarantined keys.
    pub waiting: u32,
}

/// What a task is given.
#[derive(Clone, Debug)]
pub enum TaskInput {
    /// A record of the input topic.
    Record(Record),
    /// A record that was found to break the commit: it goes to the dead letters unread.
    Poison(Record),
    /// The input that was there when the task started is worked up.
    CaughtUp,
    /// An outcome of an effect.
    Outcome {
        /// The attempt.
        attempt: u64,
        /// The answer.
        outcome: Outcome,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Task {
    pub(super) stage: Arc<Stage>,
    /// The partition.
    pub partition: Partition,
    pub(super) state: Overlay,
    pub(super) meta: Meta,
    committed: Meta,
    kept: Meta,
    outbox: Vec<OutRecord>,
    pub(super) step_out: Vec<OutRecord>,
    /// What is counted once it is committed.
    pub(super) counts: Counts,
    kept_counts: Counts,
    /// Attempts that are under way outside.
    pub under_way: BTreeSet<u64>,
    /// Whether a wall-clock timer may fire: the input that was there at the start is worked up.
    pub caught_up: bool,
    touched: bool,
    places: Vec<String>,
    /// When the first timer of each clock is due, as far as that is known.
    first_due: Option<[Option<u64>; 3]>,
}

/// What one commit takes from a task.
#[derive(Debug)]
pub struct Cut {
    /// Records for downstream topics.
    pub outputs: Vec<OutRecord>,
    /// The next offset to commit.
    pub next: NextOffset,
}

impl Task {
    /// A task over restored state. `first` is where a task without state starts.
    ///
    /// # Errors
    /// A sentence if the stored state belongs to another incarnation of the topic.
    pub fn new(
        stage: Arc<Stage>,
        partition: Partition,
        state: Overlay,
        topic_id: &TopicId,
        first: NextOffset,
    ) -> Result<Self, String> {
        let fresh = Meta {
            next: first,
            topic_id: topic_id.clone(),
            now: WallTime(0),
            sequence: 0,
            begun: false,
            event_time: EventTime::default(),
            passed_on: EventTime::default(),
            waiting: 0,
        };
        let meta = state
            .get(META, b"")
            .map_or(fresh, |bytes| semel_operators::operator::from_state(META, &bytes));
        if meta.topic_id != *topic_id {
            return Err(format!(
                "topic `{}` was recreated: the state of stage `{}` belongs to its incarnation {}, \
                 the log now has {}; reset the stage to start anew",
                stage.input.name, stage.name, meta.topic_id.0, topic_id.0
            ));
        }
        let places =
            stage.operators.iter().map(|o| format!("{}/{}", stage.name, o.name())).collect();
        Ok(Self {
            stage,
            partition,
            state,
            committed: meta.clone(),
            kept: meta.clone(),
            meta,
            outbox: Vec::new(),
            step_out: Vec::new(),
            counts: Counts::default(),
            kept_counts: Counts::default(),
            under_way: BTreeSet::new(),
            caught_up: false,
            touched: false,
            places,
            first_due: None,
        })
    }

    /// Where reading goes on, as committed.
    #[must_use]
    pub fn committed_next(&self) -> NextOffset {
        self.committed.next
    }

    /// Where reading goes on, with what is not committed yet.
    #[must_use]
    pub fn next(&self) -> NextOffset {
        self.meta.next
    }

    /// Event time as committed.
    #[must_use]
    pub fn event_time(&self) -> EventTime {
        self.committed.event_time
    }

    /// Whether anything happened since the last commit.
    #[must_use]
    pub fn touched(&self) -> bool {
        self.touched
    }

    /// Records and changes that the next commit would write.
    #[must_use]
    pub fn uncommitted(&self) -> usize {
        self.outbox.len() + self.state.transaction().len()
    }

    /// Whether the partition must pause because too many records wait behind quarantined keys.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.meta.waiting >= self.stage.limits.quarantine_per_task_max
    }

    /// Sees to it that the operators saw [`Input::Begin`]: once in a task's life.
    pub fn begin(&mut self, now: WallTime) {
        if self.meta.begun {
            return;
        }
        self.set_now(now);
        let place = format!("{}/{}", self.stage.name, self.partition);
        let mut result = Ok(());
        for operator in 0..self.stage.operators.len() {
            let cause = format!("begin:{place}");
            result = result.and_then(|()| self.run(operator, Input::Begin, &cause));
        }
        self.settle(result, "begin");
        self.meta.begun = true;
        self.keep();
    }

    /// One input. Never fails: what cannot be processed is a dead letter.
    pub fn process(&mut self, input: TaskInput, now: WallTime) {
        self.set_now(now);
        match input {
            TaskInput::Record(record) => self.record(record),
            TaskInput::Poison(record) => {
                let fault = Fault::new(
                    FaultCode::Poison,
                    "the commit failed again and again with this record in it, and without it did \
                     not",
                );
                self.meta.next = record.next();
                self.refuse(record, fault);
            }
            TaskInput::CaughtUp => self.caught_up = true,
            TaskInput::Outcome { attempt, outcome } => self.outcome(attempt, outcome),
        }
        self.keep();
    }

    /// Fires what is due: event-time timers, then (once caught up) wall-clock timers, then passes
    /// event time on if nothing due holds it back. A bounded number a call; `true` if more is due.
    pub fn fire(&mut self, now: WallTime) -> bool {
        let limit = self.stage.limits.timers_max;
        let first_due = self.first_due();
        let mut more = false;
        for ((clock, until), first) in self.clocks(now).into_iter().zip(first_due) {
            let (Some(until), Some(first)) = (until, first) else { continue };
            if first > until {
                continue;
            }
            let due = timers::due(&self.state, clock, until, limit);
            more |= due.len() == limit;
            for timer in due {
                self.set_now(now);
                self.fire_one(timer);
                self.keep();
            }
        }
        if !more && self.pass_event_time_on() {
            self.keep();
        }
        more
    }

    /// How far each clock has come.
    fn clocks(&self, now: WallTime) -> [(Clock, Option<u64>); 3] {
        let event_time = self.meta.event_time;
        [
            (Clock::Complete, event_time.complete.map(|s| s.0)),
            (Clock::Finalized, event_time.finalized.map(|s| s.0)),
            (Clock::Wall, self.caught_up.then_some(now.0.max(self.meta.now.0))),
        ]
    }

    fn first_due(&mut self) -> [Option<u64>; 3] {
        let state = &self.state;
        *self.first_due.get_or_insert_with(|| {
            [Clock::Complete, Clock::Finalized, Clock::Wall].map(|c| timers::first(state, c))
        })
    }

    /// When [`Task::fire`] has something to do by the wall clock.
    #[must_use]
    pub fn next_wall_timer(&mut self) -> Option<WallTime> {
        let [_, _, wall] = self.first_due();
        wall.filter(|_| self.caught_up).map(WallTime)
    }

    /// What a commit takes. The task stays touched until [`Task::promote`].
    pub fn cut(&mut self) -> Cut {
        let meta = semel_schemas::codec::encode(&self.meta);
        self.state.write(META, b"", Some(meta));
        self.state.keep_step();
        Cut { outputs: std::mem::take(&mut self.outbox), next: self.meta.next }
    }

    /// The changes of state that go with [`Task::cut`], by full key.
    #[must_use]
    pub fn changelog(&self) -> &Writes {
        self.state.transaction()
    }

    /// The commit happened: makes it permanent, and returns what is to be counted.
    ///
    /// # Errors
    /// The local store's failure: the task must be restored.
    pub fn promote(
        &mut self,
        checkpoint: &crate::state::Checkpoint,
    ) -> Result<Counts, crate::state::StoreError> {
        self.state.promote(checkpoint)?;
        self.committed = self.meta.clone();
        self.touched = false;
        Ok(std::mem::take(&mut self.kept_counts))
    }

    /// The commit is known not to have happened: everything since the last one is forgotten. The
    /// lane gives the inputs again.
    pub fn roll_back(&mut self) {
        self.state.forget_transaction();
        self.first_due = None;
        self.meta = self.committed.clone();
        self.kept = self.committed.clone();
        self.outbox.clear();
        self.step_out.clear();
        self.counts = Counts::default();
        self.kept_counts = Counts::default();
        self.touched = false;
    }

    /// The state, for looking at.
    #[must_use]
    pub fn state(&self) -> &Overlay {
        &self.state
    }

    /// Makes the task part of the next commit though nothing happened in it.
    pub fn touch(&mut self) {
        self.touched = true;
    }

    /// Whether the local store failed.
    ///
    /// # Errors
    /// Its failure.
    pub fn check(&self) -> Result<(), crate::state::StoreError> {
        self.state.check()
    }

    fn set_now(&mut self, now: WallTime) {
        self.meta.now = self.meta.now.max(now);
    }

    pub(super) fn keep(&mut self) {
        self.state.keep_step();
        self.outbox.append(&mut self.step_out);
        self.kept = self.meta.clone();
        self.kept_counts.add(&std::mem::take(&mut self.counts));
        self.touched = true;
    }

    /// Undoes the present step (not what earlier ones left), but not the clock.
    pub(super) fn undo(&mut self) {
        self.state.forget_step();
        self.first_due = None;
        self.step_out.clear();
        let (now, next) = (self.meta.now, self.meta.next);
        self.meta = Meta { now, next, ..self.kept.clone() };
        self.counts = Counts::default();
    }

    fn record(&mut self, record: Record) {
        self.counts.records_in += 1;
        self.meta.next = record.next();
        if let Err(fault) = self.try_record(&record) {
            self.undo();
            self.counts.records_in += 1;
            self.refuse(record, fault);
        }
    }

    fn try_record(&mut self, record: &Record) -> Result<(), Fault> {
        let envelope = dead_letter::envelope(&self.stage, record)?;
        if envelope.kind == PROGRESS {
            return self.progress(&envelope);
        }
        if envelope.key.is_empty() {
            return Err(Fault::new(
                FaultCode::EmptyKey,
                "the record has no key, so it belongs to no partition: produce it with a key",
            ));
        }
        if self.forwarded(record) {
            return Ok(());
        }
        if quarantine::taken(self, record, &envelope)? {
            return Ok(());
        }
        self.enter(envelope)
    }

    /// Gives a record to the first operator that takes it.
    pub(super) fn enter(&mut self, envelope: Envelope) -> Result<(), Fault> {
        let Some(operator) = self.stage.taker(0, &envelope.kind) else {
            return Err(Fault::new(
                FaultCode::UnknownType,
                format!("stage `{}` reads no records of type `{}`", self.stage.name, envelope.kind),
            ));
        };
        let cause = envelope.id.clone();
        self.run(operator, Input::Record(envelope), &cause)?;
        self.check_step()
    }

    /// Sends a record that was produced into the wrong partition to the right one.
    fn forwarded(&mut self, record: &Record) -> bool {
        let key = record.key.as_deref().unwrap_or_default();
        let right = semel_schemas::partition::partition_for_key(key, self.stage.input.partitions);
        if right == self.partition {
            return false;
        }
        let mut headers = record.headers.clone();
        headers.set(header::ID, record.id());
        headers.set(header::ORIGIN, record.origin());
        self.step_out.push(OutRecord {
            topic: self.stage.input.name.clone(),
            partition: Some(right),
            key: record.key.clone(),
            value: record.value.clone(),
            headers,
        });
        self.counts.forwarded += 1;
        true
    }

    pub(super) fn refuse(&mut self, record: Record, fault: Fault) {
        self.counts.dead_letters += 1;
        self.step_out.push(dead_letter::letter(
            &self.stage.name,
            &self.stage.dead_letter,
            &record,
            &fault,
        ));
        quarantine::refused(self, record, &fault);
    }

    /// Keeps or undoes a step that was not a record's: its fault is a dead letter without origin.
    /// `true` if it was undone.
    fn settle(&mut self, result: Result<(), Fault>, what: &str) -> bool {
        let Err(fault) = result.and_then(|()| self.check_step()) else { return false };
        self.undo();
        self.counts.dead_letters += 1;
        let letter = dead_letter::notice(&self.stage, self.partition, what, &fault);
        self.step_out.push(letter);
        true
    }

    fn outcome(&mut self, attempt: u64, outcome: Outcome) {
        self.under_way.remove(&attempt);
        let Some(pending) = effects::answer(&mut self.state, attempt) else {
            return;
        };
        self.counts.outcomes += 1;
        let operator = usize::from(pending.operator);
        let id = pending.request.id;
        let what = format!("outcome of effect `{id}`");
        let cause = format!("effect:{}/{}/{attempt}", self.stage.name, self.partition);
        let result = self.run(operator, Input::Outcome { id, outcome }, &cause);
        if self.settle(result, &what) {
            effects::answer(&mut self.state, attempt);
        }
    }

    fn fire_one(&mut self, timer: timers::Due) {
        timers::cancel(&mut self.state, timer.operator, &timer.key);
        self.first_due = None;
        self.meta.sequence += 1;
        self.counts.timers += 1;
        let cause = format!(
            "timer:{}/{}/{}/{}",
            self.stage.name, self.partition, timer.key.name, self.meta.sequence
        );
        let what = format!("timer `{}`", timer.key.name);
        let operator = usize::from(timer.operator);
        let key = timer.key.clone();
        let result = self.run(operator, Input::Timer { key, payload: timer.payload }, &cause);
        if self.settle(result, &what) {
            timers::cancel(&mut self.state, timer.operator, &timer.key);
        }
    }

    fn progress(&mut self, envelope: &Envelope) -> Result<(), Fault> {
        let value = envelope.value.as_deref().unwrap_or_default();
        let progress: Progress = semel_schemas::codec::decode(PROGRESS, value)?;
        let before: Option<Progress> = self
            .state
            .get(PROGRESS_STORE, progress.source.as_bytes())
            .map(|bytes| semel_operators::operator::from_state(PROGRESS_STORE, &bytes));
        if let Some(before) = before
            && (progress.complete < before.complete || progress.finalized < before.finalized)
        {
            return Err(Fault::new(
                FaultCode::SlotBackwards,
                format!(
                    "progress of source `{}` went back: complete {} → {}, finalized {} → {}",
                    progress.source,
                    before.complete,
                    progress.complete,
                    before.finalized,
                    progress.finalized
                ),
            ));
        }
        if progress.finalized > progress.complete {
            return Err(Fault::new(
                FaultCode::WrongType,
                format!(
                    "progress of source `{}` is finalized up to {} but complete only up to {}",
                    progress.source, progress.finalized, progress.complete
                ),
            ));
        }
        let bytes = semel_schemas::codec::encode(&progress);
        self.state.write(PROGRESS_STORE, progress.source.as_bytes(), Some(bytes));
        let moved = self.least_progress();
        if moved != self.meta.event_time {
            self.meta.event_time = moved;
            for operator in 0..self.stage.operators.len() {
                self.run(operator, Input::Progress(moved), &envelope.id)?;
            }
        }
        Ok(())
    }

    /// Event time: the least progress over the sources that are expected.
    fn least_progress(&self) -> EventTime {
        let spoken: Vec<Progress> = self
            .state
            .scan(PROGRESS_STORE, b"", b"", usize::MAX >> 1)
            .into_iter()
            .map(|(_, bytes)| semel_operators::operator::from_state(PROGRESS_STORE, &bytes))
            .collect();
        let expected = &self.stage.sources;
        let counted: Vec<_> =
            spoken.iter().filter(|p| expected.is_empty() || expected.contains(&p.source)).collect();
        if counted.len() < expected.len() {
            return self.meta.event_time;
        }
        EventTime {
            complete: counted.iter().map(|p| p.complete).min(),
            finalized: counted.iter().map(|p| p.finalized).min(),
            at: counted.iter().map(|p| p.at).min().unwrap_or_default(),
        }
    }

    /// Tells the stages behind this one how far it has come.
    fn pass_event_time_on(&mut self) -> bool {
        let time = self.meta.event_time;
        let (Some(complete), Some(finalized)) = (time.complete, time.finalized) else {
            return false;
        };
        if time == self.meta.passed_on || self.stage.progress_to.is_empty() {
            return false;
        }
        let source = format!("{}/{}", self.stage.name, self.partition);
        let progress = Progress { source, complete, finalized, at: time.at };
        for topic in self.stage.clone().progress_to.iter() {
            self.write_progress(topic, &progress);
        }
        self.meta.passed_on = time;
        true
    }

    fn write_progress(&mut self, topic: &TopicRef, progress: &Progress) {
        let value = semel_schemas::codec::encode(progress);
        for partition in 0..topic.partitions {
            let mut headers = Headers::new();
            headers.push(header::TYPE, PROGRESS);
            self.step_out.push(OutRecord {
                topic: topic.name.clone(),
                partition: Some(Partition(partition)),
                key: Some(progress.source.clone().into_bytes()),
                value: Some(value.clone()),
                headers,
            });
        }
    }

    pub(super) fn run(&mut self, operator: usize, input: Input, cause: &str) -> Result<(), Fault> {
        let stage = self.stage.clone();
        let Some(machine) = stage.operators.get(operator) else {
            return Err(Fault::new(FaultCode::UnknownTarget, format!("no operator {operator}")));
        };
        let step = {
            let place = &self.places[operator];
            let mut ctx =
                Context::new(&self.state, self.meta.now, self.meta.event_time, cause, place);
            machine.apply(&mut ctx, input)?;
            ctx.finish()
        };
        self.take_step(operator, step, cause)
    }

    fn take_step(&mut self, operator: usize, step: Step, cause: &str) -> Result<(), Fault> {
        let index = u8::try_from(operator).unwrap_or(u8::MAX);
        for ((store, key), value) in step.writes {
            self.state.write(store, &key, value);
        }
        for timer in step.timers {
            self.first_due = None;
            match timer {
                TimerOp::Set { key, at, payload } => {
                    timers::set(&mut self.state, index, &key, at, payload);
                }
                TimerOp::Cancel(key) => timers::cancel(&mut self.state, index, &key),
            }
        }
        for id in step.forget {
            effects::forget(&mut self.state, index, &id);
        }
        for request in step.effects {
            self.meta.sequence += 1;
            self.counts.effects += 1;
            effects::record(&mut self.state, index, self.meta.sequence, request);
        }
        for (name, by) in step.counts {
            self.counts.named(name, by);
        }
        for Emit { to, record } in step.emits {
            match to {
                To::Next => self.pass(operator, record, cause)?,
                To::Output(name) => {
                    let ties = self.stage.clone();
                    for topic in ties.outputs.get(name).into_iter().flatten() {
                        self.send(topic, &record, cause);
                    }
                }
            }
        }
        Ok(())
    }

    fn pass(&mut self, operator: usize, record: Envelope, cause: &str) -> Result<(), Fault> {
        if let Some(next) = self.stage.taker(operator + 1, &record.kind) {
            let cause = record.id.clone();
            return self.run(next, Input::Record(record), &cause);
        }
        let stage = self.stage.clone();
        for topic in &stage.next {
            if record.kind == PROGRESS {
                let value = record.value.as_deref().unwrap_or_default();
                let said: Progress = semel_schemas::codec::decode(PROGRESS, value)?;
                let source = format!("{}/{}", self.stage.name, self.partition);
                self.write_progress(topic, &Progress { source, ..said });
            } else {
                self.send(topic, &record, cause);
            }
        }
        Ok(())
    }

    fn send(&mut self, topic: &TopicRef, record: &Envelope, cause: &str) {
        let mut headers = record.headers.clone();
        headers.set(header::ID, record.id.as_bytes());
        headers.set(header::TYPE, record.kind.as_bytes());
        headers.set(header::CAUSE, cause);
        let partition = semel_schemas::partition::partition_for_key(&record.key, topic.partitions);
        self.counts.records_out += 1;
        self.step_out.push(OutRecord {
            topic: topic.name.clone(),
            partition: Some(partition),
            key: Some(record.key.clone()),
            value: record.value.clone(),
            headers,
        });
    }

    /// Refuses a step that would break the commit by its size (Kafka trap 39).
    fn check_step(&self) -> Result<(), Fault> {
        let limits = &self.stage.limits;
        if self.step_out.len() > limits.outputs_max {
            return Err(Fault::new(
                FaultCode::StepTooLarge,
                format!(
                    "one input made {} records; the limit is {}",
                    self.step_out.len(),
                    limits.outputs_max
                ),
            ));
        }
        match self.step_out.iter().find(|record| record.size() > limits.record_bytes_max) {
            None => Ok(()),
            Some(record) => Err(Fault::new(
                FaultCode::StepTooLarge,
                format!(
                    "a record of {} bytes for topic `{}` exceeds the limit of {} bytes",
                    record.size(),
                    record.topic,
                    limits.record_bytes_max
                ),
            )),
        }
    }
}
