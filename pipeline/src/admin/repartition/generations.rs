//! Which generation of each topic is in force: what the log remembers against what the spec says.
//!
//! The log remembers it in `<pipeline>.commands`, in the transaction that switched. Every process
//! asks before it creates a topic, and every command that opens the log. Invariant: with a spec of
//! another generation nothing is read, written or created.

use std::collections::BTreeMap;

use semel_schemas::{
    codec, header,
    request::{COMMAND, Command, Generation},
    topic::{Partition, TopicName},
};

use super::super::publish::read_all;
use crate::{
    log::{Isolation, Log, LogError},
    spec::{generation, plan::Plan},
};

/// Refuses a plan whose topics are of another generation than the log's; warns of records that came
/// to an old generation behind its switch.
///
/// # Errors
/// [`LogError::Refused`] with the lines to change; [`LogError`] if the log cannot be asked.
pub fn in_force(log: &dyn Log, plan: &Plan) -> Result<(), LogError> {
    let recorded = recorded(log, plan)?;
    for topic in &plan.topics {
        let (base, number) = generation::split(topic.name.as_str());
        match recorded.get(base) {
            Some(found) if (found.number, found.partitions) != (number, topic.partitions) => {
                return Err(LogError::Refused(other(plan, found, number, topic.partitions)));
            }
            Some(found) => left_behind(log, found)?,
            None if number > 1 && !is_changelog(plan, &topic.name) => first(log, base, number)?,
            None => {}
        }
    }
    Ok(())
}

/// A changelog goes by its stage's input.
fn is_changelog(plan: &Plan, name: &TopicName) -> bool {
    plan.stages.iter().any(|(stage, _)| stage.changelog.name == *name)
}

fn other(plan: &Plan, found: &Generation, number: u32, partitions: u32) -> String {
    let prefix = format!("{}.", plan.name);
    let short = found.topic.strip_prefix(&prefix).unwrap_or(&found.topic);
    format!(
        "topic `{}` was repartitioned: the log has its generation {} with {} partitions, the spec \
         says generation {number} with {partitions}; write `partitions = {}` and `generation = {}` \
         under [topics.{short}]",
        found.topic, found.number, found.partitions, found.partitions, found.number
    )
}

/// A later generation than the first, of which the log knows nothing: right for a log that has no
/// such topic at all.
fn first(log: &dyn Log, base: &str, number: u32) -> Result<(), LogError> {
    let Ok(name) = TopicName::new(base) else { return Ok(()) };
    if log.topic(&name)?.is_none() {
        return Ok(());
    }
    Err(LogError::Refused(format!(
        "the spec says generation {number} of topic `{base}`, and the log is at generation 1: \
         `semel repartition` makes the next one, and says when to write it into the spec"
    )))
}

/// The generations that commands brought into force, by the topics' names without one.
fn recorded(log: &dyn Log, plan: &Plan) -> Result<BTreeMap<String, Generation>, LogError> {
    let mut recorded = BTreeMap::new();
    if log.topic(&plan.commands.name)?.is_none() {
        return Ok(recorded);
    }
    for record in read_all(log, &plan.commands, Partition(0))? {
        let ours = record.headers.get_str(header::TYPE) == Some(COMMAND);
        let Some(value) = record.value.filter(|_| ours) else { continue };
        let Ok(command) = codec::decode::<Command>(COMMAND, &value) else { continue };
        if let Some(generation) = command.generation {
            recorded.insert(generation.topic.clone(), generation);
        }
    }
    Ok(recorded)
}

/// Warns of what a writer with the old name put behind the switch: it is in the log, and nobody
/// reads it.
fn left_behind(log: &dyn Log, found: &Generation) -> Result<(), LogError> {
    let before = generation::named(&found.topic, found.before);
    let Ok(name) = TopicName::new(before) else { return Ok(()) };
    if log.topic(&name)?.is_none() {
        return Ok(());
    }
    let mut reader = log.reader(Isolation::Committed)?;
    for (partition, switched) in (0..).map(Partition).zip(&found.ends) {
        let (_, end) = reader.bounds(&name, partition)?;
        if end.0 > *switched {
            tracing::warn!(topic = %name, %partition, from = switched, end = %end,
                "records came to a topic that was repartitioned: nobody reads them; let who writes \
                 them write to the new one, and produce these again");
        }
    }
    Ok(())
}
