//! A pipeline of one stage, as a process of `semel run` beside the bench.
//!
//! May not live here: what is measured of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{
    Given,
    broker::Broker,
    process::{Process, Usage},
};
use crate::spec::{Spec, parse, plan::Plan};

/// Each transfer once, in order, 16 to a record.
pub(super) const TRANSFERS: &str = include_str!("../../../deploy/bench/transfers.toml");
/// Each transfer once and in order.
pub(super) const ORDERED: &str = include_str!("../../../deploy/bench/ordered.toml");
/// Each transfer once.
pub(super) const IDS: &str = include_str!("../../../deploy/bench/ids.toml");

/// How long one run over an input may take.
const RUN_MAX: Duration = Duration::from_secs(900);

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
    spec: &'static str,
    /// Its name: group, changelog and output bear it.
    name: String,
    /// The topic that it reads, without the pipeline's name.
    input: &'static str,
    /// The data folder.
    pub(super) data: PathBuf,
}

impl Stage {
    /// A stage that nobody ran before.
    pub(super) fn new(given: &Given, spec: &'static str, name: &str, input: &'static str) -> Self {
        Self { spec, name: name.to_owned(), input, data: given.folder.join(name) }
    }

    /// The same stage in another process: of another data folder.
    pub(super) fn beside(&self, given: &Given, folder: &str) -> Self {
        Self { data: given.folder.join(folder), ..self.clone() }
    }

    /// The spec and its plan, for a stage within this process.
    pub(super) fn plan(&self, given: &Given, brokers: &str) -> Result<(Spec, Plan), String> {
        let variables = self.variables(given, brokers);
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
        };
        let (spec, source) =
            parse::parse("the bench's spec", self.spec, &variable).map_err(|e| e.to_string())?;
        let plan = Plan::new(&spec, &source).map_err(|errors| {
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        })?;
        Ok((spec, plan))
    }

    /// Its consumer group.
    pub(super) fn group(&self, given: &Given) -> String {
        format!("semel.{}.{}", given.name, self.name)
    }

    /// The topic that it reads.
    pub(super) fn input(&self, given: &Given) -> String {
        format!("{}.{}", given.name, self.input)
    }

    /// The topic that it writes.
    pub(super) fn output(&self, given: &Given) -> String {
        format!("{}.{}-out", given.name, self.name)
    }

    /// Its changelog.
    pub(super) fn changelog(&self, given: &Given) -> String {
        format!("{}.{}.state", given.name, self.name)
    }

    /// What the spec asks for.
    pub(super) fn variables(&self, given: &Given, brokers: &str) -> [(&'static str, String); 5] {
        [
            ("BENCH_PIPELINE", given.name.clone()),
            ("BENCH_STAGE", self.name.clone()),
            ("BENCH_INPUT", self.input.to_owned()),
            ("BENCH_DATA", self.data.display().to_string()),
            ("SEMEL_BROKERS", brokers.to_owned()),
        ]
    }

    /// `semel run` of the spec; its log goes to a file beside the data folder.
    pub(super) fn start(&self, given: &Given) -> Result<Process, String> {
        let spec = given.folder.join(format!("{}.toml", self.name));
        fs::write(&spec, self.spec)
            .map_err(|e| format!("{} cannot be written: {e}", spec.display()))?;
        let log = self.data.with_extension("log");
        let told = |e| format!("{} cannot be written: {e}", log.display());
        let file = fs::File::options().create(true).append(true).open(&log).map_err(told)?;
        Process::start(
            Command::new(&given.program)
                .arg("run")
                .arg(&spec)
                .envs(self.variables(given, given.brokers()?))
                .env("SEMEL_LOG", "warn")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(file),
        )
    }

    /// Starts it, and waits until it has committed its whole input of so many records.
    pub(super) fn worked(
        &self,
        given: &Given,
        broker: &Broker,
        records: u64,
    ) -> Result<(Process, Used), String> {
        let mut process = self.start(given)?;
        let input = self.input(given);
        until_read(broker, &mut process, &self.group(given), &input)?;
        let used = Used::of(process.usage()?, records, process.started.elapsed());
        Ok((process, used))
    }
}

/// Waits until a process's group has committed the whole of a topic.
pub(super) fn until_read(
    broker: &Broker,
    process: &mut Process,
    group: &str,
    topic: &str,
) -> Result<(), String> {
    let ends = broker.ends(topic)?;
    let watcher = broker.watcher(group, topic)?;
    while watcher.lag(&ends)? > 0 {
        process.alive()?;
        if process.started.elapsed() > RUN_MAX {
            return Err(format!("group {group} did not end within {} s", RUN_MAX.as_secs()));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Bytes of all files in a folder.
pub(super) fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
            Ok(meta) => meta.len(),
            // It went meanwhile.
            Err(_) => 0,
        })
        .sum()
}
