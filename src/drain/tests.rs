//! The drain driven directly: what it asks for, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use rstest::rstest;
use tokio::time::Instant;

use super::eviction::EvictionAnswer::{self, Accepted};
use super::forecast::{Forecast, NOTICE, Verdict};
use super::outcome::Outcome;
use super::pod::{Deletion, PodRef, PodView};
use super::wish::{SAFE_TO_EVICT, Wish};
use super::{Drain, Policy};
use crate::clock::Now;
use crate::config::OnBlockedEviction::{self, Delete, Wait};
use crate::config::{Config, PriorityShare};
use crate::interruption::record::Record;
use crate::interruption::{Effect, Stop};
use crate::signal::Deadline;

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn pod(name: &str, grace: u64) -> PodView {
    PodView::sample(name, secs(grace))
}

pub(super) fn policy() -> Policy {
    Policy::from(&Config::for_node("n1"))
}

/// What a drain asked of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Evict(u32),
    Mark,
    Delete(u32),
}

/// How a pod and its budget behave. Pods without one are answered for by the test.
#[derive(Clone, Copy, Debug)]
struct Conduct {
    /// From being told to the exit; the granted grace cuts it off.
    exits_after: Duration,
    /// Evictions are refused before this time.
    refused_until: Duration,
}

const EXITS_AT_ONCE: Conduct = Conduct { exits_after: Duration::ZERO, refused_until: Duration::ZERO };
const NEVER_ALLOWED: Conduct = Conduct { exits_after: Duration::ZERO, refused_until: Duration::MAX };

/// A drain and everything that came out of it, by time since its start.
struct Desk {
    drain: Drain,
    start: Now,
    now: Now,
    conduct: BTreeMap<String, Conduct>,
    exits: BTreeMap<String, Instant>,
    asked: Vec<(Duration, String, Asked)>,
    records: Vec<Record>,
}

impl Desk {
    /// A drain of `pods` with a deadline in `lead` seconds, or without one.
    fn new(policy: Policy, lead: Option<u64>, pods: impl IntoIterator<Item = PodView>) -> Self {
        Self::with(policy, lead, pods.into_iter().map(|pod| (pod, None)))
    }

    fn with(policy: Policy, lead: Option<u64>, pods: impl IntoIterator<Item = (PodView, Option<Conduct>)>) -> Self {
        let start = start();
        let (mut views, mut conduct) = (Vec::new(), BTreeMap::new());
        for (view, how) in pods {
            conduct.extend(how.map(|how| (view.id.name.clone(), how)));
            views.push(view);
        }
        let drain = Drain::new(policy, lead.map(|lead| deadline_at(start, lead)), views, start);
        Self::of(drain, start, conduct)
    }

    fn of(drain: Drain, start: Now, conduct: BTreeMap<String, Conduct>) -> Self {
        let (asked, records, exits) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut desk = Self { drain, start, now: start, conduct, exits, asked, records };
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
                    self.asked.push((self.at(), pod.name.clone(), Asked::Evict(grace_seconds)));
                    if let Some(conduct) = self.conduct.get(&pod.name) {
                        let answer = if self.at() < conduct.refused_until { refused() } else { Accepted };
                        self.told(&pod.name, grace_seconds, &answer);
                        self.answer(&pod.name, &answer);
                    }
                }
                Effect::Delete(Stop { pod, grace_seconds, .. }) => {
                    self.asked.push((self.at(), pod.name.clone(), Asked::Delete(grace_seconds)));
                    if self.conduct.contains_key(&pod.name) {
                        self.told(&pod.name, grace_seconds, &Accepted);
                        let effects = self.drain.deleted(&pod, &Accepted, self.now);
                        self.take(effects);
                    }
                }
                Effect::MarkDisruption(pod) => self.asked.push((self.at(), pod.name, Asked::Mark)),
                Effect::Record(record) => self.records.push(record),
                other => panic!("a drain does not ask for {other:?}"),
            }
        }
    }

    fn told(&mut self, name: &str, grace: u32, answer: &EvictionAnswer) {
        if *answer == Accepted {
            let exits = self.now.instant + self.conduct[name].exits_after.min(secs(grace.into()));
            self.exits.insert(name.into(), exits);
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

    /// The pod as the watch shows it now.
    fn seen(&mut self, view: PodView) {
        self.drain.pod_seen(view, self.now);
        self.step();
    }

    fn deadline(&mut self, second: u64) {
        self.drain.set_deadline(Some(deadline_at(self.start, second)), self.now);
        self.step();
    }

    /// Time passes until `second`; pods exit, and the drain is woken when it wants to be.
    fn run_until(&mut self, second: u64) {
        let end = self.start.instant + secs(second);
        loop {
            let exits = self.exits.values().copied().min();
            let wakes = self.drain.next_timeout(self.now.instant);
            let Some(due) = exits.into_iter().chain(wakes).min().filter(|due| *due <= end) else { break };
            self.now = self.now.plus(due - self.now.instant);
            let gone: Vec<String> =
                self.exits.iter().filter(|(_, at)| **at <= due).map(|(name, _)| name.clone()).collect();
            for name in &gone {
                self.exits.remove(name);
                self.gone(name);
            }
            if gone.is_empty() {
                self.step();
            }
        }
        self.now = self.now.plus(end - self.now.instant);
    }

    fn outcome(&self, name: &str) -> Option<Outcome> {
        self.drain.pods().into_iter().find(|status| status.id.name == name)?.outcome
    }

    fn finished(&self) -> usize {
        self.records.iter().filter(|record| matches!(record, Record::DrainFinished { .. })).count()
    }

    /// What was asked of this pod, by seconds.
    fn asked_of(&self, name: &str) -> Vec<(f64, Asked)> {
        let of = self.asked.iter().filter(|(_, pod, _)| pod == name);
        of.map(|(at, _, asked)| (at.as_secs_f64(), *asked)).collect()
    }

    /// When it was first asked to stop, in seconds.
    fn first_asked(&self, name: &str) -> Option<f64> {
        self.asked_of(name).first().map(|(at, _)| *at)
    }
}

pub(super) fn start() -> Now {
    Now { instant: Instant::now(), wall: "2026-03-31T16:32:24Z".parse::<Timestamp>().unwrap() }
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
    desk.answer("stops", &Accepted);
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
    desk.answer("web", &Accepted);
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

const STAY: Option<Wish> = Some(Wish::Stay { asked_by: SAFE_TO_EVICT, until: None });
const FINISH: Option<Wish> = Some(Wish::Finish);
const LEAVE: Option<Wish> = Some(Wish::Leave);

/// With 3 s of margin, a pod with 30 s of grace has its latest start at 87 s of 120 s.
#[rstest]
#[case::nothing_said(None, Some(120), Delete, Some(0.0))]
#[case::leave(LEAVE, Some(120), Delete, Some(0.0))]
#[case::leave_wait(LEAVE, Some(120), Wait, Some(0.0))]
#[case::leave_gentle(LEAVE, None, Delete, Some(0.0))]
#[case::stay(STAY, Some(120), Delete, Some(82.0))]
#[case::stay_wait(STAY, Some(120), Wait, None)]
#[case::stay_gentle(STAY, None, Delete, None)]
#[case::stay_gentle_wait(STAY, None, Wait, None)]
#[case::stay_without_slack(STAY, Some(20), Delete, Some(0.0))]
#[case::finish(FINISH, Some(120), Delete, Some(85.5))]
#[case::finish_wait(FINISH, Some(120), Wait, Some(85.5))]
#[case::finish_gentle(FINISH, None, Delete, None)]
#[case::finish_without_slack(FINISH, Some(20), Wait, Some(0.0))]
#[tokio::test]
async fn a_pods_wish_moves_its_eviction(
    #[case] wish: Option<Wish>,
    #[case] lead: Option<u64>,
    #[case] on_blocked: OnBlockedEviction,
    #[case] expected: Option<f64>,
) {
    let view = PodView { wish, ..pod("web", 30) };
    let mut desk = Desk::with(Policy { on_blocked, ..policy() }, lead, [(view, Some(EXITS_AT_ONCE))]);
    desk.run_until(2000);
    assert_eq!(desk.first_asked("web"), expected);
    let outcome = match (expected, lead) {
        (Some(_), Some(20)) => Some(Outcome::Shortened),
        (Some(_), _) => Some(Outcome::Graceful),
        (None, Some(_)) => Some(Outcome::Unfinished),
        (None, None) => None,
    };
    assert_eq!((desk.outcome("web"), desk.finished()), (outcome, usize::from(outcome.is_some())));
}

/// Its budget never lets it go.
#[rstest]
#[case::nothing_said(None, Delete, Outcome::Forced)]
#[case::leave(LEAVE, Delete, Outcome::Forced)]
#[case::stay(STAY, Delete, Outcome::Forced)]
#[case::finish(FINISH, Delete, Outcome::Forced)]
#[case::nothing_said_wait(None, Wait, Outcome::Unfinished)]
#[case::finish_wait(FINISH, Wait, Outcome::Unfinished)]
#[tokio::test]
async fn past_the_latest_start_every_wish_is_a_blocked_pod(
    #[case] wish: Option<Wish>,
    #[case] on_blocked: OnBlockedEviction,
    #[case] expected: Outcome,
) {
    let view = PodView { wish, ..pod("web", 30) };
    let mut desk = Desk::with(Policy { on_blocked, ..policy() }, Some(120), [(view, Some(NEVER_ALLOWED))]);
    desk.run_until(130);
    assert_eq!(desk.outcome("web"), Some(expected));
    let deleted = desk.asked_of("web").into_iter().filter(|(_, asked)| matches!(asked, Asked::Delete(_)));
    let forced: Vec<_> = if on_blocked == Delete { vec![(87.0, Asked::Delete(30))] } else { vec![] };
    assert_eq!(deleted.collect::<Vec<_>>(), forced);
}

#[rstest]
#[case::deadline(Some(120), Delete)]
#[case::wait(Some(120), Wait)]
#[case::gentle(None, Delete)]
#[tokio::test]
async fn a_wish_that_ends_during_the_drain_holds_no_longer(
    #[case] lead: Option<u64>,
    #[case] on_blocked: OnBlockedEviction,
) {
    let until = Some(start().plus(secs(40)).wall);
    let view = PodView { wish: Some(Wish::Stay { asked_by: SAFE_TO_EVICT, until }), ..pod("web", 30) };
    let mut desk = Desk::new(Policy { on_blocked, ..policy() }, lead, [view]);
    desk.run_until(60);
    assert_eq!(desk.first_asked("web"), Some(40.0));
}

#[tokio::test]
async fn a_gentle_drain_with_nobody_but_staying_pods_is_quiet_and_a_notice_takes_it_up() {
    let mut desk = Desk::new(policy(), None, [PodView { wish: STAY, ..pod("web", 30) }]);
    assert_eq!(desk.drain.next_timeout(desk.now.instant), None);
    desk.run_until(1000);
    assert!(desk.asked.is_empty() && desk.drain.finish().is_none());
    desk.deadline(1120);
    desk.run_until(1100);
    assert_eq!(desk.first_asked("web"), Some(1082.0));
}

#[tokio::test]
async fn a_wish_that_is_withdrawn_lets_the_pod_go_at_once() {
    let mut desk = Desk::new(policy(), Some(120), [PodView { wish: STAY, ..pod("web", 30) }]);
    desk.run_until(10);
    desk.seen(pod("web", 30));
    assert_eq!(desk.first_asked("web"), Some(10.0));
}

#[tokio::test]
async fn who_does_not_mind_goes_first() {
    let pods = [pod("a-tight", 110), PodView { wish: LEAVE, ..pod("b-easy", 5) }, pod("c-loose", 30)];
    let desk = Desk::new(policy(), Some(120), pods);
    let order: Vec<&str> = desk.asked.iter().map(|(_, name, _)| name.as_str()).collect();
    assert_eq!(order, ["b-easy", "a-tight", "c-loose"]);
}

#[tokio::test]
async fn a_daemon_sets_pod_that_asks_for_it_goes_last_and_its_successor_is_left_alone() {
    let log = PodView { daemon_set: true, daemon_set_eviction: true, wish: LEAVE, ..pod("log", 30) };
    let plain = PodView { daemon_set: true, ..pod("plain", 30) };
    let conduct = Conduct { exits_after: secs(20), ..EXITS_AT_ONCE };
    let web = (pod("web", 30), Some(conduct));
    let mut desk = Desk::with(policy(), Some(120), [web, (log.clone(), Some(conduct)), (plain, None)]);
    desk.run_until(50);
    assert_eq!((desk.first_asked("log"), desk.outcome("log")), (Some(20.0), Some(Outcome::Graceful)));
    let again = PodRef { uid: "uid-2".into(), ..log.id.clone() };
    desk.seen(PodView { id: again, ..log });
    desk.run_until(130);
    assert_eq!((desk.asked.len(), desk.drain.outcomes()), (2, [2, 0, 0, 0, 2]));
}

fn balanced(wait: u64) -> Policy {
    Policy { load_balancer_wait: secs(wait), ..policy() }
}

#[rstest]
#[case::has_time(None, 30, Some(120), 20, 20.0)]
#[case::wait_is_longer_than_the_slack(None, 30, Some(120), 100, 72.0)]
#[case::long_grace(None, 110, Some(120), 20, 0.0)]
#[case::does_not_mind(LEAVE, 30, Some(120), 20, 0.0)]
#[case::gentle(None, 30, None, 20, 20.0)]
#[case::stays_longer_anyway(STAY, 30, Some(120), 20, 82.0)]
#[tokio::test]
async fn load_balancers_get_their_wait_out_of_the_slack_alone(
    #[case] wish: Option<Wish>,
    #[case] grace: u64,
    #[case] lead: Option<u64>,
    #[case] wait: u64,
    #[case] expected: f64,
) {
    let mut desk = Desk::new(balanced(wait), lead, [PodView { wish, ..pod("web", grace) }]);
    desk.run_until(100);
    assert_eq!(desk.first_asked("web"), Some(expected));
}

#[tokio::test]
async fn a_wish_that_ends_during_the_wait_does_not_cut_it_short() {
    let wish = Some(Wish::Stay { asked_by: SAFE_TO_EVICT, until: Some(start().plus(secs(5)).wall) });
    let mut desk = Desk::new(balanced(20), Some(120), [PodView { wish, ..pod("web", 30) }]);
    desk.run_until(60);
    assert_eq!(desk.first_asked("web"), Some(20.0));
}

#[tokio::test]
async fn an_agent_that_takes_up_a_drain_does_not_wait_for_load_balancers_again() {
    let start = start();
    let took_up = start.plus(secs(15));
    let drain = Drain::new(balanced(20), Some(deadline_at(start, 120)), [pod("web", 30)], took_up);
    let mut desk = Desk::of(drain.load_balancers_told(start.instant), took_up, BTreeMap::new());
    desk.run_until(100);
    assert_eq!(desk.first_asked("web"), Some(5.0));
}

#[tokio::test]
async fn a_pod_that_comes_after_the_wait_goes_at_once() {
    let mut desk = Desk::new(balanced(20), Some(120), []);
    desk.run_until(30);
    desk.seen(pod("late", 30));
    assert_eq!(desk.first_asked("late"), Some(30.0));
}

/// With a tail of 150 s: the last call at 117 s, the last process at 267 s.
#[rstest]
#[case::runs_into_the_tail(200, 67.0, 200)]
#[case::would_have_time_after_the_notice(30, 117.0, 30)]
#[case::longer_than_everything(400, 0.0, 267)]
#[tokio::test]
async fn calls_are_made_by_the_deadline_and_processes_run_on_into_the_tail(
    #[case] grace: u64,
    #[case] forced_at: f64,
    #[case] granted: u32,
) {
    let policy = Policy { shutdown_tail: secs(150), ..policy() };
    let mut desk = Desk::with(policy, Some(120), [(pod("web", grace), Some(NEVER_ALLOWED))]);
    desk.run_until(118);
    assert_eq!(desk.asked_of("web").last(), Some(&(forced_at, Asked::Delete(granted))));
}

pub(super) fn shares(list: &[(i32, u32)]) -> Policy {
    let shares = list.iter().map(|(priority, seconds)| PriorityShare { priority: *priority, seconds: *seconds });
    Policy { shares: shares.collect(), ..policy() }
}

pub(super) fn ranked(name: &str, priority: i32, grace: u64) -> PodView {
    PodView { priority, ..pod(name, grace) }
}

/// A pod that uses all the grace that it gets.
fn stubborn(view: PodView) -> (PodView, Option<Conduct>) {
    (view, Some(Conduct { exits_after: Duration::MAX, ..EXITS_AT_ONCE }))
}

/// 117 s are left: 78 s, 0 s for the share without pods, 39 s.
#[tokio::test]
async fn the_time_left_is_divided_among_the_shares_that_have_pods() {
    let list = [(0, 60), (1000, 500), (2_000_000_000, 30)];
    let pods = [ranked("dns", 2_000_001_000, 300), ranked("low", -10, 300), ranked("web", 0, 20)].map(stubborn);
    let mut desk = Desk::with(shares(&list), Some(120), pods);
    desk.run_until(121);
    assert_eq!(desk.asked_of("low"), [(0.0, Asked::Evict(78))]);
    assert_eq!(desk.asked_of("web"), [(0.0, Asked::Evict(20))]);
    assert_eq!(desk.asked_of("dns"), [(78.0, Asked::Evict(39))]);
}

#[tokio::test]
async fn what_a_share_does_not_use_is_left_to_the_next() {
    let pods = [(ranked("web", 0, 300), Some(EXITS_AT_ONCE)), stubborn(ranked("dns", 5, 300))];
    let mut desk = Desk::with(shares(&[(0, 60), (5, 30)]), Some(120), pods);
    desk.run_until(1);
    assert_eq!(desk.asked_of("dns"), [(0.0, Asked::Evict(117))]);
}

#[tokio::test]
async fn a_budget_counts_against_the_end_of_its_pods_window() {
    let pods = [(ranked("web", 0, 30), Some(NEVER_ALLOWED)), stubborn(ranked("dns", 5, 10))];
    let mut desk = Desk::with(shares(&[(0, 60), (5, 30)]), Some(120), pods);
    desk.run_until(121);
    assert_eq!(desk.asked_of("web").last(), Some(&(48.0, Asked::Delete(30))));
    assert_eq!(desk.first_asked("dns"), Some(48.0));
}

#[tokio::test]
async fn without_a_deadline_each_share_waits_for_the_ones_before() {
    let pods = [ranked("web", 0, 30), ranked("mid", 5, 30), ranked("dns", 9, 30)];
    let mut desk = Desk::new(shares(&[(0, 1), (5, 1), (9, 1)]), None, pods);
    desk.answer("web", &refused());
    desk.run_until(5000);
    assert_eq!((desk.first_asked("mid"), desk.first_asked("dns")), (None, None));
    desk.gone("web");
    assert_eq!((desk.first_asked("mid"), desk.first_asked("dns")), (Some(5000.0), None));
}

#[tokio::test]
async fn the_last_share_is_asked_by_the_deadline_although_there_is_a_tail() {
    let policy = Policy { shutdown_tail: secs(150), ..shares(&[(0, 200), (5, 10)]) };
    let mut desk = Desk::with(policy, Some(120), [ranked("web", 0, 300), ranked("dns", 5, 30)].map(stubborn));
    desk.run_until(120);
    assert_eq!(desk.asked_of("dns"), [(117.0, Asked::Evict(30))]);
}

#[tokio::test]
async fn a_pod_that_comes_after_its_window_joins_the_one_that_is_running() {
    let pods = [ranked("web", 0, 10), ranked("dns", 5, 300)].map(stubborn);
    let mut desk = Desk::with(shares(&[(0, 60), (5, 30)]), Some(120), pods);
    desk.run_until(90);
    desk.seen(ranked("late", 0, 300));
    assert_eq!(desk.asked_of("late"), [(90.0, Asked::Evict(27))]);
}

/// The first window ends at 50 s. Dividing what is left at 30 s anew would have it end at 63 s.
#[tokio::test]
async fn a_window_never_ends_later_than_it_did() {
    let mut desk = halves([ranked("web", 0, 5), ranked("dns", 5, 5)]);
    desk.run_until(30);
    desk.deadline(100);
    desk.seen(ranked("late", 0, 300));
    assert_eq!(desk.asked_of("late"), [(30.0, Asked::Evict(20))]);
}

/// Half of the 100 s that are left is the first window.
fn halves(pods: [PodView; 2]) -> Desk {
    Desk::new(shares(&[(0, 1), (5, 1)]), Some(103), pods)
}

#[tokio::test]
async fn a_deletion_without_answer_is_repeated_although_the_pod_joins_a_later_window() {
    let mut desk = halves([ranked("web", 0, 10), ranked("dns", 5, 5)]);
    desk.answer("web", &refused());
    let mut answered = 0;
    for second in 41..60 {
        desk.run_until(second);
        let deletions = desk.asked_of("web").iter().filter(|(_, asked)| matches!(asked, Asked::Delete(_))).count();
        if deletions > answered {
            answered = deletions;
            let effects = desk.drain.deleted(&pod("web", 0).id, &EvictionAnswer::Unknown("reset".into()), desk.now);
            desk.take(effects);
        }
    }
    let late: Vec<_> = desk.asked_of("web").into_iter().filter(|(at, _)| *at > 50.0).collect();
    assert!(!late.is_empty() && late.iter().all(|(_, asked)| matches!(asked, Asked::Delete(_))), "{late:?}");
}

#[tokio::test]
async fn a_stop_of_somebody_else_is_held_to_the_end_of_all_and_not_to_its_window() {
    let deletion = Some(Deletion { at: start().plus(secs(80)).wall, grace: secs(80) });
    let desk = halves([PodView { deletion, ..ranked("web", 0, 80) }, ranked("dns", 5, 5)]);
    assert_eq!(desk.asked, []);
}

/// The same time, read again from a better clock, is no new start of the division.
#[tokio::test]
async fn a_deadline_that_is_known_more_exactly_only_scales_the_windows() {
    let mut desk = halves([ranked("web", 0, 5), ranked("dns", 5, 5)]);
    desk.run_until(30);
    let known = deadline_at(desk.start, 103);
    desk.drain.set_deadline(Some(Deadline { instant: known.instant - secs(10), ..known }), desk.now);
    desk.seen(ranked("late", 0, 300));
    assert_eq!(desk.asked_of("late"), [(30.0, Asked::Evict(15))]);
}

/// Pod plans: priority, grace, seconds from being told to the exit.
fn ranked_pods() -> impl Strategy<Value = Vec<(i32, u64, u64)>> {
    proptest::collection::vec((-2..12_i32, 1..200_u64, 0..200_u64), 1..12)
}

fn share_list() -> impl Strategy<Value = Vec<(i32, u32)>> {
    proptest::collection::btree_map(0..10_i32, 0..100_u32, 1..5).prop_map(|map| map.into_iter().collect())
}

/// When each pod is told, and the grace that it gets: share after share, by hand.
fn oracle(list: &[(i32, u32)], pods: &[(i32, u64, u64)], limit: u64, call_by: u64) -> Vec<(Duration, u32)> {
    const SECOND: u64 = 1_000_000_000;
    let (limit, call_by) = (limit * SECOND, call_by * SECOND);
    let share = |priority: i32| list.iter().filter(|(least, _)| *least <= priority).count().max(1) - 1;
    let occupied: Vec<usize> = (0..list.len()).filter(|at| pods.iter().any(|pod| share(pod.0) == *at)).collect();
    let all: u32 = occupied.iter().map(|at| list[*at].1).sum();
    let seconds = |at: usize| if all == 0 { 1 } else { u64::from(list[at].1) };
    let total: u64 = occupied.iter().map(|at| seconds(*at)).sum();
    let upto = |place: usize| occupied[..=place].iter().map(|at| seconds(*at)).sum::<u64>();
    let ends: Vec<u64> = (0..occupied.len()).map(|place| limit * upto(place) / total).collect();
    let mut plan = vec![(Duration::ZERO, 0); pods.len()];
    let (mut others_gone, mut opens) = (0, 0);
    for (place, at) in occupied.iter().enumerate() {
        let told: u64 = call_by.min(opens).min(others_gone);
        let own = *ends[place..].iter().find(|end| **end > opens).unwrap_or(&ends[place]);
        let end = if own > told { own } else { *ends.iter().find(|end| **end > told).unwrap_or(&limit) };
        for (index, (_, grace, exits)) in pods.iter().enumerate().filter(|(_, pod)| share(pod.0) == *at) {
            let left = end - told;
            // Less than a second too long is not too long.
            let granted = if grace * SECOND < left + SECOND { *grace } else { left / SECOND }.max(1);
            plan[index] = (Duration::from_nanos(told), u32::try_from(granted).unwrap());
            others_gone = others_gone.max(told + granted.min(*exits) * SECOND);
        }
        opens = ends[place];
    }
    plan
}

proptest! {
    #[test]
    fn shares_are_what_a_calculation_by_hand_says(
        list in share_list(), pods in ranked_pods(), lead in 20..300_u64, tail in prop_oneof![Just(0), 1..200_u64],
    ) {
        let views = pods.iter().enumerate().map(|(index, (priority, grace, exits))| {
            let conduct = Conduct { exits_after: secs(*exits), ..EXITS_AT_ONCE };
            (ranked(&format!("p{index}"), *priority, *grace), Some(conduct))
        });
        let policy = Policy { shutdown_tail: secs(tail), ..shares(&list) };
        let mut desk = Desk::with(policy, Some(lead), views);
        desk.run_until(lead + tail + 1);
        let expected = oracle(&list, &pods, lead + tail - 3, lead - 3);
        for (index, (told, granted)) in expected.into_iter().enumerate() {
            let name = format!("p{index}");
            let asked: Vec<_> = desk.asked.iter().filter(|(_, pod, _)| *pod == name).collect();
            prop_assert_eq!(asked, [&(told, name.clone(), Asked::Evict(granted))]);
        }
    }

    #[test]
    fn the_forecast_promises_no_grace_that_the_drain_does_not_give(
        list in proptest::option::of(share_list()), pods in ranked_pods(), tail in prop_oneof![Just(0), 1..200_u64],
    ) {
        let exact = list.is_none();
        let policy = Policy { shutdown_tail: secs(tail), ..list.map_or_else(policy, |list| shares(&list)) };
        let views = pods.iter().enumerate().map(|(index, (priority, grace, _))| {
            PodView { critical: *priority > 8, ..ranked(&format!("p{index}"), *priority, *grace) }
        });
        let views: Vec<PodView> = views.collect();
        let forecast = Forecast::of(&views, &policy, NOTICE, start(), &BTreeMap::new());
        let mut desk = Desk::with(policy, Some(120), views.into_iter().map(stubborn));
        desk.run_until(121 + tail);
        for pod in forecast.pods {
            let cut = desk.outcome(&pod.pod.name) == Some(Outcome::Shortened);
            let foreseen = pod.verdict == Verdict::Shortened;
            prop_assert!(foreseen || !cut, "{:?}", pod);
            prop_assert!(!exact || foreseen == cut, "{:?}", pod);
        }
    }

    #[test]
    fn a_moved_deadline_never_lengthens_a_grace_and_nobody_is_told_past_the_limit(
        list in proptest::option::of(share_list()), pods in ranked_pods(), refused in 0..100_u64,
        deadlines in proptest::collection::vec((1..60_u64, 30..400_u64), 1..5),
    ) {
        let policy = list.map_or_else(policy, |list| shares(&list));
        let views = pods.iter().enumerate().map(|(index, (priority, grace, exits))| {
            let refused_until = secs(if index % 2 == 0 { 0 } else { refused });
            (ranked(&format!("p{index}"), *priority, *grace), Some(Conduct { exits_after: secs(*exits), refused_until }))
        });
        let mut desk = Desk::with(policy, None, views);
        let (mut granted, mut second, mut earliest, mut told) = (BTreeMap::new(), 0, u64::MAX, 0);
        for (pause, deadline) in deadlines.into_iter().chain([(500, u64::MAX)]) {
            second += pause;
            desk.run_until(second);
            let limit = earliest.saturating_sub(3) as f64;
            for (at, name, asked) in &desk.asked[told..] {
                let (Asked::Evict(grace) | Asked::Delete(grace)) = *asked else { continue };
                let ends = at.as_secs_f64() + f64::from(grace);
                prop_assert!(grace == 1 || ends < limit + 1.0, "{} at {:?}: {} s", name, at, grace);
            }
            told = desk.asked.len();
            for status in desk.drain.pods() {
                let before = granted.insert(status.id.clone(), status.granted).flatten();
                prop_assert!(before.is_none_or(|before| status.granted <= Some(before)), "{:?}", status);
            }
            if deadline < u64::MAX {
                earliest = earliest.min(deadline.max(second + 1));
                desk.deadline(deadline.max(second + 1));
            }
        }
        prop_assert!(desk.drain.pods().iter().all(|status| status.outcome.is_some()));
        prop_assert_eq!(desk.finished(), 1);
    }
}
