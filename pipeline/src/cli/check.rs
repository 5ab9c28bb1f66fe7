//! `semel check`: what is wrong with a spec, or what it would run.

use std::path::Path;

use semel::spec::advice::advice;

use super::{Done, boot, output};

/// Checks the spec and prints its stages, sinks and topics; and, as talk, what is seldom meant.
pub(super) fn check(path: &Path) -> Done {
    let (spec, source, plan) = boot::read(path, &boot::environment)?;
    for hint in advice(&spec, &source, &plan) {
        output::say(&format!("hint: {hint}"));
    }
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
