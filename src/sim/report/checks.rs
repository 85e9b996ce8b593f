//! The checks that a verdict consists of, in the order in which a person would ask.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Check, Facts, Report};
use crate::drain::outcome::Outcome;
use crate::sim::scenario::{FencePart, Scenario};

/// From the notice being told to the fence: the poll that has just missed it, its jitter, and a busy machine.
const FENCED_WITHIN: Duration = Duration::from_secs(2);
/// Polls of IMDS in a second, averaged over [`PACE_WINDOW`]: polls of different kinds may come close to each other.
const POLLS_PER_SECOND: usize = 2;
/// What the pace is averaged over, in seconds.
const PACE_WINDOW: usize = 10;
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
        checker.fence(),
        checker.fence_latency(),
        Some(checker.foreign_marks()),
        Some(checker.left_alone()),
        Some(checker.notices()),
        checker.mutating_requests(),
        checker.api_calls(),
        Some(checker.imds_pace()),
        Some(checker.imds_manners()),
        checker.same_outcomes(),
        checker.same_counts(),
        checker.same_slack(),
    ];
    let mut checks: Vec<Check> = checks.into_iter().flatten().collect();
    checks.extend(checker.grace());
    checks.extend(checker.events());
    checks
}

struct Checker<'a> {
    scenario: &'a Scenario,
    facts: &'a Facts,
    report: &'a Report,
}

fn check(name: impl Into<String>, passed: bool, found: impl Into<String>) -> Check {
    Check { name: name.into(), passed, found: found.into() }
}

impl Checker<'_> {
    fn acts(&self) -> bool {
        self.scenario.notice.is_some() && !self.scenario.agent.dry_run
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

    fn fence(&self) -> Option<Check> {
        let wanted = self.scenario.expect.fenced.or_else(|| self.acts().then_some(true))?;
        let without = if wanted { self.scenario.expect.fence_without.clone() } else { FencePart::ALL.to_vec() };
        let all = FencePart::ALL.into_iter();
        let expected: Vec<FencePart> = all.filter(|part| !without.contains(part)).collect();
        let found: Vec<&str> = self.facts.fence.iter().map(|part| part.as_str()).collect();
        let found = if found.is_empty() { "none of it".into() } else { found.join(", ") };
        let name = match (wanted, without.is_empty()) {
            (false, _) => "no part of the fence is on the node".to_owned(),
            (true, true) => "the whole fence is on the node".to_owned(),
            (true, false) => {
                let without: Vec<&str> = without.iter().map(|part| part.as_str()).collect();
                format!("the fence is on the node without its {}", without.join(", "))
            }
        };
        Some(check(name, expected == self.facts.fence, found))
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
        let lost = &self.facts.foreign_lost;
        check("nothing that others set on the node is touched", lost.is_empty(), counted(lost))
    }

    fn left_alone(&self) -> Check {
        let touched = self.facts.pods.iter().filter(|pod| !pod.drained && pod.told_by_agent);
        let touched: Vec<String> = touched.map(|pod| pod.name.clone()).collect();
        check("DaemonSet, mirror and finished pods are left alone", touched.is_empty(), counted(&touched))
    }

    fn notices(&self) -> Check {
        let wanted = self.scenario.expect.notices.unwrap_or(u32::from(self.scenario.notice.is_some()));
        let found = self.facts.agent.notices;
        check(format!("the number of notices counted is {wanted}"), wanted == found, found.to_string())
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
        let window = Duration::from_secs(PACE_WINDOW as u64);
        let within = |start: &Duration| polls.iter().filter(|at| *at >= start && **at < *start + window).count();
        let busiest = polls.iter().map(within).max().unwrap_or(0);
        let most = POLLS_PER_SECOND * PACE_WINDOW;
        check(
            format!("IMDS is polled at most {most} times in {PACE_WINDOW} seconds"),
            busiest <= most,
            busiest.to_string(),
        )
    }

    fn imds_manners(&self) -> Check {
        let unsafe_ones = self.facts.imds_requests.iter().filter(|request| !request.is_safe).count();
        let at_once = self.facts.imds_most_at_once;
        let found = format!("{at_once} at once, {unsafe_ones} otherwise");
        let name = "IMDS is asked one thing at a time, with a session, and never for credentials";
        check(name, at_once <= 1 && unsafe_ones == 0, found)
    }

    fn same_outcomes(&self) -> Option<Check> {
        if !self.scenario.is_drained() {
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
        if !self.scenario.is_drained() {
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

    fn events(&self) -> Vec<Check> {
        let found = &self.facts.events;
        let mut checks: Vec<Check> = Vec::new();
        for (reason, &wanted) in &self.scenario.expect.events {
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

/// The number of things, and the first few.
fn counted(things: &[String]) -> String {
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
