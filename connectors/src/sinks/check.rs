//! The mapping against the database's schema: a plan, or one sentence that says what to change.
//!
//! Lives here: what a catalog of tables says, and the comparison. May not live here: how the
//! catalog is read (`sql.rs` has the query, the backends run it).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    cell::{Digits, Kind},
    mapping::{Column, ID_COLUMN, Lookup, Presence, RetractAction, SinkSpec, TableSpec},
    plan::{ColumnPlan, Plan, Source, TablePlan},
    sql::Dialect,
};

/// What the database says about its tables in our namespace.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// Table → column → what it is.
    pub(super) tables: BTreeMap<String, BTreeMap<String, ColumnInfo>>,
    /// Tables whose [`ID_COLUMN`] is unique.
    pub(super) unique: BTreeSet<String>,
}

/// What the database says about a column.
#[derive(Debug)]
pub(super) struct ColumnInfo {
    /// Its type as declared.
    pub(super) declared: String,
    /// Whether NULL may stand in it.
    pub(super) nullable: bool,
    /// Whether the database fills it when it is left out.
    pub(super) filled: bool,
}

/// Compiles a mapping.
///
/// # Errors
/// One sentence: table, column, what to change.
pub(super) fn compile(
    spec: &SinkSpec,
    catalog: &Catalog,
    dialect: &Dialect,
) -> Result<Plan, String> {
    let checker = Checker { catalog, dialect, sink: &spec.name };
    let parents: BTreeSet<_> = spec
        .tables
        .iter()
        .flat_map(|table| table.lookups().map(|(_, lookup)| lookup.table.clone()))
        .collect();
    let tables = spec
        .tables
        .iter()
        .map(|table| checker.table(table, parents.contains(&table.table)))
        .collect::<Result<Vec<_>, _>>()?;
    let order = order(&tables).ok_or_else(|| {
        format!(
            "sink `{}`: its tables look each other up in a circle: take one lookup out",
            spec.name
        )
    })?;
    Ok(Plan { spec: spec.clone(), tables, order })
}

/// Parents first; `None` if there is a circle.
fn order(tables: &[TablePlan]) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = Vec::with_capacity(tables.len());
    while order.len() < tables.len() {
        let ready = (0..tables.len()).find(|index| {
            !order.contains(index)
                && tables[*index].lookups().all(|(_, lookup)| {
                    let parent = tables.iter().position(|t| t.spec.table == lookup.table);
                    parent.is_none_or(|parent| order.contains(&parent))
                })
        })?;
        order.push(ready);
    }
    Some(order)
}

struct Checker<'a> {
    catalog: &'a Catalog,
    dialect: &'a Dialect,
    sink: &'a str,
}

impl Checker<'_> {
    fn columns(&self, table: &str) -> Result<&BTreeMap<String, ColumnInfo>, String> {
        self.catalog.tables.get(table).ok_or_else(|| {
            format!(
                "sink `{}`: there is no table {} (or the user may not see it): create it, or correct the mapping",
                self.sink,
                self.dialect.place(table)
            )
        })
    }

    fn column(&self, table: &str, column: &str) -> Result<(&ColumnInfo, Kind), String> {
        let at = format!("sink `{}`: column {}.{column}", self.sink, self.dialect.place(table));
        let info = self.columns(table)?.get(column).ok_or_else(|| {
            format!("{at} does not exist: add it to the table, or take it out of the mapping")
        })?;
        match kind(&info.declared, self.dialect) {
            Ok(kind) => Ok((info, kind)),
            Err(why) => Err(format!("{at} is {}, {why}", info.declared)),
        }
    }

    /// Upserts need our id column, and need it unique.
    fn id_column(&self, table: &str) -> Result<(), String> {
        let place = self.dialect.place(table);
        let found = self.columns(table)?.get(ID_COLUMN);
        let is_text = found
            .is_some_and(|info| matches!(kind(&info.declared, self.dialect), Ok(Kind::Text(None))));
        if is_text && self.catalog.unique.contains(table) {
            return Ok(());
        }
        Err(format!(
            "sink `{}`: table {place} needs a column {ID_COLUMN} of type VARCHAR, and a unique index on it alone: \
             ALTER TABLE {place} ADD COLUMN {ID_COLUMN} VARCHAR; CREATE UNIQUE INDEX ON {place} ({ID_COLUMN})",
            self.sink
        ))
    }

    fn table(&self, spec: &TableSpec, is_parent: bool) -> Result<TablePlan, String> {
        self.id_column(&spec.table)?;
        for (name, info) in self.columns(&spec.table)? {
            let mapped = spec.columns.contains_key(name) || name == ID_COLUMN;
            if !mapped && !info.nullable && !info.filled {
                return Err(format!(
                    "sink `{}`: column {}.{name} is NOT NULL without a default: map it, or drop the constraint",
                    self.sink,
                    self.dialect.place(&spec.table)
                ));
            }
        }
        let columns = spec.columns.iter().map(|(name, column)| self.mapped(spec, name, column));
        let set = match spec.retract.as_ref().map(|retract| &retract.action) {
            Some(RetractAction::Set(set)) => set
                .iter()
                .map(|(name, value)| {
                    let (_, kind) = self.column(&spec.table, name)?;
                    let cell = self.constant(spec, name, kind, value)?;
                    Ok((name.clone(), kind, cell))
                })
                .collect::<Result<_, String>>()?,
            Some(RetractAction::Delete) | None => Vec::new(),
        };
        Ok(TablePlan {
            spec: spec.clone(),
            columns: columns.collect::<Result<_, _>>()?,
            set,
            is_parent,
        })
    }

    fn constant(
        &self,
        spec: &TableSpec,
        name: &str,
        kind: Kind,
        value: &super::mapping::Scalar,
    ) -> Result<String, String> {
        kind.cell(&value.json(), None).map_err(|fault| {
            format!(
                "sink `{}`: the constant for column {}.{name} does not fit, the column {}",
                self.sink,
                self.dialect.place(&spec.table),
                fault.text
            )
        })
    }

    fn mapped(&self, spec: &TableSpec, name: &str, column: &Column) -> Result<ColumnPlan, String> {
        let (info, kind) = self.column(&spec.table, name)?;
        let at = format!("sink `{}`: column {}.{name}", self.sink, self.dialect.place(&spec.table));
        let source = match column {
            Column::Constant(value) => Source::Constant(self.constant(spec, name, kind, value)?),
            Column::Lookup(lookup) => {
                self.lookup(&at, kind, lookup)?;
                Source::Lookup(lookup.clone())
            }
            Column::Field(field) => {
                kind.takes(field.form).map_err(|why| {
                    format!("{at} is {} and gets field `{}`: {why}", info.declared, field.path)
                })?;
                Source::Field(field.clone())
            }
        };
        let may_be_null = match column {
            Column::Field(f) => f.presence == Presence::Optional || f.null_if.is_some(),
            Column::Lookup(_) => true,
            Column::Constant(_) => false,
        };
        if may_be_null && !info.nullable {
            return Err(format!(
                "{at} is NOT NULL and its source may be missing: drop the constraint, or take `optional` and `null_if` out of the mapping"
            ));
        }
        Ok(ColumnPlan { name: name.to_owned(), kind, source })
    }

    fn lookup(&self, at: &str, kind: Kind, lookup: &Lookup) -> Result<(), String> {
        self.id_column(&lookup.table)?;
        let (parent, from) = self.column(&lookup.table, &lookup.column)?;
        if !kind.holds(from) {
            return Err(format!(
                "{at} is {kind} and looks up {}.{}, which is {}: give both the same type",
                self.dialect.place(&lookup.table),
                lookup.column,
                parent.declared
            ));
        }
        Ok(())
    }
}

/// What a declared type holds.
///
/// # Errors
/// Why a sink cannot write it, as the end of a sentence.
fn kind(declared: &str, dialect: &Dialect) -> Result<Kind, &'static str> {
    let declared = declared.trim().to_ascii_lowercase();
    let (base, rest) = declared.split_once('(').unwrap_or((&declared, ")"));
    let arguments = rest.trim_end_matches(')').split(',').map(|n| n.trim().parse::<u32>().ok());
    let arguments: Vec<_> = arguments.flatten().collect();
    let sqlite = matches!(dialect, Dialect::Sqlite);
    match (base.trim(), arguments.as_slice()) {
        ("varchar" | "character varying" | "text", []) => Ok(Kind::Text(None)),
        ("varchar" | "character varying", [max]) => Ok(Kind::Text(Some(*max))),
        // SQLite keeps each of them in 64 bits.
        ("smallint" | "int" | "integer" | "bigint", []) if sqlite => Ok(Kind::Int(64)),
        ("smallint", []) => Ok(Kind::Int(16)),
        ("int" | "integer", []) => Ok(Kind::Int(32)),
        ("bigint", []) => Ok(Kind::Int(64)),
        ("numeric" | "decimal", _) if sqlite => {
            Err("which SQLite keeps as floating point: declare it TEXT")
        }
        ("numeric", []) => Ok(Kind::Numeric(None)),
        ("numeric", [precision, scale]) => {
            Ok(Kind::Numeric(Some(Digits { precision: *precision, scale: *scale })))
        }
        ("double precision" | "real", []) if sqlite => Ok(Kind::Float),
        ("double precision", []) => Ok(Kind::Float),
        ("boolean", []) => Ok(Kind::Bool),
        ("timestamp" | "timestamp without time zone", []) => Ok(Kind::Timestamp),
        ("timestamp with time zone", []) => Ok(Kind::TimestampTz),
        ("json" | "jsonb", []) => Ok(Kind::Json),
        _ => Err(
            "which a sink cannot write: use VARCHAR, BIGINT, INT, NUMERIC, TIMESTAMP, BOOLEAN or JSONB",
        ),
    }
}
