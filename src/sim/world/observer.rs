//! Makes the timeline: looks at the world's own records again and again and tells what is new in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Run, World, headroom};
use crate::interruption::record::{Pending, Status};
use crate::signal::Kind;
use crate::sim::gateway::log::LoggedRequest;
use crate::sim::imds::ImdsRequest;
use crate::sim::kubelet::PodFate;
use crate::sim::timeline::{Actor, TimelineEntry};

/// The records are kept by several tasks; one may write down a moment that another has passed already.
const HOLD: Duration = Duration::from_millis(250);

/// The agent has read the notice.
const KNOWS: &str = "knows";
/// The agent has read in the node's annotation what one before it began.
const TAKES_UP: &str = "takes up again";

/// One thing that happened, possibly to one pod.
#[derive(Clone, Debug)]
struct Raw {
    at: Instant,
    actor: Actor,
    what: String,
    pod: Option<String>,
}

impl Raw {
    /// Place among things of the same instant: the notice is told, then known, then acted upon, then accomplished.
    fn rank(&self) -> u8 {
        match self.actor {
            Actor::World | Actor::Other(_) => 0,
            Actor::Imds | Actor::Ipamd => 1,
            Actor::Agent if self.what.starts_with(KNOWS) || self.what.starts_with(TAKES_UP) => 2,
            Actor::Agent => 5,
            Actor::Api => 3,
            Actor::Kubelet => 4,
        }
    }
}

/// What happened beside the records that the services keep; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    raw: Vec<Raw>,
    /// Pods that somebody else asked to stop, and when first.
    told: BTreeMap<String, Instant>,
}

impl Notes {
    /// Writes something down that happens now.
    pub(super) fn add(&self, actor: Actor, what: impl Into<String>, pod: Option<String>) {
        self.lock().raw.push(Raw { at: Instant::now(), actor, what: what.into(), pod });
    }

    /// Somebody else got the stop of a pod accepted.
    pub(super) fn told(&self, pod: &str) {
        self.lock().told.entry(pod.to_owned()).or_insert_with(Instant::now);
    }

    /// Pods that somebody else asked to stop, and when first.
    pub(super) fn told_pods(&self) -> BTreeMap<String, Instant> {
        self.lock().told.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far each record has been told.
#[derive(Default)]
pub(super) struct Observer {
    imds_seen: usize,
    imds_silent: bool,
    /// What the agent was last told, by path; what flaps and comes again is no news.
    imds_told: BTreeMap<String, Box<str>>,
    calls_seen: u64,
    /// Not answered yet when they were looked at.
    calls_open: BTreeSet<u64>,
    /// Refusals are repeated for as long as a budget stands; the first of each is enough.
    refusals: BTreeSet<(String, Option<String>)>,
    pods: BTreeMap<String, PodFate>,
    lives: usize,
    status: Status,
    /// What the agent before the present one knew of.
    inherited: Vec<Kind>,
    /// The fence was told, and is still up as far as anything is coming.
    fence_told: bool,
    /// Too new to be told: something earlier may still be learnt of.
    held: Vec<Raw>,
}

impl Observer {
    /// What is new and old enough to be told in order of time; with `last`, everything.
    pub(super) fn look(&mut self, world: &World, run: &Run, last: bool) -> Vec<TimelineEntry> {
        self.agent(world);
        let mut raw = std::mem::take(&mut self.held);
        raw.append(&mut world.notes.lock().raw);
        self.imds(&world.imds.requests_after(self.imds_seen), &mut raw);
        self.api(&world.gateway.requests_after(self.calls_seen, &self.calls_open), &mut raw);
        self.kubelet(world.kubelet.fates(), run.powered_off.map(|off| off.instant), &mut raw);
        // Of what happens in the same instant of virtual time, causes come first.
        raw.sort_by_key(|raw| (raw.at, raw.rank()));
        let now = Instant::now();
        let told = if last { raw.len() } else { raw.partition_point(|raw| raw.at + HOLD <= now) };
        self.held = raw.split_off(told);
        let mut entries: Vec<TimelineEntry> = Vec::new();
        for raw in raw {
            let alike = |entry: &&mut TimelineEntry| entry.actor == raw.actor && entry.what == raw.what;
            match entries.iter_mut().find(alike) {
                Some(entry) => entry.pods.extend(raw.pod),
                None => entries.push(entry(raw, run)),
            }
        }
        entries
    }

    fn imds(&mut self, requests: &[ImdsRequest], raw: &mut Vec<Raw>) {
        for request in requests {
            let mut tell = |what: &str| {
                raw.push(Raw { at: request.at.instant, actor: Actor::Imds, what: what.to_owned(), pod: None });
            };
            let silent = request.status.is_none_or(|status| status >= 500);
            if silent != self.imds_silent {
                tell(if silent { "fails the agent" } else { "answers the agent again" });
                self.imds_silent = silent;
            }
            if let Some(text) = &request.told {
                let before = self.imds_told.insert(request.path.clone(), text.clone());
                if let Some(what) = news(&request.path, before.as_deref(), text) {
                    tell(&what);
                }
            }
        }
        self.imds_seen += requests.len();
    }

    fn api(&mut self, requests: &[(u64, LoggedRequest)], raw: &mut Vec<Raw>) {
        self.calls_open.clear();
        for (number, request) in requests {
            self.calls_seen = self.calls_seen.max(number + 1);
            let Some(at) = request.answered_at.or(request.done_at) else {
                self.calls_open.insert(*number);
                continue;
            };
            let Some((what, pod)) = self.describe(request) else { continue };
            raw.push(Raw { at: at.instant, actor: Actor::Api, what, pod });
        }
    }

    /// What an answer means to a person; reads and repeated refusals mean nothing.
    fn describe(&mut self, request: &LoggedRequest) -> Option<(String, Option<String>)> {
        let attributes = &request.attributes;
        let resource = attributes.resource_path();
        let pod = (attributes.resource == "pods" && !attributes.name.is_empty()).then(|| attributes.name.clone());
        let grace = |pointer: &str| -> String {
            let grace = request.json().and_then(|body| body.pointer(pointer).and_then(serde_json::Value::as_u64));
            grace.map_or(String::new(), |grace| format!(" with {grace} s of grace"))
        };
        if !(200..300).contains(&request.code) {
            let what = match (request.code, request.is("create", "pods/eviction")) {
                (0, _) => format!("breaks the connection ({} {resource})", attributes.verb),
                (code, true) if request.is_rehearsal() => format!("would refuse the eviction ({code})"),
                (code, true) => format!("refuses the eviction ({code})"),
                (409, false) if request.is("create", "events") => "has this Event already".to_owned(),
                (code, false) => format!("refuses {} {resource} ({code})", attributes.verb),
            };
            let news = request.mutating() || request.code == 0;
            return (news && self.refusals.insert((what.clone(), pod.clone()))).then_some((what, pod));
        }
        let what = match (attributes.verb, resource.as_str()) {
            ("patch", "nodes") => "accepts the agent's patch of the node".to_owned(),
            ("create", "pods/eviction") if request.is_rehearsal() => "would allow the eviction".to_owned(),
            ("create", "pods/eviction") => format!("evicts{}", grace("/deleteOptions/gracePeriodSeconds")),
            ("delete", "pods") => format!("deletes{}", grace("/gracePeriodSeconds")),
            ("patch", "pods/status") => "marks as disrupted".to_owned(),
            ("create", "events") => {
                let reason = request.json().and_then(|body| Some(body.get("reason")?.as_str()?.to_owned()));
                format!("publishes the Event {}", reason.unwrap_or_default())
            }
            _ if request.mutating() => format!("accepts {} {resource}", attributes.verb),
            _ => return None,
        };
        Some((what, pod))
    }

    fn kubelet(&mut self, fates: Vec<PodFate>, off: Option<Instant>, raw: &mut Vec<Raw>) {
        for fate in fates {
            let before = self.pods.get(&fate.uid);
            let mut tell = |at: Instant, what: String| {
                raw.push(Raw { at, actor: Actor::Kubelet, what, pod: Some(fate.name.clone()) });
            };
            if let (Some(at), true) = (fate.no_address, before.is_none_or(|before| before.no_address.is_none())) {
                tell(at.instant, "finds no address".into());
            }
            if let (Some(at), true) = (fate.told_at, before.is_none_or(|before| before.told_at.is_none())) {
                tell(at.instant, "sends SIGTERM".into());
            }
            let shorter =
                before.and_then(|before| before.grace_granted).zip(fate.grace_granted).filter(|(old, new)| new < old);
            if let Some((old, new)) = shorter {
                tell(Instant::now(), format!("shortens the stop from {} s to {} s", old.as_secs(), new.as_secs()));
            }
            if let (Some(at), true) = (fate.exited_at, before.is_none_or(|before| before.exited_at.is_none())) {
                tell(
                    at.instant,
                    if fate.killed { "kills, the grace is over" } else { "sees the processes end" }.into(),
                );
            }
            if fate.cut_off && before.is_none_or(|before| !before.cut_off) {
                tell(off.unwrap_or_else(Instant::now), "loses to the power, still running".into());
            }
            self.pods.insert(fate.uid.clone(), fate);
        }
    }

    /// Notes what is new in the agent's state, at the time of the call.
    pub(super) fn agent(&mut self, world: &World) {
        let Some(status) = world.agents.status() else { return };
        headroom::note(world);
        let tell = |what: String| world.notes.add(Actor::Agent, what, None);
        if std::mem::replace(&mut self.lives, world.agents.lives.len()) != self.lives {
            let before = std::mem::take(&mut self.status);
            self.inherited = before.pending.iter().map(|pending| pending.kind).collect();
            self.fence_told = false;
        }
        let was_known = |pending: &Pending| self.status.pending.iter().find(|known| known.kind == pending.kind);
        let is_coming = |known: &Pending| status.pending.iter().any(|pending| pending.kind == known.kind);
        for over in self.status.pending.iter().filter(|known| !is_coming(known)) {
            tell(format!("sees that it is over: {}", over.kind.as_str()));
        }
        for pending in &status.pending {
            let (kind, time) = (pending.kind.as_str(), at_time(pending));
            match was_known(pending) {
                Some(before) if wall(before) != wall(pending) => tell(format!("sees the time moved: {kind}{time}")),
                Some(_) => {}
                None => {
                    let how = if self.inherited.contains(&pending.kind) { TAKES_UP } else { KNOWS };
                    tell(format!("{how}: {kind} ({}){time}", pending.action.as_str()));
                }
            }
        }
        let dry_run = world.agents.config().dry_run;
        if status.fenced && !self.fence_told {
            self.fence_told = true;
            let words = match (dry_run, self.inherited.is_empty()) {
                (true, _) => "would have fenced the node",
                (false, false) => "sees the node fenced",
                (false, true) => "has fenced the node",
            };
            tell(words.into());
        }
        // While another announcement is added to the marks they are not acknowledged for a moment.
        if self.fence_told && !status.fenced && status.pending.is_empty() {
            self.fence_told = false;
            tell("has taken the fence down".into());
        }
        if status.drained && !self.status.drained {
            let words = if dry_run { "would be done with the drain" } else { "is done with the drain" };
            tell(format!("{words}{}", status.slack_seconds.map_or_else(String::new, slack_words)));
        }
        self.status = status;
    }
}

fn wall(pending: &Pending) -> Option<Timestamp> {
    pending.deadline.map(|deadline| deadline.wall)
}

fn at_time(pending: &Pending) -> String {
    let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap_or(time);
    wall(pending).map_or(String::new(), |time| format!(" at {}", whole(time)))
}

/// What is new in the text that IMDS has at a path, for people; before it there was `before`.
fn news(path: &str, before: Option<&str>, text: &str) -> Option<String> {
    if before == Some(text) {
        return None;
    }
    let is_empty = |list: &str| list.trim() == "[]";
    let first = before.is_none();
    match path.rsplit('/').next()? {
        // A time that slides is told once: it would fill the page.
        "instance-action" => first.then(|| "tells the agent of the notice".to_owned()),
        "rebalance" => Some("tells the agent of the rebalance recommendation".to_owned()),
        "scheduled" if is_empty(text) => {
            before.map(|_| "tells the agent that nothing is scheduled any more".to_owned())
        }
        "scheduled" if before.is_none_or(is_empty) => Some("tells the agent of the scheduled event".to_owned()),
        "scheduled" => Some("tells the agent that the scheduled event has changed".to_owned()),
        "target-lifecycle-state" => Some(format!("tells the agent of the target state {:?}", text.trim())),
        _ => None,
    }
}

fn slack_words(slack: f64) -> String {
    let side = if slack < 0.0 { "after" } else { "before" };
    format!(", the last pod gone {:.1} s {side} the deadline", slack.abs())
}

fn entry(raw: Raw, run: &Run) -> TimelineEntry {
    let left = run.countdown.filter(|countdown| countdown.since <= raw.at).map(|countdown| {
        countdown.until.saturating_duration_since(raw.at).as_secs_f64()
            - raw.at.saturating_duration_since(countdown.until).as_secs_f64()
    });
    TimelineEntry {
        at: raw.at.saturating_duration_since(run.start.instant),
        left,
        actor: raw.actor,
        what: raw.what,
        pods: raw.pod.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_in_one_instant_is_told_with_causes_first() {
        let raw = |actor, what: &str| Raw { at: Instant::now(), actor, what: what.into(), pod: None };
        let mut told = [
            raw(Actor::Agent, "has fenced the node"),
            raw(Actor::Kubelet, "sends SIGTERM"),
            raw(Actor::Agent, "knows: spot-interruption"),
            raw(Actor::Api, "evicts"),
            raw(Actor::Imds, "tells the agent of the notice"),
            raw(Actor::World, "EC2 will terminate the instance"),
        ];
        told.sort_by_key(Raw::rank);
        let order = told.map(|raw| raw.actor);
        let wanted = [Actor::World, Actor::Imds, Actor::Agent, Actor::Api, Actor::Kubelet, Actor::Agent];
        assert_eq!(order, wanted);
    }

    #[test]
    fn imds_is_quoted_when_it_says_something_new() {
        let told = |path: &str, before, text| news(&format!("/latest/meta-data/{path}"), before, text);
        let scheduled = "events/maintenance/scheduled";
        assert_eq!(told(scheduled, None, "[]"), None);
        assert!(told(scheduled, Some("[]"), "[{}]").unwrap().ends_with("of the scheduled event"));
        assert!(told(scheduled, Some("[{}]"), "[{},{}]").unwrap().ends_with("has changed"));
        assert!(told(scheduled, Some("[{}]"), "[]").unwrap().ends_with("any more"));
        assert_eq!(told(scheduled, Some("[{}]"), "[{}]"), None);
        assert!(told("autoscaling/target-lifecycle-state", Some("InService"), "Terminated\n").is_some());
        assert!(told("spot/instance-action", None, "{}").is_some());
        assert_eq!(told("spot/instance-action", Some("{}"), "{ }"), None, "a time that slides is told once");
    }

    #[test]
    fn slack_is_told_on_the_right_side_of_the_deadline() {
        assert_eq!(slack_words(3.04), ", the last pod gone 3.0 s before the deadline");
        assert_eq!(slack_words(-2.0), ", the last pod gone 2.0 s after the deadline");
    }
}
