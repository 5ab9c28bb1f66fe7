//! `topics`: what the log holds of a pipeline's topics, who writes them, and how far their readers
//! have come.

use serde::{Deserialize, Serialize};

use super::{Stop, View, lag};
use crate::{engine::topology::TopicRef, log::Cleanup};

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRow {
    /// Name.
    pub topic: String,
    /// Number of partitions.
    pub partitions: u32,
    /// Offsets from the first to the end, over all partitions (gaps included).
    pub offsets: u64,
    /// How long records are kept, for people.
    pub kept: String,
    /// Stages that write it.
    pub written_by: Vec<String>,
    /// Groups of the pipeline that read it, each with its lag.
    pub groups: Vec<GroupRow>,
}

/// One group's lag on a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow {
    /// Stage or sink.
    pub name: String,
    /// Group.
    pub group: String,
    /// Records between the committed offsets and the last stable ones.
    pub lag: u64,
}

/// Looks at every topic of the plan that exists.
///
/// # Errors
/// [`Stop`].
pub fn topics(view: &View) -> Result<Vec<TopicRow>, Stop> {
    let lags = lag::lag(view, &lag::Lag::default())?;
    let mut rows = Vec::new();
    for spec in &view.plan.topics {
        let Some(info) = view.log.topic(&spec.name)? else { continue };
        let topic = TopicRef { name: spec.name.clone(), partitions: info.partitions };
        let bounds = view.bounds(&topic)?;
        let groups = view.parts().filter(|part| part.input().name == topic.name).map(|part| {
            let own = lags.iter().filter(|row| row.name == part.name());
            GroupRow {
                name: part.name().to_owned(),
                group: part.group().to_owned(),
                lag: own.map(|row| row.lag).sum(),
            }
        });
        rows.push(TopicRow {
            topic: topic.name.to_string(),
            partitions: topic.partitions,
            offsets: bounds.iter().map(|(first, end)| end.0.saturating_sub(first.0)).sum(),
            kept: kept(info.cleanup),
            written_by: writers(view, &topic),
            groups: groups.collect(),
        });
    }
    Ok(rows)
}

fn kept(cleanup: Cleanup) -> String {
    match cleanup {
        Cleanup::Compact { .. } => "last of each key".to_owned(),
        Cleanup::Delete { retention_ms: None } => "for ever".to_owned(),
        Cleanup::Delete { retention_ms: Some(ms) } if ms >= 86_400_000 => {
            format!("{} days", ms / 86_400_000)
        }
        Cleanup::Delete { retention_ms: Some(ms) } => format!("{} s", ms / 1_000),
    }
}

fn writers(view: &View, topic: &TopicRef) -> Vec<String> {
    let stages = view.plan.stages.iter().map(|(stage, _)| stage);
    stages
        .filter(|stage| {
            let outputs = stage.next.iter().chain(stage.outputs.values().flatten());
            outputs.chain([&stage.changelog]).any(|output| output.name == topic.name)
        })
        .map(|stage| stage.name.clone())
        .collect()
}
