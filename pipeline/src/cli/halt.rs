//! `semel pause` and `semel resume`: stages and sinks that stand still until a person says otherwise.

use std::path::{Path, PathBuf};

use semel::admin::{
    Answer, Ask,
    halt::{Action, Halt},
};
use semel_schemas::time::Slot;

use super::{
    Done, boot,
    door::{self, Door},
    output,
};

/// Arguments of `pause`.
#[derive(Debug, clap::Args)]
pub(super) struct PauseArgs {
    /// The spec, a TOML file
    spec: PathBuf,
    /// The stage, source or sink
    part: String,
}

/// Arguments of `resume`.
#[derive(Debug, clap::Args)]
pub(super) struct ResumeArgs {
    /// The spec, a TOML file
    spec: PathBuf,
    /// The stage, source or sink
    part: String,
    /// For a source that stopped at a discontinuity: go on at this slot, not at the cursor
    #[arg(long)]
    from_slot: Option<u64>,
}

/// Lets it stand still.
pub(super) fn pause(args: &PauseArgs) -> Done {
    halt(&args.spec, &args.part, Action::Pause)
}

/// Lets it go on.
pub(super) fn resume(args: &ResumeArgs) -> Done {
    halt(&args.spec, &args.part, Action::Resume { from_slot: args.from_slot.map(Slot) })
}

fn halt(path: &Path, part: &str, action: Action) -> Done {
    let (spec, plan) = boot::load(path, &boot::environment)?;
    let ask = Ask::Halt(Halt { part: part.to_owned(), action, by: door::who() });
    Door::open(&spec, plan)?.ask(ask, &mut |answer| match answer {
        Answer::Halted { text } => output::line(&text),
        other => Err(door::unexpected(&other)),
    })
}
