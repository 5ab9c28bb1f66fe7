//! What a devnet was asked, in order, in a file: one JSON object a line, settings first.
//!
//! Written before the event happens, so that nobody has seen a block that a restart would not
//! bring back. Lines reach the operating system, not the disk: a killed process loses nothing, a
//! failed machine may lose the end. An incomplete last line is cut off.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use semel_schemas::solana::Address;
use serde::{Deserialize, Serialize};

use super::{DevnetConfig, DevnetError};

/// Something that changes the chain.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// A slot.
    Tick {
        /// Its chain time, milliseconds since 1970.
        at_ms: u64,
    },
    /// A transaction that was taken.
    Send {
        /// Serialized.
        #[serde(with = "base64_bytes")]
        bytes: Vec<u8>,
    },
    /// A transfer from the faucet.
    Airdrop {
        /// To whom.
        to: Address,
        /// How much.
        lamports: u64,
    },
    /// A channel's account is created.
    Channel {
        /// Its name.
        name: String,
    },
}

mod base64_bytes {
    use semel_schemas::solana::Base64;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        Base64(bytes.to_vec()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        Base64::deserialize(from).map(|b| b.0)
    }
}

/// The open file, locked against other processes.
pub(super) struct Journal {
    file: File,
    folder: String,
    /// A line was not written to its end: another one after it could never be read.
    torn: bool,
}

impl Journal {
    /// Opens or creates the journal in `folder`: what it holds so far.
    pub(super) fn open(
        folder: &Path,
        config: &DevnetConfig,
    ) -> Result<(Self, Vec<Event>), DevnetError> {
        let name = folder.display().to_string();
        let failed = |reason: String| DevnetError::Folder { folder: name.clone(), reason };
        fs::create_dir_all(folder).map_err(|e| failed(format!("cannot be created: {e}")))?;
        let path = folder.join("devnet.jsonl");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(|e| failed(format!("its journal cannot be opened: {e}")))?;
        file.try_lock().map_err(|_| {
            failed("is used by another process; stop it or choose another folder".to_owned())
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| failed(format!("cannot be read: {e}")))?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |last| last + 1);
        bytes.truncate(whole);
        let end = whole as u64;
        file.set_len(end)
            .and_then(|()| file.seek(SeekFrom::Start(end)))
            .map_err(|e| failed(format!("cannot be written: {e}")))?;
        let mut journal = Self { file, folder: name, torn: false };
        let mut lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        match lines.next() {
            None => journal.line(config)?,
            Some(first) => journal.check(first, config)?,
        }
        let events = lines
            .enumerate()
            .map(|(i, line)| {
                serde_json::from_slice(line)
                    .map_err(|e| journal.broken(&format!("line {} of its journal: {e}", i + 2)))
            })
            .collect::<Result<_, _>>()?;
        Ok((journal, events))
    }

    fn check(&self, first: &[u8], config: &DevnetConfig) -> Result<(), DevnetError> {
        let held: DevnetConfig =
            serde_json::from_slice(first).map_err(|e| self.broken(&e.to_string()))?;
        if held == *config {
            return Ok(());
        }
        Err(self.failed(
            "was made with other settings; start with the same ones, or choose an empty folder"
                .to_owned(),
        ))
    }

    /// Writes an event down.
    pub(super) fn append(&mut self, event: &Event) -> Result<(), DevnetError> {
        self.line(event)
    }

    fn line(&mut self, value: &impl Serialize) -> Result<(), DevnetError> {
        if self.torn {
            return Err(self.failed("its journal broke off; make room and start again".to_owned()));
        }
        let mut line = serde_json::to_vec(value).map_err(|e| self.failed(e.to_string()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|e| {
            self.torn = true;
            self.failed(format!("its journal cannot be written: {e}; make room and start again"))
        })
    }

    /// The journal cannot be followed.
    pub(super) fn broken(&self, reason: &str) -> DevnetError {
        self.failed(format!("{reason}; choose an empty folder to start a new chain"))
    }

    fn failed(&self, reason: String) -> DevnetError {
        DevnetError::Folder { folder: self.folder.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failed_write_nothing_more_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("devnet.jsonl");
        let config = DevnetConfig::default();
        let (mut journal, events) = Journal::open(folder.path(), &config).unwrap();
        assert_eq!(events, []);
        journal.append(&Event::Tick { at_ms: 1 }).unwrap();
        let writable = std::mem::replace(&mut journal.file, File::open(&path).unwrap());
        let text = journal.append(&Event::Tick { at_ms: 2 }).unwrap_err().to_string();
        assert!(text.contains("cannot be written") && text.contains("make room"), "{text}");
        journal.file = writable;
        journal.append(&Event::Tick { at_ms: 3 }).unwrap_err();
        drop(journal);
        let (_, events) = Journal::open(folder.path(), &config).unwrap();
        assert_eq!(events, [Event::Tick { at_ms: 1 }]);
    }

    #[test]
    fn a_journal_that_cannot_be_read_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let config = DevnetConfig::default();
        drop(Journal::open(folder.path(), &config).unwrap());
        let path = folder.path().join("devnet.jsonl");
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend(b"{\"tick\":{\"at_ms\":1}}\n{\"tock\":1}\n");
        fs::write(&path, bytes).unwrap();
        let Err(error) = Journal::open(folder.path(), &config) else { panic!("it was read") };
        assert!(error.to_string().contains("line 3 of its journal"), "{error}");
    }
}
