//! The verdict over a scenario: what happened in the world, judged by the world and not by what the agent says of itself.
//!
//! [`Facts`] are collected by the world from its own records (the kubelet's fates of pods, the gateway's log, the log of
//! IMDS, the node and the Events as they are in the end). [`Report::judge`] is pure: the same facts give the same verdict
//! for the embedded API server and for a real one.

mod checks;
mod headroom;
mod node;
mod render;
mod sinks;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::scenario::{FencePart, NodeExpect, Scenario};
use super::timeline::round;
use crate::drain::outcome::Outcome;
use crate::signal::Kind;
use crate::sim::sinks::SinkName;
pub use headroom::{CniFacts, HeadroomFacts, HeadroomReport, HeadroomSaid, HeadroomTruth};
pub use sinks::SinkFact;

/// What the world knows when a scenario is over. Times are since the start of the world.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// When IMDS began to tell the spot notice.
    pub notice_at: Option<Duration>,
    /// The time that the spot notice announces; without one, when the instance first went down.
    pub deadline: Option<Duration>,
    /// When the power went; absent when the node was clear and quiet before.
    pub powered_off: Option<Duration>,
    /// Every pod that was ever on the node.
    pub pods: Vec<PodFact>,
    /// The agent's requests to the API server.
    pub calls: Vec<CallFact>,
    /// The agent's requests to IMDS.
    pub imds_requests: Vec<ImdsFact>,
    /// The largest number of its connections to IMDS at one time.
    pub imds_most_at_once: usize,
    /// The node in the end.
    pub node: NodeFacts,
    /// The node at the times at which the scenario looks.
    pub looks: Vec<LookFact>,
    /// Events on the node by reason.
    pub events: BTreeMap<String, u32>,
    /// What the agent says.
    pub agent: AgentFacts,
    /// The headroom of pod addresses; absent where there is no VPC CNI.
    pub cni: Option<CniFacts>,
    /// What arrived at each sink.
    pub sinks: BTreeMap<SinkName, SinkFact>,
}

/// What was found on the node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts {
    /// Parts of the fence.
    pub fence: Vec<FencePart>,
    /// The effect of the agent's taint.
    pub taint: Option<String>,
    /// The agent's taint for want of addresses is there.
    pub exhaustion_taint: bool,
    /// It is cordoned, by whomever.
    pub cordoned: bool,
    /// Marks of others that are missing.
    pub lost: Vec<String>,
    /// Everything in which it is not what it would be without the agent.
    pub differs: Vec<String>,
    /// What the agent says to be coming, in the order of [`Kind::ALL`].
    pub pending: Vec<Kind>,
    /// The headroom of pod addresses, if it was looked at and the agent tells one.
    pub headroom: Option<HeadroomFacts>,
}

/// One look of the scenario at the node.
#[derive(Clone, Debug, PartialEq)]
pub struct LookFact {
    /// When.
    pub at: Duration,
    /// What the scenario expects.
    pub expected: NodeExpect,
    /// What was there.
    pub found: NodeFacts,
}

/// What became of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodFact {
    /// Its name.
    pub name: String,
    /// The group in the scenario.
    pub group: String,
    /// Whether a drain has to end it.
    pub drained: bool,
    /// Seconds of grace that it asks for.
    pub wanted: u32,
    /// Seconds of grace that it was granted, in force in the end; absent if nobody told it to stop.
    pub granted: Option<u32>,
    /// The agent got it stopped by a deletion after its eviction was refused.
    pub forced: bool,
    /// The agent asked for its stop, by eviction or deletion.
    pub told_by_agent: bool,
    /// Somebody else asked for its stop.
    pub told_by_other: bool,
    /// When it was told (SIGTERM).
    pub told_at: Option<Duration>,
    /// When its processes had ended.
    pub ended_at: Option<Duration>,
    /// Its processes had to be killed because the grace was over.
    pub killed: bool,
    /// When its API object was gone.
    pub gone_at: Option<Duration>,
    /// The power went while its processes ran.
    pub cut_off: bool,
}

/// One request of the agent to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFact {
    /// When it arrived.
    pub at: Duration,
    /// When it was answered; absent if it never was.
    pub answered: Option<Duration>,
    /// The API's verb: get, list, watch, create, patch, delete.
    pub verb: String,
    /// The resource with its subresource, e.g. `pods/eviction`.
    pub resource: String,
    /// The status of the answer; absent if there was none.
    pub status: Option<u16>,
    /// It asks what a change would do.
    pub is_rehearsal: bool,
}

/// One request of the agent to IMDS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImdsFact {
    /// When it arrived.
    pub at: Duration,
    /// It asks what is coming; the rest (session, identity) is asked for once in a while.
    pub is_poll: bool,
    /// Version 2 of the protocol, not through a proxy, and not for credentials.
    pub is_safe: bool,
}

impl CallFact {
    /// Whether it asks for a change.
    pub fn is_mutating(&self) -> bool {
        !self.is_rehearsal && !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    /// Whether it was done.
    pub fn is_done(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// What the agent says of itself, over all its lives.
#[derive(Clone, Debug, Default)]
pub struct AgentFacts {
    /// How many processes there were.
    pub lives: u32,
    /// The last one's outcome for each pod of its drain.
    pub outcomes: BTreeMap<String, Outcome>,
    /// The last one's slack when the drain was over.
    pub slack_seconds: Option<f64>,
    /// Sum of `spotwarden_notices_total` by kind.
    pub notices: BTreeMap<Kind, u32>,
    /// Sums of the series that the scenario expects.
    pub metrics: BTreeMap<String, f64>,
    /// Sum of `spotwarden_drained_pods_total` by outcome.
    pub counted: BTreeMap<Outcome, u32>,
    /// An agent ended without being told to.
    pub died: Option<String>,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What must be true.
    pub name: String,
    /// Whether it is.
    pub passed: bool,
    /// What was found.
    pub found: String,
}

/// One pod in the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PodReport {
    /// Its name.
    pub name: String,
    /// How its drain ended.
    pub outcome: Outcome,
    /// Seconds of grace that it asks for.
    pub wanted_seconds: u32,
    /// Seconds of grace that it was granted.
    pub granted_seconds: Option<u32>,
    /// Seconds from SIGTERM to the end of its processes.
    pub took_seconds: Option<f64>,
    /// The power went while its processes ran.
    pub cut_off: bool,
}

/// The verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// Every check passed.
    pub passed: bool,
    /// Every pod that is drained was gone before the announced time; absent without one.
    pub deadline_met: Option<bool>,
    /// Seconds between the last pod's end and the announced time.
    pub slack_seconds: Option<f64>,
    /// Seconds from the notice being told by IMDS to the fence being acknowledged.
    pub notice_to_fence_seconds: Option<f64>,
    /// Number of pods by outcome.
    pub outcomes: BTreeMap<Outcome, u32>,
    /// Pods whose processes were running when the power went.
    pub cut_off: Vec<String>,
    /// The agent's requests to the API server by verb and resource.
    pub api_calls: BTreeMap<String, u32>,
    /// The agent's requests to IMDS.
    pub imds_requests: usize,
    /// Events on the node by reason.
    pub events: BTreeMap<String, u32>,
    /// The headroom of pod addresses; absent where there is no VPC CNI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headroom: Option<HeadroomReport>,
    /// What was checked.
    pub checks: Vec<Check>,
    /// Every pod.
    pub pods: Vec<PodReport>,
    /// The scenario is not about clearing the node: a dry run, or a hibernation.
    #[serde(skip)]
    left_running: bool,
}

impl PodFact {
    /// How its drain ended, by the world's own records.
    pub fn outcome(&self, deadline: Option<Duration>) -> Outcome {
        let in_time = |gone: Duration| deadline.is_none_or(|deadline| gone <= deadline);
        if !self.drained {
            Outcome::Skipped
        } else if !self.gone_at.is_some_and(in_time) {
            Outcome::Unfinished
        } else if self.forced {
            Outcome::Forced
        } else if self.granted.is_some_and(|granted| granted < self.wanted) {
            Outcome::Shortened
        } else {
            Outcome::Graceful
        }
    }
}

impl Report {
    /// Judges `facts` by what `scenario` expects.
    pub fn judge(scenario: &Scenario, facts: &Facts) -> Self {
        let mut outcomes = BTreeMap::new();
        for pod in &facts.pods {
            *outcomes.entry(pod.outcome(facts.deadline)).or_insert(0) += 1;
        }
        let mut api_calls = BTreeMap::new();
        for call in &facts.calls {
            *api_calls.entry(format!("{} {}", call.verb, call.resource)).or_insert(0) += 1;
        }
        let drained = || facts.pods.iter().filter(|pod| pod.drained);
        let all_gone = drained().all(|pod| pod.outcome(facts.deadline) != Outcome::Unfinished);
        let last_gone =
            drained().map(|pod| pod.gone_at).collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
        let mut report = Self {
            scenario: scenario.name.clone(),
            passed: false,
            deadline_met: facts.deadline.map(|_| all_gone),
            slack_seconds: facts.deadline.zip(last_gone).map(|(deadline, gone)| difference(deadline, gone)),
            notice_to_fence_seconds: notice_to_fence(facts),
            outcomes,
            cut_off: facts.pods.iter().filter(|pod| pod.cut_off && pod.drained).map(|pod| pod.name.clone()).collect(),
            api_calls,
            imds_requests: facts.imds_requests.len(),
            events: facts.events.clone(),
            headroom: facts.cni.as_ref().map(HeadroomReport::of),
            checks: Vec::new(),
            pods: facts.pods.iter().map(|pod| pod_report(pod, facts.deadline)).collect(),
            left_running: !scenario.is_drained(),
        };
        report.checks = checks::all(scenario, facts, &report);
        report.passed = report.checks.iter().all(|check| check.passed);
        report
    }
}

fn pod_report(pod: &PodFact, deadline: Option<Duration>) -> PodReport {
    PodReport {
        name: pod.name.clone(),
        outcome: pod.outcome(deadline),
        wanted_seconds: pod.wanted,
        granted_seconds: pod.granted,
        took_seconds: pod.told_at.zip(pod.ended_at).map(|(told, ended)| difference(ended, told)),
        cut_off: pod.cut_off,
    }
}

/// From the notice to the first accepted change of the node. A change before the notice is none of the fence.
fn notice_to_fence(facts: &Facts) -> Option<f64> {
    let notice = facts.notice_at?;
    let is_fence = |call: &&CallFact| call.verb == "patch" && call.resource == "nodes" && call.is_done();
    let fenced = facts.calls.iter().filter(is_fence).filter_map(|call| call.answered).find(|&at| at >= notice)?;
    Some(difference(fenced, notice))
}

/// `a - b` in seconds.
fn difference(a: Duration, b: Duration) -> f64 {
    round(a.as_secs_f64() - b.as_secs_f64())
}

#[cfg(test)]
mod tests;
