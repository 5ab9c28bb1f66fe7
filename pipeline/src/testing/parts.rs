//! What a driven lane is given in place of disks and networks: local stores in memory, and a desk
//! where effects wait for somebody to answer them.
//!
//! Invariants: a store outlives its lane as a disk does; of two openers of one task's store only
//! the last can write, as on disk; an effect is answered once.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use semel_schemas::{
    effect::{Effect, Outcome},
    topic::Partition,
};

use crate::{
    engine::{
        effects::{Done, EffectPort, Job},
        lane::Stores,
    },
    state::{Checkpoint, MemStore, Pairs, StoreError, TaskStore},
};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that failed while it held the lock has failed already.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Disk {
    tasks: BTreeMap<String, (u64, MemStore)>,
    promotes_to_fail: u32,
    reads_fail: bool,
    held_max: usize,
}

/// The local stores of one process. Clones are handles of the same stores.
#[derive(Clone, Debug, Default)]
pub struct MemStores(Arc<Mutex<Disk>>);

impl MemStores {
    /// Lets each task opened from here on hold so many bytes before it writes to its store.
    pub fn hold(&self, bytes: usize) {
        lock(&self.0).held_max = bytes;
    }

    /// Loses everything, as a disk that was replaced.
    pub fn lose(&self) {
        lock(&self.0).tasks.clear();
    }

    /// Fails the next `count` promotes; what they were to write is not written.
    pub fn fail_promotes(&self, count: u32) {
        lock(&self.0).promotes_to_fail = count;
    }

    /// Fails every read until told otherwise.
    pub fn fail_reads(&self, fail: Reads) {
        lock(&self.0).reads_fail = fail == Reads::Fail;
    }

    /// The checkpoint of a task's store.
    #[must_use]
    pub fn checkpoint(&self, stage: &str, partition: Partition) -> Option<Checkpoint> {
        let disk = lock(&self.0);
        let (_, store) = disk.tasks.get(&format!("{stage}/{partition}"))?;
        store.checkpoint().ok().flatten()
    }

    /// A copy of everything, for putting back a stale disk later.
    #[must_use]
    pub fn copy(&self) -> BTreeMap<String, MemStore> {
        let disk = lock(&self.0);
        disk.tasks.iter().map(|(name, (_, store))| (name.clone(), store.clone())).collect()
    }

    /// Puts a copy back.
    pub fn put_back(&self, copy: BTreeMap<String, MemStore>) {
        let mut disk = lock(&self.0);
        for (name, store) in copy {
            disk.tasks.entry(name).or_default().1 = store;
        }
    }
}

/// Whether a store's reads work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// They do.
    Work,
    /// They do not.
    Fail,
}

impl Stores for MemStores {
    fn open(&self, stage: &str, partition: Partition) -> Result<Box<dyn TaskStore>, StoreError> {
        let name = format!("{stage}/{partition}");
        let mut disk = lock(&self.0);
        let entry = disk.tasks.entry(name.clone()).or_default();
        entry.0 += 1;
        Ok(Box::new(OneStore { disk: self.0.clone(), owner: entry.0, name }))
    }

    fn held_max(&self) -> usize {
        lock(&self.0).held_max
    }
}

struct OneStore {
    disk: Arc<Mutex<Disk>>,
    name: String,
    owner: u64,
}

impl OneStore {
    fn read<T>(
        &self,
        read: impl FnOnce(&MemStore) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let disk = lock(&self.disk);
        if disk.reads_fail {
            return Err(StoreError::Storage("the disk cannot be read".to_owned()));
        }
        match disk.tasks.get(&self.name) {
            Some((owner, store)) if *owner == self.owner => read(store),
            _ => Err(StoreError::Fenced { task: self.name.clone() }),
        }
    }

    fn write(
        &self,
        disk: &mut Disk,
        write: impl FnOnce(&mut MemStore) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match disk.tasks.get_mut(&self.name) {
            Some((owner, store)) if *owner == self.owner => write(store),
            _ => Err(StoreError::Fenced { task: self.name.clone() }),
        }
    }
}

impl TaskStore for OneStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|store| store.get(key))
    }

    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Pairs, StoreError> {
        self.read(|store| store.scan(prefix, from, limit))
    }

    fn promote(
        &mut self,
        writes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>,
        meta: &Checkpoint,
    ) -> Result<(), StoreError> {
        let mut disk = lock(&self.disk);
        if disk.promotes_to_fail > 0 {
            disk.promotes_to_fail -= 1;
            return Err(StoreError::Storage("the disk is full".to_owned()));
        }
        self.write(&mut disk, |store| store.promote(writes, meta))
    }

    fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.read(MemStore::checkpoint)
    }

    fn wipe(&mut self) -> Result<(), StoreError> {
        let mut disk = lock(&self.disk);
        self.write(&mut disk, MemStore::wipe)
    }
}

/// An effect that waits for an answer.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its number, for [`super::Driver::answer`]; grows with every hand-out.
    pub number: u64,
    /// The stage that asks.
    pub stage: String,
    /// The task's partition.
    pub partition: Partition,
    /// The attempt.
    pub attempt: u64,
    /// What is to be done.
    pub effect: Effect,
}

#[derive(Default)]
struct DeskInner {
    given: u64,
    asked: BTreeMap<u64, (Asked, Job, u64)>,
    answers: BTreeMap<u64, Vec<Done>>,
    lanes: u64,
}

/// Where effects of all lanes wait. Clones are handles of the same desk.
#[derive(Clone, Default)]
pub(super) struct Desk(Arc<Mutex<DeskInner>>);

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("asked", &lock(&self.0).asked.len()).finish()
    }
}

impl Desk {
    /// The port of one life of a lane.
    pub(super) fn port(&self, stage: &str) -> DeskPort {
        let mut inner = lock(&self.0);
        inner.lanes += 1;
        DeskPort { desk: self.clone(), stage: stage.to_owned(), lane: inner.lanes }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        lock(&self.0).asked.values().map(|(asked, ..)| asked.clone()).collect()
    }

    /// `false` if nothing of that number waits.
    pub(super) fn answer(&self, number: u64, outcome: Outcome) -> bool {
        let mut inner = lock(&self.0);
        let Some((_, job, lane)) = inner.asked.remove(&number) else { return false };
        let done = Done { task: job.task, attempt: job.attempt, outcome };
        inner.answers.entry(lane).or_default().push(done);
        true
    }

    /// Answers an attempt that nobody asked for any more, as a performer that is late would.
    pub(super) fn answer_late(&self, lane: u64, done: Done) {
        lock(&self.0).answers.entry(lane).or_default().push(done);
    }
}

/// See [`Desk`]. What it was asked goes with it: nobody would hear the answer.
#[derive(Debug)]
pub(super) struct DeskPort {
    desk: Desk,
    stage: String,
    pub(super) lane: u64,
}

impl EffectPort for DeskPort {
    fn dispatch(&mut self, job: Job) -> bool {
        let mut inner = lock(&self.desk.0);
        inner.given += 1;
        let number = inner.given;
        let asked = Asked {
            number,
            stage: self.stage.clone(),
            partition: job.task.0,
            attempt: job.attempt,
            effect: job.effect.clone(),
        };
        inner.asked.insert(number, (asked, job, self.lane));
        true
    }

    fn outcomes(&mut self) -> Vec<Done> {
        lock(&self.desk.0).answers.remove(&self.lane).unwrap_or_default()
    }
}

impl Drop for DeskPort {
    fn drop(&mut self) {
        let mut inner = lock(&self.desk.0);
        inner.answers.remove(&self.lane);
        let lane = self.lane;
        inner.asked.retain(|_, (_, _, asker)| *asker != lane);
    }
}
