//! NDJSON: an object a line. Empty lines are passed over; a record's value is its line as it stands.

use std::{
    fs::File,
    io::{BufRead, BufReader, Seek, SeekFrom},
};

use semel_schemas::{
    fault::{Fault, FaultCode},
    file::{BadLine, FilePlace},
};

use super::{LocalFile, Piece, Unread, Window, shape::oversized};

/// The records behind a place: offset and line.
pub(super) fn read(
    local: &LocalFile,
    file: &mut File,
    from: (u64, u64),
    max: usize,
    follow: bool,
) -> Result<Piece, Unread> {
    let window = Window::open(file, from)?;
    let mut piece = Piece::at(FilePlace::Line { offset: from.0, line: from.1 });
    let (mut at, mut line) = (0, window.line);
    while at < window.bytes.len() {
        if piece.records.len() >= max {
            return Ok(piece);
        }
        let rest = &window.bytes[at..];
        let (text, length) = match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&rest[..end], end + 1),
            None if window.at_end && follow => break,
            None if window.at_end => (rest, rest.len()),
            // The window cuts the line in two.
            None if at > 0 => return Ok(piece),
            None => return skipped(local, file, from),
        };
        let place = FilePlace::Line { offset: window.offset + at as u64, line };
        at += length;
        line += 1;
        piece.place = FilePlace::Line { offset: window.offset + at as u64, line };
        if let Err(bad) = one(local, place, text, &mut piece) {
            piece.bad = Some(bad);
            piece.end = window.at_end && at == window.bytes.len();
            return Ok(piece);
        }
    }
    piece.end = window.at_end;
    Ok(piece)
}

fn one(local: &LocalFile, place: FilePlace, text: &[u8], piece: &mut Piece) -> Result<(), BadLine> {
    let text = std::str::from_utf8(text).map_err(|e| {
        local.bad(place, &Fault::new(FaultCode::Undecodable, format!("it is no UTF-8: {e}")))
    })?;
    // A byte order mark is no part of the first line.
    let text = text.trim_start_matches('\u{feff}').trim_ascii();
    if !text.is_empty() {
        piece.records.push(local.record(place, text)?);
    }
    Ok(())
}

/// A line that is longer than a window is no record: on to the next one.
fn skipped(local: &LocalFile, file: &mut File, from: (u64, u64)) -> Result<Piece, Unread> {
    let place = FilePlace::Line { offset: from.0, line: from.1 };
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.0))?;
    let bytes = BufReader::new(file).skip_until(b'\n')? as u64;
    let next = from.0 + bytes;
    let mut piece = Piece::at(FilePlace::Line { offset: next, line: from.1 + 1 });
    piece.bad = Some(local.bad(place, &oversized(bytes)));
    piece.end = next >= size;
    Ok(piece)
}
