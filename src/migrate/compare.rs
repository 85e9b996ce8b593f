//! What NTH did and what the agent beside it did or would have done, out of the logs of both. Pure.

pub mod lines;
mod nth;
mod own;
pub mod table;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

pub use nth::log as nth_log;
pub use own::log as own_log;

/// What one of the two made of one announcement. Times are by the clock of its own log.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Part {
    /// The Node, if the log tells.
    pub node: Option<String>,
    /// The kind in the words used here; absent if the log begins later.
    pub kind: Option<String>,
    /// When EC2 acts, or acted first, as announced.
    pub event: Option<Timestamp>,
    /// When the announcement was seen.
    pub seen: Option<Timestamp>,
    /// When the node was fenced, at the latest.
    pub fenced: Option<Timestamp>,
    /// The first request to evict a pod.
    pub first_eviction: Option<Timestamp>,
    /// The last pod that was asked for the first time.
    pub last_eviction: Option<Timestamp>,
    /// When it was done, or given up.
    pub finished: Option<Timestamp>,
    /// When a message about it had been sent.
    pub told: Option<Timestamp>,
    /// Pods that were asked, or would have been.
    pub pods: Vec<String>,
    /// How often pods were asked in all.
    pub tries: usize,
    /// Pods whose eviction was refused, with the first words.
    pub refused: BTreeMap<String, String>,
    /// How often the same announcement was taken for a new one.
    pub repeated: usize,
    /// Nothing was really done.
    pub dry_run: bool,
    /// How it ended, in words.
    pub result: Option<String>,
    /// What went wrong.
    pub errors: Vec<String>,
}

/// A whole log.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Log {
    /// Announcements in the order in which they were seen.
    pub parts: Vec<Part>,
    /// Complaints that belong to none, and how often each came.
    pub troubles: BTreeMap<String, usize>,
    /// The first and the last time in it.
    pub covers: Option<(Timestamp, Timestamp)>,
    /// Lines that are of this program.
    pub lines: usize,
    /// Its times are whole seconds, cut off.
    pub whole_seconds: bool,
}

impl Log {
    fn saw(&mut self, time: Timestamp) {
        self.lines += 1;
        let (first, last) = self.covers.unwrap_or((time, time));
        self.covers = Some((first.min(time), last.max(time)));
    }

    fn trouble(&mut self, words: String) {
        *self.troubles.entry(words).or_default() += 1;
    }
}

/// One announcement as both have it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// By NTH.
    pub nth: Option<Part>,
    /// By the agent.
    pub spotwarden: Option<Part>,
}

/// The two logs side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Announcement by announcement.
    pub pairs: Vec<Pair>,
    /// What NTH complained of besides.
    pub nth_troubles: BTreeMap<String, usize>,
    /// What the agent complained of besides.
    pub spotwarden_troubles: BTreeMap<String, usize>,
    /// NTH's times are whole seconds, cut off.
    pub nth_whole_seconds: bool,
    /// What the logs have in common in time; absent if nothing.
    pub overlap: Option<(Timestamp, Timestamp)>,
}

impl Comparison {
    /// Both saw everything that either saw.
    pub fn is_complete(&self) -> bool {
        !self.pairs.is_empty() && self.pairs.iter().all(|pair| pair.nth.is_some() && pair.spotwarden.is_some())
    }
}

/// Two sightings further apart are not of the same announcement. NTH repeats some of its own every two hours.
const FARTHEST: SignedDuration = SignedDuration::from_mins(10);

/// Puts the two side by side: of the same node and kind those that are nearest in time.
pub fn compare(nth: Log, own: Log) -> Comparison {
    let overlap = nth.covers.zip(own.covers).map(|(a, b)| (a.0.max(b.0), a.1.min(b.1))).filter(|(from, to)| from <= to);
    let mut left: Vec<Option<Part>> = own.parts.into_iter().map(Some).collect();
    let mut pairs: Vec<Pair> = Vec::new();
    for part in nth.parts {
        let gap = |other: &Option<Part>| other.as_ref().and_then(|other| gap(&part, other));
        let nearest = left.iter_mut().filter(|other| gap(other).is_some()).min_by_key(|other| gap(other));
        let spotwarden = nearest.and_then(Option::take);
        pairs.push(Pair { nth: Some(part), spotwarden });
    }
    pairs.extend(left.into_iter().flatten().map(|part| Pair { nth: None, spotwarden: Some(part) }));
    let begin = |pair: &Pair| {
        let time = |part: &Option<Part>| part.as_ref().and_then(earliest);
        time(&pair.nth).into_iter().chain(time(&pair.spotwarden)).min()
    };
    pairs.sort_by_key(begin);
    Comparison {
        pairs,
        nth_troubles: nth.troubles,
        spotwarden_troubles: own.troubles,
        nth_whole_seconds: nth.whole_seconds,
        overlap,
    }
}

/// How far two sightings are apart; `None` if they cannot be of the same announcement.
fn gap(one: &Part, other: &Part) -> Option<SignedDuration> {
    let agree = |one: &Option<String>, other: &Option<String>| one.is_none() || other.is_none() || one == other;
    if !agree(&one.node, &other.node) || !agree(&one.kind, &other.kind) {
        return None;
    }
    let gap = earliest(one)?.duration_since(earliest(other)?).abs();
    (gap <= FARTHEST).then_some(gap)
}

fn earliest(part: &Part) -> Option<Timestamp> {
    let times = [part.seen, part.fenced, part.first_eviction, part.finished];
    times.into_iter().flatten().min()
}

#[cfg(test)]
mod tests;
