//! The table of metrics as documentation and as a dashboard.
//!
//! `docs/metrics.md` and `deploy/grafana/semel.json` are made here and compared by a test
//! (`SEMEL_BLESS=1 cargo test -p semel telemetry` writes them anew).

use std::fmt::Write;

use serde_json::{Value, json};

use super::table::{Kind, METRICS, Metric};

/// `docs/metrics.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\nServed at `/metrics` of the address that `pipeline.metrics` names. Counters \
         count what was\ncommitted: a cycle that was aborted counts nothing. Made from \
         `pipeline/src/telemetry/table.rs`.\n\n| name | kind | unit | labels | what it says |\n\
         |---|---|---|---|---|\n",
    );
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels = metric.labels.join(", ");
        let Metric { name, unit, help, .. } = metric;
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "| `{name}` | {kind} | {unit} | {labels} | {help} |");
    }
    text
}

/// What a panel asks Prometheus for one metric.
fn query(metric: &Metric) -> String {
    let by = metric.labels.join(", ");
    let name = metric.name;
    match metric.kind {
        Kind::Counter => format!("sum by ({by}) (rate({name}[1m]))"),
        Kind::Gauge => format!("sum by ({by}) ({name})"),
        Kind::Histogram => {
            format!("histogram_quantile(0.99, sum by ({by}, le) (rate({name}_bucket[5m])))")
        }
    }
}

/// The unit as Grafana names it.
fn unit(metric: &Metric) -> &'static str {
    match (metric.kind, metric.unit) {
        (Kind::Histogram, _) => "s",
        (_, "bytes") => "bytes",
        (Kind::Counter, _) => "cps",
        _ => "short",
    }
}

/// `deploy/grafana/semel.json`: one panel for each metric, two in a row.
#[must_use]
pub fn dashboard() -> Value {
    let panels = METRICS.iter().enumerate().map(|(i, metric)| {
        let legend: Vec<_> = metric.labels.iter().map(|l| format!("{{{{{l}}}}}")).collect();
        let (x, y) = ((i % 2) * 12, (i / 2) * 8);
        json!({
            "id": i + 1,
            "type": "timeseries",
            "title": metric.name,
            "description": format!("{} Unit: {}.", metric.help, metric.unit),
            "datasource": { "type": "prometheus", "uid": "${datasource}" },
            "gridPos": { "h": 8, "w": 12, "x": x, "y": y },
            "fieldConfig": { "defaults": { "unit": unit(metric) }, "overrides": [] },
            "targets": [{ "refId": "A", "expr": query(metric), "legendFormat": legend.join(" ") }],
        })
    });
    json!({
        "uid": "semel",
        "title": "Semel",
        "schemaVersion": 39,
        "editable": true,
        "time": { "from": "now-30m", "to": "now" },
        "refresh": "10s",
        "templating": { "list": [
            { "name": "datasource", "type": "datasource", "query": "prometheus" }
        ] },
        "panels": panels.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{dashboard, markdown};

    fn same(file: &str, text: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
        if std::env::var_os("SEMEL_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == text, "{file} differs: run SEMEL_BLESS=1 cargo test -p semel telemetry");
    }

    #[test]
    fn the_documentation_is_the_tables() {
        same("docs/metrics.md", &markdown());
    }

    #[test]
    fn the_dashboard_is_the_tables() {
        let text = serde_json::to_string_pretty(&dashboard()).unwrap() + "\n";
        same("deploy/grafana/semel.json", &text);
    }
}
