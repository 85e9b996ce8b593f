//! Brings the taint of [`super::taint`] to the Node and away from it: one guarded patch at a time.
//!
//! While something is announced the Node belongs to the fence, and nothing here writes to it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::model::Headroom;
use super::node::NodeFacts;
use super::taint::{Change, Judge, KEY, Sight, patch};
use crate::clock::Clock;
use crate::interruption::PatchAnswer;
use crate::interruption::record::Status;
use crate::k8s::api::Api;

/// One patch.
const TIMEOUT: Duration = Duration::from_secs(4);
/// After a refusal or a failure, doubled each time up to the second.
const PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// What it looks at.
pub struct View {
    /// The own Node.
    pub node: watch::Receiver<NodeFacts>,
    /// The headroom.
    pub headroom: watch::Receiver<Option<Arc<Headroom>>>,
    /// What is announced.
    pub status: watch::Receiver<Status>,
}

/// Keeps the taint as it should be, for ever. `api` is `None` for a rehearsal, which says what it would do.
pub async fn keep(api: Option<Api>, clock: Clock, enabled: bool, mut view: View) {
    let mut judge = Judge::default();
    let (mut failures, mut paused_until) = (0_u32, clock.now().instant);
    let mut rehearsed = None;
    loop {
        let change = look(&mut judge, &clock, enabled, &mut view).filter(|_| clock.now().instant >= paused_until);
        if let Some((change, ops)) = change {
            let Some(api) = &api else {
                if rehearsed.replace(change) != Some(change) {
                    tracing::info!(%ops, "dry run: would patch the node's taint of exhausted addresses");
                }
                wait(&mut view, None).await;
                continue;
            };
            let answer = api.patch_node(&ops, TIMEOUT).await;
            let applied = matches!(answer, PatchAnswer::Applied(_));
            report(change, answer, failures);
            failures = if applied { 0 } else { failures.saturating_add(1) };
            // The watch shows the taint a moment later; until then the Node looks as if nothing had been done.
            let pause = if applied { Duration::from_secs(1) } else { PAUSE * 2_u32.pow(failures.min(6) - 1) };
            paused_until = clock.now().instant + pause.min(LONGEST_PAUSE);
        }
        let again = Some(paused_until).filter(|until| *until > clock.now().instant);
        wait(&mut view, again).await;
    }
}

fn look(judge: &mut Judge, clock: &Clock, enabled: bool, view: &mut View) -> Option<(Change, serde_json::Value)> {
    let headroom = view.headroom.borrow_and_update().clone();
    let node = view.node.borrow_and_update().clone();
    let announced = !view.status.borrow_and_update().pending.is_empty();
    let taints = node.taints.as_deref().map(Vec::as_slice);
    let sight = Sight { enabled, headroom: headroom.as_deref(), taints };
    let change = judge.step(clock.now().instant, &sight)?;
    (node.known && !announced).then(|| (change, patch(change, taints)))
}

/// Until something is new, or `again`.
async fn wait(view: &mut View, again: Option<Instant>) {
    let rest = async {
        match again {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    };
    // A sender lives as long as the agent.
    tokio::select! {
        () = rest => {}
        _ = view.headroom.changed() => {}
        _ = view.node.changed() => {}
    }
}

fn report(change: Change, answer: PatchAnswer, failures: u32) {
    let set = change == Change::Set;
    match answer {
        PatchAnswer::Applied(_) if set => tracing::warn!(key = KEY, "no address is left for pods: the node is tainted"),
        PatchAnswer::Applied(_) => tracing::info!(key = KEY, "the node's taint of exhausted addresses is gone"),
        PatchAnswer::Refused { status, message, .. } if failures == 0 => {
            tracing::warn!(key = KEY, set, status, reason = message, "the node's taint could not be changed yet");
        }
        PatchAnswer::Failed(reason) if failures == 0 => {
            tracing::warn!(key = KEY, set, reason, "the node's taint could not be changed yet");
        }
        PatchAnswer::Refused { .. } | PatchAnswer::Failed(_) | PatchAnswer::DryRun => {}
    }
}

#[cfg(test)]
mod tests;
