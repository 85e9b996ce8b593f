//! What the chronicle makes of whole interruptions. Every world of every other test is folded too, and checks there that
//! no pod is lost and no time runs backwards.

use std::time::Duration;

use rstest::rstest;

use super::super::world::{World, lifecycle, pod, recommendation, scheduled, secs, stops_after};
use super::{blocked, config, world};
use crate::config::Config;
use crate::drain::outcome::Outcome;
use crate::interruption::account::{Account, AccountError, PodPart, VERSION};
use crate::interruption::chronicle::{Milestone, SURVIVED};
use crate::interruption::record::Record;
use crate::interruption::state::{ANNOTATION, State, Trace};
use crate::signal::{Action, Kind};

fn milestones(world: &World) -> Vec<Milestone> {
    world.news.iter().map(|news| news.milestone).collect()
}

fn ids(world: &World) -> Vec<&str> {
    let mut ids: Vec<&str> = world.news.iter().map(|news| news.account.trace_id.as_str()).collect();
    ids.dedup();
    ids
}

fn part<'a>(account: &'a Account, name: &str) -> &'a PodPart {
    account.pods.iter().find(|pod| pod.name == name).unwrap()
}

fn state(world: &World) -> State {
    State::parse(&world.node.annotations.as_ref().unwrap()[ANNOTATION]).unwrap()
}

/// A notice of two minutes, seen 10 s after the start.
fn interrupted(config: Config) -> World {
    let mut world = World::new(config);
    world.add_pod(pod("quick", 30), stops_after(2));
    world.add_pod(pod("slow", 300), stops_after(400));
    world.add_pod(pod("stuck", 20), blocked(5, 100_000));
    let mut daemon = pod("logs", 30);
    daemon.daemon_set = true;
    world.add_pod(daemon, stops_after(2));
    world.boot();
    world.run_until(secs(10));
    world.notify(Action::Terminate, secs(120));
    world
}

fn near(found: Option<f64>, wanted: f64) -> bool {
    found.is_some_and(|found| (found - wanted).abs() < 1.1)
}

#[tokio::test]
async fn a_plain_notice_is_told_from_the_announcement_to_the_slack() {
    let mut world = interrupted(config());
    world.run_until(secs(140));
    let account = world.account();
    let wanted = [Milestone::Announced, Milestone::DrainStarted, Milestone::Fenced, Milestone::DrainFinished];
    let mut found = milestones(&world);
    found.sort_by_key(|one| wanted.iter().position(|wanted| wanted == one));
    assert_eq!(found, wanted);
    assert_eq!((account.version, account.node.as_str()), (VERSION, "ip-10-0-0-1"));
    assert_eq!(account.started, world.start.plus(secs(10)).wall);
    assert_eq!((account.resumed, account.over, account.restored), (None, None, None));
    let [one] = account.announcements.as_slice() else { panic!("{account:#?}") };
    assert_eq!((one.kind, one.action, one.at), (Kind::SpotInterruption, Action::Terminate, 0.0));
    assert_eq!((one.deadline, account.deadline()), (Some(120.0), Some(120.0)));
    assert_eq!(one.deadline_time, Some(world.start.plus(secs(130)).wall));
    assert!(account.fence.as_ref().is_some_and(|fence| fence.refused.is_empty()));

    let quick = part(account, "quick");
    assert_eq!((quick.asked, quick.told, quick.outcome), (Some(0.0), Some(0.0), Some(Outcome::Graceful)));
    assert_eq!((quick.wanted, quick.granted, quick.ended), (Some(30.0), Some(30.0), Some(2.5)));
    assert_eq!((quick.blocked_seconds(), quick.forced), (None, false));
    let slow = part(account, "slow");
    assert_eq!((slow.outcome, slow.wanted), (Some(Outcome::Shortened), Some(300.0)));
    assert!(near(slow.granted, 117.0) && near(slow.ended, 117.5), "{slow:?}");
    let stuck = part(account, "stuck");
    assert_eq!((stuck.outcome, stuck.forced, stuck.blocked), (Some(Outcome::Forced), true, Some(0.0)));
    assert_eq!(stuck.blocked_by.as_deref(), Some("budget needs 1 and has 1"));
    assert!(near(stuck.told, 97.0) && near(stuck.blocked_seconds(), 97.0), "{stuck:?}");
    let logs = part(account, "logs");
    assert_eq!((logs.outcome, logs.was_to_go(), stuck.was_to_go()), (Some(Outcome::Skipped), false, true));

    let drain = account.drain.as_ref().unwrap();
    assert_eq!((drain.pods, drain.skipped), (3, 1));
    let finish = drain.finished.as_ref().unwrap();
    assert_eq!(Some(finish.at), slow.ended, "the last pod's end, not the record of it, which comes later");
    assert_eq!(finish.slack, Some(120.0 - finish.at));
    let counts = finish.outcomes;
    assert_eq!((counts.graceful, counts.shortened, counts.forced, counts.unfinished, counts.skipped), (1, 1, 1, 0, 1));
}

#[tokio::test]
async fn the_account_survives_its_json_and_stays_small() {
    let mut world = interrupted(config());
    for index in 0..107 {
        world.arrive(pod(&format!("a-name-as-long-as-usual-5d8f9c7b6-x{index:04}"), 30), blocked(2, 40));
    }
    world.run_until(secs(140));
    let account = world.account();
    assert_eq!(account.pods.len(), 111);
    let text = serde_json::to_string(account).unwrap();
    assert!(text.len() < 32 * 1024, "{} bytes", text.len());
    assert_eq!(&Account::from_value(serde_json::from_str(&text).unwrap()).unwrap(), account);
}

#[rstest]
#[case::newer(serde_json::json!({"version": 2, "shape": "unknown"}), "it has version 2 and this program reads version 1")]
#[case::no_version(serde_json::json!({"trace_id": "x"}), "it cannot be read: missing field `version`")]
#[case::broken(serde_json::json!({"version": 1, "trace_id": 5}), "it cannot be read: invalid type")]
#[case::no_object(serde_json::json!("yes"), "it cannot be read: invalid type")]
fn what_is_no_account_of_this_version_is_refused(#[case] value: serde_json::Value, #[case] message: &str) {
    let error = Account::from_value(value).unwrap_err();
    assert!(error.to_string().starts_with(message), "{error}");
    assert_eq!(matches!(error, AccountError::OtherVersion(_)), message.contains("version 2"));
}

#[tokio::test]
async fn a_restarted_agent_goes_on_under_the_same_name_and_clock() {
    let mut world = interrupted(config());
    world.run_until(secs(50));
    let before = world.account().clone();
    world.restart();
    world.run_until(secs(140));
    let account = world.account();
    assert_eq!(ids(&world), [before.trace_id.as_str()], "one interruption, one trace");
    assert_eq!((account.started, account.resumed), (before.started, Some(40.0)));
    assert!(milestones(&world).contains(&Milestone::Resumed));
    assert_eq!(account.announcements, before.announcements);
    let slow = part(account, "slow");
    assert_eq!((slow.outcome, slow.ended), (Some(Outcome::Shortened), Some(117.5)));
    // It was asked and told by the agent before.
    assert_eq!((slow.asked, slow.told), (None, None));
    let stuck = part(account, "stuck");
    assert!(near(stuck.blocked, 40.0) && stuck.forced, "{stuck:?}");
    assert!(near(account.drain.as_ref().unwrap().finished.as_ref().unwrap().slack, 2.5), "{account:#?}");
}

#[tokio::test]
async fn the_name_outlives_the_announcement_that_it_comes_from() {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.announce(Kind::AsgTermination, vec![lifecycle("Standby", Action::Standby)]);
    world.run_until(secs(20));
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(30));
    world.withdraw(Kind::AsgTermination);
    let before = world.account().clone();
    assert!(before.announcements[0].over.is_some() && before.over.is_none());
    assert_eq!(before.deadline(), Some(140.0), "of what is pending");
    world.restart();
    assert_eq!(world.account().announcements.len(), 1, "what is over is known to nobody");
    assert_eq!((&world.account().trace_id, world.account().started), (&before.trace_id, before.started));
    assert!(near(Some(world.account().announcements[0].at), 20.0));
}

#[tokio::test]
async fn an_annotation_without_a_name_or_with_a_bad_one_gets_the_name_of_its_first_announcement() {
    for bad in [None, Some("../../etc")] {
        let mut world = interrupted(config());
        world.run_until(secs(20));
        let before = world.account().clone();
        let mut written = state(&world);
        assert_eq!(written.trace.as_ref().map(|trace| &trace.id), Some(&before.trace_id));
        written.trace = bad.map(|id| Trace { id: id.into(), since: world.start.wall });
        world.node.annotations.as_mut().unwrap().insert(ANNOTATION.into(), written.to_text());
        world.restart();
        assert_eq!((&world.account().trace_id, world.account().started), (&before.trace_id, before.started));
    }
}

#[tokio::test]
async fn what_replaces_something_belongs_to_the_same_interruption() {
    let mut world = world();
    world.boot();
    let event = |world: &World, id| scheduled(id, Action::Reboot, world.now, secs(3000));
    world.announce(Kind::ScheduledEvent, vec![event(&world, "a")]);
    world.run_until(secs(20));
    world.announce(Kind::ScheduledEvent, vec![event(&world, "b")]);
    let again = [Milestone::Announced, Milestone::Foreseen].repeat(2);
    assert_eq!(milestones(&world), again, "what would refuse is asked for each");
    assert_eq!(ids(&world).len(), 1);
    let pending: Vec<&str> = world.account().pending().map(|one| one.id.as_str()).collect();
    assert_eq!(pending, ["scheduled-event/b"]);
    world.run_until(secs(40));
    world.withdraw(Kind::ScheduledEvent);
    world.run_until(secs(50));
    assert_eq!(milestones(&world)[4..], [Milestone::Over, Milestone::Restored]);
    let account = world.account();
    assert_eq!((account.over, account.restored), (Some(40.0), Some(40.0)));
    assert_eq!(account.announcements[1].over.as_ref().unwrap().because, "the platform lists it no longer");
}

#[tokio::test]
async fn what_comes_after_the_end_is_another_interruption() {
    let mut world = world();
    world.boot();
    world.announce(Kind::RebalanceRecommendation, vec![recommendation(world.start, secs(0))]);
    world.run_until(secs(5 * 3600));
    let turns = [Milestone::Announced, Milestone::Foreseen, Milestone::Over, Milestone::Restored];
    assert_eq!(milestones(&world), turns);
    let before = world.account().clone();
    world.notify(Action::Terminate, secs(120));
    assert_eq!((ids(&world).len(), world.account().announcements.len()), (2, 1));
    assert_eq!(world.account().started, before.time(5.0 * 3600.0));
}

#[tokio::test]
async fn a_moved_time_is_the_last_one() {
    let mut world = world();
    world.boot();
    world.announce(Kind::ScheduledEvent, vec![scheduled("a", Action::Reboot, world.now, secs(3000))]);
    world.run_until(secs(100));
    world.announce(Kind::ScheduledEvent, vec![scheduled("a", Action::Reboot, world.now, secs(5000))]);
    assert_eq!(milestones(&world), [Milestone::Announced, Milestone::Foreseen, Milestone::Rescheduled]);
    let one = &world.account().announcements[0];
    assert_eq!((one.deadline, one.deadline_time), (Some(5100.0), Some(world.start.plus(secs(5100)).wall)));
}

#[tokio::test]
async fn a_late_pod_moves_the_figures_of_a_finished_drain() {
    let mut world = world();
    world.add_pod(pod("early", 30), stops_after(2));
    world.boot();
    world.notify(Action::Terminate, secs(120));
    world.run_until(secs(30));
    assert_eq!(world.account().drain.as_ref().unwrap().finished.as_ref().unwrap().slack, Some(117.5));
    world.arrive(pod("late", 30), stops_after(4));
    world.run_until(secs(60));
    let finish = world.account().drain.as_ref().unwrap().finished.as_ref().unwrap();
    assert_eq!((finish.at, finish.took, finish.slack), (34.5, 34.5, Some(85.5)));
    assert_eq!((finish.outcomes.graceful, part(world.account(), "late").asked), (2, Some(30.0)));
}

#[tokio::test]
async fn a_rehearsal_says_that_it_is_one() {
    let mut world = interrupted(Config { dry_run: true, ..config() });
    world.run_until(secs(140));
    assert!(world.account().dry_run);
    assert!(serde_json::to_string(world.account()).unwrap().contains(r#""dry_run":true"#));
}

#[tokio::test]
async fn a_hibernation_is_complete_without_a_drain() {
    let mut world = world();
    world.boot();
    world.notify(Action::Hibernate, secs(0));
    assert!(milestones(&world).contains(&Milestone::DrainFinished));
    assert_eq!(world.account().not_drained.as_deref(), Some("a hibernation begins with its notice"));
}

#[tokio::test]
async fn refused_parts_of_the_fence_are_named() {
    let mut world = world();
    world.denied_path = Some("/metadata/labels");
    world.boot();
    world.notify(Action::Terminate, secs(120));
    assert_eq!(world.account().fence.as_ref().unwrap().refused, ["load balancer label"]);
}

/// A reboot is announced, the node is drained, and it really happens.
fn rebooted() -> (World, Account) {
    let mut world = world();
    world.add_pod(pod("web", 30), stops_after(2));
    world.boot();
    world.announce(Kind::ScheduledEvent, vec![scheduled("a", Action::Reboot, world.now, secs(300))]);
    world.run_until(secs(320));
    let before = world.account().clone();
    assert!(before.drain.as_ref().is_some_and(|drain| drain.finished.is_some()));
    world.reboot();
    (world, before)
}

#[tokio::test]
async fn a_reboot_that_was_survived_ends_the_same_interruption() {
    let (mut world, before) = rebooted();
    let told = world.news.len();
    world.run_until(secs(330));
    world.observe();
    assert_eq!(milestones(&world)[told - 1..], [Milestone::Over, Milestone::Restored]);
    let account = world.account();
    assert_eq!((&account.trace_id, account.started), (&before.trace_id, before.started));
    assert_eq!((account.resumed, account.over, account.restored), (Some(320.0), Some(320.0), Some(330.0)));
    let [one] = account.announcements.as_slice() else { panic!("{account:#?}") };
    assert_eq!((one.deadline, one.over.as_ref().unwrap().because.as_str()), (Some(300.0), SURVIVED));
    assert_eq!(world.count(|record| matches!(record, Record::Survived { .. })), 1);
    world.restart();
    world.observe();
    assert_eq!(world.count(|record| matches!(record, Record::Survived { .. })), 1, "the record is gone with the marks");
}

#[tokio::test]
async fn what_stands_after_a_reboot_is_another_interruption() {
    let (mut world, before) = rebooted();
    let event = scheduled("b", Action::Stop, world.now, secs(300));
    world.announce(Kind::ScheduledEvent, vec![event]);
    let account = world.account();
    assert_ne!(account.trace_id, before.trace_id);
    assert_eq!((account.started, account.resumed, account.over), (world.now.wall, None, None));
}

#[tokio::test]
async fn a_clock_that_was_ahead_makes_no_negative_times() {
    let mut world = interrupted(config());
    let mut written = state(&world);
    let ahead = world.now.plus(secs(500)).wall;
    written.announcements[0].first_seen = ahead;
    written.trace.as_mut().unwrap().since = ahead;
    world.node.annotations.as_mut().unwrap().insert(ANNOTATION.into(), written.to_text());
    world.restart();
    let account = world.account();
    assert_eq!((account.started, account.resumed), (world.now.wall, Some(0.0)));
    assert_eq!(account.time(1.5), world.now.plus(Duration::from_millis(1500)).wall);
}
