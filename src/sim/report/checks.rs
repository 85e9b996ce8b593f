//! The checks that a verdict consists of, in the order in which a person would ask.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Check, Facts, Report, headroom, node, sinks};
use crate::config::{Config, Response};
use crate::drain::outcome::Outcome;
use crate::signal::Kind;
use crate::sim::scenario::{Scenario, What};

/// From the notice being told to the fence: the poll that has just missed it, its jitter, and a busy machine.
const FENCED_WITHIN: Duration = Duration::from_secs(2);
/// Polls of IMDS: two a second, where what is due together may come a little faster.
const PACE_SPAN: Duration = Duration::from_secs(10);
const POLLS_IN_SPAN: usize = 20;
const POLLS_AT_ONCE: usize = 4;
/// Times are whole seconds on both sides, and the agent learns of a pod's end a moment later than the kubelet.
const SLACK_ERROR: Duration = Duration::from_secs(2);

/// Every check that applies to the scenario.
pub(super) fn all(scenario: &Scenario, facts: &Facts, report: &Report) -> Vec<Check> {
    let checker = Checker { scenario, facts, report };
    if facts.agent.lives == 0 {
        // Another agent leaves other marks and says nothing here.
        let checks = [checker.deadline(), checker.cut_off(), Some(checker.foreign_marks())];
        return checks.into_iter().flatten().collect();
    }
    let checks = [
        Some(checker.agent_lived()),
        checker.deadline(),
        checker.cut_off(),
        checker.outcomes(),
        checker.slack(),
        checker.fence_latency(),
        Some(checker.foreign_marks()),
        Some(checker.left_alone()),
        checker.untouched(),
        checker.notices(),
        checker.mutating_requests(),
        checker.api_calls(),
        Some(checker.imds_pace()),
        Some(checker.imds_manners()),
        checker.same_outcomes(),
        checker.same_counts(),
        checker.same_slack(),
    ];
    let mut checks: Vec<Check> = checks.into_iter().flatten().collect();
    checks.extend(checker.node());
    checks.extend(checker.grace());
    checks.extend(checker.told());
    checks.extend(checker.metrics());
    checks.extend(checker.events());
    checks.extend(sinks::checks(&checker));
    checks.extend(checker.headroom());
    checks
}

pub(super) struct Checker<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) facts: &'a Facts,
    report: &'a Report,
}

pub(super) fn check(name: impl Into<String>, passed: bool, found: impl Into<String>) -> Check {
    Check { name: name.into(), passed, found: found.into() }
}

impl Checker<'_> {
    /// The agent answers a spot notice with the fence.
    fn acts(&self) -> bool {
        let agent = &self.scenario.agent;
        let fences = agent.on_spot_interruption.unwrap_or(Response::Drain) >= Response::Cordon;
        self.scenario.notice.is_some() && fences && !agent.dry_run
    }

    fn copies(&self) -> usize {
        self.scenario.agent.copies.max(1).into()
    }

    fn agent_lived(&self) -> Check {
        let died = self.facts.agent.died.clone();
        check("the agent ends only when it is told to", died.is_none(), died.unwrap_or_else(|| "it did".into()))
    }

    fn deadline(&self) -> Option<Check> {
        let met = self.report.deadline_met?;
        let wanted = self.scenario.expect.deadline_met.or_else(|| self.scenario.is_drained().then_some(true))?;
        let name =
            if wanted { "the node is clear before the deadline" } else { "the node is not clear before the deadline" };
        Some(check(name, met == wanted, if met { "it is" } else { "it is not" }))
    }

    fn cut_off(&self) -> Option<Check> {
        let wanted = self.scenario.expect.cut_off.or_else(|| self.scenario.is_drained().then_some(0))?;
        let found = &self.report.cut_off;
        let passed = found.len() == wanted as usize;
        Some(check(format!("the number of pods cut off by the power is {wanted}"), passed, counted(found)))
    }

    fn outcomes(&self) -> Option<Check> {
        let wanted = self.scenario.expect.outcomes.as_ref()?;
        let wanted: BTreeMap<Outcome, u32> =
            wanted.iter().map(|(&k, &v)| (k, v)).filter(|&(_, pods)| pods > 0).collect();
        let passed = wanted == self.report.outcomes;
        Some(check(format!("pods end as {}", outcome_list(&wanted)), passed, outcome_list(&self.report.outcomes)))
    }

    fn slack(&self) -> Option<Check> {
        let wanted = self.scenario.expect.min_slack?.saturating_sub(self.patience()).as_secs_f64();
        let found = self.report.slack_seconds;
        let name = format!("the last pod is gone at least {wanted:.0} s before the deadline");
        Some(check(name, found.is_some_and(|found| found >= wanted), seconds(found)))
    }

    fn fence_latency(&self) -> Option<Check> {
        let expected = self.scenario.expect.fenced != Some(false) && self.acts();
        let wanted = self.scenario.expect.fenced_within.or_else(|| expected.then_some(FENCED_WITHIN))?;
        let wanted = (wanted + self.patience()).as_secs_f64();
        let found = self.report.notice_to_fence_seconds;
        let name = format!("the node is fenced at most {wanted} s after the notice");
        Some(check(name, found.is_some_and(|found| found <= wanted), seconds(found)))
    }

    fn foreign_marks(&self) -> Check {
        let lost = &self.facts.node.lost;
        check("nothing that others set on the node is touched", lost.is_empty(), counted(lost))
    }

    /// The node in the end, and at the times at which the scenario looks.
    fn node(&self) -> Vec<Check> {
        let mut expected = self.scenario.expect.node();
        let is_said = expected.taint.is_some() || expected.restored.is_some() || expected.cordoned.is_some();
        expected.fenced = expected.fenced.or_else(|| (self.acts() && !is_said).then_some(true));
        let mut checks = node::checks("", &expected, &self.facts.node);
        for look in &self.facts.looks {
            let when = format!("at {:.0} s ", look.at.as_secs_f64());
            checks.extend(node::checks(&when, &look.expected, &look.found));
        }
        checks
    }

    fn left_alone(&self) -> Check {
        let touched = self.facts.pods.iter().filter(|pod| !pod.drained && pod.told_by_agent);
        let touched: Vec<String> = touched.map(|pod| pod.name.clone()).collect();
        check("DaemonSet, mirror and finished pods are left alone", touched.is_empty(), counted(&touched))
    }

    fn untouched(&self) -> Option<Check> {
        let groups = &self.scenario.expect.untouched;
        let touched = self.facts.pods.iter().filter(|pod| groups.contains(&pod.group) && pod.told_by_agent);
        let touched: Vec<String> = touched.map(|pod| pod.name.clone()).collect();
        let name = format!("the agent leaves the {} pods alone", groups.join(" and "));
        (!groups.is_empty()).then(|| check(name, touched.is_empty(), counted(&touched)))
    }

    /// Kinds that the file names, or those whose number follows from what is announced.
    fn notices(&self) -> Option<Check> {
        let found = &self.facts.agent.notices;
        let wanted = match &self.scenario.expect.notices {
            Some(named) => Kind::ALL.map(|kind| (kind, named.get(&kind).copied().unwrap_or(0))).into(),
            None => announced(self.scenario),
        };
        let found: BTreeMap<Kind, u32> =
            wanted.keys().map(|kind| (*kind, found.get(kind).copied().unwrap_or(0))).collect();
        let name = format!("the notices counted are {}", notice_list(&wanted));
        // Copies that look at the same moment count it each for itself.
        let copies = u32::try_from(self.copies()).unwrap_or(u32::MAX);
        let right =
            wanted.iter().zip(found.values()).all(|((_, wanted), found)| (*wanted..=wanted * copies).contains(found));
        (!wanted.is_empty()).then(|| check(name, right, notice_list(&found)))
    }

    fn mutating_requests(&self) -> Option<Check> {
        let wanted = self.scenario.expect.mutating_requests.or_else(|| self.scenario.agent.dry_run.then_some(0))?;
        let found = self.facts.calls.iter().filter(|call| call.is_mutating()).count();
        Some(check(format!("{wanted} requests change something"), found == wanted as usize, found.to_string()))
    }

    fn api_calls(&self) -> Option<Check> {
        let most = self.scenario.expect.max_api_calls?;
        let found = self.facts.calls.len();
        Some(check(format!("the API server gets at most {most} requests"), found <= most as usize, found.to_string()))
    }

    fn imds_pace(&self) -> Check {
        let polls: Vec<Duration> = self.facts.imds_requests.iter().filter(|r| r.is_poll).map(|r| r.at).collect();
        let busiest = |span: Duration| {
            let within = |start: &Duration| polls.iter().filter(|at| *at >= start && **at < *start + span).count();
            polls.iter().map(within).max().unwrap_or(0)
        };
        let (burst, pace) = (busiest(Duration::from_secs(1)), busiest(PACE_SPAN));
        let (most, mean) = (POLLS_AT_ONCE * self.copies(), self.polls_in_span() * self.copies());
        let span = PACE_SPAN.as_secs();
        let name = format!("IMDS is polled at most {mean} times in {span} seconds and {most} times in one");
        check(name, burst <= most && pace <= mean, format!("{pace} and {burst}"))
    }

    /// Two a second, or what the file's own intervals come to. Jitter makes an interval shorter by a tenth at most, and a
    /// missing event is looked for in the history as often as in the list.
    fn polls_in_span(&self) -> usize {
        let (agent, default) = (&self.scenario.agent, Config::for_node("").imds);
        let scheduled = agent.scheduled_poll_interval.unwrap_or(default.scheduled_interval);
        let intervals = [
            agent.spot_poll_interval.unwrap_or(default.spot_interval),
            agent.rebalance_poll_interval.unwrap_or(default.rebalance_interval),
            agent.asg_poll_interval.unwrap_or(default.asg_interval),
            scheduled,
            scheduled,
        ];
        let polls = |interval: &Duration| PACE_SPAN.as_millis() / (interval.as_millis() * 9 / 10).max(1) + 1;
        let polls: u128 = intervals.iter().map(polls).sum();
        usize::try_from(polls).unwrap_or(usize::MAX).max(POLLS_IN_SPAN)
    }

    fn imds_manners(&self) -> Check {
        let unsafe_ones = self.facts.imds_requests.iter().filter(|request| !request.is_safe).count();
        let at_once = self.facts.imds_most_at_once;
        let found = format!("{at_once} at once, {unsafe_ones} otherwise");
        let name = "IMDS is asked one thing at a time, with a session, and never for credentials";
        check(name, at_once <= self.copies() && unsafe_ones == 0, found)
    }

    fn same_outcomes(&self) -> Option<Check> {
        // Of agents that run side by side each sees a part.
        if !self.scenario.is_drained() || self.copies() > 1 {
            return None;
        }
        let agent = &self.facts.agent;
        let mut differences = Vec::new();
        for pod in self.facts.pods.iter().filter(|pod| pod.drained) {
            let truth = pod.outcome(self.facts.deadline);
            match agent.outcomes.get(&pod.name) {
                Some(&said) if said != truth => {
                    differences.push(format!("{} was {}, the agent says {}", pod.name, truth.as_str(), said.as_str()));
                }
                // What ended before or between two lives is nobody's to report.
                None if agent.lives <= 1 => {
                    differences.push(format!("{} was {}, the agent says nothing", pod.name, truth.as_str()));
                }
                _ => {}
            }
        }
        Some(check("the agent reports each pod's end as it was", differences.is_empty(), counted(&differences)))
    }

    fn same_counts(&self) -> Option<Check> {
        if !self.scenario.is_drained() || self.copies() > 1 {
            return None;
        }
        let lives = self.facts.agent.lives;
        let mut differences = Vec::new();
        for outcome in Outcome::ALL.into_iter().filter(|&outcome| outcome != Outcome::Skipped) {
            let truth = self.report.outcomes.get(&outcome).copied().unwrap_or(0);
            let counted = self.facts.agent.counted.get(&outcome).copied().unwrap_or(0);
            if counted > truth || (lives <= 1 && counted < truth) {
                differences.push(format!("{counted} {} counted, {truth} true", outcome.as_str()));
            }
        }
        Some(check("the agent's counters agree with the world", differences.is_empty(), counted(&differences)))
    }

    fn patience(&self) -> Duration {
        self.scenario.expect.patience
    }

    fn same_slack(&self) -> Option<Check> {
        // Only a spot notice says when the power goes.
        self.facts.notice_at?;
        let (said, truth) = (self.facts.agent.slack_seconds?, self.report.slack_seconds?);
        let tolerance = (self.scenario.expect.slack_error.unwrap_or(SLACK_ERROR) + self.patience()).as_secs_f64();
        let passed = (said - truth).abs() <= tolerance;
        Some(check("the agent reports the slack as it was", passed, format!("{said:.1} s said, {truth:.1} s true")))
    }

    fn grace(&self) -> Vec<Check> {
        let granted = |group: &str| {
            let pods = self.facts.pods.iter().filter(|pod| pod.group == *group);
            pods.map(|pod| pod.granted.unwrap_or(0)).min()
        };
        let expected = self.scenario.expect.min_granted.iter();
        let patience = u32::try_from(self.patience().as_secs()).unwrap_or(u32::MAX);
        let judged = expected.map(|(group, &wanted)| {
            let wanted = wanted.saturating_sub(patience);
            let found = granted(group);
            let name = format!("{group} pods are granted at least {wanted} s");
            check(name, found.is_some_and(|found| found >= wanted), found.map_or("none".into(), |f| format!("{f} s")))
        });
        judged.collect()
    }

    fn told(&self) -> Vec<Check> {
        let patience = self.patience();
        let judged = self.scenario.expect.told.iter().map(|(group, window)| {
            let pods = self.facts.pods.iter().filter(|pod| pod.group == *group);
            let told: Option<Vec<Duration>> = pods.map(|pod| pod.told_at).collect();
            let times = told.and_then(|told| Some((*told.iter().min()?, *told.iter().max()?)));
            let in_time = |(first, last): (Duration, Duration)| first >= window.from && last <= window.to + patience;
            let (from, to) = (window.from.as_secs_f64(), window.to.as_secs_f64());
            let name = format!("{group} pods are told to stop between {from} s and {to} s");
            let found = times.map_or("not all of them".to_owned(), |(first, last)| {
                format!("{:.2} s to {:.2} s", first.as_secs_f64(), last.as_secs_f64())
            });
            check(name, times.is_some_and(in_time), found)
        });
        judged.collect()
    }

    fn metrics(&self) -> Vec<Check> {
        let found = &self.facts.agent.metrics;
        let judged = self.scenario.expect.metrics.iter().map(|(series, &least)| {
            let value = found.get(series).copied();
            let name = format!("{series} is at least {least}");
            check(name, value.is_some_and(|value| value >= least), value.map_or("absent".into(), |v| v.to_string()))
        });
        judged.collect()
    }

    fn headroom(&self) -> Vec<Check> {
        let Some(facts) = &self.facts.cni else { return Vec::new() };
        headroom::story(&self.scenario.expect.headroom, facts, self.copies(), self.facts.agent.lives)
    }

    fn events(&self) -> Vec<Check> {
        let found = &self.facts.events;
        let mut checks: Vec<Check> = Vec::new();
        let mut wanted = self.scenario.expect.events.clone();
        // No scenario runs out of addresses without saying so.
        for reason in ["PodIPsLow", "PodIPsExhausted"] {
            wanted.entry(reason.to_owned()).or_insert(0);
        }
        if self.facts.cni.is_none() {
            wanted.retain(|reason, _| self.scenario.expect.events.contains_key(reason));
        }
        for (reason, &wanted) in &wanted {
            let times = found.get(reason).copied().unwrap_or(0);
            checks.push(check(
                format!("times that the Event {reason} is published: {wanted}"),
                times == wanted,
                times.to_string(),
            ));
        }
        let repeated =
            found.iter().filter(|&(reason, &times)| times > 1 && !self.scenario.expect.events.contains_key(reason));
        let repeated: Vec<String> = repeated.map(|(reason, times)| format!("{reason} {times} times")).collect();
        checks.push(check("no Event is published twice", repeated.is_empty(), counted(&repeated)));
        checks
    }
}

/// How many notices of each kind the scenario's announcements amount to. What a lifecycle state means is the agent's to
/// decide, so a file has to say it.
fn announced(scenario: &Scenario) -> BTreeMap<Kind, u32> {
    let mut wanted = BTreeMap::from([(Kind::SpotInterruption, u32::from(scenario.notice.is_some()))]);
    let mut events = BTreeSet::new();
    for event in &scenario.events {
        match &event.what {
            What::Rebalance(_) => *wanted.entry(Kind::RebalanceRecommendation).or_insert(0) += 1,
            What::Scheduled(change) if events.insert(change.id.as_str()) => {
                *wanted.entry(Kind::ScheduledEvent).or_insert(0) += 1;
            }
            _ => {}
        }
    }
    wanted
}

fn notice_list(notices: &BTreeMap<Kind, u32>) -> String {
    let each = notices.iter().map(|(kind, times)| format!("{times} {}", kind.as_str()));
    each.collect::<Vec<_>>().join(", ")
}

/// The number of things, and the first few.
pub(super) fn counted(things: &[String]) -> String {
    match things {
        [] => "none".into(),
        [only] => only.clone(),
        _ => {
            let first: Vec<&str> = things.iter().take(3).map(String::as_str).collect();
            format!("{}: {}{}", things.len(), first.join("; "), if things.len() > 3 { "; …" } else { "" })
        }
    }
}

fn seconds(value: Option<f64>) -> String {
    value.map_or("never".into(), |value| format!("{value:.2} s"))
}

/// `3 graceful, 1 forced`.
pub(super) fn outcome_list(outcomes: &BTreeMap<Outcome, u32>) -> String {
    if outcomes.is_empty() {
        return "none".into();
    }
    let each = outcomes.iter().map(|(outcome, pods)| format!("{pods} {}", outcome.as_str()));
    each.collect::<Vec<_>>().join(", ")
}
