//! Properties of topics: creation, settings, incarnations, partitioning.

use semel_schemas::{
    partition::partition_for_key,
    record::OutRecord,
    topic::{NextOffset, Partition},
};

use super::{
    Harness,
    kit::{P0, append, kept, put, topic, topic_name},
};
use crate::log::{Cleanup, Isolation, LogError, TopicSpec};

/// Creating a topic twice with the same settings is one topic; it is listed, and described as it
/// was made.
pub fn a_topic_is_created_once(h: &mut dyn Harness) {
    let name = topic_name(h, "once");
    let log = h.log();
    assert_eq!(log.topic(&name).expect("the log answers"), None);
    let made = log.create_topic(&kept(&name, 3)).expect("the topic is created");
    append(log, &name, Partition(2), &["kept"]);
    let again = log.create_topic(&kept(&name, 3)).expect("the same again is fine");
    assert_eq!(made, again);
    assert_eq!(made.partitions, 3);
    assert_eq!(made.cleanup, Cleanup::Delete { retention_ms: None });
    assert_eq!(log.topic(&name).expect("the log answers"), Some(made));
    assert!(log.topics().expect("the log answers").contains(&name));
    let mut reader = log.reader(Isolation::Committed).expect("a reader is made");
    let (first, end) = reader.bounds(&name, Partition(2)).expect("the bounds are known");
    assert!(first < end, "creating again must not empty the topic");

    let compacted = topic_name(h, "compacted");
    let cleanup = Cleanup::Compact { tombstone_ms: 86_400_000 };
    let spec = TopicSpec { cleanup, ..kept(&compacted, 1) };
    assert_eq!(h.log().create_topic(&spec).expect("the topic is created").cleanup, cleanup);
    let bounded = topic_name(h, "bounded");
    let cleanup = Cleanup::Delete { retention_ms: Some(3_600_000) };
    let spec = TopicSpec { cleanup, ..kept(&bounded, 1) };
    assert_eq!(h.log().create_topic(&spec).expect("the topic is created").cleanup, cleanup);
}

/// A topic that exists with other settings is refused by name, and stays as it was.
pub fn a_topic_with_other_settings_is_refused(h: &mut dyn Harness) {
    let name = topic(h, "differs", 2);
    let others = [
        kept(&name, 3),
        TopicSpec { cleanup: Cleanup::Compact { tombstone_ms: 1000 }, ..kept(&name, 2) },
        TopicSpec { cleanup: Cleanup::Delete { retention_ms: Some(1000) }, ..kept(&name, 2) },
    ];
    for other in others {
        let answer = h.log().create_topic(&other);
        assert!(
            matches!(&answer, Err(LogError::TopicDiffers { topic, .. }) if *topic == name),
            "{other:?}: {answer:?}"
        );
    }
    let info = h.log().topic(&name).expect("the log answers").expect("the topic stands");
    assert_eq!((info.partitions, info.cleanup), (2, Cleanup::Delete { retention_ms: None }));
}

/// Trap 28: a recreated topic has the same name, other records and another id.
pub fn a_recreated_topic_has_another_id(h: &mut dyn Harness) {
    let name = topic(h, "again", 1);
    append(h.log(), &name, P0, &["old"]);
    let before = h.log().topic(&name).expect("the log answers").expect("the topic stands");
    h.delete_topic(&name);
    assert_eq!(h.log().topic(&name).expect("the log answers"), None);
    let after = h.log().create_topic(&kept(&name, 1)).expect("the topic is created");
    assert_ne!(before.id, after.id);
    let mut reader = h.log().reader(Isolation::Committed).expect("a reader is made");
    let bounds = reader.bounds(&name, P0).expect("the bounds are known");
    assert_eq!(bounds, (NextOffset::ZERO, NextOffset::ZERO), "the old records are gone");
}

/// Asking for a topic or a partition that does not exist is an error with its name, and makes
/// nothing (a broker's auto.create.topics must not be reached).
pub fn what_does_not_exist_is_said_to_be_missing(h: &mut dyn Harness) {
    let missing = topic_name(h, "missing");
    let log = h.log();
    let mut reader = log.reader(Isolation::Committed).expect("a reader is made");
    let answer = reader.bounds(&missing, P0);
    assert!(matches!(&answer, Err(LogError::NoTopic(t)) if *t == missing), "{answer:?}");
    assert!(reader.seek(&missing, P0, NextOffset::ZERO).is_err());
    assert!(log.append(vec![put(&missing, P0, "k", "v")]).is_err());
    assert_eq!(log.topic(&missing).expect("the log answers"), None, "it was created by asking");

    let small = topic(h, "small", 1);
    let mut reader = h.log().reader(Isolation::Committed).expect("a reader is made");
    assert!(reader.bounds(&small, Partition(7)).is_err());
    assert!(h.log().append(vec![put(&small, Partition(7), "k", "v")]).is_err());
    assert!(reader.bounds(&small, P0).is_ok(), "a refused question breaks nothing");
}

/// Trap 30: a record without a partition goes where Java's clients would put its key (murmur2).
pub fn keys_are_partitioned_by_murmur2(h: &mut dyn Harness) {
    let name = topic(h, "murmur", 12);
    let keys: Vec<String> = (0..200).map(|n| format!("key-{n}")).collect();
    let records = keys.iter().map(|k| OutRecord { partition: None, ..put(&name, P0, k, k) });
    let places = h.log().append(records.collect()).expect("the records are written");
    assert_eq!(places.len(), keys.len());
    for (key, (partition, _)) in keys.iter().zip(places) {
        assert_eq!(partition, partition_for_key(key.as_bytes(), 12), "{key}");
    }
}
