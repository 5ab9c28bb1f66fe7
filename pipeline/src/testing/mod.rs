//! For tests of pipelines: a whole topology in memory, with the engine's real code.
//!
//! `driver` runs it: pipe records in, advance the clock, answer effects, read records and state ·
//! `cases` cases of a spec in TOML, `differ` what differs from them ·
//! `parts` the local stores and the desk where effects wait for answers · `faults` a log that
//! fails when it is told to. The idea is Kafka Streams' `TopologyTestDriver`.
//!
//! May not live here: threads, wall clocks, disks, randomness. Invariant: the same calls in the
//! same order leave byte-identical topics.

pub mod cases;
mod differ;
pub mod driver;
pub mod faults;
pub mod parts;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use semel_operators::operator::Operator;
use semel_schemas::topic::{BadTopicName, TopicName};

pub use self::{
    driver::{Driver, DriverError, LaneId},
    faults::{Call, Faults, FaultyLog, When},
    parts::Asked,
};
use crate::engine::topology::{Limits, OnFault, Stage, TopicRef};

/// A stage that reads topic `input` and writes `output`, with as many partitions each, dead
/// letters in `<pipeline>.dead-letter`, and defaults for everything else: change what you need.
///
/// # Errors
/// [`BadTopicName`] if a name cannot be a topic's.
pub fn plain_stage(
    pipeline: &str,
    name: &str,
    (input, output): (&str, &str),
    partitions: u32,
    operators: Vec<Arc<dyn Operator>>,
) -> Result<Stage, BadTopicName> {
    let topic = |text: String| TopicName::new(text).map(|name| TopicRef { name, partitions });
    Ok(Stage {
        pipeline: pipeline.to_owned(),
        name: name.to_owned(),
        group: format!("semel.{pipeline}.{name}"),
        input: topic(input.to_owned())?,
        input_type: None,
        changelog: topic(format!("{pipeline}.{name}.state"))?,
        operators,
        next: vec![topic(output.to_owned())?],
        outputs: BTreeMap::new(),
        progress_to: Vec::new(),
        sources: Vec::new(),
        dead_letter: TopicRef {
            name: TopicName::new(format!("{pipeline}.dead-letter"))?,
            partitions: 1,
        },
        on_fault: OnFault::DeadLetter,
        limits: Limits::default(),
    })
}
