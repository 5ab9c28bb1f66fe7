//! `reset`: a stage begins anew at another place of its topic, with an empty state.
//!
//! State, offset and the record of the command are one transaction for each partition: the state's
//! keys are deleted in the changelog, the task's own position is written there, and the group's
//! offset is committed by a member that owns the partition, so that a lane which is still alive is
//! fenced like any zombie. What the stage has written stays written; [`Looked::consequences`] says
//! what that means to each reader.
//!
//! Invariants: nothing is written unless the stage stands still everywhere (every partition of the
//! group came to us); what the task must never take back (its clock, its numbers of attempts)
//! stays; a reset that stopped half-way has whole partitions behind it, and is to be asked for
//! again.

mod consequences;
mod sink;
mod target;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use semel_schemas::{
    codec,
    header::Headers,
    record::OutRecord,
    request::CommandKind,
    time::WallTime,
    topic::{NextOffset, Partition},
};
use serde::{Deserialize, Serialize};

pub use self::{
    sink::{OffsetRows, Standing, reset_sink},
    target::To,
};
use super::{Stop, View, consume::Cursor, halt::paused, view::Part};
use crate::{
    engine::{
        overlay::full_key,
        task::{META, Meta},
        topology::{Stage, TopicRef},
    },
    log::{Event, Isolation, Member, MemberSpec, ProduceError, TxnError, TxnFault},
};

/// How long partitions may take to come to us: longer than the sessions of lanes that were killed.
const OWN_MAX: Duration = Duration::from_secs(45);
/// One look for an event of the group.
const WAIT: Duration = Duration::from_millis(100);
/// How long one partition's transaction may stay open.
const TRANSACTION: Duration = Duration::from_secs(60);
/// How long the group waits for us.
const SESSION: Duration = Duration::from_secs(10);
/// Most bytes of keys that one transaction deletes.
const KEYS_MAX: usize = 32 << 20;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// The stage, or source.
    pub part: String,
    /// Where it begins anew.
    pub to: To,
    /// Whether to do it.
    pub act: Act,
    /// What to do about effects without an outcome.
    pub unanswered: Unanswered,
    /// Who asks.
    pub by: String,
}

/// Whether to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Only say what would happen.
    Look,
    /// Do it.
    Do,
}

/// What to do about effects without an outcome: they may have happened, and only the state knows of
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unanswered {
    /// Refuse the reset.
    Keep,
    /// Forget them.
    Forget,
}

/// What would happen, or happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// Partition by partition.
    pub rows: Vec<ResetRow>,
    /// What follows for those that read what the stage writes, one sentence each.
    pub consequences: Vec<String>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetRow {
    /// Partition.
    pub partition: u32,
    /// Where the task stands; none: it never began.
    pub from: Option<u64>,
    /// Where it is to begin anew.
    pub to: u64,
    /// The end of the topic's partition.
    pub end: u64,
    /// Keys of its operators' stores, which are emptied.
    pub keys: u64,
    /// Timers, which are forgotten.
    pub timers: u64,
    /// Effects without an outcome.
    pub effects: u64,
    /// Records behind quarantined keys, which are forgotten here (and read again, if they lie
    /// behind `to`).
    pub waiting: u64,
}

/// What a changelog's partition holds.
#[derive(Default)]
struct Held {
    keys: BTreeSet<Vec<u8>>,
    meta: Option<Meta>,
}

impl Held {
    fn count(&self, store: &str) -> u64 {
        let prefix = full_key(store, b"");
        self.keys.iter().filter(|key| key.starts_with(&prefix)).count() as u64
    }

    fn own(&self) -> u64 {
        self.keys.iter().filter(|key| key.first() != Some(&b'_')).count() as u64
    }
}

/// Looks, and does it if that is asked.
///
/// # Errors
/// [`Stop`]: nothing was done, or whole partitions were; the sentence says which.
pub fn reset(view: &View, ask: &Reset) -> Result<Looked, Stop> {
    let Part::Stage(stage) = view.part(&ask.part)? else {
        return Err(Stop::Refused(format!(
            "`{}` is a sink: how far it has come stands in its database, so it is reset by a \
             command that has the log for itself; end the process of this data folder first",
            ask.part
        )));
    };
    let name = &stage.name;
    if ask.act == Act::Do && view.live.is_some() && !paused(view)?.contains(name) {
        return Err(Stop::Refused(format!(
            "`{name}` runs: pause it first (`semel pause SPEC {name}`), or end the processes"
        )));
    }
    view.existing(&stage.input.name)?;
    view.existing(&stage.changelog.name)?;
    let rows = match ask.act {
        Act::Look => {
            let each = (0..stage.input.partitions).map(Partition);
            each.map(|partition| Ok(look(view, stage, ask, partition)?.0))
                .collect::<Result<_, Stop>>()?
        }
        Act::Do => perform(view, stage, ask)?,
    };
    let consequences = consequences::of(view, stage, &rows);
    Ok(Looked { rows, consequences })
}

/// What a partition's reset would do.
fn look(
    view: &View,
    stage: &Stage,
    ask: &Reset,
    partition: Partition,
) -> Result<(ResetRow, Held), Stop> {
    let held = held(view, stage, partition)?;
    let (to, end) = target::find(view, &stage.input.name, partition, ask.to)?;
    let row = ResetRow {
        partition: partition.0,
        from: held.meta.as_ref().map(|meta| meta.next.0),
        to: to.0,
        end: end.0,
        keys: held.own(),
        timers: held.count("_timers"),
        effects: held.count("_effects"),
        waiting: held.meta.as_ref().map_or(0, |meta| meta.waiting.into()),
    };
    if row.effects > 0 && ask.act == Act::Do && ask.unanswered == Unanswered::Keep {
        return Err(Stop::Refused(format!(
            "partition {partition} of `{}` has {} effects without an outcome (a transaction that \
             was sent, a signature): they may happen or have happened, and nobody would know; let \
             them be answered (`semel lag` shows them), or say --forget-effects",
            stage.name, row.effects
        )));
    }
    let bytes: usize = held.keys.iter().map(Vec::len).sum();
    if bytes > KEYS_MAX {
        return Err(Stop::Refused(format!(
            "the state of `{}`, partition {partition}, has {} keys of {bytes} bytes: more than one \
             transaction can delete ({KEYS_MAX} bytes); begin anew under another name of the \
             pipeline",
            stage.name,
            held.keys.len()
        )));
    }
    Ok((row, held))
}

/// The keys that live in a changelog's partition, and what the task says of itself.
fn held(view: &View, stage: &Stage, partition: Partition) -> Result<Held, Stop> {
    let topic = &stage.changelog.name;
    let mut held = Held::default();
    let (_, all) = view.log.reader(Isolation::Uncommitted)?.bounds(topic, partition)?;
    let mut reader = view.log.reader(Isolation::Committed)?;
    let (first, end) = reader.bounds(topic, partition)?;
    if end < all {
        return Err(Stop::Refused(format!(
            "a transaction of `{}` is not decided yet in {topic}/{partition}: its bearer lives, or \
             died a moment ago; try again in a minute",
            stage.name
        )));
    }
    if first >= end {
        return Ok(held);
    }
    let mut cursor = Cursor::open(reader, (topic, partition), (first, end))?;
    let own = full_key(META, b"");
    while let Some(record) = cursor.take()? {
        let Some(key) = record.key else { continue };
        match record.value {
            None => {
                held.keys.remove(&key);
            }
            Some(value) => {
                if key == own {
                    let meta = codec::decode(META, &value).map_err(|fault| fault.to_string())?;
                    held.meta = Some(meta);
                }
                held.keys.insert(key);
            }
        }
    }
    Ok(held)
}

fn perform(view: &View, stage: &Stage, ask: &Reset) -> Result<Vec<ResetRow>, Stop> {
    let group = Group {
        pipeline: &stage.pipeline,
        name: &stage.name,
        group: &stage.group,
        topic: &stage.input,
    };
    group.hold(view, |member| {
        // All are looked at before the first is changed: what is refused is refused whole.
        let each = || (0..stage.input.partitions).map(Partition);
        let looked: Vec<(ResetRow, Held)> =
            each().map(|partition| look(view, stage, ask, partition)).collect::<Result<_, _>>()?;
        for (partition, (row, held)) in each().zip(&looked) {
            write(view, stage, ask, member, &group, (partition, row, held))?;
        }
        Ok(looked.into_iter().map(|(row, _)| row).collect())
    })
}

/// The group of a stage or a sink.
pub(super) struct Group<'a> {
    pub(super) pipeline: &'a str,
    pub(super) name: &'a str,
    pub(super) group: &'a str,
    pub(super) topic: &'a TopicRef,
}

impl Group<'_> {
    /// Does something while every partition of the group is ours.
    pub(super) fn hold<T>(
        &self,
        view: &View,
        what: impl FnOnce(&mut dyn Member) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let mut member = view.log.join(&MemberSpec {
            group: self.group.to_owned(),
            topic: self.topic.name.clone(),
            instance: format!("{}.{}.reset.0", self.pipeline, self.name),
            transaction_timeout: TRANSACTION,
            session_timeout: SESSION,
        })?;
        let done = self.own(&mut *member).and_then(|()| what(&mut *member));
        if let Err(error) = member.leave() {
            tracing::warn!(%error, "the group will notice by its session timeout that we have gone");
        }
        done
    }

    /// Waits until every partition of the group is ours: then nobody else can commit.
    fn own(&self, member: &mut dyn Member) -> Result<(), Stop> {
        let deadline = Instant::now() + OWN_MAX;
        while let Err(error) = member.init() {
            if error.fault == TxnFault::Fatal || Instant::now() > deadline {
                return Err(Stop::Refused(error.text));
            }
        }
        let (mut owned, all) = (BTreeSet::new(), self.topic.partitions);
        while owned.len() < all as usize {
            if Instant::now() > deadline {
                return Err(Stop::Refused(format!(
                    "`{name}` still runs somewhere: {} of {all} partitions came to this command \
                     after {} s; pause it (`semel pause SPEC {name}`) or end all processes of the \
                     pipeline, then ask again; nothing was changed",
                    owned.len(),
                    OWN_MAX.as_secs(),
                    name = self.name
                )));
            }
            for event in member.poll(1, WAIT)? {
                match event {
                    Event::Assigned(came) => owned.extend(came),
                    Event::Revoked(gone) | Event::Lost(gone) => {
                        owned.retain(|partition| !gone.contains(partition));
                        member.release(&gone)?;
                    }
                    Event::Record(_) | Event::End(_) => {}
                }
            }
        }
        Ok(())
    }

    fn half(&self, partition: Partition, why: &str) -> Stop {
        Stop::Refused(format!(
            "partition {partition} of `{}` was not reset, or it is not known ({why}); those before \
             it were: ask again",
            self.name
        ))
    }
}

/// One partition's transaction.
fn write(
    view: &View,
    stage: &Stage,
    ask: &Reset,
    member: &mut dyn Member,
    group: &Group<'_>,
    (partition, row, held): (Partition, &ResetRow, &Held),
) -> Result<(), Stop> {
    let id = view
        .log
        .topic(&stage.input.name)?
        .map(|info| info.id)
        .ok_or_else(|| Stop::Refused(format!("there is no topic {}", stage.input.name)))?;
    let next = NextOffset(row.to);
    let kept = held.meta.as_ref();
    let meta = Meta {
        next,
        topic_id: id,
        now: kept.map_or(WallTime(0), |meta| meta.now),
        sequence: kept.map_or(0, |meta| meta.sequence),
        begun: false,
        event_time: Default::default(),
        passed_on: Default::default(),
        waiting: 0,
        held_keys: 0,
        bearer: None,
        moved: kept.and_then(|meta| meta.moved.clone()),
    };
    let own = full_key(META, b"");
    let state = |key: Vec<u8>, value| OutRecord {
        topic: stage.changelog.name.clone(),
        partition: Some(partition),
        key: Some(key),
        value,
        headers: Headers::new(),
    };
    let mut records: Vec<OutRecord> =
        held.keys.iter().filter(|key| **key != own).map(|key| state(key.clone(), None)).collect();
    records.push(state(own.clone(), Some(codec::encode(&meta))));
    let from = row.from.map_or_else(|| "its start".to_owned(), |from| from.to_string());
    let detail = format!(
        "`{}`, partition {partition}: from {from} to {}, {} keys, {} timers and {} effects \
         forgotten",
        stage.name, row.to, row.keys, row.timers, row.effects
    );
    records.push(view.command(CommandKind::Reset, &stage.name, detail, &ask.by)?);
    for record in records {
        produce(member, record).map_err(|error| group.half(partition, &error))?;
    }
    commit(member, &[(partition, next)]).map_err(|error| group.half(partition, &error.text))
}

pub(super) fn produce(member: &mut dyn Member, record: OutRecord) -> Result<(), String> {
    loop {
        match member.produce(record.clone()) {
            Ok(()) => return Ok(()),
            Err(ProduceError::Full) => member.make_room().map_err(|e| e.text)?,
            Err(error) => return Err(error.to_string()),
        }
    }
}

pub(super) fn commit(
    member: &mut dyn Member,
    offsets: &[(Partition, NextOffset)],
) -> Result<(), TxnError> {
    let deadline = Instant::now() + OWN_MAX;
    loop {
        match member.commit(offsets) {
            Err(error) if error.fault == TxnFault::Retry && Instant::now() < deadline => {}
            Err(error) => {
                // Best effort: an open transaction ends with the member, too.
                if let Err(error) = member.abort() {
                    tracing::debug!(%error, "the transaction could not be ended");
                }
                return Err(error);
            }
            Ok(()) => return Ok(()),
        }
    }
}
