//! What questions are answered from: a log, a checked plan, and what only a running process knows.
//!
//! Lives here: finding topics, stages and sinks by the names that people give them. Invariant:
//! looking never takes anything away from the lanes: no group is joined, no store is opened anew.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use semel_schemas::{
    codec,
    header::{self, Headers},
    record::OutRecord,
    request::{COMMAND, Command, CommandKind, Generation},
    time::WallTime,
    topic::{NextOffset, Partition, TopicName},
};

use super::Stop;
use crate::{
    engine::{
        counts::Board,
        status::Status,
        topology::{Stage, TopicRef},
    },
    log::{Isolation, Log, LogError, Reader},
    spec::plan::{Plan, SinkPlan},
};

/// See the module.
#[derive(Debug)]
pub struct View {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The plan.
    pub plan: Arc<Plan>,
    /// What a running process knows; none for a stopped one, or for Kafka looked at from outside.
    pub live: Option<Live>,
}

/// What a running process knows of itself.
#[derive(Clone, Debug)]
pub struct Live {
    /// What it counted.
    pub board: Arc<Board>,
    /// What its lanes do.
    pub status: Arc<Status>,
}

/// A stage or a sink.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// A stage, or a source.
    Stage(&'a Arc<Stage>),
    /// A sink.
    Sink(&'a SinkPlan),
}

impl<'a> Part<'a> {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'a str {
        match self {
            Self::Stage(stage) => &stage.name,
            Self::Sink(sink) => &sink.name,
        }
    }

    /// Its consumer group.
    #[must_use]
    pub fn group(self) -> &'a str {
        match self {
            Self::Stage(stage) => &stage.group,
            Self::Sink(sink) => &sink.group,
        }
    }

    /// The topic that it reads.
    #[must_use]
    pub fn input(self) -> &'a TopicRef {
        match self {
            Self::Stage(stage) => &stage.input,
            Self::Sink(sink) => &sink.topic,
        }
    }
}

impl View {
    /// Sources, stages and sinks, in the spec's order.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let stages = self.plan.stages.iter().map(|(stage, _)| Part::Stage(stage));
        stages.chain(self.plan.sinks.iter().map(Part::Sink))
    }

    /// The stage or sink of this name.
    ///
    /// # Errors
    /// One sentence with the nearest name.
    pub fn part(&self, name: &str) -> Result<Part<'_>, Stop> {
        self.parts().find(|part| part.name() == name).ok_or_else(|| {
            let known: Vec<&str> = self.parts().map(Part::name).collect();
            Stop::Refused(format!(
                "pipeline `{}` has no stage or sink `{name}`{}",
                self.plan.name,
                nearest(name, &known)
            ))
        })
    }

    /// The stage of this name.
    ///
    /// # Errors
    /// One sentence; another one if it is a sink.
    pub fn stage(&self, name: &str) -> Result<&Arc<Stage>, Stop> {
        match self.part(name)? {
            Part::Stage(stage) => Ok(stage),
            Part::Sink(_) => Err(Stop::Refused(format!(
                "`{name}` is a sink: what it knows stands in its database"
            ))),
        }
    }

    /// The topic of this name, short or full.
    ///
    /// # Errors
    /// One sentence with the nearest name; another one if it was not created yet.
    pub fn topic(&self, name: &str) -> Result<TopicRef, Stop> {
        let Some(spec) = self.plan.topic(name) else {
            let prefix = format!("{}.", self.plan.name);
            let known: Vec<&str> = self
                .plan
                .topics
                .iter()
                .map(|topic| topic.name.as_str())
                .map(|full| full.strip_prefix(&prefix).unwrap_or(full))
                .collect();
            let short = name.strip_prefix(&prefix).unwrap_or(name);
            return Err(Stop::Refused(format!(
                "pipeline `{}` has no topic `{short}`{}",
                self.plan.name,
                nearest(short, &known)
            )));
        };
        self.existing(&spec.name)
    }

    /// A topic of the plan as it stands in the log.
    ///
    /// # Errors
    /// [`Stop`] if it was not created yet.
    pub fn existing(&self, name: &TopicName) -> Result<TopicRef, Stop> {
        let info = self.log.topic(name)?.ok_or_else(|| LogError::NoTopic(name.clone()))?;
        Ok(TopicRef { name: name.clone(), partitions: info.partitions })
    }

    /// First offset and last stable offset of each partition.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn bounds(&self, topic: &TopicRef) -> Result<Vec<(NextOffset, NextOffset)>, Stop> {
        let mut reader = self.log.reader(Isolation::Committed)?;
        bounds(&mut *reader, topic)
    }

    /// The record of a command, to be written together with what the command does. Its topic is
    /// created if need be (by a build that knew no commands it was not).
    ///
    /// # Errors
    /// [`Stop`] if there is no such topic and it cannot be created.
    pub fn command(
        &self,
        what: CommandKind,
        target: &str,
        detail: String,
        by: &str,
    ) -> Result<OutRecord, Stop> {
        self.switch(what, target, detail, by, None)
    }

    /// As [`View::command`], of a command by which a topic took the place of another one.
    ///
    /// # Errors
    /// As [`View::command`].
    pub(super) fn switch(
        &self,
        what: CommandKind,
        target: &str,
        detail: String,
        by: &str,
        generation: Option<Generation>,
    ) -> Result<OutRecord, Stop> {
        let topic = &self.plan.commands;
        let spec = self.plan.topics.iter().find(|spec| spec.name == topic.name);
        if let Some(spec) = spec
            && self.log.topic(&topic.name)?.is_none()
        {
            self.log.create_topic(spec)?;
        }
        let (target, by) = (target.to_owned(), by.to_owned());
        let key = target.as_bytes().to_vec();
        let value = Command { what, target, detail, by, at: now(), generation };
        let mut headers = Headers::new();
        headers.push(header::TYPE, COMMAND);
        Ok(OutRecord {
            topic: topic.name.clone(),
            partition: Some(Partition(0)),
            key: Some(key),
            value: Some(codec::encode(&value)),
            headers,
        })
    }
}

/// First offset and end of each partition, as the reader sees them.
///
/// # Errors
/// [`Stop`].
pub fn bounds(
    reader: &mut dyn Reader,
    topic: &TopicRef,
) -> Result<Vec<(NextOffset, NextOffset)>, Stop> {
    let mut bounds = Vec::new();
    for partition in (0..topic.partitions).map(Partition) {
        bounds.push(reader.bounds(&topic.name, partition)?);
    }
    Ok(bounds)
}

/// The wall clock, milliseconds since 1970.
#[must_use]
pub fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// `: did you mean …?`, or else what is known.
#[must_use]
pub fn nearest(name: &str, known: &[&str]) -> String {
    let close = known
        .iter()
        .map(|other| (strsim::jaro_winkler(name, other), *other))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match close {
        Some((_, other)) => format!(": did you mean `{other}`?"),
        None if known.is_empty() => String::new(),
        None => format!(": known are {}", known.join(", ")),
    }
}
