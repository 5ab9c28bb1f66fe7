//! `epoch_batch` as given / when / then, and together with `merkle` over any order of arrival.

use proptest::prelude::*;
use semel_schemas::{
    amount::Amount,
    claim::{Batch, EpochClosed, RootRecord},
    solana::{Address, Signature},
};
use serde_json::json;

use super::*;
use crate::{
    clockwork::{Clockwork, Out},
    merkle_root::{self, MerkleRoot},
};

const THRESHOLD_MS: u64 = 5000;

fn world(more: &serde_json::Value) -> Clockwork<EpochBatch> {
    let mut all = json!({
        "epoch_duration_slots": 100, "finalize_threshold_secs": 5, "max_outputs": 4,
    });
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    Clockwork::new(EpochBatch::new(serde_json::from_value(all).unwrap()).unwrap())
}

fn given() -> Clockwork<EpochBatch> {
    world(&json!({}))
}

fn a_claim(name: &str, slot: u64, tx_index: u32) -> Claim {
    let mut signature = [0; 64];
    signature[..8].copy_from_slice(&slot.to_be_bytes());
    signature[8..12].copy_from_slice(&tx_index.to_be_bytes());
    signature[12..12 + name.len().min(40)].copy_from_slice(&name.as_bytes()[..name.len().min(40)]);
    Claim {
        claim_id: name.into(),
        channel: "chan".into(),
        user: Address([7; 32]),
        id: format!("twitch:chan:{name}"),
        amount: Amount(10),
        slot: Slot(slot),
        signature: Signature(signature),
        tx_index,
        ix_index: 0,
        block_time: 0,
    }
}

fn send(world: &mut Clockwork<EpochBatch>, claim: &Claim) -> Result<(), FaultCode> {
    let value = serde_json::to_value(claim).unwrap();
    world.record(claim::CLAIM, &claim.channel, &value)
}

fn retract(world: &mut Clockwork<EpochBatch>, claim: &Claim) -> Result<(), FaultCode> {
    let value = json!({"claim_id": claim.claim_id, "channel": claim.channel,
        "fact": claim.fact(), "slot": claim.slot});
    world.record(claim::CLAIM_RETRACTED, &claim.channel, &value)
}

fn settle(world: &mut Clockwork<EpochBatch>, epoch: u64, status: &str) -> Result<(), FaultCode> {
    let value = json!({"settlement_id": format!("chan:{epoch}#1"), "root_id": format!("chan:{epoch}"),
        "channel": "chan", "epoch": epoch, "status": status});
    world.record(claim::SETTLEMENT, "chan", &value)?;
    world.settle();
    Ok(())
}

/// `name status epoch leaf` of each state that went to the claims, in order.
fn states(world: &mut Clockwork<EpochBatch>) -> Vec<String> {
    let show = |out: Out| {
        if out.kind == claim::CLAIM_RETRACTED {
            return format!("{} retracted", out.key);
        }
        let state: ClaimState = serde_json::from_value(out.value).unwrap();
        assert_eq!(out.key, state.claim.claim_id);
        let leaf = state.leaf_index.map_or("-".to_owned(), |leaf| leaf.to_string());
        format!("{} {:?} {} {leaf}", out.key, state.status, state.epoch)
    };
    world.taken(&To::Output("claims")).into_iter().map(show).collect()
}

fn batches(world: &mut Clockwork<EpochBatch>) -> Vec<Batch> {
    let read = |out: Out| {
        let batch: Batch = serde_json::from_value(out.value).unwrap();
        assert_eq!((out.kind.as_str(), &out.key), (claim::BATCH, &batch.channel));
        batch
    };
    world.taken(&To::Next).into_iter().map(read).collect()
}

fn epochs(world: &mut Clockwork<EpochBatch>) -> Vec<u64> {
    let read = |out: Out| serde_json::from_value::<EpochClosed>(out.value).unwrap().epoch.0;
    world.taken(&To::Output("epochs")).into_iter().map(read).collect()
}

#[test]
fn a_claim_waits_as_pending() {
    let mut world = given();
    send(&mut world, &a_claim("a", 120, 0)).unwrap();
    assert_eq!(states(&mut world), ["a Pending 1 -"]);
    assert_eq!(batches(&mut world), []);
}

#[test]
fn an_epoch_closes_when_its_end_is_final_and_the_threshold_has_gone_by() {
    let mut world = given();
    send(&mut world, &a_claim("a", 120, 0)).unwrap();
    world.bench.now = WallTime(1000);
    world.finalized(198);
    world.at(900_000);
    assert_eq!((batches(&mut world).len(), epochs(&mut world)), (0, vec![0]), "198 ends epoch 0");
    world.finalized(199);
    world.at(900_000 + THRESHOLD_MS - 1);
    assert_eq!((batches(&mut world), epochs(&mut world)), (vec![], vec![]));
    world.at(900_000 + THRESHOLD_MS);
    let told = world.out.iter().find(|out| out.kind == claim::EPOCH_CLOSED).unwrap();
    assert_eq!(
        told.value,
        json!({"epoch": 1, "start_slot": 100, "end_slot": 199, "finalized_at": 905_000})
    );
    assert_eq!(epochs(&mut world), [1]);
    assert_eq!(
        batches(&mut world),
        [Batch {
            channel: "chan".into(),
            epoch: Epoch(1),
            first_index: 0,
            claims: vec![a_claim("a", 120, 0)],
            total: Some(1),
        }]
    );
    assert_eq!(states(&mut world), ["a Pending 1 -", "a Included 1 0"]);
    // Once per task and epoch.
    world.finalized(250);
    world.at(2_000_000);
    assert_eq!((batches(&mut world), epochs(&mut world)), (vec![], vec![]));
}

#[test]
fn each_epoch_waits_for_its_own_threshold() {
    let mut world = given();
    for (name, slot) in [("a", 50), ("b", 150)] {
        send(&mut world, &a_claim(name, slot, 0)).unwrap();
    }
    world.finalized(99);
    world.at(3000);
    world.finalized(420);
    world.at(THRESHOLD_MS);
    assert_eq!(epochs(&mut world), [0]);
    world.at(3000 + THRESHOLD_MS);
    assert_eq!(epochs(&mut world), [1, 2, 3], "empty epochs close too");
    let went: Vec<_> = batches(&mut world).iter().map(|b| (b.epoch.0, b.total)).collect();
    assert_eq!(went, [(0, Some(1)), (1, Some(1))], "no claims, no batch");
}

#[test]
fn further_progress_does_not_start_the_threshold_anew() {
    let mut world = given();
    world.finalized(199);
    for ms in (1000..THRESHOLD_MS).step_by(1000) {
        world.at(ms);
        world.finalized(199 + ms / 100);
    }
    world.at(THRESHOLD_MS);
    assert_eq!(epochs(&mut world), [1]);
}

#[test]
fn leaves_stand_in_the_order_of_the_chain_and_go_out_in_bounded_steps() {
    let mut world = given();
    let mut claims: Vec<_> =
        (0..11_u32).map(|i| a_claim(&format!("c{i:02}"), 110 + u64::from(i / 4), i % 4)).collect();
    claims.reverse();
    claims.swap(2, 7);
    for claim in &claims {
        send(&mut world, claim).unwrap();
    }
    let other = Claim { channel: "other".into(), ..a_claim("x", 130, 0) };
    send(&mut world, &other).unwrap();
    states(&mut world);
    world.finalized(199);
    world.at(THRESHOLD_MS);
    let went = batches(&mut world);
    let shape: Vec<_> =
        went.iter().map(|b| (b.channel.as_str(), b.first_index, b.claims.len(), b.total)).collect();
    assert_eq!(shape.last(), Some(&("other", 0, 1, Some(1))));
    assert_eq!(shape[shape.len() - 2].3, Some(11), "the last chunk tells the total");
    assert!(shape[..shape.len() - 2].iter().all(|chunk| chunk.3.is_none()));
    let mut next = 0;
    for chunk in &shape[..shape.len() - 1] {
        assert_eq!(chunk.1, next, "chunks follow each other without gap");
        next += u32::try_from(chunk.2).unwrap();
    }
    let names: Vec<_> = went.iter().flat_map(|b| &b.claims).map(|c| c.claim_id.clone()).collect();
    let want: Vec<_> = (0..11).map(|i| format!("c{i:02}")).chain(["x".to_owned()]).collect();
    assert_eq!(names, want);
    let leaves: Vec<_> = (0..11).map(|i| format!("c{i:02} Included 1 {i}")).collect();
    assert_eq!(states(&mut world)[..11], leaves);
    assert!(world.widest <= 4, "a step emits at most max_outputs: {}", world.widest);
}

#[test]
fn slot_comes_before_transaction_and_transaction_before_instruction() {
    let mut world = given();
    for (name, slot, tx_index, ix_index) in [
        ("d", 120, 256, 0),
        ("b", 120, 2, 1),
        ("e", 121, 0, 0),
        ("c", 120, 2, 256),
        ("a", 119, 9, 9),
    ] {
        send(&mut world, &Claim { ix_index, ..a_claim(name, slot, tx_index) }).unwrap();
    }
    world.finalized(199);
    world.at(THRESHOLD_MS);
    let order: Vec<_> = batches(&mut world).into_iter().flat_map(|b| b.claims).collect();
    let names: Vec<_> = order.iter().map(|claim| claim.claim_id.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
}

#[test]
fn included_is_said_only_with_the_batch() {
    let mut world = given();
    for i in 0..9 {
        send(&mut world, &a_claim(&format!("c{i}"), 100 + i, 0)).unwrap();
    }
    world.taken(&To::Output("claims"));
    world.finalized(199);
    world.bench.now = WallTime(THRESHOLD_MS);
    while world.fire_one() {
        let leaves: usize = batches(&mut world).iter().map(|batch| batch.claims.len()).sum();
        assert_eq!(states(&mut world).len(), leaves);
    }
}

#[test]
fn a_claim_with_a_large_value_gets_a_smaller_chunk() {
    let mut world = world(&json!({"max_outputs": 100_000}));
    for i in 0..2500_u32 {
        let name = format!("{}{i:05}", "n".repeat(200));
        let claim = Claim { id: "twitch:chan:n".into(), ..a_claim(&name, 110, i) };
        send(&mut world, &claim).unwrap();
    }
    world.finalized(199);
    world.at(THRESHOLD_MS);
    let went = batches(&mut world);
    assert!(went.len() > 1 && went.last().unwrap().total == Some(2500));
    for batch in went {
        let size = serde_json::to_vec(&batch).unwrap().len();
        assert!(size < 600_000, "{size} bytes");
    }
}

/// A root with more claims than its program takes would never be settled.
#[test]
fn what_finds_a_batch_full_counts_in_the_next_one_with_room_or_is_refused() {
    for (late, want) in [("next_epoch", Ok(())), ("dead_letter", Err(FaultCode::Overflow))] {
        let mut world = world(&json!({"late": late, "max_claims": 2}));
        for (name, slot) in [("a", 120), ("b", 220), ("c", 130), ("d", 230)] {
            send(&mut world, &a_claim(name, slot, 0)).unwrap();
        }
        states(&mut world);
        let more = a_claim("more", 110, 0);
        assert_eq!(send(&mut world, &more), want);
        let said = if want.is_ok() { vec!["more Pending 3 -"] } else { vec![] };
        assert_eq!(states(&mut world), said);
        // Another channel has its own batches, and a place that is free again is taken.
        send(&mut world, &Claim { channel: "other".into(), ..a_claim("e", 120, 0) }).unwrap();
        retract(&mut world, &a_claim("a", 120, 0)).unwrap();
        send(&mut world, &a_claim("f", 110, 0)).unwrap();
        assert_eq!(states(&mut world), ["e Pending 1 -", "a retracted", "f Pending 1 -"]);
    }
    let mut last = Clockwork::new(
        EpochBatch::new(
            serde_json::from_value(json!({"epoch_duration_slots": 1, "max_claims": 1})).unwrap(),
        )
        .unwrap(),
    );
    send(&mut last, &a_claim("a", u64::MAX, 0)).unwrap();
    assert_eq!(send(&mut last, &a_claim("b", u64::MAX, 1)), Err(FaultCode::Overflow));
}

#[test]
fn what_comes_late_counts_in_the_next_open_epoch_or_is_refused() {
    for (late, want) in [("next_epoch", Ok(())), ("dead_letter", Err(FaultCode::Late))] {
        let mut world = world(&json!({"late": late}));
        world.finalized(299);
        // Not closed yet: the threshold is still running.
        assert_eq!(send(&mut world, &a_claim("in-time", 150, 0)), Ok(()));
        world.at(THRESHOLD_MS);
        // Closed for every channel of the task, also one that had no claim.
        let late = Claim { channel: "new".into(), ..a_claim("late", 150, 0) };
        states(&mut world);
        assert_eq!(send(&mut world, &late), want);
        let said = if want.is_ok() { vec!["late Pending 3 -"] } else { vec![] };
        assert_eq!(states(&mut world), said);
        assert_eq!(send(&mut world, &a_claim("next", 300, 0)), Ok(()));
        batches(&mut world);
        world.finalized(399);
        world.at(2 * THRESHOLD_MS);
        let went: Vec<_> = batches(&mut world)
            .iter()
            .map(|b| (b.channel.clone(), b.epoch.0, b.claims.len()))
            .collect();
        let mut expected = vec![("chan".to_owned(), 3, 1)];
        expected.extend(want.is_ok().then(|| ("new".to_owned(), 3, 1)));
        assert_eq!(went, expected);
    }
}

#[test]
fn a_retraction_takes_a_claim_back_until_it_is_final() {
    let mut world = given();
    let (a, b, c) = (a_claim("a", 120, 0), a_claim("b", 121, 0), a_claim("c", 250, 0));
    for claim in [&a, &b, &c] {
        send(&mut world, claim).unwrap();
    }
    states(&mut world);
    let other = Claim { ix_index: 9, ..a.clone() };
    assert_eq!(retract(&mut world, &other), Err(FaultCode::RetractionOfUnknown));
    assert_eq!(retract(&mut world, &a), Ok(()));
    assert_eq!(states(&mut world), ["a retracted"]);
    assert_eq!(retract(&mut world, &a), Err(FaultCode::RetractionOfUnknown));
    world.finalized(199);
    assert_eq!(retract(&mut world, &b), Err(FaultCode::RetractionOfFinal), "its slot is final");
    assert_eq!(retract(&mut world, &c), Ok(()));
    world.at(THRESHOLD_MS);
    assert_eq!(retract(&mut world, &b), Err(FaultCode::RetractionOfFinal));
    assert_eq!(retract(&mut world, &a), Err(FaultCode::RetractionOfFinal), "epoch 1 is closed");
    let went = batches(&mut world);
    assert_eq!((went.len(), &went[0].claims), (1, &vec![b]));
    world.finalized(299);
    world.at(3 * THRESHOLD_MS);
    assert_eq!(batches(&mut world), [], "all of epoch 2 was retracted: no batch");
}

#[test]
fn a_claim_that_was_retracted_may_come_again() {
    let mut world = given();
    let a = a_claim("a", 120, 0);
    send(&mut world, &a).unwrap();
    retract(&mut world, &a).unwrap();
    send(&mut world, &a_claim("a", 122, 3)).unwrap();
    assert_eq!(states(&mut world), ["a Pending 1 -", "a retracted", "a Pending 1 -"]);
}

#[test]
fn a_settlement_settles_the_claims_and_ends_their_state() {
    let mut world = given();
    for i in 0..9 {
        send(&mut world, &a_claim(&format!("c{i}"), 100 + i, 0)).unwrap();
    }
    assert_eq!(settle(&mut world, 1, "confirmed"), Err(FaultCode::UnknownTarget));
    world.finalized(199);
    world.at(THRESHOLD_MS);
    states(&mut world);
    for not_yet in ["pending_confirmation", "failed"] {
        settle(&mut world, 1, not_yet).unwrap();
        assert_eq!(states(&mut world).len(), 0);
    }
    settle(&mut world, 1, "confirmed").unwrap();
    let want: Vec<_> = (0..9).map(|i| format!("c{i} Settled 1 {i}")).collect();
    assert_eq!(states(&mut world), want);
    assert_eq!(world.bench.state.len(), 1, "only what holds for the task is left");
    assert!(world.widest <= 4, "a step emits at most max_outputs: {}", world.widest);
    settle(&mut world, 1, "confirmed").unwrap();
    assert_eq!(states(&mut world).len(), 0, "told once");
    assert_eq!(settle(&mut world, 7, "confirmed"), Err(FaultCode::UnknownTarget));
    let leaves: usize = batches(&mut world).iter().map(|batch| batch.claims.len()).sum();
    assert_eq!(leaves, 9, "and nothing but batches went on");
}

#[test]
fn state_of_what_is_never_settled_ends_too() {
    let mut world = world(&json!({"keep_unsettled_epochs": 3}));
    for i in 0..9 {
        send(&mut world, &a_claim(&format!("c{i}"), i, 0)).unwrap();
    }
    for (slot, gone) in [(99, false), (399, false), (499, true)] {
        world.finalized(slot);
        world.at(slot * THRESHOLD_MS);
        assert_eq!(world.bench.state.len() == 1, gone, "{slot}");
    }
    assert!(states(&mut world).iter().all(|state| !state.contains("Settled")));
    settle(&mut world, 0, "confirmed").unwrap();
}

#[test]
fn the_same_claim_again_changes_nothing_and_another_fact_is_refused() {
    let mut world = given();
    let a = a_claim("a", 120, 0);
    send(&mut world, &a).unwrap();
    let state = world.bench.state.clone();
    send(&mut world, &a).unwrap();
    assert_eq!((states(&mut world).len(), &state), (1, &world.bench.state));
    assert_eq!(send(&mut world, &a_claim("a", 121, 0)), Err(FaultCode::DuplicateId));
}

#[test]
fn claims_without_a_place_in_their_block_still_have_an_order() {
    let mut world = given();
    for name in ["b", "c", "a"] {
        send(&mut world, &a_claim(name, 120, 0)).unwrap();
    }
    world.finalized(199);
    world.at(THRESHOLD_MS);
    let ids: Vec<_> = batches(&mut world)
        .into_iter()
        .flat_map(|batch| batch.claims)
        .map(|claim| claim.claim_id)
        .collect();
    assert_eq!(ids, ["a", "b", "c"]);
}

#[test]
fn bad_claims_are_refused_with_a_code() {
    let good = serde_json::to_value(a_claim("a", 120, 0)).unwrap();
    for (field, value, key, code) in [
        ("channel", json!(""), "", FaultCode::WrongType),
        ("channel", json!("Chan"), "Chan", FaultCode::WrongType),
        ("channel", json!("other"), "chan", FaultCode::WrongType),
        ("channel", json!("c".repeat(257)), "c", FaultCode::WrongType),
        ("id", json!("i".repeat(65)), "chan", FaultCode::WrongType),
        ("id", json!(""), "chan", FaultCode::WrongType),
        ("claim_id", json!(""), "chan", FaultCode::WrongType),
        ("amount", json!("18446744073709551616"), "chan", FaultCode::WrongType),
        ("amount", json!(-1), "chan", FaultCode::WrongType),
        ("slot", json!(-1), "chan", FaultCode::WrongType),
        ("user", json!("0OIl"), "chan", FaultCode::WrongType),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        assert_eq!(given().record(claim::CLAIM, key, &bad), Err(code), "{bad}");
    }
    for kind in [claim::CLAIM, claim::CLAIM_RETRACTED, claim::SETTLEMENT] {
        assert_eq!(given().raw(kind, "chan", None), Err(FaultCode::UnexpectedTombstone));
        assert_eq!(given().raw(kind, "chan", Some(b"x".to_vec())), Err(FaultCode::Undecodable));
    }
}

#[test]
fn amounts_of_a_batch_must_add_up() {
    let mut world = given();
    let all = Claim { amount: Amount(u64::MAX), ..a_claim("a", 120, 0) };
    send(&mut world, &all).unwrap();
    assert_eq!(send(&mut world, &a_claim("b", 121, 0)), Err(FaultCode::Overflow));
    retract(&mut world, &all).unwrap();
    assert_eq!(send(&mut world, &a_claim("b", 121, 0)), Ok(()));
}

#[test]
fn slots_at_the_edge_do_no_harm() {
    let mut world = given();
    send(&mut world, &a_claim("a", u64::MAX, 0)).unwrap();
    send(&mut world, &a_claim("z", 0, 0)).unwrap();
    world.finalized(u64::MAX - 200 * 100);
    assert_eq!(states(&mut world).len(), 2);
}

#[test]
fn settings_are_checked() {
    for (settings, part) in [
        (json!({"epoch_duration_slots": 0}), "epoch_duration_slots"),
        (json!({"max_outputs": 1}), "max_outputs"),
        (json!({"late": "never"}), "never"),
        (json!({"max_claims": 0}), "max_claims"),
        (json!({"epochs": 1}), "epochs"),
    ] {
        let error = serde_json::from_value::<Settings>(settings)
            .map_err(|e| e.to_string())
            .and_then(EpochBatch::new)
            .unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    let defaults: Settings = serde_json::from_value(json!({})).unwrap();
    assert_eq!((defaults.epoch_duration_slots, defaults.finalize_threshold_secs), (432_000, 300));
}

/// Leaves and root that come of claims in this order of arrival.
fn leaves_and_root(claims: &[Claim], max_outputs: usize) -> (Vec<Claim>, String) {
    let mut world = world(&json!({"max_outputs": max_outputs}));
    for claim in claims {
        send(&mut world, claim).unwrap();
    }
    world.finalized(199);
    world.at(THRESHOLD_MS);
    let settings: merkle_root::Settings = serde_json::from_value(json!({})).unwrap();
    let mut merkle = Clockwork::new(MerkleRoot::new(settings).unwrap());
    let mut leaves = Vec::new();
    for batch in batches(&mut world) {
        let value = serde_json::to_value(&batch).unwrap();
        merkle.record(claim::BATCH, &batch.channel, &value).unwrap();
        leaves.extend(batch.claims);
    }
    let root = merkle.taken(&To::Next).pop().unwrap().value;
    let root: RootRecord = serde_json::from_value(root).unwrap();
    assert_eq!(root.count as usize, leaves.len());
    (leaves, root.root)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_order_of_arrival_gives_the_same_leaves_and_root(
        places in prop::collection::vec((190..194_u64, 0..600_u32), 1..40),
        turn in any::<prop::sample::Index>(),
        max_outputs in 2..30_usize,
        mut shuffle in prop::collection::vec(any::<u32>(), 40),
    ) {
        let claims: Vec<_> = places.iter().enumerate()
            .map(|(i, (slot, tx))| a_claim(&format!("c{i}"), *slot, *tx)).collect();
        let (leaves, root) = leaves_and_root(&claims, 500);
        prop_assert!(leaves.is_sorted_by_key(|c| (c.slot, c.tx_index, c.ix_index)));
        let mut other = claims.clone();
        other.sort_by_cached_key(|_| shuffle.pop());
        other.rotate_left(turn.index(claims.len()));
        prop_assert_eq!(leaves_and_root(&other, max_outputs), (leaves, root));
    }
}
