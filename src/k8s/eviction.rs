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

    /// The UID precondition failed. Storage and registry put it differently: `Precondition failed: UID in precondition`
    /// and `the UID in the precondition`.
    fn names_the_uid(&self) -> bool {
        self.message.contains("UID in precondition") || self.message.contains("UID in the precondition")
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
        // Contention on the budget's own object; the pod is still the same.
        409 if status.details.kind == "poddisruptionbudgets" || status.details.group == "policy" => {
            EvictionAnswer::Unknown(status.words())
        }
        404 => EvictionAnswer::Gone,
        409 if status.names_the_uid() => EvictionAnswer::Gone,
        // Some other conflict, or a webhook that chose this code: the pod may be there as before.
        409 => EvictionAnswer::Unknown(status.words()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    /// A failure as the API server writes it.
    fn failure(code: u16, message: &str, details: &Value) -> String {
        json!({"kind": "Status", "status": "Failure", "message": message, "details": details, "code": code}).to_string()
    }

    fn budget() -> String {
        let cause = json!({"reason": "DisruptionBudget",
            "message": "The disruption budget web needs 1 healthy pods and has 1 currently"});
        failure(429, "Cannot evict pod as it would violate the pod's disruption budget.", &json!({"causes": [cause]}))
    }

    fn answer(code: u16, retry_after: Option<&str>, body: &str) -> EvictionAnswer {
        let mut headers = HeaderMap::new();
        if let Some(seconds) = retry_after {
            headers.insert(http::header::RETRY_AFTER, seconds.parse().unwrap());
        }
        classify(StatusCode::from_u16(code).unwrap(), &headers, body.as_bytes())
    }

    #[rstest]
    #[case::created(201, "{}")]
    #[case::ok(200, "")]
    fn any_success_means_that_the_stop_was_asked_for(#[case] code: u16, #[case] body: &str) {
        assert_eq!(answer(code, None, body), EvictionAnswer::Accepted);
    }

    #[rstest]
    #[case::spent(None)]
    #[case::not_yet_seen_by_its_controller(Some("10"))]
    fn a_budgets_refusal_names_the_budget(#[case] retry_after: Option<&str>) {
        let words = "The disruption budget web needs 1 healthy pods and has 1 currently";
        assert_eq!(answer(429, retry_after, &budget()), EvictionAnswer::Blocked(words.into()));
    }

    #[test]
    fn two_budgets_on_one_pod_count_as_blocked() {
        let words = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        assert_eq!(answer(500, None, &failure(500, words, &json!({}))), EvictionAnswer::Blocked(words.into()));
    }

    #[rstest]
    #[case::priority_and_fairness(Some("1"), Some(1))]
    #[case::shutting_down(Some("5"), Some(5))]
    #[case::no_header(None, None)]
    #[case::a_date(Some("Wed, 21 Oct 2026 07:28:00 GMT"), None)]
    fn any_other_429_is_throttling(#[case] header: Option<&str>, #[case] seconds: Option<u64>) {
        let expected = EvictionAnswer::Throttled(seconds.map(Duration::from_secs));
        assert_eq!(answer(429, header, "Too many requests, please try again later.\n"), expected);
    }

    #[test]
    fn the_two_conflicts_are_told_apart() {
        let uid = failure(409, "the UID in the precondition does not match", &json!({"name": "web", "kind": "Pod"}));
        let details = json!({"name": "web", "group": "policy", "kind": "poddisruptionbudgets"});
        let contention = failure(409, "the object has been modified", &details);
        assert_eq!(answer(409, None, &uid), EvictionAnswer::Gone);
        assert_eq!(answer(409, None, &contention), EvictionAnswer::Unknown("the object has been modified".into()));
    }

    #[rstest]
    #[case::storage(
        "Operation cannot be fulfilled on pods \"web\": StorageError: invalid object, Code: 4, Key: /registry/pods/shop/web, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: u1, UID in object meta: u2",
        true
    )]
    #[case::registry(
        "Operation cannot be fulfilled on Pod \"web\": the UID in the precondition (u1) does not match the UID in record (u2). The object might have been deleted and then recreated",
        true
    )]
    #[case::changed(
        "Operation cannot be fulfilled on pods \"web\": the object has been modified; please apply your changes to the latest version and try again",
        false
    )]
    #[case::webhook("admission webhook \"freeze.example.com\" denied the request: not now", false)]
    fn only_a_conflict_about_the_uid_tells_that_the_pod_is_gone(#[case] message: &str, #[case] gone: bool) {
        let body = failure(409, message, &json!({"name": "web", "kind": "pods"}));
        let expected = if gone { EvictionAnswer::Gone } else { EvictionAnswer::Unknown(message.into()) };
        assert_eq!(answer(409, None, &body), expected);
    }

    #[test]
    fn a_403_of_a_terminating_namespace_is_not_a_missing_right() {
        let causes =
            json!({"causes": [{"reason": "NamespaceTerminating", "message": "namespace x is being terminated"}]});
        let terminating = failure(403, "unable to create new content in namespace x", &causes);
        let no_right = failure(403, "cannot create resource", &json!({"name": "web", "kind": "pods"}));
        assert_eq!(answer(403, None, &terminating), EvictionAnswer::NamespaceTerminating);
        assert!(
            matches!(answer(403, None, &no_right), EvictionAnswer::Refused(words) if words.contains("cannot create"))
        );
    }

    #[test]
    fn an_absent_pod_is_gone() {
        assert_eq!(answer(404, None, ""), EvictionAnswer::Gone);
    }

    #[rstest]
    fn trouble_on_the_way_leaves_the_answer_open(#[values(401, 408, 500, 502, 503, 504)] code: u16) {
        assert!(matches!(answer(code, None, "<html>bad gateway</html>"), EvictionAnswer::Unknown(_)));
    }

    #[rstest]
    #[case(400, "{")]
    #[case(405, "\u{0}\u{1}")]
    #[case(422, "{\"details\": 7}")]
    fn a_body_that_makes_no_sense_does_no_harm(#[case] code: u16, #[case] body: &str) {
        assert!(matches!(answer(code, None, body), EvictionAnswer::Refused(_)));
    }
}
