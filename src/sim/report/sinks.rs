//! The verdict over what was told to people outside of the cluster.

use std::time::Duration;

use super::Check;
use super::checks::{Checker, check, counted};

/// What one sink saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SinkFact {
    /// Requests, taken or not.
    pub requests: u32,
    /// When it took messages.
    pub taken: Vec<Duration>,
    /// The first of them as it came, JSON.
    pub first: String,
    /// What was wrong with bodies, by the service's rules.
    pub complaints: Vec<String>,
}

/// The checks of every sink.
pub(super) fn checks(checker: &Checker<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, fact) in &checker.facts.sinks {
        let sink = name.as_str();
        let well_formed = format!("{sink} finds nothing wrong with what it is sent");
        checks.push(check(well_formed, fact.complaints.is_empty(), counted(&fact.complaints)));
        let Some(expected) = checker.scenario.expect.sinks.get(name) else { continue };
        let taken = fact.taken.len();
        if let Some(messages) = expected.messages {
            let name = format!("{sink} takes {messages} messages");
            checks.push(check(name, taken == messages as usize, taken.to_string()));
        }
        if let Some(most) = expected.max_requests {
            let name = format!("{sink} sees at most {most} requests");
            checks.push(check(name, fact.requests <= most, fact.requests.to_string()));
        }
        if let Some(words) = &expected.first_says {
            let name = format!("{sink} reads `{words}` in the first message");
            checks.push(check(name, fact.first.contains(words), fact.first.clone()));
        }
        if let Some(within) = expected.told_within {
            let within = within + checker.scenario.expect.patience;
            let after =
                fact.taken.first().zip(checker.facts.notice_at).map(|(first, notice)| first.saturating_sub(notice));
            let name = format!("{sink} has the first message {} s after the notice", within.as_secs_f64());
            let found = after.map_or("never".to_owned(), |after| format!("{:.2} s", after.as_secs_f64()));
            checks.push(check(name, after.is_some_and(|after| after <= within), found));
        }
    }
    checks
}
