//! Tables of instruction bytes, made by hand from the encoding in the program's repository (an
//! 8-byte discriminator, then borsh), not with the encoder under test.

use semel_schemas::{
    attention::{PROGRAM, channel_key},
    solana::{Blockhash, Signature},
    time::{BlockHeight, Slot},
};

use super::*;

const USER: Address = Address([7; 32]);
const SIGNATURE: Signature = Signature([5; 64]);

const CLAIM: &str = "3ec6d6c1d59f6cd2";
const CLAIM_OPEN: &str = "cf93887364eef95f";
const CLAIM_WITH_RING: &str = "07375adfd1d5064a";
const CLAIM_CHANNEL_OPEN: &str = "dfabbb29a7470fb8";
const SET_ROOT_RING: &str = "da205909c65c88ee";

fn hex_of(parts: &[&str]) -> Vec<u8> {
    hex::decode(parts.concat()).unwrap()
}

/// A borsh string in hex: u32 length, little-endian, then the bytes.
fn text(text: &str) -> String {
    hex::encode(u32::try_from(text.len()).unwrap().to_le_bytes()) + &hex::encode(text)
}

/// A block whose third transaction ran this instruction second.
fn block_of(program: Address, accounts: &[Address], data: Vec<u8>) -> Block {
    let instruction =
        |program, data| ExecutedInstruction { program, accounts: accounts.to_vec(), data };
    Block {
        slot: Slot(44),
        parent_slot: Slot(43),
        blockhash: Blockhash([1; 32]),
        previous_blockhash: Blockhash([2; 32]),
        height: BlockHeight(40),
        time: Some(1_700_000_000),
        transactions: vec![ExecutedTransaction {
            signature: SIGNATURE,
            index: 2,
            instructions: vec![
                instruction(Address([3; 32]), vec![1, 2, 3]),
                instruction(program, data),
            ],
        }],
    }
}

fn facts_of(data: Vec<u8>) -> Vec<SolanaFact> {
    facts(&block_of(PROGRAM, &[USER, Address([8; 32])], data), &PROGRAM)
}

fn must_claim(data: Vec<u8>) -> Claim {
    match facts_of(data).as_slice() {
        [SolanaFact::Claim(claim)] => claim.clone(),
        other => panic!("not one claim: {other:?}"),
    }
}

fn must_undecodable(data: Vec<u8>) -> String {
    match facts_of(data.clone()).as_slice() {
        [SolanaFact::Undecodable { signature, slot, ix_index, data: kept, text }] => {
            assert_eq!((*signature, slot.0, *ix_index), (SIGNATURE, 44, 1));
            assert_eq!(kept.0, data, "the bytes are kept");
            text.clone()
        }
        other => panic!("not undecodable: {other:?}"),
    }
}

const EPOCH_9: &str = "0900000000000000";
const INDEX_3: &str = "03000000";
const AMOUNT_500: &str = "f401000000000000";
const AMOUNT_MAX: &str = "ffffffffffffffff";
const NO_PROOF: &str = "00000000";
const NONE: &str = "00";

fn proof_of_two() -> String {
    format!("02000000{}{}", "aa".repeat(32), "bb".repeat(32))
}

fn ring(id: &str, amount: &str) -> Vec<u8> {
    let streamer = hex::encode(channel_key("chan"));
    hex_of(&[CLAIM_WITH_RING, EPOCH_9, INDEX_3, amount, &proof_of_two(), &text(id), &streamer])
}

#[test]
fn a_ring_claim_is_read_field_by_field() {
    let claim = must_claim(ring("twitch:Chan:Bob", AMOUNT_500));
    assert_eq!(
        claim,
        Claim {
            claim_id: "twitch:Chan:Bob#9".into(),
            channel: "chan".into(),
            user: USER,
            id: "twitch:Chan:Bob".into(),
            amount: Amount(500),
            slot: Slot(44),
            signature: SIGNATURE,
            tx_index: 2,
            ix_index: 1,
            block_time: 1_700_000_000,
        }
    );
    assert_eq!(must_claim(ring("twitch:c:b", AMOUNT_MAX)).amount, Amount(u64::MAX));
}

#[test]
fn each_claim_instruction_gives_its_id_channel_and_claim_id() {
    let id = text("twitch:chan:bob");
    let fact = format!("{SIGNATURE}:1");
    let hash = "ab".repeat(32);
    let by_name = format!("chan:{hash}#9");
    let other_channel = format!("other:{}#9", "twitch:chan:bob");
    let claim = [CLAIM, "00", INDEX_3, AMOUNT_500, &id, NO_PROOF].map(str::to_owned).concat();
    let open = |tail: &[&str]| {
        [CLAIM_OPEN, "00", INDEX_3, AMOUNT_500, &id, NO_PROOF].concat() + &tail.concat()
    };
    let some = |value: &str| format!("01{value}");
    let rows: Vec<(String, &str, &str, &str)> = vec![
        (claim, "twitch:chan:bob", "chan", &fact),
        (open(&[NONE, NONE, NONE]), "twitch:chan:bob", "chan", &fact),
        (open(&[NONE, &some(EPOCH_9), NONE]), "twitch:chan:bob", "chan", "twitch:chan:bob#9"),
        (
            open(&[&some(&text("Chan")), &some(EPOCH_9), NONE]),
            "twitch:chan:bob",
            "chan",
            "twitch:chan:bob#9",
        ),
        (
            open(&[&some(&text("Other")), &some(EPOCH_9), NONE]),
            "twitch:chan:bob",
            "other",
            &other_channel,
        ),
        // A receipt follows; its bytes are not looked at.
        (
            open(&[NONE, &some(EPOCH_9), "01", "deadbeef"]),
            "twitch:chan:bob",
            "chan",
            "twitch:chan:bob#9",
        ),
        (
            [CLAIM_CHANNEL_OPEN, &text("Chan"), EPOCH_9, INDEX_3, AMOUNT_500, &text(&hash)]
                .concat()
                + NO_PROOF,
            &hash,
            "chan",
            &by_name,
        ),
    ];
    for (data, id, channel, claim_id) in rows {
        let claim = must_claim(hex::decode(&data).unwrap());
        assert_eq!((claim.id.as_str(), claim.channel.as_str()), (id, channel), "{data}");
        assert_eq!(claim.claim_id, claim_id, "{data}");
        assert_eq!((claim.user, claim.amount), (USER, Amount(500)), "{data}");
    }
}

#[test]
fn the_same_user_in_two_channels_makes_two_claims() {
    let hash = text(&"ab".repeat(32));
    let in_channel = |name: &str| {
        let name = text(name);
        let data =
            [CLAIM_CHANNEL_OPEN, &name, EPOCH_9, INDEX_3, AMOUNT_500, &hash, NO_PROOF].concat();
        must_claim(hex::decode(data).unwrap()).claim_id
    };
    assert_ne!(in_channel("one"), in_channel("two"));
}

#[test]
fn a_root_of_the_ring_is_read() {
    let root = "cd".repeat(32);
    let streamer = hex::encode([4; 32]);
    let data = hex_of(&[SET_ROOT_RING, &root, EPOCH_9, "0020", &streamer]);
    assert_eq!(data.len(), 82);
    assert_eq!(
        facts_of(data),
        [SolanaFact::RootSet {
            signature: SIGNATURE,
            slot: Slot(44),
            ix_index: 1,
            streamer: Address([4; 32]),
            epoch: 9,
            root,
            count: 8192,
        }]
    );
}

#[test]
fn bytes_behind_the_last_argument_change_nothing_since_the_program_executes_it() {
    let plain = ring("twitch:chan:bob", AMOUNT_500);
    let mut longer = plain.clone();
    longer.extend([0, 7]);
    assert_eq!(facts_of(longer), facts_of(plain));
}

#[test]
fn what_cannot_be_read_is_reported_with_its_reason() {
    let id65 = format!("twitch:{}:{}", "c".repeat(30), "b".repeat(27));
    assert_eq!(id65.len(), 65);
    let claim_of = |id: &str| hex_of(&[CLAIM, "00", INDEX_3, AMOUNT_500, &text(id), NO_PROOF]);
    let by_name = |name: &str| {
        let hash = text("abcd");
        hex_of(&[CLAIM_CHANNEL_OPEN, &text(name), EPOCH_9, INDEX_3, AMOUNT_500, &hash, NO_PROOF])
    };
    let rows: Vec<(Vec<u8>, &str)> = vec![
        (ring(&id65, AMOUNT_500), "65 bytes"),
        (ring("", AMOUNT_500), "id is empty"),
        (claim_of("bob"), "not `twitch:<channel>:<login>`"),
        (claim_of("twitch:chan"), "not `twitch:"),
        (claim_of("twitch::bob"), "not `twitch:"),
        (claim_of("twitch:chan:"), "not `twitch:"),
        (claim_of("twitch:chan:bob:x"), "not `twitch:"),
        (claim_of("kick:chan:bob"), "not `twitch:"),
        (claim_of("twitch:chan:bo\0b"), "control characters"),
        (by_name(""), "channel is empty"),
        (by_name(&"x".repeat(65)), "channel has 65 bytes"),
        (by_name("a\nb"), "control characters"),
        (hex_of(&[CLAIM]), "`claim`"),
        (hex_of(&[CLAIM, "00", INDEX_3, AMOUNT_500, "ffffffff"]), "`claim`"),
        (hex_of(&[CLAIM, "00", INDEX_3, AMOUNT_500, "01000000ff", NO_PROOF]), "`claim`"),
        (hex_of(&[CLAIM_WITH_RING, EPOCH_9, INDEX_3, AMOUNT_500, "ffffffff"]), "claim_with_ring"),
        (hex_of(&[SET_ROOT_RING, &"cd".repeat(32)]), "set_merkle_root_ring"),
    ];
    for (data, part) in rows {
        let text = must_undecodable(data);
        assert!(text.contains(part), "{text} does not say {part}");
    }
}

#[test]
fn an_id_of_just_64_bytes_is_taken() {
    let id = format!("twitch:{}:{}", "c".repeat(30), "b".repeat(26));
    assert_eq!(id.len(), 64);
    assert_eq!(must_claim(ring(&id, AMOUNT_500)).id, id);
}

#[test]
fn a_claim_cut_short_anywhere_is_reported_and_never_panics() {
    let whole = ring("twitch:chan:bob", AMOUNT_500);
    for length in 8..whole.len() {
        must_undecodable(whole[..length].to_vec());
    }
}

#[test]
fn a_claim_without_accounts_is_reported() {
    let block = block_of(PROGRAM, &[], ring("twitch:chan:bob", AMOUNT_500));
    let facts = facts(&block, &PROGRAM);
    let [SolanaFact::Undecodable { text, .. }] = facts.as_slice() else { panic!("{facts:?}") };
    assert!(text.contains("no claimer"), "{text}");
}

#[test]
fn other_programs_and_other_instructions_are_no_facts() {
    let claim = ring("twitch:chan:bob", AMOUNT_500);
    let foreign = block_of(Address([3; 32]), &[USER], claim);
    assert_eq!(facts(&foreign, &PROGRAM), []);
    for data in [
        "",
        "07375adfd1d506",                   // shorter than a discriminator
        "28850c9debca028401",               // set_policy
        "e445a52e51cb9a1df53ed38c750d1ebc", // an event by self-call
        "e85bb1d47a5ee3fa",                 // initialize_channel, cut short: see below
    ] {
        let data = hex::decode(data).unwrap();
        let facts = facts_of(data.clone());
        let undecodable = matches!(facts.as_slice(), [SolanaFact::Undecodable { .. }]);
        assert_eq!(facts.is_empty(), !undecodable);
        assert_eq!(undecodable, data.starts_with(&[0xe8]), "{facts:?}");
    }
    let legacy_root =
        hex_of(&["2b185b3cf0891c66", &"cd".repeat(32), EPOCH_9, INDEX_3, &"04".repeat(32)]);
    assert_eq!(facts_of(legacy_root), []);
}
