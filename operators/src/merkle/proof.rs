//! Proofs: the siblings on a leaf's way to the root, and their verification.

use super::{
    hash::Hash,
    heap_parent, heap_sibling, parent,
    profile::{Odd, Pair, Rules, Shape},
    sibling,
    tree::{Nodes, Tree, join},
    width_above,
};

/// A leaf's place and its siblings, from the leaf's level up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Place of the leaf: its index (levels), or its place in the heap.
    pub place: usize,
    /// Number of leaves of the tree.
    pub count: usize,
    /// The siblings.
    pub siblings: Vec<Hash>,
}

impl Tree {
    /// The proof of the leaf that was given as the `index`-th; none if there is no such leaf.
    #[must_use]
    pub fn proof(&self, index: usize) -> Option<Proof> {
        let count = self.count();
        if index >= count {
            return None;
        }
        let mut siblings = Vec::new();
        let place = match self.nodes() {
            Nodes::Levels(levels) => {
                let mut i = index;
                for level in levels.iter().take(levels.len() - 1) {
                    match level.get(sibling(i)) {
                        Some(node) => siblings.push(*node),
                        None if self.rules().shape == Shape::Levels(Odd::Duplicate) => {
                            siblings.push(level[i]);
                        }
                        None => {}
                    }
                    i = parent(i);
                }
                index
            }
            Nodes::Heap { nodes, places } => {
                let mut i = places[index];
                while i > 0 {
                    siblings.push(nodes[heap_sibling(i)]);
                    i = heap_parent(i);
                }
                places[index]
            }
        };
        Some(Proof { place, count, siblings })
    }
}

/// Whether `proof` leads from `leaf` to `root`. Rules that sort pairs need no places, as on the
/// chain: there, only the siblings count.
#[must_use]
pub fn verify(rules: Rules, root: &Hash, leaf: &Hash, proof: &Proof) -> bool {
    match rules {
        Rules { pair: Pair::Sorted, .. } => {
            proof.siblings.iter().fold(*leaf, |node, other| join(Pair::Sorted, &node, other))
                == *root
        }
        Rules { pair: Pair::Ordered, shape: Shape::Levels(odd) } => {
            climb_levels(odd, leaf, proof) == Some(*root)
        }
        Rules { pair: Pair::Ordered, shape: Shape::SortedHeap } => {
            climb_heap(leaf, proof) == Some(*root)
        }
    }
}

fn climb_levels(odd: Odd, leaf: &Hash, proof: &Proof) -> Option<Hash> {
    if proof.place >= proof.count {
        return None;
    }
    let (mut node, mut i, mut width) = (*leaf, proof.place, proof.count);
    let mut siblings = proof.siblings.iter();
    while width > 1 {
        let alone = sibling(i) >= width;
        if !(alone && odd == Odd::Promote) {
            let other = siblings.next()?;
            let side = if i.is_multiple_of(2) { Side::Left } else { Side::Right };
            node = ordered(side, &node, other);
        }
        (i, width) = (parent(i), width_above(width));
    }
    siblings.next().is_none().then_some(node)
}

fn climb_heap(leaf: &Hash, proof: &Proof) -> Option<Hash> {
    let (mut node, mut i) = (*leaf, proof.place);
    for other in &proof.siblings {
        if i == 0 {
            return None;
        }
        // Left children stand at odd places of a heap.
        let side = if i.is_multiple_of(2) { Side::Right } else { Side::Left };
        node = ordered(side, &node, other);
        i = heap_parent(i);
    }
    (i == 0).then_some(node)
}

/// On which side of its parent a node stands.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

fn ordered(side: Side, node: &Hash, other: &Hash) -> Hash {
    match side {
        Side::Left => join(Pair::Ordered, node, other),
        Side::Right => join(Pair::Ordered, other, node),
    }
}
