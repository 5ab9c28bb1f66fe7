//! What a stage is once its spec is checked: topics with partition counts, operators, ties.
//!
//! A topology is data: it holds no connection and no state, and is shared by all tasks.

use std::{collections::BTreeMap, sync::Arc};

use semel_operators::operator::Operator;
use semel_schemas::topic::TopicName;

/// A topic and its number of partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRef {
    /// Name in the log.
    pub name: TopicName,
    /// Number of partitions.
    pub partitions: u32,
}

/// What happens to a record that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFault {
    /// It goes to the dead letters, and its key goes on.
    DeadLetter,
    /// It goes to the dead letters, and later records of its key wait for a decision.
    QuarantineKey,
}

/// Bounds of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one record, key and headers included.
    pub record_bytes_max: usize,
    /// Records that one input may make a stage emit.
    pub outputs_max: usize,
    /// Timers fired in one cycle.
    pub timers_max: usize,
    /// Effects of one task under way at once.
    pub effects_max: usize,
    /// Waiting records of one quarantined key.
    pub quarantine_per_key_max: u32,
    /// Waiting records of all quarantined keys of a task; beyond it the partition pauses.
    pub quarantine_per_task_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            record_bytes_max: 900_000,
            outputs_max: 20_000,
            timers_max: 64,
            effects_max: 32,
            quarantine_per_key_max: 1_000,
            quarantine_per_task_max: 10_000,
        }
    }
}

/// One stage: operators fused on one key, one consumer group.
#[derive(Debug)]
pub struct Stage {
    /// Pipeline's name.
    pub pipeline: String,
    /// Stage's name.
    pub name: String,
    /// Consumer group, `semel.<pipeline>.<stage>`.
    pub group: String,
    /// The one topic it reads.
    pub input: TopicRef,
    /// Type of input records without a `semel-type` header.
    pub input_type: Option<String>,
    /// Where its state changes go: as many partitions as the input.
    pub changelog: TopicRef,
    /// Its operators, in order.
    pub operators: Vec<Arc<dyn Operator>>,
    /// Where the last operator's records go.
    pub next: Vec<TopicRef>,
    /// Where named outputs of operators go.
    pub outputs: BTreeMap<String, Vec<TopicRef>>,
    /// Topics that other stages read: progress is passed on to them.
    pub progress_to: Vec<TopicRef>,
    /// Whose progress makes this stage's event time; empty: whoever spoke.
    pub sources: Vec<String>,
    /// Dead letters of the pipeline.
    pub dead_letter: TopicRef,
    /// What happens to a record that is refused.
    pub on_fault: OnFault,
    /// Bounds.
    pub limits: Limits,
}

impl Stage {
    /// The first operator at or after `from` that takes records of this type.
    #[must_use]
    pub fn taker(&self, from: usize, kind: &str) -> Option<usize> {
        (from..self.operators.len()).find(|i| self.operators[*i].takes(kind))
    }
}
