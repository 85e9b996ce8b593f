//! The disruption controller: keeps the status of every PodDisruptionBudget in step with its pods.
//!
//! The real one is a separate process and lags by milliseconds to seconds; here it runs at the end of every request that
//! changed a pod, a budget or a workload, unless a test holds it back.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::{
    object::{int, is_ready, is_terminating, meta_str, parse_time, set, stamp, text},
    resource::{BUDGETS, PODS, by_kind},
    selector::label_selector_matches,
    store::Store,
};

/// An eviction that was granted but after which the pod was not deleted is forgotten after this long.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);

/// Recomputes every budget. Returns when a granted but unused eviction will have to be forgotten next.
pub(super) fn reconcile(store: &mut Store, wall: Timestamp) -> Option<Timestamp> {
    let budgets: Vec<Value> = store.list(BUDGETS, None).map(|pdb| Value::clone(pdb)).collect();
    budgets.into_iter().filter_map(|pdb| reconcile_one(store, wall, pdb)).min()
}

fn reconcile_one(store: &mut Store, wall: Timestamp, mut pdb: Value) -> Option<Timestamp> {
    let selector = pdb.pointer("/spec/selector").cloned();
    let pods: Vec<Value> = store
        .list(PODS, Some(meta_str(&pdb, "namespace")))
        .filter(|pod| label_selector_matches(selector.as_ref(), pod))
        .map(|pod| Value::clone(pod))
        .collect();
    let (expected, desired) = expectation(store, &pdb, &pods);
    let disrupted = standing_disruptions(&pdb, &pods, wall);
    let healthy = pods
        .iter()
        .filter(|pod| !is_terminating(pod) && is_ready(pod) && !disrupted.contains_key(meta_str(pod, "name")))
        .count();
    let healthy = i64::try_from(healthy).unwrap_or(i64::MAX);
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let recheck = disrupted.values().filter_map(expiry).min();

    let generation = int(&pdb, "/metadata/generation").unwrap_or(0);
    for (field, count) in [
        ("currentHealthy", healthy),
        ("desiredHealthy", desired),
        ("disruptionsAllowed", allowed),
        ("expectedPods", expected),
        ("observedGeneration", generation),
    ] {
        set(&mut pdb, "status", field, json!(count));
    }
    set(&mut pdb, "status", "disruptedPods", if disrupted.is_empty() { Value::Null } else { Value::Object(disrupted) });
    set_condition(&mut pdb, wall, allowed > 0);
    store.put(BUDGETS, pdb);
    recheck
}

/// `(expectedPods, desiredHealthy)`. Shares are rounded up.
fn expectation(store: &Store, pdb: &Value, pods: &[Value]) -> (i64, i64) {
    if let Some(unavailable) = pdb.pointer("/spec/maxUnavailable") {
        let expected = scale(store, pods);
        return (expected, (expected - scaled(unavailable, expected)).max(0));
    }
    match pdb.pointer("/spec/minAvailable") {
        Some(share @ Value::String(_)) => {
            let expected = scale(store, pods);
            (expected, scaled(share, expected))
        }
        Some(count) => (length(pods), count.as_i64().unwrap_or(0)),
        // The API's default for a budget that names neither.
        None => (length(pods), 1),
    }
}

fn length(pods: &[Value]) -> i64 {
    i64::try_from(pods.len()).unwrap_or(i64::MAX)
}

fn scaled(value: &Value, total: i64) -> i64 {
    match value {
        Value::String(share) => {
            let percent: i64 = share.trim_end_matches('%').parse().unwrap_or(0);
            (total * percent + 99).div_euclid(100)
        }
        count => count.as_i64().unwrap_or(0),
    }
}

/// How many pods their workloads want. A workload the server does not hold, or a pod without one, counts by its pods:
/// a scenario need not create ReplicaSets. (The real controller counts such pods as zero and reports an error.)
fn scale(store: &Store, pods: &[Value]) -> i64 {
    let mut seen = Vec::new();
    let mut total = 0;
    for pod in pods {
        match controller(store, pod) {
            Some((uid, replicas)) => {
                if !seen.contains(&uid) {
                    total += replicas;
                    seen.push(uid);
                }
            }
            None => total += 1,
        }
    }
    total
}

fn controller(store: &Store, pod: &Value) -> Option<(String, i64)> {
    let owners = pod.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner.get("controller") == Some(&json!(true)))?;
    let id = by_kind(text(owner, "/apiVersion"), text(owner, "/kind"))?;
    let workload = store.get(id, meta_str(pod, "namespace"), text(owner, "/name"))?;
    (meta_str(workload, "uid") == text(owner, "/uid")).then_some(())?;
    Some((text(owner, "/uid").to_owned(), int(workload, "/spec/replicas")?))
}

/// Granted evictions whose pod is still there, not yet deleted, and not overdue.
fn standing_disruptions(pdb: &Value, pods: &[Value], wall: Timestamp) -> Map<String, Value> {
    let disrupted = pdb.pointer("/status/disruptedPods").and_then(Value::as_object).cloned().unwrap_or_default();
    disrupted
        .into_iter()
        .filter(|(name, since)| {
            let waiting = pods.iter().any(|pod| meta_str(pod, "name") == name && !is_terminating(pod));
            waiting && expiry(since).is_some_and(|expiry| expiry > wall)
        })
        .collect()
}

fn expiry(since: &Value) -> Option<Timestamp> {
    parse_time(since.as_str()?)?.checked_add(DELETION_TIMEOUT).ok()
}

/// The `DisruptionAllowed` condition.
pub(super) fn set_condition(pdb: &mut Value, wall: Timestamp, allowed: bool) {
    let (state, reason) = if allowed { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let standing = pdb.pointer("/status/conditions/0");
    let since = standing
        .filter(|condition| text(condition, "/status") == state)
        .and_then(|condition| condition.get("lastTransitionTime").cloned())
        .unwrap_or_else(|| json!(stamp(wall)));
    let condition = json!({
        "type": "DisruptionAllowed", "status": state, "reason": reason, "message": "",
        "observedGeneration": int(pdb, "/metadata/generation").unwrap_or(0), "lastTransitionTime": since,
    });
    set(pdb, "status", "conditions", json!([condition]));
}
