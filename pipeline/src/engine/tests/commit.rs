//! One commit: outputs, state and offsets move together, whatever crashes between.

use semel_schemas::topic::NextOffset;

use super::toys::{Look, P0, driver, one, stage};
use crate::{
    log::TxnFault,
    testing::{Call, When},
};

#[test]
fn outputs_state_and_offsets_move_together() {
    let mut driver = one();
    driver.give("a", "add");
    driver.give("a", "add");
    let lane = driver.lane_of("s").unwrap();
    // One cycle processes, and what it left is nobody's yet.
    driver.step(lane).unwrap();
    assert_eq!(driver.outs(), Vec::<String>::new());
    assert_eq!(driver.offsets("s").unwrap()[&P0], NextOffset(0));
    driver.run();
    assert_eq!(driver.outs(), ["1", "2"]);
    assert_eq!(driver.offsets("s").unwrap()[&P0], NextOffset(3), "a marker lies between");
    assert_eq!(driver.count_of(P0, "a"), 2);
    let counts = driver.counts("s");
    assert_eq!((counts.records_in, counts.records_out), (2, 2));
}

#[test]
fn a_crash_before_the_commit_repeats_nothing_and_loses_nothing() {
    let mut driver = one();
    driver.give("a", "add");
    driver.run();
    driver.give("a", "add");
    let lane = driver.lane_of("s").unwrap();
    driver.step(lane).unwrap();
    driver.crash("s").unwrap();
    driver.run();
    assert_eq!(driver.outs(), ["1", "2"]);
    assert_eq!(driver.count_of(P0, "a"), 2);
}

#[test]
fn a_crash_in_the_middle_of_a_commit_repeats_nothing_and_loses_nothing() {
    let mut driver = one();
    driver.give("a", "add");
    // Everything was produced, and the process dies in the call that commits.
    driver.faults().next(Call::Commit, When::Before, TxnFault::Unknown);
    let lane = driver.lane_of("s").unwrap();
    while driver.faults().commits().len() < 2 {
        driver.step(lane).unwrap();
    }
    driver.crash("s").unwrap();
    driver.run();
    assert_eq!(driver.outs(), ["1"]);
    assert_eq!(driver.count_of(P0, "a"), 1);
}

#[test]
fn a_crash_between_commit_and_promote_is_caught_up_from_the_changelog() {
    let mut driver = one();
    let lane = driver.lane_of("s").unwrap();
    let stores = driver.stores(lane).unwrap();
    driver.give("a", "add");
    driver.run();
    stores.fail_promotes(1);
    driver.give("a", "add;emit:x");
    driver.run();
    assert_eq!(driver.outs(), ["1", "2", "x"]);
    driver.give("a", "add");
    driver.run();
    assert_eq!(driver.outs(), ["1", "2", "x", "3"]);
    assert_eq!(driver.count_of(P0, "a"), 3);
    // Begin, three records: a promote that failed is no second commit.
    assert_eq!(driver.faults().commits().len(), 4);
}

#[test]
fn a_promote_that_fails_for_one_of_two_tasks_ends_in_a_restore_of_both() {
    let mut driver = driver(stage(2));
    driver.run();
    let lane = driver.lane_of("s").unwrap();
    for key in ["k0", "k1", "k2", "k3"] {
        driver.give(key, "add");
    }
    let before = driver.faults().commits().len();
    driver.stores(lane).unwrap().fail_promotes(1);
    driver.run();
    assert_eq!(driver.faults().commits().len(), before + 1, "one commit, whatever the store does");
    for key in ["k0", "k1", "k2", "k3"] {
        driver.give(key, "add");
    }
    driver.run();
    for key in ["k0", "k1", "k2", "k3"] {
        assert_eq!(driver.of_key(key), ["1", "2"]);
    }
}

#[test]
fn a_store_that_is_lost_is_restored_in_full() {
    let mut driver = one();
    for _ in 0..5 {
        driver.give("a", "add");
        driver.give("b", "add");
        driver.run();
    }
    driver.crash("s").unwrap();
    driver.kill_stores();
    driver.give("a", "add");
    driver.run();
    assert_eq!(driver.of_key("a"), ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(driver.count_of(P0, "b"), 5);
}

#[test]
fn a_store_that_is_lost_under_a_running_lane_costs_a_restore_and_nothing_else() {
    let mut driver = one();
    driver.give("a", "add");
    driver.run();
    driver.kill_stores();
    driver.give("a", "add");
    driver.give("a", "add");
    driver.run();
    assert_eq!(driver.count_of(P0, "a"), 3);
    assert_eq!(driver.outs(), ["1", "2", "3"]);
}

#[test]
fn a_store_that_cannot_be_read_never_reaches_a_commit() {
    let mut driver = one();
    driver.give("a", "add");
    driver.give("a", "wall:w:1000=add");
    driver.run();
    let lane = driver.lane_of("s").unwrap();
    let stores = driver.stores(lane).unwrap();
    stores.fail_reads(crate::testing::parts::Reads::Fail);
    driver.give("a", "add");
    driver.run();
    driver.skip(1_000);
    driver.run();
    assert_eq!(driver.outs(), ["1"]);
    stores.fail_reads(crate::testing::parts::Reads::Work);
    driver.run();
    assert_eq!(driver.of_key("a"), ["1", "2"]);
    assert_eq!(driver.of_key("w"), ["1"]);
}

#[test]
fn begin_comes_once_in_the_life_of_a_task() {
    let mut stage = stage(1);
    stage.operators = vec![std::sync::Arc::new(super::toys::Toy {
        begin: "emit:begun",
        ..super::toys::Toy::PLAIN
    })];
    let mut driver = driver(stage);
    driver.faults().next(Call::Commit, When::Before, TxnFault::Abort);
    driver.faults().next(Call::Commit, When::After, TxnFault::Unknown);
    driver.run();
    for _ in 0..3 {
        driver.crash("s").unwrap();
        driver.kill_stores();
        driver.run();
    }
    assert_eq!(driver.outs(), ["begun"]);
}

#[test]
fn the_same_script_twice_leaves_byte_identical_topics() {
    let topics = || {
        let mut driver = driver(stage(2));
        driver.faults().next(Call::Commit, When::Before, TxnFault::Abort);
        driver.faults().next(Call::Commit, When::After, TxnFault::Unknown);
        for n in 0..40 {
            let script =
                ["add", "fault", "wall:w:1500=add", "effect:e:o", "now;emit:x", "panic"][n % 6];
            driver.give(&format!("k{}", n % 7), script);
            if n % 9 == 0 {
                driver.advance(700).unwrap();
            }
            if n == 20 {
                driver.crash("s").unwrap();
            }
        }
        driver.perform(|_| Some(super::toys::said("done")));
        driver.advance(3_000).unwrap();
        ["in", "out", "t.dead-letter", "t.s.state"].map(|t| driver.read(t).unwrap())
    };
    assert_eq!(topics(), topics());
}
