//! `semel check`: what is wrong with a spec, or what it would run.

use std::path::Path;

use super::{Done, boot, output};

/// Checks the spec and prints its stages, sinks and topics.
pub(super) fn check(path: &Path) -> Done {
    let (_, plan) = boot::load(path, &boot::environment)?;
    let mut rows = Vec::new();
    for (stage, _) in &plan.stages {
        let operators: Vec<&str> = stage.operators.iter().map(|o| o.name()).collect();
        let ties = stage.next.iter().chain(stage.outputs.values().flatten());
        let mut to: Vec<&str> = ties.map(|topic| topic.name.as_str()).collect();
        to.sort_unstable();
        to.dedup();
        rows.push(vec![
            stage.name.clone(),
            stage.input.name.to_string(),
            operators.join(" → "),
            to.join(", "),
        ]);
    }
    for sink in &plan.sinks {
        let tables: Vec<&str> = sink.mapping.tables.iter().map(|t| t.table.as_str()).collect();
        rows.push(vec![
            sink.name.clone(),
            sink.topic.name.to_string(),
            "(sink)".to_owned(),
            format!("table {}", tables.join(", ")),
        ]);
    }
    output::table(&["stage", "reads", "operators", "writes"], &rows)?;
    output::line(&format!("{}: {} topics, all wired", plan.name, plan.topics.len()))
}
