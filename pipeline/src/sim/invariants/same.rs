//! SAME: committed topics and sink tables state the same facts.
//!
//! Judged after every commit of the database: the rows are those of one record after the other, up
//! to the offset row of each partition. Tables with a lookup may wait for parents; those are
//! compared at the end. Values of times are not compared, only whether there is one.

use std::collections::{BTreeMap, VecDeque};

use semel_connectors::sinks::{
    mapping::{Column, Form, OnConflict, RetractAction, TableSpec},
    memory::Row,
};
use semel_schemas::record::Record;

use super::{Check, Ledger, News, Scene, is_unfit, kind, value};
use crate::spec::plan::{Plan, SinkPlan};

/// A cell that should be: `None` stands for "some time".
type Expected = BTreeMap<String, Option<Option<String>>>;

#[derive(Debug)]
struct Fold {
    sink: SinkPlan,
    /// Records that the sink has not come to, by partition.
    ahead: BTreeMap<u32, VecDeque<Record>>,
    rows: BTreeMap<String, BTreeMap<String, Expected>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Same {
    folds: Vec<Fold>,
}

impl Same {
    pub(super) fn new(plan: &Plan) -> Self {
        let fold = |sink: &SinkPlan| Fold {
            sink: sink.clone(),
            ahead: BTreeMap::new(),
            rows: BTreeMap::new(),
        };
        Self { folds: plan.sinks.iter().map(fold).collect() }
    }
}

/// The value at a path.
fn at<'a>(value: &'a serde_json::Value, path: &str) -> Option<&'a serde_json::Value> {
    path.split('.').try_fold(value, |value, name| value.get(name)).filter(|v| !v.is_null())
}

fn shown(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn key(table: &TableSpec, value: &serde_json::Value) -> String {
    let parts = table.key.iter().map(|path| at(value, path).map(shown).unwrap_or_default());
    parts.collect::<Vec<_>>().join(":")
}

fn row(table: &TableSpec, value: &serde_json::Value) -> Expected {
    let mut row = Expected::new();
    for (name, column) in &table.columns {
        let Column::Field(field) = column else { continue };
        let null = field.null_if.as_ref().map(semel_connectors::sinks::mapping::Scalar::json);
        let found = at(value, &field.path).filter(|found| Some(*found) != null.as_ref());
        let cell = match (found, field.form) {
            (None, _) => Some(None),
            (Some(_), Some(Form::Ms | Form::Seconds)) => None,
            (Some(found), Some(Form::Hex)) => {
                Some(Some(shown(found).trim_start_matches("0x").to_lowercase()))
            }
            (Some(found), _) => Some(Some(shown(found))),
        };
        row.insert(name.clone(), cell);
    }
    row
}

fn has_lookup(table: &TableSpec) -> bool {
    table.lookups().next().is_some()
}

fn differs(expected: &Expected, found: &Row) -> Option<String> {
    expected.iter().find_map(|(column, cell)| {
        let there = found.get(column).cloned().flatten();
        match cell {
            None => there.is_none().then(|| format!("{column} has no time")),
            Some(cell) => (*cell != there)
                .then(|| format!("{column} is {there:?} where the topic says {cell:?}")),
        }
    })
}

impl Fold {
    /// Takes a record; the rows that it touches.
    fn take(&mut self, record: &Record) -> Vec<(String, String)> {
        if is_unfit(record) {
            return Vec::new();
        }
        let (kind, value) = (kind(record), value(record));
        let mut touched = Vec::new();
        for table in &self.sink.mapping.tables {
            let rows = self.rows.entry(table.table.clone()).or_default();
            let id = key(table, &value);
            if table.types.iter().any(|name| name == kind) {
                match table.on_conflict {
                    OnConflict::Update => drop(rows.insert(id.clone(), row(table, &value))),
                    OnConflict::Keep => drop(rows.entry(id.clone()).or_insert(row(table, &value))),
                }
            } else if table.retract_types().iter().any(|name| name == kind) {
                let action = table.retract.as_ref().map(|retract| &retract.action);
                if action == Some(&RetractAction::Delete) {
                    rows.remove(&id);
                }
            } else {
                continue;
            }
            touched.push((table.table.clone(), id));
        }
        touched
    }

    fn compare(&self, scene: &Scene<'_>, table: &TableSpec, ids: &[String]) -> Result<(), String> {
        let rows = scene.database.rows(&table.table);
        let expected = self.rows.get(&table.table);
        for id in ids {
            let wanted = expected.and_then(|rows| rows.get(id));
            let wrong = match (wanted, rows.get(id)) {
                (None, None) => None,
                (None, Some(_)) => Some("is there, and its fact is not".to_owned()),
                (Some(_), None) => Some("is missing".to_owned()),
                // Several partitions tell it: which one comes first, nobody knows.
                (Some(_), Some(_)) if table.on_conflict == OnConflict::Keep => None,
                (Some(wanted), Some(found)) => differs(wanted, found),
            };
            if let Some(wrong) = wrong {
                return Err(format!("row `{id}` of table {} {wrong}", table.table));
            }
        }
        let count = expected.map_or(0, BTreeMap::len);
        if rows.len() != count {
            return Err(format!(
                "table {} has {} rows where the topic says {count}",
                table.table,
                rows.len()
            ));
        }
        Ok(())
    }

    /// Follows the sink's offset rows, and compares.
    fn follow(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        let offsets = scene.database.offsets(&self.sink.name);
        let mut touched: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for ((_, partition), next) in offsets {
            let partition = u32::try_from(partition).unwrap_or(0);
            let mut ahead = self.ahead.remove(&partition).unwrap_or_default();
            while ahead.front().is_some_and(|record| record.offset.0 < next) {
                let Some(record) = ahead.pop_front() else { break };
                for (table, id) in self.take(&record) {
                    touched.entry(table).or_default().push(id);
                }
            }
            self.ahead.insert(partition, ahead);
        }
        for table in self.sink.mapping.tables.iter().filter(|table| !has_lookup(table)) {
            let none = Vec::new();
            self.compare(scene, table, touched.get(&table.table).unwrap_or(&none))?;
        }
        Ok(())
    }
}

impl Check for Same {
    fn id(&self) -> &'static str {
        "SAME"
    }

    fn step(&mut self, scene: &mut Scene<'_>, _: &Ledger, news: &News) -> Result<(), String> {
        for fold in &mut self.folds {
            for record in news.records.iter().filter(|r| r.topic == fold.sink.topic.name) {
                fold.ahead.entry(record.partition.0).or_default().push_back(record.clone());
            }
            // What is decided and not visible is not in the ledger yet.
            if news.rows && !scene.sim.hides() {
                fold.follow(scene)?;
            }
        }
        Ok(())
    }

    fn unfinished(&mut self, scene: &mut Scene<'_>, _: &Ledger) -> Option<String> {
        for fold in &mut self.folds {
            let offsets = scene.database.offsets(&fold.sink.name);
            for (partition, ahead) in &fold.ahead {
                let place = (fold.sink.topic.name.to_string(), u64::from(*partition));
                let next = offsets.get(&place).copied().unwrap_or(0);
                if ahead.back().is_some_and(|record| record.offset.0 >= next) {
                    return Some(format!("sink {} is behind", fold.sink.name));
                }
            }
        }
        let (waiting, outbox) = (scene.database.delayed(), scene.database.outbox());
        (waiting > 0)
            .then(|| format!("{waiting} records wait for a parent row"))
            .or_else(|| (outbox > 0).then(|| format!("{outbox} refused records are in the outbox")))
    }

    fn end(&mut self, scene: &mut Scene<'_>, _: &Ledger) -> Result<(), String> {
        for fold in &mut self.folds {
            fold.follow(scene)?;
            for table in &fold.sink.mapping.tables {
                let ids = fold.rows.get(&table.table).map(|rows| rows.keys().cloned().collect());
                let ids: Vec<String> = ids.unwrap_or_default();
                fold.compare(scene, table, &ids)?;
                parents(scene, table, fold)?;
            }
        }
        Ok(())
    }
}

/// A row that looks a parent up bears the number of just that one.
fn parents(scene: &Scene<'_>, table: &TableSpec, fold: &Fold) -> Result<(), String> {
    for (column, lookup) in table.lookups() {
        let (children, all) =
            (scene.database.rows(&table.table), scene.database.rows(&lookup.table));
        for id in fold.rows.get(&table.table).into_iter().flat_map(BTreeMap::keys) {
            let found = children.get(id).and_then(|row| row.get(column).cloned().flatten());
            let named = found.as_ref().and_then(|found| {
                all.iter().find(|(_, row)| {
                    row.get(&lookup.column).cloned().flatten().as_ref() == Some(found)
                })
            });
            let right = named.is_some_and(|(parent, _)| id.starts_with(parent.as_str()));
            if !right {
                return Err(format!("row `{id}` of table {} has no parent {found:?}", table.table));
            }
        }
    }
    Ok(())
}
