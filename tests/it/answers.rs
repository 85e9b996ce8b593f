//! Records what the real API server answers where the documentation is silent or a client easily guesses wrong.
//!
//! Run by hand after an update of the pins; it writes one file per question into the folder that
//! `SPOTWARDEN_ANSWERS` names:
//! `SPOTWARDEN_ANSWERS=answers cargo test --test it answers -- --ignored`

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::controlplane::ControlPlane;

const JSON: &str = "application/json";
const JSON_PATCH: &str = "application/json-patch+json";

struct Recorder {
    plane: ControlPlane,
    folder: PathBuf,
    http: reqwest::Client,
}

/// A request and its answer, as they are written down.
struct Exchange {
    note: String,
    request: Value,
    status: u16,
    headers: Value,
    body: Value,
}

impl Recorder {
    async fn send(&self, token: &str, method: Method, path: &str, kind: &str, body: Option<Value>) -> Exchange {
        let request =
            json!({"method": method.as_str(), "path": path, "contentType": body.as_ref().map(|_| kind), "body": body});
        let mut call = self
            .http
            .request(method, format!("{}{path}", self.plane.server_url()))
            .bearer_auth(token)
            .timeout(Duration::from_secs(20));
        if let Some(body) = body {
            call = call.header("content-type", kind).body(body.to_string());
        }
        let answer = call.send().await.expect("the server answers");
        let status = answer.status().as_u16();
        let headers = ["content-type", "retry-after", "warning"]
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), json!(answer.headers().get(*name)?.to_str().ok()?))))
            .collect::<serde_json::Map<_, _>>();
        let text = answer.text().await.unwrap_or_default();
        // A watch answers with one object per line.
        let lines: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&text).into_iter().collect();
        let body = match lines {
            Ok(mut lines) if lines.len() == 1 => lines.remove(0),
            Ok(lines) => Value::Array(lines),
            Err(_) => Value::String(text),
        };
        Exchange { note: String::new(), request, status, headers: headers.into(), body }
    }

    async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> Exchange {
        let kind = if method == Method::PATCH { JSON_PATCH } else { JSON };
        self.send(self.plane.admin_token(), method, path, kind, body).await
    }

    async fn make(&self, path: &str, body: Value) -> Value {
        let made = self.admin(Method::POST, path, Some(body)).await;
        assert_eq!(made.status, 201, "{path}: {}", made.body);
        made.body
    }

    async fn namespace(&self, name: &str) {
        self.make("/api/v1/namespaces", json!({"metadata": {"name": name}})).await;
        self.make(&format!("/api/v1/namespaces/{name}/serviceaccounts"), json!({"metadata": {"name": "agent"}})).await;
    }

    async fn pod(&self, namespace: &str, name: &str, phase: &str) -> Value {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let pod = self
            .make(
                &path,
                json!({
                    "metadata": {"name": name, "labels": {"app": "web"}},
                    "spec": {
                        "nodeName": "n1",
                        "serviceAccountName": "agent",
                        "containers": [{"name": "main", "image": "example.invalid/web"}],
                    },
                }),
            )
            .await;
        let ready = if phase == "Running" { "True" } else { "False" };
        let status = json!([{"op": "add", "path": "/status", "value": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}}]);
        let patched = self.admin(Method::PATCH, &format!("{path}/{name}/status"), Some(status)).await;
        assert_eq!(patched.status, 200, "{}", patched.body);
        pod
    }

    async fn budget(&self, namespace: &str, name: &str, least: u8) {
        let path = format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets");
        let spec = json!({"metadata": {"name": name}, "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": "web"}}}});
        self.make(&path, spec).await;
        for _ in 0..200 {
            let now = self.admin(Method::GET, &format!("{path}/{name}"), None).await;
            if now.body["status"]["observedGeneration"] == now.body["metadata"]["generation"] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no status on {namespace}/{name}");
    }

    async fn evict(&self, namespace: &str, name: &str, options: Value) -> Exchange {
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace}, "deleteOptions": options,
        });
        self.admin(Method::POST, &format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction"), Some(eviction)).await
    }

    async fn delete_pod(&self, namespace: &str, name: &str, options: Value) -> Exchange {
        self.admin(Method::DELETE, &format!("/api/v1/namespaces/{namespace}/pods/{name}"), Some(options)).await
    }

    async fn get_pod(&self, namespace: &str, name: &str) -> Exchange {
        self.admin(Method::GET, &format!("/api/v1/namespaces/{namespace}/pods/{name}"), None).await
    }

    fn save(&self, name: &str, question: &str, exchanges: Vec<Exchange>) {
        let exchanges: Vec<Value> = exchanges
            .into_iter()
            .map(|one| {
                json!({
                    "note": one.note,
                    "request": one.request,
                    "answer": {"status": one.status, "headers": one.headers, "body": one.body},
                })
            })
            .collect();
        let file = json!({"question": question, "server": "v1.36.3", "exchanges": exchanges});
        let text = serde_json::to_string_pretty(&file).expect("JSON");
        std::fs::write(self.folder.join(format!("{name}.json")), text + "\n").expect("the folder can be written");
    }
}

impl Exchange {
    fn note(mut self, note: &str) -> Self {
        self.note = note.into();
        self
    }
}

#[tokio::test]
#[ignore = "writes files, see the module"]
#[expect(clippy::disallowed_methods, reason = "where to write is the caller's choice")]
#[expect(clippy::too_many_lines, reason = "a list of questions, each a few lines")]
async fn record() {
    let folder = PathBuf::from(std::env::var("SPOTWARDEN_ANSWERS").expect("SPOTWARDEN_ANSWERS names a folder"));
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let plane = ControlPlane::start();
    let http = plane.http();
    let mut r = Recorder { plane, folder, http };

    let version = r.admin(Method::GET, "/version", None).await;
    assert_eq!(version.body["gitVersion"], "v1.36.3");
    r.save("version", "GET /version", vec![version]);

    // Node patches.
    let node = "/api/v1/nodes/n1";
    let bare = "/api/v1/nodes/n2";
    let taint = |key: &str| json!({"key": key, "effect": "NoSchedule"});
    r.make("/api/v1/nodes", json!({"metadata": {"name": "n1"}, "spec": {"taints": [taint("a")]}})).await;
    r.make("/api/v1/nodes", json!({"metadata": {"name": "n2"}})).await;
    let patch = |ops: Value| Some(ops);
    r.save(
        "node-json-patch-test-fails",
        "JSON Patch on a Node with a failing test of /spec/taints",
        vec![
            r.admin(
                Method::PATCH,
                node,
                patch(json!([
                    {"op": "test", "path": "/spec/taints", "value": [taint("b")]},
                    {"op": "add", "path": "/spec/taints/-", "value": taint("c")},
                ])),
            )
            .await
            .note("the taints are there and differ"),
            r.admin(
                Method::PATCH,
                bare,
                patch(json!([
                    {"op": "test", "path": "/spec/taints", "value": [taint("b")]},
                    {"op": "add", "path": "/spec/taints/-", "value": taint("c")},
                ])),
            )
            .await
            .note("the node has no taints"),
            r.admin(
                Method::PATCH,
                node,
                patch(json!([
                    {"op": "test", "path": "/spec/taints", "value": null},
                    {"op": "add", "path": "/spec/taints", "value": [taint("c")]},
                ])),
            )
            .await
            .note("expected to be absent, and is there"),
            r.admin(
                Method::PATCH,
                node,
                patch(json!([
                    {"op": "test", "path": "/metadata/resourceVersion", "value": "1"},
                    {"op": "add", "path": "/spec/unschedulable", "value": true},
                ])),
            )
            .await
            .note("test of the resourceVersion"),
            r.admin(
                Method::PATCH,
                node,
                patch(json!([
                    {"op": "replace", "path": "/metadata/resourceVersion", "value": "1"},
                    {"op": "add", "path": "/spec/unschedulable", "value": true},
                ])),
            )
            .await
            .note("resourceVersion set instead of tested: optimistic locking"),
            r.admin(
                Method::PATCH,
                node,
                patch(json!([
                    {"op": "test", "path": "/metadata/uid", "value": "00000000-0000-0000-0000-000000000000"},
                    {"op": "add", "path": "/spec/unschedulable", "value": true},
                ])),
            )
            .await
            .note("test of the UID: the node was replaced"),
            r.admin(
                Method::PATCH,
                "/api/v1/nodes/absent",
                patch(json!([
                    {"op": "add", "path": "/spec/unschedulable", "value": true},
                ])),
            )
            .await
            .note("no such node"),
        ],
    );
    r.save(
        "node-json-patch-test-absent-null",
        "JSON Patch on a Node: test of an absent path with null, then add",
        vec![
            r.admin(
                Method::PATCH,
                bare,
                patch(json!([
                    {"op": "add", "path": "/spec/taints/-", "value": taint("c")},
                ])),
            )
            .await
            .note("append to a list that is not there"),
            r.admin(
                Method::PATCH,
                bare,
                patch(json!([
                    {"op": "remove", "path": "/spec/taints"},
                ])),
            )
            .await
            .note("remove what is not there"),
            r.admin(
                Method::PATCH,
                bare,
                patch(json!([
                    {"op": "test", "path": "/metadata/annotations/example.com~1x", "value": null},
                    {"op": "add", "path": "/metadata/annotations/example.com~1x", "value": "1"},
                ])),
            )
            .await
            .note("the parent is absent too (a node without annotations)"),
            r.admin(
                Method::PATCH,
                bare,
                patch(json!([
                    {"op": "test", "path": "/spec/taints"},
                    {"op": "add", "path": "/metadata/labels", "value": {"no-value": "1"}},
                ])),
            )
            .await
            .note("test without a value"),
            r.admin(
                Method::PATCH,
                bare,
                patch(json!([
                    {"op": "test", "path": "/spec/taints", "value": null},
                    {"op": "add", "path": "/spec/taints", "value": [taint("c")]},
                ])),
            )
            .await
            .note("absent and expected to be absent"),
            r.admin(
                Method::PATCH,
                bare,
                patch(json!([
                    {"op": "add", "path": "/spec/taints/-", "value": taint("c")},
                ])),
            )
            .await
            .note("the same key and effect twice"),
        ],
    );

    // A policy that pins a token to its node.
    r.namespace("policy").await;
    let pod = r.pod("policy", "agent", "Running").await;
    let token = r.plane.pod_token("policy", "agent", "agent", pod["metadata"]["uid"].as_str().expect("a UID")).await;
    let cordon = || patch(json!([{"op": "add", "path": "/spec/unschedulable", "value": true}]));
    let no_right = r.send(&token, Method::PATCH, bare, JSON_PATCH, cordon()).await.note("no RBAC rule");
    r.make("/apis/rbac.authorization.k8s.io/v1/clusterroles", json!({
        "metadata": {"name": "agent"}, "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "patch"]}],
    })).await;
    r.make(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        json!({
            "metadata": {"name": "agent"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "agent"},
            "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": "policy"}],
        }),
    )
    .await;
    let mut denials = vec![no_right];
    for (name, reason) in [("plain", None), ("forbidden", Some("Forbidden"))] {
        let mut rule = json!({
            "expression": "request.userInfo.extra['authentication.kubernetes.io/node-name'][0] == object.metadata.name",
            "message": "a token may change its own node only",
        });
        if let Some(reason) = reason {
            rule["reason"] = json!(reason);
        }
        let policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
        let bindings = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
        r.make(policies, json!({
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["nodes"]}]},
                "matchConditions": [{"name": "agent", "expression": "request.userInfo.username == 'system:serviceaccount:policy:agent'"}],
                "validations": [rule],
            },
        })).await;
        r.make(
            bindings,
            json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}}),
        )
        .await;
        let mut last = None;
        for _ in 0..200 {
            let answer = r.send(&token, Method::PATCH, bare, JSON_PATCH, cordon()).await;
            if answer.status != 200 && answer.body.to_string().contains("ValidatingAdmissionPolicy") {
                last = Some(answer);
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        denials.push(last.expect("the policy denies").note(&format!("validation.reason: {reason:?}")));
        denials.push(r.send(&token, Method::PATCH, node, JSON_PATCH, cordon()).await.note("its own node"));
        r.admin(Method::DELETE, &format!("{bindings}/{name}"), None).await;
        let removed = r.admin(Method::DELETE, &format!("{policies}/{name}"), None).await;
        assert_eq!(removed.status, 200);
        for _ in 0..200 {
            if r.send(&token, Method::PATCH, bare, JSON_PATCH, cordon()).await.status == 200 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    r.save("node-patch-denied", "A Node patch without the right, and denied by a ValidatingAdmissionPolicy", denials);

    // Evictions and deletions.
    r.namespace("evict").await;
    let wrong = json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}});
    r.pod("evict", "uid", "Running").await;
    r.save(
        "eviction-wrong-uid",
        "Eviction with the UID of another pod",
        vec![
            r.evict("evict", "uid", wrong.clone()).await,
            r.evict("evict", "absent", wrong.clone()).await.note("no such pod"),
        ],
    );
    r.save(
        "delete-wrong-uid",
        "DELETE with the UID of another pod",
        vec![
            r.delete_pod("evict", "uid", wrong.clone()).await,
            r.delete_pod("evict", "absent", wrong).await.note("no such pod"),
        ],
    );

    r.save(
        "eviction-accepted",
        "Eviction that nothing is in the way of",
        vec![
            r.evict("evict", "uid", json!({"gracePeriodSeconds": 20})).await,
            r.evict("evict", "uid", json!({"gracePeriodSeconds": 5})).await.note("again, with a shorter grace period"),
            r.get_pod("evict", "uid").await.note("the pod after both"),
        ],
    );

    r.namespace("one-budget").await;
    r.pod("one-budget", "web", "Running").await;
    r.budget("one-budget", "web", 1).await;
    r.pod("one-budget", "done", "Succeeded").await;
    r.pod("one-budget", "waiting", "Pending").await;
    r.pod("one-budget", "going", "Running").await;
    r.delete_pod("one-budget", "going", json!({"gracePeriodSeconds": 30})).await;
    r.save(
        "eviction-budget",
        "Eviction that a PodDisruptionBudget refuses",
        vec![
            r.evict("one-budget", "web", json!({})).await.note("the budget allows none"),
            r.evict("one-budget", "done", json!({})).await.note("a pod that has succeeded, same budget"),
            r.evict("one-budget", "waiting", json!({})).await.note("a pod that is pending, same budget"),
            r.evict("one-budget", "going", json!({})).await.note("a pod that is being deleted, same budget"),
        ],
    );

    r.namespace("two-budgets").await;
    r.pod("two-budgets", "web", "Running").await;
    r.budget("two-budgets", "one", 0).await;
    r.budget("two-budgets", "two", 0).await;
    r.save(
        "eviction-two-budgets",
        "Eviction of a pod that two PodDisruptionBudgets select",
        vec![r.evict("two-budgets", "web", json!({})).await],
    );

    r.namespace("terminating").await;
    r.pod("terminating", "web", "Running").await;
    r.pod("terminating", "other", "Running").await;
    let removed = r.admin(Method::DELETE, "/api/v1/namespaces/terminating", None).await;
    assert_eq!(removed.status, 200);
    let first = r.evict("terminating", "web", json!({})).await.note("right after the namespace was deleted");
    for _ in 0..200 {
        if r.get_pod("terminating", "web").await.body["metadata"]["deletionTimestamp"].is_string() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    r.save(
        "eviction-terminating-namespace",
        "Eviction in a namespace that is being deleted",
        vec![
            first,
            r.evict("terminating", "web", json!({})).await.note("after the namespace controller has deleted the pod"),
            r.delete_pod("terminating", "other", json!({"gracePeriodSeconds": 7}))
                .await
                .note("DELETE in the same namespace"),
        ],
    );

    r.namespace("grace").await;
    r.pod("grace", "web", "Running").await;
    r.save(
        "delete-again",
        "A second DELETE with another grace period",
        vec![
            r.delete_pod("grace", "web", json!({"gracePeriodSeconds": 60})).await.note("first"),
            r.delete_pod("grace", "web", json!({"gracePeriodSeconds": 10})).await.note("shorter"),
            r.delete_pod("grace", "web", json!({"gracePeriodSeconds": 40})).await.note("longer"),
            r.delete_pod("grace", "web", json!({})).await.note("the pod's own (30 s)"),
            r.delete_pod("grace", "web", json!({"gracePeriodSeconds": 1})).await.note("the shortest that waits"),
            r.delete_pod("grace", "web", json!({"gracePeriodSeconds": 0}))
                .await
                .note("none: gone, as the kubelet does at the end"),
            r.get_pod("grace", "web").await.note("after that"),
        ],
    );

    r.namespace("finished").await;
    let finished = r.pod("finished", "done", "Succeeded").await;
    r.pod("finished", "failed", "Failed").await;
    let uid = finished["metadata"]["uid"].as_str().expect("a UID");
    let bound = r.plane.pod_token("finished", "agent", "done", uid).await;
    r.save(
        "delete-finished",
        "DELETE of a pod that has finished",
        vec![
            r.delete_pod("finished", "done", json!({"gracePeriodSeconds": 30})).await.note("phase Succeeded"),
            r.get_pod("finished", "done").await.note("after that"),
            r.delete_pod("finished", "failed", json!({"gracePeriodSeconds": 30})).await.note("phase Failed"),
            r.get_pod("finished", "failed").await.note("after that"),
        ],
    );
    let mut rejected = r.send(&bound, Method::GET, bare, JSON, None).await;
    for _ in 0..300 {
        if rejected.status == 401 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        rejected = r.send(&bound, Method::GET, bare, JSON, None).await;
    }
    r.save("token-of-a-pod-that-is-gone", "A request with the bound token of a pod that is gone", vec![rejected]);

    r.plane.stop("kube-controller-manager");
    r.namespace("unseen").await;
    r.pod("unseen", "web", "Running").await;
    let unseen =
        json!({"metadata": {"name": "web"}, "spec": {"minAvailable": 0, "selector": {"matchLabels": {"app": "web"}}}});
    r.make("/apis/policy/v1/namespaces/unseen/poddisruptionbudgets", unseen).await;
    r.save(
        "eviction-budget-unseen",
        "Eviction under a PodDisruptionBudget that its controller has not looked at",
        vec![r.evict("unseen", "web", json!({})).await],
    );

    r.plane.resume("kube-controller-manager");
    r.plane.stop("kube-apiserver");
    r.plane.resume("kube-apiserver");
    r.http = r.plane.http();
    r.save("watch-expired", "Watch from a resourceVersion that is too old (after a restart of the API server) or too new", vec![
        r.admin(Method::GET, "/api/v1/nodes?watch=1&fieldSelector=metadata.name%3Dn1&resourceVersion=1&timeoutSeconds=2", None).await,
        r.admin(Method::GET, "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn1&resourceVersion=1&allowWatchBookmarks=true&timeoutSeconds=2", None).await,
        r.admin(Method::GET, "/api/v1/nodes?watch=1&resourceVersion=999999999&timeoutSeconds=2", None).await.note("watch from the future"),
        r.admin(Method::GET, "/api/v1/nodes?resourceVersion=999999999", None).await.note("list from the future"),
    ]);
}
