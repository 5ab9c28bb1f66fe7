//! `cpu`: what a million records cost on a real Kafka, exactly once, through `semel run` with
//! `deploy/bench/transfers.toml`, against two bare copy loops: one that writes as many records and
//! bytes as the pipeline does (outputs and changelog), one that writes one record for each.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{
    Given, Row, Spread, Wanted,
    broker::{Broker, Held},
    copy::{Copy, Shape},
    process::{Process, Usage},
    records,
};

/// The pipeline that is measured.
const SPEC: &str = include_str!("../../../deploy/bench/transfers.toml");
/// How long one run may take.
const RUN_MAX: Duration = Duration::from_secs(600);
/// Records of one output: `max_records` of the spec.
const BATCH: u64 = 16;

/// What one run used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    /// CPU seconds by a million input records.
    pub(super) cpu: f64,
    /// Input records by second, from the start of the process.
    pub(super) rate: f64,
    /// Most resident memory, MB.
    pub(super) peak_mb: f64,
}

impl Used {
    /// Of a process that worked `records` off in `wall`.
    pub(super) fn of(usage: Usage, records: u64, wall: Duration) -> Self {
        let records = records as f64;
        Self {
            cpu: usage.cpu_ms as f64 / 1_000.0 / (records / 1e6),
            rate: records / wall.as_secs_f64(),
            peak_mb: usage.peak_kb as f64 / 1_024.0,
        }
    }
}

/// A spec of the bench's own, and the environment that it asks for.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// Its name: group, changelog and output bear it.
    pub(super) name: String,
    /// The data folder.
    pub(super) data: PathBuf,
}

impl Stage {
    /// A stage that nobody ran before.
    pub(super) fn new(given: &Given, name: &str) -> Self {
        Self { name: name.to_owned(), data: given.folder.join(name) }
    }

    /// Its consumer group.
    pub(super) fn group(&self, given: &Given) -> String {
        format!("semel.{}.{}", given.name, self.name)
    }

    /// The topic that it writes.
    pub(super) fn output(&self, given: &Given) -> String {
        format!("{}.{}-out", given.name, self.name)
    }

    /// Its changelog.
    pub(super) fn changelog(&self, given: &Given) -> String {
        format!("{}.{}.state", given.name, self.name)
    }

    /// `semel run` of the spec; its log goes to a file beside the data folder.
    pub(super) fn start(&self, given: &Given) -> Result<Process, String> {
        let spec = given.folder.join("transfers.toml");
        fs::write(&spec, SPEC).map_err(|e| format!("{} cannot be written: {e}", spec.display()))?;
        let log = self.data.with_extension("log");
        let told = |e| format!("{} cannot be written: {e}", log.display());
        let file = fs::File::options().create(true).append(true).open(&log).map_err(told)?;
        Process::start(
            Command::new(&given.program)
                .arg("run")
                .arg(&spec)
                .env("BENCH_PIPELINE", &given.name)
                .env("BENCH_STAGE", &self.name)
                .env("BENCH_DATA", &self.data)
                .env("SEMEL_BROKERS", given.brokers.as_deref().unwrap_or_default())
                .env("SEMEL_LOG", "warn")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(file),
        )
    }
}

/// Starts the pipeline and waits until it has committed its whole input.
pub(super) fn pipeline(
    given: &Given,
    broker: &Broker,
    stage: &Stage,
    records: u64,
) -> Result<Used, String> {
    let input = format!("{}.in", given.name);
    let ends = broker.ends(&input)?;
    let watcher = broker.watcher(&stage.group(given), &input)?;
    let mut process = stage.start(given)?;
    while watcher.lag(&ends)? > 0 {
        process.alive()?;
        if process.started.elapsed() > RUN_MAX {
            return Err(format!("the pipeline did not end within {} s", RUN_MAX.as_secs()));
        }
        thread::sleep(Duration::from_millis(20));
    }
    let used = Used::of(process.usage()?, records, process.started.elapsed());
    process.stop();
    Ok(used)
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
        input: format!("{}.in", given.name),
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
fn check(out: Held, distinct: u64) -> Result<(), String> {
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
    let distinct = given.scaled(1_000_000, 40_000);
    let rounds = given.scaled(3, 1);
    let broker = Broker::connect(given.brokers()?)?;
    let input = format!("{}.in", given.name);
    for topic in ["in", "copy-out", "copy-state"] {
        broker.create(&format!("{}.{topic}", given.name))?;
    }
    let total = records::all(distinct).count() as u64;
    given.say(&format!("writing {total} records"));
    broker.fill(&input, records::all(distinct))?;
    let mut ours = Vec::new();
    let (mut same, mut one) = (Vec::new(), Vec::new());
    let mut written = [Held::default(); 2];
    for round in 1..=rounds {
        let stage = Stage::new(given, &format!("run{round}"));
        ours.push(pipeline(given, &broker, &stage, total)?);
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
