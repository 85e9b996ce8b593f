//! `pods/eviction`: the server's own sequence of checks, in its order.
//!
//! Two parts of that order are traps for clients and are kept on purpose: a budget is spent before the UID is compared,
//! and options under a misspelt key are ignored without a word.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    budget,
    delete::{DeleteOptions, all, check_preconditions, delete},
    object::{int, is_ready, is_terminating, meta_str, set, stamp, text},
    resource::{BUDGETS, PODS, Resource},
    routes::{Query, Target},
    selector::label_selector_matches,
    status::{self, ApiError},
    store::Store,
    write::admit_namespace,
};

/// Beyond this many unconfirmed evictions the server refuses further ones.
const MAX_DISRUPTED_PODS: usize = 2000;
/// `Retry-After` while a budget's status lags behind.
const LAG_RETRY_SECONDS: u32 = 10;

/// Singular, as the server writes it in the two refusals that concern a broken budget status.
static BUDGET_SINGULAR: Resource = Resource {
    group: "policy",
    version: "v1",
    plural: "poddisruptionbudget",
    kind: "PodDisruptionBudget",
    short: &[],
    namespaced: true,
    has_status: true,
    keeps_status_on_create: false,
    has_generation: true,
    unconditional_update: false,
    returns_deleted: false,
};

/// POST `pods/{name}/eviction`.
pub(super) fn evict(
    store: &mut Store,
    wall: Timestamp,
    target: &Target,
    body: &Value,
    query: &Query,
) -> Result<Value, ApiError> {
    admit_namespace(store, target, &target.name)?;
    if meta_str(body, "name") != target.name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let options = delete_options(body, query)?;
    let pod = store.get(PODS, &target.namespace, &target.name);
    let pod = Value::clone(pod.ok_or_else(|| ApiError::not_found(target.resource, &target.name))?);
    if !ignores_budgets(&pod) {
        spend_budget(store, wall, &pod, options.dry_run)?;
    }
    mark_and_delete(store, wall, &pod, &options)?;
    Ok(status::created())
}

/// `deleteOptions` of the body; a dry run may be asked for in either place, but not differently in both.
fn delete_options(body: &Value, query: &Query) -> Result<DeleteOptions, ApiError> {
    let inner = body.get("deleteOptions").unwrap_or(&Value::Null);
    let stages = inner.get("dryRun").and_then(Value::as_array).is_some_and(|stages| !stages.is_empty());
    if stages && !query.get("dryRun").is_empty() && query.dry_run() != all(inner.get("dryRun")) {
        return Err(ApiError::bad_request("Non-matching dry-run options in request and content"));
    }
    DeleteOptions::parse(inner, query)
}

/// A pod that serves nobody any more, or does not yet, is no disruption.
fn ignores_budgets(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Pending" | "Succeeded" | "Failed") || is_terminating(pod)
}

/// Finds the pod's budget and takes one disruption from it.
fn spend_budget(store: &mut Store, wall: Timestamp, pod: &Value, dry_run: bool) -> Result<(), ApiError> {
    let matching: Vec<Value> = store
        .list(BUDGETS, Some(meta_str(pod, "namespace")))
        .filter(|pdb| label_selector_matches(pdb.pointer("/spec/selector"), pod))
        .map(|pdb| Value::clone(pdb))
        .collect();
    let pdb = match matching.as_slice() {
        [] => return Ok(()),
        [pdb] => pdb,
        _ => return Err(ApiError::several_budgets()),
    };
    if !is_ready(pod) && unready_may_go(pdb) {
        return Ok(());
    }
    check(pdb)?;
    if !dry_run {
        decrement(store, wall, pdb, meta_str(pod, "name"));
    }
    Ok(())
}

/// An unready pod does not count as healthy, so losing it costs nothing; the default policy still wants the application
/// to be whole.
fn unready_may_go(pdb: &Value) -> bool {
    let desired = status_count(pdb, "desiredHealthy");
    text(pdb, "/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow"
        || (status_count(pdb, "currentHealthy") >= desired && desired > 0)
}

fn check(pdb: &Value) -> Result<(), ApiError> {
    let name = meta_str(pdb, "name");
    let generation = int(pdb, "/metadata/generation").unwrap_or(0);
    if status_count(pdb, "observedGeneration") < generation {
        let cause = format!("The disruption budget {name} is still being processed by the server.");
        return Err(ApiError::budget(cause, LAG_RETRY_SECONDS));
    }
    let allowed = status_count(pdb, "disruptionsAllowed");
    if allowed < 0 {
        return Err(ApiError::forbidden(&BUDGET_SINGULAR, name, "pdb disruptions allowed is negative"));
    }
    if pdb
        .pointer("/status/disruptedPods")
        .and_then(Value::as_object)
        .is_some_and(|pods| pods.len() > MAX_DISRUPTED_PODS)
    {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(ApiError::forbidden(&BUDGET_SINGULAR, name, why));
    }
    if allowed == 0 {
        let (desired, current) = (status_count(pdb, "desiredHealthy"), status_count(pdb, "currentHealthy"));
        let cause = format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently");
        return Err(ApiError::budget(cause, 0));
    }
    Ok(())
}

fn decrement(store: &mut Store, wall: Timestamp, pdb: &Value, pod: &str) {
    let mut pdb = pdb.clone();
    let left = status_count(&pdb, "disruptionsAllowed") - 1;
    let mut disrupted = pdb.pointer("/status/disruptedPods").cloned().unwrap_or_else(|| json!({}));
    if let Some(disrupted) = disrupted.as_object_mut() {
        disrupted.insert(pod.to_owned(), json!(stamp(wall)));
    }
    set(&mut pdb, "status", "disruptionsAllowed", json!(left));
    set(&mut pdb, "status", "disruptedPods", disrupted);
    if left == 0 {
        budget::set_condition(&mut pdb, wall, false);
    }
    store.put(BUDGETS, pdb);
}

fn status_count(pdb: &Value, field: &str) -> i64 {
    int(pdb, &format!("/status/{field}")).unwrap_or(0)
}

/// Writes why the pod goes, then deletes it.
fn mark_and_delete(store: &mut Store, wall: Timestamp, pod: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
    let (namespace, name) = (meta_str(pod, "namespace"), meta_str(pod, "name"));
    let mut options = options.clone();
    if !options.dry_run {
        check_preconditions(PODS, name, pod, &options)?;
        store.put(PODS, with_disruption_target(pod, wall));
        // The precondition on the revision was about the pod before our own write.
        options.resource_version = None;
    }
    delete(store, wall, PODS, namespace, name, &options).map(|_| ())
}

fn with_disruption_target(pod: &Value, wall: Timestamp) -> Value {
    let mut conditions = pod.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let standing = conditions.iter().find(|condition| text(condition, "/type") == "DisruptionTarget");
    let since = standing
        .filter(|condition| text(condition, "/status") == "True")
        .and_then(|condition| condition.get("lastTransitionTime").cloned())
        .unwrap_or_else(|| json!(stamp(wall)));
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": since,
    });
    match conditions.iter_mut().find(|condition| text(condition, "/type") == "DisruptionTarget") {
        Some(standing) => *standing = condition,
        None => conditions.push(condition),
    }
    let mut pod = pod.clone();
    set(&mut pod, "status", "conditions", Value::Array(conditions));
    pod
}
