//! `streams`: the same as `cpu` against Kafka Streams with the same logic (`deploy/bench/streams`):
//! CPU time, throughput, and memory at the smallest heap at which it keeps 90 % of its best throughput.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    Given, Row, Spread, Wanted,
    broker::Broker,
    cpu,
    process::Process,
    stage::{self, Stage, Used},
};

/// Heaps are tried in steps of so many MB,
const STEP: u64 = 64;
/// up to this one, which counts as plenty.
const PLENTY: u64 = 1_024;
/// Share of its best throughput that it must keep.
const KEPT: f64 = 0.9;

/// A folder of jars and classes, as `deploy/bench/streams/build` makes it.
fn folder(given: &Given) -> Result<PathBuf, String> {
    let missing = "needs the Kafka Streams program: `deploy/bench/streams/build` builds it and prints \
                   the folder for --streams (or SEMEL_BENCH_STREAMS)";
    let folder = given.streams.clone().ok_or(missing)?;
    if folder.join("classes/Transfers.class").exists() { Ok(folder) } else { Err(missing.into()) }
}

/// One run over the whole input; an error if it does not get through.
fn run(
    given: &Given,
    broker: &Broker,
    jars: &Path,
    (heap, turn): (u64, usize),
    (total, distinct): (u64, u64),
) -> Result<Used, String> {
    let name = format!("{}.streams-{heap}-{turn}", given.name);
    let output = format!("{name}.out");
    broker.create(&output)?;
    let input = format!("{}.{}", given.name, cpu::INPUT);
    let log = given.folder.join(format!("streams-{heap}-{turn}.log"));
    let file = std::fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let classpath = format!("{0}/classes:{0}/libs/*", jars.display());
    let state = given.folder.join(format!("streams-{heap}-{turn}"));
    let mut process = Process::start(
        Command::new("java")
            .arg(format!("-Xmx{heap}m"))
            .args(["-XX:+ExitOnOutOfMemoryError", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"])
            .args(["-cp", &classpath, "Transfers", given.brokers()?, &name, &input, &output])
            .arg(&state)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file),
    )?;
    stage::until_read(broker, &mut process, &name, &input)?;
    let used = Used::of(process.usage()?, total, process.started.elapsed());
    process.stop();
    given.say(&format!("streams: heap {heap} MB, {used:?}"));
    std::fs::remove_dir_all(&state).ok();
    cpu::check(broker.held(&output)?, distinct)?;
    Ok(used)
}

/// The smallest heap that keeps up with `best`, by halving; and what it used there.
fn smallest(best: Used, mut run: impl FnMut(u64) -> Option<Used>) -> (u64, Used) {
    let (mut low, mut high, mut found) = (0, PLENTY / STEP, best);
    while high - low > 1 {
        let middle = low.midpoint(high);
        match run(middle * STEP) {
            Some(used) if used.rate >= KEPT * best.rate => (high, found) = (middle, used),
            _ => low = middle,
        }
    }
    (high * STEP, found)
}

/// The rows of `streams`.
pub(super) fn bench(given: &Given) -> Result<Vec<Row>, String> {
    let jars = folder(given)?;
    let broker = Broker::connect(given.brokers()?)?;
    let size = cpu::input(given, &broker)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for turn in 0..given.runs() {
        let name = format!("beside{turn}");
        let stage = Stage::new(given, stage::TRANSFERS, &name, cpu::INPUT);
        let (process, used) = stage.worked(given, &broker, size.0)?;
        process.stop();
        given.say(&format!("streams: the pipeline, {used:?}"));
        ours.push(used);
        let turn = usize::try_from(turn).unwrap_or(0);
        theirs.push(run(given, &broker, &jars, (PLENTY, turn), size)?);
    }
    let best =
        theirs.iter().copied().fold(Used::default(), |a, b| if b.rate > a.rate { b } else { a });
    let (heap, there) = smallest(best, |heap| match run(given, &broker, &jars, (heap, 0), size) {
        Ok(used) => Some(used),
        Err(error) => {
            given.say(&format!("streams: heap {heap} MB: {error}"));
            None
        }
    });
    let spread = |all: &[Used], field: fn(&Used) -> f64| {
        Spread::of(&all.iter().map(field).collect::<Vec<_>>())
    };
    let row = |what: &str, unit, field: fn(&Used) -> f64, base: &[Used], name: &str, wanted| {
        let baseline = (name, spread(base, field));
        Row::against(("streams", what), unit, spread(&ours, field), baseline, wanted)
    };
    let plenty = format!("Kafka Streams, -Xmx{PLENTY}m");
    let least = format!("Kafka Streams, -Xmx{heap}m");
    let at_most = |must, aim| Wanted::AtMost { must, aim };
    let cpu = "CPU time of a million records";
    Ok(vec![
        row(cpu, "s", |u| u.cpu, &theirs, &plenty, at_most(0.1, 0.05)),
        row(
            "throughput",
            "records/s",
            |u| u.rate,
            &theirs,
            &plenty,
            Wanted::AtLeast { must: 5.0, aim: 10.0 },
        ),
        row("most memory", "MB", |u| u.peak_mb, &[there], &least, at_most(0.2, 0.125)).noting(
            &format!("the smallest heap (steps of {STEP} MB) with 90 % of its best throughput"),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_heap_that_keeps_up_is_found() {
        let used = |rate| Used { rate, ..Used::default() };
        for least in [64, 128, 512, 960, 1_024] {
            let (heap, _) = smallest(used(100.0), |heap| {
                (heap >= 64).then(|| used(if heap >= least { 91.0 } else { 89.0 }))
            });
            assert_eq!(heap, least);
        }
    }
}
