//! The kubelet of a simulated world: starts the pods that are bound to its node, stops them when they are deleted, and
//! keeps the record of what really happened to each.
//!
//! It talks to the API server through a client of its own, never through the gateway, and so drives an embedded and a
//! real API server alike. One task carries all pods: a watch, a timer for the next due step, and the calls in flight.
//!
//! Invariant: after the power went no process runs, nothing is sent, and no fate changes any more.

mod calls;
mod fate;
mod network;
pub mod stop;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use crate::sim::seen::Pod;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::ipamd::SimIpamd;
use crate::clock::{Clock, Now};
use crate::drain::pod::DEFAULT_GRACE;
use fate::Fates;
pub use fate::PodFate;
use network::{Network, Sandbox};
use stop::{Behaviour, Process, Step, Timing};

/// Annotation of a pod that says how long its process takes to stop: seconds, `never`, or `NN%` of its own grace.
pub const STOPS_AFTER: &str = "sim.spotwarden/stops-after";

/// Annotation of a static pod's API object.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Latencies of a real node (kubelet 1.36, containerd 2.3), medians: eviction to SIGTERM 0.02–0.60 s, the process's end
/// to the final DELETE 0.3–1.4 s.
pub const MEASURED: Timing =
    Timing { observe: Duration::from_millis(50), minimum: Duration::from_secs(2), cleanup: Duration::from_millis(900) };

/// Which nodes a kubelet plays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// One node.
    Only(String),
    /// Every node but one: where replacements of its pods come up.
    AllBut(String),
}

impl From<&str> for Nodes {
    fn from(name: &str) -> Self {
        Self::Only(name.into())
    }
}

/// How a kubelet behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeletSpec {
    /// From a pod being bound to its containers being ready.
    pub start: Duration,
    /// Latencies of a stop.
    pub timing: Timing,
    /// A pod deleted this soon after its start gets its SIGTERM `fresh_observe` later instead of `timing.observe`.
    pub fresh: Duration,
    /// See `fresh`.
    pub fresh_observe: Duration,
    /// Least distance of two SIGTERMs: many stops at once queue up in the kubelet.
    pub spacing: Duration,
    /// Only pods of this namespace; worlds that share an API server do not see each other then.
    pub namespace: Option<String>,
}

impl Default for KubeletSpec {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(1),
            timing: MEASURED,
            // Measured: a pod evicted within 1–2 s of becoming Ready got its SIGTERM 1–2 s later.
            fresh: Duration::from_secs(2),
            fresh_observe: Duration::from_millis(1500),
            // Measured: of 100 evictions at once the last SIGTERM came 2.1 s later.
            spacing: Duration::from_millis(20),
            namespace: None,
        }
    }
}

/// Access to a kubelet while it runs and after it ended; clones share it.
#[derive(Clone, Debug)]
pub struct KubeletHandle {
    fates: Fates,
    power: watch::Sender<Option<Instant>>,
}

impl KubeletHandle {
    /// Every pod seen so far, in order of first sight.
    pub fn fates(&self) -> Vec<PodFate> {
        self.fates.all()
    }

    /// The power goes at `at`; a later call replaces the moment if it has not come.
    pub fn power_off(&self, at: Instant) {
        self.power.send_replace(Some(at));
    }
}

/// The kubelet of one node or of a set of nodes.
pub struct Kubelet {
    client: Client,
    nodes: Nodes,
    clock: Clock,
    spec: KubeletSpec,
    handle: KubeletHandle,
    network: Network,
}

impl Kubelet {
    /// Nothing is sent before [`Kubelet::run`].
    pub fn new(client: Client, nodes: impl Into<Nodes>, clock: Clock, spec: KubeletSpec) -> Self {
        let handle = KubeletHandle { fates: Fates::default(), power: watch::Sender::new(None) };
        Self { client, nodes: nodes.into(), clock, spec, handle, network: Network::default() }
    }

    /// Pods get their addresses from this ipamd, and wait until they do.
    #[must_use]
    pub fn on_network(self, ipamd: SimIpamd) -> Self {
        Self { network: Network::of(ipamd), ..self }
    }

    /// The kubelet of the same machine after its next start: what it does is written into the same record.
    #[must_use]
    pub fn after_reboot(self, handle: KubeletHandle) -> Self {
        handle.power.send_replace(None);
        Self { handle, ..self }
    }

    /// For questions and for the power switch.
    pub fn handle(&self) -> KubeletHandle {
        self.handle.clone()
    }

    /// Runs until the power goes, or for ever.
    pub async fn run(self) {
        let mut power = self.handle.power.subscribe();
        let mut events = pin!(watcher(self.api(None), self.selection()).default_backoff());
        let mut node =
            Node { kubelet: self, pods: BTreeMap::new(), listed: BTreeSet::new(), last_term: None, started: 0 };
        let mut calls: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
        loop {
            let off_at = *power.borrow_and_update();
            tokio::select! {
                // The power first (it plays what was due until then), then what is due, then what is new.
                biased;
                () = at(off_at) => {
                    node.power_off(off_at);
                    return;
                }
                () = at(node.due()) => {}
                _ = power.changed() => {}
                Some(()) = calls.next(), if !calls.is_empty() => {}
                Some(event) = events.next() => {
                    // An error is the watcher's to overcome: it lists again after a pause.
                    if let Ok(event) = event {
                        node.see(event);
                    }
                }
            }
            let limit = off_at.map_or_else(Instant::now, |off| off.min(Instant::now()));
            calls.extend(node.advance(limit));
        }
    }

    fn api(&self, namespace: Option<&str>) -> Api<Pod> {
        match namespace.or(self.spec.namespace.as_deref()) {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    fn selection(&self) -> watcher::Config {
        watcher::Config::default().fields(&match &self.nodes {
            Nodes::Only(name) => format!("spec.nodeName={name}"),
            Nodes::AllBut(name) => format!("spec.nodeName!={name}"),
        })
    }
}

/// A pod under the kubelet's care.
struct Tracked {
    pod: Pod,
    process: Process,
    /// It asked for an address and there was none.
    waits_for_address: bool,
    /// When its containers are ready; cleared by their start.
    start_at: Option<Instant>,
    started_at: Option<Instant>,
    killed: bool,
    /// The API object is gone: there is nothing to remove.
    orphan: bool,
}

impl Tracked {
    fn due(&self) -> Option<Instant> {
        let start = self.start_at.filter(|_| self.process.waiting());
        [start, self.process.due()].into_iter().flatten().min()
    }
}

/// The state of a running kubelet.
struct Node {
    kubelet: Kubelet,
    /// By UID.
    pods: BTreeMap<String, Tracked>,
    /// UIDs of the list that is coming in.
    listed: BTreeSet<String>,
    last_term: Option<Instant>,
    /// Number of pods started; makes their addresses.
    started: u32,
}

impl Node {
    fn see(&mut self, event: watcher::Event<Pod>) {
        let now = self.kubelet.clock.now();
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(pod) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.applied(now, pod);
            }
            watcher::Event::InitDone => {
                let gone: Vec<_> = self.pods.keys().filter(|uid| !self.listed.contains(*uid)).cloned().collect();
                for uid in gone {
                    self.gone(now, &uid);
                }
            }
            watcher::Event::Apply(pod) => self.applied(now, pod),
            watcher::Event::Delete(pod) => self.gone(now, &pod.metadata.uid.unwrap_or_default()),
        }
    }

    fn applied(&mut self, now: Now, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        if pod.spec.as_ref().is_none_or(|spec| spec.node_name.as_deref().unwrap_or_default().is_empty()) {
            return;
        }
        if !self.pods.contains_key(&uid) && !self.adopt(now, &uid, &pod) {
            return;
        }
        let deletion = deletion_grace(&pod).filter(|_| !is_mirror(&pod));
        if let Some(tracked) = self.pods.get_mut(&uid) {
            tracked.pod = pod;
        }
        if let Some(grace) = deletion {
            self.stop(now, &uid, grace);
        }
    }

    /// Takes a pod over; false if there is nothing to run.
    fn adopt(&mut self, now: Now, uid: &str, pod: &Pod) -> bool {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        if matches!(phase, "Succeeded" | "Failed") {
            return false;
        }
        let spec = &self.kubelet.spec;
        let own_grace = own_grace(pod);
        let behaviour = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(STOPS_AFTER));
        let behaviour = behaviour.map_or(Behaviour::DEFAULT, |text| Behaviour::parse(text, own_grace));
        let mut process = Process::new(spec.timing, behaviour);
        let mut fate = PodFate::of(pod, own_grace);
        // A pod that runs already was started by this kubelet's predecessor.
        let running = phase == "Running";
        if running {
            process.start();
            fate.started = Some(now);
        }
        self.kubelet.handle.fates.add(fate);
        let start_at = (!running).then(|| now.instant + spec.start);
        let tracked = Tracked {
            pod: pod.clone(),
            process,
            waits_for_address: false,
            start_at,
            started_at: None,
            killed: false,
            orphan: false,
        };
        self.pods.insert(uid.into(), tracked);
        true
    }

    fn stop(&mut self, now: Now, uid: &str, grace: Duration) {
        let spec = &self.kubelet.spec;
        let Some(tracked) = self.pods.get_mut(uid) else { return };
        let mut not_before = now.instant;
        if tracked.process.running() && tracked.process.untold() {
            if tracked.started_at.is_some_and(|started| now.instant < started + spec.fresh) {
                not_before += spec.fresh_observe;
            }
            not_before = not_before.max(now.instant + spec.timing.observe);
            not_before = self.last_term.map_or(not_before, |last| not_before.max(last + spec.spacing));
            self.last_term = Some(not_before);
        }
        tracked.process.delete(now.instant, grace, not_before);
        let granted = tracked.process.grace();
        self.kubelet.handle.fates.amend(uid, |fate| fate.grace_granted = granted);
    }

    /// The API object is gone. A process that nobody told to stop is stopped with its own grace.
    fn gone(&mut self, now: Now, uid: &str) {
        self.kubelet.handle.fates.amend(uid, |fate| {
            fate.gone_at.get_or_insert(now);
        });
        let Some(tracked) = self.pods.get_mut(uid).filter(|tracked| !is_mirror(&tracked.pod)) else { return };
        tracked.orphan = true;
        if tracked.process.waiting() {
            self.kubelet.network.take_down(&tracked.pod);
        }
        let running = tracked.process.running();
        let untold = tracked.process.untold();
        let grace = own_grace(&tracked.pod);
        if !running {
            self.pods.remove(uid);
        } else if untold {
            self.stop(now, uid, grace);
        }
    }

    fn due(&self) -> Option<Instant> {
        self.pods.values().filter_map(Tracked::due).min()
    }

    /// Takes every step that is due by `limit`; returns the calls that follow from them.
    fn advance(&mut self, limit: Instant) -> Vec<BoxFuture<'static, ()>> {
        let now = self.kubelet.clock.now();
        let moment = |at: Instant| Now { instant: at, wall: now.wall_of(at) };
        let mut calls = Vec::new();
        let mut over = Vec::new();
        for (uid, tracked) in &mut self.pods {
            let target = |pod: &Pod| calls::Target {
                api: self.kubelet.api(pod.metadata.namespace.as_deref()),
                name: pod.metadata.name.clone().unwrap_or_default(),
                uid: uid.clone(),
            };
            let amend = |change: &dyn Fn(&mut PodFate)| self.kubelet.handle.fates.amend(uid, change);
            if let Some(at) = tracked.start_at.filter(|at| *at <= limit && tracked.process.waiting()) {
                match self.kubelet.network.set_up(&tracked.pod, self.started + 1, tracked.waits_for_address) {
                    Sandbox::Ready(address) => {
                        tracked.start_at = None;
                        tracked.process.start();
                        tracked.started_at = Some(at);
                        self.started += 1;
                        amend(&|fate| fate.started = Some(moment(at)));
                        let status = calls::started(&tracked.pod, moment(at).wall, &address);
                        calls.push(target(&tracked.pod).write_status(status).boxed());
                    }
                    Sandbox::Waits(pause) => {
                        tracked.waits_for_address = true;
                        tracked.start_at = Some(now.instant + pause);
                        amend(&|fate| _ = fate.no_address.get_or_insert(moment(at)));
                    }
                }
            }
            while let Some((at, step)) = tracked.process.step(limit) {
                match step {
                    Step::Sigterm => amend(&|fate| fate.told_at = Some(moment(at))),
                    Step::Exited { killed } => {
                        tracked.killed = killed;
                        self.kubelet.network.take_down(&tracked.pod);
                        amend(&|fate| (fate.exited_at, fate.killed) = (Some(moment(at)), killed));
                    }
                    Step::Remove if tracked.orphan => over.push(uid.clone()),
                    Step::Remove => {
                        self.kubelet.network.take_down(&tracked.pod);
                        let ran = tracked.started_at.is_some() || tracked.start_at.is_none();
                        let end = ran.then(|| calls::ended(&tracked.pod, moment(at).wall, tracked.killed));
                        calls.push(target(&tracked.pod).remove(end).boxed());
                    }
                }
            }
        }
        for uid in over {
            self.pods.remove(&uid);
        }
        calls
    }

    /// Plays what was due by then; what still runs is cut off.
    fn power_off(&mut self, at: Option<Instant>) {
        drop(self.advance(at.unwrap_or_else(Instant::now)));
        for (uid, tracked) in &self.pods {
            if tracked.process.running() {
                self.kubelet.handle.fates.amend(uid, |fate| fate.cut_off = true);
            }
        }
    }
}

/// Waits for a moment; for ever if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn own_grace(pod: &Pod) -> Duration {
    let seconds = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    seconds.and_then(|s| u64::try_from(s).ok()).map_or(DEFAULT_GRACE, Duration::from_secs)
}

/// The grace of a pod that is being deleted.
fn deletion_grace(pod: &Pod) -> Option<Duration> {
    pod.metadata.deletion_timestamp.as_ref()?;
    let seconds = pod.metadata.deletion_grace_period_seconds.and_then(|s| u64::try_from(s).ok());
    Some(seconds.map_or_else(|| own_grace(pod), Duration::from_secs))
}

/// The kubelet runs static pods from files: deleting their API object stops nothing.
fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR))
}

#[cfg(test)]
mod tests;
