//! A tree of given leaf hashes: flat levels (or one flat heap), built bottom up.
//!
//! Invariants: the first level holds the leaves, the last one the root; a tree has a leaf.

use super::{
    hash::{Hash, keccak_pair},
    heap_children, heap_leaf,
    profile::{Odd, Pair, Rules, Shape},
    width_above,
};

/// A tree, all its nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    rules: Rules,
    nodes: Nodes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Nodes {
    /// One flat vector a level, leaves first.
    Levels(Vec<Vec<Hash>>),
    /// A heap, and where in it each leaf stands, in the order in which leaves were given.
    Heap { nodes: Vec<Hash>, places: Vec<usize> },
}

impl Tree {
    /// The tree of `leaves`; none without leaves.
    #[must_use]
    pub fn build(rules: Rules, leaves: Vec<Hash>) -> Option<Self> {
        if leaves.is_empty() {
            return None;
        }
        let nodes = match rules.shape {
            Shape::Levels(odd) => levels(rules.pair, odd, leaves),
            Shape::SortedHeap => heap(rules.pair, &leaves),
        };
        Some(Self { rules, nodes })
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash {
        let root = match &self.nodes {
            Nodes::Levels(levels) => levels.last().and_then(|level| level.first()),
            Nodes::Heap { nodes, .. } => nodes.first(),
        };
        *root.expect("a tree has a leaf, so it has a root")
    }

    /// Number of leaves.
    #[must_use]
    pub fn count(&self) -> usize {
        match &self.nodes {
            Nodes::Levels(levels) => levels.first().map_or(0, Vec::len),
            Nodes::Heap { places, .. } => places.len(),
        }
    }

    /// The rules that it was built by.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.rules
    }

    pub(super) fn nodes(&self) -> &Nodes {
        &self.nodes
    }
}

/// The parent of two nodes.
#[must_use]
pub fn join(pair: Pair, left: &Hash, right: &Hash) -> Hash {
    match pair {
        Pair::Sorted if right < left => keccak_pair(right, left),
        Pair::Sorted | Pair::Ordered => keccak_pair(left, right),
    }
}

fn levels(pair: Pair, odd: Odd, leaves: Vec<Hash>) -> Nodes {
    let mut levels = Vec::new();
    let mut level = leaves;
    while level.len() > 1 {
        let mut above = Vec::with_capacity(width_above(level.len()));
        let (pairs, rest) = level.as_chunks::<2>();
        above.extend(pairs.iter().map(|[left, right]| join(pair, left, right)));
        if let [last] = rest {
            above.push(match odd {
                Odd::Duplicate => join(pair, last, last),
                Odd::Promote => *last,
            });
        }
        levels.push(std::mem::replace(&mut level, above));
    }
    levels.push(level);
    Nodes::Levels(levels)
}

fn heap(pair: Pair, leaves: &[Hash]) -> Nodes {
    let count = leaves.len();
    // Equal leaves keep their order, so that the places are the same on every machine.
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|&given| leaves[given]);
    let mut nodes = vec![[0; 32]; 2 * count - 1];
    let mut places = vec![0; count];
    for (position, &given) in order.iter().enumerate() {
        places[given] = heap_leaf(position, count);
        nodes[places[given]] = leaves[given];
    }
    for i in (0..count - 1).rev() {
        let (left, right) = heap_children(i);
        nodes[i] = join(pair, &nodes[left], &nodes[right]);
    }
    Nodes::Heap { nodes, places }
}

#[cfg(test)]
mod tests;
