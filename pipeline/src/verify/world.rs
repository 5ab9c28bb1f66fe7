//! The place where a verification happens: a cluster, a database, and a namespace in both that is
//! ours alone; and how its topics, groups and tables are looked at.
//!
//! May not live here: what should be there (`events`, `claims`). Invariant: [`World::clean`] removes
//! only what bears our namespace, and all of it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use semel_connectors::sinks::look::Look;
use semel_schemas::{
    header,
    progress::PROGRESS,
    record::Record,
    topic::{NextOffset, Partition, TopicName},
};
use tokio::runtime::Handle;

use super::VerifyError;
use crate::{
    log::{
        Isolation, Log, LogError, Reader,
        kafka::{KafkaLog, KafkaTools},
    },
    spec::plan::Plan,
};

/// Records of one read.
const READ_MAX: usize = 10_000;
/// How long a partition may yield nothing though its end is not reached.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Beyond this many offsets a lag is what it is, and no record is looked at.
const LAG_MAX: u64 = 20_000;
/// Rows of one query.
const PAGE: usize = 20_000;
/// How long members that were killed may still count in their groups.
const GROUPS_MAX: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(super) struct World {
    /// The cluster.
    pub(super) log: Arc<KafkaLog>,
    /// The same for tools.
    pub(super) tools: KafkaTools,
    /// The database.
    pub(super) look: Look,
    /// Where the database is asked.
    pub(super) runtime: Handle,
    /// The pipeline's name: prefix of topics and groups.
    pub(super) namespace: String,
    /// The database schema.
    pub(super) schema: String,
    /// Data folders, logs, the spec.
    pub(super) folder: PathBuf,
    /// Set when a person wants the end.
    pub(super) stop: Arc<AtomicBool>,
}

/// An error of the log, on the way to a person.
pub(super) fn failed(error: LogError) -> VerifyError {
    VerifyError::Failed(error.to_string())
}

/// The longest time that one partition stood still between two records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gap {
    last: Option<(Partition, u64)>,
    worst_ms: u64,
}

impl Gap {
    /// The next record of a partition. Another partition begins anew.
    pub(super) fn note(&mut self, partition: Partition, timestamp_ms: u64) {
        if let Some((before, last)) = self.last
            && before == partition
        {
            self.worst_ms = self.worst_ms.max(timestamp_ms.saturating_sub(last));
        }
        self.last = Some((partition, timestamp_ms));
    }

    /// The worst so far, milliseconds.
    #[must_use]
    pub(super) const fn worst_ms(&self) -> u64 {
        self.worst_ms
    }
}

impl World {
    /// Whether a person wants the end.
    #[must_use]
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// The full name of a topic.
    ///
    /// # Errors
    /// [`VerifyError::Failed`] if it is no name.
    pub(super) fn topic(&self, short: &str) -> Result<TopicName, VerifyError> {
        TopicName::new(format!("{}.{short}", self.namespace))
            .map_err(|e| VerifyError::Failed(e.to_string()))
    }

    /// The rows of a query whose columns are all `CAST(… AS TEXT)`; a statement has none.
    ///
    /// # Errors
    /// [`VerifyError::Failed`].
    pub(super) fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, VerifyError> {
        self.runtime.block_on(self.look.rows(sql)).map_err(|e| VerifyError::Failed(e.to_string()))
    }

    /// The one number that a query answers.
    ///
    /// # Errors
    /// [`VerifyError::Failed`].
    pub(super) fn number(&self, sql: &str) -> Result<u64, VerifyError> {
        let rows = self.rows(sql)?;
        let cell = rows.first().and_then(|row| row.first()).cloned().flatten();
        let cell = cell.unwrap_or_else(|| "0".to_owned());
        cell.parse().map_err(|_| VerifyError::Failed(format!("`{cell}` is no number: {sql}")))
    }

    /// Every row of one of our tables in the order of `semel_id`, a page at a time: `semel_id` and
    /// then `columns`, as texts.
    ///
    /// # Errors
    /// [`VerifyError::Failed`].
    pub(super) fn each_row(
        &self,
        table: &str,
        columns: &[&str],
        mut each: impl FnMut(&[Option<String>]),
    ) -> Result<(), VerifyError> {
        let columns: String =
            columns.iter().map(|column| format!(", CAST({column} AS TEXT)")).collect();
        let mut after = String::new();
        loop {
            let sql = format!(
                "SELECT semel_id{columns} FROM \"{}\".{table} WHERE semel_id > '{}' \
                 ORDER BY semel_id LIMIT {PAGE}",
                self.schema,
                after.replace('\'', "''")
            );
            let rows = self.rows(&sql)?;
            rows.iter().for_each(|row| each(row));
            match rows.last().and_then(|row| row.first()).cloned().flatten() {
                Some(last) if rows.len() == PAGE => after = last,
                _ => return Ok(()),
            }
        }
    }

    /// Asks the log until it answers: brokers that were restarted, or that a busy machine keeps
    /// waiting, hand partitions to each other for a while.
    pub(super) fn answer<T>(
        &self,
        mut ask: impl FnMut() -> Result<T, LogError>,
    ) -> Result<T, VerifyError> {
        let since = Instant::now();
        loop {
            match ask() {
                Err(LogError::Unavailable(text)) if since.elapsed() < SILENCE_MAX => {
                    tracing::debug!(text, "asking again");
                }
                answer => return answer.map_err(failed),
            }
            if self.stopped() {
                return Err(VerifyError::Interrupted);
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// Every committed record of a topic, partition by partition.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub(super) fn read(
        &self,
        topic: &TopicName,
        mut each: impl FnMut(&Record),
    ) -> Result<(), VerifyError> {
        let info = self.answer(|| self.log.topic(topic))?;
        let info = info.ok_or_else(|| failed(LogError::NoTopic(topic.clone())))?;
        let mut reader = self.answer(|| self.log.reader(Isolation::Committed))?;
        for partition in (0..info.partitions).map(Partition) {
            let (first, end) = self.answer(|| reader.bounds(topic, partition))?;
            self.read_span(&mut *reader, (topic, partition), first, end, &mut each)?;
        }
        Ok(())
    }

    fn read_span(
        &self,
        reader: &mut dyn Reader,
        (topic, partition): (&TopicName, Partition),
        from: NextOffset,
        end: NextOffset,
        each: &mut dyn FnMut(&Record),
    ) -> Result<(), VerifyError> {
        if from >= end {
            return Ok(());
        }
        self.answer(|| reader.seek(topic, partition, from))?;
        let mut heard = Instant::now();
        loop {
            let records = match reader.read(READ_MAX, Duration::from_millis(200)) {
                Err(LogError::Unavailable(_)) => Vec::new(),
                records => records.map_err(failed)?,
            };
            if !records.is_empty() {
                heard = Instant::now();
            }
            records.iter().for_each(&mut *each);
            if reader.position().map_err(failed)? >= end {
                return Ok(());
            }
            if self.stopped() {
                return Err(VerifyError::Interrupted);
            }
            if heard.elapsed() > SILENCE_MAX {
                return Err(VerifyError::Failed(format!(
                    "{topic}/{partition} cannot be read to its end {end}"
                )));
            }
        }
    }

    /// Records (not progress) between the groups' committed offsets and the last stable offsets.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub(super) fn lag(&self, plan: &Plan) -> Result<u64, VerifyError> {
        let stages = plan.stages.iter().map(|(stage, _)| (&stage.group, &stage.input));
        let sinks = plan.sinks.iter().map(|sink| (&sink.group, &sink.topic));
        let mut reader = self.answer(|| self.log.reader(Isolation::Committed))?;
        let mut lag = 0;
        for (group, topic) in stages.chain(sinks) {
            let committed = self.answer(|| self.log.committed(group, &topic.name))?;
            for partition in (0..topic.partitions).map(Partition) {
                let (first, end) = self.answer(|| reader.bounds(&topic.name, partition))?;
                let at = committed.get(&partition).copied().unwrap_or(first).max(first);
                let offsets = end.0.saturating_sub(at.0);
                if offsets > LAG_MAX {
                    lag += offsets;
                    continue;
                }
                let mut count = |record: &Record| {
                    lag += u64::from(record.headers.get_str(header::TYPE) != Some(PROGRESS));
                };
                let place = (&topic.name, partition);
                self.read_span(&mut *reader, place, at, end, &mut count)?;
            }
        }
        Ok(lag)
    }

    /// Partitions of the pipeline that an open transaction holds back.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub(super) fn held_back(&self, plan: &Plan) -> Result<u64, VerifyError> {
        let mut stable = self.answer(|| self.log.reader(Isolation::Committed))?;
        let mut high = self.answer(|| self.log.reader(Isolation::Uncommitted))?;
        let mut held = 0;
        for topic in &plan.topics {
            for partition in (0..topic.partitions).map(Partition) {
                let (_, high) = self.answer(|| high.bounds(&topic.name, partition))?;
                let (_, stable) = self.answer(|| stable.bounds(&topic.name, partition))?;
                held += u64::from(stable < high);
            }
        }
        Ok(held)
    }

    /// A number that changes whenever something is written to the pipeline's topics.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub(super) fn written(&self, plan: &Plan, but: &[&str]) -> Result<u64, VerifyError> {
        let mut reader = self.answer(|| self.log.reader(Isolation::Uncommitted))?;
        let mut sum = 0;
        for topic in &plan.topics {
            let name = topic.name.as_str();
            let short = name.strip_prefix(self.namespace.as_str()).unwrap_or(name);
            if but.contains(&short.trim_start_matches('.')) {
                continue;
            }
            for partition in (0..topic.partitions).map(Partition) {
                sum += self.answer(|| reader.bounds(&topic.name, partition))?.1.0;
            }
        }
        Ok(sum)
    }

    /// Topics in our namespace.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub(super) fn topics(&self) -> Result<Vec<TopicName>, VerifyError> {
        let prefix = format!("{}.", self.namespace);
        let mut names = self.log.topics().map_err(failed)?;
        names.retain(|name| name.as_str().starts_with(&prefix));
        Ok(names)
    }

    /// Removes topics, groups and schema, and tells what could not be removed.
    #[must_use]
    pub(super) fn clean(&self, groups: &[String]) -> Vec<String> {
        let mut left = Vec::new();
        let mut note = |result: Result<(), String>| left.extend(result.err());
        // Groups first: a group without its topic is still a group.
        note(self.tools.delete_groups(groups, GROUPS_MAX).map_err(|e| e.to_string()));
        let topics = self.topics().map_err(|e| e.to_string());
        note(topics.and_then(|names| self.tools.delete_topics(&names).map_err(|e| e.to_string())));
        let drop = format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", self.schema);
        note(self.rows(&drop).map(|_| ()).map_err(|e| e.to_string()));
        left
    }
}
