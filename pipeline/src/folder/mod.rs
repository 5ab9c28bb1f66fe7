//! The data folder: one locked directory with one database, for one process.
//!
//! Lives here: the lock, and opening the database. May not live here: what the database holds (the
//! embedded log's and the state store's, in keyspaces of their own).
//!
//! Invariant: while a [`DataFolder`] or anything made from it lives, no other process opens the
//! folder.

mod repair;

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

pub use self::repair::Repaired;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

/// The lock file's name; it holds the process id of its owner, for people.
const LOCK: &str = "semel.lock";
/// The database's folder within the data folder.
const DATABASE: &str = "db";
/// Bytes of the tables on disk that are kept in memory unless someone says otherwise.
pub const DEFAULT_CACHE: u64 = 16 << 20;

/// Why a data folder could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process uses it.
    #[error(
        "the data folder {} is in use by process {owner}: stop that process, or give this one a \
         folder of its own",
        path.display()
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The owner's process id, as its lock file tells; `unknown` if it does not.
        owner: String,
    },
    /// The disk failed, or what the folder holds cannot be read.
    #[error("the data folder {} cannot be opened: {reason}", path.display())]
    Storage {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A locked data folder with its database. Cheap to clone.
#[derive(Clone)]
pub struct DataFolder(Arc<Inner>);

struct Inner {
    // The order matters: the database is closed before the lock is given back.
    db: Database,
    path: PathBuf,
    _lock: File,
}

impl fmt::Debug for DataFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DataFolder").field(&self.0.path).finish()
    }
}

impl DataFolder {
    /// Opens the folder, creating it if there is none.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        Self::open_with(path, DEFAULT_CACHE)
    }

    /// Opens the folder, creating it if there is none, with at most `cache` bytes of its tables in
    /// memory.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open_with(path: &Path, cache: u64) -> Result<Self, FolderError> {
        let storage = |reason: String| FolderError::Storage { path: path.to_owned(), reason };
        fs::create_dir_all(path).map_err(|e| storage(e.to_string()))?;
        let lock = lock(path)?;
        // What a damaged disk holds may trip the database's own assertions; that is an answer like
        // any other.
        let opened = catch_unwind(AssertUnwindSafe(|| open_database(&path.join(DATABASE), cache)));
        let db = match opened {
            Ok(Ok(db)) => db,
            Ok(Err(e)) => return Err(storage(damaged(&e))),
            Err(_) => return Err(storage(damaged(&"the database's files contradict themselves"))),
        };
        Ok(Self(Arc::new(Inner { db, path: path.to_owned(), _lock: lock })))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Its database.
    pub(crate) fn db(&self) -> &Database {
        &self.0.db
    }

    /// A keyspace of the database, created if there is none, with at most `memtable` bytes in
    /// memory before they move to a table on disk.
    pub(crate) fn keyspace(&self, name: &str, memtable: u64) -> fjall::Result<Keyspace> {
        self.db().keyspace(name, || {
            KeyspaceCreateOptions::default()
                .manual_journal_persist(true)
                .max_memtable_size(memtable)
        })
    }
}

/// Opens the database and writes to it: a disk that cannot be written to, or damage that shows
/// only in the next write, is told of before anything is promised.
fn open_database(path: &Path, cache: u64) -> fjall::Result<Database> {
    // One worker: of several, the first hands each compaction on to the others through the queue, and
    // while none of them is free it does nothing else, at full speed.
    let builder = Database::builder(path).manual_journal_persist(true).cache_size(cache);
    let db = builder.worker_threads(1).open()?;
    let openings = db.keyspace("openings", || {
        KeyspaceCreateOptions::default().manual_journal_persist(true).max_memtable_size(1 << 20)
    })?;
    openings.insert("last", format!("process {}", std::process::id()))?;
    db.persist(PersistMode::SyncData)?;
    Ok(db)
}

fn damaged(reason: &dyn fmt::Display) -> String {
    format!(
        "{reason}; if the disk is sound and has room, bring the folder back from a copy, or, when \
         the power failed, cut off what cannot be read with `semel repair`"
    )
}

/// Takes the folder's lock, or says who has it.
fn lock(path: &Path) -> Result<File, FolderError> {
    let storage = |e: std::io::Error| FolderError::Storage {
        path: path.to_owned(),
        reason: format!("{LOCK}: {e}"),
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join(LOCK))
        .map_err(storage)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(storage)?;
            file.rewind().map_err(storage)?;
            writeln!(file, "{}", std::process::id()).map_err(storage)?;
            Ok(file)
        }
        Err(TryLockError::Error(e)) => Err(storage(e)),
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // Only for the sentence: a lock file that cannot be read has an unknown owner.
            let read = file.read_to_string(&mut owner);
            let owner = match (read, owner.trim()) {
                (Ok(_), pid) if !pid.is_empty() => pid.to_owned(),
                _ => "unknown".to_owned(),
            };
            Err(FolderError::Locked { path: path.to_owned(), owner })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opener_is_told_who_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataFolder::open(folder.path()).unwrap();
        let text = DataFolder::open(folder.path()).unwrap_err().to_string();
        assert!(text.contains(&format!("in use by process {}", std::process::id())), "{text}");
        drop(first);
        DataFolder::open(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let text = DataFolder::open(&file).unwrap_err().to_string();
        assert!(text.contains("file cannot be opened"), "{text}");
    }
}
