//! Alerts for Alertmanager's API, version 2: `POST /api/v2/alerts`.
//!
//! The alert of an interruption has the name and exactly the labels that the shipped rules give theirs. Alertmanager knows
//! an alert by its labels, so that of a node which both report there is one, and what groups, inhibits and silences the one
//! does so with the other. Everything else is in annotations. A storm of 200 nodes is one message wherever alerts are
//! grouped by name and cluster.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::facts::Facts;
use super::turn::Turn;
use crate::interruption::account::Account;
use crate::signal::Kind;

/// Below the base URL.
pub const PATH: &str = "/api/v2/alerts";
/// An alert that nobody ends is over so long after the node's end, as `keep_firing_for` has it in the rules: longer than
/// the quarter of an hour after which others complain of the node's absence, so that it can still mute them.
pub const EXPIRY: Duration = Duration::from_mins(20);

/// Something ends the node or stops it.
const INTERRUPTION: &str = "SpotwardenNodeInterruption";
/// EC2 advises to leave. The node is not expected to go, so nothing is to be muted by it.
const RECOMMENDATION: &str = "SpotwardenRebalanceRecommendation";
/// A message on trial.
const TRIAL: &str = "SpotwardenTest";

/// The body of the POST: all alerts of the account as they stand `at` seconds after its beginning, which is `now`. `kinds`
/// are those that are worth an alert.
pub fn payload(facts: &Facts, account: &Account, kinds: &[Kind], at: f64, now: Timestamp) -> Value {
    let of = |name: &'static str, advises: bool| {
        let mut all = account.announcements.iter();
        let meant = |kind: Kind| kinds.contains(&kind) && (kind == Kind::RebalanceRecommendation) == advises;
        all.any(|one| meant(one.kind)).then(|| {
            let pending = account.pending().any(|one| meant(one.kind));
            alert(name, facts, account, pending.then_some(at), now)
        })
    };
    let alerts = [of(INTERRUPTION, false), of(RECOMMENDATION, true)];
    Value::Array(alerts.into_iter().flatten().collect())
}

/// An alert that is resolved a minute later by itself.
pub fn trial(facts: &Facts, now: Timestamp) -> Value {
    json!([{
        "labels": labels(TRIAL, "info", facts),
        "annotations": annotations(facts),
        "startsAt": now.to_string(),
        "endsAt": later(now, Duration::from_mins(1)).to_string(),
    }])
}

/// `at` if it lasts.
fn alert(name: &'static str, facts: &Facts, account: &Account, at: Option<f64>, now: Timestamp) -> Value {
    let severity = if name == INTERRUPTION { "warning" } else { "info" };
    let ends = match at {
        None => now,
        Some(at) => {
            let until_power_goes = account.deadline().map_or(0.0, |deadline| deadline + account.shutdown_tail - at);
            let left = Duration::try_from_secs_f64(until_power_goes.max(0.0)).unwrap_or_default();
            later(now, left + EXPIRY)
        }
    };
    json!({
        "labels": labels(name, severity, facts),
        "annotations": annotations(facts),
        "startsAt": account.started.min(now).to_string(),
        "endsAt": ends.to_string(),
    })
}

/// Those of the rules: `alertname`, `severity`, `node`, and where they are known `cluster` and `nodegroup`.
fn labels(name: &str, severity: &str, facts: &Facts) -> Value {
    let mut labels = Map::new();
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            labels.insert(name.to_owned(), value.into());
        }
    };
    add("alertname", name);
    add("severity", severity);
    add("node", &facts.place.node);
    add("cluster", facts.cluster.as_deref().unwrap_or_default());
    add("nodegroup", &facts.place.nodegroup);
    Value::Object(labels)
}

/// `summary` is the same for all nodes, as a group shows it once; `description` tells of this one.
fn annotations(facts: &Facts) -> Value {
    let summary = match (facts.turn, facts.kind) {
        (None, _) => "A test message of spotwarden.",
        (_, Some(Kind::RebalanceRecommendation)) => "EC2 advises to leave a spot node.",
        (_, Some(Kind::ScheduledEvent)) => "A scheduled event is coming for a node.",
        (_, Some(Kind::AsgTermination)) => "An auto scaling group takes a node out of service.",
        (_, Some(Kind::SpotInterruption) | None) => "A spot node is being reclaimed.",
    };
    let mut annotations = Map::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            annotations.insert(name.to_owned(), value.into());
        }
    };
    add("summary", Some(summary.to_owned()));
    add("description", Some(description(facts)));
    add("kind", facts.kind.map(|kind| kind.as_str().to_owned()));
    add("action", facts.action.map(|action| action.as_str().to_owned()));
    add("deadline", facts.deadline.map(|time| time.to_string()));
    add("instance_id", Some(facts.place.instance_id.clone()));
    add("instance_type", Some(facts.place.instance_type.clone()));
    add("zone", Some(facts.place.zone.clone()));
    add("pods", facts.pod_words());
    add("budgets", facts.budget_words().filter(|_| facts.outcomes.is_none()));
    add("dashboard", facts.link.clone());
    Value::Object(annotations)
}

/// It is read minutes later, so it counts no seconds.
fn description(facts: &Facts) -> String {
    let node = &facts.place.node;
    let mut text = match (facts.turn, facts.deadline) {
        (None | Some(Turn::Result | Turn::Over), _) | (_, None) => facts.headline.clone(),
        (_, Some(deadline)) => format!("Node {node} is to stop at {deadline}"),
    };
    if let Some(pods) = facts.pod_words() {
        text.push_str("; pods: ");
        text.push_str(&pods);
    }
    text.push('.');
    text
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interruption::account::Over;
    use crate::notify::facts::tests as samples;

    const ALL: [Kind; 4] = Kind::ALL;

    fn body(account: &Account, kinds: &[Kind], at: f64) -> Vec<Value> {
        let facts = samples::notice();
        let now = account.time(at);
        payload(&facts, account, kinds, at, now).as_array().unwrap().clone()
    }

    #[test]
    fn the_alerts_are_those_of_the_golden_file() {
        let alerts = samples::all().map(|(name, facts, account, at)| {
            let now = account.time(at);
            let value = match facts.turn {
                None => trial(&facts, now),
                Some(_) => payload(&facts, &account, &ALL, at, now),
            };
            (name, value)
        });
        samples::golden("alertmanager.json", &alerts);
    }

    #[test]
    fn it_lasts_until_twenty_minutes_after_the_power_goes() {
        let account = Account { shutdown_tail: 30.0, ..samples::account() };
        let alert = &body(&account, &ALL, 10.0)[0];
        assert_eq!(alert["startsAt"], account.started.to_string());
        assert_eq!(alert["endsAt"], account.time(118.0 + 30.0 + 1200.0).to_string());
    }

    #[test]
    fn a_deadline_that_passed_without_an_end_keeps_it_alive() {
        let alert = &body(&samples::account(), &ALL, 500.0)[0];
        assert_eq!(alert["endsAt"], samples::account().time(1700.0).to_string());
    }

    #[test]
    fn what_is_over_ends_now() {
        let mut account = samples::account();
        account.announcements[0].over = Some(Over { at: 40.0, because: "it was cancelled".into() });
        assert_eq!(body(&account, &ALL, 41.0)[0]["endsAt"], account.time(41.0).to_string());
    }

    #[test]
    fn a_recommendation_has_a_name_of_its_own_and_mutes_nothing() {
        let mut account = samples::account();
        account.announcements.push(account.announcements[0].clone());
        account.announcements[0].kind = Kind::RebalanceRecommendation;
        let names = |kinds: &[Kind]| -> Vec<String> {
            let alerts = body(&account, kinds, 1.0);
            alerts.iter().map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&ALL), [INTERRUPTION, RECOMMENDATION]);
        assert_eq!(names(&[Kind::RebalanceRecommendation]), [RECOMMENDATION]);
        assert_eq!(names(&[Kind::SpotInterruption]), [INTERRUPTION]);
    }

    /// What tells nodes apart is `node` alone; nothing that changes during an interruption may be a label.
    #[test]
    fn the_labels_are_those_of_the_rules() {
        let alert = &body(&samples::account(), &ALL, 1.0)[0];
        let names: Vec<&String> = alert["labels"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["alertname", "cluster", "node", "nodegroup", "severity"]);
    }
}
