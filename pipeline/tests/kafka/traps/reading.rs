//! Traps of reading: gaps, ends, resets, tombstones, queues.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    topic_partition_list::Offset as RdOffset,
};

use semel::log::{
    Event, Isolation, LogError,
    conformance::{
        Harness, Weak,
        kit::{
            Lane, P0, WAIT, append, kept, put, read_all, spec, takes_less, text, texts, tombstone,
            topic, until,
        },
    },
    kafka::{Guards, KafkaConfig},
};
use semel_schemas::topic::{NextOffset, Partition};

use super::{partitions, without};
use crate::harness::{Broker, brokers, config};

#[test]
fn trap_01_the_offset_to_commit_is_one_past_the_last_processed() {
    // `commit` takes `NextOffset`, which only `Offset::next` makes of a record's offset. What it
    // guards against, done by hand, repeats the record:
    let h = Broker::new();
    let source = topic(&h, "source", 1);
    append(h.log(), &source, P0, &["a", "b"]);
    for (commit_last, expected) in [(false, vec!["b"]), (true, vec!["a", "b"])] {
        let spec = spec(&h, &h.name("group"), &source, &h.name("instance"));
        let mut lane = Lane::owner(&h, &spec, 1);
        let first = lane.records(&h, 2).remove(0);
        let offset = if commit_last { NextOffset(first.offset.0) } else { first.next() };
        lane.commit(&h, &[(P0, offset)]).expect("committed");
        drop(lane);
        let mut lane = Lane::owner(&h, &spec, 1);
        assert_eq!(texts(&lane.records(&h, expected.len())), expected);
    }
}

#[test]
fn trap_13_one_queue_is_polled_and_routed_in_memory() {
    for (name, source) in SOURCES {
        assert!(!source.contains("split_partition_queue("), "{name}");
        assert!(!source.contains("StreamConsumer"), "{name}");
    }
}

#[test]
fn trap_13_one_poll_sees_every_partition_unless_a_queue_was_split_off() {
    for guarded in [true, false] {
        let h = Broker::new();
        let source = topic(&h, "source", 2);
        append(h.log(), &source, P0, &["a"]);
        append(h.log(), &source, Partition(1), &["b"]);
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers())
            .set("group.id", h.name("group"))
            .create()
            .expect("a consumer is made");
        let consumer = Arc::new(consumer);
        let split = (!guarded).then(|| {
            consumer.split_partition_queue(source.as_str(), 1).expect("the queue of a partition")
        });
        let mut list = TopicPartitionList::new();
        for partition in [0, 1] {
            list.add_partition_offset(source.as_str(), partition, RdOffset::Beginning)
                .expect("listed");
        }
        consumer.assign(&list).expect("assigned");
        let (mut polled, mut aside) = (Vec::new(), Vec::new());
        let value = |payload: Option<&[u8]>| String::from_utf8_lossy(payload.unwrap()).into_owned();
        until(&h, "both records are somewhere", || {
            if let Some(found) = consumer.poll(WAIT) {
                polled.push(value(found.expect("read").payload()));
            }
            if let Some(found) = split.as_ref().and_then(|queue| queue.poll(WAIT)) {
                aside.push(value(found.expect("read").payload()));
            }
            (polled.len() + aside.len() == 2).then_some(())
        });
        polled.sort();
        if guarded {
            assert_eq!(polled, ["a", "b"]);
        } else {
            assert_eq!((polled, aside), (vec!["a".to_owned()], vec!["b".to_owned()]));
        }
    }
}

#[test]
fn trap_08_no_call_of_the_log_is_async() {
    for (name, source) in SOURCES {
        for word in ["async fn", ".await", "tokio::spawn", "block_in_place"] {
            assert!(!source.contains(word), "{name}: {word}");
        }
    }
}

/// The files of the log on Kafka.
const SOURCES: [(&str, &str); 7] = [
    ("mod.rs", include_str!("../../../src/log/kafka/mod.rs")),
    ("consumer.rs", include_str!("../../../src/log/kafka/consumer.rs")),
    ("ffi.rs", include_str!("../../../src/log/kafka/ffi.rs")),
    ("member.rs", include_str!("../../../src/log/kafka/member.rs")),
    ("producer.rs", include_str!("../../../src/log/kafka/producer.rs")),
    ("reader.rs", include_str!("../../../src/log/kafka/reader.rs")),
    ("topics.rs", include_str!("../../../src/log/kafka/topics.rs")),
];

#[test]
fn trap_14_after_an_abort_the_position_is_ahead_until_start_goes_back() {
    let h = Broker::new();
    let source = topic(&h, "source", 1);
    append(h.log(), &source, P0, &["a", "b", "c"]);
    let mut lane = Lane::alone(&h, &source, 1);
    let out = topic(&h, "out", 1);
    assert_eq!(lane.records(&h, 3).len(), 3);
    lane.produce(&h, &put(&out, P0, "k", "aborted"));
    lane.member.abort().expect("aborted");
    append(h.log(), &source, P0, &["d"]);
    assert_eq!(texts(&lane.records(&h, 1)), ["d"], "without start, the inputs are skipped");
    lane.member.start(P0, NextOffset::ZERO).expect("back to what is committed");
    assert_eq!(texts(&lane.records(&h, 4)), ["a", "b", "c", "d"]);
}

#[test]
fn trap_17_ends_are_reached_by_position_and_not_by_counting() {
    let h = Broker::new();
    let name = topic(&h, "gaps", 1);
    for value in ["a", "b", "c"] {
        append(h.log(), &name, P0, &[value]);
    }
    let mut reader = h.log().reader(Isolation::Committed).expect("a reader");
    let (first, end) = reader.bounds(&name, P0).expect("bounds");
    reader.seek(&name, P0, first).expect("sought");
    let mut count = 0;
    until(&h, "the position reaches the end", || {
        count += reader.read(10, WAIT).expect("read").len() as u64;
        (reader.position().expect("known") >= end).then_some(())
    });
    assert!(count < end.0, "counting would wait for {} records, there are {count}", end.0);
}

#[test]
fn trap_22_a_null_value_is_a_record() {
    let h = Broker::new();
    let name = topic(&h, "null", 1);
    h.log().append(vec![tombstone(&name, P0, "k")]).expect("written");
    append(h.log(), &name, P0, &["after"]);
    let mut lane = Lane::alone(&h, &name, 1);
    let found = lane.records(&h, 2);
    assert_eq!((found[0].value.as_deref(), text(&found[1])), (None, "after".to_owned()));
    lane.commit(&h, &[(P0, found[0].next())]).expect("it is committed like any other");
}

#[test]
fn trap_26_a_restore_up_to_the_last_stable_offset_loses_what_is_undecided() {
    let h = Broker::new();
    let changelog = topic(&h, "changelog", 1);
    append(h.log(), &changelog, P0, &["old"]);
    let mut raw = h.raw(&h.name("producer"));
    raw.produce(put(&changelog, P0, "k", "new")).expect("written, undecided");
    let end = |isolation| {
        let mut reader = h.log().reader(isolation).expect("a reader");
        reader.bounds(&changelog, P0).expect("bounds").1
    };
    let (stable, high) = (end(Isolation::Committed), end(Isolation::Uncommitted));
    let restored = read_all(&h, Isolation::Committed, &changelog, P0);
    assert_eq!(texts(&restored), ["old"], "the stable end is reached without the new value");
    assert!(stable < high);
    raw.commit().expect("it was committed after all");
    let mut reader = h.log().reader(Isolation::Committed).expect("a reader");
    reader.seek(&changelog, P0, NextOffset::ZERO).expect("sought");
    let mut restored = Vec::new();
    until(&h, "the position reaches the high watermark", || {
        restored.extend(reader.read(10, WAIT).expect("read"));
        (reader.position().expect("known") >= high).then_some(())
    });
    assert_eq!(texts(&restored), ["old", "new"]);
}

#[test]
fn trap_27_an_offset_out_of_range_is_an_error_and_no_reset() {
    for guarded in [true, false] {
        let h = without(|g| g.no_reset = guarded);
        let source = topic(&h, "source", 1);
        let nexts = append(h.log(), &source, P0, &["a", "b", "c"]);
        let mut lane = Lane::alone(&h, &source, 1);
        assert_eq!(lane.records(&h, 3).len(), 3);
        h.expire(&source, P0, nexts[0]);
        let answer = lane.member.start(P0, NextOffset::ZERO);
        if guarded {
            let text = answer.expect_err("out of range").to_string();
            for part in [source.as_str(), "/0", "offset 0", "(1 to 4)"] {
                assert!(text.contains(part), "{part}: {text}");
            }
            continue;
        }
        answer.expect("nobody notices");
        until(&h, "the end is told", || lane.poll(10).contains(&Event::End(P0)).then_some(()));
        append(h.log(), &source, P0, &["d"]);
        let mut found = Vec::new();
        until(&h, "the new record comes", || {
            lane.adopt(&h, &mut found);
            (!found.is_empty()).then_some(())
        });
        assert_eq!(texts(&found), ["d"], "`b` and `c` were skipped in silence");
    }
}

#[test]
fn trap_27_records_that_go_while_they_are_to_be_read_are_an_error() {
    let h = Broker::new();
    let source = topic(&h, "source", 1);
    let nexts = append(h.log(), &source, P0, &["a", "b", "c"]);
    let mut lane = Lane::alone(&h, &source, 1);
    assert_eq!(lane.records(&h, 3).len(), 3);
    lane.member.start(P0, NextOffset::ZERO).expect("in range");
    lane.member.pause(&[P0]).expect("paused");
    h.expire(&source, P0, nexts[1]);
    lane.member.resume(&[P0]).expect("resumed");
    let mut found = Vec::new();
    let error = until(&h, "the member is told", || match lane.member.poll(10, WAIT) {
        Ok(events) => {
            found.extend(events.into_iter().filter(|e| matches!(e, Event::Record(_))));
            (found.len() == 3).then_some(None)
        }
        Err(e) => Some(Some(e)),
    });
    // Either it had them already, or it says so; nothing is skipped in silence.
    match error {
        None => {}
        Some(LogError::OutOfRange { first, .. }) => assert_eq!(first, nexts[1]),
        Some(other) => panic!("{other}"),
    }
}

#[test]
fn trap_28_a_recreated_topic_has_the_same_name_and_another_id() {
    let h = Broker::new();
    let name = topic(&h, "again", 1);
    let before = h.log().topic(&name).expect("answered").expect("there");
    h.delete_topic(&name);
    let after = h.log().create_topic(&kept(&name, 1)).expect("created");
    assert_ne!(before.id, after.id);
    assert_eq!(before.partitions, after.partitions, "nothing else tells them apart");
}

/// A logical offset that is looked up while `start` seeks: see `GroupConsumer::assigned`. Not in
/// the table; found by the suite.
#[test]
fn a_partition_is_assigned_at_an_absolute_offset_or_records_are_skipped() {
    let misses = |guarded: bool| {
        // Without the look at the bounds, so that `start` seeks while the lookup is under way.
        let h = without(|g| (g.absolute_start, g.no_reset) = (guarded, false));
        let round = || {
            let source = topic(&h, "source", 8);
            for partition in partitions(8) {
                append(h.log(), &source, partition, &["a"]);
            }
            let mut lane = Lane::join(&h, &spec(&h, &h.name("group"), &source, &h.name("i")));
            let (mut found, mut end) = (0, None);
            while found < 8 && end.is_none_or(|end| Instant::now() < end) {
                for event in lane.poll(10) {
                    match event {
                        Event::Assigned(all) => {
                            for partition in all {
                                lane.member.start(partition, NextOffset::ZERO).expect("started");
                            }
                            // What is skipped never comes; what is only slow must not count.
                            let patience = Duration::from_secs(if guarded { 60 } else { 2 });
                            end = Some(Instant::now() + patience);
                        }
                        Event::Record(_) => found += 1,
                        _ => {}
                    }
                }
            }
            found < 8
        };
        (0..10).any(|_| round())
    };
    assert!(!misses(true));
    assert!(misses(false), "the library has learned it: the guard may go");
}

#[test]
fn trap_41_a_full_fetch_queue_is_looked_at_again_soon() {
    let h = Broker::new();
    let source = topic(&h, "source", 1);
    let value = "x".repeat(10_000);
    for _ in 0..10 {
        let records = (0..100).map(|_| put(&source, P0, "k", &value)).collect();
        h.log().append(records).expect("written");
    }
    let took = |guarded: bool| {
        let mut config = config();
        config.settings.insert("queued.max.messages.kbytes".into(), "500".into());
        config.settings.insert("fetch.message.max.bytes".into(), "500000".into());
        let guards = Guards { short_fetch_backoff: guarded, ..Guards::default() };
        let h = Broker::with(KafkaConfig { guards, ..config });
        let mut lane = Lane::alone(&h, &source, 1);
        let began = Instant::now();
        let mut found = 0;
        while found < 1000 {
            let events = lane.poll(50);
            found += events.iter().filter(|e| matches!(e, Event::Record(_))).count();
        }
        began.elapsed()
    };
    let without = took(false);
    takes_less(without / 2, || took(true));
}
