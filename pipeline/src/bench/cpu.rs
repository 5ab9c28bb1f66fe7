//! `cpu`: what a million records cost on a real Kafka, exactly once, through `semel run` with
//! `deploy/bench/transfers.toml`, against two bare copy loops: one that writes as many records and
//! bytes as the pipeline does (outputs and changelog), one that writes one record for each.

use std::process::{Command, Stdio};

use super::{
    Given, Row, Spread, Wanted,
    broker::{Broker, Held},
    copy::{Copy, Shape},
    process::{Process, Usage},
    records,
    stage::{self, Stage, Used},
};

/// Records of one output: `max_records` of the spec.
const BATCH: u64 = 16;
/// The topic of the input, without the pipeline's name.
pub(super) const INPUT: &str = "in";

/// The input that `cpu` and `streams` share: made once an invocation. Answers the number of its
/// records, and how many of them are different.
pub(super) fn input(given: &Given, broker: &Broker) -> Result<(u64, u64), String> {
    let distinct = given.scaled(1_000_000, 40_000);
    let total = records::all(distinct).count() as u64;
    let topic = format!("{}.{INPUT}", given.name);
    broker.create(&topic)?;
    if broker.ends(&topic)?.values().sum::<i64>() == 0 {
        given.say(&format!("writing {total} records"));
        broker.fill(&topic, records::all(distinct))?;
    }
    Ok((total, distinct))
}

/// Runs a copy loop over the same input to its end.
pub(super) fn copied(
    given: &Given,
    group: &str,
    records: u64,
    shapes: Vec<Shape>,
) -> Result<Used, String> {
    let copy = Copy {
        brokers: given.brokers()?.to_owned(),
        group: format!("{}.{group}", given.name),
        input: format!("{}.{INPUT}", given.name),
        records,
        shapes,
        when_dry: false,
    };
    let mut process = copy_process(given, &copy)?;
    let usage: Usage = process.told()?;
    Ok(Used::of(usage, records, process.started.elapsed()))
}

/// Starts a copy loop in a process of its own, which tells what it used when it ends.
pub(super) fn copy_process(given: &Given, copy: &Copy) -> Result<Process, String> {
    let task = serde_json::to_string(copy).map_err(|e| e.to_string())?;
    Process::start(
        Command::new(&given.program)
            .args(["bench", "--copy", &task])
            .stdin(Stdio::null())
            .stdout(Stdio::piped()),
    )
}

/// What the pipeline wrote by input record, as a copy loop writes it.
fn shapes(given: &Given, written: [Held; 2], records: u64) -> Vec<Shape> {
    ["copy-out", "copy-state"]
        .into_iter()
        .zip(written)
        .filter(|(_, held)| held.records > 0)
        .map(|(topic, held)| Shape {
            topic: format!("{}.{topic}", given.name),
            per_input: held.records as f64 / records as f64,
            bytes: usize::try_from(held.bytes / held.records).ok(),
        })
        .collect()
}

/// Fails unless the pipeline wrote exactly what it must: a bench of a wrong result is worthless.
pub(super) fn check(out: Held, distinct: u64) -> Result<(), String> {
    let lines = records::ACCOUNTS;
    let of_account = |account: u64| {
        let tracks = records::TRACKS;
        (0..tracks)
            .map(|track| account * tracks + track)
            .map(|line| (distinct + lines * tracks - 1 - line) / (lines * tracks))
            .sum::<u64>()
    };
    let wanted: u64 = (0..lines).map(|account| of_account(account) / BATCH).sum();
    if out.records == wanted {
        return Ok(());
    }
    Err(format!("the pipeline wrote {} batches, but must write {wanted}", out.records))
}

/// The rows of `cpu`.
pub(super) fn bench(given: &Given) -> Result<Vec<Row>, String> {
    let broker = Broker::connect(given.brokers()?)?;
    for topic in ["copy-out", "copy-state"] {
        broker.create(&format!("{}.{topic}", given.name))?;
    }
    let (total, distinct) = input(given, &broker)?;
    let mut ours = Vec::new();
    let (mut same, mut one) = (Vec::new(), Vec::new());
    let mut written = [Held::default(); 2];
    for round in 1..=given.runs() {
        let stage = Stage::new(given, stage::TRANSFERS, &format!("run{round}"), INPUT);
        let (process, used) = stage.worked(given, &broker, total)?;
        process.stop();
        ours.push(used);
        given.say(&format!("run {round}: the pipeline, {:?}", ours.last()));
        let out = broker.held(&stage.output(given))?;
        check(out, distinct)?;
        written = [out, broker.held(&stage.changelog(given))?];
        same.push(copied(given, &format!("same{round}"), total, shapes(given, written, total))?);
        given.say(&format!("run {round}: a loop that writes as much, {:?}", same.last()));
        let topic = format!("{}.copy-out", given.name);
        let shape = Shape { topic, per_input: 1.0, bytes: None };
        one.push(copied(given, &format!("one{round}"), total, vec![shape])?);
        given.say(&format!("run {round}: a loop one for one, {:?}", one.last()));
    }
    Ok(rows(&ours, &same, &one, written, total))
}

fn rows(ours: &[Used], same: &[Used], one: &[Used], written: [Held; 2], total: u64) -> Vec<Row> {
    let spread = |all: &[Used], field: fn(&Used) -> f64| {
        Spread::of(&all.iter().map(field).collect::<Vec<_>>())
    };
    let row = |what: &str, unit, field: fn(&Used) -> f64, name: &str, base: &[Used], wanted| {
        let baseline = (name, spread(base, field));
        Row::against(("cpu", what), unit, spread(ours, field), baseline, wanted)
    };
    let per_input = |held: Held| held.records as f64 / total as f64;
    let note = format!(
        "for each record read it writes {:.2} outputs of {} bytes and {:.2} changes of state of {} bytes",
        per_input(written[0]),
        written[0].bytes / written[0].records.max(1),
        per_input(written[1]),
        written[1].bytes / written[1].records.max(1),
    );
    let (as_much, one_for_one) = ("copy loop, as much written", "copy loop, one for one");
    let cpu = "CPU time of a million records";
    vec![
        row(cpu, "s", |u| u.cpu, as_much, same, Wanted::AtMost { must: 2.0, aim: 1.3 })
            .noting(&note),
        row(cpu, "s", |u| u.cpu, one_for_one, one, Wanted::AtMost { must: 3.5, aim: 2.0 }),
        row("throughput", "records/s", |u| u.rate, as_much, same, Wanted::Printed),
        row("most memory", "MB", |u| u.peak_mb, as_much, same, Wanted::Printed),
    ]
}
