//! A reader without a group.

use std::time::Duration;

use semel_schemas::{
    record::Record,
    topic::{NextOffset, Partition, TopicName},
};

use super::{Shared, group::TopicNo};
use crate::log::{Isolation, LogError, Reader};

/// Reads one partition at a time.
#[derive(Debug)]
pub struct SimReader {
    shared: Shared,
    isolation: Isolation,
    at: Option<At>,
}

#[derive(Debug)]
struct At {
    name: TopicName,
    topic: TopicNo,
    partition: Partition,
    position: NextOffset,
}

impl SimReader {
    pub(super) const fn new(shared: Shared, isolation: Isolation) -> Self {
        Self { shared, isolation, at: None }
    }

    fn nowhere() -> LogError {
        LogError::Refused("the reader stands nowhere: call `seek` first".to_owned())
    }
}

impl Reader for SimReader {
    fn seek(
        &mut self,
        topic: &TopicName,
        partition: Partition,
        from: NextOffset,
    ) -> Result<(), LogError> {
        let cluster = self.shared.lock();
        let no = cluster.topic_no(topic)?;
        super::in_range(cluster.partition(no, partition, topic)?, (topic, partition), from)?;
        self.at = Some(At { name: topic.clone(), topic: no, partition, position: from });
        Ok(())
    }

    fn bounds(
        &mut self,
        topic: &TopicName,
        partition: Partition,
    ) -> Result<(NextOffset, NextOffset), LogError> {
        let cluster = self.shared.lock();
        let log = cluster.partition(cluster.topic_no(topic)?, partition, topic)?;
        Ok((NextOffset(log.first()), NextOffset(log.end_for(self.isolation))))
    }

    fn read(&mut self, records_max: usize, _wait: Duration) -> Result<Vec<Record>, LogError> {
        let at = self.at.as_mut().ok_or_else(Self::nowhere)?;
        let cluster = self.shared.lock();
        let log = cluster.partition(at.topic, at.partition, &at.name)?;
        let place = (&at.name, at.partition);
        super::in_range(log, place, at.position)?;
        let mut found = Vec::new();
        let next = log.read(place, at.position.0, self.isolation, records_max, |r| found.push(r));
        at.position = NextOffset(next);
        Ok(found)
    }

    fn position(&mut self) -> Result<NextOffset, LogError> {
        self.at.as_ref().map(|at| at.position).ok_or_else(Self::nowhere)
    }
}
