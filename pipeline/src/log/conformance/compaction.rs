//! Properties of compacted topics, on which every restore rests.

use std::collections::BTreeMap;

use semel_schemas::{
    record::Record,
    topic::{Offset, TopicName},
};

use super::{
    Harness,
    kit::{Lane, P0, compacted, put, read_all, text, tombstone, topic, topic_name, until},
};
use crate::log::Isolation;

const DAY_MS: u64 = 86_400_000;

/// What is left in partition 0, without the harness's filling.
fn left(h: &dyn Harness, topic: &TopicName) -> Vec<(String, String, Offset)> {
    let key = |r: &Record| String::from_utf8_lossy(r.key.as_deref().unwrap_or_default()).into();
    read_all(h, Isolation::Committed, topic, P0)
        .iter()
        .map(|r| (key(r), text(r), r.offset))
        .filter(|(key, ..): &(String, _, _)| !key.starts_with('~'))
        .collect()
}

/// The last value of each key stays, at its own offset and in order; what it superseded goes; a
/// reader still reaches the end.
pub fn compaction_keeps_the_last_value_of_each_key(h: &mut dyn Harness) {
    let name = topic_name(h, "last");
    h.log().create_topic(&compacted(&name, DAY_MS)).expect("the topic is created");
    let mut last = BTreeMap::new();
    for round in 0..4 {
        // Key 0 is written in the first round only, key 4 in all four.
        for key in (round..5).map(|n| format!("key-{n}")) {
            let value = format!("{key} in round {round}");
            let places = h.log().append(vec![put(&name, P0, &key, &value)]).expect("written");
            last.insert(key.clone(), (key, value, places[0].1));
        }
    }
    let mut expected: Vec<_> = last.into_values().collect();
    expected.sort_by_key(|(.., offset)| *offset);
    h.compact(&name, P0);
    assert_eq!(left(h, &name), expected);
    h.compact(&name, P0);
    assert_eq!(left(h, &name), expected, "compacting again changes nothing");
}

/// A tombstone takes the values before it away, is itself seen for at least its time, goes after
/// it, and does not touch what is written later (trap 37 is about stores that sleep longer).
pub fn compaction_honours_tombstones(h: &mut dyn Harness) {
    let name = topic_name(h, "tombstones");
    h.log().create_topic(&compacted(&name, DAY_MS)).expect("the topic is created");
    let records = vec![
        put(&name, P0, "gone", "value"),
        put(&name, P0, "back", "old"),
        put(&name, P0, "stays", "value"),
        tombstone(&name, P0, "gone"),
        tombstone(&name, P0, "back"),
        put(&name, P0, "back", "new"),
    ];
    h.log().append(records.clone()).expect("the records are written");
    h.compact(&name, P0);
    let found: Vec<_> = left(h, &name).into_iter().map(|(k, v, _)| (k, v)).collect();
    let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    assert_eq!(found, [pair("stays", "value"), pair("gone", "-"), pair("back", "new")]);

    let short = topic_name(h, "short");
    h.log().create_topic(&compacted(&short, 100)).expect("the topic is created");
    let records =
        records.into_iter().map(|r| semel_schemas::record::OutRecord { topic: short.clone(), ..r });
    h.log().append(records.collect()).expect("the records are written");
    until(h, "the tombstone goes after its time", || {
        h.pass(std::time::Duration::from_millis(200));
        h.compact(&short, P0);
        left(h, &short).iter().all(|(k, ..)| k != "gone").then_some(())
    });
    let found: Vec<_> = left(h, &short).into_iter().map(|(k, v, _)| (k, v)).collect();
    assert_eq!(found, [pair("stays", "value"), pair("back", "new")]);
}

/// An aborted record supersedes nothing: neither a value nor by a tombstone.
pub fn compaction_lets_no_aborted_value_win(h: &mut dyn Harness) {
    let name = topic_name(h, "aborted");
    h.log().create_topic(&compacted(&name, DAY_MS)).expect("the topic is created");
    let written = vec![put(&name, P0, "a", "committed"), put(&name, P0, "b", "committed")];
    h.log().append(written).expect("the records are written");
    let source = topic(h, "source", 1);
    let mut lane = Lane::alone(h, &source, 1);
    lane.produce(h, &put(&name, P0, "a", "aborted"));
    lane.produce(h, &tombstone(&name, P0, "b"));
    lane.member.abort().expect("the transaction is aborted");
    h.compact(&name, P0);
    let found: Vec<_> = left(h, &name).into_iter().map(|(k, v, _)| format!("{k} {v}")).collect();
    assert_eq!(found, ["a committed", "b committed"]);
}
