//! What a cloud can announce about its instance, independent of the cloud.
//!
//! A [`SignalSource`] reports *levels*: what its platform says now, again and again. Whether a level is news is decided
//! by [`crate::interruption`], so that a restarted agent and a flapping source need no special case here.

use std::future::Future;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::clock::Now;

/// What is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The platform takes the spot instance back at a fixed time.
    SpotInterruption,
    /// The platform sees an elevated risk of an interruption; there is no time attached.
    RebalanceRecommendation,
    /// Maintenance with a date: reboot, stop, retirement.
    ScheduledEvent,
    /// The instance's auto scaling group is taking it out of service.
    AsgTermination,
}

impl Kind {
    /// Every kind, in the order in which reports list them.
    pub const ALL: [Self; 4] =
        [Self::SpotInterruption, Self::RebalanceRecommendation, Self::ScheduledEvent, Self::AsgTermination];

    /// The name used in metric labels, taint values and annotations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SpotInterruption => "spot-interruption",
            Self::RebalanceRecommendation => "rebalance-recommendation",
            Self::ScheduledEvent => "scheduled-event",
            Self::AsgTermination => "asg-termination",
        }
    }

    /// The reason of the Kubernetes Event that announces this kind.
    pub const fn event_reason(self) -> &'static str {
        match self {
            Self::SpotInterruption => "SpotInterruption",
            Self::RebalanceRecommendation => "RebalanceRecommendation",
            Self::ScheduledEvent => "ScheduledEvent",
            Self::AsgTermination => "ASGTermination",
        }
    }
}

/// What happens to the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The instance ends for good. Also the safe reading of an action this version does not know.
    Terminate,
    /// The instance stops and may be started again.
    Stop,
    /// Memory is written to disk at once; there is no lead time to drain in.
    Hibernate,
    /// The instance, or the host below it, restarts.
    Reboot,
    /// The host is worked on: a short loss of network or power.
    Maintenance,
    /// The instance leaves service and runs on, so its pods may stay.
    Standby,
}

impl Action {
    /// The name as platforms and annotations spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminate => "terminate",
            Self::Stop => "stop",
            Self::Hibernate => "hibernate",
            Self::Reboot => "reboot",
            Self::Maintenance => "maintenance",
            Self::Standby => "standby",
        }
    }

    /// What EC2 will do, as the end of a sentence that names it.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Terminate => "terminate this instance",
            Self::Stop => "stop this instance",
            Self::Hibernate => "hibernate this instance",
            Self::Reboot => "reboot this instance",
            Self::Maintenance => "work on the host of this instance",
            Self::Standby => "take this instance out of service",
        }
    }

    /// Whether the node's pods have to leave, and have the time to.
    pub const fn clears_the_node(self) -> bool {
        !matches!(self, Self::Hibernate | Self::Standby)
    }
}

/// The instant after which the instance may lose power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// On the monotonic clock; the earliest instant compatible with what the platform said.
    pub instant: Instant,
    /// As the platform wrote it, UTC.
    pub wall: Timestamp,
}

/// One thing that a platform announces now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// What is announced.
    pub kind: Kind,
    /// Stable across reads and restarts of the agent; two reads of one announcement have the same id even if the
    /// announced time moves.
    pub id: String,
    /// What happens to the instance.
    pub action: Action,
    /// When, if the platform says so.
    pub deadline: Option<Deadline>,
    /// When the platform issued it, if it says so. It tells an old recommendation from a new one.
    pub issued: Option<Now>,
    /// What else people want to know, in one short line: the event's code and id, the lifecycle state.
    pub detail: Option<String>,
}

impl Signal {
    /// A signal of which no more is known.
    pub fn new(kind: Kind, id: impl Into<String>, action: Action) -> Self {
        Self { kind, id: id.into(), action, deadline: None, issued: None, detail: None }
    }
}

/// What a reading says of announcements that it does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Nothing: the platform does not withdraw such announcements, or the source is not sure yet that it did.
    Unknown,
    /// They are over: done, cancelled or withdrawn. The source has made sure.
    Over,
}

/// The present level of one kind: everything of that kind that is in force, possibly nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The kind that was looked at.
    pub kind: Kind,
    /// What is in force.
    pub signals: Vec<Signal>,
    /// What became of those that were in force before and are not listed.
    pub others: Others,
}

impl Observation {
    /// These are in force, and nothing is said of others.
    pub fn of(kind: Kind, signals: impl IntoIterator<Item = Signal>) -> Self {
        Self { kind, signals: signals.into_iter().collect(), others: Others::Unknown }
    }
}

/// Where signals come from. A polled endpoint and a hanging GET both fit: `next` takes as long as the source likes.
///
/// A source never ends and never fails: what it cannot read it counts, logs and reads again. It reports a level only when
/// it really read one; silence means "not known", never "nothing there".
pub trait SignalSource: Send {
    /// Waits for the next level that was really read.
    fn next(&mut self) -> impl Future<Output = Observation> + Send;
}
