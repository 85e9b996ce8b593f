//! Writes the account of an interruption while it happens: a fold over the machine's effects.
//!
//! It decides nothing about the node. What it finds worth telling at once it returns as a [`Milestone`]; who tells it, and
//! to whom, is decided elsewhere.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::account::{Account, Announced, DrainPart, Fence, Finish, Foreseen, Over, PodPart, VERSION};
use super::record::Record;
use super::state::{Entry, Trace};
use super::{Effect, Stop};
use crate::clock::Now;
use crate::config::Config;
use crate::drain::outcome::Outcome;
use crate::drain::pod::PodRef;
use crate::signal::{Deadline, Kind, Signal};

/// How it is known that what was announced before the node was booted again is over.
pub const SURVIVED: &str = "the node was booted again";

/// Of words that come from outside no more than this is kept. A whole account stays small enough for a line of a log.
const LONGEST_WORDS: usize = 300;

/// A turn of events that somebody may want to hear of at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// Something is announced that nobody saw before.
    Announced,
    /// A restarted agent took up what was announced before.
    Resumed,
    /// The platform moved the time of something.
    Rescheduled,
    /// The fence was acknowledged.
    Fenced,
    /// What would stand in the way of a drain was looked up while there is none.
    Foreseen,
    /// The drain began.
    DrainStarted,
    /// The drain is over, or the response is complete without one.
    DrainFinished,
    /// Nothing is coming any more, and the node is still there.
    Over,
    /// The marks are gone.
    Restored,
}

/// A milestone with the account as it stands then.
#[derive(Clone, Debug)]
pub struct News {
    /// What has just happened.
    pub milestone: Milestone,
    /// The interruption so far.
    pub account: Arc<Account>,
}

/// The account of the present interruption, if there is one.
#[derive(Debug)]
pub struct Chronicle {
    config: Arc<Config>,
    /// What the machine called the interruption last.
    named: Option<Trace>,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    account: Account,
    /// Offset 0 of the account.
    start: Instant,
}

impl Chronicle {
    /// Nothing has happened yet.
    pub fn new(config: Arc<Config>) -> Self {
        Self { config, named: None, current: None }
    }

    /// The present interruption, or the last one.
    pub fn account(&self) -> Option<&Account> {
        self.current.as_ref().map(|current| &current.account)
    }

    /// Takes one effect of the machine, in the order in which they are carried out.
    pub fn note(&mut self, now: Now, effect: &Effect) -> Option<News> {
        let milestone = match effect {
            Effect::Record(Record::Interruption(trace)) => {
                self.named = Some(trace.clone());
                None
            }
            Effect::Record(Record::Survived { announcements }) => self.survived(now, announcements),
            Effect::Record(Record::NoticeSeen { signal, first_seen }) => {
                self.announced(now, signal, *first_seen);
                Some(Milestone::Announced)
            }
            Effect::Record(Record::Resumed { signal, first_seen }) => {
                let at = self.announced(now, signal, *first_seen);
                let current = self.current.as_mut()?;
                current.account.resumed.get_or_insert(at);
                Some(Milestone::Resumed)
            }
            Effect::Record(record) => self.current.as_mut()?.record(now, record),
            Effect::Evict(Stop { pod, .. }) | Effect::Delete(Stop { pod, .. }) => {
                let current = self.current.as_mut()?;
                let at = current.at(now.instant);
                current.pod(pod, |pod| {
                    pod.asked.get_or_insert(at);
                });
                None
            }
            Effect::PatchNode { .. } | Effect::Probe(_) | Effect::MarkDisruption(_) | Effect::Publish(_) => None,
        };
        let (milestone, current) = (milestone?, self.current.as_ref()?);
        Some(News { milestone, account: Arc::new(current.account.clone()) })
    }

    /// The account to write to: a new one if the last one is closed.
    fn open(&mut self, now: Now, kind: Kind, id: &str, first_seen: Timestamp) -> &mut Current {
        if self.current.as_ref().is_some_and(|current| current.account.over.is_some()) {
            self.current = None;
        }
        let (config, named) = (&self.config, &mut self.named);
        self.current.get_or_insert_with(|| {
            let new = || Trace::new(&config.node_name, config.boot_id.as_deref(), kind, id, first_seen);
            Current::new(config, now, named.take().unwrap_or_else(new))
        })
    }

    /// An account of what is over, so that the way back has its place. One that is open is of this boot, and goes on.
    fn survived(&mut self, now: Now, announcements: &[Entry]) -> Option<Milestone> {
        let first = announcements.first()?;
        if self.current.as_ref().is_some_and(|current| current.account.over.is_none()) {
            return None;
        }
        let current = self.open(now, first.kind, &first.id, first.first_seen);
        let at = current.at(now.instant);
        let offset = |wall| current.at(now.instant_of(wall));
        let over = |one: &Entry| Announced {
            kind: one.kind,
            id: one.id.clone(),
            action: one.action,
            at: offset(one.first_seen).clamp(0.0, at),
            deadline: one.deadline.map(offset),
            deadline_time: one.deadline,
            detail: one.detail.as_deref().map(shortened),
            over: Some(Over { at, because: SURVIVED.to_owned() }),
        };
        let announcements = announcements.iter().map(over).collect();
        let account = &mut current.account;
        account.announcements = announcements;
        (account.resumed, account.over) = (Some(at), Some(at));
        Some(Milestone::Over)
    }

    /// Adds what is announced; its offset.
    fn announced(&mut self, now: Now, signal: &Signal, first_seen: Timestamp) -> f64 {
        let current = self.open(now, signal.kind, &signal.id, first_seen);
        let at = current.at(now.instant);
        let seen = current.at(now.instant_of(first_seen)).clamp(0.0, at);
        let (deadline, deadline_time) = (current.deadline(signal.deadline), signal.deadline.map(|one| one.wall));
        if !current.account.announcements.iter().any(|one| one.id == signal.id && one.over.is_none()) {
            current.account.announcements.push(Announced {
                kind: signal.kind,
                id: signal.id.clone(),
                action: signal.action,
                at: seen,
                deadline,
                deadline_time,
                detail: signal.detail.as_deref().map(shortened),
                over: None,
            });
        }
        at
    }
}

impl Current {
    fn new(config: &Config, now: Now, trace: Trace) -> Self {
        // Of an agent before this one only the wall time is known; one that is still to come is of a clock that was wrong.
        let started = trace.since.min(now.wall);
        let start = now.instant_of(started);
        let account = Account {
            version: VERSION,
            trace_id: trace.id,
            node: config.node_name.clone(),
            started,
            dry_run: config.dry_run,
            resumed: None,
            shutdown_tail: config.shutdown_tail.as_secs_f64(),
            announcements: Vec::new(),
            fence: None,
            drain: None,
            not_drained: None,
            foreseen: Vec::new(),
            pods: Vec::new(),
            over: None,
            restored: None,
        };
        Self { account, start }
    }

    fn record(&mut self, now: Now, record: &Record) -> Option<Milestone> {
        let at = self.at(now.instant);
        match record {
            Record::Rescheduled { id, deadline, .. } => {
                let offset = self.deadline(Some(*deadline));
                let one = self.account.announcements.iter_mut().find(|one| one.id == *id && one.over.is_none())?;
                (one.deadline, one.deadline_time) = (offset, Some(deadline.wall));
                Some(Milestone::Rescheduled)
            }
            Record::Over { id, because, .. } => {
                let one = self.account.announcements.iter_mut().find(|one| one.id == *id && one.over.is_none())?;
                one.over = Some(Over { at, because: (*because).to_owned() });
                if self.account.pending().next().is_some() {
                    return None;
                }
                self.account.over = Some(at);
                Some(Milestone::Over)
            }
            Record::Fenced { after, refused } => {
                let refused = refused.iter().map(|part| (*part).to_owned()).collect();
                self.account.fence = Some(Fence { at, took: seconds(*after), refused });
                Some(Milestone::Fenced)
            }
            Record::DrainStarted { pods, skipped } => {
                self.account.drain = Some(DrainPart { at, pods: *pods, skipped: *skipped, finished: None });
                Some(Milestone::DrainStarted)
            }
            Record::EvictionBlocked { pod, message } => {
                self.pod(pod, |pod| {
                    pod.blocked.get_or_insert(at);
                    pod.blocked_by = Some(shortened(message));
                });
                None
            }
            Record::StopAccepted { pod, wanted, granted, forced } => {
                self.pod(pod, |pod| {
                    pod.told.get_or_insert(at);
                    pod.forced |= *forced;
                    (pod.wanted, pod.granted) = (Some(seconds(*wanted)), Some(seconds(*granted)));
                });
                None
            }
            Record::PodEnded { pod, outcome, wanted, granted } => {
                self.pod(pod, |pod| {
                    (pod.ended, pod.outcome) = (Some(at), Some(*outcome));
                    pod.wanted = Some(seconds(*wanted));
                    pod.granted = granted.map(seconds).or(pod.granted);
                });
                self.late(at, *outcome);
                None
            }
            Record::DrainFinished { took, slack_seconds, outcomes } => {
                let drain = self.account.drain.as_mut()?;
                let (took, outcomes) = (seconds(*took), (*outcomes).into());
                // The record comes when the node has stayed empty for a while.
                let at = rounded(drain.at + took).min(at);
                drain.finished = Some(Finish { at, took, slack: slack_seconds.map(rounded), outcomes });
                Some(Milestone::DrainFinished)
            }
            Record::NotDrained { reason } => {
                self.account.not_drained = Some((*reason).to_owned());
                Some(Milestone::DrainFinished)
            }
            Record::Preflight { blocked, .. } => {
                let foreseen =
                    |(pod, message): &(PodRef, String)| Foreseen { pod: pod.to_string(), message: shortened(message) };
                self.account.foreseen = blocked.iter().map(foreseen).collect();
                Some(Milestone::Foreseen)
            }
            Record::Restored => {
                self.account.restored = Some(at);
                Some(Milestone::Restored)
            }
            Record::NoticeSeen { .. }
            | Record::Resumed { .. }
            | Record::Interruption(_)
            | Record::Survived { .. }
            | Record::StateUnreadable { .. }
            | Record::FenceFailed { .. }
            | Record::DrainPostponed { .. }
            | Record::RestoreFailed { .. } => None,
        }
    }

    /// A pod that ended after the drain had finished moves its figures.
    fn late(&mut self, at: f64, outcome: Outcome) {
        let Some(drain) = &mut self.account.drain else { return };
        let Some(finish) = &mut drain.finished else { return };
        finish.outcomes.add(outcome);
        if outcome != Outcome::Skipped {
            finish.slack = finish.slack.map(|slack| rounded(slack - (at - finish.at)));
            (finish.at, finish.took) = (at, rounded(at - drain.at));
        }
    }

    fn pod(&mut self, id: &PodRef, write: impl FnOnce(&mut PodPart)) {
        let pods = &mut self.account.pods;
        // A pod of the same name may come after the first one has gone; it is a part of its own.
        let same = |pod: &&mut PodPart| pod.ended.is_none() && pod.namespace == id.namespace && pod.name == id.name;
        if let Some(pod) = pods.iter_mut().rev().find(same) {
            write(pod);
            return;
        }
        let mut pod = PodPart::new(&id.namespace, &id.name);
        write(&mut pod);
        pods.push(pod);
    }

    /// Seconds from the start, negative before it.
    fn at(&self, instant: Instant) -> f64 {
        match instant.checked_duration_since(self.start) {
            Some(after) => seconds(after),
            None => -seconds(self.start.duration_since(instant)),
        }
    }

    fn deadline(&self, deadline: Option<Deadline>) -> Option<f64> {
        deadline.map(|deadline| self.at(deadline.instant))
    }
}

fn shortened(words: &str) -> String {
    let mut kept: String = words.chars().take(LONGEST_WORDS).collect();
    if kept.len() < words.len() {
        kept.push('…');
    }
    kept
}

fn seconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64())
}

/// To the millisecond: what is finer is noise, and long in JSON.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
