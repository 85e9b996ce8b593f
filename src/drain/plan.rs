//! By when each pod must have ended, and what it has to wait for.
//!
//! Two budgets: calls have to be made by the deadline, processes may run on into the shutdown tail. And an order: without
//! priority shares, pods that serve others go last. With them, the time that is left is divided as the kubelet would
//! divide its shutdown, and every share has a window of its own.

use std::time::Duration;

use tokio::time::Instant;

use super::Policy;
use super::grace;
use super::pod::PodView;
use crate::config::{OnBlockedEviction, PriorityShare};
use crate::signal::Deadline;

/// Whoever waits for others, or for load balancers, starts this long before the latest start: time for a budget to answer.
pub(super) const HEAD_START: Duration = Duration::from_secs(15);

/// When something may begin; the order is that of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Opening {
    /// At once.
    Open,
    /// Then.
    At(Instant),
    /// Not before something else happens.
    Shut,
}

impl Opening {
    pub(super) fn is_open(self, now: Instant) -> bool {
        match self {
            Self::Open => true,
            Self::At(at) => at <= now,
            Self::Shut => false,
        }
    }
}

/// What a drain as a whole imposes on one pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// When its processes must have ended if it is told now; none without a deadline.
    pub(super) limit: Option<Instant>,
    /// When every process of the node must have ended. A stop that is under way is held to this alone.
    pub(super) end_by: Option<Instant>,
    /// The latest start that still gives the pod its own grace and is no later than any call may be made.
    pub(super) latest: Option<Instant>,
    /// When load balancers have let go of the node, if anybody waits for that.
    pub(super) ready: Option<Instant>,
    /// What to do past the latest start.
    pub(super) on_blocked: OnBlockedEviction,
}

/// The part of the drain that belongs to one share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    opens: Instant,
    ends: Instant,
}

/// The time from `since` to the limit, divided among the shares that have pods.
#[derive(Clone, Debug)]
struct Windows {
    since: Instant,
    occupied: Vec<bool>,
    /// One for each share; none for a share that had no pods.
    spans: Vec<Option<Window>>,
}

impl Windows {
    fn new(shares: &[PriorityShare], occupied: Vec<bool>, since: Instant, limit: Instant) -> Self {
        let taking_part = || shares.iter().zip(&occupied).filter(|(_, occupied)| **occupied);
        let total: u64 = taking_part().map(|(share, _)| u64::from(share.seconds)).sum();
        // Without any seconds nobody is preferred.
        let weight = |share: &PriorityShare| if total > 0 { u64::from(share.seconds) } else { 1 };
        let total: u64 = taking_part().map(|(share, _)| weight(share)).sum();
        let time = limit.saturating_duration_since(since).as_nanos();
        let (mut before, mut opens) = (0, since);
        let spans = shares.iter().zip(&occupied).map(|(share, occupied)| {
            if !*occupied {
                return None;
            }
            before += weight(share);
            let part = time * u128::from(before) / u128::from(total.max(1));
            let ends = since + Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX));
            let window = Window { opens, ends };
            opens = ends;
            Some(window)
        });
        let spans = spans.collect();
        Self { since, occupied, spans }
    }

    /// No window ends later than it did before.
    fn clamp(&mut self, before: &Self) {
        let mut opens = self.since;
        for (window, before) in self.spans.iter_mut().zip(&before.spans) {
            if let Some(window) = window {
                window.ends = before.map_or(window.ends, |before| window.ends.min(before.ends));
                window.opens = opens;
                opens = window.ends;
            }
        }
    }

    /// The window of a share at `now`. A share without pods or without time joins the next one, else the last; pods that
    /// came too late for theirs join the one that is running.
    fn window(&self, share: usize, now: Instant) -> Option<Window> {
        let (before, from) = self.spans.split_at_checked(share).unwrap_or((&self.spans, &[]));
        let wide = from.iter().flatten().find(|window| window.ends > window.opens);
        let own = wide.or_else(|| from.iter().flatten().next()).or_else(|| before.iter().flatten().next_back());
        let running = || self.spans.iter().flatten().find(|window| window.ends > now);
        own.filter(|window| window.ends > now).or_else(running).or(own).copied()
    }
}

/// The plan of a drain.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    policy: Policy,
    pub(super) deadline: Option<Deadline>,
    /// When every process must have ended.
    pub(super) limit: Option<Instant>,
    /// When every call must have been made.
    call_by: Option<Instant>,
    ready: Option<Instant>,
    windows: Option<Windows>,
}

impl Plan {
    pub(super) fn new(policy: Policy, told: Instant) -> Self {
        let mut plan = Self { policy, deadline: None, limit: None, call_by: None, ready: None, windows: None };
        plan.load_balancers_told(told);
        plan
    }

    /// Load balancers were told at this time to let go of the node.
    pub(super) fn load_balancers_told(&mut self, at: Instant) {
        let wait = self.policy.load_balancer_wait;
        self.ready = (!wait.is_zero()).then(|| at + wait);
    }

    /// Takes over a deadline and divides the time left among the pods that are left. The time that was known before may
    /// be known more exactly now; that scales the windows and starts nothing over.
    pub(super) fn set_deadline<'a>(
        &mut self,
        deadline: Deadline,
        left: impl Iterator<Item = &'a PodView>,
        now: Instant,
    ) {
        if self.deadline == Some(deadline) {
            return;
        }
        let same = self.deadline.is_some_and(|known| known.wall == deadline.wall);
        self.deadline = Some(deadline);
        self.limit = self.end().map(|end| self.with_margin(end));
        self.call_by = Some(self.with_margin(deadline.instant));
        let shares = self.policy.shares.as_slice();
        let Some(limit) = self.limit.filter(|_| !shares.is_empty()) else { return };
        self.windows = Some(match self.windows.take() {
            Some(known) if same => Windows::new(shares, known.occupied, known.since, limit),
            known => {
                let mut occupied = vec![false; shares.len()];
                for view in left {
                    if let Some(occupied) = occupied.get_mut(share_of(shares, view.priority)) {
                        *occupied = true;
                    }
                }
                let mut windows = Windows::new(shares, occupied, now, limit);
                if let Some(known) = known {
                    windows.clamp(&known);
                }
                windows
            }
        });
    }

    /// There is no deadline any more.
    pub(super) fn drop_deadline(&mut self) {
        (self.deadline, self.limit, self.call_by, self.windows) = (None, None, None, None);
    }

    /// When the power goes.
    pub(super) fn end(&self) -> Option<Instant> {
        self.deadline.map(|deadline| deadline.instant + self.policy.shutdown_tail)
    }

    fn with_margin(&self, at: Instant) -> Instant {
        at.checked_sub(self.policy.safety_margin).unwrap_or(at)
    }

    /// Pods of a lower class go before those of a higher one.
    pub(super) fn class(&self, view: &PodView) -> usize {
        if self.policy.shares.is_empty() {
            usize::from(view.serves_others())
        } else {
            share_of(&self.policy.shares, view.priority)
        }
    }

    /// What holds for this pod now.
    pub(super) fn terms(&self, view: &PodView, now: Instant) -> Terms {
        let limit = self.window(view, now).map(|window| window.ends).or(self.limit);
        let latest = limit.map(|limit| grace::latest_start(view.grace, limit));
        Terms {
            limit,
            end_by: self.limit,
            latest: latest.map(|latest| self.call_by.map_or(latest, |call_by| latest.min(call_by))),
            ready: self.ready,
            on_blocked: self.policy.on_blocked,
        }
    }

    fn window(&self, view: &PodView, now: Instant) -> Option<Window> {
        self.windows.as_ref()?.window(share_of(&self.policy.shares, view.priority), now)
    }

    /// When the window of a pod opens whether or not others are left, at the latest when every call must have been made.
    pub(super) fn window_opens(&self, view: &PodView, now: Instant) -> Option<Instant> {
        let opens = self.window(view, now)?.opens;
        Some(self.call_by.map_or(opens, |call_by| opens.min(call_by)))
    }

    pub(super) fn has_shares(&self) -> bool {
        !self.policy.shares.is_empty()
    }

    /// How long a pod has to wait for others at most.
    pub(super) fn order(&self, view: &PodView, terms: Terms, now: Instant) -> Opening {
        if self.has_shares() {
            return self.window_opens(view, now).map_or(Opening::Shut, Opening::At);
        }
        terms.latest.map_or(Opening::Shut, |latest| Opening::At(latest.checked_sub(HEAD_START).unwrap_or(latest)))
    }
}

/// The share of a priority: the highest that does not exceed it, or the lowest of all.
fn share_of(shares: &[PriorityShare], priority: i32) -> usize {
    shares.iter().rposition(|share| share.priority <= priority).unwrap_or(0)
}
