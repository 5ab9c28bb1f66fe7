//! A log that measures its commits. The engine reads no clock, so the log that it is given does.
//!
//! May not live here: anything that changes an answer.

use std::{collections::BTreeMap, sync::Arc, time::Duration, time::Instant};

use semel_schemas::{
    record::OutRecord,
    topic::{NextOffset, Offset, Partition, TopicName},
};

use crate::log::{
    Event, Isolation, Log, LogError, Member, MemberSpec, OutParts, ProduceError, Reader, TopicInfo,
    TopicSpec, TxnError, TxnFault,
};

/// See the module.
#[derive(Debug)]
pub struct TimedLog(pub Arc<dyn Log>);

impl Log for TimedLog {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn topic(&self, name: &TopicName) -> Result<Option<TopicInfo>, LogError> {
        self.0.topic(name)
    }

    fn topics(&self) -> Result<Vec<TopicName>, LogError> {
        self.0.topics()
    }

    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, LogError> {
        self.0.create_topic(spec)
    }

    fn join(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, LogError> {
        let member = self.0.join(spec)?;
        let committed = commits(&spec.group, "committed");
        Ok(Box::new(TimedMember { member, group: spec.group.clone(), committed }))
    }

    fn reader(&self, isolation: Isolation) -> Result<Box<dyn Reader>, LogError> {
        self.0.reader(isolation)
    }

    fn committed(
        &self,
        group: &str,
        topic: &TopicName,
    ) -> Result<BTreeMap<Partition, NextOffset>, LogError> {
        self.0.committed(group, topic)
    }

    fn fence(&self, instance: &str) -> Result<(), LogError> {
        self.0.fence(instance)
    }

    fn append(&self, records: Vec<OutRecord>) -> Result<Vec<(Partition, Offset)>, LogError> {
        self.0.append(records)
    }
}

struct TimedMember {
    member: Box<dyn Member>,
    group: String,
    /// Looked up once: most commits end so.
    committed: metrics::Histogram,
}

fn commits(group: &str, end: &'static str) -> metrics::Histogram {
    metrics::histogram!("semel_commit_seconds", "group" => group.to_owned(), "end" => end)
}

/// How a failed commit ended, as a label.
const fn end(fault: TxnFault) -> &'static str {
    match fault {
        TxnFault::Retry => "retry",
        TxnFault::Abort => "abort",
        TxnFault::Unknown => "unknown",
        TxnFault::Rebuild => "rebuild",
        TxnFault::Fatal => "fatal",
    }
}

impl Member for TimedMember {
    fn init(&mut self) -> Result<(), TxnError> {
        self.member.init()
    }

    fn poll(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Event>, LogError> {
        self.member.poll(records_max, wait)
    }

    fn committed(
        &mut self,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, NextOffset>, LogError> {
        self.member.committed(partitions)
    }

    fn start(&mut self, partition: Partition, from: NextOffset) -> Result<(), LogError> {
        self.member.start(partition, from)
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.member.pause(partitions)
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.member.resume(partitions)
    }

    fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.member.release(partitions)
    }

    fn produce(&mut self, record: OutRecord) -> Result<(), ProduceError> {
        self.member.produce(record)
    }

    fn produce_parts(&mut self, record: OutParts<'_>) -> Result<(), ProduceError> {
        self.member.produce_parts(record)
    }

    fn make_room(&mut self) -> Result<(), TxnError> {
        self.member.make_room()
    }

    fn commit(&mut self, offsets: &[(Partition, NextOffset)]) -> Result<(), TxnError> {
        let began = Instant::now();
        let result = self.member.commit(offsets);
        match &result {
            Ok(()) => self.committed.record(began.elapsed()),
            Err(error) => commits(&self.group, end(error.fault)).record(began.elapsed()),
        }
        result
    }

    fn abort(&mut self) -> Result<(), TxnError> {
        self.member.abort()
    }

    fn leave(&mut self) -> Result<(), LogError> {
        self.member.leave()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use metrics_exporter_prometheus::PrometheusBuilder;
    use semel_schemas::topic::{NextOffset, Partition, TopicName};

    use super::TimedLog;
    use crate::log::{Cleanup, Event, Log, MemberSpec, TopicSpec, sim::SimLog};

    #[test]
    fn commits_are_measured_by_how_they_ended() {
        let topic = TopicName::new("t").unwrap();
        let log = TimedLog(Arc::new(SimLog::default()));
        let spec = TopicSpec {
            name: topic.clone(),
            partitions: 1,
            cleanup: Cleanup::Delete { retention_ms: None },
            replication: None,
            allow_one_broker: true,
        };
        log.create_topic(&spec).unwrap();
        let spec = MemberSpec {
            group: "g".to_owned(),
            topic,
            instance: "i".to_owned(),
            transaction_timeout: Duration::from_secs(10),
            session_timeout: Duration::from_secs(6),
        };
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let mut member = log.join(&spec).unwrap();
            member.init().unwrap();
            let events = member.poll(1, Duration::ZERO).unwrap();
            assert_eq!(events, [Event::Assigned(vec![Partition(0)])]);
            member.start(Partition(0), NextOffset(0)).unwrap();
            member.commit(&[(Partition(0), NextOffset(0))]).unwrap();
            assert!(member.commit(&[]).is_err());
        });
        let text = handle.render();
        for end in ["committed", "fatal"] {
            let line = format!("semel_commit_seconds_count{{group=\"g\",end=\"{end}\"}} 1");
            assert!(text.contains(&line), "{line} is not in:\n{text}");
        }
    }
}
