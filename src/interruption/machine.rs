//! The machine that owns the agent's whole state: `handle(now, input) → effects`, `next_timeout`.
//!
//! It is level-triggered: an observation says what the platform announces now, the node and pod views say how the cluster
//! looks now, and the machine acts on the difference. A repeated observation changes nothing; a restarted agent reaches
//! the same state from the first observations and the node's own annotation.

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::announcement::{Announcement, Announcements, Change};
use super::early::Early;
use super::fencing::Fencing;
use super::preflight::Preflight;
use super::record::{Pending, Record, Status};
use super::state::{Entry, Episode, State, Trace};
use super::{Effect, Input, NodeEvent, PatchAnswer, fence, marks, notes};
use crate::clock::Now;
use crate::cni::subnet::Refused;
use crate::config::{Config, Response};
use crate::drain::forecast::{self, Forecast};
use crate::drain::pod::{PodRef, PodView};
use crate::drain::{Drain, Policy};
use crate::k8s::node::NodeView;
use crate::signal::{Action, Deadline, Kind, Observation, Signal};

/// How long a restarted agent waits for the platform before it drains by the annotation's deadline, which it can place by
/// the guest's clock only.
const PLATFORM_PATIENCE: Duration = Duration::from_secs(1);

/// Between two forecasts.
const FORECAST_PAUSE: Duration = Duration::from_secs(1);

/// The decision maker of one agent.
#[derive(Debug)]
pub struct Machine {
    config: Arc<Config>,
    node: Option<NodeView>,
    /// Identity of this life of the node.
    boot_id: Option<String>,
    pods: Option<BTreeMap<PodRef, PodView>>,
    /// What was read before the own Node was.
    early: Early,
    announcements: Announcements,
    /// Kinds that are polled and were not heard of since the start. Before all were, nothing is taken for over.
    unheard: Vec<Kind>,
    fencing: Fencing,
    /// What the present fence and drain are named after.
    episode: Option<Episode>,
    /// What the present interruption is called outside.
    trace: Option<Trace>,
    /// The fence is to be reported: since when it was due.
    fence_untold: Option<Instant>,
    /// Marks are to be taken away, or were: the announcement after which the Event is named.
    epilogue: Option<String>,
    /// That the way back waits for another actor was told.
    wait_told: bool,
    drain: Option<Drain>,
    /// What the drain's Events are named after.
    drain_key: String,
    /// Subnets that refused addresses lately.
    refused: Option<Refused>,
    /// Since when a drain waits on their account.
    postponed: Option<Instant>,
    /// The deadline that the drain was given last.
    drain_deadline: Option<Deadline>,
    /// A resumed drain begins when the platform was heard, or at this time.
    platform_awaited: Option<Instant>,
    preflight: Option<Preflight>,
    forecast: Option<Arc<Forecast>>,
    /// The pods changed, and the forecast is to be made anew at this time.
    forecast_due: Option<Instant>,
    /// Events that wait for the own Node, which their names and their key depend on.
    unpublished: Vec<NodeEvent>,
    /// Reasons of the Events that told the end of the drain; a late pod may add the second.
    ends_told: Vec<&'static str>,
}

impl Machine {
    /// A machine that knows nothing yet.
    pub fn new(config: Arc<Config>) -> Self {
        let unheard = Kind::ALL.into_iter().filter(|kind| config.response(*kind) != Response::Ignore).collect();
        Self {
            boot_id: config.boot_id.clone(),
            config,
            node: None,
            pods: None,
            early: Early::default(),
            announcements: Announcements::default(),
            unheard,
            fencing: Fencing::default(),
            episode: None,
            trace: None,
            fence_untold: None,
            epilogue: None,
            wait_told: false,
            drain: None,
            drain_key: String::new(),
            refused: None,
            postponed: None,
            drain_deadline: None,
            platform_awaited: None,
            preflight: None,
            forecast: None,
            forecast_due: None,
            unpublished: Vec::new(),
            ends_told: Vec::new(),
        }
    }

    /// Takes one input and says what to do about it, most urgent first.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        if matches!(input, Input::Pods(_) | Input::Pod(_) | Input::PodGone(_) | Input::Probed(..)) {
            let pause = if self.forecast.is_some() { FORECAST_PAUSE } else { Duration::ZERO };
            self.forecast_due.get_or_insert(now.instant + pause);
        }
        match input {
            Input::Observed(observation) => self.observed(observation, now, &mut effects),
            Input::Node(node) => self.node_seen(node, now, &mut effects),
            Input::Pods(pods) => self.relisted(pods, now, &mut effects),
            Input::Pod(pod) => self.pod_seen(pod, now),
            Input::PodGone(id) => self.pod_gone(&id, now, &mut effects),
            Input::NodePatched(answer) => self.node_patched(answer, now, &mut effects),
            Input::Evicted(id, answer) => {
                effects.extend(self.drain.iter_mut().flat_map(|drain| drain.evicted(&id, &answer, now)));
            }
            Input::Deleted(id, answer) => {
                effects.extend(self.drain.iter_mut().flat_map(|drain| drain.deleted(&id, &answer, now)));
            }
            Input::Probed(id, answer) => {
                self.preflight.iter_mut().for_each(|preflight| preflight.answered(&id, &answer));
            }
            Input::Addresses(refused) => self.refused = refused,
            Input::Timeout => {}
        }
        self.advance(now, &mut effects);
        self.forecast(now);
        self.hold_back_events(&mut effects);
        effects
    }

    /// When to feed [`Input::Timeout`] if nothing else happens.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let drain = self.drain.as_ref().and_then(|drain| drain.next_timeout(now));
        let change = self.announcements.next_change(&self.config, now);
        let retry = self.fencing.retry_at().filter(|_| self.may_mark());
        let forecast = self.forecast_due.filter(|_| self.pods.is_some());
        let addresses = self.refused.as_ref().filter(|_| self.postponed.is_some()).map(|refused| refused.until);
        [self.early.due(), addresses, retry, self.platform_awaited, drain, change, forecast].into_iter().flatten().min()
    }

    /// A copy of the state for people and gauges.
    pub fn status(&self, now: Instant) -> Status {
        let mut pending: Vec<Pending> = self.announcements.iter().map(|one| self.pending(one, now)).collect();
        pending.sort_by_key(|one| {
            let deadline = one.deadline.map(|deadline| deadline.instant);
            (std::cmp::Reverse(one.response), deadline.is_none(), deadline)
        });
        let finish = self.drain.as_ref().and_then(Drain::finish);
        Status {
            pending,
            deadline: self.announcements.earliest_deadline(),
            fenced: self.fencing.is_set(),
            forecast: self.forecast.clone(),
            node_seen: self.node.is_some(),
            pods: self.drain.as_ref().map(Drain::pods).unwrap_or_default(),
            postponed: self.refused.as_ref().filter(|_| self.postponed.is_some()).cloned(),
            drained: finish.is_some(),
            slack_seconds: finish.and_then(|finish| finish.slack_seconds),
        }
    }

    fn pending(&self, one: &Announcement, now: Instant) -> Pending {
        Pending {
            kind: one.signal.kind,
            action: one.signal.action,
            deadline: one.signal.deadline,
            first_seen: one.first_seen,
            detail: one.signal.detail.clone(),
            response: one.response(&self.config, now),
        }
    }

    fn observed(&mut self, observation: Observation, now: Now, effects: &mut Vec<Effect>) {
        self.platform_awaited = None;
        if self.node.is_none() && self.early.holds(now.instant) {
            self.early.keep(observation, now.instant);
        } else {
            self.heard(observation, now.instant, now, effects);
        }
    }

    /// Acts on the level of one kind.
    fn heard(&mut self, observation: Observation, read_at: Instant, now: Now, effects: &mut Vec<Effect>) {
        self.unheard.retain(|kind| *kind != observation.kind);
        let last = self.base_key(now.instant);
        let mut changes = self.announcements.observed(observation, read_at, now, &self.config);
        // What replaces something belongs to the same interruption, which is not over in between.
        changes.sort_by_key(|change| matches!(change, Change::Over(_)));
        for change in changes {
            match change {
                Change::New(id) => self.begin(&id, effects),
                Change::Moved(id) => self.moved(&id, effects),
                Change::Over(signal) => self.over(signal, "the platform lists it no longer", &last, effects),
            }
        }
    }

    /// An announcement that is news.
    fn begin(&mut self, id: &str, effects: &mut Vec<Effect>) {
        if self.is_known_to_a_copy(id, effects) {
            return;
        }
        let Some(entry) = self.announcements.get(id).map(Announcement::entry) else { return };
        self.trace_from(None, &entry, effects);
        let Some(one) = self.announcements.get(id) else { return };
        effects.push(Effect::Record(Record::NoticeSeen { signal: one.signal.clone(), first_seen: one.first_seen }));
        effects.push(Effect::Publish(notes::announce(one)));
        // Its budgets are asked about while there is time to act on the answer.
        self.preflight = None;
    }

    /// The interruption that `entry` belongs to: the one that there is, or the one that was written down, or a new one.
    fn trace_from(&mut self, written: Option<Trace>, entry: &Entry, effects: &mut Vec<Effect>) {
        if self.trace.is_none() {
            let trace = self.named(written, self.boot_id.as_deref(), entry);
            effects.push(Effect::Record(Record::Interruption(trace.clone())));
            self.trace = Some(trace);
        }
    }

    fn named(&self, written: Option<Trace>, boot_id: Option<&str>, entry: &Entry) -> Trace {
        let Entry { kind, id, first_seen, .. } = entry;
        let new = || Trace::new(&self.config.node_name, boot_id, *kind, id, *first_seen);
        written.filter(Trace::is_valid).unwrap_or_else(new)
    }

    /// Another copy of the agent on this node was first, has counted it and tells of it. Its names are ours.
    fn is_known_to_a_copy(&mut self, id: &str, effects: &mut Vec<Effect>) -> bool {
        let record = self.node.as_ref().and_then(|node| self.fencing.foreign_record(node));
        let Some(state) = record.filter(|state| state.boot_id == self.boot_id) else { return false };
        let Some(entry) = state.announcements.iter().find(|entry| entry.id == id) else { return false };
        self.announcements.adopt(entry);
        self.episode = self.episode.take().or(state.episode);
        self.trace_from(state.trace, entry, effects);
        let adopted = self.announcements.get(id).map(resumed);
        effects.extend(adopted);
        true
    }

    fn moved(&mut self, id: &str, effects: &mut Vec<Effect>) {
        let Some(one) = self.announcements.get(id) else { return };
        let Some(deadline) = one.signal.deadline else { return };
        effects.push(Effect::Record(Record::Rescheduled { kind: one.signal.kind, id: id.to_owned(), deadline }));
        let NodeEvent { key, reason, note, warning } = notes::announce(one);
        let key = format!("{key}/{}", deadline.wall);
        effects.push(Effect::Publish(NodeEvent { key, reason, note: format!("rescheduled: {note}"), warning }));
    }

    fn over(&mut self, signal: Signal, because: &'static str, last: &str, effects: &mut Vec<Effect>) {
        effects.push(Effect::Record(Record::Over { kind: signal.kind, id: signal.id, because }));
        self.epilogue = Some(last.to_owned());
    }

    fn node_seen(&mut self, node: NodeView, now: Now, effects: &mut Vec<Effect>) {
        let first = self.node.is_none();
        if self.config.boot_id.is_none() {
            self.boot_id.clone_from(&node.boot_id);
        }
        if first {
            self.resume(&node, now, effects);
        }
        self.fencing.seen(&node);
        self.node = Some(node);
        for (observation, read_at) in self.early.take() {
            self.heard(observation, read_at, now, effects);
        }
    }

    /// The first look at the own Node: an annotation there means that an agent before this one was at work.
    fn resume(&mut self, node: &NodeView, now: Now, effects: &mut Vec<Effect>) {
        let Some(text) = fence::state_text(node) else { return };
        let state = match State::parse(text) {
            Ok(state) => state,
            Err(error) => {
                effects.push(Effect::Record(Record::StateUnreadable { reason: error.to_string() }));
                return;
            }
        };
        // Another boot: what was announced then has happened, unless the platform goes on to announce it.
        let same_boot = state.boot_id.is_none() || self.boot_id.is_none() || state.boot_id == self.boot_id;
        self.fencing.resume(&state, node, same_boot);
        let first = state.announcements.first().map(|entry| notes::key(entry.kind, &entry.id, entry.first_seen));
        self.epilogue = state.episode.as_ref().map(|episode| episode.key.clone()).or(first);
        if !same_boot {
            self.survived(state, effects);
            return;
        }
        if let Some(first) = state.announcements.first() {
            self.trace_from(state.trace, first, effects);
        }
        self.episode = state.episode.or(self.episode.take());
        for one in self.announcements.resume(state.announcements, now, &self.config) {
            effects.push(resumed(&one));
            if one.retold {
                effects.push(Effect::Publish(notes::announce(&one)));
            }
            self.platform_awaited = Some(now.instant + PLATFORM_PATIENCE);
        }
    }

    /// What was announced before this boot has happened. Only the way back is left to tell, under the same name.
    fn survived(&self, state: State, effects: &mut Vec<Effect>) {
        let Some(first) = state.announcements.first() else { return };
        let trace = self.named(state.trace, state.boot_id.as_deref(), first);
        effects.push(Effect::Record(Record::Interruption(trace)));
        effects.push(Effect::Record(Record::Survived { announcements: state.announcements }));
    }

    fn relisted(&mut self, pods: Vec<PodView>, now: Now, effects: &mut Vec<Effect>) {
        if let Some(drain) = &mut self.drain {
            effects.extend(drain.relisted(&pods, now));
        }
        self.pods = Some(pods.into_iter().map(|pod| (pod.id.clone(), pod)).collect());
    }

    fn pod_seen(&mut self, pod: PodView, now: Now) {
        if let Some(drain) = &mut self.drain {
            drain.pod_seen(pod.clone(), now);
        }
        if let Some(pods) = &mut self.pods {
            pods.insert(pod.id.clone(), pod);
        }
    }

    fn pod_gone(&mut self, id: &PodRef, now: Now, effects: &mut Vec<Effect>) {
        if let Some(pods) = &mut self.pods {
            pods.remove(id);
        }
        self.preflight.iter_mut().for_each(|preflight| preflight.gone(id));
        effects.extend(self.drain.as_mut().and_then(|drain| drain.pod_gone(id, now)));
    }

    /// Everything that has become due, whatever the input was.
    fn advance(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for (observation, read_at) in self.early.overdue(now.instant) {
            self.heard(observation, read_at, now, effects);
        }
        self.platform_awaited.take_if(|until| now.instant >= *until);
        let last = self.base_key(now.instant);
        for signal in self.announcements.expire(now.instant) {
            self.over(signal, "it expired without an interruption", &last, effects);
        }
        let draining = self.announcements.is_draining(&self.config, now.instant);
        if !draining {
            self.call_off(now, effects);
        }
        self.advance_marks(now, effects);
        if draining && !self.postpones(now, effects) {
            self.drain_by(self.announcements.drain_deadline(&self.config, now.instant), now, effects);
        }
        self.advance_drain(now, effects);
        self.advance_preflight(now, effects);
    }

    fn advance_marks(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.announcements.is_empty() || !self.fencing.goal().is_nothing() {
            let was_hard = self.fencing.goal().is_hard();
            let mut goal = marks::goal(&self.announcements, &self.config, now.instant);
            if goal.is_nothing() {
                self.episode = None;
            } else if goal.is_hard() && self.episode.is_none() {
                self.episode = Some(Episode { key: self.base_key(now.instant), turns: 0 });
            } else if was_hard && !goal.is_hard() {
                self.episode.iter_mut().for_each(|episode| episode.turns += 1);
            }
            goal.episode.clone_from(&self.episode);
            goal.trace.clone_from(&self.trace);
            if goal.is_hard() && !was_hard {
                let leading = self.announcements.leading(&self.config, now.instant);
                self.fence_untold = leading.map(|one| one.answered_since(&self.config, now.instant));
            }
            self.fencing.aim(goal, self.boot_id.as_ref());
        }
        if self.announcements.is_empty() {
            self.trace = None;
        }
        self.announce_wait(effects);
        if !self.may_mark() {
            return;
        }
        if let Some(patch) = self.node.as_ref().and_then(|node| self.fencing.next_patch(node, now.instant)) {
            // Ahead of everything that was decided in the same step.
            effects.insert(0, patch);
        }
        self.announce_marks(now, effects);
    }

    /// Nothing is taken away before every source was heard: after a restart or a reboot silence is no all-clear. Nor while
    /// another actor takes the node away, who may still give it up.
    fn may_mark(&self) -> bool {
        !self.announcements.is_empty() || (self.unheard.is_empty() && !self.is_taken_over())
    }

    fn is_taken_over(&self) -> bool {
        self.node.as_ref().is_some_and(fence::taken_over)
    }

    /// Told once: whoever finds our marks on a node of which nothing is wrong wants to know why.
    fn announce_wait(&mut self, effects: &mut Vec<Effect>) {
        let waits = self.epilogue.is_some() && self.announcements.is_empty() && self.is_taken_over();
        if waits && !self.wait_told {
            let reason = "another actor is taking the node away; the marks stay until it gives up".to_owned();
            effects.push(Effect::Record(Record::RestoreFailed { reason }));
        }
        self.wait_told = waits;
    }

    fn node_patched(&mut self, answer: PatchAnswer, now: Now, effects: &mut Vec<Effect>) {
        let (node, report) = self.fencing.answered(answer, now.instant);
        effects.extend(report.map(Effect::Record));
        self.node = node.or(self.node.take());
    }

    fn announce_marks(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.fencing.is_done() {
            return;
        }
        if self.fencing.goal().is_nothing() {
            self.announce_restored(effects);
        } else if let Some(since) = self.fence_untold.take_if(|_| self.fencing.goal().is_hard()) {
            self.announce_fence(since, now, effects);
        }
    }

    fn announce_fence(&self, since: Instant, now: Now, effects: &mut Vec<Effect>) {
        let refused = self.fencing.refused();
        if !self.fencing.is_set() {
            if !refused.is_empty() {
                let reason = format!("the API server refuses every mark: {}", refused.join(", "));
                effects.push(Effect::Record(Record::FenceFailed { reason }));
            }
            return;
        }
        let retold = self.announcements.iter().any(|one| one.retold);
        if !self.fencing.was_sent() && !retold {
            return;
        }
        let (note, warning) = (notes::fenced(&refused), !refused.is_empty());
        effects.push(Effect::Publish(self.event(now.instant, "Fenced", note, warning)));
        if self.fencing.was_sent() {
            effects.push(Effect::Record(Record::Fenced { after: now.instant - since, refused }));
        }
    }

    fn announce_restored(&mut self, effects: &mut Vec<Effect>) {
        self.fence_untold = None;
        let Some(last) = self.epilogue.take().filter(|_| self.fencing.was_sent()) else { return };
        let (key, note) = (format!("{last}/Restored"), notes::RESTORED.to_owned());
        effects.push(Effect::Publish(NodeEvent { key, reason: "Restored", note, warning: false }));
        effects.push(Effect::Record(Record::Restored));
    }

    fn advance_drain(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if let Some(drain) = &mut self.drain {
            effects.extend(drain.step(now));
        }
        self.announce_end(effects);
        if self.announcements.is_empty() && self.drain.as_ref().is_some_and(|drain| drain.finish().is_some()) {
            self.drain = None;
        }
    }

    /// Whether the drain has to wait: one that nobody needs by a certain time, while a subnet of the node has no addresses
    /// for the nodes that would have to take its pods. One that has begun goes on.
    fn postpones(&mut self, now: Now, effects: &mut Vec<Effect>) -> bool {
        self.refused.take_if(|refused| now.instant >= refused.until);
        let begun = self.drain.as_ref().is_some_and(|drain| !drain.is_cancelled());
        let can_wait = !begun && self.announcements.drain_can_wait(&self.config, now.instant);
        let Some(refused) = self.refused.clone().filter(|_| can_wait) else { return false };
        if self.postponed.is_none() {
            self.postponed = Some(now.instant);
            let note = notes::postponed(&refused.subnets);
            effects.push(Effect::Publish(self.event(now.instant, "PodIPsLow", note, true)));
            effects.push(Effect::Record(Record::DrainPostponed { subnets: refused.subnets }));
        }
        true
    }

    fn drain_by(&mut self, deadline: Option<Deadline>, now: Now, effects: &mut Vec<Effect>) {
        if let Some(drain) = self.drain.as_mut().filter(|drain| !drain.is_cancelled()) {
            if deadline != self.drain_deadline {
                self.drain_deadline = deadline;
                drain.set_deadline(deadline, now);
            }
            return;
        }
        let (None, Some(pods)) = (self.platform_awaited, &self.pods) else { return };
        let since = self.announcements.leading(&self.config, now.instant);
        let since = since.map_or(now.instant, |one| one.answered_since(&self.config, now.instant));
        let drain = Drain::new(Policy::from(&*self.config), deadline, pods.values().cloned(), now);
        let drain = drain.load_balancers_told(since);
        let (to_go, skipped) = drain.counts();
        (self.drain, self.drain_deadline) = (Some(drain), deadline);
        self.drain_key = self.base_key(now.instant);
        self.ends_told.clear();
        effects.push(Effect::Record(Record::DrainStarted { pods: to_go, skipped }));
        let waited = self.postponed.take().map(|since| now.instant - since);
        let note = notes::drain_started(to_go, skipped, waited);
        effects.push(Effect::Publish(self.event(now.instant, "DrainStarted", note, false)));
    }

    /// The pods may stay. Those that were told to stop go on to do so.
    fn call_off(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let running = |drain: &&mut Drain| drain.finish().is_none() && !drain.is_cancelled();
        self.postponed = None;
        if let Some(drain) = self.drain.as_mut().filter(running) {
            drain.cancel(now);
            self.episode.iter_mut().for_each(|episode| episode.turns += 1);
        }
        let hibernates = |one: &Announcement| {
            one.signal.action == Action::Hibernate && one.response(&self.config, now.instant) >= Response::Drain
        };
        if self.drain.is_none() && self.ends_told.is_empty() && self.announcements.iter().any(hibernates) {
            self.ends_told.push("NotDrained");
            effects.push(Effect::Record(Record::NotDrained { reason: "a hibernation begins with its notice" }));
        }
    }

    fn announce_end(&mut self, effects: &mut Vec<Effect>) {
        let Some(drain) = &self.drain else { return };
        let Some(finish) = drain.finish() else { return };
        let outcomes @ [.., unfinished, _] = drain.outcomes();
        let reason = if unfinished == 0 { "DrainFinished" } else { "DrainIncomplete" };
        if self.ends_told.contains(&reason) {
            return;
        }
        let note = notes::drained(outcomes, finish.slack_seconds, drain.is_cancelled());
        self.ends_told.push(reason);
        let key = format!("{}/{reason}", self.drain_key);
        effects.push(Effect::Publish(NodeEvent { key, reason, note, warning: unfinished > 0 }));
    }

    /// Asks about the budgets while something is coming that does not clear the node yet.
    fn advance_preflight(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let draining = self.drain.is_some() || self.announcements.is_draining(&self.config, now.instant);
        let ever_drains = Kind::ALL.iter().any(|kind| self.config.response(*kind) >= Response::Drain);
        if self.announcements.is_empty() || draining || !ever_drains || self.config.dry_run {
            self.preflight = None;
            return;
        }
        let Some(pods) = &self.pods else { return };
        let preflight = self.preflight.get_or_insert_with(|| Preflight::new(pods.values()));
        effects.extend(preflight.step());
    }

    /// Pods come and go in bursts; the forecast follows them at its own pace.
    fn forecast(&mut self, now: Now) {
        let Some(pods) = &self.pods else { return };
        if self.forecast_due.take_if(|due| now.instant >= *due).is_none() {
            return;
        }
        let nobody = BTreeMap::new();
        let blocked = self.preflight.as_ref().map_or(&nobody, Preflight::blocked);
        let policy = Policy::from(&*self.config);
        self.forecast = Some(Arc::new(Forecast::of(pods.values(), &policy, forecast::NOTICE, now, blocked)));
    }

    fn event(&self, now: Instant, reason: &'static str, note: String, warning: bool) -> NodeEvent {
        let key = format!("{}/{reason}", self.base_key(now));
        NodeEvent { key, reason, note, warning }
    }

    /// What is done to the node has one Event per reason: its key is the same in every agent that ever sees the
    /// announcement that it is done for.
    fn base_key(&self, now: Instant) -> String {
        if let Some(episode) = &self.episode {
            let again = if episode.turns == 0 { String::new() } else { format!("/{}", episode.turns) };
            return format!("{}{again}", episode.key);
        }
        let hard = |one: &&Announcement| one.response(&self.config, now) >= Response::Cordon;
        let first = self.announcements.iter().find(hard).or_else(|| self.announcements.iter().next());
        first.map(|one| notes::key(one.signal.kind, &one.signal.id, one.first_seen)).unwrap_or_default()
    }

    /// Nothing that stops a pod waits behind a message about it; and until the own Node was read its Events have neither a
    /// place nor their right key.
    fn hold_back_events(&mut self, effects: &mut Vec<Effect>) {
        for effect in std::mem::take(effects) {
            match effect {
                Effect::Publish(event) => self.unpublished.push(event),
                other => effects.push(other),
            }
        }
        if self.node.is_some() {
            let boot_id = self.boot_id.clone().unwrap_or_default();
            let named = |event: NodeEvent| NodeEvent { key: format!("{boot_id}/{}", event.key), ..event };
            effects.extend(std::mem::take(&mut self.unpublished).into_iter().map(named).map(Effect::Publish));
        }
    }
}

fn resumed(one: &Announcement) -> Effect {
    Effect::Record(Record::Resumed { signal: one.signal.clone(), first_seen: one.first_seen })
}
