//! The HTTP ingress: records from any client, answered after the commit.
//!
//! `mod` what is wanted of it, and the checks before a start · `keys` who may · `rate` how often ·
//! `body` what a request says · `writer` many requests in one transaction of the log · `answer` what a
//! caller gets · `routes` the way of a request through these.
//!
//! May not live here: what a record must look like (`admin::produce`, the same for everybody), or
//! anything that is decided about it (operators). Invariants: nothing is answered with success that
//! is not committed; of one request either every record is written or none; a refusal is given
//! before anything is written; what a caller sends is bounded in bytes, in records, in time and in
//! depth before it is looked at closely.

mod answer;
mod body;
mod keys;
mod rate;
mod routes;
mod writer;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use crate::{
    admin::{View, produce::Form},
    engine::topology::TopicRef,
    http,
    spec::IngressSpec,
};

pub use self::{keys::Keys, routes::openapi};

/// An ingress that is ready to serve.
#[derive(Debug)]
pub struct Ingress {
    shared: Arc<Shared>,
}

/// What all requests share.
#[derive(Debug)]
struct Shared {
    spec: IngressSpec,
    keys: Keys,
    rate: rate::Rate,
    view: View,
    writer: writer::Writer,
    /// By short name: the topics that are open, as they stood in the log at the start.
    topics: BTreeMap<String, TopicRef>,
}

/// The address of an ingress and who may use it, before anything is connected. `None`: there is to be
/// none.
///
/// # Errors
/// One sentence.
pub fn prepare(
    spec: &IngressSpec,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<(SocketAddr, Keys)>, String> {
    if spec.listen.is_empty() {
        return Ok(None);
    }
    let address = http::address(&spec.listen)?;
    let keys = Keys::read(&spec.keys, variable)?;
    if keys.are_none() && !address.ip().is_loopback() {
        return Err(format!(
            "others than this machine reach {address}, and `keys` is empty: name a file or an \
             environment variable with API keys, or listen on a port alone"
        ));
    }
    if spec.topics.is_empty() {
        return Err("`topics` is empty: name the topics that may be written to".to_owned());
    }
    if spec.requests_per_second == 0 || spec.records_max == 0 || spec.body_bytes_max == 0 {
        return Err(
            "`requests_per_second`, `records_max` and `body_bytes_max` are at least 1".to_owned()
        );
    }
    Ok(Some((address, keys)))
}

impl Ingress {
    /// An ingress over the log of `view`, whose topics exist.
    ///
    /// # Errors
    /// One sentence: a topic that cannot be written to, no thread.
    pub fn new(spec: IngressSpec, keys: Keys, view: View) -> Result<Self, String> {
        let mut topics = BTreeMap::new();
        for topic in &spec.topics {
            // With some type of its reader's: which one, each request says.
            let known = view.topic(topic).map_err(|stop| stop.sentence())?;
            Form::readers(&view, &known).map_err(|stop| stop.sentence())?;
            topics.insert(topic.clone(), known);
        }
        let writer = writer::Writer::start(view.log.clone())
            .map_err(|e| format!("no thread for the ingress: {e}"))?;
        let rate = rate::Rate::new(spec.requests_per_second);
        Ok(Self { shared: Arc::new(Shared { spec, keys, rate, view, writer, topics }) })
    }

    /// Its routes.
    pub fn router(self) -> axum::Router {
        routes::router(self.shared)
    }
}

#[cfg(test)]
mod tests;
