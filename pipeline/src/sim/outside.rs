//! Everything outside of the processes but the log: the chain, the database, and the way of
//! questions to them and of answers back, with what may happen on it.
//!
//! Invariants: a question is taken up once and in the order of the wire; what a dead process had
//! asked is done all the same, or not, as the seed says; a write that lands late holds its
//! partition's offset row until then, as a transaction whose commit is under way does.

use std::{collections::BTreeMap, fmt, sync::Arc};

use semel_connectors::{
    sink::{Sink, SinkError},
    sinks::memory::Database,
};
use semel_schemas::{
    effect::Outcome,
    topic::{Partition, TopicId},
};

use super::{
    chain::{Chain, NodeFault, ready},
    options::Options,
    rng::scattered,
    schedule::{Asks, DatabaseFault, EffectFault},
    wire::{Asked, Question, Wire},
};
use crate::{
    engine::{
        effects::{Done, Job},
        sink_lane::{SinkAnswer, SinkAsk},
    },
    spec::plan::SinkPlan,
};

/// After so long an effect without an answer counts as uncertain, as in production.
const EFFECT_DEADLINE_MS: u64 = 60_000;

/// A sink of the plan and its database.
pub(super) struct OutSink {
    pub(super) plan: SinkPlan,
    pub(super) topic_id: TopicId,
    pub(super) sink: Arc<dyn Sink>,
}

/// Takes a line of the trace; nothing is formatted for a run without one.
type Note<'a> = &'a mut dyn FnMut(fmt::Arguments<'_>);

/// What is under way.
enum Way {
    /// A question, to be dealt with.
    There(Asked, Option<DatabaseFault>, Option<EffectFault>),
    /// An outcome on its way back.
    Outcome(u64, Done),
    /// The second half of a status.
    Half(u64, Box<Job>, Outcome),
    /// An answer of a database on its way back.
    Answer(u64, (Partition, u64, SinkAnswer)),
    /// A write whose asker was told that nothing is known.
    Landing(usize, Partition, SinkAsk),
}

/// See the module.
pub(super) struct Outside {
    pub(super) chain: Chain,
    pub(super) database: Database,
    pub(super) sinks: Vec<OutSink>,
    pub(super) wire: Wire,
    seed: u64,
    latency_ms: u64,
    /// Time and number of each thing under way: in the order in which they happen.
    way: BTreeMap<(u64, u64), Way>,
    number: u64,
    /// What the node does wrong, and for how many effects more.
    pub(super) node: Option<(NodeFault, u32, Option<Asks>)>,
    pub(super) effect: Vec<(EffectFault, Option<Asks>)>,
    pub(super) write: Vec<DatabaseFault>,
    pub(super) down_until: u64,
    /// (sink, partition) → until when its offset row is held.
    held: BTreeMap<(usize, u32), u64>,
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside").field("under_way", &self.way.len()).finish_non_exhaustive()
    }
}

fn lost(text: &str) -> SinkError {
    SinkError::Unknown(format!("injected: {text}"))
}

impl Outside {
    pub(super) fn new(options: &Options, chain: Chain, database: Database) -> Self {
        Self {
            chain,
            database,
            sinks: Vec::new(),
            wire: Wire::default(),
            seed: options.seed,
            latency_ms: options.latency_ms,
            way: BTreeMap::new(),
            number: 0,
            node: None,
            effect: Vec::new(),
            write: Vec::new(),
            down_until: 0,
            held: BTreeMap::new(),
        }
    }

    /// Faults end.
    pub(super) fn calm(&mut self) {
        self.node = None;
        self.effect.clear();
        self.write.clear();
        self.down_until = 0;
    }

    /// When the next thing happens.
    pub(super) fn next(&self) -> Option<u64> {
        self.way.keys().next().map(|(at, _)| *at)
    }

    fn send(&mut self, at_ms: u64, way: Way) {
        self.number += 1;
        self.way.insert((at_ms, self.number), way);
    }

    /// How long this goes to and fro.
    fn latency(&mut self) -> u64 {
        if self.latency_ms == 0 { 0 } else { scattered(self.seed, self.number) % self.latency_ms }
    }

    /// Takes up what was asked, and does what is due.
    pub(super) fn run(&mut self, now_ms: u64, note: Note<'_>) {
        for asked in self.wire.asked() {
            let latency = self.latency();
            let mut due = now_ms + latency;
            let (mut fault, mut effect) = (None, None);
            match &asked.question {
                Question::Effect(job) => {
                    let asks = Asks::of(&job.effect);
                    let fits =
                        |(_, of): &(EffectFault, Option<Asks>)| of.is_none_or(|of| of == asks);
                    let found = self.effect.iter().position(fits);
                    effect = found.map(|at| self.effect.remove(at).0);
                    if let Some(EffectFault::Slow(ms)) = effect {
                        due += ms;
                    }
                }
                Question::Sink { ask, .. } => {
                    if matches!(ask, SinkAsk::Write(_)) && !self.write.is_empty() {
                        fault = Some(self.write.remove(0));
                    }
                    if let Some(DatabaseFault::Stray(ms)) = fault {
                        due += ms;
                        note(format_args!("a write is on its way for {ms} ms"));
                    }
                }
            }
            self.send(due, Way::There(asked, fault, effect));
        }
        while let Some(entry) = self.way.first_entry().filter(|entry| entry.key().0 <= now_ms) {
            match entry.remove() {
                Way::There(asked, fault, effect) => {
                    self.there(now_ms, asked, fault, effect, note);
                }
                Way::Outcome(lane, done) => self.wire.done(lane, done),
                Way::Half(lane, job, first) => {
                    let outcome = torn(first, self.chain.perform(&job.effect, None));
                    note(format_args!("the other half of {}: {}", job.attempt, Told(&outcome)));
                    let done = Done { task: job.task, attempt: job.attempt, outcome };
                    let back = now_ms + self.latency();
                    self.send(back, Way::Outcome(lane, done));
                }
                Way::Answer(lane, answer) => self.wire.answered(lane, answer),
                Way::Landing(sink, partition, ask) => {
                    let landed = self.ask(sink, partition, &ask);
                    note(format_args!("a late write to {} lands: {landed:?}", self.name(sink)));
                }
            }
        }
    }

    fn name(&self, sink: usize) -> String {
        self.sinks.get(sink).map(|s| s.plan.name.clone()).unwrap_or_default()
    }

    fn there(
        &mut self,
        now_ms: u64,
        asked: Asked,
        fault: Option<DatabaseFault>,
        effect: Option<EffectFault>,
        note: Note<'_>,
    ) {
        // What the dead have asked is done or not.
        let dead = !self.wire.is_alive(asked.lane);
        if dead && scattered(self.seed, self.number).is_multiple_of(2) {
            return;
        }
        match asked.question {
            Question::Effect(job) => self.effect(now_ms, asked.lane, &job, effect, note),
            Question::Sink { sink, partition, life, ask } => {
                let held = self.held.get(&(sink, partition.0)).copied().unwrap_or(0);
                if held > now_ms {
                    let question = Question::Sink { sink, partition, life, ask };
                    self.send(held, Way::There(Asked { lane: asked.lane, question }, fault, None));
                    return;
                }
                let (answer, slow) = self.sink(now_ms, (sink, partition), &ask, fault);
                note(format_args!("{} answers {answer:?}", self.name(sink)));
                let back = now_ms + self.latency() + slow;
                self.send(back, Way::Answer(asked.lane, (partition, life, answer)));
            }
        }
    }

    fn effect(
        &mut self,
        now_ms: u64,
        lane: u64,
        job: &Job,
        fault: Option<EffectFault>,
        note: Note<'_>,
    ) {
        let node = match &mut self.node {
            Some((fault, left, of))
                if *left > 0 && of.is_none_or(|of| of == Asks::of(&job.effect)) =>
            {
                *left -= 1;
                Some(*fault)
            }
            _ => None,
        };
        let mut back = now_ms + self.latency();
        let outcome = match fault {
            Some(EffectFault::Unperformed) => {
                back = now_ms + EFFECT_DEADLINE_MS / 10;
                Outcome::Uncertain { text: "injected: nobody answered".to_owned() }
            }
            Some(EffectFault::Twice) => {
                self.chain.perform(&job.effect, None);
                self.chain.perform(&job.effect, node)
            }
            Some(EffectFault::SlowAnswer(ms)) => {
                back += ms.min(EFFECT_DEADLINE_MS);
                self.chain.perform(&job.effect, node)
            }
            Some(EffectFault::Slow(_) | EffectFault::Again(_) | EffectFault::Torn(_)) | None => {
                self.chain.perform(&job.effect, node)
            }
        };
        note(format_args!("effect {} of {:?}: {}", job.attempt, job.task.0, Told(&outcome)));
        if let Some(EffectFault::Torn(ms)) = fault {
            let unknown = matches!(outcome, Outcome::Status { found: None, .. });
            if unknown || Asks::of(&job.effect) != Asks::Status {
                self.send(back + ms, Way::Half(lane, Box::new(job.clone()), outcome));
                return;
            }
            // Nothing is to be torn where a block holds it: the next one, then.
            self.effect.insert(0, (EffectFault::Torn(ms), Some(Asks::Status)));
        }
        let done = Done { task: job.task, attempt: job.attempt, outcome };
        if let Some(EffectFault::Again(ms)) = fault {
            self.send(back + ms, Way::Outcome(lane, done.clone()));
        }
        self.send(back, Way::Outcome(lane, done));
    }

    /// Asks a database, with a fault; the answer and how much later than usual it comes.
    fn sink(
        &mut self,
        now_ms: u64,
        (sink, partition): (usize, Partition),
        ask: &SinkAsk,
        fault: Option<DatabaseFault>,
    ) -> (SinkAnswer, u64) {
        let away = || SinkError::Unavailable("injected: the database is away".to_owned());
        if now_ms < self.down_until {
            let answer = match ask {
                SinkAsk::Position => SinkAnswer::Position(Err(away())),
                SinkAsk::Unreported => SinkAnswer::Unreported(Err(away())),
                SinkAsk::Write(_) => SinkAnswer::Write(Err(away())),
            };
            return (answer, 0);
        }
        match fault {
            Some(DatabaseFault::Lost) => {
                self.ask(sink, partition, ask);
                (SinkAnswer::Write(Err(lost("the commit's answer is lost"))), 0)
            }
            Some(DatabaseFault::Unknown) => {
                (SinkAnswer::Write(Err(lost("the connection broke"))), 0)
            }
            Some(DatabaseFault::Late(ms)) => {
                self.held.insert((sink, partition.0), now_ms + ms);
                self.send(now_ms + ms, Way::Landing(sink, partition, ask.clone()));
                (SinkAnswer::Write(Err(lost("the commit is under way"))), 0)
            }
            Some(DatabaseFault::Away) => (SinkAnswer::Write(Err(away())), 0),
            Some(DatabaseFault::Slow(ms)) => (self.ask(sink, partition, ask), ms),
            Some(DatabaseFault::Stray(_)) | None => (self.ask(sink, partition, ask), 0),
        }
    }

    fn ask(&self, sink: usize, partition: Partition, ask: &SinkAsk) -> SinkAnswer {
        let Some(out) = self.sinks.get(sink) else {
            return SinkAnswer::Position(Err(SinkError::Refused("no such sink".to_owned())));
        };
        let (topic, id) = (&out.plan.topic.name, &out.topic_id);
        let waits = || SinkError::Refused("the database in memory waits".to_owned());
        match ask {
            SinkAsk::Position => {
                let position = ready(out.sink.position(topic, id, partition));
                SinkAnswer::Position(position.unwrap_or_else(|| Err(waits())))
            }
            SinkAsk::Unreported => {
                let found = ready(out.sink.unreported(topic, id, partition));
                SinkAnswer::Unreported(found.unwrap_or_else(|| Err(waits())))
            }
            SinkAsk::Write(batch) => {
                let written = ready(out.sink.write(batch));
                SinkAnswer::Write(written.unwrap_or_else(|| Err(waits())))
            }
        }
    }
}

/// A status whose halves were read apart: the transaction was looked for first. Of anything else
/// the later answer counts.
fn torn(first: Outcome, second: Outcome) -> Outcome {
    match (first, second) {
        (Outcome::Status { found, .. }, Outcome::Status { context_slot, finalized_height, .. }) => {
            Outcome::Status { context_slot, finalized_height, found }
        }
        (_, second) => second,
    }
}

/// An outcome in a few words.
struct Told<'a>(&'a Outcome);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Outcome::Blocks { facts, complete, .. } => {
                write!(f, "{} facts, complete up to slot {complete}", facts.len())
            }
            Outcome::Account { context_slot, data } => {
                let there = if data.is_some() { "an account" } else { "no account" };
                write!(f, "{there} at slot {context_slot}")
            }
            other => write!(f, "{other:?}"),
        }
    }
}
