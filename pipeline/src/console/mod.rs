//! `/console`: a page about a running pipeline, for a person's browser: the picture with rates and
//! lag, the newest dead letters, a record's way. Beside it the JSON that it is drawn from.
//!
//! `page.html` the page, with its style and its script, as it is served. May not live here: what is
//! answered, which is `admin`'s, for the page as for the commands (`graph`, `top`, `dlq list`, `trace`).
//!
//! Invariants: nothing here changes anything. The browser runs the script that was built in and no
//! other, and fetches from nowhere else (`Content-Security-Policy`, by hash). Answers are bounded, and
//! questions are worked on threads of their own, a few at once. Where only this machine is served, a
//! host by another name than this machine's is refused, or any page in the browser could have its own
//! name resolved to us and read records here.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::Engine as _;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::admin::{
    Answer, Stop, View, graph,
    letters::{self, Letters, Which},
    show::{self, LetterLine, StepLine},
    top::{self, TopRow},
    trace::{self, Trace},
    view,
};

/// The page as it is served.
const PAGE: &str = include_str!("page.html");
/// Dead letters of one answer.
pub const LETTERS_MAX: usize = 100;
/// Offsets of each partition, from its end, among which dead letters are looked for.
pub const LETTERS_LAST: u64 = 10_000;
/// Steps of one answer about a record's way.
pub const STEPS_MAX: usize = 500;
/// Characters of an id that is asked for.
const ID_MAX: usize = 500;
/// How long one search may take.
const SEARCH_MAX: Duration = Duration::from_secs(20);
/// How long a question waits for those before it.
const SEAT_WAIT: Duration = Duration::from_secs(10);
/// Quick questions that are worked at once.
const QUICK_MAX: usize = 4;
/// Searches that are worked at once: each reads topics from end to end.
const SEARCHES_MAX: usize = 1;

/// What the page and its answers are made from.
#[derive(Clone, Debug)]
pub struct Console {
    view: Arc<View>,
    /// Only this machine is served.
    local: bool,
    policy: Arc<str>,
    quick: Arc<Semaphore>,
    searches: Arc<Semaphore>,
}

impl Console {
    /// For a pipeline, served at this address.
    #[must_use]
    pub fn new(view: View, address: SocketAddr) -> Self {
        Self {
            view: Arc::new(view),
            local: address.ip().is_loopback(),
            policy: policy(PAGE).into(),
            quick: Arc::new(Semaphore::new(QUICK_MAX)),
            searches: Arc::new(Semaphore::new(SEARCHES_MAX)),
        }
    }

    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/console", get(page))
            .route("/console/api/graph", get(picture))
            .route("/console/api/top", get(stages))
            .route("/console/api/dlq", get(dead_letters))
            .route("/console/api/trace", get(way))
            .route_layer(middleware::from_fn_with_state(self.clone(), guard))
            .with_state(self)
    }
}

/// The policy under which the browser runs the style and the script of a page, and nothing else.
fn policy(page: &str) -> String {
    let hash = |tag: &str| {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let inside = page.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
        let digest = Sha256::digest(inside.map_or("", |(text, _)| text));
        format!("'sha256-{}'", base64::engine::general_purpose::STANDARD.encode(digest))
    };
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
}

/// Refuses who asks for another machine's name, and gives every answer its headers.
async fn guard(State(console): State<Console>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let mut response = if console.local && !host.is_some_and(names_this_machine) {
        problem(
            StatusCode::FORBIDDEN,
            "only this machine is served: ask for `localhost` or for the address itself",
        )
    } else {
        next.run(request).await
    };
    secure(response.headers_mut(), &console.policy);
    response
}

/// Whether a `Host` is an address or `localhost`: no name that somebody else may give an address.
fn names_this_machine(host: &str) -> bool {
    let port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, end)) if port(end) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

fn secure(headers: &mut HeaderMap, policy: &str) {
    let fixed: [(HeaderName, &str); 4] = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Records are nothing to be kept in a browser's cache.
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
}

async fn page() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE)
}

/// The pipeline as nodes and arrows, as `semel graph` draws it.
async fn picture(State(console): State<Console>) -> Response {
    Json(graph::picture(&console.view.plan)).into_response()
}

/// Stages and sinks at a moment.
#[derive(Debug, Serialize)]
struct Stages {
    /// The moment, milliseconds since 1970.
    at_ms: u64,
    /// Totals, not rates, as `semel top` gets them.
    rows: Vec<TopRow>,
}

async fn stages(State(console): State<Console>) -> Response {
    asked(&console, &console.quick, StatusCode::SERVICE_UNAVAILABLE, |view| {
        let rows = top::top(view)?;
        Ok(Stages { at_ms: view::now().0, rows })
    })
    .await
}

/// The newest dead letters that nobody has decided about.
#[derive(Debug, Serialize)]
struct Newest {
    /// Newest first, as `semel dlq list` shows them.
    letters: Vec<LetterLine>,
    /// Whether there are older ones.
    more: bool,
}

async fn dead_letters(State(console): State<Console>) -> Response {
    asked(&console, &console.quick, StatusCode::SERVICE_UNAVAILABLE, newest).await
}

fn newest(view: &View) -> Result<Newest, Stop> {
    let until = Instant::now() + SEARCH_MAX;
    let ask = Letters { which: Which::default(), limit: None, last: Some(LETTERS_LAST) };
    let (mut kept, mut more) = (BTreeMap::new(), false);
    letters::letters(view, &ask, &mut |answer| {
        in_time(until, "use `semel dlq list`")?;
        if let Answer::Letter(row) = answer {
            let record = &row.record;
            let at = (record.timestamp_ms, record.partition.0, record.offset.0);
            kept.insert(at, show::letter(row));
            if kept.len() > LETTERS_MAX {
                kept.pop_first();
                more = true;
            }
        }
        Ok(())
    })?;
    Ok(Newest { letters: kept.into_values().rev().collect(), more })
}

/// A record's way.
#[derive(Debug, Serialize)]
struct Way {
    /// In the order of their times, as `semel trace` shows them.
    steps: Vec<Step>,
    /// Whether there are more steps than were told.
    more: bool,
}

/// One step of it.
#[derive(Debug, Serialize)]
struct Step {
    #[serde(flatten)]
    line: StepLine,
    /// Milliseconds since the step before; none: it is the first.
    after_ms: Option<u64>,
}

async fn way(State(console): State<Console>, RawQuery(query): RawQuery) -> Response {
    let id = match asked_id(query.as_deref().unwrap_or_default()) {
        Ok(id) => id,
        Err(text) => return problem(StatusCode::BAD_REQUEST, &text),
    };
    asked(&console, &console.searches, StatusCode::UNPROCESSABLE_ENTITY, |view| {
        let until = Instant::now() + SEARCH_MAX;
        let (mut steps, mut more, mut before) = (Vec::new(), false, None);
        trace::trace(view, &Trace { id }, &mut |answer| match answer {
            // Told in one go when the search is over: no reason to stop now.
            Answer::Step(_) if steps.len() >= STEPS_MAX => {
                more = true;
                Ok(())
            }
            Answer::Step(step) => {
                let at = step.at_ms;
                let after_ms = before.replace(at).map(|before: u64| at.saturating_sub(before));
                steps.push(Step { line: show::step(step), after_ms });
                Ok(())
            }
            _ => in_time(until, "use `semel trace`, which takes the time it needs"),
        })?;
        Ok(Way { steps, more })
    })
    .await
}

/// The `id` of a query.
fn asked_id(query: &str) -> Result<String, String> {
    let id = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "id");
    match id.map(|(_, id)| id.trim().to_owned()) {
        Some(id) if id.chars().count() > ID_MAX => {
            Err(format!("no id has more than {ID_MAX} characters: give one that a record bears"))
        }
        Some(id) if !id.is_empty() => Ok(id),
        _ => {
            Err("say which record: `?id=` and a semel-id, topic/partition/offset, or a name in a \
                  field"
                .to_owned())
        }
    }
}

/// Ends a search that takes too long.
fn in_time(until: Instant, instead: &str) -> Result<(), Stop> {
    if Instant::now() < until {
        return Ok(());
    }
    let seconds = SEARCH_MAX.as_secs();
    Err(Stop::Refused(format!("not found within {seconds} s of reading the topics: {instead}")))
}

/// Answers a question on a thread of its own, `refused` if it cannot be answered.
async fn asked<T: Serialize + Send + 'static>(
    console: &Console,
    seats: &Arc<Semaphore>,
    refused: StatusCode,
    work: impl FnOnce(&View) -> Result<T, Stop> + Send + 'static,
) -> Response {
    let seat = tokio::time::timeout(SEAT_WAIT, seats.clone().acquire_owned()).await;
    let Ok(Ok(seat)) = seat else {
        let text = "others are being answered: ask again when they have been";
        return problem(StatusCode::SERVICE_UNAVAILABLE, text);
    };
    let view = console.view.clone();
    let worked = tokio::task::spawn_blocking(move || {
        let answer = work(&view);
        // Also of one who has hung up: its work is over only now.
        drop(seat);
        answer
    });
    match worked.await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(stop)) => problem(refused, &stop.sentence()),
        Err(_) => {
            let text = "the question could not be worked: see the process's log";
            problem(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}

/// One sentence.
fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

#[cfg(test)]
mod tests;
