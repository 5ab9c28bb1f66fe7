//! One partition: entries at growing offsets, markers among them, what is stable, compaction.
//!
//! Invariants: offsets grow and are never given twice; a marker takes an offset of its own; a
//! committed reader is never shown an entry at or beyond the last stable offset.

use std::collections::{BTreeMap, VecDeque};

use semel_schemas::{
    header::Headers,
    record::{OutRecord, Record},
    topic::{Offset, Partition, TopicName},
};

use crate::log::Isolation;

/// A transaction's number, unique in the cluster.
pub(super) type TxnId = u64;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its records are visible.
    Commit,
    /// Its records never are.
    Abort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Committed,
    Aborted,
    /// Not a record: the end of a transaction.
    Marker,
}

#[derive(Debug)]
struct Entry {
    offset: u64,
    at_ms: u64,
    txn: TxnId,
    fate: Fate,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Headers,
    /// A tombstone that a compaction has met may go from this time on (Kafka's delete horizon).
    horizon_ms: Option<u64>,
}

/// The log of one partition.
#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    entries: VecDeque<Entry>,
    /// First offset that is held.
    first: u64,
    /// High watermark: the offset of the next entry.
    end: u64,
    /// Open transactions with their first offsets; few.
    open: Vec<(TxnId, u64)>,
}

impl PartitionLog {
    /// First offset held.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// High watermark.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Last stable offset: no open transaction has an entry before it.
    pub(super) fn stable(&self) -> u64 {
        self.open.iter().map(|&(_, first)| first).min().unwrap_or(self.end)
    }

    /// Whether a committed record stands behind an open transaction, where no reader of committed
    /// records sees it.
    pub(super) fn hides(&self) -> bool {
        let undecided = !self.open.is_empty();
        undecided
            && self.entries.range(self.index(self.stable())..).any(|e| e.fate == Fate::Committed)
    }

    /// The end as this isolation sees it.
    pub(super) fn end_for(&self, isolation: Isolation) -> u64 {
        match isolation {
            Isolation::Committed => self.stable(),
            Isolation::Uncommitted => self.end,
        }
    }

    /// Appends a record of an open transaction.
    pub(super) fn write(&mut self, txn: TxnId, record: OutRecord, now_ms: u64) -> u64 {
        let offset = self.end;
        if !self.open.iter().any(|&(t, _)| t == txn) {
            self.open.push((txn, offset));
        }
        self.push(Entry {
            offset,
            at_ms: now_ms,
            txn,
            fate: Fate::Open,
            key: record.key,
            value: record.value,
            headers: record.headers,
            horizon_ms: None,
        });
        offset
    }

    fn push(&mut self, entry: Entry) {
        self.end += 1;
        self.entries.push_back(entry);
    }

    fn index(&self, offset: u64) -> usize {
        self.entries.partition_point(|e| e.offset < offset)
    }

    /// The transaction's marker arrives here: its records are decided.
    pub(super) fn mark(&mut self, txn: TxnId, verdict: Verdict, now_ms: u64) {
        let Some(at) = self.open.iter().position(|&(t, _)| t == txn) else { return };
        let (_, first) = self.open.swap_remove(at);
        let from = self.index(first);
        let fate = match verdict {
            Verdict::Commit => Fate::Committed,
            Verdict::Abort => Fate::Aborted,
        };
        for entry in self.entries.range_mut(from..) {
            if entry.txn == txn && entry.fate == Fate::Open {
                entry.fate = fate;
            }
        }
        self.push(Entry {
            offset: self.end,
            at_ms: now_ms,
            txn,
            fate: Fate::Marker,
            key: None,
            value: None,
            headers: Headers::new(),
            horizon_ms: None,
        });
    }

    /// Hands up to `max` records from `from` on to `take` and returns where reading goes on:
    /// behind markers, and behind aborted and compacted records as far as they were met.
    pub(super) fn read(
        &self,
        place: (&TopicName, Partition),
        from: u64,
        isolation: Isolation,
        max: usize,
        mut take: impl FnMut(Record),
    ) -> u64 {
        let limit = self.end_for(isolation);
        if from >= limit {
            return from;
        }
        let mut left = max;
        for entry in self.entries.range(self.index(from)..) {
            if entry.offset >= limit {
                break;
            }
            let seen = match entry.fate {
                Fate::Marker => false,
                Fate::Committed => true,
                Fate::Open | Fate::Aborted => isolation == Isolation::Uncommitted,
            };
            if !seen {
                continue;
            }
            if left == 0 {
                return entry.offset;
            }
            left -= 1;
            take(Record {
                topic: place.0.clone(),
                partition: place.1,
                offset: Offset(entry.offset),
                timestamp_ms: entry.at_ms,
                key: entry.key.clone(),
                value: entry.value.clone(),
                headers: entry.headers.clone(),
            });
        }
        limit
    }

    /// Deletes what lies before `before`, as retention does.
    pub(super) fn expire(&mut self, before: u64) {
        let before = before.min(self.end);
        if before <= self.first {
            return;
        }
        self.first = before;
        let gone = self.index(before);
        self.entries.drain(..gone);
        for (_, first) in &mut self.open {
            *first = (*first).max(before);
        }
    }

    /// Deletes the leading entries that were written before `deadline_ms` and are decided.
    pub(super) fn expire_older(&mut self, deadline_ms: u64) {
        let stable = self.stable();
        let old = self.entries.partition_point(|e| e.at_ms < deadline_ms && e.offset < stable);
        let before = self.entries.get(old).map_or(stable, |e| e.offset.min(stable));
        self.expire(before);
    }

    /// Keeps the last committed record of each key below the last stable offset. A tombstone that
    /// is met for the first time may go once `tombstone_ms` have passed from now.
    pub(super) fn compact(&mut self, now_ms: u64, tombstone_ms: u64) {
        let stable = self.stable();
        let decided = self.index(stable);
        let mut last: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for entry in self.entries.range(..decided) {
            if let (Fate::Committed, Some(key)) = (entry.fate, &entry.key) {
                last.insert(key.clone(), entry.offset);
            }
        }
        self.entries.retain_mut(|entry| {
            if entry.offset >= stable {
                return true;
            }
            let newest = entry.fate == Fate::Committed
                && entry.key.as_ref().and_then(|k| last.get(k)) == Some(&entry.offset);
            if newest && entry.value.is_none() {
                let horizon = *entry.horizon_ms.get_or_insert(now_ms.saturating_add(tombstone_ms));
                return now_ms < horizon;
            }
            newest
        });
    }
}
