//! The machine that owns the agent's whole state: `handle(now, input) → effects`, `next_timeout`.
//!
//! It is level-triggered: an observation says what the platform announces now, the node and pod views say how the cluster
//! looks now, and the machine acts on the difference. A repeated observation changes nothing; a restarted agent reaches
//! the same state from the first observation and the node's own annotation.

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fence;
use super::fencing::Fencing;
use super::record::{Pending, Record, Status};
use super::state::{State, VERSION};
use super::{Effect, Input, NodeEvent, PatchAnswer};
use crate::clock::Now;
use crate::config::{Config, Response};
use crate::drain::pod::{PodRef, PodView};
use crate::drain::{Drain, Policy};
use crate::k8s::node::NodeView;
use crate::signal::{Action, Deadline, Kind, Observation, Signal};

/// How long a notice waits for the first view of the own Node, which alone tells whether the notice is news. Past this
/// the node is taken for unmarked, since a late drain is worse than a notice counted twice.
const NODE_PATIENCE: Duration = Duration::from_secs(2);

/// How long a restarted agent waits for the platform before it drains by the annotation's deadline, which it can place by
/// the guest's clock only.
const PLATFORM_PATIENCE: Duration = Duration::from_secs(1);

/// What is coming, and how far the response is.
#[derive(Debug)]
struct Interruption {
    signal: Signal,
    read_at: Instant,
    first_seen: Now,
    boot_id: Option<String>,
    /// Taken up from the annotation while it was still to come. The agent before may have died between the fence and the
    /// Events; a second one of the same key does no harm.
    retold: bool,
}

/// The decision maker of one agent.
#[derive(Debug)]
pub struct Machine {
    config: Arc<Config>,
    node: Option<NodeView>,
    pods: Option<BTreeMap<PodRef, PodView>>,
    /// A notice that was read before the own Node was.
    early: Option<(Signal, Instant)>,
    pending: Option<Interruption>,
    fencing: Fencing,
    drain: Option<Drain>,
    /// A resumed drain begins when the platform was heard, or at this time.
    platform_awaited: Option<Instant>,
    /// Events that wait for the own Node, which their names and their key depend on.
    unpublished: Vec<NodeEvent>,
    /// Reasons of the Events that told the end of the drain; a late pod may add the second.
    ends_told: Vec<&'static str>,
}

impl Machine {
    /// A machine that knows nothing yet.
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            node: None,
            pods: None,
            early: None,
            pending: None,
            fencing: Fencing::default(),
            drain: None,
            platform_awaited: None,
            unpublished: Vec::new(),
            ends_told: Vec::new(),
        }
    }

    /// Takes one input and says what to do about it, most urgent first.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
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
            Input::Probed(..) | Input::Timeout => {}
        }
        self.advance(now, &mut effects);
        self.hold_back_events(&mut effects);
        effects
    }

    /// When to feed [`Input::Timeout`] if nothing else happens.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let early = self.early.as_ref().map(|(_, read_at)| *read_at + NODE_PATIENCE);
        let drain = self.drain.as_ref().and_then(|drain| drain.next_timeout(now));
        [early, self.fencing.retry_at(), self.platform_awaited, drain].into_iter().flatten().min()
    }

    /// A copy of the state for people and gauges.
    pub fn status(&self) -> Status {
        Status {
            pending: self
                .pending
                .iter()
                .map(|pending| Pending {
                    kind: pending.signal.kind,
                    action: pending.signal.action,
                    deadline: pending.signal.deadline,
                    first_seen: pending.first_seen.wall,
                    detail: None,
                    response: self.response(pending.signal.kind),
                })
                .collect(),
            deadline: self.pending.as_ref().and_then(|pending| pending.signal.deadline),
            forecast: None,
            fenced: self.fencing.is_set(),
            node_seen: self.node.is_some(),
            pods: self.drain.as_ref().map(Drain::pods).unwrap_or_default(),
            drained: self.drain.as_ref().is_some_and(|drain| drain.finish().is_some()),
            slack_seconds: self.drain.as_ref().and_then(|drain| drain.finish()?.slack_seconds),
        }
    }

    fn observed(&mut self, observation: Observation, now: Now, effects: &mut Vec<Effect>) {
        self.platform_awaited = None;
        // A spot notice is not withdrawn in normal operation: an empty level after a notice is noise, not an all-clear.
        for signal in observation.signals {
            match &mut self.pending {
                Some(pending) if pending.signal.id == signal.id => {
                    if earlier_or_same(pending.signal.deadline, signal.deadline) {
                        pending.signal.deadline = signal.deadline;
                        if let Some(drain) = &mut self.drain {
                            drain.set_deadline(signal.deadline, now);
                        }
                    }
                }
                // The instance came back from its hibernation, and this is another matter.
                Some(pending) if pending.signal.action == Action::Hibernate && signal.action != Action::Hibernate => {
                    self.ends_told.clear();
                    self.begin(signal, now.instant, now, effects);
                }
                Some(_) => {}
                None if self.node.is_none() => {
                    self.early.get_or_insert((signal, now.instant));
                }
                None => self.begin(signal, now.instant, now, effects),
            }
        }
    }

    /// A notice that is news.
    fn begin(&mut self, signal: Signal, read_at: Instant, now: Now, effects: &mut Vec<Effect>) {
        let response = self.response(signal.kind);
        effects.push(Effect::Record(Record::NoticeSeen {
            kind: signal.kind,
            action: signal.action,
            deadline: signal.deadline,
            detail: signal.detail.clone(),
        }));
        self.fencing = Fencing::new(fence::parts(response));
        let boot_id = self.node.as_ref().and_then(|node| node.boot_id.clone());
        self.pending = Some(Interruption { signal, read_at, first_seen: now, boot_id, retold: false });
    }

    fn response(&self, kind: Kind) -> Response {
        match kind {
            Kind::SpotInterruption => self.config.on_spot_interruption,
            // Not polled yet, so never observed.
            Kind::RebalanceRecommendation | Kind::ScheduledEvent | Kind::AsgTermination => Response::Observe,
        }
    }

    fn node_seen(&mut self, node: NodeView, now: Now, effects: &mut Vec<Effect>) {
        let first = self.node.is_none();
        match &mut self.pending {
            None if first => self.resume(&node, now, effects),
            Some(pending) if first => pending.boot_id.clone_from(&node.boot_id),
            _ => {}
        }
        self.node = Some(node);
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
        if state.boot_id.is_some() && node.boot_id.is_some() && state.boot_id != node.boot_id {
            // The instance that the notice was about has ended; this is a later life of the node.
            return;
        }
        let deadline = state.deadline.map(|wall| Deadline { instant: now.instant_of(wall), wall });
        effects.push(Effect::Record(Record::Resumed { kind: state.kind, deadline }));
        self.fencing = Fencing::new(fence::parts(self.response(state.kind)));
        self.platform_awaited = Some(now.instant + PLATFORM_PATIENCE);
        self.pending = Some(Interruption {
            signal: Signal { deadline, ..Signal::new(state.kind, state.id, state.action) },
            read_at: now.instant,
            first_seen: Now { instant: now.instant, wall: state.first_seen },
            boot_id: state.boot_id,
            retold: deadline.is_none_or(|deadline| deadline.instant > now.instant),
        });
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
        effects.extend(self.drain.as_mut().and_then(|drain| drain.pod_gone(id, now)));
    }

    /// Everything that has become due, whatever the input was.
    fn advance(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.take_up_early(now, effects);
        self.platform_awaited.take_if(|until| now.instant >= *until);
        let Some(pending) = &self.pending else { return };
        let announcement = self.announcement(pending);
        let fresh = effects.iter().any(|effect| match effect {
            Effect::Record(Record::NoticeSeen { .. }) => true,
            Effect::Record(Record::Resumed { .. }) => pending.retold,
            _ => false,
        });
        self.advance_fence(now, effects);
        self.start_drain(now, effects);
        if let Some(drain) = &mut self.drain {
            effects.extend(drain.step(now));
        }
        if fresh {
            effects.push(Effect::Publish(announcement));
        }
        self.announce_end(effects);
        // Nothing that stops a pod waits behind a message about it.
        effects.sort_by_key(|effect| matches!(effect, Effect::Publish(_)));
    }

    fn take_up_early(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due = |read_at: Instant| self.node.is_some() || now.instant >= read_at + NODE_PATIENCE;
        let Some((signal, read_at)) = self.early.take_if(|(_, read_at)| due(*read_at)) else { return };
        match &mut self.pending {
            // The annotation knew of it; what the platform says now is the more exact deadline.
            Some(pending) if pending.signal.id == signal.id => {
                if earlier_or_same(pending.signal.deadline, signal.deadline) {
                    pending.signal.deadline = signal.deadline;
                }
            }
            Some(_) => {}
            None => self.begin(signal, read_at, now, effects),
        }
    }

    fn advance_fence(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let (Some(pending), Some(node)) = (&self.pending, &self.node) else { return };
        if self.fencing.is_done() {
            return;
        }
        let response = self.response(pending.signal.kind);
        let taint = fence::taint(&self.config.marks, pending.signal.kind, response);
        let state = state(pending, node, response, &taint);
        if let Some(patch) = self.fencing.next_patch(node, &taint, &state, now.instant) {
            // Ahead of everything that was decided in the same step.
            effects.insert(0, patch);
        }
        self.announce_fence(now, effects);
    }

    fn node_patched(&mut self, answer: PatchAnswer, now: Now, effects: &mut Vec<Effect>) {
        let (node, report) = self.fencing.answered(answer, now.instant);
        effects.extend(report.map(Effect::Record));
        self.node = node.or(self.node.take());
        self.announce_fence(now, effects);
    }

    fn announce_fence(&self, now: Now, effects: &mut Vec<Effect>) {
        let Some(pending) = self.pending.as_ref().filter(|_| self.fencing.is_done()) else { return };
        let refused = self.fencing.refused();
        if !self.fencing.is_set() {
            if !refused.is_empty() {
                let reason = format!("the API server refuses every mark: {}", refused.join(", "));
                effects.push(Effect::Record(Record::FenceFailed { reason }));
            }
            return;
        }
        if !self.fencing.was_sent() && !pending.retold {
            return;
        }
        let note = if refused.is_empty() {
            "no new pods are scheduled here".to_owned()
        } else {
            format!("the API server refused: {}", refused.join(", "))
        };
        effects.push(Effect::Publish(self.event("Fenced", note, !refused.is_empty())));
        if self.fencing.was_sent() {
            effects.push(Effect::Record(Record::Fenced { after: now.instant - pending.read_at, refused }));
        }
    }

    fn start_drain(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let (Some(pending), Some(pods)) = (&self.pending, &self.pods) else { return };
        let waiting = self.platform_awaited.is_some();
        if self.drain.is_some() || waiting || self.response(pending.signal.kind) < Response::Drain {
            return;
        }
        if pending.signal.action == Action::Hibernate {
            if self.ends_told.is_empty() {
                self.ends_told.push("NotDrained");
                effects.push(Effect::Record(Record::NotDrained { reason: "a hibernation begins with its notice" }));
            }
            return;
        }
        let drain = Drain::new(Policy::from(&*self.config), pending.signal.deadline, pods.values().cloned(), now);
        let (to_go, skipped) = drain.counts();
        effects.push(Effect::Record(Record::DrainStarted { pods: to_go, skipped }));
        let note = format!("{to_go} pods to evict, {skipped} left alone");
        self.drain = Some(drain);
        effects.push(Effect::Publish(self.event("DrainStarted", note, false)));
    }

    fn announce_end(&mut self, effects: &mut Vec<Effect>) {
        let Some(drain) = &self.drain else { return };
        let Some(finish) = drain.finish() else { return };
        let [graceful, shortened, forced, unfinished, skipped] = drain.outcomes();
        let reason = if unfinished == 0 { "DrainFinished" } else { "DrainIncomplete" };
        if self.ends_told.contains(&reason) {
            return;
        }
        let slack =
            finish.slack_seconds.map_or_else(String::new, |slack| format!(", {slack:.1} s before the deadline"));
        let note = format!(
            "{graceful} graceful, {shortened} shortened, {forced} forced, {unfinished} unfinished, {skipped} left \
             alone{slack}"
        );
        self.ends_told.push(reason);
        effects.push(Effect::Publish(self.event(reason, note, unfinished > 0)));
    }

    fn announcement(&self, pending: &Interruption) -> NodeEvent {
        let when = pending.signal.deadline.map_or_else(String::new, |deadline| format!(" at {}", deadline.wall));
        let note = format!("EC2 will {} this instance{when}", pending.signal.action.as_str());
        self.event(pending.signal.kind.event_reason(), note, true)
    }

    fn event(&self, reason: &'static str, note: String, warning: bool) -> NodeEvent {
        NodeEvent { key: self.event_key(reason), reason, note, warning }
    }

    /// One announcement has one Event per reason: its key is the same in every agent that ever sees the announcement.
    fn event_key(&self, reason: &str) -> String {
        let (id, boot) = self
            .pending
            .as_ref()
            .map_or(("", ""), |pending| (pending.signal.id.as_str(), pending.boot_id.as_deref().unwrap_or("")));
        format!("{id}/{boot}/{reason}")
    }

    /// Until the own Node was read its Events have neither a place nor their right key.
    fn hold_back_events(&mut self, effects: &mut Vec<Effect>) {
        if self.node.is_some() {
            let held = std::mem::take(&mut self.unpublished);
            effects.extend(
                held.into_iter().map(|event| Effect::Publish(NodeEvent { key: self.event_key(event.reason), ..event })),
            );
            return;
        }
        for effect in std::mem::take(effects) {
            match effect {
                Effect::Publish(event) => self.unpublished.push(event),
                other => effects.push(other),
            }
        }
    }
}

/// Whether `new` may replace `old`: an earlier time always, the same time because it may be known more exactly now.
fn earlier_or_same(old: Option<Deadline>, new: Option<Deadline>) -> bool {
    match (old, new) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(old), Some(new)) => new.wall <= old.wall,
    }
}

/// The annotation to write. One that an earlier attempt left (its answer was lost) already says what is ours; it is not
/// written again when the deadline moves, since a time that slides would cost a PATCH per poll and a restarted agent asks
/// the platform first. What an annotation of another announcement says to be ours stays ours.
fn state(pending: &Interruption, node: &NodeView, response: Response, taint: &serde_json::Value) -> State {
    let written = fence::state_text(node).and_then(|text| State::parse(text).ok());
    let marks = fence::marks(node, fence::parts(response), taint);
    let marks = match written {
        Some(state) if state.id == pending.signal.id && state.boot_id == pending.boot_id => return state,
        Some(state) => marks.with(state.marks),
        None => marks,
    };
    State {
        version: VERSION,
        kind: pending.signal.kind,
        action: pending.signal.action,
        id: pending.signal.id.clone(),
        deadline: pending.signal.deadline.map(|deadline| deadline.wall),
        first_seen: pending.first_seen.wall,
        boot_id: pending.boot_id.clone(),
        marks,
    }
}
