//! `latency`: from handing a record over to reading it, committed, at the other end of one stage, at
//! 1,000 records a second. On Kafka beside a copy loop that commits when its input runs dry; on the
//! embedded log, in this process, beside the disk's own sync.

use std::time::Duration;

use super::{
    Given, Row, Spread, Wanted,
    broker::Broker,
    copy::{Copy, Shape},
    cpu::copy_process,
    disk, inside,
    probe::{Probe, Receiver, Sender, percentile},
    records,
    stage::{self, Stage},
};

/// Between two records.
const EVERY: Duration = Duration::from_millis(1);
/// What is sent first says nothing: connections are made, code is warm only then.
const WARM_UP: usize = 2_000;
/// How long nothing may come out: long, since a busy machine may let a process stand for a while.
const PATIENCE: Duration = Duration::from_secs(120);
/// Threads that write to the embedded log: each waits for its record to be durable.
const WRITERS: usize = 8;

/// Percentiles of one run, milliseconds.
#[derive(Clone, Copy, Debug)]
struct Times {
    p50: f64,
    p99: f64,
}

/// Sends so many records from the `from`-th on, and takes the times.
fn measure(
    from: u64,
    count: u64,
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
) -> Result<Times, String> {
    let records = (from..from + count).map(|number| records::transfer(number, 0)).collect();
    let probe = Probe::start(records, EVERY, senders, receivers);
    let all = probe.all(PATIENCE);
    let warm_up = WARM_UP.min(probe.records().len() / 2);
    let mut times: Vec<f64> = probe
        .passages()
        .filter(|passage| passage.number >= warm_up)
        .map(|passage| passage.came.duration_since(passage.sent).as_secs_f64() * 1_000.0)
        .collect();
    probe.stop()?;
    all?;
    times.sort_by(f64::total_cmp);
    Ok(Times { p50: percentile(&times, 0.5), p99: percentile(&times, 0.99) })
}

fn spread(all: &[Times], field: fn(&Times) -> f64) -> Spread {
    Spread::of(&all.iter().map(field).collect::<Vec<_>>())
}

/// The rows of `latency`.
pub(super) fn bench(given: &Given) -> Result<Vec<Row>, String> {
    let mut rows = embedded(given)?;
    rows.extend(kafka(given)?);
    Ok(rows)
}

fn kafka(given: &Given) -> Result<Vec<Row>, String> {
    let count = given.scaled(12_000, 4_000);
    let broker = Broker::connect(given.brokers()?)?;
    let topic = |short: &str| format!("{}.{short}", given.name);
    for short in ["lat-in", "loop-in", "loop-out"] {
        broker.create(&topic(short))?;
    }
    let stage = Stage::new(given, stage::ORDERED, "lat", "lat-in");
    let mut process = stage.start(given)?;
    let copy = Copy {
        brokers: given.brokers()?.to_owned(),
        group: topic("loop"),
        input: topic("loop-in"),
        records: 0,
        shapes: vec![Shape { topic: topic("loop-out"), per_input: 1.0, bytes: None }],
        when_dry: true,
    };
    let _loop = copy_process(given, &copy)?;
    broker.await_topic(&stage.output(given))?;
    let (mut ours, mut base) = (Vec::new(), Vec::new());
    for run in 0..given.runs() {
        for (input, output, times) in [
            (stage.input(given), stage.output(given), &mut ours),
            (copy.input.clone(), topic("loop-out"), &mut base),
        ] {
            let (sender, receiver) = (broker.sender(&input)?, broker.receiver(&output)?);
            times.push(measure(run * count, count, vec![sender], vec![receiver])?);
            given.say(&format!("latency, run {}: {output}, {:?}", run + 1, times.last()));
        }
        process.alive()?;
    }
    process.stop();
    let name = "copy loop that commits when dry";
    let row = |what: &str, field: fn(&Times) -> f64, wanted| {
        let baseline = (name, spread(&base, field));
        Row::against(("latency", what), "ms", spread(&ours, field), baseline, wanted)
    };
    Ok(vec![
        row("Kafka, p50", |t| t.p50, Wanted::Printed),
        row("Kafka, p99", |t| t.p99, Wanted::AtMost { must: 1.5, aim: 1.5 }),
    ])
}

fn embedded(given: &Given) -> Result<Vec<Row>, String> {
    let count = given.scaled(12_000, 4_000);
    let stage = Stage::new(given, stage::ORDERED, "inside", "lat-in");
    let running = inside::Inside::start(given, &stage)?;
    let mut times = Vec::new();
    for run in 0..given.runs() {
        let senders = (0..WRITERS).map(|_| running.sender()).collect();
        times.push(measure(run * count, count, senders, running.receivers()?)?);
        given.say(&format!("latency, run {}: embedded, {:?}", run + 1, times.last()));
    }
    running.stop()?;
    let syncs = disk::syncs(&given.folder, Duration::from_secs(2))?;
    let note = format!("the disk's own sync takes {:.2} ms", 1_000.0 / syncs);
    let row = |what: &str, field: fn(&Times) -> f64, wanted| {
        Row::alone(("latency", what), "ms", spread(&times, field), wanted)
    };
    Ok(vec![
        row("embedded, p50", |t| t.p50, Wanted::Printed).noting(&note),
        row("embedded, p99", |t| t.p99, Wanted::AtMost { must: 50.0, aim: 10.0 }),
    ])
}
