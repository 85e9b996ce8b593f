//! What must be true when a scenario is over.
//!
//! Most of it needs no words in a file: a notice is counted once, nobody is cut off by the power, each Event is published
//! once, nothing of somebody else's is touched. A file names what is particular to it, or what is meant to go wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use super::parse;
use crate::drain::outcome::Outcome;

/// Expectations; what is absent has the default that its comment names.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Every pod that is drained is gone before the announced time. Default: true if the node is to be drained,
    /// otherwise not judged.
    pub deadline_met: Option<bool>,
    /// Pods whose processes were still running when the power went. Default: 0 if the node is to be drained, otherwise
    /// not judged.
    pub cut_off: Option<u32>,
    /// Number of pods by outcome; outcomes that are not named must not occur. Default: not judged.
    pub outcomes: Option<BTreeMap<Outcome, u32>>,
    /// Least grace, in seconds, that any pod of a group was granted. Default: not judged.
    pub min_granted: BTreeMap<String, u32>,
    /// Seconds between the last pod's end and the announced time. Default: not judged.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub min_slack: Option<Duration>,
    /// Seconds by which the agent's own slack may differ from the true one. Default: 2 (times are whole seconds on both
    /// sides, and the agent learns of a pod's end a moment later than the kubelet).
    #[serde(deserialize_with = "parse::some_seconds")]
    pub slack_error: Option<Duration>,
    /// Requests of the agent to the API server. Default: not judged.
    pub max_api_calls: Option<u32>,
    /// Requests of the agent that change something, accepted or not. Default: 0 for a dry run, otherwise not judged.
    pub mutating_requests: Option<u32>,
    /// How often an Event with this reason is published. Default: every reason at most once.
    pub events: BTreeMap<String, u32>,
    /// The fence is on the node in the end. Default: true if there is a notice and it is not a dry run.
    pub fenced: Option<bool>,
    /// Seconds from the notice being told by IMDS to the fence being acknowledged. Default: two polls if there is a
    /// notice and it is not a dry run.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub fenced_within: Option<Duration>,
    /// Parts of the fence that are missing in the end (`taint`, `cordon`, `label`, `annotation`). Default: none.
    pub fence_without: Vec<super::FencePart>,
    /// Added to what is expected of times, for runs in real time on a machine that has other things to do. Not for files.
    #[serde(skip)]
    pub patience: Duration,
    /// Notices that the agent counted, over all its lives. Default: 1 if there is a notice, else 0.
    pub notices: Option<u32>,
}
