//! A transaction: a copy of the tables that replaces them at the commit.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

use super::{Database, Delayed, Place, Row, Tables};
use crate::{
    sink::SinkError,
    sinks::{
        cell::Cell,
        mapping::ID_COLUMN,
        session::{DbError, Rows, Session},
    },
};

/// See the module.
pub(super) struct MemorySession {
    database: Database,
    tables: Tables,
    savepoint: Option<Tables>,
    /// Commits of the database when this began.
    at: u64,
}

/// Cells of one row of a statement's values.
struct Cells<'a> {
    rows: &'a Rows,
    row: usize,
}

impl Cells<'_> {
    fn cell(&self, column: usize) -> Cell {
        self.rows.columns.get(column).and_then(|cells| cells.get(self.row)).cloned().flatten()
    }

    fn text(&self, column: usize) -> String {
        self.cell(column).unwrap_or_default()
    }

    fn number(&self, column: usize) -> u64 {
        self.text(column).parse().unwrap_or(0)
    }

    /// Sink, topic, partition.
    fn place(&self) -> Place {
        (self.text(0), self.text(1), self.number(2))
    }
}

fn each(rows: &Rows) -> impl Iterator<Item = Cells<'_>> {
    (0..rows.len()).map(move |row| Cells { rows, row })
}

fn unknown(sql: &str) -> DbError {
    SinkError::Refused(format!("the database in memory has no statement `{sql}`")).into()
}

impl MemorySession {
    pub(super) fn new(database: Database, tables: Tables, at: u64) -> Self {
        Self { database, tables, savepoint: None, at }
    }

    fn offsets(&mut self, verb: &str, row: &Cells<'_>) -> u64 {
        let offsets = Arc::make_mut(&mut self.tables.offsets);
        let (id, next) = (row.text(3), row.number(4));
        match (verb, offsets.get_mut(&row.place())) {
            ("first_offset", None) => {
                offsets.insert(row.place(), (id, next));
                1
            }
            ("advance", Some(held)) if *held == (id.clone(), row.number(5)) => {
                *held = (id, next);
                1
            }
            _ => 0,
        }
    }

    fn delayed(&mut self, verb: &str, row: &Cells<'_>) -> u64 {
        let delayed = Arc::make_mut(&mut self.tables.delayed);
        let key = (row.place(), row.number(3), row.text(4));
        match verb {
            "delay" => {
                let waits = Delayed {
                    key: row.text(5),
                    parent_table: row.cell(6),
                    parent_key: row.cell(7),
                    record: row.cell(8),
                };
                delayed.insert(key, waits);
                1
            }
            "release" => u64::from(delayed.remove(&key).is_some()),
            _ => match delayed.get_mut(&key) {
                Some(waits) => {
                    (waits.parent_table, waits.parent_key) = (row.cell(5), row.cell(6));
                    1
                }
                None => 0,
            },
        }
    }

    fn refused(&mut self, verb: &str, row: &Cells<'_>) -> u64 {
        let refused = Arc::make_mut(&mut self.tables.refused);
        let key = (row.place(), row.text(3), row.number(4));
        if verb == "reported" {
            return u64::from(refused.remove(&key).is_some());
        }
        if refused.contains_key(&key) {
            return 0;
        }
        refused.insert(key, [row.cell(5), row.cell(6), row.cell(7)]);
        1
    }

    /// One row of `insert`, `insert_keep`, `update`, `set` or `delete`; `true` if it changed one.
    fn row(&mut self, verb: &str, table: &str, columns: &[&str], row: &Cells<'_>) -> bool {
        let Some(rows) = self.tables.rows.get_mut(table) else { return false };
        let id = row.text(0);
        let there = rows.contains_key(&id);
        match verb {
            "delete" => there && Arc::make_mut(rows).remove(&id).is_some(),
            "insert_keep" if there => false,
            "update" | "set" if !there => false,
            _ => {
                let written = Arc::make_mut(rows).entry(id.clone()).or_default();
                if !there {
                    let declared = self.tables.columns.get(table);
                    let names = declared.into_iter().flat_map(BTreeMap::keys);
                    written.extend(names.map(|name| (name.clone(), None)));
                    written.insert(ID_COLUMN.to_owned(), Some(id));
                    if written.contains_key("id") {
                        let number = self.tables.serial.entry(table.to_owned()).or_default();
                        *number += 1;
                        written.insert("id".to_owned(), Some(number.to_string()));
                    }
                }
                for (index, column) in columns.iter().enumerate() {
                    written.insert((*column).to_owned(), row.cell(index + 1));
                }
                true
            }
        }
    }

    fn columns(&self) -> Vec<Vec<Cell>> {
        let mut found = Vec::new();
        for (table, columns) in self.tables.columns.iter() {
            for (column, declared) in columns {
                let filled = if column == "id" { "YES" } else { "NO" };
                let row = [table, column, declared, "YES", filled];
                found.push(row.map(|cell| Some(cell.to_owned())).to_vec());
            }
        }
        found
    }

    fn waiting<'a>(&'a self, row: &Cells<'_>) -> Vec<(&'a (Place, u64, String), &'a Delayed)> {
        let place = row.place();
        self.tables.delayed.iter().filter(|((p, ..), _)| *p == place).collect()
    }

    /// See [`super::super::sql::Dialect::releasable`].
    fn releasable(&self, words: &[&str], row: &Cells<'_>) -> Vec<Vec<Cell>> {
        let list = |at: usize| -> Vec<&str> {
            words.get(at).map(|names| names.split(',').collect()).unwrap_or_default()
        };
        let limit = words.get(1).and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
        let (targets, parents) = (list(2), list(3));
        let waiting = self.waiting(row);
        let ready = |waits: &Delayed| match &waits.parent_table {
            Some(parent) if parents.contains(&parent.as_str()) => {
                let rows = self.tables.rows.get(parent);
                let key = waits.parent_key.clone().unwrap_or_default();
                rows.is_some_and(|rows| rows.contains_key(&key))
            }
            _ => true,
        };
        let head_is_ready = |target: &str, key: &str| {
            let head = waiting.iter().find(|((_, _, t), d)| t == target && d.key == key);
            head.is_some_and(|(_, head)| ready(head))
        };
        let mut found: Vec<_> = waiting
            .iter()
            .filter(|((_, _, t), d)| targets.contains(&t.as_str()) && head_is_ready(t, &d.key))
            .collect();
        found.sort_by_key(|((_, offset, target), _)| (*offset, target.clone()));
        let cells = found.into_iter().take(limit).map(|((_, offset, target), waits)| {
            vec![Some(offset.to_string()), Some(target.clone()), waits.record.clone()]
        });
        cells.collect()
    }

    fn query(&self, words: &[&str], row: &Cells<'_>) -> Option<Vec<Vec<Cell>>> {
        let found = match words {
            ["columns"] => self.columns(),
            ["unique"] => self.tables.rows.keys().map(|name| vec![Some(name.clone())]).collect(),
            ["position"] => {
                let held = self.tables.offsets.get(&row.place());
                let cells =
                    |(id, next): &(String, u64)| vec![Some(id.clone()), Some(next.to_string())];
                held.map(cells).into_iter().collect()
            }
            ["delayed_count"] => vec![vec![Some(self.waiting(row).len().to_string())]],
            ["delayed_keys"] => {
                let (target, key) = (row.text(3), row.text(4));
                let waits = self.waiting(row);
                let found = waits.iter().any(|((_, _, t), d)| *t == target && d.key == key);
                found.then(|| vec![Some(target), Some(key)]).into_iter().collect()
            }
            ["delayed_targets"] => {
                let of_sink =
                    self.tables.delayed.keys().filter(|((sink, ..), ..)| *sink == row.text(0));
                of_sink.map(|(_, _, target)| vec![Some(target.clone())]).collect()
            }
            ["releasable", ..] => self.releasable(words, row),
            ["unreported", limit] => {
                let (place, id) = (row.place(), row.text(3));
                let told =
                    self.tables.refused.iter().filter(|((p, i, _), _)| *p == place && *i == id);
                let cells = told.map(|((_, _, offset), [code, reason, record])| {
                    vec![Some(offset.to_string()), code.clone(), reason.clone(), record.clone()]
                });
                cells.take(limit.parse().ok()?).collect()
            }
            ["lookup", table, column] => {
                let id = row.text(0);
                let found = self.tables.rows.get(*table).and_then(|rows| rows.get(&id));
                let value = found.and_then(|row: &Row| row.get(*column).cloned().flatten());
                value.map(|value| vec![Some(id), Some(value)]).into_iter().collect()
            }
            _ => return None,
        };
        Some(found)
    }
}

#[async_trait]
impl Session for MemorySession {
    async fn command(&mut self, sql: &'static str) -> Result<(), DbError> {
        match sql.split(' ').next() {
            Some("SAVEPOINT") => self.savepoint = Some(self.tables.clone()),
            Some("ROLLBACK") => {
                if let Some(savepoint) = &self.savepoint {
                    self.tables = savepoint.clone();
                }
            }
            Some("RELEASE") => self.savepoint = None,
            _ => return Err(unknown(sql)),
        }
        Ok(())
    }

    async fn run(&mut self, sql: String, rows: Rows) -> Result<u64, DbError> {
        let words: Vec<&str> = sql.split(' ').collect();
        let mut changed = 0;
        for row in each(&rows) {
            changed += match words.as_slice() {
                [verb @ ("first_offset" | "advance")] => self.offsets(verb, &row),
                [verb @ ("delay" | "release" | "delay_again")] => self.delayed(verb, &row),
                [verb @ ("refuse" | "reported")] => self.refused(verb, &row),
                [verb @ ("insert" | "insert_keep" | "set" | "delete"), table, columns @ ..] => {
                    u64::from(self.row(verb, table, columns, &row))
                }
                _ => return Err(unknown(&sql)),
            };
        }
        Ok(changed)
    }

    async fn fetch(&mut self, sql: String, rows: Rows) -> Result<Vec<Vec<Cell>>, DbError> {
        let words: Vec<&str> = sql.split(' ').collect();
        let mut found = Vec::new();
        for row in each(&rows) {
            if let ["update", table, columns @ ..] = words.as_slice() {
                if self.row("update", table, columns, &row) {
                    found.push(vec![row.cell(0)]);
                }
                continue;
            }
            found.extend(self.query(&words, &row).ok_or_else(|| unknown(&sql))?);
        }
        Ok(found)
    }

    async fn commit(self: Box<Self>) -> Result<(), SinkError> {
        let mut inner = self.database.lock();
        if inner.commits != self.at {
            return Err(SinkError::Unavailable(
                "another transaction was committed meanwhile".to_owned(),
            ));
        }
        inner.tables = self.tables;
        inner.commits += 1;
        Ok(())
    }

    async fn rollback(self: Box<Self>) {}
}
