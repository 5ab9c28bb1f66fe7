//! `graph`: a plan as a picture: Mermaid, DOT, or nodes and arrows for who draws it himself.
//!
//! A pure function of the plan and of what is to stand at its arrows. Invariant: every stage, sink and
//! topic that a person named stands in it once; names never end a label early.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A source: a stage without an input.
    Source,
    /// A stage.
    Stage,
    /// A topic.
    Topic,
    /// A sink.
    Sink,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// What arrows name it by.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// Its name; a topic's without the pipeline's.
    pub name: String,
    /// What is in it: a stage's operators, a sink's tables.
    pub detail: String,
}

/// An arrow, in the direction in which records flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Arrow {
    /// Id of the node that it comes from.
    pub from: String,
    /// Id of the node that it leads to.
    pub to: String,
    /// The operators' name of the output; empty: there is no other, or it leads to a reader.
    pub output: String,
    /// The stage or sink that reads here, and whose lag stands here; none: one that writes.
    pub reader: Option<String>,
}

/// A plan as nodes and arrows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Picture {
    /// The pipeline's name.
    pub pipeline: String,
    /// Sources and stages, topics, sinks; each kind in the order of its names.
    pub nodes: Vec<Node>,
    /// In the spec's order.
    pub arrows: Vec<Arrow>,
}

/// Draws it; `lags` stand at the arrows from topics to their readers.
#[must_use]
pub fn graph(plan: &Plan, language: Language, lags: &[LagRow]) -> String {
    let lag = |name: &str| {
        let own: Vec<u64> = lags.iter().filter(|r| r.name == name).map(|r| r.lag).collect();
        if own.is_empty() { String::new() } else { format!("lag {}", own.iter().sum::<u64>()) }
    };
    let picture = picture(plan);
    let labels: Vec<String> = picture
        .arrows
        .iter()
        .map(|arrow| arrow.reader.as_deref().map_or_else(|| arrow.output.clone(), lag))
        .collect();
    write(language, &picture, &labels)
}

/// What is to be drawn.
#[must_use]
pub fn picture(plan: &Plan) -> Picture {
    let prefix = format!("{}.", plan.name);
    let short = |name: &str| name.strip_prefix(&prefix).unwrap_or(name).to_owned();
    let mut nodes: BTreeMap<(u8, String), Node> = BTreeMap::new();
    let mut arrows = Vec::new();
    let mut node = |rank: u8, id: String, kind: Kind, name: &str, detail: String| {
        let made = Node { id: id.clone(), kind, name: name.to_owned(), detail };
        nodes.insert((rank, id.clone()), made);
        id
    };
    for (stage, _) in &plan.stages {
        let kind = if is_source(stage) { Kind::Source } else { Kind::Stage };
        let operators: Vec<&str> = stage.operators.iter().map(|o| o.name()).collect();
        let id = format!("s:{}", stage.name);
        let id = node(0, id, kind, &stage.name, operators.join(" → "));
        let mut topic = |name: &str| {
            let name = short(name);
            node(1, format!("t:{name}"), Kind::Topic, &name, String::new())
        };
        // A source reads a control topic of its own, which says nothing.
        if kind == Kind::Stage {
            let (from, reader) = (topic(stage.input.name.as_str()), Some(stage.name.clone()));
            arrows.push(Arrow { from, to: id.clone(), output: String::new(), reader });
        }
        let unnamed = String::new();
        let next = stage.next.iter().map(|output| (&unnamed, output));
        let named = stage
            .outputs
            .iter()
            .flat_map(|(name, outputs)| outputs.iter().map(move |output| (name, output)));
        for (output, to) in next.chain(named) {
            let (from, to) = (id.clone(), topic(to.name.as_str()));
            arrows.push(Arrow { from, to, output: output.clone(), reader: None });
        }
    }
    for sink in &plan.sinks {
        let tables: Vec<&str> = sink.mapping.tables.iter().map(|t| t.table.as_str()).collect();
        let to = node(2, format!("k:{}", sink.name), Kind::Sink, &sink.name, tables.join(", "));
        let name = short(sink.topic.name.as_str());
        let from = node(1, format!("t:{name}"), Kind::Topic, &name, String::new());
        let reader = Some(sink.name.clone());
        arrows.push(Arrow { from, to, output: String::new(), reader });
    }
    Picture { pipeline: plan.name.clone(), nodes: nodes.into_values().collect(), arrows }
}

fn is_source(stage: &Stage) -> bool {
    stage.operators.iter().any(|operator| operator.source().is_some())
}

fn write(language: Language, picture: &Picture, labels: &[String]) -> String {
    let ids: BTreeMap<&str, String> =
        picture.nodes.iter().enumerate().map(|(i, n)| (n.id.as_str(), format!("n{i}"))).collect();
    let id = |name: &str| ids.get(name).cloned().unwrap_or_default();
    let mut text = match language {
        Language::Mermaid => "flowchart LR\n".to_owned(),
        Language::Dot => {
            "digraph pipeline {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n".into()
        }
    };
    for Node { id: name, kind, name: label, detail } in &picture.nodes {
        let label = match kind {
            Kind::Topic => label.clone(),
            _ => format!("{label}\n{detail}"),
        };
        let label = quoted(language, &label);
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
    for (arrow, label) in picture.arrows.iter().zip(labels) {
        let (from, to, bare) = (id(&arrow.from), id(&arrow.to), label.is_empty());
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
