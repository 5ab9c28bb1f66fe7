//! Properties of transactions: all or nothing, fencing, what an open one hides, crashes.

use semel_schemas::topic::NextOffset;

use super::{
    Harness,
    kit::{
        Lane, P0, P1, WAIT, append, committed_texts, init, put, read_on, sees, spec, text, texts,
        topic, until,
    },
};
use crate::log::{Isolation, MemberSpec, ProduceError, TxnFault};

/// Outputs to two topics, the changelog and the input's offsets become visible together: before
/// the commit nothing of them is, after it all.
pub fn a_commit_is_atomic_over_topics_and_offsets(h: &mut dyn Harness) {
    let source = topic(h, "source", 2);
    let (one, two, changelog) = (topic(h, "one", 1), topic(h, "two", 3), topic(h, "changelog", 2));
    let in0 = append(h.log(), &source, P0, &["a", "b"]);
    let in1 = append(h.log(), &source, P1, &["c"]);
    let spec = spec(h, &h.name("group"), &source, &h.name("instance"));
    let mut lane = Lane::owner(h, &spec, 2);
    lane.produce(h, &put(&one, P0, "k", "first"));
    lane.produce(h, &put(&two, P1, "k", "second"));
    lane.produce(h, &put(&changelog, P0, "k", "state"));
    lane.produce(h, &put(&one, P0, "k", "third"));
    let places = [(&one, P0), (&two, P1), (&changelog, P0)];
    let seen = |h: &dyn Harness| {
        places.map(|(topic, partition)| {
            texts(&super::kit::read_all(h, Isolation::Committed, topic, partition))
        })
    };
    h.pass(super::kit::TICK);
    assert_eq!(seen(h), [vec![], vec![], Vec::<String>::new()]);
    let group = h.log().committed(&spec.group, &source).expect("the log answers");
    assert!(group.is_empty(), "{group:?}");

    lane.commit(h, &[(P0, in0[1]), (P1, in1[0])]).expect("the transaction is committed");
    assert_eq!(seen(h), [vec!["first", "third"], vec!["second"], vec!["state"]]);
    let group = h.log().committed(&spec.group, &source).expect("the log answers");
    assert_eq!(group.into_iter().collect::<Vec<_>>(), [(P0, in0[1]), (P1, in1[0])]);
}

/// Trap 15: a member that restores for longer than its transaction timeout before it writes its
/// first record commits all the same: until then there was no transaction to time out.
pub fn nothing_is_open_before_the_first_record(h: &mut dyn Harness) {
    let (source, out) = (topic(h, "source", 1), topic(h, "out", 1));
    let nexts = append(h.log(), &source, P0, &["a"]);
    let spec = spec(h, &h.name("group"), &source, &h.name("instance"));
    let mut lane = Lane::owner(h, &spec, 1);
    let restored = h.now() + h.transaction() * 2;
    until(h, "the restore is over", || {
        lane.poll(10);
        (h.now() >= restored).then_some(())
    });
    lane.produce(h, &put(&out, P0, "k", "after the restore"));
    lane.commit(h, &[(P0, nexts[0])]).expect("no transaction timed out");
    sees(h, &out, &["after the restore"]);
}

/// What was aborted is never seen, its offsets neither, and the next transaction brings nothing of
/// it back.
pub fn an_abort_leaves_nothing_visible(h: &mut dyn Harness) {
    let (source, out) = (topic(h, "source", 1), topic(h, "out", 1));
    let nexts = append(h.log(), &source, P0, &["a", "b"]);
    let spec = spec(h, &h.name("group"), &source, &h.name("instance"));
    let mut lane = Lane::owner(h, &spec, 1);
    lane.produce(h, &put(&out, P0, "k", "aborted"));
    lane.member.abort().expect("the transaction is aborted");
    assert!(committed_texts(h, &out).is_empty());
    lane.member.abort().expect("there is nothing to abort, and that is fine");
    lane.produce(h, &put(&out, P0, "k", "committed"));
    lane.commit(h, &[(P0, nexts[0])]).expect("the transaction is committed");
    lane.produce(h, &put(&out, P0, "k", "aborted too"));
    lane.member.abort().expect("the transaction is aborted");
    sees(h, &out, &["committed"]);
    let group = h.log().committed(&spec.group, &source).expect("the log answers");
    assert_eq!(group.into_iter().collect::<Vec<_>>(), [(P0, nexts[0])]);
}

/// Trap 25: a transaction without offsets is fenced by nothing, so `commit` refuses an empty list;
/// what was produced can then be aborted, and the member goes on.
pub fn a_commit_without_offsets_is_refused(h: &mut dyn Harness) {
    let (source, out) = (topic(h, "source", 1), topic(h, "out", 1));
    let nexts = append(h.log(), &source, P0, &["a"]);
    let mut lane = Lane::alone(h, &source, 1);
    lane.produce(h, &put(&out, P0, "k", "unfenced"));
    let error = lane.member.commit(&[]).expect_err("an empty list is refused");
    assert_eq!(error.fault, TxnFault::Fatal, "{error}");
    lane.member.abort().expect("the transaction is aborted");
    assert!(committed_texts(h, &out).is_empty());
    lane.produce(h, &put(&out, P0, "k", "fenced"));
    lane.commit(h, &[(P0, nexts[0])]).expect("the transaction is committed");
    sees(h, &out, &["fenced"]);
}

/// A transaction may consist of offsets only, moved or not.
pub fn a_commit_of_offsets_alone_moves_them(h: &mut dyn Harness) {
    let source = topic(h, "source", 1);
    let nexts = append(h.log(), &source, P0, &["a", "b"]);
    let mut lane = Lane::alone(h, &source, 1);
    for next in [NextOffset::ZERO, nexts[0], nexts[0], nexts[1]] {
        lane.commit(h, &[(P0, next)]).expect("the transaction is committed");
        let found = until(h, "the offset is stable", || lane.member.committed(&[P0]).ok());
        assert_eq!(found.get(&P0), Some(&next));
    }
}

/// A second producer of the same transactional id fences the first: its commit is refused for
/// good, nothing of it is seen, and the second works (traps 4, 19 and 38). They are in two groups,
/// so that nothing but the producer's epoch can be what refuses.
pub fn a_fenced_producer_cannot_commit(h: &mut dyn Harness) {
    let (source, out) = (topic(h, "source", 1), topic(h, "out", 1));
    let nexts = append(h.log(), &source, P0, &["a"]);
    let spec = spec(h, &h.name("group"), &source, &h.name("instance"));
    let mut first = Lane::owner(h, &spec, 1);
    first.produce(h, &put(&out, P0, "k", "fenced"));
    let elsewhere = MemberSpec { group: h.name("elsewhere"), ..spec.clone() };
    let mut second = Lane::owner(h, &elsewhere, 1);
    let error = first.commit(h, &[(P0, nexts[0])]).expect_err("the producer is fenced");
    assert_eq!(error.fault, TxnFault::Rebuild, "{error}");
    let again = first.commit(h, &[(P0, nexts[0])]).expect_err("it stays fenced");
    assert_eq!(again.fault, TxnFault::Rebuild, "{again}");
    assert!(committed_texts(h, &out).is_empty());
    let group = h.log().committed(&spec.group, &source).expect("the log answers");
    assert!(group.is_empty(), "{group:?}");
    drop(first);
    second.produce(h, &put(&out, P0, "k", "second"));
    second.commit(h, &[(P0, nexts[0])]).expect("the second commits");
    sees(h, &out, &["second"]);
}

/// Trap 4: with a stable transactional id, `init` ends the transaction that a crashed predecessor
/// left open, so that nobody waits for its timeout; a member's own too.
pub fn init_ends_the_predecessors_transaction(h: &mut dyn Harness) {
    let (source, out) = (topic(h, "source", 1), topic(h, "out", 1));
    let nexts = append(h.log(), &source, P0, &["a"]);
    let spec = spec(h, &h.name("group"), &source, &h.name("instance"));
    let mut lane = Lane::owner(h, &spec, 1);
    lane.produce(h, &put(&out, P0, "k", "of the crashed"));
    drop(lane);
    let mut lane = Lane::owner(h, &spec, 1);
    append(h.log(), &out, P0, &["behind"]);
    sees(h, &out, &["behind"]);
    lane.produce(h, &put(&out, P0, "k", "given up"));
    init(h, lane.member.as_mut());
    lane.produce(h, &put(&out, P0, "k", "new"));
    lane.commit(h, &[(P0, nexts[0])]).expect("the transaction is committed");
    sees(h, &out, &["behind", "new"]);
}

/// A committed reader, and a member, never pass the first record of an open transaction: what was
/// committed behind it is either not yet seen, or it has a lower offset; once the transaction is
/// committed, nothing was skipped.
pub fn readers_never_pass_an_open_transaction(h: &mut dyn Harness) {
    let (source, out) = (topic(h, "source", 1), topic(h, "out", 1));
    let nexts = append(h.log(), &source, P0, &["a"]);
    append(h.log(), &out, P0, &["before"]);
    let mut lane = Lane::alone(h, &source, 1);
    let mut member = Lane::alone(h, &out, 1);
    let mut reader = h.log().reader(Isolation::Committed).expect("a reader is made");
    reader.seek(&out, P0, NextOffset::ZERO).expect("the start can be sought");
    lane.produce(h, &put(&out, P0, "k", "open"));
    append(h.log(), &out, P0, &["other"]);
    let (mut by_reader, mut by_member) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        by_reader.extend(reader.read(10, WAIT).expect("the reader reads"));
        member.adopt(h, &mut by_member);
        h.pass(super::kit::TICK);
    }
    for found in [&by_reader, &by_member] {
        assert_eq!(found.first().map(text).as_deref(), Some("before"));
        assert!(found.iter().all(|r| text(r) != "open"), "{:?}", texts(found));
    }
    lane.commit(h, &[(P0, nexts[0])]).expect("the transaction is committed");
    by_reader.extend(read_on(h, reader.as_mut(), 3 - by_reader.len()));
    by_member.extend(member.records(h, 3 - by_member.len()));
    for found in [by_reader, by_member] {
        assert!(found.is_sorted_by(|a, b| a.offset < b.offset), "{:?}", texts(&found));
        let mut values = texts(&found);
        values.sort();
        assert_eq!(values, ["before", "open", "other"]);
    }
}

/// Trap 26: the end for uncommitted readers is never before the one for committed readers, and it
/// is the same when no transaction is open.
pub fn both_isolations_agree_when_nothing_is_open(h: &mut dyn Harness) {
    let (source, out) = (topic(h, "source", 1), topic(h, "out", 1));
    let nexts = append(h.log(), &source, P0, &["a"]);
    let mut lane = Lane::alone(h, &source, 1);
    let mut committed = h.log().reader(Isolation::Committed).expect("a reader is made");
    let mut uncommitted = h.log().reader(Isolation::Uncommitted).expect("a reader is made");
    append(h.log(), &out, P0, &["before"]);
    lane.produce(h, &put(&out, P0, "k", "open"));
    let low = committed.bounds(&out, P0).expect("the bounds are known");
    let high = uncommitted.bounds(&out, P0).expect("the bounds are known");
    assert!(low.0 == high.0 && low.1 <= high.1, "{low:?} {high:?}");
    lane.commit(h, &[(P0, nexts[0])]).expect("the transaction is committed");
    until(h, "both ends agree", || {
        let low = committed.bounds(&out, P0).expect("the bounds are known");
        let high = uncommitted.bounds(&out, P0).expect("the bounds are known");
        assert!(low.1 <= high.1, "{low:?} {high:?}");
        (low == high).then_some(())
    });
}

/// Trap 39: a record above the limit is refused with its size and the limit before anything is
/// sent, and the transaction goes on without it.
pub fn an_oversized_record_is_refused_before_it_is_sent(h: &mut dyn Harness) {
    let (source, out) = (topic(h, "source", 1), topic(h, "out", 1));
    let nexts = append(h.log(), &source, P0, &["a"]);
    let mut lane = Lane::alone(h, &source, 1);
    lane.produce(h, &put(&out, P0, "k", "before"));
    let large = put(&out, P0, "k", &"x".repeat(h.too_large()));
    match lane.member.produce(large.clone()).expect_err("it is too large") {
        ProduceError::TooLarge { topic, size, limit } => {
            assert_eq!(topic, out);
            assert!(size >= large.size() && limit < size, "{size} {limit}");
        }
        other => assert_eq!(other.to_string(), "too large"),
    }
    lane.produce(h, &put(&out, P0, "k", "after"));
    lane.commit(h, &[(P0, nexts[0])]).expect("the transaction is committed");
    sees(h, &out, &["before", "after"]);
    assert!(h.log().append(vec![large]).is_err());
    sees(h, &out, &["before", "after"]);
}

/// After a crash the log holds exactly what was committed: records of all topics, offsets, and
/// nothing of what was aborted or open; the same instance goes on from there.
pub fn a_restart_finds_exactly_what_was_committed(h: &mut dyn Harness) {
    let (source, out, changelog) = (topic(h, "source", 1), topic(h, "out", 1), topic(h, "log", 1));
    let nexts = append(h.log(), &source, P0, &["a", "b", "c"]);
    let spec = spec(h, &h.name("group"), &source, &h.name("instance"));
    let id = h.log().topic(&out).expect("the log answers");
    let mut lane = Lane::owner(h, &spec, 1);
    lane.produce(h, &put(&out, P0, "k", "committed"));
    lane.produce(h, &put(&changelog, P0, "k", "state"));
    lane.commit(h, &[(P0, nexts[0])]).expect("the transaction is committed");
    lane.produce(h, &put(&out, P0, "k", "aborted"));
    lane.member.abort().expect("the transaction is aborted");
    lane.produce(h, &put(&out, P0, "k", "open"));
    lane.produce(h, &put(&changelog, P0, "k", "open"));
    drop(lane);
    h.restart();

    assert_eq!(h.log().topic(&out).expect("the log answers"), id);
    let group = h.log().committed(&spec.group, &source).expect("the log answers");
    assert_eq!(group.into_iter().collect::<Vec<_>>(), [(P0, nexts[0])]);
    let mut lane = Lane::owner(h, &spec, 1);
    sees(h, &out, &["committed"]);
    sees(h, &changelog, &["state"]);
    assert_eq!(texts(&lane.records(h, 2)), ["b", "c"]);
    lane.produce(h, &put(&out, P0, "k", "after"));
    lane.commit(h, &[(P0, nexts[2])]).expect("the transaction is committed");
    drop(lane);
    h.restart();
    sees(h, &out, &["committed", "after"]);
    sees(h, &source, &["a", "b", "c"]);
}
