//! What is not counted but looked at, every few seconds: lag, restores, effects under way, disk and
//! memory.
//!
//! May not live here: anything that a lane waits for. The samples are taken on a thread of their
//! own with a reader of their own. Invariant: what is not ours any more is not reported any more:
//! the exporter forgets a gauge that was not set for [`FORGET`].

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use semel_schemas::topic::{NextOffset, Partition, TopicName};

use crate::{
    admin::{View, file},
    engine::status::{Status, TaskStatus},
    log::{Isolation, Log, LogError, Reader},
    spec::plan::Plan,
};

/// Between two samples.
const EVERY: Duration = Duration::from_secs(5);
/// After this long without a sample a gauge is forgotten.
pub const FORGET: Duration = Duration::from_secs(60);

/// Takes samples until it is dropped.
#[derive(Debug)]
pub struct Sampler {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What a sampler looks at.
#[derive(Debug)]
pub struct Sampled {
    /// The plan, for the topics of its stages and sinks.
    pub plan: Arc<Plan>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// What the lanes tell.
    pub status: Arc<Status>,
    /// The data folder.
    pub data: PathBuf,
}

impl Sampler {
    /// Starts it.
    ///
    /// # Errors
    /// If the process cannot start a thread.
    pub fn start(sampled: Sampled) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("samples".to_owned()).spawn(move || {
            let mut reader = None;
            loop {
                sample(&sampled, &mut reader);
                if stopped.recv_timeout(EVERY) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// One look at everything. A log that does not answer leaves its gauges as they were.
fn sample(sampled: &Sampled, reader: &mut Option<Box<dyn Reader>>) {
    metrics::gauge!("semel_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let topics = topics(&sampled.plan);
    for (stage, tasks) in sampled.status.read().into_values() {
        if !tasks.is_empty() {
            look_at_file(sampled, &stage);
        }
        for (partition, task) in tasks {
            look(&stage, partition, &task);
            let Some(topic) = topics.get(&stage).filter(|_| !task.restoring) else { continue };
            match end(&*sampled.log, reader, topic, partition) {
                Ok(end) => gauge("semel_lag_records", &stage, partition, lag(task.next, end)),
                Err(error) => {
                    tracing::debug!(%error, %topic, %partition, "the end cannot be asked");
                    *reader = None;
                }
            }
        }
    }
    metrics::gauge!("semel_state_bytes").set(real(disk(&sampled.data)));
    if let Some(bytes) = resident() {
        metrics::gauge!("semel_resident_bytes").set(real(bytes));
    }
}

/// How far a source is in its file, if it reads one.
fn look_at_file(sampled: &Sampled, name: &str) {
    let Some((stage, _)) = sampled.plan.stages.iter().find(|(stage, _)| stage.name == name) else {
        return;
    };
    let view = View { log: sampled.log.clone(), plan: sampled.plan.clone(), live: None };
    match file::of(&view, stage) {
        Ok(Some(row)) => {
            metrics::gauge!("semel_file_read_bytes", "stage" => name.to_owned())
                .set(real(row.bytes_read));
            metrics::gauge!("semel_file_size_bytes", "stage" => name.to_owned())
                .set(real(row.bytes_total));
        }
        Ok(None) => {}
        Err(stop) => {
            tracing::debug!(error = %stop.sentence(), stage = name, "its file cannot be asked");
        }
    }
}

/// The topic that each stage and sink reads.
fn topics(plan: &Plan) -> BTreeMap<String, TopicName> {
    let stages = plan.stages.iter().map(|(s, _)| (s.name.clone(), s.input.name.clone()));
    let sinks = plan.sinks.iter().map(|s| (s.name.clone(), s.topic.name.clone()));
    stages.chain(sinks).collect()
}

/// The last stable offset: what is behind it can be read.
fn end(
    log: &dyn Log,
    reader: &mut Option<Box<dyn Reader>>,
    topic: &TopicName,
    partition: Partition,
) -> Result<NextOffset, LogError> {
    let reader = match reader {
        Some(reader) => reader,
        None => reader.insert(log.reader(Isolation::Committed)?),
    };
    Ok(reader.bounds(topic, partition)?.1)
}

fn look(stage: &str, partition: Partition, task: &TaskStatus) {
    let flag = |on| f64::from(u8::from(on));
    gauge("semel_task_ready", stage, partition, flag(!task.restoring));
    gauge("semel_task_paused", stage, partition, flag(task.paused));
    gauge("semel_effects_pending", stage, partition, real(task.effects as u64));
    gauge("semel_quarantined_keys", stage, partition, f64::from(task.held_keys));
    gauge("semel_quarantined_records", stage, partition, f64::from(task.held_records));
    if task.restoring {
        let (reached, end) = task.restored;
        gauge("semel_restore_offset", stage, partition, real(reached.0));
        gauge("semel_restore_end_offset", stage, partition, real(end.0));
    }
}

fn gauge(name: &'static str, stage: &str, partition: Partition, value: f64) {
    metrics::gauge!(name, "stage" => stage.to_owned(), "partition" => partition.to_string())
        .set(value);
}

/// Offsets from `next` to `end`; a commit that is younger than the question leaves none.
fn lag(next: NextOffset, end: NextOffset) -> f64 {
    real(end.0.saturating_sub(next.0))
}

/// Metrics are floating point: beyond 2^53 they round.
#[allow(clippy::cast_precision_loss, reason = "metrics are floating point by definition")]
const fn real(n: u64) -> f64 {
    n as f64
}

/// Bytes of the files below a folder; what cannot be read counts nothing.
fn disk(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => disk(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Resident bytes of this process, where `/proc` tells.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
mod tests {
    use semel_schemas::topic::NextOffset;

    use super::{disk, lag, resident};

    #[test]
    fn lag_is_never_negative() {
        assert!((lag(NextOffset(3), NextOffset(10)) - 7.0).abs() < f64::EPSILON);
        assert!(lag(NextOffset(10), NextOffset(3)).abs() < f64::EPSILON);
    }

    #[test]
    fn disk_and_memory_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a/b"), [0; 10]).unwrap();
        std::fs::write(folder.path().join("c"), [0; 5]).unwrap();
        assert_eq!(disk(folder.path()), 15);
        assert!(resident().unwrap() > 1_000_000);
    }
}
