//! Whether the agent could answer a notice that came now.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// What readiness depends on and the agent's [`Status`](crate::interruption::record::Status) does not tell.
#[derive(Debug, Default)]
pub struct Readiness {
    imds_answered: AtomicBool,
    stopping: AtomicBool,
}

impl Readiness {
    /// The instance metadata service was really read once.
    pub fn imds_answered(&self) {
        self.imds_answered.store(true, Ordering::Relaxed);
    }

    /// The agent was told to stop: from now on it is not ready.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Where things stand.
    pub fn report(&self, node_seen: bool) -> Report {
        Report {
            imds_answered: self.imds_answered.load(Ordering::Relaxed),
            node_seen,
            stopping: self.stopping.load(Ordering::Relaxed),
        }
    }
}

/// Readiness at one moment. Its `Display` is the body of `/readyz`: one line for each condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The instance metadata service was really read once.
    pub imds_answered: bool,
    /// The own Node was read.
    pub node_seen: bool,
    /// The agent was told to stop.
    pub stopping: bool,
}

impl Report {
    /// Nothing is missing.
    pub fn ready(self) -> bool {
        self.imds_answered && self.node_seen && !self.stopping
    }

    /// What is missing, in words.
    pub fn missing(self) -> Vec<&'static str> {
        [
            (self.imds_answered, "the instance metadata service has not answered yet"),
            (self.node_seen, "the own Node was not read yet"),
            (!self.stopping, "the agent is stopping"),
        ]
        .into_iter()
        .filter_map(|(met, words)| (!met).then_some(words))
        .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ready() {
            return writeln!(f, "ready");
        }
        self.missing().into_iter().try_for_each(|words| writeln!(f, "not ready: {words}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_needs_both_readings_and_says_what_is_missing() {
        let readiness = Readiness::default();
        let report = readiness.report(false);
        assert!(!report.ready());
        assert_eq!(report.to_string().lines().count(), 2, "{report}");

        readiness.imds_answered();
        assert_eq!(readiness.report(false).to_string(), "not ready: the own Node was not read yet\n");
        assert_eq!(readiness.report(true).to_string(), "ready\n");

        readiness.stopping();
        assert_eq!(readiness.report(true).to_string(), "not ready: the agent is stopping\n");
    }
}
