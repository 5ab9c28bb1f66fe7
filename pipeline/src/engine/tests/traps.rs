//! The traps of Kafka whose guard lies in the engine, each named. Those of the log itself are held
//! by the conformance suite and by `tests/kafka`.
//!
//! A scenario is a function that returns what was seen; it runs twice: with its guard the right
//! thing is seen, with the guard switched off ([`Sabotage`]) what the guard is there for. A guard
//! that shows nothing when it is off is none, or its test is.

use std::{sync::Arc, time::Duration};

use semel_schemas::{
    sabotage::Sabotage,
    topic::{NextOffset, TopicName},
};

use super::{
    failures::poisoned,
    toys::{Look, P0, P1, driver, key_in, one, raw, said, stage},
};
use crate::{
    engine::topology::OnFault,
    log::{
        Cleanup, Log, TopicSpec, TxnFault,
        conformance::RawProducer,
        sim::{MarkerTarget, SimProducer},
    },
    testing::{Call, Driver, When},
};

/// What a scenario shows with a guard, and with it switched off.
pub(super) fn both<T>(off: Sabotage, scenario: impl Fn() -> T) -> [T; 2] {
    let guarded = scenario();
    let _off = off.begin();
    [guarded, scenario()]
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn first_of(calls: &[&str], call: &str) -> usize {
    calls.iter().position(|c| *c == call).unwrap()
}

/// How often a call was made after the first `before`.
fn count(driver: &Driver, before: usize, call: &str) -> usize {
    driver.faults().calls().iter().skip(before).filter(|c| **c == call).count()
}

/// An undecided transaction of somebody in the changelog of partition 0: what a restore waits for.
fn undecided(driver: &Driver) -> SimProducer {
    let mut stray = driver.sim().raw("stray", Duration::from_hours(1)).unwrap();
    let mut record = raw("t.s.state", "x", Some(b"x"), "");
    record.key = Some(b"x".to_vec());
    stray.produce(record).unwrap();
    stray
}

#[test]
fn trap_01_the_offset_sent_is_last_processed_plus_one() {
    let restarted = || {
        let mut driver = one();
        let records = [raw("in", "a", Some(b"add"), "in"), raw("in", "a", Some(b"add"), "in")];
        driver.sim().append(records.to_vec()).unwrap();
        driver.run();
        driver.crash("s").unwrap();
        driver.run();
        driver.outs()
    };
    let [with, one_too_small] = both(Sabotage::OffsetOneTooSmall, restarted);
    assert_eq!(with, ["1", "2"]);
    assert_eq!(one_too_small, ["1", "2", "3"], "one was processed again");
    let [_, one_too_large] = both(Sabotage::OffsetOneTooLarge, restarted);
    assert_eq!(one_too_large, ["1"], "one was skipped");
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
fn trap_05_after_a_timeout_only_a_new_epoch_is_safe() {
    let [with, without] = both(Sabotage::StaleProducerEpoch, || {
        let mut driver = one();
        driver.give("a", "add");
        driver.faults().next(Call::Commit, When::Before, TxnFault::Unknown);
        driver.run();
        driver.outs()
    });
    assert_eq!(with, ["1"]);
    assert!(without.is_empty(), "what the old producer left open stands in the way: {without:?}");
}

#[test]
fn trap_06_an_end_that_is_not_known_is_no_abort() {
    let [with, without] = both(Sabotage::UnknownIsAbort, || {
        let mut driver = one();
        driver.give("a", "add");
        driver.faults().next(Call::Commit, When::After, TxnFault::Unknown);
        driver.run();
        driver.outs()
    });
    assert_eq!(with, ["1"]);
    assert_eq!(without, ["1", "1"], "it was committed, and is done again");
}

#[test]
fn trap_08_trap_21_no_effect_is_performed_inside_a_transaction() {
    let [with, without] = both(Sabotage::ActBeforeCommit, || {
        let mut driver = one();
        let lane = driver.lane_of("s").unwrap();
        driver.faults().down();
        driver.give("a", "effect:e:o");
        for _ in 0..4 {
            driver.step(lane).unwrap();
        }
        driver.asked()
    });
    assert!(with.is_empty(), "no commit, no effect: {with:?}");
    assert!(!without.is_empty(), "it was asked for before the commit that records it");
    // Handed out after the commit that recorded it: the log has it before the performer does.
    let mut driver = one();
    let sim = driver.sim().clone();
    driver.perform(move |_| {
        let group = sim.committed("semel.t.s", &topic("in")).unwrap();
        Some(said(&group[&P0].to_string()))
    });
    driver.give("a", "effect:e:o");
    driver.run();
    assert_eq!(driver.outs(), ["1"]);
}

#[test]
fn trap_14_after_an_abort_every_record_is_processed_again_and_once() {
    let aborted = || {
        let mut driver = one();
        driver.faults().hand_out_twice();
        driver.faults().next(Call::Commit, When::Before, TxnFault::Abort);
        for _ in 0..5 {
            driver.give("a", "add");
        }
        driver.run();
        driver.outs()
    };
    let [with, taken_again] = both(Sabotage::PastTakenAgain, aborted);
    assert_eq!(with, ["1", "2", "3", "4", "5"]);
    assert_eq!(taken_again.len(), 10, "what the client hands out again is doubled");
    let [_, dropped] = both(Sabotage::DropRecordsOnAbort, aborted);
    assert!(dropped.is_empty(), "the consumer stands behind them: {dropped:?}");
}

#[test]
fn trap_15_no_transaction_is_open_while_a_task_is_restored() {
    let [with, without] = both(Sabotage::BeginBeforeRestore, || {
        let mut driver = one();
        driver.give("a", "add");
        driver.run();
        let before = driver.faults().calls().len();
        driver.crash("s").unwrap();
        driver.kill_stores();
        let mut stray = undecided(&driver);
        driver.advance(12_000).unwrap();
        stray.abort().unwrap();
        driver.run();
        driver.give("a", "add");
        driver.run();
        assert_eq!(driver.outs(), ["1", "2"], "it costs time, and no record");
        count(&driver, before, "init")
    });
    assert_eq!(with, 1);
    assert!(without > 1, "the transaction timed out during the restore, and its producer with it");
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
fn trap_16_what_was_aborted_is_not_restored() {
    let [with, without] = both(Sabotage::RestoreUncommitted, || {
        let mut driver = one();
        let lane = driver.lane_of("s").unwrap();
        driver.give("a", "add");
        driver.run();
        driver.faults().down();
        driver.give("a", "add");
        for _ in 0..4 {
            driver.step(lane).unwrap();
        }
        driver.crash("s").unwrap();
        driver.kill_stores();
        driver.faults().up();
        driver.advance(1_000).unwrap();
        driver.outs()
    });
    assert_eq!(with, ["1", "2"]);
    assert_eq!(without, ["1"], "the aborted state says that it was done");
}

#[test]
fn trap_17_a_restore_ends_by_position_over_gaps() {
    let [with, without] = both(Sabotage::RestoreByCount, || {
        let mut driver = one();
        driver.give("a", "add");
        driver.run();
        driver.crash("s").unwrap();
        driver.kill_stores();
        driver.give("a", "add");
        driver.advance(5_000).unwrap();
        driver.outs()
    });
    assert_eq!(with, ["1", "2"]);
    assert_eq!(without, ["1"], "markers are offsets and no records: it counts for ever");
}

#[test]
fn trap_18_a_known_abort_goes_back_and_restores_nothing() {
    let [with, without] = both(Sabotage::AbortIsCorruption, || {
        let mut driver = driver(stage(2));
        driver.run();
        let before = driver.faults().calls().len();
        driver.faults().next(Call::Commit, When::Before, TxnFault::Abort);
        for key in [key_in(P0, 2), key_in(P1, 2)] {
            driver.give(&key, "add");
        }
        driver.run();
        assert_eq!(driver.outs(), ["1", "1"]);
        count(&driver, before, "committed")
    });
    assert_eq!((with, without), (0, 2), "restores of the lane's two tasks");
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
fn trap_19_who_is_fenced_goes_on_with_a_new_producer() {
    let [with, without] = both(Sabotage::FencedIsTheEnd, || {
        let mut driver = one();
        driver.faults().next(Call::Commit, When::Before, TxnFault::Rebuild);
        driver.give("a", "add");
        let ran = driver.run_until_idle().is_ok();
        (ran, driver.outs())
    });
    assert_eq!(with, (true, vec!["1".to_owned()]));
    assert_eq!(without, (false, vec![]), "the process ends though there is no second one");
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
fn trap_23_a_lane_polls_whatever_is_paused() {
    let [with, without] = both(Sabotage::PressureStopsPolls, || {
        let mut tight = stage(1);
        tight.on_fault = OnFault::QuarantineKey;
        tight.limits.quarantine_per_task_max = 1;
        let tight = Arc::new(tight);
        let mut driver = Driver::of_stages(vec![tight.clone()]).unwrap();
        driver.run();
        driver.give("a", "fault");
        driver.run();
        let heir = driver.join(tight, "1");
        driver.advance(10_000).unwrap();
        driver.partitions(heir).unwrap()
    });
    assert!(with.is_empty(), "it is a member as before");
    assert_eq!(without, [P0], "who does not poll is given up");
}

#[test]
fn trap_25_every_commit_sends_the_offset_of_every_task_it_touched() {
    let sent = || {
        let mut driver = driver(stage(2));
        driver.run();
        driver.give(&key_in(P1, 2), "wall:w:1000=add;effect:e:o");
        driver.run();
        let before = driver.faults().commits().len();
        driver.say("e", "an outcome moves no offset");
        driver.run();
        driver.advance(1_000).unwrap();
        driver.faults().commits().split_off(before)
    };
    let [with, without] = both(Sabotage::CommitWithoutOffsets, sent);
    assert_eq!(with, vec![vec![(P1, NextOffset(1))]; 2], "moved or not");
    assert_eq!(without, vec![vec![]; 2]);
    let [with, without] = both(Sabotage::CommitWithoutOffsets, zombie);
    assert_eq!(with, ["1"]);
    assert_eq!(without, ["1", "1"], "nothing fenced the zombie");
}

/// A lane stands still before its commit until another one has its partition and has done its
/// work, and commits then, without having heard of anything.
fn zombie() -> Vec<String> {
    let mut driver = one();
    let first = driver.lane_of("s").unwrap();
    driver.join(Arc::new(stage(1)), "1");
    driver.run();
    driver.give("a", "add");
    driver.step(first).unwrap();
    driver.freeze(first).unwrap();
    // The transaction is begun with the commit: it does not time out meanwhile.
    driver.advance(10_000).unwrap();
    // Refused or not: what it ends with is no matter here.
    let _ended = driver.drain(first);
    driver.run();
    driver.outs()
}

#[test]
fn trap_26_a_restore_waits_for_markers_that_are_on_their_way() {
    let [with, without] = both(Sabotage::RestoreToStableOffset, || {
        let mut driver = one();
        driver.give("a", "add");
        driver.run();
        driver.sim().hold_markers();
        driver.give("a", "add");
        let lane = driver.lane_of("s").unwrap();
        driver.step(lane).unwrap();
        driver.step(lane).unwrap();
        driver.kill(lane).unwrap();
        let second = driver.join(Arc::new(stage(1)), "1");
        // Only the group's offset is decided where everybody sees it.
        let markers = driver.sim().held_markers();
        let offsets = markers.iter().position(|m| matches!(m, MarkerTarget::Offsets(_))).unwrap();
        driver.sim().deliver_marker(offsets);
        driver.advance(8_000).unwrap();
        assert_eq!(driver.partitions(second).unwrap(), [P0]);
        let before = driver.outs();
        driver.sim().release_markers();
        driver.give("a", "add");
        driver.advance(1_000).unwrap();
        (before, driver.outs())
    });
    assert_eq!(with.0, ["1"], "it waits");
    assert_eq!(with.1, ["1", "2", "3"]);
    assert_eq!(without.1, ["1", "2", "2", "3"], "what was committed is done again");
}

#[test]
fn trap_27_an_offset_that_expired_in_the_group_is_known_to_the_state() {
    let [with, without] = both(Sabotage::ExpiredOffsetSkips, || {
        let mut driver = one();
        driver.give("a", "add");
        driver.run();
        driver.crash("s").unwrap();
        driver.give("a", "add");
        driver.skip(60_000); // The session ends, and with it the group's last member.
        driver.skip(8 * 24 * 3_600_000);
        assert!(driver.sim().committed("semel.t.s", &topic("in")).unwrap().is_empty());
        driver.run();
        driver.give("a", "add");
        driver.run();
        driver.outs()
    });
    assert_eq!(with, ["1", "2", "3"]);
    assert_eq!(without, ["1", "2"], "what came while nobody was there is skipped");
}

#[test]
fn trap_28_a_recreated_topic_is_refused() {
    let [with, without] = both(Sabotage::RecreatedTopicTaken, || {
        let mut driver = one();
        driver.give("a", "add");
        driver.run();
        driver.crash("s").unwrap();
        let input = topic("in");
        driver.sim().delete_topic(&input).unwrap();
        let spec = TopicSpec {
            name: input,
            partitions: 1,
            cleanup: Cleanup::Delete { retention_ms: None },
            replication: None,
            allow_one_broker: true,
        };
        driver.sim().create_topic(&spec).unwrap();
        driver.give("a", "add");
        let stopped = driver.run_until_idle().err().map(|error| error.to_string());
        (stopped.is_some_and(|text| text.contains("recreated")), driver.outs())
    });
    assert_eq!(with, (true, vec!["1".to_owned()]));
    assert_eq!(without, (false, vec!["1".to_owned()]), "a record was skipped in silence");
}

#[test]
fn trap_30_a_key_has_one_task_wherever_its_records_were_produced() {
    let [with, without] = both(Sabotage::MisplacedTaken, || {
        let mut driver = driver(stage(2));
        driver.run();
        let key = key_in(P1, 2);
        driver.give(&key, "add");
        driver.run();
        driver.pipe_raw(raw("in", &key, Some(b"add"), "in")).unwrap();
        driver.run();
        driver.of_key(&key)
    });
    assert_eq!(with, ["1", "2"]);
    assert_eq!(without, ["1", "1"], "two tasks count one key");
}

#[test]
fn trap_34_offsets_of_a_member_that_lost_its_partition_are_refused() {
    let [with, without] = both(Sabotage::OffsetsOfNoGeneration, zombie);
    assert_eq!(with, ["1"]);
    assert_eq!(without, ["1", "1"], "sent with no generation they are accepted from anybody");
}

#[test]
fn trap_35_a_restore_stops_no_other_task() {
    let (a, b) = (key_in(P0, 2), key_in(P1, 2));
    let [with, without] = both(Sabotage::RestoreStopsLane, || {
        let mut driver = driver(stage(2));
        driver.run();
        driver.give(&a, "add");
        driver.run();
        let mut stray = undecided(&driver);
        driver.crash("s").unwrap();
        driver.give(&a, "add");
        driver.give(&b, "add");
        driver.run();
        let meanwhile = (driver.of_key(&a), driver.of_key(&b));
        stray.abort().unwrap();
        driver.run();
        assert_eq!(driver.of_key(&a), ["1", "2"]);
        meanwhile
    });
    assert_eq!(with, (vec!["1".to_owned()], vec!["1".to_owned()]));
    assert_eq!(without, (vec!["1".to_owned()], vec![]), "the other one waits too");
}

#[test]
fn trap_37_a_local_copy_older_than_half_of_the_tombstones_life_is_not_used() {
    let [with, without] = both(Sabotage::StaleCopyUsed, || {
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
        let changelog = topic("t.s.state");
        driver.sim().compact(&changelog, P0).unwrap();
        driver.skip(25 * 3_600_000);
        driver.sim().compact(&changelog, P0).unwrap();
        driver.run();
        driver.asked()
    });
    assert!(with.is_empty(), "{with:?}");
    assert_eq!(without, ["e"], "a key that was deleted came back");
}

#[test]
fn trap_38_who_is_fenced_twice_in_a_minute_stops_and_says_why() {
    let [with, without] = both(Sabotage::FencedForEver, || {
        let mut driver = one();
        // Just after a rebalance it may be a new owner that fences.
        driver.advance(31_000).unwrap();
        for _ in 0..5 {
            driver.faults().next(Call::Commit, When::Before, TxnFault::Rebuild);
        }
        driver.give("a", "add");
        driver.run_until_idle().err().map(|error| error.to_string())
    });
    assert!(with.is_some_and(|text| text.contains("bears the id")));
    assert_eq!(without, None, "two processes could fence each other for ever");
}

#[test]
fn trap_39_one_input_cannot_outgrow_a_transaction() {
    let [with, without] = both(Sabotage::StepUnchecked, || {
        let mut driver = one();
        driver.give("a", "many:20001");
        driver.give("a", "many:20000");
        driver.run();
        (driver.letters().len(), driver.outs().len())
    });
    assert_eq!(with, (1, 20_000));
    assert_eq!(without, (0, 40_001));
}

#[test]
fn trap_39_one_bad_record_does_not_stop_its_partition() {
    let [with, without] = both(Sabotage::CycleNotHalved, || {
        let mut driver = poisoned("bad");
        let lane = driver.lane_of("s").unwrap();
        for what in ["add", "add", "emit:bad", "add"] {
            driver.give("a", what);
        }
        for _ in 0..200 {
            driver.step(lane).unwrap();
        }
        (driver.letters().len(), driver.outs())
    });
    assert_eq!(with, (1, vec!["1".to_owned(), "2".to_owned(), "3".to_owned()]));
    assert_eq!(without, (0, vec![]), "the same transaction fails for ever");
}
