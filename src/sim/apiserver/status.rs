//! Refusals and confirmations in Kubernetes' own wording (`meta/v1 Status`).
//!
//! The wording is part of the interface: clients tell a spent budget from throttling, and a replaced pod from contention,
//! by `reason`, `details` and in places by `message`. Compared with a real server's answers under `tests/golden/apiserver`.

use http::{Response, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{Body, full, resource::Resource};

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub struct ApiError {
    /// HTTP status.
    pub code: u16,
    /// Machine-readable word, empty where Kubernetes leaves it empty.
    pub reason: &'static str,
    /// Text for people.
    pub message: String,
    /// `details` of the body, if Kubernetes sends any.
    pub details: Option<Box<Details>>,
}

/// What a refusal is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Object name.
    pub name: String,
    /// API group, empty for core.
    pub group: String,
    /// Resource plural in most answers, the kind in some.
    pub kind: String,
    /// `(reason, message, field)`.
    pub causes: Vec<(&'static str, String, String)>,
    /// Seconds; repeated as the `Retry-After` header when above zero.
    pub retry_after: u32,
}

impl Details {
    fn of(resource: &Resource, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            group: resource.group.to_owned(),
            kind: resource.plural.to_owned(),
            ..Self::default()
        }
    }

    fn to_json(&self) -> Value {
        let mut out = Map::new();
        for (key, value) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind)] {
            if !value.is_empty() {
                out.insert(key.to_owned(), json!(value));
            }
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(|(reason, message, field)| {
                let mut cause = json!({"reason": reason, "message": message});
                if let (false, Some(cause)) = (field.is_empty(), cause.as_object_mut()) {
                    cause.insert("field".to_owned(), json!(field));
                }
                cause
            });
            out.insert("causes".to_owned(), causes.collect());
        }
        if self.retry_after > 0 {
            out.insert("retryAfterSeconds".to_owned(), json!(self.retry_after));
        }
        Value::Object(out)
    }
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>, details: Option<Details>) -> Self {
        Self { code, reason, message: message.into(), details: details.map(Box::new) }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message, None)
    }

    pub(super) fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.qualified());
        Self::new(404, "NotFound", message, Some(Details::of(resource, name)))
    }

    pub(super) fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified());
        Self::new(409, "AlreadyExists", message, Some(Details::of(resource, name)))
    }

    /// An update based on an object that has changed since.
    pub(super) fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified());
        Self::new(409, "Conflict", message, Some(Details::of(resource, name)))
    }

    pub(super) fn stale(resource: &Resource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// A precondition of a delete failed. Kubernetes puts the *kind* here, not the resource.
    pub(super) fn precondition(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.kind);
        let details = Details { kind: resource.kind.to_owned(), ..Details::of(resource, name) };
        Self::new(409, "Conflict", message, Some(details))
    }

    pub(super) fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is forbidden: {why}", resource.qualified());
        Self::new(403, "Forbidden", message, Some(Details::of(resource, name)))
    }

    /// Creation, evictions included, in a namespace that goes away.
    pub(super) fn namespace_terminating(resource: &Resource, name: &str, namespace: &str) -> Self {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut error = Self::forbidden(resource, name, &why);
        if let Some(details) = error.details.as_mut() {
            let message = format!("namespace {namespace} is being terminated");
            details.causes.push(("NamespaceTerminating", message, "metadata.namespace".to_owned()));
        }
        error
    }

    /// A disruption budget says no. `retry_after` 0 leaves the header out: nothing but a change of the pods will help.
    pub(super) fn budget(cause: String, retry_after: u32) -> Self {
        let details =
            Details { causes: vec![("DisruptionBudget", cause, String::new())], retry_after, ..Details::default() };
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        Self::new(429, "TooManyRequests", message, Some(details))
    }

    /// The one answer that carries no `reason`.
    pub(super) fn several_budgets() -> Self {
        let message =
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        Self::new(500, "", message, None)
    }

    /// A patch that parses but cannot be applied; a failed JSON Patch `test` is the usual case.
    pub(super) fn unprocessable_patch() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Self::new(422, "Invalid", message, Some(Details::default()))
    }

    pub(super) fn invalid(resource: &Resource, name: &str, field: &'static str, why: &str) -> Self {
        let kind = if resource.group.is_empty() {
            resource.kind.to_owned()
        } else {
            format!("{}.{}", resource.kind, resource.group)
        };
        let message = format!("{kind} {name:?} is invalid: {field}: {why}");
        let details = Details {
            kind: resource.kind.to_owned(),
            causes: vec![("FieldValueInvalid", why.to_owned(), field.to_owned())],
            ..Details::of(resource, name)
        };
        Self::new(422, "Invalid", message, Some(details))
    }

    /// Two taints with the same key and effect. Field name and doubled cause are the real server's.
    pub(super) fn duplicate_taint(resource: &Resource, name: &str, at: usize, taint: &Value) -> Self {
        let part = |field: &str| taint.get(field).and_then(Value::as_str).unwrap_or_default();
        let time = taint.get("timeAdded").unwrap_or(&Value::Null);
        let why = format!(
            "Duplicate value: {{\"Key\":{:?},\"Value\":{:?},\"Effect\":{:?},\"TimeAdded\":{time}}}: taints must be unique by key \
             and effect pair",
            part("key"),
            part("value"),
            part("effect"),
        );
        let field = format!("metadata.taints[{at}]");
        let message = format!("{} {name:?} is invalid: {field}: {why}", resource.kind);
        let cause = ("FieldValueDuplicate", why, field);
        let details = Details {
            kind: resource.kind.to_owned(),
            causes: vec![cause.clone(), cause],
            ..Details::of(resource, name)
        };
        Self::new(422, "Invalid", message, Some(details))
    }

    /// A read at a revision the server has not reached.
    pub(super) fn future_revision(wanted: u64, current: u64) -> Self {
        let cause = ("ResourceVersionTooLarge", "Too large resource version".to_owned(), String::new());
        let details = Details { causes: vec![cause], retry_after: 1, ..Details::default() };
        let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
        Self::new(504, "Timeout", message, Some(details))
    }

    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message, None)
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message, Some(Details::default()))
    }

    pub(super) fn unsupported_media_type(accepted: &str) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(415, "UnsupportedMediaType", message, None)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(413, "RequestEntityTooLarge", message, None)
    }

    /// The `Status` object.
    pub fn to_json(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if let Some(map) = status.as_object_mut() {
            if !self.reason.is_empty() {
                map.insert("reason".to_owned(), json!(self.reason));
            }
            if let Some(details) = &self.details {
                map.insert("details".to_owned(), details.to_json());
            }
        }
        status
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = json_response(self.code, &self.to_json());
        let retry_after = self.details.map_or(0, |details| details.retry_after);
        if retry_after > 0 {
            response.headers_mut().insert(header::RETRY_AFTER, retry_after.into());
        }
        response
    }
}

/// `Status: Success` of a delete that does not return the object.
pub(super) fn deleted(resource: &Resource, name: &str, uid: &Value) -> Value {
    let mut details = Details::of(resource, name).to_json();
    if let Some(map) = details.as_object_mut() {
        map.insert("uid".to_owned(), uid.clone());
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// `Status: Success` of a subresource creation (eviction, binding).
pub(super) fn created() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

pub(super) fn json_response(code: u16, body: &Value) -> Response<Body> {
    let mut text = body.to_string();
    text.push('\n');
    let mut response = Response::new(full(text));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
