//! SQLite: one file, one writer at a time, and what its errors mean.
//!
//! Invariants: a transaction takes the write lock at its beginning, so it never fails for a lock
//! half-way; a commit is answered after it was synced; a connection goes back to the pool only
//! with no transaction open.

use std::{str::FromStr, time::Duration};

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, Row, Sqlite, SqliteConnection, SqlitePool,
    migrate::{MigrateError, Migrator},
    pool::PoolConnection,
    query::Query,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions,
        SqliteSynchronous,
    },
};

use super::{
    cell::Cell,
    session::{Backend, DbError, Rows, Session},
    sql::Dialect,
};
use crate::sink::SinkError;

static MIGRATIONS: Migrator = sqlx::migrate!("../schemas/sql/sqlite");

const LOCK_WAIT_MAX: Duration = Duration::from_secs(10);
const CONNECTIONS_MAX: u32 = 4;

/// A file of SQLite.
pub(super) struct SqliteBackend {
    pool: SqlitePool,
    place: String,
}

impl SqliteBackend {
    /// Does not open the file yet. To be called within a tokio runtime.
    pub(super) fn new(url: &str) -> Result<Self, SinkError> {
        let options = SqliteConnectOptions::from_str(url).map_err(|error| {
            SinkError::Refused(format!(
                "the database's URL `{url}` cannot be read ({error}): write sqlite:path/to/file.db"
            ))
        })?;
        let place = format!("SQLite file {}", options.get_filename().display());
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(LOCK_WAIT_MAX);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(LOCK_WAIT_MAX)
            .connect_lazy_with(options);
        Ok(Self { pool, place })
    }

    async fn connection(&self) -> Result<PoolConnection<Sqlite>, SinkError> {
        self.pool.acquire().await.map_err(|error| classify(error, &self.place).into_sink())
    }
}

#[async_trait]
impl Backend for SqliteBackend {
    fn dialect(&self) -> &Dialect {
        &Dialect::Sqlite
    }

    async fn migrate(&self) -> Result<(), SinkError> {
        let mut connection = self.connection().await?;
        let mut migrator =
            Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
        migrator.dangerous_set_table_name("semel_migrations");
        // `run` is generic over `Acquire`, which no boxed future can hold (rust-lang/rust#110338).
        migrator.run_direct(None, &mut *connection, false).await.map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                classify(error, &self.place).into_sink()
            }
            error => SinkError::Refused(format!(
                "{} was brought up to date by another version of Semel ({error}): use that version",
                self.place
            )),
        })
    }

    async fn begin(&self) -> Result<Box<dyn Session>, SinkError> {
        let connection = self.connection().await?;
        let mut session = SqliteSession { connection: Some(connection), place: self.place.clone() };
        session.command("BEGIN IMMEDIATE").await.map_err(DbError::into_sink)?;
        Ok(Box::new(session))
    }
}

/// `None` only once it was given back.
struct SqliteSession {
    connection: Option<PoolConnection<Sqlite>>,
    place: String,
}

/// A session that did not end is in the middle of something: closing rolls back.
impl Drop for SqliteSession {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }
}

impl SqliteSession {
    fn connection(&mut self) -> Result<&mut SqliteConnection, DbError> {
        match &mut self.connection {
            Some(connection) => Ok(&mut *connection),
            None => Err(SinkError::Unavailable(format!("{}: session ended", self.place)).into()),
        }
    }
}

/// The rows as one JSON array of arrays.
fn query(sql: String, rows: &Rows) -> Query<'static, Sqlite, SqliteArguments> {
    let table: Vec<Vec<&Cell>> = (0..rows.len())
        .map(|row| rows.columns.iter().map(|column| &column[row]).collect())
        .collect();
    sqlx::query(AssertSqlSafe(sql)).bind(serde_json::json!(table).to_string())
}

#[async_trait]
impl Session for SqliteSession {
    async fn command(&mut self, sql: &'static str) -> Result<(), DbError> {
        let done = sqlx::raw_sql(sql).execute(self.connection()?).await;
        done.map(|_| ()).map_err(|error| classify(error, &self.place))
    }

    async fn run(&mut self, sql: String, rows: Rows) -> Result<u64, DbError> {
        let done = query(sql, &rows).execute(self.connection()?).await;
        done.map(|done| done.rows_affected()).map_err(|error| classify(error, &self.place))
    }

    async fn fetch(&mut self, sql: String, rows: Rows) -> Result<Vec<Vec<Cell>>, DbError> {
        let found = query(sql, &rows).fetch_all(self.connection()?).await;
        found
            .and_then(|found| {
                let cells =
                    found.iter().map(|row| (0..row.len()).map(|i| row.try_get(i)).collect());
                cells.collect()
            })
            .map_err(|error| classify(error, &self.place))
    }

    /// A failed COMMIT of SQLite leaves its transaction open, and dropping it rolls back: it is
    /// never unknown, but for an error of the disk.
    async fn commit(mut self: Box<Self>) -> Result<(), SinkError> {
        match sqlx::raw_sql("COMMIT").execute(self.connection().map_err(DbError::into_sink)?).await
        {
            Ok(_) => {
                self.connection = None;
                Ok(())
            }
            Err(error) => match classify(error, &self.place).into_sink() {
                SinkError::Unavailable(text) => Err(SinkError::Unknown(text)),
                error => Err(error),
            },
        }
    }

    async fn rollback(mut self: Box<Self>) {
        if self.command("ROLLBACK").await.is_ok() {
            self.connection = None;
        }
    }
}

/// What an error means, by SQLite's primary result code (sqlite.org/rescode.html).
fn classify(error: sqlx::Error, place: &str) -> DbError {
    let away = |why: &dyn std::fmt::Display| {
        SinkError::Unavailable(format!("{place} cannot be used now: {why}")).into()
    };
    let wrong = |why: &dyn std::fmt::Display| {
        SinkError::Refused(format!(
            "{place} cannot be used: {why}; correct the path, the file or the spec"
        ))
        .into()
    };
    match &error {
        sqlx::Error::Database(database) => {
            let code = database.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or(1);
            match code & 0xff {
                // TOOBIG, CONSTRAINT, MISMATCH.
                18..=20 => DbError::Row(database.message().to_owned()),
                // BUSY, LOCKED, NOMEM, INTERRUPT, IOERR, FULL, PROTOCOL.
                5 | 6 | 7 | 9 | 10 | 13 | 15 => away(database),
                _ => wrong(database),
            }
        }
        sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => away(&error),
        _ => wrong(&error),
    }
}
