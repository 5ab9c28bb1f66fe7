//! A database in memory, for the simulator: the sinks' own code runs on it, from the mapping to the
//! compare-and-set of the offset row; what stands in for the database is only the statements.
//!
//! Lives here: the tables and what each statement does to them. May not live here: records,
//! mappings, anything that decides. Invariants: no clock, no thread, no waiting (every future is
//! ready at its first poll); one transaction at a time, seen whole or not at all; each statement
//! answers as SQLite does (`conformance::memory` holds both to that). It has no constraints but the
//! unique id of a row.

mod session;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{
    cell::Cell,
    mapping::SinkSpec,
    session::{Backend, Session},
    sql::Dialect,
    write::SqlSink,
};
use crate::sink::{Sink, SinkError};

/// A row: column → text, or NULL.
pub type Row = BTreeMap<String, Option<String>>;

/// Columns of a table, and their types as declared.
type Columns = &'static [(&'static str, &'static str)];

/// The tables of `schemas/sql/sqlite`, with [`super::mapping::ID_COLUMN`] left out.
const SEED: &[(&str, Columns)] = &[
    (
        "claims",
        &[
            ("id", "INTEGER"),
            ("channel", "VARCHAR"),
            ("user_pubkey", "VARCHAR"),
            ("slot", "BIGINT"),
            ("claim_timestamp", "TIMESTAMP"),
            ("status", "VARCHAR"),
            ("epoch", "BIGINT"),
            ("leaf_index", "INT"),
            ("amount", "TEXT"),
            ("claim_id", "VARCHAR"),
            ("leaf_id", "VARCHAR"),
            ("tx_signature", "VARCHAR"),
        ],
    ),
    (
        "roots",
        &[
            ("id", "INTEGER"),
            ("epoch", "BIGINT"),
            ("channel", "VARCHAR"),
            ("root", "VARCHAR"),
            ("count", "INT"),
            ("finalized_at", "TIMESTAMP"),
            ("status", "VARCHAR"),
            ("profile", "VARCHAR"),
        ],
    ),
    (
        "epochs",
        &[
            ("epoch", "BIGINT"),
            ("start_slot", "BIGINT"),
            ("end_slot", "BIGINT"),
            ("finalized_at", "TIMESTAMP"),
        ],
    ),
    (
        "settlement_log",
        &[
            ("id", "INTEGER"),
            ("root_id", "INT"),
            ("tx_signature", "VARCHAR"),
            ("settled_at", "TIMESTAMP"),
            ("status", "VARCHAR"),
            ("error_message", "VARCHAR"),
        ],
    ),
];

/// Key of an offset row: sink, topic, partition.
type Place = (String, String, u64);

/// A record that waits for a parent row: who waits (place, offset, target table) → the rest.
#[derive(Clone, Debug)]
struct Delayed {
    key: String,
    parent_table: Cell,
    parent_key: Cell,
    record: Cell,
}

/// What the tables hold. Parts are shared between versions: a copy costs little.
#[derive(Clone, Debug, Default)]
struct Tables {
    columns: Arc<BTreeMap<String, BTreeMap<String, String>>>,
    rows: BTreeMap<String, Arc<BTreeMap<String, Row>>>,
    /// The last number given by a table's `id`.
    serial: BTreeMap<String, u64>,
    offsets: Arc<BTreeMap<Place, (String, u64)>>,
    delayed: Arc<BTreeMap<(Place, u64, String), Delayed>>,
    /// Code, reason, record.
    refused: Arc<BTreeMap<(Place, String, u64), [Cell; 3]>>,
}

#[derive(Debug, Default)]
struct Inner {
    tables: Tables,
    commits: u64,
}

/// The database. Clones are handles of the same one.
#[derive(Clone, Debug, Default)]
pub struct Database(Arc<Mutex<Inner>>);

impl Database {
    /// A database with the seed's tables, all empty.
    #[must_use]
    pub fn new() -> Self {
        let database = Self::default();
        for (name, columns) in SEED {
            let columns = columns.iter().map(|(c, t)| ((*c).to_owned(), (*t).to_owned()));
            database.create((*name).to_owned(), columns.collect());
        }
        database
    }

    /// Creates a table; [`super::mapping::ID_COLUMN`] is added. One that exists stays as it is.
    pub fn create(&self, name: String, mut columns: BTreeMap<String, String>) {
        columns.insert(super::mapping::ID_COLUMN.to_owned(), "VARCHAR".to_owned());
        let mut inner = self.lock();
        let tables = &mut inner.tables;
        Arc::make_mut(&mut tables.columns).entry(name.clone()).or_insert(columns);
        tables.rows.entry(name).or_default();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Tables change by one assignment: there is nothing half done behind a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sink over it.
    ///
    /// # Errors
    /// [`SinkError::Refused`] for a mapping that is wrong.
    pub fn sink(&self, spec: SinkSpec) -> Result<Arc<dyn Sink>, SinkError> {
        spec.check().map_err(SinkError::Refused)?;
        Ok(Arc::new(SqlSink::new(Box::new(self.clone()), spec)))
    }

    /// Number of commits so far.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// The rows of a table by their id, as of the last commit.
    #[must_use]
    pub fn rows(&self, table: &str) -> Arc<BTreeMap<String, Row>> {
        self.lock().tables.rows.get(table).cloned().unwrap_or_default()
    }

    /// Names of a table's columns, in order.
    #[must_use]
    pub fn columns(&self, table: &str) -> Vec<String> {
        let inner = self.lock();
        inner.tables.columns.get(table).map_or_else(Vec::new, |all| all.keys().cloned().collect())
    }

    /// The offset rows of a sink: (topic, partition) → next offset.
    #[must_use]
    pub fn offsets(&self, sink: &str) -> BTreeMap<(String, u64), u64> {
        let inner = self.lock();
        let of_sink = inner.tables.offsets.iter().filter(|((name, ..), _)| name == sink);
        of_sink.map(|((_, topic, p), (_, next))| ((topic.clone(), *p), *next)).collect()
    }

    /// How many records wait for a parent row, over all sinks.
    #[must_use]
    pub fn delayed(&self) -> usize {
        self.lock().tables.delayed.len()
    }

    /// How many refused records are in the outbox, over all sinks.
    #[must_use]
    pub fn outbox(&self) -> usize {
        self.lock().tables.refused.len()
    }
}

#[async_trait]
impl Backend for Database {
    fn dialect(&self) -> &Dialect {
        &Dialect::Memory
    }

    async fn migrate(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn begin(&self) -> Result<Box<dyn Session>, SinkError> {
        let inner = self.lock();
        let tables = inner.tables.clone();
        let at = inner.commits;
        drop(inner);
        Ok(Box::new(session::MemorySession::new(self.clone(), tables, at)))
    }
}
