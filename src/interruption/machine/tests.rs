//! Tables and properties of the machine in a pure world.

mod accounts;
mod actors;
mod random;
mod restarts;
mod signals;

use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;

use super::world::{Behaviour, World, notice, pod, secs, stops_after};
use crate::config::{Config, OnBlockedEviction, Response};
use crate::drain::eviction::EvictionAnswer;
use crate::drain::pod::Deletion;
use crate::interruption::record::Record;
use crate::interruption::state::{ANNOTATION, State};
use crate::interruption::{Effect, Input};
use crate::signal::{Action, Kind, Observation};

fn config() -> Config {
    Config::for_node("ip-10-0-0-1")
}

fn world() -> World {
    World::new(config())
}

fn blocked(stops: u64, until: u64) -> Behaviour {
    Behaviour { stops_after: Some(secs(stops)), blocked_until: secs(until) }
}

#[tokio::test]
async fn the_fence_is_the_first_thing_that_leaves_after_a_notice() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    assert!(world.sent.is_empty(), "nothing is done before a notice: {:?}", world.sent);
    world.notify(Action::Terminate, secs(120));
    assert!(matches!(world.sent[0].effect, Effect::PatchNode { .. }), "{:?}", world.sent[0]);
    assert_eq!(world.evictions().len(), 1);
    assert_eq!(world.node.unschedulable, Some(true));
    let taints = world.node.taints.clone().unwrap();
    assert_eq!(taints[0]["key"], "spotwarden/interruption");
    assert_eq!(taints[0]["value"], "spot-interruption");
    assert!(
        world.node.labels.as_ref().unwrap().contains_key("node.kubernetes.io/exclude-from-external-load-balancers")
    );
}

#[tokio::test]
async fn events_leave_after_whatever_fences_the_node_or_stops_a_pod() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    let at = |wanted: fn(&Effect) -> bool| world.sent.iter().position(|sent| wanted(&sent.effect)).unwrap();
    assert!(at(|effect| matches!(effect, Effect::Evict(_))) < at(|effect| matches!(effect, Effect::Publish(_))));
}

#[tokio::test]
async fn a_plain_drain_ends_gracefully_with_known_slack() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    assert_eq!(world.outcome("web"), "graceful");
    let slack = world.status().slack_seconds.unwrap();
    assert!((slack - 117.5).abs() < 0.01, "{slack}");
}

#[tokio::test]
async fn the_kubelets_final_deletion_does_not_count_as_a_shorter_grace() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    let mut last = pod("web", 30);
    last.deletion = Some(Deletion { at: world.now.wall, grace: Duration::ZERO });
    world.feed(Input::Pod(last));
    world.run_until(secs(121));
    assert_eq!(world.outcome("web"), "graceful");
}

#[tokio::test]
async fn a_repeated_observation_changes_nothing() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    let sent = world.sent.len();
    for _ in 0..5 {
        world.observe();
    }
    assert_eq!(world.sent.len(), sent);
}

#[tokio::test]
async fn an_empty_answer_after_a_notice_is_noise() {
    let mut world = world();
    world.boot();
    world.notify(Action::Terminate, secs(120));
    let sent = world.sent.len();
    world.feed(Input::Observed(Observation::of(Kind::SpotInterruption, None)));
    assert_eq!(world.sent.len(), sent);
    assert_eq!(world.status().pending.len(), 1);
}

#[tokio::test]
async fn a_budget_that_frees_is_honoured() {
    let mut world = world();
    world.add_pod(pod("web", 30), blocked(2, 40));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    assert_eq!(world.outcome("web"), "graceful");
    assert!(world.deletions().is_empty());
    let (at, _) = *world.evictions().last().unwrap();
    assert!(at < secs(46), "freed at 40 s, evicted at {at:?}");
}

#[tokio::test]
async fn a_budget_that_never_frees_is_overridden_at_the_latest_start() {
    let mut world = world();
    world.add_pod(pod("web", 30), blocked(25, 1000));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    assert_eq!(world.outcome("web"), "forced");
    let deletions = world.deletions();
    assert_eq!(deletions.len(), 1);
    // 120 s − 3 s margin − 30 s grace.
    assert_eq!(deletions[0].0, secs(87));
    assert_eq!(deletions[0].1.grace_seconds, 30);
    let mark = world.sent.iter().position(|sent| matches!(sent.effect, Effect::MarkDisruption(_))).unwrap();
    let delete = world.sent.iter().position(|sent| matches!(sent.effect, Effect::Delete(_))).unwrap();
    assert!(mark < delete, "the Job controller must see the condition before the deletion");
}

#[tokio::test]
async fn wait_never_overrides_a_budget() {
    let mut world = World::new(Config { on_blocked_eviction: OnBlockedEviction::Wait, ..config() });
    world.add_pod(pod("web", 30), blocked(2, 1000));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    assert_eq!(world.outcome("web"), "unfinished");
    assert!(world.deletions().is_empty());
    assert!(world.events().iter().any(|event| event.reason == "DrainIncomplete"));
}

#[tokio::test]
async fn a_grace_beyond_the_notice_is_cut_to_fit() {
    let mut world = world();
    world.add_pod(pod("slow", 300), Behaviour { stops_after: None, blocked_until: Duration::ZERO });
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    assert_eq!(world.evictions()[0].1.grace_seconds, 117);
    assert_eq!(world.outcome("slow"), "shortened");
}

#[tokio::test]
async fn the_shutdown_tail_is_a_second_budget() {
    let mut world = World::new(Config { shutdown_tail: secs(150), ..config() });
    world.add_pod(pod("slow", 300), Behaviour { stops_after: None, blocked_until: Duration::ZERO });
    world.boot();
    world.notify(Action::Terminate, secs(120));
    assert_eq!(world.evictions()[0].1.grace_seconds, 267);
}

#[tokio::test]
async fn least_slack_goes_first_and_critical_pods_wait_for_the_others() {
    let mut world = world();
    for (name, grace) in [("short", 10), ("long", 90), ("middle", 30)] {
        world.add_pod(pod(name, grace), stops_after(5));
    }
    let mut dns = pod("dns", 30);
    dns.critical = true;
    world.add_pod(dns, stops_after(1));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    let order: Vec<&str> = world.evictions().iter().map(|(_, stop)| stop.pod.name.as_str()).collect();
    assert_eq!(order, ["long", "middle", "short", "dns"]);
    assert_eq!(world.evictions()[3].0, Duration::from_millis(5500), "as soon as the others are gone");
}

#[tokio::test]
async fn critical_pods_start_in_time_even_if_others_never_go() {
    let mut world = World::new(Config { on_blocked_eviction: OnBlockedEviction::Wait, ..config() });
    world.add_pod(pod("stuck", 30), blocked(2, 1000));
    let mut dns = pod("dns", 30);
    dns.critical = true;
    world.add_pod(dns, stops_after(1));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    let (at, _) = *world.evictions().iter().find(|(_, stop)| stop.pod.name == "dns").unwrap();
    assert_eq!(at, secs(120 - 3 - 30 - 15));
    assert_eq!(world.outcome("dns"), "graceful");
}

#[tokio::test]
async fn daemon_set_mirror_and_finished_pods_are_left_alone() {
    let mut world = world();
    let (mut daemon, mut mirror, mut finished) = (pod("daemon", 30), pod("mirror", 30), pod("finished", 30));
    (daemon.daemon_set, mirror.mirror, finished.finished) = (true, true, true);
    for view in [daemon, mirror, finished] {
        world.add_pod(view, stops_after(1));
    }
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    assert!(world.evictions().is_empty() && world.deletions().is_empty());
    assert_eq!(["daemon", "mirror", "finished"].map(|name| world.outcome(name)), ["skipped"; 3]);
    assert!(world.events().iter().any(|event| event.reason == "DrainFinished"));
}

#[tokio::test]
async fn a_pod_that_arrives_late_is_drained_too() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(20));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(10));
    world.add_pod(pod("late", 30), stops_after(2));
    world.feed(Input::Pod(pod("late", 30)));
    world.run_until(secs(121));
    assert_eq!(world.outcome("late"), "graceful");
    assert_eq!(world.evictions().last().unwrap().0, secs(10));
}

#[tokio::test]
async fn a_pod_that_arrives_after_the_end_moves_the_slack_and_is_reported_if_it_stays() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.notify(Action::Terminate, secs(60));
    world.run_until(secs(30));
    assert!(world.status().drained);
    for (name, grace, stops) in [("late", 20, Some(secs(1))), ("later", 30, None)] {
        world.add_pod(pod(name, grace), Behaviour { stops_after: stops, blocked_until: Duration::ZERO });
        world.feed(Input::Pod(pod(name, grace)));
    }
    world.run_until(secs(35));
    assert!((world.status().slack_seconds.unwrap() - 28.5).abs() < 0.01);
    let finished = |record: &&Record| matches!(record, Record::DrainFinished { .. });
    world.run_until(secs(61));
    assert_eq!(world.records().into_iter().filter(finished).count(), 1);
    assert_eq!([world.outcome("late"), world.outcome("later")], ["graceful", "shortened"]);
}

#[tokio::test]
async fn a_hibernation_is_fenced_and_told_but_not_drained() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.notify(Action::Hibernate, Duration::ZERO);
    world.run_until(secs(5));
    assert_eq!(world.node.unschedulable, Some(true));
    assert!(world.evictions().is_empty());
    assert!(world.records().iter().any(|record| matches!(record, Record::NotDrained { .. })));
}

#[tokio::test]
async fn foreign_marks_stay_and_are_not_claimed() {
    let mut world = world();
    let foreign =
        serde_json::json!({"key": "team", "value": "a", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"});
    world.node.taints = Some(vec![foreign.clone()]);
    world.node.unschedulable = Some(true);
    world.boot();
    world.notify(Action::Terminate, secs(120));
    assert_eq!(world.node.taints.as_ref().unwrap()[0], foreign);
    let state = State::parse(&world.node.annotations.as_ref().unwrap()[ANNOTATION]).unwrap();
    assert!(!state.marks.taints.is_empty() && !state.marks.labels.is_empty());
    assert!(!state.marks.unschedulable, "somebody else's cordon is not ours");
}

#[tokio::test]
async fn a_concurrent_writer_makes_the_fence_try_again_with_the_new_taints() {
    let mut world = world();
    world.boot();
    // The cluster moved on, the watch has not said so yet.
    world.node.taints = Some(vec![serde_json::json!({"key": "other", "effect": "NoSchedule"})]);
    world.notify(Action::Terminate, secs(120));
    let keys: Vec<_> = world.node.taints.iter().flatten().map(|taint| taint["key"].clone()).collect();
    assert_eq!(keys, ["other", "spotwarden/interruption"]);
}

#[rstest]
#[case::taint("/spec/taints", "taint")]
#[case::label("/metadata/labels", "load balancer label")]
#[case::state("/metadata/annotations", "state annotation")]
#[case::cordon("/spec/unschedulable", "unschedulable")]
#[tokio::test]
async fn a_refused_part_is_left_out_and_the_rest_applied(#[case] path: &'static str, #[case] name: &str) {
    let mut world = world();
    world.denied_path = Some(path);
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    assert_eq!(world.evictions().len(), 1, "evictions never wait for the fence");
    let refused = world.records().into_iter().find_map(|record| match record {
        Record::Fenced { refused, .. } => Some(refused.clone()),
        _ => None,
    });
    assert_eq!(refused, Some(vec![name]));
    let applied = [
        (world.node.taints.is_some(), "/spec/taints"),
        (world.node.unschedulable == Some(true), "/spec/unschedulable"),
        (world.node.labels.as_ref().unwrap().len() == 2, "/metadata/labels"),
        (!world.node.annotations.as_ref().unwrap().is_empty(), "/metadata/annotations"),
    ];
    for (there, part) in applied {
        assert_eq!(there, part != path, "{part}");
    }
}

#[tokio::test]
async fn a_fence_that_fails_is_tried_until_it_holds_and_holds_up_nothing() {
    let mut world = world();
    world.api_down_until = secs(10);
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    assert_eq!(world.evictions().len(), 1);
    world.run_until(secs(13));
    assert_eq!(world.node.unschedulable, Some(true));
    let failures = world.records().into_iter().filter(|record| matches!(record, Record::FenceFailed { .. })).count();
    assert_eq!(failures, 1, "one line per change, not one per attempt");
}

#[tokio::test]
async fn a_restarted_agent_goes_on_with_the_time_that_is_left() {
    let mut world = world();
    world.add_pod(pod("slow", 300), Behaviour { stops_after: None, blocked_until: Duration::ZERO });
    world.add_pod(pod("web", 30), blocked(25, 1000));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(50));
    world.restart();
    world.run_until(secs(121));
    let seen = world.records().into_iter().filter(|record| matches!(record, Record::NoticeSeen { .. })).count();
    assert_eq!(seen, 1);
    let patches = world.sent.iter().filter(|sent| matches!(sent.effect, Effect::PatchNode { .. })).count();
    assert_eq!(patches, 1, "the fence stands already");
    assert_eq!(world.deletions().len(), 1, "the slow pod keeps the grace it got: {:?}", world.deletions());
    assert_eq!((world.outcome("slow"), world.outcome("web")), ("shortened", "forced"));
    let mut keys: Vec<_> = world.events().iter().map(|event| event.key.clone()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 4, "each Event has one key in both lives: {keys:?}");
}

#[tokio::test]
async fn without_imds_a_restarted_agent_works_from_the_annotation_alone() {
    let mut world = world();
    world.add_pod(pod("web", 30), blocked(2, 60));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(50));
    world.machine = super::Machine::new(std::sync::Arc::new(config()));
    world.boot();
    world.run_until(secs(121));
    assert_eq!(world.outcome("web"), "graceful");
}

#[rstest]
#[case::broken("not json")]
#[case::newer(r#"{"version":99}"#)]
#[tokio::test]
async fn an_unusable_annotation_is_reported_and_replaced(#[case] text: &str) {
    let mut world = world();
    world.node.annotations.as_mut().unwrap().insert(ANNOTATION.into(), text.into());
    world.boot();
    assert!(matches!(world.records()[..], [Record::StateUnreadable { .. }]));
    world.notify(Action::Terminate, secs(120));
    assert!(State::parse(&world.node.annotations.as_ref().unwrap()[ANNOTATION]).is_ok());
}

#[tokio::test]
async fn another_actors_long_stop_is_shortened_once_to_the_time_left() {
    let mut world = world();
    let mut view = pod("slow", 300);
    view.deletion = Some(Deletion { at: world.now.wall_of(world.now.instant + secs(300)), grace: secs(300) });
    world.add_pod(view, Behaviour { stops_after: None, blocked_until: Duration::ZERO });
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    assert!(world.evictions().is_empty());
    let graces: Vec<u32> = world.deletions().iter().map(|(_, stop)| stop.grace_seconds).collect();
    assert_eq!(graces, [117]);
    assert_eq!(world.outcome("slow"), "shortened");
}

#[tokio::test]
async fn a_stop_too_old_to_be_rebased_waits_for_the_last_act() {
    let mut world = world();
    let began = world.now.instant;
    world.run_until(secs(70));
    let mut view = pod("slow", 300);
    view.deletion = Some(Deletion { at: world.now.wall_of(began + secs(300)), grace: secs(300) });
    world.add_pod(view, Behaviour { stops_after: None, blocked_until: Duration::ZERO });
    world.boot();
    world.notify(Action::Terminate, secs(50));
    world.run_until(secs(121));
    let deletions: Vec<(Duration, u32)> =
        world.deletions().iter().map(|(at, stop)| (*at, stop.grace_seconds)).collect();
    assert_eq!(deletions, [(secs(114), 1)], "120 s − 3 s margin − 3 s");
}

#[tokio::test]
async fn the_earlier_deadline_wins_and_a_later_one_is_ignored() {
    let mut world = world();
    world.add_pod(pod("web", 30), blocked(25, 1000));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    for lead in [110, 130] {
        let signal = notice(Action::Terminate, world.start, secs(lead));
        world.feed(Input::Observed(Observation::of(Kind::SpotInterruption, [signal])));
    }
    world.run_until(secs(121));
    assert_eq!(world.deletions()[0].0, secs(77));
    assert_eq!(world.records().iter().filter(|record| matches!(record, Record::NoticeSeen { .. })).count(), 1);
}

#[tokio::test]
async fn a_deadline_that_moves_past_a_latest_start_is_acted_on_at_once() {
    let mut world = world();
    world.add_pod(pod("web", 30), blocked(25, 1000));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(50));
    let signal = notice(Action::Terminate, world.start, secs(80));
    world.feed(Input::Observed(Observation::of(Kind::SpotInterruption, [signal])));
    assert_eq!(world.deletions().len(), 1);
    assert_eq!(world.deletions()[0].1.grace_seconds, 27);
}

#[rstest]
#[case::observe(Response::Observe, false, None)]
#[case::taint(Response::Taint, false, Some("PreferNoSchedule"))]
#[case::cordon(Response::Cordon, true, Some("NoSchedule"))]
#[tokio::test]
async fn each_response_does_what_it_says_and_no_more(
    #[case] response: Response,
    #[case] cordoned: bool,
    #[case] effect: Option<&str>,
) {
    let mut world = World::new(Config { on_spot_interruption: response, ..config() });
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    assert_eq!(world.node.unschedulable == Some(true), cordoned);
    let tainted = world.node.taints.iter().flatten().next().map(|taint| taint["effect"].as_str().unwrap().to_owned());
    assert_eq!(tainted.as_deref(), effect);
    assert!(world.evictions().is_empty());
    assert!(world.events().iter().any(|event| event.reason == "SpotInterruption"));
}

#[tokio::test]
async fn a_notice_seen_after_its_time_still_tells_every_pod() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.run_until(secs(60));
    let signal = notice(Action::Terminate, world.start, secs(30));
    world.feed(Input::Observed(Observation::of(Kind::SpotInterruption, [signal])));
    world.run_until(secs(120));
    assert_eq!(world.evictions().len(), 1);
    assert_eq!(world.outcome("web"), "shortened");
}

#[tokio::test]
async fn a_notice_waits_briefly_for_the_node_to_tell_whether_it_is_news() {
    let mut world = world();
    world.notify(Action::Terminate, secs(120));
    assert!(world.sent.is_empty());
    world.run_until(secs(1));
    world.boot();
    assert!(matches!(world.sent[0].effect, Effect::PatchNode { .. }));
}

#[tokio::test]
async fn a_budget_that_frees_just_before_the_latest_start_is_still_asked() {
    let mut world = world();
    let names: Vec<String> = (0..20).map(|index| format!("web-{index}")).collect();
    for name in &names {
        world.add_pod(pod(name, 30), blocked(2, 85));
    }
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    assert!(world.deletions().is_empty(), "{:?}", world.deletions());
    assert!(names.iter().all(|name| world.outcome(name) == "graceful"));
}

#[tokio::test]
async fn throttling_is_no_refusal_even_past_the_latest_start() {
    let mut world = world();
    world.add_pod(pod("slow", 300), Behaviour { stops_after: None, blocked_until: Duration::ZERO });
    world.canned.push_back(EvictionAnswer::Throttled(Some(secs(1))));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    let times: Vec<Duration> = world.evictions().iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [secs(0), secs(1)], "as the server asked");
    assert!(world.deletions().is_empty(), "{:?}", world.deletions());
    assert_eq!(world.outcome("slow"), "shortened");
}

#[tokio::test]
async fn a_budget_that_refuses_past_the_latest_start_is_overridden_at_once() {
    let mut world = world();
    world.add_pod(pod("slow", 300), blocked(400, 1000));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    assert_eq!(world.deletions().len(), 1);
    world.run_until(secs(121));
    assert_eq!(world.outcome("slow"), "forced");
}

#[tokio::test]
async fn an_api_server_that_is_gone_past_the_latest_start_is_asked_with_growing_pauses() {
    let mut world = world();
    world.add_pod(pod("slow", 300), Behaviour { stops_after: None, blocked_until: Duration::ZERO });
    world.pods_down_until = secs(60);
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    let asked = world.evictions().len() + world.deletions().len();
    assert!((30..=45).contains(&asked), "{asked} requests for one pod in a minute");
    assert_ne!(world.outcome("slow"), "unfinished");
}

#[tokio::test]
async fn a_namespace_that_goes_away_is_waited_for_until_the_latest_start() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.canned = vec![EvictionAnswer::NamespaceTerminating; 1000].into();
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    let times: Vec<Duration> = world.deletions().iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [secs(87)]);
    assert_eq!(world.outcome("web"), "forced");
}

#[tokio::test]
async fn contention_on_a_budget_is_asked_again() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.canned.push_back(EvictionAnswer::Unknown("the object has been modified".into()));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    assert_eq!((world.evictions().len(), world.outcome("web")), (2, "graceful"));
}

#[tokio::test]
async fn an_eviction_that_may_not_be_made_is_forced_at_the_latest_start() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.canned = vec![EvictionAnswer::Refused("403 no".into()); 1000].into();
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    assert_eq!((world.deletions()[0].0, world.outcome("web")), (secs(87), "forced"));
}

#[tokio::test]
async fn a_deletion_that_finds_the_pod_gone_forced_nothing() {
    let mut world = world();
    world.add_pod(pod("web", 30), blocked(2, 1000));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(86));
    world.pods_vanish_unseen();
    world.run_until(secs(121));
    assert_eq!((world.deletions().len(), world.outcome("web")), (1, "graceful"));
}

#[tokio::test]
async fn another_actors_long_stop_of_a_critical_pod_is_shortened_although_others_are_left() {
    let mut world = world();
    let mut dns = pod("dns", 30);
    dns.critical = true;
    dns.deletion = Some(Deletion { at: world.now.wall_of(world.now.instant + secs(300)), grace: secs(300) });
    world.add_pod(dns, Behaviour { stops_after: None, blocked_until: Duration::ZERO });
    world.add_pod(pod("web", 30), stops_after(20));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    let graces: Vec<u32> = world.deletions().iter().map(|(_, stop)| stop.grace_seconds).collect();
    assert_eq!(graces, [117]);
}

#[tokio::test]
async fn pods_that_appear_after_the_deadline_are_nobodys_failure() {
    let mut world = world();
    world.boot();
    world.notify(Action::Terminate, secs(60));
    world.run_until(secs(100));
    let slack = world.status().slack_seconds;
    for index in 0..50 {
        world.feed(Input::Pod(pod(&format!("survivor-{index}"), 30)));
    }
    assert_eq!(world.outcome("survivor-0"), "none");
    assert_eq!((world.status().slack_seconds, world.status().pods.len()), (slack, 0));
}

#[tokio::test]
async fn a_pod_that_ended_behind_a_finalizer_is_not_unfinished() {
    let mut world = world();
    world.add_pod(pod("job", 30), stops_after(2));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(2));
    world.finish_all_behind_finalizers();
    world.run_until(secs(121));
    assert_eq!((world.outcome("job"), world.deletions().len()), ("graceful", 0));
    assert!((world.status().slack_seconds.unwrap() - 118.0).abs() < 0.01);
}

#[tokio::test]
async fn an_object_in_its_last_deletion_is_left_to_go() {
    let mut world = world();
    let mut view = pod("web", 30);
    view.deletion = Some(Deletion { at: world.now.wall, grace: Duration::ZERO });
    world.add_pod(view.clone(), stops_after(2));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(1));
    assert!(world.evictions().is_empty() && world.deletions().is_empty());
    world.feed(Input::PodGone(view.id));
    assert_eq!(world.outcome("web"), "graceful");
}

#[tokio::test]
async fn events_wait_until_the_node_that_they_are_about_is_known() {
    let mut world = world();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(5));
    assert!(world.records().iter().any(|record| matches!(record, Record::NoticeSeen { .. })), "patience has an end");
    assert!(world.events().is_empty(), "{:?}", world.events());
    world.boot();
    let reasons: Vec<&str> = world.events().iter().map(|event| event.reason).collect();
    assert_eq!(reasons, ["SpotInterruption", "Fenced", "DrainStarted"]);
    assert!(world.events().iter().all(|event| event.key.starts_with("boot-1/")), "{:?}", world.events());
}

#[tokio::test]
async fn a_restart_with_the_api_server_away_does_not_forget_what_is_ours() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(40));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    let before = world.node.clone();
    world.machine = super::Machine::new(std::sync::Arc::new(config()));
    world.observe();
    world.run_until(secs(10));
    world.boot();
    world.run_until(secs(20));
    assert_eq!(world.node, before);
}

#[tokio::test]
async fn marks_that_outlived_a_reboot_stay_ours() {
    let mut world = world();
    world.boot();
    world.notify(Action::Stop, secs(120));
    world.run_until(secs(121));
    world.node.boot_id = Some("boot-2".into());
    world.machine = super::Machine::new(std::sync::Arc::new(config()));
    world.boot();
    assert!(world.status().pending.is_empty(), "the notice was about the earlier life");
    world.notify(Action::Stop, secs(120));
    let state = State::parse(&world.node.annotations.as_ref().unwrap()[ANNOTATION]).unwrap();
    assert_eq!(state.boot_id.as_deref(), Some("boot-2"));
    assert!(
        !state.marks.taints.is_empty() && state.marks.unschedulable && !state.marks.labels.is_empty(),
        "{:?}",
        state.marks
    );
}

#[tokio::test]
async fn a_hibernation_does_not_hide_a_later_termination() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.notify(Action::Hibernate, Duration::ZERO);
    world.run_until(secs(600));
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(721));
    assert_eq!(world.outcome("web"), "graceful");
    let state = State::parse(&world.node.annotations.as_ref().unwrap()[ANNOTATION]).unwrap();
    assert!(state.announcements.iter().any(|one| one.action == Action::Terminate));
    assert!(
        !state.marks.taints.is_empty() && state.marks.unschedulable && !state.marks.labels.is_empty(),
        "{:?}",
        state.marks
    );
}

#[tokio::test]
async fn a_restarted_agent_tells_again_what_the_one_before_may_not_have_got_out() {
    let mut world = world();
    world.boot();
    world.notify(Action::Terminate, secs(120));
    let told = world.events().len();
    world.run_until(secs(1));
    world.restart();
    let (first, second) = (&world.events()[..told], &world.events()[told..]);
    for event in first {
        assert!(second.iter().any(|again| again.key == event.key), "{}: the same key, so the same Event", event.reason);
    }
    world.run_until(secs(130));
    let told = world.events().len();
    world.restart();
    let told_late: Vec<&str> = world.events()[told..].iter().map(|event| event.reason).collect();
    assert!(!told_late.contains(&"SpotInterruption"), "past the time it is no news: {told_late:?}");
}

#[tokio::test]
async fn a_node_of_which_every_mark_was_refused_is_not_fenced() {
    let mut world = world();
    world.denied_path = Some("/");
    world.boot();
    world.notify(Action::Terminate, secs(120));
    assert!(!world.status().fenced);
    assert!(world.events().iter().all(|event| event.reason != "Fenced"), "{:?}", world.events());
}

#[rstest]
#[case::ahead(300)]
#[case::behind(-300)]
#[tokio::test]
async fn a_restart_on_a_wrong_clock_takes_the_deadline_from_the_platform(#[case] skew: i64) {
    let mut world = world();
    let shift = jiff::SignedDuration::from_secs(skew);
    world.now.wall = world.now.wall.checked_add(shift).unwrap();
    world.boot();
    let mut signal = notice(Action::Terminate, world.now, secs(120));
    signal.deadline.as_mut().unwrap().wall = world.start.plus(secs(120)).wall;
    world.notify_signal(signal);
    world.run_until(secs(20));
    world.add_pod(pod("late", 300), Behaviour { stops_after: None, blocked_until: Duration::ZERO });
    world.restart();
    world.run_until(secs(22));
    let graces: Vec<u32> = world.evictions().iter().map(|(_, stop)| stop.grace_seconds).collect();
    assert_eq!(graces, [97]);
    assert!(world.deletions().is_empty(), "{:?}", world.deletions());
}

#[tokio::test]
async fn an_earlier_time_that_has_passed_already_leaves_the_overdue_window() {
    let mut world = world();
    world.add_pod(pod("slow", 300), Behaviour { stops_after: None, blocked_until: Duration::ZERO });
    world.boot();
    world.notify(Action::Terminate, secs(600));
    world.run_until(secs(50));
    let signal = notice(Action::Terminate, world.start, secs(40));
    world.feed(Input::Observed(Observation::of(Kind::SpotInterruption, [signal])));
    world.run_until(secs(100));
    assert_eq!(world.outcome("slow"), "shortened");
    assert!(world.status().drained);
}

#[tokio::test]
async fn without_a_deadline_budgets_hold_and_a_deadline_turns_the_same_drain_around() {
    let mut world = world();
    world.add_pod(pod("stuck", 30), blocked(2, 10_000));
    world.add_pod(pod("web", 300), stops_after(2));
    world.boot();
    let mut signal = notice(Action::Terminate, world.start, Duration::ZERO);
    signal.deadline = None;
    world.notify_signal(signal);
    world.run_until(secs(1000));
    assert!(world.deletions().is_empty(), "{:?}", world.deletions());
    assert_eq!((world.outcome("web"), world.outcome("stuck")), ("graceful", "none"));
    assert!(world.evictions().len() < 260, "the pace is gentle: {}", world.evictions().len());
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(1121));
    assert_eq!((world.deletions()[0].0, world.outcome("stuck")), (secs(1087), "forced"));
    assert_eq!(world.records().iter().filter(|record| matches!(record, Record::DrainStarted { .. })).count(), 1);
}

#[tokio::test]
async fn no_call_may_take_longer_than_what_is_left() {
    let mut world = World::new(Config { on_blocked_eviction: OnBlockedEviction::Wait, ..config() });
    world.add_pod(pod("web", 30), blocked(2, 1000));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(121));
    for (at, stop) in world.evictions() {
        let left = secs(117).saturating_sub(at);
        assert!(stop.timeout <= left.max(Duration::from_millis(500)), "at {at:?}: {:?}", stop.timeout);
        assert!(stop.timeout <= secs(12));
    }
}

#[derive(Clone, Debug)]
struct PodPlan {
    grace: u64,
    stops: Option<u64>,
    blocked: u64,
    critical: bool,
    daemon: bool,
    arrives: u64,
}

fn pod_plan() -> impl Strategy<Value = PodPlan> {
    let blocked = prop_oneof![3 => Just(0_u64), 1 => 1..200_u64, 1 => Just(1000_u64)];
    let arrives = prop_oneof![4 => Just(0_u64), 1 => 1..60_u64];
    (1..400_u64, proptest::option::of(0..400_u64), blocked, any::<bool>(), proptest::bool::weighted(0.1), arrives)
        .prop_map(|(grace, stops, blocked, critical, daemon, arrives)| PodPlan {
            grace,
            stops,
            blocked,
            critical,
            daemon,
            arrives,
        })
}

fn any_pods() -> impl Strategy<Value = Vec<PodPlan>> {
    proptest::collection::vec(pod_plan(), 0..30)
}

fn play(pods: &[PodPlan], lead: u64, restarts: &[u64], on_blocked: OnBlockedEviction) -> World {
    let mut world = World::new(Config { on_blocked_eviction: on_blocked, ..config() });
    let view = |index: usize, plan: &PodPlan| {
        let mut view = pod(&format!("p{index}"), plan.grace);
        (view.critical, view.daemon_set) = (plan.critical, plan.daemon);
        view
    };
    let behaviour = |plan: &PodPlan| Behaviour { stops_after: plan.stops.map(secs), blocked_until: secs(plan.blocked) };
    for (index, plan) in pods.iter().enumerate().filter(|(_, plan)| plan.arrives == 0) {
        world.add_pod(view(index, plan), behaviour(plan));
    }
    world.boot();
    world.notify(Action::Terminate, secs(lead));
    for second in 1..=lead + 5 {
        world.run_until(secs(second));
        for (index, plan) in pods.iter().enumerate().filter(|(_, plan)| plan.arrives == second) {
            world.add_pod(view(index, plan), behaviour(plan));
            world.feed(Input::Pod(view(index, plan)));
        }
        if restarts.contains(&second) {
            world.restart();
        }
        world.observe();
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_pod_ends_in_exactly_one_outcome(pods in any_pods(), lead in 10..150_u64) {
        let world = play(&pods, lead, &[], OnBlockedEviction::Delete);
        for (index, plan) in pods.iter().enumerate().filter(|(_, plan)| plan.arrives < lead) {
            let outcome = world.outcome(&format!("p{index}"));
            prop_assert!(outcome != "none" && outcome != "several", "p{} {:?}: {}", index, plan, outcome);
            prop_assert_eq!(outcome == "skipped", plan.daemon);
        }
    }

    #[test]
    fn no_grace_reaches_past_the_limit_or_beyond_the_pods_own(
        pods in any_pods(), (lead, restart) in (10..150_u64).prop_flat_map(|lead| (Just(lead), 1..lead)),
    ) {
        let world = play(&pods, lead, &[restart], OnBlockedEviction::Delete);
        for (at, stop) in world.evictions().into_iter().chain(world.deletions()) {
            let index: usize = stop.pod.name[1..].parse().unwrap();
            prop_assert!(u64::from(stop.grace_seconds) <= pods[index].grace);
            prop_assert!(stop.grace_seconds == 1 || at + secs(stop.grace_seconds.into()) <= secs(lead - 3));
        }
    }

    #[test]
    fn with_delete_nobody_is_cut_off_whose_stop_was_known_in_time(pods in any_pods(), lead in 20..150_u64) {
        let world = play(&pods, lead, &[], OnBlockedEviction::Delete);
        for (index, plan) in pods.iter().enumerate().filter(|(_, plan)| plan.arrives + 5 < lead) {
            prop_assert!(world.outcome(&format!("p{index}")) != "unfinished", "p{} {:?}", index, plan);
        }
    }

    #[test]
    fn a_budget_is_overridden_only_from_the_latest_start_on(pods in any_pods(), lead in 10..150_u64) {
        let world = play(&pods, lead, &[], OnBlockedEviction::Delete);
        for (at, stop) in world.deletions() {
            let plan = &pods[stop.pod.name[1..].parse::<usize>().unwrap()];
            prop_assert!(plan.blocked > 0);
            prop_assert!(at + secs(plan.grace) >= secs(lead - 3), "{:?} {:?}", at, plan);
        }
    }

    #[test]
    fn a_restart_at_any_second_changes_no_outcome_and_reports_nothing_twice(
        pods in any_pods(), lead in 30..150_u64, restart in 1..29_u64,
    ) {
        let straight = play(&pods, lead, &[], OnBlockedEviction::Delete);
        let broken = play(&pods, lead, &[restart], OnBlockedEviction::Delete);
        // Where a budget frees at some moment, the outcome depends on when it is asked next.
        let steady = |plan: &PodPlan| !plan.daemon && (plan.blocked == 0 || plan.blocked > lead);
        for (index, plan) in pods.iter().enumerate() {
            let name = format!("p{index}");
            if steady(plan) {
                prop_assert_eq!(straight.outcome(&name), broken.outcome(&name));
            }
        }
        let seen = broken.records().iter().filter(|record| matches!(record, Record::NoticeSeen { .. })).count();
        prop_assert_eq!(seen, 1);
    }

    #[test]
    fn wait_sends_no_deletion_for_a_pod_that_was_not_stopping(pods in any_pods(), lead in 10..150_u64) {
        let world = play(&pods, lead, &[], OnBlockedEviction::Wait);
        prop_assert!(world.deletions().is_empty());
    }
}
