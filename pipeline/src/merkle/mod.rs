//! Leaf data from files: CSV, JSON, NDJSON and Parquet as the rows of a Merkle profile.
//!
//! `mod` the formats and rows of a profile · [`csv`] · [`json`] (a list, or an object a line) ·
//! `parquet` (feature `parquet`) · [`sealed`] trees as files · [`epochs`] those of a pipeline's closed
//! epochs · [`second`] roots by another implementation. May not live here: how rows become leaves (`semel_operators::merkle`).
//!
//! Invariants: what cannot be read is refused with file, line and field, and then nothing is used;
//! nothing is trimmed, rounded or guessed. Numbers stay text until a field reads them, so that none
//! is cut to the 53 bits of a float.

mod csv;
pub mod epochs;
mod json;
#[cfg(feature = "parquet")]
mod parquet;
pub mod sealed;
pub mod second;

use std::{
    fmt,
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use semel_operators::merkle::{
    explain::Record,
    hash::Hash,
    profile::{
        Duplicates, Profile,
        rows::{Row, RowError},
    },
    tree::Tree,
};

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Values separated by commas, names of fields in the first line (RFC 4180)
    Csv,
    /// A list of objects
    Json,
    /// An object a line
    Ndjson,
    /// Apache Parquet (needs the Cargo feature `parquet`)
    Parquet,
}

impl Format {
    /// The format that a file's name tells.
    ///
    /// # Errors
    /// A sentence, if it tells none.
    pub fn of(path: &Path) -> Result<Self, String> {
        let end = path.extension().map(|end| end.to_string_lossy().to_lowercase());
        match end.as_deref() {
            Some("csv") => Ok(Self::Csv),
            Some("json") => Ok(Self::Json),
            Some("ndjson" | "jsonl") => Ok(Self::Ndjson),
            Some("parquet") => Ok(Self::Parquet),
            _ => Err(format!(
                "{}: its name does not end in .csv, .json, .ndjson, .jsonl or .parquet: say what \
                 it is with --format",
                path.display()
            )),
        }
    }
}

/// Where a record stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The line that it begins at, counted from 1.
    Line(u64),
    /// The row, counted from 1, of a file without lines.
    Row(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// Takes a record; an error ends the reading.
type Take<'a> = dyn FnMut(Place, Record) -> Result<(), String> + 'a;

/// A file of leaf data.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path; `-` is standard input.
    pub path: PathBuf,
    /// How it is written.
    pub format: Format,
}

impl Source {
    /// Of a path, whose name tells the format unless it is given.
    ///
    /// # Errors
    /// As [`Format::of`].
    pub fn new(path: &Path, format: Option<Format>) -> Result<Self, String> {
        let format = format.map_or_else(|| Format::of(path), Ok)?;
        Ok(Self { path: path.to_owned(), format })
    }

    /// Every record, one by one, with its place.
    ///
    /// # Errors
    /// A sentence with file, place and field.
    pub fn each(&self, take: &mut Take<'_>) -> Result<(), String> {
        let mut read = || -> Result<(), String> {
            match self.format {
                Format::Csv => csv::each(self.open()?, take),
                Format::Json => json::list(self.open()?, take),
                Format::Ndjson => json::lines(self.open()?, take),
                #[cfg(feature = "parquet")]
                Format::Parquet => parquet::each(&self.path, take),
                #[cfg(not(feature = "parquet"))]
                Format::Parquet => {
                    Err("this `semel` was built without the Cargo feature `parquet`, \
                                        which reads it: give CSV, JSON or NDJSON"
                        .to_owned())
                }
            }
        };
        read().map_err(|why| format!("{}, {why}", self.path.display()))
    }

    fn open(&self) -> Result<Box<dyn Read>, String> {
        if self.path == Path::new("-") {
            return Ok(Box::new(std::io::stdin()));
        }
        let file = File::open(&self.path).map_err(|why| format!("it cannot be read: {why}"))?;
        Ok(Box::new(BufReader::new(file)))
    }

    /// All records.
    ///
    /// # Errors
    /// As [`Source::each`], and a file without a record.
    pub fn records(&self) -> Result<Vec<Record>, String> {
        let mut all = Vec::new();
        self.each(&mut |_, record| {
            all.push(record);
            Ok(())
        })?;
        self.not_empty(all)
    }

    /// The tree of all rows by the profile, and the rows as they are arranged in it. `progress` hears
    /// how many were read.
    ///
    /// # Errors
    /// As [`Source::each`]; a field that is missing or does not fit; equal rows where the profile
    /// refuses them; too few rows, or too many.
    pub fn tree(
        &self,
        profile: &Profile,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(Tree, Vec<Row>), String> {
        let (rows, places) = self.rows(profile, progress)?;
        let wrong = |why: &dyn fmt::Display| format!("{}, {why}", self.path.display());
        if profile.duplicates == Duplicates::Refuse {
            refuse_equal(profile, &rows, &places).map_err(|why| wrong(&why))?;
        }
        profile.tree(rows).map_err(|why| match why {
            RowError::Field { row, error } if row < places.len() => {
                wrong(&format_args!("{}, {error}", places[row]))
            }
            why => format!("{}: {why}", self.path.display()),
        })
    }

    /// All rows of the profile, each with its place.
    fn rows(
        &self,
        profile: &Profile,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(Vec<Row>, Vec<Place>), String> {
        let (mut rows, mut places) = (Vec::new(), Vec::new());
        self.each(&mut |place, record| {
            let row = row(profile, &record).map_err(|why| format!("{place}, {why}"))?;
            rows.push(row);
            places.push(place);
            progress(rows.len());
            Ok(())
        })?;
        Ok((self.not_empty(rows)?, places))
    }

    fn not_empty<T>(&self, all: Vec<T>) -> Result<Vec<T>, String> {
        if all.is_empty() {
            let path = self.path.display();
            return Err(format!("{path} holds no leaf, and a root needs at least one: add rows"));
        }
        Ok(all)
    }
}

/// The values that a profile asks of a record.
///
/// # Errors
/// The field that is missing or does not fit, and why.
pub fn row(profile: &Profile, record: &Record) -> Result<Row, String> {
    let value = |field: &semel_operators::merkle::leaf::Field| {
        let text = record.get(&field.name).ok_or_else(|| {
            let names: Vec<_> = record.keys().map(String::as_str).collect();
            let there = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            field.error(format!("it is missing, and `{profile}` needs it: there is {there}"))
        });
        text.and_then(|text| field.parse(text)).map_err(|why| why.to_string())
    };
    let row: Row = profile.asked().map(value).collect::<Result<_, _>>()?;
    profile.encode(&row).map_err(|why| why.to_string())?;
    Ok(row)
}

/// Refuses the first row that gives the same leaf as one before it.
fn refuse_equal(profile: &Profile, rows: &[Row], places: &[Place]) -> Result<(), String> {
    let hash = |row: &Row| profile.leaf(row).map_err(|why| why.to_string());
    let leaves: Vec<Hash> = rows.iter().map(hash).collect::<Result<_, _>>()?;
    let mut order: Vec<usize> = (0..leaves.len()).collect();
    order.sort_by_key(|at| leaves[*at]);
    let equal = order.windows(2).filter(|pair| leaves[pair[0]] == leaves[pair[1]]);
    match equal.min_by_key(|pair| pair[1]) {
        Some(pair) => Err(format!(
            "{}: it gives the same leaf as {}, which `duplicates` = \"refuse\" of `{profile}` does \
             not allow: drop one",
            places[pair[1]], places[pair[0]]
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
