//! PostgreSQL: connections, transactions, migrations, and what its errors mean.
//!
//! Invariants: a connection goes back to the pool only with no transaction open; a session that
//! is idle in a transaction is ended by the server (so a paused zombie cannot keep its lock); no
//! error text holds the URL, which may hold a password.

use std::{str::FromStr, time::Duration};

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Row,
    migrate::{MigrateError, Migrator},
    pool::PoolConnection,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions},
    query::Query,
};
use tokio::time::timeout;

use super::{
    cell::Cell,
    session::{Backend, DbError, Rows, Session},
    sql::Dialect,
};
use crate::sink::SinkError;

static MIGRATIONS: Migrator = sqlx::migrate!("../schemas/sql/postgres");

/// Longer than the server's own limits below, so that it is the server who ends a statement.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// An index over a large legacy table takes its time.
const MIGRATION_MAX: Duration = Duration::from_secs(3600);
const CONNECT_MAX: Duration = Duration::from_secs(5);
const CONNECTIONS_MAX: u32 = 8;

/// What each connection is told: how long it may wait for a lock, how long it may hold one while
/// its owner is silent, and to plan each statement for the tables as they are now (a plan made
/// for an empty table would be kept for a full one).
const SETTINGS: &str = "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '30s'; \
    SET statement_timeout = '50s'; SET plan_cache_mode = force_custom_plan; SET timezone = 'UTC'; \
    SET client_min_messages = warning";

/// What a migration's connection is told: wait for locks, but not for ever.
const MIGRATION_SETTINGS: &str =
    "SET lock_timeout = '30s'; SET statement_timeout = 0; SET client_min_messages = warning";

/// A database of PostgreSQL, and a schema in it.
pub(super) struct PostgresBackend {
    options: PgConnectOptions,
    pool: PgPool,
    dialect: Dialect,
    schema: String,
}

impl PostgresBackend {
    /// Does not connect yet. To be called within a tokio runtime.
    pub(super) fn new(url: &str, schema: &str) -> Result<Self, SinkError> {
        let options = PgConnectOptions::from_str(url).map_err(|_| {
            SinkError::Refused(
                "the database's URL cannot be read: write postgres://user@host:port/database"
                    .into(),
            )
        })?;
        let options = options.application_name("semel");
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(CONNECT_MAX)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    sqlx::raw_sql(SETTINGS).execute(&mut *connection).await.map(|_| ())
                })
            })
            .connect_lazy_with(options.clone());
        let dialect = Dialect::Postgres { schema: schema.to_owned() };
        Ok(Self { options, pool, dialect, schema: schema.to_owned() })
    }

    fn place(&self) -> String {
        format!(
            "PostgreSQL at {}:{}, database {}",
            self.options.get_host(),
            self.options.get_port(),
            self.options.get_database().unwrap_or("of the user's name")
        )
    }

    fn away(&self, error: sqlx::Error) -> SinkError {
        match classify(error, &self.place()) {
            DbError::Row(text) => SinkError::Refused(text),
            DbError::Sink(error) => error,
        }
    }

    async fn run_migrations(&self, connection: &mut PgConnection) -> Result<(), SinkError> {
        let away = |error| self.away(error);
        // A role that may not create schemas can still use one that exists.
        let exists: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1)",
        )
        .bind(&self.schema)
        .fetch_one(&mut *connection)
        .await
        .map_err(away)?;
        let schema = &self.schema;
        let create = if exists { String::new() } else { format!("CREATE SCHEMA \"{schema}\"; ") };
        let commands = format!("{MIGRATION_SETTINGS}; {create}SET search_path TO \"{schema}\"");
        sqlx::raw_sql(AssertSqlSafe(commands)).execute(&mut *connection).await.map_err(away)?;
        // Unqualified, so it lies in the schema: each namespace counts its own versions.
        let mut migrator =
            Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
        migrator.dangerous_set_table_name("semel_migrations");
        // `run` is generic over `Acquire`, which no boxed future can hold (rust-lang/rust#110338).
        migrator.run_direct(None, connection, false).await.map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => away(error),
            error => SinkError::Refused(format!(
                "schema {schema} of {} was brought up to date by another version of Semel \
                 ({error}): use that version",
                self.place()
            )),
        })
    }
}

#[async_trait]
impl Backend for PostgresBackend {
    fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    async fn migrate(&self) -> Result<(), SinkError> {
        let connect = PgConnection::connect_with(&self.options);
        let mut connection = timeout(CONNECT_MAX, connect)
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            .map_err(|error| self.away(error))?;
        let done = timeout(MIGRATION_MAX, self.run_migrations(&mut connection)).await;
        drop(connection);
        done.unwrap_or_else(|_| {
            Err(SinkError::Unavailable(format!(
                "{} did not finish the migrations in {} s: another process may hold the lock",
                self.place(),
                MIGRATION_MAX.as_secs()
            )))
        })
    }

    async fn begin(&self) -> Result<Box<dyn Session>, SinkError> {
        let connection = self.pool.acquire().await.map_err(|error| self.away(error))?;
        let mut session = PostgresSession { connection: Some(connection), place: self.place() };
        // Deferred constraints too are to refuse their row, not the commit.
        session
            .command("BEGIN ISOLATION LEVEL READ COMMITTED; SET CONSTRAINTS ALL IMMEDIATE")
            .await
            .map_err(DbError::into_sink)?;
        Ok(Box::new(session))
    }
}

/// `None` only once it was given back.
struct PostgresSession {
    connection: Option<PoolConnection<Postgres>>,
    place: String,
}

/// A session that did not end is in the middle of something: its connection is closed, and the
/// server rolls back.
impl Drop for PostgresSession {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }
}

impl PostgresSession {
    fn connection(&mut self) -> Result<&mut PgConnection, DbError> {
        match &mut self.connection {
            Some(connection) => Ok(&mut *connection),
            None => Err(SinkError::Unavailable(format!("{}: session ended", self.place)).into()),
        }
    }

    /// Waits for an answer, but not for ever: a network may swallow both ways.
    async fn answer<T>(
        place: String,
        asked: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, DbError> {
        match timeout(ANSWER_MAX, asked).await {
            Ok(answer) => answer.map_err(|error| classify(error, &place)),
            Err(_) => Err(SinkError::Unavailable(format!(
                "{place} gave no answer in {} s",
                ANSWER_MAX.as_secs()
            ))
            .into()),
        }
    }
}

fn query(sql: String, rows: Rows) -> Query<'static, Postgres, PgArguments> {
    rows.columns.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), Query::bind)
}

#[async_trait]
impl Session for PostgresSession {
    async fn command(&mut self, sql: &'static str) -> Result<(), DbError> {
        let place = self.place.clone();
        let asked = sqlx::raw_sql(sql).execute(self.connection()?);
        Self::answer(place, asked).await.map(|_| ())
    }

    async fn run(&mut self, sql: String, rows: Rows) -> Result<u64, DbError> {
        let place = self.place.clone();
        let asked = query(sql, rows).execute(self.connection()?);
        Self::answer(place, asked).await.map(|done| done.rows_affected())
    }

    async fn fetch(&mut self, sql: String, rows: Rows) -> Result<Vec<Vec<Cell>>, DbError> {
        let place = self.place.clone();
        let asked = query(sql, rows).fetch_all(self.connection()?);
        let found = Self::answer(place.clone(), asked).await?;
        found
            .iter()
            .map(|row| (0..row.len()).map(|i| row.try_get::<Cell, _>(i)).collect())
            .collect::<Result<_, _>>()
            .map_err(|error| classify(error, &place))
    }

    async fn commit(mut self: Box<Self>) -> Result<(), SinkError> {
        let connection = self.connection().map_err(DbError::into_sink)?;
        match timeout(ANSWER_MAX, sqlx::raw_sql("COMMIT").execute(connection)).await {
            Ok(Ok(_)) => {
                self.connection = None;
                Ok(())
            }
            Ok(Err(error)) if was_refused(&error) => Err(classify(error, &self.place).into_sink()),
            Ok(Err(error)) => Err(SinkError::Unknown(format!(
                "{} did not answer a commit ({error}): the offset row will tell",
                self.place
            ))),
            Err(_) => Err(SinkError::Unknown(format!(
                "{} did not answer a commit in {} s: the offset row will tell",
                self.place,
                ANSWER_MAX.as_secs()
            ))),
        }
    }

    async fn rollback(mut self: Box<Self>) {
        if self.command("ROLLBACK").await.is_ok() {
            self.connection = None;
        }
    }
}

/// Whether a commit's error says that nothing was committed: a constraint, or a conflict with
/// another transaction. A server that is shut down (class 57) may have committed before.
fn was_refused(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ["23", "40"].iter().any(|class| code.starts_with(class)))
}

/// What an error means, by the class of its SQLSTATE (PostgreSQL, appendix A).
fn classify(error: sqlx::Error, place: &str) -> DbError {
    let away = |why: &dyn std::fmt::Display| {
        SinkError::Unavailable(format!("{place} cannot be used now: {why}")).into()
    };
    let wrong = |why: &dyn std::fmt::Display| {
        SinkError::Refused(format!("{place} refuses: {why}; correct the database or the spec"))
            .into()
    };
    match &error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default().into_owned();
            match code.get(..2).unwrap_or_default() {
                // Data exceptions, constraints.
                "22" | "23" => DbError::Row(database.message().to_owned()),
                // Connection, transaction state, rolled back by conflict, resources (disk full
                // among them), locks, operator, system.
                "08" | "25" | "40" | "53" | "55" | "57" | "58" => away(database),
                _ => wrong(database),
            }
        }
        sqlx::Error::PoolTimedOut => away(&format!(
            "no connection in {} s; check that it runs and that the address is right",
            CONNECT_MAX.as_secs()
        )),
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => away(&error),
        _ => wrong(&error),
    }
}
