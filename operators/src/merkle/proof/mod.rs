//! Proofs: the siblings on a leaf's way to the root, and their verification.
//!
//! A proof is read off levels, never stored. What is published is a root *and* a count; the
//! verifier takes both from there, never from the proof. With them it refuses every proof for
//! another leaf or count, and for another place wherever nodes are hashed left and right. Where
//! pairs are sorted, hashing does not say on which side a node stood: there the verifier holds the
//! place to the tree's shape (length, odd nodes), and a leaf that must be bound to a number carries
//! that number in its data, as `ao-claim-v0`, `uniswap` and `saber` do.

pub(super) mod many;

use super::{
    hash::{Hash, NodeRule, Pair, lanes::prefetch},
    heap_leaf, heap_parent, heap_sibling, parent,
    profile::{Odd, Rules, Shape},
    sibling,
    tree::{Nodes, Tree, TreeError, levels::ZERO},
    width_above,
};

/// Most siblings of a proof: a tree has fewer than 2^32 leaves.
pub const DEPTH_MAX: usize = 32;

/// A level of so many nodes stays in the cache of a core that reads proofs, and so do those above it.
const NEAR: usize = 4096;

/// Room for a proof's siblings.
pub type Path = [Hash; DEPTH_MAX];

/// What is published: a root, and of how many leaves it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The root.
    pub root: Hash,
    /// The number of leaves.
    pub count: usize,
}

/// A leaf's place and its siblings, from the leaf's level up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Place of the leaf: its position (levels), or its place in the heap.
    pub place: usize,
    /// Number of leaves of the tree.
    pub count: usize,
    /// The siblings. An odd node's partner (itself, or 32 zero bytes) is among them.
    pub siblings: Vec<Hash>,
}

/// Why a proof is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is for another number of leaves than was published.
    #[error("`count` is {claimed}, and {published} leaves were published")]
    Count {
        /// What the proof says.
        claimed: usize,
        /// What was published.
        published: usize,
    },
    /// The profile has no tree of so many leaves.
    #[error("`count` is {count}, and the profile has no tree of so many leaves")]
    NoTree {
        /// What was published.
        count: usize,
    },
    /// No leaf stands there.
    #[error("`place` is {place}, where a tree of {count} leaves has none")]
    Place {
        /// What the proof says.
        place: usize,
        /// The number of leaves.
        count: usize,
    },
    /// Too few or too many siblings.
    #[error("`proof` has {got} hashes, and the leaf at this place needs {want}")]
    Length {
        /// What the proof has.
        got: usize,
        /// What the place needs.
        want: usize,
    },
    /// An odd node's partner is not the one that the profile names.
    #[error("`proof` at height {height} is not the partner that an odd node has here")]
    Odd {
        /// Counted from the leaf, 0.
        height: usize,
    },
    /// It leads elsewhere.
    #[error("the siblings lead from the leaf to another root")]
    Root,
}

impl Tree {
    /// The root and the number of leaves, as they are published.
    ///
    /// # Errors
    /// [`TreeError::TooFew`].
    pub fn published(&self) -> Result<Published, TreeError> {
        Ok(Published { root: self.root()?, count: self.count() })
    }

    /// The proof of the leaf that was given as the `index`-th.
    ///
    /// # Errors
    /// [`TreeError::NoLeaf`].
    pub fn proof(&self, index: usize) -> Result<Proof, TreeError> {
        let mut path = [ZERO; DEPTH_MAX];
        let length = self.proof_into(index, &mut path)?;
        let (position, count) = (self.position(index)?, self.count());
        let place = place(self.rules().shape, position, count);
        Ok(Proof { place, count, siblings: path[..length].to_vec() })
    }

    /// Reads the proofs of many leaves, each named by when it was given, and hands each to `each`: the
    /// leaf's number and its siblings, in the order of `indices`. Where leaves are far from each other
    /// this waits less for memory than one call of [`Tree::proof_into`] a leaf: the next nodes are
    /// under way while these are copied.
    ///
    /// # Errors
    /// [`TreeError::NoLeaf`] at the first leaf that there is not; those before it were handed out.
    pub fn proofs(
        &self,
        indices: impl IntoIterator<Item = usize>,
        each: impl FnMut(usize, &[Hash]),
    ) -> Result<(), TreeError> {
        let (odd, position) = (self.rules().odd, |index| self.position(index));
        match self.nodes() {
            Nodes::Levels(levels) => {
                let (leaves, above) = (levels.leaves(), levels.above());
                let fetch = |at| levels_fetch(leaves, above, at);
                let read = |at, path: &mut Path| levels_path(leaves, above, odd, at, path);
                many::proofs(indices, position, fetch, read, each)
            }
            Nodes::Heap(heap) => {
                let (inner, leaves) = (heap.inner(), heap.leaves());
                let fetch = |position| heap_fetch(inner, leaves, position);
                let read = |position, path: &mut Path| heap_path(inner, leaves, position, path);
                many::proofs(indices, position, fetch, read, each)
            }
        }
    }

    /// Writes the siblings of the leaf that was given as the `index`-th into the caller's room, and
    /// says how many they are.
    ///
    /// # Errors
    /// [`TreeError::NoLeaf`].
    pub fn proof_into(&self, index: usize, path: &mut Path) -> Result<usize, TreeError> {
        let position = self.position(index)?;
        Ok(match self.nodes() {
            Nodes::Levels(levels) => {
                let (leaves, above) = (levels.leaves(), levels.above());
                levels_path(leaves, above, self.rules().odd, position, path)
            }
            Nodes::Heap(heap) => heap_path(heap.inner(), heap.leaves(), position, path),
        })
    }
}

/// The place of the leaf at `position` of `count`, as a proof has it.
pub(super) const fn place(shape: Shape, position: usize, count: usize) -> usize {
    match shape {
        Shape::Levels => position,
        Shape::Heap => heap_leaf(position, count),
    }
}

/// Siblings from flat levels: the leaves', and those of the levels above them, of which the last is
/// the root.
pub(super) fn levels_path<L: AsRef<[Hash]>>(
    leaves: &[Hash],
    above: &[L],
    odd: Odd,
    position: usize,
    path: &mut Path,
) -> usize {
    let (mut i, mut length) = (position, 0);
    let mut take = |level: &[Hash]| {
        let found = match (level.get(sibling(i)), odd) {
            (Some(node), _) => Some(node),
            (None, Odd::Duplicate) => level.get(i),
            (None, Odd::Zero) => Some(&ZERO),
            (None, Odd::Promote) => None,
        };
        if let (Some(node), Some(room)) = (found, path.get_mut(length)) {
            *room = *node;
            length += 1;
        }
        i = parent(i);
    };
    if let Some((_, inner)) = above.split_last() {
        take(leaves);
        inner.iter().for_each(|level| take(level.as_ref()));
    }
    length
}

/// Asks for the siblings that [`levels_path`] will read, as far as they are not in the cache anyway.
pub(super) fn levels_fetch<L: AsRef<[Hash]>>(leaves: &[Hash], above: &[L], position: usize) {
    let mut i = position;
    let levels = std::iter::once(leaves).chain(above.iter().map(AsRef::as_ref));
    for level in levels.take_while(|level| level.len() > NEAR) {
        if let Some(node) = level.get(sibling(i)) {
            prefetch(node);
        }
        i = parent(i);
    }
}

/// As [`levels_fetch`], for [`heap_path`].
pub(super) fn heap_fetch(inner: &[Hash], leaves: &[Hash], position: usize) {
    let mut i = heap_leaf(position, leaves.len());
    while i > NEAR {
        let at = heap_sibling(i);
        let node = match at.checked_sub(inner.len()) {
            None => inner.get(at),
            Some(at) => leaves.get(at),
        };
        if let Some(node) = node {
            prefetch(node);
        }
        i = heap_parent(i);
    }
}

/// Siblings from a heap's inner nodes and leaves.
pub(super) fn heap_path(
    inner: &[Hash],
    leaves: &[Hash],
    position: usize,
    path: &mut Path,
) -> usize {
    let mut i = heap_leaf(position, leaves.len());
    let mut length = 0;
    while i > 0 {
        let at = heap_sibling(i);
        let found = match at.checked_sub(inner.len()) {
            None => inner.get(at),
            Some(at) => leaves.get(at),
        };
        if let (Some(node), Some(room)) = (found, path.get_mut(length)) {
            *room = *node;
            length += 1;
        }
        i = heap_parent(i);
    }
    length
}

/// Verifies that `proof` leads from `leaf` to what was published.
///
/// # Errors
/// What does not agree.
pub fn verify(
    rules: &Rules,
    published: &Published,
    leaf: &Hash,
    proof: &Proof,
) -> Result<(), Refused> {
    counted(rules, published, proof.count)?;
    let root = match rules.shape {
        Shape::Levels => climb_levels(rules, leaf, proof)?,
        Shape::Heap => climb_heap(rules, leaf, proof)?,
    };
    if root == published.root { Ok(()) } else { Err(Refused::Root) }
}

/// Whether the profile has a tree of what was published, and the proof is for it.
pub(super) fn counted(rules: &Rules, published: &Published, claimed: usize) -> Result<(), Refused> {
    let count = published.count;
    let (min, max) = (rules.limits.leaves_min.max(1), rules.limits.leaves_max);
    if count < min as usize || count > max as usize {
        return Err(Refused::NoTree { count });
    }
    if claimed != count {
        return Err(Refused::Count { claimed, published: count });
    }
    Ok(())
}

/// What a contract computes that knows neither places nor counts: siblings folded onto the leaf,
/// each hashed with it in sorted order, or behind it where pairs are ordered.
#[must_use]
pub fn fold(node: &NodeRule, leaf: &Hash, siblings: &[Hash]) -> Hash {
    siblings.iter().fold(*leaf, |at, other| node.join(&at, other))
}

fn climb_levels(rules: &Rules, leaf: &Hash, proof: &Proof) -> Result<Hash, Refused> {
    let (place, count) = (proof.place, proof.count);
    if place >= count {
        return Err(Refused::Place { place, count });
    }
    let got = proof.siblings.len();
    let want = levels_length(rules.odd, place, count);
    if got != want {
        return Err(Refused::Length { got, want });
    }
    let (mut node, mut i, mut width) = (*leaf, place, count);
    let mut siblings = proof.siblings.iter().enumerate();
    while width > 1 {
        let alone = sibling(i) >= width;
        if !(alone && rules.odd == Odd::Promote) {
            let (height, other) = siblings.next().ok_or(Refused::Length { got, want })?;
            if alone && *other != partner(rules.odd, &node) {
                return Err(Refused::Odd { height });
            }
            node = beside(&rules.node, i.is_multiple_of(2), &node, other);
        }
        (i, width) = (parent(i), width_above(width));
    }
    Ok(node)
}

/// What an odd node is paired with; a promoted one is not.
pub(super) const fn partner(odd: Odd, node: &Hash) -> Hash {
    match odd {
        Odd::Zero => ZERO,
        Odd::Duplicate | Odd::Promote => *node,
    }
}

/// Siblings that the proof of the leaf at `place` of `count` has.
fn levels_length(odd: Odd, place: usize, count: usize) -> usize {
    let (mut i, mut width, mut length) = (place, count, 0);
    while width > 1 {
        length += usize::from(odd != Odd::Promote || sibling(i) < width);
        (i, width) = (parent(i), width_above(width));
    }
    length
}

fn climb_heap(rules: &Rules, leaf: &Hash, proof: &Proof) -> Result<Hash, Refused> {
    let (place, count) = (proof.place, proof.count);
    if place < count - 1 || place > 2 * (count - 1) {
        return Err(Refused::Place { place, count });
    }
    // Node `i` of a heap stands at the depth of the logarithm of `i + 1`.
    let (got, want) = (proof.siblings.len(), (place + 1).ilog2() as usize);
    if got != want {
        return Err(Refused::Length { got, want });
    }
    let (mut node, mut i) = (*leaf, place);
    for other in &proof.siblings {
        // Left children stand at odd places of a heap.
        node = beside(&rules.node, !i.is_multiple_of(2), &node, other);
        i = heap_parent(i);
    }
    Ok(node)
}

/// The parent of a node, which stands left or right, and its sibling.
fn beside(rule: &NodeRule, left: bool, node: &Hash, other: &Hash) -> Hash {
    if left || rule.pair == Pair::Sorted { rule.join(node, other) } else { rule.join(other, node) }
}

#[cfg(test)]
mod tests;
