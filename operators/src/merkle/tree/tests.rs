//! Vectors with their origin, and cross-checks against other builders.
//!
//! `rs_merkle` checks the promoting rules. It cannot express a duplicating tree: overriding
//! `concat_and_hash` also pairs the lone root of every power of two with itself, one level too
//! many. Those rules are checked against a recursive builder that shares no code with the tree.

use proptest::prelude::*;
use semel_schemas::solana::Address;

use super::*;
use crate::merkle::{
    hash::keccak,
    profile::{
        AO_CLAIM_V0, Abi, OPENZEPPELIN_STANDARD, PROFILES, abi_encode, ao_claim_v0, by_name,
        standard_leaf,
    },
    proof::verify,
};

const SORTED_PROMOTE: Rules = Rules { pair: Pair::Sorted, shape: Shape::Levels(Odd::Promote) };
const ORDERED_PROMOTE: Rules = Rules { pair: Pair::Ordered, shape: Shape::Levels(Odd::Promote) };
const SORTED_DUPLICATE: Rules = Rules { pair: Pair::Sorted, shape: Shape::Levels(Odd::Duplicate) };
const ORDERED_DUPLICATE: Rules =
    Rules { pair: Pair::Ordered, shape: Shape::Levels(Odd::Duplicate) };
const ORDERED_HEAP: Rules = Rules { pair: Pair::Ordered, shape: Shape::SortedHeap };
const ALL: [Rules; 6] = [
    SORTED_PROMOTE,
    ORDERED_PROMOTE,
    SORTED_DUPLICATE,
    ORDERED_DUPLICATE,
    OPENZEPPELIN_STANDARD.rules,
    ORDERED_HEAP,
];

fn root(rules: Rules, leaves: &[Hash]) -> String {
    hex::encode(Tree::build(rules, leaves.to_vec()).unwrap().root())
}

#[test]
fn seven_leaves_tell_the_rules_apart() {
    let leaves: Vec<Hash> = (b'a'..=b'g').map(|letter| keccak(&[letter])).collect();
    for (rules, want) in [
        (ORDERED_PROMOTE, "ec287d0f255d6e478a8e9144b99f869610196641c74af6c76f6621a4da7d67cb"),
        (SORTED_PROMOTE, "329bcb82b465308e4d3445408c794db388e401855b1fe6f2981c93ca34ce516b"),
        (SORTED_DUPLICATE, "b202ba11940427b6db83a6f0834e52bf1c93e19799fec37aa76c933c09652aa7"),
    ] {
        assert_eq!(root(rules, &leaves), want, "{rules:?}");
    }
}

// Inputs of the Attention Oracle's public repository; roots by an independent builder.
#[test]
fn ao_claim_v0_agrees_with_the_public_inputs() {
    let claimer: Address = "2pHjZLqsSqi35xuYHmZbZBM1xfYV6Ruv57r3eFPvZZaD".parse().unwrap();
    let leaves: Vec<Hash> = [
        ("alice", 10_000),
        ("bob", 15_000),
        ("charlie", 20_000),
        ("dave", 12_500),
        ("eve", 18_000),
    ]
    .iter()
    .zip(0..)
    .map(|((name, amount), index)| {
        ao_claim_v0(&claimer.0, index, *amount, format!("twitch:stableronaldo:{name}").as_bytes())
    })
    .collect();
    assert_eq!(
        hex::encode(leaves[0]),
        "7a9d9cc6022a04edd7d4f0c71202f13619e07245aa3f9d9eb68c1ce3e085bebd"
    );
    assert_eq!(
        root(AO_CLAIM_V0.rules, &leaves),
        "782d2060c46e129f4c4842b043e3b015a3e468526cabef7f6f2bb59720c12c00"
    );
    assert_eq!(
        root(SORTED_PROMOTE, &leaves),
        "fa4216b7b4eba2da108941d94f9eff76927d7d2f6c625c32ecd5c4e610e8490e"
    );
    let lone = ao_claim_v0(&[7; 32], 5, 123_456, b"twitch:unit:alice");
    assert_eq!(
        root(AO_CLAIM_V0.rules, &[lone]),
        "3719e81ed948903eb5fefc3ddd9e4e12d18f24f3462a57509618651678cc11b4"
    );
}

// OpenZeppelin/merkle-tree, test dumps: type (string), values a to f.
#[test]
fn openzeppelin_standard_agrees_with_the_dump() {
    let leaves: Vec<Hash> = ["a", "b", "c", "d", "e", "f"]
        .iter()
        .map(|text| standard_leaf(&[Abi::Text(text)]))
        .collect();
    let tree = Tree::build(OPENZEPPELIN_STANDARD.rules, leaves.clone()).unwrap();
    assert_eq!(
        hex::encode(tree.root()),
        "6deb52b5da8fd108f79fab00341f38d2587896634c646ee52e49f845680a70c8"
    );
    assert_eq!(
        hex::encode(leaves[0]),
        "9c15a6a0eaeed500fd9eed4cbeab71f797cefcc67bfd46683e4d2e6ff7f06d1c"
    );
    let siblings: Vec<_> = tree.proof(0).unwrap().siblings.iter().map(hex::encode).collect();
    assert_eq!(
        siblings,
        [
            "9cf5a63718145ba968a01c1d557020181c5b252f665cf7386d370eddb176517b",
            "965b92c6cf08303cc4feb7f3e0819c436c2cec17c6f0688a6af139c9a368707c",
            "fd3cf45654e88d1cc5d663578c82c76f4b5e3826bacaa1216441443504538f51",
        ]
    );
}

#[test]
fn abi_encoding_puts_dynamic_values_behind_the_head() {
    let encoded = abi_encode(&[Abi::Uint(7), Abi::Text("ab"), Abi::Bytes32([9; 32])]);
    let mut want = [0; 160];
    want[31] = 7;
    want[63] = 96;
    want[64..96].fill(9);
    want[127] = 2;
    want[128..130].copy_from_slice(b"ab");
    assert_eq!(encoded, want);
}

#[test]
fn no_leaves_give_no_tree_and_one_leaf_is_its_root() {
    for rules in ALL {
        assert_eq!(Tree::build(rules, Vec::new()), None);
        let tree = Tree::build(rules, vec![[3; 32]]).unwrap();
        assert_eq!(tree.root(), [3; 32]);
        assert_eq!(tree.proof(0).unwrap().siblings, Vec::<Hash>::new());
        assert_eq!(tree.proof(1), None);
    }
}

#[test]
fn profiles_are_found_by_name_and_the_others_are_named() {
    for profile in PROFILES {
        assert_eq!(by_name(profile.name), Ok(*profile));
    }
    assert_eq!(
        by_name("ao").unwrap_err(),
        "`ao` is no Merkle profile: use one of ao-claim-v0, openzeppelin-standard"
    );
}

#[derive(Clone)]
struct SortedKeccak;
impl rs_merkle::Hasher for SortedKeccak {
    type Hash = Hash;
    fn hash(data: &[u8]) -> Hash {
        keccak(data)
    }
    fn concat_and_hash(left: &Hash, right: Option<&Hash>) -> Hash {
        right.map_or(*left, |right| keccak(&[*left.min(right), *left.max(right)].concat()))
    }
}

#[derive(Clone)]
struct OrderedKeccak;
impl rs_merkle::Hasher for OrderedKeccak {
    type Hash = Hash;
    fn hash(data: &[u8]) -> Hash {
        keccak(data)
    }
}

/// A duplicating tree by definition: the root of one node is the node, else of the pairs.
fn duplicating(nodes: &[Hash]) -> Hash {
    match nodes {
        [root] => *root,
        _ => duplicating(
            &nodes
                .chunks(2)
                .map(|pair| {
                    let (a, b) = (pair[0], *pair.last().unwrap());
                    keccak(&[a.min(b), a.max(b)].concat())
                })
                .collect::<Vec<_>>(),
        ),
    }
}

proptest! {
    #[test]
    fn roots_agree_with_other_builders(leaves in prop::collection::vec(any::<Hash>(), 1..70)) {
        let root = |rules| Tree::build(rules, leaves.clone()).unwrap().root();
        prop_assert_eq!(
            Some(root(SORTED_PROMOTE)),
            rs_merkle::MerkleTree::<SortedKeccak>::from_leaves(&leaves).root()
        );
        prop_assert_eq!(
            Some(root(ORDERED_PROMOTE)),
            rs_merkle::MerkleTree::<OrderedKeccak>::from_leaves(&leaves).root()
        );
        prop_assert_eq!(root(SORTED_DUPLICATE), duplicating(&leaves));
    }

    #[test]
    fn every_leaf_is_proved_and_nothing_else(
        leaves in prop::collection::vec(any::<Hash>(), 1..40),
        other in any::<Hash>(),
    ) {
        for rules in ALL {
            let tree = Tree::build(rules, leaves.clone()).unwrap();
            for (index, leaf) in leaves.iter().enumerate() {
                let proof = tree.proof(index).unwrap();
                prop_assert!(verify(rules, &tree.root(), leaf, &proof), "{rules:?} {index}");
                prop_assert!(!verify(rules, &tree.root(), &other, &proof), "{rules:?} {index}");
                let mut longer = proof.clone();
                longer.siblings.push(other);
                prop_assert!(!verify(rules, &tree.root(), leaf, &longer), "{rules:?} {index}");
            }
        }
    }

    #[test]
    fn a_sorted_heap_does_not_care_for_the_order_of_leaves(
        leaves in prop::collection::vec(any::<Hash>(), 1..40),
    ) {
        let rules = OPENZEPPELIN_STANDARD.rules;
        let mut turned = leaves.clone();
        turned.reverse();
        prop_assert_eq!(root(rules, &leaves), root(rules, &turned));
    }
}
