//! `publish`: releases roots that wait at `ready_for_settlement`, by one command record each.

use std::{collections::BTreeMap, time::Duration};

use semel_schemas::{
    claim::{ROOT, RootRecord, RootStatus},
    codec,
    header::{self, Headers},
    record::{OutRecord, Record},
    request::{CommandKind, PUBLISH, Publish},
    time::Epoch,
    topic::Partition,
};

use serde::{Deserialize, Serialize};

use super::{Stop, View};
use crate::{
    engine::topology::TopicRef,
    log::{Isolation, Log, LogError},
};

/// What to release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publishing {
    /// Only of this channel.
    pub channel: Option<String>,
    /// Only of this epoch.
    pub epoch: Option<Epoch>,
    /// Who asks.
    pub by: String,
}

/// Writes a publish command for every waiting root that fits.
///
/// # Errors
/// One sentence, also if nothing waits.
pub fn publish(view: &View, ask: &Publishing) -> Result<Vec<String>, Stop> {
    let stage = view
        .plan
        .stages
        .iter()
        .map(|(stage, _)| stage)
        .find(|stage| stage.operators.iter().any(|o| o.takes(PUBLISH)))
        .ok_or("no stage of this pipeline takes publish commands")?;
    let roots = stage.outputs.get("roots").and_then(|ties| ties.first()).ok_or_else(|| {
        format!("stage `{}` ties its output `roots` to no topic, so none can be found", stage.name)
    })?;
    let waiting: Vec<RootRecord> = waiting(&*view.log, roots)?
        .into_iter()
        .filter(|root| ask.channel.as_ref().is_none_or(|c| *c == root.channel))
        .filter(|root| ask.epoch.is_none_or(|e| e == root.epoch))
        .collect();
    if waiting.is_empty() {
        return Err("no root waits for publication that fits the request".into());
    }
    let names: Vec<String> = waiting.iter().map(|root| root.root_id.clone()).collect();
    let mut records: Vec<OutRecord> =
        waiting.iter().map(|root| command(&stage.input, root, &ask.by)).collect();
    let detail = format!("{} roots", names.len());
    records.push(view.command(CommandKind::Publish, &stage.name, detail, &ask.by)?);
    view.log.append(records)?;
    Ok(names)
}

fn command(input: &TopicRef, root: &RootRecord, by: &str) -> OutRecord {
    let value = Publish { channel: root.channel.clone(), epoch: root.epoch, by: by.to_owned() };
    let mut headers = Headers::new();
    headers.push(header::TYPE, PUBLISH);
    let key = root.channel.as_bytes();
    OutRecord {
        topic: input.name.clone(),
        partition: Some(semel_schemas::partition::partition_for_key(key, input.partitions)),
        key: Some(key.to_vec()),
        value: Some(codec::encode(&value)),
        headers,
    }
}

/// The roots whose last record says `ready_for_settlement`.
fn waiting(log: &dyn Log, topic: &TopicRef) -> Result<Vec<RootRecord>, LogError> {
    let mut last: BTreeMap<String, RootRecord> = BTreeMap::new();
    for partition in 0..topic.partitions {
        for record in read_all(log, topic, Partition(partition))? {
            let root = record.headers.get_str(header::TYPE) == Some(ROOT);
            let value = record.value.as_deref().filter(|_| root);
            if let Some(Ok(root)) = value.map(|v| codec::decode::<RootRecord>(ROOT, v)) {
                last.insert(root.root_id.clone(), root);
            }
        }
    }
    Ok(last.into_values().filter(|r| r.status == RootStatus::ReadyForSettlement).collect())
}

/// Every committed record of a partition.
///
/// # Errors
/// [`LogError`].
pub fn read_all(
    log: &dyn Log,
    topic: &TopicRef,
    partition: Partition,
) -> Result<Vec<Record>, LogError> {
    let mut reader = log.reader(Isolation::Committed)?;
    let (first, end) = reader.bounds(&topic.name, partition)?;
    let mut records = Vec::new();
    if first >= end {
        return Ok(records);
    }
    reader.seek(&topic.name, partition, first)?;
    while reader.position()? < end {
        records.extend(reader.read(1_000, Duration::from_millis(200))?);
    }
    Ok(records)
}
