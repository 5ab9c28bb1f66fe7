//! Files of records: NDJSON, CSV and Parquet, read piece by piece from a cursor.
//!
//! `mod` the trait, the settings, one answer · [`head`] is it still the same file · [`shape`] a
//! record's key, slot and time · [`lines`] NDJSON · [`csv`] · `parquet` (feature `parquet`) ·
//! `exact` values of Parquet as text. Keeps nothing: the cursor comes in and goes out.
//!
//! Invariants: an answer holds whole records only, in the file's order, and ends at the first line
//! that is none; memory is bounded by [`WINDOW`], or the rows of one answer, whatever the file's
//! size; nothing is rounded, and a value that cannot be told exactly is refused with its place.

mod csv;
#[cfg(feature = "parquet")]
pub mod exact;
mod head;
mod lines;
#[cfg(feature = "parquet")]
mod parquet;
mod shape;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
};

use async_trait::async_trait;
use semel_schemas::{
    effect::Outcome,
    file::{BadLine, FileCursor, FilePlace, FileRecord},
};
use serde::Deserialize;

/// Bytes of a file with lines that are looked at for one answer.
const WINDOW: usize = 1 << 20;
/// Bytes of one record's value: what is larger is no record (a topic takes 900,000 with all else).
const RECORD_BYTES_MAX: usize = 800_000;

/// A file that records can be read from. Safe to ask late, again, and from two processes at once.
#[async_trait]
pub trait RecordFile: Send + Sync {
    /// The records after a cursor: [`Outcome::FileRecords`], [`Outcome::FileRefused`] or
    /// [`Outcome::Uncertain`].
    async fn read(&self, cursor: Option<FileCursor>, max_records: u32, follow: bool) -> Outcome;
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// An object a line.
    Ndjson,
    /// Values separated by commas, names of fields in the first line (RFC 4180).
    Csv,
    /// Apache Parquet (needs the Cargo feature `parquet`).
    Parquet,
}

/// What a column becomes in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// A text, as it stands.
    Text,
    /// A number, with every digit that it is written with; empty: no field.
    Number,
    /// `true` or `false`; empty: no field.
    Boolean,
    /// JSON, as it stands; empty: no field.
    Json,
}

/// A file of records: `[files.NAME]` of a spec.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Where it is.
    pub path: PathBuf,
    /// How it is written.
    pub format: FileFormat,
    /// Type name of its records; one of the catalog's is checked line by line.
    #[serde(rename = "type")]
    pub kind: String,
    /// The field that is a record's key.
    pub key: String,
    /// The field that is a record's slot, a whole number: progress is made of it.
    #[serde(default)]
    pub slot: Option<String>,
    /// The field that is a record's time, milliseconds since 1970.
    #[serde(default)]
    pub time: Option<String>,
    /// CSV and Parquet: what columns become in JSON. Of CSV a column that is not named here is a
    /// text; of Parquet whole numbers and floats are numbers, the rest as it is.
    #[serde(default)]
    pub columns: BTreeMap<String, ColumnKind>,
}

impl FileSpec {
    /// Checks what can be checked without the file.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        for (name, text) in [("type", &self.kind), ("key", &self.key)] {
            if text.is_empty() {
                return Err(format!("`{name}` is empty: give it"));
            }
        }
        if self.format == FileFormat::Ndjson && !self.columns.is_empty() {
            return Err("NDJSON has no columns: leave `columns` out".to_owned());
        }
        if self.format == FileFormat::Parquet && cfg!(not(feature = "parquet")) {
            return Err("this `semel` was built without the Cargo feature `parquet`, which reads \
                        it: give NDJSON or CSV"
                .to_owned());
        }
        Ok(())
    }
}

/// A file on this machine.
#[derive(Clone, Debug)]
pub struct LocalFile {
    name: String,
    spec: FileSpec,
}

/// Why there is no answer with records.
#[derive(Debug)]
enum Unread {
    /// It will not be otherwise by itself.
    Refused(String),
    /// It may be otherwise next time.
    Failed(String),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Refused("is not there: put it at its path".to_owned()),
            io::ErrorKind::PermissionDenied => {
                Self::Refused("may not be read by this process: give it the right to".to_owned())
            }
            io::ErrorKind::IsADirectory => {
                Self::Refused("is a folder: name a file in it".to_owned())
            }
            _ => Self::Failed(format!("cannot be read: {error}")),
        }
    }
}

/// What was found behind a place.
#[derive(Debug)]
struct Piece {
    records: Vec<FileRecord>,
    bad: Option<BadLine>,
    /// Where to go on.
    place: FilePlace,
    /// Whether nothing is behind that.
    end: bool,
}

impl Piece {
    const fn at(place: FilePlace) -> Self {
        Self { records: Vec::new(), bad: None, place, end: false }
    }
}

/// Bytes of a file with lines.
struct Window {
    /// Where they begin.
    offset: u64,
    /// The line that begins there.
    line: u64,
    bytes: Vec<u8>,
    /// Whether the file ends with them.
    at_end: bool,
}

impl Window {
    fn open(file: &mut File, (offset, line): (u64, u64)) -> Result<Self, Unread> {
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.by_ref().take(WINDOW as u64).read_to_end(&mut bytes)?;
        let at_end = bytes.len() < WINDOW
            || file.metadata()?.len() <= offset.saturating_add(bytes.len() as u64);
        Ok(Self { offset, line, bytes, at_end })
    }
}

impl LocalFile {
    /// The file of this name in the settings.
    ///
    /// # Errors
    /// As [`FileSpec::check`].
    pub fn new(name: &str, spec: FileSpec) -> Result<Self, String> {
        spec.check()?;
        Ok(Self { name: name.to_owned(), spec })
    }

    /// Reads; blocks.
    fn answer(&self, cursor: Option<&FileCursor>, max_records: u32, follow: bool) -> Outcome {
        let told = |why: &str| format!("file `{}` ({}) {why}", self.name, self.spec.path.display());
        match self.records(cursor, max_records.max(1) as usize, follow) {
            Ok(outcome) => outcome,
            Err(Unread::Refused(why)) => Outcome::FileRefused { text: told(&why) },
            Err(Unread::Failed(why)) => Outcome::Uncertain { text: told(&why) },
        }
    }

    fn records(
        &self,
        cursor: Option<&FileCursor>,
        max: usize,
        follow: bool,
    ) -> Result<Outcome, Unread> {
        let mut file = File::open(&self.spec.path)?;
        let found = file.metadata()?;
        if found.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
        }
        let size = found.len();
        let is_parquet = self.spec.format == FileFormat::Parquet;
        head::check(&mut file, size, cursor, is_parquet)?;
        let place = cursor.map(|cursor| cursor.place);
        let (piece, bytes_read) = match self.spec.format {
            FileFormat::Parquet => self.rows(file.try_clone()?, size, place, max)?,
            format => {
                let place = line(place)?;
                let piece = match format {
                    FileFormat::Csv => csv::read(self, &mut file, place, max, follow)?,
                    _ => lines::read(self, &mut file, place.unwrap_or((0, 1)), max, follow)?,
                };
                let bytes_read = match piece.place {
                    FilePlace::Line { offset, .. } => offset,
                    FilePlace::Row { .. } => size,
                };
                (piece, bytes_read)
            }
        };
        let Piece { records, bad, place, end } = piece;
        let taken = match bad.as_ref().map_or(place, |bad| bad.place) {
            FilePlace::Line { offset, .. } => offset,
            FilePlace::Row { .. } => size,
        };
        let (head, head_bytes) = head::of(&mut file, size, taken, is_parquet)?;
        Ok(Outcome::FileRecords {
            kind: self.spec.kind.clone(),
            records,
            bad,
            cursor: FileCursor { place, head, head_bytes },
            end,
            bytes_read,
            bytes_total: size.max(bytes_read),
        })
    }

    #[cfg(feature = "parquet")]
    fn rows(
        &self,
        file: File,
        size: u64,
        place: Option<FilePlace>,
        max: usize,
    ) -> Result<(Piece, u64), Unread> {
        let place = match place {
            None => (0, 0),
            Some(FilePlace::Row { group, row }) => (group, row),
            Some(FilePlace::Line { .. }) => return Err(other_format()),
        };
        parquet::read(self, file, size, place, max)
    }

    #[cfg(not(feature = "parquet"))]
    fn rows(
        &self,
        _: File,
        _: u64,
        _: Option<FilePlace>,
        _: usize,
    ) -> Result<(Piece, u64), Unread> {
        let why = "is Parquet, and this `semel` was built without the Cargo feature `parquet`";
        Err(Unread::Refused(why.to_owned()))
    }
}

/// A place in a file with lines.
fn line(place: Option<FilePlace>) -> Result<Option<(u64, u64)>, Unread> {
    match place {
        None => Ok(None),
        Some(FilePlace::Line { offset, line }) => Ok(Some((offset, line))),
        Some(FilePlace::Row { .. }) => Err(other_format()),
    }
}

fn other_format() -> Unread {
    Unread::Refused("was read in another `format` so far: set that one again".to_owned())
}

#[async_trait]
impl RecordFile for LocalFile {
    async fn read(&self, cursor: Option<FileCursor>, max_records: u32, follow: bool) -> Outcome {
        let file = self.clone();
        let reading = move || file.answer(cursor.as_ref(), max_records, follow);
        tokio::task::spawn_blocking(reading).await.unwrap_or_else(|error| Outcome::Uncertain {
            text: format!("the reading of file `{}` broke off: {error}", self.name),
        })
    }
}

#[cfg(test)]
mod tests;
