//! The simulator: whole pipelines in one thread, on a simulated log, an in-process chain, a database
//! in memory and a clock that moves only when told, with everything going wrong that a seed can
//! think of, and every invariant of the design checked after every step.
//!
//! ```text
//! seed ─▶ options ─▶ schedule (inputs and faults) ─▶ world: processes, log, chain, database
//!                        ▲                             │ after each step: invariants
//!                        └── shrink ◀── failure ◀──────┘ at the end: rest, and all of them again
//! ```
//!
//! `options` what a run is made of · `schedule`, `samples` what happens in it · `world` time and
//! turns · `process` lanes, as the host starts them, `starts` what they found · `tap` what can happen to one call · `wire`,
//! `outside`, `chain` effects and databases · `invariants` what must be true · `shrink` fewer events
//! for the same failure · `swarm` many seeds at once · `rng` numbers.
//!
//! The code under test is the production's: operators, tasks, lanes, commits, sinks, connectors.
//! May not live here (but in `swarm`, which is around it): threads, wall clocks, an order that a hash
//! decides. Invariant: the same
//! options and events leave the same trace, byte for byte, on every machine.

mod chain;
mod invariants;
pub mod options;
mod outside;
mod process;
mod rng;
mod samples;
pub mod schedule;
pub mod shrink;
mod starts;
pub mod swarm;
mod tap;
#[cfg(test)]
mod tests;
mod wire;
mod world;

use std::{collections::VecDeque, sync::Arc};

use semel_connectors::{
    sinks::{
        mapping::{Column, Form, SinkSpec},
        memory::Database,
    },
    solana::devnet::DevnetConfig,
};
use semel_schemas::topic::TopicName;

pub(crate) use self::chain::ready;
use self::{
    chain::{Chain, Names},
    invariants::Checks,
    options::{Feed, Options},
    outside::{OutSink, Outside},
    process::{Process, Seat, Shop},
    samples::Place,
    schedule::{Event, Last},
    starts::Starts,
    world::{Inner, World},
};
pub use self::{samples::Sample, tap::Armed, world::Failure};
use crate::{
    engine::{counts::Board, status::Status},
    log::{Cleanup, Log as _, sim::SimLog},
    spec::{Spec, parse, plan::Plan},
    testing::driver::START_MS,
};

/// Ids of the invariants, as in `pipeline/INVARIANTS.md`.
pub const INVARIANTS: [&str; 9] =
    ["ONCE", "INTENT", "COMMIT-FIRST", "ORDER", "ROOT", "SAME", "UNDO", "RESUME", "REFUSE"];

/// The pipeline that ships, as it is in the repository.
const ATTENTION: &str = include_str!("../../../deploy/specs/attention-oracle.toml");
/// The second pipeline: what the first one has no stage for.
const ORDERS: &str = include_str!("orders.toml");

/// What is simulated: the text of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The file's name, for errors.
    pub file: String,
    /// Its text.
    pub text: String,
    /// What can be fed into it.
    feeds: Vec<Feed>,
}

impl Subject {
    /// A spec of one's own.
    ///
    /// # Errors
    /// As `semel check`; and a sentence if the simulator has nothing to feed it.
    pub fn new(file: &str, text: &str) -> Result<Self, Vec<String>> {
        let mut subject = Self { file: file.to_owned(), text: text.to_owned(), feeds: Vec::new() };
        let (_, plan) = subject.plan(&Options::of_seed(0, &[Feed::Chain]))?;
        let has = |name: &str| {
            let mut operators = plan.stages.iter().flat_map(|(stage, _)| &stage.operators);
            operators.any(|operator| operator.name() == name)
        };
        subject.feeds = schedule::feeds(has("solana_source"), has("nonce_order"));
        if subject.feeds.is_empty() {
            return Err(vec![format!(
                "{file}: the simulator has no inputs for this pipeline: it knows those of a \
                 `solana_source` and of a `nonce_order`"
            )]);
        }
        Ok(subject)
    }

    /// The built-in subject of a seed: each third one is the second pipeline.
    ///
    /// # Errors
    /// As [`Subject::new`].
    pub fn of_seed(seed: u64) -> Result<Self, Vec<String>> {
        match seed % 3 {
            2 => Self::new("orders.toml", ORDERS),
            _ => Self::new("deploy/specs/attention-oracle.toml", ATTENTION),
        }
    }

    /// The options of a seed.
    #[must_use]
    pub fn options(&self, seed: u64) -> Options {
        Options::of_seed(seed, &self.feeds)
    }

    fn plan(&self, options: &Options) -> Result<(Spec, Plan), Vec<String>> {
        let (authority, mint) = (chain::authority().to_string(), DevnetConfig::default().mint);
        let mint = mint.to_string();
        let variable = |name: &str| options.variable(name, &authority, &mint);
        let parsed = parse::parse(&self.file, &self.text, &variable);
        let (mut spec, source) = parsed.map_err(|error| vec![error.to_string()])?;
        spec.pipeline.partitions = options.partitions;
        let texts = |errors: Vec<parse::SpecError>| {
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let plan = Plan::new(&spec, &source).map_err(texts)?;
        Ok((spec, plan))
    }
}

/// What came out of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What went wrong, if anything.
    pub failure: Option<Failure>,
    /// Steps of lanes.
    pub steps: u64,
    /// Calls that processes made to the outside.
    pub calls: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// The trace, if it was asked for.
    pub trace: Vec<String>,
}

/// Whether a run writes a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// It does.
    Written,
    /// It does not.
    Silent,
}

/// Runs a subject with these options and events.
///
/// # Errors
/// What is wrong with the spec, line by line.
pub fn run(
    subject: &Subject,
    options: &Options,
    events: &[Event],
    trace: Trace,
) -> Result<Report, Vec<String>> {
    let inner = build(subject, options, events, trace)?;
    let world = World::new(inner);
    world.run();
    let Some(inner) = world.into_inner() else {
        return Err(vec!["a part of the simulated world outlived it".to_owned()]);
    };
    Ok(Report {
        failure: inner.failure,
        steps: inner.steps,
        calls: inner.processes.iter().map(|process| process.fate.calls()).sum(),
        simulated_ms: inner.now_ms - inner.begin_ms,
        trace: inner.trace.unwrap_or_default(),
    })
}

/// The place of the topic that inputs from outside go to, and whose progress stands in it.
fn place(plan: &Plan, feed: Feed) -> Option<Place> {
    let taker = |name: &str| {
        let mut stages = plan.stages.iter().map(|(stage, _)| stage);
        stages.find(|stage| stage.operators.iter().any(|operator| operator.name() == name))
    };
    let stage = taker("dedupe").or_else(|| taker("nonce_order"))?;
    let source = match feed {
        Feed::Orders => String::new(),
        Feed::Chain | Feed::Script => stage.sources.first().cloned().unwrap_or_default(),
    };
    Some(Place { topic: stage.input.name.clone(), partitions: stage.input.partitions, source })
}

/// The plan's sinks, on tables of their own.
fn sinks(plan: &Plan, sim: &SimLog, outside: &mut Outside) -> Result<(), Vec<String>> {
    let one = |text: String| vec![text];
    for sink in &plan.sinks {
        let info = sim.topic(&sink.topic.name).map_err(|error| one(error.to_string()))?;
        let Some(info) = info else { continue };
        tables(&outside.database, &sink.mapping);
        let made = outside.database.sink(sink.mapping.clone());
        let made = made.map_err(|error| one(error.to_string()))?;
        let prepared = chain::ready(made.prepare()).unwrap_or(Ok(()));
        prepared.map_err(|error| one(error.to_string()))?;
        outside.sinks.push(OutSink { plan: sink.clone(), topic_id: info.id, sink: made });
    }
    Ok(())
}

fn build(
    subject: &Subject,
    options: &Options,
    events: &[Event],
    trace: Trace,
) -> Result<Inner, Vec<String>> {
    let (spec, mut plan) = subject.plan(options)?;
    if options.feed == Feed::Script {
        // The script stands in for the source.
        let is_source = |name: &str| name == "solana_source";
        plan.stages.retain(|(stage, _)| !stage.operators.iter().any(|o| is_source(o.name())));
    }
    let one = |text: String| vec![text];
    let sim = SimLog::new(START_MS);
    sim.set_membership(options.membership);
    sim.set_generations(options.generations);
    for topic in &plan.topics {
        let mut topic = topic.clone();
        if let Cleanup::Compact { tombstone_ms } = &mut topic.cleanup {
            *tombstone_ms = options.tombstone_ms;
        }
        sim.create_topic(&topic).map_err(|error| one(error.to_string()))?;
    }
    let names = Names {
        chains: spec.chains.keys().cloned().collect(),
        signers: spec.signers.keys().cloned().collect(),
    };
    let chain = Chain::new(options, &names, START_MS).map_err(one)?;
    let mut outside = Outside::new(options, chain, Database::new());
    sinks(&plan, &sim, &mut outside)?;
    let place = place(&plan, options.feed)
        .ok_or_else(|| one(format!("{}: no stage takes the simulator's inputs", subject.file)))?;
    let plan = Arc::new(plan);
    let options = Arc::new(options.clone());
    let processes = Process::all(options.processes, options.seed);
    let seats = (0..options.processes).flat_map(|p| Seat::of_plan(&plan, p)).collect();
    let shop = Shop {
        plan: plan.clone(),
        sim: sim.clone(),
        wire: outside.wire.clone(),
        options: options.clone(),
        board: Arc::new(Board::default()),
        status: Arc::new(Status::default()),
    };
    Ok(Inner {
        checks: Checks::new(&options, &plan, &place, trace == Trace::Written),
        options,
        shop,
        sim,
        outside,
        processes,
        seats,
        events: events.iter().cloned().collect::<VecDeque<_>>(),
        late: Vec::new(),
        place,
        starts: Starts::default(),
        begin_ms: START_MS,
        now_ms: START_MS,
        turn: 0,
        steps: 0,
        trace: (trace == Trace::Written).then(Vec::new),
        failure: None,
        markers_until: 0,
        markers_every_ms: 0,
        markers_last: Last::Any,
        marker_at: 0,
        stall_until: 0,
        calm: false,
        nested: false,
    })
}

/// Tables of a mapping that the database has not: as wide as the mapping needs them.
pub(crate) fn tables(database: &Database, mapping: &SinkSpec) {
    for table in &mapping.tables {
        let declared = |column: &Column| match column {
            Column::Field(field) if matches!(field.form, Some(Form::Ms | Form::Seconds)) => {
                "TIMESTAMP"
            }
            _ => "VARCHAR",
        };
        let columns = table.columns.iter();
        let columns = columns.map(|(name, column)| (name.clone(), declared(column).to_owned()));
        database.create(table.table.clone(), columns.collect());
    }
}

/// The name of a topic of a plan; what is not there is a topic that nobody writes.
fn topic(plan: &Plan, short: &str) -> Option<TopicName> {
    plan.topic(short).map(|spec| spec.name.clone())
}
