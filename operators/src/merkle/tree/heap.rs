//! A complete heap of `2n - 1` nodes as OpenZeppelin lays it: leaves from the end.
//!
//! The two halves are kept apart, so that the leaves' allocation is the caller's own: `inner` holds
//! nodes `0..n-1`, `leaves` nodes `n-1..2n-1`, which are the leaves by position, backwards.
//! Invariant: node `i` of `inner` is the join of nodes `2i + 1` and `2i + 2`.

use crate::merkle::{
    hash::{
        Hash,
        lanes::{Means, join_pairs},
    },
    heap_left,
    profile::Rules,
};

/// The heap. No leaves: no nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    inner: Vec<Hash>,
    leaves: Vec<Hash>,
}

impl Heap {
    /// Nodes `n-1..2n-1`: the leaves, the last position first.
    #[must_use]
    pub fn leaves(&self) -> &[Hash] {
        &self.leaves
    }

    /// Nodes `0..n-1`.
    #[must_use]
    pub fn inner(&self) -> &[Hash] {
        &self.inner
    }

    /// Node 0, if there are leaves.
    #[must_use]
    pub fn root(&self) -> Option<Hash> {
        self.inner.first().or(self.leaves.first()).copied()
    }

    /// Node `i`, if there is one.
    #[must_use]
    pub fn node(&self, i: usize) -> Option<&Hash> {
        match i.checked_sub(self.inner.len()) {
            None => self.inner.get(i),
            Some(at) => self.leaves.get(at),
        }
    }

    /// Takes `leaves` by position, and hashes.
    pub(super) fn replace(&mut self, rules: &Rules, means: Means, mut leaves: Vec<Hash>) {
        leaves.reverse();
        let count = leaves.len().saturating_sub(1);
        self.leaves = leaves;
        self.inner = vec![[0; 32]; count];
        let mut end = count;
        while end > 0 {
            // The children of nodes `end / 2..end` all stand at `end` or behind it.
            let begin = end / 2;
            self.join(rules, means, begin, end);
            end = begin;
        }
    }

    /// Computes nodes `begin..end`, whose children are all known.
    fn join(&mut self, rules: &Rules, means: Means, begin: usize, end: usize) {
        let count = self.inner.len();
        let (todo, known) = self.inner.split_at_mut(end);
        // The first node with a child among the leaves; its left child may still be an inner one.
        let mixed = count.saturating_sub(1) / 2;
        let split = mixed.clamp(begin, end);
        let pairs = known.get(heap_left(begin).saturating_sub(end)..).unwrap_or_default();
        let (pairs, _) = pairs.as_chunks::<2>();
        join_pairs(&rules.node, means, &pairs[..split - begin], &mut todo[begin..split]);
        let mut at = split;
        if at < end && heap_left(at) < count {
            todo[at] = rules.node.join(&known[heap_left(at) - end], &self.leaves[0]);
            at += 1;
        }
        if at < end {
            let (pairs, _) = self.leaves[heap_left(at) - count..].as_chunks::<2>();
            join_pairs(&rules.node, means, &pairs[..end - at], &mut todo[at..end]);
        }
    }
}
