//! The HTTP endpoints of a running process: `/metrics` for Prometheus, `/health/live` and
//! `/health/ready` for an orchestrator, `/health` for a person.
//!
//! May not live here: anything that changes something, or that must not be seen by everybody who
//! reaches the address (what stands in records: `console`, beside it). Invariant: no answer waits for the log or for a database.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;

use super::{
    health::{self, Lanes, Readiness},
    sample::FORGET,
    table::{Kind, METRICS},
};
use crate::{engine::status::Status, host::gate::Gate};

/// How often what was counted is summed up, asked for or not: otherwise it would pile up.
const UPKEEP: Duration = Duration::from_secs(5);

/// What answers are made from.
#[derive(Clone)]
pub struct Endpoints {
    /// The process's metrics.
    pub handle: PrometheusHandle,
    /// What its lanes tell.
    pub status: Arc<Status>,
    /// What a person has paused.
    pub gate: Arc<Gate>,
    /// The lanes that the process is to run.
    pub lanes: Arc<Lanes>,
}

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoints").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

/// Upper bounds of the buckets of every histogram, seconds: from the broker's 0.4 ms to a time-out.
const BUCKETS: &[f64] =
    &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Makes the process's recorder, once, before anything is counted.
///
/// # Errors
/// One sentence.
pub fn install() -> Result<PrometheusHandle, String> {
    let handle = PrometheusBuilder::new()
        .set_buckets(BUCKETS)
        .map_err(|e| e.to_string())?
        .idle_timeout(MetricKindMask::GAUGE, Some(FORGET))
        .install_recorder()
        .map_err(|e| format!("metrics cannot be counted: {e}"))?;
    describe();
    Ok(handle)
}

fn describe() {
    for metric in METRICS {
        let help = format!("{} Unit: {}.", metric.help, metric.unit);
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, help),
        }
    }
}

impl Endpoints {
    /// The routes. Call it within a runtime, which sums up what is counted from then on.
    pub fn router(self) -> Router {
        let handle = self.handle.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                handle.run_upkeep();
            }
        });
        Router::new()
            .route("/metrics", get(metrics_text))
            .route("/health", get(health))
            .route("/health/live", get(async || "live\n"))
            .route("/health/ready", get(ready))
            .with_state(self)
    }
}

async fn metrics_text(State(endpoints): State<Endpoints>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], endpoints.handle.render())
}

fn look(endpoints: &Endpoints) -> Readiness {
    health::readiness(&endpoints.status, &endpoints.lanes, &endpoints.gate.paused())
}

async fn ready(State(endpoints): State<Endpoints>) -> impl IntoResponse {
    let answer = look(&endpoints);
    let code = if answer.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(answer))
}

/// For a person: the same, and always 200.
async fn health(State(endpoints): State<Endpoints>) -> Json<Readiness> {
    Json(look(&endpoints))
}
