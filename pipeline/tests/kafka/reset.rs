//! A stage that begins anew on a real broker: refused while a process of another folder runs it, done once
//! that one has ended.

use std::{fs, path::Path};

use crate::{
    harness::brokers,
    process::{begin, semel, stop, unique, until},
};

fn spec(name: &str) -> String {
    format!(
        r#"
[pipeline]
name = "{name}"
partitions = 2
data = "data"

[log]
brokers = "{}"
allow_one_broker = true

[[stage]]
name = "dedupe"
input = "in"
input_type = "event"
output = ["out"]
outputs = {{ duplicates = ["duplicates"] }}

[[stage.operators]]
use = "dedupe"
record = "event"
id = ["id"]
window_slots = 100
"#,
        brokers()
    )
}

fn out(folder: &Path) -> usize {
    let read = semel(folder, &["consume", "p.toml", "out", "--type", "event"]);
    String::from_utf8_lossy(&read.stdout).lines().count()
}

#[test]
fn a_stage_begins_anew_once_no_process_runs_it() {
    let (running, other) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let name = unique("reset");
    for folder in [&running, &other] {
        fs::write(folder.path().join("p.toml"), spec(&name)).expect("written");
    }
    let child = begin(running.path());
    for id in ["a", "b", "a"] {
        let value = format!("{{\"id\":\"{id}\",\"slot\":1}}");
        let args = ["produce", "p.toml", "in", "--key", id, &value];
        assert!(semel(running.path(), &args).status.success());
    }
    until("two events", || out(other.path()) == 2);

    // From elsewhere: who runs it is found out by the group.
    let args = ["reset", "p.toml", "dedupe", "--to", "earliest", "--yes"];
    let refused = semel(other.path(), &args);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("still runs somewhere"), "{text}");
    stop(child);

    let done = semel(other.path(), &args);
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{text}");
    let state = semel(other.path(), &["state", "list", "p.toml", "dedupe", "--json"]);
    let state = String::from_utf8_lossy(&state.stdout).into_owned();
    assert!(state.lines().all(|line| line.contains("\"store\":\"_task\"")), "{state}");
    assert_eq!(out(other.path()), 2);

    let child = begin(running.path());
    until("both again, and no third", || out(other.path()) >= 4);
    stop(child);
    assert_eq!(out(other.path()), 4);
}
