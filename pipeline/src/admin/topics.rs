//! `topics`: what the log holds of a pipeline's topics, and how far its groups have come.

use serde::{Deserialize, Serialize};

use crate::{
    log::{Isolation, Log},
    spec::plan::Plan,
};
use semel_schemas::topic::{NextOffset, Partition};

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRow {
    /// Name.
    pub topic: String,
    /// Number of partitions.
    pub partitions: u32,
    /// Offsets from the first to the end, over all partitions (gaps included).
    pub offsets: u64,
    /// Groups of the pipeline that read it, each with its lag (gaps included).
    pub groups: Vec<GroupRow>,
}

/// One group's lag on a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow {
    /// Group.
    pub group: String,
    /// Offsets between the committed offsets and the last stable ones.
    pub lag: u64,
}

/// Looks at every topic of the plan that exists.
///
/// # Errors
/// One sentence.
pub fn topics(log: &dyn Log, plan: &Plan) -> Result<Vec<TopicRow>, String> {
    let readers: Vec<(String, String)> = plan
        .stages
        .iter()
        .map(|(stage, _)| (stage.input.name.to_string(), stage.group.clone()))
        .chain(plan.sinks.iter().map(|sink| (sink.topic.name.to_string(), sink.group.clone())))
        .collect();
    let mut rows = Vec::new();
    for topic in &plan.topics {
        if log.topic(&topic.name).map_err(|e| e.to_string())?.is_none() {
            continue;
        }
        let mut reader = log.reader(Isolation::Committed).map_err(|e| e.to_string())?;
        let mut bounds = Vec::new();
        for partition in (0..topic.partitions).map(Partition) {
            bounds.push(reader.bounds(&topic.name, partition).map_err(|e| e.to_string())?);
        }
        let mut groups = Vec::new();
        for (_, group) in readers.iter().filter(|(name, _)| *name == topic.name.as_str()) {
            let committed = log.committed(group, &topic.name).map_err(|e| e.to_string())?;
            let lag = (0..).zip(&bounds).map(|(partition, (first, end))| {
                let at = committed.get(&Partition(partition)).copied().unwrap_or(*first);
                end.0.saturating_sub(at.0)
            });
            groups.push(GroupRow { group: group.clone(), lag: lag.sum() });
        }
        rows.push(TopicRow {
            topic: topic.name.to_string(),
            partitions: topic.partitions,
            offsets: bounds.iter().map(|(first, end)| span(*first, *end)).sum(),
            groups,
        });
    }
    Ok(rows)
}

fn span(first: NextOffset, end: NextOffset) -> u64 {
    end.0.saturating_sub(first.0)
}
