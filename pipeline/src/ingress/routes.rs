//! The way of a request: who, how often, how much, what, then the log, then the answer.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    routing::{get, post},
};
use semel_schemas::{
    record::OutRecord,
    topic::{Offset, Partition},
};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::{
    Shared,
    answer::{Place, Problem, Refusal, Written},
    body::{self, One, Record, Records},
    writer::Unwritten,
};
use crate::{admin::produce::Form, engine::topology::TopicRef};

/// How long a body may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(20);
/// Name of the header by which a caller asks that a request be taken once.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The routes.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let limit = DefaultBodyLimit::max(shared.spec.body_bytes_max);
    Router::new()
        .route("/v1/topics/{topic}/records", post(records).layer(limit))
        .route("/v1/openapi.json", get(async || Json(openapi())))
        .with_state(shared)
}

/// The OpenAPI document of the ingress (`schemas/openapi.json`).
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Semel ingress",
        description = "Records for a pipeline's topics, answered after the commit."
    ),
    paths(records),
    components(schemas(One)),
    modifiers(&Rights)
)]
struct Document;

/// API keys, in the document.
struct Rights;

impl Modify for Rights {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("api_key", SecurityScheme::Http(bearer));
    }
}

/// Writes one record or many to a topic
///
/// All records of a request are written in one transaction, or none is. The answer comes after the
/// commit. One record may be sent without the list, as `{"key": …, "value": …}`.
#[utoipa::path(
    post,
    path = "/v1/topics/{topic}/records",
    params(("topic" = String, Path, description = "The topic, with or without the pipeline's name")),
    request_body = Records,
    responses(
        (status = 200, description = "Committed", body = Written),
        (status = 400, description = "The body cannot be read", body = Problem),
        (status = 401, description = "No API key, or an unknown one", body = Problem),
        (status = 404, description = "No such topic is open here", body = Problem),
        (status = 408, description = "The body took too long", body = Problem),
        (status = 413, description = "The body, or the list, is too large", body = Problem),
        (status = 415, description = "The body is not JSON", body = Problem),
        (status = 422, description = "A record is not what the topic's reader takes", body = Problem),
        (status = 429, description = "Too many requests of this caller", body = Problem),
        (status = 503, description = "Nothing was written, or that is not known: `code` says which",
            body = Problem),
    ),
    security(("api_key" = []))
)]
async fn records(
    State(shared): State<Arc<Shared>>,
    Path(topic): Path<String>,
    request: Request,
) -> Result<Json<Written>, Refusal> {
    let result = answer(&shared, &topic, request).await;
    let code = match &result {
        Ok(_) => StatusCode::OK,
        Err(refusal) => refusal.status,
    };
    metrics::counter!("semel_ingress_requests_total", "status" => code.as_u16().to_string())
        .increment(1);
    result.map(Json)
}

async fn answer(shared: &Arc<Shared>, topic: &str, request: Request) -> Result<Written, Refusal> {
    admitted(shared, request.headers())?;
    let topic = open(shared, topic)?.clone();
    let trace = text_of(request.headers(), semel_schemas::header::TRACEPARENT).map(str::to_owned);
    let bytes = bytes_of(request).await?;
    let records = body::parse(&bytes).map_err(|(record, text)| {
        Refusal::new(StatusCode::BAD_REQUEST, "unreadable", text).of(record)
    })?;
    let most = shared.spec.records_max;
    if records.records.len() > most {
        let text = format!("{} records are too many: the limit is {most}", records.records.len());
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many", text));
    }
    let checking = shared.clone();
    let checked =
        tokio::task::spawn_blocking(move || checked(&checking, topic, records, trace.as_deref()));
    let failed = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "see the log");
    let checked = checked.await.map_err(failed)??;
    let name = checked.first().map(|record| record.topic.clone());
    let places = shared.writer.write(checked).await.map_err(|unwritten| match unwritten {
        Unwritten::Busy => Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "too many requests wait for the log: nothing was written, try again",
        ),
        Unwritten::Refused(text) => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", text),
        Unwritten::Unknown(text) => Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unknown",
            format!("the log did not confirm, so the records may or may not be written: {text}"),
        ),
    })?;
    metrics::counter!("semel_ingress_records_total").increment(places.len() as u64);
    let name = name.map(|name| name.to_string()).unwrap_or_default();
    let place = |(partition, offset): (Partition, Offset)| Place {
        partition: partition.0,
        offset: offset.0,
        id: format!("{name}/{partition}/{offset}"),
    };
    Ok(Written { records: places.into_iter().map(place).collect() })
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Who asks, and whether it may now. What the head alone decides, before the body is read.
fn admitted(shared: &Shared, headers: &HeaderMap) -> Result<(), Refusal> {
    let given = text_of(headers, header::AUTHORIZATION.as_str());
    let Some(name) = shared.keys.name(given) else {
        let text = "give an API key that is known here: `Authorization: Bearer KEY`";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", text));
    };
    if !shared.rate.admits(name) {
        let limit = shared.spec.requests_per_second;
        let text = format!("`{name}` may ask {limit} times a second: nothing was written");
        return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_often", text));
    }
    let kind = text_of(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let text = "send JSON, and say so: `Content-Type: application/json`";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", text));
    }
    if headers.contains_key(IDEMPOTENCY_KEY) {
        let text = "no operator remembers ids for `Idempotency-Key` yet, so it would promise nothing: \
                    leave it out, and let a stage (`dedupe`) recognise what comes twice";
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "no_ids", text));
    }
    Ok(())
}

/// The topic as the spec opens it: by its short or its full name.
fn open<'a>(shared: &'a Shared, topic: &str) -> Result<&'a TopicRef, Refusal> {
    let prefix = format!("{}.", shared.view.plan.name);
    let short = topic.strip_prefix(&prefix).unwrap_or(topic);
    shared.topics.get(short).ok_or_else(|| {
        let open = shared.spec.topics.join(", ");
        let text = format!("no such topic is open here: those that are open are {open}");
        Refusal::new(StatusCode::NOT_FOUND, "no_topic", text)
    })
}

/// The whole body, unless it is too large or too slow.
async fn bytes_of(request: Request) -> Result<Bytes, Refusal> {
    let read = tokio::time::timeout(BODY_WAIT, Bytes::from_request(request, &())).await;
    let late = |_| {
        let text = format!("the body did not arrive within {} s", BODY_WAIT.as_secs());
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "too_slow", text)
    };
    read.map_err(late)?.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let text = "the body is larger than is taken here: send fewer records in a request";
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
        }
        _ => Refusal::new(StatusCode::BAD_REQUEST, "unreadable", error.body_text()),
    })
}

/// Each record as it will be written. As much work as there are records, so off the runtime.
fn checked(
    shared: &Shared,
    topic: TopicRef,
    records: Records,
    trace: Option<&str>,
) -> Result<Vec<OutRecord>, Refusal> {
    let unprocessable =
        |text: String| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", text);
    let form = Form::of(&shared.view, topic, records.kind.as_deref())
        .map_err(|stop| unprocessable(stop.sentence()))?;
    let each = records.records.into_iter().enumerate();
    each.map(|(index, record): (usize, Record)| {
        let new = record.new_record(trace).map_err(|text| unprocessable(text).of(Some(index)))?;
        form.check(&new).map_err(|fault| {
            let code = fault.code.text();
            Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, code, fault.text).of(Some(index))
        })
    })
    .collect()
}
