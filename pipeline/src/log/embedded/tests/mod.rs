//! The embedded log: the suite that every log is held to, and what only this one promises.

mod crash;
mod durability;
mod keeping;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use semel_schemas::{
    header::Headers,
    record::OutRecord,
    time::WallTime,
    topic::{NextOffset, Partition, TopicName},
};

use super::{Durability, EmbeddedLog, Progress, Settings};
use crate::log::{
    Cleanup, Event, Isolation, Log, LogError, Member, MemberSpec, TopicSpec, conformance,
};

const P0: Partition = Partition(0);
const P1: Partition = Partition(1);

/// A log in a folder of its own.
#[derive(Debug)]
struct World {
    folder: tempfile::TempDir,
    log: Option<EmbeddedLog>,
    began: Instant,
    names: AtomicU64,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = Some(open(folder.path()));
        Self { folder, log, began: Instant::now(), names: AtomicU64::new(0) }
    }

    fn embedded(&self) -> &EmbeddedLog {
        self.log.as_ref().unwrap()
    }
}

impl conformance::Harness for World {
    fn log(&self) -> &dyn Log {
        self.embedded()
    }

    fn restart(&mut self) {
        self.log = None;
        self.log = Some(open(self.folder.path()));
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn pass(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn name(&self, stem: &str) -> String {
        format!("{stem}-{}", self.names.fetch_add(1, SeqCst))
    }

    fn session(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn transaction(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn too_large(&self) -> usize {
        super::RECORD_MAX + 1
    }

    fn compact(&self, _: &TopicName, _: Partition) {
        maintain(self.embedded(), super::system_time());
    }

    fn expire(&self, topic: &TopicName, partition: Partition, before: NextOffset) {
        self.embedded().delete_records(topic, partition, before).unwrap();
    }

    fn delete_topic(&self, topic: &TopicName) {
        self.embedded().delete_topic(topic).unwrap();
    }
}

mod suite {
    use super::World;
    crate::log_conformance!(World::new());
}

/// Opens a log that syncs, and that maintains itself only when told.
fn open(path: &Path) -> EmbeddedLog {
    EmbeddedLog::open(path, quiet()).unwrap()
}

fn quiet() -> Settings {
    Settings { maintenance: None, ..Settings::default() }
}

/// Settings for tests that are not about the disk.
fn fast() -> Settings {
    Settings { durability: Durability::Os, ..quiet() }
}

/// Maintains until nothing is left to do; answers after how many steps.
fn maintain(log: &EmbeddedLog, now: WallTime) -> usize {
    let mut steps = 1;
    while log.maintain(now).unwrap() == Progress::More {
        steps += 1;
    }
    steps
}

fn name(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

fn create(log: &EmbeddedLog, topic: &str, partitions: u32, cleanup: Cleanup) {
    let spec = TopicSpec {
        name: name(topic),
        partitions,
        cleanup,
        replication: None,
        allow_one_broker: false,
    };
    log.create_topic(&spec).unwrap();
}

const KEPT: Cleanup = Cleanup::Delete { retention_ms: None };

fn put(topic: &str, partition: Partition, key: &str, value: &str) -> OutRecord {
    OutRecord {
        topic: name(topic),
        partition: Some(partition),
        key: Some(key.into()),
        value: Some(value.into()),
        headers: Headers::new(),
    }
}

fn values(log: &EmbeddedLog, topic: &str, partition: Partition) -> Vec<String> {
    let mut reader = log.reader(Isolation::Committed).unwrap();
    let (first, end) = reader.bounds(&name(topic), partition).unwrap();
    reader.seek(&name(topic), partition, first).unwrap();
    let mut found = Vec::new();
    while reader.position().unwrap() < end {
        found.extend(reader.read(1_000, Duration::ZERO).unwrap());
    }
    found
        .into_iter()
        .map(|r| String::from_utf8(r.value.unwrap_or(b"-".to_vec())).unwrap())
        .collect()
}

fn member(log: &EmbeddedLog, group: &str, topic: &str, instance: &str) -> Box<dyn Member> {
    let spec = MemberSpec {
        group: group.to_owned(),
        topic: name(topic),
        instance: instance.to_owned(),
        transaction_timeout: Duration::from_secs(10),
        session_timeout: Duration::from_secs(60),
    };
    let mut member = log.join(&spec).unwrap();
    member.init().unwrap();
    member
}

/// A member that owns whatever it is given now, started at its committed offsets.
fn owner(log: &EmbeddedLog, group: &str, topic: &str, instance: &str) -> Box<dyn Member> {
    let mut member = member(log, group, topic, instance);
    for event in member.poll(0, Duration::ZERO).unwrap() {
        let Event::Assigned(partitions) = event else { continue };
        let committed = member.committed(&partitions).unwrap();
        for partition in partitions {
            let from = committed.get(&partition).copied().unwrap_or(NextOffset::ZERO);
            member.start(partition, from).unwrap();
        }
    }
    member
}

#[test]
fn a_second_process_is_told_who_has_the_folder() {
    let world = World::new();
    let error = EmbeddedLog::open(world.folder.path(), quiet()).unwrap_err();
    assert!(matches!(error, LogError::Locked(_)), "{error:?}");
    let pid = std::process::id().to_string();
    assert!(error.to_string().contains(&pid), "{error}");
}

// One hundred polls, each begun before the record it is to find: had a poll an interval, they would
// take it a hundred times.
#[test]
fn a_waiting_poll_wakes_when_a_commit_adds_records() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(EmbeddedLog::open(folder.path(), fast()).unwrap());
    create(&log, "in", 1, KEPT);
    let mut member = owner(&log, "g", "in", "i");
    assert_eq!(member.poll(9, Duration::ZERO).unwrap(), [Event::End(P0)]);
    let writer = Arc::clone(&log);
    let (ask, asked) = std::sync::mpsc::channel::<u32>();
    let thread = std::thread::spawn(move || {
        for n in asked {
            std::thread::sleep(Duration::from_millis(1));
            writer.append(vec![put("in", P0, "k", &n.to_string())]).unwrap();
        }
    });
    let began = Instant::now();
    for n in 0..100 {
        ask.send(n).unwrap();
        let events = member.poll(9, Duration::from_mins(10)).unwrap();
        assert!(matches!(&events[..], [Event::Record(_), Event::End(P0)]), "{events:?}");
    }
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
    drop(ask);
    thread.join().unwrap();
}

#[test]
fn a_member_that_is_dropped_hands_over_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(folder.path(), fast()).unwrap();
    create(&log, "in", 2, KEPT);
    let first = owner(&log, "g", "in", "a");
    let mut second = member(&log, "g", "in", "b");
    assert_eq!(second.poll(0, Duration::ZERO).unwrap(), []);
    drop(first);
    let events = second.poll(0, Duration::ZERO).unwrap();
    assert_eq!(events, [Event::Assigned(vec![P0, P1])]);
}

#[test]
fn a_failed_commit_must_be_aborted_before_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(folder.path(), fast()).unwrap();
    create(&log, "in", 2, KEPT);
    create(&log, "out", 1, KEPT);
    let mut first = owner(&log, "g", "in", "a");
    let second = member(&log, "g", "in", "b");
    let events = first.poll(9, Duration::ZERO).unwrap();
    let [Event::Revoked(gone)] = &events[..] else { panic!("{events:?}") };
    first.release(gone).unwrap();
    first.produce(put("out", P0, "k", "refused")).unwrap();
    let error = first.commit(&[(gone[0], NextOffset(0))]).unwrap_err();
    assert_eq!(error.fault, crate::log::TxnFault::Abort);
    // Its records are gone, so a commit of the rest would be half a transaction.
    let kept = Partition(1 - gone[0].0);
    let error = first.commit(&[(kept, NextOffset(0))]).unwrap_err();
    assert_eq!(error.fault, crate::log::TxnFault::Abort);
    first.abort().unwrap();
    first.commit(&[(kept, NextOffset(0))]).unwrap();
    assert_eq!(values(&log, "out", P0), [""; 0]);
    drop(second);
}

#[test]
fn a_transaction_beyond_the_limit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(folder.path(), fast()).unwrap();
    create(&log, "in", 1, KEPT);
    let mut member = owner(&log, "g", "in", "a");
    let large = put("in", P0, "k", &"x".repeat(super::RECORD_MAX - 1));
    let mut taken = 0;
    let error = loop {
        match member.produce(large.clone()) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(taken, super::TRANSACTION_MAX / super::RECORD_MAX);
    let crate::log::ProduceError::Txn(error) = error else { panic!("{error:?}") };
    assert_eq!(error.fault, crate::log::TxnFault::Abort, "{error}");
    assert!(member.commit(&[(P0, NextOffset(0))]).is_err());
    member.abort().unwrap();
    member.commit(&[(P0, NextOffset(0))]).unwrap();
    assert_eq!(values(&log, "in", P0), [""; 0]);
}

#[test]
fn topic_ids_differ_between_folders_and_stay_within_one() {
    let (one, two) = (World::new(), World::new());
    let id = |log: &EmbeddedLog| log.topic(&name("t")).unwrap().unwrap().id;
    for world in [&one, &two] {
        create(world.embedded(), "t", 1, KEPT);
    }
    assert_ne!(id(one.embedded()), id(two.embedded()));
    let before = id(one.embedded());
    let mut one = one;
    conformance::Harness::restart(&mut one);
    assert_eq!(id(one.embedded()), before);
}
