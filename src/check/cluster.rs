//! What the answers of the API server mean. Pure.

use std::time::Duration;

use serde_json::Value;

use super::report::{API_SERVER, BUDGETS, CONFINEMENT, FENCE, FORECAST, Finding, MOST_NAMED, NODE, NODE_MARKS, Status};
use crate::check::access::RIGHTS;
use crate::config::Config;
use crate::drain::eviction::EvictionAnswer;
use crate::drain::forecast::{Forecast, PodForecast, Verdict};
use crate::drain::pod::{PodRef, PodView};
use crate::interruption::fence::{LOAD_BALANCER_LABEL, present, state_text};
use crate::interruption::state::{ANNOTATION, State, StateError};
use crate::k8s::node::NodeView;

/// An API server that takes longer than this for its version eats into two minutes.
const NOTABLE_LATENCY: Duration = Duration::from_secs(1);

/// Taint keys of the AWS node termination handler, which `--node-marks` may take.
const FOREIGN_STYLE: &str = "aws-node-termination-handler/";

/// Why the API server gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// There is no way to it.
    #[error("{0}")]
    NoClient(String),
    /// It refused.
    #[error("answers {code}: {message}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// Its words.
        message: String,
    },
    /// No connection, or a broken one.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The time was up.
    #[error("no answer within {} s", .0.as_secs())]
    Slow(Duration),
}

/// Its version and how long it took to say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// E.g. `v1.34.2`; empty if it does not tell.
    pub name: String,
    /// From the request to the answer, the connection included.
    pub after: Duration,
}

/// Whether the API server answers us.
pub fn api_server(version: &Result<Version, Trouble>) -> Finding {
    let version = match version {
        Ok(version) => version,
        Err(trouble) => {
            return Finding::new(API_SERVER, Status::Missing, trouble.to_string()).remedy(way_there(trouble));
        }
    };
    let name = if version.name.is_empty() { "it does not tell its version" } else { &version.name };
    let found = format!("{name}, answered after {} ms", version.after.as_millis());
    if version.after > NOTABLE_LATENCY {
        return Finding::new(API_SERVER, Status::Warning, found).remedy(
            "Look at the API server's load and at the network in between: a drain is one request for each pod.",
        );
    }
    Finding::new(API_SERVER, Status::Ok, found)
}

fn way_there(trouble: &Trouble) -> &'static str {
    match trouble {
        Trouble::NoClient(_) => {
            "Run it in the agent's pod with its service account's token mounted, or name a kubeconfig with --kubeconfig."
        }
        Trouble::Refused { code: 401, .. } => {
            "Give it a token that the API server accepts: the pod's own, or a fresh one in the kubeconfig."
        }
        Trouble::Refused { .. } => "Look at what stands between this node and the API server, a proxy say.",
        Trouble::Unreachable(_) | Trouble::Slow(_) => {
            "Check the address (KUBERNETES_SERVICE_HOST, or the server in the kubeconfig), security groups, network \
             policies and DNS."
        }
    }
}

/// The findings that need the API server, if it does not answer.
pub fn skipped() -> Vec<Finding> {
    let rights = RIGHTS.iter().map(|right| right.id);
    let ids = [NODE, NODE_MARKS].into_iter().chain(rights).chain([CONFINEMENT, FENCE, BUDGETS, FORECAST]);
    ids.map(|id| Finding::new(id, Status::Skipped, "the API server does not answer")).collect()
}

/// The own Node as it was read; `None` if there is none of this name.
pub type NodeRead = Result<Option<NodeView>, Trouble>;

/// Whether there is a Node of the given name.
pub fn node(name: &str, read: &NodeRead) -> Finding {
    match read {
        Ok(Some(node)) => {
            let boot = node.boot_id.as_deref().unwrap_or("unknown");
            Finding::new(NODE, Status::Ok, format!("{name}, boot id {boot}"))
        }
        Ok(None) => Finding::new(NODE, Status::Missing, format!("there is no Node {name}")).remedy(
            "Set NODE_NAME to the name that kubectl get nodes shows; in a pod from the downward API (fieldRef: \
             spec.nodeName).",
        ),
        Err(trouble) => Finding::new(NODE, Status::Missing, trouble.to_string())
            .remedy("See the checks nodes-list and api-server: the agent watches its own Node."),
    }
}

/// What is on the Node: who closed it, and what of it is ours.
pub fn marks(config: &Config, read: &NodeRead) -> Finding {
    let Ok(Some(node)) = read else {
        return Finding::new(NODE_MARKS, Status::Skipped, "the Node cannot be read");
    };
    match state_text(node).map(State::parse) {
        Some(Err(error)) => unreadable(&error, &node.name),
        Some(Ok(state)) => recorded(&state, node),
        None => unrecorded(config, node),
    }
}

fn recorded(state: &State, node: &NodeView) -> Finding {
    let coming = state.announcements.iter().map(|entry| {
        let at = entry.deadline.map(|at| format!(" at {at}")).unwrap_or_default();
        format!("{} ({}){at}", entry.kind.as_str(), entry.action.as_str())
    });
    let coming = coming.collect::<Vec<_>>().join(", ");
    let marks = present(node, &state.marks);
    let foreign = node.unschedulable == Some(true) && !marks.unschedulable;
    let cordon = if foreign { "; cordoned by somebody else" } else { "" };
    let taints = marks.taints.iter().map(|taint| format!("taint {}={}:{}", taint.key, taint.value, taint.effect));
    let ours = taints
        .chain(marks.unschedulable.then(|| "cordon".to_owned()))
        .chain(marks.labels.keys().map(|key| format!("label {key}")));
    let finding = |found: String| {
        Finding::new(NODE_MARKS, Status::Warning, found).details(ours.map(|mark| format!("ours: {mark}")))
    };
    if state.boot_id.is_some() && state.boot_id != node.boot_id {
        return finding(format!("left by an earlier boot of this node: {coming}{cordon}")).remedy(
            "Let the agent run: after a reboot it judges anew and takes its own marks away if nothing is coming.",
        );
    }
    finding(format!("an interruption is recorded: {coming}{cordon}"))
}

fn unrecorded(config: &Config, node: &NodeView) -> Finding {
    let alike = marks_like_ours(config, node);
    let cordoned = node.unschedulable == Some(true);
    if alike.is_empty() && cordoned {
        return Finding::new(NODE_MARKS, Status::Warning, "cordoned, and not by the agent")
            .remedy(format!("If nobody wants it closed: kubectl uncordon {}", node.name));
    }
    if alike.is_empty() {
        return Finding::new(NODE_MARKS, Status::Ok, "not cordoned, no mark of ours");
    }
    let cordon = if cordoned { ", and cordoned" } else { "" };
    let found = format!("marks like ours, but nothing is recorded: {}{cordon}", alike.join(", "));
    Finding::new(NODE_MARKS, Status::Warning, found).remedy(format!(
        "The agent takes away only what it has recorded as its own; if nobody else wants these marks, remove them: \
         kubectl edit node {}",
        node.name
    ))
}

fn unreadable(error: &StateError, node: &str) -> Finding {
    Finding::new(NODE_MARKS, Status::Warning, error.to_string())
        .remedy(format!("If nothing is under way: kubectl annotate node {node} {ANNOTATION}-"))
}

/// Taints and labels that the agent could have set.
fn marks_like_ours(config: &Config, node: &NodeView) -> Vec<String> {
    let text = |taint: &Value, field: &str| taint.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let taints = node.taints.iter().flatten().filter_map(|taint| {
        let key = text(taint, "key");
        let ours = key == config.marks.taint_key || key.starts_with(FOREIGN_STYLE);
        ours.then(|| format!("taint {key}={}:{}", text(taint, "value"), text(taint, "effect")))
    });
    let labels = node.labels.iter().flatten().filter_map(|(key, value)| {
        let own_value = value == "spotwarden" || format!("{value}/") == FOREIGN_STYLE;
        let ours = key.starts_with(FOREIGN_STYLE) || (key == LOAD_BALANCER_LABEL && own_value);
        ours.then(|| format!("label {key}"))
    });
    taints.chain(labels).collect()
}

/// The findings that need the pods, if they cannot be read.
pub fn without_pods() -> Vec<Finding> {
    let found = "the node's pods cannot be read; see the checks node and pods-list";
    [BUDGETS, FORECAST].map(|id| Finding::new(id, Status::Skipped, found)).into()
}

/// The pods that a drain would stop.
pub fn to_drain(pods: &[PodView]) -> Vec<PodRef> {
    pods.iter().filter(|pod| pod.skip().is_none() && pod.deletion.is_none()).map(|pod| pod.id.clone()).collect()
}

/// The finding if evictions cannot be tried out.
pub fn budgets_unknown(needed: bool) -> Finding {
    let why = if needed {
        "evictions are not known to be allowed; see the check pods-eviction-create"
    } else {
        "these settings do not drain"
    };
    Finding::new(BUDGETS, Status::Skipped, why)
}

/// Which evictions would be refused now.
pub fn budgets(answers: &[(PodRef, EvictionAnswer)]) -> Finding {
    let refused: Vec<(&PodRef, &str)> =
        answers.iter().filter_map(|(pod, answer)| Some((pod, refusal(answer)?))).collect();
    let unknown = answers.iter().filter(|(_, answer)| is_open(answer)).count();
    let open = if unknown == 0 { String::new() } else { format!("; {unknown} could not be tried out") };
    let asked = answers.len();
    if answers.is_empty() {
        return Finding::new(BUDGETS, Status::Ok, "no pods to evict");
    }
    if refused.is_empty() {
        let found = format!("none of {asked} evictions would be refused{open}");
        let status = if unknown == 0 { Status::Ok } else { Status::Warning };
        let finding = Finding::new(BUDGETS, status, found);
        return if unknown == 0 { finding } else { finding.remedy("Check again when the API server has less to do.") };
    }
    let found = format!("{} of {asked} evictions would be refused now{open}", refused.len());
    let more = refused.len().saturating_sub(MOST_NAMED);
    let named = refused.iter().take(MOST_NAMED).map(|(pod, words)| format!("{pod}: {words}"));
    let rest = (more > 0).then(|| format!("and {more} more"));
    let two = refused.iter().any(|(_, words)| words.contains("more than one PodDisruptionBudget"));
    let remedy = if two {
        "Let at most one PodDisruptionBudget select each pod, and leave every budget room for one disruption."
    } else {
        "Leave every PodDisruptionBudget room for one disruption (more replicas, or a larger maxUnavailable); else \
         --on-blocked-eviction decides at the pod's latest start."
    };
    Finding::new(BUDGETS, Status::Warning, found).details(named.chain(rest)).remedy(remedy)
}

/// The words of a refusal, be it a budget's or a policy's; the agent's preflight takes both alike.
pub(super) fn refusal(answer: &EvictionAnswer) -> Option<&str> {
    match answer {
        EvictionAnswer::Blocked(words) | EvictionAnswer::Refused(words) => Some(words),
        _ => None,
    }
}

fn is_open(answer: &EvictionAnswer) -> bool {
    matches!(answer, EvictionAnswer::Throttled(_) | EvictionAnswer::Unknown(_))
}

/// Whether the node could be cleared within a notice that arrived now.
pub fn forecast(forecast: &Forecast) -> Finding {
    let counts = Verdict::ALL.into_iter().zip(forecast.counts()).filter(|(_, count)| *count > 0);
    let counts: Vec<String> = counts.map(|(verdict, count)| format!("{count} {}", verdict.as_str())).collect();
    let pods = if counts.is_empty() { "no pods to drain".to_owned() } else { format!("pods: {}", counts.join(", ")) };
    let slack = forecast.least_slack_seconds.map(|slack| format!("; least slack {slack:.0} s")).unwrap_or_default();
    let found = format!("{pods}{slack}");
    let trouble: Vec<&PodForecast> = forecast.pods.iter().filter(|pod| pod.verdict != Verdict::Fits).collect();
    let Some(worst) = trouble.first() else { return Finding::new(FORECAST, Status::Ok, found) };
    let named = trouble.iter().take(MOST_NAMED).map(|pod| {
        let reason = pod.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("{}: {}{reason}", pod.pod, pod.verdict.as_str())
    });
    let more = trouble.len().saturating_sub(MOST_NAMED);
    let rest = (more > 0).then(|| format!("and {more} more"));
    let finding = Finding::new(FORECAST, Status::Warning, found).details(named.chain(rest));
    match worst.verdict {
        Verdict::Shortened => finding.remedy(
            "Shorten terminationGracePeriodSeconds to what two minutes allow, or keep these pods off spot nodes.",
        ),
        Verdict::Blocked => finding.remedy("See the check budgets."),
        Verdict::Pinned => {
            finding.remedy("Keep these pods off spot nodes: a notice waits for nobody, whatever an annotation asks.")
        }
        Verdict::Unmanaged | Verdict::Fits => {
            finding.remedy("Let a controller own these pods, or accept that a notice ends them for good.")
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::k8s::wire::WirePod;

    #[rstest]
    #[case(Trouble::Refused { code: 401, message: "Unauthorized".into() }, "answers 401: Unauthorized", "token")]
    #[case(Trouble::Refused { code: 502, message: "bad gateway".into() }, "answers 502", "proxy")]
    #[case(Trouble::Unreachable("tcp connect error".into()), "cannot be reached: tcp", "security groups")]
    #[case(Trouble::Slow(Duration::from_secs(6)), "no answer within 6 s", "security groups")]
    #[case(Trouble::NoClient("not in a pod".into()), "not in a pod", "--kubeconfig")]
    fn an_api_server_that_does_not_answer_has_a_remedy(
        #[case] trouble: Trouble,
        #[case] found: &str,
        #[case] remedy: &str,
    ) {
        let finding = api_server(&Err(trouble));
        assert_eq!(finding.status, Status::Missing);
        assert!(finding.found.contains(found) && finding.remedy.as_deref().unwrap().contains(remedy), "{finding:?}");
    }

    #[rstest]
    #[case("v1.34.2", 12, Status::Ok, "v1.34.2, answered after 12 ms")]
    #[case("", 12, Status::Ok, "does not tell its version")]
    #[case("v1.34.2", 1001, Status::Warning, "1001 ms")]
    fn an_api_server_that_answers_is_judged_by_its_latency(
        #[case] name: &str,
        #[case] millis: u64,
        #[case] status: Status,
        #[case] found: &str,
    ) {
        let finding = api_server(&Ok(Version { name: name.into(), after: Duration::from_millis(millis) }));
        assert!(finding.status == status && finding.found.contains(found), "{finding:?}");
    }

    fn pod(number: usize) -> PodRef {
        PodRef { namespace: "shop".into(), name: format!("web-{number}"), uid: String::new() }
    }

    fn answered(answers: impl IntoIterator<Item = EvictionAnswer>) -> Finding {
        let answers: Vec<_> = answers.into_iter().enumerate().map(|(number, answer)| (pod(number), answer)).collect();
        budgets(&answers)
    }

    #[rstest]
    #[case::allowed(EvictionAnswer::Accepted, Status::Ok)]
    #[case::gone_meanwhile(EvictionAnswer::Gone, Status::Ok)]
    #[case::namespace_going(EvictionAnswer::NamespaceTerminating, Status::Ok)]
    #[case::budget(EvictionAnswer::Blocked("needs 1".into()), Status::Warning)]
    #[case::policy(EvictionAnswer::Refused("a policy says no".into()), Status::Warning)]
    #[case::throttled(EvictionAnswer::Throttled(None), Status::Warning)]
    #[case::open(EvictionAnswer::Unknown("503".into()), Status::Warning)]
    fn an_eviction_that_was_tried_out_is_judged_by_its_answer(#[case] answer: EvictionAnswer, #[case] status: Status) {
        assert_eq!(answered([answer]).status, status);
    }

    #[test]
    fn only_pods_that_a_drain_would_stop_are_tried_out() {
        let view = |name: &str, mut object: Value| {
            object["metadata"]["name"] = name.into();
            serde_json::from_value::<WirePod>(object).unwrap().view
        };
        let daemon_set = json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "controller": true}]);
        let pods = [
            view("web", json!({"metadata": {}})),
            view("leaving", json!({"metadata": {"deletionTimestamp": "2026-03-31T16:34:24Z"}})),
            view("done", json!({"metadata": {}, "status": {"phase": "Succeeded"}})),
            view("log-agent", json!({"metadata": {"ownerReferences": daemon_set}})),
        ];
        let names: Vec<_> = to_drain(&pods).into_iter().map(|pod| pod.name).collect();
        assert_eq!(names, ["web"]);
    }

    #[test]
    fn a_node_full_of_refusals_names_five() {
        let finding = answered((0..30).map(|_| EvictionAnswer::Blocked("needs 1".into())));
        assert_eq!(finding.found, "30 of 30 evictions would be refused now");
        assert_eq!(finding.details.len(), MOST_NAMED + 1);
        assert_eq!((finding.details[0].as_str(), finding.details[5].as_str()), ("shop/web-0: needs 1", "and 25 more"));
    }

    #[rstest]
    #[case(Verdict::Shortened, "terminationGracePeriodSeconds")]
    #[case(Verdict::Blocked, "check budgets")]
    #[case(Verdict::Pinned, "annotation")]
    #[case(Verdict::Unmanaged, "controller")]
    fn the_worst_verdict_has_its_remedy(#[case] verdict: Verdict, #[case] remedy: &str) {
        let of = |verdict| PodForecast { pod: pod(0), verdict, reason: None, slack_seconds: 1.0 };
        let all = Forecast { pods: vec![of(verdict), of(Verdict::Fits)], least_slack_seconds: Some(1.0) };
        let finding = forecast(&all);
        assert_eq!(finding.details, [format!("shop/web-0: {}", verdict.as_str())]);
        assert!(
            finding.status == Status::Warning && finding.remedy.as_deref().unwrap().contains(remedy),
            "{finding:?}"
        );
    }

    #[test]
    fn an_empty_node_is_well() {
        assert_eq!(forecast(&Forecast::default()).found, "no pods to drain");
        assert_eq!(forecast(&Forecast::default()).status, Status::Ok);
        assert_eq!(answered([]).status, Status::Ok);
    }
}
