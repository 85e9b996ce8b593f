//! How far the fence is: one patch for everything, tried until it holds, and part by part once something was refused.
//!
//! Nothing waits for it. A part that the API server refuses is left out and reported; the others are set all the same.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::fence::{self, Part};
use super::record::Record;
use super::state::State;
use super::{Effect, PatchAnswer};
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

/// The fence on its way.
#[derive(Debug, Default)]
pub struct Fencing {
    /// Every part that the response asks for.
    parts: Vec<Part>,
    /// Parts still to be set.
    wanted: Vec<Part>,
    /// The parts of the patch under way, and the Node it was made for.
    in_flight: Option<(Vec<Part>, NodeView)>,
    /// After a refusal the parts go one by one, so that only what is refused is left out.
    one_by_one: bool,
    refused: Vec<Part>,
    failures: u32,
    quick_retries: u32,
    retry_at: Option<Instant>,
    last_failure: Option<String>,
    sent: bool,
    done: bool,
}

impl Fencing {
    /// A fence of `parts`, none of which has been tried.
    pub fn new(parts: &[Part]) -> Self {
        Self { parts: parts.to_vec(), wanted: parts.to_vec(), ..Self::default() }
    }

    /// Every part is in place or was refused.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The scheduler keeps off, as opposed to a response that asks for no fence and to one that was refused.
    pub fn is_set(&self) -> bool {
        let holds = |part: &Part| matches!(part, Part::Taint | Part::Unschedulable) && !self.refused.contains(part);
        self.done && self.parts.iter().any(holds)
    }

    /// A patch was sent since the agent started; a fence that was found in place has been reported before.
    pub fn was_sent(&self) -> bool {
        self.sent
    }

    /// The parts that the API server refused.
    pub fn refused(&self) -> Vec<&'static str> {
        self.refused.iter().map(|part| part.as_str()).collect()
    }

    /// When to try again, if nothing else happens.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.in_flight.is_none())
    }

    /// The next patch, if one is due. `node` is the Node as it is known now, `state` the annotation to write.
    pub fn next_patch(&mut self, node: &NodeView, taint: &Value, state: &State, now: Instant) -> Option<Effect> {
        if self.in_flight.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.retry_at = None;
        while !self.wanted.is_empty() {
            let at_once = if self.one_by_one { 1 } else { self.wanted.len() };
            let parts: Vec<Part> = self.wanted.iter().copied().take(at_once).collect();
            let ops = fence::patch(node, &parts, taint, state);
            if !ops.is_empty() {
                self.sent = true;
                self.in_flight = Some((parts, node.clone()));
                let timeout = (TIMEOUT * 2_u32.pow(self.failures.min(8))).min(LONGEST_TIMEOUT);
                return Some(Effect::PatchNode { ops: ops.into(), timeout });
            }
            self.wanted.retain(|part| !parts.contains(part));
        }
        self.done = true;
        None
    }

    /// Takes the answer to a patch: the Node as it is now, if the answer tells, and what to report.
    pub fn answered(&mut self, answer: PatchAnswer, now: Instant) -> (Option<NodeView>, Option<Record>) {
        let Some((parts, before)) = self.in_flight.take() else { return (None, None) };
        let told = match answer {
            PatchAnswer::Applied(node) => {
                self.wanted.retain(|part| !parts.contains(part));
                (Some(node), None)
            }
            PatchAnswer::DryRun => {
                self.wanted.clear();
                (None, None)
            }
            PatchAnswer::Refused { status, message, fresh: Some(fresh) } => {
                let failure = self.refused_by(&parts, fence::guards_moved(&before, &fresh));
                (Some(fresh), failure.then(|| self.failed(format!("{status} {message}"), now)).flatten())
            }
            PatchAnswer::Refused { status, message, fresh: None } => {
                (None, self.failed(format!("{status} {message}"), now))
            }
            PatchAnswer::Failed(reason) => (None, self.failed(reason, now)),
        };
        self.done = self.wanted.is_empty();
        told
    }

    /// A refusal: of the guards, if they moved, else of the parts themselves. Whether it calls for a pause.
    fn refused_by(&mut self, parts: &[Part], guards_moved: bool) -> bool {
        if guards_moved {
            self.quick_retries += 1;
            return self.quick_retries > QUICK_RETRIES;
        }
        if let [part] = parts {
            self.wanted.retain(|wanted| wanted != part);
            self.refused.push(*part);
        } else {
            // Which part was meant is not said in a form to rely on; ask for each alone.
            self.one_by_one = true;
        }
        false
    }

    /// Told once per change of the reason, not once per attempt.
    fn failed(&mut self, reason: String, now: Instant) -> Option<Record> {
        self.failures += 1;
        let pause = PAUSE * 2_u32.saturating_pow(self.failures.min(8) - 1);
        self.retry_at = Some(now + pause.min(LONGEST_PAUSE));
        if self.last_failure.as_ref() == Some(&reason) {
            return None;
        }
        self.last_failure = Some(reason.clone());
        Some(Record::FenceFailed { reason })
    }
}
