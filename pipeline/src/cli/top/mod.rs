//! `semel top`: stages and sinks while they run: rates, lag, effects.
//!
//! `mod` asks and computes rates · `screen` draws, where the build has it. In a pipe, or with
//! `--once`, it prints one look and ends.

#[cfg(feature = "top")]
mod screen;

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use semel::admin::{Answer, Ask, top::TopRow};
use serde::Serialize;

use super::{
    Done, Failure, boot,
    door::{self, Door},
    output,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The spec, a TOML file
    spec: PathBuf,
    /// Print one look, over an interval, and end
    #[arg(long)]
    once: bool,
    /// Print JSON (with --once)
    #[arg(long, requires = "once")]
    json: bool,
    /// Milliseconds between two looks
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    every: u64,
}

/// A row with its rates.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Line {
    #[serde(flatten)]
    row: TopRow,
    /// Records read a second, between the two looks; none: no process was asked.
    in_per_second: Option<f64>,
    /// Records written a second.
    out_per_second: Option<f64>,
    /// Commits a second.
    commits_per_second: Option<f64>,
    /// Milliseconds between two commits on average, where there was one.
    commit_every_ms: Option<f64>,
}

/// Two looks make rates.
struct Looker {
    door: Door,
    before: (Instant, Vec<TopRow>),
}

impl Looker {
    fn new(mut door: Door) -> Result<Self, Failure> {
        let before = (Instant::now(), ask(&mut door)?);
        Ok(Self { door, before })
    }

    fn look(&mut self) -> Result<Vec<Line>, Failure> {
        let rows = ask(&mut self.door)?;
        let at = Instant::now();
        let passed = at.duration_since(self.before.0);
        let lines = rates(&self.before.1, &rows, passed);
        self.before = (at, rows);
        Ok(lines)
    }
}

fn ask(door: &mut Door) -> Result<Vec<TopRow>, Failure> {
    let mut found = Vec::new();
    door.ask(Ask::Top, &mut |answer| match answer {
        Answer::Top { rows } => {
            found = rows;
            Ok(())
        }
        other => Err(door::unexpected(&other)),
    })?;
    Ok(found)
}

/// What was done between two looks, by the second. A process that was started anew counts from
/// nothing.
fn rates(before: &[TopRow], after: &[TopRow], passed: Duration) -> Vec<Line> {
    let seconds = passed.as_secs_f64().max(0.001);
    after
        .iter()
        .map(|row| {
            let old = before.iter().find(|old| old.name == row.name);
            let done = |count: fn(&TopRow) -> u64| {
                row.records_in?;
                Some(count(row).saturating_sub(old.map_or(0, count)) as f64)
            };
            let commits = done(|row| row.commits);
            Line {
                in_per_second: done(|row| row.records_in.unwrap_or_default()).map(|n| n / seconds),
                out_per_second: done(|row| row.records_out).map(|n| n / seconds),
                commits_per_second: commits.map(|n| n / seconds),
                commit_every_ms: commits.filter(|n| *n > 0.0).map(|n| seconds * 1_000.0 / n),
                row: row.clone(),
            }
        })
        .collect()
}

const HEADINGS: [&str; 10] =
    ["stage", "state", "here", "in/s", "out/s", "commits/s", "lag", "effects", "dead", "in"];

/// A line's cells, under [`HEADINGS`].
fn cells(line: &Line) -> Vec<String> {
    let row = &line.row;
    let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
    let state = match row {
        TopRow { paused: true, .. } => "paused".to_owned(),
        TopRow { restoring: 1.., .. } => "restoring".to_owned(),
        TopRow { file: Some(file), .. } => file.short(),
        TopRow { lag: 1.., .. } => "behind".to_owned(),
        TopRow { partitions: 0, .. } => "never ran".to_owned(),
        _ => "at the end".to_owned(),
    };
    vec![
        row.name.clone(),
        state,
        format!("{}/{}", row.here, row.partitions),
        rate(line.in_per_second),
        rate(line.out_per_second),
        rate(line.commits_per_second),
        row.lag.to_string(),
        row.effects.to_string(),
        row.dead_letters.to_string(),
        row.records_in.map_or_else(|| "-".to_owned(), |count| count.to_string()),
    ]
}

/// Looks once, or until a person has seen enough.
pub(super) fn top(args: &Args) -> Done {
    let (spec, plan) = boot::load(&args.spec, &boot::environment)?;
    let name = plan.name.clone();
    let mut looker = Looker::new(Door::open(&spec, plan)?)?;
    let every = Duration::from_millis(args.every);
    if args.once || !output::is_watched() {
        thread::sleep(every);
        let lines = looker.look()?;
        if args.json {
            return output::json(&lines);
        }
        return output::table(&HEADINGS, &lines.iter().map(cells).collect::<Vec<_>>());
    }
    watch(&name, &mut looker, every)
}

#[cfg(feature = "top")]
fn watch(name: &str, looker: &mut Looker, every: Duration) -> Done {
    screen::watch(name, looker, every)
}

#[cfg(not(feature = "top"))]
fn watch(_: &str, _: &mut Looker, _: Duration) -> Done {
    Err(Failure::Usage(
        "this build has no screen: say --once, or build it with `--features top`".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_what_was_done_between_two_looks() {
        let row = |name: &str, records_in, commits| TopRow {
            name: name.to_owned(),
            records_in,
            commits,
            ..TopRow::default()
        };
        let before = [row("a", Some(100), 10), row("b", None, 0), row("c", Some(500), 9)];
        let after = [
            row("a", Some(300), 14),
            row("b", None, 0),
            row("c", Some(20), 0),
            row("d", Some(8), 0),
        ];
        let lines = rates(&before, &after, Duration::from_secs(2));
        let shown: Vec<_> = lines
            .iter()
            .map(|line| (line.in_per_second, line.commits_per_second, line.commit_every_ms))
            .collect();
        assert_eq!(
            shown,
            [
                (Some(100.0), Some(2.0), Some(500.0)),
                (None, None, None),
                (Some(0.0), Some(0.0), None),
                (Some(4.0), Some(0.0), None),
            ]
        );
        assert_eq!(cells(&lines[1])[1..4], ["never ran", "0/0", "-"]);
    }
}
