//! The mapping compiled against a database's schema: from a record to the operations on rows.
//!
//! Lives here: pure functions of a record and the mapping. May not live here: the database.
//! Invariants: a record gives its operations or a fault, never both and never a panic; two
//! different keys never join to the same row id.

use semel_schemas::{
    codec,
    fault::{Fault, FaultCode},
    header,
    record::Record,
    sabotage::{Sabotage, sabotaged},
};
use serde_json::Value;

use super::{
    cell::{Cell, Kind},
    mapping::{Field, Lookup, Presence, RetractAction, SinkSpec, TableSpec},
};

/// A sink's mapping, checked against the schema.
#[derive(Debug)]
pub(super) struct Plan {
    /// The mapping.
    pub(super) spec: SinkSpec,
    /// Its tables, in the order of the mapping.
    pub(super) tables: Vec<TablePlan>,
    /// Indices of `tables`, parents of lookups first.
    pub(super) order: Vec<usize>,
}

/// One table of a [`Plan`].
#[derive(Debug)]
pub(super) struct TablePlan {
    /// Its mapping.
    pub(super) spec: TableSpec,
    /// Its mapped columns, in the order of the mapping.
    pub(super) columns: Vec<ColumnPlan>,
    /// What a retraction sets; empty if it deletes.
    pub(super) set: Vec<(String, Kind, String)>,
    /// Whether a table of this mapping looks its rows up.
    pub(super) is_parent: bool,
}

/// One mapped column.
#[derive(Debug)]
pub(super) struct ColumnPlan {
    /// Its name.
    pub(super) name: String,
    /// What it holds.
    pub(super) kind: Kind,
    /// Where its value comes from.
    pub(super) source: Source,
}

/// Where a column's value comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// A field.
    Field(Field),
    /// A constant, as a cell.
    Constant(String),
    /// A parent's row.
    Lookup(Lookup),
}

/// One operation on one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Op {
    /// Index of the record that asks for it.
    pub(super) record: usize,
    /// Index of the table.
    pub(super) table: usize,
    /// The row's id.
    pub(super) key: String,
    /// What to do.
    pub(super) act: Act,
}

/// What to do with a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Write it: one cell a column. A cell of a lookup holds the parent's id until it is found.
    Upsert(Vec<Cell>),
    /// Delete it.
    Delete,
    /// Set the constants of the retraction.
    Set,
}

impl TablePlan {
    /// Its lookups, each with the index of its column.
    pub(super) fn lookups(&self) -> impl Iterator<Item = (usize, &Lookup)> {
        self.columns.iter().enumerate().filter_map(|(index, column)| match &column.source {
            Source::Lookup(lookup) => Some((index, lookup)),
            Source::Field(_) | Source::Constant(_) => None,
        })
    }

    /// The first parent that a row names: table and row id.
    pub(super) fn first_parent<'a>(&'a self, act: &'a Act) -> Option<(&'a str, &'a str)> {
        let Act::Upsert(cells) = act else { return None };
        self.lookups()
            .find_map(|(index, lookup)| Some((lookup.table.as_str(), cells[index].as_deref()?)))
    }

    fn name(&self) -> &str {
        &self.spec.table
    }

    fn op(&self, kind: &str, value: &Value) -> Result<(String, Act), Fault> {
        let key = self.key(value)?;
        if self.spec.types.iter().any(|name| name == kind) {
            let cells = self.columns.iter().map(|column| self.cell(column, value));
            return Ok((key, Act::Upsert(cells.collect::<Result<_, _>>()?)));
        }
        let action = self.spec.retract.as_ref().map(|retract| &retract.action);
        Ok((key, if action == Some(&RetractAction::Delete) { Act::Delete } else { Act::Set }))
    }

    fn key(&self, value: &Value) -> Result<String, Fault> {
        let mut parts = Vec::with_capacity(self.spec.key.len());
        for (index, path) in self.spec.key.iter().enumerate() {
            let part = match at(value, path) {
                None => Err((FaultCode::MissingField, "is missing")),
                Some(Value::String(text)) if text.is_empty() => {
                    Err((FaultCode::EmptyKey, "is empty"))
                }
                Some(Value::String(text)) if text.contains('\0') => {
                    Err((FaultCode::WrongType, "holds a NUL character"))
                }
                Some(Value::String(text)) => Ok(text.clone()),
                Some(Value::Number(number)) if !number.is_f64() => Ok(number.to_string()),
                Some(_) => Err((FaultCode::WrongType, "is no text and no whole number")),
            };
            // Else (`a:b`, `c`) and (`a`, `b:c`) would be one row.
            let last = index + 1 == self.spec.key.len();
            let part = part.and_then(|part| match last || !part.contains(':') {
                true => Ok(part),
                false => Err((FaultCode::WrongType, "holds `:`, which joins the key's fields")),
            });
            parts.push(part.map_err(|(code, what)| {
                let table = self.name();
                Fault::new(code, format!("field `{path}` of the key of table {table} {what}"))
            })?);
        }
        Ok(parts.join(":"))
    }

    fn cell(&self, column: &ColumnPlan, value: &Value) -> Result<Cell, Fault> {
        let place =
            |path: &str| format!("field `{path}` for column {}.{}", self.name(), column.name);
        match &column.source {
            Source::Constant(text) => Ok(Some(text.clone())),
            Source::Lookup(lookup) => match at(value, &lookup.by) {
                None => Ok(None),
                Some(Value::String(text)) if !text.contains('\0') => Ok(Some(text.clone())),
                Some(Value::Number(number)) if !number.is_f64() => Ok(Some(number.to_string())),
                Some(_) => Err(Fault::new(
                    FaultCode::WrongType,
                    format!("{} is no text and no whole number", place(&lookup.by)),
                )),
            },
            Source::Field(field) => {
                let found = at(value, &field.path);
                let unknown = field.null_if.as_ref().map(super::mapping::Scalar::json);
                match found {
                    Some(found) if unknown.as_ref() == Some(found) => Ok(None),
                    Some(found) => column.kind.cell(found, field.form).map(Some).map_err(|fault| {
                        Fault::new(
                            fault.code,
                            format!(
                                "{} does not fit: the column {}",
                                place(&field.path),
                                fault.text
                            ),
                        )
                    }),
                    None if field.presence == Presence::Optional => Ok(None),
                    None => Err(Fault::new(
                        FaultCode::MissingField,
                        format!("{} is missing or null", place(&field.path)),
                    )),
                }
            }
        }
    }
}

impl Plan {
    /// The operations that a record asks for; none for a record that is no row. With `only`, of
    /// that table alone.
    ///
    /// # Errors
    /// Why the record fits no row.
    pub(super) fn ops(
        &self,
        index: usize,
        record: &Record,
        only: Option<usize>,
    ) -> Result<Vec<Op>, Fault> {
        let Some(kind) = record.headers.get_str(header::TYPE) else { return Ok(Vec::new()) };
        let wants = |table: &TablePlan| {
            let mut retractions = table.spec.retract_types().iter();
            let retracts = retractions.any(|name| name == kind);
            table.spec.types.iter().any(|name| name == kind)
                || (retracts && !sabotaged(Sabotage::SinkRetractionIgnored))
        };
        let mut tables = self
            .tables
            .iter()
            .enumerate()
            .filter(|(table, plan)| only.is_none_or(|only| only == *table) && wants(plan))
            .peekable();
        if tables.peek().is_none() {
            return Ok(Vec::new());
        }
        codec::check_version(record.headers.get_str(header::VERSION))?;
        let Some(bytes) = &record.value else {
            return Err(Fault::new(
                FaultCode::UnexpectedTombstone,
                format!("a `{kind}` without a value makes no row: send a retraction instead"),
            ));
        };
        let value: Value = codec::decode(kind, bytes)?;
        tables
            .map(|(table, plan)| {
                plan.op(kind, &value).map(|(key, act)| Op { record: index, table, key, act })
            })
            .collect()
    }
}

/// The value at a path; `None` if it is missing or null.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, name| value.get(name)).filter(|v| !v.is_null())
}
