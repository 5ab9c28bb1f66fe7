//! `produce`: records for a topic that a stage reads, checked before they are written.
//!
//! Invariants: what a stage would refuse for its type, key or size is refused here, and nothing of
//! the batch is written; a batch and the record of the command are one transaction.

use semel_schemas::{
    catalog, codec,
    fault::{Fault, FaultCode},
    header::{self, Headers},
    partition::partition_for_key,
    record::OutRecord,
    request::CommandKind,
    solana::Base64,
};
use serde::{Deserialize, Serialize};

use super::{Answer, Stop, View, view::nearest};
use crate::engine::topology::{Stage, TopicRef};

/// Records that one batch may have.
pub const BATCH_MAX: usize = 1_000;
/// Bytes that one batch may have.
pub const BATCH_BYTES_MAX: usize = 4 << 20;

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Produce {
    /// Topic, by its short or full name.
    pub topic: String,
    /// The records' type; none: the one that its reader expects.
    pub kind: Option<String>,
    /// The records.
    pub records: Vec<NewRecord>,
    /// Who asks.
    pub by: String,
}

/// One record to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRecord {
    /// Key.
    pub key: Base64,
    /// Value; none: a tombstone.
    pub value: Option<Base64>,
    /// Headers of its own.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// What may be written to one topic: looked up once, for many records.
#[derive(Clone, Debug)]
pub struct Form {
    topic: TopicRef,
    kind: String,
    entry: Option<&'static catalog::Entry>,
    record_bytes_max: usize,
}

impl Form {
    /// The stages that read a topic.
    ///
    /// # Errors
    /// [`Stop`] if there is none: then nothing is written to it by hand.
    pub fn readers<'a>(view: &'a View, topic: &TopicRef) -> Result<Vec<&'a Stage>, Stop> {
        let stages = view.plan.stages.iter().map(|(stage, _)| &**stage);
        let readers: Vec<&Stage> = stages.filter(|stage| stage.input.name == topic.name).collect();
        if readers.is_empty() {
            let inputs: Vec<&str> =
                view.plan.stages.iter().map(|(stage, _)| stage.input.name.as_str()).collect();
            return Err(Stop::Refused(format!(
                "no stage reads topic `{}`, so nothing is produced to it by hand: those that are \
                 read are {}",
                topic.name,
                inputs.join(", ")
            )));
        }
        Ok(readers)
    }

    /// What records of type `kind` for `topic` look like.
    ///
    /// # Errors
    /// [`Stop`] if no stage reads the topic, or none of its operators takes the type.
    pub fn new(view: &View, topic: &str, kind: Option<&str>) -> Result<Self, Stop> {
        Self::of(view, view.topic(topic)?, kind)
    }

    /// The same for a topic that is known to exist, without asking the log.
    ///
    /// # Errors
    /// As [`Form::new`].
    pub fn of(view: &View, topic: TopicRef, kind: Option<&str>) -> Result<Self, Stop> {
        let readers = Self::readers(view, &topic)?;
        let own = readers.iter().find_map(|stage| stage.input_type.as_deref());
        let Some(kind) = kind.or(own) else {
            return Err(Stop::Refused(format!(
                "the readers of topic `{}` name no type of their own: say which with --type",
                topic.name
            )));
        };
        let entry = catalog::find(kind);
        if !readers.iter().any(|stage| stage.taker(0, kind).is_some()) {
            let known: Vec<&str> = catalog::ENTRIES
                .iter()
                .map(|entry| entry.name)
                .filter(|name| readers.iter().any(|stage| stage.taker(0, name).is_some()))
                .collect();
            return Err(Stop::Refused(format!(
                "no stage that reads topic `{}` takes records of type `{kind}`{}",
                topic.name,
                nearest(kind, &known)
            )));
        }
        let limits = readers.iter().map(|stage| stage.limits.record_bytes_max);
        let record_bytes_max = limits.min().unwrap_or(usize::MAX);
        Ok(Self { topic, kind: kind.to_owned(), entry, record_bytes_max })
    }

    /// Checks one record, and gives it its partition and headers.
    ///
    /// # Errors
    /// The fault that the reader would find.
    pub fn check(&self, record: &NewRecord) -> Result<OutRecord, Fault> {
        if record.key.0.is_empty() {
            return Err(Fault::new(FaultCode::EmptyKey, "the record has no key"));
        }
        match (&record.value, self.entry) {
            (Some(value), Some(entry)) => {
                entry.rewrite(&value.0)?;
            }
            (Some(value), None) => {
                codec::decode::<serde_json::Value>(&self.kind, &value.0)?;
            }
            (None, _) => {}
        }
        let mut headers = Headers::new();
        headers.push(header::TYPE, self.kind.as_str());
        for (name, value) in &record.headers {
            headers.push(name.as_str(), value.as_str());
        }
        let out = OutRecord {
            topic: self.topic.name.clone(),
            partition: Some(partition_for_key(&record.key.0, self.topic.partitions)),
            key: Some(record.key.0.clone()),
            value: record.value.as_ref().map(|value| value.0.clone()),
            headers,
        };
        let (size, limit) = (out.size(), self.record_bytes_max);
        if size > limit {
            let text = format!("the record has {size} bytes; the limit is {limit}");
            return Err(Fault::new(FaultCode::Oversized, text));
        }
        Ok(out)
    }
}

/// Writes a batch, or tells the first record that is wrong.
///
/// # Errors
/// [`Stop`]; then nothing was written, unless the log says that it does not know.
pub fn produce(view: &View, ask: &Produce) -> Result<Answer, Stop> {
    if ask.records.len() > BATCH_MAX {
        return Err(Stop::Refused(format!("a batch has at most {BATCH_MAX} records")));
    }
    let form = Form::new(view, &ask.topic, ask.kind.as_deref())?;
    let mut records = Vec::with_capacity(ask.records.len() + 1);
    for (index, record) in ask.records.iter().enumerate() {
        match form.check(record) {
            Ok(checked) => records.push(checked),
            Err(fault) => return Ok(Answer::BadRecord { index, text: fault.to_string() }),
        }
    }
    let detail = format!("{} records of type {}", records.len(), form.kind);
    let target = form.topic.name.as_str();
    records.push(view.command(CommandKind::Produce, target, detail, &ask.by)?);
    let mut places = view.log.append(records)?;
    places.pop();
    let places = places.into_iter().map(|(partition, offset)| (partition.0, offset.0)).collect();
    Ok(Answer::Produced { places })
}
