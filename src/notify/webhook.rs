//! Messages for a webhook of one's own: a JSON object with every fact, or a template filled with them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::facts::{Facts, MOST_NAMED, named};

/// The version of the default body; it changes when a field changes its meaning, not when one comes.
pub const VERSION: u32 = 1;

/// The default body.
pub fn payload(facts: &Facts) -> Value {
    let place = &facts.place;
    let blocked: Vec<Value> =
        facts.blocked.iter().take(MOST_NAMED).map(|one| json!({"pod": one.pod, "message": one.words})).collect();
    json!({
        "version": VERSION,
        "event": facts.event(),
        "headline": facts.headline,
        "node": place.node,
        "cluster": facts.cluster,
        "nodegroup": some(&place.nodegroup),
        "instance_id": some(&place.instance_id),
        "instance_type": some(&place.instance_type),
        "zone": some(&place.zone),
        "region": some(&place.region),
        "kind": facts.kind.map(crate::signal::Kind::as_str),
        "action": facts.action.map(crate::signal::Action::as_str),
        "detail": facts.detail,
        "started": facts.started.to_string(),
        "deadline": facts.deadline.map(|time| time.to_string()),
        "seconds_left": facts.seconds_left,
        "fence": facts.fence,
        "pods": facts.pods,
        "outcomes": facts.outcomes,
        "slack_seconds": facts.slack_seconds,
        "not_drained": facts.not_drained,
        "budgets": facts.budgets.iter().take(MOST_NAMED).collect::<Vec<_>>(),
        "blocked_pods": facts.blocked.len(),
        "blocked": blocked,
        "hurt": facts.hurt.iter().take(MOST_NAMED).collect::<Vec<_>>(),
        "over_because": facts.over_because,
        "restored": facts.restored,
        "suppressed": facts.suppressed,
        "repeated": facts.repeated,
        "link": facts.link,
        "trace_id": facts.trace_id,
    })
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// What a template may name.
pub const FIELDS: [&str; 28] = [
    "event",
    "headline",
    "summary",
    "node",
    "cluster",
    "nodegroup",
    "instance_id",
    "instance_type",
    "zone",
    "region",
    "kind",
    "action",
    "detail",
    "started",
    "deadline",
    "seconds_left",
    "fence",
    "pods",
    "outcomes",
    "slack_seconds",
    "not_drained",
    "budgets",
    "blocked_pods",
    "blocked",
    "hurt",
    "over_because",
    "link",
    "trace_id",
];

/// A field's value as text; empty if there is none.
fn value(facts: &Facts, field: &str) -> String {
    let place = &facts.place;
    let number = |value: Option<String>| value.unwrap_or_default();
    match field {
        "event" => facts.event().to_owned(),
        "headline" => facts.headline.clone(),
        "summary" => summary(facts),
        "node" => place.node.clone(),
        "cluster" => facts.cluster.clone().unwrap_or_default(),
        "nodegroup" => place.nodegroup.clone(),
        "instance_id" => place.instance_id.clone(),
        "instance_type" => place.instance_type.clone(),
        "zone" => place.zone.clone(),
        "region" => place.region.clone(),
        "kind" => facts.kind.map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        "action" => facts.action.map(|action| action.as_str().to_owned()).unwrap_or_default(),
        "detail" => facts.detail.clone().unwrap_or_default(),
        "started" => facts.started.to_string(),
        "deadline" => facts.deadline.map(|time| time.to_string()).unwrap_or_default(),
        "seconds_left" => number(facts.seconds_left.map(|left| left.to_string())),
        "fence" => facts.fence.clone().unwrap_or_default(),
        "pods" => number(facts.pods.map(|pods| pods.to_string())),
        "outcomes" => facts.outcome_words().unwrap_or_default(),
        "slack_seconds" => number(facts.slack_seconds.map(|slack| slack.to_string())),
        "not_drained" => facts.not_drained.clone().unwrap_or_default(),
        "budgets" => named(&facts.budgets),
        "blocked_pods" => facts.blocked.len().to_string(),
        "blocked" => named(&facts.blocked.iter().map(|one| format!("{}: {}", one.pod, one.words)).collect::<Vec<_>>()),
        "hurt" => named(&facts.hurt),
        "over_because" => facts.over_because.clone().unwrap_or_default(),
        "link" => facts.link.clone().unwrap_or_default(),
        "trace_id" => facts.trace_id.clone(),
        _ => String::new(),
    }
}

/// Fields that are numbers, and `null` in JSON while there is none.
const NUMBERS: [&str; 4] = ["seconds_left", "pods", "slack_seconds", "blocked_pods"];

/// The headline and what else a person wants to know, a line each.
pub fn summary(facts: &Facts) -> String {
    let mut text = facts.headline.clone();
    let place = [&facts.place.instance_id, &facts.place.instance_type, &facts.place.zone];
    let place: Vec<&str> = place.into_iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
    let lines = [
        ("Instance", (!place.is_empty()).then(|| place.join(", "))),
        ("Pods", facts.pod_words()),
        ("Budgets in the way", facts.budget_words()),
        ("Not with all of their grace", (!facts.hurt.is_empty()).then(|| named(&facts.hurt))),
    ];
    for (name, value) in lines {
        if let Some(value) = value {
            _ = write!(text, "\n{name}: {value}");
        }
    }
    for note in facts.notes() {
        _ = write!(text, "\n{note}");
    }
    text
}

/// What the values of a template stand in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// JSON: inside of strings, numbers also outside of them.
    Json,
    /// Plain text.
    Text,
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A field is not known.
    #[error("line {line} names {{{{{field}}}}}, which is not known; known are {}", FIELDS.join(", "))]
    Unknown {
        /// Where.
        line: usize,
        /// Which.
        field: String,
    },
    /// A field is not ended.
    #[error("line {line} opens {{{{ and does not close it on the same line")]
    Open {
        /// Where.
        line: usize,
    },
    /// What comes out is not JSON.
    #[error("what comes out is not JSON: {why}; put text fields into quotes, or set --webhook-content-type text/plain")]
    NotJson {
        /// The parser's words.
        why: String,
    },
    /// Nothing would be sent.
    #[error("it is empty; write what is to be sent, with fields such as {{{{node}}}}")]
    Empty,
}

/// Text with fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    escape: Escape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(&'static str),
}

impl Template {
    /// Reads a template. What it makes is tried out on a message that has everything and on one that has nothing, so that a
    /// template that was accepted makes JSON of every message if it is to.
    pub fn parse(text: &str, escape: Escape) -> Result<Self, TemplateError> {
        if text.trim().is_empty() {
            return Err(TemplateError::Empty);
        }
        let (mut parts, mut rest, mut line) = (Vec::new(), text, 1);
        while let Some((before, after)) = rest.split_once("{{") {
            line += before.matches('\n').count();
            let end = after.split('\n').next().and_then(|same_line| same_line.find("}}"));
            let (name, behind) = end.and_then(|end| after.split_at_checked(end)).ok_or(TemplateError::Open { line })?;
            let unknown = || TemplateError::Unknown { line, field: name.trim().chars().take(60).collect() };
            let field = FIELDS.into_iter().find(|field| *field == name.trim()).ok_or_else(unknown)?;
            parts.extend([Part::Text(before.to_owned()), Part::Field(field)]);
            rest = behind.get(2..).unwrap_or_default();
        }
        parts.push(Part::Text(rest.to_owned()));
        let template = Self { parts, escape };
        if escape == Escape::Json {
            template.try_out()?;
        }
        Ok(template)
    }

    fn try_out(&self) -> Result<(), TemplateError> {
        // A field's text is escaped; what is tried is where it stands.
        for value in [None, Some("a\"b\\c\n{}")] {
            let text = self.fill(|field| match (NUMBERS.contains(&field), value) {
                (true, Some(_)) => "-1.5".to_owned(),
                (false, Some(text)) => text.to_owned(),
                (_, None) => String::new(),
            });
            let checked = serde_json::from_str::<Value>(&text);
            checked.map_err(|error| TemplateError::NotJson { why: error.to_string() })?;
        }
        Ok(())
    }

    /// The message.
    pub fn render(&self, facts: &Facts) -> String {
        self.fill(|field| value(facts, field))
    }

    fn fill(&self, value: impl Fn(&str) -> String) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match (part, self.escape) {
                (Part::Text(text), _) => out.push_str(text),
                (Part::Field(field), Escape::Text) => out.push_str(&value(field)),
                (Part::Field(field), Escape::Json) => {
                    let value = value(field);
                    if value.is_empty() && NUMBERS.contains(field) {
                        out.push_str("null");
                        continue;
                    }
                    let quoted = Value::String(value).to_string();
                    out.push_str(quoted.get(1..quoted.len() - 1).unwrap_or_default());
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;
