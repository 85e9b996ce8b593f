//! A restart at every boundary between two effects: before the effect left, and after it left but before its answer came.

use std::collections::BTreeMap;

use super::super::world::{Crash, World, lifecycle, notice, pod, recommendation, scheduled, secs, stops_after};
use super::{blocked, world};
use crate::interruption::Effect;
use crate::interruption::record::Record;
use crate::k8s::node::NodeView;
use crate::signal::{Action, Kind};

/// What must not depend on restarts.
#[derive(Debug, PartialEq)]
struct End {
    node: NodeView,
    outcomes: BTreeMap<&'static str, &'static str>,
    /// Different Events by reason.
    events: BTreeMap<&'static str, usize>,
    /// Pods that were deleted past a budget, and with how much grace.
    forced: Vec<(String, u32)>,
}

const PODS: [&str; 4] = ["quick", "slow", "stuck", "coredns"];

/// Recommendation, lifecycle state, notice, and each of them over that can be.
fn play(crash: Option<(usize, Crash)>) -> World {
    let mut world = world();
    world.crash = crash;
    world.node.taints = Some(vec![serde_json::json!({"key": "dedicated", "effect": "NoSchedule"})]);
    world.add_pod(pod("quick", 30), stops_after(2));
    world.add_pod(pod("slow", 200), stops_after(150));
    world.add_pod(pod("stuck", 20), blocked(5, 100_000));
    let mut critical = pod("coredns", 10);
    critical.critical = true;
    world.add_pod(critical, stops_after(3));
    world.boot();
    world.announce(Kind::RebalanceRecommendation, vec![recommendation(world.start, secs(1))]);
    for second in 1..400 {
        match second {
            5 => world.announce(Kind::AsgTermination, vec![lifecycle("Terminated", Action::Terminate)]),
            60 => world.announce(Kind::ScheduledEvent, vec![scheduled("e", Action::Stop, world.start, secs(250))]),
            _ => {}
        }
        world.run_until(secs(second));
        world.observe();
    }
    world.withdraw(Kind::AsgTermination);
    world.run_until(secs(405));
    world.withdraw(Kind::ScheduledEvent);
    world.run_until(secs(410));
    world.observe();
    // Long after the recommendation expired.
    world.run_until(secs(5 * 3600));
    world.observe();
    world.run_until(secs(5 * 3600 + 10));
    world
}

/// The patch that takes the annotation away has left, and the Event that tells so has not.
fn last_word(effect: &Effect, crash: Crash) -> bool {
    let Effect::PatchNode { ops, .. } = effect else {
        return crash == Crash::Before && matches!(effect, Effect::Publish(event) if event.reason == "Restored");
    };
    let removes =
        |op: &serde_json::Value| op["op"] == "remove" && op["path"] == "/metadata/annotations/spotwarden~1state";
    crash == Crash::After && ops.as_array().unwrap().iter().any(removes)
}

fn end(world: &World) -> End {
    let reasons = [
        "RebalanceRecommendation",
        "ASGTermination",
        "ScheduledEvent",
        "Fenced",
        "DrainStarted",
        "DrainFinished",
        "DrainIncomplete",
        "Restored",
    ];
    End {
        node: world.node.clone(),
        outcomes: PODS.into_iter().map(|name| (name, world.last_outcome(name))).collect(),
        events: reasons.into_iter().map(|reason| (reason, world.published(reason))).collect(),
        forced: world.forced(),
    }
}

#[tokio::test]
async fn a_restart_at_any_boundary_between_effects_changes_nothing_in_the_end() {
    let straight = play(None);
    let (expected, effects) = (end(&straight), straight.sent.len());
    assert_eq!(expected.outcomes["slow"], "graceful");
    assert_eq!(expected.outcomes["stuck"], "forced");
    assert_eq!(
        expected.node,
        NodeView {
            taints: Some(vec![serde_json::json!({"key": "dedicated", "effect": "NoSchedule"})]),
            ..super::super::world::node()
        }
    );
    assert!(effects > 30, "{effects}");
    for at in 0..effects {
        for crash in [Crash::Before, Crash::After] {
            let world = play(Some((at, crash)));
            let mut end = end(&world);
            if last_word(&straight.sent[at].effect, crash) {
                // With the annotation goes the memory that something is left to tell.
                end.events.insert("Restored", 1);
            }
            assert_eq!(end, expected, "killed {crash:?} effect {at}: {:?}", straight.sent[at].effect);
        }
    }
}

#[tokio::test]
async fn a_restart_at_any_boundary_of_a_spot_drain_tells_and_counts_it_once() {
    let play = |crash| {
        let mut world = world();
        world.crash = crash;
        world.add_pod(pod("quick", 30), stops_after(2));
        world.add_pod(pod("stuck", 20), blocked(5, 100_000));
        world.boot();
        world.notify_signal(notice(Action::Terminate, world.start, secs(60)));
        for second in 1..65 {
            world.run_until(secs(second));
            world.observe();
        }
        world
    };
    let straight = play(None);
    for at in 0..straight.sent.len() {
        for crash in [Crash::Before, Crash::After] {
            let world = play(Some((at, crash)));
            let context = format!("killed {crash:?} effect {at}: {:?}", straight.sent[at].effect);
            assert_eq!((world.published("SpotInterruption"), world.published("DrainFinished")), (1, 1), "{context}");
            assert_eq!(world.last_outcome("stuck"), "forced", "{context}");
            let fence_was_there =
                world.sent.iter().take(at).any(|sent| matches!(sent.effect, Effect::PatchNode { .. }));
            let seen = world.count(|record| matches!(record, Record::NoticeSeen { .. }));
            assert!(seen == 1 || !fence_was_there, "{context}: counted {seen} times");
            assert_eq!(
                NodeView { annotations: None, ..world.node },
                NodeView { annotations: None, ..straight.node.clone() }
            );
        }
    }
}
