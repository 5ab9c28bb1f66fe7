//! Cases of a spec, written in TOML: records in, time that passes, answers of the world; records,
//! rows, dead letters and effects out. `semel test` runs them.
//!
//! Lives here: a case's shape, and its run on the [`Driver`]: the spec's own stages and sinks, on a
//! log, a clock and a database in memory. May not live here: terminals. Invariant: what is
//! expected of a topic is expected of all its records, in order, so that a record too many is a
//! failure as well as one too few; progress counts for nothing.

use std::{collections::BTreeMap, path::Path};

use semel_connectors::{
    sink::{Sink, SinkBatch, Written},
    sinks::memory::Database,
};
use semel_schemas::{
    codec,
    effect::Outcome,
    header::{self, Headers},
    progress::PROGRESS,
    record::{OutRecord, Record},
    topic::{NextOffset, Partition},
};
use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use super::{
    Driver,
    differ::{difference, listed, record_json},
};
use crate::{
    log::Log,
    sim::{ready, tables},
    spec::{
        operators::Registry,
        parse::{self, Source, SpecError, explain},
        plan::{Plan, SinkPlan},
    },
};

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// What the spec's `${NAME}` stand for, before the environment.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// The cases; each begins with an empty pipeline.
    #[serde(default)]
    pub case: Vec<Case>,
}

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// What happens, in order.
    pub step: Vec<Spanned<Step>>,
}

/// One step.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A record is produced.
    Give(Give),
    /// Milliseconds pass.
    AdvanceMs(u64),
    /// The oldest effect that waits is answered.
    Answer(Answer),
    /// The process of a stage is killed and started again.
    Crash(String),
    /// All records of a topic.
    Expect(Expect),
    /// All rows of a table.
    ExpectRows(ExpectRows),
    /// All effects that wait for an answer.
    ExpectEffects(Vec<toml::Value>),
}

/// A record to produce.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Give {
    /// Topic, by its short or full name.
    topic: String,
    /// Key.
    key: String,
    /// Its `semel-type`; none: the topic's own.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Value: a table, or a text that is taken as it is; none: a tombstone.
    value: Option<toml::Value>,
    /// Headers of its own.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// An answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Only an effect of this stage.
    stage: Option<String>,
    /// Only an effect of this kind: `sign`, `solana_prepare` …
    effect: Option<String>,
    /// The outcome, as it stands in the catalog of schemas.
    outcome: toml::Value,
}

/// What a topic holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Topic, by its short or full name; `dead-letter` too.
    topic: String,
    /// Its records, partition by partition: `key`, `type`, `fault` and what is named of `value`.
    records: Vec<toml::Value>,
}

/// What a table holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectRows {
    /// Table.
    table: String,
    /// Its rows in the order of their keys: what is named of the columns, as text.
    rows: Vec<toml::Value>,
}

/// What became of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its name.
    pub name: String,
    /// Where it failed, and how.
    pub failed: Option<SpecError>,
}

/// Runs the cases of one file against a spec; `only` those whose name holds a text. The file's own
/// variables stand before `variable`'s.
///
/// # Errors
/// What is wrong with the spec or the file, each line with its place.
pub fn run_file(
    registry: &Registry,
    spec: &Path,
    file: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
    only: Option<&str>,
) -> Result<Vec<Ran>, Vec<SpecError>> {
    let text = read(file)?;
    let source = Source { file: file.display().to_string(), text };
    let cases: Cases = toml::from_str(&source.text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        vec![source.error_at(offset, explain(error.message()))]
    })?;
    let variable = |name: &str| cases.variables.get(name).cloned().or_else(|| variable(name));
    let plan = {
        let text = read(spec)?;
        let (spec, source) =
            parse::parse(&spec.display().to_string(), &text, &variable).map_err(|e| vec![e])?;
        Plan::with(registry, &spec, &source)?
    };
    let wanted = cases.case.iter().filter(|case| only.is_none_or(|only| case.name.contains(only)));
    Ok(wanted
        .map(|case| Ran {
            name: case.name.clone(),
            failed: run(&plan, case).err().map(|(offset, text)| source.error_at(offset, text)),
        })
        .collect())
}

/// Runs the cases that stand beside a spec (`NAME.test.toml` beside `NAME.toml`), for a test; how
/// many hold.
///
/// # Errors
/// What is wrong, or what the cases that fail found otherwise.
pub fn hold(registry: &Registry, spec: &Path) -> Result<usize, String> {
    let file = spec.with_extension("test.toml");
    let variable = |name: &str| std::env::var(name).ok();
    let told = |errors: Vec<SpecError>| {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let ran = run_file(registry, spec, &file, &variable, None).map_err(told)?;
    let failed: Vec<SpecError> = ran.iter().filter_map(|ran| ran.failed.clone()).collect();
    if failed.is_empty() { Ok(ran.len()) } else { Err(told(failed)) }
}

fn read(path: &Path) -> Result<String, Vec<SpecError>> {
    std::fs::read_to_string(path).map_err(|error| {
        let text = format!("it cannot be read: {error}");
        vec![SpecError { file: path.display().to_string(), line: None, text }]
    })
}

/// Runs one case; else the byte offset of the step that failed, and what differs, for people.
fn run(plan: &Plan, case: &Case) -> Result<(), (usize, String)> {
    let at = |error: String| (case.step.first().map_or(0, |step| step.span().start), error);
    let mut stage = Stage::new(plan).map_err(at)?;
    for step in &case.step {
        stage.step(step.get_ref()).map_err(|text| (step.span().start, text))?;
    }
    Ok(())
}

/// A pipeline in memory.
struct Stage<'a> {
    plan: &'a Plan,
    driver: Driver,
    database: Database,
    sinks: Vec<(&'a SinkPlan, std::sync::Arc<dyn Sink>)>,
    /// By sink and partition: what it has taken.
    taken: BTreeMap<(usize, u32), NextOffset>,
}

impl<'a> Stage<'a> {
    fn new(plan: &'a Plan) -> Result<Self, String> {
        let database = Database::new();
        let mut sinks = Vec::new();
        for sink in &plan.sinks {
            tables(&database, &sink.mapping);
            let made = database.sink(sink.mapping.clone()).map_err(|e| e.to_string())?;
            now(made.prepare())?.map_err(|e| e.to_string())?;
            sinks.push((sink, made));
        }
        let mut driver = Driver::of_plan(plan).map_err(|e| e.to_string())?;
        driver.run_until_idle().map_err(|e| e.to_string())?;
        Ok(Self { plan, driver, database, sinks, taken: BTreeMap::new() })
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Give(give) => self.give(give)?,
            Step::AdvanceMs(ms) => self.driver.advance(*ms).map_err(|e| e.to_string())?,
            Step::Answer(answer) => self.answer(answer)?,
            Step::Crash(stage) => self.driver.crash(stage).map_err(|e| e.to_string())?,
            Step::Expect(expect) => return self.expect(expect),
            Step::ExpectRows(expect) => return self.expect_rows(expect),
            Step::ExpectEffects(wanted) => return self.expect_effects(wanted),
        }
        self.driver.run_until_idle().map_err(|e| e.to_string())?;
        self.write()
    }

    fn topic(&self, name: &str) -> Result<String, String> {
        let found = self.plan.topic(name).ok_or_else(|| format!("there is no topic `{name}`"))?;
        Ok(found.name.to_string())
    }

    fn give(&mut self, give: &Give) -> Result<(), String> {
        let topic = self.topic(&give.topic)?;
        let mut headers = Headers::new();
        if let Some(kind) = &give.kind {
            headers.push(header::TYPE, kind.as_str());
        }
        for (name, value) in &give.headers {
            headers.push(name.as_str(), value.as_str());
        }
        let value = match &give.value {
            None => None,
            Some(toml::Value::String(text)) => Some(text.clone().into_bytes()),
            Some(value) => Some(codec::encode(&json(value)?)),
        };
        let name = semel_schemas::topic::TopicName::new(topic).map_err(|e| e.to_string())?;
        let record = OutRecord {
            topic: name,
            partition: None,
            key: Some(give.key.clone().into_bytes()),
            value,
            headers,
        };
        self.driver.pipe_raw(record).map_err(|e| e.to_string())
    }

    fn answer(&mut self, answer: &Answer) -> Result<(), String> {
        let outcome = json(&answer.outcome)?;
        let outcome: Outcome = serde_json::from_value(outcome)
            .map_err(|e| format!("`outcome` is none of the catalog's: {e}"))?;
        let waiting = self.driver.effects();
        let fits = waiting.iter().find(|asked| {
            let kind = serde_json::to_value(&asked.effect).unwrap_or_default();
            answer.stage.as_ref().is_none_or(|stage| *stage == asked.stage)
                && answer.effect.as_ref().is_none_or(|effect| kind["effect"] == effect.as_str())
        });
        let Some(asked) = fits else {
            let there: Vec<Value> = waiting.iter().map(effect_json).collect();
            return Err(format!("no effect waits that fits; waiting:\n{}", listed(&there)));
        };
        self.driver.answer(asked.number, outcome).map_err(|e| e.to_string())
    }

    /// The sinks take what is new.
    fn write(&mut self) -> Result<(), String> {
        for (index, (plan, sink)) in self.sinks.iter().enumerate() {
            let topic = &plan.topic.name;
            let info = self.driver.sim().topic(topic).map_err(|e| e.to_string())?;
            let Some(info) = info else { continue };
            let all = self.driver.read(topic.as_str()).map_err(|e| e.to_string())?;
            for partition in (0..info.partitions).map(Partition) {
                let taken = self.taken.get(&(index, partition.0)).copied();
                let from = taken.unwrap_or(NextOffset::ZERO);
                let new = all.iter().filter(|r| r.partition == partition && r.next() > from);
                let records: Vec<Record> = new.cloned().collect();
                let Some(next) = records.last().map(Record::next) else { continue };
                let batch = SinkBatch {
                    topic: topic.clone(),
                    topic_id: info.id.clone(),
                    partition,
                    expected: taken,
                    next,
                    records,
                    reported: Vec::new(),
                };
                match now(sink.write(&batch))?.map_err(|e| e.to_string())? {
                    Written::Done { refused, .. } => {
                        if let Some((record, fault)) = refused.first() {
                            return Err(format!(
                                "sink `{}` refuses {}: {fault}",
                                plan.name,
                                record.origin()
                            ));
                        }
                    }
                    Written::Moved { found } => {
                        return Err(format!("the offset row of `{}` moved: {found:?}", plan.name));
                    }
                }
                self.taken.insert((index, partition.0), next);
            }
        }
        Ok(())
    }

    fn expect(&self, expect: &Expect) -> Result<(), String> {
        let topic = self.topic(&expect.topic)?;
        let found = self.driver.read(&topic).map_err(|e| e.to_string())?;
        let found: Vec<Value> = found
            .iter()
            .filter(|record| record.headers.get_str(header::TYPE) != Some(PROGRESS))
            .map(record_json)
            .collect();
        compare(&format!("topic {}", expect.topic), &expect.records, &found)
    }

    fn expect_rows(&self, expect: &ExpectRows) -> Result<(), String> {
        if self.database.columns(&expect.table).is_empty() {
            return Err(format!("no sink writes a table `{}`", expect.table));
        }
        let rows = self.database.rows(&expect.table);
        let found: Vec<Value> =
            rows.values().map(|row| serde_json::to_value(row).unwrap_or_default()).collect();
        compare(&format!("table {}", expect.table), &expect.rows, &found)
    }

    fn expect_effects(&self, wanted: &[toml::Value]) -> Result<(), String> {
        let found: Vec<Value> = self.driver.effects().iter().map(effect_json).collect();
        compare("effects", wanted, &found)
    }
}

/// An effect that waits, with its stage.
fn effect_json(asked: &super::Asked) -> Value {
    let mut value = serde_json::to_value(&asked.effect).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("stage".to_owned(), asked.stage.clone().into());
    }
    value
}

fn compare(what: &str, wanted: &[toml::Value], found: &[Value]) -> Result<(), String> {
    let wanted = wanted.iter().map(json).collect::<Result<Vec<_>, _>>()?;
    difference(what, &wanted, found).map_or(Ok(()), Err)
}

fn json(value: &toml::Value) -> Result<Value, String> {
    serde_json::to_value(value).map_err(|e| format!("a value cannot be JSON: {e}"))
}

/// The memory's futures are ready at their first poll.
fn now<F: Future>(future: F) -> Result<F::Output, String> {
    ready(future).ok_or_else(|| "the database in memory waits".to_owned())
}
