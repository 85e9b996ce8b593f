//! A machine with a stopwatch, and a world around it that is no more than answers: whatever it costs is not measured.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use spotwarden::clock::{Clock, Now};
use spotwarden::config::Config;
use spotwarden::drain::eviction::EvictionAnswer;
use spotwarden::drain::pod::{Deletion, PodRef};
use spotwarden::interruption::machine::Machine;
use spotwarden::interruption::record::Status;
use spotwarden::interruption::{Effect, Input, PatchAnswer, Stop};
use spotwarden::k8s::node::NodeView;
use spotwarden::signal::{Action, Deadline, Kind, Observation, Others, Signal};

use crate::Result;
use crate::full_node::{Pod, pods};

/// A round trip to the API server.
const ROUND_TRIP: Duration = Duration::from_millis(8);
/// Between two polls, and from the notice to its time.
pub(crate) const POLL: Duration = Duration::from_secs(1);
const LEAD: Duration = Duration::from_mins(2);

/// One machine on a full node.
pub(crate) struct Replay {
    machine: Machine,
    /// What the agent last told people.
    pub(crate) status: Status,
    start: Now,
    /// Since the start.
    pub(crate) at: Duration,
    node: NodeView,
    pods: BTreeMap<PodRef, Pod>,
    /// When which pod was told first.
    told: BTreeMap<PodRef, Duration>,
    /// What is still to be told, in order of time and, at one time, of arrival.
    coming: BTreeMap<(Duration, u64), Input>,
    number: u64,
    /// What the platform announces.
    notice: Option<Signal>,
}

impl Replay {
    /// The node and its pods were read, every source was heard, and the forecast is made.
    pub(crate) fn idle() -> Self {
        let config = Arc::new(Config::for_node("ip-10-0-0-1.eu-central-1.compute.internal"));
        let pods: BTreeMap<_, _> = pods().into_iter().map(|pod| (pod.view.id.clone(), pod)).collect();
        let mut replay = Self {
            machine: Machine::new(config),
            status: Status::default(),
            start: Clock::System.now(),
            at: Duration::ZERO,
            node: node(),
            pods,
            told: BTreeMap::new(),
            coming: BTreeMap::new(),
            number: 0,
            notice: None,
        };
        replay.feed(Input::Node(replay.node.clone()));
        replay.feed(Input::Pods(replay.pods.values().map(|pod| pod.view.clone()).collect()));
        for input in replay.poll() {
            replay.feed(input);
        }
        replay.at += POLL;
        replay.feed(Input::Timeout);
        replay
    }

    fn now(&self) -> Now {
        self.start.plus(self.at)
    }

    /// Does with an input all that the agent does before the next one; what that took.
    #[allow(clippy::disallowed_types, reason = "real time is what is measured")]
    pub(crate) fn feed(&mut self, input: Input) -> Duration {
        let now = self.now();
        let begin = std::time::Instant::now();
        let effects = black_box(self.machine.handle(now, black_box(input)));
        self.status = self.machine.status(now.instant);
        black_box(self.machine.next_timeout(now.instant));
        let took = begin.elapsed();
        for effect in effects {
            self.answer(effect);
        }
        took
    }

    /// The level of every kind.
    pub(crate) fn poll(&self) -> [Input; 4] {
        Kind::ALL.map(|kind| {
            let signals = self.notice.iter().filter(|signal| signal.kind == kind).cloned().collect();
            let others = match kind {
                Kind::SpotInterruption | Kind::RebalanceRecommendation => Others::Unknown,
                Kind::ScheduledEvent | Kind::AsgTermination => Others::Over,
            };
            Input::Observed(Observation { kind, signals, others })
        })
    }

    /// The watch shows one pod after the other, as often as it is called.
    pub(crate) fn pod_update(&self, number: usize) -> Option<Input> {
        self.pods.values().nth(number % self.pods.len().max(1)).map(|pod| Input::Pod(pod.view.clone()))
    }

    /// The spot notice, as the poll brings it.
    pub(crate) fn notice(&mut self) -> Input {
        let end = self.now().plus(LEAD);
        let deadline = Some(Deadline { instant: end.instant, wall: end.wall });
        let id = "spot-interruption/terminate";
        let signal = Signal { deadline, ..Signal::new(Kind::SpotInterruption, id, Action::Terminate) };
        self.notice = Some(signal.clone());
        Input::Observed(Observation::of(Kind::SpotInterruption, Some(signal)))
    }

    /// The whole interruption, from the notice to its time; what each input took.
    pub(crate) fn interruption(mut self) -> Result<Vec<Duration>> {
        let notice = self.notice();
        let end = self.at + LEAD;
        let mut took = vec![self.feed(notice)];
        let mut poll_at = self.at + POLL;
        while self.at < end {
            let due = self.machine.next_timeout(self.now().instant);
            let due = due.map(|due| due.saturating_duration_since(self.start.instant));
            let next = self.coming.first_key_value().map(|((at, _), _)| *at);
            let at = [Some(poll_at), due, next].into_iter().flatten().min().unwrap_or(end);
            self.at = self.at.max(at);
            if next == Some(at) {
                let Some((_, input)) = self.coming.pop_first() else { break };
                took.push(self.feed(input));
            } else if due == Some(at) {
                took.push(self.feed(Input::Timeout));
            } else {
                took.extend(self.poll().map(|input| self.feed(input)));
                poll_at += POLL;
            }
        }
        let left = self.status.pods.iter().filter(|pod| pod.outcome.is_none()).count();
        if !self.status.drained || left > 0 || self.status.pods.len() != self.pods.len() {
            return Err(format!("the drain did not end as it should: {left} pods without an outcome").into());
        }
        Ok(took)
    }

    fn later(&mut self, after: Duration, input: Input) {
        self.number += 1;
        self.coming.insert((self.at + after, self.number), input);
    }

    fn answer(&mut self, effect: Effect) {
        match effect {
            Effect::PatchNode { ops, .. } => {
                let answer = match patched(&self.node, ops) {
                    Ok(node) => {
                        self.node = node.clone();
                        PatchAnswer::Applied(node)
                    }
                    Err(error) => PatchAnswer::Failed(error.to_string()),
                };
                self.later(ROUND_TRIP, Input::NodePatched(answer));
                self.later(ROUND_TRIP, Input::Node(self.node.clone()));
            }
            Effect::Evict(stop) => {
                let blocked = self.pods.get(&stop.pod).is_some_and(|pod| pod.blocked);
                let answer = if blocked { EvictionAnswer::Blocked(refusal()) } else { EvictionAnswer::Accepted };
                self.later(ROUND_TRIP, Input::Evicted(stop.pod.clone(), answer));
                if !blocked {
                    self.stop(&stop);
                }
            }
            Effect::Delete(stop) => {
                self.later(ROUND_TRIP, Input::Deleted(stop.pod.clone(), EvictionAnswer::Accepted));
                self.stop(&stop);
            }
            Effect::MarkDisruption(id) => self.show(ROUND_TRIP, &id, |pod| pod.view.marked = true),
            Effect::Probe(id) => self.later(ROUND_TRIP, Input::Probed(id, EvictionAnswer::Accepted)),
            Effect::Publish(_) | Effect::Record(_) => {}
        }
    }

    /// What the watch shows of a pod that was told to stop: the deletion, the kubelet's last word, and that it is gone.
    fn stop(&mut self, stop: &Stop) {
        let (now, grace) = (self.now(), Duration::from_secs(stop.grace_seconds.into()));
        self.show(ROUND_TRIP, &stop.pod, |pod| pod.view.deletion = Some(Deletion { at: now.plus(grace).wall, grace }));
        if self.told.insert(stop.pod.clone(), self.at).is_some() {
            return;
        }
        let stops = self.pods.get(&stop.pod).map_or(grace, |pod| pod.stops_after.min(grace));
        let ended = Deletion { at: now.plus(stops).wall, grace: Duration::ZERO };
        self.show(stops, &stop.pod, |pod| pod.view.deletion = Some(ended));
        self.later(stops + ROUND_TRIP, Input::PodGone(stop.pod.clone()));
    }

    fn show(&mut self, after: Duration, id: &PodRef, change: impl FnOnce(&mut Pod)) {
        let Some(mut pod) = self.pods.get(id).cloned() else { return };
        change(&mut pod);
        self.later(after, Input::Pod(pod.view));
    }
}

/// The API server's words.
fn refusal() -> String {
    "Cannot evict pod as it would violate the pod's disruption budget. The disruption budget blocked needs 8 healthy \
     pods and has 8 currently"
        .into()
}

fn node() -> NodeView {
    let labels = ["kubernetes.io/hostname", "node.kubernetes.io/instance-type", "topology.kubernetes.io/zone"];
    NodeView {
        name: "ip-10-0-0-1.eu-central-1.compute.internal".into(),
        uid: "0f0c3a52-8d4e-4b7a-9c1f-000000000000".into(),
        labels: Some(labels.into_iter().map(|key| (key.to_owned(), "value".to_owned())).collect()),
        annotations: Some(BTreeMap::from([("node.alpha.kubernetes.io/ttl".to_owned(), "0".to_owned())])),
        taints: None,
        unschedulable: None,
        boot_id: Some("1c2d3e4f-8d4e-4b7a-9c1f-000000000000".into()),
        allocatable_pods: Some(110),
        branch_interfaces: None,
        provider_id: None,
    }
}

fn patched(node: &NodeView, ops: Value) -> Result<NodeView> {
    let mut whole = json!({
        "metadata": { "labels": node.labels, "annotations": node.annotations },
        "spec": { "taints": node.taints, "unschedulable": node.unschedulable },
    });
    json_patch::patch(&mut whole, &serde_json::from_value::<json_patch::Patch>(ops)?)?;
    let mut part = |path: &str| whole.pointer_mut(path).map(Value::take).unwrap_or_default();
    Ok(NodeView {
        labels: serde_json::from_value(part("/metadata/labels"))?,
        annotations: serde_json::from_value(part("/metadata/annotations"))?,
        taints: serde_json::from_value(part("/spec/taints"))?,
        unschedulable: serde_json::from_value(part("/spec/unschedulable"))?,
        ..node.clone()
    })
}
