//! What a simulated instance is told of its future, in the bytes of the real service.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

/// Everything that is announced; what is absent is 404, the two lists are empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals {
    pub(super) spot: Option<SpotAction>,
    pub(super) rebalance: Option<Timestamp>,
    pub(super) scheduled: Vec<ScheduledEvent>,
    pub(super) history: Vec<ScheduledEvent>,
    pub(super) lifecycle: Option<String>,
}

/// `spot/instance-action`.
#[derive(Clone, Debug)]
pub(super) struct SpotAction {
    pub(super) action: String,
    pub(super) time: SpotTime,
}

/// When the spot action happens, as the service says.
#[derive(Clone, Copy, Debug)]
pub(super) enum SpotTime {
    /// A fixed instant, as on EC2.
    At(Timestamp),
    /// This long after each read, as some mocks serve it.
    Ahead(Duration),
}

impl Signals {
    /// The items below `/latest/meta-data/` that these make, at the platform's time `now`.
    pub(super) fn items(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let mut items = vec![
            ("events/maintenance/history", list(&self.history)),
            ("events/maintenance/scheduled", list(&self.scheduled)),
        ];
        if let Some(SpotAction { action, time }) = &self.spot {
            let time = whole_seconds(match time {
                SpotTime::At(time) => *time,
                SpotTime::Ahead(ahead) => now.checked_add(*ahead).unwrap_or(now),
            });
            let text = serde_json::Value::from(action.as_str());
            items.push(("spot/instance-action", format!(r#"{{"action":{text},"time":"{time}"}}"#)));
            if action == "terminate" {
                items.push(("spot/termination-time", time));
            }
        }
        if let Some(time) = self.rebalance {
            let time = whole_seconds(time);
            items.push(("events/recommendations/rebalance", format!(r#"{{"noticeTime":"{time}"}}"#)));
        }
        if let Some(word) = &self.lifecycle {
            items.push(("autoscaling/target-lifecycle-state", word.clone()));
        }
        items
    }
}

/// One scheduled event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledEvent {
    /// `EventId`, on EC2 `instance-event-` and hexadecimal digits.
    pub id: String,
    /// `Code`: `system-reboot`, `instance-stop` and others.
    pub code: String,
    /// `Description` without the prefix that tells of its end.
    pub description: String,
    /// `NotBefore`.
    pub not_before: Timestamp,
    /// `NotAfter`; the service leaves it out for stops and retirements.
    pub not_after: Option<Timestamp>,
    /// `NotBeforeDeadline`: the latest time to which it can be moved.
    pub not_before_deadline: Option<Timestamp>,
    /// `State`.
    pub state: ScheduledState,
}

/// Where a scheduled event is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduledState {
    /// It is to come.
    Active,
    /// It is done.
    Completed,
    /// It was called off. The service spells it with one l.
    Canceled,
}

impl ScheduledEvent {
    /// An active event with nothing that is optional.
    pub fn new(id: impl Into<String>, code: impl Into<String>, not_before: Timestamp) -> Self {
        let code = code.into();
        let description = match code.as_str() {
            "instance-stop" => "The instance is running on degraded hardware".to_owned(),
            "instance-retirement" => "Your instance is scheduled for retirement".to_owned(),
            code => format!("scheduled {}", code.rsplit('-').next().unwrap_or(code)),
        };
        Self {
            id: id.into(),
            code,
            description,
            not_before,
            not_after: None,
            not_before_deadline: None,
            state: ScheduledState::Active,
        }
    }

    /// The same event in another state.
    #[must_use]
    pub fn in_state(mut self, state: ScheduledState) -> Self {
        self.state = state;
        self
    }
}

/// The element as the service writes it, its keys in the order of the documentation's samples.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Element<'a> {
    not_before: String,
    code: &'a str,
    description: String,
    event_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before_deadline: Option<String>,
    state: &'static str,
}

impl<'a> From<&'a ScheduledEvent> for Element<'a> {
    fn from(event: &'a ScheduledEvent) -> Self {
        let (state, prefix) = match event.state {
            ScheduledState::Active => ("active", ""),
            ScheduledState::Completed => ("completed", "[Completed] "),
            ScheduledState::Canceled => ("canceled", "[Canceled] "),
        };
        Self {
            not_before: date(event.not_before),
            code: &event.code,
            description: format!("{prefix}{}", event.description),
            event_id: &event.id,
            not_after: event.not_after.map(date),
            not_before_deadline: event.not_before_deadline.map(date),
            state,
        }
    }
}

fn list(events: &[ScheduledEvent]) -> String {
    let elements: Vec<Element<'_>> = events.iter().map(Element::from).collect();
    serde_json::to_string(&elements).unwrap_or_default()
}

/// RFC 3339 as the service writes it: UTC, no fractions.
fn whole_seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// The form of scheduled events alone: `4 Nov 2026 09:00:43 GMT`, the day without a leading zero.
fn date(time: Timestamp) -> String {
    time.strftime("%-d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn item(signals: &Signals, path: &str) -> Option<String> {
        let items = signals.items(at("2026-03-31T16:32:24.9Z"));
        items.into_iter().find(|(item, _)| *item == path).map(|(_, text)| text)
    }

    #[test]
    fn a_quiet_instance_has_two_empty_lists_and_nothing_else() {
        let items = Signals::default().items(at("2026-03-31T16:32:24Z"));
        let wanted = [("events/maintenance/history", "[]"), ("events/maintenance/scheduled", "[]")];
        assert_eq!(items, wanted.map(|(path, text)| (path, text.to_owned())));
    }

    #[test]
    fn a_scheduled_event_has_the_documented_fields_and_its_own_form_of_dates() {
        let mut event = ScheduledEvent::new("instance-event-0abc", "system-reboot", at("2026-11-04T09:00:43.7Z"));
        let signals = Signals { scheduled: vec![event.clone()], ..Signals::default() };
        let wanted = r#"[{"NotBefore":"4 Nov 2026 09:00:43 GMT","Code":"system-reboot","Description":"scheduled reboot","EventId":"instance-event-0abc","State":"active"}]"#;
        assert_eq!(item(&signals, "events/maintenance/scheduled").unwrap(), wanted);
        event.not_after = Some(at("2026-11-14T09:17:23Z"));
        event.not_before_deadline = Some(at("2026-12-01T00:00:00Z"));
        let event = event.in_state(ScheduledState::Canceled);
        let signals = Signals { history: vec![event], ..Signals::default() };
        let text = item(&signals, "events/maintenance/history").unwrap();
        for part in [
            r#""NotAfter":"14 Nov 2026 09:17:23 GMT""#,
            r#""NotBeforeDeadline":"1 Dec 2026 00:00:00 GMT""#,
            r#""Description":"[Canceled] scheduled reboot""#,
            r#""State":"canceled""#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(item(&signals, "events/maintenance/scheduled").unwrap(), "[]");
    }

    #[test]
    fn the_notice_and_the_termination_time_agree() {
        let spot = |action: &str, time| Signals {
            spot: Some(SpotAction { action: action.into(), time }),
            ..Signals::default()
        };
        let fixed = SpotTime::At(at("2026-03-31T16:34:24.9Z"));
        let terminate = spot("terminate", fixed);
        let wanted = r#"{"action":"terminate","time":"2026-03-31T16:34:24Z"}"#;
        assert_eq!(item(&terminate, "spot/instance-action").unwrap(), wanted);
        assert_eq!(item(&terminate, "spot/termination-time").unwrap(), "2026-03-31T16:34:24Z");
        assert_eq!(item(&spot("stop", fixed), "spot/termination-time"), None);
        let sliding = spot("terminate", SpotTime::Ahead(Duration::from_mins(2)));
        assert_eq!(item(&sliding, "spot/termination-time").unwrap(), "2026-03-31T16:34:24Z");
    }

    #[test]
    fn a_recommendation_and_a_lifecycle_state_are_there_while_they_are_set() {
        let signals = Signals {
            rebalance: Some(at("2026-03-31T15:02:10.5Z")),
            lifecycle: Some("Terminated".into()),
            ..Signals::default()
        };
        let wanted = r#"{"noticeTime":"2026-03-31T15:02:10Z"}"#;
        assert_eq!(item(&signals, "events/recommendations/rebalance").unwrap(), wanted);
        assert_eq!(item(&signals, "autoscaling/target-lifecycle-state").unwrap(), "Terminated");
    }
}
