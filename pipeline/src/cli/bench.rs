//! `semel bench`: figures of this machine, each beside its baseline.

use std::{path::PathBuf, process, time::Instant};

use semel::bench::{self, BENCHES, Given, Machine, Row, Spread, Wanted};
use serde::Serialize;

use super::{Done, Failure, output};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which benches; none, or `all`: all of them
    names: Vec<String>,
    /// Few records and one run: to see that it works
    #[arg(long)]
    quick: bool,
    /// Multiply the sizes: 0.1 takes a tenth of the records
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// How often each figure is taken
    #[arg(long, default_value_t = 3)]
    runs: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The Kafka Streams program: what `deploy/bench/streams/build` prints
    #[arg(long, env = "SEMEL_BENCH_STREAMS")]
    streams: Option<PathBuf>,
    /// Kafka's bootstrap servers; topics are made and deleted there
    #[arg(long, env = "SEMEL_BROKERS")]
    brokers: Option<String>,
    /// The folder to work in; a folder of its own is made and removed there
    #[arg(long, env = "TMPDIR", default_value = "/tmp")]
    folder: PathBuf,
    /// A baseline in a process of its own, as the bench starts it
    #[arg(long, hide = true)]
    copy: Option<String>,
    /// The process that is killed in bench `embedded`
    #[arg(long, hide = true)]
    embedded: Option<String>,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    quick: bool,
    rows: Vec<Row>,
    left_out: Vec<LeftOut>,
}

#[derive(Serialize)]
struct LeftOut {
    bench: &'static str,
    why: String,
}

/// Runs them.
pub(super) fn bench(args: Args) -> Done {
    if let Some(task) = &args.copy {
        return copy(task);
    }
    if let Some(task) = &args.embedded {
        return embedded(task);
    }
    if !(args.scale > 0.0 && args.scale <= 100.0) {
        return Err(Failure::Usage("--scale is a number above 0, at most 100".to_owned()));
    }
    let all = args.names.is_empty() || args.names.iter().any(|n| n == "all");
    let wanted: Vec<_> =
        BENCHES.iter().filter(|(name, ..)| all || args.names.iter().any(|n| n == name)).collect();
    let known = |name: &str| name == "all" || BENCHES.iter().any(|(known, ..)| *known == name);
    if let Some(unknown) = args.names.iter().find(|name| !known(name)) {
        let known: Vec<String> =
            BENCHES.iter().map(|(name, what, _)| format!("\n  {name:<12} {what}")).collect();
        let text = format!("there is no bench `{unknown}`; there are:{}", known.concat());
        return Err(Failure::Usage(text));
    }
    let name = format!("semel-bench-{}", process::id());
    let folder = args.folder.join(&name);
    std::fs::create_dir_all(&folder)
        .map_err(|e| Failure::Usage(format!("{} cannot be made: {e}", folder.display())))?;
    let program = std::env::current_exe()
        .map_err(|e| Failure::Failed(format!("this program cannot be found: {e}")))?;
    let given = Given {
        brokers: args.brokers.filter(|brokers| !brokers.is_empty()),
        quick: args.quick,
        scale: args.scale,
        runs: args.runs,
        streams: args.streams.filter(|folder| !folder.as_os_str().is_empty()),
        program,
        folder: folder.clone(),
        name,
        began: Instant::now(),
    };
    let mut report = Report {
        machine: Machine::here(&folder),
        quick: args.quick,
        rows: vec![],
        left_out: vec![],
    };
    for (bench, _, run) in wanted {
        match run(&given) {
            Ok(rows) => report.rows.extend(rows),
            Err(why) => report.left_out.push(LeftOut { bench, why }),
        }
    }
    bench::clean(&given);
    if args.json { print_json(&report) } else { print_table(&report) }
}

/// The baseline's process: runs it, and tells what it used.
fn copy(task: &str) -> Done {
    let task = serde_json::from_str(task)
        .map_err(|e| Failure::Usage(format!("--copy is no task of a copy loop: {e}")))?;
    bench::run_copy(task).map_err(Failure::Failed)?;
    let usage = bench::usage("self").map_err(Failure::Failed)?;
    output::line(&serde_json::to_string(&usage).map_err(|e| Failure::Failed(e.to_string()))?)
}

/// The process that writes to the embedded log, tells how fast, and is killed.
fn embedded(task: &str) -> Done {
    let task: bench::Fill = serde_json::from_str(task)
        .map_err(|e| Failure::Usage(format!("--embedded is no task: {e}")))?;
    let tell = |filled: bench::Filled| {
        let text = serde_json::to_string(&filled).map_err(|e| e.to_string())?;
        output::line(&text).map_err(|_| "nobody reads what this process tells".to_owned())
    };
    bench::fill_embedded(&task, tell).map_err(Failure::Failed)
}

fn print_json(report: &Report) -> Done {
    let text = serde_json::to_string_pretty(report).map_err(|e| Failure::Failed(e.to_string()))?;
    output::line(&text)
}

fn print_table(report: &Report) -> Done {
    output::line(&report.machine.describe())?;
    if report.quick {
        output::line("--quick: few records, one run; these figures show only that it works")?;
    }
    output::line("")?;
    let headings =
        ["bench", "what", "figure", "unit", "baseline", "its figure", "ratio", "must", "aim"];
    let rows: Vec<Vec<String>> = report
        .rows
        .iter()
        .map(|row| {
            let (name, base) = row
                .baseline
                .as_ref()
                .map_or((String::new(), String::new()), |(name, b)| (name.clone(), spread(b)));
            let (must, aim) = match row.wanted {
                Wanted::AtMost { must, aim } => (format!("<= {must}"), format!("<= {aim}")),
                Wanted::AtLeast { must, aim } => (format!(">= {must}"), format!(">= {aim}")),
                Wanted::Printed => ("-".to_owned(), "-".to_owned()),
            };
            let ratio = row.ratio.map_or_else(|| "-".to_owned(), number);
            let figure = spread(&row.figure);
            let (bench, unit) = (row.bench.to_owned(), row.unit.to_owned());
            vec![bench, row.what.clone(), figure, unit, name, base, ratio, must, aim]
        })
        .collect();
    output::table(&headings, &rows)?;
    for row in report.rows.iter().filter(|row| !row.note.is_empty()) {
        output::line(&format!("{}, {}: {}", row.bench, row.what, row.note))?;
    }
    for left in &report.left_out {
        output::line(&format!("{}: left out: {}", left.bench, left.why))?;
    }
    Ok(())
}

/// Three figures that count.
fn number(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        size if size >= 1.0 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

/// The median, and the ends if there were several runs.
fn spread(spread: &Spread) -> String {
    if spread.runs < 2 {
        return number(spread.median);
    }
    let (least, greatest) = (number(spread.least), number(spread.greatest));
    format!("{} ({least} to {greatest})", number(spread.median))
}
