//! `semel lag`: how far each stage and sink has come, partition by partition.

use std::path::PathBuf;

use semel::admin::{
    Answer, Ask,
    lag::{Here, Lag, LagRow},
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
    /// Only of this stage or sink
    stage: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows it.
pub(super) fn lag(args: &Args) -> Done {
    let (spec, plan) = boot::load(&args.spec, &boot::environment)?;
    let ask = Ask::Lag(Lag { of: args.stage.clone() });
    Door::open(&spec, plan)?.ask(ask, &mut |answer| match answer {
        Answer::Lag { rows } if args.json => output::json(&rows),
        Answer::Lag { rows } => table(&rows),
        other => Err(door::unexpected(&other)),
    })
}

fn table(rows: &[LagRow]) -> Done {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.name.clone(),
                row.topic.clone(),
                row.partition.to_string(),
                row.committed.map_or_else(|| "-".to_owned(), |at| at.to_string()),
                row.end.to_string(),
                row.lag.to_string(),
                last(row),
            ]
        })
        .collect();
    output::table(&["stage", "topic", "partition", "committed", "end", "lag", "here"], &cells)
}

/// What is done here, and how far a file is read.
fn last(row: &LagRow) -> String {
    let file = row.file.as_ref().map(ToString::to_string);
    let said: Vec<String> = row.here.as_ref().map(here).into_iter().chain(file).collect();
    said.join("; ")
}

fn here(here: &Here) -> String {
    let mut said = Vec::new();
    match here {
        Here { restoring: true, .. } => said.push("restoring".to_owned()),
        Here { paused: true, .. } => said.push("full of quarantined records".to_owned()),
        Here { caught_up: true, .. } => said.push("caught up".to_owned()),
        _ => said.push("catching up".to_owned()),
    }
    if here.effects > 0 {
        said.push(format!("{} effects under way", here.effects));
    }
    said.join(", ")
}
