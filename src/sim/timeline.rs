//! What happened in a simulated world, one line for each thing that a person would point at.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Actor {
    /// The scenario itself.
    World,
    /// The metadata service.
    Imds,
    /// The agent, as its own state tells.
    Agent,
    /// The API server, answering the agent.
    Api,
    /// The node's kubelet.
    Kubelet,
    /// The daemon of the VPC CNI.
    Ipamd,
    /// Somebody else who acts on the node.
    #[serde(untagged)]
    Other(String),
}

impl Actor {
    /// The name in the timeline.
    pub fn as_str(&self) -> &str {
        match self {
            Self::World => "world",
            Self::Imds => "imds",
            Self::Agent => "agent",
            Self::Api => "api",
            Self::Kubelet => "kubelet",
            Self::Ipamd => "ipamd",
            Self::Other(name) => name,
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimelineEntry {
    /// Seconds since the start of the world.
    #[serde(rename = "at_seconds", serialize_with = "as_seconds")]
    pub at: Duration,
    /// Seconds that are left before the announced time, once something is announced; negative afterwards.
    #[serde(rename = "left_seconds", skip_serializing_if = "Option::is_none", serialize_with = "rounded")]
    pub left: Option<f64>,
    /// Who.
    pub actor: Actor,
    /// What.
    pub what: String,
    /// The pods that it happened to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
}

fn as_seconds<S: serde::Serializer>(at: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(round(at.as_secs_f64()))
}

#[allow(clippy::ref_option, reason = "the signature is serde's")]
fn rounded<S: serde::Serializer>(left: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    left.map(round).serialize(serializer)
}

/// Milliseconds are as fine as anything here is known.
pub(super) fn round(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// Most pod names on one line.
const NAMED_PODS: usize = 3;

impl TimelineEntry {
    /// The line for people, with or without ANSI colours.
    pub fn line(&self, colour: bool) -> String {
        let mut line = format!("{:>8.2}s  ", self.at.as_secs_f64());
        match self.left {
            Some(left) if left >= 0.0 => _ = write!(line, "{:>8}", format!("T-{left:.1}")),
            Some(left) => _ = write!(line, "{:>8}", format!("T+{:.1}", -left)),
            None => line.push_str("        "),
        }
        let actor = format!("{:<10}", self.actor.as_str());
        let actor = if colour { format!("\u{1b}[{}m{actor}\u{1b}[0m", self.colour_code()) } else { actor };
        _ = write!(line, "  {actor}  {}", self.what);
        if !self.pods.is_empty() {
            _ = write!(line, ": {}", PodNames(&self.pods));
        }
        line
    }

    const fn colour_code(&self) -> &'static str {
        match self.actor {
            Actor::World => "1;31",
            Actor::Imds => "33",
            Actor::Agent => "1;32",
            Actor::Api => "36",
            Actor::Kubelet => "34",
            Actor::Ipamd => "94",
            Actor::Other(_) => "35",
        }
    }
}

/// Some pods by name, the rest by number.
pub(super) struct PodNames<'a>(pub(super) &'a [String]);

impl fmt::Display for PodNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<&str> = self.0.iter().take(NAMED_PODS).map(String::as_str).collect();
        write!(f, "{}", named.join(", "))?;
        match self.0.len().saturating_sub(NAMED_PODS) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(left: Option<f64>, pods: &[&str]) -> TimelineEntry {
        let pods = pods.iter().map(|&name| name.to_owned()).collect();
        TimelineEntry { at: Duration::from_millis(3120), left, actor: Actor::Kubelet, what: "SIGTERM".into(), pods }
    }

    #[test]
    fn a_line_tells_when_how_long_before_the_end_who_and_what() {
        let line = entry(Some(116.88), &["web-0", "web-1"]).line(false);
        assert_eq!(line, "    3.12s   T-116.9  kubelet     SIGTERM: web-0, web-1");
        assert_eq!(entry(None, &[]).line(false), "    3.12s            kubelet     SIGTERM");
        assert!(entry(Some(-0.5), &[]).line(false).contains("T+0.5"));
    }

    #[test]
    fn many_pods_are_counted() {
        assert!(entry(None, &["a", "b", "c", "d", "e"]).line(false).ends_with("SIGTERM: a, b, c and 2 more"));
    }

    #[test]
    fn colour_is_only_there_when_asked_for() {
        assert!(entry(None, &[]).line(true).contains("\u{1b}[34mkubelet"));
        assert!(!entry(None, &[]).line(false).contains('\u{1b}'));
    }

    #[test]
    fn the_json_form_has_numbers_and_all_pods() {
        let json = serde_json::to_value(entry(Some(1.0004), &["a", "b", "c", "d"])).unwrap();
        let wanted = serde_json::json!({"at_seconds": 3.12, "left_seconds": 1.0, "actor": "kubelet", "what": "SIGTERM",
                                        "pods": ["a", "b", "c", "d"]});
        assert_eq!(json, wanted);
        assert_eq!(serde_json::to_value(Actor::Other("node-group".into())).unwrap(), "node-group");
    }
}
