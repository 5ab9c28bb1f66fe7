//! CSV: names of fields in the first line, a record a line (or more, where a value is quoted).
//!
//! Invariants: every line has as many values as there are names, and no name stands twice; a record
//! that the window, or the end of a file that grows, cuts in two is not there yet.

use std::fs::File;

use csv::{ByteRecord, Reader, ReaderBuilder};
use semel_schemas::{
    fault::{Fault, FaultCode},
    file::FilePlace,
};

use super::{ColumnKind, LocalFile, Piece, Unread, WINDOW, Window, shape::quoted};

/// The records behind a place (offset and line), or behind the first line.
pub(super) fn read(
    local: &LocalFile,
    file: &mut File,
    from: Option<(u64, u64)>,
    max: usize,
    follow: bool,
) -> Result<Piece, Unread> {
    let mut first = Rows::new(Window::open(file, (0, 1))?, follow);
    let names = match first.next_row()? {
        Some((_, row)) => names(local, &row)?,
        None if !first.window.at_end => {
            let text = format!("names no columns in its first {WINDOW} bytes: name them in line 1");
            return Err(Unread::Refused(text));
        }
        // Not a whole first line yet, or none at all: the records begin where they would.
        None => {
            let begin = FilePlace::Line { offset: 0, line: 1 };
            return Ok(Piece { end: true, ..Piece::at(begin) });
        }
    };
    let mut rows = match from {
        Some(from) if from.0 > 0 => Rows::new(Window::open(file, from)?, follow),
        _ => first,
    };
    let mut piece = Piece::at(rows.place());
    while piece.records.len() < max {
        let Some((place, row)) = rows.next_row()? else {
            piece.place = rows.place();
            piece.end = rows.window.at_end;
            break;
        };
        piece.place = rows.place();
        let whole = if rows.open { Err(unclosed()) } else { object(local, &names, &row) };
        let record = match whole {
            Ok(value) => local.record(place, &value),
            Err(fault) => Err(local.bad(place, &fault)),
        };
        match record {
            Ok(record) => piece.records.push(record),
            Err(bad) => {
                piece.bad = Some(bad);
                break;
            }
        }
    }
    Ok(piece)
}

/// The whole rows of a window.
struct Rows {
    window: Window,
    reader: Reader<std::io::Cursor<Vec<u8>>>,
    follow: bool,
    /// Bytes of the window that are behind us.
    at: usize,
    line: u64,
    /// The row that was given last ends with the file, and within a quotation.
    open: bool,
}

impl Rows {
    fn new(window: Window, follow: bool) -> Self {
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(std::io::Cursor::new(window.bytes.clone()));
        let line = window.line;
        Self { window, reader, follow, at: 0, line, open: false }
    }

    /// Behind the last row that was given.
    fn place(&self) -> FilePlace {
        FilePlace::Line { offset: self.window.offset + self.at as u64, line: self.line }
    }

    /// The next row and where it begins; none at the window's end.
    fn next_row(&mut self) -> Result<Option<(FilePlace, ByteRecord)>, Unread> {
        let mut row = ByteRecord::new();
        let failed = |e: csv::Error| Unread::Failed(format!("cannot be read as CSV: {e}"));
        let more = self.reader.read_byte_record(&mut row).map_err(failed)?;
        let bytes = &self.window.bytes;
        if !more {
            // Empty lines alone, if anything.
            self.line += newlines(&bytes[self.at..]);
            self.at = bytes.len();
            return Ok(None);
        }
        let end = usize::try_from(self.reader.position().byte()).unwrap_or(usize::MAX);
        let mut end = end.min(bytes.len());
        if bytes[..end].ends_with(b"\r") && bytes[end..].starts_with(b"\n") {
            end += 1;
        }
        let raw = &bytes[self.at..end];
        self.open = is_open(raw);
        let whole = raw.ends_with(b"\n") && !self.open;
        if !whole && end == bytes.len() && (self.follow || !self.window.at_end) {
            if self.at == 0 && !self.window.at_end {
                return Err(Unread::Refused(format!(
                    "has a record at line {} that does not end within {WINDOW} bytes: close its \
                     quotation mark, or split it",
                    self.line
                )));
            }
            return Ok(None);
        }
        let blank = raw.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let begin = FilePlace::Line {
            offset: self.window.offset + (self.at + blank) as u64,
            line: self.line + newlines(&raw[..blank]),
        };
        self.line += newlines(raw);
        self.at = end;
        Ok(Some((begin, row)))
    }
}

/// Whether a row ends within a quotation (RFC 4180): more of it would follow.
fn is_open(row: &[u8]) -> bool {
    let (mut quoted, mut begins) = (false, true);
    for byte in row {
        (quoted, begins) = match byte {
            // Two within a quotation close it and open it again.
            b'"' if quoted => (false, true),
            b'"' if begins => (true, false),
            b',' | b'\r' | b'\n' => (quoted, true),
            _ => (quoted, false),
        };
    }
    quoted
}

fn unclosed() -> Fault {
    let text = "a quotation mark opens in it and is never closed: all that follows in the file \
                would be its value; close it";
    Fault::new(FaultCode::Undecodable, text)
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn names(local: &LocalFile, row: &ByteRecord) -> Result<Vec<String>, Unread> {
    let mut names: Vec<String> = Vec::new();
    for name in row {
        let name = std::str::from_utf8(name)
            .map_err(|e| Unread::Refused(format!("has a name in line 1 that is no UTF-8: {e}")))?;
        // A byte order mark, as spreadsheets write it, is no part of a name.
        let name = if names.is_empty() { name.trim_start_matches('\u{feff}') } else { name };
        if names.iter().any(|other| other == name) {
            let text = format!("names column `{name}` twice in line 1: name each once");
            return Err(Unread::Refused(text));
        }
        names.push(name.to_owned());
    }
    let asked = [Some(&local.spec.key), local.spec.slot.as_ref(), local.spec.time.as_ref()];
    let asked = asked.into_iter().flatten().chain(local.spec.columns.keys());
    for wanted in asked {
        if !names.contains(wanted) {
            return Err(Unread::Refused(format!(
                "has no column `{wanted}`, which the settings name: line 1 names {}",
                names.join(", ")
            )));
        }
    }
    Ok(names)
}

/// A row as a JSON object.
fn object(local: &LocalFile, names: &[String], row: &ByteRecord) -> Result<String, Fault> {
    if row.len() != names.len() {
        let text = format!("it has {} values, and line 1 names {} columns", row.len(), names.len());
        return Err(Fault::new(FaultCode::Undecodable, text));
    }
    let mut fields = Vec::with_capacity(names.len());
    for (name, value) in names.iter().zip(row) {
        let value = std::str::from_utf8(value).map_err(|e| {
            Fault::new(FaultCode::Undecodable, format!("column `{name}` is no UTF-8: {e}"))
        })?;
        if let Some(value) = local.cell(name, value, ColumnKind::Text)? {
            fields.push(format!("{}:{value}", quoted(name)));
        }
    }
    Ok(format!("{{{}}}", fields.join(",")))
}
