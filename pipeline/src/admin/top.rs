//! `top`: one row for each stage and sink: how much it has done since its process started, how much
//! is left, and what waits for an answer.
//!
//! Totals, not rates: who asks twice divides by the time between.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Stop, View,
    file::FileRow,
    halt::paused,
    lag::{Lag, LagRow, lag},
};

/// A stage or sink at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopRow {
    /// Stage, source or sink.
    pub name: String,
    /// Whether a person has paused it.
    pub paused: bool,
    /// Partitions of its topic.
    pub partitions: u64,
    /// Those that the process which was asked owns.
    pub here: u64,
    /// Those of them that are being restored.
    pub restoring: u64,
    /// Records that are left to read, over all partitions.
    pub lag: u64,
    /// Effects under way here.
    pub effects: u64,
    /// Records read since the process started; none: no process was asked.
    pub records_in: Option<u64>,
    /// Records written.
    pub records_out: u64,
    /// Commits.
    pub commits: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Of a source that reads a file: how far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileRow>,
}

/// Looks at all stages and sinks, in the spec's order.
///
/// # Errors
/// [`Stop`].
pub fn top(view: &View) -> Result<Vec<TopRow>, Stop> {
    let paused = paused(view)?;
    let mut by_name: BTreeMap<String, Vec<LagRow>> = BTreeMap::new();
    for row in lag(view, &Lag::default())? {
        by_name.entry(row.name.clone()).or_default().push(row);
    }
    let counts = view.live.as_ref().map(|live| live.board.read());
    Ok(view
        .parts()
        .map(|part| {
            let rows = by_name.remove(part.name()).unwrap_or_default();
            let here = rows.iter().filter_map(|row| row.here.as_ref());
            let mut row = TopRow {
                name: part.name().to_owned(),
                paused: paused.contains(part.name()),
                partitions: rows.len() as u64,
                here: here.clone().count() as u64,
                restoring: here.clone().filter(|here| here.restoring).count() as u64,
                lag: rows.iter().map(|row| row.lag).sum(),
                effects: here.map(|here| here.effects as u64).sum(),
                file: rows.iter().find_map(|row| row.file.clone()),
                ..TopRow::default()
            };
            if let Some(counts) = &counts {
                let done = counts.get(part.name()).cloned().unwrap_or_default();
                row.records_in = Some(done.records_in);
                row.records_out = done.records_out;
                row.commits = done.commits;
                row.dead_letters = done.dead_letters;
            }
            row
        })
        .collect())
}
