//! A sink lane: one member of a sink's group. Records go to a database in batches of one partition,
//! rows and offset in one database transaction; the offset row is the truth, the group's committed
//! offset is what dashboards read.
//!
//! A record that the database refuses is kept in the sink's outbox by the transaction that refuses
//! it, and leaves it only in a write after its dead letter was committed in the log. So a crash or
//! a lost answer between the two loses no letter: who starts at a partition, or finds that a write
//! of unknown fate was committed, tells what the outbox holds. A letter may come twice then, with
//! one id (it is derived from the record's origin and the sink): at least once.
//!
//! Never blocks on the database: batches are handed to a port, answers are taken from it, and the
//! partition pauses meanwhile, so a database that is away for long costs no memory and no
//! rebalance. Invariants: one batch of a partition is under way at a time; a batch is written again
//! only after its fate is known; a lane that lost its partition changes no row (the sink's
//! compare-and-set sees to that).

mod outbox;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use semel_connectors::sink::{SinkBatch, SinkError, Written};
use semel_schemas::{
    fault::Fault,
    record::Record,
    sabotage::{Sabotage, sabotaged},
    time::WallTime,
    topic::{NextOffset, Offset, Partition, TopicId},
};

use outbox::Letter;

use super::{
    counts::{Board, Counts},
    lane::LaneError,
    status::{Status, TaskStatus},
    topology::TopicRef,
};
use crate::log::{Event, Isolation, Log, LogError, Member, MemberSpec, OutParts, TxnFault};

/// Records of one batch.
const BATCH_MAX: usize = 2_000;
/// Records of one partition that wait in memory; beyond it the partition pauses.
const BUFFER_MAX: usize = 4_000;
/// Bytes of the largest record that a dead letter holds whole.
const LETTER_MAX: usize = 900_000;
/// Milliseconds between two tries while the database is away: doubled from the first to the last.
const RETRY_MS: (u64, u64) = (100, 5_000);
/// Milliseconds between two looks at records that wait for a parent row.
const TICK_MS: u64 = 500;
/// Milliseconds between two looks into the outbox: a tick of a predecessor, which leaves no trace in
/// the offset row, may have been committed after our first look.
const LOOK_MS: u64 = 60_000;

/// What is asked of the database.
#[derive(Clone, Debug)]
pub enum SinkAsk {
    /// What the offset row holds.
    Position,
    /// What was refused and not told, as far as is known there.
    Unreported,
    /// Write a batch.
    Write(Arc<SinkBatch>),
}

/// What it answers.
#[derive(Debug)]
pub enum SinkAnswer {
    /// To [`SinkAsk::Position`].
    Position(Result<Option<NextOffset>, SinkError>),
    /// To [`SinkAsk::Unreported`].
    Unreported(Result<Vec<(Record, Fault)>, SinkError>),
    /// To [`SinkAsk::Write`].
    Write(Result<Written, SinkError>),
}

/// Where questions go and answers come from. Never blocks; holds at most one question a partition.
pub trait SinkPort: Send {
    /// Asks. The number comes back with the answer.
    fn ask(&mut self, partition: Partition, life: u64, ask: SinkAsk);
    /// The answers that have come.
    fn answers(&mut self) -> Vec<(Partition, u64, SinkAnswer)>;
}

/// What a sink lane is made of.
pub struct SinkParts {
    /// Sink's name in the spec.
    pub name: String,
    /// The topic it reads.
    pub topic: TopicRef,
    /// Dead letters of the pipeline.
    pub dead_letter: TopicRef,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The database.
    pub port: Box<dyn SinkPort>,
    /// Where counts go.
    pub board: Arc<Board>,
    /// What others may see.
    pub status: Arc<Status>,
    /// How it joins.
    pub member: MemberSpec,
}

impl std::fmt::Debug for SinkParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkParts").field("member", &self.member).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Phase {
    /// The offset row is to be read at this time.
    Locate(WallTime),
    /// The offset row is being read.
    Locating,
    /// The outbox is being read.
    Looking,
    /// Nothing is under way.
    Idle,
    /// A batch is under way.
    Writing(Arc<SinkBatch>),
    /// The batch is to be written again at this time.
    Again(Arc<SinkBatch>, WallTime),
    /// The batch's fate is unknown: the offset row is being read, or is to be at this time.
    Doubt(Arc<SinkBatch>, Option<WallTime>),
}

#[derive(Debug)]
struct Slot {
    life: u64,
    phase: Phase,
    /// What the offset row holds.
    at: Option<NextOffset>,
    buffer: VecDeque<Record>,
    paused: bool,
    delayed: u64,
    ticked_at: WallTime,
    backoff_ms: u64,
    /// The outbox may hold what we know nothing of: it is to be read, from this time on.
    look: Option<WallTime>,
    looked_at: WallTime,
    /// Refused records whose letters are in the log, and that the outbox may still hold.
    reported: BTreeSet<Offset>,
}

/// See the module.
pub struct SinkLane {
    parts: SinkParts,
    member: Box<dyn Member>,
    topic_id: TopicId,
    slots: BTreeMap<Partition, Slot>,
    life: u64,
    to_commit: BTreeMap<Partition, NextOffset>,
    letters: Vec<Letter>,
    init_at: Option<WallTime>,
}

impl std::fmt::Debug for SinkLane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkLane")
            .field("group", &self.parts.member.group)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

impl SinkLane {
    /// Joins the group.
    ///
    /// # Errors
    /// [`LaneError`].
    pub fn join(parts: SinkParts) -> Result<Self, LaneError> {
        let topic = &parts.topic.name;
        let info = parts.log.topic(topic)?.ok_or_else(|| LogError::NoTopic(topic.clone()))?;
        let member = parts.log.join(&parts.member)?;
        Ok(Self {
            member,
            topic_id: info.id,
            parts,
            slots: BTreeMap::new(),
            life: 0,
            to_commit: BTreeMap::new(),
            letters: Vec::new(),
            init_at: Some(WallTime(0)),
        })
    }

    /// One cycle; waits at most `wait` if there is nothing to do. `true` if something was done.
    ///
    /// # Errors
    /// [`LaneError`]: the lane must be dropped.
    pub fn step(&mut self, now: WallTime, wait: Duration) -> Result<bool, LaneError> {
        let under_way = self.slots.values().any(|slot| !matches!(slot.phase, Phase::Idle));
        let wait = if under_way { wait.min(Duration::from_millis(2)) } else { wait };
        let events = self.member.poll(BATCH_MAX, wait)?;
        let mut busy = false;
        for event in events {
            busy |= !matches!(event, Event::End(_));
            self.event(event, now)?;
        }
        for (partition, life, answer) in self.parts.port.answers() {
            busy = true;
            if self.slots.get(&partition).is_some_and(|slot| slot.life == life) {
                self.answer(partition, answer, now)?;
            }
        }
        self.ask(now);
        self.press()?;
        self.tell_group(now)?;
        self.report();
        Ok(busy)
    }

    /// Leaves the group. A batch that is under way ends as it may: the offset row knows.
    ///
    /// # Errors
    /// [`LaneError`].
    pub fn drain(mut self, now: WallTime) -> Result<(), LaneError> {
        self.tell_group(now)?;
        let all: Vec<_> = self.slots.keys().copied().collect();
        self.take_out(&all, now);
        self.slots.clear();
        self.report();
        self.member.leave()?;
        Ok(())
    }

    /// Whether no batch is under way or waits, and each refused record is a letter.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.letters.is_empty()
            && self.slots.values().all(|slot| {
                matches!(slot.phase, Phase::Idle) && slot.buffer.is_empty() && slot.look.is_none()
            })
    }

    /// Records that wait in memory.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.slots.values().map(|slot| slot.buffer.len()).sum()
    }

    fn event(&mut self, event: Event, now: WallTime) -> Result<(), LaneError> {
        match event {
            Event::Assigned(partitions) => {
                for partition in partitions {
                    self.life += 1;
                    let slot = Slot {
                        life: self.life,
                        phase: Phase::Locate(now),
                        at: None,
                        buffer: VecDeque::new(),
                        paused: false,
                        delayed: 0,
                        ticked_at: now,
                        backoff_ms: RETRY_MS.0,
                        look: None,
                        looked_at: now,
                        reported: BTreeSet::new(),
                    };
                    self.slots.insert(partition, slot);
                }
            }
            Event::Revoked(partitions) => {
                self.tell_group(now)?;
                self.let_go(&partitions, now)?;
            }
            Event::Lost(partitions) => self.let_go(&partitions, now)?,
            Event::Record(record) => {
                if let Some(slot) = self.slots.get_mut(&record.partition) {
                    slot.buffer.push_back(super::dead_letter::for_sink(record, &self.parts.name));
                }
            }
            Event::End(_) => {}
        }
        Ok(())
    }

    fn let_go(&mut self, partitions: &[Partition], now: WallTime) -> Result<(), LaneError> {
        self.take_out(partitions, now);
        for partition in partitions {
            self.slots.remove(partition);
            self.to_commit.remove(partition);
            // The outbox has them: who gets the partition tells them.
            self.letters.retain(|letter| letter.partition != *partition);
        }
        self.member.release(partitions)?;
        Ok(())
    }

    fn answer(
        &mut self,
        partition: Partition,
        answer: SinkAnswer,
        now: WallTime,
    ) -> Result<(), LaneError> {
        let Some(slot) = self.slots.get_mut(&partition) else { return Ok(()) };
        let phase = std::mem::replace(&mut slot.phase, Phase::Idle);
        match (phase, answer) {
            (Phase::Locating, SinkAnswer::Position(Ok(at))) => {
                self.start(partition, at, now)?;
            }
            (Phase::Locating, SinkAnswer::Position(Err(error))) => {
                let again = wait_longer(slot, &error, now)?;
                slot.phase = Phase::Locate(again);
            }
            (Phase::Doubt(batch, _), SinkAnswer::Position(Ok(at))) => {
                if at == Some(batch.next) {
                    self.done_unseen(partition, &batch, now);
                } else if at == batch.expected {
                    slot.phase = Phase::Again(batch, now);
                } else {
                    slot.reported.extend(&batch.reported);
                    self.start(partition, at, now)?;
                }
            }
            (Phase::Doubt(batch, _), SinkAnswer::Position(Err(error))) => {
                let again = wait_longer(slot, &error, now)?;
                slot.phase = Phase::Doubt(batch, Some(again));
            }
            (
                Phase::Writing(batch),
                SinkAnswer::Write(Ok(Written::Done { rows, delayed, refused })),
            ) => {
                self.done(partition, &batch, rows, delayed, &refused);
            }
            (Phase::Writing(batch), SinkAnswer::Write(Ok(Written::Moved { found }))) => {
                if found == Some(batch.next) && !batch.records.is_empty() {
                    self.done_unseen(partition, &batch, now);
                } else {
                    slot.reported.extend(&batch.reported);
                    tracing::warn!(sink = %self.parts.name, %partition, ?found,
                        expected = ?batch.expected, "the offset row has moved; going on from there");
                    self.start(partition, found, now)?;
                }
            }
            (Phase::Writing(batch), SinkAnswer::Write(Err(error))) => {
                let again = wait_longer(slot, &error, now)?;
                slot.phase = match error {
                    SinkError::Unknown(_) => Phase::Doubt(batch, Some(again)),
                    _ => Phase::Again(batch, again),
                };
            }
            (Phase::Looking, SinkAnswer::Unreported(Ok(found))) => {
                // The answer is bounded: looked again, after these are told, until none is left.
                slot.look = (!found.is_empty()).then_some(now);
                slot.looked_at = now;
                slot.backoff_ms = RETRY_MS.0;
                self.late_letters(partition, &found);
            }
            (Phase::Looking, SinkAnswer::Unreported(Err(error))) => {
                slot.look = Some(wait_longer(slot, &error, now)?);
            }
            (phase, _) => slot.phase = phase,
        }
        Ok(())
    }

    /// Starts (or starts again) where the offset row says.
    fn start(
        &mut self,
        partition: Partition,
        at: Option<NextOffset>,
        now: WallTime,
    ) -> Result<(), LaneError> {
        let from = match at {
            Some(at) => at,
            None => {
                let mut reader = self.parts.log.reader(Isolation::Committed)?;
                reader.bounds(&self.parts.topic.name, partition)?.0
            }
        };
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.at = at;
            if !sabotaged(Sabotage::SinkBufferKept) {
                slot.buffer.clear();
            }
            slot.paused = false;
            slot.phase = Phase::Idle;
            slot.backoff_ms = RETRY_MS.0;
            // Records that wait for a parent may be there from an earlier life: look once.
            slot.delayed = u64::from(at.is_some());
            slot.look = at.map(|_| now).filter(|_| looks());
        }
        self.member.start(partition, from)?;
        Ok(())
    }

    fn done(
        &mut self,
        partition: Partition,
        batch: &SinkBatch,
        rows: u64,
        delayed: u64,
        refused: &[(Record, Fault)],
    ) {
        let mut counts = Counts {
            records_in: batch.records.len() as u64,
            dead_letters: refused.len() as u64,
            commits: 1,
            ..Counts::default()
        };
        counts.named("rows", rows);
        self.parts.board.add(&self.parts.name, &counts);
        self.refused(partition, refused);
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.at = Some(batch.next);
            slot.delayed = delayed;
            slot.backoff_ms = RETRY_MS.0;
            slot.phase = Phase::Idle;
        }
        self.to_commit.insert(partition, batch.next);
    }

    fn ask(&mut self, now: WallTime) {
        let untold: BTreeSet<_> = self.letters.iter().map(|letter| letter.partition).collect();
        for (partition, slot) in &mut self.slots {
            let due = slot.at.is_some() && now.0 >= slot.looked_at.0 + LOOK_MS;
            if due && slot.look.is_none() && looks() {
                slot.look = Some(now);
            }
            let ask = match &slot.phase {
                Phase::Locate(at) if *at <= now => SinkAsk::Position,
                Phase::Doubt(_, Some(at)) if *at <= now => SinkAsk::Position,
                Phase::Again(batch, at) if *at <= now => SinkAsk::Write(batch.clone()),
                // First what we know is told and taken out: the rest of the outbox is unknown.
                Phase::Idle if slot.look.is_some() && untold.contains(partition) => continue,
                Phase::Idle if slot.reported.is_empty() && slot.look.is_some() => {
                    if slot.look.is_some_and(|at| at > now) {
                        continue;
                    }
                    SinkAsk::Unreported
                }
                Phase::Idle => match next_batch(&self.parts, &self.topic_id, *partition, slot, now)
                {
                    Some(batch) => SinkAsk::Write(Arc::new(batch)),
                    None => continue,
                },
                _ => continue,
            };
            slot.phase = match (std::mem::replace(&mut slot.phase, Phase::Idle), &ask) {
                (_, SinkAsk::Write(batch)) => Phase::Writing(batch.clone()),
                (Phase::Doubt(batch, _), SinkAsk::Position) => Phase::Doubt(batch, None),
                (_, SinkAsk::Position) => Phase::Locating,
                (_, SinkAsk::Unreported) => Phase::Looking,
            };
            self.parts.port.ask(*partition, slot.life, ask);
        }
    }

    fn press(&mut self) -> Result<(), LaneError> {
        for (partition, slot) in &mut self.slots {
            let full = slot.buffer.len() >= BUFFER_MAX;
            let low = slot.buffer.len() < BATCH_MAX;
            if full && !slot.paused {
                slot.paused = true;
                self.member.pause(&[*partition])?;
            } else if low && slot.paused {
                slot.paused = false;
                self.member.resume(&[*partition])?;
            }
        }
        Ok(())
    }

    /// Tells the group (and so every dashboard) how far the database has come, together with the
    /// dead letters. A failure here loses nothing but a moment: the offset row is the truth.
    fn tell_group(&mut self, now: WallTime) -> Result<(), LaneError> {
        if self.to_commit.is_empty() || self.init_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        let result = self.try_tell();
        match result {
            Ok(()) => {
                self.to_commit.clear();
                for letter in self.letters.drain(..) {
                    if let Some(slot) = self.slots.get_mut(&letter.partition) {
                        slot.reported.insert(letter.offset);
                    }
                }
            }
            Err(error) if error.fault == TxnFault::Fatal => {
                return Err(LaneError::Fatal(error.text));
            }
            Err(error) => {
                tracing::warn!(sink = %self.parts.name, %error, "telling the group failed");
                if self.member.abort().is_err() || error.fault != TxnFault::Abort {
                    self.init_at = Some(now.plus_ms(RETRY_MS.0));
                }
            }
        }
        Ok(())
    }

    fn try_tell(&mut self) -> Result<(), crate::log::TxnError> {
        if self.init_at.is_some() {
            self.member.init()?;
            self.init_at = None;
        }
        for letter in &self.letters {
            super::lane::produce(&mut *self.member, OutParts::of(&letter.record))?;
        }
        let offsets: Vec<_> = self.to_commit.iter().map(|(p, next)| (*p, *next)).collect();
        self.member.commit(&offsets)
    }

    fn report(&self) {
        let tasks = self
            .slots
            .iter()
            .map(|(partition, slot)| {
                let status = TaskStatus {
                    restoring: matches!(slot.phase, Phase::Locate(_) | Phase::Locating),
                    caught_up: slot.buffer.is_empty(),
                    paused: slot.paused,
                    ..TaskStatus::at(slot.at.unwrap_or(NextOffset::ZERO))
                };
                (*partition, status)
            })
            .collect();
        self.parts.status.set(&self.parts.member.instance, &self.parts.name, tasks);
    }
}

/// The next batch of an idle partition: what is buffered, or nothing as a tick for what waits.
fn next_batch(
    parts: &SinkParts,
    topic_id: &TopicId,
    partition: Partition,
    slot: &mut Slot,
    now: WallTime,
) -> Option<SinkBatch> {
    // Until the outbox is read, a batch only takes out what was told: others could go on refusing
    // and telling for ever.
    let count = if slot.look.is_some() { 0 } else { slot.buffer.len().min(BATCH_MAX) };
    let records: Vec<Record> = slot.buffer.drain(..count).collect();
    let next = match (records.last(), slot.at) {
        (Some(last), _) => last.next(),
        (None, Some(at)) if wants_tick(slot, now) => at,
        _ => return None,
    };
    let (next, records) = match sabotaged(Sabotage::SinkOffsetsApart) {
        true => offset_first(next, records, slot),
        false => (next, records),
    };
    slot.ticked_at = now;
    Some(SinkBatch {
        topic: parts.topic.name.clone(),
        topic_id: topic_id.clone(),
        partition,
        expected: slot.at,
        next,
        records,
        reported: std::mem::take(&mut slot.reported).into_iter().collect(),
    })
}

/// Only for [`Sabotage::SinkOffsetsApart`]: the offset moves in a batch of its own, the records
/// follow in one that moves nothing.
fn offset_first(
    next: NextOffset,
    records: Vec<Record>,
    slot: &mut Slot,
) -> (NextOffset, Vec<Record>) {
    if slot.at == Some(next) || records.is_empty() {
        return (next, records);
    }
    records.into_iter().rev().for_each(|record| slot.buffer.push_front(record));
    (next, Vec::new())
}

/// Whether outboxes are read.
fn looks() -> bool {
    !sabotaged(Sabotage::SinkLettersForgotten)
}

/// Whether an empty batch has something to do: release what waits, or take out what was told (at
/// once if the rest of the outbox is to be read then).
fn wants_tick(slot: &Slot, now: WallTime) -> bool {
    let told = !slot.reported.is_empty();
    let due = now.0 >= slot.ticked_at.0 + TICK_MS;
    (due && (told || slot.delayed > 0)) || (told && slot.look.is_some_and(|at| at <= now))
}

/// When to try again; a refusal is for a person.
fn wait_longer(slot: &mut Slot, error: &SinkError, now: WallTime) -> Result<WallTime, LaneError> {
    if let SinkError::Refused(text) = error {
        return Err(LaneError::Fatal(text.clone()));
    }
    tracing::warn!(%error, retry_ms = slot.backoff_ms, "the database did not take a batch");
    let again = now.plus_ms(slot.backoff_ms);
    slot.backoff_ms = (slot.backoff_ms * 2).min(RETRY_MS.1);
    Ok(again)
}
