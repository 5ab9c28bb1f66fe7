//! Whether a file is still the one that a cursor is of: a digest of its head.
//!
//! A file with lines may grow, and a line of it may be mended that was not taken: so its head alone
//! counts, up to the last line that was. A Parquet file is written once and ends with its directory:
//! all of its head and its last bytes count.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
};

use semel_schemas::file::{FileCursor, FilePlace};
use sha2::{Digest, Sha256};

use super::Unread;

/// Bytes of the head (and, of a Parquet file, of the tail) that count.
const HEAD: u64 = 4_096;

/// Looks whether the file is the cursor's.
///
/// # Errors
/// If it is shorter than what was read of it, or another one.
pub(super) fn check(
    file: &mut File,
    size: u64,
    cursor: Option<&FileCursor>,
    with_tail: bool,
) -> Result<(), Unread> {
    if let Some(cursor) = cursor {
        let read = match cursor.place {
            FilePlace::Line { offset, .. } => offset.max(cursor.head_bytes),
            FilePlace::Row { .. } => cursor.head_bytes,
        };
        if size < read {
            return Err(Unread::Refused(format!(
                "has {size} bytes, but {read} were read of it before: it was cut off or replaced; \
                 put it back as it was"
            )));
        }
        if digest(file, size, cursor.head_bytes, with_tail)? != cursor.head {
            return Err(Unread::Refused(
                "is another file than the one that was read so far: put that one back, or give \
                 this one a name and a source of its own"
                    .to_owned(),
            ));
        }
    }
    Ok(())
}

/// The digest for a cursor, and how many bytes of the head are in it: those before `taken`.
pub(super) fn of(
    file: &mut File,
    size: u64,
    taken: u64,
    with_tail: bool,
) -> Result<(String, u64), Unread> {
    let bytes = size.min(HEAD).min(taken);
    Ok((digest(file, size, bytes, with_tail)?, bytes))
}

fn digest(file: &mut File, size: u64, head: u64, with_tail: bool) -> Result<String, Unread> {
    let mut hash = Sha256::new();
    hash.update(part(file, 0, head)?);
    if with_tail {
        hash.update(part(file, size.saturating_sub(HEAD), HEAD)?);
    }
    Ok(hex::encode(hash.finalize()))
}

fn part(file: &mut File, from: u64, length: u64) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.by_ref().take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}
