//! Flat levels, leaves first: one allocation a level, and a right edge that can be hashed anew.
//!
//! Invariants: level `l + 1` holds `ceil(width / 2)` nodes of level `l`'s width, and the last level
//! one; the copy with which an odd node is paired is never stored. The first node of a level that a
//! change at leaf `d` can reach is `d` halved once a level, so a change hashes those and no others.

use crate::merkle::{
    hash::{
        Hash,
        lanes::{Means, join_pairs},
    },
    profile::{Odd, Rules},
    width_above,
};

/// What an odd node is paired with under [`Odd::Zero`].
pub(in crate::merkle) const ZERO: Hash = [0; 32];
/// A level that is full grows by this part of its width, so that memory stays near what is used.
const GROWTH: usize = 8;

/// The levels. None: there are no leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels(Vec<Vec<Hash>>);

impl Levels {
    /// Number of leaves.
    #[must_use]
    pub fn count(&self) -> usize {
        self.leaves().len()
    }

    /// The leaves, by position.
    #[must_use]
    pub fn leaves(&self) -> &[Hash] {
        self.0.first().map_or(&[], Vec::as_slice)
    }

    /// All levels, leaves first.
    #[must_use]
    pub fn all(&self) -> &[Vec<Hash>] {
        &self.0
    }

    /// The root, if there are leaves.
    #[must_use]
    pub fn root(&self) -> Option<Hash> {
        self.0.last().and_then(|level| level.first()).copied()
    }

    pub(super) fn append(&mut self, rules: &Rules, means: Means, leaves: &[Hash]) {
        let dirty = self.count();
        if self.0.is_empty() && !leaves.is_empty() {
            self.0.push(Vec::new());
        }
        if let Some(level) = self.0.first_mut() {
            reserve(level, leaves.len());
            level.extend_from_slice(leaves);
        }
        self.rehash(rules, means, dirty);
    }

    pub(super) fn truncate(&mut self, rules: &Rules, means: Means, len: usize) {
        if let Some(level) = self.0.first_mut() {
            level.truncate(len);
        }
        // The path of the last leaf that stays is the right edge.
        self.rehash(rules, means, len.saturating_sub(1));
    }

    pub(super) fn replace(&mut self, rules: &Rules, means: Means, leaves: Vec<Hash>) {
        match self.0.first_mut() {
            Some(level) => *level = leaves,
            None => self.0.push(leaves),
        }
        self.rehash(rules, means, 0);
    }

    /// Hashes whatever leaf `dirty` and those behind it can reach.
    fn rehash(&mut self, rules: &Rules, means: Means, mut dirty: usize) {
        if self.count() == 0 {
            self.0.clear();
            return;
        }
        let mut l = 0;
        while self.0[l].len() > 1 {
            if l + 1 == self.0.len() {
                self.0.push(Vec::new());
            }
            let (below, above) = self.0.split_at_mut(l + 1);
            let (below, above) = (&below[l], &mut above[0]);
            dirty /= 2;
            let width = width_above(below.len());
            widen(above, width);
            level_above(rules, means, &below[2 * dirty..], &mut above[dirty..]);
            l += 1;
        }
        self.0.truncate(l + 1);
    }
}

/// Hashes a level's pairs, and its odd node as the rules say.
fn level_above(rules: &Rules, means: Means, below: &[Hash], above: &mut [Hash]) {
    let (pairs, rest) = below.as_chunks::<2>();
    join_pairs(&rules.node, means, pairs, &mut above[..pairs.len()]);
    if let ([last], Some(node)) = (rest, above.get_mut(pairs.len())) {
        *node = match rules.odd {
            Odd::Promote => *last,
            Odd::Duplicate => rules.node.join(last, last),
            Odd::Zero => rules.node.join(last, &ZERO),
        };
    }
}

/// Makes a level `width` nodes wide. New ones are zero until they are hashed: a level that is new
/// asks the allocator for zeroed memory, which costs no pass over it.
fn widen(level: &mut Vec<Hash>, width: usize) {
    if level.is_empty() {
        *level = vec![ZERO; width];
        return;
    }
    level.truncate(width);
    reserve(level, width - level.len());
    level.resize(width, ZERO);
}

/// Room for `more` nodes: exactly so much at first, and a part of the width on top later.
fn reserve(level: &mut Vec<Hash>, more: usize) {
    if level.capacity() - level.len() < more {
        let spare = if level.is_empty() { 0 } else { level.len() / GROWTH };
        level.reserve_exact(more.max(spare));
    }
}
