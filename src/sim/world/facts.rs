//! Collects what the world knows when a scenario is over, in the report's words.

use std::collections::BTreeMap;

use crate::sim::seen::Node;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;
use tokio::time::Instant;

use super::{Run, World};
use crate::config::MarkConfig;
use crate::drain::outcome::Outcome;
use crate::interruption::fence::LOAD_BALANCER_LABEL;
use crate::interruption::state::ANNOTATION;
use crate::sim::gateway::log::LoggedRequest;
use crate::sim::imds::ImdsRequest;
use crate::sim::kubelet::PodFate;
use crate::sim::report::{AgentFacts, CallFact, Facts, ImdsFact, PodFact};
use crate::sim::scenario::FencePart;

/// What is on a node that is not the agent's.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    pub(super) cordoned: bool,
    pub(super) taints: Vec<Value>,
    labels: BTreeMap<String, String>,
}

impl Marks {
    /// Everything that is on `node` now.
    pub(super) fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let taints = spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
        Self {
            cordoned: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            taints: taints.cloned().collect(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
        }
    }

    /// What of these is not on `node`.
    fn lost(&self, node: &Self) -> Vec<String> {
        let cordon = (self.cordoned && !node.cordoned).then(|| "cordon".to_owned());
        let taints =
            self.taints.iter().filter(|taint| !node.taints.contains(taint)).map(|taint| format!("taint {taint}"));
        let labels = self.labels.iter().filter(|(key, value)| node.labels.get(*key) != Some(*value));
        cordon.into_iter().chain(taints).chain(labels.map(|(key, _)| format!("label {key}"))).collect()
    }
}

/// Everything that a verdict needs.
pub(super) async fn collect(world: &World, run: &Run) -> Facts {
    let since_start = |moment| run.since_start(moment);
    let tail = world.agents.config().shutdown_tail;
    let calls = world.gateway.requests();
    let (fence, foreign_lost) = node_facts(world).await;
    Facts {
        notice_at: run.notice_at.map(since_start),
        deadline: run.deadline.map(|deadline| since_start(deadline) + tail),
        powered_off: run.powered_off.map(since_start),
        pods: pod_facts(world, run, &calls),
        calls: calls.iter().map(|call| call_fact(call, run)).collect(),
        imds_requests: world.imds.requests().iter().map(|request| imds_fact(request, run)).collect(),
        imds_most_at_once: world.imds.most_in_flight(),
        fence,
        foreign_lost,
        events: events(world).await,
        agent: agent_facts(world),
    }
}

fn pod_facts(world: &World, run: &Run, calls: &[LoggedRequest]) -> Vec<PodFact> {
    let fates = world.kubelet.fates();
    let told_by_others = world.notes.told_pods();
    let mut facts = Vec::new();
    for group in &world.scenario.pods {
        for name in group.pod_names() {
            let mut fact = PodFact {
                group: group.name.clone(),
                drained: group.is_drained(),
                wanted: group.grace,
                told_by_other: told_by_others.contains_key(&name),
                name,
                ..PodFact::default()
            };
            if let Some(fate) = fates.iter().find(|fate| fate.name == fact.name) {
                take_over(&mut fact, fate, run);
            }
            let told_by_other = told_by_others.get(&fact.name).copied();
            judge_calls(&mut fact, calls, told_by_other);
            facts.push(fact);
        }
    }
    facts
}

fn take_over(fact: &mut PodFact, fate: &PodFate, run: &Run) {
    fact.granted = fate.grace_granted.map(|grace| u32::try_from(grace.as_secs()).unwrap_or(u32::MAX));
    fact.told_at = fate.told_at.map(|at| run.since_start(at));
    fact.ended_at = fate.exited_at.map(|at| run.since_start(at));
    fact.gone_at = fate.gone_at.map(|at| run.since_start(at));
    fact.killed = fate.killed;
    fact.cut_off = fate.cut_off;
}

/// What the agent did to the pod. A deletion of a pod that was being stopped already only shortens its stop; any other
/// goes past a refusal.
fn judge_calls(fact: &mut PodFact, calls: &[LoggedRequest], told_by_other: Option<Instant>) {
    let mut being_stopped = told_by_other;
    let of_pod = calls.iter().filter(|call| call.attributes.name == fact.name && (200..300).contains(&call.code));
    for call in of_pod {
        let at = call.answered_at.unwrap_or(call.at).instant;
        if call.is("create", "pods/eviction") {
            fact.told_by_agent = true;
            being_stopped = being_stopped.or(Some(at));
        } else if call.is("delete", "pods") {
            fact.told_by_agent = true;
            fact.forced |= being_stopped.is_none_or(|since| at < since);
        }
    }
}

fn call_fact(call: &LoggedRequest, run: &Run) -> CallFact {
    CallFact {
        at: run.since_start(call.at),
        answered: call.answered_at.map(|at| run.since_start(at)),
        verb: call.attributes.verb.to_owned(),
        resource: call.attributes.resource_path(),
        status: (call.code != 0).then_some(call.code),
    }
}

fn imds_fact(request: &ImdsRequest, run: &Run) -> ImdsFact {
    let polls = ["/spot/", "/events/", "/autoscaling/"];
    ImdsFact {
        at: run.since_start(request.at),
        // A session that was lost costs a second try, which is none of the pace.
        is_poll: request.status != Some(401) && polls.iter().any(|part| request.path.contains(part)),
        is_safe: (request.token || request.method == "PUT") && !request.forwarded_for && !request.path.contains("/iam"),
    }
}

async fn node_facts(world: &World) -> (Vec<FencePart>, Vec<String>) {
    let nodes: Api<Node> = Api::all(world.backend.client.clone());
    match nodes.get(&world.node).await {
        Ok(node) => {
            let marks = Marks::of(&node);
            (fence_parts(&node, &marks, &world.agents.config().marks), world.foreign.lost(&marks))
        }
        Err(error) => (Vec::new(), vec![format!("the node cannot be read: {error}")]),
    }
}

fn fence_parts(node: &Node, marks: &Marks, taint: &MarkConfig) -> Vec<FencePart> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
    let is_there = |part: &FencePart| match part {
        FencePart::Taint => marks.taints.iter().any(|found| {
            text(found, "key").as_deref() == Some(&taint.taint_key)
                && text(found, "effect").as_deref() == Some(&taint.taint_effect)
        }),
        FencePart::Cordon => marks.cordoned,
        FencePart::Label => marks.labels.contains_key(LOAD_BALANCER_LABEL),
        FencePart::Annotation => node.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(ANNOTATION)),
    };
    FencePart::ALL.into_iter().filter(is_there).collect()
}

/// Events on the node by reason; one that was counted up by the server counts as often.
async fn events(world: &World) -> BTreeMap<String, u32> {
    let api: Api<Event> = Api::all(world.backend.client.clone());
    let Ok(events) = api.list(&ListParams::default()).await else {
        return BTreeMap::from([("the Events cannot be read".to_owned(), 2)]);
    };
    let mut found = BTreeMap::new();
    for event in events {
        let on_node = event.regarding.as_ref().is_some_and(|regarding| {
            regarding.kind.as_deref() == Some("Node") && regarding.name.as_deref() == Some(&world.node)
        });
        if on_node {
            let times = event.series.map_or(1, |series| u32::try_from(series.count).unwrap_or(1));
            *found.entry(event.reason.unwrap_or_default()).or_insert(0) += times;
        }
    }
    found
}

fn agent_facts(world: &World) -> AgentFacts {
    let agents = &world.agents;
    let status = agents.status().unwrap_or_default();
    let texts: Vec<String> = agents.lives.iter().map(|life| life.metrics.text(None).1).collect();
    let sum = |name: &str, label: &str| -> u32 { texts.iter().map(|text| sample(text, name, label)).sum() };
    let counted = Outcome::ALL.map(|outcome| (outcome, sum("spotwarden_drained_pods_total{", outcome.as_str())));
    let outcomes = status.pods.iter().filter_map(|pod| Some((pod.id.name.clone(), pod.outcome?))).collect();
    AgentFacts {
        lives: u32::try_from(agents.lives.len()).unwrap_or(u32::MAX),
        outcomes,
        slack_seconds: status.slack_seconds,
        notices: sum("spotwarden_notices_total{", ""),
        counted: counted.into_iter().filter(|&(_, pods)| pods > 0).collect(),
        died: agents.died.clone(),
    }
}

/// Sum of the samples of a counter whose labels contain `label`.
fn sample(text: &str, name: &str, label: &str) -> u32 {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
    let wanted = lines.filter(|(labels, _)| label.is_empty() || labels.contains(&format!("\"{label}\"")));
    let whole = |value: &str| value.split('.').next()?.parse::<u32>().ok();
    wanted.filter_map(|(_, value)| whole(value)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_either_text_format() {
        let text = "# HELP a b\nspotwarden_notices_total{kind=\"x\"} 1\nspotwarden_notices_total{kind=\"y\"} 2.0\n\
                    spotwarden_notices_total_other 7\n";
        assert_eq!(sample(text, "spotwarden_notices_total{", ""), 3);
        assert_eq!(sample(text, "spotwarden_notices_total{", "y"), 2);
    }
}
