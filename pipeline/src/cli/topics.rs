//! `semel topics`: what the log holds of a pipeline's topics.

use std::path::PathBuf;

use semel::admin::{Answer, Ask, topics::TopicRow};

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
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists topics.
pub(super) fn topics(args: &Args) -> Done {
    let (spec, plan) = boot::load(&args.spec, &boot::environment)?;
    Door::open(&spec, plan)?.ask(Ask::Topics, &mut |answer| match answer {
        Answer::Topics { topics } if args.json => output::json(&topics),
        Answer::Topics { topics } => table(&topics),
        other => Err(door::unexpected(&other)),
    })
}

fn table(topics: &[TopicRow]) -> Done {
    let rows: Vec<Vec<String>> = topics
        .iter()
        .map(|row| {
            let groups: Vec<String> =
                row.groups.iter().map(|g| format!("{} lag {}", g.group, g.lag)).collect();
            vec![
                row.topic.clone(),
                row.partitions.to_string(),
                row.offsets.to_string(),
                row.kept.clone(),
                row.written_by.join(", "),
                groups.join(", "),
            ]
        })
        .collect();
    output::table(&["topic", "partitions", "offsets", "kept", "written by", "read by"], &rows)
}
