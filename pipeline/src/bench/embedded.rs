//! `embedded`: how many records a second the embedded log makes durable, and how long it takes to be
//! back after ten million of them and a `kill -9`, beside the disk's own sync rate and bandwidth.
//!
//! The records are written by a process of its own, which is killed; this one opens what it left.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use semel_schemas::{record::OutRecord, topic::TopicName};
use serde::{Deserialize, Serialize};

use super::{
    Given, Row, Spread, Wanted, broker::PARTITIONS, disk, inside::out_record, process::Process,
    records,
};
use crate::log::{
    Cleanup, Isolation, Log, TopicSpec,
    embedded::{EmbeddedLog, Settings},
};

/// Records of one large commit.
const BATCH: u64 = 1_000;
/// How long each rate is measured.
const DURING: Duration = Duration::from_secs(3);
/// Bytes by which the disk's bandwidth is measured.
const DISK_BYTES: u64 = 1 << 30;

/// What the process that is killed does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fill {
    /// The log's folder.
    pub folder: PathBuf,
    /// Records to write at last.
    pub records: u64,
}

/// What it tells before it waits to be killed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Filled {
    /// Commits of one record a second, one writer.
    pub alone: f64,
    /// The same with eight writers.
    pub eight: f64,
    /// Records a second in commits of a thousand.
    pub batched: f64,
    /// Records in the log.
    pub records: u64,
}

fn topic() -> Result<TopicName, String> {
    TopicName::new("bench.in").map_err(|e| e.to_string())
}

/// Writes, tells, and waits to be killed.
///
/// # Errors
/// A sentence.
pub fn fill(task: &Fill, tell: impl FnOnce(Filled) -> Result<(), String>) -> Result<(), String> {
    let log = EmbeddedLog::open(&task.folder, Settings::default()).map_err(|e| e.to_string())?;
    let (log, name) = (Arc::new(log), topic()?);
    let cleanup = Cleanup::Delete { retention_ms: None };
    let spec = TopicSpec {
        name: name.clone(),
        partitions: PARTITIONS,
        cleanup,
        replication: None,
        allow_one_broker: true,
    };
    log.create_topic(&spec).map_err(|e| e.to_string())?;
    let next = Arc::new(AtomicU64::new(0));
    let alone = singly(&log, &name, &next, 1)?;
    let eight = singly(&log, &name, &next, 8)?;
    let began = Instant::now();
    let first = next.load(Ordering::Relaxed);
    let mut number = first;
    while number < task.records.max(first + BATCH) {
        let records: Vec<OutRecord> =
            (number..number + BATCH).map(|n| out_record(&name, &records::transfer(n, 0))).collect();
        log.append(records).map_err(|e| e.to_string())?;
        number += BATCH;
    }
    let batched = (number - first) as f64 / began.elapsed().as_secs_f64();
    tell(Filled { alone, eight, batched, records: number })?;
    loop {
        thread::park();
    }
}

/// Records a second when each is a commit of its own.
fn singly(
    log: &Arc<EmbeddedLog>,
    name: &TopicName,
    next: &Arc<AtomicU64>,
    writers: usize,
) -> Result<f64, String> {
    let (began, first) = (Instant::now(), next.load(Ordering::Relaxed));
    let threads: Vec<_> = (0..writers)
        .map(|_| {
            let (log, name, next) = (log.clone(), name.clone(), next.clone());
            thread::spawn(move || {
                while began.elapsed() < DURING {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let record = out_record(&name, &records::transfer(number, 0));
                    log.append(vec![record]).map_err(|e| e.to_string())?;
                }
                Ok::<(), String>(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a writer panicked".to_owned())??;
    }
    let count = next.load(Ordering::Relaxed) - first;
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// Opens the log that a killed process left, and reads a record of each partition. Answers seconds to
/// open and to have read, and the records in it.
fn reopened(folder: &std::path::Path) -> Result<(f64, f64, u64), String> {
    let (began, name) = (Instant::now(), topic()?);
    let log = EmbeddedLog::open(folder, Settings::default()).map_err(|e| e.to_string())?;
    let opened = began.elapsed().as_secs_f64();
    let mut reader = log.reader(Isolation::Committed).map_err(|e| e.to_string())?;
    let mut held = 0;
    for partition in (0..PARTITIONS).map(semel_schemas::topic::Partition) {
        let (first, end) = reader.bounds(&name, partition).map_err(|e| e.to_string())?;
        reader.seek(&name, partition, first).map_err(|e| e.to_string())?;
        let found = reader.read(1, Duration::ZERO).map_err(|e| e.to_string())?;
        if found.is_empty() && end > first {
            return Err(format!("partition {partition} cannot be read"));
        }
        held += end.0 - first.0;
    }
    Ok((opened, began.elapsed().as_secs_f64(), held))
}

/// The rows of `embedded`.
pub(super) fn bench(given: &Given) -> Result<Vec<Row>, String> {
    let records = given.scaled(10_000_000, 100_000);
    let task = Fill { folder: given.folder.join("embedded"), records };
    let syncs = disk::syncs(&given.folder, DURING)?;
    let bandwidth = disk::bandwidth(&given.folder, given.scaled(DISK_BYTES, DISK_BYTES / 16))?;
    given.say(&format!("embedded: writing {records} records"));
    let text = serde_json::to_string(&task).map_err(|e| e.to_string())?;
    let mut process = Process::start(
        Command::new(&given.program)
            .args(["bench", "--embedded", &text])
            .stdin(Stdio::null())
            .stdout(Stdio::piped()),
    )?;
    let filled: Filled = process.told()?;
    let memory = process.usage()?.peak_kb / 1_024;
    drop(process);
    given.say(&format!("embedded: {filled:?}"));
    let (opened, read, held) = reopened(&task.folder)?;
    if held < filled.records {
        return Err(format!("{} records were durable, {held} are there", filled.records));
    }
    let disk_bytes = super::stage::bytes_in(&task.folder);
    std::fs::remove_dir_all(&task.folder).map_err(|e| e.to_string())?;
    let bytes = (records::BYTES + 14) as f64;
    let row = |what: &str, unit, figure: f64, name: &str, base: f64| {
        let baseline = (name, Spread::from(base));
        Row::against(("embedded", what), unit, Spread::from(figure), baseline, Wanted::Printed)
    };
    let sync = "the disk's syncs";
    Ok(vec![
        row("durable commits of one record, one writer", "1/s", filled.alone, sync, syncs),
        row("durable commits of one record, eight writers", "1/s", filled.eight, sync, syncs),
        row(
            "durable records, in commits of 1,000",
            "MB/s",
            filled.batched * bytes / 1e6,
            "the disk's bandwidth",
            bandwidth / 1e6,
        )
        .noting(&format!("{:.0} records/s of {bytes} bytes", filled.batched)),
        Row::alone(
            ("embedded", "kill -9 to open and readable again"),
            "s",
            Spread::from(read),
            Wanted::Printed,
        )
        .noting(&format!(
            "opened after {opened:.2} s, {held} records, {} MB on disk, {memory} MB resident at most",
            disk_bytes / 1_000_000
        )),
    ])
}
