//! Many seeds, spread over threads: each simulation is of one thread all the same.
//!
//! Lives here: which seed runs where, and the clock that tells how fast. Invariant: what is answered
//! is the failing seed that comes first, whatever the number of threads.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use semel_schemas::sabotage::Sabotage;

use super::{Failure, Report, Subject, Trace, options::Options, run, schedule};

/// Which seeds, and how.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// The spec; `None`: the built-in ones, by seed.
    pub subject: Option<Subject>,
    /// The first seed.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Threads.
    pub jobs: usize,
    /// The guard that is switched off meanwhile.
    pub sabotage: Option<Sabotage>,
    /// Whether each seed is run twice and its traces are compared.
    pub runs: Runs,
    /// The invariants that are checked, and whose violation ends the search; none: all of them, and
    /// whatever else fails.
    pub wanted: Vec<&'static str>,
}

/// How often a seed is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// Once.
    Once,
    /// Twice, with traces, which must be the same.
    Twice,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Schedules that were run.
    pub schedules: u64,
    /// Steps of lanes.
    pub steps: u64,
    /// Calls to the outside.
    pub calls: u64,
    /// Simulated time.
    pub simulated_ms: u64,
    /// Wall time.
    pub took: Duration,
    /// The first seed that failed.
    pub failed: Option<(u64, Failure)>,
}

#[cfg(feature = "sabotage")]
fn broken(sabotage: Option<Sabotage>) -> Option<semel_schemas::sabotage::Active> {
    sabotage.map(Sabotage::begin)
}

/// A build without the broken variants has nothing to switch off.
#[cfg(not(feature = "sabotage"))]
const fn broken(_: Option<Sabotage>) {}

/// Does something on this thread while a guard is switched off.
pub fn broken_for<T>(sabotage: Option<Sabotage>, make: impl FnOnce() -> T) -> T {
    let _active = broken(sabotage);
    make()
}

impl Swarm {
    /// What a seed runs, and with which options.
    ///
    /// # Errors
    /// What is wrong with the spec, line by line.
    pub fn of_seed(&self, seed: u64) -> Result<(Subject, Options), Vec<String>> {
        let subject = match &self.subject {
            Some(subject) => subject.clone(),
            None => Subject::of_seed(seed)?,
        };
        let options = Options { only: self.wanted.clone(), ..subject.options(seed) };
        Ok((subject, options))
    }

    /// Runs one seed on this thread.
    ///
    /// # Errors
    /// What is wrong with the spec, line by line.
    pub fn one(&self, seed: u64, trace: Trace) -> Result<Report, Vec<String>> {
        let _active = broken(self.sabotage);
        let (subject, options) = self.of_seed(seed)?;
        run(&subject, &options, &schedule::draw(&options), trace)
    }

    /// Runs them all, or up to the first that fails.
    ///
    /// # Errors
    /// What is wrong with the spec, line by line.
    pub fn run(&self) -> Result<Outcome, Vec<String>> {
        let began = Instant::now();
        let (next, stop) = (AtomicU64::new(0), AtomicU64::new(self.count));
        let sums = Mutex::new(Ok(Outcome::default()));
        thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        if number >= stop.load(Ordering::SeqCst) {
                            return;
                        }
                        let seed = self.first.saturating_add(number);
                        let mut report = self.seed(seed);
                        if let Ok(report) = &mut report {
                            report.failure.take_if(|failure| !self.wants(failure));
                        }
                        let ended = !matches!(&report, Ok(Report { failure: None, .. }));
                        if ended {
                            // Those before it are under way; none behind it is begun.
                            stop.fetch_min(number, Ordering::SeqCst);
                        }
                        add(&sums, seed, report);
                    }
                });
            }
        });
        let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        sums.map(|sums| Outcome { took: began.elapsed(), ..sums })
    }

    fn wants(&self, failure: &Failure) -> bool {
        self.wanted.is_empty() || self.wanted.contains(&failure.invariant.as_str())
    }

    fn seed(&self, seed: u64) -> Result<Report, Vec<String>> {
        let trace = if self.runs == Runs::Twice { Trace::Written } else { Trace::Silent };
        let mut report = self.one(seed, trace)?;
        if self.runs == Runs::Twice {
            let again = self.one(seed, trace)?;
            if again.trace != report.trace {
                let pairs = report.trace.iter().zip(&again.trace);
                let at = pairs.take_while(|(one, two)| one == two).count();
                let line = |report: &Report| report.trace.get(at).cloned().unwrap_or_default();
                report.failure = Some(Failure {
                    invariant: "TWICE".to_owned(),
                    text: format!(
                        "the traces part at line {at}: `{}` and `{}`",
                        line(&report),
                        line(&again)
                    ),
                    at_ms: 0,
                });
            }
        }
        Ok(report)
    }
}

fn add(sums: &Mutex<Result<Outcome, Vec<String>>>, seed: u64, report: Result<Report, Vec<String>>) {
    let mut guard = sums.lock().unwrap_or_else(PoisonError::into_inner);
    let report = match report {
        Ok(report) => report,
        Err(errors) => {
            *guard = Err(errors);
            return;
        }
    };
    let Ok(sums) = &mut *guard else { return };
    sums.schedules += 1;
    sums.steps += report.steps;
    sums.calls += report.calls;
    sums.simulated_ms += report.simulated_ms;
    if let Some(failure) = report.failure
        && sums.failed.as_ref().is_none_or(|(before, _)| seed < *before)
    {
        sums.failed = Some((seed, failure));
    }
}
