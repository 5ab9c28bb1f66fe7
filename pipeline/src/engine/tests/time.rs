//! Clocks: event time is the least progress, timers fire in order and never early, `now` never
//! goes back.

use std::sync::Arc;

use semel_schemas::{header, progress::PROGRESS, time::WallTime};

use super::toys::{Look, Toy, driver, one, stage, text_of, topic_ref};
use crate::{
    engine::topology::Stage,
    log::TxnFault,
    testing::{Call, When},
};

fn with_sources() -> Stage {
    let mut stage = stage(1);
    stage.sources = vec!["a/0".to_owned(), "b/0".to_owned()];
    stage.progress_to = vec![topic_ref("out", 1)];
    stage
}

fn passed_on(driver: &crate::testing::Driver) -> Vec<String> {
    let records = driver.read("out").unwrap();
    records
        .iter()
        .map(|r| match r.headers.get_str(header::TYPE) {
            Some(PROGRESS) => {
                let said: serde_json::Value =
                    serde_json::from_slice(r.value.as_deref().unwrap()).unwrap();
                format!("{} at {}", said["source"].as_str().unwrap(), said["complete"])
            }
            _ => text_of(r),
        })
        .collect()
}

#[test]
fn event_time_is_the_least_over_the_expected_sources_and_none_before_all_spoke() {
    let mut driver = driver(with_sources());
    driver.progress("a/0", 10);
    driver.progress("stranger/0", 1);
    driver.run();
    assert!(passed_on(&driver).is_empty());
    driver.progress("b/0", 7);
    driver.run();
    assert_eq!(passed_on(&driver), ["complete 7", "s/0 at 7"]);
    driver.progress("a/0", 20);
    driver.run();
    assert_eq!(passed_on(&driver).len(), 2, "the least has not moved");
    driver.progress("b/0", 15);
    driver.run();
    assert_eq!(passed_on(&driver)[2..], ["complete 15", "s/0 at 15"]);
}

#[test]
fn progress_that_goes_back_is_refused() {
    let mut driver = driver(with_sources());
    driver.progress("a/0", 10);
    driver.progress("b/0", 10);
    driver.progress("a/0", 9);
    driver.progress("a/0", 10);
    driver.run();
    assert_eq!(driver.letters().len(), 1);
    assert_eq!(driver.letters()[0].headers.get_str(header::FAULT), Some("SEM-0009"));
    assert_eq!(passed_on(&driver), ["complete 10", "s/0 at 10"]);
}

#[test]
fn event_time_is_passed_on_only_after_every_due_timer_has_fired() {
    let mut driver = driver(with_sources());
    // More timers than fire in one cycle, one that goes on with zero delay, in either clock.
    for n in 0..100 {
        driver.give("k", &format!("event:t{n:03}:5=emit:t"));
    }
    driver.give("k", "event:chain:5=emit:c|wall:more:0=emit:more");
    driver.give("k", "event:other:6=emit:o|event:again:1=emit:again");
    driver.progress("a/0", 9);
    driver.progress("b/0", 9);
    driver.run();
    let said = passed_on(&driver);
    assert_eq!(said.iter().filter(|s| *s == "t").count(), 100);
    for late in ["c", "o", "more", "again"] {
        assert!(said.contains(&late.to_owned()), "{late}");
    }
    assert_eq!(said.last().unwrap(), "s/0 at 9", "{said:?}");
    assert_eq!(said.iter().filter(|s| s.starts_with("s/0")).count(), 1);
}

#[test]
fn event_time_survives_a_crash_and_is_passed_on_once() {
    let mut driver = driver(with_sources());
    driver.progress("a/0", 5);
    driver.progress("b/0", 5);
    driver.faults().next(Call::Commit, When::After, TxnFault::Unknown);
    driver.run();
    driver.crash("s").unwrap();
    driver.kill_stores();
    driver.give("k", "event:now:5=emit:due");
    driver.run();
    assert_eq!(passed_on(&driver), ["complete 5", "s/0 at 5", "due"]);
}

#[test]
fn wall_timers_fire_in_the_order_of_time_and_key() {
    let mut driver = one();
    driver.give("k", "wall:b:50=emit:b;wall:a:50=emit:a;wall:first:10=emit:first");
    driver.give("k", "wall:moved:10=emit:moved;wall:gone:20=emit:gone");
    driver.give("k", "wall:moved:60=emit:moved;cancel:gone");
    driver.run();
    assert!(driver.outs().is_empty());
    driver.advance(49).unwrap();
    assert_eq!(driver.outs(), ["first"]);
    driver.advance(1_000).unwrap();
    assert_eq!(driver.outs(), ["first", "a", "b", "moved"]);
}

#[test]
fn a_timer_that_an_earlier_one_cancels_or_changes_does_not_fire_as_it_was() {
    let mut driver = one();
    driver.give("k", "wall:a:10=emit:a|cancel:b;wall:b:10=emit:b;wall:c:10=emit:c");
    driver.run();
    driver.advance(1_000).unwrap();
    assert_eq!(driver.outs(), ["a", "c"]);
}

#[test]
fn after_a_start_wall_timers_wait_until_the_input_found_there_is_worked_up() {
    for markers in [false, true] {
        let mut driver = one();
        driver.give("k", "wall:w:100=add;wall:x:50=add");
        driver.run();
        driver.crash("s").unwrap();
        driver.skip(1_000);
        for _ in 0..3 {
            driver.give("k", "emit:input");
        }
        if markers {
            // Commits that fail meanwhile change nothing of the order.
            driver.faults().next(Call::Commit, When::Before, TxnFault::Abort);
        }
        driver.run();
        let outs = driver.outs();
        assert_eq!(outs, ["input", "input", "input", "1", "1"]);
        assert_eq!((driver.of_key("x"), driver.of_key("w")), (vec!["1".into()], vec!["1".into()]));
    }
}

#[test]
fn timers_fire_after_a_start_though_no_further_record_comes() {
    let mut driver = one();
    driver.give("k", "wall:w:100=emit:fired");
    driver.run();
    driver.crash("s").unwrap();
    driver.kill_stores();
    driver.give("k", "emit:input");
    driver.skip(1_000);
    driver.run();
    assert_eq!(driver.outs(), ["input", "fired"]);
}

#[test]
fn timers_fire_under_a_load_that_never_pauses() {
    let mut driver = one();
    driver.give("k", "wall:w:100=emit:fired");
    driver.run();
    driver.crash("s").unwrap();
    let lane = driver.lane_of("s").unwrap();
    for _ in 0..200 {
        driver.give("k", "add");
        driver.skip(10);
        driver.step(lane).unwrap();
    }
    assert!(driver.outs().contains(&"fired".to_owned()));
}

#[test]
fn timers_of_zero_delay_go_on_until_they_are_done() {
    let mut driver = one();
    driver.give("k", "wall:1:0=emit:1|wall:2:0=emit:2");
    driver.run();
    assert_eq!(driver.of_key("1"), ["1"]);
    assert_eq!(driver.state("s", super::toys::P0, "_timers", b""), None);
    assert!(driver.scan("s", super::toys::P0, "_timers").is_empty());
}

#[test]
fn a_timer_that_sets_itself_for_ever_is_told() {
    let mut driver = one();
    driver.perform(|_| Some(super::toys::said("run effect:e:o")));
    driver.give("k", "effect:e:o");
    let error = driver.run_until_idle().unwrap_err().to_string();
    assert!(error.contains("still something to do"), "{error}");
}

#[test]
fn now_never_goes_back_also_over_a_crash() {
    let mut driver = one();
    driver.skip(5_000);
    let high = driver.now();
    driver.give("k", "now");
    driver.run();
    driver.set_clock(WallTime(high.0 - 3_000));
    driver.give("k", "now");
    driver.run();
    driver.crash("s").unwrap();
    driver.kill_stores();
    driver.give("k", "now;wall:w:0=now");
    driver.run();
    assert_eq!(driver.outs(), vec![high.to_string(); 4]);
}

#[test]
fn progress_reaches_the_next_stage_behind_what_it_is_about() {
    let mut first = stage(1);
    first.progress_to = vec![topic_ref("out", 1)];
    first.sources = vec!["a/0".to_owned()];
    first.operators = vec![Arc::new(Toy { emits: "in", ..Toy::PLAIN })];
    let mut second = crate::testing::plain_stage(
        "t",
        "second",
        ("out", "end"),
        1,
        vec![Arc::new(Toy { name: "end", ..Toy::PLAIN })],
    )
    .unwrap();
    second.sources = vec!["s/0".to_owned()];
    let mut driver =
        crate::testing::Driver::of_stages(vec![Arc::new(first), Arc::new(second)]).unwrap();
    driver.give("k", "event:close:5=emit:emit");
    driver.progress("a/0", 5);
    driver.run();
    let end: Vec<String> = driver.read("end").unwrap().iter().map(text_of).collect();
    assert_eq!(end, ["", "complete 5"]);
}
