//! Signals of every kind, alone and together, and the way back from each.

use proptest::prelude::*;
use rstest::rstest;

use super::super::world::{World, lifecycle, notice, pod, recommendation, scheduled, secs, stops_after};
use super::{blocked, config, world};
use crate::cni::subnet::Refused;
use crate::config::{Config, MarkConfig, MarkStyle, Response};
use crate::interruption::Input;
use crate::interruption::record::Record;
use crate::k8s::node::NodeView;
use crate::signal::{Action, Kind, Observation};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

fn taints(node: &NodeView) -> Vec<String> {
    let text = |taint: &serde_json::Value, field: &str| taint[field].as_str().unwrap_or_default().to_owned();
    let words = |taint| format!("{}={}:{}", text(taint, "key"), text(taint, "value"), text(taint, "effect"));
    node.taints.iter().flatten().map(words).collect()
}

/// Polls every `step` seconds until `until`.
fn poll_until(world: &mut World, until: u64, step: u64) {
    while world.at() < secs(until) {
        let next = (world.at() + secs(step)).min(secs(until));
        world.run_until(next);
        world.observe();
    }
}

#[tokio::test]
async fn a_recommendation_asks_pods_away_until_it_expires() {
    let mut world = world();
    let before = world.node.clone();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.announce(Kind::RebalanceRecommendation, vec![recommendation(world.now, secs(10))]);
    assert_eq!(taints(&world.node), ["spotwarden/interruption=rebalance-recommendation:PreferNoSchedule"]);
    assert_eq!((world.node.unschedulable, world.node.labels.clone()), (None, before.labels.clone()));
    poll_until(&mut world, 4 * HOUR - 11, 600);
    assert_eq!(world.status().pending.len(), 1);
    poll_until(&mut world, 8 * HOUR, 600);
    assert_eq!((&world.node, world.status().pending.len()), (&before, 0));
    assert!(world.evictions().is_empty() && !world.status().fenced);
    assert_eq!(world.count(|record| matches!(record, Record::NoticeSeen { .. })), 1, "it is still listed, and no news");
    assert_eq!(world.count(|record| matches!(record, Record::Restored)), 1);
    assert_eq!((world.published("RebalanceRecommendation"), world.published("Restored")), (1, 1));
    world.restart();
    world.run_until(secs(8 * HOUR + 60));
    assert_eq!((&world.node, world.count(|record| matches!(record, Record::NoticeSeen { .. }))), (&before, 1));
}

#[tokio::test]
async fn a_recommendation_without_a_time_expires_from_when_it_was_seen() {
    let mut world = world();
    let before = world.node.clone();
    world.boot();
    let mut signal = recommendation(world.now, secs(0));
    signal.issued = None;
    world.announce(Kind::RebalanceRecommendation, vec![signal]);
    world.run_until(secs(HOUR));
    world.restart();
    poll_until(&mut world, 4 * HOUR + 1, 60);
    assert_eq!(world.node, before);
    poll_until(&mut world, 6 * HOUR, 600);
    assert_eq!((&world.node, world.count(|record| matches!(record, Record::NoticeSeen { .. }))), (&before, 1));
}

#[tokio::test]
async fn an_empty_reading_takes_no_recommendation_back() {
    let mut world = world();
    world.boot();
    let signal = recommendation(world.now, secs(0));
    for _ in 0..5 {
        world.announce(Kind::RebalanceRecommendation, vec![signal.clone()]);
        world.announce(Kind::RebalanceRecommendation, vec![]);
        assert_eq!(taints(&world.node).len(), 1);
    }
    assert_eq!(world.count(|record| matches!(record, Record::NoticeSeen { .. })), 1);
}

#[rstest]
#[case::after_it(secs(20 * 60))]
#[case::with_it(secs(0))]
#[tokio::test]
async fn a_notice_turns_the_soft_taint_into_the_fence(#[case] later: std::time::Duration) {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.announce(Kind::RebalanceRecommendation, vec![recommendation(world.now, secs(0))]);
    world.run_until(later);
    world.notify(Action::Terminate, secs(120));
    assert_eq!(taints(&world.node), ["spotwarden/interruption=spot-interruption:NoSchedule"]);
    assert_eq!(world.node.unschedulable, Some(true));
    world.run_until(later + secs(121));
    assert_eq!(world.outcome("web"), "graceful");
    assert_eq!(world.count(|record| matches!(record, Record::DrainStarted { .. })), 1);
    assert_eq!(world.count(|record| matches!(record, Record::Fenced { after, .. } if after.is_zero())), 1);
    assert_eq!(world.count(|record| matches!(record, Record::NoticeSeen { .. })), 2);
}

#[tokio::test]
async fn a_gentle_drain_becomes_one_with_a_deadline_without_starting_over() {
    let mut world = World::new(Config { on_rebalance_recommendation: Response::Drain, ..config() });
    world.add_pod(pod("web", 30), stops_after(2));
    world.add_pod(pod("stuck", 30), blocked(2, 100_000));
    world.boot();
    world.announce(Kind::RebalanceRecommendation, vec![recommendation(world.now, secs(0))]);
    world.run_until(secs(1200));
    assert!(world.deletions().is_empty(), "without a deadline budgets hold");
    assert_eq!((world.outcome("web"), world.outcome("stuck")), ("graceful", "none"));
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(1321));
    assert_eq!((world.outcome("stuck"), world.deletions()[0].0), ("forced", secs(1287)));
    assert_eq!(world.count(|record| matches!(record, Record::DrainStarted { .. })), 1);
    assert_eq!(world.published("DrainStarted"), 1);
}

#[tokio::test]
async fn a_gentle_drain_is_called_off_when_its_recommendation_expires() {
    let mut world = World::new(Config { on_rebalance_recommendation: Response::Drain, ..config() });
    let before = world.node.clone();
    world.add_pod(pod("web", 30), stops_after(2));
    world.add_pod(pod("stuck", 30), blocked(2, 100_000));
    world.boot();
    world.announce(Kind::RebalanceRecommendation, vec![recommendation(world.now, secs(0))]);
    poll_until(&mut world, 4 * HOUR + 60, 60);
    assert_eq!((world.outcome("web"), world.outcome("stuck"), &world.node), ("graceful", "skipped", &before));
    assert!(world.status().pods.is_empty(), "nothing is left of the drain");
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(4 * HOUR + 200));
    assert_eq!(world.count(|record| matches!(record, Record::DrainStarted { .. })), 2);
}

#[tokio::test]
async fn a_scheduled_event_is_timed_to_its_not_before_and_follows_it() {
    let mut world = world();
    let before = world.node.clone();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    let event = |world: &World, days| scheduled("instance-event-1", Action::Reboot, world.start, secs(days * DAY));
    world.announce(Kind::ScheduledEvent, vec![event(&world, 3)]);
    assert_eq!(taints(&world.node), ["spotwarden/interruption=scheduled-event:PreferNoSchedule"]);
    poll_until(&mut world, DAY, 600);
    world.announce(Kind::ScheduledEvent, vec![event(&world, 2)]);
    assert_eq!(world.count(|record| matches!(record, Record::Rescheduled { .. })), 1);
    poll_until(&mut world, 2 * DAY - 601, 600);
    assert!(world.evictions().is_empty() && !world.status().fenced);
    world.run_until(secs(2 * DAY - 500));
    assert_eq!(world.evictions()[0].0, secs(2 * DAY - 600));
    assert_eq!((world.outcome("web"), world.status().fenced), ("graceful", true));
    world.withdraw(Kind::ScheduledEvent);
    world.run_until(secs(2 * DAY));
    assert_eq!((&world.node, world.status().pending.len()), (&before, 0));
    assert_eq!((world.published("ScheduledEvent"), world.published("Restored")), (2, 1));
    assert_eq!(world.count(|record| matches!(record, Record::NoticeSeen { .. })), 1);
}

#[tokio::test]
async fn an_event_whose_time_cannot_be_read_asks_pods_away_and_no_more() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    let event = scheduled("e", Action::Stop, world.start, secs(DAY));
    world.announce(Kind::ScheduledEvent, vec![crate::signal::Signal { deadline: None, ..event.clone() }]);
    poll_until(&mut world, HOUR, 60);
    assert_eq!(taints(&world.node), ["spotwarden/interruption=scheduled-event:PreferNoSchedule"]);
    assert!(world.evictions().is_empty());
    world.announce(Kind::ScheduledEvent, vec![event]);
    poll_until(&mut world, DAY, 60);
    assert_eq!(world.outcome("web"), "graceful");
}

#[tokio::test]
async fn an_event_that_is_moved_away_in_its_last_minutes_calls_the_drain_off() {
    let mut world = world();
    world.add_pod(pod("stuck", 30), blocked(2, 100_000));
    world.boot();
    world.announce(Kind::ScheduledEvent, vec![scheduled("e", Action::Stop, world.start, secs(300))]);
    world.run_until(secs(60));
    assert!(world.status().fenced);
    world.announce(Kind::ScheduledEvent, vec![scheduled("e", Action::Stop, world.start, secs(5 * DAY))]);
    world.run_until(secs(600));
    assert_eq!(taints(&world.node), ["spotwarden/interruption=scheduled-event:PreferNoSchedule"]);
    assert_eq!((world.outcome("stuck"), world.node.unschedulable, world.deletions().len()), ("skipped", None, 0));
    world.announce(Kind::ScheduledEvent, vec![scheduled("e", Action::Stop, world.start, secs(900))]);
    world.run_until(secs(900));
    assert_eq!(world.deletions().len(), 1, "the second drain has its own deadline");
    assert_eq!((world.published("DrainStarted"), world.published("Fenced")), (2, 2), "each is told");
}

#[tokio::test]
async fn of_several_events_the_earliest_counts_and_the_last_one_gone_restores() {
    let mut world = world();
    let before = world.node.clone();
    world.add_pod(pod("slow", 400), stops_after(390));
    world.boot();
    let event = |id: &str, lead| scheduled(id, Action::Stop, world.start, secs(lead));
    let (far, near) = (event("far", 2 * DAY), event("near", HOUR));
    world.announce(Kind::ScheduledEvent, vec![far.clone(), near]);
    world.run_until(secs(HOUR));
    assert_eq!(world.outcome("slow"), "graceful");
    assert_eq!(world.evictions()[0].0, secs(HOUR - 600));
    world.announce(Kind::ScheduledEvent, vec![far]);
    assert_eq!(taints(&world.node), ["spotwarden/interruption=scheduled-event:PreferNoSchedule"]);
    world.withdraw(Kind::ScheduledEvent);
    assert_eq!(world.node, before);
}

#[tokio::test]
async fn a_lifecycle_state_is_one_drain_and_one_event_however_long_it_stays() {
    let mut world = world();
    world.node.taints = Some(vec![serde_json::json!({"key": "dedicated", "value": "x", "effect": "NoSchedule"})]);
    let before = world.node.clone();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.announce(Kind::AsgTermination, vec![lifecycle("Terminated", Action::Terminate)]);
    poll_until(&mut world, 60, 2);
    assert_eq!(world.count(|record| matches!(record, Record::DrainStarted { .. })), 1);
    assert_eq!((world.published("ASGTermination"), world.outcome("web")), (1, "graceful"));
    let left = world.status().deadline.unwrap().instant - world.start.instant;
    assert_eq!(left, secs(300), "the hook's time, from when the state was first seen");
    world.restart();
    assert_eq!(world.status().deadline.unwrap().instant - world.start.instant, secs(300));
    world.withdraw(Kind::AsgTermination);
    world.run_until(secs(70));
    assert_eq!(world.node, before);
    world.add_pod(pod("next", 30), stops_after(2));
    world.boot();
    world.announce(Kind::AsgTermination, vec![lifecycle("Terminated", Action::Terminate)]);
    world.run_until(secs(80));
    assert_eq!((world.published("ASGTermination"), world.outcome("next")), (2, "graceful"));
}

#[tokio::test]
async fn standby_fences_and_drains_nothing() {
    let mut world = world();
    let before = world.node.clone();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.announce(Kind::AsgTermination, vec![lifecycle("Standby", Action::Standby)]);
    world.run_until(secs(600));
    assert!(world.status().fenced && world.evictions().is_empty());
    world.withdraw(Kind::AsgTermination);
    assert_eq!(world.node, before);
}

#[tokio::test]
async fn after_a_reboot_marks_go_when_every_source_was_heard_and_not_before() {
    let mut world = world();
    let before = world.node.clone();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.announce(Kind::ScheduledEvent, vec![scheduled("e", Action::Reboot, world.start, secs(600))]);
    world.run_until(secs(610));
    let marked = world.node.clone();
    world.reboot();
    world.run_until(secs(700));
    for kind in [Kind::SpotInterruption, Kind::RebalanceRecommendation, Kind::AsgTermination] {
        world.feed(Input::Observed(Observation::of(kind, None)));
    }
    world.run_until(secs(800));
    assert_eq!(world.node.taints, marked.taints);
    world.feed(Input::Observed(Observation::of(Kind::ScheduledEvent, None)));
    world.run_until(secs(900));
    let after = NodeView { boot_id: before.boot_id.clone(), ..world.node.clone() };
    assert_eq!((after, world.published("Restored")), (before, 1));
    assert_eq!(world.evictions().len(), 1, "the pods of the new life are left alone");
}

#[tokio::test]
async fn what_is_still_announced_after_a_reboot_keeps_its_marks() {
    let mut world = world();
    world.boot();
    let event = scheduled("e", Action::Stop, world.start, secs(2 * DAY));
    world.announce(Kind::ScheduledEvent, vec![event.clone()]);
    world.reboot();
    world.announce(Kind::ScheduledEvent, vec![event]);
    world.run_until(secs(60));
    assert_eq!(taints(&world.node), ["spotwarden/interruption=scheduled-event:PreferNoSchedule"]);
    world.withdraw(Kind::ScheduledEvent);
    assert_eq!(taints(&world.node), Vec::<String>::new());
}

#[tokio::test]
async fn a_spot_notice_is_never_taken_back() {
    let mut world = world();
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.withdraw(Kind::SpotInterruption);
    world.run_until(secs(DAY));
    world.observe();
    assert!(world.status().fenced && world.node.unschedulable == Some(true));
    assert_eq!(world.published("Restored"), 0);
}

#[tokio::test]
async fn the_node_termination_handlers_words_are_spoken_on_request() {
    let marks = MarkConfig { style: MarkStyle::NodeTerminationHandler, ..config().marks };
    let mut world = World::new(Config { marks, ..config() });
    let before = world.node.clone();
    world.boot();
    world.announce(Kind::RebalanceRecommendation, vec![recommendation(world.now, secs(0))]);
    world.announce(Kind::AsgTermination, vec![lifecycle("Terminated", Action::Terminate)]);
    assert_eq!(
        taints(&world.node),
        [
            "aws-node-termination-handler/rebalance-recommendation=rebalance-recommendation.2026-03-31T16.32.24Z:PreferNoSchedule",
            "aws-node-termination-handler/asg-lifecycle-termination=asg-termination.Terminated:NoSchedule",
        ]
    );
    let labels = world.node.labels.clone().unwrap();
    let excluded = "node.kubernetes.io/exclude-from-external-load-balancers";
    assert_eq!(labels[excluded], "aws-node-termination-handler");
    assert_eq!(labels["aws-node-termination-handler/event-id"], "asg-termination.Terminated");
    world.withdraw(Kind::AsgTermination);
    world.run_until(secs(4 * HOUR + 1));
    assert_eq!(world.node, before);
}

#[tokio::test]
async fn a_recommendation_asks_which_budgets_would_refuse() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.add_pod(pod("stuck", 30), blocked(2, 100_000));
    world.boot();
    world.announce(Kind::RebalanceRecommendation, vec![recommendation(world.now, secs(0))]);
    poll_until(&mut world, 600, 5);
    let found: Vec<_> = world
        .records()
        .into_iter()
        .filter_map(
            |record| if let Record::Preflight { asked, blocked } = record { Some((asked, blocked)) } else { None },
        )
        .collect();
    let [(2, blocked)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(blocked[0].0.name, "stuck");
    assert!(world.evictions().is_empty());
}

#[tokio::test]
async fn a_fence_that_stands_goes_on_to_stand_while_its_words_change() {
    let mut world = world();
    world.boot();
    world.announce(Kind::AsgTermination, vec![lifecycle("Terminated", Action::Terminate)]);
    assert!(world.status().fenced);
    world.api_down_until = secs(10);
    world.notify(Action::Terminate, secs(120));
    assert!(world.status().fenced, "the patch is not answered, and the old marks are there");
    world.run_until(secs(20));
    assert!(world.status().fenced);
    assert_eq!(world.count(|record| matches!(record, Record::Fenced { .. })), 1);
}

#[tokio::test]
async fn what_is_only_observed_has_a_deadline_to_show_and_asks_nothing_of_budgets() {
    let mut world = World::new(Config {
        on_spot_interruption: Response::Observe,
        on_rebalance_recommendation: Response::Observe,
        on_scheduled_event: Response::Observe,
        on_asg_termination: Response::Observe,
        ..config()
    });
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.announce(Kind::RebalanceRecommendation, vec![recommendation(world.now, secs(0))]);
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(130));
    assert_eq!(world.status().deadline.unwrap().instant, world.start.instant + secs(120));
    assert!(world.evictions().is_empty());
    let probes = |sent: &&super::super::world::Sent| matches!(sent.effect, crate::interruption::Effect::Probe(_));
    assert_eq!(world.sent.iter().filter(probes).count(), 0, "nothing here ever drains");
}

#[tokio::test]
async fn times_are_told_in_whole_seconds() {
    let mut world = world();
    world.boot();
    world.run_until(std::time::Duration::from_millis(1234));
    world.announce(Kind::AsgTermination, vec![lifecycle("Terminated", Action::Terminate)]);
    let note = &world.events()[0].note;
    assert!(note.contains("2026-03-31T16:37:25Z"), "{note}");
}

/// Every kind that clears the node, with its own idea of when.
fn four(world: &World) -> Vec<crate::signal::Signal> {
    vec![
        notice(Action::Terminate, world.start, secs(200)),
        recommendation(world.start, secs(5)),
        scheduled("e", Action::Stop, world.start, secs(150)),
        lifecycle("Terminated", Action::Terminate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Any set of signals in any order ends in the same drain by the same deadline.
    #[test]
    fn the_strictest_response_and_the_earliest_deadline_win_in_any_order(
        order in Just([0, 1, 2, 3]).prop_shuffle(), taken in 1..=4_usize, gap in 0..5_u64,
    ) {
        let mut world = world();
        world.add_pod(pod("slow", 1000), super::Behaviour { stops_after: None, blocked_until: secs(0) });
        world.boot();
        let signals = four(&world);
        for (index, which) in order[..taken].iter().enumerate() {
            world.run_until(secs(index as u64 * gap));
            world.announce(signals[*which].kind, vec![signals[*which].clone()]);
        }
        world.run_until(secs(330));
        let kinds = &order[..taken];
        let asg_at = kinds.iter().position(|which| *which == 3).map(|index| index as u64 * gap + 300);
        let deadline = [kinds.contains(&0).then_some(200), kinds.contains(&2).then_some(150), asg_at];
        let deadline = deadline.into_iter().flatten().min();
        let status = world.status();
        prop_assert_eq!(status.deadline.map(|at| (at.instant - world.start.instant).as_secs()), deadline);
        let drains = world.count(|record| matches!(record, Record::DrainStarted { .. }));
        prop_assert_eq!(drains, usize::from(deadline.is_some()));
        prop_assert_eq!(world.count(|record| matches!(record, Record::NoticeSeen { .. })), taken);
        prop_assert_eq!(world.outcome("slow"), if deadline.is_some() { "shortened" } else { "none" });
        prop_assert_eq!(status.fenced, deadline.is_some());
        prop_assert_eq!(taints(&world.node).len(), 1);
    }
}

/// A world that drains on a recommendation, and a refusal by a subnet that lasts from 5 s to `until`.
fn short_of_addresses(until: u64) -> World {
    let config = Config { on_rebalance_recommendation: Response::Drain, ..config() };
    let mut world = World::new(config);
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.run_until(secs(5));
    let refused = Refused { subnets: "subnet-1".into(), until: world.start.instant + secs(until) };
    world.feed(Input::Addresses(Some(refused)));
    world
}

#[tokio::test]
async fn a_drain_that_can_wait_does_so_while_a_subnet_has_no_addresses() {
    let mut world = short_of_addresses(600);
    world.announce(Kind::RebalanceRecommendation, vec![recommendation(world.now, secs(0))]);
    world.run_until(secs(599));
    assert!(world.evictions().is_empty());
    assert!(world.status().fenced, "the node is fenced all the same");
    assert_eq!(world.status().postponed.unwrap().subnets, "subnet-1");
    assert_eq!(world.count(|record| matches!(record, Record::DrainPostponed { .. })), 1);
    assert_eq!(world.published("PodIPsLow"), 1);
    world.run_until(secs(700));
    assert_eq!((world.outcome("web"), world.status().postponed), ("graceful", None));
    let note = world.events().iter().find(|event| event.reason == "DrainStarted").unwrap().note.clone();
    assert_eq!(note, "1 pods to evict, 0 left alone; it waited 595 s for addresses");
}

#[tokio::test]
async fn another_refusal_prolongs_the_wait_and_growth_ends_it() {
    let mut world = short_of_addresses(600);
    world.announce(Kind::RebalanceRecommendation, vec![recommendation(world.now, secs(0))]);
    world.run_until(secs(300));
    let until = world.start.instant + secs(900);
    world.feed(Input::Addresses(Some(Refused { subnets: "subnet-1".into(), until })));
    world.run_until(secs(800));
    assert!(world.evictions().is_empty());
    world.feed(Input::Addresses(None));
    assert_eq!(world.evictions().len(), 1);
    assert_eq!(world.count(|record| matches!(record, Record::DrainPostponed { .. })), 1, "told once");
}

#[tokio::test]
async fn nothing_with_a_deadline_waits_for_addresses() {
    for hurried in 0..3 {
        let mut world = short_of_addresses(3600);
        world.announce(Kind::RebalanceRecommendation, vec![recommendation(world.now, secs(0))]);
        world.run_until(secs(100));
        assert!(world.evictions().is_empty());
        match hurried {
            0 => world.notify(Action::Terminate, secs(120)),
            1 => {
                let event = scheduled("instance-event-1", Action::Stop, world.now, secs(300));
                world.announce(Kind::ScheduledEvent, vec![event]);
            }
            _ => world.announce(Kind::AsgTermination, vec![lifecycle("Terminated", Action::Terminate)]),
        }
        assert_eq!(world.evictions().iter().map(|(at, _)| *at).collect::<Vec<_>>(), [secs(100)], "{hurried}");
        assert_eq!(world.status().postponed, None);
        // And alone, from the start.
        let mut world = short_of_addresses(3600);
        world.notify(Action::Terminate, secs(120));
        assert_eq!((world.evictions().len(), world.count(|r| matches!(r, Record::DrainPostponed { .. }))), (1, 0));
    }
}

#[tokio::test]
async fn a_drain_that_has_begun_is_not_held_up_by_a_refusal() {
    let config = Config { on_rebalance_recommendation: Response::Drain, ..config() };
    let mut world = World::new(config);
    world.add_pod(pod("web", 30), stops_after(20));
    world.boot();
    world.announce(Kind::RebalanceRecommendation, vec![recommendation(world.now, secs(0))]);
    let until = world.start.instant + secs(600);
    world.feed(Input::Addresses(Some(Refused { subnets: String::new(), until })));
    world.arrive(pod("late", 30), stops_after(2));
    world.run_until(secs(60));
    assert_eq!((world.outcome("web"), world.outcome("late")), ("graceful", "graceful"));
    assert_eq!(world.count(|record| matches!(record, Record::DrainPostponed { .. })), 0);
}
