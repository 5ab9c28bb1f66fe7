//! The verifiers under attack: every proof of every tree, changed in every way that a property test
//! thinks of. Nothing may panic, nothing forged may pass.
//!
//! What passes is decided by an oracle that knows the whole tree: a leaf at a place is accepted only
//! if that leaf stands there. Where pairs are sorted the place is no part of what is hashed, and the
//! oracle asks whether the leaf stands anywhere.

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::merkle::{
    hash::HashFn,
    multiproof::{MultiError, Multiproof, fold_flags, verify_multiproof},
    profile::PROFILES,
    sealed::{Sealed, seal},
};

/// Distinct leaves.
fn leaves(count: usize, seed: u64) -> Vec<Hash> {
    let hash = |i: usize| HashFn::Sha256.of(&[&seed.to_le_bytes(), &i.to_le_bytes()]);
    (0..count).map(hash).collect()
}

/// A profile's rules, also with pairs ordered, and a tree of 2 to 40 leaves.
fn tree() -> impl Strategy<Value = (Rules, Tree)> {
    (0..PROFILES.len(), any::<bool>(), 2_usize..40, any::<u64>()).prop_map(
        |(profile, ordered, count, seed)| {
            let mut rules = PROFILES[profile].rules();
            if ordered {
                rules.node.pair = Pair::Ordered;
            }
            (rules, Tree::build(&rules, leaves(count, seed)).unwrap())
        },
    )
}

/// The leaf that stands at a place, if one does.
fn at_place(tree: &Tree, place: usize) -> Option<Hash> {
    let here = |index: &usize| tree.proof(*index).unwrap().place == place;
    (0..tree.len()).find(here).map(|index| tree.leaf(index).unwrap())
}

/// Whether the verifier may accept `leaf` at `place`.
fn may_pass(rules: &Rules, tree: &Tree, leaf: &Hash, place: usize) -> bool {
    match rules.node.pair {
        Pair::Ordered => at_place(tree, place) == Some(*leaf),
        Pair::Sorted => (0..tree.len()).any(|index| tree.leaf(index).unwrap() == *leaf),
    }
}

proptest! {
    #[test]
    fn every_leaf_is_proved((rules, tree) in tree()) {
        let published = tree.published().unwrap();
        for index in 0..tree.len() {
            let (leaf, proof) = (tree.leaf(index).unwrap(), tree.proof(index).unwrap());
            prop_assert_eq!(verify(&rules, &published, &leaf, &proof), Ok(()));
            if rules.node.pair == Pair::Sorted {
                prop_assert_eq!(fold(&rules.node, &leaf, &proof.siblings), published.root);
            }
            prop_assert!(proof.siblings.len() <= usize::from(rules.limits.proof_max));
        }
        let (index, count) = (tree.len(), tree.len());
        prop_assert_eq!(tree.proof(index), Err(TreeError::NoLeaf { index, count }));
    }

    #[test]
    fn many_proofs_are_those_of_one_after_the_other(
        (rules, tree) in tree(),
        indices in prop::collection::vec(0_usize..60, 0..30),
    ) {
        let bytes = PROFILES.iter().find(|profile| profile.rules() == rules).map(|profile| {
            (profile, seal(profile, &tree).unwrap().to_vec())
        });
        let known: Vec<_> = indices.iter().copied().take_while(|i| *i < tree.len()).collect();
        let want: Vec<_> =
            known.iter().map(|i| (*i, tree.proof(*i).unwrap().siblings)).collect();
        let end = match indices.get(known.len()) {
            Some(&index) => Err(TreeError::NoLeaf { index, count: tree.len() }),
            None => Ok(()),
        };
        let mut read = Vec::new();
        let got = tree.proofs(indices.iter().copied(), |index, siblings| {
            read.push((index, siblings.to_vec()));
        });
        prop_assert_eq!((got, &read), (end, &want));
        if let Some((profile, bytes)) = bytes {
            let sealed = Sealed::open(&bytes, profile).unwrap();
            let mut read = Vec::new();
            let got = sealed.proofs(indices, |index, siblings| {
                read.push((index, siblings.to_vec()));
            });
            prop_assert_eq!((got, &read), (end.map_err(Into::into), &want));
        }
    }

    #[test]
    fn no_proof_serves_another_leaf_place_or_count(
        (rules, tree) in tree(),
        index in any::<Index>(),
        other in any::<Index>(),
        stranger in any::<Hash>(),
        place in 0_usize..90,
        count in 0_usize..90,
    ) {
        let published = tree.published().unwrap();
        let (index, other) = (index.index(tree.len()), other.index(tree.len()));
        let (leaf, proof) = (tree.leaf(index).unwrap(), tree.proof(index).unwrap());
        prop_assert!(verify(&rules, &published, &stranger, &proof).is_err());
        if other != index {
            let leaf = tree.leaf(other).unwrap();
            prop_assert!(verify(&rules, &published, &leaf, &proof).is_err());
        }
        let moved = Proof { place, ..proof.clone() };
        if verify(&rules, &published, &leaf, &moved).is_ok() {
            prop_assert!(may_pass(&rules, &tree, &leaf, place));
            prop_assert!(at_place(&tree, place).is_some(), "no leaf stands at {}", place);
        }
        if count != published.count {
            let claimed = Proof { count, ..proof.clone() };
            let refused = Refused::Count { claimed: count, published: published.count };
            prop_assert_eq!(verify(&rules, &published, &leaf, &claimed), Err(refused));
            let false_count = Published { count, ..published };
            prop_assert!(verify(&rules, &false_count, &leaf, &proof).is_err());
        }
    }

    #[test]
    fn a_changed_proof_is_refused(
        (rules, tree) in tree(),
        index in any::<Index>(),
        at in any::<Index>(),
        byte in 0_usize..32,
        bit in 0_u8..8,
        more in any::<Hash>(),
    ) {
        let published = tree.published().unwrap();
        let index = index.index(tree.len());
        let (leaf, proof) = (tree.leaf(index).unwrap(), tree.proof(index).unwrap());
        let mut longer = proof.clone();
        longer.siblings.push(more);
        let (got, want) = (longer.siblings.len(), proof.siblings.len());
        prop_assert_eq!(
            verify(&rules, &published, &leaf, &longer),
            Err(Refused::Length { got, want })
        );
        if !proof.siblings.is_empty() {
            let at = at.index(proof.siblings.len());
            let mut flipped = proof.clone();
            flipped.siblings[at][byte] ^= 1 << bit;
            prop_assert!(verify(&rules, &published, &leaf, &flipped).is_err());
            let mut shorter = proof.clone();
            shorter.siblings.remove(at);
            prop_assert!(verify(&rules, &published, &leaf, &shorter).is_err());
        }
        let mut root = published;
        root.root[byte] ^= 1 << bit;
        prop_assert_eq!(verify(&rules, &root, &leaf, &proof), Err(Refused::Root));
    }

    // A node for a leaf, with the rest of its way: refused, because the way is too short.
    #[test]
    fn an_inner_node_does_not_pass_for_a_leaf((rules, tree) in tree(), index in any::<Index>()) {
        let published = tree.published().unwrap();
        let index = index.index(tree.len());
        let (leaf, proof) = (tree.leaf(index).unwrap(), tree.proof(index).unwrap());
        let Some((first, rest)) = proof.siblings.split_first() else { return Ok(()) };
        let node = match rules.node.pair {
            Pair::Sorted => rules.node.join(&leaf, first),
            Pair::Ordered => return Ok(()),
        };
        prop_assert_eq!(fold(&rules.node, &node, rest), published.root, "a contract is fooled");
        for place in 0..2 * published.count {
            let forged = Proof { place, count: published.count, siblings: rest.to_vec() };
            if verify(&rules, &published, &node, &forged).is_ok() {
                // Only where leaves stand at unequal heights is a shorter way a way at all.
                prop_assert!(at_place(&tree, place).is_some());
                prop_assert!(rules.shape == Shape::Heap || rules.odd == Odd::Promote);
            }
        }
    }

    #[test]
    fn nothing_that_comes_in_makes_a_verifier_panic(
        (rules, tree) in tree(),
        leaf in any::<Hash>(),
        root in any::<Hash>(),
        siblings in prop::collection::vec(any::<Hash>(), 0..40),
        places in prop::collection::vec(prop_oneof![0_usize..50, any::<usize>()], 0..6),
        counts in prop::array::uniform2(prop_oneof![0_usize..50, any::<usize>()]),
        flags in prop::collection::vec(any::<bool>(), 0..10),
        same in any::<bool>(),
    ) {
        let [claimed, counted] = counts;
        let claimed = if same { counted } else { claimed };
        for published in [Published { root, count: counted }, tree.published().unwrap()] {
            for &place in &places {
                let proof = Proof { place, count: claimed, siblings: siblings.clone() };
                prop_assert!(verify(&rules, &published, &leaf, &proof).is_err());
            }
            let proof = Multiproof {
                places: places.clone(),
                count: claimed,
                siblings: siblings.clone(),
                flags: Some(flags.clone()),
            };
            let leaves = vec![leaf; places.len()];
            prop_assert!(verify_multiproof(&rules, &published, &leaves, &proof).is_err());
        }
        let folded = fold_flags(&rules.node, &siblings, &places.iter().map(|_| leaf).collect::<Vec<_>>(), &flags);
        prop_assert!(folded != Some(root));
    }

    #[test]
    fn any_leaves_are_proved_at_once(
        (rules, tree) in tree(),
        chosen in prop::collection::btree_set(any::<Index>().prop_map(|i| i.index(40)), 1..20),
    ) {
        let published = tree.published().unwrap();
        let mut indices: Vec<_> = chosen.into_iter().map(|i| i % tree.len()).collect();
        indices.sort_unstable();
        indices.dedup();
        indices.reverse();
        let (proof, order) = tree.multiproof(&indices).unwrap();
        let leaves: Vec<_> = order.iter().map(|index| tree.leaf(*index).unwrap()).collect();
        prop_assert_eq!(verify_multiproof(&rules, &published, &leaves, &proof), Ok(()));
        if let Some(flags) = &proof.flags {
            let folded = fold_flags(&rules.node, &leaves, &proof.siblings, flags);
            prop_assert_eq!(folded, Some(published.root));
        } else {
            let waits = rules.shape == Shape::Levels && rules.odd == Odd::Promote;
            prop_assert!(waits || rules.node.pair == Pair::Ordered);
        }
    }

    #[test]
    fn a_changed_multiproof_is_refused(
        (rules, tree) in tree(),
        chosen in prop::collection::btree_set(0_usize..40, 1..8),
        at in any::<Index>(),
        stranger in any::<Hash>(),
    ) {
        let published = tree.published().unwrap();
        let indices: Vec<_> = chosen.into_iter().filter(|i| *i < tree.len()).collect();
        let Ok((proof, order)) = tree.multiproof(&indices) else {
            prop_assert!(indices.is_empty());
            return Ok(());
        };
        let leaves: Vec<_> = order.iter().map(|index| tree.leaf(*index).unwrap()).collect();
        let mut forged = leaves.clone();
        forged[at.index(leaves.len())] = stranger;
        prop_assert!(verify_multiproof(&rules, &published, &forged, &proof).is_err());
        let mut longer = proof.clone();
        longer.siblings.push(stranger);
        prop_assert!(verify_multiproof(&rules, &published, &leaves, &longer).is_err());
        if !proof.siblings.is_empty() {
            let at = at.index(proof.siblings.len());
            let mut shorter = proof.clone();
            shorter.siblings.remove(at);
            prop_assert!(verify_multiproof(&rules, &published, &leaves, &shorter).is_err());
            let mut changed = proof.clone();
            changed.siblings[at] = stranger;
            prop_assert!(verify_multiproof(&rules, &published, &leaves, &changed).is_err());
        }
        let mut twice = proof.clone();
        twice.places.push(proof.places[0]);
        let more = [&leaves[..], &leaves[..1]].concat();
        prop_assert!(verify_multiproof(&rules, &published, &more, &twice).is_err());
    }
}

#[test]
fn no_leaves_and_unknown_leaves_have_no_multiproof() {
    for profile in PROFILES.iter() {
        let tree = Tree::build(&profile.rules(), leaves(5, 1)).unwrap();
        assert_eq!(tree.multiproof(&[]).unwrap_err(), MultiError::Empty);
        let none = TreeError::NoLeaf { index: 5, count: 5 };
        assert_eq!(tree.multiproof(&[0, 5]).unwrap_err(), MultiError::Tree(none));
        assert!(matches!(tree.multiproof(&[3, 3]).unwrap_err(), MultiError::Places { .. }));
    }
}

// CVE-2023-34459: a tree with a zero node let a contract accept a multiproof of no leaves at all.
#[test]
fn no_leaves_prove_nothing() {
    let node = PROFILES[0].rules().node;
    assert_eq!(fold_flags(&node, &[], &[[7; 32]], &[]), None);
    assert_eq!(fold_flags(&node, &[], &[[7; 32], [0; 32]], &[true]), None);
}

#[test]
fn a_duplicated_leaf_does_not_make_another_count() {
    let rules = crate::merkle::profile::by_name("ao-claim-v0").unwrap().rules();
    let three = leaves(3, 9);
    let four = [&three[..], &three[2..]].concat();
    let (three, four) = (Tree::build(&rules, three).unwrap(), Tree::build(&rules, four).unwrap());
    assert_eq!(three.root(), four.root(), "the known weakness of duplication");
    let forged = four.proof(3).unwrap();
    let leaf = four.leaf(3).unwrap();
    let published = three.published().unwrap();
    let refused = Refused::Count { claimed: 4, published: 3 };
    assert_eq!(verify(&rules, &published, &leaf, &forged), Err(refused));
    let moved = Proof { count: 3, ..forged };
    let refused = Refused::Place { place: 3, count: 3 };
    assert_eq!(verify(&rules, &published, &leaf, &moved), Err(refused));
}
