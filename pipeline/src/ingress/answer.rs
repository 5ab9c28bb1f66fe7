//! What a caller gets: where its records are, or one sentence about what is wrong.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// Where the records are, in the order in which they were sent.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Written {
    /// One place each.
    pub(super) records: Vec<Place>,
}

/// Where a record is, committed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Place {
    /// Partition.
    pub(super) partition: u32,
    /// Offset.
    pub(super) offset: u64,
    /// Its id: `semel trace SPEC ID` shows what became of it.
    pub(super) id: String,
}

/// Why nothing was written, or why that is not known.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Problem {
    /// What kind of problem, for programs.
    pub(super) code: String,
    /// One sentence.
    pub(super) text: String,
    /// Which record, counted from 0, if it is one record's fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) record: Option<usize>,
}

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) problem: Problem,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &str, text: impl Into<String>) -> Self {
        Self { status, problem: Problem { code: code.to_owned(), text: text.into(), record: None } }
    }

    /// It is the fault of this record.
    pub(super) fn of(mut self, record: Option<usize>) -> Self {
        self.problem.record = record;
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let again =
            matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let challenge = self.status == StatusCode::UNAUTHORIZED;
        let mut response = (self.status, Json(self.problem)).into_response();
        if again {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if challenge {
            let value = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        response
    }
}
