//! Taking a partition over from a lane that did not hand it over: it crashed, or stands still.
//!
//! What such a lane leaves is an open transaction: the group's offset is undecided, and no reader
//! of its output topics gets past it. A broker aborts it after the transaction's timeout, but looks
//! for late ones only every 10 s by default (`transaction.abort.timed.out.transaction.cleanup.
//! interval.ms`), so a shorter timeout would not help. The new owner knows better: the group gave
//! it the partition. So it fences the lane that bore it last ([`Log::fence`]), as Flink and
//! Kafka Streams do with their own ids, and goes on at once.
//!
//! Who bore it is in the state: each transaction writes its lane's transactional id into each task
//! that it touches, a lane that hands over erases it. An unfinished transaction is looked at in the
//! changelog's undecided end.
//!
//! Invariants: nothing rests on this for being right: offsets are fenced by the group, and fencing
//! somebody who is alive costs that one an abort and a restore. A lane that handed over is not
//! fenced; one that did not, once for each time that its partitions come to us.

use std::time::Duration;

use semel_schemas::{
    sabotage::{Sabotage, sabotaged},
    time::WallTime,
    topic::{NextOffset, Partition},
};

use super::{super::task, Lane, RESTORE_AGAIN_MS, Slot};
use crate::log::{Isolation, LogError, Reader};

/// Records of the changelog's undecided end that are looked at in one cycle.
const SLICE: usize = 2_000;

/// A partition that came to us, and what is known of its last bearer.
#[derive(Default)]
pub(super) struct Arrival {
    at: WallTime,
    /// A look at the undecided end of the changelog that is under way.
    tail: Option<Tail>,
    /// No look before this time.
    again_at: WallTime,
}

struct Tail {
    reader: Box<dyn Reader>,
    end: NextOffset,
    /// What the last record of a task said of its bearer.
    bearer: Option<String>,
}

impl Lane {
    /// Notes that partitions came to us.
    pub(super) fn arrived(&mut self, partitions: &[Partition], now: WallTime) {
        self.rebalanced_at = Some(now);
        for partition in partitions {
            self.arrivals.insert(*partition, Arrival { at: now, ..Arrival::default() });
        }
    }

    /// Before partitions are handed over: their next commit, which this makes necessary, says that
    /// nobody bears them.
    pub(super) fn say_farewell(&mut self, partitions: &[Partition], now: WallTime) {
        for partition in partitions {
            if let Some(Slot::Active(active)) = self.slots.get_mut(partition) {
                active.leaving = true;
                active.task.touch();
                self.open_since.get_or_insert(now);
            }
        }
    }

    /// A restore stands still because something is undecided: looks who left it, and ends it.
    pub(super) fn end_undecided(&mut self, partition: Partition, now: WallTime) {
        let Some(arrival) = self.arrivals.get_mut(&partition) else { return };
        if now < arrival.again_at {
            return;
        }
        let bearer = match look(&self.parts, partition, &mut arrival.tail) {
            Ok(None) => return,
            Ok(Some(bearer)) => bearer,
            Err(error) => {
                tracing::debug!(%error, "the undecided end of the changelog cannot be read");
                None
            }
        };
        arrival.tail = None;
        arrival.again_at = now.plus_ms(RESTORE_AGAIN_MS);
        if let Some(bearer) = bearer {
            self.fence(partition, &bearer, now);
        }
    }

    /// Fences who bore a partition before us, unless that was done since it came to us.
    pub(super) fn fence(&mut self, partition: Partition, bearer: &str, now: WallTime) {
        let since = self.arrivals.get(&partition).map_or(now, |arrival| arrival.at);
        let done = self.fenced.get(bearer).is_some_and(|at| *at >= since);
        // What the group guards against is to be seen.
        if sabotaged(Sabotage::CommitWithoutOffsets) || sabotaged(Sabotage::OffsetsOfNoGeneration) {
            return;
        }
        if bearer == self.parts.member.instance || done {
            return;
        }
        tracing::info!(group = %self.parts.member.group, %partition, bearer,
            "not handed over: ending what its bearer left open");
        match self.parts.log.fence(bearer) {
            Ok(()) => {
                self.fenced.insert(bearer.to_owned(), now);
            }
            // Then the broker ends it, later.
            Err(error) => tracing::warn!(%error, bearer, "its transaction cannot be ended"),
        }
    }
}

/// Reads on in the undecided end; the last bearer's name once it is read.
fn look(
    parts: &super::LaneParts,
    partition: Partition,
    tail: &mut Option<Tail>,
) -> Result<Option<Option<String>>, LogError> {
    let changelog = &parts.stage.changelog.name;
    if tail.is_none() {
        let (_, stable) = parts.log.reader(Isolation::Committed)?.bounds(changelog, partition)?;
        let mut reader = parts.log.reader(Isolation::Uncommitted)?;
        let (_, end) = reader.bounds(changelog, partition)?;
        reader.seek(changelog, partition, stable)?;
        *tail = Some(Tail { reader, end, bearer: None });
    }
    let Some(tail) = tail else { return Ok(None) };
    if tail.reader.position()? < tail.end {
        for record in tail.reader.read(SLICE, Duration::ZERO)? {
            if let Some(bearer) = task::bearer_in(&record) {
                tail.bearer = bearer;
            }
        }
    }
    Ok((tail.reader.position()? >= tail.end).then(|| tail.bearer.clone()))
}
