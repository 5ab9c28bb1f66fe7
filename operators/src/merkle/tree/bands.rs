//! Hashing of levels, a band of them at a time, in blocks that stay in a core's cache.
//!
//! A band is [`HEIGHT`] levels; a block is the [`BLOCK`] nodes below it that have the same few nodes
//! on top, and all between. Blocks share nothing, so each is a task of its own that goes up the band
//! without waiting for another, touches its own memory first and finds in the cache what it wrote
//! just before. What is left on top, or changed too little to be divided, one core hashes.
//!
//! Invariants: a block begins at a multiple of [`BLOCK`], so within it every level but the tree's last
//! one begins with a left child, and only the last block can have odd nodes; which core hashes a
//! block, and whether there are blocks at all, changes no byte.

use rayon::prelude::*;

use super::levels::ZERO;
use crate::merkle::{
    hash::{
        Hash,
        lanes::{Means, join_pairs},
    },
    profile::{Odd, Rules},
};

/// Levels that a block goes up: it ends with as many nodes as the widest lanes take at once.
const HEIGHT: usize = 9;
/// Nodes at the bottom of a block. With all above them 256 KiB: a part of a core's own cache.
pub(in crate::merkle) const BLOCK: usize = 8 << HEIGHT;

/// A block's part of each level of a band, the lowest first.
type Block<'a> = [&'a mut [Hash]; HEIGHT + 1];

/// Hashes, in levels that have their widths, whatever leaf `dirty` and those behind it can reach.
pub(super) fn rehash(
    rules: &Rules,
    means: Means,
    mut levels: &mut [&mut [Hash]],
    mut dirty: usize,
) {
    while levels.len() > HEIGHT && levels[0].len() - dirty >= 2 * BLOCK {
        band(rules, means, &mut levels[..=HEIGHT], dirty);
        levels = &mut levels[HEIGHT..];
        dirty >>= HEIGHT;
    }
    climb(rules, means, levels, dirty);
}

/// Hashes the levels of one band.
fn band(rules: &Rules, means: Means, levels: &mut [&mut [Hash]], dirty: usize) {
    let first = dirty - dirty % BLOCK;
    let count = (levels[0].len() - first).div_ceil(BLOCK);
    let mut parts: Vec<_> = levels
        .iter_mut()
        .enumerate()
        .map(|(height, level)| level[first >> height..].chunks_mut(BLOCK >> height))
        .collect();
    let mut blocks: Vec<Block<'_>> = (0..count)
        .map(|_| std::array::from_fn(|height| parts[height].next().unwrap_or_default()))
        .collect();
    let own = means.on_one_core();
    let hash = |(number, block): (usize, &mut Block<'_>)| {
        let dirty = if number == 0 { dirty - first } else { 0 };
        climb(rules, own, block, dirty);
    };
    if means == own {
        blocks.iter_mut().enumerate().for_each(hash);
    } else {
        // One block a task, so that a core that other work holds up keeps back no more.
        blocks.par_iter_mut().enumerate().with_max_len(1).for_each(hash);
    }
}

/// Level by level.
fn climb(rules: &Rules, means: Means, levels: &mut [&mut [Hash]], mut dirty: usize) {
    for height in 1..levels.len() {
        let (below, above) = levels.split_at_mut(height);
        dirty /= 2;
        level_above(rules, means, &below[height - 1][2 * dirty..], &mut above[0][dirty..]);
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
