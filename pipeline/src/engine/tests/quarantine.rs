//! Quarantine by key: order is kept, other keys flow, a person decides, nothing is lost.

use semel_schemas::{
    header,
    request::{QUARANTINE, Quarantine, QuarantineAction},
};

use super::toys::{Look, P0, driver, raw, stage};
use crate::{engine::topology::OnFault, testing::Driver};

fn keeper(per_key: u32, per_task: u32) -> Driver {
    let mut stage = stage(1);
    stage.on_fault = OnFault::QuarantineKey;
    stage.limits.quarantine_per_key_max = per_key;
    stage.limits.quarantine_per_task_max = per_task;
    driver(stage)
}

fn command(driver: &mut Driver, key: &str, action: QuarantineAction) {
    let command = Quarantine { action, by: "a test".to_owned() };
    let value = serde_json::to_string(&command).unwrap();
    driver.pipe("in", key, &value, QUARANTINE).unwrap();
}

fn code(driver: &Driver, at: usize) -> String {
    driver.letters()[at].headers.get_str(header::FAULT).unwrap().to_owned()
}

/// What the task says of itself: quarantined keys, and records that wait.
fn counted(driver: &Driver) -> (u64, u64) {
    let own = &driver.scan("s", P0, "_task")[0].1;
    let own: serde_json::Value = serde_json::from_slice(own).unwrap();
    (own["held_keys"].as_u64().unwrap(), own["waiting"].as_u64().unwrap())
}

#[test]
fn later_records_of_a_refused_key_wait_in_order_and_other_keys_flow() {
    let mut driver = keeper(100, 100);
    for script in ["emit:1", "fault", "emit:2", "emit:3"] {
        driver.give("a", script);
        driver.give("b", "add");
    }
    driver.run();
    assert_eq!(driver.of_key("a"), ["1"]);
    assert_eq!(driver.count_of(P0, "b"), 4);
    assert_eq!(driver.letters().len(), 1);
    assert_eq!(counted(&driver), (1, 3), "keys, and records behind them");
    // What waits is state: a crash and a lost disk keep it.
    driver.crash("s").unwrap();
    driver.kill_stores();
    driver.give("a", "emit:4");
    command(&mut driver, "a", QuarantineAction::Drop);
    driver.give("a", "emit:5");
    driver.run();
    assert_eq!(driver.of_key("a"), ["1", "2", "3", "4", "5"]);
    assert!(driver.scan("s", P0, "_quarantine_queue").is_empty());
    assert!(driver.scan("s", P0, "_quarantine").is_empty());
    assert_eq!(counted(&driver), (0, 0));
}

#[test]
fn a_replay_that_is_refused_again_keeps_the_key_and_its_order() {
    let mut driver = keeper(100, 100);
    for script in ["fault", "emit:1", "fault", "emit:2"] {
        driver.give("a", script);
    }
    command(&mut driver, "a", QuarantineAction::Replay);
    driver.run();
    assert!(driver.of_key("a").is_empty());
    assert_eq!(driver.letters().len(), 2);
    command(&mut driver, "a", QuarantineAction::Drop);
    driver.run();
    assert_eq!(driver.of_key("a"), ["1"], "the next one at fault holds the key again");
    assert_eq!(driver.letters().len(), 3);
    command(&mut driver, "a", QuarantineAction::Drop);
    driver.run();
    assert_eq!(driver.of_key("a"), ["1", "2"]);
}

#[test]
fn a_refusal_that_is_remembered_holds_its_key_and_is_remembered_once_more_by_a_replay() {
    let mut driver = keeper(100, 100);
    for script in ["add;refuse", "emit:late"] {
        driver.give("a", script);
    }
    driver.run();
    assert_eq!((driver.of_key("a"), driver.letters().len()), (vec!["1".to_owned()], 1));
    command(&mut driver, "a", QuarantineAction::Replay);
    driver.run();
    assert_eq!((driver.count_of(P0, "a"), driver.letters().len()), (2, 2));
    command(&mut driver, "a", QuarantineAction::Drop);
    driver.run();
    assert_eq!(driver.of_key("a"), ["1", "2", "late"]);
}

#[test]
fn a_replay_takes_the_record_at_fault_again() {
    let mut driver = keeper(100, 100);
    driver.faults().poison(|r| r.topic.as_str() == "out");
    driver.give("a", "add");
    driver.run();
    assert_eq!(code(&driver, 0), "SEM-0021");
    driver.faults().poison(|_| false);
    driver.give("a", "add");
    command(&mut driver, "a", QuarantineAction::Replay);
    driver.run();
    assert_eq!(driver.of_key("a"), ["1", "2"]);
}

#[test]
fn beyond_the_limit_of_a_key_records_are_refused_and_not_lost() {
    let mut driver = keeper(2, 100);
    driver.give("a", "fault");
    for n in 1..=4 {
        driver.give("a", &format!("emit:{n}"));
    }
    driver.run();
    assert_eq!(driver.letters().len(), 3);
    assert_eq!(code(&driver, 1), "SEM-0024");
    assert_eq!(driver.letters()[1].value.as_deref(), Some(&b"emit:3"[..]));
    command(&mut driver, "a", QuarantineAction::Drop);
    driver.run();
    assert_eq!(driver.of_key("a"), ["1", "2"]);
}

#[test]
fn a_command_about_a_key_that_is_not_held_is_refused_and_holds_nothing() {
    let mut driver = keeper(9, 9);
    command(&mut driver, "a", QuarantineAction::Drop);
    driver.give("a", "emit:1");
    driver.run();
    assert_eq!(code(&driver, 0), "SEM-0022");
    assert_eq!(driver.of_key("a"), ["1"]);
}

#[test]
fn a_partition_whose_quarantine_is_full_pauses_and_goes_on_after_a_command() {
    let mut driver = keeper(1_000, 5);
    driver.give("a", "fault");
    for n in 0..4 {
        driver.give("a", &format!("emit:{n}"));
    }
    driver.run();
    assert!(driver.faults().calls().contains(&"pause"));
    let tasks = driver.status().read();
    assert!(tasks.values().all(|(_, tasks)| tasks[&P0].paused), "and says so");
    driver.give("b", "add");
    driver.run();
    assert_eq!(driver.count_of(P0, "b"), 0);
    // The command lies behind what the pause holds back, and is found all the same.
    command(&mut driver, "a", QuarantineAction::Drop);
    driver.advance(3_000).unwrap();
    assert_eq!(driver.of_key("a"), ["0", "1", "2", "3"]);
    assert_eq!(driver.count_of(P0, "b"), 1);
    assert_eq!(driver.letters().len(), 1, "the command counts once");
}

#[test]
fn a_record_too_large_for_the_state_is_a_letter_and_holds_nothing_up() {
    let mut driver = keeper(100, 100);
    driver.pipe_raw(raw("in", "a", Some(&[0xff; 890_000]), "in")).unwrap();
    driver.give("b", "fault");
    driver.pipe_raw(raw("in", "b", Some(&[b'x'; 890_000]), "in")).unwrap();
    driver.pipe_raw(raw("in", &"k".repeat(100_000), Some(b"fault"), "in")).unwrap();
    driver.give("c", "add");
    driver.run();
    assert_eq!(driver.count_of(P0, "c"), 1);
    assert_eq!(driver.letters().len(), 4);
}
