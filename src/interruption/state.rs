//! The state annotation: the only memory besides the metadata service.
//!
//! A restarted agent reads it from its own Node and goes on with the time that is left. The format is versioned; a
//! document that cannot be understood is reported and replaced by the next one that is written, never guessed at.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Response;
use crate::signal::{Action, Kind};

/// Key of the annotation on the Node.
pub const ANNOTATION: &str = "spotwarden/state";

/// The version that this agent writes and reads.
pub const VERSION: u32 = 2;

/// What is coming, and what of the node's marks is ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Format version.
    pub version: u32,
    /// Boot id of the kernel under which it was written: after a reboot it concerns an earlier life of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// The strictest response to what is coming.
    pub response: Response,
    /// Every mark that the response asks for was set, or refused for good. Until then an agent may have died halfway.
    pub complete: bool,
    /// What is coming.
    pub announcements: Vec<Entry>,
    /// What the present fence and drain are named after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub episode: Option<Episode>,
    /// What the interruption is called outside, from its first announcement to the end of its last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// What this agent put on the node, as opposed to what it found there.
    pub marks: Marks,
}

/// The time from the first announcement that fences the node to the end of the last one. Its name stays when that first
/// one is over and others are not, so that no agent reports the same drain twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Episode {
    /// Names its Events.
    pub key: String,
    /// How often its fence was taken back, or its drain called off, while something else was still coming.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub turns: u32,
}

/// Names an interruption in traces, reports and messages, the same in every agent that ever sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// A W3C trace id: 32 lower case hexadecimal digits, not all of them 0.
    pub id: String,
    /// When its first announcement was first seen.
    pub since: Timestamp,
}

impl Trace {
    /// The interruption that begins with this announcement.
    pub fn new(node: &str, boot_id: Option<&str>, kind: Kind, id: &str, first_seen: Timestamp) -> Self {
        let name = format!("{node}/{}/{}/{id}/{first_seen}", boot_id.unwrap_or_default(), kind.as_str());
        let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
        let id = digest.as_ref().first_chunk().copied().map(u128::from_be_bytes).unwrap_or_default();
        Self { id: format!("{id:032x}"), since: first_seen }
    }

    /// Whether the id is one; an annotation is only text, which anybody may have edited.
    pub fn is_valid(&self) -> bool {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        self.id.len() == 32 && self.id.bytes().all(digit) && self.id.bytes().any(|byte| byte != b'0')
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One announcement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its kind.
    pub kind: Kind,
    /// What happens to the instance.
    pub action: Action,
    /// Its identity.
    pub id: String,
    /// When, as the platform said first or last moved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// When the platform issued it, if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<Timestamp>,
    /// When an agent first saw it.
    pub first_seen: Timestamp,
    /// The platform's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A taint. Kubernetes tells taints apart by key and effect; the value tells ours from somebody else's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// `NoSchedule` or `PreferNoSchedule`.
    pub effect: String,
}

/// Which of the node's marks are ours; only these may ever be taken away by us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Marks {
    /// Taints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Marks {
    /// Nothing is ours.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Ours according to either.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        for taint in &other.taints {
            if !self.taints.contains(taint) {
                self.taints.push(taint.clone());
            }
        }
        self.unschedulable |= other.unschedulable;
        self.labels.extend(other.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
        self
    }

    /// Ours but for those of `other`.
    #[must_use]
    pub fn without(mut self, other: &Self) -> Self {
        self.taints.retain(|taint| !other.taints.contains(taint));
        self.unschedulable &= !other.unschedulable;
        self.labels.retain(|key, value| other.labels.get(key) != Some(value));
        self
    }
}

/// Why an annotation cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StateError {
    /// Not the JSON that any version writes.
    #[error("annotation {ANNOTATION} is not readable ({0}); it is ignored and replaced at the next notice")]
    Malformed(String),
    /// Written by another version of the agent.
    #[error(
        "annotation {ANNOTATION} has version {0}, this agent reads version {VERSION}; it is ignored and replaced at the \
         next notice, so finish the roll-out of one version or remove the annotation"
    )]
    OtherVersion(u32),
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
        if version != VERSION {
            return Err(StateError::OtherVersion(version));
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
            boot_id: Some("5b2e7c1e-1111-4222-8333-944455566677".into()),
            response: Response::Drain,
            complete: true,
            announcements: vec![Entry {
                kind: Kind::SpotInterruption,
                action: Action::Terminate,
                id: "spot-interruption/terminate".into(),
                deadline: Some("2026-03-31T16:34:24Z".parse().unwrap()),
                issued: None,
                first_seen: "2026-03-31T16:32:25.125Z".parse().unwrap(),
                detail: None,
            }],
            episode: Some(Episode { key: "spot-interruption/terminate".into(), turns: 0 }),
            trace: Some(Trace {
                id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
                since: "2026-03-31T16:32:25.125Z".parse().unwrap(),
            }),
            marks: Marks {
                taints: vec![taint("spot-interruption")],
                unschedulable: true,
                labels: BTreeMap::from([("a".into(), "b".into())]),
            },
        }
    }

    fn taint(value: &str) -> Taint {
        Taint { key: "spotwarden/interruption".into(), value: value.into(), effect: "NoSchedule".into() }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(State::parse(&state().to_text()), Ok(state()));
    }

    #[test]
    fn the_format_is_small_json() {
        assert!(state().to_text().len() < 600, "{}", state().to_text());
        assert!(state().to_text().contains(r#""kind":"spot-interruption""#));
        assert!(state().to_text().contains(r#""response":"drain""#));
    }

    #[test]
    fn a_trace_is_named_after_all_that_tells_its_announcement_from_others() {
        let seen: Timestamp = "2026-03-31T16:32:25.125Z".parse().unwrap();
        let (node, boot, id, spot) = ("n1", Some("boot-1"), "i", Kind::SpotInterruption);
        let trace = Trace::new(node, boot, spot, id, seen);
        assert!(trace.is_valid(), "{trace:?}");
        assert_eq!(trace, Trace::new(node, boot, spot, id, seen));
        let others = [
            Trace::new("n2", boot, spot, id, seen),
            Trace::new(node, Some("boot-2"), spot, id, seen),
            Trace::new(node, boot, Kind::ScheduledEvent, id, seen),
            Trace::new(node, boot, spot, "j", seen),
            Trace::new(node, boot, spot, id, Timestamp::UNIX_EPOCH),
        ];
        assert!(others.iter().all(|other| other.id != trace.id), "{others:?}");
    }

    #[rstest]
    #[case::short("4bf9")]
    #[case::zero("00000000000000000000000000000000")]
    #[case::upper_case("4BF92F3577B34DA6A3CE929D0E0E4736")]
    #[case::not_hexadecimal("xbf92f3577b34da6a3ce929d0e0e4736")]
    fn what_is_no_trace_id_is_recognised(#[case] id: &str) {
        assert!(!Trace { id: id.into(), since: Timestamp::UNIX_EPOCH }.is_valid());
    }

    #[rstest]
    #[case::empty("")]
    #[case::not_json("yes")]
    #[case::no_version("{}")]
    #[case::truncated(r#"{"version":2,"announcements":[{"kind":"spot-interr"#)]
    #[case::unknown_kind(r#"{"version":2,"response":"drain","complete":true,"announcements":[{"kind":"meteor"}]}"#)]
    #[case::negative_version(r#"{"version":-1}"#)]
    fn a_broken_annotation_says_so(#[case] text: &str) {
        assert!(matches!(State::parse(text), Err(StateError::Malformed(_))));
    }

    #[rstest]
    #[case::newer(3)]
    #[case::older(1)]
    fn another_version_is_not_guessed_at(#[case] version: u32) {
        let error = State::parse(&format!(r#"{{"version":{version},"shape":"unknown"}}"#)).unwrap_err();
        assert_eq!(error, StateError::OtherVersion(version));
        assert!(error.to_string().contains("roll-out of one version"));
    }

    #[test]
    fn unknown_keys_of_the_same_version_are_ignored() {
        let text = state().to_text().replacen('{', r#"{"extra":1,"#, 1);
        assert_eq!(State::parse(&text), Ok(state()));
    }

    #[test]
    fn marks_add_up_and_subtract() {
        let (one, two) = (state().marks, Marks { taints: vec![taint("x")], ..Marks::default() });
        let both = one.clone().with(&two);
        assert_eq!(both.taints.len(), 2);
        assert_eq!(both.clone().with(&one), both);
        assert_eq!(both.without(&two), one);
        assert!(one.clone().without(&one).is_empty());
    }
}
