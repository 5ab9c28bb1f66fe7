//! `semel publish`: releases roots that wait at `ready_for_settlement`.

use std::path::PathBuf;

use semel::admin::{Answer, Ask, publish::Publishing};
use semel_schemas::time::Epoch;

use super::{
    Done, Failure, boot,
    door::{self, Door},
    output,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The spec, a TOML file
    spec: PathBuf,
    /// Only roots of this channel
    #[arg(long)]
    channel: Option<String>,
    /// Only roots of this epoch
    #[arg(long)]
    epoch: Option<u64>,
    /// All roots that wait
    #[arg(long, conflicts_with_all = ["channel", "epoch"])]
    all: bool,
}

/// Releases them.
pub(super) fn publish(args: &Args) -> Done {
    if !args.all && args.channel.is_none() && args.epoch.is_none() {
        return Err(Failure::Usage(
            "say which roots: --channel, --epoch, both, or --all".to_owned(),
        ));
    }
    let (spec, plan) = boot::load(&args.spec, &boot::environment)?;
    let ask = Ask::Publish(Publishing {
        channel: args.channel.clone(),
        epoch: args.epoch.map(Epoch),
        by: door::who(),
    });
    Door::open(&spec, plan)?.ask(ask, &mut |answer| match answer {
        Answer::Published { roots } => {
            roots.iter().try_for_each(|root| output::line(&format!("released {root}")))
        }
        other => Err(door::unexpected(&other)),
    })
}
