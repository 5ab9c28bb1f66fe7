//! A pipeline from nothing: made, tested by its cases, run; and the cases of the specs that ship.

use std::fs;

use super::{
    SPEC, begin,
    look::{lines, pipe, semel, stop, until},
    says,
};

#[test]
fn a_new_pipeline_holds_its_cases_and_a_case_that_fails_says_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    says(&semel(at, &["new", "Orders"]), 2, &["`Orders` is no name of a pipeline"]);
    assert_eq!(lines(&semel(at, &["new", "orders"])).len(), 3);
    says(&semel(at, &["new", "orders"]), 1, &["orders", "exists"]);
    let inside = at.join("orders");
    let tested = lines(&semel(&inside, &["test", "orders.toml"]));
    assert_eq!(tested.last().unwrap(), "3 cases hold, 0 fail", "{tested:#?}");
    let file = inside.join("orders.test.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replacen("order_id = \"a0\", nonce = 0 } },", "order_id = \"x\" } },", 1),
    )
    .unwrap();
    let failed = semel(&inside, &["test", "orders.toml", "--only", "nonces"]);
    says(&failed, 1, &["see the differences"]);
    for text in [
        "FAILS  orders go on",
        "orders.test.toml:19: topic ordered, 1: value: order_id: expected \"x\", found \"a0\"",
        "0 cases hold, 1 fail",
    ] {
        assert!(failed.out.contains(text), "`{text}` is not in: {}", failed.out);
    }
    assert!(failed.out.contains("-    \"order_id\": \"x\"\n"), "{}", failed.out);
    assert!(failed.out.contains("+    \"order_id\": \"a0\"\n"), "{}", failed.out);
    for (from, to, line, what) in [
        (
            "expect =",
            "expct =",
            "orders.test.toml:1",
            "unknown key `expct`: did you mean `expect`?",
        ),
        ("{ topic", "{ topc", "orders.test.toml:1", "unknown key `topc`: did you mean `topic`?"),
        ("[[case]]\nname", "[[case]]\nnam", "orders.test.toml:", "unknown key `nam`"),
    ] {
        fs::write(&file, text.replacen(from, to, 1)).unwrap();
        says(&semel(&inside, &["test", "orders.toml"]), 2, &[line, what]);
    }
    fs::write(&file, text.replacen("topic = \"requests\"", "topic = \"request\"", 1)).unwrap();
    let failed = semel(&inside, &["test", "orders.toml"]);
    says(&failed, 1, &["see the differences"]);
    assert!(
        failed.out.contains("orders.test.toml:10: there is no topic `request`"),
        "{}",
        failed.out
    );
    fs::write(&file, &text).unwrap();
    says(&semel(&inside, &["test", "orders.toml", "--only", "nobody"]), 2, &["no such case"]);
    says(&semel(&inside, &["test", "orders.toml", "no.toml"]), 2, &["no.toml: it cannot be read"]);

    let child = begin(&inside, &["run", "orders.toml"], &[]);
    until(240, "an answer", || semel(&inside, &["topics", "orders.toml"]).code == Some(0));
    let records = fs::read_to_string(inside.join("records.ndjson")).unwrap();
    let records: Vec<String> = records.lines().map(str::to_owned).collect();
    let args = ["produce", "orders.toml", "requests", "--key-field", "account"];
    says(&pipe(&inside, &args, &records), 0, &["4 records written"]);
    let out = || lines(&semel(&inside, &["consume", "orders.toml", "ordered", "--type", "order"]));
    until(240, "three orders", || out().len() == 3);
    stop(child);
}

#[test]
fn the_cases_of_the_spec_that_ships_hold() {
    let folder = tempfile::tempdir().unwrap();
    let tested = semel(folder.path(), &["test", SPEC]);
    assert_eq!(tested.code, Some(0), "{}{}", tested.out, tested.err);
    assert!(tested.out.ends_with("5 cases hold, 0 fail\n"), "{}", tested.out);
}

#[test]
fn the_cases_of_the_spec_that_loads_a_file_hold() {
    let folder = tempfile::tempdir().unwrap();
    let spec = SPEC.replace("attention-oracle", "back-load");
    let tested = semel(folder.path(), &["test", &spec]);
    assert_eq!(tested.code, Some(0), "{}{}", tested.out, tested.err);
    assert!(tested.out.ends_with("3 cases hold, 0 fail\n"), "{}", tested.out);
}
