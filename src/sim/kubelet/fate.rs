//! What became of each pod: the ground truth against which an agent's report is held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::sim::seen::Pod;

use crate::clock::Now;

/// One pod's life on the node.
#[derive(Clone, Debug, PartialEq)]
pub struct PodFate {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `spec.nodeName`.
    pub node: String,
    /// Kind of the controlling owner; `Node` for the mirror of a static pod.
    pub owner_kind: Option<String>,
    /// `spec.terminationGracePeriodSeconds`.
    pub own_grace: Duration,
    /// When its process ran.
    pub started: Option<Now>,
    /// When there was no address for it, the first time.
    pub no_address: Option<Now>,
    /// When it got SIGTERM.
    pub told_at: Option<Now>,
    /// The effective grace: the smallest that was asked for.
    pub grace_granted: Option<Duration>,
    /// When its process was gone, other than by the power.
    pub exited_at: Option<Now>,
    /// By SIGKILL at the end of its grace.
    pub killed: bool,
    /// When the API object was seen to be gone.
    pub gone_at: Option<Now>,
    /// Still running when the power went.
    pub cut_off: bool,
}

impl PodFate {
    pub(super) fn of(pod: &Pod, own_grace: Duration) -> Self {
        let owners = pod.metadata.owner_references.iter().flatten();
        Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            owner_kind: owners.filter(|o| o.controller == Some(true)).map(|o| o.kind.clone()).next(),
            own_grace,
            started: None,
            no_address: None,
            told_at: None,
            grace_granted: None,
            exited_at: None,
            killed: false,
            gone_at: None,
            cut_off: false,
        }
    }

    /// Started and not ended in any way.
    pub fn running(&self) -> bool {
        self.started.is_some() && self.exited_at.is_none() && !self.cut_off
    }
}

/// The fates in order of first sight; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Fates(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    by_uid: BTreeMap<String, usize>,
    fates: Vec<PodFate>,
}

impl Fates {
    /// Adds a pod that was not seen before; one that comes up again after a reboot keeps its record.
    pub(super) fn add(&self, fate: PodFate) {
        let mut record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if record.by_uid.contains_key(&fate.uid) {
            return;
        }
        let index = record.fates.len();
        record.by_uid.insert(fate.uid.clone(), index);
        record.fates.push(fate);
    }

    pub(super) fn amend(&self, uid: &str, change: impl FnOnce(&mut PodFate)) {
        let mut record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = record.by_uid.get(uid).copied();
        if let Some(fate) = index.and_then(|index| record.fates.get_mut(index)) {
            change(fate);
        }
    }

    pub(super) fn all(&self) -> Vec<PodFate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fates.clone()
    }
}
