//! What can happen in a scenario: announcements, faults, and what others do.

use std::time::Duration;

use super::cni::CniEvent;
use super::expect::NodeExpect;
use super::model::{Limit, Taint};
use super::parse;

/// One thing that happens beside the notice.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(try_from = "parse::RawEvent")]
pub struct Event {
    /// When.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A budget is changed.
    Budget(BudgetChange),
    /// IMDS misbehaves for a while.
    Imds(ImdsEvent),
    /// The way to the API server, or the server itself, misbehaves for a while.
    Api(ApiEvent),
    /// The agent's process ends.
    Agent(AgentEvent),
    /// Somebody else acts on the node or its pods.
    Actor(ActorEvent),
    /// EC2 recommends to rebalance.
    Rebalance(RebalanceEvent),
    /// A scheduled event appears or changes.
    Scheduled(ScheduledChange),
    /// The auto scaling group's target state for the instance; an empty word is served as an empty text.
    Lifecycle(String),
    /// IMDS serves something else at one path.
    Raw(RawDocument),
    /// Something happens to the instance, announced or not.
    Instance(InstanceEvent),
    /// Something happens to ipamd or to its subnets.
    Cni(CniEvent),
    /// The node is looked at and judged as it is then.
    Look(NodeExpect),
}

/// A rebalance recommendation.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RebalanceEvent {
    /// How long ago EC2 issued it; 0 = it does now.
    #[serde(default, deserialize_with = "parse::seconds")]
    pub ago: Duration,
}

/// A scheduled event appears, or what is named of it changes.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduledChange {
    /// `EventId`; the same one again is a change.
    pub id: String,
    /// `Code`; needed the first time.
    pub code: Option<String>,
    /// Seconds from now to `NotBefore`; needed the first time.
    #[serde(default, rename = "in", deserialize_with = "parse::some_seconds")]
    pub not_before_in: Option<Duration>,
    /// Seconds from `NotBefore` to `NotAfter`; absent = the service does not tell.
    #[serde(default, deserialize_with = "parse::some_seconds")]
    pub lasts: Option<Duration>,
    /// Where the event is in its life.
    #[serde(default)]
    pub becomes: EventBecomes,
}

/// Where a scheduled event is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventBecomes {
    /// It is listed and to come.
    #[default]
    Active,
    /// It is done: it moves to the history.
    Completed,
    /// It was called off: it moves to the history.
    Canceled,
    /// It is done and lingers in the list of what is scheduled, as the service documents.
    Lingering,
    /// It is listed nowhere any more.
    Vanished,
}

/// What IMDS serves at one path instead of what belongs there.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDocument {
    /// Below `/latest/meta-data/`.
    pub path: String,
    /// The text; absent = 404.
    pub body: Option<String>,
    /// For how long; absent = for good.
    #[serde(default, rename = "for", deserialize_with = "parse::some_seconds")]
    pub lasts: Option<Duration>,
}

/// Something happens to the instance.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(try_from = "parse::RawInstanceEvent")]
pub struct InstanceEvent {
    /// Seconds until it is up again; absent = it is gone for good.
    pub back_after: Option<Duration>,
}

/// A budget's new limit.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(try_from = "parse::RawBudgetChange")]
pub struct BudgetChange {
    /// Which budget.
    pub name: String,
    /// What it allows from now on.
    pub limit: Limit,
}

/// IMDS misbehaves.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(try_from = "parse::RawImdsEvent")]
pub struct ImdsEvent {
    /// How.
    pub fault: ImdsFault,
    /// For how long; zero for what happens once.
    pub lasts: Duration,
}

/// How IMDS misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImdsFault {
    /// Connections are accepted and never answered.
    Hangs,
    /// Every answer is a 503.
    Unavailable,
    /// Every session token is forgotten, once (401 until a new one is fetched).
    TokensExpire,
    /// The notice reads as 404 although it stands.
    Flaps,
    /// The endpoint is switched off: every answer is a 403.
    Disabled,
    /// Requests for a session token are never answered, as in a pod network with a hop limit of 1.
    HopLimit,
    /// Only every second request with a session token is accepted, the others get a 401.
    TokensRefused,
}

/// The API server misbehaves.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(try_from = "parse::RawApiEvent")]
pub struct ApiEvent {
    /// How.
    pub fault: ApiFault,
    /// For how long; zero for what happens once.
    pub lasts: Duration,
}

/// How the API server misbehaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ApiFault {
    /// Every answer comes this much later.
    Slow(Duration),
    /// Connections are broken, running watches included.
    Gone,
    /// Everything but running watches is answered by a plain 429.
    Throttled,
    /// Everything but running watches is answered by a 503.
    Unavailable,
    /// History is compacted: watches end and cannot be resumed.
    Compacted,
    /// An admission policy refuses a change of the node that contains this part.
    Denied(FencePart),
}

/// A part of the fence that an admission policy may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FencePart {
    /// The taint.
    Taint,
    /// `spec.unschedulable`.
    Cordon,
    /// The load balancer exclusion label.
    Label,
    /// The state annotation.
    Annotation,
}

impl FencePart {
    /// Every part.
    pub const ALL: [Self; 4] = [Self::Taint, Self::Cordon, Self::Label, Self::Annotation];

    /// The name in scenario files and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Taint => "taint",
            Self::Cordon => "cordon",
            Self::Label => "label",
            Self::Annotation => "annotation",
        }
    }
}

/// The agent's process ends.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentEvent {
    /// How.
    pub does: AgentDoes,
    /// Seconds until a new one is started; absent = it stays away.
    #[serde(default, deserialize_with = "parse::some_seconds")]
    pub back_after: Option<Duration>,
}

/// How the agent's process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentDoes {
    /// SIGKILL: nothing is said or finished.
    Crash,
    /// SIGTERM.
    Stop,
}

/// Somebody else acts.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(try_from = "parse::RawActorEvent")]
pub struct ActorEvent {
    /// Who, for the timeline.
    pub name: String,
    /// What is done.
    pub does: ActorDoes,
}

/// What somebody else does.
#[derive(Clone, Debug, PartialEq)]
pub enum ActorDoes {
    /// Evicts the pods of these groups with a grace of their own, asking again every 5 s while refused.
    Evict {
        /// Names of pod groups.
        pods: Vec<String>,
        /// Seconds; absent = the pods' own.
        grace: Option<u32>,
    },
    /// Deletes the pods of these groups.
    Delete {
        /// Names of pod groups.
        pods: Vec<String>,
        /// Seconds; absent = the pods' own.
        grace: Option<u32>,
    },
    /// Cordons the node, then evicts what `kubectl drain --ignore-daemonsets --force` would.
    Drain {
        /// Seconds; absent = the pods' own.
        grace: Option<u32>,
    },
    /// Sets `spec.unschedulable`.
    Cordon,
    /// Removes `spec.unschedulable`.
    Uncordon,
    /// Adds a taint.
    Taint(Taint),
    /// Removes a taint.
    Untaint(Taint),
    /// Sets a label of the node.
    Label(KeyValue),
    /// Removes a label of the node.
    Unlabel(String),
    /// Sets an annotation of the node.
    Annotate(KeyValue),
    /// Removes an annotation of the node.
    Unannotate(String),
}

/// A label or an annotation, written as `key=value`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct KeyValue {
    /// Its key.
    pub key: String,
    /// Its value, possibly empty.
    pub value: String,
}
