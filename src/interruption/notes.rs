//! The words of the Events, and the keys that make them unique.

use std::time::Duration;

use jiff::Timestamp;

use super::NodeEvent;
use super::announcement::Announcement;
use crate::signal::{Kind, Signal};

/// What makes the Events of one announcement different from those of any other, in every agent that ever sees it. What may
/// be withdrawn may come back under the same id, so there the time counts too.
pub(super) fn key(kind: Kind, id: &str, first_seen: Timestamp) -> String {
    match kind {
        Kind::ScheduledEvent | Kind::AsgTermination => format!("{id}/{}", first_seen.as_second()),
        Kind::SpotInterruption | Kind::RebalanceRecommendation => id.to_owned(),
    }
}

/// The Event that tells of an announcement.
pub(super) fn announce(one: &Announcement) -> NodeEvent {
    let Signal { kind, id, .. } = &one.signal;
    let reason = kind.event_reason();
    let key = format!("{}/{reason}", key(*kind, id, one.first_seen));
    NodeEvent { key, reason, note: announcement(&one.signal), warning: *kind != Kind::RebalanceRecommendation }
}

/// What is coming.
fn announcement(signal: &Signal) -> String {
    let seconds = |wall: Timestamp| Timestamp::from_second(wall.as_second()).unwrap_or(wall);
    let when = signal.deadline.map_or_else(String::new, |deadline| format!(" at {}", seconds(deadline.wall)));
    let what = signal.action.phrase();
    let detail = signal.detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
    match signal.kind {
        Kind::SpotInterruption | Kind::ScheduledEvent => format!("EC2 will {what}{when}{detail}"),
        Kind::RebalanceRecommendation => {
            format!("EC2 sees an elevated risk that this instance is interrupted{detail}")
        }
        Kind::AsgTermination => format!("the auto scaling group will {what}, expected{when}{detail}"),
    }
}

/// The fence stands.
pub(super) fn fenced(refused: &[&str]) -> String {
    if refused.is_empty() {
        "no new pods are scheduled here".to_owned()
    } else {
        format!("the API server refused: {}", refused.join(", "))
    }
}

/// The drain waits for a subnet.
pub(super) fn postponed(subnets: &str) -> String {
    let subnets = if subnets.is_empty() { "a subnet of this node" } else { subnets };
    format!("the drain for the rebalance recommendation waits: {subnets} refused addresses within the last 10 min")
}

/// The drain begins.
pub(super) fn drain_started(to_go: usize, skipped: usize, waited: Option<Duration>) -> String {
    let waited = waited.map_or_else(String::new, |time| format!("; it waited {} s for addresses", time.as_secs()));
    format!("{to_go} pods to evict, {skipped} left alone{waited}")
}

/// The marks are gone.
pub(super) const RESTORED: &str = "the danger is over, the agent's marks are gone";

/// The drain is over. Outcomes in the order of `Outcome::ALL`.
pub(super) fn drained(outcomes: [u32; 5], slack_seconds: Option<f64>, cancelled: bool) -> String {
    let [graceful, shortened, forced, unfinished, skipped] = outcomes;
    let slack = slack_seconds.filter(|_| !cancelled);
    let slack = slack.map_or_else(String::new, |slack| format!(", {slack:.1} s before the deadline"));
    let why = if cancelled { "called off: " } else { "" };
    format!(
        "{why}{graceful} graceful, {shortened} shortened, {forced} forced, {unfinished} unfinished, {skipped} left \
         alone{slack}"
    )
}
