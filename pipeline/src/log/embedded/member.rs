//! A member of a group with its producer, and a reader without a group.
//!
//! A transaction is a list in memory until it is committed, so nobody sees an open one, it holds
//! nobody up, and it needs no timeout: `MemberSpec::transaction_timeout` has no meaning here.
//!
//! Invariants: a member yields records only of partitions that it owns, started and not paused;
//! after a failed commit nothing is committed before [`Member::abort`] or [`Member::init`].

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use semel_schemas::{
    partition::partition_for_key,
    record::{OutRecord, Record},
    topic::{NextOffset, Partition, TopicName},
};

use super::{
    Inner, RECORD_MAX, TRANSACTION_MAX,
    commits::{Job, Offsets, Write},
    groups::{Answer, GroupKey, MemberId},
    layout,
    store::Topic,
};
use crate::log::{
    Event, LogError, Member, MemberSpec, OutParts, ProduceError, Reader, TxnError, TxnFault,
};

/// A member.
#[derive(Debug)]
pub(super) struct EmbeddedMember {
    inner: Arc<Inner>,
    topic: Arc<Topic>,
    key: GroupKey,
    instance: String,
    id: MemberId,
    /// Of the transactional id; `None` until `init`.
    epoch: Option<u64>,
    transaction: Transaction,
    cursors: BTreeMap<Partition, Cursor>,
    /// Which partition is asked first; moves, so that none starves.
    turn: usize,
    without_key: u32,
    left: bool,
}

#[derive(Debug, Default)]
struct Transaction {
    writes: Vec<Write>,
    bytes: usize,
    /// A commit failed: everything is refused until it is aborted.
    broken: bool,
}

#[derive(Debug, Default)]
struct Cursor {
    next: Option<NextOffset>,
    paused: bool,
    /// To be given up, or lost already.
    ending: bool,
    /// The end that was told last.
    told: Option<NextOffset>,
}

impl EmbeddedMember {
    pub(super) fn join(inner: Arc<Inner>, spec: &MemberSpec) -> Result<Self, LogError> {
        let topic = inner.store.topic(&spec.topic)?;
        inner.admin.register(&inner.store, &spec.group, &topic)?;
        let key = (spec.group.clone(), topic.number);
        let id = inner.groups().join(
            &key,
            topic.partitions(),
            &spec.instance,
            spec.session_timeout,
            Instant::now(),
        );
        inner.store.signal.ring();
        Ok(Self {
            inner,
            topic,
            key,
            instance: spec.instance.clone(),
            id,
            epoch: None,
            transaction: Transaction::default(),
            cursors: BTreeMap::new(),
            turn: 0,
            without_key: 0,
            left: false,
        })
    }

    fn replaced(&self) -> LogError {
        LogError::Refused(format!(
            "another member joined group `{}` as `{}`, or this one left: join anew under an \
             instance of its own",
            self.key.0, self.instance
        ))
    }

    fn ours(&mut self, partition: Partition) -> Result<&mut Cursor, LogError> {
        let (instance, topic) = (&self.instance, &self.topic.name);
        self.cursors.get_mut(&partition).ok_or_else(|| {
            LogError::Refused(format!(
                "`{instance}` does not own partition {partition} of `{topic}`"
            ))
        })
    }

    /// What the group has to say.
    fn changes(&mut self) -> Result<Vec<Event>, LogError> {
        let answer = self.inner.groups().poll(&self.key, self.id, Instant::now());
        let Answer::Events(events) = answer else {
            return Err(self.replaced());
        };
        for event in &events {
            match event {
                Event::Assigned(partitions) => {
                    self.cursors.extend(partitions.iter().map(|p| (*p, Cursor::default())));
                }
                Event::Revoked(partitions) | Event::Lost(partitions) => {
                    for partition in partitions {
                        self.cursors.entry(*partition).or_default().ending = true;
                    }
                }
                Event::Record(_) | Event::End(_) => {}
            }
        }
        Ok(events)
    }

    /// Records and ends of what is started.
    fn fetch(&mut self, mut limit: usize, events: &mut Vec<Event>) -> Result<(), LogError> {
        self.turn = self.turn.wrapping_add(1);
        let mut partitions: Vec<Partition> = self.cursors.keys().copied().collect();
        let turn = self.turn.checked_rem(partitions.len()).unwrap_or(0);
        partitions.rotate_left(turn);
        for partition in partitions {
            let Some(cursor) = self.cursors.get_mut(&partition) else { continue };
            let Some(from) = cursor.next.filter(|_| !cursor.paused && !cursor.ending) else {
                continue;
            };
            let (records, next) = self.inner.store.read(&self.topic, partition, from, limit)?;
            limit -= records.len();
            cursor.next = Some(next);
            events.extend(records.into_iter().map(Event::Record));
            let end = NextOffset(self.topic.end(partition));
            if next == end && cursor.told != Some(end) {
                cursor.told = Some(end);
                events.push(Event::End(partition));
            }
        }
        Ok(())
    }

    /// Topic and partition of a record to be written.
    fn place(&mut self, record: &OutRecord) -> Result<(Arc<Topic>, Partition), TxnError> {
        let topic = self.inner.store.topic(&record.topic).map_err(|e| self.inner.fault(&e))?;
        let partition = record.partition.unwrap_or_else(|| {
            self.without_key = self.without_key.wrapping_add(1);
            choose(record, topic.partitions(), self.without_key)
        });
        topic.check(partition).map_err(|e| self.inner.fault(&e))?;
        Ok((topic, partition))
    }

    fn usable(&self) -> Result<u64, TxnError> {
        let refuse = |fault, text: &str| Err(TxnError { fault, text: text.to_owned() });
        if self.inner.store.healthy().is_err() {
            return Err(self.inner.store.unknown());
        }
        if self.transaction.broken {
            return refuse(TxnFault::Abort, "the commit before failed: abort first");
        }
        match self.epoch {
            Some(epoch) => Ok(epoch),
            None => refuse(TxnFault::Rebuild, "the producer is not initialised: initialise it"),
        }
    }

    fn settle_fault(&mut self, error: &TxnError) {
        match error.fault {
            TxnFault::Abort => self.transaction.broken = true,
            TxnFault::Unknown | TxnFault::Rebuild => self.epoch = None,
            TxnFault::Retry | TxnFault::Fatal => {}
        }
    }
}

/// The partition of a record that names none: by its key, or in turn.
pub(super) fn choose(record: &OutRecord, partitions: u32, turn: u32) -> Partition {
    match record.key.as_deref() {
        Some(key) if !key.is_empty() => partition_for_key(key, partitions),
        _ => Partition(turn % partitions.max(1)),
    }
}

/// The size that counts against the limit, if the record exceeds it.
pub(super) fn check_size(record: &OutRecord) -> Result<usize, ProduceError> {
    let size = record.size();
    if size <= RECORD_MAX {
        return Ok(size);
    }
    Err(ProduceError::TooLarge { topic: record.topic.clone(), size, limit: RECORD_MAX })
}

impl Member for EmbeddedMember {
    fn init(&mut self) -> Result<(), TxnError> {
        self.transaction = Transaction::default();
        self.epoch = None;
        if self.inner.store.healthy().is_err() {
            return Err(self.inner.store.unknown());
        }
        self.epoch = Some(self.inner.groups().init(&self.key, self.id, &self.instance)?);
        Ok(())
    }

    fn poll(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Event>, LogError> {
        let deadline = Instant::now() + wait;
        loop {
            let rung = self.inner.store.signal.count();
            self.inner.store.healthy()?;
            if self.left {
                return Err(self.replaced());
            }
            let mut events = self.changes()?;
            // What must be let go is let go before more is read.
            if events.is_empty() {
                self.fetch(records_max, &mut events)?;
            }
            let now = Instant::now();
            if !events.is_empty() || now >= deadline {
                return Ok(events);
            }
            let silent = self.inner.groups().next_deadline(&self.key).unwrap_or(deadline);
            let silent = silent.max(now) + Duration::from_millis(1);
            self.inner.store.signal.wait(rung, deadline.min(silent));
        }
    }

    fn committed(
        &mut self,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, NextOffset>, LogError> {
        self.inner.commits.settle();
        let mut committed = self.inner.committed(&self.key.0, &self.topic)?;
        committed.retain(|partition, _| partitions.contains(partition));
        Ok(committed)
    }

    fn start(&mut self, partition: Partition, from: NextOffset) -> Result<(), LogError> {
        self.inner.store.healthy()?;
        let topic = Arc::clone(&self.topic);
        let cursor = self.ours(partition)?;
        topic.check_start(partition, from)?;
        let ending = cursor.ending;
        *cursor = Cursor { next: Some(from), ending, ..Cursor::default() };
        Ok(())
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        partitions.iter().try_for_each(|p| self.ours(*p).map(|cursor| cursor.paused = true))
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        partitions.iter().try_for_each(|p| self.ours(*p).map(|cursor| cursor.paused = false))
    }

    fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        for partition in partitions {
            self.cursors.remove(partition);
        }
        self.inner.groups().release(&self.key, self.id, partitions);
        self.inner.store.signal.ring();
        Ok(())
    }

    fn produce(&mut self, record: OutRecord) -> Result<(), ProduceError> {
        self.usable()?;
        let size = check_size(&record)?;
        let (topic, partition) = self.place(&record)?;
        if self.transaction.bytes + size > TRANSACTION_MAX {
            self.transaction.broken = true;
            let text = format!(
                "the transaction of `{}` exceeds {TRANSACTION_MAX} bytes: abort, and commit fewer \
                 records at once",
                self.instance
            );
            return Err(TxnError { fault: TxnFault::Abort, text }.into());
        }
        self.transaction.bytes += size;
        let encoded = layout::encode(&record);
        self.transaction.writes.push(Write { topic, partition, encoded });
        Ok(())
    }

    fn produce_parts(&mut self, record: OutParts<'_>) -> Result<(), ProduceError> {
        self.produce(record.to_owned())
    }

    fn make_room(&mut self) -> Result<(), TxnError> {
        Ok(())
    }

    fn commit(&mut self, offsets: &[(Partition, NextOffset)]) -> Result<(), TxnError> {
        let epoch = self.usable()?;
        if offsets.is_empty() {
            let text = "a commit without offsets is fenced by nothing: send the next offset of \
                        every task that was touched";
            return Err(TxnError { fault: TxnFault::Fatal, text: text.to_owned() });
        }
        let partitions: Vec<Partition> = offsets.iter().map(|(p, _)| *p).collect();
        let (inner, key) = (Arc::clone(&self.inner), self.key.clone());
        let (id, instance) = (self.id, self.instance.clone());
        let job = Job {
            check: Box::new(move || {
                inner.groups().check(&key, id, (&instance, epoch), &partitions)
            }),
            writes: std::mem::take(&mut self.transaction).writes,
            offsets: Some(Offsets {
                group: self.key.0.clone(),
                topic: Arc::clone(&self.topic),
                next: offsets.to_vec(),
            }),
        };
        match self.inner.commits.submit(&self.inner.store, job) {
            Ok(_) => Ok(()),
            Err(error) => {
                self.settle_fault(&error);
                Err(error)
            }
        }
    }

    fn abort(&mut self) -> Result<(), TxnError> {
        self.transaction = Transaction::default();
        if self.inner.store.healthy().is_err() {
            return Err(self.inner.store.unknown());
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), LogError> {
        self.transaction = Transaction::default();
        self.cursors.clear();
        self.left = true;
        self.inner.groups().leave(&self.key, self.id);
        self.inner.store.signal.ring();
        Ok(())
    }
}

/// A lane that ends, however it ends, keeps nobody waiting.
impl Drop for EmbeddedMember {
    fn drop(&mut self) {
        self.inner.groups().leave(&self.key, self.id);
        self.inner.store.signal.ring();
    }
}

/// A reader without a group. There are no open transactions to be seen, so both isolations are
/// the same.
#[derive(Debug)]
pub(super) struct EmbeddedReader {
    pub(super) inner: Arc<Inner>,
    pub(super) at: Option<(Arc<Topic>, Partition, NextOffset)>,
}

impl EmbeddedReader {
    fn at(&self) -> Result<(Arc<Topic>, Partition, NextOffset), LogError> {
        self.at.clone().ok_or_else(|| {
            LogError::Refused("the reader was not told where to read: seek first".to_owned())
        })
    }
}

impl Reader for EmbeddedReader {
    fn seek(
        &mut self,
        topic: &TopicName,
        partition: Partition,
        from: NextOffset,
    ) -> Result<(), LogError> {
        self.at = None;
        let topic = self.inner.store.topic(topic)?;
        topic.check_start(partition, from)?;
        self.at = Some((topic, partition, from));
        Ok(())
    }

    fn bounds(
        &mut self,
        topic: &TopicName,
        partition: Partition,
    ) -> Result<(NextOffset, NextOffset), LogError> {
        let topic = self.inner.store.topic(topic)?;
        topic.check(partition)?;
        Ok((NextOffset(topic.first(partition)), NextOffset(topic.end(partition))))
    }

    fn read(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Record>, LogError> {
        let deadline = Instant::now() + wait;
        let (topic, partition, from) = self.at()?;
        loop {
            let rung = self.inner.store.signal.count();
            let (records, next) = self.inner.store.read(&topic, partition, from, records_max)?;
            if !records.is_empty() || next != from || Instant::now() >= deadline {
                self.at = Some((topic, partition, next));
                return Ok(records);
            }
            self.inner.store.signal.wait(rung, deadline);
        }
    }

    fn position(&mut self) -> Result<NextOffset, LogError> {
        self.at().map(|(_, _, next)| next)
    }
}
