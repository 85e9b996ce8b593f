//! Reading and normalising objects kept as plain JSON.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::resource::{NODES, PODS, Resource, ResourceId};

/// A string of `metadata`, empty if absent.
pub(super) fn meta_str<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|meta| meta.get(field)).and_then(Value::as_str).unwrap_or_default()
}

/// Sets a field of `metadata`; null removes it.
pub(super) fn set_meta(object: &mut Value, field: &str, value: Value) {
    set(object, "metadata", field, value);
}

/// Sets `object.section.field`, creating the section; null removes the field.
pub(super) fn set(object: &mut Value, section: &str, field: &str, value: Value) {
    let Some(root) = object.as_object_mut() else { return };
    let section = root.entry(section).or_insert_with(|| json!({}));
    if !section.is_object() {
        *section = json!({});
    }
    if let Some(section) = section.as_object_mut() {
        if value.is_null() {
            section.remove(field);
        } else {
            section.insert(field.to_owned(), value);
        }
    }
}

/// A string at a JSON pointer, empty if absent.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// An integer at a JSON pointer.
pub(super) fn int(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

/// Kubernetes writes times with whole seconds, cut off, not rounded.
pub(super) fn stamp(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// True if the pod's `Ready` condition is `True`.
pub(super) fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True")
}

/// True if a delete has been accepted and the pod is stopping.
pub(super) fn is_terminating(object: &Value) -> bool {
    !meta_str(object, "deletionTimestamp").is_empty()
}

/// A version 4 uuid that depends on `serial` alone, so that a simulation repeats itself exactly.
pub(super) fn uid(serial: u64) -> String {
    let (high, low) = (mix(serial), mix(serial ^ 0x5851_f42d_4c95_7f2d));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | (low >> 48) & 0x3fff,
        low & 0xffff_ffff_ffff
    )
}

/// Five letters as `generateName` appends them.
pub(super) fn suffix(serial: u64) -> String {
    // Kubernetes' own alphabet: no vowels, so that no words appear.
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rest = mix(serial);
    (0..5)
        .map(|_| {
            let index = usize::try_from(rest % ALPHABET.len() as u64).unwrap_or_default();
            rest /= ALPHABET.len() as u64;
            ALPHABET.get(index).map_or('x', |&byte| char::from(byte))
        })
        .collect()
}

/// splitmix64: neighbouring serials give unrelated numbers.
fn mix(serial: u64) -> u64 {
    let mut z = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Brings an object to the form the real server would give back: what its types omit when empty is absent here too.
/// Guards on absence (`test` against null, `add` below a missing map) depend on it.
pub(super) fn normalise(id: ResourceId, resource: &Resource, object: &mut Value) {
    drop_nulls(object);
    if let Some(root) = object.as_object_mut() {
        root.insert("apiVersion".to_owned(), json!(resource.api_version()));
        root.insert("kind".to_owned(), json!(resource.kind));
    }
    for field in ["labels", "annotations", "finalizers", "ownerReferences", "managedFields"] {
        drop_if(object, "metadata", field, is_empty);
    }
    if id == NODES {
        drop_if(object, "spec", "taints", is_empty);
        drop_if(object, "spec", "unschedulable", |value| *value == json!(false));
        null_times(object, ["lastHeartbeatTime", "lastTransitionTime"]);
    }
    if id == PODS {
        drop_if(object, "spec", "hostNetwork", |value| *value == json!(false));
        drop_if(object, "status", "conditions", is_empty);
        null_times(object, ["lastProbeTime", "lastTransitionTime"]);
    }
}

/// Times of a condition are written as null by the type, not left out.
fn null_times(object: &mut Value, fields: [&str; 2]) {
    let conditions = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
        for field in fields {
            condition.entry(field).or_insert(Value::Null);
        }
    }
}

fn drop_if(object: &mut Value, section: &str, field: &str, when: impl Fn(&Value) -> bool) {
    if let Some(section) = object.get_mut(section).and_then(Value::as_object_mut)
        && section.get(field).is_some_and(when)
    {
        section.remove(field);
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, field| !field.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
