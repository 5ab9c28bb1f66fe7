//! Restoring a task: the local copy, then what the changelog holds beyond it.
//!
//! The order is the guard (Kafka traps 16 and 26): init of the producer, then the group's committed
//! offset, **then** the changelog's high watermark asked by a read-uncommitted reader; then the
//! changelog is read, committed records only, until the position has reached that mark.
//!
//! Invariant: what comes out is the state as of the last committed transaction of this task,
//! whoever made it. A local copy of another topic id, ahead of the changelog, or older than half of
//! the tombstones' life is thrown away (traps 28 and 37).

use std::time::Duration;

use semel_schemas::{
    sabotage::{Sabotage, sabotaged},
    time::WallTime,
    topic::{NextOffset, Partition},
};

use super::{overlay::Writes, topology::TopicRef};
use crate::{
    log::{Cleanup, Isolation, Log, LogError, Reader, TopicInfo},
    state::{self, Checkpoint, StoreError, TaskStore},
};

/// Records applied in one slice, so that a lane's other tasks go on (trap 35).
const SLICE: usize = 2_000;

/// Why a restore cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The local store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A restore under way.
pub struct Restore {
    changelog: TopicRef,
    partition: Partition,
    store: Box<dyn TaskStore>,
    reader: Box<dyn Reader>,
    checkpoint: Checkpoint,
    target: NextOffset,
    records: u64,
}

impl std::fmt::Debug for Restore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restore")
            .field("changelog", &self.changelog.name)
            .field("partition", &self.partition)
            .field("at", &self.checkpoint.changelog_next)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// A restored store, and the checkpoint that it stands at.
#[derive(Debug)]
pub struct Restored<S> {
    /// The store.
    pub store: S,
    /// Its checkpoint.
    pub checkpoint: Checkpoint,
    /// Changelog records that were read.
    pub records: u64,
}

impl Restore {
    /// Begins. Call only after the producer's init and the look at the group's committed offset.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn begin(
        log: &dyn Log,
        changelog: &TopicRef,
        partition: Partition,
        mut store: Box<dyn TaskStore>,
        now: WallTime,
    ) -> Result<Self, RestoreError> {
        let info =
            log.topic(&changelog.name)?.ok_or_else(|| LogError::NoTopic(changelog.name.clone()))?;
        let (first, target) = log.reader(end_by())?.bounds(&changelog.name, partition)?;
        let mut checkpoint =
            Checkpoint { changelog_next: first, topic_id: info.id.clone(), promoted_at: now };
        match store.checkpoint()? {
            Some(found) if usable(&found, &info, first, target, now) => checkpoint = found,
            _ => store.wipe()?,
        }
        let mut reader = log.reader(read_by())?;
        reader.seek(&changelog.name, partition, checkpoint.changelog_next)?;
        Ok(Self {
            changelog: changelog.clone(),
            partition,
            store,
            reader,
            checkpoint,
            target,
            records: 0,
        })
    }

    /// Reads one slice; `true` once the mark is reached.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn step(&mut self, now: WallTime) -> Result<bool, RestoreError> {
        if self.is_done() {
            return Ok(true);
        }
        let records = self.reader.read(SLICE, Duration::ZERO)?;
        self.records += records.len() as u64;
        let mut writes = Writes::new();
        for record in records {
            if let Some(key) = record.key {
                writes.insert(key, record.value);
            }
        }
        let position = self.reader.position()?;
        if position > self.checkpoint.changelog_next {
            self.checkpoint.changelog_next = position;
            self.checkpoint.promoted_at = now;
            state::promote(&mut *self.store, &writes, &self.checkpoint)?;
        }
        Ok(self.is_done())
    }

    /// By position: offsets have gaps (Kafka trap 17).
    fn is_done(&self) -> bool {
        if sabotaged(Sabotage::RestoreByCount) {
            return self.records >= self.target.0;
        }
        self.checkpoint.changelog_next >= self.target
    }

    /// Where the restored state stands in the changelog.
    #[must_use]
    pub fn position(&self) -> NextOffset {
        self.checkpoint.changelog_next
    }

    /// The offset of the changelog where the restore ends.
    #[must_use]
    pub fn target(&self) -> NextOffset {
        self.target
    }

    /// The store, once [`Restore::step`] said that the mark is reached.
    #[must_use]
    pub fn finish(self) -> Restored<Box<dyn TaskStore>> {
        Restored { store: self.store, checkpoint: self.checkpoint, records: self.records }
    }
}

/// The end is the high watermark (Kafka trap 26).
fn end_by() -> Isolation {
    match sabotaged(Sabotage::RestoreToStableOffset) {
        true => Isolation::Committed,
        false => Isolation::Uncommitted,
    }
}

/// What is restored is committed (Kafka trap 16).
fn read_by() -> Isolation {
    match sabotaged(Sabotage::RestoreUncommitted) {
        true => Isolation::Uncommitted,
        false => Isolation::Committed,
    }
}

fn usable(
    found: &Checkpoint,
    info: &TopicInfo,
    first: NextOffset,
    target: NextOffset,
    now: WallTime,
) -> bool {
    let young = match info.cleanup {
        Cleanup::Compact { tombstone_ms } => {
            now.0.saturating_sub(found.promoted_at.0) < tombstone_ms / 2
        }
        Cleanup::Delete { .. } => true,
    };
    (young || sabotaged(Sabotage::StaleCopyUsed))
        && found.topic_id == info.id
        && found.changelog_next >= first
        && found.changelog_next <= target
}

#[cfg(test)]
mod tests {
    use semel_schemas::topic::TopicId;

    use super::*;

    #[test]
    fn local_copies_that_may_not_be_used() {
        let info = TopicInfo {
            id: TopicId("a".into()),
            partitions: 1,
            cleanup: Cleanup::Compact { tombstone_ms: 1_000 },
        };
        // topic id, offset, promoted at → usable (first 5, target 20, now 10,000)
        for (id, next, promoted_at, want) in [
            ("a", 10, 9_501, true),
            ("a", 20, 9_999, true),
            ("a", 10, 9_500, false), // trap 37: older than half of the tombstones' life
            ("b", 10, 9_999, false), // trap 28: another incarnation
            ("a", 21, 9_999, false), // ahead of the changelog
            ("a", 4, 9_999, false),  // what lies between is gone
        ] {
            let found = Checkpoint {
                changelog_next: NextOffset(next),
                topic_id: TopicId(id.into()),
                promoted_at: WallTime(promoted_at),
            };
            let got = usable(&found, &info, NextOffset(5), NextOffset(20), WallTime(10_000));
            assert_eq!(got, want, "{found:?}");
        }
    }
}
