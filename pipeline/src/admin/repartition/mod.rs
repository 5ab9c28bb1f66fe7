//! `repartition`: a stage's input topic and its state get another number of partitions.
//!
//! `mod` the command · `share` which new task each part of the state goes to · `place` reading the
//! old tasks and writing the new ones · `generations` what the log remembers, and who may start.
//!
//! **Why a new generation of topics, and not more partitions in the old ones.** A key's records move
//! to another partition with the number, so a reader could meet the later ones before the earlier
//! ones (DESIGN.md, order of a key). Here everything before the switch has been processed before
//! anything behind it can be written: the new input topic (`p.in.g2`) and the new changelog
//! (`p.order.state.g2`) begin empty, with other names, and the old ones are never written to again.
//! The number may go down as well as up, which in place it could not.
//!
//! **The switch is one transaction**, fenced by the group's partitions like any commit of a lane: each
//! old task is marked as moved, each new task gets its position, clock and numbers, and the command
//! is recorded with the generation that is in force from now on. Before it, nothing of the new
//! generation counts: a process whose spec names it is refused, and a command that died while it
//! copied is asked again (what it copied is made equal to the old state, leftovers deleted; topics
//! that it made for another number are passed over). Behind it, nothing of the old one does: a
//! process or command whose spec names it is refused with the line to change, and a lane that was
//! alive all the while finds its task moved.
//!
//! **Which partition a pair of the state belongs to**, its writer says; see `share`. Of the engine's
//! own: timers and what waits behind quarantined keys carry their key; progress of sources is every
//! task's; a task's clock and its numbers of attempts are the greatest of all, so that no id is made
//! twice; effects without an outcome are refused. Operators that keep digests alone (`dedupe`,
//! `epoch_batch`, `merkle`, `settle_solana`, `sign`) do not say whose they are, so their stages
//! are refused as soon as they hold anything; sources have one partition by nature.
//!
//! Invariants: nothing is written unless the stage stands still everywhere and has processed all of
//! its input; a topic that is read by others, too, is not repartitioned (they would have to switch in
//! the same transaction).

mod generations;
mod place;
mod share;
#[cfg(test)]
mod tests;

use semel_schemas::{
    codec,
    header::Headers,
    record::OutRecord,
    request::{CommandKind, Generation},
    time::WallTime,
    topic::{NextOffset, Partition, TopicId, TopicName},
};
use serde::{Deserialize, Serialize};

pub use self::generations::in_force;
use self::{place::Old, share::Pairs};
use super::{
    Stop, View,
    reset::{Act, Group, commit, produce},
    view::Part,
};
use crate::{
    engine::{
        overlay::full_key,
        task::{META, Meta},
        topology::{Stage, TopicRef},
    },
    log::{LogError, Member, TopicSpec},
    spec::generation,
};

/// Bytes of a transaction that copies.
const CHUNK: usize = 4 << 20;
/// Most partitions: a topic of more is a mistake.
const PARTITIONS_MAX: u32 = 10_000;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repartition {
    /// The stage.
    pub stage: String,
    /// Partitions that its input topic is to have.
    pub partitions: u32,
    /// Whether to do it.
    pub act: Act,
    /// Who asks.
    pub by: String,
}

/// What would happen, or happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// The input topic from now on.
    pub topic: String,
    /// New partitions, in order.
    pub rows: Vec<SharedRow>,
    /// What the spec must say from now on, a line each.
    pub spec: Vec<String>,
    /// What follows, one sentence each.
    pub consequences: Vec<String>,
}

/// A new partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedRow {
    /// Partition.
    pub partition: u32,
    /// Keys of its operators' stores.
    pub keys: u64,
    /// Timers.
    pub timers: u64,
    /// Records that wait behind quarantined keys.
    pub waiting: u32,
}

/// The topics of the next generation.
struct Next {
    input: TopicSpec,
    changelog: TopicSpec,
    /// Which generation they are, and whose place they take.
    number: u32,
    before: u32,
    /// The input's name without a generation.
    base: String,
}

/// The new tasks' states, and what all of them have in common.
struct Shares {
    old: Vec<Old>,
    new: Vec<Pairs>,
}

/// Looks, and does it if that is asked.
///
/// # Errors
/// [`Stop`]: nothing was switched, or it is not known whether; the sentence says which.
pub fn repartition(view: &View, ask: &Repartition) -> Result<Shared, Stop> {
    let stage = view.stage(&ask.stage)?;
    in_force(&*view.log, &view.plan)?;
    refuse(view, stage, ask)?;
    let next = next(view, stage, ask.partitions)?;
    let shares = match ask.act {
        Act::Look => look(view, stage, ask.partitions)?,
        Act::Do if view.live.is_some() => {
            return Err(Stop::Refused(format!(
                "`{}` runs: when it has processed its input, end the processes of the pipeline \
                 (they need the changed spec anyway), then ask again",
                stage.name
            )));
        }
        Act::Do => {
            let writers = writers(view, stage);
            standing(view, &writers, &mut || {
                group(stage).hold(view, |member| perform(view, stage, ask, &next, member))
            })?
        }
    };
    Ok(Shared {
        topic: next.input.name.to_string(),
        rows: rows(&shares.new),
        spec: vec![
            format!("[topics.{}]", short(view, &next.base)),
            format!("partitions = {}", ask.partitions),
            format!("generation = {}", next.number),
        ],
        consequences: consequences(stage, &next),
    })
}

/// What can be refused before anything is read.
fn refuse(view: &View, stage: &Stage, ask: &Repartition) -> Result<(), Stop> {
    let (name, topic) = (&stage.name, &stage.input.name);
    if stage.operators.iter().any(|operator| operator.source().is_some()) {
        let text = format!("`{name}` is a source: it has one partition by nature");
        return Err(Stop::Refused(text));
    }
    if ask.partitions == 0 || ask.partitions > PARTITIONS_MAX {
        return Err(Stop::Refused(format!(
            "{} partitions: say a number from 1 to {PARTITIONS_MAX}",
            ask.partitions
        )));
    }
    if ask.partitions == stage.input.partitions {
        let text = format!("{topic} has {} partitions already", ask.partitions);
        return Err(Stop::Refused(text));
    }
    let others: Vec<String> = view
        .parts()
        .filter(|part| part.input().name == *topic && part.name() != *name)
        .map(|part| match part {
            Part::Stage(other) => format!("stage `{}`", other.name),
            Part::Sink(sink) => format!("sink `{}`", sink.name),
        })
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(Stop::Refused(format!(
        "{topic} is read by {} as well, and all its readers would have to switch at once, which this \
         command cannot: give `{name}` an input of its own",
        others.join(" and ")
    )))
}

/// The next generation's topics. A number whose topics are there with other partitions is passed
/// over: a command that died had created them for another number.
fn next(view: &View, stage: &Stage, partitions: u32) -> Result<Next, Stop> {
    let (base, before) = generation::split(stage.input.name.as_str());
    let mut number = before + 1;
    loop {
        let input = spec(view, &stage.input.name, number, partitions)?;
        let changelog = spec(view, &stage.changelog.name, number, partitions)?;
        if fits(view, &input)? && fits(view, &changelog)? {
            return Ok(Next { input, changelog, before, number, base: base.to_owned() });
        }
        number += 1;
    }
}

/// A topic of the plan, in another generation.
fn spec(view: &View, name: &TopicName, number: u32, partitions: u32) -> Result<TopicSpec, Stop> {
    let found = view.plan.topics.iter().find(|topic| topic.name == *name).cloned();
    let old = found.ok_or_else(|| LogError::NoTopic(name.clone()))?;
    let (base, _) = generation::split(name.as_str());
    let name = TopicName::new(generation::named(base, number));
    let name = name.map_err(|error| Stop::Refused(error.to_string()))?;
    Ok(TopicSpec { name, partitions, ..old })
}

fn fits(view: &View, wanted: &TopicSpec) -> Result<bool, Stop> {
    let found = view.log.topic(&wanted.name)?;
    Ok(found.is_none_or(|found| found.partitions == wanted.partitions))
}

fn short<'a>(view: &View, base: &'a str) -> &'a str {
    base.strip_prefix(&format!("{}.", view.plan.name)).unwrap_or(base)
}

fn group(stage: &Stage) -> Group<'_> {
    Group { pipeline: &stage.pipeline, name: &stage.name, group: &stage.group, topic: &stage.input }
}

/// The groups of the other stages that write to the stage's input.
fn writers<'a>(view: &'a View, stage: &Stage) -> Vec<Group<'a>> {
    let writes = |other: &Stage| {
        let mut topics = other.next.iter().chain(other.outputs.values().flatten());
        topics.any(|topic: &TopicRef| topic.name == stage.input.name)
    };
    view.plan
        .stages
        .iter()
        .map(|(other, _)| &**other)
        .filter(|&other| other.name != stage.name && writes(other))
        .map(group)
        .collect()
}

/// Does something while none of these groups can commit anything.
fn standing<T>(
    view: &View,
    groups: &[Group<'_>],
    what: &mut dyn FnMut() -> Result<T, Stop>,
) -> Result<T, Stop> {
    match groups.split_first() {
        None => what(),
        Some((first, rest)) => first.hold(view, |_| standing(view, rest, what)),
    }
}

/// The old tasks, and what the new ones would hold.
fn look(view: &View, stage: &Stage, partitions: u32) -> Result<Shares, Stop> {
    view.existing(&stage.input.name)?;
    view.existing(&stage.changelog.name)?;
    let old = place::old(view, stage)?;
    let pairs: Vec<&Pairs> = old.iter().map(|old| &old.pairs).collect();
    let new = share::share(stage, &pairs, partitions).map_err(Stop::Refused)?;
    Ok(Shares { old, new })
}

fn perform(
    view: &View,
    stage: &Stage,
    ask: &Repartition,
    next: &Next,
    member: &mut dyn Member,
) -> Result<Shares, Stop> {
    let shares = look(view, stage, ask.partitions)?;
    let input = view.log.create_topic(&next.input)?;
    view.log.create_topic(&next.changelog)?;
    let firsts = place::firsts(view, &next.input)?;
    // Offsets as they are: what copies is fenced by them, and moves nothing.
    let at: Vec<(Partition, NextOffset)> =
        (0..).map(Partition).zip(shares.old.iter().map(|old| old.next)).collect();
    for (partition, wanted) in (0..).map(Partition).zip(&shares.new) {
        let there = place::pairs(view, &next.changelog.name, partition)?;
        let writes = place::difference(wanted, &there);
        copy(member, &at, (&next.changelog.name, partition), writes)?;
    }
    let mut records: Vec<OutRecord> = (0..)
        .map(Partition)
        .zip(&shares.old)
        .map(|(partition, old)| {
            let moved = Meta { moved: Some(next.input.name.clone()), ..old.meta() };
            task(&stage.changelog.name, partition, &moved)
        })
        .collect();
    for (partition, first) in (0..).map(Partition).zip(firsts) {
        let meta = meta(&shares, partition, &input.id, first);
        records.push(task(&next.changelog.name, partition, &meta));
    }
    records.push(recorded(view, stage, ask, next, &shares)?);
    write(member, &at, records).map_err(|why| {
        Stop::Refused(format!(
            "`{}` was not switched, or it is not known ({why}): ask again, and it will be told",
            stage.name
        ))
    })?;
    Ok(shares)
}

fn recorded(
    view: &View,
    stage: &Stage,
    ask: &Repartition,
    next: &Next,
    shares: &Shares,
) -> Result<OutRecord, Stop> {
    let pairs: usize = shares.new.iter().map(Pairs::len).sum();
    let detail = format!(
        "{} in {} partitions takes the place of {} in {}; {pairs} keys of `{}` were copied",
        next.input.name, ask.partitions, stage.input.name, stage.input.partitions, stage.name
    );
    let generation = Generation {
        topic: next.base.clone(),
        number: next.number,
        partitions: ask.partitions,
        before: next.before,
        ends: shares.old.iter().map(|old| old.end.0).collect(),
    };
    view.switch(CommandKind::Repartition, &stage.name, detail, &ask.by, Some(generation))
}

/// Writes what differs, a transaction for each few megabytes.
fn copy(
    member: &mut dyn Member,
    at: &[(Partition, NextOffset)],
    (topic, partition): (&TopicName, Partition),
    writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
) -> Result<(), Stop> {
    let mut chunk = Vec::new();
    let mut bytes = 0;
    let failed = |why: String| {
        Stop::Refused(format!("the state was not copied to its end ({why}): ask again"))
    };
    for (key, value) in writes {
        bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        chunk.push(OutRecord {
            topic: topic.clone(),
            partition: Some(partition),
            key: Some(key),
            value,
            headers: Headers::new(),
        });
        if bytes > CHUNK {
            write(member, at, std::mem::take(&mut chunk)).map_err(failed)?;
            bytes = 0;
        }
    }
    if chunk.is_empty() { Ok(()) } else { write(member, at, chunk).map_err(failed) }
}

/// One transaction.
fn write(
    member: &mut dyn Member,
    at: &[(Partition, NextOffset)],
    records: Vec<OutRecord>,
) -> Result<(), String> {
    for record in records {
        produce(member, record)?;
    }
    commit(member, at).map_err(|error| error.text)
}

fn task(topic: &TopicName, partition: Partition, meta: &Meta) -> OutRecord {
    OutRecord {
        topic: topic.clone(),
        partition: Some(partition),
        key: Some(full_key(META, b"")),
        value: Some(codec::encode(meta)),
        headers: Headers::new(),
    }
}

/// What a new task knows of itself. Its operators see their beginning only if no task of that number
/// has begun before.
fn meta(shares: &Shares, partition: Partition, id: &TopicId, next: NextOffset) -> Meta {
    let told = || shares.old.iter().filter_map(|old| old.meta.as_ref());
    let before = shares.old.get(partition.0 as usize).and_then(|old| old.meta.as_ref());
    let shared = shares.new.get(partition.0 as usize);
    Meta {
        next,
        topic_id: id.clone(),
        now: told().map(|meta| meta.now).max().unwrap_or(WallTime(0)),
        sequence: told().map(|meta| meta.sequence).max().unwrap_or(0),
        begun: before.is_some_and(|meta| meta.begun),
        event_time: told().next().map(|meta| meta.event_time).unwrap_or_default(),
        passed_on: before.map(|meta| meta.passed_on).unwrap_or_default(),
        waiting: shared.map_or(0, place::waiting),
        held_keys: shared.map_or(0, place::held_keys),
        bearer: None,
        moved: None,
    }
}

fn rows(new: &[Pairs]) -> Vec<SharedRow> {
    (0..)
        .zip(new)
        .map(|(partition, pairs)| SharedRow {
            partition,
            keys: pairs.keys().filter(|key| key.first() != Some(&b'_')).count() as u64,
            timers: place::timers(pairs),
            waiting: place::waiting(pairs),
        })
        .collect()
}

fn consequences(stage: &Stage, next: &Next) -> Vec<String> {
    vec![
        format!(
            "{} is not read any more: who writes to it from outside must write to {} from now on; \
             what comes to the old one behind the switch stays there unread, and each start of the \
             pipeline warns of it",
            stage.input.name, next.input.name
        ),
        format!(
            "what lies in {} and {} stays there, and is not copied: it was processed; delete them \
             when nobody needs them",
            stage.input.name, stage.changelog.name
        ),
        "every process and every command of the pipeline needs the changed spec; with the old one \
         they are refused"
            .to_owned(),
    ]
}
