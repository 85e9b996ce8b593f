//! Values that have a form of their own: times, words, taints.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::config::{MarkStyle, OnBlockedEviction, PriorityShare, Response};
use crate::sim::scenario::{KeyValue, StopsAfter, Taint, Window};

/// Longest time that a scenario may name: a month.
const MAX_SECONDS: f64 = 2_678_400.0;
/// Effects of a taint.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// A number of seconds, whole or not.
pub(in crate::sim::scenario) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(SecondsVisitor)
}

/// A number of seconds that may be absent.
pub(in crate::sim::scenario) fn some_seconds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    seconds(deserializer).map(Some)
}

struct SecondsVisitor;

impl Visitor<'_> for SecondsVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number of seconds between 0 and {MAX_SECONDS}")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Duration, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Duration, E> {
        if (0.0..=MAX_SECONDS).contains(&value) {
            Ok(Duration::from_secs_f64(value))
        } else {
            Err(E::invalid_value(de::Unexpected::Float(value), &self))
        }
    }
}

impl<'de> Deserialize<'de> for StopsAfter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(f64),
            Word(String),
        }
        match Raw::deserialize(deserializer) {
            Ok(Raw::Number(value)) => SecondsVisitor.visit_f64(value).map(Self::Time),
            Ok(Raw::Word(word)) if word == "never" => Ok(Self::Never),
            Ok(Raw::Word(_)) | Err(_) => Err(de::Error::custom("expected a number of seconds or \"never\"")),
        }
    }
}

/// One of some words, as the command line has them.
fn word<'de, D: Deserializer<'de>, T: Copy>(deserializer: D, words: &[(&str, T)]) -> Result<Option<T>, D::Error> {
    let given = String::deserialize(deserializer)?;
    let found = words.iter().find(|(word, _)| *word == given);
    let valid = || words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ");
    let unknown = || de::Error::custom(format!("unknown value {given:?}, expected one of {}", valid()));
    found.map(|(_, value)| Some(*value)).ok_or_else(unknown)
}

/// `delete` or `wait`.
pub(in crate::sim::scenario) fn on_blocked_eviction<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<OnBlockedEviction>, D::Error> {
    word(deserializer, &[("delete", OnBlockedEviction::Delete), ("wait", OnBlockedEviction::Wait)])
}

/// How a signal is answered.
pub(in crate::sim::scenario) fn response<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Response>, D::Error> {
    let words = [
        ("ignore", Response::Ignore),
        ("observe", Response::Observe),
        ("taint", Response::Taint),
        ("cordon", Response::Cordon),
        ("drain", Response::Drain),
    ];
    word(deserializer, &words)
}

/// Whose marks.
pub(in crate::sim::scenario) fn node_marks<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<MarkStyle>, D::Error> {
    let words =
        [("spotwarden", MarkStyle::Spotwarden), ("aws-node-termination-handler", MarkStyle::NodeTerminationHandler)];
    word(deserializer, &words)
}

/// The effect of the agent's taint, or that there is none.
pub(in crate::sim::scenario) fn effect<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let words = [("none", "none"), ("NoSchedule", "NoSchedule"), ("PreferNoSchedule", "PreferNoSchedule")];
    Ok(word(deserializer, &words)?.map(ToOwned::to_owned))
}

/// Shares by priority, as `{ "0" = 40, "1000" = 10 }`: keys of TOML are texts.
pub(in crate::sim::scenario) fn shutdown_grace_by_priority<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<PriorityShare>, D::Error> {
    let shares = BTreeMap::<String, u32>::deserialize(deserializer)?;
    let share = |(priority, seconds): (String, u32)| {
        let whole = priority.parse().map_err(|_| {
            de::Error::custom(format!("the priority {priority:?} is not a whole number; write `\"1000\" = 30`"))
        })?;
        Ok(PriorityShare { priority: whole, seconds })
    };
    let mut shares = shares.into_iter().map(share).collect::<Result<Vec<_>, D::Error>>()?;
    shares.sort_by_key(|share| share.priority);
    Ok(shares)
}

impl TryFrom<[f64; 2]> for Window {
    type Error = String;

    fn try_from([from, to]: [f64; 2]) -> Result<Self, String> {
        let is_time = |value: f64| (0.0..=MAX_SECONDS).contains(&value);
        if !is_time(from) || !is_time(to) || from > to {
            return Err(format!("[{from}, {to}] is no span of time; write [from, to] in seconds"));
        }
        Ok(Self { from: Duration::from_secs_f64(from), to: Duration::from_secs_f64(to) })
    }
}

impl TryFrom<String> for KeyValue {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self { key: key.to_owned(), value: value.to_owned() }),
            _ => Err(format!("{text:?} has no key and value: expected \"key=value\"")),
        }
    }
}

impl TryFrom<String> for Taint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let valid = "expected \"key=value:effect\" or \"key:effect\" with NoSchedule, PreferNoSchedule or NoExecute";
        let (rest, effect) = text.rsplit_once(':').ok_or_else(|| format!("{text:?} is no taint: {valid}"))?;
        let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
        if key.is_empty() || !EFFECTS.contains(&effect) {
            return Err(format!("{text:?} is no taint: {valid}"));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
    }
}
