//! From the API server's answer to its meaning.
//!
//! Status and headers are looked at first, the body second: throttling answers are plain text. The cases are those of the
//! eviction handler of kube-apiserver (policy/v1).

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::drain::eviction::EvictionAnswer;

/// Fixed text of the API server when two budgets select one pod; it comes with code 500 and an empty reason.
const TWO_BUDGETS: &str = "more than one PodDisruptionBudget";

/// The parts of a `metav1.Status` that tell cases apart.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    message: String,
    details: Details,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    group: String,
    kind: String,
    causes: Vec<Cause>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
}

impl Status {
    fn has_cause(&self, reason: &str) -> bool {
        self.details.causes.iter().any(|cause| cause.reason == reason)
    }

    /// The most telling sentence: the cause names the budget, the message does not.
    fn words(&self) -> String {
        let cause = self.details.causes.iter().map(|cause| cause.message.as_str()).find(|message| !message.is_empty());
        cause.unwrap_or(&self.message).to_owned()
    }
}

/// What an answer to an eviction or to a deletion of a pod means.
pub fn classify(code: StatusCode, headers: &HeaderMap, body: &[u8]) -> EvictionAnswer {
    let status: Status = serde_json::from_slice(body).unwrap_or_default();
    match code.as_u16() {
        200..=299 => EvictionAnswer::Accepted,
        404 => EvictionAnswer::Gone,
        // Contention on the budget's own object; the pod is still the same.
        409 if status.details.kind == "poddisruptionbudgets" || status.details.group == "policy" => {
            EvictionAnswer::Unknown(status.words())
        }
        409 => EvictionAnswer::Gone,
        429 if status.has_cause("DisruptionBudget") => EvictionAnswer::Blocked(status.words()),
        429 => EvictionAnswer::Throttled(retry_after(headers)),
        403 if status.has_cause("NamespaceTerminating") => EvictionAnswer::NamespaceTerminating,
        500 if status.message.contains(TWO_BUDGETS) => EvictionAnswer::Blocked(status.message),
        // The token was rotated under us, or the server is in trouble: the same request may succeed next time.
        401 | 408 | 500..=599 => EvictionAnswer::Unknown(format!("{code} {}", excerpt(&status, body))),
        _ => EvictionAnswer::Refused(format!("{code} {}", excerpt(&status, body))),
    }
}

/// `Retry-After` in seconds; the date form is not used by the API server.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn excerpt(status: &Status, body: &[u8]) -> String {
    if status.message.is_empty() {
        String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(200).collect()
    } else {
        status.message.chars().take(300).collect()
    }
}
