//! Properties of a member's reading: starts, seeks, pauses, ends, committed offsets.

use semel_schemas::topic::{NextOffset, Partition};

use super::{
    Harness,
    kit::{Lane, P0, P1, TICK, append, assert_out_of_range, put, spec, text, texts, topic, until},
};
use crate::log::Event;

/// Nothing is read of an assigned partition before it is started: its state may have to be
/// restored first (trap 35).
pub fn assigned_partitions_wait_for_start(h: &mut dyn Harness) {
    let source = topic(h, "source", 2);
    append(h.log(), &source, P0, &["a"]);
    append(h.log(), &source, P1, &["b"]);
    let mut lane = Lane::join(h, &spec(h, &h.name("group"), &source, &h.name("instance")));
    let mut assigned = Vec::new();
    until(h, "the partitions are assigned", || {
        for event in lane.poll(10) {
            match event {
                Event::Assigned(partitions) => assigned.extend(partitions),
                other => assert_eq!(format!("{other:?}"), "nothing, before a start"),
            }
        }
        (assigned.len() == 2).then_some(())
    });
    assigned.sort();
    assert_eq!(assigned, [P0, P1]);
    for _ in 0..5 {
        let events = lane.poll(10);
        assert!(events.is_empty(), "{events:?}");
        h.pass(TICK);
    }
    lane.member.start(P1, NextOffset::ZERO).expect("the partition starts");
    assert_eq!(texts(&lane.records(h, 1)), ["b"]);
    lane.member.start(P0, NextOffset::ZERO).expect("the partition starts");
    assert_eq!(texts(&lane.records(h, 1)), ["a"]);
}

/// Trap 14: `start` again goes back or ahead to exactly that offset; nothing that was fetched for
/// the old position comes any more.
pub fn start_seeks(h: &mut dyn Harness) {
    let source = topic(h, "source", 1);
    let values: Vec<String> = (0..20).map(|n| format!("{n}")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let nexts = append(h.log(), &source, P0, &values);
    let mut lane = Lane::alone(h, &source, 1);
    let next = |lane: &mut Lane, count: usize| {
        let mut found = Vec::new();
        until(h, "the records come", || {
            found.extend(lane.poll(count - found.len()).iter().filter_map(|event| match event {
                Event::Record(record) => Some(text(record)),
                _ => None,
            }));
            (found.len() == count).then_some(())
        });
        found
    };
    assert_eq!(next(&mut lane, 3), ["0", "1", "2"]);
    lane.member.start(P0, nexts[0]).expect("back");
    assert_eq!(next(&mut lane, 3), ["1", "2", "3"]);
    lane.member.start(P0, nexts[16]).expect("ahead");
    assert_eq!(next(&mut lane, 3), ["17", "18", "19"]);
    lane.member.start(P0, NextOffset::ZERO).expect("to the beginning");
    lane.member.start(P0, nexts[4]).expect("the last start counts");
    assert_eq!(next(&mut lane, 2), ["5", "6"]);
    lane.member.pause(&[P0]).expect("the partition is paused");
    lane.member.start(P0, nexts[9]).expect("a start ends a pause");
    assert_eq!(next(&mut lane, 1), ["10"]);
}

/// Trap 27: a start below the first offset (retention) or beyond the end (a recreated topic) is an
/// error that names topic, partition and both offsets; nothing is skipped or repeated instead.
pub fn a_start_out_of_range_names_both_offsets(h: &mut dyn Harness) {
    let source = topic(h, "source", 1);
    let nexts = append(h.log(), &source, P0, &["a", "b", "c"]);
    let mut lane = Lane::alone(h, &source, 1);
    assert_eq!(lane.records(h, 3).len(), 3);
    h.expire(&source, P0, nexts[1]);
    let end = h
        .log()
        .reader(crate::log::Isolation::Committed)
        .and_then(|mut r| r.bounds(&source, P0))
        .expect("the bounds are known")
        .1;
    for wrong in [NextOffset::ZERO, nexts[0], NextOffset(end.0 + 1), NextOffset(end.0 + 1000)] {
        assert_out_of_range(&lane.member.start(P0, wrong), &source, wrong, (nexts[1], end));
    }
    lane.member.start(P0, nexts[1]).expect("the first offset that is left is in range");
    assert_eq!(texts(&lane.records(h, 1)), ["c"]);
    lane.member.start(P0, end).expect("the end is in range");
    append(h.log(), &source, P0, &["d"]);
    assert_eq!(texts(&lane.records(h, 1)), ["d"]);
}

/// Trap 23: a paused partition yields nothing, also nothing that was fetched before; others flow;
/// resuming goes on exactly where it stopped. Pausing twice or resuming what runs changes nothing.
pub fn a_paused_partition_yields_nothing_and_loses_nothing(h: &mut dyn Harness) {
    let source = topic(h, "source", 2);
    let values: Vec<String> = (0..50).map(|n| format!("{n}")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    append(h.log(), &source, P0, &values);
    append(h.log(), &source, P1, &values);
    let mut lane = Lane::alone(h, &source, 2);
    let mut found = [Vec::new(), Vec::new()];
    let turn = |lane: &mut Lane, found: &mut [Vec<String>; 2]| {
        for event in lane.poll(7) {
            if let Event::Record(record) = event {
                found[record.partition.0 as usize].push(text(&record));
            }
        }
    };
    until(h, "a first record of partition 0", || {
        turn(&mut lane, &mut found);
        (!found[0].is_empty()).then_some(())
    });
    let before = found[0].len();
    lane.member.pause(&[P0]).expect("the partition is paused");
    lane.member.pause(&[P0]).expect("the partition is paused already");
    until(h, "the other partition flows", || {
        turn(&mut lane, &mut found);
        (found[1].len() == 50).then_some(())
    });
    append(h.log(), &source, P0, &["appended while paused"]);
    for _ in 0..5 {
        turn(&mut lane, &mut found);
        h.pass(TICK);
    }
    assert_eq!(found[0].len(), before, "a paused partition yielded");
    lane.member.resume(&[P0, P1]).expect("the partitions run");
    until(h, "the paused partition goes on", || {
        turn(&mut lane, &mut found);
        (found[0].len() >= 51).then_some(())
    });
    assert_eq!(found[1], values);
    assert_eq!(found[0].pop().as_deref(), Some("appended while paused"));
    assert_eq!(found[0], values);
}

/// A poll yields at most as many records as were asked for; none when none were asked for, and
/// still the group hears of the member (trap 20: back-pressure).
pub fn a_poll_yields_at_most_what_was_asked(h: &mut dyn Harness) {
    let source = topic(h, "source", 2);
    append(h.log(), &source, P0, &["a", "b", "c", "d"]);
    append(h.log(), &source, P1, &["e", "f", "g", "h"]);
    let mut lane = Lane::alone(h, &source, 2);
    let records = |lane: &mut Lane, max: usize| {
        lane.poll(max).into_iter().filter(|e| matches!(e, Event::Record(_))).count()
    };
    let mut total = 0;
    until(h, "all records come", || {
        assert_eq!(records(&mut lane, 0), 0);
        let some = records(&mut lane, 3);
        assert!(some <= 3, "{some}");
        total += some;
        (total >= 8).then_some(())
    });
    assert_eq!(total, 8);
}

/// A started partition that was read to its present end says so, behind its records, also when
/// it is empty and when its tail is nothing but an aborted transaction; again after new records.
pub fn the_end_is_told(h: &mut dyn Harness) {
    let source = topic(h, "source", 2);
    append(h.log(), &source, P0, &["a", "b"]);
    let other = topic(h, "other", 1);
    let mut writer = Lane::alone(h, &other, 1);
    writer.produce(h, &put(&source, P0, "k", "aborted"));
    writer.member.abort().expect("the transaction is aborted");
    let mut lane = Lane::alone(h, &source, 2);
    let mut events = Vec::new();
    until(h, "both ends are told", || {
        events.extend(lane.poll(10));
        [P0, P1].iter().all(|p| events.contains(&Event::End(*p))).then_some(())
    });
    let mut of_p0: Vec<String> = events.iter().filter_map(|event| shown(event, P0)).collect();
    // Told again is fine: the end has moved, if only by a marker.
    of_p0.dedup();
    assert_eq!(of_p0, ["a", "b", "end"]);
    append(h.log(), &source, P1, &["c"]);
    events.clear();
    until(h, "the new end is told", || {
        events.extend(lane.poll(10));
        let of_p1: Vec<String> = events.iter().filter_map(|event| shown(event, P1)).collect();
        (of_p1.ends_with(&["c".to_owned(), "end".to_owned()])).then_some(())
    });
}

fn shown(event: &Event, partition: Partition) -> Option<String> {
    match event {
        Event::Record(record) if record.partition == partition => Some(text(record)),
        Event::End(p) if *p == partition => Some("end".to_owned()),
        _ => None,
    }
}

/// The group's committed offsets can be read by members and by anyone; partitions without one are
/// left out, and a group that nobody knows has none.
pub fn committed_offsets_can_be_read(h: &mut dyn Harness) {
    let source = topic(h, "source", 3);
    let nexts = append(h.log(), &source, P1, &["a", "b"]);
    let spec = spec(h, &h.name("group"), &source, &h.name("instance"));
    let mut lane = Lane::owner(h, &spec, 3);
    let all = [P0, P1, Partition(2)];
    assert!(lane.member.committed(&all).expect("the log answers").is_empty());
    assert!(h.log().committed(&spec.group, &source).expect("the log answers").is_empty());
    assert!(h.log().committed(&h.name("nobody"), &source).expect("the log answers").is_empty());
    lane.commit(h, &[(P1, nexts[1]), (P0, NextOffset::ZERO)]).expect("committed");
    let expected = vec![(P0, NextOffset::ZERO), (P1, nexts[1])];
    let found = until(h, "the offsets are stable", || lane.member.committed(&all).ok());
    assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    let one = lane.member.committed(&[P1]).expect("the log answers");
    assert_eq!(one.into_iter().collect::<Vec<_>>(), [(P1, nexts[1])]);
    let found = h.log().committed(&spec.group, &source).expect("the log answers");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
}
