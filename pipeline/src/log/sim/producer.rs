//! The client side of a transactional producer, shared by members and by bare producers.
//!
//! As with librdkafka, a record is taken before anything is known of its fate: what went wrong
//! with it (a fenced producer, a missing topic) is said by the commit.

use semel_schemas::{
    record::OutRecord,
    topic::{NextOffset, Partition, TopicName},
};

use super::{
    Shared,
    cluster::{Cluster, ProducerNo, RECORD_MAX, fault},
    partition::Verdict,
};
use crate::log::{ProduceError, TxnError, TxnFault, conformance::RawProducer};

/// A producer as its process knows it.
#[derive(Debug, Default)]
pub(super) struct Producer {
    session: Option<(ProducerNo, u32)>,
    broken: Option<TxnError>,
}

impl Producer {
    pub(super) fn init(
        &mut self,
        cluster: &mut Cluster,
        id: &str,
        timeout_ms: u64,
    ) -> Result<(), TxnError> {
        self.session = None;
        self.session = Some(cluster.init(id, timeout_ms)?);
        self.broken = None;
        Ok(())
    }

    /// Number and epoch, if the producer was initialised and nothing is known to be wrong.
    pub(super) fn session(&self) -> Result<(ProducerNo, u32), TxnError> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        self.session.ok_or_else(|| {
            fault(TxnFault::Fatal, "the producer was not initialised: call `init` first")
        })
    }

    /// Remembers what is wrong with the transaction, unless it may be tried again.
    pub(super) fn note<T>(&mut self, answer: Result<T, TxnError>) -> Result<T, TxnError> {
        if let Err(e) = &answer
            && e.fault != TxnFault::Retry
        {
            self.broken = Some(e.clone());
        }
        answer
    }

    pub(super) fn produce(
        &mut self,
        cluster: &mut Cluster,
        record: OutRecord,
    ) -> Result<(), ProduceError> {
        let size = record.size();
        if size > RECORD_MAX {
            return Err(ProduceError::TooLarge { topic: record.topic, size, limit: RECORD_MAX });
        }
        let (no, epoch) = match self.session() {
            Ok(session) => session,
            // Fenced or not, the client takes it and tells at the commit.
            Err(e) if e.fault != TxnFault::Fatal => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        match cluster.produce(no, epoch, record) {
            Err(e) if e.fault == TxnFault::Retry => Err(ProduceError::Full),
            answer => {
                let _told_by_the_commit = self.note(answer);
                Ok(())
            }
        }
    }

    pub(super) fn commit(&mut self, cluster: &mut Cluster) -> Result<(), TxnError> {
        let (no, epoch) = self.session()?;
        let answer = cluster.end(no, epoch, Verdict::Commit);
        self.note(answer)
    }

    pub(super) fn abort(&mut self, cluster: &mut Cluster) -> Result<(), TxnError> {
        if self.broken.as_ref().is_some_and(|e| e.fault == TxnFault::Abort) {
            self.broken = None;
        }
        let (no, epoch) = self.session()?;
        let answer = cluster.end(no, epoch, Verdict::Abort);
        self.note(answer)
    }
}

/// A producer that goes around [`crate::log::Member`]: what an engine with a bug could do.
#[derive(Debug)]
pub struct SimProducer {
    shared: Shared,
    producer: Producer,
}

impl SimProducer {
    pub(super) fn new(shared: Shared, id: &str, timeout_ms: u64) -> Result<Self, TxnError> {
        let mut producer = Producer::default();
        producer.init(&mut shared.lock(), id, timeout_ms)?;
        Ok(Self { shared, producer })
    }
}

impl RawProducer for SimProducer {
    fn produce(&mut self, record: OutRecord) -> Result<(), ProduceError> {
        self.producer.produce(&mut self.shared.lock(), record)
    }

    fn send_offsets(
        &mut self,
        group: &str,
        topic: &TopicName,
        offsets: &[(Partition, NextOffset)],
    ) -> Result<(), TxnError> {
        let mut cluster = self.shared.lock();
        let session = self.producer.session()?;
        let topic = cluster.topic_no(topic).map_err(|e| fault(TxnFault::Abort, e.to_string()))?;
        let group = cluster.group_no(group);
        let offsets: Vec<_> = offsets.iter().map(|&(p, next)| (p.0, next)).collect();
        // Generation -1 and no member id: Kafka checks nothing.
        let answer = cluster.send_offsets(session, (group, topic), &offsets, |_| Ok(()));
        self.producer.note(answer)
    }

    fn commit(&mut self) -> Result<(), TxnError> {
        self.producer.commit(&mut self.shared.lock())
    }

    fn abort(&mut self) -> Result<(), TxnError> {
        self.producer.abort(&mut self.shared.lock())
    }
}
