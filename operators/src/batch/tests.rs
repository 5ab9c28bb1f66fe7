//! What `batch` promises, step by step.

use proptest::prelude::*;
use semel_schemas::{
    batched::{RECORDS, Records},
    fault::FaultCode,
    header::Headers,
    time::WallTime,
};

use super::{Batch, Settings};
use crate::{
    operator::{Envelope, Input, Step, TimerKey, TimerOp},
    testing::Bench,
};

fn settings(max_records: u32, max_bytes: u32) -> Settings {
    Settings { record: "r".into(), max_records, max_bytes, max_wait_ms: 100 }
}

fn bench(max_records: u32, max_bytes: u32) -> Bench<Batch> {
    Bench::new(Batch::new(settings(max_records, max_bytes)).unwrap())
}

fn record(key: &str, id: &str, value: Option<&str>) -> Input {
    Input::Record(Envelope {
        id: id.into(),
        kind: "r".into(),
        key: key.as_bytes().to_vec(),
        value: value.map(|v| v.as_bytes().to_vec()),
        headers: Headers::new(),
    })
}

/// The batches that a step made: key and (id, value) of each record.
fn batches(step: &Step) -> Vec<(String, Vec<(String, String)>)> {
    step.emits
        .iter()
        .map(|emit| {
            assert_eq!(emit.record.kind, RECORDS);
            let key = String::from_utf8(emit.record.key.clone()).unwrap();
            let value = emit.record.value.as_deref().unwrap();
            let batch: Records = semel_schemas::codec::decode(RECORDS, value).unwrap();
            let records = batch.records.into_iter();
            (key, records.map(|r| (r.id, r.value.get().to_owned())).collect())
        })
        .collect()
}

fn ids(step: &Step) -> Vec<String> {
    batches(step).into_iter().flat_map(|(_, records)| records).map(|(id, _)| id).collect()
}

fn timers(step: &Step) -> Vec<(TimerKey, u64, Vec<u8>)> {
    step.timers
        .iter()
        .filter_map(|timer| match timer {
            TimerOp::Set { key, at, payload } => Some((key.clone(), *at, payload.clone())),
            TimerOp::Cancel(_) => None,
        })
        .collect()
}

#[test]
fn a_batch_ends_at_its_count_and_holds_its_records_to_the_byte() {
    let mut bench = bench(2, 1_000);
    assert!(batches(&bench.step(record("a", "1", Some(r#" {"n": 1.50} "#))).unwrap()).is_empty());
    assert!(batches(&bench.step(record("b", "2", Some("7"))).unwrap()).is_empty());
    let step = bench.step(record("a", "3\"", Some("123456789012345678901234567890"))).unwrap();
    let wanted = vec![
        ("1".to_owned(), r#"{"n": 1.50}"#.to_owned()),
        ("3\"".to_owned(), "123456789012345678901234567890".to_owned()),
    ];
    assert_eq!(batches(&step), [("a".to_owned(), wanted)]);
}

#[test]
fn a_batch_ends_before_its_bytes_are_too_many() {
    let mut bench = bench(100, 80);
    let long = format!("\"{}\"", "x".repeat(30));
    assert_eq!(ids(&bench.step(record("a", "1", Some(&long))).unwrap()), [""; 0]);
    assert_eq!(ids(&bench.step(record("a", "2", Some(&long))).unwrap()), ["1"]);
    let longer = format!("\"{}\"", "x".repeat(300));
    assert_eq!(ids(&bench.step(record("a", "3", Some(&longer))).unwrap()), ["2"]);
    assert_eq!(ids(&bench.step(record("a", "4", Some("0"))).unwrap()), ["3"]);
}

#[test]
fn a_batch_ends_in_time_whatever_ended_before_it() {
    let mut bench = bench(2, 1_000);
    bench.now = WallTime(1_000);
    let (key, at, payload) = timers(&bench.step(record("a", "1", Some("1"))).unwrap())[0].clone();
    assert_eq!(at, 1_100);
    // One batch ends by its count, another opens later: the timer stays where it was.
    bench.now = WallTime(1_050);
    assert_eq!(ids(&bench.step(record("a", "2", Some("2"))).unwrap()), ["1", "2"]);
    assert!(timers(&bench.step(record("a", "3", Some("3"))).unwrap()).is_empty());
    bench.now = WallTime(1_100);
    let step = bench.step(Input::Timer { key: key.clone(), payload: payload.clone() }).unwrap();
    assert!(ids(&step).is_empty());
    assert_eq!(timers(&step)[0].1, 1_150);
    bench.now = WallTime(1_150);
    let step = bench.step(Input::Timer { key: key.clone(), payload: payload.clone() }).unwrap();
    assert_eq!((ids(&step), timers(&step).len()), (vec!["3".to_owned()], 0));
    assert!(bench.state.is_empty(), "an idle key leaves nothing behind");
}

#[test]
fn what_is_no_json_is_refused_and_leaves_nothing() {
    let mut bench = bench(2, 1_000);
    for (value, code) in [
        (None, FaultCode::UnexpectedTombstone),
        (Some(""), FaultCode::Undecodable),
        (Some("{"), FaultCode::Undecodable),
        (Some("1]},{"), FaultCode::Undecodable),
        (Some("{} {}"), FaultCode::Undecodable),
    ] {
        assert_eq!(bench.step(record("a", "1", value)).unwrap_err().code, code, "{value:?}");
        assert!(bench.state.is_empty());
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    for (max_records, max_bytes, name) in [
        (0, 1, "max_records"),
        (10_001, 1, "max_records"),
        (1, 0, "max_bytes"),
        (1, 500_001, "max_bytes"),
    ] {
        assert!(Batch::new(settings(max_records, max_bytes)).unwrap_err().contains(name));
    }
}

proptest! {
    #[test]
    fn batches_end_to_end_are_the_records(
        sizes in proptest::collection::vec((0_u8..3, 0_usize..60, any::<bool>()), 1..60),
        max_records in 1_u32..5,
        max_bytes in 1_u32..200,
    ) {
        let mut bench = bench(max_records, max_bytes);
        let (mut given, mut found) = (Vec::new(), Vec::new());
        let mut fired = Vec::new();
        for (n, (key, size, later)) in sizes.iter().enumerate() {
            let (key, id) = (key.to_string(), n.to_string());
            let value = format!("\"{}\"", "v".repeat(*size));
            given.push((key.clone(), id.clone()));
            let step = bench.step(record(&key, &id, Some(&value))).unwrap();
            fired.extend(timers(&step));
            found.extend(batches(&step));
            if *later && let Some((key, at, payload)) = fired.pop() {
                bench.now = bench.now.max(WallTime(at));
                let step = bench.step(Input::Timer { key, payload }).unwrap();
                fired.extend(timers(&step));
                found.extend(batches(&step));
            }
        }
        while let Some((key, at, payload)) = fired.pop() {
            bench.now = bench.now.max(WallTime(at));
            let step = bench.step(Input::Timer { key, payload }).unwrap();
            fired.extend(timers(&step));
            found.extend(batches(&step));
        }
        for key in ["0", "1", "2"] {
            let of_key = |pairs: &[(String, String)]| -> Vec<String> {
                pairs.iter().filter(|(k, _)| k == key).map(|(_, id)| id.clone()).collect()
            };
            let laid: Vec<(String, String)> = found
                .iter()
                .flat_map(|(k, records)| records.iter().map(|(id, _)| (k.clone(), id.clone())))
                .collect();
            prop_assert_eq!(of_key(&given), of_key(&laid));
        }
        prop_assert!(bench.state.is_empty());
    }
}
