//! Evictions: free for the agent but for the budgets, unless the component `eviction-policy` is installed.

use serde_json::{Value, json};

use super::case::Who::{Admin, AgentOn, Operator, Unbound};
use super::case::{Case, evict};

const NOT_HERE: &str = "the pod is not on the agent's node";
const NO_NODE: &str = "the token names no node";
const NO_UID: &str = "an eviction needs the pod's UID as precondition";

fn options(name: &str) -> Value {
    json!({"gracePeriodSeconds": 30, "preconditions": {"uid": format!("$uid:{name}")}})
}

/// With the policy for evictions in force. The base alone forbids none of them.
pub(super) fn cases() -> Vec<Case> {
    let own = AgentOn("own");
    let unknown = || Some(json!({"preconditions": {"uid": "0"}}));
    let case = |name, who, pod: &str, options, why| Case::denied(name, who, evict("shop", pod, options), why);
    vec![
        Case::allowed("pod evicted", own, evict("shop", "web", Some(options("web"))))
            .on_page("evict a pod of the own node"),
        case("pod of another node evicted", own, "far", Some(options("far")), NOT_HERE)
            .on_page("evict a pod of another node, as its budgets allow"),
        case("unplaced pod evicted", own, "waiting", Some(options("waiting")), NOT_HERE),
        case("pod evicted without UID", own, "web", Some(json!({"gracePeriodSeconds": 30})), NO_UID),
        case("pod evicted without options", own, "web", None, NO_UID),
        case("pod evicted with another UID", own, "web", Some(options("far")), NO_UID).failing(409),
        case("pod evicted by an unbound token", Unbound, "web", Some(options("web")), NO_NODE),
        // What the API server does not know of, it cannot compare; there is nothing to evict either.
        Case::allowed("pod that is not there", own, evict("shop", "nobody", unknown())).always_failing(404),
        Case::allowed("pod of a namespace without pods", own, evict("empty", "nobody", unknown())).always_failing(404),
        Case::allowed("eviction by an administrator", Admin, evict("shop", "far", None)),
        Case::allowed("eviction by an operator", Operator, evict("shop", "far", None)),
        Case::allowed("eviction in a namespace without pods by an operator", Operator, evict("empty", "nobody", None))
            .always_failing(404),
    ]
}
