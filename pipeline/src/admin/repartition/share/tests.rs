//! Whose a pair is, as tables.

use std::sync::Arc;

use semel_schemas::partition::partition_for_key;

use super::*;
use crate::spec::{parse::parse, plan::Plan};

const BATCH: &str = "use = \"batch\"\nrecord = \"request\"\n";
const DEDUPE: &str = "use = \"dedupe\"\nrecord = \"request\"\nid = [\"id\"]\nwindow_slots = 9\n";

fn stage(operators: &[&str]) -> Arc<Stage> {
    let mut text = "[pipeline]\nname = \"p\"\npartitions = 2\n\n[[stage]]\nname = \"s\"\n\
                    input = \"in\"\noutput = [\"out\"]\n"
        .to_owned();
    for operator in operators {
        text += "\n[[stage.operators]]\n";
        text += operator;
    }
    let (spec, source) = parse("p.toml", &text, &|_| None).unwrap();
    Plan::new(&spec, &source).unwrap().stages[0].0.clone()
}

/// Two old tasks, each pair where the key (the pair's third part) belongs.
fn tasks(all: &[(&str, Vec<u8>, &str, Vec<u8>)]) -> [Pairs; 2] {
    let mut tasks = [Pairs::new(), Pairs::new()];
    for (store, key, owner, value) in all {
        let Partition(home) = partition_for_key(owner.as_bytes(), 2);
        tasks[home as usize].insert(full_key(store, key), value.clone());
    }
    tasks
}

fn shared(stage: &Stage, old: &[Pairs; 2], partitions: u32) -> Result<Vec<Pairs>, String> {
    share(stage, &[&old[0], &old[1]], partitions)
}

fn due(name: &str) -> Vec<u8> {
    [&[0_u8][..], &7_u64.to_be_bytes(), &[0], name.as_bytes()].concat()
}

#[test]
fn what_belongs_to_a_key_goes_where_its_records_go() {
    let stage = stage(&[BATCH]);
    let keys: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
    let mut all = Vec::new();
    for key in &keys {
        let key = key.as_str();
        let bytes = key.as_bytes().to_vec();
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        let place = [&length[..], &bytes, &0_u64.to_be_bytes()].concat();
        all.push(("batch_open", bytes.clone(), key, b"open".to_vec()));
        all.push((quarantine::HELD, bytes.clone(), key, b"{}".to_vec()));
        all.push((quarantine::QUEUE, place, key, b"{}".to_vec()));
        all.push((timers::BY_DUE, due(&format!("t.{key}")), key, bytes));
        let name = [&[0_u8, 0][..], format!("t.{key}").as_bytes()].concat();
        all.push((timers::BY_NAME, name, key, 7_u64.to_be_bytes().to_vec()));
    }
    let old = tasks(&all);
    for partitions in [1, 3, 5, 64] {
        let new = shared(&stage, &old, partitions).unwrap();
        assert_eq!(new.len(), partitions as usize);
        assert_eq!(new.iter().map(Pairs::len).sum::<usize>(), all.len(), "none lost, none twice");
        for (store, key, owner, value) in &all {
            let Partition(to) = partition_for_key(owner.as_bytes(), partitions);
            assert_eq!(new[to as usize].get(&full_key(store, key)), Some(value), "{owner} {store}");
        }
    }
}

#[test]
fn what_every_task_has_goes_to_each_and_must_be_the_same() {
    let stage = stage(&[BATCH]);
    let mut old = [Pairs::new(), Pairs::new()];
    for pairs in &mut old {
        pairs.insert(full_key(PROGRESS_STORE, b"chain/0"), b"{}".to_vec());
        pairs.insert(full_key(META, b""), b"{}".to_vec());
    }
    let new = shared(&stage, &old, 3).unwrap();
    let want: Pairs = [(full_key(PROGRESS_STORE, b"chain/0"), b"{}".to_vec())].into();
    assert_eq!(new, [want.clone(), want.clone(), want]);
    old[1].insert(full_key(PROGRESS_STORE, b"chain/0"), b"{\"later\":1}".to_vec());
    assert!(shared(&stage, &old, 3).unwrap_err().contains("not come equally far"));
}

#[test]
fn what_nobody_can_tell_the_key_of_is_refused() {
    let attempt = 1_u64.to_be_bytes().to_vec();
    let name = [&[0_u8, 0][..], b"t.k"].concat();
    let two = [DEDUPE, BATCH];
    for (operators, store, key, sentence) in [
        (&[DEDUPE][..], "dedupe_ids", vec![7; 16], "nothing tells to which record key"),
        (&[BATCH][..], "ids", vec![7; 16], "nothing tells to which record key"),
        (&two[..], "batch_open", b"k".to_vec(), "nothing tells to which record key"),
        (&[BATCH][..], effects::PENDING, attempt.clone(), "effects without an outcome"),
        (&[BATCH][..], effects::BY_ID, attempt, "effects without an outcome"),
        (&[BATCH][..], timers::BY_NAME, name, "nothing tells to which record key"),
        (&[BATCH][..], quarantine::QUEUE, vec![0, 0, 0, 9, 1], "nothing tells to which record key"),
    ] {
        let old = tasks(&[(store, key, "k", Vec::new())]);
        let told = shared(&stage(operators), &old, 3).unwrap_err();
        assert!(told.contains(sentence) && told.contains("`s`"), "{store}: {told}");
    }
}

#[test]
fn what_lies_elsewhere_than_its_key_says_is_refused() {
    let stage = stage(&[BATCH]);
    let mut old = tasks(&[("batch_open", b"k".to_vec(), "k", b"open".to_vec())]);
    assert!(shared(&stage, &old, 3).is_ok());
    old.swap(0, 1);
    let told = shared(&stage, &old, 3).unwrap_err();
    assert!(told.contains("`k` of store `batch_open`") && told.contains("of his own"), "{told}");
}

#[test]
fn two_of_one_name_do_not_become_one() {
    let stage = stage(&[BATCH]);
    let keys = ["a", "b", "c", "d", "e", "f"];
    let of = |home: u32| {
        let mut keys = keys.iter().map(|key| key.as_bytes().to_vec());
        keys.find(|key| partition_for_key(key, 2) == Partition(home)).unwrap()
    };
    let mut old = [Pairs::new(), Pairs::new()];
    for (home, pairs) in (0..).zip(&mut old) {
        pairs.insert(full_key(timers::BY_DUE, &due("flush")), of(home));
    }
    assert!(shared(&stage, &old, 1).unwrap_err().contains("both would come to partition 0"));
}
