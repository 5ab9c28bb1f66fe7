//! The wire between lanes and the outside: questions go out, answers come back, when the world says
//! so.
//!
//! Invariants: an answer reaches only the life of the lane that asked; what a lane asked stays on
//! the wire when the lane is gone (a request that was sent is sent), its answer does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use semel_schemas::topic::Partition;

use crate::engine::{
    effects::{Done, EffectPort, Job},
    sink_lane::{SinkAnswer, SinkAsk, SinkPort},
};

/// A question.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// Perform an effect.
    Effect(Box<Job>),
    /// Ask the database of this sink (its place in the plan).
    Sink {
        /// Place in the plan.
        sink: usize,
        /// Partition.
        partition: Partition,
        /// Comes back with the answer.
        life: u64,
        /// What is asked.
        ask: SinkAsk,
    },
}

/// A question on the wire.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// The life of the lane that asks.
    pub(super) lane: u64,
    /// What it asks.
    pub(super) question: Question,
}

#[derive(Debug, Default)]
struct Inner {
    lanes: u64,
    alive: BTreeSet<u64>,
    asked: Vec<Asked>,
    done: BTreeMap<u64, Vec<Done>>,
    answers: BTreeMap<u64, Vec<(Partition, u64, SinkAnswer)>>,
}

/// See the module. Clones are handles of the same wire.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire(Arc<Mutex<Inner>>);

impl Wire {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The port of a new life of a lane; `sink` is its place in the plan.
    pub(super) fn port(&self, sink: usize) -> Port {
        let mut inner = self.lock();
        inner.lanes += 1;
        let lane = inner.lanes;
        inner.alive.insert(lane);
        Port { wire: self.clone(), lane, sink }
    }

    /// What was asked since the last call.
    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.lock().asked)
    }

    /// Whether that life of a lane goes on.
    pub(super) fn is_alive(&self, lane: u64) -> bool {
        self.lock().alive.contains(&lane)
    }

    /// The outcome of an effect comes back.
    pub(super) fn done(&self, lane: u64, done: Done) {
        let mut inner = self.lock();
        if inner.alive.contains(&lane) {
            inner.done.entry(lane).or_default().push(done);
        }
    }

    /// An answer of a database comes back.
    pub(super) fn answered(&self, lane: u64, answer: (Partition, u64, SinkAnswer)) {
        let mut inner = self.lock();
        if inner.alive.contains(&lane) {
            inner.answers.entry(lane).or_default().push(answer);
        }
    }
}

/// One lane's end of the wire.
#[derive(Debug)]
pub(super) struct Port {
    wire: Wire,
    lane: u64,
    sink: usize,
}

impl EffectPort for Port {
    fn dispatch(&mut self, job: Job) -> bool {
        let question = Question::Effect(Box::new(job));
        self.wire.lock().asked.push(Asked { lane: self.lane, question });
        true
    }

    fn outcomes(&mut self) -> Vec<Done> {
        self.wire.lock().done.remove(&self.lane).unwrap_or_default()
    }
}

impl SinkPort for Port {
    fn ask(&mut self, partition: Partition, life: u64, ask: SinkAsk) {
        let question = Question::Sink { sink: self.sink, partition, life, ask };
        self.wire.lock().asked.push(Asked { lane: self.lane, question });
    }

    fn answers(&mut self) -> Vec<(Partition, u64, SinkAnswer)> {
        self.wire.lock().answers.remove(&self.lane).unwrap_or_default()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut inner = self.wire.lock();
        inner.alive.remove(&self.lane);
        inner.done.remove(&self.lane);
        inner.answers.remove(&self.lane);
    }
}
