//! What a scenario sets on the server (latency, faults, held controllers) and what it reads back (the call log).

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use jiff::Timestamp;

use super::{
    Body, full,
    routes::{Query, Route, route},
};

/// Calls kept in the log; a long soak keeps the latest.
const LOG_LIMIT: usize = 100_000;

/// One request as an RBAC rule would see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Wall time of arrival.
    pub at: Timestamp,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: &'static str,
    /// API group, empty for core.
    pub group: String,
    /// Plural.
    pub resource: String,
    /// `status`, `eviction`, … or empty.
    pub subresource: String,
    /// Empty for cluster-scoped objects and lists across namespaces.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// HTTP status of the answer; 0 while the request is not answered.
    pub code: u16,
}

impl Call {
    /// The call a request makes; `None` if it is not about an object the server knows.
    pub(super) fn of(at: Timestamp, request: &Request<Bytes>) -> Option<Self> {
        let Route::Object(target) = route(request.uri().path()) else { return None };
        Some(Self {
            at,
            verb: target.verb(request.method(), &Query::of(request.uri()))?,
            group: target.resource.group.to_owned(),
            resource: target.resource.plural.to_owned(),
            subresource: target.subresource,
            namespace: target.namespace,
            name: target.name,
            code: 0,
        })
    }
}

/// What happens to a request instead of the usual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request is handled after this long.
    Delay(Duration),
    /// The request is answered with this and not handled: throttling, an overloaded or a leaving server.
    Answer(Refusal),
    /// The request is handled, but the answer is this one: a proxy that gave up waiting.
    HandledBut(Refusal),
}

/// An answer that does not come from the API machinery, and therefore need not be JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u32>,
    /// Plain text.
    pub body: String,
}

impl Refusal {
    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(full(self.body));
        *response.status_mut() = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Decides about each call before it is handled.
pub(super) type FaultRule = Arc<dyn Fn(&Call) -> Option<Fault> + Send + Sync>;

/// Settings and log; its own lock, apart from the objects'.
#[derive(Default)]
pub(super) struct Controls {
    pub(super) latency: Duration,
    pub(super) faults: Option<FaultRule>,
    pub(super) budgets_held: bool,
    /// When the disruption controller has to look again although nothing changed.
    pub(super) recheck: Option<Timestamp>,
    /// `(verb, resource)` that access reviews deny.
    pub(super) denied: Vec<(String, String)>,
    log: VecDeque<Call>,
}

impl Controls {
    pub(super) fn record(&mut self, call: Call) {
        if self.log.len() == LOG_LIMIT {
            self.log.pop_front();
        }
        self.log.push_back(call);
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.log.iter().cloned().collect()
    }
}

impl fmt::Debug for Controls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controls")
            .field("latency", &self.latency)
            .field("faults", &self.faults.is_some())
            .field("budgets_held", &self.budgets_held)
            .field("calls", &self.log.len())
            .finish_non_exhaustive()
    }
}
