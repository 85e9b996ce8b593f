//! The drain: which pods, in which order, with how much grace, and what became of each. Pure.
//!
//! Unlike `kubectl drain` it has a deadline, and everything follows from that: each pod's grace is right the first time,
//! evictions go out in order of least slack, a budget is honoured until the last instant at which the pod can still stop
//! cleanly, and every pod ends in exactly one [`Outcome`]. Nothing here waits for anything it does not depend on: each
//! step looks at every pod and asks for whatever is due.

pub mod eviction;
pub mod forecast;
pub mod grace;
pub mod outcome;
mod plan;
pub mod pod;
mod pods;
#[cfg(test)]
mod tests;
mod tracked;
pub mod wish;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::eviction::EvictionAnswer;
use self::outcome::Outcome;
use self::plan::{Opening, Plan, Terms};
use self::pod::{PodRef, PodView};
use self::pods::Pods;
use self::tracked::{Action, Tracked};
use crate::clock::Now;
use crate::config::{Config, OnBlockedEviction, PriorityShare};
use crate::interruption::record::{PodStatus, Record};
use crate::interruption::{Effect, Stop};
use crate::signal::Deadline;

/// Pods that were bound just before the fence show up shortly after it; a node counts as drained only when it stayed
/// empty for this long.
const SETTLE: Duration = Duration::from_secs(2);

/// A notice first seen past its time leaves an unknown rest. Pods are told at once and may use this much.
const OVERDUE_WINDOW: Duration = Duration::from_secs(30);

/// What a drain takes from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What to do when an eviction is refused past the pod's latest start.
    pub on_blocked: OnBlockedEviction,
    /// How long processes run on after the deadline.
    pub shutdown_tail: Duration,
    /// Kept free before the deadline for latencies.
    pub safety_margin: Duration,
    /// How long evictions wait, out of a pod's slack, for load balancers to let go of the node.
    pub load_balancer_wait: Duration,
    /// Order and shares of the time by pod priority, ascending; empty for the built-in order.
    pub shares: Vec<PriorityShare>,
}

impl From<&Config> for Policy {
    fn from(config: &Config) -> Self {
        Self {
            on_blocked: config.on_blocked_eviction,
            shutdown_tail: config.shutdown_tail,
            safety_margin: config.safety_margin,
            load_balancer_wait: config.load_balancer_wait,
            shares: config.shutdown_by_priority.clone(),
        }
    }
}

/// The end of a drain.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    /// From the first eviction to the last pod's end, or to the deadline.
    pub took: Duration,
    /// Seconds from the last pod's end to the end of the deadline's shutdown tail; none without a deadline.
    pub slack_seconds: Option<f64>,
}

/// One drain of one node.
#[derive(Debug)]
pub struct Drain {
    plan: Plan,
    started: Instant,
    pods: Pods,
    last_end: Instant,
    /// The deadline has passed; nothing is asked for any more.
    expired: bool,
    /// What was coming is over; nobody new is asked to stop.
    cancelled: bool,
    finished: bool,
}

impl Drain {
    /// Begins a drain of the pods that are there now.
    pub fn new(policy: Policy, deadline: Option<Deadline>, pods: impl IntoIterator<Item = PodView>, now: Now) -> Self {
        let pods = pods.into_iter().map(|pod| Tracked::new(pod, now)).collect();
        let mut drain = Self {
            plan: Plan::new(policy, now.instant),
            started: now.instant,
            pods,
            last_end: now.instant,
            expired: false,
            cancelled: false,
            finished: false,
        };
        drain.set_deadline(deadline, now);
        drain
    }

    /// Load balancers were told before this drain began: an agent that takes up an interruption does not wait again.
    #[must_use]
    pub fn load_balancers_told(mut self, at: Instant) -> Self {
        self.plan.load_balancers_told(at);
        self
    }

    /// Takes a deadline, or an earlier one; a later one is no news, for what was announced first still comes. The same time
    /// is taken over too, since it may be known more exactly now. One that turns out to have passed already leaves the
    /// overdue window; that its time has come is no news.
    pub fn set_deadline(&mut self, deadline: Option<Deadline>, now: Now) {
        let Some(mut deadline) = deadline.filter(|_| !self.cancelled) else { return };
        let passed = deadline.instant <= now.instant;
        let taken = match self.plan.deadline {
            None => {
                if passed {
                    deadline.instant = now.instant + OVERDUE_WINDOW;
                }
                true
            }
            Some(known) if known.wall == deadline.wall => !passed,
            Some(known) if passed => {
                deadline.instant = known.instant.min(now.instant + OVERDUE_WINDOW);
                deadline.wall < known.wall
            }
            Some(known) => deadline.instant < known.instant,
        };
        if taken {
            let left = self.pods.values().filter(|pod| pod.is_left()).map(|pod| &pod.view);
            self.plan.set_deadline(deadline, left, now.instant);
        }
    }

    /// What was coming is over. Nobody new is asked to stop: pods that were not told yet end as skipped with the next step,
    /// a call that is under way is waited for. Pods that are stopping already cannot be called back; they are followed to
    /// their end, without a deadline and without further calls. Then the drain finishes as usual. There is no way back: a
    /// later announcement needs a drain of its own.
    pub fn cancel(&mut self, now: Now) {
        if self.cancelled {
            return;
        }
        self.cancelled = true;
        if !self.finished {
            self.plan.drop_deadline();
            self.last_end = now.instant;
        }
    }

    /// Whether [`Drain::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// How it ended, once it did. A pod that arrives afterwards is drained too and moves the figures.
    pub fn finish(&self) -> Option<Finish> {
        self.finished.then(|| Finish {
            took: self.last_end.saturating_duration_since(self.started),
            slack_seconds: self.plan.end().map(|end| signed_seconds(end, self.last_end)),
        })
    }

    /// A pod as the watch shows it; late arrivals are drained like the others. On a node that outlives its deadline, or
    /// whose drain was cancelled, there is nothing more to do for a new pod, nor to hold against anybody.
    pub fn pod_seen(&mut self, mut pod: PodView, now: Now) {
        if let Some(tracked) = self.pods.get_mut(&pod.id) {
            tracked.seen(pod, now);
        } else if !self.expired && !self.cancelled {
            // One that a DaemonSet put up again; evicting it each time would only make it come again.
            pod.daemon_set_eviction = false;
            self.pods.insert(Tracked::new(pod, now));
        }
    }

    /// Replaces the whole picture after a re-list: what is not listed is gone.
    pub fn relisted(&mut self, pods: &[PodView], now: Now) -> Vec<Effect> {
        let gone: Vec<Arc<PodRef>> = self
            .pods
            .iter()
            .filter(|(id, tracked)| tracked.outcome.is_none() && !pods.iter().any(|pod| pod.id == ***id))
            .map(|(id, _)| id.clone())
            .collect();
        for pod in pods {
            self.pod_seen(pod.clone(), now);
        }
        gone.iter().filter_map(|id| self.pod_gone(id, now)).collect()
    }

    /// A pod object is gone.
    pub fn pod_gone(&mut self, id: &PodRef, now: Now) -> Option<Effect> {
        let tracked = self.pods.get_mut(id).filter(|tracked| tracked.outcome.is_none())?;
        let outcome = tracked.outcome_when_gone();
        self.last_end = now.instant;
        Some(end(tracked, outcome))
    }

    /// The answer to an eviction.
    pub fn evicted(&mut self, id: &PodRef, answer: &EvictionAnswer, now: Now) -> Vec<Effect> {
        self.answered(id, answer, now, Tracked::evicted)
    }

    /// The answer to a deletion.
    pub fn deleted(&mut self, id: &PodRef, answer: &EvictionAnswer, now: Now) -> Vec<Effect> {
        self.answered(id, answer, now, Tracked::deleted)
    }

    fn answered(
        &mut self,
        id: &PodRef,
        answer: &EvictionAnswer,
        now: Now,
        take: fn(&mut Tracked, &EvictionAnswer, Instant, Terms),
    ) -> Vec<Effect> {
        let Some(tracked) = self.pods.get_mut(id).filter(|tracked| tracked.outcome.is_none()) else {
            return Vec::new();
        };
        let terms = self.plan.terms(&tracked.view, now.instant);
        let blocked = tracked.refusal.is_some();
        take(tracked, answer, now.instant, terms);
        let mut effects = Vec::new();
        if let Some(message) = tracked.refusal.clone().filter(|_| !blocked) {
            effects.push(Effect::Record(Record::EvictionBlocked { pod: id.clone(), message }));
        }
        if let (EvictionAnswer::Accepted | EvictionAnswer::DryRun, Some(granted)) = (answer, tracked.granted()) {
            effects.push(Effect::Record(Record::StopAccepted {
                pod: id.clone(),
                wanted: tracked.view.grace,
                granted,
                forced: tracked.forced(),
            }));
        }
        // After a dry run nothing will ever be seen: the plan is the result.
        if matches!(answer, EvictionAnswer::Gone | EvictionAnswer::DryRun) {
            effects.extend(self.pod_gone(id, now));
        }
        effects
    }

    /// Everything that is due now, most urgent first.
    pub fn step(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = self.settle_unneeded(now);
        effects.extend(self.give_up(now));
        if self.cancelled {
            effects.extend(self.release());
            effects.extend(self.conclude(now));
            return effects;
        }
        let first = self.first_class();
        let plan = &self.plan;
        let mut asked = Vec::new();
        for tracked in self.pods.values_mut().filter(|pod| pod.outcome.is_none()) {
            let (class, terms, order) = place(plan, &tracked.view, first, now.instant);
            while let Some(action) = tracked.next_action(now.instant, terms, order) {
                let effect = effect(&tracked.view, action, now.instant, terms);
                asked.push(((class, tracked.urgency(terms)), effect));
            }
        }
        // Stable: a pod's mark stays ahead of its deletion.
        asked.sort_by_key(|(urgency, _)| *urgency);
        effects.extend(asked.into_iter().map(|(_, effect)| effect));
        effects.extend(self.conclude(now));
        effects
    }

    /// When to call [`Drain::step`] again if nothing else happens.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        if self.cancelled {
            return None;
        }
        let first = self.first_class();
        let left = self.pods.values().filter(|pod| pod.outcome.is_none());
        let pods = left.filter_map(|pod| {
            let (_, terms, order) = place(&self.plan, &pod.view, first, now);
            pod.wake(now, terms, order)
        });
        let end = self.plan.end().filter(|_| !self.expired);
        let settled = self.settled_at().filter(|_| !self.finished);
        pods.chain(end).chain(settled).filter(|at| *at > now).min()
    }

    /// The class whose turn it is.
    fn first_class(&self) -> Option<usize> {
        let left = self.pods.values().filter(|pod| pod.is_left());
        left.map(|pod| self.plan.class(&pod.view)).min()
    }

    /// Pods that are left alone, and pods that ended by themselves.
    fn settle_unneeded(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        for tracked in self.pods.values_mut().filter(|pod| pod.outcome.is_none()) {
            match tracked.view.skip() {
                // The object may stay behind a finalizer; nothing runs any more.
                Some(pod::Skip::Finished) if tracked.stopping.is_some() || now.instant > self.started => {
                    self.last_end = now.instant;
                    let outcome = tracked.outcome_when_gone();
                    effects.push(end(tracked, outcome));
                }
                Some(_) => effects.push(end(tracked, Outcome::Skipped)),
                None => {}
            }
        }
        effects
    }

    /// At the deadline, whoever is left is unfinished.
    fn give_up(&mut self, now: Now) -> Vec<Effect> {
        self.expired |= self.plan.end().is_some_and(|end| now.instant >= end);
        if !self.expired {
            return Vec::new();
        }
        let left: Vec<_> = self.pods.values_mut().filter(|pod| pod.outcome.is_none()).collect();
        if !left.is_empty() {
            self.last_end = now.instant;
        }
        left.into_iter().map(|tracked| end(tracked, Outcome::Unfinished)).collect()
    }

    /// After the end of what was coming: pods that nobody told to stop stay.
    fn release(&mut self) -> Vec<Effect> {
        let kept = self.pods.values_mut().filter(|pod| pod.outcome.is_none() && pod.untold());
        kept.map(|tracked| end(tracked, Outcome::Skipped)).collect()
    }

    /// When the node will have been empty for long enough.
    fn settled_at(&self) -> Option<Instant> {
        let empty = self.pods.values().all(|pod| pod.outcome.is_some());
        // After a cancellation nobody is waited for.
        let settle = if self.cancelled { Duration::ZERO } else { SETTLE };
        empty.then(|| self.last_end.max(self.started) + settle)
    }

    fn conclude(&mut self, now: Now) -> Option<Effect> {
        let settled = self.settled_at().is_some_and(|at| now.instant >= at);
        if self.finished || !(settled || self.expired) {
            return None;
        }
        self.finished = true;
        let Finish { took, slack_seconds } = self.finish()?;
        Some(Effect::Record(Record::DrainFinished { took, slack_seconds, outcomes: self.outcomes() }))
    }

    /// Number of pods by outcome, in the order of [`Outcome::ALL`].
    pub fn outcomes(&self) -> [u32; 5] {
        let mut counts = [0; Outcome::ALL.len()];
        for ended in self.pods.values().filter_map(|pod| pod.outcome) {
            for (count, outcome) in counts.iter_mut().zip(Outcome::ALL) {
                *count += u32::from(outcome == ended);
            }
        }
        counts
    }

    /// Pods still to go, and pods left alone.
    pub fn counts(&self) -> (usize, usize) {
        let skipped = self.pods.values().filter(|pod| pod.view.skip().is_some()).count();
        (self.pods.len() - skipped, skipped)
    }

    /// The state of every pod, for people.
    pub fn pods(&self) -> Vec<PodStatus> {
        self.pods
            .iter()
            .map(|(id, pod)| PodStatus {
                id: id.clone(),
                phase: pod.phase(),
                outcome: pod.outcome,
                wanted: pod.view.grace,
                granted: pod.granted(),
                blocked: pod.refusal.clone(),
            })
            .collect()
    }
}

/// A pod's class, what holds for it, and how long it waits for the classes before its own.
fn place(plan: &Plan, view: &PodView, first: Option<usize>, now: Instant) -> (usize, Terms, Opening) {
    let (class, terms) = (plan.class(view), plan.terms(view, now));
    let waits = first.is_some_and(|first| first < class);
    let order = if waits { plan.order(view, terms, now) } else { Opening::Open };
    (class, terms, order)
}

fn signed_seconds(end: Instant, at: Instant) -> f64 {
    if end >= at { (end - at).as_secs_f64() } else { -(at - end).as_secs_f64() }
}

fn end(tracked: &mut Tracked, outcome: Outcome) -> Effect {
    tracked.outcome = Some(outcome);
    Effect::Record(Record::PodEnded {
        pod: tracked.view.id.clone(),
        outcome,
        wanted: tracked.view.grace,
        granted: tracked.granted(),
    })
}

fn effect(view: &PodView, action: Action, now: Instant, terms: Terms) -> Effect {
    let stop = |grace_seconds| Stop { pod: view.id.clone(), grace_seconds, timeout: tracked::call_timeout(now, terms) };
    match action {
        Action::Evict(grace) => Effect::Evict(stop(grace)),
        Action::Delete(grace) => Effect::Delete(stop(grace)),
        Action::Mark => Effect::MarkDisruption(view.id.clone()),
    }
}
