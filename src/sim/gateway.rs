//! What stands between an agent and the API server of a simulated world: logs every request, injects faults, forwards
//! the rest to a backend.
//!
//! ```text
//!  agent ──HTTP/1.1──► Gateway ──► Backend: in-process API server, or a real one over TLS
//!                        │ └─ faults: what goes wrong, when, for which requests
//!                        └─ log: what was asked, when, with which answer
//! ```
//!
//! Invariant: every request that was read appears in the log exactly once, also if its answer never left. Those of people
//! who look on (kubectl, curl) are forwarded as they are, neither logged nor disturbed.

pub mod answers;
pub mod backend;
mod body;
pub mod denial;
pub mod faults;
mod lag;
mod listen;
pub mod log;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::k8s::attributes::Attributes;
use crate::sim::onlooker::is_onlooker;
use answers::CannedAnswer;
use backend::{Backend, Body, BoxError};
use body::{AnswerBody, Cut};
use faults::{Fault, FaultId, Faults, Plan, Seen, Verdict};
use lag::Lagging;
use log::{Entry, LoggedRequest, RequestLog};

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("an injected fault closed the connection without an answer")]
pub struct Disconnected;

/// A gateway in front of one API server; clones share log and faults.
#[derive(Clone)]
pub struct Gateway {
    backend: Arc<dyn Backend>,
    clock: Clock,
    log: RequestLog,
    faults: Faults,
}

impl Gateway {
    /// A gateway without faults.
    pub fn new(backend: impl Backend + 'static, clock: Clock) -> Self {
        Self { backend: Arc::new(backend), clock, log: RequestLog::new(clock), faults: Faults::default() }
    }

    /// Adds a fault; it acts in its time window, after those added before it.
    pub fn inject(&self, fault: Fault) -> FaultId {
        self.faults.inject(fault)
    }

    /// Takes a fault away before its window ends. Unknown ids are ignored.
    pub fn lift(&self, id: FaultId) {
        self.faults.lift(id);
    }

    /// Every request so far, in order of arrival.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.log.requests()
    }

    /// The requests from number `from` on, counted from 0, and those before it whose number is in `open`; each with its
    /// number.
    pub fn requests_after(&self, from: u64, open: &BTreeSet<u64>) -> Vec<(u64, LoggedRequest)> {
        self.log.news(from, open)
    }

    /// Waits until a request satisfies `wanted`, past ones included. Looked at again on every arrival and answer.
    pub async fn wait_for(&self, wanted: impl Fn(&LoggedRequest) -> bool) -> LoggedRequest {
        self.log.wait_for(wanted).await
    }

    /// Answers one request as it would be answered on a connection.
    ///
    /// # Errors
    /// [`Disconnected`] when a fault wants the connection closed instead.
    pub async fn handle(&self, request: Request<Bytes>) -> Result<Response<Body>, Disconnected> {
        if is_onlooker(header_text(&request, &header::USER_AGENT)) {
            return Ok(self.backend.call(request).await.unwrap_or_else(|error| unreachable(&error)));
        }
        let attributes = Attributes::of(request.method(), request.uri());
        let entry = self.log.open(&request, &attributes);
        let plan = self.faults.plan(&Seen::new(&request, &attributes));
        if !plan.delay.is_zero() {
            sleep(plan.delay).await;
        }
        let answer = match plan.verdict.clone() {
            Some(verdict) => Self::enact(verdict).await?,
            None => self.forward(request, &plan).await?,
        };
        Ok(self.finish(answer, entry, attributes, &plan).await)
    }

    async fn forward(&self, request: Request<Bytes>, plan: &Plan) -> Result<Response<Body>, Disconnected> {
        let answer = self.backend.call(request).await.unwrap_or_else(|error| unreachable(&error));
        if !plan.answer_delay.is_zero() {
            sleep(plan.answer_delay).await;
        }
        match plan.answer_verdict.clone() {
            Some(verdict) => Self::enact(verdict).await,
            None => Ok(answer),
        }
    }

    async fn enact(verdict: Verdict) -> Result<Response<Body>, Disconnected> {
        match verdict {
            Verdict::Disconnect => Err(Disconnected),
            Verdict::Stall => std::future::pending().await,
            Verdict::Answer(canned) => Ok(canned.response()),
        }
    }

    async fn finish(
        &self,
        answer: Response<Body>,
        entry: Entry,
        attributes: Attributes,
        plan: &Plan,
    ) -> Response<Body> {
        let (mut head, mut body) = answer.into_parts();
        entry.answered(head.status);
        if !head.headers.contains_key(header::DATE)
            && let Some(date) = self.date()
        {
            head.headers.insert(header::DATE, date);
        }
        let watch = attributes.verb == "watch" && head.status == StatusCode::OK;
        let mut cut = None;
        if plan.truncate {
            cut = Some(if watch { Cut::FirstFrame } else { Cut::Body });
            if !watch {
                body = whole(body).await;
            }
        }
        if watch {
            body = Lagging::new(body, self.faults.clone(), attributes.clone()).boxed_unsync();
        }
        let close = watch.then(|| self.faults.clone().until_closed(attributes));
        Response::from_parts(head, AnswerBody::new(body, entry, close, cut).boxed_unsync())
    }

    /// The world's time, not the host's: a client may take the server's clock from here.
    fn date(&self) -> Option<HeaderValue> {
        let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&self.clock.now().wall);
        HeaderValue::try_from(text.ok()?).ok()
    }
}

fn header_text<'a>(request: &'a Request<Bytes>, name: &header::HeaderName) -> &'a str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A body whose length is known, so that half of it can be announced and withheld.
async fn whole(body: Body) -> Body {
    let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    backend::full(bytes)
}

fn unreachable(error: &BoxError) -> Response<Body> {
    CannedAnswer::text(StatusCode::BAD_GATEWAY, format!("the backend did not answer: {error}\n")).response()
}

#[cfg(test)]
mod tests;
