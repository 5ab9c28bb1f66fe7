//! One rule, one test.

use semel_schemas::attention::{CHANNEL_DISCRIMINATOR, channel_layout as layout};
use semel_schemas::time::Slot;

use super::*;
use crate::{operator::Step, testing::Bench};

fn bench(auto_publish: bool) -> Bench<SettleSolana> {
    Bench::new(SettleSolana::new(Settings { auto_publish, ..settings() }).unwrap())
}

fn effects(step: &Step) -> Vec<&str> {
    step.effects.iter().map(|e| e.id.as_str()).collect()
}

/// What was emitted: (output, settlement status or type).
fn emits(step: &Step) -> Vec<(To, String)> {
    step.emits
        .iter()
        .map(|emit| {
            let value = emit.record.value.as_deref().unwrap();
            let text = if emit.record.kind == SETTLEMENT {
                let s: Settlement = codec::decode(SETTLEMENT, value).unwrap();
                format!("{} {:?}", s.settlement_id, s.status)
            } else {
                emit.record.kind.clone()
            };
            (emit.to.clone(), text)
        })
        .collect()
}

fn chain_holds(epoch: u64, byte: u8) -> Outcome {
    let mut data = vec![0; layout::LEN];
    data[..8].copy_from_slice(&CHANNEL_DISCRIMINATOR);
    data[layout::VERSION] = 1;
    let slot = layout::slot(epoch);
    data[slot..slot + 8].copy_from_slice(&epoch.to_le_bytes());
    data[slot + 8..slot + 40].fill(byte);
    Outcome::Account { context_slot: Slot(9), data: Some(Base64(data)) }
}

fn outcome(id: &str, outcome: Outcome) -> Input {
    Input::Outcome { id: id.into(), outcome }
}

#[test]
fn with_auto_publish_a_root_is_read_from_the_chain_before_anything_else() {
    let mut bench = bench(true);
    let step = bench.step(root_input(&root("a", 5, 1))).unwrap();
    assert_eq!(effects(&step), ["read/a:5"]);
    assert_eq!(emits(&step), []);
    let Effect::SolanaAccount { commitment, .. } = &step.effects[0].effect else { panic!() };
    assert_eq!(*commitment, Commitment::Finalized);
}

#[test]
fn without_it_a_root_waits_for_its_publish_command() {
    let mut bench = bench(false);
    let step = bench.step(root_input(&root("a", 5, 1))).unwrap();
    assert_eq!(effects(&step), Vec::<&str>::new());
    let step = bench.step(publish_input("a", 5)).unwrap();
    assert_eq!(effects(&step), ["read/a:5"]);
    // Again while it is under way: answered by what happens anyway.
    let step = bench.step(publish_input("a", 5)).unwrap();
    assert_eq!((effects(&step).len(), emits(&step).len()), (0, 0));
}

#[test]
fn a_publish_command_for_a_root_that_is_not_there_is_refused_and_leaves_nothing_behind() {
    let mut bench = bench(false);
    let before = bench.state.clone();
    let fault = bench.step(publish_input("a", 5)).unwrap_err();
    assert_eq!(fault.code, FaultCode::UnknownTarget);
    assert_eq!(bench.state, before);
}

#[test]
fn a_root_found_on_the_chain_is_confirmed_without_a_transaction_and_publish_repeats_the_answer() {
    let mut bench = bench(true);
    bench.step(root_input(&root("a", 5, 1))).unwrap();
    bench.now = WallTime(77);
    let step = bench.step(outcome("read/a:5", chain_holds(5, 1))).unwrap();
    assert_eq!(
        emits(&step),
        [
            (To::Output(SETTLEMENTS), "a:5#1 Confirmed".into()),
            (To::Output(ROOT_ROWS), ROOT.into()),
            (To::Next, "a:5#1 Confirmed".into()),
        ]
    );
    let value = step.emits[0].record.value.as_deref().unwrap();
    let row: Settlement = codec::decode(SETTLEMENT, value).unwrap();
    assert_eq!((row.tx_signature, row.settled_at), (None, Some(WallTime(77))));
    let settled: RootRecord =
        codec::decode(ROOT, step.emits[1].record.value.as_deref().unwrap()).unwrap();
    assert_eq!(settled, RootRecord { status: RootStatus::Settled, ..root("a", 5, 1) });

    bench.now = WallTime(99);
    let step = bench.step(publish_input("a", 5)).unwrap();
    assert_eq!(emits(&step), [(To::Output(SETTLEMENTS), "a:5#1 Confirmed".into())]);
    let again: Settlement =
        codec::decode(SETTLEMENT, step.emits[0].record.value.as_deref().unwrap()).unwrap();
    assert_eq!(again, row);
    assert_eq!(effects(&step), Vec::<&str>::new());
}

#[test]
fn one_root_of_a_channel_is_in_flight_and_the_others_follow_in_the_order_of_epochs() {
    let mut bench = bench(true);
    assert_eq!(effects(&bench.step(root_input(&root("a", 5, 1))).unwrap()), ["read/a:5"]);
    for epoch in [300, 7, 6] {
        let step = bench.step(root_input(&root("a", epoch, 1))).unwrap();
        assert_eq!(effects(&step), Vec::<&str>::new());
    }
    // "a" does not keep "b" waiting, nor a channel whose name begins alike.
    assert_eq!(effects(&bench.step(root_input(&root("b", 1, 1))).unwrap()), ["read/b:1"]);
    assert_eq!(effects(&bench.step(root_input(&root("ab", 1, 1))).unwrap()), ["read/ab:1"]);
    for (done, next) in [(5, Some(6)), (6, Some(7)), (7, Some(300)), (300, None)] {
        let id = format!("read/a:{done}");
        // 6 fails (another root is there): it blocks nothing behind it.
        let byte = if done == 6 { 9 } else { 1 };
        let step = bench.step(outcome(&id, chain_holds(done, byte))).unwrap();
        let next: Vec<String> = next.map(|n: u64| format!("read/a:{n}")).into_iter().collect();
        assert_eq!(effects(&step), next);
    }
    assert_eq!(effects(&bench.step(root_input(&root("a", 301, 1))).unwrap()), ["read/a:301"]);
}

#[test]
fn a_root_that_comes_again_changes_nothing_and_another_root_for_its_epoch_is_refused() {
    let mut bench = bench(true);
    bench.step(root_input(&root("a", 5, 1))).unwrap();
    let before = bench.state.clone();
    let step = bench.step(root_input(&root("a", 5, 1))).unwrap();
    assert_eq!((effects(&step).len(), &bench.state), (0, &before));
    let fault = bench.step(root_input(&root("a", 5, 2))).unwrap_err();
    assert_eq!(fault.code, FaultCode::RootConflict);
    assert_eq!(bench.state, before);
}

#[test]
fn a_conflict_stops_the_root_and_calls_a_person_and_publish_reads_again() {
    let mut bench = bench(true);
    bench.step(root_input(&root("a", 5, 1))).unwrap();
    let step = bench.step(outcome("read/a:5", chain_holds(5, 2))).unwrap();
    assert_eq!(
        emits(&step),
        [(To::Output(SETTLEMENTS), "a:5#1 Failed".into()), (To::Output(ALERTS), ALERT.into()),]
    );
    let alert: Alert =
        codec::decode(ALERT, step.emits[1].record.value.as_deref().unwrap()).unwrap();
    assert_eq!(alert.code, FaultCode::RootConflict);
    let step = bench.step(publish_input("a", 5)).unwrap();
    assert_eq!(effects(&step), ["read/a:5"]);
    let step = bench.step(outcome("read/a:5", chain_holds(5, 1))).unwrap();
    assert_eq!(emits(&step)[0].1, "a:5#1 Confirmed");
}

#[test]
fn what_the_program_can_never_take_fails_with_its_reason_and_asks_nothing() {
    for (epoch, count) in [(0, 3), (5, 8_193), (5, 70_000)] {
        let mut bench = bench(true);
        let root = RootRecord { count, ..root("a", epoch, 1) };
        let step = bench.step(root_input(&root)).unwrap();
        assert_eq!(effects(&step), Vec::<&str>::new());
        assert_eq!(emits(&step)[0].1, format!("a:{epoch}#1 Failed"));
        // It is not in flight.
        let step = bench.step(root_input(&super::root("a", 9, 1))).unwrap();
        assert_eq!(effects(&step), ["read/a:9"]);
    }
}

#[test]
fn broken_roots_and_commands_are_refused_with_the_field() {
    let good = root("a", 5, 1);
    let mut bench = bench(true);
    let bad = [
        RootRecord { root_id: "a:6".into(), ..good.clone() },
        RootRecord { channel: String::new(), root_id: ":5".into(), ..good.clone() },
        RootRecord { channel: "a\0b".into(), root_id: "a\0b:5".into(), ..good.clone() },
        RootRecord { root: "12".into(), ..good.clone() },
        RootRecord { status: RootStatus::Settled, ..good.clone() },
    ];
    for root in bad {
        let fault = bench.step(root_input(&root)).unwrap_err();
        assert_eq!(fault.code, FaultCode::WrongType, "{root:?}");
    }
    let Input::Record(envelope) = root_input(&good) else { panic!() };
    let tombstone = Input::Record(Envelope { value: None, ..envelope.clone() });
    assert_eq!(bench.step(tombstone).unwrap_err().code, FaultCode::UnexpectedTombstone);
    let garbage = Input::Record(Envelope { value: Some(b"{".to_vec()), ..envelope });
    assert_eq!(bench.step(garbage).unwrap_err().code, FaultCode::Undecodable);
    assert!(bench.state.is_empty());
}

#[test]
fn outcomes_and_timers_of_roots_that_are_not_there_are_counted_and_ignored() {
    let mut bench = bench(true);
    for id in ["read/a:5", "read/a", "read", "x/a:5", "read/a:x"] {
        let step = bench.step(outcome(id, Outcome::Sent)).unwrap();
        assert_eq!(step.counts, [("settle_stray", 1)], "{id}");
    }
    let timer = Input::Timer { key: TimerKey::wall("a:5"), payload: vec![] };
    assert_eq!(bench.step(timer).unwrap().counts, [("settle_stray", 1)]);
}

#[test]
fn settings_out_of_range_and_unknown_keys_are_refused_by_name() {
    let bad = [
        ("fee_percentile", Settings { fee_percentile: 101, ..settings() }),
        ("failures_max", Settings { failures_max: 0, ..settings() }),
        ("resend_ms", Settings { resend_ms: 0, ..settings() }),
        ("retry_ms", Settings { retry_ms: 0, ..settings() }),
        ("retry_max_ms", Settings { retry_max_ms: 5, retry_ms: 6, ..settings() }),
    ];
    for (name, settings) in bad {
        let text = SettleSolana::new(settings).unwrap_err();
        assert!(text.starts_with(&format!("`{name}` is ")), "{text}");
    }
    let error = serde_json::from_str::<Settings>(r#"{"chian":"c"}"#).unwrap_err();
    assert!(error.to_string().contains("chian"), "{error}");
}
