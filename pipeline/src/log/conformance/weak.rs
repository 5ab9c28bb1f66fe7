//! "How weak Kafka is", line by line: what Kafka was seen to do, and what the simulator must do
//! too, because an engine that is only tried against something stronger is not tried.

use semel_schemas::topic::NextOffset;

use super::{
    Weak,
    kit::{
        Lane, P0, WAIT, append, committed_texts, owned_after_a_kill_in_a_hand_over, put, read_all,
        sees, spec, takes_less, texts, topic, until,
    },
};
use crate::log::{Isolation, TxnFault};

/// Trap 25: a member lost its partition to another; a transaction of its transactional id
/// *without* offsets is accepted all the same, and readers see it.
pub fn a_zombies_transaction_without_offsets_is_accepted(h: &mut dyn Weak) {
    h.be_impatient();
    let (source, out) = (topic(h, "source", 1), topic(h, "out", 1));
    let (group, instance) = (h.name("group"), h.name("a"));
    let _zombie = Lane::owner(h, &spec(h, &group, &source, &instance), 1);
    let mut heir = Lane::join(h, &spec(h, &group, &source, &h.name("b")));
    until(h, "the heir owns the partition", || {
        heir.adopt(h, &mut Vec::new());
        heir.owned.contains_key(&P0).then_some(())
    });
    let mut raw = h.raw(&instance);
    raw.produce(put(&out, P0, "k", "by the zombie")).expect("the record is taken");
    raw.commit().expect("nothing fences it");
    sees(h, &out, &["by the zombie"]);
}

/// Trap 34: offsets sent with generation −1 (a consumer assigned by hand) move the committed
/// offset of a group that has a live owner.
pub fn offsets_of_no_generation_are_accepted(h: &mut dyn Weak) {
    let source = topic(h, "source", 1);
    let nexts = append(h.log(), &source, P0, &["a", "b"]);
    let spec = spec(h, &h.name("group"), &source, &h.name("instance"));
    let mut owner = Lane::owner(h, &spec, 1);
    owner.commit(h, &[(P0, nexts[1])]).expect("the owner commits");
    let mut raw = h.raw(&h.name("stranger"));
    raw.send_offsets(&spec.group, &source, &[(P0, nexts[0])]).expect("accepted");
    raw.commit().expect("accepted");
    let found = until(h, "the offset is stable", || owner.member.committed(&[P0]).ok());
    assert_eq!(found.get(&P0), Some(&nexts[0]), "the owner's committed offset moved");
    owner.commit(h, &[(P0, nexts[1])]).expect("the owner still commits");
}

/// Trap 26: behind one open transaction of three records the end is 0 for a committed reader and 3
/// for an uncommitted one.
pub fn ends_follow_the_isolation(h: &mut dyn Weak) {
    let out = topic(h, "out", 1);
    let mut raw = h.raw(&h.name("open"));
    for value in ["a", "b", "c"] {
        raw.produce(put(&out, P0, value, value)).expect("the record is taken");
    }
    let end = |isolation| {
        let mut reader = h.log().reader(isolation).expect("a reader is made");
        reader.bounds(&out, P0).expect("the bounds are known").1
    };
    assert_eq!(end(Isolation::Committed), NextOffset(0));
    assert_eq!(end(Isolation::Uncommitted), NextOffset(3));
    raw.commit().expect("committed");
    until(h, "the marker is written", || (end(Isolation::Committed).0 == 4).then_some(()));
    assert_eq!(end(Isolation::Uncommitted), NextOffset(4));
}

/// The last stable offset: committed records behind somebody's open transaction are not seen until
/// that one ends, however it ends.
pub fn an_open_transaction_holds_back_the_committed_records_behind_it(h: &mut dyn Weak) {
    let out = topic(h, "out", 1);
    append(h.log(), &out, P0, &["before"]);
    let mut raw = h.raw(&h.name("open"));
    raw.produce(put(&out, P0, "k", "open")).expect("the record is taken");
    append(h.log(), &out, P0, &["behind"]);
    sees(h, &out, &["before"]);
    let mut lane = Lane::alone(h, &out, 1);
    assert_eq!(texts(&lane.records(h, 1)), ["before"]);
    for _ in 0..5 {
        let mut more = Vec::new();
        lane.adopt(h, &mut more);
        assert!(more.is_empty(), "{:?}", texts(&more));
    }
    raw.abort().expect("aborted");
    assert_eq!(texts(&lane.records(h, 1)), ["behind"]);
    sees(h, &out, &["before", "behind"]);
}

/// An uncommitted reader sees what is open and what was aborted: state is never restored with it.
pub fn an_uncommitted_reader_sees_what_is_aborted(h: &mut dyn Weak) {
    let out = topic(h, "out", 1);
    let mut raw = h.raw(&h.name("open"));
    raw.produce(put(&out, P0, "k", "aborted")).expect("the record is taken");
    assert_eq!(texts(&read_all(h, Isolation::Uncommitted, &out, P0)), ["aborted"]);
    raw.abort().expect("aborted");
    append(h.log(), &out, P0, &["committed"]);
    assert_eq!(texts(&read_all(h, Isolation::Uncommitted, &out, P0)), ["aborted", "committed"]);
    sees(h, &out, &["committed"]);
}

/// Trap 17: each transaction's marker takes an offset of its own in each of its partitions.
pub fn markers_occupy_offsets(h: &mut dyn Weak) {
    let out = topic(h, "out", 1);
    let mut nexts = Vec::new();
    for value in ["a", "b", "c"] {
        nexts.extend(append(h.log(), &out, P0, &[value]));
    }
    assert_eq!(nexts, [NextOffset(1), NextOffset(3), NextOffset(5)]);
    let mut reader = h.log().reader(Isolation::Committed).expect("a reader is made");
    reader.seek(&out, P0, NextOffset::ZERO).expect("the start can be sought");
    let found = super::kit::read_on(h, reader.as_mut(), 3);
    assert_eq!(found.len(), 3);
    until(h, "the position passes the last marker", || {
        let rest = reader.read(10, WAIT).expect("the reader reads");
        assert!(rest.is_empty());
        (reader.position().expect("the position is known") == NextOffset(6)).then_some(())
    });
}

/// Trap 4: while a transaction that sent offsets of the group is open, a member that asks for
/// them waits (UNSTABLE_OFFSET_COMMIT): until its timeout, or not so long and answers with an
/// error, but never with the old offset. Tools that ask from outside see the last committed one.
pub fn pending_offsets_are_waited_for(h: &mut dyn Weak) {
    let source = topic(h, "source", 1);
    let nexts = append(h.log(), &source, P0, &["a", "b"]);
    let spec = spec(h, &h.name("group"), &source, &h.name("instance"));
    let mut owner = Lane::owner(h, &spec, 1);
    owner.commit(h, &[(P0, nexts[0])]).expect("the owner commits");
    let mut raw = h.raw(&h.name("stranger"));
    raw.send_offsets(&spec.group, &source, &[(P0, nexts[1])]).expect("accepted");
    let found = h.log().committed(&spec.group, &source).expect("the log answers");
    assert_eq!(found.get(&P0), Some(&nexts[0]));
    let began = h.now();
    if owner.member.committed(&[P0]).is_ok() {
        let took = h.now() - began;
        assert!(took >= h.transaction() / 2, "a pending offset was passed over after {took:?}");
    } else {
        raw.abort().expect("aborted");
    }
    let found = until(h, "the offset is stable", || owner.member.committed(&[P0]).ok());
    assert_eq!(found.get(&P0), Some(&nexts[0]));
}

/// Trap 4: a transaction that nobody ends is aborted by its timeout, readers go on, and its
/// producer cannot commit it any more.
pub fn a_transaction_is_aborted_by_its_timeout(h: &mut dyn Weak) {
    let (source, out) = (topic(h, "source", 1), topic(h, "out", 1));
    let nexts = append(h.log(), &source, P0, &["a"]);
    let mut lane = Lane::alone(h, &source, 1);
    lane.produce(h, &put(&out, P0, "k", "forgotten"));
    until(h, "the record is in the log", || {
        (read_all(h, Isolation::Uncommitted, &out, P0).len() == 1).then_some(())
    });
    append(h.log(), &out, P0, &["behind"]);
    assert!(committed_texts(h, &out).is_empty());
    let began = h.now();
    until(h, "the transaction times out", || {
        lane.adopt(h, &mut Vec::new());
        (committed_texts(h, &out) == ["behind"]).then_some(())
    });
    let took = h.now() - began;
    assert!(took >= h.transaction() * 3 / 4, "{took:?}");
    let error = lane.commit(h, &[(P0, nexts[0])]).expect_err("it was aborted");
    assert!(
        matches!(error.fault, TxnFault::Abort | TxnFault::Unknown | TxnFault::Rebuild),
        "{error:?}"
    );
    sees(h, &out, &["behind"]);
}

/// Traps 31 and 43: after a kill the same instance owns its partitions again at once; an instance
/// of another name waits for the session of the dead one.
pub fn a_static_member_is_back_at_once_another_waits_for_the_session(h: &mut dyn Weak) {
    let source = topic(h, "source", 2);
    let group = h.name("group");
    let same = spec(h, &group, &source, &h.name("same"));
    takes_less(h.session() / 2, || {
        drop(Lane::owner(h, &same, 2));
        let began = h.now();
        drop(Lane::owner(h, &same, 2));
        h.now() - began
    });
    drop(Lane::owner(h, &same, 2));
    let began = h.now();
    let _other = Lane::owner(h, &spec(h, &group, &source, &h.name("other")), 2);
    let took = h.now() - began;
    assert!(took >= h.session() / 2, "another instance waited only {took:?}");
}

/// Trap 31 (KIP-345): a static member that ends without leaving keeps its partitions until its
/// session ends; nobody reads them meanwhile.
pub fn a_member_that_ends_without_leaving_keeps_its_partitions_for_the_session(h: &mut dyn Weak) {
    let source = topic(h, "source", 2);
    let group = h.name("group");
    let mut a = Lane::owner(h, &spec(h, &group, &source, &h.name("a")), 2);
    let mut b = Lane::join(h, &spec(h, &group, &source, &h.name("b")));
    until(h, "both own one", || {
        a.adopt(h, &mut Vec::new());
        b.adopt(h, &mut Vec::new());
        (b.owned.len() == 1).then_some(())
    });
    let began = h.now();
    drop(a);
    until(h, "the other owns both", || {
        b.adopt(h, &mut Vec::new());
        (b.owned.len() == 2).then_some(())
    });
    let took = h.now() - began;
    assert!(took >= h.session() / 2, "it took only {took:?}");
}

/// Trap 38: two processes of one instance: the one that joined last is the member, the other's
/// poll fails for good.
pub fn a_second_process_of_one_instance_fences_the_first(h: &mut dyn Weak) {
    let source = topic(h, "source", 1);
    let spec = spec(h, &h.name("group"), &source, &h.name("instance"));
    let mut first = Lane::owner(h, &spec, 1);
    let mut second = Lane::owner(h, &spec, 1);
    until(h, "the first is told", || {
        second.adopt(h, &mut Vec::new());
        first.member.poll(1, WAIT).err()
    });
    assert_eq!(second.owned.len(), 1);
}

/// KIP-345 with KIP-429: a static member that is killed in a hand-over is given back its place, and
/// what it was to hand over is nobody's, in a group that rests. Whoever joins looks for such.
pub fn what_a_killed_member_was_to_hand_over_finds_an_owner(h: &mut dyn Weak) {
    assert_eq!(owned_after_a_kill_in_a_hand_over(h, 4 * h.session()), 4);
}

/// Trap 4: who takes over from a lane that went without a farewell need not wait for the timeout:
/// fencing its id aborts what it left open, offsets too, and it cannot commit any more.
pub fn fencing_ends_the_transaction_of_a_silent_producer(h: &mut dyn Weak) {
    let (source, out) = (topic(h, "source", 1), topic(h, "out", 1));
    let nexts = append(h.log(), &source, P0, &["a", "b"]);
    let spec = spec(h, &h.name("group"), &source, &h.name("owner"));
    let mut owner = Lane::owner(h, &spec, 1);
    owner.commit(h, &[(P0, nexts[0])]).expect("the owner commits");
    let silent = h.name("silent");
    let mut raw = h.raw(&silent);
    raw.produce(put(&out, P0, "k", "left open")).expect("the record is taken");
    raw.send_offsets(&spec.group, &source, &[(P0, nexts[1])]).expect("accepted");
    append(h.log(), &out, P0, &["behind"]);
    assert!(committed_texts(h, &out).is_empty());
    h.log().fence(&silent).expect("it is fenced");
    until(h, "readers go on", || (committed_texts(h, &out) == ["behind"]).then_some(()));
    let found = until(h, "the offset is stable", || owner.member.committed(&[P0]).ok());
    assert_eq!(found.get(&P0), Some(&nexts[0]));
    raw.commit().expect_err("it is fenced");
    sees(h, &out, &["behind"]);
}
