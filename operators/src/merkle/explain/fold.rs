//! Folding a proof that may have been made by other rules than the root: does it lead there?
//!
//! May not live here: the verifier, which forgives nothing (`proof`). This one skips the partner of an
//! odd node where the rule tried has none, and puts it in where the proof lacks it.

use std::ops::Range;

use super::GivenProof;
use crate::merkle::{
    hash::{Hash, Pair},
    heap_parent, parent,
    profile::{Odd, Rules, Shape},
    proof::{DEPTH_MAX, fold},
    sibling,
    tree::levels::ZERO,
    width_above,
};

/// Most siblings for which every way of lefts and rights is tried.
const WAYS_MAX: usize = 8;

/// Whether the proof leads from the leaf to the root by these rules.
pub(super) fn leads(rules: &Rules, leaf: &Hash, proof: &GivenProof, root: &Hash) -> bool {
    let siblings = &proof.siblings;
    if siblings.len() > DEPTH_MAX {
        return false;
    }
    if rules.node.pair == Pair::Sorted && fold(&rules.node, leaf, siblings) == *root {
        return true;
    }
    places(rules, proof).any(|place| match (rules.shape, proof.count) {
        (Shape::Heap, _) => match proof.place {
            Some(place) => heap(rules, leaf, siblings, place) == *root,
            None => ways(rules, leaf, siblings, place) == *root,
        },
        (Shape::Levels, Some(count)) => {
            levels(rules, leaf, siblings, place, count).is_some_and(|found| found == *root)
        }
        (Shape::Levels, None) => unknown(rules, leaf, siblings, place, root),
    })
}

/// The places that the leaf may have.
fn places(rules: &Rules, proof: &GivenProof) -> Range<usize> {
    let length = proof.siblings.len();
    match (proof.place, proof.count) {
        (Some(place), _) => place..place + 1,
        // Where the number of leaves is known, the place says at which heights the node is odd.
        (None, Some(count)) if count <= 1 << WAYS_MAX => 0..count,
        (None, None) if rules.node.pair == Pair::Ordered && length <= WAYS_MAX => 0..1 << length,
        _ => proof.record..proof.record + 1,
    }
}

/// Left where the bit is 0, from the leaf's level up.
fn ways(rules: &Rules, leaf: &Hash, siblings: &[Hash], bits: usize) -> Hash {
    let mut node = *leaf;
    for (height, other) in siblings.iter().enumerate() {
        node = join(rules, (bits >> height).is_multiple_of(2), &node, other);
    }
    node
}

fn join(rules: &Rules, left: bool, node: &Hash, other: &Hash) -> Hash {
    if left { rules.node.join(node, other) } else { rules.node.join(other, node) }
}

fn heap(rules: &Rules, leaf: &Hash, siblings: &[Hash], place: usize) -> Hash {
    let (mut node, mut i) = (*leaf, place);
    for other in siblings {
        node = join(rules, !i.is_multiple_of(2), &node, other);
        i = if i == 0 { 0 } else { heap_parent(i) };
    }
    node
}

fn levels(
    rules: &Rules,
    leaf: &Hash,
    siblings: &[Hash],
    place: usize,
    count: usize,
) -> Option<Hash> {
    if place >= count {
        return None;
    }
    let (mut node, mut i, mut width) = (*leaf, place, count);
    let mut rest = siblings.iter().peekable();
    while width > 1 {
        if sibling(i) < width {
            node = join(rules, i.is_multiple_of(2), &node, rest.next()?);
        } else {
            // The proof has a partner here by its own rule, or none.
            rest.next_if(|next| **next == node || **next == ZERO);
            node = match rules.odd {
                Odd::Promote => node,
                Odd::Duplicate => rules.node.join(&node, &node),
                Odd::Zero => rules.node.join(&node, &ZERO),
            };
        }
        (i, width) = (parent(i), width_above(width));
    }
    rest.next().is_none().then_some(node)
}

/// The number of leaves is not known: the node may have been odd at up to two heights.
fn unknown(rules: &Rules, leaf: &Hash, siblings: &[Hash], place: usize, root: &Hash) -> bool {
    let heights = siblings.len() + 2;
    (0..=heights).any(|first| {
        (first..=heights).any(|second| {
            let (mut node, mut i, mut rest) = (*leaf, place, siblings.iter().peekable());
            for height in 0..=heights {
                if height == first || height == second {
                    rest.next_if(|next| **next == node || **next == ZERO);
                    node = match rules.odd {
                        Odd::Promote => node,
                        Odd::Duplicate => rules.node.join(&node, &node),
                        Odd::Zero => rules.node.join(&node, &ZERO),
                    };
                } else if let Some(other) = rest.next() {
                    node = join(rules, i.is_multiple_of(2), &node, other);
                } else {
                    break;
                }
                i = parent(i);
            }
            rest.next().is_none() && node == *root
        })
    })
}
