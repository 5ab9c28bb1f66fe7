//! The pipeline that needs no chain (`deploy/specs/verify.toml`): events go through dedupe and nonce
//! order to a topic and to rows, each once, each track in its order.
//!
//! `script` what is fed · here what must be there at the end. Everything is compared: the output
//! topic, the duplicates that were told, the dead letters, the state as its changelog says, the
//! positions in state and group, and the rows.

mod script;

use std::collections::{BTreeMap, HashMap, HashSet};

use semel_operators::{field::digest, nonce_order};
use semel_schemas::{
    header,
    record::Record,
    topic::{NextOffset, Partition},
    verdict::Duplicate,
};
use serde::Deserialize;

pub(super) use self::script::POISON;
use self::script::{Events, Given};
use self::script::{account, id, place};
use super::{
    Pipeline, VerifyError,
    compare::{Counts, Order, Place, Repeats, Tally, numbers},
    report::Line,
    world::{Gap, World},
};
use crate::{engine::task::Meta, log::Log, spec::plan::Plan};

/// The pipeline's spec, as it is in the repository.
const SPEC: &str = include_str!("../../../../deploy/specs/verify.toml");
/// The only key of the engine's own store.
const META: &[u8] = b"_task\0";
const IDS: &[u8] = b"dedupe_ids\0";
const TRACKS: &[u8] = b"nonce_tracks\0";
const EARLY: &[u8] = b"nonce_early\0";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct EventsPipeline;

/// An event as it comes out.
#[derive(Deserialize)]
struct Out {
    id: String,
    nonce: u32,
}

impl Pipeline for EventsPipeline {
    type Script = Events;

    fn name(&self) -> &'static str {
        "events"
    }

    fn spec(&self) -> &'static str {
        SPEC
    }

    fn input(&self) -> &'static str {
        "events"
    }

    fn script(&self, seed: u64, records: u64) -> Events {
        Events::new(seed, records)
    }

    fn prepare(&mut self, world: &World) -> Result<(), VerifyError> {
        let schema = &world.schema;
        world.rows(&format!(
            "CREATE TABLE \"{schema}\".events (semel_id VARCHAR UNIQUE, account VARCHAR, \
             track BIGINT, nonce BIGINT)"
        ))?;
        Ok(())
    }

    fn missing(&self, world: &World, script: &Events) -> Result<u64, VerifyError> {
        let expected: u64 = script.given.tracks.iter().map(|n| u64::from(*n)).sum();
        let sql = format!("SELECT CAST(count(*) AS TEXT) FROM \"{}\".events", world.schema);
        Ok(expected.saturating_sub(world.number(&sql)?))
    }

    fn compare(
        &self,
        world: &World,
        plan: &Plan,
        script: &Events,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Line>, VerifyError> {
        let given = &script.given;
        let mut lines = vec![ordered(world, given, notes)?];
        lines.push(duplicates(world, given)?);
        lines.push(Line::new("dead letters", dead_letters(world, given.poison)?));
        lines.extend(state(world, plan, given)?);
        lines.push(table(world, given)?);
        Ok(lines)
    }
}

/// The topic of what goes on: each event once, each track in its order.
fn ordered(world: &World, given: &Given, notes: &mut Vec<String>) -> Result<Line, VerifyError> {
    let mut tally = Tally::new(&given.tracks, Order::Growing);
    let mut gap = Gap::default();
    world.read(&world.topic("ordered")?, |record| {
        gap.note(record.partition, record.timestamp_ms);
        tally.find(event_of(record));
    })?;
    let lost = tally.lost(3);
    if !lost.is_empty() {
        let names: Vec<String> = lost.iter().map(|place| id(*place)).collect();
        notes.push(format!("events that are lost begin with {}", names.join(", ")));
    }
    let line = Line::new("events → topic ordered", tally.counts());
    Ok(line.given(given.records).gap(gap.worst_ms()))
}

fn event_of(record: &Record) -> Option<Place> {
    let out: Out = serde_json::from_slice(record.value.as_deref()?).ok()?;
    let place = place(&out.id)?;
    let own = record.key.as_deref() == Some(account(place.lane).as_bytes());
    (own && out.nonce == place.number).then_some(place)
}

fn duplicates(world: &World, given: &Given) -> Result<Line, VerifyError> {
    let mut repeats = Repeats::new(&given.again);
    world.read(&world.topic("duplicates")?, |record| {
        let told = record.value.as_deref().unwrap_or_default();
        let told: Option<Duplicate> = serde_json::from_slice(told).ok();
        repeats.find(told.and_then(|told| place(told.id.first()?)));
    })?;
    Ok(Line::new("duplicates told", repeats.counts()))
}

/// Every poison record once among the dead letters, and nothing else.
pub(super) fn dead_letters(world: &World, poison: u32) -> Result<Counts, VerifyError> {
    let mut tally = Tally::new(&[poison], Order::Any);
    world.read(&world.topic("dead-letter")?, |record| {
        let number = record.headers.get_str(POISON).and_then(|text| text.parse().ok());
        let refused = record.headers.get(header::FAULT).is_some();
        tally.find(number.filter(|_| refused).map(|number| Place { lane: 0, number }));
    })?;
    Ok(tally.counts())
}

/// The state of a stage, as its changelog says: the last value of each key.
#[derive(Default)]
struct Compacted {
    ids: HashSet<Vec<u8>>,
    tracks: HashMap<Vec<u8>, Vec<u8>>,
    early: HashSet<Vec<u8>>,
    next: BTreeMap<Partition, NextOffset>,
}

impl Compacted {
    fn note(&mut self, record: &Record) {
        let (Some(key), value) = (record.key.as_deref(), record.value.as_ref()) else { return };
        let keep = |set: &mut HashSet<Vec<u8>>, key: &[u8]| {
            let _known = if value.is_some() { set.insert(key.to_vec()) } else { set.remove(key) };
        };
        if let Some(key) = key.strip_prefix(IDS) {
            keep(&mut self.ids, key);
        } else if let Some(key) = key.strip_prefix(EARLY) {
            keep(&mut self.early, key);
        } else if let Some(key) = key.strip_prefix(TRACKS) {
            match value {
                Some(value) => self.tracks.insert(key.to_vec(), value.clone()),
                None => self.tracks.remove(key),
            };
        } else if key == META
            && let Some(Ok(meta)) = value.map(|value| serde_json::from_slice::<Meta>(value))
        {
            self.next.insert(record.partition, meta.next);
        }
    }

    /// The ids of what was given are remembered, and no others.
    fn ids(&mut self, given: &Given) -> Counts {
        let found = self.ids.len() as u64;
        let mut expected = 0;
        let mut lost = 0;
        for (lane, length) in (0_u32..).zip(&given.tracks) {
            for number in 0..*length {
                expected += 1;
                let key = digest(&[id(Place { lane, number })]);
                lost += u64::from(!self.ids.remove(key.as_slice()));
            }
        }
        let foreign = self.ids.len() as u64;
        Counts { expected, found, lost, foreign, ..Counts::default() }
    }

    /// Each track stands behind its last nonce.
    fn tracks(&mut self, given: &Given) -> Counts {
        let mut counts = Counts::default();
        for (lane, length) in (0_u32..).zip(&given.tracks).filter(|(_, length)| **length > 0) {
            let name = digest(&[account(lane), (lane % script::TRACKS).to_string()]);
            let value = self.tracks.remove(name.as_slice());
            let next = value.and_then(|value| nonce_order::next_nonce(&value));
            let next = next.and_then(|next| u32::try_from(next).ok()).unwrap_or_default();
            counts.expected += u64::from(*length);
            counts.found += u64::from(next);
            counts.lost += u64::from(length.saturating_sub(next));
            counts.foreign += u64::from(next.saturating_sub(*length));
        }
        counts.foreign += self.tracks.len() as u64;
        counts
    }
}

fn state(world: &World, plan: &Plan, given: &Given) -> Result<Vec<Line>, VerifyError> {
    let mut state = Compacted::default();
    world.read(&world.topic("order.state")?, |record| state.note(record))?;
    let mut lines = vec![
        Line::new("state: ids remembered", state.ids(given)),
        Line::new("state: nonces passed", state.tracks(given)),
        Line::new("state: events that wait", numbers(0, state.early.len() as u64)),
    ];
    for (stage, _) in &plan.stages {
        let committed = world.answer(|| world.log.committed(&stage.group, &stage.input.name))?;
        let same = committed.iter().filter(|(at, next)| state.next.get(at) == Some(next)).count();
        let check = format!("state: positions as in group {}", stage.name);
        lines.push(Line::new(check, numbers(state.next.len() as u64, same as u64)));
    }
    Ok(lines)
}

fn table(world: &World, given: &Given) -> Result<Line, VerifyError> {
    let mut tally = Tally::new(&given.tracks, Order::Any);
    world.each_row("events", &["account", "track", "nonce"], |row| {
        let [Some(id), Some(of), Some(track), Some(nonce)] = row else {
            tally.find(None);
            return;
        };
        let right = place(id).filter(|place| {
            *of == account(place.lane)
                && *track == (place.lane % script::TRACKS).to_string()
                && *nonce == place.number.to_string()
        });
        tally.find(right);
    })?;
    Ok(Line::new("table events", tally.counts()))
}
