//! A world small enough to be pure: pods that stop, budgets that refuse, a node that takes patches. It drives the machine
//! through whole interruptions in microseconds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::Machine;
use crate::clock::Now;
use crate::config::Config;
use crate::drain::eviction::EvictionAnswer;
use crate::drain::pod::{Deletion, PodRef, PodView};
use crate::interruption::account::{Account, PodPart};
use crate::interruption::chronicle::{Chronicle, News};
use crate::interruption::record::{Record, Status};
use crate::interruption::{Effect, Input, NodeEvent, PatchAnswer, Stop};
use crate::k8s::node::NodeView;
use crate::signal::{Action, Deadline, Kind, Observation, Others, Signal};

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// How one pod of the world behaves.
#[derive(Clone, Debug)]
pub(super) struct Behaviour {
    /// From SIGTERM to exit; None ignores SIGTERM.
    pub(super) stops_after: Option<Duration>,
    /// Evictions are refused before this time.
    pub(super) blocked_until: Duration,
}

#[derive(Clone, Debug)]
struct Running {
    view: PodView,
    behaviour: Behaviour,
    told_at: Option<Instant>,
    gone_at: Option<Instant>,
}

/// When exactly an agent dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// It has decided, and the effect never leaves it.
    Before,
    /// The effect has left, and its answer finds nobody.
    After,
}

/// An effect that left the machine, with its time since the world's start.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) at: Duration,
    pub(super) effect: Effect,
}

pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) node: NodeView,
    /// Requests, in the order in which they left.
    pub(super) sent: Vec<Sent>,
    /// What was counted and logged.
    reported: Vec<Sent>,
    chronicle: Chronicle,
    /// What the chronicles of all agents told.
    pub(super) news: Vec<News>,
    pub(super) start: Now,
    pub(super) now: Now,
    /// The API server refuses node patches that touch this path.
    pub(super) denied_path: Option<&'static str>,
    /// Node patches are applied before this time, and their answers are lost.
    pub(super) answers_lost_until: Duration,
    /// Node patches are not answered before this time.
    pub(super) api_down_until: Duration,
    /// Evictions and deletions are not answered before this time.
    pub(super) pods_down_until: Duration,
    /// The agent dies before it carries out the effect of this number, or just after it.
    pub(super) crash: Option<(usize, Crash)>,
    /// Answers that the next evictions get instead of what the world would say.
    pub(super) canned: VecDeque<EvictionAnswer>,
    config: Arc<Config>,
    pods: BTreeMap<PodRef, Running>,
    /// First deletions that the API server accepted without an eviction, by pod.
    pods_told: Vec<(String, u32)>,
    /// What the platform announces, by kind.
    announced: BTreeMap<Kind, Vec<Signal>>,
}

impl World {
    pub(super) fn new(config: Config) -> Self {
        let config = Arc::new(config);
        let start = Now { instant: Instant::now(), wall: "2026-03-31T16:32:24Z".parse::<Timestamp>().unwrap() };
        Self {
            machine: Machine::new(config.clone()),
            node: node(),
            sent: Vec::new(),
            reported: Vec::new(),
            chronicle: Chronicle::new(config.clone()),
            news: Vec::new(),
            start,
            now: start,
            denied_path: None,
            answers_lost_until: Duration::ZERO,
            api_down_until: Duration::ZERO,
            pods_down_until: Duration::ZERO,
            crash: None,
            canned: VecDeque::new(),
            config,
            pods: BTreeMap::new(),
            pods_told: Vec::new(),
            announced: BTreeMap::new(),
        }
    }

    pub(super) fn at(&self) -> Duration {
        self.now.instant - self.start.instant
    }

    pub(super) fn add_pod(&mut self, view: PodView, behaviour: Behaviour) {
        self.pods.insert(view.id.clone(), Running { view, behaviour, told_at: None, gone_at: None });
    }

    /// The pods' processes end, but a finalizer keeps the objects.
    pub(super) fn finish_all_behind_finalizers(&mut self) {
        let running = self.pods.values_mut();
        let views: Vec<PodView> = running
            .map(|pod| {
                (pod.gone_at, pod.view.finished) = (None, true);
                pod.view.clone()
            })
            .collect();
        for view in views {
            self.feed(Input::Pod(view));
        }
    }

    /// The pods go away, and the watch does not tell.
    pub(super) fn pods_vanish_unseen(&mut self) {
        self.pods.clear();
    }

    /// The agent comes up and looks around.
    pub(super) fn boot(&mut self) {
        self.feed(Input::Node(self.node.clone()));
        let pods = self.pods.values().map(|pod| pod.view.clone()).collect();
        self.feed(Input::Pods(pods));
    }

    /// The agent is killed and comes up again; only the cluster and the metadata service remember.
    pub(super) fn restart(&mut self) {
        self.machine = Machine::new(self.config.clone());
        self.chronicle = Chronicle::new(self.config.clone());
        self.boot();
        self.observe();
    }

    /// The machine under the agent restarts: another boot, the same Node object, new pods.
    pub(super) fn reboot(&mut self) {
        self.node.boot_id = Some("boot-2".into());
        self.announced.clear();
        self.machine = Machine::new(self.config.clone());
        self.chronicle = Chronicle::new(self.config.clone());
        self.boot();
    }

    /// Somebody else evicts a pod.
    pub(super) fn evict_by_others(&mut self, name: &str, grace_seconds: u32) {
        let pod = self.pods.keys().find(|id| id.name == name).unwrap().clone();
        let view = self.stop(&Stop { pod, grace_seconds, timeout: Duration::ZERO }).unwrap();
        self.feed(Input::Pod(view));
    }

    /// Somebody else evicts a pod, if it is there.
    pub(super) fn try_evict_by_others(&mut self, name: &str, grace_seconds: u32) {
        if self.pods.keys().any(|id| id.name == name) {
            self.evict_by_others(name, grace_seconds);
        }
    }

    /// A pod appears on the running node.
    pub(super) fn arrive(&mut self, view: PodView, behaviour: Behaviour) {
        self.add_pod(view.clone(), behaviour);
        self.feed(Input::Pod(view));
    }

    pub(super) fn notify(&mut self, action: Action, lead: Duration) {
        self.notify_signal(notice(action, self.now, lead));
    }

    pub(super) fn notify_signal(&mut self, signal: Signal) {
        self.announced.insert(signal.kind, vec![signal]);
        self.observe();
    }

    /// What the platform announces of one kind from now on.
    pub(super) fn announce(&mut self, kind: Kind, signals: Vec<Signal>) {
        self.announced.insert(kind, signals);
        self.observe();
    }

    /// The platform takes back everything of one kind, and the source is sure of it.
    pub(super) fn withdraw(&mut self, kind: Kind) {
        self.announced.remove(&kind);
        self.observe();
    }

    /// A poll of everything that the metadata service tells.
    pub(super) fn observe(&mut self) {
        for kind in Kind::ALL {
            let signals = self.announced.get(&kind).cloned().unwrap_or_default();
            let others = match kind {
                Kind::SpotInterruption | Kind::RebalanceRecommendation => Others::Unknown,
                Kind::ScheduledEvent | Kind::AsgTermination => Others::Over,
            };
            self.feed(Input::Observed(Observation { kind, signals, others }));
        }
    }

    /// Somebody else changes the node, and the watch shows it.
    pub(super) fn foreign(&mut self, change: impl FnOnce(&mut NodeView)) {
        change(&mut self.node);
        self.feed(Input::Node(self.node.clone()));
    }

    /// The state of the machine.
    pub(super) fn status(&self) -> Status {
        self.machine.status(self.now.instant)
    }

    /// Time passes until `until` (since the start); everything that becomes due happens.
    pub(super) fn run_until(&mut self, until: Duration) {
        let end = self.start.instant + until;
        for _ in 0..100_000 {
            let gone = self.pods.values().filter_map(|pod| pod.gone_at).min();
            let due = self.machine.next_timeout(self.now.instant).into_iter().chain(gone).min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            assert!(due > self.now.instant || gone == Some(due), "the machine asks to be woken in the past");
            self.now = self.now.plus(due.saturating_duration_since(self.now.instant));
            let ended: Vec<PodRef> = self
                .pods
                .iter()
                .filter(|(_, pod)| pod.gone_at.is_some_and(|at| at <= self.now.instant))
                .map(|(id, _)| id.clone())
                .collect();
            for id in &ended {
                self.pods.remove(id);
            }
            if ended.is_empty() {
                self.feed(Input::Timeout);
            }
            for id in ended {
                self.feed(Input::PodGone(id));
            }
        }
        self.now = self.now.plus(end.saturating_duration_since(self.now.instant));
    }

    pub(super) fn feed(&mut self, input: Input) {
        let mut queue = VecDeque::from([input]);
        while let Some(input) = queue.pop_front() {
            // What is counted and logged is so before the first request leaves.
            let (records, requests): (Vec<_>, Vec<_>) = self
                .machine
                .handle(self.now, input)
                .into_iter()
                .partition(|effect| matches!(effect, Effect::Record(_)));
            for effect in &records {
                self.chronicle(effect);
            }
            self.reported
                .extend(records.into_iter().map(|effect| Sent { at: self.now.instant - self.start.instant, effect }));
            for effect in requests {
                let crash = self.crash.filter(|(at, _)| *at == self.sent.len()).map(|(_, crash)| crash);
                if crash != Some(Crash::Before) {
                    self.chronicle(&effect);
                    self.sent.push(Sent { at: self.at(), effect: effect.clone() });
                    queue.extend(self.answer(effect));
                }
                if crash.is_some() {
                    self.crash = None;
                    self.restart();
                    return;
                }
            }
        }
    }

    /// The account so far, of this life of the agent.
    pub(super) fn account(&self) -> &Account {
        self.chronicle.account().expect("something is or was announced")
    }

    /// Writes the account on. Whatever the world does to the agent, nobody is lost and no time runs backwards.
    fn chronicle(&mut self, effect: &Effect) {
        let news = self.chronicle.note(self.now, effect);
        if let Effect::Record(Record::PodEnded { pod, outcome, .. }) = effect {
            let named = |part: &&PodPart| part.namespace == pod.namespace && part.name == pod.name;
            let part = self.account().pods.iter().rfind(named);
            let part = part.unwrap_or_else(|| panic!("{pod} is not in the account"));
            assert!(part.outcome == Some(*outcome) && part.ended.is_some(), "{part:?}");
        }
        if let Some(News { account, .. }) = &news {
            assert_eq!(times_that_run_backwards(account), Vec::<String>::new(), "{account:#?}");
            let before = self.news.last().filter(|news| news.account.trace_id == account.trace_id);
            assert!(before.is_none_or(|before| before.account.started == account.started), "{account:#?}");
        }
        self.news.extend(news);
    }

    fn answer(&mut self, effect: Effect) -> Vec<Input> {
        match effect {
            Effect::PatchNode { ops, .. } => {
                let answer = self.patch(&ops);
                // The watch shows what was applied, also if the answer to the patch was lost.
                let seen = Input::Node(self.node.clone());
                vec![Input::NodePatched(answer), seen]
            }
            Effect::Evict(stop) if self.at() < self.pods_down_until => vec![Input::Evicted(stop.pod, no_answer())],
            Effect::Delete(stop) if self.at() < self.pods_down_until => vec![Input::Deleted(stop.pod, no_answer())],
            Effect::Evict(stop) => self.evict(stop),
            Effect::Delete(stop) => self.delete(&stop).map_or_else(
                || vec![Input::Deleted(stop.pod.clone(), EvictionAnswer::Gone)],
                |view| vec![Input::Deleted(stop.pod.clone(), EvictionAnswer::Accepted), Input::Pod(view)],
            ),
            Effect::MarkDisruption(id) => {
                let pod = self.pods.get_mut(&id);
                if let Some(pod) = pod {
                    pod.view.marked = true;
                }
                Vec::new()
            }
            Effect::Probe(id) => {
                let blocked = self.pods.get(&id).is_some_and(|pod| self.at() < pod.behaviour.blocked_until);
                let answer = if blocked {
                    EvictionAnswer::Blocked("budget needs 1 and has 1".into())
                } else {
                    EvictionAnswer::Accepted
                };
                vec![Input::Probed(id, answer)]
            }
            Effect::Publish(_) | Effect::Record(_) => Vec::new(),
        }
    }

    fn evict(&mut self, stop: Stop) -> Vec<Input> {
        let at = self.at();
        if let Some(answer) = self.canned.pop_front() {
            return vec![Input::Evicted(stop.pod, answer)];
        }
        let Some(pod) = self.pods.get(&stop.pod) else {
            return vec![Input::Evicted(stop.pod, EvictionAnswer::Gone)];
        };
        if at < pod.behaviour.blocked_until {
            return vec![Input::Evicted(stop.pod, EvictionAnswer::Blocked("budget needs 1 and has 1".into()))];
        }
        // The API server writes its own DisruptionTarget condition.
        self.pods.entry(stop.pod.clone()).and_modify(|pod| pod.view.marked = false);
        let view = self.stop(&stop).expect("it was just seen");
        vec![Input::Evicted(stop.pod, EvictionAnswer::Accepted), Input::Pod(view)]
    }

    fn delete(&mut self, stop: &Stop) -> Option<PodView> {
        if self.pods.get(&stop.pod)?.told_at.is_none() {
            self.pods_told.push((stop.pod.name.clone(), stop.grace_seconds));
        }
        self.stop(stop)
    }

    /// What API server and kubelet do with a deletion, first or repeated.
    fn stop(&mut self, stop: &Stop) -> Option<PodView> {
        let now = self.now;
        let pod = self.pods.get_mut(&stop.pod)?;
        let asked = secs(stop.grace_seconds.into());
        let told = *pod.told_at.get_or_insert(now.instant);
        let before = pod.view.deletion.map(|deletion| deletion.grace);
        if before.is_none_or(|before| asked < before) {
            pod.view.deletion = Some(Deletion { at: now.wall_of(told + asked), grace: asked });
            let killed = now.instant + asked;
            let exits = pod.behaviour.stops_after.map_or(killed, |after| killed.min(told + after));
            pod.gone_at = Some(exits.max(now.instant) + Duration::from_millis(500));
        }
        Some(pod.view.clone())
    }

    fn patch(&mut self, ops: &Value) -> PatchAnswer {
        if self.at() < self.api_down_until {
            return PatchAnswer::Failed("no answer within 3.0 s".into());
        }
        let ops = ops.as_array().expect("a JSON Patch is a list");
        let mut node = as_json(&self.node);
        for op in ops {
            let path = op["path"].as_str().unwrap();
            if self.denied_path.is_some_and(|denied| path.contains(denied)) {
                let fresh = Some(self.node.clone());
                return PatchAnswer::Refused { status: 422, message: "denied by policy".into(), fresh };
            }
            match op["op"].as_str().unwrap() {
                "test" if *node.pointer(path).unwrap_or(&Value::Null) != op["value"] => {
                    let fresh = Some(self.node.clone());
                    return PatchAnswer::Refused { status: 422, message: "test failed".into(), fresh };
                }
                "test" => {}
                "add" => add(&mut node, path, op["value"].clone()),
                "remove" => remove(&mut node, path),
                other => panic!("operation {other} is not expected"),
            }
        }
        self.node = serde_json::from_value::<crate::k8s::wire::WireNode>(node).unwrap().view;
        if self.at() < self.answers_lost_until {
            return PatchAnswer::Failed("connection reset".into());
        }
        PatchAnswer::Applied(self.node.clone())
    }

    /// How often a record that `is` this one left.
    pub(super) fn count(&self, is: impl Fn(&Record) -> bool) -> usize {
        self.records().into_iter().filter(|record| is(record)).count()
    }

    /// The different Events of this reason: the API server keeps one of each key.
    pub(super) fn published(&self, reason: &str) -> usize {
        let keys = self.events().into_iter().filter(|event| event.reason == reason).map(|event| event.key.as_str());
        keys.collect::<BTreeSet<_>>().len()
    }

    pub(super) fn records(&self) -> Vec<&Record> {
        self.reported
            .iter()
            .filter_map(|sent| if let Effect::Record(record) = &sent.effect { Some(record) } else { None })
            .collect()
    }

    pub(super) fn events(&self) -> Vec<&NodeEvent> {
        self.sent
            .iter()
            .filter_map(|sent| if let Effect::Publish(event) = &sent.effect { Some(event) } else { None })
            .collect()
    }

    pub(super) fn evictions(&self) -> Vec<(Duration, &Stop)> {
        self.sent
            .iter()
            .filter_map(|sent| if let Effect::Evict(stop) = &sent.effect { Some((sent.at, stop)) } else { None })
            .collect()
    }

    pub(super) fn deletions(&self) -> Vec<(Duration, &Stop)> {
        self.sent
            .iter()
            .filter_map(|sent| if let Effect::Delete(stop) = &sent.effect { Some((sent.at, stop)) } else { None })
            .collect()
    }

    /// Pods that were deleted past a refusal, and with how much grace.
    pub(super) fn forced(&self) -> Vec<(String, u32)> {
        self.pods_told.clone()
    }

    /// The last outcome that was reported of a pod: an agent that is killed while it reports is followed by one that
    /// reports again.
    pub(super) fn last_outcome(&self, name: &str) -> &'static str {
        let ended = self.records().into_iter().rev().find_map(|record| match record {
            Record::PodEnded { pod, outcome, .. } if pod.name == name => Some(outcome.as_str()),
            _ => None,
        });
        ended.unwrap_or("none")
    }

    pub(super) fn outcome(&self, name: &str) -> &'static str {
        let ended = |record: &&Record| matches!(record, Record::PodEnded { pod, .. } if pod.name == name);
        match self.records().into_iter().filter(ended).collect::<Vec<_>>().as_slice() {
            [Record::PodEnded { outcome, .. }] => outcome.as_str(),
            [] => "none",
            _ => "several",
        }
    }
}

/// Pairs of times of which the second is before the first.
fn times_that_run_backwards(account: &Account) -> Vec<String> {
    let mut pairs = Vec::new();
    for one in &account.announcements {
        pairs.extend([
            ("0, announced", Some(0.0), Some(one.at)),
            ("at, over", Some(one.at), one.over.as_ref().map(|o| o.at)),
        ]);
    }
    if let Some(drain) = &account.drain {
        pairs.push(("0, drain", Some(0.0), Some(drain.at)));
        pairs.push(("drain, finished", Some(drain.at), drain.finished.as_ref().map(|finish| finish.at)));
    }
    for pod in &account.pods {
        pairs.extend([("asked, blocked", pod.asked, pod.blocked), ("asked, told", pod.asked, pod.told)]);
        pairs.extend([("told, ended", pod.told, pod.ended), ("asked, ended", pod.asked, pod.ended)]);
    }
    pairs.push(("over, restored", account.over, account.restored));
    let backwards =
        pairs.into_iter().filter(|(_, first, second)| matches!((first, second), (Some(a), Some(b)) if b < a));
    backwards.map(|(what, first, second)| format!("{what}: {first:?} {second:?}")).collect()
}

fn no_answer() -> EvictionAnswer {
    EvictionAnswer::Unknown("connection refused".into())
}

fn as_json(node: &NodeView) -> Value {
    serde_json::json!({
        "metadata": { "name": node.name, "uid": node.uid, "labels": node.labels, "annotations": node.annotations },
        "spec": { "taints": node.taints, "unschedulable": node.unschedulable },
        "status": { "nodeInfo": { "bootID": node.boot_id } },
    })
}

fn add(node: &mut Value, path: &str, value: Value) {
    let (parent, key) = path.rsplit_once('/').unwrap();
    let key = key.replace("~1", "/").replace("~0", "~");
    node.pointer_mut(parent).unwrap()[key] = value;
}

fn remove(node: &mut Value, path: &str) {
    let (parent, key) = path.rsplit_once('/').unwrap();
    let key = key.replace("~1", "/").replace("~0", "~");
    node.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(&key).expect("what is removed was there");
}

pub(super) fn node() -> NodeView {
    NodeView {
        name: "ip-10-0-0-1".into(),
        uid: "node-uid".into(),
        labels: Some(BTreeMap::from([("kubernetes.io/hostname".into(), "ip-10-0-0-1".into())])),
        annotations: Some(BTreeMap::new()),
        taints: None,
        unschedulable: None,
        boot_id: Some("boot-1".into()),
        allocatable_pods: None,
        branch_interfaces: None,
        provider_id: None,
    }
}

pub(super) fn pod(name: &str, grace: u64) -> PodView {
    PodView::sample(name, secs(grace))
}

pub(super) fn stops_after(seconds: u64) -> Behaviour {
    Behaviour { stops_after: Some(secs(seconds)), blocked_until: Duration::ZERO }
}

/// EC2 advises to leave, `ago` after it decided so.
pub(super) fn recommendation(now: Now, ago: Duration) -> Signal {
    let issued = Now { instant: now.instant - ago, wall: now.wall.checked_sub(ago).unwrap() };
    let id = format!("rebalance-recommendation/{}", issued.wall);
    Signal { issued: Some(issued), ..Signal::new(Kind::RebalanceRecommendation, id, Action::Terminate) }
}

/// A scheduled event.
pub(super) fn scheduled(id: &str, action: Action, now: Now, lead: Duration) -> Signal {
    let deadline = Some(Deadline { instant: now.instant + lead, wall: now.plus(lead).wall });
    Signal { deadline, ..Signal::new(Kind::ScheduledEvent, format!("scheduled-event/{id}"), action) }
}

/// The auto scaling group's target state.
pub(super) fn lifecycle(word: &str, action: Action) -> Signal {
    Signal::new(Kind::AsgTermination, format!("asg-termination/{word}"), action)
}

pub(super) fn notice(action: Action, now: Now, lead: Duration) -> Signal {
    let deadline = Some(Deadline { instant: now.instant + lead, wall: now.plus(lead).wall });
    Signal { deadline, ..Signal::new(Kind::SpotInterruption, format!("spot-interruption/{}", action.as_str()), action) }
}
