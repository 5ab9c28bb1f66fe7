//! Properties of groups: sharing, handing over, losing, and what a zombie cannot do.

use std::collections::BTreeSet;

use semel_schemas::{
    record::Record,
    topic::{Partition, TopicName},
};

use super::{
    Harness,
    kit::{
        Lane, P0, TICK, append, committed_texts, put, read_at_least, sees, spec, takes_less, texts,
        topic, until,
    },
};
use crate::log::{Event, TxnFault};

/// Puts `count` records into each of the topic's partitions; values are `partition-number`.
fn fill(h: &dyn Harness, topic: &TopicName, partitions: u32, numbers: std::ops::Range<u32>) {
    for partition in 0..partitions {
        let values: Vec<String> = numbers.clone().map(|n| format!("{partition}-{n}")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        append(h.log(), topic, Partition(partition), &values);
    }
}

/// Asserts that `out` holds each of the records of [`fill`] once, in order within a partition.
fn assert_each_once(h: &dyn Harness, out: &TopicName, partitions: u32, numbers: u32) {
    let found = texts(&read_at_least(h, out, P0, (partitions * numbers) as usize));
    for partition in 0..partitions {
        let prefix = format!("{partition}-");
        let ours: Vec<_> = found.iter().filter(|v| v.starts_with(&prefix)).cloned().collect();
        let expected: Vec<_> = (0..numbers).map(|n| format!("{partition}-{n}")).collect();
        assert_eq!(ours, expected);
    }
    assert_eq!(found.len(), (partitions * numbers) as usize);
}

/// Two members share four partitions, never one at two; a third of the records is copied by one
/// member, a third by two, the rest by the one that stays; every record is copied once, in order.
pub fn members_share_and_hand_over(h: &mut dyn Harness) {
    let (source, out) = (topic(h, "source", 4), topic(h, "out", 1));
    let group = h.name("group");
    fill(h, &source, 4, 0..4);
    let mut a = Lane::owner(h, &spec(h, &group, &source, &h.name("a")), 4);
    until(h, "the first copies", || {
        a.copy(h, &out);
        (committed_texts(h, &out).len() >= 6).then_some(())
    });
    let mut b = Lane::join(h, &spec(h, &group, &source, &h.name("b")));
    until(h, "both own two partitions", || {
        a.copy(h, &out);
        b.copy(h, &out);
        assert!(a.owned.keys().all(|p| !b.owned.contains_key(p)), "{a:?} {b:?}");
        (a.owned.len() == 2 && b.owned.len() == 2).then_some(())
    });
    fill(h, &source, 4, 4..8);
    until(h, "both copy", || {
        a.copy(h, &out);
        b.copy(h, &out);
        (committed_texts(h, &out).len() == 32).then_some(())
    });
    a.member.leave().expect("the first leaves");
    drop(a);
    fill(h, &source, 4, 8..12);
    until(h, "the second copies the rest", || {
        b.copy(h, &out);
        (committed_texts(h, &out).len() >= 48).then_some(())
    });
    assert_eq!(b.owned.len(), 4);
    assert_each_once(h, &out, 4, 12);
}

/// Trap 11: a partition that is to be handed over stays the old owner's until it is released: the
/// other one gets nothing, the old owner can commit; then the other starts at what was committed.
pub fn a_revoked_partition_goes_only_when_released(h: &mut dyn Harness) {
    let (source, out) = (topic(h, "source", 2), topic(h, "out", 1));
    let group = h.name("group");
    fill(h, &source, 2, 0..1);
    let mut a = Lane::owner(h, &spec(h, &group, &source, &h.name("a")), 2);
    let mut seen: Vec<Record> = a.records(h, 2);
    seen.sort_by_key(|r| r.partition);
    let mut b = Lane::join(h, &spec(h, &group, &source, &h.name("b")));
    let revoked = until(h, "a partition is revoked", || {
        b.adopt(h, &mut Vec::new());
        assert!(b.owned.is_empty(), "{b:?}");
        a.poll(1).into_iter().find_map(|event| match event {
            Event::Revoked(partitions) => Some(partitions),
            other => {
                assert!(matches!(other, Event::End(_)), "{other:?}");
                None
            }
        })
    });
    assert_eq!(revoked.len(), 1, "only what moves is revoked (trap 12)");
    for _ in 0..10 {
        b.adopt(h, &mut Vec::new());
        assert!(b.owned.is_empty(), "{b:?} got what was not released");
        assert!(a.poll(1).iter().all(|e| matches!(e, Event::End(_))));
        h.pass(TICK);
    }
    let record = &seen[revoked[0].0 as usize];
    a.produce(h, &put(&out, P0, "k", "by the old owner"));
    a.commit(h, &[(record.partition, record.next())]).expect("the old owner may still commit");
    a.release(&revoked);
    until(h, "the partition goes to the other", || {
        a.adopt(h, &mut Vec::new());
        b.adopt(h, &mut Vec::new());
        b.owned.contains_key(&revoked[0]).then_some(())
    });
    assert_eq!(b.owned.get(&revoked[0]), Some(&record.next()));
    assert_eq!(a.owned.len(), 1);
    sees(h, &out, &["by the old owner"]);
}

/// Trap 31: a member that leaves hands its partitions over at once, not after the session.
pub fn a_member_that_leaves_hands_over_at_once(h: &mut dyn Harness) {
    let source = topic(h, "source", 2);
    takes_less(h.session() * 3 / 4, || {
        let group = h.name("group");
        let mut a = Lane::owner(h, &spec(h, &group, &source, &h.name("a")), 2);
        let mut b = Lane::join(h, &spec(h, &group, &source, &h.name("b")));
        until(h, "both own one", || {
            a.adopt(h, &mut Vec::new());
            b.adopt(h, &mut Vec::new());
            (b.owned.len() == 1).then_some(())
        });
        let began = h.now();
        a.member.leave().expect("the member leaves");
        drop(a);
        until(h, "the other owns both", || {
            b.adopt(h, &mut Vec::new());
            (b.owned.len() == 2).then_some(())
        });
        h.now() - began
    });
}

/// What is open when a member leaves is aborted.
pub fn leaving_aborts_what_is_open(h: &mut dyn Harness) {
    let (source, out) = (topic(h, "source", 1), topic(h, "out", 1));
    let mut lane = Lane::alone(h, &source, 1);
    lane.produce(h, &put(&out, P0, "k", "open"));
    lane.member.leave().expect("the member leaves");
    append(h.log(), &out, P0, &["behind"]);
    sees(h, &out, &["behind"]);
}

/// Two members of one group: `a` owned the only partition and was silent until `b` got it.
fn zombie_and_heir(h: &mut dyn Harness, source: &TopicName) -> (Lane, Lane, String) {
    h.be_impatient();
    let group = h.name("group");
    let mut a = Lane::owner(h, &spec(h, &group, source, &h.name("a")), 1);
    assert_eq!(texts(&a.records(h, 1)), ["input"]);
    let mut b = Lane::join(h, &spec(h, &group, source, &h.name("b")));
    until(h, "the other gets the silent member's partition", || {
        b.adopt(h, &mut Vec::new());
        b.owned.contains_key(&P0).then_some(())
    });
    (a, b, group)
}

/// Traps 2 and 25: a member that was silent too long and whose partition is another's already
/// cannot commit, though its producer was never fenced: nothing of it is seen, and the group's
/// offset is the heir's.
pub fn a_zombie_cannot_commit(h: &mut dyn Harness) {
    let (source, out) = (topic(h, "source", 1), topic(h, "out", 1));
    let nexts = append(h.log(), &source, P0, &["input"]);
    let (mut zombie, mut heir, group) = zombie_and_heir(h, &source);
    zombie.produce(h, &put(&out, P0, "k", "by the zombie"));
    let error = zombie.commit(h, &[(P0, nexts[0])]).expect_err("it owns nothing any more");
    assert!(matches!(error.fault, TxnFault::Abort | TxnFault::Rebuild), "{error:?}");
    if error.fault == TxnFault::Abort {
        zombie.member.abort().expect("a known abort can be aborted");
    } else {
        super::kit::init(h, zombie.member.as_mut());
    }
    assert!(h.log().committed(&group, &source).expect("the log answers").is_empty());
    assert_eq!(texts(&heir.records(h, 1)), ["input"]);
    heir.produce(h, &put(&out, P0, "k", "by the heir"));
    heir.commit(h, &[(P0, nexts[0])]).expect("the heir commits");
    sees(h, &out, &["by the heir"]);
    let error = zombie.commit(h, &[(P0, nexts[0])]).expect_err("still not");
    assert!(matches!(error.fault, TxnFault::Abort | TxnFault::Rebuild), "{error:?}");
}

/// Trap 11: a zombie that polls again is told that its partitions are lost (not: revoked), gets
/// nothing of them any more, and, once it has released them, becomes a member again.
pub fn a_zombie_is_told_and_may_come_back(h: &mut dyn Harness) {
    let source = topic(h, "source", 1);
    append(h.log(), &source, P0, &["input"]);
    let (mut zombie, mut heir, _) = zombie_and_heir(h, &source);
    append(h.log(), &source, P0, &["later"]);
    until(h, "the zombie is told", || {
        heir.adopt(h, &mut Vec::new());
        let events = zombie.poll(10);
        let lost = events.iter().any(|e| *e == Event::Lost(vec![P0]));
        let stale = events.iter().any(|e| matches!(e, Event::Record(_) | Event::Revoked(_)));
        assert!(!stale, "{events:?}");
        lost.then_some(())
    });
    zombie.release(&[P0]);
    heir.member.leave().expect("the heir leaves");
    drop(heir);
    until(h, "the former zombie owns the partition again", || {
        zombie.adopt(h, &mut Vec::new());
        zombie.owned.contains_key(&P0).then_some(())
    });
    assert_eq!(texts(&zombie.records(h, 2)), ["input", "later"]);
}

/// A member cannot commit for a partition that it does not own, whether it gave it away or never
/// had it: Kafka's generations do not catch this, so the member itself must.
pub fn a_released_partition_cannot_be_committed(h: &mut dyn Harness) {
    let (source, out) = (topic(h, "source", 2), topic(h, "out", 1));
    let group = h.name("group");
    fill(h, &source, 2, 0..1);
    let mut a = Lane::owner(h, &spec(h, &group, &source, &h.name("a")), 2);
    let nexts: Vec<_> = a.records(h, 2).iter().map(|r| (r.partition, r.next())).collect();
    let mut b = Lane::join(h, &spec(h, &group, &source, &h.name("b")));
    until(h, "both own one", || {
        a.adopt(h, &mut Vec::new());
        b.adopt(h, &mut Vec::new());
        (b.owned.len() == 1).then_some(())
    });
    let given: BTreeSet<_> = b.owned.keys().copied().collect();
    let (gone, kept): (Vec<_>, Vec<_>) = nexts.into_iter().partition(|(p, _)| given.contains(p));
    for offsets in [gone.clone(), [gone, kept.clone()].concat()] {
        a.produce(h, &put(&out, P0, "k", "for a partition of another"));
        let error = a.commit(h, &offsets).expect_err("the partition is another's");
        assert_eq!(error.fault, TxnFault::Abort, "{error}");
        a.member.abort().expect("the transaction is aborted");
    }
    assert!(h.log().committed(&group, &source).expect("the log answers").is_empty());
    until(h, "the member goes on with what it owns", || {
        a.adopt(h, &mut Vec::new());
        b.adopt(h, &mut Vec::new());
        a.produce(h, &put(&out, P0, "k", "for its own"));
        let answer = a.commit(h, &kept);
        if answer.is_err() {
            a.member.abort().expect("the transaction is aborted");
        }
        answer.ok()
    });
    sees(h, &out, &["for its own"]);
}

/// Two groups read one topic, each on its own offsets.
pub fn groups_do_not_see_each_other(h: &mut dyn Harness) {
    let source = topic(h, "source", 1);
    let nexts = append(h.log(), &source, P0, &["a", "b"]);
    let (one, two) = (h.name("one"), h.name("two"));
    let mut first = Lane::owner(h, &spec(h, &one, &source, &h.name("i")), 1);
    let mut second = Lane::owner(h, &spec(h, &two, &source, &h.name("j")), 1);
    assert_eq!(texts(&first.records(h, 2)), ["a", "b"]);
    first.commit(h, &[(P0, nexts[1])]).expect("the first commits");
    assert_eq!(texts(&second.records(h, 2)), ["a", "b"]);
    second.commit(h, &[(P0, nexts[0])]).expect("the second commits");
    for (group, next) in [(one, nexts[1]), (two, nexts[0])] {
        let found = h.log().committed(&group, &source).expect("the log answers");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(P0, next)]);
    }
}
