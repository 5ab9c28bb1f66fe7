//! The source, step by step: what is emitted, when it asks again, when it stops.

use super::*;
use crate::{
    operator::{Step, TimerOp},
    testing::Bench,
};

const NOW: u64 = 50_000;

fn settings() -> FileSourceSettings {
    serde_json::from_str(r#"{"name":"src","file":"legacy","max_records":3}"#).unwrap()
}

fn bench_of(settings: FileSourceSettings) -> Bench<FileSource> {
    let mut bench = Bench::new(FileSource::new(settings).unwrap());
    bench.now = WallTime(NOW);
    bench
}

fn bench() -> Bench<FileSource> {
    bench_of(settings())
}

fn place(offset: u64) -> FilePlace {
    FilePlace::Line { offset, line: offset / 10 + 1 }
}

fn cursor(offset: u64) -> FileCursor {
    FileCursor { place: place(offset), head: "00".repeat(32), head_bytes: 4_096 }
}

/// A record of ten bytes at an offset.
fn record(offset: u64, slot: Option<u64>) -> FileRecord {
    FileRecord {
        place: place(offset),
        key: "k".into(),
        value: format!(r#"{{"n":{offset}}}"#),
        slot: slot.map(Slot),
        at: slot.map(WallTime),
    }
}

fn bad(offset: u64) -> Option<BadLine> {
    let fault =
        Fault::new(FaultCode::Undecodable, format!("file `legacy`, byte {offset}: no JSON"));
    Some(BadLine { place: place(offset), fault })
}

fn answer(outcome: Outcome) -> Input {
    Input::Outcome { id: READ.into(), outcome }
}

fn records(records: Vec<FileRecord>, bad: Option<BadLine>, next: u64, end: bool) -> Input {
    answer(Outcome::FileRecords {
        kind: "log".into(),
        records,
        bad,
        cursor: cursor(next),
        end,
        bytes_read: next,
        bytes_total: 100,
    })
}

fn timer() -> Input {
    Input::Timer { key: TimerKey::wall(POLL), payload: vec![] }
}

fn resume(source: &str, from_slot: Option<u64>) -> Input {
    let resume = Resume { source: source.into(), from_slot: from_slot.map(Slot), by: "me".into() };
    Input::Record(Envelope {
        id: "r".into(),
        kind: RESUME.into(),
        key: source.into(),
        value: Some(codec::encode(&resume)),
        headers: Default::default(),
    })
}

fn stand(bench: &Bench<FileSource>) -> Stand {
    use crate::operator::StateView;
    crate::operator::from_state(STORE, &bench.state.get(STORE, STATE).unwrap())
}

/// A step in short: emitted ids (progress: its slot), questions, timers, dead letters.
fn short(step: &Step) -> String {
    let mut out = Vec::new();
    for emit in &step.emits {
        let value = emit.record.value.as_deref().unwrap();
        out.push(match emit.record.kind.as_str() {
            PROGRESS => {
                assert!(emit.record.key.is_empty());
                let p: Progress = codec::decode(PROGRESS, value).unwrap();
                assert_eq!((p.source.as_str(), p.complete), ("src", p.finalized));
                format!("upto{}", p.complete)
            }
            "log" => emit.record.id.clone(),
            kind => {
                assert_eq!(emit.to, To::Output(ALERTS));
                format!("<{kind}")
            }
        });
    }
    out.extend(step.refused.iter().map(|fault| format!("dead:{}", fault.code)));
    for request in &step.effects {
        assert_eq!((request.id.as_str(), request.ordering_key.as_str()), (READ, "src"));
        let Effect::ReadFile { file, cursor, max_records, .. } = &request.effect else { panic!() };
        assert_eq!((file.as_str(), *max_records), ("legacy", 3));
        out.push(match cursor {
            Some(cursor) => format!("read>{}", cursor.place),
            None => "read".to_owned(),
        });
    }
    for timer in &step.timers {
        if let TimerOp::Set { key, at, .. } = timer {
            out.push(format!("{}+{}", key.name, at - NOW));
        }
    }
    out.join(" ")
}

#[test]
fn a_file_is_read_to_its_end_and_progress_follows() {
    let mut bench = bench();
    let uncertain = || answer(Outcome::Uncertain { text: "away".into() });
    let rows = [
        (Input::Begin, "read"),
        (uncertain(), "poll+1000"),
        (timer(), "read"),
        (uncertain(), "poll+2000"),
        (timer(), "read"),
        (
            records(vec![record(0, Some(5)), record(10, Some(6))], None, 20, false),
            "file:legacy:0 file:legacy:10 upto5 read>20",
        ),
        // The same slot again: it was not complete.
        (records(vec![record(20, Some(6))], None, 30, false), "file:legacy:20 read>30"),
        // An empty line.
        (records(vec![], None, 31, false), "read>31"),
        (records(vec![record(40, Some(9))], None, 50, true), "file:legacy:40 upto9"),
        // What comes after the end is no answer to a question.
        (records(vec![record(50, Some(10))], None, 60, true), ""),
        (timer(), ""),
        // A file that has grown since.
        (resume("src", None), "read>50"),
        (records(vec![record(50, Some(10))], None, 60, true), "file:legacy:50 upto10"),
    ];
    for (row, (input, want)) in rows.into_iter().enumerate() {
        assert_eq!(short(&bench.step(input).unwrap()), want, "row {row}");
    }
    let stand = stand(&bench);
    assert_eq!(stand.phase, Phase::Complete);
    assert_eq!((stand.reach.records, stand.reach.bytes_read), (5, 60));
}

#[test]
fn a_bad_line_is_a_dead_letter_and_the_next_ones_go_on() {
    let mut bench = bench();
    let rows = [
        (Input::Begin, "read"),
        (records(vec![record(0, None)], bad(10), 20, false), "file:legacy:0 dead:SEM-0001 read>20"),
        (records(vec![record(20, None)], None, 30, true), "file:legacy:20"),
    ];
    for (row, (input, want)) in rows.into_iter().enumerate() {
        assert_eq!(short(&bench.step(input).unwrap()), want, "row {row}");
    }
    let stand = stand(&bench);
    assert_eq!((stand.reach.records, stand.reach.bad), (2, 1));
}

#[test]
fn a_bad_line_stops_a_source_that_is_told_to_and_is_read_again() {
    let mut bench = bench_of(FileSourceSettings { bad: OnBad::Stop, ..settings() });
    let rows = [
        (Input::Begin, "read"),
        (records(vec![record(0, None)], bad(10), 20, false), "file:legacy:0 <alert"),
        (timer(), ""),
        (records(vec![record(20, None)], None, 30, false), ""),
        (resume("src", None), "read>10"),
        (records(vec![record(10, None)], None, 20, true), "file:legacy:10"),
    ];
    for (row, (input, want)) in rows.into_iter().enumerate() {
        assert_eq!(short(&bench.step(input).unwrap()), want, "row {row}");
    }
}

#[test]
fn a_file_that_grows_is_waited_for_and_never_complete() {
    let mut bench = bench_of(FileSourceSettings { follow: true, ..settings() });
    let rows = [
        (Input::Begin, "read"),
        (records(vec![record(0, Some(5))], None, 10, true), "file:legacy:0 upto4 poll+1000"),
        (timer(), "read>10"),
        (records(vec![], None, 10, true), "poll+1000"),
        (timer(), "read>10"),
        (records(vec![record(10, Some(5))], None, 20, false), "file:legacy:10 read>20"),
    ];
    for (row, (input, want)) in rows.into_iter().enumerate() {
        assert_eq!(short(&bench.step(input).unwrap()), want, "row {row}");
    }
}

#[test]
fn a_refused_file_stops_the_source_until_a_command() {
    let mut bench = bench();
    bench.step(Input::Begin).unwrap();
    bench.step(records(vec![record(0, None)], None, 10, false)).unwrap();
    let text = "file `legacy` is another file than the one that was read".into();
    let step = bench.step(answer(Outcome::FileRefused { text })).unwrap();
    assert_eq!(short(&step), "<alert");
    assert_eq!(step.counts, [("file_stopped", 1)]);
    let refused = |bench: &mut Bench<FileSource>, input| bench.step(input).unwrap_err().code;
    assert_eq!(refused(&mut bench, resume("other", None)), FaultCode::UnknownTarget);
    assert_eq!(refused(&mut bench, resume("src", Some(6))), FaultCode::UnknownTarget);
    assert_eq!(short(&bench.step(resume("src", None)).unwrap()), "read>10");
    assert_eq!(short(&bench.step(resume("src", None)).unwrap()), "read>10", "asked anew");
}

#[test]
fn an_answer_that_would_lose_or_double_a_record_stops_the_source() {
    let nameless = FileRecord { key: String::new(), ..record(20, None) };
    let many = (20..24).map(|n| record(n, None)).collect();
    let rows = [
        ("a record that was taken", records(vec![record(0, None)], None, 20, false)),
        ("a cursor that goes back", records(vec![], None, 5, true)),
        ("a cursor that stays", records(vec![], None, 10, false)),
        ("two at one place", records(vec![record(20, None), record(20, None)], None, 30, false)),
        ("a record beyond the cursor", records(vec![record(30, None)], None, 30, false)),
        ("a bad line before a record", records(vec![record(20, None)], bad(15), 30, false)),
        ("too many", records(many, None, 40, false)),
        ("no key", records(vec![nameless], None, 30, false)),
    ];
    for (what, input) in rows {
        let mut bench = bench();
        bench.step(Input::Begin).unwrap();
        bench.step(records(vec![record(0, None)], None, 10, false)).unwrap();
        assert_eq!(short(&bench.step(input).unwrap()), "<alert", "{what}");
    }
}

#[test]
fn a_question_answered_twice_emits_nothing_twice() {
    let mut bench = bench();
    bench.step(Input::Begin).unwrap();
    let once = || records(vec![record(0, None)], None, 10, false);
    assert_eq!(short(&bench.step(once()).unwrap()), "file:legacy:0 read>10");
    // The engine takes in one outcome of an effect; were it to take in two, the source stops.
    assert_eq!(short(&bench.step(once()).unwrap()), "<alert");
}

#[test]
fn the_time_that_is_left_follows_the_pace_since_the_last_start() {
    let reach = Reach {
        bytes_read: 60,
        bytes_total: 100,
        begun: WallTime(1_000),
        begun_bytes: 40,
        at: WallTime(3_000),
        ..Reach::default()
    };
    assert_eq!(reach.left_ms(), Some(4_000));
    assert_eq!(Reach { bytes_read: 100, ..reach }.left_ms(), Some(0));
    assert_eq!(Reach { at: WallTime(1_000), ..reach }.left_ms(), None);
    assert_eq!(Reach { begun_bytes: 60, ..reach }.left_ms(), None);
}

#[test]
fn settings_refuse_unknown_keys_and_values_out_of_range() {
    for (name, settings) in [
        ("max_records", FileSourceSettings { max_records: 0, ..settings() }),
        ("max_records", FileSourceSettings { max_records: 10_001, ..settings() }),
        ("poll_ms", FileSourceSettings { poll_ms: 0, ..settings() }),
        ("name", FileSourceSettings { name: String::new(), ..settings() }),
        ("file", FileSourceSettings { file: String::new(), ..settings() }),
    ] {
        let text = FileSource::new(settings).unwrap_err();
        assert!(text.starts_with(&format!("`{name}` is ")), "{text}");
    }
    let error =
        serde_json::from_str::<FileSourceSettings>(r#"{"name":"a","file":"f","bda":"stop"}"#)
            .unwrap_err();
    assert!(error.to_string().contains("bda"), "{error}");
}
