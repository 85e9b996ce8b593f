//! Shapes in which a client may ask for an object: a table for people (`kubectl get`), and Events as `core/v1` has them.
//!
//! The store keeps one form of each object; a [`View`] turns it into what was asked for, in single answers and in watches.

mod table;

use http::{HeaderMap, header};
use serde_json::{Map, Value, json};

use super::{
    resource::is_core_event,
    routes::{Query, Target},
};

/// Fields of an Event that have one name in `core/v1` and another in `events.k8s.io/v1`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// What of each object goes with its row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowObject {
    None,
    Metadata,
    Object,
}

/// How the objects of one request are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    core_events: bool,
    table: Option<RowObject>,
}

impl View {
    /// What a request asks for.
    pub(super) fn of(target: &Target, headers: &HeaderMap, query: &Query) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let row = match query.get("includeObject") {
            "None" => RowObject::None,
            "Object" => RowObject::Object,
            _ => RowObject::Metadata,
        };
        let table = accept.split(',').next().is_some_and(|first| first.contains("as=Table"));
        Self { core_events: is_core_event(target.resource), table: table.then_some(row) }
    }

    /// An object, or a list of them, as the client wants it.
    pub(super) fn shown(self, target: &Target, mut answer: Value, now: jiff::Timestamp) -> Value {
        if self.core_events {
            match answer.get_mut("items").and_then(Value::as_array_mut) {
                Some(items) => items.iter_mut().for_each(|item| *item = core_event(item.take())),
                None => answer = core_event(answer),
            }
        }
        match self.table {
            Some(row) => table::of(target.id, &answer, row, now),
            None => answer,
        }
    }

    /// Objects are shown as the store keeps them.
    pub(super) fn is_plain(self) -> bool {
        self == Self { core_events: false, table: None }
    }

    /// The object as the store keeps it.
    pub(super) fn stored(self, object: Value) -> Value {
        if self.core_events { event_of_core(object) } else { object }
    }

    /// Whether writes other than a creation can be made in this form.
    pub(super) fn writable(self) -> bool {
        !self.core_events
    }
}

fn core_event(object: Value) -> Value {
    let mut event = renamed(object, |name| EVENT_FIELDS.iter().find(|(_, new)| *new == name).map(|(core, _)| *core));
    if let Some(fields) = event.as_object_mut()
        && fields.contains_key("apiVersion")
    {
        fields.insert("apiVersion".into(), json!("v1"));
    }
    event
}

fn event_of_core(object: Value) -> Value {
    let mut event = renamed(object, |name| EVENT_FIELDS.iter().find(|(core, _)| *core == name).map(|(_, new)| *new));
    if let Some(fields) = event.as_object_mut() {
        fields.insert("apiVersion".into(), json!("events.k8s.io/v1"));
    }
    event
}

/// The object with some of its top-level fields under other names.
fn renamed(object: Value, other: impl Fn(&str) -> Option<&'static str>) -> Value {
    match object {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (other(&name).map_or(name, str::to_owned), value));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        other => other,
    }
}
