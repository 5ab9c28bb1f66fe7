//! `memory`: what ten million ids cost a process of `semel run` with `dedupe`: resident bytes of the
//! process, and bytes on disk. The ids are in the local store on disk; what is in memory of them is what
//! the store keeps there: write buffers, indexes and filters of its tables, a cache.

use super::{
    Given, Row, Spread, Wanted,
    broker::Broker,
    process::usage,
    records,
    stage::{self, Stage, bytes_in},
};

/// What an id costs at least in memory, if its digest and its age are kept there.
const BASELINE: f64 = 32.0;

/// The rows of `memory`.
pub(super) fn bench(given: &Given) -> Result<Vec<Row>, String> {
    let keys = given.scaled(10_000_000, 200_000);
    let broker = Broker::connect(given.brokers()?)?;
    let stage = Stage::new(given, stage::IDS, "mem", "mem-in");
    broker.create(&stage.input(given))?;
    given.say(&format!("memory: writing {keys} records"));
    broker.fill(&stage.input(given), (0..keys).map(records::short))?;
    let (process, used) = stage.worked(given, &broker, keys)?;
    given.say(&format!("memory: {used:?}"));
    let usage = usage(&process.pid())?;
    let disk = bytes_in(&stage.data) as f64 / keys as f64;
    process.stop();
    let each = |kb: u64| Spread::from(kb as f64 * 1_024.0 / keys as f64);
    let baseline = ("digest and age of an id", Spread::from(BASELINE));
    let wanted = Wanted::AtMost { must: 2.0, aim: 1.5 };
    let note = format!(
        "{} MB resident at most, {} MB of it at the end the process's own, with {keys} ids",
        usage.peak_kb / 1_024,
        usage.anonymous_kb / 1_024
    );
    let what = "most resident memory of dedupe, an id";
    Ok(vec![
        Row::against(("memory", what), "B", each(usage.peak_kb), baseline, wanted).noting(&note),
        Row::alone(("memory", "files on disk, an id"), "B", Spread::from(disk), Wanted::Printed),
        Row::alone(
            ("memory", "CPU time of a million records"),
            "s",
            Spread::from(used.cpu),
            Wanted::Printed,
        ),
    ])
}
