//! The one door through which records and offsets are written: commits of many members, one write
//! and one sync.
//!
//! Whoever comes while nobody writes becomes the leader: it takes all commits that wait, checks
//! each against its group, gives offsets, writes them as *one* batch of the database, syncs, and
//! only then shows them to readers and answers. Whoever comes meanwhile waits, and is taken by the
//! next leader.
//!
//! Invariants: no commit is answered, and nothing of it is seen, before a sync that began after
//! its write has ended; what a batch holds is recovered together or not at all; after a failed
//! write or sync nothing is written any more (the operating system may have dropped what it could
//! not write, and a second sync would claim success).

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use fjall::{Database, OwnedWriteBatch, PersistMode};
use semel_schemas::topic::{NextOffset, Offset, Partition};

use super::{
    layout,
    store::{Store, Topic},
};
use crate::log::{TxnError, TxnFault};

/// What lies between the log and the disk: tests put a layer here that counts, waits or fails.
pub trait SyncLayer: Send + Sync + fmt::Debug {
    /// Writes a batch to the database's journal.
    ///
    /// # Errors
    /// Whatever the database says; then the log is of no use any more.
    fn write(&self, batch: OwnedWriteBatch) -> fjall::Result<()>;

    /// Makes durable what was written before.
    ///
    /// # Errors
    /// Whatever the database says; then the log is of no use any more.
    fn sync(&self, db: &Database, mode: PersistMode) -> fjall::Result<()>;
}

/// The disk itself.
#[derive(Debug)]
pub struct Disk;

impl SyncLayer for Disk {
    fn write(&self, batch: OwnedWriteBatch) -> fjall::Result<()> {
        batch.commit()
    }

    fn sync(&self, db: &Database, mode: PersistMode) -> fjall::Result<()> {
        db.persist(mode)
    }
}

/// A record to be written.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) topic: Arc<Topic>,
    pub(super) partition: Partition,
    /// [`layout::encode`]d, not yet stamped.
    pub(super) encoded: Vec<u8>,
}

/// A group's offsets to be written.
#[derive(Debug)]
pub(super) struct Offsets {
    pub(super) group: String,
    pub(super) topic: Arc<Topic>,
    pub(super) next: Vec<(Partition, NextOffset)>,
}

/// Says, when the leader asks, whether the commit may be made.
pub(super) type Check = Box<dyn FnOnce() -> Result<(), TxnError> + Send>;

/// One commit.
pub(super) struct Job {
    pub(super) check: Check,
    pub(super) writes: Vec<Write>,
    pub(super) offsets: Option<Offsets>,
}

/// The offset of each record written.
type Outcome = Result<Vec<Offset>, TxnError>;

/// The queue of commits.
#[derive(Default)]
pub(super) struct Commits {
    queue: Mutex<Queue>,
    turned: Condvar,
}

impl fmt::Debug for Commits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commits").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(u64, Job)>,
    done: HashMap<u64, Outcome>,
    last: u64,
    /// Rounds begun and ended; they differ while a leader is at work.
    begun: u64,
    ended: u64,
}

impl Commits {
    /// Commits; returns when it is durable, or when it is known that it is not.
    pub(super) fn submit(&self, store: &Store, job: Job) -> Outcome {
        let mut queue = self.queue();
        queue.last += 1;
        let ticket = queue.last;
        queue.waiting.push((ticket, job));
        loop {
            if let Some(outcome) = queue.done.remove(&ticket) {
                return outcome;
            }
            if queue.begun == queue.ended {
                let jobs = std::mem::take(&mut queue.waiting);
                queue.begun += 1;
                drop(queue);
                let outcomes = run(store, jobs);
                queue = self.queue();
                queue.ended = queue.begun;
                queue.done.extend(outcomes);
                self.turned.notify_all();
            } else {
                queue = self.turned.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Waits until every commit that was checked before this call has ended: what a new owner of
    /// a partition does before it reads the group's offsets.
    pub(super) fn settle(&self) {
        let mut queue = self.queue();
        let begun = queue.begun;
        while queue.ended < begun {
            queue = self.turned.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many jobs were ever submitted.
    #[cfg(test)]
    pub(super) fn submitted(&self) -> u64 {
        self.queue().last
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs one round; whatever happens, every job gets an answer.
fn run(store: &Store, jobs: Vec<(u64, Job)>) -> Vec<(u64, Outcome)> {
    let tickets: Vec<u64> = jobs.iter().map(|(ticket, _)| *ticket).collect();
    catch_unwind(AssertUnwindSafe(|| round(store, jobs))).unwrap_or_else(|_| {
        store.poison("the database gave up while it wrote");
        tickets.into_iter().map(|ticket| (ticket, Err(store.unknown()))).collect()
    })
}

fn round(store: &Store, jobs: Vec<(u64, Job)>) -> Vec<(u64, Outcome)> {
    if store.healthy().is_err() {
        return jobs.into_iter().map(|(ticket, _)| (ticket, Err(store.unknown()))).collect();
    }
    let mut batch = store.batch();
    let mut round = Round { now: store.now().0, ends: BTreeMap::new(), moved: Vec::new() };
    let mut outcomes = Vec::with_capacity(jobs.len());
    for (ticket, job) in jobs {
        outcomes.push((ticket, round.take(store, &mut batch, job)));
    }
    for (&(topic, partition), (_, end)) in &round.ends {
        let key = layout::partition_key(b'e', topic, partition);
        batch.insert(&store.meta, key, end.to_be_bytes());
    }
    if batch.is_empty() {
        return outcomes;
    }
    match store.write_through(batch) {
        Ok(()) => round.publish(store),
        Err(_) => {
            for (_, outcome) in outcomes.iter_mut().filter(|(_, outcome)| outcome.is_ok()) {
                *outcome = Err(store.unknown());
            }
        }
    }
    outcomes
}

/// What one round is going to change.
struct Round {
    now: u64,
    /// Topic number and partition → the partition's end after the round.
    ends: BTreeMap<(u32, Partition), (Arc<Topic>, u64)>,
    moved: Vec<Offsets>,
}

impl Round {
    /// Adds a commit to the batch, if it may be made.
    fn take(&mut self, store: &Store, batch: &mut OwnedWriteBatch, job: Job) -> Outcome {
        let topics =
            job.writes.iter().map(|w| &w.topic).chain(job.offsets.iter().map(|o| &o.topic));
        for topic in topics {
            if topic.is_gone() {
                let text = format!("topic `{}` was deleted meanwhile: abort", topic.name);
                return Err(TxnError { fault: TxnFault::Abort, text });
            }
        }
        (job.check)()?;
        let mut offsets = Vec::with_capacity(job.writes.len());
        for Write { topic, partition, mut encoded } in job.writes {
            let key = (topic.number, partition);
            let (topic, end) = self.ends.entry(key).or_insert_with(|| {
                let end = topic.end(partition);
                (topic, end)
            });
            layout::stamp(&mut encoded, self.now);
            let key = layout::record_key(topic.number, partition, *end);
            batch.insert(&store.records, key, encoded);
            offsets.push(Offset(*end));
            *end += 1;
        }
        if let Some(moved) = job.offsets {
            for (partition, next) in &moved.next {
                let key = layout::offset_key(moved.topic.number, *partition, &moved.group);
                batch.insert(&store.meta, key, next.0.to_be_bytes());
            }
            self.moved.push(moved);
        }
        Ok(offsets)
    }

    /// Shows what is durable now.
    fn publish(self, store: &Store) {
        store.move_offsets(self.moved);
        for ((_, partition), (topic, end)) in self.ends {
            topic.set_end(partition, end);
        }
        store.signal.ring();
    }
}
