//! A log in memory that is deterministic and as weak as Kafka, no stronger.
//!
//! Lives here: a cluster ([`SimLog`]) with its clock, and the clients of it. May not live here: a
//! wall clock, randomness, threads, waiting. `poll` and `read` answer at once, whatever `wait`
//! says; time moves only in [`SimLog::advance`].
//!
//! Each line of "How weak Kafka is" is shown by `conformance::weak` or, where only a knob can show
//! it on demand, by the tests beside this file. A client that is dropped says nothing to the
//! cluster: dropping is how a process dies.
//!
//! Where this log is not Kafka: a rebalance takes no time of its own, only as long as members take
//! to poll and release; records are in the log when `produce` returns; nothing is ever lost.

mod cluster;
mod group;
mod member;
mod partition;
mod producer;
mod reader;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use semel_schemas::{
    record::OutRecord,
    topic::{NextOffset, Offset, Partition, TopicName},
};

use self::{cluster::Cluster, partition::PartitionLog};
pub use self::{
    cluster::{MarkerTarget, RECORD_MAX},
    group::Membership,
    member::{LateCommit, SimMember},
    producer::SimProducer,
    reader::SimReader,
};
use super::{
    Cleanup, Isolation, Log, LogError, Member, MemberSpec, Reader, TopicInfo, TopicSpec, TxnError,
    TxnFault,
};

/// When a member that is alive hears of a new generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generations {
    /// At once: librdkafka's own thread joins again, so the metadata that a commit reads is fresh.
    #[default]
    Followed,
    /// At its next poll: the window between the coordinator's new generation and the client's, in
    /// which the commit of an owner is refused (`ILLEGAL_GENERATION`).
    AtPoll,
}

/// The log. Clones are handles of one cluster.
#[derive(Clone, Default)]
pub struct SimLog {
    shared: Shared,
}

/// The cluster behind its lock, and what clients need to know of the knobs.
#[derive(Clone, Default)]
struct Shared {
    cluster: Arc<Mutex<Cluster>>,
    at_poll: Arc<AtomicBool>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Cluster> {
        // A test that failed while it held the lock has failed already.
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn generations(&self) -> Generations {
        if self.at_poll.load(Ordering::Relaxed) {
            Generations::AtPoll
        } else {
            Generations::Followed
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl fmt::Debug for SimLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimLog").finish_non_exhaustive()
    }
}

/// Whole milliseconds.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Refuses a position that the partition does not hold; its end is a position.
fn in_range(
    log: &PartitionLog,
    (topic, partition): (&TopicName, Partition),
    asked: NextOffset,
) -> Result<(), LogError> {
    if (log.first()..=log.end()).contains(&asked.0) {
        return Ok(());
    }
    Err(LogError::OutOfRange {
        topic: topic.clone(),
        partition,
        asked,
        first: NextOffset(log.first()),
        end: NextOffset(log.end()),
    })
}

impl SimLog {
    /// An empty cluster whose clock stands at `now_ms` (milliseconds since 1970).
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        let log = Self::default();
        log.shared.lock().now_ms = now_ms;
        log
    }

    /// The cluster's clock, milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.shared.lock().now_ms
    }

    /// Time passes: transactions beyond their timeout are aborted, members that did not poll for
    /// their session are given up, offsets of groups that were empty for seven days are forgotten.
    pub fn advance(&self, ms: u64) {
        self.shared.lock().advance(ms);
    }

    /// How members that join from now on are known to their groups.
    pub fn set_membership(&self, membership: Membership) {
        self.shared.lock().membership = membership;
    }

    /// New members no longer look for partitions that are nobody's: the guard is off.
    pub fn leave_orphans(&self) {
        self.shared.lock().leave_orphans = true;
    }

    /// When members hear of a new generation.
    pub fn set_generations(&self, generations: Generations) {
        self.shared.at_poll.store(generations == Generations::AtPoll, Ordering::Relaxed);
    }

    /// From now on the markers of transactions that end (those of [`Log::append`] excepted) stay
    /// on their way until [`SimLog::deliver_marker`] or [`SimLog::release_markers`]. Their
    /// producer can begin no other transaction before they have all arrived.
    pub fn hold_markers(&self) {
        self.shared.lock().holding = true;
    }

    /// Where the markers on their way go to, in the order in which they were decided.
    #[must_use]
    pub fn held_markers(&self) -> Vec<MarkerTarget> {
        self.shared.lock().held()
    }

    /// Delivers the `at`-th marker of [`SimLog::held_markers`]; `false` if there is none.
    pub fn deliver_marker(&self, at: usize) -> bool {
        self.shared.lock().deliver(at)
    }

    /// Delivers all markers and holds no more.
    pub fn release_markers(&self) {
        let mut cluster = self.shared.lock();
        cluster.holding = false;
        while cluster.deliver(0) {}
    }

    /// Compacts a partition; nothing happens if the topic is not compacted.
    ///
    /// # Errors
    /// [`LogError`] if there is no such partition.
    pub fn compact(&self, topic: &TopicName, partition: Partition) -> Result<(), LogError> {
        let mut cluster = self.shared.lock();
        let now_ms = cluster.now_ms;
        let (log, cleanup) = cluster.partition_mut(topic, partition)?;
        if let Cleanup::Compact { tombstone_ms } = cleanup {
            log.compact(now_ms, tombstone_ms);
        }
        Ok(())
    }

    /// Deletes what lies before `before` in a partition, as retention or `DeleteRecords` does.
    ///
    /// # Errors
    /// [`LogError`] if there is no such partition.
    pub fn expire(
        &self,
        topic: &TopicName,
        partition: Partition,
        before: NextOffset,
    ) -> Result<(), LogError> {
        self.shared.lock().partition_mut(topic, partition)?.0.expire(before.0);
        Ok(())
    }

    /// Deletes what is older than its topic's retention, everywhere.
    pub fn expire_old(&self) {
        self.shared.lock().expire_old();
    }

    /// Deletes a topic, its records and the groups' offsets for it.
    ///
    /// # Errors
    /// [`LogError::NoTopic`].
    pub fn delete_topic(&self, topic: &TopicName) -> Result<(), LogError> {
        self.shared.lock().delete(topic)
    }

    /// A member by its own type, which knows more than the trait: [`SimMember::commit_late`].
    ///
    /// # Errors
    /// [`LogError`] as for [`Log::join`].
    pub fn member(&self, spec: &MemberSpec) -> Result<SimMember, LogError> {
        SimMember::new(self.shared.clone(), spec)
    }

    /// The request of [`SimMember::commit_late`] arrives: it ends whatever transaction its producer
    /// has open now, or is refused because the producer was initialised since.
    ///
    /// # Errors
    /// [`TxnError`] if it comes to nothing.
    pub fn deliver_late(&self, late: LateCommit) -> Result<(), TxnError> {
        self.shared.lock().end(late.producer, late.epoch, partition::Verdict::Commit)
    }

    /// How many markers have arrived, those of [`Log::append`] included: as long as it stands, no
    /// reader of committed records can see anything new.
    #[must_use]
    pub fn arrivals(&self) -> u64 {
        self.shared.lock().arrivals
    }

    /// Whether something is decided that a reader of committed records does not see yet: a marker
    /// is on its way, or an open transaction stands before a committed record of its partition (as
    /// that of a producer which died does until it times out or is fenced).
    #[must_use]
    pub fn hides(&self) -> bool {
        self.shared.lock().hides()
    }

    /// A bare producer under this id, initialised: fences whoever bears it.
    ///
    /// # Errors
    /// [`TxnError`] while markers of its last transaction are on their way.
    pub fn raw(&self, transactional_id: &str, timeout: Duration) -> Result<SimProducer, TxnError> {
        SimProducer::new(self.shared.clone(), transactional_id, millis(timeout))
    }
}

impl Log for SimLog {
    fn describe(&self) -> String {
        "a simulated cluster".to_owned()
    }

    fn topic(&self, name: &TopicName) -> Result<Option<TopicInfo>, LogError> {
        Ok(self.shared.lock().info(name))
    }

    fn topics(&self) -> Result<Vec<TopicName>, LogError> {
        Ok(self.shared.lock().names())
    }

    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, LogError> {
        self.shared.lock().create(spec)
    }

    fn join(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, LogError> {
        Ok(Box::new(self.member(spec)?))
    }

    fn reader(&self, isolation: Isolation) -> Result<Box<dyn Reader>, LogError> {
        Ok(Box::new(SimReader::new(self.shared.clone(), isolation)))
    }

    fn committed(
        &self,
        group: &str,
        topic: &TopicName,
    ) -> Result<BTreeMap<Partition, NextOffset>, LogError> {
        let cluster = self.shared.lock();
        let no = cluster.topic_no(topic)?;
        let Some(group) = cluster.known_group(group) else { return Ok(BTreeMap::new()) };
        let partitions = (0..cluster.partitions(no)).map(Partition);
        Ok(partitions.filter_map(|p| group.offset(no, p.0).map(|next| (p, next))).collect())
    }

    fn append(&self, records: Vec<OutRecord>) -> Result<Vec<(Partition, Offset)>, LogError> {
        self.shared.lock().append(records)
    }

    fn fence(&self, instance: &str) -> Result<(), LogError> {
        match self.shared.lock().init(instance, 1_000) {
            // Markers that are held are on their way all the same.
            Ok(_) | Err(TxnError { fault: TxnFault::Retry, .. }) => Ok(()),
            Err(error) => Err(LogError::Unavailable(error.text)),
        }
    }
}
