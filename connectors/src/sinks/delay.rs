//! Records that wait for a parent row: table `semel_delayed`, in the sink's own transactions.
//!
//! Lives here: how a record is kept there, and its way in and out. May not live here: what a
//! record means for a row (`plan.rs`, `apply.rs`).
//! Invariants: a record leaves the table only as a row or as refused, in the transaction that
//! makes it so; the records of one row are tried in order, from the oldest; a write tries a
//! bounded number.

use std::collections::HashSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use semel_schemas::{
    fault::{Fault, FaultCode},
    header::Headers,
    record::Record,
    topic::{Offset, Partition, TopicName},
};
use serde::{Deserialize, Serialize};

use super::{
    apply::{Applier, RowKey, Waiting},
    cell::Cell,
    plan::Op,
    session::{DbError, Rows},
};
use crate::sink::{SinkBatch, SinkError};

/// Records that one write tries at a time, and how often: enough to catch up in seconds, and
/// few enough that a write's transaction stays short.
const TRIED_AT_ONCE: usize = 1000;
const TRIES: usize = 4;

/// What happened to records that waited.
#[derive(Debug, Default)]
pub(super) struct Released {
    /// Rows changed.
    pub(super) rows: u64,
    /// Records that fit no row after all.
    pub(super) refused: Vec<(Record, Fault)>,
}

/// The rest of a record, beside its place: the form in column `record`.
#[derive(Serialize, Deserialize)]
struct Kept {
    timestamp_ms: u64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(String, Bytes)>,
}

/// Bytes as people read them, if they are text.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Bytes {
    Text(String),
    Base64(String),
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode(bytes)),
        }
    }
}

impl Bytes {
    fn bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Base64(text) => STANDARD.decode(text).map_err(|error| error.to_string()),
        }
    }
}

/// A record beside its place, as column `record` holds it.
pub(super) fn keep(record: &Record) -> String {
    let kept = Kept {
        timestamp_ms: record.timestamp_ms,
        key: record.key.as_deref().map(Bytes::from),
        value: record.value.as_deref().map(Bytes::from),
        headers: record.headers.iter().map(|(n, v)| (n.to_owned(), Bytes::from(v))).collect(),
    };
    serde_json::to_string(&kept).expect("a struct of texts has a JSON form")
}

/// The record of a place and a column `record`.
pub(super) fn unkeep(
    topic: &TopicName,
    partition: Partition,
    offset: &str,
    text: &str,
) -> Result<Record, String> {
    let kept: Kept = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let headers = kept.headers.into_iter().map(|(name, value)| Ok((name, value.bytes()?)));
    Ok(Record {
        topic: topic.clone(),
        partition,
        offset: Offset(offset.parse().map_err(|_| format!("offset `{offset}` is no number"))?),
        timestamp_ms: kept.timestamp_ms,
        key: kept.key.map(Bytes::bytes).transpose()?,
        value: kept.value.map(Bytes::bytes).transpose()?,
        headers: headers.collect::<Result<Headers, String>>()?,
    })
}

impl Applier<'_> {
    fn place(&self, batch: &SinkBatch) -> [Cell; 3] {
        [self.plan.spec.name.clone(), batch.topic.to_string(), batch.partition.to_string()]
            .map(Some)
    }

    /// How many records of the batch's partition wait.
    pub(super) async fn delayed(&mut self, batch: &SinkBatch) -> Result<u64, DbError> {
        let mut rows = Rows::new(3);
        rows.push(self.place(batch));
        let found = self.session.fetch(self.dialect.delayed_count(), rows).await?;
        let count = found.into_iter().flatten().flatten().next();
        Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
    }

    /// The rows among those of `ops` for which records wait.
    pub(super) async fn blocked(
        &mut self,
        batch: &SinkBatch,
        ops: &[Op],
    ) -> Result<HashSet<RowKey>, DbError> {
        let keys: HashSet<_> = ops.iter().map(|op| (op.table, op.key.as_str())).collect();
        let mut rows = Rows::new(5);
        for (table, key) in keys {
            let target = self.plan.tables[table].spec.table.clone();
            rows.push(self.place(batch).into_iter().chain([Some(target), Some(key.to_owned())]));
        }
        if rows.len() == 0 {
            return Ok(HashSet::new());
        }
        let found = self.session.fetch(self.dialect.delayed_keys(), rows).await?;
        Ok(found
            .into_iter()
            .filter_map(|mut row| {
                let (key, target) = (row.pop()??, row.pop()??);
                Some((self.table_named(&target)?, key))
            })
            .collect())
    }

    fn table_named(&self, name: &str) -> Option<usize> {
        self.plan.tables.iter().position(|table| table.spec.table == name)
    }

    /// Puts operations of the batch's records aside.
    pub(super) async fn delay(
        &mut self,
        batch: &SinkBatch,
        waiting: &[Waiting],
    ) -> Result<(), DbError> {
        let mut rows = Rows::new(9);
        for Waiting { op, parent } in waiting {
            let record = &batch.records[op.record];
            let (table, key) = parent.clone().unzip();
            rows.push(self.place(batch).into_iter().chain([
                Some(record.offset.to_string()),
                Some(self.plan.tables[op.table].spec.table.clone()),
                Some(op.key.clone()),
                table,
                key,
                Some(keep(record)),
            ]));
        }
        self.session.run(self.dialect.delay(), rows).await.map(|_| ())
    }

    /// Tries what waits and has its parent now.
    pub(super) async fn release(&mut self, batch: &SinkBatch) -> Result<Released, DbError> {
        let mut released = Released::default();
        for _ in 0..TRIES {
            let mut rows = Rows::new(3);
            rows.push(self.place(batch));
            let sql = self.dialect.releasable(self.plan, TRIED_AT_ONCE);
            let found = self.session.fetch(sql, rows).await?;
            if found.is_empty() {
                break;
            }
            self.retry(batch, found, &mut released).await?;
        }
        Ok(released)
    }

    async fn retry(
        &mut self,
        batch: &SinkBatch,
        found: Vec<Vec<Cell>>,
        released: &mut Released,
    ) -> Result<(), DbError> {
        let (mut records, mut targets, mut ops) = (Vec::new(), Vec::new(), Vec::new());
        for mut row in found {
            let (Some(Some(text)), Some(Some(target)), Some(Some(offset))) =
                (row.pop(), row.pop(), row.pop())
            else {
                continue;
            };
            let record = unkeep(&batch.topic, batch.partition, &offset, &text).map_err(|error| {
                SinkError::Refused(format!(
                    "{} holds a record of {}/{}/{offset} that cannot be read ({error}): correct or delete that row",
                    self.dialect.place("semel_delayed"), batch.topic, batch.partition
                ))
            })?;
            // Cannot be: the query names the mapping's tables only.
            let Some(table) = self.table_named(&target) else { continue };
            match self.plan.ops(records.len(), &record, Some(table)) {
                Ok(found) if !found.is_empty() => ops.extend(found),
                Ok(_) => released.refused.push((
                    record.clone(),
                    Fault::new(
                        FaultCode::UnknownType,
                        format!("the mapping of table {target} no longer names this record's type"),
                    ),
                )),
                Err(fault) => released.refused.push((record.clone(), fault)),
            }
            records.push(record);
            targets.push(target);
        }
        let work = self.apply(ops, HashSet::new()).await?;
        released.rows += work.rows;
        let refused = work.refused.into_iter();
        released.refused.extend(refused.map(|(index, fault)| (records[index].clone(), fault)));
        self.settle(batch, &records, &targets, &work.waiting).await
    }

    /// Takes out what was tried, except what waits for another parent.
    async fn settle(
        &mut self,
        batch: &SinkBatch,
        records: &[Record],
        targets: &[String],
        waiting: &[Waiting],
    ) -> Result<(), DbError> {
        let still: HashSet<_> = waiting.iter().map(|waiting| waiting.op.record).collect();
        let (mut gone, mut again) = (Rows::new(5), Rows::new(7));
        let entry =
            |index: usize| [Some(records[index].offset.to_string()), Some(targets[index].clone())];
        for index in (0..records.len()).filter(|index| !still.contains(index)) {
            gone.push(self.place(batch).into_iter().chain(entry(index)));
        }
        for Waiting { op, parent } in waiting {
            let (table, key) = parent.clone().unzip();
            again.push(self.place(batch).into_iter().chain(entry(op.record)).chain([table, key]));
        }
        if gone.len() > 0 {
            self.session.run(self.dialect.release(), gone).await?;
        }
        if again.len() > 0 {
            self.session.run(self.dialect.delay_again(), again).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_record_comes_back_as_it_was() {
        let topic = TopicName::new("t").unwrap();
        let mut headers = Headers::new();
        headers.push("semel-type", "x");
        headers.push("raw", vec![0xff, 0]);
        let record = Record {
            topic: topic.clone(),
            partition: Partition(3),
            offset: Offset(9),
            timestamp_ms: 7,
            key: Some(vec![0xc3, 0x28]),
            value: Some(b"{}".to_vec()),
            headers,
        };
        assert_eq!(unkeep(&topic, Partition(3), "9", &keep(&record)).unwrap(), record);
        assert!(unkeep(&topic, Partition(3), "9", "{}").is_err());
    }
}
