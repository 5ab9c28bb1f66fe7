//! `semel trace`: one record's way through the pipeline.

use std::path::PathBuf;

use semel::admin::{
    Answer, Ask, show,
    trace::{StepRow, Trace, What},
};
use semel_schemas::time::WallTime;

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
    /// A semel-id, topic/partition/offset, or a name in a field: a claim id, a signature
    id: String,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Shows it.
pub(super) fn trace(args: &Args) -> Done {
    let (spec, plan) = boot::load(&args.spec, &boot::environment)?;
    let ask = Ask::Trace(Trace { id: args.id.clone() });
    let mut before = None;
    Door::open(&spec, plan)?.ask(ask, &mut |answer| match answer {
        Answer::Step(step) if args.json => output::json(&json(step)),
        Answer::Step(step) => {
            let after = before.replace(step.at_ms).map(|at| step.at_ms.saturating_sub(at));
            output::line(&line(step, after))
        }
        other => Err(door::unexpected(&other)),
    })
}

/// One line: time, milliseconds since the line before, stage, what.
fn line(step: StepRow, after: Option<u64>) -> String {
    let after = after.map_or_else(String::new, |ms| format!("+{ms} ms"));
    let show::StepLine { time, by, what } = show::step(step);
    format!("{time}  {after:>10}  {by:<12}  {what}")
}

fn json(step: StepRow) -> serde_json::Value {
    let what = match step.what {
        What::Record(row) => serde_json::json!({ "record": show::json(&row.into()) }),
        What::State { store, key, value } => serde_json::json!({ "state": {
            "store": store, "key": show::bytes(&key.0), "value": value.map(|v| show::value(&v.0)),
        }}),
        What::Row { sink, table, key, written } => serde_json::json!({ "row": {
            "sink": sink, "table": table, "key": key, "written": written,
        }}),
    };
    serde_json::json!({ "time": show::time(WallTime(step.at_ms)), "by": step.by, "what": what })
}
