//! What the first stage should say to each record of its input: a model over the input alone, as the
//! design has it, in the order of each partition.
//!
//! An id is admitted by the first of its facts that stands. A retraction of that fact goes on, and
//! behind it the next one that was dropped; a fact that is final is not retracted, and nothing is
//! kept behind one that is final. What is older than the window is refused, and so is a fact that
//! would be kept behind [`KEPT_MAX`] others. An id is known until all of its facts, the dropped ones
//! among them, are older than that.

use std::collections::BTreeMap;

use semel_schemas::{
    claim::{CLAIM, CLAIM_RETRACTED},
    header,
    partition::partition_for_key,
    progress::PROGRESS,
    record::Record,
    topic::Partition,
};

use super::{kind, number, text, value};
use crate::sim::samples::{POISON, Place, ROGUE};

/// Facts that are kept behind the one that stands: what `max_dropped` of `dedupe` is where the spec
/// does not say it. As many may stand in one block, so that none of them is final yet.
const KEPT_MAX: usize = 16;

/// Something that the stage is to say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Said {
    /// The record with this id goes on.
    On(String),
    /// The record with this id is a duplicate.
    Duplicate(String),
    /// The record from this place is refused.
    Refused(String),
    /// The record from this place is sent to its right partition.
    Forwarded(String),
}

#[derive(Clone, Debug)]
struct Fact {
    name: String,
    slot: u64,
    record: String,
}

#[derive(Debug, Default)]
struct Task {
    finalized: Option<u64>,
    /// Id → the fact that admitted it, then those that were dropped in its favour.
    ids: BTreeMap<String, Vec<Fact>>,
    /// Id → the newest slot of its facts, since it was admitted.
    until: BTreeMap<String, u64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Admission {
    partitions: u32,
    window: u64,
    tasks: BTreeMap<Partition, Task>,
}

impl Admission {
    pub(super) fn new(place: &Place, window: u64) -> Self {
        Self { partitions: place.partitions, window, tasks: BTreeMap::new() }
    }

    /// The fact that stands for an id, if one does.
    pub(super) fn standing(&self, id: &str) -> Option<&str> {
        let facts = self.tasks.values().find_map(|task| task.ids.get(id))?;
        facts.first().map(|fact| fact.name.as_str())
    }

    /// All ids with the fact that stands for each, but those that a later stage refuses.
    pub(super) fn all(&self) -> BTreeMap<&str, &str> {
        let ids = self.tasks.values().flat_map(|task| &task.ids);
        ids.filter(|(id, _)| !id.starts_with(ROGUE))
            .filter_map(|(id, facts)| Some((id.as_str(), facts.first()?.name.as_str())))
            .collect()
    }

    /// How far all partitions are final.
    pub(super) fn finalized(&self) -> Option<u64> {
        let tasks = (0..self.partitions).map(|p| self.tasks.get(&Partition(p))?.finalized);
        tasks.min().flatten()
    }

    /// What the stage is to say to a record of its input.
    pub(super) fn take(&mut self, record: &Record) -> Vec<Said> {
        let task = self.tasks.entry(record.partition).or_default();
        let refused = vec![Said::Refused(record.origin())];
        let bytes = record.value.as_deref().unwrap_or_default();
        let value = value(record);
        if kind(record) == PROGRESS {
            task.finalized = task.finalized.max(Some(number(&value, "finalized")));
            return Vec::new();
        }
        let key = record.key.as_deref().unwrap_or_default();
        let readable = record.headers.get(header::VERSION).is_none() && !key.is_empty();
        if readable && partition_for_key(key, self.partitions) != record.partition {
            return vec![Said::Forwarded(record.origin())];
        }
        if String::from_utf8_lossy(bytes).contains(POISON) {
            return refused;
        }
        match kind(record) {
            CLAIM | "" => {
                let fact = format!("{}:{}", text(&value, "signature"), number(&value, "ix_index"));
                let slot = number(&value, "slot");
                let fact = Fact { name: fact, slot, record: record.id() };
                task.claim(text(&value, "claim_id"), fact, record, self.window)
            }
            CLAIM_RETRACTED => {
                let (id, fact) = (text(&value, "claim_id"), text(&value, "fact"));
                task.retract(id, fact, record, self.window)
            }
            "order" => {
                let fact = Fact { name: record.id(), slot: u64::MAX, record: record.id() };
                task.claim(text(&value, "order_id"), fact, record, self.window)
            }
            _ => refused,
        }
    }
}

impl Task {
    fn horizon(&self, window: u64) -> u64 {
        self.finalized.unwrap_or(0).saturating_sub(window)
    }

    fn is_final(&self, slot: u64) -> bool {
        self.finalized.is_some_and(|finalized| slot <= finalized)
    }

    /// Ids behind the window are forgotten.
    fn forget(&mut self, id: &str, window: u64) {
        let horizon = self.horizon(window);
        if self.until.get(id).is_none_or(|until| *until < horizon) {
            self.ids.remove(id);
        }
    }

    fn claim(&mut self, id: &str, fact: Fact, record: &Record, window: u64) -> Vec<Said> {
        if fact.slot < self.horizon(window) {
            return vec![Said::Refused(record.origin())];
        }
        self.forget(id, window);
        let (on, duplicate) = (Said::On(record.id()), Said::Duplicate(record.id()));
        let Some(facts) = self.ids.get(id) else {
            self.until.insert(id.to_owned(), fact.slot);
            self.ids.insert(id.to_owned(), vec![fact]);
            return vec![on];
        };
        // Nothing takes the place of a fact that is final.
        let settled = facts.first().is_some_and(|first| self.is_final(first.slot));
        // Nothing retracts an order, so nothing is kept for it.
        let kept = kind(record) != "order" && !settled;
        if kept && facts.iter().all(|known| known.name != fact.name) {
            if facts.len() > KEPT_MAX {
                self.seen(id, fact.slot);
                return vec![Said::Refused(record.origin())];
            }
            self.seen(id, fact.slot);
            self.ids.entry(id.to_owned()).or_default().push(fact);
        } else {
            self.seen(id, fact.slot);
        }
        vec![duplicate]
    }

    fn seen(&mut self, id: &str, slot: u64) {
        let until = self.until.entry(id.to_owned()).or_default();
        *until = slot.max(*until);
    }

    fn retract(&mut self, id: &str, fact: &str, record: &Record, window: u64) -> Vec<Said> {
        let refused = vec![Said::Refused(record.origin())];
        self.forget(id, window);
        let Some(facts) = self.ids.get(id) else { return refused };
        let first_is_final = facts.first().is_some_and(|first| self.is_final(first.slot));
        let Some(at) = facts.iter().position(|known| known.name == fact) else {
            // Its duplicates are kept no more, so one that is not final may go in silence.
            let slot = number(&value(record), "slot");
            return if first_is_final && !self.is_final(slot) { Vec::new() } else { refused };
        };
        if at == 0 && first_is_final {
            return refused;
        }
        if at > 0 && first_is_final {
            let gone = self.is_final(facts.get(at).map_or(0, |fact| fact.slot));
            return if gone { refused } else { Vec::new() };
        }
        if at > 0 && self.is_final(facts.get(at).map_or(0, |fact| fact.slot)) {
            return refused;
        }
        let Some(facts) = self.ids.get_mut(id) else { return refused };
        facts.remove(at);
        if at > 0 {
            return Vec::new();
        }
        let mut said = vec![Said::On(record.id())];
        match facts.first() {
            Some(next) => said.push(Said::On(next.record.clone())),
            None => drop(self.ids.remove(id)),
        }
        said
    }
}
