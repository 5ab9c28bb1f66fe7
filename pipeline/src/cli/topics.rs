//! `semel topics`, and how a command reaches a log that another process may hold.

use std::path::PathBuf;

use semel::{
    admin::{self, Answer, Ask},
    folder::FolderError,
    spec::{Spec, plan::Plan},
};

use super::{Done, Failure, boot, output, run};

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
    let topics = match ask(&spec, &plan, Ask::Topics)? {
        Answer::Topics { topics } => topics,
        other => return Err(Failure::Failed(format!("an unexpected answer: {other:?}"))),
    };
    if args.json {
        let text = String::from_utf8_lossy(&semel_schemas::codec::encode(&topics)).into_owned();
        return output::line(&text);
    }
    let rows: Vec<Vec<String>> = topics
        .iter()
        .map(|row| {
            let groups: Vec<String> =
                row.groups.iter().map(|g| format!("{} lag {}", g.group, g.lag)).collect();
            vec![
                row.topic.clone(),
                row.partitions.to_string(),
                row.offsets.to_string(),
                groups.join(", "),
            ]
        })
        .collect();
    output::table(&["topic", "partitions", "offsets", "read by"], &rows)
}

/// Asks Kafka directly; an embedded log through the process that holds it, or else by opening it.
pub(super) fn ask(spec: &Spec, plan: &Plan, ask: Ask) -> Result<Answer, Failure> {
    let answer = if spec.log.brokers.is_empty() {
        ask_embedded(spec, plan, ask)?
    } else {
        admin::answer(&*boot::kafka(&spec.log)?, plan, ask)
    };
    match answer {
        Answer::Refused { text } => Err(Failure::Failed(text)),
        answer => Ok(answer),
    }
}

fn ask_embedded(spec: &Spec, plan: &Plan, ask: Ask) -> Result<Answer, Failure> {
    let path = PathBuf::from(&spec.pipeline.data);
    if !path.exists() {
        return Err(Failure::Failed(format!(
            "there is no data folder {}: run the pipeline first",
            path.display()
        )));
    }
    match boot::folder(spec) {
        Ok(folder) => Ok(admin::answer(&*boot::log(&spec.log, &folder)?, plan, ask)),
        Err(error @ FolderError::Locked { .. }) => run::runtime()?
            .block_on(admin::ask(&path, &ask))
            .map_err(|e| Failure::Failed(format!("{error}; and it does not answer: {e}"))),
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}
