//! A stage on a real broker that gets other partitions: refused while a process of another folder runs it,
//! done once that one has ended; then the state has gone with its keys, and each record went on once and in
//! order.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use crate::{
    harness::brokers,
    process::{begin, feed, semel, stop, unique, until},
};

const KEYS: [&str; 8] = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"];

fn spec(name: &str, topics: &str) -> String {
    format!(
        r#"
[pipeline]
name = "{name}"
partitions = 3
data = "data"

[log]
brokers = "{}"
allow_one_broker = true

[[stage]]
name = "order"
input = "in"
input_type = "request"
output = ["out"]
outputs = {{ refused = ["refused"] }}

[[stage.operators]]
use = "nonce_order"
record = "request"
gap_timeout_ms = 3600000

{topics}
"#,
        brokers()
    )
}

/// Writes these nonces of each key, one key after the other.
fn send(folder: &Path, nonces: &[u64]) {
    let record = |key: &str, nonce: &u64| format!("{{\"account\":\"{key}\",\"nonce\":{nonce}}}\n");
    let lines = |key: &&str| nonces.iter().map(|nonce| record(key, nonce)).collect::<String>();
    fs::write(folder.join("records"), KEYS.iter().map(lines).collect::<String>()).expect("written");
    let args = ["produce", "p.toml", "in", "--key-field", "account"];
    let done = feed(folder, &args, "records");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The nonces that went on, key by key, in the order of the log.
fn went(folder: &Path) -> BTreeMap<String, Vec<u64>> {
    let read = semel(folder, &["consume", "p.toml", "out", "--type", "request", "--json"]);
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let mut went: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&read.stdout).lines() {
        let record: Value = serde_json::from_str(line).expect("JSON");
        let value = &record["value"];
        let key = value["account"].as_str().expect("an account").to_owned();
        went.entry(key).or_default().push(value["nonce"].as_u64().expect("a nonce"));
    }
    went
}

fn all(nonces: &[u64]) -> BTreeMap<String, Vec<u64>> {
    KEYS.iter().map(|key| ((*key).to_owned(), nonces.to_vec())).collect()
}

fn lag(folder: &Path) -> u64 {
    let told = semel(folder, &["lag", "p.toml", "order", "--json"]);
    let rows: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    rows.as_array().expect("rows").iter().map(|row| row["lag"].as_u64().expect("a lag")).sum()
}

fn refused(folder: &Path, args: &[&str], parts: &[&str]) {
    let told = semel(folder, args);
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!told.status.success() && parts.iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn a_stage_goes_on_in_other_partitions_and_each_record_once_and_in_order() {
    let (running, other) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let name = unique("repart");
    let write = |topics: &str| {
        for folder in [&running, &other] {
            fs::write(folder.path().join("p.toml"), spec(&name, topics)).expect("written");
        }
    };
    write("");
    let child = begin(running.path());
    // 2 and 4 wait: they are the state that has to go with its key.
    send(running.path(), &[0, 2, 4]);
    until("the first of each key", || went(other.path()) == all(&[0]) && lag(other.path()) == 0);

    // From elsewhere: who runs it is found out by the group.
    let args = ["repartition", "p.toml", "order", "5", "--yes"];
    refused(other.path(), &args, &["still runs somewhere"]);
    stop(child);
    let done = semel(other.path(), &args);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.ends_with("[topics.in]\npartitions = 5\ngeneration = 2\n"), "{said}");

    // The old spec is refused; the same folder, whose local state is of the old topics, goes on by the
    // new one.
    refused(running.path(), &["run", "p.toml"], &["was repartitioned", "generation = 2"]);
    refused(other.path(), &args, &["was repartitioned"]);
    write("[topics.in]\npartitions = 5\ngeneration = 2");
    let child = begin(running.path());
    send(running.path(), &[1, 3]);
    until("what waited", || went(other.path()) == all(&[0, 1, 2, 3, 4]));
    send(running.path(), &[5]);
    until("the next of each key", || went(other.path()) == all(&[0, 1, 2, 3, 4, 5]));
    stop(child);

    // And back to fewer, by a process that has no state on its disk.
    let args = ["repartition", "p.toml", "order", "2", "--yes"];
    let done = semel(other.path(), &args);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    write("[topics.in]\npartitions = 2\ngeneration = 3");
    let child = begin(other.path());
    send(other.path(), &[6]);
    until("the last of each key", || {
        lag(other.path()) == 0 && went(running.path())["bob"].len() > 6
    });
    stop(child);
    assert_eq!(went(running.path()), all(&[0, 1, 2, 3, 4, 5, 6]));
    let refused = semel(running.path(), &["consume", "p.toml", "refused", "--json"]);
    assert_eq!(String::from_utf8_lossy(&refused.stdout), "");
}
