//! What is answered is on the disk: the order of writes, syncs and answers, and failures.

use std::{
    sync::{
        Arc, Barrier, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use fjall::{Database, OwnedWriteBatch, PersistMode};
use semel_schemas::topic::NextOffset;

use super::{KEPT, P0, create, open, owner, put, quiet, values};
use crate::log::{
    Event, Log, LogError, MemberSpec, TxnFault,
    embedded::{Disk, EmbeddedLog, Settings, SyncLayer},
};

/// Counts, may hold syncs back, and may fail.
#[derive(Debug, Default)]
struct Layer {
    writes: AtomicUsize,
    syncs: AtomicUsize,
    /// Writes that were made before the last *ended* sync began.
    durable: AtomicUsize,
    held: Mutex<bool>,
    freed: Condvar,
    fail_write: AtomicBool,
    fail_sync: AtomicBool,
}

impl Layer {
    /// Holds syncs back until the guard is dropped, also by a failing test.
    fn hold(&self) -> Held<'_> {
        *self.held.lock().unwrap() = true;
        Held(self)
    }

    fn free(&self) {
        *self.held.lock().unwrap() = false;
        self.freed.notify_all();
    }
}

struct Held<'a>(&'a Layer);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.free();
    }
}

impl SyncLayer for Layer {
    fn write(&self, batch: OwnedWriteBatch) -> fjall::Result<()> {
        if self.fail_write.load(SeqCst) {
            return Err(fjall::Error::Io(std::io::ErrorKind::StorageFull.into()));
        }
        Disk.write(batch)?;
        self.writes.fetch_add(1, SeqCst);
        Ok(())
    }

    fn sync(&self, db: &Database, mode: PersistMode) -> fjall::Result<()> {
        assert_eq!(mode, PersistMode::SyncData);
        let written = self.writes.load(SeqCst);
        self.syncs.fetch_add(1, SeqCst);
        let held = self.held.lock().unwrap();
        drop(self.freed.wait_while(held, |held| *held).unwrap());
        if self.fail_sync.load(SeqCst) {
            return Err(fjall::Error::Io(std::io::Error::other("the disk is broken")));
        }
        Disk.sync(db, mode)?;
        self.durable.fetch_max(written, SeqCst);
        Ok(())
    }
}

fn layered(folder: &tempfile::TempDir) -> (EmbeddedLog, Arc<Layer>) {
    let layer = Arc::new(Layer::default());
    let settings = Settings { layer: layer.clone(), ..quiet() };
    let log = EmbeddedLog::open(folder.path(), settings).unwrap();
    create(&log, "in", 8, KEPT);
    create(&log, "out", 1, KEPT);
    (log, layer)
}

#[test]
fn no_commit_is_answered_or_seen_before_a_sync_that_began_after_its_write() {
    let folder = tempfile::tempdir().unwrap();
    let (log, layer) = layered(&folder);
    let (writes, syncs) = (layer.writes.load(SeqCst), layer.syncs.load(SeqCst));
    let answered = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let held = layer.hold();
        scope.spawn(|| {
            let mut member = owner(&log, "g", "in", "i");
            member.produce(put("out", P0, "k", "v")).unwrap();
            member.commit(&[(P0, NextOffset(0))]).unwrap();
            answered.store(true, SeqCst);
        });
        // The member's group is registered first, by a write and a sync of its own.
        let reach = |count: usize| {
            while layer.syncs.load(SeqCst) < count {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        reach(syncs + 1);
        drop(held);
        reach(syncs + 2);
    });
    assert!(answered.load(SeqCst));
    assert_eq!(layer.writes.load(SeqCst), writes + 2);
    assert_eq!(layer.durable.load(SeqCst), writes + 2, "the last write was synced after it");

    answered.store(false, SeqCst);
    std::thread::scope(|scope| {
        let held = layer.hold();
        scope.spawn(|| {
            log.append(vec![put("out", P0, "k", "w")]).unwrap();
            answered.store(true, SeqCst);
        });
        while layer.syncs.load(SeqCst) < syncs + 3 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Written, and the sync has begun but not ended.
        std::thread::sleep(Duration::from_millis(50));
        assert!(!answered.load(SeqCst));
        assert_eq!(values(&log, "out", P0), ["v"], "seen before it was durable");
        drop(held);
    });
    assert_eq!(values(&log, "out", P0), ["v", "w"]);
    assert_eq!(layer.durable.load(SeqCst), layer.writes.load(SeqCst));
}

#[test]
fn concurrent_commits_share_syncs() {
    const LANES: usize = 8;
    const ROUNDS: usize = 25;
    let folder = tempfile::tempdir().unwrap();
    let (log, layer) = layered(&folder);
    let mut members: Vec<_> =
        (0..LANES).map(|n| owner(&log, &format!("g{n}"), "in", &format!("i{n}"))).collect();
    let syncs = layer.syncs.load(SeqCst);
    let barrier = Barrier::new(LANES);
    std::thread::scope(|scope| {
        for (n, member) in members.iter_mut().enumerate() {
            let (layer, barrier) = (&layer, &barrier);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    barrier.wait();
                    let before = layer.durable.load(SeqCst);
                    member.produce(put("out", P0, "k", &format!("{n}-{round}"))).unwrap();
                    member.commit(&[(P0, NextOffset(0))]).unwrap();
                    assert!(layer.durable.load(SeqCst) > before, "answered without a sync");
                }
            });
        }
    });
    let shared = layer.syncs.load(SeqCst) - syncs;
    let commits = LANES * ROUNDS;
    assert!(shared < commits, "{commits} commits needed {shared} syncs");
    println!("{commits} commits shared {shared} syncs");
    let mut found = values(&log, "out", P0);
    assert_eq!(found.len(), commits);
    found.sort();
    found.dedup();
    assert_eq!(found.len(), commits, "each once");
}

// With syncs held back, sharing is no matter of luck: the first commit takes one, all that come
// while it is under way the next.
#[test]
fn commits_that_come_during_a_sync_share_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (log, layer) = layered(&folder);
    let syncs = layer.syncs.load(SeqCst);
    let all = log.inner.commits.submitted() + 10;
    std::thread::scope(|scope| {
        let held = layer.hold();
        for n in 0..10 {
            let log = &log;
            scope.spawn(move || log.append(vec![put("out", P0, "k", &n.to_string())]).unwrap());
        }
        while log.inner.commits.submitted() < all {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(held);
    });
    assert_eq!(values(&log, "out", P0).len(), 10);
    assert_eq!(layer.syncs.load(SeqCst) - syncs, 2);
}

/// After a failure nothing goes on, and after a restart the log holds a prefix.
fn ends_the_log(break_it: impl Fn(&Layer, bool)) {
    let folder = tempfile::tempdir().unwrap();
    let (log, layer) = layered(&folder);
    let mut member = owner(&log, "g", "in", "i");
    let mut reader = log.reader(crate::log::Isolation::Committed).unwrap();
    reader.seek(&super::name("out"), P0, NextOffset(0)).unwrap();
    log.append(vec![put("out", P0, "k", "before")]).unwrap();
    break_it(&layer, true);
    member.produce(put("out", P0, "k", "unknown")).unwrap();
    let error = member.commit(&[(P0, NextOffset(0))]).unwrap_err();
    assert_eq!(error.fault, TxnFault::Unknown, "{error}");
    assert!(error.text.contains("could not write"), "{error}");
    // The disk says that it is sound again: it is not to be believed.
    break_it(&layer, false);
    assert_eq!(member.init().unwrap_err().fault, TxnFault::Unknown);
    assert_eq!(member.commit(&[(P0, NextOffset(0))]).unwrap_err().fault, TxnFault::Unknown);
    let storage = |answer: Result<(), LogError>| {
        assert!(matches!(answer, Err(LogError::Storage(_))), "{answer:?}");
    };
    storage(member.poll(1, Duration::ZERO).map(drop));
    storage(member.committed(&[P0]).map(drop));
    storage(reader.read(1, Duration::ZERO).map(drop));
    storage(log.append(vec![put("out", P0, "k", "after")]).map(drop));
    storage(log.topic(&super::name("out")).map(drop));
    storage(log.committed("g", &super::name("in")).map(drop));
    storage(log.maintain(super::super::system_time()).map(drop));
    drop((member, reader, log));
    let log = open(folder.path());
    let found = values(&log, "out", P0);
    assert!(found == ["before"] || found == ["before", "unknown"], "{found:?}");
    let committed = log.committed("g", &super::name("in")).unwrap();
    assert_eq!(committed.len(), found.len() - 1, "records and offsets came apart");
}

#[test]
fn a_failed_sync_ends_the_log() {
    ends_the_log(|layer, fails| layer.fail_sync.store(fails, SeqCst));
}

#[test]
fn a_full_disk_ends_the_log() {
    ends_the_log(|layer, fails| layer.fail_write.store(fails, SeqCst));
}

// The commit was checked while its member owned the partition, so it will be made; whoever owns the
// partition next must start behind it.
#[test]
fn a_new_owner_waits_for_the_commit_that_is_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let (log, layer) = layered(&folder);
    let spec = |instance: &str| MemberSpec {
        group: "g".to_owned(),
        topic: super::name("in"),
        instance: instance.to_owned(),
        transaction_timeout: Duration::from_secs(10),
        session_timeout: Duration::from_millis(20),
    };
    let mut old = log.join(&spec("old")).unwrap();
    old.init().unwrap();
    old.poll(0, Duration::ZERO).unwrap();
    let syncs = layer.syncs.load(SeqCst);
    std::thread::scope(|scope| {
        let held = layer.hold();
        let commit = scope.spawn(|| old.commit(&[(P0, NextOffset(7))]));
        while layer.syncs.load(SeqCst) == syncs {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut heir = log.join(&spec("heir")).unwrap();
        let mut events = Vec::new();
        while events.is_empty() {
            events = heir.poll(0, Duration::from_millis(10)).unwrap();
        }
        assert!(matches!(&events[..], [Event::Assigned(all)] if all.len() == 8), "{events:?}");
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(held);
        });
        let committed = heir.committed(&[P0]).unwrap();
        assert_eq!(committed.get(&P0), Some(&NextOffset(7)));
        commit.join().unwrap().unwrap();
    });
}
