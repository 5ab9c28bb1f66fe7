//! ONCE: every accepted request reaches exactly one terminal state, and has exactly one row that
//! says so.
//!
//! Judged: what the first stage says to each record (the model of `admission`), each id of a
//! committed record, the life of each claim, the end of each order, the rows.

use std::collections::{BTreeMap, BTreeSet};

use semel_schemas::{
    claim::{CLAIM_RETRACTED, CLAIM_STATE},
    header,
    progress::PROGRESS,
    record::Record,
    topic::TopicName,
    verdict::{DUPLICATE, VERDICT},
};

use super::{
    Check, Ledger, News, Scene,
    admission::{Admission, Said},
    is_unfit, kind, text, value,
};
use crate::{
    sim::{
        options::{Feed, Options},
        samples::Place,
        topic,
    },
    spec::plan::Plan,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Once {
    feed: Feed,
    admission: Admission,
    input: TopicName,
    output: Vec<TopicName>,
    stages: BTreeSet<String>,
    /// The first stage.
    first: String,
    expected: BTreeMap<Said, u32>,
    said: BTreeMap<Said, u32>,
    ids: BTreeSet<(TopicName, String)>,
    states: Option<TopicName>,
    /// Claim → its states since the last retraction.
    claims: BTreeMap<String, Vec<String>>,
    /// Order (by record id) → its ends.
    ends: BTreeMap<String, Vec<&'static str>>,
    ordered: Option<TopicName>,
    arranged: Option<TopicName>,
}

impl Once {
    pub(super) fn new(options: &Options, plan: &Plan, place: &Place) -> Self {
        let first = plan.stages.iter().find(|(stage, _)| stage.input.name == place.topic);
        let output = first.map(|(s, _)| s.next.iter().map(|t| t.name.clone()).collect());
        Self {
            feed: options.feed,
            admission: Admission::new(place, options.window_slots),
            input: place.topic.clone(),
            output: output.unwrap_or_default(),
            stages: plan.stages.iter().map(|(stage, _)| stage.name.clone()).collect(),
            first: first.map(|(stage, _)| stage.name.clone()).unwrap_or_default(),
            expected: BTreeMap::new(),
            said: BTreeMap::new(),
            ids: BTreeSet::new(),
            states: topic(plan, "claim-states"),
            claims: BTreeMap::new(),
            ends: BTreeMap::new(),
            ordered: topic(plan, "ordered"),
            arranged: topic(plan, "admitted"),
        }
    }

    /// What a record says of another one, if it does.
    fn said(&self, record: &Record) -> Option<Said> {
        let origin = record.headers.get_str(header::ORIGIN);
        match kind(record) {
            PROGRESS => None,
            DUPLICATE => Some(Said::Duplicate(text(&value(record), "record_id").to_owned())),
            _ if record.headers.get(header::FAULT).is_some() => {
                let stage = record.headers.get_str(header::STAGE);
                let ours = stage == Some(self.first.as_str());
                ours.then(|| Said::Refused(origin.unwrap_or_default().to_owned()))
            }
            _ if record.topic == self.input => {
                origin.map(|origin| Said::Forwarded(origin.to_owned()))
            }
            // What a later stage sends back bears a derived id that no input has.
            _ if self.output.contains(&record.topic) => {
                let back = kind(record) == semel_schemas::claim::SETTLEMENT;
                (!back).then(|| Said::On(record.id()))
            }
            _ => None,
        }
    }

    fn count(&mut self, record: &Record) -> Result<(), String> {
        if let Some(said) = self.said(record) {
            let times = self.said.entry(said.clone()).or_default();
            *times += 1;
            let expected = self.expected.get(&said).copied().unwrap_or(0);
            if *times > expected {
                let what = if expected == 0 { "and never should be" } else { "once too often" };
                return Err(format!("{said:?} is said {what}, at {}", record.origin()));
            }
        }
        self.unique(record)
    }

    /// An id names one record of a topic; the letters of sinks may come twice.
    fn unique(&mut self, record: &Record) -> Result<(), String> {
        let Some(id) = record.headers.get_str(header::ID) else { return Ok(()) };
        let stage = record.headers.get_str(header::STAGE);
        if stage.is_some_and(|stage| !self.stages.contains(stage)) {
            return Ok(());
        }
        if self.ids.insert((record.topic.clone(), id.to_owned())) {
            return Ok(());
        }
        Err(format!("topic {} holds two records with id {id}", record.topic))
    }

    fn state(&mut self, record: &Record) -> Result<(), String> {
        let value = value(record);
        let id = text(&value, "claim_id").to_owned();
        if kind(record) == CLAIM_RETRACTED {
            return match self.claims.remove(&id) {
                Some(states) if states == ["pending"] => Ok(()),
                states => Err(format!("claim {id} is retracted in state {states:?}")),
            };
        }
        let states = self.claims.entry(id.clone()).or_default();
        let next = ["pending", "included", "settled"].get(states.len()).copied();
        let status = text(&value, "status");
        if kind(record) != CLAIM_STATE || next != Some(status) {
            return Err(format!("claim {id} becomes {status} after {states:?}"));
        }
        states.push(status.to_owned());
        Ok(())
    }

    /// A stage behind the first one; what a sink refuses has its end already.
    fn later(&self, stage: &str) -> bool {
        stage != self.first && self.stages.contains(stage)
    }

    fn order(&mut self, record: &Record) -> Result<(), String> {
        let (id, end) = if Some(&record.topic) == self.ordered.as_ref() {
            (record.id(), "ordered")
        } else if kind(record) == VERDICT {
            (text(&value(record), "record_id").to_owned(), "refused")
        } else if record.headers.get_str(header::STAGE).is_some_and(|s| self.later(s)) {
            (record.headers.get_str(header::CAUSE).unwrap_or_default().to_owned(), "dead letter")
        } else {
            return Ok(());
        };
        let ends = self.ends.entry(id.clone()).or_default();
        ends.push(end);
        if ends.len() > 1 { Err(format!("order {id} ends as {ends:?}")) } else { Ok(()) }
    }

    fn missing(&self) -> Option<String> {
        let lost = self.expected.iter().find(|(said, times)| self.said.get(said) != Some(times));
        lost.map(|(said, _)| format!("{said:?} is not said"))
    }
}

impl Check for Once {
    fn id(&self) -> &'static str {
        "ONCE"
    }

    fn step(&mut self, _: &mut Scene<'_>, _: &Ledger, news: &News) -> Result<(), String> {
        for record in news.records.iter().filter(|record| record.topic == self.input) {
            for said in self.admission.take(record) {
                *self.expected.entry(said).or_default() += 1;
            }
        }
        for record in &news.records {
            self.count(record)?;
            if Some(&record.topic) == self.states.as_ref() {
                self.state(record)?;
            }
            if self.feed == Feed::Orders {
                self.order(record)?;
            }
        }
        Ok(())
    }

    fn unfinished(&mut self, _: &mut Scene<'_>, ledger: &Ledger) -> Option<String> {
        if let Some(missing) = self.missing() {
            return Some(missing);
        }
        if self.feed == Feed::Orders {
            let admitted = ledger.of(self.arranged.as_ref()).iter();
            let open = admitted.map(Record::id).find(|id| !self.ends.contains_key(id));
            return open.map(|id| format!("order {id} has no end"));
        }
        let all = self.admission.all();
        let open = all.keys().find(|id| self.claims.get(**id).is_none_or(|s| s.len() < 3));
        open.map(|id| format!("claim {id} stands at {:?}", self.claims.get(*id)))
    }

    fn end(&mut self, scene: &mut Scene<'_>, ledger: &Ledger) -> Result<(), String> {
        if let Some(missing) = self.missing() {
            return Err(missing);
        }
        if self.feed == Feed::Orders {
            let rows =
                scene.database.rows("orders").len() + scene.database.rows("refused_orders").len();
            let letters = self.ends.values().filter(|ends| ends.contains(&"dead letter")).count();
            let ordered = ledger.of(self.ordered.as_ref()).iter();
            let unfit = ordered.filter(|record| is_unfit(record)).count();
            let admitted = ledger.of(self.arranged.as_ref()).len();
            if rows + letters + unfit != admitted {
                return Err(format!(
                    "{admitted} orders were admitted, and {rows} rows and {letters} letters tell \
                     their ends; {unfit} fit no row"
                ));
            }
            return Ok(());
        }
        let rows = scene.database.rows("claims");
        for id in self.claims.keys() {
            let status = rows.get(id).and_then(|row| row.get("status").cloned().flatten());
            if status.as_deref() != Some("settled") {
                return Err(format!(
                    "the row of claim {id} says {status:?}, not that it is settled"
                ));
            }
        }
        Ok(())
    }
}
