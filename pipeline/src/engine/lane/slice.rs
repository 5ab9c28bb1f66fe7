//! How many inputs a lane works between two polls.
//!
//! Who works for longer than the poll interval is thrown out of the group, and a cycle that
//! outlives a deadline is taken back and begun again, for ever. A bound in inputs cannot help: what
//! an input costs is the operators' affair. The lane reads no clock, so a slice is measured from
//! the step that worked it to the next one, and the next slice is cut to it. Invariants: a slice
//! holds at least one input; a step that committed is not measured.

use semel_schemas::{
    sabotage::{Sabotage, sabotaged},
    time::WallTime,
};

/// Inputs of the first slice, when nothing is known yet.
const FIRST: usize = 32;
/// Inputs of the longest one.
const MAX: usize = 4_096;
/// Milliseconds that a slice may take: well below the poll interval, the transaction timeout and
/// the interval of commits.
const BUDGET_MS: u64 = 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Slice {
    inputs: usize,
    /// When the step began that worked a whole slice.
    filled_at: Option<WallTime>,
}

impl Default for Slice {
    fn default() -> Self {
        Self { inputs: FIRST, filled_at: None }
    }
}

impl Slice {
    /// Inputs of the present slice.
    pub(super) fn inputs(&self) -> usize {
        if sabotaged(Sabotage::SlowWorkStopsPolls) { usize::MAX } else { self.inputs }
    }

    /// The step that began at `now` works a whole slice.
    pub(super) fn filled(&mut self, now: WallTime) {
        self.filled_at = Some(now);
    }

    /// The step did something beside that takes time.
    pub(super) fn forget(&mut self) {
        self.filled_at = None;
    }

    /// A step begins: measures the one before.
    pub(super) fn measure(&mut self, now: WallTime) {
        let Some(at) = self.filled_at.take() else { return };
        let took = now.0.saturating_sub(at.0);
        if took > BUDGET_MS {
            let share = u128::from(BUDGET_MS) * self.inputs as u128 / u128::from(took);
            self.inputs = usize::try_from(share).unwrap_or(1).clamp(1, MAX);
        } else if took * 2 <= BUDGET_MS {
            self.inputs = (self.inputs * 2).min(MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_fits_what_an_input_costs_and_is_never_empty() {
        let mut slice = Slice::default();
        let mut now = WallTime(1_000);
        let mut settle = |slice: &mut Slice, micros: u64| {
            for _ in 0..20 {
                slice.measure(now);
                slice.filled(now);
                now = now.plus_ms(slice.inputs() as u64 * micros / 1_000);
            }
            slice.inputs()
        };
        assert_eq!(settle(&mut slice, 0), MAX);
        let slow = settle(&mut slice, 1_000);
        assert!((10..=20).contains(&slow), "{slow}");
        assert_eq!(settle(&mut slice, 1_000_000), 1);
        assert_eq!(settle(&mut slice, 1), MAX, "it grows again");
    }

    #[test]
    fn a_step_that_committed_and_a_clock_that_went_back_shrink_nothing() {
        let mut slice = Slice::default();
        slice.filled(WallTime(1_000));
        slice.forget();
        slice.measure(WallTime(9_000));
        assert_eq!(slice.inputs(), FIRST);
        slice.filled(WallTime(1_000));
        slice.measure(WallTime(500));
        assert_eq!(slice.inputs(), 2 * FIRST);
    }
}
