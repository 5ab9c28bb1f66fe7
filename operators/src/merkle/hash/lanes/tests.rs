//! Every path that this machine has, against a hasher that is not ours.

use proptest::prelude::*;
use sha3::{Digest, Keccak256};

use super::*;
use crate::merkle::{
    hash::{Pair, Prefix},
    profile::PROFILES,
    tree::Tree,
};

fn means() -> Vec<Means> {
    let each = |lanes| [Means::on(lanes, Cores::One), Means::on(lanes, Cores::All)];
    Lanes::ALL.into_iter().flat_map(each).flatten().collect()
}

/// A join by definition, of crates `sha3` and `sha2`.
fn by_definition(node: &NodeRule, [left, right]: &[Hash; 2]) -> Hash {
    let mut two = [left.as_slice(), right.as_slice()];
    if node.pair == Pair::Sorted {
        two.sort_unstable();
    }
    let bytes = [node.prefix.as_bytes(), two[0], two[1]].concat();
    match node.hash {
        HashFn::Keccak256 => Keccak256::digest(&bytes).into(),
        HashFn::Sha256 => sha2::Sha256::digest(&bytes).into(),
    }
}

/// Hashes that can be told apart, a few of them equal.
fn hashes(count: usize) -> Vec<Hash> {
    let hash = |i: usize| HashFn::Sha256.of(&[&(i % 997).to_le_bytes()]);
    (0..count).map(hash).collect()
}

/// Small enough for Miri, which checks the kernels' `unsafe` (see docs/merkle.md); the property below
/// says the same of any bytes.
#[test]
fn every_kernel_agrees_with_its_twin() {
    // All numbers of pairs that a kernel of eight lanes treats differently, and first words that are
    // equal.
    let mut hashes = hashes(2 * 19);
    hashes[5] = hashes[4];
    hashes[6] = hashes[7];
    hashes[6][31] ^= 1;
    let (pairs, _) = hashes.as_chunks::<2>();
    for (hash, pair) in [
        (HashFn::Keccak256, Pair::Sorted),
        (HashFn::Keccak256, Pair::Ordered),
        (HashFn::Sha256, Pair::Sorted),
    ] {
        for prefix in
            [Prefix::NONE, Prefix::byte(1), Prefix::try_from(&[7; PREFIX_MAX][..]).unwrap()]
        {
            let node = NodeRule { hash, pair, prefix };
            for count in [0, 1, 2, 4, 5, 7, 8, 9, 16, 19] {
                let want: Vec<_> = pairs[..count].iter().map(|p| by_definition(&node, p)).collect();
                for lanes in Lanes::ALL {
                    let Some(means) = Means::on(lanes, Cores::One) else { continue };
                    let mut got = vec![[0; 32]; count];
                    join_pairs(&node, means, &pairs[..count], &mut got);
                    assert_eq!(got, want, "{node:?} {lanes:?} {count}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn every_path_joins_as_defined(
        pairs in prop::collection::vec(any::<[Hash; 2]>(), 0..40),
        prefix in prop::collection::vec(any::<u8>(), 0..33),
    ) {
        for hash in [HashFn::Keccak256, HashFn::Sha256] {
            for pair in [Pair::Sorted, Pair::Ordered] {
                for prefix in [Prefix::NONE, Prefix::try_from(&prefix[..]).unwrap()] {
                    let node = NodeRule { hash, pair, prefix };
                    let want: Vec<_> = pairs.iter().map(|p| by_definition(&node, p)).collect();
                    for means in means() {
                        let mut got = vec![[0; 32]; pairs.len()];
                        join_pairs(&node, means, &pairs, &mut got);
                        prop_assert_eq!(&got, &want, "{:?}", means);
                    }
                    let one: Vec<_> = pairs.iter().map(|[l, r]| node.join(l, r)).collect();
                    prop_assert_eq!(&one, &want);
                }
            }
        }
    }
}

#[test]
fn every_path_and_any_number_of_cores_give_every_profile_the_same_tree() {
    // Wide enough that the lower levels are divided among cores.
    let leaves = hashes(4 * CHUNK + 3);
    for profile in PROFILES.iter() {
        let rules = profile.rules();
        for count in [2, 3, 9, 31, 257, leaves.len()] {
            let leaves = leaves[..count].to_vec();
            let twin = Means::on(Lanes::Scalar, Cores::One).unwrap();
            let want = Tree::build_by(&rules, twin, leaves.clone()).unwrap();
            for means in means() {
                let got = Tree::build_by(&rules, means, leaves.clone()).unwrap();
                assert!(got == want, "{profile} {count} {means:?}");
            }
        }
    }
}

#[test]
fn slices_of_unequal_length_are_joined_as_far_as_both_go() {
    let node = PROFILES[0].rules().node;
    for means in means() {
        let mut parents = [[9; 32]; 3];
        join_pairs(&node, means, &[[[1; 32]; 2]; 2], &mut parents);
        assert_eq!(parents[2], [9; 32]);
        join_pairs(&node, means, &[[[2; 32]; 2]; 9], &mut parents);
        assert_eq!(parents[2], node.join(&[2; 32], &[2; 32]));
    }
}

#[test]
fn the_machine_is_asked() {
    for lanes in Lanes::ALL {
        assert_eq!(Means::on(lanes, Cores::One).is_some(), lanes.here());
    }
    assert!(Means::best().lanes().here());
}
