//! The marks on the node: what it should carry, what it carries, and the guarded JSON Patch between the two.
//!
//! Every change is guarded by a `test` of what was there before. That makes ownership exact (what we set is what was not
//! there), keeps foreign taints byte for byte and in order, and does not conflict with unrelated writes to the Node such
//! as the kubelet's status updates. A `test` of an absent path against `null` holds at the API server. The way back is
//! made of the same parts: only what is recorded as ours and still has our value goes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::state::{ANNOTATION, Entry, Episode, Marks, State, Taint, Trace, VERSION};
use crate::config::Response;
use crate::k8s::node::NodeView;

/// Load balancer controllers drop a node that carries this label, whatever its value.
pub const LOAD_BALANCER_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Taints of others who take a node away for good: Karpenter, the Cluster Autoscaler. While one of these stands they rely
/// on a cordon and on load balancers keeping off, whoever saw to that.
const TAKEN_OVER_BY: [&str; 2] = ["karpenter.sh/disrupted", "ToBeDeletedByClusterAutoscaler"];

/// One part of the marks; the API server may refuse each on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The state annotation.
    State,
    /// `spec.unschedulable`; the VPC CNI then stops moving network interfaces.
    Unschedulable,
    /// The taints.
    Taints,
    /// The labels: the load balancers' above all.
    Labels,
}

impl Part {
    /// The parts that schedulers and load balancers look at.
    pub const MARKS: [Self; 3] = [Self::Unschedulable, Self::Taints, Self::Labels];

    /// The name in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State => "state annotation",
            Self::Unschedulable => "unschedulable",
            Self::Taints => "taint",
            Self::Labels => "load balancer label",
        }
    }
}

/// What the node should carry on account of what is coming. Nothing at all if nothing is.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// The strictest response; `Ignore` if nothing is coming.
    pub response: Response,
    /// What the annotation tells of it.
    pub announcements: Vec<Entry>,
    /// What the fence is named after.
    pub episode: Option<Episode>,
    /// What the interruption is called outside.
    pub trace: Option<Trace>,
    /// Taints.
    pub taints: Vec<Taint>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl Marks {
    /// The parts that these marks belong to.
    pub fn parts(&self) -> Vec<Part> {
        let parts = [
            (Part::Unschedulable, self.unschedulable),
            (Part::Taints, !self.taints.is_empty()),
            (Part::Labels, !self.labels.is_empty()),
        ];
        parts.into_iter().filter(|(_, any)| *any).map(|(part, _)| part).collect()
    }
}

impl Goal {
    /// The node carries nothing of ours.
    pub fn nothing() -> Self {
        Self {
            response: Response::Ignore,
            announcements: Vec::new(),
            episode: None,
            trace: None,
            taints: Vec::new(),
            unschedulable: false,
            labels: BTreeMap::new(),
        }
    }

    /// Nothing is coming.
    pub fn is_nothing(&self) -> bool {
        self.announcements.is_empty()
    }

    /// New pods have to stay away, as opposed to being asked to.
    pub fn is_hard(&self) -> bool {
        self.response >= Response::Cordon
    }
}

/// The operations that bring one part of the marks to its goal; empty if nothing has to change. `ours` is brought up to
/// date: some of it may leave without an operation, because somebody else took it away or made it theirs.
pub fn mark_ops(part: Part, node: &NodeView, goal: &Goal, ours: &mut Marks) -> Vec<Value> {
    match part {
        Part::State => Vec::new(),
        Part::Unschedulable => unschedulable(node, goal, ours),
        Part::Taints => taints(node, goal, ours),
        Part::Labels => labels(node, goal, ours),
    }
}

/// The annotation that says this; none if nothing is coming and nothing is left to take away.
pub fn state(goal: &Goal, marks: &Marks, boot_id: Option<&String>, complete: bool) -> Option<String> {
    let state = State {
        version: VERSION,
        boot_id: boot_id.cloned(),
        response: goal.response,
        complete,
        announcements: goal.announcements.clone(),
        episode: goal.episode.clone(),
        trace: goal.trace.clone(),
        marks: marks.clone(),
    };
    (!goal.is_nothing() || !marks.is_empty()).then(|| state.to_text())
}

/// The operations that bring the annotation to this text, or take it away; empty if it is so already.
pub fn state_ops(node: &NodeView, text: Option<&str>) -> Vec<Value> {
    match text {
        Some(text) => set_in_map("annotations", node.annotations.as_ref(), ANNOTATION, text),
        None => remove_from_map("annotations", ANNOTATION, state_text(node)),
    }
}

/// The marks of `ours` that `node` carries as we set them.
pub fn present(node: &NodeView, ours: &Marks) -> Marks {
    let labels = node.labels.as_ref();
    Marks {
        taints: ours.taints.iter().filter(|taint| position(node, taint).is_some()).cloned().collect(),
        unschedulable: ours.unschedulable && node.unschedulable == Some(true),
        labels: ours
            .labels
            .iter()
            .filter(|(key, value)| labels.and_then(|labels| labels.get(*key)) == Some(value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    }
}

/// Somebody else is taking this node away, and what both of us want there is not to be undone meanwhile.
pub fn taken_over(node: &NodeView) -> bool {
    node.taints
        .iter()
        .flatten()
        .any(|taint| taint.get("key").and_then(Value::as_str).is_some_and(|key| TAKEN_OVER_BY.contains(&key)))
}

/// Whether what the guards test differs between the Node that a patch was made for and the Node as it is now. If it does
/// not, a refusal was meant.
pub fn guards_moved(before: &NodeView, now: &NodeView) -> bool {
    before.taints != now.taints
        || before.unschedulable.unwrap_or(false) != now.unschedulable.unwrap_or(false)
        || before.labels != now.labels
        || state_text(before) != state_text(now)
        || before.annotations.is_none() != now.annotations.is_none()
}

/// The state annotation's text.
pub fn state_text(node: &NodeView) -> Option<&str> {
    node.annotations.as_ref()?.get(ANNOTATION).map(String::as_str)
}

fn unschedulable(node: &NodeView, goal: &Goal, ours: &mut Marks) -> Vec<Value> {
    let is = node.unschedulable == Some(true);
    let path = "/spec/unschedulable";
    match (goal.unschedulable, is) {
        (true, true) => Vec::new(),
        (true, false) => {
            ours.unschedulable = true;
            let guard = json!({ "op": "test", "path": path, "value": node.unschedulable });
            vec![guard, json!({ "op": "add", "path": path, "value": true })]
        }
        (false, is) => {
            let undo = is && ours.unschedulable;
            ours.unschedulable = false;
            if !undo {
                return Vec::new();
            }
            vec![json!({ "op": "test", "path": path, "value": true }), json!({ "op": "remove", "path": path })]
        }
    }
}

fn taints(node: &NodeView, goal: &Goal, ours: &mut Marks) -> Vec<Value> {
    let before = node.taints.clone().unwrap_or_default();
    let mut after = before.clone();
    let leaving: Vec<Taint> = ours.taints.iter().filter(|taint| !goal.taints.contains(taint)).cloned().collect();
    for taint in leaving {
        ours.taints.retain(|kept| *kept != taint);
        after.retain(|other| !is_ours(other, &taint));
    }
    for taint in &goal.taints {
        let same = |other: &Value| text(other, "key") == taint.key && text(other, "effect") == taint.effect;
        if !after.iter().any(same) {
            after.push(json!({ "key": taint.key, "value": taint.value, "effect": taint.effect }));
            if !ours.taints.contains(taint) {
                ours.taints.push(taint.clone());
            }
        }
    }
    if after == before {
        return Vec::new();
    }
    let guard = json!({ "op": "test", "path": "/spec/taints", "value": node.taints });
    let change = if after.is_empty() {
        json!({ "op": "remove", "path": "/spec/taints" })
    } else {
        json!({ "op": "add", "path": "/spec/taints", "value": after })
    };
    vec![guard, change]
}

fn labels(node: &NodeView, goal: &Goal, ours: &mut Marks) -> Vec<Value> {
    let mut ops = Vec::new();
    let is = |key: &str| node.labels.as_ref().and_then(|labels| labels.get(key));
    let leaving: Vec<String> = ours.labels.keys().filter(|key| !goal.labels.contains_key(*key)).cloned().collect();
    for key in leaving {
        let value = ours.labels.remove(&key);
        if is(&key) == value.as_ref() {
            ops.extend(remove_from_map("labels", &key, value.as_deref()));
        }
    }
    if node.labels.is_none() && !goal.labels.is_empty() {
        ours.labels.extend(goal.labels.clone());
        return vec![
            json!({ "op": "test", "path": "/metadata/labels", "value": null }),
            json!({ "op": "add", "path": "/metadata/labels", "value": goal.labels }),
        ];
    }
    for (key, value) in &goal.labels {
        match is(key) {
            // Somebody else's, whatever its value; load balancers look at the key alone.
            Some(other) if ours.labels.get(key) != Some(other) => drop(ours.labels.remove(key)),
            // Ours, perhaps with the value of an earlier announcement, which does as well.
            Some(_) => {}
            None => {
                ops.extend(set_in_map("labels", node.labels.as_ref(), key, value));
                ours.labels.insert(key.clone(), value.clone());
            }
        }
    }
    ops
}

fn text<'a>(taint: &'a Value, field: &str) -> &'a str {
    taint.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn is_ours(other: &Value, taint: &Taint) -> bool {
    text(other, "key") == taint.key && text(other, "effect") == taint.effect && text(other, "value") == taint.value
}

fn position(node: &NodeView, taint: &Taint) -> Option<usize> {
    node.taints.as_ref()?.iter().position(|other| is_ours(other, taint))
}

fn pointer(map: &str, key: &str) -> String {
    format!("/metadata/{map}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Sets one key of `metadata.labels` or `metadata.annotations`, creating the map if the object has none.
fn set_in_map(map: &str, present: Option<&BTreeMap<String, String>>, key: &str, value: &str) -> Vec<Value> {
    let Some(present) = present else {
        let root = format!("/metadata/{map}");
        return vec![
            json!({ "op": "test", "path": root, "value": null }),
            json!({ "op": "add", "path": root, "value": { key: value } }),
        ];
    };
    if present.get(key).is_some_and(|there| there == value) {
        return Vec::new();
    }
    let path = pointer(map, key);
    vec![
        json!({ "op": "test", "path": path, "value": present.get(key) }),
        json!({ "op": "add", "path": path, "value": value }),
    ]
}

/// Removes one key that has this value.
fn remove_from_map(map: &str, key: &str, value: Option<&str>) -> Vec<Value> {
    let Some(value) = value else { return Vec::new() };
    let path = pointer(map, key);
    vec![json!({ "op": "test", "path": path, "value": value }), json!({ "op": "remove", "path": path })]
}
