//! Every metric: name, kind, unit, labels, and what it says. Documentation (`docs/metrics.md`) and
//! the dashboard (`deploy/grafana/semel.json`) are made from this table.

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Goes up and down; one that is not looked at any more vanishes after a minute.
    Gauge,
    /// A distribution: `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, with the unit last.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What one of it is.
    pub unit: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

const STAGE: &[&str] = &["stage"];
const TASK: &[&str] = &["stage", "partition"];

const fn counter(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, unit, labels, help }
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, labels, help }
}

const fn histogram(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Histogram, unit, labels, help }
}

/// Every metric of a process. Counters count what was committed: an aborted cycle counts nothing.
pub const METRICS: &[Metric] = &[
    counter("semel_records_in_total", "records", STAGE, "Records taken from the stage's topic."),
    counter(
        "semel_records_out_total",
        "records",
        STAGE,
        "Records for downstream topics, progress and dead letters left out.",
    ),
    counter(
        "semel_forwarded_total",
        "records",
        STAGE,
        "Records whose key hashes to another partition, sent on to it.",
    ),
    counter("semel_dead_letters_total", "records", STAGE, "Records sent to the dead letters."),
    counter("semel_commits_total", "commits", STAGE, "Transactions committed."),
    counter("semel_aborts_total", "commits", STAGE, "Transactions known not to have happened."),
    counter("semel_effects_total", "effects", STAGE, "Effects recorded by operators."),
    counter(
        "semel_effects_handed_out_total",
        "effects",
        STAGE,
        "Effects handed to connectors: what is beyond `semel_effects_total` was performed again after \
         a start or a handover.",
    ),
    counter("semel_outcomes_total", "outcomes", STAGE, "Outcomes of effects taken in."),
    counter(
        "semel_outcomes_uncertain_total",
        "outcomes",
        STAGE,
        "Outcomes that say that nothing is known: the effect is tried again.",
    ),
    counter(
        "semel_operator_total",
        "events",
        &["stage", "what"],
        "What operators count, by their own names for it.",
    ),
    counter(
        "semel_ingress_requests_total",
        "requests",
        &["status"],
        "Requests that the HTTP ingress has answered, by status.",
    ),
    counter(
        "semel_ingress_records_total",
        "records",
        &[],
        "Records that the HTTP ingress has committed.",
    ),
    histogram(
        "semel_commit_seconds",
        "seconds",
        &["group", "end"],
        "Time of one commit of the log, by how it ended (`committed`, `retry`, `abort`, `unknown`, \
         `rebuild`, `fatal`).",
    ),
    histogram(
        "semel_kafka_transaction_call_seconds",
        "seconds",
        &["call"],
        "Time of one transactional call of the Kafka client.",
    ),
    gauge(
        "semel_lag_records",
        "offsets",
        TASK,
        "From the committed offset of a task of this process to the last stable offset of its \
         partition; on Kafka each transaction's marker counts as one.",
    ),
    gauge(
        "semel_task_ready",
        "0 or 1",
        TASK,
        "1 once a task of this process is restored, 0 while it is being restored.",
    ),
    gauge(
        "semel_restore_offset",
        "offset",
        TASK,
        "Offset of the changelog that a restore under way has reached.",
    ),
    gauge(
        "semel_restore_end_offset",
        "offset",
        TASK,
        "Offset of the changelog where a restore under way ends.",
    ),
    gauge("semel_effects_pending", "effects", TASK, "Effects under way outside."),
    gauge(
        "semel_quarantined_keys",
        "keys",
        TASK,
        "Keys that wait for a person's decision (not counted beyond 1,000).",
    ),
    gauge(
        "semel_quarantined_records",
        "records",
        TASK,
        "Records that wait behind quarantined keys, those at fault included.",
    ),
    gauge(
        "semel_task_paused",
        "0 or 1",
        TASK,
        "1 while a partition is paused because its quarantine is full.",
    ),
    gauge("semel_state_bytes", "bytes", &[], "Local state and embedded log on this disk."),
    gauge("semel_resident_bytes", "bytes", &[], "Memory of the process that is resident."),
    gauge("semel_build_info", "1", &["version"], "1, with the version of this build."),
    gauge(
        "semel_file_read_bytes",
        "bytes",
        STAGE,
        "Bytes of its file that a source of this process has read.",
    ),
    gauge(
        "semel_file_size_bytes",
        "bytes",
        STAGE,
        "Size of the file that a source of this process reads.",
    ),
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::{Kind, METRICS};

    fn sources(folder: &Path, into: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("table.rs") {
                into.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    fn quoted(text: &str) -> BTreeSet<String> {
        let names = text.split("\"semel_").skip(1).filter_map(|rest| rest.split('"').next());
        let is_name =
            |n: &&str| n.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit());
        names.filter(is_name).map(|n| format!("semel_{n}")).collect()
    }

    #[test]
    fn the_table_and_the_code_name_the_same_metrics() {
        let mut text = String::new();
        for folder in ["src", "../connectors/src"] {
            sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut text);
        }
        let (named, known) = (quoted(&text), METRICS.iter().map(|m| m.name.to_owned()));
        let known: BTreeSet<_> = known.collect();
        // Tables of the sinks bear the same prefix.
        let tables = ["semel_refused", "semel_offsets", "semel_id"];
        let unknown: Vec<_> = named
            .difference(&known)
            .filter(|n| !tables.contains(&n.as_str()) && n.matches('_').count() > 1)
            .collect();
        assert!(unknown.is_empty(), "named in the code but not in the table: {unknown:?}");
        let silent: Vec<_> = known.difference(&named).collect();
        assert!(silent.is_empty(), "in the table but never set: {silent:?}");
    }

    /// Names of metrics in a file of queries; those of a histogram's parts are its own.
    fn asked(text: &str) -> BTreeSet<String> {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let words = text.split(|c: char| !is_name(c)).filter(|word| word.starts_with("semel_"));
        let part = |word: &str| {
            let whole = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
            whole.filter(|n| METRICS.iter().any(|m| m.name == *n)).unwrap_or(word).to_owned()
        };
        words.map(part).collect()
    }

    #[test]
    fn alerts_and_their_examples_ask_only_for_metrics_that_exist() {
        for file in ["../deploy/alerts/semel.yml", "../deploy/alerts/semel.test.yml"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let asked = asked(&std::fs::read_to_string(path).unwrap());
            assert!(asked.len() > 5, "{file} asks for {asked:?} alone");
            let unknown: Vec<_> =
                asked.iter().filter(|n| !METRICS.iter().any(|m| m.name == **n)).collect();
            assert!(
                unknown.is_empty(),
                "{file} asks for metrics that are not in the table: {unknown:?}"
            );
        }
    }

    #[test]
    fn names_say_their_unit() {
        for metric in METRICS {
            match metric.kind {
                Kind::Counter => assert!(metric.name.ends_with("_total"), "{}", metric.name),
                Kind::Histogram => assert!(metric.name.ends_with("_seconds"), "{}", metric.name),
                Kind::Gauge => assert!(!metric.name.ends_with("_total"), "{}", metric.name),
            }
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
