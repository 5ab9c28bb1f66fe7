//! The mapping of a sink as data: which records become rows of which tables, column by column.
//!
//! Lives here: the shape that a pipeline's spec embeds, and the rules that hold without a
//! database. What needs the database's schema is `check.rs`.
//! Invariants: unknown keys are refused; a type makes rows of a table or cancels them, never
//! both; one table is described once; every name in it is a plain SQL identifier.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use semel_schemas::topic::TopicName;
use serde::{
    Deserialize, Deserializer,
    de::{self, value::MapAccessDeserializer},
};

/// Our own column: nullable, unique; rows are upserted by it.
pub const ID_COLUMN: &str = "semel_id";

/// A sink: the tables that are fed from one topic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkSpec {
    /// The sink's name: its offset rows are kept under it.
    pub name: String,
    /// The topic that it reads.
    pub topic: TopicName,
    /// The tables that it writes.
    pub tables: Vec<TableSpec>,
}

/// One table: its columns, and the types that make its rows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// The table's name, without its namespace.
    pub table: String,
    /// The `semel-type`s whose records make a row.
    pub types: Vec<String>,
    /// Paths of the fields that, joined with `:`, are the row's [`ID_COLUMN`].
    pub key: Vec<String>,
    /// Column → where its value comes from.
    pub columns: BTreeMap<String, Column>,
    /// What a second record of the same key does.
    #[serde(default)]
    pub on_conflict: OnConflict,
    /// Which records cancel a row, and how.
    #[serde(default)]
    pub retract: Option<Retract>,
}

/// What a second record of the same key does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// The last one wins.
    #[default]
    Update,
    /// The first one stands (and so does a row that was there before us).
    Keep,
}

/// Which records cancel a row, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retract {
    /// The `semel-type`s that cancel a row; they name it by the same key fields.
    pub types: Vec<String>,
    /// What happens to the row.
    pub action: RetractAction,
}

/// What a retraction does to its row.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetractAction {
    /// The row is deleted.
    Delete,
    /// These columns are set to these constants.
    Set(BTreeMap<String, Scalar>),
}

/// A constant in a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A text.
    Text(String),
}

impl Scalar {
    /// The constant as the JSON value that a field could have held.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        match self {
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::Text(value) => value.clone().into(),
        }
    }
}

/// Where a column's value comes from. In a spec: a text is a field's path; a table is
/// `{ field = … }`, `{ value = … }` or `{ lookup = … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// A field of the record's value.
    Field(Field),
    /// The same for every row.
    Constant(Scalar),
    /// A column of another table's row.
    Lookup(Lookup),
}

/// A field of the record's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Path in the JSON value, names joined with `.`.
    pub path: String,
    /// How the field's value is read; `None`: as the column's type says.
    pub form: Option<Form>,
    /// Whether the field may be missing or null.
    pub presence: Presence,
    /// The value that stands for "not known": it becomes NULL.
    pub null_if: Option<Scalar>,
}

/// Whether a field has to be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// A record without it is refused.
    #[default]
    Required,
    /// Missing or null becomes NULL.
    Optional,
}

/// How a field's value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Milliseconds since 1970-01-01T00:00:00Z, into a TIMESTAMP.
    Ms,
    /// Seconds since 1970-01-01T00:00:00Z, into a TIMESTAMP.
    Seconds,
    /// Hex digits, written in lower case and without `0x`, into a text column.
    Hex,
    /// A whole number, as a JSON integer or a decimal string, into a number or a text column.
    Decimal,
}

/// The value of a column of a parent's row, found by the parent's [`ID_COLUMN`]. A record whose
/// parent is not there waits, and the later records of its key wait behind it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// The parent's table (of this sink or another one in the same namespace).
    pub table: String,
    /// The parent's column whose value is taken.
    pub column: String,
    /// Path of the field that holds the parent's [`ID_COLUMN`].
    pub by: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnTable {
    field: Option<String>,
    value: Option<Scalar>,
    lookup: Option<Lookup>,
    form: Option<Form>,
    #[serde(default)]
    optional: bool,
    null_if: Option<Scalar>,
}

impl ColumnTable {
    fn column(self) -> Result<Column, &'static str> {
        let plain = self.form.is_none() && !self.optional && self.null_if.is_none();
        match (self.field, self.value, self.lookup) {
            (Some(path), None, None) => Ok(Column::Field(Field {
                path,
                form: self.form,
                presence: if self.optional { Presence::Optional } else { Presence::Required },
                null_if: self.null_if,
            })),
            (None, Some(value), None) if plain => Ok(Column::Constant(value)),
            (None, None, Some(lookup)) if plain => Ok(Column::Lookup(lookup)),
            (None, Some(_), None) | (None, None, Some(_)) => {
                Err("`form`, `optional` and `null_if` belong to `field` only: take them out")
            }
            _ => Err("a column has exactly one of `field`, `value` and `lookup`"),
        }
    }
}

impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Column;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's path, or a table with `field`, `value` or `lookup`")
            }
            fn visit_str<E: de::Error>(self, path: &str) -> Result<Column, E> {
                Ok(Column::Field(Field { path: path.to_owned(), ..Field::default() }))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Column, A::Error> {
                ColumnTable::deserialize(MapAccessDeserializer::new(map))?
                    .column()
                    .map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl SinkSpec {
    /// Checks what can be checked without a database.
    ///
    /// # Errors
    /// One sentence: what is wrong, where, what to do.
    pub fn check(&self) -> Result<(), String> {
        let sink = &self.name;
        if sink.is_empty() {
            return Err("a sink has an empty `name`: give it one".into());
        }
        if self.tables.is_empty() {
            return Err(format!("sink `{sink}` writes no table: add a `tables` entry"));
        }
        let mut seen = BTreeSet::new();
        for table in &self.tables {
            if !seen.insert(&table.table) {
                return Err(format!(
                    "sink `{sink}` describes table `{}` twice: join the two entries",
                    table.table
                ));
            }
            table.check().map_err(|text| format!("sink `{sink}`, {text}"))?;
        }
        Ok(())
    }
}

impl TableSpec {
    /// The record types that cancel rows of this table.
    #[must_use]
    pub fn retract_types(&self) -> &[String] {
        self.retract.as_ref().map_or(&[], |retract| &retract.types)
    }

    /// The lookups of this table's columns.
    pub fn lookups(&self) -> impl Iterator<Item = (&str, &Lookup)> {
        self.columns.iter().filter_map(|(name, column)| match column {
            Column::Lookup(lookup) => Some((name.as_str(), lookup)),
            Column::Field(_) | Column::Constant(_) => None,
        })
    }

    fn check(&self) -> Result<(), String> {
        let table = &self.table;
        let at = |text: String| Err(format!("table `{table}`: {text}"));
        for name in self.identifiers() {
            if !is_identifier(name) {
                return at(format!(
                    "`{name}` is no plain name: use 1 to 63 of a-z A-Z 0-9 _, not a digit first"
                ));
            }
        }
        if self.types.is_empty() {
            return at("`types` is empty: name the record types that make its rows".into());
        }
        if let Some(both) = self.types.iter().find(|name| self.retract_types().contains(name)) {
            return at(format!("type `{both}` both makes and cancels rows: choose one"));
        }
        if self.key.is_empty() {
            return at("`key` is empty: name the fields that identify a row".into());
        }
        for path in self.paths() {
            if path.split('.').any(str::is_empty) {
                return at(format!("`{path}` is no field's path: write names joined with `.`"));
            }
        }
        if self.columns.is_empty() {
            return at("`columns` is empty: name at least one column".into());
        }
        if self.columns.contains_key(ID_COLUMN) {
            return at(format!("column `{ID_COLUMN}` is filled from `key`: take it out"));
        }
        Ok(())
    }

    fn identifiers(&self) -> impl Iterator<Item = &str> {
        let lookups = self.lookups().flat_map(|(_, l)| [l.table.as_str(), l.column.as_str()]);
        let set = match self.retract.as_ref().map(|retract| &retract.action) {
            Some(RetractAction::Set(set)) => Some(set.keys().map(String::as_str)),
            Some(RetractAction::Delete) | None => None,
        };
        std::iter::once(self.table.as_str())
            .chain(self.columns.keys().map(String::as_str))
            .chain(lookups)
            .chain(set.into_iter().flatten())
    }

    fn paths(&self) -> impl Iterator<Item = &str> {
        let columns = self.columns.values().filter_map(|column| match column {
            Column::Field(field) => Some(field.path.as_str()),
            Column::Lookup(lookup) => Some(lookup.by.as_str()),
            Column::Constant(_) => None,
        });
        self.key.iter().map(String::as_str).chain(columns)
    }
}

/// Whether a text is a plain SQL identifier: it can be quoted without escaping, and PostgreSQL
/// does not cut it (its limit is 63 bytes).
#[must_use]
pub fn is_identifier(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "s"
topic = "t"
[[tables]]
table = "claims"
types = ["claim.state"]
key = ["claim_id"]
retract = { types = ["claim.retracted"], action = { set = { status = "gone" } } }
[tables.columns]
channel = "channel"
origin = { value = "chain" }
at = { field = "block.time", form = "seconds", null_if = 0 }
root_id = { lookup = { table = "roots", column = "id", by = "root_id" } }
reason = { field = "reason", optional = true }
"#;

    #[test]
    fn a_mapping_is_read_from_toml() {
        let spec: SinkSpec = toml::from_str(GOOD).unwrap();
        spec.check().unwrap();
        let table = &spec.tables[0];
        assert_eq!(table.on_conflict, OnConflict::Update);
        assert_eq!(
            table.columns["at"],
            Column::Field(Field {
                path: "block.time".into(),
                form: Some(Form::Seconds),
                presence: Presence::Required,
                null_if: Some(Scalar::Int(0)),
            })
        );
        assert_eq!(table.lookups().map(|(name, _)| name).collect::<Vec<_>>(), ["root_id"]);
        let set = BTreeMap::from([("status".to_owned(), Scalar::Text("gone".into()))]);
        assert_eq!(table.retract.as_ref().unwrap().action, RetractAction::Set(set));
        let delete = GOOD.replace("{ set = { status = \"gone\" } }", "\"delete\"");
        let spec: SinkSpec = toml::from_str(&delete).unwrap();
        assert_eq!(spec.tables[0].retract.as_ref().unwrap().action, RetractAction::Delete);
    }

    #[test]
    fn what_is_no_mapping_is_refused_with_a_sentence() {
        for (from, to, part) in [
            ("name = \"s\"", "name = \"s\"\nextra = 1", "unknown field `extra`"),
            ("{ value = \"chain\" }", "{ value = 1, field = \"x\" }", "exactly one of"),
            ("{ value = \"chain\" }", "{}", "exactly one of"),
            ("{ value = \"chain\" }", "{ value = 1, optional = true }", "`field` only"),
            ("{ value = \"chain\" }", "{ feld = \"x\" }", "unknown field `feld`"),
            ("by = \"root_id\"", "by = \"root_id\", of = 1", "unknown field `of`"),
            ("form = \"seconds\"", "form = \"hours\"", "unknown variant `hours`"),
            ("name = \"s\"", "name = \"\"", "empty `name`"),
            ("types = [\"claim.state\"]", "types = []", "`types` is empty"),
            ("[\"claim.retracted\"]", "[\"claim.state\"]", "both makes and cancels"),
            ("key = [\"claim_id\"]", "key = []", "`key` is empty"),
            ("key = [\"claim_id\"]", "key = [\"a..b\"]", "no field's path"),
            ("table = \"claims\"", "table = \"a\\\"; drop\"", "no plain name"),
            ("channel = \"channel\"", "semel_id = \"x\"", "filled from `key`"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            let said = match toml::from_str::<SinkSpec>(&text) {
                Err(error) => error.to_string(),
                Ok(spec) => spec.check().expect_err(to),
            };
            assert!(said.contains(part), "{to}: {said}");
        }
    }

    #[test]
    fn a_table_is_described_once() {
        let mut spec: SinkSpec = toml::from_str(GOOD).unwrap();
        spec.tables.push(spec.tables[0].clone());
        assert!(spec.check().unwrap_err().contains("twice"));
        spec.tables.clear();
        assert!(spec.check().unwrap_err().contains("writes no table"));
    }
}
