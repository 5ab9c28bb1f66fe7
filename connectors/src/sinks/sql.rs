//! The statements of a sink, for both databases.
//!
//! Every statement gets its values as a table `r(c0, c1, …)` of texts: arrays in PostgreSQL, one
//! JSON array in SQLite. So each is prepared once whatever the size of the batch, and a batch is
//! one round trip for each table.
//! Invariants: names are plain identifiers (see `mapping::is_identifier`) and always quoted;
//! values are always bound.

use std::collections::BTreeSet;

use super::{
    cell::Kind,
    mapping::{ID_COLUMN, OnConflict},
    plan::{Plan, TablePlan},
};

/// Which database, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// PostgreSQL, in this schema.
    Postgres {
        /// The schema (namespace) of all tables.
        schema: String,
    },
    /// SQLite.
    Sqlite,
    /// In memory (`memory`): a statement is its method's name and what it is given, in words.
    Memory,
}

/// A statement for [`Dialect::Memory`].
fn words<T: AsRef<str>>(verb: &str, rest: impl IntoIterator<Item = T>) -> String {
    rest.into_iter().fold(verb.to_owned(), |text, word| text + " " + word.as_ref())
}

impl Plan {
    /// Names of its tables.
    fn names(&self, between: &str) -> String {
        let names: Vec<_> = self.tables.iter().map(|t| t.spec.table.as_str()).collect();
        names.join(between)
    }

    /// Names of the tables that are looked up; `-` if there are none.
    fn parents(&self, between: &str) -> String {
        let lookups = self.tables.iter().flat_map(TablePlan::lookups);
        let parents: BTreeSet<_> = lookups.map(|(_, lookup)| lookup.table.as_str()).collect();
        if parents.is_empty() {
            return "-".to_owned();
        }
        parents.into_iter().collect::<Vec<_>>().join(between)
    }
}

impl TablePlan {
    /// Its name, and the names of its columns.
    fn words(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.spec.table).chain(self.columns.iter().map(|column| &column.name))
    }
}

impl Dialect {
    /// A table's name in a statement.
    pub(super) fn table(&self, name: &str) -> String {
        match self {
            Self::Postgres { schema } => format!("\"{schema}\".\"{name}\""),
            Self::Sqlite | Self::Memory => format!("\"{name}\""),
        }
    }

    /// A table's name in a sentence.
    pub(super) fn place(&self, name: &str) -> String {
        match self {
            Self::Postgres { schema } => format!("{schema}.{name}"),
            Self::Sqlite | Self::Memory => name.to_owned(),
        }
    }

    /// The bound values as a table `r` with `width` columns.
    fn rows(&self, width: usize) -> String {
        let names: Vec<_> = (0..width).map(|i| format!("c{i}")).collect();
        match self {
            Self::Postgres { .. } => {
                let arrays: Vec<_> = (1..=width).map(|i| format!("${i}::text[]")).collect();
                format!("UNNEST({}) AS r({})", arrays.join(", "), names.join(", "))
            }
            Self::Sqlite | Self::Memory => {
                let cells: Vec<_> = (0..width).map(|i| format!("value ->> {i} AS c{i}")).collect();
                format!("(SELECT {} FROM json_each(?1)) AS r", cells.join(", "))
            }
        }
    }

    /// Cell `index` as a value of its column. SQLite's columns convert by their affinity.
    fn cell(&self, index: usize, kind: Kind) -> String {
        let name = match (self, kind) {
            (Self::Sqlite | Self::Memory, _) | (_, Kind::Text(_)) => return format!("r.c{index}"),
            (_, Kind::Int(16)) => "smallint",
            (_, Kind::Int(32)) => "integer",
            (_, Kind::Int(_)) => "bigint",
            (_, Kind::Numeric(_)) => "numeric",
            (_, Kind::Float) => "double precision",
            (_, Kind::Bool) => "boolean",
            (_, Kind::Timestamp) => "timestamp",
            (_, Kind::TimestampTz) => "timestamptz",
            (_, Kind::Json) => "jsonb",
        };
        format!("CAST(r.c{index} AS {name})")
    }

    fn number(&self, index: usize) -> String {
        self.cell(index, Kind::Int(64))
    }

    /// Locks the rows that a SELECT finds. A transaction of SQLite holds the whole database.
    fn lock(&self, how: &str) -> String {
        match self {
            Self::Postgres { .. } => format!(" FOR {how}"),
            Self::Sqlite | Self::Memory => String::new(),
        }
    }

    /// Columns of all tables: table, column, declared type, nullable, filled (`YES` or `NO`).
    pub(super) fn columns(&self) -> String {
        match self {
            Self::Postgres { .. } => format!(
                "SELECT CAST(c.table_name AS text), CAST(c.column_name AS text), c.data_type || CASE \
                   WHEN c.character_maximum_length IS NOT NULL THEN '(' || c.character_maximum_length || ')' \
                   WHEN c.data_type = 'numeric' AND c.numeric_precision IS NOT NULL \
                     THEN '(' || c.numeric_precision || ',' || c.numeric_scale || ')' \
                   WHEN c.datetime_precision < 3 THEN '(' || c.datetime_precision || ')' ELSE '' END, \
                   CAST(c.is_nullable AS text), \
                   CASE WHEN c.column_default IS NOT NULL OR c.is_identity = 'YES' \
                     OR c.is_generated = 'ALWAYS' THEN 'YES' ELSE 'NO' END \
                 FROM information_schema.columns c JOIN {} ON c.table_schema = r.c0",
                self.rows(1)
            ),
            Self::Memory => "columns".to_owned(),
            // An INTEGER PRIMARY KEY is filled by SQLite and never NULL.
            Self::Sqlite => format!(
                "SELECT m.name, p.name, p.type, \
                   CASE WHEN p.\"notnull\" = 1 OR p.pk > 0 THEN 'NO' ELSE 'YES' END, \
                   CASE WHEN p.dflt_value IS NOT NULL OR (p.pk > 0 AND upper(p.type) = 'INTEGER') \
                     THEN 'YES' ELSE 'NO' END \
                 FROM sqlite_master m JOIN pragma_table_info(m.name) p JOIN {} ON r.c0 IS NOT NULL \
                 WHERE m.type = 'table'",
                self.rows(1)
            ),
        }
    }

    /// Tables whose id column is unique: what `ON CONFLICT` can infer.
    pub(super) fn unique(&self) -> String {
        match self {
            Self::Postgres { .. } => format!(
                "SELECT CAST(t.relname AS text) FROM pg_catalog.pg_index i \
                 JOIN pg_catalog.pg_class t ON t.oid = i.indrelid \
                 JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace \
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0] \
                 JOIN {} ON n.nspname = r.c0 \
                 WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL \
                   AND i.indnkeyatts = 1 AND a.attname = '{ID_COLUMN}'",
                self.rows(1)
            ),
            Self::Memory => "unique".to_owned(),
            Self::Sqlite => format!(
                "SELECT m.name FROM sqlite_master m JOIN pragma_index_list(m.name) i \
                 JOIN {} ON r.c0 IS NOT NULL \
                 WHERE m.type = 'table' AND i.\"unique\" = 1 AND i.partial = 0 \
                   AND (SELECT group_concat(x.name) FROM pragma_index_info(i.name) x) = '{ID_COLUMN}'",
                self.rows(1)
            ),
        }
    }

    /// The offset row of (sink, topic, partition): topic id, next offset; locked.
    pub(super) fn position(&self) -> String {
        if *self == Self::Memory {
            return "position".to_owned();
        }
        format!(
            "SELECT o.\"topic_id\", CAST(o.\"next_offset\" AS text) FROM {} o JOIN {} \
             ON o.\"sink\" = r.c0 AND o.\"topic\" = r.c1 AND o.\"partition\" = {}",
            self.table("semel_offsets"),
            self.rows(3),
            self.number(2)
        )
    }

    /// As [`Self::position`], and locks the row.
    pub(super) fn position_locked(&self) -> String {
        self.position() + &self.lock("UPDATE OF o")
    }

    /// (sink, topic, partition, topic id, next): the first offset row; changes nothing if there
    /// is one.
    pub(super) fn first_offset(&self) -> String {
        if *self == Self::Memory {
            return "first_offset".to_owned();
        }
        format!(
            "INSERT INTO {} (\"sink\", \"topic\", \"partition\", \"topic_id\", \"next_offset\") \
             SELECT r.c0, r.c1, {}, r.c3, {} FROM {} WHERE true ON CONFLICT DO NOTHING",
            self.table("semel_offsets"),
            self.number(2),
            self.number(4),
            self.rows(5)
        )
    }

    /// (sink, topic, partition, topic id, next, expected): the compare-and-set.
    pub(super) fn advance(&self) -> String {
        if *self == Self::Memory {
            return "advance".to_owned();
        }
        format!(
            "UPDATE {} AS o SET \"next_offset\" = {} FROM {} WHERE o.\"sink\" = r.c0 \
             AND o.\"topic\" = r.c1 AND o.\"partition\" = {} AND o.\"topic_id\" = r.c3 \
             AND o.\"next_offset\" = {}",
            self.table("semel_offsets"),
            self.number(4),
            self.rows(6),
            self.number(2),
            self.number(5)
        )
    }

    fn delayed(&self, width: usize) -> String {
        format!(
            "FROM {} d JOIN {} ON d.\"sink\" = r.c0 AND d.\"topic\" = r.c1 AND d.\"partition\" = {}",
            self.table("semel_delayed"),
            self.rows(width),
            self.number(2)
        )
    }

    /// (sink, topic, partition): how many records wait.
    pub(super) fn delayed_count(&self) -> String {
        if *self == Self::Memory {
            return "delayed_count".to_owned();
        }
        format!("SELECT CAST(count(*) AS text) {}", self.delayed(3))
    }

    /// (sink, topic, partition, table, key) of a batch: which of them wait.
    pub(super) fn delayed_keys(&self) -> String {
        if *self == Self::Memory {
            return "delayed_keys".to_owned();
        }
        format!(
            "SELECT DISTINCT d.\"target\", d.\"key\" {} AND d.\"target\" = r.c3 AND d.\"key\" = r.c4",
            self.delayed(5)
        )
    }

    /// (sink): the tables for which records wait.
    pub(super) fn delayed_targets(&self) -> String {
        if *self == Self::Memory {
            return "delayed_targets".to_owned();
        }
        format!(
            "SELECT DISTINCT d.\"target\" FROM {} d JOIN {} ON d.\"sink\" = r.c0",
            self.table("semel_delayed"),
            self.rows(1)
        )
    }

    /// (sink, topic, partition, offset, table, key, parent's table, parent's key, record): waits.
    pub(super) fn delay(&self) -> String {
        if *self == Self::Memory {
            return "delay".to_owned();
        }
        format!(
            "INSERT INTO {} (\"sink\", \"topic\", \"partition\", \"offset\", \"target\", \"key\", \
               \"parent_table\", \"parent_key\", \"record\") \
             SELECT r.c0, r.c1, {}, {}, r.c4, r.c5, r.c6, r.c7, r.c8 FROM {} WHERE true",
            self.table("semel_delayed"),
            self.number(2),
            self.number(3),
            self.rows(9)
        )
    }

    /// (sink, topic, partition, offset, table): no longer waits.
    pub(super) fn release(&self) -> String {
        if *self == Self::Memory {
            return "release".to_owned();
        }
        format!(
            "DELETE FROM {} AS d WHERE EXISTS (SELECT 1 FROM {} WHERE d.\"sink\" = r.c0 \
             AND d.\"topic\" = r.c1 AND d.\"partition\" = {} AND d.\"offset\" = {} \
             AND d.\"target\" = r.c4)",
            self.table("semel_delayed"),
            self.rows(5),
            self.number(2),
            self.number(3)
        )
    }

    /// (sink, topic, partition, topic id, offset, code, reason, record): refused, to be told.
    pub(super) fn refuse(&self) -> String {
        if *self == Self::Memory {
            return "refuse".to_owned();
        }
        format!(
            "INSERT INTO {} (\"sink\", \"topic\", \"partition\", \"topic_id\", \"offset\", \"code\", \
               \"reason\", \"record\") \
             SELECT r.c0, r.c1, {}, r.c3, {}, r.c5, r.c6, r.c7 FROM {} WHERE true \
             ON CONFLICT DO NOTHING",
            self.table("semel_refused"),
            self.number(2),
            self.number(4),
            self.rows(8)
        )
    }

    /// (sink, topic, partition, topic id, offset): was told.
    pub(super) fn reported(&self) -> String {
        if *self == Self::Memory {
            return "reported".to_owned();
        }
        format!(
            "DELETE FROM {} AS f WHERE EXISTS (SELECT 1 FROM {} WHERE f.\"sink\" = r.c0 \
             AND f.\"topic\" = r.c1 AND f.\"partition\" = {} AND f.\"topic_id\" = r.c3 \
             AND f.\"offset\" = {})",
            self.table("semel_refused"),
            self.rows(5),
            self.number(2),
            self.number(4)
        )
    }

    /// (sink, topic, partition, topic id): the oldest that were refused and not told. Offset,
    /// code, reason, record; at most `limit`.
    pub(super) fn unreported(&self, limit: usize) -> String {
        if *self == Self::Memory {
            return format!("unreported {limit}");
        }
        format!(
            "SELECT CAST(f.\"offset\" AS text), f.\"code\", f.\"reason\", f.\"record\" FROM {} f \
             JOIN {} ON f.\"sink\" = r.c0 AND f.\"topic\" = r.c1 AND f.\"partition\" = {} \
             AND f.\"topic_id\" = r.c3 ORDER BY f.\"offset\" LIMIT {limit}",
            self.table("semel_refused"),
            self.rows(4),
            self.number(2)
        )
    }

    /// (sink, topic, partition, offset, table, parent's table, parent's key): waits for another.
    pub(super) fn delay_again(&self) -> String {
        if *self == Self::Memory {
            return "delay_again".to_owned();
        }
        format!(
            "UPDATE {} AS d SET \"parent_table\" = r.c5, \"parent_key\" = r.c6 FROM {} \
             WHERE d.\"sink\" = r.c0 AND d.\"topic\" = r.c1 AND d.\"partition\" = {} \
             AND d.\"offset\" = {} AND d.\"target\" = r.c4",
            self.table("semel_delayed"),
            self.rows(7),
            self.number(2),
            self.number(3)
        )
    }

    /// (sink, topic, partition): the records that may be tried now, those of each row in order:
    /// the parent of the oldest one is there. Offset, table, record; at most `limit`.
    pub(super) fn releasable(&self, plan: &Plan, limit: usize) -> String {
        if *self == Self::Memory {
            return words("releasable", [limit.to_string(), plan.names(","), plan.parents(",")]);
        }
        let targets: Vec<_> = plan.tables.iter().map(|t| t.spec.table.as_str()).collect();
        let same = |other: &str, than: &str| {
            ["sink", "topic", "partition", "target", "key"]
                .map(|name| format!("{other}.\"{name}\" = {than}.\"{name}\""))
                .join(" AND ")
        };
        format!(
            "SELECT CAST(d.\"offset\" AS text), d.\"target\", d.\"record\" {from} \
             AND d.\"target\" IN ('{targets}') \
             AND EXISTS (SELECT 1 FROM {delayed} h WHERE {head} AND ({ready}) \
               AND NOT EXISTS (SELECT 1 FROM {delayed} e WHERE {earlier} \
                 AND e.\"offset\" < h.\"offset\")) \
             ORDER BY d.\"offset\", d.\"target\" LIMIT {limit}",
            from = self.delayed(3),
            targets = targets.join("', '"),
            delayed = self.table("semel_delayed"),
            head = same("h", "d"),
            ready = self.has_parent(plan),
            earlier = same("e", "h"),
        )
    }

    /// Whether what `h` waits for is there.
    fn has_parent(&self, plan: &Plan) -> String {
        let lookups = plan.tables.iter().flat_map(TablePlan::lookups);
        let parents: BTreeSet<_> = lookups.map(|(_, lookup)| lookup.table.as_str()).collect();
        // A mapping that changed: what waited for a table that is no parent now is tried.
        let names: Vec<_> = parents.iter().map(|name| format!("'{name}'")).collect();
        let mut ready = match names.as_slice() {
            [] => return "1 = 1".to_owned(),
            names => format!(
                "h.\"parent_table\" IS NULL OR h.\"parent_table\" NOT IN ({})",
                names.join(", ")
            ),
        };
        for parent in parents {
            ready += &format!(
                " OR (h.\"parent_table\" = '{parent}' AND EXISTS (SELECT 1 FROM {} p \
                 WHERE p.\"{ID_COLUMN}\" = h.\"parent_key\"))",
                self.table(parent)
            );
        }
        ready
    }

    /// (parent's id): id and value of the column. The lock keeps a parent from being deleted
    /// between this and the insert of its child.
    pub(super) fn lookup(&self, table: &str, column: &str) -> String {
        if *self == Self::Memory {
            return words("lookup", [table, column]);
        }
        format!(
            "SELECT p.\"{ID_COLUMN}\", CAST(p.\"{column}\" AS text) FROM {} p JOIN {} \
             ON p.\"{ID_COLUMN}\" = r.c0 WHERE p.\"{column}\" IS NOT NULL{}",
            self.table(table),
            self.rows(1),
            self.lock("KEY SHARE OF p")
        )
    }

    /// (id, cells…): writes rows that are there, and returns their ids. An upsert alone would
    /// take a number of the table's SERIAL for every update, and INT ends at 2^31.
    pub(super) fn update(&self, table: &TablePlan) -> String {
        if *self == Self::Memory {
            return words("update", table.words());
        }
        let set: Vec<_> = self.assignments(table).collect();
        format!(
            "UPDATE {} AS t SET {} FROM {} WHERE t.\"{ID_COLUMN}\" = r.c0 RETURNING \"{ID_COLUMN}\"",
            self.table(&table.spec.table),
            set.join(", "),
            self.rows(table.columns.len() + 1)
        )
    }

    fn assignments<'a>(&'a self, table: &'a TablePlan) -> impl Iterator<Item = String> + 'a {
        let columns = table.columns.iter().enumerate();
        columns.map(|(i, c)| format!("\"{}\" = {}", c.name, self.cell(i + 1, c.kind)))
    }

    /// (id, cells…): writes rows that are not there.
    pub(super) fn insert(&self, table: &TablePlan) -> String {
        if *self == Self::Memory {
            return match table.spec.on_conflict {
                OnConflict::Keep => words("insert_keep", table.words()),
                OnConflict::Update => words("insert", table.words()),
            };
        }
        let name = self.table(&table.spec.table);
        let names: Vec<_> = table.columns.iter().map(|c| format!("\"{}\"", c.name)).collect();
        let cells: Vec<_> =
            table.columns.iter().enumerate().map(|(i, c)| self.cell(i + 1, c.kind)).collect();
        let (unless, conflict) = match table.spec.on_conflict {
            OnConflict::Keep => (
                format!("NOT EXISTS (SELECT 1 FROM {name} x WHERE x.\"{ID_COLUMN}\" = r.c0)"),
                "DO NOTHING".to_owned(),
            ),
            OnConflict::Update => {
                let set: Vec<_> = table
                    .columns
                    .iter()
                    .map(|c| format!("\"{0}\" = excluded.\"{0}\"", c.name))
                    .collect();
                ("true".to_owned(), format!("(\"{ID_COLUMN}\") DO UPDATE SET {}", set.join(", ")))
            }
        };
        format!(
            "INSERT INTO {name} (\"{ID_COLUMN}\", {}) SELECT r.c0, {} FROM {} WHERE {unless} \
             ON CONFLICT {conflict}",
            names.join(", "),
            cells.join(", "),
            self.rows(table.columns.len() + 1)
        )
    }

    /// (id): deletes rows.
    pub(super) fn delete(&self, table: &TablePlan) -> String {
        if *self == Self::Memory {
            return words("delete", [&table.spec.table]);
        }
        format!(
            "DELETE FROM {} WHERE \"{ID_COLUMN}\" IN (SELECT r.c0 FROM {})",
            self.table(&table.spec.table),
            self.rows(1)
        )
    }

    /// (id, constants…): sets what a retraction sets.
    pub(super) fn set(&self, table: &TablePlan) -> String {
        if *self == Self::Memory {
            return words(
                "set",
                std::iter::once(&table.spec.table).chain(table.set.iter().map(|s| &s.0)),
            );
        }
        let set: Vec<_> = (table.set.iter().enumerate())
            .map(|(i, (name, kind, _))| format!("\"{name}\" = {}", self.cell(i + 1, *kind)))
            .collect();
        format!(
            "UPDATE {} AS t SET {} FROM {} WHERE t.\"{ID_COLUMN}\" = r.c0",
            self.table(&table.spec.table),
            set.join(", "),
            self.rows(table.set.len() + 1)
        )
    }
}
