//! Traps of transactions: ids, failures, sizes, queues, latencies.

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, Producer},
    util::Timeout,
};
use semel::log::{
    Isolation, ProduceError, TxnFault,
    conformance::{
        Harness,
        kit::{
            Lane, P0, append, put, read_all, read_at_least, sees, spec, takes_less, topic, until,
        },
    },
    kafka::{Guards, KafkaConfig},
};
use semel_schemas::{partition::partition_for_key, record::OutRecord, topic::NextOffset};

use super::{partitions, without};
use crate::harness::{Broker, brokers, config};

#[test]
fn trap_03_a_transaction_ends_before_the_next_begins() {
    for guarded in [true, false] {
        let h = without(|g| g.one_transaction = guarded);
        let (source, out) = (topic(&h, "source", 1), topic(&h, "out", 1));
        let mut lane = Lane::alone(&h, &source, 1);
        lane.produce(&h, &put(&out, P0, "k", "begins it"));
        let second = lane.member.produce(put(&out, P0, "k", "belongs to it"));
        assert_eq!(second.is_ok(), guarded, "{second:?}");
    }
}

#[test]
fn trap_04_a_new_id_at_every_start_leaves_the_old_transaction_open() {
    let took = |guarded: bool| {
        let h = without(|g| g.stable_id = guarded);
        let (source, out) = (topic(&h, "source", 1), topic(&h, "out", 1));
        let spec = spec(&h, &h.name("group"), &source, &h.name("instance"));
        let mut lane = Lane::owner(&h, &spec, 1);
        lane.produce(&h, &put(&out, P0, "k", "of the crashed"));
        until(&h, "it is in the log, and open", || {
            (read_all(&h, Isolation::Uncommitted, &out, P0).len() == 1).then_some(())
        });
        drop(lane);
        let began = h.now();
        let _lane = Lane::owner(&h, &spec, 1);
        append(h.log(), &out, P0, &["behind"]);
        sees(&h, &out, &["behind"]);
        h.now() - began
    };
    let limit = Broker::new().transaction() / 2;
    takes_less(limit, || took(true));
    let without = took(false);
    assert!(without > limit, "nobody waited for the timeout: {without:?}");
}

#[test]
fn trap_07_a_record_that_could_not_be_written_is_counted_and_the_transaction_aborted() {
    for guarded in [true, false] {
        let h = without(|g| (g.sizes, g.count_failures) = (false, guarded));
        let (source, out) = (topic(&h, "source", 1), topic(&h, "out", 1));
        h.alter(&out, &[("max.message.bytes", "2000")]);
        let mut lane = Lane::alone(&h, &source, 1);
        lane.produce(&h, &put(&out, P0, "k", &"x".repeat(10_000)));
        let error = lane.commit(&h, &[(P0, NextOffset::ZERO)]).expect_err("it cannot be written");
        // Without the guard nobody notices before offsets are sent; librdkafka then does.
        assert_eq!(error.text.contains("could not be written"), guarded, "{error}");
        assert_eq!(error.text.contains("send_offsets"), !guarded, "{error}");
        assert_eq!(error.fault, TxnFault::Abort, "{error}");
        lane.member.abort().expect("aborted");
        // librdkafka's purge of the failed transaction runs on its own threads, and may reach into
        // the next one: a known abort again.
        until(&h, "the member goes on", || {
            lane.produce(&h, &put(&out, P0, "k", "small"));
            let answer = lane.commit(&h, &[(P0, NextOffset::ZERO)]);
            if let Err(e) = &answer {
                assert_eq!(e.fault, TxnFault::Abort, "{e}");
                lane.member.abort().expect("aborted");
            }
            answer.ok()
        });
        sees(&h, &out, &["small"]);
    }
}

#[test]
fn trap_09_for_ever_is_shortened_so_each_call_has_a_deadline_of_ours() {
    // How long initialising waits where nobody answers, with a transaction timeout of 1 s.
    let waits = |wait: Timeout| {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", "127.0.0.1:1")
            .set("transactional.id", "never initialised")
            .set("transaction.timeout.ms", "1000")
            .set("message.timeout.ms", "750")
            .create()
            .expect("a producer is made");
        let began = Instant::now();
        producer.init_transactions(wait).expect_err("nobody answers");
        began.elapsed()
    };
    let asked = Duration::from_secs(2); // Twice the transaction timeout, the longest there is.
    let took = waits(Timeout::After(asked));
    assert!(
        took + Duration::from_millis(100) >= asked,
        "what is asked for is waited for: {took:?}"
    );
    // Its return alone shows it; the limit is for a thread that gets no processor.
    let took = waits(Timeout::Never);
    assert!(took < Duration::from_mins(1), "for ever was no promise: {took:?}");
}

#[test]
fn trap_24_more_than_five_requests_in_flight_break_idempotence() {
    let make = |in_flight: Option<&str>| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers()).set("transactional.id", "never initialised");
        if let Some(in_flight) = in_flight {
            config.set("max.in.flight", in_flight);
        }
        config.create::<BaseProducer>()
    };
    assert!(make(None).is_ok(), "left to the library");
    assert!(make(Some("6")).is_err(), "the library itself refuses it");
}

#[test]
fn trap_10_a_message_timeout_beyond_the_transactions_is_refused_at_creation() {
    let make = |message: &str| {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers())
            .set("transactional.id", "never initialised")
            .set("transaction.timeout.ms", "10000")
            .set("message.timeout.ms", message);
        config.create::<BaseProducer>()
    };
    assert!(make("7500").is_ok(), "what is derived");
    assert!(make("20000").is_err(), "what two settings could say");
}

#[test]
fn trap_19_a_moved_epoch_is_routine() {
    let h = Broker::new();
    let (source, out) = (topic(&h, "source", 1), topic(&h, "out", 1));
    let mut lane = Lane::alone(&h, &source, 1);
    for round in 0..3 {
        lane.produce(&h, &put(&out, P0, "k", &format!("given up {round}")));
        // As after a commit that timed out: the end is unknown, the producer is replaced.
        lane.member.init().expect("rebuilt");
        lane.produce(&h, &put(&out, P0, "k", &format!("committed {round}")));
        lane.commit(&h, &[(P0, NextOffset::ZERO)]).expect("committed");
    }
    sees(&h, &out, &["committed 0", "committed 1", "committed 2"]);
}

#[test]
fn trap_20_a_full_queue_is_pressure_and_no_failure() {
    for guarded in [true, false] {
        let mut config = config();
        config.settings.insert("queue.buffering.max.messages".into(), "10".into());
        let guards = Guards { full_is_pressure: guarded, ..Guards::default() };
        let h = Broker::with(KafkaConfig { guards, ..config });
        let (source, out) = (topic(&h, "source", 1), topic(&h, "out", 1));
        let mut lane = Lane::alone(&h, &source, 1);
        let (mut full, mut failed) = (0, 0);
        for n in 0..100 {
            until(&h, "the record is taken", || {
                match lane.member.produce(put(&out, P0, "k", &n.to_string())) {
                    Ok(()) => return Some(()),
                    Err(ProduceError::Full) => full += 1,
                    Err(_) => failed += 1,
                }
                lane.member.make_room().expect("waited");
                None
            });
        }
        lane.commit(&h, &[(P0, NextOffset::ZERO)]).expect("committed");
        assert_eq!(read_at_least(&h, &out, P0, 100).len(), 100);
        assert_eq!((full > 0, failed > 0), (guarded, !guarded), "{full} {failed}");
    }
}

#[test]
fn trap_30_librdkafkas_own_partitioner_is_not_javas() {
    for guarded in [true, false] {
        let h = without(|g| g.murmur2 = guarded);
        let name = topic(&h, "keys", 12);
        let keys: Vec<String> = (0..200).map(|n| format!("key-{n}")).collect();
        let records = keys.iter().map(|k| OutRecord { partition: None, ..put(&name, P0, k, k) });
        let places = h.log().append(records.collect()).expect("written");
        let wrong = keys
            .iter()
            .zip(places)
            .filter(|(key, (place, _))| *place != partition_for_key(key.as_bytes(), 12))
            .count();
        if guarded {
            assert_eq!(wrong, 0);
        } else {
            assert!(wrong > 150, "{wrong} of 200 land elsewhere");
        }
    }
}

#[test]
fn trap_39_sizes_are_checked_before_or_the_transaction_fails_for_ever() {
    for guarded in [true, false] {
        let h = without(|g| g.sizes = guarded);
        let (source, out) = (topic(&h, "source", 1), topic(&h, "out", 1));
        let large = put(&out, P0, "k", &"x".repeat(h.too_large()));
        let mut lane = Lane::alone(&h, &source, 1);
        for _ in 0..2 {
            let answer = lane.member.produce(large.clone());
            if guarded {
                let Err(ProduceError::TooLarge { size, limit, .. }) = answer else {
                    panic!("{answer:?}")
                };
                assert!(size > limit);
                continue;
            }
            let Err(ProduceError::Txn(error)) = answer else { panic!("{answer:?}") };
            assert_eq!(error.fault, TxnFault::Abort, "again and again: {error}");
            lane.member.abort().expect("aborted");
        }
    }
}

#[test]
fn trap_39_a_topic_that_takes_smaller_batches_than_we_make_is_refused_at_once() {
    let mut h = Broker::new();
    let (source, out) = (topic(&h, "source", 1), topic(&h, "out", 1));
    h.alter(&out, &[("max.message.bytes", "2000")]);
    h.restart(); // What is known of a topic is asked once.
    let mut lane = Lane::alone(&h, &source, 1);
    let answer = lane.member.produce(put(&out, P0, "k", "small"));
    let Err(ProduceError::Txn(error)) = answer else { panic!("{answer:?}") };
    assert!(error.text.contains("batch.size") && error.text.contains("2000"), "{error}");
}

#[test]
fn trap_40_the_wrappers_flush_costs_100_ms_a_commit() {
    let commit = |off: fn(&mut Guards)| {
        let h = without(off);
        let (source, out) = (topic(&h, "source", 1), topic(&h, "out", 4));
        let mut lane = Lane::alone(&h, &source, 1);
        move || {
            let began = Instant::now();
            for partition in partitions(4) {
                lane.produce(&h, &put(&out, partition, "k", "v"));
            }
            lane.commit(&h, &[(P0, NextOffset(0))]).expect("committed");
            began.elapsed()
        }
    };
    let slice = Duration::from_millis(80);
    let mut with = commit(|_| ());
    takes_less(slice, || (0..15).map(|_| with()).min().unwrap_or_default());
    let mut without = commit(|g| g.own_flush = false);
    let least = (0..15).map(|_| without()).min().unwrap_or_default();
    assert!(least > slice, "{least:?}");
}

#[test]
fn trap_42_a_commit_meets_the_unwritten_markers_of_the_one_before() {
    let behind = |off: fn(&mut Guards)| {
        let h = without(off);
        let (source, out) = (topic(&h, "source", 1), topic(&h, "out", 64));
        let mut lane = Lane::alone(&h, &source, 1);
        move || {
            for partition in partitions(64) {
                lane.produce(&h, &put(&out, partition, "k", "v"));
            }
            lane.commit(&h, &[(P0, NextOffset(0))]).expect("committed");
            // The group wants to hear of it; without a wait, or the markers would be written by then.
            lane.member.poll(0, Duration::ZERO).expect("polled");
            let began = Instant::now();
            lane.commit(&h, &[(P0, NextOffset(0))]).expect("committed");
            began.elapsed()
        }
    };
    let backoff = Duration::from_millis(80); // The library's is 100 ms, give or take a fifth.
    let mut with = behind(|_| ());
    takes_less(backoff, || (0..15).map(|_| with()).min().unwrap_or_default());
    let mut without = behind(|g| g.short_backoff = false);
    assert!((0..200).any(|_| without() >= backoff), "never refused");
}
