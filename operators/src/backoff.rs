//! How long to wait before asking again: pure arithmetic, no clock, no jitter (a task's steps are
//! the same after every retry).

/// `base` doubled `tries` times, at most `max` (all in milliseconds), at least 1.
#[must_use]
pub fn delay_ms(base: u64, tries: u32, max: u64) -> u64 {
    let factor = 1_u64.checked_shl(tries).unwrap_or(u64::MAX);
    base.saturating_mul(factor).min(max).max(1)
}

#[cfg(test)]
mod tests {
    use super::delay_ms;

    #[test]
    fn delays_double_up_to_their_bound() {
        for (base, tries, max, want) in [
            (100, 0, 1_000, 100),
            (100, 1, 1_000, 200),
            (100, 3, 1_000, 800),
            (100, 4, 1_000, 1_000),
            (100, 63, 1_000, 1_000),
            (100, 64, 1_000, 1_000),
            (100, u32::MAX, 1_000, 1_000),
            (0, 9, 1_000, 1),
        ] {
            assert_eq!(delay_ms(base, tries, max), want, "{base} {tries} {max}");
        }
    }
}
