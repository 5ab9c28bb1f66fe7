//! Places in a file and what was read there: the words between a file source and its connector.
//!
//! Lives here: data only. May not live here: reading (`connectors/`), deciding (`operators/`).
//! Invariant: a cursor is complete in itself: whoever holds it and the file can go on, and notices
//! another file under the same name.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    fault::Fault,
    time::{Slot, WallTime},
};

/// A place between two records of a file. Places of one file are ordered.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(tag = "unit", rename_all = "snake_case")]
pub enum FilePlace {
    /// Of a file with lines (NDJSON, CSV).
    Line {
        /// Bytes before it.
        offset: u64,
        /// The line that begins there, counted from 1.
        line: u64,
    },
    /// Of a Parquet file.
    Row {
        /// Row group, counted from 0.
        group: u64,
        /// Row within the group, counted from 0.
        row: u64,
    },
}

/// What names a record in its id: the byte offset, or `group.row`. The same whoever reads it.
impl fmt::Display for FilePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { offset, .. } => write!(f, "{offset}"),
            Self::Row { group, row } => write!(f, "{group}.{row}"),
        }
    }
}

/// Where a file source stands: the place of the first record that was not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileCursor {
    /// That place.
    pub place: FilePlace,
    /// SHA-256 of the file's first `head_bytes` bytes (of a Parquet file: and of its last 4,096),
    /// 64 hex digits.
    pub head: String,
    /// How many bytes of the head are in the digest: of the first 4,096 those that were taken (of a
    /// Parquet file: those that there are).
    pub head_bytes: u64,
}

/// One record of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileRecord {
    /// Where it begins.
    pub place: FilePlace,
    /// Its key, never empty.
    pub key: String,
    /// Its value, JSON as text; of NDJSON the line as it stands.
    pub value: String,
    /// Its slot, where the file has a field for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// Its time, milliseconds since 1970, where the file has a field for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<WallTime>,
}

/// A line (or row) that is no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BadLine {
    /// Where it begins.
    pub place: FilePlace,
    /// Why: the text names file and line.
    pub fault: Fault,
}
