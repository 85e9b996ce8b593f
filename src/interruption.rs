//! What is coming, by when, and what to do about it: pure decisions, no sockets, no clocks.
//!
//! [`machine::Machine`] owns the whole state of the agent. The agent feeds it [`Input`]s with the time at which they
//! arrived and carries out the [`Effect`]s that come back; nothing else decides anything. Inputs are levels (what the
//! metadata service says, what the node and its pods look like), so that a repeated, lost or reordered one does no harm
//! and a restarted agent needs no special path.

pub mod account;
pub mod announcement;
pub mod chronicle;
mod early;
pub mod fence;
pub mod fencing;
mod ledger;
pub mod machine;
pub mod marks;
mod notes;
pub mod preflight;
pub mod record;
pub mod state;

use std::time::Duration;

use crate::cni::subnet::Refused;
use crate::drain::eviction::EvictionAnswer;
use crate::drain::pod::{PodRef, PodView};
use crate::k8s::node::NodeView;
use crate::signal::Observation;

/// Something that the machine gets to know.
#[derive(Clone, Debug)]
pub enum Input {
    /// A signal source read the present level of one kind.
    Observed(Observation),
    /// The own Node as the watch shows it.
    Node(NodeView),
    /// All of the node's pods, after a (re-)list.
    Pods(Vec<PodView>),
    /// One pod appeared or changed.
    Pod(PodView),
    /// One pod object is gone.
    PodGone(PodRef),
    /// The answer to [`Effect::PatchNode`].
    NodePatched(PatchAnswer),
    /// The answer to [`Effect::Evict`].
    Evicted(PodRef, EvictionAnswer),
    /// The answer to [`Effect::Delete`].
    Deleted(PodRef, EvictionAnswer),
    /// The answer to [`Effect::Probe`].
    Probed(PodRef, EvictionAnswer),
    /// Which subnets of the node refused addresses lately, if any: a drain that can wait does so.
    Addresses(Option<Refused>),
    /// The time named by `next_timeout` has come.
    Timeout,
}

/// Something that the agent has to do. Every field is plain data; the order of effects is the order of sending.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// PATCH the own Node with these JSON Patch operations (RFC 6902). Answered by [`Input::NodePatched`].
    PatchNode {
        /// The operations, `test` guards included.
        ops: serde_json::Value,
        /// How long the call may take.
        timeout: Duration,
    },
    /// POST an eviction. Answered by [`Input::Evicted`].
    Evict(Stop),
    /// DELETE a pod past its budget, or to shorten a stop that ends too late. Answered by [`Input::Deleted`].
    Delete(Stop),
    /// POST an eviction with `dryRun=All`: would it be refused? Answered by [`Input::Probed`].
    Probe(PodRef),
    /// PATCH `pods/status` with the condition `DisruptionTarget`, so that a Job does not count a failure. No answer.
    MarkDisruption(PodRef),
    /// Publish a Kubernetes Event on the Node. No answer.
    Publish(NodeEvent),
    /// Count, log and trace. No answer.
    Record(record::Record),
}

/// Asks for the stop of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Which pod; its UID goes along as a precondition.
    pub pod: PodRef,
    /// Grace in whole seconds, at least 1 (0 would drop the API object while the process may still run).
    pub grace_seconds: u32,
    /// How long the call may take.
    pub timeout: Duration,
}

/// A Kubernetes Event on the own Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEvent {
    /// Makes the Event's name: the same key is published at most once per Node, restarts included.
    pub key: String,
    /// One of the reasons that DESIGN lists.
    pub reason: &'static str,
    /// For people.
    pub note: String,
    /// `Warning` instead of `Normal`.
    pub warning: bool,
}

/// What became of a patch of the own Node.
#[derive(Clone, Debug, PartialEq)]
pub enum PatchAnswer {
    /// Applied; the Node as it is now.
    Applied(NodeView),
    /// Not applied: a guard failed, or an admission policy or the authorizer refused. The Node as it is now tells which.
    Refused {
        /// HTTP status.
        status: u16,
        /// The server's words.
        message: String,
        /// The Node, read again after the refusal.
        fresh: Option<NodeView>,
    },
    /// Whether it was applied is not known: time-out, 5xx, broken connection.
    Failed(String),
    /// `--dry-run`: nothing was sent.
    DryRun,
}
