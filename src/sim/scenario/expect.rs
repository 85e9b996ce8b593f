//! What must be true when a scenario is over.
//!
//! Most of it needs no words in a file: a notice is counted once, nobody is cut off by the power, each Event is published
//! once, nothing of somebody else's is touched. A file names what is particular to it, or what is meant to go wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cni::{HeadroomExpect, HeadroomStory};
use super::event::FencePart;
use super::parse;
use super::sinks::SinkExpect;
use crate::drain::outcome::Outcome;
use crate::signal::Kind;
use crate::sim::sinks::SinkName;

/// Expectations; what is absent has the default that its comment names.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// The agent is to clear the node. Default: true if there is a notice other than of a hibernation, the response to it
    /// is a drain, and it is no dry run.
    pub drained: Option<bool>,
    /// Every pod that is drained is gone before the instance goes. Default: true if the node is to be drained,
    /// otherwise not judged.
    pub deadline_met: Option<bool>,
    /// Pods whose processes were still running when the power went. Default: 0 if the node is to be drained, otherwise
    /// not judged.
    pub cut_off: Option<u32>,
    /// Number of pods by outcome; outcomes that are not named must not occur. Default: not judged.
    pub outcomes: Option<BTreeMap<Outcome, u32>>,
    /// Least grace, in seconds, that any pod of a group was granted. Default: not judged.
    pub min_granted: BTreeMap<String, u32>,
    /// When all pods of a group are told to stop: not before and not after these seconds since the start of the world.
    /// Default: not judged.
    pub told: BTreeMap<String, Window>,
    /// Pod groups that the agent must leave alone, beside those that are never drained. Default: none.
    pub untouched: Vec<String>,
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
    /// Least values of the agent's metrics, by series: a name with the labels that matter. Default: not judged.
    pub metrics: BTreeMap<String, f64>,
    /// What the agent still says to be coming. Default: not judged, nothing if the node is to be restored.
    pub pending: Option<Vec<Kind>>,
    /// The fence is on the node in the end. Default: true if there is a notice, the response to it fences, it is no dry
    /// run, and nothing else is said of the node.
    pub fenced: Option<bool>,
    /// Parts of the fence that are missing in the end (`taint`, `cordon`, `label`, `annotation`). Default: none.
    pub fence_without: Vec<FencePart>,
    /// The effect of the agent's taint in the end: `NoSchedule`, `PreferNoSchedule` or `none`. Default: not judged.
    #[serde(deserialize_with = "parse::effect")]
    pub taint: Option<String>,
    /// The agent's taint for want of addresses is there in the end. Default: not judged.
    pub exhaustion_taint: Option<bool>,
    /// The node is cordoned in the end, by whomever. Default: not judged.
    pub cordoned: Option<bool>,
    /// The node is in the end what it would be without the agent: taints, labels and annotations byte for byte and in
    /// their order, and schedulable or not. Default: not judged.
    pub restored: Option<bool>,
    /// Seconds from the notice being told by IMDS to the fence being acknowledged. Default: two polls if there is a
    /// notice that is answered by a fence.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub fenced_within: Option<Duration>,
    /// The headroom of pod addresses over the whole world. Default: not judged.
    pub headroom: HeadroomStory,
    /// Added to what is expected of times, for runs in real time on a machine that has other things to do. Not for files.
    #[serde(skip)]
    pub patience: Duration,
    /// Notices that the agents counted together, by kind. Default: 1 spot interruption if there is a notice, one
    /// rebalance recommendation for each that is issued, one scheduled event for each id; others are not judged.
    pub notices: Option<BTreeMap<Kind, u32>>,
    /// What must have arrived at the sinks, by name. Default: that what arrives is well-formed.
    pub sinks: BTreeMap<SinkName, SinkExpect>,
}

impl Expect {
    /// What is expected of the node in the end.
    pub fn node(&self) -> NodeExpect {
        NodeExpect {
            fenced: self.fenced,
            fence_without: self.fence_without.clone(),
            taint: self.taint.clone(),
            exhaustion_taint: self.exhaustion_taint,
            cordoned: self.cordoned,
            restored: self.restored,
            pending: self.pending.clone().or_else(|| (self.restored == Some(true)).then(Vec::new)),
            headroom: None,
        }
    }
}

/// What must be true of the node at one moment; what is absent is not judged.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeExpect {
    /// The whole fence is there (true), or no part of it (false).
    pub fenced: Option<bool>,
    /// Parts of the fence that must be missing.
    pub fence_without: Vec<FencePart>,
    /// The effect of the agent's taint: `NoSchedule`, `PreferNoSchedule` or `none`.
    #[serde(deserialize_with = "parse::effect")]
    pub taint: Option<String>,
    /// The agent's taint for want of addresses is there.
    pub exhaustion_taint: Option<bool>,
    /// It is cordoned, by whomever.
    pub cordoned: Option<bool>,
    /// It is what it would be without the agent.
    pub restored: Option<bool>,
    /// What the agent says to be coming.
    pub pending: Option<Vec<Kind>>,
    /// The headroom of pod addresses.
    pub headroom: Option<Box<HeadroomExpect>>,
}

/// Two times since the start of the world, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "[f64; 2]")]
pub struct Window {
    /// Not before.
    pub from: Duration,
    /// Not after.
    pub to: Duration,
}
