//! `graph`: a plan as a picture: Mermaid or DOT.
//!
//! A pure function of the plan and of what is to stand at its arrows. Invariant: every stage, sink and
//! topic that a person named stands in it once; names never end a label early.

use std::{collections::BTreeMap, fmt::Write as _};

use super::lag::LagRow;
use crate::{engine::topology::Stage, spec::plan::Plan};

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Mermaid, as GitHub draws it.
    Mermaid,
    /// Graphviz.
    Dot,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Source,
    Stage,
    Topic,
    Sink,
}

/// Draws it; `lags` stand at the arrows from topics to their readers.
#[must_use]
pub fn graph(plan: &Plan, language: Language, lags: &[LagRow]) -> String {
    let prefix = format!("{}.", plan.name);
    let short = |name: &str| name.strip_prefix(&prefix).unwrap_or(name).to_owned();
    let mut nodes: BTreeMap<(u8, String), (Kind, String)> = BTreeMap::new();
    let mut arrows: Vec<(String, String, String)> = Vec::new();
    let lag = |name: &str| {
        let own: Vec<u64> = lags.iter().filter(|r| r.name == name).map(|r| r.lag).collect();
        if own.is_empty() { String::new() } else { format!("lag {}", own.iter().sum::<u64>()) }
    };
    let mut topic = |name: &str| {
        let id = format!("t:{}", short(name));
        nodes.insert((1, id.clone()), (Kind::Topic, short(name)));
        id
    };
    for (stage, _) in &plan.stages {
        let id = format!("s:{}", stage.name);
        // A source reads a control topic of its own, which says nothing.
        if !is_source(stage) {
            arrows.push((topic(stage.input.name.as_str()), id.clone(), lag(&stage.name)));
        }
        for output in &stage.next {
            arrows.push((id.clone(), topic(output.name.as_str()), String::new()));
        }
        for (name, outputs) in &stage.outputs {
            for output in outputs {
                arrows.push((id.clone(), topic(output.name.as_str()), name.clone()));
            }
        }
    }
    for sink in &plan.sinks {
        let id = format!("k:{}", sink.name);
        arrows.push((topic(sink.topic.name.as_str()), id, lag(&sink.name)));
    }
    for (stage, _) in &plan.stages {
        let kind = if is_source(stage) { Kind::Source } else { Kind::Stage };
        let operators: Vec<&str> = stage.operators.iter().map(|o| o.name()).collect();
        let label = format!("{}\n{}", stage.name, operators.join(" → "));
        nodes.insert((0, format!("s:{}", stage.name)), (kind, label));
    }
    for sink in &plan.sinks {
        let tables: Vec<&str> = sink.mapping.tables.iter().map(|t| t.table.as_str()).collect();
        let label = format!("{}\n{}", sink.name, tables.join(", "));
        nodes.insert((2, format!("k:{}", sink.name)), (Kind::Sink, label));
    }
    write(language, &nodes, &arrows)
}

fn is_source(stage: &Stage) -> bool {
    stage.operators.iter().any(|operator| operator.source().is_some())
}

fn write(
    language: Language,
    nodes: &BTreeMap<(u8, String), (Kind, String)>,
    arrows: &[(String, String, String)],
) -> String {
    let ids: BTreeMap<&str, String> =
        nodes.keys().enumerate().map(|(i, (_, id))| (id.as_str(), format!("n{i}"))).collect();
    let id = |name: &str| ids.get(name).cloned().unwrap_or_default();
    let mut text = match language {
        Language::Mermaid => "flowchart LR\n".to_owned(),
        Language::Dot => {
            "digraph pipeline {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n".into()
        }
    };
    for ((_, name), (kind, label)) in nodes {
        let label = quoted(language, label);
        let line = match (language, kind) {
            (Language::Mermaid, Kind::Source) => format!("{}([{label}])", id(name)),
            (Language::Mermaid, Kind::Stage) => format!("{}[{label}]", id(name)),
            (Language::Mermaid, Kind::Topic) => format!("{}>{label}]", id(name)),
            (Language::Mermaid, Kind::Sink) => format!("{}[({label})]", id(name)),
            (Language::Dot, kind) => {
                let shape = match kind {
                    Kind::Source => "ellipse",
                    Kind::Stage => "box",
                    Kind::Topic => "cds",
                    Kind::Sink => "cylinder",
                };
                format!("{} [shape={shape}, label={label}];", id(name))
            }
        };
        // Writing to a text cannot fail.
        let _ = writeln!(text, "  {line}");
    }
    for (from, to, label) in arrows {
        let (from, to, bare) = (id(from), id(to), label.is_empty());
        let label = quoted(language, label);
        let _ = match (language, bare) {
            (Language::Mermaid, true) => writeln!(text, "  {from} --> {to}"),
            (Language::Mermaid, false) => writeln!(text, "  {from} -->|{label}| {to}"),
            (Language::Dot, true) => writeln!(text, "  {from} -> {to};"),
            (Language::Dot, false) => writeln!(text, "  {from} -> {to} [label={label}];"),
        };
    }
    if language == Language::Dot {
        text.push_str("}\n");
    }
    text
}

/// A label in quotes, its lines as each language breaks them.
fn quoted(language: Language, label: &str) -> String {
    match language {
        Language::Mermaid => {
            let text = label.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
            format!("\"{}\"", text.replace('\n', "<br/>"))
        }
        Language::Dot => {
            let text = label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("\"{text}\"")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_a_label_early() {
        assert_eq!(quoted(Language::Mermaid, "a\"b<c\nd&"), "\"a&quot;b&lt;c<br/>d&amp;\"");
        assert_eq!(quoted(Language::Dot, "a\"b\\c\nd"), "\"a\\\"b\\\\c\\nd\"");
    }
}
