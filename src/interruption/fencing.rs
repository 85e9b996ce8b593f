//! How far the node is from what it should carry: one patch for everything, tried until it holds, and part by part once
//! something was refused. The same for the way there and for the way back.
//!
//! Nothing waits for it. A part that the API server refuses is left out and reported; the others are set all the same. A
//! mark that somebody takes away while it stands is theirs to take: it is not set again before something new is coming.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::fence::{self, Goal, Part};
use super::ledger::Ledger;
use super::record::Record;
use super::state::{Marks, State};
use super::{Effect, PatchAnswer};
use crate::config::Response;
use crate::k8s::node::NodeView;

/// Pauses between attempts: short, since every second leaves the node open to new pods.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Guards that moved are rebuilt at once; a node that is rewritten this often in a row gets a pause.
const QUICK_RETRIES: u32 = 5;
/// One PATCH. A healthy API server needs milliseconds; after a failure it gets twice as long, because a slow one must not
/// be cut off every time just before it answers.
const TIMEOUT: Duration = Duration::from_secs(4);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(16);
/// Nothing hurries on the way back: a policy that forbids it may be changed some day.
const RESTORE_PAUSE: Duration = Duration::from_mins(1);

/// A patch under way.
#[derive(Debug)]
struct InFlight {
    parts: Vec<Part>,
    /// The Node that it was made for.
    before: NodeView,
    /// What is ours if it is applied.
    ours: Marks,
    /// The annotation that it writes.
    text: Option<String>,
}

/// What an agent before this one had done.
#[derive(Debug)]
struct Reached {
    response: Response,
    ids: Vec<String>,
    /// Of that, the parts that somebody took away since.
    lost: Vec<Part>,
}

/// The marks on their way.
#[derive(Debug)]
pub struct Fencing {
    goal: Goal,
    boot_id: Option<String>,
    ledger: Ledger,
    in_flight: Option<InFlight>,
    /// After a refusal the parts go one by one, so that only what is refused is left out.
    one_by_one: bool,
    /// Of the parts that go one by one the annotation was accepted, so what is refused is the mark beside it.
    recorded: bool,
    refused: Vec<Part>,
    /// Parts that somebody took away while they stood.
    yielded: Vec<Part>,
    /// What an agent before this one had reached for which announcements.
    reached: Option<Reached>,
    failures: u32,
    quick_retries: u32,
    retry_at: Option<Instant>,
    last_failure: Option<String>,
    sent: bool,
    /// The fence stood already when this goal came.
    stands: bool,
    done: bool,
}

impl Default for Fencing {
    fn default() -> Self {
        Self {
            goal: Goal::nothing(),
            boot_id: None,
            ledger: Ledger::default(),
            in_flight: None,
            one_by_one: false,
            recorded: false,
            refused: Vec::new(),
            yielded: Vec::new(),
            reached: None,
            failures: 0,
            quick_retries: 0,
            retry_at: None,
            last_failure: None,
            sent: false,
            stands: false,
            done: true,
        }
    }
}

impl Fencing {
    /// Sets the goal; nothing happens if it is the one that there is.
    pub fn aim(&mut self, mut goal: Goal, boot_id: Option<&String>) {
        if self.goal == goal || (self.goal.is_nothing() && goal.is_nothing()) {
            return;
        }
        if goal.is_nothing() {
            // What is left to take away goes by the name under which it was set.
            goal.episode = self.goal.episode.take();
            goal.trace = self.goal.trace.take();
        }
        let stands = self.is_set() && goal.is_hard();
        let ids = || goal.announcements.iter().map(|entry| &entry.id);
        let reached = self.reached.take();
        let reached = reached.filter(|reached| reached.response == goal.response && reached.ids.iter().eq(ids()));
        *self = Self {
            goal,
            boot_id: boot_id.cloned(),
            ledger: std::mem::take(&mut self.ledger),
            in_flight: self.in_flight.take(),
            stands,
            // The annotation must not go on claiming what was taken away while no agent looked.
            done: reached.as_ref().is_some_and(|reached| reached.lost.is_empty()),
            yielded: reached.map(|reached| reached.lost).unwrap_or_default(),
            ..Self::default()
        };
    }

    /// Takes over what an agent before this one had recorded on `node`. `same_boot`: it was about this life of the node.
    pub fn resume(&mut self, state: &State, node: &NodeView, same_boot: bool) {
        let lost = self.ledger.take_over(state, node);
        let ids = state.announcements.iter().map(|entry| entry.id.clone()).collect();
        self.goal.episode.clone_from(&state.episode);
        self.goal.trace.clone_from(&state.trace);
        self.boot_id.clone_from(&state.boot_id);
        self.reached = (same_boot && state.complete).then_some(Reached { response: state.response, ids, lost });
        // If nothing is coming there is something to take away.
        self.done = false;
    }

    /// Every part is as it should be, or was refused.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The scheduler keeps off, as opposed to a response that asks for no fence and to one that was refused. A fence that
    /// stands goes on to do so while its words change.
    pub fn is_set(&self) -> bool {
        let holds = |part: &Part| !self.refused.contains(part);
        let set = self.done && [Part::Taints, Part::Unschedulable].iter().any(holds);
        self.goal.is_hard() && (set || self.stands)
    }

    /// A patch was sent for this goal; marks that were found in place have been reported before.
    pub fn was_sent(&self) -> bool {
        self.sent
    }

    /// The goal.
    pub fn goal(&self) -> &Goal {
        &self.goal
    }

    /// The parts that the API server refused.
    pub fn refused(&self) -> Vec<&'static str> {
        self.refused.iter().map(|part| part.as_str()).collect()
    }

    /// When to try again, if nothing else happens.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.in_flight.is_none())
    }

    /// What another copy of the agent has written on `node` and this one does not know of yet.
    pub fn foreign_record(&self, node: &NodeView) -> Option<State> {
        self.ledger.foreign_record(node)
    }

    /// Takes a look at the Node as the watch shows it.
    pub fn seen(&mut self, node: &NodeView) {
        let lost = self.ledger.seen(node);
        if lost.is_empty() || !self.done {
            return;
        }
        self.ledger.give_up(&lost);
        self.yielded.extend(lost.parts());
        // The annotation must not go on claiming them.
        self.done = self.goal.is_nothing();
    }

    /// The next patch, if one is due. `node` is the Node as it is known now.
    pub fn next_patch(&mut self, node: &NodeView, now: Instant) -> Option<Effect> {
        if self.done
            && self.goal.is_nothing()
            && let Some(state) = fence::state_text(node).and_then(|text| State::parse(text).ok())
        {
            self.ledger.relearn(&state, node);
            self.done = false;
        }
        if self.done || self.in_flight.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.retry_at = None;
        self.ledger.learn(node);
        let patch = if self.one_by_one { self.next_part(node) } else { self.whole(node) };
        let Some((parts, ops, ours, text)) = patch else {
            self.finish(node, now);
            return None;
        };
        self.sent = true;
        self.in_flight = Some(InFlight { parts, before: node.clone(), ours, text });
        let timeout = (TIMEOUT * 2_u32.pow(self.failures.min(8))).min(LONGEST_TIMEOUT);
        Some(Effect::PatchNode { ops: ops.into(), timeout })
    }

    /// Parts that are not to be touched.
    fn is_out(&self, part: Part) -> bool {
        self.refused.contains(&part) || (self.yielded.contains(&part) && !self.goal.is_nothing())
    }

    /// Everything in one patch.
    fn whole(&self, node: &NodeView) -> Option<Patch> {
        let (changes, ours) = self.changes(node);
        let text = fence::state(&self.goal, &ours, self.boot_id.as_ref(), true);
        let mut ops = fence::state_ops(node, text.as_deref());
        let mut parts = if ops.is_empty() { Vec::new() } else { vec![Part::State] };
        for (part, change) in changes {
            parts.push(part);
            ops.extend(change);
        }
        (!ops.is_empty()).then_some((parts, ops, ours, text))
    }

    /// What has to change for each part, and what is ours in the end.
    fn changes(&self, node: &NodeView) -> (Vec<(Part, Vec<Value>)>, Marks) {
        let mut ours = self.ledger.ours_on(node);
        let wanted = Part::MARKS.into_iter().filter(|part| !self.is_out(*part));
        let changes = wanted.map(|part| (part, fence::mark_ops(part, node, &self.goal, &mut ours)));
        (changes.collect::<Vec<_>>().into_iter().filter(|(_, ops)| !ops.is_empty()).collect(), ours)
    }

    /// One part, and in the same patch the record of it, so that whatever happens the annotation tells what is ours. It
    /// goes alone first, to know whether it may be written at all.
    fn next_part(&mut self, node: &NodeView) -> Option<Patch> {
        let (changes, ours) = self.changes(node);
        let Some((part, ops)) = changes.into_iter().next() else {
            if self.goal.is_nothing() && !self.refused.is_empty() {
                // The record stays as long as there is something to remember.
                return None;
            }
            let (ops, text) = self.record(node, &ours, true).filter(|(ops, _)| !ops.is_empty())?;
            return Some((vec![Part::State], ops, ours, text));
        };
        if !self.recorded
            && let Some((ops, text)) = self.record(node, &self.ledger.ours_on(node), false)
        {
            if !ops.is_empty() {
                return Some((vec![Part::State], ops, self.ledger.ours_on(node), text));
            }
            self.recorded = true;
        }
        let mut ours = self.ledger.ours_on(node);
        drop(fence::mark_ops(part, node, &self.goal, &mut ours));
        let (record, text) = self.record(node, &ours, false).unwrap_or_default();
        let parts = if record.is_empty() { vec![part] } else { vec![Part::State, part] };
        Some((parts, [record, ops].concat(), ours, text))
    }

    /// The annotation that tells of `ours`, and the operations that write it; none if it was refused.
    fn record(&self, node: &NodeView, ours: &Marks, complete: bool) -> Option<(Vec<Value>, Option<String>)> {
        let text = fence::state(&self.goal, ours, self.boot_id.as_ref(), complete);
        (!self.is_out(Part::State)).then(|| (fence::state_ops(node, text.as_deref()), text))
    }

    /// Nothing is left to do, for now at least.
    fn finish(&mut self, node: &NodeView, now: Instant) {
        if self.goal.is_nothing() && !self.refused.is_empty() {
            self.refused.clear();
            self.retry_at = Some(now + RESTORE_PAUSE);
            return;
        }
        let (_, ours) = self.changes(node);
        self.ledger.settled(ours, None);
        self.done = true;
    }

    /// Takes the answer to a patch: the Node as it is now, if the answer tells, and what to report.
    pub fn answered(&mut self, answer: PatchAnswer, now: Instant) -> (Option<NodeView>, Option<Record>) {
        let Some(sent) = self.in_flight.take() else { return (None, None) };
        match answer {
            PatchAnswer::Applied(node) => {
                self.recorded |= self.one_by_one && sent.parts.contains(&Part::State);
                self.ledger.settled(sent.ours, sent.text.as_deref());
                (Some(node), None)
            }
            PatchAnswer::DryRun => {
                self.done = true;
                (None, None)
            }
            PatchAnswer::Refused { status, message, fresh: Some(fresh) } => {
                let moved = fence::guards_moved(&sent.before, &fresh);
                let reason = format!("{status} {message}");
                let pause = self.refused_by(&sent.parts, moved);
                // On the way back every refusal is worth a word: the mark stays.
                let told = pause || (self.goal.is_nothing() && !moved && self.one_by_one);
                let record = told.then(|| self.failed(reason, pause, now)).flatten();
                (Some(fresh), record)
            }
            PatchAnswer::Refused { status, message, fresh: None } => {
                (None, self.failed(format!("{status} {message}"), true, now))
            }
            PatchAnswer::Failed(reason) => {
                self.ledger.unanswered(sent.ours, sent.text.as_deref());
                (None, self.failed(reason, true, now))
            }
        }
    }

    /// A refusal: of the guards, if they moved, else of the parts themselves. Whether it calls for a pause.
    fn refused_by(&mut self, parts: &[Part], guards_moved: bool) -> bool {
        if guards_moved {
            self.quick_retries += 1;
            return self.quick_retries > QUICK_RETRIES;
        }
        match parts {
            [part] => self.refused.push(*part),
            [Part::State, part] if self.recorded => self.refused.push(*part),
            // Which part was meant is not said in a form to rely on; ask for each alone.
            _ if !self.one_by_one => self.one_by_one = true,
            _ => return true,
        }
        false
    }

    /// Told once per change of the reason, not once per attempt.
    fn failed(&mut self, reason: String, pause: bool, now: Instant) -> Option<Record> {
        if pause {
            self.failures += 1;
            let pause = PAUSE * 2_u32.saturating_pow(self.failures.min(12) - 1);
            let longest = if self.goal.is_nothing() { RESTORE_PAUSE } else { LONGEST_PAUSE };
            self.retry_at = Some(now + pause.min(longest));
        }
        if self.last_failure.as_ref() == Some(&reason) {
            return None;
        }
        self.last_failure = Some(reason.clone());
        let restoring = self.goal.is_nothing();
        Some(if restoring { Record::RestoreFailed { reason } } else { Record::FenceFailed { reason } })
    }
}

/// The parts that a patch changes, its operations, what is ours once it is applied, and the annotation that it writes.
type Patch = (Vec<Part>, Vec<Value>, Marks, Option<String>);
