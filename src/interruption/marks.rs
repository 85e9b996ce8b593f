//! What the node should carry for what is in force: whose taints and labels, soft or hard.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::announcement::{Announcement, Announcements};
use super::fence::{Goal, LOAD_BALANCER_LABEL};
use super::state::Taint;
use crate::config::{Config, MarkStyle, Response};
use crate::signal::Kind;

/// The effect of a taint that only asks.
const SOFT: &str = "PreferNoSchedule";

/// Owner's name of marks in the style of the AWS node termination handler.
const NTH: &str = "aws-node-termination-handler";

/// Longest value of a taint or a label (Kubernetes API).
const LONGEST_VALUE: usize = 63;

/// The goal at `now`.
pub fn goal(announcements: &Announcements, config: &Config, now: Instant) -> Goal {
    let Some(leading) = announcements.leading(config, now) else { return Goal::nothing() };
    let response = leading.response(config, now);
    let hard = response >= Response::Cordon;
    Goal {
        response,
        announcements: announcements.iter().map(Announcement::entry).collect(),
        episode: None,
        trace: None,
        taints: taints(announcements, leading, config, now),
        unschedulable: hard,
        labels: if hard { labels(leading, config.marks.style) } else { BTreeMap::new() },
    }
}

fn taints(announcements: &Announcements, leading: &Announcement, config: &Config, now: Instant) -> Vec<Taint> {
    let effect = |one: &Announcement| match one.response(config, now) {
        Response::Ignore | Response::Observe => None,
        Response::Taint => Some(SOFT.to_owned()),
        Response::Cordon | Response::Drain => Some(config.marks.taint_effect.clone()),
    };
    match config.marks.style {
        MarkStyle::Spotwarden => effect(leading)
            .map(|effect| Taint {
                key: config.marks.taint_key.clone(),
                value: leading.signal.kind.as_str().to_owned(),
                effect,
            })
            .into_iter()
            .collect(),
        MarkStyle::NodeTerminationHandler => {
            let mut taints: Vec<Taint> = Vec::new();
            for one in announcements.iter() {
                let Some(effect) = effect(one) else { continue };
                let key = format!("{NTH}/{}", nth_name(one.signal.kind));
                // Kubernetes allows one taint of a key and an effect.
                if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
                    taints.push(Taint { key, value: value(&one.signal.id), effect });
                }
            }
            taints
        }
    }
}

fn labels(leading: &Announcement, style: MarkStyle) -> BTreeMap<String, String> {
    match style {
        MarkStyle::Spotwarden => BTreeMap::from([(LOAD_BALANCER_LABEL.to_owned(), "spotwarden".to_owned())]),
        // Without that handler's `action` labels: a copy of it that starts on this node would act on them.
        MarkStyle::NodeTerminationHandler => BTreeMap::from([
            (LOAD_BALANCER_LABEL.to_owned(), NTH.to_owned()),
            (format!("{NTH}/event-id"), value(&leading.signal.id)),
        ]),
    }
}

/// The last part of that handler's taint keys.
fn nth_name(kind: Kind) -> &'static str {
    match kind {
        Kind::SpotInterruption => "spot-itn",
        Kind::RebalanceRecommendation => "rebalance-recommendation",
        Kind::ScheduledEvent => "scheduled-maintenance",
        Kind::AsgTermination => "asg-lifecycle-termination",
    }
}

/// An id made fit for the value of a taint or a label: letters, digits, `-`, `_` and `.`, alphanumeric at both ends.
fn value(id: &str) -> String {
    let fit: String = id
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() || "-_.".contains(character) { character } else { '.' })
        .take(LONGEST_VALUE)
        .collect();
    fit.trim_matches(|character: char| !character.is_ascii_alphanumeric()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_makes_a_valid_value() {
        assert_eq!(value("spot-interruption/terminate"), "spot-interruption.terminate");
        assert_eq!(
            value("rebalance-recommendation/2026-03-31T15:02:10Z"),
            "rebalance-recommendation.2026-03-31T15.02.10Z"
        );
        assert_eq!(value("/odd/"), "odd");
        let long = value(&format!("scheduled-event/{}", "-".repeat(100)));
        assert_eq!(long, "scheduled-event");
    }
}
