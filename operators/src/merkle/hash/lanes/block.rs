//! Pairs of nodes as padded blocks of Keccak-256, word by word across lanes, and back.
//!
//! A pair and its prefix are at most 96 bytes, so one block of 136 holds them: one permutation a
//! pair. Words are little-endian; the padding is 0x01 … 0x80 (Keccak's original one).

use std::hint::select_unpredictable;

use super::super::{Hash, NodeRule, Pair};

/// Words of a block (the rate of Keccak-256).
pub(super) const RATE: usize = 17;
/// The bit that ends the padding, in the last word of a block.
pub(super) const LAST: u64 = 1 << 63;

/// Blocks of `N` pairs: word `w` of lane `l` is `[w][l]`.
pub(super) type Blocks<const N: usize> = [[u64; N]; RATE];

/// The two nodes in the order in which they are hashed.
#[inline(always)]
pub(super) fn ordered<'a>(pair: Pair, left: &'a Hash, right: &'a Hash) -> (&'a Hash, &'a Hash) {
    match pair {
        Pair::Sorted => select_unpredictable(swaps(left, right), (right, left), (left, right)),
        Pair::Ordered => (left, right),
    }
}

/// Whether the second is the smaller one. That is anybody's guess, so it is told without a branch;
/// only nodes whose first words are equal are compared to the end.
#[inline(always)]
pub(super) fn swaps(left: &Hash, right: &Hash) -> bool {
    let (a, b) = (first_word(left), first_word(right));
    if a == b { right < left } else { b < a }
}

#[inline(always)]
fn first_word(hash: &Hash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The blocks of `N` pairs.
#[inline(always)]
pub(super) fn load<const N: usize>(node: &NodeRule, pairs: &[[Hash; 2]; N]) -> Blocks<N> {
    let mut blocks = [[0; N]; RATE];
    if node.prefix.is_empty() {
        for (lane, [left, right]) in pairs.iter().enumerate() {
            let (first, second) = ordered(node.pair, left, right);
            for (word, bytes) in first.as_chunks().0.iter().enumerate() {
                blocks[word][lane] = u64::from_le_bytes(*bytes);
            }
            for (word, bytes) in second.as_chunks().0.iter().enumerate() {
                blocks[4 + word][lane] = u64::from_le_bytes(*bytes);
            }
        }
        blocks[8] = [1; N];
    } else {
        for (lane, [left, right]) in pairs.iter().enumerate() {
            let (first, second) = ordered(node.pair, left, right);
            let mut bytes = [0; RATE * 8];
            let parts = [node.prefix.as_bytes(), first, second, &[1]];
            for (room, byte) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
                *room = *byte;
            }
            for (word, bytes) in bytes.as_chunks().0.iter().enumerate() {
                blocks[word][lane] = u64::from_le_bytes(*bytes);
            }
        }
    }
    blocks[RATE - 1] = [LAST; N];
    blocks
}

/// Writes the hashes: the first four words of each lane.
#[inline(always)]
pub(super) fn store<const N: usize>(words: &[[u64; N]; 4], parents: &mut [Hash; N]) {
    for (lane, parent) in parents.iter_mut().enumerate() {
        for (word, bytes) in parent.as_chunks_mut().0.iter_mut().enumerate() {
            *bytes = words[word][lane].to_le_bytes();
        }
    }
}
