//! What the machine reports: the material of logs, metrics and, later, traces and notifications.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::cni::subnet::Refused;
use crate::config::Response;
use crate::drain::forecast::Forecast;
use crate::drain::outcome::Outcome;
use crate::drain::pod::PodRef;
use crate::interruption::state::{Entry, Trace};
use crate::signal::{Action, Deadline, Kind, Signal};

/// One thing worth counting and logging. Each is emitted once.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// An interruption begins, or is taken up; what is announced follows.
    Interruption(Trace),
    /// The node was booted again since this was announced: it has happened, and the node is back.
    Survived {
        /// What was announced, never empty.
        announcements: Vec<Entry>,
    },
    /// A notice that nobody saw before, restarts of the agent included.
    NoticeSeen {
        /// What is announced.
        signal: Signal,
        /// When it was first seen.
        first_seen: Timestamp,
    },
    /// The platform moved the time of something that was announced before.
    Rescheduled {
        /// What is announced.
        kind: Kind,
        /// Identity of the announcement.
        id: String,
        /// The new time.
        deadline: Deadline,
    },
    /// What was announced is over, and the instance is still there.
    Over {
        /// What was announced.
        kind: Kind,
        /// Identity of the announcement.
        id: String,
        /// How it is known.
        because: &'static str,
    },
    /// What this agent had put on the node was taken away again.
    Restored,
    /// A mark of ours cannot be taken away for now; it is tried again.
    RestoreFailed {
        /// Why.
        reason: String,
    },
    /// The result of the preflight: evictions that would be refused now.
    Preflight {
        /// Pods that were asked about.
        asked: usize,
        /// Pods whose eviction would be refused, with the server's words.
        blocked: Vec<(PodRef, String)>,
    },
    /// An interruption is taken up again from the node's annotation after a restart.
    Resumed {
        /// What is announced.
        signal: Signal,
        /// When it was first seen, by an agent before this one.
        first_seen: Timestamp,
    },
    /// The state annotation cannot be used; it will be replaced by the next one that is written.
    StateUnreadable {
        /// What is wrong with it.
        reason: String,
    },
    /// The fence was acknowledged by the API server.
    Fenced {
        /// From the notice being read to the acknowledgement.
        after: Duration,
        /// Parts that the API server refused.
        refused: Vec<&'static str>,
    },
    /// The fence could not be set for now; it is tried again.
    FenceFailed {
        /// Why.
        reason: String,
    },
    /// A drain that can wait does, because new nodes would get no addresses for its pods.
    DrainPostponed {
        /// The subnets that refused, joined by `or`; empty if none is known.
        subnets: String,
    },
    /// The drain begins.
    DrainStarted {
        /// Pods to be evicted.
        pods: usize,
        /// Pods left alone.
        skipped: usize,
    },
    /// An eviction is refused for the first time.
    EvictionBlocked {
        /// Which pod.
        pod: PodRef,
        /// The server's words.
        message: String,
    },
    /// A pod's stop was accepted by the API server.
    StopAccepted {
        /// Which pod.
        pod: PodRef,
        /// Its own grace.
        wanted: Duration,
        /// The grace it got.
        granted: Duration,
        /// Deleted past a refusal instead of evicted.
        forced: bool,
    },
    /// A pod's drain ended.
    PodEnded {
        /// Which pod.
        pod: PodRef,
        /// How.
        outcome: Outcome,
        /// Its own grace.
        wanted: Duration,
        /// The grace it got, if it was told at all.
        granted: Option<Duration>,
    },
    /// The drain is over: no pod is left, or the deadline has come.
    DrainFinished {
        /// From the first eviction to the last pod gone (or to the deadline).
        took: Duration,
        /// Seconds between the last pod's end and the end of the deadline's shutdown tail, which is when the power goes;
        /// negative when too late. Absent without a deadline.
        slack_seconds: Option<f64>,
        /// Number of pods by outcome, in the order of [`Outcome::ALL`].
        outcomes: [u32; 5],
    },
    /// The response to a notice without a drain (hibernation) is complete.
    NotDrained {
        /// Why not.
        reason: &'static str,
    },
}

/// The agent's state for people and gauges; a plain copy, taken after every input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// What is coming, the most urgent first.
    pub pending: Vec<Pending>,
    /// When the instance may lose power: the earliest of all, whatever the response.
    pub deadline: Option<Deadline>,
    /// The fence was acknowledged.
    pub fenced: bool,
    /// Whether the node could be cleared within a notice that arrived now; `None` before the pods were read.
    pub forecast: Option<Arc<Forecast>>,
    /// The own Node was read at least once.
    pub node_seen: bool,
    /// Pods of the drain, if one is or was under way.
    pub pods: Vec<PodStatus>,
    /// A drain waits because of these.
    pub postponed: Option<Refused>,
    /// The drain is over.
    pub drained: bool,
    /// Seconds of slack when the drain was over.
    pub slack_seconds: Option<f64>,
}

/// What is coming.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// What is announced.
    pub kind: Kind,
    /// What happens to the instance.
    pub action: Action,
    /// When, if known.
    pub deadline: Option<Deadline>,
    /// When it was first seen, by this agent or one before it.
    pub first_seen: Timestamp,
    /// The signal's own words, if it has any.
    pub detail: Option<String>,
    /// How the agent answers it now.
    pub response: Response,
}

/// One pod's place in the drain.
#[derive(Clone, Debug, PartialEq)]
pub struct PodStatus {
    /// Which pod. Shared, for the state is copied after every input.
    pub id: Arc<PodRef>,
    /// `waiting`, `evicting`, `blocked`, `stopping`, or the outcome's name.
    pub phase: &'static str,
    /// Set when its drain ended.
    pub outcome: Option<Outcome>,
    /// Its own grace.
    pub wanted: Duration,
    /// The grace it got, if it was told.
    pub granted: Option<Duration>,
    /// The last refusal of its eviction.
    pub blocked: Option<String>,
}
