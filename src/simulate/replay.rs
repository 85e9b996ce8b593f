//! `simulate --replay`: makes a scenario of a report, and compares what comes out with what had come out. Pure.
//!
//! What a report does not tell is taken as it is by default: how often IMDS was asked, who else was at work, that the agent
//! was restarted. A pod's processes take as long as they took then, a budget gives way when it gave way, and the agent
//! decides anew; so a newer agent, or other pods, can be tried on an old interruption.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{OnBlockedEviction, Response};
use crate::drain::outcome::Outcome;
use crate::interruption::account::{Account, Announced, PodPart};
use crate::signal::{Action, Kind};
use crate::sim::report::{Check, Report};
use crate::sim::scenario::{
    AgentSpec, ApiEvent, ApiFault, Budget, BudgetChange, Event, EventBecomes, Expect, FencePart, Limit, NodeSpec,
    Notice, Owner, Phase, PodGroup, RebalanceEvent, Scenario, ScheduledChange, Sinks, StopsAfter, What,
};

/// The agent has read its node and pods by then.
const BEGIN: f64 = 3.0;
/// What the simulated kubelet needs beside the processes, from the deletion to the object's end.
const KUBELET: f64 = 0.95;
/// The agent asks a budget again after 5 s at the latest, so it gave way up to so long before the pod was told.
const ASKED_AGAIN: f64 = 4.0;
/// A pod that is asked so long after the beginning of the drain arrived late.
const LATE: f64 = 2.0;
/// What polls and pauses may make of the slack.
const SLACK_ERROR: f64 = 6.0;
/// The agent asks for scheduled events every 30 s, and then takes its marks away.
const HEARD_WITHIN: Duration = Duration::from_secs(45);
/// A deadline further ahead says nothing about the drain.
const LONGEST: f64 = 86_400.0;
/// Most pods that one world holds.
const MOST_PODS: usize = 500;

/// Why a report cannot be played again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReplayError {
    /// It tells of a rehearsal.
    #[error("the report is of a dry run, in which no pod ended; play the scenario that it is of")]
    DryRun,
    /// It holds no announcement.
    #[error("the report tells of no announcement, so there is nothing to play")]
    Nothing,
    /// An agent saw only the end.
    #[error("the report tells only of the end; put the report that the agent before the restart wrote before it")]
    OnlyTheEnd,
    /// More than any node carries.
    #[error("the report has {0} pods; a simulated node carries {MOST_PODS}")]
    TooManyPods(usize),
}

/// The name in the world of each pod of the report that was to go, in the report's order.
fn names(account: &Account) -> Vec<(&PodPart, String)> {
    let mut taken: BTreeMap<String, u32> = BTreeMap::new();
    let pods = account.pods.iter().filter(|pod| pod.was_to_go());
    let named = |pod| {
        let name: &PodPart = pod;
        let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
        let short: String = name.name.to_ascii_lowercase().chars().map(plain).take(36).collect();
        let short = match short.trim_matches('-') {
            "" => "pod",
            short => short,
        };
        let turn = taken.entry(short.to_owned()).and_modify(|turn| *turn += 1).or_insert(0);
        (pod, if *turn == 0 { short.to_owned() } else { format!("{short}-x{turn}") })
    };
    pods.map(named).collect()
}

/// The scenario in which it happens again.
pub(super) fn scenario(account: &Account) -> Result<Scenario, ReplayError> {
    if account.dry_run {
        return Err(ReplayError::DryRun);
    }
    if account.announcements.is_empty() {
        return Err(ReplayError::Nothing);
    }
    if account.resumed.is_some() && account.resumed == account.over {
        return Err(ReplayError::OnlyTheEnd);
    }
    let names = names(account);
    if names.len() > MOST_PODS {
        return Err(ReplayError::TooManyPods(names.len()));
    }
    let spot = account.announcements.iter().find(|one| one.kind == Kind::SpotInterruption);
    let mut events: Vec<Event> = account.announcements.iter().flat_map(announce).collect();
    events.extend(names.iter().filter_map(|(pod, name)| gives_way(pod, name)));
    events.extend(refusals(account).map(|part| Event {
        at: Duration::ZERO,
        what: What::Api(ApiEvent { fault: ApiFault::Denied(part), lasts: Duration::from_secs(86_400) }),
    }));
    events.sort_by_key(|event| event.at);
    let blocked = names.iter().filter(|(pod, _)| pod.blocked.is_some());
    Ok(Scenario {
        name: "replay".to_owned(),
        title: format!("The interruption of {} at {}", account.node, account.started),
        description: format!("Played again from the report of trace {}.", account.trace_id),
        notice: spot.map(|one| notice(one, account.shutdown_tail)),
        lasts: Some(time(last_turn(account)) + HEARD_WITHIN),
        virtual_only: None,
        node: NodeSpec::default(),
        cni: None,
        sinks: Sinks::default(),
        agent: agent(account),
        pods: names.iter().map(|(pod, name)| group(account, pod, name)).collect(),
        budgets: blocked.map(|(_, name)| budget(name)).collect(),
        events,
        expect: expect(account, &names),
    })
}

/// Since the start of the world.
fn time(offset: f64) -> Duration {
    Duration::from_secs_f64(BEGIN + offset.clamp(0.0, LONGEST))
}

fn span(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, LONGEST))
}

fn notice(one: &Announced, tail: f64) -> Notice {
    Notice {
        action: one.action,
        word: None,
        at: time(one.at),
        lead: span(one.deadline.unwrap_or(one.at + 120.0) - one.at),
        power_off_after: span(tail),
        fails: false,
        slides: false,
        back_after: None,
    }
}

/// What is announced beside a spot notice, and its end.
fn announce(one: &Announced) -> Vec<Event> {
    let over = |what| one.over.as_ref().map(|over| Event { at: time(over.at), what });
    let (first, over) = match one.kind {
        Kind::SpotInterruption => return Vec::new(),
        // It ends by its expiry, which is a setting.
        Kind::RebalanceRecommendation => (What::Rebalance(RebalanceEvent { ago: Duration::ZERO }), None),
        Kind::ScheduledEvent => {
            let id = one.id.rsplit('/').next().unwrap_or(&one.id).to_owned();
            let change = ScheduledChange {
                id,
                code: Some(code(one.action).to_owned()),
                not_before_in: Some(span(one.deadline.unwrap_or(LONGEST) - one.at)),
                lasts: None,
                becomes: EventBecomes::Active,
            };
            let end =
                ScheduledChange { becomes: EventBecomes::Completed, code: None, not_before_in: None, ..change.clone() };
            (What::Scheduled(change), over(What::Scheduled(end)))
        }
        Kind::AsgTermination => {
            let word = if one.action == Action::Standby { "Standby" } else { "Terminated" };
            (What::Lifecycle(word.to_owned()), over(What::Lifecycle("InService".to_owned())))
        }
    };
    std::iter::once(Event { at: time(one.at), what: first }).chain(over).collect()
}

/// A code that EC2 has for this.
fn code(action: Action) -> &'static str {
    match action {
        Action::Reboot => "system-reboot",
        Action::Stop | Action::Hibernate => "instance-stop",
        Action::Maintenance => "system-maintenance",
        Action::Terminate | Action::Standby => "instance-retirement",
    }
}

fn agent(account: &Account) -> AgentSpec {
    let began = account.drain.as_ref().map(|drain| drain.at);
    // A hibernation is answered like a drain; there is only no time for one.
    let acted = if began.is_some() || account.not_drained.is_some() {
        Response::Drain
    } else if account.fence.is_some() {
        Response::Cordon
    } else {
        Response::Taint
    };
    let of = |kind| account.announcements.iter().find(|one| one.kind == kind);
    let (rebalance, scheduled) = (of(Kind::RebalanceRecommendation), of(Kind::ScheduledEvent));
    let others = account.announcements.iter().filter(|one| one.kind != Kind::RebalanceRecommendation);
    let first_other = others.map(|one| one.at).fold(f64::INFINITY, f64::min);
    // A recommendation is drained for only where the drain cannot be on another's account.
    let rebalance_acted =
        if first_other.is_infinite() || began.is_some_and(|at| at + 0.5 < first_other) { Some(acted) } else { None };
    let late = |one: &Announced| {
        began.filter(|at| *at > one.at + 5.0).zip(one.deadline).map(|(at, deadline)| span(deadline - at))
    };
    let waits = account
        .pods
        .iter()
        .any(|pod| pod.outcome == Some(Outcome::Unfinished) && pod.blocked.is_some() && pod.told.is_none());
    AgentSpec {
        on_spot_interruption: Some(acted),
        on_rebalance_recommendation: rebalance.and(rebalance_acted),
        on_scheduled_event: scheduled.map(|_| acted),
        on_asg_termination: of(Kind::AsgTermination).map(|_| acted),
        rebalance_expiry: rebalance.and_then(|one| Some(span(one.over.as_ref()?.at - one.at))),
        scheduled_event_lead: scheduled.and_then(late),
        asg_hook_timeout: of(Kind::AsgTermination).and_then(|one| Some(span(one.deadline? - one.at))),
        on_blocked_eviction: waits.then_some(OnBlockedEviction::Wait),
        shutdown_tail: Some(span(account.shutdown_tail)),
        ..AgentSpec::default()
    }
}

fn group(account: &Account, pod: &PodPart, name: &str) -> PodGroup {
    let began = account.drain.as_ref().map_or(0.0, |drain| drain.at);
    let late = pod.asked.filter(|asked| pod.blocked.is_none() && *asked > began + LATE);
    let stopped = pod.told.or(pod.asked).unwrap_or(began);
    let took = pod.ended.map(|ended| ended - stopped);
    let killed = |took: f64| pod.told.is_some() && pod.granted.is_some_and(|granted| took >= granted);
    let stops_after = match took {
        Some(took) if pod.outcome != Some(Outcome::Unfinished) && !killed(took) => {
            StopsAfter::Time(Duration::from_secs_f64((took - KUBELET).clamp(0.05, LONGEST)))
        }
        Some(_) => StopsAfter::Never,
        None => StopsAfter::default(),
    };
    PodGroup {
        name: name.to_owned(),
        count: 1,
        grace: whole(pod.wanted.unwrap_or(30.0)),
        stops_after,
        owner: Owner::ReplicaSet,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        priority_class: None,
        priority: None,
        phase: Phase::Running,
        arrives: late.map(time).unwrap_or_default(),
        every: None,
        at_once: 1,
        lives: None,
        host_network: false,
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn whole(seconds: f64) -> u32 {
    seconds.clamp(0.0, LONGEST).round() as u32
}

fn budget(name: &str) -> Budget {
    let selector = BTreeMap::from([("app".to_owned(), name.to_owned())]);
    Budget { name: name.to_owned(), selector, limit: Limit::MinAvailable(1) }
}

/// The moment at which the budget of a pod that was refused let it go.
fn gives_way(pod: &PodPart, name: &str) -> Option<Event> {
    let blocked = pod.blocked?;
    if pod.forced {
        return None;
    }
    let told = pod.told.or(pod.ended.filter(|_| pod.outcome != Some(Outcome::Unfinished)))?;
    let at = (told - ASKED_AGAIN).max(blocked + 0.3);
    let change = BudgetChange { name: name.to_owned(), limit: Limit::MinAvailable(0) };
    Some(Event { at: time(at), what: What::Budget(change) })
}

/// Parts of the fence that the API server refused.
fn refusals(account: &Account) -> impl Iterator<Item = FencePart> + '_ {
    let parts = account.fence.iter().flat_map(|fence| &fence.refused);
    parts.filter_map(|part| match part.as_str() {
        "taint" => Some(FencePart::Taint),
        "unschedulable" => Some(FencePart::Cordon),
        "load balancer label" => Some(FencePart::Label),
        "state annotation" => Some(FencePart::Annotation),
        _ => None,
    })
}

/// When the last thing happened that is to happen again.
fn last_turn(account: &Account) -> f64 {
    let pods = account.pods.iter().filter_map(|pod| pod.ended);
    let drain = account.drain.as_ref().map(|drain| drain.at);
    let announced = account.announcements.iter().flat_map(|one| [Some(one.at), one.over.as_ref().map(|over| over.at)]);
    pods.chain(drain).chain(announced.flatten()).chain(account.restored).fold(0.0, f64::max)
}

fn expect(account: &Account, names: &[(&PodPart, String)]) -> Expect {
    let mut outcomes = BTreeMap::new();
    for (pod, _) in names {
        // One that stayed after all is there in the end.
        let outcome =
            pod.outcome.map(|outcome| if outcome == Outcome::Skipped { Outcome::Unfinished } else { outcome });
        *outcomes.entry(outcome.unwrap_or(Outcome::Unfinished)).or_insert(0) += 1;
    }
    let unfinished = outcomes.get(&Outcome::Unfinished).copied().unwrap_or(0);
    let finished = account.drain.as_ref().is_some_and(|drain| drain.finished.is_some());
    let spot = account.announcements.iter().any(|one| one.kind == Kind::SpotInterruption);
    Expect {
        drained: Some(finished && unfinished == 0),
        deadline_met: spot.then_some(unfinished == 0).filter(|_| finished),
        outcomes: finished.then_some(outcomes),
        fence_without: refusals(account).collect(),
        fenced: account
            .over
            .is_some()
            .then_some(false)
            .or(account.fence.as_ref().map(|fence| fence.refused.is_empty()))
            .filter(|_| refusals(account).next().is_none()),
        ..Expect::default()
    }
}

/// Adds to the verdict how each pod ended then, and the slack.
pub(super) fn compare(report: &mut Report, account: &Account) {
    let mut differences = Vec::new();
    for (pod, name) in names(account) {
        let Some(then) = pod.outcome.filter(|outcome| *outcome != Outcome::Skipped) else { continue };
        let name = format!("{name}-0");
        match report.pods.iter().find(|one| one.name == name).map(|one| one.outcome) {
            Some(now) if now == then => {}
            Some(now) => differences.push(format!(
                "{}/{} was {} and is {}",
                pod.namespace,
                pod.name,
                then.as_str(),
                now.as_str()
            )),
            None => differences.push(format!("{}/{} was {} and is not there", pod.namespace, pod.name, then.as_str())),
        }
    }
    let found = if differences.is_empty() { "it does".to_owned() } else { differences.join("; ") };
    report.checks.push(Check {
        name: "each pod ends as it did then".to_owned(),
        passed: differences.is_empty(),
        found,
    });
    let then = account.drain.as_ref().and_then(|drain| drain.finished.as_ref()?.slack);
    if let (Some(then), Some(now), true) = (then, report.slack_seconds, account.shutdown_tail == 0.0) {
        let passed = (then - now).abs() <= SLACK_ERROR;
        let name = format!("the slack is what it was then, {then:.1} s, within {SLACK_ERROR:.0} s");
        report.checks.push(Check { name, passed, found: format!("{now:.1} s") });
    }
    report.passed = report.checks.iter().all(|check| check.passed);
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::clock::Clock;
    use crate::sim::world::{BackendHandle, Options, World};

    async fn played(scenario: &Scenario) -> (Report, Account) {
        let clock = Clock::anchored("2026-01-05T12:00:00.25Z".parse().unwrap());
        let mut world =
            World::open(scenario, BackendHandle::embedded(clock), clock, &Options::default()).await.unwrap();
        let report = world.play(|_| {}).await;
        (report, (*world.account().unwrap()).clone())
    }

    #[rstest]
    #[case("plain-notice")]
    #[case("full-node")]
    #[case("budget-frees")]
    #[case("budget-never-frees")]
    #[case("two-budgets")]
    #[case("long-graces")]
    #[case("ignores-sigterm")]
    #[case("mixed-node")]
    #[case("late-pods")]
    #[case("late-notice")]
    #[case("stop")]
    #[case("shutdown-tail")]
    #[case("rebalance-then-notice")]
    #[case("rebalance-drain")]
    #[case("asg-termination")]
    #[case("admission-denies-label")]
    #[case("admission-denies-taint")]
    #[tokio::test(start_paused = true)]
    async fn an_interruption_that_is_played_again_ends_as_it_did(#[case] name: &str) {
        let (_, account) = played(&Scenario::load(name).unwrap()).await;
        let again = scenario(&account).unwrap();
        let (mut report, _) = played(&again).await;
        compare(&mut report, &account);
        assert!(report.passed, "{}\n{again:#?}\n{account:#?}", report.text(false));
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_otherwise_is_named() {
        let (_, mut account) = played(&Scenario::load("plain-notice").unwrap()).await;
        let again = scenario(&account).unwrap();
        let (mut report, _) = played(&again).await;
        let pod = account.pods.iter_mut().find(|pod| pod.outcome == Some(Outcome::Graceful)).unwrap();
        pod.outcome = Some(Outcome::Forced);
        compare(&mut report, &account);
        let check = report.checks.iter().find(|check| check.name == "each pod ends as it did then").unwrap();
        assert!(!report.passed && check.found.contains(" was forced and is graceful"), "{check:?}");
    }

    #[test]
    fn what_cannot_be_played_is_refused() {
        let account = Account::drained();
        assert_eq!(scenario(&Account { dry_run: true, ..account.clone() }), Err(ReplayError::DryRun));
        assert_eq!(scenario(&Account { announcements: Vec::new(), ..account.clone() }), Err(ReplayError::Nothing));
        let end = Account { resumed: Some(9.0), over: Some(9.0), ..account.clone() };
        assert_eq!(scenario(&end), Err(ReplayError::OnlyTheEnd));
        let pods = vec![account.pods[1].clone(); 600];
        assert_eq!(scenario(&Account { pods, ..account }), Err(ReplayError::TooManyPods(600)));
    }

    #[test]
    fn names_that_the_world_does_not_take_are_made_ones_that_it_does() {
        let pod = |name: &str| PodPart { asked: Some(1.0), ..PodPart::new("a", name) };
        let long = "x".repeat(80);
        let account = Account {
            pods: vec![pod("web-1"), pod("web-1"), pod("Ü.b"), pod("---"), pod(&long)],
            ..Account::drained()
        };
        let names: Vec<String> = names(&account).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["web-1".to_owned(), "web-1-x1".into(), "b".into(), "pod".into(), "x".repeat(36)]);
    }
}
