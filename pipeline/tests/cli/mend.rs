//! Dead letters and what a person does about them; one record's way; what a stage knows; the picture.

use std::{fs, path::Path};

use super::{
    begin,
    look::{SPEC, claim, lag, lines, running, semel, stop, until},
    says,
};

/// The pipeline, whose stage takes no record of the size of a claim.
fn narrow() -> String {
    SPEC.replace("input_type", "record_bytes_max = 100\ninput_type")
}

fn letters(at: &Path, more: &[&str]) -> Vec<String> {
    lines(&semel(at, &[&["dlq", "list", "toy.toml"][..], more].concat()))
}

#[test]
fn a_dead_letter_is_taken_again_once_its_fault_is_mended() {
    let (folder, child) = running();
    let at = folder.path();
    stop(child);
    let value = claim(1, "alpha");
    says(&semel(at, &["produce", "toy.toml", "in", "--key", "alpha", &value]), 0, &["1 records"]);
    fs::write(at.join("toy.toml"), narrow()).unwrap();
    let child = begin(at, &["run", "toy.toml"], &[]);
    until(240, "the dead letter", || {
        let list = semel(at, &["dlq", "list", "toy.toml"]);
        list.code == Some(0) && !list.out.is_empty()
    });
    let list = letters(at, &["--stage", "dedupe", "--fault", "SEM-0006", "--key", "alpha"]);
    assert!(list.len() == 1 && list[0].contains("the limit is 100"), "{list:?}");
    assert!(letters(at, &["--key", "beta"]).is_empty());
    let place = list[0].split_whitespace().nth(1).unwrap().to_owned();
    let shown = lines(&semel(at, &["dlq", "show", "toy.toml", &place]));
    let shown: serde_json::Value = serde_json::from_str(&shown[0]).unwrap();
    assert_eq!(shown["value"]["claim_id"], "twitch:alpha:u1");
    let origin = shown["headers"]["semel-origin"].as_str().unwrap().to_owned();
    stop(child);

    fs::write(at.join("toy.toml"), SPEC).unwrap();
    let none = semel(at, &["dlq", "replay", "toy.toml"]);
    says(&none, 2, &["say which dead letters"]);
    says(&semel(at, &["dlq", "replay", "toy.toml", "1/99"]), 1, &["no dead letter 1/99"]);
    let done = lines(&semel(at, &["dlq", "replay", "toy.toml", &place]));
    assert!(done[0].ends_with("taken again by `dedupe`"), "{done:?}");
    let twice = semel(at, &["dlq", "replay", "toy.toml", &place]);
    says(&twice, 1, &["was decided about by", "--again"]);
    let drop = semel(at, &["dlq", "drop", "toy.toml", "--all"]);
    says(&drop, 1, &["no dead letter fits"]);
    assert!(letters(at, &[]).is_empty());
    assert!(letters(at, &["--all"])[0].ends_with("replayed"));

    let child = begin(at, &["run", "toy.toml"], &[]);
    let out = || lines(&semel(at, &["consume", "toy.toml", "out", "--type", "claim", "--json"]));
    until(240, "the socket", || at.join("data/admin.sock").exists());
    until(240, "the claim", || out().len() == 1);
    let passed: serde_json::Value = serde_json::from_str(&out()[0]).unwrap();
    assert_eq!(passed["headers"]["semel-cause"], origin.as_str(), "it has the id that it had");

    let steps = lines(&semel(at, &["trace", "toy.toml", "twitch:alpha:u1"]));
    let order = ["record toy.in/", "refused: ", "record toy.in/", "record toy.out/"];
    let mut rest = steps.iter();
    for step in order {
        assert!(rest.any(|line| line.contains(step)), "`{step}` is not in its turn: {steps:#?}");
    }
    let state = lines(&semel(at, &["state", "list", "toy.toml", "dedupe"]));
    assert!(!state.is_empty());
    stop(child);
    assert_eq!(lines(&semel(at, &["trace", "toy.toml", &origin])).len(), steps.len());
}

#[test]
fn what_a_stage_knows_is_found_key_by_key() {
    let (folder, child) = running();
    let at = folder.path();
    for number in 1..=3 {
        let args = ["produce", "toy.toml", "in", "--key", "alpha", &claim(number, "alpha")];
        says(&semel(at, &args), 0, &["1 records"]);
    }
    let list = |more: &[&str]| {
        let args = [&["state", "list", "toy.toml", "dedupe", "--json"][..], more].concat();
        let rows = lines(&semel(at, &args));
        rows.iter()
            .map(|row| serde_json::from_str(row).unwrap())
            .collect::<Vec<serde_json::Value>>()
    };
    let own = |rows: &[serde_json::Value]| {
        let own = rows.iter().filter(|row| !row["store"].as_str().unwrap().starts_with('_'));
        own.cloned().collect::<Vec<_>>()
    };
    until(240, "three ids", || own(&list(&[])).len() >= 3);
    let rows = own(&list(&[]));
    let (store, key) = (rows[0]["store"].as_str().unwrap(), rows[0]["key"].as_str().unwrap());
    let got = lines(&semel(at, &["state", "get", "toy.toml", "dedupe", store, key, "--json"]));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&got[0]).unwrap(), rows[0]);
    assert_eq!(list(&[store, "--prefix", key]).len(), 1);
    assert_eq!(list(&["-n", "2"]).len(), 2);
    says(&semel(at, &["state", "get", "toy.toml", "dedupe", store, "nobody"]), 1, &["no such key"]);
    says(&semel(at, &["state", "list", "toy.toml", "dedupe", "idz"]), 1, &["no store `idz`"]);
    says(&semel(at, &["state", "get", "toy.toml", "dedupe", store, "0xq"]), 2, &["no key"]);
    says(&semel(at, &["trace", "toy.toml", "nobody"]), 1, &["bears the id `nobody`"]);
    stop(child);
}

#[test]
fn a_pipeline_is_drawn_with_every_topic_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("toy.toml"), SPEC).unwrap();
    let mermaid = lines(&semel(at, &["graph", "toy.toml"]));
    assert_eq!(mermaid[0], "flowchart LR");
    for node in ["[\"dedupe<br/>dedupe\"]", ">\"in\"]", ">\"out\"]", ">\"duplicates\"]"] {
        let found = mermaid.iter().filter(|line| line.contains(node)).count();
        assert_eq!(found, 1, "{node}: {mermaid:#?}");
    }
    assert_eq!(mermaid.iter().filter(|line| line.contains("-->")).count(), 3, "{mermaid:#?}");
    let dot = lines(&semel(at, &["graph", "toy.toml", "--format", "dot"]));
    assert!(dot[0].starts_with("digraph") && dot.last().unwrap() == "}", "{dot:#?}");
    says(&semel(at, &["graph", "toy.toml", "--live"]), 1, &["no data folder"]);
}

#[test]
fn a_paused_stage_stands_still_across_a_restart_until_it_is_resumed() {
    let (folder, child) = running();
    let at = folder.path();
    let paused = || semel(at, &["pause", "toy.toml", "dedupe"]);
    assert_eq!(lines(&paused()), ["`dedupe` stands still"]);
    says(&paused(), 1, &["is paused already"]);
    says(&semel(at, &["pause", "toy.toml", "dedup"]), 1, &["mean `dedupe`?"]);
    // Its lane has left when its partitions have no owner here any more.
    let here = || {
        let ended = semel(at, &["lag", "toy.toml", "--json"]);
        ended.out.contains("\"here\":{")
    };
    until(240, "the lane to leave", || !here());
    let produce = ["produce", "toy.toml", "in", "--key", "alpha", &claim(1, "alpha")];
    says(&semel(at, &produce), 0, &["1 records"]);
    stop(child);
    let child = begin(at, &["run", "toy.toml"], &[]);
    until(240, "an answer", || semel(at, &["topics", "toy.toml"]).code == Some(0));
    assert_eq!(lag(at), 1);
    assert!(!here());
    assert_eq!(lines(&semel(at, &["resume", "toy.toml", "dedupe"])), ["`dedupe` goes on"]);
    until(240, "the record", || lag(at) == 0);
    says(&semel(at, &["resume", "toy.toml", "dedupe"]), 1, &["is not paused"]);
    stop(child);
}
