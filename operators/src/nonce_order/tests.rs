//! `nonce_order` as tables and over permutations.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::clockwork::{Clockwork, Out};

fn with(more: serde_json::Value) -> Result<NonceOrder, String> {
    let mut all = json!({
        "record": "request", "track": ["track"], "max_early": 3, "max_distance": 10,
        "gap_timeout_ms": 1000, "max_outputs": 2,
    });
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    serde_json::from_value::<Settings>(all).map_err(|e| e.to_string()).and_then(NonceOrder::new)
}

fn order() -> Clockwork<NonceOrder> {
    Clockwork::new(with(json!({})).unwrap())
}

fn send(world: &mut Clockwork<NonceOrder>, nonce: u64) -> Result<Vec<u64>, FaultCode> {
    world.record("request", "k", &json!({"track": 0, "nonce": nonce}))?;
    Ok(went(world))
}

fn nonces(out: &[Out]) -> Vec<u64> {
    out.iter().map(|out| out.value["nonce"].as_u64().unwrap()).collect()
}

fn went(world: &mut Clockwork<NonceOrder>) -> Vec<u64> {
    world.settle();
    nonces(&world.taken(&To::Next))
}

#[test]
fn early_ones_wait_and_stale_ones_are_refused() {
    let mut world = order();
    for (nonce, want) in [
        (1, Ok(vec![])),
        (1, Err(FaultCode::NonceStale)),
        (0, Ok(vec![0, 1])),
        (0, Err(FaultCode::NonceStale)),
        (1, Err(FaultCode::NonceStale)),
        (12, Ok(vec![])),
        (13, Err(FaultCode::NonceTooFar)),
        (4, Ok(vec![])),
        (3, Ok(vec![])),
        (5, Err(FaultCode::NonceBufferFull)),
        (2, Ok(vec![2, 3, 4])),
        (u64::MAX, Err(FaultCode::Overflow)),
    ] {
        assert_eq!(send(&mut world, nonce), want, "nonce {nonce}");
    }
    assert!(world.widest <= 2, "a step emits at most max_outputs");
}

#[test]
fn keys_and_tracks_do_not_wait_for_each_other() {
    let mut world = order();
    for (key, track, nonce, goes_on) in
        [("a", "x", 1, false), ("a", "y", 0, true), ("b", "x", 0, true), ("a", "x", 0, true)]
    {
        world.record("request", key, &json!({"track": track, "nonce": nonce})).unwrap();
        assert_eq!(!went(&mut world).is_empty(), goes_on, "{key} {track} {nonce}");
    }
}

#[test]
fn a_refusal_names_the_missing_nonce() {
    let world = order();
    let track = Track { next: 5, waiting: vec![6, 8, 9], ..Track::default() };
    for (nonce, text) in [(7, "nonce 5 is missing"), (100, "nonce 5 is missing")] {
        let fault = world.bench.operator.check_limits(nonce, &track).unwrap_err();
        assert!(fault.text.contains(text), "{fault}");
    }
    assert!(stale(3, 5).text.contains("the missing one is nonce 5"));
}

#[test]
fn an_expired_gap_refuses_what_waited_and_tells_the_callers() {
    let mut world = order();
    assert_eq!(send(&mut world, 0), Ok(vec![0]));
    for nonce in [2, 3, 5] {
        assert_eq!(send(&mut world, nonce), Ok(vec![]));
    }
    world.at(999);
    assert_eq!(world.taken(&To::Output("refused")), []);
    world.at(1000);
    let told = world.taken(&To::Output("refused"));
    assert_eq!(told.len(), 3);
    assert!(world.widest <= 2, "a step emits at most max_outputs");
    for (out, (id, nonce)) in told.iter().zip([("r2", 2), ("r3", 3), ("r4", 5)]) {
        assert_eq!((out.kind.as_str(), out.key.as_str()), ("verdict", "k"));
        let verdict: Verdict = serde_json::from_value(out.value.clone()).unwrap();
        assert_eq!((verdict.record_id.as_str(), verdict.code), (id, FaultCode::NonceGapExpired));
        assert_eq!(verdict.missing_nonce.as_deref(), Some("1"));
        let value: serde_json::Value = serde_json::from_str(&verdict.value).unwrap();
        assert_eq!(value["nonce"], nonce);
    }
    // Nothing is passed over: the track still waits for 1, and the refused may come again.
    assert_eq!(send(&mut world, 2), Ok(vec![]));
    assert_eq!(send(&mut world, 1), Ok(vec![1, 2]));
    world.at(9_000);
    assert!(world.timers.is_empty(), "no gap, no timer once it has found none");
    assert_eq!(world.taken(&To::Output("refused")), []);
}

#[test]
fn each_gap_has_its_own_time() {
    let mut world = order();
    for nonce in [1, 3] {
        assert_eq!(send(&mut world, nonce), Ok(vec![]));
    }
    world.at(900);
    assert_eq!(send(&mut world, 0), Ok(vec![0, 1]));
    world.at(1899);
    assert_eq!(world.taken(&To::Output("refused")), []);
    world.at(1900);
    assert_eq!(world.taken(&To::Output("refused")).len(), 1);
}

#[test]
fn a_nonce_that_comes_while_others_are_being_refused_is_run() {
    let mut world = order();
    for nonce in [1, 2, 3] {
        assert_eq!(send(&mut world, nonce), Ok(vec![]));
    }
    world.bench.now = WallTime(1000);
    assert!(world.fire_one());
    assert_eq!(world.taken(&To::Output("refused")).len(), 2);
    world.record("request", "k", &json!({"track": 0, "nonce": 0})).unwrap();
    assert_eq!(went(&mut world), [0]);
    assert_eq!(send(&mut world, 1), Ok(vec![1]));
    assert_eq!(send(&mut world, 2), Ok(vec![2, 3]));
}

#[test]
fn the_first_nonce_is_a_setting() {
    for (first, nonce, want) in [
        (json!(7), 7, Ok(vec![7])),
        (json!(7), 6, Err(FaultCode::NonceStale)),
        (json!("first_seen"), 41, Ok(vec![41])),
    ] {
        let mut world = Clockwork::new(with(json!({"first": first})).unwrap());
        assert_eq!(send(&mut world, nonce), want);
    }
    assert!(with(json!({"first": "seen"})).is_err());
    assert!(with(json!({"max_outputs": 0})).unwrap_err().contains("max_outputs"));
    assert!(with(json!({"frist": 1})).unwrap_err().contains("frist"));
}

#[test]
fn nonces_are_numbers_or_decimal_strings() {
    let mut world = order();
    for (nonce, want) in [
        (json!("0"), Ok(())),
        (json!(1), Ok(())),
        (json!(-1), Err(FaultCode::WrongType)),
        (json!("x"), Err(FaultCode::WrongType)),
        (json!(null), Err(FaultCode::MissingField)),
    ] {
        let value = json!({"track": 0, "nonce": nonce});
        assert_eq!(world.record("request", "k", &value), want, "{value}");
    }
    assert_eq!(world.raw("request", "k", None), Err(FaultCode::UnexpectedTombstone));
}

/// A permutation in which nothing is further ahead than the limits allow.
fn nearly_ordered() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0..4_u64, 1..60).prop_map(|jitter| {
        let mut order: Vec<_> = (0_u64..).zip(jitter).map(|(n, j)| (n + j, n)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, n)| n).collect()
    })
}

proptest! {
    #[test]
    fn permutations_within_the_limits_give_the_same_order(order_in in nearly_ordered()) {
        let mut world = order();
        for nonce in &order_in {
            world.record("request", "k", &json!({"track": 0, "nonce": nonce})).unwrap();
            world.settle();
        }
        let want: Vec<u64> = (0..order_in.len() as u64).collect();
        prop_assert_eq!(went(&mut world), want);
    }

    #[test]
    fn whatever_comes_the_output_has_no_gap_and_every_record_one_answer(
        steps in prop::collection::vec((0..2_u8, 0..14_u64, 0..700_u64, any::<bool>()), 1..120),
    ) {
        let mut world = order();
        let (mut now, mut accepted) = (0, 0);
        for (track, nonce, wait, settle) in steps {
            now += if wait < 100 { wait * 10 } else { 0 };
            world.bench.now = WallTime(now);
            let value = json!({"track": track, "nonce": nonce});
            accepted += u64::from(world.record("request", "k", &value).is_ok());
            if settle {
                world.settle();
            }
        }
        // What waits to be sent on goes first and may leave another gap, which has its own time.
        world.at(now + 10_000);
        world.at(now + 20_000);
        let out = world.taken(&To::Next);
        for track in 0..2_u8 {
            let of_track: Vec<_> =
                out.iter().filter(|o| o.value["track"] == track).cloned().collect();
            let want: Vec<u64> = (0..of_track.len() as u64).collect();
            prop_assert_eq!(nonces(&of_track), want);
        }
        let refused = world.taken(&To::Output("refused")).len() as u64;
        prop_assert_eq!(out.len() as u64 + refused, accepted);
        prop_assert!(world.widest <= 2);
    }
}

#[test]
fn a_track_an_early_record_and_a_timer_tell_whose_they_are() {
    let operator = order().bench.operator;
    let hash = hash_of_key(b"k");
    for hash in [Some(hash), None] {
        let mut bytes = [5_u64.to_be_bytes(), 0_u64.to_be_bytes()].concat();
        bytes.push(0);
        bytes.extend(6_u64.to_be_bytes());
        bytes.extend(hash.into_iter().flat_map(u32::to_be_bytes));
        let track = Track::from_bytes(&bytes).unwrap();
        assert_eq!((track.waiting, track.hash), (vec![6], hash), "written before, it has none");
        let part = Part::Pair { store: TRACKS, key: &[0; 16], value: &bytes };
        assert_eq!(operator.owner(part), hash.map_or(Owner::Unknown, Owner::Hash));
    }
    let early = Envelope {
        id: "r".into(),
        kind: "request".into(),
        key: b"k".to_vec(),
        value: None,
        headers: semel_schemas::header::Headers::new(),
    };
    let value = kept::to_bytes(&early);
    let part = Part::Pair { store: EARLY, key: &[0; 24], value: &value };
    assert_eq!(operator.owner(part), Owner::Key(b"k".to_vec()));
    let name = timer(GAP, &[7; 16]);
    let part = Part::Timer { key: &name, payload: &[7; 16] };
    assert_eq!(operator.owner(part), Owner::Like { store: TRACKS, key: vec![7; 16] });
}
