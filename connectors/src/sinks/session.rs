//! What a sink asks of a database: a transaction in which statements get rows of texts.
//!
//! Lives here: the contract that both databases fulfil, and the rows' container. May not live
//! here: SQL texts, mappings.
//! Invariant: a session that is dropped changed nothing.

use async_trait::async_trait;

use super::{cell::Cell, sql::Dialect};
use crate::sink::SinkError;

/// The rows of one statement, column by column.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    /// The columns, all of one length.
    pub(super) columns: Vec<Vec<Cell>>,
}

impl Rows {
    /// Rows of `width` columns.
    pub(super) fn new(width: usize) -> Self {
        Self { columns: vec![Vec::new(); width] }
    }

    /// One row.
    pub(super) fn one<const N: usize>(row: [&str; N]) -> Self {
        Self { columns: row.into_iter().map(|cell| vec![Some(cell.to_owned())]).collect() }
    }

    /// Appends a row; it has as many cells as there are columns.
    pub(super) fn push(&mut self, row: impl IntoIterator<Item = Cell>) {
        for (column, cell) in self.columns.iter_mut().zip(row) {
            column.push(cell);
        }
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }
}

/// Why a statement failed.
#[derive(Debug)]
pub(super) enum DbError {
    /// One of its rows: a value or a constraint. The transaction goes on from its savepoint.
    Row(String),
    /// The transaction is over.
    Sink(SinkError),
}

impl From<SinkError> for DbError {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

impl DbError {
    /// The error of a statement that has no rows of a record.
    pub(super) fn into_sink(self) -> SinkError {
        match self {
            Self::Row(text) => SinkError::Refused(text),
            Self::Sink(error) => error,
        }
    }
}

/// An open transaction.
#[async_trait]
pub(super) trait Session: Send {
    /// Runs a statement without values: savepoints.
    async fn command(&mut self, sql: &'static str) -> Result<(), DbError>;

    /// Runs a statement over rows; how many rows of the database it changed.
    async fn run(&mut self, sql: String, rows: Rows) -> Result<u64, DbError>;

    /// Runs a query over rows; all of its columns are texts.
    async fn fetch(&mut self, sql: String, rows: Rows) -> Result<Vec<Vec<Cell>>, DbError>;

    /// Commits. [`SinkError::Unknown`] if no answer came.
    async fn commit(self: Box<Self>) -> Result<(), SinkError>;

    /// Gives everything back.
    async fn rollback(self: Box<Self>);
}

/// A database.
#[async_trait]
pub(super) trait Backend: Send + Sync {
    /// How its statements are written.
    fn dialect(&self) -> &Dialect;

    /// Brings our own tables up to date.
    async fn migrate(&self) -> Result<(), SinkError>;

    /// Begins a transaction.
    async fn begin(&self) -> Result<Box<dyn Session>, SinkError>;
}
