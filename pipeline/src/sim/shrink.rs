//! A failing schedule made small: events are left out as long as the same invariant breaks (delta
//! debugging, Zeller and Hildebrandt 2002).

use super::{Subject, Trace, options::Options, run, schedule::Event};

/// Runs that a shrinking may take.
const RUNS_MAX: u32 = 400;

/// The smallest list that was found whose run breaks the same invariant.
#[must_use]
pub fn shrink(
    subject: &Subject,
    options: &Options,
    events: &[Event],
    invariant: &str,
) -> Vec<Event> {
    let mut runs = 0;
    let mut fails = |events: &[Event]| {
        runs += 1;
        let report = run(subject, options, events, Trace::Silent);
        let failure = report.ok().and_then(|report| report.failure);
        (failure.is_some_and(|failure| failure.invariant == invariant), runs < RUNS_MAX)
    };
    let mut kept = events.to_vec();
    let mut parts = 2;
    while kept.len() >= 2 {
        let size = kept.len().div_ceil(parts);
        let mut smaller = None;
        for from in (0..kept.len()).step_by(size) {
            let without: Vec<Event> =
                kept.iter().take(from).chain(kept.iter().skip(from + size)).cloned().collect();
            let (failed, go_on) = fails(&without);
            if failed {
                smaller = Some(without);
                break;
            }
            if !go_on {
                return kept;
            }
        }
        match smaller {
            Some(without) => {
                kept = without;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(kept.len()),
        }
    }
    kept
}
