//! Commit, then act: effects start from committed state, and an outcome counts once.

use super::toys::{Look, one, said};
use crate::{
    log::TxnFault,
    testing::{Call, When},
};

#[test]
fn an_effect_is_handed_out_only_after_the_commit_that_recorded_it() {
    let mut driver = one();
    let lane = driver.lane_of("s").unwrap();
    driver.give("a", "effect:e:o");
    let before = driver.faults().commits().len();
    driver.step(lane).unwrap();
    assert_eq!(driver.faults().commits().len(), before, "processed, not committed");
    assert!(driver.asked().is_empty());
    driver.run();
    assert_eq!(driver.asked(), ["e"]);
}

#[test]
fn an_effect_of_an_aborted_cycle_is_never_seen() {
    let mut driver = one();
    driver.faults().down();
    driver.give("a", "effect:e:o");
    driver.run();
    assert!(driver.asked().is_empty());
    driver.faults().up();
    driver.advance(1_000).unwrap();
    assert_eq!(driver.asked(), ["e"]);
}

#[test]
fn what_has_no_outcome_is_performed_again_after_a_crash() {
    let mut driver = one();
    driver.give("a", "effect:e:o;effect:f:p");
    driver.run();
    driver.say("f", "f done");
    driver.run();
    driver.crash("s").unwrap();
    driver.kill_stores();
    assert!(driver.asked().is_empty(), "the desk forgets with its lane");
    driver.run();
    assert_eq!(driver.asked(), ["e"]);
    driver.say("e", "e done");
    driver.run();
    driver.crash("s").unwrap();
    driver.run();
    assert!(driver.asked().is_empty());
    assert_eq!(driver.outs(), ["f done", "e done"]);
}

#[test]
fn an_outcome_counts_once_also_if_its_commit_ends_unknown() {
    for (when, asked_again) in [(When::After, 0), (When::Before, 1)] {
        let mut driver = one();
        driver.give("a", "effect:e:o");
        driver.run();
        driver.say("e", "done");
        driver.faults().next(Call::Commit, when, TxnFault::Unknown);
        driver.run();
        assert_eq!(driver.asked().len(), asked_again, "{when:?}");
        driver.perform(|_| Some(said("done")));
        driver.run();
        assert_eq!(driver.outs(), ["done"], "{when:?}");
    }
}

#[test]
fn effects_of_one_ordering_key_are_performed_one_after_another() {
    let mut driver = one();
    driver.give("a", "effect:1:x;effect:2:x;effect:3:x;effect:y:y");
    driver.run();
    assert_eq!(driver.asked(), ["1", "y"]);
    driver.say("1", "1");
    driver.run();
    assert_eq!(driver.asked(), ["y", "2"]);
    driver.crash("s").unwrap();
    driver.run();
    assert_eq!(driver.asked(), ["2", "y"]);
    driver.say("2", "2");
    driver.run();
    driver.say("3", "3");
    driver.run();
    assert_eq!(driver.outs(), ["1", "2", "3"]);
}

#[test]
fn many_effects_of_one_key_starve_no_other() {
    let mut driver = one();
    for n in 0..200 {
        driver.give("a", &format!("effect:x{n}:x"));
    }
    driver.give("a", "effect:y:y");
    driver.run();
    assert_eq!(driver.asked(), ["x0", "y"]);
}

#[test]
fn no_more_effects_are_under_way_than_the_limit_and_every_key_gets_its_turn() {
    let mut driver = one();
    for n in 0..100 {
        driver.give("a", &format!("effect:e{n}:o{n}"));
    }
    driver.run();
    assert_eq!(driver.effects().len(), 32);
    driver.perform(|_| Some(said("done")));
    driver.run();
    assert_eq!(driver.outs().len(), 100);
}

#[test]
fn a_late_outcome_of_an_earlier_life_is_ignored() {
    let mut driver = one();
    let lane = driver.lane_of("s").unwrap();
    driver.give("a", "effect:e:o");
    driver.run();
    let asked = driver.effects().remove(0);
    driver.crash("s").unwrap();
    driver.run();
    driver.answer_earlier_life(lane, &asked, said("too late")).unwrap();
    driver.run();
    assert!(driver.outs().is_empty());
    driver.say("e", "in time");
    driver.run();
    assert_eq!(driver.outs(), ["in time"]);
}

#[test]
fn an_effect_asked_for_again_replaces_the_first_which_ends_before_the_second_starts() {
    let mut driver = one();
    driver.give("a", "effect:e:o");
    driver.run();
    let first = driver.effects().remove(0);
    driver.give("a", "effect:e:o");
    driver.run();
    assert_eq!(driver.effects().len(), 1, "one of an ordering key at a time");
    driver.answer(first.number, said("of the first")).unwrap();
    driver.run();
    assert!(driver.outs().is_empty(), "replaced: its outcome no longer counts");
    driver.say("e", "of the second");
    driver.run();
    assert_eq!(driver.outs(), ["of the second"]);
}

#[test]
fn an_effect_that_was_taken_back_is_not_performed_and_does_not_count() {
    let mut driver = one();
    driver.give("a", "effect:e:o;effect:f:o");
    driver.run();
    driver.give("a", "forget:e;forget:f");
    driver.run();
    driver.say("e", "nobody asked");
    driver.run();
    assert!(driver.asked().is_empty() && driver.outs().is_empty());
}
