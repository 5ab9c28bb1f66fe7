//! Profiles: conventions of Merkle trees in the field, by name, as data.
//!
//! Lives here: what differs between two conventions. What they share is in `tree.rs`.
//! A profile that duplicates odd nodes gives `[a,b,c]` and `[a,b,c,c]` the same root: whoever
//! publishes such a root publishes the leaf count with it.

use semel_schemas::claim::Claim;

use super::hash::{Hash, keccak};

/// How a pair of nodes is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// The bytewise smaller one first: a proof needs no directions.
    Sorted,
    /// Left, then right.
    Ordered,
}

/// What becomes of the last node of a level of odd width (above one).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    /// It is paired with itself.
    Duplicate,
    /// It moves up as it is.
    Promote,
}

/// How nodes are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Level upon level, leaves in the order given.
    Levels(Odd),
    /// A complete heap of `2n - 1` nodes, leaves sorted by hash and laid from the end.
    SortedHeap,
}

/// The part of a convention that a tree of given leaf hashes needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How a pair is hashed.
    pub pair: Pair,
    /// How nodes are laid out.
    pub shape: Shape,
}

/// How a claim becomes a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// `keccak(claimer32 | index u32 LE | amount u64 LE | id)`: what the Attention Oracle program
    /// of November 2025 verifies.
    AoClaimV0,
    /// `keccak(keccak(abi.encode(bytes32 claimer, uint256 index, uint256 amount, string id)))`.
    OpenZeppelinStandard,
}

/// One convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name in settings and records.
    pub name: &'static str,
    /// How a claim becomes a leaf.
    pub leaf: Leaf,
    /// How leaves become a tree.
    pub rules: Rules,
}

/// `ao-claim-v0`: the legacy tree of the Attention Oracle.
pub const AO_CLAIM_V0: Profile = Profile {
    name: "ao-claim-v0",
    leaf: Leaf::AoClaimV0,
    rules: Rules { pair: Pair::Sorted, shape: Shape::Levels(Odd::Duplicate) },
};

/// `openzeppelin-standard`: `StandardMerkleTree` of OpenZeppelin/merkle-tree.
pub const OPENZEPPELIN_STANDARD: Profile = Profile {
    name: "openzeppelin-standard",
    leaf: Leaf::OpenZeppelinStandard,
    rules: Rules { pair: Pair::Sorted, shape: Shape::SortedHeap },
};

/// Every profile.
pub const PROFILES: &[Profile] = &[AO_CLAIM_V0, OPENZEPPELIN_STANDARD];

/// The profile of that name.
///
/// # Errors
/// A sentence that lists the names there are.
pub fn by_name(name: &str) -> Result<Profile, String> {
    PROFILES.iter().find(|profile| profile.name == name).copied().ok_or_else(|| {
        let names: Vec<_> = PROFILES.iter().map(|profile| profile.name).collect();
        format!("`{name}` is no Merkle profile: use one of {}", names.join(", "))
    })
}

impl Profile {
    /// The leaf of `claim`, which is the `index`-th of its batch.
    #[must_use]
    pub fn leaf(&self, claim: &Claim, index: u32) -> Hash {
        match self.leaf {
            Leaf::AoClaimV0 => {
                ao_claim_v0(&claim.user.0, index, claim.amount.0, claim.id.as_bytes())
            }
            Leaf::OpenZeppelinStandard => standard_leaf(&[
                Abi::Bytes32(claim.user.0),
                Abi::Uint(u64::from(index)),
                Abi::Uint(claim.amount.0),
                Abi::Text(&claim.id),
            ]),
        }
    }
}

/// `keccak(claimer32 | index u32 LE | amount u64 LE | id utf-8)`.
#[must_use]
pub fn ao_claim_v0(claimer: &Hash, index: u32, amount: u64, id: &[u8]) -> Hash {
    let mut bytes = Vec::with_capacity(44 + id.len());
    bytes.extend_from_slice(claimer);
    bytes.extend_from_slice(&index.to_le_bytes());
    bytes.extend_from_slice(&amount.to_le_bytes());
    bytes.extend_from_slice(id);
    keccak(&bytes)
}

/// A value in Solidity's ABI encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi<'a> {
    /// `bytes32`.
    Bytes32(Hash),
    /// `uint256` that fits 64 bits.
    Uint(u64),
    /// `string`.
    Text(&'a str),
}

/// `keccak(keccak(abi.encode(values)))`: hashed twice, so that no inner node can pass for a leaf.
#[must_use]
pub fn standard_leaf(values: &[Abi<'_>]) -> Hash {
    keccak(&keccak(&abi_encode(values)))
}

/// Solidity's `abi.encode`: a head of one word for each value, dynamic values behind it, words of
/// 32 bytes big-endian. Source: Solidity ABI specification, "Formal Specification of the Encoding".
#[must_use]
pub fn abi_encode(values: &[Abi<'_>]) -> Vec<u8> {
    let mut head = Vec::with_capacity(values.len() * 64);
    let mut tail = Vec::new();
    for value in values {
        match value {
            Abi::Bytes32(bytes) => head.extend_from_slice(bytes),
            Abi::Uint(number) => head.extend_from_slice(&word(*number)),
            Abi::Text(text) => {
                head.extend_from_slice(&word((values.len() * 32 + tail.len()) as u64));
                tail.extend_from_slice(&word(text.len() as u64));
                tail.extend_from_slice(text.as_bytes());
                tail.resize(tail.len().next_multiple_of(32), 0);
            }
        }
    }
    head.extend_from_slice(&tail);
    head
}

fn word(number: u64) -> Hash {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&number.to_be_bytes());
    word
}
