//! What a verification found, as rows of a table and as JSON.
//!
//! May not live here: how it was found.

use serde::Serialize;

use super::compare::Counts;

/// Headings of the table.
pub const HEADINGS: [&str; 10] = [
    "check",
    "given",
    "expected",
    "found",
    "lost",
    "twice",
    "foreign",
    "out of order",
    "worst gap (s)",
    "verdict",
];

/// One comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What was compared.
    pub check: String,
    /// How many records were given, where that is another number than expected.
    pub given: Option<u64>,
    /// How many there should be.
    pub expected: u64,
    /// How many there are.
    pub found: u64,
    /// Expected, and not there.
    pub lost: u64,
    /// There once more than expected.
    pub twice: u64,
    /// There, and never expected.
    pub foreign: u64,
    /// Found behind one that should follow it.
    pub out_of_order: u64,
    /// Longest time, in milliseconds, that a partition of an output stood still between two records.
    pub worst_gap_ms: Option<u64>,
    /// Whether all is well.
    pub good: bool,
}

impl Line {
    /// A comparison.
    #[must_use]
    pub fn new(check: impl Into<String>, counts: Counts) -> Self {
        Self {
            check: check.into(),
            given: None,
            expected: counts.expected,
            found: counts.found,
            lost: counts.lost,
            twice: counts.twice,
            foreign: counts.foreign,
            out_of_order: counts.out_of_order,
            worst_gap_ms: None,
            good: counts.good(),
        }
    }

    /// With the number of records that were given.
    #[must_use]
    pub fn given(self, given: u64) -> Self {
        Self { given: Some(given), ..self }
    }

    /// With the worst gap.
    #[must_use]
    pub fn gap(self, worst_gap_ms: u64) -> Self {
        Self { worst_gap_ms: Some(worst_gap_ms), ..self }
    }

    /// The cells under [`HEADINGS`].
    #[must_use]
    pub fn cells(&self) -> Vec<String> {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![
            self.check.clone(),
            or_dash(self.given.map(|n| n.to_string())),
            self.expected.to_string(),
            self.found.to_string(),
            self.lost.to_string(),
            self.twice.to_string(),
            self.foreign.to_string(),
            self.out_of_order.to_string(),
            or_dash(self.worst_gap_ms.map(|ms| format!("{}.{}", ms / 1000, ms % 1000 / 100))),
            if self.good { "ok" } else { "WRONG" }.to_owned(),
        ]
    }
}

/// What was done to the processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Processes killed with SIGKILL, and started again.
    pub kills: u32,
    /// Processes paused with SIGSTOP for longer than session and transaction, and let go on.
    pub pauses: u32,
    /// Restarts of the broker.
    pub broker_restarts: u32,
    /// Restarts of the database.
    pub database_restarts: u32,
    /// Processes that ended by themselves (they were started again).
    pub ended: u32,
}

/// A whole verification.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Which pipeline ran.
    pub pipeline: String,
    /// The namespace: prefix of its topics and groups.
    pub namespace: String,
    /// The seed of records and faults.
    pub seed: u64,
    /// Processes that ran at a time.
    pub processes: u32,
    /// What was done to them.
    pub done: Done,
    /// Milliseconds that records were fed for.
    pub fed_ms: u64,
    /// Milliseconds from the first record until everything was settled.
    pub settled_ms: u64,
    /// The comparisons.
    pub lines: Vec<Line>,
    /// Remarks for a person: the first things that are lost, what a process said before its end.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether nothing is lost, doubled or out of order.
    #[must_use]
    pub fn good(&self) -> bool {
        !self.lines.is_empty() && self.lines.iter().all(|line| line.good)
    }
}
