//! "How weak Kafka is", line by line, on the real broker: what the simulated log is held to, and
//! the lines that concern no log of ours: brokers' defaults, and what groups do with two topics.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
};
use semel::log::conformance::{
    Harness,
    kit::{topic, until},
};

use crate::harness::{Broker, brokers, wait_for};

semel::log_weakness!(Broker::new());

/// Trap 29: two topics of four partitions, three members: a partition number whose halves sit at
/// different members, unless ranges are assigned (eagerly: every change stops everybody). So a stage
/// reads one topic, and `MemberSpec` has one.
#[test]
fn trap_29_halves_of_two_topics_sit_at_different_members() {
    for (strategy, apart) in [("cooperative-sticky", true), ("roundrobin", true), ("range", false)]
    {
        let owners = owners_of_two_topics(strategy);
        let found = owners.iter().any(|(left, right)| left != right);
        assert_eq!(found, apart, "{strategy}: {owners:?}");
    }
}

/// Which of three members owns each partition of the one topic, and of the other.
fn owners_of_two_topics(strategy: &str) -> Vec<(usize, usize)> {
    let h = Broker::new();
    let topics = [topic(&h, "left", 4), topic(&h, "right", 4)];
    let group = h.name("group");
    let members: Vec<BaseConsumer> = (0..3)
        .map(|_| {
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", brokers())
                .set("group.id", &group)
                .set("partition.assignment.strategy", strategy)
                .create()
                .expect("a consumer is made");
            consumer.subscribe(&topics.each_ref().map(|t| t.as_str())).expect("subscribed");
            consumer
        })
        .collect();
    let owner = |topic: &str, partition: i32| {
        members.iter().position(|member| {
            let owned = member.assignment().expect("an assignment");
            owned.find_partition(topic, partition).is_some()
        })
    };
    until(&h, "all partitions are assigned, to all members", || {
        for member in &members {
            let _ = member.poll(Duration::from_millis(50));
        }
        let found: Option<Vec<_>> = (0..4)
            .map(|p| Some((owner(topics[0].as_str(), p)?, owner(topics[1].as_str(), p)?)))
            .collect();
        let found = found?;
        let all = (0..3).all(|m| found.iter().any(|(left, right)| m == *left || m == *right));
        all.then_some(found)
    })
}

/// What a broker does by default, on which several guards rest (traps 27, 32, 37, 39).
#[test]
fn brokers_forget_after_a_week_and_refuse_above_a_megabyte() {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers())
        .create()
        .expect("an admin client is made");
    let options = AdminOptions::new();
    let found = wait_for(admin.describe_configs([&ResourceSpecifier::Broker(1)], &options))
        .expect("the broker answers")
        .remove(0)
        .expect("there is a broker 1");
    for (key, value) in [
        ("offsets.retention.minutes", "10080"),
        ("log.retention.hours", "168"),
        ("log.cleaner.delete.retention.ms", "86400000"),
        ("message.max.bytes", "1048588"),
        ("group.consumer.min.session.timeout.ms", "45000"),
    ] {
        let entry = found.get(key).and_then(|entry| entry.value.as_deref());
        assert_eq!(entry, Some(value), "{key}");
    }
}
