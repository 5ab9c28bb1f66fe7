//! One pair at a time, in plain Rust: every machine has it, and it is the twin that the other paths
//! are tested against.

use super::{
    super::{Hash, NodeRule},
    block::{load, store},
    permutation::permute,
};

macro_rules! xor {
    ($a:expr, $b:expr) => {
        $a ^ $b
    };
}
macro_rules! xor5 {
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {
        $a ^ $b ^ $c ^ $d ^ $e
    };
}
macro_rules! turn {
    ($a:expr, $b:expr) => {
        $a ^ $b.rotate_left(1)
    };
}
macro_rules! rol {
    ($a:expr, $b:expr, $by:literal) => {
        ($a ^ $b).rotate_left($by)
    };
}
macro_rules! chi {
    ($a:expr, $b:expr, $c:expr) => {
        $a ^ (!$b & $c)
    };
}
macro_rules! splat {
    ($word:expr) => {
        $word
    };
}

/// The parent of one pair.
#[inline(always)]
pub(super) fn one(node: &NodeRule, pair: &[Hash; 2]) -> Hash {
    let blocks = load(node, std::array::from_ref(pair));
    let mut state = [0; 25];
    for (word, [block]) in state.iter_mut().zip(blocks) {
        *word = block;
    }
    permutation(&mut state);
    let [a, b, c, d, ..] = state;
    let mut parent = [0; 32];
    store(&[[a], [b], [c], [d]], std::array::from_mut(&mut parent));
    parent
}

#[inline(always)]
fn permutation(state: &mut [u64; 25]) {
    permute!(state, xor5, xor, turn, rol, chi, splat);
}

/// The parents of pairs.
#[inline(always)]
pub(super) fn many(node: &NodeRule, pairs: &[[Hash; 2]], parents: &mut [Hash]) {
    for (pair, parent) in pairs.iter().zip(parents) {
        *parent = one(node, pair);
    }
}
