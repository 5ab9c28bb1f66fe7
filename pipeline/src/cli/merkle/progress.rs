//! A bar on standard error, for what takes longer than a second while a person watches.
//!
//! May not live here: anything that must be read; where standard error is no terminal, nothing is said.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long nothing is drawn.
const PATIENCE: Duration = Duration::from_secs(1);
/// The clock is looked at once in so many steps.
const STRIDE: usize = 1024;

/// A bar that appears when a second is over.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    began: Instant,
}

impl Progress {
    /// Of this many steps, or of a number that nobody knows.
    pub(super) fn new(what: &'static str, steps: Option<usize>) -> Self {
        let bar = ProgressBar::with_draw_target(
            steps.map(|steps| steps as u64),
            ProgressDrawTarget::hidden(),
        );
        let form = match steps {
            Some(_) => "{msg} [{bar:40}] {human_pos} of {human_len}, {eta} left",
            None => "{spinner} {msg} {human_pos}, {elapsed}",
        };
        bar.set_style(
            ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_message(what);
        Self { bar, began: Instant::now() }
    }

    /// So many steps are done.
    pub(super) fn at(&self, step: usize) {
        if !step.is_multiple_of(STRIDE) && self.bar.length().is_none_or(|all| all > 10_000) {
            return;
        }
        if self.bar.is_hidden() && self.began.elapsed() > PATIENCE {
            // Draws nothing where standard error is no terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(step as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
