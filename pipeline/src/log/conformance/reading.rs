//! Properties of what a reader without a group finds: order, content, positions, seeks.

use semel_schemas::{
    header::Headers,
    record::{OutRecord, Record},
    topic::{NextOffset, Partition},
};

use super::{
    Harness,
    kit::{
        Lane, P0, P1, WAIT, append, assert_out_of_range, put, read_all, read_at_least, read_on,
        sees, texts, tombstone, topic, until,
    },
};
use crate::log::Isolation;

/// Records of one partition are read in the order they were written, over many transactions of
/// several producers; their offsets only grow.
pub fn records_of_a_partition_are_read_in_order(h: &mut dyn Harness) {
    let name = topic(h, "order", 2);
    let source = topic(h, "source", 1);
    let at = append(h.log(), &source, P0, &["in"])[0];
    let mut lane = Lane::alone(h, &source, 1);
    let mut expected = [Vec::new(), Vec::new()];
    for round in 0..10 {
        let values: Vec<String> = (0..4).map(|n| format!("{round}-{n}")).collect();
        for (n, value) in values.iter().enumerate() {
            let partition = Partition(u32::from(n % 2 == 1));
            if round % 3 == 0 {
                lane.produce(h, &put(&name, partition, value, value));
            } else {
                append(h.log(), &name, partition, &[value]);
            }
            expected[n % 2].push(value.clone());
        }
        if round % 3 == 0 {
            lane.commit(h, &[(P0, at)]).expect("the transaction is committed");
        }
    }
    for (partition, expected) in [P0, P1].into_iter().zip(expected) {
        let found = read_at_least(h, &name, partition, expected.len());
        assert_eq!(texts(&found), expected);
        assert!(found.is_sorted_by(|a, b| a.offset < b.offset), "offsets only grow");
        assert!(found.iter().all(|r| r.topic == name && r.partition == partition));
    }
}

/// Headers (repeated names, empty values, any bytes), missing keys, and missing, empty and binary
/// values come back as they were given.
pub fn headers_null_keys_and_null_values_come_back(h: &mut dyn Harness) {
    let name = topic(h, "shapes", 1);
    let mut headers = Headers::new();
    headers.push("semel-id", *b"0123");
    headers.push("twice", *b"first");
    headers.push("twice", *b"second");
    headers.push("empty", Vec::new());
    headers.push("bytes", [0, 255, 10]);
    let binary = vec![0_u8, 159, 146, 150];
    let shape = |key: Option<&[u8]>, value: Option<&[u8]>, headers: &Headers| OutRecord {
        topic: name.clone(),
        partition: Some(P0),
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers: headers.clone(),
    };
    let written = vec![
        shape(Some(b"k"), Some(b"v"), &headers),
        shape(None, Some(b"no key"), &Headers::new()),
        shape(Some(b"tombstone"), None, &headers),
        shape(Some(b"empty value"), Some(b""), &Headers::new()),
        shape(Some(&binary), Some(&binary), &Headers::new()),
        shape(None, None, &Headers::new()),
    ];
    h.log().append(written.clone()).expect("the records are written");
    let found = read_at_least(h, &name, P0, written.len());
    let shown = |r: &Record| (r.key.clone(), r.value.clone(), r.headers.clone());
    let expected: Vec<_> = written.into_iter().map(|r| (r.key, r.value, r.headers)).collect();
    assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), expected);
}

/// Trap 22: a null value is a record like any other, for members and readers: it is yielded, and
/// reading goes on behind it.
pub fn tombstones_are_records(h: &mut dyn Harness) {
    let name = topic(h, "null", 1);
    append(h.log(), &name, P0, &["a"]);
    h.log().append(vec![tombstone(&name, P0, "a")]).expect("the tombstone is written");
    append(h.log(), &name, P0, &["b"]);
    sees(h, &name, &["a", "-", "b"]);
    let mut lane = Lane::alone(h, &name, 1);
    let found = lane.records(h, 3);
    assert_eq!(texts(&found), ["a", "-", "b"]);
    assert_eq!(found[1].key.as_deref(), Some(&b"a"[..]));
    assert_eq!(found[1].value, None);
}

/// `append` answers with partition and offset of each record, in the order given.
pub fn append_says_where_the_records_are(h: &mut dyn Harness) {
    let (one, two) = (topic(h, "one", 2), topic(h, "two", 1));
    let records = vec![put(&one, P1, "k", "1"), put(&two, P0, "k", "2"), put(&one, P1, "k", "3")];
    let places = h.log().append(records).expect("the records are written");
    assert_eq!(places.iter().map(|(p, _)| *p).collect::<Vec<_>>(), [P1, P0, P1]);
    let in_one = read_at_least(h, &one, P1, 2);
    let in_two = read_at_least(h, &two, P0, 1);
    assert_eq!(texts(&in_one), ["1", "3"]);
    assert_eq!(texts(&in_two), ["2"]);
    let offsets = [in_one[0].offset, in_two[0].offset, in_one[1].offset];
    assert_eq!(places.iter().map(|(_, o)| *o).collect::<Vec<_>>(), offsets);
    assert!(h.log().append(Vec::new()).expect("nothing is written").is_empty());
}

/// `read` yields at most as many records as were asked for, and goes on where it stopped.
pub fn a_reader_stops_at_most_at_what_was_asked(h: &mut dyn Harness) {
    let name = topic(h, "few", 1);
    append(h.log(), &name, P0, &["a", "b", "c", "d", "e"]);
    let mut reader = h.log().reader(Isolation::Committed).expect("a reader is made");
    reader.seek(&name, P0, NextOffset::ZERO).expect("the start can be sought");
    let mut found = Vec::new();
    until(h, "all records are read", || {
        let some = reader.read(2, WAIT).expect("the reader reads");
        assert!(some.len() <= 2, "{some:?}");
        if let Some(last) = some.last() {
            let position = reader.position().expect("the position is known");
            assert!(position >= last.next(), "the position is behind the last record");
        }
        found.extend(some);
        (found.len() == 5).then_some(())
    });
    assert_eq!(texts(&found), ["a", "b", "c", "d", "e"]);
}

/// Trap 17: offsets have gaps, so an end is reached by position and never by counting: behind
/// committed and aborted transactions, and on an empty partition, the position reaches the end.
/// (A restore that counts, or that waits for a record at the end, never ends.)
pub fn positions_reach_the_end_over_gaps(h: &mut dyn Harness) {
    let name = topic(h, "gaps", 1);
    assert!(read_all(h, Isolation::Committed, &name, P0).is_empty());
    for (before, value) in ["a", "b", "c"].into_iter().enumerate() {
        append(h.log(), &name, P0, &[value]);
        assert_eq!(texts(&read_at_least(h, &name, P0, before + 1))[before], value);
    }
    let source = topic(h, "source", 1);
    let mut lane = Lane::alone(h, &source, 1);
    lane.produce(h, &put(&name, P0, "k", "aborted"));
    lane.member.abort().expect("the transaction is aborted");
    sees(h, &name, &["a", "b", "c"]);
    // A reader that stands at the end and meets nothing but an aborted record and its marker.
    let mut reader = h.log().reader(Isolation::Committed).expect("a reader is made");
    let (_, end) = reader.bounds(&name, P0).expect("the bounds are known");
    reader.seek(&name, P0, end).expect("the end can be sought");
    lane.produce(h, &put(&name, P0, "k", "aborted too"));
    lane.member.abort().expect("the transaction is aborted");
    until(h, "the position reaches the new end", || {
        let found = reader.read(10, WAIT).expect("the reader reads");
        assert!(found.is_empty(), "aborted records are seen: {:?}", texts(&found));
        let (_, end) = reader.bounds(&name, P0).expect("the bounds are known");
        (reader.position().expect("the position is known") >= end).then_some(())
    });
}

/// Trap 27: what retention deleted is out of range, with topic, partition and both offsets; the
/// first offset that is left is not, nor is the end; what lies beyond the end is.
pub fn an_expired_offset_is_out_of_range_for_a_reader(h: &mut dyn Harness) {
    let name = topic(h, "expired", 1);
    let nexts = append(h.log(), &name, P0, &["a", "b", "c"]);
    h.expire(&name, P0, nexts[0]);
    let mut reader = h.log().reader(Isolation::Committed).expect("a reader is made");
    let bounds = reader.bounds(&name, P0).expect("the bounds are known");
    assert_eq!(bounds.0, nexts[0], "the first offset has moved");
    for wrong in [NextOffset::ZERO, NextOffset(bounds.1.0 + 1000)] {
        assert_out_of_range(&reader.seek(&name, P0, wrong), &name, wrong, bounds);
    }
    reader.seek(&name, P0, bounds.1).expect("the end can be sought");
    reader.seek(&name, P0, bounds.0).expect("the first offset can be sought");
    assert_eq!(texts(&read_on(h, reader.as_mut(), 2)), ["b", "c"]);
}

/// A reader reads one partition: seeking another one forgets the first, also what was fetched of
/// it; seeking back starts where it says.
pub fn a_seek_forgets_the_other_partition(h: &mut dyn Harness) {
    let name = topic(h, "seek", 2);
    let nexts = append(h.log(), &name, P0, &["a", "b", "c"]);
    append(h.log(), &name, P1, &["x", "y"]);
    let mut reader = h.log().reader(Isolation::Committed).expect("a reader is made");
    reader.seek(&name, P0, NextOffset::ZERO).expect("the start can be sought");
    assert_eq!(texts(&read_on(h, reader.as_mut(), 1)), ["a"]);
    reader.seek(&name, P1, NextOffset::ZERO).expect("the start can be sought");
    assert_eq!(texts(&read_on(h, reader.as_mut(), 2)), ["x", "y"]);
    reader.seek(&name, P0, nexts[1]).expect("the third record can be sought");
    assert_eq!(reader.position().expect("the position is known"), nexts[1]);
    assert_eq!(texts(&read_on(h, reader.as_mut(), 1)), ["c"]);
}
