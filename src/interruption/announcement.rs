//! What is in force: every announcement, how it is answered at a given moment, and which of several counts.
//!
//! Announcements of all kinds may stand at once, in any order. The strictest response and the earliest deadline win.

use jiff::Timestamp;
use tokio::time::Instant;

use super::state::Entry;
use crate::clock::Now;
use crate::config::{Config, Response};
use crate::signal::{Deadline, Kind, Observation, Others, Signal};

/// One announcement in force.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// What the platform says; its deadline is ours where the platform gives none.
    pub signal: Signal,
    /// When it was first read, by this process or by the one before it.
    pub read_at: Instant,
    /// When it was first seen, by this agent or one before it.
    pub first_seen: Timestamp,
    /// The deadline as the annotation has it: only a time that the platform moved is written again.
    recorded: Option<Timestamp>,
    /// Taken up from the annotation while it was still to come. The agent before may have died between the marks and the
    /// Events; a second one of the same key does no harm.
    pub retold: bool,
    /// When it counts as over although the platform never says so.
    expires: Option<Instant>,
}

/// What became of an observation.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// An announcement that nobody saw before; its id.
    New(String),
    /// The platform moved its time; its id.
    Moved(String),
    /// It is over.
    Over(Signal),
}

impl Announcement {
    /// One that is news at `now` and was read at `read_at`.
    fn new(mut signal: Signal, read_at: Instant, now: Now, config: &Config) -> Self {
        if signal.kind == Kind::AsgTermination {
            // The platform gives no time; the hook's own is what there is.
            let deadline = Now { instant: read_at, wall: now.wall_of(read_at) }.plus(config.asg_hook_timeout);
            signal.deadline.get_or_insert(Deadline { instant: deadline.instant, wall: deadline.wall });
        }
        let expires = expiry(&signal, read_at, config);
        let recorded = signal.deadline.map(|deadline| deadline.wall);
        Self { signal, read_at, first_seen: now.wall, recorded, retold: false, expires }
    }

    /// One that an agent before this one had written down.
    fn resumed(entry: Entry, now: Now, config: &Config) -> Self {
        let at = |wall| Now { instant: now.instant_of(wall), wall };
        let signal = Signal {
            kind: entry.kind,
            id: entry.id,
            action: entry.action,
            deadline: entry.deadline.map(|wall| Deadline { instant: at(wall).instant, wall }),
            issued: entry.issued.map(at),
            detail: entry.detail,
        };
        let expires = expiry(&signal, at(entry.first_seen).instant, config);
        let retold = signal.deadline.is_none_or(|deadline| deadline.instant > now.instant);
        Self { signal, read_at: now.instant, first_seen: entry.first_seen, recorded: entry.deadline, retold, expires }
    }

    /// How it is answered at `now`.
    pub fn response(&self, config: &Config, now: Instant) -> Response {
        let response = config.response(self.signal.kind);
        if self.signal.kind != Kind::ScheduledEvent {
            return response;
        }
        // An event whose time cannot be read may be weeks away.
        let early = self.full_response_at(config).is_none_or(|at| now < at);
        if early { response.min(Response::Taint) } else { response }
    }

    /// A scheduled event may be days ahead: until shortly before its time the node only asks pods to stay away.
    fn full_response_at(&self, config: &Config) -> Option<Instant> {
        let deadline = self.signal.deadline.filter(|_| self.signal.kind == Kind::ScheduledEvent)?.instant;
        Some(deadline.checked_sub(config.scheduled_event_lead).unwrap_or(deadline))
    }

    /// When the present response began: with the announcement, or with the time it was waiting for.
    pub fn answered_since(&self, config: &Config, now: Instant) -> Instant {
        self.full_response_at(config).filter(|at| *at <= now).map_or(self.read_at, |at| at.max(self.read_at))
    }

    /// Whether the node's pods have to leave on its account now.
    pub fn drains(&self, config: &Config, now: Instant) -> bool {
        self.response(config, now) >= Response::Drain && self.signal.action.clears_the_node()
    }

    /// The platform says it again, perhaps with another time.
    fn heard(&mut self, signal: &Signal) -> Option<Change> {
        let new = signal.deadline?;
        match self.signal.kind {
            // Scheduled events are moved by AWS and by users, both ways.
            Kind::ScheduledEvent if self.signal.deadline.is_none_or(|old| old.wall != new.wall) => {
                self.signal.deadline = Some(new);
                self.signal.detail.clone_from(&signal.detail);
                self.recorded = Some(new.wall);
                Some(Change::Moved(self.signal.id.clone()))
            }
            // Of a notice only an earlier time is believed; the same time may be known more exactly now.
            _ if self.signal.deadline.is_none_or(|old| new.wall <= old.wall) => {
                self.signal.deadline = Some(new);
                None
            }
            _ => None,
        }
    }

    /// What the annotation tells of it.
    pub fn entry(&self) -> Entry {
        Entry {
            kind: self.signal.kind,
            action: self.signal.action,
            id: self.signal.id.clone(),
            deadline: self.recorded,
            issued: self.signal.issued.map(|issued| issued.wall),
            first_seen: self.first_seen,
            detail: self.signal.detail.clone(),
        }
    }
}

/// A rebalance recommendation is never withdrawn, and often nothing follows.
fn expiry(signal: &Signal, seen: Instant, config: &Config) -> Option<Instant> {
    let from = signal.issued.map_or(seen, |issued| issued.instant);
    (signal.kind == Kind::RebalanceRecommendation).then(|| from + config.rebalance_expiry)
}

/// Everything that is in force.
#[derive(Debug, Default)]
pub struct Announcements {
    all: Vec<Announcement>,
    /// Ids of recommendations that expired and that the platform goes on to tell.
    expired: Vec<String>,
}

impl Announcements {
    /// Nothing is coming.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Every one, in the order in which they were first seen.
    pub fn iter(&self) -> impl Iterator<Item = &Announcement> {
        self.all.iter()
    }

    /// The one with this id.
    pub fn get(&self, id: &str) -> Option<&Announcement> {
        self.all.iter().find(|one| one.signal.id == id)
    }

    /// Takes the present level of one kind, read at `read_at`.
    pub fn observed(&mut self, observation: Observation, read_at: Instant, now: Now, config: &Config) -> Vec<Change> {
        let mut changes = Vec::new();
        if observation.others == Others::Over {
            let listed = |id: &String| observation.signals.iter().any(|signal| signal.id == *id);
            let over = |one: &mut Announcement| one.signal.kind == observation.kind && !listed(&one.signal.id);
            changes.extend(self.all.extract_if(.., over).map(|one| Change::Over(one.signal)));
        }
        for signal in observation.signals {
            if let Some(known) = self.all.iter_mut().find(|one| one.signal.id == signal.id) {
                changes.extend(known.heard(&signal));
                continue;
            }
            let one = Announcement::new(signal, read_at, now, config);
            let expired = one.expires.is_some_and(|at| at <= now.instant) || self.expired.contains(&one.signal.id);
            if !expired {
                changes.push(Change::New(one.signal.id.clone()));
                self.insert(one);
            }
        }
        changes
    }

    /// Takes up what an agent before this one had written down; of each, whether it was unknown here.
    pub fn resume(&mut self, entries: Vec<Entry>, now: Now, config: &Config) -> Vec<Announcement> {
        let mut taken = Vec::new();
        for entry in entries.into_iter().filter(|entry| config.response(entry.kind) != Response::Ignore) {
            if let Some(known) = self.all.iter_mut().find(|one| one.signal.id == entry.id) {
                known.first_seen = known.first_seen.min(entry.first_seen);
                known.recorded = entry.deadline.or(known.recorded);
                continue;
            }
            let one = Announcement::resumed(entry, now, config);
            taken.push(one.clone());
            self.insert(one);
        }
        self.all.sort_by(|a, b| order(a).cmp(&order(b)));
        taken
    }

    /// Another copy of the agent has seen this one before.
    pub fn adopt(&mut self, entry: &Entry) {
        if let Some(known) = self.all.iter_mut().find(|one| one.signal.id == entry.id) {
            known.first_seen = known.first_seen.min(entry.first_seen);
            self.all.sort_by(|a, b| order(a).cmp(&order(b)));
        }
    }

    fn insert(&mut self, one: Announcement) {
        let at = self.all.partition_point(|other| order(other) <= order(&one));
        self.all.insert(at, one);
    }

    /// Lets go of what has expired.
    pub fn expire(&mut self, now: Instant) -> Vec<Signal> {
        let expired = |one: &mut Announcement| one.expires.is_some_and(|at| at <= now);
        let over: Vec<Signal> = self.all.extract_if(.., expired).map(|one| one.signal).collect();
        self.expired.extend(over.iter().map(|signal| signal.id.clone()));
        over
    }

    /// The one that gives the marks their name at `now`: the strictest, of those the one with the least time left.
    pub fn leading(&self, config: &Config, now: Instant) -> Option<&Announcement> {
        let urgency = |one: &&Announcement| {
            let deadline = one.signal.deadline.map(|deadline| deadline.instant);
            (std::cmp::Reverse(one.response(config, now)), deadline.is_none(), deadline, one.signal.kind)
        };
        self.all.iter().min_by_key(urgency)
    }

    /// Whether the node's pods have to leave at `now`.
    pub fn is_draining(&self, config: &Config, now: Instant) -> bool {
        self.all.iter().any(|one| one.drains(config, now))
    }

    /// Whether the pods have to leave at `now` on account of nothing but rebalance recommendations, which leave the time to
    /// choose.
    pub fn drain_can_wait(&self, config: &Config, now: Instant) -> bool {
        let mut draining = self.all.iter().filter(|one| one.drains(config, now));
        draining.all(|one| one.signal.kind == Kind::RebalanceRecommendation && one.signal.deadline.is_none())
    }

    /// The earliest deadline of those that clear the node at `now`, if any of them has one.
    pub fn drain_deadline(&self, config: &Config, now: Instant) -> Option<Deadline> {
        let draining = self.all.iter().filter(|one| one.drains(config, now));
        draining.filter_map(|one| one.signal.deadline).min_by_key(|deadline| deadline.instant)
    }

    /// The earliest deadline of all, whatever the response.
    pub fn earliest_deadline(&self) -> Option<Deadline> {
        self.all.iter().filter_map(|one| one.signal.deadline).min_by_key(|deadline| deadline.instant)
    }

    /// When a response changes or an announcement expires, if nothing else happens.
    pub fn next_change(&self, config: &Config, now: Instant) -> Option<Instant> {
        let at = |one: &Announcement| [one.expires, one.full_response_at(config).filter(|at| *at > now)];
        self.all.iter().flat_map(at).flatten().min()
    }
}

/// The order of first sight, which no later announcement changes.
fn order(one: &Announcement) -> (Timestamp, &str) {
    (one.first_seen, one.signal.id.as_str())
}
