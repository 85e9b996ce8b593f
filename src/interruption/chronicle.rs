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
use super::{Effect, Stop};
use crate::clock::Now;
use crate::config::Config;
use crate::drain::pod::PodRef;
use crate::signal::{Deadline, Signal};

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
        Self { config, current: None }
    }

    /// The present interruption, or the last one.
    pub fn account(&self) -> Option<&Account> {
        self.current.as_ref().map(|current| &current.account)
    }

    /// Takes one effect of the machine, in the order in which they are carried out.
    pub fn note(&mut self, now: Now, effect: &Effect) -> Option<News> {
        let milestone = match effect {
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
        let account = &self.current.as_ref()?.account;
        milestone.map(|milestone| News { milestone, account: Arc::new(account.clone()) })
    }

    /// Adds what is announced, to a new account if the last one is closed; its offset.
    fn announced(&mut self, now: Now, signal: &Signal, first_seen: Timestamp) -> f64 {
        if self.current.as_ref().is_some_and(|current| current.account.over.is_some()) {
            self.current = None;
        }
        let current = self.current.get_or_insert_with(|| Current::new(&self.config, now, signal, first_seen));
        let at = current.at(now.instant);
        let seen = current.at(now.instant_of(first_seen)).min(at);
        let (deadline, deadline_time) = (current.deadline(signal.deadline), signal.deadline.map(|one| one.wall));
        if !current.account.announcements.iter().any(|one| one.id == signal.id && one.over.is_none()) {
            current.account.announcements.push(Announced {
                kind: signal.kind,
                id: signal.id.clone(),
                action: signal.action,
                at: seen.max(0.0),
                deadline,
                deadline_time,
                detail: signal.detail.clone(),
                over: None,
            });
        }
        at
    }
}

impl Current {
    fn new(config: &Config, now: Now, signal: &Signal, first_seen: Timestamp) -> Self {
        // Of an agent before this one only the wall time is known.
        let start = now.instant_of(first_seen).min(now.instant);
        let boot_id = config.boot_id.as_deref().unwrap_or_default();
        let account = Account {
            version: VERSION,
            trace_id: trace_id(&config.node_name, boot_id, signal, first_seen),
            node: config.node_name.clone(),
            started: first_seen,
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
                    pod.blocked_by = Some(message.clone());
                });
                None
            }
            Record::StopAccepted { pod, wanted, granted, .. } => {
                self.pod(pod, |pod| {
                    pod.told.get_or_insert(at);
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
                None
            }
            Record::DrainFinished { took, slack_seconds, outcomes } => {
                let drain = self.account.drain.as_mut()?;
                let (took, outcomes) = (seconds(*took), (*outcomes).into());
                drain.finished = Some(Finish { at, took, slack: slack_seconds.map(rounded), outcomes });
                Some(Milestone::DrainFinished)
            }
            Record::NotDrained { reason } => {
                self.account.not_drained = Some((*reason).to_owned());
                Some(Milestone::DrainFinished)
            }
            Record::Preflight { blocked, .. } => {
                let foreseen =
                    |(pod, message): &(PodRef, String)| Foreseen { pod: pod.to_string(), message: message.clone() };
                self.account.foreseen = blocked.iter().map(foreseen).collect();
                None
            }
            Record::Restored => {
                self.account.restored = Some(at);
                Some(Milestone::Restored)
            }
            Record::NoticeSeen { .. }
            | Record::Resumed { .. }
            | Record::StateUnreadable { .. }
            | Record::FenceFailed { .. }
            | Record::DrainPostponed { .. }
            | Record::RestoreFailed { .. } => None,
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

/// The same in every agent that sees the announcement: all of it stands in the state annotation.
fn trace_id(node: &str, boot_id: &str, signal: &Signal, first_seen: Timestamp) -> String {
    let name = format!("{node}/{boot_id}/{}/{}/{first_seen}", signal.kind.as_str(), signal.id);
    let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    let id = digest.as_ref().first_chunk().copied().map(u128::from_be_bytes).unwrap_or_default();
    format!("{id:032x}")
}

fn seconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64())
}

/// To the millisecond: what is finer is noise, and long in JSON.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
