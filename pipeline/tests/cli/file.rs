//! A file of a legacy system, loaded by a process: once, with its bad line told, also after a restart.

use std::fs;

use super::{
    look::{Told, claim, lines, semel, until},
    says,
};

const SPEC: &str = r#"
[pipeline]
name = "toy"
partitions = 2
data = "data"

[files.legacy]
path = "legacy.ndjson"
format = "ndjson"
type = "claim"
key = "channel"
slot = "slot"

[[source]]
name = "load"
output = ["in"]
outputs = { alerts = ["alerts"] }

[[source.operators]]
use = "file_source"
name = "load"
file = "legacy"
max_records = 2

[[stage]]
name = "dedupe"
input = "in"
input_type = "claim"
output = ["out"]
outputs = { duplicates = ["duplicates"] }

[[stage.operators]]
use = "dedupe"
record = "claim"
retraction = "claim.retracted"
id = ["claim_id"]
fact = ["signature", "ix_index"]
slot = "slot"
window_slots = 100
"#;

#[test]
fn a_file_is_loaded_once_and_lag_and_top_tell_how_far() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("toy.toml"), SPEC).unwrap();
    let mut content: Vec<String> = (1..=5).map(|number| claim(number, "alpha")).collect();
    content.insert(2, "{\"claim_id\": oops".to_owned());
    fs::write(at.join("legacy.ndjson"), content.join("\n")).unwrap();
    let out = || semel(at, &["consume", "toy.toml", "out", "--type", "claim", "--json"]);
    let file = || {
        let ended = semel(at, &["lag", "toy.toml", "load", "--json"]);
        let rows: serde_json::Value = serde_json::from_str(&lines(&ended)[0]).unwrap();
        rows[0]["file"].clone()
    };
    for _ in 0..2 {
        let told = Told::toy(at);
        until(240, "five claims", || lines(&out()).len() == 5);
        until(240, "the end", || file()["doing"] == "complete");
        let found = file();
        assert_eq!((found["records"].as_u64(), found["bad"].as_u64()), (Some(5), Some(1)));
        let top = lines(&semel(at, &["top", "toy.toml", "--once"]));
        assert!(top.iter().any(|line| line.contains("file read")), "{top:?}");
        told.stop();
    }
    let letters = lines(&semel(at, &["dlq", "list", "toy.toml"]));
    assert!(letters.len() == 1 && letters[0].contains("(legacy.ndjson), line 3"), "{letters:?}");
    let told = lines(&semel(at, &["lag", "toy.toml", "load"]));
    assert!(told.iter().any(|line| line.contains("5 records, 1 bad lines")), "{told:?}");
    assert_eq!(lines(&out()).len(), 5);
}

#[test]
fn a_file_that_is_not_there_is_one_sentence_and_a_command_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("toy.toml"), SPEC).unwrap();
    let process = Told::toy(at);
    let told = || lines(&semel(at, &["lag", "toy.toml", "load"])).join("\n");
    until(240, "the sentence", || told().contains("file `legacy` (legacy.ndjson) is not there"));
    fs::write(at.join("legacy.ndjson"), claim(1, "alpha")).unwrap();
    let command = r#"{"source":"load","by":"ann"}"#;
    let resume =
        ["produce", "toy.toml", "load.control", "--key", "load", "--type", "semel.resume", command];
    says(&semel(at, &resume), 0, &["1 records"]);
    until(240, "the end", || told().contains("file read to its end"));
    process.stop();
}

#[test]
fn settings_of_a_file_that_are_wrong_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (from, to, code, parts) in [
        ("format = \"ndjson\"", "format = \"xml\"", 2, ["toy.toml:", "xml"]),
        ("key = \"channel\"", "key = \"\"", 2, ["file `legacy`", "`key` is empty"]),
        ("max_records = 2", "max_records = 0", 2, ["toy.toml", "`max_records` is 0"]),
    ] {
        fs::write(at.join("toy.toml"), SPEC.replace(from, to)).unwrap();
        says(&semel(at, &["run", "toy.toml"]), code, &parts);
    }
}
