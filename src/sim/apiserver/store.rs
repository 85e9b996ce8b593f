//! The objects, one global revision, and the history that watches read.
//!
//! Invariant: every change passes through [`Store::put`] or [`Store::remove`], which stamp the next revision and append
//! to the history; an object whose content does not change gets neither.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    object::{meta_str, set_meta},
    resource::{BUDGETS, PODS, ResourceId, resource},
};

/// Events kept for watches that fall behind; beyond it they have to list again. Holds a day of a small simulated cluster.
const HISTORY_LIMIT: usize = 20_000;

/// One change, as a watch needs it: with the state before, so that selector transitions can be told.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) resource: ResourceId,
    pub(super) before: Option<Arc<Value>>,
    /// `None` = deleted.
    pub(super) after: Option<Arc<Value>>,
}

type Key = (ResourceId, String, String);

/// All state of the server.
#[derive(Debug)]
pub(super) struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    revision: u64,
    /// Watches and continued lists that start before this revision are refused.
    compacted: u64,
    /// Changes up to this revision have left the history.
    floor: u64,
    serial: u64,
    budgets_touched: bool,
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            revision: 1,
            compacted: 0,
            floor: 0,
            serial: 0,
            budgets_touched: false,
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn compacted(&self) -> u64 {
        self.compacted
    }

    /// A watch that has not seen this revision has missed something.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Asks for the disruption controller to run.
    pub(super) fn touch_budgets(&mut self) {
        self.budgets_touched = true;
    }

    /// Whether anything a disruption budget depends on changed since the last call.
    pub(super) fn take_budgets_touched(&mut self) -> bool {
        std::mem::take(&mut self.budgets_touched)
    }

    /// Forgets everything before the present revision, for new watches.
    pub(super) fn compact(&mut self) {
        // A revision of its own makes "before" strict: what any client has seen so far is now too old.
        self.revision += 1;
        self.compacted = self.revision;
    }

    pub(super) fn get(&self, resource: ResourceId, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.objects.get(&(resource, namespace.to_owned(), name.to_owned()))
    }

    /// Objects of one kind, in namespace and name order.
    pub(super) fn list(&self, resource: ResourceId, namespace: Option<&str>) -> impl Iterator<Item = &Arc<Value>> {
        let first = namespace.unwrap_or_default().to_owned();
        self.objects
            .range((resource, first, String::new())..)
            .take_while(move |((id, ns, _), _)| *id == resource && namespace.is_none_or(|wanted| wanted == ns))
            .map(|(_, object)| object)
    }

    /// Writes `object` under its own namespace and name and returns it with its new revision.
    pub(super) fn put(&mut self, resource: ResourceId, mut object: Value) -> Arc<Value> {
        let key = key_of(resource, &object);
        let before = self.objects.get(&key).cloned();
        if let Some(before) = &before {
            set_meta(&mut object, "resourceVersion", json!(meta_str(before, "resourceVersion")));
            if **before == object {
                return Arc::clone(before);
            }
        }
        self.revision += 1;
        set_meta(&mut object, "resourceVersion", json!(self.revision.to_string()));
        let after = Arc::new(object);
        self.objects.insert(key, Arc::clone(&after));
        self.record(Change { revision: self.revision, resource, before, after: Some(Arc::clone(&after)) });
        after
    }

    /// Removes the object and returns its last state, stamped with the revision of the removal.
    pub(super) fn remove(&mut self, resource: ResourceId, namespace: &str, name: &str) -> Option<Value> {
        let before = self.objects.remove(&(resource, namespace.to_owned(), name.to_owned()))?;
        self.revision += 1;
        let mut last = Value::clone(&before);
        set_meta(&mut last, "resourceVersion", json!(self.revision.to_string()));
        let before = Some(Arc::new(last.clone()));
        self.record(Change { revision: self.revision, resource, before, after: None });
        Some(last)
    }

    /// The first change of `resource` after `revision`.
    pub(super) fn next_change(&self, resource: ResourceId, revision: u64) -> Option<&Change> {
        let start = self.history.partition_point(|change| change.revision <= revision);
        self.history.range(start..).find(|change| change.resource == resource)
    }

    /// A number no earlier call returned; the base of uids and generated names.
    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn record(&mut self, change: Change) {
        if self.history.len() == HISTORY_LIMIT
            && let Some(dropped) = self.history.pop_front()
        {
            self.floor = dropped.revision;
            self.compacted = self.compacted.max(dropped.revision);
        }
        self.budgets_touched |= change.resource == PODS || change.resource == BUDGETS || has_scale(change.resource);
        self.history.push_back(change);
    }
}

fn key_of(resource: ResourceId, object: &Value) -> Key {
    (resource, meta_str(object, "namespace").to_owned(), meta_str(object, "name").to_owned())
}

fn has_scale(id: ResourceId) -> bool {
    resource(id).group == "apps"
}
