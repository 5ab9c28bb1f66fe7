//! The traps of Kafka whose guard lies in the engine, each named. Those of the log itself are held
//! by the conformance suite and by `tests/kafka`.

use semel_schemas::topic::NextOffset;

use super::toys::{Look, P0, P1, driver, key_in, one, raw, stage};
use crate::{
    log::{Log, TxnFault},
    testing::{Call, When},
};

fn first_of(calls: &[&str], call: &str) -> usize {
    calls.iter().position(|c| *c == call).unwrap()
}

#[test]
fn trap_01_the_offset_sent_is_last_processed_plus_one() {
    let mut driver = one();
    driver.give("a", "add");
    driver.run();
    let input = driver.read("in").unwrap().pop().unwrap();
    assert_eq!(driver.faults().commits().last().unwrap(), &[(P0, NextOffset(input.offset.0 + 1))]);
}

#[test]
fn trap_03_one_producer_for_all_tasks_of_a_lane() {
    let mut driver = driver(stage(2));
    driver.run();
    let before = driver.faults().commits().len();
    driver.give(&key_in(P0, 2), "add");
    driver.give(&key_in(P1, 2), "add");
    driver.run();
    let commits = driver.faults().commits().split_off(before);
    assert_eq!(commits.len(), 1, "one transaction for both");
    assert_eq!(commits[0].len(), 2);
    assert_eq!(driver.faults().calls().iter().filter(|c| **c == "init").count(), 1);
}

#[test]
fn trap_08_trap_21_no_effect_is_performed_inside_a_transaction() {
    let mut driver = one();
    // Handed out after the commit that recorded it: the log has it before the performer does.
    let sim = driver.sim().clone();
    driver.perform(move |_| {
        let group = sim.committed("semel.t.s", &"in".to_owned().try_into().unwrap()).unwrap();
        Some(super::toys::said(&group[&P0].to_string()))
    });
    driver.give("a", "effect:e:o");
    driver.run();
    assert_eq!(driver.outs(), ["1"]);
}

#[test]
fn trap_14_records_handed_out_again_after_an_abort_are_not_processed_again() {
    let mut driver = one();
    driver.faults().hand_out_twice();
    driver.faults().next(Call::Commit, When::Before, TxnFault::Abort);
    for _ in 0..5 {
        driver.give("a", "add");
    }
    driver.run();
    assert_eq!(driver.outs(), ["1", "2", "3", "4", "5"]);
}

#[test]
fn trap_15_no_transaction_is_open_while_a_task_is_restored() {
    let mut driver = one();
    driver.give("a", "add");
    driver.run();
    let before = driver.faults().calls().len();
    driver.crash("s").unwrap();
    driver.kill_stores();
    driver.run();
    let calls = driver.faults().calls().split_off(before);
    assert!(!calls.contains(&"commit"), "nothing begun, nothing to end: {calls:?}");
}

#[test]
fn trap_16_trap_26_init_then_the_groups_offset_then_the_high_watermark() {
    let driver = one();
    let calls = driver.faults().calls();
    let order = ["init", "committed", "reader uncommitted", "reader committed", "start"];
    let places: Vec<usize> = order.iter().map(|call| first_of(&calls, call)).collect();
    assert!(places.is_sorted(), "{calls:?}");
}

#[test]
fn trap_18_trap_19_a_commit_that_timed_out_is_routine_for_every_task_of_the_lane() {
    let mut driver = driver(stage(2));
    driver.run();
    for when in [When::Before, When::After] {
        for key in [key_in(P0, 2), key_in(P1, 2)] {
            driver.give(&key, "add");
        }
        driver.faults().next(Call::Commit, when, TxnFault::Unknown);
        driver.run();
    }
    for key in [key_in(P0, 2), key_in(P1, 2)] {
        assert_eq!(driver.of_key(&key), ["1", "2"]);
    }
}

#[test]
fn trap_22_a_tombstone_is_a_record() {
    let mut driver = one();
    driver.pipe_raw(raw("in", "a", None, "in")).unwrap();
    driver.run();
    assert_eq!(driver.letters().len(), 1, "the operator was asked, and said no");
    assert_eq!(driver.offsets("s").unwrap()[&P0], NextOffset(1));
}

#[test]
fn trap_25_every_commit_sends_the_offset_of_every_task_it_touched() {
    let mut driver = driver(stage(2));
    driver.run();
    driver.give(&key_in(P1, 2), "wall:w:1000=add;effect:e:o");
    driver.run();
    let before = driver.faults().commits().len();
    driver.say("e", "an outcome moves no offset");
    driver.run();
    driver.advance(1_000).unwrap();
    let commits = driver.faults().commits().split_off(before);
    assert_eq!(commits, vec![vec![(P1, NextOffset(1))]; 2], "moved or not");
}

#[test]
fn trap_26_a_restore_waits_for_markers_that_are_on_their_way() {
    let mut driver = one();
    driver.give("a", "add");
    driver.run();
    driver.sim().hold_markers();
    driver.give("a", "add");
    let lane = driver.lane_of("s").unwrap();
    driver.step(lane).unwrap();
    driver.step(lane).unwrap();
    driver.kill(lane).unwrap();
    let second = driver.join(std::sync::Arc::new(stage(1)), "1");
    // Only the group's offset is decided where everybody sees it.
    let markers = driver.sim().held_markers();
    let offsets = markers
        .iter()
        .position(|m| matches!(m, crate::log::sim::MarkerTarget::Offsets(_)))
        .unwrap();
    driver.sim().deliver_marker(offsets);
    driver.advance(8_000).unwrap();
    driver.give("a", "add");
    driver.run();
    assert_eq!(driver.partitions(second).unwrap(), [P0]);
    assert_eq!(driver.outs(), ["1"], "it waits");
    driver.sim().release_markers();
    driver.advance(1_000).unwrap();
    assert_eq!(driver.outs(), ["1", "2", "3"]);
}

#[test]
fn trap_35_a_restore_stops_no_other_task() {
    let mut driver = driver(stage(2));
    driver.run();
    let (a, b) = (key_in(P0, 2), key_in(P1, 2));
    driver.give(&a, "add");
    driver.run();
    // An undecided transaction of somebody lies in the changelog of one partition.
    let mut stray = driver.sim().raw("stray", std::time::Duration::from_secs(3_600)).unwrap();
    let mut record = raw("t.s.state", "x", Some(b"x"), "");
    record.key = Some(b"x".to_vec());
    crate::log::conformance::RawProducer::produce(&mut stray, record).unwrap();
    driver.crash("s").unwrap();
    driver.give(&a, "add");
    driver.give(&b, "add");
    driver.run();
    assert_eq!((driver.of_key(&a), driver.of_key(&b)), (vec!["1".into()], vec!["1".into()]));
    crate::log::conformance::RawProducer::abort(&mut stray).unwrap();
    driver.run();
    assert_eq!(driver.of_key(&a), ["1", "2"]);
}

#[test]
fn trap_37_a_local_copy_older_than_half_of_the_tombstones_life_is_not_used() {
    let mut driver = one();
    driver.give("a", "effect:e:o");
    driver.run();
    let lane = driver.lane_of("s").unwrap();
    let stores = driver.stores(lane).unwrap();
    let stale = stores.copy();
    driver.say("e", "done");
    driver.run();
    driver.crash("s").unwrap();
    stores.put_back(stale);
    // The tombstone of the answered effect is compacted away: only a full restore forgets it.
    let changelog = "t.s.state".to_owned().try_into().unwrap();
    driver.sim().compact(&changelog, P0).unwrap();
    driver.skip(25 * 3_600_000);
    driver.sim().compact(&changelog, P0).unwrap();
    driver.run();
    assert!(driver.asked().is_empty(), "a key that was deleted came back");
}

#[test]
fn trap_39_one_input_cannot_outgrow_a_transaction() {
    let mut driver = one();
    driver.give("a", "many:20001");
    driver.give("a", "many:20000");
    driver.run();
    assert_eq!((driver.letters().len(), driver.outs().len()), (1, 20_000));
}
