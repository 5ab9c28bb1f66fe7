//! The profiles that ship: every convention in the field that we know, with its source.

use std::sync::LazyLock;

use super::{
    Duplicates, Encoding, Hashing, LeafOrder, LeafRule, Limits, Odd, Profile, RootText, Shape,
};
use crate::merkle::{
    hash::{HashFn, Pair, Prefix},
    leaf::{ByteOrder, Field, FieldType},
};

/// Every profile that ships.
pub static PROFILES: LazyLock<Vec<Profile>> = LazyLock::new(|| {
    vec![
        ao_claim_v0(),
        ao_claim_v1(),
        ao_participation(),
        ao_participation_promote(),
        ao_cumulative_v2(),
        ao_global_v4(),
        openzeppelin_standard(),
        openzeppelin_simple(),
        uniswap(),
        saber(),
        jito(),
        solana_merkle_tree(),
        murky(),
        rs_merkle(),
    ]
});

/// The profile of that name, of those that ship.
///
/// # Errors
/// A sentence that lists the names there are.
pub fn by_name(name: &str) -> Result<Profile, String> {
    PROFILES.iter().find(|profile| profile.name == name).cloned().ok_or_else(|| {
        let names: Vec<_> = PROFILES.iter().map(|profile| profile.name.as_str()).collect();
        format!("`{name}` is no Merkle profile: use one of {}", names.join(", "))
    })
}

const U32_LE: FieldType = FieldType::Uint { bits: 32, order: ByteOrder::Little };
const U64_LE: FieldType = FieldType::Uint { bits: 64, order: ByteOrder::Little };
const U256_BE: FieldType = FieldType::Uint { bits: 256, order: ByteOrder::Big };
const BYTES32: FieldType = FieldType::Fixed(32);
/// The longest id of the Attention Oracle's program.
const AO_ID_MAX: u32 = 64;

/// What most conventions share; the functions below say what each has of its own.
fn plain(name: &str, fields: &[(&str, FieldType)]) -> Profile {
    Profile {
        name: name.to_owned(),
        hash: HashFn::Keccak256,
        leaf: LeafRule {
            fields: fields.iter().map(|(name, kind)| Field::new(name, *kind)).collect(),
            encoding: Encoding::Packed,
            hashing: Hashing::Once,
            prefix: Prefix::NONE,
            outer_prefix: Prefix::NONE,
        },
        pair: Pair::Sorted,
        node_prefix: Prefix::NONE,
        order: LeafOrder::Given,
        duplicates: Duplicates::Keep,
        shape: Shape::Levels,
        odd: Odd::Promote,
        limits: Limits::default(),
        root: RootText::ZeroX,
    }
}

/// What the Attention Oracle's conventions share: duplicated odd nodes, short ids, plain hex.
fn ao(name: &str, prefix: &str, fields: &[(&str, FieldType)]) -> Profile {
    let mut profile = plain(name, fields);
    profile.leaf.prefix = Prefix::try_from(prefix.as_bytes()).unwrap_or_default();
    profile.odd = Odd::Duplicate;
    profile.limits.bytes_max = AO_ID_MAX;
    profile.root = RootText::Hex;
    profile
}

/// The legacy tree of the Attention Oracle: what its program of November 2025 verifies.
#[must_use]
pub fn ao_claim_v0() -> Profile {
    let fields = [
        ("claimer", FieldType::Pubkey),
        ("index", U32_LE),
        ("amount", U64_LE),
        ("id", FieldType::Text),
    ];
    Profile { order: LeafOrder::Field("index".to_owned()), ..ao("ao-claim-v0", "", &fields) }
}

/// The same with a prefix, the channel's subject and the epoch in the leaf.
fn ao_claim_v1() -> Profile {
    let fields = [
        ("subject", BYTES32),
        ("epoch", U64_LE),
        ("claimer", FieldType::Pubkey),
        ("index", U32_LE),
        ("amount", U64_LE),
        ("id", FieldType::Text),
    ];
    Profile { order: LeafOrder::Field("index".to_owned()), ..ao("ao-claim-v1", "leaf:", &fields) }
}

/// Participation, as one legacy script of the Attention Oracle builds it.
fn ao_participation() -> Profile {
    let fields = [("user_hash", BYTES32), ("channel", FieldType::Text), ("epoch", U64_LE)];
    Profile {
        order: LeafOrder::Field("user_hash".to_owned()),
        ..ao("ao-participation", "", &fields)
    }
}

/// Participation, as another legacy script builds it: leaves sorted, odd nodes promoted.
fn ao_participation_promote() -> Profile {
    Profile {
        name: "ao-participation-promote".to_owned(),
        order: LeafOrder::Hash,
        odd: Odd::Promote,
        ..ao_participation()
    }
}

/// Cumulative totals of one channel.
fn ao_cumulative_v2() -> Profile {
    let fields = [
        ("channel_config", BYTES32),
        ("mint", FieldType::Pubkey),
        ("root_seq", U64_LE),
        ("wallet", FieldType::Pubkey),
        ("total", U64_LE),
    ];
    ao("ao-cumulative-v2", "TWZRD:CUMULATIVE_V2", &fields)
}

/// Cumulative totals of all channels. The program takes at most 32 siblings.
fn ao_global_v4() -> Profile {
    let fields = [
        ("mint", FieldType::Pubkey),
        ("root_seq", U64_LE),
        ("wallet", FieldType::Pubkey),
        ("total", U64_LE),
    ];
    ao("ao-global-v4", "TWZRD:GLOBAL_V4", &fields)
}

/// `StandardMerkleTree` of OpenZeppelin/merkle-tree: hashed twice, so that no node can pass for a
/// leaf. The fields are the user's choice; these are a claim's.
fn openzeppelin_standard() -> Profile {
    let fields =
        [("claimer", BYTES32), ("index", U256_BE), ("amount", U256_BE), ("id", FieldType::Text)];
    let mut profile = plain("openzeppelin-standard", &fields);
    profile.leaf.encoding = Encoding::Abi;
    profile.leaf.hashing = Hashing::Twice;
    profile.order = LeafOrder::Hash;
    profile.shape = Shape::Heap;
    profile
}

/// `SimpleMerkleTree` of OpenZeppelin/merkle-tree: 32 bytes as given.
fn openzeppelin_simple() -> Profile {
    let mut profile = plain("openzeppelin-simple", &[("leaf", BYTES32)]);
    profile.leaf.hashing = Hashing::Given;
    profile.order = LeafOrder::Hash;
    profile.shape = Shape::Heap;
    profile
}

/// Uniswap/merkle-distributor: `keccak(abi.encodePacked(index, account, amount))`.
fn uniswap() -> Profile {
    let fields = [("index", U256_BE), ("account", FieldType::Address), ("amount", U256_BE)];
    Profile { order: LeafOrder::Hash, duplicates: Duplicates::Drop, ..plain("uniswap", &fields) }
}

/// saber-hq/merkle-distributor (Solana).
fn saber() -> Profile {
    let fields = [("index", U64_LE), ("claimant", FieldType::Pubkey), ("amount", U64_LE)];
    Profile {
        order: LeafOrder::Hash,
        duplicates: Duplicates::Drop,
        root: RootText::Hex,
        ..plain("saber", &fields)
    }
}

/// jito-foundation/distributor (Solana): equal claimants are merged, leaves and nodes prefixed.
fn jito() -> Profile {
    let fields = [("claimant", FieldType::Pubkey), ("unlocked", U64_LE), ("locked", U64_LE)];
    let mut profile = plain("jito", &fields);
    profile.hash = HashFn::Sha256;
    profile.leaf.hashing = Hashing::Twice;
    profile.leaf.outer_prefix = Prefix::byte(0);
    profile.node_prefix = Prefix::byte(1);
    profile.duplicates = Duplicates::Merge("claimant".to_owned());
    profile.odd = Odd::Duplicate;
    profile.root = RootText::Hex;
    profile
}

/// Crate `solana-merkle-tree`: any bytes, left and right as they are.
fn solana_merkle_tree() -> Profile {
    let mut profile = plain("solana-merkle-tree", &[("item", FieldType::Bytes)]);
    profile.hash = HashFn::Sha256;
    profile.leaf.prefix = Prefix::byte(0);
    profile.node_prefix = Prefix::byte(1);
    profile.pair = Pair::Ordered;
    profile.odd = Odd::Duplicate;
    profile.root = RootText::Base58;
    profile
}

/// dmfxyz/murky: an odd node meets 32 zero bytes, a lone leaf is refused. The fields are the
/// user's choice; these are a claim's.
fn murky() -> Profile {
    Profile {
        name: "murky".to_owned(),
        order: LeafOrder::Given,
        shape: Shape::Levels,
        odd: Odd::Zero,
        limits: Limits { leaves_min: 2, ..Limits::default() },
        ..openzeppelin_standard()
    }
}

/// Crate `rs_merkle` with its own `Sha256`; with `hash = "keccak256"` its Keccak.
fn rs_merkle() -> Profile {
    let mut profile = plain("rs_merkle", &[("leaf", BYTES32)]);
    profile.hash = HashFn::Sha256;
    profile.leaf.hashing = Hashing::Given;
    profile.pair = Pair::Ordered;
    profile.root = RootText::Hex;
    profile
}
