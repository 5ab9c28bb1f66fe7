//! What the log holds: topics, partitions, records, offsets of groups; on disk and, of everything
//! but records, a copy in memory.
//!
//! Lives here: opening, reading, and the switch that ends everything when the disk failed. May not
//! live here: who may write (`groups`), how commits are written (`commits`), what goes
//! (`retention`).
//!
//! Invariants: a reader sees no record at or beyond its partition's end, and the end moves only
//! over durable records; no record stands at or beyond the end that is on disk (a folder where one
//! does is damaged, and refused); a topic's number is never used twice.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher, RandomState},
    ops::Bound,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard,
        RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Instant,
};

use fjall::{Keyspace, OwnedWriteBatch, PersistMode};
use semel_schemas::{
    record::Record,
    time::WallTime,
    topic::{NextOffset, Partition, TopicId, TopicName},
};
use serde::{Deserialize, Serialize};

use super::{Durability, Settings, commits::Offsets, layout};
use crate::{
    folder::DataFolder,
    log::{Cleanup, LogError, TopicInfo, TxnError, TxnFault},
};

/// Bytes that a keyspace keeps in memory before they move to a table on disk.
const MEMTABLE: u64 = 32 << 20;

/// A topic, as long as it exists.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) number: u32,
    pub(super) name: TopicName,
    pub(super) id: TopicId,
    pub(super) cleanup: Cleanup,
    parts: Vec<Part>,
    gone: AtomicBool,
}

#[derive(Debug, Default)]
struct Part {
    first: AtomicU64,
    end: AtomicU64,
}

impl Topic {
    pub(super) fn partitions(&self) -> u32 {
        u32::try_from(self.parts.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn info(&self) -> TopicInfo {
        TopicInfo { id: self.id.clone(), partitions: self.partitions(), cleanup: self.cleanup }
    }

    fn part(&self, partition: Partition) -> Option<&Part> {
        self.parts.get(partition.0 as usize)
    }

    pub(super) fn first(&self, partition: Partition) -> u64 {
        self.part(partition).map_or(0, |part| part.first.load(SeqCst))
    }

    pub(super) fn set_first(&self, partition: Partition, first: u64) {
        if let Some(part) = self.part(partition) {
            part.first.store(first, SeqCst);
        }
    }

    pub(super) fn end(&self, partition: Partition) -> u64 {
        self.part(partition).map_or(0, |part| part.end.load(SeqCst))
    }

    pub(super) fn set_end(&self, partition: Partition, end: u64) {
        if let Some(part) = self.part(partition) {
            part.end.store(end, SeqCst);
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(SeqCst)
    }

    pub(super) fn set_gone(&self) {
        self.gone.store(true, SeqCst);
    }

    /// Refuses a topic that was deleted and a partition that it does not have.
    pub(super) fn check(&self, partition: Partition) -> Result<(), LogError> {
        if self.is_gone() {
            return Err(LogError::NoTopic(self.name.clone()));
        }
        if self.part(partition).is_none() {
            return Err(LogError::Refused(format!(
                "topic `{}` has {} partitions, so there is no partition {partition}",
                self.name,
                self.partitions()
            )));
        }
        Ok(())
    }

    /// Refuses an offset at which reading cannot start.
    pub(super) fn check_start(
        &self,
        partition: Partition,
        asked: NextOffset,
    ) -> Result<(), LogError> {
        self.check(partition)?;
        let (first, end) = (NextOffset(self.first(partition)), NextOffset(self.end(partition)));
        if (first..=end).contains(&asked) {
            return Ok(());
        }
        Err(LogError::OutOfRange { topic: self.name.clone(), partition, asked, first, end })
    }
}

/// A topic as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredTopic {
    pub(super) number: u32,
    pub(super) id: TopicId,
    pub(super) partitions: u32,
    /// `delete` or `compact`.
    pub(super) cleanup: StoredCleanup,
}

/// [`Cleanup`] as it is stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoredCleanup {
    Delete { retention_ms: Option<u64> },
    Compact { tombstone_ms: u64 },
}

impl From<Cleanup> for StoredCleanup {
    fn from(cleanup: Cleanup) -> Self {
        match cleanup {
            Cleanup::Delete { retention_ms } => Self::Delete { retention_ms },
            Cleanup::Compact { tombstone_ms } => Self::Compact { tombstone_ms },
        }
    }
}

impl StoredTopic {
    pub(super) fn topic(self, name: TopicName) -> Topic {
        let cleanup = match self.cleanup {
            StoredCleanup::Delete { retention_ms } => Cleanup::Delete { retention_ms },
            StoredCleanup::Compact { tombstone_ms } => Cleanup::Compact { tombstone_ms },
        };
        let parts = (0..self.partitions).map(|_| Part::default()).collect();
        let Self { number, id, .. } = self;
        Topic { number, name, id, cleanup, parts, gone: AtomicBool::new(false) }
    }
}

/// Wakes those who wait for anything to happen.
#[derive(Debug, Default)]
pub(super) struct Signal {
    rung: Mutex<u64>,
    bell: Condvar,
}

impl Signal {
    /// How often it rang: ask before looking, and wait for more after.
    pub(super) fn count(&self) -> u64 {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.bell.notify_all();
    }

    /// Waits until it rings after `count`, or until `deadline`.
    pub(super) fn wait(&self, count: u64, deadline: Instant) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        while *rung == count {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            rung = self.bell.wait_timeout(rung, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Committed offsets of the groups that read a topic; a group without any is known all the same.
pub(super) type Committed = BTreeMap<(u32, String), BTreeMap<Partition, NextOffset>>;
/// Topics by name.
pub(super) type Topics = BTreeMap<TopicName, Arc<Topic>>;

/// The log's content.
pub(super) struct Store {
    pub(super) records: Keyspace,
    pub(super) meta: Keyspace,
    pub(super) keys: Keyspace,
    pub(super) signal: Signal,
    topics: RwLock<Topics>,
    committed: Mutex<Committed>,
    broken: OnceLock<String>,
    settings: Settings,
    pub(super) folder: DataFolder,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens what is in the folder.
    pub(super) fn open(folder: DataFolder, settings: Settings) -> Result<Self, LogError> {
        let keyspace = |name| {
            folder.keyspace(name, MEMTABLE).map_err(|e| {
                LogError::Storage(format!("the log in {}: {e}", folder.path().display()))
            })
        };
        let (records, meta, keys) = (keyspace("records")?, keyspace("meta")?, keyspace("keys")?);
        let store = Self {
            records,
            meta,
            keys,
            signal: Signal::default(),
            topics: RwLock::default(),
            committed: Mutex::default(),
            broken: OnceLock::new(),
            settings,
            folder,
        };
        store.load()?;
        Ok(store)
    }

    fn load(&self) -> Result<(), LogError> {
        if self.number(b"f".as_slice())?.is_none() {
            // Random by the standard library's own seeding; distinguishes folders, no more.
            let id = RandomState::new().hash_one(std::process::id());
            let mut batch = self.batch();
            batch.insert(&self.meta, b"f".as_slice(), id.to_be_bytes());
            self.write_through(batch)?;
        }
        let mut topics = Topics::new();
        for pair in self.meta.prefix(b"t") {
            let (key, value) = self.answer(pair.into_inner())?;
            let name =
                String::from_utf8(key[1..].to_vec()).ok().and_then(|n| TopicName::new(n).ok());
            let stored: Option<StoredTopic> = serde_json::from_slice(&value).ok();
            let (Some(name), Some(stored)) = (name, stored) else {
                return Err(self.damaged("a topic's description cannot be read"));
            };
            let topic = stored.topic(name.clone());
            self.load_ends(&topic)?;
            topics.insert(name, Arc::new(topic));
        }
        *self.topics_mut() = topics;
        self.load_committed()
    }

    fn load_ends(&self, topic: &Topic) -> Result<(), LogError> {
        for partition in (0..topic.partitions()).map(Partition) {
            let bound = |kind| self.number(layout::partition_key(kind, topic.number, partition));
            let (first, end) = (bound(b's')?.unwrap_or(0), bound(b'e')?.unwrap_or(0));
            let beyond = layout::record_key(topic.number, partition, end)
                ..=layout::record_key(topic.number, partition, u64::MAX);
            if first > end || self.records.range(beyond).next().is_some() {
                let text = format!("{}/{partition} holds records beyond its end {end}", topic.name);
                return Err(self.damaged(&text));
            }
            topic.set_first(partition, first);
            topic.set_end(partition, end);
        }
        Ok(())
    }

    fn load_committed(&self) -> Result<(), LogError> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let u32_at = |key: &[u8], at: usize| {
            key.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes)
        };
        let unreadable = || self.damaged("a group's offset cannot be read");
        let mut committed = Committed::new();
        for pair in self.meta.prefix(b"g") {
            let (key, _) = self.answer(pair.into_inner())?;
            let group = u32_at(&key, 1).zip(key.get(5..).and_then(text));
            committed.entry(group.ok_or_else(unreadable)?).or_default();
        }
        for pair in self.meta.prefix(b"o") {
            let (key, value) = self.answer(pair.into_inner())?;
            let group = u32_at(&key, 1).zip(key.get(9..).and_then(text));
            let offset = u32_at(&key, 5).zip(layout::number(&value));
            let (partition, next) = offset.ok_or_else(unreadable)?;
            let offsets = committed.entry(group.ok_or_else(unreadable)?).or_default();
            offsets.insert(Partition(partition), NextOffset(next));
        }
        *self.committed() = committed;
        Ok(())
    }

    /// The wall clock, for timestamps and retention.
    pub(super) fn now(&self) -> WallTime {
        (self.settings.clock)()
    }

    /// An empty batch.
    pub(super) fn batch(&self) -> OwnedWriteBatch {
        self.folder.db().batch()
    }

    /// Writes a batch and makes it durable; a failure ends the log.
    pub(super) fn write_through(&self, batch: OwnedWriteBatch) -> Result<(), LogError> {
        self.healthy()?;
        let mode = match self.settings.durability {
            Durability::Disk => PersistMode::SyncData,
            Durability::Os => PersistMode::Buffer,
        };
        let layer = &self.settings.layer;
        let written = layer.write(batch).and_then(|()| layer.sync(self.folder.db(), mode));
        written.map_err(|e| self.poison(&e))
    }

    /// Writes a batch of housekeeping, which no one waits for: the next sync makes it durable.
    pub(super) fn write_behind(&self, batch: OwnedWriteBatch) -> Result<(), LogError> {
        self.healthy()?;
        self.settings.layer.write(batch).map_err(|e| self.poison(&e))
    }

    /// Ends the log: what is on disk is no longer known.
    pub(super) fn poison(&self, reason: &(impl fmt::Display + ?Sized)) -> LogError {
        let text = self.broken.get_or_init(|| {
            let path = self.folder.path().display();
            tracing::error!(%path, %reason, "the embedded log cannot write any more");
            format!(
                "the log in {path} could not write ({reason}), so it is not known what of the last \
                 commits is on disk: make room or change the disk, and restart"
            )
        });
        self.signal.ring();
        LogError::Storage(text.clone())
    }

    /// Refuses to go on after [`Store::poison`].
    pub(super) fn healthy(&self) -> Result<(), LogError> {
        match self.broken.get() {
            None => Ok(()),
            Some(text) => Err(LogError::Storage(text.clone())),
        }
    }

    /// The answer to a commit whose end is not known.
    pub(super) fn unknown(&self) -> TxnError {
        let text = self.healthy().err().map_or_else(String::new, |e| e.to_string());
        TxnError { fault: TxnFault::Unknown, text }
    }

    pub(super) fn damaged(&self, what: &str) -> LogError {
        let path = self.folder.path().display();
        LogError::Storage(format!("the log in {path} is damaged: {what}; bring back a copy"))
    }

    /// The database's answer to a reading call.
    pub(super) fn answer<T>(&self, answer: fjall::Result<T>) -> Result<T, LogError> {
        answer.map_err(|e| {
            LogError::Storage(format!("the log in {}: {e}", self.folder.path().display()))
        })
    }

    /// A number in `meta`.
    pub(super) fn number(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>, LogError> {
        let found = self.answer(self.meta.get(key))?;
        found
            .map(|bytes| layout::number(&bytes).ok_or_else(|| self.damaged("a number is none")))
            .transpose()
    }

    /// Up to `limit` records from `from` on, and where reading goes on: beyond the last of them,
    /// or at the end if there are no more.
    pub(super) fn read(
        &self,
        topic: &Topic,
        partition: Partition,
        from: NextOffset,
        limit: usize,
    ) -> Result<(Vec<Record>, NextOffset), LogError> {
        self.healthy()?;
        let end = topic.end(partition);
        let mut records = Vec::new();
        let mut next = from;
        if limit > 0 && from.0 < end {
            let range = (
                Bound::Included(layout::record_key(topic.number, partition, from.0)),
                Bound::Excluded(layout::record_key(topic.number, partition, end)),
            );
            for pair in self.records.range(range) {
                if records.len() == limit {
                    break;
                }
                let (key, value) = self.answer(pair.into_inner())?;
                let record = layout::offset_of(&key)
                    .and_then(|offset| layout::decode(&topic.name, partition, offset, &value));
                let Some(record) = record else {
                    let text = format!("a record of {}/{partition} cannot be read", topic.name);
                    return Err(self.damaged(&text));
                };
                next = record.next();
                records.push(record);
            }
            if records.len() < limit {
                next = NextOffset(end);
            }
        }
        // Asked last: what was deleted while we read may be missing from what we found.
        topic.check_start(partition, from)?;
        Ok((records, next))
    }

    pub(super) fn topics(&self) -> RwLockReadGuard<'_, Topics> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn topics_mut(&self) -> RwLockWriteGuard<'_, Topics> {
        self.topics.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topic of this name.
    pub(super) fn topic(&self, name: &TopicName) -> Result<Arc<Topic>, LogError> {
        self.healthy()?;
        self.topics().get(name).cloned().ok_or_else(|| LogError::NoTopic(name.clone()))
    }

    pub(super) fn committed(&self) -> MutexGuard<'_, Committed> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows committed offsets that are durable.
    pub(super) fn move_offsets(&self, moved: Vec<Offsets>) {
        let mut committed = self.committed();
        for Offsets { group, topic, next } in moved {
            committed.entry((topic.number, group)).or_default().extend(next);
        }
    }
}
