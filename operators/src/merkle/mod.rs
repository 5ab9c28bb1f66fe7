//! Merkle trees: the map, and the index functions that everything else is made of.
//!
//! A convention is data ([`profile::Profile`]): how a row becomes a leaf ([`leaf`]), how a pair is
//! hashed ([`hash`]), in what order leaves stand, what becomes of an odd node. A tree
//! ([`tree::Tree`]) is flat levels or a flat heap of hashes; a proof ([`proof`], [`multiproof`]) is
//! read off them, or off the bytes that they were sealed to ([`sealed`]). No records, no state, no
//! I/O here: `merkle_root` is the operator.
//!
//! Invariants: the same leaves and profile give the same root on every machine, on every path of
//! instructions and with any number of cores; no leaves give no root. This folder may use more
//! cores (rayon), the one exception to this crate's ban on threads, because nothing that comes out
//! depends on it.

pub mod explain;
pub mod hash;
pub mod leaf;
pub mod multiproof;
pub mod profile;
pub mod proof;
pub mod sealed;
pub mod tree;

/// Number of nodes in the level above one of `width` nodes.
#[must_use]
pub const fn width_above(width: usize) -> usize {
    width.div_ceil(2)
}

/// Place, within its level, of the parent of node `i`.
#[must_use]
pub const fn parent(i: usize) -> usize {
    i / 2
}

/// Place, within its level, of the other child of node `i`'s parent. It may not exist.
#[must_use]
pub const fn sibling(i: usize) -> usize {
    i ^ 1
}

/// Place in a heap of the left child of node `i`; the right one follows it, and the root is node 0.
#[must_use]
pub const fn heap_left(i: usize) -> usize {
    2 * i + 1
}

/// Place in a heap of the parent of node `i`, which is not the root.
#[must_use]
pub const fn heap_parent(i: usize) -> usize {
    (i - 1) / 2
}

/// Place in a heap of the other child of the parent of node `i`, which is not the root.
#[must_use]
pub const fn heap_sibling(i: usize) -> usize {
    if i.is_multiple_of(2) { i - 1 } else { i + 1 }
}

/// Place in a heap of the leaf at `position` of `count`: leaves are laid from the end.
#[must_use]
pub const fn heap_leaf(position: usize, count: usize) -> usize {
    2 * count - 2 - position
}
