//! The three patch types as the server applies them to the object it has now.

use serde_json::{Map, Value};

use super::{
    resource::{BUDGETS, NODES, PODS, ResourceId},
    status::ApiError,
};

/// Listed when a request names none of them.
const ACCEPTED: &str =
    "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json";

/// Applies `body` to `object`.
pub(super) fn apply(id: ResourceId, content_type: &str, object: &Value, body: &[u8]) -> Result<Value, ApiError> {
    let mut patched = object.clone();
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/json-patch+json" => json_patch(&mut patched, &parse(body)?)?,
        "application/merge-patch+json" => json_patch::merge(&mut patched, &object_only(parse(body)?)?),
        "application/strategic-merge-patch+json" => strategic(id, "", &mut patched, &object_only(parse(body)?)?),
        _ => return Err(ApiError::unsupported_media_type(ACCEPTED)),
    }
    Ok(patched)
}

fn parse(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))
}

fn object_only(patch: Value) -> Result<Value, ApiError> {
    if patch.is_object() { Ok(patch) } else { Err(ApiError::bad_request("error decoding patch: not an object")) }
}

/// RFC 6902, operation by operation, because the server deviates from it in two points: `test` of an absent field against
/// null (or against no value) passes, and `replace` of an absent field adds it, so it guards nothing.
fn json_patch(object: &mut Value, patch: &Value) -> Result<(), ApiError> {
    let operations =
        patch.as_array().ok_or_else(|| ApiError::bad_request("error decoding patch: not a list of operations"))?;
    for operation in operations {
        if tests_absence(operation) {
            absent(object, operation)?;
            continue;
        }
        let operation: json_patch::PatchOperation = serde_json::from_value(tolerant(object, operation))
            .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
        json_patch::patch(object, &[operation]).map_err(|_| ApiError::unprocessable_patch())?;
    }
    Ok(())
}

/// `replace` of what is absent becomes `add`.
fn tolerant(object: &Value, operation: &Value) -> Value {
    let path = operation.get("path").and_then(Value::as_str).unwrap_or_default();
    let parent = path.rsplit_once('/').and_then(|(parent, _)| object.pointer(parent));
    let is_replace = operation.get("op").and_then(Value::as_str) == Some("replace");
    let mut operation = operation.clone();
    if is_replace
        && object.pointer(path).is_none()
        && parent.is_some_and(Value::is_object)
        && let Some(map) = operation.as_object_mut()
    {
        map.insert("op".to_owned(), Value::from("add"));
    }
    operation
}

fn tests_absence(operation: &Value) -> bool {
    operation.get("op").and_then(Value::as_str) == Some("test") && operation.get("value").is_none_or(Value::is_null)
}

/// The field must be missing or null; its parent must be there.
fn absent(object: &Value, operation: &Value) -> Result<(), ApiError> {
    let path = operation.get("path").and_then(Value::as_str).unwrap_or_default();
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let missing = object.pointer(path).is_none_or(Value::is_null);
    if missing && object.pointer(parent).is_some() { Ok(()) } else { Err(ApiError::unprocessable_patch()) }
}

/// Strategic merge: maps merge, null removes, lists merge by key where the type says so and are replaced elsewhere.
/// `place` is the field's place in the type, dotted, without list positions.
fn strategic(id: ResourceId, place: &str, target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if patch.get("$patch").and_then(Value::as_str) == Some("replace") {
        *target = Value::Object(without_directives(patch));
        return;
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if key.starts_with('$') {
            directive(key, value, target);
            continue;
        }
        let inner = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
        match value {
            Value::Null => {
                target.remove(key);
            }
            Value::Object(_) => strategic(id, &inner, target.entry(key.clone()).or_insert(Value::Null), value),
            Value::Array(items) => merge_list(id, &inner, target, key, items),
            _ => {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}

fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    patch.iter().filter(|(key, _)| !key.starts_with('$')).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// `$deleteFromPrimitiveList/field` and `$retainKeys`; the order directives change nothing that is compared here.
fn directive(key: &str, value: &Value, target: &mut Map<String, Value>) {
    if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/")
        && let Some(list) = target.get_mut(field).and_then(Value::as_array_mut)
    {
        list.retain(|item| !value.as_array().is_some_and(|unwanted| unwanted.contains(item)));
    }
    if let (true, Some(keys)) = (key == "$retainKeys", value.as_array()) {
        target.retain(|field, _| keys.iter().any(|kept| kept.as_str() == Some(field)));
    }
}

fn merge_list(id: ResourceId, place: &str, target: &mut Map<String, Value>, key: &str, items: &[Value]) {
    let replaced = items.iter().any(|item| item.get("$patch").and_then(Value::as_str) == Some("replace"));
    let present = target.entry(key.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
    let Some(present) = present.as_array_mut() else { return };
    match list_kind(id, place) {
        ListKind::ByKey(merge_key) if !replaced => {
            // The real server puts what is new before what was there.
            let mut added = Vec::new();
            for item in items {
                added.extend(merge_item(id, place, merge_key, present, item));
            }
            present.splice(0..0, added);
        }
        ListKind::Set if !replaced => {
            for item in items {
                if !present.contains(item) {
                    present.push(item.clone());
                }
            }
        }
        _ => *present = items.iter().filter(|item| item.get("$patch").is_none()).cloned().collect(),
    }
}

/// Merges `item` into the element with its key, or returns it as a new one.
fn merge_item(id: ResourceId, place: &str, merge_key: &str, present: &mut Vec<Value>, item: &Value) -> Option<Value> {
    let same = |other: &Value| other.get(merge_key).is_some() && other.get(merge_key) == item.get(merge_key);
    if item.get("$patch").and_then(Value::as_str) == Some("delete") {
        present.retain(|other| !same(other));
        return None;
    }
    match present.iter_mut().find(|other| same(other)) {
        Some(existing) => strategic(id, place, existing, item),
        None => return Some(item.clone()),
    }
    None
}

enum ListKind {
    Atomic,
    /// Elements are values; the lists are united.
    Set,
    /// Elements are objects, told apart by this field.
    ByKey(&'static str),
}

/// The merge strategies of the core types, as far as clients of this server write them. `spec.taints` is missing on
/// purpose: its type is atomic, which is what loses other writers' taints.
fn list_kind(id: ResourceId, place: &str) -> ListKind {
    let key = match (id, place) {
        (_, "metadata.finalizers") => return ListKind::Set,
        (_, "metadata.ownerReferences") => "uid",
        (NODES, "status.conditions" | "status.addresses") | (PODS | BUDGETS, "status.conditions") => "type",
        (
            PODS,
            "spec.containers"
            | "spec.initContainers"
            | "spec.volumes"
            | "spec.imagePullSecrets"
            | "spec.containers.env"
            | "spec.initContainers.env",
        ) => "name",
        (PODS, "spec.containers.volumeMounts" | "spec.initContainers.volumeMounts") => "mountPath",
        (PODS, "spec.containers.ports" | "spec.initContainers.ports") => "containerPort",
        (PODS, "spec.topologySpreadConstraints") => "topologyKey",
        (PODS, "status.podIPs" | "spec.hostAliases") => "ip",
        _ => return ListKind::Atomic,
    };
    ListKind::ByKey(key)
}
