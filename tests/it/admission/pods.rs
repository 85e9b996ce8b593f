//! Requests about pods of the namespace `shop`: `web` and `told` run on the node `own`, `far` on `other`, and `waiting`
//! was never placed. `told` has the condition `DisruptionTarget`.

use http::Method;
use serde_json::{Value, json};

use super::case::Who::{Admin, AgentOn, Operator, Unbound};
use super::case::{Case, JSON, JSON_PATCH, MERGE, Request, STRATEGIC, delete, evict, pod};

const NOT_HERE: &str = "the pod is not on the agent's node";
const NO_NODE: &str = "the token names no node";
const OPTIONS: &str = "a deletion needs the pod's UID as precondition and a grace of at least one second";
const OTHER_VERB: &str = "only delete pods and write their status";
const STATUS: &str = "only set the condition DisruptionTarget";
const METADATA: &str = "may not change a pod's labels or other metadata";

pub(super) fn cases() -> Vec<Case> {
    [deletions(), statuses(), foreign_fields(), other_verbs(), others()].concat()
}

fn uid(name: &str) -> Value {
    json!({"uid": format!("$uid:{name}")})
}

fn deletions() -> Vec<Case> {
    let own = AgentOn("own");
    let with = |name: &str, grace: u32| delete(name, json!({"gracePeriodSeconds": grace, "preconditions": uid(name)}));
    vec![
        Case::allowed("pod deleted with grace and UID", own, with("web", 30)).on_page("delete a pod of the own node"),
        Case::allowed("pod deleted with a grace of one second", own, with("web", 1)),
        Case::allowed("pod deleted with its own grace", own, delete("web", json!({"preconditions": uid("web")}))),
        Case::denied("pod of another node deleted", own, with("far", 30), NOT_HERE)
            .on_page("delete a pod of another node"),
        Case::denied("pod of another node deleted at once", own, with("far", 0), NOT_HERE),
        Case::denied("pod deleted at once", own, with("web", 0), OPTIONS)
            .on_page("delete a pod of the own node without grace (its process may run on)"),
        Case::denied("pod deleted without UID", own, delete("web", json!({"gracePeriodSeconds": 30})), OPTIONS),
        Case::denied("pod deleted without options", own, delete("web", json!({})), OPTIONS),
        Case::denied(
            "pod deleted with another UID",
            own,
            delete("web", json!({"gracePeriodSeconds": 30, "preconditions": uid("far")})),
            OPTIONS,
        )
        .always_failing(409),
        Case::denied("unplaced pod deleted", own, with("waiting", 30), NOT_HERE)
            .on_page("delete a pod that waits for a node"),
        Case::denied("pod deleted by an unbound token", Unbound, with("web", 30), NO_NODE),
        Case::denied("unplaced pod deleted by an unbound token", Unbound, with("waiting", 30), NO_NODE),
        Case::denied(
            "all pods deleted",
            own,
            Request(
                Method::DELETE,
                "/api/v1/namespaces/shop/pods".into(),
                JSON,
                json!({"kind": "DeleteOptions", "apiVersion": "v1"}),
            ),
            "denied request",
        )
        .without_right(),
    ]
}

/// As the agent sends it before a deletion.
fn disruption(name: &str) -> Value {
    json!({
        "metadata": uid(name),
        "status": {"conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": "TerminationBySpotwarden", "message": "test"},
        ]},
    })
}

fn status(name: &str, body: Value) -> Request {
    pod(Method::PATCH, &format!("{name}/status"), STRATEGIC, body)
}

fn statuses() -> Vec<Case> {
    let own = AgentOn("own");
    vec![
        Case::allowed("pod to be disrupted", own, status("web", disruption("web"))),
        Case::allowed("pod to be disrupted once more", own, status("told", disruption("told"))),
        Case::denied("pod of another node to be disrupted", own, status("far", disruption("far")), NOT_HERE),
        Case::denied("unplaced pod to be disrupted", own, status("waiting", disruption("waiting")), NOT_HERE),
        Case::denied("pod to be disrupted by an unbound token", Unbound, status("web", disruption("web")), NO_NODE),
        Case::denied(
            "pod of another node not ready",
            own,
            status("far", json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})),
            NOT_HERE,
        )
        .on_page("take a pod of another node out of its Services (not ready, another address, another phase)"),
    ]
}

/// What else a write to a pod's status could carry.
fn foreign_fields() -> Vec<Case> {
    let beside = |more: Value| {
        let mut body = disruption("web");
        for part in ["metadata", "status"] {
            for (key, value) in more[part].as_object().into_iter().flatten() {
                body[part][key] = value.clone();
            }
        }
        body
    };
    let case = |name, body, why| Case::denied(name, AgentOn("own"), status("web", body), why);
    let conditions = |all: Value| json!({"status": {"conditions": all}});
    let alone = |r#type: &str, value: &str| conditions(json!([{"type": r#type, "status": value}]));
    let removed = json!([{"op": "remove", "path": "/status/conditions"}]);
    let moved = json!({"status": {"podIP": "192.0.2.9", "podIPs": [{"ip": "192.0.2.9"}]}});
    vec![
        case("pod not ready", alone("Ready", "False"), STATUS)
            .on_page("write anything but the condition DisruptionTarget to a pod of the own node"),
        case(
            "pod not ready beside being disrupted",
            conditions(json!([{"type": "DisruptionTarget", "status": "True"}, {"type": "Ready", "status": "False"}])),
            STATUS,
        ),
        case("another condition", alone("Test", "True"), STATUS),
        case("not to be disrupted", alone("DisruptionTarget", "False"), STATUS),
        case("phase", beside(json!({"status": {"phase": "Failed"}})), STATUS),
        case("reason", beside(json!({"status": {"reason": "Evicted"}})), STATUS),
        Case::denied("address", AgentOn("own"), pod(Method::PATCH, "told/status", MERGE, moved), STATUS),
        case("containers", beside(json!({"status": {"containerStatuses": []}})), STATUS),
        case("a field taken away", json!({"metadata": uid("web"), "status": {"startTime": null}}), STATUS),
        Case::denied(
            "conditions taken away",
            AgentOn("own"),
            pod(Method::PATCH, "told/status", JSON_PATCH, removed),
            STATUS,
        ),
        case("label through the status", beside(json!({"metadata": {"labels": {"app": "till"}}})), METADATA)
            .on_page("relabel a pod of the own node through its status, and so put it behind another Service"),
        case("annotation through the status", beside(json!({"metadata": {"annotations": {"x": "y"}}})), METADATA),
        case(
            "finalizer through the status",
            beside(json!({"metadata": {"finalizers": ["example.com/hold"]}})),
            METADATA,
        ),
    ]
}

fn other_verbs() -> Vec<Case> {
    let own = AgentOn("own");
    let case = |name, request| Case::denied(name, own, request, OTHER_VERB).without_right();
    let spec = json!({"nodeName": "own", "containers": [{"name": "main", "image": "example.com/x"}]});
    let made = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "new"}, "spec": spec});
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "waiting"}, "target": {"kind": "Node", "name": "own"},
    });
    let guest = json!({"spec": {"ephemeralContainers": [{"name": "guest", "image": "example.com/x"}]}});
    vec![
        case("pod made", Request(Method::POST, "/api/v1/namespaces/shop/pods".into(), JSON, made))
            .on_page("create, change, place or enter pods"),
        case("pod changed", pod(Method::PATCH, "web", MERGE, json!({"metadata": {"labels": {"app": "till"}}}))),
        case("pod placed", pod(Method::POST, "waiting/binding", JSON, binding)),
        case("container added", pod(Method::PATCH, "web/ephemeralcontainers", STRATEGIC, guest)),
        case("pod entered", pod(Method::POST, "web/exec?command=sh&container=main", JSON, Value::Null)),
    ]
}

fn others() -> Vec<Case> {
    let force = || delete("web", json!({"gracePeriodSeconds": 0}));
    let relabel = || pod(Method::PATCH, "web", MERGE, json!({"metadata": {"labels": {"app": "till"}}}));
    let not_ready = || status("web", json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}));
    vec![
        Case::allowed("pod deleted at once by an administrator", Admin, force()),
        Case::allowed("pod deleted at once by an operator", Operator, force()),
        Case::allowed("pod changed by an administrator", Admin, relabel()),
        Case::allowed("pod changed by an operator", Operator, relabel()),
        Case::allowed("pod's status by an administrator", Admin, not_ready()),
        Case::allowed("pod's status by an operator", Operator, not_ready()),
        Case::allowed("pod evicted by an administrator", Admin, evict("shop", "web", None)),
        Case::allowed("pod evicted by an operator", Operator, evict("shop", "web", None)),
    ]
}
