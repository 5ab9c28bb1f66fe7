//! How commands talk: data to standard output, talk to standard error. A reader that went away
//! ends the command quietly.

use std::io::{ErrorKind, IsTerminal as _, Write};

use super::{Done, Failure};

/// One line of data.
pub(super) fn line(text: &str) -> Done {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::Gone),
        Err(error) => Err(Failure::Failed(format!("standard output cannot be written: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Bytes of data as they are, and a line's end.
pub(super) fn raw(bytes: &[u8]) -> Done {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.write_all(b"\n")) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::Gone),
        Err(error) => Err(Failure::Failed(format!("standard output cannot be written: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// A value as one line of JSON.
pub(super) fn json<T: serde::Serialize>(value: &T) -> Done {
    raw(&semel_schemas::codec::encode(value))
}

/// One line of talk.
pub(super) fn say(text: &str) {
    // Nobody can be told that standard error is gone.
    let _ignored = writeln!(std::io::stderr().lock(), "{text}");
}

/// Why the command failed.
pub(super) fn complain(text: &str) {
    say(&format!("semel: {text}"));
}

/// Rows under headings, columns as wide as they need.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> Done {
    let mut widths: Vec<usize> = headings.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let join = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    line(&join(headings.to_vec()))?;
    for row in rows {
        line(&join(row.iter().map(String::as_str).collect()))?;
    }
    Ok(())
}

/// Whether a person watches what is printed.
pub(super) fn is_watched() -> bool {
    std::io::stdout().is_terminal()
}

/// A count that grows while a person watches; nothing in a pipe.
pub(super) struct Progress(indicatif::ProgressBar);

impl Progress {
    /// Starts one, of things called `what`.
    pub(super) fn start(what: &str) -> Self {
        let target = if std::io::stderr().is_terminal() {
            indicatif::ProgressDrawTarget::stderr()
        } else {
            indicatif::ProgressDrawTarget::hidden()
        };
        let bar = indicatif::ProgressBar::with_draw_target(None, target);
        let shape = indicatif::ProgressStyle::with_template("{spinner} {pos} {msg} {per_sec}");
        if let Ok(shape) = shape {
            bar.set_style(shape);
        }
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// Shows how many there are by now.
    pub(super) fn set(&self, count: u64) {
        self.0.set_position(count);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
