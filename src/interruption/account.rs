//! The account of one interruption: what was announced, what was done about it, and what became of each pod.
//!
//! [`super::chronicle`] writes it while things happen. It is the one source of notifications, traces and reports, and its
//! JSON form is what the log keeps and `spotwarden report` reads, hence the version. Times are seconds after `started`,
//! measured on the monotonic clock, so that a step of the wall clock tears nothing apart.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::drain::outcome::Outcome;
use crate::signal::{Action, Kind};

/// The version that this agent writes and reads.
pub const VERSION: u32 = 1;

/// One interruption, from the first announcement until nothing is coming any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Format version.
    pub version: u32,
    /// Names the interruption in every agent that ever sees it: a W3C trace id, 32 hexadecimal digits.
    pub trace_id: String,
    /// The own Node.
    pub node: String,
    /// When the first announcement was first seen, by the node's clock. Everything else is in seconds after it.
    pub started: Timestamp,
    /// Nothing was really done.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
    /// When a restarted agent took it up; what the agent before it did is known in part only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<f64>,
    /// How long the kubelet lets processes run after the instance is told to stop, in seconds.
    #[serde(default)]
    pub shutdown_tail: f64,
    /// What was announced, in the order in which it was seen.
    pub announcements: Vec<Announced>,
    /// The fence, once it was acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// The drain, once it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainPart>,
    /// Why the node was not drained although the response is to do so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_drained: Option<String>,
    /// Pods that a rehearsal found blocked while there was time, with the server's words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreseen: Vec<Foreseen>,
    /// What became of each pod, those that were left alone included, in the order in which they were first heard of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<PodPart>,
    /// When the last announcement was over, and the node still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<f64>,
    /// When the marks were gone again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<f64>,
}

/// One announcement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Announced {
    /// Its kind.
    pub kind: Kind,
    /// Its identity.
    pub id: String,
    /// What happens to the instance.
    pub action: Action,
    /// When it was seen.
    pub at: f64,
    /// When the platform acts, if known; where it moved the time, the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<f64>,
    /// The same by the platform's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_time: Option<Timestamp>,
    /// The signal's own words, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When it was over, and how that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Over>,
}

/// An announcement's end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Over {
    /// When.
    pub at: f64,
    /// How it is known.
    pub because: String,
}

/// The fence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fence {
    /// When the API server acknowledged it.
    pub at: f64,
    /// Seconds from the notice that asked for it; a little more than `at` if that was read before the own Node was.
    pub took: f64,
    /// Parts that the API server refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

/// The drain as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrainPart {
    /// When it began.
    pub at: f64,
    /// Pods that were to be evicted.
    pub pods: usize,
    /// Pods left alone.
    pub skipped: usize,
    /// Its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Finish>,
}

/// The end of a drain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finish {
    /// When the last pod was gone, or the deadline had come.
    pub at: f64,
    /// Seconds from the first eviction.
    pub took: f64,
    /// Seconds left until the power goes; negative when too late, absent without a deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<f64>,
    /// Pods by outcome.
    pub outcomes: Outcomes,
}

/// Numbers of pods by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Gone in time with all their grace.
    pub graceful: u32,
    /// Gone in time with less than their grace.
    pub shortened: u32,
    /// Deleted past a refusal.
    pub forced: u32,
    /// Still running at the deadline.
    pub unfinished: u32,
    /// Left alone.
    pub skipped: u32,
}

/// A pod whose eviction would be refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreseen {
    /// `namespace/name`.
    pub pod: String,
    /// The server's words.
    pub message: String,
}

/// What became of one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodPart {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When its stop was first asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<f64>,
    /// When its eviction was first refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<f64>,
    /// The server's words for the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<String>,
    /// When its stop was accepted; the kubelet sends SIGTERM (after a `preStop` hook) from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<f64>,
    /// Its own grace, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<f64>,
    /// The grace that it got, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<f64>,
    /// When its drain ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<f64>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Its stop was a deletion past a refusal, whatever came of it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forced: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Account {
    /// What is still coming, in the order in which it was seen.
    pub fn pending(&self) -> impl Iterator<Item = &Announced> {
        self.announcements.iter().filter(|one| one.over.is_none())
    }

    /// The earliest deadline of what is or was coming: of the pending announcements or, without any, of all.
    pub fn deadline(&self) -> Option<f64> {
        let earliest =
            |all: &mut dyn Iterator<Item = &Announced>| all.filter_map(|one| one.deadline).min_by(f64::total_cmp);
        earliest(&mut self.pending()).or_else(|| earliest(&mut self.announcements.iter()))
    }

    /// The wall time at an offset of this account.
    pub fn time(&self, offset: f64) -> Timestamp {
        let offset = jiff::SignedDuration::try_from_secs_f64(offset).unwrap_or_default();
        self.started.checked_add(offset).unwrap_or(self.started)
    }
}

impl PodPart {
    /// A pod of which nothing is known yet.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            asked: None,
            blocked: None,
            blocked_by: None,
            told: None,
            wanted: None,
            granted: None,
            ended: None,
            outcome: None,
            forced: false,
        }
    }

    /// It was to go: it is not one that was left alone.
    pub fn was_to_go(&self) -> bool {
        self.outcome != Some(Outcome::Skipped) || self.asked.is_some() || self.blocked.is_some()
    }

    /// Seconds from the first refusal to the stop, or to the end of the drain if it was never accepted.
    pub fn blocked_seconds(&self) -> Option<f64> {
        Some((self.told.or(self.ended)? - self.blocked?).max(0.0))
    }
}

impl Outcomes {
    /// Counts one more.
    pub fn add(&mut self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Graceful => &mut self.graceful,
            Outcome::Shortened => &mut self.shortened,
            Outcome::Forced => &mut self.forced,
            Outcome::Unfinished => &mut self.unfinished,
            Outcome::Skipped => &mut self.skipped,
        };
        *count += 1;
    }
}

/// Why a text holds no account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// Not the JSON that any version writes.
    #[error("it cannot be read: {0}")]
    Malformed(String),
    /// Written by another version.
    #[error(
        "it has version {0} and this program reads version {VERSION}; use a spotwarden of the version that wrote it"
    )]
    OtherVersion(u64),
}

impl Account {
    /// Reads one from its JSON form.
    pub fn from_value(value: serde_json::Value) -> Result<Self, AccountError> {
        let version = value.get("version").and_then(serde_json::Value::as_u64);
        match version {
            Some(version) if version != u64::from(VERSION) => Err(AccountError::OtherVersion(version)),
            _ => serde_json::from_value(value).map_err(|error| AccountError::Malformed(error.to_string())),
        }
    }
}

impl From<[u32; 5]> for Outcomes {
    /// From the order of [`Outcome::ALL`].
    fn from([graceful, shortened, forced, unfinished, skipped]: [u32; 5]) -> Self {
        Self { graceful, shortened, forced, unfinished, skipped }
    }
}

#[cfg(test)]
impl Account {
    /// A notice of two minutes, and nothing done about it yet.
    pub(crate) fn sample() -> Self {
        let started: Timestamp = "2026-03-31T16:32:24Z".parse().unwrap_or_default();
        let mut account = Self {
            version: VERSION,
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            node: "ip-10-0-0-1".to_owned(),
            started,
            dry_run: false,
            resumed: None,
            shutdown_tail: 0.0,
            announcements: Vec::new(),
            fence: None,
            drain: None,
            not_drained: None,
            foreseen: Vec::new(),
            pods: Vec::new(),
            over: None,
            restored: None,
        };
        account.announcements.push(Announced {
            kind: Kind::SpotInterruption,
            id: "spot-interruption/terminate".to_owned(),
            action: Action::Terminate,
            at: 0.0,
            deadline: Some(120.0),
            deadline_time: Some(account.time(120.0)),
            detail: None,
            over: None,
        });
        account
    }

    /// The same, drained: a pod of each outcome but `unfinished`, and one that was left alone.
    pub(crate) fn drained() -> Self {
        let pod = |name: &str, outcome, told, ended, wanted, granted| PodPart {
            asked: Some(0.1),
            told: Some(told),
            wanted: Some(wanted),
            granted: Some(granted),
            ended: Some(ended),
            outcome: Some(outcome),
            ..PodPart::new("shop", name)
        };
        let outcomes = Outcomes { graceful: 1, shortened: 1, forced: 1, unfinished: 0, skipped: 1 };
        Self {
            fence: Some(Fence { at: 0.04, took: 0.04, refused: vec!["load balancer label".to_owned()] }),
            drain: Some(DrainPart {
                at: 0.1,
                pods: 3,
                skipped: 1,
                finished: Some(Finish { at: 117.2, took: 117.1, slack: Some(2.8), outcomes }),
            }),
            pods: vec![
                PodPart { ended: Some(0.1), outcome: Some(Outcome::Skipped), ..PodPart::new("kube-system", "logs") },
                pod("web", Outcome::Graceful, 0.2, 2.5, 30.0, 30.0),
                pod("db", Outcome::Shortened, 0.2, 117.2, 300.0, 116.0),
                PodPart {
                    blocked: Some(0.2),
                    blocked_by: Some("Cannot evict pod as it would violate the pod's disruption budget.".to_owned()),
                    forced: true,
                    ..pod("queue", Outcome::Forced, 87.0, 92.5, 30.0, 30.0)
                },
            ],
            ..Self::sample()
        }
    }
}
