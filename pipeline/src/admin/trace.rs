//! `trace`: one record's way through the pipeline: what it caused, what it became part of, what was
//! kept of it, which rows it makes, with the times.
//!
//! A record belongs to the way if it bears a name of the thing traced: its `semel-id` or place, the
//! `semel-id` of what belongs to the way as its cause, or a field that is a name. Names are the id that
//! was asked for, and of each record on the way its id, its fields that end in `_id` and its
//! `tx_signature`; a state of a claim with an epoch names its root, `<channel>:<epoch>`. A record with
//! another thing's `_id` in such a field is that other thing's, whatever its cause.
//!
//! Invariants: topics are read, state is read from changelogs, nothing is joined or opened; memory is
//! bounded by the steps of one way ([`STEPS_MAX`]), not by the topics.

use std::collections::{BTreeMap, BTreeSet};

use semel_schemas::{
    claim::CLAIM_STATE,
    header,
    progress::PROGRESS,
    record::Record,
    solana::Base64,
    topic::{NextOffset, Partition},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Answer, Stop, Tell, View, letters::scan, rows::RecordRow};
use crate::{engine::topology::TopicRef, spec::plan::SinkPlan};

/// Steps of one way.
pub const STEPS_MAX: usize = 10_000;
/// Readings of all topics until nothing new is found: as many as there are turns in a pipeline whose
/// stages lead back to earlier topics.
const ROUNDS_MAX: usize = 8;
/// Records between two signs of life, with which who asks can end a search that takes too long.
const BEAT_EVERY: u64 = 2_000;
/// Characters of the shortest name that is looked for in keys and values of state.
const NAME_MIN: usize = 6;

/// What to follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// A `semel-id`, `topic/partition/offset`, or a name in a field: a claim id, a signature.
    pub id: String,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRow {
    /// When, by the log: milliseconds since 1970.
    pub at_ms: u64,
    /// Stage that wrote it; none: it came from outside.
    pub by: Option<String>,
    /// What.
    pub what: What,
}

/// What a step is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A record of a topic.
    Record(RecordRow),
    /// A change of a stage's state.
    State {
        /// Store; `_effects` is what was asked of the world and is not answered yet.
        store: String,
        /// Key.
        key: Base64,
        /// Value; none: it was deleted.
        value: Option<Base64>,
    },
    /// A row of a table.
    Row {
        /// The sink.
        sink: String,
        /// The table.
        table: String,
        /// Its `semel_id`.
        key: String,
        /// Whether the sink's group has committed the record.
        written: bool,
    },
}

/// What belongs to the way, by name.
#[derive(Debug, Default)]
struct Names {
    all: BTreeSet<String>,
    /// By field.
    bound: BTreeMap<String, BTreeSet<String>>,
}

impl Names {
    /// Whether a record belongs to the way.
    fn own(&self, record: &Record, fields: &Map<String, Value>) -> bool {
        let texts = || fields.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
        let mut others = texts().filter(|(name, text)| {
            self.bound.get(*name).is_some_and(|known| !known.contains(*text))
        });
        if others.next().is_some() {
            return false;
        }
        self.all.contains(&record.origin())
            || self.all.contains(&record.id())
            || record.headers.get_str(header::CAUSE).is_some_and(|cause| self.all.contains(cause))
            || texts().any(|(_, text)| self.all.contains(text))
    }

    /// Takes the names of a record of the way; true if one was new.
    fn learn(&mut self, record: &Record, fields: &Map<String, Value>) -> bool {
        let mut new = self.all.insert(record.id());
        for (name, value) in fields {
            let Some(text) = value.as_str().filter(|text| !text.is_empty()) else { continue };
            if name.ends_with("_id") || name == "tx_signature" {
                new |= self.all.insert(text.to_owned());
                self.bound.entry(name.clone()).or_default().insert(text.to_owned());
            }
        }
        if record.headers.get_str(header::TYPE) == Some(CLAIM_STATE)
            && let (Some(channel), Some(epoch)) =
                (fields.get("channel").and_then(Value::as_str), fields.get("epoch"))
            && fields.get("leaf_index").is_some_and(|index| !index.is_null())
        {
            let root = format!("{channel}:{epoch}");
            new |= self.all.insert(root.clone());
            self.bound.entry("root_id".to_owned()).or_default().insert(root);
        }
        new
    }

    /// Whether bytes of a state hold a name.
    fn stand_in(&self, bytes: &[u8]) -> bool {
        self.all
            .iter()
            .filter(|name| name.len() >= NAME_MIN)
            .any(|name| bytes.windows(name.len()).any(|part| part == name.as_bytes()))
    }
}

/// The fields of a JSON value.
fn fields(record: &Record) -> Map<String, Value> {
    let value = record.value.as_deref().unwrap_or_default();
    serde_json::from_slice(value).unwrap_or_default()
}

/// Tells the steps, in the order of their times.
///
/// # Errors
/// [`Stop`], also if nothing bears the id.
pub fn trace(view: &View, ask: &Trace, tell: &mut Tell<'_>) -> Result<(), Stop> {
    let mut names = Names::default();
    names.all.insert(ask.id.clone());
    let mut found = BTreeMap::new();
    for _ in 0..ROUNDS_MAX {
        if !round(view, &mut names, &mut found, tell)? {
            break;
        }
    }
    if found.is_empty() {
        return Err(Stop::Refused(format!(
            "no record of pipeline `{}` bears the id `{}`: a semel-id, topic/partition/offset or a \
             name in a field is looked for, among what the topics still hold",
            view.plan.name, ask.id
        )));
    }
    let mut steps = Vec::new();
    let written = view
        .plan
        .sinks
        .iter()
        .map(|sink| Ok((sink, view.log.committed(&sink.group, &sink.topic.name)?)))
        .collect::<Result<Vec<_>, Stop>>()?;
    for record in found.into_values() {
        steps.extend(rows(&written, &record));
        steps.push(StepRow {
            at_ms: record.timestamp_ms,
            by: writer(view, &record),
            what: What::Record(record.into()),
        });
    }
    changes(view, &names, &mut steps, tell)?;
    // Of one transaction: what was read, what was kept, what was written, what it makes.
    steps.sort_by_key(|step| {
        let rank = match step.what {
            What::State { .. } => 0,
            What::Record(_) => 1,
            What::Row { .. } => 2,
        };
        (step.at_ms, rank)
    });
    steps.into_iter().try_for_each(|step| tell(Answer::Step(step)))
}

type Found = BTreeMap<String, Record>;

/// Reads all topics once; true if a name was learned.
fn round(
    view: &View,
    names: &mut Names,
    found: &mut Found,
    tell: &mut Tell<'_>,
) -> Result<bool, Stop> {
    let mut learned = false;
    let states: BTreeSet<_> =
        view.plan.stages.iter().map(|(stage, _)| &stage.changelog.name).collect();
    for spec in &view.plan.topics {
        if states.contains(&spec.name) || spec.name == view.plan.commands.name {
            continue;
        }
        let Some(info) = view.log.topic(&spec.name)? else { continue };
        let topic = TopicRef { name: spec.name.clone(), partitions: info.partitions };
        each(view, &topic, tell, &mut |record| {
            if record.headers.get_str(header::TYPE) == Some(PROGRESS) {
                return Ok(());
            }
            let fields = fields(&record);
            if names.own(&record, &fields) {
                learned |= names.learn(&record, &fields);
                found.insert(record.origin(), record);
            }
            if found.len() > STEPS_MAX {
                return Err(Stop::Refused(format!(
                    "more than {STEPS_MAX} records belong to this: trace one of them, not their \
                     common cause"
                )));
            }
            Ok(())
        })?;
    }
    Ok(learned)
}

/// Reads a topic to its end, with a sign of life now and then.
fn each(
    view: &View,
    topic: &TopicRef,
    tell: &mut Tell<'_>,
    hear: &mut dyn FnMut(Record) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut read = 0_u64;
    scan(view, topic, &mut |record| {
        read += 1;
        if read.is_multiple_of(BEAT_EVERY) {
            tell(Answer::Beat)?;
        }
        hear(record)
    })
}

/// Who wrote a record: the stage that refused it, or else the only one that writes its topic.
fn writer(view: &View, record: &Record) -> Option<String> {
    if let Some(stage) = record.headers.get_str(header::STAGE) {
        return Some(stage.to_owned());
    }
    record.headers.get(header::CAUSE)?;
    let writes = |topics: &[TopicRef]| topics.iter().any(|topic| topic.name == record.topic);
    let mut writers = view.plan.stages.iter().filter(|(stage, _)| {
        writes(&stage.next) || stage.outputs.values().any(|topics| writes(topics))
    });
    let first = writers.next()?;
    writers.next().is_none().then(|| first.0.name.clone())
}

/// The rows that a record makes; sinks with what their groups have committed.
fn rows(sinks: &[(&SinkPlan, BTreeMap<Partition, NextOffset>)], record: &Record) -> Vec<StepRow> {
    let kind = record.headers.get_str(header::TYPE).unwrap_or_default();
    let value = fields(record);
    let mut steps = Vec::new();
    for (sink, committed) in sinks.iter().filter(|(sink, _)| sink.topic.name == record.topic) {
        for table in &sink.mapping.tables {
            if !table.types.iter().any(|known| known == kind) {
                continue;
            }
            let key: Vec<String> = table
                .key
                .iter()
                .map(|name| match value.get(name) {
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                    None => "-".to_owned(),
                })
                .collect();
            let next = committed.get(&record.partition).copied().unwrap_or(NextOffset::ZERO);
            steps.push(StepRow {
                at_ms: record.timestamp_ms,
                by: None,
                what: What::Row {
                    sink: sink.name.clone(),
                    table: table.table.clone(),
                    key: key.join(":"),
                    written: next >= record.next(),
                },
            });
        }
    }
    steps
}

/// What the changelogs still hold of the way.
fn changes(
    view: &View,
    names: &Names,
    steps: &mut Vec<StepRow>,
    tell: &mut Tell<'_>,
) -> Result<(), Stop> {
    for (stage, _) in &view.plan.stages {
        if view.log.topic(&stage.changelog.name)?.is_none() {
            continue;
        }
        let changelog = view.existing(&stage.changelog.name)?;
        each(view, &changelog, tell, &mut |record| {
            let key = record.key.as_deref().unwrap_or_default();
            let Some(zero) = key.iter().position(|byte| *byte == 0) else { return Ok(()) };
            let value = record.value.as_deref().unwrap_or_default();
            let store = String::from_utf8_lossy(&key[..zero]).into_owned();
            // The engine's own notes on a task name no record.
            if store != "_task" && (names.stand_in(&key[zero + 1..]) || names.stand_in(value)) {
                steps.push(StepRow {
                    at_ms: record.timestamp_ms,
                    by: Some(stage.name.clone()),
                    what: What::State {
                        store,
                        key: Base64(key[zero + 1..].to_vec()),
                        value: record.value.clone().map(Base64),
                    },
                });
            }
            if steps.len() > 2 * STEPS_MAX {
                return Err(
                    "too many changes of state belong to this: trace a single record".into()
                );
            }
            Ok(())
        })?;
    }
    Ok(())
}
