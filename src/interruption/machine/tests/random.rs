//! Ten thousand random worlds in each run: signals, restarts, reboots, foreign writers and failures in any order.
//!
//! Each world follows from a number. A failure prints it together with the smallest plan that still fails;
//! `SPOTWARDEN_WORLD=<number> cargo test --lib random` plays that world alone.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher};

use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, RngAlgorithm, TestCaseResult, TestRng, TestRunner};
use serde_json::json;

use super::super::world::{Behaviour, Crash, Sent, World, lifecycle, pod, recommendation, scheduled, secs};
use crate::config::{Config, MarkStyle, OnBlockedEviction, Response};
use crate::interruption::Effect;
use crate::interruption::fence::{self, LOAD_BALANCER_LABEL};
use crate::interruption::record::Record;
use crate::interruption::state::{ANNOTATION, State};
use crate::k8s::node::NodeView;
use crate::signal::{Action, Kind, Signal};

/// Worlds of one run.
const WORLDS: u64 = 10_000;
/// Tests that share them, so that they use more than one core.
const SHARES: u64 = 4;

/// What somebody else grants the pods that he evicts.
const THEIR_GRACE: u32 = 300;

#[derive(Clone, Debug)]
struct Plan {
    responses: [Response; 4],
    wait: bool,
    handler_style: bool,
    expiry: u64,
    lead: u64,
    hook: u64,
    pods: Vec<PodPlan>,
    before: Vec<Foreign>,
    steps: Vec<(u64, Happening)>,
    crash: Option<(usize, bool)>,
}

#[derive(Clone, Debug)]
struct PodPlan {
    grace: u64,
    stops: Option<u64>,
    blocked: u64,
}

#[derive(Clone, Debug)]
enum Happening {
    Notice(u64),
    Recommend(u64),
    Schedule(u8, u64),
    Cancel(u8),
    Lifecycle(u8),
    InService,
    Foreign(Foreign),
    Restart,
    Reboot,
    ApiDown(u64),
    AnswersLost(u64),
    Denied(u8),
    Allowed,
    EvictedByOthers(u8),
    Arrives(u8),
}

/// What somebody else does to the node.
#[derive(Clone, Copy, Debug)]
enum Foreign {
    Cordon,
    Uncordon,
    Taint(u8),
    Untaint,
    RemoveOurTaint,
    Label,
    Unlabel,
    Unrelated(u8),
}

fn response() -> impl Strategy<Value = Response> {
    prop_oneof![
        1 => Just(Response::Observe),
        2 => Just(Response::Taint),
        2 => Just(Response::Cordon),
        4 => Just(Response::Drain),
    ]
}

fn foreign() -> impl Strategy<Value = Foreign> {
    prop_oneof![
        Just(Foreign::Cordon),
        Just(Foreign::Uncordon),
        (0..3_u8).prop_map(Foreign::Taint),
        Just(Foreign::Untaint),
        Just(Foreign::RemoveOurTaint),
        Just(Foreign::Label),
        Just(Foreign::Unlabel),
        (0..3_u8).prop_map(Foreign::Unrelated),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        1 => (0..200_u64).prop_map(Happening::Notice),
        3 => (0..100_u64).prop_map(Happening::Recommend),
        3 => (0..3_u8, 0..900_u64).prop_map(|(id, lead)| Happening::Schedule(id, lead)),
        2 => (0..3_u8).prop_map(Happening::Cancel),
        3 => (0..4_u8).prop_map(Happening::Lifecycle),
        2 => Just(Happening::InService),
        6 => foreign().prop_map(Happening::Foreign),
        2 => Just(Happening::Restart),
        1 => Just(Happening::Reboot),
        1 => (1..40_u64).prop_map(Happening::ApiDown),
        1 => (1..10_u64).prop_map(Happening::AnswersLost),
        1 => (0..3_u8).prop_map(Happening::Denied),
        1 => Just(Happening::Allowed),
        1 => (0..6_u8).prop_map(Happening::EvictedByOthers),
        1 => (0..6_u8).prop_map(Happening::Arrives),
    ]
}

fn pod_plan() -> impl Strategy<Value = PodPlan> {
    let blocked = prop_oneof![3 => Just(0_u64), 1 => 1..200_u64, 1 => Just(1_000_000_u64)];
    (1..400_u64, proptest::option::of(0..400_u64), blocked).prop_map(|(grace, stops, blocked)| PodPlan {
        grace,
        stops,
        blocked,
    })
}

fn plan() -> impl Strategy<Value = Plan> {
    let settings = (
        [response(), response(), response(), response()],
        any::<bool>(),
        proptest::bool::weighted(0.2),
        60..400_u64,
        60..300_u64,
        30..300_u64,
    );
    let world = (
        proptest::collection::vec(pod_plan(), 0..6),
        proptest::collection::vec(foreign(), 0..3),
        proptest::collection::vec((0..60_u64, happening()), 1..16),
        proptest::option::of((0..40_usize, any::<bool>())),
    );
    (settings, world).prop_map(
        |((responses, wait, handler_style, expiry, lead, hook), (pods, before, steps, crash))| Plan {
            responses,
            wait,
            handler_style,
            expiry,
            lead,
            hook,
            pods,
            before,
            steps,
            crash,
        },
    )
}

/// A world, and beside it the node as it would be without the agent.
struct History {
    world: World,
    others: NodeView,
    lifecycle: Option<Signal>,
    events: Vec<Signal>,
    draining_announced: bool,
}

impl History {
    fn new(plan: &Plan) -> Self {
        let mut config = Config::for_node("ip-10-0-0-1");
        [
            config.on_spot_interruption,
            config.on_rebalance_recommendation,
            config.on_scheduled_event,
            config.on_asg_termination,
        ] = plan.responses;
        config.on_blocked_eviction = if plan.wait { OnBlockedEviction::Wait } else { OnBlockedEviction::Delete };
        config.rebalance_expiry = secs(plan.expiry);
        config.scheduled_event_lead = secs(plan.lead);
        config.asg_hook_timeout = secs(plan.hook);
        if plan.handler_style {
            config.marks.style = MarkStyle::NodeTerminationHandler;
        }
        let mut world = World::new(config);
        for (index, pod_plan) in plan.pods.iter().enumerate() {
            let behaviour = Behaviour { stops_after: pod_plan.stops.map(secs), blocked_until: secs(pod_plan.blocked) };
            world.add_pod(pod(&format!("p{index}"), pod_plan.grace), behaviour);
        }
        let others = world.node.clone();
        let mut history = Self { world, others, lifecycle: None, events: Vec::new(), draining_announced: false };
        for change in &plan.before {
            history.change(*change);
        }
        history.world.crash = plan.crash.map(|(at, after)| (at, if after { Crash::After } else { Crash::Before }));
        history.world.boot();
        history.world.observe();
        history
    }

    /// Applied to the node as it is; what really changed there is also true without the agent.
    fn change(&mut self, change: Foreign) {
        let ours = |key: &str| key.starts_with("spotwarden/") || key.starts_with("aws-node-termination-handler/");
        let (node, others) = (&mut self.world.node, &mut self.others);
        match change {
            // `kubectl cordon` of a cordoned node sends nothing.
            Foreign::Cordon if node.unschedulable != Some(true) => {
                (node.unschedulable, others.unschedulable) = (Some(true), Some(true));
            }
            Foreign::Uncordon => (node.unschedulable, others.unschedulable) = (None, None),
            Foreign::Taint(which) => {
                let taint = json!({"key": format!("dedicated-{which}"), "value": "x", "effect": "NoSchedule"});
                for node in [node, others] {
                    let taints = node.taints.get_or_insert_default();
                    if !taints.contains(&taint) {
                        taints.push(taint.clone());
                    }
                }
            }
            Foreign::Untaint | Foreign::RemoveOurTaint => {
                let own = matches!(change, Foreign::RemoveOurTaint);
                for node in [node, others] {
                    let taints = node.taints.get_or_insert_default();
                    taints.retain(|taint| ours(taint["key"].as_str().unwrap()) != own);
                    node.taints.take_if(|taints| taints.is_empty());
                }
            }
            Foreign::Label => {
                for node in [node, others] {
                    node.labels.get_or_insert_default().insert(LOAD_BALANCER_LABEL.into(), "theirs".into());
                }
            }
            Foreign::Unlabel => {
                for node in [node, others] {
                    node.labels.get_or_insert_default().remove(LOAD_BALANCER_LABEL);
                }
            }
            Foreign::Unrelated(which) => {
                for node in [node, others] {
                    node.annotations.get_or_insert_default().insert(format!("theirs-{which}"), "x".into());
                }
            }
            Foreign::Cordon => {}
        }
        let node = self.world.node.clone();
        if self.world.at() > secs(0) {
            self.world.foreign(|is| *is = node);
        }
    }

    fn happen(&mut self, happening: &Happening) {
        if matches!(happening, Happening::Schedule(..) | Happening::Lifecycle(_)) {
            // Nobody sees what may return twice within one second.
            self.world.run_until(self.world.at() + secs(1));
        }
        let now = self.world.now;
        match happening {
            Happening::Notice(lead) => {
                self.draining_announced = true;
                self.world.notify(Action::Terminate, secs(*lead));
            }
            Happening::Recommend(ago) => {
                self.draining_announced = true;
                self.world.announce(Kind::RebalanceRecommendation, vec![recommendation(now, secs(*ago))]);
            }
            Happening::Schedule(id, lead) => {
                self.draining_announced = true;
                let event = scheduled(&format!("e{id}"), Action::Stop, now, secs(*lead));
                self.events.retain(|other| other.id != event.id);
                self.events.push(event);
                self.world.announce(Kind::ScheduledEvent, self.events.clone());
            }
            Happening::Cancel(id) => {
                self.events.retain(|other| other.id != format!("scheduled-event/e{id}"));
                self.world.announce(Kind::ScheduledEvent, self.events.clone());
            }
            Happening::Lifecycle(which) => {
                let words = [
                    ("Terminated", Action::Terminate),
                    ("Standby", Action::Standby),
                    ("Warmed:Stopped", Action::Stop),
                    ("Warmed:Terminated", Action::Terminate),
                ];
                let (word, action) = words[usize::from(*which)];
                self.draining_announced |= action.clears_the_node();
                self.lifecycle = Some(lifecycle(word, action));
                self.world.announce(Kind::AsgTermination, self.lifecycle.clone().into_iter().collect());
            }
            Happening::InService => {
                self.lifecycle = None;
                self.world.withdraw(Kind::AsgTermination);
            }
            Happening::Foreign(change) => self.change(*change),
            Happening::Restart => self.world.restart(),
            Happening::Reboot => {
                // Its pods start anew, and what was announced has happened.
                (self.lifecycle, self.events) = (None, Vec::new());
                self.world.reboot();
                self.others.boot_id.clone_from(&self.world.node.boot_id);
            }
            Happening::ApiDown(for_seconds) => self.world.api_down_until = self.world.at() + secs(*for_seconds),
            Happening::AnswersLost(for_seconds) => {
                self.world.answers_lost_until = self.world.at() + secs(*for_seconds);
            }
            Happening::Denied(which) => {
                self.world.denied_path =
                    Some(["/spec/taints", "/metadata/labels", "/spec/unschedulable"][usize::from(*which)]);
            }
            Happening::Allowed => self.world.denied_path = None,
            Happening::EvictedByOthers(index) => self.world.try_evict_by_others(&format!("p{index}"), THEIR_GRACE),
            Happening::Arrives(index) => {
                let name = format!("late-{index}-{}", self.world.at().as_secs());
                self.world.arrive(pod(&name, 20), Behaviour { stops_after: Some(secs(3)), blocked_until: secs(0) });
            }
        }
    }

    /// Everything that can be over is over, every failure is healed, and time passes.
    fn all_over(&mut self, plan: &Plan) {
        self.world.denied_path = None;
        self.world.withdraw(Kind::AsgTermination);
        self.world.withdraw(Kind::ScheduledEvent);
        for _ in 0..12 {
            let next = self.world.at() + secs(plan.expiry.max(120) / 10);
            self.world.run_until(next);
            self.world.observe();
        }
        self.world.run_until(self.world.at() + secs(200));
    }
}

/// The node without what the annotation says to be ours, and without the annotation.
fn stripped(node: &NodeView) -> NodeView {
    let mut node = node.clone();
    let Some(state) = fence::state_text(&node).and_then(|text| State::parse(text).ok()) else { return node };
    let ours = fence::present(&node, &state.marks);
    if ours.unschedulable {
        node.unschedulable = None;
    }
    node.labels.as_mut().unwrap().retain(|key, _| !ours.labels.contains_key(key));
    node.taints.iter_mut().for_each(|taints| {
        taints.retain(|taint| {
            !ours.taints.iter().any(|ours| {
                taint["key"] == ours.key.as_str()
                    && taint["effect"] == ours.effect.as_str()
                    && taint["value"] == ours.value.as_str()
            })
        });
    });
    node.taints.take_if(|taints| taints.is_empty());
    node.annotations.as_mut().unwrap().remove(ANNOTATION);
    node
}

fn check(plan: &Plan) -> TestCaseResult {
    let mut history = History::new(plan);
    for (pause, happening) in &plan.steps {
        history.world.run_until(history.world.at() + secs(*pause));
        history.world.observe();
        history.happen(happening);
    }
    let busy = history.world.sent.len();
    history.all_over(plan);
    let world = &history.world;

    let noticed = plan.steps.iter().any(|(_, happening)| matches!(happening, Happening::Notice(_)));
    let status = world.status();
    if !noticed {
        prop_assert!(status.pending.is_empty(), "{:?}", status.pending);
        prop_assert!(fence::state_text(&world.node).is_none(), "{:?}", world.node);
    }
    // Own marks only, and after "all over" the node is what others left.
    prop_assert_eq!(stripped(&world.node), history.others.clone());
    prop_assert!(world.sent.len() - busy < 400, "it does not come to rest: {}", world.sent.len() - busy);

    graces(plan, world)?;
    if !history.draining_announced {
        prop_assert!(world.evictions().is_empty() && world.deletions().is_empty());
    }
    let interrupted =
        plan.crash.is_some() || plan.steps.iter().any(|(_, one)| matches!(one, Happening::Restart | Happening::Reboot));
    if !interrupted {
        counted_once(world)?;
    }
    Ok(())
}

/// No grace is longer than the pod's own, none is ever lengthened, and none is zero.
fn graces(plan: &Plan, world: &World) -> TestCaseResult {
    let mut told: Vec<(&str, u32)> = Vec::new();
    for Sent { effect, .. } in &world.sent {
        let (Effect::Evict(stop) | Effect::Delete(stop)) = effect else { continue };
        let index = stop.pod.name.strip_prefix('p').and_then(|index| index.parse::<usize>().ok());
        let theirs = |index: usize| {
            let same = |happening: &Happening| matches!(happening, Happening::EvictedByOthers(other) if usize::from(*other) == index);
            plan.steps.iter().any(|(_, happening)| same(happening))
        };
        // What somebody else granted may be more than its own, and is cut to what is left.
        let own = match index {
            Some(index) if theirs(index) => plan.pods[index].grace.max(THEIR_GRACE.into()),
            Some(index) => plan.pods[index].grace,
            None => 20,
        };
        prop_assert!(stop.grace_seconds >= 1 && u64::from(stop.grace_seconds) <= own, "{:?} of {}", stop, own);
        if matches!(effect, Effect::Delete(_)) {
            let before = told.iter().filter(|(pod, _)| *pod == stop.pod.uid).map(|(_, grace)| *grace).min();
            prop_assert!(before.is_none_or(|before| stop.grace_seconds <= before), "{:?} after {:?}", stop, before);
            told.push((&stop.pod.uid, stop.grace_seconds));
        }
    }
    Ok(())
}

/// A machine that lives on counts each announcement once, and gives each pod of a drain one outcome.
fn counted_once(world: &World) -> TestCaseResult {
    let starts = world.count(|record| matches!(record, Record::DrainStarted { .. }));
    prop_assert_eq!(world.published("DrainStarted"), starts, "each drain has its Event");
    let fences = world.count(|record| matches!(record, Record::Fenced { .. }));
    prop_assert_eq!(world.published("Fenced"), fences, "each fence has its Event");
    let mut ended = BTreeSet::new();
    for record in world.records() {
        match record {
            Record::DrainStarted { .. } => ended.clear(),
            Record::PodEnded { pod, .. } => prop_assert!(ended.insert(&pod.uid), "{} ended twice", pod),
            _ => {}
        }
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "which world to replay is the tester's to say")]
fn worlds(share: u64) {
    let replay = std::env::var("SPOTWARDEN_WORLD").ok().map(|number| number.parse::<u64>().expect("a number"));
    let first = replay.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
    let count = if replay.is_some() { 1 } else { WORLDS / SHARES };
    println!("worlds {first} and the {} after it", count - 1);
    for number in (0..count).map(|offset| first.wrapping_add(offset)) {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let runs = Runs { cases: 1, failure_persistence: None, max_shrink_iters: 4000, ..Runs::default() };
        let mut runner = TestRunner::new_with_rng(runs, rng);
        if let Err(error) = runner.run(&plan(), |plan| check(&plan)) {
            panic!("world {number} of share {share} (replay with SPOTWARDEN_WORLD={number}): {error}");
        }
    }
}

#[tokio::test]
async fn worlds_of_the_first_share_end_as_others_left_them() {
    worlds(1);
}

#[tokio::test]
async fn worlds_of_the_second_share_end_as_others_left_them() {
    worlds(2);
}

#[tokio::test]
async fn worlds_of_the_third_share_end_as_others_left_them() {
    worlds(3);
}

#[tokio::test]
async fn worlds_of_the_fourth_share_end_as_others_left_them() {
    worlds(4);
}
