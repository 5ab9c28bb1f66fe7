//! Bad input: a dead letter with origin and reason, and the pipeline goes on.

use std::sync::Arc;

use semel_schemas::header;

use super::toys::{Look, P0, P1, Toy, driver, key_in, one, raw, stage};
use crate::log::{Log, sim::RECORD_MAX};

#[test]
fn what_cannot_be_processed_is_a_dead_letter_and_the_pipeline_goes_on() {
    let mut driver = one();
    let mut version = raw("in", "a", Some(b"add"), "in");
    version.headers.push(header::VERSION, "9.0");
    let bads = [
        (raw("in", "", Some(b"add"), "in"), "SEM-0007"),
        (raw("in", "a", Some(b"add"), "nobody's"), "SEM-0005"),
        (raw("in", "a", Some(b"add"), ""), "SEM-0005"),
        (version, "SEM-0004"),
        (raw("in", "a", Some(&[b'x'; 900_001]), "in"), "SEM-0006"),
        (raw("in", "a", Some(&[0xff, 0xfe]), "in"), "SEM-0001"),
        (raw("in", "a", Some(b"no command"), "in"), "SEM-0001"),
        (raw("in", "a", None, "in"), "SEM-0008"),
        (raw("in", "a", Some(b"fault"), "in"), "SEM-0003"),
        (raw("in", "a", Some(b"panic"), "in"), "SEM-0021"),
        (raw("in", "a", Some(b"{}"), "progress"), "SEM-0002"),
        (raw("in", "a", Some(b"many:20001"), "in"), "SEM-0020"),
        (raw("in", "a", Some(b"big:900001"), "in"), "SEM-0020"),
        (raw("in", "a", Some(b"longkey:60001"), "in"), "SEM-0020"),
    ];
    for (bad, _) in &bads {
        driver.pipe_raw(bad.clone()).unwrap();
        driver.give("a", "add");
    }
    driver.run();
    let letters = driver.letters();
    assert_eq!(letters.len(), bads.len());
    let inputs = driver.read("in").unwrap();
    for (letter, (bad, code)) in letters.iter().zip(&bads) {
        assert_eq!(letter.headers.get_str(header::FAULT), Some(*code), "{letter:?}");
        assert_eq!((&letter.key, &letter.value), (&bad.key, &bad.value), "as it came");
        let origin = letter.headers.get_str(header::ORIGIN).unwrap();
        let input = inputs.iter().find(|r| r.origin() == origin).unwrap();
        assert_eq!(input.value, bad.value, "the origin leads to the record");
        assert_eq!(letter.headers.get_str(header::STAGE), Some("s"));
        assert!(!letter.headers.get_str(header::FAULT_TEXT).unwrap().is_empty());
    }
    assert_eq!(driver.count_of(P0, "a"), bads.len() as u64);
    let counts = driver.counts("s");
    assert_eq!(counts.dead_letters, bads.len() as u64);
    assert_eq!(counts.records_in, 2 * bads.len() as u64);
}

#[test]
fn a_record_as_large_as_the_log_takes_does_not_block_its_partition() {
    let mut driver = one();
    driver.pipe_raw(raw("in", "a", Some(&vec![b'x'; RECORD_MAX - 20]), "in")).unwrap();
    driver.pipe_raw(raw("in", &"k".repeat(RECORD_MAX - 20), None, "in")).unwrap();
    let mut headers = raw("in", "a", None, "in");
    headers.headers.push("foreign", vec![b'h'; RECORD_MAX - 40]);
    driver.pipe_raw(headers).unwrap();
    driver.give("a", "add");
    driver.run();
    assert_eq!(driver.outs(), ["1"]);
    let letters = driver.letters();
    assert_eq!(letters.len(), 3);
    for letter in letters {
        assert_eq!(letter.headers.get_str(header::FAULT), Some("SEM-0006"));
        assert!(letter.headers.get_str("semel-omitted-bytes").is_some());
        assert!(letter.headers.get_str(header::ORIGIN).is_some());
    }
}

#[test]
fn a_source_with_a_name_too_long_for_the_store_is_refused() {
    let mut driver = one();
    driver.progress(&"s".repeat(100_000), 1);
    driver.give("a", "add");
    driver.run();
    assert_eq!(driver.letters()[0].headers.get_str(header::FAULT), Some("SEM-0020"));
    assert_eq!(driver.outs(), ["1"]);
}

#[test]
fn a_fault_undoes_the_whole_step_across_fused_operators() {
    let mut stage = stage(1);
    stage.operators = vec![
        Arc::new(Toy { emits: "mid", ..Toy::PLAIN }),
        Arc::new(Toy { name: "second", takes: "mid", ..Toy::PLAIN }),
    ];
    let mut driver = driver(stage);
    // The first counts and sets a timer, the second is made to fault by what it is handed.
    driver.give("a", "add;wall:w:10=emit:now;effect:e:o;emit:fault");
    driver.run();
    assert_eq!(driver.count_of(P0, "a"), 0);
    assert!(driver.asked().is_empty() && driver.outs().is_empty());
    assert_eq!(driver.letters().len(), 1, "the input, not what was between");
    assert_eq!(driver.letters()[0].headers.get_str(header::ORIGIN), Some("in/0/0"));
    driver.advance(1_000).unwrap();
    assert!(driver.outs().is_empty(), "no timer is left");
    driver.give("a", "emit:emit");
    driver.run();
    assert_eq!(driver.outs(), [""]);
}

#[test]
fn a_refusal_that_is_remembered_keeps_the_step_and_its_letter() {
    let mut driver = one();
    driver.give("a", "add;refuse;wall:w:10=emit:late|refuse");
    driver.run();
    assert_eq!(driver.count_of(P0, "a"), 1);
    assert_eq!(driver.letters()[0].headers.get_str(header::ORIGIN), Some("in/0/0"));
    driver.advance(1_000).unwrap();
    assert_eq!(driver.outs(), ["1", "late"]);
    assert_eq!(
        driver.letters().len(),
        2,
        "a timer that is refused is told, and does not fire anew"
    );
    driver.give("a", "add");
    driver.run();
    assert_eq!((driver.count_of(P0, "a"), driver.letters().len()), (2, 2));
}

#[test]
fn operators_begin_before_what_others_emit_meets_them() {
    let mut stage = stage(1);
    stage.operators = vec![
        Arc::new(Toy { emits: "mid", begin: "emit:emit", ..Toy::PLAIN }),
        Arc::new(Toy { name: "second", takes: "mid", begin: "emit:second begun", ..Toy::PLAIN }),
    ];
    let mut driver = driver(stage);
    driver.run();
    assert_eq!(driver.outs(), ["second begun", ""]);
}

#[test]
fn faults_and_panics_of_timers_and_outcomes_are_letters_without_a_record() {
    let mut driver = one();
    driver.give("a", "wall:f:10=add|fault;wall:p:20=add|panic;effect:e:o");
    driver.run();
    driver.say("e", "run panic");
    driver.advance(1_000).unwrap();
    let letters = driver.letters();
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|l| l.headers.get_str(header::TYPE) == Some("semel.fault")));
    assert_eq!((driver.count_of(P0, "f"), driver.count_of(P0, "p")), (0, 0));
    let counts = driver.counts("s");
    assert_eq!((counts.timers, counts.outcomes, counts.dead_letters), (2, 1, 3));
    driver.crash("s").unwrap();
    driver.advance(1_000).unwrap();
    assert_eq!(driver.letters().len(), 3, "they do not come again");
    assert!(driver.asked().is_empty());
}

#[test]
fn a_misplaced_record_is_forwarded_in_the_same_transaction_with_its_origin() {
    let mut driver = driver(stage(2));
    let key = key_in(P1, 2);
    driver.pipe_raw(raw("in", &key, Some(b"add"), "in")).unwrap();
    driver.give(&key_in(P0, 2), "add");
    driver.run();
    assert_eq!(driver.count_of(P1, &key), 1);
    assert_eq!(driver.count_of(P0, &key), 0);
    assert_eq!(driver.counts("s").forwarded, 1);
    let inputs = driver.read("in").unwrap();
    let forwarded = inputs.iter().find(|r| r.headers.get(header::ORIGIN).is_some()).unwrap();
    assert_eq!(forwarded.partition, P1);
    assert_eq!(forwarded.headers.get_str(header::ORIGIN), Some("in/0/0"));
    assert_eq!(forwarded.id(), "in/0/0", "its id is the one it had where it came in");
    // The forwarding and the offset that it moved are one transaction: nothing comes twice.
    driver.crash("s").unwrap();
    driver.kill_stores();
    driver.run();
    assert_eq!(driver.of_key(&key), ["1"]);
    assert!(driver.sim().topic(&forwarded.topic).unwrap().is_some());
}

#[test]
fn headers_that_are_not_ours_travel_and_the_cause_is_named() {
    let mut driver = one();
    let mut record = raw("in", "a", Some(b"fwd"), "in");
    record.headers.push(header::TRACEPARENT, "00-trace");
    driver.pipe_raw(record).unwrap();
    driver.give("a", "emit:x");
    driver.run();
    let outs = driver.read("out").unwrap();
    assert_eq!(outs[0].headers.get_str(header::TRACEPARENT), Some("00-trace"));
    assert_eq!(outs[0].id(), "in/0/0");
    assert_eq!(outs[1].headers.get_str(header::CAUSE), Some("in/0/2"));
}

#[test]
fn a_record_for_another_reader_of_the_topic_is_passed_over() {
    let mut driver = one();
    for to in ["s", "another"] {
        let mut record = raw("in", "a", Some(b"add"), "in");
        record.headers.push(header::TO, to);
        driver.pipe_raw(record).unwrap();
        let mut bad = raw("in", "a", Some(b"fault"), "in");
        bad.headers.push(header::TO, to);
        driver.pipe_raw(bad).unwrap();
    }
    driver.give("a", "add");
    driver.run();
    assert_eq!(driver.count_of(P0, "a"), 2, "ours, and what is for everybody");
    assert_eq!(driver.letters().len(), 1);
    let counts = driver.counts("s");
    assert_eq!(counts.records_in, 5, "passed over, and done with");
}
