//! `semel repair`: cuts off the unreadable end of a data folder's journal, and keeps a copy.

use std::path::PathBuf;

use semel::folder::DataFolder;

use super::{Done, Failure, output};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The data folder; no process may be using it
    folder: PathBuf,
}

/// Repairs it, or says that nothing was wrong.
pub(super) fn repair(args: &Args) -> Done {
    if !args.folder.is_dir() {
        return Err(Failure::Usage(format!("there is no folder {}", args.folder.display())));
    }
    match DataFolder::repair(&args.folder).map_err(|e| Failure::Failed(e.to_string()))? {
        None => output::line("nothing to repair: the folder opens as it is"),
        Some(done) => output::line(&format!(
            "{} bytes were cut off the journal's end; the journal as it was is in {}",
            done.cut,
            done.kept.display()
        )),
    }
}
