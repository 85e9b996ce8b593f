//! Kubernetes Events on the own Node: what `kubectl describe node` and event exporters show.
//!
//! Building is pure. An Event's name is derived from the Node and from what happened, so that saying it twice (a retry, a
//! restarted agent) meets the object that is there already: the API server does the de-duplication.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;

use crate::interruption::NodeEvent;

/// Events about cluster-scoped objects live here; `kubectl describe node` looks for them here too.
pub const NAMESPACE: &str = "default";

/// `reportingController`, and the prefix of Event names.
const REPORTER: &str = "spotwarden";

/// The API server refuses a note that is longer (validation of events.k8s.io/v1: 1024 bytes).
const NOTE_LIMIT: usize = 1024;

/// The API server refuses longer values of `reportingInstance`, `reason` and `action` (128 bytes).
const FIELD_LIMIT: usize = 128;

/// Why an Event is not known to be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The API server did not answer in time; it may have the Event all the same.
    #[error("no answer to the event within {0:?}")]
    TimedOut(Duration),
    /// The API server refused it or could not be reached.
    #[error("the event was not accepted: {0}")]
    Failed(#[source] Box<kube::Error>),
}

impl PublishError {
    /// The HTTP status, if there was an answer.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Failed(error) => match error.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::TimedOut(_) => None,
        }
    }

    /// Whether asking again can help: not after a refusal of the Event as such (missing right, invalid field).
    pub fn is_transient(&self) -> bool {
        self.code().is_none_or(|code| matches!(code, 401 | 408 | 429) || code >= 500)
    }
}

/// The Event that tells `event` of the Node. `instance` names the reporting agent: its pod or, failing that, its node.
pub fn node_event(node_name: &str, node_uid: &str, event: &NodeEvent, now: Timestamp, instance: &str) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(event_name(node_uid, &event.key)),
            namespace: Some(NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(if event.warning { "Warning" } else { "Normal" }.into()),
        reason: Some(cut(event.reason, FIELD_LIMIT).into()),
        action: Some(action(event.reason).into()),
        note: Some(cut(&event.note, NOTE_LIMIT).into()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(node_name.into()),
            // kubectl finds a Node's Events by this field.
            uid: Some(node_uid.into()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(REPORTER.into()),
        reporting_instance: Some(cut(instance, FIELD_LIMIT).into()),
        ..Event::default()
    }
}

/// Creates the Event. One that exists already under its name is the same one: success.
pub async fn publish(client: kube::Client, event: &Event, timeout: Duration) -> Result<(), PublishError> {
    let api = kube::Api::<Event>::namespaced(client, NAMESPACE);
    match tokio::time::timeout(timeout, api.create(&PostParams::default(), event)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 && status.reason == "AlreadyExists" => Ok(()),
        Ok(Err(error)) => Err(PublishError::Failed(Box::new(error))),
        Err(_) => Err(PublishError::TimedOut(timeout)),
    }
}

/// What the agent was doing, in the imperative, as `events.k8s.io` asks for.
fn action(reason: &str) -> &'static str {
    match reason {
        "Fenced" => "Fence",
        "DrainStarted" | "DrainFinished" | "DrainIncomplete" => "Drain",
        "Restored" => "Restore",
        _ => "Observe",
    }
}

fn event_name(node_uid: &str, key: &str) -> String {
    // A NUL keeps ("a", "bc") and ("ab", "c") apart; neither part can contain one.
    let hash = fnv1a(node_uid.bytes().chain([0]).chain(key.bytes()));
    format!("{REPORTER}.{hash:016x}")
}

/// FNV-1a, 64 bits. The standard library's hasher may change from release to release; a name must not.
fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The longest start of `text` of at most `limit` bytes that does not cut a character.
fn cut(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use http_body_util::BodyExt as _;
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    fn event() -> NodeEvent {
        NodeEvent {
            key: "notice/spot-interruption".into(),
            reason: "SpotInterruption",
            note: "Terminates at 2026-11-21T10:02:00Z.".into(),
            warning: true,
        }
    }

    fn built(event: &NodeEvent) -> Event {
        node_event("ip-10-0-0-1", "uid-1", event, "2026-11-21T10:00:00.5Z".parse().unwrap(), "spotwarden-abc")
    }

    #[test]
    fn the_event_on_the_wire_is_what_the_api_asks_for() {
        assert_eq!(
            serde_json::to_value(built(&event())).unwrap(),
            json!({
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": "spotwarden.4f92000b4810c9d2", "namespace": "default"},
                "eventTime": "2026-11-21T10:00:00.500000Z",
                "type": "Warning",
                "reason": "SpotInterruption",
                "action": "Observe",
                "note": "Terminates at 2026-11-21T10:02:00Z.",
                "regarding": {"apiVersion": "v1", "kind": "Node", "name": "ip-10-0-0-1", "uid": "uid-1"},
                "reportingController": "spotwarden",
                "reportingInstance": "spotwarden-abc",
            })
        );
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // Test vectors of the algorithm's authors.
        assert_eq!(fnv1a(b"".iter().copied()), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a".iter().copied()), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar".iter().copied()), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_name_depends_on_the_node_and_on_the_key_and_on_nothing_else() {
        let name = |uid: &str, key: &str| event_name(uid, key);
        assert_eq!(name("uid-1", "fenced"), name("uid-1", "fenced"));
        assert_ne!(name("uid-1", "fenced"), name("uid-2", "fenced"));
        assert_ne!(name("uid-1", "fenced"), name("uid-1", "drained"));
        assert_ne!(name("ab", "c"), name("a", "bc"));
    }

    #[test]
    fn a_long_note_is_cut_at_a_character() {
        let note = format!("x{}", "é".repeat(600));
        let built = built(&NodeEvent { note, warning: false, ..event() });
        let note = built.note.unwrap();
        assert_eq!(note.len(), 1023, "1024 bytes would end within a character");
        assert!(note.ends_with('é'));
        assert_eq!(built.type_.as_deref(), Some("Normal"));
    }

    /// A client whose API server gives this answer to everything, and the bodies that it got.
    fn client(code: u16, answer: serde_json::Value) -> (kube::Client, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (log, answer) = (log.clone(), answer.to_string());
            async move {
                let line = format!("{} {}", request.method(), request.uri().path());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                log.lock().unwrap().push(format!("{line} {}", String::from_utf8_lossy(&body)));
                let response = Response::builder().status(code).body(Body::from(answer.into_bytes())).unwrap();
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        (kube::Client::new(service, "default"), seen)
    }

    fn status(code: u16, reason: &str) -> serde_json::Value {
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": "m"})
    }

    #[tokio::test]
    async fn publishing_creates_the_event_in_the_default_namespace() {
        let event = built(&event());
        let (client, seen) = client(201, serde_json::to_value(&event).unwrap());
        publish(client, &event, Duration::from_secs(5)).await.unwrap();
        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen.len(), 1);
        assert!(seen[0].starts_with("POST /apis/events.k8s.io/v1/namespaces/default/events {"), "{seen:?}");
    }

    #[tokio::test]
    async fn an_event_that_exists_already_is_published() {
        let (client, _) = client(409, status(409, "AlreadyExists"));
        publish(client, &built(&event()), Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test]
    async fn a_refusal_is_reported_with_its_code() {
        let (client, _) = client(403, status(403, "Forbidden"));
        let error = publish(client, &built(&event()), Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.code(), Some(403));
    }

    #[tokio::test]
    async fn only_a_refusal_of_the_event_itself_is_final() {
        for (code, transient) in [(401, true), (403, false), (404, false), (422, false), (429, true), (503, true)] {
            let (client, _) = client(code, status(code, "X"));
            let error = publish(client, &built(&event()), Duration::from_secs(5)).await.unwrap_err();
            assert_eq!(error.is_transient(), transient, "{code}");
        }
        assert!(PublishError::TimedOut(Duration::from_secs(1)).is_transient());
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_never_answers_costs_the_timeout_only() {
        let service = tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, std::convert::Infallible>>()
        });
        let client = kube::Client::new(service, "default");
        let start = tokio::time::Instant::now();
        let error = publish(client, &built(&event()), Duration::from_secs(2)).await.unwrap_err();
        assert!(matches!(error, PublishError::TimedOut(_)), "{error}");
        assert_eq!(start.elapsed(), Duration::from_secs(2));
    }
}
