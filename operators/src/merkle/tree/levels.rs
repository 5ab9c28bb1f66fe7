//! Flat levels, leaves first: one allocation a level, and a right edge that can be hashed anew.
//!
//! Invariants: level `l + 1` holds `ceil(width / 2)` nodes of level `l`'s width, and the last level
//! one; the copy with which an odd node is paired is never stored. The first node of a level that a
//! change at leaf `d` can reach is `d` halved once a level, so a change hashes those and no others.

use super::{
    bands,
    level::{GROWTH, Level},
};
use crate::merkle::{
    hash::{Hash, lanes::Means},
    profile::Rules,
    width_above,
};

/// What an odd node is paired with under [`crate::merkle::profile::Odd::Zero`].
pub(in crate::merkle) const ZERO: Hash = [0; 32];

/// The levels. The leaves' allocation is the caller's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    leaves: Vec<Hash>,
    above: Vec<Level>,
}

impl Levels {
    /// Number of leaves.
    #[must_use]
    pub fn count(&self) -> usize {
        self.leaves.len()
    }

    /// The leaves, by position.
    #[must_use]
    pub fn leaves(&self) -> &[Hash] {
        &self.leaves
    }

    /// The levels above the leaves, the root last. None above a lone leaf.
    #[must_use]
    pub fn above(&self) -> &[Level] {
        &self.above
    }

    /// All levels, leaves first. None: there are no leaves.
    pub fn all(&self) -> impl Iterator<Item = &[Hash]> {
        let leaves = Some(self.leaves()).filter(|leaves| !leaves.is_empty());
        leaves.into_iter().chain(self.above.iter().map(AsRef::as_ref))
    }

    /// The root, if there are leaves.
    #[must_use]
    pub fn root(&self) -> Option<Hash> {
        self.above.last().map_or(self.leaves(), AsRef::as_ref).first().copied()
    }

    pub(super) fn append(&mut self, rules: &Rules, means: Means, leaves: &[Hash]) {
        let dirty = self.count();
        reserve(&mut self.leaves, leaves.len());
        self.leaves.extend_from_slice(leaves);
        self.rehash(rules, means, dirty);
    }

    pub(super) fn truncate(&mut self, rules: &Rules, means: Means, len: usize) {
        self.leaves.truncate(len);
        // The path of the last leaf that stays is the right edge.
        self.rehash(rules, means, len.saturating_sub(1));
    }

    pub(super) fn replace(&mut self, rules: &Rules, means: Means, leaves: Vec<Hash>) {
        self.leaves = leaves;
        self.rehash(rules, means, 0);
    }

    /// Gives each level its width, and hashes whatever leaf `dirty` and those behind it can reach.
    fn rehash(&mut self, rules: &Rules, means: Means, dirty: usize) {
        let (mut width, mut height) = (self.count(), 0);
        while width > 1 {
            width = width_above(width);
            if height == self.above.len() {
                self.above.push(Level::default());
            }
            self.above[height].widen(width);
            height += 1;
        }
        self.above.truncate(height);
        let above = self.above.iter_mut().map(AsMut::as_mut);
        let mut levels: Vec<_> = std::iter::once(self.leaves.as_mut_slice()).chain(above).collect();
        bands::rehash(rules, means, &mut levels, dirty);
    }
}

/// Room for `more` leaves: exactly so much at first, and a part of the width on top later.
fn reserve(leaves: &mut Vec<Hash>, more: usize) {
    if leaves.capacity() - leaves.len() < more {
        leaves.reserve_exact(more.max(leaves.len() / GROWTH));
    }
}
