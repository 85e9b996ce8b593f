//! The state annotation: the only memory besides the metadata service.
//!
//! A restarted agent reads it from its own Node and goes on with the time that is left. The format is versioned; a
//! document that cannot be understood is reported and replaced by the next one that is written, never guessed at.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::signal::{Action, Kind};

/// Key of the annotation on the Node.
pub const ANNOTATION: &str = "spotwarden/state";

/// The version that this agent writes and reads.
pub const VERSION: u32 = 1;

/// What is coming, and what of the node's marks is ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Format version.
    pub version: u32,
    /// The kind of what is coming.
    pub kind: Kind,
    /// What happens to the instance.
    pub action: Action,
    /// Identity of the announcement.
    pub id: String,
    /// The deadline, as the platform gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// When an agent first saw it.
    pub first_seen: Timestamp,
    /// Boot id of the kernel under which it was seen: after a reboot it concerns an earlier life of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// What this agent put on the node, as opposed to what it found there.
    pub marks: Marks,
}

/// Which of the node's marks are ours; only these may ever be taken away by us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Marks {
    /// The taint.
    pub taint: bool,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// The label that takes the node out of load balancers.
    pub load_balancer_label: bool,
}

impl Marks {
    /// Ours according to either.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            taint: self.taint || other.taint,
            unschedulable: self.unschedulable || other.unschedulable,
            load_balancer_label: self.load_balancer_label || other.load_balancer_label,
        }
    }
}

/// Why an annotation cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StateError {
    /// Not the JSON that any version writes.
    #[error("annotation {ANNOTATION} is not readable ({0}); it is ignored and replaced at the next notice")]
    Malformed(String),
    /// Written by a newer agent.
    #[error(
        "annotation {ANNOTATION} has version {0}, this agent reads up to {VERSION}; it is ignored and replaced at the \
         next notice, so finish the roll-out of the newer agent or remove the annotation"
    )]
    Newer(u32),
}

impl State {
    /// Reads an annotation's text.
    pub fn parse(text: &str) -> Result<Self, StateError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let malformed = |error: serde_json::Error| StateError::Malformed(error.to_string());
        let Versioned { version } = serde_json::from_str(text).map_err(malformed)?;
        if version > VERSION {
            return Err(StateError::Newer(version));
        }
        serde_json::from_str(text).map_err(malformed)
    }

    /// The annotation's text.
    pub fn to_text(&self) -> String {
        serde_json::to_value(self).map_or_else(|_| String::new(), |value| value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn state() -> State {
        State {
            version: VERSION,
            kind: Kind::SpotInterruption,
            action: Action::Terminate,
            id: "spot-interruption/terminate".into(),
            deadline: Some("2026-03-31T16:34:24Z".parse().unwrap()),
            first_seen: "2026-03-31T16:32:25.125Z".parse().unwrap(),
            boot_id: Some("5b2e7c1e-1111-4222-8333-944455566677".into()),
            marks: Marks { taint: true, unschedulable: true, load_balancer_label: false },
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(State::parse(&state().to_text()), Ok(state()));
    }

    #[test]
    fn the_format_is_small_flat_json() {
        assert!(state().to_text().len() < 400, "{}", state().to_text());
        assert!(state().to_text().contains(r#""kind":"spot-interruption""#));
    }

    #[rstest]
    #[case::empty("")]
    #[case::not_json("yes")]
    #[case::no_version("{}")]
    #[case::truncated(r#"{"version":1,"kind":"spot-interr"#)]
    #[case::unknown_kind(r#"{"version":1,"kind":"meteor"}"#)]
    #[case::negative_version(r#"{"version":-1}"#)]
    fn a_broken_annotation_says_so(#[case] text: &str) {
        assert!(matches!(State::parse(text), Err(StateError::Malformed(_))));
    }

    #[test]
    fn a_newer_version_is_not_guessed_at() {
        let error = State::parse(r#"{"version":2,"shape":"unknown"}"#).unwrap_err();
        assert_eq!(error, StateError::Newer(2));
        assert!(error.to_string().contains("roll-out of the newer agent"));
    }

    #[test]
    fn unknown_keys_of_the_same_version_are_ignored() {
        let text = state().to_text().replacen('{', r#"{"extra":1,"#, 1);
        assert_eq!(State::parse(&text), Ok(state()));
    }
}
