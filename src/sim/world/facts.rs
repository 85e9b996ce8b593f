//! Collects what the world knows when a scenario is over, in the report's words.

use std::collections::BTreeMap;

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use tokio::time::Instant;

use super::{Run, World, look, sinks};
use crate::drain::outcome::Outcome;
use crate::signal::Kind;
use crate::sim::gateway::log::LoggedRequest;
use crate::sim::imds::ImdsRequest;
use crate::sim::kubelet::PodFate;
use crate::sim::report::{AgentFacts, CallFact, CniFacts, Facts, ImdsFact, LookFact, PodFact};

/// Everything that a verdict needs.
pub(super) async fn collect(world: &World, run: &Run) -> Facts {
    let since_start = |moment| run.since_start(moment);
    let tail = world.agents.config().shutdown_tail;
    let calls = world.gateway.requests();
    // The tail begins when the instance is told to stop; a reboot has none.
    let deadline = run.deadline.map(|deadline| since_start(deadline) + tail).or(run.down_at.map(since_start));
    let looks = world.looks.all().into_iter().map(|look| LookFact {
        at: since_start(look.at),
        expected: look.expected,
        found: look.found,
    });
    Facts {
        notice_at: run.notice_at.map(since_start),
        deadline,
        powered_off: run.powered_off.map(since_start),
        pods: pod_facts(world, run, &calls),
        calls: calls.iter().map(|call| call_fact(call, run)).collect(),
        imds_requests: world.imds.requests().iter().map(|request| imds_fact(request, run)).collect(),
        imds_most_at_once: world.imds.most_in_flight(),
        node: look::seen(world).await,
        looks: looks.collect(),
        events: events(world).await,
        agent: agent_facts(world),
        cni: cni_facts(world, run),
        sinks: sinks::facts(world, run),
    }
}

fn cni_facts(world: &World, run: &Run) -> Option<CniFacts> {
    let ipamd = world.cni.ipamd()?;
    let end = run.powered_off.unwrap_or(world.clock.now());
    let waited = world.kubelet.fates().into_iter().filter(|fate| fate.no_address.is_some());
    Some(CniFacts {
        said: world.headrooms.all().into_iter().map(|said| said.said).collect(),
        requests: ipamd.requests().len(),
        most_at_once: ipamd.most_in_flight(),
        lasted: run.since_start(end),
        waited: waited.map(|fate| fate.name).collect(),
    })
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
        if call.is_rehearsal() {
            continue;
        }
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
        is_rehearsal: call.is_rehearsal(),
    }
}

fn imds_fact(request: &ImdsRequest, run: &Run) -> ImdsFact {
    ImdsFact {
        at: run.since_start(request.at),
        // A session that was lost costs a second try, which is none of the pace.
        is_poll: request.status != Some(401) && request.is_poll(),
        is_safe: (request.token || request.method == "PUT") && !request.forwarded_for && !request.path.contains("/iam"),
    }
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
        notices: Kind::ALL.map(|kind| (kind, sum("spotwarden_notices_total{", kind.as_str()))).into(),
        metrics: wanted_metrics(world, &texts),
        counted: counted.into_iter().filter(|&(_, pods)| pods > 0).collect(),
        died: agents.died.clone(),
    }
}

/// The series that the scenario expects, with their sums over all processes; absent if there is no such series.
fn wanted_metrics(world: &World, texts: &[String]) -> BTreeMap<String, f64> {
    let found = |series: &String| {
        let values: Vec<f64> = texts.iter().filter_map(|text| series_value(text, series)).collect();
        (!values.is_empty()).then(|| (series.clone(), values.iter().sum()))
    };
    world.scenario.expect.metrics.keys().filter_map(found).collect()
}

/// Sum of the samples of `series`, a name with the labels that matter: `a_total{kind="x"}`.
fn series_value(text: &str, series: &str) -> Option<f64> {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels: Vec<&str> = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).collect();
    let matching = text.lines().filter_map(|line| {
        let (sample, value) = line.rsplit_once(' ')?;
        let (found, found_labels) = sample.split_once('{').unwrap_or((sample, ""));
        let is_meant = found == name && labels.iter().all(|label| found_labels.contains(label.trim()));
        is_meant.then(|| value.parse::<f64>().ok()).flatten()
    });
    matching.reduce(|sum, value| sum + value)
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

    #[test]
    fn a_series_is_found_by_the_labels_that_matter() {
        let text = "a_total{kind=\"x\",code=\"1\"} 1\na_total{kind=\"x\",code=\"2\"} 2.5\na_total{kind=\"y\"} 4\nb 7\n";
        assert_eq!(series_value(text, "a_total{kind=\"x\"}"), Some(3.5));
        assert_eq!(series_value(text, "a_total{code=\"2\",kind=\"x\"}"), Some(2.5));
        assert_eq!(series_value(text, "b"), Some(7.0));
        assert_eq!(series_value(text, "a"), None);
    }
}
