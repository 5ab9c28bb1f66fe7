//! What goes in time: old records, superseded values, tombstones, deleted topics.
//!
//! Superseded values are found by an index from keys to the offset of their last record. A step
//! takes the next records that the index does not know: each takes its key's place, and the record
//! that had it goes. So a step's work depends on what is new, never on what is there.
//!
//! Invariants: nothing at or beyond the least committed offset of the groups that read the topic
//! goes; the last record of a key stays, except a tombstone that is older than its time; a record
//! goes in the same write that moves the index, the first offset or the mark of what was
//! compacted; a step writes a bounded number of records, so commits never wait long for it.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fjall::{Keyspace, Slice};
use semel_schemas::{time::WallTime, topic::Partition};

use super::{
    Progress, layout,
    store::{Store, Topic},
    topics::{SLICE, remove_head},
};
use crate::log::{Cleanup, LogError};

/// Longer keys are not compacted: the index cannot hold them (the database writes lengths of keys
/// in 16 bits), and no state has such keys.
const KEY_MAX: usize = crate::state::KEY_MAX;

/// Where the work stands.
#[derive(Debug, Default)]
pub(super) struct Retention {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Which partition comes first: the one at which the last step ran out.
    turn: usize,
    /// Keyspace and prefix of keys → where the rest of a long list begins, so that what was removed from its
    /// head is not passed over again and again.
    rests: HashMap<(u64, Vec<u8>), Vec<u8>>,
}

impl Retention {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs something that no step may meet.
    pub(super) fn exclusively<T>(&self, work: impl FnOnce() -> T) -> T {
        let _state = self.state();
        work()
    }

    /// Does up to a slice of work.
    pub(super) fn step(&self, store: &Store, now: WallTime) -> Result<Progress, LogError> {
        let state = &mut *self.state();
        store.healthy()?;
        let buried = bury(store, state)?;
        let mut left = SLICE.saturating_sub(buried);
        let topics: Vec<Arc<Topic>> = store.topics().values().cloned().collect();
        let mut places: Vec<(&Topic, Partition)> = topics
            .iter()
            .flat_map(|topic| (0..topic.partitions()).map(|p| (topic.as_ref(), Partition(p))))
            .collect();
        let turn = state.turn.checked_rem(places.len()).unwrap_or(0);
        places.rotate_left(turn);
        for (done, (topic, partition)) in places.into_iter().enumerate() {
            if left == 0 {
                state.turn = turn + done;
                return Ok(Progress::More);
            }
            let work = match topic.cleanup {
                Cleanup::Delete { retention_ms: None } => 0,
                Cleanup::Delete { retention_ms: Some(ms) } => {
                    expire(store, topic, partition, now.0.saturating_sub(ms))?
                }
                Cleanup::Compact { tombstone_ms } => {
                    let before = now.0.saturating_sub(tombstone_ms);
                    compact(store, topic, partition)?
                        + drop_tombstones(store, state, topic, partition, before)?
                }
            };
            left = left.saturating_sub(work);
        }
        Ok(if left == 0 || buried > 0 { Progress::More } else { Progress::Done })
    }
}

/// The offset at and beyond which nothing may go: what some group has not read yet.
fn floor(store: &Store, topic: &Topic, partition: Partition) -> u64 {
    let committed = store.committed();
    let of_topic = (topic.number, String::new())..(topic.number + 1, String::new());
    let unread = committed
        .range(of_topic)
        .map(|(_, offsets)| offsets.get(&partition).map_or(0, |next| next.0))
        .min();
    drop(committed);
    unread.unwrap_or(u64::MAX).min(topic.end(partition))
}

/// Removes records from before `before` (milliseconds) that were read, up to the first younger
/// one; answers how many.
fn expire(
    store: &Store,
    topic: &Topic,
    partition: Partition,
    before: u64,
) -> Result<usize, LogError> {
    let limit = floor(store, topic, partition);
    let mut first = topic.first(partition);
    let mut keys = Vec::new();
    let range = layout::record_key(topic.number, partition, first)
        ..layout::record_key(topic.number, partition, limit.max(first));
    for pair in store.records.range(range).take(SLICE) {
        let (key, value) = store.answer(pair.into_inner())?;
        let (offset, record) = parse(store, topic, partition, &key, &value)?;
        if record.timestamp_ms >= before {
            break;
        }
        first = offset + 1;
        keys.push(key);
    }
    let count = keys.len();
    if count > 0 {
        remove_head(store, topic, partition, first, keys)?;
    }
    Ok(count)
}

/// Puts the next records into the index and removes what they supersede; answers how many.
fn compact(store: &Store, topic: &Topic, partition: Partition) -> Result<usize, LogError> {
    let mark = layout::partition_key(b'k', topic.number, partition);
    let from = store.number(mark)?.unwrap_or(0);
    let limit = floor(store, topic, partition);
    if from >= limit {
        return Ok(0);
    }
    let range = layout::record_key(topic.number, partition, from)
        ..layout::record_key(topic.number, partition, limit);
    let mut batch = store.batch();
    let mut places: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let (mut count, mut next) = (0, limit);
    for pair in store.records.range(range) {
        let (key, value) = store.answer(pair.into_inner())?;
        let (offset, record) = parse(store, topic, partition, &key, &value)?;
        if count == SLICE {
            next = offset;
            break;
        }
        count += 1;
        let Some(name) = record.key.filter(|k| !k.is_empty() && k.len() <= KEY_MAX) else {
            continue;
        };
        if record.value.is_none() {
            let due = [record.timestamp_ms.to_be_bytes(), offset.to_be_bytes()].concat();
            batch.insert(
                &store.keys,
                layout::index_key(topic.number, partition, b't', &due),
                &*name,
            );
        }
        let place = layout::index_key(topic.number, partition, b'k', &name);
        let former = match places.get(&place) {
            Some(offset) => Some(*offset),
            None => store.answer(store.keys.get(&place))?.and_then(|b| layout::number(&b)),
        };
        if let Some(former) = former.filter(|former| *former != offset) {
            batch.remove(&store.records, layout::record_key(topic.number, partition, former));
        }
        places.insert(place, offset);
    }
    for (place, offset) in places {
        batch.insert(&store.keys, place, offset.to_be_bytes());
    }
    batch.insert(&store.meta, mark, next.to_be_bytes());
    store.write_behind(batch)?;
    Ok(count)
}

/// Removes tombstones from before `before` (milliseconds) that are still their key's last record;
/// answers how many were looked at.
fn drop_tombstones(
    store: &Store,
    state: &mut State,
    topic: &Topic,
    partition: Partition,
    before: u64,
) -> Result<usize, LogError> {
    let prefix = layout::index_key(topic.number, partition, b't', &[]);
    let limit = floor(store, topic, partition);
    let mut batch = store.batch();
    let mut count = 0;
    for (key, name) in rest(store, state, &store.keys, &prefix)? {
        let due = key.get(prefix.len()..).and_then(|due| due.split_at_checked(8));
        let due = due.and_then(|(t, o)| layout::number(t).zip(layout::number(o)));
        let Some((timestamp, offset)) = due else {
            return Err(store.damaged("the index of tombstones cannot be read"));
        };
        if timestamp >= before || offset >= limit {
            state.rests.remove(&(store.keys.id(), prefix));
            break;
        }
        count += 1;
        let place = layout::index_key(topic.number, partition, b'k', &name);
        let last = store.answer(store.keys.get(&place))?.and_then(|b| layout::number(&b));
        if last == Some(offset) {
            batch.remove(&store.records, layout::record_key(topic.number, partition, offset));
            batch.remove(&store.keys, place);
        }
        batch.remove(&store.keys, key);
    }
    if count > 0 {
        store.write_behind(batch)?;
    }
    Ok(count)
}

/// Removes records of deleted topics; answers how many, and not 0 while a deleted topic is left.
fn bury(store: &Store, state: &mut State) -> Result<usize, LogError> {
    let Some(dead) = store.meta.prefix(b"d").next() else {
        return Ok(0);
    };
    let dead = store.answer(dead.key())?;
    let prefix = dead[1..].to_vec();
    let mut batch = store.batch();
    let mut count = 0;
    for keyspace in [&store.records, &store.keys] {
        for (key, _) in rest(store, state, keyspace, &prefix)? {
            batch.remove(keyspace, key);
            count += 1;
        }
        if count > 0 {
            break;
        }
    }
    if count == 0 {
        // A step that ran while the topic was deleted may have left these.
        for kind in [b's', b'k'] {
            for pair in store.meta.prefix([&[kind], prefix.as_slice()].concat()) {
                batch.remove(&store.meta, store.answer(pair.key())?);
            }
        }
        batch.remove(&store.meta, dead);
    }
    store.write_behind(batch)?;
    Ok(count.max(1))
}

/// Up to a slice of what begins with `prefix`, from where the last slice ended; from the beginning
/// again after the end.
fn rest(
    store: &Store,
    state: &mut State,
    keyspace: &Keyspace,
    prefix: &[u8],
) -> Result<Vec<(Slice, Slice)>, LogError> {
    let place = (keyspace.id(), prefix.to_vec());
    let from = state.rests.remove(&place);
    let from = from.map_or(Bound::Included(prefix.to_vec()), Bound::Excluded);
    let mut found = Vec::new();
    for pair in keyspace.range((from, Bound::Unbounded)).take(SLICE) {
        let (key, value) = store.answer(pair.into_inner())?;
        if !key.starts_with(prefix) {
            break;
        }
        found.push((key, value));
    }
    if let Some((last, _)) = found.last().filter(|_| found.len() == SLICE) {
        state.rests.insert(place, last.to_vec());
    }
    Ok(found)
}

fn parse(
    store: &Store,
    topic: &Topic,
    partition: Partition,
    key: &[u8],
    value: &[u8],
) -> Result<(u64, semel_schemas::record::Record), LogError> {
    layout::offset_of(key)
        .and_then(|offset| Some((offset, layout::decode(&topic.name, partition, offset, value)?)))
        .ok_or_else(|| {
            store.damaged(&format!("a record of {}/{partition} cannot be read", topic.name))
        })
}
