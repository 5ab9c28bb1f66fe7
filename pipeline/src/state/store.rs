//! The task stores on disk: one database a process, tasks as prefixes of keys.
//!
//! Lives here: the layout of keys, and the fence between two owners of one task within the process.
//! Layout, frozen by a test, in keyspace `state`: `length of the task's name (u16, big endian)`,
//! `name`, then `0` for the checkpoint (JSON) or `1` and the key for a value.
//!
//! Invariants: a promote is one batch of the database, so values and checkpoint are recovered
//! together or not at all; it reaches the operating system, not the disk, before it is answered. A
//! task without a checkpoint holds no values. Of two stores of one task only the one that was
//! opened last can write (a lane that lost the task may come too late).

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fjall::{Keyspace, PersistMode};

use super::{Checkpoint, Pairs, StoreError, TaskStore, check_keys};
use crate::folder::{DataFolder, FolderError};

/// Name of the keyspace.
const KEYSPACE: &str = "state";
/// Bytes kept in memory before they move to a table on disk, as the database counts them; its nodes
/// take about as much again. A list that was written out stays in memory until the next one is full,
/// so two or three exist, and memory grows until then. The size is settled when the keyspace is made:
/// a folder that is there already keeps what it was made with.
const MEMTABLE: u64 = 8 << 20;
/// Marks the checkpoint's key.
const CHECKPOINT: u8 = 0;
/// Marks keys of values.
const VALUE: u8 = 1;
/// The longest name of a task, in bytes (the sum with [`super::KEY_MAX`] fits 16 bits).
const TASK_MAX: usize = 1_000;
/// Keys removed in one batch by a wipe.
const WIPE_SLICE: usize = 4_096;

impl From<FolderError> for StoreError {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Locked { .. } => Self::Locked(error.to_string()),
            FolderError::Storage { .. } => Self::Storage(error.to_string()),
        }
    }
}

/// The stores of all tasks of this process. Cheap to clone.
#[derive(Clone)]
pub struct LocalStore(Arc<Shared>);

struct Shared {
    folder: DataFolder,
    keyspace: Keyspace,
    /// Task → how often it was opened: the number of the one store that may write.
    owners: Mutex<HashMap<String, u64>>,
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalStore").field(&self.0.folder).finish()
    }
}

impl LocalStore {
    /// Opens the stores in a data folder of their own.
    ///
    /// # Errors
    /// [`StoreError::Locked`] or [`StoreError::Storage`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::within(&DataFolder::open(path)?)
    }

    /// Opens the stores in a data folder that is open already (the embedded log's): one database a
    /// process. Call it once for a folder.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub fn within(folder: &DataFolder) -> Result<Self, StoreError> {
        let keyspace =
            folder.keyspace(KEYSPACE, MEMTABLE).map_err(|e| storage(folder.path(), &e))?;
        let owners = Mutex::new(HashMap::new());
        Ok(Self(Arc::new(Shared { folder: folder.clone(), keyspace, owners })))
    }

    /// The store of one task, for example `stage/topic/3`. Whoever opened it before can no longer
    /// write to it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn task(&self, name: &str) -> Result<LocalTaskStore, StoreError> {
        let length = u16::try_from(name.len()).ok().filter(|_| name.len() <= TASK_MAX);
        let Some(length) = length else {
            return Err(StoreError::Storage(format!(
                "a task's name of {} bytes exceeds the limit of {TASK_MAX}: shorten the pipeline's \
                 or the stage's name",
                name.len()
            )));
        };
        let mut prefix = length.to_be_bytes().to_vec();
        prefix.extend_from_slice(name.as_bytes());
        let owner = {
            let mut owners = self.owners();
            let owner = owners.entry(name.to_owned()).or_default();
            *owner += 1;
            *owner
        };
        let mut store =
            LocalTaskStore { shared: self.clone(), name: name.to_owned(), prefix, owner };
        if store.checkpoint()?.is_none() {
            store.wipe()?;
        }
        Ok(store)
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.0.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: &fjall::Error) -> StoreError {
        storage(self.0.folder.path(), error)
    }
}

fn storage(path: &Path, error: &dyn fmt::Display) -> StoreError {
    StoreError::Storage(format!(
        "the local state in {} cannot be used: {error}; it is a copy: free the disk or remove the \
         folder, and restart",
        path.display()
    ))
}

/// The store of one task on disk.
pub struct LocalTaskStore {
    shared: LocalStore,
    name: String,
    prefix: Vec<u8>,
    owner: u64,
}

impl fmt::Debug for LocalTaskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalTaskStore").field("task", &self.name).finish_non_exhaustive()
    }
}

impl LocalTaskStore {
    fn key(&self, kind: u8, key: &[u8]) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.prefix.len() + 1 + key.len());
        whole.extend_from_slice(&self.prefix);
        whole.push(kind);
        whole.extend_from_slice(key);
        whole
    }

    fn keyspace(&self) -> &Keyspace {
        &self.shared.0.keyspace
    }

    /// Writes one batch, if this store is still the task's.
    fn write<'a>(
        &self,
        writes: impl IntoIterator<Item = (Vec<u8>, Option<&'a [u8]>)>,
    ) -> Result<(), StoreError> {
        // Held over the write: a newer owner waits for it, and sees what it left.
        let owners = self.shared.owners();
        if owners.get(&self.name) != Some(&self.owner) {
            return Err(StoreError::Fenced { task: self.name.clone() });
        }
        let db = self.shared.0.folder.db();
        let mut batch = db.batch().durability(Some(PersistMode::Buffer));
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(self.keyspace(), key, value),
                None => batch.remove(self.keyspace(), key),
            }
        }
        batch.commit().map_err(|e| self.shared.fail(&e))
    }
}

impl TaskStore for LocalTaskStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.keyspace().get(self.key(VALUE, key)).map_err(|e| self.shared.fail(&e))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Pairs, StoreError> {
        let head = self.prefix.len() + 1;
        let within = self.key(VALUE, prefix);
        let mut found = Vec::new();
        for pair in self.keyspace().range(self.key(VALUE, prefix.max(from))..) {
            if found.len() == limit {
                break;
            }
            let (key, value) = pair.into_inner().map_err(|e| self.shared.fail(&e))?;
            if !key.starts_with(&within) {
                break;
            }
            found.push((key[head..].to_vec(), value.to_vec()));
        }
        Ok(found)
    }

    fn promote(
        &mut self,
        writes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>,
        meta: &Checkpoint,
    ) -> Result<(), StoreError> {
        check_keys(writes.keys())?;
        let meta = serde_json::to_vec(meta).map_err(|e| storage(&self.path(), &e))?;
        let values = writes.iter().map(|(key, value)| (self.key(VALUE, key), value.as_deref()));
        self.write(values.chain([(self.key(CHECKPOINT, &[]), Some(meta.as_slice()))]))
    }

    fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let found =
            self.keyspace().get(self.key(CHECKPOINT, &[])).map_err(|e| self.shared.fail(&e))?;
        found
            .map(|text| serde_json::from_slice(&text))
            .transpose()
            .map_err(|e| storage(&self.path(), &e))
    }

    fn wipe(&mut self) -> Result<(), StoreError> {
        self.write([(self.key(CHECKPOINT, &[]), None)])?;
        loop {
            let slice = self.scan(&[], &[], WIPE_SLICE)?;
            if slice.is_empty() {
                return Ok(());
            }
            self.write(slice.iter().map(|(key, _)| (self.key(VALUE, key), None)))?;
        }
    }
}

impl LocalTaskStore {
    fn path(&self) -> std::path::PathBuf {
        self.shared.0.folder.path().to_owned()
    }
}
