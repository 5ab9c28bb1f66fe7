//! The simulated log against the suite, and what only its knobs can show on demand.

use std::{cell::Cell, time::Duration};

use semel_schemas::topic::{NextOffset, Partition, TopicName};

use super::{Generations, MarkerTarget, Membership, RECORD_MAX, SimLog};
use crate::log::{
    Isolation, Log, TopicSpec, TxnFault,
    conformance::{
        Harness, RawProducer, Weak,
        kit::{
            Lane, P0, P1, WAIT, append, committed_texts, compacted, kept,
            owned_after_a_kill_in_a_hand_over, put, spec, texts, topic, topic_name,
        },
    },
};

/// A cluster and a counter for names.
#[derive(Debug, Default)]
struct Sim {
    log: SimLog,
    names: Cell<u32>,
}

impl Harness for Sim {
    fn log(&self) -> &dyn Log {
        &self.log
    }
    fn restart(&mut self) {
        // The processes' memory was in the clients, which the test has dropped.
        self.log = self.log.clone();
    }
    fn now(&self) -> Duration {
        Duration::from_millis(self.log.now_ms())
    }
    fn pass(&self, time: Duration) {
        self.log.advance(super::millis(time));
    }
    fn name(&self, stem: &str) -> String {
        self.names.set(self.names.get() + 1);
        format!("{stem}-{}", self.names.get())
    }
    fn session(&self) -> Duration {
        Duration::from_secs(6)
    }
    fn transaction(&self) -> Duration {
        Duration::from_secs(10)
    }
    fn too_large(&self) -> usize {
        RECORD_MAX + 1
    }
    fn compact(&self, topic: &TopicName, partition: Partition) {
        self.log.compact(topic, partition).unwrap();
    }
    fn expire(&self, topic: &TopicName, partition: Partition, before: NextOffset) {
        self.log.expire(topic, partition, before).unwrap();
    }
    fn delete_topic(&self, topic: &TopicName) {
        self.log.delete_topic(topic).unwrap();
    }
}

impl Weak for Sim {
    fn raw(&self, transactional_id: &str) -> Box<dyn RawProducer> {
        Box::new(self.log.raw(transactional_id, self.transaction()).unwrap())
    }
}

mod every_log {
    use super::Sim;
    crate::log_conformance!(Sim::default());
    pub(super) const NAMES: &[&str] = PROPERTIES;
}

mod as_weak_as_kafka {
    use super::Sim;
    crate::log_weakness!(Sim::default());
    pub(super) const NAMES: &[&str] = PROPERTIES;
}

/// A property that stands in a file of the suite but in no list would never run.
#[test]
fn every_property_of_the_suite_is_run() {
    let files = [
        include_str!("../conformance/topics.rs"),
        include_str!("../conformance/reading.rs"),
        include_str!("../conformance/compaction.rs"),
        include_str!("../conformance/transactions.rs"),
        include_str!("../conformance/groups.rs"),
        include_str!("../conformance/offsets.rs"),
        include_str!("../conformance/weak.rs"),
    ];
    let mut written: Vec<&str> = files
        .iter()
        .flat_map(|file| file.lines())
        .filter_map(|line| line.strip_prefix("pub fn ")?.split('(').next())
        .collect();
    let mut run = [every_log::NAMES, as_weak_as_kafka::NAMES].concat();
    written.sort_unstable();
    run.sort_unstable();
    assert_eq!(written, run);
}

/// KAFKA-10167, trap 26: the group's offset is past a transaction while its marker has not reached
/// the changelog: a new owner that restores to the last stable offset loses the state; the high
/// watermark of an uncommitted reader says how far it has to wait.
#[test]
fn the_groups_offset_may_be_past_what_the_changelog_shows() {
    let h = Sim::default();
    let (source, changelog) = (topic(&h, "source", 1), topic_name(&h, "changelog"));
    h.log.create_topic(&compacted(&changelog, 1000)).unwrap();
    let nexts = append(&h.log, &source, P0, &["a"]);
    let (group, old) = (h.name("group"), h.name("old"));
    let mut owner = Lane::owner(&h, &spec(&h, &group, &source, &old), 1);
    h.log.hold_markers();
    owner.produce(&h, &put(&changelog, P0, "k", "state"));
    owner.commit(&h, &[(P0, nexts[0])]).unwrap();
    let to_changelog = MarkerTarget::Partition(changelog.clone(), P0);
    let to_group = MarkerTarget::Offsets(group.clone());
    assert_eq!(h.log.held_markers(), [to_changelog.clone(), to_group]);
    let waits = owner.member.committed(&[P0]);
    assert!(waits.is_err(), "the offset is not stable yet: {waits:?}");

    assert!(h.log.deliver_marker(1));
    assert_eq!(h.log.held_markers(), [to_changelog]);
    owner.member.leave().unwrap();
    let heir = Lane::owner(&h, &spec(&h, &group, &source, &h.name("new")), 1);
    assert_eq!(heir.owned.get(&P0), Some(&nexts[0]), "the group's offset is past the record");
    let bounds = |isolation| h.log.reader(isolation).unwrap().bounds(&changelog, P0).unwrap().1;
    assert!(committed_texts(&h, &changelog).is_empty(), "and the state is not there");
    assert_eq!(bounds(Isolation::Committed), NextOffset(0));
    assert_eq!(bounds(Isolation::Uncommitted), NextOffset(1));

    h.log.release_markers();
    assert_eq!(committed_texts(&h, &changelog), ["state"]);
    assert!(h.log.held_markers().is_empty() && !h.log.deliver_marker(0));
}

/// A transaction whose producer died stays open before what others commit behind it: decided, and
/// not visible, without any marker on its way.
#[test]
fn an_open_transaction_hides_what_is_committed_behind_it() {
    let h = Sim::default();
    let (source, out) = (topic(&h, "source", 1), topic(&h, "out", 1));
    let nexts = append(&h.log, &source, P0, &["a"]);
    let mut dead = h.raw("dead");
    dead.produce(put(&out, P0, "k", "never said")).unwrap();
    assert!(!h.log.hides(), "an open transaction alone hides nothing");
    let mut lane = Lane::alone(&h, &source, 1);
    lane.produce(&h, &put(&out, P0, "k", "said"));
    lane.commit(&h, &[(P0, nexts[0])]).unwrap();
    assert!(committed_texts(&h, &out).is_empty());
    assert!(h.log.held_markers().is_empty() && h.log.hides());

    drop(h.raw("dead"));
    assert_eq!(committed_texts(&h, &out), ["said"]);
    assert!(!h.log.hides());
}

/// Trap 42: while markers of its last transaction are on their way, a producer can neither be
/// initialised nor write; both may be tried again, and succeed once the markers are there.
#[test]
fn a_producer_waits_for_its_own_markers() {
    let h = Sim::default();
    let (source, out) = (topic(&h, "source", 1), topic(&h, "out", 2));
    let nexts = append(&h.log, &source, P0, &["a", "b"]);
    let mut lane = Lane::alone(&h, &source, 1);
    h.log.hold_markers();
    lane.produce(&h, &put(&out, P0, "k", "0"));
    lane.produce(&h, &put(&out, P1, "k", "1"));
    lane.commit(&h, &[(P0, nexts[0])]).unwrap();
    assert!(lane.member.produce(put(&out, P0, "k", "2")).is_err());
    assert_eq!(lane.member.commit(&[(P0, nexts[1])]).unwrap_err().fault, TxnFault::Retry);
    assert_eq!(lane.member.init().unwrap_err().fault, TxnFault::Retry);
    h.log.deliver_marker(1);
    assert!(committed_texts(&h, &out).is_empty(), "partition 1 came first");
    h.log.release_markers();
    lane.member.init().unwrap();
    lane.produce(&h, &put(&out, P0, "k", "2"));
    lane.commit(&h, &[(P0, nexts[1])]).unwrap();
    assert_eq!(committed_texts(&h, &out), ["0", "2"]);
}

/// Traps 31 and 43: without static membership a restart waits for its own dead session.
#[test]
fn a_dynamic_member_waits_for_its_own_session() {
    for (membership, waits) in [(Membership::Static, false), (Membership::Dynamic, true)] {
        let h = Sim::default();
        h.log.set_membership(membership);
        let source = topic(&h, "source", 2);
        let spec = spec(&h, "group", &source, "instance");
        drop(Lane::owner(&h, &spec, 2));
        let began = h.now();
        drop(Lane::owner(&h, &spec, 2));
        assert_eq!(h.now() - began >= h.session(), waits, "{membership:?}");
    }
}

/// Trap 2: in the window in which the coordinator has a new generation and the member does not
/// know it, an owner's commit is refused and nothing of it is seen; after a poll it may go on.
#[test]
fn an_owner_that_missed_a_generation_is_refused_until_it_polls() {
    let h = Sim::default();
    h.log.set_generations(Generations::AtPoll);
    let (source, out) = (topic(&h, "source", 2), topic(&h, "out", 1));
    let nexts = append(&h.log, &source, P0, &["a"]);
    let mut a = Lane::owner(&h, &spec(&h, "group", &source, "a"), 2);
    a.produce(&h, &put(&out, P0, "k", "refused"));
    let mut b = Lane::join(&h, &spec(&h, "group", &source, "b"));
    assert!(b.poll(0).is_empty());
    let error = a.commit(&h, &[(P0, nexts[0])]).unwrap_err();
    assert_eq!(error.fault, TxnFault::Abort, "{error}");
    a.member.abort().unwrap();
    let _revoked = a.poll(0);
    a.produce(&h, &put(&out, P0, "k", "accepted"));
    a.commit(&h, &[(P0, nexts[0])]).unwrap();
    assert_eq!(committed_texts(&h, &out), ["accepted"]);
}

/// Trap 27: offsets of a group that was empty for seven days are gone; those of a group with a
/// member stay.
#[test]
fn offsets_of_an_empty_group_expire_after_seven_days() {
    let h = Sim::default();
    let source = topic(&h, "source", 1);
    let nexts = append(&h.log, &source, P0, &["a"]);
    let mut lane = Lane::owner(&h, &spec(&h, "group", &source, "a"), 1);
    lane.commit(&h, &[(P0, nexts[0])]).unwrap();
    let offsets = || h.log.committed("group", &source).unwrap().len();
    for _ in 0..8 * 24 * 3600 / 5 {
        h.pass(Duration::from_secs(5));
        lane.poll(0);
    }
    assert_eq!(offsets(), 1, "the group had a member all the time");
    lane.member.leave().unwrap();
    h.pass(Duration::from_secs(7 * 24 * 3600 - 1));
    assert_eq!(offsets(), 1);
    h.pass(Duration::from_secs(1));
    assert_eq!(offsets(), 0);
}

/// Trap 37: a tombstone is seen until a compaction after its time; a store that slept longer never
/// hears of it. An open transaction is not touched, nor what it may yet supersede.
#[test]
fn compaction_stops_at_the_last_stable_offset() {
    let h = Sim::default();
    let name = topic_name(&h, "compacted");
    h.log.create_topic(&compacted(&name, 1000)).unwrap();
    append(&h.log, &name, P0, &["a", "a", "b"]);
    let mut raw = h.raw("open");
    raw.produce(put(&name, P0, "a", "open")).unwrap();
    append(&h.log, &name, P0, &["b", "b"]);
    h.compact(&name, P0);
    assert_eq!(committed_texts(&h, &name), ["a", "b"]);
    raw.commit().unwrap();
    assert_eq!(committed_texts(&h, &name), ["a", "b", "open", "b", "b"]);
    h.compact(&name, P0);
    assert_eq!(committed_texts(&h, &name), ["open", "b"]);
}

/// Retention goes by age and by topic, and never touches what is not decided.
#[test]
fn retention_deletes_what_is_old() {
    let h = Sim::default();
    let (name, ever) = (topic_name(&h, "bounded"), topic(&h, "ever", 1));
    let cleanup = crate::log::Cleanup::Delete { retention_ms: Some(1000) };
    h.log.create_topic(&TopicSpec { cleanup, ..kept(&name, 1) }).unwrap();
    append(&h.log, &name, P0, &["old"]);
    append(&h.log, &ever, P0, &["old"]);
    h.pass(Duration::from_millis(800));
    append(&h.log, &name, P0, &["young"]);
    h.pass(Duration::from_millis(800));
    h.log.expire_old();
    assert_eq!(committed_texts(&h, &name), ["young"]);
    assert_eq!(committed_texts(&h, &ever), ["old"]);
    let mut raw = h.raw("open");
    raw.produce(put(&name, P0, "k", "open")).unwrap();
    h.pass(Duration::from_secs(5));
    h.log.expire_old();
    raw.commit().unwrap();
    assert_eq!(committed_texts(&h, &name), ["open"]);
}

/// What a broker refuses after the client took it (no such topic, a record without a key for a
/// compacted topic) breaks the transaction: the commit says so, the next one works.
#[test]
fn a_record_that_the_broker_refuses_breaks_its_transaction() {
    let h = Sim::default();
    let (source, name) = (topic(&h, "source", 1), topic_name(&h, "compacted"));
    h.log.create_topic(&compacted(&name, 1000)).unwrap();
    let nexts = append(&h.log, &source, P0, &["a"]);
    let mut lane = Lane::alone(&h, &source, 1);
    let keyless = semel_schemas::record::OutRecord { key: None, ..put(&name, P0, "", "v") };
    let nowhere = put(&topic_name(&h, "nowhere"), P0, "k", "v");
    for broken in [keyless, nowhere, put(&name, P1, "k", "no such partition")] {
        lane.produce(&h, &put(&name, P0, "k", "with it"));
        lane.produce(&h, &broken);
        lane.produce(&h, &put(&name, P0, "k", "after it"));
        let error = lane.commit(&h, &[(P0, nexts[0])]).unwrap_err();
        assert_eq!(error.fault, TxnFault::Abort, "{error}");
        lane.member.abort().unwrap();
    }
    assert!(h.log.committed("group", &source).unwrap().is_empty());
    lane.produce(&h, &put(&name, P0, "k", "alone"));
    lane.commit(&h, &[(P0, nexts[0])]).unwrap();
    assert_eq!(committed_texts(&h, &name), ["alone"]);
}

/// The order of calls is `init` first: without it nothing is written.
#[test]
fn a_member_that_was_not_initialised_cannot_write() {
    let h = Sim::default();
    let source = topic(&h, "source", 1);
    let mut member = h.log.join(&spec(&h, "group", &source, "a")).unwrap();
    assert!(member.produce(put(&source, P0, "k", "v")).is_err());
    let error = member.commit(&[(P0, NextOffset::ZERO)]).unwrap_err();
    assert_eq!(error.fault, TxnFault::Fatal, "{error}");
    assert!(committed_texts(&h, &source).is_empty());
}

/// Members come, die and go in every order: partitions are balanced within one, sticky, and never
/// at two members that believe to own them, except a zombie that has not polled.
#[test]
fn assignments_are_balanced_and_exclusive() {
    let h = Sim::default();
    let source = topic(&h, "source", 7);
    let mut lanes: Vec<Lane> = Vec::new();
    for (step, members) in [1, 2, 3, 4, 3, 2, 3, 1, 5, 8].into_iter().enumerate() {
        while lanes.len() > members {
            lanes.remove(step % lanes.len()).member.leave().unwrap();
        }
        while lanes.len() < members {
            lanes.push(Lane::join(&h, &spec(&h, "group", &source, &h.name("member"))));
        }
        for _ in 0..4 {
            for lane in &mut lanes {
                lane.adopt(&h, &mut Vec::new());
            }
            let mut owned: Vec<_> = lanes.iter().flat_map(|l| l.owned.keys()).collect();
            owned.sort();
            assert!(owned.is_sorted_by(|a, b| a < b), "a partition at two members: {lanes:?}");
        }
        let counts: Vec<usize> = lanes.iter().map(|l| l.owned.len()).collect();
        assert_eq!(counts.iter().sum::<usize>(), 7, "{counts:?}");
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
    }
}

/// A reader or member that stands where retention struck is told, and skips nothing.
#[test]
fn retention_in_front_of_a_reader_is_an_error() {
    let h = Sim::default();
    let source = topic(&h, "source", 1);
    let nexts = append(&h.log, &source, P0, &["a", "b", "c"]);
    let mut lane = Lane::alone(&h, &source, 1);
    let mut reader = h.log.reader(Isolation::Committed).unwrap();
    reader.seek(&source, P0, NextOffset::ZERO).unwrap();
    assert_eq!(texts(&reader.read(1, WAIT).unwrap()), ["a"]);
    h.expire(&source, P0, nexts[1]);
    for error in [reader.read(1, WAIT).unwrap_err(), lane.member.poll(1, WAIT).unwrap_err()] {
        assert!(error.to_string().contains("outside of what the log holds (2 to 4)"), "{error}");
    }
}

/// Trap 29: nothing brings the same partition numbers of two topics to the same member: which is
/// where depends on who came when. (So a stage reads one topic, and a member names only one.)
#[test]
fn partition_numbers_of_two_topics_are_not_at_one_member() {
    let h = Sim::default();
    let owners = |order: [&'static str; 3]| {
        let source = topic(&h, "source", 4);
        let group = h.name("group");
        let mut lanes = Vec::new();
        for instance in order {
            lanes.push((instance, Lane::join(&h, &spec(&h, &group, &source, instance))));
            for _ in 0..3 {
                lanes.iter_mut().for_each(|(_, lane)| lane.adopt(&h, &mut Vec::new()));
            }
        }
        let at = |p| lanes.iter().find(|(_, l)| l.owned.contains_key(&Partition(p))).unwrap().0;
        [0, 1, 2, 3].map(at)
    };
    let (one, two) = (owners(["a", "b", "c"]), owners(["c", "b", "a"]));
    assert!(one.iter().zip(two).any(|(a, b)| *a != b), "{one:?} {two:?}");
}

/// Trap 31 (KIP-345): a static member that comes back is no rebalance: the others' generation
/// stays, and so do their partitions. (A dynamic one is, and an owner that missed it is refused.)
#[test]
fn a_static_restart_disturbs_nobody() {
    for (membership, disturbs) in [(Membership::Static, false), (Membership::Dynamic, true)] {
        let h = Sim::default();
        h.log.set_membership(membership);
        h.log.set_generations(Generations::AtPoll);
        let source = topic(&h, "source", 2);
        let mut a = Lane::owner(&h, &spec(&h, "group", &source, "a"), 2);
        let mut b = Lane::join(&h, &spec(&h, "group", &source, "b"));
        for _ in 0..3 {
            b.adopt(&h, &mut Vec::new());
            a.adopt(&h, &mut Vec::new());
        }
        assert_eq!((a.owned.len(), b.owned.len()), (1, 1));
        drop(b);
        let mut b = Lane::join(&h, &spec(&h, "group", &source, "b"));
        b.adopt(&h, &mut Vec::new());
        let mine = a.owned.iter().map(|(&p, &next)| (p, next)).collect::<Vec<_>>();
        assert_eq!(a.commit(&h, &mine).is_err(), disturbs, "{membership:?}");
        assert_eq!(b.owned.len(), usize::from(!disturbs), "{membership:?}");
    }
}

/// KIP-345 with KIP-429: without a second look at who owns what, a partition stays nobody's.
#[test]
fn what_a_killed_member_was_to_hand_over_stays_nobodys_if_nobody_looks() {
    let h = Sim::default();
    h.log.leave_orphans();
    assert_eq!(owned_after_a_kill_in_a_hand_over(&h, 4 * h.session()), 2);
}
