//! Sinks over SQL databases: records of one topic as rows of tables, exactly once.
//!
//! Lives here: the mapping as data, its check against a database's schema, and the one
//! transaction that writes offset row and rows. May not live here: decisions about records
//! (those are operators), the engine's retries.
//!
//! The way of a batch: `mapping` (data) → `check` (against the schema) → `plan` (record →
//! operations) → `write` (offset row by compare-and-set) → `apply` (operations in bulk) and
//! `delay` (what waits for a parent) → `refused` (what fits no row) → `sql` (statements) → `postgres` or `sqlite` (sessions), or
//! `memory` for the simulator.

mod apply;
mod cell;
mod check;
#[cfg(test)]
mod conformance;
mod delay;
pub mod look;
pub mod mapping;
pub mod memory;
mod plan;
mod postgres;
mod refused;
mod session;
mod sql;
mod sqlite;
mod write;

use std::sync::Arc;

use mapping::SinkSpec;

use crate::sink::{Sink, SinkError};

/// The database schema that is used when a spec names none.
pub const DEFAULT_SCHEMA: &str = "public";

/// A sink over the database at `url`: `postgres://…` or `sqlite:…`. The tables lie in `schema`
/// (PostgreSQL; SQLite has none, and takes [`DEFAULT_SCHEMA`] only).
///
/// Does not connect yet ([`Sink::prepare`] does). To be called within a tokio runtime.
///
/// # Errors
/// [`SinkError::Refused`] with one sentence for a URL, a schema or a mapping that is wrong.
pub fn connect(url: &str, schema: &str, spec: SinkSpec) -> Result<Arc<dyn Sink>, SinkError> {
    spec.check().map_err(SinkError::Refused)?;
    if !mapping::is_identifier(schema) {
        return Err(SinkError::Refused(format!(
            "`{schema}` is no name of a database schema: use 1 to 63 of a-z A-Z 0-9 _, not a digit first"
        )));
    }
    let backend: Box<dyn session::Backend> = match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("postgres" | "postgresql") => Box::new(postgres::PostgresBackend::new(url, schema)?),
        Some("sqlite") if schema == DEFAULT_SCHEMA => Box::new(sqlite::SqliteBackend::new(url)?),
        Some("sqlite") => {
            return Err(SinkError::Refused(format!(
                "SQLite has no schemas: leave out `schema = \"{schema}\"` and name another file"
            )));
        }
        _ => {
            return Err(SinkError::Refused(
                "the database's URL must begin with postgres:// or sqlite:".into(),
            ));
        }
    };
    Ok(Arc::new(write::SqlSink::new(backend, spec)))
}
