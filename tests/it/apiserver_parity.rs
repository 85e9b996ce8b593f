//! The same questions for the simulated API server and for a real one.
//!
//! [`answers`] puts them to whatever a `kube::Client` talks to and returns the answers with the volatile parts (uids,
//! times, revisions) replaced. `tests/golden/apiserver` holds the answers of a real Kubernetes 1.36 control plane (API
//! server and disruption controller); the simulated server has to give the same.

use std::{cell::RefCell, collections::BTreeMap, path::Path, time::Duration};

use http::Request;
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use spotwarden::{clock::Clock, sim::apiserver::ApiServer};

use crate::controlplane::ControlPlane;

const JSON: &str = "application/json";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// How long a real controller may take to follow.
const PATIENCE: u32 = 200;
const WRONG_UID: &str = "00000000-0000-0000-0000-000000000000";

/// Runs every case against `client`. `forget` makes the server forget its watch history: compaction for the simulated
/// one, a restart for a real one. Creates namespaces and nodes with the prefix `parity-`, so the server must be fresh.
async fn answers(client: &Client, forget: impl AsyncFnOnce()) -> BTreeMap<&'static str, Value> {
    let mut out = BTreeMap::new();
    let asker = |namespace: &'static str| Asker::new(client, namespace);
    out.insert("eviction", eviction(asker("parity-evict").await).await);
    out.insert("eviction-budget", eviction_budget(asker("parity-budget").await).await);
    out.insert("eviction-two-budgets", eviction_two_budgets(asker("parity-two").await).await);
    out.insert("eviction-unready", eviction_unready(asker("parity-unready").await).await);
    out.insert("eviction-selectors", eviction_selectors(asker("parity-selectors").await).await);
    out.insert("eviction-terminating", eviction_terminating(asker("parity-ending").await).await);
    out.insert("delete", delete(asker("parity-delete").await).await);
    out.insert("conflict", conflict(asker("parity-conflict").await).await);
    out.insert("json-patch", json_patch(asker("parity-patch").await).await);
    out.insert("merge-patch", merge_patch(asker("parity-merge").await).await);
    out.insert("create", create(asker("parity-create").await).await);
    out.insert("list", list(asker("parity-list").await).await);
    out.insert("watch", watch(asker("parity-watch").await).await);
    forget().await;
    out.insert("watch-expired", watch_expired(asker("parity-expired").await).await);
    out
}

/// Asks and writes down.
struct Asker {
    client: Client,
    namespace: &'static str,
    exchanges: Vec<Value>,
}

impl Asker {
    async fn new(client: &Client, namespace: &'static str) -> Self {
        let asker = Self { client: client.clone(), namespace, exchanges: Vec::new() };
        asker.make("/api/v1/namespaces", json!({"metadata": {"name": namespace}})).await;
        asker
    }

    async fn send(&self, method: &str, path: &str, content_type: &str, body: &Value) -> (u16, Value, Value) {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        let response = self.client.send(request.body(Body::from(bytes)).unwrap()).await.unwrap();
        let code = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let lines: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(&bytes).into_iter().collect();
        let body = match lines {
            Ok(mut one) if one.len() == 1 && !path.contains("watch=") => one.remove(0),
            Ok(lines) => Value::Array(lines),
            Err(_) => json!(String::from_utf8_lossy(&bytes)),
        };
        (code, json!(retry_after), body)
    }

    /// Asks for the record.
    async fn ask(&mut self, method: &str, path: &str, content_type: &str, body: Value) -> Value {
        let (code, retry_after, answer) = self.send(method, path, content_type, &body).await;
        self.exchanges.push(normalised(json!({
            "request": {"method": method, "path": path, "contentType": content_type, "body": body},
            "answer": {"status": code, "retryAfter": retry_after, "body": answer.clone()},
        })));
        answer
    }

    async fn make(&self, path: &str, body: Value) -> Value {
        let (code, _, answer) = self.send("POST", path, JSON, &body).await;
        assert_eq!(code, 201, "{path}: {answer}");
        answer
    }

    fn pods(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.namespace)
    }

    fn pod(&self, name: &str) -> String {
        format!("{}/{name}", self.pods())
    }

    async fn make_pod(&self, name: &str, phase: &str, ready: bool) -> Value {
        let made = self.make(&self.pods(), pod(name, "parity-node")).await;
        let ready = if ready { "True" } else { "False" };
        let conditions = json!([{"type": "Ready", "status": ready}]);
        let status = json!({"status": {"phase": phase, "conditions": conditions}});
        let (code, _, answer) = self.send("PATCH", &format!("{}/status", self.pod(name)), MERGE, &status).await;
        assert_eq!(code, 200, "{answer}");
        made
    }

    /// Creates a budget and waits until the disruption controller has seen it and allows `allowed`.
    async fn make_budget(&self, name: &str, spec: Value, allowed: i64) {
        let path = format!("/apis/policy/v1/namespaces/{}/poddisruptionbudgets", self.namespace);
        self.make(&path, json!({"metadata": {"name": name}, "spec": spec})).await;
        for _ in 0..PATIENCE {
            let (_, _, pdb) = self.send("GET", &format!("{path}/{name}"), JSON, &Value::Null).await;
            let seen = pdb["status"]["observedGeneration"] == pdb["metadata"]["generation"];
            if seen && pdb["status"]["disruptionsAllowed"] == allowed {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("budget {name} never allowed {allowed}");
    }

    async fn evict(&mut self, name: &str, options: Value) {
        let path = format!("{}/eviction", self.pod(name));
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction",
                          "metadata": {"name": name, "namespace": self.namespace}, "deleteOptions": options});
        self.ask("POST", &path, JSON, body).await;
    }

    async fn delete(&mut self, name: &str, options: Value) {
        self.ask("DELETE", &self.pod(name), JSON, options).await;
    }

    async fn get(&mut self, name: &str) -> Value {
        self.ask("GET", &self.pod(name), JSON, Value::Null).await
    }

    fn done(self) -> Value {
        Value::Array(self.exchanges)
    }
}

fn pod(name: &str, node: &str) -> Value {
    let mut spec = json!({
        "serviceAccountName": "default", "automountServiceAccountToken": false, "enableServiceLinks": false,
        "containers": [{"name": "main", "image": "example.invalid/web"}],
    });
    if !node.is_empty() {
        spec["nodeName"] = json!(node);
    }
    json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec})
}

fn budget(extra: &Value) -> Value {
    let mut spec = json!({"selector": {"matchLabels": {"app": "web"}}});
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

fn revision(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}

// ---- the questions --------------------------------------------------------------------------------------------------

async fn eviction(mut a: Asker) -> Value {
    a.make_pod("web", "Running", true).await;
    a.evict("absent", json!({})).await;
    a.evict("web", json!({"preconditions": {"uid": WRONG_UID}})).await;
    a.evict("web", json!({"dryRun": ["All"]})).await;
    let path = format!("{}/eviction", a.pod("web"));
    a.ask("POST", &path, JSON, json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "other"}}))
        .await;
    a.get("web").await;
    a.evict("web", json!({"gracePeriodSeconds": 20})).await;
    a.get("web").await;
    a.evict("web", json!({"gracePeriodSeconds": 5})).await;
    a.get("web").await;
    a.make_pod("misspelt", "Running", true).await;
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "misspelt"},
                      "delete_options": {"gracePeriodSeconds": 3}});
    a.ask("POST", &format!("{}/eviction", a.pod("misspelt")), JSON, body).await;
    a.get("misspelt").await;
    a.make_pod("queried", "Running", true).await;
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "queried"}});
    a.ask("POST", &format!("{}/eviction?dryRun=All", a.pod("queried")), JSON, body).await;
    a.get("queried").await;
    a.done()
}

async fn eviction_budget(mut a: Asker) -> Value {
    a.make_pod("web", "Running", true).await;
    a.make_pod("waiting", "Pending", false).await;
    a.make_pod("succeeded", "Succeeded", false).await;
    a.make_pod("failed", "Failed", false).await;
    a.make_budget("one", budget(&json!({"minAvailable": 1})), 0).await;
    a.evict("web", json!({"dryRun": ["All"]})).await;
    a.evict("web", json!({})).await;
    for name in ["waiting", "succeeded", "failed"] {
        a.evict(name, json!({})).await;
        a.get(name).await;
    }
    // A pod that is going already is evicted again without asking the budget.
    a.delete("web", json!({"gracePeriodSeconds": 30})).await;
    a.evict("web", json!({"gracePeriodSeconds": 7})).await;
    a.get("web").await;
    a.done()
}

async fn eviction_two_budgets(mut a: Asker) -> Value {
    a.make_pod("web", "Running", true).await;
    a.make_budget("one", budget(&json!({"minAvailable": 0})), 1).await;
    a.make_budget("two", budget(&json!({"minAvailable": 0})), 1).await;
    a.evict("web", json!({})).await;
    a.done()
}

async fn eviction_unready(mut a: Asker) -> Value {
    a.make_pod("sick", "Running", false).await;
    a.make_pod("well", "Running", true).await;
    a.make_budget("strict", budget(&json!({"minAvailable": 2})), 0).await;
    a.evict("sick", json!({})).await;
    let path = format!("/apis/policy/v1/namespaces/{}/poddisruptionbudgets/strict", a.namespace);
    a.send("DELETE", &path, JSON, &Value::Null).await;
    let lenient = json!({"minAvailable": 2, "unhealthyPodEvictionPolicy": "AlwaysAllow"});
    a.make_budget("lenient", budget(&lenient), 0).await;
    a.evict("sick", json!({})).await;
    a.get("sick").await;
    a.done()
}

async fn eviction_selectors(mut a: Asker) -> Value {
    a.make_pod("web", "Running", true).await;
    a.make_budget("null", json!({"minAvailable": 9, "selector": null}), 0).await;
    a.evict("web", json!({"dryRun": ["All"]})).await;
    a.make_budget("everything", json!({"minAvailable": 9, "selector": {}}), 0).await;
    a.evict("web", json!({"dryRun": ["All"]})).await;
    a.done()
}

async fn eviction_terminating(mut a: Asker) -> Value {
    a.make_pod("web", "Running", true).await;
    let namespace = format!("/api/v1/namespaces/{}", a.namespace);
    a.send("DELETE", &namespace, JSON, &Value::Null).await;
    a.evict("web", json!({})).await;
    a.ask("POST", &a.pods(), JSON, pod("new", "parity-node")).await;
    a.done()
}

async fn delete(mut a: Asker) -> Value {
    a.make_pod("web", "Running", true).await;
    a.delete("absent", json!({})).await;
    a.delete("web", json!({"preconditions": {"uid": WRONG_UID}})).await;
    a.delete("web", json!({"preconditions": {"resourceVersion": "1"}})).await;
    a.ask("DELETE", &format!("{}?dryRun=All", a.pod("web")), JSON, json!({"gracePeriodSeconds": 60})).await;
    for grace in [60, 40, 50, 60] {
        a.delete("web", json!({"gracePeriodSeconds": grace})).await;
    }
    a.delete("web", Value::Null).await;
    a.delete("web", json!({"gracePeriodSeconds": 0})).await;
    a.get("web").await;
    for phase in ["Succeeded", "Failed"] {
        a.make_pod("finished", phase, false).await;
        a.delete("finished", json!({"gracePeriodSeconds": 30})).await;
        a.get("finished").await;
    }
    a.make(&a.pods(), pod("unscheduled", "")).await;
    a.delete("unscheduled", Value::Null).await;
    a.get("unscheduled").await;
    a.make_pod("negative", "Running", true).await;
    a.delete("negative", json!({"gracePeriodSeconds": -7})).await;
    a.make("/api/v1/nodes", json!({"metadata": {"name": "parity-deleted"}})).await;
    a.ask("DELETE", "/api/v1/nodes/parity-deleted", JSON, Value::Null).await;
    a.ask("DELETE", "/api/v1/nodes/parity-deleted", JSON, Value::Null).await;
    a.done()
}

async fn conflict(mut a: Asker) -> Value {
    let path = "/api/v1/nodes/parity-conflict";
    let mut stale = a.make("/api/v1/nodes", json!({"metadata": {"name": "parity-conflict"}})).await;
    let label = json!({"metadata": {"labels": {"a": "1"}}});
    let fresh = a.ask("PATCH", path, MERGE, label).await;
    a.ask("PUT", path, JSON, stale.clone()).await;
    let old = json!({"metadata": {"resourceVersion": revision(&stale)}, "spec": {"unschedulable": true}});
    a.ask("PATCH", path, MERGE, old.clone()).await;
    a.ask("PATCH", path, STRATEGIC, old).await;
    let current = json!({"metadata": {"resourceVersion": revision(&fresh)}, "spec": {"unschedulable": true}});
    a.ask("PATCH", path, MERGE, current).await;
    stale["metadata"]["resourceVersion"] = Value::Null;
    stale["metadata"]["uid"] = json!(WRONG_UID);
    a.ask("PUT", path, JSON, stale.clone()).await;
    stale["metadata"]["name"] = json!("other");
    a.ask("PUT", path, JSON, stale).await;
    a.ask("PUT", "/api/v1/nodes/absent", JSON, json!({"metadata": {"name": "absent"}})).await;
    a.ask("PATCH", "/api/v1/nodes/absent", MERGE, json!({"metadata": {"labels": {"a": "1"}}})).await;
    a.done()
}

async fn json_patch(mut a: Asker) -> Value {
    let taint = |key: &str| json!({"key": key, "effect": "NoSchedule"});
    let path = "/api/v1/nodes/parity-json-patch";
    a.make("/api/v1/nodes", json!({"metadata": {"name": "parity-json-patch"}})).await;
    for patch in [
        json!([{"op": "add", "path": "/spec/taints/-", "value": taint("a")}]),
        json!([{"op": "remove", "path": "/spec/taints"}]),
        json!([{"op": "replace", "path": "/metadata/labels", "value": {"a": "1"}}]),
        json!([{"op": "replace", "path": "/metadata/annotations/x", "value": "1"}]),
        json!([{"op": "test", "path": "/metadata/annotations/x", "value": null}]),
        json!([{"op": "add", "path": "/metadata/annotations/x", "value": "1"}]),
        json!([{"op": "test", "path": "/spec/taints", "value": []}]),
        json!([{"op": "test", "path": "/spec/taints"}, {"op": "add", "path": "/metadata/labels", "value": {"b": "1"}}]),
        json!([{"op": "test", "path": "/spec/taints", "value": null},
               {"op": "add", "path": "/spec/taints", "value": [taint("a")]}]),
        json!([{"op": "test", "path": "/spec/taints", "value": null}]),
        json!([{"op": "test", "path": "/spec/taints", "value": [taint("b")]}]),
        json!([{"op": "test", "path": "/spec/taints", "value": [taint("a")]},
               {"op": "add", "path": "/spec/taints/-", "value": taint("c")},
               {"op": "add", "path": "/spec/unschedulable", "value": true}]),
        json!([{"op": "add", "path": "/spec/taints/-", "value": taint("c")}]),
        json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": "1"},
               {"op": "add", "path": "/metadata/labels/c", "value": "1"}]),
        json!([{"op": "test", "path": "/metadata/uid", "value": WRONG_UID}]),
        json!([{"op": "remove", "path": "/spec/taints/1"}, {"op": "replace", "path": "/spec/unschedulable", "value": false}]),
    ] {
        a.ask("PATCH", path, JSON_PATCH, patch).await;
    }
    a.ask("GET", path, JSON, Value::Null).await;
    a.done()
}

async fn merge_patch(mut a: Asker) -> Value {
    let path = "/api/v1/nodes/parity-merge";
    let theirs = json!([{"key": "theirs", "effect": "NoSchedule"}]);
    let node = json!({"metadata": {"name": "parity-merge"}, "spec": {"taints": theirs}});
    a.make("/api/v1/nodes", node).await;
    let ours = json!([{"key": "ours", "value": "spot", "effect": "NoSchedule"}]);
    let fence = json!({"metadata": {"annotations": {"x/y": "{}"}, "labels": {"l": ""}},
                       "spec": {"unschedulable": true, "taints": ours}});
    a.ask("PATCH", path, STRATEGIC, fence.clone()).await;
    a.ask("PATCH", path, MERGE, fence).await;
    let condition =
        |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "Test", "message": "m"});
    for (kind, status) in [("A", "True"), ("B", "True"), ("A", "False")] {
        let change = json!({"status": {"conditions": [condition(kind, status)]}});
        a.ask("PATCH", &format!("{path}/status"), STRATEGIC, change).await;
    }
    let crossed = json!({"spec": {"unschedulable": false}, "status": {"phase": "Running"}});
    a.ask("PATCH", &format!("{path}/status"), MERGE, crossed.clone()).await;
    a.ask("PATCH", path, MERGE, json!({"status": {"phase": "Terminated"}})).await;
    let undo = json!({"metadata": {"annotations": {"x/y": null}, "labels": {"l": null}},
                      "spec": {"unschedulable": null, "taints": null}});
    a.ask("PATCH", path, MERGE, undo).await;
    a.make_pod("web", "Running", true).await;
    let target = json!({"type": "DisruptionTarget", "status": "True", "reason": "Test", "message": "m"});
    let change = json!({"status": {"conditions": [target]}});
    a.ask("PATCH", &format!("{}/status", a.pod("web")), STRATEGIC, change).await;
    a.done()
}

async fn create(mut a: Asker) -> Value {
    a.ask("POST", &a.pods(), JSON, pod("web", "parity-node")).await;
    a.ask("POST", &a.pods(), JSON, pod("web", "parity-node")).await;
    a.ask("POST", "/api/v1/namespaces/parity-absent/pods", JSON, pod("web", "parity-node")).await;
    a.ask("POST", "/api/v1/nodes", JSON, json!({"metadata": {"name": "parity-create"}})).await;
    a.ask("POST", "/api/v1/nodes", JSON, json!({"metadata": {"name": "parity-create"}})).await;
    let path = format!("/apis/policy/v1/namespaces/{}/poddisruptionbudgets", a.namespace);
    let pdb = json!({"metadata": {"name": "one"}, "spec": budget(&json!({"minAvailable": 1}))});
    a.make_budget("one", budget(&json!({"minAvailable": 1})), 0).await;
    a.ask("POST", &path, JSON, pdb).await;
    a.ask("GET", &format!("{path}/one"), JSON, Value::Null).await;
    a.ask("GET", &format!("{path}/absent"), JSON, Value::Null).await;
    a.get("absent").await;
    a.ask("GET", "/api/v1/nodes/absent", JSON, Value::Null).await;
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                        "spec": {"resourceAttributes": {"verb": "create", "resource": "pods", "subresource": "eviction"}}});
    let (code, _, answer) =
        a.send("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", JSON, &review).await;
    assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(true)));
    a.done()
}

async fn list(mut a: Asker) -> Value {
    for name in ["a", "b", "c"] {
        a.make_pod(name, "Running", true).await;
    }
    for query in [
        "",
        "?limit=2",
        "?fieldSelector=metadata.name%3Db",
        "?fieldSelector=spec.nodeName%3Dabsent",
        "?fieldSelector=status.phase%21%3DRunning",
        "?fieldSelector=spec.colour%3Dred",
        "?labelSelector=app%3Dweb%2C%21gone&limit=1",
        "?labelSelector=app+notin+%28web%29",
        "?resourceVersion=999999999",
    ] {
        a.ask("GET", &format!("{}{query}", a.pods()), JSON, Value::Null).await;
    }
    a.done()
}

async fn watch(mut a: Asker) -> Value {
    let begin = revision(&a.make(&a.pods(), pod("web", "")).await).to_owned();
    let target = json!({"metadata": {"name": "web"}, "target": {"kind": "Node", "name": "parity-node"}});
    a.ask("POST", &format!("{}/binding", a.pod("web")), JSON, target).await;
    a.send("PATCH", &format!("{}/status", a.pod("web")), MERGE, &json!({"status": {"phase": "Running"}})).await;
    a.send("PATCH", &format!("{}/status", a.pod("web")), MERGE, &json!({"status": {"phase": "Failed"}})).await;
    a.send("DELETE", &a.pod("web"), JSON, &json!({"gracePeriodSeconds": 0})).await;
    for query in [
        String::new(),
        "&fieldSelector=metadata.name%3Dweb".to_owned(),
        "&fieldSelector=spec.nodeName%3Dparity-node".to_owned(),
        "&fieldSelector=spec.nodeName%3Dparity-node%2Cstatus.phase%3DRunning".to_owned(),
        "&fieldSelector=metadata.name%3Dother".to_owned(),
    ] {
        let path = format!("{}?watch=1&timeoutSeconds=1{query}&resourceVersion=", a.pods());
        let (code, _, lines) = a.send("GET", &format!("{path}{begin}"), JSON, &Value::Null).await;
        a.exchanges.push(normalised(json!({
            "request": {"method": "GET", "path": path},
            "answer": {"status": code, "events": summary(&lines)},
        })));
    }
    // The present state first, with and without bookmarks.
    a.make_pod("still", "Running", true).await;
    for query in ["&allowWatchBookmarks=true", "&resourceVersion=0", ""] {
        let path = format!("{}?watch=1&timeoutSeconds=3{query}", a.pods());
        let (code, _, lines) = a.send("GET", &path, JSON, &Value::Null).await;
        a.exchanges.push(normalised(json!({
            "request": {"method": "GET", "path": path},
            "answer": {"status": code, "events": summary(&lines)},
        })));
    }
    let path = format!("{}?watch=1&timeoutSeconds=1&resourceVersion=999999999", a.pods());
    a.ask("GET", &path, JSON, Value::Null).await;
    a.done()
}

/// Type, name, phase and node of each event: what a selector transition is about. Bookmarks in a row count as one; how
/// many a short watch gets depends on the server's timers.
fn summary(lines: &Value) -> Value {
    let mut events: Vec<Value> = lines
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            let object = &line["object"];
            json!([line["type"], object["metadata"]["name"], object["status"]["phase"], object["spec"]["nodeName"]])
        })
        .collect();
    events.dedup_by(|one, other| one == other && one[0] == "BOOKMARK");
    events.into()
}

async fn watch_expired(mut a: Asker) -> Value {
    a.ask("GET", "/api/v1/nodes?watch=1&resourceVersion=1&timeoutSeconds=2", JSON, Value::Null).await;
    let path = format!("{}?watch=1&resourceVersion=1&timeoutSeconds=2&allowWatchBookmarks=true", a.pods());
    a.ask("GET", &path, JSON, Value::Null).await;
    a.done()
}

// ---- comparing ------------------------------------------------------------------------------------------------------

/// Replaces what differs from run to run; what is about time is kept as far as it is relative.
fn normalised(mut value: Value) -> Value {
    walk("", &mut value);
    value
}

fn walk(key: &str, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("managedFields");
            for (key, field) in map.iter_mut() {
                walk(key, field);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(key, item)),
        Value::String(text) => *text = normalised_text(key, text),
        _ => {}
    }
}

fn normalised_text(key: &str, text: &str) -> String {
    match key {
        "resourceVersion" if text != "1" => return "<revision>".to_owned(),
        "continue" => return "<token>".to_owned(),
        // JSON text of its own; only that it is there matters.
        "value" | "path" => return text.to_owned(),
        _ => {}
    }
    if text.parse::<jiff::Timestamp>().is_ok() {
        return "<time>".to_owned();
    }
    let mut text = text.to_owned();
    while let Some(at) = uid_at(&text) {
        text.replace_range(at..at + WRONG_UID.len(), "<uid>");
    }
    // "too old resource version: 1 (309)", "… current: 315"
    for (before, after) in [("too old resource version: 1 (", ")"), ("current: ", "")] {
        if let Some(at) = text.find(before).map(|at| at + before.len()) {
            let digits = text[at..].chars().take_while(char::is_ascii_digit).count();
            text.replace_range(at..at + digits, "<revision>");
            assert!(text.ends_with(after));
        }
    }
    // "the ResourceVersion in record (55)"
    if let Some(at) = text.find("ResourceVersion in record (").map(|at| at + "ResourceVersion in record (".len()) {
        let digits = text[at..].chars().take_while(char::is_ascii_digit).count();
        text.replace_range(at..at + digits, "<revision>");
    }
    text
}

/// Position of a uid that is not the made-up one.
fn uid_at(text: &str) -> Option<usize> {
    let is_uid = |part: &str| {
        part != WRONG_UID
            && part.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            })
    };
    (0..text.len().saturating_sub(WRONG_UID.len() - 1))
        .find(|&at| text.get(at..at + WRONG_UID.len()).is_some_and(is_uid))
}

/// Folder of the real server's answers.
fn golden() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/apiserver")
}

/// Writes `answers` as the new truth. For a run against a real server only.
fn record(answers: &BTreeMap<&'static str, Value>) {
    std::fs::create_dir_all(golden()).unwrap();
    for (case, exchanges) in answers {
        let text = serde_json::to_string_pretty(exchanges).unwrap() + "\n";
        std::fs::write(golden().join(format!("{case}.json")), text).unwrap();
    }
}

/// Compares answer by answer and names the first request that differs in each case.
///
/// # Panics
/// If any answer differs from the recorded one.
fn compare(answers: &BTreeMap<&'static str, Value>) {
    let mut differences = Vec::new();
    for (case, exchanges) in answers {
        let text = std::fs::read_to_string(golden().join(format!("{case}.json"))).unwrap();
        let expected: Vec<Value> = serde_json::from_str(&text).unwrap();
        let given = exchanges.as_array().unwrap();
        assert_eq!(given.len(), expected.len(), "{case}: number of requests; record again");
        let pairs = given.iter().zip(&expected).enumerate();
        for (at, (given, expected)) in pairs.filter(|(_, (given, expected))| given != expected) {
            let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap();
            let request = &expected["request"];
            differences.push(format!("{case} #{at} {request}\n{}", changed_lines(&pretty(expected), &pretty(given))));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

fn changed_lines(expected: &str, given: &str) -> String {
    let missing =
        expected.lines().filter(|line| !given.lines().any(|other| other == *line)).map(|line| format!("- {line}"));
    let extra =
        given.lines().filter(|line| !expected.lines().any(|other| other == *line)).map(|line| format!("+ {line}"));
    missing.chain(extra).collect::<Vec<_>>().join("\n")
}

#[tokio::test(start_paused = true)]
async fn simulated_server_answers_like_a_real_one() {
    let server = ApiServer::new(Clock::anchored("2026-01-01T12:00:00Z".parse().unwrap()));
    let client = server.client();
    compare(&answers(&client, async || server.compact()).await);
}

/// The recorded answers are those of a real server, and stay so: `UPDATE_GOLDEN=1` records them again.
#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "how tests are told to write their golden files")]
async fn real_server_answers_as_recorded() {
    let plane = RefCell::new(ControlPlane::start());
    let client = plane.borrow().admin_client();
    // A restarted API server has forgotten the history that a watch could go on from.
    let forget = async || {
        plane.borrow_mut().stop("kube-apiserver");
        plane.borrow_mut().resume("kube-apiserver");
    };
    let answers = answers(&client, forget).await;
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        record(&answers);
    }
    compare(&answers);
}
