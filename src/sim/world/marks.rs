//! What stands on the Node, whose it is, and what would stand there without the agent.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::cni;
use crate::cni::taint;
use crate::config::{MarkConfig, MarkStyle};
use crate::interruption::fence::LOAD_BALANCER_LABEL;
use crate::interruption::state::ANNOTATION;
use crate::sim::report::NodeFacts;
use crate::sim::scenario::{ActorDoes, FencePart, Taint};
use crate::sim::seen::Node;

/// What every taint of the AWS node termination handler begins with.
const NTH_PREFIX: &str = "aws-node-termination-handler/";

/// The parts of a Node that agents and people change.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Marks {
    cordoned: bool,
    /// As they came over the wire, in their order.
    taints: Vec<Value>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Marks {
    /// Everything that is on `node` now, but for the control plane's taint of a cordon, which follows from the cordon.
    pub(super) fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let mut taints = spec.and_then(|spec| spec.taints.clone());
        if let Some(taints) = &mut taints {
            taints.retain(|taint| !cni::is_cordon_taint(taint));
        }
        Self {
            cordoned: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            taints: taints.unwrap_or_default(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            annotations: node.metadata.annotations.clone().unwrap_or_default(),
        }
    }

    /// The marks after somebody else's change; what changes no Node leaves them as they are.
    pub(super) fn change(&mut self, does: &ActorDoes) {
        match does {
            ActorDoes::Cordon | ActorDoes::Drain { .. } => self.cordoned = true,
            ActorDoes::Uncordon => self.cordoned = false,
            ActorDoes::Taint(taint) => self.taints.push(taint_value(taint)),
            ActorDoes::Untaint(taint) => self.taints.retain(|found| !is_same(found, taint)),
            ActorDoes::Label(pair) => _ = self.labels.insert(pair.key.clone(), pair.value.clone()),
            ActorDoes::Unlabel(key) => _ = self.labels.remove(key),
            ActorDoes::Annotate(pair) => _ = self.annotations.insert(pair.key.clone(), pair.value.clone()),
            ActorDoes::Unannotate(key) => _ = self.annotations.remove(key),
            ActorDoes::Evict { .. } | ActorDoes::Delete { .. } => {}
        }
    }

    /// What is on the node, where `without` is what would be there without the agent.
    pub(super) fn facts(&self, without: &Self, config: &MarkConfig) -> NodeFacts {
        NodeFacts {
            fence: self.fence(without, config),
            taint: self.taint_of_the_agent(without, config).map(|taint| text(taint, "effect").to_owned()),
            exhaustion_taint: self.taints.iter().any(|taint| {
                let is_told = text(taint, "key") == taint::KEY && text(taint, "value") == taint::VALUE;
                is_told && !without.taints.contains(taint)
            }),
            cordoned: self.cordoned,
            lost: self.lost(without),
            differs: self.differences(without),
            pending: Vec::new(),
            headroom: None,
        }
    }

    /// Of several the one that keeps the scheduler away.
    fn taint_of_the_agent<'a>(&'a self, without: &Self, config: &MarkConfig) -> Option<&'a Value> {
        let is_ours = |taint: &&Value| match config.style {
            MarkStyle::Spotwarden => text(taint, "key") == config.taint_key,
            MarkStyle::NodeTerminationHandler => text(taint, "key").starts_with(NTH_PREFIX),
        };
        let ours = || self.taints.iter().filter(is_ours).filter(|taint| !without.taints.contains(taint));
        ours().find(|taint| text(taint, "effect") == config.taint_effect).or_else(|| ours().next())
    }

    fn fence(&self, without: &Self, config: &MarkConfig) -> Vec<FencePart> {
        let taint = self.taint_of_the_agent(without, config);
        let is_there = |part: &FencePart| match part {
            FencePart::Taint => taint.is_some_and(|taint| text(taint, "effect") == config.taint_effect),
            FencePart::Cordon => self.cordoned,
            FencePart::Label => self.labels.contains_key(LOAD_BALANCER_LABEL),
            FencePart::Annotation => self.annotations.contains_key(ANNOTATION),
        };
        FencePart::ALL.into_iter().filter(is_there).collect()
    }

    /// What others put on the node and is not there.
    fn lost(&self, without: &Self) -> Vec<String> {
        let cordon = (without.cordoned && !self.cordoned).then(|| "cordon".to_owned());
        let taints = without.taints.iter().filter(|taint| !self.taints.contains(taint));
        let taints = taints.map(|taint| format!("taint {taint}"));
        let missing = |(kind, theirs, found): (&str, &BTreeMap<String, String>, &BTreeMap<String, String>)| {
            let lost = theirs.iter().filter(|(key, value)| found.get(*key) != Some(*value));
            lost.map(|(key, _)| format!("{kind} {key}")).collect::<Vec<_>>()
        };
        let maps = [("label", &without.labels, &self.labels), ("annotation", &without.annotations, &self.annotations)];
        cordon.into_iter().chain(taints).chain(maps.into_iter().flat_map(missing)).collect()
    }

    /// Everything in which the node is not what it would be.
    fn differences(&self, without: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.cordoned != without.cordoned {
            differences.push(if self.cordoned { "it is cordoned" } else { "it is not cordoned" }.to_owned());
        }
        if self.taints != without.taints {
            differences.push(format!("taints are {}, not {}", json!(self.taints), json!(without.taints)));
        }
        for (kind, found, wanted) in
            [("label", &self.labels, &without.labels), ("annotation", &self.annotations, &without.annotations)]
        {
            let keys = found.keys().chain(wanted.keys().filter(|key| !found.contains_key(*key)));
            let changed = keys.filter(|key| found.get(*key) != wanted.get(*key));
            differences.extend(changed.map(|key| format!("{kind} {key}")));
        }
        differences
    }
}

/// Makes somebody else's change in a Node as the API has it.
pub(super) fn change_node(node: &mut Value, does: &ActorDoes) {
    match does {
        ActorDoes::Cordon | ActorDoes::Drain { .. } => {
            with(node, "spec", |spec| drop(spec.insert("unschedulable".into(), true.into())));
        }
        ActorDoes::Uncordon => with(node, "spec", |spec| drop(spec.remove("unschedulable"))),
        ActorDoes::Taint(taint) => with(node, "spec", |spec| {
            let taints = spec.entry("taints").or_insert_with(|| json!([]));
            taints.as_array_mut().into_iter().for_each(|taints| taints.push(taint_value(taint)));
        }),
        ActorDoes::Untaint(taint) => with(node, "spec", |spec| {
            if let Some(taints) = spec.get_mut("taints").and_then(Value::as_array_mut) {
                taints.retain(|found| !is_same(found, taint));
            }
        }),
        ActorDoes::Label(pair) => set(node, "labels", &pair.key, Some(&pair.value)),
        ActorDoes::Unlabel(key) => set(node, "labels", key, None),
        ActorDoes::Annotate(pair) => set(node, "annotations", &pair.key, Some(&pair.value)),
        ActorDoes::Unannotate(key) => set(node, "annotations", key, None),
        ActorDoes::Evict { .. } | ActorDoes::Delete { .. } => {}
    }
}

fn with(node: &mut Value, part: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    if let Some(part) = node.get_mut(part).and_then(Value::as_object_mut) {
        change(part);
    }
}

fn set(node: &mut Value, map: &str, key: &str, value: Option<&str>) {
    with(node, "metadata", |metadata| {
        let map = metadata.entry(map).or_insert_with(|| json!({}));
        let Some(map) = map.as_object_mut() else { return };
        match value {
            Some(value) => drop(map.insert(key.to_owned(), value.into())),
            None => drop(map.remove(key)),
        }
    });
}

/// A taint as the API writes it.
fn taint_value(taint: &Taint) -> Value {
    let mut value = json!({"key": taint.key, "effect": taint.effect});
    if !taint.value.is_empty() {
        with_value(&mut value, &taint.value);
    }
    value
}

fn with_value(taint: &mut Value, value: &str) {
    taint.as_object_mut().into_iter().for_each(|taint| drop(taint.insert("value".into(), value.into())));
}

/// Kubernetes identifies a taint by key and effect.
fn is_same(found: &Value, taint: &Taint) -> bool {
    text(found, "key") == taint.key && text(found, "effect") == taint.effect
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::sim::scenario::KeyValue;

    fn marks(taints: Value, labels: &[(&str, &str)], cordoned: bool) -> Marks {
        let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Marks { cordoned, taints: serde_json::from_value(taints).unwrap(), labels, ..Marks::default() }
    }

    fn ours(effect: &str) -> Value {
        json!({"key": "spotwarden/interruption", "value": "spot-interruption", "effect": effect})
    }

    #[test]
    fn the_agents_taint_is_told_from_everybody_elses() {
        let config = Config::for_node("n").marks;
        let theirs = json!({"key": "dedicated", "value": "batch", "effect": "NoSchedule"});
        let without = marks(json!([theirs]), &[], false);
        let facts = marks(json!([theirs, ours("PreferNoSchedule")]), &[], false).facts(&without, &config);
        assert_eq!((facts.taint.as_deref(), facts.fence.len()), (Some("PreferNoSchedule"), 0));
        let fenced = marks(json!([theirs, ours("NoSchedule")]), &[], true).facts(&without, &config);
        assert_eq!(fenced.fence, [FencePart::Taint, FencePart::Cordon]);
        // Somebody had set the very same before: it is not the agent's.
        let before = marks(json!([ours("NoSchedule")]), &[], false);
        assert_eq!(before.facts(&before, &config).taint, None);
    }

    #[test]
    fn a_node_is_restored_only_byte_for_byte_and_in_order() {
        let config = Config::for_node("n").marks;
        let (a, b) = (json!({"key": "a", "effect": "NoSchedule"}), json!({"key": "b", "effect": "NoSchedule"}));
        let without = marks(json!([a, b]), &[("team", "x")], false);
        assert_eq!(without.facts(&without, &config).differs, [""; 0]);
        for other in [
            marks(json!([b, a]), &[("team", "x")], false),
            marks(json!([a, b]), &[("team", "y")], false),
            marks(json!([a, b]), &[("team", "x"), ("more", "")], false),
            marks(json!([a, b]), &[("team", "x")], true),
        ] {
            assert_eq!(other.facts(&without, &config).differs.len(), 1, "{other:?}");
        }
        let lost = marks(json!([b]), &[], false).facts(&without, &config).lost;
        assert_eq!(lost, [format!("taint {a}"), "label team".to_owned()]);
    }

    #[test]
    fn what_others_do_is_done_to_the_node_and_to_what_it_would_be() {
        let taint = Taint { key: "k".into(), value: "v".into(), effect: "NoSchedule".into() };
        let pair = KeyValue { key: "l".into(), value: "1".into() };
        let mut node = json!({"metadata": {"name": "n"}, "spec": {}});
        let mut marks = Marks::default();
        for does in [
            ActorDoes::Cordon,
            ActorDoes::Taint(taint.clone()),
            ActorDoes::Label(pair.clone()),
            ActorDoes::Annotate(pair),
        ] {
            change_node(&mut node, &does);
            marks.change(&does);
        }
        assert_eq!(Marks::of(&serde_json::from_value(node.clone()).unwrap()), marks);
        assert_eq!(node["spec"]["taints"], json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]));
        let undone = [
            ActorDoes::Uncordon,
            ActorDoes::Untaint(taint),
            ActorDoes::Unlabel("l".into()),
            ActorDoes::Unannotate("l".into()),
        ];
        for does in undone {
            change_node(&mut node, &does);
            marks.change(&does);
        }
        assert_eq!(marks, Marks::default());
        assert_eq!(Marks::of(&serde_json::from_value(node).unwrap()), marks);
    }
}
