//! Requests about Nodes. `own` carries marks of others, `fenced` those of the agent besides, `bare` nothing at all.

use http::Method;
use serde_json::{Value, json};

use super::case::Who::{Admin, AgentNowhere, AgentOn, Operator, Unbound};
use super::case::{Case, JSON, JSON_PATCH, MERGE, Request, STRATEGIC, node};

pub(super) const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

const NOT_OWN: &str = "may only patch its own Node";
const NO_NODE: &str = "the token names no node";
const TAINTS: &str = "only add and remove its own taints";
const EFFECT: &str = "have the effect NoSchedule or PreferNoSchedule";
const LABELS: &str = "only touch its own labels";
const ANNOTATIONS: &str = "only touch its own annotations";
const SPEC: &str = "only change taints and unschedulable";
const METADATA: &str = "may not change finalizers, owners or other metadata";

/// Taints of others, as the nodes `own` and `fenced` carry them, in this order.
pub(super) fn foreign() -> [Value; 2] {
    [json!({"key": "gpu", "effect": "NoSchedule"}), json!({"key": "team", "value": "a", "effect": "PreferNoSchedule"})]
}

/// What a notice puts on the node.
pub(super) fn ours() -> Value {
    json!({"key": "spotwarden/interruption", "value": "spot-interruption", "effect": "NoSchedule"})
}

/// A patch of the node `own`.
pub(super) fn request(operations: Value) -> Request {
    node("own", operations)
}

fn to(taints: &[Value]) -> Value {
    json!([{"op": "add", "path": "/spec/taints", "value": taints}])
}

fn add(path: &str, value: impl Into<Value>) -> Value {
    json!([{"op": "add", "path": path, "value": value.into()}])
}

fn remove(path: &str) -> Value {
    json!([{"op": "remove", "path": path}])
}

fn label(key: &str) -> String {
    format!("/metadata/labels/{}", key.replace('/', "~1"))
}

fn annotation(key: &str) -> String {
    format!("/metadata/annotations/{}", key.replace('/', "~1"))
}

fn status(name: &str, status: &Value) -> Request {
    Request(Method::PATCH, format!("/api/v1/nodes/{name}/status"), STRATEGIC, json!({"status": status}))
}

fn condition(name: &str, r#type: &str, value: &str) -> Request {
    status(name, &json!({"conditions": [{"type": r#type, "status": value, "reason": "Test", "message": "test"}]}))
}

/// The fence in one patch, guarded as the agent guards it.
pub(super) fn fence() -> Value {
    let [gpu, team] = foreign();
    json!([
        {"op": "test", "path": "/metadata/annotations/spotwarden~1state", "value": null},
        {"op": "add", "path": "/metadata/annotations/spotwarden~1state", "value": "{}"},
        {"op": "test", "path": "/spec/unschedulable", "value": null},
        {"op": "add", "path": "/spec/unschedulable", "value": true},
        {"op": "test", "path": "/spec/taints", "value": [gpu, team]},
        {"op": "add", "path": "/spec/taints", "value": [gpu, team, ours()]},
        {"op": "test", "path": label(EXCLUDE), "value": null},
        {"op": "add", "path": label(EXCLUDE), "value": "spotwarden"},
    ])
}

/// The same on a node that has nothing yet.
fn first_marks() -> Value {
    json!([
        {"op": "add", "path": "/metadata/annotations", "value": {"spotwarden/state": "{}"}},
        {"op": "add", "path": "/metadata/labels", "value": {EXCLUDE: "spotwarden"}},
        {"op": "add", "path": "/spec/unschedulable", "value": true},
        {"op": "add", "path": "/spec/taints", "value": [ours()]},
    ])
}

pub(super) fn restore() -> Value {
    let [gpu, team] = foreign();
    json!([
        {"op": "remove", "path": "/metadata/annotations/spotwarden~1state"},
        {"op": "remove", "path": "/spec/unschedulable"},
        {"op": "add", "path": "/spec/taints", "value": [gpu, team]},
        {"op": "remove", "path": label(EXCLUDE)},
    ])
}

pub(super) fn cases() -> Vec<Case> {
    [marks(), identities(), taints(), keys(), rest(), statuses(), others()].concat()
}

/// What the agent does.
fn marks() -> Vec<Case> {
    let (own, fenced) = (AgentOn("own"), AgentOn("fenced"));
    let [gpu, team] = foreign();
    let soft = json!({"key": "spotwarden/interruption", "value": "rebalance", "effect": "PreferNoSchedule"});
    let exhausted = json!({"key": "spotwarden/pod-ips-exhausted", "value": "no-free-address", "effect": "NoSchedule"});
    vec![
        Case::allowed("own taint after the others", own, node("own", to(&[gpu.clone(), team.clone(), ours()]))),
        Case::allowed("own taint before the others", own, node("own", to(&[ours(), gpu.clone(), team.clone()]))),
        Case::allowed("own taint that only asks", own, node("own", to(&[gpu.clone(), team.clone(), soft]))),
        Case::allowed("taint of exhausted addresses", own, node("own", to(&[gpu.clone(), team.clone(), exhausted]))),
        Case::allowed("own taint removed", fenced, node("fenced", to(&[gpu, team]))),
        Case::allowed("the whole fence in one patch", own, node("own", fence()))
            .on_page("fence the own node, take the fence away"),
        Case::allowed("the whole way back in one patch", fenced, node("fenced", restore())),
        Case::allowed("the first marks of a bare node", AgentOn("bare"), node("bare", first_marks())),
        Case::allowed("own label removed", fenced, node("fenced", remove(&label(EXCLUDE)))),
        Case::allowed("own label changed", fenced, node("fenced", add(&label(EXCLUDE), "x"))),
        Case::allowed(
            "own annotation changed",
            fenced,
            node("fenced", add("/metadata/annotations/spotwarden~1state", "x")),
        ),
        Case::allowed("own node cordoned", own, node("own", add("/spec/unschedulable", true))),
        Case::allowed("own node uncordoned", fenced, node("fenced", remove("/spec/unschedulable"))),
    ]
}

/// Another node, or a token of no node.
fn identities() -> Vec<Case> {
    let own = AgentOn("own");
    vec![
        Case::denied("fence of another node", own, node("other", fence()), NOT_OWN)
            .on_page("fence, taint or cordon another node"),
        Case::denied("cordon of another node", own, node("other", add("/spec/unschedulable", true)), NOT_OWN),
        Case::denied(
            "own annotation on another node",
            own,
            node("other", add(&annotation("spotwarden/state"), "x")),
            NOT_OWN,
        ),
        Case::denied("own label on another node", own, node("other", add(&label(EXCLUDE), "x")), NOT_OWN)
            .on_page("take another node out of the load balancers"),
        Case::denied(
            "NoExecute on another node",
            own,
            node("other", to(&[json!({"key": "x", "effect": "NoExecute"})])),
            NOT_OWN,
        )
        .on_page("clear another node by a NoExecute taint, past the budgets"),
        Case::denied("foreign label on another node", own, node("other", add(&label("team"), "b")), NOT_OWN)
            .on_page("relabel another node"),
        Case::denied("fence by an unbound token", Unbound, node("own", fence()), NO_NODE)
            .on_page("anything of this with a token that is not of a pod"),
        Case::denied("fence by a token of a pod without a node", AgentNowhere, node("own", fence()), NO_NODE),
    ]
}

fn taints() -> Vec<Case> {
    let own = AgentOn("own");
    let [gpu, team] = foreign();
    let other = |key: &str, effect: &str| json!({"key": key, "effect": effect});
    let case = |name, taints: &[Value], why| Case::denied(name, own, node("own", to(taints)), why);
    vec![
        case("foreign taint removed", std::slice::from_ref(&gpu), TAINTS)
            .on_page("add, change or remove others' taints of the own node"),
        case("foreign taint added", &[gpu.clone(), team.clone(), other("x", "NoSchedule")], TAINTS),
        case(
            "foreign taint with another value",
            &[gpu.clone(), json!({"key": "team", "value": "b", "effect": "PreferNoSchedule"})],
            TAINTS,
        ),
        case(
            "foreign taint with another effect",
            &[gpu.clone(), json!({"key": "team", "value": "a", "effect": "NoSchedule"})],
            TAINTS,
        ),
        case("foreign taints in another order", &[team.clone(), gpu.clone()], TAINTS),
        case(
            "a taint whose key only begins like ours",
            &[gpu.clone(), team.clone(), other("spotwarden/other", "NoSchedule")],
            TAINTS,
        ),
        case(
            "a taint of the termination handler",
            &[gpu.clone(), team.clone(), other("aws-node-termination-handler/spot-itn", "NoSchedule")],
            TAINTS,
        ),
        case(
            "own taint with the effect NoExecute",
            &[gpu.clone(), team.clone(), other("spotwarden/interruption", "NoExecute")],
            EFFECT,
        )
        .on_page("clear the own node by a NoExecute taint"),
        Case::denied("all taints removed", own, node("own", remove("/spec/taints")), TAINTS),
        Case::denied(
            "taints replaced by a merge patch",
            own,
            Request(Method::PATCH, "/api/v1/nodes/own".into(), MERGE, json!({"spec": {"taints": [ours()]}})),
            TAINTS,
        ),
        Case::denied(
            "a taint by a strategic merge patch",
            own,
            Request(
                Method::PATCH,
                "/api/v1/nodes/own".into(),
                STRATEGIC,
                json!({"spec": {"taints": [other("x", "NoSchedule")]}}),
            ),
            TAINTS,
        ),
    ]
}

/// Labels and annotations.
fn keys() -> Vec<Case> {
    let own = AgentOn("own");
    let case = |name, operations, why| Case::denied(name, own, node("own", operations), why);
    let applied = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "own", "labels": {"team": "b"}}});
    let replaced = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "own", "labels": {"team": "b"}}});
    vec![
        case("foreign label added", add(&label("x"), "y"), LABELS)
            .on_page("relabel the own node, so that other workloads land there"),
        case("foreign label changed", add(&label("team"), "b"), LABELS),
        case("foreign label removed", remove(&label("team")), LABELS),
        case("all labels removed", remove("/metadata/labels"), LABELS),
        case("a label of the prefix that is not the agent's", add(&label("spotwarden/x"), "y"), LABELS),
        Case::denied(
            "foreign label by server-side apply",
            own,
            Request(
                Method::PATCH,
                "/api/v1/nodes/own?fieldManager=thief&force=true".into(),
                "application/apply-patch+yaml",
                applied,
            ),
            LABELS,
        ),
        Case::denied(
            "the whole own Node replaced",
            own,
            Request(Method::PUT, "/api/v1/nodes/own".into(), JSON, replaced),
            TAINTS,
        )
        .without_right(),
        case("foreign annotation added", add(&annotation("x"), "y"), ANNOTATIONS)
            .on_page("change others' annotations of the own node"),
        case("foreign annotation changed", add(&annotation("note"), "y"), ANNOTATIONS),
        case("foreign annotation removed", remove(&annotation("note")), ANNOTATIONS),
        case("an annotation of the prefix that is not the agent's", add(&annotation("spotwarden/x"), "y"), ANNOTATIONS),
    ]
}

fn rest() -> Vec<Case> {
    let own = AgentOn("own");
    let case = |name, operations, why| Case::denied(name, own, node("own", operations), why);
    let cidrs = json!([
        {"op": "add", "path": "/spec/podCIDR", "value": "10.9.0.0/24"},
        {"op": "add", "path": "/spec/podCIDRs", "value": ["10.9.0.0/24"]},
    ]);
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "0"}]);
    let everything = || json!({"apiVersion": "v1", "kind": "DeleteOptions"});
    let made = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "new"}});
    vec![
        case("provider id", add("/spec/providerID", "aws:///x/i-0"), SPEC)
            .on_page("give the own node another provider id, finalizers or owners"),
        case("pod addresses", cidrs, SPEC),
        case("finalizer", add("/metadata/finalizers", json!(["example.com/hold"])), METADATA),
        case("owner reference", add("/metadata/ownerReferences", owner), METADATA),
        Case::denied("node made", own, Request(Method::POST, "/api/v1/nodes".into(), JSON, made), NOT_OWN)
            .without_right(),
        Case::denied(
            "own node deleted",
            own,
            Request(Method::DELETE, "/api/v1/nodes/own".into(), JSON, everything()),
            NOT_OWN,
        )
        .without_right(),
        Case::denied(
            "other node deleted",
            own,
            Request(Method::DELETE, "/api/v1/nodes/other".into(), JSON, everything()),
            NOT_OWN,
        )
        .without_right(),
        Case::denied(
            "all nodes deleted",
            own,
            Request(Method::DELETE, "/api/v1/nodes".into(), JSON, everything()),
            NOT_OWN,
        )
        .without_right(),
        Case::denied(
            "the kubelet of the own node",
            own,
            Request(Method::GET, "/api/v1/nodes/own/proxy/pods".into(), JSON, Value::Null),
            NOT_OWN,
        )
        .without_right(),
    ]
}

/// The agent never writes a Node's status.
fn statuses() -> Vec<Case> {
    let own = AgentOn("own");
    let case = |name, request| Case::denied(name, own, request, NOT_OWN).without_right();
    vec![
        case("own node not ready", condition("own", "Ready", "False")).on_page("write the status of any node"),
        case("other node not ready", condition("other", "Ready", "False")),
        case("a condition of its own", condition("own", "SpotwardenDraining", "True")),
        case("a condition of the node lifecycle", condition("own", "DrainInProgress", "True")),
        case("capacity", status("own", &json!({"capacity": {"cpu": "1"}}))),
        case("an extended resource", status("own", &json!({"allocatable": {"example.com/seats": "9"}}))),
        case("addresses", status("own", &json!({"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}))),
        Case::denied(
            "status of the own node with a label",
            own,
            Request(Method::PATCH, "/api/v1/nodes/own/status".into(), JSON_PATCH, add(&label("team"), "b")),
            NOT_OWN,
        )
        .without_right(),
        Case::denied("status by an unbound token", Unbound, condition("own", "Ready", "False"), NO_NODE)
            .without_right(),
    ]
}

/// Nobody else notices the policies.
fn others() -> Vec<Case> {
    let everybody = [
        ["node edited by an administrator", "node edited by an operator"],
        ["node's status by an administrator", "node's status by an operator"],
        ["node made by an administrator", "node made by an operator"],
    ];
    let [edits, statuses, makes] = everybody;
    let made = || json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "new"}});
    let of = |at: usize, who| {
        vec![
            Case::allowed(edits[at], who, node("own", add(&label("team"), "b"))),
            Case::allowed(statuses[at], who, condition("own", "Ready", "False")),
            Case::allowed(makes[at], who, Request(Method::POST, "/api/v1/nodes".into(), JSON, made())),
        ]
    };
    [of(0, Admin), of(1, Operator)].concat()
}
