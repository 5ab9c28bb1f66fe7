//! How often a caller may ask: a bucket of requests for each name, filled once a second's share.
//!
//! Invariants: a caller who keeps below the limit is never refused; one who does not is refused
//! before its body is read, and another caller does not notice. There are as many buckets as names.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// A second, in the parts that buckets are counted in.
const SECOND: u128 = 1_000_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: u128,
    began: Instant,
    /// By name: how much is used, in requests times [`SECOND`], and when that was so.
    used: Mutex<BTreeMap<String, (u128, u128)>>,
}

impl Rate {
    /// `per_second` requests for each name, as many of them at once.
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second: u128::from(per_second), began: Instant::now(), used: Mutex::default() }
    }

    /// Whether `name` may ask now; then it has.
    pub(super) fn admits(&self, name: &str) -> bool {
        self.admits_at(name, self.began.elapsed().as_nanos())
    }

    fn admits_at(&self, name: &str, nanos: u128) -> bool {
        let mut all = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let (used, at) = all.get(name).copied().unwrap_or_default();
        let drained = nanos.saturating_sub(at).saturating_mul(self.per_second);
        let next = used.saturating_sub(drained) + SECOND;
        let admitted = next <= self.per_second * SECOND;
        if admitted {
            all.insert(name.to_owned(), (next, nanos.max(at)));
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::{Rate, SECOND};

    #[test]
    fn a_bucket_gives_its_share_and_others_do_not_notice() {
        let rate = Rate::new(3);
        let at = |name, tenths: u128| rate.admits_at(name, tenths * SECOND / 10);
        // name, tenths of a second, admitted
        for (turn, (name, tenths, want)) in [
            ("a", 0, true),
            ("a", 0, true),
            ("a", 0, true),
            ("a", 0, false),
            ("b", 0, true),
            ("a", 3, false), // 0.9 of a request has come back
            ("a", 4, true),
            ("a", 4, false),
            ("a", 100, true), // never more than three at once
            ("a", 100, true),
            ("a", 100, true),
            ("a", 100, false),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(at(name, tenths), want, "turn {turn}");
        }
    }
}
