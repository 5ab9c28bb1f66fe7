//! Traps of membership: generations, rebalances, sessions.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rdkafka::{ClientConfig, consumer::BaseConsumer};
use semel::log::{
    Event, LogError, TxnFault,
    conformance::{
        Harness, Weak,
        kit::{
            Lane, P0, append, committed_texts, owned_after_a_kill_in_a_hand_over, put, sees, spec,
            takes_less, texts, topic, until,
        },
    },
};
use semel_schemas::topic::{NextOffset, TopicName};

use super::{owns, told, without};
use crate::harness::{Broker, brokers, config};

/// Two members of one group over two partitions, one each; the first had both before.
fn shared(h: &Broker) -> (Lane, Lane, TopicName, String) {
    let source = topic(h, "source", 2);
    let group = h.name("group");
    let mut a = Lane::owner(h, &spec(h, &group, &source, &h.name("a")), 2);
    a.commit(h, &[(P0, NextOffset::ZERO)]).expect("the only member commits");
    let mut b = Lane::join(h, &spec(h, &group, &source, &h.name("b")));
    until(h, "both own one", || {
        a.adopt(h, &mut Vec::new());
        b.adopt(h, &mut Vec::new());
        (a.owned.len() == 1 && b.owned.len() == 1).then_some(())
    });
    (a, b, source, group)
}

#[test]
fn trap_02_metadata_of_an_older_generation_is_refused_so_it_is_read_anew() {
    for guarded in [true, false] {
        let h = without(|g| g.fresh_metadata = guarded);
        let (mut a, _b, ..) = shared(&h);
        let own: Vec<_> = a.owned.keys().map(|p| (*p, NextOffset::ZERO)).collect();
        match a.commit(&h, &own) {
            Ok(()) => assert!(guarded, "stale metadata was accepted"),
            Err(e) => {
                assert!(!guarded, "{e}");
                assert_eq!(e.fault, TxnFault::Abort, "{e}");
            }
        }
    }
}

#[test]
fn trap_02_fresh_metadata_does_not_prove_ownership_of_a_partition() {
    for guarded in [true, false] {
        let h = without(|g| g.ownership = guarded);
        let (mut a, b, source, group) = shared(&h);
        let others = *b.owned.keys().next().expect("it owns one");
        let answer = a.commit(&h, &[(others, NextOffset(7))]);
        let found = h.log().committed(&group, &source).expect("the log answers");
        if guarded {
            assert_eq!(answer.expect_err("refused").fault, TxnFault::Abort);
            assert_ne!(found.get(&others), Some(&NextOffset(7)));
        } else {
            answer.expect("the broker accepts it");
            until(&h, "a zombie's offset is in", || {
                let found = h.log().committed(&group, &source).expect("the log answers");
                (found.get(&others) == Some(&NextOffset(7))).then_some(())
            });
        }
    }
}

#[test]
fn trap_11_lost_is_not_revoked() {
    for guarded in [true, false] {
        let h = without(|g| g.tell_lost = guarded).impatient();
        let source = topic(&h, "source", 1);
        let group = h.name("group");
        let mut zombie = Lane::owner(&h, &spec(&h, &group, &source, &h.name("zombie")), 1);
        let mut heir = Lane::join(&h, &spec(&h, &group, &source, &h.name("heir")));
        owns(&h, &mut heir, 1);
        match told(&h, &mut zombie, &mut heir) {
            Event::Lost(lost) => assert!(guarded && lost == [P0]),
            event => {
                assert!(!guarded, "{event:?}");
                let error = zombie.commit(&h, &[(P0, NextOffset::ZERO)]);
                error.expect_err("told to commit, and yet it cannot");
            }
        }
    }
}

#[test]
fn trap_12_only_the_delta_moves() {
    for guarded in [true, false] {
        let h = without(|g| g.cooperative = guarded);
        let source = topic(&h, "source", 4);
        let group = h.name("group");
        let mut a = Lane::owner(&h, &spec(&h, &group, &source, &h.name("a")), 4);
        let mut b = Lane::join(&h, &spec(&h, &group, &source, &h.name("b")));
        match told(&h, &mut a, &mut b) {
            Event::Revoked(gone) if guarded => assert_eq!(gone.len(), 2, "half moves"),
            Event::Revoked(gone) => assert_eq!(gone.len(), 4, "eager: everything stops"),
            event => assert_eq!(event, Event::Revoked(Vec::new())),
        }
    }
}

#[test]
fn trap_23_polls_with_everything_paused_keep_the_membership() {
    let h = Broker::new().impatient();
    let source = topic(&h, "source", 1);
    append(h.log(), &source, P0, &["a"]);
    let group = h.name("group");
    let mut a = Lane::owner(&h, &spec(&h, &group, &source, &h.name("a")), 1);
    let mut b = Lane::join(&h, &spec(&h, &group, &source, &h.name("b")));
    a.member.pause(&[P0]).expect("paused");
    let end = h.now() + h.silence() + Duration::from_secs(1);
    while h.now() < end {
        assert!(a.poll(10).is_empty(), "a paused partition yields nothing");
        b.adopt(&h, &mut Vec::new());
    }
    a.member.resume(&[P0]).expect("resumed");
    assert_eq!(texts(&a.records(&h, 1)), ["a"]);
    a.commit(&h, &[(P0, NextOffset(1))]).expect("still a member");
    owns(&h, &mut b, 1); // Nobody polls for `a` any more: it is taken for dead.
}

#[test]
fn trap_25_a_commit_without_offsets_is_fenced_by_nothing() {
    for guarded in [true, false] {
        let h = without(|g| (g.refuse_empty, g.identity) = (guarded, guarded)).impatient();
        let (source, out) = (topic(&h, "source", 1), topic(&h, "out", 1));
        let group = h.name("group");
        let mut zombie = Lane::owner(&h, &spec(&h, &group, &source, &h.name("zombie")), 1);
        let mut heir = Lane::join(&h, &spec(&h, &group, &source, &h.name("heir")));
        owns(&h, &mut heir, 1);
        zombie.produce(&h, &put(&out, P0, "k", "by the zombie"));
        let answer = zombie.member.commit(&[]);
        if guarded {
            assert_eq!(answer.expect_err("refused").fault, TxnFault::Fatal);
            zombie.member.abort().expect("aborted");
            assert!(committed_texts(&h, &out).is_empty());
        } else {
            answer.expect("the broker accepts it");
            sees(&h, &out, &["by the zombie"]);
        }
    }
}

#[test]
fn trap_31_a_plain_close_keeps_a_static_members_partitions_for_its_session() {
    let took = |guarded: bool| {
        let h = without(|g| g.unsubscribe = guarded);
        let (mut a, mut b, ..) = shared(&h);
        let began = h.now();
        a.member.leave().expect("left");
        owns(&h, &mut b, 2);
        h.now() - began
    };
    let limit = Broker::new().session() * 2 / 3;
    takes_less(limit, || took(true));
    let without = took(false);
    assert!(without > limit, "{without:?}");
}

#[test]
fn trap_32_the_new_group_protocol_works_with_dynamic_members() {
    let mut config = config();
    config.settings.insert("group.protocol".into(), "consumer".into());
    let h = Broker::with(config);
    let source = topic(&h, "source", 2);
    let nexts = append(h.log(), &source, P0, &["a"]);
    let group = h.name("group");
    let mut a = Lane::owner(&h, &spec(&h, &group, &source, &h.name("a")), 2);
    assert_eq!(texts(&a.records(&h, 1)), ["a"]);
    a.commit(&h, &[(P0, nexts[0])]).expect("committed");
    let mut b = Lane::join(&h, &spec(&h, &group, &source, &h.name("b")));
    until(&h, "both own one", || {
        a.adopt(&h, &mut Vec::new());
        b.adopt(&h, &mut Vec::new());
        (a.owned.len() == 1 && b.owned.len() == 1).then_some(())
    });
    b.member.leave().expect("left");
    owns(&h, &mut a, 2);
}

#[test]
fn trap_32_the_new_protocol_refuses_the_old_ones_settings() {
    let make = |session: Option<&str>| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers()).set("group.id", "nobody joins");
        config.set("group.protocol", "consumer");
        if let Some(session) = session {
            config.set("session.timeout.ms", session);
        }
        config.create::<BaseConsumer>()
    };
    assert!(make(None).is_ok(), "left to the brokers, as our settings do");
    assert!(make(Some("6000")).is_err(), "as the classic protocol wants it");
}

#[test]
fn trap_33_dropping_a_member_ends_whatever_it_owns_and_whatever_is_pending() {
    let h = Broker::new().impatient();
    let source = topic(&h, "source", 2);
    let group = h.name("group");
    let mut a = Lane::owner(&h, &spec(&h, &group, &source, &h.name("a")), 2);
    let mut b = Lane::join(&h, &spec(&h, &group, &source, &h.name("b")));
    let Event::Revoked(_) = told(&h, &mut a, &mut b) else { panic!("a revocation is due") };
    let began = Instant::now();
    drop(a); // In the middle of a revocation that it never answers.
    drop(b); // As a member that waits for its first partition.
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
    let (source, group) = (topic(&h, "source", 1), h.name("group"));
    let mut zombie = Lane::owner(&h, &spec(&h, &group, &source, &h.name("zombie")), 1);
    let mut heir = Lane::join(&h, &spec(&h, &group, &source, &h.name("heir")));
    owns(&h, &mut heir, 1);
    let Event::Lost(_) = told(&h, &mut zombie, &mut heir) else { panic!("all is lost") };
    let began = Instant::now();
    drop(zombie); // With a loss that it never answers.
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
}

#[test]
fn trap_33_nothing_is_given_up_inside_a_poll() {
    for guarded in [true, false] {
        let h = without(|g| g.hand_over = guarded);
        let source = topic(&h, "source", 2);
        let group = h.name("group");
        let mut a = Lane::owner(&h, &spec(&h, &group, &source, &h.name("a")), 2);
        let mut b = Lane::join(&h, &spec(&h, &group, &source, &h.name("b")));
        let Event::Revoked(gone) = told(&h, &mut a, &mut b) else { panic!("a revocation is due") };
        if !guarded {
            until(&h, "it goes before it is released", || {
                a.poll(10);
                b.adopt(&h, &mut Vec::new());
                b.owned.contains_key(&gone[0]).then_some(())
            });
            let answer = a.commit(&h, &[(gone[0], NextOffset::ZERO)]);
            answer.expect_err("told to commit, and yet it cannot");
            continue;
        }
        for _ in 0..5 {
            a.poll(10);
            b.adopt(&h, &mut Vec::new());
        }
        assert!(b.owned.is_empty(), "it went before it was released");
        a.commit(&h, &[(gone[0], NextOffset::ZERO)]).expect("still the owner");
        a.release(&gone);
        until(&h, "it goes when it is released", || {
            a.adopt(&h, &mut Vec::new());
            b.adopt(&h, &mut Vec::new());
            b.owned.contains_key(&gone[0]).then_some(())
        });
    }
}

#[test]
fn trap_34_brokers_accept_offsets_of_nobody_so_members_check_who_they_are() {
    let h = Broker::new();
    let source = topic(&h, "source", 1);
    let group = h.name("group");
    let mut owner = Lane::owner(&h, &spec(&h, &group, &source, &h.name("owner")), 1);
    owner.commit(&h, &[(P0, NextOffset(5))]).expect("the owner commits");
    // Generation -1, no member id: `kafka::member::can_fence` refuses to send such (tested there).
    let mut raw = h.raw(&h.name("stranger"));
    raw.send_offsets(&group, &source, &[(P0, NextOffset(3))]).expect("the broker accepts it");
    raw.commit().expect("the broker accepts it");
    let found = until(&h, "it is stable", || owner.member.committed(&[P0]).ok());
    assert_eq!(found.get(&P0), Some(&NextOffset(3)), "the owner's offset moved");
    // A member that was never assigned anything commits nothing.
    let mut stranger = Lane::join(&h, &spec(&h, &group, &source, &h.name("stranger")));
    let error = stranger.commit(&h, &[(P0, NextOffset(1))]).expect_err("not a member yet");
    assert_eq!(error.fault, TxnFault::Abort, "{error}");
}

#[test]
fn trap_38_two_processes_of_one_instance_fence_each_other_for_ever() {
    let h = Broker::new();
    let source = topic(&h, "source", 1);
    let spec = spec(&h, &h.name("group"), &source, &h.name("instance"));
    let mut first = Lane::owner(&h, &spec, 1);
    let mut second = h.log().join(&spec).expect("joined");
    second.init().expect("initialised");
    for _ in 0..3 {
        let error = first.commit(&h, &[(P0, NextOffset::ZERO)]).expect_err("fenced");
        assert_eq!(error.fault, TxnFault::Rebuild, "{error}");
        first.member.init().expect("rebuilt");
        second.init().expect("rebuilt");
    }
    // The group says it clearly: whoever joined last is the member.
    let error = until(&h, "the first is told", || {
        second.poll(1, Duration::from_millis(20)).expect("the second polls");
        first.member.poll(1, Duration::from_millis(20)).err()
    });
    let LogError::Replaced { instance, .. } = error else { panic!("{error}") };
    assert_eq!(instance, spec.instance);
}

/// The other process of [`trap_43_a_dead_member_costs_its_session_unless_it_is_static`]: joins,
/// says so, and waits to be killed. Without its variable it is no test, and passes.
#[test]
fn child_that_joins_and_waits_to_be_killed() {
    let Ok(text) = std::env::var("SEMEL_TEST_CHILD") else { return };
    let [group, source, instance, guarded] = text.split(' ').collect::<Vec<_>>()[..] else {
        panic!("the parent says what to join")
    };
    let h = without(|g| g.static_membership = guarded == "true");
    let source = TopicName::new(source).expect("a topic");
    let _lane = Lane::owner(&h, &spec(&h, group, &source, instance), 1);
    println!("\nowned");
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn trap_43_a_dead_member_costs_its_session_unless_it_is_static() {
    let took = |guarded: bool| {
        let h = without(|g| g.static_membership = guarded);
        let source = topic(&h, "source", 1);
        let (group, instance) = (h.name("group"), h.name("instance"));
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "traps::groups::child_that_joins_and_waits_to_be_killed"])
            .args(["--nocapture", "--test-threads", "1"])
            .env("SEMEL_TEST_CHILD", format!("{group} {source} {instance} {guarded}"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the child starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let owned = output.lines().map_while(Result::ok).any(|line| line == "owned");
        child.kill().expect("killed");
        child.wait().expect("dead");
        assert!(owned, "the child never owned the partition");
        let began = h.now();
        let _lane = Lane::owner(&h, &spec(&h, &group, &source, &instance), 1);
        h.now() - began
    };
    let limit = Broker::new().session() * 2 / 3;
    takes_less(limit, || took(true));
    let without = took(false);
    assert!(without > limit, "{without:?}");
}

/// KIP-345 with KIP-429; with the guard: the conformance suite.
#[test]
fn what_a_killed_member_was_to_hand_over_stays_nobodys_if_nobody_looks() {
    let h = without(|g| g.claim_orphans = false);
    assert_eq!(owned_after_a_kill_in_a_hand_over(&h, h.session()), 2);
}
