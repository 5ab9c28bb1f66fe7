//! What a failed commit leaves: everything given back after a known abort, everything rebuilt
//! after an unknown end, and one bad record found among many.

use super::toys::{Look, P0, driver, one, said, stage, topic_ref};
use crate::{
    log::TxnFault,
    testing::{Call, When},
};

#[test]
fn a_known_abort_gives_back_records_outcomes_and_timers_in_order() {
    let mut driver = one();
    driver.give("a", "effect:e:o;wall:w:1000=emit:timer");
    driver.run();
    let asked = driver.effects().remove(0);
    driver.skip(1_000);
    driver.answer(asked.number, said("answer")).unwrap();
    driver.give("a", "emit:1");
    driver.give("a", "emit:2");
    driver.faults().next(Call::Commit, When::Before, TxnFault::Abort);
    driver.run();
    let mut outs = driver.outs();
    assert_eq!(driver.of_key("a"), ["1", "2"]);
    outs.sort();
    assert_eq!(outs, ["1", "2", "answer", "timer"]);
    assert!(driver.asked().is_empty(), "an outcome that was given back is not asked for again");
    assert_eq!(driver.counts("s").aborts, 1);
}

#[test]
fn an_outcome_that_was_given_back_is_not_asked_for_again_while_it_waits() {
    let mut driver = one();
    driver.give("a", "effect:e:o");
    driver.run();
    driver.say("e", "answer");
    driver.faults().down();
    driver.run();
    assert!(driver.asked().is_empty());
    driver.faults().up();
    driver.advance(1_000).unwrap();
    assert_eq!(driver.outs(), ["answer"]);
}

#[test]
fn every_fault_of_every_call_loses_nothing_and_doubles_nothing() {
    for when in [When::Before, When::After] {
        for fault in [TxnFault::Retry, TxnFault::Abort, TxnFault::Unknown, TxnFault::Rebuild] {
            if (when, fault) == (When::After, TxnFault::Abort)
                || (when, fault) == (When::After, TxnFault::Retry)
            {
                // "Nothing happened" is a promise of the log: it is not broken here.
                continue;
            }
            for crash in 1..4 {
                let mut driver = one();
                driver.give("a", "add");
                driver.run();
                for n in 0..crash {
                    driver.give("a", "add");
                    driver.give("b", "add;wall:w:10=add");
                    if n + 1 == crash {
                        driver.faults().next(Call::Commit, when, fault);
                    }
                }
                driver.run();
                driver.advance(2_000).unwrap();
                let want: Vec<String> = (1..=crash + 1).map(|n| n.to_string()).collect();
                assert_eq!(driver.of_key("a"), want, "{when:?} {fault:?}");
                assert_eq!(driver.count_of(P0, "b"), crash);
                assert_eq!(driver.of_key("w"), ["1"], "{when:?} {fault:?}");
            }
        }
    }
}

#[test]
fn an_abort_that_fails_is_an_unknown_end() {
    let mut driver = one();
    for fault in [TxnFault::Unknown, TxnFault::Abort, TxnFault::Retry] {
        driver.faults().next(Call::Commit, When::Before, TxnFault::Abort);
        driver.faults().next(Call::Abort, When::After, fault);
        driver.give("a", "add");
        driver.run();
    }
    assert_eq!(driver.outs(), ["1", "2", "3"]);
}

#[test]
fn a_retry_is_made_five_times_and_then_the_producer_is_rebuilt() {
    let mut driver = one();
    let inits = |driver: &crate::testing::Driver| {
        driver.faults().calls().iter().filter(|call| **call == "init").count()
    };
    let before = inits(&driver);
    for _ in 0..5 {
        driver.faults().next(Call::Commit, When::Before, TxnFault::Retry);
    }
    driver.give("a", "add");
    driver.run();
    assert_eq!((driver.outs(), inits(&driver)), (vec!["1".to_owned()], before));
    for _ in 0..6 {
        driver.faults().next(Call::Commit, When::Before, TxnFault::Retry);
    }
    driver.give("a", "add");
    driver.run();
    assert_eq!(driver.outs(), ["1", "2"]);
    assert_eq!(inits(&driver), before + 1);
}

#[test]
fn an_init_that_fails_is_tried_again_and_a_poll_that_fails_builds_the_lane_anew() {
    let mut driver = driver(stage(1));
    driver.faults().next(Call::Init, When::Before, TxnFault::Retry);
    driver.faults().next(Call::Init, When::After, TxnFault::Unknown);
    driver.give("a", "add");
    driver.run();
    assert!(driver.outs().is_empty());
    driver.advance(1_000).unwrap();
    driver.faults().next(Call::Poll, When::Before, TxnFault::Retry);
    driver.give("a", "add");
    driver.run();
    assert_eq!(driver.outs(), ["1", "2"]);
}

#[test]
fn what_the_program_did_wrong_stops_it_with_the_logs_sentence() {
    let mut driver = one();
    driver.faults().next(Call::Commit, When::Before, TxnFault::Fatal);
    driver.give("a", "add");
    assert!(driver.stopped().contains("injected: Fatal"));
}

/// A log that aborts every transaction with this record in it.
pub(super) fn poisoned(bad: &'static str) -> crate::testing::Driver {
    let driver = one();
    driver.faults().poison(move |record| {
        record.topic.as_str() == "out" && record.value.as_deref() == Some(bad.as_bytes())
    });
    driver
}

#[test]
fn halving_finds_the_one_record_that_breaks_the_commit() {
    let mut driver = poisoned("bad");
    for n in 0..100 {
        driver.give(&format!("k{}", n % 10), if n == 37 { "emit:bad" } else { "add" });
    }
    driver.run();
    let letters = driver.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].value.as_deref(), Some(&b"emit:bad"[..]));
    assert_eq!(letters[0].headers.get_str("semel-fault"), Some("SEM-0021"));
    assert_eq!(driver.outs().len(), 99, "the others pass, once");
    let total: u64 = (0..10).map(|n| driver.count_of(P0, &format!("k{n}"))).sum();
    assert_eq!(total, 99);
}

#[test]
fn two_records_that_break_the_commit_are_both_found() {
    let mut driver = poisoned("bad");
    for n in 0..20 {
        driver.give("a", if n % 10 == 3 { "emit:bad" } else { "add" });
    }
    driver.run();
    assert_eq!(driver.letters().len(), 2);
    assert_eq!(driver.count_of(P0, "a"), 18);
}

#[test]
fn a_log_that_is_down_dead_letters_nothing() {
    let mut driver = one();
    driver.faults().down();
    for _ in 0..50 {
        driver.give("a", "add");
    }
    driver.advance(30_000).unwrap();
    let tries = driver.faults().commits().len();
    assert!(tries < 500, "{tries} tries in 30 s: it waits in between");
    driver.faults().up();
    driver.advance(1_000).unwrap();
    assert_eq!(driver.count_of(P0, "a"), 50);
    assert_eq!(driver.outs().len(), 50);
    assert!(driver.letters().is_empty());
}

#[test]
fn while_the_log_is_down_memory_is_bounded_and_polls_go_on() {
    let mut driver = one();
    driver.faults().down();
    driver.give("a", "add");
    driver.run();
    for _ in 0..30_000 {
        driver.give("a", "add");
    }
    driver.advance(20_000).unwrap();
    let lane = driver.lane_of("s").unwrap();
    assert_eq!(driver.partitions(lane).unwrap(), [P0], "its session did not end");
    assert!(driver.faults().calls().contains(&"pause"));
    driver.faults().up();
    driver.advance(2_000).unwrap();
    assert_eq!(driver.count_of(P0, "a"), 30_001);
}

fn reasons(driver: &crate::testing::Driver) -> Vec<(String, String)> {
    let of = |letter: &semel_schemas::record::Record, name| {
        letter.headers.get_str(name).unwrap_or_default().to_owned()
    };
    let letters = driver.letters();
    letters.iter().map(|l| (of(l, "semel-fault"), of(l, "semel-origin"))).collect()
}

fn one_reason(origin: &str) -> Vec<(String, String)> {
    vec![("SEM-0021".to_owned(), origin.to_owned())]
}

#[test]
fn a_timer_that_breaks_the_commit_is_found_among_timers_and_records() {
    for with_records in [0, 40] {
        let mut driver = poisoned("bad");
        for n in 0..100 {
            let text = if n == 37 { "bad" } else { "good" };
            driver.give("a", &format!("wall:w{n}:1000=emit:{text};event:e{n}:5=emit:early"));
        }
        driver.run();
        driver.skip(1_000);
        driver.progress("source", 5);
        for n in 0..with_records {
            driver.give(&format!("k{}", n % 10), "add");
        }
        driver.run();
        driver.advance(5_000).unwrap();
        assert_eq!(reasons(&driver), one_reason("s/0: timer `w37`"), "{with_records}");
        let outs = driver.outs();
        let of = |text: &str| outs.iter().filter(|out| *out == text).count();
        assert_eq!((of("good"), of("early"), of("bad")), (99, 100, 0));
        let total: u64 = (0..10).map(|n| driver.count_of(P0, &format!("k{n}"))).sum();
        assert_eq!(total, with_records, "no record is condemned with it");
        driver.give("b", "wall:later:1000=emit:good");
        driver.advance(2_000).unwrap();
        assert_eq!(driver.of_key("later"), ["good"]);
    }
}

#[test]
fn a_timer_of_one_task_does_not_hold_up_another_task_for_ever() {
    let mut stage = stage(2);
    stage.progress_to.clear();
    let mut driver = driver(stage);
    driver.faults().poison(|record| record.value.as_deref() == Some(b"bad"));
    let keys = [super::toys::key_in(P0, 2), super::toys::key_in(super::toys::P1, 2)];
    driver.give(&keys[0], "wall:w:1000=emit:bad|add");
    driver.give(&keys[1], "wall:v:1000=emit:good");
    driver.run();
    for _ in 0..10 {
        driver.give(&keys[1], "add");
        driver.advance(500).unwrap();
    }
    assert_eq!(reasons(&driver), one_reason("s/0: timer `w`"));
    assert_eq!(driver.of_key(&keys[1]).len(), 10);
    assert_eq!(driver.of_key("v"), ["good"]);
}

#[test]
fn an_outcome_that_breaks_the_commit_is_found_and_its_effect_not_asked_for_again() {
    let mut driver = poisoned("bad");
    for n in 0..20 {
        driver.give("a", &format!("effect:e{n}:o{n}"));
    }
    driver.run();
    assert_eq!(driver.asked().len(), 20);
    for n in 0..20 {
        driver.say(&format!("e{n}"), if n == 13 { "bad" } else { "good" });
    }
    driver.give("b", "add");
    driver.run();
    driver.advance(1_000).unwrap();
    assert_eq!(reasons(&driver), one_reason("s/0: outcome of effect `e13`"));
    assert_eq!(driver.outs().iter().filter(|out| *out == "good").count(), 19);
    assert_eq!(driver.count_of(P0, "b"), 1);
    assert!(driver.asked().is_empty());
    driver.crash("s").unwrap();
    driver.run();
    assert!(driver.asked().is_empty(), "it is answered for good");
}

#[test]
fn a_log_that_is_down_condemns_neither_timers_nor_outcomes() {
    let mut driver = one();
    driver.give("a", "effect:e:o;wall:w:1000=emit:timer");
    driver.run();
    driver.say("e", "answer");
    driver.faults().down();
    driver.advance(30_000).unwrap();
    let tries = driver.faults().commits().len();
    assert!(tries < 500, "{tries} tries in 30 s: it waits in between");
    driver.faults().up();
    driver.advance(1_000).unwrap();
    let mut outs = driver.outs();
    outs.sort();
    assert_eq!(outs, ["answer", "timer"]);
    assert!(driver.letters().is_empty());
}

#[test]
fn back_pressure_of_the_producer_loses_nothing() {
    let mut driver = one();
    driver.faults().full(7);
    driver.give("a", "add");
    driver.run();
    assert_eq!(driver.outs(), ["1"]);
    assert_eq!(driver.faults().calls().iter().filter(|c| **c == "make_room").count(), 7);
}

#[test]
fn a_lost_assignment_while_begin_is_open_is_no_empty_commit() {
    let mut stage = stage(1);
    stage.progress_to = vec![topic_ref("out", 1)];
    let mut driver = driver(stage);
    let lane = driver.lane_of("s").unwrap();
    // Begin is done and not committed: the log refuses.
    driver.faults().down();
    for _ in 0..6 {
        driver.step(lane).unwrap();
    }
    driver.skip(60_000);
    driver.faults().up();
    driver.give("a", "add");
    driver.run();
    driver.advance(1_000).unwrap();
    assert_eq!(driver.outs(), ["1"]);
    assert!(driver.faults().commits().iter().all(|offsets| !offsets.is_empty()));
}
