//! What a message tells, in plain values: made once, written by each sink in its own form.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::turn::{Bulletin, Turn};
use crate::drain::outcome::Outcome;
use crate::identity::NodeIdentity;
use crate::interruption::account::{Account, Announced, Outcomes};
use crate::interruption::record::Status;
use crate::signal::{Action, Kind};

/// Of budgets in the way, and of the pods that they hold, so many are named.
pub const MOST_NAMED: usize = 5;
/// Of words of others, no more than this is repeated.
const LONGEST_WORDS: usize = 300;

/// What stands the same in every message of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letterhead {
    /// `--cluster-name`.
    pub cluster: Option<String>,
    /// `--notify-link`, with the node's name in its place.
    pub link: Option<String>,
}

/// A pod that is not let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// `namespace/name`.
    pub pod: String,
    /// The API server's words.
    pub words: String,
}

/// Everything that a message may tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// What it is about; `None` for a message on trial.
    pub turn: Option<Turn>,
    /// One line that says it all.
    pub headline: String,
    /// The node.
    pub place: NodeIdentity,
    /// The cluster, if it has a name.
    pub cluster: Option<String>,
    /// Where more can be seen.
    pub link: Option<String>,
    /// What is coming, the most urgent one.
    pub kind: Option<Kind>,
    /// What happens to the instance.
    pub action: Option<Action>,
    /// The announcement's own words.
    pub detail: Option<String>,
    /// When it was first seen.
    pub started: Timestamp,
    /// When EC2 acts, by its own clock.
    pub deadline: Option<Timestamp>,
    /// Seconds until then; negative when past.
    pub seconds_left: Option<i64>,
    /// What became of the fence, in words; `None` if there is to be none yet.
    pub fence: Option<String>,
    /// Pods that were or are to be moved.
    pub pods: Option<usize>,
    /// What became of them, once the drain is over.
    pub outcomes: Option<Outcomes>,
    /// Seconds between the last pod's end and the power going.
    pub slack_seconds: Option<f64>,
    /// Why the node is not drained.
    pub not_drained: Option<String>,
    /// Pods that are not let go.
    pub blocked: Vec<Blocked>,
    /// Names of the budgets in the way.
    pub budgets: Vec<String>,
    /// Pods that did not end well, with their outcomes.
    pub hurt: Vec<String>,
    /// Why nothing is coming any more.
    pub over_because: Option<String>,
    /// The marks are gone, too.
    pub restored: bool,
    /// Turns that were not told one by one.
    pub suppressed: u32,
    /// An agent before this one may have told it already.
    pub repeated: bool,
    /// Names the interruption.
    pub trace_id: String,
}

impl Facts {
    /// What `bulletin` tells, with what the agent knows beside the account: the drain's pods as they stand now.
    pub fn of(bulletin: &Bulletin, status: &Status, place: &NodeIdentity, head: &Letterhead) -> Self {
        let account = &*bulletin.account;
        let turn = bulletin.main();
        let main = main_announcement(account);
        let seconds_left = account.deadline().map(|deadline| whole(deadline - bulletin.at));
        let drain = account.drain.as_ref();
        let finish = drain.and_then(|drain| drain.finished.as_ref());
        let blocked = blocked(account, status);
        let mut facts = Self {
            turn: Some(turn),
            headline: String::new(),
            place: NodeIdentity { node: account.node.clone(), ..place.clone() },
            cluster: head.cluster.clone(),
            link: link(head, &account.node),
            kind: main.map(|one| one.kind),
            action: main.map(|one| one.action),
            detail: main.and_then(|one| one.detail.as_deref()).map(short),
            started: account.started,
            deadline: main.and_then(|one| one.deadline_time),
            seconds_left,
            fence: fence(account),
            pods: drain.map(|drain| drain.pods).or((!status.pods.is_empty()).then_some(status.pods.len())),
            outcomes: finish.map(|finish| finish.outcomes),
            slack_seconds: finish.and_then(|finish| finish.slack),
            not_drained: account.not_drained.as_deref().map(short),
            budgets: budgets(&blocked),
            blocked,
            hurt: hurt(account),
            over_because: main.and_then(|one| one.over.as_ref()).map(|over| short(&over.because)),
            restored: account.restored.is_some(),
            suppressed: bulletin.suppressed,
            repeated: bulletin.repeated,
            trace_id: account.trace_id.clone(),
        };
        facts.headline = facts.headline_of(turn);
        facts
    }

    /// A message that says that it is none.
    pub fn trial(place: &NodeIdentity, head: &Letterhead, now: Timestamp) -> Self {
        Self {
            turn: None,
            headline: format!("Test message of spotwarden on {}; nothing is coming", place.node),
            place: place.clone(),
            cluster: head.cluster.clone(),
            link: link(head, &place.node),
            kind: None,
            action: None,
            detail: None,
            started: now,
            deadline: None,
            seconds_left: None,
            fence: None,
            pods: None,
            outcomes: None,
            slack_seconds: None,
            not_drained: None,
            blocked: Vec::new(),
            budgets: Vec::new(),
            hurt: Vec::new(),
            over_because: None,
            restored: false,
            suppressed: 0,
            repeated: false,
            trace_id: String::new(),
        }
    }

    /// The word in messages for machines.
    pub fn event(&self) -> &'static str {
        self.turn.map_or("test", Turn::as_str)
    }

    fn headline_of(&self, turn: Turn) -> String {
        let node = &self.place.node;
        let why = self.kind.map_or("nothing", kind_words);
        match turn {
            Turn::Over => match &self.over_because {
                Some(because) => format!("{node} stays: {why} is over ({because})"),
                None => format!("{node} stays: {why} is over"),
            },
            Turn::Result => self.result(why),
            Turn::Notice | Turn::Lasting => format!("{node} {}: {why}", self.fate()),
            Turn::Rescheduled => format!("{node} has a new time, {}: {why}", self.fate()),
        }
    }

    fn result(&self, why: &str) -> String {
        let node = &self.place.node;
        if let Some(reason) = &self.not_drained {
            return format!("{node} is not drained ({reason}): {why}");
        }
        let unfinished = self.outcomes.map_or(0, |outcomes| outcomes.unfinished);
        if unfinished > 0 {
            let all = self.pods.unwrap_or_default().max(unfinished as usize);
            return format!("{node} is NOT clear, {unfinished} of {all} pods still run: {why}");
        }
        match self.slack_seconds {
            Some(slack) if slack < 0.0 => format!("{node} is clear, {} too late: {why}", span(whole(-slack))),
            Some(slack) => format!("{node} is clear, with {} to spare: {why}", span(whole(slack))),
            None => format!("{node} is clear: {why}"),
        }
    }

    /// What happens to the node, and when.
    fn fate(&self) -> String {
        if self.kind == Some(Kind::RebalanceRecommendation) {
            return "may be interrupted soon".to_owned();
        }
        let will = self.action.map_or("is interrupted", action_words);
        match self.seconds_left {
            None => will.to_owned(),
            Some(..=0) => format!("{will} now"),
            Some(left) => format!("{will} in {}", span(left)),
        }
    }

    /// `16 graceful, 2 forced`; only what occurred, and not what was left alone.
    pub fn outcome_words(&self) -> Option<String> {
        let outcomes = self.outcomes?;
        let counts = [
            (outcomes.graceful, Outcome::Graceful),
            (outcomes.shortened, Outcome::Shortened),
            (outcomes.forced, Outcome::Forced),
            (outcomes.unfinished, Outcome::Unfinished),
        ];
        let some: Vec<String> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, outcome)| format!("{n} {}", outcome.as_str())).collect();
        Some(if some.is_empty() { "none to move".to_owned() } else { some.join(", ") })
    }

    /// The pods in words: how many are to be moved, or what became of them.
    pub fn pod_words(&self) -> Option<String> {
        let of = |pods: usize| match pods {
            0 => "none to move".to_owned(),
            1 => "1 to move".to_owned(),
            pods => format!("{pods} to move"),
        };
        // What was to be moved stays where it is.
        let to_move = self.pods.filter(|_| self.turn != Some(Turn::Over));
        self.outcome_words().or_else(|| to_move.map(of))
    }

    /// The names of the budgets, at most [`MOST_NAMED`] of them.
    pub fn budget_words(&self) -> Option<String> {
        (!self.budgets.is_empty()).then(|| named(&self.budgets))
    }

    /// What was left out, or is said twice.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.repeated {
            notes.push("The agent has restarted and may have told this before.".to_owned());
        }
        match self.suppressed {
            0 => {}
            1 => notes.push("One change before this was not told of its own.".to_owned()),
            several => notes.push(format!("{several} changes before this were not told one by one.")),
        }
        notes
    }
}

/// The announcement that the message is about: the earliest that is pending, or the last that is over.
fn main_announcement(account: &Account) -> Option<&Announced> {
    let time = |one: &&Announced| one.deadline.unwrap_or(f64::MAX);
    let earliest = account.pending().min_by(|a, b| time(a).total_cmp(&time(b)));
    let end = |one: &&Announced| one.over.as_ref().map_or(0.0, |over| over.at);
    earliest.or_else(|| account.announcements.iter().max_by(|a, b| end(a).total_cmp(&end(b))))
}

fn fence(account: &Account) -> Option<String> {
    let fence = account.fence.as_ref()?;
    if fence.refused.is_empty() {
        return Some("set, no new pods".to_owned());
    }
    Some(format!("set without {} (refused)", fence.refused.join(", ")))
}

/// What stands in the way now; where nothing does, what did in a drain that is over, or what a rehearsal foresees.
fn blocked(account: &Account, status: &Status) -> Vec<Blocked> {
    let of = |pod: String, words: &str| Blocked { pod, words: short(words) };
    let now: Vec<Blocked> = status
        .pods
        .iter()
        .filter(|pod| pod.outcome.is_none() && pod.granted.is_none())
        .filter_map(|pod| Some(of(pod.id.to_string(), pod.blocked.as_deref()?)))
        .collect();
    if !now.is_empty() {
        return now;
    }
    let were = account
        .pods
        .iter()
        .filter_map(|pod| Some(of(format!("{}/{}", pod.namespace, pod.name), pod.blocked_by.as_deref()?)));
    let were: Vec<Blocked> = were.collect();
    let foreseen = account.foreseen.iter().map(|one| of(one.pod.clone(), &one.message));
    if were.is_empty() && account.drain.is_none() { foreseen.collect() } else { were }
}

/// Whose budgets they are, by the API server's own sentence: "The disruption budget NAME needs …".
fn budgets(blocked: &[Blocked]) -> Vec<String> {
    let name = |one: &Blocked| {
        let rest = one.words.split_once("disruption budget ")?.1;
        let namespace = one.pod.split_once('/').map_or("", |(namespace, _)| namespace);
        Some(format!("{namespace}/{}", rest.split_whitespace().next()?))
    };
    blocked.iter().filter_map(name).collect::<BTreeSet<_>>().into_iter().collect()
}

fn hurt(account: &Account) -> Vec<String> {
    let bad = |outcome: Outcome| !matches!(outcome, Outcome::Graceful | Outcome::Skipped);
    let pods = account.pods.iter().filter_map(|pod| Some((pod, pod.outcome.filter(|outcome| bad(*outcome))?)));
    let mut pods: Vec<_> = pods.collect();
    // The worst first.
    pods.sort_by_key(|(_, outcome)| std::cmp::Reverse(*outcome));
    pods.iter().map(|(pod, outcome)| format!("{}/{} {}", pod.namespace, pod.name, outcome.as_str())).collect()
}

fn link(head: &Letterhead, node: &str) -> Option<String> {
    Some(head.link.as_ref()?.replace("{node}", node))
}

/// The kind in the middle of a sentence.
pub const fn kind_words(kind: Kind) -> &'static str {
    match kind {
        Kind::SpotInterruption => "spot interruption",
        Kind::RebalanceRecommendation => "rebalance recommendation",
        Kind::ScheduledEvent => "scheduled event",
        Kind::AsgTermination => "termination by its auto scaling group",
    }
}

const fn action_words(action: Action) -> &'static str {
    match action {
        Action::Terminate => "is terminated",
        Action::Stop => "is stopped",
        Action::Hibernate => "is hibernated",
        Action::Reboot => "is rebooted",
        Action::Maintenance => "has maintenance",
        Action::Standby => "is taken out of service",
    }
}

/// At most [`MOST_NAMED`] things, and how many more.
pub fn named(things: &[String]) -> String {
    let text = things.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    if things.len() > MOST_NAMED {
        let more = things.len() - MOST_NAMED;
        return format!("{text} and {more} more");
    }
    text
}

/// Seconds as people say them.
pub fn span(seconds: i64) -> String {
    match seconds {
        ..=180 => format!("{seconds} s"),
        181..=7200 => format!("{} min", seconds / 60),
        7201..=172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Words of others on one line, bounded.
fn short(text: &str) -> String {
    let mut line: String =
        text.chars().take(LONGEST_WORDS).map(|one| if one.is_control() { ' ' } else { one }).collect();
    if text.chars().nth(LONGEST_WORDS).is_some() {
        line.push('…');
    }
    line
}

#[allow(clippy::cast_possible_truncation, reason = "saturates, and no time is that long")]
fn whole(seconds: f64) -> i64 {
    seconds.round() as i64
}

#[cfg(test)]
pub(crate) mod tests;
