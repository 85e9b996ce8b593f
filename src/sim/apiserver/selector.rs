//! Field and label selectors: the query strings of list and watch, and the selector object of a disruption budget.

use serde_json::Value;

use super::{
    resource::{EVENTS, NAMESPACES, NODES, PODS, ResourceId},
    status::ApiError,
};

/// What a list or watch lets through.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    fields: Vec<(String, bool, String)>,
    labels: Vec<Requirement>,
}

#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    Absent,
}

impl Selector {
    /// Parses both query parameters; empty means everything.
    pub(super) fn parse(resource: ResourceId, fields: &str, labels: &str) -> Result<Self, ApiError> {
        let mut out = Self::default();
        for term in fields.split(',').filter(|term| !term.is_empty()) {
            let (key, wanted, value) = field_term(term)?;
            if !supported(resource, key) {
                return Err(ApiError::bad_request(format!("field label not supported: {key}")));
            }
            out.fields.push((key.to_owned(), wanted, value.to_owned()));
        }
        for term in split_terms(labels) {
            out.labels.push(label_term(term)?);
        }
        Ok(out)
    }

    /// True if it lets everything through.
    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.labels.is_empty()
    }

    /// True if the object passes all terms.
    pub(super) fn matches(&self, object: &Value) -> bool {
        self.fields.iter().all(|(key, wanted, value)| (field(object, key) == *value) == *wanted)
            && self.labels.iter().all(|requirement| requirement.matches(labels_of(object)))
    }
}

impl Requirement {
    fn matches(&self, labels: Option<&Value>) -> bool {
        let value = labels.and_then(|labels| labels.get(&self.key)).and_then(Value::as_str);
        match self.operator {
            Operator::Exists => value.is_some(),
            Operator::Absent => value.is_none(),
            Operator::In => value.is_some_and(|value| self.values.iter().any(|wanted| wanted == value)),
            Operator::NotIn => value.is_none_or(|value| self.values.iter().all(|unwanted| unwanted != value)),
        }
    }
}

/// Whether a `LabelSelector` object selects `pod`. Absent selects nothing, empty selects everything; one that does not
/// parse selects nothing.
pub(super) fn label_selector_matches(selector: Option<&Value>, pod: &Value) -> bool {
    let Some(selector) = selector.filter(|selector| selector.is_object()) else { return false };
    let labels = labels_of(pod);
    let equal = selector.get("matchLabels").and_then(Value::as_object).is_none_or(|wanted| {
        wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    });
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    equal
        && expressions
            .into_iter()
            .flatten()
            .all(|expression| requirement(expression).is_some_and(|requirement| requirement.matches(labels)))
}

fn requirement(expression: &Value) -> Option<Requirement> {
    let operator = match expression.get("operator")?.as_str()? {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::Absent,
        _ => return None,
    };
    let values = expression.get("values").and_then(Value::as_array);
    let values = values.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    Some(Requirement { key: expression.get("key")?.as_str()?.to_owned(), operator, values })
}

fn labels_of(object: &Value) -> Option<&Value> {
    object.pointer("/metadata/labels")
}

fn field_term(term: &str) -> Result<(&str, bool, &str), ApiError> {
    if let Some((key, value)) = term.split_once("!=") {
        return Ok((key, false, value));
    }
    let split = term.split_once("==").or_else(|| term.split_once('='));
    let (key, value) = split
        .ok_or_else(|| ApiError::bad_request(format!("invalid field selector {term:?}; can't understand {term:?}")))?;
    Ok((key, true, value))
}

fn supported(resource: ResourceId, key: &str) -> bool {
    match key {
        "metadata.name" | "metadata.namespace" => true,
        "status.phase" => matches!(resource, PODS | NAMESPACES),
        "spec.nodeName" | "spec.restartPolicy" | "spec.schedulerName" | "status.podIP" => resource == PODS,
        "spec.unschedulable" => resource == NODES,
        _ => resource == EVENTS && event_field(key).is_some(),
    }
}

/// Where the core name of an event's field is found in an `events.k8s.io` object.
fn event_field(key: &str) -> Option<&str> {
    Some(match key {
        "involvedObject.kind" | "regarding.kind" => "/regarding/kind",
        "involvedObject.name" | "regarding.name" => "/regarding/name",
        "involvedObject.namespace" | "regarding.namespace" => "/regarding/namespace",
        "involvedObject.uid" | "regarding.uid" => "/regarding/uid",
        "reason" => "/reason",
        "type" => "/type",
        "reportingController" | "reportingComponent" | "source" => "/reportingController",
        _ => return None,
    })
}

fn field(object: &Value, key: &str) -> String {
    let pointer = event_field(key).map_or_else(|| format!("/{}", key.replace('.', "/")), str::to_owned);
    match object.pointer(&pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(flag)) => flag.to_string(),
        // An absent flag is false; an absent string is empty.
        _ if key == "spec.unschedulable" => "false".to_owned(),
        _ => String::new(),
    }
}

/// Splits at commas outside parentheses.
fn split_terms(labels: &str) -> Vec<&str> {
    let (mut terms, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, letter) in labels.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                terms.extend(labels.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.extend(labels.get(start..));
    terms.into_iter().map(str::trim).filter(|term| !term.is_empty()).collect()
}

fn label_term(term: &str) -> Result<Requirement, ApiError> {
    let make = |key: &str, operator, values: Vec<String>| Requirement { key: key.trim().to_owned(), operator, values };
    if let Some((head, list)) = term.split_once('(') {
        let values = list.trim_end().trim_end_matches(')').split(',').map(|value| value.trim().to_owned()).collect();
        let head = head.trim();
        if let Some(key) = head.strip_suffix(" notin") {
            return Ok(make(key, Operator::NotIn, values));
        }
        if let Some(key) = head.strip_suffix(" in") {
            return Ok(make(key, Operator::In, values));
        }
        return Err(ApiError::bad_request(format!("unable to parse requirement: {term}")));
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Ok(make(key, Operator::NotIn, vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(make(key, Operator::In, vec![value.trim().to_owned()]));
    }
    if let Some(key) = term.strip_prefix('!') {
        return Ok(make(key, Operator::Absent, Vec::new()));
    }
    Ok(make(term, Operator::Exists, Vec::new()))
}
