//! Cutting off the unreadable end of a data folder's journal.
//!
//! When the power fails during a sync, the disk may have taken any of the pages that were on their
//! way. A batch that is torn so that its parts can be read but its checksum is wrong makes the
//! database refuse to open. Nothing in such a batch was ever answered, so cutting it off is right;
//! but a disk that forgot what it had taken looks the same, and then answered commits go with it.
//! Software cannot tell the two apart, so a person decides.
//!
//! The journal's layout is the database's own affair: the cut is found by asking a scratch database
//! which beginnings of the journal it can read.
//!
//! Invariants: the journal is kept beside the folder's database before it is cut; only the newest
//! journal is cut (the others were synced whole), and no more of it than cannot be read.

use std::{
    fs::{self, File},
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use fjall::Database;

use super::{DATABASE, DEFAULT_CACHE, DataFolder, FolderError, lock, open_database};

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Bytes that were cut off.
    pub cut: u64,
    /// The journal as it was.
    pub kept: PathBuf,
}

impl DataFolder {
    /// Cuts off the unreadable end of the newest journal, keeping a copy. `None`: the folder can
    /// be opened as it is.
    ///
    /// # Errors
    /// [`FolderError::Locked`]; [`FolderError::Storage`] if the damage is elsewhere.
    pub fn repair(path: &Path) -> Result<Option<Repaired>, FolderError> {
        let storage = |reason: String| FolderError::Storage { path: path.to_owned(), reason };
        let _lock = lock(path)?;
        let database = path.join(DATABASE);
        if opens(&database) {
            return Ok(None);
        }
        let cut = cut(path, &database).map_err(|e| storage(e.to_string()))?;
        match cut {
            Some(repaired) if opens(&database) => Ok(Some(repaired)),
            Some(_) | None => Err(storage(
                "its damage is not at the end of its journal; bring it back from a copy".to_owned(),
            )),
        }
    }
}

fn opens(database: &Path) -> bool {
    matches!(catch_unwind(AssertUnwindSafe(|| open_database(database, DEFAULT_CACHE))), Ok(Ok(_)))
}

/// Cuts the newest journal; `None` if all of it can be read.
fn cut(path: &Path, database: &Path) -> std::io::Result<Option<Repaired>> {
    let Some((number, journal)) = newest_journal(database)? else {
        return Ok(None);
    };
    let mut bytes = fs::read(&journal)?;
    let whole = bytes.len();
    // The database reserves room behind what it wrote.
    bytes.truncate(bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1));
    let scratch = path.join("repair");
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    let (mut good, mut bad) = (0, bytes.len());
    if readable(&scratch, &bytes)? {
        return Ok(None);
    }
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if readable(&scratch, &bytes[..middle])? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    fs::remove_dir_all(&scratch)?;
    let kept = keep(path, number, &journal)?;
    write_synced(&path.join("repaired"), &bytes[..good])?;
    fs::rename(path.join("repaired"), &journal)?;
    File::open(database)?.sync_all()?;
    let cut = u64::try_from(whole.min(bytes.len()) - good).unwrap_or(u64::MAX);
    Ok(Some(Repaired { cut, kept }))
}

fn newest_journal(database: &Path) -> std::io::Result<Option<(u64, PathBuf)>> {
    let mut newest = None;
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str());
        let number = number.and_then(|name| name.strip_suffix(".jnl")?.parse::<u64>().ok());
        newest = newest.max(number.map(|number| (number, path)));
    }
    Ok(newest)
}

/// Whether a database that knows nothing else can read this journal.
fn readable(scratch: &Path, journal: &[u8]) -> std::io::Result<bool> {
    let open = || {
        let opened = || Database::builder(scratch).worker_threads(1).open().map(drop);
        matches!(catch_unwind(AssertUnwindSafe(opened)), Ok(Ok(())))
    };
    if !scratch.exists() && !open() {
        return Err(std::io::Error::other("there is no room to repair in"));
    }
    fs::write(scratch.join("0.jnl"), journal)?;
    Ok(open())
}

/// Copies the journal to where the database does not look.
fn keep(path: &Path, number: u64, journal: &Path) -> std::io::Result<PathBuf> {
    let mut attempt = 0;
    let kept = loop {
        let kept = path.join(format!("journal-{number}-{attempt}.damaged"));
        if !kept.exists() {
            break kept;
        }
        attempt += 1;
    };
    write_synced(&kept, &fs::read(journal)?)?;
    File::open(path)?.sync_all()?;
    Ok(kept)
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
