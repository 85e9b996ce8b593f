//! Answers that the gateway gives itself, in the words of Kubernetes.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::backend::{Body, full};

/// A whole answer. The named constructors are the ones that real API servers give in trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CannedAnswer {
    /// HTTP status; a code outside 100–999 is answered as 500.
    pub code: u16,
    /// The body.
    pub body: Bytes,
    /// Its type.
    pub content_type: String,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u32>,
    /// Sends `Connection: close`.
    pub close: bool,
}

impl CannedAnswer {
    /// Plain text.
    pub fn text(code: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            code: code.as_u16(),
            body: body.into(),
            content_type: "text/plain; charset=utf-8".into(),
            retry_after: None,
            close: false,
        }
    }

    /// A `Status` object.
    pub fn status(code: StatusCode, status: &Value) -> Self {
        Self { content_type: "application/json".into(), ..Self::text(code, status.to_string()) }
    }

    /// 429 of API Priority and Fairness: plain text, no `Status`.
    pub fn throttled() -> Self {
        let text = "Too many requests, please try again later.\n";
        Self { retry_after: Some(1), ..Self::text(StatusCode::TOO_MANY_REQUESTS, text) }
    }

    /// 429 of a replica that is about to leave: plain text, and the connection ends.
    pub fn shutting_down() -> Self {
        let text = "The apiserver is shutting down, please try again later.\n";
        Self { retry_after: Some(5), close: true, ..Self::text(StatusCode::TOO_MANY_REQUESTS, text) }
    }

    /// 500: etcd was too slow. Whether the change was applied is open.
    pub fn internal_error() -> Self {
        let status = status_object(StatusCode::INTERNAL_SERVER_ERROR, "", "etcdserver: request timed out");
        Self::status(StatusCode::INTERNAL_SERVER_ERROR, &status)
    }

    /// 504: the request's own time limit passed inside the server.
    pub fn timed_out() -> Self {
        let text = "Timeout: request did not complete within requested timeout - context deadline exceeded";
        Self::status(StatusCode::GATEWAY_TIMEOUT, &status_object(StatusCode::GATEWAY_TIMEOUT, "Timeout", text))
    }

    /// 401: the token is not (or no longer) valid.
    pub fn unauthorized() -> Self {
        let status = status_object(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized");
        Self::status(StatusCode::UNAUTHORIZED, &status)
    }

    /// 410: the resource version of a watch is no longer kept.
    pub fn expired() -> Self {
        Self::status(StatusCode::GONE, &expired_status())
    }

    /// The HTTP response.
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(full(self.body.clone()));
        *response.status_mut() = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::try_from(&self.content_type) {
            headers.insert(header::CONTENT_TYPE, value);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// A failure `Status`; an empty reason is left out, as the server does.
pub fn status_object(code: StatusCode, reason: &str, message: &str) -> Value {
    let mut status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "code": code.as_u16(),
    });
    if let (false, Some(fields)) = (reason.is_empty(), status.as_object_mut()) {
        fields.insert("reason".into(), reason.into());
    }
    status
}

fn expired_status() -> Value {
    status_object(StatusCode::GONE, "Expired", "too old resource version: 1 (2)")
}

/// The last event of a watch whose resource version expired: HTTP stays 200, the stream carries the error.
pub(super) fn expired_event() -> Bytes {
    let mut line = json!({ "type": "ERROR", "object": expired_status() }).to_string();
    line.push('\n');
    line.into()
}
