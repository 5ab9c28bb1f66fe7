//! `merkle` as an operator: chunks in, one root out.

use semel_schemas::{
    amount::Amount,
    claim::Claim,
    solana::{Address, Signature},
    time::{Slot, WallTime},
};
use serde_json::json;

use super::*;
use crate::{clockwork::Clockwork, merkle::profile::by_name};

fn given(profile: &str) -> Clockwork<MerkleRoot> {
    let settings = serde_json::from_value(json!({"profile": profile})).unwrap();
    Clockwork::new(MerkleRoot::new(settings).unwrap())
}

fn claims(count: u32) -> Vec<Claim> {
    (0..count)
        .map(|i| Claim {
            claim_id: format!("c{i}"),
            channel: "chan".into(),
            user: Address([7; 32]),
            id: format!("twitch:chan:{i}"),
            amount: Amount(u64::from(i)),
            slot: Slot(1),
            signature: Signature([1; 64]),
            tx_index: i,
            ix_index: 0,
            block_time: 0,
        })
        .collect()
}

fn chunk(
    world: &mut Clockwork<MerkleRoot>,
    first_index: u32,
    claims: &[Claim],
    total: Option<u32>,
) -> Result<(), FaultCode> {
    let batch = Batch {
        channel: "chan".into(),
        epoch: Epoch(3),
        first_index,
        claims: claims.to_vec(),
        total,
    };
    world.record(claim::BATCH, "chan", &serde_json::to_value(batch).unwrap())
}

fn roots(world: &mut Clockwork<MerkleRoot>) -> Vec<RootRecord> {
    let told = world.taken(&To::Output("roots"));
    let next = world.taken(&To::Next);
    assert_eq!(
        told.iter().map(|out| (&out.key, &out.value)).collect::<Vec<_>>(),
        next.iter().map(|out| (&out.key, &out.value)).collect::<Vec<_>>()
    );
    next.into_iter().map(|out| serde_json::from_value(out.value).unwrap()).collect()
}

fn expected(profile: &str, claims: &[Claim]) -> String {
    let leaf = ClaimLeaf::new(by_name(profile).unwrap()).unwrap();
    let leaves =
        claims.iter().zip(0..).map(|(claim, i)| leaf.leaf(claim, Epoch(3), i).unwrap()).collect();
    hex::encode(Tree::build(&leaf.profile().rules(), leaves).unwrap().root().unwrap())
}

// The public repository's five claims (facts: `ao-claim-v0`), through the operator.
#[test]
fn five_public_claims_give_the_public_root() {
    let user: Address = "2pHjZLqsSqi35xuYHmZbZBM1xfYV6Ruv57r3eFPvZZaD".parse().unwrap();
    let five: Vec<_> = [
        ("alice", 10_000),
        ("bob", 15_000),
        ("charlie", 20_000),
        ("dave", 12_500),
        ("eve", 18_000),
    ]
    .iter()
    .zip(claims(5))
    .map(|((name, amount), claim)| Claim {
        user,
        id: format!("twitch:stableronaldo:{name}"),
        amount: Amount(*amount),
        ..claim
    })
    .collect();
    let mut world = given("ao-claim-v0");
    world.bench.now = WallTime(77);
    chunk(&mut world, 0, &five[..2], None).unwrap();
    assert_eq!(roots(&mut world), []);
    chunk(&mut world, 2, &five[2..], Some(5)).unwrap();
    assert_eq!(
        roots(&mut world),
        [RootRecord {
            root_id: "chan:3".into(),
            channel: "chan".into(),
            epoch: Epoch(3),
            root: "782d2060c46e129f4c4842b043e3b015a3e468526cabef7f6f2bb59720c12c00".into(),
            count: 5,
            profile: "ao-claim-v0".into(),
            finalized_at: WallTime(77),
            status: RootStatus::ReadyForSettlement,
        }]
    );
}

#[test]
fn the_root_does_not_depend_on_the_chunks() {
    let all = claims(1100);
    for profile in ["ao-claim-v0", "openzeppelin-standard"] {
        for cuts in [vec![], vec![1], vec![255, 256, 257], vec![100, 600, 1024], vec![512, 1099]] {
            let mut world = given(profile);
            let mut first = 0;
            for cut in cuts {
                chunk(&mut world, first, &all[first as usize..cut], None).unwrap();
                first = u32::try_from(cut).unwrap();
            }
            chunk(&mut world, first, &all[first as usize..], Some(1100)).unwrap();
            assert_eq!(roots(&mut world)[0].root, expected(profile, &all));
            world.settle();
            assert!(world.bench.state.is_empty(), "the hashes are deleted");
        }
    }
}

#[test]
fn the_total_may_come_alone() {
    let mut world = given("ao-claim-v0");
    chunk(&mut world, 0, &claims(3), None).unwrap();
    chunk(&mut world, 3, &[], Some(3)).unwrap();
    assert_eq!(roots(&mut world)[0].root, expected("ao-claim-v0", &claims(3)));
}

#[test]
fn an_empty_batch_gives_no_root() {
    let mut world = given("ao-claim-v0");
    chunk(&mut world, 0, &[], Some(0)).unwrap();
    assert_eq!(roots(&mut world), []);
    world.settle();
    assert!(world.bench.state.is_empty());
}

#[test]
fn what_does_not_follow_is_refused() {
    let mut world = given("ao-claim-v0");
    let all = claims(9);
    for (first, some, total, want) in [
        (1, &all[1..2], None, Err(FaultCode::BatchGap)),
        (0, &all[0..4], None, Ok(())),
        (0, &all[0..4], None, Err(FaultCode::BatchGap)),
        (5, &all[5..6], None, Err(FaultCode::BatchGap)),
        (4, &all[4..9], Some(8), Err(FaultCode::BatchGap)),
        (4, &all[4..9], Some(10), Err(FaultCode::BatchGap)),
        (4, &all[4..9], Some(9), Ok(())),
        (9, &all[0..1], None, Err(FaultCode::BatchGap)),
    ] {
        assert_eq!(chunk(&mut world, first, some, total), want, "{first} {total:?}");
    }
    assert_eq!(roots(&mut world).len(), 1);
    assert_eq!(world.raw(claim::BATCH, "chan", None), Err(FaultCode::UnexpectedTombstone));
    assert_eq!(world.raw(claim::BATCH, "chan", Some(b"{}".to_vec())), Err(FaultCode::MissingField));
}

#[test]
fn no_record_of_state_grows_with_an_epoch() {
    let mut world = given("ao-claim-v0");
    let all = claims(3000);
    chunk(&mut world, 0, &all, None).unwrap();
    assert_eq!(world.bench.state.len(), 3000_usize.div_ceil(256) + 1);
}

#[test]
fn the_hashes_of_a_large_batch_are_deleted_a_few_a_step() {
    let mut world = given("ao-claim-v0");
    let mut step = crate::operator::Step::default();
    for epoch in [Epoch(1), Epoch(2)] {
        let key = batch_key("chan", epoch);
        for chunk in 0..700 {
            let at = leaves_key(&key, chunk * LEAVES_PER_RECORD);
            step.writes.insert(LEAVES, &at, Some(vec![0]));
        }
        step.writes.insert(DONE, &key, Some(Vec::new()));
    }
    world.bench.state.apply(&step);
    world.timers.insert(TimerKey::wall(SWEEP), (0, Vec::new()));
    let mut left = world.bench.state.len();
    while world.fire_one() {
        let now = world.bench.state.len();
        assert!(left - now <= SWEEP_MAX + 1);
        left = now;
    }
    assert!(world.bench.state.is_empty());
}

fn settings(value: serde_json::Value) -> Result<MerkleRoot, String> {
    let settings = serde_json::from_value(json!({"profile": value})).map_err(|e| e.to_string())?;
    MerkleRoot::new(settings)
}

#[test]
fn an_unknown_profile_is_refused() {
    assert!(settings(json!("x")).unwrap_err().contains("ao-claim-v0"));
}

#[test]
fn a_profile_that_claims_do_not_have_is_refused_with_the_reason() {
    for (profile, part) in [
        (json!("jito"), "no claim has a field `unlocked`"),
        (json!("uniswap"), "no claim has a field `account`"),
        (json!("ao-participation"), "no claim has a field `user_hash`"),
        (json!({"name": "x", "base": "saber", "odd": "upwards"}), "unknown variant `upwards`"),
        (json!({"name": "x", "base": "sabre"}), "`base`: `sabre` is no Merkle profile"),
        (json!({"name": "saber"}), "is a profile that ships"),
        (
            json!({"name": "x", "base": "saber", "fields": [{"name": "amount", "type": "u32le"}]}),
            "must be a number of at least 64 bits",
        ),
        (
            json!({"name": "x", "base": "saber", "order": {"field": "amount"}, "duplicates": "keep"}),
            "stand by index",
        ),
    ] {
        let why = settings(profile.clone()).unwrap_err();
        assert!(why.contains(part), "{profile}: {why}");
    }
}

#[test]
fn a_user_defined_profile_is_used_and_named_in_the_record() {
    let own = json!({
        "name": "own", "base": "ao-claim-v1", "odd": "promote",
        "prefix": "own:", "fields": [
            {"name": "domain", "type": "bytes4", "value": "0x01020304"},
            {"name": "epoch", "type": "u64le"},
            {"name": "wallet", "type": "pubkey"},
            {"name": "index", "type": "u32le"},
            {"name": "amount", "type": "u64le"},
        ],
    });
    let mut world = Clockwork::new(settings(own).unwrap());
    chunk(&mut world, 0, &claims(1), Some(1)).unwrap();
    let root = roots(&mut world).remove(0);
    let mut bytes = b"own:\x01\x02\x03\x04".to_vec();
    bytes.extend(3_u64.to_le_bytes());
    bytes.extend([7; 32]);
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    assert_eq!(root.profile, "own");
    assert_eq!(root.root, hex::encode(crate::merkle::hash::keccak(&bytes)));
}
