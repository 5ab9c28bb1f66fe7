//! A task: one partition of one stage, with its state. Inputs go in, an overlay and an outbox come
//! out; the lane commits both with the task's next offset.
//!
//! Lives here: the walk of one input through the stage. May not live here: the log, clocks,
//! threads. `mod` the task and its inputs · `meta` what it knows of itself · `steps` the operators ·
//! `firing` timers · `progress` event time.
//! Invariants: an input either leaves everything it asked for, or nothing but a dead
//! letter; the next offset is part of the state; `now` never goes back.

mod firing;
mod meta;
mod progress;
mod steps;

use std::{collections::BTreeMap, sync::Arc};

use semel_operators::operator::{Envelope, EventTime, Input, StateView, TimerKey};
use semel_schemas::{
    effect::Outcome,
    fault::{Fault, FaultCode},
    header,
    progress::PROGRESS,
    record::{OutRecord, Record},
    sabotage::{Sabotage, sabotaged},
    time::WallTime,
    topic::{NextOffset, Partition, TopicId},
};

pub use self::{
    firing::Fired,
    meta::{Meta, bearer_in},
};
pub(crate) use self::{meta::META, progress::PROGRESS_STORE};
use super::{counts::Counts, dead_letter, effects, overlay::Overlay, quarantine, topology::Stage};

/// What a task is given.
#[derive(Clone, Debug)]
pub enum TaskInput {
    /// A record of the input topic.
    Record(Record),
    /// A record that was found to break the commit: it goes to the dead letters unread.
    Poison(Record),
    /// A command about a quarantined key that lies further on in the input topic, while the
    /// partition is paused because the quarantine is full.
    Command(Record),
    /// An outcome of an effect.
    Outcome {
        /// The attempt.
        attempt: u64,
        /// The answer.
        outcome: Outcome,
    },
    /// An outcome that was found to break the commit: it goes to the dead letters unread.
    Spoilt {
        /// The attempt.
        attempt: u64,
        /// The answer.
        outcome: Outcome,
    },
}

impl TaskInput {
    /// The same input, found to break the commit; `None`: it is better left out (it comes again).
    #[must_use]
    pub fn condemned(self) -> Option<Self> {
        match self {
            Self::Record(record) | Self::Poison(record) => Some(Self::Poison(record)),
            Self::Outcome { attempt, outcome } | Self::Spoilt { attempt, outcome } => {
                Some(Self::Spoilt { attempt, outcome })
            }
            Self::Command(_) => None,
        }
    }

    /// The same input with nothing held against it.
    #[must_use]
    pub fn acquitted(self) -> Self {
        match self {
            Self::Poison(record) => Self::Record(record),
            Self::Spoilt { attempt, outcome } => Self::Outcome { attempt, outcome },
            other => other,
        }
    }
}

/// The fault of an input without which the log takes a commit, and with which it does not.
fn poison(what: &str) -> Fault {
    Fault::new(
        FaultCode::Poison,
        format!("the commit failed again and again with this {what} in it, and without it did not"),
    )
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
    /// Why the present step's input is refused although the step stands.
    pub(super) step_refused: Option<Fault>,
    /// What is counted once it is committed.
    pub(super) counts: Counts,
    kept_counts: Counts,
    /// Attempts that are under way outside, with their ordering keys.
    pub under_way: BTreeMap<u64, String>,
    /// Those of them whose outcome was taken since the last commit.
    answered: Vec<(u64, String)>,
    /// After which ordering key the next hand-out goes on.
    turn: Vec<u8>,
    /// Whether a wall-clock timer may fire: the input that was there at the start is worked up.
    pub caught_up: bool,
    touched: bool,
    places: Vec<String>,
    /// When the first timer of each clock is due, as far as that is known.
    first_due: Option<[Option<u64>; 3]>,
    /// A timer that goes to the dead letters when it fires next.
    condemned: Option<(u8, TimerKey)>,
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
            held_keys: 0,
            bearer: None,
            moved: None,
        };
        let meta = state
            .get(META, b"")
            .map_or(fresh, |bytes| semel_operators::operator::from_state(META, &bytes));
        if meta.topic_id != *topic_id && !sabotaged(Sabotage::RecreatedTopicTaken) {
            return Err(format!(
                "topic `{}` was recreated: the state of stage `{}` belongs to its incarnation {}, \
                 the log now has {}; give the pipeline another name to begin anew",
                stage.input.name, stage.name, meta.topic_id.0, topic_id.0
            ));
        }
        if let Some(moved) = &meta.moved {
            return Err(format!(
                "stage `{}` was repartitioned: its records and its state go on in topic `{moved}`; \
                 set `generation` and `partitions` of its input under [topics] in the spec",
                stage.name
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
            step_refused: None,
            counts: Counts::default(),
            kept_counts: Counts::default(),
            under_way: BTreeMap::new(),
            answered: Vec::new(),
            turn: Vec::new(),
            caught_up: false,
            touched: false,
            places,
            first_due: None,
            condemned: None,
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

    /// The transactional id of the lane that committed last, if it did not hand the task over.
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        self.committed.bearer.as_deref()
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
        self.outbox.len() + self.state.uncommitted()
    }

    /// Whether the partition must pause because too many records wait behind quarantined keys.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.meta.waiting >= self.stage.limits.quarantine_per_task_max
    }

    /// Records that wait behind quarantined keys, those at fault included, as committed.
    #[must_use]
    pub fn held_records(&self) -> u32 {
        self.committed.waiting
    }

    /// Keys that wait for a decision, as committed.
    #[must_use]
    pub fn held_keys(&self) -> u32 {
        self.committed.held_keys
    }

    /// Sees to it that the operators saw [`Input::Begin`]: once in a task's life.
    pub fn begin(&mut self, now: WallTime) {
        if self.meta.begun {
            return;
        }
        self.set_now(now);
        let place = format!("{}/{}", self.stage.name, self.partition);
        let mut result = Ok(());
        // The last first: what one emits meets operators that have begun.
        for operator in (0..self.stage.operators.len()).rev() {
            let cause = format!("begin:{place}");
            result = result.and_then(|()| self.run(operator, Input::Begin, &cause));
        }
        self.settle(result, "begin");
        self.meta.begun = true;
        self.keep();
    }

    /// One input. Never fails: what cannot be processed is a dead letter.
    pub fn process(&mut self, input: &TaskInput, now: WallTime) {
        self.set_now(now);
        match input {
            TaskInput::Record(record) => self.record(record),
            TaskInput::Poison(record) => {
                self.counts.records_in += 1;
                self.meta.next = after(record);
                self.refuse(record, &poison("record"));
            }
            TaskInput::Command(record) => {
                if quarantine::commanded(self, record).is_err() {
                    // In its turn it is refused with a reason.
                    self.undo();
                }
            }
            TaskInput::Outcome { attempt, outcome } => {
                self.outcome(*attempt, Ok(outcome.clone()));
            }
            TaskInput::Spoilt { attempt, .. } => self.outcome(*attempt, Err(poison("outcome"))),
        }
        self.keep();
    }

    /// Effects that may be handed out now, so that at most `limit` are under way.
    pub fn effects_ready(&mut self, limit: usize) -> Vec<(u64, effects::Pending)> {
        let room = limit.saturating_sub(self.under_way.len());
        effects::ready(&self.state, &self.under_way, &mut self.turn, room)
    }

    /// Whether an input is a record that lies before the position: it was handed out again, and
    /// has been processed.
    #[must_use]
    pub fn is_past(&self, input: &TaskInput) -> bool {
        match input {
            TaskInput::Record(record) | TaskInput::Poison(record) => {
                record.next() <= self.meta.next && !sabotaged(Sabotage::PastTakenAgain)
            }
            TaskInput::Command(_) | TaskInput::Outcome { .. } | TaskInput::Spoilt { .. } => false,
        }
    }

    /// What a commit by `bearer` takes; `None`: by a lane that hands the task over. The task stays
    /// touched until [`Task::promote`].
    pub fn cut(&mut self, bearer: Option<&str>) -> Cut {
        self.meta.bearer = bearer.map(str::to_owned);
        let mut meta = self.meta.clone();
        if sabotaged(Sabotage::OffsetOneTooSmall) {
            meta.next = NextOffset(meta.next.0.saturating_sub(1));
        }
        self.state.write(META, b"", Some(semel_schemas::codec::encode(&meta)));
        self.state.keep_step();
        Cut { outputs: std::mem::take(&mut self.outbox), next: meta.next }
    }

    /// The changes of state that go with [`Task::cut`], by full key.
    pub fn changelog(&self) -> impl Iterator<Item = crate::state::Change<'_>> {
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
        self.answered.clear();
        self.touched = false;
        Ok(std::mem::take(&mut self.kept_counts))
    }

    /// Writes what the local store holds back: the task is about to leave.
    ///
    /// # Errors
    /// The local store's failure.
    pub fn flush(&mut self) -> Result<(), crate::state::StoreError> {
        self.state.flush()
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
        // Their outcomes are given again: nobody is to be asked for them anew meanwhile.
        self.under_way.extend(self.answered.drain(..));
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
        self.kept.follow(&self.meta);
        self.kept_counts.add(&std::mem::take(&mut self.counts));
        self.touched = true;
    }

    /// Undoes the present step (not what earlier ones left), but not the clock.
    pub(super) fn undo(&mut self) {
        if !sabotaged(Sabotage::RefusedLeavesState) {
            self.state.forget_step();
        }
        self.first_due = None;
        self.step_refused = None;
        self.step_out.clear();
        let (now, next) = (self.meta.now, self.meta.next);
        self.meta = Meta { now, next, ..self.kept.clone() };
        self.counts = Counts::default();
    }

    fn record(&mut self, record: &Record) {
        self.counts.records_in += 1;
        self.meta.next = after(record);
        if dead_letter::is_for_another(record, &self.stage.name) {
            return;
        }
        if let Err(fault) = self.try_record(record) {
            self.undo();
            self.counts.records_in += 1;
            self.refuse(record, &fault);
        } else if let Some(fault) = self.step_refused.take() {
            self.refuse(record, &fault);
        }
    }

    fn try_record(&mut self, record: &Record) -> Result<(), Fault> {
        let envelope = dead_letter::envelope(&self.stage, record)?;
        if envelope.kind == PROGRESS {
            self.progress(&envelope)?;
            return self.check_step();
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
        if right == self.partition || sabotaged(Sabotage::MisplacedTaken) {
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

    pub(super) fn refuse(&mut self, record: &Record, fault: &Fault) {
        self.counts.dead_letters += 1;
        tracing::info!(stage = %self.stage.name, origin = record.origin(), id = record.id(),
            trace_id = record.headers.trace_id(), code = %fault.code, text = %fault.text,
            "a record was refused");
        if !sabotaged(Sabotage::DeadLetterLost) {
            self.step_out.push(dead_letter::letter(
                &self.stage.name,
                &self.stage.dead_letter,
                record,
                fault,
                self.stage.limits.record_bytes_max,
            ));
        }
        quarantine::refused(self, record, fault);
    }

    /// Keeps or undoes a step that was not a record's: its fault is a dead letter without origin.
    /// `true` if it was undone.
    fn settle(&mut self, result: Result<(), Fault>, what: &str) -> bool {
        let (fault, undone) = match result.and_then(|()| self.check_step()) {
            Ok(()) => match self.step_refused.take() {
                Some(fault) => (fault, false),
                None => return false,
            },
            Err(fault) => {
                self.undo();
                (fault, true)
            }
        };
        self.counts.dead_letters += 1;
        let letter = dead_letter::notice(&self.stage, self.partition, what, &fault);
        self.step_out.push(letter);
        undone
    }

    fn outcome(&mut self, attempt: u64, outcome: Result<Outcome, Fault>) {
        if let Some(order) = self.under_way.remove(&attempt) {
            self.answered.push((attempt, order));
        }
        let Some(pending) = effects::answer(&mut self.state, attempt) else {
            return;
        };
        let operator = usize::from(pending.operator);
        let id = pending.request.id;
        let what = format!("outcome of effect `{id}`");
        let cause = format!("effect:{}/{}/{attempt}", self.stage.name, self.partition);
        let nothing_known = matches!(outcome, Ok(Outcome::Uncertain { .. }));
        self.counts.uncertain += u64::from(nothing_known);
        let result =
            outcome.and_then(|outcome| self.run(operator, Input::Outcome { id, outcome }, &cause));
        if self.settle(result, &what) {
            effects::answer(&mut self.state, attempt);
        }
        self.counts.outcomes += 1;
    }
}

/// Where reading goes on after a record (Kafka trap 1).
fn after(record: &Record) -> NextOffset {
    let next = record.next();
    if sabotaged(Sabotage::OffsetOneTooLarge) { NextOffset(next.0 + 1) } else { next }
}
