//! The traps of Kafka whose guards lie in the log, by the numbers of the table "Exactly-once on
//! Kafka with librdkafka". Each test shows both: with the guard the right thing happens, without it
//! the failure is seen. Where the guard is a type or a pure function, that is what is tested
//! (beside the code: 5, 6, 9, 10, 18, 19, 24, 32, 36, 42 in `src/log/kafka`).

mod groups;
mod reading;
mod transactions;

use std::time::Duration;

use semel::log::{
    Event,
    conformance::{
        Harness,
        kit::{Lane, until},
    },
    kafka::Guards,
};
use semel_schemas::topic::Partition;

use crate::harness::Broker;

/// All guards but those that `off` switches off.
fn without(off: impl FnOnce(&mut Guards)) -> Broker {
    let mut guards = Guards::default();
    off(&mut guards);
    Broker::guarded(guards)
}

/// Polls until partitions are revoked or lost, and returns that event; nothing is released.
fn told(h: &Broker, lane: &mut Lane, other: &mut Lane) -> Event {
    until(h, "the member is told", || {
        other.adopt(h, &mut Vec::new());
        lane.poll(10).into_iter().find(|e| matches!(e, Event::Revoked(_) | Event::Lost(_)))
    })
}

/// Polls until `lane` owns `count` partitions; how long that took.
fn owns(h: &Broker, lane: &mut Lane, count: usize) -> Duration {
    let began = h.now();
    until(h, "the member owns its partitions", || {
        lane.adopt(h, &mut Vec::new());
        (lane.owned.len() == count).then_some(())
    });
    h.now() - began
}

/// Partitions 0 to `count`.
fn partitions(count: u32) -> Vec<Partition> {
    (0..count).map(Partition).collect()
}
