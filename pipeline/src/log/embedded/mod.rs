//! The embedded log: one process, many threads, durable on local disk, no server.
//!
//! Lives here: the log over one database in a locked data folder (`store`, `layout`), the one door
//! for writes (`commits`), groups of threads (`groups`), members and readers (`member`), topics
//! (`topics`), and what goes in time (`retention`). May not live here: anything that another
//! implementation of the log needs too.
//!
//! It is stronger than Kafka where that costs nothing: open transactions are seen by nobody, offsets
//! have no markers, a member that ends gives its partitions up at once. It guarantees what the
//! trait says, and with [`Durability::Disk`] that a commit which was answered survives the loss of
//! power. After a failed write or sync every call answers [`LogError::Storage`] or
//! [`TxnFault::Unknown`], until the process starts anew.

mod commits;
mod groups;
mod layout;
mod member;
mod retention;
mod store;
mod topics;

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use semel_schemas::{
    record::OutRecord,
    time::WallTime,
    topic::{NextOffset, Offset, Partition, TopicName},
};

pub use self::commits::{Disk, SyncLayer};
use self::{
    commits::{Commits, Job, Write},
    groups::Groups,
    member::{EmbeddedMember, EmbeddedReader, check_size, choose},
    retention::Retention,
    store::{Store, Topic},
    topics::Admin,
};
use super::{
    Isolation, Log, LogError, Member, MemberSpec, ProduceError, Reader, TopicInfo, TopicSpec,
    TxnError, TxnFault,
};
use crate::folder::{DataFolder, FolderError};

/// The most bytes of key, value and headers of one record: what a Kafka broker takes by default
/// (`message.max.bytes`), so that what runs here runs there.
pub const RECORD_MAX: usize = 1_048_576;
/// The most bytes of one transaction.
pub const TRANSACTION_MAX: usize = 64 << 20;

/// What "committed" means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Survives the loss of power: a commit is answered after `fdatasync`.
    Disk,
    /// Survives the death of the process only: for tests and trials.
    Os,
}

/// Settings of the log.
#[derive(Clone)]
pub struct Settings {
    /// What "committed" means.
    pub durability: Durability,
    /// The wall clock: stamps records, and says what is old. Decides nothing else.
    pub clock: Arc<dyn Fn() -> WallTime + Send + Sync>,
    /// What lies between the log and the disk.
    pub layer: Arc<dyn SyncLayer>,
    /// How often a thread of the log's own looks for what may go; `None`: only
    /// [`EmbeddedLog::maintain`] does.
    pub maintenance: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            durability: Durability::Disk,
            clock: Arc::new(system_time),
            layer: Arc::new(Disk),
            maintenance: Some(Duration::from_secs(10)),
        }
    }
}

fn system_time() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("durability", &self.durability)
            .field("maintenance", &self.maintenance)
            .finish_non_exhaustive()
    }
}

/// The log. Closed when it, its members and its readers are dropped.
#[derive(Debug)]
pub struct EmbeddedLog {
    inner: Arc<Inner>,
    housekeeper: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

/// What members and readers share.
#[derive(Debug)]
struct Inner {
    commits: Commits,
    groups: Mutex<Groups>,
    admin: Admin,
    retention: Retention,
    store: Store,
}

impl Inner {
    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn committed(
        &self,
        group: &str,
        topic: &Topic,
    ) -> Result<BTreeMap<Partition, NextOffset>, LogError> {
        self.store.healthy()?;
        let key = (topic.number, group.to_owned());
        Ok(self.store.committed().get(&key).cloned().unwrap_or_default())
    }

    /// What an error means to a transaction that has not been committed.
    fn fault(&self, error: &LogError) -> TxnError {
        if self.store.healthy().is_err() {
            return self.store.unknown();
        }
        TxnError { fault: TxnFault::Fatal, text: error.to_string() }
    }
}

impl From<FolderError> for LogError {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Locked { .. } => Self::Locked(error.to_string()),
            FolderError::Storage { .. } => Self::Storage(error.to_string()),
        }
    }
}

impl EmbeddedLog {
    /// Opens the log in a data folder, creating it if there is none.
    ///
    /// # Errors
    /// [`LogError::Locked`] if another process has it, [`LogError::Storage`] if it cannot be read.
    pub fn open(path: &Path, settings: Settings) -> Result<Self, LogError> {
        Self::within(DataFolder::open(path)?, settings)
    }

    /// Opens the log in a data folder that is open already. Call it once for a folder.
    ///
    /// # Errors
    /// [`LogError::Storage`].
    pub fn within(folder: DataFolder, settings: Settings) -> Result<Self, LogError> {
        if settings.durability == Durability::Os {
            static WARNED: Once = Once::new();
            WARNED.call_once(|| {
                tracing::warn!(
                    "the embedded log does not wait for the disk: commits may be lost with the power"
                );
            });
        }
        let every = settings.maintenance;
        let inner = Arc::new(Inner {
            commits: Commits::default(),
            groups: Mutex::default(),
            admin: Admin::default(),
            retention: Retention::default(),
            store: Store::open(folder, settings)?,
        });
        let housekeeper = every.map(|every| housekeeper(Arc::clone(&inner), every)).transpose()?;
        Ok(Self { inner, housekeeper })
    }

    /// The data folder, for the state store: one database a process.
    #[must_use]
    pub fn folder(&self) -> &DataFolder {
        &self.inner.store.folder
    }

    /// Removes what is old, or superseded, as of `now`; at most some thousand records a call, and
    /// commits go on meanwhile. Answers whether there may be more to do.
    ///
    /// # Errors
    /// [`LogError::Storage`].
    pub fn maintain(&self, now: WallTime) -> Result<Progress, LogError> {
        self.inner.retention.step(&self.inner.store, now)
    }

    /// Deletes a topic, its records, and what groups committed of it.
    ///
    /// # Errors
    /// [`LogError::NoTopic`], [`LogError::Storage`].
    pub fn delete_topic(&self, name: &TopicName) -> Result<(), LogError> {
        self.inner.admin.delete(&self.inner.store, &self.inner.commits, name)
    }

    /// Deletes the records below `before`, whether they were read or not.
    ///
    /// # Errors
    /// [`LogError::NoTopic`], [`LogError::Refused`] for a partition that is not there,
    /// [`LogError::Storage`].
    pub fn delete_records(
        &self,
        topic: &TopicName,
        partition: Partition,
        before: NextOffset,
    ) -> Result<(), LogError> {
        let topic = self.inner.store.topic(topic)?;
        self.inner
            .retention
            .exclusively(|| topics::delete_records(&self.inner.store, &topic, partition, before))
    }

    /// Forgets a group that will not come back: what only it had not read may go.
    ///
    /// # Errors
    /// [`LogError::Storage`].
    pub fn forget_group(&self, group: &str) -> Result<(), LogError> {
        self.inner.admin.forget(&self.inner.store, &self.inner.commits, group)
    }
}

/// Whether a step of maintenance left something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left for now.
    Done,
    /// There may be more: call again.
    More,
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.housekeeper.take() {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("the embedded log's maintenance thread panicked");
            }
        }
    }
}

/// The thread that looks for what may go, until the log is dropped.
fn housekeeper(
    inner: Arc<Inner>,
    every: Duration,
) -> Result<(mpsc::Sender<()>, JoinHandle<()>), LogError> {
    let (stop, stopped) = mpsc::channel();
    let work = move || {
        let mut pause = every;
        while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
            pause = match inner.retention.step(&inner.store, inner.store.now()) {
                Ok(Progress::More) => Duration::from_millis(1),
                Ok(Progress::Done) => every,
                Err(error) => {
                    tracing::warn!(%error, "maintenance of the embedded log failed");
                    every
                }
            };
        }
    };
    let thread = thread::Builder::new().name("semel-log-maintenance".to_owned()).spawn(work);
    let thread =
        thread.map_err(|e| LogError::Storage(format!("no thread for maintenance: {e}")))?;
    Ok((stop, thread))
}

impl Log for EmbeddedLog {
    fn describe(&self) -> String {
        format!("embedded in {}", self.inner.store.folder.path().display())
    }

    fn topic(&self, name: &TopicName) -> Result<Option<TopicInfo>, LogError> {
        self.inner.store.healthy()?;
        Ok(self.inner.store.topics().get(name).map(|topic| topic.info()))
    }

    fn topics(&self) -> Result<Vec<TopicName>, LogError> {
        self.inner.store.healthy()?;
        Ok(self.inner.store.topics().keys().cloned().collect())
    }

    /// There is one copy and one "broker", so `replication` and `allow_one_broker` say nothing.
    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, LogError> {
        self.inner.admin.create(&self.inner.store, spec)
    }

    fn join(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, LogError> {
        Ok(Box::new(EmbeddedMember::join(Arc::clone(&self.inner), spec)?))
    }

    fn reader(&self, _: Isolation) -> Result<Box<dyn Reader>, LogError> {
        self.inner.store.healthy()?;
        Ok(Box::new(EmbeddedReader { inner: Arc::clone(&self.inner), at: None }))
    }

    fn committed(
        &self,
        group: &str,
        topic: &TopicName,
    ) -> Result<BTreeMap<Partition, NextOffset>, LogError> {
        let topic = self.inner.store.topic(topic)?;
        self.inner.committed(group, &topic)
    }

    /// A transaction is a list in its member's memory until it is committed: nobody waits for it.
    fn fence(&self, _instance: &str) -> Result<(), LogError> {
        Ok(())
    }

    fn append(&self, records: Vec<OutRecord>) -> Result<Vec<(Partition, Offset)>, LogError> {
        let store = &self.inner.store;
        let mut writes = Vec::with_capacity(records.len());
        for (turn, record) in (0_u32..).zip(&records) {
            check_size(record).map_err(|e: ProduceError| LogError::Refused(e.to_string()))?;
            let topic = store.topic(&record.topic)?;
            let chosen = record.partition;
            let partition = chosen.unwrap_or_else(|| choose(record, topic.partitions(), turn));
            topic.check(partition)?;
            writes.push(Write { topic, partition, encoded: layout::encode(record) });
        }
        let partitions: Vec<Partition> = writes.iter().map(|write| write.partition).collect();
        let job = Job { check: Box::new(|| Ok(())), writes, offsets: None };
        let offsets = self.inner.commits.submit(store, job).map_err(|e| match e.fault {
            TxnFault::Unknown => LogError::Storage(e.text),
            _ => LogError::Refused(e.text),
        })?;
        Ok(partitions.into_iter().zip(offsets).collect())
    }
}

#[cfg(test)]
mod tests;
