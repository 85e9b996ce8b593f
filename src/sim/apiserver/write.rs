//! Create, replace and patch.
//!
//! Invariant: `metadata` that belongs to the server survives every write, and each of `spec` and `status` changes only
//! through its own URL.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    defaults,
    object::{is_terminating, meta_str, normalise, set, set_meta, stamp, text},
    patch,
    resource::{NAMESPACES, NODES, PODS, ResourceId, resource},
    routes::Target,
    status::{self, ApiError},
    store::Store,
};

/// Fields of `metadata` that only the server writes.
const SERVER_OWNED: [&str; 5] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

/// Creates an object in the collection `target`.
pub(super) fn create(
    store: &mut Store,
    wall: Timestamp,
    target: &Target,
    mut object: Value,
    dry_run: bool,
) -> Result<Value, ApiError> {
    let resource = target.resource;
    check_kind(target, &object)?;
    if resource.namespaced {
        let own = meta_str(&object, "namespace");
        if !own.is_empty() && own != target.namespace {
            let message = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(ApiError::bad_request(message));
        }
        set_meta(&mut object, "namespace", json!(target.namespace));
        admit_namespace(store, target, meta_str(&object, "name"))?;
    } else {
        set_meta(&mut object, "namespace", Value::Null);
    }
    defaults::stamp_new(store, resource, wall, &mut object);
    let name = meta_str(&object, "name").to_owned();
    if name.is_empty() {
        return Err(ApiError::invalid(
            resource,
            "",
            "metadata.name",
            "Required value: name or generateName is required",
        ));
    }
    if store.get(target.id, &target.namespace, &name).is_some() {
        return Err(ApiError::already_exists(resource, &name));
    }
    defaults::fill(target.id, resource, &mut object);
    validate(target.id, &name, &object)?;
    normalise(target.id, resource, &mut object);
    if dry_run { Ok(object) } else { Ok(Value::clone(&store.put(target.id, object))) }
}

/// Nothing is created in a namespace that is absent or going away.
pub(super) fn admit_namespace(store: &Store, target: &Target, name: &str) -> Result<(), ApiError> {
    let namespace = store
        .get(NAMESPACES, "", &target.namespace)
        .ok_or_else(|| ApiError::not_found(resource(NAMESPACES), &target.namespace))?;
    if is_terminating(namespace) {
        return Err(ApiError::namespace_terminating(target.resource, name, &target.namespace));
    }
    Ok(())
}

/// PUT.
pub(super) fn replace(store: &mut Store, target: &Target, object: Value, dry_run: bool) -> Result<Value, ApiError> {
    check_kind(target, &object)?;
    let existing = existing(store, target)?;
    let own = meta_str(&object, "name");
    if own != target.name {
        let message = format!("the name of the object ({own}) does not match the name on the URL ({})", target.name);
        return Err(ApiError::bad_request(message));
    }
    if meta_str(&object, "resourceVersion").is_empty() && !target.resource.unconditional_update {
        let why = "Invalid value: 0: must be specified for an update";
        return Err(ApiError::invalid(target.resource, &target.name, "metadata.resourceVersion", why));
    }
    update(store, target, &existing, object, dry_run)
}

/// PATCH of any type.
pub(super) fn patch(
    store: &mut Store,
    target: &Target,
    content_type: &str,
    body: &[u8],
    dry_run: bool,
) -> Result<Value, ApiError> {
    let existing = existing(store, target)?;
    let patched = patch::apply(target.id, content_type, &existing, body)?;
    update(store, target, &existing, patched, dry_run)
}

/// POST `pods/{name}/binding`: what the scheduler does.
pub(super) fn bind(store: &mut Store, wall: Timestamp, target: &Target, binding: &Value) -> Result<Value, ApiError> {
    let mut pod = existing(store, target)?;
    let bound = text(&pod, "/spec/nodeName");
    if !bound.is_empty() {
        let why = format!("pod {} is already assigned to node {bound:?}", target.name);
        return Err(ApiError::conflict(target.resource, &target.name, &why));
    }
    set(&mut pod, "spec", "nodeName", json!(text(binding, "/target/name")));
    let mut conditions = pod.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    conditions.retain(|condition| text(condition, "/type") != "PodScheduled");
    conditions.push(json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": stamp(wall),
    }));
    set(&mut pod, "status", "conditions", Value::Array(conditions));
    store.put(target.id, pod);
    Ok(status::created())
}

fn existing(store: &Store, target: &Target) -> Result<Value, ApiError> {
    let found = store.get(target.id, &target.namespace, &target.name);
    found.map(|object| Value::clone(object)).ok_or_else(|| ApiError::not_found(target.resource, &target.name))
}

fn update(
    store: &mut Store,
    target: &Target,
    existing: &Value,
    mut object: Value,
    dry_run: bool,
) -> Result<Value, ApiError> {
    check_preconditions(target, existing, &object)?;
    set_meta(&mut object, "name", json!(target.name));
    set_meta(&mut object, "namespace", existing.pointer("/metadata/namespace").cloned().unwrap_or(Value::Null));
    for field in SERVER_OWNED {
        let value = existing.pointer(&format!("/metadata/{field}")).cloned().unwrap_or(Value::Null);
        set_meta(&mut object, field, value);
    }
    keep_other_half(target, existing, &mut object);
    validate(target.id, &target.name, &object)?;
    normalise(target.id, target.resource, &mut object);
    if target.resource.has_generation && object.get("spec") != existing.get("spec") {
        let generation = existing.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
        set_meta(&mut object, "generation", json!(generation + 1));
    }
    if dry_run {
        set_meta(&mut object, "resourceVersion", json!(meta_str(existing, "resourceVersion")));
        return Ok(object);
    }
    Ok(Value::clone(&store.put(target.id, object)))
}

fn check_preconditions(target: &Target, existing: &Value, object: &Value) -> Result<(), ApiError> {
    let uid = meta_str(object, "uid");
    if !uid.is_empty() && uid != meta_str(existing, "uid") {
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: \
             UID in precondition: {uid}, UID in object meta: {}",
            storage_key(target),
            meta_str(existing, "uid")
        );
        return Err(ApiError::conflict(target.resource, &target.name, &why));
    }
    let revision = meta_str(object, "resourceVersion");
    if !revision.is_empty() && revision != meta_str(existing, "resourceVersion") {
        return Err(ApiError::stale(target.resource, &target.name));
    }
    Ok(())
}

/// Where the real server keeps the object; shows in one message. Nodes have kept their first name there.
fn storage_key(target: &Target) -> String {
    let folder = if target.id == NODES { "minions" } else { target.resource.plural };
    let parts = ["/registry", folder, &target.namespace, &target.name];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

/// A write to the object leaves `status` alone; a write to `status` leaves everything else but labels and annotations.
fn keep_other_half(target: &Target, existing: &Value, object: &mut Value) {
    if !target.resource.has_status {
        return;
    }
    let Some(map) = object.as_object_mut() else { return };
    if target.subresource.is_empty() {
        restore(map, existing, "status");
        return;
    }
    let status = map.remove("status");
    let metadata = map.remove("metadata");
    *map = existing.as_object().cloned().unwrap_or_default();
    map.extend(status.map(|status| ("status".to_owned(), status)));
    map.extend(metadata.map(|metadata| ("metadata".to_owned(), metadata)));
    if target.id == PODS {
        let owners = existing.pointer("/metadata/ownerReferences").cloned().unwrap_or(Value::Null);
        set_meta(object, "ownerReferences", owners);
    }
}

fn restore(map: &mut serde_json::Map<String, Value>, existing: &Value, field: &str) {
    match existing.get(field) {
        Some(value) => map.insert(field.to_owned(), value.clone()),
        None => map.remove(field),
    };
}

/// `apiVersion` and `kind` may be left out, but not be another's.
fn check_kind(target: &Target, object: &Value) -> Result<(), ApiError> {
    if !object.is_object() {
        return Err(ApiError::bad_request("the object provided is unrecognized (must be of type JSON object)"));
    }
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or(target.resource.kind);
    let api_version = object.get("apiVersion").and_then(Value::as_str);
    if kind != target.resource.kind || api_version.is_some_and(|version| version != target.resource.api_version()) {
        let message = format!(
            "{kind} in version {:?} cannot be handled as a {}: converting to {}",
            api_version.unwrap_or_default(),
            target.resource.kind,
            target.resource.qualified()
        );
        return Err(ApiError::bad_request(message));
    }
    Ok(())
}

/// The one validation that concurrent writers of a node meet.
fn validate(id: ResourceId, name: &str, object: &Value) -> Result<(), ApiError> {
    if id != NODES {
        return Ok(());
    }
    let taints = object.pointer("/spec/taints").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let identity = |taint: &Value| (taint.get("key").cloned(), taint.get("effect").cloned());
    for (at, taint) in taints.iter().enumerate() {
        if taints.iter().take(at).any(|earlier| identity(earlier) == identity(taint)) {
            return Err(ApiError::duplicate_taint(resource(NODES), name, at, taint));
        }
    }
    Ok(())
}
