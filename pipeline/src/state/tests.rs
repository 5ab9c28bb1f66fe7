//! One suite for every store, and what only the store on disk can show.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use semel_schemas::{
    time::WallTime,
    topic::{NextOffset, TopicId},
};

use super::{Checkpoint, KEY_MAX, LocalStore, MemStore, StoreError, TaskStore};
use crate::folder::DataFolder;

fn checkpoint(next: u64) -> Checkpoint {
    Checkpoint {
        changelog_next: NextOffset(next),
        topic_id: TopicId("t1".into()),
        promoted_at: WallTime(1_000 + next),
    }
}

fn writes(pairs: &[(&str, Option<&str>)]) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    pairs.iter().map(|(k, v)| (k.as_bytes().to_vec(), v.map(|v| v.as_bytes().to_vec()))).collect()
}

fn keys(found: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<String> {
    found.into_iter().map(|(k, _)| String::from_utf8(k).unwrap()).collect()
}

fn holds_the_contract(store: &mut dyn TaskStore) {
    assert_eq!(store.checkpoint().unwrap(), None);
    let first = [("b/1", Some("1")), ("a", Some("0")), ("b/2", Some("2")), ("b/3", Some(""))];
    store.promote(&writes(&first), &checkpoint(4)).unwrap();
    assert_eq!(store.get(b"b/1").unwrap().as_deref(), Some(b"1".as_slice()));
    assert_eq!(store.get(b"b/3").unwrap().as_deref(), Some(b"".as_slice()), "empty is a value");
    assert_eq!(store.get(b"b/").unwrap(), None);
    assert_eq!(store.checkpoint().unwrap(), Some(checkpoint(4)));
    assert_eq!(keys(store.scan(b"", b"", 9).unwrap()), ["a", "b/1", "b/2", "b/3"]);
    assert_eq!(keys(store.scan(b"b/", b"", 2).unwrap()), ["b/1", "b/2"]);
    assert_eq!(keys(store.scan(b"b/", b"b/2", 9).unwrap()), ["b/2", "b/3"]);
    assert_eq!(keys(store.scan(b"b/", b"a", 9).unwrap()), ["b/1", "b/2", "b/3"]);
    assert_eq!(keys(store.scan(b"b/", b"c", 9).unwrap()), [""; 0], "from lies behind the prefix");
    assert_eq!(keys(store.scan(b"", b"", 0).unwrap()), [""; 0]);

    store.promote(&writes(&[("b/1", None), ("a", Some("9"))]), &checkpoint(7)).unwrap();
    assert_eq!(keys(store.scan(b"", b"", 9).unwrap()), ["a", "b/2", "b/3"]);
    assert_eq!(store.get(b"a").unwrap().as_deref(), Some(b"9".as_slice()));

    let long = BTreeMap::from([
        (b"a".to_vec(), Some(b"lost".to_vec())),
        (vec![b'x'; KEY_MAX + 1], Some(vec![])),
    ]);
    let refused = store.promote(&long, &checkpoint(8));
    assert_eq!(refused, Err(StoreError::KeyTooLong { size: KEY_MAX + 1 }));
    assert_eq!(store.checkpoint().unwrap(), Some(checkpoint(7)), "a refusal changes nothing");
    assert_eq!(store.get(b"a").unwrap().as_deref(), Some(b"9".as_slice()));
    let longest = BTreeMap::from([(vec![b'x'; KEY_MAX], Some(b"y".to_vec()))]);
    store.promote(&longest, &checkpoint(9)).unwrap();
    assert_eq!(store.get(&vec![b'x'; KEY_MAX]).unwrap().as_deref(), Some(b"y".as_slice()));

    store.wipe().unwrap();
    assert_eq!(store.checkpoint().unwrap(), None);
    assert_eq!(keys(store.scan(b"", b"", 9).unwrap()), [""; 0]);
}

#[test]
fn both_stores_hold_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let local = LocalStore::open(folder.path()).unwrap();
    holds_the_contract(&mut local.task("stage/topic/1").unwrap());
    holds_the_contract(&mut MemStore::new());
}

#[test]
fn tasks_do_not_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let local = LocalStore::open(folder.path()).unwrap();
    let mut one = local.task("s/1").unwrap();
    let mut eleven = local.task("s/11").unwrap();
    one.promote(&writes(&[("k", Some("one")), ("z", Some("z"))]), &checkpoint(1)).unwrap();
    eleven.promote(&writes(&[("k", Some("eleven"))]), &checkpoint(11)).unwrap();
    assert_eq!(keys(one.scan(b"", b"", 9).unwrap()), ["k", "z"]);
    one.wipe().unwrap();
    assert_eq!(eleven.get(b"k").unwrap().as_deref(), Some(b"eleven".as_slice()));
    assert_eq!(eleven.checkpoint().unwrap(), Some(checkpoint(11)));
}

#[test]
fn values_and_checkpoint_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let local = LocalStore::open(folder.path()).unwrap();
    let mut task = local.task("t").unwrap();
    task.promote(&writes(&[("k", Some("v"))]), &checkpoint(3)).unwrap();
    drop((task, local));
    let task = LocalStore::open(folder.path()).unwrap().task("t").unwrap();
    assert_eq!(task.get(b"k").unwrap().as_deref(), Some(b"v".as_slice()));
    assert_eq!(task.checkpoint().unwrap(), Some(checkpoint(3)));
}

#[test]
fn an_earlier_owner_writes_nothing_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let local = LocalStore::open(folder.path()).unwrap();
    let mut old = local.task("t").unwrap();
    old.promote(&writes(&[("k", Some("old"))]), &checkpoint(1)).unwrap();
    let mut new = local.task("t").unwrap();
    let late = old.promote(&writes(&[("k", Some("late"))]), &checkpoint(2));
    assert_eq!(late, Err(StoreError::Fenced { task: "t".into() }));
    assert_eq!(old.wipe(), Err(StoreError::Fenced { task: "t".into() }));
    assert_eq!(new.get(b"k").unwrap().as_deref(), Some(b"old".as_slice()));
    new.promote(&writes(&[("k", Some("new"))]), &checkpoint(2)).unwrap();
}

#[test]
fn values_that_an_interrupted_wipe_left_are_gone_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataFolder::open(folder.path()).unwrap();
    let local = LocalStore::within(&data).unwrap();
    let mut task = local.task("t").unwrap();
    task.promote(&writes(&[("k", Some("v"))]), &checkpoint(3)).unwrap();
    // What the first step of a wipe does, and then the power fails.
    data.keyspace("state", 1 << 20).unwrap().remove(b"\0\x01t\0").unwrap();
    let task = local.task("t").unwrap();
    assert_eq!(task.get(b"k").unwrap(), None);
}

#[test]
fn the_layout_on_disk_is_frozen() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataFolder::open(folder.path()).unwrap();
    let mut task = LocalStore::within(&data).unwrap().task("ab").unwrap();
    task.promote(&writes(&[("k", Some("v"))]), &checkpoint(3)).unwrap();
    let found: Vec<(Vec<u8>, String)> = data
        .keyspace("state", 1 << 20)
        .unwrap()
        .iter()
        .map(|pair| {
            let (key, value) = pair.into_inner().unwrap();
            (key.to_vec(), String::from_utf8(value.to_vec()).unwrap())
        })
        .collect();
    let checkpoint = r#"{"changelog_next":3,"topic_id":"t1","promoted_at":1003}"#;
    assert_eq!(
        found,
        [
            (b"\0\x02ab\0".to_vec(), checkpoint.to_owned()),
            (b"\0\x02ab\x01k".to_vec(), "v".to_owned())
        ]
    );
}

#[test]
fn most_of_what_was_written_does_not_stay_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataFolder::open(folder.path()).unwrap();
    let mut task = LocalStore::within(&data).unwrap().task("t").unwrap();
    for batch in 0..48_u64 {
        let values =
            (0..1_024).map(|i| (format!("{batch}/{i}").into_bytes(), Some(vec![7; 1_024])));
        task.promote(&values.collect(), &checkpoint(batch)).unwrap();
    }
    // Tables are written by threads of the database; a write asks for what it owes.
    let within = Instant::now() + Duration::from_secs(100);
    while data.db().write_buffer_size() > 16 << 20 {
        assert!(Instant::now() < within, "{} bytes stay in memory", data.db().write_buffer_size());
        std::thread::sleep(Duration::from_millis(20));
        task.promote(&BTreeMap::new(), &checkpoint(99)).unwrap();
    }
    assert_eq!(task.get(b"0/0").unwrap(), Some(vec![7; 1_024]));
}
