//! How far the node is from what it should carry: one patch for everything, tried until it holds, and part by part once
//! something was refused. The same for the way there and for the way back.
//!
//! Nothing waits for it. A part that the API server refuses is left out and reported; the others are set all the same. A
//! mark that somebody takes away while it stands is theirs to take: it is not set again before something new is coming.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::fence::{self, Goal, Part};
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

/// The marks on their way.
#[derive(Debug)]
pub struct Fencing {
    goal: Goal,
    boot_id: Option<String>,
    /// What of the node's marks is ours, as far as the API server acknowledged it.
    ours: Marks,
    /// Those of ours that the watch has shown on the node.
    confirmed: Marks,
    /// Annotations that this process knows to have written. Any other one tells of marks that are ours all the same: set
    /// by a patch whose answer was lost, by the agent before this one, by another copy.
    written: Vec<String>,
    /// Marks of a patch without an annotation whose answer never came, and that may have been applied.
    unknown: Option<Marks>,
    in_flight: Option<InFlight>,
    /// After a refusal the parts go one by one, so that only what is refused is left out.
    one_by_one: bool,
    refused: Vec<Part>,
    /// Parts that somebody took away while they stood.
    yielded: Vec<Part>,
    /// Marks of ours that stayed because another actor wants them too.
    left: Vec<&'static str>,
    /// What an agent before this one had reached for which announcements.
    reached: Option<(Response, Vec<String>)>,
    failures: u32,
    quick_retries: u32,
    retry_at: Option<Instant>,
    last_failure: Option<String>,
    sent: bool,
    done: bool,
}

impl Default for Fencing {
    fn default() -> Self {
        Self {
            goal: Goal::nothing(),
            boot_id: None,
            ours: Marks::default(),
            confirmed: Marks::default(),
            written: Vec::new(),
            unknown: None,
            in_flight: None,
            one_by_one: false,
            refused: Vec::new(),
            yielded: Vec::new(),
            left: Vec::new(),
            reached: None,
            failures: 0,
            quick_retries: 0,
            retry_at: None,
            last_failure: None,
            sent: false,
            done: true,
        }
    }
}

impl Fencing {
    /// Sets the goal; nothing happens if it is the one that there is.
    pub fn aim(&mut self, goal: Goal, boot_id: Option<&String>) {
        if self.goal == goal {
            return;
        }
        let ids = || goal.announcements.iter().map(|entry| entry.id.clone()).collect::<Vec<_>>();
        let reached = self.reached.take().is_some_and(|reached| reached == (goal.response, ids()));
        *self = Self {
            goal,
            boot_id: boot_id.cloned(),
            ours: std::mem::take(&mut self.ours),
            confirmed: std::mem::take(&mut self.confirmed),
            written: std::mem::take(&mut self.written),
            unknown: self.unknown.take(),
            in_flight: self.in_flight.take(),
            done: reached,
            ..Self::default()
        };
    }

    /// Takes over what an agent before this one had recorded. `same_boot`: it was about this life of the node.
    pub fn resume(&mut self, state: &State, same_boot: bool) {
        self.ours = std::mem::take(&mut self.ours).with(&state.marks);
        let ids = state.announcements.iter().map(|entry| entry.id.clone()).collect();
        self.reached = Some((state.response, ids)).filter(|_| same_boot && state.complete);
        // If nothing is coming there is something to take away.
        self.done = false;
    }

    /// Every part is as it should be, or was refused.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The scheduler keeps off, as opposed to a response that asks for no fence and to one that was refused.
    pub fn is_set(&self) -> bool {
        let holds = |part: &Part| !self.refused.contains(part);
        self.done && self.goal.is_hard() && [Part::Taints, Part::Unschedulable].iter().any(holds)
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

    /// Marks that stayed on the way back, because another actor wants them too.
    pub fn left(&self) -> &[&'static str] {
        &self.left
    }

    /// When to try again, if nothing else happens.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.in_flight.is_none())
    }

    /// Takes a look at the Node as the watch shows it.
    pub fn seen(&mut self, node: &NodeView) {
        let present = fence::present(node, &self.ours);
        let lost = self.confirmed.clone().without(&present);
        self.confirmed = present;
        if lost.is_empty() || !self.done {
            return;
        }
        self.ours = std::mem::take(&mut self.ours).without(&lost);
        let parts = [
            (Part::Unschedulable, lost.unschedulable),
            (Part::Taints, !lost.taints.is_empty()),
            (Part::Labels, !lost.labels.is_empty()),
        ];
        self.yielded.extend(parts.iter().filter(|(_, lost)| *lost).map(|(part, _)| *part));
        // The annotation must not go on claiming them.
        self.done = self.goal.is_nothing();
    }

    /// The next patch, if one is due. `node` is the Node as it is known now.
    pub fn next_patch(&mut self, node: &NodeView, now: Instant) -> Option<Effect> {
        let late = self.goal.is_nothing() && fence::state_text(node).is_some_and(|text| State::parse(text).is_ok());
        if self.done && late {
            // Written by a patch that was given up, or by another agent that has not understood yet.
            self.done = false;
        }
        if self.done || self.in_flight.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.retry_at = None;
        self.learn(node);
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

    /// What the Node tells about what is ours.
    fn learn(&mut self, node: &NodeView) {
        let text = fence::state_text(node);
        if let Some(unknown) = &self.unknown {
            self.ours = std::mem::take(&mut self.ours).with(&fence::present(node, unknown));
        }
        let foreign = text.filter(|text| !self.written.iter().any(|written| written == text));
        if let Some(state) = foreign.and_then(|text| State::parse(text).ok()) {
            self.ours = std::mem::take(&mut self.ours).with(&fence::present(node, &state.marks));
        }
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
        let mut ours = self.ours.clone();
        let wanted = Part::MARKS.into_iter().filter(|part| !self.is_out(*part));
        let changes = wanted.map(|part| (part, fence::mark_ops(part, node, &self.goal, &mut ours)));
        (changes.collect::<Vec<_>>().into_iter().filter(|(_, ops)| !ops.is_empty()).collect(), ours)
    }

    /// One part: the record of what is meant, then each mark, then the record of what is. On the way back the record goes
    /// last.
    fn next_part(&self, node: &NodeView) -> Option<Patch> {
        let (changes, meant) = self.changes(node);
        let record = |ours: &Marks, complete| fence::state(&self.goal, ours, self.boot_id.as_ref(), complete);
        let state = |text: Option<String>, ours: Marks| {
            let ops = fence::state_ops(node, text.as_deref());
            (!ops.is_empty() && !self.is_out(Part::State)).then(|| (vec![Part::State], ops, ours, text))
        };
        let Some((part, ops)) = changes.into_iter().next() else {
            if self.goal.is_nothing() && !self.refused.is_empty() {
                // The record stays as long as there is something to remember.
                return None;
            }
            return state(record(&meant, true), meant);
        };
        if !self.goal.is_nothing()
            && let Some(patch) = state(record(&meant, false), self.ours.clone())
        {
            return Some(patch);
        }
        let mut ours = self.ours.clone();
        drop(fence::mark_ops(part, node, &self.goal, &mut ours));
        Some((vec![part], ops, ours, None))
    }

    /// Nothing is left to do, for now at least.
    fn finish(&mut self, node: &NodeView, now: Instant) {
        if self.goal.is_nothing() && !self.refused.is_empty() {
            self.refused.clear();
            self.retry_at = Some(now + RESTORE_PAUSE);
            return;
        }
        let (_, ours) = self.changes(node);
        self.ours = ours;
        self.done = true;
    }

    /// Takes the answer to a patch: the Node as it is now, if the answer tells, and what to report.
    pub fn answered(&mut self, answer: PatchAnswer, now: Instant) -> (Option<NodeView>, Option<Record>) {
        let Some(sent) = self.in_flight.take() else { return (None, None) };
        match answer {
            PatchAnswer::Applied(node) => {
                self.unknown = None;
                self.written.extend(sent.text.clone());
                self.note_left(&sent, &node);
                self.ours = sent.ours;
                self.confirmed = Marks::default();
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
                let told = pause || (self.goal.is_nothing() && !moved && sent.parts.len() == 1);
                let record = told.then(|| self.failed(reason, pause, now)).flatten();
                (Some(fresh), record)
            }
            PatchAnswer::Refused { status, message, fresh: None } => {
                (None, self.failed(format!("{status} {message}"), true, now))
            }
            PatchAnswer::Failed(reason) => {
                self.unknown = sent.text.is_none().then_some(sent.ours);
                (None, self.failed(reason, true, now))
            }
        }
    }

    /// Marks of ours that an applied restore left where they are.
    fn note_left(&mut self, sent: &InFlight, node: &NodeView) {
        if !self.goal.is_nothing() {
            return;
        }
        let still = fence::present(node, &self.ours.clone().without(&sent.ours));
        let parts = [
            (Part::Unschedulable, still.unschedulable),
            (Part::Taints, !still.taints.is_empty()),
            (Part::Labels, !still.labels.is_empty()),
        ];
        self.left.extend(parts.iter().filter(|(_, still)| *still).map(|(part, _)| part.as_str()));
    }

    /// A refusal: of the guards, if they moved, else of the parts themselves. Whether it calls for a pause.
    fn refused_by(&mut self, parts: &[Part], guards_moved: bool) -> bool {
        if guards_moved {
            self.quick_retries += 1;
            return self.quick_retries > QUICK_RETRIES;
        }
        if let [part] = parts {
            self.refused.push(*part);
        } else {
            // Which part was meant is not said in a form to rely on; ask for each alone.
            self.one_by_one = true;
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
