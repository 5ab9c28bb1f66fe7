//! Numbers from a seed: the same on every machine and in every release of the crate below
//! (ChaCha with 8 rounds is a documented stream).
//!
//! Each use has a stream of its own, so that one more draw here moves nothing there.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// What numbers are drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// Options of a run.
    Options = 1,
    /// What is fed in.
    Inputs = 2,
    /// What goes wrong.
    Faults = 3,
    /// In which order lanes take turns, by round.
    Turns = 4,
}

/// A stream of numbers.
#[derive(Debug)]
pub(super) struct Rng(ChaCha8Rng);

impl Rng {
    /// The stream of a seed and a use.
    pub(super) fn new(seed: u64, stream: Stream) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64);
        Self(rng)
    }

    /// A number below `bound` (which is at least 1). The bias of a bound below 2^32 is nothing that
    /// a schedule would notice.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound.max(1)
    }

    /// A number of this range, both ends included.
    pub(super) fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True `part` times of `whole`.
    pub(super) fn chance(&mut self, part: u64, whole: u64) -> bool {
        self.below(whole) < part
    }

    /// One of these.
    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let at = self.below(of.len() as u64);
        &of[usize::try_from(at).unwrap_or(0)]
    }
}

/// A number that depends on these two alone (splitmix64): for what must not move when other
/// decisions are left out.
pub(super) fn scattered(seed: u64, number: u64) -> u64 {
    let mut z = seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_everywhere_and_apart_from_the_others() {
        let draw = |seed, stream| {
            let mut rng = Rng::new(seed, stream);
            [rng.below(1_000_000), rng.below(1_000_000), rng.below(1_000_000)]
        };
        assert_eq!(draw(7, Stream::Inputs), draw(7, Stream::Inputs));
        assert_ne!(draw(7, Stream::Inputs), draw(7, Stream::Faults));
        assert_ne!(draw(7, Stream::Inputs), draw(8, Stream::Inputs));
        assert_ne!(scattered(1, 2), scattered(1, 3));
    }
}
