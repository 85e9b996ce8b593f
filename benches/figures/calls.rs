//! What one agent asked of the API server, from the audit log.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::controlplane::AuditEntry;

/// The claim of a pod's token that names its node.
const NODE_CLAIM: &str = "authentication.kubernetes.io/node-name";

/// The requests of the agent on one node, each as often as the log has it: a watch twice.
pub(crate) struct Calls(Vec<AuditEntry>);

impl Calls {
    /// Those of the agent on `node` among all of `log`.
    pub(crate) fn of(log: &[AuditEntry], node: &str) -> Self {
        let own =
            |entry: &&AuditEntry| entry.extra.get(NODE_CLAIM).is_some_and(|names| names.iter().any(|n| n == node));
        Self(log.iter().filter(own).cloned().collect())
    }

    /// Requests that came in from `from` to `to`, each once.
    pub(crate) fn between(&self, from: Timestamp, to: Timestamp) -> Vec<&AuditEntry> {
        let once = |entry: &AuditEntry| entry.verb != "watch" || entry.stage == "ResponseStarted";
        self.0.iter().filter(|entry| once(entry) && entry.received >= from && entry.received <= to).collect()
    }

    /// Watches that have begun and not ended.
    pub(crate) fn open_watches(&self) -> usize {
        let at = |stage: &str| self.0.iter().filter(|entry| entry.verb == "watch" && entry.stage == stage).count();
        at("ResponseStarted").saturating_sub(at("ResponseComplete"))
    }

    /// From `notice` to the moment at which the API server had acknowledged the first patch of the node.
    pub(crate) fn fence_after(&self, notice: Timestamp) -> Option<Duration> {
        let fences = self.0.iter().filter(|entry| {
            entry.verb == "patch" && entry.resource == "nodes" && entry.code == 200 && entry.received >= notice
        });
        fences.map(|entry| since(notice, entry.at)).min()
    }

    /// From `notice` to the arrival of each pod's first eviction, by namespace and name of the pod.
    pub(crate) fn first_evictions_after(&self, notice: Timestamp) -> BTreeMap<(String, String), Duration> {
        let mut first = BTreeMap::new();
        for entry in self.0.iter().filter(|entry| entry.subresource == "eviction" && entry.received >= notice) {
            let took = since(notice, entry.received);
            let known = first.entry((entry.namespace.clone(), entry.name.clone())).or_insert(took);
            *known = took.min(*known);
        }
        first
    }
}

/// `create pods/eviction 58, patch nodes 1`, the most frequent first.
pub(crate) fn summary(calls: &[&AuditEntry]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for call in calls {
        let parts = [call.resource.as_str(), call.subresource.as_str()];
        let what = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        *counts.entry(format!("{} {what}", call.verb)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.into_iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
}

/// The API server and this program share the machine's clock.
fn since(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).try_into().unwrap_or_default()
}
