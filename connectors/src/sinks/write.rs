//! The sink over a database: the offset row first, by compare-and-set, then the rows, one commit.
//!
//! Invariants: nothing is written before the offset row is ours; what is committed is the rows
//! of exactly the records between the two offsets (as rows, as waiting, or as refused); a commit
//! whose answer is lost is [`SinkError::Unknown`] and never taken for either end.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use semel_schemas::{
    fault::Fault,
    record::Record,
    sabotage::{Sabotage, sabotaged},
    topic::{NextOffset, Partition, TopicId, TopicName},
};

use super::{
    apply::Applier,
    check::{self, Catalog, ColumnInfo},
    mapping::SinkSpec,
    plan::{Op, Plan},
    refused::{self, Place},
    session::{Backend, DbError, Rows, Session},
    sql::Dialect,
};
use crate::sink::{Sink, SinkBatch, SinkError, Written};

/// A sink over a database.
pub(super) struct SqlSink {
    backend: Box<dyn Backend>,
    spec: SinkSpec,
    plan: RwLock<Option<Arc<Plan>>>,
}

impl fmt::Debug for SqlSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlSink").field("name", &self.spec.name).finish_non_exhaustive()
    }
}

/// An offset row.
struct Row {
    topic_id: String,
    next: NextOffset,
}

impl SqlSink {
    /// A sink that is not connected yet.
    pub(super) fn new(backend: Box<dyn Backend>, spec: SinkSpec) -> Self {
        Self { backend, spec, plan: RwLock::new(None) }
    }

    fn dialect(&self) -> &Dialect {
        self.backend.dialect()
    }

    async fn plan(&self) -> Result<Arc<Plan>, SinkError> {
        let plan = self.plan.read().unwrap_or_else(PoisonError::into_inner).clone();
        match plan {
            Some(plan) => Ok(plan),
            None => self.compile().await,
        }
    }

    async fn compile(&self) -> Result<Arc<Plan>, SinkError> {
        let mut session = self.backend.begin().await?;
        let read = self.read_catalog(session.as_mut()).await.map_err(DbError::into_sink);
        session.rollback().await;
        let (catalog, waiting) = read?;
        let plan =
            check::compile(&self.spec, &catalog, self.dialect()).map_err(SinkError::Refused)?;
        if let Some(table) =
            waiting.iter().find(|name| plan.tables.iter().all(|t| t.spec.table != **name))
        {
            return Err(SinkError::Refused(format!(
                "sink `{}`: {} holds records for table {table}, which the mapping no longer names: put the table back, or delete those rows",
                self.spec.name,
                self.dialect().place("semel_delayed")
            )));
        }
        let plan = Arc::new(plan);
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&plan));
        Ok(plan)
    }

    async fn read_catalog(
        &self,
        session: &mut dyn Session,
    ) -> Result<(Catalog, Vec<String>), DbError> {
        let dialect = self.dialect();
        let schema = match dialect {
            Dialect::Postgres { schema } => schema.as_str(),
            Dialect::Sqlite | Dialect::Memory => "main",
        };
        let mut catalog = Catalog::default();
        for row in session.fetch(dialect.columns(), Rows::one([schema])).await? {
            let [table, column, declared, nullable, filled] =
                <[_; 5]>::try_from(row).unwrap_or_default().map(Option::unwrap_or_default);
            let info =
                ColumnInfo { declared, nullable: nullable == "YES", filled: filled == "YES" };
            catalog.tables.entry(table).or_default().insert(column, info);
        }
        let unique = session.fetch(dialect.unique(), Rows::one([schema])).await?;
        catalog.unique = unique.into_iter().flatten().flatten().collect();
        let waiting =
            session.fetch(dialect.delayed_targets(), Rows::one([&self.spec.name])).await?;
        Ok((catalog, waiting.into_iter().flatten().flatten().collect()))
    }

    async fn row(
        &self,
        session: &mut dyn Session,
        sql: String,
        topic: &TopicName,
        partition: Partition,
    ) -> Result<Option<Row>, DbError> {
        let rows = Rows::one([&self.spec.name, topic.as_str(), &partition.to_string()]);
        let found = session.fetch(sql, rows).await?.into_iter().next();
        Ok(found.and_then(|mut row| {
            let (next, topic_id) = (row.pop()??, row.pop()??);
            Some(Row { topic_id, next: NextOffset(next.parse().ok()?) })
        }))
    }

    fn of_topic(
        &self,
        row: Option<Row>,
        topic: &TopicName,
        topic_id: &TopicId,
        partition: Partition,
    ) -> Result<Option<NextOffset>, SinkError> {
        match row {
            Some(row) if row.topic_id != topic_id.0 => Err(SinkError::Refused(format!(
                "sink `{}`: {} says that partition {partition} of `{topic}` was written up to {} of a topic with id {}, \
                 and the topic of that name has id {} now: it was created anew; \
                 delete that row to read the new topic from its start",
                self.spec.name,
                self.dialect().place("semel_offsets"),
                row.next,
                row.topic_id,
                topic_id.0
            ))),
            row => Ok(row.map(|row| row.next)),
        }
    }

    /// Advances the offset row; whether it held what was expected.
    async fn advance(&self, session: &mut dyn Session, batch: &SinkBatch) -> Result<bool, DbError> {
        let dialect = self.dialect();
        let (partition, next) = (batch.partition.to_string(), batch.next.to_string());
        let (sink, topic, id) = (&*self.spec.name, batch.topic.as_str(), &*batch.topic_id.0);
        let Some(expected) = batch.expected else {
            let rows = Rows::one([sink, topic, &partition, id, &next]);
            return Ok(session.run(dialect.first_offset(), rows).await? == 1);
        };
        // A tick changes nothing and yet holds the lock, so that a zombie's is worth nothing.
        if expected == batch.next {
            let sql = dialect.position_locked();
            let row = self.row(session, sql, &batch.topic, batch.partition).await?;
            return Ok(row.is_some_and(|r| r.next == expected && r.topic_id == batch.topic_id.0));
        }
        let expected = expected.to_string();
        let rows = Rows::one([sink, topic, &partition, id, &next, &expected]);
        Ok(session.run(dialect.advance(), rows).await? == 1)
    }

    /// The rows of a batch whose offset row is ours.
    async fn rows(
        &self,
        session: &mut dyn Session,
        plan: &Plan,
        batch: &SinkBatch,
        Planned { ops, mut refused }: Planned,
    ) -> Result<Written, DbError> {
        let mut applier = Applier { plan, dialect: self.dialect(), session };
        // First: a record that was told may be refused again, by another table.
        applier.reported(batch).await?;
        let before = applier.delayed(batch).await?;
        let blocked = match before {
            0 => HashSet::new(),
            _ => applier.blocked(batch, &ops).await?,
        };
        let work = applier.apply(ops, blocked).await?;
        let told = work.refused.into_iter();
        refused.extend(told.map(|(index, fault)| (batch.records[index].clone(), fault)));
        if !work.waiting.is_empty() {
            applier.delay(batch, &work.waiting).await?;
        }
        let (mut rows, mut delayed) = (work.rows, 0);
        if before > 0 || !work.waiting.is_empty() {
            let released = applier.release(batch).await?;
            rows += released.rows;
            refused.extend(released.refused);
            delayed = applier.delayed(batch).await?;
        }
        applier.refuse(batch, &refused).await?;
        Ok(Written::Done { rows, delayed, refused })
    }

    /// All of a write but its commit.
    async fn transaction(
        &self,
        session: &mut dyn Session,
        plan: &Plan,
        batch: &SinkBatch,
        planned: Planned,
    ) -> Result<Written, SinkError> {
        let ours = self.advance(session, batch).await.map_err(DbError::into_sink)?;
        if ours || sabotaged(Sabotage::SinkWithoutCompareAndSet) {
            let written = self.rows(session, plan, batch, planned).await;
            return written.map_err(DbError::into_sink);
        }
        let sql = self.dialect().position();
        let row = self.row(session, sql, &batch.topic, batch.partition).await;
        let row = row.map_err(DbError::into_sink)?;
        let found = self.of_topic(row, &batch.topic, &batch.topic_id, batch.partition)?;
        Ok(Written::Moved { found })
    }
}

/// What a batch asks for, before the database has seen it.
#[derive(Default)]
struct Planned {
    ops: Vec<Op>,
    refused: Vec<(Record, Fault)>,
}

impl Planned {
    fn new(plan: &Plan, batch: &SinkBatch) -> Self {
        let mut planned = Self::default();
        for (index, record) in batch.records.iter().enumerate() {
            match plan.ops(index, record, None) {
                Ok(found) => planned.ops.extend(found),
                Err(fault) => planned.refused.push((record.clone(), fault)),
            }
        }
        planned
    }
}

#[async_trait]
impl Sink for SqlSink {
    async fn prepare(&self) -> Result<(), SinkError> {
        self.backend.migrate().await?;
        self.compile().await.map(|_| ())
    }

    async fn position(
        &self,
        topic: &TopicName,
        topic_id: &TopicId,
        partition: Partition,
    ) -> Result<Option<NextOffset>, SinkError> {
        let mut session = self.backend.begin().await?;
        // Locked, so that a transaction whose end is not known yet is waited for.
        let sql = self.dialect().position_locked();
        let row = self.row(session.as_mut(), sql, topic, partition).await;
        session.rollback().await;
        self.of_topic(row.map_err(DbError::into_sink)?, topic, topic_id, partition)
    }

    async fn unreported(
        &self,
        topic: &TopicName,
        topic_id: &TopicId,
        partition: Partition,
    ) -> Result<Vec<(Record, Fault)>, SinkError> {
        let mut session = self.backend.begin().await?;
        let place = Place { sink: &self.spec.name, topic, topic_id, partition };
        let found = refused::unreported(self.dialect(), session.as_mut(), place).await;
        session.rollback().await;
        found.map_err(DbError::into_sink)
    }

    async fn write(&self, batch: &SinkBatch) -> Result<Written, SinkError> {
        let plan = self.plan().await?;
        // Before the transaction: it is to hold its locks no longer than it has to.
        let planned = Planned::new(&plan, batch);
        let mut session = self.backend.begin().await?;
        match self.transaction(session.as_mut(), &plan, batch, planned).await {
            Ok(done @ Written::Done { .. }) => session.commit().await.map(|()| done),
            Ok(moved) => {
                session.rollback().await;
                Ok(moved)
            }
            Err(error) => {
                session.rollback().await;
                Err(error)
            }
        }
    }
}
