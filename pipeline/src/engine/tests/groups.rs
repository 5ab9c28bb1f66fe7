//! Two processes of one stage: hand-over without loss or doubling, zombies refused.

use std::sync::Arc;

use semel_schemas::{record::OutRecord, topic::NextOffset};

use super::toys::{Look, P0, P1, driver, key_in, stage};
use crate::{
    engine::topology::Stage,
    log::{Log, TxnFault, conformance::RawProducer, sim::Generations},
    testing::{Call, Driver, LaneId, When},
};

fn two() -> (Driver, LaneId, Arc<Stage>) {
    let stage = stage(2);
    let shared = Arc::new(super::toys::stage(2));
    let mut driver = driver(stage);
    driver.run();
    let lane = driver.lane_of("s").unwrap();
    (driver, lane, shared)
}

fn give_all(driver: &mut Driver, n: usize) {
    for at in 0..n {
        driver.give(&format!("k{}", at % 6), "add");
    }
}

fn check_all(driver: &Driver, each: u64) {
    let want: Vec<String> = (1..=each).map(|n| n.to_string()).collect();
    for n in 0..6 {
        assert_eq!(driver.of_key(&format!("k{n}")), want, "k{n}");
    }
}

#[test]
fn a_second_process_takes_over_partitions_and_gives_them_back_without_loss_or_doubling() {
    for generations in [Generations::Followed, Generations::AtPoll] {
        let (mut driver, first, stage) = two();
        driver.sim().set_generations(generations);
        give_all(&mut driver, 60);
        driver.step(first).unwrap();
        let second = driver.join(stage, "1");
        driver.run();
        assert_eq!(driver.partitions(first).unwrap().len(), 1);
        assert_eq!(driver.partitions(second).unwrap().len(), 1);
        give_all(&mut driver, 60);
        driver.run();
        check_all(&driver, 20);
        give_all(&mut driver, 60);
        driver.step(second).unwrap();
        driver.drain(second).unwrap();
        driver.run();
        assert_eq!(driver.partitions(first).unwrap(), [P0, P1]);
        check_all(&driver, 30);
    }
}

#[test]
fn effects_and_timers_move_with_their_task() {
    let (mut driver, _, stage) = two();
    let key = key_in(P1, 2);
    let other = key_in(P0, 2);
    for key in [&key, &other] {
        driver.give(key, &format!("effect:e-{key}:o;wall:w-{key}:5000=emit:timer"));
    }
    driver.run();
    let second = driver.join(stage, "1");
    driver.run();
    assert_eq!(driver.partitions(second).unwrap().len(), 1);
    assert_eq!(driver.effects().len(), 3, "the new owner asks again; the old answer is ignored");
    for asked in driver.effects() {
        driver.answer(asked.number, super::toys::said("done")).unwrap();
    }
    driver.advance(6_000).unwrap();
    let mut outs = driver.outs();
    outs.sort();
    assert_eq!(outs, ["done", "done", "timer", "timer"]);
}

#[test]
fn a_killed_process_is_replaced_after_its_session_and_nothing_is_lost() {
    let (mut driver, first, stage) = two();
    let second = driver.join(stage, "1");
    driver.run();
    give_all(&mut driver, 30);
    driver.step(first).unwrap();
    driver.kill(first).unwrap();
    driver.advance(10_000).unwrap();
    assert_eq!(driver.partitions(second).unwrap(), [P0, P1]);
    check_all(&driver, 5);
}

#[test]
fn a_zombies_commit_is_refused() {
    let (mut driver, first, stage) = two();
    let second = driver.join(stage, "1");
    driver.run();
    give_all(&mut driver, 30);
    // It has processed, and stands still before its commit.
    driver.step(first).unwrap();
    driver.freeze(first).unwrap();
    driver.advance(10_000).unwrap();
    assert_eq!(driver.partitions(second).unwrap(), [P0, P1]);
    check_all(&driver, 5);
    let commits = driver.faults().commits().len();
    // It wakes up in the middle of its end: it commits without having heard of anything.
    driver.drain(first).unwrap();
    assert_eq!(driver.faults().commits().len(), commits + 1);
    give_all(&mut driver, 30);
    driver.run();
    check_all(&driver, 10);
}

#[test]
fn a_zombie_that_wakes_up_hears_of_its_loss_and_takes_part_again() {
    let (mut driver, first, stage) = two();
    let second = driver.join(stage, "1");
    driver.run();
    give_all(&mut driver, 30);
    driver.step(first).unwrap();
    driver.freeze(first).unwrap();
    driver.advance(10_000).unwrap();
    driver.thaw(first).unwrap();
    driver.run();
    assert_eq!(driver.partitions(first).unwrap().len(), 1);
    assert_eq!(driver.partitions(second).unwrap().len(), 1);
    give_all(&mut driver, 30);
    driver.run();
    check_all(&driver, 10);
}

#[test]
fn fenced_twice_in_a_minute_stops_and_names_the_id() {
    let (mut driver, _, _) = two();
    // Just after a rebalance it may be a new owner that fences.
    driver.advance(31_000).unwrap();
    for _ in 0..2 {
        driver.faults().next(Call::Commit, When::Before, TxnFault::Rebuild);
    }
    driver.give("k0", "add");
    let text = driver.stopped();
    assert!(text.contains("`t.s.0.0`") && text.contains("instance id"), "{text}");
}

#[test]
fn fenced_again_and_again_just_after_a_rebalance_is_the_work_of_new_owners() {
    let (mut driver, _, _) = two();
    for _ in 0..5 {
        driver.faults().next(Call::Commit, When::Before, TxnFault::Rebuild);
        driver.give("k0", "add");
        driver.run();
    }
    assert_eq!(driver.of_key("k0"), ["1", "2", "3", "4", "5"]);
}

fn fences(driver: &Driver) -> usize {
    driver.faults().calls().iter().filter(|call| **call == "fence").count()
}

/// The second process owns one partition with `key`, and the first, which owns the other, is about
/// to stand still. Both have committed.
fn about_to_stand_still() -> (Driver, LaneId, LaneId, [String; 2]) {
    let (mut driver, first, stage) = two();
    let second = driver.join(stage, "1");
    driver.run();
    let of_first = driver.partitions(first).unwrap()[0];
    let of_second = driver.partitions(second).unwrap()[0];
    let keys = [key_in(of_first, 2), key_in(of_second, 2)];
    for key in &keys {
        driver.give(key, "add");
    }
    driver.run();
    assert_eq!(fences(&driver), 0, "what was handed over is not taken by force");
    (driver, first, second, keys)
}

#[test]
fn a_transaction_that_a_silent_process_left_open_holds_up_its_heir_no_longer_than_its_session() {
    let (mut driver, first, second, [key, _]) = about_to_stand_still();
    driver.give(&key, "add");
    // Written and not decided: it stands still in the middle of its commit.
    driver.faults().next(Call::Commit, When::Before, TxnFault::Unknown);
    driver.step(first).unwrap();
    driver.step(first).unwrap();
    driver.freeze(first).unwrap();
    assert_eq!(driver.of_key(&key), ["1"]);
    driver.advance(8_000).unwrap();
    assert_eq!(driver.partitions(second).unwrap(), [P0, P1]);
    assert_eq!(driver.of_key(&key), ["1", "2"], "before the transaction's timeout of 10 s");
    assert_eq!(fences(&driver), 1);
    driver.thaw(first).unwrap();
    driver.run();
    driver.give(&key, "add");
    driver.run();
    assert_eq!(driver.of_key(&key), ["1", "2", "3"]);
}

#[test]
fn what_a_silent_process_left_open_in_output_topics_alone_holds_up_nobody_either() {
    let (mut driver, first, _, [key, other]) = about_to_stand_still();
    driver.freeze(first).unwrap();
    // Of its next transaction the log has an output and nothing else yet.
    let mut half = driver.sim().raw("t.s.0.0", std::time::Duration::from_secs(10)).unwrap();
    let record = super::toys::raw("out", &other, Some(b"half"), "out");
    half.produce(OutRecord { partition: None, ..record }).unwrap();
    driver.give(&other, "add");
    driver.run();
    assert_eq!(driver.of_key(&other), ["1"], "readers stop at the open transaction");
    driver.give(&key, "add");
    driver.advance(8_000).unwrap();
    assert_eq!(driver.of_key(&other), ["1", "2"]);
    assert_eq!(driver.of_key(&key), ["1", "2"]);
    assert!(half.commit().is_err());
}

#[test]
fn fenced_twice_in_an_hour_is_routine() {
    let (mut driver, _, _) = two();
    for _ in 0..2 {
        driver.faults().next(Call::Commit, When::Before, TxnFault::Rebuild);
        driver.give("k0", "add");
        driver.run();
        driver.advance(61_000).unwrap();
    }
    assert_eq!(driver.of_key("k0"), ["1", "2"]);
}

#[test]
fn a_drain_commits_what_is_done_and_the_next_start_waits_for_no_session() {
    let (mut driver, first, stage) = two();
    give_all(&mut driver, 30);
    driver.step(first).unwrap();
    driver.drain(first).unwrap();
    check_all(&driver, 5);
    let moved = driver.sim().committed(&stage.group, &stage.input.name).unwrap();
    assert!(moved.values().all(|next| *next > NextOffset(1)));
    let second = driver.join(stage, "1");
    driver.run();
    assert_eq!(driver.partitions(second).unwrap(), [P0, P1]);
}

#[test]
fn who_stood_still_between_two_looks_at_its_offset_looks_again() {
    let mut driver = driver(stage(1));
    driver.run();
    for _ in 0..3 {
        driver.give("k", "add");
    }
    driver.run();
    // The first look is older than the state that is restored behind it.
    driver.faults().outdated(NextOffset(1), 1);
    driver.crash("s").unwrap();
    driver.advance(10_000).unwrap();
    driver.give("k", "add");
    driver.run();
    assert_eq!(driver.of_key("k"), ["1", "2", "3", "4"]);
    // And both looks agree: the group's offset was set back.
    driver.faults().outdated(NextOffset(1), 2);
    driver.crash("s").unwrap();
    let stopped = driver.advance(10_000).unwrap_err().to_string();
    assert!(stopped.contains("somebody moved one of them"), "{stopped}");
}
