//! The fence: the one JSON Patch that takes the node out of service.
//!
//! Every change is guarded by a `test` of what was there before. That makes ownership exact (what we set is what was not
//! there), keeps foreign taints byte for byte and in order, and does not conflict with unrelated writes to the Node such
//! as the kubelet's status updates. A `test` of an absent path against `null` holds at the API server.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::state::{ANNOTATION, Marks, State};
use crate::config::{MarkConfig, Response};
use crate::k8s::node::NodeView;
use crate::signal::Kind;

/// Load balancer controllers drop a node that carries this label, whatever its value.
pub const LOAD_BALANCER_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// One part of the fence; the API server may refuse each on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The state annotation.
    State,
    /// `spec.unschedulable`; the VPC CNI then stops moving network interfaces.
    Unschedulable,
    /// The taint.
    Taint,
    /// The load balancer label.
    LoadBalancerLabel,
}

impl Part {
    /// The name in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State => "state annotation",
            Self::Unschedulable => "unschedulable",
            Self::Taint => "taint",
            Self::LoadBalancerLabel => "load balancer label",
        }
    }
}

/// The parts that a response asks for; the state goes first, so that a crash between single parts leaves no mark
/// unrecorded.
pub fn parts(response: Response) -> &'static [Part] {
    match response {
        Response::Ignore | Response::Observe => &[],
        Response::Taint => &[Part::State, Part::Taint],
        Response::Cordon | Response::Drain => &[Part::State, Part::Unschedulable, Part::Taint, Part::LoadBalancerLabel],
    }
}

/// The taint as it will stand on the Node. A mere `taint` response is soft.
pub fn taint(config: &MarkConfig, kind: Kind, response: Response) -> Value {
    let effect = if response == Response::Taint { "PreferNoSchedule" } else { config.taint_effect.as_str() };
    json!({ "key": config.taint_key, "value": kind.as_str(), "effect": effect })
}

/// Which marks would be ours if the fence were set on `node` now: those that are not there yet.
pub fn marks(node: &NodeView, parts: &[Part], taint: &Value) -> Marks {
    Marks {
        taint: parts.contains(&Part::Taint) && !has_taint(node, taint),
        unschedulable: parts.contains(&Part::Unschedulable) && node.unschedulable != Some(true),
        load_balancer_label: parts.contains(&Part::LoadBalancerLabel) && !has_label(node),
    }
}

/// The guarded operations that bring `parts` onto `node`; empty when all of them are there.
pub fn patch(node: &NodeView, parts: &[Part], taint: &Value, state: &State) -> Vec<Value> {
    parts
        .iter()
        .flat_map(|part| match part {
            Part::State => set_in_map("annotations", node.annotations.as_ref(), ANNOTATION, &state.to_text()),
            Part::Unschedulable => cordon(node),
            Part::Taint => append_taint(node, taint),
            Part::LoadBalancerLabel if has_label(node) => Vec::new(),
            Part::LoadBalancerLabel => set_in_map("labels", node.labels.as_ref(), LOAD_BALANCER_LABEL, "spotwarden"),
        })
        .collect()
}

/// Whether what the guards test differs between the Node that a patch was made for and the Node as it is now. If it does
/// not, a refusal was meant.
pub fn guards_moved(before: &NodeView, now: &NodeView) -> bool {
    before.taints != now.taints
        || before.unschedulable.unwrap_or(false) != now.unschedulable.unwrap_or(false)
        || has_label(before) != has_label(now)
        || state_text(before) != state_text(now)
        || before.labels.is_none() != now.labels.is_none()
        || before.annotations.is_none() != now.annotations.is_none()
}

/// The state annotation's text.
pub fn state_text(node: &NodeView) -> Option<&str> {
    node.annotations.as_ref()?.get(ANNOTATION).map(String::as_str)
}

fn has_label(node: &NodeView) -> bool {
    node.labels.as_ref().is_some_and(|labels| labels.contains_key(LOAD_BALANCER_LABEL))
}

/// Kubernetes identifies a taint by key and effect; the value is an attribute.
fn has_taint(node: &NodeView, taint: &Value) -> bool {
    let same = |other: &Value| other.get("key") == taint.get("key") && other.get("effect") == taint.get("effect");
    node.taints.iter().flatten().any(same)
}

fn cordon(node: &NodeView) -> Vec<Value> {
    if node.unschedulable == Some(true) {
        return Vec::new();
    }
    vec![
        json!({ "op": "test", "path": "/spec/unschedulable", "value": node.unschedulable }),
        json!({ "op": "add", "path": "/spec/unschedulable", "value": true }),
    ]
}

fn append_taint(node: &NodeView, taint: &Value) -> Vec<Value> {
    if has_taint(node, taint) {
        return Vec::new();
    }
    let mut taints = node.taints.clone().unwrap_or_default();
    taints.push(taint.clone());
    vec![
        json!({ "op": "test", "path": "/spec/taints", "value": node.taints }),
        json!({ "op": "add", "path": "/spec/taints", "value": taints }),
    ]
}

/// Sets one key of `metadata.labels` or `metadata.annotations`, creating the map if the object has none.
fn set_in_map(map: &str, present: Option<&BTreeMap<String, String>>, key: &str, value: &str) -> Vec<Value> {
    let root = format!("/metadata/{map}");
    let Some(present) = present else {
        return vec![
            json!({ "op": "test", "path": root, "value": null }),
            json!({ "op": "add", "path": root, "value": { key: value } }),
        ];
    };
    if present.get(key).is_some_and(|there| there == value) {
        return Vec::new();
    }
    let path = format!("{root}/{}", key.replace('~', "~0").replace('/', "~1"));
    vec![
        json!({ "op": "test", "path": path, "value": present.get(key) }),
        json!({ "op": "add", "path": path, "value": value }),
    ]
}
