//! A stage that gets other partitions, over the simulated log and the engine's real lanes.

use std::{collections::BTreeMap, sync::Arc};

use semel_schemas::{partition::partition_for_key, record::Record};

use super::*;
use crate::{
    log::Log,
    spec::{parse::parse, plan::Plan},
    testing::{Driver, LaneId},
};

const SPEC: &str = r#"
[pipeline]
name = "p"
partitions = 2

[[stage]]
name = "order"
input = "in"
output = ["out"]
outputs = { refused = ["refused"] }
on_fault = "quarantine_key"

[[stage.operators]]
use = "nonce_order"
record = "request"
gap_timeout_ms = 60000

[[stage.operators]]
use = "batch"
record = "request"
max_records = 2
max_wait_ms = 30000
"#;

fn plan(more: &str) -> Arc<Plan> {
    let text = format!("{SPEC}\n{more}");
    let (spec, source) = parse("p.toml", &text, &|_| None).unwrap();
    Arc::new(Plan::new(&spec, &source).unwrap())
}

fn changed(partitions: u32, generation: u32) -> Arc<Plan> {
    plan(&format!("[topics.in]\npartitions = {partitions}\ngeneration = {generation}\n"))
}

fn view(driver: &Driver, plan: &Arc<Plan>) -> View {
    View { log: Arc::new(driver.sim().clone()), plan: plan.clone(), live: None }
}

fn ask(partitions: u32, act: Act) -> Repartition {
    Repartition { stage: "order".into(), partitions, act, by: "ann@here".into() }
}

fn refused<T: std::fmt::Debug>(asked: Result<T, Stop>) -> String {
    asked.unwrap_err().sentence()
}

fn send(driver: &mut Driver, topic: &str, key: &str, nonce: u32) {
    let value = format!("{{\"nonce\":{nonce}}}");
    driver.pipe(topic, key, &value, "request").unwrap();
}

/// A pipeline whose stage has worked up some records and ended: of each key two nonces went on, one
/// waits in its batch, and one is early.
fn stopped(plan: &Arc<Plan>, keys: &[String]) -> Driver {
    let mut driver = Driver::of_plan(plan).unwrap();
    for nonce in [0, 1, 2, 4] {
        keys.iter().for_each(|key| send(&mut driver, "p.in", key, nonce));
    }
    driver.run_until_idle().unwrap();
    let lane = driver.lane_of("order").unwrap();
    driver.drain(lane).unwrap();
    driver
}

fn go_on(driver: &mut Driver, plan: &Plan, process: &str) -> LaneId {
    let lane = driver.join(plan.stages[0].0.clone(), process);
    driver.run_until_idle().unwrap();
    lane
}

fn keys() -> Vec<String> {
    (0..12).map(|n| format!("k{n}")).collect()
}

/// The nonces that went on, key by key, in the order of the log.
fn went(driver: &Driver) -> BTreeMap<String, Vec<u64>> {
    let mut went: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for Record { key, value, .. } in driver.read("p.out").unwrap() {
        let batch: serde_json::Value = serde_json::from_slice(&value.unwrap()).unwrap();
        let nonces = batch["records"].as_array().unwrap().iter();
        let key = String::from_utf8(key.unwrap()).unwrap();
        went.entry(key).or_default().extend(nonces.map(|r| r["value"]["nonce"].as_u64().unwrap()));
    }
    went
}

fn all(keys: &[String], nonces: &[u64]) -> BTreeMap<String, Vec<u64>> {
    keys.iter().map(|key| (key.clone(), nonces.to_vec())).collect()
}

#[test]
fn each_record_goes_on_once_and_in_order_whether_partitions_become_more_or_fewer() {
    for partitions in [5, 1] {
        let (plan, keys) = (plan(""), keys());
        let mut driver = stopped(&plan, &keys);
        assert_eq!(went(&driver), all(&keys, &[0, 1]));
        let looked = repartition(&view(&driver, &plan), &ask(partitions, Act::Look)).unwrap();
        assert!(driver.sim().topic(&TopicName::new("p.in.g2").unwrap()).unwrap().is_none());
        let done = repartition(&view(&driver, &plan), &ask(partitions, Act::Do)).unwrap();
        assert_eq!(done, looked, "what was said is what was done");
        // A track, an early record and a batch of each key; a timer for the gap, one for the batch.
        let sum = |count: fn(&SharedRow) -> u64| done.rows.iter().map(count).sum::<u64>();
        assert_eq!((sum(|row| row.keys), sum(|row| row.timers)), (36, 24));

        let next = changed(partitions, 2);
        go_on(&mut driver, &next, "1");
        keys.iter().for_each(|key| send(&mut driver, "p.in.g2", key, 3));
        driver.run_until_idle().unwrap();
        assert_eq!(went(&driver), all(&keys, &[0, 1, 2, 3]));
        // Timers that were set before the switch fire behind it: 4 waits in its batch.
        driver.advance(70_000).unwrap();
        assert_eq!(went(&driver), all(&keys, &[0, 1, 2, 3, 4]));
        for key in &keys {
            let lies =
                driver.scan("order", partition_for_key(key.as_bytes(), partitions), "nonce_tracks");
            assert!(!lies.is_empty(), "{key}");
        }
        assert!(driver.read("p.refused").unwrap().is_empty());
        assert!(driver.read("p.dead-letter").unwrap().is_empty());
        let said = driver.read("p.commands").unwrap();
        let said = String::from_utf8(said[0].value.clone().unwrap()).unwrap();
        assert!(said.contains("\"repartition\"") && said.contains("ann@here"), "{said}");
    }
}

#[test]
fn a_gap_that_began_before_the_switch_ends_behind_it() {
    let (plan, keys) = (plan(""), keys());
    let mut driver = stopped(&plan, &keys);
    repartition(&view(&driver, &plan), &ask(3, Act::Do)).unwrap();
    go_on(&mut driver, &changed(3, 2), "1");
    driver.advance(70_000).unwrap();
    let refused = driver.read("p.refused").unwrap();
    assert_eq!(refused.len(), keys.len(), "each early record's caller is told, once");
}

#[test]
fn who_has_the_old_spec_is_told_what_to_write_and_loses_nothing() {
    let (plan, keys) = (plan(""), keys());
    let mut driver = stopped(&plan, &keys);
    let sim = driver.sim().clone();
    let early = in_force(&sim, &changed(5, 2)).unwrap_err().to_string();
    assert!(early.contains("`semel repartition` makes the next one"), "{early}");
    repartition(&view(&driver, &plan), &ask(5, Act::Do)).unwrap();

    for (plan, says) in [(&plan, "generation 1 with 2"), (&changed(4, 2), "generation 2 with 4")] {
        let told = in_force(&sim, plan).unwrap_err().to_string();
        for text in [says, "`partitions = 5` and `generation = 2` under [topics.in]"] {
            assert!(told.contains(text), "{told}");
        }
    }
    let again = refused(repartition(&view(&driver, &plan), &ask(6, Act::Do)));
    assert!(again.contains("was repartitioned"), "{again}");
    in_force(&sim, &changed(5, 2)).unwrap();

    // A lane that was alive all the while, and a record that a writer put behind the switch.
    let old = driver.join(plan.stages[0].0.clone(), "old");
    let stopped = driver.run_until_idle().unwrap_err().to_string();
    assert!(stopped.contains("was repartitioned") && stopped.contains("p.in.g2"), "{stopped}");
    driver.kill(old).unwrap();
    send(&mut driver, "p.in", "late", 0);
    in_force(&sim, &changed(5, 2)).unwrap();
    assert_eq!(driver.read("p.in").unwrap().len(), 4 * keys.len() + 1, "it is still there");
}

#[test]
fn a_second_switch_follows_the_first() {
    let (plan, keys) = (plan(""), keys());
    let mut driver = stopped(&plan, &keys);
    repartition(&view(&driver, &plan), &ask(5, Act::Do)).unwrap();
    let second = changed(5, 2);
    let lane = go_on(&mut driver, &second, "1");
    driver.drain(lane).unwrap();
    let done = repartition(&view(&driver, &second), &ask(2, Act::Do)).unwrap();
    assert_eq!(done.spec, ["[topics.in]", "partitions = 2", "generation = 3"]);
    go_on(&mut driver, &changed(2, 3), "2");
    keys.iter().for_each(|key| send(&mut driver, "p.in.g3", key, 3));
    driver.run_until_idle().unwrap();
    assert_eq!(went(&driver), all(&keys, &[0, 1, 2, 3]));
}

#[test]
fn what_a_command_that_died_had_copied_is_made_equal_to_the_state() {
    let (plan, keys) = (plan(""), keys());
    let driver = stopped(&plan, &keys);
    let view = view(&driver, &plan);
    let stage = view.stage("order").unwrap();
    let next = next(&view, stage, 3).unwrap();
    view.log.create_topic(&next.input).unwrap();
    view.log.create_topic(&next.changelog).unwrap();
    let more = self::next(&view, stage, 4).unwrap();
    assert_eq!(more.input.name.as_str(), "p.in.g3", "those topics are for three partitions");
    let left = |key: &[u8]| OutRecord {
        topic: next.changelog.name.clone(),
        partition: Some(Partition(1)),
        key: Some(full_key("batch_open", key)),
        value: Some(b"of another time".to_vec()),
        headers: Headers::new(),
    };
    view.log.append(vec![left(b"k0"), left(b"gone")]).unwrap();
    let want = look(&view, stage, 3).unwrap().new;
    repartition(&view, &ask(3, Act::Do)).unwrap();
    for (partition, want) in (0..).map(Partition).zip(want) {
        let mut there = place::pairs(&view, &next.changelog.name, partition).unwrap();
        assert!(there.remove(&full_key(META, b"")).is_some());
        assert_eq!(there, want);
    }
}

#[test]
fn what_waits_behind_a_quarantined_key_goes_with_it() {
    let plan = plan("");
    let mut driver = Driver::of_plan(&plan).unwrap();
    driver.pipe("p.in", "bad", "{}", "request").unwrap();
    send(&mut driver, "p.in", "bad", 0);
    driver.run_until_idle().unwrap();
    let lane = driver.lane_of("order").unwrap();
    driver.drain(lane).unwrap();
    let done = repartition(&view(&driver, &plan), &ask(7, Act::Do)).unwrap();
    assert_eq!(done.rows.iter().map(|row| row.waiting).sum::<u32>(), 2);
    go_on(&mut driver, &changed(7, 2), "1");
    send(&mut driver, "p.in.g2", "bad", 1);
    driver.run_until_idle().unwrap();
    let home = partition_for_key(b"bad", 7);
    assert_eq!(driver.scan("order", home, "_quarantine_queue").len(), 3, "it waits on");
    let meta = driver.scan("order", home, META);
    let meta: Meta = codec::decode(META, &meta[0].1).unwrap();
    assert_eq!((meta.held_keys, meta.waiting), (1, 3));
    assert!(went(&driver).is_empty());
}

#[test]
fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let sink = "[[sink]]\nname = \"rows\"\ntopic = \"in\"\nurl = \"sqlite:x.db\"\n\
                [[sink.tables]]\ntable = \"t\"\ntypes = [\"request\"]\nkey = [\"nonce\"]\n\
                [sink.tables.columns]\nnonce = \"nonce\"\n";
    let plan = plan("");
    let mut driver = stopped(&plan, &keys());
    let before = driver.sim().topics().unwrap();
    for (asked, sentence) in [
        (ask(0, Act::Do), "say a number from 1"),
        (ask(2, Act::Do), "has 2 partitions already"),
        (ask(20_000, Act::Look), "say a number from 1"),
        (Repartition { stage: "ordre".into(), ..ask(3, Act::Do) }, "did you mean `order`?"),
    ] {
        let told = refused(repartition(&view(&driver, &plan), &asked));
        assert!(told.contains(sentence), "{told}");
    }
    let shared = self::plan(sink);
    let told = refused(repartition(&view(&driver, &shared), &ask(3, Act::Do)));
    assert!(told.contains("read by sink `rows` as well"), "{told}");
    send(&mut driver, "p.in", "k0", 3);
    for act in [Act::Look, Act::Do] {
        let told = refused(repartition(&view(&driver, &plan), &ask(3, act)));
        assert!(told.contains("has not processed p.in/1 to its end"), "{told}");
    }
    assert_eq!(driver.sim().topics().unwrap(), before);
}
