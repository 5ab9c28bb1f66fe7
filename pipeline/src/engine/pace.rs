//! When to commit: as soon as the input runs dry, or at a bound.

use semel_schemas::time::WallTime;

/// The bounds of one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Inputs in one transaction.
    pub inputs_max: usize,
    /// Records and state changes that one transaction writes (about).
    pub writes_max: usize,
    /// Milliseconds that a transaction stays open. Must be far below the transaction timeout.
    pub interval_ms_max: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { inputs_max: 10_000, writes_max: 40_000, interval_ms_max: 100 }
    }
}

/// What has been done since the last commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Inputs processed.
    pub inputs: usize,
    /// Records and state changes to write.
    pub writes: usize,
    /// When the first of them was done; `None`: nothing was.
    pub since: Option<WallTime>,
    /// Whether there is nothing more to process right now.
    pub dry: bool,
}

impl Pace {
    /// Whether to commit now.
    #[must_use]
    pub fn due(&self, open: &Open, now: WallTime) -> bool {
        let Some(since) = open.since else { return false };
        open.dry
            || open.inputs >= self.inputs_max
            || open.writes >= self.writes_max
            || now.0.saturating_sub(since.0) >= self.interval_ms_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_when_dry_or_at_a_bound_and_never_nothing() {
        let pace = Pace { inputs_max: 10, writes_max: 20, interval_ms_max: 100 };
        let open = Open { inputs: 1, writes: 1, since: Some(WallTime(1_000)), dry: false };
        for (open, now, due) in [
            (open, 1_050, false),
            (open, 1_100, true),
            (Open { dry: true, ..open }, 1_000, true),
            (Open { inputs: 10, ..open }, 1_000, true),
            (Open { writes: 20, ..open }, 1_000, true),
            (Open { since: None, dry: true, inputs: 99, writes: 99 }, 9_999, false),
        ] {
            assert_eq!(pace.due(&open, WallTime(now)), due, "{open:?} at {now}");
        }
    }
}
