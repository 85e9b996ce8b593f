//! `meta.k8s.io/v1 Table`: what `kubectl get` prints, worked out on the server's side as a real one does.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::RowObject;
use crate::sim::apiserver::{
    object::{int, is_terminating, meta_str, parse_time, text},
    resource::{BUDGETS, EVENTS, NAMESPACES, NODES, PODS, ResourceId},
};

/// A column: its title, whether only `-o wide` shows it, and its cell for one object.
type Column = (&'static str, bool, fn(&Value, Timestamp) -> Value);

const NAME: Column = ("Name", false, |object, _| json!(meta_str(object, "name")));
const AGE: Column = ("Age", false, |object, now| json!(since(meta_str(object, "creationTimestamp"), now)));

const NODE: [Column; 8] = [
    NAME,
    ("Status", false, |node, _| json!(node_status(node))),
    ("Roles", false, |_, _| json!("<none>")),
    AGE,
    ("Version", false, |node, _| json!(text(node, "/status/nodeInfo/kubeletVersion"))),
    ("Internal-IP", true, |node, _| json!(internal_ip(node))),
    ("OS-Image", true, |node, _| json!(text(node, "/status/nodeInfo/osImage"))),
    ("Container-Runtime", true, |node, _| json!(text(node, "/status/nodeInfo/containerRuntimeVersion"))),
];
const POD: [Column; 7] = [
    NAME,
    ("Ready", false, |pod, _| json!(containers_ready(pod))),
    ("Status", false, |pod, _| json!(pod_status(pod))),
    ("Restarts", false, |pod, _| json!(restarts(pod))),
    AGE,
    ("IP", true, |pod, _| json!(or_none(text(pod, "/status/podIP")))),
    ("Node", true, |pod, _| json!(or_none(text(pod, "/spec/nodeName")))),
];
const NAMESPACE: [Column; 3] = [NAME, ("Status", false, |namespace, _| json!(text(namespace, "/status/phase"))), AGE];
const BUDGET: [Column; 5] = [
    NAME,
    ("Min Available", false, |budget, _| json!(limit(budget, "/spec/minAvailable"))),
    ("Max Unavailable", false, |budget, _| json!(limit(budget, "/spec/maxUnavailable"))),
    ("Allowed Disruptions", false, |budget, _| json!(int(budget, "/status/disruptionsAllowed").unwrap_or(0))),
    AGE,
];
const EVENT: [Column; 6] = [
    ("Last Seen", false, |event, now| json!(since(last_seen(event), now))),
    ("Type", false, |event, _| json!(text(event, "/type"))),
    ("Reason", false, |event, _| json!(text(event, "/reason"))),
    ("Object", false, |event, _| json!(event_object(event))),
    ("Message", false, |event, _| json!(either(event, "/message", "/note"))),
    ("Name", true, |event, _| json!(meta_str(event, "name"))),
];
const OTHER: [Column; 2] = [NAME, AGE];

const fn columns(id: ResourceId) -> &'static [Column] {
    match id {
        NODES => &NODE,
        PODS => &POD,
        NAMESPACES => &NAMESPACE,
        BUDGETS => &BUDGET,
        EVENTS => &EVENT,
        _ => &OTHER,
    }
}

/// A table of an object or of the items of a list.
pub(super) fn of(id: ResourceId, answer: &Value, row: RowObject, now: Timestamp) -> Value {
    let columns = columns(id);
    let items = answer.get("items").and_then(Value::as_array);
    let rows: Vec<Value> = match items {
        Some(items) => items.iter().map(|item| row_of(columns, item, row, now)).collect(),
        None => vec![row_of(columns, answer, row, now)],
    };
    let metadata = match items {
        Some(_) => answer.get("metadata").cloned().unwrap_or_default(),
        None => json!({"resourceVersion": meta_str(answer, "resourceVersion")}),
    };
    let definitions = columns.iter().map(|(name, wide, _)| {
        let format = if *name == "Name" { "name" } else { "" };
        json!({"name": name, "type": "string", "format": format, "description": "", "priority": u8::from(*wide)})
    });
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": definitions.collect::<Vec<_>>(), "rows": rows,
    })
}

fn row_of(columns: &[Column], object: &Value, row: RowObject, now: Timestamp) -> Value {
    let cells: Vec<Value> = columns.iter().map(|(_, _, cell)| cell(object, now)).collect();
    let object = match row {
        RowObject::None => Value::Null,
        RowObject::Object => object.clone(),
        RowObject::Metadata => json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object.get("metadata"),
        }),
    };
    json!({"cells": cells, "object": object})
}

fn node_status(node: &Value) -> String {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|condition| text(condition, "/type") == "Ready");
    let mut status = match ready.map(|condition| text(condition, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node.pointer("/spec/unschedulable").and_then(Value::as_bool).unwrap_or(false) {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn internal_ip(node: &Value) -> &str {
    let addresses = node.pointer("/status/addresses").and_then(Value::as_array);
    let internal = addresses.into_iter().flatten().find(|address| text(address, "/type") == "InternalIP");
    internal.map_or("<none>", |address| text(address, "/address"))
}

fn container_statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    pod.pointer("/status/containerStatuses").and_then(Value::as_array).into_iter().flatten()
}

fn containers_ready(pod: &Value) -> String {
    let all = pod.pointer("/spec/containers").and_then(Value::as_array).map_or(0, Vec::len);
    let is_ready = |status: &&Value| status.get("ready").and_then(Value::as_bool).unwrap_or(false);
    format!("{}/{all}", container_statuses(pod).filter(is_ready).count())
}

fn restarts(pod: &Value) -> i64 {
    container_statuses(pod).filter_map(|status| int(status, "/restartCount")).sum()
}

fn pod_status(pod: &Value) -> &str {
    match (is_terminating(pod), text(pod, "/status/phase")) {
        (true, _) => "Terminating",
        (false, "Succeeded") => "Completed",
        (false, "Failed") => "Error",
        (false, phase) => phase,
    }
}

fn limit(budget: &Value, pointer: &str) -> String {
    match budget.pointer(pointer) {
        None | Some(Value::Null) => "N/A".into(),
        Some(Value::String(percent)) => percent.clone(),
        Some(number) => number.to_string(),
    }
}

/// The first of two texts that is there.
fn either<'a>(object: &'a Value, first: &str, second: &str) -> &'a str {
    Some(text(object, first)).filter(|text| !text.is_empty()).unwrap_or_else(|| text(object, second))
}

fn last_seen(event: &Value) -> &str {
    let observed = text(event, "/series/lastObservedTime");
    let last = either(event, "/lastTimestamp", "/deprecatedLastTimestamp");
    let event_time = either(event, "/eventTime", "/metadata/creationTimestamp");
    [observed, last, event_time].into_iter().find(|time| !time.is_empty()).unwrap_or_default()
}

fn event_object(event: &Value) -> String {
    let kind = either(event, "/involvedObject/kind", "/regarding/kind").to_lowercase();
    format!("{kind}/{}", either(event, "/involvedObject/name", "/regarding/name"))
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

fn since(time: &str, now: Timestamp) -> String {
    parse_time(time).map_or("<unknown>".into(), |time| age(now.as_second().saturating_sub(time.as_second()).max(0)))
}

/// Seconds as Kubernetes shortens them: two units while they matter.
fn age(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, unit: char, small: i64, small_unit: char| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{small_unit}"),
    };
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, "0s")]
    #[case(119, "119s")]
    #[case(120, "2m")]
    #[case(125, "2m5s")]
    #[case(660, "11m")]
    #[case(10_860, "3h1m")]
    #[case(90_000, "25h")]
    #[case(180_000, "2d2h")]
    #[case(864_000, "10d")]
    fn ages_are_short(#[case] seconds: i64, #[case] wanted: &str) {
        assert_eq!(age(seconds), wanted);
    }
}
