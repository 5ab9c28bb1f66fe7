//! Advice: what a spec may say, and what is seldom meant. `semel check` shows it; nothing else
//! asks.
//!
//! Each rule is a function from a checked spec to hints with their lines. Invariants: a hint never
//! stops anything; the specs that ship give none but those that a test names.

use std::collections::BTreeSet;

use super::{
    Durability, Spec, StageSpec,
    parse::{Source, SpecError},
    plan::Plan,
};

/// Milliseconds of a slot, as chains with slots have them at best (Solana: 400).
const SLOT_MS: u64 = 400;
/// Retention below which a stage that is down over a night finds its place gone.
const DAY_MS: u64 = 24 * 3_600_000;
/// How alike two names are that may be one name mistyped, from 0 to 1.
const ALIKE: f64 = 0.85;

/// A spec that has no faults, and its text.
struct Checked<'a> {
    spec: &'a Spec,
    source: &'a Source,
    plan: &'a Plan,
}

/// Everything that looks like a mistake in a spec without faults, by line.
#[must_use]
pub fn advice(spec: &Spec, source: &Source, plan: &Plan) -> Vec<SpecError> {
    let checked = Checked { spec, source, plan };
    let rules: [fn(&Checked<'_>) -> Vec<SpecError>; 9] = [
        mistyped_topics,
        untied_outputs,
        time_that_stands_still,
        idle_lanes,
        windows,
        retention,
        tables,
        connections,
        places,
    ];
    let mut hints: Vec<SpecError> = rules.iter().flat_map(|rule| rule(&checked)).collect();
    hints.sort_by_key(|hint| hint.line);
    hints
}

impl<'a> Checked<'a> {
    fn stages(&self) -> impl Iterator<Item = &'a StageSpec> {
        self.spec.source.iter().chain(&self.spec.stage)
    }

    fn at(&self, offset: usize, text: String) -> SpecError {
        self.source.error_at(offset, text)
    }

    /// At the line of a key in a section of this name, or where the section would begin.
    fn at_key(&self, section: &str, key: &str, text: String) -> SpecError {
        let at = self.source.text.find(section).unwrap_or(0);
        self.source.error_at_key(at, key, text)
    }

    /// Topics that stages write.
    fn written(&self) -> BTreeSet<&'a str> {
        let named = |stage: &'a StageSpec| stage.outputs.values().flatten();
        let topics = self.stages().flat_map(|stage| stage.output.iter().chain(named(stage)));
        topics.map(|topic| topic.get_ref().as_str()).collect()
    }

    /// Topics that stages and sinks read.
    fn read(&self) -> BTreeSet<&'a str> {
        let stages = self.stages().filter_map(|stage| stage.input.as_ref());
        let sinks = self.spec.sink.iter().map(|sink| &sink.topic);
        stages.chain(sinks).map(|topic| topic.get_ref().as_str()).collect()
    }
}

/// A topic that nobody writes, beside one of nearly its name that nobody reads.
fn mistyped_topics(checked: &Checked<'_>) -> Vec<SpecError> {
    let (written, read) = (checked.written(), checked.read());
    let lost: Vec<&str> = written.difference(&read).copied().collect();
    let mut hints = Vec::new();
    for stage in &checked.spec.stage {
        let Some(input) = stage.input.as_ref().filter(|i| !written.contains(i.get_ref().as_str()))
        else {
            continue;
        };
        let near = lost.iter().find(|name| strsim::jaro_winkler(name, input.get_ref()) >= ALIKE);
        if let Some(near) = near {
            let text = format!(
                "no stage writes topic `{}`, and nobody reads `{near}`: are they meant to be one?",
                input.get_ref()
            );
            hints.push(checked.at(input.span().start, text));
        }
    }
    hints
}

/// What an operator writes to an output that is tied to no topic is gone.
fn untied_outputs(checked: &Checked<'_>) -> Vec<SpecError> {
    let mut hints = Vec::new();
    for stage in checked.stages() {
        let name = stage.name.get_ref();
        let Some((built, _)) = checked.plan.stages.iter().find(|(s, _)| s.name == *name) else {
            continue;
        };
        for operator in &built.operators {
            for output in operator.outputs().iter().filter(|o| !built.outputs.contains_key(**o)) {
                let text = format!(
                    "operator `{}` of stage `{name}` has an output `{output}` that is tied to no \
                     topic: what it writes there is left out; `outputs = {{ {output} = [\"<topic>\"] }}` ties it",
                    operator.name()
                );
                hints.push(checked.at(stage.name.span().start, text));
            }
        }
        if built.next.is_empty() && built.outputs.is_empty() {
            let text = format!("stage `{name}` writes to no topic: its work is seen by nobody");
            hints.push(checked.at(stage.name.span().start, text));
        }
    }
    hints
}

/// Operators that wait for event time, behind a topic into which no source writes progress.
fn time_that_stands_still(checked: &Checked<'_>) -> Vec<SpecError> {
    // A stage passes progress on to its `output`, so whoever is behind a source has some.
    let sources = checked.spec.source.iter().flat_map(|source| &source.output);
    let mut timed: BTreeSet<&str> = sources.map(|topic| topic.get_ref().as_str()).collect();
    loop {
        let before = timed.len();
        for stage in &checked.spec.stage {
            if stage.input.as_ref().is_some_and(|i| timed.contains(i.get_ref().as_str())) {
                timed.extend(stage.output.iter().map(|topic| topic.get_ref().as_str()));
            }
        }
        if timed.len() == before {
            break;
        }
    }
    let mut hints = Vec::new();
    for stage in &checked.spec.stage {
        let Some(input) = stage.input.as_ref().filter(|i| !timed.contains(i.get_ref().as_str()))
        else {
            continue;
        };
        for table in &stage.operators {
            let what = match table.get_ref().get("use").and_then(toml::Value::as_str) {
                Some("epoch_batch") => "`epoch_batch` never closes an epoch",
                Some("dedupe") => "`dedupe` forgets no id, and its state grows without end",
                _ => continue,
            };
            let text = format!(
                "no source of this pipeline writes progress into topic `{}`: unless another \
                 program does, {what}",
                input.get_ref()
            );
            hints.push(checked.at(table.span().start, text));
        }
    }
    hints
}

/// Lanes beyond the number of partitions.
fn idle_lanes(checked: &Checked<'_>) -> Vec<SpecError> {
    let mut hints = Vec::new();
    for stage in checked.stages() {
        let name = stage.name.get_ref();
        let built = checked.plan.stages.iter().find(|(built, _)| built.name == *name);
        let Some(partitions) = built.map(|(built, _)| built.input.partitions) else { continue };
        if stage.lanes > partitions {
            let text = format!(
                "stage `{name}` has {} lanes, and its topic {partitions} partitions: {} lanes have \
                 nothing to do",
                stage.lanes,
                stage.lanes - partitions
            );
            hints.push(checked.source.error_at_key(stage.name.span().start, "lanes", text));
        }
    }
    hints
}

/// A window of ids that is much shorter than what the topic can give again.
fn windows(checked: &Checked<'_>) -> Vec<SpecError> {
    let mut hints = Vec::new();
    for stage in &checked.spec.stage {
        let topic = stage.input.as_ref().and_then(|i| checked.spec.topics.get(i.get_ref()));
        let Some(kept) = topic.and_then(|topic| topic.retention_ms) else { continue };
        for table in &stage.operators {
            let settings = table.get_ref();
            let window = settings.get("window_slots").and_then(toml::Value::as_integer);
            let Some(window) = window.and_then(|slots| u64::try_from(slots).ok()) else { continue };
            if window.saturating_mul(SLOT_MS) < kept / 2 {
                let text = format!(
                    "ids are remembered for {window} slots (about {} h), and the topic is kept for \
                     {} h: records that come from its older part again are refused as too old",
                    window * SLOT_MS / 3_600_000,
                    kept / 3_600_000
                );
                let at = table.span().start;
                hints.push(checked.source.error_at_key(at, "window_slots", text));
            }
        }
    }
    hints
}

/// Topics that may be gone before they are read.
fn retention(checked: &Checked<'_>) -> Vec<SpecError> {
    let read = checked.read();
    let mut hints = Vec::new();
    for (short, topic) in &checked.spec.topics {
        let Some(kept) = topic.retention_ms.filter(|ms| *ms < DAY_MS) else { continue };
        if read.contains(short.as_str()) {
            let text = format!(
                "topic `{short}` keeps records for {} min: a stage or sink that is down for longer \
                 finds its place gone, and has lost records",
                kept / 60_000
            );
            let section = format!("[topics.{short}]");
            hints.push(checked.at_key(&section, "retention_ms", text));
        }
    }
    hints
}

/// Rows that would be written over each other.
fn tables(checked: &Checked<'_>) -> Vec<SpecError> {
    let mut hints = Vec::new();
    let mut seen = BTreeSet::new();
    for sink in &checked.spec.sink {
        for table in &sink.tables {
            let name = &table.table;
            if table.key.is_empty() {
                let text = format!(
                    "table `{name}` of sink `{}` has no key: every record becomes one and the same \
                     row",
                    sink.name.get_ref()
                );
                hints.push(checked.source.error_at_key(sink.name.span().start, "key", text));
            }
            if !seen.insert((&sink.url, &sink.schema, name)) {
                let text = format!(
                    "table `{name}` is written by another sink, too: in which order is not known; \
                     one sink for one table"
                );
                hints.push(checked.at(sink.name.span().start, text));
            }
        }
    }
    hints
}

/// Chains, signers and files that operators name and nobody defines, or the other way round.
fn connections(checked: &Checked<'_>) -> Vec<SpecError> {
    let chains: Vec<&str> = checked.spec.chains.keys().map(String::as_str).collect();
    let signers: Vec<&str> = checked.spec.signers.keys().map(String::as_str).collect();
    let files: Vec<&str> = checked.spec.files.keys().map(String::as_str).collect();
    let mut hints = Vec::new();
    let all =
        [("chain", "chains", chains), ("signer", "signers", signers), ("file", "files", files)];
    for (what, section, known) in all {
        let mut used = BTreeSet::new();
        for table in checked.stages().flat_map(|stage| &stage.operators) {
            let Some(name) = table.get_ref().get(what).and_then(toml::Value::as_str) else {
                continue;
            };
            used.insert(name);
            if !known.contains(&name) {
                let near = crate::admin::view::nearest(name, &known);
                let text = format!("there is no [{section}.{name}] in this spec{near}");
                hints.push(checked.source.error_at_key(table.span().start, what, text));
            }
        }
        for name in known.iter().filter(|name| !used.contains(**name)) {
            let text = format!("no operator names {what} `{name}`");
            let at = checked.source.text.find(&format!("[{section}.{name}]")).unwrap_or(0);
            hints.push(checked.at(at, text));
        }
    }
    hints
}

/// Where things lie and who can reach them.
fn places(checked: &Checked<'_>) -> Vec<SpecError> {
    let (pipeline, log) = (&checked.spec.pipeline, &checked.spec.log);
    let mut hints = Vec::new();
    if log.brokers.is_empty() && pipeline.data.starts_with("/tmp/") {
        let text = format!(
            "the log itself is in the data folder {}, which a restart of the machine may empty",
            pipeline.data
        );
        hints.push(checked.at_key("[pipeline]", "data", text));
    }
    if log.brokers.is_empty() && log.durability == Durability::Os {
        let text = "commits do not wait for the disk: what was answered may be lost with the \
                    power; `durability = \"disk\"` waits";
        hints.push(checked.at_key("[log]", "durability", text.to_owned()));
    }
    if pipeline.metrics.starts_with("0.0.0.0:") || pipeline.metrics.starts_with("[::]:") {
        let text = "the metrics endpoint answers everybody who can reach this machine, and asks for no name";
        hints.push(checked.at_key("[pipeline]", "metrics", text.to_owned()));
    }
    hints
}

#[cfg(test)]
mod tests;
