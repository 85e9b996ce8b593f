//! The report for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::checks::outcome_list;
use super::{HeadroomReport, PodReport, Report};
use crate::drain::outcome::Outcome;

/// Characters of calls on one line.
const CALLS_WIDTH: usize = 86;

impl Report {
    /// Lines for people: what happened, what it cost, and what is wrong. Checks that passed are only counted.
    pub fn text(&self, colour: bool) -> String {
        let mut text = String::new();
        let verdict = if self.passed { paint("PASSED", "1;32", colour) } else { paint("FAILED", "1;31", colour) };
        _ = writeln!(text, "{verdict}  {}", self.scenario);
        _ = writeln!(text, "  deadline   {}", self.deadline_line());
        if let Some(seconds) = self.notice_to_fence_seconds {
            _ = writeln!(text, "  fence      {seconds:.2} s after IMDS began to tell the notice");
        }
        _ = writeln!(text, "  pods       {}", outcome_list(&self.outcomes));
        for line in self.pod_lines() {
            _ = writeln!(text, "             {line}");
        }
        let total: u32 = self.api_calls.values().sum();
        _ = writeln!(text, "  API        {total} requests");
        for line in self.call_lines() {
            _ = writeln!(text, "             {line}");
        }
        _ = writeln!(text, "  IMDS       {} requests", self.imds_requests);
        let events: Vec<&str> = self.events.keys().map(String::as_str).collect();
        _ = writeln!(text, "  events     {}", if events.is_empty() { "none".into() } else { events.join(", ") });
        for (place, line) in self.headroom.iter().flat_map(HeadroomReport::lines).enumerate() {
            _ = writeln!(text, "  {:<10} {line}", if place == 0 { "pod IPs" } else { "" });
        }
        _ = writeln!(
            text,
            "  checks     {} of {} passed",
            self.checks.iter().filter(|c| c.passed).count(),
            self.checks.len()
        );
        for check in self.checks.iter().filter(|check| !check.passed) {
            _ = writeln!(text, "    {} {} (found: {})", paint("FAILED", "1;31", colour), check.name, check.found);
        }
        text
    }

    /// Calls by verb and resource, in lines that fit a terminal.
    fn call_lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for (call, times) in &self.api_calls {
            let call = format!("{times} {call}");
            match lines.last_mut() {
                Some(line) if line.len() + call.len() + 2 <= CALLS_WIDTH => _ = write!(line, ", {call}"),
                _ => lines.push(call),
            }
        }
        lines
    }

    fn deadline_line(&self) -> String {
        match (self.deadline_met, self.slack_seconds) {
            (Some(false), _) if self.left_running => "not to be met: the pods are left running".into(),
            (None, _) => "none was announced".into(),
            (Some(true), Some(slack)) => format!("met, {slack:.1} s to spare"),
            (Some(true), None) => "met, there was nothing to drain".into(),
            (Some(false), _) if self.cut_off.is_empty() => "not met, nobody was cut off by the power".into(),
            (Some(false), _) => format!("not met, {} pods were cut off by the power", self.cut_off.len()),
        }
    }

    /// Pods that fared alike on one line.
    fn pod_lines(&self) -> Vec<String> {
        type Key<'a> = (&'a str, Outcome, u32, Option<u32>, bool);
        let mut alike: BTreeMap<Key<'_>, Vec<&PodReport>> = BTreeMap::new();
        for pod in &self.pods {
            let group = pod.name.rsplit_once('-').map_or(pod.name.as_str(), |(group, _)| group);
            let key = (group, pod.outcome, pod.wanted_seconds, pod.granted_seconds, pod.cut_off);
            alike.entry(key).or_default().push(pod);
        }
        let line = |((group, outcome, wanted, granted, cut_off), pods): (Key<'_>, Vec<&PodReport>)| {
            let granted = granted.map_or("not told to stop".to_owned(), |granted| format!("granted {granted} s"));
            let took = pods.iter().filter_map(|pod| pod.took_seconds).reduce(f64::max);
            let took = took.map_or_else(String::new, |took| format!(", stopped in {took:.1} s"));
            let cut_off = match (cut_off, self.left_running) {
                (false, _) => "",
                (true, true) => ", running when the power went",
                (true, false) => ", CUT OFF BY THE POWER",
            };
            let (pods, outcome) = (pods.len(), outcome.as_str());
            format!("{pods:>3} × {group:<16} {outcome:<10} wanted {wanted} s, {granted}{took}{cut_off}")
        };
        alike.into_iter().map(line).collect()
    }
}

fn paint(text: &str, code: &str, colour: bool) -> String {
    if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}
