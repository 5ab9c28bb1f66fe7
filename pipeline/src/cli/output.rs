//! How commands talk: data to standard output, talk to standard error. A reader that went away
//! ends the command quietly.

use std::io::{ErrorKind, Write};

use super::{Done, Failure};

/// One line of data.
pub(super) fn line(text: &str) -> Done {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
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
