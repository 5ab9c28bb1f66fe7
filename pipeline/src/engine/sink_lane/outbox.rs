//! The sink lane's side of the outbox: refused records become letters, letters that were told are
//! taken out. When the outbox is read and written is decided by the lane's phases (`mod.rs`).
//!
//! Invariant: an offset is in `Slot::reported` only after the letter's transaction was committed.

use std::sync::Arc;

use semel_connectors::sink::SinkBatch;
use semel_schemas::{
    fault::Fault,
    record::{OutRecord, Record},
    time::WallTime,
    topic::{Offset, Partition},
};

use super::{
    super::{counts::Counts, dead_letter},
    LETTER_MAX, Phase, SinkAsk, SinkLane, looks, next_batch,
};

/// A dead letter that the group was not told yet.
pub(super) struct Letter {
    /// Partition of the refused record.
    pub(super) partition: Partition,
    /// Its offset.
    pub(super) offset: Offset,
    /// The letter.
    pub(super) record: OutRecord,
}

impl SinkLane {
    /// Letters that someone before us, or a lost answer, did not tell.
    pub(super) fn late_letters(&mut self, partition: Partition, found: &[(Record, Fault)]) {
        let Some(at) = self.slots.get(&partition).and_then(|slot| slot.at) else { return };
        if found.is_empty() {
            return;
        }
        tracing::info!(sink = %self.parts.name, %partition, letters = found.len(),
            "telling refused records that were not known to be told");
        let counts = Counts { dead_letters: found.len() as u64, ..Counts::default() };
        self.parts.board.add(&self.parts.name, &counts);
        self.refused(partition, found);
        self.to_commit.entry(partition).or_insert(at);
    }

    pub(super) fn refused(&mut self, partition: Partition, refused: &[(Record, Fault)]) {
        for (record, fault) in refused {
            let to = &self.parts.dead_letter;
            let letter = dead_letter::letter(&self.parts.name, to, record, fault, LETTER_MAX);
            self.letters.push(Letter { partition, offset: record.offset, record: letter });
        }
    }

    /// A batch was committed, and its answer was lost: how many records wait for a parent was in
    /// it, and what was refused. So look once.
    pub(super) fn done_unseen(&mut self, partition: Partition, batch: &SinkBatch, now: WallTime) {
        self.done(partition, batch, 0, 1, &[]);
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.look = Some(now).filter(|_| looks());
            // A tick leaves no trace in the offset row: it may not have happened.
            slot.reported.extend(&batch.reported);
        }
    }

    /// Asks, on leaving partitions, to take out what was told, so that whoever comes does not tell
    /// it again. Nobody waits for the answer: if it comes to nothing, a letter comes twice.
    pub(super) fn take_out(&mut self, partitions: &[Partition], now: WallTime) {
        for partition in partitions {
            let Some(slot) = self.slots.get_mut(partition) else { continue };
            if slot.reported.is_empty() || !matches!(slot.phase, Phase::Idle) {
                continue;
            }
            slot.buffer.clear();
            slot.look = Some(now);
            let batch = next_batch(&self.parts, &self.topic_id, *partition, slot, now);
            if let Some(batch) = batch {
                self.parts.port.ask(*partition, slot.life, SinkAsk::Write(Arc::new(batch)));
            }
        }
    }
}
