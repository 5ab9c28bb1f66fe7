//! What a task counts. Counted when it is committed: an aborted cycle counts nothing.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Counts of one commit, or sums of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Input records.
    pub records_in: u64,
    /// Records for downstream topics (progress and dead letters left out).
    pub records_out: u64,
    /// Records sent on to their right partition.
    pub forwarded: u64,
    /// Dead letters written.
    pub dead_letters: u64,
    /// Timers fired.
    pub timers: u64,
    /// Effects recorded.
    pub effects: u64,
    /// Effects handed to connectors, again after a start included; counted at once, not by a commit.
    pub handed_out: u64,
    /// Outcomes taken in.
    pub outcomes: u64,
    /// Those of them that say that nothing is known: the effect is tried again.
    pub uncertain: u64,
    /// Commits.
    pub commits: u64,
    /// Commits known not to have happened.
    pub aborts: u64,
    /// What operators count, by name.
    pub named: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// Counts something under an operator's name for it.
    pub fn named(&mut self, name: &'static str, by: u64) {
        *self.named.entry(name).or_default() += by;
    }

    /// Adds another count to this one.
    pub fn add(&mut self, other: &Self) {
        self.records_in += other.records_in;
        self.records_out += other.records_out;
        self.forwarded += other.forwarded;
        self.dead_letters += other.dead_letters;
        self.timers += other.timers;
        self.effects += other.effects;
        self.handed_out += other.handed_out;
        self.outcomes += other.outcomes;
        self.uncertain += other.uncertain;
        self.commits += other.commits;
        self.aborts += other.aborts;
        for (name, by) in &other.named {
            self.named(name, *by);
        }
    }
}

/// Sums by stage, shared by all lanes of a process.
#[derive(Debug, Default)]
pub struct Board(Mutex<BTreeMap<String, Counts>>);

impl Board {
    /// Adds to a stage's sums, and to the process's metrics.
    pub fn add(&self, stage: &str, counts: &Counts) {
        let label = stage.to_owned();
        for (name, by) in [
            ("semel_records_in_total", counts.records_in),
            ("semel_records_out_total", counts.records_out),
            ("semel_forwarded_total", counts.forwarded),
            ("semel_dead_letters_total", counts.dead_letters),
            ("semel_commits_total", counts.commits),
            ("semel_aborts_total", counts.aborts),
            ("semel_effects_total", counts.effects),
            ("semel_effects_handed_out_total", counts.handed_out),
            ("semel_outcomes_total", counts.outcomes),
            ("semel_outcomes_uncertain_total", counts.uncertain),
        ] {
            metrics::counter!(name, "stage" => label.clone()).increment(by);
        }
        for (name, by) in &counts.named {
            metrics::counter!("semel_operator_total", "stage" => label.clone(), "what" => *name)
                .increment(*by);
        }
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sums.entry(label).or_default().add(counts);
    }

    /// The sums so far, by stage.
    #[must_use]
    pub fn read(&self) -> BTreeMap<String, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
