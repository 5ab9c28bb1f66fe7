//! Making and removing topics, and what else an administrator does: forgetting a group, deleting
//! records.
//!
//! Invariants: a topic exists for others only when its description is durable; it is gone for
//! others before its records are removed, and no commit writes to it after that; the groups that
//! read a topic are on record from their first join, so that nothing is deleted before they read
//! it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use semel_schemas::topic::{NextOffset, Partition, TopicId, TopicName};

use super::{
    commits::Commits,
    layout,
    store::{Store, StoredTopic, Topic},
};
use crate::log::{Cleanup, LogError, TopicInfo, TopicSpec};

/// The most partitions a topic may have.
const PARTITIONS_MAX: u32 = 10_000;
/// Records removed in one batch.
pub(super) const SLICE: usize = 1_000;

/// Changes of what topics and groups there are: one at a time.
#[derive(Debug, Default)]
pub(super) struct Admin {
    turn: Mutex<()>,
}

impl Admin {
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a topic, or finds it with the same settings.
    pub(super) fn create(&self, store: &Store, spec: &TopicSpec) -> Result<TopicInfo, LogError> {
        let _turn = self.turn();
        store.healthy()?;
        if !(1..=PARTITIONS_MAX).contains(&spec.partitions) {
            return Err(LogError::Refused(format!(
                "topic `{}` cannot have {} partitions: choose 1 to {PARTITIONS_MAX}",
                spec.name, spec.partitions
            )));
        }
        if let Some(found) = store.topics().get(&spec.name) {
            return same(found, spec);
        }
        let folder = store.number(b"f".as_slice())?.unwrap_or_default();
        let number = store.answer(store.meta.get(b"n"))?;
        let number = number.and_then(|b| b.as_ref().try_into().ok()).map_or(1, u32::from_be_bytes);
        let stored = StoredTopic {
            number,
            id: TopicId(format!("{folder:016x}-{number}")),
            partitions: spec.partitions,
            cleanup: spec.cleanup.into(),
        };
        let json = serde_json::to_vec(&stored).map_err(|e| LogError::Storage(e.to_string()))?;
        let mut batch = store.batch();
        batch.insert(&store.meta, b"n".as_slice(), (number + 1).to_be_bytes());
        batch.insert(&store.meta, [b"t", spec.name.as_str().as_bytes()].concat(), json);
        store.write_through(batch)?;
        let topic = Arc::new(stored.topic(spec.name.clone()));
        let info = topic.info();
        store.topics_mut().insert(spec.name.clone(), topic);
        Ok(info)
    }

    /// Deletes a topic with all that groups committed of it; its records are removed by
    /// maintenance.
    pub(super) fn delete(
        &self,
        store: &Store,
        commits: &Commits,
        name: &TopicName,
    ) -> Result<(), LogError> {
        let _turn = self.turn();
        let topic = store.topic(name)?;
        topic.set_gone();
        // Whoever was checked before writes now; nobody after.
        commits.settle();
        let mut batch = store.batch();
        batch.remove(&store.meta, [b"t", name.as_str().as_bytes()].concat());
        batch.insert(&store.meta, layout::topic_key(b'd', topic.number, &[]), []);
        for kind in [b'g', b'o', b'e', b's', b'k'] {
            for pair in store.meta.prefix(layout::topic_key(kind, topic.number, &[])) {
                batch.remove(&store.meta, store.answer(pair.key())?);
            }
        }
        store.write_through(batch)?;
        store.topics_mut().remove(name);
        store.committed().retain(|(number, _), _| *number != topic.number);
        store.signal.ring();
        Ok(())
    }

    /// Puts on record that a group reads a topic.
    pub(super) fn register(
        &self,
        store: &Store,
        group: &str,
        topic: &Topic,
    ) -> Result<(), LogError> {
        let _turn = self.turn();
        topic.check(Partition(0))?;
        let key = (topic.number, group.to_owned());
        if store.committed().contains_key(&key) {
            return Ok(());
        }
        let mut batch = store.batch();
        let stored = layout::topic_key(b'g', topic.number, group.as_bytes());
        batch.insert(&store.meta, stored, []);
        store.write_through(batch)?;
        store.committed().entry(key).or_default();
        Ok(())
    }

    /// Forgets what a group committed, and that it reads anything: its records may go.
    pub(super) fn forget(
        &self,
        store: &Store,
        commits: &Commits,
        group: &str,
    ) -> Result<(), LogError> {
        let _turn = self.turn();
        commits.settle();
        let mut batch = store.batch();
        for ((number, _), offsets) in store.committed().iter().filter(|((_, g), _)| g == group) {
            batch.remove(&store.meta, layout::topic_key(b'g', *number, group.as_bytes()));
            for partition in offsets.keys() {
                batch.remove(&store.meta, layout::offset_key(*number, *partition, group));
            }
        }
        store.write_through(batch)?;
        store.committed().retain(|(_, g), _| g != group);
        Ok(())
    }
}

/// Deletes the records below `before`, read or not.
pub(super) fn delete_records(
    store: &Store,
    topic: &Topic,
    partition: Partition,
    before: NextOffset,
) -> Result<(), LogError> {
    topic.check(partition)?;
    let before = before.0.min(topic.end(partition));
    while topic.first(partition) < before {
        let first = topic.first(partition);
        let range = layout::record_key(topic.number, partition, first)
            ..layout::record_key(topic.number, partition, before);
        let mut keys = Vec::new();
        for pair in store.records.range(range).take(SLICE) {
            keys.push(store.answer(pair.key())?);
        }
        let last = keys.last().filter(|_| keys.len() == SLICE);
        let next = last.and_then(|key| layout::offset_of(key)).map_or(before, |offset| offset + 1);
        remove_head(store, topic, partition, next, keys)?;
    }
    Ok(())
}

/// Moves the partition's first offset and removes the records before it.
pub(super) fn remove_head(
    store: &Store,
    topic: &Topic,
    partition: Partition,
    first: u64,
    keys: Vec<fjall::Slice>,
) -> Result<(), LogError> {
    // Before the records go: a reader asks for the first offset after it has read.
    topic.set_first(partition, first);
    let mut batch = store.batch();
    let key = layout::partition_key(b's', topic.number, partition);
    batch.insert(&store.meta, key, first.to_be_bytes());
    for key in keys {
        batch.remove(&store.records, key);
    }
    store.write_behind(batch)
}

fn same(found: &Topic, spec: &TopicSpec) -> Result<TopicInfo, LogError> {
    if found.partitions() == spec.partitions && found.cleanup == spec.cleanup {
        return Ok(found.info());
    }
    Err(LogError::TopicDiffers {
        topic: spec.name.clone(),
        found: shown(found.partitions(), found.cleanup),
        wanted: shown(spec.partitions, spec.cleanup),
    })
}

fn shown(partitions: u32, cleanup: Cleanup) -> String {
    let cleanup = match cleanup {
        Cleanup::Delete { retention_ms: None } => "records kept for ever".to_owned(),
        Cleanup::Delete { retention_ms: Some(ms) } => format!("records kept for {ms} ms"),
        Cleanup::Compact { tombstone_ms } => {
            format!("compaction, tombstones kept for {tombstone_ms} ms")
        }
    };
    format!("{partitions} partitions and {cleanup}")
}
