//! A stage that gets other partitions: said first, refused while a process runs, and with the old spec
//! behind it.

use std::{fs, path::Path};

use super::{
    look::{Told, lines, semel, until},
    says,
};

const SPEC: &str = r#"
[pipeline]
name = "toy"
partitions = 2
data = "data"

[[stage]]
name = "order"
input = "in"
input_type = "request"
output = ["out"]
outputs = { refused = ["refused"] }

[[stage.operators]]
use = "nonce_order"
record = "request"
gap_timeout_ms = 3600000
"#;

fn start(at: &Path, spec: &str) -> Told {
    fs::write(at.join("toy.toml"), spec).unwrap();
    Told::toy(at)
}

fn send(at: &Path, nonce: u32) {
    for key in ["alice", "bob", "carol", "dave"] {
        let value = format!("{{\"nonce\":{nonce}}}");
        let args = ["produce", "toy.toml", "in", "--key", key, &value];
        says(&semel(at, &args), 0, &["1 records"]);
    }
}

/// The nonces of a key that went on, in order.
fn went(at: &Path, key: &str) -> Vec<u64> {
    let found = lines(&semel(at, &["consume", "toy.toml", "out", "--json", "--key", key]));
    let nonce = |line: &String| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["value"]["nonce"].as_u64().unwrap()
    };
    found.iter().map(nonce).collect()
}

fn all(at: &Path, nonces: &[u64]) -> bool {
    ["alice", "bob", "carol", "dave"].iter().all(|key| went(at, key) == nonces)
}

fn lag(at: &Path) -> u64 {
    let ended = semel(at, &["lag", "toy.toml", "order", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&lines(&ended)[0]).unwrap();
    rows.as_array().unwrap().iter().map(|row| row["lag"].as_u64().unwrap()).sum()
}

#[test]
fn a_stage_goes_on_in_other_partitions_and_only_by_the_changed_spec() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let told = start(at, SPEC);
    for nonce in [0, 2] {
        send(at, nonce);
    }
    until(240, "the first to go on", || lag(at) == 0 && all(at, &[0]));

    // Beside the process that runs: it is said what would happen, and nothing does.
    let args = ["repartition", "toy.toml", "order", "5"];
    let dry = semel(at, &args);
    says(&dry, 0, &["nothing was changed"]);
    assert!(dry.out.contains("toy.in is not read any more"), "{}", dry.out);
    says(&semel(at, &[&args[..], &["--yes"]].concat()), 1, &["`order` runs", "end the processes"]);
    told.stop();

    let done = lines(&semel(at, &[&args[..], &["--yes"]].concat()));
    let last: Vec<&str> = done.iter().rev().take(4).rev().map(String::as_str).collect();
    let say = "`order` goes on in toy.in.g2; write into the spec:";
    assert_eq!(last, [say, "[topics.in]", "partitions = 5", "generation = 2"]);

    // The old spec: nothing is run, looked at or written by it.
    let value = "{\"nonce\":1}";
    let old: [&[&str]; 3] = [
        &["run", "toy.toml"],
        &["produce", "toy.toml", "in", "--key", "bob", value],
        &["repartition", "toy.toml", "order", "5", "--yes"],
    ];
    for args in old {
        says(&semel(at, args), 1, &["was repartitioned", "under [topics.in]"]);
    }

    let told = start(at, &format!("{SPEC}\n{}\n", last[1..].join("\n")));
    send(at, 1);
    until(240, "what waited and what it waited for", || lag(at) == 0 && all(at, &[0, 1, 2]));
    let said = lines(&semel(at, &["consume", "toy.toml", "commands", "--json"]));
    assert!(said.iter().any(|line| line.contains("\"repartition\"")), "{said:#?}");
    told.stop();
}

#[test]
fn a_stage_that_cannot_tell_whose_its_state_is_keeps_its_partitions() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let told = start(at, super::look::SPEC);
    let claim = super::look::claim(1, "alpha");
    says(&semel(at, &["produce", "toy.toml", "in", "--key", "alpha", &claim]), 0, &["1 records"]);
    until(240, "the claim", || super::look::lag(at) == 0);
    told.stop();
    let args = ["repartition", "toy.toml", "dedupe", "3", "--yes"];
    says(&semel(at, &args), 1, &["nothing tells to which record key", "keeps its partitions"]);
    let told = start(at, super::look::SPEC);
    told.stop();
}
