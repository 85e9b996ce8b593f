//! The drain driven directly: what it asks for, and when.

use std::time::Duration;

use jiff::Timestamp;
use rstest::rstest;
use tokio::time::Instant;

use super::eviction::EvictionAnswer;
use super::outcome::Outcome;
use super::pod::{PodRef, PodView};
use super::{Drain, Policy};
use crate::clock::Now;
use crate::config::OnBlockedEviction;
use crate::interruption::record::Record;
use crate::interruption::{Effect, Stop};
use crate::signal::Deadline;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn pod(name: &str, grace: u64) -> PodView {
    PodView {
        id: PodRef { namespace: "shop".into(), name: name.into(), uid: format!("uid-{name}") },
        grace: secs(grace),
        finished: false,
        daemon_set: false,
        mirror: false,
        critical: false,
        marked: false,
        deletion: None,
    }
}

fn policy() -> Policy {
    Policy { on_blocked: OnBlockedEviction::Delete, shutdown_tail: Duration::ZERO, safety_margin: secs(3) }
}

/// What a drain asked of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Evict(u32),
    Mark,
    Delete(u32),
}

/// A drain and everything that came out of it, by seconds since its start.
struct Desk {
    drain: Drain,
    start: Now,
    now: Now,
    asked: Vec<(Duration, String, Asked)>,
    records: Vec<Record>,
}

impl Desk {
    /// A drain of `pods` with a deadline in `lead` seconds, or without one.
    fn new(policy: Policy, lead: Option<u64>, pods: impl IntoIterator<Item = PodView>) -> Self {
        let start = Now { instant: Instant::now(), wall: "2026-03-31T16:32:24Z".parse::<Timestamp>().unwrap() };
        let deadline = lead.map(|lead| deadline_at(start, lead));
        let drain = Drain::new(policy, deadline, pods, start);
        let mut desk = Self { drain, start, now: start, asked: Vec::new(), records: Vec::new() };
        desk.step();
        desk
    }

    fn at(&self) -> Duration {
        self.now.instant - self.start.instant
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Evict(Stop { pod, grace_seconds, .. }) => {
                    self.asked.push((self.at(), pod.name, Asked::Evict(grace_seconds)));
                }
                Effect::Delete(Stop { pod, grace_seconds, .. }) => {
                    self.asked.push((self.at(), pod.name, Asked::Delete(grace_seconds)));
                }
                Effect::MarkDisruption(pod) => self.asked.push((self.at(), pod.name, Asked::Mark)),
                Effect::Record(record) => self.records.push(record),
                other => panic!("a drain does not ask for {other:?}"),
            }
        }
    }

    fn step(&mut self) {
        let effects = self.drain.step(self.now);
        self.take(effects);
    }

    fn answer(&mut self, name: &str, answer: &EvictionAnswer) {
        let effects = self.drain.evicted(&pod(name, 0).id, answer, self.now);
        self.take(effects);
        self.step();
    }

    fn gone(&mut self, name: &str) {
        let effect = self.drain.pod_gone(&pod(name, 0).id, self.now);
        self.take(effect.into_iter().collect());
        self.step();
    }

    fn cancel(&mut self) {
        self.drain.cancel(self.now);
        self.step();
    }

    /// Time passes until `second`; the drain is woken when it wants to be.
    fn run_until(&mut self, second: u64) {
        let end = self.start.instant + secs(second);
        while let Some(due) = self.drain.next_timeout(self.now.instant).filter(|due| *due <= end) {
            self.now = self.now.plus(due - self.now.instant);
            self.step();
        }
        self.now = self.now.plus(end - self.now.instant);
    }

    fn outcome(&self, name: &str) -> Option<Outcome> {
        self.drain.pods().into_iter().find(|status| status.id.name == name)?.outcome
    }

    fn finished(&self) -> usize {
        self.records.iter().filter(|record| matches!(record, Record::DrainFinished { .. })).count()
    }
}

fn deadline_at(start: Now, second: u64) -> Deadline {
    let at = start.plus(secs(second));
    Deadline { instant: at.instant, wall: at.wall }
}

fn refused() -> EvictionAnswer {
    EvictionAnswer::Blocked("budget needs 1 and has 1".into())
}

#[tokio::test]
async fn a_cancelled_drain_leaves_alone_who_was_not_told_and_follows_who_is_stopping() {
    let mut desk = Desk::new(policy(), Some(120), [pod("stops", 300), pod("blocked", 30), pod("calling", 30)]);
    desk.answer("stops", &EvictionAnswer::Accepted);
    desk.answer("blocked", &refused());
    desk.run_until(0);
    desk.cancel();
    assert!(desk.drain.is_cancelled());
    assert_eq!((desk.outcome("blocked"), desk.outcome("calling")), (Some(Outcome::Skipped), None));
    let asked = desk.asked.len();
    desk.answer("calling", &refused());
    assert_eq!((desk.outcome("calling"), desk.finished()), (Some(Outcome::Skipped), 0));
    desk.run_until(400);
    assert_eq!((desk.asked.len(), desk.outcome("stops")), (asked, None));
    desk.gone("stops");
    assert_eq!((desk.outcome("stops"), desk.finished()), (Some(Outcome::Shortened), 1));
    assert_eq!(desk.drain.finish().unwrap().slack_seconds, None);
}

#[tokio::test]
async fn an_eviction_that_was_accepted_after_the_cancellation_is_followed_too() {
    let mut desk = Desk::new(policy(), Some(120), [pod("web", 30)]);
    desk.cancel();
    desk.answer("web", &EvictionAnswer::Accepted);
    assert_eq!((desk.outcome("web"), desk.finished()), (None, 0));
    desk.gone("web");
    assert_eq!((desk.outcome("web"), desk.finished()), (Some(Outcome::Graceful), 1));
}

#[tokio::test]
async fn a_cancelled_drain_takes_no_pods_and_no_deadline_any_more() {
    let mut desk = Desk::new(policy(), None, [pod("web", 30)]);
    desk.answer("web", &refused());
    desk.cancel();
    assert_eq!(desk.finished(), 1);
    desk.drain.set_deadline(Some(deadline_at(desk.start, 120)), desk.now);
    desk.drain.pod_seen(pod("late", 30), desk.now);
    desk.step();
    desk.run_until(200);
    assert_eq!((desk.outcome("late"), desk.asked.len(), desk.finished()), (None, 1, 1));
}

#[rstest]
#[case::later(600, 120)]
#[case::earlier(60, 60)]
#[tokio::test]
async fn of_two_deadlines_the_earlier_one_counts(#[case] second: u64, #[case] counts: u64) {
    let mut desk = Desk::new(policy(), Some(120), []);
    desk.drain.set_deadline(Some(deadline_at(desk.start, second)), desk.now);
    desk.drain.pod_seen(pod("web", 300), desk.now);
    desk.step();
    assert_eq!(desk.asked, [(Duration::ZERO, "web".into(), Asked::Evict(u32::try_from(counts - 3).unwrap()))]);
}
