//! What a drain needs to know of a pod, and which pods are left alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::wish::Wish;
use crate::imds::documents::network::Block;

/// Grace that Kubernetes gives a pod without `terminationGracePeriodSeconds` (API default: 30 s).
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// Reason of the condition `DisruptionTarget` when we are about to delete a pod past a refusal.
pub const FORCED_REASON: &str = "ForcedBySpotwarden";

/// Names one pod object; the UID tells it from a successor of the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodRef {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

impl std::fmt::Display for PodRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A stop that somebody asked for: `metadata.deletionTimestamp` and `.deletionGracePeriodSeconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// When the grace ends, by the API server's clock; whole seconds.
    pub at: Timestamp,
    /// The grace that was granted.
    pub grace: Duration,
}

/// One of the own node's pods as the watch showed it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Which pod.
    pub id: PodRef,
    /// Its own grace (`spec.terminationGracePeriodSeconds`).
    pub grace: Duration,
    /// Phase Succeeded or Failed: nothing runs any more.
    pub finished: bool,
    /// Controlled by a DaemonSet (`apps/v1` owner reference with `controller: true`).
    pub daemon_set: bool,
    /// A pod of a DaemonSet that asks to be evicted like others.
    pub daemon_set_eviction: bool,
    /// The API object of a static pod: annotation `kubernetes.io/config.mirror`, or owned by the Node.
    pub mirror: bool,
    /// `priorityClassName` is `system-cluster-critical` or `system-node-critical`.
    pub critical: bool,
    /// `spec.priority`; 0 if not told.
    pub priority: i32,
    /// Has a controlling owner, which puts it up again elsewhere.
    pub controlled: bool,
    /// What its annotations ask for.
    pub wish: Option<Wish>,
    /// Carries the condition `DisruptionTarget` that we set ahead of a forced deletion; an eviction would have replaced it.
    pub marked: bool,
    /// Set once a stop was asked for.
    pub deletion: Option<Deletion>,
    /// What the headroom of addresses needs to know; nothing to the drain.
    pub network: PodNetwork,
}

/// A pod as the node's network sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodNetwork {
    /// `spec.hostNetwork`: takes a place on the node and no address.
    pub host: bool,
    /// Has an address of its own (`status.podIP`).
    pub addressed: bool,
    /// Interfaces of its own that it asks for (security groups for pods): its address is none of the pool's.
    pub branches: i64,
    /// The subnet that they are in, once they are there.
    pub branch_subnet: Option<Block>,
    /// Settings of the VPC CNI, if this is its pod: values by name, `None` for one that is set from elsewhere.
    pub aws_node: Option<Arc<BTreeMap<String, Option<String>>>>,
}

/// Why a pod is not drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// A DaemonSet would put it back at once; log and metrics agents outlive the workloads they serve.
    DaemonSet,
    /// The kubelet runs it from a file; deleting the API object stops nothing.
    Mirror,
    /// Already ended.
    Finished,
}

impl PodView {
    /// Others depend on it, so it goes after them: a critical pod, or one of a DaemonSet.
    pub fn serves_others(&self) -> bool {
        self.critical || self.daemon_set
    }

    /// Whether a drain leaves this pod alone, and why.
    pub fn skip(&self) -> Option<Skip> {
        if self.mirror {
            Some(Skip::Mirror)
        } else if self.daemon_set && !self.daemon_set_eviction {
            Some(Skip::DaemonSet)
        } else if self.finished {
            Some(Skip::Finished)
        } else {
            None
        }
    }
}

#[cfg(test)]
impl PodView {
    /// An ordinary pod of a test: controlled, running, in the namespace `shop`.
    pub(crate) fn sample(name: &str, grace: Duration) -> Self {
        Self {
            id: PodRef { namespace: "shop".into(), name: name.into(), uid: format!("uid-{name}") },
            grace,
            finished: false,
            daemon_set: false,
            daemon_set_eviction: false,
            mirror: false,
            critical: false,
            priority: 0,
            controlled: true,
            wish: None,
            marked: false,
            deletion: None,
            network: PodNetwork::default(),
        }
    }
}
