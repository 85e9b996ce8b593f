//! Other actors at the same node: nobody is fought, nothing of theirs is touched, and what they take over is theirs.

use rstest::rstest;
use serde_json::{Value, json};

use super::super::world::{World, lifecycle, pod, recommendation, scheduled, secs, stops_after};
use super::world;
use crate::interruption::fence::LOAD_BALANCER_LABEL;
use crate::interruption::record::Record;
use crate::interruption::state::{ANNOTATION, State};
use crate::interruption::{Effect, Input};
use crate::k8s::node::NodeView;
use crate::signal::{Action, Kind};

fn patches(world: &World) -> usize {
    world.sent.iter().filter(|sent| matches!(sent.effect, Effect::PatchNode { .. })).count()
}

fn state(world: &World) -> State {
    State::parse(&world.node.annotations.as_ref().unwrap()[ANNOTATION]).unwrap()
}

fn push_taint(node: &mut NodeView, taint: Value) {
    node.taints.get_or_insert_default().push(taint);
}

fn dedicated() -> Value {
    json!({"key": "dedicated", "value": "batch", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"})
}

/// A fence that stands, and the platform's word that sets it up and takes it back.
fn fenced() -> World {
    let mut world = world();
    world.boot();
    world.announce(Kind::AsgTermination, vec![lifecycle("Terminated", Action::Terminate)]);
    assert!(world.status().fenced);
    world
}

/// What somebody else does to the node.
type Change = fn(&mut NodeView);

fn cordon(node: &mut NodeView) {
    node.unschedulable = Some(true);
}

fn taint(node: &mut NodeView) {
    push_taint(node, dedicated());
}

fn label(node: &mut NodeView) {
    node.labels.get_or_insert_default().insert(LOAD_BALANCER_LABEL.into(), "karpenter".into());
}

fn our_own_taint(node: &mut NodeView) {
    push_taint(node, json!({"key": "spotwarden/interruption", "value": "asg-termination", "effect": "NoSchedule"}));
}

#[rstest]
#[case::cordon(cordon)]
#[case::taint(taint)]
#[case::label(label)]
#[case::the_same_taint(our_own_taint)]
#[tokio::test]
async fn what_others_set_before_stays_although_we_would_have_set_the_same(#[case] change: Change) {
    let mut world = world();
    change(&mut world.node);
    let before = world.node.clone();
    world.boot();
    world.announce(Kind::AsgTermination, vec![lifecycle("Terminated", Action::Terminate)]);
    world.run_until(secs(10));
    world.restart();
    world.withdraw(Kind::AsgTermination);
    world.run_until(secs(20));
    assert_eq!(world.node, before);
}

#[rstest]
#[case::taint(taint)]
#[case::label(label)]
#[tokio::test]
async fn what_others_set_meanwhile_stays(#[case] change: Change) {
    let mut expected = super::super::world::node();
    change(&mut expected);
    for restart in [false, true] {
        let mut world = fenced();
        world.foreign(change);
        if restart {
            world.restart();
        }
        world.withdraw(Kind::AsgTermination);
        world.run_until(secs(20));
        assert_eq!(world.node, expected, "restart: {restart}");
    }
}

#[rstest]
#[case::uncordon(|node: &mut NodeView| node.unschedulable = None)]
#[case::untaint(|node: &mut NodeView| node.taints = None)]
#[case::unlabel(|node: &mut NodeView| drop(node.labels.as_mut().unwrap().remove(LOAD_BALANCER_LABEL)))]
#[tokio::test]
async fn a_mark_that_somebody_takes_away_is_not_set_again(#[case] change: Change) {
    let mut world = fenced();
    let sent = patches(&world);
    world.foreign(change);
    let after = world.node.clone();
    world.run_until(secs(10));
    world.observe();
    let (is, was) = (NodeView { annotations: None, ..world.node.clone() }, NodeView { annotations: None, ..after });
    assert_eq!(is, was);
    assert_eq!(patches(&world), sent + 1, "the record no longer claims it, and that is all");
    world.restart();
    world.run_until(secs(20));
    assert_eq!((NodeView { annotations: None, ..world.node.clone() }, patches(&world)), (was, sent + 1));
}

#[tokio::test]
async fn what_was_taken_away_and_set_again_by_others_is_theirs() {
    for restart in [false, true] {
        let mut world = fenced();
        world.foreign(|node| node.unschedulable = None);
        world.foreign(cordon);
        if restart {
            world.restart();
        }
        assert!(!state(&world).marks.unschedulable);
        world.withdraw(Kind::AsgTermination);
        world.run_until(secs(10));
        assert_eq!((world.node.unschedulable, &world.node.taints), (Some(true), &None), "restart: {restart}");
    }
}

#[tokio::test]
async fn what_was_taken_away_and_set_again_while_the_api_server_was_away_is_theirs() {
    let mut world = fenced();
    world.api_down_until = secs(30);
    world.foreign(|node| node.unschedulable = None);
    world.foreign(cordon);
    world.run_until(secs(40));
    world.withdraw(Kind::AsgTermination);
    world.run_until(secs(50));
    assert_eq!((world.node.unschedulable, &world.node.taints), (Some(true), &None));
}

#[rstest]
#[case("karpenter.sh/disrupted")]
#[case("ToBeDeletedByClusterAutoscaler")]
#[tokio::test]
async fn while_somebody_takes_the_node_away_for_good_the_way_back_waits(#[case] key: &str) {
    let mut world = fenced();
    let theirs = json!({"key": key, "effect": "NoSchedule"});
    world.foreign(|node| push_taint(node, theirs.clone()));
    let marked = world.node.clone();
    world.withdraw(Kind::AsgTermination);
    for second in 1..10 {
        world.run_until(secs(second));
        world.observe();
    }
    world.restart();
    assert_eq!(world.node, marked);
    assert_eq!(world.count(|record| matches!(record, Record::RestoreFailed { .. })), 2, "once in each life");
    world.foreign(|node| node.taints.as_mut().unwrap().retain(|taint| *taint != theirs));
    assert_eq!((&world.node, world.published("Restored")), (&super::super::world::node(), 1));
}

#[tokio::test]
async fn something_new_sets_a_mark_again_that_was_taken_away() {
    let mut world = fenced();
    world.foreign(|node| node.unschedulable = None);
    world.notify(Action::Terminate, secs(120));
    assert_eq!(world.node.unschedulable, Some(true));
}

#[tokio::test]
async fn an_annotation_that_somebody_deletes_is_not_fought_over() {
    let mut world = fenced();
    let sent = patches(&world);
    world.foreign(|node| drop(node.annotations.as_mut().unwrap().remove(ANNOTATION)));
    world.run_until(secs(60));
    world.observe();
    assert_eq!(patches(&world), sent);
    world.withdraw(Kind::AsgTermination);
    assert_eq!(world.node, super::super::world::node(), "this process still knows what is its own");
}

#[tokio::test]
async fn a_patch_that_was_given_up_and_lands_after_the_end_is_undone() {
    let mut world = world();
    world.boot();
    let before = world.node.clone();
    world.announce(Kind::AsgTermination, vec![lifecycle("Terminated", Action::Terminate)]);
    let landed = world.node.clone();
    // The same history, but the first patch was not answered and had not arrived.
    let mut world = super::world();
    world.api_down_until = secs(1);
    world.boot();
    world.announce(Kind::AsgTermination, vec![lifecycle("Terminated", Action::Terminate)]);
    world.withdraw(Kind::AsgTermination);
    world.run_until(secs(5));
    assert_eq!(world.node, before);
    world.foreign(|node| *node = landed);
    world.run_until(secs(10));
    assert_eq!(world.node, before);
}

#[tokio::test]
async fn two_copies_of_the_agent_set_and_take_away_one_set_of_marks() {
    let (mut first, mut second) = (world(), world());
    let before = first.node.clone();
    first.boot();
    second.boot();
    first.announce(Kind::AsgTermination, vec![lifecycle("Terminated", Action::Terminate)]);
    // The second copy has not seen the first one's work when it decides, and its patch fails on the guards.
    second.node = first.node.clone();
    second.announce(Kind::AsgTermination, vec![lifecycle("Terminated", Action::Terminate)]);
    assert_eq!(second.node.taints, first.node.taints);
    assert!(state(&second).marks.unschedulable, "what the first one set is ours");
    let mut third = world();
    third.boot();
    third.foreign(|theirs| theirs.clone_from(&first.node));
    third.run_until(secs(7));
    third.announce(Kind::AsgTermination, vec![lifecycle("Terminated", Action::Terminate)]);
    assert_eq!(third.count(|record| matches!(record, Record::NoticeSeen { .. })), 0, "the first one has counted it");
    let keys = |world: &World| world.events().iter().map(|event| event.key.clone()).collect::<Vec<_>>();
    assert!(keys(&third).iter().all(|key| keys(&first).contains(key)), "{:?}", keys(&third));
    let node = second.node.clone();
    first.foreign(|theirs| *theirs = node);
    first.withdraw(Kind::AsgTermination);
    assert_eq!(first.node, before);
    let node = first.node.clone();
    second.foreign(|theirs| *theirs = node);
    second.withdraw(Kind::AsgTermination);
    second.run_until(secs(10));
    assert_eq!(second.node, before);
}

#[rstest]
#[case::taint("/spec/taints")]
#[case::label("/metadata/labels")]
#[case::cordon("/spec/unschedulable")]
#[tokio::test]
async fn a_way_back_that_is_refused_is_tried_again_and_remembered(#[case] path: &'static str) {
    let mut world = fenced();
    world.denied_path = Some(path);
    world.withdraw(Kind::AsgTermination);
    world.run_until(secs(300));
    assert!(world.node.annotations.as_ref().unwrap().contains_key(ANNOTATION), "the mark that stays is remembered");
    assert_eq!(world.count(|record| matches!(record, Record::RestoreFailed { .. })), 1);
    assert!(patches(&world) < 20, "nothing hurries: {}", patches(&world));
    world.restart();
    world.denied_path = None;
    world.run_until(secs(400));
    assert_eq!((&world.node, world.published("Restored")), (&super::super::world::node(), 1));
}

#[tokio::test]
async fn an_api_server_that_is_away_delays_the_way_back() {
    let mut world = fenced();
    world.api_down_until = secs(600);
    world.withdraw(Kind::AsgTermination);
    world.run_until(secs(599));
    assert_eq!(world.count(|record| matches!(record, Record::RestoreFailed { .. })), 1);
    world.run_until(secs(700));
    assert_eq!(world.node, super::super::world::node());
}

#[tokio::test]
async fn a_node_without_any_maps_is_marked_and_restored() {
    let mut world = world();
    (world.node.labels, world.node.annotations) = (None, None);
    world.boot();
    world.announce(Kind::AsgTermination, vec![lifecycle("Terminated", Action::Terminate)]);
    assert!(world.status().fenced);
    world.withdraw(Kind::AsgTermination);
    assert_eq!((world.node.unschedulable, &world.node.taints), (None, &None));
    assert!(world.node.labels.unwrap_or_default().is_empty() && world.node.annotations.unwrap_or_default().is_empty());
}

#[tokio::test]
async fn an_actor_that_evicts_the_same_pods_costs_no_second_eviction() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(5));
    world.boot();
    world.evict_by_others("web", 30);
    world.announce(Kind::ScheduledEvent, vec![scheduled("e", Action::Stop, world.start, secs(300))]);
    world.announce(Kind::RebalanceRecommendation, vec![recommendation(world.now, secs(0))]);
    world.run_until(secs(20));
    assert!(world.evictions().is_empty() && world.deletions().is_empty());
    assert_eq!(world.outcome("web"), "graceful");
    world.feed(Input::Timeout);
}

#[tokio::test]
async fn a_claim_on_a_mark_that_is_gone_ends_with_the_next_record() {
    let mut world = fenced();
    world.denied_path = Some("/spec/unschedulable");
    world.withdraw(Kind::AsgTermination);
    assert!(state(&world).marks.unschedulable, "it could not be taken away");
    world.foreign(|node| node.unschedulable = None);
    world.notify(Action::Terminate, secs(120));
    world.foreign(cordon);
    assert!(!state(&world).marks.unschedulable, "it was refused to us, and somebody else has set it");
}

#[tokio::test]
async fn a_look_that_is_older_than_the_fence_does_not_hide_it_from_the_way_back() {
    let mut world = world();
    world.boot();
    let before = world.node.clone();
    world.announce(Kind::AsgTermination, vec![lifecycle("Terminated", Action::Terminate)]);
    let fenced = world.node.clone();
    world.feed(Input::Node(before.clone()));
    world.withdraw(Kind::AsgTermination);
    world.feed(Input::Node(fenced));
    world.run_until(secs(5));
    assert_eq!(world.node, before);
}
