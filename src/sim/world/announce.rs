//! What EC2 announces: a scenario's signals in the words of the simulated metadata service.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Now;
use crate::sim::imds::{ScheduledEvent, ScheduledState, SimImds};
use crate::sim::scenario::{EventBecomes, Notice, RawDocument, RebalanceEvent, ScheduledChange};

/// Where relative paths of a scenario begin.
const META_DATA: &str = "/latest/meta-data/";

/// The two lists of scheduled events.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    scheduled: Vec<ScheduledEvent>,
    history: Vec<ScheduledEvent>,
}

impl Maintenance {
    /// Makes the change, tells IMDS, and says for people what became of the event. With it goes the announced time, if
    /// the event is still to come.
    pub(super) fn change(&mut self, imds: &SimImds, change: &ScheduledChange, now: Now) -> (String, Option<Timestamp>) {
        let place = self.scheduled.iter().position(|event| event.id == change.id);
        let known = place.map(|place| self.scheduled.remove(place));
        let is_new = known.is_none();
        let mut event = known.unwrap_or_else(|| {
            ScheduledEvent::new(change.id.as_str(), change.code.as_deref().unwrap_or_default(), now.wall)
        });
        if let Some(code) = change.code.as_ref().filter(|code| **code != event.code) {
            event = ScheduledEvent { code: code.clone(), ..event };
        }
        if let Some(ahead) = change.not_before_in {
            event.not_before = whole_second_after(now, ahead);
        }
        if let Some(lasts) = change.lasts {
            event.not_after = event.not_before.checked_add(lasts).ok();
        }
        let (id, code, time) = (event.id.clone(), event.code.clone(), event.not_before);
        let list_place = place.unwrap_or(self.scheduled.len()).min(self.scheduled.len());
        let what = match change.becomes {
            EventBecomes::Active => {
                self.scheduled.insert(list_place, event);
                if is_new { format!("EC2 schedules {code} at {time}") } else { format!("EC2 moves {code} to {time}") }
            }
            EventBecomes::Completed => {
                self.history.push(event.in_state(ScheduledState::Completed));
                format!("EC2 has completed {code}")
            }
            EventBecomes::Canceled => {
                self.history.push(event.in_state(ScheduledState::Canceled));
                format!("EC2 has cancelled {code}")
            }
            EventBecomes::Lingering => {
                self.scheduled.insert(list_place, event.in_state(ScheduledState::Completed));
                format!("EC2 has completed {code} and still lists it")
            }
            EventBecomes::Vanished => format!("EC2 does not list {code} any more"),
        };
        imds.set_scheduled(self.scheduled.clone());
        imds.set_history(self.history.clone());
        let to_come = self.scheduled.iter().find(|event| event.id == id && event.state == ScheduledState::Active);
        (what, to_come.map(|event| event.not_before))
    }
}

/// Tells IMDS of the notice; returns the announced time.
pub(super) fn spot(imds: &SimImds, notice: &Notice, now: Now) -> Timestamp {
    let announced = whole_second_after(now, notice.lead);
    let word = notice.word.as_deref().unwrap_or(notice.action.as_str());
    if notice.slides {
        imds.set_sliding_spot_action(word, notice.lead);
    } else {
        imds.set_spot_action(word, announced);
    }
    announced
}

/// Tells IMDS of a recommendation; says it for people.
pub(super) fn rebalance(imds: &SimImds, event: &RebalanceEvent, now: Now) -> String {
    let issued = now.wall.checked_sub(event.ago).unwrap_or(now.wall);
    imds.set_rebalance(Some(issued));
    "EC2 recommends to rebalance".to_owned()
}

/// Tells IMDS of the group's target state; says it for people.
pub(super) fn lifecycle(imds: &SimImds, word: &str) -> String {
    imds.set_lifecycle(Some(word));
    format!("the auto scaling group wants the instance to be {word:?}")
}

/// Puts another document in place; says it for people.
pub(super) fn raw(imds: &SimImds, document: &RawDocument) -> String {
    let path = format!("{META_DATA}{}", document.path);
    match &document.body {
        Some(body) => imds.set_raw(&path, body.as_str()),
        None => imds.set_absent(&path),
    }
    match &document.body {
        Some(body) => format!("serves {:?} at {}", body.chars().take(80).collect::<String>(), document.path),
        None => format!("serves nothing at {}", document.path),
    }
}

/// Serves what belongs at the path again.
pub(super) fn raw_is_over(imds: &SimImds, path: &str) {
    imds.clear_raw(&format!("{META_DATA}{path}"));
}

/// IMDS writes whole seconds; what a scenario says is the least that there is.
fn whole_second_after(now: Now, ahead: Duration) -> Timestamp {
    let exact = now.plus(ahead).wall;
    let up = i64::from(exact.subsec_nanosecond() > 0);
    Timestamp::from_second(exact.as_second() + up).unwrap_or(exact)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::sim::imds::IdentitySpec;

    fn change(text: &str) -> ScheduledChange {
        toml::from_str(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_moves_and_ends_where_the_service_would_list_it() {
        let clock = Clock::anchored("2026-01-05T12:00:00.25Z".parse().unwrap());
        let imds = SimImds::new(clock, IdentitySpec::default());
        let mut lists = Maintenance::default();
        let mut then = |text: &str| {
            let (what, time) = lists.change(&imds, &change(text), clock.now());
            (what, time.map(|time| time.to_string()), lists.scheduled.len(), lists.history.len())
        };
        let at = |text: &str| Some(text.to_owned());
        let (_, time, listed, _) = then("id = \"a\"\ncode = \"system-reboot\"\nin = 60\nlasts = 30");
        assert_eq!((time, listed), (at("2026-01-05T12:01:01Z"), 1));
        let (_, time, listed, _) = then("id = \"b\"\ncode = \"instance-stop\"\nin = 3600");
        assert_eq!((time, listed), (at("2026-01-05T13:00:01Z"), 2));
        let (what, time, ..) = then("id = \"a\"\nin = 120");
        assert_eq!((what.contains("moves"), time), (true, at("2026-01-05T12:02:01Z")));
        let (_, time, listed, over) = then("id = \"a\"\nbecomes = \"lingering\"");
        assert_eq!((time, listed, over), (None, 2, 0));
        let (_, _, listed, over) = then("id = \"a\"\nbecomes = \"completed\"");
        assert_eq!((listed, over), (1, 1));
        let (_, _, listed, over) = then("id = \"b\"\nbecomes = \"vanished\"");
        assert_eq!((listed, over), (0, 1));
    }
}
