//! What a simulated node is and carries before anything happens, and how its agent is configured.

use std::collections::BTreeMap;
use std::time::Duration;

use super::parse;
use crate::config::{MarkStyle, OnBlockedEviction, PriorityShare, Response};
use crate::signal::Action;

/// The Cluster Autoscaler's annotation by which a pod of a DaemonSet is evicted like others.
const ENABLE_DAEMON_SET_EVICTION: &str = "cluster-autoscaler.kubernetes.io/enable-ds-eviction";

/// The spot instance action.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// What happens to the instance.
    #[serde(default = "defaults::action")]
    pub action: Action,
    /// The word that IMDS has for the action, if it is another one.
    #[serde(default)]
    pub word: Option<String>,
    /// When IMDS begins to tell.
    #[serde(default = "defaults::notice_at", deserialize_with = "parse::seconds")]
    pub at: Duration,
    /// From `at` to the announced time. The announced time is a whole second, so up to one second is added.
    #[serde(default = "defaults::lead", deserialize_with = "parse::seconds")]
    pub lead: Duration,
    /// From the announced time to the moment at which the instance really goes dark.
    #[serde(default, deserialize_with = "parse::seconds")]
    pub power_off_after: Duration,
    /// EC2 fails to do what it announced: the time passes, the notice stays, the instance lives on.
    #[serde(default)]
    pub fails: bool,
    /// Every read tells a time that is `lead` ahead of it, as some mocks do. The power goes at the first one.
    #[serde(default)]
    pub slides: bool,
    /// From the instance going dark to its being started again, the notice still in IMDS; absent = it stays away.
    #[serde(default, deserialize_with = "parse::some_seconds")]
    pub back_after: Option<Duration>,
}

/// The node before anything happens.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSpec {
    /// Cordoned by somebody else.
    pub cordoned: bool,
    /// Labels beside those that every node has.
    pub labels: BTreeMap<String, String>,
    /// Taints that somebody else set, as `key=value:effect` or `key:effect`.
    pub taints: Vec<Taint>,
    /// Seconds by which the node's wall clock is ahead of the platform's; negative = behind.
    pub clock_ahead: i32,
}

/// A taint that is not the agent's.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value, often empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// How the agent is configured; what is absent is the agent's own default. The names are those of its flags.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentSpec {
    /// `--on-spot-interruption`.
    #[serde(deserialize_with = "parse::response")]
    pub on_spot_interruption: Option<Response>,
    /// `--on-rebalance-recommendation`.
    #[serde(deserialize_with = "parse::response")]
    pub on_rebalance_recommendation: Option<Response>,
    /// `--on-scheduled-event`.
    #[serde(deserialize_with = "parse::response")]
    pub on_scheduled_event: Option<Response>,
    /// `--on-asg-termination`.
    #[serde(deserialize_with = "parse::response")]
    pub on_asg_termination: Option<Response>,
    /// `--rebalance-expiry`, seconds.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub rebalance_expiry: Option<Duration>,
    /// `--scheduled-event-lead`, seconds.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub scheduled_event_lead: Option<Duration>,
    /// `--asg-hook-timeout`, seconds.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub asg_hook_timeout: Option<Duration>,
    /// `--on-blocked-eviction`.
    #[serde(deserialize_with = "parse::on_blocked_eviction")]
    pub on_blocked_eviction: Option<OnBlockedEviction>,
    /// `--shutdown-tail`, seconds.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub shutdown_tail: Option<Duration>,
    /// `--safety-margin`, seconds.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub safety_margin: Option<Duration>,
    /// `--load-balancer-wait`, seconds.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub load_balancer_wait: Option<Duration>,
    /// `--shutdown-grace-by-priority`: shares of a shutdown by least priority.
    #[serde(deserialize_with = "parse::shutdown_grace_by_priority")]
    pub shutdown_grace_by_priority: Vec<PriorityShare>,
    /// `--spot-poll-interval`, seconds.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub spot_poll_interval: Option<Duration>,
    /// `--rebalance-poll-interval`, seconds.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub rebalance_poll_interval: Option<Duration>,
    /// `--asg-poll-interval`, seconds.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub asg_poll_interval: Option<Duration>,
    /// `--scheduled-poll-interval`, seconds.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub scheduled_poll_interval: Option<Duration>,
    /// `--node-marks`.
    #[serde(deserialize_with = "parse::node_marks")]
    pub node_marks: Option<MarkStyle>,
    /// `--pod-ip-exhaustion-taint`.
    pub pod_ip_exhaustion_taint: bool,
    /// `--dry-run`.
    pub dry_run: bool,
    /// Agents that run side by side, as in a roll-out that starts the new one first. 0 counts as 1.
    pub copies: u8,
}

/// Pods that are alike.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodGroup {
    /// The pods are called `name-0`, `name-1`, …, and carry the label `app: name`.
    pub name: String,
    /// How many.
    #[serde(default = "defaults::count")]
    pub count: u32,
    /// `terminationGracePeriodSeconds`.
    #[serde(default = "defaults::grace")]
    pub grace: u32,
    /// Seconds from SIGTERM to the last process's end; `"never"` ignores SIGTERM.
    #[serde(default)]
    pub stops_after: StopsAfter,
    /// What controls the pods.
    #[serde(default)]
    pub owner: Owner,
    /// Labels beside `app`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// `priorityClassName`.
    #[serde(default)]
    pub priority_class: Option<String>,
    /// `priority`, by a class of the scenario's own; not beside `priority_class`.
    #[serde(default)]
    pub priority: Option<i32>,
    /// What the pods do.
    #[serde(default)]
    pub phase: Phase,
    /// When the pods appear on the node; 0 = before anything else happens.
    #[serde(default, deserialize_with = "parse::seconds")]
    pub arrives: Duration,
    /// The pods come one after another, so many seconds apart; absent = all at once.
    #[serde(default, deserialize_with = "parse::some_seconds")]
    pub every: Option<Duration>,
    /// With `every`: how many come together.
    #[serde(default = "defaults::count")]
    pub at_once: u32,
    /// Seconds from a pod's arrival to its deletion by its controller; absent = it stays.
    #[serde(default, deserialize_with = "parse::some_seconds")]
    pub lives: Option<Duration>,
    /// The pods are on the host's network and take no address.
    #[serde(default)]
    pub host_network: bool,
}

impl PodGroup {
    /// The pods' names.
    pub fn pod_names(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.count).map(|index| self.pod_name(index))
    }

    /// The pods' numbers with the times at which they appear.
    pub fn arrivals(&self) -> impl Iterator<Item = (Duration, u32)> + '_ {
        let batch = |index: u32| index / self.at_once.max(1);
        (0..self.count).map(move |index| (self.arrives + self.every.unwrap_or_default() * batch(index), index))
    }

    /// Some of the pods are not there when the world begins.
    pub fn comes_later(&self) -> bool {
        self.every.is_some() || !self.arrives.is_zero()
    }

    /// The name of one of the pods.
    pub fn pod_name(&self, index: u32) -> String {
        format!("{}-{index}", self.name)
    }

    /// Whether a drain has to end these pods.
    pub fn is_drained(&self) -> bool {
        let stays = match self.owner {
            Owner::DaemonSet => self.annotations.get(ENABLE_DAEMON_SET_EVICTION).is_none_or(|wish| wish != "true"),
            Owner::Node => true,
            Owner::ReplicaSet | Owner::StatefulSet | Owner::Job | Owner::Nothing => false,
        };
        !stays && self.phase == Phase::Running
    }
}

/// How long a pod's processes run after SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopsAfter {
    /// They end by themselves.
    Time(Duration),
    /// They are killed when their grace is over.
    Never,
}

impl Default for StopsAfter {
    fn default() -> Self {
        Self::Time(Duration::from_secs(1))
    }
}

/// What controls a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub enum Owner {
    /// A Deployment's ReplicaSet.
    #[default]
    ReplicaSet,
    /// A StatefulSet.
    StatefulSet,
    /// A Job.
    Job,
    /// A DaemonSet; not drained.
    DaemonSet,
    /// The kubelet itself: the mirror of a static pod; not drained.
    Node,
    /// Nothing.
    #[serde(rename = "none")]
    Nothing,
}

/// What a pod does before it is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub enum Phase {
    /// It runs and is ready.
    #[default]
    Running,
    /// It ended well; not drained.
    Succeeded,
    /// It ended badly; not drained.
    Failed,
}

/// A disruption budget.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(try_from = "parse::RawBudget")]
pub struct Budget {
    /// Its name.
    pub name: String,
    /// The labels that select its pods.
    pub selector: BTreeMap<String, String>,
    /// What it allows.
    pub limit: Limit,
}

impl Budget {
    /// Whether it covers the group's pods.
    pub fn selects(&self, group: &PodGroup) -> bool {
        self.selector.iter().all(|(key, value)| match key.as_str() {
            "app" => group.name == *value,
            _ => group.labels.get(key) == Some(value),
        })
    }
}

/// What a budget allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `minAvailable`.
    MinAvailable(u32),
    /// `maxUnavailable`.
    MaxUnavailable(u32),
}

mod defaults {
    use std::time::Duration;

    use crate::signal::Action;

    pub(super) fn action() -> Action {
        Action::Terminate
    }

    /// Enough for the agent to have read its node and pods.
    pub(super) fn notice_at() -> Duration {
        Duration::from_secs(3)
    }

    /// What EC2 promises for a termination and a stop.
    pub(super) fn lead() -> Duration {
        Duration::from_secs(120)
    }

    pub(super) fn count() -> u32 {
        1
    }

    /// What Kubernetes gives a pod that does not say.
    pub(super) fn grace() -> u32 {
        30
    }
}
