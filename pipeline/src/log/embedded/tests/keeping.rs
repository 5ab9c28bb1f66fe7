//! What goes, and what may not go yet.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use semel_schemas::{record::OutRecord, time::WallTime, topic::NextOffset};

use super::{KEPT, P0, create, fast, maintain, name, owner, put, values};
use crate::log::{
    Cleanup, Isolation, Log, LogError,
    embedded::{EmbeddedLog, Settings},
};

fn at(folder: &tempfile::TempDir) -> (EmbeddedLog, Arc<AtomicU64>) {
    let time = Arc::new(AtomicU64::new(1_000));
    let clock = time.clone();
    let settings = Settings { clock: Arc::new(move || WallTime(clock.load(SeqCst))), ..fast() };
    (EmbeddedLog::open(folder.path(), settings).unwrap(), time)
}

fn append(log: &EmbeddedLog, topic: &str, values: std::ops::Range<u32>) {
    let records = values.map(|n| put(topic, P0, &format!("k{n}"), &n.to_string()));
    log.append(records.collect()).unwrap();
}

const HOUR: u64 = 3_600_000;

#[test]
fn old_records_go_and_young_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (log, time) = at(&folder);
    create(&log, "t", 1, Cleanup::Delete { retention_ms: Some(HOUR) });
    create(&log, "kept", 1, KEPT);
    append(&log, "t", 0..2_500);
    append(&log, "kept", 0..3);
    time.store(1_000 + HOUR, SeqCst);
    append(&log, "t", 2_500..2_503);
    maintain(&log, WallTime(1_000 + HOUR));
    assert_eq!(values(&log, "t", P0).len(), 2_503, "not older than an hour yet");
    let steps = maintain(&log, WallTime(1_001 + HOUR));
    assert!(steps >= 3, "a step removes a bounded number of records, this took {steps}");
    assert_eq!(values(&log, "t", P0), ["2500", "2501", "2502"]);
    assert_eq!(values(&log, "kept", P0), ["0", "1", "2"]);
    drop(log);
    let (log, _) = at(&folder);
    assert_eq!(values(&log, "t", P0), ["2500", "2501", "2502"]);
    let mut reader = log.reader(Isolation::Committed).unwrap();
    let bounds = reader.bounds(&name("t"), P0).unwrap();
    assert_eq!(bounds, (NextOffset(2_500), NextOffset(2_503)));
    let refused = reader.seek(&name("t"), P0, NextOffset(2_499));
    assert!(matches!(refused, Err(LogError::OutOfRange { .. })), "{refused:?}");
}

#[test]
fn what_a_group_has_not_read_stays_however_old_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = at(&folder);
    create(&log, "t", 1, Cleanup::Delete { retention_ms: Some(HOUR) });
    let mut fast_one = owner(&log, "fast", "t", "a");
    let slow_one = owner(&log, "slow", "t", "b");
    append(&log, "t", 0..5);
    let late = WallTime(10 * HOUR);
    fast_one.commit(&[(P0, NextOffset(4))]).unwrap();
    maintain(&log, late);
    assert_eq!(values(&log, "t", P0).len(), 5, "the slow group has committed nothing yet");
    drop((slow_one, fast_one, log));
    let (log, _) = at(&folder);
    maintain(&log, late);
    assert_eq!(values(&log, "t", P0).len(), 5, "a group that joined once is known after a restart");
    let mut slow_one = owner(&log, "slow", "t", "b");
    slow_one.commit(&[(P0, NextOffset(2))]).unwrap();
    maintain(&log, late);
    assert_eq!(values(&log, "t", P0), ["2", "3", "4"]);
    log.forget_group("slow").unwrap();
    maintain(&log, late);
    assert_eq!(values(&log, "t", P0), ["4"], "the fast group has not read the last one");
}

#[test]
fn superseded_values_go_step_by_step() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = at(&folder);
    create(&log, "t", 1, Cleanup::Compact { tombstone_ms: HOUR });
    for round in 0..5 {
        let records = (0..700).map(|n| put("t", P0, &format!("k{n}"), &format!("{round}-{n}")));
        log.append(records.collect()).unwrap();
    }
    let steps = maintain(&log, WallTime(1_000));
    assert!(steps >= 3, "3500 records took {steps} steps");
    let expected: Vec<String> = (0..700).map(|n| format!("4-{n}")).collect();
    assert_eq!(values(&log, "t", P0), expected);
    assert_eq!(log.inner.store.records.len().unwrap(), 700);
    drop(log);
    let (log, _) = at(&folder);
    log.append(vec![put("t", P0, "k5", "later")]).unwrap();
    maintain(&log, WallTime(1_000));
    let found = values(&log, "t", P0);
    assert_eq!(found.len(), 700);
    assert!(!found.contains(&"4-5".to_owned()));
    assert_eq!(found.last().map(String::as_str), Some("later"));
}

#[test]
fn superseded_values_that_a_group_has_not_read_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = at(&folder);
    create(&log, "t", 1, Cleanup::Compact { tombstone_ms: HOUR });
    let mut member = owner(&log, "g", "t", "a");
    for value in ["1", "2", "3"] {
        log.append(vec![put("t", P0, "k", value)]).unwrap();
    }
    log.append(vec![OutRecord { value: None, ..put("t", P0, "k", "") }]).unwrap();
    maintain(&log, WallTime(10 * HOUR));
    assert_eq!(values(&log, "t", P0), ["1", "2", "3", "-"]);
    member.commit(&[(P0, NextOffset(2))]).unwrap();
    maintain(&log, WallTime(10 * HOUR));
    assert_eq!(values(&log, "t", P0), ["2", "3", "-"]);
    member.commit(&[(P0, NextOffset(4))]).unwrap();
    maintain(&log, WallTime(HOUR));
    assert_eq!(values(&log, "t", P0), ["-"], "the tombstone is younger than its time");
    maintain(&log, WallTime(10 * HOUR));
    assert_eq!(values(&log, "t", P0), [""; 0]);
    assert_eq!(log.inner.store.keys.len().unwrap(), 0, "the index keeps nothing of the key");
}

#[test]
fn many_tombstones_go_too() {
    let folder = tempfile::tempdir().unwrap();
    let (log, time) = at(&folder);
    create(&log, "t", 1, Cleanup::Compact { tombstone_ms: HOUR });
    append(&log, "t", 0..2_600);
    let tombstones =
        (0..2_500).map(|n| OutRecord { value: None, ..put("t", P0, &format!("k{n}"), "") });
    log.append(tombstones.collect()).unwrap();
    time.store(2_000, SeqCst);
    log.append(vec![OutRecord { value: None, ..put("t", P0, "k2599", "") }]).unwrap();
    maintain(&log, WallTime(1_500 + HOUR));
    let found = values(&log, "t", P0);
    assert_eq!(found.len(), 100, "99 values and the younger tombstone");
    assert_eq!(found.last().map(String::as_str), Some("-"));
    maintain(&log, WallTime(2_500 + HOUR));
    assert_eq!(values(&log, "t", P0).len(), 99);
}

#[test]
fn records_without_a_key_are_not_lost_to_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = at(&folder);
    create(&log, "t", 1, Cleanup::Compact { tombstone_ms: HOUR });
    let long = "x".repeat(70_000);
    for value in ["1", "2"] {
        let keyless = OutRecord { key: None, ..put("t", P0, "", value) };
        let empty = put("t", P0, "", value);
        log.append(vec![keyless, empty, put("t", P0, &long, value)]).unwrap();
    }
    maintain(&log, WallTime(10 * HOUR));
    assert_eq!(values(&log, "t", P0).len(), 6);
}

#[test]
fn a_deleted_topics_records_leave_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = at(&folder);
    create(&log, "t", 2, Cleanup::Compact { tombstone_ms: HOUR });
    create(&log, "other", 1, KEPT);
    let mut member = owner(&log, "g", "t", "a");
    append(&log, "t", 0..2_100);
    append(&log, "other", 0..3);
    member.commit(&[(P0, NextOffset(2_100))]).unwrap();
    maintain(&log, WallTime(1_000));
    log.delete_topic(&name("t")).unwrap();
    let gone = member.poll(1, Duration::ZERO);
    assert!(matches!(gone, Err(LogError::NoTopic(_))), "{gone:?}");
    drop((member, log));
    let (log, _) = at(&folder);
    maintain(&log, WallTime(1_000));
    assert_eq!(log.inner.store.records.len().unwrap(), 3);
    assert_eq!(log.inner.store.keys.len().unwrap(), 0);
    let left: Vec<_> =
        log.inner.store.meta.iter().map(|pair| pair.key().unwrap().to_vec()).collect();
    let kinds: Vec<char> = left.iter().map(|key| char::from(key[0])).collect();
    assert_eq!(kinds, ['e', 'f', 'n', 't'], "only of the other topic and of the folder");
}

#[test]
fn the_logs_own_thread_removes_what_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { maintenance: Some(Duration::from_millis(5)), ..fast() };
    let log = EmbeddedLog::open(folder.path(), settings).unwrap();
    create(&log, "t", 1, Cleanup::Delete { retention_ms: Some(1) });
    append(&log, "t", 0..10);
    let mut reader = log.reader(Isolation::Committed).unwrap();
    for _ in 0..24_000 {
        // Bounds only: between asking for them and reading, the thread may remove what was there.
        let (first, end) = reader.bounds(&name("t"), P0).unwrap();
        if first == end {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("nothing was removed");
}
