//! `semel repartition`: a stage's input topic and state get another number of partitions; without
//! `--yes` it only says what that would do.

use std::path::PathBuf;

use semel::admin::{
    Answer, Ask,
    repartition::{Repartition, Shared},
    reset::Act,
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
    /// The stage; it must have processed all of its input, and no process may run
    stage: String,
    /// Partitions that its input topic is to have
    partitions: u32,
    /// Do it; without this it is only said what would happen
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Looks, or does it.
pub(super) fn repartition(args: &Args) -> Done {
    let (spec, plan) = boot::load(&args.spec, &boot::environment)?;
    let ask = Repartition {
        stage: args.stage.clone(),
        partitions: args.partitions,
        act: if args.yes { Act::Do } else { Act::Look },
        by: door::who(),
    };
    let mut door = Door::open(&spec, plan)?;
    door.ask(Ask::Repartition(ask), &mut |answer| match answer {
        Answer::Repartition(shared) => show(args, &shared),
        other => Err(door::unexpected(&other)),
    })
}

fn show(args: &Args, shared: &Shared) -> Done {
    if args.json {
        return output::json(shared);
    }
    let rows: Vec<Vec<String>> = shared
        .rows
        .iter()
        .map(|row| {
            [u64::from(row.partition), row.keys, row.timers, row.waiting.into()]
                .iter()
                .map(ToString::to_string)
                .collect()
        })
        .collect();
    output::table(&["partition", "keys", "timers", "waiting"], &rows)?;
    for text in &shared.consequences {
        output::line(&format!("- {text}"))?;
    }
    if args.yes {
        output::line(&format!(
            "`{}` goes on in {}; write into the spec:",
            args.stage, shared.topic
        ))?;
        return shared.spec.iter().try_for_each(|line| output::line(line));
    }
    output::say("nothing was changed: say --yes to do it");
    Ok(())
}
