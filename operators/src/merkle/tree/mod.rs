//! A tree of given leaf hashes: flat levels (or one flat heap), built bottom up.
//!
//! `mod` the tree and what may be done to it · [`levels`] levels and their right edge · [`level`]
//! one of them · [`bands`] their hashing in blocks · [`heap`] the heap · [`sorted`] leaves laid by
//! hash. Leaves are counted in the order in which they were given, whatever place they have in the
//! tree.
//!
//! Costs for n leaves, of which k are new or gone: where leaves stand as given, `append` and
//! `truncate` hash k leaves' parents and one path; where they stand by hash, or in a heap, every
//! change lays and hashes the tree anew, as a build does.
//!
//! Invariants: a tree that was appended to and truncated equals, node for node, the one that is
//! built at once of the leaves that it has; a change that is refused leaves the tree as it was.

mod bands;
pub mod heap;
pub mod level;
pub mod levels;
pub mod sorted;

use heap::Heap;
use levels::Levels;

use super::{
    hash::{Hash, lanes::Means},
    heap_leaf,
    profile::{Equal, HashOrder, Rules, Shape},
};

/// Why there is no such tree, or no root, or no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Too few leaves for a root.
    #[error("the tree has {count} leaves, and a root needs at least {min}: add leaves")]
    TooFew {
        /// Leaves that there are.
        count: usize,
        /// Leaves that it takes.
        min: u32,
    },
    /// Too many leaves.
    #[error("{count} leaves are more than the {max} that the profile allows: divide them")]
    TooMany {
        /// Leaves that there would be.
        count: usize,
        /// Leaves that there may be.
        max: u32,
    },
    /// Two leaves are equal, and the profile refuses that.
    #[error("leaves {first} and {second} are equal, which the profile refuses: drop one")]
    Equal {
        /// The earlier one, counted from 0 as given.
        first: usize,
        /// The later one.
        second: usize,
    },
    /// No such leaf.
    #[error("there is no leaf {index}: the tree has {count}, counted from 0")]
    NoLeaf {
        /// The leaf that was asked for.
        index: usize,
        /// Leaves that there are.
        count: usize,
    },
}

/// A tree, all its nodes.
#[derive(Clone, Debug)]
pub struct Tree {
    rules: Rules,
    means: Means,
    nodes: Nodes,
    /// Where leaves stand by hash: the position of each, in the order given.
    positions: Option<Vec<u32>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Nodes {
    /// Flat levels, leaves first.
    Levels(Levels),
    /// A flat heap.
    Heap(Heap),
}

impl PartialEq for Tree {
    /// The same rules and nodes; by which means they were computed does not count.
    fn eq(&self, other: &Self) -> bool {
        (self.rules, &self.nodes, &self.positions) == (other.rules, &other.nodes, &other.positions)
    }
}

impl Eq for Tree {}

impl Tree {
    /// A tree without leaves.
    #[must_use]
    pub fn new(rules: &Rules) -> Self {
        Self::with_means(rules, Means::best())
    }

    /// A tree without leaves that hashes by these means.
    #[must_use]
    pub fn with_means(rules: &Rules, means: Means) -> Self {
        Self {
            rules: *rules,
            means,
            nodes: match rules.shape {
                Shape::Levels => Nodes::Levels(Levels::default()),
                Shape::Heap => Nodes::Heap(Heap::default()),
            },
            positions: (rules.order == HashOrder::Sorted).then(Vec::new),
        }
    }

    /// The tree of `leaves`.
    ///
    /// # Errors
    /// Fewer or more leaves than the profile allows, or equal ones where it refuses them.
    pub fn build(rules: &Rules, leaves: Vec<Hash>) -> Result<Self, TreeError> {
        let tree = Self::build_by(rules, Means::best(), leaves)?;
        tree.root().map(|_| tree)
    }

    /// The tree of any number of `leaves`, none included, hashed by these means.
    ///
    /// # Errors
    /// More leaves than the profile allows, or equal ones where it refuses them.
    pub fn build_by(rules: &Rules, means: Means, leaves: Vec<Hash>) -> Result<Self, TreeError> {
        let mut tree = Self::with_means(rules, means);
        tree.extend(leaves)?;
        Ok(tree)
    }

    /// Adds a leaf.
    ///
    /// # Errors
    /// As [`Tree::append_many`].
    pub fn append(&mut self, leaf: Hash) -> Result<(), TreeError> {
        self.append_many(&[leaf])
    }

    /// Adds leaves, in this order.
    ///
    /// # Errors
    /// More leaves than the profile allows, or equal ones where it refuses them; then nothing is
    /// added.
    pub fn append_many(&mut self, leaves: &[Hash]) -> Result<(), TreeError> {
        match &mut self.nodes {
            Nodes::Levels(levels) if self.rules.order == HashOrder::Given => {
                let count = levels.count() + leaves.len();
                within(&self.rules, count)?;
                if self.rules.equal == Equal::Refuse {
                    sorted::refuse_equal(levels.leaves(), leaves)?;
                }
                levels.append(&self.rules, self.means, leaves);
                Ok(())
            }
            _ => self.extend(leaves.to_vec()),
        }
    }

    /// Adds leaves whose allocation is the tree's own from now on, if it has none yet.
    fn extend(&mut self, leaves: Vec<Hash>) -> Result<(), TreeError> {
        let given = self.len() + leaves.len();
        if u32::try_from(given).is_err() {
            return Err(TreeError::TooMany { count: given, max: self.rules.limits.leaves_max });
        }
        let before = self.leaves_ascending();
        let laid = match &self.positions {
            Some(positions) => sorted::lay(&self.rules, before, positions, leaves)?,
            None => sorted::Laid::as_given(&self.rules, before, leaves)?,
        };
        self.put(laid);
        Ok(())
    }

    /// Keeps the first `len` leaves that were given, and takes the tree back to what it was then.
    /// More than there are: nothing happens.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len() {
            return;
        }
        match (&mut self.nodes, &self.positions) {
            (Nodes::Levels(levels), None) => levels.truncate(&self.rules, self.means, len),
            (_, Some(positions)) => {
                let kept = sorted::keep(self.leaves_ascending(), positions, len);
                self.put(kept);
            }
            (Nodes::Heap(_), None) => {
                let mut leaves = self.leaves_ascending().into_vec();
                leaves.truncate(len);
                self.put(sorted::Laid { leaves, positions: None });
            }
        }
    }

    /// Puts laid leaves in the place of those there are, and hashes.
    fn put(&mut self, laid: sorted::Laid) {
        self.positions = laid.positions;
        match &mut self.nodes {
            Nodes::Levels(levels) => levels.replace(&self.rules, self.means, laid.leaves),
            Nodes::Heap(heap) => heap.replace(&self.rules, self.means, laid.leaves),
        }
    }

    /// A view of the leaves by position.
    fn leaves_ascending(&self) -> sorted::Before<'_> {
        match &self.nodes {
            Nodes::Levels(levels) => sorted::Before::Ascending(levels.leaves()),
            Nodes::Heap(heap) => sorted::Before::Descending(heap.leaves()),
        }
    }

    /// The root.
    ///
    /// # Errors
    /// [`TreeError::TooFew`].
    pub fn root(&self) -> Result<Hash, TreeError> {
        let root = match &self.nodes {
            Nodes::Levels(levels) => levels.root(),
            Nodes::Heap(heap) => heap.root(),
        };
        let (count, min) = (self.count(), self.rules.limits.leaves_min);
        root.filter(|_| count >= min as usize).ok_or(TreeError::TooFew { count, min })
    }

    /// Number of leaves in the tree, after equal ones were dropped: what is published with a root.
    #[must_use]
    pub fn count(&self) -> usize {
        match &self.nodes {
            Nodes::Levels(levels) => levels.count(),
            Nodes::Heap(heap) => heap.leaves().len(),
        }
    }

    /// Number of leaves that were given.
    #[must_use]
    pub fn len(&self) -> usize {
        self.positions.as_ref().map_or_else(|| self.count(), Vec::len)
    }

    /// Whether no leaf was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rules that it is built by.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The position, among the tree's leaves, of the leaf that was given as the `index`-th.
    ///
    /// # Errors
    /// [`TreeError::NoLeaf`].
    pub fn position(&self, index: usize) -> Result<usize, TreeError> {
        let count = self.len();
        if index >= count {
            return Err(TreeError::NoLeaf { index, count });
        }
        Ok(self.positions.as_ref().map_or(index, |positions| positions[index] as usize))
    }

    /// The hash of the leaf that was given as the `index`-th.
    ///
    /// # Errors
    /// [`TreeError::NoLeaf`].
    pub fn leaf(&self, index: usize) -> Result<Hash, TreeError> {
        let position = self.position(index)?;
        Ok(match &self.nodes {
            Nodes::Levels(levels) => levels.leaves()[position],
            Nodes::Heap(heap) => {
                let count = heap.leaves().len();
                heap.leaves()[heap_leaf(position, count) - (count - 1)]
            }
        })
    }

    /// Where leaves stand by hash: the position of each, in the order given.
    pub(super) fn positions(&self) -> Option<&[u32]> {
        self.positions.as_deref()
    }

    pub(super) fn nodes(&self) -> &Nodes {
        &self.nodes
    }
}

/// Whether the rules allow so many leaves.
pub(super) fn within(rules: &Rules, count: usize) -> Result<(), TreeError> {
    let max = rules.limits.leaves_max;
    if count > max as usize {
        return Err(TreeError::TooMany { count, max });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
