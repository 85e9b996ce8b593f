//! What each service documents about the bodies that it takes.

use jiff::Timestamp;
use serde_json::Value;

use super::SinkName;

/// What is wrong with a body; nothing if the service would take it and people could read it.
pub(super) fn complaints(sink: SinkName, body: &Value) -> Vec<String> {
    match sink {
        SinkName::Slack => slack(body),
        SinkName::Alertmanager => alertmanager(body),
        SinkName::Webhook if body.is_object() => Vec::new(),
        SinkName::Webhook => vec!["the body is no object".into()],
    }
}

/// <https://docs.slack.dev/reference/block-kit/blocks> and the page on escaping.
fn slack(body: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if body["text"].as_str().is_none_or(str::is_empty) {
        found.push("without `text` the notification is empty".to_owned());
    }
    let none = Vec::new();
    let blocks = body["blocks"].as_array().unwrap_or(&none);
    if blocks.len() > 50 {
        found.push(format!("{} blocks, 50 are possible", blocks.len()));
    }
    for block in blocks {
        match block["type"].as_str() {
            Some("header") => text(&mut found, &block["text"], "plain_text", 150),
            Some("section") => {
                let fields = block["fields"].as_array().unwrap_or(&none);
                if block["text"].is_null() && fields.is_empty() || fields.len() > 10 {
                    found.push(format!("a section has a text or 1 to 10 fields, not {}", fields.len()));
                }
                if !block["text"].is_null() {
                    text(&mut found, &block["text"], "mrkdwn", 3000);
                }
                for field in fields {
                    text(&mut found, field, "mrkdwn", 2000);
                }
            }
            Some("context") => {
                let elements = block["elements"].as_array().unwrap_or(&none);
                if elements.is_empty() || elements.len() > 10 {
                    found.push(format!("a context has 1 to 10 elements, not {}", elements.len()));
                }
                for element in elements {
                    text(&mut found, element, "mrkdwn", 3000);
                }
            }
            other => found.push(format!("a block of type {other:?}")),
        }
    }
    found
}

fn text(found: &mut Vec<String>, object: &Value, kind: &str, limit: usize) {
    let words = object["text"].as_str().unwrap_or_default();
    if object["type"] != kind || words.is_empty() || words.chars().count() > limit {
        found.push(format!("a text of {limit} characters at most and type {kind} is wanted: {object}"));
    }
}

/// `postableAlerts` of Alertmanager's api/v2/openapi.yaml.
fn alertmanager(body: &Value) -> Vec<String> {
    let Some(alerts) = body.as_array().filter(|alerts| !alerts.is_empty()) else {
        return vec!["the body is no list of alerts".into()];
    };
    let mut found = Vec::new();
    for alert in alerts {
        let labels = alert["labels"].as_object();
        if labels.is_none_or(|labels| labels.get("alertname").is_none()) {
            found.push("an alert without a name".to_owned());
        }
        let words = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        let annotations = alert["annotations"].as_object();
        if !labels.into_iter().chain(annotations).flatten().all(|(_, value)| words(value)) {
            found.push("a label or annotation that is no text, or an empty one".to_owned());
        }
        let time = |key: &str| alert[key].as_str().and_then(|text| text.parse::<Timestamp>().ok());
        match (time("startsAt"), time("endsAt")) {
            (Some(starts), Some(ends)) if starts <= ends => {}
            _ => found.push("an alert that ends before it starts, or at no time at all".to_owned()),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::no_text(json!({"blocks": []}), "without `text`")]
    #[case::long_header(json!({"text": "a", "blocks": [{"type": "header", "text": {"type": "plain_text", "text": "x".repeat(151)}}]}),
        "a text of 150 characters")]
    #[case::empty_section(json!({"text": "a", "blocks": [{"type": "section"}]}), "a section has a text or 1 to 10 fields")]
    #[case::unknown(json!({"text": "a", "blocks": [{"type": "markdown"}]}), "a block of type")]
    #[case::many(json!({"text": "a", "blocks": vec![json!({"type": "header", "text": {"type": "plain_text", "text": "x"}}); 51]}),
        "51 blocks")]
    fn slack_complains(#[case] body: Value, #[case] complaint: &str) {
        let found = complaints(SinkName::Slack, &body);
        assert!(found.iter().any(|found| found.starts_with(complaint)), "{found:?}");
    }

    #[rstest]
    #[case::object(json!({}), "the body is no list")]
    #[case::nameless(json!([{"labels": {"node": "n"}, "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2026-01-01T00:00:00Z"}]),
        "an alert without a name")]
    #[case::backwards(json!([{"labels": {"alertname": "n"}, "startsAt": "2026-01-01T00:00:01Z", "endsAt": "2026-01-01T00:00:00Z"}]),
        "an alert that ends before")]
    #[case::number(json!([{"labels": {"alertname": "n", "a": 1}, "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2026-01-01T00:00:00Z"}]),
        "a label or annotation that is no text")]
    fn alertmanager_complains(#[case] body: Value, #[case] complaint: &str) {
        let found = complaints(SinkName::Alertmanager, &body);
        assert!(found.iter().any(|found| found.starts_with(complaint)), "{found:?}");
    }
}
