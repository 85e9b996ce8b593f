//! Carries out what the machine decided: one request per effect, each with its own time-out, never retried here.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::eviction::classify;
use super::node::NodeView;
use super::wire::WireNode;
use crate::drain::eviction::EvictionAnswer;
use crate::drain::pod::{FORCED_REASON, PodRef};
use crate::interruption::{PatchAnswer, Stop};

/// A Node with all its images is far below this.
const LARGEST_ANSWER: usize = 4 << 20;
/// A GET of the own Node, and the status patch that precedes a forced deletion.
const SHORT_CALL: Duration = Duration::from_secs(2);
/// A probe may take as long as an eviction, whose contended budget is retried in the API server.
const PROBE_TIMEOUT: Duration = Duration::from_secs(12);
/// Owner of the fields that we write.
pub const FIELD_MANAGER: &str = "spotwarden";

/// The calls that change the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    client: Client,
    node_name: String,
}

/// An answer, whatever its status.
struct Answer {
    code: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Api {
    /// Calls on behalf of the node `node_name`.
    pub fn new(client: Client, node_name: impl Into<String>) -> Self {
        Self { client, node_name: node_name.into() }
    }

    /// PATCHes the own Node (JSON Patch). After a refusal the Node is read again: only a look at it tells a guard that no
    /// longer holds from a patch that is not allowed.
    pub async fn patch_node(&self, ops: &Value, timeout: Duration) -> PatchAnswer {
        let path = format!("/api/v1/nodes/{}?fieldManager={FIELD_MANAGER}", self.node_name);
        let answer = match self.send(Method::PATCH, &path, "application/json-patch+json", ops, timeout).await {
            Ok(answer) => answer,
            Err(reason) => return PatchAnswer::Failed(reason),
        };
        match answer.code.as_u16() {
            200..=299 => match node_view(&answer.body) {
                Ok(view) => PatchAnswer::Applied(view),
                Err(reason) => PatchAnswer::Failed(reason),
            },
            401 | 408 | 429 | 500..=599 => PatchAnswer::Failed(format!("{} {}", answer.code, message(&answer.body))),
            status => PatchAnswer::Refused { status, message: message(&answer.body), fresh: self.read_node().await },
        }
    }

    /// Asks for an eviction. The body is our own: kube's `evict` spells `deleteOptions` in a way that the server ignores.
    pub async fn evict(&self, stop: &Stop) -> EvictionAnswer {
        let PodRef { namespace, name, .. } = &stop.pod;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
        self.stop(Method::POST, &path, &eviction_body(stop), stop.timeout).await
    }

    /// Asks whether an eviction would be refused now: the budget is looked at, nothing is written.
    pub async fn probe(&self, pod: &PodRef) -> EvictionAnswer {
        let PodRef { namespace, name, .. } = pod;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction?dryRun=All");
        self.stop(Method::POST, &path, &probe_body(pod), PROBE_TIMEOUT).await
    }

    /// Deletes a pod.
    pub async fn delete(&self, stop: &Stop) -> EvictionAnswer {
        let PodRef { namespace, name, .. } = &stop.pod;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        self.stop(Method::DELETE, &path, &delete_body(stop), stop.timeout).await
    }

    /// Sets the pod condition `DisruptionTarget`. A plain deletion does not, and a Job would count a failure.
    pub async fn mark_disruption(&self, pod: &PodRef) -> Result<(), String> {
        let path =
            format!("/api/v1/namespaces/{}/pods/{}/status?fieldManager={FIELD_MANAGER}", pod.namespace, pod.name);
        let body = json!({
            "metadata": { "uid": pod.uid },
            "status": { "conditions": [{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": FORCED_REASON,
                "message": "spotwarden: deleted past a refused eviction, the node is about to lose power",
            }] },
        });
        let answer =
            self.send(Method::PATCH, &path, "application/strategic-merge-patch+json", &body, SHORT_CALL).await?;
        if answer.code.is_success() { Ok(()) } else { Err(format!("{} {}", answer.code, message(&answer.body))) }
    }

    async fn stop(&self, method: Method, path: &str, body: &Value, timeout: Duration) -> EvictionAnswer {
        match self.send(method, path, "application/json", body, timeout).await {
            Ok(answer) => classify(answer.code, &answer.headers, &answer.body),
            Err(reason) => EvictionAnswer::Unknown(reason),
        }
    }

    async fn read_node(&self) -> Option<NodeView> {
        let path = format!("/api/v1/nodes/{}", self.node_name);
        let answer = self.send(Method::GET, &path, "application/json", &Value::Null, SHORT_CALL).await.ok()?;
        if answer.code.is_success() { node_view(&answer.body).ok() } else { None }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &Value,
        timeout: Duration,
    ) -> Result<Answer, String> {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content_type)
            .header(http::header::ACCEPT, "application/json")
            .body(Body::from(bytes))
            .map_err(|error| error.to_string())?;
        let exchange = async {
            let response = self.client.send(request).await.map_err(|error| error.to_string())?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(|error| error.to_string())?;
            Ok(Answer { code: parts.status, headers: parts.headers, body: body.to_bytes() })
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {:.1} s", timeout.as_secs_f64())),
        }
    }
}

/// `dryRun` in query and body must agree (API convention).
fn probe_body(pod: &PodRef) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": pod.name, "namespace": pod.namespace },
        "deleteOptions": { "dryRun": ["All"], "preconditions": { "uid": pod.uid } },
    })
}

fn eviction_body(stop: &Stop) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": stop.pod.name, "namespace": stop.pod.namespace },
        "deleteOptions": { "gracePeriodSeconds": stop.grace_seconds, "preconditions": { "uid": stop.pod.uid } },
    })
}

fn delete_body(stop: &Stop) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": stop.grace_seconds,
        "preconditions": { "uid": stop.pod.uid },
    })
}

fn node_view(body: &[u8]) -> Result<NodeView, String> {
    let node: WireNode = serde_json::from_slice(body).map_err(|error| format!("unreadable Node: {error}"))?;
    Ok(node.view)
}

/// The server's words: a Status' message, else the start of whatever came.
fn message(body: &[u8]) -> String {
    let status: Option<Value> = serde_json::from_slice(body).ok();
    let text = status.as_ref().and_then(|status| status.get("message")?.as_str());
    let text = text.map_or_else(|| String::from_utf8_lossy(body), Into::into);
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Method, URI and body of each request.
    type Asked = Arc<Mutex<Vec<(String, String, Value)>>>;

    /// Gives the answers in order and keeps what was asked.
    fn api(answers: &[(u16, &'static str)]) -> (Api, Asked) {
        let asked: Asked = Arc::default();
        let answers = Arc::new(Mutex::new(answers.to_vec()));
        let log = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (log, answers) = (log.clone(), answers.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                log.lock().unwrap().push((parts.method.to_string(), parts.uri.to_string(), body));
                let (code, body) = answers.lock().unwrap().remove(0);
                let response = http::Response::builder().status(code).body(Body::from(body.as_bytes().to_vec()));
                Ok::<_, Infallible>(response.unwrap())
            }
        });
        (Api::new(Client::new(service, "default"), "n1"), asked)
    }

    fn stop() -> Stop {
        let pod = PodRef { namespace: "shop".into(), name: "web-0".into(), uid: "u1".into() };
        Stop { pod, grace_seconds: 27, timeout: Duration::from_secs(1) }
    }

    /// The client library's own eviction spells the key `delete_options`, which the API server silently ignores.
    #[tokio::test]
    async fn an_eviction_carries_grace_and_uid_under_the_name_that_the_server_reads() {
        let (api, asked) = api(&[(201, "{}")]);
        assert_eq!(api.evict(&stop()).await, EvictionAnswer::Accepted);
        let expected = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web-0", "namespace": "shop"},
            "deleteOptions": {"gracePeriodSeconds": 27, "preconditions": {"uid": "u1"}},
        });
        let path = "/api/v1/namespaces/shop/pods/web-0/eviction";
        assert_eq!(*asked.lock().unwrap(), [("POST".to_owned(), path.to_owned(), expected)]);
    }

    #[tokio::test]
    async fn a_deletion_carries_grace_and_uid() {
        let (api, asked) = api(&[(200, "{}")]);
        assert_eq!(api.delete(&stop()).await, EvictionAnswer::Accepted);
        let (method, path, body) = asked.lock().unwrap().remove(0);
        assert_eq!((method.as_str(), path.as_str()), ("DELETE", "/api/v1/namespaces/shop/pods/web-0"));
        assert_eq!((&body["gracePeriodSeconds"], &body["preconditions"]["uid"]), (&json!(27), &json!("u1")));
    }

    #[tokio::test(start_paused = true)]
    async fn one_refusal_is_one_request_and_takes_no_time() {
        let (api, asked) = api(&[(429, "Too many requests"), (503, "no")]);
        let start = tokio::time::Instant::now();
        assert!(matches!(api.evict(&stop()).await, EvictionAnswer::Throttled(_)));
        assert!(matches!(api.evict(&stop()).await, EvictionAnswer::Unknown(_)));
        assert_eq!((asked.lock().unwrap().len(), start.elapsed()), (2, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_costs_the_time_out_and_no_more() {
        let silent =
            tower::service_fn(|_: Request<Body>| std::future::pending::<Result<http::Response<Body>, Infallible>>());
        let api = Api::new(Client::new(silent, "default"), "n1");
        let start = tokio::time::Instant::now();
        assert!(matches!(api.evict(&stop()).await, EvictionAnswer::Unknown(reason) if reason.contains("1.0 s")));
        assert!(start.elapsed() < Duration::from_millis(1010), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_refused_patch_brings_the_node_as_it_is_now() {
        let denied = r#"{"kind":"Status","message":"a policy says no","reason":"Invalid","code":422}"#;
        let node = r#"{"metadata":{"name":"n1","uid":"u"},"spec":{"unschedulable":true}}"#;
        let (api, asked) = api(&[(422, denied), (200, node)]);
        let answer = api.patch_node(&json!([]), Duration::from_secs(1)).await;
        let PatchAnswer::Refused { status: 422, message, fresh: Some(fresh) } = answer else { panic!("{answer:?}") };
        assert_eq!((message.as_str(), fresh.unschedulable), ("a policy says no", Some(true)));
        assert_eq!(asked.lock().unwrap()[1].0, "GET");
    }

    #[tokio::test]
    async fn an_answer_cut_in_the_middle_leaves_the_patch_open() {
        let (api, _) = api(&[(200, r#"{"metadata":{"na"#)]);
        assert!(matches!(api.patch_node(&json!([]), Duration::from_secs(1)).await, PatchAnswer::Failed(_)));
    }
}
