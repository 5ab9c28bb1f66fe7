//! CSV: names of fields in the first line, a record a line (or more, where a value is quoted).
//!
//! Invariant: every line has as many values as there are names, and no name stands twice.

use std::io::Read;

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};
use semel_operators::merkle::explain::Record;

use super::{Place, Take};

/// Every record.
pub(super) fn each(file: impl Read, take: &mut Take<'_>) -> Result<(), String> {
    let mut reader = ReaderBuilder::new().from_reader(file);
    let names = names(&mut reader)?;
    let mut line = StringRecord::new();
    while reader.read_record(&mut line).map_err(|why| refused(&why))? {
        let place = Place::Line(line.position().map_or(0, csv::Position::line));
        let record: Record = names.iter().cloned().zip(line.iter().map(str::to_owned)).collect();
        take(place, record)?;
    }
    Ok(())
}

fn names(reader: &mut Reader<impl Read>) -> Result<Vec<String>, String> {
    let first = reader.headers().map_err(|why| refused(&why))?;
    let mut names: Vec<String> = Vec::new();
    for name in first {
        // A byte order mark, as spreadsheets write it, is no part of a name.
        let name = if names.is_empty() { name.trim_start_matches('\u{feff}') } else { name };
        if names.iter().any(|other| other == name) {
            return Err(format!("line 1: column `{name}` is there twice: name each once"));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn refused(why: &csv::Error) -> String {
    let line = why.position().map_or(1, csv::Position::line);
    match why.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("line {line}: it has {len} values, and line 1 names {expected_len} columns")
        }
        ErrorKind::Utf8 { err, .. } => {
            format!("line {line}: value {} is no UTF-8: {err}", err.field() + 1)
        }
        _ => format!("line {line}: {why}"),
    }
}
