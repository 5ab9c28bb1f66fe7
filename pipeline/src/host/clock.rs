//! The one place where a running pipeline reads the wall clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use semel_schemas::time::WallTime;

/// A wall clock that notices jumps: compared with a clock that cannot jump.
#[derive(Debug)]
pub(super) struct JumpClock {
    started: Instant,
    offset_ms: u64,
    jump_max: Duration,
}

/// The wall clock jumped.
#[derive(Debug, thiserror::Error)]
#[error(
    "the wall clock jumped by {by_ms} ms (allowed: {max_ms} ms): timers would fire at the wrong \
     time; see to the machine's time service, then start again"
)]
pub(super) struct ClockJump {
    /// Milliseconds.
    by_ms: u64,
    /// Milliseconds allowed.
    max_ms: u128,
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl JumpClock {
    /// A clock that allows jumps up to `jump_max`.
    #[must_use]
    pub(super) fn new(jump_max: Duration) -> Self {
        Self { started: Instant::now(), offset_ms: wall_ms(), jump_max }
    }

    /// Now. Small corrections of the wall clock are followed.
    ///
    /// # Errors
    /// [`ClockJump`] if it moved further against the steady clock than is allowed.
    pub(super) fn now(&mut self) -> Result<WallTime, ClockJump> {
        let wall = wall_ms();
        let steady = self.started.elapsed();
        let expected = self.offset_ms + u64::try_from(steady.as_millis()).unwrap_or(u64::MAX);
        let by_ms = wall.abs_diff(expected);
        if u128::from(by_ms) > self.jump_max.as_millis() {
            return Err(ClockJump { by_ms, max_ms: self.jump_max.as_millis() });
        }
        if by_ms > 1_000 {
            self.started = Instant::now();
            self.offset_ms = wall;
        }
        Ok(WallTime(wall))
    }
}
