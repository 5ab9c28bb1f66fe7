//! `dedupe` as tables (record, retraction or time; what went on), and against a model that keeps
//! everything.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::clockwork::Clockwork;

const WINDOW: u64 = 10;

fn settings() -> Settings {
    serde_json::from_value(json!({
        "record": "claim", "retraction": "claim.retracted", "id": ["claim_id"],
        "fact": ["signature", "ix_index"], "window_slots": WINDOW, "max_dropped": 3, "max_forget": 2,
    }))
    .unwrap()
}

fn dedupe() -> Clockwork<Dedupe> {
    Clockwork::new(Dedupe::new(settings()).unwrap())
}

/// What a table row or the model does.
#[derive(Clone, Debug)]
enum Do {
    /// A record of this id, fact and slot.
    Record(u8, u8, u64),
    /// The retraction of this id's fact, of that slot.
    Retract(u8, u8, u64),
    /// Finalized event time is at least this.
    Finalized(u64),
}
use Do::{Finalized, Record, Retract};

/// What came of it: `+fact` or `-fact` for each record that went on, or the fault.
fn run(world: &mut Clockwork<Dedupe>, what: &Do) -> Result<Vec<String>, FaultCode> {
    match what {
        Record(id, fact, slot) => {
            let value = json!({"claim_id": format!("id{id}"), "signature": format!("s{fact}"),
                "ix_index": 0, "slot": slot});
            world.record("claim", "k", &value)?;
        }
        Retract(id, fact, slot) => {
            let value = json!({"claim_id": format!("id{id}"), "fact": format!("s{fact}:0"),
                "slot": slot});
            world.record("claim.retracted", "k", &value)?;
        }
        Finalized(slot) => {
            world.finalized(*slot);
        }
    }
    let name = |out: &crate::clockwork::Out| match out.kind.as_str() {
        "claim" => format!("+{}", out.value["signature"].as_str().unwrap()),
        _ => format!("-{}", out.value["fact"].as_str().unwrap().trim_end_matches(":0")),
    };
    Ok(world.taken(&To::Next).iter().map(name).collect())
}

type Row = (Do, Result<&'static [&'static str], FaultCode>);

fn table(rows: &[Row]) -> Clockwork<Dedupe> {
    let mut world = dedupe();
    for (i, (what, want)) in rows.iter().enumerate() {
        let got = run(&mut world, what);
        let want = want.map(|went| went.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(got, want, "row {i}: {what:?}");
    }
    world
}

#[test]
fn the_first_of_an_id_goes_on_and_the_others_are_reported() {
    let mut world = table(&[
        (Record(1, 1, 5), Ok(&["+s1"])),
        (Record(1, 2, 6), Ok(&[])),
        (Record(2, 3, 6), Ok(&["+s3"])),
        (Record(1, 1, 5), Ok(&[])),
    ]);
    let told = world.taken(&To::Output("duplicates"));
    assert_eq!(told.len(), 2);
    assert_eq!((told[0].kind.as_str(), told[0].key.as_str()), ("dedupe.duplicate", "k"));
    assert_eq!(told[0].value, json!({"record_id": "r2", "id": ["id1"], "fact": "s2:0", "slot": 6}));
    assert_eq!((world.counts["dedupe.admitted"], world.counts["dedupe.duplicates"]), (2, 2));
}

#[test]
fn a_record_goes_on_unchanged_and_with_its_id() {
    let mut world = dedupe();
    let value = br#"{ "slot":1,"claim_id":"a", "signature":"s","ix_index":0, "other":[1] }"#;
    world.raw("claim", "k", Some(value.to_vec())).unwrap();
    let out = world.taken(&To::Next);
    assert_eq!((out[0].id.as_str(), out[0].value["other"][0].as_u64()), ("r1", Some(1)));
}

#[test]
fn a_retraction_promotes_the_next_dropped_one() {
    table(&[
        (Record(1, 1, 5), Ok(&["+s1"])),
        (Record(1, 2, 6), Ok(&[])),
        (Record(1, 3, 6), Ok(&[])),
        (Retract(1, 1, 5), Ok(&["-s1", "+s2"])),
        (Retract(1, 2, 6), Ok(&["-s2", "+s3"])),
        (Retract(1, 3, 6), Ok(&["-s3"])),
        (Retract(1, 3, 6), Err(FaultCode::RetractionOfUnknown)),
        (Record(1, 1, 5), Ok(&["+s1"])),
    ]);
}

#[test]
fn a_promoted_record_keeps_its_id() {
    let mut world = dedupe();
    for what in [Record(1, 1, 5), Record(1, 2, 6)] {
        run(&mut world, &what).unwrap();
    }
    world
        .record("claim.retracted", "k", &json!({"claim_id": "id1", "fact": "s1:0", "slot": 5}))
        .unwrap();
    let ids: Vec<_> = world.taken(&To::Next).into_iter().map(|out| out.id).collect();
    assert_eq!(ids, ["r3", "r2"], "the retraction, then the promoted record");
}

#[test]
fn a_retraction_of_a_dropped_fact_only_removes_it() {
    table(&[
        (Record(1, 1, 5), Ok(&["+s1"])),
        (Record(1, 2, 6), Ok(&[])),
        (Record(1, 3, 6), Ok(&[])),
        (Retract(1, 2, 6), Ok(&[])),
        (Retract(1, 2, 6), Err(FaultCode::RetractionOfUnknown)),
        (Retract(1, 1, 5), Ok(&["-s1", "+s3"])),
    ]);
}

#[test]
fn what_is_final_is_not_retracted() {
    table(&[
        (Record(1, 1, 5), Ok(&["+s1"])),
        (Record(1, 2, 7), Ok(&[])),
        (Record(2, 4, 9), Ok(&["+s4"])),
        (Record(2, 5, 3), Ok(&[])),
        (Finalized(6), Ok(&[])),
        (Retract(1, 1, 5), Err(FaultCode::RetractionOfFinal)),
        // Dropped, not final, in favour of a final one: nothing is left to undo.
        (Retract(1, 2, 7), Ok(&[])),
        // Dropped and final, in favour of one that is not.
        (Retract(2, 5, 3), Err(FaultCode::RetractionOfFinal)),
        (Retract(2, 4, 9), Ok(&["-s4", "+s5"])),
        (Retract(2, 5, 3), Err(FaultCode::RetractionOfFinal)),
        (Retract(3, 9, 9), Err(FaultCode::RetractionOfUnknown)),
        (Finalized(30), Ok(&[])),
        (Retract(1, 1, 5), Err(FaultCode::RetractionOfFinal)),
    ]);
}

#[test]
fn what_is_older_than_the_window_is_refused_and_never_new() {
    table(&[
        // Without event time nothing is too old.
        (Record(1, 1, 0), Ok(&["+s1"])),
        (Finalized(10), Ok(&[])),
        (Record(1, 1, 0), Ok(&[])),
        (Finalized(11), Ok(&[])),
        (Record(1, 1, 0), Err(FaultCode::TooOld)),
        (Record(2, 2, 1), Ok(&["+s2"])),
        (Record(3, 3, 0), Err(FaultCode::TooOld)),
    ]);
}

#[test]
fn what_was_dropped_once_is_not_new_when_it_comes_again() {
    table(&[
        (Record(1, 1, 5), Ok(&["+s1"])),
        (Record(1, 2, 12), Ok(&[])),
        // The first fact is behind the window, the second one is not.
        (Finalized(16), Ok(&[])),
        (Record(1, 2, 12), Ok(&[])),
        (Record(1, 3, 14), Ok(&[])),
        (Finalized(23), Ok(&[])),
        (Record(1, 2, 12), Err(FaultCode::TooOld)),
        (Record(1, 3, 14), Ok(&[])),
        (Finalized(25), Ok(&[])),
        (Record(1, 3, 14), Err(FaultCode::TooOld)),
        (Record(1, 4, 15), Ok(&["+s4"])),
    ]);
}

#[test]
fn the_window_does_not_open_again_when_event_time_goes_back() {
    let mut world = table(&[(Record(1, 1, 5), Ok(&["+s1"])), (Finalized(20), Ok(&[]))]);
    world.bench.event_time.finalized = Some(Slot(3));
    assert_eq!(run(&mut world, &Record(1, 1, 5)), Err(FaultCode::TooOld));
}

#[test]
fn state_is_forgotten_a_few_ids_a_step() {
    let mut world = dedupe();
    for id in 0..5 {
        run(&mut world, &Record(id, id, 1)).unwrap();
        run(&mut world, &Record(id, id + 100, 2)).unwrap();
    }
    let full = world.bench.state.len();
    assert_eq!(full, 5 * 3 + 3, "entry, watch and dropped record of each, two pages and one meta");
    world.finalized(1);
    assert_eq!(world.bench.state.len(), 5 + 3, "what was dropped is gone at finality");
    world.bench.event_time.finalized = Some(Slot(13));
    let mut left = world.bench.state.len();
    while world.fire_one() {
        let now = world.bench.state.len();
        assert!(left - now <= 2 + 2, "two ids a step, and the pages that they empty");
        left = now;
    }
    assert_eq!((left, world.counts["dedupe.expired"]), (1, 5));
}

#[test]
fn too_many_duplicates_are_refused_and_not_lost_silently() {
    table(&[
        (Record(1, 1, 5), Ok(&["+s1"])),
        (Record(1, 2, 5), Ok(&[])),
        (Record(1, 3, 5), Ok(&[])),
        (Record(1, 4, 5), Ok(&[])),
        (Record(1, 4, 5), Ok(&[])),
        (Record(1, 5, 5), Err(FaultCode::DuplicatesFull)),
        (Finalized(5), Ok(&[])),
        (Record(1, 5, 5), Ok(&[])),
    ]);
}

/// The letter is replayed when the id's other facts are behind the window, and its own is not.
#[test]
fn a_duplicate_that_found_no_room_is_not_new_when_it_is_replayed() {
    table(&[
        (Record(1, 1, 5), Ok(&["+s1"])),
        (Record(1, 2, 5), Ok(&[])),
        (Record(1, 3, 5), Ok(&[])),
        (Record(1, 4, 5), Ok(&[])),
        (Record(1, 5, 8), Err(FaultCode::DuplicatesFull)),
        (Finalized(6 + WINDOW), Ok(&[])),
        (Record(1, 5, 8), Ok(&[])),
    ]);
}

#[test]
fn bad_records_are_refused_with_a_code() {
    let mut world = dedupe();
    for (value, code) in [
        (None, FaultCode::UnexpectedTombstone),
        (Some("{"), FaultCode::Undecodable),
        (Some("7"), FaultCode::MissingField),
        (Some(r#"{"claim_id":"a","signature":"s","ix_index":0}"#), FaultCode::MissingField),
        (Some(r#"{"claim_id":{},"signature":"s","ix_index":0,"slot":1}"#), FaultCode::WrongType),
        (Some(r#"{"claim_id":"a","signature":"s","ix_index":0,"slot":-1}"#), FaultCode::WrongType),
    ] {
        for kind in ["claim", "claim.retracted"] {
            let got = world.raw(kind, "k", value.map(|v| v.as_bytes().to_vec())).unwrap_err();
            let retraction = kind == "claim.retracted" && got == FaultCode::MissingField;
            assert!(got == code || retraction, "{kind} {value:?}: {got:?}");
        }
    }
}

#[test]
fn settings_are_checked() {
    let with = |name: &str, value: serde_json::Value| {
        let mut all = json!({"record": "a", "id": ["x"], "window_slots": 1});
        all[name] = value;
        serde_json::from_value::<Settings>(all).map_err(|e| e.to_string()).and_then(Dedupe::new)
    };
    assert!(with("fact", json!(["y"])).is_ok());
    for (name, value, part) in [
        ("id", json!([]), "`id`"),
        ("id", json!(["a..b"]), "field path"),
        ("retraction", json!("r"), "`fact`"),
        ("max_forget", json!(0), "`max_forget`"),
        ("windov", json!(1), "windov"),
    ] {
        let error = with(name, value).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

/// The model: every fact that stands, in the order of arrival. Its only memory limit is the rule
/// of the window.
#[derive(Default)]
struct Model {
    ids: BTreeMap<u8, Vec<(u8, u64)>>,
    /// The newest slot of each id's facts, since it was admitted.
    until: BTreeMap<u8, u64>,
    finalized: Option<u64>,
}

impl Model {
    fn is_final(&self, slot: u64) -> bool {
        self.finalized.is_some_and(|finalized| slot <= finalized)
    }

    fn too_old(&self, slot: u64) -> bool {
        self.finalized.is_some_and(|finalized| slot + WINDOW < finalized)
    }

    fn run(&mut self, what: &Do) -> Result<Vec<String>, FaultCode> {
        match *what {
            Finalized(slot) => {
                self.finalized = self.finalized.max(Some(slot));
                let ids = std::mem::take(&mut self.ids);
                self.ids =
                    ids.into_iter().filter(|(id, _)| !self.too_old(self.until[id])).collect();
                Ok(vec![])
            }
            Record(_, _, slot) if self.too_old(slot) => Err(FaultCode::TooOld),
            Record(id, fact, slot) => {
                let known = self.ids.contains_key(&id);
                let until = if known { self.until[&id].max(slot) } else { slot };
                let facts = self.ids.entry(id).or_default();
                self.until.insert(id, until);
                if facts.iter().any(|(known, _)| *known == fact) {
                    return Ok(vec![]);
                }
                let first = facts.first().copied();
                if first.is_some_and(|first| self.finalized.is_some_and(|f| first.1 <= f)) {
                    return Ok(vec![]);
                }
                if facts.len() > 3 {
                    return Err(FaultCode::DuplicatesFull);
                }
                facts.push((fact, slot));
                Ok(if first.is_none() { vec![format!("+s{fact}")] } else { vec![] })
            }
            Retract(id, fact, slot) => self.retract(id, fact, slot),
        }
    }

    fn retract(&mut self, id: u8, fact: u8, slot: u64) -> Result<Vec<String>, FaultCode> {
        let Some(facts) = self.ids.get(&id).cloned() else {
            let old = self.too_old(slot);
            return Err(if old {
                FaultCode::RetractionOfFinal
            } else {
                FaultCode::RetractionOfUnknown
            });
        };
        let settled = self.is_final(facts[0].1);
        match facts.iter().position(|(known, _)| *known == fact) {
            Some(at) if self.is_final(facts[at].1) && (at == 0 || !settled) => {
                Err(FaultCode::RetractionOfFinal)
            }
            _ if settled => {
                if self.is_final(slot) {
                    Err(FaultCode::RetractionOfFinal)
                } else {
                    Ok(vec![])
                }
            }
            None => Err(FaultCode::RetractionOfUnknown),
            Some(at) => {
                let mut rest = facts;
                rest.remove(at);
                let next = rest.first().map(|(fact, _)| format!("+s{fact}"));
                if rest.is_empty() {
                    self.ids.remove(&id);
                } else {
                    self.ids.insert(id, rest);
                }
                let went = (at == 0).then(|| std::iter::once(format!("-s{fact}")).chain(next));
                Ok(went.into_iter().flatten().collect())
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Do>> {
    let id_fact = || (0..3_u8, 0..6_u8);
    prop::collection::vec(
        prop_oneof![
            6 => (id_fact(), 0..40_u64).prop_map(|((id, fact), slot)| Record(id, fact, slot)),
            4 => (id_fact(), 0..40_u64).prop_map(|((id, fact), slot)| Retract(id, fact, slot)),
            1 => (0..45_u64).prop_map(Finalized),
        ],
        1..80,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_interleaving_equals_the_model(
        steps in steps(),
        fire in prop::collection::vec(0..3_usize, 80),
    ) {
        let (mut world, mut model) = (dedupe(), Model::default());
        for (i, what) in steps.iter().enumerate() {
            let got = match what {
                // How far forgetting has come must make no difference.
                Finalized(slot) => {
                    world.event_time(*slot);
                    Ok(vec![])
                }
                _ => run(&mut world, what),
            };
            prop_assert_eq!(got, model.run(what), "step {}: {:?}", i, what);
            for _ in 0..fire[i] {
                world.fire_one();
            }
        }
        run(&mut world, &Finalized(1000)).unwrap();
        prop_assert!(world.bench.state.len() <= 1, "only the horizon is left");
    }

    /// UNDO: what stands downstream is what would stand had the retracted facts never been seen.
    #[test]
    fn a_retraction_leaves_downstream_as_if_the_fact_had_never_been_seen(
        records in prop::collection::vec((0..3_u8, 0..8_u64), 1..9),
        gone in prop::collection::btree_set(0..9_usize, 0..6),
    ) {
        // Each record is a fact of its own, so few enough that none exceeds `max_dropped`.
        let records: Vec<_> = records.iter().scan(BTreeMap::new(), |seen, (id, slot)| {
            let count = seen.entry(*id).or_insert(0);
            *count += 1;
            Some((*count <= 4).then_some((*id, *slot)))
        }).flatten().zip(0_u8..).collect();
        let standing = |world: &mut Clockwork<Dedupe>, steps: &[Do]| {
            let mut standing = BTreeSet::new();
            for what in steps {
                for went in run(world, what).unwrap() {
                    match went.split_at(1) {
                        ("+", fact) => assert!(standing.insert(fact.to_owned())),
                        (_, fact) => assert!(standing.remove(fact)),
                    }
                }
            }
            standing
        };
        let mut all: Vec<Do> = records.iter().map(|((i, s), f)| Record(*i, *f, *s)).collect();
        let kept: Vec<Do> = records.iter().enumerate().filter(|(at, _)| !gone.contains(at))
            .map(|(_, ((i, s), f))| Record(*i, *f, *s)).collect();
        all.extend(gone.iter().filter_map(|at| records.get(*at))
            .map(|((i, s), f)| Retract(*i, *f, *s)));
        prop_assert_eq!(standing(&mut dedupe(), &all), standing(&mut dedupe(), &kept));
    }
}
