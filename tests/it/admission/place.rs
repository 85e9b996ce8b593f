//! Nodes, pods, and tokens of all who ask, on a control plane of its own: rights are widened here.

use std::collections::BTreeMap;

use http::Method;
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::case::{Case, Outcome, Who};
use super::nodes::{EXCLUDE, foreign, ours};
use crate::access::{self, ACCOUNT};
use crate::controlplane::ControlPlane;

pub(super) struct Place {
    pub(super) plane: ControlPlane,
    pub(super) admin: Client,
    tokens: BTreeMap<String, String>,
    uids: BTreeMap<&'static str, String>,
}

/// Status and body of an answer.
pub(super) type Answer = (u16, Value);

impl Place {
    /// With the rights of the manifests, without the policies.
    pub(super) async fn new() -> Self {
        let plane = tokio::task::spawn_blocking(ControlPlane::start).await.unwrap();
        let admin = plane.admin_client();
        access::apply(&admin, access::rights()).await;
        let mut new = Self { plane, admin, tokens: BTreeMap::new(), uids: BTreeMap::new() };
        new.nodes().await;
        new.pods().await;
        new.accounts().await;
        new
    }

    pub(super) async fn make(&self, path: &str, object: Value) -> Value {
        let (code, made) = request(&self.admin, Method::POST, path, "application/json", &object).await;
        assert!(code == 201, "POST {path}: {code} {made}");
        made
    }

    async fn nodes(&self) {
        let metadata = |name: &str, marks: bool| {
            let mut metadata = json!({"name": name, "labels": {"team": "a"}, "annotations": {"note": "x"}});
            if marks {
                metadata["labels"][EXCLUDE] = "spotwarden".into();
                metadata["annotations"]["spotwarden/state"] = "{}".into();
            }
            metadata
        };
        let [gpu, team] = foreign();
        let plain = json!({"taints": [gpu, team]});
        let fenced = json!({"taints": [gpu, ours(), team], "unschedulable": true});
        let nodes = [
            json!({"metadata": metadata("own", false), "spec": plain}),
            json!({"metadata": metadata("other", false), "spec": plain}),
            json!({"metadata": metadata("fenced", true), "spec": fenced}),
            json!({"metadata": {"name": "bare"}}),
        ];
        for node in nodes {
            self.make("/api/v1/nodes", node).await;
        }
    }

    async fn pods(&mut self) {
        for namespace in ["shop", "empty"] {
            self.make("/api/v1/namespaces", json!({"metadata": {"name": namespace}})).await;
        }
        let disrupted = json!({"type": "DisruptionTarget", "status": "True", "reason": "Test"});
        for (name, node, more) in [
            ("web", Some("own"), None),
            ("told", Some("own"), Some(disrupted)),
            ("far", Some("other"), None),
            ("waiting", None, None),
        ] {
            let made = self.make("/api/v1/namespaces/shop/pods", pod("shop", name, node)).await;
            self.uids.insert(name, made["metadata"]["uid"].as_str().unwrap().to_owned());
            let conditions: Vec<Value> = [json!({"type": "Ready", "status": "True"})].into_iter().chain(more).collect();
            let status = json!({"status": {
                "phase": "Running", "podIP": "192.0.2.8", "podIPs": [{"ip": "192.0.2.8"}], "conditions": conditions,
                "startTime": "2026-01-05T12:00:00Z",
                "containerStatuses": [{
                    "name": "main", "image": "example.com/x", "imageID": "x", "ready": true, "restartCount": 0,
                    "state": {"running": {"startedAt": "2026-01-05T12:00:00Z"}},
                }],
            }});
            if node.is_some() {
                let path = format!("/api/v1/namespaces/shop/pods/{name}/status");
                let answer = request(&self.admin, Method::PATCH, &path, "application/merge-patch+json", &status).await;
                assert_eq!(answer.0, 200, "{answer:?}");
            }
        }
    }

    async fn accounts(&mut self) {
        for node in ["own", "other", "fenced", "bare"] {
            let token = self.agent(&format!("agent-{node}"), Some(node)).await;
            self.tokens.insert(format!("{:?}", Who::AgentOn(node)), token);
        }
        let nowhere = self.agent("agent-nowhere", None).await;
        let unbound = self.token(ACCOUNT, ACCOUNT).await;
        let account = json!({"metadata": {"name": "operator"}});
        self.make("/api/v1/namespaces/shop/serviceaccounts", account).await;
        self.everything("operator", "shop").await;
        let operator = self.token("shop", "operator").await;
        let admin = self.plane.admin_token().to_owned();
        let tokens =
            [(Who::AgentNowhere, nowhere), (Who::Unbound, unbound), (Who::Operator, operator), (Who::Admin, admin)];
        self.tokens.extend(tokens.map(|(who, token)| (format!("{who:?}"), token)));
    }

    /// A token as an agent's pod on this node has it.
    async fn agent(&self, name: &str, node: Option<&str>) -> String {
        let path = format!("/api/v1/namespaces/{ACCOUNT}/pods");
        let made = self.make(&path, pod(ACCOUNT, name, node)).await;
        self.plane.pod_token(ACCOUNT, ACCOUNT, name, made["metadata"]["uid"].as_str().unwrap()).await
    }

    /// A token that is bound to nothing.
    async fn token(&self, namespace: &str, account: &str) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let made = self.make(&path, json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"})).await;
        made["status"]["token"].as_str().unwrap().to_owned()
    }

    /// Gives an account every right.
    async fn everything(&self, account: &str, namespace: &str) {
        let binding = json!({
            "metadata": {"name": format!("everything-{account}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        });
        self.make("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
    }

    /// From now on only policies are in the agent's way.
    pub(super) async fn widen_rights(&self) {
        self.everything(ACCOUNT, ACCOUNT).await;
    }

    pub(super) fn client(&self, who: Who) -> Client {
        self.plane.client(&self.tokens[&format!("{who:?}")])
    }

    /// Sends a case as a dry run, which passes the same rights, policies and validation and leaves everything as it is.
    pub(super) async fn send(&self, case: &Case) -> Outcome {
        let mut body = self.with_uids(&case.body);
        let mut path = case.path.clone();
        if case.method == Method::DELETE {
            // The query of a deletion with a body is not read.
            body["dryRun"] = json!(["All"]);
        } else if case.method != Method::GET && !path.contains("/exec") {
            // A connection knows no dry run.
            path.push_str(if path.contains('?') { "&dryRun=All" } else { "?dryRun=All" });
        }
        let client = self.client(case.who);
        outcome(&request(&client, case.method.clone(), &path, case.content_type, &body).await)
    }

    fn with_uids(&self, body: &Value) -> Value {
        let mut text = body.to_string();
        for (name, uid) in &self.uids {
            text = text.replace(&format!("$uid:{name}"), uid);
        }
        serde_json::from_str(&text).unwrap()
    }
}

/// A pod that waits for its node, or is on it.
pub(super) fn pod(namespace: &str, name: &str, node: Option<&str>) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"serviceAccountName": ACCOUNT, "containers": [{"name": "main", "image": "example.com/x"}]},
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node.into();
    }
    pod
}

/// One request.
pub(super) async fn request(client: &Client, method: Method, path: &str, content_type: &str, body: &Value) -> Answer {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = http::Request::builder().method(method).uri(path).header("content-type", content_type);
    let answer = client.send(request.body(Body::from(bytes)).unwrap()).await.unwrap();
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes);
    (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| json!({"message": text})))
}

/// Who said no, if anybody.
pub(super) fn outcome((code, body): &Answer) -> Outcome {
    let message = body["message"].as_str().unwrap_or_default();
    match code {
        200..=299 => Outcome::Accepted,
        403 if message.contains("ValidatingAdmissionPolicy '") => {
            assert_eq!(body["reason"], "Forbidden", "{body}");
            Outcome::Policy(message.to_owned())
        }
        403 if message.contains("User \"system:serviceaccount:") => Outcome::NoRight,
        403 => panic!("who forbids it? {body}"),
        code => Outcome::Fails(*code),
    }
}
