//! What the properties of the suite are written with: names, records, waiting, and a small lane
//! that copies records exactly once. May not live here: a property.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use semel_schemas::{
    header::Headers,
    record::{OutRecord, Record},
    topic::{NextOffset, Partition, TopicName},
};

use super::Harness;
use crate::log::{
    Cleanup, Event, Isolation, Log, LogError, Member, MemberSpec, ProduceError, Reader, TopicSpec,
    TxnError, TxnFault,
};

/// How long one call may wait on a real log; the simulator never waits.
pub const WAIT: Duration = Duration::from_millis(50);
/// How much time passes between two looks.
pub const TICK: Duration = Duration::from_millis(20);
/// Partition 0.
pub const P0: Partition = Partition(0);
/// Partition 1.
pub const P1: Partition = Partition(1);

/// A fresh topic name.
#[must_use]
pub fn topic_name(h: &dyn Harness, stem: &str) -> TopicName {
    TopicName::new(h.name(stem)).expect("the harness gives legal names")
}

/// Settings of a topic whose records stay.
#[must_use]
pub fn kept(name: &TopicName, partitions: u32) -> TopicSpec {
    TopicSpec {
        name: name.clone(),
        partitions,
        cleanup: Cleanup::Delete { retention_ms: None },
        replication: None,
        allow_one_broker: true,
    }
}

/// Settings of a compacted topic.
#[must_use]
pub fn compacted(name: &TopicName, tombstone_ms: u64) -> TopicSpec {
    TopicSpec { cleanup: Cleanup::Compact { tombstone_ms }, ..kept(name, 1) }
}

/// Creates a topic whose records stay.
#[must_use]
pub fn topic(h: &dyn Harness, stem: &str, partitions: u32) -> TopicName {
    let name = topic_name(h, stem);
    h.log().create_topic(&kept(&name, partitions)).expect("the topic is created");
    name
}

/// A record with key and value.
#[must_use]
pub fn put(topic: &TopicName, partition: Partition, key: &str, value: &str) -> OutRecord {
    OutRecord {
        topic: topic.clone(),
        partition: Some(partition),
        key: Some(key.into()),
        value: Some(value.into()),
        headers: Headers::new(),
    }
}

/// A tombstone.
#[must_use]
pub fn tombstone(topic: &TopicName, partition: Partition, key: &str) -> OutRecord {
    OutRecord { value: None, ..put(topic, partition, key, "") }
}

/// Appends `values` to the partition in one transaction and returns the offsets to commit after
/// each.
pub fn append(
    log: &dyn Log,
    topic: &TopicName,
    partition: Partition,
    values: &[&str],
) -> Vec<NextOffset> {
    let records = values.iter().map(|v| put(topic, partition, v, v)).collect();
    let places = log.append(records).expect("the records are written");
    places.into_iter().map(|(_, offset)| offset.next()).collect()
}

/// A record's value as text; `-` for a tombstone.
#[must_use]
pub fn text(record: &Record) -> String {
    record.value.as_ref().map_or_else(|| "-".to_owned(), |v| String::from_utf8_lossy(v).into())
}

/// The values as text.
#[must_use]
pub fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(text).collect()
}

/// Everything that a fresh reader of this isolation finds in the partition now: from the first
/// offset until its position reaches the end that it was told first.
#[must_use]
pub fn read_all(
    h: &dyn Harness,
    isolation: Isolation,
    topic: &TopicName,
    partition: Partition,
) -> Vec<Record> {
    let mut reader = h.log().reader(isolation).expect("a reader is made");
    let (first, end) = reader.bounds(topic, partition).expect("the bounds are known");
    reader.seek(topic, partition, first).expect("the first offset can be sought");
    let mut found = Vec::new();
    until(h, "the reader's position reaches the end", || {
        found.extend(reader.read(100, WAIT).expect("the reader reads"));
        (reader.position().expect("the position is known") >= end).then_some(())
    });
    found
}

/// The committed records of a partition once there are `count`: a commit is answered before its
/// markers are written.
#[must_use]
pub fn read_at_least(
    h: &dyn Harness,
    topic: &TopicName,
    partition: Partition,
    count: usize,
) -> Vec<Record> {
    until(h, "the markers are written", || {
        let found = read_all(h, Isolation::Committed, topic, partition);
        (found.len() >= count).then_some(found)
    })
}

/// The texts that a reader of committed records finds in partition 0.
#[must_use]
pub fn committed_texts(h: &dyn Harness, topic: &TopicName) -> Vec<String> {
    texts(&read_all(h, Isolation::Committed, topic, P0))
}

/// Asserts that a reader of committed records finds these texts in partition 0. Kafka answers a
/// commit before the transaction's markers are written, so they may take a moment to be seen.
pub fn sees(h: &dyn Harness, topic: &TopicName, expected: &[&str]) {
    let mut found = Vec::new();
    let deadline = h.now() + Duration::from_secs(60);
    while found != expected && h.now() < deadline {
        found = committed_texts(h, topic);
        if found != expected {
            h.pass(TICK);
        }
    }
    assert_eq!(found, expected, "committed in {topic}");
}

/// Asserts that something takes less than `limit`, in one of five tries: a machine that is busy
/// with other things makes any single one slow, and what waits for a timeout is slow always.
pub fn takes_less(limit: Duration, mut took: impl FnMut() -> Duration) {
    let mut all = vec![took()];
    while all.last() >= Some(&limit) && all.len() < 5 {
        all.push(took());
    }
    assert!(all.last() < Some(&limit), "never less than {limit:?}: {all:?}");
}

/// Asserts that an answer is "out of range" and names everything: topic, partition 0, the offset
/// that was asked for, and the two bounds.
pub fn assert_out_of_range(
    answer: &Result<(), LogError>,
    name: &TopicName,
    wrong: NextOffset,
    bounds: (NextOffset, NextOffset),
) {
    let right = matches!(
        answer,
        Err(LogError::OutOfRange { topic, partition: P0, asked, first, end })
            if topic == name && *asked == wrong && (*first, *end) == bounds
    );
    assert!(right, "{name}/0 at {wrong}, bounds {bounds:?}: {answer:?}");
}

/// Reads on until `count` more records came.
#[must_use]
pub fn read_on(h: &dyn Harness, reader: &mut dyn Reader, count: usize) -> Vec<Record> {
    let mut found = Vec::new();
    until(h, "the reader finds its records", || {
        found.extend(reader.read(count - found.len(), WAIT).expect("the reader reads"));
        (found.len() == count).then_some(())
    });
    found
}

/// Tries until there is an answer; time passes in between. Gives up well after a session.
pub fn until<T>(h: &dyn Harness, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let patience = Duration::from_secs(60) + 3 * h.silence().max(h.session());
    let deadline = h.now() + patience;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(h.now() < deadline, "{what}: not within {patience:?}");
        h.pass(TICK);
    }
}

/// Who joins.
#[must_use]
pub fn spec(h: &dyn Harness, group: &str, topic: &TopicName, instance: &str) -> MemberSpec {
    MemberSpec {
        group: group.to_owned(),
        topic: topic.clone(),
        instance: instance.to_owned(),
        transaction_timeout: h.transaction(),
        session_timeout: h.session(),
    }
}

/// A member as an engine would use it: it knows what it owns and what it has committed.
pub struct Lane {
    /// The member itself.
    pub member: Box<dyn Member>,
    /// What it owns, and where reading goes on.
    pub owned: BTreeMap<Partition, NextOffset>,
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("owned", &self.owned).finish_non_exhaustive()
    }
}

impl Lane {
    /// Joins and initialises; owns nothing yet.
    #[must_use]
    pub fn join(h: &dyn Harness, spec: &MemberSpec) -> Self {
        let mut member = h.log().join(spec).expect("the member joins");
        init(h, member.as_mut());
        Self { member, owned: BTreeMap::new() }
    }

    /// Joins a group of its own as its only member, owns all partitions and has started them at
    /// their committed offsets.
    #[must_use]
    pub fn alone(h: &dyn Harness, topic: &TopicName, partitions: u32) -> Self {
        let spec = spec(h, &h.name("group"), topic, &h.name("instance"));
        Self::owner(h, &spec, partitions)
    }

    /// Joins and polls until it owns `partitions` partitions, which it has started.
    #[must_use]
    pub fn owner(h: &dyn Harness, spec: &MemberSpec, partitions: u32) -> Self {
        let mut lane = Self::join(h, spec);
        until(h, "the member owns its partitions", || {
            lane.adopt(h, &mut Vec::new());
            (lane.owned.len() == partitions as usize).then_some(())
        });
        lane
    }

    /// One poll for `max` records.
    ///
    /// # Panics
    /// If the poll fails.
    pub fn poll(&mut self, max: usize) -> Vec<Event> {
        self.member.poll(max, WAIT).expect("the member polls")
    }

    /// One poll: takes what is assigned and starts it at its committed offset, lets go what is
    /// revoked or lost, and adds records to `records`.
    pub fn adopt(&mut self, h: &dyn Harness, records: &mut Vec<Record>) {
        for event in self.poll(100) {
            match event {
                Event::Assigned(partitions) => self.start(h, &partitions),
                Event::Revoked(partitions) | Event::Lost(partitions) => self.release(&partitions),
                Event::Record(record) => records.push(record),
                Event::End(_) => {}
            }
        }
    }

    /// Starts partitions at their committed offsets, or at 0.
    pub fn start(&mut self, h: &dyn Harness, partitions: &[Partition]) {
        let committed = until(h, "the committed offsets are known and stable", || {
            self.member.committed(partitions).ok()
        });
        for &partition in partitions {
            let from = committed.get(&partition).copied().unwrap_or(NextOffset::ZERO);
            self.member.start(partition, from).expect("the partition starts");
            assert!(self.owned.insert(partition, from).is_none(), "{partition} is assigned twice");
        }
    }

    /// Lets partitions go.
    pub fn release(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            assert!(self.owned.remove(partition).is_some(), "{partition} was not ours to lose");
        }
        self.member.release(partitions).expect("the partitions are released");
    }

    /// Polls until `count` records came.
    #[must_use]
    pub fn records(&mut self, h: &dyn Harness, count: usize) -> Vec<Record> {
        let mut found = Vec::new();
        until(h, "the member finds its records", || {
            self.adopt(h, &mut found);
            (found.len() >= count).then_some(())
        });
        assert_eq!(found.len(), count, "more records than there are: {:?}", texts(&found));
        found
    }

    /// Adds a record to the transaction, waiting out back-pressure.
    pub fn produce(&mut self, h: &dyn Harness, record: &OutRecord) {
        until(h, "the record is taken", || match self.member.produce(record.clone()) {
            Err(ProduceError::Full) => None,
            answer => {
                answer.expect("the record is taken");
                Some(())
            }
        });
    }

    /// Commits; what may be tried again is tried again.
    ///
    /// # Errors
    /// Whatever is not [`TxnFault::Retry`].
    pub fn commit(
        &mut self,
        h: &dyn Harness,
        offsets: &[(Partition, NextOffset)],
    ) -> Result<(), TxnError> {
        until(h, "the commit is answered", || match self.member.commit(offsets) {
            Err(e) if e.fault == TxnFault::Retry => None,
            answer => Some(answer),
        })
    }

    /// One cycle of an engine: polls, copies every record to partition 0 of `out`, commits. A
    /// known abort (a rebalance came in between) takes the inputs back. Returns what was let go.
    pub fn copy(&mut self, h: &dyn Harness, out: &TopicName) -> BTreeSet<Partition> {
        let mut moved = BTreeMap::new();
        let mut gone = BTreeSet::new();
        for event in self.poll(3) {
            match event {
                Event::Assigned(partitions) => self.start(h, &partitions),
                Event::Revoked(partitions) | Event::Lost(partitions) => gone.extend(partitions),
                Event::Record(record) => {
                    let value = text(&record);
                    self.produce(h, &put(out, P0, &value, &value));
                    moved.insert(record.partition, record.next());
                }
                Event::End(_) => {}
            }
        }
        if !moved.is_empty() {
            let offsets: Vec<_> = moved.iter().map(|(&p, &o)| (p, o)).collect();
            match self.commit(h, &offsets) {
                Ok(()) => self.owned.extend(moved),
                Err(e) => self.take_back(&e, &gone),
            }
        }
        if !gone.is_empty() {
            self.release(&gone.iter().copied().collect::<Vec<_>>());
        }
        gone
    }

    fn take_back(&mut self, error: &TxnError, gone: &BTreeSet<Partition>) {
        assert_eq!(error.fault, TxnFault::Abort, "only a rebalance was in the way: {error}");
        self.member.abort().expect("the transaction is aborted");
        for (&partition, &from) in self.owned.iter().filter(|(p, _)| !gone.contains(p)) {
            self.member.start(partition, from).expect("the partition starts again");
        }
    }
}

/// Initialises the producer; what may be tried again is tried again.
pub fn init(h: &dyn Harness, member: &mut dyn Member) {
    until(h, "the producer is initialised", || match member.init() {
        Ok(()) => Some(()),
        Err(e) => {
            assert_eq!(e.fault, TxnFault::Retry, "the producer cannot be initialised: {e}");
            None
        }
    });
}

/// Two members over four partitions, of which the first had all and was told to hand two over; it
/// was killed before it did, and its restarted self has joined. How many the two own in the end,
/// if `patience` is how long they are given.
pub fn owned_after_a_kill_in_a_hand_over(h: &dyn Harness, patience: Duration) -> usize {
    let source = topic(h, "source", 4);
    let group = h.name("group");
    let same = spec(h, &group, &source, &h.name("a"));
    let mut a = Lane::owner(h, &same, 4);
    let mut b = Lane::join(h, &spec(h, &group, &source, &h.name("b")));
    until(h, "the first is told", || {
        b.adopt(h, &mut Vec::new());
        a.poll(10).into_iter().find(|e| matches!(e, Event::Revoked(_)))
    });
    // The second takes what it was given, if only nothing: a client that has not yet cannot join
    // again, and every other waits for it.
    for _ in 0..40 {
        b.adopt(h, &mut Vec::new());
    }
    // As a kill does: nothing is said to anyone. A drop would end the client in good order.
    std::mem::forget(a);
    let mut a = Lane::join(h, &same);
    let began = h.now();
    loop {
        a.adopt(h, &mut Vec::new());
        b.adopt(h, &mut Vec::new());
        h.pass(Duration::from_millis(10));
        let owned = a.owned.len() + b.owned.len();
        if owned == 4 || h.now() - began > patience {
            return owned;
        }
    }
}
