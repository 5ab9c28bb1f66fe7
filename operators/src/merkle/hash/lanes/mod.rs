//! Many pairs at once: Keccak in lanes, and more than one core.
//!
//! `mod` which means there are and which are used · [`block`] pairs as padded blocks ·
//! [`permutation`] Keccak-f · [`scalar`] and [`x86`] the paths. The crates that hash Keccak in lanes
//! (`keccak` 0.2, `p3-keccak`) choose their path when they are compiled, or are young
//! (`asmcrypto`); none chooses at run time, so the lanes are our own.
//!
//! Invariants: every path and any number of cores give the same bytes; a path is used only on a
//! machine that said it has the instructions, because a [`Means`] cannot be made otherwise. SHA-256
//! has one path: crate `sha2` asks the machine for the SHA extension itself.

mod block;
mod permutation;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

use rayon::prelude::*;

use super::{Hash, HashFn, NodeRule, PREFIX_MAX};

/// A way to hash Keccak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// One pair at a time, plain instructions.
    Scalar,
    /// One pair at a time with BMI1 and BMI2 (x86-64).
    Bmi,
    /// Four at a time with AVX2 (x86-64).
    Avx2,
    /// Eight at a time with AVX-512F (x86-64).
    Avx512,
}

impl Lanes {
    /// All of them, the best last.
    pub const ALL: [Self; 4] = [Self::Scalar, Self::Bmi, Self::Avx2, Self::Avx512];

    /// Whether this machine has the instructions.
    #[must_use]
    pub fn here(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let bmi = || is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2");
            let avx2 = || bmi() && is_x86_feature_detected!("avx2");
            match self {
                Self::Scalar => true,
                Self::Bmi => bmi(),
                Self::Avx2 => avx2(),
                Self::Avx512 => avx2() && is_x86_feature_detected!("avx512f"),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Scalar
        }
    }
}

/// How many cores hash a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cores {
    /// The caller's.
    One,
    /// Those of the current rayon pool, for levels that are wide enough.
    All,
}

/// By which means pairs are hashed: nothing that comes out depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    // Private: that the machine has the instructions is checked where it is set.
    lanes: Lanes,
    cores: Cores,
}

/// Pairs that one core takes at a time: 128 KiB of nodes, 100 µs or more.
const CHUNK: usize = 2048;

impl Means {
    /// The best this machine has.
    #[must_use]
    pub fn best() -> Self {
        Self::with(Cores::All)
    }

    /// The best this machine has on so many cores.
    #[must_use]
    pub fn with(cores: Cores) -> Self {
        let lanes = Lanes::ALL.into_iter().rfind(|lanes| lanes.here());
        Self { lanes: lanes.unwrap_or(Lanes::Scalar), cores }
    }

    /// This way and no other; none if the machine does not have it.
    #[must_use]
    pub fn on(lanes: Lanes, cores: Cores) -> Option<Self> {
        lanes.here().then_some(Self { lanes, cores })
    }

    /// The same way on the caller's core alone.
    #[must_use]
    pub fn on_one_core(self) -> Self {
        Self { cores: Cores::One, ..self }
    }

    /// The way to hash Keccak.
    #[must_use]
    pub fn lanes(self) -> Lanes {
        self.lanes
    }
}

/// The parents of pairs: `parents[i]` becomes the join of `pairs[i]`. What one of the two slices has
/// more of than the other is left alone.
pub fn join_pairs(node: &NodeRule, means: Means, pairs: &[[Hash; 2]], parents: &mut [Hash]) {
    let count = pairs.len().min(parents.len());
    let (pairs, parents) = (&pairs[..count], &mut parents[..count]);
    if means.cores == Cores::One || count < 2 * CHUNK {
        return on_this_core(node, means.lanes, pairs, parents);
    }
    let chunks = pairs.par_chunks(CHUNK).zip(parents.par_chunks_mut(CHUNK));
    // Each chunk is a task of its own, so that a core that other work holds up keeps back no more.
    chunks
        .with_max_len(1)
        .for_each(|(pairs, parents)| on_this_core(node, means.lanes, pairs, parents));
}

#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls functions for instructions that not every machine has")
)]
fn on_this_core(node: &NodeRule, lanes: Lanes, pairs: &[[Hash; 2]], parents: &mut [Hash]) {
    if node.hash == HashFn::Sha256 {
        for ([left, right], parent) in pairs.iter().zip(parents) {
            *parent = sha256(node, left, right);
        }
        return;
    }
    match lanes {
        // SAFETY: `lanes` comes from a `Means`, and each function that makes one asked the machine
        // (`Lanes::here`) for the very instructions that the called function switches on.
        #[cfg(target_arch = "x86_64")]
        Lanes::Bmi => unsafe { x86::bmi(node, pairs, parents) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Lanes::Avx2 => unsafe { x86::avx2::many(node, pairs, parents) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Lanes::Avx512 => unsafe { x86::avx512::many(node, pairs, parents) },
        _ => scalar::many(node, pairs, parents),
    }
}

/// Says that a node is going to be read soon. Nothing depends on it but the time that this takes.
#[inline(always)]
pub(in crate::merkle) fn prefetch(node: &Hash) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(node);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = node;
}

/// The parent of one pair.
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls a function for instructions that not every machine has")
)]
pub(super) fn join_one(node: &NodeRule, left: &Hash, right: &Hash) -> Hash {
    if node.hash == HashFn::Sha256 {
        return sha256(node, left, right);
    }
    let pair = [*left, *right];
    #[cfg(target_arch = "x86_64")]
    if Lanes::Bmi.here() {
        // SAFETY: the machine was asked just now.
        return unsafe { x86::bmi_one(node, &pair) };
    }
    scalar::one(node, &pair)
}

/// In one piece: a hasher that is fed by parts copies each of them into its own buffer first.
fn sha256(node: &NodeRule, left: &Hash, right: &Hash) -> Hash {
    let (first, second) = block::ordered(node.pair, left, right);
    let prefix = node.prefix.as_bytes();
    let mut bytes = [0; PREFIX_MAX + 64];
    let length = prefix.len() + 64;
    bytes[..prefix.len()].copy_from_slice(prefix);
    bytes[prefix.len()..prefix.len() + 32].copy_from_slice(first);
    bytes[prefix.len() + 32..length].copy_from_slice(second);
    node.hash.of(&[&bytes[..length]])
}

#[cfg(test)]
mod tests;
