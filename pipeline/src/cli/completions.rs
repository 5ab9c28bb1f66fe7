//! `semel completions`: a script for the reader's shell, made from the commands as they are.

use clap::CommandFactory as _;

use super::{Cli, Done, output};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell, for example: semel completions bash > /etc/bash_completion.d/semel
    shell: clap_complete::Shell,
}

/// Prints the script.
pub(super) fn completions(args: &Args) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "semel", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())
}
