//! `semel reset`: a stage that begins anew, with an empty state; without `--yes` it only says what
//! that would do.

use std::path::PathBuf;

use semel::admin::{
    Answer, Ask,
    reset::{Act, Looked, Reset, To, Unanswered},
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
    /// The stage or source
    part: String,
    /// Where it begins anew: `earliest`, `end`, an offset (17), a time (2026-01-31T12:00:00Z, 10m),
    /// slot:432000
    #[arg(long, allow_hyphen_values = true)]
    to: To,
    /// Do it; without this it is only said what would happen
    #[arg(long)]
    yes: bool,
    /// Forget effects that have no outcome yet, which may happen all the same
    #[arg(long)]
    forget_effects: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Looks, or does it.
pub(super) fn reset(args: &Args) -> Done {
    let (spec, plan) = boot::load(&args.spec, &boot::environment)?;
    let ask = Ask::Reset(Reset {
        part: args.part.clone(),
        to: args.to,
        act: if args.yes { Act::Do } else { Act::Look },
        unanswered: if args.forget_effects { Unanswered::Forget } else { Unanswered::Keep },
        by: door::who(),
    });
    Door::open(&spec, plan)?.ask(ask, &mut |answer| match answer {
        Answer::Reset(looked) if args.json => output::json(&looked),
        Answer::Reset(looked) => show(args, &looked),
        other => Err(door::unexpected(&other)),
    })
}

fn show(args: &Args, looked: &Looked) -> Done {
    let rows: Vec<Vec<String>> = looked
        .rows
        .iter()
        .map(|row| {
            let from = row.from.map_or_else(|| "-".to_owned(), |from| from.to_string());
            let numbers = [row.to, row.end, row.keys, row.timers, row.effects, row.waiting];
            let numbers = numbers.iter().map(ToString::to_string);
            [row.partition.to_string(), from].into_iter().chain(numbers).collect()
        })
        .collect();
    let headings = ["partition", "from", "to", "end", "keys", "timers", "effects", "waiting"];
    output::table(&headings, &rows)?;
    for text in &looked.consequences {
        output::line(&format!("- {text}"))?;
    }
    if args.yes {
        output::line(&format!("`{}` begins anew; its state is empty", args.part))
    } else {
        output::say("nothing was changed: say --yes to do it");
        Ok(())
    }
}
