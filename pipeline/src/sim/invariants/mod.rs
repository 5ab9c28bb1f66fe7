//! What must be true, whatever happens: one file for each invariant of the design, each a predicate
//! over what was given and what is there.
//!
//! Lives here: the order of the checks, and the [`Ledger`] that they read: every record as the log
//! shows it to a reader of committed records, in the order in which it was seen. May not live here:
//! the code under test. A checker computes what should be from the inputs and from the chain, the
//! tables and the topics, and asks nothing of the engine, the operators or the sinks.

mod admission;
mod commit_first;
mod intent;
mod once;
mod order;
mod refuse;
mod resume;
mod root;
mod same;
mod undo;

use std::{collections::BTreeMap, time::Duration};

use semel_connectors::sinks::memory::Database;
use semel_schemas::{
    header,
    record::Record,
    topic::{NextOffset, Partition, TopicName},
};

use super::{
    chain::{Chain, Sent},
    options::{Feed, Options},
    samples::Place,
    starts::Starts,
};
use crate::{
    log::{Isolation, Log as _, sim::SimLog},
    spec::plan::Plan,
};

/// What a checker may look at.
pub(super) struct Scene<'a> {
    pub(super) options: &'a Options,
    pub(super) sim: &'a SimLog,
    pub(super) chain: &'a mut Chain,
    pub(super) database: &'a Database,
    pub(super) place: &'a Place,
    pub(super) starts: &'a Starts,
}

/// A violated invariant: its id and one sentence.
pub(super) type Broken = (&'static str, String);

/// Everything committed, by topic, in the order in which it was seen.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    topics: BTreeMap<TopicName, Vec<Record>>,
    positions: BTreeMap<(TopicName, Partition), NextOffset>,
    seen: u64,
}

impl Ledger {
    fn new(plan: &Plan) -> Self {
        let mut ledger = Self::default();
        for topic in &plan.topics {
            ledger.topics.insert(topic.name.clone(), Vec::new());
            for partition in (0..topic.partitions).map(Partition) {
                ledger.positions.insert((topic.name.clone(), partition), NextOffset::ZERO);
            }
        }
        ledger
    }

    /// Reads what is new.
    fn read(&mut self, sim: &SimLog) -> Result<Vec<Record>, Broken> {
        let arrivals = sim.arrivals();
        if arrivals == self.seen {
            return Ok(Vec::new());
        }
        self.seen = arrivals;
        let wrong = |error: crate::log::LogError| ("LOG", error.to_string());
        let mut reader = sim.reader(Isolation::Committed).map_err(wrong)?;
        let mut new = Vec::new();
        for ((topic, partition), position) in &mut self.positions {
            reader.seek(topic, *partition, *position).map_err(wrong)?;
            loop {
                let records = reader.read(1_000, Duration::ZERO).map_err(wrong)?;
                if records.is_empty() {
                    break;
                }
                new.extend(records);
            }
            *position = reader.position().map_err(wrong)?;
        }
        for record in &new {
            if let Some(seen) = self.topics.get_mut(&record.topic) {
                seen.push(record.clone());
            }
        }
        Ok(new)
    }

    /// What was seen of a topic.
    pub(super) fn of(&self, topic: Option<&TopicName>) -> &[Record] {
        topic.and_then(|topic| self.topics.get(topic)).map_or(&[], Vec::as_slice)
    }
}

/// A record's type.
pub(super) fn kind(record: &Record) -> &str {
    record.headers.get_str(header::TYPE).unwrap_or_default()
}

/// A record's value as JSON; `Null` if it is none.
pub(super) fn value(record: &Record) -> serde_json::Value {
    let bytes = record.value.as_deref().unwrap_or_default();
    serde_json::from_slice(bytes).unwrap_or_default()
}

/// Whether a record fits no row: a database stores no NUL.
pub(super) fn is_unfit(record: &Record) -> bool {
    text(&value(record), "order_id").contains('\0')
}

/// Whether bytes are text with this mark in it.
pub(super) fn bears(bytes: Option<&[u8]>, mark: &str) -> bool {
    let bytes = bytes.unwrap_or_default();
    bytes.windows(mark.len()).any(|part| part == mark.as_bytes())
}

/// A text field of a value.
pub(super) fn text<'a>(value: &'a serde_json::Value, field: &str) -> &'a str {
    value.get(field).and_then(serde_json::Value::as_str).unwrap_or_default()
}

/// A number of a value.
pub(super) fn number(value: &serde_json::Value, field: &str) -> u64 {
    value.get(field).and_then(serde_json::Value::as_u64).unwrap_or_default()
}

/// One invariant.
trait Check: std::fmt::Debug {
    /// Its id.
    fn id(&self) -> &'static str;

    /// After a step: these records are new, and these transactions were sent.
    fn step(&mut self, scene: &mut Scene<'_>, ledger: &Ledger, news: &News) -> Result<(), String>;

    /// What is still to be done before the end can be judged.
    fn unfinished(&mut self, _scene: &mut Scene<'_>, _ledger: &Ledger) -> Option<String> {
        None
    }

    /// At the end, when all is at rest.
    fn end(&mut self, _scene: &mut Scene<'_>, _ledger: &Ledger) -> Result<(), String> {
        Ok(())
    }
}

/// What is new since the last step.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Committed records.
    pub(super) records: Vec<Record>,
    /// Transactions that were sent to the chain.
    pub(super) sent: Vec<Sent>,
    /// Blocks of the chain.
    pub(super) blocks: Vec<semel_connectors::solana::node::Block>,
    /// Whether the database has another content.
    pub(super) rows: bool,
}

impl News {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.sent.is_empty() && self.blocks.is_empty() && !self.rows
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Checks {
    ledger: Ledger,
    checks: Vec<Box<dyn Check>>,
    commits: u64,
    /// The next slot of the chain to look at.
    slot: u64,
    lines: Vec<String>,
    told: bool,
    /// The invariants whose violation counts; none: all of them.
    only: Vec<&'static str>,
}

impl Checks {
    /// The checks of a run; what is new is told as lines, if there is a trace for them.
    pub(super) fn new(options: &Options, plan: &Plan, place: &Place, told: bool) -> Self {
        let mut checks: Vec<Box<dyn Check>> = vec![
            Box::new(refuse::Refuse::new(plan)),
            Box::new(once::Once::new(options, plan, place)),
            Box::new(same::Same::new(plan)),
        ];
        match options.feed {
            Feed::Orders => checks.push(Box::new(order::Arranged::new(plan))),
            Feed::Chain | Feed::Script => {
                checks.push(Box::new(commit_first::CommitFirst::new(plan)));
                checks.push(Box::new(intent::Intent::default()));
                checks.push(Box::new(order::Settled::new(plan)));
                checks.push(Box::new(root::Root::new(plan)));
                checks.push(Box::new(undo::Undo::new(options, plan, place)));
            }
        }
        if options.feed == Feed::Chain {
            checks.push(Box::new(resume::Resume::new(options, plan)));
        }
        Self {
            ledger: Ledger::new(plan),
            checks,
            commits: 0,
            slot: options.first_slot(),
            lines: Vec::new(),
            told,
            only: options.only.clone(),
        }
    }

    /// Lines for the trace: what is new.
    pub(super) fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// After a step.
    ///
    /// # Errors
    /// The first invariant that is broken.
    pub(super) fn step(&mut self, scene: &mut Scene<'_>) -> Result<(), Broken> {
        let commits = scene.database.commits();
        let newest = scene.chain.height(semel_schemas::effect::Commitment::Processed).0;
        let mut news = News {
            records: self.ledger.read(scene.sim)?,
            sent: scene.chain.newly_sent(),
            blocks: Vec::new(),
            rows: commits != self.commits,
        };
        self.commits = commits;
        if newest >= self.slot {
            news.blocks = scene.chain.blocks(self.slot, newest);
            self.slot = newest + 1;
        }
        if news.is_empty() {
            return Ok(());
        }
        if self.told {
            self.tell(&news);
        }
        for check in &mut self.checks {
            let broken = check.step(scene, &self.ledger, &news);
            counted(&self.only, check.id(), broken)?;
        }
        Ok(())
    }

    fn tell(&mut self, news: &News) {
        for record in &news.records {
            let id = record.headers.get_str(header::ID).unwrap_or("-");
            self.lines.push(format!("committed {} {} {id}", record.origin(), kind(record)));
        }
        for block in news.blocks.iter().filter(|block| !block.transactions.is_empty()) {
            let count = block.transactions.len();
            self.lines.push(format!("block {} with {count} transactions", block.slot));
        }
    }

    /// What is still to be done, if anything is, and by which invariant; one that counts first.
    pub(super) fn unfinished(&mut self, scene: &mut Scene<'_>) -> Option<Broken> {
        let mut found = None;
        for check in &mut self.checks {
            let left = check.unfinished(scene, &self.ledger).map(|text| (check.id(), text));
            if left.is_some() && (counts(&self.only, check.id()) || found.is_none()) {
                found = left;
                if counts(&self.only, check.id()) {
                    break;
                }
            }
        }
        found
    }

    /// Whether the violation of an invariant counts.
    pub(super) fn counts(&self, id: &str) -> bool {
        counts(&self.only, id)
    }

    /// At the end.
    ///
    /// # Errors
    /// The first invariant that is broken.
    pub(super) fn end(&mut self, scene: &mut Scene<'_>) -> Result<(), Broken> {
        for check in &mut self.checks {
            let broken = check.end(scene, &self.ledger);
            counted(&self.only, check.id(), broken)?;
        }
        Ok(())
    }
}

fn counts(only: &[&str], id: &str) -> bool {
    only.is_empty() || only.contains(&id)
}

/// A checker's answer, if it counts.
fn counted(only: &[&str], id: &'static str, broken: Result<(), String>) -> Result<(), Broken> {
    broken.or_else(|text| if counts(only, id) { Err((id, text)) } else { Ok(()) })
}
