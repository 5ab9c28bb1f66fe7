//! How far a source is in its file: what `lag` and `top` tell of it beside offsets.
//!
//! Read from the source's changelog, so that it is known of a stopped folder too. A source writes
//! where it stands in each step, so the changelog's end is looked at first.

use std::fmt;

use semel_operators::file_source::{Phase, STATE, STORE, Stand};
use semel_schemas::topic::{NextOffset, Partition};
use serde::{Deserialize, Serialize};

use super::{Stop, View, consume::Cursor};
use crate::{
    engine::{overlay::full_key, topology::Stage},
    log::Isolation,
};

/// Offsets before the changelog's end among which the stand nearly always is.
const NEAR: u64 = 500;

/// A source and its file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRow {
    /// What it does.
    pub doing: Doing,
    /// Bytes of the file that are read.
    pub bytes_read: u64,
    /// Size of the file, bytes; 0 before the first answer.
    pub bytes_total: u64,
    /// Records emitted.
    pub records: u64,
    /// Lines that were none.
    pub bad: u64,
    /// Milliseconds until the end of the file at the pace so far, while it reads.
    pub left_ms: Option<u64>,
    /// Why it stopped, if it did.
    pub text: Option<String>,
}

/// What a source does with its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// It reads, or waits for more.
    #[default]
    Reading,
    /// It has read all.
    Complete,
    /// It waits for a person.
    Stopped,
}

impl From<Stand> for FileRow {
    fn from(stand: Stand) -> Self {
        let (doing, text) = match stand.phase {
            Phase::New | Phase::Reading { .. } => (Doing::Reading, None),
            Phase::Complete => (Doing::Complete, None),
            Phase::Stopped { text } => (Doing::Stopped, Some(text)),
        };
        let reach = stand.reach;
        Self {
            doing,
            bytes_read: reach.bytes_read,
            bytes_total: reach.bytes_total,
            records: reach.records,
            bad: reach.bad,
            left_ms: reach.left_ms().filter(|_| doing == Doing::Reading),
            text,
        }
    }
}

impl FileRow {
    /// In few words, for a narrow column.
    #[must_use]
    pub fn short(&self) -> String {
        match (self.doing, self.left_ms) {
            (Doing::Complete, _) => "file read".to_owned(),
            (Doing::Stopped, _) => "file stopped".to_owned(),
            (Doing::Reading, Some(ms)) => format!("{} %, {} left", self.percent(), Span(ms)),
            (Doing::Reading, None) => format!("{} %", self.percent()),
        }
    }

    fn percent(&self) -> u128 {
        u128::from(self.bytes_read) * 100 / u128::from(self.bytes_total.max(1))
    }
}

impl fmt::Display for FileRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, total) = (self.percent(), self.bytes_total);
        match self.doing {
            Doing::Reading => write!(f, "{percent} % of {total} bytes")?,
            Doing::Complete => write!(f, "file read to its end, {total} bytes")?,
            Doing::Stopped => write!(f, "stopped at {percent} % of {total} bytes")?,
        }
        write!(f, ", {} records", self.records)?;
        if self.bad > 0 {
            write!(f, ", {} bad lines", self.bad)?;
        }
        if let Some(ms) = self.left_ms {
            write!(f, ", {} left", Span(ms))?;
        }
        match &self.text {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

/// Milliseconds as people say them.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_ceil(1_000);
        match seconds {
            0..120 => write!(f, "{seconds} s"),
            120..7_200 => write!(f, "{} min", seconds / 60),
            _ => write!(f, "{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        }
    }
}

/// How far a stage is in its file; none, if it reads none or has not begun.
///
/// # Errors
/// [`Stop`], if the log does not answer.
pub fn of(view: &View, stage: &Stage) -> Result<Option<FileRow>, Stop> {
    let reads = stage.operators.iter().any(|o| o.stores().iter().any(|s| s.name == STORE));
    let topic = &stage.changelog.name;
    if !reads || view.log.topic(topic)?.is_none() {
        return Ok(None);
    }
    let (first, end) = view.log.reader(Isolation::Committed)?.bounds(topic, Partition(0))?;
    let near = NextOffset(end.0.saturating_sub(NEAR)).max(first);
    for from in [near, first] {
        if let Some(bytes) = last(view, stage, (from, end))? {
            // What another version of the operator wrote is not told.
            return Ok(serde_json::from_slice::<Stand>(&bytes).ok().map(FileRow::from));
        }
    }
    Ok(None)
}

/// The last value that was written for the stand.
fn last(
    view: &View,
    stage: &Stage,
    (from, end): (NextOffset, NextOffset),
) -> Result<Option<Vec<u8>>, Stop> {
    if from >= end {
        return Ok(None);
    }
    let wanted = full_key(STORE, STATE);
    let reader = view.log.reader(Isolation::Committed)?;
    let mut cursor = Cursor::open(reader, (&stage.changelog.name, Partition(0)), (from, end))?;
    let mut found = None;
    while let Some(record) = cursor.take()? {
        if record.key.as_deref() == Some(wanted.as_slice()) {
            found = record.value;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use semel_operators::file_source::Reach;
    use semel_schemas::time::WallTime;

    use super::*;

    fn stand(phase: Phase) -> Stand {
        let reach = Reach {
            bytes_read: 250,
            bytes_total: 1_000,
            records: 12,
            bad: 1,
            begun: WallTime(0),
            begun_bytes: 0,
            at: WallTime(60_000),
        };
        Stand { phase, reach, ..Stand::default() }
    }

    #[test]
    fn a_source_is_told_in_one_line() {
        let stopped = Phase::Stopped { text: "it is another file".into() };
        let rows = [
            (
                Phase::Reading { tries: 0 },
                "25 %, 3 min left",
                "25 % of 1000 bytes, 12 records, 1 bad lines, 3 min left",
            ),
            (
                Phase::Complete,
                "file read",
                "file read to its end, 1000 bytes, 12 records, 1 bad lines",
            ),
            (
                stopped,
                "file stopped",
                "stopped at 25 % of 1000 bytes, 12 records, 1 bad lines: it is another file",
            ),
        ];
        for (phase, short, long) in rows {
            let row = FileRow::from(stand(phase));
            assert_eq!((row.short().as_str(), row.to_string().as_str()), (short, long));
        }
        assert_eq!(FileRow::default().short(), "0 %");
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        for (ms, text) in [
            (0, "0 s"),
            (1, "1 s"),
            (119_000, "119 s"),
            (120_000, "2 min"),
            (7_260_000, "2 h 1 min"),
        ] {
            assert_eq!(Span(ms).to_string(), text);
        }
    }
}
