//! The log's side of `repartition`: old tasks as they stand, and what is to be written.
//!
//! Invariant: what is read is decided to its end: while a transaction is open, or records wait to be
//! processed, nothing is told.

use std::collections::BTreeMap;

use semel_schemas::{
    codec,
    time::WallTime,
    topic::{NextOffset, Partition, TopicId, TopicName},
};

use super::{
    super::{Stop, View, consume::Cursor},
    share::Pairs,
};
use crate::{
    engine::{
        overlay::full_key,
        quarantine,
        task::{META, Meta},
        timers as engine_timers,
        topology::Stage,
    },
    log::{Isolation, TopicSpec},
};

/// Most bytes of state that the command holds at once.
const STATE_MAX: usize = 512 << 20;

/// An old task.
pub(super) struct Old {
    /// What it knows of itself; none: it never began.
    pub(super) meta: Option<Meta>,
    /// Where it stands: behind everything.
    pub(super) next: NextOffset,
    /// The end of its partition.
    pub(super) end: NextOffset,
    /// The topic's incarnation.
    id: TopicId,
    /// The rest of its state.
    pub(super) pairs: Pairs,
}

impl Old {
    /// What it knows of itself, or what one knows that never began.
    pub(super) fn meta(&self) -> Meta {
        self.meta.clone().unwrap_or_else(|| Meta {
            next: self.next,
            topic_id: self.id.clone(),
            now: WallTime(0),
            sequence: 0,
            begun: false,
            event_time: Default::default(),
            passed_on: Default::default(),
            waiting: 0,
            held_keys: 0,
            bearer: None,
            moved: None,
        })
    }
}

/// Every task of a stage.
pub(super) fn old(view: &View, stage: &Stage) -> Result<Vec<Old>, Stop> {
    let topic = &stage.input.name;
    let info = view.log.topic(topic)?;
    let info = info.ok_or_else(|| Stop::Refused(format!("there is no topic {topic}")))?;
    let (mut all, mut bytes) = (Vec::new(), 0);
    for partition in (0..stage.input.partitions).map(Partition) {
        let mut pairs = pairs(view, &stage.changelog.name, partition)?;
        bytes += pairs.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        if bytes > STATE_MAX {
            return Err(Stop::Refused(format!(
                "the state of `{}` has more than {STATE_MAX} bytes, which is more than this command \
                 can hold: begin anew under another name of the pipeline",
                stage.name
            )));
        }
        let meta = match pairs.remove(&full_key(META, b"")) {
            None => None,
            Some(value) => {
                let meta: Meta = codec::decode(META, &value).map_err(|fault| fault.to_string())?;
                Some(meta)
            }
        };
        let stands = meta.as_ref().map(|meta: &Meta| meta.next);
        let (next, end) = drained(view, stage, partition, stands)?;
        all.push(Old { meta, next, end, id: info.id.clone(), pairs });
    }
    Ok(all)
}

/// Where a task stands, and the end of its partition, if nothing lies in between.
fn drained(
    view: &View,
    stage: &Stage,
    partition: Partition,
    stands: Option<NextOffset>,
) -> Result<(NextOffset, NextOffset), Stop> {
    let topic = &stage.input.name;
    let (first, end) = decided(view, topic, partition)?;
    let next = stands.unwrap_or(first);
    if next < end {
        // Markers at the end are no records.
        let from = next.max(first);
        let reader = view.log.reader(Isolation::Committed)?;
        let mut cursor = Cursor::open(reader, (topic, partition), (from, end))?;
        if let Some(record) = cursor.take()? {
            return Err(Stop::Refused(format!(
                "`{}` has not processed {topic}/{partition} to its end: it stands at offset {}, \
                 and the partition ends at {end}; let nobody write to {topic}, let `{}` run until \
                 `semel lag` shows nothing left, end the processes, then ask again",
                stage.name, record.offset, stage.name
            )));
        }
    }
    Ok((next, end))
}

/// The bounds of a partition in which nothing is undecided.
fn decided(
    view: &View,
    topic: &TopicName,
    partition: Partition,
) -> Result<(NextOffset, NextOffset), Stop> {
    let (_, all) = view.log.reader(Isolation::Uncommitted)?.bounds(topic, partition)?;
    let (first, end) = view.log.reader(Isolation::Committed)?.bounds(topic, partition)?;
    if end < all {
        return Err(Stop::Refused(format!(
            "a transaction is not decided yet in {topic}/{partition}: its bearer lives, or died a \
             moment ago; try again in a minute"
        )));
    }
    Ok((first, end))
}

/// What lives in a changelog's partition.
pub(super) fn pairs(view: &View, topic: &TopicName, partition: Partition) -> Result<Pairs, Stop> {
    let (first, end) = decided(view, topic, partition)?;
    let mut pairs = Pairs::new();
    if first >= end {
        return Ok(pairs);
    }
    let reader = view.log.reader(Isolation::Committed)?;
    let mut cursor = Cursor::open(reader, (topic, partition), (first, end))?;
    while let Some(record) = cursor.take()? {
        match (record.key, record.value) {
            (None, _) => {}
            (Some(key), None) => {
                pairs.remove(&key);
            }
            (Some(key), Some(value)) => {
                pairs.insert(key, value);
            }
        }
    }
    Ok(pairs)
}

/// Where each partition of a topic begins: an empty one, unless somebody knew its name already.
pub(super) fn firsts(view: &View, topic: &TopicSpec) -> Result<Vec<NextOffset>, Stop> {
    let mut reader = view.log.reader(Isolation::Committed)?;
    let mut firsts = Vec::new();
    for partition in (0..topic.partitions).map(Partition) {
        firsts.push(reader.bounds(&topic.name, partition)?.0);
    }
    Ok(firsts)
}

/// What makes `there` equal to `wanted`: what a command that died left is deleted.
pub(super) fn difference(wanted: &Pairs, there: &Pairs) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut writes: BTreeMap<&Vec<u8>, Option<&Vec<u8>>> = BTreeMap::new();
    writes.extend(there.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key, None)));
    let new = wanted.iter().filter(|(key, value)| there.get(*key) != Some(*value));
    writes.extend(new.map(|(key, value)| (key, Some(value))));
    writes.into_iter().map(|(key, value)| (key.clone(), value.cloned())).collect()
}

/// Records that wait behind quarantined keys.
pub(super) fn waiting(pairs: &Pairs) -> u32 {
    u32::try_from(count(pairs, quarantine::QUEUE)).unwrap_or(u32::MAX)
}

/// Quarantined keys.
pub(super) fn held_keys(pairs: &Pairs) -> u32 {
    u32::try_from(count(pairs, quarantine::HELD)).unwrap_or(u32::MAX)
}

/// Timers.
pub(super) fn timers(pairs: &Pairs) -> u64 {
    count(pairs, engine_timers::BY_DUE) as u64
}

fn count(pairs: &Pairs, store: &str) -> usize {
    let prefix = full_key(store, b"");
    pairs.keys().filter(|key| key.starts_with(&prefix)).count()
}
