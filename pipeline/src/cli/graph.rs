//! `semel graph`: the pipeline as a picture.

use std::path::PathBuf;

use clap::ValueEnum;
use semel::admin::{
    Answer, Ask,
    graph::{Language, graph as draw},
    lag::Lag,
};

use super::{
    Done, boot,
    door::{self, Door},
    output,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The spec, a TOML file
    spec: PathBuf,
    /// The language of the picture
    #[arg(long, value_enum, default_value = "mermaid")]
    format: Format,
    /// With the lag of each reader at its arrow, as it is now
    #[arg(long)]
    live: bool,
}

/// The language of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Mermaid
    Mermaid,
    /// Graphviz
    Dot,
}

/// Draws it.
pub(super) fn graph(args: &Args) -> Done {
    let language = match args.format {
        Format::Mermaid => Language::Mermaid,
        Format::Dot => Language::Dot,
    };
    let (spec, plan) = boot::load(&args.spec, &boot::environment)?;
    let picture = if args.live {
        let (_, again) = boot::load(&args.spec, &boot::environment)?;
        let mut lags = Vec::new();
        Door::open(&spec, again)?.ask(Ask::Lag(Lag::default()), &mut |answer| match answer {
            Answer::Lag { rows } => {
                lags = rows;
                Ok(())
            }
            other => Err(door::unexpected(&other)),
        })?;
        draw(&plan, language, &lags)
    } else {
        draw(&plan, language, &[])
    };
    output::line(picture.trim_end())
}
