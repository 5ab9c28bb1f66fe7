//! Reading tables back, for audits and demos: every value as text, as the database prints it.

use std::str::FromStr;

use sqlx::{
    AssertSqlSafe, PgPool, Row, SqlitePool, postgres::PgConnectOptions,
    sqlite::SqliteConnectOptions,
};

use crate::sink::SinkError;

/// An open database.
#[derive(Clone, Debug)]
pub enum Look {
    /// PostgreSQL.
    Postgres(PgPool),
    /// SQLite.
    Sqlite(SqlitePool),
}

impl Look {
    /// Opens the database at `url` for reading.
    ///
    /// # Errors
    /// [`SinkError`] if it cannot be reached.
    pub async fn open(url: &str) -> Result<Self, SinkError> {
        let away = |e: sqlx::Error| SinkError::Unavailable(format!("the database: {e}"));
        if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url).map_err(away)?;
            return Ok(Self::Sqlite(SqlitePool::connect_with(options).await.map_err(away)?));
        }
        let options = PgConnectOptions::from_str(url).map_err(away)?;
        Ok(Self::Postgres(PgPool::connect_with(options).await.map_err(away)?))
    }

    /// The rows of a query whose columns are all `CAST(… AS TEXT)`.
    ///
    /// # Errors
    /// [`SinkError`] with the database's own words.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, SinkError> {
        let wrong = |e: sqlx::Error| SinkError::Unavailable(format!("the database: {e}"));
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Postgres(pool) => {
                let rows = sqlx::query(sql).fetch_all(pool).await.map_err(wrong)?;
                rows.iter()
                    .map(|row| (0..row.len()).map(|i| row.try_get(i)).collect())
                    .collect::<Result<_, _>>()
                    .map_err(wrong)
            }
            Self::Sqlite(pool) => {
                let rows = sqlx::query(sql).fetch_all(pool).await.map_err(wrong)?;
                rows.iter()
                    .map(|row| (0..row.len()).map(|i| row.try_get(i)).collect())
                    .collect::<Result<_, _>>()
                    .map_err(wrong)
            }
        }
    }
}
