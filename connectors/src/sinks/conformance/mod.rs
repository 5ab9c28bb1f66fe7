//! One suite for every sink: each case runs on SQLite and on a real PostgreSQL.
//!
//! PostgreSQL is named by `SEMEL_TEST_POSTGRES`; each case has a schema of its own there. The
//! cases use the mapping that ships (deploy/specs/attention-oracle.toml), so it is proved
//! here, too.

mod bulk;
mod fencing;
mod memory;
mod postgres;
mod prepare;
mod refused;
mod rows;
mod waiting;

use std::sync::Arc;

use semel_schemas::{
    fault::FaultCode,
    header::{self, Headers},
    record::Record,
    topic::{NextOffset, Offset, Partition, TopicId, TopicName},
};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool, Row, SqlitePool};

use super::{
    connect,
    mapping::{SinkSpec, TableSpec},
};
use crate::sink::{Sink, SinkBatch, SinkError, Written};

/// Runs each case once on each database.
macro_rules! on_both {
    ($($case:ident)*) => {
        mod on_sqlite { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(&crate::sinks::conformance::Db::sqlite().await).await;
            }
        )* }
        mod on_postgres { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let name = concat!(module_path!(), "_", stringify!($case));
                super::$case(&crate::sinks::conformance::Db::postgres(name).await).await;
            }
        )* }
    };
}
use on_both;

/// A database of one case, and the way to look into it.
pub(super) enum Db {
    Sqlite { url: String, pool: SqlitePool, _folder: tempfile::TempDir },
    Postgres { url: String, schema: String, pool: PgPool },
}

pub(super) fn postgres_url() -> String {
    std::env::var("SEMEL_TEST_POSTGRES").unwrap_or_else(|_| {
        panic!(
            "this test needs PostgreSQL: set SEMEL_TEST_POSTGRES to the URL that \
             `deploy/postgres start DIR` prints"
        )
    })
}

impl Db {
    pub(super) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("sink.db").display());
        let pool = SqlitePool::connect(&format!("{url}?mode=rwc")).await.unwrap();
        Self::Sqlite { url, pool, _folder: folder }
    }

    /// A fresh schema, named after the case and the process.
    pub(super) async fn postgres(name: &str) -> Self {
        let url = postgres_url();
        let name = name.replace("semel_connectors::sinks::conformance::", "").replace("::", "_");
        let schema = format!("t{}_{name}", std::process::id());
        let schema = schema[..schema.len().min(63)].to_owned();
        let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
        let pool = PgPool::connect_with(options.options([("search_path", &schema)])).await.unwrap();
        let db = Self::Postgres { url, schema: schema.clone(), pool };
        db.exec(&format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE")).await;
        db
    }

    pub(super) fn url(&self) -> &str {
        match self {
            Self::Sqlite { url, .. } | Self::Postgres { url, .. } => url,
        }
    }

    pub(super) fn schema(&self) -> &str {
        match self {
            Self::Sqlite { .. } => "public",
            Self::Postgres { schema, .. } => schema,
        }
    }

    pub(super) fn sink(&self, spec: SinkSpec) -> Arc<dyn Sink> {
        connect(self.url(), self.schema(), spec).unwrap()
    }

    pub(super) async fn ready(&self, spec: SinkSpec) -> Arc<dyn Sink> {
        let sink = self.sink(spec);
        sink.prepare().await.unwrap();
        sink
    }

    pub(super) async fn exec(&self, sql: &str) {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite { pool, .. } => sql.execute(pool).await.map(|_| ()).unwrap(),
            Self::Postgres { pool, .. } => sql.execute(pool).await.map(|_| ()).unwrap(),
        }
    }

    /// The rows of a query over one text column: `SELECT a || ' ' || b …`.
    pub(super) async fn texts(&self, sql: &str) -> Vec<String> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let shown = |text: Option<String>| text.unwrap_or_else(|| "NULL".into());
        match self {
            Self::Sqlite { pool, .. } => {
                sql.fetch_all(pool).await.unwrap().iter().map(|row| shown(row.get(0))).collect()
            }
            Self::Postgres { pool, .. } => {
                sql.fetch_all(pool).await.unwrap().iter().map(|row| shown(row.get(0))).collect()
            }
        }
    }

    pub(super) async fn count(&self, table: &str) -> u64 {
        let found = self.texts(&format!("SELECT CAST(count(*) AS VARCHAR) FROM {table}")).await;
        found[0].parse().unwrap()
    }
}

#[derive(Deserialize)]
struct Shipped {
    sink: Vec<ShippedSink>,
}

#[derive(Deserialize)]
struct ShippedSink {
    name: String,
    topic: TopicName,
    tables: Vec<TableSpec>,
}

/// The sink `<name>-table` of the pipeline that ships. Its settings come from the environment,
/// and in front of the sinks not all of them stand in quotes: only the sinks are read.
pub(super) fn shipped(name: &str) -> SinkSpec {
    let text = include_str!("../../../../deploy/specs/attention-oracle.toml");
    let start = text.find("[[sink]]").unwrap();
    let shipped: Shipped = toml::from_str(&text[start..]).unwrap();
    let name = format!("{name}-table");
    let ShippedSink { name, topic, tables } =
        shipped.sink.into_iter().find(|sink| sink.name == name).unwrap();
    SinkSpec { name, topic, tables }
}

/// Roots and settlements of the mapping that ships, fed from one topic. The child stands first:
/// the order in a mapping decides nothing.
pub(super) fn family() -> SinkSpec {
    let mut spec = shipped("settlements");
    spec.tables.extend(shipped("roots").tables);
    let retract = r#"types = ["root.gone", "settlement.gone"]
        action = "delete""#;
    for table in &mut spec.tables {
        table.retract = Some(toml::from_str(retract).unwrap());
    }
    let own = |gone: &str| vec![gone.to_owned()];
    spec.tables[0].retract.as_mut().unwrap().types = own("settlement.gone");
    spec.tables[1].retract.as_mut().unwrap().types = own("root.gone");
    spec
}

pub(super) fn topic_id() -> TopicId {
    TopicId("first".into())
}

pub(super) fn record(offset: u64, kind: &str, value: &Value) -> Record {
    let mut headers = Headers::new();
    headers.push(header::TYPE, kind);
    Record {
        topic: TopicName::new("t").unwrap(),
        partition: Partition(0),
        offset: Offset(offset),
        timestamp_ms: 1,
        key: Some(b"k".to_vec()),
        value: Some(value.to_string().into_bytes()),
        headers,
    }
}

pub(super) fn claim(offset: u64, id: &str, status: &str) -> Record {
    record(
        offset,
        "claim.state",
        &json!({
            "claim_id": id, "channel": "c", "user": "1".repeat(32), "id": format!("twitch:c:{id}"),
            "amount": "18446744073709551615", "slot": 7, "signature": format!("sig-{id}"),
            "tx_index": 0, "ix_index": 0, "block_time": 1_763_424_000_u64, "status": status, "epoch": 1,
        }),
    )
}

pub(super) fn root(offset: u64, id: &str, status: &str) -> Record {
    record(
        offset,
        "root",
        &json!({
            "root_id": id, "channel": "c", "epoch": 1, "root": "AB".repeat(32), "count": 2,
            "profile": "ao-claim-v0", "finalized_at": 1_763_424_000_123_u64, "status": status,
        }),
    )
}

pub(super) fn settlement(offset: u64, id: &str, root: &str, status: &str) -> Record {
    record(
        offset,
        "settlement",
        &json!({
            "settlement_id": id, "root_id": root, "channel": "c", "epoch": 1, "status": status,
        }),
    )
}

pub(super) fn gone(offset: u64, kind: &str, field: &str, id: &str) -> Record {
    record(offset, kind, &json!({ field: id }))
}

/// The batch that follows `expected` and holds these records.
pub(super) fn batch(expected: Option<u64>, records: Vec<Record>) -> SinkBatch {
    let next = records.last().map_or(expected.unwrap_or(0), |last| last.offset.0 + 1);
    SinkBatch {
        topic: TopicName::new("t").unwrap(),
        topic_id: topic_id(),
        partition: Partition(0),
        expected: expected.map(NextOffset),
        next: NextOffset(next),
        records,
        reported: Vec::new(),
    }
}

/// A write that has to be done: rows, delayed, codes of what was refused with its offset.
pub(super) async fn done(sink: &dyn Sink, batch: &SinkBatch) -> (u64, u64, Vec<(u64, FaultCode)>) {
    match sink.write(batch).await.unwrap() {
        Written::Done { rows, delayed, refused } => {
            let refused = refused.into_iter().map(|(record, fault)| (record.offset.0, fault.code));
            (rows, delayed, refused.collect())
        }
        moved => panic!("{moved:?}"),
    }
}

pub(super) async fn position(sink: &dyn Sink) -> Result<Option<u64>, SinkError> {
    let topic = TopicName::new("t").unwrap();
    let found = sink.position(&topic, &topic_id(), Partition(0)).await?;
    Ok(found.map(|next| next.0))
}
