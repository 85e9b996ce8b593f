//! What happens in a simulated world, as a plain value read from a TOML file.
//!
//! A scenario says what the node carries, when the platform announces what, what goes wrong meanwhile, and what must be
//! true in the end. It knows nothing of the agent's insides: expectations are about the world. Times are seconds since
//! the start of the world. `docs/scenarios.md` describes the format for people; a test keeps the two in step.

mod expect;
mod parse;
mod scale;
mod shipped;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use expect::Expect;
pub use shipped::{SHIPPED, shipped};

use crate::config::OnBlockedEviction;
use crate::signal::Action;

/// A scenario that passed every check of the format.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The file's name without folder and extension; also names the node and the namespace.
    pub name: String,
    /// One line for `simulate --list`.
    pub title: String,
    /// A paragraph on what is shown and why it matters.
    pub description: String,
    /// What the platform announces; without it nothing is coming.
    pub notice: Option<Notice>,
    /// The node before anything happens.
    pub node: NodeSpec,
    /// How the agent is configured.
    pub agent: AgentSpec,
    /// What runs on the node.
    pub pods: Vec<PodGroup>,
    /// Disruption budgets in the scenario's namespace.
    pub budgets: Vec<Budget>,
    /// What else happens, in order of time.
    pub events: Vec<Event>,
    /// What must be true in the end.
    pub expect: Expect,
}

/// The spot instance action.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// What happens to the instance.
    #[serde(default = "defaults::action")]
    pub action: Action,
    /// When IMDS begins to tell.
    #[serde(default = "defaults::notice_at", deserialize_with = "parse::seconds")]
    pub at: Duration,
    /// From `at` to the announced time. The announced time is a whole second, so up to one second is added.
    #[serde(default = "defaults::lead", deserialize_with = "parse::seconds")]
    pub lead: Duration,
    /// From the announced time to the moment at which the instance really goes dark.
    #[serde(default, deserialize_with = "parse::seconds")]
    pub power_off_after: Duration,
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

/// How the agent is configured; what is absent is the agent's own default.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentSpec {
    /// `--on-blocked-eviction`.
    #[serde(deserialize_with = "parse::on_blocked_eviction")]
    pub on_blocked_eviction: Option<OnBlockedEviction>,
    /// `--shutdown-tail`, seconds.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub shutdown_tail: Option<Duration>,
    /// `--safety-margin`, seconds.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub safety_margin: Option<Duration>,
    /// `--spot-interval`, seconds.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub spot_interval: Option<Duration>,
    /// `--dry-run`.
    pub dry_run: bool,
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
    /// `priorityClassName`.
    #[serde(default)]
    pub priority_class: Option<String>,
    /// What the pods do.
    #[serde(default)]
    pub phase: Phase,
    /// When the pods appear on the node; 0 = before anything else happens.
    #[serde(default, deserialize_with = "parse::seconds")]
    pub arrives: Duration,
}

impl PodGroup {
    /// The pods' names.
    pub fn pod_names(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.count).map(|index| format!("{}-{index}", self.name))
    }

    /// Whether a drain has to end these pods.
    pub fn is_drained(&self) -> bool {
        !matches!(self.owner, Owner::DaemonSet | Owner::Node) && self.phase == Phase::Running
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
    /// Sets `spec.unschedulable`.
    Cordon,
    /// Adds a taint.
    Taint(Taint),
}

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Neither shipped nor a file.
    #[error("no scenario is called {name:?} and there is no such file; `--list` shows the scenarios{}", hint.as_deref().map(|near| format!(", the nearest name is {near:?}")).unwrap_or_default())]
    Unknown {
        /// What was asked for.
        name: String,
        /// A name that looks like it.
        hint: Option<String>,
    },
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file's text is not a scenario.
    #[error("{file}:{line}: {message}")]
    Invalid {
        /// Which file.
        file: String,
        /// Which line, from 1.
        line: usize,
        /// What is wrong and what would be valid.
        message: String,
    },
}

/// Largest scenario file that is read: ten times the largest that anybody would write by hand.
const MAX_FILE_BYTES: u64 = 256 * 1024;

impl Scenario {
    /// Reads a scenario from a file's text. `file` is named in errors and gives the scenario its name.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        parse::scenario(file, text)
    }

    /// The shipped scenario called `name`, or the one in the file `name`.
    pub fn load(name: &str) -> Result<Self, ScenarioError> {
        if let Some((file, text)) = shipped::text(name) {
            return Self::parse(&file, text);
        }
        let path = PathBuf::from(name);
        let looks_like_a_path = path.components().count() > 1 || path.extension().is_some();
        if !looks_like_a_path && !path.is_file() {
            return Err(ScenarioError::Unknown { name: name.to_owned(), hint: shipped::nearest(name) });
        }
        let unreadable = |source| ScenarioError::Unreadable { path: path.clone(), source };
        let invalid = |message| ScenarioError::Invalid { file: name.to_owned(), line: 1, message };
        let file = std::fs::metadata(&path).map_err(unreadable)?;
        if !file.is_file() {
            return Err(invalid("a scenario is a regular file, in TOML; see docs/scenarios.md".into()));
        }
        let size = file.len();
        if size > MAX_FILE_BYTES {
            return Err(invalid(format!("the file has {size} bytes; a scenario has at most {MAX_FILE_BYTES}")));
        }
        let text = String::from_utf8(std::fs::read(&path).map_err(unreadable)?);
        let text = text.map_err(|error| {
            let (good, bad) = (error.utf8_error().valid_up_to(), error.as_bytes());
            let line = bad.iter().take(good).filter(|byte| **byte == b'\n').count() + 1;
            let message = "this is not UTF-8 text; a scenario is TOML".to_owned();
            ScenarioError::Invalid { file: name.to_owned(), line, message }
        })?;
        Self::parse(name, &text)
    }

    /// Whether the agent is supposed to clear the node.
    pub fn is_drained(&self) -> bool {
        self.notice.as_ref().is_some_and(|notice| notice.action != Action::Hibernate) && !self.agent.dry_run
    }

    /// The group that a pod of this name belongs to.
    pub fn group_of(&self, pod: &str) -> Option<&PodGroup> {
        let (group, _) = pod.rsplit_once('-')?;
        self.pods.iter().find(|candidate| candidate.name == group)
    }
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
