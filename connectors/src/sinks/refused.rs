//! The outbox of dead letters: table `semel_refused`, in the sink's own transactions.
//!
//! Lives here: how a refused record comes into the table, how it is read again, and how it goes
//! once its dead letter is in the log. May not live here: why a record is refused (`plan.rs`,
//! `apply.rs`), the letter itself (that is the engine's).
//! Invariants: a record that is refused is in the table when the transaction that refused it is
//! committed, and no other is; a row goes only by its exact offset, for a record that waited may
//! be refused long after younger ones were told. A record that two tables refuse is one row, as
//! it is one dead letter.

use semel_schemas::{
    fault::{Fault, FaultCode},
    record::Record,
    topic::{Partition, TopicId, TopicName},
};

use super::{
    apply::Applier,
    cell::Cell,
    delay::{keep, unkeep},
    session::{DbError, Rows, Session},
    sql::Dialect,
};
use crate::sink::{SinkBatch, SinkError};

/// Records that are read at a time: each may have a megabyte.
const READ_MAX: usize = 100;
/// Bytes of records that one statement takes: far below what a database takes as one value.
const STATEMENT_BYTES: usize = 16 << 20;

/// Whose outbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// Sink's name in the spec.
    pub(super) sink: &'a str,
    /// Topic.
    pub(super) topic: &'a TopicName,
    /// Its incarnation.
    pub(super) topic_id: &'a TopicId,
    /// Partition.
    pub(super) partition: Partition,
}

impl Place<'_> {
    fn cells(&self) -> [Cell; 4] {
        [
            self.sink.to_owned(),
            self.topic.to_string(),
            self.partition.to_string(),
            self.topic_id.0.to_string(),
        ]
        .map(Some)
    }
}

impl Applier<'_> {
    fn outbox<'b>(&'b self, batch: &'b SinkBatch) -> Place<'b> {
        Place {
            sink: &self.plan.spec.name,
            topic: &batch.topic,
            topic_id: &batch.topic_id,
            partition: batch.partition,
        }
    }

    /// Takes out what the log holds as dead letters.
    pub(super) async fn reported(&mut self, batch: &SinkBatch) -> Result<(), DbError> {
        if batch.reported.is_empty() {
            return Ok(());
        }
        let mut rows = Rows::new(5);
        let place = self.outbox(batch).cells();
        for offset in &batch.reported {
            rows.push(place.clone().into_iter().chain([Some(offset.to_string())]));
        }
        self.session.run(self.dialect.reported(), rows).await.map(|_| ())
    }

    /// Puts in what was refused.
    pub(super) async fn refuse(
        &mut self,
        batch: &SinkBatch,
        refused: &[(Record, Fault)],
    ) -> Result<(), DbError> {
        let place = self.outbox(batch).cells();
        let (mut rows, mut bytes) = (Rows::new(8), 0);
        for (record, fault) in refused {
            let kept = keep(record);
            bytes += kept.len() + fault.text.len();
            rows.push(place.clone().into_iter().chain([
                Some(record.offset.to_string()),
                Some(fault.code.text().to_owned()),
                // A reason may quote what no database takes as text.
                Some(fault.text.replace('\0', "\u{fffd}")),
                Some(kept),
            ]));
            if bytes >= STATEMENT_BYTES {
                let full = std::mem::replace(&mut rows, Rows::new(8));
                self.session.run(self.dialect.refuse(), full).await?;
                bytes = 0;
            }
        }
        if rows.len() > 0 {
            self.session.run(self.dialect.refuse(), rows).await?;
        }
        Ok(())
    }
}

/// The oldest refused records of a partition that no one has told yet.
pub(super) async fn unreported(
    dialect: &Dialect,
    session: &mut dyn Session,
    place: Place<'_>,
) -> Result<Vec<(Record, Fault)>, DbError> {
    let mut rows = Rows::new(4);
    rows.push(place.cells());
    let found = session.fetch(dialect.unreported(READ_MAX), rows).await?;
    found.into_iter().map(|row| read(dialect, place, row).map_err(DbError::from)).collect()
}

fn read(dialect: &Dialect, place: Place<'_>, row: Vec<Cell>) -> Result<(Record, Fault), SinkError> {
    let [offset, code, reason, record] =
        <[Cell; 4]>::try_from(row).unwrap_or_default().map(Option::unwrap_or_default);
    let wrong = |what: String| {
        SinkError::Refused(format!(
            "{} holds a refused record of {}/{}/{offset} that cannot be read ({what}): correct that row, or delete it to go without its dead letter",
            dialect.place("semel_refused"),
            place.topic,
            place.partition
        ))
    };
    let known = FaultCode::ALL.iter().copied().find(|known| known.text() == code);
    let code = known.ok_or_else(|| wrong(format!("`{code}` is no code of a fault")))?;
    let record = unkeep(place.topic, place.partition, &offset, &record).map_err(wrong)?;
    Ok((record, Fault::new(code, reason)))
}
