//! `semel bench`: figures of this machine, each beside a baseline that was measured in the same run.
//!
//! `mod` what a figure is, and the list of benches · `machine` where they were taken · `records` the
//! input, `probe` records at a steady rate · `broker`, `process`, `stage`, `inside` what is measured
//! around · `copy`, `disk` the baselines · the others: one bench each.
//!
//! May not live here: limits that fail. A bench prints figure, baseline, ratio, and what the ratio
//! must be and aims to be; people judge. Invariant: figure and baseline come from interleaved runs
//! of one invocation, and a baseline that disagrees with itself by more than 30 % is called useless.

mod broker;
mod copy;
mod cpu;
mod disk;
mod embedded;
mod inside;
mod latency;
mod machine;
mod memory;
mod probe;
mod process;
mod records;
mod recovery;
mod stage;
mod streams;
mod work;

use std::{path::PathBuf, time::Instant};

use serde::Serialize;

pub use self::{
    copy::{Copy, Shape, run as run_copy},
    embedded::{Fill, Filled, fill as fill_embedded},
    machine::Machine,
    process::{Usage, usage},
};

/// Spread of a baseline, (greatest − least) / median, beyond which it says nothing.
const BUSY: f64 = 0.3;

/// Several measurements of one thing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
    /// How many.
    pub runs: usize,
}

impl Spread {
    /// The spread of some measurements.
    #[must_use]
    pub fn of(measured: &[f64]) -> Self {
        let mut sorted = measured.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |i: usize| sorted.get(i).copied().unwrap_or_default();
        let runs = sorted.len();
        let middle = f64::midpoint(at(runs.saturating_sub(1) / 2), at(runs / 2));
        Self { median: middle, least: at(0), greatest: at(runs.saturating_sub(1)), runs }
    }

    /// (greatest − least) / median.
    #[must_use]
    pub fn relative(&self) -> f64 {
        if self.median > 0.0 { (self.greatest - self.least) / self.median } else { 0.0 }
    }
}

impl From<f64> for Spread {
    fn from(measured: f64) -> Self {
        Self::of(&[measured])
    }
}

/// What a ratio should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// At most `must`, better at most `aim`.
    AtMost {
        /// Required.
        must: f64,
        /// Better.
        aim: f64,
    },
    /// At least `must`, better at least `aim`.
    AtLeast {
        /// Required.
        must: f64,
        /// Better.
        aim: f64,
    },
    /// It is printed, no more.
    Printed,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Which bench.
    pub bench: &'static str,
    /// What was measured.
    pub what: String,
    /// Unit of figure and baseline.
    pub unit: &'static str,
    /// The figure.
    pub figure: Spread,
    /// What it is compared with, and that one's figure.
    pub baseline: Option<(String, Spread)>,
    /// Figure by baseline.
    pub ratio: Option<f64>,
    /// What the ratio (without a baseline: the figure) should be.
    pub wanted: Wanted,
    /// What a reader must know beside it.
    pub note: String,
}

impl Row {
    /// A figure with a baseline.
    #[must_use]
    pub fn against(
        (bench, what): (&'static str, &str),
        unit: &'static str,
        figure: Spread,
        baseline: (&str, Spread),
        wanted: Wanted,
    ) -> Self {
        let ratio = (baseline.1.median > 0.0).then(|| figure.median / baseline.1.median);
        let busy = baseline.1.relative() > BUSY;
        let note = if busy {
            format!(
                "the machine is too busy: `{}` varies by {:.0} % between its own runs",
                baseline.0,
                baseline.1.relative() * 100.0
            )
        } else {
            String::new()
        };
        let baseline = Some((baseline.0.to_owned(), baseline.1));
        Self { bench, what: what.to_owned(), unit, figure, baseline, ratio, wanted, note }
    }

    /// A figure that stands alone.
    #[must_use]
    pub fn alone(
        (bench, what): (&'static str, &str),
        unit: &'static str,
        figure: Spread,
        wanted: Wanted,
    ) -> Self {
        let (baseline, ratio, note) = (None, None, String::new());
        Self { bench, what: what.to_owned(), unit, figure, baseline, ratio, wanted, note }
    }

    /// The same with one more remark.
    #[must_use]
    pub fn noting(mut self, note: &str) -> Self {
        if !self.note.is_empty() {
            self.note.push_str("; ");
        }
        self.note.push_str(note);
        self
    }
}

/// What a bench is given.
#[derive(Clone, Debug)]
pub struct Given {
    /// Kafka's bootstrap servers, if there is a Kafka.
    pub brokers: Option<String>,
    /// Few records, one run: to see that it works.
    pub quick: bool,
    /// Sizes are multiplied by this.
    pub scale: f64,
    /// How often each figure is taken.
    pub runs: u64,
    /// The Kafka Streams program, as `deploy/bench/streams/build` makes it.
    pub streams: Option<PathBuf>,
    /// The `semel` program: benches start it as other processes.
    pub program: PathBuf,
    /// A folder of its own for this invocation.
    pub folder: PathBuf,
    /// Topics and groups of this invocation begin so.
    pub name: String,
    /// When the invocation began.
    pub began: Instant,
}

impl Given {
    /// Records of a long bench.
    fn scaled(&self, whole: u64, quick: u64) -> u64 {
        if self.quick { quick } else { ((whole as f64 * self.scale) as u64).max(quick) }
    }

    fn runs(&self) -> u64 {
        if self.quick { 1 } else { self.runs.max(1) }
    }

    fn brokers(&self) -> Result<&str, String> {
        self.brokers.as_deref().ok_or_else(|| {
            "needs a Kafka: set SEMEL_BROKERS (`deploy/kafka start DIR` prints an address)"
                .to_owned()
        })
    }

    /// Tells a person how far it is.
    fn say(&self, text: &str) {
        tracing::info!("{:6.1} s  {text}", self.began.elapsed().as_secs_f64());
    }
}

/// A bench: rows, or why there are none.
type Bench = fn(&Given) -> Result<Vec<Row>, String>;

/// All benches by name, with what they measure.
pub const BENCHES: &[(&str, &str, Bench)] = &[
    ("cpu", "CPU time and throughput on Kafka against bare copy loops", cpu::bench),
    ("streams", "CPU time, throughput and memory against Kafka Streams", streams::bench),
    (
        "work",
        "CPU time and allocations of a record in task and operators, without a log",
        work::bench,
    ),
    ("latency", "from a record to its committed output, embedded and on Kafka", latency::bench),
    ("recovery", "from kill -9 to the first new output, with a million keys", recovery::bench),
    ("memory", "memory of dedupe with ten million ids", memory::bench),
    ("embedded", "the embedded log against the disk", embedded::bench),
];

/// Removes what an invocation made: its topics and its folder.
pub fn clean(given: &Given) {
    if let Some(broker) = given.brokers.as_deref().and_then(|b| broker::Broker::connect(b).ok()) {
        broker.delete(&format!("{}.", given.name));
    }
    if let Err(error) = std::fs::remove_dir_all(&given.folder) {
        tracing::warn!(%error, folder = %given.folder.display(), "not removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_a_middle() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!((spread.least, spread.median, spread.greatest, spread.runs), (1.0, 2.0, 3.0, 3));
        assert_eq!(Spread::of(&[1.0, 2.0]).median, 1.5);
        assert_eq!(Spread::of(&[]), Spread::default());
    }

    #[test]
    fn a_baseline_that_disagrees_with_itself_is_called_useless() {
        for (measured, useless) in [([1.0, 1.1, 1.2], false), ([1.0, 1.1, 1.5], true)] {
            let row = Row::against(
                ("cpu", "x"),
                "s",
                Spread::from(2.0),
                ("loop", Spread::of(&measured)),
                Wanted::Printed,
            );
            assert_eq!(row.note.contains("too busy"), useless, "{measured:?}");
        }
    }
}
