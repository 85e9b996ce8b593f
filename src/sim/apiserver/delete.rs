//! Graceful deletion.
//!
//! Invariant: a pod's deletion time only ever moves closer. A second delete is counted from the first one, not from now,
//! and one that would lie in the past collapses to now.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    object::{int, is_terminating, meta_str, normalise, parse_time, set_meta, stamp, text},
    resource::{NAMESPACES, PODS, RESOURCES, ResourceId, resource},
    routes::Query,
    status::ApiError,
    store::Store,
};

/// `meta/v1 DeleteOptions`, as far as it has an effect here.
#[derive(Clone, Debug, Default)]
pub(super) struct DeleteOptions {
    /// Seconds; `None` = the pod's own.
    pub(super) grace: Option<i64>,
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
    pub(super) dry_run: bool,
}

impl DeleteOptions {
    /// From a body (may be null) and the query. Unknown keys are ignored, as the real server does.
    pub(super) fn parse(body: &Value, query: &Query) -> Result<Self, ApiError> {
        let from_query = query.get("gracePeriodSeconds");
        let precondition = |field: &str| {
            let value = body.get("preconditions").and_then(|preconditions| preconditions.get(field));
            value.and_then(Value::as_str).map(str::to_owned)
        };
        let grace = match body.get("gracePeriodSeconds") {
            None | Some(Value::Null) if from_query.is_empty() => None,
            None | Some(Value::Null) => Some(from_query.parse().map_err(|_| {
                ApiError::bad_request(format!("strconv.ParseInt: parsing {from_query:?}: invalid syntax"))
            })?),
            Some(value) => Some(value.as_i64().ok_or_else(|| {
                ApiError::bad_request(
                    "json: cannot unmarshal into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
                )
            })?),
        };
        let dry_run = query.dry_run() || all(body.get("dryRun"));
        Ok(Self { grace, uid: precondition("uid"), resource_version: precondition("resourceVersion"), dry_run })
    }
}

/// True for `["All"]`.
pub(super) fn all(dry_run: Option<&Value>) -> bool {
    dry_run.and_then(Value::as_array).is_some_and(|stages| stages.iter().any(|stage| stage == "All"))
}

/// Deletes as a DELETE request does and returns the object's last or present state.
pub(super) fn delete(
    store: &mut Store,
    wall: Timestamp,
    id: ResourceId,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> Result<Value, ApiError> {
    let object = store.get(id, namespace, name).ok_or_else(|| ApiError::not_found(resource(id), name))?;
    let object = Value::clone(object);
    check_preconditions(id, name, &object, options)?;
    match id {
        PODS => delete_pod(store, wall, object, options),
        NAMESPACES => Ok(delete_namespace(store, wall, object, options)),
        _ if options.dry_run => Ok(object),
        _ => store.remove(id, namespace, name).ok_or_else(|| ApiError::not_found(resource(id), name)),
    }
}

pub(super) fn check_preconditions(
    id: ResourceId,
    name: &str,
    object: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let uid = meta_str(object, "uid");
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been \
             deleted and then recreated"
        );
        return Err(ApiError::precondition(resource(id), name, &why));
    }
    let revision = meta_str(object, "resourceVersion");
    if let Some(wanted) = options.resource_version.as_deref().filter(|wanted| *wanted != revision) {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({revision}). \
             The object might have been modified"
        );
        return Err(ApiError::precondition(resource(id), name, &why));
    }
    Ok(())
}

fn delete_pod(store: &mut Store, wall: Timestamp, mut pod: Value, options: &DeleteOptions) -> Result<Value, ApiError> {
    let Some((at, grace)) = deletion(wall, &pod, options.grace) else { return Ok(pod) };
    let first = !is_terminating(&pod);
    set_meta(&mut pod, "deletionTimestamp", json!(stamp(at)));
    set_meta(&mut pod, "deletionGracePeriodSeconds", json!(grace));
    if first {
        let generation = int(&pod, "/metadata/generation").unwrap_or(0);
        set_meta(&mut pod, "generation", json!(generation + 1));
    }
    if options.dry_run {
        return Ok(pod);
    }
    let (namespace, name) = (meta_str(&pod, "namespace").to_owned(), meta_str(&pod, "name").to_owned());
    // The marking is a write of its own also when the object goes at once: a watch sees MODIFIED, then DELETED.
    let marked = Value::clone(&store.put(PODS, pod));
    if grace > 0 {
        return Ok(marked);
    }
    store.remove(PODS, &namespace, &name).ok_or_else(|| ApiError::not_found(resource(PODS), &name))
}

/// When the pod has to be gone and the grace that goes with it; `None` = nothing changes.
fn deletion(wall: Timestamp, pod: &Value, asked: Option<i64>) -> Option<(Timestamp, i64)> {
    // Negative means "at once, but properly".
    let asked = asked.map(|grace| if grace < 0 { 1 } else { grace });
    if let Some(present) = parse_time(meta_str(pod, "deletionTimestamp")) {
        let granted = int(pod, "/metadata/deletionGracePeriodSeconds").unwrap_or(0);
        if granted == 0 {
            return Some((present, 0));
        }
        let grace = asked.filter(|grace| *grace < granted)?;
        let rebased = add(add(present, -granted), grace);
        return Some(if rebased < wall { (wall, grace.min(1)) } else { (rebased, grace) });
    }
    let own = int(pod, "/spec/terminationGracePeriodSeconds").unwrap_or(0);
    let unscheduled = text(pod, "/spec/nodeName").is_empty();
    let finished = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    let grace = if unscheduled || finished { 0 } else { asked.unwrap_or(own).max(0) };
    Some((add(wall, grace), grace))
}

fn add(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(time)
}

/// A namespace stays, terminating, until [`finish_namespaces`] finds it empty. Its content is deleted as the namespace
/// controller does: pods with their own grace, the rest at once.
fn delete_namespace(store: &mut Store, wall: Timestamp, mut namespace: Value, options: &DeleteOptions) -> Value {
    if is_terminating(&namespace) || options.dry_run {
        return namespace;
    }
    set_meta(&mut namespace, "deletionTimestamp", json!(stamp(wall)));
    super::object::set(&mut namespace, "status", "phase", json!("Terminating"));
    normalise(NAMESPACES, resource(NAMESPACES), &mut namespace);
    let name = meta_str(&namespace, "name").to_owned();
    let marked = Value::clone(&store.put(NAMESPACES, namespace));
    for id in (0..RESOURCES.len()).filter(|id| resource(*id).namespaced) {
        let names: Vec<String> =
            store.list(id, Some(&name)).map(|object| meta_str(object, "name").to_owned()).collect();
        for object in names {
            // Each was just listed under the same lock; there is nothing to refuse.
            let _ = delete(store, wall, id, &name, &object, &DeleteOptions::default());
        }
    }
    marked
}

/// Removes terminating namespaces that have become empty.
pub(super) fn finish_namespaces(store: &mut Store) {
    let terminating: Vec<String> = store
        .list(NAMESPACES, None)
        .filter(|namespace| is_terminating(namespace))
        .map(|namespace| meta_str(namespace, "name").to_owned())
        .collect();
    for name in terminating {
        let mut namespaced = (0..RESOURCES.len()).filter(|id| resource(*id).namespaced);
        if namespaced.all(|id| store.list(id, Some(&name)).next().is_none()) {
            store.remove(NAMESPACES, "", &name);
        }
    }
}
